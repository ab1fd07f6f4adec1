//! The scorecard in words: numbers with their units, and the table for a terminal.

use std::fmt::{self, Write as _};
use std::io::Write;

use anyhow::Result;

use super::scorecard::Unit;
use super::{Judged, JudgedPart, Real, Report, SourceLine, Status};

/// Columns of the whole.
const COLUMNS: usize = 100;

/// Columns of what real data says.
const REAL: usize = 26;

/// Columns from a statistic's name to its status.
const WHAT_TO_STATUS: usize = 89;

/// A space at which no line breaks.
const NO_BREAK: &str = "\u{a0}";

impl JudgedPart {
    /// The value in words, or none.
    pub(super) fn value(&self) -> String {
        self.value.map_or_else(|| "-".into(), |value| self.unit.write(value))
    }

    pub(super) fn accept(&self) -> String {
        let write = |value: f64| self.unit.write(value);
        match self.accept {
            None | Some([None, None]) => String::new(),
            Some([Some(min), Some(max)]) if min.total_cmp(&max).is_eq() => write(min),
            Some([Some(min), Some(max)]) => format!("{} to {}", self.unit.number(min), write(max)),
            Some([Some(min), None]) => format!("at least {}", write(min)),
            Some([None, Some(max)]) => format!("at most {}", write(max)),
        }
    }

    /// The values of real shops, and what else there is to say of them. A line may break between two
    /// values, not within one.
    pub(super) fn real(&self) -> String {
        let value = |real: &Real| {
            format!("{} {}", real.source, self.unit.write(real.value)).replace(' ', NO_BREAK)
        };
        let values: Vec<_> = self.real.iter().map(value).collect();
        let values = values.join(", ");
        match (values.as_str(), self.note) {
            (values, "") => values.to_owned(),
            ("", note) => note.to_owned(),
            (values, note) => format!("{values}; {note}"),
        }
    }
}

impl Unit {
    /// With its unit, as short as it is clear.
    fn write(self, value: f64) -> String {
        let number = self.number(value);
        match self {
            Unit::Share | Unit::Lift => format!("{number} %"),
            Unit::Days => format!("{number} d"),
            Unit::Won => format!("{number} k"),
            Unit::Number | Unit::Hour | Unit::Rank => number,
        }
    }

    fn number(self, value: f64) -> String {
        match self {
            Unit::Share => short(100.0 * value, 1),
            Unit::Lift => {
                let sign = if value < 0.0 { '-' } else { '+' };
                format!("{sign}{}", short(100.0 * value.abs(), 1))
            }
            Unit::Number => short(value, if value.abs() < 2.0 { 3 } else { 2 }),
            Unit::Days => short(value, 1),
            Unit::Won => short(value / 1000.0, 1),
            Unit::Hour => format!("{value:.0}:00"),
            Unit::Rank => format!("{value:.0}"),
        }
    }
}

/// With so many digits after the point at the most.
pub(super) fn short(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Rounded, as 66,500.
fn with_commas(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Pass => "PASS",
            Status::Brief => "BRIEF",
            Status::Out => "OUT",
            Status::NotComputed => "-",
        })
    }
}

impl Report {
    /// `N of 18 ...`: the whole in a sentence.
    pub(super) fn verdict(&self) -> String {
        let mut verdict = format!(
            "{} of {} in the band of real data (PASS), {} set by the brief (BRIEF), {} OUT",
            self.pass,
            self.statistics.len(),
            self.brief,
            self.out
        );
        if self.not_computed > 0 {
            _ = write!(verdict, ", {} not computed (-)", self.not_computed);
        }
        verdict
    }

    /// Which orders it speaks of.
    pub(super) fn subject(&self) -> String {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => format!(
                "{} orders of {} customers, {from} to {to}",
                with_commas(self.orders as f64),
                with_commas(self.customers as f64)
            ),
            _ => "no orders yet".into(),
        }
    }

    /// Writes it for people, 100 columns wide.
    pub(super) fn write(&self, out: &mut dyn Write, colour: bool) -> Result<()> {
        let paint = |style: &str, text: &str| paint(colour, style, text);
        writeln!(out, "{}\n", self.subject())?;
        let title = format!(
            "{:<4} {:<34} {:>9}  {:<15} {:<REAL$} {}",
            "id", "what", "value", "accept", "real data says", "status"
        );
        writeln!(out, "{}", paint("1", &title))?;
        for Judged { id, name, status, parts } in &self.statistics {
            let painted = paint(status.style(), &status.to_string());
            writeln!(out, "{} {name:<WHAT_TO_STATUS$}{painted}", paint("1", &format!("{id:<4}")))?;
            for part in parts {
                let (value, accept) = (format!("{:>9}", part.value()), part.accept());
                let value = match part.accepted {
                    Some(false) => paint(Status::Out.style(), &value),
                    _ => value,
                };
                let mut lines = wrapped(&part.real(), REAL).into_iter();
                let first = lines.next().unwrap_or_default();
                let mark = match part.accepted {
                    Some(false) => " out",
                    None if part.accept.is_some() => " -",
                    _ => "",
                };
                let line =
                    format!("       {:<32} {value}  {accept:<15} {first:<REAL$}{mark}", part.what);
                writeln!(out, "{}", line.trim_end())?;
                for more in lines {
                    writeln!(out, "{:66}{more}", "")?;
                }
            }
            let mut reasons: Vec<&String> =
                parts.iter().filter_map(|part| part.reason.as_ref()).collect();
            reasons.dedup();
            for reason in reasons {
                writeln!(out, "{}", paint("2", &format!("       not computed: {reason}")))?;
            }
        }
        writeln!(out, "\n{}\n", paint("1", &self.verdict()))?;
        for SourceLine { name, what, .. } in &self.sources {
            let mut name = *name;
            for line in wrapped(what, COLUMNS - 10) {
                writeln!(out, "{name:<9} {line}")?;
                name = "";
            }
        }
        Ok(())
    }
}

/// A text in one of the terminal's styles.
pub(super) fn paint(colour: bool, style: &str, text: &str) -> String {
    if colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
}

impl Status {
    /// The terminal's codes for its colour.
    pub(super) fn style(self) -> &'static str {
        match self {
            Status::Pass => "32",
            Status::Brief => "36",
            Status::Out => "1;31",
            Status::NotComputed => "2",
        }
    }
}

/// The lines of a text that is broken between words.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.into_iter().map(|line| line.replace(NO_BREAK, " ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_are_clear() {
        let text = |unit: Unit, value| unit.write(value);
        assert_eq!(text(Unit::Share, 0.505), "50.5 %");
        assert_eq!(text(Unit::Share, 1.0), "100 %");
        assert_eq!(text(Unit::Lift, -0.005), "-0.5 %");
        assert_eq!(text(Unit::Lift, 0.3), "+30 %");
        assert_eq!(text(Unit::Number, 0.7771), "0.777");
        assert_eq!(text(Unit::Number, 14.25), "14.25");
        assert_eq!(text(Unit::Days, 1.92), "1.9 d");
        assert_eq!(text(Unit::Hour, 21.0), "21:00");
        assert_eq!(text(Unit::Won, 66_500.0), "66.5 k");
        assert_eq!(with_commas(2_171_122.0), "2,171,122");
        assert_eq!(with_commas(122.0), "122");
    }

    #[test]
    fn lines_break_between_values_only() {
        let text = format!("CDNOW{NO_BREAK}0.5, UCI{NO_BREAK}0.6");
        assert_eq!(wrapped(&text, 14), ["CDNOW 0.5,", "UCI 0.6"]);
        assert_eq!(wrapped(&text, 18), ["CDNOW 0.5, UCI 0.6"]);
    }
}
