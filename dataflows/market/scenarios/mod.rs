//! Scenarios: what the calendar and commands by hand do to demand.

mod rules;

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use chrono::Datelike;
use serde::{Deserialize, Serialize};

use rules::Effect;
pub(super) use rules::is_holiday;
pub use rules::{MonthDay, Occurrence, Rule, Scenario, occurrences};

use super::{
    Settings,
    profile::{Category, Profile},
    word,
};
use crate::model::{
    Millis, ScenarioAction, ScenarioEvent, Strength, Word,
    time::{DAY, HOUR, TIME_END, date_of, day_of},
};

/// How much more the categories of a command are chosen where no rule says it.
const FOCUS: f64 = 2.0;

/// A decision taken by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Market time; it takes effect at the next order tick.
    pub at: Millis,
    /// The scenario's name: one of the rules' or any other word.
    pub name: String,
    /// The factor on all orders; none stops the scenario.
    pub strength: Option<f64>,
    /// The categories it favours; none of them: those of the rule with that name.
    pub categories: Vec<String>,
    /// Market time at which it ends by itself.
    #[serde(default)]
    pub until: Option<Millis>,
}

impl Command {
    /// Refuses what no market takes, whoever says it; `categories` are the profile's words.
    pub fn check(&self, categories: &[&str]) -> Result<(), String> {
        let refuse = |what: &str| Err(what.to_owned());
        if self.strength.is_some_and(|strength| !(0.05..=10.0).contains(&strength)) {
            return refuse("a strength is a factor from 0.05 to 10");
        }
        if !(0..TIME_END).contains(&self.at) {
            return refuse("a scenario starts and stops before 2100");
        }
        let lasts = |until: Millis| until.checked_sub(self.at);
        if self.until.is_some_and(|until| {
            lasts(until).is_none_or(|lasts| !(1..=3_660 * DAY).contains(&lasts))
        }) {
            return refuse("a scenario lasts for some time, ten years at most");
        }
        if !word(&self.name) {
            return refuse("a scenario's name has letters, digits and hyphens, at most 100");
        }
        match self.categories.iter().find(|it| !categories.contains(&it.as_str())) {
            Some(category) => {
                let known = categories.join(", ");
                Err(format!("there is no category `{category}`; there are {known}"))
            }
            None => Ok(()),
        }
    }
}

/// A scenario that is active.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Active {
    occurrence: String,
    effect: Effect,
    categories: Vec<String>,
    /// A command has its way, not the calendar.
    by_hand: bool,
    /// When it ends by itself; none: when a command stops it.
    until: Option<Millis>,
}

/// What the figures tell of a scenario that is active.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Its name.
    pub name: Word,
    /// The factor on all orders now.
    pub strength: f64,
    /// Market time at which it ends by itself; none: when a command stops it.
    pub until: Option<Millis>,
}

/// What is active now, and its effect; the same at every worker.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Scenarios {
    active: BTreeMap<String, Active>,
    /// Occurrences of the calendar that a command has stopped before their time, by scenario.
    stopped: BTreeMap<String, String>,
    /// Commands that are not in effect yet, by time.
    pub(super) commands: Vec<Command>,
    events: u64,
    /// The factor on all orders.
    pub(super) demand: f64,
    /// The factor on each category.
    pub(super) focus: Vec<f64>,
    /// The share taken off the prices of each category.
    pub(super) discount: Vec<f64>,
    /// The factor on an order's lines beyond the first.
    pub(super) lines: f64,
    /// What is active, by name.
    pub(super) running: Arc<[Running]>,
    /// The occurrences of a year and its neighbours.
    #[serde(skip)]
    known: Option<(i32, Arc<[Occurrence]>)>,
}

impl Scenarios {
    pub(super) fn new(categories: usize) -> Self {
        Scenarios {
            active: BTreeMap::new(),
            stopped: BTreeMap::new(),
            commands: Vec::new(),
            events: 0,
            demand: 1.0,
            focus: vec![1.0; categories],
            discount: vec![0.0; categories],
            lines: 1.0,
            running: Arc::default(),
            known: None,
        }
    }

    /// Opens an hour of the calendar.
    pub(super) fn open(
        &mut self,
        settings: &Settings,
        at: Millis,
        emit: &mut impl FnMut(ScenarioEvent),
    ) {
        let all = self.occurrences(settings, at);
        let mut now: Vec<Option<&Occurrence>> = vec![None; settings.scenarios.len()];
        for one in all.iter().filter(|one| (one.from..one.until).contains(&at)) {
            now[one.scenario] = Some(one);
        }
        for (scenario, now) in settings.scenarios.iter().zip(now) {
            let name = &scenario.name;
            let known = self.active.get(name);
            if known.is_some_and(|active| active.by_hand) {
                continue;
            }
            let stopped = self.stopped.get(name);
            if now.is_none_or(|now| stopped != Some(&now.name)) {
                self.stopped.remove(name);
            }
            let now = now.filter(|_| !self.stopped.contains_key(name)).map(|now| {
                let mut effect = scenario.effect(now, at);
                let categories = scenario.categories.clone();
                let drawn = drawn(&settings.profile, &categories, effect.discount);
                effect.demand = effect.demand.max(drawn);
                let (occurrence, until) = (now.name.clone(), Some(now.until));
                Active { occurrence, effect, categories, by_hand: false, until }
            });
            let known = known.cloned();
            let same = |a: &Active, b: &Active| a.occurrence == b.occurrence;
            if let Some(known) = &known
                && now.as_ref().is_none_or(|now| !same(known, now))
            {
                emit(self.event(at, name, ScenarioAction::Stop, known));
                self.active.remove(name);
            }
            if let Some(now) = now {
                let known = known.filter(|known| same(known, &now));
                if known.is_none() {
                    emit(self.event(at, name, ScenarioAction::Start, &now));
                } else if known
                    .is_some_and(|it| it.effect.demand.to_bits() != now.effect.demand.to_bits())
                {
                    emit(self.event(at, name, ScenarioAction::Change, &now));
                }
                self.active.insert(name.clone(), now);
            }
        }
        self.weigh(settings);
    }

    /// Puts the commands before `until` into effect, and ends what they said would end.
    pub(super) fn obey(
        &mut self,
        settings: &Settings,
        until: Millis,
        emit: &mut impl FnMut(ScenarioEvent),
    ) {
        loop {
            let ends = self.active.iter().filter(|(_, active)| active.by_hand);
            let ends = ends.filter_map(|(name, active)| Some((active.until?, name.clone())));
            let ends = ends.filter(|(end, _)| *end < until).min();
            let command = self.commands.first().filter(|command| command.at < until);
            match (ends, command) {
                (Some((at, name)), command) if command.is_none_or(|it| at <= it.at) => {
                    self.end(settings, at, &name, emit);
                }
                (_, Some(_)) => {
                    let command = self.commands.remove(0);
                    self.carry_out(settings, command, emit);
                }
                _ => return,
            }
        }
    }

    /// Whether a command waits, or will end by itself.
    pub(super) fn has_commands(&self) -> bool {
        let ends = |active: &Active| active.by_hand && active.until.is_some();
        !self.commands.is_empty() || self.active.values().any(ends)
    }

    /// A command ends by itself: the calendar has its way again.
    fn end(
        &mut self,
        settings: &Settings,
        at: Millis,
        name: &str,
        emit: &mut impl FnMut(ScenarioEvent),
    ) {
        if let Some(active) = self.active.get_mut(name) {
            active.by_hand = false;
        }
        if settings.scenarios.iter().all(|scenario| scenario.name != name)
            && let Some(active) = self.active.remove(name)
        {
            emit(self.event(at, name, ScenarioAction::Stop, &active));
        }
        self.open(settings, at, emit);
    }

    fn carry_out(
        &mut self,
        settings: &Settings,
        command: Command,
        emit: &mut impl FnMut(ScenarioEvent),
    ) {
        let Command { at, name, strength, categories, until } = command;
        let known = self.active.remove(&name);
        let Some(strength) = strength else {
            if let Some(active) = known {
                emit(self.event(at, &name, ScenarioAction::Stop, &active));
                self.stopped.insert(name, active.occurrence);
            }
            self.weigh(settings);
            return;
        };
        let action = if known.is_some() { ScenarioAction::Change } else { ScenarioAction::Start };
        let rule = settings.scenarios.iter().find(|scenario| scenario.name == name);
        let active = Active {
            occurrence: known.map_or_else(
                || format!("{name}-{}-{at}", date_of(day_of(at))),
                |active| active.occurrence,
            ),
            effect: match rule {
                Some(rule) => rule.at_peak(strength),
                None => Effect { demand: strength, focus: FOCUS, discount: 0.0 },
            },
            categories: match rule {
                Some(rule) if categories.is_empty() => rule.categories.clone(),
                _ => categories,
            },
            by_hand: true,
            until,
        };
        emit(self.event(at, &name, action, &active));
        self.active.insert(name, active);
        self.weigh(settings);
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
            strength: Strength::new(active.effect.demand).expect("factors are checked"),
            categories: active.categories.iter().map(|word| Word::from(word.as_str())).collect(),
        }
    }

    /// Works out the effect of what is active.
    fn weigh(&mut self, settings: &Settings) {
        // What is done by hand is a factor on all else, whatever that is.
        let product = |by_hand: bool| -> f64 {
            let these = self.active.values().filter(|active| active.by_hand == by_hand);
            these.map(|active| active.effect.demand).product()
        };
        self.demand = product(false).min(settings.profile.demand.ceiling) * product(true);
        let mut lines = Answer::default();
        for (place, category) in settings.profile.categories.iter().enumerate() {
            let (mut focus, mut discount) = (1.0, 0.0_f64);
            for active in self.active.values().filter(|it| it.categories.contains(&category.name)) {
                focus *= active.effect.focus;
                discount = discount.max(active.effect.discount);
            }
            (self.focus[place], self.discount[place]) =
                (focus * lines.add(category, discount), discount);
        }
        self.lines = lines.mean();
        let running = self.active.iter().map(|(name, active)| Running {
            name: Word::from(name.as_str()),
            strength: active.effect.demand,
            until: active.until,
        });
        self.running = running.collect();
    }

    fn occurrences(&mut self, settings: &Settings, at: Millis) -> Arc<[Occurrence]> {
        let year = date_of(day_of(at)).year();
        if let Some((known, all)) = &self.known
            && *known == year
        {
            return Arc::clone(all);
        }
        let all: Arc<[Occurrence]> =
            occurrences(&settings.scenarios, settings.seed, around(year)).into();
        self.known = Some((year, Arc::clone(&all)));
        all
    }
}

/// What discounts make of sales, over the categories by their shares.
#[derive(Default)]
struct Answer {
    shares: f64,
    answers: f64,
}

impl Answer {
    /// Adds a category; returns its own answer, by a constant elasticity.
    fn add(&mut self, category: &Category, discount: f64) -> f64 {
        let answer = (1.0 - discount).powf(-category.elasticity);
        self.shares += category.share;
        self.answers += category.share * answer;
        answer
    }

    fn mean(&self) -> f64 {
        self.answers / self.shares
    }
}

/// The factor on all orders that a discount on some categories draws by itself.
fn drawn(profile: &Profile, categories: &[String], discount: f64) -> f64 {
    let mut answer = Answer::default();
    for category in &profile.categories {
        let is_reduced = categories.contains(&category.name);
        answer.add(category, if is_reduced { discount } else { 0.0 });
    }
    answer.mean()
}

/// A year and its neighbours, whose scenarios may reach into it.
fn around(year: i32) -> RangeInclusive<i32> {
    year - 1..=year + 1
}

/// Whether an hour of the calendar begins.
pub(super) fn opens_hour(at: Millis) -> bool {
    at % HOUR == 0
}
