//! How many instructions the hot path takes, counted by callgrind, beside the baseline of this
//! compiler: `cargo bench --bench instructions -- [--renew]`.
//!
//! A count does not depend on what else the machine does; nor on the time, with the allocator of the
//! system in place of the program's. More than [`TOLERANCE`] away from the baseline in either
//! direction fails, and so does a compiler that has no baseline: `--renew` writes one. `tests/guard`
//! installs what is needed and runs this.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement that cannot be made ends in a panic, and nobody else calls this"
)]

#[path = "shared/hot_path.rs"]
mod hot_path;
#[path = "shared/memory.rs"]
mod memory;
#[allow(dead_code, reason = "the other benchmarks use the rest of it")]
#[path = "shared/users.rs"]
mod users;

use std::{
    env, fs,
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use self::hot_path::{HotPath, get_user, update_user_password_hash, wrong_create_user};

/// In percent of the baseline.
const TOLERANCE: f64 = 3.0;

/// How often a part of the path is gone through: what the difference of two numbers of times takes is
/// what it takes alone, without the start of the program.
const TIMES: [u32; 2] = [500, 1_500];

const PARTS: [&str; 5] =
    ["get_user", "update_user_password_hash", "decode create_user", "certificate", "authorize"];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => guard(false),
        ["--renew"] => guard(true),
        ["go-through", part, times] => {
            go_through(part, times.parse().unwrap());
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("{other:?}: there is --renew");
            ExitCode::from(2)
        }
    }
}

/// What is counted.
fn go_through(part: &str, times: u32) {
    let path = HotPath::new();
    let peer = path.peer();
    let wrong = wrong_create_user();
    for turn in 0..times {
        match part {
            "get_user" => path.resolve(&get_user(turn.into())),
            "update_user_password_hash" => {
                path.resolve(&update_user_password_hash(turn.try_into().unwrap()));
            }
            "decode create_user" => path.decode(&wrong),
            "certificate" => drop(black_box(path.peer())),
            "authorize" => assert!(path.allow.allows(black_box(&peer))),
            _ => panic!("no part {part}"),
        }
    }
}

/// The instructions of one time.
fn count(part: &str) -> u64 {
    let [few, many] = TIMES.map(|times| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(env::current_exe().unwrap())
            .args(["go-through", part, &times.to_string()])
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .output()
            .unwrap_or_else(|error| panic!("valgrind: {error}: apt-get install valgrind"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        // "==PID== Collected : NUMBER"
        let collected = said.lines().find_map(|line| line.split_once("Collected : "));
        let (_, number) = collected.unwrap_or_else(|| panic!("no count: {said}"));
        number.trim().parse::<u64>().unwrap()
    });
    (many - few) / u64::from(TIMES[1] - TIMES[0])
}

fn guard(renew: bool) -> ExitCode {
    let compiler = compiler();
    let counts = PARTS.map(|part| (part, count(part)));
    if renew {
        write(&compiler, &counts);
        return ExitCode::SUCCESS;
    }
    let baseline = baseline(&compiler);
    let mut fails = false;
    for (part, count) in counts {
        let Some((_, due)) = baseline.iter().find(|(known, _)| known == part) else {
            println!("{part}: {count} instructions, and no baseline for rustc {compiler}");
            fails = true;
            continue;
        };
        let change = percent(count, *due);
        let is_off = change.abs() > TOLERANCE;
        fails |= is_off;
        let verdict = if is_off { ": BROKEN" } else { "" };
        println!("{part}: {count} instructions, baseline {due}, {change:+.2} %{verdict}");
    }
    if fails {
        println!(
            "If that is meant to be so, `tests/guard --renew` writes what was counted to {}: commit \
             it with the change and say in the message why.",
            file().display()
        );
        return ExitCode::FAILURE;
    }
    println!("all within {TOLERANCE} % of the baseline for rustc {compiler}");
    ExitCode::SUCCESS
}

#[expect(clippy::cast_precision_loss, reason = "counts of instructions are far from 2^52")]
fn percent(count: u64, baseline: u64) -> f64 {
    (count as f64 / baseline as f64 - 1.0) * 100.0
}

/// A line for each compiler and part: `RUSTC ARCHITECTURE: PART: COUNT`.
fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

fn baseline(compiler: &str) -> Vec<(String, u64)> {
    let text = fs::read_to_string(file()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let (version, rest) = line.split_once(": ")?;
        let (part, count) = rest.split_once(": ")?;
        (version == compiler).then(|| Some((part.to_owned(), count.parse().ok()?)))?
    });
    lines.collect()
}

/// Writes the counts of this compiler, and keeps those of others.
fn write(compiler: &str, counts: &[(&str, u64)]) {
    let text = fs::read_to_string(file()).unwrap_or_default();
    let ours = format!("{compiler}: ");
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.starts_with(&ours)).map(str::to_owned).collect();
    for (part, count) in counts {
        println!("{part}: {count} instructions");
        lines.push(format!("{ours}{part}: {count}"));
    }
    fs::write(file(), lines.join("\n") + "\n").unwrap();
}

/// The compiler that Cargo uses here, and what it compiles for, such as `1.95.0 x86_64`.
fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    format!("{} {}", said.split(' ').nth(1).unwrap(), env::consts::ARCH)
}
