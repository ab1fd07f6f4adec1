//! Which errors pass by themselves, and how they are waited out.
//!
//! This is the one place that tells a server that is away for a while from an error that would only
//! come again: a refused login, a fence, a log that has lost records.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Error, Result};
use postgres::error::{DbError, SqlState};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tracing::warn;

use crate::platform::clock::Stopwatch;

/// The pause before the next try: it doubles from the first to the second ...
pub const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// ... and is short again after a try that went well for so long.
pub const STEADY: Duration = Duration::from_secs(30);

/// How soon it is noticed in a pause that one is to end.
const LOOK: Duration = Duration::from_millis(20);

/// How long errors that pass are waited out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A command that looks: ten seconds, and nothing is said meanwhile.
    Look,
    /// What has never been reached yet: a minute.
    Start,
    /// What was reached before comes back: without end.
    Ever,
}

impl Patience {
    fn longest(self) -> Option<Duration> {
        match self {
            Patience::Look => Some(Duration::from_secs(10)),
            Patience::Start => Some(Duration::from_mins(1)),
            Patience::Ever => None,
        }
    }

    fn waits_for(self, error: &Error) -> bool {
        match self {
            Patience::Look => transient(error),
            Patience::Start => transient(error) || error.is::<NotMade>(),
            Patience::Ever => lost(error),
        }
    }
}

/// Told to end while waiting for something to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("told to end")]
pub struct Stopped;

/// A server that takes a connection and says nothing.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
pub struct NoAnswer(pub Duration);

/// What another command makes first; it may be about to.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotMade(pub String);

/// Brokers of whom none has an address: a wrong name, or at a restart a name server that is away.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no such host is known")]
pub struct UnknownHost;

/// Tries until it succeeds, or fails with what does not pass, or patience ends: with growing pauses,
/// and a line on standard error a try. `stop` ends a pause with [`Stopped`].
pub fn again<T>(
    patience: Patience,
    stop: &dyn Fn() -> bool,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut pause = PAUSE.0;
    let mut failing = None;
    loop {
        let attempted = Stopwatch::start();
        let error = match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if patience == Patience::Ever && attempted.elapsed() > STEADY {
            pause = PAUSE.0;
        }
        let failing = *failing.get_or_insert(attempted);
        let over = patience.longest().is_some_and(|longest| failing.elapsed() + pause > longest);
        if over || !patience.waits_for(&error) {
            return Err(error);
        }
        if stop() {
            return Err(Stopped.into());
        }
        if patience != Patience::Look {
            let seconds = pause.as_secs_f64();
            warn!("{error:#}; trying again in {seconds:.1} s");
        }
        rest(pause, stop)?;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// A pause that ends when one is told to end.
pub fn rest(pause: Duration, stop: &dyn Fn() -> bool) -> Result<(), Stopped> {
    let since = Stopwatch::start();
    while since.elapsed() < pause {
        if stop() {
            return Err(Stopped);
        }
        sleep(LOOK);
    }
    Ok(())
}

/// Whether an error is one of those that pass by themselves: a server that is away, starts or stops.
pub fn transient(error: &Error) -> bool {
    passes(error.chain(), false)
}

/// Whether what was reached before is away: as [`transient`], or its host is not known at the moment.
pub fn lost(error: &Error) -> bool {
    let not_reached = |cause: &(dyn StdError + 'static)| {
        cause.is::<postgres::Error>() && cause.to_string() == "error connecting to server"
    };
    transient(error) || error.chain().any(|cause| cause.is::<UnknownHost>() || not_reached(cause))
}

/// Whether PostgreSQL refuses something for want of a right.
pub fn refused(error: &Error) -> bool {
    let code = error.chain().find_map(|it| it.downcast_ref::<postgres::Error>()?.code());
    code == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

/// `of_store`: these are the causes of an error of PostgreSQL's client. A file that ends early is no
/// connection that does.
fn passes<'e>(
    causes: impl Iterator<Item = &'e (dyn StdError + 'static)>,
    mut of_store: bool,
) -> bool {
    for cause in causes {
        if cause.is::<NoAnswer>() {
            return true;
        } else if let Some(error) = cause.downcast_ref::<postgres::Error>() {
            if error.is_closed() {
                return true;
            }
            of_store = true;
        } else if let Some(error) = cause.downcast_ref::<DbError>() {
            return passes_in_store(error.code());
        } else if let Some(error) = cause.downcast_ref::<KafkaError>() {
            return error.rdkafka_error_code().is_some_and(passes_in_log);
        } else if let Some(error) = cause.downcast_ref::<io::Error>() {
            if of_store && is_of_connection(error.kind()) {
                return true;
            }
            // What a reader or writer of COPY has wrapped is skipped by the chain.
            if let Some(inner) = error.get_ref() {
                let inner: &(dyn StdError + 'static) = inner;
                return passes(anyhow::Chain::new(inner), of_store);
            }
        }
    }
    false
}

fn is_of_connection(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::BrokenPipe
            | ErrorKind::TimedOut
            | ErrorKind::UnexpectedEof
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            // A server that is not running has no socket in its directory.
            | ErrorKind::NotFound
    )
}

fn passes_in_store(code: &SqlState) -> bool {
    code.code().starts_with("08")
        || [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
            // Somebody holds what one asks for.
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            SqlState::IDLE_SESSION_TIMEOUT,
            // After a fail-over: the one that was the primary until now.
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ]
        .contains(code)
}

/// Whether librdkafka's client mends an error by itself, or the brokers do.
pub fn passes_in_log(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::BrokerDestroy
            | Code::DestroyBroker
            | Code::NodeUpdate
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::WaitCache
            | Code::WaitingForCoordinator
            | Code::InProgress
            | Code::Interrupted
            | Code::Retry
            | Code::UnknownBroker
            | Code::ISRInsufficient
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::RequestTimedOut
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::StaleControllerEpoch
            | Code::NetworkException
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::NotController
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::RebalanceInProgress
            | Code::ConcurrentTransactions
            | Code::KafkaStorageError
            | Code::ReassignmentInProgress
            | Code::FetchSessionIdNotFound
            | Code::InvalidFetchSessionEpoch
            | Code::ListenerNotFound
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::PreferredLeaderNotAvailable
            | Code::EligibleLeadersNotAvailable
            | Code::UnstableOffsetCommit
            | Code::ThrottlingQuotaExceeded
            | Code::RebootstrapRequired
    )
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};
    use postgres::{Config, NoTls};

    use super::*;

    /// The error of connecting to that host.
    fn connecting(host: &str, port: u16) -> Error {
        let mut config = Config::new();
        config.user("nobody").host(host).port(port);
        let refused = config.connect(NoTls).err();
        Error::new(refused.expect("nobody listens")).context("connecting")
    }

    #[test]
    fn a_refused_connection_passes_and_an_unknown_host_does_not() {
        // Port 1 is nobody's.
        let refused = connecting("127.0.0.1", 1);
        assert!(transient(&refused) && lost(&refused), "{refused:#}");
        let socket = connecting("/nowhere", 5432);
        assert!(transient(&socket), "{socket:#}");
        let unknown = connecting("no-such-host.invalid", 5432);
        assert!(!transient(&unknown) && lost(&unknown), "{unknown:#}");
    }

    #[test]
    fn what_copy_wraps_passes_as_what_is_in_it() {
        let refused = connecting("127.0.0.1", 1);
        let inner = refused.downcast::<postgres::Error>().expect("it is of PostgreSQL's client");
        let wrapped = Err::<(), _>(io::Error::other(inner)).context("appending");
        assert!(wrapped.is_err_and(|error| transient(&error)));
    }

    #[test]
    fn what_is_no_connection_ends_at_once() {
        for error in [
            anyhow!("another engine has taken this database over"),
            Error::new(io::Error::from(ErrorKind::UnexpectedEof)).context("reading a file"),
            Error::new(KafkaError::MessageConsumption(Code::NotImplemented)),
        ] {
            let mut tries = 0;
            let ended: Result<()> = again(Patience::Ever, &|| false, || {
                tries += 1;
                Err(anyhow!("{error:#}"))
            });
            assert!(ended.is_err() && tries == 1 && !lost(&error), "{error:#}");
        }
    }

    #[test]
    fn it_is_tried_again_until_it_succeeds_or_one_is_told_to_end() {
        let mut tries = 0;
        let done = again(Patience::Ever, &|| false, || {
            tries += 1;
            if tries < 3 { Err(connecting("127.0.0.1", 1)) } else { Ok(tries) }
        });
        assert_eq!(done.ok(), Some(3));
        let stopped: Result<()> =
            again(Patience::Ever, &|| true, || Err(connecting("127.0.0.1", 1)));
        assert!(stopped.is_err_and(|error| error.is::<Stopped>()));
    }
}
