//! Causes that an answer shows by itself. One of them fails many cases at once, and what else is
//! usual where those fail would only mislead.

use tonic::Code;

use super::case::Case;

/// Why a case failed, where the answer itself tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Cause {
    /// A user who is not there was answered `OK`, with no user or an empty one.
    AbsentIsOk,
    /// A user was due, and the response has none in it.
    NoUserInResponse,
    /// `UNKNOWN`: what gRPC libraries make of any error.
    NoStatus,
    /// `UNIMPLEMENTED`.
    Unimplemented,
    /// `RESOURCE_EXHAUSTED` or `UNAVAILABLE`, to one of many calls at once.
    Crowded,
    /// An update with a counter that is not the user's took place.
    CounterNotCompared,
    /// `GetUser` did not say that nobody has an ID, so nothing was written under it.
    NotRisked,
}

impl Cause {
    /// What a status tells by its code alone.
    pub(super) const fn of_code(code: Code) -> Option<Self> {
        match code {
            Code::Unknown => Some(Self::NoStatus),
            Code::Unimplemented => Some(Self::Unimplemented),
            _ => None,
        }
    }

    /// The same for one of many calls at once.
    pub(super) const fn of_code_in_a_crowd(code: Code) -> Option<Self> {
        match code {
            Code::ResourceExhausted | Code::Unavailable => Some(Self::Crowded),
            _ => Self::of_code(code),
        }
    }

    /// What is wrong, in the middle of a sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AbsentIsOk => "a user who is not there is answered OK without a user",
            Self::NoUserInResponse => "a response has no user in it",
            Self::NoStatus => "the answer is UNKNOWN",
            Self::Unimplemented => "the answer is UNIMPLEMENTED",
            Self::Crowded => "calls are refused when many come at once",
            Self::CounterNotCompared => "an update takes place whatever the counter of the request",
            Self::NotRisked => "GetUser does not say NOT_FOUND for an ID that nobody has",
        }
    }

    /// What to do.
    pub const fn fix(self) -> &'static str {
        match self {
            Self::AbsentIsOk => "An absent user is the status NOT_FOUND, not OK without a user.",
            Self::NoUserInResponse => {
                "Put the user into the field `user` of the response, with all eleven fields."
            }
            Self::NoStatus => {
                "UNKNOWN is an error that is no gRPC status, such as an exception that nothing caught: answer NOT_FOUND, ALREADY_EXISTS, ABORTED or INTERNAL. The store's own log may say more."
            }
            Self::Unimplemented => {
                "Write the method, and register the service under the name that it has in the contract: faroe.userstore.v1.UserStore."
            }
            Self::Crowded => {
                "The server refused calls before your code saw them: up to 64 come at once. Let calls wait, or raise the pool (grpc-ruby: pool_size: 100)."
            }
            Self::CounterNotCompared => {
                "Change the row only where its counter equals that of the request: UPDATE … WHERE id = ? AND counter = ?; 0 rows is NOT_FOUND. Compare with =, neither with <= nor after a look-up; without a database: one lock around the whole method, reads included."
            }
            Self::NotRisked => {
                "GetUser has to say NOT_FOUND for an ID that nobody has before anything is written under it, so this was not tried."
            }
        }
    }

    /// The cases to begin with, if others may pass once those do.
    pub const fn first(self) -> &'static [&'static str] {
        match self {
            Self::AbsentIsOk => &["lookup.absent-id", "lookup.absent-email-address"],
            Self::NoUserInResponse => &["create.returns-what-was-sent", "lookup.by-id"],
            Self::NotRisked => &["lookup.id-of-another-form", "lookup.ids-are-byte-exact"],
            Self::NoStatus | Self::Unimplemented | Self::Crowded | Self::CounterNotCompared => &[],
        }
    }

    /// What to do about it in a case.
    pub(super) fn fix_of(self, case: &Case) -> String {
        let first = self.first();
        if first.is_empty() || first.contains(&case.id) {
            return self.fix().to_owned();
        }
        format!("{} Fix {} first; this case may pass then.", self.fix(), first.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::cases;

    #[test]
    fn the_cases_to_begin_with_are_there_and_are_not_sent_to_themselves() {
        for cause in [Cause::AbsentIsOk, Cause::NoUserInResponse, Cause::NotRisked] {
            for id in cause.first() {
                let case = cases().find(|case| case.id == *id).unwrap();
                assert_eq!(cause.fix_of(case), cause.fix());
            }
            let other = cases().find(|case| case.id == "race.deletes-of-one-user").unwrap();
            let fix = cause.fix_of(other);
            assert!(fix.contains(" first; this case may pass then."), "{fix}");
        }
    }
}
