//! What a group adds up to, carried in the difference: how many rows it has, and what each aggregate counts.

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Multiply, Semigroup};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// So many numbers, added up side by side. An array, so that a difference is no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Totals<const N: usize>(pub(super) [i128; N]);

impl<const N: usize> Serialize for Totals<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0[..].serialize(to)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Totals<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let numbers = Vec::<i128>::deserialize(from)?;
        let numbers = numbers.try_into();
        numbers.map(Totals).map_err(|_| serde::de::Error::custom("as many numbers as there are"))
    }
}

impl<const N: usize> IsZero for Totals<N> {
    fn is_zero(&self) -> bool {
        self.0 == [0; N]
    }
}

impl<const N: usize> Semigroup for Totals<N> {
    fn plus_equals(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            *sum += more;
        }
    }
}

impl<const N: usize> Monoid for Totals<N> {
    fn zero() -> Self {
        Totals([0; N])
    }
}

impl<const N: usize> Abelian for Totals<N> {
    fn negate(&mut self) {
        for sum in &mut self.0 {
            *sum = -*sum;
        }
    }
}

impl<const N: usize> Multiply<isize> for Totals<N> {
    type Output = Self;

    fn multiply(mut self, times: &isize) -> Self {
        if *times != 1 {
            for sum in &mut self.0 {
                *sum *= *times as i128;
            }
        }
        self
    }
}
