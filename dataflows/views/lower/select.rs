//! What is above FROM: groups and aggregates, windows, the columns, DISTINCT, and the first rows of
//! an order.

use std::collections::BTreeSet;

use super::{
    BYTES, Lowered, Lowering, OWN, Scope, by_bytes, collation_of, collect, conjuncts, equality,
    equality_of, instead, refuse, target,
};
use crate::views::expr::Expr;
use crate::views::plan::{
    AGGREGATES, Aggregate, AggregateKind, Limit, Order, Plan, WindowFunction,
};
use crate::views::tree::Node;
use crate::views::value::Value;

impl Lowering<'_> {
    /// What is above WHERE: GROUP BY, HAVING, windows, SELECT, DISTINCT and LIMIT.
    pub(super) fn select<'t>(
        &self,
        query: &'t Node,
        plan: Plan,
        mut scope: Scope<'t>,
    ) -> Lowered<Plan> {
        let mut plan = self.grouped(query, plan, &mut scope)?;
        let input = plan.clone();
        let mut windows = vec![];
        if query.flag("hasWindowFuncs") {
            plan = self.windows(query, plan, &mut scope, &mut windows)?;
        }
        // Others than these are there for GROUP BY or a window only, and are no columns any more.
        let distinct = query.get("distinctClause");
        let (one_each, limit) = (query.flag("hasDistinctOn"), query.get("limitCount"));
        let sorted = one_each || !is_unlimited(limit);
        let refers = |clauses: &Node, target: &Node| {
            let reference = target.int("ressortgroupref");
            let mut clauses = clauses.list().iter();
            reference != 0 && clauses.any(|clause| clause.int("tleSortGroupRef") == reference)
        };
        let targets: Vec<&Node> = query.get("targetList").list().iter().collect();
        let kept: Vec<&Node> = targets
            .into_iter()
            .filter(|target| {
                let for_sort = sorted && refers(query.get("sortClause"), target);
                !target.flag("resjunk") || for_sort || one_each && refers(distinct, target)
            })
            .collect();
        let columns = kept.iter().map(|target| self.expr(target.get("expr"), &scope));
        let columns = columns.collect::<Lowered<Vec<_>>>()?;
        let shown: Vec<usize> =
            (0..kept.len()).filter(|place| !kept[*place].flag("resjunk")).collect();
        let used = shown.iter().flat_map(|place| columns[*place].columns()).collect();
        check_windows(&input, &windows, used)?;
        plan = plan.project(columns);
        let place = |clause: &Node| {
            let wanted = clause.int("tleSortGroupRef");
            kept.iter().position(|target| target.int("ressortgroupref") == wanted)
        };
        if one_each {
            let clauses = distinct.list().iter();
            let keys = clauses.map(|clause| {
                equality(query, clause)?;
                match place(clause) {
                    Some(place) => Ok(Expr::Column(place)),
                    None => refuse(query, "PostgreSQL's tree is not understood: DISTINCT ON"),
                }
            });
            let keys = keys.collect::<Lowered<_>>()?;
            let order = self.sorted(query, &place)?;
            plan = first_rows(query, "DISTINCT ON", plan, keys, order, 1, &shown)?;
        } else if !distinct.is_none() {
            for clause in distinct.list() {
                equality(query, clause)?;
            }
            plan = Plan::Distinct(Box::new(plan));
        }
        if let Some(count) = self.limit(query)? {
            let order = self.sorted(query, &place)?;
            plan = first_rows(query, "LIMIT", plan, vec![], order, count, &shown)?;
        }
        if plan.arity() > shown.len() {
            plan = plan.project(shown.into_iter().map(Expr::Column).collect());
        }
        Ok(plan)
    }

    /// The LIMIT of a set operation, whose columns stand as they are shown.
    pub(super) fn limited(&self, query: &Node, plan: Plan, shown: &[usize]) -> Lowered<Plan> {
        let Some(count) = self.limit(query)? else { return Ok(plan) };
        let targets = query.get("targetList").list();
        let place = |clause: &Node| {
            let wanted = clause.int("tleSortGroupRef");
            targets.iter().position(|target| target.int("ressortgroupref") == wanted)
        };
        let order = self.sorted(query, &place)?;
        let plan = first_rows(query, "LIMIT", plan, vec![], order, count, shown)?;
        Ok(plan.project(shown.iter().copied().map(Expr::Column).collect()))
    }

    pub(super) fn limit(&self, query: &Node) -> Lowered<Option<i64>> {
        let limit = query.get("limitCount");
        if is_unlimited(limit) {
            return Ok(None);
        }
        match self.expr(limit, &Scope::new(query, vec![]))?.constant() {
            Some(Value::Int(count)) if count >= 0 => Ok(Some(count)),
            Some(Value::Null) => Ok(None),
            _ => refuse(limit, "a LIMIT that is not a constant number"),
        }
    }

    /// The ORDER BY over columns at the places of its targets.
    pub(super) fn sorted(
        &self,
        query: &Node,
        place: &dyn Fn(&Node) -> Option<usize>,
    ) -> Lowered<Vec<Order>> {
        let clauses = query.get("sortClause").list().iter();
        let orders = clauses.map(|clause| match place(clause) {
            Some(place) => self.order(clause, target(query, clause)?, Expr::Column(place)),
            None => refuse(query, "PostgreSQL's tree is not understood: ORDER BY"),
        });
        orders.collect()
    }

    pub(super) fn order(&self, clause: &Node, node: &Node, by: Expr) -> Lowered<Order> {
        equality_of(node, clause)?;
        if !by_bytes(collation_of(node)) {
            return instead(node, "the order of text depends on the collation", BYTES);
        }
        let operator = clause.oid("sortop");
        let descending = match self.catalog.operators.get(&operator).map(String::as_str) {
            Some("<") if operator < OWN => false,
            Some(">") if operator < OWN => true,
            _ => return refuse(node, "ORDER BY with such an operator"),
        };
        Ok(Order { by, descending, nulls_first: clause.flag("nulls_first") })
    }

    /// GROUP BY and HAVING.
    pub(super) fn grouped<'t>(
        &self,
        query: &'t Node,
        plan: Plan,
        scope: &mut Scope<'t>,
    ) -> Lowered<Plan> {
        let clauses = query.get("groupClause").list();
        let having = query.get("havingQual");
        if !query.flag("hasAggs") && clauses.is_empty() && having.is_none() {
            return Ok(plan);
        }
        let mut nodes = vec![];
        for clause in clauses {
            equality(query, clause)?;
            nodes.push(target(query, clause)?);
        }
        let keys = nodes.iter().map(|node| self.expr(node, scope)).collect::<Lowered<Vec<_>>>()?;
        let mut found = vec![];
        collect(query.get("targetList"), "AGGREF", &mut found);
        collect(having, "AGGREF", &mut found);
        let aggregates = found.iter().map(|node| self.aggregate(node, scope));
        let aggregates = aggregates.collect::<Lowered<Vec<_>>>()?;
        if aggregates.len() > AGGREGATES {
            let why = format!("more than {AGGREGATES} aggregates of one GROUP BY are not in views");
            return instead(query, why, "a JOIN of two of them");
        }
        scope.known = nodes.into_iter().chain(found).zip(0..).collect();
        scope.keys = Some(keys.clone());
        let mut plan = Plan::Group { input: Box::new(plan), keys, aggregates };
        let mut conditions = vec![];
        conjuncts(having, &mut conditions);
        for condition in conditions {
            plan = plan.conditioned(self.condition(condition, scope)?);
        }
        Ok(plan)
    }

    pub(super) fn aggregate(&self, node: &Node, scope: &Scope<'_>) -> Lowered<Aggregate> {
        let oid = node.oid("aggfnoid");
        let name = self.function(oid).filter(|_| oid < OWN).map_or("", |known| &known.name);
        if !node.get("aggorder").is_none() || node.get("aggkind").text() != "n" {
            return instead(
                node,
                "an ORDER BY in an aggregate is not in views",
                "a window function",
            );
        }
        if node.int("agglevelsup") > 0 {
            return refuse(node, "an aggregate of the query around");
        }
        let types = node.get("aggargtypes").list();
        let of = types.get(1).map(Node::number);
        let ordered = matches!(of, Some(20 | 21 | 23 | 25 | 1_082 | 1_114 | 1_184 | 1_700));
        let kind = match (name, of) {
            ("count", None) => AggregateKind::CountRows,
            ("count", _) => AggregateKind::Count,
            ("sum", Some(21 | 23)) => AggregateKind::SumBigint,
            ("sum", Some(20 | 1_700)) => AggregateKind::SumNumeric,
            ("bool_and" | "every", _) => AggregateKind::BoolAnd,
            ("bool_or", _) => AggregateKind::BoolOr,
            ("min" | "max", _) if ordered => {
                if !by_bytes(node.oid("inputcollid")) {
                    let write = format!("{name}({BYTES})");
                    return instead(node, "the order of text depends on the collation", write);
                }
                if name == "min" { AggregateKind::Min } else { AggregateKind::Max }
            }
            ("avg", _) => {
                return instead(
                    node,
                    "avg is not in views",
                    "sum(...) and count(...), to be divided where they are shown,",
                );
            }
            ("string_agg" | "array_agg", _) => {
                return instead(node, format!("{name} is not in views"), "one row for each value");
            }
            ("", _) => return refuse(node, "such an aggregate is not in views"),
            _ => return refuse(node, format!("{name} of this type is not in views")),
        };
        let distinct = node.get("aggdistinct").list();
        for clause in distinct {
            equality_of(node, clause)?;
        }
        let argument = match node.get("args").list() {
            [] => None,
            [argument] => Some(self.expr(argument.get("expr"), scope)?),
            _ => return refuse(node, "an aggregate of several arguments"),
        };
        let filter = node.get("aggfilter");
        let filter = if filter.is_none() { None } else { Some(self.expr(filter, scope)?) };
        Ok(Aggregate { kind, distinct: !distinct.is_empty(), argument, filter })
    }

    /// A node for each window, one upon the other.
    fn windows<'t>(
        &self,
        query: &'t Node,
        mut plan: Plan,
        scope: &mut Scope<'t>,
        windows: &mut Vec<Window<'t>>,
    ) -> Lowered<Plan> {
        let mut found = vec![];
        collect(query.get("targetList"), "WINDOWFUNC", &mut found);
        let input = scope.clone();
        for clause in query.get("windowClause").list() {
            let of_this = |node: &&&Node| node.int("winref") == clause.int("winref");
            let nodes: Vec<&Node> = found.iter().filter(of_this).copied().collect();
            let Some(first) = nodes.first() else { continue };
            let mut keys = vec![];
            for part in clause.get("partitionClause").list() {
                equality(query, part)?;
                keys.push(self.expr(target(query, part)?, &input)?);
            }
            let mut order = vec![];
            for part in clause.get("orderClause").list() {
                let node = target(query, part)?;
                order.push(self.order(part, node, self.expr(node, &input)?)?);
            }
            let functions = nodes.iter().map(|node| self.window_function(node, &input));
            let functions = functions.collect::<Lowered<Vec<_>>>()?;
            scope.known.extend(nodes.iter().copied().zip(plan.arity()..));
            windows.push(Window {
                node: first,
                keys: keys.clone(),
                order: order.clone(),
                functions: functions.clone(),
            });
            plan = Plan::Window { input: Box::new(plan), keys, order, functions, limit: None };
        }
        Ok(plan)
    }

    pub(super) fn window_function(
        &self,
        node: &Node,
        scope: &Scope<'_>,
    ) -> Lowered<WindowFunction> {
        let oid = node.oid("winfnoid");
        let name = self.function(oid).filter(|_| oid < OWN).map_or("", |known| &known.name);
        let arguments = node.get("args").list().iter().map(|argument| self.expr(argument, scope));
        let arguments = arguments.collect::<Lowered<Vec<_>>>()?;
        match name {
            "row_number" => Ok(WindowFunction::RowNumber),
            "rank" => Ok(WindowFunction::Rank),
            "lag" | "lead" => {
                let offset = arguments.get(1).map_or(Some(Value::Int(1)), Expr::constant);
                let default = arguments.get(2).map_or(Some(Value::Null), Expr::constant);
                let (Some(value), Some(Value::Int(offset)), Some(default)) =
                    (arguments.first().cloned(), offset, default)
                else {
                    return refuse(node, format!("{name} needs a constant offset and default"));
                };
                let offset = if name == "lead" { -offset } else { offset };
                Ok(WindowFunction::Lag { value, offset, default })
            }
            _ if node.flag("winagg") => {
                instead(node, "aggregates over windows are not in views", "a JOIN with a GROUP BY")
            }
            _ => instead(
                node,
                format!("the window function {name} is not in views"),
                "row_number, rank, lag or lead",
            ),
        }
    }
}

/// A window, for the question whether its result is determined.
struct Window<'t> {
    node: &'t Node,
    keys: Vec<Expr>,
    order: Vec<Order>,
    functions: Vec<WindowFunction>,
}

/// Whether rows that an order leaves beside each other are the same in all that is used: then it
/// does not matter which of them is first.
fn is_determined(
    plan: &Plan,
    keys: &[Expr],
    order: &[Order],
    used: Option<&BTreeSet<usize>>,
) -> bool {
    let fixed: BTreeSet<&Expr> = keys.iter().chain(order.iter().map(|order| &order.by)).collect();
    let is_fixed = |column: &usize| fixed.contains(&Expr::Column(*column));
    plan.key().is_some_and(|key| key.iter().all(is_fixed))
        || used.is_some_and(|used| used.iter().all(is_fixed))
}

const ORDER_INSTEAD: &str = "an ORDER BY that ends in a key of the rows (a unique column)";

/// Refuses numbers of rows whose order is open.
fn check_windows(input: &Plan, windows: &[Window<'_>], mut used: BTreeSet<usize>) -> Lowered<()> {
    for window in windows {
        let order = window.order.iter().map(|order| &order.by);
        used.extend(window.keys.iter().chain(order).flat_map(Expr::columns));
        for function in &window.functions {
            if let WindowFunction::Lag { value, .. } = function {
                used.extend(value.columns());
            }
        }
    }
    used.retain(|column| *column < input.arity());
    let open = |window: &&Window<'_>| window.functions.iter().any(|f| *f != WindowFunction::Rank);
    let open: Vec<_> = windows.iter().filter(open).collect();
    for window in &open {
        // Two windows may take equal rows in different orders.
        let used = (open.len() == 1).then_some(&used);
        if !is_determined(input, &window.keys, &window.order, used) {
            return instead(
                window.node,
                "row_number, lag and lead over rows whose order is not determined",
                ORDER_INSTEAD,
            );
        }
    }
    Ok(())
}

/// Whether there is no LIMIT, or LIMIT ALL.
fn is_unlimited(limit: &Node) -> bool {
    limit.is_none() || limit.kind() == "CONST" && limit.flag("constisnull")
}

/// The first rows of each group in an order, with a column more.
fn first_rows(
    query: &Node,
    what: &str,
    plan: Plan,
    keys: Vec<Expr>,
    order: Vec<Order>,
    count: i64,
    shown: &[usize],
) -> Lowered<Plan> {
    let used = shown.iter().copied().collect();
    // No row, or all of them: whichever the order.
    if count > 0 && !is_determined(&plan, &keys, &order, Some(&used)) {
        let place = query
            .get("sortClause")
            .list()
            .first()
            .map_or(query, |clause| target(query, clause).unwrap_or(query));
        return instead(
            place,
            format!("{what} over rows whose order is not determined"),
            ORDER_INSTEAD,
        );
    }
    Ok(Plan::Window {
        input: Box::new(plan),
        keys,
        order,
        functions: vec![WindowFunction::RowNumber],
        limit: Some(Limit { function: 0, count }),
    })
}
