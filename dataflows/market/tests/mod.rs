//! Whole markets in memory: the same whatever the workers and the cuts, and plausible.

mod incidents;
mod owners;
mod rules;
mod sale;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use timely::dataflow::operators::vec::input::Input;

use super::profile::BANDS;
use super::*;
use crate::model::time::{DAY, HOUR, SECOND, hour_of, start_of_day};
use crate::model::{Krw, Topic};

/// What a market did.
struct Ran {
    /// The records of each partition.
    records: BTreeMap<(Topic, u32), Vec<Event>>,
    /// The market at the end.
    snapshot: Snapshot,
    figures: Figures,
}

impl Ran {
    fn placed(&self) -> impl Iterator<Item = &Order> {
        self.orders().filter(|order| order.event == OrderKind::Placed)
    }

    fn orders(&self) -> impl Iterator<Item = &Order> {
        self.records.values().flatten().filter_map(|event| match event {
            Event::Order(event) => Some(&event.order),
            _ => None,
        })
    }
}

/// A cache that gives what `changed` makes of the set that it was given.
struct Memory {
    changed: fn(CachedSet) -> Option<CachedSet>,
    newest: Mutex<Option<CachedSet>>,
    /// Versions that were put live.
    put: Mutex<Vec<u64>>,
    readings: Mutex<Vec<Reading>>,
}

impl Memory {
    fn new(changed: fn(CachedSet) -> Option<CachedSet>) -> Arc<Self> {
        Arc::new(Memory {
            changed,
            newest: Mutex::default(),
            put: Mutex::default(),
            readings: Mutex::default(),
        })
    }
}

impl Cache for Memory {
    fn put(&self, live: bool, set: &dyn Fn() -> CachedSet, _: &dyn Fn(&CachedSet) -> ById) {
        if live {
            let set = set();
            self.put.lock().unwrap().push(set.version);
            *self.newest.lock().unwrap() = Some(set);
        }
    }

    fn get(&self, _version: u64) -> Option<CachedSet> {
        self.newest.lock().unwrap().clone().and_then(self.changed)
    }

    fn count(&self, reading: Reading) {
        self.readings.lock().unwrap().push(reading);
    }
}

/// Runs a market from a snapshot, or from the beginning, to the start of a refresh; with leave for
/// one `step` after the other, which differs a little from worker to worker.
fn run(
    settings: &Settings,
    workers: usize,
    from: Option<Snapshot>,
    commands: &[Command],
    until: u64,
    step: Millis,
) -> Ran {
    run_with(Memory::new(Some), settings, workers, from, commands, until, step)
}

fn run_with(
    cache: Arc<dyn Cache>,
    settings: &Settings,
    workers: usize,
    from: Option<Snapshot>,
    commands: &[Command],
    until: u64,
    step: Millis,
) -> Ran {
    let mut orders_at = from.as_ref().map_or_else(
        || vec![settings.origin; settings.partitions[Topic::Orders as usize] as usize],
        |snapshot| snapshot.orders_at.clone(),
    );
    let end = settings.border(until);
    let (sender, receiver) = mpsc::sync_channel(64);
    let shared = (settings.clone(), from, commands.to_vec(), Mutex::new(sender));
    let done = Arc::new(AtomicBool::new(false));
    let is_done = done.clone();
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let (settings, snapshot, commands, sender) = &shared;
        let sender = sender.lock().unwrap().clone();
        let out = Rc::new(move |output| sender.send(output).unwrap());
        let mut control = worker.dataflow(|scope| {
            let (control, stream) = scope.new_input();
            let (snapshot, cache) = (snapshot.as_ref(), cache.clone());
            market(scope, settings, snapshot, commands, stream, out, cache, false);
            control
        });
        control.send(Control::Snapshot(until));
        let step = step + worker.index() as Millis * 5 * SECOND;
        let mut leave = settings.border(snapshot.as_ref().map_or(0, Snapshot::refresh));
        while !is_done.load(Ordering::Relaxed) {
            if leave < end {
                leave = (leave + step).min(end);
                control.send(Control::Run(leave));
                control.flush();
            }
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
        control.send(Control::Stop);
    })
    .unwrap();

    let mut records = BTreeMap::new();
    let mut parts = Vec::new();
    let mut figures = Figures::default();
    let mut released = HashMap::new();
    while parts.len() < workers
        || released.len() < workers
        || released.values().any(|until| *until < end)
    {
        match receiver.recv().unwrap() {
            Output::Release(release) => {
                released.insert(release.worker, release.until);
                for (partition, event) in release.records {
                    if event.topic() == Topic::Orders {
                        orders_at[partition as usize] = event.at();
                    }
                    let key = (event.topic(), partition);
                    records.entry(key).or_insert_with(Vec::new).push(event);
                }
            }
            Output::Part(_, part) => parts.push(part),
            Output::Figures(now) => figures = now,
            Output::Truth(_) => unreachable!("nobody asked for it"),
        }
    }
    done.store(true, Ordering::Relaxed);
    drop(guards);
    Ran { records, snapshot: Snapshot::new(parts, orders_at).unwrap(), figures }
}

/// A market that goes live in the night to 2026-12-01, with so many days of history.
fn settings(days: i64) -> Settings {
    Settings::new(7, start_of_day(20_788), days * DAY)
}

/// The rules of a profile that changes some, without a history.
fn settings_with(changes: &str) -> Settings {
    let profile = Profile::read(&format!("base = \"year\"\n{changes}")).unwrap();
    Settings { profile, ..settings(0) }
}

const REFRESH: Millis = 50 * SECOND;
const DAY_REFRESHES: u64 = (DAY / REFRESH) as u64;

#[test]
fn workers_and_leave_change_nothing() {
    let settings = settings(1);
    let command = |hours, strength| Command {
        at: settings.origin + hours * HOUR + 1_234,
        name: "flash".to_owned(),
        strength,
        categories: vec!["toys".to_owned()],
        until: None,
    };
    let commands = [command(20, Some(2.5)), command(24, None)];
    // The last hour is live.
    let until = DAY_REFRESHES * 25 / 24;
    let one = run(&settings, 1, None, &commands, until, 2 * DAY);
    assert!(one.figures.orders > 200, "{:?}", one.figures);
    assert!(one.records[&(Topic::Scenarios, 0)].len() >= 2);
    for (workers, step) in [(2, 7 * SECOND), (3, 3 * HOUR)] {
        let other = run(&settings, workers, None, &commands, until, step);
        assert_eq!(one.figures, other.figures, "{workers} workers");
        assert!(one.records == other.records, "{workers} workers: other events");
    }

    for (cut, before, after) in [(1_000, 2, 3), (DAY_REFRESHES, 1, 2), (1_790, 3, 1)] {
        assert_cut_changes_nothing(&one, &settings, &commands, until, (cut, before, after));
    }
}

/// Cuts a run at the start of a refresh and goes on with other workers.
fn assert_cut_changes_nothing(
    whole: &Ran,
    settings: &Settings,
    commands: &[Command],
    until: u64,
    (cut, before, after): (u64, usize, usize),
) {
    let first = run(settings, before, None, commands, cut, DAY);
    // What is not kept in a snapshot must not be needed.
    let kept = bincode::serialize(&first.snapshot).unwrap();
    let kept = bincode::deserialize(&kept).unwrap();
    let second = run(settings, after, Some(kept), commands, until, HOUR);
    let mut records = first.records;
    for (partition, more) in second.records {
        records.entry(partition).or_default().extend(more);
    }
    // The first event that differs, of all partitions, is the cause.
    let differing = whole.records.iter().filter_map(|(partition, events)| {
        let other = &records[partition];
        let same = events.iter().zip(other).take_while(|(a, b)| a == b).count();
        let (one, other) = (events.get(same), other.get(same));
        let at = one.into_iter().chain(other).map(Event::at).min()?;
        Some((at, format!("{partition:?} differs from {one:?} to {other:?}")))
    });
    if let Some((_, first)) = differing.min() {
        panic!("cut at {cut}: {first}");
    }
    assert_eq!(whole.figures, second.figures, "cut at {cut}");
}

/// Customers who buy several times a day, a sale that wakes many of them, products that are newest
/// for hours and sell out: whatever a snapshot does not keep would show.
#[test]
fn a_busy_market_can_be_cut_anywhere() {
    let mut settings = settings(2);
    settings.profile = Profile::read(owners::BUSY).unwrap();
    let command = |minutes, strength| Command {
        at: settings.origin + minutes * MINUTE,
        name: "flash".to_owned(),
        strength,
        categories: vec!["fashion".to_owned(), "toys".to_owned()],
        until: None,
    };
    // From 9:20 on the second day to its afternoon.
    let commands = [command(33 * 60 + 20, Some(4.0)), command(39 * 60 + 10, None)];
    let until = DAY_REFRESHES * 43 / 24;
    let one = run(&settings, 1, None, &commands, until, DAY);
    assert!(one.figures.orders > 4_000, "{:?}", one.figures);
    // In the first night, at a day's start, amid an hour before the sale, and within the sale.
    let hour = DAY_REFRESHES / 24;
    for (cut, workers) in [
        (3 * hour + 7, (1, 1)),
        (24 * hour, (2, 1)),
        (30 * hour + 31, (1, 3)),
        (33 * hour + 24, (1, 1)),
        (34 * hour, (2, 2)),
        (35 * hour + 50, (3, 2)),
        (37 * hour + 11, (1, 2)),
        (38 * hour + 70, (1, 1)),
    ] {
        let cut = (cut, workers.0, workers.1);
        assert_cut_changes_nothing(&one, &settings, &commands, until, cut);
    }
}

/// Each worker reads each live refresh's set, and whatever the cache gives, the events are the same.
#[test]
fn what_is_in_the_cache_changes_no_event() {
    // The last three hours are live.
    let settings = settings(1);
    let until = DAY_REFRESHES * 27 / 24;
    let live = until - DAY_REFRESHES;
    let nothing = Memory::new(|_| None);
    let expected = run_with(nothing.clone(), &settings, 2, None, &[], until, HOUR);
    let read = nothing.readings.lock().unwrap();
    assert_eq!(*read, [Reading::Miss].repeat(2 * live as usize));

    let honest = Memory::new(Some);
    let ran = run_with(honest.clone(), &settings, 3, None, &[], until, 7 * SECOND);
    assert!(ran.records == expected.records, "other events with a cache");
    let read = honest.readings.lock().unwrap();
    assert_eq!(*read, [Reading::Hit].repeat(3 * live as usize));
    // The refresh after the end may have been drawn up already.
    let put = honest.put.lock().unwrap();
    assert!(put.iter().copied().filter(|version| *version < until).eq(DAY_REFRESHES..until));

    let damages: [fn(CachedSet) -> Option<CachedSet>; 8] = [
        |set| Some(CachedSet { version: set.version - 1, ..set }),
        |set| Some(CachedSet { at: set.at - 1, ..set }),
        |set| Some(CachedSet { customers: Vec::new(), ..set }),
        |set| Some(CachedSet { products: set.products[1..].to_vec(), ..set }),
        |mut set| {
            set.customers[200].weight += 1;
            Some(set)
        },
        |mut set| {
            set.customers[200].bought_before ^= true;
            Some(set)
        },
        |mut set| {
            set.products[500].weight += 1;
            Some(set)
        },
        |mut set| {
            // Two change places.
            let (a, b) = (set.customers[3].user_id, set.customers[4].user_id);
            (set.customers[3].user_id, set.customers[4].user_id) = (b, a);
            Some(set)
        },
    ];
    for (damage, changed) in damages.into_iter().enumerate() {
        let memory = Memory::new(changed);
        let ran = run_with(memory.clone(), &settings, 1, None, &[], until, DAY);
        assert!(ran.records == expected.records, "other events with damage {damage}");
        let read = memory.readings.lock().unwrap();
        assert_eq!(*read, [Reading::Differs].repeat(live as usize), "damage {damage}");
    }
}

/// Lives through a market's first refreshes, alone; `prepare` does what it likes before the ticks.
fn refreshes(
    settings: Settings,
    count: usize,
    mut prepare: impl FnMut(&mut Market),
) -> (Market, Vec<Event>) {
    let (mut market, mut events) = (Market::new(settings, 0, 1, None, &[]), Vec::new());
    for _ in 0..count {
        let proposal = Arc::new(market.propose());
        market.begin(&[proposal], &mut |event| events.push(event));
        prepare(&mut market);
        while market.next_tick().is_some() {
            market.run_tick(&mut |event| events.push(event));
        }
    }
    (market, events)
}

/// Lives through so many refreshes more, alone.
fn live_through(market: &mut Market, refreshes: u64, emit: &mut impl FnMut(Event)) {
    for _ in 0..refreshes {
        let proposal = Arc::new(market.propose());
        market.begin(&[proposal], emit);
        while market.next_tick().is_some() {
            market.run_tick(emit);
        }
    }
}

/// Another market that goes on from where this one stands, between two refreshes.
fn fork(market: &Market, settings: &Settings, commands: &[Command]) -> Market {
    let snapshot = Snapshot::new(vec![market.part()], Vec::new()).unwrap();
    let kept = bincode::serialize(&snapshot).unwrap();
    let snapshot: Snapshot = bincode::deserialize(&kept).unwrap();
    Market::new(settings.clone(), 0, 1, Some(&snapshot), commands)
}

/// The members by id.
fn sorted(members: &working_set::Members) -> Vec<(u32, Member)> {
    let mut all: Vec<_> = members.iter().collect();
    all.sort_unstable_by_key(|(id, _)| *id);
    all
}

/// Many orders from the first hour on.
const QUICK: &str = "[customers]\nopening_delay = \"1h\"\n[demand]\narrivals = [2_000, 20_000]";

/// The set that is cached has everything that a draw depends on.
#[test]
fn what_is_cached_is_what_is_drawn_from() {
    let (market, events) = refreshes(settings_with(QUICK), 400, |market| {
        let set = market.cached_set();
        let members = market.working_set.members.len();
        assert_eq!((set.customers.len(), set.products.len()), (members, 1_000));
        assert_eq!(market.read(Some(&set)), Reading::Hit);
        let offer = market.offer.as_ref().unwrap();
        assert_eq!(sorted(&offer.members), sorted(&market.working_set.members));
        let own = market.common.catalog.offered();
        for (read, own) in
            [(&offer.products.best, &own.best), (&offer.products.newest, &own.newest)]
        {
            for (read, own) in read.iter().zip(own) {
                assert!((0..500).all(|it| read.choose(it, &[]) == own.choose(it, &[])));
            }
        }
    });
    // Who ordered is in neither any more.
    let offer = market.offer.as_ref().unwrap();
    assert_eq!(sorted(&offer.members), sorted(&market.working_set.members));
    let orders = events.iter().filter(|event| matches!(event, Event::Order(_))).count();
    assert!(orders > 100, "{orders}");
}

/// A set that the market would refuse, planted behind its back: only its members buy and are bought.
#[test]
fn a_refresh_draws_from_what_was_read() {
    let (_, events) = refreshes(settings_with(QUICK), 400, |market| {
        let mut set = market.cached_set();
        set.customers.retain(|one| one.user_id % 7 == 0);
        set.products.retain(|one| one.product_id % 7 == 0);
        market.take_offer(&set);
    });
    let mut orders = 0;
    for event in &events {
        if let Event::Order(OrderEvent { order, .. }) = event {
            orders += 1;
            assert_eq!(order.user_id.0 % 7, 0, "{order:?}");
            assert!(order.lines.iter().all(|line| line.product_id.0 % 7 == 0), "{order:?}");
        }
    }
    assert!(orders > 100, "{orders}");
}

#[test]
fn a_month_is_plausible() {
    // November 2026: Black Friday is the 27th.
    let settings = settings(30);
    let ran = run(&settings, 2, None, &[], 30 * DAY_REFRESHES, DAY);
    let Figures { orders, demand, .. } = ran.figures;
    assert!((orders as f64 / demand - 1.0).abs() < 0.05, "{orders} orders, demand {demand}");
    assert!(orders >= 5_000, "{orders}");
    assert_eq!(ran.placed().count() as u64, orders);

    let mut ids: Vec<u64> = Vec::new();
    for ((topic, partition), records) in &ran.records {
        let in_order = records.is_sorted_by_key(Event::at);
        assert!(in_order, "{topic:?} {partition} is not in order of time");
        if *topic == Topic::Orders {
            ids.extend(records.iter().filter_map(Event::event_id));
            let silence = records.windows(2).map(|pair| pair[1].at() - pair[0].at()).max();
            assert!(silence <= Some(10 * MINUTE), "{partition} was silent for {silence:?}");
        }
    }
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..ids.len() as u64), "event ids are not dense");

    let mut products = Vec::new();
    // An order may come at the very end.
    let mut by_day = [0; 31];
    let mut birth_dates = HashMap::new();
    for event in ran.records.values().flatten() {
        if let Event::User(event) = event {
            birth_dates.insert(event.user.user_id, event.user.birth_date);
        }
    }
    let mut by_hour = [[0; 24]; BANDS];
    let mut amount = Krw(0);
    for order in ran.placed() {
        assert!((1..=10).contains(&order.lines.len()));
        products.clear();
        products.extend(order.lines.iter().map(|line| line.product_id));
        products.sort_unstable();
        products.dedup();
        assert_eq!(products.len(), order.lines.len(), "a product twice in {order:?}");
        amount += order.amount();
        let day = day_of(order.at);
        by_day[(day - day_of(settings.origin)) as usize] += 1;
        let band = calendar::band_of(crate::model::time::age_on(day, birth_dates[&order.user_id]));
        by_hour[usize::from(band)][hour_of(order.at) as usize] += 1;
    }
    let mean = amount.0 / orders as i64;
    assert!((50_000..100_000).contains(&mean), "mean order value {mean}");
    // The curves' peaks are exact in `rules`; a month's orders come near them.
    for (band, peak) in [(1, 21), (4, 10)] {
        let most = by_hour[band].iter().max().unwrap();
        assert!(by_hour[band][peak] * 10 >= most * 8, "band {band}: {:?}", by_hour[band]);
    }
    let usual = by_day[12] + by_day[19];
    assert!(
        by_day[26] * 4 >= usual * 5, // `sale` measures it against the same market without it
        "Black Friday {} to {usual} on two usual Fridays",
        by_day[26]
    );

    let mut fates: HashMap<OrderId, Vec<OrderKind>> = HashMap::new();
    for order in ran.orders() {
        fates.entry(order.order_id).or_default().push(order.event);
    }
    assert!(fates.values().all(|kinds| kinds[0] == OrderKind::Placed && kinds.len() <= 2));
}

/// After any changes the leaders are the first of all, and the net changes lead there.
#[test]
fn leaders_are_the_first() {
    let random = &mut draw(1, Purpose::Demand, 0, 0);
    let mut leading = leading::Leading::new(40);
    let (mut all, mut followed) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..400 {
        for _ in 0..random.random_range(0..30) {
            let key = random.random_range(0..150_u32);
            if random.random_range(0..5) < 2 {
                all.remove(&key);
                leading.remove(key);
            } else {
                all.insert(key);
                leading.insert(key);
            }
        }
        let places = if round % 3 == 0 { random.random_range(0..60) } else { 40 };
        leading.resize(places);
        let (left, entered) = leading.take_changes();
        for key in left {
            assert!(followed.remove(&key));
        }
        for key in entered {
            assert!(followed.insert(key));
        }
        let naive: Vec<u32> = all.iter().take(places).copied().collect();
        assert!(followed.iter().eq(&naive), "round {round}");
        assert!(leading.leaders().eq(naive.iter().copied()));
        assert_eq!(leading.len(), all.len());
        followed = naive.into_iter().collect();
    }
}
