//! The products that are offered, to draw from in proportion to what speaks for them.
//!
//! A product has a place of its own by a hash of its id, on the board of those for which about as much
//! speaks. A draw throws at a place of a board and comes to nothing where none lies there; so one
//! product more or less changes only the throws at its own place, not those at all others.

use std::cmp::Reverse;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::draw::{Purpose, draw};

/// Places of a bucket, before one is full.
const DEPTH: usize = 8;
/// Boards: one for each number of bits of a weight.
const BOARDS: usize = 28;
/// The greatest weight.
pub(super) const WEIGHT_MAX: u32 = (1 << (BOARDS - 1)) - 1;

/// How many buckets each board has. It belongs to the state, since it decides draws, and follows the
/// number of products slowly, so that one more or less does not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sizes([u16; BOARDS]);

impl Default for Sizes {
    fn default() -> Self {
        Sizes([1; BOARDS])
    }
}

impl Sizes {
    /// The same, where they still do for so many products by board.
    fn follow(self, products: [usize; BOARDS]) -> Self {
        let mut sizes = self;
        for (buckets, products) in sizes.0.iter_mut().zip(products) {
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
    /// What can be thrown at: how much of it each board is, the greatest first, and its number of bits.
    targets: Vec<(u64, usize)>,
    /// All of it.
    all: u64,
}

/// Products whose weights have the same number of bits.
#[derive(Clone)]
struct Board {
    products: usize,
    buckets: usize,
    depth: usize,
    /// Bucket by bucket, `depth` places each: a product and its weight, those of small id first; 0
    /// where there is none.
    places: Vec<(u32, u32)>,
}

impl Shelf {
    /// A shelf of these sizes with these products and weights.
    pub(super) fn new(sizes: Sizes, products: impl Iterator<Item = (u32, u32)>) -> Self {
        let board = |buckets: u16| Board::new(usize::from(buckets), DEPTH);
        let boards = sizes.0.into_iter().map(board).collect();
        let mut shelf = Shelf { sizes, boards, ..Shelf::default() };
        products.for_each(|(id, weight)| shelf.put(id, weight));
        shelf.share();
        shelf
    }

    /// The same products with these weights, on boards that have followed their number.
    pub(super) fn again(&self, weight: impl Fn(u32) -> u32) -> Shelf {
        let products: Vec<(u32, u32)> = self.iter().map(|(id, _)| (id, weight(id))).collect();
        let mut counts = [0; BOARDS];
        products.iter().for_each(|(_, weight)| counts[bits(*weight)] += 1);
        Shelf::new(self.sizes.follow(counts), products.into_iter())
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Works out what can be thrown at: a board without products is left out.
    fn share(&mut self) {
        let boards = self.boards.iter().enumerate().filter(|(_, board)| board.products > 0);
        self.targets =
            boards.map(|(bits, board)| ((board.places.len() as u64) << bits, bits)).collect();
        self.targets.sort_by_key(|(size, bits)| (Reverse(*size), *bits));
        self.all = self.targets.iter().map(|(size, _)| size).sum();
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts a product on the shelf.
    pub(super) fn add(&mut self, id: u32, weight: u32) {
        let (depth, products) =
            (self.boards[bits(weight)].depth, self.boards[bits(weight)].products);
        self.put(id, weight);
        if products == 0 || self.boards[bits(weight)].depth > depth {
            self.share();
        }
    }

    fn put(&mut self, id: u32, weight: u32) {
        self.len += 1;
        let board = &mut self.boards[bits(weight)];
        if !board.add(id, weight) {
            let mut deeper = Board::new(board.buckets, board.depth * 2);
            let products = board.places.iter().copied().filter(|(id, _)| *id > 0);
            for (id, weight) in products.chain([(id, weight)]) {
                deeper.add(id, weight);
            }
            *board = deeper;
        }
    }

    /// Takes a product off the shelf, if it is there.
    pub(super) fn remove(&mut self, id: u32, weight: u32) {
        let board = &mut self.boards[bits(weight)];
        if board.remove(id) {
            self.len -= 1;
            if self.boards[bits(weight)].products == 0 {
                self.share();
            }
        }
    }

    /// The products with their weights, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.boards.iter().flat_map(|board| &board.places).copied().filter(|(id, _)| *id > 0)
    }

    /// A throw: a product in proportion to its weight, or most of the time none.
    pub(super) fn throw(&self, random: &mut impl Rng) -> Option<u32> {
        // One draw for the board, the place and how high the throw is.
        let mut throw = ((u128::from(random.random::<u64>()) * u128::from(self.all)) >> 64) as u64;
        let hit = self.targets.iter().find(|(size, _)| {
            let hits = throw < *size;
            throw -= if hits { 0 } else { *size };
            hits
        });
        let (_, bits) = hit?;
        let (id, weight) = self.boards[*bits].places[(throw >> bits) as usize];
        (id > 0 && throw & ((1 << bits) - 1) < u64::from(weight)).then_some(id)
    }
}

fn bits(weight: u32) -> usize {
    (u32::BITS - weight.leading_zeros()) as usize
}

impl Board {
    fn new(buckets: usize, depth: usize) -> Self {
        Board { products: 0, buckets, depth, places: vec![(0, 0); buckets * depth] }
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
        self.products += 1;
        true
    }

    fn remove(&mut self, id: u32) -> bool {
        let bucket = self.bucket(id);
        let Some(at) = bucket.iter().position(|(other, _)| *other == id) else { return false };
        bucket.copy_within(at + 1.., at);
        *bucket.last_mut().expect("it has places") = (0, 0);
        self.products -= 1;
        true
    }
}
