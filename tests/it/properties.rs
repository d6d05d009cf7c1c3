//! What holds for any user, whoever it is: generated users, on every database and through gRPC.
//! `faroe-endpoint`, sections 1 to 3.

use std::fmt;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, FileFailurePersistence, TestCaseError, TestCaseResult, TestRunner},
};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, time::timeout};

use crate::harness::{
    PLANTED, base64,
    client::Client,
    database::Kind,
    email_address,
    process::PATIENCE,
    stores::{Running, StoreKind},
};

/// A test for each store of what holds for all of them.
macro_rules! on_every_store {
    ($($behaviour:ident),* $(,)?) => {$(
        mod $behaviour {
            use super::*;

            #[test]
            fn sqlite() {
                super::$behaviour(StoreKind::Bundled(Kind::Sqlite));
            }

            #[test]
            fn postgres() {
                super::$behaviour(StoreKind::Bundled(Kind::Postgres));
            }

            #[test]
            fn mariadb() {
                super::$behaviour(StoreKind::Bundled(Kind::MariaDb));
            }

            #[test]
            fn grpc_over_a_unix_socket() {
                super::$behaviour(StoreKind::GrpcUnix);
            }
        }
    )*};
}

on_every_store!(
    any_user_comes_out_as_it_went_in,
    a_nul_is_kept_whole_or_refused,
    no_id_with_a_nul_is_anybodys,
);

/// The largest blob, in bytes.
const LARGE: usize = 64 << 10;

/// What the caller chooses of a user.
#[derive(Debug, Clone)]
struct Chosen {
    email_address: String,
    new_email_address: String,
    password: Password,
    new_password: Password,
    /// Whether requests have each character beyond ASCII as an escape.
    escaped: bool,
}

#[derive(Debug, Clone)]
struct Password {
    hash: Blob,
    algorithm_id: String,
    salt: Blob,
}

#[derive(Clone)]
struct Blob(Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, first {:x?}", self.0.len(), &self.0[..self.0.len().min(16)])
    }
}

/// Characters that some layer may take for something else: padding, wildcards, quotes, marks that
/// combine, ends of a range, and the neighbours of what UTF-8 and UTF-16 leave out.
const TELLING: &str = " \t\r\n\u{1}\u{1f}\u{7f}\u{80}\u{85}\u{a0}%_'\"`\\/?$:;#{}[]&<>\
                       aA\u{e9}\u{301}\u{df}\u{130}\u{131}\u{200b}\u{202e}\u{2028}\u{feff}\
                       \u{d7ff}\u{e000}\u{fffd}\u{fffe}\u{ffff}\u{10000}\u{1f600}\u{10ffff}";

/// Any character but NUL.
fn character() -> impl Strategy<Value = char> {
    let telling: Vec<char> = TELLING.chars().collect();
    prop_oneof![any::<char>(), prop::sample::select(telling)]
        .prop_map(|character| if character == '\0' { '\u{1}' } else { character })
}

fn text(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = String> {
    vec(character(), length).prop_map(String::from_iter)
}

/// What is lost most easily stands at an end.
fn edge() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", " ", "\t", "\n", "\u{a0}", "\u{301}", "\u{feff}"])
}

fn any_algorithm_id() -> impl Strategy<Value = String> {
    (edge(), text(0..=64), edge()).prop_map(|(start, text, end)| format!("{start}{text}{end}"))
}

/// Up to 320 bytes, now and then exactly as many, or none.
fn any_email_address() -> impl Strategy<Value = String> {
    let full = format!("{PLANTED}x{}", "\u{1f600}".repeat(78));
    assert_eq!(full.len(), 320);
    prop_oneof![
        8 => (edge(), text(0..=38), text(0..=38), edge())
            .prop_map(|(start, a, b, end)| format!("{start}{a}{PLANTED}{b}{end}")),
        1 => Just(full),
        1 => Just(String::new()),
    ]
}

fn blob() -> impl Strategy<Value = Blob> {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    prop_oneof![
        1 => Just(Vec::new()),
        1 => Just(every_byte),
        1 => Just(PLANTED.into()),
        4 => vec(any::<u8>(), 0..=100),
        1 => (0..=LARGE, any::<u8>()).prop_map(|(length, step)| pattern(length, step)),
        1 => any::<u8>().prop_map(|step| pattern(LARGE, step)),
    ]
    .prop_map(Blob)
}

fn pattern(length: usize, step: u8) -> Vec<u8> {
    (0..=u8::MAX).cycle().map(|byte| byte.wrapping_mul(step)).take(length).collect()
}

fn any_password() -> impl Strategy<Value = Password> {
    (blob(), any_algorithm_id(), blob()).prop_map(|(hash, algorithm_id, salt)| Password {
        hash,
        algorithm_id,
        salt,
    })
}

fn any_chosen() -> impl Strategy<Value = Chosen> {
    (any_email_address(), any_email_address(), any_password(), any_password(), any::<bool>())
        .prop_map(|(email_address, new_email_address, password, new_password, escaped)| Chosen {
            email_address,
            new_email_address,
            password,
            new_password,
            escaped,
        })
}

/// A sidecar for all cases of a property.
struct Fixture {
    running: Running,
    client: Client,
    runtime: Runtime,
}

impl Fixture {
    fn start(store: StoreKind) -> Self {
        let running = store.start(&["--max-body", "1MiB"]);
        let client = running.client();
        Self { running, client, runtime: Runtime::new().unwrap() }
    }

    /// Runs a property for as many generated values. It deletes the users that it knows of, so that
    /// whatever is left at the end was left behind. A value that fails is made smaller, within
    /// limits, and shown; nothing is written.
    fn check<S: Strategy>(
        &self,
        cases: u32,
        strategy: &S,
        property: impl AsyncFn(&Self, S::Value) -> TestCaseResult,
    ) {
        let config = Config {
            cases,
            max_shrink_iters: 200,
            failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
            ..Config::default()
        };
        let result = TestRunner::new(config).run(strategy, |value| {
            self.runtime.block_on(async {
                let result = property(self, value).await;
                if result.is_err() {
                    // For the smaller ones that follow.
                    self.running.database.execute("DELETE FROM users").await;
                }
                result
            })
        });
        if let Err(error) = result {
            panic!("{error}");
        }
        assert_eq!(self.runtime.block_on(self.running.database.dump()), "", "left behind");
    }

    /// Invokes an action and gives the answer, which has to be 200.
    async fn invoke(
        &self,
        action: &str,
        arguments: &Value,
        escaped: bool,
    ) -> Result<Value, TestCaseError> {
        let mut body = json!({ "action": action, "arguments": arguments }).to_string();
        if escaped {
            body = with_escapes(&body);
        }
        let reply = timeout(PATIENCE, self.client.post(body)).await;
        let reply = reply.map_err(|_| TestCaseError::fail("no answer"))?;
        prop_assert_eq!(reply.status, 200, "{}: {}", action, reply.text());
        Ok(reply.json())
    }

    /// Invokes an action that has to succeed and gives its values.
    async fn values(
        &self,
        action: &str,
        arguments: &Value,
        escaped: bool,
    ) -> Result<Value, TestCaseError> {
        let answer = self.invoke(action, arguments, escaped).await?;
        prop_assert_eq!(&answer["ok"], &json!(true), "{}: {}", action, answer);
        Ok(answer["values"].clone())
    }

    async fn user(&self, id: &Value) -> Result<Value, TestCaseError> {
        Ok(self.values("get_user", &json!({ "user_id": id }), false).await?["user"].clone())
    }

    async fn delete(&self, id: &Value) -> TestCaseResult {
        let values = self.values("delete_user", &json!({ "user_id": id }), false).await?;
        prop_assert_eq!(values, json!({}));
        Ok(())
    }

    /// The user of an email address, or the error code.
    async fn look_up(&self, email_address: &str) -> Result<Value, TestCaseError> {
        let arguments = json!({ "email_address": email_address });
        let answer = self.invoke("get_user_by_email_address", &arguments, false).await?;
        Ok(answer.get("error_code").unwrap_or(&answer["values"]["user"]).clone())
    }
}

/// JSON with each character beyond ASCII as an escape. Such stand in its strings only.
fn with_escapes(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

fn creation(email_address: &str, password: &Password) -> Value {
    json!({
        "email_address": email_address,
        "password_hash": base64(&password.hash.0),
        "password_hash_algorithm_id": password.algorithm_id,
        "password_salt": base64(&password.salt.0),
    })
}

fn password_update(id: &Value, password: &Password) -> Value {
    let mut arguments = creation("", password);
    arguments.as_object_mut().unwrap().remove("email_address");
    arguments["user_id"] = id.clone();
    arguments["user_password_hash_counter"] = json!(0);
    arguments
}

fn email_update(id: &Value, email_address: &str) -> Value {
    json!({ "user_id": id, "email_address": email_address, "user_email_address_counter": 0 })
}

/// The whole of a user.
fn user(id: &Value, email_address: &str, password: &Password, counters: [i32; 2]) -> Value {
    let mut user = creation(email_address, password);
    let rest = json!({
        "id": id,
        "disabled": false,
        "display_name": "",
        "email_address_counter": counters[0],
        "password_hash_counter": counters[1],
        "disabled_counter": 0,
        "sessions_counter": 0,
    });
    user.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    user
}

fn any_user_comes_out_as_it_went_in(store: StoreKind) {
    Fixture::start(store).check(64, &any_chosen(), async |fixture, chosen| {
        let Chosen { email_address, new_email_address, password, new_password, escaped } = chosen;
        let arguments = creation(&email_address, &password);
        let created = fixture.values("create_user", &arguments, escaped).await?["user"].clone();
        let id = &created["id"];
        let mut expected = user(id, &email_address, &password, [0, 0]);
        prop_assert_eq!(&created, &expected);
        prop_assert_eq!(&fixture.user(id).await?, &expected);
        prop_assert_eq!(&fixture.look_up(&email_address).await?, &expected);

        let arguments = email_update(id, &new_email_address);
        let values = fixture.values("update_user_email_address", &arguments, escaped).await?;
        prop_assert_eq!(values, json!({}));
        expected = user(id, &new_email_address, &password, [1, 0]);
        prop_assert_eq!(&fixture.user(id).await?, &expected);
        prop_assert_eq!(&fixture.look_up(&new_email_address).await?, &expected);
        if email_address != new_email_address {
            let old = fixture.look_up(&email_address).await?;
            prop_assert_eq!(old, json!("user_not_found"));
        }

        let arguments = password_update(id, &new_password);
        let values = fixture.values("update_user_password_hash", &arguments, escaped).await?;
        prop_assert_eq!(values, json!({}));
        expected = user(id, &new_email_address, &new_password, [1, 1]);
        prop_assert_eq!(&fixture.user(id).await?, &expected);
        prop_assert_eq!(&fixture.look_up(&new_email_address).await?, &expected);
        fixture.delete(id).await
    });
}

/// What stands before and after a NUL.
fn around_a_nul() -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        (text(0..=20), text(0..=20)).prop_map(|(a, b)| (format!("{a}{PLANTED}"), b)),
        (text(0..=20), text(0..=20)).prop_map(|(a, b)| (a, format!("{PLANTED}{b}"))),
        Just((PLANTED.to_owned(), String::new())),
        Just((String::new(), PLANTED.to_owned())),
    ]
}

/// Cut or without its NUL the text is the email address of somebody else, whom nothing may reach.
fn a_nul_is_kept_whole_or_refused(store: StoreKind) {
    Fixture::start(store).check(24, &around_a_nul(), async |fixture, (before, after)| {
        let with_nul = format!("{before}\0{after}");
        let plain = Password {
            hash: Blob(b"planted hash".to_vec()),
            algorithm_id: "algorithm".to_owned(),
            salt: Blob(b"planted salt".to_vec()),
        };
        let algorithm_with_nul = Password { algorithm_id: with_nul.clone(), ..plain.clone() };
        let mut others = vec![before.clone()];
        if !after.is_empty() {
            others.push(format!("{before}{after}"));
        }
        for other in &others {
            fixture.values("create_user", &creation(other, &plain), false).await?;
        }
        let found = fixture.look_up(&with_nul).await?;
        prop_assert!(found == "user_not_found" || found == "internal_error", "{}", found);

        // In new users.
        let address = email_address();
        for (email_address, password) in
            [(&with_nul, &plain), (&address, &algorithm_with_nul), (&with_nul, &algorithm_with_nul)]
        {
            let arguments = creation(email_address, password);
            let answer = fixture.invoke("create_user", &arguments, false).await?;
            if answer["ok"] == true {
                let created = &answer["values"]["user"];
                let id = &created["id"];
                prop_assert_eq!(created, &user(id, email_address, password, [0, 0]));
                prop_assert_eq!(&fixture.user(id).await?, created);
                prop_assert_eq!(&fixture.look_up(email_address).await?, created);
                fixture.delete(id).await?;
            } else {
                prop_assert_eq!(&answer["error_code"], "internal_error");
                let found = fixture.look_up(email_address).await?;
                prop_assert!(found == "user_not_found" || found == "internal_error", "{}", found);
            }
        }

        // In changes to a user that is there.
        let created = fixture.values("create_user", &creation(&address, &plain), false).await?;
        let id = &created["user"]["id"];
        let mut expected = created["user"].clone();
        for (action, arguments, changed) in [
            ("update_user_email_address", email_update(id, &with_nul), "email_address"),
            (
                "update_user_password_hash",
                password_update(id, &algorithm_with_nul),
                "password_hash_algorithm_id",
            ),
        ] {
            let answer = fixture.invoke(action, &arguments, false).await?;
            if answer["ok"] == true {
                let counter = action.trim_start_matches("update_user_").to_owned() + "_counter";
                expected[counter] = json!(1);
                expected[changed] = json!(with_nul);
            } else {
                prop_assert_eq!(&answer["error_code"], "internal_error");
            }
            prop_assert_eq!(&fixture.user(id).await?, &expected);
            let address = expected["email_address"].as_str().unwrap();
            prop_assert_eq!(&fixture.look_up(address).await?, &expected);
        }
        for other in &others {
            let found = fixture.look_up(other).await?;
            prop_assert_eq!(&found["email_address"], other);
            prop_assert_eq!(&found["password_hash_algorithm_id"], "algorithm");
            fixture.delete(&found["id"]).await?;
        }
        fixture.delete(id).await
    });
}

/// An ID that is cut at its NUL, or loses it, is that of a user who is there.
fn no_id_with_a_nul_is_anybodys(store: StoreKind) {
    let fixture = Fixture::start(store);
    let strategy = (text(0..=20), any::<prop::sample::Index>());
    fixture.check(16, &strategy, async |fixture, (more, at)| {
        let plain = Password {
            hash: Blob(b"planted hash".to_vec()),
            algorithm_id: "algorithm".to_owned(),
            salt: Blob(b"planted salt".to_vec()),
        };
        let arguments = creation(&email_address(), &plain);
        let created = fixture.values("create_user", &arguments, false).await?["user"].clone();
        let id = created["id"].as_str().unwrap();
        let (left, right) = id.split_at(at.index(id.len()));
        for id in [
            format!("{id}\0"),
            format!("\0{id}"),
            format!("{left}\0{right}"),
            format!("{id}\0{more}"),
            format!("{more}\0{id}"),
            format!("\0{more}"),
        ] {
            let id = json!(id);
            for (action, arguments) in [
                ("get_user", json!({ "user_id": id })),
                ("update_user_email_address", email_update(&id, &email_address())),
                ("update_user_password_hash", password_update(&id, &plain)),
                (
                    "increment_user_sessions_counter",
                    json!({ "user_id": id, "user_sessions_counter": 0 }),
                ),
                ("delete_user", json!({ "user_id": id })),
            ] {
                let answer = fixture.invoke(action, &arguments, false).await?;
                let code = &answer["error_code"];
                prop_assert!(
                    code == "user_not_found" || code == "internal_error",
                    "{} {}: {}",
                    action,
                    arguments,
                    answer
                );
            }
        }
        prop_assert_eq!(&fixture.user(&created["id"]).await?, &created);
        fixture.delete(&created["id"]).await
    });
}
