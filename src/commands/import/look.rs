//! What will become of records, told before the analytics tell it: valid, duplicate, conflict or dead.
//!
//! A byte of each event's content is kept for its id, as the analytics do, of the input and of what the
//! log holds already of its topics. Ids are dense mostly: a byte an event then, 70 where each is alone.

use std::collections::HashMap;

use anyhow::Result;
use dataflows::ledger::Reach;
use dataflows::model::codec::{self, Reason};
use dataflows::model::{Event, Millis, Topic};
use xxhash_rust::xxh3::xxh3_64;

use super::form::Line;
use super::input::{Input, LINE_BYTES_MAX};
use crate::log::{Batch, Log};

/// Refused lines, dead records and conflicts that are listed; the others are only counted.
pub(super) const LISTED_MAX: usize = 100;

/// A line as it was read: what it puts into the log and what that says, or what is wrong with its form.
pub(super) type Read<'a> = Result<(Line<'a>, Result<Event, Reason>), String>;

/// Reads the line that an input has come to.
pub(super) fn read(input: &Input) -> Read<'_> {
    if input.is_too_long() {
        return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
    }
    let line = Line::parse(input.line())?;
    let event = codec::decode(line.topic, Some(line.value.get().as_bytes()));
    Ok((line, event))
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Records.
    pub(super) records: u64,
    /// Of these, valid events and heartbeats that are no duplicates.
    pub(super) valid: u64,
    /// Of these, valid events that say what an earlier one of the topic with their `event_id` says, in
    /// the input or in the log.
    pub(super) duplicate: u64,
    /// Of these, valid events that say something else than the earlier one: dead letters.
    pub(super) conflict: Listed,
    /// Of these, those that are no events: dead letters.
    pub(super) dead: Listed,
    /// Lines that were not of the form.
    pub(super) refused: Listed,
}

impl Counts {
    /// All that will not count.
    pub(super) fn rejects(&self) -> u64 {
        self.refused.count + self.dead.count + self.conflict.count
    }
}

/// How many there are; the first of them, with their line numbers (from 1) and reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) count: u64,
    pub(super) first: Vec<(u64, String)>,
}

impl Listed {
    fn add(&mut self, line: u64, why: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < LISTED_MAX {
            self.first.push((line, why()));
        }
    }
}

/// Looks at line after line.
pub(super) struct Look<'a> {
    log: &'a dyn Log,
    /// What the log held before.
    held: Extents,
    of_log: [Option<Seen>; Topic::ALL.len()],
    of_input: [Seen; Topic::ALL.len()],
    /// How far the times of the input go.
    pub(super) reach: Option<Reach>,
    /// Of a valid order event.
    pub(super) newest: Option<Millis>,
    pub(super) counts: Counts,
}

impl<'a> Look<'a> {
    /// Looks at what comes beside what a log holds.
    pub(super) fn new(log: &'a dyn Log) -> Result<Look<'a>> {
        Ok(Look {
            log,
            held: Extents::of(log)?,
            of_log: Default::default(),
            of_input: Default::default(),
            reach: None,
            newest: None,
            counts: Counts::default(),
        })
    }

    /// Looks at a line; says what is in conflict with what, if that is one.
    pub(super) fn at(&mut self, number: u64, read: &Read<'_>) -> Result<Option<String>> {
        let (topic, event) = match read {
            Ok((line, event)) => (line.topic, event),
            Err(problem) => {
                self.counts.refused.add(number, || problem.clone());
                return Ok(None);
            }
        };
        self.counts.records += 1;
        let event = match event {
            Ok(event) => event,
            Err(reason) => {
                self.counts.dead.add(number, || reason.to_string());
                return Ok(None);
            }
        };
        if topic == Topic::Orders {
            self.reach = Some(Reach::after(self.reach, number, event.at(), event.customer()));
        }
        if matches!(event, Event::Order(_)) {
            self.newest = self.newest.max(Some(event.at()));
        }
        let Some(id) = event.event_id() else {
            self.counts.valid += 1;
            return Ok(None);
        };
        let (print, place) = (print(event), topic as usize);
        if self.of_log[place].is_none() {
            self.of_log[place] = Some(self.held.ids(self.log, topic)?);
        }
        let in_log = self.of_log[place].as_ref().and_then(|seen| seen.get(id));
        let earlier = in_log.or_else(|| self.of_input[place].add(id, print));
        match earlier {
            None => self.counts.valid += 1,
            Some(earlier) if earlier == print => self.counts.duplicate += 1,
            Some(_) => {
                let place = if in_log.is_some() { "log" } else { "input" };
                let topic = topic.name();
                let what =
                    format!("event {id} of {topic} is in the {place} already with other content");
                self.counts.conflict.add(number, || what.clone());
                return Ok(Some(what));
            }
        }
        Ok(None)
    }

    /// The greatest time that the orders had reached which the log held before.
    pub(super) fn reached_before(&self) -> Result<Option<Millis>> {
        let mut reached = None;
        self.held.each(self.log, Topic::Orders, |reach: &mut Option<Reach>, offset, event| {
            *reach = Some(Reach::after(*reach, offset, event.at(), event.customer()));
            reached = reached.max(reach.and_then(|reach| reach.reached));
        })?;
        Ok(reached)
    }
}

/// The offsets that a log holds: topic, partition, first, and behind the last.
struct Extents(Vec<(Topic, u32, u64, u64)>);

impl Extents {
    fn of(log: &dyn Log) -> Result<Extents> {
        let mut extents = Vec::new();
        for topic in Topic::ALL {
            for partition in 0..log.partitions(topic) {
                let (start, end) = (log.start(topic, partition)?, log.end(topic, partition)?);
                extents.push((topic, partition, start, end));
            }
        }
        Ok(Extents(extents))
    }

    /// The ids of a topic's events.
    fn ids(&self, log: &dyn Log, topic: Topic) -> Result<Seen> {
        let mut seen = Seen::default();
        self.each(log, topic, |(): &mut (), _, event| {
            if let Some(id) = event.event_id() {
                seen.add(id, print(&event));
            }
        })?;
        Ok(seen)
    }

    /// Goes through the events of a topic, with something that each partition begins anew.
    fn each<S: Default>(
        &self,
        log: &dyn Log,
        topic: Topic,
        mut tell: impl FnMut(&mut S, u64, Event),
    ) -> Result<()> {
        let mut batch = Batch::default();
        for &(_, partition, start, end) in self.0.iter().filter(|extent| extent.0 == topic) {
            let (mut state, mut reader) = (S::default(), log.reader(topic, partition, start)?);
            while reader.position() < end {
                batch.clear();
                reader.wait(&mut batch, 1_000)?;
                for record in batch.iter().filter(|record| record.offset < end) {
                    if let Ok(event) = codec::decode(topic, record.value) {
                        tell(&mut state, record.offset, event);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A byte of an event's content, never 0: two contents have the same one with a chance of 1 in 255.
fn print(event: &Event) -> u8 {
    let mut content = Vec::with_capacity(512);
    event.write(&mut content);
    (xxh3_64(&content) % 255) as u8 + 1
}

/// The event ids that were seen, with the byte of each: 64 neighbours share an entry.
#[derive(Default)]
struct Seen(HashMap<u64, [u8; 64]>);

impl Seen {
    fn get(&self, id: u64) -> Option<u8> {
        let print = self.0.get(&(id / 64))?[(id % 64) as usize];
        (print != 0).then_some(print)
    }

    /// Adds an id, unless it is there: then its byte.
    fn add(&mut self, id: u64, print: u8) -> Option<u8> {
        let prints = self.0.entry(id / 64).or_insert([0; 64]);
        match &mut prints[(id % 64) as usize] {
            0 => {
                prints[(id % 64) as usize] = print;
                None
            }
            earlier => Some(*earlier),
        }
    }
}
