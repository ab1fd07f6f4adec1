//! Facts beside the newest record of the customer or product they speak of, counted by bucket.

use std::hash::Hash;

use differential_dataflow::difference::Abelian;
use differential_dataflow::{AsCollection, ExchangeData, VecCollection};
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;

use super::{HashMap, Key, RecordChanges, Stash, StateSize, Vecs, replace};
use crate::keeper::Keeper;
use crate::slots::worker_of;
use crate::{Collection, Epoch};

/// What an epoch brings of one key.
struct Change<D, F, R> {
    facts: Vec<(F, R)>,
    records: RecordChanges<D>,
}

impl<D, F, R> Default for Change<D, F, R> {
    fn default() -> Self {
        Change { facts: Vec::new(), records: RecordChanges::new() }
    }
}

/// A customer or product as the operator keeps them.
#[derive(Serialize, Deserialize)]
struct Known<D, F, R> {
    /// The record that holds; none while there is none.
    record: Option<D>,
    /// The facts, sorted, each with its sum.
    facts: Vec<(F, R)>,
}

impl<D, F: Ord, R: Abelian> Known<D, F, R> {
    fn add(&mut self, fact: F, diff: R) {
        // Most facts are the newest.
        let place = match self.facts.last() {
            Some((last, _)) if *last < fact => self.facts.len(),
            _ => self.facts.partition_point(|(other, _)| *other < fact),
        };
        match self.facts.get_mut(place) {
            Some((same, sum)) if *same == fact => {
                sum.plus_equals(&diff);
                if sum.is_zero() {
                    self.facts.remove(place);
                }
            }
            _ => self.facts.insert(place, (fact, diff)),
        }
    }
}

/// The facts about each key, put by `bucket` where its record says, and added up there. A fact
/// waits for a record that is not known yet, and moves when the record is corrected; where `bucket`
/// says none it counts nowhere. `records` has at most one record of a key at an epoch's end.
///
/// `join` and `explode` would say the same; they keep a fact with its key, time and difference in
/// 40 bytes and more, and send one update a fact. This keeps the fact and its sum, and sends one
/// update a bucket.
///
/// Work: a look-up a fact; a corrected record moves all of its facts. State: the facts, for ever.
pub fn lookup_join<'s, K, D, F, R, B>(
    facts: VecCollection<'s, Epoch, (K, F), R>,
    records: Collection<'s, (K, D)>,
    name: &str,
    keeper: &Keeper,
    bucket: impl Fn(&D, &F) -> Option<B> + 'static,
) -> VecCollection<'s, Epoch, B, R>
where
    K: Key,
    D: ExchangeData,
    F: ExchangeData,
    R: ExchangeData + Abelian,
    B: Hash + Eq + Clone + 'static,
{
    let (scope, peers) = (facts.inner.scope(), facts.inner.scope().peers());
    let fact_by_key =
        Exchange::new(move |((key, _), _, _): &((K, F), Epoch, R)| worker_of(key, peers));
    let record_by_key =
        Exchange::new(move |((key, _), _, _): &((K, D), Epoch, isize)| worker_of(key, peers));
    facts
        .inner
        .binary_frontier::<_, Vecs<(B, Epoch, R)>, _, _, _, _>(
            records.inner,
            fact_by_key,
            record_by_key,
            name,
            |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let known = keeper.hashed::<K, Known<D, F, R>>();
                let mut number = 0isize;
                let mut held: Stash<HashMap<K, Change<D, F, R>>> = Stash::new();
                let mut sums: HashMap<B, R> = HashMap::default();
                move |(facts, facts_open), (records, records_open), output| {
                    let mut known = known.borrow_mut();
                    facts.for_each_stamp(|capability, batches| {
                        for ((key, fact), epoch, diff) in batches.flat_map(|batch| batch.drain(..))
                        {
                            let changes = held.at(epoch, || capability.delayed(&epoch, 0));
                            changes.entry(key).or_default().facts.push((fact, diff));
                        }
                    });
                    records.for_each_stamp(|capability, batches| {
                        for ((key, record), epoch, diff) in
                            batches.flat_map(|batch| batch.drain(..))
                        {
                            let changes = held.at(epoch, || capability.delayed(&epoch, 0));
                            changes.entry(key).or_default().records.push((record, diff));
                        }
                    });
                    while let Some((capability, changes)) = held.pop_closed(|epoch| {
                        facts_open.less_equal(epoch) || records_open.less_equal(epoch)
                    }) {
                        let mut add = |record: &D, fact: &F, diff: R| {
                            if let Some(bucket) = bucket(record, fact) {
                                let sum = sums.entry(bucket);
                                sum.and_modify(|sum| sum.plus_equals(&diff)).or_insert(diff);
                            }
                        };
                        for (key, change) in changes {
                            known.update(key, |known| {
                                let nothing = || Known { record: None, facts: Vec::new() };
                                let of_key = known.get_or_insert_with(nothing);
                                let before = of_key.record.clone();
                                replace(&mut of_key.record, change.records);
                                if before != of_key.record {
                                    for (fact, sum) in &of_key.facts {
                                        if let Some(record) = &before {
                                            let mut taken_back = sum.clone();
                                            taken_back.negate();
                                            add(record, fact, taken_back);
                                        }
                                        if let Some(record) = &of_key.record {
                                            add(record, fact, sum.clone());
                                        }
                                    }
                                }
                                number -= of_key.facts.len() as isize;
                                for (fact, diff) in change.facts {
                                    if let Some(record) = &of_key.record {
                                        add(record, &fact, diff.clone());
                                    }
                                    of_key.add(fact, diff);
                                }
                                number += of_key.facts.len() as isize;
                                if of_key.record.is_none() && of_key.facts.is_empty() {
                                    *known = None;
                                }
                            });
                        }
                        let epoch = *capability.time();
                        let mut session = output.session(&capability);
                        for (bucket, sum) in sums.drain().filter(|(_, sum)| !sum.is_zero()) {
                            session.give((bucket, epoch, sum));
                        }
                    }
                    kept.tell(|| known.len() + number.max(0) as usize);
                }
            },
        )
        .as_collection()
}
