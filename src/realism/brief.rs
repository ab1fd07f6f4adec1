//! The numbers of the market's brief, each beside what is measured in the store at hand.
//!
//! Most are read off the events. Who was due and ready at each tick is read off the truth, where it was
//! asked for; and what a sale pulled forward, off the same market lived through without the sale.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use dataflows::model::Millis;
use dataflows::model::time::{Day, date_of};
use postgres::{Config, Transaction};
use serde::Serialize;

use super::reading::{self, Market};
use super::scorecard::{Part, Unit, told};
use super::statistics::{self, Value, or};
use super::text::{paint, wrapped};
use super::{Form, JudgedPart, Status};
use crate::store;

const QUERIES: &str = include_str!("brief.sql");

/// The sale that the brief speaks of.
const SALE: &str = "black-friday";

/// A dip is looked for in so many days after a sale.
const DIP_DAYS: Day = 14;

/// Orders by day.
pub type Days = BTreeMap<Day, i64>;

/// What the store does not say of a market that was lived through here.
pub struct Lived<'m> {
    /// Market time at which it goes live.
    pub start: Millis,
    /// It lives by the profile `brief`: an order a tick, a product each 6 to 8 s, a rush of sign-ups.
    pub to_the_letter: bool,
    /// The boost and the life event of a customer who consented to marketing, or not, at a market time; 1
    /// where there is none.
    pub mood: &'m dyn Fn(i64, bool, Millis) -> [f64; 2],
    /// Orders by day, up to a day, of the same market without a scenario.
    pub without: &'m dyn Fn(&str, Day) -> Result<Days>,
}

/// A number of the brief.
#[derive(Serialize)]
struct Row {
    brief: &'static str,
    /// None where nothing is asked of it.
    verdict: Option<Status>,
    #[serde(flatten)]
    measured: JudgedPart,
}

#[derive(Serialize)]
struct Table {
    brief: usize,
    out: usize,
    not_measured: usize,
    rows: Vec<Row>,
}

/// Measures the brief's numbers and writes them as a table.
pub fn brief(
    config: &Config,
    out: &mut dyn Write,
    form: Form,
    lived: Option<&Lived<'_>>,
) -> Result<()> {
    let mut client = store::connect(config)?;
    let mut tx = reading::snapshot(&mut client)?;
    let market = Market::read(&mut tx)?;
    let rows = Measuring { tx, market, lived, rows: Vec::new() }.measure()?;
    let with = |status| rows.iter().filter(|row| row.verdict == Some(status)).count();
    let table = Table {
        brief: with(Status::Brief),
        out: with(Status::Out),
        not_measured: with(Status::NotComputed),
        rows,
    };
    match form {
        Form::Json => {
            serde_json::to_writer_pretty(&mut *out, &table)?;
            writeln!(out)?;
            Ok(())
        }
        Form::Text { colour } => table.write(out, colour),
    }
}

impl Row {
    fn of(brief: &'static str, part: &Part, value: Value) -> Row {
        let measured = JudgedPart::of(part, value);
        let verdict = match measured.accepted {
            Some(true) => Some(Status::Brief),
            Some(false) => Some(Status::Out),
            None if measured.value.is_some() => None,
            None => Some(Status::NotComputed),
        };
        Row { brief, verdict, measured }
    }
}

struct Measuring<'c, 'm> {
    tx: Transaction<'c>,
    market: Market,
    lived: Option<&'m Lived<'m>>,
    rows: Vec<Row>,
}

const MAX: f64 = f64::INFINITY;
const MIN: f64 = f64::NEG_INFINITY;

const NO_MARKET: &str = "there is no market in the directory";
const NO_ORDERS: &str = "there are no orders yet";
const NO_TRUTH: &str = "it needs the truth: run `marketday truth` first";

impl Measuring<'_, '_> {
    fn row(
        &mut self,
        what: &'static str,
        brief: &'static str,
        unit: Unit,
        accept: (f64, f64),
        value: Value,
    ) {
        let part = Part { accept: Some(accept), ..told(what, unit, &[]) };
        self.rows.push(Row::of(brief, &part, value));
    }

    /// Nothing is asked of it.
    fn told(&mut self, what: &'static str, brief: &'static str, unit: Unit, value: Value) {
        self.rows.push(Row::of(brief, &told(what, unit, &[]), value));
    }

    /// The numbers of a statement, which are missing for one reason.
    fn read<const N: usize>(&mut self, name: &str, reason: &str) -> Result<[Value; N]> {
        let numbers = reading::one(&mut self.tx, QUERIES, name)?;
        Ok(numbers.map(|number| or(number, || reason.to_owned())))
    }

    /// What holds where the market lives to the letter of the brief.
    fn to_the_letter(&self, value: Value) -> Value {
        match self.lived {
            None => Err(NO_MARKET.into()),
            Some(lived) if !lived.to_the_letter => Err("`year` follows its own demand".into()),
            Some(_) => value,
        }
    }

    fn measure(mut self) -> Result<Vec<Row>> {
        self.initialisation()?;
        self.working_set()?;
        self.cadence()?;
        self.scores()?;
        self.sales()?;
        self.seasons()?;
        self.orders()?;
        Ok(self.rows)
    }

    fn initialisation(&mut self) -> Result<()> {
        use Unit::Number;
        let [customers, products] = self.read("beginning", "there are no customers yet")?;
        self.row("customers at the beginning", "10,000", Number, (1e4, 1e4), customers);
        self.row("products at the beginning", "20,000", Number, (2e4, 2e4), products);
        let [others] = self.read("first_grades", "")?;
        self.row("new customers of another grade", "all BRONZE", Number, (0.0, 0.0), others);
        let [prices] = self.read("prices", "there are no products yet")?;
        let what = "prices: upper tenth from the middle / lower one";
        self.row(what, "Beta: 1.43", Number, (1.25, 1.65), prices);
        let [scenarios] = self.read("scenarios", "")?;
        let year = self.market.days.len() >= 365;
        let scenarios = scenarios
            .and_then(|count| or(Some(count).filter(|_| year), || "it needs a year".into()));
        self.row("scenarios in a year", "20 or more", Number, (20.0, MAX), scenarios);
        Ok(())
    }

    fn working_set(&mut self) -> Result<()> {
        use Unit::{Number, Share};
        let [border, full, after, mut expected] = self.read("truth", NO_TRUTH)?;
        let what = "working set: borders of 50 s that end a tick";
        self.row(what, "every 50 s", Share, (0.999, 1.0), border);
        let what = "refreshes with over 600 due and 400 ready";
        self.row(what, "600 + 400", Share, (0.95, 1.0), full);
        self.told("after two weeks", "600 + 400", Share, after);
        if self.lived.is_some_and(|lived| lived.to_the_letter) {
            expected = Err("an order a tick asks for no demand".into());
        }
        self.row("orders / those that demand has", "N by demand", Number, (0.97, 1.03), expected);
        let [buyers, others] = self.read("groups", NO_ORDERS)?;
        self.row("customers who have bought, at the end", "600", Number, (600.0, MAX), buyers);
        self.row("customers who never bought, at the end", "400", Number, (400.0, MAX), others);
        let [offered] = self.read("offered", NO_ORDERS)?;
        let what = "last day's lines from the set, or bought before";
        self.row(what, "700 + 300", Share, (0.90, 1.0), offered);
        let why = || Err("it is measured by `cargo bench --bench cache`".to_owned());
        self.told("look-ups against the database's", "100 times faster", Number, why());
        Ok(())
    }

    fn cadence(&mut self) -> Result<()> {
        use Unit::{Number, Share};
        let [ticks] = self.read("tick_gaps", NO_TRUTH)?;
        self.row("order ticks 3 to 5 s apart", "3 to 5 s", Share, (0.999, 1.0), ticks);
        let [orders] = self.read("order_gaps", NO_ORDERS)?;
        let orders = self.to_the_letter(orders);
        self.row("orders 3 to 5 s apart", "3 to 5 s", Share, (0.95, 1.0), orders);
        let [listings] = self.read("listing_gaps", "no product was listed yet")?;
        let listings = self.to_the_letter(listings);
        self.row("new products 6 to 8 s apart", "6 to 8 s", Share, (0.999, 1.0), listings);
        let [rush] = self.read("rush", "nobody has signed up yet")?;
        let rush = self.to_the_letter(rush);
        let what = "sign-ups in 10 s, in the busiest ten minutes";
        self.row(what, "10", Number, (8.5, 11.5), rush);

        let mut live: [Value; 3] = std::array::from_fn(|_| Err(NO_MARKET.into()));
        if let Some(lived) = self.lived {
            let statement = reading::statement(QUERIES, "going_live");
            let row = self.tx.query_opt(statement, &[&lived.start])?;
            live = std::array::from_fn(|place| {
                let ratio = row.as_ref().and_then(|row| row.get::<_, Option<f64>>(place));
                or(ratio, || "it has not lived an hour live, or no week before".into())
            });
        }
        let [sign_ups, listings, orders] = live;
        let cliff = "no step";
        let band = (0.5, 2.0);
        self.row("sign-ups live / the same times a week before", cliff, Number, band, sign_ups);
        self.row("new products live / a week before", cliff, Number, band, listings);
        self.row("orders live / the same times a week before", cliff, Number, band, orders);
        Ok(())
    }

    fn scores(&mut self) -> Result<()> {
        use Unit::{Hour, Number, Share};
        let [women] = self.read("women", NO_ORDERS)?;
        let what = "orders of a woman in her thirties / of the mean";
        self.row(what, "more", Number, (1.0, MAX), women);
        for (what, brief, band, hour) in [
            ("busiest hour in one's 20s", "21:00", "20s", 21.0),
            ("busiest hour in one's 50s", "10:00", "50s", 10.0),
        ] {
            let orders = self.market.by_hour(|of| of.age_band.as_deref() == Some(band));
            let some = orders.iter().sum::<f64>() > 0.0;
            let busiest = some.then(|| statistics::busiest(&orders, 0..24).0 as f64);
            self.row(what, brief, Hour, (hour, hour), or(busiest, || NO_ORDERS.into()));
        }

        let mut moods: [Value; 5] = std::array::from_fn(|_| Err(NO_MARKET.into()));
        if let (Some(lived), Some((last, _))) = (self.lived, self.market.days.last()) {
            let noon = dataflows::model::time::start_of_day(*last) + 12 * 3_600_000;
            let (mut consented, mut boosted, mut boost) = (0.0, 0.0, 0.0);
            let (mut customers, mut lives) = (0.0, [0.0; 3]);
            let statement = reading::statement(QUERIES, "consents");
            for row in self.tx.query(statement, &[])? {
                let consent = row.try_get(1)?;
                let [seen, life] = (lived.mood)(row.try_get(0)?, consent, noon);
                customers += 1.0;
                consented += f64::from(u8::from(consent));
                if seen > 1.0 {
                    (boosted, boost) = (boosted + 1.0, boost + seen);
                }
                // Less than 2 is increased spending, more is big.
                lives[usize::from(life > 1.0) + usize::from(life > 2.0)] += 1.0;
            }
            let [usual, increased, big] = lives.map(|count| Ok(count / customers));
            moods = [Ok(boosted / consented), Ok(boost / boosted), usual, increased, big];
        }
        let [saw, boost, usual, increased, big] = moods;
        self.row("of those who consented, saw a promotion", "20 %", Share, (0.18, 0.22), saw);
        self.row("its factor", "1.3", Number, (1.299, 1.301), boost);
        self.row("life as usual", "85 %", Share, (0.83, 0.87), usual);
        self.row("increased spending", "12 %", Share, (0.105, 0.135), increased);
        self.row("big spending", "3 %", Share, (0.02, 0.04), big);
        Ok(())
    }

    fn sales(&mut self) -> Result<()> {
        use Unit::{Lift, Number};
        let [factor] = first(statistics::black_friday(&self.market));
        self.row("Black Friday / Fridays before", "3 times", Number, (2.5, 3.5), factor);
        let [dip, missing] = self.dip()?;
        let what = "the 14 days after it and its tail, against none";
        self.row(what, "a dip", Lift, (-0.12, -0.01), dip);
        let what = "of the sale's more orders, missing in these";
        self.told(what, "pulled forward", Unit::Share, missing);
        Ok(())
    }

    /// How much less is ordered in the days after the sale than in the same market without it, and which
    /// part of what the sale brought that is.
    fn dip(&mut self) -> Result<[Value; 2]> {
        let none = |reason: &str| Ok([Err(reason.into()), Err(reason.into())]);
        let Some(lived) = self.lived else { return none(NO_MARKET) };
        let occurrences = self.occurrences()?;
        let whole = self.market.whole_days();
        let last = whole.last().map_or(0, |(day, _orders)| *day);
        let is_over = |ended: Day| ended + DIP_DAYS <= last;
        let sale = occurrences.iter().rfind(|(name, _, ended)| name == SALE && is_over(*ended));
        let Some((_, begun, ended)) = sale else {
            return none("no Black Friday with 14 days after it");
        };
        let without = (lived.without)(SALE, ended + DIP_DAYS)?;
        let sums = |from: Day, to: Day| {
            let with = whole.iter().filter(|(day, _orders)| (from..=to).contains(day));
            let with: i64 = with.map(|(_day, orders)| orders).sum();
            let without: i64 = without.range(from..=to).map(|(_day, orders)| orders).sum();
            (with as f64, without as f64)
        };
        let (sale, usual) = sums(*begun, *ended);
        let (after, without) = sums(ended + 1, ended + DIP_DAYS);
        Ok([Ok(after / without - 1.0), Ok((without - after) / (sale - usual))])
    }

    fn occurrences(&mut self) -> Result<Vec<(String, Day, Day)>> {
        let rows = reading::rows(&mut self.tx, QUERIES, "occurrences")?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
    }

    fn seasons(&mut self) -> Result<()> {
        use Unit::{Lift, Number};
        let [start] = first(statistics::month_start(&self.market));
        self.row(
            "days 1 to 5 of the month against days 6-9, 13-24",
            "+30 %",
            Lift,
            (0.25, 0.35),
            start,
        );
        let end = statistics::month_end(&self.market);
        self.row("days 28 to 31 against these", "more", Lift, (0.05, MAX), end);

        let mut units: BTreeMap<(Day, String), f64> = BTreeMap::new();
        for row in reading::rows(&mut self.tx, QUERIES, "units")? {
            let count: i64 = row.try_get(2)?;
            units.insert((row.try_get(0)?, row.try_get(1)?), count as f64);
        }
        // The share of some categories on some days.
        let share = |of: &dyn Fn(&str) -> bool, on: &dyn Fn(Day) -> bool| {
            let sum = |of: &dyn Fn(&str) -> bool| {
                let those = units.iter().filter(|((day, category), _)| on(*day) && of(category));
                those.map(|(_, units)| units).sum::<f64>()
            };
            sum(of) / sum(&|_| true)
        };
        let month = |day: Day| chrono::Datelike::month(&date_of(day));
        let travel = |of: &str| of == "travel";
        let summer = share(&travel, &|day| (6..=8).contains(&month(day)));
        let september = share(&travel, &|day| month(day) == 9);
        let why = || "it needs June to September".to_owned();
        let ratio = Some(summer / september).filter(|ratio| ratio.is_finite());
        let what = "travel among units, June to August / September";
        self.row(what, "more", Number, (1.1, MAX), or(ratio, why));

        let has_gifts = units.keys().any(|(_day, category)| category == "gifts");
        let gifts = |of: &str| {
            if has_gifts { of == "gifts" } else { ["food", "fresh", "health"].contains(&of) }
        };
        let occurrences = self.occurrences()?;
        for (what, name) in [
            ("gifts among units before Seollal / usually", "seollal"),
            ("gifts among units before Chuseok / usually", "chuseok"),
        ] {
            // From 21 days to 3 before the day; most of it in the last ten.
            let begun = occurrences.iter().rfind(|of| of.0 == name).map(|of| of.1);
            let ratio = begun.map(|begun| {
                let before = share(&gifts, &|day| (begun + 9..begun + 19).contains(&day));
                before / share(&gifts, &|day| (begun - 28..begun).contains(&day))
            });
            let ratio = ratio.filter(|ratio| ratio.is_finite());
            let why = || "it needs the day and seven weeks before it".to_owned();
            self.row(what, "a surge", Number, (1.2, MAX), or(ratio, why));
        }
        Ok(())
    }

    fn orders(&mut self) -> Result<()> {
        use Unit::{Days, Hour, Number, Share};
        let [lines, heap] = {
            let orders = |from: i64, to: i64| {
                let those = self.market.baskets.iter().filter(|(of, _)| (from..=to).contains(of));
                those.map(|(_, orders)| *orders as f64).sum::<f64>()
            };
            [orders(1, 10) / orders(0, i64::MAX), orders(10, 10) / orders(9, 9)]
        };
        self.row("orders of 1 to 10 lines", "all", Share, (1.0, 1.0), Ok(lines));
        self.row("orders of 10 lines / of 9", "no heap", Number, (MIN, 1.0), Ok(heap));
        let [cancelled, refunded] = self.read("taken_back", "nothing was taken back")?;
        self.told("cancelled orders", "some", Share, cancelled);
        self.told("refunded orders, in part or in full", "some", Share, refunded);
        let [least, greatest] = self.read("partitions", NO_ORDERS)?;
        let what = "newest orders: in the emptiest partition";
        self.row(what, "33 %", Share, (0.28, 0.34), least);
        self.row("in the fullest partition", "33 %", Share, (0.33, 0.39), greatest);
        let [slope] = first(statistics::popularity(&self.market));
        let what = "popularity by Zipf: slope, ranks 10 to 1000";
        self.row(what, "Zipf", Number, (0.45, 1.0), slope);
        let [others] = self.read("grades", "")?;
        let what = "customers of another grade than their 6 months'";
        self.row(what, "none", Number, (0.0, 0.0), others);
        let [hour] = first(statistics::young_women(&self.market));
        self.row("busiest hour of women in their 20s", "21:00", Hour, (21.0, 21.0), hour);
        let [vips] = first(statistics::vips(&self.market));
        self.row("days between a VIP's purchases", "14", Days, (12.0, 16.0), vips);
        let [sold] = first(statistics::new_products(&self.market));
        let what = "new products sold within 3 days";
        self.row(what, "most", Share, (0.80, 1.0), sold);
        Ok(())
    }
}

/// The first value of a statistic.
fn first(values: Vec<Value>) -> [Value; 1] {
    [values.into_iter().next().expect("a statistic has a part")]
}

impl Table {
    /// Writes it for people, 100 columns wide.
    fn write(&self, out: &mut dyn Write, colour: bool) -> Result<()> {
        let paint = |style: &str, text: &str| paint(colour, style, text);
        let title = format!("{:<50} {:<17} {:>10}  verdict", "number", "brief", "measured");
        writeln!(out, "{}", paint("1", &title))?;
        for Row { brief, verdict, measured } in &self.rows {
            let value = format!("{:>10}", measured.value());
            let line = format!("{:<50} {brief:<17} {value}  ", measured.what);
            let verdict = verdict.map_or_else(String::new, |it| paint(it.style(), &it.to_string()));
            writeln!(out, "{}", format!("{line}{verdict}").trim_end())?;
            for why in measured.reason.iter().flat_map(|why| wrapped(why, 90)) {
                writeln!(out, "{}", paint("2", &format!("    not measured: {why}")))?;
            }
        }
        let Table { brief, out: outside, not_measured, rows } = self;
        let verdict = format!(
            "of {} numbers {brief} as the brief has them (BRIEF), {outside} OUT, {not_measured} not \
             measured (-)",
            rows.len()
        );
        writeln!(out, "\n{}", paint("1", &verdict))?;
        Ok(())
    }
}
