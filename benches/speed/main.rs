//! How fast it is: faroe-sidecar beside the floors that nobody gets below, and beside user servers
//! made of what people use today.
//!
//! `cargo bench --bench speed -- [goals] [--quick]`
//!
//! Everything runs on this machine, on servers and databases that it starts itself. It prints tables,
//! and at the end the goals with what was found of them; JSON and plots go to `target/speed`. With
//! `goals` it measures only what those need. `--quick` measures for less long, and the largest table
//! has a million users. A goal that is not reached does not fail it; a request that fails does.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot be made ends in a panic, and nobody else calls this"
)]

#[path = "../shared/bare.rs"]
mod bare;
#[allow(dead_code, reason = "the operational figures use the rest of it")]
#[path = "../operation/figures.rs"]
mod figures;
#[allow(dead_code, unused_imports, unused_macros, reason = "the tests use the rest of it")]
#[path = "../../tests/it/harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "the operational figures use the rest of it")]
#[path = "../operation/load.rs"]
mod load;
#[path = "../shared/memory.rs"]
mod memory;
#[path = "../shared/users.rs"]
mod users;

mod daemon;
mod databases;
mod floors;
mod goals;
mod memory_server;
mod peers;
mod plots;
mod record;
mod report;
mod sections;
mod slice;
mod stage;
mod startup;
mod usage;
mod wire;
mod work;

use std::process::ExitCode;

use self::{sections::Scale, stage::Stage};

/// The floors and what is served in memory are this program: they have the allocator of `faroe-sidecar`.
#[cfg(target_arch = "x86_64")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let threads = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut wanted = Wanted { goals_only: false, scale: Scale::Full };
    while let Some(argument) = arguments.next() {
        match argument.to_str().unwrap() {
            // Cargo says so to every benchmark.
            "--bench" => {}
            "goals" => wanted.goals_only = true,
            "--quick" => wanted.scale = Scale::Quick,
            bare::ARGUMENT => {
                threads().block_on(bare::serve(arguments));
                return ExitCode::SUCCESS;
            }
            memory_server::ENDPOINT => {
                threads().block_on(memory_server::serve_endpoint(arguments));
                return ExitCode::SUCCESS;
            }
            memory_server::STORE => {
                threads().block_on(memory_server::serve_store(arguments));
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("{other}: there are goals and --quick");
                return ExitCode::from(2);
            }
        }
    }
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    // One thread, so that the load leaves the other processors to what is measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(wanted))
}

struct Wanted {
    goals_only: bool,
    scale: Scale,
}

async fn measure(wanted: Wanted) -> ExitCode {
    let mut stage = Stage::new();
    let (mut sections, startup, goals) = sections::goals(&mut stage, wanted.scale).await;
    if !wanted.goals_only && wanted.scale == Scale::Full {
        sections.extend(sections::rest(&mut stage, wanted.scale).await);
    }
    for section in &sections {
        println!("{}", report::table(section));
    }
    println!("### Goals\n\n{}", goals::table(&goals));
    report::write(&sections, Some(startup), &goals);
    let mut end = ExitCode::SUCCESS;
    for record in sections.iter().flat_map(|section| &section.records) {
        if record.failed() > 0 {
            eprintln!("{} requests failed: {:?}", record.failed(), record.key);
            end = ExitCode::FAILURE;
        }
    }
    end
}
