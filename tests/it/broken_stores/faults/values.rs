//! Mistakes with all other values.

use super::{Broken, Cases::Fails, Fault};

pub(super) const STORES: &[Broken] = &[
    Broken {
        fault: Fault::BytesAreText,
        mistake: "hash and salt are stored as text, and what is no UTF-8 is replaced",
        cases: Fails(
            "create.returns-what-was-sent values.all-bytes values.all-bytes-updated values.64-kib
             values.64-kib-updated values.algorithm-as-sent values.too-large-email-address
             values.too-large-password-hash values.too-large-algorithm values.too-large-salt
             values.too-large-updates values.nul-character update-password-hash.sets-and-counts
             update-password-hash.moves-no-other-counter delete.frees-the-email-address
             consistency.reads-see-updates
             race.creates-of-one-address race.updates-of-one-password-hash
             race.different-updates-of-one-user race.reads-during-updates",
        ),
    },
    Broken {
        fault: Fault::CutsBytes,
        mistake: "hash and salt are BLOBs that cut after 65,535 bytes",
        cases: Fails(
            "values.64-kib values.64-kib-updated values.too-large-password-hash
             values.too-large-salt values.too-large-updates",
        ),
    },
    Broken {
        fault: Fault::RefusesBytesAbove1024,
        mistake: "hash and salt are VARBINARY(1024) in strict mode",
        cases: Fails("values.64-kib values.64-kib-updated"),
    },
    Broken {
        fault: Fault::EmptyIsMissing,
        mistake: "an empty hash or salt is refused as missing",
        cases: Fails("values.empty values.empty-updated"),
    },
    Broken {
        fault: Fault::EmptyKeepsOld,
        mistake: "an update takes an empty hash for one that is not to be changed",
        cases: Fails("values.empty-updated"),
    },
    Broken {
        fault: Fault::LowerCasesAlgorithms,
        mistake: "the name of the algorithm is lower-cased",
        cases: Fails("values.algorithm-as-sent"),
    },
    Broken {
        fault: Fault::CutsAlgorithms,
        mistake: "the column of the algorithm is a VARCHAR(128) that cuts what is longer",
        cases: Fails("values.too-large-algorithm values.too-large-updates"),
    },
    Broken {
        fault: Fault::EndsTextAtNul,
        mistake: "text ends at a NUL character",
        cases: Fails("values.nul-character"),
    },
    Broken {
        fault: Fault::CreatesInTwoSteps,
        mistake: "a user is inserted, the password then, and no transaction holds the two together",
        cases: Fails(
            "values.too-large-password-hash values.too-large-algorithm values.too-large-salt",
        ),
    },
];
