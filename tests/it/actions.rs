//! Every action and every error code, on every store. `faroe-endpoint`, section 3.

use serde_json::{Value, json};

use crate::harness::{
    base64,
    client::{Client, new_user},
    database::Kind,
    email_address,
    stores::StoreKind,
};

/// A test for each store of what holds for all of them.
macro_rules! on_every_store {
    ($($behaviour:ident),* $(,)?) => {$(
        mod $behaviour {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                super::$behaviour(&StoreKind::Bundled(Kind::Sqlite).start(&[]).client()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                super::$behaviour(&StoreKind::Bundled(Kind::Postgres).start(&[]).client()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn mariadb() {
                super::$behaviour(&StoreKind::Bundled(Kind::MariaDb).start(&[]).client()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn grpc_over_tcp() {
                super::$behaviour(&StoreKind::GrpcTcp.start(&[]).client()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn grpc_over_tls() {
                super::$behaviour(&StoreKind::GrpcTls.start(&[]).client()).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn grpc_over_a_unix_socket() {
                super::$behaviour(&StoreKind::GrpcUnix.start(&[]).client()).await;
            }
        }
    )*};
}

on_every_store!(
    a_user_is_created_looked_up_changed_and_deleted,
    strings_are_compared_byte_for_byte,
    no_error_changes_anything,
);

async fn a_user_is_created_looked_up_changed_and_deleted(client: &Client) {
    let email_address = email_address();
    let user = client.create_user(&email_address).await;
    let id = user["id"].as_str().unwrap().to_owned();
    assert!(!id.is_empty());
    let mut expected = json!({
        "id": id,
        "email_address": email_address,
        "password_hash": base64("planted hash"),
        "password_hash_algorithm_id": "argon2id.65536.3.1.32",
        "password_salt": base64("planted salt"),
        "disabled": false,
        "display_name": "",
        "email_address_counter": 0,
        "password_hash_counter": 0,
        "disabled_counter": 0,
        "sessions_counter": 0,
    });
    assert_eq!(user, expected);
    assert_eq!(client.get_user(&user).await, expected);
    let by_email_address = async |email_address: &str| {
        let arguments = json!({ "email_address": email_address });
        client.values("get_user_by_email_address", arguments).await["user"].clone()
    };
    assert_eq!(by_email_address(&email_address).await, expected);

    // Each change moves its own counter and no other.
    let new_address = format!("new-{email_address}");
    let values = client
        .values(
            "update_user_email_address",
            json!({
                "user_id": id, "email_address": new_address, "user_email_address_counter": 0,
            }),
        )
        .await;
    assert_eq!(values, json!({}));
    expected["email_address"] = json!(new_address);
    expected["email_address_counter"] = json!(1);
    assert_eq!(by_email_address(&new_address).await, expected);

    let values = client
        .values(
            "update_user_password_hash",
            json!({
                "user_id": id,
                "password_hash": base64("another planted hash"),
                "password_hash_algorithm_id": "another",
                "password_salt": base64("another planted salt"),
                "user_password_hash_counter": 0,
            }),
        )
        .await;
    assert_eq!(values, json!({}));
    expected["password_hash"] = json!(base64("another planted hash"));
    expected["password_hash_algorithm_id"] = json!("another");
    expected["password_salt"] = json!(base64("another planted salt"));
    expected["password_hash_counter"] = json!(1);
    assert_eq!(client.get_user(&user).await, expected);

    for counter in 0..3 {
        let arguments = json!({ "user_id": id, "user_sessions_counter": counter });
        assert_eq!(client.values("increment_user_sessions_counter", arguments).await, json!({}));
    }
    expected["sessions_counter"] = json!(3);
    assert_eq!(client.get_user(&user).await, expected);

    // One's own address is no conflict, and counts.
    let own = json!({
        "user_id": id, "email_address": new_address, "user_email_address_counter": 1,
    });
    assert_eq!(client.values("update_user_email_address", own).await, json!({}));
    expected["email_address_counter"] = json!(2);
    assert_eq!(client.get_user(&user).await, expected);

    // Deleted is gone, its address is free, and its ID is not used again.
    assert_eq!(client.values("delete_user", json!({ "user_id": id })).await, json!({}));
    let gone = json!({ "user_id": id });
    assert_eq!(client.error_code("get_user", gone.clone()).await, "user_not_found");
    assert_eq!(client.error_code("delete_user", gone).await, "user_not_found");
    let again = client.create_user(&new_address).await;
    assert_ne!(again["id"], json!(id));
}

async fn strings_are_compared_byte_for_byte(client: &Client) {
    let base = email_address();
    let addresses = [
        base.clone(),
        base.to_uppercase(),
        format!("{base} "),
        format!("{base}  "),
        format!(" {base}"),
        format!("{base}\t"),
        format!("{base}\n"),
        format!("\u{e9}{base}"),
        format!("e\u{301}{base}"),
        format!("\u{df}{base}"),
        format!("ss{base}"),
        format!("\u{1f600}{base}"),
        format!("%{base}"),
        format!("_{base}"),
        format!("'{base}"),
        format!("\"{base}"),
        format!("\\{base}"),
        format!("\u{200b}{base}"),
        format!("\u{feff}{base}"),
        format!("{}{base}", "x".repeat(320 - base.len())),
        String::new(),
    ];
    let mut users = Vec::new();
    for address in &addresses {
        users.push(client.create_user(address).await);
    }
    for (address, user) in addresses.iter().zip(&users) {
        let arguments = json!({ "email_address": address });
        let found = client.values("get_user_by_email_address", arguments).await;
        assert_eq!(&found["user"], user, "{address:?}");
        assert_eq!(found["user"]["email_address"], json!(address));
        let code = client.error_code("create_user", new_user(address)).await;
        assert_eq!(code, "email_address_already_used", "{address:?}");
    }
    // IDs too.
    let id = users[0]["id"].as_str().unwrap();
    for other in [id.to_uppercase(), format!("{id} "), format!(" {id}"), String::new(), "%".into()]
    {
        let code = client.error_code("get_user", json!({ "user_id": other })).await;
        assert_eq!(code, "user_not_found", "{other:?}");
    }
}

async fn no_error_changes_anything(client: &Client) {
    let taken = email_address();
    let other = client.create_user(&taken).await;
    let user = client.create_user(&email_address()).await;
    let id = &user["id"];
    let absent = json!("01890000-0000-7000-8000-000000000000");

    let email = |id: &Value, counter: i64, address: &str| {
        (
            "update_user_email_address",
            json!({
                "user_id": id, "email_address": address, "user_email_address_counter": counter,
            }),
        )
    };
    let password = |id: &Value, counter: i64| {
        (
            "update_user_password_hash",
            json!({
                "user_id": id,
                "password_hash": base64("x"),
                "password_hash_algorithm_id": "x",
                "password_salt": base64("x"),
                "user_password_hash_counter": counter,
            }),
        )
    };
    let sessions = |id: &Value, counter: i64| {
        (
            "increment_user_sessions_counter",
            json!({ "user_id": id, "user_sessions_counter": counter }),
        )
    };
    let new = email_address();
    let mut cases = vec![
        (("create_user", new_user(&taken)), "email_address_already_used"),
        (("get_user", json!({ "user_id": absent })), "user_not_found"),
        (
            ("get_user_by_email_address", json!({ "email_address": email_address() })),
            "user_not_found",
        ),
        (("delete_user", json!({ "user_id": absent })), "user_not_found"),
        (email(id, 0, &taken), "email_address_already_used"),
        (email(&absent, 0, &new), "user_not_found"),
        (email(&absent, 0, &taken), "user_not_found"),
        (password(&absent, 0), "user_not_found"),
        (sessions(&absent, 0), "user_not_found"),
    ];
    // A stale counter comes before a taken address.
    for counter in [1, -1, i64::from(i32::MAX), i64::from(i32::MIN)] {
        cases.push((email(id, counter, &new), "user_not_found"));
        cases.push((email(id, counter, &taken), "user_not_found"));
        cases.push((password(id, counter), "user_not_found"));
        cases.push((sessions(id, counter), "user_not_found"));
    }
    for ((action, arguments), expected) in cases {
        let code = client.error_code(action, arguments.clone()).await;
        assert_eq!(code, expected, "{action} {arguments}");
        assert_eq!(client.get_user(&user).await, user, "{action} {arguments}");
        assert_eq!(client.get_user(&other).await, other, "{action} {arguments}");
    }
    let absent = json!({ "email_address": new });
    assert_eq!(client.error_code("get_user_by_email_address", absent).await, "user_not_found");
}
