//! Values on their way to the database, and how they are compared there.

use bytes::Bytes;
use tonic::Status;
use uuid::Uuid;

use super::{Change, Fault, Store, Table, text, too_large};

impl Store {
    /// Text, wherever it stands in a statement.
    pub(super) fn text(&self, sent: &str) -> Result<String, Status> {
        match self.fault {
            Fault::QuoteEndsText if sent.contains('\'') => {
                Err(Status::internal("syntax error in the statement"))
            }
            Fault::RefusesNul if sent.contains('\0') => {
                Err(Status::internal("invalid byte sequence: 0x00"))
            }
            Fault::EndsTextAtNul => Ok(cut_at_nul(sent)),
            Fault::BackslashEscapes => Ok(text::unescaped(sent)),
            Fault::FourBytesAreQuestionMarks => {
                Ok(sent.chars().map(|c| if c.len_utf8() == 4 { '?' } else { c }).collect())
            }
            _ => Ok(sent.to_owned()),
        }
    }

    /// An email address, to store or to look for.
    pub(super) fn address(&self, sent: &str) -> Result<String, Status> {
        let sent = self.text(sent)?;
        Ok(match self.fault {
            Fault::LowerCasesAddresses => sent.to_lowercase(),
            Fault::TrimsAddresses => sent.trim().to_owned(),
            Fault::NormalisesAddresses => text::composed(&sent),
            Fault::StripsInvisible => text::visible(&sent),
            Fault::DecodesPercent => sent.replace("%20", " "),
            _ => sent,
        })
    }

    pub(super) fn address_to_store(&self, sent: &str) -> Result<String, Status> {
        match self.fault {
            Fault::RefusesAbove255 | Fault::CutsAndRefuses if sent.len() > 255 => Err(too_large()),
            Fault::ValidatesAddresses if !text::is_usual_address(sent) => {
                Err(Status::invalid_argument("no email address"))
            }
            Fault::RefusesAbove320 if sent.len() > 320 => Err(too_large()),
            Fault::RefusesLargeValues if sent.len() > 2_700 => Err(too_large()),
            Fault::CutsAddresses => Ok(text::cut(sent, 255)),
            _ => self.address(sent),
        }
    }

    pub(super) fn algorithm(&self, sent: &str) -> Result<String, Status> {
        match self.fault {
            Fault::RefusesLargeValues if sent.len() > 255 => Err(too_large()),
            Fault::LowerCasesAlgorithms => Ok(sent.to_lowercase()),
            Fault::CutsAlgorithms => Ok(text::cut(sent, 128)),
            _ => self.text(sent),
        }
    }

    pub(super) fn bytes(&self, sent: &Bytes) -> Result<Bytes, Status> {
        match self.fault {
            Fault::BytesAreText => Ok(String::from_utf8_lossy(sent).into_owned().into()),
            Fault::CutsBytes => Ok(sent.slice(..sent.len().min(65_535))),
            Fault::RefusesBytesAbove1024 if sent.len() > 1024 => Err(too_large()),
            Fault::RefusesLargeValues if sent.len() > 65_536 => Err(too_large()),
            Fault::EmptyIsMissing if sent.is_empty() => {
                Err(Status::invalid_argument("a value is missing"))
            }
            _ => Ok(sent.clone()),
        }
    }

    // Comparisons.

    pub(super) fn is_address(&self, stored: &str, sent: &str) -> bool {
        match self.fault {
            Fault::IgnoresCase => stored.to_lowercase() == sent.to_lowercase(),
            Fault::IgnoresTrailingSpaces => stored.trim_end() == sent.trim_end(),
            Fault::ComparesForPeople => text::for_people(stored) == text::for_people(sent),
            Fault::TakesEmojiForOne => text::one_emoji(stored) == text::one_emoji(sent),
            _ => stored == sent,
        }
    }

    pub(super) fn is_id(&self, stored: &str, sent: &str) -> bool {
        match self.fault {
            Fault::UuidColumn => Uuid::parse_str(sent).is_ok_and(|id| id.to_string() == stored),
            Fault::ReadsNumberOfId => {
                let sent = sent.trim_start();
                let end = sent.find(|c: char| !c.is_ascii_digit()).unwrap_or(sent.len());
                stored == &sent[..end]
            }
            Fault::ParsesNumberOfId => sent.parse::<u64>().is_ok_and(|id| id.to_string() == stored),
            _ => stored == sent,
        }
    }

    /// The row that a write is about.
    pub(super) fn row(&self, table: &Table, id: &str) -> Option<usize> {
        table.rows.iter().position(|user| match self.fault {
            Fault::WritesTrimIds => user.id == id.trim(),
            _ => self.is_id(&user.id, id),
        })
    }

    /// Whether a counter is as the caller saw it.
    pub(super) fn is_counter(&self, has: i32, seen: i32, change: &Change) -> bool {
        match self.fault {
            Fault::CountersAreNotChecked => true,
            Fault::PasswordCounterIsNotChecked if matches!(change, Change::Password { .. }) => true,
            Fault::CounterIsAtMost => has <= seen,
            Fault::CounterIsAtLeast => has >= seen,
            Fault::NegativeCounterMatches => seen < 0 || has == seen,
            _ => has == seen,
        }
    }

    /// That no user has an email address but the one in the row `except`.
    pub(super) fn is_free(
        &self,
        table: &Table,
        address: &str,
        except: Option<usize>,
    ) -> Result<(), Status> {
        let stays_taken = match self.fault {
            Fault::DeletedKeepAddress | Fault::DeletedAreFound => {
                table.deleted.iter().any(|user| user.email_address == address)
            }
            Fault::FormerAddressStaysTaken => table.former.iter().any(|(old, _)| old == address),
            _ => false,
        };
        let mut rows = table.rows.iter().enumerate();
        let is_taken = rows.any(|(row, user)| {
            Some(row) != except && self.is_address(&user.email_address, address)
        });
        if !stays_taken && !is_taken {
            return Ok(());
        }
        Err(match self.fault {
            Fault::TakenIsUnknown => Status::unknown("UNIQUE constraint failed"),
            Fault::StatusNamesAddress => {
                Status::already_exists(format!("Key (email_address)=({address}) already exists"))
            }
            _ => Status::already_exists("a user has this email address"),
        })
    }
}

fn cut_at_nul(text: &str) -> String {
    text.split('\0').next().unwrap().to_owned()
}
