//! Email addresses, byte for byte.

use tonic::Code;

use super::{
    case::{Case, Checked, Level},
    describe, sections,
    subject::Subject,
    update::after,
};
use crate::proto::User;

const COLLATION: &str = "Give the column a binary collation (PostgreSQL: text COLLATE \"C\"; MySQL and MariaDB: VARBINARY, or a binary collation that does not pad, which utf8mb4_bin does: utf8mb4_0900_bin in MySQL 8, utf8mb4_nopad_bin in MariaDB; SQLite: BINARY, the default), and neither trim nor lower-case in code.";
const PARAMETERS: &str =
    "Hand values to the database as parameters, and compare with = and never with LIKE.";
const LENGTH: &str = "Make the column wide enough, or of a type without a length.";

pub(super) const CASES: &[Case] = &[
    Case::must(
        "email.case",
        "Email addresses that differ in case alone are different.",
        sections::USER,
        COLLATION,
        |store| Box::pin(are_different(store, &[("alice", "Alice"), ("bob", "BOB")])),
    ),
    Case::must(
        "email.trailing-space",
        "An email address with a space at its end is another one.",
        sections::USER,
        COLLATION,
        |store| Box::pin(spaces(store, "", " ")),
    ),
    Case::must(
        "email.leading-space",
        "An email address with a space at its beginning is another one.",
        sections::USER,
        COLLATION,
        |store| Box::pin(spaces(store, " ", "")),
    ),
    Case::must(
        "email.quote",
        "Quotation marks in an email address stand for themselves.",
        sections::USER,
        PARAMETERS,
        |store| {
            Box::pin(are_different(store, &[("o'b", "o''b"), ("o\"b", "o\"\"b"), ("o`b", "ob")]))
        },
    ),
    Case::must(
        "email.percent",
        "A percent sign in an email address stands for itself and for nothing else.",
        sections::USER,
        PARAMETERS,
        |store| {
            Box::pin(are_different(store, &[("a-x-b", "a%b"), ("c-x-d", "%"), ("e f", "e%20f")]))
        },
    ),
    Case::must(
        "email.underscore",
        "An underscore in an email address stands for itself and for nothing else.",
        sections::USER,
        PARAMETERS,
        |store| Box::pin(are_different(store, &[("a-b", "a_b")])),
    ),
    Case::must(
        "email.backslash",
        "A backslash in an email address stands for itself.",
        sections::USER,
        PARAMETERS,
        |store| {
            Box::pin(are_different(store, &[("ab", "a\\b"), ("c\\d", "c\\\\d"), ("e\nf", "e\\nf")]))
        },
    ),
    Case::must(
        "email.composed-and-decomposed",
        "A composed and a decomposed accent make different email addresses.",
        sections::USER,
        "Do not normalise Unicode, neither in code nor by a collation.",
        |store| Box::pin(are_different(store, &[("caf\u{e9}", "cafe\u{301}")])),
    ),
    Case::must(
        "email.accents",
        "Letters with and without accents, and letters that some languages sort alike, are different.",
        sections::USER,
        COLLATION,
        |store| {
            Box::pin(are_different(
                store,
                &[("resume", "r\u{e9}sum\u{e9}"), ("strasse", "stra\u{df}e"), ("a", "\u{ff41}")],
            ))
        },
    ),
    Case::must(
        "email.emoji",
        "Characters of four bytes are stored, and no two of them are alike.",
        sections::USER,
        "On MySQL and MariaDB use utf8mb4 and a binary collation: utf8 has no such characters, and older collations take them all for one.",
        |store| Box::pin(are_different(store, &[("\u{1f600}", "\u{1f601}")])),
    ),
    Case::must(
        "email.invisible-characters",
        "Characters that cannot be seen are part of the email address.",
        sections::USER,
        COLLATION,
        |store| {
            Box::pin(are_different(
                store,
                &[("ab", "a\u{200b}b"), ("cd", "c\u{ad}d"), ("ef", "e\u{1}f"), ("gh", "g\th")],
            ))
        },
    ),
    Case::must(
        "email.320-bytes",
        "An email address of 320 bytes is stored whole.",
        sections::USER,
        LENGTH,
        |store| Box::pin(long(store, 320)),
    ),
    Case::should(
        "email.1000-characters",
        "An email address of 1,000 ASCII characters is stored whole.",
        sections::USER,
        LENGTH,
        |store| Box::pin(long(store, 1000)),
    ),
    Case::must(
        "email.not-validated",
        "What does not look like an email address is stored like any other.",
        sections::ACTIONS,
        "Do not validate email addresses: Faroe and the application do.",
        |store| Box::pin(not_validated(store)),
    ),
    Case::must(
        "email.update-is-byte-exact",
        "UpdateUserEmailAddress sets an address in another case, with a space more, or with another accent exactly as it came.",
        sections::ACTIONS,
        COLLATION,
        |store| Box::pin(update_is_byte_exact(store)),
    ),
    Case::not_checkable(
        Level::Must,
        "email.empty",
        "An empty email address is stored like any other.",
        sections::ACTIONS,
        "an empty address cannot carry the mark of the run, and the store may hold real users",
        "Do not validate email addresses.",
    ),
];

/// Each pair can stand side by side, and each of the two is found under its own address alone.
async fn are_different(store: Subject, pairs: &[(&'static str, &'static str)]) -> Checked {
    for (first, second) in pairs {
        // The same but for the names.
        let address = store.address("NAME");
        let (first, second) = (address.replace("NAME", first), address.replace("NAME", second));
        two_users(&store, &first, &second).await?;
    }
    Ok(())
}

async fn spaces(store: Subject, before: &'static str, after: &'static str) -> Checked {
    let address = store.address("space");
    let spaced = format!("{before}{address}{after}");
    two_users(&store, &address, &spaced).await?;
    let address = store.address("space");
    two_users(&store, &format!("{before}{address}{after}"), &address).await
}

async fn two_users(store: &Subject, first: &str, second: &str) -> Checked {
    let one = stored(store, first).await?;
    store.find(second).await.is_refused(
        Code::NotFound,
        &format!("only {} is there, which is another email address", describe::text(first)),
    )?;
    let other = stored(store, second).await?;
    store.find(first).await.is_user(&one, "the user with this email address, byte for byte")?;
    store.find(second).await.is_user(&other, "the user with this email address, byte for byte")?;
    Ok(())
}

/// A user with this email address, who has it byte for byte.
async fn stored(store: &Subject, email_address: &str) -> Result<User, super::case::NotPassed> {
    let request = store.request(email_address);
    let answer = store.create(&request).await;
    let user = answer.ok("a user with this email address is created: nobody has it")?;
    let user = store.own(&user.id).await?;
    let due = User { email_address: email_address.to_owned(), ..user.clone() };
    store.get(&user.id).await.is_user(&due, "the email address as it was sent, byte for byte")?;
    Ok(due)
}

async fn long(store: Subject, length: usize) -> Checked {
    let address = store.address("");
    let pad = "x".repeat(length.saturating_sub(address.len() + 1));
    // The two differ in the last byte before the @.
    let name = |last: &str| address.replace('@', &format!("{pad}{last}@"));
    two_users(&store, &name("a"), &name("b")).await
}

async fn not_validated(store: Subject) -> Checked {
    for domain in ["", "@", "@@two", "@no-dot", " with words", "<x@y>, z"] {
        let address = store.address("no").replace("@conformance.invalid", domain);
        stored(&store, &address).await?;
    }
    Ok(())
}

async fn update_is_byte_exact(store: Subject) -> Checked {
    let mut user = store.user().await?;
    let address = store.address("caf\u{e9}");
    for new in [
        address.clone(),
        address.replace("caf", "CAF"),
        format!("{address} "),
        address.replace('\u{e9}', "e\u{301}"),
    ] {
        let counter = user.email_address_counter;
        store
            .update_email_address(&user.id, &new, counter)
            .await
            .ok("the counter is that of the user, and nobody has this email address")?;
        user.email_address = new;
        user.email_address_counter = after(counter);
        let expected = "the new email address byte for byte, and the counter 1 higher";
        store.get(&user.id).await.is_user(&user, expected)?;
        let expected = "the user is found under the new email address";
        store.find(&user.email_address).await.is_user(&user, expected)?;
    }
    Ok(())
}
