//! The plan of a view: what PostgreSQL's tree is lowered to, and what a dataflow evaluates.

use serde::{Deserialize, Serialize};

use super::expr::{Comparison, Compiled, Expr, Func, compile};
use super::value::{DAY, Raised, Row, Unit, Value, ZONE_AHEAD, ZONE_SINCE};

/// What a join keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JoinKind {
    /// Pairs that match.
    Inner,
    /// Pairs that match, and what is left on the left side, with NULLs.
    Left,
    /// The left rows that have a match: EXISTS.
    Semi,
    /// The left rows that have none: NOT EXISTS.
    Anti,
}

/// An operation on two multisets of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SetOperation {
    /// EXCEPT
    Except,
    /// INTERSECT
    Intersect,
}

impl SetOperation {
    /// How often a row is in the result that is so often in the left and the right input.
    pub fn count(self, all: bool, left: isize, right: isize) -> isize {
        match (self, all) {
            (SetOperation::Except, true) => (left - right).max(0),
            (SetOperation::Except, false) => isize::from(left > 0 && right <= 0),
            (SetOperation::Intersect, true) => left.min(right).max(0),
            (SetOperation::Intersect, false) => isize::from(left > 0 && right > 0),
        }
    }
}

/// What an aggregate computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AggregateKind {
    /// `count(*)`
    CountRows,
    /// `count` of what is not NULL.
    Count,
    /// `sum` of smallint and integer: a bigint, and beyond that it raises.
    SumBigint,
    /// `sum` of bigint and numeric: a numeric.
    SumNumeric,
    /// `bool_and` and `every`
    BoolAnd,
    /// `bool_or`
    BoolOr,
    /// `min`
    Min,
    /// `max`
    Max,
}

/// So many aggregates a group may have: each has its place among the sums that the group's difference is.
pub const AGGREGATES: usize = 20;

/// An aggregate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Aggregate {
    /// What it computes.
    pub kind: AggregateKind,
    /// Whether equal values count once.
    pub distinct: bool,
    /// Of what; nothing for [`AggregateKind::CountRows`].
    pub argument: Option<Expr>,
    /// Only of the rows for which this is true; the argument is not evaluated for others.
    pub filter: Option<Expr>,
}

/// An expression of an ORDER BY.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Order {
    /// By what.
    pub by: Expr,
    /// Greater ones first.
    pub descending: bool,
    /// NULL before all others.
    pub nulls_first: bool,
}

/// The order of two rows by the values of their [`Order`]s, with the flags of these.
pub fn in_order(
    left: &[Value],
    right: &[Value],
    flags: impl IntoIterator<Item = (bool, bool)>,
) -> std::cmp::Ordering {
    for ((left, right), (descending, nulls_first)) in left.iter().zip(right).zip(flags) {
        let order = match (left.is_null(), right.is_null()) {
            (true, false) | (false, true) if nulls_first => right.is_null().cmp(&left.is_null()),
            (false, false) if descending => right.cmp(left),
            // NULL is the last of the values.
            _ => left.cmp(right),
        };
        if order.is_ne() {
            return order;
        }
    }
    std::cmp::Ordering::Equal
}

/// A function over the rows of a window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WindowFunction {
    /// `row_number()`
    RowNumber,
    /// `rank()`
    Rank,
    /// `lag`; with a negative offset `lead`.
    Lag {
        /// Of what.
        value: Expr,
        /// How many rows before.
        offset: i64,
        /// Where there is no such row.
        default: Value,
    },
}

/// Which rows of a window are kept: those whose number or rank is not above a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Limit {
    /// The place of the function among the window's; `RowNumber` or `Rank`.
    pub function: usize,
    /// The bound.
    pub count: i64,
}

/// A condition on the market's time: `at <comparison> bound(now)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WhileCondition {
    /// The row's side.
    pub at: Expr,
    /// One of `<`, `<=`, `>`, `>=`.
    pub comparison: Comparison,
    /// The other side, over a row with the market's time as its only column.
    pub bound: Expr,
}

/// A plan. Rows are multisets throughout: a row may be there several times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Plan {
    /// The rows of a table.
    Scan {
        /// Its place in the catalog.
        table: usize,
        /// Its number of columns.
        arity: usize,
        /// Columns that together are unique; none if it is not known of any.
        key: Vec<usize>,
    },
    /// Constant rows, all of one length. `SELECT 1` reads one row without columns.
    Values(Vec<Row>),
    /// Other columns.
    Project {
        /// Of which rows.
        input: Box<Plan>,
        /// The columns.
        columns: Vec<Expr>,
    },
    /// The rows for which a condition is true.
    Filter {
        /// Of which rows.
        input: Box<Plan>,
        /// The condition.
        condition: Expr,
    },
    /// The rows while conditions on the market's time hold.
    While {
        /// Of which rows.
        input: Box<Plan>,
        /// The conditions, all of which must hold.
        conditions: Vec<WhileCondition>,
    },
    /// Each row with each place of its arrays: the row's columns, then an element of each array
    /// (NULL behind the end of a shorter one), then the place from 1.
    Unnest {
        /// Of which rows.
        input: Box<Plan>,
        /// The arrays.
        arrays: Vec<Expr>,
        /// Whether there is a column for the place.
        ordinality: bool,
    },
    /// Pairs of rows: the left columns, then (inner and left) the right ones.
    Join {
        /// What is kept.
        kind: JoinKind,
        /// One side.
        left: Box<Plan>,
        /// The other.
        right: Box<Plan>,
        /// What must be equal and not NULL, over the left and over the right row. Without keys,
        /// every pair matches.
        keys: Vec<(Expr, Expr)>,
        /// What else must be true, over the columns of both.
        residual: Option<Expr>,
    },
    /// A row for each group: the keys, then the aggregates. Without keys there is one row, always.
    Group {
        /// Of which rows.
        input: Box<Plan>,
        /// The keys, among which NULL equals NULL.
        keys: Vec<Expr>,
        /// The aggregates.
        aggregates: Vec<Aggregate>,
    },
    /// Each row once.
    Distinct(Box<Plan>),
    /// The rows of all of them: UNION ALL.
    Union(Vec<Plan>),
    /// EXCEPT and INTERSECT, whose result counts as [`SetOperation::count`] says.
    Set {
        /// Which of them.
        operation: SetOperation,
        /// Whether rows count as often as they are there.
        all: bool,
        /// One side.
        left: Box<Plan>,
        /// The other.
        right: Box<Plan>,
    },
    /// The input's columns, then the functions over each row's window.
    Window {
        /// Of which rows.
        input: Box<Plan>,
        /// Rows with equal keys are one window.
        keys: Vec<Expr>,
        /// In which order they stand; where the result depends on it, it leaves nothing open.
        order: Vec<Order>,
        /// The functions.
        functions: Vec<WindowFunction>,
        /// Which rows are kept.
        limit: Option<Limit>,
    },
}

impl Plan {
    /// The number of columns.
    pub fn arity(&self) -> usize {
        match self {
            Plan::Scan { arity, .. } => *arity,
            Plan::Values(rows) => rows.first().map_or(0, |row| row.len()),
            Plan::Project { columns, .. } => columns.len(),
            Plan::Filter { input, .. } | Plan::While { input, .. } | Plan::Distinct(input) => {
                input.arity()
            }
            Plan::Unnest { input, arrays, ordinality } => {
                input.arity() + arrays.len() + usize::from(*ordinality)
            }
            Plan::Join { kind: JoinKind::Inner | JoinKind::Left, left, right, .. } => {
                left.arity() + right.arity()
            }
            Plan::Join { left, .. } | Plan::Set { left, .. } => left.arity(),
            Plan::Group { keys, aggregates, .. } => keys.len() + aggregates.len(),
            Plan::Union(inputs) => inputs.first().map_or(0, Plan::arity),
            Plan::Window { input, functions, .. } => input.arity() + functions.len(),
        }
    }

    /// Columns of the result that together are unique at any time, NULL being equal to NULL; none
    /// of them if there is at most one row.
    pub fn key(&self) -> Option<Vec<usize>> {
        match self {
            Plan::Scan { key, .. } => (!key.is_empty()).then(|| key.clone()),
            Plan::Values(rows) => {
                if rows.len() <= 1 {
                    return Some(vec![]);
                }
                let distinct = rows.iter().collect::<std::collections::BTreeSet<_>>();
                (distinct.len() == rows.len()).then(|| (0..self.arity()).collect())
            }
            Plan::Project { input, columns } => {
                let kept = |key| columns.iter().position(|column| *column == Expr::Column(key));
                input.key()?.into_iter().map(kept).collect()
            }
            Plan::Filter { input, .. } | Plan::While { input, .. } => input.key(),
            Plan::Unnest { input, ordinality, .. } => {
                let mut key = input.key().filter(|_| *ordinality)?;
                key.push(self.arity() - 1);
                Some(key)
            }
            Plan::Join { kind: JoinKind::Semi | JoinKind::Anti, left, .. } => left.key(),
            Plan::Join { left, right, keys, .. } => {
                let (mut key, theirs) = (left.key()?, right.key()?);
                // Where the right key is compared, there is at most one match.
                let compared =
                    |column: &usize| keys.iter().any(|(_, right)| *right == Expr::Column(*column));
                if !theirs.iter().all(compared) {
                    key.extend(theirs.into_iter().map(|column| left.arity() + column));
                }
                Some(key)
            }
            Plan::Group { keys, .. } => Some((0..keys.len()).collect()),
            Plan::Distinct(input) => input.key().or_else(|| Some((0..input.arity()).collect())),
            Plan::Union(_) => None,
            Plan::Set { all, left, .. } => {
                left.key().or_else(|| (!all).then(|| (0..left.arity()).collect()))
            }
            Plan::Window { input, keys, functions, limit, .. } => {
                let first = limit.filter(|limit| {
                    limit.count <= 1
                        && functions.get(limit.function) == Some(&WindowFunction::RowNumber)
                });
                let column = |key: &Expr| match key {
                    Expr::Column(column) => Some(*column),
                    _ => None,
                };
                let one_each = first.and_then(|_| keys.iter().map(column).collect());
                one_each.or_else(|| input.key())
            }
        }
    }

    /// The plans it reads.
    pub fn inputs(&self) -> Vec<&Plan> {
        match self {
            Plan::Scan { .. } | Plan::Values(_) => vec![],
            Plan::Project { input, .. }
            | Plan::Filter { input, .. }
            | Plan::While { input, .. }
            | Plan::Unnest { input, .. }
            | Plan::Group { input, .. }
            | Plan::Window { input, .. }
            | Plan::Distinct(input) => vec![input],
            Plan::Join { left, right, .. } | Plan::Set { left, right, .. } => vec![left, right],
            Plan::Union(inputs) => inputs.iter().collect(),
        }
    }

    pub(super) fn inputs_mut(&mut self) -> Vec<&mut Plan> {
        match self {
            Plan::Scan { .. } | Plan::Values(_) => vec![],
            Plan::Project { input, .. }
            | Plan::Filter { input, .. }
            | Plan::While { input, .. }
            | Plan::Unnest { input, .. }
            | Plan::Group { input, .. }
            | Plan::Window { input, .. }
            | Plan::Distinct(input) => vec![input],
            Plan::Join { left, right, .. } | Plan::Set { left, right, .. } => vec![left, right],
            Plan::Union(inputs) => inputs.iter_mut().collect(),
        }
    }

    /// Of how many nodes it is made.
    pub fn size(&self) -> usize {
        1 + self.inputs().into_iter().map(Plan::size).sum::<usize>()
    }

    /// Whether it reads no table.
    pub fn is_constant(&self) -> bool {
        !matches!(self, Plan::Scan { .. }) && self.inputs().into_iter().all(Plan::is_constant)
    }

    /// The rows for which a condition is true.
    #[must_use]
    pub fn filter(self, condition: Expr) -> Plan {
        self.conditioned(Condition::Row(condition))
    }

    /// Other columns.
    #[must_use]
    pub fn project(self, columns: Vec<Expr>) -> Plan {
        Plan::Project { input: Box::new(self), columns }
    }

    /// The rows for which a condition holds. One that raises nothing goes below joins, to the side
    /// that it is about; one that may raise stays behind all that comes before it.
    pub(super) fn conditioned(self, condition: Condition) -> Plan {
        match self {
            Plan::Join { kind, left, right, keys, residual } if condition.is_safe() => {
                let (arity, columns) = (left.arity(), condition.columns());
                let of_left = columns.iter().all(|column| *column < arity);
                let of_right = columns.iter().all(|column| *column >= arity);
                let (left, right) = if of_left {
                    (Box::new(left.conditioned(condition)), right)
                } else if of_right && kind == JoinKind::Inner {
                    (left, Box::new(right.conditioned(condition.moved(&|column| column - arity))))
                } else {
                    let join = Plan::Join { kind, left, right, keys, residual };
                    return condition.upon(join);
                };
                Plan::Join { kind, left, right, keys, residual }
            }
            Plan::Unnest { input, arrays, ordinality } if condition.is_safe() => {
                let arity = input.arity();
                if condition.columns().iter().all(|column| *column < arity) {
                    let input = Box::new(input.conditioned(condition));
                    Plan::Unnest { input, arrays, ordinality }
                } else {
                    condition.upon(Plan::Unnest { input, arrays, ordinality })
                }
            }
            Plan::Filter { input, condition: before }
                if condition.is_safe() && before.is_safe() && input.is_divided() =>
            {
                Plan::Filter { input: Box::new(input.conditioned(condition)), condition: before }
            }
            Plan::While { input, conditions }
                if condition.is_safe()
                    && conditions.iter().all(|before| before.at.is_safe())
                    && input.is_divided() =>
            {
                Plan::While { input: Box::new(input.conditioned(condition)), conditions }
            }
            Plan::Project { input, columns } if columns.iter().all(Expr::is_safe) => {
                let below = |column: usize| match columns.get(column) {
                    Some(Expr::Column(column)) => Some(*column),
                    _ => None,
                };
                let is_below = condition.columns().into_iter().all(|it| below(it).is_some());
                if condition.is_safe() && is_below {
                    let condition = condition.moved(&|column| below(column).unwrap_or(column));
                    Plan::Project { input: Box::new(input.conditioned(condition)), columns }
                } else {
                    condition.upon(Plan::Project { input, columns })
                }
            }
            other => condition.upon(other),
        }
    }

    /// Whether a condition may find its way further down.
    fn is_divided(&self) -> bool {
        match self {
            Plan::Join { .. } | Plan::Unnest { .. } => true,
            Plan::Filter { input, .. } | Plan::While { input, .. } => input.is_divided(),
            _ => false,
        }
    }
}

/// A condition of a WHERE: on the row alone, or on the market's time as well.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    Row(Expr),
    While(WhileCondition),
}

impl Condition {
    fn expr(&self) -> &Expr {
        match self {
            Condition::Row(condition) => condition,
            Condition::While(condition) => &condition.at,
        }
    }

    pub(super) fn is_safe(&self) -> bool {
        self.expr().is_safe()
    }

    pub(super) fn columns(&self) -> Vec<usize> {
        self.expr().columns()
    }

    pub(super) fn moved(self, to: &dyn Fn(usize) -> usize) -> Condition {
        match self {
            Condition::Row(condition) => Condition::Row(condition.moved(to)),
            Condition::While(WhileCondition { at, comparison, bound }) => {
                Condition::While(WhileCondition { at: at.moved(to), comparison, bound })
            }
        }
    }

    /// Directly upon a plan, together with those that are there.
    fn upon(self, plan: Plan) -> Plan {
        match (self, plan) {
            (Condition::Row(condition), Plan::Filter { input, condition: before }) => {
                let mut all = if let Expr::And(all) = before { all } else { vec![before] };
                all.push(condition);
                Plan::Filter { input, condition: Expr::And(all) }
            }
            (Condition::Row(condition), input) => {
                Plan::Filter { input: Box::new(input), condition }
            }
            (Condition::While(condition), Plan::While { input, mut conditions }) => {
                conditions.push(condition);
                Plan::While { input, conditions }
            }
            (Condition::While(condition), input) => {
                Plan::While { input: Box::new(input), conditions: vec![condition] }
            }
        }
    }
}

/// How many joins compare every row of one input with every row of another: those without keys of
/// which no side is constant or has at most one row.
pub fn cross_joins(plan: &Plan) -> usize {
    let small = |plan: &Plan| plan.is_constant() || plan.key().is_some_and(|key| key.is_empty());
    let this = match plan {
        Plan::Join { kind, left, right, keys, residual } => {
            let pairs = match kind {
                JoinKind::Inner | JoinKind::Left => true,
                // Whether there is a row at all, is one bit.
                JoinKind::Semi | JoinKind::Anti => residual.is_some(),
            };
            keys.is_empty() && pairs && !small(left) && !small(right)
        }
        _ => false,
    };
    usize::from(this) + plan.inputs().into_iter().map(cross_joins).sum::<usize>()
}

/// `rank <= k` around a window becomes the window's limit, so that it need not keep all rows in
/// order.
pub(super) fn push_limits(plan: &mut Plan) {
    if let Plan::Filter { input, condition } = plan {
        let all = if let Expr::And(all) = &*condition {
            all.as_slice()
        } else {
            std::slice::from_ref(condition)
        };
        for (column, count) in all.iter().filter_map(upper_bound) {
            limit(input, column, count);
        }
    }
    plan.inputs_mut().into_iter().for_each(push_limits);
}

/// The column that a condition bounds, and the bound.
fn upper_bound(condition: &Expr) -> Option<(usize, i64)> {
    let Expr::Call(Func::Compare(comparison), sides) = condition else { return None };
    let (column, comparison, bound) = match sides.as_slice() {
        [Expr::Column(column), bound] => (*column, *comparison, bound),
        [bound, Expr::Column(column)] => (*column, comparison.swapped(), bound),
        _ => return None,
    };
    let Value::Int(bound) = bound.constant()? else { return None };
    match comparison {
        Comparison::LessOrEqual | Comparison::Equal => Some((column, bound)),
        Comparison::Less => Some((column, bound.checked_sub(1)?)),
        _ => None,
    }
}

fn limit(plan: &mut Plan, column: usize, bound: i64) {
    match plan {
        Plan::Project { input, columns } => {
            if let Some(Expr::Column(column)) = columns.get(column) {
                limit(input, *column, bound);
            }
        }
        Plan::Window { input, functions, limit, .. } => {
            let Some(function) = column.checked_sub(input.arity()) else { return };
            let counts = matches!(
                functions.get(function),
                Some(WindowFunction::RowNumber | WindowFunction::Rank)
            );
            let lower = limit.is_none_or(|limit| limit.function == function && bound < limit.count);
            if counts && lower {
                *limit = Some(Limit { function, count: bound });
            }
        }
        _ => {}
    }
}

/// What is known of an expression of the market's time.
#[derive(Clone, Copy)]
struct Course {
    /// It is always the midnight with which a day begins, or a date.
    midnight: bool,
    /// During one day of the market's zone it stays within one day, and its clock goes with the
    /// market's.
    by_days: bool,
    /// It may fall when a day ends. It rises during each day, and from day to day at the same time
    /// of day.
    falls: bool,
}

/// The course of an expression whose only column is the market's time; none if it is not known to
/// rise, or to fall only where a day ends.
///
/// Months are what makes a time fall: a month before 28 March 23:00 is 28 February 23:00, and a
/// month before 29 March 1:00 is 28 February 1:00.
fn course(bound: &Expr) -> Option<Course> {
    let Expr::Call(func, parts) = bound else {
        let clock = Course { midnight: false, by_days: true, falls: false };
        return (*bound == Expr::Column(0)).then_some(clock);
    };
    let before = course(parts.first()?)?;
    Some(match func {
        Func::ToZone | Func::FromZone => before,
        Func::ToDate | Func::ToStamp => Course { midnight: true, ..before },
        Func::Truncate(unit) => {
            Course { midnight: before.midnight || *unit >= Unit::Day, ..before }
        }
        Func::Bin { .. } => Course { midnight: false, by_days: false, ..before },
        Func::DaysLater | Func::DaysEarlier => {
            parts.get(1)?.constant()?;
            before
        }
        Func::Later | Func::Earlier => match parts.get(1)?.constant()? {
            Value::Interval(by) => {
                let whole = by.micros % DAY == 0;
                let falls = by.months != 0 && !before.midnight;
                if falls && !before.by_days {
                    return None;
                }
                Course {
                    midnight: before.midnight && whole,
                    by_days: before.by_days && whole,
                    falls: before.falls || falls,
                }
            }
            _ => before,
        },
        _ => return None,
    })
}

impl WhileCondition {
    /// Whether it is known how the bound goes with the market's time; others cannot be evaluated.
    pub(super) fn is_known(&self) -> bool {
        course(&self.bound).is_some()
    }
}

/// A [`WhileCondition`] made ready to be evaluated many times.
pub struct CompiledCondition {
    at: Compiled,
    comparison: Comparison,
    bound: Compiled,
    falls: bool,
    edges: Result<Edges, Raised>,
}

/// Between which days the bound is known, and what it is at their beginnings.
struct Edges {
    /// Whether it is not known at some times before.
    late: bool,
    first_day: i64,
    first: Value,
    last: Value,
}

impl CompiledCondition {
    /// Makes a condition ready.
    pub fn new(condition: &WhileCondition) -> CompiledCondition {
        let WhileCondition { at, comparison, bound } = condition;
        let falls = course(bound).is_none_or(|course| course.falls);
        let bound = compile(bound);
        let edges = Edges::of(&bound);
        CompiledCondition { at: compile(at), comparison: *comparison, bound, falls, edges }
    }

    /// Whether it holds for a bound.
    fn compares(&self, at: &Value, bound: &Value) -> bool {
        self.comparison.holds(at.cmp(bound))
    }

    /// Whether it begins to hold, and does not end to hold, when the bound rises.
    fn begins(&self) -> bool {
        matches!(self.comparison, Comparison::Less | Comparison::LessOrEqual)
    }
}

impl Edges {
    fn of(bound: &Compiled) -> Result<Edges, Raised> {
        let known = |now| match bound(&[Value::Instant(now)]) {
            Ok(_) => Ok(true),
            Err(Raised::ZoneRule) => Ok(false),
            Err(raised) => Err(raised),
        };
        let late = !known(ZONE_SINCE)?;
        let since = if late { first_that(ZONE_SINCE, LAST, known)? } else { ZONE_SINCE };
        let first_day = (since + ZONE_AHEAD).div_euclid(DAY) + 1;
        let first = bound(&[Value::Instant(midnight_of(first_day))])?;
        Ok(Edges { late, first_day, first, last: bound(&[Value::Instant(LAST)])? })
    }
}

/// From when until when (not included), in microseconds since 2000. The least and the greatest
/// number stand for always.
pub type Span = (i64, i64);

const ALWAYS: Span = (i64::MIN, i64::MAX);

/// The last day that a market has, 9999-12-31, and its last midnight.
const LAST_DAY: i64 = 2_921_939;
const LAST: i64 = LAST_DAY * DAY - ZONE_AHEAD;

/// When a row fulfils all of some conditions: spans that do not touch, in their order.
pub fn active_all(conditions: &[CompiledCondition], row: &[Value]) -> Result<Vec<Span>, Raised> {
    let mut spans = vec![ALWAYS];
    for condition in conditions {
        let others = active(condition, row)?;
        let both = |(from, until): Span| {
            let common = others.iter().map(move |other| (from.max(other.0), until.min(other.1)));
            common.filter(|(from, until)| from < until)
        };
        spans = spans.into_iter().flat_map(both).collect();
        if spans.is_empty() {
            break;
        }
    }
    Ok(spans)
}

/// When a row fulfils a condition: spans that do not touch, in their order. None if it never does,
/// as with NULL; nearly always there is one.
///
/// The moment is searched and not computed, because months have no inverse. A row of 30 January
/// 10:00 leaves `at > market_now() - interval '1 month'` when 1 March begins. One of 28 February
/// 20:00 leaves it on 28 March at 20:00, and comes back for the first twenty hours of the 29th,
/// 30th and 31st, because a month before these it is 28 February once more: that is what PostgreSQL
/// says.
pub fn active(condition: &CompiledCondition, row: &[Value]) -> Result<Vec<Span>, Raised> {
    let at = (condition.at)(row)?;
    let Edges { late, first_day, first: first_bound, last } =
        condition.edges.as_ref().map_err(|raised| *raised)?;
    if at.is_null() || last.is_null() {
        return Ok(vec![]);
    }
    let (before, begins) = (condition.compares(&at, first_bound), condition.begins());
    // Where the bound is not known, it is not above the first known one.
    if *late && before == begins {
        return Err(Raised::ZoneRule);
    }
    if before == begins || condition.compares(&at, last) == before {
        return Ok(if before { vec![ALWAYS] } else { vec![] });
    }
    let (first_day, first) = (*first_day, midnight_of(*first_day));
    let changed = |now| {
        let bound = (condition.bound)(&[Value::Instant(now)])?;
        Ok(condition.compares(&at, &bound) != before)
    };
    if !condition.falls {
        let moment = match guess(condition, &at, first)? {
            Some(moment) if changed(moment)? && !changed(moment - 1)? => moment,
            Some(moment) if changed(moment + 1)? && !changed(moment)? => moment + 1,
            _ => first_that(first, LAST, changed)?,
        };
        return Ok(vec![if begins { (moment, i64::MAX) } else { (i64::MIN, moment) }]);
    }
    // On the days from the first at whose end it has changed, to the first at whose start it has,
    // it changes during the day, and back when that ends.
    let whole = first_that(first_day, LAST_DAY, |day| changed(midnight_of(day)))?;
    let mut day = first_that(first_day - 1, whole, |day| changed(midnight_of(day + 1) - 1))?;
    let mut spans = vec![];
    let mut start = i64::MIN;
    while day < whole {
        let (from, until) = (midnight_of(day), midnight_of(day + 1));
        let moment = first_that(from, until - 1, changed)?;
        spans.push(if begins { (moment, until) } else { (start, moment) });
        start = until;
        day += 1;
    }
    match spans.last_mut() {
        Some(last) if begins => last.1 = i64::MAX,
        Some(_) => {}
        None if begins => spans.push((midnight_of(whole), i64::MAX)),
        None => spans.push((i64::MIN, midnight_of(whole))),
    }
    Ok(spans)
}

/// When a day begins in the market's zone.
fn midnight_of(day: i64) -> i64 {
    day * DAY - ZONE_AHEAD
}

/// The first number of which something is true, which is not of the first and is from then on.
fn first_that(
    mut not_yet: i64,
    mut is: i64,
    what: impl Fn(i64) -> Result<bool, Raised>,
) -> Result<i64, Raised> {
    while is - not_yet > 1 {
        let middle = not_yet + (is - not_yet) / 2;
        if what(middle)? {
            is = middle;
        } else {
            not_yet = middle;
        }
    }
    Ok(is)
}

/// When the bound is at a row's time, if it goes as fast as the time: so it is without months and
/// without `date_trunc`, and then nothing need be searched.
fn guess(condition: &CompiledCondition, at: &Value, first: i64) -> Result<Option<i64>, Raised> {
    let micros = |value: &Value| match value {
        Value::Instant(micros) | Value::Stamp(micros) => Some(*micros),
        Value::Date(day) => i64::from(*day).checked_mul(DAY),
        _ => None,
    };
    let inside = first + 1..LAST - 1;
    let Some(at) = micros(at).filter(|at| inside.contains(at)) else { return Ok(None) };
    let Some(bound) = micros(&(condition.bound)(&[Value::Instant(at)])?) else { return Ok(None) };
    let moment = at.checked_sub(bound).and_then(|since| at.checked_add(since));
    Ok(moment.filter(|moment| inside.contains(moment)))
}

#[cfg(test)]
mod tests {
    use super::super::value::{Interval, Unit, day_of};
    use super::*;

    fn scan(key: &[usize]) -> Plan {
        Plan::Scan { table: 0, arity: 3, key: key.to_vec() }
    }

    #[test]
    fn keys_are_kept_by_what_keeps_rows_apart() {
        let columns = |columns: &[usize]| columns.iter().map(|c| Expr::Column(*c)).collect();
        assert_eq!(scan(&[]).key(), None);
        assert_eq!(scan(&[1]).project(columns(&[2, 1])).key(), Some(vec![1]));
        assert_eq!(scan(&[1]).project(columns(&[2, 0])).key(), None);
        let join = |keys| Plan::Join {
            kind: JoinKind::Left,
            left: Box::new(scan(&[0])),
            right: Box::new(scan(&[1])),
            keys,
            residual: None,
        };
        assert_eq!(join(vec![]).key(), Some(vec![0, 4]));
        assert_eq!(join(vec![(Expr::Column(2), Expr::Column(1))]).key(), Some(vec![0]));
        assert_eq!((cross_joins(&join(vec![])), cross_joins(&scan(&[]))), (1, 0));
    }

    fn condition(comparison: Comparison, bound: Expr) -> CompiledCondition {
        CompiledCondition::new(&WhileCondition { at: Expr::Column(0), comparison, bound })
    }

    #[test]
    fn months_before_the_ends_of_months_overlap() {
        let month = Interval { months: 1, days: 0, micros: 0 };
        let month = Expr::Constant(Value::Interval(Box::new(month)));
        let bound = Expr::Call(Func::Earlier, vec![Expr::Column(0), month]);
        let at =
            |month, day, hour: i64| day_of(2026, month, day) * DAY + (hour - 9) * 3_600_000_000;
        let spans = |comparison, at| {
            active(&condition(comparison, bound.clone()), &[Value::Instant(at)]).unwrap()
        };
        let (more, less) = (Comparison::Greater, Comparison::Less);
        assert_eq!(spans(more, at(2, 15, 10)), [(i64::MIN, at(3, 15, 10))]);
        assert_eq!(spans(less, at(2, 15, 10)), [(at(3, 15, 10) + 1, i64::MAX)]);
        // There is no 30 February.
        assert_eq!(spans(more, at(1, 30, 10)), [(i64::MIN, at(3, 1, 0))]);
        assert_eq!(spans(less, at(1, 30, 10)), [(at(3, 1, 0), i64::MAX)]);
        // And four days whose month before is 28 February.
        let evening = [
            (i64::MIN, at(3, 28, 20)),
            (at(3, 29, 0), at(3, 29, 20)),
            (at(3, 30, 0), at(3, 30, 20)),
            (at(3, 31, 0), at(3, 31, 20)),
        ];
        assert_eq!(spans(more, at(2, 28, 20)), evening);
        let evening = [
            (at(3, 28, 20) + 1, at(3, 29, 0)),
            (at(3, 29, 20) + 1, at(3, 30, 0)),
            (at(3, 30, 20) + 1, at(3, 31, 0)),
            (at(3, 31, 20) + 1, i64::MAX),
        ];
        assert_eq!(spans(less, at(2, 28, 20)), evening);
        let recent = CompiledCondition::new(&WhileCondition {
            at: Expr::Column(0),
            comparison: more,
            bound: bound.clone(),
        });
        assert_eq!(active(&recent, &[Value::Null]), Ok(vec![]));
        let both = [recent, condition(Comparison::LessOrEqual, Expr::Column(0))];
        let row = [Value::Instant(at(2, 15, 10))];
        assert_eq!(active_all(&both, &row), Ok(vec![(at(2, 15, 10), at(3, 15, 10))]));
    }

    #[test]
    fn conditions_hold_from_the_first_to_the_last_moment() {
        let today = Expr::Call(Func::Truncate(Unit::Day), vec![Expr::Column(0)]);
        let zone = 9 * 3_600_000_000;
        let at = day_of(2026, 3, 2) * DAY - zone;
        let range = |comparison, at| {
            active(&condition(comparison, today.clone()), &[Value::Instant(at)]).unwrap()
        };
        assert_eq!(range(Comparison::GreaterOrEqual, at), [(i64::MIN, at + DAY)]);
        assert_eq!(range(Comparison::Greater, at), [(i64::MIN, at)]);
        assert_eq!(range(Comparison::LessOrEqual, at), [(at, i64::MAX)]);
        assert_eq!(range(Comparison::Less, at), [(at + DAY, i64::MAX)]);
        assert_eq!(range(Comparison::Less, at + 1), [(at + DAY, i64::MAX)]);
        let now = condition(Comparison::Greater, Expr::Column(0));
        assert_eq!(active(&now, &[Value::Instant(at)]), Ok(vec![(i64::MIN, at)]));
    }
}
