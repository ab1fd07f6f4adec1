//! The rows of a view's table: what it holds, how often, under a key of the engine's own.
//!
//! SQL gives rows, the same one more than once, and NULLs anywhere. So the table has a hash of what tells
//! its rows apart, how many copies there are, and the columns; and whoever reads the view sees each row as
//! often as it is there.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::value::{Row, Type, encode};
use crate::operators::HashMap;
use crate::row::{self, Cell, Fate};

/// What the rows of a view are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The number of its table.
    pub table: u16,
    /// The types of its columns.
    pub types: Vec<Type>,
    /// The columns that no two rows share, if that is known.
    pub key: Option<Vec<usize>>,
}

/// A view that gives what no SQL gives: a fault of ours, by which others are not to be harmed.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault;

/// What one worker keeps of a view.
pub struct Kept {
    shape: Shape,
    /// How often each row is there, where they have no key.
    copies: HashMap<Row, isize>,
    rows: usize,
}

impl Kept {
    /// Nothing yet.
    pub fn new(shape: Shape) -> Kept {
        Kept { shape, copies: HashMap::default(), rows: 0 }
    }

    /// How many different rows there are at this worker.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// So many of them are held in memory.
    pub fn held(&self) -> usize {
        self.copies.len()
    }

    /// Gives what becomes of the table's rows by changes that belong together.
    pub fn change(
        &mut self,
        mut changes: Vec<(Row, isize)>,
        mut give: impl FnMut(row::Row, Fate),
    ) -> Result<(), Fault> {
        differential_dataflow::consolidation::consolidate(&mut changes);
        let Some(key) = self.shape.key.clone() else {
            for (row, diff) in changes {
                let copies = self.copies.entry(Row::clone(&row)).or_insert(0);
                let before = std::mem::replace(copies, *copies + diff);
                let after = *copies;
                let fate = match (before, after) {
                    (0, 1..) => Fate::New,
                    (1.., 1..) => Fate::Changed,
                    (1.., 0) => Fate::Gone,
                    _ => return Err(Fault),
                };
                if fate == Fate::Gone {
                    self.copies.remove(&row);
                }
                give(self.row(&row, &row, after), fate);
            }
            self.rows = self.copies.len();
            return Ok(());
        };
        let of = |row: &Row| -> Row { key.iter().map(|column| row[*column].clone()).collect() };
        let mut by_key: Vec<_> =
            changes.into_iter().map(|(row, diff)| (of(&row), diff, row)).collect();
        by_key.sort_unstable();
        for changes in by_key.chunk_by(|(a, ..), (b, ..)| a == b) {
            let (goes, comes) = match changes {
                [(_, -1, gone)] => (Some(gone), None),
                [(_, 1, come)] => (None, Some(come)),
                [(_, -1, gone), (_, 1, come)] => (Some(gone), Some(come)),
                _ => return Err(Fault),
            };
            let key = &changes[0].0;
            match (goes, comes) {
                (Some(gone), None) => {
                    self.rows = self.rows.checked_sub(1).ok_or(Fault)?;
                    give(self.row(key, gone, 0), Fate::Gone);
                }
                (None, Some(come)) => {
                    self.rows += 1;
                    give(self.row(key, come, 1), Fate::New);
                }
                (_, Some(come)) => give(self.row(key, come, 1), Fate::Changed),
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn row(&self, told_apart: &Row, row: &Row, copies: isize) -> row::Row {
        let mut bytes = Vec::new();
        let types = |place: usize| match &self.shape.key {
            Some(key) => &self.shape.types[key[place]],
            None => &self.shape.types[place],
        };
        for (place, value) in told_apart.iter().enumerate() {
            encode(value, types(place), &mut bytes);
        }
        let key = xxh3_128(&bytes).to_be_bytes();
        row::Row::written(self.shape.table, &[Cell::Bytes(&key)], |bytes| {
            Cell::Int(copies as i64).encode(bytes);
            for (value, of) in row.iter().zip(&self.shape.types) {
                encode(value, of, bytes);
            }
        })
    }
}
