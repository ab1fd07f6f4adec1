//! From records to the ledger: what was read is deduplicated, and each accepted event becomes a
//! row of a base table and an entry for the queries.

use serde::{Deserialize, Serialize};

use crate::model::time::DAY;
use crate::model::{Millis, Record, Topic, UserId};
use crate::row::{Cell, Fields, Row};

/// Where an event was read.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Origin {
    /// The partition of the event's topic.
    pub partition: u32,
    /// The record's offset there.
    pub offset: u64,
    /// XXH3 (64 bit) of the record's value.
    pub hash: u64,
}

/// An event and where it was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sourced<E> {
    /// Where it was read.
    pub origin: Origin,
    /// What it says.
    pub event: E,
}

/// What became of records of one partition; tallies of an epoch are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Events that count.
    pub counted: u64,
    /// Copies of events that were there already.
    pub duplicate: u64,
    /// Records that are no events, and conflicts.
    pub dead: u64,
    /// Heartbeats.
    pub heartbeat: u64,
    /// Sum of the counted orders' amounts, mod 2^64.
    pub amount: i64,
    /// Sum of the counted values' hashes, mod 2^64.
    pub hash: u64,
    /// The offset behind the last record read; 0 where the tally does not speak of reading.
    pub next_offset: u64,
    /// How far the times went by then, of partitions of `orders`; none likewise.
    pub reach: Option<Reach>,
}

impl Tally {
    /// Adds what another tally of the same partition says.
    pub fn add(&mut self, other: &Tally) {
        self.counted += other.counted;
        self.duplicate += other.duplicate;
        self.dead += other.dead;
        self.heartbeat += other.heartbeat;
        self.amount = self.amount.wrapping_add(other.amount);
        self.hash = self.hash.wrapping_add(other.hash);
        if other.next_offset >= self.next_offset {
            self.next_offset = other.next_offset;
            self.reach = other.reach.or(self.reach);
        }
    }
}

/// Up to which time a partition of `orders` has been read. One customer's wrong clock does not move
/// it, however often they speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The newest `at`.
    pub newest_at: Millis,
    /// The offset of its record: the first that says it.
    pub newest_offset: u64,
    /// Whose it is; none for a heartbeat, each of which counts as another customer.
    pub newest_by: Option<UserId>,
    /// The newest `at` of another customer.
    pub other_at: Option<Millis>,
    /// The time reached: it never goes back.
    pub reached: Option<Millis>,
}

impl Reach {
    /// After one more record.
    #[must_use]
    pub fn after(before: Option<Reach>, offset: u64, at: Millis, by: Option<UserId>) -> Reach {
        let first = Reach {
            newest_at: at,
            newest_offset: offset,
            newest_by: by,
            other_at: None,
            reached: None,
        };
        let Some(before) = before else { return first };
        let same = by.is_some() && by == before.newest_by;
        let mut reach = match at > before.newest_at {
            true if same => Reach { newest_at: at, newest_offset: offset, ..before },
            true => Reach { other_at: Some(before.newest_at), reached: before.reached, ..first },
            false if same => before,
            false => Reach { other_at: before.other_at.max(Some(at)), ..before },
        };
        let of_two =
            reach.other_at.map(|other| if reach.alone() { other } else { reach.newest_at });
        reach.reached = reach.reached.max(of_two);
        reach
    }

    /// Whether the newest `at` is more than a day beyond every other customer's, or the only one.
    pub fn alone(&self) -> bool {
        self.other_at.is_none_or(|other| self.newest_at - other > DAY)
    }
}

/// The row of an accepted event in its base table.
pub fn ledger_row<E: Record>(table: u16, Sourced { origin, event }: &Sourced<E>) -> Row {
    Row::written(table, &[], |row| {
        let (event_id, partition) = (event.event_id(), origin.partition);
        if is_narrow(E::TOPIC) {
            Cell::Int(event_id as i64).encode(row);
            Cell::Narrow(partition as i32).encode(row);
        } else {
            Cell::Unsigned(event_id).encode(row);
            Cell::Int(i64::from(partition)).encode(row);
        }
        Cell::Int(origin.offset as i64).encode(row);
        event.put(row);
    })
}

/// Reads the event's id, its partition and its offset off a row of a topic's base table, up to the columns of
/// the event.
pub fn place(topic: Topic, row: &mut Fields<'_>) -> (u64, u32, u64) {
    let (event_id, partition) = if is_narrow(topic) {
        (row.int() as u64, row.narrow() as u32)
    } else {
        (row.unsigned(), row.int() as u32)
    };
    (event_id, partition, row.int() as u64)
}

/// Of orders there are many: their table has an id as a `bigint`, in which one of 2^63 or more is negative.
fn is_narrow(topic: Topic) -> bool {
    topic == Topic::Orders
}

/// The dead letter of an event whose id another one has. The record's key and value stay in the log.
pub fn conflict_row<E: Record>(table: u16, Sourced { origin, event }: &Sourced<E>) -> Row {
    let reason = format!(
        "`event_id` {} is that of another event, which says something else",
        event.event_id()
    );
    Row::new(
        table,
        &[],
        &[
            Cell::Text(E::TOPIC.name()),
            Cell::Int(i64::from(origin.partition)),
            Cell::Int(origin.offset as i64),
            Cell::Instant(event.at()),
            Cell::Text(&reason),
            Cell::Null,
            Cell::Null,
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name, records (`at` in hours, customer or 0 for a heartbeat) and the times reached after each.
    type Case = (&'static str, &'static [(i64, i64)], &'static [Option<i64>]);

    #[test]
    fn one_customers_clock_does_not_move_the_time_reached() {
        let cases: [Case; 10] = [
            ("one customer has reached nothing", &[(5, 1), (6, 1)], &[None, None]),
            (
                "two customers",
                &[(5, 1), (6, 2), (30, 2), (31, 2)],
                &[
                    None,
                    Some(6),
                    Some(6), // 25 hours beyond the other: it stands alone
                    Some(6),
                ],
            ),
            ("a day is not too much", &[(5, 1), (29, 2)], &[None, Some(29)]),
            (
                "first record wrong",
                &[(900, 1), (5, 2), (6, 3), (6, 1)],
                &[None, Some(5), Some(6), Some(6)],
            ),
            (
                "a copy and a cancellation of it",
                &[(5, 1), (6, 2), (900, 3), (900, 3), (901, 3)],
                &[None, Some(6), Some(6), Some(6), Some(6)],
            ),
            (
                "it never goes back",
                &[(10, 1), (30, 2), (40, 2), (41, 1)],
                &[None, Some(30), Some(30), Some(41)],
            ),
            ("the newest of two", &[(5, 1), (7, 2), (6, 1)], &[None, Some(7), Some(7)]),
            ("each heartbeat is another one", &[(7, 0), (9, 0)], &[None, Some(9)]),
            (
                "two beside a wrong one",
                &[(900, 1), (7, 2), (9, 3), (8, 2)],
                &[None, Some(7), Some(9), Some(9)],
            ),
            (
                "silence with heartbeats",
                &[(5, 1), (5, 0), (77, 0), (77, 0), (78, 1)],
                &[None, Some(5), Some(5), Some(77), Some(78)],
            ),
        ];
        for (name, records, reached) in cases {
            let mut reach = None;
            for (offset, ((at, by), reached)) in (0..).zip(records.iter().zip(reached)) {
                const HOUR: Millis = 3_600_000;
                let by = Some(UserId(*by)).filter(|by| *by != UserId(0));
                reach = Some(Reach::after(reach, offset, at * HOUR, by));
                assert_eq!(reach.unwrap().reached, reached.map(|at| at * HOUR), "{name} {offset}");
            }
        }
    }
}
