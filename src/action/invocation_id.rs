//! The ID of one action invocation. `faroe-endpoint`, section 1.

use std::{cell::RefCell, fmt, str};

const ALPHABET: [u8; 32] = *b"abcdefghjkmnopqrstuvwxyz23456789";
const LENGTH: usize = 24;

/// 24 characters from `abcdefghjkmnopqrstuvwxyz23456789`, 5 random bits each, from the operating
/// system's cryptographic source. It identifies an invocation in the answer, the logs and the
/// calls of the store, and says nothing about the user.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ActionInvocationId([u8; LENGTH]);

impl ActionInvocationId {
    /// A new ID.
    ///
    /// # Errors
    ///
    /// If the operating system gives no random bytes.
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        random().map(|random| Self(random.map(character)))
    }

    /// The 24 characters.
    pub fn as_str(&self) -> &str {
        // All of the alphabet is ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Random bytes, of which each thread asks the system for many at once: a system call takes longer
/// than all else that an ID needs.
fn random() -> Result<[u8; LENGTH], getrandom::Error> {
    /// IDs for which there are bytes.
    const IDS: usize = 64;
    thread_local! {
        /// The bytes, and how many of the IDs have theirs.
        static BYTES: RefCell<([[u8; LENGTH]; IDS], usize)> = const { RefCell::new(([[0; LENGTH]; IDS], IDS)) };
    }
    BYTES.with_borrow_mut(|(bytes, used)| {
        if *used == IDS {
            getrandom::fill(bytes.as_flattened_mut())?;
            *used = 0;
        }
        *used += 1;
        Ok(std::mem::take(&mut bytes[*used - 1]))
    })
}

/// The character for the low 5 bits of a random byte.
fn character(byte: u8) -> u8 {
    ALPHABET[usize::from(byte) % ALPHABET.len()]
}

impl fmt::Display for ActionInvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ActionInvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_24_characters_of_the_alphabet_and_do_not_repeat() {
        let ids: Vec<_> =
            (0..1000).map(|_| ActionInvocationId::generate().unwrap().to_string()).collect();
        for id in &ids {
            assert_eq!(id.len(), 24);
            assert!(id.bytes().all(|byte| ALPHABET.contains(&byte)), "{id}");
        }
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn every_character_is_as_likely_as_any_other() {
        let mut counts = std::collections::HashMap::new();
        for byte in 0..=u8::MAX {
            *counts.entry(character(byte)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 32);
        assert!(counts.values().all(|count| *count == 8));
    }
}
