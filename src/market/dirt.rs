//! Dirt on request: late, doubled, shuffled and damaged records on the way to the log, each
//! labelled.
//!
//! Each record, and each copy of one, has a market time at which it is due, never before its own.
//! It waits until all workers are that far, so that nothing that is due before it can still come.
//! What is held back at the end of a history waits on when the market goes live. When the run ends
//! with the history it is appended there, which `market.json` says from then on.
//!
//! Invariant: each partition of the log holds its records in the order in which they are due, which
//! follows from the seed, the flag, the records and whether a run ended with the history, and from
//! nothing else (`tests/dirt.rs`).

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    fs::{File, OpenOptions},
    io::{BufWriter, Seek, SeekFrom, Write},
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Context, Result, ensure};
use dataflows::{
    market::{SILENCE, Settings},
    model::{
        Millis, OrderId, OrderKind, Topic,
        time::{DAY, SECOND, Span, TIME_END},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Encoded, Events, ascend,
    held::{Held, Made},
    keep::{Keep, Kept},
    target::{Stamp, Target, by_partition},
};
use crate::crash;
use crate::log::{Log, Writer};

/// What is done to a market's records, as the flag `--dirt` says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Dirt {
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

/// What is held back waits in memory and in each snapshot.
const SPAN_MAX: Millis = 365 * DAY;

impl FromStr for Dirt {
    type Err = String;

    fn from_str(text: &str) -> Result<Dirt, String> {
        let mut dirt = Dirt::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let again = match name {
                "late" => {
                    let (share, span) = value.split_once(':').ok_or_else(|| {
                        format!(
                            "late={value} lacks a share or a span: it is both, as in late=2%:30d"
                        )
                    })?;
                    dirt.late.replace((share.parse()?, delay(span)?)).is_some()
                }
                "duplicate" => dirt.duplicate.replace(value.parse()?).is_some(),
                "shuffle" => dirt.shuffle.replace(delay(value)?).is_some(),
                "corrupt" => dirt.corrupt.replace(value.parse()?).is_some(),
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
        Ok(dirt)
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

impl fmt::Display for Dirt {
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

impl From<Dirt> for String {
    fn from(dirt: Dirt) -> String {
        dirt.to_string()
    }
}

impl TryFrom<String> for Dirt {
    type Error = String;

    fn try_from(text: String) -> Result<Dirt, String> {
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
    /// The record itself, held back.
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
    /// Where it would be without dirt.
    home: u32,
    order: Option<(OrderKind, OrderId)>,
    damage: Option<String>,
}

/// How far a partition is.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Section {
    /// Records appended, or found there.
    records: u64,
    /// The newest of them by its own time.
    newest: Option<Stamp>,
}

/// What the dirt has done so far, and what it holds back.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct HeldBack {
    waiting: BTreeMap<Due, Waiting>,
    /// By topic and partition.
    sections: Vec<Vec<Section>>,
    /// Length of the labels.
    labelled: u64,
}

/// The log, behind the dirt. What a partition holds already is skipped.
pub(super) struct Dirty<'a> {
    dirt: Dirt,
    settings: &'a Settings,
    keep: &'a Keep,
    writer: Box<dyn Writer>,
    labels: Labels,
    delivered: bool,
    /// Market time up to which the records of each worker are here.
    done: Vec<Millis>,
    /// The last record that the market has made, by topic and partition.
    last: Vec<Vec<Option<Stamp>>>,
    held: Held,
    held_until: Millis,
    back: HeldBack,
    /// Orders whose placing waits.
    away: HashSet<OrderId>,
}

impl<'a> Dirty<'a> {
    pub(super) fn open(
        dirt: Dirt,
        settings: &'a Settings,
        workers: usize,
        log: &dyn Log,
        writer: Box<dyn Writer>,
        keep: &'a Keep,
        kept: Option<&Kept>,
    ) -> Result<Self> {
        let last = kept.map(|kept| kept.last.clone());
        let last = last.unwrap_or_else(|| by_partition(log, |_, _| None));
        let back = kept.and_then(|kept| kept.dirty.clone()).unwrap_or_else(|| HeldBack {
            waiting: BTreeMap::new(),
            sections: by_partition(log, |_, _| Section::default()),
            labelled: 0,
        });
        let held = Held::open(log, kept.map(|kept| &kept.made), &last, false)?;
        let orders = last[Topic::Orders as usize].iter().flatten();
        let until = orders.map(|(at, _)| *at).fold(held.orders_until(), Millis::max);
        let placed = back.waiting.values().filter_map(|it| it.order);
        let away = placed.filter(|(kind, _)| *kind == OrderKind::Placed).map(|(_, id)| id);
        Ok(Dirty {
            dirt,
            settings,
            keep,
            writer,
            labels: Labels::open(keep.labels(), back.labelled)?,
            delivered: keep.delivered()?,
            done: vec![Millis::MIN; workers],
            last,
            held,
            held_until: until,
            away: away.collect(),
            back,
        })
    }

    /// Has a record wait until it is due, and copies of it as the dirt wants.
    fn hold(&mut self, record: &Encoded, key: Option<&[u8]>, value: &[u8]) {
        let Encoded { topic, partition, at, event_id, order, .. } = *record;
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
            let Dirt { late, duplicate, shuffle, corrupt } = self.dirt;
            let draws = Draws { seed: self.settings.seed, topic, event_id };
            if let Some((_, span)) = late.filter(|(share, _)| draws.hits(Purpose::Late, *share)) {
                itself.due += draws.up_to(Purpose::LateBy, span.0);
                itself.form = Form::Late;
            } else if let Some(span) = shuffle {
                itself.due += draws.up_to(Purpose::ShuffleBy, span.0);
            }
            if duplicate.is_some_and(|share| draws.hits(Purpose::Duplicate, share)) {
                let mut again = Due { form: Form::Duplicate, ..itself.clone() };
                again.due += draws.up_to(Purpose::DuplicateBy, SILENCE);
                let others = u64::from(self.settings.partitions[topic as usize]) - 1;
                let number = draws.number(Purpose::Elsewhere);
                if others > 0 && number.is_multiple_of(2) {
                    let step = 1 + number / 2 % others;
                    again.partition = ((u64::from(partition) + step) % (others + 1)) as u32;
                    // By then that partition has a time as new as this one of its own.
                    again.due += SILENCE;
                }
                self.back.waiting.insert(again, waiting(value));
            }
            if corrupt.is_some_and(|share| draws.hits(Purpose::Corrupt, share)) {
                let due = at + draws.up_to(Purpose::CorruptBy, SILENCE);
                let damaged = Due { due, form: Form::Damaged, ..itself.clone() };
                let (value, damage) = damage(topic, value, draws.number(Purpose::Damage));
                let damage = Some(damage);
                self.back.waiting.insert(damaged, Waiting { damage, ..waiting(&value) });
            }
        }
        self.back.waiting.insert(itself, Waiting { order, ..waiting(value) });
    }

    /// Appends a record, unless the log has it, and labels it if dirt has touched it.
    fn append(&mut self, due: &Due, record: &Waiting) -> Result<()> {
        let Due { topic, partition, at, event_id, form, .. } = *due;
        let place = (topic, partition, (at, event_id));
        if !self.held.has(place, record.key.as_deref(), &record.value)? {
            self.writer.append(topic, partition, at, record.key.as_deref(), &record.value)?;
        }
        let section = &mut self.back.sections[topic as usize][partition as usize];
        let number = section.records;
        section.records += 1;
        let stamp = Some((at, event_id));
        let behind = stamp < section.newest;
        if form != Form::Damaged {
            section.newest = section.newest.max(stamp);
        }
        let early = match record.order {
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
        for kind in kind.into_iter().chain(early.then_some("early")) {
            self.labels.write(&Label {
                kind,
                topic: topic.name(),
                partition,
                record: number,
                event_id,
                at,
                due: due.due,
                home: (form == Form::Duplicate).then_some(record.home),
                damage: record.damage.as_deref(),
            })?;
        }
        Ok(())
    }
}

impl Target for Dirty<'_> {
    fn take(&mut self, batch: Events) -> Result<()> {
        for (record, key, value) in batch.records() {
            ascend(&mut self.last, record)?;
            self.hold(record, key, value);
        }
        self.done[batch.worker] = batch.until;
        let done = self.done.iter().copied().min().unwrap_or(Millis::MIN);
        while let Some(first) = self.back.waiting.first_entry()
            && first.key().due <= done
        {
            let (due, record) = first.remove_entry();
            self.append(&due, &record)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.labels.flush()?;
        self.writer.flush()
    }

    fn last(&self) -> Vec<Vec<Option<Stamp>>> {
        self.last.clone()
    }

    fn made(&self) -> Vec<Vec<Made>> {
        self.held.made().clone()
    }

    fn held_until(&self) -> Millis {
        self.held_until
    }

    fn is_behind(&self) -> bool {
        self.held.is_behind()
    }

    fn end_history(&mut self, for_good: bool) -> Result<()> {
        // What a market has appended live came while these waited, and so they wait on.
        if for_good && !self.delivered && !self.held.is_behind() {
            self.keep.deliver()?;
            self.delivered = true;
        }
        if self.delivered {
            for (mut due, record) in std::mem::take(&mut self.back.waiting) {
                // Elsewhere it might be newer than all that is there, and `now` would move.
                if due.at > self.settings.start - SILENCE {
                    due.partition = record.home;
                }
                self.append(&due, &record)?;
            }
            crash::point("delivering");
        }
        Ok(())
    }

    fn dirty(&mut self) -> Result<Option<HeldBack>> {
        crash::point("keeping");
        self.back.labelled = self.labels.sync()?;
        Ok(Some(self.back.clone()))
    }
}

/// The side file: what is in it follows from what was appended, so a snapshot keeps its length, and
/// what comes behind is made again.
struct Labels {
    path: PathBuf,
    file: BufWriter<File>,
}

/// A line of it.
#[derive(Serialize)]
struct Label<'a> {
    kind: &'a str,
    topic: &'a str,
    partition: u32,
    /// The number of records before it there: in the embedded log its offset.
    record: u64,
    event_id: Option<u64>,
    at: Millis,
    /// Market time to which it was held back.
    due: Millis,
    /// The partition of which it is a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<&'a str>,
}

impl Labels {
    fn open(path: PathBuf, length: u64) -> Result<Labels> {
        let opening = || format!("opening {}", path.display());
        let options = &mut OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&path);
        let mut file = file.with_context(opening)?;
        let held = file.metadata().with_context(opening)?.len();
        ensure!(
            held >= length,
            "{} has lost labels: it has {held} bytes, and the market's snapshot knows of {length}; \
             begin a new market in another directory",
            path.display()
        );
        file.set_len(length).with_context(opening)?;
        file.seek(SeekFrom::End(0)).with_context(opening)?;
        Ok(Labels { file: BufWriter::new(file), path })
    }

    fn writing(&self) -> String {
        format!("writing {}", self.path.display())
    }

    fn write(&mut self, label: &Label<'_>) -> Result<()> {
        let mut line = serde_json::to_vec(label)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| self.writing())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush().with_context(|| self.writing())
    }

    /// Makes them durable, and says how long they are.
    fn sync(&mut self) -> Result<u64> {
        self.flush()?;
        self.file.get_ref().sync_data().with_context(|| self.writing())?;
        self.file.stream_position().with_context(|| self.writing())
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
