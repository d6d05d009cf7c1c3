//! `GetUser` and `GetUserByEmailAddress`.

use bytes::Bytes;
use faroe_sidecar::proto::User;
use tonic::Status;
use uuid::Uuid;

use super::{Connection, Fault, Store, Table, absent, text};

impl Store {
    /// The rows that are read, which are those that are written, unless somebody knew better.
    pub(super) fn rows<'a>(&self, table: &'a Table, at: Connection) -> &'a [User] {
        match self.fault {
            Fault::ReadsLag => table.replicas.get(&at).map_or(&[], Vec::as_slice),
            _ => &table.rows,
        }
    }

    /// Where a user is cached, if they are.
    pub(super) fn cache(&self, at: Connection, id: &str) -> Option<(Connection, String)> {
        match self.fault {
            Fault::CachesInEachInstance => Some((at, id.to_owned())),
            Fault::CacheMissesIncrements | Fault::CacheMissesDeletes => Some((None, id.to_owned())),
            _ => None,
        }
    }

    pub(super) fn get(&self, at: Connection, id: &str) -> Result<Option<User>, Status> {
        let table = &mut *self.table();
        match self.fault {
            Fault::EmptyIdIsInvalid if id.is_empty() => {
                return Err(Status::invalid_argument("user_id is required"));
            }
            Fault::OtherFormIsInvalid if Uuid::parse_str(id).is_err() => {
                return Err(Status::invalid_argument("user_id is no UUID"));
            }
            Fault::AnswersNewest => return table.rows.last().cloned().map(Some).ok_or_else(absent),
            _ => {}
        }
        if let Some(place) = self.cache(at, id)
            && let Some(user) = table.caches.get(&place)
        {
            return Ok(Some(user.clone()));
        }
        let mut found = self.rows(table, at).iter().find(|user| match self.fault {
            Fault::ReadsIgnoreCaseOfIds => user.id.eq_ignore_ascii_case(id),
            _ => self.is_id(&user.id, id),
        });
        if self.has(Fault::DeletedAreFound) {
            found = found.or_else(|| table.deleted.iter().find(|user| user.id == id));
        }
        if let Some(user) = found.cloned() {
            if table.is_half_updated {
                self.referee.happened("half an update was seen");
            }
            if let Some(place) = self.cache(at, id) {
                table.caches.insert(place, user.clone());
            }
            return Ok(Some(user));
        }
        self.referee.happened("nobody was found");
        match self.fault {
            Fault::AbsentIsEmpty => Ok(None),
            Fault::AbsentIsDefault => Ok(Some(User::default())),
            Fault::AbsentIsInternal => Err(Status::internal("no rows in result set")),
            _ => Err(absent()),
        }
    }

    pub(super) fn find(&self, at: Connection, sent: &str) -> Result<User, Status> {
        let address = self.address(sent)?;
        let table = &mut *self.table();
        let found = self.rows(table, at).iter().position(|user| match self.fault {
            Fault::LooksUpWithLike => text::is_like(&user.email_address, &address),
            Fault::FormerAddressFinds => {
                let former = (address.clone(), user.id.clone());
                user.email_address == address || table.former.contains(&former)
            }
            _ => self.is_address(&user.email_address, &address),
        });
        let Some(row) = found else {
            let mut deleted = table.deleted.iter().filter(|user| user.email_address == address);
            return match self.fault {
                Fault::DeletedAreFound => deleted.next().cloned().ok_or_else(absent),
                Fault::AbsentAddressIsDefault => Ok(User::default()),
                _ => Err(absent()),
            };
        };
        if self.has(Fault::CountsLookups) {
            table.rows[row].sessions_counter += 1;
        }
        let mut user = self.rows(table, at)[row].clone();
        if self.has(Fault::HidesHashes) {
            user.password_hash = Bytes::new();
        }
        if self.has(Fault::HidesAddresses) {
            user.email_address.clear();
        }
        Ok(user)
    }
}
