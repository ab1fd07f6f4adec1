//! Constants, out of the bytes of their datums.

use super::expressions::known_type;
use super::{Lowered, instead, refuse};
use crate::views::tree::Node;
use crate::views::value::{Interval, Type, Value, valid, valid_date, whole};

/// The value of a constant, from the bytes of its datum as a little-endian server has them.
pub(super) fn constant(node: &Node) -> Lowered<Value> {
    known_type(node)?;
    if node.flag("constisnull") {
        return Ok(Value::Null);
    }
    let Node::Bytes(bytes) = node.get("constvalue") else {
        return refuse(node, "PostgreSQL's tree is not understood: a constant");
    };
    let of = node.oid("consttype");
    if of == 1_700 {
        return match numeric(bytes) {
            Some(number) => Ok(Value::numeric(number)),
            None => instead(
                node,
                "numbers with digits behind the point, or of more than 127 bits",
                "whole numbers",
            ),
        };
    }
    if matches!(Type::of(of), Some(Type::Array(_))) {
        return instead(node, "constants of arrays as text", "ARRAY[...]");
    }
    match simple_constant(of, bytes) {
        Some(value) => Ok(value),
        None => refuse(node, "infinity, or a constant that is not understood"),
    }
}

fn simple_constant(of: u32, bytes: &[u8]) -> Option<Value> {
    let four = |at: usize| Some(i32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let eight = |at: usize| Some(i64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    Some(match of {
        16 => Value::Bool(*bytes.first()? != 0),
        21 => Value::Int(i16::from_le_bytes(*bytes.first_chunk()?).into()),
        23 => Value::Int(four(0)?.into()),
        20 => Value::Int(eight(0)?),
        // Behind its length.
        25 | 1_043 => Value::text(std::str::from_utf8(bytes.get(4..)?).ok()?),
        // A literal whose type does not matter, as in `'a' IS NULL`: it ends in a zero.
        705 => Value::text(std::str::from_utf8(bytes).ok()?.trim_end_matches('\0')),
        1_082 => Value::Date(valid_date(four(0)?.into()).ok()?),
        1_114 => Value::Stamp(valid(eight(0)?.into()).ok()?),
        1_184 => Value::Instant(valid(eight(0)?.into()).ok()?),
        1_186 => Value::Interval(Box::new(Interval {
            micros: eight(0)?,
            days: four(8)?,
            months: four(12)?,
        })),
        _ => return None,
    })
}

/// A numeric as PostgreSQL stores it: its length, a short or a long head, and digits to the base
/// 10,000.
fn numeric(bytes: &[u8]) -> Option<i128> {
    let words = bytes.get(4..)?.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
    let words: Vec<u16> = words.collect();
    let (head, digits) = words.split_first()?;
    match head & 0xC000 {
        0x8000 => {
            let weight = i64::from(head & 0x3F) - if head & 0x40 == 0 { 0 } else { 64 };
            whole(digits, weight, head & 0x2000 != 0, i64::from((head & 0x1F80) >> 7))
        }
        0xC000 => None,
        sign => {
            let (weight, digits) = digits.split_first()?;
            whole(digits, i64::from(*weight as i16), sign == 0x4000, i64::from(head & 0x3FFF))
        }
    }
}
