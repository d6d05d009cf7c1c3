//! `DeleteUser`.

use tonic::Status;

use super::{Connection, Fault, Store, absent};

impl Store {
    pub(super) async fn delete(&self, at: Connection, id: &str) -> Result<(), Status> {
        match self.fault {
            Fault::SavesAgain => self.referee.wait_for_update(id).await,
            Fault::DeleteLooksFirst => {
                let is_there = self.row(&self.table(), id).is_some();
                if !is_there {
                    return Err(absent());
                }
                self.referee.meet_for_delete(id).await;
                self.table().rows.retain(|user| user.id != id);
                return Ok(());
            }
            _ => {}
        }
        let table = &mut *self.table();
        let Some(row) = self.row(table, id) else {
            return match self.fault {
                Fault::DeleteOfAbsentIsOk => Ok(()),
                Fault::DeleteOfAbsentIsInternal => Err(Status::internal("nothing was deleted")),
                _ => Err(absent()),
            };
        };
        if self.has(Fault::DeletesNothing) {
            return Ok(());
        }
        let user = table.rows[row].clone();
        table.rows.retain(|other| other.id != user.id);
        match self.fault {
            Fault::DeletesTooMany => table.rows.clear(),
            Fault::SavesAgain => self.referee.happened(&format!("deleted {id}")),
            Fault::DeletedKeepAddress | Fault::DeletedAreFound | Fault::RevivesDeleted => {
                table.deleted.push(user);
            }
            _ => {}
        }
        if !self.has(Fault::CacheMissesDeletes)
            && let Some(place) = self.cache(at, id)
        {
            table.caches.remove(&place);
        }
        Ok(())
    }
}
