//! The form of an import: a JSON object a line, and what other forms are called.

use std::borrow::Cow;

use dataflows::model::Topic;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a line says.
pub(super) struct Line<'a> {
    pub(super) topic: Topic,
    pub(super) key: Option<Cow<'a, str>>,
    pub(super) value: &'a RawValue,
}

impl<'a> Line<'a> {
    /// Reads it, or says what is wrong with its form.
    pub(super) fn parse(line: &'a [u8]) -> Result<Line<'a>, String> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            topic: Cow<'a, str>,
            #[serde(borrow)]
            key: Option<Cow<'a, str>>,
            #[serde(borrow)]
            value: &'a RawValue,
        }
        // serde would also make the fields of a list.
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Err("not a JSON object".into());
        }
        let Fields { topic, key, value } =
            serde_json::from_slice(line).map_err(|e| another_form(line, &e))?;
        let topic =
            Topic::from_name(&topic).ok_or_else(|| format!("there is no topic {topic:?}"))?;
        match value.get().as_bytes().first() {
            Some(b'{') => Ok(Line { topic, key, value }),
            Some(b'"') => Err("`value` is a text: it is the event itself, a JSON object, not one \
                               in quotation marks"
                .into()),
            _ => Err("`value` is not a JSON object".into()),
        }
    }
}

/// What is wrong with a line, in words of the form where it is another one that is known.
fn another_form(line: &[u8], error: &serde_json::Error) -> String {
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow)]
        topic: Option<&'a RawValue>,
        #[serde(borrow)]
        key: Option<&'a RawValue>,
        #[serde(borrow)]
        value: Option<&'a RawValue>,
    }
    let number = |text: &RawValue| text.get().starts_with(|c: char| c == '-' || c.is_ascii_digit());
    match serde_json::from_slice(line) {
        Ok(Fields { topic: None, key: None, value: None }) => {
            "there is no `topic` and no `value`: an event stands in \
             {\"topic\":...,\"key\":...,\"value\":{...}}"
                .into()
        }
        Ok(Fields { key: Some(key), .. }) if number(key) => {
            format!("`key` is a number: it is a text, \"{}\"", key.get())
        }
        _ => error.to_string(),
    }
}

/// The mark that some programs put before UTF-8.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// What a file is, by its first line, that is not one event a line.
pub(super) fn other_form(first: &[u8]) -> Option<&'static str> {
    let text = first.trim_ascii();
    match text {
        [0x1f, 0x8b, ..] => Some("the file is compressed with gzip: unpack it first (`gzip -d`)"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Some("the file is compressed with zstd: unpack it first (`zstd -d`)")
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Some("the file is compressed with xz: unpack it first (`xz -d`)")
        }
        [b'B', b'Z', b'h', ..] => {
            Some("the file is compressed with bzip2: unpack it first (`bzip2 -d`)")
        }
        [b'P', b'K', 3, 4, ..] => Some("the file is a zip archive: unpack it first (`unzip`)"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'{', 0, ..] | [0, b'{', ..] => {
            Some("the file is UTF-16: make it UTF-8 first (`iconv -f UTF-16 -t UTF-8`)")
        }
        b"{" => Some("the file has an event over several lines: put each on one (`jq -c .`)"),
        [b'[', ..] => Some("the file is a JSON array: put each event on a line (`jq -c '.[]'`)"),
        _ => None,
    }
}
