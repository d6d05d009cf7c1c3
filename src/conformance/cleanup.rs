//! Deletes what a case has made: each user whom it may have, and nobody else.
//!
//! A look-up that lags, or that was made before a late call came to its end, says NOT_FOUND of users
//! who are there, or will be. So a user whom the store has given, and never deleted, is deleted
//! before that is believed; and when the run ends, everybody is looked for once more.

use std::collections::{BTreeMap, BTreeSet};

use tokio::task::JoinSet;
use tonic::Code;

use super::{
    answer::Refusal,
    describe,
    subject::{Made, Subject},
};
use crate::proto::User;

/// How many users are deleted at once when a case has ended.
const REMOVALS: usize = 8;

/// How often a user is looked for, and deleted, again who was not seen to go.
const REPEATS: usize = 3;

/// How many users are deleted at the most that are found under one email address, where a store has
/// more than one.
const NAMESAKES: usize = 100;

/// A user of the run who may still be there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftBehind {
    /// The user's ID or email address, as far as it is known.
    pub user: String,
    /// What stood in the way: a method and what it answered, without the user.
    pub reason: String,
    /// Whether only the look-up stood in the way, so that the user may well be gone; else the user
    /// could not be deleted.
    pub unclear: bool,
}

/// Why a user was not seen to be gone.
struct Obstacle {
    reason: String,
    unclear: bool,
}

impl Obstacle {
    /// Only a look-up was not answered clearly.
    fn unclear(reason: String) -> Self {
        Self { reason, unclear: true }
    }

    fn of(self, user: &Known) -> LeftBehind {
        LeftBehind { user: user.shown(), reason: self.reason, unclear: self.unclear }
    }
}

impl Subject {
    /// Deletes the users that were made, whatever came of it, and gives those who may still be
    /// there.
    pub(super) async fn clean_up(&self, Made { ids, addresses }: Made) -> Vec<LeftBehind> {
        // Those first that are known by their ID: most addresses find nobody then.
        let ids = ids.into_iter().map(Known::Id).collect();
        let mut left = self.remove_all(ids, false).await;
        let owners: BTreeMap<String, String> = addresses
            .iter()
            .filter_map(|(address, id)| {
                let owner = Known::Id(id.clone()?).shown();
                Some((Known::Address(address.clone()).shown(), owner))
            })
            .collect();
        let addresses = addresses
            .iter()
            .flat_map(|(address, owner)| {
                // Whoever was refused may have been stored in part.
                let parts = parts(address).filter(|_| owner.is_none());
                std::iter::once(address.as_str()).chain(parts)
            })
            .map(|address| Known::Address(address.to_owned()))
            .collect();
        for found in self.remove_all(addresses, !left.is_empty()).await {
            // Nobody is named a second time, unless more is known of them now.
            let owner = owners.get(&found.user);
            let known = left.iter().find(|left| Some(&left.user) == owner);
            if known.is_none_or(|known| known.unclear && !found.unclear) {
                left.push(found);
            }
        }
        left
    }

    /// Deletes users; those who may still be there. `after_others`: some were left behind before.
    async fn remove_all(&self, users: Vec<Known>, after_others: bool) -> Vec<LeftBehind> {
        let mut left = Vec::new();
        let mut removals = JoinSet::new();
        for (number, user) in users.into_iter().enumerate() {
            if (after_others || !left.is_empty()) && self.is_silent() {
                // What one call did not get, the others will not.
                let reason = "not looked for: the store does not answer".to_owned();
                left.push(Obstacle::unclear(reason).of(&user));
                continue;
            }
            let store = self.on(number).cleaning();
            removals.spawn(async move {
                let removed = store.remove(&user).await;
                removed.map_err(|obstacle| obstacle.of(&user))
            });
            if removals.len() >= REMOVALS {
                left.extend(removals.join_next().await.and_then(left_behind));
            }
        }
        while let Some(removed) = removals.join_next().await {
            left.extend(left_behind(removed));
        }
        left
    }

    /// Deletes a user of this run, if there, and all others that an email address finds.
    async fn remove(&self, user: &Known) -> Result<(), Obstacle> {
        let mut obstacle: Option<Obstacle> = None;
        let mut refused = false;
        let mut tried = BTreeSet::new();
        let mut repeats = 0;
        while repeats <= REPEATS {
            let answer = match user {
                Known::Id(id) => self.get(id).await,
                Known::Address(address) => self.find(address).await,
            };
            let mut unclear = |said: &str| {
                let reason = format!("{}: {said}", method(&answer.sent));
                obstacle = obstacle.take().filter(|_| refused).or(Some(Obstacle::unclear(reason)));
            };
            let mut is_absent = false;
            let id = match &answer.reply {
                Ok(found) if self.is_ours(&found.email_address) => found.id.as_str(),
                // Nobody at all, which is no answer.
                Ok(found) if *found == User::default() => {
                    unclear("OK with an empty user in it");
                    repeats += 1;
                    continue;
                }
                Ok(_) => match user {
                    // Somebody else's: not to be touched. The email address of the user whom the
                    // store gave this ID to is looked for too.
                    Known::Id(_) => return Ok(()),
                    Known::Address(_) => {
                        unclear("a user without the email address that was asked for");
                        break;
                    }
                },
                Err(Refusal { code: Some(Code::NotFound), .. }) => match user {
                    Known::Id(id) if !id.is_empty() && !self.deleted_ids().contains(id) => {
                        is_absent = true;
                        id.as_str()
                    }
                    _ => return Ok(()),
                },
                // A value that cannot be stored may be none to look for either.
                Err(refusal) if refusal.is_an_error() && !user.is_plain() => return Ok(()),
                Err(refusal) => {
                    unclear(&refusal.text);
                    if self.is_silent() {
                        break;
                    }
                    repeats += 1;
                    continue;
                }
            };
            // Somebody whom it has not met before is no repetition.
            if !tried.insert(id.to_owned()) || tried.len() > NAMESAKES {
                repeats += 1;
                if repeats > REPEATS {
                    break;
                }
            }
            let deletion = self.delete(id).await;
            let said = match deletion.reply {
                Err(Refusal { code: Some(Code::NotFound), .. }) if is_absent => return Ok(()),
                Ok(()) => "OK, and the user is still there".to_owned(),
                Err(ref refusal) => refusal.text.clone(),
            };
            refused = deletion.reply.is_err();
            let reason = format!("{}: {said}", method(&deletion.sent));
            obstacle = Some(Obstacle { reason, unclear: is_absent });
        }
        obstacle.map_or(Ok(()), Err)
    }
}

/// What a store that cuts email addresses would keep of one: so much as columns of usual widths
/// hold, and what is before a NUL character.
pub(super) fn parts(address: &str) -> impl Iterator<Item = &str> {
    const WIDTHS: [usize; 17] = [
        128, 191, 254, 255, 256, 320, 512, 767, 768, 1_000, 1_024, 2_000, 2_048, 3_072, 4_000,
        4_096, 65_535,
    ];
    let shorter = WIDTHS.into_iter().filter(|width| *width < address.len());
    shorter.chain(address.find('\0')).filter_map(|end| address.get(..end))
}

/// The method of a call as the report shows it.
fn method(sent: &str) -> &str {
    sent.split(' ').next().unwrap_or(sent)
}

/// What came of a removal, where the user may still be there.
fn left_behind(
    removed: Result<Result<(), LeftBehind>, tokio::task::JoinError>,
) -> Option<LeftBehind> {
    match removed {
        Ok(removed) => removed.err(),
        Err(error) => {
            let user = "one of the last case".to_owned();
            Some(LeftBehind { user, reason: error.to_string(), unclear: false })
        }
    }
}

/// What is known of a user who may be there.
enum Known {
    Id(String),
    Address(String),
}

impl Known {
    fn shown(&self) -> String {
        match self {
            Self::Id(id) => format!("id {}", describe::text(id)),
            Self::Address(address) => format!("email_address {}", describe::text(address)),
        }
    }

    /// Whether any store can look for it.
    fn is_plain(&self) -> bool {
        match self {
            Self::Id(_) => true,
            Self::Address(address) => address.len() <= 320 && !address.contains('\0'),
        }
    }
}
