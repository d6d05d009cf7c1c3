//! Deletes what a case has made: each user whom it may have, and nobody else.

use tokio::task::JoinSet;
use tonic::Code;

use super::{
    answer::Refusal,
    describe,
    subject::{Made, Subject},
};

/// How many users are deleted at once when a case has ended.
const REMOVALS: usize = 8;

/// A user that could not be deleted again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftBehind {
    /// The user's ID or email address, as far as it is known.
    pub user: String,
    /// What stood in the way.
    pub reason: String,
}

impl Subject {
    /// Deletes the users of the case that has ended, whatever came of it, and gives those who may
    /// still be there.
    pub(super) async fn clean_up(&self) -> Vec<LeftBehind> {
        let Made { ids, addresses } = self.take_made();
        let mut left = Vec::new();
        // Those first that are known by their ID: most addresses find nobody then.
        for known in [
            ids.into_iter().map(Known::Id).collect::<Vec<_>>(),
            addresses.into_iter().map(Known::Address).collect(),
        ] {
            let mut removals = JoinSet::new();
            for (number, user) in known.into_iter().enumerate() {
                if !left.is_empty() && self.is_silent() {
                    // What one call did not get, the others will not.
                    let reason = "not looked for: the store does not answer".to_owned();
                    left.push(LeftBehind { user: user.shown(), reason });
                    continue;
                }
                let store = self.on(number).cleaning();
                removals.spawn(async move {
                    let removed = store.remove(&user).await;
                    removed.map_err(|reason| LeftBehind { user: user.shown(), reason })
                });
                if removals.len() >= REMOVALS {
                    left.extend(removals.join_next().await.and_then(left_behind));
                }
            }
            while let Some(removed) = removals.join_next().await {
                left.extend(left_behind(removed));
            }
        }
        left
    }

    /// Deletes a user of this run, if there.
    async fn remove(&self, user: &Known) -> Result<(), String> {
        let mut reason = String::new();
        for _ in 0..3 {
            let answer = match user {
                Known::Id(id) => self.get(id).await,
                Known::Address(address) => self.find(address).await,
            };
            let found = match answer.reply {
                Ok(found) if self.is_ours(&found.email_address) => found,
                // Somebody else's, or nobody's: not to be touched.
                Ok(_) => return Ok(()),
                Err(Refusal { code: Some(Code::NotFound), .. }) => return Ok(()),
                // A value that cannot be stored may be none to look for either.
                Err(refusal) if refusal.is_an_error() && !user.is_plain() => return Ok(()),
                Err(refusal) => {
                    reason = format!("{}: {}", answer.sent, refusal.text);
                    if self.is_silent() {
                        break;
                    }
                    continue;
                }
            };
            let answer = self.delete(&found.id).await;
            reason = match answer.reply {
                Ok(()) => format!("{}: OK, and the user is still there", answer.sent),
                Err(refusal) => format!("{}: {}", answer.sent, refusal.text),
            };
        }
        // The last deletion may have worked.
        let answer = match user {
            Known::Id(id) => self.get(id).await,
            Known::Address(address) => self.find(address).await,
        };
        if answer.is(Code::NotFound) { Ok(()) } else { Err(reason) }
    }
}

/// What came of a removal, where the user may still be there.
fn left_behind(
    removed: Result<Result<(), LeftBehind>, tokio::task::JoinError>,
) -> Option<LeftBehind> {
    match removed {
        Ok(removed) => removed.err(),
        Err(error) => {
            Some(LeftBehind { user: "one of the last case".to_owned(), reason: error.to_string() })
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
