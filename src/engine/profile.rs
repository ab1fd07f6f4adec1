//! What a worker's operators do and hold, from timely's and differential's own logging.
//!
//! Time is an operator's own: that of the operators inside a scope, or of a dataflow, is not its
//! scope's as well. So the times of all operators add up, and what is left at the dataflow itself
//! is timely's keeping track of progress.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use differential_dataflow::logging::{DifferentialEvent, DifferentialEventBuilder};
use timely::logging::{StartStop, TimelyEvent, TimelyEventBuilder};
use timely::worker::Worker;

/// An operator of a dataflow at one worker.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Timely's identifier: the same at every worker, lower for what was built earlier.
    pub id: usize,
    /// The path to it: its dataflow, the scopes around it, its place there.
    pub address: Vec<usize>,
    /// The name that it was given where it was built.
    pub name: String,
    /// The query that it belongs to; none where queries share it.
    pub query: Option<&'static str>,
    /// The operators whose output it reads, by their identifiers.
    pub reads: Vec<usize>,
    /// How often it ran.
    pub activations: u64,
    /// How long it ran.
    pub time: Duration,
    /// Records that it holds: in arrangements and what waits for them, and in maps of our own.
    pub records: i64,
}

/// How many records each of a worker's operators holds: what a running engine can know at no cost.
pub struct Held(Rc<RefCell<HashMap<usize, i64>>>);

impl Held {
    /// Listens to a worker's log of what is held, of all that is built after this.
    pub fn register(worker: &Worker) -> Held {
        let held = Rc::new(RefCell::new(HashMap::new()));
        let told = Rc::clone(&held);
        listen_to_held(worker, move |operator, change| {
            let mut held = told.borrow_mut();
            let records: &mut i64 = held.entry(operator).or_default();
            *records += change;
            if *records == 0 {
                held.remove(&operator);
            }
        });
        Held(held)
    }

    /// Records that some operators hold together.
    pub fn by(&self, worker: &Worker, operators: &Range<usize>) -> u64 {
        if let Some(mut log) = worker.log_register() {
            log.flush(); // events come in batches
        }
        let held = self.0.borrow();
        let records: i64 = operators.clone().filter_map(|id| held.get(&id)).sum();
        records.max(0).cast_unsigned()
    }
}

/// Tells of each operator whose number of records changes, and by how many.
fn listen_to_held(worker: &Worker, mut tell: impl FnMut(usize, i64) + 'static) {
    if let Some(mut log) = worker.log_register() {
        log.insert::<DifferentialEventBuilder, _>("differential/arrange", move |_time, events| {
            for (_at, event) in events.iter_mut().flat_map(|events| events.drain(..)) {
                if let Some((operator, change)) = change(&event) {
                    tell(operator, change);
                }
            }
        });
    }
}

/// An operator whose number of records changes, and by how many.
fn change(event: &DifferentialEvent) -> Option<(usize, i64)> {
    Some(match event {
        DifferentialEvent::Batch(batch) => (batch.operator, batch.length as i64),
        DifferentialEvent::Merge(merge) => {
            let before = merge.length1 + merge.length2;
            (merge.operator, merge.complete? as i64 - before as i64)
        }
        DifferentialEvent::Drop(drop) => (drop.operator, -(drop.length as i64)),
        DifferentialEvent::Batcher(batcher) => (batcher.operator, batcher.records_diff as i64),
        DifferentialEvent::MergeShortfall(_) | DifferentialEvent::TraceShare(_) => return None,
    })
}

/// A worker's operators, as its logs tell of them.
pub struct Profile(Rc<RefCell<Seen>>);

/// Listens to a worker's logs. The dataflows that are built after this are in the profile.
///
/// Timely has one listener a log: this takes the place of an earlier one.
pub fn register(worker: &Worker) -> Profile {
    let seen = Rc::new(RefCell::new(Seen::default()));
    if let Some(mut log) = worker.log_register() {
        let scheduled = Rc::clone(&seen);
        log.insert::<TimelyEventBuilder, _>("timely", move |_time, events| {
            for (at, event) in events.iter_mut().flat_map(|events| events.drain(..)) {
                scheduled.borrow_mut().timely(at, event);
            }
        });
    }
    let held = Rc::clone(&seen);
    listen_to_held(worker, move |operator, change| {
        held.borrow_mut().did.entry(operator).or_default().records += change;
    });
    Profile(seen)
}

impl Profile {
    /// The operators of a dataflow up to now, in the order in which they were built; `queries` are
    /// the identifiers of each query's, as [`dataflows::analytics::Handles`] has them.
    pub fn operators(
        &self,
        worker: &Worker,
        dataflow: usize,
        queries: &[(&'static str, Range<usize>)],
    ) -> Vec<Operator> {
        if let Some(mut log) = worker.log_register() {
            log.flush(); // events come in batches
        }
        let seen = self.0.borrow();
        let built = seen.built.iter().filter(|(_, built)| built.address[0] == dataflow);
        let ids: HashMap<&[usize], usize> =
            built.clone().map(|(id, built)| (&built.address[..], *id)).collect();
        let mut reads: HashMap<usize, Vec<usize>> = HashMap::new();
        for (source, target) in &seen.channels {
            if let (Some(source), Some(target)) = (ids.get(&source[..]), ids.get(&target[..])) {
                reads.entry(*target).or_default().push(*source);
            }
        }
        let operator = |(id, built): (&usize, &Built)| {
            let did = seen.did.get(id).copied().unwrap_or_default();
            let query = queries.iter().find(|(_, range)| range.contains(id));
            Operator {
                id: *id,
                address: built.address.clone(),
                name: built.name.clone(),
                query: query.map(|(name, _)| *name),
                reads: reads.remove(id).unwrap_or_default(),
                activations: did.activations,
                time: did.time,
                records: did.records,
            }
        };
        built.map(operator).collect()
    }
}

/// What the logs have told so far.
#[derive(Default)]
struct Seen {
    built: BTreeMap<usize, Built>,
    /// Sources and targets, as addresses.
    channels: Vec<(Vec<usize>, Vec<usize>)>,
    did: HashMap<usize, Did>,
    /// The operators that are running, each inside the one before it.
    running: Vec<usize>,
    /// Until when the time of the running ones is accounted for.
    until: Duration,
}

struct Built {
    address: Vec<usize>,
    name: String,
}

#[derive(Clone, Copy, Default)]
struct Did {
    activations: u64,
    time: Duration,
    records: i64,
}

impl Seen {
    fn timely(&mut self, at: Duration, event: TimelyEvent) {
        match event {
            TimelyEvent::Operates(built) => {
                self.built.insert(built.id, Built { address: built.addr, name: built.name });
            }
            TimelyEvent::Channels(channel) => {
                let within = |place: usize| [&channel.scope_addr[..], &[place]].concat();
                self.channels.push((within(channel.source.0), within(channel.target.0)));
            }
            TimelyEvent::Schedule(schedule) => {
                if let Some(running) = self.running.last() {
                    self.did.entry(*running).or_default().time += at.saturating_sub(self.until);
                }
                self.until = at;
                match schedule.start_stop {
                    StartStop::Start => {
                        self.did.entry(schedule.id).or_default().activations += 1;
                        self.running.push(schedule.id);
                    }
                    StartStop::Stop => _ = self.running.pop(),
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use differential_dataflow::input::Input;
    use differential_dataflow::trace::TraceReader;
    use timely::dataflow::ProbeHandle;
    use timely::progress::frontier::AntichainRef;

    use super::*;

    fn named<'o>(operators: &'o [Operator], name: &str) -> &'o Operator {
        let mut of_that_name = operators.iter().filter(|operator| operator.name == name);
        let operator = of_that_name.next().unwrap();
        assert!(of_that_name.next().is_none(), "several {name}");
        operator
    }

    #[test]
    fn an_arrangement_holds_what_is_left_after_merges_until_it_is_dropped() {
        timely::execute_directly(|worker| {
            let profile = register(worker);
            let probe = ProbeHandle::new();
            let (mut input, mut trace, dataflow) = worker.dataflow::<u64, _, _>(|scope| {
                let (input, numbers) = scope.new_collection::<u64, isize>();
                let arranged = numbers.map(|number| (number, ())).arrange_by_key_named("arranged");
                let trace = arranged.trace.clone();
                arranged.as_collection(|number, ()| *number).probe_with(&probe);
                (input, trace, scope.addr()[0])
            });
            let mut records = Vec::new();
            for epoch in 1..=16 {
                (0..1_000).for_each(|number| input.insert(number));
                input.advance_to(epoch);
                input.flush();
                worker.step_while(|| probe.less_than(&epoch));
                trace.set_logical_compaction(AntichainRef::new(&[epoch]));
                trace.set_physical_compaction(AntichainRef::new(&[epoch]));
                let operators = profile.operators(worker, dataflow, &[]);
                let arranged = named(&operators, "arranged");
                assert!(arranged.activations >= epoch && arranged.time > Duration::ZERO);
                let reader = named(&operators, "AsCollection");
                assert_eq!((reader.records, &reader.reads[..]), (0, &[arranged.id][..]));
                records.push(arranged.records);
            }
            assert_eq!(records[0], 1_000);
            let last = records[15];
            assert!((1_000..8_000).contains(&last), "16,000 came, most were merged: {records:?}");

            drop(trace);
            worker.step();
            let operators = profile.operators(worker, dataflow, &[]);
            assert_eq!(named(&operators, "arranged").records, 0);
        });
    }

    #[test]
    fn the_time_of_what_is_inside_is_not_counted_twice() {
        let mut seen = Seen::default();
        let ms = Duration::from_millis;
        let schedule = |id, start_stop| timely::logging::ScheduleEvent { id, start_stop }.into();
        for (at, id, start_stop) in [
            (10, 1, StartStop::Start),
            (13, 2, StartStop::Start),
            (18, 2, StartStop::Stop),
            (20, 3, StartStop::Start),
            (21, 3, StartStop::Stop),
            (25, 1, StartStop::Stop),
            (90, 1, StartStop::Start),
            (91, 1, StartStop::Stop),
        ] {
            seen.timely(ms(at), schedule(id, start_stop));
        }
        let did = |id| (seen.did[&id].activations, seen.did[&id].time);
        assert_eq!([did(1), did(2), did(3)], [(2, ms(10)), (1, ms(5)), (1, ms(1))]);
    }
}
