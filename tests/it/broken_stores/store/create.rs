//! `CreateUser`.

use faroe_sidecar::proto::{CreateUserRequest, User};
use tonic::Status;
use uuid::Uuid;

use super::{Fault, Store, Table, text, too_large};

impl Store {
    pub(super) fn new_id(&self, table: &mut Table, address: &str) -> String {
        let numbers = table.rows.iter().filter_map(|user| user.id.parse::<u64>().ok());
        let highest = numbers.max().unwrap_or(0);
        table.count += 1;
        match self.fault {
            Fault::NumbersUsers | Fault::ReadsNumberOfId | Fault::ParsesNumberOfId => {
                table.count.to_string()
            }
            Fault::ReusesIds | Fault::LooksForHighestId => (highest + 1).to_string(),
            Fault::MakesIdOfAddress => format!("user:{address}"),
            Fault::MakesOneId => "6ba7b810-9dad-11d1-80b4-00c04fd430c8".to_owned(),
            _ => Uuid::now_v7().to_string(),
        }
    }

    pub(super) fn set_password(
        &self,
        user: &mut User,
        sent: &CreateUserRequest,
    ) -> Result<(), Status> {
        user.password_hash = self.bytes(&sent.password_hash)?;
        user.password_hash_algorithm_id = self.algorithm(&sent.password_hash_algorithm_id)?;
        user.password_salt = self.bytes(&sent.password_salt)?;
        Ok(())
    }

    pub(super) async fn create(&self, sent: &CreateUserRequest) -> Result<User, Status> {
        if self.has(Fault::CutsAndRefuses) && sent.email_address.len() > 255 {
            let table = &mut *self.table();
            let email_address = text::cut(&sent.email_address, 255);
            let id = self.new_id(table, &email_address);
            table.rows.push(User { id, email_address, ..User::default() });
            return Err(too_large());
        }
        let address = self.address_to_store(&sent.email_address)?;
        let mut new = User { email_address: address.clone(), ..User::default() };
        self.set_password(&mut new, sent)?;
        match self.fault {
            Fault::CountsFromOne => new.email_address_counter = 1,
            Fault::NewUsersAreDisabled => new.disabled = true,
            Fault::NamesUsersByAddress => new.display_name.clone_from(&address),
            Fault::LooksBeforeItWrites => {
                self.is_free(&self.table(), &address, None)?;
                self.referee.meet_for(&address).await;
            }
            Fault::LooksForHighestId => {
                new.id = self.new_id(&mut self.table(), &address);
                if self.referee.is_case("race.creates-of-different-addresses") {
                    self.referee.meet("IDs", 2).await;
                }
            }
            _ => {}
        }

        let table = &mut *self.table();
        let free = self.is_free(table, &address, None);
        let is_hash = |user: &&User| user.password_hash == new.password_hash;
        match self.fault {
            Fault::LooksBeforeItWrites => {}
            Fault::InsertsBeforeItLooks => {
                new.id = self.new_id(table, &address);
                table.rows.push(new.clone());
                free?;
                return Ok(new);
            }
            Fault::Upserts if free.is_err() => {
                let found =
                    table.rows.iter_mut().find(|user| user.email_address == address).unwrap();
                self.set_password(found, sent)?;
                return Ok(found.clone());
            }
            Fault::RevivesDeleted if free.is_ok() => {
                let marked = table.deleted.iter().position(|user| user.email_address == address);
                if let Some(row) = marked {
                    let mut revived = table.deleted.swap_remove(row);
                    self.set_password(&mut revived, sent)?;
                    table.rows.push(revived.clone());
                    return Ok(revived);
                }
            }
            Fault::HashesAreUnique if table.rows.iter().any(|user| is_hash(&user)) => {
                return Err(Status::internal("duplicate key"));
            }
            _ => free?,
        }
        if new.id.is_empty() {
            new.id = self.new_id(table, &address);
        } else if table.rows.iter().any(|user| user.id == new.id) {
            return Err(Status::internal("duplicate key"));
        }
        match self.fault {
            // The address first, the password then, and no transaction.
            Fault::CreatesInTwoSteps if is_large(&new) => {
                table.rows.push(User { id: new.id, email_address: address, ..User::default() });
                return Err(too_large());
            }
            Fault::ForgetsAlgorithm => {
                let stored = User { password_hash_algorithm_id: String::new(), ..new.clone() };
                table.rows.push(stored);
            }
            _ => table.rows.push(new.clone()),
        }
        Ok(match self.fault {
            Fault::AnswersOnlyId => User { id: new.id, ..User::default() },
            Fault::AnswersWithoutId => User { id: String::new(), ..new },
            _ => new,
        })
    }
}

fn is_large(user: &User) -> bool {
    const LIMIT: usize = 65_536;
    user.password_hash.len() > LIMIT
        || user.password_salt.len() > LIMIT
        || user.password_hash_algorithm_id.len() > LIMIT
}
