//! How a record is described: its fields once, in the order of its ledger's columns, each with the
//! kind that says how its values are written, read and bounded. JSON in and out, and rows of the
//! ledger in and out, walk over that description.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::row::{self, Cell, array};

/// A struct whose fields are described.
pub trait Fields: Sized {
    /// How many fields its JSON object has.
    const COUNT: usize;

    /// Reads the fields of a JSON object: all of them, in any order, each once; others are ignored.
    /// An error names the field.
    fn read<'de, M: MapAccess<'de>>(object: M) -> Result<Self, M::Error>;

    /// Writes the fields of a JSON object.
    fn write<S: SerializeStruct>(&self, object: &mut S) -> Result<(), S::Error>;
}

/// A record of a topic, with an id: what stands in the topic's ledger.
pub trait Columns: Fields {
    /// Appends the columns behind `event_id`, partition and offset.
    fn put(&self, row: &mut Vec<u8>);

    /// Reads them back; an error says what no record has.
    fn take(event_id: u64, row: &mut row::Fields<'_>) -> Result<Self, String>;
}

/// Something whose list is one column: a text in which each field has a list of its values.
pub trait Element: Fields {
    /// Appends the column: the fields' lists with `|` between them, and `,` between the elements of each.
    fn put_all(all: &[Self], row: &mut Vec<u8>);

    /// Reads it back; an error says what no record has.
    fn take_all(row: &mut row::Fields<'_>) -> Result<Arc<[Self]>, String>;
}

/// A described struct as a JSON object.
pub(super) struct Json<T>(pub(super) T);

impl<'de, T: Fields> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);

        impl<'de, T: Fields> Visitor<'de> for Object<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<T, M::Error> {
                T::read(map)
            }
        }

        from.deserialize_map(Object(PhantomData)).map(Json)
    }
}

impl<T: Fields> Serialize for Json<&T> {
    #[inline]
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut object = to.serialize_struct("object", T::COUNT)?;
        self.0.write(&mut object)?;
        object.end()
    }
}

/// Reads a described struct from JSON; an error says why, with the field's name first where there is
/// one.
pub(super) fn from_json<T: Fields>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map(|Json(it)| it).map_err(|error| {
        let text = error.to_string();
        // A record is one line: the place would only be noise behind the field's name.
        let place = format!(" at line {} column {}", error.line(), error.column());
        match text.strip_suffix(&place) {
            Some(field) if field.starts_with('`') => field.to_owned(),
            _ => format!("not a JSON object: {text}"),
        }
    })
}

/// Appends a described struct as JSON.
pub(super) fn to_json<T: Fields>(fields: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &Json(fields)).expect("memory takes it, and every key is a text");
}

/// How the values of a field are written and read.
pub trait Kind {
    /// What the field holds.
    type Value;

    /// The column's type, or its elements' where it is an array: PostgreSQL's object id.
    const TYPE: i32;

    /// Reads a value from JSON; an error says what is expected.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self::Value, D::Error>;

    /// Writes a value as JSON.
    fn write<S: Serializer>(value: &Self::Value, to: S) -> Result<S::Ok, S::Error>;

    /// Appends the value's column.
    fn put(value: &Self::Value, row: &mut Vec<u8>);

    /// Reads the column back; an error says what no record has.
    fn take(row: &mut row::Fields<'_>) -> Result<Self::Value, String>;
}

/// A kind of whose values a text may have many: what is written of one has neither `,` nor `|`, and is not
/// empty.
pub trait Packed: Kind {
    /// Appends a value.
    fn pack(value: &Self::Value, text: &mut Vec<u8>);

    /// Reads it back; an error says what no record has.
    fn unpack(text: &str) -> Result<Self::Value, String>;
}

/// Appends the list of a field's values.
pub(super) fn pack_all<'v, K: Packed<Value: 'v>>(
    values: impl Iterator<Item = &'v K::Value>,
    text: &mut Vec<u8>,
) {
    for (place, value) in values.enumerate() {
        if place > 0 {
            text.push(b',');
        }
        K::pack(value, text);
    }
}

/// What is wrong with lists that are not as long as each other.
pub(super) const UNEQUAL: &str = "lists that do not fit each other";

/// The elements of each of so many lists; all have the same number.
pub(super) fn unpack_all<const LISTS: usize>(
    text: &str,
) -> Result<(usize, [std::str::Split<'_, char>; LISTS]), String> {
    let mut lists = [""; LISTS];
    let mut found = text.split('|');
    for list in &mut lists {
        *list = found.next().ok_or(UNEQUAL)?;
    }
    let count = |list: &str| if list.is_empty() { 0 } else { list.split(',').count() };
    let length = count(lists[0]);
    if found.next().is_some() || lists.iter().any(|list| count(list) != length) {
        return Err(UNEQUAL.to_owned());
    }
    Ok((length, lists.map(|list| list.split(','))))
}

/// Appends a column that has a value for each element of a list.
pub(super) fn put_array<'v, K: Kind<Value: 'v>>(
    values: impl ExactSizeIterator<Item = &'v K::Value>,
    row: &mut Vec<u8>,
) {
    array(row, K::TYPE, values, |value, row| K::put(value, row));
}

/// Any u64.
pub struct Number;

impl Kind for Number {
    type Value = u64;
    const TYPE: i32 = 1700;

    #[inline]
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        u64::deserialize(from)
    }

    #[inline]
    fn write<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(*value)
    }

    fn put(value: &u64, row: &mut Vec<u8>) {
        Cell::Unsigned(*value).encode(row);
    }

    fn take(row: &mut row::Fields<'_>) -> Result<u64, String> {
        Ok(row.unsigned())
    }
}

/// A value written as its kind says.
pub(super) struct As<'a, K: Kind>(pub(super) &'a K::Value);

impl<K: Kind> Serialize for As<'_, K> {
    #[inline]
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        K::write(self.0, to)
    }
}

/// Reads a value as its kind says.
pub(super) struct Of<K>(pub(super) PhantomData<K>);

impl<K> Clone for Of<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Of<K> {}

impl<'de, K: Kind> DeserializeSeed<'de> for Of<K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<K::Value, D::Error> {
        K::read(from)
    }
}

/// Reads the value of a field that was not there before.
pub(super) fn once<'de, K: Kind, M: MapAccess<'de>>(
    object: &mut M,
    field: &mut Option<K::Value>,
    name: &str,
) -> Result<(), M::Error> {
    if field.is_some() {
        return Err(M::Error::custom(format_args!("`{name}` is given twice")));
    }
    let value = object.next_value_seed(Of::<K>(PhantomData));
    *field = Some(value.map_err(|e| M::Error::custom(format_args!("`{name}`: {e}")))?);
    Ok(())
}

/// Passes over the value of a field that is none of a record's.
pub(super) fn ignore<'de, M: MapAccess<'de>>(object: &mut M) -> Result<(), M::Error> {
    object.next_value::<IgnoredAny>().map(|_| ())
}

#[cold]
pub(super) fn missing<E: Error>(name: &str) -> E {
    E::custom(format_args!("`{name}` is missing"))
}

/// Describes a struct's own fields and those of a struct in it, which are all in one JSON object:
/// `Outer { field as Kind, ... } inner: Inner { field as Kind, ... }`.
macro_rules! fields {
    (
        $outer:ident { $($own:ident as $own_kind:ty,)* }
        $($inner:ident: $Inner:ident { $($field:ident as $kind:ty,)* })?
    ) => {
        impl $crate::model::record::Fields for $outer {
            const COUNT: usize = [$(stringify!($own),)* $($(stringify!($field),)*)?].len();

            #[inline]
            fn read<'de, M: serde::de::MapAccess<'de>>(mut object: M) -> Result<Self, M::Error> {
                use $crate::model::record::{ignore, missing, once};

                #[derive(Deserialize)]
                #[serde(field_identifier)]
                #[expect(non_camel_case_types, reason = "a variant is the field's name")]
                enum Name {
                    $($own,)*
                    $($($field,)*)?
                    #[serde(other)]
                    unknown,
                }

                $(let mut $own = None;)*
                $($(let mut $field = None;)*)?
                while let Some(found) = object.next_key()? {
                    match found {
                        $(Name::$own => {
                            once::<$own_kind, M>(&mut object, &mut $own, stringify!($own))?;
                        })*
                        $($(Name::$field => {
                            once::<$kind, M>(&mut object, &mut $field, stringify!($field))?;
                        })*)?
                        Name::unknown => ignore(&mut object)?,
                    }
                }
                Ok($outer {
                    $($own: $own.ok_or_else(|| missing(stringify!($own)))?,)*
                    $($inner: $Inner {
                        $($field: $field.ok_or_else(|| missing(stringify!($field)))?,)*
                    },)?
                })
            }

            #[inline]
            fn write<S: serde::ser::SerializeStruct>(&self, object: &mut S) -> Result<(), S::Error> {
                use $crate::model::record::As;

                $(object.serialize_field(stringify!($own), &As::<$own_kind>(&self.$own))?;)*
                $($(object.serialize_field(
                    stringify!($field),
                    &As::<$kind>(&self.$inner.$field),
                )?;)*)?
                Ok(())
            }
        }
    };
}

/// Declares a record of a topic and describes its fields, of which `event_id` is always the first.
/// What it says of a customer, a product or an order is a struct in it.
macro_rules! record {
    (
        $(#[$about:meta])*
        $event:ident { $($(#[$about_own:meta])* $own:ident: $own_type:ty as $own_kind:ty,)* }
        $(
            $(#[$about_inner:meta])*
            $inner:ident: $(#[$about_Inner:meta])*
            $Inner:ident { $($(#[$about_field:meta])* $field:ident: $type:ty as $kind:ty,)* }
        )?
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $event {
            /// Unique in the topic.
            pub event_id: u64,
            $($(#[$about_own])* pub $own: $own_type,)*
            $($(#[$about_inner])* pub $inner: $Inner,)?
        }

        $(
            $(#[$about_Inner])*
            #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
            pub struct $Inner { $($(#[$about_field])* pub $field: $type,)* }
        )?

        fields! {
            $event { event_id as Number, $($own as $own_kind,)* }
            $($inner: $Inner { $($field as $kind,)* })?
        }

        impl $crate::model::record::Columns for $event {
            fn put(&self, row: &mut Vec<u8>) {
                use $crate::model::record::Kind;

                $(<$own_kind>::put(&self.$own, row);)*
                $($(<$kind>::put(&self.$inner.$field, row);)*)?
            }

            fn take(event_id: u64, row: &mut $crate::row::Fields<'_>) -> Result<Self, String> {
                use $crate::model::record::Kind;

                // Evaluated as they stand here: in the order of the columns.
                Ok($event {
                    event_id,
                    $($own: <$own_kind>::take(row)?,)*
                    $($inner: $Inner { $($field: <$kind>::take(row)?,)* },)?
                })
            }
        }
    };
}

/// Declares something of which a record has a list, and describes its fields.
macro_rules! element {
    (
        $(#[$about:meta])*
        $name:ident { $($(#[$about_field:meta])* $field:ident: $type:ty as $kind:ty,)* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name { $($(#[$about_field])* pub $field: $type,)* }

        fields! { $name { $($field as $kind,)* } }

        impl $crate::model::record::Element for $name {
            fn put_all(all: &[Self], row: &mut Vec<u8>) {
                use $crate::model::record::pack_all;

                $crate::row::text(row, |text| {
                    $(
                        pack_all::<$kind>(all.iter().map(|it| &it.$field), text);
                        text.push(b'|');
                    )*
                    text.pop();
                });
            }

            fn take_all(
                row: &mut $crate::row::Fields<'_>,
            ) -> Result<std::sync::Arc<[Self]>, String> {
                use $crate::model::record::{Packed, unpack_all};

                let (length, [$(mut $field),*]) = unpack_all(row.text())?;
                let all = (0..length).map(|_| {
                    Ok($name { $($field: <$kind>::unpack($field.next().unwrap_or_default())?,)* })
                });
                all.collect()
            }
        }
    };
}

pub(super) use {element, fields, record};
