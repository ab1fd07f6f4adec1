//! Expressions over a row, typed by PostgreSQL and compiled to closures.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::value::{
    DAY, Field, Interval, Raised, Unit, Value, bin, instant, like, local, midnight, shift, valid,
    valid_date,
};

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Whether it holds for two values in this order.
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }

    /// The same with its two sides exchanged.
    #[must_use]
    pub fn swapped(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            same => same,
        }
    }
}

/// An operation on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Rest,
}

/// How wide an integer is: what is beyond raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Width {
    Small,
    Integer,
    Bigint,
}

/// A function of which an argument that is NULL makes a NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Func {
    /// Compares two values of one type, but not intervals.
    Compare(Comparison),
    /// Compares two intervals: a day is 24 hours, and a month 30 days.
    CompareSpans(Comparison),
    /// Of two integers; the width is the result's.
    Integer(Arithmetic, Width),
    /// The integer with the other sign.
    Negate(Width),
    /// The integer without its sign.
    Absolute(Width),
    /// An integer as one of another width.
    ToInteger(Width),
    /// A numeric as an integer.
    FromNumeric(Width),
    /// An integer as a numeric.
    ToNumeric,
    /// Of two numerics; there is no division.
    Numeric(Arithmetic),
    /// The numeric with the other sign.
    NegateNumeric,
    /// The numeric without its sign.
    AbsoluteNumeric,
    /// A number or a boolean as a text.
    ToText,
    /// `||` of two texts.
    Concat,
    /// LIKE, or with false NOT LIKE.
    Like(bool),
    /// The number of characters.
    Length,
    /// `lower` under COLLATE "C": of ASCII only.
    Lower,
    /// `upper` under COLLATE "C": of ASCII only.
    Upper,
    /// `date_trunc`; of an instant by the market's clocks.
    Truncate(Unit),
    /// `extract`, a numeric.
    Extract(Field),
    /// `date_bin` by a stride and from an origin in microseconds.
    Bin {
        /// Length of a bin.
        stride: i64,
        /// Where one begins.
        origin: i64,
    },
    /// An instant as the market's clocks show it.
    ToZone,
    /// The instant at which the market's clocks show it.
    FromZone,
    /// The date of a timestamp.
    ToDate,
    /// The midnight with which a date begins.
    ToStamp,
    /// A time plus an interval.
    Later,
    /// A time minus an interval.
    Earlier,
    /// A date plus days.
    DaysLater,
    /// A date minus days.
    DaysEarlier,
    /// The days between two dates.
    DaysBetween,
    /// The interval between two times, in days and microseconds.
    TimeBetween,
    /// An array's element at an index; NULL outside.
    Element,
    /// The length of an array; NULL if it is empty.
    ArrayLength,
    /// The length of an array.
    Cardinality,
}

/// An expression over the columns of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Expr {
    /// A column, counted from 0.
    Column(usize),
    /// A constant.
    Constant(Value),
    /// A function of arguments.
    Call(Func, Vec<Expr>),
    /// AND, from left to right up to what decides.
    And(Vec<Expr>),
    /// OR, from left to right up to what decides.
    Or(Vec<Expr>),
    /// NOT
    Not(Box<Expr>),
    /// IS NULL
    IsNull(Box<Expr>),
    /// IS TRUE or IS FALSE
    Is(bool, Box<Expr>),
    /// IS DISTINCT FROM
    IsDistinct(Box<Expr>, Box<Expr>),
    /// CASE: conditions with their results, and the result if none is true.
    Case(Vec<(Expr, Expr)>, Box<Expr>),
    /// COALESCE
    Coalesce(Vec<Expr>),
    /// GREATEST, or with false LEAST.
    Extreme(bool, Vec<Expr>),
    /// `x = ANY (array)`; with false `x <> ALL (array)`. IN has a constant array.
    Any(bool, Box<Expr>, Box<Expr>),
    /// ARRAY[...]
    Array(Vec<Expr>),
}

/// An expression made ready to be evaluated many times.
pub type Compiled = Box<dyn Fn(&[Value]) -> Result<Value, Raised>>;

impl Expr {
    /// The parts it is made of.
    pub fn parts(&self) -> Vec<&Expr> {
        match self {
            Expr::Column(_) | Expr::Constant(_) => vec![],
            Expr::Call(_, parts)
            | Expr::And(parts)
            | Expr::Or(parts)
            | Expr::Coalesce(parts)
            | Expr::Extreme(_, parts)
            | Expr::Array(parts) => parts.iter().collect(),
            Expr::Not(part) | Expr::IsNull(part) | Expr::Is(_, part) => vec![part],
            Expr::IsDistinct(left, right) | Expr::Any(_, left, right) => vec![left, right],
            Expr::Case(whens, otherwise) => {
                let whens = whens.iter().flat_map(|(condition, result)| [condition, result]);
                whens.chain([&**otherwise]).collect()
            }
        }
    }

    fn parts_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Expr::Column(_) | Expr::Constant(_) => vec![],
            Expr::Call(_, parts)
            | Expr::And(parts)
            | Expr::Or(parts)
            | Expr::Coalesce(parts)
            | Expr::Extreme(_, parts)
            | Expr::Array(parts) => parts.iter_mut().collect(),
            Expr::Not(part) | Expr::IsNull(part) | Expr::Is(_, part) => vec![part],
            Expr::IsDistinct(left, right) | Expr::Any(_, left, right) => vec![left, right],
            Expr::Case(whens, otherwise) => {
                let whens = whens.iter_mut().flat_map(|(condition, result)| [condition, result]);
                whens.chain([&mut **otherwise]).collect()
            }
        }
    }

    /// The columns that it reads, some of them several times.
    pub fn columns(&self) -> Vec<usize> {
        match self {
            Expr::Column(column) => vec![*column],
            other => other.parts().into_iter().flat_map(Expr::columns).collect(),
        }
    }

    /// The same over columns that stand elsewhere.
    #[must_use]
    pub fn moved(mut self, to: &dyn Fn(usize) -> usize) -> Expr {
        self.move_columns(to);
        self
    }

    fn move_columns(&mut self, to: &dyn Fn(usize) -> usize) {
        if let Expr::Column(column) = self {
            *column = to(*column);
        }
        self.parts_mut().into_iter().for_each(|part| part.move_columns(to));
    }

    /// Of how many parts it is made, itself among them.
    pub fn size(&self) -> usize {
        1 + self.parts().into_iter().map(Expr::size).sum::<usize>()
    }

    /// Whether it raises nothing, whatever the row. Some that raise nothing are not known.
    pub fn is_safe(&self) -> bool {
        let safe = match self {
            Expr::Call(func, parts) => match func {
                Func::Compare(_)
                | Func::CompareSpans(_)
                | Func::ToInteger(Width::Bigint)
                | Func::ToNumeric
                | Func::ToText
                | Func::Concat
                | Func::Length
                | Func::Lower
                | Func::Upper
                | Func::Extract(_)
                | Func::ToDate
                | Func::DaysBetween
                | Func::Element
                | Func::ArrayLength
                | Func::Cardinality => true,
                Func::Like(_) => match parts.get(1) {
                    Some(Expr::Constant(Value::Text(pattern))) => !pattern.ends_with('\\'),
                    _ => false,
                },
                _ => false,
            },
            _ => true,
        };
        safe && self.parts().into_iter().all(Expr::is_safe)
    }

    /// Its value, if it reads no column and raises nothing.
    pub fn constant(&self) -> Option<Value> {
        match self {
            Expr::Constant(value) => Some(value.clone()),
            other if other.columns().is_empty() => compile(other)(&[]).ok(),
            _ => None,
        }
    }

    /// All of some conditions; one that is alone stays as it is.
    pub fn all(mut conditions: Vec<Expr>) -> Option<Expr> {
        if conditions.len() > 1 { Some(Expr::And(conditions)) } else { conditions.pop() }
    }
}

/// How PostgreSQL orders two values of one type, none of them NULL.
pub fn compare(left: &Value, right: &Value) -> Ordering {
    left.cmp(right)
}

fn integer(number: i128, width: Width) -> Result<Value, Raised> {
    let (fits, raised) = match width {
        Width::Small => (i16::try_from(number).is_ok(), Raised::SmallintOutOfRange),
        Width::Integer => (i32::try_from(number).is_ok(), Raised::IntegerOutOfRange),
        Width::Bigint => (i64::try_from(number).is_ok(), Raised::BigintOutOfRange),
    };
    if fits { Ok(Value::Int(number as i64)) } else { Err(raised) }
}

/// None if the result needs more than an `i128`.
fn arithmetic(operation: Arithmetic, left: i128, right: i128) -> Result<Option<i128>, Raised> {
    Ok(match operation {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide | Arithmetic::Rest if right == 0 => {
            return Err(Raised::DivisionByZero);
        }
        Arithmetic::Divide => left.checked_div(right),
        Arithmetic::Rest => Some(left.checked_rem(right).unwrap_or(0)),
    })
}

fn integers(operation: Arithmetic, left: i64, right: i64, width: Width) -> Result<Value, Raised> {
    if width == Width::Bigint {
        let checked = match operation {
            Arithmetic::Add => left.checked_add(right),
            Arithmetic::Subtract => left.checked_sub(right),
            Arithmetic::Multiply => left.checked_mul(right),
            Arithmetic::Divide | Arithmetic::Rest if right == 0 => {
                return Err(Raised::DivisionByZero);
            }
            Arithmetic::Divide => left.checked_div(right),
            Arithmetic::Rest => Some(left.checked_rem(right).unwrap_or(0)),
        };
        return checked.map(Value::Int).ok_or(Raised::BigintOutOfRange);
    }
    // What is narrower has room for every result.
    let result = arithmetic(operation, left.into(), right.into())?;
    integer(result.unwrap_or(i128::MAX), width)
}

fn moved_by(time: &Value, by: Interval) -> Result<Value, Raised> {
    Ok(match time {
        Value::Stamp(stamp) => Value::Stamp(shift(*stamp, by)?),
        Value::Date(day) => Value::Stamp(shift(midnight(*day)?, by)?),
        // Without a calendar, the zone does not matter.
        Value::Instant(at) if by.months == 0 && by.days == 0 => {
            Value::Instant(valid(i128::from(*at) + i128::from(by.micros))?)
        }
        Value::Instant(at) => {
            let calendar = Interval { micros: 0, ..by };
            let at = instant(shift(local(*at)?, calendar)?)?;
            Value::Instant(valid(i128::from(at) + i128::from(by.micros))?)
        }
        _ => return Err(Raised::WrongType),
    })
}

fn days(day: i32, more: i64) -> Result<Value, Raised> {
    i64::from(day)
        .checked_add(more)
        .map_or(Err(Raised::DateOutOfRange), valid_date)
        .map(Value::Date)
}

fn unary(func: Func, value: &Value) -> Result<Value, Raised> {
    use Value as V;
    Ok(match (func, value) {
        (Func::Negate(width), V::Int(int)) => integer(-i128::from(*int), width)?,
        (Func::Absolute(width), V::Int(int)) => integer(i128::from(*int).abs(), width)?,
        (Func::ToInteger(width), V::Int(int)) => integer(i128::from(*int), width)?,
        (Func::FromNumeric(width), V::Numeric(number)) => integer(**number, width)?,
        (Func::ToNumeric, V::Int(int)) => V::numeric(i128::from(*int)),
        (Func::NegateNumeric, V::Numeric(number)) => {
            V::numeric(number.checked_neg().ok_or(Raised::NumericOutOfRange)?)
        }
        (Func::AbsoluteNumeric, V::Numeric(number)) => {
            V::numeric(number.checked_abs().ok_or(Raised::NumericOutOfRange)?)
        }
        (Func::ToText, V::Int(int)) => V::text(&int.to_string()),
        (Func::ToText, V::Numeric(number)) => V::text(&number.to_string()),
        (Func::ToText, V::Bool(flag)) => V::text(if *flag { "true" } else { "false" }),
        (Func::Length, V::Text(text)) => V::Int(text.chars().count() as i64),
        (Func::Lower, V::Text(text)) => V::Text(text.to_ascii_lowercase().into()),
        (Func::Upper, V::Text(text)) => V::Text(text.to_ascii_uppercase().into()),
        (Func::Truncate(unit), V::Stamp(stamp)) => V::Stamp(unit.floor(*stamp)?),
        (Func::Truncate(unit), V::Instant(at)) => V::Instant(instant(unit.floor(local(*at)?)?)?),
        (Func::Extract(field), V::Stamp(stamp)) => V::numeric(field.of(*stamp).into()),
        (Func::Extract(field), V::Date(day)) => V::numeric(field.of(i64::from(*day) * DAY).into()),
        (Func::Bin { stride, origin }, V::Stamp(stamp)) => V::Stamp(bin(*stamp, stride, origin)?),
        (Func::Bin { stride, origin }, V::Instant(at)) => V::Instant(bin(*at, stride, origin)?),
        (Func::ToZone, V::Instant(at)) => V::Stamp(local(*at)?),
        (Func::FromZone, V::Stamp(stamp)) => V::Instant(instant(*stamp)?),
        (Func::ToDate, V::Stamp(stamp)) => V::Date(stamp.div_euclid(DAY) as i32),
        (Func::ToStamp, V::Date(day)) => V::Stamp(midnight(*day)?),
        (Func::ArrayLength, V::Array(items)) if items.is_empty() => V::Null,
        (Func::ArrayLength | Func::Cardinality, V::Array(items)) => V::Int(items.len() as i64),
        _ => return Err(Raised::WrongType),
    })
}

fn binary(func: Func, left: &Value, right: &Value) -> Result<Value, Raised> {
    use Value as V;
    Ok(match (func, left, right) {
        (Func::Compare(comparison), left, right) => V::Bool(comparison.holds(compare(left, right))),
        (Func::CompareSpans(comparison), V::Interval(left), V::Interval(right)) => {
            V::Bool(comparison.holds(left.span().cmp(&right.span())))
        }
        (Func::Integer(operation, width), V::Int(left), V::Int(right)) => {
            integers(operation, *left, *right, width)?
        }
        (Func::Numeric(operation), V::Numeric(left), V::Numeric(right)) => {
            let result = arithmetic(operation, **left, **right)?;
            V::numeric(result.ok_or(Raised::NumericOutOfRange)?)
        }
        (Func::Concat, V::Text(left), V::Text(right)) => V::Text([&**left, right].concat().into()),
        (Func::Like(is), V::Text(text), V::Text(pattern)) => V::Bool(like(text, pattern)? == is),
        (Func::Later, time, V::Interval(by)) => moved_by(time, **by)?,
        (Func::Earlier, time, V::Interval(by)) => moved_by(time, by.negated()?)?,
        (Func::DaysLater, V::Date(day), V::Int(more)) => days(*day, *more)?,
        (Func::DaysEarlier, V::Date(day), V::Int(fewer)) => days(*day, -*fewer)?,
        (Func::DaysBetween, V::Date(left), V::Date(right)) => {
            V::Int(i64::from(*left) - i64::from(*right))
        }
        (Func::TimeBetween, V::Stamp(left), V::Stamp(right))
        | (Func::TimeBetween, V::Instant(left), V::Instant(right)) => {
            let between = left.checked_sub(*right).ok_or(Raised::IntervalOutOfRange)?;
            let days = i32::try_from(between / DAY).map_err(|_| Raised::IntervalOutOfRange)?;
            V::Interval(Box::new(Interval { months: 0, days, micros: between % DAY }))
        }
        (Func::Element, V::Array(items), V::Int(index)) => {
            let place = usize::try_from(*index).ok().and_then(|index| index.checked_sub(1));
            place.and_then(|place| items.get(place)).cloned().unwrap_or(V::Null)
        }
        _ => return Err(Raised::WrongType),
    })
}

/// A part of an expression: what stands in the row or is constant need not be copied.
enum Operand {
    Column(usize),
    Constant(Value),
    Computed(Compiled),
}

impl Operand {
    fn of(expr: &Expr) -> Operand {
        match expr {
            Expr::Column(column) => Operand::Column(*column),
            Expr::Constant(value) => Operand::Constant(value.clone()),
            other => Operand::Computed(compile(other)),
        }
    }

    fn all(exprs: &[Expr]) -> Vec<Operand> {
        exprs.iter().map(Operand::of).collect()
    }

    fn get<'v>(&'v self, row: &'v [Value]) -> Result<Cow<'v, Value>, Raised> {
        Ok(match self {
            Operand::Column(column) => Cow::Borrowed(row.get(*column).ok_or(Raised::WrongType)?),
            Operand::Constant(value) => Cow::Borrowed(value),
            Operand::Computed(compute) => Cow::Owned(compute(row)?),
        })
    }
}

/// Makes an expression ready to be evaluated.
///
/// AND, OR, CASE and COALESCE go from left to right and stop at what decides, as PostgreSQL's
/// executor does: an error before that is raised, one behind it is not.
pub fn compile(expr: &Expr) -> Compiled {
    match expr {
        Expr::Column(_) | Expr::Constant(_) => {
            let operand = Operand::of(expr);
            Box::new(move |row| operand.get(row).map(Cow::into_owned))
        }
        Expr::Call(func, parts) => call(*func, parts),
        Expr::And(parts) => junction(parts, false),
        Expr::Or(parts) => junction(parts, true),
        Expr::Not(part) => {
            let part = Operand::of(part);
            Box::new(move |row| {
                Ok(match *part.get(row)? {
                    Value::Bool(flag) => Value::Bool(!flag),
                    _ => Value::Null,
                })
            })
        }
        Expr::IsNull(part) => {
            let part = Operand::of(part);
            Box::new(move |row| Ok(Value::Bool(part.get(row)?.is_null())))
        }
        Expr::Is(flag, part) => {
            let (flag, part) = (Value::Bool(*flag), Operand::of(part));
            Box::new(move |row| Ok(Value::Bool(*part.get(row)? == flag)))
        }
        Expr::IsDistinct(left, right) => {
            let (left, right) = (Operand::of(left), Operand::of(right));
            Box::new(move |row| Ok(Value::Bool(left.get(row)? != right.get(row)?)))
        }
        Expr::Case(whens, otherwise) => {
            let when = |(condition, result)| (Operand::of(condition), compile(result));
            let whens: Vec<_> = whens.iter().map(|(when, then)| (when, then)).map(when).collect();
            let otherwise = compile(otherwise);
            Box::new(move |row| {
                for (condition, result) in &whens {
                    if condition.get(row)?.is_true() {
                        return result(row);
                    }
                }
                otherwise(row)
            })
        }
        Expr::Coalesce(parts) => {
            let parts = Operand::all(parts);
            Box::new(move |row| {
                for part in &parts {
                    let value = part.get(row)?;
                    if !value.is_null() {
                        return Ok(value.into_owned());
                    }
                }
                Ok(Value::Null)
            })
        }
        Expr::Extreme(greatest, parts) => extreme(*greatest, parts),
        Expr::Any(equal, item, array) => any(*equal, item, array),
        Expr::Array(parts) => {
            let parts = Operand::all(parts);
            Box::new(move |row| {
                let items = parts.iter().map(|part| part.get(row).map(Cow::into_owned));
                Ok(Value::Array(items.collect::<Result<_, _>>()?))
            })
        }
    }
}

fn call(func: Func, parts: &[Expr]) -> Compiled {
    match parts {
        [part] => {
            let part = Operand::of(part);
            Box::new(move |row| match &*part.get(row)? {
                Value::Null => Ok(Value::Null),
                value => unary(func, value),
            })
        }
        [left, right] => {
            let (left, right) = (Operand::of(left), Operand::of(right));
            Box::new(move |row| match (&*left.get(row)?, &*right.get(row)?) {
                (Value::Null, _) | (_, Value::Null) => Ok(Value::Null),
                (left, right) => binary(func, left, right),
            })
        }
        _ => Box::new(|_| Err(Raised::WrongType)),
    }
}

fn junction(parts: &[Expr], decides: bool) -> Compiled {
    let parts = Operand::all(parts);
    Box::new(move |row| {
        let mut unknown = false;
        for part in &parts {
            match *part.get(row)? {
                Value::Bool(flag) if flag == decides => return Ok(Value::Bool(decides)),
                Value::Bool(_) => {}
                _ => unknown = true,
            }
        }
        Ok(if unknown { Value::Null } else { Value::Bool(!decides) })
    })
}

/// The greatest or least of the values that are not NULL.
fn extreme(greatest: bool, parts: &[Expr]) -> Compiled {
    let parts = Operand::all(parts);
    Box::new(move |row| {
        let mut best: Option<Cow<'_, Value>> = None;
        for part in &parts {
            let value = part.get(row)?;
            let better = best.as_ref().is_none_or(|best| {
                let order = compare(&value, best);
                if greatest { order.is_gt() } else { order.is_lt() }
            });
            if better && !value.is_null() {
                best = Some(value);
            }
        }
        Ok(best.map_or(Value::Null, Cow::into_owned))
    })
}

fn any(equal: bool, item: &Expr, array: &Expr) -> Compiled {
    let (item, array) = (Operand::of(item), Operand::of(array));
    Box::new(move |row| {
        let item = item.get(row)?;
        let array = array.get(row)?;
        Ok(match &*array {
            Value::Array(items) if items.is_empty() => Value::Bool(!equal),
            Value::Array(_) if item.is_null() => Value::Null,
            Value::Array(items) if items.contains(&item) => Value::Bool(equal),
            Value::Array(items) if items.iter().any(Value::is_null) => Value::Null,
            Value::Array(_) => Value::Bool(!equal),
            Value::Null => Value::Null,
            _ => return Err(Raised::WrongType),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(expr: &Expr) -> Result<Value, Raised> {
        compile(expr)(&[])
    }

    fn int(int: i64) -> Expr {
        Expr::Constant(Value::Int(int))
    }

    #[test]
    fn integers_raise_at_the_width_of_the_result() {
        use Arithmetic as A;
        use Width as W;
        let calls = [
            (A::Add, W::Small, 32_767, 1, Err(Raised::SmallintOutOfRange)),
            (A::Multiply, W::Integer, 65_536, 32_768, Err(Raised::IntegerOutOfRange)),
            (A::Multiply, W::Bigint, 65_536, 32_768, Ok(Value::Int(1 << 31))),
            (A::Divide, W::Bigint, i64::MIN, -1, Err(Raised::BigintOutOfRange)),
            (A::Divide, W::Integer, i64::from(i32::MIN), -1, Err(Raised::IntegerOutOfRange)),
            (A::Rest, W::Bigint, i64::MIN, -1, Ok(Value::Int(0))),
            (A::Rest, W::Bigint, -7, 2, Ok(Value::Int(-1))),
            (A::Divide, W::Bigint, -7, 2, Ok(Value::Int(-3))),
            (A::Rest, W::Integer, 1, 0, Err(Raised::DivisionByZero)),
        ];
        for (operation, width, left, right, result) in calls {
            let call = Expr::Call(Func::Integer(operation, width), vec![int(left), int(right)]);
            assert_eq!(value(&call), result, "{call:?}");
        }
    }

    #[test]
    fn what_decides_ends_the_evaluation() {
        let raises =
            Expr::Call(Func::Integer(Arithmetic::Divide, Width::Bigint), vec![int(1), int(0)]);
        let raises = Expr::Call(Func::Compare(Comparison::Less), vec![raises, int(1)]);
        let no = Expr::Constant(Value::Bool(false));
        assert_eq!(value(&Expr::And(vec![no.clone(), raises.clone()])), Ok(Value::Bool(false)));
        assert_eq!(value(&Expr::And(vec![raises, no])), Err(Raised::DivisionByZero));
    }

    #[test]
    fn an_empty_array_holds_nothing_even_for_null() {
        let array = |items: Vec<Expr>| Box::new(Expr::Array(items));
        let null = || Box::new(Expr::Constant(Value::Null));
        assert_eq!(value(&Expr::Any(true, null(), array(vec![]))), Ok(Value::Bool(false)));
        assert_eq!(value(&Expr::Any(false, null(), array(vec![]))), Ok(Value::Bool(true)));
        let with_null = array(vec![int(1), *null()]);
        assert_eq!(
            value(&Expr::Any(true, Box::new(int(1)), with_null.clone())),
            Ok(Value::Bool(true))
        );
        assert_eq!(value(&Expr::Any(true, Box::new(int(2)), with_null)), Ok(Value::Null));
    }
}
