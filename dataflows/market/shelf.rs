//! The products that are offered, to draw from in proportion to what speaks for them.
//!
//! A product has a place of its own by a hash of its id, on the board of those for which about as much
//! speaks. A draw throws at a place of a board and comes to nothing where none lies there; so one
//! product more or less changes only the throws at its own place, not those at all others.

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::draw::{Purpose, draw};

/// Places of a bucket, before one is full; with four products in each on average hardly one ever is.
const DEPTH: usize = 12;
/// Boards: one for each number of bits of a weight.
const BOARDS: usize = 28;
/// The greatest weight.
pub(super) const WEIGHT_MAX: u32 = (1 << (BOARDS - 1)) - 1;

/// How many buckets each board has, and how deep they are. It belongs to the state, since it decides
/// draws, and follows the number of products slowly, so that one more or less does not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sizes {
    boards: [(u16, u16); BOARDS],
    /// The bits of the greatest weight that there can be: the boards up to it are thrown at, whether
    /// a product lies there or not, so that the last one of a board changes nothing elsewhere.
    top: u8,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes { boards: [(1, DEPTH as u16); BOARDS], top: 0 }
    }
}

impl Sizes {
    /// The same, where they still do for so many products by board.
    fn follow(self, products: [usize; BOARDS]) -> Self {
        let mut sizes = self;
        for ((buckets, depth), products) in sizes.boards.iter_mut().zip(products) {
            *depth = DEPTH as u16;
            while products > usize::from(*buckets) * 4 {
                *buckets *= 2;
            }
            while products < usize::from(*buckets) / 2 {
                *buckets /= 2;
            }
        }
        sizes
    }
}

/// Products on boards by their weight.
#[derive(Clone, Default)]
pub(super) struct Shelf {
    sizes: Sizes,
    boards: Vec<Board>,
    len: usize,
    /// Share of the throws at each board and those before it, the greatest share first.
    shares: Vec<(f64, usize)>,
}

/// Products whose weights have the same number of bits.
#[derive(Clone)]
struct Board {
    buckets: usize,
    depth: usize,
    /// Bucket by bucket, `depth` places each: a product and its weight, those of small id first; 0
    /// where there is none.
    places: Vec<(u32, u32)>,
}

impl Shelf {
    /// A shelf of these sizes with these products and weights.
    pub(super) fn new(sizes: Sizes, products: impl Iterator<Item = (u32, u32)>) -> Self {
        let board = |(buckets, depth): (u16, u16)| Board::new(buckets.into(), depth.into());
        let boards = sizes.boards.into_iter().map(board).collect();
        let mut shelf = Shelf { sizes, boards, len: 0, shares: Vec::new() };
        products.for_each(|(id, weight)| shelf.put(id, weight));
        shelf.share();
        shelf
    }

    /// The same products with these weights, `most` at the most, on boards that have followed their
    /// number.
    pub(super) fn again(&self, most: u32, weight: impl Fn(u32) -> u32) -> Shelf {
        let products: Vec<(u32, u32)> = self.iter().map(|(id, _)| (id, weight(id))).collect();
        let mut counts = [0; BOARDS];
        for (_, weight) in &products {
            counts[bits(*weight)] += 1;
        }
        let sizes = Sizes { top: bits(most) as u8, ..self.sizes.follow(counts) };
        Shelf::new(sizes, products.into_iter())
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Works out how the throws are shared.
    fn share(&mut self) {
        let weight = |(bits, board): (usize, &Board)| {
            (board.places.len() as f64 * (1_u64 << bits) as f64, bits)
        };
        let boards = self.boards.iter().enumerate().take(usize::from(self.sizes.top) + 1).skip(1);
        let mut shares: Vec<(f64, usize)> = boards.map(weight).collect();
        shares.sort_by(|a, b| b.0.total_cmp(&a.0));
        let all: f64 = shares.iter().map(|(weight, _)| weight).sum();
        let mut sum = 0.0;
        for (share, _) in &mut shares {
            sum += *share / all;
            *share = sum;
        }
        self.shares = shares;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts a product on the shelf.
    pub(super) fn add(&mut self, id: u32, weight: u32) {
        let sizes = self.sizes;
        self.put(id, weight);
        if self.sizes != sizes {
            self.share();
        }
    }

    fn put(&mut self, id: u32, weight: u32) {
        self.len += 1;
        self.sizes.top = self.sizes.top.max(bits(weight) as u8);
        let board = &mut self.boards[bits(weight)];
        if !board.add(id, weight) {
            let mut deeper = Board::new(board.buckets, board.depth * 2);
            let products = board.places.iter().copied().filter(|(id, _)| *id > 0);
            for (id, weight) in products.chain([(id, weight)]) {
                deeper.add(id, weight);
            }
            *board = deeper;
            self.sizes.boards[bits(weight)].1 = board.depth as u16;
        }
    }

    /// Takes a product off the shelf, if it is there.
    pub(super) fn remove(&mut self, id: u32, weight: u32) {
        let board = &mut self.boards[bits(weight)];
        if board.remove(id) {
            self.len -= 1;
        }
    }

    /// The products with their weights, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.boards.iter().flat_map(|board| &board.places).copied().filter(|(id, _)| *id > 0)
    }

    /// A throw: a product in proportion to its weight, or most of the time none.
    pub(super) fn throw(&self, random: &mut impl Rng) -> Option<u32> {
        let share = random.random::<f64>();
        let (_, bits) = self.shares.iter().find(|(upto, _)| share < *upto)?;
        let places = &self.boards[*bits].places;
        // One draw for the place and for how high the throw is: its whole part, and what is behind.
        let throw = u128::from(random.random::<u64>()) * places.len() as u128;
        let (id, weight) = places[(throw >> 64) as usize];
        let high = (throw as u64) >> (64 - bits);
        (id > 0 && high < u64::from(weight)).then_some(id)
    }
}

fn bits(weight: u32) -> usize {
    (u32::BITS - weight.leading_zeros()) as usize
}

impl Board {
    fn new(buckets: usize, depth: usize) -> Self {
        Board { buckets, depth, places: vec![(0, 0); buckets * depth] }
    }

    fn bucket(&mut self, id: u32) -> &mut [(u32, u32)] {
        let place: u64 = draw(0, Purpose::Place, u64::from(id), 0).random();
        let from = (place as usize & (self.buckets - 1)) * self.depth;
        &mut self.places[from..from + self.depth]
    }

    /// False where its bucket is full.
    fn add(&mut self, id: u32, weight: u32) -> bool {
        let bucket = self.bucket(id);
        let len = bucket.iter().position(|(id, _)| *id == 0);
        let Some(len) = len else { return false };
        let at = bucket[..len].partition_point(|(other, _)| *other < id);
        bucket.copy_within(at..len, at + 1);
        bucket[at] = (id, weight);
        true
    }

    fn remove(&mut self, id: u32) -> bool {
        let bucket = self.bucket(id);
        let Some(at) = bucket.iter().position(|(other, _)| *other == id) else { return false };
        bucket.copy_within(at + 1.., at);
        *bucket.last_mut().expect("it has places") = (0, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Products of many weights, as their appeal has it.
    fn products(count: u32) -> Vec<(u32, u32)> {
        let weight = |id: u32| 1_000_000 / (1 + (id * 7_919) % 500);
        (1..=count).map(|id| (id, weight(id))).collect()
    }

    /// A shelf whose boards fit its products.
    fn shelf(products: &[(u32, u32)]) -> Shelf {
        let weights: HashMap<u32, u32> = products.iter().copied().collect();
        Shelf::new(Sizes::default(), products.iter().copied()).again(1_000_000, |id| weights[&id])
    }

    /// What a throw hits, by its number.
    fn throw(shelf: &Shelf, count: u64) -> Option<u32> {
        shelf.throw(&mut draw(9, Purpose::Choice, 1, count))
    }

    #[test]
    fn a_throw_is_in_proportion_to_weight() {
        const THROWS: u64 = 1_000_000;
        let products = products(300);
        let shelf = shelf(&products);
        let mut hits: HashMap<u32, f64> = HashMap::new();
        for id in (0..THROWS).filter_map(|count| throw(&shelf, count)) {
            *hits.entry(id).or_default() += 1.0;
        }
        let all: f64 = hits.values().sum();
        assert!(all > 0.05 * THROWS as f64, "{all} of {THROWS} throws hit");
        let weights: f64 = products.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let chi_square: f64 = products
            .iter()
            .map(|(id, weight)| {
                let expected = all * f64::from(*weight) / weights;
                assert!(expected > 5.0);
                (hits.get(id).unwrap_or(&0.0) - expected).powi(2) / expected
            })
            .sum();
        // Mean 299, standard deviation 24.5.
        assert!((177.0..422.0).contains(&chi_square), "chi-square {chi_square} of 300 products");
    }

    /// One product more or less changes only the throws at its own bucket: a few in a hundred.
    #[test]
    fn a_product_changes_only_throws_at_its_own_place() {
        const THROWS: u64 = 20_000;
        let mut products = products(300);
        // The last one of its board, too.
        products[9].1 = 40;
        let whole = shelf(&products);
        let bucket = |shelf: &Shelf, (id, weight): (u32, u32)| {
            let place: u64 = draw(0, Purpose::Place, u64::from(id), 0).random();
            (bits(weight), place as usize & (shelf.boards[bits(weight)].buckets - 1))
        };
        for gone in [1, 9, 77, 150, 299] {
            let gone = products[gone];
            let mut less = whole.clone();
            less.remove(gone.0, gone.1);
            assert_eq!(less.len(), 299);
            assert_eq!(less.sizes(), whole.sizes());
            let mut changed = 0;
            for count in 0..THROWS {
                let (before, after) = (throw(&whole, count), throw(&less, count));
                if before != after {
                    changed += 1;
                    for id in [before, after].into_iter().flatten() {
                        let one = products[id as usize - 1];
                        assert_eq!(bucket(&whole, one), bucket(&whole, gone), "{id}, not {gone:?}");
                    }
                }
            }
            assert!(changed < THROWS / 25, "{changed} throws for {gone:?}");
            less.add(gone.0, gone.1);
            assert!((0..THROWS).all(|count| throw(&less, count) == throw(&whole, count)));
        }
    }

    /// The boards follow the number of products slowly: twice as many, or half.
    #[test]
    fn sizes_follow_slowly() {
        let same = |count: u32| (1..=count).map(|id| (id, 1_000));
        let sizes_of = |sizes: Sizes, count: u32| {
            Shelf::new(sizes, same(count)).again(1_000_000, |_| 1_000).sizes()
        };
        let buckets = |sizes: Sizes| sizes.boards[bits(1_000)].0;
        let full = sizes_of(Sizes::default(), 256);
        assert_eq!(buckets(full), 64);
        for count in [32, 33, 100, 255, 256] {
            assert_eq!(buckets(sizes_of(full, count)), 64, "{count} products");
        }
        assert_eq!(buckets(sizes_of(full, 257)), 128);
        assert_eq!(buckets(sizes_of(full, 31)), 32);
        assert_eq!(buckets(sizes_of(full, 0)), 1);
    }

    /// Whatever came and went: its sizes and its products are all that a shelf's throws depend on, as
    /// a market that was cut, or reads its products from a cache, needs it.
    #[test]
    fn a_shelf_is_its_sizes_and_its_products() {
        let products = products(1_000);
        let random = &mut draw(5, Purpose::Demand, 0, 0);
        let mut shelf = shelf(&products[..300]);
        let mut there = vec![true; 300];
        there.resize(1_000, false);
        let mut deep = 0;
        for round in 0..400 {
            for _ in 0..20 {
                let (place, much) = (random.random_range(0..1_000), round % 40 < 20);
                let (id, weight) = products[place];
                match (there[place], much) {
                    (true, false) => shelf.remove(id, weight),
                    (false, true) => shelf.add(id, weight),
                    _ => continue,
                }
                there[place] ^= true;
            }
            if round % 100 == 99 {
                shelf = shelf.again(1_000_000, |id| products[id as usize - 1].1);
            }
            let mut listed: Vec<(u32, u32)> = shelf.iter().collect();
            listed.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
            assert_eq!(listed.len(), shelf.len());
            assert_eq!(listed.len(), there.iter().filter(|there| **there).count());
            let again = Shelf::new(shelf.sizes(), listed.into_iter());
            deep += usize::from(shelf.boards.iter().any(|board| board.depth > DEPTH));
            for count in 0..200 {
                assert_eq!(throw(&again, count), throw(&shelf, count), "round {round}");
            }
        }
        assert!(deep > 0, "no bucket was ever full");
    }
}
