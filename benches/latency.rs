//! How long it takes from an event in the log to its results in PostgreSQL, while the market lives.
//!
//! `cargo bench --bench latency -- --speed 60 --seconds 60 [--brokers HOST:PORT,...]` starts a
//! market and the analytics as two processes. It follows the log and the committed offsets side by
//! side, a look every millisecond at each, so a figure is exact to about 2 ms.

mod running;

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use dataflows::model::Topic;
use marketday::log::{Batch, Log, Reader, embedded, kafka};
use marketday::platform::clock::Stopwatch;
use marketday::platform::private_postgres::PrivatePostgres;
use marketday::store;
use running::Running;

#[derive(Parser)]
struct Args {
    /// How fast the market's clock goes.
    #[arg(long, default_value = "60")]
    speed: String,
    /// How long to measure.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Length of the history before.
    #[arg(long, default_value = "30d")]
    history: String,
    /// Brokers of Kafka; without them the embedded log is measured.
    #[arg(long)]
    brokers: Option<String>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How long to look away from the log, and from the store.
const LOOK: Duration = Duration::from_millis(1);

/// A partition that is followed: records seen in the log and not yet in the store.
struct Followed {
    topic: Topic,
    partition: u32,
    reader: Box<dyn Reader>,
    waiting: VecDeque<(u64, Duration)>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let dir = tempfile::tempdir()?;
    // The programs find it in their directory.
    let server = PrivatePostgres::start(dir.path())?;
    let database = server.config();
    let name = format!("latency-{}", std::process::id());
    let program = |words: &[&str]| -> Result<Command> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_marketday"));
        command.args(words).arg("--dir").arg(dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        for other in ["DATABASE_URL", "KAFKA_BROKERS", "REDIS_URL"] {
            command.env_remove(other);
        }
        command.stderr(File::create(dir.path().join(format!("{}.said", words[0])))?);
        if let Some(brokers) = &args.brokers {
            command.args(["--brokers", brokers, "--topic-prefix", &name]);
        }
        Ok(command)
    };
    let market = ["market", "--history", &args.history, "--speed", &args.speed];
    for words in [&market[..], &["analytics"]] {
        let status = program(&[words, &["--exit-when-caught-up"]].concat())?.status()?;
        ensure!(status.success(), "{} of the history: {status}", words[0]);
    }
    let log = match &args.brokers {
        Some(brokers) => kafka::open(
            kafka::Place { brokers: brokers.clone(), topic_prefix: Some(name.clone()) },
            false,
        ),
        None => embedded::open(&dir.path().join("log")),
    }?;
    let _analytics = Running(program(&["analytics"])?.spawn()?);
    let _market = Running(program(&market)?.spawn()?);
    // Until both have come up.
    let ends = |log: &dyn Log| log.end(Topic::Orders, 0);
    let (end, since) = (ends(&*log)?, Stopwatch::start());
    while ends(&*log)? < end + 3 {
        ensure!(since.elapsed() < Duration::from_mins(2), "the market writes nothing");
        sleep(Duration::from_millis(100));
    }
    sleep(Duration::from_secs(3));

    let mut latencies = measure(&*log, &database, Duration::from_secs(args.seconds))?;
    latencies.sort_unstable();
    let at = |percent: usize| latencies.get(latencies.len() * percent / 100);
    let millis = |percent| at(percent).map_or(0.0, |latency| latency.as_secs_f64() * 1e3);
    writeln!(
        std::io::stdout(),
        "speed {}, {}: {} records in {} s; in the store after p50 {:.0} ms, p90 {:.0} ms, p99 {:.0} ms",
        args.speed,
        if args.brokers.is_some() { "Kafka" } else { "embedded log" },
        latencies.len(),
        args.seconds,
        millis(50),
        millis(90),
        millis(99),
    )?;
    Ok(())
}

/// The time that each record took from the log to the store.
fn measure(log: &dyn Log, database: &postgres::Config, span: Duration) -> Result<Vec<Duration>> {
    let mut client = store::connect(database)?;
    let mut followed = Vec::new();
    for topic in Topic::ALL {
        for partition in 0..log.partitions(topic) {
            let reader = log.reader(topic, partition, log.end(topic, partition)?)?;
            followed.push(Followed { topic, partition, reader, waiting: VecDeque::new() });
        }
    }
    let (since, mut latencies) = (Stopwatch::start(), Vec::new());
    let mut batch = Batch::default();
    while since.elapsed() < span {
        for it in &mut followed {
            batch.clear();
            it.reader.read(&mut batch, 1_000)?;
            it.waiting.extend(batch.iter().map(|record| (record.offset, since.elapsed())));
        }
        let committed = store::committed_tallies(&mut client)?;
        let now = since.elapsed();
        for it in &mut followed {
            let next =
                committed.get(&(it.topic, it.partition)).map_or(0, |tally| tally.next_offset);
            while let Some((_, seen)) = it.waiting.pop_front_if(|(offset, _)| *offset < next) {
                latencies.push(now.saturating_sub(seen));
            }
        }
        sleep(LOOK);
    }
    Ok(latencies)
}
