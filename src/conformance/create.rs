//! `CreateUser`.

use std::collections::HashSet;

use tonic::Code;

use super::{
    case::{Case, Checked, Failure},
    describe, sections,
    subject::Subject,
};
use crate::proto::User;

pub(super) const CASES: &[Case] = &[
    Case::must(
        "create.returns-what-was-sent",
        "CreateUser answers the user with the email address, password hash, algorithm and salt of the request, byte for byte.",
        sections::MESSAGES,
        "Answer the row as it was stored, all fields filled in, and change no value on the way.",
        |store| Box::pin(returns_what_was_sent(store)),
    ),
    Case::must(
        "create.defaults",
        "A new user has an ID that is not empty, all four counters 0, and is not disabled.",
        sections::ACTIONS,
        "Let the columns default to 0 and false, and start no counter at 1.",
        |store| Box::pin(defaults(store)),
    ),
    Case::must(
        "create.display-name-is-empty",
        "A new user has an empty display name.",
        sections::ACTIONS,
        "Make no display name of the email address; the application gives the user one later.",
        |store| Box::pin(display_name_is_empty(store)),
    ),
    Case::must(
        "create.is-found-as-answered",
        "GetUser shows a new user exactly as CreateUser answered it.",
        sections::ACTIONS,
        "Answer what was stored, and read every column back in GetUser.",
        |store| Box::pin(is_found_as_answered(store)),
    ),
    Case::must(
        "create.ids-are-unique",
        "Each new user has an ID of its own.",
        sections::USER,
        "Make the ID of at least 128 random bits, and let it be the primary key.",
        |store| Box::pin(ids_are_unique(store)),
    ),
    Case::must(
        "create.only-email-addresses-are-unique",
        "Users with the same password hash, algorithm and salt can stand side by side.",
        sections::USER,
        "Only the ID and the email address have a unique constraint.",
        |store| Box::pin(only_email_addresses_are_unique(store)),
    ),
    Case::must(
        "create.taken-email-address",
        "An email address that a user has is ALREADY_EXISTS.",
        sections::ERRORS,
        "Catch the violation of the unique constraint and answer ALREADY_EXISTS; an INSERT that updates or ignores is no answer.",
        |store| Box::pin(taken_email_address(store)),
    ),
    Case::must(
        "create.taken-email-address-changes-nothing",
        "A CreateUser with a taken email address leaves the user who has it as they were.",
        sections::ACTIONS,
        "Use a plain INSERT: no ON CONFLICT DO UPDATE, no REPLACE, no upsert of the ORM.",
        |store| Box::pin(taken_email_address_changes_nothing(store)),
    ),
    Case::must(
        "create.failure-leaves-nothing",
        "A CreateUser that fails leaves no user behind.",
        sections::ACTIONS,
        "Insert in one statement or one transaction, and let the unique constraint decide.",
        |store| Box::pin(failure_leaves_nothing(store)),
    ),
];

const CREATED: &str = "a user with an email address that nobody has is created";

async fn returns_what_was_sent(store: Subject) -> Checked {
    let request = store.request(store.address("new"));
    let due = |user| User {
        email_address: request.email_address.clone(),
        password_hash: request.password_hash.clone(),
        password_hash_algorithm_id: request.password_hash_algorithm_id.clone(),
        password_salt: request.password_salt.clone(),
        ..user
    };
    let expected = "the user answered has the values of the request, byte for byte";
    store.create(&request).await.is_like(due, expected)?;
    Ok(())
}

async fn defaults(store: Subject) -> Checked {
    let answer = store.create(&store.request(store.address("new"))).await;
    let expected = "an ID that is not empty, all counters 0, disabled false";
    if matches!(&answer.reply, Ok(user) if user.id.is_empty()) {
        return Err(answer.fails(expected).into());
    }
    let due = |user| User {
        disabled: false,
        email_address_counter: 0,
        password_hash_counter: 0,
        disabled_counter: 0,
        sessions_counter: 0,
        ..user
    };
    answer.is_like(due, expected)?;
    Ok(())
}

async fn display_name_is_empty(store: Subject) -> Checked {
    let answer = store.create(&store.request(store.address("new"))).await;
    let due = |user| User { display_name: String::new(), ..user };
    answer.is_like(due, "the display name of a new user is empty")?;
    Ok(())
}

async fn is_found_as_answered(store: Subject) -> Checked {
    let request = store.request(store.address("new"));
    let user = store.create(&request).await.ok(CREATED)?;
    let expected = "the user as CreateUser answered it, in every member";
    Ok(store.get(&user.id).await.is_user(&user, expected)?)
}

async fn ids_are_unique(store: Subject) -> Checked {
    let mut ids = HashSet::new();
    for _ in 0..8 {
        let request = store.request(store.address("new"));
        let answer = store.create(&request).await;
        let sent = answer.sent.clone();
        let user = answer.ok(CREATED)?;
        let came_back = format!("id {}, which another user has", describe::text(&user.id));
        if !ids.insert(user.id) {
            return Err(Failure::new(sent, came_back, "an ID that no user ever had").into());
        }
    }
    Ok(())
}

async fn only_email_addresses_are_unique(store: Subject) -> Checked {
    let mut request = store.request(store.address("first"));
    store.user_of(&request).await?;
    request.email_address = store.address("second");
    let answer = store.create(&request).await;
    answer.ok("a user is created who has only the password of another, and not the address")?;
    Ok(())
}

async fn taken_email_address(store: Subject) -> Checked {
    let user = store.user().await?;
    let request = store.request(user.email_address);
    let answer = store.create(&request).await;
    Ok(answer.is_refused(Code::AlreadyExists, "a user has this email address")?)
}

async fn taken_email_address_changes_nothing(store: Subject) -> Checked {
    let user = store.user().await?;
    // What it answers is another case, if it answers.
    let answer = store.create(&store.request(user.email_address.as_str())).await;
    if matches!(&answer.reply, Err(refusal) if refusal.code.is_none() && !refusal.without_user) {
        return Err(answer.fails("an answer").into());
    }
    store.is_unchanged(&user).await?;
    let expected = "the email address still is that of the user who had it first";
    Ok(store.find(&user.email_address).await.is_user(&user, expected)?)
}

async fn failure_leaves_nothing(store: Subject) -> Checked {
    let user = store.user().await?;
    let answer = store.create(&store.request(user.email_address.as_str())).await;
    if answer.is(Code::Ok) {
        return Err(answer.fails("a CreateUser with a taken email address fails").into());
    }
    // A second user with the address would be found when the first has gone.
    store.delete(&user.id).await.ok("a user who is there can be deleted")?;
    Ok(store.is_free(&user.email_address).await?)
}
