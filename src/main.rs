//! The program `faroe-sidecar`; everything is in the library.

use std::process::ExitCode;

#[cfg(target_arch = "x86_64")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    faroe_sidecar::cli::run(std::env::args_os())
}
