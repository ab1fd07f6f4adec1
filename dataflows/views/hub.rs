//! Where standing views listen: what changes in the relations at one worker, epoch by epoch.
//!
//! A view is a dataflow of its own, which comes and goes while the graph of the analytics runs. The graph
//! tells the hub what it books, counts and shows, as rows; the hub hands it to whoever listens, and forgets
//! it where nobody does. What a listener hears begins behind the epoch that [`Hub::listen`] gives.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::{Rc, Weak};

use timely::scheduling::Activator;

use crate::Epoch;
use crate::model::Millis;
use crate::row::RowBatch;

/// What a listener has not taken yet.
pub(super) enum News {
    /// Rows of relations that it reads, and others: of an epoch.
    Rows(Epoch, Rc<RowBatch>),
    /// A cut, with `now` if there is one. Worker 0 alone hears of it.
    Cut(Epoch, Option<Millis>),
    /// Nothing more of epochs before this one; none: nothing at all.
    Frontier(Option<Epoch>),
}

/// The end at which a view hears.
#[derive(Default)]
pub struct Ear {
    /// Of which tables.
    wanted: BTreeSet<u16>,
    pub(super) news: RefCell<VecDeque<News>>,
    pub(super) wake: RefCell<Option<Activator>>,
}

impl Ear {
    fn hear(&self, news: News) {
        self.news.borrow_mut().push_back(news);
        if let Some(activator) = &*self.wake.borrow() {
            activator.activate();
        }
    }
}

/// What a worker's graph tells, and who listens.
#[derive(Clone, Default)]
pub struct Hub(Rc<Listeners>);

struct Listeners {
    ears: RefCell<Vec<Weak<Ear>>>,
    /// Whether there may be one.
    any: Cell<bool>,
    /// The newest epoch of which something may have been told; it may lie beyond the frontier.
    newest: Cell<Epoch>,
    frontier: Cell<Option<Epoch>>,
}

impl Default for Listeners {
    fn default() -> Listeners {
        Listeners {
            ears: RefCell::default(),
            any: Cell::default(),
            newest: Cell::default(),
            frontier: Cell::new(Some(0)),
        }
    }
}

impl Hub {
    /// Listens from here on: all that is told of some tables and of epochs beyond the one returned will be
    /// heard. (The frontier alone would not do: parts of epochs that are open may have passed already.)
    pub fn listen(&self, wanted: impl IntoIterator<Item = u16>) -> (Rc<Ear>, Epoch) {
        let ear = Rc::new(Ear { wanted: wanted.into_iter().collect(), ..Ear::default() });
        let Listeners { ears, any, newest, frontier } = &*self.0;
        ear.hear(News::Frontier(frontier.get()));
        ears.borrow_mut().push(Rc::downgrade(&ear));
        any.set(true);
        let closed = frontier.get().map_or(Epoch::MAX, |open| open.saturating_sub(1));
        (ear, newest.get().max(closed))
    }

    /// Whether somebody listens to a table; what is told next is of an epoch.
    pub(crate) fn wants(&self, epoch: Epoch, table: u16) -> bool {
        self.0.newest.set(self.0.newest.get().max(epoch));
        self.0.any.get() && {
            let ears = self.0.ears.borrow();
            ears.iter().filter_map(Weak::upgrade).any(|ear| ear.wanted.contains(&table))
        }
    }

    /// Tells of rows.
    pub fn rows(&self, epoch: Epoch, rows: &RowBatch) {
        self.0.newest.set(self.0.newest.get().max(epoch));
        if !self.0.any.get() {
            return;
        }
        let mut shared = None;
        self.each(|ear| {
            if rows.iter().any(|row| ear.wanted.contains(&row.table)) {
                let rows = shared.get_or_insert_with(|| Rc::new(rows.clone()));
                ear.hear(News::Rows(epoch, Rc::clone(rows)));
            }
        });
    }

    /// Tells of a cut.
    pub fn cut(&self, epoch: Epoch, now: Option<Millis>) {
        self.each(|ear| ear.hear(News::Cut(epoch, now)));
    }

    /// Tells that nothing more comes of epochs before one.
    pub fn goes_on(&self, frontier: Option<Epoch>) {
        if self.0.frontier.replace(frontier) != frontier {
            self.each(|ear| ear.hear(News::Frontier(frontier)));
        }
    }

    /// Nothing more is told of epochs before this one; none: nothing at all.
    pub fn frontier(&self) -> Option<Epoch> {
        self.0.frontier.get()
    }

    /// Does something for each who listens; who is gone is forgotten.
    fn each(&self, mut tell: impl FnMut(&Ear)) {
        if self.0.any.get() {
            let mut ears = self.0.ears.borrow_mut();
            ears.retain(|ear| ear.upgrade().inspect(|ear| tell(ear)).is_some());
            self.0.any.set(!ears.is_empty());
        }
    }
}
