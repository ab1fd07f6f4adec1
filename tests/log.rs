//! What every log promises, and what the embedded one does when it is killed or damaged.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use dataflows::model::Topic;
use marketday::log::embedded::{self, Damaged};
use marketday::log::{
    Batch, Log, OffsetNotHeld, Owner, Reader, Writer, kafka, newest_record, records_at,
};

use crate::support::brokers;

const ORDERS: Topic = Topic::Orders;

/// A record as the tests compare it.
type Owned = (u64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// The value of the n-th record of a test: lengths differ, so that misplaced borders show.
fn value(n: u64) -> Vec<u8> {
    n.to_string().repeat(1 + n as usize % 50).into_bytes()
}

fn read(log: &dyn Log, topic: Topic, partition: u32, offset: u64) -> Vec<Owned> {
    let end = log.end(topic, partition).unwrap();
    read_on(&mut *log.reader(topic, partition, offset).unwrap(), end)
}

/// Reads up to an offset.
fn read_on(reader: &mut dyn Reader, end: u64) -> Vec<Owned> {
    let mut batch = Batch::default();
    while reader.position() < end {
        reader.wait(&mut batch, 7).unwrap();
    }
    owned(&batch)
}

fn owned(batch: &Batch) -> Vec<Owned> {
    let own = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
    batch.iter().map(|r| (r.offset, r.timestamp, own(r.key), own(r.value))).collect()
}

/// A record's time, key and value.
type Content<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>);

/// Records without their offsets, of which not each has a record.
fn contents(records: &[Owned]) -> Vec<Content<'_>> {
    assert!(records.is_sorted_by(|a, b| a.0 < b.0), "offsets ascend");
    records.iter().map(|(_, at, key, value)| (*at, key.as_deref(), value.as_deref())).collect()
}

/// The time of a record.
const AT: i64 = 1_790_000_000_000;

/// The conformance suite; each call of `open` is another handle on the same log, empty at first.
fn conforms(open: &dyn Fn() -> Arc<dyn Log>) {
    let log = open();
    let other = open();
    assert!(!log.identity().is_empty());
    assert_eq!(log.identity(), other.identity());
    has_one_owner(&*log, &*other);
    for topic in Topic::ALL {
        assert_eq!(log.partitions(topic), if topic == Topic::Scenarios { 1 } else { 3 });
        for partition in 0..log.partitions(topic) {
            assert_eq!(log.start(topic, partition).unwrap(), 0);
            assert_eq!(log.end(topic, partition).unwrap(), 0);
            assert_eq!(read(&*log, topic, partition, 0), []);
            assert!(newest_record(&*log, topic, partition).unwrap().is_empty());
        }
    }
    assert!(log.reader(ORDERS, 3, 0).is_err(), "a partition that is not there");

    let mut follower = other.reader(ORDERS, 1, 0).unwrap();
    assert_eq!(follower.position(), 0);
    assert_eq!(follower.read(&mut Batch::default(), 100).unwrap(), 0);
    let mut heard = Vec::new();

    let mut writer = log.writer().unwrap();
    writer.flush().unwrap();
    let mut written: [Vec<Owned>; 3] = Default::default();
    for n in 0..3000 {
        let partition = n % 3;
        let key = (n % 2 == 0).then(|| n.to_string().into_bytes());
        let at = AT + n as i64;
        writer.append(ORDERS, partition as u32, at, key.as_deref(), &value(n)).unwrap();
        written[partition as usize].push((n, at, key, Some(value(n))));
        if n == 1499 {
            assert_eq!(log.end(ORDERS, 1).unwrap(), 0, "nothing is visible before the flush");
            assert_eq!(follower.read(&mut Batch::default(), 100).unwrap(), 0);
            writer.flush().unwrap();
            let end = other.end(ORDERS, 1).unwrap();
            assert!(end >= 500);
            heard = read_on(&mut *follower, end);
            assert_eq!(heard.len(), 500);
            assert_eq!(follower.position(), end, "at the end, it is the end");
        }
    }
    let end = other.end(ORDERS, 1).unwrap();
    assert_eq!(end, follower.position(), "nothing is visible before the flush");
    writer.flush().unwrap();
    writer.flush().unwrap();
    let mut some = Batch::default();
    assert!((1..=5).contains(&follower.wait(&mut some, 5).unwrap()), "at most so many");
    heard.extend(owned(&some));
    heard.extend(read_on(&mut *follower, other.end(ORDERS, 1).unwrap()));
    assert_eq!(contents(&heard), contents(&written[1]));

    // Empty and long parts, and a topic with one partition.
    let big = vec![b'x'; 900_000];
    for (key, value) in [(Some(&b""[..]), &b""[..]), (None, &big), (Some(&big[..9]), b"{}")] {
        writer.append(Topic::Scenarios, 0, AT, key, value).unwrap();
    }
    writer.flush().unwrap();
    let scenarios = read(&*log, Topic::Scenarios, 0, 0);
    let parts = contents(&scenarios).into_iter();
    let parts: Vec<_> = parts.map(|(_, k, v)| (k.map(<[u8]>::len), v.map(<[u8]>::len))).collect();
    assert_eq!(parts, [(Some(0), Some(0)), (None, Some(900_000)), (Some(9), Some(2))]);

    drop(writer);
    let mut writer = other.writer().expect("the first one is gone");
    let reopened = open();
    assert_eq!(reopened.identity(), log.identity());
    for (partition, written) in (0..).zip(&written) {
        let records = read(&*reopened, ORDERS, partition, 0);
        assert_eq!(contents(&records), contents(written));
        for from in [1, 499, 500, 999] {
            let rest = read(&*reopened, ORDERS, partition, records[from].0);
            assert_eq!(rest, records[from..], "from {from}");
        }
        let end = reopened.end(ORDERS, partition).unwrap();
        assert_eq!(read(&*reopened, ORDERS, partition, end), []);
        let newest = newest_record(&*reopened, ORDERS, partition).unwrap();
        assert_eq!(owned(&newest), records[999..]);
    }
    // What lies at an offset: of those behind the last record not each has one.
    let all = read(&*reopened, ORDERS, 2, 0);
    for at in [all[0].0, all[700].0, all[999].0] {
        let found = records_at(&*reopened, ORDERS, &[(1, 1 << 40), (2, at)]).unwrap();
        assert!(found[0].is_empty() && owned(&found[1])[0].0 == at);
    }
    for beyond in all[999].0 + 1..=reopened.end(ORDERS, 2).unwrap() {
        assert!(records_at(&*reopened, ORDERS, &[(2, beyond)]).unwrap()[0].is_empty());
    }
    // Several partitions at once, each from its own place.
    let from = [(2, 0), (0, reopened.end(ORDERS, 0).unwrap())];
    let mut readers = reopened.readers(ORDERS, &from).unwrap();
    let end = reopened.end(ORDERS, 2).unwrap();
    assert_eq!(contents(&read_on(&mut *readers[0], end)), contents(&written[2]));

    let wanted = end + 1;
    let error = reopened.reader(ORDERS, 2, wanted).err().expect("above the end");
    let gone = error.downcast_ref::<OffsetNotHeld>().expect("a caller can tell it");
    assert_eq!(*gone, OffsetNotHeld { topic: ORDERS, partition: 2, wanted, start: 0, end });

    for partition in 0..3 {
        writer.append(ORDERS, partition, AT + 5000, None, b"after").unwrap();
    }
    writer.flush().unwrap();
    for (reader, partition) in [(&mut follower, 1), (&mut readers[1], 0)] {
        let after = read_on(&mut **reader, other.end(ORDERS, partition).unwrap());
        assert_eq!(contents(&after), [(AT + 5000, None, Some(&b"after"[..]))], "it goes on");
    }

    one_can_write(&*log, writer, &*reopened);
}

/// Who writes it is said once, for all handles.
fn has_one_owner(log: &dyn Log, other: &dyn Log) {
    assert_eq!(log.owner().unwrap(), None);
    assert_eq!(log.claim(Owner::Import).unwrap(), Owner::Import);
    assert_eq!(other.claim(Owner::Market).unwrap(), Owner::Import);
    assert_eq!(other.owner().unwrap(), Some(Owner::Import));
}

/// Of two writers of a log only one can write.
fn one_can_write(log: &dyn Log, writer: Box<dyn Writer>, other: &dyn Log) {
    let before = read(log, ORDERS, 0, 0);
    let mut both = [Some(writer), other.writer().ok()];
    let mut failed = 0;
    for (writer, value) in both.iter_mut().zip([b"first", b"other"]) {
        failed += usize::from(writer.as_mut().is_none_or(|writer| {
            let appended = writer.append(ORDERS, 0, AT, None, value);
            appended.and_then(|()| writer.flush()).is_err()
        }));
    }
    assert_eq!(failed, 1);
    drop(both);
    assert_eq!(read(log, ORDERS, 0, 0).len(), before.len() + 1, "one record more");
}

#[test]
fn the_log_on_kafka_conforms() {
    let place =
        kafka::Place { brokers: brokers().to_owned(), topic_prefix: Some("conforms".into()) };
    assert!(kafka::open(place.clone(), false).is_err(), "who only looks makes no topics");
    conforms(&|| kafka::open(place.clone(), true).unwrap());
}

#[test]
fn the_embedded_log_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(&|| embedded::open(&dir.path().join("log")).unwrap());
}

/// A log with `records` in orders-0, durable.
fn filled(dir: &Path, records: u64) -> Arc<dyn Log> {
    let log = embedded::open(dir).unwrap();
    let mut writer = log.writer().unwrap();
    for n in 0..records {
        writer.append(ORDERS, 0, n as i64, None, &value(n)).unwrap();
    }
    writer.flush().unwrap();
    log
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("orders-0")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn append_to(path: &Path, bytes: &[u8]) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn logs_have_different_names() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, two] = dirs.each_ref().map(|dir| embedded::open(dir.path()).unwrap());
    assert_ne!(one.identity(), two.identity());
}

#[test]
fn a_directory_with_other_things_is_no_log() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    let error = embedded::open(dir.path()).err().expect("no log");
    assert!(format!("{error:#}").contains("thesis.txt"), "{error:#}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was put there");
}

#[test]
fn what_was_never_flushed_is_cut_off_by_the_next_writer() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 100);
    let segment = &segments(dir.path())[0];
    let whole = fs::read(segment).unwrap();
    // Once garbage, once whole records again, once a torn one; and a segment begun too early.
    for garbage in [&[0xff; 1000][..], &whole, &whole[..whole.len() - 1], &[0; 5]] {
        append_to(segment, garbage);
        fs::write(dir.path().join("orders-0").join(format!("{:020}.seg", 120)), &whole).unwrap();
        assert_eq!(read(&*log, ORDERS, 0, 0).len(), 100, "readers do not see it either");
        let mut follower = log.reader(ORDERS, 0, 100).unwrap();
        let mut writer = log.writer().unwrap();
        assert_eq!(fs::read(segment).unwrap(), whole);
        assert_eq!(segments(dir.path()).len(), 1);
        assert_eq!(log.end(ORDERS, 0).unwrap(), 100);
        writer.append(ORDERS, 0, 0, None, b"lost").unwrap();
        assert_eq!(follower.read(&mut Batch::default(), 1).unwrap(), 0);
    }
    // Likewise in a partition that never had a durable record.
    fs::create_dir(dir.path().join("orders-1")).unwrap();
    fs::write(dir.path().join("orders-1").join(format!("{:020}.seg", 0)), &whole).unwrap();
    let mut writer = log.writer().unwrap();
    writer.append(ORDERS, 1, 5, None, b"first").unwrap();
    writer.flush().unwrap();
    assert_eq!(read(&*log, ORDERS, 1, 0), [(0, 5, None, Some(b"first".to_vec()))]);
}

#[test]
fn each_damaged_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 20);
    let segment = &segments(dir.path())[0];
    let whole = fs::read(segment).unwrap();
    let first_bytes = whole.len() - (1..20).map(|n| 20 + value(n).len()).sum::<usize>();
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        fs::write(segment, &damaged).unwrap();
        let mut reader = log.reader(ORDERS, 0, 0).unwrap();
        let mut batch = Batch::default();
        for attempt in 0..2 {
            let error = reader.read(&mut batch, 100).expect_err("the damage");
            let found = error.downcast_ref::<Damaged>().expect("a caller can tell it");
            assert_eq!(found.path, *segment);
            assert!(found.position <= place as u64, "attempt {attempt}");
        }
        assert_eq!(batch.is_empty(), place < first_bytes, "all before it can be read");
    }
    fs::write(segment, &whole[..whole.len() - 1]).unwrap();
    let error = log.writer().err().expect("a record that was durable is not whole");
    assert!(error.downcast_ref::<Damaged>().is_some(), "{error:#}");
}

#[test]
fn one_damaged_entry_of_ends_does_no_harm_and_two_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 10);
    let mut writer = log.writer().unwrap();
    for _ in 0..2 {
        writer.append(ORDERS, 0, 0, None, b"x").unwrap();
        writer.flush().unwrap();
    }
    drop(writer);
    // orders-0 comes after three partitions of users and three of products.
    let path = dir.path().join("published");
    let mut bytes = fs::read(&path).unwrap();
    let newest = 6 * 128 + 64;
    bytes[newest + 8] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(log.end(ORDERS, 0).unwrap(), 11, "the end before it");
    drop(log.writer().unwrap());
    assert_eq!(log.end(ORDERS, 0).unwrap(), 12, "a writer repairs it");

    let path = dir.path().join("ends");
    bytes = fs::read(&path).unwrap();
    bytes[6 * 128..7 * 128].fill(0);
    fs::write(&path, &bytes).unwrap();
    let error = log.writer().err().expect("rather stop than cut off what may be durable");
    assert!(format!("{error:#}").contains("ends is damaged"), "{error:#}");
}

#[test]
fn segments_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let log = embedded::open(dir.path()).unwrap();
    let mut writer = log.writer().unwrap();
    let mut follower = log.reader(ORDERS, 0, 0).unwrap();
    let mut batch = Batch::default();
    let big = vec![b'x'; 1 << 20];
    for n in 0..200 {
        writer.append(ORDERS, 0, n, None, &big).unwrap();
        if n % 3 == 0 {
            writer.flush().unwrap();
            batch.clear();
            while follower.read(&mut batch, 10).unwrap() > 0 {}
            assert_eq!(batch.iter().last().unwrap().timestamp, n);
        }
    }
    writer.flush().unwrap();
    drop(writer);
    let paths = segments(dir.path());
    assert_eq!(paths.len(), 4);
    for offset in [0, 62, 63, 64, 125, 126, 127, 199] {
        batch.clear();
        log.reader(ORDERS, 0, offset).unwrap().read(&mut batch, 1).unwrap();
        assert_eq!(batch.get(0).timestamp, offset as i64);
    }
    drop(log.writer().unwrap());
    assert_eq!(log.end(ORDERS, 0).unwrap(), 200);

    fs::remove_file(&paths[0]).unwrap();
    let start = log.start(ORDERS, 0).unwrap();
    assert!((60..64).contains(&start), "the segments hold 63 such records: {start}");
    let error = log.reader(ORDERS, 0, 5).err().expect("it is gone");
    let gone = error.downcast_ref::<OffsetNotHeld>().unwrap();
    assert_eq!((gone.wanted, gone.start, gone.end), (5, start, 200));
    log.reader(ORDERS, 0, start).unwrap().read(&mut batch, 1).unwrap();

    fs::remove_file(&paths[2]).unwrap();
    let mut reader = log.reader(ORDERS, 0, start).unwrap();
    let error = (0..200).find_map(|_| reader.read(&mut batch, 1).err()).expect("a gap");
    assert!(error.downcast_ref::<OffsetNotHeld>().is_some(), "{error:#}");

    fs::remove_file(&paths[1]).unwrap();
    fs::remove_file(&paths[3]).unwrap();
    assert_eq!(log.start(ORDERS, 0).unwrap(), 200, "nothing is held any more");
    for offset in [0, 199, 200, 201] {
        let error = log.reader(ORDERS, 0, offset).err().expect("not held");
        assert!(error.downcast_ref::<OffsetNotHeld>().is_some(), "{error:#}");
    }
}

/// Names the directory in which this program, started by the test below, appends until killed.
const APPEND_IN: &str = "MARKETDAY_TEST_APPEND_IN";

#[test]
fn a_child_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(APPEND_IN) else { return };
    let log = embedded::open(Path::new(&dir)).unwrap();
    let mut writer = log.writer().unwrap();
    let mut out = std::io::stdout();
    let mut next = [0, 1, 2].map(|partition| log.end(ORDERS, partition).unwrap());
    loop {
        for _ in 0..1000 {
            for (partition, next) in (0..).zip(&mut next) {
                let n = *next;
                *next += 1;
                writer.append(ORDERS, partition, n as i64, None, &value(n)).unwrap();
            }
        }
        writer.flush().unwrap();
        writeln!(out, "flushed {}", next[0]).unwrap();
    }
}

#[test]
fn killed_while_appending_nothing_flushed_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let log = embedded::open(dir.path()).unwrap();
    let mut flushed = 0;
    for round in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "log::a_child_appends_until_it_is_killed"])
            .env(APPEND_IN, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        while acknowledged < 3 + round {
            let line = lines.next().unwrap().unwrap();
            acknowledged += u64::from(line.contains("flushed "));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What the child still said before it died counts too.
        for line in lines.map_while(Result::ok) {
            acknowledged += u64::from(line.starts_with("flushed ") && line.ends_with("000"));
        }
        flushed += acknowledged * 1000;
        for partition in 0..3 {
            let records = read(&*log, ORDERS, partition, 0);
            assert!(records.len() as u64 >= flushed, "{} < {flushed}", records.len());
            assert!(records.iter().enumerate().all(|(n, record)| {
                let n = n as u64;
                *record == (n, n as i64, None, Some(value(n)))
            }));
            // The next child goes on from what was kept.
            assert_eq!(records.len() as u64, log.end(ORDERS, partition).unwrap());
        }
    }
}
