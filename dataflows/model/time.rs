//! Market time and the calendar of the market's zone, Asia/Seoul.
//!
//! Instants are whole milliseconds since the Unix epoch. Valid events lie from 1990 to 2099, and
//! over that span Seoul has been at UTC+9 without a break (its last summer time ended in 1988), so
//! the zone is one constant. The SQL twins name the zone instead and so check this from outside.

use std::{fmt, str::FromStr};

use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime};
use serde::{Deserialize, Serialize};

/// An instant or a span: milliseconds of market time.
pub type Millis = i64;

/// A calendar day: days since 1970-01-01 (in the market's zone).
pub type Day = i32;

/// One second.
pub const SECOND: Millis = 1_000;
/// One minute.
pub const MINUTE: Millis = 60 * SECOND;
/// One hour.
pub const HOUR: Millis = 60 * MINUTE;
/// One day of 24 hours.
pub const DAY: Millis = 24 * HOUR;
/// Seven days.
pub const WEEK: Millis = 7 * DAY;
/// Grades are evaluated at multiples of this.
pub const TICK: Millis = 10 * MINUTE;
/// Asia/Seoul less UTC.
pub const ZONE: Millis = 9 * HOUR;

/// The first valid instant: 1990-01-01 UTC.
pub const TIME_MIN: Millis = 631_152_000_000;
/// The first instant that is no longer valid: 2100-01-01 UTC.
pub const TIME_END: Millis = 4_102_444_800_000;

/// The start of the minute.
pub fn minute_of(at: Millis) -> Millis {
    at - at.rem_euclid(MINUTE)
}

/// The calendar day in the market's zone.
pub fn day_of(at: Millis) -> Day {
    (at + ZONE).div_euclid(DAY) as Day
}

/// The hour of the day, 0 to 23, in the market's zone.
pub fn hour_of(at: Millis) -> i64 {
    (at + ZONE).rem_euclid(DAY) / HOUR
}

/// The instant at which a calendar day begins in the market's zone.
pub fn start_of_day(day: Day) -> Millis {
    Millis::from(day) * DAY - ZONE
}

/// The calendar date of a day.
pub fn date_of(day: Day) -> NaiveDate {
    NaiveDate::from_epoch_days(day).expect("a day within chrono's 262,000 years")
}

/// The day of a calendar date.
pub fn day_of_date(date: NaiveDate) -> Day {
    date.to_epoch_days()
}

/// The first day of the day's month.
pub fn month_of(day: Day) -> Day {
    day - date_of(day).day0() as Day
}

/// The Monday of the day's week.
pub fn week_of(day: Day) -> Day {
    day - date_of(day).weekday().num_days_from_monday() as Day
}

/// Months from one month's first day to another's.
pub fn months_between(from: Day, to: Day) -> i64 {
    let months = |day| i64::from(date_of(day).year()) * 12 + month_of_year(day);
    months(to) - months(from)
}

/// The month of the year, 1 to 12.
pub fn month_of_year(day: Day) -> i64 {
    date_of(day).month().into()
}

/// Six calendar months later on the market's wall clock, on the month's last day where the day
/// does not exist: PostgreSQL's `ordered_at + interval '6 months'`.
pub fn six_months_after(at: Millis) -> Millis {
    let day = date_of(day_of(at)) + Months::new(6);
    at + Millis::from(day_of_date(day) - day_of(at)) * DAY
}

/// The wall clock of the market's zone at an instant, for people.
pub fn wall_clock(at: Millis) -> NaiveDateTime {
    date_of(day_of(at)).and_time(chrono::NaiveTime::MIN)
        + chrono::TimeDelta::milliseconds((at + ZONE).rem_euclid(DAY))
}

/// Whole years from a birth date to a day: the age on that day.
pub fn age_on(day: Day, birth_date: Day) -> u32 {
    date_of(day).years_since(date_of(birth_date)).unwrap_or(0)
}

/// The day `days` later.
pub fn days_after(day: Day, days: u64) -> Day {
    day_of_date(date_of(day) + Days::new(days))
}

/// A span of time as people write it: `50s`, `10m` (or `10min`), `2h`, `30d`; at most ten years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Span(pub Millis);

/// The units of a span, the greatest first.
const UNITS: [(&str, Millis); 4] = [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND)];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let span = UNITS.iter().find_map(|(unit, millis)| {
            let number = text.strip_suffix(unit).or_else(|| match *unit {
                "m" => text.strip_suffix("min"),
                _ => None,
            });
            let number: Millis = number?.parse().ok()?;
            number.checked_mul(*millis).filter(|span| (0..=3_653 * DAY).contains(span))
        });
        let wrong = || format!("`{text}` is no span of time such as 50s, 10m, 2h or 30d");
        span.map(Span).ok_or_else(wrong)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, millis)| self.0 % millis == 0);
        let (unit, millis) = whole.unwrap_or(&UNITS[3]);
        write!(f, "{}{unit}", self.0 / millis)
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Span, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_they_are_written() {
        for (text, millis) in [("50s", 50 * SECOND), ("75m", 75 * MINUTE), ("30d", 30 * DAY)] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span, span.to_string().as_str()), (Span(millis), text));
        }
        assert_eq!(Span(120 * MINUTE).to_string(), "2h");
        assert_eq!("75min".parse(), Ok(Span(75 * MINUTE)));
        for text in ["", "s", "5", "5 m", "-1s", "1.5h", "4000d", "9223372036854775807d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    fn at(text: &str) -> Millis {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap().and_utc().timestamp_millis()
            - ZONE
    }

    #[test]
    fn six_months_clamp_to_the_months_last_day() {
        for (from, to) in [
            ("2023-08-31 10:00", "2024-02-29 10:00"),
            ("2024-08-31 10:00", "2025-02-28 10:00"),
            ("2024-08-29 23:59", "2025-02-28 23:59"),
            ("2025-03-31 00:00", "2025-09-30 00:00"),
            ("2025-01-15 08:59", "2025-07-15 08:59"),
        ] {
            assert_eq!(six_months_after(at(from)), at(to), "{from}");
        }
    }

    #[test]
    fn days_and_hours_are_those_of_seoul() {
        assert_eq!(hour_of(at("2025-05-05 00:30")), 0);
        assert_eq!(date_of(day_of(at("2025-05-05 00:30"))).to_string(), "2025-05-05");
        assert_eq!(start_of_day(day_of(at("2025-05-05 23:59"))), at("2025-05-05 00:00"));
        assert_eq!(date_of(month_of(day_of(at("2025-05-31 12:00")))).to_string(), "2025-05-01");
        assert_eq!(wall_clock(at("2025-05-31 12:00")).to_string(), "2025-05-31 12:00:00");
    }
}
