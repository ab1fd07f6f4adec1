//! What order events add up to in a bucket, carried in the difference.

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Multiply, Semigroup};
use differential_dataflow::{AsCollection, VecCollection};
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::Map;

use super::Sum;
use crate::Epoch;
use crate::model::{Krw, OrderKind};
use crate::passes::Bucket;

/// The sums that tables by time and category are made of. One type for all of them keeps the
/// number of compiled operators small.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Sums {
    /// Events of whatever kind: a bucket has a row while this is not zero.
    pub events: i64,
    /// Placed orders.
    pub orders: i64,
    /// Placed pieces.
    pub units: i64,
    /// Placed amount.
    pub revenue: Krw,
    /// Cancellations.
    pub cancelled: i64,
    /// Amount taken back by cancellations and refunds.
    pub refunded: Krw,
    /// Distinct customers with a placed order.
    pub buyers: i64,
}

impl Sums {
    /// What one event adds, of whose lines `units` and `amount` fall into the bucket.
    pub fn of(kind: OrderKind, units: i64, amount: Krw) -> Sums {
        let event = Sums { events: 1, ..Sums::default() };
        match kind {
            OrderKind::Placed => Sums { orders: 1, units, revenue: amount, ..event },
            OrderKind::Cancelled => Sums { cancelled: 1, refunded: amount, ..event },
            OrderKind::Refunded => Sums { refunded: amount, ..event },
        }
    }

    /// What another line adds to a bucket in which its event is counted.
    #[must_use]
    pub fn of_same_event(self) -> Sums {
        Sums { events: 0, orders: 0, cancelled: 0, ..self }
    }

    fn map(self, f: impl Fn(i64) -> i64) -> Sums {
        Sums {
            events: f(self.events),
            orders: f(self.orders),
            units: f(self.units),
            revenue: Krw(f(self.revenue.0)),
            cancelled: f(self.cancelled),
            refunded: Krw(f(self.refunded.0)),
            buyers: f(self.buyers),
        }
    }
}

impl IsZero for Sums {
    fn is_zero(&self) -> bool {
        *self == Sums::default()
    }
}

impl Semigroup for Sums {
    fn plus_equals(&mut self, other: &Sums) {
        self.events += other.events;
        self.orders += other.orders;
        self.units += other.units;
        self.revenue += other.revenue;
        self.cancelled += other.cancelled;
        self.refunded += other.refunded;
        self.buyers += other.buyers;
    }
}

impl Sum for Sums {
    fn takes(&self, more: &Sums) -> bool {
        let fields = |it: &Sums| {
            [it.events, it.orders, it.units, it.revenue.0, it.cancelled, it.refunded.0, it.buyers]
        };
        let mut both = fields(self).into_iter().zip(fields(more));
        both.all(|(sum, more)| sum.checked_add(more).is_some())
    }
}

impl Monoid for Sums {
    fn zero() -> Sums {
        Sums::default()
    }
}

impl Abelian for Sums {
    fn negate(&mut self) {
        *self = self.map(|sum| -sum);
    }
}

impl Multiply<isize> for Sums {
    type Output = Sums;

    fn multiply(self, times: &isize) -> Sums {
        self.map(|sum| sum * *times as i64)
    }
}

/// What is contributed to a table's buckets, as other records with differences of another kind.
pub fn regrouped<D: 'static, R: Semigroup + 'static>(
    sums: VecCollection<'_, Epoch, Bucket, Sums>,
    mut regroup: impl FnMut(Bucket, Sums) -> (D, R) + 'static,
) -> VecCollection<'_, Epoch, D, R> {
    let regrouped = sums.inner.map(move |(bucket, epoch, sums)| {
        let (record, diff) = regroup(bucket, sums);
        (record, epoch, diff)
    });
    regrouped.as_collection()
}
