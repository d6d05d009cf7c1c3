//! Sidecars to measure: with the log level of production, and options of the scenario's own.

use std::{path::Path, sync::Arc};

use tokio::task::block_in_place;

use crate::harness::process::{Pki, Process, Sidecar, program};

/// A sidecar, when it is ready. An option that the harness sets too has this value; one that takes
/// no value has an empty one.
pub fn ready(pki: &Arc<Pki>, store: &str, options: &[(&str, &str)]) -> Sidecar {
    let mut arguments = pki.serve_options(store);
    for (flag, value) in [("--log-level", "info")].iter().chain(options) {
        match arguments.iter().position(|argument| argument == flag) {
            Some(at) => arguments[at + 1] = (*value).to_owned(),
            None => {
                let given = [*flag, *value].into_iter().filter(|argument| !argument.is_empty());
                arguments.extend(given.map(str::to_owned));
            }
        }
    }
    block_in_place(|| {
        let sidecar = Sidecar::of_process(Process::start(program(arguments)), Arc::clone(pki));
        sidecar.wait_until_ready();
        sidecar
    })
}

/// A path as an option has it.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
