//! `marketday market`: the market alone, to a log or to lines of JSON.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use clap::Args;
use dataflows::model::Millis;
use dataflows::model::time::wall_clock;

use super::options::{Cached, LogPlace, Which, count};
use crate::market::cache::{Cache, market_name};
use crate::market::{self, Ended, control};
use crate::platform::output::Output;
use crate::platform::signals::{self, Interrupted};

/// Runs the market alone: events go into the log, or as lines of JSON to standard output.
#[derive(Args)]
pub(crate) struct Market {
    /// Where the events go: `-` for lines of JSON, brokers of Kafka as with --brokers, or a
    /// directory as with --dir.
    #[arg(long, conflicts_with = "brokers")]
    to: Option<String>,
    #[command(flatten)]
    log: LogPlace,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    cached: Cached,
    /// Worker threads.
    #[arg(short = 'w', long, default_value_t = 1, value_parser = count())]
    workers: usize,
    /// Live through the history only.
    #[arg(long)]
    exit_when_caught_up: bool,
}

impl Market {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        ensure!(
            self.to.as_deref() != Some("-") || self.which.dirt.is_none(),
            "--dirt does not go with --to -, where nobody keeps its labels: name a directory or brokers"
        );
        let redis = self.cached.link()?;
        let options = self.which.market_options()?;
        let (workers, history_only) = (self.workers, self.exit_when_caught_up);
        let handle = |settings: &_| {
            let cache = Cache::new(redis, &market_name(settings));
            let mut market = market::Handle::new(cache, self.which.speed);
            market.stop = signals::stop();
            Arc::new(market)
        };
        if self.to.as_deref() == Some("-") {
            let settings = options.settings()?;
            let (market, out) = (handle(&settings), &mut BufWriter::new(Output::lock()));
            let ended = market::write_lines(&settings, workers, history_only, &market, out)?;
            out.flush()?;
            return match ended {
                Ended::InHistory(at) => bail!(stopped_at(at, "")),
                _ => Ok(ExitCode::SUCCESS),
            };
        }
        let mut place = self.log.clone();
        match &self.to {
            Some(to) if is_brokers(to) => place.brokers = Some(to.clone()),
            Some(to) => place.dir = to.into(),
            None => {}
        }
        let log = place.open(&|| false)?;
        let settings = market::load_or_create(&place.dir, &options, &*log)?;
        let market = handle(&settings);
        let _listening = control::listen(&place.dir, &settings, &market)?;
        let ended = market::run(&place.dir, &*log, &settings, workers, history_only, &market)?;
        if let Ended::InHistory(at) = ended {
            bail!(stopped_at(at, GO_ON));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// How a history in a log goes on.
pub(crate) const GO_ON: &str = "; run again to go on";

/// What is said of a history that was cut off at a market time, and of how to go on.
pub(crate) fn stopped_at(at: Millis, how: &str) -> Interrupted {
    let at = wall_clock(at).format("%Y-%m-%d %H:%M:%S");
    Interrupted(format!("stopped at {at} (market time){how}"))
}

/// Whether a text is host:port,host:port.
fn is_brokers(text: &str) -> bool {
    text.split(',').all(|broker| {
        let parts = broker.rsplit_once(':');
        parts.is_some_and(|(host, port)| !host.contains('/') && port.parse::<u16>().is_ok())
    })
}
