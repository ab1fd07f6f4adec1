//! The functions and operators that views call, by the C functions behind them.

use super::expressions::known_type;
use super::{BYTES, Lowered, by_bytes, instead, refuse, type_of};
use crate::views::expr::{Arithmetic, Comparison, Expr, Func, Width};
use crate::views::tree::Node;
use crate::views::value::{DAY, Field, Unit, Value, ZONE};

/// Which comparison a name of two letters is.
pub(super) fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "eq" => Comparison::Equal,
        "ne" => Comparison::NotEqual,
        "lt" => Comparison::Less,
        "le" => Comparison::LessOrEqual,
        "gt" => Comparison::Greater,
        "ge" => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

/// `int84mul` and the like, as the digits and the operation.
pub(super) fn integer_function(source: &str) -> Option<(&str, &str)> {
    let rest = source.strip_prefix("int")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    (1..=2).contains(&digits).then(|| rest.split_at(digits))
}

pub(super) fn width(digit: u8) -> Width {
    match digit {
        b'2' => Width::Small,
        b'4' => Width::Integer,
        _ => Width::Bigint,
    }
}

/// The comparison that a function makes between values of one type.
pub(super) fn plain_comparison(source: &str) -> Option<Comparison> {
    if let Some((_, operation)) = integer_function(source) {
        return comparison(operation);
    }
    let prefixes = ["text_", "text", "bool", "date_", "timestamp_", "numeric_"];
    let name = prefixes.into_iter().find_map(|prefix| {
        let name = source.strip_prefix(prefix)?;
        comparison(name).map(|_| name)
    });
    let equality = match source {
        "array_eq" => Some("eq"),
        "array_ne" => Some("ne"),
        _ => None,
    };
    comparison(name.or(equality)?)
}

/// The comparison that a function makes between different types of time: `date_lt_timestamptz`.
pub(super) fn mixed_comparison(source: &str) -> Option<(&str, Comparison, &str)> {
    let mut parts = source.split('_');
    let (left, name, right) = (parts.next()?, parts.next()?, parts.next()?);
    let times = ["date", "timestamp", "timestamptz"];
    let known = times.contains(&left) && times.contains(&right) && parts.next().is_none();
    known.then_some((left, comparison(name)?, right))
}

/// A value of a type of time as one of a wider type.
pub(super) fn widened(value: Expr, from: &str, to: &str) -> Expr {
    let value = match from {
        "date" if to != "date" => Expr::Call(Func::ToStamp, vec![value]),
        _ => value,
    };
    match (from, to) {
        ("date" | "timestamp", "timestamptz") => Expr::Call(Func::FromZone, vec![value]),
        _ => value,
    }
}

/// A cast by way of the text.
pub(super) fn to_text(node: &Node, value: Expr) -> Lowered<Expr> {
    let from = type_of(node.get("arg"));
    let to = node.oid("resulttype");
    match (from, to) {
        (20 | 21 | 23 | 1_700, 25 | 1_043) => Ok(Expr::Call(Func::ToText, vec![value])),
        (_, 25 | 1_043) => instead(
            node,
            "the text of this type depends on settings",
            "the value without a cast, or extract and date_trunc,",
        ),
        _ => refuse(node, "a cast from text to another type is not in views"),
    }
}

pub(super) fn one(node: &Node, arguments: Vec<Expr>) -> Lowered<Expr> {
    match <[Expr; 1]>::try_from(arguments) {
        Ok([argument]) => Ok(argument),
        Err(_) => refuse(node, "PostgreSQL's tree is not understood: arguments"),
    }
}

pub(super) fn two(node: &Node, arguments: Vec<Expr>) -> Lowered<(Expr, Expr)> {
    match <[Expr; 2]>::try_from(arguments) {
        Ok([left, right]) => Ok((left, right)),
        Err(_) => refuse(node, "PostgreSQL's tree is not understood: arguments"),
    }
}

/// `int84pl`: operands of 8 and 4 bytes, and a result of the wider.
pub(super) fn integer_call(
    node: &Node,
    name: &str,
    digits: &str,
    operation: &str,
    arguments: Vec<Expr>,
) -> Lowered<Expr> {
    let wider = width(digits.bytes().max().unwrap_or(b'8'));
    let func = match operation {
        "pl" => Func::Integer(Arithmetic::Add, wider),
        "mi" => Func::Integer(Arithmetic::Subtract, wider),
        "mul" => Func::Integer(Arithmetic::Multiply, wider),
        "div" => Func::Integer(Arithmetic::Divide, wider),
        "mod" => Func::Integer(Arithmetic::Rest, wider),
        "um" => Func::Negate(wider),
        "up" => return one(node, arguments),
        "abs" => Func::Absolute(wider),
        "" if digits.len() == 2 => Func::ToInteger(width(digits.as_bytes()[1])),
        "_numeric" => Func::ToNumeric,
        _ => return refuse(node, format!("{name}() is not among the functions of views")),
    };
    Ok(Expr::Call(func, arguments))
}

/// Functions of times; for others, the arguments come back.
pub(super) fn time_call(
    node: &Node,
    source: &str,
    mut arguments: Vec<Expr>,
) -> Result<Lowered<Expr>, Vec<Expr>> {
    let call = |func, arguments| Ok(Ok(Expr::Call(func, arguments)));
    let func = match source {
        "timestamp_trunc" | "timestamptz_trunc" | "timestamptz_trunc_zone" => {
            return Ok(truncation(node, arguments));
        }
        "extract_timestamp" | "extract_timestamptz" | "extract_date" => {
            return Ok(extraction(node, source, arguments));
        }
        "timestamp_bin" | "timestamptz_bin" => return Ok(binning(node, arguments)),
        "timestamptz_zone" | "timestamp_zone" => {
            let func = if source == "timestamptz_zone" { Func::ToZone } else { Func::FromZone };
            return Ok(two(node, arguments).and_then(|(zone, time)| {
                check_zone(node, &zone)?;
                Ok(Expr::Call(func, vec![time]))
            }));
        }
        "timestamptz_date" => {
            arguments = vec![Expr::Call(Func::ToZone, arguments)];
            Func::ToDate
        }
        "date_timestamptz" => {
            arguments = vec![Expr::Call(Func::ToStamp, arguments)];
            Func::FromZone
        }
        "timestamp_date" => Func::ToDate,
        "timestamptz_timestamp" => Func::ToZone,
        "timestamp_timestamptz" => Func::FromZone,
        "date_timestamp" => Func::ToStamp,
        "timestamp_pl_interval" | "timestamptz_pl_interval" | "date_pl_interval" => Func::Later,
        "timestamp_mi_interval" | "timestamptz_mi_interval" | "date_mi_interval" => Func::Earlier,
        "date_pli" => Func::DaysLater,
        "date_mii" => Func::DaysEarlier,
        "date_mi" => Func::DaysBetween,
        "timestamp_mi" => Func::TimeBetween,
        _ => return Err(arguments),
    };
    call(func, arguments)
}

pub(super) fn check_zone(node: &Node, zone: &Expr) -> Lowered<()> {
    match zone {
        Expr::Constant(Value::Text(zone)) if &**zone == ZONE => Ok(()),
        _ => instead(
            node,
            "other zones than the market's are not in views",
            format!("AT TIME ZONE '{ZONE}'"),
        ),
    }
}

pub(super) fn truncation(node: &Node, mut arguments: Vec<Expr>) -> Lowered<Expr> {
    if arguments.len() == 3 {
        check_zone(node, &arguments.remove(2))?;
    }
    let (unit, time) = two(node, arguments)?;
    let unit = match &unit {
        Expr::Constant(Value::Text(name)) => Unit::named(name),
        _ => None,
    };
    match unit {
        Some(unit) => Ok(Expr::Call(Func::Truncate(unit), vec![time])),
        None => instead(
            node,
            "date_trunc to such a unit is not in views",
            "one of second, minute, hour, day, week, month, quarter and year",
        ),
    }
}

pub(super) fn extraction(node: &Node, source: &str, arguments: Vec<Expr>) -> Lowered<Expr> {
    let (field, time) = two(node, arguments)?;
    let field = match &field {
        Expr::Constant(Value::Text(name)) => Field::named(name),
        _ => None,
    };
    let time = match source {
        "extract_timestamptz" => Expr::Call(Func::ToZone, vec![time]),
        _ => time,
    };
    match field {
        Some(field) if source != "extract_date" || field.is_of_dates() => {
            Ok(Expr::Call(Func::Extract(field), vec![time]))
        }
        _ => instead(
            node,
            "extract of such a field is not in views: it is no whole number",
            "one of year, isoyear, quarter, month, week, day, dow, isodow, doy, hour and minute",
        ),
    }
}

pub(super) fn binning(node: &Node, arguments: Vec<Expr>) -> Lowered<Expr> {
    let Ok([stride, time, origin]) = <[Expr; 3]>::try_from(arguments) else {
        return refuse(node, "PostgreSQL's tree is not understood: date_bin");
    };
    let micros = match stride.constant() {
        Some(Value::Interval(stride)) if stride.months == 0 => {
            i64::from(stride.days).checked_mul(DAY).and_then(|days| days.checked_add(stride.micros))
        }
        _ => None,
    };
    match (micros, origin.constant()) {
        (Some(stride @ 1..), Some(Value::Stamp(origin) | Value::Instant(origin))) => {
            Ok(Expr::Call(Func::Bin { stride, origin }, vec![time]))
        }
        _ => instead(
            node,
            "date_bin needs a constant stride of less than a month and a constant origin",
            "date_bin('10 minutes', at, timestamptz 'epoch')",
        ),
    }
}

/// Functions of numbers, texts and arrays; for others, the arguments come back.
pub(super) fn other_call(
    node: &Node,
    source: &str,
    arguments: Vec<Expr>,
) -> Result<Lowered<Expr>, Vec<Expr>> {
    let func = match source {
        "i2toi4" => Func::ToInteger(Width::Integer),
        "i4toi2" => Func::ToInteger(Width::Small),
        "numeric_int8" => Func::FromNumeric(Width::Bigint),
        "numeric_int4" => Func::FromNumeric(Width::Integer),
        "numeric_int2" => Func::FromNumeric(Width::Small),
        "numeric_add" => Func::Numeric(Arithmetic::Add),
        "numeric_sub" => Func::Numeric(Arithmetic::Subtract),
        "numeric_mul" => Func::Numeric(Arithmetic::Multiply),
        "numeric_mod" => Func::Numeric(Arithmetic::Rest),
        "numeric_uminus" => Func::NegateNumeric,
        "numeric_abs" => Func::AbsoluteNumeric,
        // Whole they are already.
        "numeric_uplus" | "numeric_floor" | "numeric_ceil" => return Ok(one(node, arguments)),
        "booltext" => Func::ToText,
        "textcat" => Func::Concat,
        "textlike" => Func::Like(true),
        "textnlike" => Func::Like(false),
        "textlen" => Func::Length,
        "lower" | "upper" => {
            if !by_bytes(node.oid("inputcollid")) {
                let write = format!("{source}({BYTES})");
                return Ok(instead(
                    node,
                    "small and capital letters depend on the collation",
                    write,
                ));
            }
            if source == "lower" { Func::Lower } else { Func::Upper }
        }
        "array_cardinality" => Func::Cardinality,
        "array_length" => {
            return Ok(match <[Expr; 2]>::try_from(arguments) {
                Ok([array, Expr::Constant(Value::Int(1))]) => {
                    Ok(Expr::Call(Func::ArrayLength, vec![array]))
                }
                _ => instead(node, "array_length of such a dimension", "array_length(array, 1)"),
            });
        }
        _ => return Err(arguments),
    };
    Ok(Ok(Expr::Call(func, arguments)))
}

pub(super) fn unknown_call(node: &Node, source: &str, name: &str) -> Lowered<Expr> {
    known_type(node)?;
    let write = match (source, name) {
        ("numeric_div", _) => "a division of bigint, as a::bigint / b::bigint,",
        ("numeric", _) => "numeric without a scale",
        ("texticlike" | "texticnlike", _) => "lower(x COLLATE \"C\") LIKE",
        (_, "age") => "the difference of two dates, in days,",
        (_, "to_char") => "extract or date_trunc",
        (_, "date_part") => "extract",
        (_, "textanycat" | "anytextcat") => "|| of texts, with ::text,",
        _ => return refuse(node, format!("{name}() is not among the functions of views")),
    };
    instead(node, format!("{name}() is not among the functions of views"), write)
}
