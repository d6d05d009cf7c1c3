//! The three compare-and-sets: what they have in common, and the cases of two of them. That of the
//! email address has cases of its own.

use tonic::Code;

use super::{
    answer::Answer,
    case::{Case, Checked, Failure, Level},
    cause::Cause,
    sections,
    subject::Subject,
};
use crate::proto::{CreateUserRequest, User};

pub(super) const STATEMENT: &str = "Change the row in one statement: UPDATE … SET counter = counter + 1 … WHERE id = ? AND counter = ?, and answer NOT_FOUND where it changed no row; without a database: one lock around the whole method, reads included.";
pub(super) const WHERE: &str = Cause::CounterNotCompared.fix();
pub(super) const NEGATIVE: &str = "Any int32 may come; a negative one matches no user, and is no wrong argument: NOT_FOUND, as for any other counter that is not the user's.";
pub(super) const MAXIMUM: &str = "Look whether the counter matches before you refuse to add to it: one that does not is NOT_FOUND, whatever it is.";
pub(super) const ONLY: &str = "SET names the values of the request and the one counter, and nothing else; no trigger, no whole row written back by the ORM.";
pub(super) const ABSENT: &str =
    "No row changed is NOT_FOUND, whether the user is missing or the counter another.";

pub(super) const CASES: &[Case] = &[
    // UpdateUserPasswordHash
    Case::must(
        "update-password-hash.sets-and-counts",
        "With the counter of the user, hash, algorithm and salt are set and the counter goes up by 1, each time.",
        sections::ACTIONS,
        STATEMENT,
        |store| Box::pin(sets_and_counts(store, Update::PasswordHash)),
    ),
    Case::must(
        "update-password-hash.moves-no-other-counter",
        "Only hash, algorithm, salt and their counter change, whatever the other counters are.",
        sections::ACTIONS,
        ONLY,
        |store| Box::pin(moves_no_other_counter(store, Update::PasswordHash)),
    ),
    Case::must(
        "update-password-hash.stale-counter",
        "With a counter of the past it is NOT_FOUND, and the user stays as they were: a password reset cannot be played back.",
        sections::COST,
        WHERE,
        |store| Box::pin(stale_counter(store, Update::PasswordHash)),
    ),
    Case::must(
        "update-password-hash.future-counter",
        "With a counter that the user has not reached it is NOT_FOUND, and the user stays as they were.",
        sections::ACTIONS,
        WHERE,
        |store| Box::pin(wrong_counters(store, Update::PasswordHash, &[1, 2, 1000])),
    ),
    Case::must(
        "update-password-hash.negative-counter",
        "With a negative counter it is NOT_FOUND, and the user stays as they were.",
        sections::ACTIONS,
        NEGATIVE,
        |store| Box::pin(wrong_counters(store, Update::PasswordHash, &[-1, i32::MIN])),
    ),
    Case::must(
        "update-password-hash.maximum-counter",
        "With the counter 2147483647 it is NOT_FOUND where the user has another, and the user stays as they were.",
        sections::ACTIONS,
        MAXIMUM,
        |store| Box::pin(wrong_counters(store, Update::PasswordHash, &[i32::MAX])),
    ),
    Case::must(
        "update-password-hash.absent-user",
        "For a user who was deleted or never was it is NOT_FOUND.",
        sections::ERRORS,
        ABSENT,
        |store| Box::pin(absent_user(store, Update::PasswordHash)),
    ),
    Case::must(
        "update-password-hash.touches-no-other-user",
        "It changes the one user and no other.",
        sections::ACTIONS,
        "WHERE names the ID.",
        |store| Box::pin(touches_no_other_user(store, Update::PasswordHash)),
    ),
    Case::must(
        "update-password-hash.same-values",
        "Setting the hash, algorithm and salt that the user already has succeeds and counts.",
        sections::ACTIONS,
        "Count rows found, not rows whose values differ.",
        |store| Box::pin(same_values(store)),
    ),
    // IncrementUserSessionsCounter
    Case::must(
        "increment-sessions-counter.counts",
        "With the counter of the user, the sessions counter goes up by 1, each time.",
        sections::ACTIONS,
        STATEMENT,
        |store| Box::pin(sets_and_counts(store, Update::Sessions)),
    ),
    Case::must(
        "increment-sessions-counter.moves-no-other-counter",
        "Only the sessions counter changes, whatever the other counters are.",
        sections::ACTIONS,
        ONLY,
        |store| Box::pin(moves_no_other_counter(store, Update::Sessions)),
    ),
    Case::must(
        "increment-sessions-counter.stale-counter",
        "With a counter of the past it is NOT_FOUND, and the user stays as they were.",
        sections::ACTIONS,
        WHERE,
        |store| Box::pin(stale_counter(store, Update::Sessions)),
    ),
    Case::must(
        "increment-sessions-counter.future-counter",
        "With a counter that the user has not reached it is NOT_FOUND, and the user stays as they were.",
        sections::ACTIONS,
        WHERE,
        |store| Box::pin(wrong_counters(store, Update::Sessions, &[1, 2, 1000])),
    ),
    Case::must(
        "increment-sessions-counter.negative-counter",
        "With a negative counter it is NOT_FOUND, and the user stays as they were.",
        sections::ACTIONS,
        NEGATIVE,
        |store| Box::pin(wrong_counters(store, Update::Sessions, &[-1, i32::MIN])),
    ),
    Case::must(
        "increment-sessions-counter.maximum-counter",
        "With the counter 2147483647 it is NOT_FOUND where the user has another, and the user stays as they were.",
        sections::ACTIONS,
        MAXIMUM,
        |store| Box::pin(wrong_counters(store, Update::Sessions, &[i32::MAX])),
    ),
    Case::must(
        "increment-sessions-counter.absent-user",
        "For a user who was deleted or never was it is NOT_FOUND.",
        sections::ERRORS,
        ABSENT,
        |store| Box::pin(absent_user(store, Update::Sessions)),
    ),
    Case::must(
        "increment-sessions-counter.touches-no-other-user",
        "It changes the one user and no other.",
        sections::ACTIONS,
        "WHERE names the ID.",
        |store| Box::pin(touches_no_other_user(store, Update::Sessions)),
    ),
    // What no call can show.
    Case::not_checkable(
        Level::Must,
        "counters.at-maximum",
        "A counter at 2147483647 cannot be incremented: INTERNAL, and the user stays as they were.",
        sections::ACTIONS,
        "it would take 2147483647 calls to bring a counter there",
        "Refuse where the counter matches and is 2147483647; set one there by SQL and try.",
    ),
    Case::not_checkable(
        Level::Must,
        "counters.disabled",
        "The disabled counter goes up by 1 each time that `disabled` changes, in both directions.",
        sections::USER,
        "no method disables a user: the application does",
        "Where the application sets `disabled`, add 1 to the counter in the same statement.",
    ),
];

/// A counter that was counted once. No right store gets one to its end, but a wrong one may show
/// any.
pub(super) const fn after(counter: i32) -> i32 {
    counter.wrapping_add(1)
}

/// One of the three.
#[derive(Clone, Copy)]
pub(super) enum Update {
    EmailAddress,
    PasswordHash,
    Sessions,
}

impl Update {
    pub(super) const ALL: [Self; 3] = [Self::EmailAddress, Self::PasswordHash, Self::Sessions];

    pub(super) fn counter(self, user: &User) -> i32 {
        match self {
            Self::EmailAddress => user.email_address_counter,
            Self::PasswordHash => user.password_hash_counter,
            Self::Sessions => user.sessions_counter,
        }
    }

    /// The user as they are to be after the update, with new values.
    pub(super) fn change(self, store: &Subject, user: &User) -> User {
        let mut changed = user.clone();
        match self {
            Self::EmailAddress => {
                changed.email_address = store.address("changed");
                changed.email_address_counter = after(user.email_address_counter);
            }
            Self::PasswordHash => {
                changed.password_hash = store.bytes(32).into();
                changed.password_hash_algorithm_id = "argon2id.131072.4.2.32".to_owned();
                changed.password_salt = store.bytes(16).into();
                changed.password_hash_counter = after(user.password_hash_counter);
            }
            Self::Sessions => changed.sessions_counter = after(user.sessions_counter),
        }
        changed
    }

    /// Asks for the update that makes the user so, where the counter still is this one.
    pub(super) async fn ask(self, store: &Subject, changed: &User, counter: i32) -> Answer<()> {
        match self {
            Self::EmailAddress => {
                store.update_email_address(&changed.id, &changed.email_address, counter).await
            }
            Self::PasswordHash => {
                let new = CreateUserRequest {
                    password_hash: changed.password_hash.clone(),
                    password_hash_algorithm_id: changed.password_hash_algorithm_id.clone(),
                    password_salt: changed.password_salt.clone(),
                    ..CreateUserRequest::default()
                };
                store.update_password_hash(&changed.id, &new, counter).await
            }
            Self::Sessions => store.increment_sessions(&changed.id, counter).await,
        }
    }

    /// Makes the update, with new values; what the user is to be after it.
    pub(super) async fn make(
        self,
        store: &Subject,
        user: &User,
        counter: i32,
    ) -> (Answer<()>, User) {
        let changed = self.change(store, user);
        (self.ask(store, &changed, counter).await, changed)
    }

    /// An update that has to succeed, made again after a transient conflict; the user after it.
    pub(super) async fn succeed(self, store: &Subject, user: &User) -> Result<User, Failure> {
        let (answer, changed) = self.make(store, user, self.counter(user)).await;
        answer.ok("the counter is that of the user, and nothing stands in the way")?;
        Ok(changed)
    }
}

pub(super) async fn sets_and_counts(store: Subject, update: Update) -> Checked {
    let mut user = store.user().await?;
    for _ in 0..3 {
        user = update.succeed(&store, &user).await?;
        let expected = "the new values, their counter 1 higher, and all else as it was";
        store.get(&user.id).await.is_user(&user, expected)?;
        store.find(&user.email_address).await.is_user(&user, expected)?;
    }
    Ok(())
}

pub(super) async fn moves_no_other_counter(store: Subject, update: Update) -> Checked {
    let mut user = store.user().await?;
    // Different counters, so that one cannot be taken for another.
    for (times, other) in
        [(1, Update::EmailAddress), (2, Update::PasswordHash), (3, Update::Sessions)]
    {
        for _ in 0..times {
            other.succeed(&store, &user).await?;
            user = store.own(&user.id).await?;
        }
    }
    let changed = update.succeed(&store, &user).await?;
    let expected = "the new values, their counter 1 higher, and every other member as it was";
    Ok(store.get(&user.id).await.is_user(&changed, expected)?)
}

pub(super) async fn stale_counter(store: Subject, update: Update) -> Checked {
    let mut user = store.user().await?;
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(update.counter(&user));
        update.succeed(&store, &user).await?;
        user = store.own(&user.id).await?;
    }
    for counter in seen {
        refused(&store, update, &user, counter).await?;
    }
    Ok(())
}

/// Counters that are so much above that of the user, or are what they are if negative or the
/// highest.
pub(super) async fn wrong_counters(
    store: Subject,
    update: Update,
    counters: &'static [i32],
) -> Checked {
    let user = store.user().await?;
    for counter in counters {
        let counter = match *counter {
            fixed @ (i32::MIN..=-1 | i32::MAX) => fixed,
            ahead => update.counter(&user).saturating_add(ahead),
        };
        refused(&store, update, &user, counter).await?;
    }
    Ok(())
}

async fn refused(store: &Subject, update: Update, user: &User, counter: i32) -> Checked {
    let answer = update.make(store, user, counter).await.0;
    let expected = format!(
        "the counter of the user is {}, so nothing matches, and nothing changes",
        update.counter(user)
    );
    let took_place = |failure: Failure| failure.because(Some(Cause::CounterNotCompared));
    let refused = answer.is_refused(Code::NotFound, &expected);
    refused.map_err(|failure| if answer.is(Code::Ok) { took_place(failure) } else { failure })?;
    let after = store.get(&user.id).await;
    let unchanged = after.is_user(user, "the user is as they were, in every member");
    // Without the user in the answer it is not known what has changed.
    let changed = |failure: &Failure| after.is(Code::Ok) && failure.cause.is_none();
    Ok(unchanged
        .map_err(|failure| if changed(&failure) { took_place(failure) } else { failure })?)
}

pub(super) async fn absent_user(store: Subject, update: Update) -> Checked {
    let user = store.deleted().await?;
    let (answer, _) = update.make(&store, &user, update.counter(&user)).await;
    answer.is_refused(Code::NotFound, "the user was deleted")?;
    store.is_absent(&user.id).await?;
    // An ID that never was one, unless a user of others has it.
    let nobody = User { id: format!("{}x", user.id), ..user };
    if store.may_write_to(&nobody.id).await? {
        let (answer, _) = update.make(&store, &nobody, 0).await;
        answer.is_refused(Code::NotFound, "nobody has this ID")?;
    }
    Ok(())
}

pub(super) async fn touches_no_other_user(store: Subject, update: Update) -> Checked {
    let before = store.user().await?;
    let user = store.user().await?;
    let after = store.user().await?;
    update.succeed(&store, &user).await?;
    store.is_unchanged(&before).await?;
    Ok(store.is_unchanged(&after).await?)
}

async fn same_values(store: Subject) -> Checked {
    let request = store.request(store.address("user"));
    let mut user = store.user_of(&request).await?;
    let counter = user.password_hash_counter;
    store
        .update_password_hash(&user.id, &request, counter)
        .await
        .ok("the counter is that of the user; that the values are the same is no reason")?;
    user.password_hash_counter = after(user.password_hash_counter);
    let expected = "the counter 1 higher, and all else as it was";
    Ok(store.get(&user.id).await.is_user(&user, expected)?)
}
