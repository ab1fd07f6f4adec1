//! The products: what the shop lists, what sells, and which 1,000 are offered first.

use std::{
    cmp::Reverse,
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use rand::RngExt;
use rand_distr::{Beta, Distribution};
use serde::{Deserialize, Serialize};

use super::{
    draw::{Purpose, draw},
    leading::Leading,
    people::weighted,
    roster::Roster,
};
use crate::model::{Krw, Millis, Product, Word};

/// Products in the working set, and how many of them are best sellers.
const PLACES: usize = 1_000;
const BEST_SELLERS: usize = 700;
/// Bands of the roster.
pub(super) const BEST: usize = 0;
pub(super) const NEWEST: usize = 1;

/// What the market knows of a product.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Goods {
    pub(super) category: u8,
    pub(super) price: u32,
    /// How much people like it, whatever its rank.
    appeal: u32,
    /// Orders with it in the window of the best sellers.
    orders: u32,
}

/// All products and the working set among them; the same at every worker.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Catalog {
    goods: Vec<Goods>,
    /// Refresh and product of the sales in the window, oldest first.
    sales: VecDeque<(u32, u32)>,
    pub(super) roster: Roster,
    #[serde(skip, default = "best")]
    best: Leading<(Reverse<u32>, u32)>,
    /// The newest that are no best sellers.
    #[serde(skip, default = "newest")]
    newest: Leading<Reverse<u32>>,
}

fn best() -> Leading<(Reverse<u32>, u32)> {
    Leading::new(BEST_SELLERS)
}

fn newest() -> Leading<Reverse<u32>> {
    Leading::new(PLACES)
}

impl Catalog {
    pub(super) fn new() -> Self {
        Catalog {
            goods: Vec::new(),
            sales: VecDeque::new(),
            roster: Roster::new(2),
            best: best(),
            newest: newest(),
        }
    }

    /// Builds the orders anew after a snapshot was read.
    pub(super) fn restore(&mut self) {
        for (index, goods) in self.goods.iter().enumerate() {
            if goods.orders > 0 {
                self.best.insert((Reverse(goods.orders), index as u32 + 1));
            }
        }
        let best: HashSet<u32> = self.best.leaders().map(|(_, id)| id).collect();
        for id in (1..=self.goods.len() as u32).filter(|id| !best.contains(id)) {
            self.newest.insert(Reverse(id));
        }
        self.newest.resize(PLACES - best.len());
        self.best.take_changes();
        self.newest.take_changes();
    }

    pub(super) fn len(&self) -> usize {
        self.goods.len()
    }

    pub(super) fn get(&self, id: u32) -> Goods {
        self.goods[id as usize - 1]
    }

    /// Lists the next product; it is offered from the next refresh on. Returns its id.
    pub(super) fn list(&mut self, seed: u64) -> u32 {
        let id = self.goods.len() as u32 + 1;
        self.goods.push(goods(seed, id).0);
        self.newest.insert(Reverse(id));
        id
    }

    /// Counts what was sold in the refresh before this one, forgets what is too old, and draws up
    /// the working set: 700 by orders, highest first, and the 300 newest of the others.
    pub(super) fn refresh(
        &mut self,
        refresh: u32,
        window: Option<u32>,
        sold: impl Iterator<Item = u32>,
    ) {
        for id in sold {
            self.count(id, 1);
            self.sales.push_back((refresh.saturating_sub(1), id));
        }
        // The order in which workers report is no matter: sales of one refresh leave together.
        match window {
            Some(window) => {
                while let Some((_, id)) = self.sales.pop_front_if(|(at, _)| *at + window < refresh)
                {
                    self.count(id, -1);
                }
            }
            None => self.sales.clear(),
        }
        let (mut left, mut entered) = self.best.take_changes();
        // A best seller with another count stays one.
        left.sort_by_key(|(_, id)| *id);
        entered.sort_by_key(|(_, id)| *id);
        for (_, id) in &left {
            if entered.binary_search_by_key(id, |(_, id)| *id).is_err() {
                self.roster.remove(*id);
                self.newest.insert(Reverse(*id));
            }
        }
        for (_, id) in &entered {
            if left.binary_search_by_key(id, |(_, id)| *id).is_err() {
                self.newest.remove(Reverse(*id));
            }
        }
        self.newest.resize(PLACES - self.best.leaders_len());
        let (left_new, entered_new) = self.newest.take_changes();
        for Reverse(id) in left_new {
            self.roster.remove(id);
        }
        for (_, id) in entered {
            if left.binary_search_by_key(&id, |(_, id)| *id).is_err() {
                self.roster.set(id, BEST as u8, u64::from(self.get(id).appeal));
            }
        }
        for Reverse(id) in entered_new {
            self.roster.set(id, NEWEST as u8, u64::from(self.get(id).appeal));
        }
    }

    fn count(&mut self, id: u32, change: i32) {
        let goods = &mut self.goods[id as usize - 1];
        if goods.orders > 0 {
            self.best.remove((Reverse(goods.orders), id));
        }
        goods.orders = goods.orders.wrapping_add_signed(change);
        if goods.orders > 0 {
            self.best.insert((Reverse(goods.orders), id));
        }
    }
}

/// The product of that id, and its name and stock.
fn goods(seed: u64, id: u32) -> (Goods, String, i64) {
    let random = &mut draw(seed, Purpose::Goods, u64::from(id), 0);
    let point = random.random::<f64>() * CATEGORIES.iter().map(|c| c.share).sum::<f64>();
    let mut sum = 0.0;
    let index = CATEGORIES.iter().position(|category| {
        sum += category.share;
        point < sum
    });
    let index = index.unwrap_or(0);
    let Category { prices: (low, high), nouns, .. } = &CATEGORIES[index];
    let level = Beta::new(2.0, 5.0).expect("positive shapes").sample(random);
    let price = charm(*low + ((high - low) as f64 * level) as Krw, random.random());
    // Zipf-Mandelbrot over 20,000 ranks with a random rank: few are liked much, most a little.
    let appeal = 1e6 / (random.random::<f64>() * 20_000.0 + 30.0);
    let goods = Goods {
        category: index as u8,
        price: price as u32,
        appeal: appeal as u32 + 1,
        orders: 0,
    };
    let noun = nouns[random.random_range(0..nouns.len())];
    let name = format!("{} {noun} {}", weighted(random, STYLES), random.random_range(100..1000));
    (goods, name, random.random_range(20..2_000))
}

/// The record of a product.
pub(super) fn product(seed: u64, id: u32, words: &[Word], listed_at: Millis) -> Product {
    let (goods, name, stock) = goods(seed, id);
    Product {
        product_id: i64::from(id),
        name: Arc::from(name),
        category: words[usize::from(goods.category)].clone(),
        price: Krw::from(goods.price),
        stock,
        listed_at,
    }
}

/// Most prices end in 900 or 990.
fn charm(price: Krw, style: f64) -> Krw {
    let thousands = (price / 1_000).max(1) * 1_000;
    match style {
        style if style < 0.55 => thousands - 100,
        style if style < 0.75 => thousands - 10,
        style if style < 0.85 => thousands + 500,
        _ => thousands,
    }
}

/// The categories' words, shared by all records.
pub(super) fn words() -> Vec<Word> {
    CATEGORIES.iter().map(|category| Arc::from(category.name)).collect()
}

/// The index of a category's word.
pub(super) fn category(name: &str) -> Option<usize> {
    CATEGORIES.iter().position(|category| category.name == name)
}

/// Number of categories.
pub(super) const CATEGORY_COUNT: usize = CATEGORIES.len();

struct Category {
    name: &'static str,
    /// Its share of the products.
    share: f64,
    prices: (Krw, Krw),
    nouns: [&'static str; 4],
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

#[rustfmt::skip]
const CATEGORIES: [Category; 16] = [
    Category { name: "fashion", share: 16.0, prices: (9_000, 90_000), nouns: ["셔츠", "니트", "팬츠", "코트"] },
    Category { name: "food", share: 15.0, prices: (3_000, 50_000), nouns: ["견과 세트", "라면 묶음", "김", "과자 상자"] },
    Category { name: "household", share: 12.0, prices: (2_000, 40_000), nouns: ["세제", "휴지", "수납함", "수건"] },
    Category { name: "beauty", share: 11.0, prices: (5_000, 80_000), nouns: ["크림", "세럼", "선크림", "립스틱"] },
    Category { name: "fresh", share: 7.0, prices: (4_000, 60_000), nouns: ["사과", "한우", "샐러드", "전복"] },
    Category { name: "health", share: 6.5, prices: (8_000, 110_000), nouns: ["비타민", "홍삼", "유산균", "오메가3"] },
    Category { name: "books", share: 6.0, prices: (7_000, 45_000), nouns: ["소설", "수험서", "그림책", "에세이"] },
    Category { name: "sports", share: 5.0, prices: (8_000, 130_000), nouns: ["운동화", "요가 매트", "덤벨", "등산 가방"] },
    Category { name: "kitchen", share: 5.0, prices: (5_000, 90_000), nouns: ["프라이팬", "텀블러", "도마", "그릇 세트"] },
    Category { name: "pets", share: 3.5, prices: (4_000, 70_000), nouns: ["사료", "간식", "모래", "방석"] },
    Category { name: "toys", share: 3.5, prices: (5_000, 90_000), nouns: ["블록", "인형", "보드게임", "퍼즐"] },
    Category { name: "stationery", share: 3.0, prices: (1_000, 20_000), nouns: ["노트", "펜 세트", "다이어리", "필통"] },
    Category { name: "electronics", share: 3.0, prices: (15_000, 300_000), nouns: ["이어폰", "충전기", "키보드", "스피커"] },
    Category { name: "appliances", share: 1.5, prices: (20_000, 400_000), nouns: ["청소기", "가습기", "선풍기", "밥솥"] },
    Category { name: "furniture", share: 1.0, prices: (20_000, 300_000), nouns: ["의자", "책상", "선반", "매트리스"] },
    Category { name: "travel", share: 1.0, prices: (15_000, 300_000), nouns: ["캐리어", "텐트", "튜브", "목베개"] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_stay_in_their_categorys_range() {
        for id in 1..2_000 {
            let (goods, ..) = goods(1, id);
            let (low, high) = CATEGORIES[usize::from(goods.category)].prices;
            let price = Krw::from(goods.price);
            assert!((low - 100..=high + 500).contains(&price), "{id}: {price}");
        }
    }
}
