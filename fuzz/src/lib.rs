//! What the fuzz targets compare the program with: a second, plain reading of the specification
//! that shares no code with the first.

pub mod invocation;
pub mod json;
pub mod names;
pub mod scalar;
pub mod store;

/// Stands in for the secrets of a request: what may reach neither an error nor a log.
pub const PLANTED: &str = "planted-secret";

/// The text of an input, with each `$` replaced by `value`.
pub fn planted(text: &str, value: &str) -> String {
    text.replace('$', value)
}
