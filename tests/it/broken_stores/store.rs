//! A right store in memory, and what becomes of it with one mistake in it: each place that a
//! mistake is made at asks for it by name, and all else is as it should be.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use faroe_sidecar::proto::{
    CreateUserRequest, CreateUserResponse, DeleteUserRequest, DeleteUserResponse,
    GetUserByEmailAddressRequest, GetUserByEmailAddressResponse, GetUserRequest, GetUserResponse,
    IncrementUserSessionsCounterRequest, IncrementUserSessionsCounterResponse,
    UpdateUserEmailAddressRequest, UpdateUserEmailAddressResponse, UpdateUserPasswordHashRequest,
    UpdateUserPasswordHashResponse, User, user_store_server::UserStore,
};
use tonic::{Request, Response, Status, async_trait};
use uuid::Uuid;

use super::{
    faults::Fault,
    referee::{Call, Referee, Turn},
    text,
};

/// The connection that a call came on. Behind a load balancer each leads to another instance.
type Connection = Option<SocketAddr>;

#[derive(Default)]
struct Table {
    rows: Vec<User>,
    /// How many users there have been.
    count: u64,
    /// Who made the first call of all.
    first_connection: Option<Connection>,
    /// Rows that are only marked as deleted.
    deleted: Vec<User>,
    /// Email addresses that users had before, and whose.
    former: Vec<(String, String)>,
    /// What each instance reads from.
    replicas: HashMap<Connection, Vec<User>>,
    caches: HashMap<(Connection, String), User>,
    /// Whether a row has the values of an update and not yet its counter.
    is_half_updated: bool,
}

pub struct Store {
    fault: Fault,
    referee: Referee,
    table: Mutex<Table>,
    writes: AtomicUsize,
    in_hand: AtomicUsize,
    /// Whether there is a connection to the database that a call was cancelled on.
    is_poisoned: AtomicBool,
}

/// What one of the three updates changes.
#[derive(Clone, PartialEq)]
enum Change {
    EmailAddress(String),
    Password { hash: Bytes, algorithm: String, salt: Bytes },
    Sessions,
}

impl Change {
    fn counter<'a>(&self, user: &'a mut User) -> &'a mut i32 {
        match self {
            Self::EmailAddress(_) => &mut user.email_address_counter,
            Self::Password { .. } => &mut user.password_hash_counter,
            Self::Sessions => &mut user.sessions_counter,
        }
    }

    fn email_address(&self) -> Option<&str> {
        match self {
            Self::EmailAddress(address) => Some(address),
            _ => None,
        }
    }

    fn set(&self, user: &mut User) {
        match self {
            Self::EmailAddress(address) => user.email_address.clone_from(address),
            Self::Password { hash, algorithm, salt } => {
                user.password_hash = hash.clone();
                user.password_hash_algorithm_id.clone_from(algorithm);
                user.password_salt = salt.clone();
            }
            Self::Sessions => {}
        }
    }
}

fn absent() -> Status {
    Status::not_found("no such user, or another counter")
}

fn too_large() -> Status {
    Status::internal("a value does not fit")
}

impl Store {
    pub fn new(fault: Fault, referee: Referee) -> Self {
        Self {
            fault,
            referee,
            table: Mutex::default(),
            writes: AtomicUsize::new(0),
            in_hand: AtomicUsize::new(0),
            is_poisoned: AtomicBool::new(false),
        }
    }

    /// The users who are there, as they are.
    pub fn users(&self) -> Vec<User> {
        self.table().rows.clone()
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap()
    }

    /// What every call begins with.
    fn begin<T>(&self, request: &Request<T>) -> Result<Connection, Status> {
        let connection = request.remote_addr();
        self.table().first_connection.get_or_insert(connection);
        // It is noticed when it is used next, and replaced.
        if self.is_poisoned.swap(false, Ordering::Relaxed) {
            return Err(Status::internal("an answer to another question"));
        }
        Ok(connection)
    }

    /// What every write begins with.
    async fn begin_write<T>(
        &self,
        request: &Request<T>,
        call: Call<'_>,
    ) -> Result<Write<'_>, Status> {
        let connection = self.begin(request)?;
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        if self.has(Fault::AbortsNowAndThen) && number.is_multiple_of(3) {
            return Err(Status::aborted("deadlock"));
        }
        let in_hand = self.in_hand.fetch_add(1, Ordering::Relaxed);
        let mut write = Write { store: self, connection, _turn: None };
        if self.has(Fault::RefusesWhenBusy) && self.referee.is_crowd() {
            if in_hand >= 8 {
                self.referee.happened("refused");
                return Err(Status::resource_exhausted("no connection is free"));
            }
            if self.referee.race(&call).is_some() {
                self.referee.wait_for("refused", 1).await;
            }
        }
        if !self.fault.is_race() {
            let is_first = self.table().first_connection == Some(connection);
            write._turn = self.referee.turn(self.referee.race(&call), is_first).await;
        }
        Ok(write)
    }

    // Values, on their way to the database.

    /// Text, wherever it stands in a statement.
    fn text(&self, sent: &str) -> Result<String, Status> {
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
    fn address(&self, sent: &str) -> Result<String, Status> {
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

    fn address_to_store(&self, sent: &str) -> Result<String, Status> {
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

    fn algorithm(&self, sent: &str) -> Result<String, Status> {
        match self.fault {
            Fault::RefusesLargeValues if sent.len() > 255 => Err(too_large()),
            Fault::LowerCasesAlgorithms => Ok(sent.to_lowercase()),
            Fault::CutsAlgorithms => Ok(text::cut(sent, 128)),
            _ => self.text(sent),
        }
    }

    fn bytes(&self, sent: &Bytes) -> Result<Bytes, Status> {
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

    fn is_address(&self, stored: &str, sent: &str) -> bool {
        match self.fault {
            Fault::IgnoresCase => stored.to_lowercase() == sent.to_lowercase(),
            Fault::IgnoresTrailingSpaces => stored.trim_end() == sent.trim_end(),
            Fault::ComparesForPeople => text::for_people(stored) == text::for_people(sent),
            Fault::TakesEmojiForOne => text::one_emoji(stored) == text::one_emoji(sent),
            _ => stored == sent,
        }
    }

    fn is_id(&self, stored: &str, sent: &str) -> bool {
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
    fn row(&self, table: &Table, id: &str) -> Option<usize> {
        table.rows.iter().position(|user| match self.fault {
            Fault::WritesTrimIds => user.id == id.trim(),
            _ => self.is_id(&user.id, id),
        })
    }

    /// Whether a counter is as the caller saw it.
    fn is_counter(&self, has: i32, seen: i32, change: &Change) -> bool {
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
    fn is_free(&self, table: &Table, address: &str, except: Option<usize>) -> Result<(), Status> {
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

    // CreateUser.

    fn new_id(&self, table: &mut Table, address: &str) -> String {
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

    fn set_password(&self, user: &mut User, sent: &CreateUserRequest) -> Result<(), Status> {
        user.password_hash = self.bytes(&sent.password_hash)?;
        user.password_hash_algorithm_id = self.algorithm(&sent.password_hash_algorithm_id)?;
        user.password_salt = self.bytes(&sent.password_salt)?;
        Ok(())
    }

    async fn create(&self, sent: &CreateUserRequest) -> Result<User, Status> {
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

    // GetUser and GetUserByEmailAddress.

    /// The rows that are read, which are those that are written, unless somebody knew better.
    fn rows<'a>(&self, table: &'a Table, at: Connection) -> &'a [User] {
        match self.fault {
            Fault::ReadsLag => table.replicas.get(&at).map_or(&[], Vec::as_slice),
            _ => &table.rows,
        }
    }

    /// Where a user is cached, if they are.
    fn cache(&self, at: Connection, id: &str) -> Option<(Connection, String)> {
        match self.fault {
            Fault::CachesInEachInstance => Some((at, id.to_owned())),
            Fault::CacheMissesIncrements | Fault::CacheMissesDeletes => Some((None, id.to_owned())),
            _ => None,
        }
    }

    fn get(&self, at: Connection, id: &str) -> Result<Option<User>, Status> {
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

    fn find(&self, at: Connection, sent: &str) -> Result<User, Status> {
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

    // The three updates.

    async fn update(
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
    fn compare_and_set(
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

    fn set(&self, table: &mut Table, row: usize, change: &Change) -> Result<(), Status> {
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
    async fn update_after_a_look(
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

    // DeleteUser.

    async fn delete(&self, at: Connection, id: &str) -> Result<(), Status> {
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

fn cut_at_nul(text: &str) -> String {
    text.split('\0').next().unwrap().to_owned()
}

fn is_large(user: &User) -> bool {
    const LIMIT: usize = 65_536;
    user.password_hash.len() > LIMIT
        || user.password_salt.len() > LIMIT
        || user.password_hash_algorithm_id.len() > LIMIT
}

/// A write in hand.
struct Write<'a> {
    store: &'a Store,
    connection: Connection,
    _turn: Option<Turn>,
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.store.in_hand.fetch_sub(1, Ordering::Relaxed);
        if self.store.has(Fault::ReadsLag) {
            // The instance that writes is the only one whose replica is up to date.
            let table = &mut *self.store.table();
            table.replicas.insert(self.connection, table.rows.clone());
        }
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

#[async_trait]
impl UserStore for Store {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<CreateUserResponse>, Status> {
        let call = Call::Create { email_address: &request.get_ref().email_address };
        let _write = self.begin_write(&request, call).await?;
        let user = Some(self.create(request.get_ref()).await?);
        Ok(Response::new(CreateUserResponse { user }))
    }

    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let at = self.begin(&request)?;
        let mut user = self.get(at, &request.get_ref().user_id)?;
        if self.has(Fault::HidesAddresses) {
            user.iter_mut().for_each(|user| user.email_address.clear());
        }
        Ok(Response::new(GetUserResponse { user }))
    }

    async fn get_user_by_email_address(
        &self,
        request: Request<GetUserByEmailAddressRequest>,
    ) -> Result<Response<GetUserByEmailAddressResponse>, Status> {
        let at = self.begin(&request)?;
        let user = Some(self.find(at, &request.get_ref().email_address)?);
        Ok(Response::new(GetUserByEmailAddressResponse { user }))
    }

    async fn update_user_email_address(
        &self,
        request: Request<UpdateUserEmailAddressRequest>,
    ) -> Result<Response<UpdateUserEmailAddressResponse>, Status> {
        let sent = request.get_ref();
        let call = Call::Update { id: &sent.user_id, email_address: Some(&sent.email_address) };
        let write = self.begin_write(&request, call).await?;
        let change = Change::EmailAddress(sent.email_address.clone());
        let seen = sent.user_email_address_counter;
        self.update(write.connection, &sent.user_id, seen, change).await?;
        Ok(Response::new(UpdateUserEmailAddressResponse {}))
    }

    async fn update_user_password_hash(
        &self,
        request: Request<UpdateUserPasswordHashRequest>,
    ) -> Result<Response<UpdateUserPasswordHashResponse>, Status> {
        let sent = request.get_ref();
        let call = Call::Update { id: &sent.user_id, email_address: None };
        let write = self.begin_write(&request, call).await?;
        let change = Change::Password {
            hash: sent.password_hash.clone(),
            algorithm: sent.password_hash_algorithm_id.clone(),
            salt: sent.password_salt.clone(),
        };
        let seen = sent.user_password_hash_counter;
        self.update(write.connection, &sent.user_id, seen, change).await?;
        Ok(Response::new(UpdateUserPasswordHashResponse {}))
    }

    async fn increment_user_sessions_counter(
        &self,
        request: Request<IncrementUserSessionsCounterRequest>,
    ) -> Result<Response<IncrementUserSessionsCounterResponse>, Status> {
        let sent = request.get_ref();
        let call = Call::Update { id: &sent.user_id, email_address: None };
        let write = self.begin_write(&request, call).await?;
        let seen = sent.user_sessions_counter;
        self.update(write.connection, &sent.user_id, seen, Change::Sessions).await?;
        Ok(Response::new(IncrementUserSessionsCounterResponse {}))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let id = &request.get_ref().user_id;
        let write = self.begin_write(&request, Call::Delete { id }).await?;
        self.delete(write.connection, id).await?;
        Ok(Response::new(DeleteUserResponse {}))
    }
}
