//! The frame by its laws: there and back is nothing, the fold is that of the timeline, long lists and
//! numbers that do not ascend cost no more than short ones.

use std::collections::BTreeMap;

use differential_dataflow::difference::{IsZero, Semigroup};
use proptest::prelude::*;

use super::contributions::Contributions;
use super::customers::{Customer, Pass};
use super::fold::Fold;
use super::history::{Entry, History};
use super::{Bucket, Fact, Parts};
use crate::analytics::Begin;
use crate::model::time::{DAY, HOUR};
use crate::model::{
    Category, Krw, Line, Millis, Order, OrderEvent, OrderId, OrderKind, ProductId, Sex, Status,
    User, UserEvent, UserId,
};
use crate::operators::{Change, Grade, GradeTimeline, Sums, tick_until};
use crate::queries::{All, QUERIES, Table};

const START: Millis = 1_700_000_000_000;

fn line(product: i64, category: usize, quantity: i64, price: i64) -> Line {
    let category = Category::from(["food", "beauty", "books"][category]);
    Line { product_id: ProductId(product), category, quantity, unit_price: Krw(price) }
}

fn user(user_id: i64, birth_date: i32) -> UserEvent {
    let user = User {
        user_id: UserId(user_id),
        name: "하나".into(),
        birth_date,
        sex: Sex::F,
        region: "서울".into(),
        status: Status::Active,
        marketing_consent: true,
        signed_up_at: START,
    };
    UserEvent { event_id: 1, at: START, user }
}

fn order(event: OrderKind, user_id: i64, order_id: i64, at: Millis, event_id: u64) -> OrderEvent {
    let lines = [line(order_id % 7, order_id as usize % 3, 1, 40_000)].into();
    let (order_id, user_id) = (OrderId(order_id), UserId(user_id));
    OrderEvent { event_id, order: Order { event, order_id, user_id, at, ordered_at: at, lines } }
}

fn outs() -> Vec<Option<Contributions>> {
    (0..QUERIES.len() as u16).map(|part| Some(Contributions::of(part))).collect()
}

fn tables() -> Vec<Option<Table>> {
    (0..QUERIES.len() as u16).map(|part| Some(Table(part))).collect()
}

/// What all parts have added, and how often each fact was told, as far as it is anything.
fn sums(
    outs: &mut [Option<Contributions>],
) -> (BTreeMap<Bucket, Sums>, BTreeMap<(usize, Fact), isize>) {
    let (mut all, mut facts): (BTreeMap<Bucket, Sums>, BTreeMap<_, isize>) = Default::default();
    for (part, out) in outs.iter_mut().flatten().enumerate() {
        for (fact, _, times) in out.told(0).flatten() {
            *facts.entry((part, fact)).or_default() += times;
        }
        for (bucket, sums) in out.drain() {
            all.entry(bucket).or_default().plus_equals(&sums);
        }
    }
    all.retain(|_, sums| !sums.is_zero());
    facts.retain(|_, times| *times != 0);
    (all, facts)
}

/// What the frame may ask of a part.
#[derive(Clone, Debug)]
enum Call {
    Known,
    Event(Entry),
    Placed(Option<Millis>, Millis),
    Standing(Option<Millis>, Millis),
    Graded(Change),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let instant = || (0..400 * DAY).prop_map(|after| START + after);
    let before = || prop::option::of(instant());
    let lines = prop::collection::vec((0..5i64, 0..3usize, 1..3i64, 0..9i64), 1..4);
    let entry =
        (0..3usize, 0..9i64, instant(), lines).prop_map(|(kind, order_id, at, lines)| Entry {
            event: OrderKind::ALL[kind],
            stands: kind == 0,
            order_id: OrderId(order_id),
            event_id: 7,
            at,
            ordered_at: at,
            lines: lines.into_iter().map(|(a, b, c, d)| line(a, b, c, d)).collect(),
        });
    let graded = (instant(), 0..4usize, 0..4usize).prop_map(|(at, from, to)| Change {
        at,
        from: Grade::ALL[from],
        to: Grade::ALL[to],
    });
    let call = prop_oneof![
        Just(Call::Known),
        entry.prop_map(Call::Event),
        (before(), instant()).prop_map(|(before, at)| Call::Placed(before, at)),
        (before(), instant()).prop_map(|(before, at)| Call::Standing(before, at)),
        graded.prop_map(Call::Graded),
    ];
    prop::collection::vec(call, 0..12)
}

fn ask(
    who: &Customer,
    states: &mut <All as Parts>::States,
    call: &Call,
    d: i64,
    outs: &mut [Option<Contributions>],
) {
    match call {
        Call::Known => All::known(who, d, None, outs),
        Call::Event(entry) => All::event(who, states, entry, d, None, outs),
        Call::Placed(before, at) => All::placed(who, *before, *at, d, None, outs),
        Call::Standing(before, at) => All::standing(who, states, *before, *at, d, None, outs),
        Call::Graded(change) => All::graded(who, change, d, outs),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Of every part: what comes and goes again leaves its state, and the sums, as they were.
    #[test]
    fn there_and_back_is_nothing(base in calls(), there in calls(), known in any::<bool>()) {
        let who = Customer::with(UserId(1), known.then(|| user(1, 9_000)));
        let (mut states, mut outs) = (<All as Parts>::States::default(), outs());
        for call in &base {
            ask(&who, &mut states, call, 1, &mut outs);
        }
        let before = sums(&mut outs);
        for call in &there {
            ask(&who, &mut states, call, 1, &mut outs);
        }
        for call in there.iter().rev() {
            ask(&who, &mut states, call, -1, &mut outs);
        }
        prop_assert_eq!(sums(&mut outs), Default::default());
        for call in base.iter().rev() {
            ask(&who, &mut states, call, -1, &mut outs);
        }
        let (back, facts) = sums(&mut outs);
        let negated = before.1.into_iter().map(|(fact, times)| (fact, -times));
        prop_assert_eq!(facts, negated.collect());
        prop_assert_eq!(back.len(), before.0.len());
        for (bucket, sums) in before.0 {
            let mut sum = back[&bucket];
            sum.plus_equals(&sums);
            prop_assert!(sum.is_zero(), "{:?}: {:?}", bucket, sum);
        }
        prop_assert_eq!(states, <All as Parts>::States::default());
    }

    /// Wherever it stood meanwhile: the fold along a list is that of the timeline over its steps.
    #[test]
    fn the_fold_is_that_of_the_timeline(
        orders in prop::collection::vec((0..400i64, 1..12i64, prop::option::of(0..260i64), 0..2i64), 1..9),
        pauses in prop::collection::vec(0..700i64, 3),
    ) {
        let mut events = Vec::new();
        for (day, price, back, whole) in orders {
            for n in 0..7 {
                let at = START + day * DAY + n * 5 * HOUR;
                events.push((OrderKind::Placed, at, at, price * 20_000));
                if let Some(after) = back.filter(|_| n % 3 == 0) {
                    let kind = if whole == 1 { OrderKind::Cancelled } else { OrderKind::Refunded };
                    events.push((kind, at + after * DAY, at, price * 20_000));
                }
            }
        }
        events.sort_by_key(|it| it.1);
        let (mut history, mut fold, mut timeline) =
            (History::default(), Fold::default(), GradeTimeline::default());
        let mut pauses: Vec<Millis> = pauses.into_iter().map(|day| START + day * DAY).collect();
        pauses.sort_unstable();
        pauses.push(START + 900 * DAY);
        let mut events = events.into_iter().zip(0..).peekable();
        for pause in pauses {
            while let Some(((event, at, ordered_at, price), n)) = events.next_if(|(it, _)| it.1 <= pause) {
                let lines = [line(1, 0, 1, price)].into_iter().collect();
                let order_id = OrderId(n as i64);
                let stands = event == OrderKind::Placed;
                let entry = Entry { event, stands, order_id, event_id: n, at, ordered_at, lines };
                history.push(&entry);
                fold.appended(at);
                timeline.add(at, ordered_at, event.orders(), Krw(price) * event.sign());
            }
            fold.advance(&history, tick_until(pause));
            timeline.advance(tick_until(pause));
            prop_assert_eq!(fold.standing(), timeline.standing());
            prop_assert_eq!(fold.changes(), timeline.changes());
        }
    }
}

/// The values of rows, by table and key.
type RowValues = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

/// What a customer's events come to: rows, and sums.
fn outcome(events: &[OrderEvent], cuts: usize) -> (RowValues, BTreeMap<Bucket, Sums>) {
    let mut pass = Pass::<All>::new(tables(), false, &Begin::default());
    pass.record(user(1, 9_000));
    let (mut rows, mut sums) = (BTreeMap::new(), BTreeMap::<Bucket, Sums>::new());
    let mut now = Millis::MIN;
    for events in events.chunks(events.len().div_ceil(cuts)) {
        pass.apply(events);
        now = events.iter().map(|event| event.order.at).max().unwrap().max(now);
        pass.cut(now, |row, _fate| {
            rows.insert((usize::from(row.table), row.key().to_vec()), row.value().to_vec());
        });
        for (bucket, more) in pass.contributions().flat_map(|(_part, it)| it.drain()) {
            sums.entry(bucket).or_default().plus_equals(&more);
        }
    }
    sums.retain(|_, sums| !sums.is_zero());
    (rows, sums)
}

#[test]
fn what_happens_at_now_belongs_to_it_whatever_its_id() {
    let mut pass = Pass::<All>::new(tables(), false, &Begin::default());
    let later = order(OrderKind::Placed, 1, 2, START + HOUR, 5);
    pass.apply(&[order(OrderKind::Placed, 1, 1, START, u64::MAX), later]);
    pass.cut(START, |_row, _fate| ());
    let place = QUERIES.iter().position(|query| query.name == "active_customers").unwrap();
    let (_part, of_spans) = pass.contributions().nth(place).unwrap();
    let buyers: Vec<i64> = of_spans.drain().map(|(_span, sums)| sums.buyers).collect();
    assert_eq!(buyers, [1; 4]);
}

/// A list of many chunks, of which each part comes late, with numbers that do not ascend, second placings
/// and cancellations: the same as in order.
#[test]
fn a_long_list_in_any_order_is_the_same() {
    let mut events = Vec::new();
    for n in 0..2_000u64 {
        let (at, number) = (START + n as i64 * HOUR, (n * 7_919 % 10_007) as i64);
        events.push(order(OrderKind::Placed, 1, number, at, 3 * n));
        if n % 5 == 0 {
            events.push(order(OrderKind::Cancelled, 1, number, at + 9 * HOUR, 3 * n + 1));
        }
        if n % 7 == 0 {
            // Later than the first, so that it does not count.
            events.push(order(OrderKind::Placed, 1, number, at + DAY, 3 * n + 2));
        }
    }
    let in_order = outcome(&events, 1);
    let shuffled: Vec<OrderEvent> =
        (0..events.len()).map(|n| events[n * 4_099 % events.len()].clone()).collect();
    assert_eq!(outcome(&shuffled, 9), in_order);
    events.reverse();
    assert_eq!(outcome(&events, 40), in_order);
}

/// What happens after `now` comes in any order. Whatever is moved in the list for that, the fold goes on where it
/// was: nothing that it has lived through is lived through again.
#[test]
fn what_comes_out_of_order_after_now_moves_no_fold() {
    let events: Vec<OrderEvent> = (0..300u64)
        .map(|n| order(OrderKind::Placed, 1, n as i64, START + n as i64 * HOUR, n))
        .collect();
    let (first, rest) = events.split_at(125);
    let run = |rest: &[OrderEvent]| {
        let mut pass = Pass::<All>::new(tables(), false, &Begin::default());
        pass.record(user(1, 9_000));
        let mut rows = BTreeMap::new();
        pass.apply(first);
        // Within the second half of a full chunk, which is split then.
        for (rest, now) in [(&[][..], START + 110 * HOUR), (rest, START + 300 * HOUR)] {
            pass.apply(rest);
            pass.cut(now, |row, _fate| {
                rows.insert((row.table, row.key().to_vec()), row.value().to_vec());
            });
        }
        rows
    };
    let backwards: Vec<OrderEvent> = rest.iter().rev().cloned().collect();
    assert_eq!(run(&backwards), run(rest));
}
