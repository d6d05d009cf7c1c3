//! Percentiles, resident memory, and the record of what a scenario found.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::harness::process::Process;

/// What a scenario found: its figures, printed as they come, and the bounds that did not hold.
pub struct Findings {
    scenario: &'static str,
    broken: usize,
}

impl Findings {
    pub fn of(scenario: &'static str) -> Self {
        Self { scenario, broken: 0 }
    }

    /// A line of figures.
    pub fn figures(&self, line: impl AsRef<str>) {
        println!("{}: {}", self.scenario, line.as_ref());
    }

    /// A bound. One that does not hold is printed with its name.
    pub fn bound(&mut self, name: &str, holds: bool) {
        if !holds {
            self.broken += 1;
            println!("{}: BROKEN: {name}", self.scenario);
        }
    }

    /// A program that has run under load must not have panicked, not even in one task.
    pub fn no_panic(&mut self, process: &Process) {
        let log = process.log();
        if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
            self.bound(&format!("no panic, but: {line}"), false);
        }
    }

    /// Those of a part of the scenario too.
    pub fn add(&mut self, part: Self) {
        self.broken += part.broken;
    }

    pub fn all_hold(&self) -> bool {
        self.broken == 0
    }
}

/// The value that so many in a hundred do not exceed (nearest rank).
pub fn percentile<T: Ord + Copy>(values: &mut [T], percent: usize) -> Option<T> {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

/// The value in the middle.
pub fn median<T: Ord + Copy>(values: &mut [T]) -> Option<T> {
    percentile(values, 50)
}

/// The resident memory of a process, in KiB.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// The processor time that a process has used, all its threads together, in hundredths of a second.
pub fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the program, in parentheses, may have spaces; user and system time are the 14th
    // and the 15th field.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|f| f.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// The median of the resident memory, sampled for a while.
pub async fn resident_for(pid: u32, time: Duration) -> u64 {
    let end = Instant::now() + time;
    let mut samples = vec![resident(pid)];
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
        samples.push(resident(pid));
    }
    median(&mut samples).unwrap()
}

/// The resident memory once it has stopped changing.
pub async fn settled(pid: u32) -> u64 {
    const SAME: usize = 5;
    let end = Instant::now() + Duration::from_secs(10);
    let (mut last, mut same) = (resident(pid), 0);
    while same < SAME && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = resident(pid);
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// A number as people read it: `23,412`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in milliseconds with two digits behind the point.
pub fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// KiB as MiB.
pub fn mebibytes(kibibytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is printed with one digit")]
    let mebibytes = kibibytes as f64 / 1024.0;
    format!("{mebibytes:.1} MiB")
}
