//! A server that is measured: a process whose output goes to a file, as under a service manager,
//! and which is killed when it is dropped.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::harness::process::PATIENCE;

pub struct Daemon {
    child: Child,
    output: PathBuf,
    _folder: TempDir,
    started: Instant,
}

impl Daemon {
    pub fn start(mut command: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        let file = File::create(&output).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let started = Instant::now();
        Self { child: command.spawn().unwrap(), output, _folder: folder, started }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a whole line of its output with `part` in it, and says how long after the start it
    /// was there.
    pub fn wait_for(&mut self, part: &str) -> (String, Duration) {
        loop {
            let output = fs::read_to_string(&self.output).unwrap();
            let mut lines = output.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            if let Some(line) = lines.find(|line| line.contains(part)) {
                return (line.trim_end().to_owned(), self.started.elapsed());
            }
            let has_ended = self.child.try_wait().unwrap().is_some();
            assert!(
                !has_ended && self.started.elapsed() < PATIENCE,
                "no {part:?} in the output:\n{output}"
            );
            thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
