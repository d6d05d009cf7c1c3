//! `UpdateUserEmailAddress`.

use tonic::Code;

use super::{
    case::{Case, Checked, Failure},
    sections,
    subject::Subject,
    update::{
        ABSENT, MAXIMUM, NEGATIVE, ONLY, STATEMENT, Update, WHERE, absent_user, after,
        moves_no_other_counter, sets_and_counts, stale_counter, touches_no_other_user,
        wrong_counters,
    },
};
use crate::proto::User;

pub(super) const CASES: &[Case] = &[
    Case::must(
        "update-email-address.sets-and-counts",
        "With the counter of the user, the email address is set and its counter goes up by 1, each time.",
        sections::ACTIONS,
        STATEMENT,
        |store| Box::pin(sets_and_counts(store, Update::EmailAddress)),
    ),
    Case::must(
        "update-email-address.moves-no-other-counter",
        "Only the email address and its counter change, whatever the other counters are.",
        sections::ACTIONS,
        ONLY,
        |store| Box::pin(moves_no_other_counter(store, Update::EmailAddress)),
    ),
    Case::must(
        "update-email-address.stale-counter",
        "With a counter of the past it is NOT_FOUND, and the user stays as they were.",
        sections::ACTIONS,
        WHERE,
        |store| Box::pin(stale_counter(store, Update::EmailAddress)),
    ),
    Case::must(
        "update-email-address.future-counter",
        "With a counter that the user has not reached it is NOT_FOUND, and the user stays as they were.",
        sections::ACTIONS,
        WHERE,
        |store| Box::pin(wrong_counters(store, Update::EmailAddress, &[1, 2, 1000])),
    ),
    Case::must(
        "update-email-address.negative-counter",
        "With a negative counter it is NOT_FOUND, and the user stays as they were.",
        sections::ACTIONS,
        NEGATIVE,
        |store| Box::pin(wrong_counters(store, Update::EmailAddress, &[-1, i32::MIN])),
    ),
    Case::must(
        "update-email-address.maximum-counter",
        "With the counter 2147483647 it is NOT_FOUND where the user has another, and the user stays as they were.",
        sections::ACTIONS,
        MAXIMUM,
        |store| Box::pin(wrong_counters(store, Update::EmailAddress, &[i32::MAX])),
    ),
    Case::must(
        "update-email-address.absent-user",
        "For a user who was deleted or never was it is NOT_FOUND.",
        sections::ERRORS,
        ABSENT,
        |store| Box::pin(absent_user(store, Update::EmailAddress)),
    ),
    Case::must(
        "update-email-address.touches-no-other-user",
        "It changes the one user and no other.",
        sections::ACTIONS,
        "WHERE names the ID.",
        |store| Box::pin(touches_no_other_user(store, Update::EmailAddress)),
    ),
    Case::must(
        "update-email-address.own-address",
        "Setting the address that the user already has succeeds and counts.",
        sections::ACTIONS,
        "Do not look for the address beforehand, and count rows found, not rows whose values differ.",
        |store| Box::pin(own_address(store)),
    ),
    Case::must(
        "update-email-address.taken-address",
        "An address that another user has is ALREADY_EXISTS, and both users stay as they were.",
        sections::ERRORS,
        "Catch the violation of the unique constraint in the update as in CreateUser.",
        |store| Box::pin(taken_address(store)),
    ),
    Case::must(
        "update-email-address.stale-counter-and-taken-address",
        "A counter that does not match together with a taken address is NOT_FOUND.",
        sections::ACTIONS,
        "Let the one UPDATE decide: a row that does not match is not checked for uniqueness. A look-up of the address beforehand turns the order around.",
        |store| Box::pin(stale_counter_and_taken_address(store)),
    ),
    Case::must(
        "update-email-address.absent-user-and-taken-address",
        "A user who is not there together with a taken address is NOT_FOUND.",
        sections::ACTIONS,
        "Let the one UPDATE decide; no look-up of the address beforehand.",
        |store| Box::pin(absent_user_and_taken_address(store)),
    ),
    Case::must(
        "update-email-address.frees-the-old-address",
        "The address that the user had before finds nobody, and another user can have it.",
        sections::ACTIONS,
        "Keep no second table of addresses, or change it in the same transaction.",
        |store| Box::pin(frees_the_old_address(store)),
    ),
];

async fn own_address(store: Subject) -> Checked {
    let mut user = store.user().await?;
    let counter = user.email_address_counter;
    store
        .update_email_address(&user.id, &user.email_address, counter)
        .await
        .ok("the address is the user's own, which is no conflict")?;
    user.email_address_counter = after(counter);
    let expected = "the counter 1 higher, and all else as it was";
    Ok(store.get(&user.id).await.is_user(&user, expected)?)
}

async fn two(store: &Subject) -> Result<(User, User), Failure> {
    Ok((store.user().await?, store.user().await?))
}

async fn taken_address(store: Subject) -> Checked {
    let (user, other) = two(&store).await?;
    let counter = user.email_address_counter;
    store
        .update_email_address(&user.id, &other.email_address, counter)
        .await
        .is_refused(Code::AlreadyExists, "another user has this email address")?;
    store.is_unchanged(&user).await?;
    Ok(store.is_unchanged(&other).await?)
}

async fn stale_counter_and_taken_address(store: Subject) -> Checked {
    let (user, other) = two(&store).await?;
    Update::EmailAddress.succeed(&store, &user).await?;
    let user = store.own(&user.id).await?;
    let counter = user.email_address_counter;
    for counter in [counter.wrapping_sub(1), after(counter)] {
        store
            .update_email_address(&user.id, &other.email_address, counter)
            .await
            .is_refused(Code::NotFound, "the counter does not match, which comes first")?;
    }
    store.is_unchanged(&user).await?;
    Ok(store.is_unchanged(&other).await?)
}

async fn absent_user_and_taken_address(store: Subject) -> Checked {
    let other = store.user().await?;
    let gone = store.deleted().await?;
    let counter = gone.email_address_counter;
    store
        .update_email_address(&gone.id, &other.email_address, counter)
        .await
        .is_refused(Code::NotFound, "the user is not there, which comes first")?;
    Ok(store.is_unchanged(&other).await?)
}

async fn frees_the_old_address(store: Subject) -> Checked {
    let user = store.user().await?;
    Update::EmailAddress.succeed(&store, &user).await?;
    store.is_free(&user.email_address).await?;
    let request = store.request(user.email_address.as_str());
    store.create(&request).await.ok("the user who had this email address has another one now")?;
    Ok(())
}
