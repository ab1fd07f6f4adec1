//! Values with PostgreSQL's meaning: their types, their bytes in COPY, and arithmetic with dates.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One value of a row. `Null` is last, so that the derived order is PostgreSQL's `ASC NULLS LAST`;
/// text is ordered by its bytes, as under COLLATE "C".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Value {
    /// `boolean`
    Bool(bool),
    /// `smallint`, `integer` and `bigint`: the width is a matter of the expression.
    Int(i64),
    /// `text`
    Text(Arc<str>),
    /// `date`: days since 2000-01-01.
    Date(i32),
    /// `timestamp`: microseconds since 2000-01-01 of a clock without a zone.
    Stamp(i64),
    /// `timestamptz`: microseconds since 2000-01-01 UTC.
    Instant(i64),
    /// `numeric` without digits behind the point; boxed, so that a value stays at 24 bytes.
    Numeric(Box<i128>),
    /// `interval`
    Interval(Box<Interval>),
    /// An array of one dimension that begins at 1.
    Array(Arc<[Value]>),
    /// No value.
    Null,
}

/// A row: one pointer and a length, so that a copy costs an increment.
pub type Row = Arc<[Value]>;

/// An `interval`, in the three parts that PostgreSQL adds one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// Months of the calendar.
    pub months: i32,
    /// Days of the calendar.
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

/// What PostgreSQL raises while it evaluates, and two limits of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Raised {
    /// A division or a rest by zero.
    DivisionByZero,
    /// A result that is no `smallint`.
    SmallintOutOfRange,
    /// A result that is no `integer`.
    IntegerOutOfRange,
    /// A result that is no `bigint`.
    BigintOutOfRange,
    /// A limit of ours: a `numeric` that needs more than 127 bits.
    NumericOutOfRange,
    /// A result that is no `date`.
    DateOutOfRange,
    /// A date that is too late for a `timestamp`.
    DateOutOfRangeForTimestamp,
    /// A result that is no `timestamp`.
    TimestampOutOfRange,
    /// A result that is no `interval`.
    IntervalOutOfRange,
    /// A pattern of LIKE whose last character escapes nothing.
    PatternEndsInEscape,
    /// A limit of ours: before the last change of the market zone's rule.
    ZoneRule,
    /// A value of another type than PostgreSQL said: a fault of ours.
    WrongType,
}

impl fmt::Display for Raised {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Raised::DivisionByZero => "division by zero",
            Raised::SmallintOutOfRange => "smallint out of range",
            Raised::IntegerOutOfRange => "integer out of range",
            Raised::BigintOutOfRange => "bigint out of range",
            Raised::NumericOutOfRange => "numeric beyond 127 bits",
            Raised::DateOutOfRange => "date out of range",
            Raised::DateOutOfRangeForTimestamp => "date out of range for timestamp",
            Raised::TimestampOutOfRange => "timestamp out of range",
            Raised::IntervalOutOfRange => "interval out of range",
            Raised::PatternEndsInEscape => "LIKE pattern must not end with escape character",
            Raised::ZoneRule => "a time before 1988-10-09, when the market's zone had other rules",
            Raised::WrongType => "a value of another type than PostgreSQL said",
        })
    }
}

impl std::error::Error for Raised {}

impl Value {
    /// A `text`.
    pub fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    /// A `numeric`.
    pub fn numeric(number: i128) -> Value {
        Value::Numeric(Box::new(number))
    }

    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Whether it is true, and not false or NULL.
    pub fn is_true(&self) -> bool {
        matches!(self, Value::Bool(true))
    }
}

/// The type of a column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Type {
    /// `boolean`
    Bool,
    /// `smallint`
    Small,
    /// `integer`
    Integer,
    /// `bigint`
    Bigint,
    /// `text`
    Text,
    /// `date`
    Date,
    /// `timestamp`
    Stamp,
    /// `timestamptz`
    Instant,
    /// `numeric`, whole numbers only
    Numeric,
    /// `interval`
    Interval,
    /// An array of these.
    Array(Box<Type>),
}

impl Type {
    /// The type of an object id in `pg_type`; none for types that views do not have. A `varchar` is
    /// a `text` in everything but its name.
    pub fn of(oid: u32) -> Option<Type> {
        let array = |of| Type::Array(Box::new(of));
        Some(match oid {
            16 => Type::Bool,
            21 => Type::Small,
            23 => Type::Integer,
            20 => Type::Bigint,
            25 | 1043 => Type::Text,
            1082 => Type::Date,
            1114 => Type::Stamp,
            1184 => Type::Instant,
            1700 => Type::Numeric,
            1186 => Type::Interval,
            1000 => array(Type::Bool),
            1005 => array(Type::Small),
            1007 => array(Type::Integer),
            1016 => array(Type::Bigint),
            1009 | 1015 => array(Type::Text),
            1182 => array(Type::Date),
            1115 => array(Type::Stamp),
            1185 => array(Type::Instant),
            1231 => array(Type::Numeric),
            _ => return None,
        })
    }

    /// As it is written in SQL.
    pub fn sql(&self) -> String {
        match self {
            Type::Bool => "boolean".into(),
            Type::Small => "smallint".into(),
            Type::Integer => "integer".into(),
            Type::Bigint => "bigint".into(),
            Type::Text => "text".into(),
            Type::Date => "date".into(),
            Type::Stamp => "timestamp without time zone".into(),
            Type::Instant => "timestamp with time zone".into(),
            Type::Numeric => "numeric".into(),
            Type::Interval => "interval".into(),
            Type::Array(of) => format!("{}[]", of.sql()),
        }
    }

    /// Its object id, which the bytes of an array name.
    fn oid(&self) -> u32 {
        match self {
            Type::Bool => 16,
            Type::Small => 21,
            Type::Integer => 23,
            Type::Bigint => 20,
            Type::Text => 25,
            Type::Date => 1082,
            Type::Stamp => 1114,
            Type::Instant => 1184,
            Type::Numeric => 1700,
            Type::Interval => 1186,
            // There are no arrays of arrays in PostgreSQL.
            Type::Array(of) => of.oid(),
        }
    }
}

/// Takes a fixed number of bytes from the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

/// A value from the content of one field of a binary COPY (none for NULL). None for bytes that are
/// not of the type, and for what [`Value`] does not hold: fractions, infinity, arrays that do not
/// begin at 1.
pub fn decode(field: Option<&[u8]>, of: &Type) -> Option<Value> {
    let Some(mut bytes) = field else { return Some(Value::Null) };
    let bytes = &mut bytes;
    let value = match of {
        Type::Bool => Value::Bool(take::<1>(bytes)? != [0]),
        Type::Small => Value::Int(i16::from_be_bytes(take(bytes)?).into()),
        Type::Integer => Value::Int(i32::from_be_bytes(take(bytes)?).into()),
        Type::Bigint => Value::Int(i64::from_be_bytes(take(bytes)?)),
        Type::Text => Value::Text(std::str::from_utf8(std::mem::take(bytes)).ok()?.into()),
        Type::Date => Value::Date(valid_date(i32::from_be_bytes(take(bytes)?).into()).ok()?),
        Type::Stamp => Value::Stamp(valid(i64::from_be_bytes(take(bytes)?).into()).ok()?),
        Type::Instant => Value::Instant(valid(i64::from_be_bytes(take(bytes)?).into()).ok()?),
        Type::Numeric => {
            let [digits, weight, sign, scale] =
                [take(bytes)?, take(bytes)?, take(bytes)?, take(bytes)?].map(i16::from_be_bytes);
            let digits = (0..digits).map(|_| take(bytes).map(u16::from_be_bytes));
            let digits = digits.collect::<Option<Vec<_>>>()?;
            let negative = match sign {
                0 => false,
                0x4000 => true,
                _ => return None,
            };
            Value::numeric(whole(&digits, weight.into(), negative, scale.into())?)
        }
        Type::Interval => {
            let micros = i64::from_be_bytes(take(bytes)?);
            let [days, months] = [take(bytes)?, take(bytes)?].map(i32::from_be_bytes);
            Value::Interval(Box::new(Interval { months, days, micros }))
        }
        Type::Array(of) => {
            let [dimensions, _nulls, _element] =
                [take(bytes)?, take(bytes)?, take(bytes)?].map(i32::from_be_bytes);
            if dimensions == 0 {
                return Some(Value::Array(Arc::new([])));
            }
            let [length, first] = [take(bytes)?, take(bytes)?].map(i32::from_be_bytes);
            if dimensions != 1 || first != 1 {
                return None;
            }
            let mut element = || {
                let length = i32::from_be_bytes(take(bytes)?);
                let Ok(length) = usize::try_from(length) else { return decode(None, of) };
                let (content, rest) = bytes.split_at_checked(length)?;
                *bytes = rest;
                decode(Some(content), of)
            };
            Value::Array((0..length).map(|_| element()).collect::<Option<_>>()?)
        }
    };
    bytes.is_empty().then_some(value)
}

/// A whole number from its digits to the base 10,000; none with digits behind the point, even
/// zeros, because PostgreSQL shows those.
pub(super) fn whole(digits: &[u16], weight: i64, negative: bool, scale: i64) -> Option<i128> {
    if scale != 0 || digits.len() as i64 > weight + 1 {
        return (digits.is_empty() && scale == 0).then_some(0);
    }
    let mut number = 0i128;
    for place in 0..=weight {
        let digit = digits.get(place as usize).copied().unwrap_or(0);
        // Negative, because there is one more of these.
        number = number.checked_mul(10_000)?.checked_sub(digit.into())?;
    }
    if negative { Some(number) } else { number.checked_neg() }
}

/// Appends a value as one field of a binary COPY: its length and its content, big-endian.
pub fn encode(value: &Value, of: &Type, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    match value {
        Value::Null => {
            bytes[start..].copy_from_slice(&(-1i32).to_be_bytes());
            return;
        }
        Value::Bool(flag) => bytes.push(u8::from(*flag)),
        Value::Int(int) => match of {
            Type::Small => bytes.extend_from_slice(&(*int as i16).to_be_bytes()),
            Type::Integer => bytes.extend_from_slice(&(*int as i32).to_be_bytes()),
            _ => bytes.extend_from_slice(&int.to_be_bytes()),
        },
        Value::Text(text) => bytes.extend_from_slice(text.as_bytes()),
        Value::Date(day) => bytes.extend_from_slice(&day.to_be_bytes()),
        Value::Stamp(micros) | Value::Instant(micros) => {
            bytes.extend_from_slice(&micros.to_be_bytes());
        }
        Value::Numeric(number) => {
            let mut digits = Vec::new();
            let mut rest = number.unsigned_abs();
            while rest > 0 {
                digits.push((rest % 10_000) as u16);
                rest /= 10_000;
            }
            let weight = (digits.len() as i16 - 1).max(0);
            let zeros = digits.iter().take_while(|digit| **digit == 0).count();
            let digits = digits[zeros..].iter().rev();
            let sign = if **number < 0 { 0x4000 } else { 0 };
            for header in [digits.len() as i16, weight, sign, 0] {
                bytes.extend_from_slice(&header.to_be_bytes());
            }
            for digit in digits {
                bytes.extend_from_slice(&digit.to_be_bytes());
            }
        }
        Value::Interval(interval) => {
            bytes.extend_from_slice(&interval.micros.to_be_bytes());
            bytes.extend_from_slice(&interval.days.to_be_bytes());
            bytes.extend_from_slice(&interval.months.to_be_bytes());
        }
        Value::Array(items) => {
            let of = if let Type::Array(of) = of { of } else { of };
            let nulls = i32::from(items.iter().any(Value::is_null));
            for header in [i32::from(!items.is_empty()), nulls, of.oid() as i32] {
                bytes.extend_from_slice(&header.to_be_bytes());
            }
            if !items.is_empty() {
                for header in [items.len() as i32, 1] {
                    bytes.extend_from_slice(&header.to_be_bytes());
                }
            }
            for item in items.iter() {
                encode(item, of, bytes);
            }
        }
    }
    let length = (bytes.len() - start - 4) as i32;
    bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Microseconds of a day.
pub const DAY: i64 = 86_400_000_000;

/// The first day that PostgreSQL has, 4714-11-24 BC, and the first that is too late for a `date`
/// and for a `timestamp`.
const FIRST_DAY: i64 = -2_451_545;
const END_OF_DATES: i64 = 2_145_031_949;
const END_OF_STAMPS: i64 = 106_751_983;

/// A time, if PostgreSQL has it.
pub(super) fn valid(micros: i128) -> Result<i64, Raised> {
    let range = FIRST_DAY * DAY..END_OF_STAMPS * DAY;
    let micros = i64::try_from(micros).map_err(|_| Raised::TimestampOutOfRange)?;
    if range.contains(&micros) { Ok(micros) } else { Err(Raised::TimestampOutOfRange) }
}

/// A date, if PostgreSQL has it.
pub(super) fn valid_date(day: i64) -> Result<i32, Raised> {
    let valid = (FIRST_DAY..END_OF_DATES).contains(&day);
    if valid { Ok(day as i32) } else { Err(Raised::DateOutOfRange) }
}

/// The first moment of a date.
pub(super) fn midnight(day: i32) -> Result<i64, Raised> {
    let day = i64::from(day);
    if day < END_OF_STAMPS { Ok(day * DAY) } else { Err(Raised::DateOutOfRangeForTimestamp) }
}

/// Days since 2000-01-01 of a date of the Gregorian calendar; the year before 1 is 0.
pub fn day_of(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + of_year - 730_425
}

/// Year, month and day of a day since 2000-01-01.
pub fn calendar(day: i64) -> (i64, i64, i64) {
    let day = day + 730_425;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    let next = if month == 12 { day_of(year + 1, 1, 1) } else { day_of(year, month + 1, 1) };
    next - day_of(year, month, 1)
}

impl Interval {
    /// The opposite.
    pub fn negated(self) -> Result<Interval, Raised> {
        let Interval { months, days, micros } = self;
        let parts = (months.checked_neg(), days.checked_neg(), micros.checked_neg());
        let (Some(months), Some(days), Some(micros)) = parts else {
            return Err(Raised::IntervalOutOfRange);
        };
        Ok(Interval { months, days, micros })
    }

    /// By which PostgreSQL compares intervals: microseconds, with months of 30 days of 24 hours.
    pub fn span(self) -> i128 {
        let days = i128::from(self.months) * 30 + i128::from(self.days);
        days * i128::from(DAY) + i128::from(self.micros)
    }
}

/// A time moved by an interval: first months, with the day kept within its month, then days, then
/// the rest.
pub fn shift(stamp: i64, by: Interval) -> Result<i64, Raised> {
    let (mut day, time) = (stamp.div_euclid(DAY), stamp.rem_euclid(DAY));
    let at = |day: i64| valid(i128::from(day) * i128::from(DAY) + i128::from(time));
    if by.months != 0 {
        let (year, month, of_month) = calendar(day);
        let months = year * 12 + (month - 1) + i64::from(by.months);
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        day = day_of(year, month, of_month.min(days_of_month(year, month)));
        at(day)?;
    }
    let stamp = at(day + i64::from(by.days))?;
    valid(i128::from(stamp) + i128::from(by.micros))
}

/// What `date_trunc` cuts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Unit {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Unit {
    /// The unit of a name.
    pub fn named(name: &str) -> Option<Unit> {
        Some(match name.to_ascii_lowercase().as_str() {
            "microseconds" => Unit::Microseconds,
            "milliseconds" => Unit::Milliseconds,
            "second" => Unit::Second,
            "minute" => Unit::Minute,
            "hour" => Unit::Hour,
            "day" => Unit::Day,
            "week" => Unit::Week,
            "month" => Unit::Month,
            "quarter" => Unit::Quarter,
            "year" => Unit::Year,
            _ => return None,
        })
    }

    /// The beginning of the unit in which a time lies: `date_trunc`.
    pub fn floor(self, stamp: i64) -> Result<i64, Raised> {
        let day = stamp.div_euclid(DAY);
        let (year, month, _) = calendar(day);
        let micros = match self {
            Unit::Microseconds => 1,
            Unit::Milliseconds => 1_000,
            Unit::Second => 1_000_000,
            Unit::Minute => 60_000_000,
            Unit::Hour => 3_600_000_000,
            Unit::Day => DAY,
            Unit::Week => return valid(i128::from(monday(day)) * i128::from(DAY)),
            Unit::Month => return valid(i128::from(day_of(year, month, 1)) * i128::from(DAY)),
            Unit::Quarter => {
                let first = (month - 1) / 3 * 3 + 1;
                return valid(i128::from(day_of(year, first, 1)) * i128::from(DAY));
            }
            Unit::Year => return valid(i128::from(day_of(year, 1, 1)) * i128::from(DAY)),
        };
        valid(i128::from(stamp) - i128::from(stamp.rem_euclid(micros)))
    }
}

/// The Monday on or before a day; 2000-01-01 was a Saturday.
fn monday(day: i64) -> i64 {
    day - (day + 5).rem_euclid(7)
}

/// The fields of a time that are whole numbers, which `extract` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Field {
    Year,
    Isoyear,
    Quarter,
    Month,
    Week,
    Day,
    Dow,
    Isodow,
    Doy,
    Hour,
    Minute,
}

impl Field {
    /// The field of a name.
    pub fn named(name: &str) -> Option<Field> {
        Some(match name.to_ascii_lowercase().as_str() {
            "year" => Field::Year,
            "isoyear" => Field::Isoyear,
            "quarter" => Field::Quarter,
            "month" => Field::Month,
            "week" => Field::Week,
            "day" => Field::Day,
            "dow" => Field::Dow,
            "isodow" => Field::Isodow,
            "doy" => Field::Doy,
            "hour" => Field::Hour,
            "minute" => Field::Minute,
            _ => return None,
        })
    }

    /// Whether dates have it, too.
    pub fn is_of_dates(self) -> bool {
        !matches!(self, Field::Hour | Field::Minute)
    }

    /// Its number.
    pub fn of(self, stamp: i64) -> i64 {
        let (day, time) = (stamp.div_euclid(DAY), stamp.rem_euclid(DAY));
        let (year, month, of_month) = calendar(day);
        // A week belongs to the year of its Thursday.
        let thursday = monday(day) + 3;
        let year_of_week = calendar(thursday).0;
        // There is no year 0: 1 BC is before 1.
        let shown = |year: i64| if year > 0 { year } else { year - 1 };
        match self {
            Field::Year => shown(year),
            Field::Isoyear => shown(year_of_week),
            Field::Quarter => (month - 1) / 3 + 1,
            Field::Month => month,
            Field::Week => (thursday - day_of(year_of_week, 1, 1)) / 7 + 1,
            Field::Day => of_month,
            Field::Dow => (day + 6).rem_euclid(7),
            Field::Isodow => (day + 5).rem_euclid(7) + 1,
            Field::Doy => day - day_of(year, 1, 1) + 1,
            Field::Hour => time / 3_600_000_000,
            Field::Minute => time / 60_000_000 % 60,
        }
    }
}

/// The beginning of the bin in which a time lies: `date_bin`.
pub fn bin(stamp: i64, stride: i64, origin: i64) -> Result<i64, Raised> {
    let since = stamp.checked_sub(origin).ok_or(Raised::IntervalOutOfRange)?;
    let rest = since.checked_rem_euclid(stride).ok_or(Raised::IntervalOutOfRange)?;
    valid(i128::from(stamp) - i128::from(rest))
}

/// The market's zone, Asia/Seoul: nine hours before UTC, without a change since 9 October 1988.
pub const ZONE: &str = "Asia/Seoul";
pub(super) const ZONE_AHEAD: i64 = 9 * 3_600_000_000;
/// From when on: 1988-10-08 17:00 UTC.
pub(super) const ZONE_SINCE: i64 = -354_200_400_000_000;

/// What the clocks of the market's zone show at an instant.
pub fn local(instant: i64) -> Result<i64, Raised> {
    if instant < ZONE_SINCE { Err(Raised::ZoneRule) } else { valid((instant + ZONE_AHEAD).into()) }
}

/// When the clocks of the market's zone show this.
pub fn instant(local: i64) -> Result<i64, Raised> {
    let instant = i128::from(local) - i128::from(ZONE_AHEAD);
    if instant < i128::from(ZONE_SINCE) { Err(Raised::ZoneRule) } else { valid(instant) }
}

/// Whether a text is like a pattern, in which `%` stands for any characters, `_` for one, and what
/// follows `\` for itself. A pattern that ends in `\` raises where PostgreSQL comes that far.
pub fn like(text: &str, pattern: &str) -> Result<bool, Raised> {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let next = |at: usize| {
        let more = text[at + 1..].iter().take_while(|byte| **byte & 0xC0 == 0x80).count();
        at + 1 + more
    };
    let (mut at, mut place) = (0, 0);
    // Behind the last `%`: where the pattern goes on, and where in the text that was tried last. An
    // earlier `%` need not take more, because the last one can.
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() {
        let matched = match pattern.get(place) {
            Some(b'%') => {
                while let Some(wild @ (b'%' | b'_')) = pattern.get(place) {
                    if *wild == b'_' {
                        if at >= text.len() {
                            return Ok(false);
                        }
                        at = next(at);
                    }
                    place += 1;
                }
                match pattern[place..] {
                    [] => return Ok(true),
                    [b'\\'] => return Err(Raised::PatternEndsInEscape),
                    _ => retry = Some((place, at)),
                }
                continue;
            }
            Some(b'_') => {
                (at, place) = (next(at), place + 1);
                true
            }
            Some(b'\\') => {
                let escaped = pattern.get(place + 1).ok_or(Raised::PatternEndsInEscape)?;
                let same = *escaped == text[at];
                (at, place) = (at + 1, place + 2);
                same
            }
            Some(byte) => {
                let same = *byte == text[at];
                (at, place) = (at + 1, place + 1);
                same
            }
            None => false,
        };
        if !matched {
            let Some((goes_on, tried)) = &mut retry else { return Ok(false) };
            *tried = next(*tried);
            (at, place) = (*tried, *goes_on);
        }
    }
    Ok(pattern[place..].iter().all(|byte| *byte == b'%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_three_words() {
        assert_eq!(size_of::<Value>(), 24);
    }

    #[test]
    fn fields_read_back_what_was_encoded() {
        let numbers = [0, 1, -1, 9_999, 10_000, -120_000, i128::MAX, i128::MIN];
        let numerics = numbers.map(|number| (Value::numeric(number), Type::Numeric));
        let list = |items: &[Value]| Value::Array(items.into());
        let bigints = Type::Array(Box::new(Type::Bigint));
        let texts = Type::Array(Box::new(Type::Text));
        let interval = Interval { months: -1, days: 2, micros: 3 };
        let others = [
            (Value::Null, Type::Text),
            (Value::Bool(true), Type::Bool),
            (Value::Int(-2), Type::Small),
            (Value::Int(-3), Type::Integer),
            (Value::Int(i64::MIN), Type::Bigint),
            (Value::text("한국"), Type::Text),
            (Value::Date(-1), Type::Date),
            (Value::Stamp(5), Type::Stamp),
            (Value::Instant(-5), Type::Instant),
            (Value::Interval(Box::new(interval)), Type::Interval),
            (list(&[]), bigints.clone()),
            (list(&[Value::Int(1), Value::Null]), bigints),
            (list(&[Value::text(""), Value::text("b")]), texts),
        ];
        for (value, of) in numerics.into_iter().chain(others) {
            let mut bytes = Vec::new();
            encode(&value, &of, &mut bytes);
            let field = (!value.is_null()).then_some(&bytes[4..]);
            assert_eq!(decode(field, &of), Some(value));
        }
        assert_eq!(decode(Some(&[0, 0, 0]), &Type::Bigint), None);
        assert_eq!(decode(Some(&i64::MAX.to_be_bytes()), &Type::Instant), None);
    }

    #[test]
    fn months_keep_the_day_within_the_month() {
        let month = Interval { months: 1, days: 0, micros: 0 };
        let at = |year, month, day| day_of(year, month, day) * DAY;
        assert_eq!(shift(at(2026, 1, 31), month), Ok(at(2026, 2, 28)));
        assert_eq!(shift(at(2028, 1, 30), month), Ok(at(2028, 2, 29)));
        assert_eq!(calendar(day_of(-4713, 11, 24)), (-4713, 11, 24));
    }

    #[test]
    fn patterns_are_matched_by_characters() {
        for (text, pattern, is) in [
            ("국", "_", true),
            ("한국", "_", false),
            ("aXbXc", "a%X_", true),
            ("abab", "%ab", true),
            ("S_x", "S\\_%", true),
            ("Sab", "S\\_%", false),
            ("", "%", true),
            ("", "\\", false),
            ("a", "a\\", false),
        ] {
            assert_eq!(like(text, pattern), Ok(is), "{text} LIKE {pattern}");
        }
        assert_eq!(like("ab", "a\\"), Err(Raised::PatternEndsInEscape));
        assert_eq!(like("ab", "%\\"), Err(Raised::PatternEndsInEscape));
    }
}
