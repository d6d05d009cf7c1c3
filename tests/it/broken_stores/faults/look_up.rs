//! Mistakes of the two look-ups.

use super::{
    Broken,
    Cases::{Fails, PassesOnly},
    Fault,
};

pub(super) const STORES: &[Broken] = &[
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
];
