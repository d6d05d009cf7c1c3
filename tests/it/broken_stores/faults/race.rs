//! Mistakes that show when calls come at once.

use super::{Broken, Cases::Fails, Fault};

pub(super) const STORES: &[Broken] = &[
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
