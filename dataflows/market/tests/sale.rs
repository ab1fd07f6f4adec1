//! What a sale, a discount and the two groups of the working set make of the shipped market.

use super::{owners::BUSY, *};
use crate::model::time::{date_of, hour_of};

/// A market of this seed that has lived for so many days, without scenarios.
fn market_after(seed: u64, days: u64) -> Market {
    let settings = Settings { seed, scenarios: Vec::new(), ..settings(0) };
    let (mut market, _) = refreshes(settings, 0, |_| {});
    live_through(&mut market, days * DAY_REFRESHES, &mut |_| {});
    market
}

/// One scenario of one phase on the day on which a market stands.
fn on_this_day(market: &Market, what: &str) -> Vec<Scenario> {
    let at = market.settings.border(market.common.refresh);
    assert_eq!(hour_of(at), 0);
    let date = date_of(day_of(at)).format("%m-%d").to_string();
    let text = format!("[[scenario]]\nname = \"test\"\nday = {{ date = \"{date}\" }}\n{what}");
    Scenario::read(&text, &market.settings.profile.words()).unwrap()
}

/// The orders of each of so many days in which these scenarios are the calendar.
fn days(market: &Market, scenarios: Vec<Scenario>, days: usize) -> Vec<Vec<Order>> {
    let settings = Settings { scenarios, ..market.settings.clone() };
    let from = settings.border(market.common.refresh);
    let mut by_day = vec![Vec::new(); days];
    let mut market = fork(market, &settings, &[]);
    live_through(&mut market, days as u64 * DAY_REFRESHES, &mut |event| {
        if let Event::Order(OrderEvent { order, .. }) = event
            && order.event == OrderKind::Placed
        {
            // An order may come at the very end.
            let day = ((order.at - 1 - from) / DAY) as usize;
            by_day[day].push(order);
        }
    });
    by_day
}

/// A Black Friday of one day beside the same market without it: about three times as many orders on
/// the day, and fewer than without it in the two weeks after, because those who bought are not due.
#[test]
#[expect(clippy::print_stdout, reason = "the figures are the point, with --nocapture")]
fn a_sale_pulls_orders_forward_and_leaves_a_dip() {
    for seed in [1, 2] {
        let market = market_after(seed, 45);
        let sale =
            on_this_day(&market, "categories = []\nphases = [{ from = 0, to = 0, demand = 3.0 }]");
        let count = |scenarios| -> Vec<f64> {
            days(&market, scenarios, 15).iter().map(|orders| orders.len() as f64).collect()
        };
        let (with, without) = (count(sale), count(Vec::new()));
        let factor = with[0] / without[0];
        let sum = |days: &[f64]| days[1..].iter().sum::<f64>();
        let missing = sum(&without) - sum(&with);
        let pulled = missing / (with[0] - without[0]);
        println!(
            "seed {seed}: x{factor:.2} on the day, {:+.1} % on days 1 to 14, {:.0} % of the lift",
            -100.0 * missing / sum(&without),
            100.0 * pulled
        );
        assert!((2.7..3.3).contains(&factor), "x{factor} on the day");
        assert!((0.15..0.4).contains(&pulled), "{pulled} of the lift is missing afterwards");
    }
}

/// The orders after a day with and without a placebo are the same.
#[test]
fn a_sale_of_nothing_changes_nothing() {
    let market = market_after(3, 5);
    let phase = "categories = []\nphases = [{ from = 0, to = 0, demand = 1.0 }]";
    let placebo = on_this_day(&market, phase);
    assert!(days(&market, placebo, 3) == days(&market, Vec::new(), 3));
}

/// A discount stands in the prices of its categories, and sells more of them by their elasticity, and
/// more in all.
#[test]
fn a_discount_shows_in_prices_and_sells_more() {
    const DISCOUNT: f64 = 0.3;
    let (mut odds, mut orders, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for (elasticity, discount) in [(1.5, 0.0), (1.5, DISCOUNT), (0.0, DISCOUNT)] {
        let busy = format!("{BUSY}[basket]\nagain = 0.0");
        let mut settings = Settings { scenarios: Vec::new(), ..settings(0) };
        settings.profile = Profile::read(&busy).unwrap();
        settings.profile.categories[0].elasticity = elasticity;
        let name = settings.profile.categories[0].name.clone();
        let (mut market, mut events) = refreshes(settings, 0, |_| {});
        live_through(&mut market, DAY_REFRESHES, &mut |event| events.push(event));
        let what = format!(
            "categories = [\"{name}\"]\n\
             phases = [{{ from = 0, to = 0, discount = {discount:.1} }}]"
        );
        let sale = on_this_day(&market, &what);
        let placed = days(&market, sale, 1).remove(0);
        let prices: HashMap<u32, i64> = (1..=market.common.catalog.len() as u32)
            .map(|id| (id, market.common.catalog.get(id).price.into()))
            .collect();
        let mut chosen = [0.0; 2];
        let (mut known, mut beyond) = (0, 0.0);
        for order in &placed {
            beyond += (order.lines.len() - 1) as f64;
            for line in order.lines.iter() {
                let of_it = *line.category == *name;
                chosen[usize::from(of_it)] += 1.0;
                if let Some(price) = prices.get(&(line.product_id.0 as u32)) {
                    known += 1;
                    let off = if of_it { (*price as f64 * discount / 10.0) as i64 * 10 } else { 0 };
                    assert_eq!(line.unit_price.0, price - off, "{line:?}");
                }
            }
        }
        assert!(known > 1_000, "{known} lines of known products");
        odds.push(chosen[1] / chosen[0]);
        orders.push(placed.len() as f64);
        lines.push(beyond / placed.len() as f64);
    }
    let answer = (1.0 - DISCOUNT).powf(-1.5);
    // By customer the odds rise by so much; customers differ in taste, and over all it is less.
    let rise = odds[1] / odds[0];
    assert!((0.85 * answer..1.08 * answer).contains(&rise), "the odds rise x{rise}, not x{answer}");
    // 15 % of the products are of it.
    let more = 1.0 + 0.15 * (answer - 1.0);
    let (conversion, longer) = (orders[1] / orders[0], lines[1] / lines[0]);
    assert!((1.04..1.25).contains(&conversion), "orders x{conversion}, demand x{more}");
    assert!((1.02..1.2).contains(&longer), "lines beyond the first x{longer}, not x{more}");
    // Nothing answers where the elasticity is 0.
    let (rise, orders) = (odds[2] / odds[0], orders[2] / orders[0]);
    assert!((0.9..1.1).contains(&rise) && (0.97..1.03).contains(&orders), "{rise}, {orders}");
}

/// What a discount does to the choice, to lines and to demand, worked out.
#[test]
fn an_elasticity_is_constant() {
    let mut settings = settings(0);
    settings.scenarios = Scenario::read(
        "[[scenario]]\nname = \"off\"\ncategories = [\"toys\", \"food\"]\nday = { date = \"12-01\" }\n\
         phases = [{ from = 0, to = 0, focus = 2.0, demand = 1.5, discount = 0.2 }]",
        &settings.profile.words(),
    )
    .unwrap();
    settings.profile.categories.iter_mut().for_each(|category| {
        category.elasticity = if category.name == "toys" { 2.0 } else { 1.0 };
    });
    let mut scenarios = Scenarios::new(settings.profile.categories.len());
    scenarios.open(&settings, settings.origin, &mut |_| {});
    let near = |one: f64, other: f64| assert!((one - other).abs() < 1e-9, "{one}, not {other}");
    let all: f64 = settings.profile.categories.iter().map(|category| category.share).sum();
    let mut lines = 0.0;
    for (place, category) in settings.profile.categories.iter().enumerate() {
        let (focus, discount) = (scenarios.focus[place], scenarios.discount[place]);
        let (answer, off) = match category.name.as_str() {
            "toys" => (1.0 / 0.64, 0.2),
            "food" => (1.0 / 0.8, 0.2),
            _ => (1.0, 0.0),
        };
        near(focus, if off > 0.0 { 2.0 * answer } else { 1.0 });
        near(discount, off);
        lines += category.share / all * answer;
    }
    near(scenarios.lines, lines);
    // The discounts alone would draw less.
    assert!(lines < 1.5);
    near(scenarios.demand, 1.5);
}

/// Who was a candidate for the two groups at each tick: due, and ready; by day.
fn candidates(settings: Settings, days: u64) -> Vec<(i64, u32, u32)> {
    let origin = settings.origin;
    let (mut market, _) = refreshes(settings, 0, |_| {});
    market.truth = Some(Vec::new());
    live_through(&mut market, days * DAY_REFRESHES, &mut |_| {});
    let told = market.truth.take().unwrap();
    let told = told.into_iter().filter_map(|truth| match truth {
        Truth::Demand { at, due, ready, .. } => Some(((at - 1 - origin) / DAY, due, ready)),
        _ => None,
    });
    told.collect()
}

/// The share of the ticks at which both rules of the working set choose, from a day on.
fn chosen_among(ticks: &[(i64, u32, u32)], from: i64) -> f64 {
    let ticks: Vec<_> = ticks.iter().filter(|(day, ..)| *day >= from).collect();
    let chosen = ticks.iter().filter(|(_, due, ready)| *due > 600 && *ready > 400).count();
    chosen as f64 / ticks.len() as f64
}

/// In `year` both groups are full from the sixth week on, and there are more who could be in them.
#[test]
fn in_a_year_600_and_400_are_chosen_among_more() {
    let ticks = candidates(settings(60), 60);
    assert!(ticks.len() > 600_000, "{}", ticks.len());
    let share = chosen_among(&ticks, 35);
    assert!(share > 0.9999, "{share} of the ticks from day 35 on");
}

/// And in `brief`, from its first hours on.
#[test]
fn in_brief_600_and_400_are_chosen_among_more() {
    let settings = Settings { profile: Profile::named("brief").unwrap(), ..settings(0) };
    let ticks = candidates(settings, 5);
    let share = chosen_among(&ticks, 0);
    assert!(share > 0.95, "{share} of the ticks");
    assert!(chosen_among(&ticks, 1) > 0.9999, "on the second day");
}
