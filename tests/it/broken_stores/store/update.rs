//! The three updates.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tonic::Status;

use super::{Change, Connection, Fault, Store, Table, absent, text};

impl Store {
    pub(super) async fn update(
        &self,
        at: Connection,
        id: &str,
        seen: i32,
        change: Change,
    ) -> Result<(), Status> {
        let change = match change {
            Change::EmailAddress(sent) if self.has(Fault::CutsChangedAddresses) => {
                Change::EmailAddress(text::cut(&sent, 320))
            }
            Change::EmailAddress(sent) => Change::EmailAddress(self.address_to_store(&sent)?),
            Change::Password { hash, algorithm, salt } => Change::Password {
                hash: self.bytes(&hash)?,
                algorithm: self.algorithm(&algorithm)?,
                salt: self.bytes(&salt)?,
            },
            Change::Sessions => Change::Sessions,
        };
        match self.fault {
            Fault::NegativeCounterIsInvalid if seen < 0 => {
                return Err(Status::invalid_argument("a counter is negative"));
            }
            Fault::AddsBeforeItCompares if seen.checked_add(1).is_none() => {
                return Err(Status::internal("integer out of range"));
            }
            Fault::LooksAddressUpFirst => {
                if let Some(address) = change.email_address() {
                    let table = self.table();
                    self.is_free(&table, address, self.row(&table, id))?;
                }
            }
            Fault::CancelledCallPoisons
                if change == Change::Sessions && self.referee.is_case("protocol.deadline") =>
            {
                let _connection = InUse(self);
                // The statement takes longer than the caller waits.
                std::future::pending::<()>().await;
            }
            Fault::LooksBeforeItWrites
            | Fault::ReadsModifiesWrites
            | Fault::SetsEveryColumn
            | Fault::SavesAgain => {
                return self.update_after_a_look(id, seen, &change).await;
            }
            _ => {}
        }
        if self.has(Fault::SetsInTwoSteps)
            && change != Change::Sessions
            && self.referee.is_case("race.reads-during-updates")
        {
            {
                let table = &mut *self.table();
                let row = self.row(table, id).ok_or_else(absent)?;
                change.set(&mut table.rows[row]);
                table.is_half_updated = true;
            }
            self.referee.wait_for("half an update was seen", 1).await;
            self.table().is_half_updated = false;
        }
        let changed = self.compare_and_set(&mut self.table(), id, seen, &change);
        if self.has(Fault::DeletesAndInserts)
            && changed.is_ok()
            && self.referee.is_case("race.reads-during-updates")
        {
            let user = {
                let mut table = self.table();
                let row = self.row(&table, id).ok_or_else(absent)?;
                table.rows.remove(row)
            };
            self.referee.wait_for("nobody was found", 1).await;
            self.table().rows.push(user);
        }
        if changed.is_ok()
            && !(self.has(Fault::CacheMissesIncrements) && change == Change::Sessions)
            && let Some(place) = self.cache(at, id)
        {
            self.table().caches.remove(&place);
        }
        changed
    }

    /// The one step that an update is: the user with the ID and the counter gets the values and a
    /// counter 1 higher.
    pub(super) fn compare_and_set(
        &self,
        table: &mut Table,
        id: &str,
        seen: i32,
        change: &Change,
    ) -> Result<(), Status> {
        let Some(row) = self.row(table, id) else {
            return match self.fault {
                Fault::RowsAreNotCounted => Ok(()),
                Fault::UpdateOfAbsentIsInternal => Err(Status::internal("no rows in result set")),
                _ => Err(absent()),
            };
        };
        let mut user = table.rows[row].clone();
        if !self.is_counter(*change.counter(&mut user), seen, change) {
            return match self.fault {
                Fault::RowsAreNotCounted => Ok(()),
                Fault::MismatchIsPrecondition => Err(Status::failed_precondition("stale counter")),
                Fault::FutureIsAborted
                    if *change == Change::Sessions && *change.counter(&mut user) < seen =>
                {
                    Err(Status::aborted("not there yet"))
                }
                _ => Err(absent()),
            };
        }
        if let Some(address) = change.email_address()
            && !self.has(Fault::UpdatesMayTake)
        {
            let except = if self.has(Fault::OwnAddressIsTaken) { None } else { Some(row) };
            let free = self.is_free(table, address, except);
            if free.is_err() && self.has(Fault::CountsBeforeItFails) {
                table.rows[row].email_address_counter += 1;
            }
            free?;
        }
        self.set(table, row, change)
    }

    pub(super) fn set(&self, table: &mut Table, row: usize, change: &Change) -> Result<(), Status> {
        let before = table.rows[row].clone();
        let mut user = before.clone();
        change.set(&mut user);
        let is_same = *change != Change::Sessions && user == before;
        match self.fault {
            Fault::LeavesSameAlone if is_same => return Ok(()),
            Fault::RefusesSamePassword if is_same && change.email_address().is_none() => {
                return Err(Status::invalid_argument("the password is the same"));
            }
            Fault::EmptyKeepsOld if user.password_hash.is_empty() => {
                user.password_hash = before.password_hash;
            }
            Fault::NewAddressClearsPassword if change.email_address().is_some() => {
                user.password_hash = Bytes::new();
            }
            Fault::NewPasswordSignsOut if matches!(change, Change::Password { .. }) => {
                user.sessions_counter += 1;
            }
            Fault::CountsForEverybody => {
                let counter = *change.counter(&mut user);
                for other in table.rows.iter_mut().filter(|other| other.id != user.id) {
                    let others = change.counter(other);
                    *others += i32::from(*others == counter);
                }
            }
            _ => {}
        }
        match self.fault {
            Fault::CountsNothing => {}
            Fault::CountsAll => {
                user.email_address_counter += 1;
                user.password_hash_counter += 1;
                user.sessions_counter += 1;
            }
            Fault::CountsWrongly => match change {
                Change::EmailAddress(_) => user.password_hash_counter += 1,
                Change::Password { .. } => user.email_address_counter += 1,
                Change::Sessions => user.disabled_counter += 1,
            },
            _ => *change.counter(&mut user) += 1,
        }
        if user.email_address != table.rows[row].email_address {
            let old = std::mem::take(&mut table.rows[row].email_address);
            table.former.push((old, user.id.clone()));
        }
        table.rows[row] = user;
        Ok(())
    }

    /// A look and a write, with room for others in between.
    pub(super) async fn update_after_a_look(
        &self,
        id: &str,
        seen: i32,
        change: &Change,
    ) -> Result<(), Status> {
        let mut user = {
            let table = self.table();
            let row = self.row(&table, id).ok_or_else(absent)?;
            if let Some(address) = change.email_address() {
                if *change.counter(&mut table.rows[row].clone()) != seen {
                    return Err(absent());
                }
                self.is_free(&table, address, Some(row))?;
            }
            table.rows[row].clone()
        };
        if *change.counter(&mut user) != seen {
            return Err(absent());
        }
        match self.fault {
            Fault::LooksBeforeItWrites => {
                if let Some(address) = change.email_address() {
                    self.referee.meet_for(address).await;
                }
            }
            Fault::SavesAgain => self.referee.let_delete(id).await,
            _ => self.referee.meet_for_update(id).await,
        }
        change.set(&mut user);
        *change.counter(&mut user) += 1;

        let table = &mut *self.table();
        let Some(row) = self.row(table, id) else {
            match self.fault {
                Fault::ReadsModifiesWrites => {}
                Fault::SavesAgain => table.rows.push(user),
                _ => return Err(absent()),
            }
            return Ok(());
        };
        if let Some(address) = change.email_address()
            && !self.has(Fault::LooksBeforeItWrites)
        {
            self.is_free(table, address, Some(row))?;
        }
        let is_stale = *change.counter(&mut table.rows[row]) != seen;
        if is_stale && !self.has(Fault::ReadsModifiesWrites) {
            return Err(absent());
        }
        if self.has(Fault::SetsEveryColumn) || self.has(Fault::ReadsModifiesWrites) {
            table.rows[row] = user;
        } else {
            change.set(&mut table.rows[row]);
            *change.counter(&mut table.rows[row]) += 1;
        }
        Ok(())
    }
}

/// A connection to the database, on which a statement runs.
struct InUse<'a>(&'a Store);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        if self.0.referee.is_case("protocol.deadline") {
            self.0.is_poisoned.store(true, Ordering::Relaxed);
        }
    }
}
