//! `GetUser` and `GetUserByEmailAddress`.

use tonic::Code;

use super::{
    case::{Case, Checked, Level},
    delete::is_tried,
    sections,
    subject::Subject,
};

pub(super) const CASES: &[Case] = &[
    Case::must(
        "lookup.by-id",
        "GetUser answers the user who has the ID.",
        sections::CHECKS,
        "Select by the ID of the request, and fill in all eleven fields.",
        |store| Box::pin(by_id(store)),
    ),
    Case::must(
        "lookup.by-email-address",
        "GetUserByEmailAddress answers the same user as GetUser.",
        sections::CHECKS,
        "Select by the email address of the request, and fill in all eleven fields.",
        |store| Box::pin(by_email_address(store)),
    ),
    Case::must(
        "lookup.absent-id",
        "GetUser with an ID that nobody has is NOT_FOUND.",
        sections::ERRORS,
        "No row is NOT_FOUND: neither an empty response nor INTERNAL.",
        |store| Box::pin(absent_id(store)),
    ),
    Case::must(
        "lookup.absent-email-address",
        "GetUserByEmailAddress with an email address that nobody has is NOT_FOUND.",
        sections::ERRORS,
        "No row is NOT_FOUND: neither an empty response nor INTERNAL.",
        |store| Box::pin(absent_email_address(store)),
    ),
    Case::must(
        "lookup.empty-id",
        "GetUser with an empty ID is NOT_FOUND: nobody has it.",
        sections::ERRORS,
        "Treat the empty ID as any other that nobody has.",
        |store| Box::pin(empty_id(store)),
    ),
    Case::must(
        "lookup.id-of-another-form",
        "GetUser with an ID that could not be one of this store is NOT_FOUND: IDs are text, and nobody has it.",
        sections::ERRORS,
        "Where IDs are numbers or UUIDs inside, answer NOT_FOUND for text that cannot be read as one.",
        |store| Box::pin(id_of_another_form(store)),
    ),
    Case::must(
        "lookup.ids-are-byte-exact",
        "IDs are compared byte for byte: another case, a space more, or another way to write the same number or UUID is another ID.",
        sections::USER,
        "Compare the ID as text in a binary collation; where it is a number or a UUID inside, compare the text of the request with that of the row too.",
        |store| Box::pin(ids_are_byte_exact(store)),
    ),
    Case::must(
        "lookup.writes-compare-ids-byte-exactly",
        "DeleteUser and the three updates find nobody by an ID in another case, with a space more, or written in another way.",
        sections::USER,
        "Compare the ID in WHERE as in GetUser.",
        |store| Box::pin(writes_compare_ids_byte_exactly(store)),
    ),
    Case::must(
        "lookup.changes-nothing",
        "Looking a user up changes nothing about them.",
        sections::ACTIONS,
        "Keep the time of the last look-up outside of the user's own values.",
        |store| Box::pin(changes_nothing(store)),
    ),
    Case::not_checkable(
        Level::Must,
        "lookup.shows-what-the-application-set",
        "`disabled`, the disabled counter and the display name are answered as the application has set them.",
        sections::USER,
        "no method sets them: the application does",
        "Read these columns too: who was barred signs in where `disabled` is left at false. Set them by SQL and look.",
    ),
    Case::not_checkable(
        Level::Must,
        "lookup.outage-is-not-not-found",
        "While the database is away a look-up is UNAVAILABLE or INTERNAL, and never NOT_FOUND.",
        sections::COST,
        "the database behind the store would have to be taken away",
        "Answer NOT_FOUND only where the database has said that there is no row; take the database away once and try.",
    ),
];

/// What cannot be the ID of a user: it has the form of no ID anyone makes.
const NO_ID: &str = "faroe-conformance: nobody's ID";

async fn by_id(store: Subject) -> Checked {
    let request = store.request(store.address("user"));
    let created = store.user_of(&request).await?;
    // Another user beside it, who is not to be answered.
    store.user().await?;
    let answer = store.get(&created.id).await;
    if let Ok(user) = &answer.reply
        && (user.id != created.id || user.email_address != request.email_address)
    {
        return Err(answer.fails("the user with the ID that was asked for").into());
    }
    Ok(answer.is_user(&created, "the user with the ID that was asked for, the same each time")?)
}

async fn by_email_address(store: Subject) -> Checked {
    let user = store.user().await?;
    store.user().await?;
    let expected = "the user with the email address that was asked for, as GetUser shows them";
    Ok(store.find(&user.email_address).await.is_user(&user, expected)?)
}

async fn absent_id(store: Subject) -> Checked {
    let user = store.user().await?;
    store.delete(&user.id).await.ok("a user who is there can be deleted")?;
    Ok(store.is_absent(&user.id).await?)
}

async fn absent_email_address(store: Subject) -> Checked {
    // Somebody is there, to be answered by mistake.
    store.user().await?;
    Ok(store.is_free(&store.address("nobody")).await?)
}

async fn empty_id(store: Subject) -> Checked {
    Ok(store.is_absent("").await?)
}

async fn id_of_another_form(store: Subject) -> Checked {
    for id in [NO_ID, "\u{e9}\u{1f642}", "00000000-0000-0000-0000-00000000000g"] {
        store.is_absent(id).await?;
    }
    Ok(())
}

/// IDs that differ from this one in what careless comparisons overlook.
fn variants(id: &str) -> Vec<String> {
    let mut variants: Vec<String> = [
        // What is cut off, or skipped.
        format!("{id} "),
        format!(" {id}"),
        format!("{id}\n"),
        format!("{id}x"),
        // The same number.
        format!("0{id}"),
        format!("+{id}"),
        format!("{id}.0"),
        // The same UUID.
        format!("{{{id}}}"),
    ]
    .into();
    for spelling in [id.replace('-', ""), id.to_uppercase(), id.to_lowercase()] {
        if spelling != id {
            variants.push(spelling);
        }
    }
    variants
}

async fn ids_are_byte_exact(store: Subject) -> Checked {
    let user = store.user().await?;
    let mut tried = Vec::new();
    for id in variants(&user.id) {
        let answer = store.get(&id).await;
        // Somebody else may have it.
        if !matches!(&answer.reply, Ok(found) if found.id == id && !store.is_ours(&found.email_address))
        {
            answer.is_refused(Code::NotFound, "nobody has this ID, byte for byte")?;
            tried.push(id);
        }
    }
    Ok(is_tried(&tried)?)
}

async fn writes_compare_ids_byte_exactly(store: Subject) -> Checked {
    let user = store.user().await?;
    let expected = "nobody has this ID, byte for byte";
    let mut tried = Vec::new();
    for id in variants(&user.id) {
        if !store.may_write_to(&id).await? {
            continue;
        }
        let new = store.request(store.address("new"));
        store
            .update_email_address(&id, &new.email_address, user.email_address_counter)
            .await
            .is_refused(Code::NotFound, expected)?;
        store
            .update_password_hash(&id, &new, user.password_hash_counter)
            .await
            .is_refused(Code::NotFound, expected)?;
        store
            .increment_sessions(&id, user.sessions_counter)
            .await
            .is_refused(Code::NotFound, expected)?;
        store.delete(&id).await.is_refused(Code::NotFound, expected)?;
        tried.push(id);
    }
    is_tried(&tried)?;
    Ok(store.is_unchanged(&user).await?)
}

async fn changes_nothing(store: Subject) -> Checked {
    let user = store.user().await?;
    for _ in 0..3 {
        store.find(&user.email_address).await.ok("the user with this email address")?;
        store.is_unchanged(&user).await?;
    }
    Ok(())
}
