//! The JSON of an action invocation: its strict reading, and its scalar types.
//!
//! `faroe-endpoint`, section 1. The grammar is serde_json's; what this module adds is what two
//! parsers could read differently: member names that appear twice, lone surrogates, and numbers
//! whose value depends on the reader. No error carries any text of the request but the names of
//! members that the specification defines.

use std::{borrow::Cow, collections::HashSet, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use thiserror::Error;

/// Every member name that the specification gives to a request.
const DEFINED_MEMBERS: [&str; 10] = [
    "action",
    "arguments",
    "user_id",
    "email_address",
    "password_hash",
    "password_hash_algorithm_id",
    "password_salt",
    "user_email_address_counter",
    "user_password_hash_counter",
    "user_sessions_counter",
];

/// Why a request body is not an action invocation. The text names the member, never its value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// The body has no bytes.
    #[error("the request body is empty: send a JSON object with `action` and `arguments`")]
    Empty,
    /// The body is not UTF-8.
    #[error("the request body is not UTF-8 (first invalid byte at offset {0})")]
    NotUtf8(usize),
    /// The body starts with U+FEFF.
    #[error("the request body starts with a byte-order mark: leave it out")]
    ByteOrderMark,
    /// The body does not follow the grammar of JSON.
    ///
    /// Holds what was expected and where; serde_json quotes nothing of the input there.
    #[error("the request body is not JSON: {0}")]
    NotJson(String),
    /// A string escapes half of a surrogate pair.
    #[error("{0} has a lone surrogate escape, which is not Unicode text")]
    LoneSurrogate(Member),
    /// An object, at any depth, has two members of one name.
    #[error("{0} appears more than once in one object")]
    DuplicateMember(Member),
    /// The body is JSON, but not an object.
    #[error("the request body must be a JSON object")]
    NotAnObject,
    /// A required member is not there.
    #[error("{0} is missing")]
    Missing(Member),
    /// A member has another JSON type than it must have, or a value outside of its type.
    #[error("{member} must be {expected}")]
    WrongType {
        /// The member.
        member: Member,
        /// What it must be.
        expected: &'static str,
    },
    /// `action` names none of the seven actions.
    #[error("member `action` names no action that this endpoint knows")]
    UnknownAction,
}

/// How an error speaks of a member: by its name if the specification defines it, else without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member(Option<&'static str>);

impl Member {
    pub(super) const fn defined(name: &'static str) -> Self {
        Self(Some(name))
    }

    fn of(name: Option<&str>) -> Self {
        Self(name.and_then(|name| DEFINED_MEMBERS.into_iter().find(|defined| *defined == name)))
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "member `{name}`"),
            None => f.write_str("a member"),
        }
    }
}

/// The members of one JSON object, each with the text of its value.
#[derive(Debug)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads a whole request body, and checks every name and string in it, at any depth.
    pub(super) fn of_body(body: &'a [u8]) -> Result<Self, BadRequest> {
        if body.is_empty() {
            return Err(BadRequest::Empty);
        }
        let text =
            std::str::from_utf8(body).map_err(|error| BadRequest::NotUtf8(error.valid_up_to()))?;
        if text.starts_with('\u{feff}') {
            return Err(BadRequest::ByteOrderMark);
        }
        // Mostly it is an object and read once. What is not is read by its grammar alone, to say
        // what is wrong with it.
        let members = serde_json::from_str(text);
        if members.is_err() {
            let whole: Result<&RawValue, _> = serde_json::from_str(text);
            whole.map_err(|error| BadRequest::NotJson(error.to_string()))?;
        }
        check_strings(text)?;
        members.map_err(|_| BadRequest::NotAnObject)
    }

    /// The members of a value that is an object, of a body that was checked.
    fn of_value(value: &'a RawValue) -> Option<Self> {
        if !value.get().starts_with('{') {
            return None;
        }
        serde_json::from_str(value.get()).ok()
    }

    fn required(&self, name: &'static str) -> Result<&'a RawValue, BadRequest> {
        self.0
            .iter()
            .find(|(member, _)| member == name)
            .map(|(_, value)| *value)
            .ok_or(BadRequest::Missing(Member::defined(name)))
    }

    /// A member that must be an object.
    pub(super) fn object(&self, name: &'static str) -> Result<Self, BadRequest> {
        Self::of_value(self.required(name)?).ok_or_else(|| wrong_type(name, "an object"))
    }

    /// A member that must be a string.
    pub(super) fn string(&self, name: &'static str) -> Result<String, BadRequest> {
        self.text(name, "a string").map(Cow::into_owned)
    }

    /// A member that must be a string of standard Base64: padded, canonical, without line breaks.
    pub(super) fn bytes(&self, name: &'static str) -> Result<Bytes, BadRequest> {
        const EXPECTED: &str = "a string of standard Base64 with padding";
        let encoded = self.text(name, EXPECTED)?;
        STANDARD.decode(encoded.as_bytes()).map(Bytes::from).map_err(|_| wrong_type(name, EXPECTED))
    }

    /// A member that must be a number whose nearest double is an integer of 32 bits.
    pub(super) fn int32(&self, name: &'static str) -> Result<i32, BadRequest> {
        let text = self.required(name)?.get();
        int32(text)
            .ok_or_else(|| wrong_type(name, "an integer number from -2147483648 to 2147483647"))
    }

    /// The same as it stands in the body, if it has no escapes; an error says what it should be.
    pub(super) fn text(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<Cow<'a, str>, BadRequest> {
        let value = self.required(name)?;
        let text = match value.get().starts_with('"') {
            true => unescaped(value.get()).ok(),
            false => None,
        };
        text.map(|text| text.0).ok_or_else(|| wrong_type(name, expected))
    }
}

fn wrong_type(name: &'static str, expected: &'static str) -> BadRequest {
    BadRequest::WrongType { member: Member::defined(name), expected }
}

/// The integer that a JSON number stands for: `1`, `1.0` and `1e0` are the same one.
fn int32(number: &str) -> Option<i32> {
    if !number.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    let value: f64 = number.parse().ok()?;
    let within =
        value.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&value);
    // The cast is exact: the value is an integer within the range.
    within.then_some(value as i32)
}

/// A string that is borrowed from the body unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &RawValue>()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Where the scan of [`check_strings`] stands in one object or list.
enum Level<'a> {
    Object { names: Names<'a>, current: Option<Cow<'a, str>>, at_name: bool },
    List,
}

/// Checks that every string is Unicode and that no object has two members of one name, compared
/// after unescaping. `text` follows the grammar of JSON already, so that quotes, braces, brackets
/// and commas are all there is to look at. It does not recurse: depth costs no stack.
fn check_strings(text: &str) -> Result<(), BadRequest> {
    let bytes = text.as_bytes();
    let mut levels: Vec<Level<'_>> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' => {
                let names = Names::default();
                levels.push(Level::Object { names, current: None, at_name: true });
            }
            b'[' => levels.push(Level::List),
            b'}' | b']' => {
                levels.pop();
            }
            b',' => {
                if let Some(Level::Object { at_name, .. }) = levels.last_mut() {
                    *at_name = true;
                }
            }
            b'"' => {
                let end = end_of_string(bytes, at);
                let string = unescaped(text.get(at..end).unwrap_or_default());
                match (levels.last_mut(), string) {
                    (Some(Level::Object { names, current, at_name }), Ok(Text(name)))
                        if *at_name =>
                    {
                        *at_name = false;
                        if !names.insert(name.clone()) {
                            return Err(BadRequest::DuplicateMember(Member::of(Some(&name))));
                        }
                        *current = Some(name);
                    }
                    (_, Ok(_)) => {}
                    (Some(Level::Object { current, at_name: false, .. }), Err(_)) => {
                        return Err(BadRequest::LoneSurrogate(Member::of(current.as_deref())));
                    }
                    (_, Err(_)) => return Err(BadRequest::LoneSurrogate(Member(None))),
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The names of one object: of few, as there are, each is looked at.
#[derive(Default)]
struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    rest: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    const FEW: usize = 16;

    /// Whether the name is a new one.
    fn insert(&mut self, name: Cow<'a, str>) -> bool {
        if self.few.contains(&name) {
            return false;
        }
        if self.few.len() < Self::FEW {
            self.few.push(name);
            return true;
        }
        self.rest.insert(name)
    }
}

/// What a string of JSON, with its quotes, stands for.
fn unescaped(string: &str) -> serde_json::Result<Text<'_>> {
    match string.get(1..string.len().saturating_sub(1)) {
        Some(plain) if !plain.contains('\\') => Ok(Text(Cow::Borrowed(plain))),
        _ => serde_json::from_str(string),
    }
}

/// The offset behind the closing quote of the string that opens at `open`.
fn end_of_string(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_the_value_of_the_nearest_double() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0", 0),
            ("1", 1),
            ("1.0", 1),
            ("1e0", 1),
            ("10e-1", 1),
            ("0.1e1", 1),
            ("0.99999999999999999", 1),
            ("1e-400", 0),
            ("2147483647", i32::MAX),
            ("2147483647.0", i32::MAX),
            ("2147483646.99999999999999", i32::MAX),
            ("21474836470e-1", i32::MAX),
            ("-2147483648", i32::MIN),
            ("-2147483648.00000000000001", i32::MIN),
        ] {
            assert_eq!(int32(text), Some(value), "{text}");
        }
        for text in [
            "1.5",
            "2147483648",
            "-2147483649",
            "2147483647.5",
            "1e400",
            "-1e400",
            "99999999999999999999999999",
            "\"1\"",
            "null",
            "true",
            "NaN",
            "inf",
        ] {
            assert_eq!(int32(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_compared_after_unescaping_and_at_any_depth() {
        let duplicate = |body: &str| {
            matches!(Members::of_body(body.as_bytes()), Err(BadRequest::DuplicateMember(_)))
        };
        assert!(duplicate(r#"{"a":1,"a":2}"#));
        assert!(duplicate(r#"{"a":1,"\u0061":2}"#));
        assert!(duplicate(r#"{"x":[[{"y":{"k":1,"k":1}}]]}"#));
        assert!(duplicate(r#"{"":1,"":1}"#));
        assert!(!duplicate(r#"{"a":{"a":{"a":"a"}},"b":["a","a"],"c":"a"}"#));
        assert!(!duplicate(r#"{"a":"\"a\":1,","A":1}"#));
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let depth = 200_000;
        let body = format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(Members::of_body(body.as_bytes()).is_ok());
        let body = format!("{}1{}", "{\"x\":".repeat(depth), "}".repeat(depth));
        assert!(Members::of_body(body.as_bytes()).is_ok());
    }

    #[test]
    fn a_lone_surrogate_is_named_by_its_member() {
        let error = |body: &str| Members::of_body(body.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            error(r#"{"arguments":{"user_id":"\ud800"}}"#),
            "member `user_id` has a lone surrogate escape, which is not Unicode text"
        );
        assert_eq!(
            error(r#"{"\ud800":1}"#),
            "a member has a lone surrogate escape, which is not Unicode text"
        );
        assert!(Members::of_body(r#"{"a":"\ud83d\ude00"}"#.as_bytes()).is_ok());
    }

    #[test]
    fn base64_is_padded_canonical_and_of_the_standard_alphabet() {
        let bytes = |value: &str| {
            Members::of_body(format!(r#"{{"password_hash":"{value}"}}"#).as_bytes())
                .unwrap()
                .bytes("password_hash")
        };
        assert_eq!(bytes("").unwrap(), Bytes::new());
        assert_eq!(bytes("AA==").unwrap(), Bytes::from_static(&[0]));
        assert_eq!(bytes("+/+/").unwrap(), Bytes::from_static(&[0xfb, 0xff, 0xbf]));
        for wrong in
            ["AA", "AA=", "AB==", "AAB=", "-_-_", "AA==\\n", "AAAA\\nAAAA", " AA==", "A", "="]
        {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
