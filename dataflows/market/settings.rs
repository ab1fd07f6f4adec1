//! What makes a market, and what follows from it alone: refreshes, ticks, sign-ups and listings.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{
    draw::{Purpose, draw},
    people,
    profile::{Mood, Profile},
    scenarios::Scenario,
};
use crate::model::{
    Millis, Topic,
    time::{DAY, SECOND, TIME_END, day_of},
};

/// The oldest customers of a market that begins then were born in 1900, as valid events have it.
const EARLIEST: Millis = 978_274_800_000;
/// A market that goes live then has a year until its events are no longer valid.
const LATEST: Millis = TIME_END - 366 * DAY;
/// A month of rates.
const MONTH: f64 = 30.0 * DAY as f64;

/// What makes a market: the same settings give the same events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Names the random numbers.
    pub seed: u64,
    /// Market time at which the history begins: a whole number of refreshes since 1970.
    pub origin: Millis,
    /// Market time at which live running begins: the same.
    pub start: Millis,
    /// Partitions of each topic.
    pub partitions: [u32; Topic::ALL.len()],
    /// The numbers of the rules.
    pub profile: Profile,
    /// The scenarios by rule.
    pub scenarios: Vec<Scenario>,
}

impl Settings {
    /// The defaults, for a market that goes live at `start` after `history` (whole days).
    pub fn new(seed: u64, start: Millis, history: Millis) -> Self {
        let profile = Profile::named("year").expect("it ships");
        let scenarios = Scenario::shipped(&profile.words()).expect("they ship with the profile");
        Settings {
            seed,
            origin: start - history,
            start,
            partitions: Topic::PARTITIONS,
            profile,
            scenarios,
        }
    }

    /// Refuses what no market could live by: where a file was changed by hand, say.
    pub fn check(&self) -> Result<(), String> {
        self.profile.check()?;
        Scenario::check(&self.scenarios, &self.profile.words())?;
        // So days and hours begin with a refresh.
        if self.origin % self.refresh() != 0 || self.start % self.refresh() != 0 {
            return Err("a market begins and goes live at the start of a refresh".into());
        }
        if self.partitions.contains(&0) {
            return Err("there is a topic without partitions".into());
        }
        if self.origin < EARLIEST || self.start < self.origin || self.start > LATEST {
            return Err("a market begins in 2001 at the earliest, and goes live before 2099".into());
        }
        Ok(())
    }

    /// The working set holds for so long.
    pub fn refresh(&self) -> Millis {
        self.profile.working_set.refresh.0
    }

    /// The market time at which a refresh begins.
    pub fn border(&self, refresh: u64) -> Millis {
        self.origin + refresh as Millis * self.refresh()
    }

    /// The refresh that an instant falls into.
    pub fn refresh_of(&self, at: Millis) -> u64 {
        ((at - self.origin).max(0) / self.refresh()) as u64
    }

    /// The order ticks of a refresh; the last one is its end.
    pub(super) fn ticks(&self, refresh: u64) -> Vec<Millis> {
        let random = &mut draw(self.seed, Purpose::Ticks, refresh, 0);
        let [least, most] = self.profile.demand.tick.map(|span| span.0);
        let span = self.refresh();
        // As many as a gap between the least and the most, on average, leaves room for.
        let (few, many) = (span / least.midpoint(most), span / least);
        let count = random.random_range(few..=(few + 1).min(many));
        let mut at = self.border(refresh);
        // The least for each tick, and what remains is shared out, no more than the most for each.
        let mut spare = span - count * least;
        (1..=count)
            .map(|tick| {
                let owed = (spare - (count - tick) * (most - least)).clamp(0, most - least);
                let more = if tick == count {
                    spare
                } else {
                    random.random_range(owed..=spare.min(most - least))
                };
                spare -= more;
                at += least + more;
                at
            })
            .collect()
    }

    /// What names the moods of a market time.
    pub(super) fn mood_time(&self, at: Millis) -> u64 {
        match self.profile.score.mood {
            Mood::Day => day_of(at) as u64,
            Mood::Refresh => self.refresh_of(at),
        }
    }

    /// The mood of a customer who consented to marketing, or not, at a market time: the boost of a
    /// promotion seen, and the factor of a life event; 1 where there is none.
    pub fn mood(&self, id: u32, consent: bool, at: Millis) -> [f64; 2] {
        people::moods(&self.profile.score, self.seed, id, consent, self.mood_time(at))
    }

    /// Whether each order tick has one order: the letter of the brief.
    pub fn is_to_the_letter(&self) -> bool {
        self.profile.demand.orders_a_tick.is_some()
    }

    /// Whether a race decides who orders; at temperature 0 the highest scores do.
    pub(super) fn races(&self) -> bool {
        self.profile.score.temperature > 0.0
    }

    /// 1 / temperature; at temperature 0 the order of the scores is all that counts.
    pub(super) fn sharpness(&self) -> f64 {
        if self.races() { 1.0 / self.profile.score.temperature } else { 1.0 }
    }

    /// When one of so many came who are there from the beginning: in the 30 days before it.
    pub(super) fn before_opening(&self, id: u32, initial: u32) -> Millis {
        self.origin - 30 * DAY + 30 * DAY * Millis::from(id) / Millis::from(initial)
    }

    /// New customers a millisecond: an S-curve, and what the profile has of a rush when the market goes
    /// live.
    pub(super) fn sign_up_rate(&self, at: Millis) -> f64 {
        let rules = &self.profile.customers;
        let months = (at - self.origin) as f64 / MONTH;
        let first = f64::from(rules.initial.max(1)) * rules.head_start;
        let odds = (rules.reach / first - 1.0).max(0.0) * (-rules.growth * months).exp();
        let curve = rules.reach * rules.growth * odds / (1.0 + odds).powi(2) / MONTH;
        let since = (at - self.start) as f64 / rules.rush_decay.0 as f64;
        let rush = if since < 0.0 { 0.0 } else { rules.rush * (-since).exp() };
        curve + rush / SECOND as f64
    }

    /// Time from one new product to the next: of the listings a day that the profile has, more each
    /// month, or as it has it from one to the next.
    pub(super) fn listing_gap(&self, id: u32, at: Millis) -> Millis {
        let rules = &self.profile.products;
        let [least, most] = rules.listing.map(|span| span.0);
        let random = &mut draw(self.seed, Purpose::Listing, u64::from(id), 0);
        let gap = random.random_range(least..=most);
        if rules.listed_a_day == 0.0 {
            return gap;
        }
        let a_day = rules.listed_a_day + rules.listed_more * (at - self.origin) as f64 / MONTH;
        let mean = (least + most) as f64 / 2.0;
        ((gap as f64 / mean * DAY as f64 / a_day) as Millis).max(1)
    }
}
