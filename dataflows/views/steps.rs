//! A plan as the steps of its dataflow, for who looks at what a view does and costs.

use std::ops::Range;

use super::hearing::Source;
use super::plan::{Aggregate, AggregateKind, JoinKind, Plan, SetOperation, WindowFunction};

/// A step of a plan as it was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How deep in the plan: the result is at 0, and reads the next ones that are one deeper.
    pub depth: usize,
    /// What it does.
    pub what: String,
    /// Timely's identifiers of its operators and of those of the steps that it reads; an operator is of the
    /// narrowest range. Empty where the step is one that was built before.
    pub operators: Range<usize>,
}

/// What a plan does on top of its inputs.
pub(super) fn what(plan: &Plan, sources: &[Source]) -> String {
    match plan {
        Plan::Scan { table, .. } => format!("read {}", sources[*table].name),
        Plan::Values(rows) => format!("{} constant {}", rows.len(), counted(rows.len(), "row")),
        Plan::Project { columns, .. } => {
            format!("{} {}", columns.len(), counted(columns.len(), "column"))
        }
        Plan::Filter { .. } => "filter".into(),
        Plan::While { .. } => "while market_now() is in a span".into(),
        Plan::Unnest { .. } => "unnest".into(),
        Plan::Join { kind, keys, residual, .. } => {
            let kind = match kind {
                JoinKind::Inner => "join",
                JoinKind::Left => "left join",
                JoinKind::Semi => "those that have a match",
                JoinKind::Anti => "those that have no match",
            };
            let on = match keys.len() {
                0 => ", each with each".into(),
                keys => format!(" by {keys} {}", counted(keys, "key")),
            };
            format!("{kind}{on}{}", if residual.is_some() { ", and a condition" } else { "" })
        }
        Plan::Group { keys, aggregates, .. } => {
            let names: Vec<_> = aggregates.iter().map(aggregate).collect();
            let by = match keys.len() {
                0 => String::new(),
                keys => format!(" by {keys} {}", counted(keys, "key")),
            };
            let colon = if names.is_empty() { "" } else { ": " };
            format!("group{by}{colon}{}", names.join(", "))
        }
        Plan::Distinct(_) => "distinct".into(),
        Plan::Union(inputs) => format!("union of {}", inputs.len()),
        Plan::Set { operation, all, .. } => {
            let operation = match operation {
                SetOperation::Except => "except",
                SetOperation::Intersect => "intersect",
            };
            format!("{operation}{}", if *all { " all" } else { "" })
        }
        Plan::Window { functions, limit, .. } => {
            let names: Vec<_> = functions.iter().map(function).collect();
            let first = limit.map(|limit| format!(", up to {}", limit.count)).unwrap_or_default();
            format!("window: {}{first}", names.join(", "))
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { what.into() } else { format!("{what}s") }
}

fn aggregate(of: &Aggregate) -> String {
    let name = match of.kind {
        AggregateKind::CountRows => return "count(*)".into(),
        AggregateKind::Count => "count",
        AggregateKind::SumBigint | AggregateKind::SumNumeric => "sum",
        AggregateKind::BoolAnd => "bool_and",
        AggregateKind::BoolOr => "bool_or",
        AggregateKind::Min => "min",
        AggregateKind::Max => "max",
    };
    format!("{name}{}", if of.distinct { " distinct" } else { "" })
}

fn function(of: &WindowFunction) -> &'static str {
    match of {
        WindowFunction::RowNumber => "row_number",
        WindowFunction::Rank => "rank",
        WindowFunction::Lag { offset, .. } if *offset < 0 => "lead",
        WindowFunction::Lag { .. } => "lag",
    }
}
