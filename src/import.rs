//! Puts events from a file into the log, one JSON line an event.

use std::io::BufRead;

use anyhow::{Context, Result};
use dataflows::model::{Millis, Topic, partition_of};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::log::Log;
use crate::wire::{self, Words};

/// What an import did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Lines that are in the log now, whether their values are events or not.
    pub records: u64,
    /// Lines that are not of the form.
    pub refused: u64,
    /// The first of them: line number and why.
    pub refusals: Vec<(u64, String)>,
}

/// So many refused lines are told one by one.
const REFUSALS_MAX: usize = 20;

/// The log is made durable at every so many records.
const FLUSH_RECORDS: u64 = 100_000;

#[derive(Deserialize)]
struct Line<'a> {
    topic: Topic,
    #[serde(borrow)]
    key: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// Appends each line `{"topic":..,"key":..,"value":{..}}`, then tells every partition of orders
/// that nothing more will come before the newest valid `at`.
///
/// A value that is no event goes into the log all the same: the analytics make it a dead letter.
pub fn import(log: &dyn Log, mut input: impl BufRead) -> Result<Imported> {
    let mut writer = log.writer()?;
    let mut imported = Imported::default();
    let mut newest_at: Option<Millis> = None;
    let mut words = Words::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line).with_context(|| format!("reading line {number}"))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let parsed = match serde_json::from_slice::<Line<'_>>(&line) {
            Ok(parsed) => parsed,
            Err(error) => {
                imported.refused += 1;
                if imported.refusals.len() < REFUSALS_MAX {
                    imported.refusals.push((number, error.to_string()));
                }
                continue;
            }
        };
        let value = parsed.value.get().as_bytes();
        let at = wire::decode(parsed.topic, Some(value), &mut words).ok().map(|event| event.at());
        newest_at = newest_at.max(at);
        let key = parsed.key.as_deref().map(str::as_bytes);
        let partitions = log.partitions(parsed.topic);
        let partition = key.map_or(0, |key| partition_of(key, partitions));
        writer.append(parsed.topic, partition, at.unwrap_or(0), key, value)?;
        imported.records += 1;
        if imported.records.is_multiple_of(FLUSH_RECORDS) {
            writer.flush()?;
        }
    }
    if let Some(at) = newest_at {
        let mut heartbeat = Vec::new();
        wire::encode_heartbeat(at, &mut heartbeat);
        for partition in 0..log.partitions(Topic::Orders) {
            writer.append(Topic::Orders, partition, at, None, &heartbeat)?;
        }
    }
    writer.flush()?;
    Ok(imported)
}
