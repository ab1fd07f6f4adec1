//! All order events of one customer that count, packed: some 25 bytes an order with its lines.
//!
//! They stand in the order of their times, in chunks, so that one that comes late, is found by its order
//! or is taken out costs a chunk and not the list. The invariant: places ascend through all chunks, a
//! chunk is never empty, and its summary (first and last place, least and greatest order number) holds.

use differential_dataflow::difference::Semigroup;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::model::{Category, Krw, Line, Millis, Order, OrderEvent, OrderId, OrderKind, ProductId};
use crate::operators::{HashMap, Sums};

/// By which the events of a customer are ordered: time, then id.
pub(crate) type Place = (Millis, u64);

/// An event of a customer's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it does.
    pub event: OrderKind,
    /// Whether it placed an order that stands.
    pub stands: bool,
    /// The order, among those of the customer.
    pub order_id: OrderId,
    /// The event's id.
    pub event_id: u64,
    /// When it happened.
    pub at: Millis,
    /// When its order was placed.
    pub ordered_at: Millis,
    /// Its lines.
    pub lines: SmallVec<[Line; 4]>,
}

impl Entry {
    /// An event as it comes: a placed order stands until something else is said.
    pub(crate) fn of(OrderEvent { event_id, order }: &OrderEvent) -> Entry {
        let Order { event, order_id, at, ordered_at, ref lines, .. } = *order;
        let (stands, lines) = (event == OrderKind::Placed, SmallVec::from_slice(lines));
        Entry { event, stands, order_id, event_id: *event_id, at, ordered_at, lines }
    }

    pub(crate) fn place(&self) -> Place {
        (self.at, self.event_id)
    }

    /// Sum of the lines' amounts.
    pub fn amount(&self) -> Krw {
        self.lines.iter().map(Line::amount).sum()
    }

    /// Sum of the lines' quantities.
    pub fn units(&self) -> i64 {
        self.lines.iter().map(|line| line.quantity).sum()
    }

    /// The categories of its lines, each once, by their words.
    pub fn categories(&self) -> SmallVec<[Category; 4]> {
        let mut categories: SmallVec<[_; 4]> = self.lines.iter().map(|it| it.category).collect();
        categories.sort_unstable();
        categories.dedup();
        categories
    }

    /// What its lines of each category add up to; the event counts in each of them once.
    pub fn by_category(&self) -> SmallVec<[(Category, Sums); 4]> {
        let mut all: SmallVec<[(Category, Sums); 4]> = SmallVec::new();
        for line in &self.lines {
            let sums = Sums::of(self.event, line.quantity, line.amount());
            match all.iter_mut().find(|(category, _)| *category == line.category) {
                Some((_, of_it)) => of_it.plus_equals(&sums.of_same_event()),
                None => all.push((line.category, sums)),
            }
        }
        all
    }

    /// The products of its lines, each once.
    pub fn products(&self) -> SmallVec<[ProductId; 4]> {
        let mut products: SmallVec<[_; 4]> = self.lines.iter().map(|it| it.product_id).collect();
        products.sort_unstable();
        products.dedup();
        products
    }
}

/// What can be told of an event without its lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    event: OrderKind,
    stands: bool,
    order_id: i64,
    pub(crate) place: Place,
    /// Where in the chunk it begins.
    offset: usize,
}

/// Which orders of a list are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    Placed,
    Standing,
}

impl Which {
    fn is(self, head: &Head) -> bool {
        match self {
            Which::Placed => head.event == OrderKind::Placed,
            Which::Standing => head.stands,
        }
    }

    /// Whether a chunk has one: of a customer who cancels everything no event has to be looked at.
    fn are_in(self, chunk: &Chunk) -> bool {
        match self {
            Which::Placed => chunk.placed > 0,
            Which::Standing => chunk.standing > 0,
        }
    }
}

/// What an event means for the grade.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effect {
    pub(crate) event: OrderKind,
    pub(crate) at: Millis,
    pub(crate) ordered_at: Millis,
    /// The sum of its lines.
    pub(crate) amount: Krw,
}

/// Where an event is; it holds until the list changes otherwise than at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Cursor {
    chunk: u32,
    offset: u32,
}

/// So many events a chunk has at most.
const CHUNK: usize = 128;

/// ... and about so many bytes: orders may have thousands of lines.
const CHUNK_BYTES: usize = 16 << 10;

/// Where an order number may be in more chunks than this, the numbers are indexed ...
const CANDIDATES: usize = 4;

/// ... and in a list of more chunks than this, whose summaries would take longer to look through.
const LONG: usize = 64;

/// Events that stand one behind the other, as differences to the first of them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Chunk {
    bytes: Vec<u8>,
    first: Place,
    last: Place,
    /// The first one's; the others are told as differences to it.
    order: i64,
    /// The least and the greatest order number.
    least: i64,
    greatest: i64,
    events: u32,
    /// Placed orders, and those that stand.
    placed: u32,
    standing: u32,
}

/// The categories of a customer's lines, in which these name them by their places.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Categories(SmallVec<[Category; 2]>);

impl Categories {
    /// The place of a category, which gets one.
    fn place(&mut self, category: Category) -> usize {
        self.0.iter().position(|it| *it == category).unwrap_or_else(|| {
            self.0.push(category);
            self.0.len() - 1
        })
    }
}

/// The order numbers of a long list that do not ascend: by them and whether it is the cancellation, when.
type Numbers = HashMap<(OrderId, bool), Place>;

/// A customer's events.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct History {
    chunks: SmallVec<[Chunk; 1]>,
    categories: Categories,
    #[serde(skip)]
    numbers: Option<Box<Numbers>>,
}

impl History {
    /// How many events there are.
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.events as usize).sum()
    }

    /// The place of the last event.
    pub(crate) fn place_of_last(&self) -> Option<Place> {
        self.chunks.last().map(|chunk| chunk.last)
    }

    /// Reads from where the next event will be appended, so that it is in the cache by then.
    pub(crate) fn touch(&self) -> i64 {
        self.chunks.last().and_then(|chunk| chunk.bytes.last()).map_or(0, |byte| i64::from(*byte))
    }

    /// Reads from a place, likewise.
    pub(crate) fn touch_at(&self, at: Cursor) -> u8 {
        let chunk = self.chunks.get(at.chunk as usize);
        chunk.and_then(|chunk| chunk.bytes.get(at.offset as usize)).copied().unwrap_or_default()
    }

    /// Appends an event that is later than all others.
    pub(crate) fn push(&mut self, entry: &Entry) {
        if let Some(numbers) = &mut self.numbers {
            enter(numbers, entry);
        }
        if self.chunks.last().is_none_or(Chunk::is_full) {
            self.chunks.push(Chunk::default());
        }
        self.chunks.last_mut().expect("just pushed").push(entry, &mut self.categories);
    }

    /// Puts an event where it belongs; returns whether cursors into the list hold no longer.
    pub(crate) fn insert(&mut self, entry: &Entry) -> bool {
        if self.place_of_last().is_none_or(|last| last < entry.place()) {
            self.push(entry);
            return false;
        }
        if let Some(numbers) = &mut self.numbers {
            enter(numbers, entry);
        }
        let at = self.chunks.partition_point(|chunk| chunk.last < entry.place());
        let categories = &mut self.categories;
        let mut entries = self.chunks[at].entries(categories);
        let place = entries.partition_point(|other| other.place() < entry.place());
        entries.insert(place, entry.clone());
        let mut chunk = Chunk::of(&entries, categories);
        if chunk.is_full() && entries.len() > 1 {
            let rest = entries.split_off(entries.len() / 2);
            self.chunks.insert(at + 1, Chunk::of(&rest, categories));
            chunk = Chunk::of(&entries, categories);
        }
        self.chunks[at] = chunk;
        true
    }

    /// Takes an event out.
    pub(crate) fn remove(&mut self, cursor: Cursor) -> Entry {
        let at = cursor.chunk as usize;
        let mut entries = self.chunks[at].entries(&self.categories);
        let gone = self.read(cursor).expect("it was found").0;
        entries.retain(|entry| entry.place() != gone.place());
        if let Some(numbers) = &mut self.numbers {
            numbers.remove(&(gone.order_id, gone.event == OrderKind::Cancelled));
        }
        if entries.is_empty() {
            self.chunks.remove(at);
        } else {
            self.chunks[at] = Chunk::of(&entries, &mut self.categories);
        }
        gone
    }

    /// The event that placed an order, or that cancelled it.
    pub(crate) fn find(&mut self, order_id: OrderId, cancelled: bool) -> Option<Cursor> {
        let event = if cancelled { OrderKind::Cancelled } else { OrderKind::Placed };
        let is_it = |head: &Head| head.event == event && head.order_id == order_id.0;
        let holds = |chunk: &Chunk| (chunk.least..=chunk.greatest).contains(&order_id.0);
        if self.numbers.is_none()
            && (self.chunks.len() > LONG
                || self.chunks.iter().filter(|chunk| holds(chunk)).count() > CANDIDATES)
        {
            let mut numbers = Numbers::default();
            self.iter().for_each(|entry| enter(&mut numbers, &entry));
            self.numbers = Some(Box::new(numbers));
        }
        if let Some(numbers) = &self.numbers {
            let place = numbers.get(&(order_id, cancelled))?;
            let at = self.chunks.partition_point(|chunk| chunk.last < *place);
            return self.chunks.get(at)?.heads().find(is_it).map(|head| cursor(at, head.offset));
        }
        let chunks = self.chunks.iter().enumerate().filter(|(_, chunk)| holds(chunk));
        let mut found = chunks
            .filter_map(|(at, chunk)| chunk.heads().find(is_it).map(|it| cursor(at, it.offset)));
        found.next()
    }

    /// The event at a place, and where the next one is; none behind the last.
    pub(crate) fn read(&self, at: Cursor) -> Option<(Entry, Cursor)> {
        let chunk = self.chunks.get(at.chunk as usize)?;
        let Some((entry, next)) = chunk.read(at.offset as usize, &self.categories) else {
            return self.read(Cursor { chunk: at.chunk + 1, offset: 0 });
        };
        Some((entry, cursor(at.chunk as usize, next)))
    }

    /// What the event at a place means for the grade, and where the next one is; none behind the last.
    pub(crate) fn effect(&self, at: Cursor) -> Option<(Effect, Cursor)> {
        let chunk = self.chunks.get(at.chunk as usize)?;
        let Some((head, ordered_at, packed, next)) = chunk.head(at.offset as usize) else {
            return self.effect(Cursor { chunk: at.chunk + 1, offset: 0 });
        };
        let amount = lines(packed).map(|(_, _, quantity, price)| price * quantity).sum();
        let effect = Effect { event: head.event, at: head.place.0, ordered_at, amount };
        Some((effect, cursor(at.chunk as usize, next)))
    }

    /// Says of a placed order whether it stands.
    pub(crate) fn set_stands(&mut self, at: Cursor, stands: bool) {
        let chunk = &mut self.chunks[at.chunk as usize];
        let head = &mut chunk.bytes[at.offset as usize];
        chunk.standing -= u32::from(*head & STANDS);
        chunk.standing += u32::from(stands);
        *head = (*head & !STANDS) | (u8::from(stands) * STANDS);
    }

    /// All events, by their times.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> {
        let mut at = Cursor::default();
        std::iter::from_fn(move || {
            let (entry, next) = self.read(at)?;
            at = next;
            Some(entry)
        })
    }

    /// When the last of some orders before a place was placed, and the first of them behind it.
    pub(crate) fn neighbours(&self, place: Place, of: Which) -> (Option<Millis>, Option<Millis>) {
        let here = self.chunks.partition_point(|chunk| chunk.last < place);
        let upto = (here + 1).min(self.chunks.len());
        let before = self.chunks[..upto].iter().rev().filter(|chunk| of.are_in(chunk));
        let mut before = before.filter_map(|chunk| {
            let heads = chunk.heads().take_while(|head| head.place < place);
            heads.filter(|head| of.is(head)).last()
        });
        let after = self.chunks[here..].iter().filter(|chunk| of.are_in(chunk));
        let mut after =
            after.filter_map(|chunk| chunk.heads().find(|head| head.place > place && of.is(head)));
        (before.next().map(|head| head.place.0), after.next().map(|head| head.place.0))
    }

    /// When the first of some orders was placed.
    pub(crate) fn first(&self, of: Which) -> Option<Millis> {
        let chunk = self.chunks.iter().find(|chunk| of.are_in(chunk))?;
        chunk.heads().find(|head| of.is(head)).map(|head| head.place.0)
    }

    /// When the last of some orders was placed.
    pub(crate) fn last(&self, of: Which) -> Option<Millis> {
        let chunk = self.chunks.iter().rfind(|chunk| of.are_in(chunk))?;
        chunk.heads().filter(|head| of.is(head)).last().map(|head| head.place.0)
    }
}

fn cursor(chunk: usize, offset: usize) -> Cursor {
    Cursor { chunk: chunk as u32, offset: offset as u32 }
}

/// Refunds are of lines, of which an order has several: nobody asks for them by their order.
fn enter(numbers: &mut Numbers, entry: &Entry) {
    if entry.event != OrderKind::Refunded {
        numbers.insert((entry.order_id, entry.event == OrderKind::Cancelled), entry.place());
    }
}

/// In the first byte of an event: that it placed an order that stands; and from this bit on its kind.
const STANDS: u8 = 1;
const KIND: u32 = 1;

impl Chunk {
    fn is_full(&self) -> bool {
        self.events as usize >= CHUNK || self.bytes.len() >= CHUNK_BYTES
    }

    fn of(entries: &[Entry], categories: &mut Categories) -> Chunk {
        let mut chunk = Chunk::default();
        for entry in entries {
            chunk.push(entry, categories);
        }
        chunk
    }

    fn push(&mut self, entry: &Entry, categories: &mut Categories) {
        let order = entry.order_id.0;
        if self.events == 0 {
            (self.first, self.order) = (entry.place(), order);
            (self.least, self.greatest) = (order, order);
        }
        (self.least, self.greatest) = (self.least.min(order), self.greatest.max(order));
        self.last = entry.place();
        self.events += 1;
        self.placed += u32::from(entry.event == OrderKind::Placed);
        self.standing += u32::from(entry.stands);
        if self.bytes.capacity() - self.bytes.len() < 64 {
            // Doubling would leave a quarter of all memory unused, for ever.
            self.bytes.reserve_exact(32 + self.bytes.len() / 5);
        }
        self.bytes.push(u8::from(entry.stands) | (entry.event as u8) << KIND);
        put(entry.at.wrapping_sub(self.first.0) as u64, &mut self.bytes);
        put(zigzag(order.wrapping_sub(self.order)), &mut self.bytes);
        put(zigzag(entry.event_id.wrapping_sub(self.first.1) as i64), &mut self.bytes);
        if entry.event != OrderKind::Placed {
            put(entry.at.wrapping_sub(entry.ordered_at) as u64, &mut self.bytes);
        }
        let begin = self.bytes.len();
        for line in &entry.lines {
            put(line.product_id.0 as u64, &mut self.bytes);
            // Most lines are of one piece.
            let category = categories.place(line.category) as u64;
            put(category << 1 | u64::from(line.quantity != 1), &mut self.bytes);
            if line.quantity != 1 {
                put(line.quantity as u64, &mut self.bytes);
            }
            put(line.unit_price.0 as u64, &mut self.bytes);
        }
        // In front of them, how many bytes they take.
        let end = self.bytes.len();
        put((end - begin) as u64, &mut self.bytes);
        let length = self.bytes.len() - end;
        self.bytes[begin..].rotate_right(length);
    }

    /// The event at an offset without its lines, when its order was placed, its lines still packed, and
    /// the offset of the next event.
    fn head(&self, offset: usize) -> Option<(Head, Millis, &[u8], usize)> {
        let mut bytes = self.bytes.get(offset..).filter(|bytes| !bytes.is_empty())?;
        let first = bytes[0];
        bytes = &bytes[1..];
        let event = OrderKind::ALL[usize::from(first >> KIND)];
        let at = self.first.0.wrapping_add(take(&mut bytes) as i64);
        let order_id = self.order.wrapping_add(unzigzag(take(&mut bytes)));
        let event_id = self.first.1.wrapping_add(unzigzag(take(&mut bytes)) as u64);
        let after = if event == OrderKind::Placed { 0 } else { take(&mut bytes) as i64 };
        let (stands, place) = (first & STANDS != 0, (at, event_id));
        let length = take(&mut bytes) as usize;
        let (lines, rest) = bytes.split_at(length);
        let head = Head { event, stands, order_id, place, offset };
        Some((head, at.wrapping_sub(after), lines, self.bytes.len() - rest.len()))
    }

    /// The event at an offset, and the offset of the next.
    fn read(&self, offset: usize, categories: &Categories) -> Option<(Entry, usize)> {
        let (head, ordered_at, packed, next) = self.head(offset)?;
        let line = |(product_id, category, quantity, unit_price)| {
            let category = categories.0[category];
            Line { product_id, category, quantity, unit_price }
        };
        let entry = Entry {
            event: head.event,
            stands: head.stands,
            order_id: OrderId(head.order_id),
            event_id: head.place.1,
            at: head.place.0,
            ordered_at,
            lines: lines(packed).map(line).collect(),
        };
        Some((entry, next))
    }

    fn entries(&self, categories: &Categories) -> Vec<Entry> {
        let mut offset = 0;
        let entries = std::iter::from_fn(|| {
            let (entry, next) = self.read(offset, categories)?;
            offset = next;
            Some(entry)
        });
        entries.collect()
    }

    fn heads(&self) -> impl Iterator<Item = Head> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let (head, _, _, next) = self.head(offset)?;
            offset = next;
            Some(head)
        })
    }
}

/// Lines out of their bytes: product, the category's place, quantity and price.
fn lines(mut bytes: &[u8]) -> impl Iterator<Item = (ProductId, usize, i64, Krw)> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let product_id = ProductId(take(&mut bytes) as i64);
        let category = take(&mut bytes);
        let quantity = if category & 1 == 0 { 1 } else { take(&mut bytes) as i64 };
        Some((product_id, (category >> 1) as usize, quantity, Krw(take(&mut bytes) as i64)))
    })
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Appends a number in as many bytes as it needs: LEB128.
pub(crate) fn put(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes such a number from the front.
pub(crate) fn take(bytes: &mut &[u8]) -> u64 {
    // Most need one.
    if let [byte @ ..0x80, rest @ ..] = bytes {
        *bytes = rest;
        return u64::from(*byte);
    }
    let mut number = 0;
    for (place, byte) in bytes.iter().enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            *bytes = &bytes[place + 1..];
            return number;
        }
    }
    unreachable!("numbers are whole")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let line =
            (0..i64::MAX, 0..3usize, prop_oneof![Just(1i64), 2..1_000_000i64], 0..1_000_000_000i64)
                .prop_map(|(product, category, quantity, price)| Line {
                    product_id: ProductId(product),
                    category: Category::from(["food", "beauty", "books"][category]),
                    quantity,
                    unit_price: Krw(price),
                });
        let entry = (0..3usize, any::<i64>(), 0..1_000i64, prop::collection::vec(line, 1..4));
        prop::collection::vec(entry, 0..600).prop_map(|entries| {
            let mut named = std::collections::BTreeSet::new();
            let entries =
                entries.into_iter().zip(0..).map(|((kind, order, at, lines), id)| Entry {
                    event: OrderKind::ALL[kind],
                    stands: kind == 0,
                    // Some numbers are small, so that they ascend or come twice; some are any.
                    order_id: OrderId(if order % 3 == 0 { order } else { at % 40 }),
                    event_id: u64::wrapping_mul(id, 0x9e37_79b9_7f4a_7c15),
                    at: 631_152_000_000 + at * at * 1_000_003,
                    ordered_at: 631_152_000_000 + if kind == 0 { at * at * 1_000_003 } else { 0 },
                    lines: lines.into(),
                });
            entries
                .filter(|it| {
                    it.event == OrderKind::Refunded || named.insert((it.order_id, it.event))
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        /// In whatever order events come, some of them going again: the list is that of a sorted vector.
        #[test]
        fn a_list_is_what_was_put_into_it(entries in entries(), gone in any::<u64>()) {
            let mut history = History::default();
            let mut sorted: Vec<Entry> = Vec::new();
            for entry in &entries {
                history.insert(entry);
                let place = sorted.partition_point(|other| other.place() < entry.place());
                sorted.insert(place, entry.clone());
                if entry.event != OrderKind::Refunded && (entry.event_id ^ gone).is_multiple_of(5) {
                    let found = history.find(entry.order_id, entry.event == OrderKind::Cancelled);
                    prop_assert_eq!(&history.remove(found.unwrap()), entry);
                    sorted.remove(place);
                }
            }
            prop_assert_eq!(history.iter().collect::<Vec<_>>(), sorted.clone());
            let placed = || sorted.iter().filter(|it| it.event == OrderKind::Placed);
            prop_assert_eq!(history.first(Which::Placed), placed().next().map(|it| it.at));
            prop_assert_eq!(history.last(Which::Placed), placed().next_back().map(|it| it.at));
            let stands = || sorted.iter().filter(|it| it.stands);
            prop_assert_eq!(history.first(Which::Standing), stands().next().map(|it| it.at));
            prop_assert_eq!(history.last(Which::Standing), stands().next_back().map(|it| it.at));
            for entry in &entries {
                let place = entry.place();
                let before = placed().rfind(|it| it.place() < place).map(|it| it.at);
                let after = placed().find(|it| it.place() > place).map(|it| it.at);
                prop_assert_eq!(history.neighbours(place, Which::Placed), (before, after));
                let cancelled = entry.event == OrderKind::Cancelled;
                let is_there = sorted.iter().any(|it| it == entry);
                if entry.event != OrderKind::Refunded {
                    let found = history.find(entry.order_id, cancelled);
                    prop_assert_eq!(found.is_some(), is_there);
                    if let Some(found) = found {
                        prop_assert_eq!(&history.read(found).unwrap().0, entry);
                        if !cancelled {
                            history.set_stands(found, false);
                            prop_assert!(!history.read(found).unwrap().0.stands);
                            history.set_stands(found, true);
                        }
                    }
                }
            }
        }
    }
}
