//! The mistakes that people make in a `UserStore`, and the cases that tell them of each.

use std::fmt;

use Cases::{Fails, PassesOnly};

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

pub const BROKEN: &[Broken] = &[
    // Email addresses
    Broken {
        fault: Fault::LowerCasesAddresses,
        mistake: "email addresses are lower-cased before they are stored and looked for",
        cases: Fails("email.case email.update-is-byte-exact"),
    },
    Broken {
        fault: Fault::IgnoresCase,
        mistake: "the column of email addresses has a collation that ignores case",
        cases: Fails("email.case"),
    },
    Broken {
        fault: Fault::TrimsAddresses,
        mistake: "email addresses are trimmed",
        cases: Fails("email.trailing-space email.leading-space email.update-is-byte-exact"),
    },
    Broken {
        fault: Fault::IgnoresTrailingSpaces,
        mistake: "the column of email addresses has a collation that ignores spaces at the end (PAD SPACE)",
        cases: Fails("email.trailing-space"),
    },
    Broken {
        fault: Fault::NormalisesAddresses,
        mistake: "email addresses are brought to Unicode's NFC",
        cases: Fails("email.composed-and-decomposed email.update-is-byte-exact"),
    },
    Broken {
        fault: Fault::ComparesForPeople,
        mistake: "the column of email addresses has a collation for people: no case, no accents, nothing that cannot be seen",
        cases: Fails(
            "email.case email.composed-and-decomposed email.accents email.invisible-characters",
        ),
    },
    Broken {
        fault: Fault::ValidatesAddresses,
        mistake: "an email address without an @ and a domain with a dot behind it is refused",
        cases: Fails("email.not-validated"),
    },
    Broken {
        fault: Fault::TakesEmojiForOne,
        mistake: "the collation takes all characters of four bytes for one",
        cases: Fails("email.emoji"),
    },
    Broken {
        fault: Fault::StripsInvisible,
        mistake: "characters that cannot be seen are stripped from email addresses",
        cases: Fails("email.backslash email.invisible-characters values.nul-character"),
    },
    Broken {
        fault: Fault::LooksUpWithLike,
        mistake: "users are looked up with LIKE instead of =",
        cases: Fails("email.percent email.underscore email.backslash"),
    },
    Broken {
        fault: Fault::DecodesPercent,
        mistake: "email addresses travel in a URL inside, and %20 is decoded once too often",
        cases: Fails("email.percent"),
    },
    Broken {
        fault: Fault::QuoteEndsText,
        mistake: "a quotation mark ends the text in a statement that is put together by hand",
        cases: Fails("email.quote values.algorithm-as-sent"),
    },
    Broken {
        fault: Fault::BackslashEscapes,
        mistake: "a backslash escapes in a statement that is put together by hand",
        cases: Fails("email.backslash values.algorithm-as-sent"),
    },
    Broken {
        fault: Fault::FourBytesAreQuestionMarks,
        mistake: "the character set knows no characters of four bytes, and ? stands for them",
        cases: Fails("email.emoji values.algorithm-as-sent"),
    },
    Broken {
        fault: Fault::RefusesAbove255,
        mistake: "the column of email addresses is a VARCHAR(255) in strict mode",
        cases: Fails("email.320-bytes email.1000-characters"),
    },
    Broken {
        fault: Fault::RefusesAbove320,
        mistake: "the column of email addresses is a VARCHAR(320) in strict mode",
        cases: Fails("email.1000-characters"),
    },
    Broken {
        fault: Fault::CutsAddresses,
        mistake: "the column of email addresses is a VARCHAR(255) that cuts what is longer",
        cases: Fails(
            "email.320-bytes email.1000-characters values.too-large-email-address
             values.too-large-updates",
        ),
    },
    Broken {
        fault: Fault::CutsChangedAddresses,
        mistake: "an update cuts email addresses after 320 bytes",
        cases: Fails("values.too-large-updates"),
    },
    Broken {
        fault: Fault::CutsAndRefuses,
        mistake: "CreateUser cuts email addresses after 255 bytes, then sees that it did, and does not roll back",
        cases: Fails("email.320-bytes email.1000-characters values.too-large-email-address"),
    },
    // Other values
    Broken {
        fault: Fault::BytesAreText,
        mistake: "hash and salt are stored as text, and what is no UTF-8 is replaced",
        cases: Fails(
            "create.returns-what-was-sent values.all-bytes values.all-bytes-updated values.64-kib
             values.64-kib-updated values.algorithm-as-sent values.too-large-email-address
             values.too-large-password-hash values.too-large-algorithm values.too-large-salt
             values.too-large-updates values.nul-character update-password-hash.sets-and-counts
             update-password-hash.moves-no-other-counter delete.frees-the-email-address
             consistency.reads-see-updates
             race.creates-of-one-address race.updates-of-one-password-hash
             race.different-updates-of-one-user race.reads-during-updates",
        ),
    },
    Broken {
        fault: Fault::CutsBytes,
        mistake: "hash and salt are BLOBs that cut after 65,535 bytes",
        cases: Fails(
            "values.64-kib values.64-kib-updated values.too-large-password-hash
             values.too-large-salt values.too-large-updates",
        ),
    },
    Broken {
        fault: Fault::RefusesBytesAbove1024,
        mistake: "hash and salt are VARBINARY(1024) in strict mode",
        cases: Fails("values.64-kib values.64-kib-updated"),
    },
    Broken {
        fault: Fault::EmptyIsMissing,
        mistake: "an empty hash or salt is refused as missing",
        cases: Fails("values.empty values.empty-updated"),
    },
    Broken {
        fault: Fault::EmptyKeepsOld,
        mistake: "an update takes an empty hash for one that is not to be changed",
        cases: Fails("values.empty-updated"),
    },
    Broken {
        fault: Fault::LowerCasesAlgorithms,
        mistake: "the name of the algorithm is lower-cased",
        cases: Fails("values.algorithm-as-sent"),
    },
    Broken {
        fault: Fault::CutsAlgorithms,
        mistake: "the column of the algorithm is a VARCHAR(128) that cuts what is longer",
        cases: Fails("values.too-large-algorithm values.too-large-updates"),
    },
    Broken {
        fault: Fault::EndsTextAtNul,
        mistake: "text ends at a NUL character",
        cases: Fails("values.nul-character"),
    },
    Broken {
        fault: Fault::CreatesInTwoSteps,
        mistake: "a user is inserted, the password then, and no transaction holds the two together",
        cases: Fails(
            "values.too-large-password-hash values.too-large-algorithm values.too-large-salt",
        ),
    },
    // CreateUser
    Broken {
        fault: Fault::AnswersOnlyId,
        mistake: "CreateUser answers the ID alone",
        cases: Fails("create.returns-what-was-sent create.is-found-as-answered"),
    },
    Broken {
        fault: Fault::AnswersWithoutId,
        mistake: "CreateUser answers the user as made in memory, before the database gave the ID",
        cases: PassesOnly(
            "create.returns-what-was-sent create.display-name-is-empty lookup.empty-id
             lookup.id-of-another-form protocol.unknown-method protocol.health
             race.creates-of-one-address",
        ),
    },
    Broken {
        fault: Fault::ForgetsAlgorithm,
        mistake: "CreateUser does not store the algorithm, and answers it",
        cases: Fails(
            "create.is-found-as-answered values.all-bytes values.64-kib values.algorithm-as-sent
             values.too-large-email-address values.too-large-password-hash
             values.too-large-algorithm values.too-large-salt values.nul-character
             update-password-hash.same-values",
        ),
    },
    Broken {
        fault: Fault::CountsFromOne,
        mistake: "a counter of a new user is 1",
        cases: Fails("create.defaults"),
    },
    Broken {
        fault: Fault::NewUsersAreDisabled,
        mistake: "new users are disabled until somebody lets them in",
        cases: Fails("create.defaults"),
    },
    Broken {
        fault: Fault::NamesUsersByAddress,
        mistake: "new users have their email address as a display name",
        cases: Fails("create.display-name-is-empty"),
    },
    Broken {
        fault: Fault::MakesOneId,
        mistake: "the ID is made once, when the store starts",
        cases: Fails(
            "create.ids-are-unique email.case email.trailing-space email.leading-space email.quote
             email.percent email.underscore email.backslash email.composed-and-decomposed
             email.accents email.emoji email.invisible-characters email.320-bytes
             email.1000-characters email.not-validated values.too-large-email-address
             values.too-large-password-hash values.too-large-algorithm values.too-large-salt
             values.nul-character *.touches-no-other-user update-email-address.taken-address
             update-email-address.stale-counter-and-taken-address
             update-email-address.absent-user-and-taken-address delete.id-is-not-used-again
             race.creates-of-different-addresses race.two-users-one-address
             race.create-and-update-for-one-address",
        ),
    },
    Broken {
        fault: Fault::MakesIdOfAddress,
        mistake: "the ID is made of the email address",
        cases: Fails("delete.id-is-not-used-again"),
    },
    Broken {
        fault: Fault::ReusesIds,
        mistake: "the ID is the highest there is, plus 1 (a rowid without AUTOINCREMENT)",
        cases: Fails("delete.id-is-not-used-again"),
    },
    Broken {
        fault: Fault::HashesAreUnique,
        mistake: "the password hash has a unique constraint",
        cases: Fails("create.only-email-addresses-are-unique"),
    },
    Broken {
        fault: Fault::TakenIsUnknown,
        mistake: "a taken email address is UNKNOWN: the error of the database as it came",
        cases: Fails(
            "create.taken-email-address update-email-address.taken-address
             race.creates-of-one-address race.two-users-one-address
             race.create-and-update-for-one-address",
        ),
    },
    Broken {
        fault: Fault::Upserts,
        mistake: "CreateUser is an upsert by email address",
        cases: Fails(
            "create.taken-email-address create.taken-email-address-changes-nothing
             create.failure-leaves-nothing race.creates-of-one-address
             race.create-and-update-for-one-address",
        ),
    },
    Broken {
        fault: Fault::InsertsBeforeItLooks,
        mistake: "CreateUser inserts, sees that the email address is taken, and does not roll back",
        cases: Fails("create.failure-leaves-nothing race.creates-of-one-address"),
    },
    Broken {
        fault: Fault::StatusNamesAddress,
        mistake: "the text of ALREADY_EXISTS is that of the database, with the email address in it",
        cases: Fails("protocol.statuses-without-values"),
    },
    // Look-ups
    Broken {
        fault: Fault::AnswersNewest,
        mistake: "GetUser forgets its WHERE and answers the newest user",
        cases: Fails(
            "lookup.by-id lookup.ids-are-byte-exact values.nul-character *.touches-no-other-user
             update-email-address.taken-address update-email-address.absent-user-and-taken-address
             race.two-users-one-address race.create-and-update-for-one-address",
        ),
    },
    Broken {
        fault: Fault::AbsentIsEmpty,
        mistake: "GetUser answers OK without a user if there is none",
        cases: Fails(
            "lookup.absent-id lookup.empty-id lookup.id-of-another-form lookup.ids-are-byte-exact
             lookup.writes-compare-ids-byte-exactly
             update-email-address.absent-user update-email-address.absent-user-and-taken-address
             update-password-hash.absent-user increment-sessions-counter.absent-user
             delete.user-is-gone delete.absent-user consistency.reads-see-deletes
             race.deletes-of-one-user
             race.delete-and-update-email-address race.delete-and-update-password-hash
             race.delete-and-increment-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::AbsentIsDefault,
        mistake: "GetUser answers a user of default values if there is none",
        cases: Fails(
            "lookup.absent-id lookup.empty-id lookup.id-of-another-form lookup.ids-are-byte-exact
             lookup.writes-compare-ids-byte-exactly
             update-email-address.absent-user update-email-address.absent-user-and-taken-address
             update-password-hash.absent-user increment-sessions-counter.absent-user
             delete.user-is-gone delete.absent-user consistency.reads-see-deletes
             race.deletes-of-one-user
             race.delete-and-update-email-address race.delete-and-update-password-hash
             race.delete-and-increment-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::AbsentIsInternal,
        mistake: "GetUser answers INTERNAL if there is no user",
        cases: Fails(
            "lookup.absent-id lookup.empty-id lookup.id-of-another-form lookup.ids-are-byte-exact
             lookup.writes-compare-ids-byte-exactly
             update-email-address.absent-user update-email-address.absent-user-and-taken-address
             update-password-hash.absent-user increment-sessions-counter.absent-user
             delete.user-is-gone delete.absent-user consistency.reads-see-deletes
             race.deletes-of-one-user
             race.delete-and-update-email-address race.delete-and-update-password-hash
             race.delete-and-increment-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::AbsentAddressIsDefault,
        mistake: "GetUserByEmailAddress answers a user of default values if there is none",
        cases: Fails(
            "create.failure-leaves-nothing lookup.absent-email-address email.case
             email.trailing-space email.leading-space email.quote email.percent email.underscore
             email.backslash email.composed-and-decomposed email.accents email.emoji
             email.invisible-characters email.320-bytes email.1000-characters values.nul-character
             update-email-address.frees-the-old-address delete.user-is-gone
             consistency.reads-see-updates consistency.reads-see-deletes race.creates-of-one-address
             race.delete-and-update-email-address race.delete-and-update-password-hash
             race.delete-and-increment-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::EmptyIdIsInvalid,
        mistake: "an empty ID is INVALID_ARGUMENT",
        cases: Fails("lookup.empty-id"),
    },
    Broken {
        fault: Fault::OtherFormIsInvalid,
        mistake: "an ID that is no UUID is INVALID_ARGUMENT",
        cases: Fails(
            "lookup.empty-id lookup.id-of-another-form lookup.ids-are-byte-exact
             lookup.writes-compare-ids-byte-exactly delete.absent-user
             update-email-address.absent-user update-password-hash.absent-user
             increment-sessions-counter.absent-user",
        ),
    },
    Broken {
        fault: Fault::ReadsIgnoreCaseOfIds,
        mistake: "GetUser ignores the case of IDs",
        cases: Fails("lookup.ids-are-byte-exact"),
    },
    Broken {
        fault: Fault::UuidColumn,
        mistake: "IDs are UUIDs inside, and every way to write one is taken",
        cases: Fails("lookup.ids-are-byte-exact lookup.writes-compare-ids-byte-exactly"),
    },
    Broken {
        fault: Fault::ReadsNumberOfId,
        mistake: "IDs are numbers inside, and text after the number is ignored",
        cases: Fails(
            "lookup.ids-are-byte-exact lookup.writes-compare-ids-byte-exactly delete.absent-user",
        ),
    },
    Broken {
        fault: Fault::ParsesNumberOfId,
        mistake: "IDs are numbers inside, and every way to write one is taken",
        cases: Fails("lookup.ids-are-byte-exact lookup.writes-compare-ids-byte-exactly"),
    },
    Broken {
        fault: Fault::WritesTrimIds,
        mistake: "the writes trim IDs",
        cases: Fails("lookup.writes-compare-ids-byte-exactly"),
    },
    Broken {
        fault: Fault::CountsLookups,
        mistake: "a look-up by email address counts as a new session",
        cases: Fails(
            "create.taken-email-address-changes-nothing lookup.by-email-address
             lookup.changes-nothing email.case email.trailing-space email.leading-space email.quote
             email.percent email.underscore email.backslash email.composed-and-decomposed
             email.accents email.emoji email.invisible-characters email.320-bytes
             email.1000-characters email.update-is-byte-exact values.all-bytes values.empty
             values.64-kib values.algorithm-as-sent values.too-large-email-address
             values.too-large-password-hash values.too-large-algorithm values.too-large-salt
             values.nul-character *.sets-and-counts increment-sessions-counter.counts
             consistency.reads-see-updates race.two-users-one-address",
        ),
    },
    Broken {
        fault: Fault::HidesHashes,
        mistake: "GetUserByEmailAddress leaves the password hash out",
        cases: Fails(
            "create.taken-email-address-changes-nothing lookup.by-email-address email.case
             email.trailing-space email.leading-space email.quote email.percent email.underscore
             email.backslash email.composed-and-decomposed email.accents email.emoji
             email.invisible-characters email.320-bytes email.1000-characters
             email.update-is-byte-exact values.all-bytes values.64-kib values.algorithm-as-sent
             values.too-large-email-address values.too-large-password-hash
             values.too-large-algorithm values.too-large-salt values.nul-character
             *.sets-and-counts increment-sessions-counter.counts consistency.reads-see-updates
             race.creates-of-one-address
             race.two-users-one-address",
        ),
    },
    Broken {
        fault: Fault::HidesAddresses,
        mistake: "the look-ups leave the email address out",
        cases: PassesOnly(
            "create.returns-what-was-sent create.defaults create.display-name-is-empty
             create.ids-are-unique lookup.empty-id lookup.id-of-another-form
             consistency.reads-see-creates protocol.unknown-method protocol.health
             race.creates-of-different-addresses",
        ),
    },
    // Updates
    Broken {
        fault: Fault::CountersAreNotChecked,
        mistake: "the updates do not look at the counter",
        cases: Fails(
            "*.stale-counter *.future-counter *.negative-counter *.maximum-counter
             update-email-address.stale-counter-and-taken-address race.updates-of-one-email-address
             race.updates-of-one-password-hash race.increments-of-one-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::PasswordCounterIsNotChecked,
        mistake: "UpdateUserPasswordHash does not look at the counter",
        cases: Fails(
            "update-password-hash.stale-counter update-password-hash.future-counter
             update-password-hash.negative-counter update-password-hash.maximum-counter
             race.updates-of-one-password-hash",
        ),
    },
    Broken {
        fault: Fault::CounterIsAtMost,
        mistake: "the updates compare the counter with <=",
        cases: Fails(
            "*.future-counter *.maximum-counter
             update-email-address.stale-counter-and-taken-address",
        ),
    },
    Broken {
        fault: Fault::CounterIsAtLeast,
        mistake: "the updates compare the counter with >=",
        cases: Fails(
            "*.stale-counter *.negative-counter
             update-email-address.stale-counter-and-taken-address race.updates-of-one-email-address
             race.updates-of-one-password-hash race.increments-of-one-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::NegativeCounterMatches,
        mistake: "a negative counter means that the counter is not to be looked at",
        cases: Fails("*.negative-counter"),
    },
    Broken {
        fault: Fault::NegativeCounterIsInvalid,
        mistake: "a negative counter is INVALID_ARGUMENT",
        cases: Fails("*.negative-counter"),
    },
    Broken {
        fault: Fault::AddsBeforeItCompares,
        mistake: "the new counter is worked out first, and 2147483647 has none",
        cases: Fails("*.maximum-counter"),
    },
    Broken {
        fault: Fault::MismatchIsPrecondition,
        mistake: "a counter that does not match is FAILED_PRECONDITION",
        cases: Fails(
            "*.stale-counter *.future-counter *.negative-counter *.maximum-counter
             update-email-address.stale-counter-and-taken-address race.updates-of-one-email-address
             race.updates-of-one-password-hash race.increments-of-one-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::FutureIsAborted,
        mistake: "a sessions counter that the user has not reached is ABORTED, as if it were to come",
        cases: Fails(
            "increment-sessions-counter.future-counter increment-sessions-counter.maximum-counter",
        ),
    },
    Broken {
        fault: Fault::RowsAreNotCounted,
        mistake: "the updates answer OK, however many rows they changed",
        cases: Fails(
            "lookup.writes-compare-ids-byte-exactly *.stale-counter *.future-counter
             *.negative-counter *.maximum-counter update-email-address.absent-user
             update-email-address.stale-counter-and-taken-address
             update-email-address.absent-user-and-taken-address update-password-hash.absent-user
             increment-sessions-counter.absent-user race.updates-of-one-email-address
             race.updates-of-one-password-hash race.increments-of-one-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::UpdateOfAbsentIsInternal,
        mistake: "an update of a user who is not there is INTERNAL",
        cases: Fails(
            "lookup.writes-compare-ids-byte-exactly update-email-address.absent-user
             update-email-address.absent-user-and-taken-address update-password-hash.absent-user
             increment-sessions-counter.absent-user race.delete-and-update-email-address
             race.delete-and-update-password-hash race.delete-and-increment-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::CountsNothing,
        mistake: "the updates move no counter",
        cases: Fails(
            "email.update-is-byte-exact values.all-bytes-updated values.empty-updated
             values.64-kib-updated values.too-large-updates *.sets-and-counts
             *.moves-no-other-counter *.stale-counter update-email-address.own-address
             update-password-hash.same-values increment-sessions-counter.counts
             consistency.reads-see-updates race.updates-of-one-email-address
             race.updates-of-one-password-hash race.increments-of-one-sessions-counter
             race.different-updates-of-one-user race.two-users-one-address
             race.reads-during-updates",
        ),
    },
    Broken {
        fault: Fault::CountsWrongly,
        mistake: "each update moves another's counter",
        cases: Fails(
            "email.update-is-byte-exact values.all-bytes-updated values.empty-updated
             values.64-kib-updated values.too-large-updates *.sets-and-counts
             *.moves-no-other-counter *.stale-counter update-email-address.own-address
             update-password-hash.same-values increment-sessions-counter.counts
             consistency.reads-see-updates race.updates-of-one-email-address
             race.updates-of-one-password-hash race.increments-of-one-sessions-counter
             race.different-updates-of-one-user race.two-users-one-address
             race.reads-during-updates",
        ),
    },
    Broken {
        fault: Fault::CountsAll,
        mistake: "each update moves all counters",
        cases: Fails(
            "email.update-is-byte-exact values.all-bytes-updated values.empty-updated
             values.64-kib-updated values.too-large-updates *.sets-and-counts
             *.moves-no-other-counter update-email-address.own-address
             update-password-hash.same-values increment-sessions-counter.counts
             consistency.reads-see-updates race.updates-of-one-email-address
             race.updates-of-one-password-hash race.increments-of-one-sessions-counter
             race.different-updates-of-one-user race.two-users-one-address
             race.reads-during-updates",
        ),
    },
    Broken {
        fault: Fault::CountsForEverybody,
        mistake: "an update moves the counters of others, too, that are the same",
        cases: Fails(
            "update-email-address.touches-no-other-user
             update-email-address.stale-counter-and-taken-address
             update-password-hash.touches-no-other-user
             increment-sessions-counter.touches-no-other-user race.two-users-one-address",
        ),
    },
    Broken {
        fault: Fault::NewAddressClearsPassword,
        mistake: "UpdateUserEmailAddress clears the password hash",
        cases: Fails(
            "email.update-is-byte-exact values.too-large-updates
             update-email-address.sets-and-counts update-email-address.moves-no-other-counter
             update-email-address.own-address consistency.reads-see-updates race.updates-of-one-email-address
             race.different-updates-of-one-user race.two-users-one-address race.reads-during-updates",
        ),
    },
    Broken {
        fault: Fault::NewPasswordSignsOut,
        mistake: "UpdateUserPasswordHash moves the sessions counter too",
        cases: Fails(
            "values.all-bytes-updated values.empty-updated values.64-kib-updated
             values.too-large-updates update-password-hash.sets-and-counts
             update-password-hash.moves-no-other-counter update-password-hash.same-values consistency.reads-see-updates
             race.updates-of-one-password-hash race.different-updates-of-one-user
             race.reads-during-updates",
        ),
    },
    Broken {
        fault: Fault::OwnAddressIsTaken,
        mistake: "the address that a user has is taken for the same user too",
        cases: Fails("update-email-address.own-address"),
    },
    Broken {
        fault: Fault::LeavesSameAlone,
        mistake: "an update that would set what is there does nothing, and is OK",
        cases: Fails("update-email-address.own-address update-password-hash.same-values"),
    },
    Broken {
        fault: Fault::RefusesSamePassword,
        mistake: "the password that a user has is refused",
        cases: Fails("update-password-hash.same-values"),
    },
    Broken {
        fault: Fault::UpdatesMayTake,
        mistake: "no constraint keeps UpdateUserEmailAddress from an address that is taken",
        cases: Fails(
            "update-email-address.taken-address race.two-users-one-address
             race.create-and-update-for-one-address",
        ),
    },
    Broken {
        fault: Fault::CountsBeforeItFails,
        mistake: "the counter has moved when UpdateUserEmailAddress finds the address taken",
        cases: Fails(
            "update-email-address.taken-address race.two-users-one-address
             race.create-and-update-for-one-address",
        ),
    },
    Broken {
        fault: Fault::LooksAddressUpFirst,
        mistake: "UpdateUserEmailAddress looks whether the address is taken before all else",
        cases: Fails(
            "update-email-address.stale-counter-and-taken-address
             update-email-address.absent-user-and-taken-address",
        ),
    },
    Broken {
        fault: Fault::FormerAddressFinds,
        mistake: "the former addresses of a user find the user",
        cases: Fails("update-email-address.frees-the-old-address consistency.reads-see-updates"),
    },
    Broken {
        fault: Fault::FormerAddressStaysTaken,
        mistake: "the former addresses of a user stay taken",
        cases: Fails("update-email-address.frees-the-old-address"),
    },
    // DeleteUser
    Broken {
        fault: Fault::DeletesNothing,
        mistake: "DeleteUser answers OK and deletes nothing",
        cases: Fails(
            "create.failure-leaves-nothing lookup.absent-id update-email-address.absent-user
             update-email-address.absent-user-and-taken-address update-password-hash.absent-user
             increment-sessions-counter.absent-user delete.user-is-gone delete.twice
             delete.frees-the-email-address delete.id-is-not-used-again
             consistency.reads-see-deletes race.creates-of-one-address race.deletes-of-one-user
             race.delete-and-update-email-address race.delete-and-update-password-hash
             race.delete-and-increment-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::DeleteOfAbsentIsOk,
        mistake: "the deletion of a user who is not there is OK",
        cases: Fails(
            "lookup.writes-compare-ids-byte-exactly delete.twice delete.absent-user
             race.deletes-of-one-user",
        ),
    },
    Broken {
        fault: Fault::DeleteOfAbsentIsInternal,
        mistake: "the deletion of a user who is not there is INTERNAL",
        cases: Fails(
            "lookup.writes-compare-ids-byte-exactly delete.twice delete.absent-user
             race.deletes-of-one-user",
        ),
    },
    Broken {
        fault: Fault::DeletesTooMany,
        mistake: "DeleteUser forgets its WHERE",
        cases: Fails(
            "update-email-address.absent-user-and-taken-address delete.touches-no-other-user",
        ),
    },
    Broken {
        fault: Fault::DeletedKeepAddress,
        mistake: "users are marked as deleted and keep their email addresses",
        cases: Fails("delete.frees-the-email-address delete.id-is-not-used-again"),
    },
    Broken {
        fault: Fault::DeletedAreFound,
        mistake: "users are marked as deleted and look-ups do not look at the mark",
        cases: Fails(
            "create.failure-leaves-nothing lookup.absent-id update-email-address.absent-user
             update-email-address.absent-user-and-taken-address update-password-hash.absent-user
             increment-sessions-counter.absent-user delete.user-is-gone
             delete.frees-the-email-address delete.id-is-not-used-again
             consistency.reads-see-deletes race.creates-of-one-address race.deletes-of-one-user
             race.delete-and-update-email-address race.delete-and-update-password-hash
             race.delete-and-increment-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::RevivesDeleted,
        mistake: "users are marked as deleted and come back when their email address is created again",
        cases: Fails("delete.frees-the-email-address delete.id-is-not-used-again"),
    },
    // Other connections
    Broken {
        fault: Fault::ReadsLag,
        mistake: "each instance reads from a replica that lags behind the writes of others",
        cases: Fails(
            "consistency.reads-see-creates consistency.reads-see-updates protocol.deadline
             race.different-updates-of-one-user race.reads-during-updates",
        ),
    },
    Broken {
        fault: Fault::CachesInEachInstance,
        mistake: "each instance caches users, and does not hear of the writes of others",
        cases: Fails(
            "consistency.reads-see-updates consistency.reads-see-deletes
             race.updates-of-one-email-address race.updates-of-one-password-hash
             race.increments-of-one-sessions-counter race.deletes-of-one-user",
        ),
    },
    Broken {
        fault: Fault::CacheMissesIncrements,
        mistake: "IncrementUserSessionsCounter leaves the user in the cache",
        cases: Fails(
            "*.moves-no-other-counter increment-sessions-counter.counts
             increment-sessions-counter.stale-counter consistency.reads-see-updates
             race.increments-of-one-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::CacheMissesDeletes,
        mistake: "DeleteUser leaves the user in the cache",
        cases: Fails(
            "lookup.absent-id update-email-address.absent-user
             update-email-address.absent-user-and-taken-address update-password-hash.absent-user
             increment-sessions-counter.absent-user delete.user-is-gone
             consistency.reads-see-deletes race.deletes-of-one-user
             race.delete-and-update-email-address race.delete-and-update-password-hash
             race.delete-and-increment-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::CancelledCallPoisons,
        mistake: "a call that is cancelled gives its connection to the database back in the middle of an answer",
        cases: Fails("protocol.deadline"),
    },
    Broken {
        fault: Fault::AnswersUnknownMethods,
        mistake: "methods that do not exist are answered with OK",
        cases: Fails("protocol.unknown-method"),
    },
    Broken {
        fault: Fault::IsElsewhere,
        mistake: "the service is registered under another name",
        cases: PassesOnly("protocol.unknown-method protocol.health"),
    },
    Broken {
        fault: Fault::NotServing,
        mistake: "grpc.health.v1 says NOT_SERVING",
        cases: Fails("protocol.health"),
    },
    // Races
    Broken {
        fault: Fault::LooksBeforeItWrites,
        mistake: "a SELECT decides whether an email address is free, and no constraint",
        cases: Fails(
            "race.creates-of-one-address race.two-users-one-address
             race.create-and-update-for-one-address",
        ),
    },
    Broken {
        fault: Fault::ReadsModifiesWrites,
        mistake: "the updates read the user, compare in memory and save the whole user",
        cases: Fails(
            "race.updates-of-one-email-address race.updates-of-one-password-hash
             race.increments-of-one-sessions-counter race.different-updates-of-one-user",
        ),
    },
    Broken {
        fault: Fault::SetsEveryColumn,
        mistake: "the updates compare and set, and set every column as it was read",
        cases: Fails("race.different-updates-of-one-user"),
    },
    Broken {
        fault: Fault::SavesAgain,
        mistake: "the updates save a user who was deleted meanwhile",
        cases: Fails(
            "race.delete-and-update-email-address race.delete-and-update-password-hash
             race.delete-and-increment-sessions-counter",
        ),
    },
    Broken {
        fault: Fault::DeletesAndInserts,
        mistake: "the updates delete the row and insert it again",
        cases: Fails("race.reads-during-updates"),
    },
    Broken {
        fault: Fault::SetsInTwoSteps,
        mistake: "an update sets the values and then the counter, and no transaction holds the two together",
        cases: Fails("race.reads-during-updates"),
    },
    Broken {
        fault: Fault::DeleteLooksFirst,
        mistake: "a SELECT decides whether there is a user to delete",
        cases: Fails("race.deletes-of-one-user"),
    },
    Broken {
        fault: Fault::LooksForHighestId,
        mistake: "SELECT max(id) + 1 and INSERT are two steps",
        cases: Fails("delete.id-is-not-used-again race.creates-of-different-addresses"),
    },
    Broken {
        fault: Fault::RefusesWhenBusy,
        mistake: "more than 8 writes at once are refused",
        cases: Fails(
            "race.creates-of-one-address race.creates-of-different-addresses
             race.updates-of-one-email-address race.updates-of-one-password-hash
             race.increments-of-one-sessions-counter race.deletes-of-one-user",
        ),
    },
];
