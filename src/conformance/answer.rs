//! What a store answered, as cases look at it and as a report shows it.

use tonic::{Code, Status};

use super::{
    case::Failure,
    cause::Cause,
    describe::{self, Whose},
};
use crate::{
    proto::User,
    store::{NotReached, Unanswered, code_name},
};

/// What the answers of a store say of itself in a report at the most, in characters.
const LONGEST_STATUS: usize = 300;

/// What a store answered.
pub(super) struct Answer<T> {
    pub(super) sent: String,
    pub(super) reply: Result<T, Refusal>,
    /// Whose user it is, if there is one in it.
    pub(super) whose: Whose,
}

/// An answer that is no success.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// The status of the answer; none where there was no answer, or one without the user in it.
    pub(super) code: Option<Code>,
    /// For the report.
    pub(super) text: String,
    /// What the store said to its code.
    pub(super) message: String,
    /// Whether the call certainly never got there.
    pub(super) not_reached: bool,
    /// What it tells by itself, whatever was due.
    pub(super) cause: Option<Cause>,
    /// Whether it is `OK` without the user in it.
    pub(super) without_user: bool,
}

impl Refusal {
    pub(super) fn new(status: &Status) -> Self {
        if NotReached::of_status(status).is_some() {
            let text = format!("no connection: {}", status_source(status));
            return Self { not_reached: true, ..Self::unanswered(text) };
        }
        if let Some(reason) = Unanswered::of_status(status) {
            return Self::unanswered(format!("no answer: {reason}"));
        }
        let message: String = status.message().chars().take(LONGEST_STATUS).collect();
        Self {
            code: Some(status.code()),
            text: format!("{} {message:?}", code_name(status.code())),
            message: status.message().to_owned(),
            not_reached: false,
            cause: Cause::of_code(status.code()),
            without_user: false,
        }
    }

    pub(super) fn unanswered(text: impl Into<String>) -> Self {
        Self {
            code: None,
            text: text.into(),
            message: String::new(),
            not_reached: false,
            cause: None,
            without_user: false,
        }
    }

    pub(super) fn without_user() -> Self {
        Self { without_user: true, ..Self::unanswered("OK without a user in it") }
    }

    /// Whether it says of a value that it cannot be stored: any code but the three that mean
    /// something else.
    pub(super) fn is_an_error(&self) -> bool {
        self.code.is_some_and(|code| {
            !matches!(code, Code::AlreadyExists | Code::NotFound | Code::Aborted)
        })
    }
}

fn status_source(status: &Status) -> String {
    std::error::Error::source(status).map_or_else(String::new, ToString::to_string)
}

/// A success as the report shows it.
pub(super) trait Shown {
    fn shown(&self, whose: Whose) -> String;

    /// Whether a user was due and nobody is in it.
    fn is_nobody(&self) -> bool;
}

impl Shown for User {
    fn shown(&self, whose: Whose) -> String {
        describe::user(self, whose)
    }

    fn is_nobody(&self) -> bool {
        *self == Self::default()
    }
}

impl Shown for () {
    fn shown(&self, _: Whose) -> String {
        "OK".to_owned()
    }

    fn is_nobody(&self) -> bool {
        false
    }
}

impl<T: Shown> Answer<T> {
    pub(super) fn came_back(&self) -> String {
        match &self.reply {
            Ok(value) => value.shown(self.whose),
            Err(refusal) => refusal.text.clone(),
        }
    }

    /// The code of the answer, or that there was none.
    pub(super) fn outcome(&self) -> &'static str {
        match &self.reply {
            Ok(_) => "OK",
            Err(Refusal { code: Some(number), .. }) => code_name(*number),
            Err(Refusal { code: None, .. }) => "no answer",
        }
    }

    pub(super) fn is(&self, wanted: Code) -> bool {
        match &self.reply {
            Ok(_) => wanted == Code::Ok,
            Err(refusal) => refusal.code == Some(wanted),
        }
    }

    /// What was answered is not what the contract says.
    pub(super) fn fails(&self, expected: impl Into<String>) -> Failure {
        Failure::new(self.sent.clone(), self.came_back(), expected).because(self.cause())
    }

    /// What the answer tells where a success was due.
    pub(super) fn cause(&self) -> Option<Cause> {
        match &self.reply {
            Ok(value) => value.is_nobody().then_some(Cause::NoUserInResponse),
            Err(Refusal { without_user: true, .. }) => Some(Cause::NoUserInResponse),
            Err(refusal) => refusal.cause,
        }
    }

    /// What it tells where it was to be refused with this code.
    pub(super) fn cause_instead_of(&self, due: Code) -> Option<Cause> {
        match self.cause() {
            Some(Cause::NoUserInResponse) => (due == Code::NotFound).then_some(Cause::AbsentIsOk),
            cause => cause,
        }
    }

    /// The value of a success.
    pub(super) fn ok(self, expected: &str) -> Result<T, Failure> {
        match self.reply {
            Err(_) => Err(self.fails(expected)),
            Ok(value) => Ok(value),
        }
    }

    /// That it has this code.
    pub(super) fn is_refused(&self, with: Code, expected: &str) -> Result<(), Failure> {
        if self.is(with) {
            return Ok(());
        }
        let due = format!("{}: {expected}", code_name(with));
        let failure = Failure::new(self.sent.as_str(), self.came_back(), due);
        Err(failure.because(self.cause_instead_of(with)))
    }
}

impl Answer<User> {
    /// That it is this user, in every member.
    pub(super) fn is_user(&self, user: &User, expected: &str) -> Result<(), Failure> {
        self.is_like(|_| user.clone(), expected).map(|_| ())
    }

    /// That it is the user that `due` makes of it; gives that user.
    pub(super) fn is_like(
        &self,
        due: impl FnOnce(User) -> User,
        expected: &str,
    ) -> Result<User, Failure> {
        let Ok(got) = &self.reply else {
            return Err(self.fails(expected));
        };
        match describe::difference(got, self.whose, &due(got.clone())) {
            None => Ok(got.clone()),
            Some(difference) => {
                let failure = Failure::new(self.sent.as_str(), difference, expected);
                Err(failure.because(self.cause()))
            }
        }
    }

    /// The same answer without the user.
    pub(super) fn without_user(self) -> Answer<()> {
        Answer::of_write(self.sent, self.reply)
    }
}

impl Answer<()> {
    pub(super) fn of_write<T>(sent: String, reply: Result<T, Refusal>) -> Self {
        Self { sent, reply: reply.map(|_| ()), whose: Whose::Unknown }
    }
}
