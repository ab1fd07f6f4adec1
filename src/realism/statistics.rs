//! The statistics, worked out from what was read.
//!
//! Each function gives one value for each part of its statistic in the scorecard, in that order, or
//! says why there is none.

use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDate, Weekday};
use dataflows::model::time::{Day, date_of, day_of_date};

use super::bg_nbd;
use super::reading::Market;

/// A value, or why there is none.
pub(super) type Value = Result<f64, String>;

/// Orders by weekday at Korean shops, by amount: Samsung Card, Monday to Sunday.
pub(super) const SAMSUNG_WEEKDAYS: [f64; 7] = [1.29, 1.19, 1.16, 1.13, 0.96, 0.60, 0.67];

/// The customers of the first weeks are looked at for 39 weeks, as is usual with CDNOW's.
const OBSERVED_DAYS: usize = 39 * 7;

/// And for so many days after that at least.
const FOLLOWED_DAYS_MIN: usize = 28;

/// A twelfth of a year, nearly: so 365 days have twelve.
const DAYS_A_MONTH: f64 = 30.4;

pub(super) fn one_time_buyers(market: &Market) -> Vec<Value> {
    let once = market.buyers.iter().filter(|(orders, _amount)| *orders == 1).count();
    vec![Ok(once as f64 / market.buyers.len() as f64)]
}

pub(super) fn inequality(market: &Market) -> Vec<Value> {
    vec![Ok(gini(market.buyers.iter().map(|(orders, _amount)| *orders as f64).collect()))]
}

pub(super) fn best_customers(market: &Market) -> Vec<Value> {
    vec![Ok(share_of_best(&revenues(market), 0.2))]
}

/// What each customer paid, the best first.
pub(super) fn revenues(market: &Market) -> Vec<f64> {
    let mut revenues: Vec<f64> =
        market.buyers.iter().map(|(_orders, amount)| *amount as f64).collect();
    revenues.sort_by(|one, other| other.total_cmp(one));
    revenues
}

pub(super) fn gaps(market: &Market) -> Vec<Value> {
    if count(&market.gaps) < 2 {
        return missing(3, "no customer bought on several days");
    }
    let (mean, deviation) = mean_and_deviation(&market.gaps);
    vec![Ok(quantile(&market.gaps, 0.5)), Ok(deviation / mean), Ok(mean)]
}

pub(super) fn repeats(market: &Market) -> Vec<Value> {
    let days = [30, 90, 180];
    let mut values: Vec<Value> = days
        .iter()
        .zip(market.repeats)
        .map(|(days, share)| or(share, || format!("nobody has been a customer for {days} days")))
        .collect();
    values.push(match market.repeats {
        [Some(first), Some(second), Some(third)] if first > 0.0 => {
            let a_day = [first / 30.0, (second - first) / 60.0, (third - second) / 90.0];
            Ok((a_day[1] / a_day[0]).max(a_day[2] / a_day[1].max(f64::MIN_POSITIVE)))
        }
        _ => Err("it needs all three".into()),
    });
    values
}

pub(super) fn order_values(market: &Market) -> Vec<Value> {
    let [_middle, spread, mean] = market.amounts;
    let nothing = || "no order has an amount".to_owned();
    vec![or(spread, nothing), or(mean, nothing)]
}

pub(super) fn baskets(market: &Market) -> Vec<Value> {
    let orders = count(&market.baskets) as f64;
    let share = |of: &dyn Fn(i64) -> bool| {
        let of = market.baskets.iter().filter(|(lines, _orders)| of(*lines));
        of.map(|(_lines, orders)| *orders as f64).sum::<f64>() / orders
    };
    let (mean, _deviation) = mean_and_deviation(&market.baskets);
    vec![Ok(mean), Ok(share(&|lines| lines == 1)), Ok(share(&|lines| lines <= 10))]
}

pub(super) fn popularity(market: &Market) -> Vec<Value> {
    let lines: Vec<f64> = market.popularity.iter().map(|lines| *lines as f64).collect();
    if lines.len() < 1000 {
        return missing(3, &format!("1000 products must have sold; {} have", lines.len()));
    }
    let ranks = 10..=1000;
    let x: Vec<f64> = ranks.clone().map(|rank| f64::from(rank).ln()).collect();
    let y: Vec<f64> = ranks.map(|rank| lines[rank as usize - 1].ln()).collect();
    vec![Ok(-slope(&x, &y)), Ok(share_of_best(&lines, 0.2)), Ok(share_of_best(&lines, 0.01))]
}

pub(super) fn reorders(market: &Market) -> Vec<Value> {
    vec![or(market.reorders, || "no order has a line".into())]
}

pub(super) fn hours(market: &Market) -> Vec<Value> {
    let shares = shares(market.by_hour(|_hour| true));
    let (_busiest, most) = busiest(&shares, 0..24);
    let night: f64 = shares[..6].iter().sum();
    let (by_day, _share) = busiest(&shares, 6..19);
    let (in_evening, evening) = busiest(&shares, 19..24);
    let dip = shares[by_day..in_evening].iter().copied().fold(f64::INFINITY, f64::min);
    let rise = if dip > 0.0 { Ok(evening / dip) } else { Err("an hour without orders".into()) };
    vec![Ok(most), Ok(night), Ok(by_day as f64), Ok(in_evening as f64), rise]
}

pub(super) fn weekdays(market: &Market) -> Vec<Value> {
    let Some(index) = weekday_index(market) else {
        return missing(4, "it needs 28 whole days");
    };
    vec![
        Ok(rank(&index, 0)),
        Ok(index[5]),
        Ok(index[6]),
        Ok(correlation(&index, &SAMSUNG_WEEKDAYS)),
    ]
}

/// Orders of a weekday over those of the mean day, Monday to Sunday.
pub(super) fn weekday_index(market: &Market) -> Option<[f64; 7]> {
    let days = market.whole_days();
    if days.len() < 28 {
        return None;
    }
    let (mut orders, mut times) = ([0.0; 7], [0.0; 7]);
    for (day, of_day) in days {
        orders[weekday(*day)] += *of_day as f64;
        times[weekday(*day)] += 1.0;
    }
    let a_day: [f64; 7] = std::array::from_fn(|i| orders[i] / times[i]);
    let mean = a_day.iter().sum::<f64>() / 7.0;
    Some(a_day.map(|orders| orders / mean))
}

pub(super) fn months(market: &Market) -> Vec<Value> {
    let index = match month_index(market) {
        Ok(index) => index,
        Err(reason) => return missing(4, &reason),
    };
    let lowest = index.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = index.iter().copied().fold(0.0, f64::max);
    vec![Ok(lowest), Ok(highest), Ok(highest / lowest), Ok(rank(&index, 10))]
}

/// Orders a day of each month of the year over the growth of the shop, January to December, mean 1.
///
/// The growth is a parabola through ln(orders a day) of the whole months: fast at first, then less. An
/// opening is no growth, so the first two weeks are left out.
/// A month of the year may be put together from parts, as where the history begins and ends within
/// one: they are measured by the same parabola.
pub(super) fn month_index(market: &Market) -> Result<[f64; 12], String> {
    struct Month {
        days: f64,
        orders: f64,
        /// Its middle, in years since the history began.
        middle: f64,
        whole: bool,
    }
    const OPENING: usize = 14;
    let mut months: BTreeMap<(i32, u32), Vec<(Day, i64)>> = BTreeMap::new();
    for (day, orders) in market.whole_days().iter().skip(OPENING) {
        let date = date_of(*day);
        months.entry((date.year(), date.month())).or_default().push((*day, *orders));
    }
    let begin = market.days.first().map_or(0, |(day, _orders)| *day);
    let mut by_month: [Vec<Month>; 12] = std::array::from_fn(|_month| Vec::new());
    for ((year, month), days) in months {
        let middle = f64::from(days[0].0 + days[days.len() - 1].0) / 2.0 - f64::from(begin);
        let of_month = Month {
            days: days.len() as f64,
            orders: days.iter().map(|(_day, orders)| *orders as f64).sum(),
            middle: middle / 365.25,
            whole: NaiveDate::from_ymd_opt(year, month, 1)
                .is_some_and(|first| days.len() == usize::from(first.num_days_in_month())),
        };
        if of_month.orders == 0.0 {
            return Err(format!("no orders in {year}-{month:02}"));
        }
        by_month[month as usize - 1].push(of_month);
    }
    let covered = |of: &Vec<Month>| of.iter().map(|it| it.days).sum::<f64>() >= 14.0;
    let all = by_month.iter().filter(|of| covered(of)).count();
    if all < 12 {
        return Err(format!("it needs all twelve months of a year; there are {all}"));
    }
    let whole: Vec<&Month> = by_month.iter().flatten().filter(|it| it.whole).collect();
    let x: Vec<f64> = whole.iter().map(|it| it.middle).collect();
    let y: Vec<f64> = whole.iter().map(|it| (it.orders / it.days).ln()).collect();
    let growth = parabola(&x, &y);

    let mut index = [0.0; 12];
    for (index, parts) in index.iter_mut().zip(&by_month) {
        let above =
            parts.iter().map(|it| it.days * ((it.orders / it.days).ln() - growth(it.middle)));
        *index = (above.sum::<f64>() / parts.iter().map(|it| it.days).sum::<f64>()).exp();
    }
    let mean = index.iter().sum::<f64>() / 12.0;
    Ok(index.map(|it| it / mean))
}

pub(super) fn young_women(market: &Market) -> Vec<Value> {
    let orders = market
        .by_hour(|of| of.age_band.as_deref() == Some("20s") && of.sex.as_deref() == Some("F"));
    if orders.iter().sum::<f64>() == 0.0 {
        return missing(2, "no woman in her 20s ordered");
    }
    let (hour, share) = busiest(&shares(orders), 0..24);
    vec![Ok(hour as f64), Ok(share)]
}

pub(super) fn vips(market: &Market) -> Vec<Value> {
    let vips = &market.vips;
    [
        vips.lifetime_mean,
        vips.lifetime_median,
        vips.recent_orders_mean,
        vips.recent_mean,
        vips.recent_median,
    ]
    .map(|value| or(value, || "no VIP bought twice".into()))
    .to_vec()
}

/// What the days of a month that are looked for have on average.
fn on_days(days: &[(Day, f64)], of: impl Fn(u32) -> bool) -> f64 {
    let of: Vec<f64> = days.iter().filter(|it| of(date_of(it.0).day())).map(|it| it.1).collect();
    mean(&of)
}

pub(super) fn month_start(market: &Market) -> Vec<Value> {
    let Some(days) = adjusted_days(market) else { return missing(2, "it needs three months") };
    vec![
        Ok(on_days(&days, |day| day <= 5) / on_days(&days, is_usual) - 1.0),
        Ok(on_days(&days, |day| [11, 12, 26, 27].contains(&day)) / on_days(&days, |_day| true)),
    ]
}

pub(super) fn month_end(market: &Market) -> Value {
    let days = or(adjusted_days(market), || "it needs three months".into())?;
    Ok(on_days(&days, |day| day >= 28) / on_days(&days, is_usual) - 1.0)
}

/// Whether a day of the month is none on which, or after which, salaries are paid.
fn is_usual(day: u32) -> bool {
    matches!(day, 6..=9 | 13..=24)
}

/// Orders of each day against the 29 days around it, then against its weekday; none in a short history.
fn adjusted_days(market: &Market) -> Option<Vec<(Day, f64)>> {
    const AROUND: usize = 29;
    let whole = market.whole_days();
    if whole.len() < 90 {
        return None;
    }
    let orders: Vec<f64> = whole.iter().map(|(_day, orders)| *orders as f64).collect();
    let around = orders.windows(AROUND).map(|window| window.iter().sum::<f64>() / AROUND as f64);
    let mut days: Vec<(Day, f64)> = around
        .zip(&whole[AROUND / 2..])
        .map(|(mean, (day, orders))| (*day, *orders as f64 / mean))
        .collect();
    for of_week in 0..7 {
        let those: Vec<f64> =
            days.iter().filter(|it| weekday(it.0) == of_week).map(|it| it.1).collect();
        let mean = mean(&those);
        days.iter_mut().filter(|it| weekday(it.0) == of_week).for_each(|it| it.1 /= mean);
    }
    Some(days)
}

pub(super) fn new_products(market: &Market) -> Vec<Value> {
    let nothing = || "no product was listed three days ago or earlier".to_owned();
    market.first_sales.map(|value| or(value, nothing)).to_vec()
}

pub(super) fn black_friday(market: &Market) -> Vec<Value> {
    let Some(place) = last_black_friday(market) else {
        return missing(1, "no Black Friday with four weeks before it");
    };
    let orders = |weeks: usize| market.days[place - 7 * weeks].1;
    let before: Vec<(i64, i64)> = {
        let mut before = [1, 2, 3, 4].map(orders);
        before.sort_unstable();
        before.map(|orders| (orders, 1)).to_vec()
    };
    let usual = quantile(&before, 0.5);
    if usual == 0.0 {
        return missing(1, "no orders on the Fridays before it");
    }
    vec![Ok(orders(0) as f64 / usual)]
}

/// Orders on the four days before Black Friday, on it, and on the four after it, over the mean day of
/// the four weeks that end a week before it; as far as there are these days.
pub(super) fn black_friday_shape(market: &Market) -> Vec<(i64, f64)> {
    let Some(place) = last_black_friday(market) else { return Vec::new() };
    let Some(before) = place.checked_sub(34).map(|from| &market.days[from..place - 6]) else {
        return Vec::new();
    };
    let usual = before.iter().map(|(_day, orders)| *orders as f64).sum::<f64>() / 28.0;
    (-4..=4)
        .map(|day: i64| (day, place.saturating_add_signed(day as isize)))
        .filter(|(_day, place)| place + 1 < market.days.len())
        .map(|(day, place)| (day, market.days[place].1 as f64 / usual))
        .collect()
}

/// The place among the days of the newest Black Friday that is whole and has four weeks before it.
fn last_black_friday(market: &Market) -> Option<usize> {
    let (first, _orders) = *market.days.first()?;
    let (last, _orders) = *market.whole_days().last()?;
    let places = (date_of(first).year()..=date_of(last).year()).rev().filter_map(|year| {
        // The day after Thanksgiving.
        let thursday = NaiveDate::from_weekday_of_month_opt(year, 11, Weekday::Thu, 4)?;
        let day = day_of_date(thursday) + 1;
        (day <= last && day - first > 28).then(|| (day - first) as usize)
    });
    places.into_iter().next()
}

pub(super) fn purchase_model(market: &Market) -> Vec<Value> {
    let followed = market.days.len().saturating_sub(OBSERVED_DAYS);
    if followed < FOLLOWED_DAYS_MIN {
        return missing(7, "it needs 43 weeks");
    }
    let cohort = &market.cohort;
    if cohort.iter().all(|of| of.repeats == 0) {
        return missing(7, "nobody of the first 13 weeks came back");
    }
    let model = bg_nbd::fit(cohort);
    let customers: f64 = cohort.iter().map(|of| of.customers as f64).sum();
    let weeks = followed as f64 / 7.0;
    let predicted: f64 =
        cohort.iter().map(|of| of.customers as f64 * model.comes_back(of, weeks)).sum();
    let came_back: f64 = cohort.iter().map(|of| of.came_back as f64).sum();
    let (predicted, came_back) = (predicted / customers, came_back / customers);
    [model.r, model.alpha, model.a, model.b, predicted, came_back, predicted - came_back]
        .map(Ok)
        .to_vec()
}

pub(super) fn sign_ups(market: &Market) -> Vec<Value> {
    vec![or(market.ever_bought, || "nobody has been signed up for 90 days".into())]
}

/// Of all customers whose month of the first purchase lies so far back. A year later is the eleventh
/// month and the twelfth, as far as they are there: twelve months of history have the eleventh, of the
/// customers of the first month.
pub(super) fn retention(market: &Market) -> Vec<Value> {
    let months = (market.days.len() as f64 / DAYS_A_MONTH) as i64;
    let after = |since: std::ops::RangeInclusive<i64>| {
        let (mut customers, mut active) = (0, 0);
        for since in since.clone() {
            let whole = || market.retention.iter().filter(|of| of.first + since < months);
            customers += whole().filter(|of| of.since == 0).map(|of| of.customers).sum::<i64>();
            active += whole().filter(|of| of.since == since).map(|of| of.customers).sum::<i64>();
        }
        let share = (customers > 0).then(|| active as f64 / customers as f64);
        or(share, || format!("it needs {} months of 30.4 days", since.start() + 1))
    };
    let [first, year] = [after(1..=1), after(11..=12)];
    let left = match (&first, &year) {
        (Ok(first), Ok(year)) if *first > 0.0 => Ok(year / first),
        _ => Err("it needs both".into()),
    };
    vec![first, after(3..=3), after(6..=6), year, left]
}

pub(super) fn most_frequent(market: &Market) -> Vec<Value> {
    market.most_frequent.map(|value| or(value, || "there are no orders yet".into())).to_vec()
}

pub(super) fn catalogue(market: &Market) -> Vec<Value> {
    vec![or(market.catalogue, || "it needs a year".into())]
}

/// So many values that are missing for one reason.
pub(super) fn missing(parts: usize, reason: &str) -> Vec<Value> {
    vec![Err(reason.to_owned()); parts]
}

pub(super) fn or<T>(value: Option<T>, reason: impl FnOnce() -> String) -> Result<T, String> {
    value.ok_or_else(reason)
}

fn weekday(day: Day) -> usize {
    date_of(day).weekday().num_days_from_monday() as usize
}

/// The Gini coefficient: 0 where all are alike, towards 1 where one has everything.
fn gini(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let weighed: f64 =
        values.iter().zip(1..).map(|(value, i)| (2.0 * f64::from(i) - n - 1.0) * value).sum();
    weighed / (n * values.iter().sum::<f64>())
}

/// The share in the sum that a part of the values has, which stand from the greatest to the least.
pub(super) fn share_of_best(values: &[f64], part: f64) -> f64 {
    let best = (values.len() as f64 * part) as usize;
    values[..best].iter().sum::<f64>() / values.iter().sum::<f64>()
}

pub(super) fn shares(values: [f64; 24]) -> [f64; 24] {
    let sum: f64 = values.iter().sum();
    values.map(|value| value / sum)
}

/// The place of the greatest value within a range, and that value.
pub(super) fn busiest(values: &[f64; 24], range: std::ops::Range<usize>) -> (usize, f64) {
    let places = range.map(|place| (place, values[place]));
    places.reduce(|best, it| if it.1 > best.1 { it } else { best }).expect("no range is empty")
}

/// 1 where no value is greater.
fn rank(values: &[f64], place: usize) -> f64 {
    1.0 + values.iter().filter(|value| **value > values[place]).count() as f64
}

pub(super) fn count(histogram: &[(i64, i64)]) -> i64 {
    histogram.iter().map(|(_value, times)| times).sum()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of values that occur so many times; the deviation is that of a sample.
fn mean_and_deviation(histogram: &[(i64, i64)]) -> (f64, f64) {
    let n = count(histogram) as f64;
    let each = || histogram.iter().map(|(value, times)| (*value as f64, *times as f64));
    let mean = each().map(|(value, times)| value * times).sum::<f64>() / n;
    let squares: f64 = each().map(|(value, times)| (value - mean).powi(2) * times).sum();
    (mean, (squares / (n - 1.0)).sqrt())
}

/// Between two values it is in proportion, as `percentile_cont` is. The values ascend.
pub(super) fn quantile(histogram: &[(i64, i64)], part: f64) -> f64 {
    let place = part * (count(histogram) - 1) as f64;
    let value_at = |place: i64| {
        let mut before = 0;
        let found = histogram.iter().find(|(_value, times)| {
            before += times;
            before > place
        });
        found.map_or(f64::NAN, |(value, _times)| *value as f64)
    };
    let (below, above) = (value_at(place.floor() as i64), value_at(place.ceil() as i64));
    below + (above - below) * place.fract()
}

/// Of the line by least squares.
fn slope(x: &[f64], y: &[f64]) -> f64 {
    let (mean_x, mean_y) = (mean(x), mean(y));
    let together: f64 = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    together / x.iter().map(|x| (x - mean_x).powi(2)).sum::<f64>()
}

/// Pearson's coefficient.
fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let (one, other) = (slope(x, y), slope(y, x));
    (one * other).sqrt().copysign(one)
}

/// The parabola by least squares: the line, and what is left of x^2 when its own line is taken off.
fn parabola(x: &[f64], y: &[f64]) -> impl Fn(f64) -> f64 + use<> {
    let squares: Vec<f64> = x.iter().map(|x| x * x).collect();
    let (line_of_squares, line) = (slope(x, &squares), slope(x, y));
    let left = move |x: f64| x * x - line_of_squares * x;
    let curved: Vec<f64> = x.iter().map(|x| left(*x)).collect();
    let curve = slope(&curved, y);
    let level = mean(y) - line * mean(x) - curve * mean(&curved);
    move |x| level + line * x + curve * left(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-9, "{value}, not {expected}");
    }

    /// A market of which only the orders of each day are known, from a date on.
    fn days(from: (i32, u32, u32), count: i32, orders: impl Fn(NaiveDate) -> f64) -> Market {
        let from = day_of_date(NaiveDate::from_ymd_opt(from.0, from.1, from.2).unwrap());
        let days = (from..from + count).map(|day| (day, orders(date_of(day)).round() as i64));
        Market { days: days.collect(), ..Market::default() }
    }

    #[test]
    fn inequality_of_a_few() {
        assert_near(gini(vec![5.0; 4]), 0.0);
        assert_near(gini(vec![3.0, 1.0]), 0.25);
        assert_near(gini(vec![0.0, 0.0, 0.0, 8.0]), 0.75);
        assert_near(share_of_best(&[6.0, 2.0, 1.0, 1.0, 0.0], 0.2), 0.6);
    }

    #[test]
    fn middle_and_spread_of_what_occurs_several_times() {
        let values = [(1, 2), (4, 1), (10, 1)];
        assert_near(quantile(&values, 0.5), 2.5);
        assert_near(quantile(&values, 0.0), 1.0);
        assert_near(quantile(&values, 1.0), 10.0);
        let (mean, deviation) = mean_and_deviation(&values);
        assert_near(mean, 4.0);
        assert_near(deviation, 18.0_f64.sqrt());
    }

    #[test]
    fn lines_and_parabolas() {
        let x = [1.0, 2.0, 4.0, 7.0];
        assert_near(slope(&x, &x.map(|x| 3.0 - 2.0 * x)), -2.0);
        let curve = |x: f64| 5.0 - x + 0.5 * x * x;
        let fitted = parabola(&x, &x.map(curve));
        assert_near(fitted(3.0), curve(3.0));
        assert_near(fitted(-10.0), curve(-10.0));
    }

    #[test]
    fn correlation_of_weekdays() {
        let other_way = SAMSUNG_WEEKDAYS.map(|it| 2.0 - it);
        assert_near(correlation(&SAMSUNG_WEEKDAYS, &other_way), -1.0);
        // Olist's, by a script.
        let olist = [1.112, 1.069, 1.085, 1.058, 1.057, 0.748, 0.872];
        assert!((correlation(&olist, &SAMSUNG_WEEKDAYS) - 0.946_087).abs() < 1e-6);
    }

    #[test]
    fn popularity_with_a_power_of_the_rank() {
        let lines = |rank: i32| (1e9 * f64::from(rank).powf(-0.7)) as i64;
        let market = Market { popularity: (1..=2000).map(lines).collect(), ..Market::default() };
        let values = super::popularity(&market);
        assert!((values[0].as_ref().unwrap() - 0.7).abs() < 1e-6, "{values:?}");
        let few = Market { popularity: (1..=999).map(lines).collect(), ..Market::default() };
        assert!(super::popularity(&few)[0].is_err());
    }

    #[test]
    fn two_peaks_with_a_dip() {
        let orders = |hour| match hour {
            3 => 1,
            11 => 80,
            18 => 40,
            21 => 60,
            _ => 50,
        };
        let hour = |hour| super::super::reading::Hour {
            age_band: None,
            sex: None,
            hour,
            orders: orders(hour),
        };
        let market = Market { hours: (0..24).map(hour).collect(), ..Market::default() };
        let values: Vec<f64> = hours(&market).into_iter().map(Result::unwrap).collect();
        let all = 20.0 * 50.0 + 181.0;
        for (value, expected) in values.iter().zip([80.0 / all, 251.0 / all, 11.0, 21.0, 1.5]) {
            assert_near(*value, expected);
        }
    }

    /// The shop grows by a half in the year, and has a fifth more orders in November; the history
    /// begins and ends within a November.
    #[test]
    fn months_without_the_growth() {
        let market = days((2025, 11, 20), 366, |date| {
            let since = f64::from(day_of_date(date)) - 20_412.0;
            let november = if date.month() == 11 { 1.2 } else { 1.0 };
            1e6 * (since / 365.25 * 0.5).exp() * november
        });
        let index = month_index(&market).unwrap();
        assert!((index[10] / index[0] - 1.2).abs() < 1e-3, "{index:?}");
        assert!((index[5] / index[0] - 1.0).abs() < 1e-3, "{index:?}");
        assert_near(index.iter().sum::<f64>(), 12.0);
        assert!(month_index(&days((2025, 11, 20), 330, |_date| 9.0)).is_err());
    }

    /// A quarter more on the first five days, on top of a busy Monday and of growth.
    #[test]
    fn the_month_begins_with_more() {
        let market = days((2025, 1, 1), 730, |date| {
            let growth = (f64::from(day_of_date(date) - 20_000) / 700.0).exp();
            let monday = if date.weekday() == Weekday::Mon { 1.5 } else { 1.0 };
            1e5 * growth * monday * if date.day() <= 5 { 1.25 } else { 1.0 }
        });
        let values = month_start(&market);
        assert!((values[0].as_ref().unwrap() - 0.25).abs() < 0.01, "{values:?}");
        assert!(month_start(&days((2025, 1, 1), 80, |_date| 9.0))[0].is_err());
    }

    #[test]
    fn black_friday_is_the_day_after_the_fourth_thursday() {
        let orders = |date: NaiveDate| match (date.month(), date.day()) {
            (11, 27) => 300.0, // 2026
            (11, 28) => 500.0, // 2025
            (11, 20) => 130.0,
            _ => 100.0,
        };
        let market = days((2026, 10, 1), 80, orders);
        assert_near(*black_friday(&market)[0].as_ref().unwrap(), 3.0);
        let shape = black_friday_shape(&market);
        assert_eq!(shape.len(), 9);
        let of_week_before = (27.0 * 100.0 + 130.0) / 28.0;
        assert_near(shape[4].1, 300.0 / of_week_before);
        assert_near(shape[3].1, 100.0 / of_week_before);
        // The last that is whole, of two; and none where there are not four weeks before it.
        assert_near(*black_friday(&days((2025, 1, 1), 695, orders))[0].as_ref().unwrap(), 5.0);
        assert!(black_friday(&days((2026, 11, 1), 80, orders))[0].is_err());
    }
}
