//! The literal rules: who and what is in the working set, what the score is made of, and when
//! things happen. Statistical tests have fixed seeds; their bounds are five standard errors, so a
//! rule that holds fails one of them in a million.

use super::{catalog::Offered, shelf::Shelf, *};

use crate::model::{
    ProductId,
    ScenarioAction::{Change, Start, Stop},
    Sex,
    time::day_of_date,
};

/// Whether a share of so many trials is what it should be, up to five standard errors.
fn is_near(hits: usize, trials: usize, share: f64) -> bool {
    let error = (share * (1.0 - share) / trials as f64).sqrt();
    (hits as f64 / trials as f64 - share).abs() < 5.0 * error
}

/// 600 past buyers, oldest last order first, and 400 who never bought, newest sign-up first; when
/// one group is short the other fills up. Against a selection from all events so far.
#[test]
fn the_working_set_is_the_600_and_the_400() {
    // So many never-buyers order a day of usual demand for each 540 of them; buyers for each 700.
    for (customers, newcomers_a_day, both) in
        [(300, 8_000, false), (800, 4_000, false), (3_000, 6_000, true), (3_000, 500, false)]
    {
        let changes = format!(
            "[working_set]\nselection = \"all\"\n\
             [demand]\narrivals = [3_000, {newcomers_a_day}]\npressure = 1.0\n\
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
            let mut set: Vec<u32> = market.working_set.members.iter().map(|(id, _)| id).collect();
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
        assert!(
            short > 0 && (full > 0) == both,
            "{customers} customers: {full} full, {short} short"
        );
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
    let words: Vec<_> = profile.words().into_iter().map(crate::model::Category::from).collect();
    let mut catalog = Catalog::new(&profile);
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
            catalog.restore(&profile);
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
        let Offered { best: sellers, newest } = catalog.offered();
        let offered: Vec<u32> = sorted_ids(sellers.iter().chain(newest));
        assert_eq!(offered, expected, "refresh {refresh}");
        assert!(sorted_ids(sellers.iter()).into_iter().eq(best), "refresh {refresh}");
    }
    assert!(sold_out > 50 && refilled > 30, "{sold_out} sold out, {refilled} refilled");
}

fn sorted_ids<'m>(shelves: impl Iterator<Item = &'m Shelf>) -> Vec<u32> {
    let mut ids: Vec<u32> = shelves.flat_map(Shelf::iter).map(|(id, _)| id).collect();
    ids.sort_unstable();
    ids
}

/// What the ledger says of goods that are sold out: nobody orders them until they are back.
#[test]
fn what_is_sold_out_is_not_sold() {
    let settings =
        Settings { profile: settings_with("[products]\nstock = [1, 9]").profile, ..settings(6) };
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
    for (boost, boosted) in [(1.0, 0.8), (1.3, 0.2)] {
        for (life, lived) in [(1.0, 0.85), (1.5, 0.12), (3.0, 0.03)] {
            let hits = moods.iter().filter(|mood| is(**mood, boost * life)).count();
            let share = boosted * lived;
            assert!(is_near(hits, moods.len(), share), "{boost} x {life}: {hits}, not {share}");
        }
    }
    let without = |day| people::mood(&rules, 3, 17, false, day);
    assert!((0..1_000).all(|day| [1.0, 1.5, 3.0].contains(&without(day))), "no consent");
}

/// Whether a customer belongs to a group on a day.
type Belongs = fn(&Market, u32, Day) -> bool;

/// A group, and what doubles its factor.
type Group = (&'static str, fn(&mut profile::Score), Belongs);

/// A customer's boost of the day, and what happens in their life.
fn moods_of(market: &Market, id: u32, day: Day) -> [f64; 2] {
    let Settings { profile, seed, .. } = &market.settings;
    let consent = market.customers.get(id).person.consent;
    let mut alone = [profile.score.clone(), profile.score.clone()];
    alone[0].life = alone[0].life.map(|(share, _)| (share, 1.0));
    alone[1].boost.1 = 1.0;
    alone.map(|rules| people::mood(&rules, *seed, id, consent, day as u64))
}

fn is(factor: f64, expected: f64) -> bool {
    (factor - expected).abs() < 1e-9
}

/// Each factor of the score, doubled for a group, doubles the group's keys in the race: who orders.
#[test]
fn no_factor_is_decoration() {
    // Everybody who signed up more than a day ago is DORMANT.
    let base = settings_with(
        "[customers]\ndormant_after = \"1d\"\nopening_delay = \"1h\"\n[score]\ndormant = 0.5",
    );
    let (mut market, _) = refreshes(base, 60, |_| {});
    let proposal = Arc::new(market.propose());
    market.begin(&[proposal], &mut |_| {});
    let now = market.settings.border(market.common.refresh);
    let day = day_of(now);
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
        ("boosted", |it| it.boost.1 *= 2.0, |m, id, day| moods_of(m, id, day)[0] > 1.0),
        ("spending more", |it| it.life[0].1 *= 2.0, |m, id, day| is(moods_of(m, id, day)[1], 1.5)),
    ];
    // The keys of the group and of the others in an hour, those of each customer lower or higher by
    // their intensity alone; the demand is one that gives ten thousands of them.
    let mut keys = |score: profile::Score, liked: Option<usize>, belongs: Belongs| {
        let profile = Profile { score, ..year.clone() };
        market.customers.set_rules(&profile);
        let (left, came) = market.customers.changes(now, true);
        let weight = |face: &Candidate| {
            let mood = people::mood(&profile.score, 7, face.id, face.consent, day as u64);
            weight(face.score * mood, 1.0)
        };
        let rules = &profile.working_set;
        market.working_set.refresh(rules, left.iter(), came.iter(), weight, true);
        let mut rates = market.rates.clone();
        if let Some(band) = liked {
            rates.liking[band] *= 2.0;
        }
        let members = market.working_set.members.iter();
        let runners: Vec<Runner> = members.map(|(id, member)| runner(&rates, id, member)).collect();
        let demand = 30.0 / 65_536.0 / HOUR as f64;
        market.race.start(7, now, [demand; 2], runners.into_iter());
        let mut counts = [0.0_f64; 2];
        while let Some(key) = market.race.pop(now + HOUR) {
            if key.demand <= demand {
                counts[usize::from(belongs(&market, key.runner.id, day))] += 1.0;
            }
        }
        counts
    };
    let usual = year.score.clone();
    let mut doubles = |group: &str, doubled: profile::Score, liked, belongs| {
        let [others, before] = keys(usual.clone(), None, belongs);
        let [others_after, after] = keys(doubled, liked, belongs);
        // Nobody else's keys change at all, and of the doubled ones each was there before.
        assert!((others - others_after).abs() < 1e-9, "{group}: {others} and {others_after}");
        let error = (1.0 / before + 1.0 / after).sqrt();
        assert!(
            (after / before / 2.0).ln().abs() < 5.0 * error && error < 0.1,
            "{group}: {before} keys times {:.3}, error {error:.3}",
            after / before
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
        person.score(rules, Status::Active, grade, false, day).product()
    };
    let mut changed = usual.clone();
    changed.grades[3] *= 2.0;
    assert!((score(&changed) / score(&usual) - 2.0).abs() < 1e-9);
}

/// Temperature 0 takes the highest scores: so many a tick as the profile says.
#[test]
fn at_temperature_0_the_top_n_order() {
    let rules = "[score]\ntemperature = 0.0\n[demand]\norders_a_tick = 3\n\
                 [customers]\nopening_delay = \"1h\"";
    let (mut market, _) = refreshes(settings_with(rules), 60, |_| {});
    let proposal = Arc::new(market.propose());
    market.begin(&[proposal], &mut |_| {});
    let score = |(id, member): (u32, Member)| (runner(&market.rates, id, member).intensity, id);
    let mut scores: Vec<(f64, u32)> = market.working_set.members.iter().map(score).collect();
    scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    let mut picked = Vec::new();
    while market.next_tick().is_some() {
        market.run_tick(&mut |event| {
            if let Event::Order(OrderEvent { order, .. }) = event
                && order.event == OrderKind::Placed
            {
                picked.push(order.user_id.0 as u32);
            }
        });
    }
    assert_eq!(picked.len(), 3 * market.ticks.len());
    assert!(picked.iter().eq(scores[..picked.len()].iter().map(|(_, id)| id)));
}

/// Order ticks every 3 to 5 s and new sets every 50 s; in `brief` new products every 6 to 8 s, and new
/// customers on a curve that begins at 10 in 10 s and decays, from when it is started live; in `year`
/// no rate has a step when it goes live.
#[test]
fn things_happen_when_they_should() {
    let settings = Settings { profile: Profile::named("brief").unwrap(), ..settings(0) };
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
    let hours: Vec<f64> = (0..96).map(|hour| per_10_s(settings.start + hour * HOUR)).collect();
    assert!(hours.is_sorted_by(|a, b| a > b), "{hours:?}");
    assert!((hours[12] / hours[0] * std::f64::consts::E - 1.0).abs() < 0.02, "{hours:?}");
    assert!(hours[95] < 0.1, "{hours:?}");

    let year = Settings::new(7, settings.start, 365 * DAY);
    let at = |step: i64| year.start + step;
    let (before, after) = (year.sign_up_rate(at(-1)), year.sign_up_rate(at(1)));
    assert!((after / before - 1.0).abs() < 1e-6, "sign-ups {before} and {after}");
    let rules = &year.profile.products;
    let expected = rules.listed_a_day + rules.listed_more * 365.0 / 30.0;
    for id in 1..200 {
        let gaps = [-1, 1].map(|step| year.listing_gap(id, at(step)));
        assert!((gaps[0] - gaps[1]).abs() <= 1, "listings {gaps:?}");
        let a_day = DAY as f64 / gaps[0] as f64;
        assert!((a_day / expected - 1.0).abs() < 0.17, "{a_day} listings a day, not {expected}");
    }
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
    let peak = |name| settings.scenarios.iter().find(|rule| rule.name == name).unwrap().peak();
    let kimjang = peak("kimjang");
    assert_eq!(
        told,
        [
            (0.0, "black-friday", Start, 3.0),
            (0.0, "kimjang", Start, kimjang),
            (10.0, "flash", Start, 2.0),
            (20.0, "black-friday", Change, 1.5),
            (30.0, "flash", Stop, 2.0),
            (40.0, "black-friday", Change, 3.0),
            (50.0, "kimjang", Stop, kimjang),
        ]
    );
}

/// What is checked can be lived through, however extreme: no sum leaves its type, no loop goes on for
/// ever, and the market goes on.
#[test]
fn what_is_allowed_can_be_lived_through() {
    let narrow = "hours = [[[12.0, 0.2, 1.0]], [[0.0, 0.2, 1.0]], [[23.9, 0.2, 0.5]], [], [], []]";
    for changes in [
        "[score]\nwomen = 0.0\nmen = 0.0",
        "[score]\ntemperature = 0.001\nages = [0.01, 0.1, 1.0, 10.0, 99.0, 100.0]",
        "[score]\nages = [100.0, 100.0, 100.0, 100.0, 100.0, 100.0]\nwomen = 100.0\nmen = 100.0",
        "[demand]\nbacklog = [0.001, 0.001]\npressure = 10.0\narrivals = [1e9, 1e9]",
        "[demand]\nweekdays = [100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0]\n\
         months = [100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0]\n\
         noise = 2.0\nlift = 10.0\nceiling = 10.0\npull = 1.0\nawakened = 1.0",
        "[demand]\nweekdays = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]\nnoise = 0.0\npull = 0.0\nawakened = 0.0",
        &format!("[demand]\n{narrow}\nsmooth = \"1s\""),
        "[demand]\norders_a_tick = 4_000\n[score]\ntemperature = 0.0",
        "[demand]\ntick = [\"1s\", \"1s\"]\n[working_set]\nrefresh = \"1s\"",
        "[rhythm]\norders_a_month = 1e6\nrest = \"0s\"\nspread = 100.0\ndrop_out = [0.001, 1000.0]",
        "[rhythm]\norders_a_month = 0.001\nreturn = \"3650d\"\ndrop_out = [1e6, 0.001]",
        "[customers]\ninitial = 0\nreach = 100000000.0\ngrowth = 100.0",
        "[customers]\ninitial = 0\nreach = 0.0",
        "[products]\nlisted_a_day = 100000\nlisted_more = 100000\nstock = [1, 1]\nreorder = 1.0",
        "[products]\nlisted_a_day = 0.001\ninitial = 1",
        "[basket]\nlines = [0.001, 1e6]\nmost = 100\nremembered = 0",
        "[working_set]\ncustomers = 1\nbuyers = 0\nproducts = 1\nbest_sellers = 0",
        "[working_set]\nselection = \"all\"",
    ] {
        let mut settings = settings_with(changes);
        settings.profile.categories[3].elasticity = 10.0;
        let reduced = "[[scenario]]\nname = \"off\"\ncategories = [\"beauty\"]\nday = { date = \"12-01\" }\n\
                       phases = [{ from = 0, to = 0, demand = 10.0, discount = 0.9 }]";
        settings.scenarios = Scenario::read(reduced, &settings.profile.words()).unwrap();
        settings.check().unwrap();
        let command = |name: &str| Command {
            at: settings.origin + HOUR / 2,
            name: name.to_owned(),
            strength: Some(10.0),
            categories: vec!["beauty".to_owned()],
            until: None,
        };
        let commands: Vec<Command> = ["a", "b", "c", "d", "e"].map(command).into();
        let origin = settings.origin;
        let mut market = Market::new(settings, 0, 1, None, &commands);
        let refreshes = (2 * HOUR / market.settings.refresh()) as u64;
        live_through(&mut market, refreshes, &mut |_| {});
        assert_eq!(market.figures().at, origin + 2 * HOUR, "{changes}");
        assert!(market.figures().demand.is_finite(), "{changes}");
    }
}
