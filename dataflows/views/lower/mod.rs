//! From PostgreSQL's analysed tree to a plan. What views do not have is refused, with its place and
//! with what to write instead.
//!
//! PostgreSQL has resolved every name, type, cast and operator to an object id; what an id means is
//! read from the [`Catalog`]. Functions are known by the C function behind them, so a view calls
//! what is listed here and nothing else.

mod calls;
mod constants;
mod expressions;
mod from;
mod select;

use std::collections::HashMap;
use std::fmt;

use super::expr::Expr;
use super::plan::{Plan, SetOperation, push_limits};
use super::tree::{Malformed, Node, parse};
use from::Joined;

/// What object ids mean.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// `pg_proc`
    pub functions: HashMap<u32, Function>,
    /// `pg_operator`: the names.
    pub operators: HashMap<u32, String>,
    /// The relations, as far as they are known.
    pub relations: HashMap<u32, Relation>,
}

/// A function of PostgreSQL.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// `prosrc`
    pub source: String,
    /// `proname`
    pub name: String,
    /// Whether `provolatile` is `v`.
    pub volatile: bool,
}

/// A relation.
#[derive(Clone, Debug)]
pub enum Relation {
    /// A table whose rows come as they are.
    Table {
        /// Its place among the tables.
        place: usize,
        /// Its number of columns.
        arity: usize,
        /// Columns that together are unique and never NULL; none if there are none.
        key: Vec<usize>,
        /// Columns, by their places, that have no values here: who reads one is refused.
        hidden: Vec<usize>,
    },
    /// A relation that views do not read.
    Closed {
        /// Its name.
        name: String,
    },
    /// A view, of which the definition is evaluated.
    Defined {
        /// Its name.
        name: String,
        /// Its analysed tree.
        tree: String,
    },
}

/// Why a view is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where, as an offset in the text of the command, if PostgreSQL tells.
    pub place: Option<usize>,
    /// What is refused.
    pub why: String,
    /// What to write instead.
    pub instead: Option<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.instead {
            Some(instead) => write!(out, "{}: write {instead} instead", self.why),
            None => out.write_str(&self.why),
        }
    }
}

impl std::error::Error for Refused {}

type Lowered<T> = Result<T, Refused>;

fn refuse<T>(node: &Node, why: impl Into<String>) -> Lowered<T> {
    Err(Refused { place: node.place(), why: why.into(), instead: None })
}

fn instead<T>(node: &Node, why: impl Into<String>, write: impl Into<String>) -> Lowered<T> {
    Err(Refused { place: node.place(), why: why.into(), instead: Some(write.into()) })
}

/// Lowers the analysed tree of a view, as `pg_rewrite.ev_action` has it.
pub fn lower(tree: &str, catalog: &Catalog) -> Result<Plan, Refused> {
    let mut plan = Lowering { catalog, views: 0 }.view(tree)?;
    push_limits(&mut plan);
    Ok(plan)
}

/// How many views may read one another in a row.
const VIEWS: usize = 16;

/// How many nodes a plan may have: a WITH or a view that is read twice is there twice.
const NODES: usize = 1_000;

/// How many parts an expression may have: the operand of a CASE is there for each WHEN.
const PARTS: usize = 10_000;

/// The first object id that is not PostgreSQL's own.
const OWN: u32 = 16_384;

/// The column for which `market_now()` stands while a condition is lowered.
const CLOCK: usize = usize::MAX;

/// `interval = interval`
const INTERVAL_EQUAL: u32 = 1_330;

const CLOCK_INSTEAD: &str = "a condition of WHERE that is joined by AND, as \
                             `at > market_now() - interval '7 days'`,";

/// The queries of the WITHs around, the innermost last.
type Withs = Vec<(String, Plan)>;

/// Where a column comes from: the place in the range table and the column's number there.
type Sources = Vec<(i64, i64)>;

/// What an expression may refer to.
#[derive(Clone)]
struct Scope<'t> {
    query: &'t Node,
    /// Where the columns of the row come from.
    sources: Sources,
    /// Where they begin in the row.
    start: usize,
    /// Parts of the tree that are columns already: keys, aggregates, window functions.
    known: Vec<(&'t Node, usize)>,
    /// Behind a GROUP BY: its keys, over the row before it.
    keys: Option<Vec<Expr>>,
    outer: Option<&'t Scope<'t>>,
    /// What the parameters of `IN (SELECT ...)` stand for.
    parameters: Vec<Expr>,
    /// The operand of the CASE around.
    case: Option<Expr>,
    /// Whether `market_now()` is [`CLOCK`].
    clock: bool,
}

impl<'t> Scope<'t> {
    fn new(query: &'t Node, sources: Sources) -> Scope<'t> {
        Scope {
            query,
            sources,
            start: 0,
            known: vec![],
            keys: None,
            outer: None,
            parameters: vec![],
            case: None,
            clock: false,
        }
    }
}

/// The parts of an AND, from left to right.
fn conjuncts<'t>(node: &'t Node, out: &mut Vec<&'t Node>) {
    if node.kind() == "BOOLEXPR" && node.get("boolop").text() == "and" {
        node.get("args").list().iter().for_each(|part| conjuncts(part, out));
    } else if !node.is_none() {
        out.push(node);
    }
}

/// Whether something is true of a node or of one below it, in this query.
fn some(node: &Node, is: &dyn Fn(&Node) -> bool) -> bool {
    is(node) || node.kind() != "QUERY" && node.children().into_iter().any(|child| some(child, is))
}

/// The outermost nodes of a kind in this query, each once.
fn collect<'t>(node: &'t Node, kind: &str, out: &mut Vec<&'t Node>) {
    if node.kind() == kind {
        if !out.contains(&node) {
            out.push(node);
        }
    } else if node.kind() != "QUERY" {
        node.children().into_iter().for_each(|child| collect(child, kind, out));
    }
}

/// An entry of the range table, counted from 1.
fn entry(query: &Node, index: i64) -> Lowered<&Node> {
    let place = usize::try_from(index).ok().and_then(|index| index.checked_sub(1));
    match place.and_then(|place| query.get("rtable").list().get(place)) {
        Some(entry) => Ok(entry),
        None => refuse(query, "PostgreSQL's tree is not understood: no such relation"),
    }
}

/// What a clause of ORDER BY, GROUP BY or DISTINCT is about.
fn target<'t>(query: &'t Node, clause: &Node) -> Lowered<&'t Node> {
    let wanted = clause.int("tleSortGroupRef");
    let mut targets = query.get("targetList").list().iter();
    match targets.find(|target| target.int("ressortgroupref") == wanted) {
        Some(target) => Ok(target.get("expr")),
        None => refuse(query, "PostgreSQL's tree is not understood: no such target"),
    }
}

/// The `NOT` of a condition, taken off.
fn negation(node: &Node) -> (bool, &Node) {
    match node.get("args").list() {
        [inner] if node.kind() == "BOOLEXPR" && node.get("boolop").text() == "not" => (true, inner),
        _ => (false, node),
    }
}

/// The type of an expression, by its object id.
fn type_of(node: &Node) -> u32 {
    const NAMES: &str = "vartype consttype funcresulttype opresulttype resulttype casetype \
                         coalescetype minmaxtype refrestype aggtype wintype array_typeid typeId \
                         paramtype";
    if node.kind() == "COLLATEEXPR" {
        return type_of(node.get("arg"));
    }
    NAMES.split(' ').map(|name| node.oid(name)).find(|oid| *oid != 0).unwrap_or(16)
}

/// The collation of an expression.
fn collation_of(node: &Node) -> u32 {
    const NAMES: &str = "varcollid constcollid funccollid opcollid resultcollid casecollid \
                         coalescecollid minmaxcollid refcollid aggcollid wincollid array_collid \
                         collation paramcollid collOid";
    NAMES.split(' ').map(|name| node.oid(name)).find(|oid| *oid != 0).unwrap_or(0)
}

/// Whether text is ordered by its bytes: "C" and "POSIX". 0 is of what is no text.
fn by_bytes(collation: u32) -> bool {
    matches!(collation, 0 | 950 | 951)
}

const BYTES: &str = "x COLLATE \"C\"";

/// Refuses what is wrong with a query as a whole.
fn check(query: &Node) -> Lowered<()> {
    if query.flag("hasRecursive") {
        return refuse(query, "WITH RECURSIVE is not in views");
    }
    if query.int("commandType") != 1 || query.flag("hasModifyingCTE") {
        return refuse(query, "a view is a SELECT");
    }
    if query.flag("hasForUpdate") || !query.get("rowMarks").list().is_empty() {
        return refuse(query, "FOR UPDATE and FOR SHARE are not in views: a view locks nothing");
    }
    if query.flag("hasRowSecurity") {
        return refuse(query, "tables with row security are not in views");
    }
    if !query.get("groupingSets").is_none() {
        return instead(
            query,
            "GROUPING SETS, CUBE and ROLLUP are not in views",
            "a UNION ALL of one GROUP BY each",
        );
    }
    if query.flag("hasTargetSRFs") {
        return instead(
            query,
            "a function that returns several rows is not in SELECT",
            "`FROM table, unnest(table.array)`",
        );
    }
    if !query.get("limitOffset").is_none() {
        return instead(query, "OFFSET is not in views", "row_number() with a condition on it");
    }
    if query.int("limitOption") == 1 {
        return instead(query, "WITH TIES is not in views", "rank() with a condition on it");
    }
    Ok(())
}

/// Refuses what is equal for PostgreSQL without being the same.
fn equality(query: &Node, clause: &Node) -> Lowered<()> {
    equality_of(target(query, clause)?, clause)
}

fn equality_of(node: &Node, clause: &Node) -> Lowered<()> {
    if clause.oid("eqop") == INTERVAL_EQUAL {
        return instead(
            node,
            "intervals as keys are not in views: '1 day' equals '24 hours'",
            "a number or a time",
        );
    }
    if clause.oid("eqop") >= OWN {
        return refuse(node, "a key of such a type");
    }
    Ok(())
}

/// One that lowers trees.
struct Lowering<'c> {
    catalog: &'c Catalog,
    /// How many views are around.
    views: usize,
}

impl Lowering<'_> {
    fn view(&self, tree: &str) -> Lowered<Plan> {
        let tree = parse(tree).map_err(|malformed| {
            let why = match malformed {
                Malformed::TooDeep => "the expressions are nested too deeply",
                _ => "PostgreSQL's tree is not understood",
            };
            Refused { place: None, why: why.into(), instead: None }
        })?;
        let query = tree.list().first().unwrap_or(&Node::None);
        if query.kind() != "QUERY" {
            return refuse(query, "PostgreSQL's tree is not understood: no query");
        }
        self.query(query, &vec![])
    }

    fn function(&self, oid: u32) -> Option<&Function> {
        self.catalog.functions.get(&oid)
    }

    /// A query: WITH, set operations or FROM, and what is above.
    fn query(&self, query: &Node, withs: &Withs) -> Lowered<Plan> {
        check(query)?;
        let withs = self.withs(query, withs)?;
        let operations = query.get("setOperations");
        if !operations.is_none() {
            let plan = self.operation(query, operations, &withs)?;
            return self.limited(
                query,
                plan,
                &(0..query.get("targetList").list().len()).collect::<Vec<_>>(),
            );
        }
        let Joined { plan, sources, outward } = self.joined(query, &withs)?;
        if let Some(condition) = outward.first() {
            return around(condition);
        }
        self.select(query, plan, Scope::new(query, sources))
    }

    fn withs(&self, query: &Node, withs: &Withs) -> Lowered<Withs> {
        let mut withs = withs.clone();
        for with in query.get("cteList").list() {
            let plan = self.query(with.get("ctequery"), &withs)?;
            withs.push((with.get("ctename").text().into(), plan));
        }
        Ok(withs)
    }

    fn operation(&self, query: &Node, node: &Node, withs: &Withs) -> Lowered<Plan> {
        if node.kind() == "RANGETBLREF" {
            return self.query(entry(query, node.int("rtindex"))?.get("subquery"), withs);
        }
        if node.get("colTypes").list().iter().any(|of| of.number() == 1_186) {
            return instead(node, "set operations over intervals are not in views", "a number");
        }
        let left = self.operation(query, node.get("larg"), withs)?;
        let right = self.operation(query, node.get("rarg"), withs)?;
        let all = node.flag("all");
        let operation = match node.int("op") {
            1 => {
                let union = Plan::Union(vec![left, right]);
                return Ok(if all { union } else { Plan::Distinct(Box::new(union)) });
            }
            2 => SetOperation::Intersect,
            _ => SetOperation::Except,
        };
        Ok(Plan::Set { operation, all, left: Box::new(left), right: Box::new(right) })
    }
}

fn scalar<T>(node: &Node) -> Lowered<T> {
    instead(node, "a subquery as a value is not in views", "a JOIN with a GROUP BY")
}

fn around<T>(node: &Node) -> Lowered<T> {
    instead(
        node,
        "a column of the query around, but for a simple EXISTS or IN",
        "a JOIN with a GROUP BY",
    )
}

fn wall_clock<T>(node: &Node) -> Lowered<T> {
    instead(node, "the wall clock is not in views", "market_now(), in a condition of WHERE,")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::views::expr::{Arithmetic, Func, Width};
    use crate::views::value::Value;

    /// `SELECT 1 + 1 ...` with so many more, of the fields that are read.
    fn sum(more: usize) -> String {
        let one = "{CONST :consttype 23 :constisnull false :constvalue 4 [ 1 0 0 0 0 0 0 0 ]}";
        let left = "{OPEXPR :opfuncid 177 :opresulttype 23 :args (".repeat(more);
        let right = format!(" {one}) :location 9}}").repeat(more);
        format!(
            "({{QUERY :commandType 1 :jointree {{FROMEXPR :fromlist <> :quals <>}} :targetList \
             ({{TARGETENTRY :expr {left}{one}{right} :resno 1 :resjunk false}})}})"
        )
    }

    fn catalog(source: &str) -> Catalog {
        let function = Function { source: source.into(), name: source.into(), volatile: false };
        Catalog { functions: [(177, function)].into(), ..Catalog::default() }
    }

    #[test]
    fn a_sum_is_lowered() {
        let plan = lower(&sum(1), &catalog("int4pl")).unwrap();
        let one = || Expr::Constant(Value::Int(1));
        let add = Func::Integer(Arithmetic::Add, Width::Integer);
        let row = Plan::Values(vec![Arc::new([])]);
        assert_eq!(plan, row.project(vec![Expr::Call(add, vec![one(), one()])]));
    }

    #[test]
    fn what_is_not_listed_is_refused_with_its_place() {
        let refused = lower(&sum(1), &catalog("int4and")).unwrap_err();
        assert_eq!(refused.place, Some(9));
        assert_eq!(refused.to_string(), "int4and() is not among the functions of views");
        assert!(lower(&sum(1), &Catalog::default()).is_err());
        assert!(lower("({QUERY :commandType 2})", &Catalog::default()).is_err());
        assert!(lower("()", &Catalog::default()).is_err());
    }

    #[test]
    fn what_is_deep_is_refused_and_not_overrun() {
        assert!(lower(&sum(90), &catalog("int4pl")).is_ok());
        let refused = lower(&sum(5_000), &catalog("int4pl")).unwrap_err();
        assert_eq!(refused.to_string(), "the expressions are nested too deeply");
    }

    #[test]
    fn whatever_is_missing_in_a_tree_is_no_panic() {
        let tree = sum(2);
        let places = tree.match_indices(' ').map(|(place, _)| place).collect::<Vec<_>>();
        for (number, from) in places.iter().enumerate() {
            for until in &places[number..(number + 6).min(places.len())] {
                let cut = format!("{}{}", &tree[..*from], &tree[*until..]);
                let _ = lower(&cut, &catalog("int4pl"));
            }
        }
    }
}
