//! Impacts by the letter: every order against every active instant.

use super::*;
use crate::model::time::WEEK;
use crate::model::{Krw, ScenarioAction, ScenarioEvent, Strength};
use crate::operators::{Active, Impact, actives, impacts};

/// A record of either kind: an order's instant and amount, or a scenario's event.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
enum Record {
    Placed(Millis, Krw),
    Scenario(ScenarioEvent),
}

/// A scenario's name and occurrence, and the four sums of its row.
type Row = ((String, String), [i64; 4]);

fn ours<'s>(
    records: Collection<'s, Record>,
    now: Stream<'s, Epoch, Vec<Millis>>,
) -> Collection<'s, Row> {
    let events = records.clone().flat_map(|record| match record {
        Record::Scenario(event) => Some(event),
        Record::Placed(..) => None,
    });
    let placed = records.flat_map(|record| match record {
        Record::Placed(at, amount) => Some((at, amount)),
        Record::Scenario(_) => None,
    });
    totals(impacts(placed, actives(events), now, &Keeper::default()), "totals", &Keeper::default())
        .map(|(Active { occurrence, name, .. }, (during, before)): (_, Impact)| {
            let key = (name.to_string(), occurrence.to_string());
            (key, [during.orders, during.revenue.0, before.orders, before.revenue.0])
        })
}

fn naive(moves: &Moves<Record>) -> Changes<Row> {
    let mut held = Changes::new();
    for (epoch, records, now) in so_far(moves) {
        let events = records.iter().filter_map(|(record, _)| match record {
            Record::Scenario(event) => Some(event),
            Record::Placed(..) => None,
        });
        let mut events: Vec<_> = events.collect();
        events.sort_by_key(|event| (event.at, event.event_id));
        let Some(now) = now else { continue };
        for (place, start) in events.iter().enumerate() {
            let is = |event: &ScenarioEvent, action| {
                event.occurrence == start.occurrence
                    && event.name == start.name
                    && event.action == action
            };
            if start.at > now
                || start.action != ScenarioAction::Start
                || events[..place].iter().any(|event| is(event, ScenarioAction::Start))
            {
                continue;
            }
            let stop = events[place..].iter().find(|event| is(event, ScenarioAction::Stop));
            let active =
                |at: Millis| start.at <= at && at <= now && stop.is_none_or(|stop| at < stop.at);
            let mut sums = [0; 4];
            for (record, diff) in &records {
                let Record::Placed(at, amount) = record else { continue };
                // The active instants that are set against this one.
                let compared = (1..40).filter(|weeks| {
                    let instant = at + weeks * WEEK;
                    let week = (instant - start.at).div_euclid(WEEK);
                    active(instant) && (week + 1..=week + 4).contains(weeks)
                });
                let during = i64::from(active(*at)) * *diff as i64;
                let before = compared.count() as i64 * *diff as i64;
                for (sum, more) in
                    sums.iter_mut().zip([during, during * amount.0, before, before * amount.0])
                {
                    *sum += more;
                }
            }
            let key = (start.name.to_string(), start.occurrence.to_string());
            held.insert((epoch, (key, sums)), 1);
        }
    }
    held
}

/// Instants on a grid of quarter weeks, and beside it: sums end where orders are.
fn instants() -> impl Strategy<Value = Millis> {
    let beside = prop_oneof![3 => Just(0), 1 => -1..2i64, 1 => 0..WEEK / 4];
    (8..60i64, beside).prop_map(|(quarter, beside)| quarter * (WEEK / 4) + beside)
}

fn record() -> impl Strategy<Value = (Record, isize)> {
    let event = (0..40u64, instants(), 0..3usize, 0..2usize, 0..3usize).prop_map(
        |(event_id, at, occurrence, name, action)| {
            Record::Scenario(ScenarioEvent {
                event_id,
                at,
                occurrence: ["first", "second", "third"][occurrence].into(),
                name: ["sale", "gifts"][name].into(),
                action: ScenarioAction::ALL[action],
                strength: Strength::new(2.0).unwrap(),
                categories: Vec::new(),
            })
        },
    );
    let placed = (instants(), -9..9i64).prop_map(|(at, amount)| Record::Placed(at, Krw(amount)));
    prop_oneof![1 => event, 3 => placed].prop_map(|record| (record, 1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Starts after their orders and after their stops, two starts, stops at the start's instant,
    /// everything withdrawn; `now` absent, before all starts, at rest, in small and great steps.
    #[test]
    fn impacts_are_those_of_the_letter(
        moves in moves(
            record(),
            WEEK,
            prop_oneof![Just(0), 1..9i64, 0..WEEK, (0..30i64).prop_map(|quarters| quarters * (WEEK / 4))],
        ),
        workers in 1..5usize,
    ) {
        prop_assert_eq!(held(moves.clone(), workers, ours), naive(&moves));
    }
}
