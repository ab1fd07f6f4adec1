//! The frame of the pass over customers: what is kept for each, and what it means that an event comes in
//! order, late, as a second one, takes an order back, or counts under another record or grade than before.
//!
//! What is given to [`Pass::apply`] belongs to closed epochs, so times are totally ordered. The parts are
//! functions of single events and of pairs of neighbours, so every change is a few calls with `d` = -1
//! and 1. What looks at time, the grade and [`crate::passes::Part::at`], is lived through when a cut comes, for
//! the customers with an event or with something due; from the start where an event came before
//! what was lived.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::contributions::Contributions;
use super::fold::{Fold, NEVER, tick_from};
use super::history::{Entry, History, Which};
use super::{Facts, Parts};
use crate::analytics::Begin;
use crate::keeper::{Changes, Place, Section};
use crate::model::time::{MINUTE, TICK};
use crate::model::{Millis, OrderEvent, OrderKind, User, UserEvent, UserId};
use crate::operators::{Grade, HashMap, Standing, tick_until};
use crate::queries::Table;
use crate::row::{Fate, Row};
use crate::views::Told;

/// A customer as every part sees them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Customer {
    /// Who.
    pub user_id: UserId,
    /// The newest record, if there is one.
    record: Option<UserEvent>,
    /// The grade at the last cut.
    grade: Grade,
    history: History,
    fold: Fold,
    /// So many changes of grade are counted.
    told: u32,
    greatest_order: i64,
    last_placed: Option<Millis>,
    stands: Option<(Millis, Millis)>,
    /// When to look again, without an event.
    due: Millis,
    /// What has changed since the last cut.
    #[serde(skip)]
    changed: Facts,
    /// Whether it is noted that something may have.
    #[serde(skip)]
    marked: bool,
    /// An event came before what was lived.
    #[serde(skip)]
    again: bool,
    /// Something may have changed since it was kept.
    #[serde(skip)]
    unkept: bool,
    /// Of which parts there is a row, by their places.
    shown: u64,
}

impl Customer {
    fn new(user_id: UserId) -> Customer {
        Customer {
            user_id,
            record: None,
            grade: Grade::default(),
            history: History::default(),
            fold: Fold::default(),
            told: 0,
            greatest_order: -1,
            last_placed: None,
            stands: None,
            due: Millis::MAX,
            changed: Facts::NONE,
            marked: false,
            again: false,
            unkept: false,
            shown: 0,
        }
    }

    /// With a record, for tests of parts.
    #[cfg(test)]
    pub(crate) fn with(user_id: UserId, record: Option<UserEvent>) -> Customer {
        Customer { record, ..Customer::new(user_id) }
    }

    /// The newest record, if there is one.
    pub fn record(&self) -> Option<&UserEvent> {
        self.record.as_ref()
    }

    /// The newest record, for parts that read it: they are asked of nobody who has none.
    pub fn known(&self) -> &UserEvent {
        self.record().expect("a part that reads the record waits for it")
    }

    /// The grade at the last cut.
    pub fn grade(&self) -> Grade {
        self.grade
    }

    /// Where the customer stands in the grade's six months.
    pub fn standing(&self) -> Standing {
        self.fold.standing()
    }

    /// When the first and the last standing order were placed; none where none stands.
    pub fn stands(&self) -> Option<(Millis, Millis)> {
        self.stands
    }

    /// When the last order up to an instant was placed, and when the first after it.
    pub fn placed_around(&self, now: Millis) -> (Option<Millis>, Option<Millis>) {
        match self.last_placed {
            // All ids of an instant are in it; a place is on neither of its own sides.
            Some(last) if last > now => {
                let around = |place| self.history.neighbours(place, Which::Placed);
                (around((now + 1, 0)).0, around((now, u64::MAX)).1)
            }
            last => (last, None),
        }
    }

    /// Whether a part that reads some facts counts, where those of `of` change, or where all count.
    #[inline]
    pub(crate) fn counts(&self, reads: Facts, of: Option<Facts>) -> bool {
        (!reads.meets(Facts::RECORD) || self.record.is_some())
            && of.is_none_or(|of| reads.meets(of))
    }
}

/// All customers of a worker.
pub(super) struct Pass<P: Parts> {
    customers: Vec<(Customer, P::States)>,
    index: HashMap<UserId, u32>,
    tables: Vec<Option<Table>>,
    outs: Vec<Option<Contributions>>,
    marked: Vec<u32>,
    /// By minute, who is due in it; who was put off since stays, and is passed over.
    calendar: BTreeMap<Millis, Vec<u32>>,
    /// Of customers who were kept and of whom nothing was asked yet, by minute: who is due in it.
    asleep: BTreeMap<Millis, Vec<UserId>>,
    /// Market time at the last cut.
    now: Millis,
    events: usize,
    /// For standing views, what is counted and what is no longer.
    pub(super) told: Told,
    kept: Places,
    /// Who has changed since it was kept.
    unkept: Vec<u32>,
}

/// Where the customers are kept from one start to the next.
struct Places {
    /// Each with the parts' states.
    customers: Place,
    /// When those are due who are.
    due: Place,
}

/// Look-ups go ahead of the work in groups of so many, so that their cache misses overlap.
const GROUP: usize = 32;

impl<P: Parts> Pass<P> {
    /// Of the parts whose tables are kept; `always` at the worker that has the rows from the start.
    pub(super) fn new(tables: Vec<Option<Table>>, always: bool, begin: &Begin) -> Pass<P> {
        let [customers, due] = [(), ()].map(|()| begin.keeper.place());
        let mut asleep: BTreeMap<Millis, Vec<UserId>> = BTreeMap::new();
        due.each(|user_id, due: Millis| {
            asleep.entry(due.div_euclid(MINUTE)).or_default().push(user_id);
        });
        let outs = tables.iter().zip(0..);
        let outs = outs.map(|(table, part)| table.map(|_| Contributions::of(part)));
        let mut pass = Pass {
            customers: Vec::new(),
            index: HashMap::default(),
            outs: outs.collect(),
            tables,
            marked: Vec::new(),
            calendar: BTreeMap::new(),
            asleep,
            // Nobody has lived longer: what is before it makes them live again.
            now: begin.now.filter(|_| begin.keeper.is_restored()).unwrap_or(Millis::MIN),
            events: 0,
            told: Told::default(),
            kept: Places { customers, due },
            unkept: Vec::new(),
        };
        if always && !begin.keeper.is_restored() {
            P::always(&mut pass.outs);
        }
        pass
    }

    /// How many customers and events are kept.
    pub(super) fn size(&self) -> usize {
        self.customers.len() + self.events
    }

    fn find(&mut self, user_id: UserId) -> usize {
        let next = self.customers.len() as u32;
        let index = *self.index.entry(user_id).or_insert(next);
        if index == next {
            let kept: Option<(Customer, P::States)> = self.kept.customers.get(&user_id);
            if let Some((who, _)) = &kept
                && who.due != Millis::MAX
            {
                self.calendar.entry(who.due.div_euclid(MINUTE)).or_default().push(index);
            }
            let new = || (Customer::new(user_id), P::States::default());
            let of_customer = kept.unwrap_or_else(new);
            self.events += of_customer.0.history.len();
            self.customers.push(of_customer);
        }
        index as usize
    }

    fn mark(&mut self, index: usize, changed: Facts) {
        let who = &mut self.customers[index].0;
        who.changed |= changed;
        if !std::mem::replace(&mut who.marked, true) {
            self.marked.push(index as u32);
        }
    }

    /// Takes in order events.
    pub(super) fn apply(&mut self, events: &[OrderEvent]) {
        let mut found = [0; GROUP];
        for group in events.chunks(GROUP) {
            let mut touched = 0;
            for (event, index) in group.iter().zip(&mut found) {
                *index = self.find(event.order.user_id);
            }
            for index in &found[..group.len()] {
                let who = &self.customers[*index].0;
                touched ^= who.greatest_order ^ who.history.touch();
            }
            std::hint::black_box(touched);
            for (event, index) in group.iter().zip(&found) {
                self.apply_one(*index, Entry::of(event));
            }
        }
    }

    fn apply_one(&mut self, index: usize, entry: Entry) {
        let (who, states) = &mut self.customers[index];
        let outs = &mut self.outs;
        let in_order = who.history.place_of_last().is_none_or(|last| last < entry.place());
        let is_new = entry.event == OrderKind::Placed && entry.order_id.0 > who.greatest_order;
        let (order_id, mut from) = (entry.order_id.0, entry.at);
        if in_order && (is_new || entry.event == OrderKind::Refunded) {
            P::event(who, states, &entry, 1, None, outs);
            if is_new {
                P::placed(who, who.last_placed, entry.at, 1, None, outs);
                let before = who.stands.map(|(_, last)| last);
                P::standing(who, states, before, entry.at, 1, None, outs);
                who.last_placed = Some(entry.at);
                who.stands = Some((who.stands.map_or(entry.at, |(first, _)| first), entry.at));
            }
            who.history.push(&entry);
            who.fold.appended(entry.at);
            self.events += 1;
            self.told.tell(self.customers[index].0.user_id, &entry, 1);
        } else {
            match self.apply_out_of_order(index, entry) {
                Some(earliest) => from = earliest,
                None => return,
            }
        }
        let now = self.now;
        let who = &mut self.customers[index].0;
        who.greatest_order = who.greatest_order.max(order_id);
        who.again |= tick_from(from) <= tick_until(now);
        self.mark(index, Facts::EVENTS);
    }

    /// An event that is late, that takes an order back, or whose order may be known. Gives the earliest
    /// instant at which something changed; nothing where another event of the order counts instead.
    fn apply_out_of_order(&mut self, index: usize, mut entry: Entry) -> Option<Millis> {
        let mut from = entry.at;
        let who = &mut self.customers[index].0;
        if entry.event != OrderKind::Refunded
            && let Some(found) =
                who.history.find(entry.order_id, entry.event == OrderKind::Cancelled)
        {
            let (other, _) = who.history.read(found).expect("it was found");
            if other.place() <= entry.place() {
                return None;
            }
            from = from.min(other.at);
            let other = who.history.remove(found);
            self.events -= 1;
            self.toggle(index, &other, -1);
        }
        let who = &mut self.customers[index].0;
        if entry.event == OrderKind::Placed {
            entry.stands = who.history.find(entry.order_id, true).is_none();
        }
        self.toggle(index, &entry, 1);
        let who = &mut self.customers[index].0;
        who.again |= who.history.insert(&entry);
        who.fold.appended(entry.at);
        who.last_placed = who.history.last(Which::Placed);
        who.stands = who.history.first(Which::Standing).zip(who.history.last(Which::Standing));
        self.events += 1;
        Some(from)
    }

    /// An event comes (1) or goes (-1), which the list has not, beside all others.
    fn toggle(&mut self, index: usize, entry: &Entry, d: i64) {
        self.told.tell(self.customers[index].0.user_id, entry, d);
        let (who, states) = &mut self.customers[index];
        let outs = &mut self.outs;
        P::event(who, states, entry, d, None, outs);
        match entry.event {
            OrderKind::Placed => {
                let around = who.history.neighbours(entry.place(), Which::Placed);
                between(around, entry.at, d, |before, at, d| {
                    P::placed(who, before, at, d, None, outs);
                });
                if entry.stands {
                    let around = who.history.neighbours(entry.place(), Which::Standing);
                    between(around, entry.at, d, |before, at, d| {
                        P::standing(who, states, before, at, d, None, outs);
                    });
                }
            }
            OrderKind::Cancelled => {
                let Some(found) = who.history.find(entry.order_id, false) else { return };
                who.history.set_stands(found, d < 0);
                let (placed, _) = who.history.read(found).expect("it was found");
                let around = who.history.neighbours(placed.place(), Which::Standing);
                between(around, placed.at, -d, |before, at, d| {
                    P::standing(who, states, before, at, d, None, outs);
                });
            }
            OrderKind::Refunded => {}
        }
    }

    /// All contributions of the parts that read these facts come or go.
    fn recount(&mut self, index: usize, of: Facts, d: i64) {
        let (who, states) = &mut self.customers[index];
        let outs = &mut self.outs;
        if who.record.is_none() {
            return;
        }
        P::known(who, d, Some(of), outs);
        let (mut last_placed, mut last_standing) = (None, None);
        for entry in who.history.iter() {
            P::event(who, states, &entry, d, Some(of), outs);
            if entry.event == OrderKind::Placed {
                P::placed(who, last_placed, entry.at, d, Some(of), outs);
                last_placed = Some(entry.at);
            }
            if entry.stands {
                P::standing(who, states, last_standing, entry.at, d, Some(of), outs);
                last_standing = Some(entry.at);
            }
        }
    }

    /// A record of a customer: the newest holds.
    pub(super) fn record(&mut self, record: UserEvent) {
        let index = self.find(record.user.user_id);
        let newest = |record: &UserEvent| (record.at, record.event_id);
        let held = &self.customers[index].0.record;
        if held.as_ref().is_some_and(|held| newest(held) >= newest(&record)) {
            return;
        }
        let since = held.as_ref().map(|held| held.user.signed_up_at);
        let moved = since != Some(record.user.signed_up_at);
        let counted = |it: &User| (it.birth_date, it.sex, it.signed_up_at);
        let same = held.as_ref().is_some_and(|held| counted(&held.user) == counted(&record.user));
        if same {
            self.customers[index].0.record = Some(record);
        } else {
            self.recount(index, Facts::RECORD, -1);
            self.customers[index].0.record = Some(record);
            self.recount(index, Facts::RECORD, 1);
        }
        let standing = if moved { Facts::STANDING } else { Facts::NONE };
        self.mark(index, Facts::RECORD | standing);
    }

    /// Lives through a customer's time up to `now`.
    fn live(&mut self, index: usize) {
        let (who, states) = &mut self.customers[index];
        let before = who.fold.standing();
        if std::mem::take(&mut who.again) {
            for change in &who.fold.changes()[..who.told as usize] {
                P::graded(who, change, -1, &mut self.outs);
            }
            (who.fold, who.told) = (Fold::default(), 0);
        }
        who.fold.advance(&who.history, tick_until(self.now));
        if who.record.is_some() {
            for change in &who.fold.changes()[who.told as usize..] {
                P::graded(who, change, 1, &mut self.outs);
            }
            who.told = who.fold.changes().len() as u32;
        }
        let due = P::at(who, states, self.now, &mut self.outs);
        let tick = who.fold.due();
        let due = if tick == NEVER { due } else { due.min(Millis::from(tick) * TICK) };
        if due != who.due {
            who.due = due;
            if due != Millis::MAX {
                self.calendar.entry(due.div_euclid(MINUTE)).or_default().push(index as u32);
            }
        }
        let after = who.fold.standing();
        if after != before {
            who.changed |= Facts::STANDING;
        }
        if after.grade != who.grade {
            who.changed |= Facts::LEVEL;
            self.recount(index, Facts::LEVEL, -1);
            self.customers[index].0.grade = after.grade;
            self.recount(index, Facts::LEVEL, 1);
        }
    }

    /// Marks those for whom something is due up to `now`.
    fn wake(&mut self) {
        let minute = self.now.div_euclid(MINUTE);
        while let Some(first) = self.asleep.first_entry()
            && *first.key() <= minute
        {
            // Whoever is found has their place in the calendar.
            first.remove().into_iter().for_each(|user_id| _ = self.find(user_id));
        }
        while let Some(mut first) = self.calendar.first_entry()
            && *first.key() <= minute
        {
            let (at, now, customers) = (*first.key(), self.now, &self.customers);
            let due = |index: &u32| customers[*index as usize].0.due;
            // Who was put off has another entry.
            first.get_mut().retain(|index| due(index).div_euclid(MINUTE) == at);
            let woken: Vec<u32> =
                first.get_mut().extract_if(.., |index| due(index) <= now).collect();
            let rest = !first.get().is_empty();
            if !rest {
                first.remove();
            }
            for index in woken {
                // So that the calendar gets another entry, whatever is due next.
                self.customers[index as usize].0.due = Millis::MAX;
                self.mark(index as usize, Facts::NONE);
            }
            if rest {
                break;
            }
        }
    }

    /// Gives each row that has changed since the last cut, once.
    pub(super) fn cut(&mut self, now: Millis, mut give: impl FnMut(Row, Fate)) {
        self.now = self.now.max(now);
        self.wake();
        let mut marked = std::mem::take(&mut self.marked);
        // As they lie in memory.
        marked.sort_unstable();
        for group in marked.chunks(GROUP) {
            let mut touched = 0;
            for index in group {
                let who = &self.customers[*index as usize].0;
                touched ^= who.fold.touch(&who.history);
            }
            std::hint::black_box(touched);
            for index in group {
                self.show(*index as usize, &mut give);
            }
        }
        // The room is kept for the next cut.
        marked.clear();
        self.marked = marked;
    }

    /// Lives through a customer's time, and gives their rows that have changed.
    fn show(&mut self, index: usize, give: &mut impl FnMut(Row, Fate)) {
        self.live(index);
        let (who, states) = &mut self.customers[index];
        let (changed, mut shown) = (std::mem::take(&mut who.changed), who.shown);
        P::rows(who, states, changed, &self.tables, |part, row| {
            let Some(row) = row else { return };
            let fate = if shown >> part & 1 == 1 { Fate::Changed } else { Fate::New };
            shown |= 1 << part;
            give(row, fate);
        });
        (who.shown, who.marked) = (shown, false);
        if self.kept.customers.lasts && !std::mem::replace(&mut who.unkept, true) {
            self.unkept.push(index as u32);
        }
    }

    /// What the parts contribute, by their places.
    pub(super) fn contributions(&mut self) -> impl Iterator<Item = (usize, &mut Contributions)> {
        let outs = self.outs.iter_mut().enumerate();
        outs.filter_map(|(part, out)| Some((part, out.as_mut()?)))
    }
}

/// At a cut: nobody has an event that was not lived through.
impl<P: Parts> Section for RefCell<Pass<P>> {
    fn changes(&self, to: &mut Changes) {
        let pass = &mut *self.borrow_mut();
        let Places { customers, due } = &pass.kept;
        for index in pass.unkept.drain(..) {
            let of_customer = &mut pass.customers[index as usize];
            of_customer.0.unkept = false;
            let who = &of_customer.0;
            customers.tell(&who.user_id, Some(&*of_customer), to);
            due.tell(&who.user_id, Some(&who.due).filter(|due| **due != Millis::MAX), to);
        }
    }
}

/// What it means for pairs of neighbours that an event comes between two others, or goes.
fn between(
    (before, after): (Option<Millis>, Option<Millis>),
    at: Millis,
    d: i64,
    mut pair: impl FnMut(Option<Millis>, Millis, i64),
) {
    if let Some(after) = after {
        pair(before, after, -d);
    }
    pair(before, at, d);
    if let Some(after) = after {
        pair(Some(at), after, d);
    }
}
