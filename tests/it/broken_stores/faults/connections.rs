//! Mistakes that show on other connections, and around the calls.

use super::{
    Broken,
    Cases::{Fails, PassesOnly},
    Fault,
};

pub(super) const STORES: &[Broken] = &[
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
];
