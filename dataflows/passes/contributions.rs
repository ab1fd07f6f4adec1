//! What a part adds to its table: sums by bucket, since the last cut.

use differential_dataflow::difference::{IsZero, Monoid, Multiply, Semigroup};
use serde::{Deserialize, Serialize};

use crate::Epoch;
use crate::model::{Category, Day, Krw, Millis, ProductId, UserId};
use crate::operators::{Grade, HashMap, Sum, Sums};

/// What is added up together in a table: up to two numbers and two categories, as the part has it.
///
/// One type for all tables keeps the number of compiled operators small.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Bucket {
    /// The first number.
    pub a: i64,
    /// The second number.
    pub b: i64,
    /// The categories.
    pub categories: [Option<Category>; 2],
    /// Whose: the place of the part.
    pub(crate) part: u16,
}

/// A number in a bucket.
pub trait Number {
    /// As a bucket has it.
    fn number(self) -> i64;
}

macro_rules! numbers {
    ($($of:ty: $it:ident => $number:expr;)*) => {
        $(impl Number for $of {
            fn number(self) -> i64 {
                let $it = self;
                $number
            }
        })*
    };
}

numbers! {
    Millis: it => it;
    Day: it => it.into();
    usize: it => it as i64;
    Grade: it => it as i64;
    UserId: it => it.0;
    ProductId: it => it.0;
}

impl<A: Number> From<A> for Bucket {
    fn from(a: A) -> Bucket {
        Bucket { a: a.number(), ..Bucket::default() }
    }
}

impl<A: Number, B: Number> From<(A, B)> for Bucket {
    fn from((a, b): (A, B)) -> Bucket {
        Bucket { a: a.number(), b: b.number(), ..Bucket::default() }
    }
}

impl<A: Number> From<(A, Category)> for Bucket {
    fn from((a, category): (A, Category)) -> Bucket {
        Bucket { a: a.number(), categories: [Some(category), None], ..Bucket::default() }
    }
}

impl From<(Category, Category)> for Bucket {
    fn from((one, other): (Category, Category)) -> Bucket {
        Bucket { categories: [Some(one), Some(other)], ..Bucket::default() }
    }
}

impl Bucket {
    /// The word of a category; empty where there is none.
    pub fn word(&self, place: usize) -> &str {
        self.categories[place].as_deref().unwrap_or_default()
    }

    /// The first number as a day.
    pub fn day(&self) -> Day {
        self.a as Day
    }
}

/// What one event says that hardly any other does: up to three numbers, as the part has them.
pub type Fact = (i64, i64, i64);

/// Facts as they are sent, with how often each comes.
pub(super) type Told = Vec<(Fact, Epoch, isize)>;

/// So many facts are sent together.
const TOLD: usize = 512;

/// What one part adds.
#[derive(Debug, Default)]
pub struct Contributions {
    part: u16,
    /// Neighbouring events mostly fall into the same bucket: the last one is kept at hand.
    last: Option<(Bucket, Sums)>,
    sums: HashMap<Bucket, Sums>,
    told: Vec<Told>,
}

impl Contributions {
    pub(super) fn of(part: u16) -> Contributions {
        Contributions { part, ..Contributions::default() }
    }

    /// Adds to a bucket, `d` times.
    pub fn add(&mut self, bucket: impl Into<Bucket>, sums: Sums, d: i64) {
        let bucket = Bucket { part: self.part, ..bucket.into() };
        let sums = sums.multiply(&(d as isize));
        match &mut self.last {
            Some((last, of_last)) if *last == bucket => plus(of_last, &sums, &bucket),
            _ => {
                self.settle();
                self.last = Some((bucket, sums));
            }
        }
    }

    /// Tells a fact, so many times.
    pub fn tell(&mut self, fact: Fact, times: i64) {
        match self.told.last_mut() {
            Some(told) if told.len() < TOLD => told.push((fact, 0, times as isize)),
            _ => {
                let mut told = Told::with_capacity(TOLD);
                told.push((fact, 0, times as isize));
                self.told.push(told);
            }
        }
    }

    fn settle(&mut self) {
        if let Some((bucket, sums)) = self.last.take() {
            plus(self.sums.entry(bucket).or_insert_with(Sums::zero), &sums, &bucket);
        }
    }

    /// What was told since it was asked last, of an epoch.
    pub(super) fn told(&mut self, epoch: Epoch) -> impl Iterator<Item = Told> {
        self.told.drain(..).map(move |mut told| {
            for (_, of, _) in &mut told {
                *of = epoch;
            }
            told
        })
    }

    /// What was added since it was asked last.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Bucket, Sums)> {
        self.settle();
        // What a long catch-up has needed is given back.
        if self.sums.capacity() > 4 * self.sums.len() + 1024 {
            self.sums.shrink_to_fit();
        }
        self.sums.drain().filter(|(_, sums)| !sums.is_zero())
    }
}

/// Adds to a sum; one that would leave its type ends the program by its bucket.
pub(super) fn plus(sum: &mut Sums, more: &Sums, bucket: &Bucket) {
    assert!(
        sum.takes(more),
        "the sum of {bucket:?} would leave the range of 64 bits: it cannot be counted"
    );
    sum.plus_equals(more);
}

/// Adds to an amount of a customer, likewise.
pub(crate) fn plus_amount(sum: &mut Krw, more: Krw, of: &str) {
    let both = sum.0.checked_add(more.0);
    *sum = Krw(both
        .unwrap_or_else(|| panic!("{of} would leave the range of 64 bits: it cannot be counted")));
}

/// Sums of orders alone.
pub fn orders(orders: i64) -> Sums {
    Sums { orders, ..Sums::default() }
}

/// Sums of buyers alone.
pub fn buyers(buyers: i64) -> Sums {
    Sums { buyers, ..Sums::default() }
}

/// That a row is there, whatever else is counted.
pub fn row() -> Sums {
    Sums { events: 1, ..Sums::default() }
}

/// Sums of revenue alone.
pub fn revenue(revenue: Krw) -> Sums {
    Sums { revenue, ..Sums::default() }
}
