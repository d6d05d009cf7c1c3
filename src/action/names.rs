//! The seven actions: what Faroe calls them, and what the store does.

use std::fmt;

/// The seven actions. `faroe-endpoint`, section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Creates a user.
    CreateUser,
    /// Looks a user up by ID.
    GetUser,
    /// Looks a user up by email address.
    GetUserByEmailAddress,
    /// Sets the email address, if its counter is as given.
    UpdateUserEmailAddress,
    /// Sets the password hash, if its counter is as given.
    UpdateUserPasswordHash,
    /// Signs the user out everywhere, if the sessions counter is as given.
    IncrementUserSessionsCounter,
    /// Deletes a user.
    DeleteUser,
}

impl Action {
    /// All of them, in the order of the specification, which is that of their declaration.
    pub const ALL: [Self; 7] = [
        Self::CreateUser,
        Self::GetUser,
        Self::GetUserByEmailAddress,
        Self::UpdateUserEmailAddress,
        Self::UpdateUserPasswordHash,
        Self::IncrementUserSessionsCounter,
        Self::DeleteUser,
    ];

    /// The name as Faroe writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CreateUser => "create_user",
            Self::GetUser => "get_user",
            Self::GetUserByEmailAddress => "get_user_by_email_address",
            Self::UpdateUserEmailAddress => "update_user_email_address",
            Self::UpdateUserPasswordHash => "update_user_password_hash",
            Self::IncrementUserSessionsCounter => "increment_user_sessions_counter",
            Self::DeleteUser => "delete_user",
        }
    }

    /// The method of the store that it calls. `user-store`, "Service".
    pub const fn method(self) -> &'static str {
        match self {
            Self::CreateUser => "CreateUser",
            Self::GetUser => "GetUser",
            Self::GetUserByEmailAddress => "GetUserByEmailAddress",
            Self::UpdateUserEmailAddress => "UpdateUserEmailAddress",
            Self::UpdateUserPasswordHash => "UpdateUserPasswordHash",
            Self::IncrementUserSessionsCounter => "IncrementUserSessionsCounter",
            Self::DeleteUser => "DeleteUser",
        }
    }

    /// Whether the action changes nothing.
    pub const fn is_read(self) -> bool {
        matches!(self, Self::GetUser | Self::GetUserByEmailAddress)
    }

    pub(super) const fn sets_email_address(self) -> bool {
        matches!(self, Self::CreateUser | Self::UpdateUserEmailAddress)
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_has_its_place_among_all() {
        for (place, action) in Action::ALL.into_iter().enumerate() {
            assert_eq!(action as usize, place, "{action}");
        }
    }
}
