//! The report: tables for people, JSON, plots.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    figures::{mebibytes, thousands},
    goals::Goal,
    plots,
    record::{Record, throughput, whole},
    sections::Section,
    startup::Startup,
};

/// A section as a table of Markdown.
pub fn table(section: &Section) -> String {
    let mut table = format!(
        "### {}\n\n| | store | action | protocol | connections | users | requests/s | p50 µs | \
         p99 µs | p99.9 µs | CPU µs | store CPU µs | memory |\n\
         |---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        section.title
    );
    for record in &section.records {
        let key = &record.key;
        table += &format!(
            "| {} | {} | {} | {} | {} {} | {} | {} | {} | {:.1} | {:.1} | {} |\n",
            key.who,
            key.store,
            key.action,
            key.protocol,
            key.connections,
            key.pacing,
            thousands(key.users),
            whole(record.throughput()),
            [50.0, 99.0, 99.9].map(|percent| whole(record.latency(percent))).join(" | "),
            record.server(),
            record.store(),
            mebibytes(record.resident()),
        );
    }
    table
}

/// Everything as JSON.
fn json(sections: &[Section], startup: Option<Startup>, goals: &[Goal]) -> Value {
    let record = |record: &Record| {
        json!({
            "what": record.key,
            "requests": record.requests(),
            "failed": record.failed(),
            "requests_per_second": record.throughput(),
            "requests_per_second_of_each_slice":
                record.slices().iter().map(throughput).collect::<Vec<_>>(),
            "latency_us": {
                "p50": record.latency(50.0),
                "p99": record.latency(99.0),
                "p99_9": record.latency(99.9),
            },
            "server_cpu_us": record.server(),
            "store_cpu_us": record.store(),
            "load_cpu_us": record.client(),
            "resident_kib": record.resident(),
        })
    };
    let section = |section: &Section| {
        json!({
            "title": section.title,
            "measurements": section.records.iter().map(record).collect::<Vec<_>>(),
        })
    };
    json!({
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "sections": sections.iter().map(section).collect::<Vec<_>>(),
        "startup": startup,
        "goals": goals,
    })
}

/// Where the report goes: into `target`.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("speed");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Writes JSON and plots, and says where they are.
pub fn write(sections: &[Section], startup: Option<Startup>, goals: &[Goal]) {
    let folder = folder();
    let file = folder.join("speed.json");
    let text = serde_json::to_string_pretty(&json(sections, startup, goals)).unwrap();
    fs::write(&file, text + "\n").unwrap();
    eprintln!("{}", file.display());
    for (name, svg) in plots::of(sections) {
        let file = folder.join(name);
        fs::write(&file, svg).unwrap();
        eprintln!("{}", file.display());
    }
}
