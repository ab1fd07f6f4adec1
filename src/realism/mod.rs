//! `marketday realism`: how like a real shop the market is, as a scorecard of 22 statistics.
//!
//! Each statistic of the placed orders is set beside what is known of real shops, and passes where it
//! is in the band that was chosen around them. A band that the market's brief set is no evidence of
//! realism, so a value in it has a word of its own.
//!
//! Invariant: the purchases of a real shop pass what they speak of; `tests/realism.rs`.

mod bg_nbd;
mod brief;
mod page;
mod plot;
mod reading;
mod scorecard;
mod statistics;
mod text;

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use dataflows::model::time::date_of;
use postgres::Config;
use serde::Serialize;

use crate::store;
pub use brief::{Days, Lived, brief};
use reading::Market;
use scorecard::{Part, STATISTICS, SetBy, Source, Statistic, Unit};
use statistics::{Value, missing};

/// How the report is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people; in colour on a terminal.
    Text {
        /// With colours.
        colour: bool,
    },
    /// For programs.
    Json,
}

/// Works the scorecard out and writes it, and as a page where one is given.
pub fn realism(
    config: &Config,
    out: &mut dyn Write,
    form: Form,
    page: Option<&mut dyn Write>,
) -> Result<()> {
    let mut client = store::connect(config)?;
    let market = Market::read(&mut reading::snapshot(&mut client)?)?;
    let report = Report::of(&market);
    if let Some(page) = page {
        page::write(page, &report, &market)?;
    }
    match form {
        Form::Json => {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)?;
            Ok(())
        }
        Form::Text { colour } => report.write(out, colour),
    }
}

/// What became of the 22.
#[derive(Serialize)]
struct Report {
    /// The days of the first and the last order.
    from: Option<String>,
    to: Option<String>,
    orders: i64,
    /// Customers who ordered.
    customers: usize,
    pass: usize,
    brief: usize,
    out: usize,
    not_computed: usize,
    statistics: Vec<Judged>,
    sources: Vec<SourceLine>,
}

#[derive(Serialize)]
struct Judged {
    id: &'static str,
    name: &'static str,
    status: Status,
    parts: Vec<JudgedPart>,
}

#[derive(Serialize)]
struct JudgedPart {
    what: &'static str,
    unit: Unit,
    value: Option<f64>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Smallest and largest value accepted, where there is such a limit; none is only told.
    accept: Option<[Option<f64>; 2]>,
    /// None where nothing is asked of it, or where there is no value.
    accepted: Option<bool>,
    real: Vec<Real>,
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'static str,
}

/// A value of a real shop.
#[derive(Serialize)]
struct Real {
    source: &'static str,
    value: f64,
}

#[derive(Serialize)]
struct SourceLine {
    name: &'static str,
    what: &'static str,
    address: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
enum Status {
    /// In the band of real data.
    #[serde(rename = "PASS")]
    Pass,
    /// In the band that the brief set.
    #[serde(rename = "BRIEF")]
    Brief,
    /// Not in its band.
    #[serde(rename = "OUT")]
    Out,
    /// A part cannot be computed, and the others are in their bands.
    #[serde(rename = "-")]
    NotComputed,
}

impl Report {
    fn of(market: &Market) -> Report {
        let day = |day: Option<&(i32, i64)>| day.map(|(day, _orders)| date_of(*day).to_string());
        let statistics: Vec<Judged> = STATISTICS.iter().map(|it| Judged::of(it, market)).collect();
        let with = |status| statistics.iter().filter(|it| it.status == status).count();
        let all_parts = STATISTICS.iter().flat_map(|it| it.parts);
        let sources: BTreeSet<Source> =
            all_parts.flat_map(|part| part.real.iter().map(|(source, _value)| *source)).collect();
        Report {
            from: day(market.days.first()),
            to: day(market.days.last()),
            orders: market.orders(),
            customers: market.buyers.len(),
            pass: with(Status::Pass),
            brief: with(Status::Brief),
            out: with(Status::Out),
            not_computed: with(Status::NotComputed),
            statistics,
            sources: sources
                .into_iter()
                .map(|source| SourceLine {
                    name: source.name(),
                    what: source.what(),
                    address: source.address(),
                })
                .collect(),
        }
    }
}

impl Judged {
    fn of(statistic: &'static Statistic, market: &Market) -> Judged {
        let Statistic { id, name, set_by, values, parts } = statistic;
        let values = if market.buyers.is_empty() {
            missing(parts.len(), "there are no orders yet")
        } else {
            values(market)
        };
        let parts: Vec<JudgedPart> =
            parts.iter().zip(values).map(|(part, value)| JudgedPart::of(part, value)).collect();
        let asked = || parts.iter().filter(|part| part.accept.is_some());
        let status = if asked().any(|part| part.accepted == Some(false)) {
            Status::Out
        } else if asked().any(|part| part.accepted.is_none()) {
            Status::NotComputed
        } else if *set_by == SetBy::Brief {
            Status::Brief
        } else {
            Status::Pass
        };
        Judged { id, name, status, parts }
    }
}

impl JudgedPart {
    fn of(part: &Part, value: Value) -> JudgedPart {
        let value = value.and_then(|value| {
            let too_few = || "there are too few orders for it".to_owned();
            value.is_finite().then_some(value).ok_or_else(too_few)
        });
        let accepted = |(min, max): (f64, f64)| {
            let value = value.as_ref().ok()?;
            Some((min..=max).contains(value))
        };
        JudgedPart {
            what: part.what,
            unit: part.unit,
            accept: part
                .accept
                .map(|(min, max)| [min, max].map(|it| Some(it).filter(|it| it.is_finite()))),
            accepted: part.accept.and_then(accepted),
            real: part
                .real
                .iter()
                .map(|(source, value)| Real { source: source.name(), value: *value })
                .collect(),
            note: part.note,
            value: value.as_ref().ok().copied(),
            reason: value.err(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::scorecard::told;
    use super::*;

    fn status(set_by: SetBy, parts: &'static [Part], values: fn(&Market) -> Vec<Value>) -> Status {
        // What it is does not matter, but there must be a customer.
        let market = Market { buyers: vec![(1, 1)], ..Market::default() };
        let statistic =
            Box::leak(Box::new(Statistic { id: "M0", name: "", set_by, values, parts }));
        Judged::of(statistic, &market).status
    }

    #[test]
    fn all_parts_must_be_in_their_bands() {
        static PARTS: [Part; 3] = [
            Part { accept: Some((1.0, 2.0)), ..told("from 1 to 2", Unit::Number, &[]) },
            Part { accept: Some((f64::NEG_INFINITY, 3.0)), ..told("to 3", Unit::Number, &[]) },
            told("anything", Unit::Number, &[]),
        ];
        let real = |values| status(SetBy::RealData, &PARTS, values);
        assert_eq!(real(|_| vec![Ok(1.0), Ok(3.0), Ok(99.0)]), Status::Pass);
        assert_eq!(real(|_| vec![Ok(2.1), Ok(3.0), Ok(99.0)]), Status::Out);
        assert_eq!(real(|_| vec![Ok(1.0), Ok(3.1), Ok(99.0)]), Status::Out);
        // Nothing is asked of the last.
        assert_eq!(real(|_| vec![Ok(1.0), Ok(3.0), Err(String::new())]), Status::Pass);
        assert_eq!(real(|_| vec![Ok(1.0), Err(String::new()), Ok(99.0)]), Status::NotComputed);
        assert_eq!(real(|_| vec![Ok(1.0), Ok(f64::NAN), Ok(99.0)]), Status::NotComputed);
        assert_eq!(real(|_| vec![Ok(0.9), Err(String::new()), Ok(99.0)]), Status::Out);
    }

    #[test]
    fn what_the_brief_set_does_not_pass_for_real() {
        static PARTS: [Part; 1] =
            [Part { accept: Some((21.0, 21.0)), ..told("", Unit::Hour, &[]) }];
        let brief = |values| status(SetBy::Brief, &PARTS, values);
        assert_eq!(brief(|_| vec![Ok(21.0)]), Status::Brief);
        assert_eq!(brief(|_| vec![Ok(20.0)]), Status::Out);
    }

    #[test]
    fn every_part_has_a_value_or_a_reason() {
        let some = Market { buyers: vec![(1, 900)], days: vec![(20_000, 1)], ..Market::default() };
        for (number, statistic) in (1..).zip(&STATISTICS) {
            assert_eq!(statistic.id, format!("M{number}"));
            assert_eq!((statistic.values)(&some).len(), statistic.parts.len(), "{}", statistic.id);
        }
        let none = Report::of(&Market::default());
        assert_eq!((none.not_computed, none.statistics.len()), (22, 22));
    }
}
