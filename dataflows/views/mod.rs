//! Standing views: a SELECT that PostgreSQL has analysed, as a dataflow that keeps its rows.
//!
//! ```text
//!  PostgreSQL's tree -> tree -> lower -> Plan -> flow: rows, and what was raised
//!  hub (what the graph tells) and the past -> hearing -> relations --^     -> cuts -> Kept -> commit
//! ```
//!
//! A view is a function of the relations at a commit point, like every table. Where evaluating it raises
//! (a division by zero), it does not hold until the row that raised goes; the others go on. What is not
//! supported is refused when the view is added: [`lower`] knows no default.
//!
//! [`lower`]: lower::lower

pub mod expr;
mod flow;
mod hearing;
mod hub;
mod kept;
pub mod lower;
#[cfg(test)]
mod naive;
pub mod plan;
mod steps;
mod sums;
#[cfg(test)]
mod tests;
mod tree;
pub mod value;

pub use flow::{Cut, Definition, View};
pub(crate) use hearing::Told;
pub use hearing::{COUNTED_ORDER_EVENTS, MARKET, ORDER_LINES, Source, micros, order_lines};
pub use hub::{Ear, Hub};
pub use kept::{Fault, Kept, Shape};
pub use lower::{Catalog, Function, Refused, Relation, lower};
pub use plan::Plan;
pub use steps::Step;
pub use value::{Raised, Row, Type, Value, decode, encode};
