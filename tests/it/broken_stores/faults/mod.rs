//! The mistakes that people make in a `UserStore`, and the cases that tell them of each.

mod connections;
mod create;
mod delete;
mod email;
mod look_up;
mod race;
mod update;
mod values;

use std::fmt;

/// What a store has, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    // Not faults: right stores that are unlike the first.
    NumbersUsers,
    AbortsNowAndThen,
    RefusesNul,
    RefusesLargeValues,
    NoHealth,
    HealthIsElsewhere,
    // Email addresses
    LowerCasesAddresses,
    IgnoresCase,
    TrimsAddresses,
    IgnoresTrailingSpaces,
    NormalisesAddresses,
    ComparesForPeople,
    ValidatesAddresses,
    TakesEmojiForOne,
    StripsInvisible,
    LooksUpWithLike,
    DecodesPercent,
    QuoteEndsText,
    BackslashEscapes,
    FourBytesAreQuestionMarks,
    RefusesAbove255,
    RefusesAbove320,
    CutsAddresses,
    CutsChangedAddresses,
    CutsAndRefuses,
    // Other values
    BytesAreText,
    CutsBytes,
    RefusesBytesAbove1024,
    EmptyIsMissing,
    EmptyKeepsOld,
    LowerCasesAlgorithms,
    CutsAlgorithms,
    EndsTextAtNul,
    CreatesInTwoSteps,
    // CreateUser
    AnswersOnlyId,
    AnswersWithoutId,
    ForgetsAlgorithm,
    CountsFromOne,
    NewUsersAreDisabled,
    NamesUsersByAddress,
    MakesOneId,
    MakesIdOfAddress,
    ReusesIds,
    HashesAreUnique,
    TakenIsUnknown,
    Upserts,
    InsertsBeforeItLooks,
    StatusNamesAddress,
    // Look-ups
    AnswersNewest,
    AbsentIsEmpty,
    AbsentIsDefault,
    AbsentIsInternal,
    AbsentAddressIsDefault,
    EmptyIdIsInvalid,
    OtherFormIsInvalid,
    ReadsIgnoreCaseOfIds,
    UuidColumn,
    ReadsNumberOfId,
    ParsesNumberOfId,
    WritesTrimIds,
    CountsLookups,
    HidesHashes,
    HidesAddresses,
    // Updates
    CountersAreNotChecked,
    PasswordCounterIsNotChecked,
    CounterIsAtMost,
    CounterIsAtLeast,
    NegativeCounterMatches,
    NegativeCounterIsInvalid,
    AddsBeforeItCompares,
    MismatchIsPrecondition,
    FutureIsAborted,
    RowsAreNotCounted,
    UpdateOfAbsentIsInternal,
    CountsNothing,
    CountsWrongly,
    CountsAll,
    CountsForEverybody,
    NewAddressClearsPassword,
    NewPasswordSignsOut,
    OwnAddressIsTaken,
    LeavesSameAlone,
    RefusesSamePassword,
    UpdatesMayTake,
    CountsBeforeItFails,
    LooksAddressUpFirst,
    FormerAddressFinds,
    FormerAddressStaysTaken,
    // DeleteUser
    DeletesNothing,
    DeleteOfAbsentIsOk,
    DeleteOfAbsentIsInternal,
    DeletesTooMany,
    DeletedKeepAddress,
    DeletedAreFound,
    RevivesDeleted,
    // Other connections
    ReadsLag,
    CachesInEachInstance,
    CacheMissesIncrements,
    CacheMissesDeletes,
    CancelledCallPoisons,
    AnswersUnknownMethods,
    IsElsewhere,
    NotServing,
    // Races
    LooksBeforeItWrites,
    ReadsModifiesWrites,
    SetsEveryColumn,
    SavesAgain,
    DeletesAndInserts,
    SetsInTwoSteps,
    DeleteLooksFirst,
    LooksForHighestId,
    RefusesWhenBusy,
}

impl Fault {
    /// Whether it brings calls together itself, that the referee would keep apart.
    pub fn is_race(self) -> bool {
        matches!(
            self,
            Self::LooksBeforeItWrites
                | Self::ReadsModifiesWrites
                | Self::SetsEveryColumn
                | Self::SavesAgain
                | Self::DeleteLooksFirst
                | Self::LooksForHighestId
                | Self::RefusesWhenBusy
        )
    }
}

/// The cases that a store fails, with white space in between; `*.NAME` stands for the cases of that
/// name in all groups.
#[derive(Debug, Clone, Copy)]
pub enum Cases {
    Fails(&'static str),
    /// For stores of which little is right: those that pass, all others fail.
    PassesOnly(&'static str),
}

impl fmt::Display for Cases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all_but, ids) = match self {
            Self::Fails(ids) => ("", ids),
            Self::PassesOnly(ids) => ("all but ", ids),
        };
        let ids: Vec<String> = ids.split_whitespace().map(|id| format!("`{id}`")).collect();
        write!(f, "{all_but}{}", ids.join(", "))
    }
}

pub struct Broken {
    pub fault: Fault,
    pub mistake: &'static str,
    pub cases: Cases,
}

/// Stores that are right, each in its own way.
pub const RIGHT: &[(Fault, &str)] = &[
    (Fault::None, "nothing is out of the ordinary"),
    (Fault::NumbersUsers, "IDs are numbers that are not used again"),
    (Fault::AbortsNowAndThen, "every third write is ABORTED at first"),
    (Fault::RefusesNul, "text cannot have NUL characters, and is refused"),
    (Fault::RefusesLargeValues, "large values are refused"),
    (Fault::NoHealth, "there is no grpc.health.v1"),
    (Fault::HealthIsElsewhere, "grpc.health.v1 does not know the service"),
];

/// Stores with one mistake each.
pub fn broken() -> impl Iterator<Item = &'static Broken> {
    [
        email::STORES,
        values::STORES,
        create::STORES,
        look_up::STORES,
        update::STORES,
        delete::STORES,
        connections::STORES,
        race::STORES,
    ]
    .into_iter()
    .flatten()
}
