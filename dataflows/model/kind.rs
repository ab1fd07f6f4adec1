//! The kinds of fields: how the values of each are written and read, as JSON and in a column, and which
//! are in range. What passes here keeps the rules of the contract, so nothing behind it checks again.
//!
//! Fields are read by visitors of their own, not by derived ones, because a derived struct also takes
//! an array, a derived enum also takes an object, and neither says which field was wrong.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use chrono::NaiveDate;
use serde::de::{DeserializeSeed, Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

use super::record::{As, Element, Json, Kind, Of, Packed, put_array};
use super::time::{TIME_END, TIME_MIN, date_of, day_of_date};
use super::{Category, Choice, Day, Krw, Millis, Strength, Word, shared};
use crate::row::{self, Cell};

/// The longest word that is a key of a table, in bytes: an index row of PostgreSQL holds several.
const KEY_BYTES_MAX: usize = 200;

/// A whole number from `MIN` to `MAX`, as what it says.
pub struct Whole<T, const MIN: i64, const MAX: i64>(PhantomData<T>);

/// The name of a customer, a product or an order.
pub type Id<T> = Whole<T, 0, { i64::MAX }>;
/// The price of a piece.
pub type Price = Whole<Krw, 0, 1_000_000_000>;
/// Pieces in a line.
pub type Quantity = Whole<i64, 1, 1_000_000>;
/// Pieces in stock.
pub type Stock = Whole<i64, 0, { i64::MAX }>;

/// Reads a whole number from `MIN` to `MAX`.
struct Between<const MIN: i64, const MAX: i64>;

impl<const MIN: i64, const MAX: i64> Visitor<'_> for Between<MIN, MAX> {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<i64, E> {
        if (MIN..=MAX).contains(&number) {
            Ok(number)
        } else {
            Err(E::invalid_value(Unexpected::Signed(number), &self))
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<i64, E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }
}

impl<T: Copy + From<i64> + Into<i64>, const MIN: i64, const MAX: i64> Kind for Whole<T, MIN, MAX> {
    type Value = T;
    const TYPE: i32 = 20;

    #[inline]
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        from.deserialize_i64(Between::<MIN, MAX>).map(T::from)
    }

    #[inline]
    fn write<S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64((*value).into())
    }

    fn put(value: &T, row: &mut Vec<u8>) {
        Cell::Int((*value).into()).encode(row);
    }

    fn take(row: &mut row::Fields<'_>) -> Result<T, String> {
        Ok(row.int().into())
    }
}

impl<T: Copy + From<i64> + Into<i64>, const MIN: i64, const MAX: i64> Packed
    for Whole<T, MIN, MAX>
{
    fn pack(value: &T, text: &mut Vec<u8>) {
        let number: i64 = (*value).into();
        if number < 0 {
            text.push(b'-');
        }
        // The digits from behind; of a u64 there are at most 20.
        let (mut digits, mut first, mut rest) = ([0; 20], 20, number.unsigned_abs());
        while first == 20 || rest > 0 {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        text.extend_from_slice(&digits[first..]);
    }

    fn unpack(text: &str) -> Result<T, String> {
        let number = text.parse::<i64>();
        number.map(T::from).map_err(|_| format!("{text:?} instead of a whole number"))
    }
}

/// A time in milliseconds since 1970, from 1990 to before 2100.
pub struct Instant;

impl Kind for Instant {
    type Value = Millis;
    const TYPE: i32 = 1184;

    #[inline]
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Millis, D::Error> {
        from.deserialize_i64(Between::<TIME_MIN, { TIME_END - 1 }>)
    }

    #[inline]
    fn write<S: Serializer>(value: &Millis, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(*value)
    }

    fn put(value: &Millis, row: &mut Vec<u8>) {
        Cell::Instant(*value).encode(row);
    }

    fn take(row: &mut row::Fields<'_>) -> Result<Millis, String> {
        Ok(row.instant())
    }
}

/// A date "YYYY-MM-DD" that exists, 1900 to 2099.
pub struct Date;

impl Date {
    fn of_text(text: &str) -> Option<Day> {
        // chrono alone would also take signs, blanks and missing zeros.
        let form = text.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        if text.len() != 10 || !form {
            return None;
        }
        let year = text[..4].parse().ok().filter(|year| (1900..2100).contains(year))?;
        NaiveDate::from_ymd_opt(year, text[5..7].parse().ok()?, text[8..].parse().ok()?)
            .map(day_of_date)
    }
}

impl Kind for Date {
    type Value = Day;
    const TYPE: i32 = 1082;

    #[inline]
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Day, D::Error> {
        let expecting = "a date \"YYYY-MM-DD\" that exists, 1900 to 2099";
        from.deserialize_str(TextVisitor { expecting, make: Date::of_text })
    }

    #[inline]
    fn write<S: Serializer>(value: &Day, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&date_of(*value))
    }

    fn put(value: &Day, row: &mut Vec<u8>) {
        Cell::Date(*value).encode(row);
    }

    fn take(row: &mut row::Fields<'_>) -> Result<Day, String> {
        Ok(row.date())
    }
}

/// A text that others hardly repeat, without U+0000, which PostgreSQL cannot store.
pub struct Text;

/// A text that many records repeat: equal ones share their memory.
pub struct Label;

/// A text that many records repeat, and a key of tables: of at most 200 bytes.
pub struct Key;

/// Reads a text and makes something of it.
struct Plain<T>(fn(&str) -> Result<T, &'static str>);

impl<'de, T> Visitor<'de> for Plain<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text without U+0000")
    }

    // What needed no unescaping holds no control character.
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        if text.contains('\0') {
            return Err(E::invalid_value(Unexpected::Str(text), &self));
        }
        (self.0)(text).map_err(E::custom)
    }
}

/// What lines are sold under: a key of tables, as [`Key`] is.
pub struct CategoryOf;

/// What the kinds of texts differ in: what becomes of the text that was read.
macro_rules! text {
    ($kind:ident, $value:ty, $read:expr, $taken:expr) => {
        impl Kind for $kind {
            type Value = $value;
            const TYPE: i32 = 25;

            #[inline]
            fn read<'de, D: Deserializer<'de>>(from: D) -> Result<$value, D::Error> {
                from.deserialize_str(Plain($read))
            }

            #[inline]
            fn write<S: Serializer>(value: &$value, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(value)
            }

            fn put(value: &$value, row: &mut Vec<u8>) {
                Cell::Text(value).encode(row);
            }

            fn take(row: &mut row::Fields<'_>) -> Result<$value, String> {
                Ok($taken(row.text()))
            }
        }
    };
}

/// Makes something of a text that is short enough for a key.
fn key<T>(text: &str, make: impl Fn(&str) -> T) -> Result<T, &'static str> {
    if text.len() > KEY_BYTES_MAX { Err("longer than 200 bytes") } else { Ok(make(text)) }
}

text!(Text, Word, |text| Ok(text.into()), Word::from);
text!(Label, Word, |text| Ok(shared(text)), shared);
text!(Key, Word, |text| key(text, shared), shared);
text!(CategoryOf, Category, |text| key(text, |text| Category::from(text)), Category::from);

/// What stands before the letter for a character that a packed word must not have.
const ESCAPE: char = '\u{1}';

/// These characters, and the letters. Nothing at all is an `e`.
const ESCAPED: [(char, char); 3] = [(ESCAPE, 'x'), (',', 'c'), ('|', 'p')];
const EMPTY: char = 'e';

impl Packed for CategoryOf {
    fn pack(word: &Category, text: &mut Vec<u8>) {
        let escaped = |c: char| ESCAPED.iter().find(|(escaped, _)| *escaped == c);
        if word.is_empty() {
            text.extend([ESCAPE, EMPTY].map(|c| c as u8));
        } else if word.contains(|c| escaped(c).is_some()) {
            let mut buffer = [0; 4];
            for c in word.chars() {
                match escaped(c) {
                    Some((_, letter)) => text.extend([ESCAPE, *letter].map(|c| c as u8)),
                    None => text.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes()),
                }
            }
        } else {
            text.extend_from_slice(word.as_bytes());
        }
    }

    fn unpack(text: &str) -> Result<Category, String> {
        if text.is_empty() {
            return Err("nothing instead of a word".to_owned());
        }
        if !text.contains(ESCAPE) {
            return Ok(Category::from(text));
        }
        let (mut word, mut rest) = (String::new(), text.chars());
        while let Some(c) = rest.next() {
            if c != ESCAPE {
                word.push(c);
                continue;
            }
            let letter = rest.next();
            match ESCAPED.iter().find(|(_, it)| Some(*it) == letter) {
                Some((escaped, _)) => word.push(*escaped),
                None if letter == Some(EMPTY) => {}
                None => return Err(format!("{text:?} instead of a word")),
            }
        }
        Ok(Category::from(&*word))
    }
}

/// true or false.
pub struct Flag;

impl Kind for Flag {
    type Value = bool;
    const TYPE: i32 = 16;

    #[inline]
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        bool::deserialize(from)
    }

    #[inline]
    fn write<S: Serializer>(value: &bool, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bool(*value)
    }

    fn put(value: &bool, row: &mut Vec<u8>) {
        Cell::Flag(*value).encode(row);
    }

    fn take(row: &mut row::Fields<'_>) -> Result<bool, String> {
        Ok(row.flag())
    }
}

/// One of a fixed list of words.
pub struct OneOf<T>(PhantomData<T>);

impl<T: Choice> Kind for OneOf<T> {
    type Value = T;
    const TYPE: i32 = 25;

    #[inline]
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        from.deserialize_str(TextVisitor { expecting: T::EXPECTED, make: T::of_word })
    }

    #[inline]
    fn write<S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.word())
    }

    fn put(value: &T, row: &mut Vec<u8>) {
        Cell::Text(value.word()).encode(row);
    }

    fn take(row: &mut row::Fields<'_>) -> Result<T, String> {
        let word = row.text();
        T::of_word(word).ok_or_else(|| format!("the word {word:?} instead of {}", T::EXPECTED))
    }
}

/// The same, whose column has the word's number.
pub struct Numbered<T>(PhantomData<T>);

impl<T: Choice> Kind for Numbered<T> {
    type Value = T;
    const TYPE: i32 = 21;

    #[inline]
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        OneOf::<T>::read(from)
    }

    #[inline]
    fn write<S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        OneOf::<T>::write(value, to)
    }

    fn put(value: &T, row: &mut Vec<u8>) {
        Cell::Small(value.number()).encode(row);
    }

    fn take(row: &mut row::Fields<'_>) -> Result<T, String> {
        let number = row.small();
        T::of_number(number)
            .ok_or_else(|| format!("the number {number} instead of that of {}", T::EXPECTED))
    }
}

/// Asks for a text and makes something of it.
struct TextVisitor<T> {
    expecting: &'static str,
    make: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.make)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A finite number above zero.
pub struct Positive;

impl Kind for Positive {
    type Value = Strength;
    const TYPE: i32 = 701;

    #[inline]
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Strength, D::Error> {
        let number = f64::deserialize(from)?;
        Strength::new(number).ok_or_else(|| {
            D::Error::invalid_value(Unexpected::Float(number), &"a finite number above 0")
        })
    }

    #[inline]
    fn write<S: Serializer>(value: &Strength, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.get())
    }

    fn put(value: &Strength, row: &mut Vec<u8>) {
        Cell::Real(value.get()).encode(row);
    }

    fn take(row: &mut row::Fields<'_>) -> Result<Strength, String> {
        let number = row.real();
        Strength::new(number).ok_or_else(|| format!("the strength {number}"))
    }
}

/// A list of values of a kind, in one column.
pub struct ListOf<K>(PhantomData<K>);

impl<K: Kind> Kind for ListOf<K> {
    type Value = Vec<K::Value>;
    const TYPE: i32 = K::TYPE;

    #[inline]
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<K::Value>, D::Error> {
        from.deserialize_seq(List(Of::<K>(PhantomData)))
    }

    #[inline]
    fn write<S: Serializer>(value: &Vec<K::Value>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.iter().map(As::<K>))
    }

    fn put(value: &Vec<K::Value>, row: &mut Vec<u8>) {
        put_array::<K>(value.iter(), row);
    }

    fn take(row: &mut row::Fields<'_>) -> Result<Vec<K::Value>, String> {
        let (length, mut elements) = row.elements();
        (0..length).map(|_| K::take(&mut elements)).collect()
    }
}

/// A list of objects, in one column.
pub struct Rows<T>(PhantomData<T>);

impl<T: Element> Kind for Rows<T> {
    type Value = Arc<[T]>;
    const TYPE: i32 = 25;

    #[inline]
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[T]>, D::Error> {
        from.deserialize_seq(List(PhantomData::<Json<T>>))
            .map(|list| list.into_iter().map(|Json(it)| it).collect())
    }

    #[inline]
    fn write<S: Serializer>(value: &Arc<[T]>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.iter().map(Json))
    }

    fn put(value: &Arc<[T]>, row: &mut Vec<u8>) {
        T::put_all(value, row);
    }

    fn take(row: &mut row::Fields<'_>) -> Result<Arc<[T]>, String> {
        T::take_all(row)
    }
}

/// Reads a list by a seed for each element; an error names the element, counted from 1.
struct List<S>(S);

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for List<S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<S::Value>, A::Error> {
        let mut elements = Vec::with_capacity(4);
        loop {
            match list.next_element_seed(self.0) {
                Ok(Some(element)) => elements.push(element),
                Ok(None) => return Ok(elements),
                Err(e) => {
                    let number = elements.len() + 1;
                    return Err(A::Error::custom(format_args!("number {number}: {e}")));
                }
            }
        }
    }
}
