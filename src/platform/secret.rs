//! What may hold a password, and how it is kept out of what is said.
//!
//! Where a password is written wrongly, any part of an address may be a part of it: so nothing of an
//! address is told that was not read as something else.

use std::fmt;

/// What the special characters of a password become in a URL.
pub const ENCODE: &str = "in a password @ : / ? # and % are written %40 %3A %2F %3F %23 and %25";

/// Marks of a word that may hold a password.
const MARKS: [&str; 5] = ["://", "@", "password", "database", "redis"];

/// Where a server is and how one logs in there, as it was given. It is never shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// For whoever makes the connection, and nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

/// Whether a host, a user or a database may be named to people: a part of a URL or of a list of words
/// with values, which was not read as such, may not.
pub fn is_name(word: &str) -> bool {
    !word.contains(['@', ';', '='])
}

/// Takes the values of the command line out of what is said of it, where one of them may be a secret: a
/// password with a blank is several words.
pub fn without_values(said: String, words: &[String]) -> String {
    let is_marked = |word: &str| MARKS.iter().any(|mark| word.contains(mark));
    if !words.iter().any(|word| is_marked(word)) {
        return said;
    }
    let values = words.iter().flat_map(|word| match word.strip_prefix('-') {
        None => [Some(word.as_str()), word.split_once('=').map(|(_, value)| value)],
        Some(flag) => [word.split_once('=').map(|(_, value)| value), flag.get(1..)],
    });
    let mut values: Vec<&str> = values.flatten().filter(|value| !value.is_empty()).collect();
    // A value that is a part of another is taken out behind it.
    values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
    values.into_iter().fold(said, |said, value| {
        if is_marked(value) && !value.starts_with('-') {
            said.replace(value, "...")
        } else {
            said.replace(&format!("'{value}'"), "'...'")
        }
    })
}
