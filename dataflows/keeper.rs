//! What the operators keep, and what of it lasts from one start to the next.
//!
//! An operator keeps its state by key in the maps of here, [`Hashed`] or [`Sorted`], or is a [`Section`]
//! itself. When an epoch that ends with a cut has closed, and nothing later has been taken in, whoever runs
//! the graph can take what has changed since it was taken last ([`Keeper::changes`]). All that was ever taken,
//! the newest of each key, is the [`Base`] of a later start: the graph then stands where it stood, and goes
//! on behind that epoch.
//!
//! Of a base nothing is read before it is asked for, but what is looked through in its order.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::ops::{Deref, Range};
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::operators::HashMap;
use crate::slots::{SLOTS, slot, slots_of};

/// What a worker's graph kept at an earlier epoch.
pub trait Base {
    /// The value of a key, if there was one.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;

    /// Gives all keys from one on, up to before another, with their values.
    fn each(&self, keys: Range<Vec<u8>>, give: &mut dyn FnMut(&[u8], &[u8]));
}

/// Keys whose values have changed, with their values; without one where the key is gone.
#[derive(Default)]
pub struct Changes {
    bytes: Vec<u8>,
    /// Where in the bytes a key begins, its length, and that of its value, which comes behind it.
    entries: Vec<(usize, u32, Option<u32>)>,
}

impl Changes {
    /// Adds a key, and the bytes of its value unless it is gone.
    pub fn push_bytes(&mut self, key: &[u8], value: Option<&[u8]>) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.entries.push((begin, key.len() as u32, value.map(|value| value.len() as u32)));
    }

    fn push(&mut self, key: &[u8], value: Option<&impl Serialize>) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let key = self.bytes.len() - begin;
        let value = value.map(|value| {
            let bytes = std::mem::take(&mut self.bytes);
            self.bytes = postcard::to_extend(value, bytes).expect("what is kept has a form");
            (self.bytes.len() - begin - key) as u32
        });
        self.entries.push((begin, key as u32, value));
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What they take.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Puts them in the order of their keys.
    pub fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |(begin, key, _): &(usize, u32, _)| &bytes[*begin..begin + *key as usize];
        self.entries.sort_unstable_by(|a, b| key(a).cmp(key(b)));
    }

    /// Each key, and its value unless it is gone.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.entries.iter().map(|(begin, key, value)| {
            let rest = &self.bytes[*begin..];
            let (key, rest) = rest.split_at(*key as usize);
            (key, value.map(|value| &rest[..value as usize]))
        })
    }
}

/// Where a key's own bytes begin: behind the number of the section, and the slot.
const KEY: usize = 3;

/// A key of a section: in bytes that are ordered as section, slot and key are.
fn key_of(section: u16, slot: u8, key: &impl Serialize) -> Vec<u8> {
    let mut bytes = section.to_be_bytes().to_vec();
    bytes.push(slot);
    bytes.extend(memcomparable::to_vec(key).expect("a key has a form"));
    bytes
}

/// The slot of a key of [`Changes`].
pub fn slot_of(key: &[u8]) -> u8 {
    key[KEY - 1]
}

fn value_of<V: DeserializeOwned>(bytes: &[u8]) -> V {
    postcard::from_bytes(bytes).expect("it was written by this program, and its hash is right")
}

/// Something that is kept.
pub(crate) trait Section {
    /// Gives what has changed since it was asked last.
    fn changes(&self, to: &mut Changes);
}

/// All that a worker's graph keeps. One that is made by default keeps nothing beyond the end.
#[derive(Clone, Default)]
pub struct Keeper {
    kept: Option<Rc<Kept>>,
    base: Option<Rc<dyn Base>>,
    /// The slots of this worker.
    slots: Range<usize>,
    told: bool,
}

#[derive(Default)]
struct Kept {
    sections: RefCell<Vec<Rc<dyn Section>>>,
    numbers: RefCell<u16>,
}

/// Where a kept thing's keys and values are.
#[derive(Clone, Default)]
pub(crate) struct Place {
    number: u16,
    /// Whether anybody takes what has changed.
    pub(crate) lasts: bool,
    base: Option<Rc<dyn Base>>,
    slots: Range<usize>,
}

impl Place {
    /// The value of a key at the start.
    pub(crate) fn get<V: DeserializeOwned>(&self, key: &(impl Serialize + Hash)) -> Option<V> {
        let base = self.base.as_ref()?;
        base.get(&key_of(self.number, slot(key), key)).map(|value| value_of(&value))
    }

    /// All keys and values at the start.
    pub(crate) fn each<K: DeserializeOwned, V: DeserializeOwned>(
        &self,
        mut give: impl FnMut(K, V),
    ) {
        let Some(base) = &self.base else { return };
        let from = |slot: usize| {
            let place = usize::from(self.number) * SLOTS + slot;
            (place as u32).to_be_bytes()[4 - KEY..].to_vec()
        };
        base.each(from(self.slots.start)..from(self.slots.end), &mut |key, value| {
            let key = memcomparable::from_slice(&key[KEY..]);
            give(key.expect("it was written by this program"), value_of(value));
        });
    }

    /// Tells what has become of a key.
    pub(crate) fn tell(
        &self,
        key: &(impl Serialize + Hash),
        value: Option<&impl Serialize>,
        to: &mut Changes,
    ) {
        to.push(&key_of(self.number, slot(key), key), value);
    }
}

impl Keeper {
    /// What begins with nothing, and can be taken; of a worker among so many.
    pub fn new((index, workers): (usize, usize)) -> Keeper {
        let slots = slots_of(index, workers);
        Keeper { kept: Some(Rc::default()), slots, ..Keeper::default() }
    }

    /// What goes on from a base.
    pub fn over(base: Rc<dyn Base>, worker: (usize, usize)) -> Keeper {
        Keeper { base: Some(base), ..Keeper::new(worker) }
    }

    /// Whether the graph goes on from a base.
    pub fn is_restored(&self) -> bool {
        self.base.is_some()
    }

    /// For what is told once more at the start, since those behind it keep nothing.
    #[must_use]
    pub(crate) fn told(&self) -> Keeper {
        Keeper { told: true, ..self.clone() }
    }

    /// A place for something to be kept.
    pub(crate) fn place(&self) -> Place {
        let Some(kept) = &self.kept else { return Place::default() };
        let mut next = kept.numbers.borrow_mut();
        *next += 1;
        Place { number: *next - 1, lasts: true, base: self.base.clone(), slots: self.slots.clone() }
    }

    /// From now on what changes of it can be taken.
    pub(crate) fn keep(&self, section: Rc<dyn Section>) {
        if let Some(kept) = &self.kept {
            kept.sections.borrow_mut().push(section);
        }
    }

    /// A map whose keys are looked up.
    pub(crate) fn hashed<K: KeptKey + Hash + Eq, V: KeptValue>(&self) -> Rc<RefCell<Hashed<K, V>>> {
        let hashed = Rc::new(RefCell::new(Hashed { place: self.place(), ..Hashed::default() }));
        self.keep(hashed.clone());
        hashed
    }

    /// A map that is looked through, by the worker that has the slot of what a key is about.
    pub(crate) fn sorted<K: KeptKey + Ord, V: KeptValue>(
        &self,
        slot: fn(&K) -> u8,
    ) -> Rc<RefCell<Sorted<K, V>>> {
        let (place, mut held) = (self.place(), BTreeMap::new());
        place.each(|key, value| _ = held.insert(key, value));
        let sorted = Rc::new(RefCell::new(Sorted { place, slot, held, changed: BTreeSet::new() }));
        self.keep(sorted.clone());
        sorted
    }

    /// All of a map that there was at the start, if it is to be told once more.
    pub(crate) fn told_once_more<K: KeptKey + Hash + Eq, V: KeptValue>(
        &self,
        hashed: &RefCell<Hashed<K, V>>,
    ) -> Vec<(K, V)> {
        let mut all = Vec::new();
        if self.told {
            hashed.borrow().place.each(|key, value| all.push((key, value)));
        }
        all
    }

    /// Takes what has changed since it was taken last; the first time, all of it that the base has not.
    pub fn changes(&self) -> Changes {
        let mut changes = Changes::default();
        if let Some(kept) = &self.kept {
            kept.sections.borrow().iter().for_each(|section| section.changes(&mut changes));
        }
        changes
    }
}

/// What a thing can be kept by.
pub(crate) trait KeptKey: Serialize + DeserializeOwned + Clone + 'static {}
impl<K: Serialize + DeserializeOwned + Clone + 'static> KeptKey for K {}

/// What can be kept.
pub(crate) trait KeptValue: Serialize + DeserializeOwned + 'static {}
impl<V: Serialize + DeserializeOwned + 'static> KeptValue for V {}

/// A map whose keys are looked up, and read from the base when they are looked up first.
///
/// Memory: a byte a key beside key and value, and while it lasts a key that has gone.
pub(crate) struct Hashed<K, V> {
    place: Place,
    held: HashMap<K, Held<V>>,
    /// Those that are marked as changed.
    changed: Vec<K>,
    len: usize,
}

#[derive(Default)]
struct Held<V> {
    value: Option<V>,
    changed: bool,
}

impl<K, V> Default for Hashed<K, V> {
    fn default() -> Self {
        let (held, changed) = (HashMap::default(), Vec::new());
        Hashed { place: Place::default(), held, changed, len: 0 }
    }
}

impl<K: KeptKey + Hash + Eq, V: KeptValue> Hashed<K, V> {
    /// Changes what a key has: a value, or none.
    pub(crate) fn update<R>(&mut self, key: K, change: impl FnOnce(&mut Option<V>) -> R) -> R {
        let Place { lasts, ref base, .. } = self.place;
        let mut entry = match self.held.entry(key) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => {
                let value = base.as_ref().and_then(|_| self.place.get(entry.key()));
                self.len += usize::from(value.is_some());
                entry.insert_entry(Held { value, changed: false })
            }
        };
        let held = entry.get_mut();
        let before = held.value.is_some();
        let result = change(&mut held.value);
        let after = held.value.is_some();
        self.len = self.len + usize::from(after) - usize::from(before);
        if !lasts && !after {
            entry.remove();
        } else if lasts && !std::mem::replace(&mut entry.get_mut().changed, true) {
            self.changed.push(entry.key().clone());
        }
        result
    }

    /// How many keys have values, of those that were looked up.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl<K: KeptKey + Hash + Eq, V: KeptValue> Section for RefCell<Hashed<K, V>> {
    fn changes(&self, to: &mut Changes) {
        let Hashed { place, held, changed, .. } = &mut *self.borrow_mut();
        for key in std::mem::take(changed) {
            let Some(of_key) = held.get_mut(&key) else { continue };
            of_key.changed = false;
            place.tell(&key, of_key.value.as_ref(), to);
            // What the base has is to stay gone.
            if of_key.value.is_none() && place.base.is_none() {
                held.remove(&key);
            }
        }
    }
}

/// A map that is looked through in the order of its keys, and read from the base as a whole.
pub(crate) struct Sorted<K, V> {
    place: Place,
    slot: fn(&K) -> u8,
    held: BTreeMap<K, V>,
    changed: BTreeSet<K>,
}

impl<K: KeptKey + Ord, V: KeptValue> Sorted<K, V> {
    /// The value of a key, to be changed; an empty one if there is none.
    pub(crate) fn at(&mut self, key: K, empty: impl FnOnce() -> V) -> &mut V {
        self.mark(&key);
        self.held.entry(key).or_insert_with(empty)
    }

    /// Takes a key out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.held.remove(key)?;
        self.mark(key);
        Some(value)
    }

    fn mark(&mut self, key: &K) {
        if self.place.lasts && self.changed.last() != Some(key) {
            self.changed.insert(key.clone());
        }
    }
}

impl<K, V> Deref for Sorted<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &BTreeMap<K, V> {
        &self.held
    }
}

impl<K: KeptKey + Ord, V: KeptValue> Section for RefCell<Sorted<K, V>> {
    fn changes(&self, to: &mut Changes) {
        let Sorted { place, slot, held, changed } = &mut *self.borrow_mut();
        for key in std::mem::take(changed) {
            to.push(&key_of(place.number, slot(&key), &key), held.get(&key));
        }
    }
}
