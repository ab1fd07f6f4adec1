//! `marketday explain`: the operators of a query's dataflow or the steps of a standing view's plan, what each
//! does and what it holds.
//!
//! The whole graph runs over the whole log, in memory, as the analytics do when they catch up; so
//! a query's share is one of all that the analytics do, and what it reads of others is worked out
//! once, as it is there.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use dataflows::analytics::Tables;
use dataflows::model::Topic;
use dataflows::views::Definition;
use dataflows::{QUERIES, Query};
use serde::Serialize;

use super::options::{Place, count};
use crate::engine::profile::Operator;
use crate::engine::{Replay, definition, replay};
use crate::log::Log;
use crate::platform::clock::Stopwatch;
use crate::platform::output::Output;
use crate::store::{self, views};

/// Shows what a query or a standing view costs: its operators or steps, the time of each and the records held.
#[derive(Args)]
pub(crate) struct Explain {
    /// The query, by the name of its table, or a standing view.
    query: String,
    #[command(flatten)]
    place: Place,
    /// Worker threads.
    #[arg(short = 'w', long, default_value_t = 1, value_parser = count())]
    workers: usize,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let asked = self.asked()?;
        let (log, out) = (self.place.log.look()?, &mut Output::lock());
        explain(&log, &asked, self.workers, out, self.json)?;
        Ok(ExitCode::SUCCESS)
    }

    fn asked(&self) -> Result<Asked> {
        if let Some(query) = QUERIES.iter().find(|query| query.name == self.query) {
            return Ok(Asked::Query(query));
        }
        let is_there =
            self.place.database.is_some() || self.place.log.dir.join("postgres").exists();
        let mut views = Vec::new();
        if is_there {
            let database = self.place.look()?;
            let mut client = store::connect(&database.config)?;
            views = views::list(&mut client)?;
            if let Some(view) = views.iter().find(|view| view.name == self.query) {
                let tables = Tables::of(QUERIES);
                let view = Box::new(definition(&mut client, view, &tables)?);
                database.stop()?;
                return Ok(Asked::View(view));
            }
            database.stop()?;
        }
        let names = QUERIES.iter().map(|query| query.name);
        let names: Vec<_> = names.chain(views.iter().map(|view| view.name.as_str())).collect();
        bail!("there is no query and no view {}; there are {}", self.query, names.join(", "))
    }
}

/// What is to be explained.
enum Asked {
    Query(&'static Query),
    View(Box<Definition>),
}

/// Runs the graph over what the log holds, and writes what becomes of the query in it.
fn explain(
    log: &Arc<dyn Log>,
    asked: &Asked,
    workers: usize,
    out: &mut dyn Write,
    json: bool,
) -> Result<()> {
    let mut notes = Vec::new();
    for topic in Topic::ALL {
        for partition in 0..log.partitions(topic) {
            let from = log.start(topic, partition)?;
            if from > 0 {
                notes.push(format!(
                    "{}/{partition}: the log no longer holds what is before offset {from}",
                    topic.name()
                ));
            }
        }
    }
    let stopwatch = Stopwatch::start();
    let view = match asked {
        Asked::Query(_) => None,
        Asked::View(view) => Some(&**view),
    };
    let replay = replay(log, workers, view)?;
    let seconds = stopwatch.elapsed().as_secs_f64();
    let explained = match asked {
        Asked::Query(query) => Explained::of(query.name, &replay, seconds, notes),
        Asked::View(view) => Explained::of_view(&view.name, &replay, seconds, notes),
    };
    if json {
        serde_json::to_writer_pretty(&mut *out, &explained)?;
        writeln!(out)?;
        return Ok(());
    }
    explained.write(out)
}

/// A query's part of a run, or a view's.
#[derive(Serialize)]
struct Explained {
    query: String,
    workers: usize,
    /// Records read from the log.
    log_records: usize,
    /// From the first record to the last result.
    seconds: f64,
    notes: Vec<String>,
    /// What the query builds itself; of a view its steps, each with the operators that are its own.
    own: Part,
    /// What its operators read from, directly or not, and others may read as well.
    shared: Part,
    /// All other operators, and timely's keeping track of progress.
    rest: Cost,
}

#[derive(Serialize)]
struct Part {
    operators: Vec<Line>,
    total: Cost,
}

/// An operator.
#[derive(Serialize)]
struct Line {
    /// Its number here, in the order in which data flows.
    number: usize,
    name: String,
    /// The numbers of those that it reads from.
    reads: Vec<usize>,
    /// What it costs at each worker.
    workers: Vec<Cost>,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Cost {
    activations: u64,
    ms: f64,
    /// Of the time of all operators at all workers.
    percent: f64,
    /// Records held at the end.
    records: i64,
}

impl Cost {
    /// The costs of operators together, when all that there are take `all_ms`.
    fn of<'o>(operators: impl Iterator<Item = &'o Operator>, all_ms: f64) -> Cost {
        let mut cost = Cost::default();
        for operator in operators {
            cost.activations += operator.activations;
            cost.ms += operator.time.as_secs_f64() * 1e3;
            cost.records += operator.records;
        }
        cost.percent = if all_ms > 0.0 { cost.ms / all_ms * 100.0 } else { 0.0 };
        cost
    }
}

impl Explained {
    fn of(query: &'static str, replay: &Replay, seconds: f64, notes: Vec<String>) -> Explained {
        // The graph is the same at every worker.
        let graph = replay.workers.first().map_or(&[][..], |operators| &operators[..]);
        let all = || replay.workers.iter().flatten();
        let all_ms = Cost::of(all(), 0.0).ms;
        let own = |operator: &Operator| operator.query == Some(query);

        let places: BTreeMap<usize, usize> =
            graph.iter().enumerate().map(|(place, operator)| (operator.id, place)).collect();
        let mut reached: BTreeMap<usize, usize> = BTreeMap::new();
        // A part of the pass has no operator of its own: its rows are made by those of all parts.
        let has_own = graph.iter().any(own);
        let makes_rows = |operator: &Operator| ["customers", "buckets"].contains(&&*operator.name);
        let begins = graph.iter().filter(|it| if has_own { own(it) } else { makes_rows(it) });
        let mut to_visit: Vec<usize> = begins.map(|operator| operator.id).collect();
        while let Some(id) = to_visit.pop() {
            if reached.insert(id, 0).is_none() {
                to_visit.extend(&graph[places[&id]].reads);
            }
        }
        // What was built first comes first, and reads from nothing that comes later.
        reached.values_mut().zip(1..).for_each(|(number, next)| *number = next);

        let part = |of_part: &dyn Fn(&Operator) -> bool| {
            let operators = graph.iter().filter(|operator| of_part(operator));
            let operators = operators.map(|operator| Line {
                number: reached[&operator.id],
                name: operator.name.clone(),
                reads: operator.reads.iter().map(|id| reached[id]).collect(),
                workers: replay
                    .workers
                    .iter()
                    .map(|it| Cost::of(it.iter().filter(|it| it.id == operator.id), all_ms))
                    .collect(),
            });
            let total = Cost::of(all().filter(|operator| of_part(operator)), all_ms);
            Part { operators: operators.collect(), total }
        };
        let of_query = |operator: &Operator| reached.contains_key(&operator.id);
        Explained {
            query: query.to_owned(),
            workers: replay.workers.len(),
            log_records: replay.records,
            seconds,
            notes,
            own: part(&own),
            shared: part(&|operator| of_query(operator) && !own(operator)),
            rest: Cost::of(all().filter(|operator| !of_query(operator)), all_ms),
        }
    }

    fn of_view(name: &str, replay: &Replay, seconds: f64, notes: Vec<String>) -> Explained {
        let all_ms = Cost::of(replay.workers.iter().flatten(), 0.0).ms;
        let steps = &replay.steps;
        // An operator is of the narrowest step around it; what hears and what tells is of none.
        let step_of = |operator: &Operator| {
            let around =
                steps.iter().enumerate().filter(|(_, it)| it.operators.contains(&operator.id));
            around.min_by_key(|(_, step)| step.operators.len()).map(|(place, _)| place)
        };
        let is_view = |operator: &Operator| Some(operator.address[0]) == replay.view;
        let line = |number: usize, name: String, reads, place: Option<usize>| {
            let of = |it: &&Operator| is_view(it) && step_of(it) == place;
            let cost = |worker: &Vec<Operator>| Cost::of(worker.iter().filter(of), all_ms);
            Line { number, name, reads, workers: replay.workers.iter().map(cost).collect() }
        };
        let mut lines = Vec::new();
        for (place, step) in steps.iter().enumerate() {
            let below = steps[place + 1..].iter().take_while(|it| it.depth > step.depth);
            let reads = (place + 2..).zip(below).filter(|(_, it)| it.depth == step.depth + 1);
            let name = format!("{}{}", "  ".repeat(step.depth), step.what);
            lines.push(line(
                place + 1,
                name,
                reads.map(|(number, _)| number).collect(),
                Some(place),
            ));
        }
        let around = "what it hears, and its cuts".to_owned();
        lines.push(line(steps.len() + 1, around, Vec::new(), None));
        let all = || replay.workers.iter().flatten();
        Explained {
            query: name.to_owned(),
            workers: replay.workers.len(),
            log_records: replay.records,
            seconds,
            notes,
            own: Part { operators: lines, total: Cost::of(all().filter(|it| is_view(it)), all_ms) },
            shared: Part { operators: Vec::new(), total: Cost::default() },
            rest: Cost::of(all().filter(|it| !is_view(it)), all_ms),
        }
    }

    fn write(&self, out: &mut dyn Write) -> Result<()> {
        let workers = match self.workers {
            1 => "1 worker".to_owned(),
            workers => format!("{workers} workers"),
        };
        writeln!(
            out,
            "{}: the graph of all queries over {} records of the log, {workers}, {:.1} s",
            self.query, self.log_records, self.seconds
        )?;
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        let lines = self.own.operators.iter().chain(&self.shared.operators);
        let width = lines.map(|line| line.name.len()).max().unwrap_or(0).max(24);
        if self.shared.operators.is_empty() {
            self.own.write(out, "its steps", width, |_line| true)?;
            writeln!(out)?;
            self.rest.write(out, "", "all queries", "", "", width)?;
            return Ok(());
        }
        if self.own.operators.is_empty() {
            writeln!(
                out,
                "\nIt is a part of the pass over customers, without operators of its own."
            )?;
        } else {
            self.own.write(out, "its own operators", width, |_line| true)?;
        }
        self.shared.write(out, "shared operators", width, Line::matters)?;
        writeln!(out)?;
        self.rest.write(out, "", "everything else", "", "", width)?;
        Ok(())
    }
}

impl Part {
    fn write(
        &self,
        out: &mut dyn Write,
        title: &str,
        width: usize,
        shown: impl Fn(&Line) -> bool,
    ) -> Result<()> {
        writeln!(
            out,
            "\n{:>3}  {title:<width$}  {:<9} {:>6} {:>11} {:>9} {:>6} {:>9}",
            "", "reads", "worker", "activations", "ms", "%", "records"
        )?;
        for line in self.operators.iter().filter(|line| shown(line)) {
            let reads: Vec<_> = line.reads.iter().map(ToString::to_string).collect();
            let (mut number, mut name) = (line.number.to_string(), line.name.as_str());
            let mut reads = reads.join(" ");
            for (worker, cost) in line.workers.iter().enumerate() {
                cost.write(out, &number, name, &reads, &worker.to_string(), width)?;
                number.clear();
                name = "";
                reads.clear();
            }
        }
        let total = match self.operators.iter().filter(|line| !shown(line)).count() {
            0 => "total".to_owned(),
            left_out => format!("total, with {left_out} idle"),
        };
        self.total.write(out, "", &total, "", "", width)?;
        Ok(())
    }
}

impl Line {
    /// Whether it took time that is seen in a list, or holds anything.
    fn matters(&self) -> bool {
        self.workers.iter().any(|cost| cost.ms >= 0.05 || cost.records != 0)
    }
}

impl Cost {
    fn write(
        &self,
        out: &mut dyn Write,
        number: &str,
        name: &str,
        reads: &str,
        worker: &str,
        width: usize,
    ) -> Result<()> {
        let Cost { activations, ms, percent, records } = self;
        writeln!(
            out,
            "{number:>3}  {name:<width$}  {reads:<9} {worker:>6} {activations:>11} {ms:>9.1} \
             {percent:>6.1} {records:>9}"
        )?;
        Ok(())
    }
}
