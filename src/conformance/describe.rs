//! Values, calls and answers as a report shows them: short, and so that a difference of one byte
//! can be seen.

use std::fmt::Write as _;

use crate::proto::{CreateUserRequest, UpdateUserPasswordHashRequest, User};

/// The longest value that is shown whole, in characters.
const LONGEST: usize = 160;

/// Text in quotes, what cannot be seen escaped; in the middle of long text something is left out.
pub(super) fn text(text: &str) -> String {
    // Not counted to its end: it may have a million.
    if text.chars().nth(LONGEST).is_none() {
        return format!("{text:?}");
    }
    let first: String = text.chars().take(80).collect();
    let last = text.char_indices().nth_back(19).map_or(text, |(at, _)| &text[at..]);
    format!("{first:?}…{last:?} ({} bytes)", text.len())
}

/// Bytes by their number and the first of them.
pub(super) fn bytes(bytes: &[u8]) -> String {
    let mut text = format!("{} bytes", bytes.len());
    for (number, byte) in bytes.iter().take(8).enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{byte:02x}", if number == 0 { " " } else { "" });
    }
    if bytes.len() > 8 {
        text.push('…');
    }
    text
}

pub(super) fn create(request: &CreateUserRequest) -> String {
    format!(
        "CreateUser {{ email_address: {}, password_hash: {}, password_hash_algorithm_id: {}, password_salt: {} }}",
        text(&request.email_address),
        bytes(&request.password_hash),
        text(&request.password_hash_algorithm_id),
        bytes(&request.password_salt)
    )
}

pub(super) fn update_password_hash(request: &UpdateUserPasswordHashRequest) -> String {
    format!(
        "UpdateUserPasswordHash {{ user_id: {}, password_hash: {}, password_hash_algorithm_id: {}, password_salt: {}, user_password_hash_counter: {} }}",
        text(&request.user_id),
        bytes(&request.password_hash),
        text(&request.password_hash_algorithm_id),
        bytes(&request.password_salt),
        request.user_password_hash_counter
    )
}

/// Whose user it is that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Made by this run.
    Ours,
    /// Perhaps a real one, whom a store answers by mistake: nothing that identifies a person or
    /// opens an account is shown.
    Unknown,
}

pub(super) fn user(user: &User, whose: Whose) -> String {
    let members: Vec<String> =
        members(user, whose).map(|(name, value)| format!("{name}: {value}")).into();
    format!("User {{ {} }}", members.join(", "))
}

/// In what a user, who is so and so, differs from the one who was due; nothing if in nothing.
pub(super) fn difference(got: &User, whose: Whose, due: &User) -> Option<String> {
    if got == due {
        return None;
    }
    let mut lines = Vec::new();
    let due_members = members(due, Whose::Ours);
    for ((name, got), (_, due)) in members(got, whose).into_iter().zip(due_members) {
        if got != due {
            lines.push(format!("{name} {got} where {due} was due"));
        }
    }
    // Long bytes may differ where they are not shown.
    lines.extend(first_difference("password_hash", &got.password_hash, &due.password_hash));
    lines.extend(first_difference("password_salt", &got.password_salt, &due.password_salt));
    Some(lines.join("; "))
}

fn first_difference(name: &str, got: &[u8], expected: &[u8]) -> Option<String> {
    let at = got.iter().zip(expected).position(|(got, expected)| got != expected)?;
    Some(format!("{name} differs first at byte {at}"))
}

fn members(user: &User, whose: Whose) -> [(&'static str, String); 11] {
    let personal = |value: &str| match whose {
        Whose::Unknown if !value.is_empty() => {
            format!("not of this run, so not shown ({} bytes)", value.len())
        }
        _ => text(value),
    };
    let secret = |value: &[u8]| match whose {
        Whose::Unknown => format!("{} bytes", value.len()),
        Whose::Ours => bytes(value),
    };
    [
        ("id", text(&user.id)),
        ("email_address", personal(&user.email_address)),
        ("password_hash", secret(&user.password_hash)),
        ("password_hash_algorithm_id", text(&user.password_hash_algorithm_id)),
        ("password_salt", secret(&user.password_salt)),
        ("disabled", user.disabled.to_string()),
        ("display_name", personal(&user.display_name)),
        ("email_address_counter", user.email_address_counter.to_string()),
        ("password_hash_counter", user.password_hash_counter.to_string()),
        ("disabled_counter", user.disabled_counter.to_string()),
        ("sessions_counter", user.sessions_counter.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_escaped_and_long_values_are_short() {
        assert_eq!(text("e\u{301} "), "\"e\\u{301} \"");
        let long = text(&"x".repeat(1 << 20));
        assert!(long.len() < 200 && long.contains("(1048576 bytes)"), "{long}");
        assert_eq!(bytes(b""), "0 bytes");
        assert_eq!(bytes(&[0, 255]), "2 bytes 00ff");
        assert_eq!(bytes(&[1; 9]), "9 bytes 0101010101010101…");
    }

    #[test]
    fn a_difference_names_the_members() {
        let one = User { id: "1".into(), password_hash: vec![0; 20].into(), ..User::default() };
        assert_eq!(difference(&one, Whose::Ours, &one), None);
        let mut other = one.clone();
        other.sessions_counter = 1;
        let mut hash = vec![0; 20];
        hash[15] = 1;
        other.password_hash = hash.into();
        assert_eq!(
            difference(&other, Whose::Ours, &one).unwrap(),
            "sessions_counter 1 where 0 was due; password_hash differs first at byte 15"
        );
    }

    #[test]
    fn of_a_user_who_may_be_real_nothing_is_shown_that_identifies_them() {
        let real = User {
            id: "7".into(),
            email_address: "secret@example.com".into(),
            password_hash: "secret".into(),
            password_salt: "secret".into(),
            display_name: "secret".into(),
            ..User::default()
        };
        let due = User { email_address: "due@example.com".into(), ..User::default() };
        let shown = user(&real, Whose::Unknown) + &difference(&real, Whose::Unknown, &due).unwrap();
        assert!(shown.contains("\"7\"") && shown.contains("18 bytes"), "{shown}");
        assert!(!shown.contains("secret") && !shown.contains("736563"), "{shown}");
    }
}
