//! Keeps the first event of each id; the others are duplicates.

use differential_dataflow::Hashable;
use roaring::RoaringTreemap;
use timely::ExchangeData;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::core::OkErr;

use super::{Held, Kept, Vecs};
use crate::Epoch;
use crate::ledger::Sourced;

/// The events that count, and those that do not.
pub struct Firsts<'s, E> {
    /// The first event of each id, and every event without an id.
    pub accepted: Stream<'s, Epoch, Vec<Sourced<E>>>,
    /// Events whose id was seen before.
    pub duplicates: Stream<'s, Epoch, Vec<Sourced<E>>>,
}

/// Splits events into the first of each id and the duplicates.
///
/// First means first committed: an earlier epoch, and within an epoch the lower offset, then the
/// lower partition. Copies of one event are equal, and what is keyed stays in one partition, so
/// the tables do not depend on how the partitions are read; only two *different* events with one
/// id in two partitions, which no producer may write, are decided by what was read first.
/// (`distinct` would keep every event's content for ever; a bitmap of ids takes a few bits an event
/// where ids are dense.)
///
/// Events of epochs up to `hydrated` come from the ledger, where each stands once: they pass at
/// once, so that a restart does not gather them all.
///
/// Work: one look-up an event. State: the ids, for ever.
pub fn first<'s, E: ExchangeData>(
    events: Stream<'s, Epoch, Vec<Sourced<E>>>,
    name: &str,
    hydrated: Epoch,
    id: impl Fn(&E) -> Option<u64> + Clone + 'static,
) -> Firsts<'s, E> {
    let scope = events.scope();
    let route = id.clone();
    let by_id = Exchange::new(move |sourced: &Sourced<E>| {
        route(&sourced.event).unwrap_or(sourced.origin.offset).hashed()
    });
    let marked = events.unary_frontier::<Vecs<(bool, Sourced<E>)>, _, _, _>(
        by_id,
        name,
        |_capability, info| {
            let mut kept = Kept::by(scope, &info);
            let mut seen = RoaringTreemap::new();
            let mut held: Held<Vec<Sourced<E>>> = Held::new();
            move |(input, frontier), output| {
                input.for_each_stamp(|capability, batches| {
                    let epoch = *capability.least().expect("a message has a time");
                    if epoch <= hydrated {
                        let mut session = output.session(&capability);
                        for sourced in batches.flat_map(|batch| batch.drain(..)) {
                            if let Some(id) = id(&sourced.event) {
                                seen.insert(id);
                            }
                            session.give((true, sourced));
                        }
                        return;
                    }
                    let events = held.at(epoch, || capability.delayed(&epoch, 0));
                    for batch in batches {
                        events.append(batch);
                    }
                });
                while let Some((capability, mut events)) =
                    held.pop_closed(|epoch| frontier.less_equal(epoch))
                {
                    events.sort_unstable_by_key(|sourced| {
                        (sourced.origin.offset, sourced.origin.partition)
                    });
                    let mut session = output.session(&capability);
                    for sourced in events {
                        let accepted = id(&sourced.event).is_none_or(|id| seen.insert(id));
                        session.give((accepted, sourced));
                    }
                }
                kept.tell(|| seen.len() as usize);
            }
        },
    );
    let (accepted, duplicates) =
        marked.ok_err(|(accepted, sourced)| if accepted { Ok(sourced) } else { Err(sourced) });
    Firsts { accepted, duplicates }
}
