//! Deletes what a case has made: each user whom it may have, and nobody else.

use std::collections::BTreeMap;

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
    /// Deletes the users of the case that has ended, whatever came of it, and gives those who may
    /// still be there.
    pub(super) async fn clean_up(&self) -> Vec<LeftBehind> {
        let Made { ids, addresses } = self.take_made();
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
        let addresses = addresses.into_keys().map(Known::Address).collect();
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

    /// Deletes a user of this run, if there.
    async fn remove(&self, user: &Known) -> Result<(), Obstacle> {
        let mut obstacle: Option<Obstacle> = None;
        let mut refused = false;
        // One look more than deletions: the last of these may have worked.
        for deletions_left in (0..=3).rev() {
            let answer = match user {
                Known::Id(id) => self.get(id).await,
                Known::Address(address) => self.find(address).await,
            };
            let found = match answer.reply {
                Ok(found) if self.is_ours(&found.email_address) => found,
                // Nobody at all, which is no answer.
                Ok(found) if found == User::default() => {
                    let reason = format!("{}: OK with an empty user in it", method(&answer.sent));
                    obstacle = obstacle.filter(|_| refused).or(Some(Obstacle::unclear(reason)));
                    continue;
                }
                // Somebody else's: not to be touched.
                Ok(_) => return Ok(()),
                Err(Refusal { code: Some(Code::NotFound), .. }) => return Ok(()),
                // A value that cannot be stored may be none to look for either.
                Err(refusal) if refusal.is_an_error() && !user.is_plain() => return Ok(()),
                Err(refusal) => {
                    let reason = format!("{}: {}", method(&answer.sent), refusal.text);
                    obstacle = obstacle.filter(|_| refused).or(Some(Obstacle::unclear(reason)));
                    if self.is_silent() {
                        break;
                    }
                    continue;
                }
            };
            if deletions_left == 0 {
                break;
            }
            let answer = self.delete(&found.id).await;
            refused = answer.reply.is_err();
            let said = match answer.reply {
                Ok(()) => "OK, and the user is still there".to_owned(),
                Err(refusal) => refusal.text,
            };
            let reason = format!("{}: {said}", method(&answer.sent));
            obstacle = Some(Obstacle { reason, unclear: false });
        }
        obstacle.map_or(Ok(()), Err)
    }
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
