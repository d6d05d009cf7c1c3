//! Mistakes with email addresses.

use super::{Broken, Cases::Fails, Fault};

pub(super) const STORES: &[Broken] = &[
    Broken {
        fault: Fault::LowerCasesAddresses,
        mistake: "email addresses are lower-cased before they are stored and looked for",
        cases: Fails("email.case email.update-is-byte-exact"),
    },
    Broken {
        fault: Fault::IgnoresCase,
        mistake: "the column of email addresses has a collation that ignores case",
        cases: Fails("email.case"),
    },
    Broken {
        fault: Fault::TrimsAddresses,
        mistake: "email addresses are trimmed",
        cases: Fails("email.trailing-space email.leading-space email.update-is-byte-exact"),
    },
    Broken {
        fault: Fault::IgnoresTrailingSpaces,
        mistake: "the column of email addresses has a collation that ignores spaces at the end (PAD SPACE)",
        cases: Fails("email.trailing-space"),
    },
    Broken {
        fault: Fault::NormalisesAddresses,
        mistake: "email addresses are brought to Unicode's NFC",
        cases: Fails("email.composed-and-decomposed email.update-is-byte-exact"),
    },
    Broken {
        fault: Fault::ComparesForPeople,
        mistake: "the column of email addresses has a collation for people: no case, no accents, nothing that cannot be seen",
        cases: Fails(
            "email.case email.composed-and-decomposed email.accents email.invisible-characters",
        ),
    },
    Broken {
        fault: Fault::ValidatesAddresses,
        mistake: "an email address without an @ and a domain with a dot behind it is refused",
        cases: Fails("email.not-validated"),
    },
    Broken {
        fault: Fault::TakesEmojiForOne,
        mistake: "the collation takes all characters of four bytes for one",
        cases: Fails("email.emoji"),
    },
    Broken {
        fault: Fault::StripsInvisible,
        mistake: "characters that cannot be seen are stripped from email addresses",
        cases: Fails("email.backslash email.invisible-characters values.nul-character"),
    },
    Broken {
        fault: Fault::LooksUpWithLike,
        mistake: "users are looked up with LIKE instead of =",
        cases: Fails("email.percent email.underscore email.backslash"),
    },
    Broken {
        fault: Fault::DecodesPercent,
        mistake: "email addresses travel in a URL inside, and %20 is decoded once too often",
        cases: Fails("email.percent"),
    },
    Broken {
        fault: Fault::QuoteEndsText,
        mistake: "a quotation mark ends the text in a statement that is put together by hand",
        cases: Fails("email.quote values.algorithm-as-sent"),
    },
    Broken {
        fault: Fault::BackslashEscapes,
        mistake: "a backslash escapes in a statement that is put together by hand",
        cases: Fails("email.backslash values.algorithm-as-sent"),
    },
    Broken {
        fault: Fault::FourBytesAreQuestionMarks,
        mistake: "the character set knows no characters of four bytes, and ? stands for them",
        cases: Fails("email.emoji values.algorithm-as-sent"),
    },
    Broken {
        fault: Fault::RefusesAbove255,
        mistake: "the column of email addresses is a VARCHAR(255) in strict mode",
        cases: Fails("email.320-bytes email.1000-characters"),
    },
    Broken {
        fault: Fault::RefusesAbove320,
        mistake: "the column of email addresses is a VARCHAR(320) in strict mode",
        cases: Fails("email.1000-characters"),
    },
    Broken {
        fault: Fault::CutsAddresses,
        mistake: "the column of email addresses is a VARCHAR(255) that cuts what is longer",
        cases: Fails(
            "email.320-bytes email.1000-characters values.too-large-email-address
             values.too-large-updates",
        ),
    },
    Broken {
        fault: Fault::CutsChangedAddresses,
        mistake: "an update cuts email addresses after 320 bytes",
        cases: Fails("values.too-large-updates"),
    },
    Broken {
        fault: Fault::CutsAndRefuses,
        mistake: "CreateUser cuts email addresses after 255 bytes, then sees that it did, and does not roll back",
        cases: Fails("email.320-bytes email.1000-characters values.too-large-email-address"),
    },
];
