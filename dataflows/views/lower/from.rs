//! FROM and WHERE: what is joined by which keys, and what is a condition on the rows or on the
//! market's time.

use std::sync::Arc;

use super::{
    CLOCK, CLOCK_INSTEAD, Lowered, Lowering, NODES, OWN, Refused, Relation, Scope, Sources, VIEWS,
    Withs, check, conjuncts, entry, instead, negation, refuse, scalar, some,
};
use crate::views::expr::{Comparison, Expr, Func};
use crate::views::plan::{Condition, JoinKind, Plan, WhileCondition};
use crate::views::tree::Node;
use crate::views::value::Value;

/// What a FROM has joined.
pub(super) struct Joined<'t> {
    pub(super) plan: Plan,
    pub(super) sources: Sources,
    /// Conditions that speak of the query around.
    pub(super) outward: Vec<&'t Node>,
}

impl Lowering<'_> {
    /// FROM and WHERE.
    pub(super) fn joined<'t>(&self, query: &'t Node, withs: &Withs) -> Lowered<Joined<'t>> {
        let from = query.get("jointree");
        let mut conditions = vec![];
        conjuncts(from.get("quals"), &mut conditions);
        // What unnests arrays waits for the relations that have them.
        let (mut tables, mut unnests) = (vec![], vec![]);
        for item in from.get("fromlist").list() {
            if item.kind() == "RANGETBLREF"
                && entry(query, item.int("rtindex"))?.int("rtekind") == 3
            {
                unnests.push(item.int("rtindex"));
            } else {
                tables.push(self.item(query, item, withs)?);
            }
        }
        let nothing = (Plan::Values(vec![Arc::new([])]), vec![]);
        let mut joined = if tables.is_empty() { nothing } else { tables.remove(0) };
        while !tables.is_empty() || !unnests.is_empty() {
            let ready =
                unnests.iter().position(|index| self.unnest(query, *index, joined.clone()).is_ok());
            let keyed = tables.iter().position(|table| {
                let (keys, _) = self.find_keys(query, &joined, table, &conditions);
                !keys.is_empty()
            });
            joined = match (keyed, ready) {
                (None, Some(ready)) => self.unnest(query, unnests.remove(ready), joined)?,
                (None, None) if tables.is_empty() => {
                    self.unnest(query, unnests.remove(0), joined)?
                }
                (keyed, _) => {
                    let table = tables.remove(keyed.unwrap_or(0));
                    self.inner_join(query, joined, table, &mut conditions)
                }
            };
        }
        let (plan, sources) = joined;
        self.conditions(query, plan, sources, &conditions, withs)
    }

    /// The equalities among some conditions that are keys between two relations, and their places.
    pub(super) fn find_keys(
        &self,
        query: &Node,
        left: &(Plan, Sources),
        right: &(Plan, Sources),
        conditions: &[&Node],
    ) -> (Vec<(Expr, Expr)>, Vec<usize>) {
        let scope = Scope::new(query, left.1.iter().chain(&right.1).copied().collect());
        let (mut keys, mut places) = (vec![], vec![]);
        for (place, condition) in conditions.iter().enumerate() {
            let Ok(condition) = self.expr(condition, &scope) else { continue };
            if let Some(key) = key(&condition, left.1.len())
                && (condition.is_safe() || places.len() == place)
            {
                keys.push(key);
                places.push(place);
            }
        }
        (keys, places)
    }

    /// Joins two relations and takes the equalities between them out of the conditions.
    pub(super) fn inner_join(
        &self,
        query: &Node,
        left: (Plan, Sources),
        right: (Plan, Sources),
        conditions: &mut Vec<&Node>,
    ) -> (Plan, Sources) {
        let (keys, places) = self.find_keys(query, &left, &right, conditions);
        let mut place = 0;
        conditions.retain(|_| {
            place += 1;
            !places.contains(&(place - 1))
        });
        let ((left, mut sources), (right, others)) = (left, right);
        sources.extend(others);
        let (left, right) = (Box::new(left), Box::new(right));
        let kind = JoinKind::Inner;
        (Plan::Join { kind, left, right, keys, residual: None }, sources)
    }

    /// Applies conditions from left to right.
    pub(super) fn conditions<'t>(
        &self,
        query: &'t Node,
        mut plan: Plan,
        sources: Sources,
        conditions: &[&'t Node],
        withs: &Withs,
    ) -> Lowered<Joined<'t>> {
        let scope = Scope::new(query, sources.clone());
        let mut outward = vec![];
        let is_outward = |node: &Node| node.kind() == "VAR" && node.int("varlevelsup") > 0;
        for condition in conditions {
            let (no, inner) = negation(condition);
            if inner.kind() == "SUBLINK" {
                plan = self.exists(no, inner, plan, &scope, withs)?;
                continue;
            }
            if some(condition, &is_outward) {
                outward.push(*condition);
                continue;
            }
            let lowered = self.condition(condition, &scope)?;
            // Behind a condition that has to wait, one that may raise waits, too.
            match lowered {
                Condition::Row(ref row) if !outward.is_empty() && !row.is_safe() => {
                    outward.push(*condition);
                }
                lowered => plan = plan.conditioned(lowered),
            }
        }
        Ok(Joined { plan, sources, outward })
    }

    pub(super) fn reads_clock(&self, node: &Node) -> bool {
        some(node, &|node| node.kind() == "FUNCEXPR" && self.is_clock(node))
    }

    pub(super) fn is_clock(&self, node: &Node) -> bool {
        let function = self.function(node.oid("funcid"));
        function.is_some_and(|function| function.name == "market_now")
    }

    /// A condition on the row, or on the row and the market's time.
    pub(super) fn condition(&self, node: &Node, scope: &Scope<'_>) -> Lowered<Condition> {
        if !self.reads_clock(node) {
            return Ok(Condition::Row(self.expr(node, scope)?));
        }
        if node.kind() != "OPEXPR" {
            return instead(node, "market_now() is not in such a condition", CLOCK_INSTEAD);
        }
        let scope = Scope { clock: true, ..scope.clone() };
        let Expr::Call(Func::Compare(comparison), sides) = self.expr(node, &scope)? else {
            return instead(node, "market_now() is not in such a condition", CLOCK_INSTEAD);
        };
        let Ok([left, right]) = <[Expr; 2]>::try_from(sides) else {
            return refuse(node, "PostgreSQL's tree is not understood: a comparison of one");
        };
        let reads = |side: &Expr| side.columns().contains(&CLOCK);
        let (at, comparison, bound) = match (reads(&left), reads(&right)) {
            (false, true) => (left, comparison, right),
            (true, false) => (right, comparison.swapped(), left),
            _ => {
                return instead(node, "market_now() on both sides", "it on one side");
            }
        };
        if matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            return instead(node, "market_now() with = or <>", "two conditions with >= and <");
        }
        let bound = bound.moved(&|_| 0);
        let condition = WhileCondition { at, comparison, bound };
        if !condition.is_known() {
            return instead(
                node,
                "market_now() in such an expression",
                "it with constant intervals (months first), date_trunc, ::date and AT TIME ZONE \
                 only, and the row's columns on the other side,",
            );
        }
        Ok(Condition::While(condition))
    }

    /// An item of FROM.
    pub(super) fn item(
        &self,
        query: &Node,
        node: &Node,
        withs: &Withs,
    ) -> Lowered<(Plan, Sources)> {
        if node.kind() != "JOINEXPR" {
            return self.table(query, node.int("rtindex"), withs);
        }
        let left = self.item(query, node.get("larg"), withs)?;
        let mut conditions = vec![];
        conjuncts(node.get("quals"), &mut conditions);
        let kind = node.int("jointype");
        let right = node.get("rarg");
        let index = right.int("rtindex");
        if right.kind() == "RANGETBLREF" && entry(query, index)?.int("rtekind") == 3 {
            if kind != 0 {
                return instead(
                    entry(query, index)?,
                    "an outer join with unnest is not in views",
                    "a UNION ALL of the unnested rows and of those whose array is empty",
                );
            }
            let (plan, sources) = self.unnest(query, index, left)?;
            return self.inner(query, plan, sources, &conditions, withs);
        }
        let right = self.item(query, right, withs)?;
        match kind {
            0 => {
                let (plan, sources) = self.inner_join(query, left, right, &mut conditions);
                self.inner(query, plan, sources, &conditions, withs)
            }
            1 => self.outer_join(query, left, right, &conditions),
            3 => self.outer_join(query, right, left, &conditions),
            _ => instead(
                conditions.first().copied().unwrap_or(node),
                "FULL JOIN is not in views",
                "a LEFT JOIN and UNION ALL the other side's rows that NOT EXISTS in it",
            ),
        }
    }

    /// The conditions of an inner JOIN, which are as good as in WHERE.
    pub(super) fn inner(
        &self,
        query: &Node,
        plan: Plan,
        sources: Sources,
        conditions: &[&Node],
        withs: &Withs,
    ) -> Lowered<(Plan, Sources)> {
        let Joined { plan, sources, outward } =
            self.conditions(query, plan, sources, conditions, withs)?;
        match outward.first() {
            Some(condition) => {
                instead(condition, "a reference to the query around, in a JOIN's ON", "it in WHERE")
            }
            None => Ok((plan, sources)),
        }
    }

    /// A LEFT JOIN. Conditions on the right side alone are applied to it before.
    pub(super) fn outer_join(
        &self,
        query: &Node,
        left: (Plan, Sources),
        right: (Plan, Sources),
        conditions: &[&Node],
    ) -> Lowered<(Plan, Sources)> {
        let ((left, mut sources), (mut right, others)) = (left, right);
        let arity = sources.len();
        sources.extend(others);
        let scope = Scope::new(query, sources.clone());
        let mut rest = vec![];
        for condition in conditions {
            if negation(condition).1.kind() == "SUBLINK" {
                return instead(
                    condition,
                    "a subquery in the ON of an outer join is not in views",
                    "a join with a subquery that has the condition in its WHERE",
                );
            }
            let lowered = self.condition(condition, &scope)?;
            let of_right = lowered.columns().iter().all(|column| *column >= arity);
            match lowered {
                lowered if of_right && lowered.is_safe() && !lowered.columns().is_empty() => {
                    right = right.conditioned(lowered.moved(&|column| column - arity));
                }
                Condition::Row(row) => rest.push(row),
                Condition::While(_) => {
                    return instead(
                        condition,
                        "market_now() in the ON of an outer join",
                        "a join with a subquery that has the condition in its WHERE",
                    );
                }
            }
        }
        let (keys, rest) = keys(rest, arity);
        let (left, right, residual) = (Box::new(left), Box::new(right), Expr::all(rest));
        Ok((Plan::Join { kind: JoinKind::Left, left, right, keys, residual }, sources))
    }

    /// A relation, a subquery, VALUES or a WITH.
    pub(super) fn table(
        &self,
        query: &Node,
        index: i64,
        withs: &Withs,
    ) -> Lowered<(Plan, Sources)> {
        let entry = entry(query, index)?;
        let plan = match entry.int("rtekind") {
            0 => self.relation(entry)?,
            1 => self.query(entry.get("subquery"), withs)?,
            3 => return self.unnest(query, index, (Plan::Values(vec![Arc::new([])]), vec![])),
            5 => self.values(query, entry)?,
            6 => {
                let name = entry.get("ctename").text();
                match withs.iter().rev().find(|(with, _)| with == name) {
                    Some((_, plan)) => plan.clone(),
                    None => return refuse(entry, format!("no WITH of the name {name}")),
                }
            }
            _ => return refuse(entry, "such an item of FROM is not in views"),
        };
        if plan.size() > NODES {
            return refuse(entry, "the view is too large: a WITH counts wherever it is read");
        }
        let sources = (1..=plan.arity() as i64).map(|column| (index, column)).collect();
        Ok((plan, sources))
    }

    pub(super) fn relation(&self, entry: &Node) -> Lowered<Plan> {
        let name = entry.get("eref").get("aliasname").text();
        if !entry.get("tablesample").is_none() {
            return refuse(entry, "TABLESAMPLE is not in views: it is left to chance");
        }
        if !entry.get("securityQuals").is_none() {
            return refuse(entry, "tables with row security are not in views");
        }
        match self.catalog.relations.get(&entry.oid("relid")) {
            Some(Relation::Table { place, arity, key, .. }) => {
                Ok(Plan::Scan { table: *place, arity: *arity, key: key.clone() })
            }
            Some(Relation::Defined { name, tree }) => {
                if self.views >= VIEWS {
                    return refuse(entry, format!("views upon views end at {VIEWS} levels"));
                }
                let inner = Lowering { catalog: self.catalog, views: self.views + 1 };
                inner.view(tree).map_err(|refused| Refused {
                    place: entry.place(),
                    why: format!("in the view {name}: {}", refused.why),
                    ..refused
                })
            }
            Some(Relation::Closed { name }) if name == "commit_points" => instead(
                entry,
                "commit_points is not among the relations that views read",
                "market_now() in a condition, or join the relation `market`,",
            ),
            Some(Relation::Closed { name }) => {
                refuse(entry, format!("{name} is not among the relations that views read"))
            }
            None => refuse(entry, format!("{name} is not among the relations that views read")),
        }
    }

    pub(super) fn values(&self, query: &Node, entry: &Node) -> Lowered<Plan> {
        let scope = Scope::new(query, vec![]);
        let rows = entry.get("values_lists").list().iter().map(|row| {
            let values = row.list().iter().map(|item| match self.expr(item, &scope) {
                Ok(expr) => match expr.constant() {
                    Some(value) => Ok(value),
                    None => refuse(item, "VALUES that are not constant"),
                },
                Err(refused) => Err(refused),
            });
            values.collect::<Lowered<Arc<[Value]>>>()
        });
        Ok(Plan::Values(rows.collect::<Lowered<_>>()?))
    }

    /// `unnest` of arrays of what stands before it.
    pub(super) fn unnest(
        &self,
        query: &Node,
        index: i64,
        (input, mut sources): (Plan, Sources),
    ) -> Lowered<(Plan, Sources)> {
        let entry = entry(query, index)?;
        let scope = Scope::new(query, sources.clone());
        let mut arrays = vec![];
        for function in entry.get("functions").list() {
            let call = function.get("funcexpr");
            let known = self.function(call.oid("funcid"));
            let name = known.map_or("such a function", |known| known.name.as_str());
            let is_unnest = known.is_some_and(|known| known.source == "array_unnest");
            match call.get("args").list() {
                [array] if is_unnest && call.oid("funcid") < OWN => {
                    arrays.push(self.expr(array, &scope)?);
                }
                _ => {
                    return instead(
                        call,
                        format!("{name} is not in FROM"),
                        "unnest of an array, or VALUES,",
                    );
                }
            }
        }
        let ordinality = entry.flag("funcordinality");
        let columns = arrays.len() + usize::from(ordinality);
        sources.extend((1..=columns as i64).map(|column| (index, column)));
        Ok((Plan::Unnest { input: Box::new(input), arrays, ordinality }, sources))
    }

    /// `EXISTS (SELECT ...)` and `IN (SELECT ...)`.
    pub(super) fn exists(
        &self,
        no: bool,
        node: &Node,
        plan: Plan,
        scope: &Scope<'_>,
        withs: &Withs,
    ) -> Lowered<Plan> {
        let query = node.get("subselect");
        let any = match node.int("subLinkType") {
            0 => false,
            2 if no => {
                return instead(
                    node,
                    "NOT IN (SELECT ...) is never true beside a NULL",
                    "NOT EXISTS",
                );
            }
            2 => true,
            1 => return instead(node, "ALL (SELECT ...) is not in views", "NOT EXISTS"),
            _ => return scalar(node),
        };
        check(query)?;
        let withs = self.withs(query, withs)?;
        let whole = ["groupClause", "limitCount", "setOperations", "havingQual"];
        let simple =
            !["hasAggs", "hasWindowFuncs", "hasDistinctOn"].iter().any(|it| query.flag(it))
                && whole.iter().all(|it| query.get(it).is_none());
        let arity = plan.arity();
        let Joined { plan: inner, sources, outward } = if simple {
            self.joined(query, &withs)?
        } else {
            Joined { plan: self.query(query, &withs)?, sources: vec![], outward: vec![] }
        };
        let below = Scope { start: arity, outer: Some(scope), ..Scope::new(query, sources) };
        let mut conditions = vec![];
        if any {
            let targets = query.get("targetList").list();
            let targets = targets.iter().filter(|target| !target.flag("resjunk")).enumerate();
            let parameters = targets.map(|(place, target)| {
                if simple {
                    self.expr(target.get("expr"), &below)
                } else {
                    Ok(Expr::Column(arity + place))
                }
            });
            let parameters = parameters.collect::<Lowered<_>>()?;
            let test = Scope { parameters, ..scope.clone() };
            let mut tests = vec![];
            conjuncts(node.get("testexpr"), &mut tests);
            for part in tests {
                conditions.push(self.expr(part, &test)?);
            }
        }
        for condition in outward {
            if self.reads_clock(condition) {
                return instead(
                    condition,
                    "market_now() beside a column of the query around",
                    "two conditions",
                );
            }
            conditions.push(self.expr(condition, &below)?);
        }
        let (keys, rest) = keys(conditions, arity);
        Ok(Plan::Join {
            kind: if no { JoinKind::Anti } else { JoinKind::Semi },
            left: Box::new(plan),
            right: Box::new(inner),
            keys,
            residual: Expr::all(rest),
        })
    }
}

/// Makes keys of the equalities between two sides, of which the left has so many columns. One that
/// may raise does not go before a condition that stands before it.
fn keys(conditions: Vec<Expr>, arity: usize) -> (Vec<(Expr, Expr)>, Vec<Expr>) {
    let (mut keys, mut rest) = (vec![], vec![]);
    for condition in conditions {
        match key(&condition, arity) {
            Some(key) if rest.is_empty() || condition.is_safe() => keys.push(key),
            _ => rest.push(condition),
        }
    }
    (keys, rest)
}

fn key(condition: &Expr, arity: usize) -> Option<(Expr, Expr)> {
    let Expr::Call(Func::Compare(Comparison::Equal), sides) = condition else { return None };
    let [one, other] = sides.as_slice() else { return None };
    let within = |expr: &Expr, left: bool| {
        let columns = expr.columns();
        !columns.is_empty() && columns.iter().all(|column| (*column < arity) == left)
    };
    let right = |expr: &Expr| expr.clone().moved(&|column| column - arity);
    if within(one, true) && within(other, false) {
        Some((one.clone(), right(other)))
    } else if within(other, true) && within(one, false) {
        Some((other.clone(), right(one)))
    } else {
        None
    }
}
