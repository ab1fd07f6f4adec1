//! Who is in the working set, with weights to draw from.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Slots of a roster: a power of two above the working set's 1,000.
const SLOTS: usize = 1024;

/// Members with integer weights in bands; a draw costs the logarithm of its size.
///
/// Weights are whole numbers, so that the sums are exact whatever was added and removed before.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Roster {
    bands: Vec<Band>,
    ids: Vec<u32>,
    /// Free slots; which one is taken next belongs to the state, since it decides the draws.
    free: Vec<u16>,
    places: HashMap<u32, Place>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Place {
    slot: u16,
    band: u8,
    weight: u64,
}

/// A Fenwick tree over the slots.
#[derive(Clone, Serialize, Deserialize)]
struct Band {
    total: u64,
    sums: Vec<u64>,
}

impl Roster {
    pub(super) fn new(bands: usize) -> Self {
        Roster {
            bands: vec![Band { total: 0, sums: vec![0; SLOTS + 1] }; bands],
            ids: vec![0; SLOTS],
            free: (0..SLOTS as u16).rev().collect(),
            places: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.places.contains_key(&id)
    }

    /// The members, in no particular order.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.places.keys().copied()
    }

    /// The members with band and weight, in no particular order.
    pub(super) fn members(&self) -> impl Iterator<Item = (u32, u8, u64)> {
        self.places.iter().map(|(id, place)| (*id, place.band, place.weight))
    }

    /// The members as (slot, id, band, weight), by slot.
    pub(super) fn by_slot(&self) -> impl Iterator<Item = (u16, u32, u8, u64)> {
        self.ids.iter().zip(0..).filter_map(|(id, slot)| {
            let place = self.places.get(id).filter(|place| place.slot == slot)?;
            Some((slot, *id, place.band, place.weight))
        })
    }

    /// Adds a member, or gives it another band and weight.
    pub(super) fn set(&mut self, id: u32, band: u8, weight: u64) {
        let slot = match self.places.get(&id).copied() {
            Some(place) => {
                self.bands[place.band as usize].add(place.slot, place.weight.wrapping_neg());
                place.slot
            }
            None => self.free.pop().expect("a working set of at most 1,000"),
        };
        self.seat(slot, id, band, weight);
    }

    /// Adds a member in a slot that nobody has. What is filled in this way takes no others.
    pub(super) fn seat(&mut self, slot: u16, id: u32, band: u8, weight: u64) {
        self.ids[slot as usize] = id;
        self.bands[band as usize].add(slot, weight);
        self.places.insert(id, Place { slot, band, weight });
    }

    /// Takes a member out, if it is one.
    pub(super) fn remove(&mut self, id: u32) {
        if let Some(place) = self.places.remove(&id) {
            self.bands[place.band as usize].add(place.slot, place.weight.wrapping_neg());
            self.free.push(place.slot);
        }
    }

    /// Sum of the weights in a band.
    pub(super) fn total(&self, band: usize) -> u64 {
        self.bands[band].total
    }

    /// The member whose share of the band's total holds `point`.
    pub(super) fn at(&self, band: usize, point: u64) -> u32 {
        self.ids[self.bands[band].find(point)]
    }
}

impl Band {
    /// Adds to a slot's weight, modulo 2^64: a negated weight takes away.
    fn add(&mut self, slot: u16, weight: u64) {
        self.total = self.total.wrapping_add(weight);
        let mut node = slot as usize + 1;
        while node <= SLOTS {
            self.sums[node] = self.sums[node].wrapping_add(weight);
            node += node & node.wrapping_neg();
        }
    }

    fn find(&self, mut point: u64) -> usize {
        let (mut slot, mut step) = (0, SLOTS);
        while step > 0 {
            if slot + step <= SLOTS && self.sums[slot + step] <= point {
                slot += step;
                point -= self.sums[slot];
            }
            step /= 2;
        }
        slot
    }
}
