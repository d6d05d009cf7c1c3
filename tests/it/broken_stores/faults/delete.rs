//! Mistakes of `DeleteUser`.

use super::{Broken, Cases::Fails, Fault};

pub(super) const STORES: &[Broken] = &[
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
];
