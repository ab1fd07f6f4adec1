//! What no shop knows: each customer's rhythm and taste, who dropped out and when, who would buy from
//! when on, and the demand that orders were drawn from. It is told on request, aside, so that models can be scored by it.

use super::{people::Person, people::taste, profile::Profile};
use crate::model::{Day, Millis};

/// Something that no shop knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// A customer as they signed up.
    Customer {
        /// Who.
        user_id: u32,
        /// The lasting personal factor, mean 1.
        factor: f64,
        /// Orders in 30 days of usual demand while they are with the shop.
        orders_a_month: f64,
        /// The chance to drop out after an order; after the first there is more of it.
        drop_out: f64,
        /// How much they like each category, in the profile's order; mean about 1.
        taste: Vec<f64>,
    },
    /// A customer dropped out after the order at this time; most never come back.
    DropOut {
        /// Who.
        user_id: u32,
        /// Market time.
        at: Millis,
    },
    /// A customer became due, or ready to buy for the first time, and is until they order or leave. Over
    /// all past buyers nobody need become ready.
    Arrival {
        /// Who.
        user_id: u32,
        /// Market time.
        at: Millis,
    },
    /// An order tick.
    Demand {
        /// Market time at which it ends.
        at: Millis,
        /// Customers who were due, and those who never bought and were ready to.
        due: u32,
        /// See `due`.
        ready: u32,
        /// Orders expected: the mean that their number was drawn from.
        expected: f64,
        /// Orders placed.
        orders: u32,
    },
}

impl Truth {
    pub(super) fn customer(
        rules: &Profile,
        seed: u64,
        id: u32,
        person: &Person,
        day: Day,
    ) -> Truth {
        Truth::Customer {
            user_id: id,
            factor: person.factor.into(),
            orders_a_month: person.orders_a_month(rules, day),
            drop_out: person.drop_out.into(),
            taste: (0..rules.categories.len()).map(|place| taste(seed, id, place)).collect(),
        }
    }
}
