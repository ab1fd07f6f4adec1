//! A plan as a dataflow: its rows, and beside them what was raised.
//!
//! Errors travel as data, with the time and the difference of what raised them: so a view heals when the
//! row that it failed on goes. All operators are differential's own, but for the three of `hearing.rs`.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, Hash};

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
use timely::dataflow::operators::vec::{Broadcast, Input as _};
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
use super::sums::Totals;
use super::value::{Raised, Row, Value};
use crate::operators::HashMap;
use crate::row::{Fate, RowBatch};
use crate::{Collection, Epoch};

/// Rows that change.
pub(super) type Rows<'s> = Collection<'s, Row>;
/// The cuts, with `now` in PostgreSQL's microseconds.
pub(super) type Marks<'s> = Stream<'s, Epoch, Vec<Option<i64>>>;
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
    /// The relations of which the plan speaks, by their places.
    pub sources: Vec<Source>,
}

impl Definition {
    /// The relations that it reads.
    pub fn read(&self) -> Vec<Source> {
        self.plan.scans().into_iter().map(|place| self.sources[place].clone()).collect()
    }

    /// The numbers of their tables.
    pub fn tables(&self) -> BTreeSet<u16> {
        self.read().iter().map(|source| source.table).collect()
    }

    /// Gives the relations that are results the numbers of their tables; an error names one that it reads
    /// and that has none.
    pub fn numbered(&mut self, number: impl Fn(&str) -> Option<u16>) -> Result<(), String> {
        let read = self.plan.scans();
        for (place, source) in self.sources.iter_mut().enumerate().filter(|(_, it)| it.key > 0) {
            match number(&source.name) {
                Some(number) => source.table = number,
                None if read.contains(&place) => return Err(source.name.clone()),
                None => {}
            }
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
        let past = worker.dataflow::<Epoch, _, _>(|scope| {
            let (mut past, before) = scope.new_input::<(usize, Row, Fate)>();
            // One worker hears of the time.
            if let Some(market) = sources.iter().position(|it| it.table == MARKET)
                && scope.index() == 0
            {
                past.send((market, market_row(now), Fate::New));
            }
            let (told, marks) = hear(scope, ear, Rc::clone(&sources), (since, now), &held);
            let changes = before.concat(told);
            let marks = marks.broadcast();
            let mut graph = Graph {
                scope,
                sources: &sources,
                changes,
                marks: marks.clone(),
                now,
                relations: HashMap::default(),
                shared: HashMap::default(),
            };
            let (rows, errors) = graph.build(&definition.plan);
            let key = definition.shape.key.clone();
            at_cuts(rows, errors, marks, key, Rc::clone(&cuts)).probe_with(&probe);
            past
        });
        let reader = Reader::default();
        View { sources, reader, past: Some(past), ear: Rc::clone(ear), held, cuts, probe }
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
    let mut builder = OperatorBuilder::new("at cuts".into(), rows.inner.scope());
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
    changes: Stream<'s, Epoch, Vec<(usize, Row, Fate)>>,
    marks: Marks<'s>,
    now: Option<i64>,
    relations: HashMap<usize, Rows<'s>>,
    /// Arrangements, each made once: of a plan by keys, with those that are NULL or without.
    shared: HashMap<(Plan, Vec<Expr>, bool), (Index<'s>, Errors<'s>)>,
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
            return known.clone();
        }
        let (rows, errors) = self.build(plan);
        let keys = all(keys);
        let (keyed, more) = try_map(rows, move |it: Row| {
            let key = row(&keys, &it)?;
            Ok((nulls || !key.iter().any(Value::is_null)).then_some((key, it)))
        });
        let made = (keyed.arrange_by_key(), errors.concat(more));
        self.shared.insert(of, made.clone());
        made
    }

    /// A plan's rows, and what working them out raises.
    fn build(&mut self, plan: &Plan) -> (Rows<'s>, Errors<'s>) {
        match plan {
            Plan::Scan { table, .. } => (self.relation(*table), self.none()),
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
                (rows.distinct_total(), errors)
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

    fn relation(&mut self, place: usize) -> Rows<'s> {
        let (changes, key) = (&self.changes, self.sources[place].key);
        let made = || relation(changes.clone(), place, key);
        self.relations.entry(place).or_insert_with(made).clone()
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
        let (of_left, of_right): (Vec<_>, Vec<_>) = keys.iter().cloned().unzip();
        let (right, errors) = self.index(right, &of_right, false);
        // What is kept without a match is kept with a key that is NULL, too.
        let keeps = matches!(kind, JoinKind::Left | JoinKind::Anti);
        let (left, more) = self.index(left, &of_left, keeps);
        let errors = errors.concat(more);
        let lefts = left.clone().as_collection(|_, it| Row::clone(it));
        let (inner, matched, errors) = if let Some(residual) = residual {
            let residual = compile(residual);
            let pairs = left.join_core(right, |_, a, b| Some((Row::clone(a), Row::clone(b))));
            let (pairs, more) = try_map(pairs, move |(a, b): (Row, Row)| {
                Ok(residual(&both(&a, &b))?.is_true().then_some((a, b)))
            });
            let errors = errors.concat(more);
            let inner = pairs.clone().map(|(a, b)| both(&a, &b));
            if kind == JoinKind::Inner {
                return (inner, errors);
            }
            // Which rows have a match is known only now.
            let matched = pairs.map(|(a, _)| a).distinct_total().arrange_by_self();
            let matched = lefts
                .clone()
                .arrange_by_self()
                .join_core(matched, |it, (), ()| Some(Row::clone(it)));
            (inner, matched, errors)
        } else {
            let inner = || left.clone().join_core(right.clone(), |_, a, b| Some(both(a, b)));
            if kind == JoinKind::Inner {
                return (inner(), errors);
            }
            let present = right.clone().as_collection(|key, _| Row::clone(key));
            let present = present.distinct_total().arrange_by_self();
            let matched = left.clone().join_core(present, |_, it, ()| Some(Row::clone(it)));
            let inner = if kind == JoinKind::Left { inner() } else { self.constant(Vec::new()) };
            (inner, matched, errors)
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
        let flags: Rc<[(bool, bool)]> =
            order.iter().map(|it| (it.descending, it.nulls_first)).collect();
        let functions: Rc<[Placed]> = functions.iter().map(Placed::of).collect();
        // What lag gives is worked out with the row: to raise it is the row's.
        let values = Rc::clone(&functions);
        let (rows, errors) = self.mapped(input, move |it: Row| {
            let values = values.iter().filter_map(Placed::value).map(|value| value(&it));
            let values = values.collect::<Result<Row, _>>()?;
            Ok(Some((row(&keys, &it)?, (row(&by, &it)?, it, values))))
        });
        let mut rows = rows;
        // The first of 64 parts of a window first: then a change reads one part again, and 64 heads.
        if let Some(limit) = limit
            && functions.iter().all(|it| it.value().is_none())
        {
            let (flags, functions) = (Rc::clone(&flags), Rc::clone(&functions));
            rows = rows
                .map(|(key, of)| ((key, hash(&of) % 64), of))
                .reduce_named("parts of windows", move |_, rows, output| {
                    let numbers = numbered(rows, &flags);
                    let kept = numbers.take_while(|(_, numbers)| numbers.of(&functions, limit));
                    output.extend(kept.map(|(of, _)| (of.clone(), 1)));
                    consolidate(output);
                })
                .map(|((key, _), of)| (key, of));
        }
        let rows = rows.reduce_named("windows", move |_, rows, output| {
            let all: Vec<_> = numbered(rows, &flags).collect();
            for (place, (of, numbers)) in all.iter().enumerate() {
                if limit.is_some_and(|limit| !numbers.of(&functions, limit)) {
                    continue;
                }
                let mut nth = 0;
                let values = functions.iter().map(|function| match function {
                    Placed::RowNumber => Value::Int(numbers.row_number),
                    Placed::Rank => Value::Int(numbers.rank),
                    Placed::Lag(_, offset, default) => {
                        nth += 1;
                        let other = (place as i64).checked_sub(*offset);
                        let other = other.and_then(|place| all.get(usize::try_from(place).ok()?));
                        other.map_or_else(|| default.clone(), |(of, _)| of.2[nth - 1].clone())
                    }
                });
                let row: Row = of.1.iter().cloned().chain(values).collect();
                output.push((row, 1));
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
                Ok(if value.is_null() { None } else { Some((row(&of, &it)?, value)) })
            });
            errors = errors.concat(more);
            let (kind, slot) = (parts[place].kind, parts[place].slot);
            sums = sums.concat(values.distinct_total().explode(move |(key, value)| {
                let mut totals = [0; N];
                kind.add(&value, &mut totals[slot..]);
                Some((key, Totals(totals)))
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
            // In two steps: a change reads a part of its group again, and the best of the parts.
            let best = values
                .map(|(key, values)| ((key, hash(&values) % 64), values))
                .reduce_named("extremes of parts", move |_, rows, output| {
                    output.push((extreme(rows, &greatest), 1));
                })
                .map(|((key, _), values)| (key, values))
                .reduce_named("extremes", move |_, rows, output| {
                    output.push((extreme(rows, &again), 1));
                });
            let best = best.arrange_by_key();
            groups.arrange_by_key().join_core(best, move |key, values, best| {
                let mut values = values.to_vec();
                for (place, best) in extremes.iter().zip(best.iter()) {
                    values[*place] = best.clone();
                }
                Some(both(key, &values))
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

/// A row in a window: by what it stands there, its columns, and what lag gives of it.
type InWindow = (Row, Row, Row);

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

/// The rows of a window in its order, each as often as it is there, with their numbers.
fn numbered<'r>(
    rows: &[(&'r InWindow, isize)],
    flags: &[(bool, bool)],
) -> impl Iterator<Item = (&'r InWindow, Numbers)> {
    let mut sorted = rows.to_vec();
    let order = |a: &InWindow, b: &InWindow| in_order(&a.0, &b.0, flags.iter().copied());
    sorted.sort_by(|(a, _), (b, _)| order(a, b).then_with(|| a.1.cmp(&b.1)));
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
    /// The places of the relations that it reads.
    pub(super) fn scans(&self) -> BTreeSet<usize> {
        match self {
            Plan::Scan { table, .. } => BTreeSet::from([*table]),
            _ => self.inputs().into_iter().flat_map(Plan::scans).collect(),
        }
    }
}
