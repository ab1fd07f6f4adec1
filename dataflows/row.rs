//! A row of a table as the store takes it: the fields' bytes in PostgreSQL's binary COPY format.
//!
//! Rows are encoded once, at a query's edge. From there on the engine and the sink move bytes and
//! know no query's types, so the whole program has one kind of row.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};

use crate::model::{Day, Millis};

/// What becomes of a key's row at a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fate {
    /// The key had none.
    New,
    /// It takes the place of another, which may have been the same.
    Changed,
    /// The key has none any more; only the row's key counts.
    Gone,
    /// It is in the store, from an earlier run.
    Stored,
}

/// A row of a table: the table's number, the key's fields and the other fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Row {
    /// Number of the table in [`Tables`](crate::analytics::Tables).
    pub table: u16,
    key: u32,
    bytes: Box<[u8]>,
}

/// One field of a row. The comment names the column's type.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    /// `bigint`
    Int(i64),
    /// `integer`
    Narrow(i32),
    /// `smallint`
    Small(i16),
    /// `timestamptz`
    Instant(Millis),
    /// `date`
    Date(Day),
    /// `text`
    Text(&'a str),
    /// `boolean`
    Flag(bool),
    /// `double precision`
    Real(f64),
    /// `numeric(20)`
    Unsigned(u64),
    /// `bytea`
    Bytes(&'a [u8]),
    /// no value
    Null,
}

thread_local! {
    /// Where rows are encoded: so that each is allocated once, as long as it is.
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Row {
    /// Encodes a row.
    pub fn new(table: u16, key: &[Cell<'_>], value: &[Cell<'_>]) -> Row {
        Row::written(table, key, |bytes| value.iter().for_each(|cell| cell.encode(bytes)))
    }

    /// A row whose fields behind the key are appended by a function.
    pub(crate) fn written(table: u16, key: &[Cell<'_>], value: impl FnOnce(&mut Vec<u8>)) -> Row {
        BYTES.with_borrow_mut(|bytes| {
            bytes.clear();
            for cell in key {
                cell.encode(bytes);
            }
            let key = bytes.len() as u32;
            value(bytes);
            Row { table, key, bytes: bytes.as_slice().into() }
        })
    }

    /// A row from the encoded fields of its key and of the others.
    pub fn of(table: u16, key: &[u8], value: &[u8]) -> Row {
        Row { table, key: key.len() as u32, bytes: [key, value].concat().into() }
    }

    /// The key columns, encoded. A ledger has none.
    pub fn key(&self) -> &[u8] {
        &self.bytes[..self.key as usize]
    }

    /// The other columns, encoded.
    pub fn value(&self) -> &[u8] {
        &self.bytes[self.key as usize..]
    }
}

/// Rows and what becomes of them, one behind the other in one piece of memory: so that what changes at a
/// cut is moved, sorted and freed by the batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RowBatch {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Where a row of a batch ends, and its key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    end: u32,
    key: u32,
    table: u16,
    fate: Fate,
}

/// A batch takes no more rows when it has so many bytes.
const BATCH: usize = 64 << 10;

impl RowBatch {
    /// Adds a row.
    pub fn push(&mut self, row: &Row, fate: Fate) {
        self.bytes.extend_from_slice(&row.bytes);
        let Row { table, key, .. } = *row;
        self.places.push(Place { end: self.bytes.len() as u32, key, table, fate });
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The batch, if it is full; an empty one with as much room takes its place.
    pub fn take_full(&mut self) -> Option<RowBatch> {
        let room = || RowBatch {
            bytes: Vec::with_capacity(BATCH + BATCH / 16),
            places: Vec::with_capacity(self.places.len()),
        };
        (self.bytes.len() >= BATCH).then(room).map(|room| std::mem::replace(self, room))
    }

    /// One of them.
    pub fn get(&self, index: usize) -> RowRef<'_> {
        let start = index.checked_sub(1).map_or(0, |before| self.places[before].end);
        let Place { end, key, table, fate } = self.places[index];
        RowRef { table, fate, key, bytes: &self.bytes[start as usize..end as usize] }
    }

    /// All of them, as they came.
    pub fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// A row of a batch.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'b> {
    /// Number of the table.
    pub table: u16,
    /// What becomes of it.
    pub fate: Fate,
    key: u32,
    bytes: &'b [u8],
}

impl<'b> RowRef<'b> {
    /// All columns, encoded.
    pub fn fields(&self) -> &'b [u8] {
        self.bytes
    }

    /// The key columns, encoded. A ledger has none.
    pub fn key(&self) -> &'b [u8] {
        &self.bytes[..self.key as usize]
    }

    /// The other columns, encoded.
    pub fn value(&self) -> &'b [u8] {
        &self.bytes[self.key as usize..]
    }

    /// The row by itself.
    pub fn to_row(&self) -> Row {
        Row::of(self.table, self.key(), self.value())
    }
}

/// Milliseconds from 1970-01-01 to 2000-01-01, where PostgreSQL's clock starts.
const POSTGRES_EPOCH: Millis = 946_684_800_000;
/// The same in days.
const POSTGRES_DAY: Day = 10_957;

/// The fields' bytes: each its length and its content, big-endian.
pub fn encode(cells: &[Cell<'_>]) -> Box<[u8]> {
    Row::new(0, &[], cells).bytes
}

impl Cell<'_> {
    /// Appends the field's bytes.
    pub(crate) fn encode(self, bytes: &mut Vec<u8>) {
        match self {
            Cell::Int(int) => field(bytes, &int.to_be_bytes()),
            Cell::Narrow(int) => field(bytes, &int.to_be_bytes()),
            Cell::Small(int) => field(bytes, &int.to_be_bytes()),
            Cell::Instant(at) => field(bytes, &((at - POSTGRES_EPOCH) * 1_000).to_be_bytes()),
            Cell::Date(day) => field(bytes, &(day - POSTGRES_DAY).to_be_bytes()),
            Cell::Text(text) => field(bytes, text.as_bytes()),
            Cell::Flag(flag) => field(bytes, &[u8::from(flag)]),
            Cell::Real(real) => field(bytes, &real.to_be_bytes()),
            Cell::Unsigned(number) => unsigned(bytes, number),
            Cell::Bytes(content) => field(bytes, content),
            Cell::Null => bytes.extend_from_slice(&(-1i32).to_be_bytes()),
        }
    }
}

fn field(bytes: &mut Vec<u8>, content: &[u8]) {
    bytes.extend_from_slice(&(content.len() as i32).to_be_bytes());
    bytes.extend_from_slice(content);
}

/// A `numeric` without a fraction: its digits to the base 10,000, without trailing zeros.
fn unsigned(bytes: &mut Vec<u8>, number: u64) {
    let mut digits = [0u16; 5];
    let (mut rest, mut first) = (number, digits.len());
    while rest > 0 {
        first -= 1;
        digits[first] = (rest % 10_000) as u16;
        rest /= 10_000;
    }
    let digits = &digits[first..];
    let weight = digits.len() as i16 - 1;
    let kept = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
    bytes.extend_from_slice(&(8 + 2 * kept as i32).to_be_bytes());
    for header in [kept as i16, weight.max(0), 0, 0] {
        bytes.extend_from_slice(&header.to_be_bytes());
    }
    for digit in &digits[..kept] {
        bytes.extend_from_slice(&digit.to_be_bytes());
    }
}

/// Appends a `text` that a function writes.
pub(crate) fn text(bytes: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    write(bytes);
    let length = (bytes.len() - start - 4) as i32;
    bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a one-dimensional array without nulls; `element` is the object id of the elements' type, each
/// of which is a field like those of a row.
pub(crate) fn array<T>(
    bytes: &mut Vec<u8>,
    element: i32,
    items: impl ExactSizeIterator<Item = T>,
    encode: impl Fn(T, &mut Vec<u8>),
) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    let dimensions = i32::from(items.len() > 0);
    for header in [dimensions, 0, element] {
        bytes.extend_from_slice(&header.to_be_bytes());
    }
    if items.len() > 0 {
        for header in [items.len() as i32, 1] {
            bytes.extend_from_slice(&header.to_be_bytes());
        }
    }
    for item in items {
        encode(item, bytes);
    }
    let length = (bytes.len() - start - 4) as i32;
    bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Reads encoded fields back, one after the other: what [`encode`] wrote, or COPY gave.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's bytes; none for a null.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = i32::from_be_bytes(self.take());
        let (field, rest) = self.0.split_at(usize::try_from(length).ok()?);
        self.0 = rest;
        Some(field)
    }

    /// A `bigint`.
    pub fn int(&mut self) -> i64 {
        i64::from_be_bytes(self.fixed())
    }

    /// An `integer`.
    pub fn narrow(&mut self) -> i32 {
        i32::from_be_bytes(self.fixed())
    }

    /// A `smallint`.
    pub fn small(&mut self) -> i16 {
        i16::from_be_bytes(self.fixed())
    }

    /// A `timestamptz`.
    pub fn instant(&mut self) -> Millis {
        i64::from_be_bytes(self.fixed()) / 1_000 + POSTGRES_EPOCH
    }

    /// A `date`.
    pub fn date(&mut self) -> Day {
        i32::from_be_bytes(self.fixed()) + POSTGRES_DAY
    }

    /// A `text`.
    pub fn text(&mut self) -> &'a str {
        std::str::from_utf8(self.bytes().unwrap_or_default()).expect("the database speaks UTF-8")
    }

    /// A `boolean`.
    pub fn flag(&mut self) -> bool {
        self.bytes() == Some(&[1])
    }

    /// A `double precision`.
    pub fn real(&mut self) -> f64 {
        f64::from_be_bytes(self.fixed())
    }

    /// A `numeric(20)` that is not negative.
    pub fn unsigned(&mut self) -> u64 {
        let mut content = Fields(self.bytes().unwrap_or_default());
        let kept = u16::from_be_bytes(content.take());
        let weight = i16::from_be_bytes(content.take());
        let _sign_and_scale: [u8; 4] = content.take();
        let digits = (0..kept).fold(0, |number: u64, _| {
            number.wrapping_mul(10_000).wrapping_add(u64::from(u16::from_be_bytes(content.take())))
        });
        let zeros = if kept == 0 { 0 } else { weight + 1 - kept as i16 };
        digits.wrapping_mul(10u64.wrapping_pow(4 * zeros as u32))
    }

    /// A `bigint[]` or `text[]` as its elements' fields.
    pub fn elements(&mut self) -> (usize, Fields<'a>) {
        let mut content = Fields(self.bytes().unwrap_or_default());
        let [dimensions, _nulls, _element] =
            [0; 3].map(|_: i32| i32::from_be_bytes(content.take()));
        if dimensions == 0 {
            return (0, content);
        }
        let [length, _lower_bound] = [0; 2].map(|_: i32| i32::from_be_bytes(content.take()));
        (length as usize, content)
    }

    fn fixed<const N: usize>(&mut self) -> [u8; N] {
        let _length: [u8; 4] = self.take();
        self.take()
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk().expect("a whole field");
        self.0 = rest;
        *taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_back_what_was_encoded() {
        let bytes = encode(&[
            Cell::Int(-7),
            Cell::Narrow(-8),
            Cell::Small(-9),
            Cell::Instant(1_700_000_000_123),
            Cell::Date(-3),
            Cell::Text("의류"),
            Cell::Flag(true),
            Cell::Null,
            Cell::Real(1.5),
            Cell::Bytes(&[0, 255]),
        ]);
        let mut bytes = bytes.to_vec();
        array(&mut bytes, 20, [1, 2].into_iter(), |int, bytes| Cell::Int(int).encode(bytes));
        array(&mut bytes, 25, [].into_iter(), |text, bytes| Cell::Text(text).encode(bytes));
        let mut fields = Fields(&bytes);
        assert_eq!((fields.int(), fields.narrow(), fields.small()), (-7, -8, -9));
        assert_eq!(fields.instant(), 1_700_000_000_123);
        assert_eq!(fields.date(), -3);
        assert_eq!(fields.text(), "의류");
        assert!(fields.flag());
        assert_eq!(fields.bytes(), None);
        assert_eq!(fields.real().to_bits(), 1.5f64.to_bits());
        assert_eq!(fields.bytes(), Some(&[0u8, 255][..]));
        let (length, mut ints) = fields.elements();
        assert_eq!((length, ints.int(), ints.int()), (2, 1, 2));
        assert_eq!(fields.elements().0, 0);
        assert!(fields.0.is_empty());
    }

    #[test]
    fn numerics_hold_every_u64() {
        for number in [0, 1, 9_999, 10_000, 10_001, 1_234_567_890_000, 1 << 63, u64::MAX] {
            assert_eq!(Fields(&encode(&[Cell::Unsigned(number)])).unsigned(), number);
        }
    }
}
