//! What processes have used: processor time to the nanosecond, all threads counted, those that have
//! ended too; and resident memory.

use std::{collections::HashMap, fs, time::Duration};

use nix::{time::clock_getcpuclockid, unistd::Pid};

use crate::figures::resident;

/// The processor time that a process has used so far; nothing, if it has ended.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let pid = Pid::from_raw(pid.try_into().unwrap());
    Some(clock_getcpuclockid(pid).ok()?.now().ok()?.into())
}

/// The processes whose use is counted together.
#[derive(Debug, Clone)]
pub enum Group {
    /// Nobody.
    None,
    /// One process.
    Process(u32),
    /// The descendants of this program that have this name: a database server has a process for
    /// each connection.
    Named(&'static str),
}

impl Group {
    fn pids(&self) -> Vec<u32> {
        match self {
            Self::None => Vec::new(),
            Self::Process(pid) => vec![*pid],
            Self::Named(name) => named(name),
        }
    }

    /// What they have used so far, each by itself.
    pub fn times(&self) -> Times {
        let pids = self.pids().into_iter();
        Times(pids.filter_map(|pid| Some((pid, processor_time(pid)?))).collect())
    }

    /// Their resident memory, in KiB.
    pub fn resident(&self) -> u64 {
        self.pids().into_iter().map(resident).sum()
    }
}

/// Processor times at a moment, by process.
pub struct Times(HashMap<u32, Duration>);

impl Times {
    /// What was used since. A process that is new counts whole.
    pub fn since(&self, before: &Self) -> Duration {
        let used = |(pid, time): (&u32, &Duration)| {
            time.saturating_sub(before.0.get(pid).copied().unwrap_or_default())
        };
        self.0.iter().map(used).sum()
    }
}

fn named(name: &str) -> Vec<u32> {
    let mut processes = HashMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // pid (name) state parent …
        let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
        let command = head.split_once('(').map_or("", |(_, name)| name);
        let parent = tail.split(' ').nth(1).and_then(|parent| parent.parse::<u32>().ok());
        processes.insert(pid, (parent.unwrap_or_default(), command == name));
    }
    let ours = std::process::id();
    let is_ours = |pid: u32| {
        let above = |pid: &u32| processes.get(pid).map(|(parent, _)| *parent);
        std::iter::successors(Some(pid), above).any(|pid| pid == ours)
    };
    let matching = processes.iter().filter(|(pid, (_, matches))| *matches && is_ours(**pid));
    matching.map(|(pid, _)| *pid).collect()
}
