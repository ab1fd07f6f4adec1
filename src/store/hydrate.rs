//! Reading the store back at the start: the ledgers' rows as events, the result rows as bytes.

use std::io::Read;

use anyhow::{Context, Result, anyhow, ensure};
use dataflows::Epoch;
use dataflows::analytics::{Output, Tables};
use dataflows::ledger::Origin;
use dataflows::model::{Event, Topic};
use dataflows::row::{Fields, Row};
use postgres::Client;

use super::Columns;

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
    let table = topic.ledger();
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
            let event = Event::take(topic, event_id, &mut fields);
            give(
                origin,
                event.map_err(|what| anyhow!("the ledger holds {what}, which no event has"))?,
            );
            Ok(())
        },
    )
}

/// Gives every stored row of the tables that are kept as something that goes: the minus side of the first commit.
pub fn stored_rows(
    client: &mut Client,
    tables: &Tables,
    epoch: Epoch,
    mut give: impl FnMut(Output),
) -> Result<()> {
    for (table, name) in tables.results() {
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
