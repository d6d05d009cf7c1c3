//! Mistakes of `CreateUser`.

use super::{
    Broken,
    Cases::{Fails, PassesOnly},
    Fault,
};

pub(super) const STORES: &[Broken] = &[
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
];
