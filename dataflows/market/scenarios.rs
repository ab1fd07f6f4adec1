//! Scenarios: what the calendar and commands by hand do to demand.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Serialize};

use super::catalog::{CATEGORY_COUNT, category};
use crate::model::{
    Day, Millis, ScenarioAction, ScenarioEvent, Strength, Word,
    time::{date_of, day_of},
};

/// All scenarios together never raise demand above this.
const CEILING: f64 = 3.5;

/// A scenario of the calendar.
pub struct Rule {
    /// The scenario's name.
    pub name: &'static str,
    /// The factor on all orders of a day on which it is active.
    on: fn(NaiveDate) -> Option<f64>,
    /// How much more its categories are chosen.
    focus: f64,
    /// The categories it favours; none means all.
    categories: &'static [&'static str],
}

/// The calendar.
pub const RULES: &[Rule] = &[
    Rule { name: "month-start", on: month_start, focus: 1.3, categories: &["household", "food"] },
    Rule { name: "payday-10", on: payday_10, focus: 1.0, categories: &[] },
    Rule { name: "payday-25", on: payday_25, focus: 1.1, categories: &["fashion"] },
    Rule {
        name: "black-friday",
        on: black_friday,
        focus: 1.4,
        categories: &["electronics", "fashion", "appliances"],
    },
];

fn month_start(date: NaiveDate) -> Option<f64> {
    (date.day() <= 5).then_some(1.3)
}

fn payday_10(date: NaiveDate) -> Option<f64> {
    (10..=12).contains(&date.day()).then_some(1.25)
}

fn payday_25(date: NaiveDate) -> Option<f64> {
    (25..=27).contains(&date.day()).then_some(1.35)
}

/// The day after the fourth Thursday of November: a jump, a tail of three days, then a dip,
/// because people have bought what they wanted.
fn black_friday(date: NaiveDate) -> Option<f64> {
    let thursday = NaiveDate::from_weekday_of_month_opt(date.year(), 11, chrono::Weekday::Thu, 4)?;
    match (date - thursday).num_days() {
        1 => Some(3.0),
        2..=4 => Some(1.6),
        5..=8 => Some(0.9),
        _ => None,
    }
}

/// A decision taken by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Market time; it takes effect at the next order tick.
    pub at: Millis,
    /// The scenario's name: one of the calendar's or any other word.
    pub name: String,
    /// The factor on all orders; none stops the scenario.
    pub strength: Option<f64>,
    /// The categories it favours; empty means all.
    pub categories: Vec<String>,
}

/// A scenario that is active.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Active {
    occurrence: String,
    strength: f64,
    focus: f64,
    categories: Vec<String>,
    /// Started by a command: only a command stops it.
    by_hand: bool,
}

/// What is active now, and its effect; the same at every worker.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Scenarios {
    active: BTreeMap<String, Active>,
    /// Occurrences of the calendar that a command has stopped before their time.
    stopped: BTreeMap<String, String>,
    /// Commands that are not in effect yet, by time.
    pub(super) commands: Vec<Command>,
    events: u64,
    /// The factor on all orders.
    pub(super) demand: f64,
    /// The factor on each category, and the greatest of them.
    pub(super) focus: [f64; CATEGORY_COUNT],
    pub(super) focus_max: f64,
}

impl Scenarios {
    pub(super) fn new() -> Self {
        Scenarios {
            active: BTreeMap::new(),
            stopped: BTreeMap::new(),
            commands: Vec::new(),
            events: 0,
            demand: 1.0,
            focus: [1.0; CATEGORY_COUNT],
            focus_max: 1.0,
        }
    }

    /// Opens a calendar day.
    pub(super) fn open(&mut self, day: Day, at: Millis, mut emit: impl FnMut(ScenarioEvent)) {
        for rule in RULES {
            let strength = (rule.on)(date_of(day));
            let known = self.active.get(rule.name);
            if known.is_some_and(|active| active.by_hand) {
                continue;
            }
            match (known.map(|active| active.strength), strength) {
                (None, Some(strength)) if !self.stopped.contains_key(rule.name) => {
                    let active = Active {
                        occurrence: format!("{}-{}", rule.name, date_of(day)),
                        strength,
                        focus: rule.focus,
                        categories: rule.categories.iter().map(ToString::to_string).collect(),
                        by_hand: false,
                    };
                    emit(self.event(at, rule.name, ScenarioAction::Start, &active));
                    self.active.insert(rule.name.to_string(), active);
                }
                (Some(known), Some(strength)) if known.to_bits() != strength.to_bits() => {
                    let mut active = self.active[rule.name].clone();
                    active.strength = strength;
                    emit(self.event(at, rule.name, ScenarioAction::Change, &active));
                    self.active.insert(rule.name.to_string(), active);
                }
                (known, None) => {
                    self.stopped.remove(rule.name);
                    if known.is_some()
                        && let Some(active) = self.active.remove(rule.name)
                    {
                        emit(self.event(at, rule.name, ScenarioAction::Stop, &active));
                    }
                }
                _ => {}
            }
        }
        self.weigh();
    }

    /// Puts the commands before `until` into effect.
    pub(super) fn obey(&mut self, until: Millis, mut emit: impl FnMut(ScenarioEvent)) {
        while self.commands.first().is_some_and(|command| command.at < until) {
            let command = self.commands.remove(0);
            let known = self.active.remove(&command.name);
            let Some(strength) = command.strength else {
                if let Some(active) = known {
                    emit(self.event(command.at, &command.name, ScenarioAction::Stop, &active));
                    if !active.by_hand {
                        self.stopped.insert(command.name, active.occurrence);
                    }
                }
                continue;
            };
            let action =
                if known.is_some() { ScenarioAction::Change } else { ScenarioAction::Start };
            let active = Active {
                occurrence: known.map_or_else(
                    || format!("{}-{}-{}", command.name, date_of(day_of(command.at)), command.at),
                    |active| active.occurrence,
                ),
                strength,
                focus: if command.categories.is_empty() { 1.0 } else { 2.0 },
                categories: command.categories,
                by_hand: true,
            };
            emit(self.event(command.at, &command.name, action, &active));
            self.active.insert(command.name, active);
        }
        self.weigh();
    }

    fn event(
        &mut self,
        at: Millis,
        name: &str,
        action: ScenarioAction,
        active: &Active,
    ) -> ScenarioEvent {
        self.events += 1;
        ScenarioEvent {
            event_id: self.events - 1,
            at,
            occurrence: Arc::from(active.occurrence.as_str()),
            name: Arc::from(name),
            action,
            strength: Strength::new(active.strength).expect("commands are checked by the shell"),
            categories: active.categories.iter().map(|word| Word::from(word.as_str())).collect(),
        }
    }

    /// Works out the effect of what is active.
    fn weigh(&mut self) {
        let product: f64 = self.active.values().map(|active| active.strength).product();
        self.demand = product.min(CEILING);
        self.focus = [1.0; CATEGORY_COUNT];
        for active in self.active.values() {
            for index in active.categories.iter().filter_map(|name| category(name)) {
                self.focus[index] *= active.focus;
            }
        }
        self.focus_max = self.focus.iter().copied().fold(1.0, f64::max);
    }
}
