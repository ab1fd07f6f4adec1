//! The categories of lines: words of which a shop has few, so that each is kept once, for ever.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

/// A category's word: as cheap to copy and to compare as a number.
///
/// Equal words of a process share their memory, which is never given back: the tables that have a row
/// a category keep it as long. So a record's words are learnt when it is known to be an event.
#[derive(Clone, Copy)]
pub struct Category(&'static Interned);

/// A word.
struct Interned {
    word: Box<str>,
    hash: u64,
}

/// The words of the process.
static ALL: Mutex<Option<HashMap<&'static str, Category>>> = Mutex::new(None);

thread_local! {
    /// Those that this thread has asked for, so that it waits for no other.
    static SEEN: RefCell<HashMap<&'static str, Category, foldhash::fast::RandomState>> = RefCell::default();
    /// While a record is judged: the hashes of its words that nobody knows, and stand-ins for them.
    static STRANGERS: RefCell<(Option<Vec<u64>>, Vec<Category>)> = RefCell::default();
}

/// Reads what may turn out to be no event, and learns no word from it: one that is not known has a
/// stand-in, each another. Says whether there are any; then what was read is to be read again.
///
/// A thread keeps as many stand-ins as the longest record had strangers.
pub(crate) fn unlearned<T>(read: impl FnOnce() -> T) -> (T, bool) {
    STRANGERS.with_borrow_mut(|(judged, _)| *judged = Some(Vec::new()));
    let read = read();
    let judged = STRANGERS.with_borrow_mut(|(judged, _)| judged.take());
    (read, judged.is_some_and(|strangers| !strangers.is_empty()))
}

impl Category {
    fn intern(word: &str) -> Category {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.get_or_insert_default();
        if let Some(category) = all.get(word) {
            return *category;
        }
        let category = Category::kept(word);
        all.insert(&category.0.word, category);
        category
    }

    fn kept(word: &str) -> Category {
        let hash = xxh3_64(word.as_bytes());
        Category(Box::leak(Box::new(Interned { word: word.into(), hash })))
    }

    /// The stand-in of a word that nobody knows, while a record is judged.
    fn stranger(word: &str) -> Option<Category> {
        STRANGERS.with_borrow_mut(|(judged, stand_ins)| {
            let judged = judged.as_mut()?;
            let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
            if all.as_ref().is_some_and(|all| all.contains_key(word)) {
                return None;
            }
            let hash = xxh3_64(word.as_bytes());
            let place = judged.iter().position(|it| *it == hash).unwrap_or_else(|| {
                judged.push(hash);
                judged.len() - 1
            });
            if place == stand_ins.len() {
                stand_ins.push(Category::kept(""));
            }
            Some(stand_ins[place])
        })
    }
}

impl From<&str> for Category {
    fn from(word: &str) -> Category {
        SEEN.with_borrow_mut(|seen| {
            if let Some(category) = seen.get(word) {
                return *category;
            }
            if let Some(stranger) = Category::stranger(word) {
                return stranger;
            }
            let category = Category::intern(word);
            seen.insert(&category.0.word, category);
            category
        })
    }
}

impl Deref for Category {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.word
    }
}

impl PartialEq for Category {
    fn eq(&self, other: &Category) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Category {}

/// By the word, as PostgreSQL orders it in the collation "C".
impl Ord for Category {
    fn cmp(&self, other: &Category) -> std::cmp::Ordering {
        if self == other { std::cmp::Ordering::Equal } else { self.0.word.cmp(&other.0.word) }
    }
}

impl PartialOrd for Category {
    fn partial_cmp(&self, other: &Category) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// By the word: numbers differ from process to process.
impl Hash for Category {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Debug for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.word.fmt(f)
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Serialize for Category {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Category {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Category, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(from).map(|word| Category::from(&*word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_in_all_threads_and_orders_as_its_text() {
        let words = ["식품", "books", "Books", "beauty"];
        let here = words.map(Category::from);
        let there = std::thread::scope(|it| it.spawn(|| words.map(Category::from)).join()).unwrap();
        assert_eq!(here, there);
        let mut sorted = here;
        sorted.sort_unstable();
        assert_eq!(sorted.map(|it| it.to_string()), ["Books", "beauty", "books", "식품"]);
        let (strangers, are_there) =
            unlearned(|| ["books", "new", "newer", "new"].map(Category::from));
        assert!(are_there && strangers[0] == here[1]);
        assert!(strangers[1] == strangers[3] && strangers[1] != strangers[2]);
        assert!(!ALL.lock().unwrap().as_ref().unwrap().contains_key("newer"));
        assert!(!unlearned(|| Category::from("books")).1);
        let bytes = bincode::serialize(&here[0]).unwrap();
        assert_eq!(bincode::deserialize::<Category>(&bytes).unwrap(), here[0]);
    }
}
