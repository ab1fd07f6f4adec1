//! How many orders there should be: the clock of demand time, arrivals, and the demand on each group of
//! the working set.
//!
//! Demand on a group is what arrives in it, so that its backlog of candidates stays about the same:
//! it answers a longer backlog, and so what a sale pulls forward is missing afterwards.

use serde::{Deserialize, Serialize};

use super::{
    calendar,
    customers::Sale,
    profile::{BANDS, Profile, Selection},
    working_set::{GROUPS, Members},
};
use crate::model::{
    Millis,
    time::{DAY, HOUR, hour_of},
};

/// Demand as it stands; the same at every worker.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Demand {
    /// The clock of customers' rhythms, in milliseconds.
    pub(super) time: i64,
    /// The same when the day opened.
    opened_at: i64,
    /// By how many days of usual demand sales have lifted this day's.
    lift: f64,
    /// And in all.
    pub(super) lifted: f64,
    /// Arrivals a day of usual demand, smoothed, by group.
    arrivals: [f64; GROUPS],
    /// Usual demand in the refresh before, sales included, in days.
    passed: f64,
    /// Orders expected so far: the sum of the means that their numbers were drawn from.
    pub(super) expected: f64,
}

/// What of demand holds for a refresh.
#[derive(Clone, Default)]
pub(super) struct Rates {
    /// How each age band likes the hour.
    pub(super) liking: [f64; BANDS],
    /// The hour's factor over all customers, with the day's.
    hour: f64,
    /// By group: orders a millisecond and a unit of weight, without sales.
    base: [f64; GROUPS],
    /// By group: sums of weight x liking.
    timely: [f64; GROUPS],
}

impl Rates {
    /// By group, orders a millisecond and a unit of weight x liking.
    pub(super) fn demand(&self, sale: f64) -> [f64; GROUPS] {
        self.base.map(|base| base * sale)
    }

    /// Orders expected in a span.
    pub(super) fn mean(&self, sale: f64, span: Millis) -> f64 {
        let groups = self.demand(sale).into_iter().zip(self.timely);
        groups.map(|(demand, timely)| demand * timely).sum::<f64>() * span as f64
    }

    /// Orders expected in an order tick of that span: where the profile says how many, these.
    pub(super) fn expected(&self, profile: &Profile, sale: f64, span: Millis) -> f64 {
        profile.demand.orders_a_tick.map_or_else(|| self.mean(sale, span), |orders| orders as f64)
    }
}

impl Demand {
    pub(super) fn new(profile: &Profile) -> Self {
        Demand {
            time: 0,
            opened_at: 0,
            lift: 0.0,
            lifted: 0.0,
            arrivals: profile.demand.arrivals,
            passed: 0.0,
            expected: 0.0,
        }
    }

    /// Opens a day.
    pub(super) fn open_day(&mut self) {
        (self.opened_at, self.lift) = (self.time, 0.0);
    }

    /// Takes note of how many have become due, and ready, in the refresh before.
    pub(super) fn count(&mut self, profile: &Profile, arrived: [u32; GROUPS]) {
        let passed = std::mem::take(&mut self.passed);
        // Where all are candidates nobody arrives.
        if passed > 0.0 && profile.working_set.selection == Selection::Due {
            let over = passed.max(profile.demand.smooth.0 as f64 / DAY as f64);
            for (smoothed, arrived) in self.arrivals.iter_mut().zip(arrived) {
                *smoothed += (f64::from(arrived) - *smoothed * passed) / over;
            }
        }
    }

    /// What holds for the refresh that begins at `from`, with so many candidates in each group.
    pub(super) fn rates(
        &self,
        profile: &Profile,
        hours: &Hours,
        from: Millis,
        day: f64,
        candidates: [u32; GROUPS],
        members: &Members,
    ) -> Rates {
        let rules = &profile.demand;
        let hour = hour_of(from) as usize;
        let liking = std::array::from_fn(|band| hours.bands[band][hour]);
        let sums = members.sums(|band| liking[band]);
        let base = std::array::from_fn(|group| {
            let backlog = f64::from(candidates[group]) / rules.backlog[group];
            let a_day = self.arrivals[group].max(1.0) * backlog.powf(rules.pressure) * day;
            if sums[group].0 > 0.0 { a_day / DAY as f64 / sums[group].0 } else { 0.0 }
        });
        Rates { liking, hour: day * hours.all[hour], base, timely: sums.map(|(_, timely)| timely) }
    }

    /// The hour of a sale that begins, if it is one; its lift is counted.
    pub(super) fn sell(&mut self, profile: &Profile, rates: &Rates, sale: f64) -> Option<Sale> {
        if sale <= 1.0 {
            return None;
        }
        let before = self.lift;
        let lift = (sale - 1.0) * HOUR as f64 / DAY as f64;
        self.lift += lift;
        self.lifted += lift;
        Some(Sale {
            opened_at: self.opened_at,
            now: self.time,
            length: (HOUR as f64 * rates.hour * speed(profile, sale)) as i64,
            before,
            after: self.lift,
            in_all: self.lifted,
        })
    }

    /// Moves the clock on over a span.
    pub(super) fn pass(&mut self, profile: &Profile, rates: &Rates, sale: f64, span: Millis) {
        let usual = span as f64 * rates.hour;
        self.time += (usual * speed(profile, sale)) as i64;
        self.passed += usual * sale / DAY as f64;
        self.expected += rates.expected(profile, sale, span);
    }
}

/// Whatever is done by hand, demand is not lifted above this.
const SALE_MAX: f64 = 100.0;

/// What scenarios of that strength make of demand: above 1 what they draw is lifted, so that the
/// strength is what one measures.
pub(super) fn sale(profile: &Profile, strength: f64) -> f64 {
    let lifted = 1.0 + profile.demand.lift * (strength - 1.0);
    if strength > 1.0 { lifted.min(SALE_MAX) } else { strength }
}

/// How fast the clock runs in a sale: what it pulls forward does not move the clock.
fn speed(profile: &Profile, sale: f64) -> f64 {
    let pull = if sale > 1.0 { profile.demand.pull } else { 0.0 };
    1.0 + (1.0 - pull) * (sale - 1.0)
}

/// The 24 hours: of each age band, and of all customers together.
pub(super) struct Hours {
    bands: [[f64; 24]; BANDS],
    all: [f64; 24],
}

impl Hours {
    pub(super) fn new(profile: &Profile) -> Self {
        let bands = calendar::hours(&profile.demand);
        let mut shares = [0.0; BANDS];
        for (from, _, weight) in &profile.customers.ages {
            shares[usize::from(calendar::band_of(u32::from(*from)))] += weight;
        }
        let all: f64 = shares.iter().sum();
        let mean = |hour: usize| {
            bands.iter().zip(shares).map(|(band, share)| band[hour] * share / all).sum()
        };
        Hours { bands, all: std::array::from_fn(mean) }
    }
}
