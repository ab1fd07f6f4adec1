//! Expressions over a row, but for the functions that they call.

use super::calls::{
    comparison, integer_call, integer_function, mixed_comparison, one, other_call,
    plain_comparison, time_call, to_text, two, unknown_call, widened,
};
use super::constants::constant;
use super::{
    BYTES, CLOCK, CLOCK_INSTEAD, Function, Lowered, Lowering, OWN, PARTS, Relation, Scope, around,
    by_bytes, collation_of, entry, instead, refuse, scalar, type_of, wall_clock,
};
use crate::views::expr::{Comparison, Expr, Func};
use crate::views::tree::Node;
use crate::views::value::{Type, Value};

impl Lowering<'_> {
    pub(super) fn exprs(&self, nodes: &[Node], scope: &Scope<'_>) -> Lowered<Vec<Expr>> {
        nodes.iter().map(|node| self.expr(node, scope)).collect()
    }

    /// An expression.
    pub(super) fn expr(&self, node: &Node, scope: &Scope<'_>) -> Lowered<Expr> {
        if let Some((_, column)) = scope.known.iter().find(|(known, _)| *known == node) {
            return Ok(Expr::Column(*column));
        }
        if collation_of(node) >= OWN || node.oid("inputcollid") >= OWN {
            return instead(node, "collations of one's own are not in views", BYTES);
        }
        let arguments = || self.exprs(node.get("args").list(), scope);
        let argument = || self.expr(node.get("arg"), scope);
        Ok(match node.kind() {
            "VAR" => return self.variable(node, scope),
            "CONST" => Expr::Constant(constant(node)?),
            "RELABELTYPE" | "COLLATEEXPR" => {
                known_type(node)?;
                argument()?
            }
            "OPEXPR" => return self.call(node, node.oid("opfuncid"), arguments()?, scope),
            "FUNCEXPR" => return self.call(node, node.oid("funcid"), arguments()?, scope),
            "COERCEVIAIO" => return to_text(node, argument()?),
            "BOOLEXPR" => match node.get("boolop").text() {
                "and" => Expr::And(arguments()?),
                "or" => Expr::Or(arguments()?),
                _ => Expr::Not(Box::new(one(node, arguments()?)?)),
            },
            "NULLTEST" => {
                let is_null = Expr::IsNull(Box::new(argument()?));
                match (node.flag("argisrow"), node.int("nulltesttype")) {
                    (true, _) => return refuse(node, "rows as values are not in views"),
                    (false, 0) => is_null,
                    _ => Expr::Not(Box::new(is_null)),
                }
            }
            "BOOLEANTEST" => {
                let (argument, test) = (Box::new(argument()?), node.int("booltesttype"));
                // IS TRUE, IS NOT TRUE, IS FALSE, IS NOT FALSE, IS UNKNOWN, IS NOT UNKNOWN.
                let is =
                    if test < 4 { Expr::Is(test < 2, argument) } else { Expr::IsNull(argument) };
                if test % 2 == 0 { is } else { Expr::Not(Box::new(is)) }
            }
            "DISTINCTEXPR" => {
                let (left, right) = self.equal_sides(node, arguments()?, scope)?;
                Expr::IsDistinct(Box::new(left), Box::new(right))
            }
            "NULLIFEXPR" => {
                let arguments = arguments()?;
                let value = arguments.first().cloned();
                let equal = self.call(node, node.oid("opfuncid"), arguments, scope)?;
                let value = value.unwrap_or(Expr::Constant(Value::Null));
                Expr::Case(vec![(equal, Expr::Constant(Value::Null))], Box::new(value))
            }
            "COALESCE" | "COALESCEEXPR" => Expr::Coalesce(arguments()?),
            "MINMAX" | "MINMAXEXPR" => {
                if !by_bytes(node.oid("inputcollid")) {
                    return instead(node, "the order of text depends on the collation", BYTES);
                }
                if type_of(node) == 1_186 {
                    return refuse(node, "GREATEST and LEAST of intervals");
                }
                Expr::Extreme(node.int("op") == 0, arguments()?)
            }
            "CASE" | "CASEEXPR" => return self.case(node, scope),
            "SCALARARRAYOPEXPR" => return self.any(node, scope),
            _ => return self.rarer_expr(node, scope),
        })
    }

    /// The expressions that [`Lowering::expr`] leaves.
    pub(super) fn rarer_expr(&self, node: &Node, scope: &Scope<'_>) -> Lowered<Expr> {
        Ok(match node.kind() {
            "CASETESTEXPR" => match &scope.case {
                Some(operand) => operand.clone(),
                None => return refuse(node, "the operand of a cast of an array"),
            },
            "PARAM" => {
                let place =
                    node.int("paramid").checked_sub(1).and_then(|p| usize::try_from(p).ok());
                match place.and_then(|place| scope.parameters.get(place)) {
                    Some(parameter) => parameter.clone(),
                    None => return refuse(node, "parameters are not in views"),
                }
            }
            "ARRAY" | "ARRAYEXPR" => {
                if node.flag("multidims") {
                    return refuse(node, "arrays of arrays are not in views");
                }
                known_type(node)?;
                let array = Expr::Array(self.exprs(node.get("elements").list(), scope)?);
                array.constant().map_or(array, Expr::Constant)
            }
            "SUBSCRIPTINGREF" => {
                let [index] = node.get("refupperindexpr").list() else {
                    return refuse(node, "arrays of arrays are not in views");
                };
                if !node.get("reflowerindexpr").is_none() || Type::of(type_of(node)).is_none() {
                    return refuse(node, "slices of arrays are not in views");
                }
                let array = self.expr(node.get("refexpr"), scope)?;
                Expr::Call(Func::Element, vec![array, self.expr(index, scope)?])
            }
            "SUBLINK" if node.int("subLinkType") >= 3 => return scalar(node),
            "SUBLINK" => {
                return instead(
                    node,
                    "a subquery below OR, NOT, CASE or in SELECT is not in views",
                    "EXISTS or NOT EXISTS in WHERE, joined by AND,",
                );
            }
            "SQLVALUEFUNCTION" if node.int("op") <= 8 => return wall_clock(node),
            "SQLVALUEFUNCTION" => return refuse(node, "who asks, is not in views"),
            "AGGREF" | "WINDOWFUNC" => return refuse(node, "an aggregate or window function here"),
            "ROWEXPR" => return refuse(node, "rows as values are not in views"),
            "ROWCOMPARE" | "ROWCOMPAREEXPR" => {
                return instead(
                    node,
                    "an order of rows is not in views",
                    "`a < c OR a = c AND b < d`",
                );
            }
            other => {
                let what = other.trim_end_matches("EXPR").to_lowercase();
                return refuse(node, format!("such an expression ({what}) is not in views"));
            }
        })
    }

    pub(super) fn variable(&self, node: &Node, scope: &Scope<'_>) -> Lowered<Expr> {
        let scope = match node.int("varlevelsup") {
            0 => scope,
            1 => match scope.outer {
                Some(outer) => outer,
                None => return around(node),
            },
            _ => return refuse(node, "a reference to a query further out than the one around"),
        };
        let (index, number) = (node.int("varno"), node.int("varattno"));
        if number <= 0 {
            let what = if number == 0 { "a whole row" } else { "a system column" };
            return instead(node, format!("{what} is not in views"), "the columns by name");
        }
        known_type(node)?;
        let entry = entry(scope.query, index)?;
        if let Some(Relation::Table { hidden, .. }) =
            self.catalog.relations.get(&entry.oid("relid"))
            && hidden.contains(&(number as usize - 1))
        {
            return refuse(node, "a column of this relation that views are not told");
        }
        if let Some(place) = scope.sources.iter().position(|source| *source == (index, number)) {
            let column = Expr::Column(scope.start + place);
            let Some(keys) = &scope.keys else { return Ok(column) };
            return match keys.iter().position(|key| *key == column) {
                Some(key) => Ok(Expr::Column(key)),
                None => instead(
                    node,
                    "a column beside GROUP BY that is no key of it",
                    "a GROUP BY that has it, too,",
                ),
            };
        }
        let aliases = match entry.int("rtekind") {
            2 => entry.get("joinaliasvars"),
            // PostgreSQL 18 gives the keys of GROUP BY an entry of their own.
            9 => entry.get("groupexprs"),
            _ => {
                return instead(
                    node,
                    "a column of another item of FROM, in LATERAL or before its JOIN,",
                    "a JOIN whose ON or WHERE compares it",
                );
            }
        };
        match aliases.list().get(number as usize - 1) {
            Some(alias) => self.expr(alias, scope),
            None => refuse(node, "PostgreSQL's tree is not understood: no such column"),
        }
    }

    pub(super) fn case(&self, node: &Node, scope: &Scope<'_>) -> Lowered<Expr> {
        let operand = node.get("arg");
        let mut inner = scope.clone();
        if !operand.is_none() {
            inner.case = Some(self.expr(operand, scope)?);
        }
        let whens = node.get("args").list().iter().map(|when| {
            let condition = self.expr(when.get("expr"), &inner)?;
            Ok((condition, self.expr(when.get("result"), scope)?))
        });
        let whens = whens.collect::<Lowered<_>>()?;
        let otherwise = node.get("defresult");
        let otherwise = if otherwise.is_none() {
            Expr::Constant(Value::Null)
        } else {
            self.expr(otherwise, scope)?
        };
        let case = Expr::Case(whens, Box::new(otherwise));
        if case.size() > PARTS {
            return refuse(node, "a CASE within CASE that is too large");
        }
        Ok(case)
    }

    /// `x IN (...)`, `x = ANY (array)` and the like.
    pub(super) fn any(&self, node: &Node, scope: &Scope<'_>) -> Lowered<Expr> {
        let oid = node.oid("opfuncid");
        let known = self.function(oid).filter(|_| oid < OWN);
        let comparison = known.and_then(|known| plain_comparison(&known.source));
        let use_or = node.flag("useOr");
        let [item, array] = node.get("args").list() else {
            return refuse(node, "PostgreSQL's tree is not understood: ANY");
        };
        if !matches!(
            (comparison, use_or),
            (Some(Comparison::Equal), true) | (Some(Comparison::NotEqual), false)
        ) {
            return instead(
                node,
                "ANY and ALL with such an operator are not in views",
                "`= ANY` or `<> ALL` of values of one type",
            );
        }
        let item = Box::new(self.expr(item, scope)?);
        let array = Box::new(self.expr(array, scope)?);
        Ok(Expr::Any(use_or, item, array))
    }

    /// The sides of an equality, as they are compared.
    pub(super) fn equal_sides(
        &self,
        node: &Node,
        arguments: Vec<Expr>,
        scope: &Scope<'_>,
    ) -> Lowered<(Expr, Expr)> {
        let equal = self.call(node, node.oid("opfuncid"), arguments, scope)?;
        if let Expr::Call(Func::Compare(Comparison::Equal), sides) = equal
            && let Ok([left, right]) = <[Expr; 2]>::try_from(sides)
        {
            return Ok((left, right));
        }
        refuse(node, "IS DISTINCT FROM of values of this type")
    }

    /// A call of a function or an operator.
    pub(super) fn call(
        &self,
        node: &Node,
        oid: u32,
        arguments: Vec<Expr>,
        scope: &Scope<'_>,
    ) -> Lowered<Expr> {
        let Some(Function { source, name, volatile }) = self.function(oid) else {
            return refuse(node, "a function that is not in the catalog");
        };
        if name == "market_now" && arguments.is_empty() {
            if scope.clock {
                return Ok(Expr::Column(CLOCK));
            }
            return instead(node, "market_now() as a value is not in views", CLOCK_INSTEAD);
        }
        if matches!(
            name.as_str(),
            "now"
                | "statement_timestamp"
                | "transaction_timestamp"
                | "clock_timestamp"
                | "timeofday"
        ) {
            return wall_clock(node);
        }
        if *volatile {
            return refuse(node, format!("{name}() is volatile: it is no function of the rows"));
        }
        if oid >= OWN {
            return refuse(node, format!("{name}() is not one of PostgreSQL's own functions"));
        }
        if node.flag("funcretset") || node.flag("opretset") {
            return refuse(node, format!("{name}() returns several rows"));
        }
        if let Some(comparison) = plain_comparison(source) {
            let ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
            if ordered && source.starts_with("text") && !by_bytes(node.oid("inputcollid")) {
                return instead(node, "the order of text depends on the collation", BYTES);
            }
            return Ok(Expr::Call(Func::Compare(comparison), arguments));
        }
        if let Some(comparison) = source.strip_prefix("interval_").and_then(comparison) {
            return Ok(Expr::Call(Func::CompareSpans(comparison), arguments));
        }
        if let Some((left, comparison, right)) = mixed_comparison(source) {
            let (one, other) = two(node, arguments)?;
            let sides = vec![widened(one, left, right), widened(other, right, left)];
            return Ok(Expr::Call(Func::Compare(comparison), sides));
        }
        if let Some((digits, operation)) = integer_function(source) {
            return integer_call(node, name, digits, operation, arguments);
        }
        // Written in SQL, with another text in each release.
        let turned = match name.as_str() {
            "interval_pl_timestamptz" | "interval_pl_timestamp" | "interval_pl_date" => Func::Later,
            "integer_pl_date" => Func::DaysLater,
            _ => {
                return time_call(node, source, arguments)
                    .or_else(|arguments| other_call(node, source, arguments))
                    .unwrap_or_else(|_| unknown_call(node, source, name));
            }
        };
        let (by, time) = two(node, arguments)?;
        Ok(Expr::Call(turned, vec![time, by]))
    }
}

/// Refuses types that views do not have.
pub(super) fn known_type(node: &Node) -> Lowered<()> {
    let oid = type_of(node);
    if Type::of(oid).is_some() {
        return Ok(());
    }
    match oid {
        700 | 701 | 1_021 | 1_022 => instead(
            node,
            "floating point numbers are not in views: their sums depend on the order",
            "bigint, or numeric without digits behind the point,",
        ),
        1_042 | 19 => instead(node, "character(n) and name are not in views", "text"),
        1_083 | 1_266 => instead(node, "times without a date are not in views", "a timestamp"),
        3_802 | 114 => refuse(node, "JSON is not in views"),
        705 => Ok(()),
        _ => refuse(node, format!("values of this type (pg_type {oid}) are not in views")),
    }
}
