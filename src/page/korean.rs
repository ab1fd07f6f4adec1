//! The dashboards in Korean: made of the English ones by the dictionary `grafana/ko.json`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

/// What each text means.
static WORDS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let text = include_str!("../../grafana/ko.json");
    serde_json::from_str(text).expect("the dictionary is one of texts")
});

/// A dashboard in Korean; its uid has `-ko` behind it.
pub fn korean(english: &Value) -> Value {
    let mut dashboard = english.clone();
    translate(&mut dashboard);
    if let Some(uid) = english["uid"].as_str() {
        dashboard["uid"] = format!("{uid}-ko").into();
    }
    dashboard
}

/// Translates what people read in a dashboard: titles, names, texts, units, choices, links.
fn translate(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        let id = fields.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_custom = fields.get("type").is_some_and(|it| it == "custom");
        let is_row = fields.contains_key("layout");
        for (key, value) in &mut *fields {
            let is_unit = value
                .as_str()
                .is_some_and(|it| it.starts_with("suffix:") || it.starts_with("prefix:"));
            let is_read = match key.as_str() {
                "title" | "description" | "noValue" | "displayName" | "label" | "content"
                | "tooltip" | "text" => true,
                "value" => {
                    matches!(&*id, "displayName" | "noValue") || is_row || id == "unit" && is_unit
                }
                "unit" => is_unit,
                "query" => is_custom,
                _ => false,
            };
            match value {
                Value::Array(texts) if key == "text" => texts.iter_mut().for_each(look_up),
                value if is_read && value.is_string() => look_up(value),
                Value::String(url) if key == "url" && url.starts_with("/d/") => {
                    // To the same one in the other language.
                    let end = url[3..].find(['?', '/']).map_or(url.len(), |end| end + 3);
                    match url[..end].strip_suffix("-ko") {
                        Some(other) => *url = format!("{other}{}", &url[end..]),
                        None => url.insert_str(end, "-ko"),
                    }
                }
                _ => {}
            }
        }
        for (_, value) in fields.iter_mut().filter(|(key, _)| *key != "targets") {
            translate(value);
        }
    } else if let Some(values) = value.as_array_mut() {
        values.iter_mut().for_each(translate);
    }
}

/// A text that the dictionary does not have stays as it is; `tests/grafana.rs` finds it.
fn look_up(text: &mut Value) {
    if let Some(meaning) = text.as_str().and_then(|word| WORDS.get(word)) {
        *text = meaning.as_str().into();
    }
}
