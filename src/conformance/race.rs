//! Many calls at once, on several connections: exactly one wins, the others are told why they did
//! not, and what is there in the end fits what was answered.
//!
//! Whoever is told ABORTED has changed nothing and asks again (the subject's calls do), so the rules
//! are those without it.

use std::collections::{BTreeMap, HashSet};

use tonic::Code;

use super::{
    answer::{Answer, Shown},
    case::{Case, Checked, Failure},
    crowd::at_once,
    race_reads::reads_during_updates,
    sections,
    subject::Subject,
    update::{Update, after},
};
use crate::proto::User;

const CONSTRAINT: &str = "Let a unique constraint of the database decide, not a look-up beforehand, and answer its violation with ALREADY_EXISTS; deadlocks, serialization failures and lock waits that end are ABORTED. Without a database: one lock around the whole method, reads included.";
const ONE_STATEMENT: &str = "Compare and set in one UPDATE with the counter in WHERE; a SELECT beforehand lets two callers see the same counter. Deadlocks, serialization failures and lock waits that end are ABORTED. Without a database: one lock around the whole method, reads included.";
const BOTH: &str = "Each method is one statement or one transaction; a row that is gone when an update comes to it is NOT_FOUND. Without a database: one lock around the whole method, reads included.";

pub(super) const CASES: &[Case] = &[
    Case::must(
        "race.creates-of-one-address",
        "Of 64 concurrent CreateUser with one email address exactly one succeeds, and the others are ALREADY_EXISTS.",
        sections::ACTIONS,
        CONSTRAINT,
        |store| Box::pin(creates_of_one_address(store)),
    ),
    Case::must(
        "race.creates-of-different-addresses",
        "64 concurrent CreateUser with different email addresses all succeed, each with an ID of its own.",
        sections::ACTIONS,
        "Let callers wait for a connection to the database instead of failing, and make IDs that do not depend on what is there.",
        |store| Box::pin(creates_of_different_addresses(store)),
    ),
    Case::must(
        "race.updates-of-one-email-address",
        "Of 64 concurrent UpdateUserEmailAddress with one counter exactly one succeeds, and the others are NOT_FOUND.",
        sections::ACTIONS,
        ONE_STATEMENT,
        |store| Box::pin(updates_of_one_user(store, Update::EmailAddress)),
    ),
    Case::must(
        "race.updates-of-one-password-hash",
        "Of 64 concurrent UpdateUserPasswordHash with one counter exactly one succeeds, and the others are NOT_FOUND.",
        sections::ACTIONS,
        ONE_STATEMENT,
        |store| Box::pin(updates_of_one_user(store, Update::PasswordHash)),
    ),
    Case::must(
        "race.increments-of-one-sessions-counter",
        "Of 64 concurrent IncrementUserSessionsCounter with one counter exactly one succeeds, and the others are NOT_FOUND.",
        sections::ACTIONS,
        ONE_STATEMENT,
        |store| Box::pin(updates_of_one_user(store, Update::Sessions)),
    ),
    Case::must(
        "race.different-updates-of-one-user",
        "Three different updates of one user at once all succeed, and none undoes what another has done.",
        sections::ACTIONS,
        "UPDATE names only the columns that change; do not read the whole row and write it back. Without a database: one lock around the whole method, reads included.",
        |store| Box::pin(different_updates_of_one_user(store)),
    ),
    Case::must(
        "race.two-users-one-address",
        "Of two users who want one email address exactly one gets it, and the other is ALREADY_EXISTS.",
        sections::OBLIGATIONS,
        CONSTRAINT,
        |store| Box::pin(two_users_one_address(store)),
    ),
    Case::must(
        "race.create-and-update-for-one-address",
        "Of a new user and one who changes to the same email address exactly one gets it, and the other is ALREADY_EXISTS.",
        sections::OBLIGATIONS,
        CONSTRAINT,
        |store| Box::pin(create_and_update_for_one_address(store)),
    ),
    Case::must(
        "race.deletes-of-one-user",
        "Of 16 concurrent DeleteUser of one user exactly one succeeds, and the others are NOT_FOUND.",
        sections::ACTIONS,
        "Answer by the number of rows that the DELETE met, not by a look-up beforehand. Without a database: one lock around the whole method, reads included.",
        |store| Box::pin(deletes_of_one_user(store)),
    ),
    Case::must(
        "race.delete-and-update-email-address",
        "A user who is deleted during an UpdateUserEmailAddress is gone, under both addresses.",
        sections::ACTIONS,
        BOTH,
        |store| Box::pin(delete_and_update(store, Update::EmailAddress)),
    ),
    Case::must(
        "race.delete-and-update-password-hash",
        "A user who is deleted during an UpdateUserPasswordHash is gone.",
        sections::ACTIONS,
        BOTH,
        |store| Box::pin(delete_and_update(store, Update::PasswordHash)),
    ),
    Case::must(
        "race.delete-and-increment-sessions-counter",
        "A user who is deleted during an IncrementUserSessionsCounter is gone.",
        sections::ACTIONS,
        BOTH,
        |store| Box::pin(delete_and_update(store, Update::Sessions)),
    ),
    Case::must(
        "race.reads-during-updates",
        "A user is found, whole, at every moment of an update, and no counter ever goes back.",
        sections::COST,
        "Update in place: a row that is deleted and inserted again is missing for a moment, which signs its user out. Without a database: reads take the lock of the writes too.",
        |store| Box::pin(reads_during_updates(store)),
    ),
];

const MANY: usize = 64;

/// How often two callers meet: they do not do so each time.
const ROUNDS: usize = 8;

/// How many answers of each kind there were, as the report says it.
fn counts<T: Shown>(answers: &[Answer<T>]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for answer in answers {
        let outcome = match &answer.reply {
            Ok(_) => answer.outcome().to_owned(),
            Err(refusal) => refusal.text.clone(),
        };
        *counts.entry(outcome).or_default() += 1;
    }
    let counts: Vec<String> =
        counts.iter().map(|(outcome, count)| format!("{count} × {outcome}")).collect();
    counts.join(", ")
}

/// Exactly one has won, and all others have lost in this way; the number of the winner.
fn one_wins<T: Shown>(answers: &[Answer<T>], loss: Code, expected: &str) -> Result<usize, Failure> {
    let winners: Vec<usize> =
        (0..).zip(answers).filter(|(_, a)| a.is(Code::Ok)).map(|(n, _)| n).collect();
    let lost = answers.iter().filter(|answer| answer.is(loss)).count();
    match winners.as_slice() {
        [winner] if lost + 1 == answers.len() => Ok(*winner),
        _ => {
            let first = answers.first().map_or("", |answer| answer.sent.as_str());
            let sent = format!("{} calls at once, such as {first}", answers.len());
            let cause = answers.iter().find_map(|answer| answer.cause_instead_of(loss));
            Err(Failure::new(sent, counts(answers), expected).because(cause))
        }
    }
}

async fn creates_of_one_address(store: Subject) -> Checked {
    let address = store.address("wanted");
    // Each with a hash of its own, so that it shows who is there.
    let requests: Vec<_> = (0..MANY).map(|_| store.request(address.as_str())).collect();
    let calls = requests
        .clone()
        .into_iter()
        .map(|request| move |store: Subject| async move { store.create(&request).await });
    let answers = at_once(&store, calls.collect()).await;
    let expected = "one OK, and ALREADY_EXISTS for all others";
    let winner = one_wins(&answers, Code::AlreadyExists, expected)?;
    let hash = requests.get(winner).map(|request| request.password_hash.clone());
    let due = |user| User { password_hash: hash.unwrap_or_default(), ..user };
    let expected = "the user whose CreateUser was OK, with the hash of that request";
    let found = store.find(&address).await.is_like(due, expected)?;
    // A second one would show when the first has gone.
    let found = store.own(&found.id).await?;
    store.delete(&found.id).await.ok("a user who is there can be deleted")?;
    Ok(store.is_free(&address).await?)
}

async fn creates_of_different_addresses(store: Subject) -> Checked {
    let calls = (0..MANY).map(|_| {
        let request = store.request(store.address("new"));
        move |store: Subject| async move { store.create(&request).await }
    });
    let answers = at_once(&store, calls.collect()).await;
    let ids: HashSet<&String> = answers
        .iter()
        .filter_map(|answer| answer.reply.as_ref().ok())
        .map(|user| &user.id)
        .collect();
    if ids.len() == MANY {
        return Ok(());
    }
    let sent = format!("{MANY} × CreateUser at once, with different email addresses");
    let came_back = format!("{}; {} different IDs", counts(&answers), ids.len());
    let failure = Failure::new(sent, came_back, format!("{MANY} × OK, and as many different IDs"));
    Err(failure.because(answers.iter().find_map(Answer::cause)).into())
}

async fn updates_of_one_user(store: Subject, update: Update) -> Checked {
    let user = store.user().await?;
    let calls = (0..MANY).map(|_| {
        let user = user.clone();
        move |store: Subject| async move { update.make(&store, &user, update.counter(&user)).await }
    });
    let (answers, changed): (Vec<_>, Vec<_>) =
        at_once(&store, calls.collect()).await.into_iter().unzip();
    let winner = one_wins(&answers, Code::NotFound, "one OK, and NOT_FOUND for all others")?;
    let due = changed.get(winner).unwrap_or(&user);
    let expected = "the values of the call that was OK, the counter 1 higher, all else as it was";
    Ok(store.get(&user.id).await.is_user(due, expected)?)
}

async fn different_updates_of_one_user(store: Subject) -> Checked {
    for round in 0..ROUNDS {
        let user = store.user().await?;
        // Each of them is the last to be sent in some rounds: it would undo what came before.
        let mut updates = Update::ALL;
        updates.rotate_left(round % Update::ALL.len());
        let calls =
            updates.map(|update| {
                let user = user.clone();
                move |store: Subject| async move {
                    update.make(&store, &user, update.counter(&user)).await
                }
            });
        let answers = at_once(&store, calls.into()).await;
        let mut due = user.clone();
        for ((answer, changed), update) in answers.into_iter().zip(updates) {
            answer.ok("the counter is that of the user, and the other updates have their own")?;
            match update {
                Update::EmailAddress => {
                    due.email_address = changed.email_address;
                    due.email_address_counter = changed.email_address_counter;
                }
                Update::PasswordHash => {
                    due.password_hash = changed.password_hash;
                    due.password_hash_algorithm_id = changed.password_hash_algorithm_id;
                    due.password_salt = changed.password_salt;
                    due.password_hash_counter = changed.password_hash_counter;
                }
                Update::Sessions => due.sessions_counter = changed.sessions_counter,
            }
        }
        let expected = "what all three have set, and their counters 1 higher";
        store.get(&user.id).await.is_user(&due, expected)?;
    }
    Ok(())
}

async fn two_users_one_address(store: Subject) -> Checked {
    for _ in 0..ROUNDS {
        let users = [store.user().await?, store.user().await?];
        let address = store.address("wanted");
        let calls = users.clone().map(|user| {
            let address = address.clone();
            move |store: Subject| async move {
                let counter = user.email_address_counter;
                store.update_email_address(&user.id, &address, counter).await
            }
        });
        let answers = at_once(&store, calls.into()).await;
        let expected = "one OK, and ALREADY_EXISTS for the other";
        let winner = one_wins(&answers, Code::AlreadyExists, expected)?;
        for (number, user) in users.into_iter().enumerate() {
            if number == winner {
                let due = User {
                    email_address: address.clone(),
                    email_address_counter: after(user.email_address_counter),
                    ..user
                };
                store.find(&address).await.is_user(&due, "the user whose update was OK")?;
            } else {
                store.is_unchanged(&user).await?;
            }
        }
    }
    Ok(())
}

async fn create_and_update_for_one_address(store: Subject) -> Checked {
    for _ in 0..ROUNDS {
        let user = store.user().await?;
        let request = store.request(store.address("wanted"));
        let address = request.email_address.clone();
        let calls = [true, false].map(|create| {
            let (user, request) = (user.clone(), request.clone());
            move |store: Subject| async move {
                if create {
                    return store.create(&request).await.without_user();
                }
                let (address, counter) = (&request.email_address, user.email_address_counter);
                store.update_email_address(&user.id, address, counter).await
            }
        });
        let answers = at_once(&store, calls.into()).await;
        let expected = "one OK, and ALREADY_EXISTS for the other";
        let winner = one_wins(&answers, Code::AlreadyExists, expected)?;
        let answer = store.find(&address).await;
        let updated = matches!(&answer.reply, Ok(found) if found.id == user.id);
        if !answer.is(Code::Ok) || updated != (winner == 1) {
            return Err(answer.fails("whoever was answered OK has the email address").into());
        }
        if winner == 0 {
            store.is_unchanged(&user).await?;
        }
    }
    Ok(())
}

async fn deletes_of_one_user(store: Subject) -> Checked {
    let user = store.user().await?;
    let calls = (0..16).map(|_| {
        let id = user.id.clone();
        move |store: Subject| async move { store.delete(&id).await }
    });
    let answers = at_once(&store, calls.collect()).await;
    one_wins(&answers, Code::NotFound, "one OK, and NOT_FOUND for all others")?;
    Ok(store.is_absent(&user.id).await?)
}

async fn delete_and_update(store: Subject, update: Update) -> Checked {
    for _ in 0..ROUNDS {
        let user = store.user().await?;
        let calls = [true, false].map(|delete| {
            let user = user.clone();
            move |store: Subject| async move {
                if delete {
                    return (store.delete(&user.id).await, user);
                }
                update.make(&store, &user, update.counter(&user)).await
            }
        });
        let answers = at_once(&store, calls.into()).await;
        for (number, (answer, _)) in answers.iter().enumerate() {
            let late = number == 1 && answer.is(Code::NotFound);
            if !answer.is(Code::Ok) && !late {
                let expected =
                    "OK for the deletion; OK, or NOT_FOUND if it came late, for the update";
                return Err(answer.fails(expected).into());
            }
        }
        store.is_absent(&user.id).await?;
        for (_, user) in answers {
            store.is_free(&user.email_address).await?;
        }
    }
    Ok(())
}
