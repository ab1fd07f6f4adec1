//! What a record costs on its way in and out: its JSON read and written, by topic.
//!
//! `cargo bench --bench records`. The records are those of a market's 30 days; the figure is the least of
//! ten rounds.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use dataflows::market::Settings;
use dataflows::model::codec;
use dataflows::model::time::DAY;
use dataflows::model::{Event, Topic};
use marketday::market::cache::Cache;
use marketday::market::{self, Handle, Speed};
use marketday::platform::clock::Stopwatch;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: u32 = 10;

#[derive(Deserialize)]
struct Line<'a> {
    topic: Topic,
    #[serde(borrow)]
    value: &'a RawValue,
}

fn main() -> Result<()> {
    let settings = Settings::new(1, 1_790_000_000_000, 30 * DAY);
    let mut lines = Vec::new();
    market::write_lines(
        &settings,
        1,
        true,
        &Handle::new(Cache::default(), Speed::Max),
        &mut lines,
    )?;
    let lines = str::from_utf8(&lines)?.lines().map(serde_json::from_str);
    let lines: Vec<Line<'_>> = lines.collect::<Result<_, _>>()?;
    let out = &mut std::io::stdout().lock();
    writeln!(
        out,
        "{:<10}{:>10}{:>10}{:>16}{:>16}",
        "topic", "records", "bytes", "read ns", "written ns"
    )?;
    for topic in Topic::ALL {
        let values = lines.iter().filter(|line| line.topic == topic);
        let values: Vec<&[u8]> = values.map(|line| line.value.get().as_bytes()).collect();
        let bytes: usize = values.iter().map(|value| value.len()).sum();
        let read = || -> Vec<Event> {
            values.iter().filter_map(|value| codec::decode(topic, Some(value)).ok()).collect()
        };
        let events = read();
        assert_eq!(events.len(), values.len());
        let mut written = Vec::with_capacity(bytes);
        let reading = least(|| drop(read()))?;
        let writing = least(|| {
            written.clear();
            for event in &events {
                event.write(&mut written);
            }
        })?;
        let each = |time: Duration| time.as_nanos() / values.len() as u128;
        let (read, wrote) = (each(reading), each(writing));
        let (name, count) = (topic.name(), values.len());
        writeln!(out, "{name:<10}{count:>10}{:>10}{read:>16}{wrote:>16}", bytes / count)?;
    }
    Ok(())
}

fn least(mut work: impl FnMut()) -> Result<Duration> {
    let rounds = (0..ROUNDS).map(|_| {
        let round = Stopwatch::start();
        work();
        round.elapsed()
    });
    rounds.min().context("there are rounds")
}
