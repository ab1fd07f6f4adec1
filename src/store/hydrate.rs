//! Reading the store back at the start: the ledgers' rows as events, the result rows as bytes.

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use dataflows::Epoch;
use dataflows::analytics::{Output, ledger_table, table_name};
use dataflows::ledger::Origin;
use dataflows::model::{
    Event, Line, Order, OrderEvent, OrderKind, Product, ProductEvent, ScenarioAction,
    ScenarioEvent, Sex, Status, Strength, Topic, User, UserEvent, named,
};
use dataflows::row::{Fields, Row};
use postgres::Client;

use super::{Columns, result_tables};
use crate::wire::Words;

/// Reads the rows of a COPY, each as its fields' bytes.
fn copy_out(
    client: &mut Client,
    query: &str,
    mut row: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut reader = client
        .copy_out(&format!("COPY ({query}) TO STDOUT (FORMAT binary)"))
        .with_context(|| format!("reading back: {query}"))?;
    let mut header = [0; 19];
    reader.read_exact(&mut header)?;
    let mut fields = Vec::new();
    loop {
        let mut count = [0; 2];
        reader.read_exact(&mut count)?;
        let Ok(count) = u16::try_from(i16::from_be_bytes(count)) else { return Ok(()) };
        fields.clear();
        for _ in 0..count {
            let mut length = [0; 4];
            reader.read_exact(&mut length)?;
            fields.extend_from_slice(&length);
            let content = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0);
            let start = fields.len();
            fields.resize(start + content, 0);
            reader.read_exact(&mut fields[start..])?;
        }
        row(&fields)?;
    }
}

/// Gives the events of a topic's ledger that are in this worker's shard of partitions.
pub fn hydrate(
    client: &mut Client,
    topic: Topic,
    (shard, shards): (usize, usize),
    mut give: impl FnMut(Origin, Event),
) -> Result<()> {
    let table = table_name(ledger_table(topic));
    let mut words = Words::default();
    copy_out(
        client,
        &format!("SELECT * FROM {table} WHERE partition % {shards} = {shard}"),
        |bytes| {
            let mut fields = Fields(bytes);
            let event_id = fields.unsigned();
            let origin = Origin {
                partition: fields.int() as u32,
                offset: fields.int() as u64,
                hash: 0, // only looked at when an event is booked
            };
            give(origin, event(topic, event_id, &mut fields, &mut words)?);
            Ok(())
        },
    )
}

/// The event of a ledger's row, from the columns that `LedgerEvent::with_cells` writes.
fn event(topic: Topic, event_id: u64, fields: &mut Fields<'_>, words: &mut Words) -> Result<Event> {
    let at = fields.instant();
    Ok(match topic {
        Topic::Users => Event::User(UserEvent {
            event_id,
            at,
            user: User {
                user_id: fields.int(),
                name: fields.text().into(),
                birth_date: fields.date(),
                sex: word(fields.text(), &Sex::ALL, Sex::word)?,
                region: words.get(fields.text()),
                status: word(fields.text(), &Status::ALL, Status::word)?,
                marketing_consent: fields.flag(),
                signed_up_at: fields.instant(),
            },
        }),
        Topic::Products => Event::Product(ProductEvent {
            event_id,
            at,
            product: Product {
                product_id: fields.int(),
                name: fields.text().into(),
                category: words.get(fields.text()),
                price: fields.int(),
                stock: fields.int(),
                listed_at: fields.instant(),
            },
        }),
        Topic::Orders => {
            let kind = word(fields.text(), &OrderKind::ALL, OrderKind::word)?;
            let (order_id, user_id) = (fields.int(), fields.int());
            let ordered_at = fields.instant();
            let (length, mut product_ids) = fields.elements();
            let (_, mut categories) = fields.elements();
            let (_, mut quantities) = fields.elements();
            let (_, mut unit_prices) = fields.elements();
            let lines: Arc<[Line]> = (0..length)
                .map(|_| Line {
                    product_id: product_ids.int(),
                    category: words.get(categories.text()),
                    quantity: quantities.int(),
                    unit_price: unit_prices.int(),
                })
                .collect();
            Event::Order(OrderEvent {
                event_id,
                order: Order { kind, order_id, user_id, at, ordered_at, lines },
            })
        }
        Topic::Scenarios => {
            let (occurrence, name) = (fields.text().into(), fields.text().into());
            let action = word(fields.text(), &ScenarioAction::ALL, ScenarioAction::word)?;
            let strength = Strength::new(fields.real()).context("a scenario without strength")?;
            let (length, mut categories) = fields.elements();
            let categories = (0..length).map(|_| words.get(categories.text())).collect();
            Event::Scenario(ScenarioEvent {
                event_id,
                at,
                occurrence,
                name,
                action,
                strength,
                categories,
            })
        }
    })
}

/// The value whose word that is.
fn word<T: Copy>(text: &str, values: &[T], name: fn(T) -> &'static str) -> Result<T> {
    named(text, values, name)
        .with_context(|| format!("the ledger holds the word {text:?}, which no event has"))
}

/// Gives every stored result row as something that goes: the minus side of the first commit.
pub fn stored_rows(client: &mut Client, epoch: Epoch, mut give: impl FnMut(Output)) -> Result<()> {
    for (table, name) in result_tables() {
        let columns = Columns::of(client, name)?;
        let list = [&columns.key[..], &columns.value].concat().join(", ");
        copy_out(client, &format!("SELECT {list} FROM {name}"), |bytes| {
            let mut fields = Fields(bytes);
            columns.key.iter().for_each(|_| _ = fields.bytes());
            let (key, value) = bytes.split_at(bytes.len() - fields.0.len());
            ensure!(!key.is_empty(), "table {name} has a row without a key");
            let row = Row::of(table, key, value);
            give(Output::Row { row, epoch, diff: -1 });
            Ok(())
        })?;
    }
    Ok(())
}
