//! What the fuzz targets share: valid inputs, damaged, and a small market that makes some of them.
//!
//! A target is a test beside the decoder that it is about, so that it sees what is private there. As
//! a test it runs a number of inputs that is always the same; `cargo bolero test` runs the same target
//! for as long as one likes, led by what the inputs cover. Of bytes drawn at random nothing comes past
//! a parser, so what is drawn is the damage: an input is a valid one of which bytes, numbers, fields
//! and lines were changed, left out, doubled or put elsewhere.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use bolero::{Driver, ValueGenerator};
use dataflows::market::{Profile, Settings};
use dataflows::model::Millis;
use dataflows::model::time::{DAY, HOUR};

use crate::log::{Log, embedded};
use crate::market::{self, Handle, Speed, cache::Cache};

/// Runs so many damaged inputs through a target, which says whether one came past the decoder: of a
/// hundred some must, or nothing is tried but refusals.
macro_rules! fuzz {
    ($inputs:expr, $seeds:expr, $target:expr) => {{
        let target = $crate::fuzz::target($target);
        let past = std::sync::atomic::AtomicUsize::new(0);
        bolero::check!()
            .with_iterations($inputs)
            .with_test_time(std::time::Duration::MAX)
            .with_generator($crate::fuzz::Damaged::new($seeds))
            .for_each(|input| {
                let is_past = usize::from(target(input));
                past.fetch_add(is_past, std::sync::atomic::Ordering::Relaxed);
            });
        let past = past.into_inner();
        assert!(past * 20 >= $inputs, "only {past} came past the decoder");
    }};
}

pub(crate) use fuzz;

/// Tells the compiler what a target is.
pub(crate) fn target<T: Fn(&Input) -> bool>(target: T) -> T {
    target
}

/// An input, written as Rust writes bytes, so that a failure can be made a test.
#[derive(Clone)]
pub(crate) struct Input(pub(crate) Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// Valid inputs, damaged.
pub(crate) struct Damaged(Vec<Vec<u8>>);

/// No input is longer.
const BYTES_MAX: usize = 64 << 10;

/// Separates fields and lines.
const FIELDS: &[u8] = b"{}[],\n\0";

/// Separates words and numbers.
const WORDS: &[u8] = b"{}[],\n\0\"': =/";

/// What is put in the place of something else, or between.
#[rustfmt::skip]
const EXTREMES: &[&str] = &[
    "0", "-0", "1", "-1", "1.0", "0.0", "1e0", "1e-310", "1e300", "1e999", "NaN", "inf", "255", "65536",
    "4294967295", "4294967296", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "18446744073709551615", "18446744073709551616", "631151999999", "631152000000", "4102444799999",
    "4102444800000", "1000000", "1000001", "1000000000", "1000000000000", "10000d", "3653d", "0s", "1s",
    "", "null", "true", "false", "\"\"", "[]", "{}", "[", "{", "]", "}", ",", ":", "\"", "'", "''", "\\",
    "\\u0000", "\\ud800", "\\u0061", "\0", "\u{feff}", "\u{1}", "\u{7f}", "가", "\r\n", "\n", "\t", " ",
    "1900-02-29", "2000-02-29", "+262142-12-31", "-262143-01-01", "2099-12-31", "-", "+", ".", "%", "e",
    "now", "now-", "now-1M/M", "now/d", "/y", "100000", "$__all", "$__timeFrom()", "${tz:sqlstring}",
    "--", "; --", "*/", "placed", "cancelled", "refunded", "heartbeat", "start", "max",
];

impl Damaged {
    pub(crate) fn new<S: Into<Vec<u8>>>(seeds: impl IntoIterator<Item = S>) -> Damaged {
        Damaged(seeds.into_iter().map(Into::into).collect())
    }
}

impl ValueGenerator for Damaged {
    type Output = Input;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<Input> {
        let mut bytes = self.0[below(driver, self.0.len())?].clone();
        for _ in 0..below(driver, 8)? {
            self.damage(driver, &mut bytes)?;
            bytes.truncate(BYTES_MAX);
        }
        Some(Input(bytes))
    }
}

/// A number below another, or 0.
fn below<D: Driver>(driver: &mut D, end: usize) -> Option<usize> {
    Some(driver.produce::<u32>()? as usize % end.max(1))
}

/// What lies between two separators around a place.
fn token(bytes: &[u8], place: usize, separators: &[u8]) -> Range<usize> {
    let is = |byte: &u8| separators.contains(byte);
    let start = bytes[..place].iter().rposition(is).map_or(0, |at| at + 1);
    let end = bytes[place..].iter().position(is).map_or(bytes.len(), |at| place + at);
    start..end
}

impl Damaged {
    /// Damages in one way. It is drawn first and with one byte, as is the place with four.
    fn damage<D: Driver>(&self, driver: &mut D, bytes: &mut Vec<u8>) -> Option<()> {
        let way = driver.produce::<u8>()? % 14;
        let place = below(driver, bytes.len())?;
        if bytes.is_empty() {
            bytes.extend_from_slice(EXTREMES[below(driver, EXTREMES.len())?].as_bytes());
            return Some(());
        }
        match way {
            0 => bytes[place] ^= 1 << below(driver, 8)?,
            1 => bytes[place] = driver.produce()?,
            2 => {
                let end = bytes.len().min(place + 1 + below(driver, 32)?);
                bytes.drain(place..end);
            }
            3 => bytes.truncate(place),
            4 => {
                let end = bytes.len().min(place + 1 + below(driver, 64)?);
                let times = [1, 2, 10, 500][below(driver, 4)?];
                let again = bytes[place..end].repeat(times);
                bytes.splice(place..place, again);
            }
            5 => {
                let word = EXTREMES[below(driver, EXTREMES.len())?];
                bytes.splice(place..place, word.bytes());
            }
            // A number or a word becomes another one.
            6 | 7 => {
                let word = EXTREMES[below(driver, EXTREMES.len())?];
                bytes.splice(token(bytes, place, WORDS), word.bytes());
            }
            // A field or a line is left out, doubled, or another's.
            8 => {
                let Range { start, end } = token(bytes, place, FIELDS);
                bytes.drain(start..(end + 1).min(bytes.len()));
            }
            9 => {
                let Range { start, end } = token(bytes, place, FIELDS);
                let again = bytes[start..(end + 1).min(bytes.len())].to_vec();
                bytes.splice(start..start, again);
            }
            10 | 11 => {
                let separators = if way == 10 { FIELDS } else { WORDS };
                let other = &self.0[below(driver, self.0.len())?];
                let theirs = token(other, below(driver, other.len())?, separators);
                let theirs = other[theirs].to_vec();
                bytes.splice(token(bytes, place, separators), theirs);
            }
            12 => {
                let other = &self.0[below(driver, self.0.len())?];
                let from = below(driver, other.len())?;
                bytes.truncate(place);
                bytes.extend_from_slice(&other[from..]);
            }
            // A number in binary: one of 1, 2, 4 or 8 bytes becomes an extreme one.
            _ => {
                let width = 1 << below(driver, 4)?;
                let number = [0, 1, 0x7f, 1 << 16, 1 << 31, u64::MAX >> 1, u64::MAX - 7, u64::MAX];
                let number = number[below(driver, 8)?].to_le_bytes();
                for (byte, new) in bytes[place..].iter_mut().zip(&number[..width]) {
                    *byte = *new;
                }
            }
        }
        Some(())
    }
}

/// A directory in memory, where a flush costs nothing.
pub(crate) fn dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    dir.expect("a directory for the test")
}

/// The profile of a market so small that it lives a day in no time.
pub(crate) const SMALL: &str = "base = \"year\"\n\
    [customers]\ninitial = 60\nreach = 300.0\nready_delay = \"10m\"\nopening_delay = \"10m\"\n\
    [rhythm]\norders_a_month = 20.0\n\
    [products]\ninitial = 40\nlisted_a_day = 20.0\nlisted_more = 1.0\n";

/// 2026-11-30 in Seoul.
const START: Millis = 1_795_964_400_000;

/// The settings of a small market.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::new(1, START, DAY);
    settings.profile = Profile::read(SMALL).expect("it is valid");
    settings
}

/// What a small market does in a day, as lines of an import: the first and the last of them, and some
/// between.
pub(crate) fn lines() -> &'static [Vec<u8>] {
    static LINES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    LINES.get_or_init(|| {
        let (mut text, handle) = (Vec::new(), Handle::new(Cache::default(), Speed::Max));
        market::write_lines(&settings(), 1, true, &handle, &mut text).expect("it runs");
        let all: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        all.iter().step_by(all.len() / 40 + 1).chain(all.last()).map(|line| line.to_vec()).collect()
    })
}

/// A small market that has lived through some hours in a directory, and its log.
pub(crate) fn market(dir: &Path) -> std::sync::Arc<dyn Log> {
    let log = embedded::open(&dir.join("log")).expect("a new log");
    let options = market::Options {
        profile: Some(Profile::read(SMALL).expect("it is valid")),
        start: Some(START),
        history: Some(market::History::Days(1)),
        ..market::Options::default()
    };
    let mut settings = market::load_or_create(dir, &options, &*log).expect("a new market");
    settings.start = settings.origin + HOUR;
    let handle = Handle::new(Cache::default(), Speed::Max);
    market::run(dir, &*log, &settings, 1, true, &handle).expect("it runs");
    log
}
