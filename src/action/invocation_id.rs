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
        random().map(Self::of)
    }

    /// Of 128 random bits the low 120 make a character for each 5.
    fn of(random: u128) -> Self {
        let mut rest = random;
        Self([(); LENGTH].map(|()| {
            let character = ALPHABET[(rest % 32) as usize];
            rest /= 32;
            character
        }))
    }

    /// The 24 characters.
    pub fn as_str(&self) -> &str {
        // All of the alphabet is ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Random bits, of which each thread asks the system for many at once: a system call takes longer
/// than all else that an ID needs.
fn random() -> Result<u128, getrandom::Error> {
    const BYTES: usize = size_of::<u128>();
    /// IDs for which there are bytes.
    const IDS: usize = 64;
    thread_local! {
        /// The bytes, and how many of the IDs have theirs.
        static RANDOM: RefCell<([[u8; BYTES]; IDS], usize)> = const { RefCell::new(([[0; BYTES]; IDS], IDS)) };
    }
    RANDOM.with_borrow_mut(|(bytes, used)| {
        if *used == IDS {
            getrandom::fill(bytes.as_flattened_mut())?;
            *used = 0;
        }
        *used += 1;
        Ok(u128::from_ne_bytes(std::mem::take(&mut bytes[*used - 1])))
    })
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
    fn every_character_is_5_bits_of_its_own() {
        let first = ActionInvocationId::of(0);
        assert_eq!(first.as_str(), "a".repeat(24));
        let changed = |random| {
            let id = ActionInvocationId::of(random).0;
            (0..LENGTH).filter(|at| id[*at] != first.0[*at]).collect::<Vec<_>>()
        };
        for bit in 0..120 {
            assert_eq!(changed(1 << bit), [bit / 5], "bit {bit}");
        }
        let characters = (0..32).map(|value| ActionInvocationId::of(value).0[0]);
        assert_eq!(characters.collect::<HashSet<_>>(), HashSet::from(ALPHABET));
    }
}
