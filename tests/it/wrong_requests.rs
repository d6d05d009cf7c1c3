//! What is a wrong request and what is not, as two tables. `faroe-endpoint`, section 1.
//!
//! Wherever a request has text that nobody defined, it says "planted", and its numbers have
//! [`NUMBER`] in them: neither may come back, and the harness looks for the former in the log.

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{
    PLANTED,
    client::{Client, Reply},
    database::Kind,
    email_address,
    process::PATIENCE,
    stores::{Running, StoreKind},
};

/// Stands in wrong numbers, as "planted" does in wrong text.
const NUMBER: &str = "31337";

const MAX_BODY: usize = 1 << 20;

/// The type of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    String,
    Bytes,
    Int32,
}

impl Type {
    /// What `detail` says of a value that is not of this type.
    const fn must_be(self) -> &'static str {
        match self {
            Self::String => "must be a string",
            Self::Bytes => "must be a string of standard Base64 with padding",
            Self::Int32 => "must be an integer number from -2147483648 to 2147483647",
        }
    }
}

/// Every action with its arguments. `faroe-endpoint`, section 3.
const ACTIONS: [(&str, &[(&str, Type)]); 7] = [
    (
        "create_user",
        &[
            ("email_address", Type::String),
            ("password_hash", Type::Bytes),
            ("password_hash_algorithm_id", Type::String),
            ("password_salt", Type::Bytes),
        ],
    ),
    ("get_user", &[("user_id", Type::String)]),
    ("get_user_by_email_address", &[("email_address", Type::String)]),
    (
        "update_user_email_address",
        &[
            ("user_id", Type::String),
            ("email_address", Type::String),
            ("user_email_address_counter", Type::Int32),
        ],
    ),
    (
        "update_user_password_hash",
        &[
            ("user_id", Type::String),
            ("password_hash", Type::Bytes),
            ("password_hash_algorithm_id", Type::String),
            ("password_salt", Type::Bytes),
            ("user_password_hash_counter", Type::Int32),
        ],
    ),
    (
        "increment_user_sessions_counter",
        &[("user_id", Type::String), ("user_sessions_counter", Type::Int32)],
    ),
    ("delete_user", &[("user_id", Type::String)]),
];

/// JSON values that no string, no bytes and no integer is.
const OF_NO_ARGUMENTS_TYPE: [&str; 6] =
    ["null", "true", "false", "[]", r#"["planted"]"#, r#"{"planted":31337}"#];

/// JSON values that are not strings, beside those.
const NUMBERS: [&str; 3] = ["31337", "-31337.5", "31337e999"];

/// JSON strings that are not Base64 as it must be.
const NOT_BASE64: [&str; 28] = [
    r#""planted!""#,
    // Without padding, with too little, with too much.
    r#""cGxhbnRlZA""#,
    r#""cGxhbnRlZA=""#,
    r#""cGxhbnRlZA===""#,
    r#""cGxhbnRl====""#,
    r#""cGxhbnRlZDEyMw=""#,
    r#""=""#,
    r#""====""#,
    r#""A""#,
    r#""A===""#,
    r#""cGxhb""#,
    // Something after the padding, or between it.
    r#""cGxhbnRlZA==cGxhbnRlZA==""#,
    r#""cGxhbnRlZA=A""#,
    r#""cGxhbnRlZA= =""#,
    // Bits that are not zero behind the last byte.
    r#""cGxhbnRlZB==""#,
    r#""cGxhbnRlZDF=""#,
    // Another alphabet.
    r#""-_-_""#,
    r#""cGxhbnRl,,,,""#,
    r#""\u0441GxhbnRl""#,
    // White space and line breaks.
    r#"" cGxhbnRl""#,
    r#""cGxhbnRl ""#,
    r#""cGxh bnRl""#,
    r#""cGxhbnRl\n""#,
    r#""cGxh\r\nbnRl""#,
    r#""cGxh\tbnRl""#,
    // Wrapped in something else.
    r#""data:;base64,cGxhbnRl""#,
    r#""cGxhbnRlZA%3D%3D""#,
    r#""cGxhbnRl\u0000""#,
];

/// JSON values that are no integers of 32 bits.
const NOT_INT32: [&str; 19] = [
    // Out of range.
    "2147483648",
    "-2147483649",
    "4294967296",
    "3133731337",
    "-3133731337",
    "9223372036854775808",
    "18446744073709551616",
    "31337e6",
    "31337e999",
    "-31337e999",
    // No integers.
    "31337.5",
    "0.5",
    "-0.5",
    "1e-1",
    "2147483647.5",
    // No numbers.
    r#""31337""#,
    r#""planted""#,
    r#""""#,
    r#""0x31337""#,
];

/// What looks like a number elsewhere and is none in JSON.
const NOT_JSON_NUMBERS: [&str; 15] = [
    "NaN",
    "Infinity",
    "-Infinity",
    "+1",
    "01",
    "-01",
    ".5",
    "1.",
    "1.e1",
    "1e",
    "1e+",
    "-",
    "0x1F",
    "1_000",
    "\u{ff11}",
];

/// JSON strings that are no Unicode text.
const LONE_SURROGATES: [&str; 7] = [
    r#""\ud800""#,
    r#""\uDFFFplanted""#,
    r#""planted\udc00""#,
    r#""\ud800\ud800""#,
    r#""\udc00\ud800""#,
    r#""\ud83dplanted""#,
    r#""\ud83d\u0041""#,
];

/// What `detail` has to be.
#[derive(Debug, Clone, Copy)]
enum Detail {
    /// Names this member, and says this of it.
    Member(&'static str, &'static str),
    /// Names none, for it has no name that anybody defined.
    AMember(&'static str),
    /// Speaks of the whole body.
    Body(&'static str),
    /// Says where the grammar of JSON was left.
    NotJson,
    /// Says how much a body may have; the status is 413.
    TooLarge,
}

use Detail::{AMember, Body, Member, NotJson, TooLarge};

const MISSING: &str = "is missing";
const TWICE: &str = "appears more than once in one object";
const SURROGATE: &str = "has a lone surrogate escape, which is not Unicode text";
const NO_ACTION: &str = "names no action that this endpoint knows";
const STRING: &str = Type::String.must_be();
const OBJECT: &str = "must be an object";
const NOT_AN_OBJECT: Detail = Body("the request body must be a JSON object");
const EMPTY: Detail =
    Body("the request body is empty: send a JSON object with `action` and `arguments`");
const BYTE_ORDER_MARK: Detail =
    Body("the request body starts with a byte-order mark: leave it out");

/// A wrong request.
struct Wrong {
    caption: String,
    body: Vec<u8>,
    detail: Detail,
}

fn wrong(caption: &str, body: impl Into<Vec<u8>>, detail: Detail) -> Wrong {
    Wrong { caption: caption.to_owned(), body: body.into(), detail }
}

/// A user, and requests that would change it if they were taken for right ones.
struct Subject {
    id: String,
    email_address: String,
}

impl Subject {
    /// The text of the value of an argument that is right.
    fn value(&self, argument: &str) -> String {
        match argument {
            "user_id" => format!("{:?}", self.id),
            "email_address" => r#""new@planted.example""#.to_owned(),
            "password_hash_algorithm_id" => r#""planted algorithm""#.to_owned(),
            "password_hash" | "password_salt" => r#""cGxhbnRlZA==""#.to_owned(),
            counter if counter.ends_with("_counter") => "0".to_owned(),
            other => panic!("{other} is no argument"),
        }
    }

    /// An action with all its arguments, but `argument` as `member` has it: as text of JSON, or
    /// left out.
    fn invocation(&self, action: &str, argument: &str, member: Option<&str>) -> String {
        let (_, arguments) = ACTIONS.iter().find(|(name, _)| *name == action).unwrap();
        let members: Vec<String> = arguments
            .iter()
            .filter_map(|(name, _)| match member {
                _ if *name != argument => Some(format!(r#""{name}":{}"#, self.value(name))),
                Some(member) => Some(member.to_owned()),
                None => None,
            })
            .collect();
        format!(r#"{{"action":"{action}","arguments":{{{}}}}}"#, members.join(","))
    }

    /// Deletes the user, if `members` beside those of the action do not keep it from that.
    fn delete(&self, before: &str, after: &str) -> String {
        let id = &self.id;
        format!(r#"{{{before}"action":"delete_user","arguments":{{"user_id":"{id}"}}{after}}}"#)
    }

    /// Every wrong request.
    fn wrong_requests(&self) -> Vec<Wrong> {
        let mut table = self.wrong_arguments();
        table.extend(self.wrong_bodies());
        table.extend(self.wrong_actions());
        table.extend(self.wrong_arguments_members());
        table.extend(self.duplicates());
        table
    }

    /// Every argument of every action, wrong in every way that its type knows.
    fn wrong_arguments(&self) -> Vec<Wrong> {
        let mut table = Vec::new();
        for (action, arguments) in ACTIONS {
            for &(name, of_type) in arguments {
                let mut row = |member: Option<String>, detail: Detail| {
                    let caption = match &member {
                        Some(member) => format!("{action}, {member}"),
                        None => format!("{action} without {name}"),
                    };
                    let body = self.invocation(action, name, member.as_deref());
                    table.push(Wrong { caption, body: body.into_bytes(), detail });
                };
                let value = |value: &str| Some(format!(r#""{name}":{value}"#));
                let must_be = Member(name, of_type.must_be());

                row(None, Member(name, MISSING));
                // Names are compared byte for byte.
                for other in [
                    name.to_uppercase(),
                    name.replace('_', ""),
                    format!("{name} "),
                    format!(r"{name}\u0000"),
                ] {
                    let member = format!(r#""{other}":{}"#, self.value(name));
                    row(Some(member), Member(name, MISSING));
                }
                for wrong in OF_NO_ARGUMENTS_TYPE {
                    row(value(wrong), must_be);
                }
                for wrong in LONE_SURROGATES {
                    row(value(wrong), Member(name, SURROGATE));
                }
                for wrong in [r#""planted\x""#, r#""planted\u12g4""#, "\"planted\n\"", "'planted'"]
                {
                    row(value(wrong), NotJson);
                }
                match of_type {
                    Type::String => NUMBERS.iter().for_each(|wrong| row(value(wrong), must_be)),
                    Type::Bytes => {
                        let wrong = NUMBERS.iter().chain(&NOT_BASE64);
                        wrong.for_each(|wrong| row(value(wrong), must_be));
                    }
                    Type::Int32 => {
                        NOT_INT32.iter().for_each(|wrong| row(value(wrong), must_be));
                        NOT_JSON_NUMBERS.iter().for_each(|wrong| row(value(wrong), NotJson));
                    }
                }
                let twice =
                    format!(r#""{name}":{value},"{name}":{value}"#, value = self.value(name));
                row(Some(twice), Member(name, TWICE));
            }
        }
        table
    }

    /// What is wrong before any member is looked at.
    fn wrong_bodies(&self) -> Vec<Wrong> {
        let right = self.delete("", "");
        let cut = |end: usize| right[..right.len() - end].to_owned();
        let with = |before: &[u8], after: &[u8]| [before, right.as_bytes(), after].concat();
        let replaced = |from: &str, to: &str| right.replacen(from, to, 1);
        vec![
            wrong("nothing", "", EMPTY),
            wrong("white space", " \t\r\n", NotJson),
            wrong("a NUL", "\0", NotJson),
            wrong("a form", "action=planted&arguments=planted", NotJson),
            wrong("XML", "<planted/>", NotJson),
            // Its encoding.
            wrong(
                "a byte that is no UTF-8",
                b"{\"planted\":1}\xff",
                Body("the request body is not UTF-8 (first invalid byte at offset 13)"),
            ),
            wrong(
                "Latin-1",
                b"{\"planted\":\"\xe9\"}",
                Body("the request body is not UTF-8 (first invalid byte at offset 12)"),
            ),
            wrong(
                "an encoded surrogate",
                b"\"\xed\xa0\x80planted\"",
                Body("the request body is not UTF-8 (first invalid byte at offset 1)"),
            ),
            wrong(
                "an overlong encoding",
                b"{\"\xc0\xa2planted",
                Body("the request body is not UTF-8 (first invalid byte at offset 2)"),
            ),
            wrong(
                "a character that is cut off",
                b"\"planted\xf0\x9f\x98",
                Body("the request body is not UTF-8 (first invalid byte at offset 8)"),
            ),
            wrong(
                "UTF-16 with a mark",
                b"\xff\xfe{\0}\0",
                Body("the request body is not UTF-8 (first invalid byte at offset 0)"),
            ),
            wrong("UTF-16 without a mark", b"{\0}\0", NotJson),
            wrong("a byte-order mark", with(b"\xef\xbb\xbf", b""), BYTE_ORDER_MARK),
            wrong("a byte-order mark alone", b"\xef\xbb\xbf", BYTE_ORDER_MARK),
            wrong("a byte-order mark behind", with(b"", b"\xef\xbb\xbf"), NotJson),
            wrong("a byte-order mark after a space", with(b" \xef\xbb\xbf", b""), NotJson),
            // Its end.
            wrong("cut by 1", cut(1), NotJson),
            wrong("cut by 2", cut(2), NotJson),
            wrong("cut by 3", cut(3), NotJson),
            wrong("cut in the middle", cut(50), NotJson),
            wrong("cut after the brace", "{", NotJson),
            wrong("cut in a name", "{\"planted", NotJson),
            wrong("cut in an escape", "{\"planted\\", NotJson),
            wrong("cut after a name", "{\"planted\"", NotJson),
            wrong("cut after a colon", "{\"planted\":", NotJson),
            wrong("cut in a word", "{\"planted\":tru", NotJson),
            wrong("a word behind", with(b"", b"planted"), NotJson),
            wrong("a brace behind", with(b"", b"}"), NotJson),
            wrong("a NUL behind", with(b"", b"\0"), NotJson),
            wrong("a comma behind", with(b"", b","), NotJson),
            wrong("itself behind", with(b"", right.as_bytes()), NotJson),
            wrong("itself on the next line", with(b"", format!("\n{right}").as_bytes()), NotJson),
            wrong("a comma ahead", with(b",", b""), NotJson),
            wrong("a guard against scripts ahead", with(b")]}',\n", b""), NotJson),
            wrong("a record separator ahead", with(b"\x1e", b"\n"), NotJson),
            // JSON, but no object.
            wrong("null", "null", NOT_AN_OBJECT),
            wrong("a boolean", "true", NOT_AN_OBJECT),
            wrong("a number", "31337", NOT_AN_OBJECT),
            wrong("a string", "\"planted\"", NOT_AN_OBJECT),
            wrong("an empty list", "[]", NOT_AN_OBJECT),
            wrong("a list of it", with(b"[", b"]"), NOT_AN_OBJECT),
            wrong("a string of it", serde_json::to_string(&right).unwrap(), NOT_AN_OBJECT),
            wrong("a deep list", "[".repeat(100_000) + &"]".repeat(100_000), NOT_AN_OBJECT),
            wrong("a deep list that is cut off", "[".repeat(100_000), NotJson),
            // JSON as other languages write it.
            wrong("single quotes", right.replace('"', "'"), NotJson),
            wrong("a name without quotes", self.delete("planted:1,", ""), NotJson),
            wrong("a number as a name", self.delete("31337:1,", ""), NotJson),
            wrong("null as a name", self.delete("null:1,", ""), NotJson),
            wrong("a comma before the end", self.delete("", ","), NotJson),
            wrong(
                "a comma before the end of a list",
                self.delete(r#""planted":[1,],"#, ""),
                NotJson,
            ),
            wrong("two commas", self.delete("", r#",,"planted":1"#), NotJson),
            wrong("no comma", self.delete(r#""planted":1 "#, ""), NotJson),
            wrong("no colon", replaced(":", " "), NotJson),
            wrong("two colons", replaced(":", "::"), NotJson),
            wrong("an equals sign", replaced(":", "="), NotJson),
            wrong("a name without a value", self.delete("", r#","planted""#), NotJson),
            wrong("a comment", self.delete("/* planted */", ""), NotJson),
            wrong("a comment to the end of the line", self.delete("// planted\n", ""), NotJson),
            wrong("a comment of a shell", self.delete("# planted\n", ""), NotJson),
            wrong("a comment behind", with(b"", b" // planted"), NotJson),
            wrong("NaN", self.delete(r#""planted":NaN,"#, ""), NotJson),
            wrong("Infinity", self.delete(r#""planted":-Infinity,"#, ""), NotJson),
            wrong("undefined", self.delete(r#""planted":undefined,"#, ""), NotJson),
            wrong("True", self.delete(r#""planted":True,"#, ""), NotJson),
            wrong("None", self.delete(r#""planted":None,"#, ""), NotJson),
            wrong("a leading zero", self.delete(r#""planted":031337,"#, ""), NotJson),
            wrong("a leading plus", self.delete(r#""planted":+31337,"#, ""), NotJson),
            wrong("hexadecimal", self.delete(r#""planted":0x31337,"#, ""), NotJson),
            wrong("a brace for a bracket", self.delete(r#""planted":[1},"#, ""), NotJson),
            wrong("a bracket for a brace", self.delete(r#""planted":{"a":1],"#, ""), NotJson),
            wrong("a line break in a string", self.delete("\"planted\":\"\n\",", ""), NotJson),
            wrong("a tab in a name", self.delete("\"planted\t\":1,", ""), NotJson),
            wrong("an escape of another language", self.delete(r#""planted":"\a","#, ""), NotJson),
            wrong("a short escape", self.delete(r#""planted":"\u12","#, ""), NotJson),
            wrong("an escape in braces", self.delete(r#""planted":"\u{1f600}","#, ""), NotJson),
            wrong("an escape outside of a string", self.delete(r"\u0020", ""), NotJson),
            wrong("a no-break space", self.delete("\u{a0}", ""), NotJson),
            wrong("a form feed", self.delete("\u{c}", ""), NotJson),
            wrong("typographic quotes", right.replace('"', "\u{201d}"), NotJson),
            wrong(
                "one byte more than --max-body",
                right.clone() + &" ".repeat(MAX_BODY + 1 - right.len()),
                TooLarge,
            ),
        ]
    }

    fn wrong_actions(&self) -> Vec<Wrong> {
        let id = &self.id;
        let named = |member: &str| format!(r#"{{{member}"arguments":{{"user_id":"{id}"}}}}"#);
        let mut table = vec![
            wrong("no member at all", "{}", Member("action", MISSING)),
            wrong("no action", named(""), Member("action", MISSING)),
            wrong("Action", named(r#""Action":"delete_user","#), Member("action", MISSING)),
            wrong("ACTION", named(r#""ACTION":"delete_user","#), Member("action", MISSING)),
            wrong(
                "action and a space",
                named(r#""action ":"delete_user","#),
                Member("action", MISSING),
            ),
            wrong(
                "the action among the arguments",
                format!(r#"{{"arguments":{{"action":"delete_user","user_id":"{id}"}}}}"#),
                Member("action", MISSING),
            ),
            wrong(
                "as JSON-RPC has it",
                format!(r#"{{"method":"delete_user","params":{{"user_id":"{id}"}}}}"#),
                Member("action", MISSING),
            ),
        ];
        for value in OF_NO_ARGUMENTS_TYPE.iter().chain(&NUMBERS) {
            let body = named(&format!(r#""action":{value},"#));
            table.push(wrong(&format!("action {value}"), body, Member("action", STRING)));
        }
        for value in [r#"["delete_user"]"#, r#"{"name":"delete_user"}"#] {
            let body = named(&format!(r#""action":{value},"#));
            table.push(wrong(&format!("action {value}"), body, Member("action", STRING)));
        }
        for value in LONE_SURROGATES {
            let body = named(&format!(r#""action":{value},"#));
            table.push(wrong(&format!("action {value}"), body, Member("action", SURROGATE)));
        }
        for name in [
            "",
            " ",
            "planted",
            "planted_delete_user",
            "delete_user_planted",
            "DELETE_USER",
            "Delete_User",
            "deleteUser",
            "delete-user",
            "delete user",
            " delete_user",
            "delete_user ",
            r"delete_user\n",
            r"delete_user\u0000",
            r"delete_user\u200b",
            r"\ufeffdelete_user",
            r"delete\u005f\u005fuser",
            "d\u{435}lete_user",
            "\u{ff44}elete_user",
            "delete_use",
            "delete_users",
            "delete_user,get_user",
            "action",
            "arguments",
            "user_id",
            "__proto__",
            "constructor",
            "%64elete_user",
            "*",
        ] {
            let body = named(&format!(r#""action":"{name}","#));
            table.push(wrong(&format!("action {name:?}"), body, Member("action", NO_ACTION)));
        }
        let long = "planted".repeat(100_000);
        let body = named(&format!(r#""action":"{long}","#));
        table.push(wrong("an action of 700,000 characters", body, Member("action", NO_ACTION)));
        table
    }

    fn wrong_arguments_members(&self) -> Vec<Wrong> {
        let id = &self.id;
        let mut table = Vec::new();
        for (action, arguments) in ACTIONS {
            let body = format!(r#"{{"action":"{action}"}}"#);
            table.push(wrong(&format!("{action} alone"), body, Member("arguments", MISSING)));
            let body = format!(r#"{{"action":"{action}","arguments":{{}}}}"#);
            let (first, _) = arguments[0];
            table.push(wrong(&format!("{action} of nothing"), body, Member(first, MISSING)));
        }
        for value in [
            "null".to_owned(),
            "true".to_owned(),
            "31337".to_owned(),
            "\"planted\"".to_owned(),
            "[]".to_owned(),
            format!(r#"["{id}"]"#),
            format!(r#"[{{"user_id":"{id}"}}]"#),
            format!(r#"[["user_id","{id}"]]"#),
            format!(r#""{{\"user_id\":\"{id}\"}}""#),
        ] {
            let body = format!(r#"{{"action":"delete_user","arguments":{value}}}"#);
            table.push(wrong(&format!("arguments {value}"), body, Member("arguments", OBJECT)));
        }
        for name in ["Arguments", "ARGUMENTS", "args", "params", "values", "arguments "] {
            let body = format!(r#"{{"action":"delete_user","{name}":{{"user_id":"{id}"}}}}"#);
            table.push(wrong(
                &format!("arguments as {name:?}"),
                body,
                Member("arguments", MISSING),
            ));
        }
        table.push(wrong(
            "an argument beside the action",
            format!(r#"{{"action":"delete_user","user_id":"{id}"}}"#),
            Member("arguments", MISSING),
        ));
        table.push(wrong(
            "an argument beside the arguments",
            format!(r#"{{"action":"delete_user","user_id":"{id}","arguments":{{}}}}"#),
            Member("user_id", MISSING),
        ));
        table.push(wrong(
            "arguments within arguments",
            format!(
                r#"{{"action":"delete_user","arguments":{{"arguments":{{"user_id":"{id}"}}}}}}"#
            ),
            Member("user_id", MISSING),
        ));
        table
    }

    /// Twins, at all depths and after unescaping, and surrogates in names and in what is ignored.
    fn duplicates(&self) -> Vec<Wrong> {
        let id = &self.id;
        let beside = |text: &str| self.delete(text, "");
        let within = |text: &str| {
            format!(r#"{{"action":"delete_user","arguments":{{{text}"user_id":"{id}"}}}}"#)
        };
        let deep = |depth: usize, innermost: &str| {
            beside(&format!(
                r#""planted":{}{innermost}{},"#,
                r#"[{"a":"#.repeat(depth),
                "}]".repeat(depth)
            ))
        };
        vec![
            wrong("action twice", beside(r#""action":"delete_user","#), Member("action", TWICE)),
            wrong("two actions", beside(r#""action":"get_user","#), Member("action", TWICE)),
            wrong("null and an action", beside(r#""action":null,"#), Member("action", TWICE)),
            wrong(
                "arguments twice",
                beside(&format!(r#""arguments":{{"user_id":"{id}"}},"#)),
                Member("arguments", TWICE),
            ),
            wrong(
                "arguments and null",
                self.delete("", r#","arguments":null"#),
                Member("arguments", TWICE),
            ),
            wrong("an ID of two types", within(r#""user_id":31337,"#), Member("user_id", TWICE)),
            wrong("an ID and null", within(r#""user_id":null,"#), Member("user_id", TWICE)),
            wrong("two IDs", within(r#""user_id":"planted","#), Member("user_id", TWICE)),
            wrong(
                "an invocation ID twice",
                beside(r#""action_invocation_id":"planted","action_invocation_id":"planted","#),
                AMember(TWICE),
            ),
            wrong("two that nobody defined", beside(r#""planted":1,"planted":1,"#), AMember(TWICE)),
            wrong(
                "the same among arguments",
                within(r#""planted":1,"planted":1,"#),
                AMember(TWICE),
            ),
            wrong(
                "far from each other",
                self.delete(r#""planted":1,"#, r#","planted":1"#),
                AMember(TWICE),
            ),
            wrong("no names at all", beside(r#""":1,"":1,"#), AMember(TWICE)),
            wrong("a prototype", beside(r#""__proto__":1,"__proto__":1,"#), AMember(TWICE)),
            wrong("three times", beside(r#""planted":1,"planted":1,"planted":1,"#), AMember(TWICE)),
            // An escape is another way to write the same name.
            wrong(
                "an escaped action",
                beside(r#""\u0061ction":"get_user","#),
                Member("action", TWICE),
            ),
            wrong(
                "an escaped ID",
                within(r#""user\u005fid":"planted","#),
                Member("user_id", TWICE),
            ),
            wrong(
                "an escaped ID that stands first",
                within(r#""user\u005Fid":1,"#),
                Member("user_id", TWICE),
            ),
            wrong("two escapes", beside(r#""\u0061planted":1,"\u0061planted":1,"#), AMember(TWICE)),
            wrong("an escaped slash", beside(r#""planted/":1,"planted\/":1,"#), AMember(TWICE)),
            wrong(
                "an escaped quote",
                beside(r#""planted\"":1,"planted\u0022":1,"#),
                AMember(TWICE),
            ),
            wrong(
                "an escaped NUL",
                beside(r#""planted\u0000":1,"planted\u0000":1,"#),
                AMember(TWICE),
            ),
            wrong(
                "an escaped line break",
                beside(r#""planted\n":1,"planted\u000a":1,"#),
                AMember(TWICE),
            ),
            wrong(
                "an escaped pair of surrogates",
                beside("\"planted\u{1f600}\":1,\"planted\\ud83d\\ude00\":1,"),
                AMember(TWICE),
            ),
            // At any depth, also where everything is ignored.
            wrong("in an object", beside(r#""planted":{"a":1,"a":1},"#), AMember(TWICE)),
            wrong("in a list", beside(r#""planted":[0,{"a":1,"a":1}],"#), AMember(TWICE)),
            wrong(
                "in the second object",
                beside(r#""planted":[{"a":1},{"a":1,"a":1}],"#),
                AMember(TWICE),
            ),
            wrong("around an object", beside(r#""planted":{"a":{"b":1},"a":1},"#), AMember(TWICE)),
            wrong("around a list", beside(r#""planted":{"a":[{}],"a":1},"#), AMember(TWICE)),
            wrong(
                "a defined name in an object",
                beside(r#""planted":{"user_id":1,"user_id":2},"#),
                Member("user_id", TWICE),
            ),
            wrong("100 deep", deep(100, r#"{"k":1,"k":1}"#), AMember(TWICE)),
            wrong("100,000 deep", deep(100_000, r#"{"k":1,"k":1}"#), AMember(TWICE)),
            wrong(
                "in the value of an argument",
                r#"{"action":"delete_user","arguments":{"user_id":{"planted":1,"planted":2}}}"#,
                AMember(TWICE),
            ),
            wrong(
                "in a list around it all",
                format!("[{}]", beside(r#""action":1,"#)),
                Member("action", TWICE),
            ),
            // Text that nobody reads is text all the same.
            wrong("a surrogate in a name", beside(r#""planted\ud800":1,"#), AMember(SURROGATE)),
            wrong(
                "a surrogate in a name within",
                within(r#""\udfffplanted":1,"#),
                AMember(SURROGATE),
            ),
            wrong("a surrogate under a name", beside(r#""planted":"\ud800","#), AMember(SURROGATE)),
            wrong("a surrogate in a list", beside(r#""planted":["\ud800"],"#), AMember(SURROGATE)),
            wrong("a surrogate far below", deep(100, r#""\ud83d""#), AMember(SURROGATE)),
            wrong("a surrogate alone", r#""planted\ud800""#, AMember(SURROGATE)),
            wrong(
                "a surrogate under a name that another action defines",
                beside(r#""password_hash":"\ud800","#),
                Member("password_hash", SURROGATE),
            ),
        ]
    }

    /// Requests to look the user up that are right, however they look.
    fn unusual_requests(&self) -> Vec<(&'static str, String)> {
        let id = &self.id;
        let right = format!(r#"{{"action":"get_user","arguments":{{"user_id":"{id}"}}}}"#);
        let beside = |text: &str| {
            format!(r#"{{{text},"action":"get_user","arguments":{{"user_id":"{id}"}}}}"#)
        };
        let within = |text: &str| {
            format!(r#"{{"action":"get_user","arguments":{{"user_id":"{id}",{text}}}}}"#)
        };
        let escaped: String =
            id.chars().map(|character| format!(r"\u{:04x}", u32::from(character))).collect();
        let many: Vec<String> =
            (0..10_000).map(|number| format!(r#""planted{number}":1"#)).collect();
        let deep = |open: &str, close: &str| {
            format!(r#""planted":{}1{}"#, open.repeat(100_000), close.repeat(100_000))
        };
        vec![
            ("as it is", right.clone()),
            // Members that nobody defined.
            ("an unknown member", beside(r#""planted":"planted""#)),
            ("an unknown argument", within(r#""planted":"planted""#)),
            ("an invocation ID", beside(r#""action_invocation_id":"planted""#)),
            ("a member without a name", beside(r#""":null"#)),
            ("a prototype", beside(r#""__proto__":{"user_id":"planted"}"#)),
            ("an argument of another action", within(r#""password_hash":"planted, no Base64""#)),
            ("a counter of another action", within(r#""user_sessions_counter":31337.5"#)),
            ("arguments beside the action", beside(r#""user_id":31337"#)),
            ("names in another case", beside(r#""Action":"planted","ARGUMENTS":[]"#)),
            ("an ID in another case", within(r#""User_Id":"planted","user_ID":null"#)),
            ("10,000 unknown members", beside(&many.join(","))),
            (
                "an unknown text of 900 KiB",
                beside(&format!(r#""planted":"{}""#, "x".repeat(900 << 10))),
            ),
            // Numbers that no type holds.
            ("a number out of range", beside(r#""planted":1e400"#)),
            (
                "a negative number out of range",
                within(r#""planted":[-1e400,{"planted":1E+99999}]"#),
            ),
            ("a number too small", beside(r#""planted":1e-99999"#)),
            (
                "a number of 100,000 digits",
                beside(&format!(r#""planted":{}"#, "9".repeat(100_000))),
            ),
            (
                "a fraction of 100,000 digits",
                within(&format!(r#""planted":0.{}"#, "3".repeat(100_000))),
            ),
            // Depth.
            ("100,000 lists", beside(&deep("[", "]"))),
            ("100,000 objects", beside(&deep(r#"{"a":"#, "}"))),
            ("100,000 lists among the arguments", within(&deep("[", "]"))),
            // The same name in different objects, and names that only look the same.
            (
                "the same name at every depth",
                beside(r#""planted":{"action":{"action":[{"action":1}]}}"#),
            ),
            ("the same text as name and value", beside(r#""planted":"planted""#)),
            ("names that differ in case", beside(r#""planted":1,"PLANTED":1"#)),
            ("names that differ in normal form", beside("\"\u{e9}\":1,\"e\u{301}\":1")),
            ("a name within a text", beside(r#""planted":"\"action\":1,\"action\":2""#)),
            // Order, white space, escapes.
            (
                "the arguments first",
                format!(r#"{{"arguments":{{"user_id":"{id}"}},"action":"get_user"}}"#),
            ),
            ("white space around", format!("\r\n\t {right} \r\n\t")),
            (
                "white space within",
                right.replace(':', "\n:\t").replace(',', " ,\r\n").replace('{', "{ "),
            ),
            ("white space up to --max-body", right.clone() + &" ".repeat(MAX_BODY - right.len())),
            (
                "escaped names",
                right.replace("action", r"\u0061ction").replace("user_id", r"user\u005Fid"),
            ),
            ("an escaped action", right.replace("get_user", r"\u0067et\u005fuser")),
            ("an escaped ID", right.replace(id, &escaped)),
            (
                "escapes in what is ignored",
                beside(r#""planted\"\\\/\b\f\n\r\t\u0000":"\ud83d\ude00""#),
            ),
        ]
    }
}

/// How an integer may be written, and which one that is.
const INTEGERS: [(&str, i32); 24] = [
    ("0", 0),
    ("-0", 0),
    ("0.0", 0),
    ("-0.0", 0),
    ("0e5", 0),
    ("-0E-5", 0),
    ("0e99999", 0),
    ("1e-400", 0),
    ("1", 1),
    ("1.0", 1),
    ("1e0", 1),
    ("1E0", 1),
    ("1e+0", 1),
    ("1e-0", 1),
    ("10e-1", 1),
    ("0.1e1", 1),
    ("1.0000000000000000000000000000", 1),
    // The nearest double is 1.
    ("0.99999999999999999", 1),
    ("1.00000000000000001", 1),
    ("31337.0", 31337),
    ("3.1337e4", 31337),
    ("2147483646", i32::MAX - 1),
    ("2147483646.0", i32::MAX - 1),
    ("2.147483646e9", i32::MAX - 1),
];

/// Right, though no counter has such a value.
const INTEGERS_OF_NO_COUNTER: [&str; 5] =
    ["-1", "-1.0", "-2147483648", "-2147483648.0", "-2.147483648e9"];

async fn start() -> (Running, Client, Subject) {
    let running = StoreKind::Bundled(Kind::Sqlite).start(&["--max-body", "1MiB"]);
    let client = running.client();
    let email_address = email_address();
    let user = client.create_user(&email_address).await;
    let id = user["id"].as_str().unwrap().to_owned();
    (running, client, Subject { id, email_address })
}

async fn post(client: &Client, body: impl Into<bytes::Bytes>) -> Reply {
    timeout(PATIENCE, client.post(body)).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_is_refused_by_its_member_and_changes_nothing() {
    let (running, client, subject) = start().await;
    let table = subject.wrong_requests();
    assert!(table.len() >= 150);
    let before = running.database.dump().await;
    let mut failures = Vec::new();
    for Wrong { caption, body, detail } in &table {
        let reply = post(&client, body.clone()).await;
        if let Err(error) = check_problem(&reply, *detail, &subject) {
            failures.push(format!("{caption}: {error}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} requests:\n{}",
        failures.len(),
        table.len(),
        failures.join("\n")
    );
    assert_eq!(running.database.dump().await, before);
}

/// Whether an answer is the problem that it has to be, and nothing of the request.
fn check_problem(reply: &Reply, detail: Detail, subject: &Subject) -> Result<(), String> {
    let text = reply.text();
    let (status, title) = match detail {
        TooLarge => (413, "Payload Too Large"),
        _ => (400, "Bad Request"),
    };
    if reply.status != status {
        return Err(format!("status {}: {text}", reply.status));
    }
    if reply.header("content-type") != Some("application/problem+json") {
        return Err(format!("{:?}", reply.headers));
    }
    let said = reply.json()["detail"].as_str().unwrap_or_default().to_owned();
    let whole = json!({ "title": title, "status": status, "detail": said });
    if reply.json() != whole {
        return Err(format!("not title, status and detail alone: {text}"));
    }
    let right = match detail {
        Member(name, what) => said == format!("member `{name}` {what}"),
        AMember(what) => said == format!("a member {what}"),
        Body(what) => said == what,
        TooLarge => said == format!("the request body is larger than {MAX_BODY} bytes"),
        NotJson => is_a_place(&said) && !said.contains("member"),
    };
    if !right {
        return Err(format!("{said:?} instead of {detail:?}"));
    }
    let everything = format!("{text}{:?}", reply.headers).to_lowercase();
    for planted in [PLANTED, NUMBER, &subject.id, &subject.email_address] {
        if everything.contains(planted) {
            return Err(format!("{planted:?} of the request is in {everything:?}"));
        }
    }
    Ok(())
}

/// Whether a text says what was expected in JSON, and where.
fn is_a_place(detail: &str) -> bool {
    let place = || {
        let (what, place) =
            detail.strip_prefix("the request body is not JSON: ")?.rsplit_once(" at line ")?;
        let (line, column) = place.split_once(" column ")?;
        line.parse::<u32>().ok()?;
        column.parse::<u32>().ok()?;
        Some(!what.is_empty())
    };
    place() == Some(true)
}

/// Each row of the table above breaks one thing of a request that is right: without that it would
/// prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_table_breaks_is_right_as_long_as_it_is_whole() {
    let (_running, client, subject) = start().await;
    for (action, _) in ACTIONS {
        let body = subject.invocation(action, "", None);
        let reply = post(&client, body.clone()).await;
        assert_eq!(reply.status, 200, "{body}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusual_request_is_answered_as_any_other() {
    let (running, client, subject) = start().await;
    let user = client.get_user(&json!({ "id": subject.id })).await;
    let before = running.database.dump().await;
    for (caption, body) in subject.unusual_requests() {
        assert!(body.len() <= MAX_BODY, "{caption}");
        let reply = post(&client, body).await;
        assert_eq!(reply.status, 200, "{caption}: {}", reply.text());
        assert_eq!(reply.json()["values"]["user"], user, "{caption}");
    }
    assert_eq!(running.database.dump().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integer_may_be_written_in_any_way_that_json_has() {
    let (running, client, subject) = start().await;
    let increment = async |counter: &str| -> Value {
        let member = format!(r#""user_sessions_counter":{counter}"#);
        let body = subject.invocation(
            "increment_user_sessions_counter",
            "user_sessions_counter",
            Some(&member),
        );
        let reply = post(&client, body).await;
        assert_eq!(reply.status, 200, "{counter}: {}", reply.text());
        reply.json()
    };
    for (text, value) in INTEGERS {
        let set = format!("UPDATE users SET sessions_counter = {value}");
        assert_eq!(running.database.execute(&set).await, 1);
        assert_eq!(increment(text).await["values"], json!({}), "{text} is {value}");
        let user = client.get_user(&json!({ "id": subject.id })).await;
        assert_eq!(user["sessions_counter"], json!(i64::from(value) + 1), "{text}");
    }
    for text in INTEGERS_OF_NO_COUNTER {
        assert_eq!(increment(text).await["error_code"], "user_not_found", "{text}");
    }
}

/// Nothing that is too large, too deep or cut off costs more than its size: the sidecar goes on
/// answering at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_hard_to_read_holds_nothing_up() {
    let (_running, client, subject) = start().await;
    let user = client.get_user(&json!({ "id": subject.id })).await;
    for body in [
        "[".repeat(MAX_BODY),
        r#"{"a":"#.repeat(MAX_BODY / 5),
        "\"".to_owned() + &"\\\"".repeat(MAX_BODY / 2 - 1),
        "9".repeat(MAX_BODY),
        format!(r#"{{"planted":[{}1]}}"#, r#""\u0000","#.repeat(100_000)),
    ] {
        let reply = post(&client, body).await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert_eq!(client.get_user(&user).await, user);
    }
}
