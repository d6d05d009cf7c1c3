//! Look-ups while a user is updated: each finds the user, whole.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    case::{Checked, Failure},
    crowd::at_once,
    describe::{self, Whose},
    subject::Subject,
    update::Update,
};
use crate::proto::User;

pub(super) async fn reads_during_updates(store: Subject) -> Checked {
    const UPDATES: usize = 24;
    const READERS: usize = 4;
    let user = store.user().await?;
    let over = Arc::new(AtomicBool::new(false));
    let calls = (0..=READERS).map(|number| {
        let (user, over) = (user.clone(), Arc::clone(&over));
        move |store: Subject| async move {
            if number > 0 {
                return reads(&store, &user, &over).await;
            }
            let states = updates(&store, user, UPDATES).await;
            over.store(true, Ordering::Relaxed);
            states
        }
    });
    let mut answers = at_once(&store, calls.collect()).await.into_iter();
    let states = answers.next().unwrap_or_else(|| Ok(Vec::new()))?;
    for seen in answers {
        for found in seen? {
            if !states.contains(&found) {
                let sent = format!("GetUser {{ user_id: {} }}", describe::text(&user.id));
                let before = states.iter().rev().find(|state| {
                    Update::ALL.iter().all(|update| update.counter(state) <= update.counter(&found))
                });
                let difference = before
                    .and_then(|state| describe::difference(&found, Whose::Ours, state))
                    .unwrap_or_else(|| describe::user(&found, Whose::Ours));
                let expected =
                    "the user as one of the updates has left them, and never half of one";
                return Err(Failure::new(sent, difference, expected).into());
            }
        }
    }
    Ok(())
}

/// Makes updates one after the other; what the user was before the first, and after each.
async fn updates(store: &Subject, user: User, times: usize) -> Result<Vec<User>, Failure> {
    let mut states = vec![user.clone()];
    let mut user = user;
    for update in Update::ALL.into_iter().cycle().take(times) {
        let (answer, changed) = update.make(store, &user, update.counter(&user)).await;
        answer.ok("the counter is that of the user, and nobody else changes them")?;
        states.push(changed.clone());
        user = changed;
    }
    Ok(states)
}

/// Looks at a user until the updates are over; what was seen, each once.
async fn reads(store: &Subject, user: &User, over: &AtomicBool) -> Result<Vec<User>, Failure> {
    let mut seen = Vec::new();
    let mut last = user.clone();
    while !over.load(Ordering::Relaxed) {
        let answer = store.get(&user.id).await;
        let back =
            |found| Update::ALL.iter().any(|update| update.counter(found) < update.counter(&last));
        if matches!(&answer.reply, Ok(found) if back(found)) {
            return Err(answer.fails("no counter ever goes back"));
        }
        let found = answer.ok("the user is there all the time")?;
        if found != last {
            seen.push(found.clone());
            last = found;
        }
    }
    Ok(seen)
}
