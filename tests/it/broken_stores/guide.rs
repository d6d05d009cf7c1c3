//! The guide of `examples/` says by which cases a mistake is seen: a store with the mistake fails
//! them.

use std::{collections::BTreeSet, fs, path::Path};

use super::{
    due,
    faults::{Fault, broken},
};

/// How the mistakes of the guide begin that cases see, and the stores that have them.
const MISTAKES: &[(&str, &[Fault])] = &[
    ("Read the user, compare", &[Fault::ReadsModifiesWrites]),
    ("Look whether the address is free", &[Fault::LooksBeforeItWrites]),
    ("The unique violation is turned", &[Fault::TakenIsUnknown]),
    ("The address is looked at before", &[Fault::LooksAddressUpFirst]),
    (
        "A column that ignores case",
        &[Fault::IgnoresCase, Fault::IgnoresTrailingSpaces, Fault::ComparesForPeople],
    ),
    ("Addresses are trimmed", &[Fault::TrimsAddresses, Fault::LowerCasesAddresses]),
    ("A user who is not there", &[Fault::AbsentIsDefault, Fault::AbsentAddressIsDefault]),
    ("A field is left out", &[Fault::HidesHashes, Fault::HidesAddresses, Fault::ForgetsAlgorithm]),
    ("An exception that nothing catches", &[Fault::TakenIsUnknown]),
    ("The service is registered", &[Fault::IsElsewhere]),
    ("The server refuses calls", &[Fault::RefusesWhenBusy]),
    ("Setting the address", &[Fault::OwnAddressIsTaken, Fault::LeavesSameAlone]),
    ("`id` is a UUID", &[Fault::OtherFormIsInvalid, Fault::UuidColumn, Fault::ParsesNumberOfId]),
    ("IDs are the highest", &[Fault::ReusesIds]),
    ("Empty bytes become NULL", &[Fault::EmptyIsMissing]),
    ("`BLOB` in MySQL", &[Fault::CutsBytes, Fault::CutsAddresses]),
    ("Reads from a replica", &[Fault::ReadsLag]),
    ("The driver's message", &[Fault::StatusNamesAddress]),
];

fn fails(fault: Fault) -> BTreeSet<&'static str> {
    due(broken().find(|broken| broken.fault == fault).unwrap())
}

#[test]
fn the_cases_that_the_guide_names_see_the_mistake() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/README.md");
    let guide = fs::read_to_string(guide).unwrap();
    let (_, table) = guide.split_once("| mistake | what it does | seen by |").unwrap();
    let mut left: Vec<_> = MISTAKES.iter().collect();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let mistake = cells[0].trim_start_matches("| ");
        let named: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        let Some(at) = left.iter().position(|(beginning, _)| mistake.starts_with(beginning)) else {
            assert!(named.is_empty(), "no store makes this mistake: {mistake}");
            continue;
        };
        let (_, faults) = left.swap_remove(at);
        for case in &named {
            let seen = faults.iter().any(|fault| fails(*fault).contains(case));
            assert!(seen, "{mistake}: {case} does not see it");
        }
        for fault in *faults {
            let seen = named.iter().any(|case| fails(*fault).contains(case));
            assert!(seen, "{mistake}: {fault:?} is seen by none of {named:?}");
        }
    }
    assert!(left.is_empty(), "not in the guide: {left:?}");
}
