//! What the program says of itself on standard error: how much, and in which form.
//!
//! Without `--log` it is quiet: errors and warnings only, each a sentence, over what a progress bar has
//! left on the line. With it each event has its time, level and target, as text or as JSON.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::OnceLock;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatFields, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable that says what `--log` says.
pub const VARIABLE: &str = "MARKETDAY_LOG";

/// The target of the error that the program ends with, which is told at every level.
pub const LAST_WORD: &str = "marketday::end";

/// The target of librdkafka's own lines.
pub(crate) const LIBRDKAFKA: &str = "librdkafka";

/// How much is said, as the flag `--log` has it.
#[derive(Clone, Debug)]
pub struct Logging {
    text: String,
    json: bool,
    targets: Targets,
}

impl FromStr for Logging {
    type Err = String;

    fn from_str(text: &str) -> Result<Logging, String> {
        let mut json = None;
        let mut level = None;
        let mut targets = Vec::new();
        for word in text.split(',').map(str::trim) {
            let again = match (word, word.parse::<Level>(), word.split_once('=')) {
                ("text" | "json", ..) => json.replace(word == "json").is_some(),
                (_, Ok(named), _) => level.replace(named).is_some(),
                (_, _, Some((target, named))) if !target.is_empty() => {
                    let named = named.parse::<LevelFilter>().map_err(|_| unknown(word))?;
                    targets.push((target.to_owned(), named));
                    false
                }
                _ => return Err(unknown(word)),
            };
            if again {
                return Err(format!("{word:?} is one level or form too many"));
            }
        }
        let level = level.unwrap_or(Level::INFO);
        let targets = Targets::new()
            .with_default(LevelFilter::WARN)
            .with_target(env!("CARGO_PKG_NAME"), level)
            .with_target(LIBRDKAFKA, level)
            .with_targets(targets)
            .with_target(LAST_WORD, LevelFilter::ERROR);
        Ok(Logging { text: text.to_owned(), json: json.unwrap_or(false), targets })
    }
}

/// What is asked for, if anything is.
pub type Asked = Option<Logging>;

/// Reads the flag or its variable; one that is empty asks for nothing, as `${NAME:-}` in a script may.
pub fn read(text: &str) -> Result<Asked, String> {
    if text.trim().is_empty() { Ok(None) } else { text.parse().map(Some) }
}

fn unknown(word: &str) -> String {
    format!(
        "{word:?} is neither a level (error, warn, info, debug, trace), nor a target with its level, as \
         in librdkafka=debug, nor a form (text, json)"
    )
}

/// What was asked for, for processes that this one starts.
static ASKED: OnceLock<String> = OnceLock::new();

/// Begins to write what happens to standard error.
pub fn begin(logging: Asked) {
    let json = logging.as_ref().is_some_and(|logging| logging.json);
    let lines = move || Lines { json };
    let (layer, targets): (Box<dyn Layer<Registry> + Send + Sync>, _) = match logging {
        None => {
            let sentences = layer().with_writer(lines).with_ansi(false).event_format(Sentence);
            // Where brokers that come and go matter, the program says so itself.
            let targets = Targets::new()
                .with_default(LevelFilter::WARN)
                .with_target(LIBRDKAFKA, LevelFilter::OFF);
            (sentences.boxed(), targets)
        }
        Some(Logging { text, targets, .. }) => {
            _ = ASKED.set(text);
            let layer = layer().with_writer(lines).with_ansi(false);
            (if json { layer.json().flatten_event(true).boxed() } else { layer.boxed() }, targets)
        }
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).init();
}

/// What `--log` said.
pub fn asked() -> Option<&'static str> {
    ASKED.get().map(String::as_str)
}

/// An event as a sentence.
struct Sentence;

impl<S, N> FormatEvent<S, N> for Sentence
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "marketday: ")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Standard error, to which each event is written as a whole, whoever else writes there.
struct Lines {
    json: bool,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        let clear: &[u8] = if !self.json && stderr.is_terminal() { b"\r\x1b[K" } else { b"" };
        // In one write: several processes share it. Where nobody reads it there is nobody to tell.
        _ = stderr.write_all(&[clear, line].concat());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_told_and_no_more() {
        let tells = |text: &str, target: &str, level: Level| {
            text.parse::<Logging>().unwrap().targets.would_enable(target, &level)
        };
        assert!(tells("debug", "marketday::engine", Level::DEBUG));
        assert!(tells("json", "marketday::engine", Level::INFO));
        assert!(!tells("json", "marketday::engine", Level::DEBUG));
        assert!(!tells("trace", "hyper", Level::INFO));
        assert!(tells("warn,hyper=debug", "hyper::proto", Level::DEBUG));
        assert!(tells("info,librdkafka=off", "marketday", Level::INFO));
        assert!(!tells("info,librdkafka=off", "librdkafka", Level::ERROR));
        assert!("info,json".parse::<Logging>().unwrap().json);
        for (text, expected) in [
            ("", "\"\" is neither"),
            ("loud", "\"loud\" is neither"),
            ("hyper=loud", "\"hyper=loud\" is neither"),
            ("=info", "\"=info\" is neither"),
            ("info,debug", "\"debug\" is one level"),
            ("json,text", "\"text\" is one level or form too many"),
        ] {
            let error = text.parse::<Logging>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
