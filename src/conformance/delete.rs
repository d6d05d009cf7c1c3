//! `DeleteUser`.

use tonic::Code;

use super::{
    case::{Case, Checked, Failure},
    describe, sections,
    subject::Subject,
};
use crate::proto::User;

pub(super) const CASES: &[Case] = &[
    Case::must(
        "delete.user-is-gone",
        "A user who was deleted is found neither by ID nor by email address.",
        sections::ACTIONS,
        "Delete the row; where rows are only marked as deleted, leave those out of every look-up.",
        |store| Box::pin(user_is_gone(store)),
    ),
    Case::must(
        "delete.twice",
        "Deleting a user who was deleted is NOT_FOUND.",
        sections::ERRORS,
        "Look at how many rows the DELETE met: none is NOT_FOUND.",
        |store| Box::pin(twice(store)),
    ),
    Case::must(
        "delete.absent-user",
        "Deleting by an ID that nobody ever had is NOT_FOUND.",
        sections::ERRORS,
        "Look at how many rows the DELETE met: none is NOT_FOUND. An ID of another form is nobody's.",
        |store| Box::pin(absent_user(store)),
    ),
    Case::must(
        "delete.frees-the-email-address",
        "The email address of a user who was deleted can be used again, and the new user starts afresh.",
        sections::USER,
        "Rows that are only marked as deleted must not count for the unique constraint, nor come back.",
        |store| Box::pin(frees_the_email_address(store)),
    ),
    Case::must(
        "delete.id-is-not-used-again",
        "The ID of a user who was deleted is given to nobody again.",
        sections::COST,
        "Make IDs of at least 128 random bits, not of the highest one there plus 1; in SQLite an INTEGER PRIMARY KEY needs AUTOINCREMENT.",
        |store| Box::pin(id_is_not_used_again(store)),
    ),
    Case::must(
        "delete.touches-no-other-user",
        "Deleting a user leaves all others as they were.",
        sections::ACTIONS,
        "WHERE names the ID.",
        |store| Box::pin(touches_no_other_user(store)),
    ),
];

/// That an ID that nobody has was written to.
pub(super) fn is_tried(ids: &[String]) -> Result<(), Failure> {
    if ids.is_empty() {
        return Err(Failure::new(
            "GetUser, with IDs that nobody has",
            "for each of them a user who is not of this run and has that ID",
            "NOT_FOUND for one of them at least: nothing was written to users of others, so nothing is known",
        ));
    }
    Ok(())
}

const THERE: &str = "a user who is there can be deleted";

async fn user_is_gone(store: Subject) -> Checked {
    let user = store.user().await?;
    store.delete(&user.id).await.ok(THERE)?;
    store.is_absent(&user.id).await?;
    Ok(store.is_free(&user.email_address).await?)
}

async fn twice(store: Subject) -> Checked {
    let user = store.user().await?;
    store.delete(&user.id).await.ok(THERE)?;
    Ok(store.delete(&user.id).await.is_refused(Code::NotFound, "the user was deleted before")?)
}

async fn absent_user(store: Subject) -> Checked {
    let user = store.user().await?;
    let mut tried = Vec::new();
    for id in ["faroe-conformance: nobody's ID".to_owned(), format!("{}x", user.id)] {
        if store.may_write_to(&id).await? {
            store.delete(&id).await.is_refused(Code::NotFound, "nobody has this ID")?;
            tried.push(id);
        }
    }
    Ok(is_tried(&tried)?)
}

async fn frees_the_email_address(store: Subject) -> Checked {
    let user = store.user().await?;
    // So that it shows if they come back.
    store
        .increment_sessions(&user.id, user.sessions_counter)
        .await
        .ok("the counter is that of the user")?;
    store.delete(&user.id).await.ok(THERE)?;
    let request = store.request(user.email_address.as_str());
    let created = store.create(&request).await.ok("the user who had it was deleted")?;
    let due = |found| User {
        password_hash: request.password_hash.clone(),
        sessions_counter: user.sessions_counter,
        ..found
    };
    let expected = "a new user, with nothing of the one who was deleted";
    store.get(&created.id).await.is_like(due, expected)?;
    Ok(())
}

async fn id_is_not_used_again(store: Subject) -> Checked {
    let mut gone = Vec::new();
    for _ in 0..4 {
        let user = store.user().await?;
        store.delete(&user.id).await.ok(THERE)?;
        gone.push(user.id);
        // With the same email address, and with another one.
        for address in [user.email_address, store.address("next")] {
            let request = store.request(address);
            let answer = store.create(&request).await;
            let sent = answer.sent.clone();
            let next = answer.ok("a user with an email address that nobody has is created")?;
            if gone.contains(&next.id) {
                let came_back = format!("id {}, of a deleted user", describe::text(&next.id));
                return Err(Failure::new(sent, came_back, "an ID that no user ever had").into());
            }
            store.own(&next.id).await?;
            store.delete(&next.id).await.ok(THERE)?;
            gone.push(next.id);
        }
    }
    Ok(())
}

async fn touches_no_other_user(store: Subject) -> Checked {
    let before = store.user().await?;
    let user = store.user().await?;
    let after = store.user().await?;
    store.delete(&user.id).await.ok(THERE)?;
    store.is_unchanged(&before).await?;
    Ok(store.is_unchanged(&after).await?)
}
