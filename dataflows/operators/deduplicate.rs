//! Keeps the first event of each id; a second one is a copy of it, or a conflict.

use std::hash::{BuildHasher, Hash};

use serde::{Deserialize, Serialize};
use timely::ExchangeData;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::vec::Partition;

use super::{Stash, StateSize, Vecs};
use crate::Epoch;
use crate::keeper::{Hashed, Keeper};
use crate::ledger::Sourced;
use crate::slots::worker_of;

/// The events that count, and those that do not.
pub struct Deduplicated<'s, E> {
    /// The first event of each id.
    pub accepted: Stream<'s, Epoch, Vec<Sourced<E>>>,
    /// Events that say what the first of their id said.
    pub copies: Stream<'s, Epoch, Vec<Sourced<E>>>,
    /// Events that say something else under an id that is used.
    pub conflicts: Stream<'s, Epoch, Vec<Sourced<E>>>,
}

/// What an event is beside those read before; the places in the outputs.
#[derive(Clone, Copy)]
enum Fate {
    Accepted,
    Copy,
    Conflict,
}

/// Splits events into the first of each id, its copies, and what conflicts with it.
///
/// First means first committed: an earlier epoch, and within an epoch the lower offset, then the
/// lower partition. Copies of one event are equal, and what is keyed stays in one partition, so
/// the tables do not depend on how the partitions are read; only two *different* events with one
/// id in two partitions, which no producer may write, are decided by what was read first.
/// (`distinct` would keep every event's content for ever; this keeps a byte of it.)
///
/// Events of epochs up to `hydrated` come from the ledger, where each stands once: they pass at
/// once, so that a restart does not gather them all.
///
/// Work: one look-up an event. State: a [`Page`] for ids that differ in the last byte only, for ever.
pub fn deduplicate<'s, E: ExchangeData + Hash>(
    events: Stream<'s, Epoch, Vec<Sourced<E>>>,
    name: &str,
    hydrated: Epoch,
    keeper: &Keeper,
    id: fn(&E) -> u64,
) -> Deduplicated<'s, E> {
    let (scope, peers) = (events.scope(), events.scope().peers());
    let by_id = Exchange::new(move |it: &Sourced<E>| worker_of(&page_of(id(&it.event)), peers));
    let marked = events.unary_frontier::<Vecs<(u64, Sourced<E>)>, _, _, _>(
        by_id,
        name,
        |_capability, info| {
            let mut kept = StateSize::by(scope, &info);
            let seen = keeper.hashed::<u64, Page>();
            let mut ids = 0;
            let mut held: Stash<Vec<Sourced<E>>> = Stash::new();
            move |(input, frontier), output| {
                let mut seen = seen.borrow_mut();
                let mut enter = |id: u64, event: &E| {
                    let fate = enter(&mut seen, id, event);
                    ids += usize::from(matches!(fate, Fate::Accepted));
                    fate
                };
                input.for_each_stamp(|capability, batches| {
                    let epoch = *capability.least().expect("a message has a time");
                    if epoch <= hydrated {
                        let mut session = output.session(&capability);
                        for sourced in batches.flat_map(|batch| batch.drain(..)) {
                            enter(id(&sourced.event), &sourced.event);
                            session.give((Fate::Accepted as u64, sourced));
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
                        let fate = enter(id(&sourced.event), &sourced.event);
                        session.give((fate as u64, sourced));
                    }
                }
                kept.tell(|| ids);
            }
        },
    );
    let mut fates = marked.partition(3, |marked| marked).into_iter();
    let mut next = || fates.next().expect("as many streams as asked for");
    Deduplicated { accepted: next(), copies: next(), conflicts: next() }
}

/// The ids seen that differ in the last byte only, with a byte of each event's content: two contents have the
/// same one with a chance of 1 in 255. Where ids are dense, a byte an id; where they are sparse, some 60.
#[derive(Serialize, Deserialize)]
enum Page {
    /// The last bytes, sorted, with their fingerprints.
    Sparse(Vec<(u8, u8)>),
    /// A fingerprint for each last byte; 0 where the id was not seen.
    Dense(Box<[u8]>),
}

/// From so many ids on a page is dense.
const DENSE: usize = 64;

/// The number of the page that an id is on.
fn page_of(id: u64) -> u64 {
    id >> 8
}

/// Enters an event under its id, unless that is used.
fn enter(seen: &mut Hashed<u64, Page>, id: u64, event: &impl Hash) -> Fate {
    let content = foldhash::fast::FixedState::with_seed(0).hash_one(event);
    let print = (content % 255) as u8 + 1;
    let last = id as u8;
    let before = seen.update(page_of(id), |page| {
        let page = page.get_or_insert(Page::Sparse(Vec::new()));
        match page {
            Page::Dense(prints) => {
                let held = &mut prints[usize::from(last)];
                let before = *held;
                if before == 0 {
                    *held = print;
                }
                before
            }
            Page::Sparse(prints) => match prints.binary_search_by_key(&last, |(last, _)| *last) {
                Ok(place) => prints[place].1,
                Err(place) => {
                    prints.insert(place, (last, print));
                    if prints.len() == DENSE {
                        let mut dense = Box::new([0; 256]);
                        for (last, print) in prints {
                            dense[usize::from(*last)] = *print;
                        }
                        *page = Page::Dense(dense);
                    }
                    0
                }
            },
        }
    });
    match before {
        0 => Fate::Accepted,
        same if same == print => Fate::Copy,
        _ => Fate::Conflict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dense, sparse and huge ids; each once, then its copy, then another content.
    #[test]
    fn copies_and_conflicts_are_told_apart() {
        let mut seen = Hashed::default();
        let ids = (0..1_000).chain((0..1_000).map(|n| (n << 40) | (n * 7))).chain([u64::MAX]);
        let ids: std::collections::BTreeSet<u64> = ids.collect();
        for id in &ids {
            assert!(matches!(enter(&mut seen, *id, &"content"), Fate::Accepted), "{id}");
        }
        for id in &ids {
            assert!(matches!(enter(&mut seen, *id, &"content"), Fate::Copy), "{id}");
        }
        let is_conflict = |id: &&u64| matches!(enter(&mut seen, **id, *id), Fate::Conflict);
        let conflicts = ids.iter().filter(is_conflict);
        assert!(conflicts.count() * 100 >= 98 * ids.len());
    }
}
