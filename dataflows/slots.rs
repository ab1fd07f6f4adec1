//! Which worker has a key: keys fall into 256 slots, and each worker has a run of slots.
//!
//! So what a worker keeps can be taken up by another number of workers: each takes its slots. The hash is our
//! own, since that of a library may change from release to release.

use std::hash::{Hash, Hasher};
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

/// How many slots there are, and so how many workers can have work at most.
pub const SLOTS: usize = 256;

/// The slot of a key.
pub(crate) fn slot(key: &impl Hash) -> u8 {
    let mut hasher = Mixed(0);
    key.hash(&mut hasher);
    (hasher.finish() >> 56) as u8
}

/// The worker of a key, among so many.
pub(crate) fn worker_of(key: &impl Hash, workers: usize) -> u64 {
    worker_of_slot(slot(key), workers) as u64
}

/// The worker of a slot, among so many.
pub fn worker_of_slot(slot: u8, workers: usize) -> usize {
    usize::from(slot) * workers / SLOTS
}

/// The slots of a worker, among so many.
pub fn slots_of(worker: usize, workers: usize) -> Range<usize> {
    let first = |worker: usize| (worker * SLOTS).div_ceil(workers);
    first(worker)..first(worker + 1)
}

/// Numbers, mixed by multiplying.
struct Mixed(u64);

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        self.write_u64(xxh3_64(bytes));
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(ODD);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        (self.0 ^ self.0 >> 32).wrapping_mul(ODD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_one_workers() {
        for workers in 1..=SLOTS {
            let slots: Vec<usize> = (0..workers).flat_map(|it| slots_of(it, workers)).collect();
            assert_eq!(slots, (0..SLOTS).collect::<Vec<_>>());
            for worker in 0..workers {
                assert!(
                    slots_of(worker, workers).all(|it| worker_of_slot(it as u8, workers) == worker)
                );
            }
        }
    }

    /// Of numbers that follow each other, of multiples and of instants.
    #[test]
    fn slots_are_about_equally_full() {
        for step in [1, 2, 256, 1_000, 60_000, 3_600_000, 1 << 22] {
            let mut full = [0; SLOTS];
            for n in 0..100_000_i64 {
                full[usize::from(slot(&(1_700_000_000_000 + n * step)))] += 1;
            }
            let (least, most) = (full.iter().min().unwrap(), full.iter().max().unwrap());
            assert!(*least > 200 && *most < 600, "{step}: {least} to {most}");
        }
    }
}
