//! The report as one page: the scorecard, and plots beside what is known of real shops.
//!
//! The page loads nothing, follows the reader's light or dark scheme, and fits a phone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use anyhow::Result;

use super::plot::{Axis, Mark, Plot, Series};
use super::reading::Market;
use super::statistics::{
    SAMSUNG_WEEKDAYS, black_friday_shape, count, month_index, quantile, revenues, share_of_best,
    shares, weekday_index,
};
use super::{Judged, JudgedPart, Report, Status};

/// Orders by hour at Olist's marketplace, of all orders.
const OLIST_HOURS: [f64; 24] = [
    0.0238, 0.0122, 0.0051, 0.0025, 0.0021, 0.0022, 0.0040, 0.0124, 0.0303, 0.0509, 0.0636, 0.0697,
    0.0599, 0.0685, 0.0677, 0.0602, 0.0646, 0.0622, 0.0546, 0.0594, 0.0628, 0.0635, 0.0559, 0.0417,
];

const OLIST_WEEKDAYS: [f64; 7] = [1.112, 1.069, 1.085, 1.058, 1.057, 0.748, 0.872];

/// All online shopping in Korea in 2024, per day of each month over the mean.
const KOSIS_MONTHS: [f64; 12] =
    [0.987, 0.994, 0.996, 0.998, 1.017, 1.010, 0.971, 0.955, 0.988, 0.985, 1.065, 1.035];

/// Days between purchases below which a part of the gaps lies.
const CDNOW_GAPS: [(f64, f64); 6] =
    [(4.0, 0.1), (12.0, 0.25), (34.0, 0.5), (94.0, 0.75), (200.0, 0.9), (416.0, 0.99)];
const UCI_GAPS: [(f64, f64); 6] =
    [(5.0, 0.1), (12.0, 0.25), (28.0, 0.5), (58.0, 0.75), (111.0, 0.9), (260.0, 0.99)];

/// Customers with at least so many orders, of all.
const CDNOW_ORDERS: [(f64, f64); 6] =
    [(1.0, 1.0), (2.0, 0.495), (3.0, 0.322), (4.0, 0.228), (5.0, 0.166), (10.0, 0.049)];
const UCI_ORDERS: [(f64, f64); 6] =
    [(1.0, 1.0), (2.0, 0.653), (3.0, 0.461), (4.0, 0.345), (5.0, 0.254), (10.0, 0.089)];

/// Revenue from so many of the best customers.
const CDNOW_TOP: [(f64, f64); 3] = [(0.01, 0.158), (0.10, 0.509), (0.20, 0.677)];
const UCI_TOP: [(f64, f64); 3] = [(0.01, 0.319), (0.10, 0.613), (0.20, 0.745)];
const JOURNEY_TOP: [(f64, f64); 3] = [(0.01, 0.063), (0.10, 0.351), (0.20, 0.546)];

/// Orders from Monday to Tuesday of the week after, around Black Friday 2017.
const OLIST_BLACK_FRIDAY: [f64; 9] = [1.28, 1.67, 1.35, 1.48, 8.22, 3.08, 3.15, 2.76, 2.89];

/// Deviations of ln(amount) at real shops: the least and the greatest.
const SIGMAS: [(f64, &str); 2] = [(0.73, "CDNOW"), (1.23, "Journey")];

/// Slopes of popularity over the ranks 10 to 1000.
const SLOPES: [(f64, &str); 2] = [(0.54, "UCI"), (0.66, "Journey")];

const AGE_BANDS: [(&str, &str); 6] =
    [("10s", "a1"), ("20s", "a2"), ("30s", "a3"), ("40s", "a4"), ("50s", "a5"), ("60+", "a6")];

/// The market, and two or three real shops.
const MARKET: &str = "c1";
const REAL: [&str; 3] = ["c2", "c3", "c4"];

const STYLE: &str = "
:root { color-scheme: light dark; --back: #fff; --card: #f6f7f9; --text: #1c2430; --soft: #5b6676;
  --line: #d9dee5; --pass: #1a7f42; --brief: #0b6f9c; --out: #c02b2b;
  --c1: #2563c9; --c2: #d9660a; --c3: #1a8f5a; --c4: #9a4fc4;
  --a1: #c3a000; --a2: #e0702a; --a3: #cf3d6b; --a4: #8d45c9; --a5: #3f63d6; --a6: #1b93a8; }
@media (prefers-color-scheme: dark) { :root { --back: #11161d; --card: #1a212b; --text: #e6eaf0;
  --soft: #9aa6b6; --line: #333d4a; --pass: #4cc57c; --brief: #58b7e6; --out: #ff7b72;
  --c1: #6ea8ff; --c2: #ff9f4a; --c3: #4fd192; --c4: #cf97f2;
  --a1: #e6c540; --a2: #ff9a58; --a3: #ff7fa5; --a4: #c493f5; --a5: #86a3ff; --a6: #4cc7da; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1440px; padding: 1.2rem; background: var(--back); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
.soft, .note, .legend { color: var(--soft); }
.verdict { font-size: 1.1rem; font-weight: 600; margin: .8rem 0 1.2rem; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; color: var(--soft); border-bottom: 2px solid var(--line); }
th, td { padding: .22rem .6rem .22rem 0; vertical-align: top; }
.head td { padding-top: .7rem; font-weight: 600; border-top: 1px solid var(--line); }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.what { padding-left: 2.6rem; }
.PASS { color: var(--pass); } .BRIEF { color: var(--brief); } .OUT { color: var(--out); }
.bad { color: var(--out); font-weight: 600; }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); }
figure { display: flex; flex-direction: column; margin: 0; padding: .8rem .9rem; background: var(--card); border-radius: .5rem; min-width: 0; }
figcaption { font-weight: 600; }
.legend, .note { margin: .25rem 0; font-size: .84rem; }
.legend span { display: inline-block; margin-right: .9rem; white-space: nowrap; }
figure svg { fill: none; }
figure > svg { width: 100%; height: auto; margin-top: auto; }
svg text { fill: var(--soft); font-size: 11.5px; font-family: inherit; }
svg .label { fill: var(--text); }
.grid { stroke: var(--line); } .axis { stroke: var(--soft); }
g path, .legend path { stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
.dashed { stroke-dasharray: 5 4; }
g circle, .legend circle { fill: currentColor; }
g rect, .legend rect { fill: currentColor; fill-opacity: .55; }
.c0 { color: var(--soft); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); } .c4 { color: var(--c4); }
.a1 { color: var(--a1); } .a2 { color: var(--a2); } .a3 { color: var(--a3); } .a4 { color: var(--a4); }
.a5 { color: var(--a5); } .a6 { color: var(--a6); }
a { color: var(--c1); }
li { margin: .15rem 0; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  svg text { font-size: 13px; }
  body { padding: .7rem; }
  thead { display: none; }
  tr { display: flex; flex-wrap: wrap; justify-content: space-between; border: 0; }
  td { padding: .1rem 0; }
  .head { border-top: 1px solid var(--line); margin-top: .5rem; }
  .head td { border: 0; padding-top: .4rem; }
  .head td:first-child { flex: 1 1 70%; }
  .head .gap { display: none; }
  .what { padding-left: 0; flex: 1 1 60%; }
  .accept, .real { flex: 1 1 100%; color: var(--soft); font-size: .84rem; }
  .accept:not(:empty)::before { content: 'accepted: '; }
  .real:not(:empty)::before { content: 'real: '; }
  .accept:empty, .real:empty { display: none; }
}
";

/// Writes the page.
pub(super) fn write(out: &mut dyn Write, report: &Report, market: &Market) -> Result<()> {
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=en>\n<meta charset=utf-8>\n\
         <meta name=viewport content='width=device-width, initial-scale=1'>\n\
         <title>How real is this market?</title>\n<style>{STYLE}</style>\n\
         <h1>How real is this market?</h1>\n<p class=soft>{}</p>\n<p class=verdict>{}</p>\n",
        report.subject(),
        report.verdict()
    )?;
    out.write_all(table(report).as_bytes())?;
    writeln!(out, "<h2>Beside real shops</h2>\n<div class=plots>")?;
    if !market.buyers.is_empty() {
        for plot in plots(market) {
            out.write_all(plot.html().as_bytes())?;
        }
    }
    writeln!(out, "</div>\n<h2>Where the numbers of real shops are from</h2>\n<ul>")?;
    for source in &report.sources {
        writeln!(
            out,
            "<li><a href='{}'>{}</a>: {}</li>",
            source.address, source.name, source.what
        )?;
    }
    writeln!(out, "</ul>\n</html>")?;
    Ok(())
}

fn table(report: &Report) -> String {
    let mut html = String::from(
        "<table>\n<thead><tr><th>Statistic<th class=number>This market<th>Accepted<th>Real data says\
         <th>Status</thead>\n",
    );
    for Judged { id, name, status, parts } in &report.statistics {
        let title = match status {
            Status::Pass => "in the band of real data",
            Status::Brief => "in the band that the brief set",
            Status::Out => "not in its band",
            Status::NotComputed => "a part cannot be computed",
        };
        _ = writeln!(
            html,
            "<tr class=head><td>{id} &ensp;{name}<td class=gap><td class=gap><td class=gap>\
             <td class={status} title='{title}'>{status}</tr>"
        );
        for part in parts {
            row(part, &mut html);
        }
    }
    html.push_str("</table>\n");
    html
}

fn row(part: &JudgedPart, html: &mut String) {
    let bad = if part.accepted == Some(false) { " bad" } else { "" };
    let real = match &part.reason {
        Some(reason) => format!("{} <span class=soft>(not computed: {reason})</span>", part.real()),
        None => part.real(),
    };
    _ = writeln!(
        html,
        "<tr><td class=what>{}<td class='number{bad}'>{}<td class=accept>{}<td class=real>{real}</tr>",
        part.what,
        part.value(),
        part.accept(),
    );
}

fn plots(market: &Market) -> Vec<Plot> {
    vec![
        hours(market),
        weekdays(market),
        months(market),
        gaps(market),
        orders_per_customer(market),
        order_values(market),
        best_customers(market),
        popularity(market),
        black_friday(market),
    ]
}

fn hours(market: &Market) -> Plot {
    let points = |shares: [f64; 24]| (0..24).map(f64::from).zip(shares).collect::<Vec<_>>();
    let mut series = Vec::new();
    for (band, colour) in AGE_BANDS {
        let orders = market.by_hour(|of| of.age_band.as_deref() == Some(band));
        if orders.iter().sum::<f64>() > 0.0 {
            series.push(line(band, colour, points(shares(orders))));
        }
    }
    if series.is_empty() {
        series.push(line("all", MARKET, points(shares(market.by_hour(|_hour| true)))));
    }
    series.push(dashes("Olist, all ages", "c0", points(OLIST_HOURS)));
    Plot {
        title: "Hours of the day, by the customer's age",
        x: Axis::marked(
            "hour",
            (0.0, 23.0),
            (0..8).map(|i| (f64::from(3 * i), (3 * i).to_string())),
        ),
        y: Axis::up_to("share of the orders of their age", greatest(&series), percent),
        series,
        note: String::new(),
    }
}

fn weekdays(market: &Market) -> Plot {
    let points = |index: [f64; 7]| (0..7).map(f64::from).zip(index).collect::<Vec<_>>();
    let mut series = Vec::new();
    if let Some(index) = weekday_index(market) {
        series.push(bars("this market", points(index)));
    }
    series.push(line("Samsung Card", REAL[0], points(SAMSUNG_WEEKDAYS)));
    series.push(dashes("Olist", REAL[1], points(OLIST_WEEKDAYS)));
    let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    Plot {
        title: "Days of the week",
        x: Axis::marked("", (-0.5, 6.5), (0..7).map(f64::from).zip(names.map(str::to_owned))),
        y: Axis::up_to("orders over the mean day's", greatest(&series), decimal),
        series,
        note: String::new(),
    }
}

fn months(market: &Market) -> Plot {
    let points = |index: [f64; 12]| (0..12).map(f64::from).zip(index).collect::<Vec<_>>();
    let index = month_index(market);
    let note = index.as_ref().err().map(|reason| format!("This market: {reason}."));
    let mut series = Vec::new();
    series.extend(index.ok().map(|index| bars("this market, less its growth", points(index))));
    series.push(line("all of Korea, 2024", REAL[0], points(KOSIS_MONTHS)));
    let names =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    Plot {
        title: "Months of the year",
        x: Axis::marked("", (-0.5, 11.5), (0..12).map(f64::from).zip(names.map(str::to_owned))),
        y: Axis::up_to("orders a day over the mean month's", greatest(&series), decimal),
        series,
        note: note.unwrap_or_default(),
    }
}

fn gaps(market: &Market) -> Plot {
    let all = count(&market.gaps) as f64;
    let so_far = market.gaps.iter().scan(0.0, |sum, (days, times)| {
        *sum += *times as f64;
        Some((*days as f64, *sum / all))
    });
    let series = vec![
        line("this market", MARKET, so_far.collect()),
        dots("CDNOW", REAL[0], &CDNOW_GAPS),
        dots("UCI", REAL[1], &UCI_GAPS),
    ];
    let longest = market.gaps.last().map_or(0.0, |(days, _times)| *days as f64);
    let note = if market.gaps.is_empty() {
        String::new()
    } else {
        match quantile(&market.gaps, 0.5) {
            1.0 => "Half of this market's are one day.".to_owned(),
            median => format!("Half of this market's are {} days or less.", decimal(median)),
        }
    };
    Plot {
        title: "Days between a customer's purchases",
        x: Axis {
            ticks: [1.0, 3.0, 7.0, 14.0, 30.0, 90.0, 365.0].map(|at| (at, decimal(at))).to_vec(),
            ..Axis::powers("days", 1.0, longest.max(450.0), decimal)
        },
        y: Axis::up_to("share that is as short or shorter", 1.0, percent),
        series,
        note,
    }
}

fn orders_per_customer(market: &Market) -> Plot {
    let mut customers = BTreeMap::<i64, f64>::new();
    for (orders, _amount) in &market.buyers {
        *customers.entry(*orders).or_default() += 1.0 / market.buyers.len() as f64;
    }
    let at_least = customers.iter().scan(1.0, |left, (orders, share)| {
        let point = (*orders as f64, *left);
        *left -= share;
        Some(point)
    });
    let series = vec![
        line("this market", MARKET, at_least.collect()),
        dots("CDNOW", REAL[0], &CDNOW_ORDERS),
        dots("UCI", REAL[1], &UCI_ORDERS),
    ];
    let most = customers.keys().last().map_or(1.0, |most| *most as f64);
    Plot {
        title: "Orders of a customer",
        x: Axis::powers("orders", 1.0, most.max(10.0), thousands),
        y: Axis::powers("customers with so many or more", 1e-5, 1.0, percent),
        series,
        note: String::new(),
    }
}

fn order_values(market: &Market) -> Plot {
    let all = count(&market.amount_bins) as f64;
    let share = |(bin, orders): &(i64, i64)| {
        (10_f64.powf((*bin as f64 + 0.5) / 10.0), *orders as f64 / all)
    };
    let mut series = vec![bars("this market", market.amount_bins.iter().map(share).collect())];
    // The two with this market's median, so that their widths can be compared.
    if let [Some(middle), ..] = market.amounts {
        for ((sigma, name), colour) in SIGMAS.into_iter().zip(REAL) {
            let width = 10_f64.ln() / 10.0;
            let density = |ln: f64| {
                let z = (ln - middle) / sigma;
                width * (-z * z / 2.0).exp() / (sigma * std::f64::consts::TAU.sqrt())
            };
            let points = (-60..=60).map(|step| middle + f64::from(step) * 0.1);
            series.push(line(
                &format!("as wide as {name}'s ({sigma})"),
                colour,
                points.map(|ln| (ln.exp(), density(ln))).collect(),
            ));
        }
    }
    let bins = || market.amount_bins.iter().filter(|(_bin, orders)| *orders as f64 > all / 1e4);
    let at = |bin: i64| 10_f64.powf(bin as f64 / 10.0);
    let from = bins().map(|(bin, _orders)| *bin).min().unwrap_or(30);
    let to = bins().map(|(bin, _orders)| *bin + 1).max().unwrap_or(60);
    Plot {
        title: "Value of an order",
        x: Axis::powers("KRW", at(from), at(to), thousands),
        y: Axis::up_to(
            "share of the orders in a tenth of a power of ten",
            greatest(&series),
            percent,
        ),
        series,
        note: "The curves are lognormal, around this market's middle.".into(),
    }
}

fn best_customers(market: &Market) -> Plot {
    let revenues = revenues(market);
    let share = |percent: i32| {
        let part = f64::from(percent) / 100.0;
        (part, share_of_best(&revenues, part))
    };
    let series = vec![
        line("this market", MARKET, (0..=100).map(share).collect()),
        dots("CDNOW", REAL[0], &CDNOW_TOP),
        dots("UCI", REAL[1], &UCI_TOP),
        dots("Journey", REAL[2], &JOURNEY_TOP),
    ];
    Plot {
        title: "Revenue from the best customers",
        x: Axis { label: "of the customers, the best first", ..Axis::up_to("", 1.0, percent) },
        y: Axis::up_to("share of the revenue", 1.0, percent),
        series,
        note: String::new(),
    }
}

fn popularity(market: &Market) -> Plot {
    let all: f64 = market.popularity.iter().map(|lines| *lines as f64).sum();
    let share = |rank: usize| market.popularity.get(rank - 1).map(|lines| *lines as f64 / all);
    // As many ranks as can be told apart on a logarithmic axis.
    let mut ranks: Vec<usize> =
        (0..240).map(|step| 10_f64.powf(f64::from(step) / 40.0) as usize).collect();
    ranks.dedup();
    let points = ranks.iter().filter_map(|rank| Some((*rank as f64, share(*rank)?))).collect();
    let mut series = vec![line("this market", MARKET, points)];
    if let Some(at_100) = share(100) {
        for ((slope, name), colour) in SLOPES.into_iter().zip(REAL) {
            let points =
                [10.0_f64, 1000.0].map(|rank| (rank, at_100 * (rank / 100.0).powf(-slope)));
            series.push(dashes(
                &format!("as steep as {name}'s ({slope})"),
                colour,
                points.to_vec(),
            ));
        }
    }
    let shares = series[0].points.iter().map(|point| point.1);
    let (least, most) =
        shares.fold((1.0, 0.0), |(least, most): (f64, f64), it| (least.min(it), most.max(it)));
    Plot {
        title: "Popularity of products",
        x: Axis::powers(
            "rank of the product",
            1.0,
            market.popularity.len().max(10) as f64,
            thousands,
        ),
        y: Axis::powers(
            "share of all lines",
            least.min(most / 10.0),
            most.max(1e-9) * 1.5,
            percent,
        ),
        series,
        note: String::new(),
    }
}

fn black_friday(market: &Market) -> Plot {
    let shape = black_friday_shape(market);
    let note = if shape.is_empty() {
        "This market has no Black Friday yet with five weeks before it.".to_owned()
    } else {
        String::new()
    };
    let mut series = Vec::new();
    if !shape.is_empty() {
        let points = shape.into_iter().map(|(day, times)| (day as f64, times)).collect();
        series.push(bars("this market", points));
    }
    let olist = (-4..=4).map(f64::from).zip(OLIST_BLACK_FRIDAY).collect();
    series.push(line("Olist, 2017", REAL[0], olist));
    let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Mon", "Tue"];
    Plot {
        title: "Black Friday",
        x: Axis::marked("", (-4.5, 4.5), (-4..=4).map(f64::from).zip(names.map(str::to_owned))),
        y: Axis::up_to(
            "orders over the mean day's of the weeks before",
            greatest(&series),
            decimal,
        ),
        series,
        note,
    }
}

fn line(name: &str, colour: &'static str, points: Vec<(f64, f64)>) -> Series {
    Series { name: name.to_owned(), mark: Mark::Line, colour, points }
}

fn dashes(name: &str, colour: &'static str, points: Vec<(f64, f64)>) -> Series {
    Series { mark: Mark::Dashes, ..line(name, colour, points) }
}

fn dots(name: &str, colour: &'static str, points: &[(f64, f64)]) -> Series {
    Series { mark: Mark::Dots, ..line(name, colour, points.to_vec()) }
}

fn bars(name: &str, points: Vec<(f64, f64)>) -> Series {
    Series { mark: Mark::Bars, ..line(name, MARKET, points) }
}

fn greatest(series: &[Series]) -> f64 {
    series.iter().flat_map(|it| &it.points).map(|point| point.1).fold(0.0, f64::max)
}

fn percent(value: f64) -> String {
    format!("{} %", decimal(100.0 * value))
}

/// Without digits that say nothing.
fn decimal(value: f64) -> String {
    super::text::short(value, 6)
}

/// A power of ten, as 100 k.
fn thousands(value: f64) -> String {
    match value {
        1e6.. => format!("{} m", decimal(value / 1e6)),
        1e3.. => format!("{} k", decimal(value / 1e3)),
        _ => decimal(value),
    }
}
