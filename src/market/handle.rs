//! How one sees and steers a running market: its figures, its clock, and scenarios by hand.

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use dataflows::market::{Command, Figures, Scenario, Settings};
use dataflows::model::Millis;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::cache::Cache;

/// How fast market time goes by once the market is live.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speed {
    /// As fast as the machine allows.
    Max,
    /// So many times as fast as the wall clock. At 1 the market catches up with an absence.
    Times(#[serde(deserialize_with = "times")] f64),
}

/// What a speed is, where something else was said.
const NO_SPEED: &str = "a speed is a number above 0 and at most 100000, or max";

fn is_speed(times: f64) -> bool {
    times > 0.0 && times <= 100_000.0
}

fn times<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let times = f64::deserialize(from)?;
    if is_speed(times) { Ok(times) } else { Err(de::Error::custom(NO_SPEED)) }
}

impl FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("max", _) => Ok(Speed::Max),
            (_, Ok(times)) if is_speed(times) => Ok(Speed::Times(times)),
            _ => Err(NO_SPEED),
        }
    }
}

/// What others see of a running market, and say to it.
pub struct Handle {
    /// Set to end the run.
    pub stop: Arc<AtomicBool>,
    /// Set to hold the clock; no event changes by it.
    pub paused: AtomicBool,
    /// How fast the clock goes when it is live; no event changes by it.
    speed: Mutex<Speed>,
    /// The cache of its working set, and what is counted there.
    pub cache: Arc<Cache>,
    pub(super) figures: Mutex<Figures>,
    /// Market time up to which everything is in the log.
    pub(super) logged: AtomicI64,
    pub(super) requests: Mutex<Vec<PendingRequest>>,
}

/// A scenario to start or stop by hand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScenarioRequest {
    /// The scenario's name.
    pub name: String,
    /// What to do; `wish` to programs of before.
    #[serde(rename = "wish", alias = "command")]
    pub command: ScenarioCommand,
}

/// What to do with a scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScenarioCommand {
    /// Start it, or change it where it is active.
    Start {
        /// The factor on all orders, 0.05 to 10; none: the peak of the rule with that name.
        strength: Option<f64>,
        /// The categories it favours; none of them: those of the rule.
        categories: Vec<String>,
        /// Market time after which it ends by itself.
        lasts: Option<Millis>,
    },
    /// Stop it.
    Stop,
}

/// A request that is to be carried out.
pub(super) struct PendingRequest {
    pub(super) command: Command,
    /// Where it is told when it takes effect, or why it does not.
    pub(super) answer: SyncSender<Result<Millis>>,
    /// Nobody has taken it on or given it up.
    pub(super) open: Arc<AtomicBool>,
}

/// What one who asks waits for.
pub struct Reply {
    answer: Receiver<Result<Millis>>,
    open: Arc<AtomicBool>,
}

impl Reply {
    /// The market time after which it takes effect, at the first order tick, once it is durable. What
    /// is given up after so long is not carried out later.
    pub fn wait(self, longest: Duration) -> Result<Millis> {
        match self.answer.recv_timeout(longest) {
            Err(_) if self.open.swap(false, Ordering::Relaxed) => {
                bail!("the market did not get to it within {} s, and will not", longest.as_secs())
            }
            // It is being carried out at this moment.
            Err(RecvTimeoutError::Timeout) => self.answer.recv().context("the market has ended")?,
            Err(RecvTimeoutError::Disconnected) => bail!("the market has ended"),
            Ok(answer) => answer,
        }
    }
}

impl Handle {
    /// A market's handle, with that cache and that speed.
    pub fn new(cache: Cache, speed: Speed) -> Self {
        Handle {
            stop: Arc::default(),
            paused: AtomicBool::default(),
            speed: speed.into(),
            cache: Arc::new(cache),
            figures: Mutex::default(),
            logged: AtomicI64::default(),
            requests: Mutex::default(),
        }
    }

    /// How fast the clock goes when the market is live.
    pub fn speed(&self) -> Speed {
        *self.speed.lock().expect("no panic while held")
    }

    /// Has the clock go at another speed from now on.
    pub fn set_speed(&self, speed: Speed) {
        *self.speed.lock().expect("no panic while held") = speed;
    }

    /// The figures of the market; they run ahead of the log by the length of the queue.
    pub fn figures(&self) -> Figures {
        self.figures.lock().expect("no panic while held").clone()
    }

    /// Market time up to which everything is in the log.
    pub fn logged(&self) -> Millis {
        self.logged.load(Ordering::Relaxed)
    }

    /// Asks for a scenario.
    pub fn ask(&self, settings: &Settings, request: ScenarioRequest) -> Result<Reply> {
        let ScenarioRequest { name, command } = request;
        let rule = settings.scenarios.iter().find(|scenario| scenario.name == name);
        let (strength, categories, lasts) = match command {
            ScenarioCommand::Start { strength, categories, lasts } => {
                let strength = strength.or(rule.map(Scenario::peak)).with_context(|| {
                    format!(
                        "there is no scenario `{name}` in the calendar (see `marketday scenario \
                         list`): one of your own needs a --strength"
                    )
                })?;
                (Some(strength), categories, lasts)
            }
            ScenarioCommand::Stop => (None, Vec::new(), None),
        };
        // The driver knows the time, and adds it.
        let command = Command { at: 0, name, strength, categories, until: lasts };
        command.check(&settings.profile.words()).map_err(|what| anyhow!(what))?;
        let ((answer, receiver), open) = (sync_channel(1), Arc::new(AtomicBool::new(true)));
        let asked = PendingRequest { command, answer, open: Arc::clone(&open) };
        self.requests.lock().expect("no panic while held").push(asked);
        Ok(Reply { answer: receiver, open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_not_carried_out_later() {
        let market = Handle::new(Cache::default(), Speed::Max);
        let settings = Settings::new(1, 0, 0);
        let stop = || ScenarioRequest { name: "flash".into(), command: ScenarioCommand::Stop };
        let given_up = market.ask(&settings, stop()).unwrap();
        assert!(given_up.wait(Duration::ZERO).is_err());
        let waiting = market.ask(&settings, stop()).unwrap();
        let asked = std::mem::take(&mut *market.requests.lock().unwrap());
        let taken: Vec<bool> =
            asked.iter().map(|asked| asked.open.swap(false, Ordering::Relaxed)).collect();
        assert_eq!(taken, [false, true]);
        asked[1].answer.send(Ok(7)).unwrap();
        assert_eq!(waiting.wait(Duration::ZERO).unwrap(), 7);
    }

    /// What a socket or a file says is held to what a flag may say.
    #[test]
    fn a_speed_is_one_wherever_it_is_read() {
        for (text, speed) in [("\"max\"", Speed::Max), ("{\"times\":60}", Speed::Times(60.0))] {
            assert_eq!(serde_json::from_str::<Speed>(text).unwrap(), speed);
        }
        for times in ["0", "-5", "1e300", "100001"] {
            let text = format!("{{\"times\":{times}}}");
            let said = serde_json::from_str::<Speed>(&text).unwrap_err().to_string();
            assert!(said.contains("at most 100000"), "{said}");
        }
    }
}
