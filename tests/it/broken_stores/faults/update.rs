//! Mistakes of the three updates.

use super::{Broken, Cases::Fails, Fault};

pub(super) const STORES: &[Broken] = &[
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
];
