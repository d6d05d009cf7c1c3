//! A report, for people and for programs.

mod text;

pub use self::text::text;
