//! The program over three real brokers.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use dataflows::model::Topic;
use marketday::log::{Log, Writer};
use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use rustix::process::Signal;

use crate::support::{
    self, PausedBroker, Redis, Running, brokers, command, connect, database_url, fresh_database,
    hashes, kafka_log, kill_broker, marketday, refused, scratch, start_broker, wait_until,
};

const MINUTE: Duration = Duration::from_mins(1);

/// Held by who takes a broker away, and by who needs all of them.
static ALL_BROKERS: Mutex<()> = Mutex::new(());

/// The program on the brokers, as the market of that name with its state in `dir`.
fn on_brokers(name: &str, dir: &Path, args: &[&str]) -> Command {
    let mut command = command(args);
    command.args(["--brokers", brokers(), "--topic-prefix", name, "--dir"]).arg(dir);
    command
}

/// The same, with its store in that database.
fn on_brokers_into(name: &str, dir: &Path, database: &postgres::Config, args: &[&str]) -> Command {
    let mut command = on_brokers(name, dir, args);
    command.env("DATABASE_URL", database_url(database));
    command
}

/// Number of records that readers can see.
fn records(log: &dyn Log) -> u64 {
    hashes(log, |_, _| u64::MAX).values().map(|(count, _)| count).sum()
}

/// A market of ten days of history.
const TEN_DAYS: [&str; 7] = ["market", "--history", "10d", "--start", "2026-11-30", "--seed", "5"];

#[test]
fn the_market_writes_the_bytes_of_the_embedded_log_however_often_it_is_killed() {
    let scratch = scratch();
    let (embedded, dir) = (scratch.join("embedded"), scratch.join("kafka"));
    // Long enough for more than two transactions after each kill.
    let all = ["market", "--history", "60d", "--start", "2026-11-30", "--exit-when-caught-up"];
    marketday(&[&all[..], &["--dir", embedded.to_str().unwrap()]].concat());
    let expected = marketday_log_hashes(&embedded);

    // Before and after a transaction is committed, then to the end, each time with other workers.
    for (point, workers) in [("seeding:2", "1"), ("seeded:2", "3"), ("seeding:3", "2")] {
        let mut market = on_brokers("bytes", &dir, &all);
        market.args(["--workers", workers]).env("MARKETDAY_CRASH_AT", point);
        let output = market.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(point.split(':').next().unwrap()), "{point}: {said}");
    }
    let mut market = on_brokers("bytes", &dir, &all);
    assert!(market.args(["--workers", "3"]).status().unwrap().success());
    assert_eq!(hashes(&*kafka_log("bytes"), |_, _| u64::MAX), expected);
}

fn marketday_log_hashes(dir: &Path) -> std::collections::BTreeMap<(Topic, u32), (u64, Vec<u8>)> {
    hashes(&*marketday::log::embedded::open(&dir.join("log")).unwrap(), |_, _| u64::MAX)
}

/// A client of the brokers that is not ours.
fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    config
}

#[test]
fn topics_are_made_with_three_copies_of_which_two_must_be_written() {
    let _alone = ALL_BROKERS.lock();
    let name = |topic: Topic| format!("made.{}", topic.name());
    let log = kafka_log("made");
    let consumer: BaseConsumer = client().create().unwrap();
    let admin: AdminClient<_> = client().create().unwrap();
    for topic in Topic::ALL {
        let metadata = consumer.fetch_metadata(Some(&name(topic)), MINUTE).unwrap();
        let partitions = metadata.topics()[0].partitions();
        assert_eq!(partitions.len() as u32, log.partitions(topic));
        assert!(partitions.iter().all(|partition| partition.replicas().len() == 3));
        let topic = name(topic);
        let topic = [ResourceSpecifier::Topic(&topic)];
        let asked = admin.describe_configs(&topic, &AdminOptions::new());
        let config = pollster::block_on(asked).unwrap().remove(0).unwrap();
        for (key, value) in [("min.insync.replicas", "2"), ("retention.ms", "-1")] {
            assert_eq!(config.get(key).unwrap().value.as_deref(), Some(value), "{key}");
        }
    }
}

#[test]
fn records_that_are_gone_stop_the_analytics_and_are_never_skipped() {
    let (scratch, database) = (scratch(), fresh_database());
    let analytics = |more: &[&str]| {
        on_brokers_into("gone", &scratch, &database, &[&["analytics"], more].concat())
    };
    let history = [&TEN_DAYS[..], &["--exit-when-caught-up"]].concat();
    assert!(on_brokers("gone", &scratch, &history).status().unwrap().success());
    assert!(analytics(&["--exit-when-caught-up"]).status().unwrap().success());
    let log = kafka_log("gone");
    let end = log.end(Topic::Orders, 0).unwrap();
    let live = [&TEN_DAYS[..], &["--speed", "600"]].concat();
    let mut market = Running::start(&mut on_brokers("gone", &scratch, &live), scratch.join("said"));
    market.wait_until("there is more", || log.end(Topic::Orders, 0).unwrap() > end + 20);
    market.kill();
    let admin: AdminClient<_> = client().create().unwrap();
    let mut before = TopicPartitionList::new();
    let offset = Offset::Offset(end as i64 + 10);
    before.add_partition_offset("gone.orders", 0, offset).unwrap();
    pollster::block_on(admin.delete_records(&before, &AdminOptions::new())).unwrap();
    let output = analytics(&["-w", "2"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("the log does not hold offset") && said.contains("orders-0"), "{said}");

    // A new database counts what is left, and says so once.
    let fresh = database_url(&fresh_database());
    let count = || {
        let output = analytics(&["--exit-when-caught-up"]).env("DATABASE_URL", &fresh).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    };
    let begins = format!("the counting begins at offset {} of orders-0\n", end + 10);
    support::one_sentence(&count(), &begins);
    assert_eq!(count(), "");
    // What is gone by now cannot be compared with what was counted.
    let offset = Offset::Offset(log.end(Topic::Orders, 0).unwrap() as i64);
    before.set_partition_offset("gone.orders", 0, offset).unwrap();
    pollster::block_on(admin.delete_records(&before, &AdminOptions::new())).unwrap();
    assert_eq!(count(), "");
}

/// A producer of somebody else with the transactional id of a log.
fn other_producer(log: &dyn Log) -> BaseProducer {
    let mut config = client();
    config.set("transactional.id", format!("marketday-{}", log.identity()));
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(MINUTE).unwrap();
    producer
}

/// What the brokers tell a writer that was silent for too long is what they tell one that was ended by
/// another: both are shown here by one that takes its id and does nothing.
#[test]
fn a_writer_that_the_brokers_have_ended_begins_again_unless_another_has_begun() {
    let log = kafka_log("ended");
    let append = |writer: &mut dyn Writer, value: &str| {
        writer.append(Topic::Orders, 1, 1, None, value.as_bytes())
    };
    let mut writer = log.writer().unwrap();
    append(&mut *writer, "before").unwrap();
    writer.flush().unwrap();
    // In the middle of a transaction, then between two.
    append(&mut *writer, "open").unwrap();
    drop(other_producer(&*log));
    append(&mut *writer, "open as well").unwrap();
    writer.flush().unwrap();
    drop(other_producer(&*log));
    append(&mut *writer, "between").unwrap();
    writer.flush().unwrap();
    let values = || -> Vec<String> {
        let held = support::records(&*log, Topic::Orders, 1);
        held.iter().map(|it| String::from_utf8(it.value.unwrap().to_vec()).unwrap()).collect()
    };
    assert_eq!(values(), ["before", "open", "open as well", "between"]);

    // Another that has become the writer is told from that.
    append(&mut *writer, "never seen").unwrap();
    let mut other = log.writer().unwrap();
    append(&mut *other, "the other's").unwrap();
    other.flush().unwrap();
    append(&mut *writer, "nor this").unwrap();
    let ended = format!("{:#}", writer.flush().unwrap_err());
    assert!(ended.contains("another market or import has begun to write to the log"), "{ended}");
    append(&mut *other, "goes on").unwrap();
    other.flush().unwrap();
    assert_eq!(values()[4..], ["the other's", "goes on"]);
}

/// What brokers refuse ends a flush with their reason; what they do not answer, when it is told to end.
#[test]
fn a_flush_that_cannot_succeed_ends() {
    let admin: AdminClient<_> = client().create().unwrap();
    let topic = |name| NewTopic::new(name, 1, TopicReplication::Fixed(3));
    let users = topic("small.users").set("max.message.bytes", "2000");
    // With a broker away nobody can write there.
    let products = topic("small.products").set("min.insync.replicas", "3");
    pollster::block_on(admin.create_topics([&users, &products], &AdminOptions::new())).unwrap();
    let log = kafka_log("small");
    // Bytes that nothing compresses: Marsaglia's xorshift.
    let record_of = |bytes: usize| -> Vec<u8> {
        let next = |mut x: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^ (x << 17)
        };
        std::iter::successors(Some(1), |x| Some(next(*x))).map(|x| x as u8).take(bytes).collect()
    };
    {
        let mut writer = log.writer().unwrap();
        writer.append(Topic::Users, 0, 1, None, &record_of(5_000)).unwrap();
        let refused = format!("{:#}", writer.flush().unwrap_err());
        assert!(
            refused.contains("writing to the log on") && refused.contains("large"),
            "{refused}"
        );
    }
    let mut writer = log.writer().unwrap();
    writer.append(Topic::Orders, 0, 1, None, &record_of(3 << 20)).unwrap();
    writer.flush().unwrap();
    assert_eq!(support::records(&*log, Topic::Orders, 0).get(0).value.unwrap().len(), 3 << 20);

    let _alone = ALL_BROKERS.lock();
    kill_broker(3);
    let stop = Arc::new(AtomicBool::new(false));
    writer.end_when(&stop);
    writer.append(Topic::Products, 0, 1, None, b"a").unwrap();
    let ended = std::thread::scope(|scope| {
        let flush = scope.spawn(|| writer.flush());
        sleep(Duration::from_secs(1));
        assert!(!flush.is_finished(), "it waits");
        stop.store(true, Ordering::Relaxed);
        flush.join().unwrap()
    });
    start_broker(3);
    assert!(ended.unwrap_err().is::<marketday::platform::retry::Stopped>());
}

#[test]
fn records_are_read_whatever_they_are_compressed_with() {
    let log = kafka_log("compressed");
    // The client compresses as it is told, with what was built in.
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let mut config = client();
        config.set("compression.type", codec).set("linger.ms", "50");
        let producer: BaseProducer = config.create().unwrap();
        for _ in 0..100 {
            let record = BaseRecord::<str, str>::to("compressed.users").partition(0);
            producer.send(record.payload(&codec.repeat(100))).unwrap();
        }
        producer.flush(MINUTE).unwrap();
    }
    let held = support::records(&*log, Topic::Users, 0);
    let held: Vec<&[u8]> = held.iter().map(|record| record.value.unwrap()).collect();
    let sent: Vec<String> =
        codecs.iter().flat_map(|codec| (0..100).map(|_| codec.repeat(100))).collect();
    assert!(held.iter().zip(&sent).all(|(held, sent)| *held == sent.as_bytes()));
    assert_eq!(held.len(), sent.len());
}

/// An order of a customer of its own, so many hours after the first one.
fn order(id: i64, hour: i64) -> String {
    let at = 1_790_000_000_000 + hour * 3_600_000;
    let line = r#"{"product_id":1,"category":"food","quantity":1,"unit_price":400000}"#;
    format!(
        r#"{{"event_id":{id},"at":{at},"event":"placed","order_id":{id},"user_id":{id},"ordered_at":{at},"lines":[{line}]}}"#
    )
}

/// Sends what a producer of somebody else writes.
fn send(producer: &BaseProducer, topic: &str, partition: i32, value: &str) {
    let record = BaseRecord::<str, str>::to(topic).partition(partition);
    producer.send(record.payload(value)).map_err(|(error, _)| error).unwrap();
}

/// Adds partitions to a topic, until there are so many and the producer knows them.
fn grow(producer: &BaseProducer, topic: &str, partitions: usize) {
    let admin: AdminClient<_> = client().create().unwrap();
    let more = NewPartitions::new(topic, partitions);
    pollster::block_on(admin.create_partitions([&more], &AdminOptions::new())).unwrap();
    has_partitions(producer, topic, partitions);
}

/// Waits until a producer knows of so many partitions.
fn has_partitions(producer: &BaseProducer, topic: &str, partitions: usize) {
    wait_until("the producer knows them", || {
        let metadata = producer.client().fetch_metadata(Some(topic), MINUTE).unwrap();
        let metadata = metadata.topics()[0].partitions();
        metadata.len() == partitions && metadata.iter().all(|it| it.leader() >= 0)
    });
}

/// Deletes a topic and makes it again; the producer then writes to the new one.
fn make_again(topic: &str, partitions: i32) -> BaseProducer {
    let admin: AdminClient<_> = client().create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(MINUTE));
    let deleted = pollster::block_on(admin.delete_topics(&[topic], &options)).unwrap();
    assert!(deleted[0].is_ok(), "{deleted:?}");
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(3));
    wait_until("it is made again", || {
        let made = pollster::block_on(admin.create_topics([&new], &options)).unwrap();
        made[0].is_ok()
    });
    let producer: BaseProducer = client().create().unwrap();
    has_partitions(&producer, topic, partitions as usize);
    producer
}

/// The records of a database that are committed.
fn committed(database: &postgres::Config) -> i64 {
    let query = "SELECT coalesce(sum(next_offset), 0)::bigint FROM commit_offsets";
    connect(database).query_one(query, &[]).unwrap().get(0)
}

/// Topics that others have made and write: more partitions than customers speak in, and no heartbeats.
#[test]
fn partitions_in_which_one_customer_speaks_count_and_have_no_time() {
    let (scratch, database) = (scratch(), fresh_database());
    let admin: AdminClient<_> = client().create().unwrap();
    let orders = NewTopic::new("wide.orders", 64, TopicReplication::Fixed(3));
    pollster::block_on(admin.create_topics([&orders], &AdminOptions::new())).unwrap();
    kafka_log("wide");
    let producer: BaseProducer = client().create().unwrap();
    let order = |partition: i32, id: i64, hour: i64| {
        send(&producer, "wide.orders", partition, &order(id, hour));
        producer.flush(MINUTE).unwrap();
    };
    let on_brokers = |args: &[&str]| {
        let output = on_brokers_into("wide", &scratch, &database, args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // The orders, and the hours from the first one to `now`.
    let counted = || -> (i64, Option<f64>) {
        on_brokers(&["analytics", "--exit-when-caught-up", "-w", "2"]);
        let verified = on_brokers(&["verify"]);
        assert!(verified.contains("all equal"), "{verified}");
        let sql = "SELECT (SELECT sum(orders)::bigint FROM orders_by_minute),
                          (SELECT extract(epoch FROM now - to_timestamp(1790000000)) / 3600.0
                           FROM progress)::float8";
        let row = connect(&database).query_one(sql, &[]).unwrap();
        (row.get(0), row.get(1))
    };
    for n in 0..40 {
        order(n, i64::from(n), i64::from(n));
    }
    assert_eq!(counted(), (40, None));

    // Another customer in one of them, and two in one that is added.
    order(7, 40, 9);
    assert_eq!(counted(), (41, Some(9.0)));
    grow(&producer, "wide.orders", 66);
    order(65, 41, 20);
    order(65, 42, 21);
    // It is the least of the two that have one, and it never goes back. Each broker knows them when it
    // has heard of them.
    wait_until("they are counted", || counted() == (43, Some(9.0)));
    order(7, 43, 30);
    assert_eq!(counted(), (44, Some(21.0)));
}

/// What the analytics tell that they wait for: what, where, from which offset on, how many records.
fn waits(database: &postgres::Config) -> Vec<(String, String, Option<i64>, Option<i64>)> {
    let sql = "SELECT what, place, \"offset\", records FROM current_waits";
    let rows = connect(database).query(sql, &[]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

fn status(name: &str, dir: &Path, database: &postgres::Config) -> String {
    let output = on_brokers_into(name, dir, database, &["status"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_transaction_that_stays_open_is_named_while_it_does() {
    let (dir, database) = (scratch(), fresh_database());
    kafka_log("open");
    let mut stranger = client();
    let stranger: BaseProducer = stranger.set("transactional.id", "stranger").create().unwrap();
    let send = |producer: &BaseProducer, id: i64| {
        let line = r#"{"product_id":1,"category":"food","quantity":1,"unit_price":900}"#;
        let value = format!(
            r#"{{"event_id":{id},"at":1790000000000,"event":"placed","order_id":{id},"user_id":{id},
                "ordered_at":1790000000000,"lines":[{line}]}}"#
        );
        let record = BaseRecord::<str, str>::to("open.orders").partition(1).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(MINUTE).unwrap();
    };
    stranger.init_transactions(MINUTE).unwrap();
    stranger.begin_transaction().unwrap();
    send(&stranger, 0);
    let other: BaseProducer = client().create().unwrap();
    (1..6).for_each(|id| send(&other, id));

    let mut analytics = on_brokers_into("open", &dir, &database, &["analytics", "-w", "2"]);
    let mut analytics = Running::start(&mut analytics, dir.join("said"));
    analytics.wait_until("it is named", || !waits(&database).is_empty());
    let named = ("transaction".to_owned(), "orders-1".to_owned(), Some(0), Some(6));
    assert_eq!(waits(&database), [named]);
    let lag = "SELECT lag FROM pipeline_status WHERE topic = 'orders' AND partition = 1";
    let lag: i64 = connect(&database).query_one(lag, &[]).unwrap().get(0);
    assert_eq!(lag, 6, "what is behind it waits");
    let said = status("open", &dir, &database);
    assert!(
        said.contains("a transaction that a producer holds open in orders-1 from offset 0 on"),
        "{said}"
    );
    assert!(said.contains("waiting       6 records of the log are not committed\n"), "{said}");

    stranger.commit_transaction(MINUTE).unwrap();
    analytics.wait_until("all is counted", || {
        let counted = "SELECT count(*) FROM order_events";
        connect(&database).query_one(counted, &[]).unwrap().get::<_, i64>(0) == 6
    });
    analytics.wait_until("nothing is waited for", || waits(&database).is_empty());
    let said = status("open", &dir, &database);
    assert!(!said.contains("waits ") && said.contains("waiting       0 records"), "{said}");
    assert!(analytics.interrupt().success(), "{}", analytics.said());
}

/// A partition that one broker alone keeps, so that no other takes it over.
#[test]
fn brokers_that_do_not_answer_are_named_while_they_do_not() {
    let _alone = ALL_BROKERS.lock();
    let (dir, database) = (scratch(), fresh_database());
    let admin: AdminClient<_> = client().create().unwrap();
    let orders = NewTopic::new("paused.orders", 1, TopicReplication::Variable(&[&[3]]));
    pollster::block_on(admin.create_topics([&orders], &AdminOptions::new())).unwrap();
    kafka_log("paused");
    let mut analytics = on_brokers_into("paused", &dir, &database, &["analytics"]);
    let mut analytics = Running::start(&mut analytics, dir.join("said"));
    let told = || -> bool {
        let told = "SELECT count(*) FROM pipeline_status
                    WHERE written_at > clock_timestamp() - interval '2 s'";
        connect(&database).query_one(told, &[]).unwrap().get::<_, i64>(0) == 8
    };
    analytics.wait_until("all partitions are told of", told);
    let paused = PausedBroker::pause(3);
    analytics.wait_until("it is named", || waits(&database).iter().any(|it| it.0 == "brokers"));
    // While they do not answer: what is known is told all the same, and who looks is not kept waiting.
    analytics.wait_until("they still tell of themselves", told);
    let said = status("paused", &dir, &database);
    assert!(said.contains("s for an answer of the brokers"), "{said}");
    assert!(said.contains("not asked, its ends are those told last: asking the log: "), "{said}");
    drop(paused);
    analytics.wait_until("nothing is waited for", || waits(&database).is_empty());
    wait_until("the log is asked again", || {
        !status("paused", &dir, &database).contains("not asked")
    });
    assert!(analytics.interrupt().success(), "{}", analytics.said());
}

#[test]
fn partitions_that_are_added_while_it_runs_are_read() {
    let (scratch, database) = (scratch(), fresh_database());
    kafka_log("grown");
    let on_brokers = |args: &[&str]| on_brokers_into("grown", &scratch, &database, args);
    let mut analytics =
        Running::start(&mut on_brokers(&["analytics", "--processes", "2"]), scratch.join("said"));
    let producer: BaseProducer = client().create().unwrap();
    // Two customers, so that there is a time.
    for id in 0..2 {
        send(&producer, "grown.orders", 0, &order(id, 1));
    }
    producer.flush(MINUTE).unwrap();
    analytics.wait_until("the first ones are counted", || committed(&database) == 2);
    grow(&producer, "grown.orders", 5);
    // One for each process, and `now` goes on without a time of theirs.
    for (partition, id, hour) in [(3, 2, 1), (4, 3, 1), (0, 4, 9), (0, 5, 9)] {
        send(&producer, "grown.orders", partition, &order(id, hour));
    }
    producer.flush(MINUTE).unwrap();
    analytics.wait_until("those of new partitions are counted", || committed(&database) == 6);
    let sql = "SELECT (extract(epoch FROM now - to_timestamp(1790000000)) / 3600.0)::float8 FROM progress";
    let now: f64 = connect(&database).query_one(sql, &[]).unwrap().get(0);
    assert!((now - 9.0).abs() < 1e-9, "{now}");
    // Kafka's own tools see it, and an import writes there.
    let mut group = client();
    let group: BaseConsumer = group.set("group.id", "marketday-grown.orders").create().unwrap();
    let mut one = TopicPartitionList::new();
    one.add_partition("grown.orders", 4);
    wait_until("the group's offset is that committed", || {
        let committed = group.committed_offsets(one.clone(), MINUTE);
        committed.is_ok_and(|it| it.elements()[0].offset() == Offset::Offset(1))
    });
    let file = scratch.join("more.ndjson");
    let line = |id: i64| format!(r#"{{"topic":"orders","key":"{id}","value":{}}}"#, order(id, 10));
    let lines: Vec<String> = (100..120).map(line).collect();
    fs::write(&file, lines.join("\n")).unwrap();
    assert!(on_brokers(&["import", file.to_str().unwrap()]).status().unwrap().success());
    analytics.wait_until("the import is counted", || {
        let sql = "SELECT count(*) FROM order_events WHERE partition > 2";
        let beyond: i64 = connect(&database).query_one(sql, &[]).unwrap().get(0);
        let sql = "SELECT count(*) FROM order_events";
        let all: i64 = connect(&database).query_one(sql, &[]).unwrap().get(0);
        all == 26 && beyond > 2
    });
    assert!(analytics.interrupt().success(), "{}", analytics.said());
    let output = on_brokers(&["verify"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("orders/4"), "{said}");
}

#[test]
fn a_market_goes_on_in_the_partitions_that_it_began_with() {
    let scratch = scratch();
    let dir = scratch.join("market");
    let live = [&TEN_DAYS[..], &["--speed", "600"]].concat();
    let start = || Running::start(&mut on_brokers("wider", &dir, &live), scratch.join("said"));
    let mut market = start();
    let log = kafka_log("wider");
    let kept = || fs::read_dir(dir.join("market")).is_ok_and(|mut all| all.next().is_some());
    market.wait_until("it is live and has a snapshot", kept);
    let producer: BaseProducer = client().create().unwrap();
    grow(&producer, "wider.orders", 5);
    let goes_on = |market: &mut Running| {
        let before = records(&*log);
        market.wait_until("it goes on", || records(&*log) > before);
        // In its history, or live.
        let code = market.interrupt().code();
        assert!(matches!(code, Some(0 | 130)), "{code:?} {}", market.said());
    };
    goes_on(&mut market);
    goes_on(&mut start());
    let wider = kafka_log("wider");
    assert_eq!((wider.partitions(Topic::Orders), wider.end(Topic::Orders, 3).unwrap()), (5, 0));
    send(&producer, "wider.orders", 3, &order(1, 1));
    producer.flush(MINUTE).unwrap();
    let refusal = "offset 0 of orders-3 was not written by this market";
    refused(&mut on_brokers("wider", &dir, &live), refusal);
    make_again("wider.orders", 2);
    let refusal = "began with 3 partitions of topic orders, which now has 2";
    refused(&mut on_brokers("wider", &dir, &live), refusal);
}

#[test]
fn a_topic_that_was_deleted_and_made_again_is_told() {
    let (scratch, database) = (scratch(), fresh_database());
    kafka_log("remade");
    let on_brokers = |args: &[&str]| on_brokers_into("remade", &scratch, &database, args);
    let fill = |producer: &BaseProducer, ids: std::ops::Range<i64>| {
        for id in ids {
            send(producer, "remade.orders", id as i32 % 3, &order(id, id % 20));
        }
        producer.flush(MINUTE).unwrap();
    };
    fill(&client().create().unwrap(), 0..30);
    let mut analytics = on_brokers(&["analytics", "-w", "2"]);
    let mut analytics = Running::start(&mut analytics, scratch.join("said"));
    analytics.wait_until("all is counted", || committed(&database) == 30);
    // It looks away, or it would see that the new one is shorter for a while.
    analytics.signal(Signal::STOP);
    let producer = make_again("remade.orders", 3);
    fill(&producer, 1_000..1_060);
    analytics.signal(Signal::CONT);
    assert_eq!(analytics.end().code(), Some(1), "{}", analytics.said());
    let told = "was the topic deleted and made again";
    support::one_sentence(&analytics.said(), told);

    // Some records of the new one may be counted by now. What was counted before is not there.
    refused(&mut on_brokers(&["analytics", "--exit-when-caught-up"]), told);
    let output = on_brokers(&["analytics", "--processes", "2"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(told), "{said}");
    let status = on_brokers(&["status"]).output().unwrap();
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(said.contains(told), "{said}");
    let verify = || {
        let output = on_brokers(&["verify"]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = verify();
    assert!(code == Some(1) && said.ends_with("NOT EQUAL\n"), "{said}");
    let rebuild = ["analytics", "--rebuild", "--exit-when-caught-up"];
    assert!(on_brokers(&rebuild).status().unwrap().success());
    let (code, said) = verify();
    assert!(code == Some(0) && said.ends_with("all equal\n"), "{said}");

    // With fewer partitions than were counted.
    make_again("remade.orders", 1);
    refused(
        &mut on_brokers(&["analytics"]),
        "orders-1 was counted, and the log has no such partition",
    );
}

#[test]
fn brokers_that_are_away_are_tried_again_and_unknown_ones_are_not() {
    let (dir, database) = (scratch(), fresh_database());
    let analytics = |brokers: &str| {
        let mut analytics = command(&["analytics", "--brokers", brokers, "--dir"]);
        analytics.arg(&dir).env("DATABASE_URL", database_url(&database));
        analytics
    };
    support::refused(&mut analytics("no-such-host.invalid:9092"), "no such host is known");
    let mut away = Running::start(&mut analytics("127.0.0.1:1"), dir.join("said"));
    away.wait_until("it is tried again", || {
        fs::read_to_string(dir.join("said")).unwrap().contains("trying again in")
    });
    assert!(away.interrupt().success() || away.said().contains("are they running?"));
}

#[test]
fn of_two_markets_of_one_name_only_the_last_one_writes() {
    let scratch = scratch();
    let (dir, copy) = (scratch.join("first"), scratch.join("second"));
    let live = [&TEN_DAYS[..], &["--speed", "600"]].concat();
    let mut first = Running::start(&mut on_brokers("fenced", &dir, &live), scratch.join("1"));
    let log = kafka_log("fenced");
    let kept = || fs::read_dir(dir.join("market")).is_ok_and(|mut all| all.next().is_some());
    first.wait_until("it is live and has a snapshot", kept);
    let copied = Command::new("cp").arg("-r").args([&dir, &copy]).status().unwrap();
    assert!(copied.success());
    let mut second = Running::start(&mut on_brokers("fenced", &copy, &live), scratch.join("2"));
    assert_eq!(first.end().code(), Some(1));
    let said = first.said();
    assert!(said.contains("another market or import has begun to write to the log"), "{said}");
    let before = records(&*log);
    second.wait_until("the second one goes on", || records(&*log) > before);
    assert!(second.interrupt().success(), "{}", second.said());

    // What both have written is what one would have.
    let found = hashes(&*log, |_, _| u64::MAX);
    let alone = scratch.join("alone");
    let mut market = command(&live);
    let mut alone_runs = Running::start(market.arg("--dir").arg(&alone), scratch.join("3"));
    let held = |place: &(Topic, u32)| found[place].0;
    alone_runs.wait_until("one alone is as far", || {
        alone.join("log/log.json").exists() && {
            let so_far = marketday_log_hashes(&alone);
            so_far.iter().all(|(place, (count, _))| *count >= held(place))
        }
    });
    alone_runs.kill();
    let log = marketday::log::embedded::open(&alone.join("log")).unwrap();
    assert_eq!(hashes(&*log, |topic, partition| held(&(topic, partition))), found);
}

/// On a cluster the log itself tells, also a machine that has no directory of its market.
#[test]
fn a_markets_topics_are_the_markets_and_others_are_not() {
    let scratch = scratch();
    let file = scratch.join("one.ndjson");
    let value = r#"{"event_id":0,"at":1790000000000,"event":"heartbeat"}"#;
    fs::write(&file, format!(r#"{{"topic":"orders","key":"1","value":{value}}}"#)).unwrap();
    let import =
        |name| on_brokers(name, &scratch.join("elsewhere"), &["import", file.to_str().unwrap()]);
    let live = [&TEN_DAYS[..], &["--speed", "600"]].concat();
    let mut market =
        Running::start(&mut on_brokers("owned", &scratch.join("1"), &live), scratch.join("said"));
    let log = kafka_log("owned");
    market.wait_until("there is something", || log.end(Topic::Orders, 0).unwrap() > 0);
    refused(&mut import("owned"), "import into another one with --topic-prefix OTHER");
    refused(
        &mut on_brokers("owned", &scratch.join("2"), &live),
        "another log with --topic-prefix OTHER",
    );
    let before = records(&*log);
    market.wait_until("it goes on", || records(&*log) > before);
    // In its history, or live.
    assert!(matches!(market.interrupt().code(), Some(0 | 130)), "{}", market.said());
    // Somebody else's producer writes all the same.
    let producer: BaseProducer = client().create().unwrap();
    let foreign = BaseRecord::<str, str>::to("owned.orders").partition(1).payload(value);
    producer.send(foreign).map_err(|(error, _)| error).unwrap();
    producer.flush(MINUTE).unwrap();
    let refusal = "of orders-1 was not written by this market";
    refused(&mut on_brokers("owned", &scratch.join("1"), &live), refusal);

    for _ in 0..2 {
        assert!(import("imported").status().unwrap().success(), "two imports go into one log");
    }
    // The older words for the prefix.
    let place = scratch.join("elsewhere");
    let args = ["import", file.to_str().unwrap(), "--brokers", brokers(), "--dir"];
    let mut by_flag = command(&args);
    assert!(by_flag.arg(&place).args(["--name", "imported"]).status().unwrap().success());
    let mut by_variable = command(&args);
    let by_variable = by_variable.arg(&place).env("MARKETDAY_NAME", "imported");
    assert!(by_variable.status().unwrap().success());
    assert_eq!(records(&*kafka_log("imported")), 4);
    refused(
        &mut on_brokers("imported", &scratch.join("3"), &live),
        "another with --topic-prefix OTHER",
    );
    kafka_log("foreign");
    let foreign = BaseRecord::<str, str>::to("foreign.orders").partition(0).payload(value);
    producer.send(foreign).map_err(|(error, _)| error).unwrap();
    producer.flush(MINUTE).unwrap();
    refused(
        &mut on_brokers("foreign", &scratch.join("4"), &live),
        "another log with --topic-prefix OTHER",
    );
}

#[test]
fn the_whole_path_outlives_a_broker_and_a_process() {
    let _alone = ALL_BROKERS.lock();
    let (scratch, database) = (scratch(), fresh_database());
    let verify = || {
        let mut verify = on_brokers_into("whole", &scratch, &database, &["verify"]);
        let output = verify.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said.into_owned()
    };
    let history = ["market", "--history", "30d", "--speed", "240"];
    let catch_up = [&history[..], &["--exit-when-caught-up"]].concat();
    assert!(on_brokers("whole", &scratch, &catch_up).status().unwrap().success());
    let analytics = ["analytics", "--processes", "3"];
    let mut catch_up = on_brokers_into("whole", &scratch, &database, &analytics);
    assert!(catch_up.arg("--exit-when-caught-up").status().unwrap().success());
    let said = verify();
    assert!(said.ends_with("all equal\n"), "{said}");

    let mut analytics = on_brokers_into("whole", &scratch, &database, &analytics);
    let mut analytics = Running::start(&mut analytics, scratch.join("analytics-said"));
    let redis = Redis::start();
    let mut market = on_brokers("whole", &scratch, &history);
    let market = market.env("REDIS_URL", redis.url());
    let mut market = Running::start(market, scratch.join("market-said"));
    let committed = || committed(&database);
    let goes_on = |what: &str| {
        let before = committed();
        wait_until(&format!("something is committed {what}"), || committed() > before + 100);
    };
    // A working set is 50 s of market time.
    let lives_on = |sets| {
        let seen = redis.calls("get");
        wait_until("the market lives on", || redis.calls("get") >= seen + sets);
    };
    goes_on("live");
    lives_on(12);
    kill_broker(2);
    goes_on("without the broker");
    lives_on(12);
    let victim = analytics.children()[1];
    rustix::process::kill_process(victim, Signal::KILL).unwrap();
    goes_on("after the process");
    start_broker(2);
    lives_on(24);
    goes_on("with all of them");
    assert!(market.interrupt().success(), "{}", market.said());
    assert!(redis.calls("get") > 48, "each set is read");
    let end = || -> u64 {
        let log = kafka_log("whole");
        let partitions = |topic| (0..log.partitions(topic)).map(move |it| (topic, it));
        let all = Topic::ALL.into_iter().flat_map(partitions);
        all.map(|(topic, partition)| log.end(topic, partition).unwrap()).sum()
    };
    analytics.wait_until("everything is committed", || committed() as u64 == end());
    // Kafka's own tools see that nothing is left to read.
    for topic in Topic::ALL {
        let name = format!("whole.{}", topic.name());
        let mut group = client();
        group.set("group.id", format!("marketday-{name}"));
        let group: BaseConsumer = group.create().unwrap();
        let mut all = TopicPartitionList::new();
        let partitions = kafka_log("whole").partitions(topic);
        all.add_partition_range(&name, 0, partitions as i32 - 1);
        wait_until("the group's offsets are those committed", || {
            // A broker that is back takes the group over at some time: nobody answers for it then.
            let Ok(committed) = group.committed_offsets(all.clone(), MINUTE) else { return false };
            committed.elements().iter().all(|it| {
                let (_, end) = group.fetch_watermarks(&name, it.partition(), MINUTE).unwrap();
                it.offset() == Offset::Offset(end) || end == 0
            })
        });
    }
    assert!(analytics.interrupt().success(), "{}", analytics.said());
    let said = verify();
    assert!(said.ends_with("all equal\n"), "{said}");
}
