//! The operational figures: what the running program holds under load, reloads, drains and faults.
//!
//! `cargo bench --bench operation -- [SCENARIO…] [--quick] [--minutes N]`
//!
//! Each scenario starts the real program, prints its figures beside what is allowed, and fails if a
//! bound is broken or the program has panicked. Without a scenario all run but the soak, which takes
//! `--minutes` (10 by default); `--quick` measures for less long, with the same bounds.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot be made ends in a panic, and nobody else calls this"
)]

#[allow(dead_code, unused_imports, unused_macros, reason = "the tests use the rest of it")]
#[path = "../../tests/it/harness/mod.rs"]
mod harness;

#[path = "../shared/bare.rs"]
mod bare;
mod drain;
mod figures;
mod idle_connections;
mod load;
mod material;
mod overload;
mod reload;
mod sidecar;
mod sizing;
mod slow_headers;
mod soak;
mod store_away;

use std::{future::Future, pin::Pin, process::ExitCode};

use self::figures::Findings;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    quick: bool,
    /// The length of the soak.
    minutes: u32,
}

impl Scale {
    /// The one or the other.
    fn of<T>(self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }
}

type Scenario = fn(Scale) -> Pin<Box<dyn Future<Output = Findings> + Send>>;

const SCENARIOS: [(&str, Scenario); 8] = [
    ("reload", |scale| Box::pin(reload::run(scale))),
    ("drain", |scale| Box::pin(drain::run(scale))),
    ("store-away", |scale| Box::pin(store_away::run(scale))),
    ("slow-headers", |scale| Box::pin(slow_headers::run(scale))),
    ("idle-connections", |scale| Box::pin(idle_connections::run(scale))),
    ("overload", |scale| Box::pin(overload::run(scale))),
    ("sizing", |scale| Box::pin(sizing::run(scale))),
    (LONG, |scale| Box::pin(soak::run(scale))),
];

/// The scenario that runs only if it is named.
const LONG: &str = "soak";

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == bare::ARGUMENT).is_some() {
        bare::serve(arguments).await;
        return ExitCode::SUCCESS;
    }
    let arguments = arguments.map(|argument| argument.into_string().unwrap());
    let (names, scale) = match parse(arguments) {
        Ok(parsed) => parsed,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    raise_descriptors();
    let (mut passed, mut failed) = (0, 0);
    for (name, scenario) in SCENARIOS {
        let wanted = if names.is_empty() { name != LONG } else { names.iter().any(|n| n == name) };
        if !wanted {
            continue;
        }
        // A task of its own: one that panics does not take the others with it.
        match tokio::spawn(scenario(scale)).await {
            Ok(findings) if findings.all_hold() => passed += 1,
            Ok(_) => failed += 1,
            Err(_) => {
                println!("{name}: BROKEN: it ended before its end");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The scenarios that are named, and how much of them.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Vec<String>, Scale), String> {
    let mut names = Vec::new();
    let mut scale = Scale { quick: false, minutes: 10 };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo says so to every benchmark.
            "--bench" => {}
            "--quick" => scale.quick = true,
            "--minutes" => {
                scale.minutes = arguments
                    .next()
                    .and_then(|minutes| minutes.parse().ok())
                    .filter(|minutes| *minutes >= 2)
                    .ok_or("--minutes takes a number, at least 2")?;
            }
            name if SCENARIOS.iter().any(|(known, _)| *known == name) => names.push(argument),
            _ => {
                let names = SCENARIOS.map(|(name, _)| name).join(", ");
                return Err(format!("{argument}: there are {names}, --quick and --minutes"));
            }
        }
    }
    Ok((names, scale))
}

/// A thousand connections need more descriptors than a process may have by default, here and in the
/// programs that are started from here.
fn raise_descriptors() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
}
