//! What standing views cost: order lines from memory, in slices, to the changes of a view; without a log and
//! without PostgreSQL.
//!
//! `cargo bench --bench views`, `-- --lines 3000000` for more. Each line is decoded out of a row as the store
//! gives it, as when a view reads its past. CPU time is this thread's, without the making of the rows.

use anyhow::{Result, anyhow};
use clap::Parser;
use dataflows::model::time::DAY;
use dataflows::row::{Cell, Fate, Row, RowBatch};
use dataflows::views::expr::{Arithmetic, Expr, Func, Width};
use dataflows::views::plan::{Aggregate, AggregateKind, JoinKind, Plan};
use dataflows::views::{Definition, Hub, ORDER_LINES, Shape, Source, Type, View};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::time::{ClockId, clock_gettime};

/// The program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    /// Order lines.
    #[arg(long, default_value_t = 1_000_000)]
    lines: i64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

const CUSTOMERS: i64 = 48_000;
const USERS: u16 = 900;

/// CPU seconds of this thread.
fn cpu() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn sources() -> Vec<Source> {
    use Type::{Bigint, Instant, Numeric, Text};
    let lines =
        [Numeric, Instant, Text, Bigint, Bigint, Instant, Bigint, Text, Bigint, Bigint, Bigint];
    vec![
        Source {
            name: "order_lines".into(),
            table: ORDER_LINES,
            types: lines.to_vec(),
            hidden: vec![],
            key: 0,
        },
        Source {
            name: "users".into(),
            table: USERS,
            types: vec![Bigint, Text],
            hidden: vec![],
            key: 1,
        },
    ]
}

/// Rows as the store gives them, in batches as they are fed.
fn batches(lines: i64) -> Vec<RowBatch> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut batches, mut rows) = (Vec::new(), RowBatch::default());
    for user in 0..CUSTOMERS {
        let region = ["서울", "부산", "대구", "인천", "광주"][user as usize % 5];
        rows.push(&Row::new(USERS, &[], &[Cell::Int(user), Cell::Text(region)]), Fate::New);
        batches.extend(rows.take_full());
    }
    for line in 0..lines {
        let at = 1_764_000_000_000 + line * 30 * DAY / lines;
        let category =
            ["food", "beauty", "books", "toys", "travel", "sports"][random.random_range(0..6)];
        let (quantity, price) = (random.random_range(1..4), random.random_range(1..100) * 1_000);
        let cells = [
            Cell::Unsigned(line as u64),
            Cell::Instant(at),
            Cell::Text("placed"),
            Cell::Int(line / 2),
            Cell::Int(random.random_range(0..CUSTOMERS)),
            Cell::Instant(at),
            Cell::Int(random.random_range(0..20_000)),
            Cell::Text(category),
            Cell::Int(quantity),
            Cell::Int(price),
            Cell::Int(quantity * price),
        ];
        rows.push(&Row::new(ORDER_LINES, &[], &cells), Fate::New);
        batches.extend(rows.take_full());
    }
    batches.push(rows);
    batches
}

fn column(column: usize) -> Expr {
    Expr::Column(column)
}

/// `GROUP BY` two columns, with a count and a sum of quantity times price.
fn grouped(input: Plan, keys: [usize; 2]) -> Plan {
    let product = vec![column(8), column(9)];
    let sum = Expr::Call(Func::Integer(Arithmetic::Multiply, Width::Bigint), product);
    let aggregate = |kind, argument| Aggregate { kind, distinct: false, argument, filter: None };
    Plan::Group {
        input: input.into(),
        keys: keys.map(column).to_vec(),
        aggregates: vec![
            aggregate(AggregateKind::CountRows, None),
            aggregate(AggregateKind::SumNumeric, Some(sum)),
        ],
    }
}

/// CPU seconds until a view has taken in all rows.
fn measure(plan: Plan, batches: Vec<RowBatch>) -> Result<f64> {
    let seconds = timely::execute(timely::Config::thread(), move |worker| {
        let shape = Shape { table: 1_000, types: Vec::new(), key: plan.key() };
        let definition =
            Definition { name: "it".into(), shape, plan: plan.clone(), sources: sources() };
        let hub = Hub::default();
        let (ear, _) = hub.listen(definition.tables());
        let since = cpu();
        let mut view = View::build(worker, &definition, &ear, 1 << 20, None);
        // Some 10,000 lines a slice.
        for batches in batches.chunks(24) {
            for batch in batches {
                view.take_in(batch);
            }
            view.next_slice();
            worker.step();
        }
        view.past_is_over();
        hub.cut((1 << 20) + 1, None);
        hub.goes_on(None);
        while view.frontier().is_some() {
            worker.step();
        }
        let rows: usize = view.cuts().iter().map(|cut| cut.changes.len()).sum();
        assert!(rows > 0, "the view is empty");
        cpu() - since
    });
    let seconds = seconds.map_err(|message| anyhow!("starting a worker: {message}"))?;
    let seconds = seconds.join().into_iter().next();
    seconds.and_then(Result::ok).ok_or_else(|| anyhow!("the worker ended early"))
}

#[expect(clippy::print_stdout, reason = "figures for a person")]
fn main() -> Result<()> {
    let args = Args::parse();
    let scan = |table: usize| {
        let source = &sources()[table];
        Plan::Scan { table, arity: source.types.len(), key: (0..source.key).collect() }
    };
    let join = Plan::Join {
        kind: JoinKind::Inner,
        left: scan(0).into(),
        right: scan(1).into(),
        keys: vec![(column(4), column(0))],
        residual: None,
    };
    println!("{:<56}{:>12}{:>20}", "view", "CPU s", "lines a CPU second");
    for (name, plan) in [
        ("GROUP BY category, event: count, sum", grouped(scan(0), [7, 2])),
        ("JOIN users, GROUP BY region, category: count, sum", grouped(join, [12, 7])),
    ] {
        let seconds = measure(plan, batches(args.lines))?;
        println!("{name:<56}{seconds:>12.2}{:>20.0}", args.lines as f64 / seconds);
    }
    Ok(())
}
