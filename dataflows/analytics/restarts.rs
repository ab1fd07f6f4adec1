//! A graph that goes on from what another one kept says what one says that has seen it all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Probe;

use super::oracle::{Contents, END};
use super::properties::{AT_ONCE, PARTITIONS, feed, stories, tables, tables_of};
use super::story::Kept;
use super::*;
use crate::keeper::{Base, Keeper};
use crate::queries::QUERIES;
use crate::row::Row;

/// What the workers' graphs have kept.
#[derive(Clone, Debug, Default, PartialEq)]
struct Shelf(BTreeMap<Vec<u8>, Vec<u8>>);

impl Base for Shelf {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key).cloned()
    }

    fn each(&self, keys: Range<Vec<u8>>, give: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.range(keys).for_each(|(key, value)| give(key, value));
    }
}

impl Shelf {
    fn take(&mut self, keeper: &Keeper) {
        for (key, value) in keeper.changes().iter() {
            match value {
                Some(value) => _ = self.0.insert(key.to_vec(), value.to_vec()),
                None => _ = self.0.remove(key),
            }
        }
    }
}

/// Everything that outlives a graph.
#[derive(Default)]
struct Outside {
    /// What all workers have kept.
    shelf: Shelf,
    /// The tables, as the cuts have left them, and `now`.
    tables: Kept,
    now: Option<Millis>,
}

/// One life of the graph: it goes on from what was kept after `kept` events, when the tables are those after
/// `committed`, and ends with the tables after `until`, having kept what it has after `keeps`.
#[derive(Clone, Copy, Debug)]
struct Life {
    kept: usize,
    committed: usize,
    keeps: usize,
    until: usize,
}

/// So many epochs has a life.
const EPOCHS: Epoch = 1 << 20;

/// What was counted between two places of a story, as ledgers have it: of each event one copy. The scenarios'
/// is read from its start.
fn counted(story: &[Event], from: usize, until: usize) -> Vec<Event> {
    let mut ids = BTreeSet::new();
    let named = story[..until].iter().enumerate().filter(|(_, event)| {
        let (topic, id) = match event {
            Event::User(it) => (0, it.event_id),
            Event::Product(it) => (1, it.event_id),
            Event::Order(it) => (2, it.event_id),
            Event::Scenario(it) => (3, it.event_id),
            Event::Heartbeat(_) => (4, 0),
        };
        ids.insert((topic, id))
    });
    let counted = named.filter(|(at, event)| *at >= from || matches!(event, Event::Scenario(_)));
    counted.map(|(_, event)| event.clone()).collect()
}

fn live(story: &[Event], outside: Outside, life: Life, nth: Epoch, workers: usize) -> Outside {
    let reached = reached(story, life.committed);
    let outside = Arc::new(Mutex::new(outside));
    let (all, story) = (Arc::clone(&outside), story.to_vec());
    timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let (first, hydrated) = (nth * EPOCHS, nth * EPOCHS + 10);
        let begin = {
            let outside = all.lock().unwrap();
            let keeper = if nth > 0 {
                Keeper::over(Rc::new(outside.shelf.clone()), (index, peers))
            } else {
                Keeper::new((index, peers))
            };
            Begin { hydrated: if nth > 0 { hydrated } else { 0 }, now: outside.now, keeper }
        };
        let (probe, keeper, told) = (ProbeHandle::new(), begin.keeper.clone(), Arc::clone(&all));
        let mut handles = worker.dataflow(|scope| {
            let (handles, _, outputs) =
                analytics(scope, &begin, &Tables::of(QUERIES), &Hub::default());
            let deliver = move |epoch, closed: Option<Closed>| {
                let (mut outside, closed) = (told.lock().unwrap(), closed.unwrap_or_default());
                outside.now = outside.now.max(closed.now);
                // There the tables are as they were.
                if nth > 0 && epoch <= hydrated {
                    return;
                }
                let rows = closed.rows.iter().flat_map(RowBatch::iter);
                let rows: Vec<(Row, Fate)> = rows.map(|it| (it.to_row(), it.fate)).collect();
                outside.tables.take(&rows);
            };
            let (done, _) = commit(outputs, deliver, || Epoch::MAX);
            done.probe_with(&probe);
            handles
        });
        handles.advance_to(first + 1);
        // One worker reads it all: that of a partition does not matter here.
        for event in counted(&story, life.kept, life.committed).into_iter().filter(|_| index == 0) {
            handles.send(Origin::default(), event);
        }
        handles.advance_to(hydrated);
        if index == 0 {
            for (partition, at) in &reached {
                handles.reached.send((*partition, *at));
            }
            if nth > 0 {
                handles.cut();
            }
        }
        let mut epoch = hydrated;
        for (from, until, keeps) in
            [(life.committed, life.keeps, true), (life.keeps, life.until, false)]
        {
            for (place, event) in story[from..until].iter().enumerate() {
                if place % 7 == 0 {
                    if index == 0 && place % 3 == 0 {
                        handles.cut();
                    }
                    epoch += 1;
                    handles.advance_to(epoch);
                }
                feed(&mut handles, event.clone(), place as u64, (index, peers));
            }
            if index == 0 {
                if until == story.len() && !keeps {
                    (0..PARTITIONS).for_each(|partition| handles.reached.send((partition, END)));
                }
                handles.cut();
            }
            epoch += 1;
            handles.advance_to(epoch);
            worker.step_or_park_while(None, || probe.less_than(&epoch));
            if keeps {
                all.lock().unwrap().shelf.take(&keeper);
            }
        }
    })
    .unwrap();
    std::mem::take(&mut *outside.lock().unwrap())
}

/// Up to where each partition was read before a place of a story.
fn reached(story: &[Event], until: usize) -> BTreeMap<u32, Millis> {
    let mut reached = BTreeMap::new();
    for event in &story[..until] {
        if let Event::Order(event) = event {
            let at = reached.entry(event.event_id as u32 % PARTITIONS).or_insert(Millis::MIN);
            *at = event.order.at.max(*at);
        }
    }
    reached
}

/// The tables after several lives, the last of which sees the end: each has so many workers, keeps what it has
/// after so many events, and ends so many later.
fn tables_after(story: &[Event], places: &[(usize, usize, usize)]) -> Contents {
    let mut outside = Outside::default();
    let (mut kept, mut committed) = (0, 0);
    for (nth, (workers, after, more)) in (0..).zip(places) {
        let keeps = (committed + after).min(story.len());
        let until = if nth + 1 == places.len() as Epoch { story.len() } else { keeps + more };
        let until = until.min(story.len());
        let life = Life { kept, committed, keeps, until };
        outside = live(story, outside, life, nth, *workers);
        (kept, committed) = (keeps, until);
    }
    tables_of(outside.tables)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// In whatever order events come, wherever the graph keeps what it has, wherever it ends, and with however
    /// many workers it goes on.
    #[test]
    fn going_on_equals_batch(
        (story, shuffled) in stories().prop_flat_map(|story| {
            let doubled = [&story[..], &story[..story.len() / 3]].concat();
            (Just(story), Just(doubled).prop_shuffle())
        }),
        places in prop::collection::vec((1..4usize, 0..200usize, 0..60usize), 2..5),
    ) {
        prop_assert_eq!(tables_after(&shuffled, &places), tables(&story, AT_ONCE));
    }
}
