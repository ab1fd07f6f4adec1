//! A plan evaluated by nested loops over multisets: slow and plain, for the tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::expr::{Expr, compile};
use super::plan::{
    Aggregate, AggregateKind, CompiledCondition, JoinKind, Plan, WindowFunction, active_all,
    in_order,
};
use super::value::{Raised, Row, Value};

/// Rows, and how often each is there.
pub(super) type Multiset = BTreeMap<Row, isize>;

fn add(to: &mut Multiset, row: Row, count: isize) {
    if count != 0 {
        *to.entry(row).or_default() += count;
    }
}

/// The rows of a plan over some tables when the market's time is `now`.
pub(super) fn naive(plan: &Plan, tables: &[Multiset], now: i64) -> Result<Multiset, Raised> {
    let mut out = Multiset::new();
    match plan {
        Plan::Scan { table, .. } => out = tables[*table].clone(),
        Plan::Values(rows) => rows.iter().for_each(|row| add(&mut out, row.clone(), 1)),
        Plan::Project { input, columns } => {
            let columns: Vec<_> = columns.iter().map(compile).collect();
            for (row, count) in naive(input, tables, now)? {
                let row = columns.iter().map(|column| column(&row)).collect::<Result<_, _>>()?;
                add(&mut out, row, count);
            }
        }
        Plan::Filter { input, condition } => {
            let condition = compile(condition);
            for (row, count) in naive(input, tables, now)? {
                if condition(&row)?.is_true() {
                    add(&mut out, row, count);
                }
            }
        }
        Plan::While { input, conditions } => {
            let conditions: Vec<_> = conditions.iter().map(CompiledCondition::new).collect();
            for (row, count) in naive(input, tables, now)? {
                let spans = active_all(&conditions, &row)?;
                if spans.iter().any(|(from, until)| *from <= now && now < *until) {
                    add(&mut out, row, count);
                }
            }
        }
        Plan::Unnest { input, arrays, ordinality } => {
            let arrays: Vec<_> = arrays.iter().map(compile).collect();
            for (row, count) in naive(input, tables, now)? {
                let arrays = arrays.iter().map(|array| {
                    Ok(if let Value::Array(items) = array(&row)? { items } else { Arc::new([]) })
                });
                let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
                let longest = arrays.iter().map(|items| items.len()).max().unwrap_or(0);
                for place in 0..longest {
                    let items = arrays.iter().map(|items| items.get(place).unwrap_or(&Value::Null));
                    let place = Value::Int(place as i64 + 1);
                    let ordinality = ordinality.then_some(&place);
                    add(
                        &mut out,
                        row.iter().chain(items).chain(ordinality).cloned().collect(),
                        count,
                    );
                }
            }
        }
        Plan::Join { .. } => out = join(plan, tables, now)?,
        Plan::Group { input, keys, aggregates } => {
            let input = naive(input, tables, now)?;
            out = groups(input, keys, aggregates)?;
        }
        Plan::Distinct(input) => {
            for (row, _) in naive(input, tables, now)? {
                add(&mut out, row, 1);
            }
        }
        Plan::Union(inputs) => {
            for input in inputs {
                for (row, count) in naive(input, tables, now)? {
                    add(&mut out, row, count);
                }
            }
        }
        Plan::Set { operation, all, left, right } => {
            let (left, right) = (naive(left, tables, now)?, naive(right, tables, now)?);
            for (row, count) in left {
                let other = right.get(&row).copied().unwrap_or(0);
                add(&mut out, row, operation.count(*all, count, other));
            }
        }
        Plan::Window { .. } => out = window(plan, tables, now)?,
    }
    Ok(out)
}

fn join(plan: &Plan, tables: &[Multiset], now: i64) -> Result<Multiset, Raised> {
    let mut out = Multiset::new();
    let Plan::Join { kind, left, right, keys, residual } = plan else { return Ok(out) };
    let nulls = vec![Value::Null; right.arity()];
    let (left, right) = (naive(left, tables, now)?, naive(right, tables, now)?);
    let keys: Vec<_> = keys.iter().map(|(l, r)| (compile(l), compile(r))).collect();
    let residual = residual.as_ref().map(compile);
    let both = |left: &[Value], right: &[Value]| left.iter().chain(right).cloned().collect();
    // A key that raises does so even without a match.
    for row in left.keys() {
        keys.iter().try_for_each(|(key, _)| key(row).map(drop))?;
    }
    for row in right.keys() {
        keys.iter().try_for_each(|(_, key)| key(row).map(drop))?;
    }
    for (row, count) in &left {
        let mut matched = false;
        'right: for (other, other_count) in &right {
            for (mine, theirs) in &keys {
                let (mine, theirs) = (mine(row)?, theirs(other)?);
                if mine.is_null() || mine != theirs {
                    continue 'right;
                }
            }
            let pair: Row = both(row, other);
            if let Some(residual) = &residual
                && !residual(&pair)?.is_true()
            {
                continue;
            }
            matched = true;
            if matches!(kind, JoinKind::Inner | JoinKind::Left) {
                add(&mut out, pair, count * other_count);
            }
        }
        match kind {
            JoinKind::Left if !matched => add(&mut out, both(row, &nulls), *count),
            JoinKind::Semi if matched => add(&mut out, row.clone(), *count),
            JoinKind::Anti if !matched => add(&mut out, row.clone(), *count),
            _ => {}
        }
    }
    Ok(out)
}

fn groups(input: Multiset, keys: &[Expr], aggregates: &[Aggregate]) -> Result<Multiset, Raised> {
    let mut out = Multiset::new();
    let keys: Vec<_> = keys.iter().map(compile).collect();
    let mut groups: BTreeMap<Row, Vec<(Row, isize)>> = BTreeMap::new();
    if keys.is_empty() {
        groups.insert(Arc::new([]), vec![]);
    }
    for (row, count) in input {
        let key = keys.iter().map(|key| key(&row)).collect::<Result<Row, _>>()?;
        groups.entry(key).or_default().push((row, count));
    }
    for (key, rows) in groups {
        let mut row = key.to_vec();
        for one in aggregates {
            row.push(aggregate(one, &rows)?);
        }
        add(&mut out, row.into(), 1);
    }
    Ok(out)
}

fn window(plan: &Plan, tables: &[Multiset], now: i64) -> Result<Multiset, Raised> {
    let mut out = Multiset::new();
    let Plan::Window { input, keys, order, functions, limit } = plan else { return Ok(out) };
    let keys: Vec<_> = keys.iter().map(compile).collect();
    let by: Vec<_> = order.iter().map(|order| compile(&order.by)).collect();
    let flags = || order.iter().map(|order| (order.descending, order.nulls_first));
    let mut windows: BTreeMap<Row, Vec<(Row, Row)>> = BTreeMap::new();
    for (row, count) in naive(input, tables, now)? {
        let key = keys.iter().map(|key| key(&row)).collect::<Result<Row, _>>()?;
        let place = by.iter().map(|by| by(&row)).collect::<Result<Row, _>>()?;
        let rows = windows.entry(key).or_default();
        rows.extend((0..count).map(|_| (place.clone(), row.clone())));
    }
    for rows in windows.values_mut() {
        rows.sort_by(|left, right| in_order(&left.0, &right.0, flags()).then(left.1.cmp(&right.1)));
        for (index, (place, row)) in rows.iter().enumerate() {
            let rank = rows.iter().position(|other| in_order(&other.0, place, flags()).is_eq());
            let mut row = row.to_vec();
            for function in functions {
                row.push(match function {
                    WindowFunction::RowNumber => Value::Int(index as i64 + 1),
                    WindowFunction::Rank => Value::Int(rank.unwrap_or(index) as i64 + 1),
                    WindowFunction::Lag { value, offset, default } => {
                        let other = (index as i64).checked_sub(*offset);
                        let other = other.and_then(|at| usize::try_from(at).ok());
                        match other.and_then(|at| rows.get(at)) {
                            Some((_, other)) => compile(value)(other)?,
                            None => default.clone(),
                        }
                    }
                });
            }
            let kept = limit.is_none_or(|limit| {
                row[row.len() - functions.len() + limit.function] <= Value::Int(limit.count)
            });
            if kept {
                add(&mut out, row.into(), 1);
            }
        }
    }
    Ok(out)
}

fn aggregate(aggregate: &Aggregate, rows: &[(Row, isize)]) -> Result<Value, Raised> {
    let argument = aggregate.argument.as_ref().map(compile);
    let filter = aggregate.filter.as_ref().map(compile);
    let mut values: BTreeMap<Value, isize> = BTreeMap::new();
    for (row, count) in rows {
        if let Some(filter) = &filter
            && !filter(row)?.is_true()
        {
            continue;
        }
        let value = argument.as_ref().map_or(Ok(Value::Int(1)), |argument| argument(row))?;
        if !value.is_null() {
            *values.entry(value).or_default() += count;
        }
    }
    if aggregate.distinct {
        for count in values.values_mut() {
            *count = 1;
        }
    }
    let count = values.values().sum::<isize>() as i64;
    let sum = || {
        values.iter().try_fold(0i128, |sum, (value, count)| {
            let number = match value {
                Value::Int(int) => i128::from(*int),
                Value::Numeric(number) => **number,
                _ => return Err(Raised::WrongType),
            };
            let part = number.checked_mul(*count as i128);
            part.and_then(|part| sum.checked_add(part)).ok_or(Raised::NumericOutOfRange)
        })
    };
    Ok(match aggregate.kind {
        AggregateKind::CountRows | AggregateKind::Count => Value::Int(count),
        _ if values.is_empty() => Value::Null,
        AggregateKind::SumBigint => {
            Value::Int(i64::try_from(sum()?).map_err(|_| Raised::BigintOutOfRange)?)
        }
        AggregateKind::SumNumeric => Value::numeric(sum()?),
        AggregateKind::BoolAnd => Value::Bool(values.keys().all(Value::is_true)),
        AggregateKind::BoolOr => Value::Bool(values.keys().any(Value::is_true)),
        AggregateKind::Min => values.into_keys().next().unwrap_or(Value::Null),
        AggregateKind::Max => values.into_keys().next_back().unwrap_or(Value::Null),
    })
}
