//! The first places of an ordered set, with what entered and left them.

use std::collections::BTreeSet;

/// An ordered set that knows its first `places` keys and the changes among them.
#[derive(Clone, Debug)]
pub(super) struct Leading<K> {
    places: usize,
    /// The first keys; full whenever `outside` holds any, and all of them before those.
    inside: BTreeSet<K>,
    outside: BTreeSet<K>,
    /// True for a key that entered.
    changes: Vec<(K, bool)>,
}

impl<K: Ord + Copy> Leading<K> {
    pub(super) fn new(places: usize) -> Self {
        Leading { places, inside: BTreeSet::new(), outside: BTreeSet::new(), changes: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.inside.len() + self.outside.len()
    }

    pub(super) fn leaders(&self) -> impl Iterator<Item = K> {
        self.inside.iter().copied()
    }

    /// Adds a key; one that is there already stays as it is.
    pub(super) fn insert(&mut self, key: K) {
        let leads = self.inside.last().is_some_and(|last| key <= *last);
        if !leads && (self.inside.len() >= self.places || !self.outside.is_empty()) {
            self.outside.insert(key);
        } else if self.inside.insert(key) {
            self.changes.push((key, true));
            self.resize(self.places);
        }
    }

    pub(super) fn remove(&mut self, key: K) {
        if self.inside.remove(&key) {
            self.changes.push((key, false));
            self.resize(self.places);
        } else {
            self.outside.remove(&key);
        }
    }

    /// Changes the number of places.
    pub(super) fn resize(&mut self, places: usize) {
        self.places = places;
        while self.inside.len() > places
            && let Some(key) = self.inside.pop_last()
        {
            self.changes.push((key, false));
            self.outside.insert(key);
        }
        while self.inside.len() < places
            && let Some(key) = self.outside.pop_first()
        {
            self.changes.push((key, true));
            self.inside.insert(key);
        }
    }

    /// The net changes since the last call: the keys that left, then those that entered, sorted.
    pub(super) fn take_changes(&mut self) -> (Vec<K>, Vec<K>) {
        if self.changes.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let mut changes = std::mem::take(&mut self.changes);
        changes.sort_by_key(|(key, _)| *key);
        let (mut left, mut entered) = (Vec::new(), Vec::new());
        // A key enters and leaves by turns, so an odd number of changes nets to the last one.
        for turns in changes.chunk_by(|a, b| a.0 == b.0).filter(|turns| turns.len() % 2 == 1) {
            let (key, enters) = turns[0];
            if enters { &mut entered } else { &mut left }.push(key);
        }
        (left, entered)
    }
}
