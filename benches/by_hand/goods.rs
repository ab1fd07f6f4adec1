//! The tables by what is sold: categories and products.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use dataflows::model::time::{DAY, HOUR, WEEK, day_of, week_of};
use dataflows::model::{Category, Day, Krw, Line, Millis, Order, OrderKind, ProductEvent};
use dataflows::row::Cell::{Date, Instant, Int, Text};

use super::{Dense, Out, Today, grown};

const LAGS: [&str; 7] = ["0", "1", "2", "3", "4-7", "8+", "none yet"];
const SPANS: [(&str, Millis); 3] = [("1 h", HOUR), ("24 h", DAY), ("7 d", WEEK)];

#[derive(Default)]
pub(super) struct Goods {
    /// The categories' numbers, which have no holes.
    numbers: HashMap<Category, usize, BuildHasherDefault<Ready>>,
    categories: Vec<Category>,
    /// Of each day, by category.
    days: Dense<Vec<Sales>>,
    /// Orders and revenue by category and month of the year.
    seasons: Vec<[[i64; 2]; 12]>,
    /// Orders with both of two categories, by the greater number and the less.
    pairs: Vec<Vec<i64>>,
    /// The categories of the order that is counted, each once.
    in_order: Vec<usize>,
    orders: u32,
    products: Vec<Product>,
    records: Vec<Option<ProductEvent>>,
    lags: BTreeMap<(Day, usize), i64>,
    /// What was sold within each span and not within the one before.
    sold: [VecDeque<Sold>; 3],
}

/// The hash of a category, which has it ready.
#[derive(Default)]
struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a category is hashed as one number");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[derive(Default)]
struct Sales {
    events: i64,
    orders: i64,
    units: i64,
    revenue: i64,
    refunded: i64,
}

#[derive(Default)]
struct Product {
    orders: u32,
    /// The number of the last order that has it.
    last: u32,
    first_sold: Option<Millis>,
    /// Pieces and revenue within the spans.
    within: [[i64; 2]; 3],
}

struct Sold {
    at: Millis,
    product: u32,
    units: i64,
    revenue: i64,
}

impl Goods {
    pub(super) fn record(&mut self, event: ProductEvent) {
        let (place, listed_at) = (event.product.product_id.0 as usize, event.product.listed_at);
        let sold_at = grown(&mut self.products, place).first_sold;
        if grown(&mut self.records, place).replace(event).is_none() {
            *self.lags.entry(lag(listed_at, sold_at)).or_default() += 1;
        }
    }

    /// Counts the lines of an order's event; gives its pieces and its amount.
    pub(super) fn order(&mut self, order: &Order, today: &Today) -> (i64, i64) {
        let is_placed = order.event == OrderKind::Placed;
        self.orders += u32::from(is_placed);
        self.in_order.clear();
        let (mut units, mut amount) = (0, 0);
        for line in &*order.lines {
            let Krw(revenue) = line.amount();
            units += line.quantity;
            amount += revenue;
            let category = *self.numbers.entry(line.category).or_insert_with(|| {
                self.categories.push(line.category);
                self.categories.len() - 1
            });
            let sales = grown(self.days.at(today.day.into()), category);
            sales.events += 1;
            if !is_placed {
                sales.refunded += revenue;
                continue;
            }
            sales.units += line.quantity;
            sales.revenue += revenue;
            let season = &mut grown(&mut self.seasons, category)[today.date.month as usize - 1];
            season[1] += revenue;
            if !self.in_order.contains(&category) {
                sales.orders += 1;
                season[0] += 1;
                for other in &self.in_order {
                    let pairs = grown(&mut self.pairs, category.max(*other));
                    *grown(pairs, category.min(*other)) += 1;
                }
                self.in_order.push(category);
            }
            self.sell(line, order.at, revenue);
        }
        (units, amount)
    }

    fn sell(&mut self, line: &Line, at: Millis, revenue: i64) {
        let (id, units) = (line.product_id.0 as u32, line.quantity);
        let product = grown(&mut self.products, id as usize);
        if product.last != self.orders {
            product.last = self.orders;
            product.orders += 1;
        }
        if product.first_sold.is_none() {
            product.first_sold = Some(at);
            if let Some(Some(record)) = self.records.get(id as usize) {
                let listed_at = record.product.listed_at;
                *self.lags.entry(lag(listed_at, None)).or_default() -= 1;
                *self.lags.entry(lag(listed_at, Some(at))).or_default() += 1;
            }
        }
        for sums in &mut product.within {
            *sums = [sums[0] + units, sums[1] + revenue];
        }
        self.sold[0].push_back(Sold { at, product: id, units, revenue });
    }

    /// Takes out of each span what is too old.
    pub(super) fn advance(&mut self, now: Millis) {
        for (span, (_, length)) in SPANS.iter().enumerate() {
            while let Some(sold) = self.sold[span].pop_front_if(|it| it.at <= now - length) {
                let sums = &mut self.products[sold.product as usize].within[span];
                *sums = [sums[0] - sold.units, sums[1] - sold.revenue];
                if let Some(longer) = self.sold.get_mut(span + 1) {
                    longer.push_back(sold);
                }
            }
        }
    }

    pub(super) fn rows(&self, out: &mut Out) {
        out.table("sales_by_category");
        for (day, sales) in self.days.iter() {
            let sales = self.categories.iter().zip(sales);
            for (category, it) in sales.filter(|(_, it)| it.events > 0) {
                let value = [it.orders, it.units, it.revenue, it.refunded];
                out.row(&[Date(day as Day), Text(category)], &value.map(Int));
            }
        }
        out.table("season_pattern");
        for (category, season) in self.categories.iter().zip(&self.seasons) {
            for (month, [_, revenue]) in (1..).zip(season).filter(|(_, sums)| sums[0] > 0) {
                out.row(&[Int(month), Text(category)], &[Int(*revenue)]);
            }
        }
        out.table("basket_pairs");
        for (a, pairs) in self.categories.iter().zip(&self.pairs) {
            let pairs = self.categories.iter().zip(pairs);
            for (b, orders) in pairs.filter(|(_, orders)| **orders > 0) {
                out.row(&[Text(a.min(b)), Text(a.max(b))], &[Int(*orders)]);
            }
        }
        self.rows_of_products(out);
    }

    fn rows_of_products(&self, out: &mut Out) {
        out.table("products");
        for (product, record) in self.products.iter().zip(&self.records) {
            let Some(ProductEvent { at, product: it, .. }) = record else { continue };
            let [price, stock, orders] = [it.price.0, it.stock, product.orders.into()].map(Int);
            let [listed_at, updated_at] = [it.listed_at, *at].map(Instant);
            let (name, category) = (Text(&it.name), Text(&it.category));
            let value = [name, category, price, stock, listed_at, updated_at, orders];
            out.row(&[Int(it.product_id.0)], &value);
        }
        out.table("first_sale_lag");
        for ((week, lag), products) in self.lags.iter().filter(|(_, products)| **products > 0) {
            out.row(&[Date(*week), Text(LAGS[*lag])], &[Int(*products)]);
        }
        out.table("best_sellers");
        for (span, (word, _)) in SPANS.iter().enumerate() {
            let sold = (0..).zip(&self.products).map(|(id, it)| (it.within[span], id));
            let mut sold: Vec<(_, i64)> = sold.filter(|(sums, _)| sums[0] > 0).collect();
            sold.sort_unstable_by_key(|(sums, id)| (Reverse(*sums), *id));
            for (rank, ([units, revenue], id)) in (1..=100).zip(sold) {
                out.row(&[Text(word), Int(rank)], &[id, units, revenue].map(Int));
            }
        }
    }
}

/// The week of a listing, and the place in [`LAGS`] of the whole days from there to the first sale.
fn lag(listed_at: Millis, sold_at: Option<Millis>) -> (Day, usize) {
    let lag = match sold_at.map(|sold_at| (sold_at - listed_at).max(0) / DAY) {
        Some(days @ 0..=3) => days as usize,
        Some(4..=7) => 4,
        Some(_) => 5,
        None => 6,
    };
    (week_of(day_of(listed_at)), lag)
}
