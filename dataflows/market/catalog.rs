//! The products: what the shop lists, what sells and sells out, and which 1,000 are offered first.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashSet, VecDeque},
    sync::Arc,
};

use rand::RngExt;
use rand_distr::{Beta, Distribution};
use serde::{Deserialize, Serialize};

use super::{
    best::Best,
    draw::{Purpose, draw},
    leading::Leading,
    people::weighted,
    profile::{self, Profile},
    shelf::Shelf,
};
use crate::model::{Category, Krw, Millis, Product, ProductId};

/// What is offered, by category: the best sellers, and the newest of the others.
#[derive(Clone)]
pub(super) struct Offered {
    pub(super) best: Vec<Shelf>,
    pub(super) newest: Vec<Shelf>,
}

impl Offered {
    pub(super) fn new(categories: usize) -> Self {
        let shelves = || vec![Shelf::default(); categories];
        Offered { best: shelves(), newest: shelves() }
    }
}

/// Units that the shop holds back: two workers may sell the same product in one refresh.
const HELD_BACK: i64 = 20;

/// What the market knows of a product.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Goods {
    pub(super) category: u8,
    pub(super) price: u32,
    /// How much people like it, whatever its rank.
    appeal: u32,
    /// Orders with it in the window of the best sellers.
    orders: u32,
    /// Units in stock, and so many that it is filled up to.
    stock: i64,
    full: i64,
    /// A delivery is on its way.
    awaited: bool,
    pub(super) sold_out: bool,
    pub(super) listed_at: Millis,
}

impl Goods {
    /// The orders that it is ranked by: none where it is sold out.
    fn ranked(&self) -> u32 {
        if self.sold_out { 0 } else { self.orders }
    }

    /// Puts it on its category's shelf.
    fn put(&self, id: u32, shelves: &mut [Shelf]) {
        shelves[usize::from(self.category)].add(id, self.appeal);
    }

    fn take_off(&self, id: u32, shelves: &mut [Shelf]) {
        shelves[usize::from(self.category)].remove(id);
    }

    /// The stock that the shop tells of.
    fn available(&self) -> i64 {
        if self.sold_out { 0 } else { self.stock - HELD_BACK }
    }
}

/// All products and the working set among them; the same at every worker.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Catalog {
    goods: Vec<Goods>,
    /// Refresh and product of the sales in the window, oldest first.
    sales: VecDeque<(u32, u32)>,
    /// Deliveries to come: refresh and product.
    deliveries: BTreeSet<(u32, u32)>,
    #[serde(skip, default = "bare")]
    offered: Offered,
    #[serde(skip, default = "no_best")]
    best: Best,
    /// The newest that are no best sellers.
    #[serde(skip, default = "no_newest")]
    newest: Leading<Reverse<u32>>,
}

fn bare() -> Offered {
    Offered::new(0)
}

fn no_best() -> Best {
    Best::new(0)
}

fn no_newest() -> Leading<Reverse<u32>> {
    Leading::new(0)
}

/// Ranks of popularity, and the appeal of the first.
const RANKS: f64 = 20_000.0;
const APPEAL: f64 = 1e6;

impl Catalog {
    pub(super) fn new(profile: &Profile) -> Self {
        let rules = &profile.working_set;
        Catalog {
            goods: Vec::new(),
            sales: VecDeque::new(),
            deliveries: BTreeSet::new(),
            offered: Offered::new(profile.categories.len()),
            best: Best::new(rules.best_sellers),
            newest: Leading::new(rules.products),
        }
    }

    /// Builds the orders anew after a snapshot was read.
    pub(super) fn restore(&mut self, profile: &Profile) {
        let rules = &profile.working_set;
        self.offered = Offered::new(profile.categories.len());
        self.best = Best::new(rules.best_sellers);
        for (goods, id) in self.goods.iter().zip(1..) {
            self.best.set(id, goods.ranked());
        }
        let (_, best) = self.best.settle();
        for id in &best {
            self.get(*id).put(*id, &mut self.offered.best);
        }
        let best: HashSet<u32> = best.into_iter().collect();
        self.newest.resize(rules.products - best.len());
        let others = |id: &u32| !best.contains(id) && !self.goods[*id as usize - 1].sold_out;
        // What was listed since the last refresh enters with what has changed by the next one.
        for id in (1..=self.goods.len() as u32).filter(others) {
            self.newest.insert(Reverse(id));
        }
    }

    pub(super) fn offered(&self) -> &Offered {
        &self.offered
    }

    pub(super) fn len(&self) -> usize {
        self.goods.len()
    }

    pub(super) fn get(&self, id: u32) -> Goods {
        self.goods[id as usize - 1]
    }

    /// Lists the next product; it is offered from the next refresh on. Returns its id.
    pub(super) fn list(&mut self, profile: &Profile, seed: u64, listed_at: Millis) -> u32 {
        let id = self.goods.len() as u32 + 1;
        self.goods.push(goods(profile, seed, id, listed_at).0);
        self.newest.insert(Reverse(id));
        id
    }

    /// Counts what was sold in the refresh before this one, forgets what is too old, and draws up
    /// the working set: 700 by orders, highest first, and the 300 newest of the others, without
    /// those that are sold out. Returns the products whose record changes, by id.
    pub(super) fn refresh(
        &mut self,
        profile: &Profile,
        seed: u64,
        refresh: u32,
        sold: impl Iterator<Item = (u32, u32)>,
    ) -> BTreeSet<u32> {
        let rules = &profile.working_set;
        let a_day = crate::model::time::DAY / rules.refresh.0;
        let mut changed = BTreeSet::new();
        while let Some((due, id)) = self.deliveries.first().copied()
            && due <= refresh
        {
            self.deliveries.pop_first();
            self.deliver(id);
            changed.insert(id);
        }
        for (id, units) in sold {
            self.count(id, 1);
            self.sales.push_back((refresh.saturating_sub(1), id));
            if self.take(profile, seed, refresh, id, units) {
                changed.insert(id);
            }
        }
        // The order in which workers report is no matter: sales of one refresh leave together.
        match rules.best_sellers_days {
            0 => self.sales.clear(),
            days => {
                let window = days * a_day as u32;
                while let Some((_, id)) = self.sales.pop_front_if(|(at, _)| *at + window < refresh)
                {
                    self.count(id, -1);
                }
            }
        }
        self.draw_up(rules);
        changed
    }

    /// Moves what is offered on to the leaders of the two groups.
    fn draw_up(&mut self, rules: &profile::WorkingSet) {
        let (left, entered) = self.best.settle();
        for id in left {
            self.get(id).take_off(id, &mut self.offered.best);
            if !self.get(id).sold_out {
                self.newest.insert(Reverse(id));
            }
        }
        for id in entered {
            self.newest.remove(Reverse(id));
            self.get(id).put(id, &mut self.offered.best);
        }
        self.newest.resize(rules.products - self.best.len());
        let (left, entered) = self.newest.take_changes();
        for Reverse(id) in left {
            self.get(id).take_off(id, &mut self.offered.newest);
        }
        for Reverse(id) in entered {
            self.get(id).put(id, &mut self.offered.newest);
        }
    }

    /// Adds to a product's orders in the window.
    fn count(&mut self, id: u32, change: i32) {
        let goods = &mut self.goods[id as usize - 1];
        goods.orders = goods.orders.wrapping_add_signed(change);
        self.best.set(id, goods.ranked());
    }

    /// Takes units from a product's stock, and orders more where little is left. Returns whether
    /// its record changes: it ran low, or out.
    fn take(&mut self, profile: &Profile, seed: u64, refresh: u32, id: u32, units: u32) -> bool {
        let rules = &profile.products;
        let goods = &mut self.goods[id as usize - 1];
        goods.stock -= i64::from(units);
        let mut changed = false;
        let left = (goods.stock - HELD_BACK) as f64;
        if !goods.awaited && left <= rules.reorder * goods.full as f64 {
            goods.awaited = true;
            changed = true;
            let random = &mut draw(seed, Purpose::Delivery, u64::from(id), u64::from(refresh));
            let wait = random.random_range(rules.delivery[0].0..=rules.delivery[1].0);
            let due = refresh + (wait / profile.working_set.refresh.0).max(1) as u32;
            self.deliveries.insert((due, id));
        }
        if !goods.sold_out && goods.stock <= HELD_BACK {
            goods.sold_out = true;
            changed = true;
            self.best.set(id, 0);
            self.newest.remove(Reverse(id));
        }
        changed
    }

    /// A delivery fills a product's stock up, to the orders of a whole window if that is more.
    fn deliver(&mut self, id: u32) {
        let goods = &mut self.goods[id as usize - 1];
        goods.full = goods.full.max(i64::from(goods.orders));
        goods.stock = goods.full + HELD_BACK;
        goods.awaited = false;
        if std::mem::take(&mut goods.sold_out) {
            self.best.set(id, goods.ranked());
            // If it leads the best sellers, it leaves the newest again.
            self.newest.insert(Reverse(id));
        }
    }

    /// The record that the shop has of a product.
    pub(super) fn record(
        &self,
        profile: &Profile,
        seed: u64,
        id: u32,
        words: &[Category],
    ) -> Product {
        let known = self.get(id);
        let (_, name) = goods(profile, seed, id, known.listed_at);
        Product {
            product_id: ProductId(id.into()),
            name: Arc::from(name),
            category: words[usize::from(known.category)],
            price: Krw(known.price.into()),
            stock: known.available(),
            listed_at: known.listed_at,
        }
    }
}

/// The product of that id, as it is listed, and its name.
fn goods(profile: &Profile, seed: u64, id: u32, listed_at: Millis) -> (Goods, String) {
    let rules = &profile.products;
    let random = &mut draw(seed, Purpose::Goods, u64::from(id), 0);
    let place = weighted(random, &profile.categories, |category| category.share);
    let category = &profile.categories[place];
    let (low, high) = category.price;
    let level = Beta::new(rules.price.0, rules.price.1).expect("checked").sample(random);
    let price = charm(low + Krw(((high - low).0 as f64 * level) as i64), random.random());
    // Zipf-Mandelbrot over 20,000 ranks with a random rank: few are liked much, most a little.
    let (exponent, offset) = rules.popularity;
    let appeal = APPEAL * (offset / (random.random::<f64>() * RANKS + offset)).powf(exponent);
    let noun = &category.goods[random.random_range(0..category.goods.len())];
    let style = STYLES[weighted(random, STYLES, |(_, weight)| *weight)].0;
    let name = format!("{style} {noun} {}", random.random_range(100..1000));
    let full = random.random_range(rules.stock.0..=rules.stock.1);
    let goods = Goods {
        category: place as u8,
        price: price.0 as u32,
        appeal: (appeal as u32).max(1),
        orders: 0,
        stock: full + HELD_BACK,
        full,
        awaited: false,
        sold_out: false,
        listed_at,
    };
    (goods, name)
}

/// Most prices end in 900 or 990.
fn charm(price: Krw, style: f64) -> Krw {
    let thousands = (price.0 / 1_000).max(1) * 1_000;
    Krw(match style {
        style if style < 0.55 => thousands - 100,
        style if style < 0.75 => thousands - 10,
        style if style < 0.85 => thousands + 500,
        _ => thousands,
    })
}

const STYLES: &[(&str, f64)] = &[
    ("데일리", 5.0),
    ("프리미엄", 4.0),
    ("클래식", 3.0),
    ("모던", 3.0),
    ("내추럴", 2.0),
    ("베이직", 2.0),
    ("미니", 2.0),
    ("올인원", 1.0),
    ("시그니처", 1.0),
    ("에센셜", 1.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_stay_in_their_categorys_range() {
        let profile = Profile::named("year").unwrap();
        for id in 1..2_000 {
            let (goods, ..) = goods(&profile, 1, id, 0);
            let (low, high) = profile.categories[usize::from(goods.category)].price;
            let price = Krw(goods.price.into());
            assert!((low - Krw(100)..=high + Krw(500)).contains(&price), "{id}: {price}");
        }
    }
}
