//! Faults on request: late, doubled, shuffled and damaged records on the way to the log, each labelled.
//!
//! Each record, and each copy of one, has a market time at which it is due, never before its own.
//! It waits until all workers are that far, so that nothing that is due before it can still come.
//! What is delayed at the end of a history waits on when the market goes live.
//!
//! Invariant: each partition gets its records in the order in which they are due, which follows from
//! the seed, the faults, the records and whether a run ended with the history, and from nothing else
//! (`tests/faults.rs`).

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::{SILENCE, Settings};
use crate::model::time::{DAY, SECOND, Span, TIME_END};
use crate::model::{Millis, OrderId, OrderKind, Topic};

/// What is done to a market's records, as the flag `--dirt` says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Faults {
    /// The share of the records that is held back, and for how long at most.
    late: Option<(Share, Span)>,
    /// The share of the records of which a second copy comes later.
    duplicate: Option<Share>,
    /// By so much at most the other records are delayed, each by a time of its own.
    shuffle: Option<Span>,
    /// The share of the records of which a damaged copy comes as well.
    corrupt: Option<Share>,
}

/// A share in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share(u32);

/// What is delayed waits in memory and in each snapshot.
const SPAN_MAX: Millis = 365 * DAY;

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        let mut faults = Faults::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let again = match name {
                "late" => {
                    let (share, span) = value.split_once(':').ok_or_else(|| {
                        format!(
                            "late={value} lacks a share or a span: it is both, as in late=2%:30d"
                        )
                    })?;
                    faults.late.replace((share.parse()?, delay(span)?)).is_some()
                }
                "duplicate" => faults.duplicate.replace(value.parse()?).is_some(),
                "shuffle" => faults.shuffle.replace(delay(value)?).is_some(),
                "corrupt" => faults.corrupt.replace(value.parse()?).is_some(),
                _ => {
                    return Err(format!(
                        "there is no dirt {name:?}, only late, duplicate, shuffle and corrupt"
                    ));
                }
            };
            if again {
                return Err(format!("{name} is given twice"));
            }
        }
        Ok(faults)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let percent = text.strip_suffix('%').and_then(|text| text.parse::<f64>().ok());
        let percent = percent.filter(|percent| (0.000_1..=100.0).contains(percent));
        percent.map(|percent| Share((percent * 1e4).round() as u32)).ok_or_else(|| {
            format!("{text:?} is no share: it lies above 0% (at least 0.0001%), up to 100%")
        })
    }
}

/// A span that a record may be held back for.
fn delay(text: &str) -> Result<Span, String> {
    let span = text.parse().ok().filter(|Span(span)| (SECOND..=SPAN_MAX).contains(span));
    span.ok_or_else(|| {
        format!("{text:?} is no span of time: it is 60s, 15m, 12h or 30d, 365d at the most")
    })
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.late.map(|(share, span)| format!("late={share}:{span}")),
            self.duplicate.map(|share| format!("duplicate={share}")),
            self.shuffle.map(|span| format!("shuffle={span}")),
            self.corrupt.map(|share| format!("corrupt={share}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(","))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 1e4)
    }
}

impl From<Faults> for String {
    fn from(faults: Faults) -> String {
        faults.to_string()
    }
}

impl TryFrom<String> for Faults {
    type Error = String;

    fn try_from(text: String) -> Result<Faults, String> {
        text.parse()
    }
}

/// The random numbers of one record: one for each purpose, whatever the flag asks for.
struct Draws {
    seed: u64,
    topic: Topic,
    event_id: u64,
}

#[derive(Clone, Copy)]
enum Purpose {
    Late,
    LateBy,
    ShuffleBy,
    Duplicate,
    DuplicateBy,
    Elsewhere,
    Corrupt,
    CorruptBy,
    Damage,
}

impl Draws {
    fn number(&self, purpose: Purpose) -> u64 {
        let words = [self.seed, self.topic as u64, self.event_id, purpose as u64];
        let mut name = [0; 32];
        for (bytes, word) in name.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        xxh3_64(&name)
    }

    fn hits(&self, purpose: Purpose, share: Share) -> bool {
        self.number(purpose) % 1_000_000 < u64::from(share.0)
    }

    /// A time above 0 and up to a span.
    fn up_to(&self, purpose: Purpose, span: Millis) -> Millis {
        1 + (self.number(purpose) % span as u64) as Millis
    }
}

/// When and where a record goes into the log: the first of all that wait goes first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Due {
    due: Millis,
    topic: Topic,
    partition: u32,
    at: Millis,
    event_id: Option<u64>,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Form {
    /// The record itself.
    Own,
    /// The record itself, delayed.
    Late,
    /// A second copy of it.
    Duplicate,
    /// A copy of it that is no event any more.
    Damaged,
}

/// A record that waits.
#[derive(Clone, Serialize, Deserialize)]
struct Waiting {
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    /// Where it would be without faults.
    home: u32,
    order: Option<(OrderKind, OrderId)>,
    damage: Option<String>,
}

/// How far a partition is.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Progress {
    /// Records released.
    records: u64,
    /// The newest of them by its own time.
    newest: Option<(Millis, Option<u64>)>,
}

/// What is delayed, and how far each partition is: what a snapshot keeps of the faults.
#[derive(Clone, Serialize, Deserialize)]
pub struct Delayed {
    waiting: BTreeMap<Due, Waiting>,
    /// By topic and partition.
    progress: Vec<Vec<Progress>>,
}

/// A record on its way to the log.
pub struct Record<'a> {
    /// Its topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: u32,
    /// When it happened.
    pub at: Millis,
    /// Its id; a heartbeat has none.
    pub event_id: Option<u64>,
    /// What it does to which order.
    pub order: Option<(OrderKind, OrderId)>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value: an event as JSON.
    pub value: &'a [u8],
}

/// A record that is due, and what was done to it.
pub struct Released {
    /// Its topic.
    pub topic: Topic,
    /// The partition that it goes to.
    pub partition: u32,
    /// When it happened.
    pub at: Millis,
    /// Its id.
    pub event_id: Option<u64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Vec<u8>,
    /// A label for each fault.
    pub labels: Vec<Label>,
}

/// What was done to a record of the log.
#[derive(Clone, Debug, Serialize)]
pub struct Label {
    kind: &'static str,
    topic: Topic,
    partition: u32,
    /// The number of records before it there: in the embedded log its offset.
    record: u64,
    event_id: Option<u64>,
    at: Millis,
    /// Market time to which it was delayed.
    due: Millis,
    /// The partition of which it is a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

/// The stage that a market's records go through on their way to the log.
pub struct FaultStage {
    faults: Faults,
    seed: u64,
    partitions: [u32; Topic::ALL.len()],
    /// Market time at which the history ends.
    start: Millis,
    delayed: Delayed,
    /// Orders whose placing waits.
    away: HashSet<OrderId>,
}

impl FaultStage {
    /// The stage of a new market, or as a snapshot has it.
    pub fn new(faults: Faults, settings: &Settings, delayed: Option<Delayed>) -> FaultStage {
        let delayed = delayed.unwrap_or_else(|| Delayed {
            waiting: BTreeMap::new(),
            progress: settings
                .partitions
                .map(|partitions| vec![Progress::default(); partitions as usize])
                .into(),
        });
        let orders = delayed.waiting.values().filter_map(|it| it.order);
        let placed = orders.filter(|(kind, _)| *kind == OrderKind::Placed);
        FaultStage {
            faults,
            seed: settings.seed,
            partitions: settings.partitions,
            start: settings.start,
            away: placed.map(|(_, order_id)| order_id).collect(),
            delayed,
        }
    }

    /// What is delayed.
    pub fn delayed(&self) -> &Delayed {
        &self.delayed
    }

    /// Has a record wait until it is due, and copies of it as the faults want.
    pub fn hold(&mut self, record: &Record<'_>) {
        let Record { topic, partition, at, event_id, order, key, value } = *record;
        let waiting = |value: &[u8]| {
            let (key, value) = (key.map(<[u8]>::to_vec), value.to_vec());
            Waiting { key, value, home: partition, order: None, damage: None }
        };
        if let Some((OrderKind::Placed, order_id)) = order {
            self.away.insert(order_id);
        }
        let mut itself = Due { due: at, topic, partition, at, event_id, form: Form::Own };
        // A heartbeat has no id to draw by, and keeps its time.
        if let Some(event_id) = event_id {
            let Faults { late, duplicate, shuffle, corrupt } = self.faults;
            let draws = Draws { seed: self.seed, topic, event_id };
            if let Some((_, span)) = late.filter(|(share, _)| draws.hits(Purpose::Late, *share)) {
                itself.due += draws.up_to(Purpose::LateBy, span.0);
                itself.form = Form::Late;
            } else if let Some(span) = shuffle {
                itself.due += draws.up_to(Purpose::ShuffleBy, span.0);
            }
            if duplicate.is_some_and(|share| draws.hits(Purpose::Duplicate, share)) {
                let mut again = Due { form: Form::Duplicate, ..itself.clone() };
                again.due += draws.up_to(Purpose::DuplicateBy, SILENCE);
                let others = u64::from(self.partitions[topic as usize]) - 1;
                let number = draws.number(Purpose::Elsewhere);
                if others > 0 && number.is_multiple_of(2) {
                    let step = 1 + number / 2 % others;
                    again.partition = ((u64::from(partition) + step) % (others + 1)) as u32;
                    // By then that partition has a time as new as this one of its own.
                    again.due += SILENCE;
                }
                self.delayed.waiting.insert(again, waiting(value));
            }
            if corrupt.is_some_and(|share| draws.hits(Purpose::Corrupt, share)) {
                let due = at + draws.up_to(Purpose::CorruptBy, SILENCE);
                let damaged = Due { due, form: Form::Damaged, ..itself.clone() };
                let (value, damage) = damage(topic, value, draws.number(Purpose::Damage));
                let damage = Some(damage);
                self.delayed.waiting.insert(damaged, Waiting { damage, ..waiting(&value) });
            }
        }
        self.delayed.waiting.insert(itself, Waiting { order, ..waiting(value) });
    }

    /// The next record that is due at `done`, up to which all workers are.
    pub fn due(&mut self, done: Millis) -> Option<Released> {
        let first = self.delayed.waiting.first_entry().filter(|first| first.key().due <= done)?;
        let (due, record) = first.remove_entry();
        Some(self.release(&due, record))
    }

    /// All that waits, at the end of a history that nothing follows.
    pub fn rest(&mut self) -> Vec<Released> {
        let waiting = std::mem::take(&mut self.delayed.waiting).into_iter();
        let release = |(mut due, record): (Due, Waiting)| {
            // Elsewhere it might be newer than all that is there, and `now` would move.
            if due.at > self.start - SILENCE {
                due.partition = record.home;
            }
            self.release(&due, record)
        };
        waiting.map(release).collect()
    }

    fn release(&mut self, due: &Due, record: Waiting) -> Released {
        let Due { due, topic, partition, at, event_id, form } = *due;
        let Waiting { key, value, home, order, damage } = record;
        let progress = &mut self.delayed.progress[topic as usize][partition as usize];
        let number = progress.records;
        progress.records += 1;
        let stamp = Some((at, event_id));
        let behind = stamp < progress.newest;
        if form != Form::Damaged {
            progress.newest = progress.newest.max(stamp);
        }
        let early = match order {
            Some((OrderKind::Placed, order_id)) => {
                self.away.remove(&order_id);
                false
            }
            Some((_, order_id)) => self.away.contains(&order_id),
            None => false,
        };
        let kind = match form {
            Form::Own => behind.then_some("shuffled"),
            Form::Late => Some("late"),
            Form::Duplicate => Some("duplicate"),
            Form::Damaged => Some("corrupt"),
        };
        let label = |kind| Label {
            kind,
            topic,
            partition,
            record: number,
            event_id,
            at,
            due,
            home: (form == Form::Duplicate).then_some(home),
            damage: damage.clone(),
        };
        let labels = kind.into_iter().chain(early.then_some("early")).map(label).collect();
        Released { topic, partition, at, event_id, key, value, labels }
    }
}

/// A damaged copy of an event's value, which is no event, and what was done to it.
fn damage(topic: Topic, value: &[u8], mut number: u64) -> (Vec<u8>, String) {
    let mut pick = |among: usize| {
        let picked = (number % among as u64) as usize;
        number /= among as u64;
        picked
    };
    let mut bytes = value.to_vec();
    let kind = pick(5);
    if kind == 0 {
        bytes.truncate(1 + pick(value.len() - 1));
        let damage = format!("cut off after {} bytes", bytes.len());
        return (bytes, damage);
    }
    if kind == 1 {
        let place = pick(value.len());
        bytes[place] = 0xff;
        return (bytes, format!("not UTF-8 at byte {place}"));
    }
    let mut fields: Map<String, Value> =
        serde_json::from_slice(value).expect("an event is an object");
    let (name, wrong) = if kind == 4 {
        let far = ("at", json!(TIME_END));
        let wrongs = match topic {
            Topic::Users => [far, ("birth_date", json!("1899-12-31")), ("user_id", json!(-1))],
            Topic::Products => [far, ("price", json!(1_000_000_001)), ("stock", json!(-1))],
            Topic::Orders => [far, ("lines", json!([])), ("event", json!("paid"))],
            Topic::Scenarios => [far, ("strength", json!(0)), ("action", json!("begin"))],
        };
        let (name, wrong) = &wrongs[pick(wrongs.len())];
        ((*name).to_owned(), wrong.clone())
    } else {
        let (name, right) = fields.iter().nth(pick(fields.len())).expect("it has fields");
        (name.clone(), if right.is_string() { json!(1) } else { json!("1") })
    };
    let mut damage = format!("`{name}` is {wrong}");
    if kind == 2 {
        fields.remove(&name);
        damage = format!("`{name}` is missing");
    } else {
        fields.insert(name, wrong);
    }
    (Value::Object(fields).to_string().into_bytes(), damage)
}
