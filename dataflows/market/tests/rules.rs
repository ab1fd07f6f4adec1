//! The literal rules: who and what is in the working set, what the score is made of, and when
//! things happen. Statistical tests have fixed seeds; their bounds are five standard errors, so a
//! rule that holds fails one of them in a million.

use super::*;
use crate::model::{
    ProductId,
    ScenarioAction::{Change, Start, Stop},
    Sex,
    time::day_of_date,
};

/// The rules of a profile that changes some, without a history.
fn settings_with(changes: &str) -> Settings {
    let profile = Profile::read(&format!("base = \"year\"\n{changes}")).unwrap();
    Settings { profile, ..settings(0) }
}

/// Whether a share of so many trials is what it should be, up to five standard errors.
fn is_near(hits: usize, trials: usize, share: f64) -> bool {
    let error = (share * (1.0 - share) / trials as f64).sqrt();
    (hits as f64 / trials as f64 - share).abs() < 5.0 * error
}

/// 600 past buyers, oldest last order first, and 400 who never bought, newest sign-up first; when
/// one group is short the other fills up. Against a selection from all events so far.
#[test]
fn the_working_set_is_the_600_and_the_400() {
    let all = "[working_set]\nselection = \"all\"\n[demand]\nwait = \"5m\"\n";
    for (customers, conversion) in [(300, "1h"), (800, "2h"), (3_000, "30m"), (3_000, "5d")] {
        let changes = format!(
            "{all}conversion = \"{conversion}\"\n\
             [customers]\ninitial = {customers}\nreach = 4000\ndormant_after = \"3000d\""
        );
        let mut market = Market::new(settings_with(&changes), 0, 1, None, &[]);
        let mut last_order: BTreeMap<u32, Millis> = BTreeMap::new();
        let (mut full, mut short) = (0, 0);
        for refresh in 0..250 {
            let known = market.common.customers;
            let proposal = Arc::new(market.propose());
            let mut events = Vec::new();
            market.begin(&[proposal], &mut |event| events.push(event));
            let mut bought: Vec<_> = last_order.iter().map(|(id, at)| (*at, *id)).collect();
            bought.sort_unstable();
            let never: Vec<u32> =
                (1..=known).rev().filter(|id| !last_order.contains_key(id)).collect();
            let buyers = bought.len().min(600.max(1_000_usize.saturating_sub(never.len())));
            let newcomers = never.len().min(1_000 - buyers);
            let mut expected: Vec<u32> = bought[..buyers]
                .iter()
                .map(|(_, id)| *id)
                .chain(never[..newcomers].to_vec())
                .collect();
            expected.sort_unstable();
            let mut set: Vec<u32> = market.common.working_set.roster.ids().collect();
            set.sort_unstable();
            assert_eq!(set, expected, "{customers} customers, refresh {refresh}");
            full += usize::from((buyers, newcomers) == (600, 400));
            short += usize::from((buyers, newcomers) != (600, 400));
            while market.next_tick().is_some() {
                market.run_tick(&mut |event| events.push(event));
            }
            for event in events {
                if let Event::Order(OrderEvent { order, .. }) = event
                    && order.event == OrderKind::Placed
                {
                    last_order.insert(order.user_id.0 as u32, order.at);
                }
            }
        }
        assert!(last_order.len() > 20, "{customers} customers: {} bought", last_order.len());
        assert!(if conversion == "30m" { full > 0 && short > 0 } else { short > 0 });
    }
}

/// The 700 with most orders in the window and the 300 newest others, of what is not sold out,
/// against a selection from all counts; stock falls by what is sold, and is filled up again.
#[test]
fn the_offer_is_the_700_best_and_the_300_newest_others() {
    let profile = Profile::read(
        "base = \"year\"\n[working_set]\nrefresh = \"1h\"\nbest_sellers_days = 1\n\
         [products]\nstock = [1, 9]\ndelivery = [\"3h\", \"9h\"]",
    )
    .unwrap();
    let random = &mut draw(2, Purpose::Demand, 0, 0);
    let words: Vec<Word> = profile.words().into_iter().map(Word::from).collect();
    let mut catalog = Catalog::new(&profile.working_set);
    let mut sales: Vec<(u32, u32)> = Vec::new();
    let mut stocks: HashMap<u32, i64> = HashMap::new();
    let (mut sold_out, mut refilled) = (0, 0);
    for refresh in 0..90 {
        for _ in 0..if refresh == 0 { 2_000 } else { random.random_range(0..9) } {
            let id = catalog.list(&profile, 5, 0);
            stocks.insert(id, catalog.record(&profile, 5, id, &words).stock);
        }
        if refresh % 7 == 3 {
            let kept = bincode::serialize(&catalog).unwrap();
            catalog = bincode::deserialize(&kept).unwrap();
            catalog.restore(&profile.working_set);
        }

        let sold: Vec<(u32, u32)> = (0..if refresh > 0 { random.random_range(0..120) } else { 0 })
            .map(|_| (random.random_range(1..=catalog.len() as u32), random.random_range(1..=3)))
            .filter(|(id, _)| !catalog.get(*id).sold_out)
            .collect();
        sales.extend(sold.iter().map(|(id, _)| (refresh.max(1) - 1, *id)));
        sales.retain(|(at, _)| at + 24 >= refresh);
        for (id, units) in &sold {
            *stocks.get_mut(id).unwrap() -= i64::from(*units);
        }
        let was_out: Vec<bool> =
            (1..=catalog.len() as u32).map(|id| catalog.get(id).sold_out).collect();
        for id in catalog.refresh(&profile, 5, refresh, sold.into_iter()) {
            let stock = catalog.record(&profile, 5, id, &words).stock;
            if was_out[id as usize - 1] {
                refilled += 1;
                assert!(stock > 0, "a delivery of nothing");
                stocks.insert(id, stock);
            } else if stock == 0 {
                sold_out += 1;
                assert!(stocks[&id] <= 0, "sold out with {} left", stocks[&id]);
            } else if stock > stocks[&id] {
                stocks.insert(id, stock); // filled up before it was sold out
            }
            assert!(stock == 0 || stock == stocks[&id], "{stock} left, not {}", stocks[&id]);
        }

        let mut counts: HashMap<u32, i64> = HashMap::new();
        for (_, id) in &sales {
            *counts.entry(*id).or_default() += 1;
        }
        let there = |id: &u32| !catalog.get(*id).sold_out;
        let mut ranked: Vec<(i64, u32)> =
            counts.iter().filter(|(id, _)| there(id)).map(|(id, n)| (-n, *id)).collect();
        ranked.sort_unstable();
        let best: BTreeSet<u32> = ranked.iter().take(700).map(|(_, id)| *id).collect();
        let others = (1..=catalog.len() as u32).rev().filter(|id| there(id) && !best.contains(id));
        let mut expected: Vec<u32> =
            best.iter().copied().chain(others.take(1_000 - best.len())).collect();
        expected.sort_unstable();
        let mut offered: Vec<u32> = catalog.roster.ids().collect();
        offered.sort_unstable();
        assert_eq!(offered, expected, "refresh {refresh}");
    }
    assert!(sold_out > 50 && refilled > 30, "{sold_out} sold out, {refilled} refilled");
}

/// What the ledger says of goods that are sold out: nobody orders them until they are back.
#[test]
fn what_is_sold_out_is_not_sold() {
    let settings =
        Settings { profile: settings_with("[products]\nstock = [5, 60]").profile, ..settings(6) };
    let ran = run(&settings, 3, None, &[], 6 * DAY_REFRESHES, DAY);
    let mut out: HashMap<ProductId, Vec<(Millis, bool)>> = HashMap::new();
    let mut sold_out = 0;
    for event in ran.records.values().flatten() {
        if let Event::Product(ProductEvent { at, product, .. }) = event {
            out.entry(product.product_id).or_default().push((*at, product.stock == 0));
            sold_out += usize::from(product.stock == 0);
        }
    }
    assert!(sold_out > 100, "{sold_out}");
    for order in ran.placed() {
        for line in order.lines.iter() {
            let before = out[&line.product_id].iter().take_while(|(at, _)| *at < order.at).last();
            assert!(before.is_some_and(|(_, out)| !out), "{order:?}");
        }
    }
}

/// A customer who does nothing for long becomes DORMANT, or WITHDRAWN and never orders again; a
/// DORMANT one who orders is ACTIVE again.
#[test]
fn statuses_have_a_life() {
    let profile = settings_with("[customers]\ndormant_after = \"3d\"\nwithdrawn = 0.3").profile;
    let settings = Settings { profile, ..settings(9) };
    let ran = run(&settings, 2, None, &[], 9 * DAY_REFRESHES, DAY);
    let mut records: HashMap<UserId, Vec<(Millis, Status)>> = HashMap::new();
    for event in ran.records.values().flatten() {
        if let Event::User(UserEvent { at, user, .. }) = event {
            records.entry(user.user_id).or_default().push((*at, user.status));
        }
    }
    let mut orders: HashMap<UserId, Vec<Millis>> = HashMap::new();
    ran.placed().for_each(|order| orders.entry(order.user_id).or_default().push(order.at));
    let (mut dormant, mut withdrawn, mut back) = (0, 0, 0);
    for (user_id, records) in records {
        let orders = orders.get(&user_id).map_or(&[][..], |orders| orders);
        assert_eq!(records[0].1, Status::Active);
        for pair in records.windows(2) {
            let (before, (at, status)) = (pair[0].1, pair[1]);
            let recent = orders.iter().any(|order| at - 3 * DAY < *order && *order <= at);
            match status {
                Status::Active => {
                    back += 1;
                    assert!(before == Status::Dormant && recent, "{user_id} came back at {at}");
                }
                Status::Dormant | Status::Withdrawn => {
                    assert!(before == Status::Active && !recent, "{user_id} at {at}");
                    dormant += usize::from(status == Status::Dormant);
                    withdrawn += usize::from(status == Status::Withdrawn);
                }
            }
            if status == Status::Withdrawn {
                assert!(orders.iter().all(|order| *order <= at), "{user_id} has left and orders");
            }
        }
    }
    assert!(is_near(withdrawn, dormant + withdrawn, 0.3), "{withdrawn} of {dormant} withdrew");
    assert!(dormant > 1_000 && back > 10, "{dormant} became dormant, {back} came back");
}

/// Of those who consented a fifth are boosted each day; 85 % have a usual day, 12 % spend more,
/// 3 % much more.
#[test]
fn moods_have_their_shares() {
    let rules = settings(0).profile.score;
    let days = 100_000;
    let moods: Vec<_> = (0..days).map(|day| people::mood(&rules, 3, 17, true, day)).collect();
    let count =
        |of: fn(&(f64, f64)) -> bool| (moods.iter().filter(|mood| of(mood)).count(), moods.len());
    for (of, share) in [
        ((|mood| is(mood.0, 1.3)) as fn(&(f64, f64)) -> bool, 0.2),
        (|mood| is(mood.1, 1.0), 0.85),
        (|mood| is(mood.1, 1.5), 0.12),
        (|mood| is(mood.1, 3.0), 0.03),
    ] {
        let (hits, trials) = count(of);
        assert!(is_near(hits, trials, share), "{hits} of {trials}, not {share}");
    }
    assert!((0..1_000).all(|day| people::mood(&rules, 3, 17, false, day).0 <= 1.0), "no consent");
}

/// Whether a customer belongs to a group on a day.
type Belongs = fn(&Market, u32, Day) -> bool;

/// A group, and what doubles its factor.
type Group = (&'static str, fn(&mut profile::Score), Belongs);

fn mood_of(market: &Market, id: u32, day: Day) -> (f64, f64) {
    let (rules, seed) = (&market.settings.profile.score, market.settings.seed);
    people::mood(rules, seed, id, market.customers.get(id).person.consent, day)
}

fn is(factor: f64, expected: f64) -> bool {
    (factor - expected).abs() < 1e-9
}

/// Each factor of the score, doubled for a group, doubles the group's odds to be drawn.
#[test]
fn no_factor_is_decoration() {
    const DRAWS: usize = 20_000;
    // Everybody who signed up more than a day ago is DORMANT.
    let base =
        settings_with("[customers]\ndormant_after = \"1d\"\nrush = 0.0\n[score]\ndormant = 0.5");
    let (mut market, _) = refreshes(base, 60, |_| {});
    let proposal = Arc::new(market.propose());
    market.begin(&[proposal], &mut |_| {});
    let hour = 14;
    let at = market.settings.border(market.common.refresh);
    let day = day_of(at);
    let year = market.settings.profile.clone();

    let groups: [Group; 6] = [
        ("women", |it| it.women *= 2.0, |m, id, _| m.customers.get(id).person.sex == Sex::F),
        ("the 40s", |it| it.ages[3] *= 2.0, |m, id, day| m.customers.get(id).person.band(day) == 3),
        ("consent", |it| it.consent[1] *= 2.0, |m, id, _| m.customers.get(id).person.consent),
        (
            "DORMANT",
            |it| it.dormant *= 2.0,
            |m, id, _| m.customers.get(id).status == Status::Dormant,
        ),
        ("boosted", |it| it.boost.1 *= 2.0, |m, id, day| mood_of(m, id, day).0 > 1.0),
        ("spending more", |it| it.life[0].1 *= 2.0, |m, id, day| is(mood_of(m, id, day).1, 1.5)),
    ];
    let mut odds = |score: profile::Score, hours: Option<usize>, belongs: Belongs| {
        let profile = Profile { score, ..year.clone() };
        market.customers.set_rules(&profile);
        let (left, came) = market.customers.changes(day, true);
        let rules = &market.settings.profile.working_set;
        let set = &mut market.common.working_set;
        set.refresh(rules, left.iter(), came.iter(), |score| weight(score, 1.0), true);
        let kept = set.clone();
        let liking = market.hours;
        if let Some(band) = hours {
            market.hours[band][hour] *= 2.0;
        }
        let mut hits = 0;
        for _ in 0..DRAWS {
            let id = market.pick(hour);
            hits += usize::from(belongs(&market, id, day));
            market.common.working_set = kept.clone();
        }
        market.hours = liking;
        hits as f64 / (DRAWS - hits) as f64
    };
    let usual = year.score.clone();
    let mut doubles = |group: &str, doubled: profile::Score, hours, belongs| {
        let before = odds(usual.clone(), None, belongs);
        let ratio = odds(doubled, hours, belongs) / before;
        // The error of the logarithm of odds is 1 / sqrt(n p (1 - p)).
        let share = before / (1.0 + before);
        let error = (2.0 / (DRAWS as f64 * share * (1.0 - share))).sqrt();
        assert!(
            (ratio / 2.0).ln().abs() < 5.0 * error && error < 0.1,
            "{group}: odds of {before:.3} times {ratio:.3}, error {error:.3}"
        );
    };
    for (group, double, belongs) in groups {
        let mut score = usual.clone();
        double(&mut score);
        doubles(group, score, None, belongs);
    }
    doubles("an hour that the 40s like", usual.clone(), Some(3), |m, id, day| {
        m.customers.get(id).person.band(day) == 3
    });

    // Nobody has a grade in the first hour.
    let person = &market.customers.get(7).person;
    let score = |rules: &profile::Score| {
        let grade = crate::operators::Grade::Vip;
        person.score(rules, 7, 7, Status::Active, grade, day)
    };
    let mut changed = usual.clone();
    changed.grades[3] *= 2.0;
    assert!((score(&changed) / score(&usual) - 2.0).abs() < 1e-9);
}

/// Temperature 0 takes the highest scores.
#[test]
fn at_temperature_0_the_top_n_order() {
    let (mut market, _) = refreshes(settings_with("[score]\ntemperature = 0.0"), 3, |_| {});
    let proposal = Arc::new(market.propose());
    market.begin(&[proposal], &mut |_| {});
    let hour = 14;
    let liking = |band: u8| (market.hours[usize::from(band)][hour] * 1e3) as u64 + 1;
    let members = market.common.working_set.roster.members();
    let mut scores: Vec<(u64, u32)> =
        members.map(|(id, band, weight)| (weight * liking(band), id)).collect();
    scores.sort_unstable_by(|a, b| b.cmp(a));
    let picked: Vec<u32> = (0..50).map(|_| market.pick(hour)).collect();
    assert!(picked.iter().eq(scores[..50].iter().map(|(_, id)| id)));
}

/// Order ticks every 3 to 5 s, new sets every 50 s, new products every 6 to 8 s, and new customers
/// on a curve that begins at 10 in 10 s and decays.
#[test]
fn things_happen_when_they_should() {
    let settings = settings(0);
    assert_eq!(settings.refresh(), 50 * SECOND);
    for refresh in 0..2_000 {
        let mut last = settings.border(refresh);
        for tick in settings.ticks(refresh) {
            assert!((3 * SECOND..=5 * SECOND).contains(&(tick - last)), "{}", tick - last);
            last = tick;
        }
        assert_eq!(last, settings.border(refresh + 1));
    }
    for id in 1..2_000 {
        let gap = settings.listing_gap(id, settings.start);
        assert!((6 * SECOND..=8 * SECOND).contains(&gap), "{gap}");
    }
    let per_10_s = |at: Millis| settings.sign_up_rate(at) * 10.0 * SECOND as f64;
    assert!((per_10_s(settings.start) - 10.0).abs() < 0.2, "{}", per_10_s(settings.start));
    let hours: Vec<f64> = (0..24).map(|hour| per_10_s(settings.start + hour * HOUR)).collect();
    assert!(hours.is_sorted_by(|a, b| a > b), "{hours:?}");
    assert!(hours[23] < 0.1, "{hours:?}");
}

/// The 20s buy most at 21:00, the 50s at 10:00; each curve has mean 1.
#[test]
fn the_hours_have_their_peaks() {
    let hours = calendar::hours(&settings(0).profile.demand);
    let peak = |band: usize| (0..24).max_by(|a, b| hours[band][*a].total_cmp(&hours[band][*b]));
    assert_eq!((peak(1), peak(4)), (Some(21), Some(10)));
    for band in &hours {
        assert!((band.iter().sum::<f64>() / 24.0 - 1.0).abs() < 1e-9, "{band:?}");
    }
}

/// A scenario by hand: its rule's categories, its end, and the calendar's way after it.
#[test]
fn a_command_ends_when_it_said() {
    let settings = Settings::new(7, start_of_day(day_of_date("2026-11-28".parse().unwrap())), DAY);
    let by_hand = |name: &str, minutes, strength, until: Option<i64>| Command {
        at: settings.origin + minutes * MINUTE,
        name: name.to_owned(),
        strength,
        categories: Vec::new(),
        until: until.map(|minutes| settings.origin + minutes * MINUTE),
    };
    let commands = [
        by_hand("flash", 10, Some(2.0), Some(30)),
        by_hand("black-friday", 20, Some(1.5), Some(40)),
        by_hand("kimjang", 50, None, None),
    ];
    let ran = run(&settings, 2, None, &commands, DAY_REFRESHES / 24 * 3, DAY);
    let mut told = Vec::new();
    for event in &ran.records[&(Topic::Scenarios, 0)] {
        if let Event::Scenario(event) = event
            && ["flash", "black-friday", "kimjang"].contains(&&*event.name)
        {
            let minute = (event.at - settings.origin) as f64 / MINUTE as f64;
            told.push((minute, &*event.name, event.action, event.strength.get()));
        }
    }
    assert_eq!(
        told,
        [
            (0.0, "black-friday", Start, 3.0),
            (0.0, "kimjang", Start, 1.02),
            (10.0, "flash", Start, 2.0),
            (20.0, "black-friday", Change, 1.5),
            (30.0, "flash", Stop, 2.0),
            (40.0, "black-friday", Change, 3.0),
            (50.0, "kimjang", Stop, 1.02),
        ]
    );
}
