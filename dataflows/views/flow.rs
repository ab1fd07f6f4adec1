//! A plan as a dataflow: its rows, and beside them what was raised.
//!
//! Errors travel as data, with the time and the difference of what raised them: so a view heals when the
//! row that it failed on goes. All operators are differential's own, but for the three of `hearing.rs`.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::AsCollection;
use differential_dataflow::consolidation::consolidate;
use differential_dataflow::input::Input as _;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::operators::{CountTotal, ThresholdTotal};
use differential_dataflow::trace::implementations::ValSpine;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::core::OkErr;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::input::Handle as InputHandle;
use timely::dataflow::operators::vec::{Broadcast, Input as _, Partition};
use timely::dataflow::operators::{Concat, Probe};
use timely::dataflow::{ProbeHandle, Scope, Stream};
use timely::worker::Worker;

use super::expr::{Compiled, Expr, compile};
use super::hearing::{Held, MARKET, Reader, Source, active, hear, market_row, relation};
use super::hub::Ear;
use super::kept::Shape;
use super::plan::{
    self, AGGREGATES, Aggregate, AggregateKind, CompiledCondition, JoinKind, Limit, Order, Plan,
    WindowFunction, in_order,
};
use super::steps::{Step, what};
use super::sums::Totals;
use super::value::{Raised, Row, Value};
use crate::operators::{HashMap, StateSize};
use crate::row::{Fate, RowBatch};
use crate::{Collection, Epoch};

/// Rows that change.
pub(super) type Rows<'s> = Collection<'s, Row>;
/// The cuts, with `now` in PostgreSQL's microseconds.
pub(super) type Marks<'s> = Stream<'s, Epoch, Vec<Option<i64>>>;
/// Rows by a key.
type Keyed<'s> = Collection<'s, (Row, Row)>;
/// What is raised.
type Errors<'s> = Collection<'s, Raised>;
/// Rows by what they are joined by.
type Index<'s> = Arranged<'s, TraceAgent<ValSpine<Row, Row, Epoch, isize>>>;

/// A hash that is the same at all workers.
pub(super) fn hash(of: &(impl Hash + ?Sized)) -> u64 {
    foldhash::fast::FixedState::with_seed(0).hash_one(of)
}

/// A view, as all workers have to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// What its rows are.
    pub shape: Shape,
    /// How they are worked out.
    pub plan: Plan,
    /// The relations that it reads; of these the plan speaks by their places.
    pub sources: Vec<Source>,
}

impl Definition {
    /// A view by a plan that speaks of relations by their places among `all`; those it does not read are
    /// left out.
    pub fn new(name: &str, shape: Shape, mut plan: Plan, all: &[Source]) -> Definition {
        let mut read = BTreeSet::new();
        plan.each_scan(&mut |place| _ = read.insert(*place));
        let read: Vec<usize> = read.into_iter().collect();
        plan.each_scan(&mut |place| *place = read.partition_point(|it| it < place));
        let sources = read.into_iter().map(|place| all[place].clone()).collect();
        Definition { name: name.to_owned(), shape, plan, sources }
    }

    /// The numbers of the tables that it reads.
    pub fn tables(&self) -> BTreeSet<u16> {
        self.sources.iter().map(|source| source.table).collect()
    }

    /// Gives the relations that are results the numbers of their tables; an error names one that has none.
    pub fn numbered(&mut self, number: impl Fn(&str) -> Option<u16>) -> Result<(), String> {
        for source in self.sources.iter_mut().filter(|source| source.key > 0) {
            source.table = number(&source.name).ok_or_else(|| source.name.clone())?;
        }
        Ok(())
    }
}

/// What a view has become at a cut, of the rows that are one worker's.
#[derive(Debug)]
pub struct Cut {
    /// The cut's epoch.
    pub epoch: Epoch,
    /// What has changed since the cut before.
    pub changes: Vec<(Row, isize)>,
    /// Something that is raised: the view does not hold. All workers know of the same.
    pub raised: Option<Raised>,
}

/// A view that runs at this worker. Its dataflow ends with it.
pub struct View {
    sources: Rc<[Source]>,
    reader: Reader,
    past: Option<InputHandle<Epoch, (usize, Row, Fate)>>,
    ear: Rc<Ear>,
    held: Held,
    cuts: Rc<RefCell<VecDeque<Cut>>>,
    probe: ProbeHandle<Epoch>,
    /// Its steps: the result, and what is read for it.
    pub steps: Vec<Step>,
    /// Timely's number of its dataflow.
    pub dataflow: usize,
    /// Timely's identifiers of its operators.
    pub operators: Range<usize>,
}

impl View {
    /// Builds it: what it hears counts from the epoch behind `since` on, where market time was `now`. All
    /// workers do so in the same order.
    pub fn build(
        worker: &mut Worker,
        definition: &Definition,
        ear: &Rc<Ear>,
        since: Epoch,
        now: Option<i64>,
    ) -> View {
        let (held, cuts, probe) = (Held::default(), Rc::default(), ProbeHandle::new());
        let sources: Rc<[Source]> = definition.sources.clone().into();
        let first = worker.peek_identifier();
        let (past, steps, dataflow) = worker.dataflow::<Epoch, _, _>(|scope| {
            let (mut past, before) = scope.new_input::<(usize, Row, Fate)>();
            // One worker hears of the time.
            if let Some(market) = sources.iter().position(|it| it.table == MARKET)
                && scope.index() == 0
            {
                past.send((market, market_row(now), Fate::New));
            }
            let (told, marks) = hear(scope, ear, Rc::clone(&sources), (since, now), &held);
            let changes = before.concat(told);
            let changes = changes
                .partition(sources.len() as u64, |(place, row, fate)| (place as u64, (row, fate)));
            let relations = changes.into_iter().zip(sources.iter()).map(|(changes, source)| {
                let first = scope.worker().peek_identifier();
                let rows = relation(changes, source.key);
                (rows, first..scope.worker().peek_identifier())
            });
            let marks = marks.broadcast();
            let mut graph = Graph {
                scope,
                sources: &sources,
                relations: relations.collect(),
                marks: marks.clone(),
                now,
                shared: HashMap::default(),
                steps: Vec::new(),
                depth: 0,
            };
            let (rows, errors) = graph.build(&definition.plan);
            let key = definition.shape.key.clone();
            at_cuts(rows, errors, marks, key, Rc::clone(&cuts)).probe_with(&probe);
            (past, graph.steps, scope.addr()[0])
        });
        View {
            sources: Rc::clone(&sources),
            reader: Reader::default(),
            past: Some(past),
            ear: Rc::clone(ear),
            held,
            cuts,
            probe,
            steps,
            dataflow,
            operators: first..worker.peek_identifier(),
        }
    }

    /// Takes in a part of the past.
    pub fn take_in(&mut self, rows: &RowBatch) {
        let Some(past) = &mut self.past else { return };
        for change in self.reader.changes(&self.sources, rows) {
            past.send(change);
        }
    }

    /// Closes a slice of the past: what it was is worked out by itself. There are as many as epochs up to
    /// where the view begins, and a slice of some 10,000 rows costs least.
    pub fn next_slice(&mut self) {
        if let Some(past) = &mut self.past {
            past.advance_to(past.time() + 1);
        }
    }

    /// There is no more of the past.
    pub fn past_is_over(&mut self) {
        self.past = None;
    }

    /// Whether all of the past was taken in.
    pub fn is_past(&self) -> bool {
        self.past.is_none()
    }

    /// What is before this is worked out; none: everything.
    pub fn frontier(&self) -> Option<Epoch> {
        self.probe.with_frontier(|frontier| frontier.first().copied())
    }

    /// What it has become with the cuts since it was asked last.
    pub fn cuts(&self) -> Vec<Cut> {
        self.cuts.borrow_mut().drain(..).collect()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        *self.held.borrow_mut() = None;
        // An operator tells that it let go only when it is scheduled.
        if let Some(activator) = &*self.ear.wake.borrow() {
            activator.activate();
        }
    }
}

/// Hands over what has changed from cut to cut; rows that share a key, or are the same, meet at one worker.
fn at_cuts<'s>(
    rows: Rows<'s>,
    errors: Errors<'s>,
    marks: Marks<'s>,
    key: Option<Vec<usize>>,
    cuts: Rc<RefCell<VecDeque<Cut>>>,
) -> Stream<'s, Epoch, Vec<()>> {
    let scope = rows.inner.scope();
    let mut builder = OperatorBuilder::new("at cuts".into(), scope);
    let mut size = StateSize::by(scope, &builder.operator_info());
    let by_key = Exchange::new(move |(row, _, _): &(Row, Epoch, isize)| match &key {
        Some(key) => key.iter().fold(0, |sum, column| hash(&(sum, &row[*column]))),
        None => hash(&row[..]),
    });
    let mut rows = builder.new_input(rows.inner, by_key);
    let mut errors = builder.new_input(errors.inner.broadcast(), Pipeline);
    let mut marks = builder.new_input(marks, Pipeline);
    let (_output, done) = builder.new_output::<Vec<()>>();
    builder.build(move |_capabilities| {
        let (mut told, mut raised) = (Vec::new(), Vec::new());
        let mut asked = BTreeSet::new();
        // Where they are many: they are added up when they have become twice as many.
        let mut room = 1 << 16;
        move |frontiers| {
            rows.for_each(|_, batch| told.append(batch));
            errors.for_each(|_, batch| raised.append(batch));
            marks.for_each(|capability, _| {
                asked.insert(*capability.least().expect("a message has a time"));
            });
            if told.len() > room {
                early(&mut told, asked.first().copied());
                room = (2 * told.len()).max(1 << 16);
            }
            while let Some(cut) = asked.first().copied()
                && !frontiers.iter().any(|frontier| frontier.less_equal(&cut))
            {
                asked.pop_first();
                let before = |changes: &mut Vec<(Row, Epoch, isize)>| {
                    let before = changes.extract_if(.., |(_, epoch, _)| *epoch <= cut);
                    before.map(|(row, _, diff)| (row, diff)).collect::<Vec<_>>()
                };
                let mut changes = before(&mut told);
                consolidate(&mut changes);
                // Of what is raised, all that there is stays.
                let mut now: Vec<(Raised, isize)> = Vec::new();
                for (error, epoch, diff) in &mut raised {
                    if *epoch <= cut {
                        *epoch = 0;
                        now.push((*error, *diff));
                    }
                }
                consolidate(&mut now);
                differential_dataflow::consolidation::consolidate_updates(&mut raised);
                let raised = now.first().map(|(error, _)| *error);
                cuts.borrow_mut().push_back(Cut { epoch: cut, changes, raised });
            }
            size.tell(|| told.len());
        }
    });
    done
}

/// Adds up what no cut tells apart: all before the first one that was asked for is of one.
fn early(changes: &mut Vec<(Row, Epoch, isize)>, cut: Option<Epoch>) {
    if let Some(cut) = cut {
        for (_, epoch, _) in changes.iter_mut().filter(|(_, epoch, _)| *epoch <= cut) {
            *epoch = 0;
        }
    }
    differential_dataflow::consolidation::consolidate_updates(changes);
}

/// The dataflow of a view while it is built.
struct Graph<'s, 'd> {
    scope: Scope<'s, Epoch>,
    sources: &'d [Source],
    /// The rows of each, and the identifiers of the operators that make them.
    relations: Vec<(Rows<'s>, Range<usize>)>,
    marks: Marks<'s>,
    now: Option<i64>,
    /// Arrangements, each made once: of a plan by keys, with those that are NULL or without.
    shared: HashMap<(Plan, Vec<Expr>, bool), (Index<'s>, Errors<'s>)>,
    steps: Vec<Step>,
    depth: usize,
}

/// Maps by a function that may raise.
fn try_map<A: Clone + 'static, B: Clone + 'static>(
    input: Collection<'_, A>,
    f: impl Fn(A) -> Result<Option<B>, Raised> + 'static,
) -> (Collection<'_, B>, Errors<'_>) {
    type Of<D> = Vec<(D, Epoch, isize)>;
    let (some, raised) =
        input.inner.ok_err::<Of<Option<B>>, _, Of<Raised>, _, _>(move |(record, epoch, diff)| {
            match f(record) {
                Ok(some) => Ok((some, epoch, diff)),
                Err(raised) => Err((raised, epoch, diff)),
            }
        });
    (some.as_collection().flat_map(|some| some), raised.as_collection())
}

// All operators that keep something are over rows by rows, and each is compiled once, whatever is done with it.

/// Each pair of rows with the same key, as what is made of the key and both.
fn joined<'s>(
    left: Index<'s>,
    right: Index<'s>,
    make: impl Fn(&Row, &Row, &Row) -> Row + 'static,
) -> Rows<'s> {
    type Make = Box<dyn Fn(&Row, &Row, &Row) -> Row>;
    fn once<'s>(left: Index<'s>, right: Index<'s>, make: Make) -> Rows<'s> {
        left.join_core(right, move |key, left, right| Some(make(key, left, right)))
    }
    once(left, right, Box::new(make))
}

/// What becomes of the rows of each key.
fn reduced<'s>(
    rows: Keyed<'s>,
    name: &str,
    logic: impl Fn(&[(&Row, isize)], &mut Vec<(Row, isize)>) + 'static,
) -> Keyed<'s> {
    type Logic = Box<dyn Fn(&[(&Row, isize)], &mut Vec<(Row, isize)>)>;
    fn once<'s>(rows: Keyed<'s>, name: &str, logic: Logic) -> Keyed<'s> {
        rows.reduce_named(name, move |_, rows, output| logic(rows, output))
    }
    once(rows, name, Box::new(logic))
}

fn distinct(rows: Rows<'_>) -> Rows<'_> {
    rows.distinct_total()
}

fn by_key(rows: Keyed<'_>) -> Index<'_> {
    rows.arrange_by_key()
}

/// Rows that are keys, with nothing.
fn by_self(rows: Rows<'_>) -> Index<'_> {
    let nothing: Row = [].into();
    by_key(rows.map(move |it| (it, Row::clone(&nothing))))
}

/// So many parts a large group is worked out in: a change reads one of them again, and what the parts gave.
const PARTS: u64 = 64;

/// The key of the part of a group that a row is in.
fn part_of(key: &[Value], row: &[Value]) -> Row {
    let part = Value::Int((hash(row) % PARTS).cast_signed());
    key.iter().cloned().chain([part]).collect()
}

/// The group of such a part.
fn whole(key: &[Value]) -> Row {
    key[..key.len() - 1].into()
}

fn row(of: &[Compiled], row: &[Value]) -> Result<Row, Raised> {
    if let [one] = of {
        return Ok(Arc::new([one(row)?]));
    }
    of.iter().map(|it| it(row)).collect()
}

fn all(expressions: &[Expr]) -> Vec<Compiled> {
    expressions.iter().map(compile).collect()
}

impl<'s> Graph<'s, '_> {
    fn none(&self) -> Errors<'s> {
        self.scope.new_collection_from(Vec::<Raised>::new()).1
    }

    /// Rows that are there from the start; one worker has them.
    fn constant(&self, rows: Vec<Row>) -> Rows<'s> {
        let here = self.scope.index() == 0;
        self.scope.new_collection_from(if here { rows } else { Vec::new() }).1
    }

    fn index(&mut self, plan: &Plan, keys: &[Expr], nulls: bool) -> (Index<'s>, Errors<'s>) {
        let of = (plan.clone(), keys.to_vec(), nulls);
        if let Some(known) = self.shared.get(&of) {
            let (depth, what) = (self.depth, format!("{}, as above", what(plan, self.sources)));
            self.steps.push(Step { depth, what, operators: 0..0 });
            return known.clone();
        }
        let (rows, errors) = self.build(plan);
        let keys = all(keys);
        let (keyed, more) = try_map(rows, move |it: Row| {
            let key = row(&keys, &it)?;
            Ok((nulls || !key.iter().any(Value::is_null)).then_some((key, it)))
        });
        let made = (by_key(keyed), errors.concat(more));
        self.shared.insert(of, made.clone());
        made
    }

    /// A plan's rows, and what working them out raises.
    fn build(&mut self, plan: &Plan) -> (Rows<'s>, Errors<'s>) {
        let (place, first) = (self.steps.len(), self.scope.worker().peek_identifier());
        let what = what(plan, self.sources);
        self.steps.push(Step { depth: self.depth, what, operators: 0..0 });
        self.depth += 1;
        let made = self.step(plan);
        self.depth -= 1;
        self.steps[place].operators = match plan {
            Plan::Scan { table, .. } => self.relations[*table].1.clone(),
            _ => first..self.scope.worker().peek_identifier(),
        };
        made
    }

    fn step(&mut self, plan: &Plan) -> (Rows<'s>, Errors<'s>) {
        match plan {
            Plan::Scan { table, .. } => (self.relations[*table].0.clone(), self.none()),
            Plan::Values(rows) => (self.constant(rows.clone()), self.none()),
            Plan::Project { input, columns } => {
                let columns = all(columns);
                self.mapped(input, move |it: Row| row(&columns, &it).map(Some))
            }
            Plan::Filter { input, condition } => {
                let condition = compile(condition);
                self.mapped(input, move |it: Row| Ok(condition(&it)?.is_true().then_some(it)))
            }
            Plan::While { input, conditions } => {
                let conditions: Vec<_> = conditions.iter().map(CompiledCondition::new).collect();
                let (rows, errors) = self.mapped(input, move |it: Row| {
                    let spans = plan::active_all(&conditions, &it)?;
                    Ok(Some((it, spans)))
                });
                // Mostly one: who looks back by months may see a row twice.
                let rows = rows.flat_map(|(it, spans)| {
                    spans.into_iter().map(move |span| (Row::clone(&it), span))
                });
                (active(rows, self.marks.clone(), self.now), errors)
            }
            Plan::Unnest { input, arrays, ordinality } => {
                let (arrays, ordinality) = (all(arrays), *ordinality);
                let (rows, errors) = self.mapped(input, move |it: Row| {
                    let arrays = arrays.iter().map(|array| array(&it));
                    let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
                    Ok(Some((it, arrays)))
                });
                (rows.flat_map(move |(it, arrays)| unnested(&it, &arrays, ordinality)), errors)
            }
            Plan::Join { kind, left, right, keys, residual } => {
                self.join(*kind, left, right, keys, residual.as_ref())
            }
            Plan::Group { input, keys, aggregates } => {
                // Two widths, each of which is compiled.
                match 1 + aggregates.iter().map(slots).sum::<usize>() {
                    0..=7 => self.group::<7>(input, keys, aggregates),
                    _ => self.group::<MOST>(input, keys, aggregates),
                }
            }
            Plan::Distinct(input) => {
                let (rows, errors) = self.build(input);
                (distinct(rows), errors)
            }
            Plan::Union(inputs) => {
                let mut both = (self.constant(Vec::new()), self.none());
                for input in inputs {
                    let (rows, errors) = self.build(input);
                    both = (both.0.concat(rows), both.1.concat(errors));
                }
                both
            }
            Plan::Set { operation, all, left, right } => {
                let ((left, errors), (right, more)) = (self.build(left), self.build(right));
                let (operation, all) = (*operation, *all);
                // Both sides in one difference: the result counts as a function of the pair.
                let left = left.explode(|it| Some((it, (1isize, 0isize))));
                let right = right.explode(|it| Some((it, (0isize, 1isize))));
                let rows = left.concat(right).threshold_semigroup(move |_, new, old| {
                    let count =
                        |(left, right): &(isize, isize)| operation.count(all, *left, *right);
                    let change = count(new) - old.map_or(0, count);
                    (change != 0).then_some(change)
                });
                (rows, errors.concat(more))
            }
            Plan::Window { input, keys, order, functions, limit } => {
                self.window(input, keys, order, functions, *limit)
            }
        }
    }

    fn mapped<D: Clone + 'static>(
        &mut self,
        input: &Plan,
        f: impl Fn(Row) -> Result<Option<D>, Raised> + 'static,
    ) -> (Collection<'s, D>, Errors<'s>) {
        let (rows, errors) = self.build(input);
        let (rows, more) = try_map(rows, f);
        (rows, errors.concat(more))
    }

    fn join(
        &mut self,
        kind: JoinKind,
        left: &Plan,
        right: &Plan,
        keys: &[(Expr, Expr)],
        residual: Option<&Expr>,
    ) -> (Rows<'s>, Errors<'s>) {
        let nulls: Row = std::iter::repeat_n(Value::Null, right.arity()).collect();
        let arity = left.arity();
        let (of_left, of_right): (Vec<_>, Vec<_>) = keys.iter().cloned().unzip();
        let (right, errors) = self.index(right, &of_right, false);
        // What is kept without a match is kept with a key that is NULL, too.
        let keeps = matches!(kind, JoinKind::Left | JoinKind::Anti);
        let (left, more) = self.index(left, &of_left, keeps);
        let mut errors = errors.concat(more);
        let lefts = left.clone().as_collection(|_, it| Row::clone(it));
        let pairs = || joined(left.clone(), right.clone(), |_, left, right| both(left, right));
        let (inner, matched) = if let Some(residual) = residual {
            let residual = compile(residual);
            let (pairs, more) =
                try_map(pairs(), move |it: Row| Ok(residual(&it)?.is_true().then_some(it)));
            errors = errors.concat(more);
            if kind == JoinKind::Inner {
                return (pairs, errors);
            }
            // Which rows have a match is known only now.
            let matched = distinct(pairs.clone().map(move |it| it[..arity].into()));
            let again = by_self(lefts.clone());
            (pairs, joined(again, by_self(matched), |it, _, _| Row::clone(it)))
        } else {
            if kind == JoinKind::Inner {
                return (pairs(), errors);
            }
            let present = distinct(right.clone().as_collection(|key, _| Row::clone(key)));
            let matched = joined(left.clone(), by_self(present), |_, it, _| Row::clone(it));
            (if kind == JoinKind::Left { pairs() } else { self.constant(Vec::new()) }, matched)
        };
        let rows = match kind {
            JoinKind::Semi => matched,
            JoinKind::Anti => lefts.concat(matched.negate()),
            _ => inner.concat(lefts.concat(matched.negate()).map(move |it| both(&it, &nulls))),
        };
        (rows, errors)
    }

    fn window(
        &mut self,
        input: &Plan,
        keys: &[Expr],
        order: &[Order],
        functions: &[WindowFunction],
        limit: Option<Limit>,
    ) -> (Rows<'s>, Errors<'s>) {
        let keys = all(keys);
        let by: Vec<Compiled> = order.iter().map(|it| compile(&it.by)).collect();
        let functions: Rc<[Placed]> = functions.iter().map(Placed::of).collect();
        let of = Rc::new(InWindow {
            flags: order.iter().map(|it| (it.descending, it.nulls_first)).collect(),
            columns: by.len()..by.len() + input.arity(),
        });
        // What lag gives is worked out with the row: to raise it is the row's.
        let values = Rc::clone(&functions);
        let (mut rows, errors) = self.mapped(input, move |it: Row| {
            let values = values.iter().filter_map(Placed::value);
            let before = by.iter().map(|by| by(&it));
            let after = values.map(|value| value(&it));
            let columns = it.iter().cloned().map(Ok);
            let in_window = before.chain(columns).chain(after).collect::<Result<Row, _>>()?;
            Ok(Some((row(&keys, &it)?, in_window)))
        });
        if let Some(limit) = limit
            && functions.iter().all(|it| it.value().is_none())
        {
            let (of, functions) = (Rc::clone(&of), Rc::clone(&functions));
            let parts = rows.map(|(key, it)| (part_of(&key, &it), it));
            let first = reduced(parts, "parts of windows", move |rows, output| {
                let numbers = of.numbered(rows);
                let kept = numbers.take_while(|(_, numbers)| numbers.of(&functions, limit));
                output.extend(kept.map(|(it, _)| (Row::clone(it), 1)));
                consolidate(output);
            });
            rows = first.map(|(key, it)| (whole(&key), it));
        }
        let rows = reduced(rows, "windows", move |rows, output| {
            let all: Vec<_> = of.numbered(rows).collect();
            for (place, (it, numbers)) in all.iter().enumerate() {
                if limit.is_some_and(|limit| !numbers.of(&functions, limit)) {
                    continue;
                }
                let mut nth = of.columns.end;
                let values = functions.iter().map(|function| match function {
                    Placed::RowNumber => Value::Int(numbers.row_number),
                    Placed::Rank => Value::Int(numbers.rank),
                    Placed::Lag(_, offset, default) => {
                        nth += 1;
                        let other = (place as i64).checked_sub(*offset);
                        let other = other.and_then(|place| all.get(usize::try_from(place).ok()?));
                        other.map_or_else(|| default.clone(), |(it, _)| it[nth - 1].clone())
                    }
                });
                output.push((it[of.columns.clone()].iter().cloned().chain(values).collect(), 1));
            }
            consolidate(output);
        });
        (rows.map(|(_, row)| row), errors)
    }

    fn group<const N: usize>(
        &mut self,
        input: &Plan,
        keys: &[Expr],
        aggregates: &[Aggregate],
    ) -> (Rows<'s>, Errors<'s>) {
        let (rows, mut errors) = self.build(input);
        let by: Rc<[Compiled]> = all(keys).into();
        let parts: Rc<[Part]> = parts(aggregates).into();

        // All that adds up, in the difference of its group.
        let (of, summed) = (Rc::clone(&by), Rc::clone(&parts));
        let (sums, more) = try_map(rows.clone(), move |it: Row| {
            let mut totals = [0; N];
            totals[0] = 1;
            for part in summed.iter().filter(|part| part.is_plain()) {
                part.kind.add(&part.seen(&it)?, &mut totals[part.slot..]);
            }
            Ok(Some((row(&of, &it)?, Totals(totals))))
        });
        errors = errors.concat(more);
        let mut sums = sums.explode(|(key, totals)| Some((key, totals)));

        // DISTINCT: each value of a group once, and then the same.
        for place in (0..parts.len()).filter(|place| parts[*place].distinct) {
            let (of, part) = (Rc::clone(&by), Rc::clone(&parts));
            let (values, more) = try_map(rows.clone(), move |it: Row| {
                let value = part[place].seen(&it)?;
                Ok(if value.is_null() { None } else { Some(both(&row(&of, &it)?, &[value])) })
            });
            errors = errors.concat(more);
            let (kind, slot) = (parts[place].kind, parts[place].slot);
            sums = sums.concat(distinct(values).explode(move |it| {
                let (value, key) = it.split_last().expect("the value stands behind the keys");
                let mut totals = [0; N];
                kind.add(value, &mut totals[slot..]);
                Some((key.into(), Totals(totals)))
            }));
        }
        let results = Rc::clone(&parts);
        let (groups, more) = try_map(sums.count_total(), move |(key, totals): (Row, Totals<N>)| {
            let results = results.iter().map(|part| part.kind.result(&totals.0[part.slot..]));
            Ok(Some((key, results.collect::<Result<Row, _>>()?)))
        });
        errors = errors.concat(more);

        let extremes: Rc<[usize]> =
            (0..parts.len()).filter(|place| parts[*place].is_extreme()).collect();
        let mut result = if extremes.is_empty() {
            groups.map(|(key, values)| both(&key, &values))
        } else {
            let (of, parts_of, places) = (by, Rc::clone(&parts), Rc::clone(&extremes));
            let (values, more) = try_map(rows, move |it: Row| {
                let values = places.iter().map(|place| parts_of[*place].seen(&it));
                Ok(Some((row(&of, &it)?, values.collect::<Result<Row, _>>()?)))
            });
            errors = errors.concat(more);
            let greatest: Rc<[bool]> =
                extremes.iter().map(|place| parts[*place].kind == AggregateKind::Max).collect();
            let again = Rc::clone(&greatest);
            let parts = values.map(|(key, values)| (part_of(&key, &values), values));
            let best = reduced(parts, "extremes of parts", move |rows, output| {
                output.push((extreme(rows, &greatest), 1));
            });
            let best = best.map(|(key, values)| (whole(&key), values));
            let best = reduced(best, "extremes", move |rows, output| {
                output.push((extreme(rows, &again), 1));
            });
            joined(by_key(groups), by_key(best), move |key, values, best| {
                let mut values = values.to_vec();
                for (place, best) in extremes.iter().zip(best.iter()) {
                    values[*place] = best.clone();
                }
                both(key, &values)
            })
        };

        // Without keys there is a row of nothing, too.
        if keys.is_empty() {
            let nothing = parts.iter().map(|part| part.kind.result(&[0; 2]));
            let nothing: Row = nothing.map(|it| it.unwrap_or(Value::Null)).collect();
            let instead = Row::clone(&nothing);
            let instead = result.clone().map(move |_| Row::clone(&instead)).negate();
            result = result.concat(self.constant(vec![nothing])).concat(instead);
        }
        (result, errors)
    }
}

/// Both rows' columns.
fn both(left: &[Value], right: &[Value]) -> Row {
    left.iter().chain(right).cloned().collect()
}

/// A row with each place of its arrays.
fn unnested(row: &Row, arrays: &[Value], ordinality: bool) -> Vec<Row> {
    let items = |array: &Value| match array {
        Value::Array(items) => Arc::clone(items),
        _ => Arc::new([]),
    };
    let arrays: Vec<Arc<[Value]>> = arrays.iter().map(items).collect();
    let longest = arrays.iter().map(|items| items.len()).max().unwrap_or(0);
    let at = |place: usize| {
        let items = arrays.iter().map(|items| items.get(place).unwrap_or(&Value::Null).clone());
        let number = ordinality.then(|| Value::Int(place as i64 + 1));
        row.iter().cloned().chain(items).chain(number).collect()
    };
    (0..longest).map(at).collect()
}

/// A function of a window, ready to be evaluated.
enum Placed {
    RowNumber,
    Rank,
    Lag(Compiled, i64, Value),
}

impl Placed {
    fn of(function: &WindowFunction) -> Placed {
        match function {
            WindowFunction::RowNumber => Placed::RowNumber,
            WindowFunction::Rank => Placed::Rank,
            WindowFunction::Lag { value, offset, default } => {
                Placed::Lag(compile(value), *offset, default.clone())
            }
        }
    }

    fn value(&self) -> Option<&Compiled> {
        if let Placed::Lag(value, ..) = self { Some(value) } else { None }
    }
}

/// How the rows of a window are written: by what each stands there, its columns, and what lag gives of it.
struct InWindow {
    /// Of what it stands there by: whether greater ones come first, and NULL.
    flags: Vec<(bool, bool)>,
    /// The places of its columns.
    columns: Range<usize>,
}

/// Where a row stands in its window.
#[derive(Clone, Copy)]
struct Numbers {
    row_number: i64,
    rank: i64,
}

impl Numbers {
    /// Whether a limit keeps it.
    fn of(self, functions: &[Placed], limit: Limit) -> bool {
        let number = match functions[limit.function] {
            Placed::Rank => self.rank,
            _ => self.row_number,
        };
        number <= limit.count
    }
}

impl InWindow {
    /// The rows of a window in its order, each as often as it is there, with their numbers.
    fn numbered<'r>(
        &self,
        rows: &[(&'r Row, isize)],
    ) -> impl Iterator<Item = (&'r Row, Numbers)> + use<'r> {
        let mut sorted = rows.to_vec();
        let by = |it: &'r Row| &it[..self.columns.start];
        let order = |a, b| in_order(by(a), by(b), self.flags.iter().copied());
        let columns = |it: &'r Row| &it[self.columns.clone()];
        sorted.sort_by(|(a, _), (b, _)| order(a, b).then_with(|| columns(a).cmp(columns(b))));
        let mut ranks = Vec::with_capacity(sorted.len());
        let mut before = 0;
        for (place, (of, count)) in sorted.iter().enumerate() {
            let ties = place > 0 && order(sorted[place - 1].0, of).is_eq();
            ranks.push(if ties { ranks[place - 1] } else { before + 1 });
            before += *count as i64;
        }
        let copies = sorted
            .into_iter()
            .zip(ranks)
            .flat_map(|((of, count), rank)| std::iter::repeat_n((of, rank), count.max(0) as usize));
        copies.zip(1..).map(|((of, rank), row_number)| (of, Numbers { row_number, rank }))
    }
}

/// An aggregate, ready to be evaluated, with the place of its sums.
struct Part {
    kind: AggregateKind,
    distinct: bool,
    slot: usize,
    argument: Option<Compiled>,
    filter: Option<Compiled>,
}

fn parts(aggregates: &[Aggregate]) -> Vec<Part> {
    // The first counts the group's rows.
    let mut next = 1;
    let part = |aggregate: &Aggregate| {
        let slot = next;
        next += slots(aggregate);
        Part {
            kind: aggregate.kind,
            // The extremes are those of distinct values, too.
            distinct: aggregate.distinct && slots(aggregate) > 0,
            slot,
            argument: aggregate.argument.as_ref().map(compile),
            filter: aggregate.filter.as_ref().map(compile),
        }
    };
    aggregates.iter().map(part).collect()
}

/// So many sums a group has at the most: how many rows there are, and two an aggregate.
const MOST: usize = 1 + 2 * AGGREGATES;

/// How many sums an aggregate has: of what is counted, and what it adds up to.
fn slots(aggregate: &Aggregate) -> usize {
    match aggregate.kind {
        AggregateKind::CountRows | AggregateKind::Count => 1,
        AggregateKind::Min | AggregateKind::Max => 0,
        _ => 2,
    }
}

impl Part {
    fn is_extreme(&self) -> bool {
        matches!(self.kind, AggregateKind::Min | AggregateKind::Max)
    }

    fn is_plain(&self) -> bool {
        !self.distinct && !self.is_extreme()
    }

    /// What it sees of a row; NULL where that is nothing.
    fn seen(&self, row: &[Value]) -> Result<Value, Raised> {
        match &self.filter {
            Some(filter) if !filter(row)?.is_true() => Ok(Value::Null),
            _ => self.argument.as_ref().map_or(Ok(Value::Int(1)), |argument| argument(row)),
        }
    }
}

impl AggregateKind {
    /// Adds a value.
    fn add(self, value: &Value, sums: &mut [i128]) {
        if value.is_null() {
            return;
        }
        sums[0] = 1;
        match (self, value) {
            (AggregateKind::SumBigint | AggregateKind::SumNumeric, Value::Int(number)) => {
                sums[1] = i128::from(*number);
            }
            (AggregateKind::SumNumeric, Value::Numeric(number)) => sums[1] = **number,
            (AggregateKind::BoolAnd, Value::Bool(false))
            | (AggregateKind::BoolOr, Value::Bool(true)) => sums[1] = 1,
            _ => {}
        }
    }

    /// What the sums of a group say.
    fn result(self, sums: &[i128]) -> Result<Value, Raised> {
        Ok(match self {
            AggregateKind::CountRows | AggregateKind::Count => Value::Int(sums[0] as i64),
            AggregateKind::Min | AggregateKind::Max => Value::Null,
            _ if sums[0] == 0 => Value::Null,
            AggregateKind::SumBigint => {
                let sum = i64::try_from(sums[1]);
                Value::Int(sum.map_err(|_| Raised::BigintOutOfRange)?)
            }
            AggregateKind::SumNumeric => Value::numeric(sums[1]),
            AggregateKind::BoolAnd => Value::Bool(sums[1] == 0),
            AggregateKind::BoolOr => Value::Bool(sums[1] > 0),
        })
    }
}

/// The greatest, or least, of each column that is not NULL.
fn extreme(rows: &[(&Row, isize)], greatest: &[bool]) -> Row {
    let of = |(column, greatest): (usize, &bool)| {
        let values = rows.iter().map(|(row, _)| &row[column]).filter(|it| !it.is_null());
        let best = if *greatest { values.max() } else { values.min() };
        best.cloned().unwrap_or(Value::Null)
    };
    greatest.iter().enumerate().map(of).collect()
}

impl Plan {
    /// Does something with the place of each relation that it reads.
    fn each_scan(&mut self, of: &mut impl FnMut(&mut usize)) {
        match self {
            Plan::Scan { table, .. } => of(table),
            _ => self.inputs_mut().into_iter().for_each(|input| input.each_scan(of)),
        }
    }
}
