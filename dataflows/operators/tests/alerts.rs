//! Alerts by the letter: every minute that has orders in the four weeks before.

use std::collections::BTreeSet;

use super::*;
use crate::model::time::{HOUR, MINUTE, WEEK};
use crate::operators::alerts;

/// A minute, orders, orders before and severity.
type Row = (Millis, i64, i64, String);

fn ours<'s>(
    minutes: Collection<'s, Millis>,
    now: Stream<'s, Epoch, Vec<Millis>>,
) -> Collection<'s, Row> {
    let placed: VecCollection<'_, Epoch, Millis, Sums> =
        minutes.explode(|minute| Some((minute, Sums { orders: 1, ..Sums::default() })));
    alerts(placed, now, &Keeper::default())
        .map(|it| (it.minute, it.orders, it.orders_before, it.severity().to_owned()))
}

fn naive(moves: &Moves<Millis>) -> Changes<Row> {
    let mut held = Changes::new();
    for (epoch, minutes, now) in so_far(moves) {
        let (Some(now), Some((first, _))) = (now, minutes.first()) else { continue };
        let placed: BTreeMap<Millis, i64> =
            minutes.iter().map(|(minute, orders)| (*minute, *orders as i64)).collect();
        let hour_of = |minute: Millis| minute - minute.rem_euclid(HOUR);
        let watched = placed.keys().flat_map(|minute| {
            (1..=4).flat_map(move |week| {
                (0..70).map(move |later| hour_of(*minute) + week * WEEK + later * MINUTE)
            })
        });
        for minute in watched.collect::<BTreeSet<_>>() {
            if minute + MINUTE > now || minute < hour_of(*first) + 4 * WEEK {
                continue;
            }
            let ten = || (0..10).map(|back| minute - back * MINUTE);
            let orders: i64 = ten().filter_map(|minute| placed.get(&minute)).sum();
            let week_before = |week: i64| -> i64 {
                let hours = ten().map(|minute| hour_of(minute) - week * WEEK);
                hours
                    .flat_map(|hour| placed.range(hour..hour + HOUR))
                    .map(|(_, orders)| orders)
                    .sum()
            };
            let mut weeks = [1, 2, 3, 4].map(week_before);
            weeks.sort_unstable();
            let before = 2 * (weeks[1] + weeks[2]);
            if before > 0
                && 480 * orders <= before
                && (before - 240 * orders).pow(2) >= 3_840 * before
            {
                let severity = if 960 * orders <= before { "alarm" } else { "warning" };
                held.insert((epoch, (minute, orders, before, severity.to_owned())), 1);
            }
        }
    }
    held
}

/// Few and many orders in a minute of three hours of the week, in some week; often in weeks that are
/// compared with one another.
fn minute() -> impl Strategy<Value = (Millis, isize)> {
    let orders = prop_oneof![Just(1isize), 1..9isize, Just(384), Just(383), 300..3_000isize];
    (0..9i64, 0..150i64, orders)
        .prop_map(|(week, minute, orders)| (week * WEEK + 3 * HOUR + minute * MINUTE, orders))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Orders late, before all others and withdrawn; `now` absent, at rest, inside a minute, and in
    /// steps of minutes, weeks and years.
    #[test]
    fn alerts_are_those_of_the_letter(
        moves in moves(
            minute(),
            3 * HOUR,
            prop_oneof![
                2 => 0..2 * MINUTE,
                2 => (0..90i64).prop_map(|minutes| minutes * MINUTE - 1),
                4 => (0..3i64, 0..99i64).prop_map(|(weeks, minutes)| weeks * WEEK + minutes * MINUTE),
                1 => Just(520 * WEEK),
            ],
        ),
        workers in 1..5usize,
    ) {
        prop_assert_eq!(held(moves.clone(), workers, ours), naive(&moves));
    }
}

/// With 64 orders expected in ten minutes, 32 are half and 16 a quarter.
#[test]
fn half_is_a_warning_and_a_quarter_an_alarm() {
    let crowd = (0..4).map(|week| (week * WEEK, 384));
    let severity = |orders: isize| {
        let placed = crowd.clone().chain([(4 * WEEK + 20 * MINUTE, orders)]).collect();
        let moves = vec![(placed, Some(4 * WEEK + 21 * MINUTE))];
        let held = held(moves.clone(), 1, ours);
        assert_eq!(held, naive(&moves));
        let last = held.into_keys().map(|(_epoch, row)| row).max();
        last.filter(|row| row.0 == 4 * WEEK + 20 * MINUTE).map(|row| row.3)
    };
    assert_eq!(severity(33), None);
    assert_eq!(severity(32).as_deref(), Some("warning"));
    assert_eq!(severity(17).as_deref(), Some("warning"));
    assert_eq!(severity(16).as_deref(), Some("alarm"));
}

/// Four weeks with 6.4 orders a minute but for one, and then none: as if all were alike.
#[test]
fn one_week_of_a_sale_or_of_an_outage_does_not_matter() {
    for other in [0, 384, 100_000] {
        for week in 0..4 {
            let orders = |it| if it == week { other } else { 384 };
            let placed = (0..4).map(|it| (it * WEEK, orders(it))).collect();
            let held = held(vec![(placed, Some(4 * WEEK + 20 * MINUTE))], 1, ours);
            let minute = 4 * WEEK + 15 * MINUTE;
            // In the first week the ten minutes are those after the shop's first hour began.
            let begins = 4 * WEEK + if week == 0 && other == 0 { WEEK } else { 0 };
            let alert = held.contains_key(&(0, (minute, 0, 15_360, "alarm".to_owned())));
            assert_eq!(alert, minute >= begins, "{other} orders in week {week}");
        }
    }
}

/// The square of what is missing does not fit into an `i64`.
#[test]
fn a_shop_of_any_size_is_watched() {
    let orders = 1 << 30;
    let placed = (0..4).map(|week| (week * WEEK, orders)).collect();
    let held = held(vec![(placed, Some(4 * WEEK + 20 * MINUTE))], 1, ours);
    let before = 40 * orders as i64;
    assert!(held.contains_key(&(0, (4 * WEEK + 15 * MINUTE, 0, before, "alarm".to_owned()))));
}
