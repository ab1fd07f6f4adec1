//! The scenarios' rules, read from TOML, and the occurrences that they make in a year.
//!
//! `scenarios.toml` ships with the program and says what the fields are.

use std::{fmt, ops::RangeInclusive};

use chrono::{Datelike, NaiveDate, Weekday};
use icu_calendar::{Date, types::Month};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::market::{
    draw::{Purpose, draw},
    profile::word,
};
use crate::model::{
    Day, Millis,
    time::{HOUR, date_of, day_of, day_of_date, hour_of, start_of_day},
};

/// A scenario by rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What happens, in a sentence.
    #[serde(default)]
    pub about: String,
    /// The categories it favours; none means that it favours none.
    pub categories: Vec<String>,
    /// Which days it goes by.
    pub day: Rule,
    phases: Vec<Phase>,
}

/// Which days a scenario goes by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The same date every year.
    Date(MonthDay),
    /// The same date every year by the Korean lunar calendar.
    Lunar(MonthDay),
    /// The first such weekday from a date on.
    First(Weekday, MonthDay),
    /// The same day of every month, or counted back from its end: -1 is the last.
    Monthly(i32),
    /// Every week.
    Weekly(Weekday),
    /// A day between two dates, another each year.
    Drawn(MonthDay, MonthDay),
    /// The three hottest days by the old calendar.
    Sambok,
}

/// A date without a year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MonthDay {
    month: u32,
    day: u32,
}

/// A part of a scenario's course.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Phase {
    /// First and last day, counted from the scenario's day.
    from: i32,
    to: i32,
    #[serde(default)]
    shape: Shape,
    /// The factor at the peak on all orders, and on the choice of the scenario's categories.
    #[serde(default = "one")]
    demand: f64,
    #[serde(default = "one")]
    focus: f64,
    /// The share taken off the prices of the scenario's categories, at the peak.
    #[serde(default)]
    discount: f64,
    /// First hour of the day, and the first hour after.
    #[serde(default = "all_hours")]
    hours: (i64, i64),
}

fn one() -> f64 {
    1.0
}

fn all_hours() -> (i64, i64) {
    (0, 24)
}

/// What a scenario does: factors on all orders and on the choice of its categories, and the share
/// taken off their prices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Effect {
    pub(super) demand: f64,
    pub(super) focus: f64,
    pub(super) discount: f64,
}

impl Default for Effect {
    fn default() -> Self {
        Effect { demand: 1.0, focus: 1.0, discount: 0.0 }
    }
}

/// The course of a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Shape {
    #[default]
    Flat,
    Rise,
    Decay,
    Triangle,
}

impl Shape {
    /// The share of the peak on day `day` of `days`, counted from 0.
    fn share(self, day: i32, days: i32) -> f64 {
        let (day, days) = (f64::from(day), f64::from(days));
        match self {
            Shape::Flat => 1.0,
            Shape::Rise => ((day + 1.0) / days).powi(2),
            Shape::Decay => 0.5_f64.powf(3.0 * day / days),
            Shape::Triangle => 1.0 - (2.0 * (day + 0.5) / days - 1.0).abs(),
        }
    }
}

impl Phase {
    /// What it does in the hour that begins at `at`.
    fn effect(&self, anchor: Day, at: Millis) -> Option<Effect> {
        let day = day_of(at) - anchor;
        let hour = hour_of(at);
        if !(self.from..=self.to).contains(&day) || !(self.hours.0..self.hours.1).contains(&hour) {
            return None;
        }
        let share = self.shape.share(day - self.from, self.to - self.from + 1);
        Some(Effect {
            demand: 1.0 + (self.demand - 1.0) * share,
            focus: 1.0 + (self.focus - 1.0) * share,
            discount: self.discount * share,
        })
    }

    fn begins(&self, anchor: Day) -> Millis {
        start_of_day(anchor + self.from) + self.hours.0 * HOUR
    }

    fn ends(&self, anchor: Day) -> Millis {
        start_of_day(anchor + self.to) + self.hours.1 * HOUR
    }
}

/// A scenario as it takes place once.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrence {
    /// Its name: the scenario's, and the day that it goes by.
    pub name: String,
    /// Index of the scenario among the rules.
    pub scenario: usize,
    anchor: Day,
    /// It is active from here.
    pub from: Millis,
    /// It is no longer active from here on.
    pub until: Millis,
}

impl Scenario {
    /// Reads the scenarios of a file; `categories` are the words that the profile knows. The error
    /// says what is wrong, and where.
    pub fn read(text: &str, categories: &[&str]) -> Result<Vec<Scenario>, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[serde(default)]
            scenario: Vec<Scenario>,
        }
        let file: File =
            toml::from_str(text).map_err(|error: toml::de::Error| error.to_string())?;
        Scenario::check(&file.scenario, categories)?;
        Ok(file.scenario)
    }

    /// Refuses scenarios that the rules could not live by.
    pub(in crate::market) fn check(all: &[Scenario], categories: &[&str]) -> Result<(), String> {
        for (place, scenario) in all.iter().enumerate() {
            let name = &scenario.name;
            scenario.check_one(categories).map_err(|what| format!("scenario `{name}`: {what}"))?;
            if all[..place].iter().any(|other| other.name == *name) {
                return Err(format!("scenario `{name}` is there twice"));
            }
        }
        Ok(())
    }

    /// The scenarios that ship.
    pub fn shipped(categories: &[&str]) -> Result<Vec<Scenario>, String> {
        Scenario::read(include_str!("../scenarios.toml"), categories)
    }

    fn check_one(&self, categories: &[&str]) -> Result<(), String> {
        let refuse = |what: &str| Err(what.to_owned());
        if !word(&self.name) {
            return refuse("a name has letters, digits and hyphens, at most 100");
        }
        if let Some(category) = self.categories.iter().find(|it| !categories.contains(&it.as_str()))
        {
            let known = categories.join(", ");
            return Err(format!("there is no category `{category}`; there are {known}"));
        }
        if matches!(self.day, Rule::Monthly(day) if day == 0 || day.abs() > 28) {
            return refuse(
                "`monthly` is a day from 1 to 28, or from -1 to -28 before the month's end",
            );
        }
        if matches!(self.day, Rule::Drawn(from, to) if (from.month, from.day) > (to.month, to.day))
        {
            return refuse("`drawn` is the first and the last date of a year");
        }
        // Where phases meet their factors are multiplied, and a hundred of them still have a number.
        if !(1..=100).contains(&self.phases.len()) {
            return refuse("it has 1 to 100 phases");
        }
        for phase in &self.phases {
            let (from, to) = (phase.from, phase.to);
            if from > to || from < -100 || to > 200 {
                return refuse("a phase goes `from` one day `to` a later one, within -100 and 200");
            }
            if !(0.05..=10.0).contains(&phase.demand) || !(0.05..=10.0).contains(&phase.focus) {
                return refuse("`demand` and `focus` are factors from 0.05 to 10");
            }
            if !(0.0..=0.9).contains(&phase.discount) {
                return refuse("`discount` is a share from 0 to 0.9");
            }
            if !(0 <= phase.hours.0 && phase.hours.0 < phase.hours.1 && phase.hours.1 <= 24) {
                return refuse("`hours` are the first hour and the first hour after, 0 to 24");
            }
        }
        Ok(())
    }

    /// The greatest factor on all orders, or the least where it has none above 1.
    pub fn peak(&self) -> f64 {
        let demands = || self.phases.iter().map(|phase| phase.demand);
        let most = demands().fold(0.0, f64::max);
        if most > 1.0 { most } else { demands().fold(most, f64::min) }
    }

    /// The most that it does to its categories: what a command has it do.
    pub(super) fn at_peak(&self, demand: f64) -> Effect {
        let most = |of: fn(&Phase) -> f64, least| self.phases.iter().map(of).fold(least, f64::max);
        Effect { demand, focus: most(|it| it.focus, 1.0), discount: most(|it| it.discount, 0.0) }
    }

    /// What it does in the hour that begins at `at`.
    pub(super) fn effect(&self, occurrence: &Occurrence, at: Millis) -> Effect {
        let effects = self.phases.iter().filter_map(|phase| phase.effect(occurrence.anchor, at));
        effects.fold(Effect::default(), |all, one| Effect {
            demand: all.demand * one.demand,
            focus: all.focus * one.focus,
            discount: all.discount.max(one.discount),
        })
    }
}

/// All occurrences that go by a day of these years, in order of their beginning.
pub fn occurrences(
    scenarios: &[Scenario],
    seed: u64,
    years: RangeInclusive<i32>,
) -> Vec<Occurrence> {
    let mut all = Vec::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        for date in years.clone().flat_map(|year| scenario.day.in_year(year, seed, index)) {
            let anchor = day_of_date(date);
            let phases = || scenario.phases.iter();
            all.push(Occurrence {
                name: format!("{}-{date}", scenario.name),
                scenario: index,
                anchor,
                from: phases().map(|phase| phase.begins(anchor)).min().unwrap_or(0),
                until: phases().map(|phase| phase.ends(anchor)).max().unwrap_or(0),
            });
        }
    }
    all.sort_by_key(|occurrence| (occurrence.from, occurrence.scenario));
    all
}

impl Rule {
    /// The days of a year.
    fn in_year(&self, year: i32, seed: u64, scenario: usize) -> Vec<NaiveDate> {
        match self {
            Rule::Date(date) => date.in_year(year).into_iter().collect(),
            Rule::Lunar(date) => lunar(year, *date).into_iter().collect(),
            Rule::First(weekday, date) => {
                date.in_year(year).map(|date| first(*weekday, date)).into_iter().collect()
            }
            Rule::Monthly(day) => {
                let days = (1..=12).filter_map(|month| monthly(year, month, *day));
                days.collect()
            }
            Rule::Weekly(weekday) => NaiveDate::from_ymd_opt(year, 1, 1)
                .into_iter()
                .flat_map(|date| first(*weekday, date).iter_weeks())
                .take_while(|date| date.year() == year)
                .collect(),
            Rule::Drawn(from, to) => {
                let Some((from, to)) = from.in_year(year).zip(to.in_year(year)) else {
                    return Vec::new();
                };
                let random = &mut draw(seed, Purpose::Weather, scenario as u64, year as u64);
                let day = random.random_range(day_of_date(from)..=day_of_date(to));
                vec![date_of(day)]
            }
            Rule::Sambok => sambok(year).into_iter().flatten().collect(),
        }
    }
}

/// A day of a month, or counted back from its end.
fn monthly(year: i32, month: u32, day: i32) -> Option<NaiveDate> {
    let begins = NaiveDate::from_ymd_opt(year, month, 1)?;
    let days = i32::from(begins.num_days_in_month());
    begins.with_day(if day > 0 { day } else { days + 1 + day } as u32)
}

/// The first such weekday from a date on.
fn first(weekday: Weekday, from: NaiveDate) -> NaiveDate {
    let days = from.weekday().days_since(weekday);
    from + chrono::Days::new(u64::from((7 - days) % 7))
}

/// Whether it is one of the three days of Seollal or of Chuseok.
pub(in crate::market) fn is_holiday(date: NaiveDate) -> bool {
    const FEASTS: [MonthDay; 2] = [MonthDay { month: 1, day: 1 }, MonthDay { month: 8, day: 15 }];
    let mut days = FEASTS.iter().filter_map(|feast| lunar(date.year(), *feast));
    days.any(|feast| (date - feast).num_days().abs() <= 1)
}

/// A date of the Korean lunar calendar in the year that begins at its new year.
fn lunar(year: i32, date: MonthDay) -> Option<NaiveDate> {
    /// Fixed day of 1970-01-01.
    const EPOCH: i64 = 719_163;
    let month = Month::new(date.month as u8);
    let lunar = Date::try_new_korean_traditional(year, month, date.day as u8).ok()?;
    NaiveDate::from_epoch_days((lunar.to_rata_die().to_i64_date() - EPOCH) as i32)
}

/// The third and fourth day with the stem *gyeong* from the summer solstice on, and the first from
/// the beginning of autumn on. The two days of the solar calendar hold for 2020 to 2035.
fn sambok(year: i32) -> [Option<NaiveDate>; 3] {
    let gyeong_from = |month, day| {
        let from = day_of_date(NaiveDate::from_ymd_opt(year, month, day)?);
        // Stems have a cycle of ten days; 1970-01-10 was a gyeong.
        Some(from + (9 - from).rem_euclid(10))
    };
    let autumn = if year % 4 == 3 { 8 } else { 7 };
    let solstice = gyeong_from(6, 21);
    let days = [solstice.map(|day| day + 20), solstice.map(|day| day + 30), gyeong_from(8, autumn)];
    days.map(|day| NaiveDate::from_epoch_days(day?))
}

impl MonthDay {
    fn in_year(self, year: i32) -> Option<NaiveDate> {
        NaiveDate::from_ymd_opt(year, self.month, self.day)
    }
}

impl TryFrom<String> for MonthDay {
    type Error = String;

    fn try_from(text: String) -> Result<MonthDay, String> {
        let parts = text.split_once('-');
        let parts = parts.and_then(|(month, day)| Some((month.parse().ok()?, day.parse().ok()?)));
        // In a leap year every date exists.
        parts
            .filter(|(month, day)| NaiveDate::from_ymd_opt(2024, *month, *day).is_some())
            .map(|(month, day)| MonthDay { month, day })
            .ok_or_else(|| format!("`{text}` is no date such as 02-14"))
    }
}

impl From<MonthDay> for String {
    fn from(date: MonthDay) -> String {
        date.to_string()
    }
}

impl fmt::Display for MonthDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}-{:02}", self.month, self.day)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Date(date) => write!(f, "{date}"),
            Rule::Lunar(date) => write!(f, "lunar {date}"),
            Rule::First(weekday, date) => write!(f, "first {weekday} from {date}"),
            Rule::Monthly(-1) => write!(f, "monthly, last day"),
            Rule::Monthly(day) => write!(f, "monthly, day {day}"),
            Rule::Weekly(weekday) => write!(f, "every {weekday}"),
            Rule::Drawn(from, to) => write!(f, "between {from} and {to}"),
            Rule::Sambok => write!(f, "sambok"),
        }
    }
}

#[cfg(test)]
mod tests {
    use korean_lunar_calendar::{LunarDate, lunar_to_gregorian};

    use super::*;
    use crate::model::time::DAY;

    #[test]
    fn lunar_dates_are_those_of_a_second_source() {
        for year in 2020..=2035 {
            for (month, day) in [(1, 1), (8, 15)] {
                let date = LunarDate { year, month: (month, false), day };
                let second = lunar_to_gregorian(&date);
                let here = lunar(year, MonthDay { month: month.into(), day: day.into() });
                assert_eq!(here, second, "{year}-{month}-{day}");
                assert!(here.is_some());
            }
        }
        assert_eq!(lunar(2026, MonthDay { month: 8, day: 15 }), "2026-09-25".parse().ok());
    }

    #[test]
    fn the_rules_name_the_days_of_the_calendar() {
        let day = |rule: &Rule, year| {
            let days = rule.in_year(year, 1, 0);
            days.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let date = |month, day| MonthDay { month, day };
        let exam = Rule::First(Weekday::Thu, date(11, 13));
        for (year, expected) in [(2022, 17), (2023, 16), (2024, 14), (2025, 13), (2026, 19)] {
            assert_eq!(day(&exam, year), [format!("{year}-11-{expected}")]);
        }
        let black_friday = Rule::First(Weekday::Fri, date(11, 23));
        for (year, expected) in [(2024, 29), (2025, 28), (2026, 27), (2027, 26), (2028, 24)] {
            assert_eq!(day(&black_friday, year), [format!("{year}-11-{expected}")]);
        }
        assert_eq!(day(&Rule::Sambok, 2024), ["2024-07-15", "2024-07-25", "2024-08-14"]);
        assert_eq!(day(&Rule::Sambok, 2025), ["2025-07-20", "2025-07-30", "2025-08-09"]);
        assert_eq!(day(&Rule::Monthly(25), 2026).len(), 12);
        assert_eq!(day(&Rule::Monthly(-1), 2028)[..2], ["2028-01-31", "2028-02-29"]);
        assert_eq!(day(&Rule::Weekly(Weekday::Thu), 2026).len(), 53);
        assert!(day(&Rule::Date(date(2, 29)), 2026).is_empty());
        let drawn = Rule::Drawn(date(11, 3), date(11, 20));
        let years: Vec<_> = (2020..2036).flat_map(|year| day(&drawn, year)).collect();
        assert!(years.iter().all(|day| ("11-03"..="11-20").contains(&&day[5..])), "{years:?}");
        assert!(years.iter().any(|day| day[5..] != years[0][5..]), "the weather is a rule");
    }

    #[test]
    fn a_scenario_takes_its_course() {
        let scenarios = Scenario::read(
            r#"
            [[scenario]]
            name = "gifts"
            categories = ["toys"]
            day = { date = "05-05" }
            phases = [
                { from = -4, to = -1, shape = "rise", demand = 2.6, discount = 0.2 },
                { from = 0, to = 0, demand = 0.5, discount = 0.1 },
                { from = 0, to = 0, hours = [20, 22], demand = 3.0, focus = 2.0, discount = 0.3 },
            ]
            "#,
            &["toys"],
        )
        .unwrap();
        let all = occurrences(&scenarios, 1, 2026..=2026);
        let [gifts] = &all[..] else { panic!("{all:?}") };
        assert_eq!(gifts.name, "gifts-2026-05-05");
        let day = start_of_day(day_of_date("2026-05-05".parse().unwrap()));
        assert_eq!((gifts.from, gifts.until), (day - 4 * DAY, day + DAY));
        let effect = |at: Millis| scenarios[0].effect(gifts, at);
        let rises: Vec<f64> =
            (1..=4).rev().map(|before| effect(day - before * DAY).demand).collect();
        assert_eq!(rises, [1.1, 1.4, 1.9, 2.6]);
        let effect = |at| {
            let Effect { demand, focus, discount } = effect(at);
            (demand, focus, discount)
        };
        // A share off rises as the factors do; where phases meet the greatest holds.
        assert_eq!(effect(day - 2 * DAY), (1.9, 1.0, 0.2 * 0.5625));
        assert_eq!(effect(day), (0.5, 1.0, 0.1));
        assert_eq!(effect(day + 20 * HOUR), (1.5, 2.0, 0.3));
        assert_eq!(effect(day + 22 * HOUR), (0.5, 1.0, 0.1));
        assert_eq!(Some(scenarios[0].peak()), Some(3.0));
        let by_hand = scenarios[0].at_peak(5.0);
        assert_eq!(by_hand, Effect { demand: 5.0, focus: 2.0, discount: 0.3 });
    }

    /// What comes after a sale comes of the sale.
    #[test]
    fn no_phase_that_ships_types_a_dip_in() {
        let profile = crate::market::Profile::named("year").unwrap();
        for scenario in Scenario::shipped(&profile.words()).unwrap() {
            let lowest = scenario.phases.iter().map(|phase| phase.demand).fold(1.0, f64::min);
            assert!(lowest >= 1.0, "{} has a phase of {lowest}", scenario.name);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let phase = "phases = [{ from = 0, to = 1 }]";
        for (text, says) in [
            ("name = \"a b\"\ncategories = []\nday = \"sambok\"", "letters, digits and hyphens"),
            ("name = \"a\"\ncategories = [\"cars\"]\nday = \"sambok\"", "no category `cars`"),
            ("name = \"a\"\ncategories = []\nday = { monthly = 31 }", "1 to 28, or from"),
            ("name = \"a\"\ncategories = []\nday = { date = \"02-30\" }", "no date such as"),
            ("name = \"a\"\ncategories = []\nday = { yearly = 1 }", "unknown variant"),
            ("name = \"a\"\ncategories = []\nday = \"sambok\"\nsize = 1", "unknown field `size`"),
        ] {
            let error = Scenario::read(&format!("[[scenario]]\n{text}\n{phase}"), &[]).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let many = "{ from = 0, to = 0, demand = 10 }, ".repeat(400);
        let text = format!(
            "[[scenario]]\nname = \"a\"\ncategories = []\nday = \"sambok\"\nphases = [{many}]"
        );
        assert!(Scenario::read(&text, &[]).unwrap_err().contains("1 to 100 phases"));
        for (phase, says) in [
            ("from = 1, to = 0", "`from` one day `to` a later one"),
            ("from = 0, to = 0, demand = 11", "factors from 0.05 to 10"),
            ("from = 0, to = 0, discount = 0.95", "a share from 0 to 0.9"),
            ("from = 0, to = 0, hours = [22, 20]", "the first hour after"),
        ] {
            let text = format!(
                "[[scenario]]\nname = \"a\"\ncategories = []\nday = \"sambok\"\n\
                 phases = [{{ {phase} }}]"
            );
            let error = Scenario::read(&text, &[]).unwrap_err();
            assert!(error.contains(says), "{phase}: {error}");
        }
    }
}
