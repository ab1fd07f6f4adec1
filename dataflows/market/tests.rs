//! Whole markets in memory: the same whatever the workers and the cuts, and plausible.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use timely::dataflow::operators::vec::input::Input;

use super::*;

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
        self.orders().filter(|order| order.kind == OrderKind::Placed)
    }

    fn orders(&self) -> impl Iterator<Item = &Order> {
        self.records.values().flatten().filter_map(|event| match event {
            Event::Order(event) => Some(&event.order),
            _ => None,
        })
    }
}

/// Runs a market from a snapshot, or from the beginning, to the start of a refresh; with leave for
/// one `step` after the other.
fn run(
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
            market(scope, settings, snapshot.as_ref(), commands, stream, out);
            control
        });
        control.send(Control::Snapshot(until));
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
        }
    }
    done.store(true, Ordering::Relaxed);
    drop(guards);
    Ran { records, snapshot: Snapshot::new(parts, orders_at).unwrap(), figures }
}

/// A market that went live in the night to 2026-03-02.
fn settings(days: i64) -> Settings {
    Settings::new(7, crate::model::time::start_of_day(20_514), days * DAY)
}

const DAY_REFRESHES: u64 = (DAY / REFRESH) as u64;

/// Not a test: `cargo test --release -p dataflows look -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures for calibration"]
#[expect(clippy::print_stdout, reason = "it is for reading")]
fn look() {
    let days: u64 = std::env::var("DAYS").ok().and_then(|days| days.parse().ok()).unwrap_or(30);
    let settings = settings(days as i64);
    let ran = run(&settings, 1, None, &[], days * DAY_REFRESHES, DAY);
    println!("{:?}", ran.figures);
    let mut by_customer: HashMap<i64, (u64, i64)> = HashMap::new();
    let (mut lines, mut amount) = (0, 0);
    for order in ran.placed() {
        lines += order.lines.len();
        amount += order.amount();
        let sums = by_customer.entry(order.user_id).or_default();
        *sums = (sums.0 + 1, sums.1 + order.amount());
    }
    let buyers = by_customer.len();
    let once = by_customer.values().filter(|sums| sums.0 == 1).count();
    println!("buyers {buyers}, once {:.3}", once as f64 / buyers as f64);
    println!("lines {:.2}", lines as f64 / ran.figures.orders as f64);
    println!("value {}", amount / ran.figures.orders as i64);
    let mut customers = Customers::new(7, 0, 1);
    customers.restore(&ran.snapshot.shards);
    println!("grades {:?}", customers.grades(settings.start));
    let mut months = BTreeMap::new();
    for order in ran.placed() {
        *months.entry((order.at - settings.origin) / (30 * DAY)).or_insert(0) += 1;
    }
    println!("months {months:?}");
    println!("bytes {}", ran.records.values().map(Vec::len).sum::<usize>());
}
