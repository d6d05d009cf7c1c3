//! The goals: what is due of the ratios of one run, and what this one found.

use serde::Serialize;

use crate::{
    record::{Record, half, server, throughput},
    startup::Startup,
};

/// What has to hold.
#[derive(Debug, Clone, Copy, Serialize)]
enum Due {
    AtMost(f64),
    AtLeast(f64),
}

/// A goal, and what was found of it.
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    what: &'static str,
    due: Due,
    unit: &'static str,
    found: f64,
    /// What it is made of.
    measured: String,
}

impl Goal {
    fn is_reached(&self) -> bool {
        match self.due {
            Due::AtMost(limit) => self.found <= limit,
            Due::AtLeast(limit) => self.found >= limit,
        }
    }
}

fn goal(what: &'static str, due: Due, unit: &'static str, found: f64, measured: String) -> Goal {
    Goal { what, due, unit, found, measured }
}

/// What the goals on `get_user` over 32 connections need.
pub struct Reads {
    pub floor: Record,
    pub floor_with_grpc: Record,
    pub memory: Record,
    pub grpc: Record,
    pub sqlite: Record,
    pub sqlite_node: Record,
    pub postgres: Record,
    pub postgres_node: Record,
    pub mariadb: Record,
    pub mariadb_node: Record,
}

impl Reads {
    pub fn goals(&self) -> Vec<Goal> {
        let processor = |what, limit, ours: &Record, floor: &Record| {
            let measured = format!("{:.1} of {:.1} µs", ours.server(), floor.server());
            goal(what, Due::AtMost(limit), "", ours.ratio(floor, server), measured)
        };
        let faster = |what, limit, ours: &Record, node: &Record| {
            let measured =
                format!("{:.0} of {:.0} requests a second", ours.throughput(), node.throughput());
            goal(what, Due::AtLeast(limit), "", ours.ratio(node, throughput), measured)
        };
        vec![
            processor(
                "get_user, in-memory store: CPU against the mutual-TLS floor",
                1.25,
                &self.memory,
                &self.floor,
            ),
            processor(
                "get_user, gRPC store over a Unix socket: CPU against floor + bare tonic client",
                1.25,
                &self.grpc,
                &self.floor_with_grpc,
            ),
            processor("get_user, SQLite: CPU against the floor", 2.5, &self.sqlite, &self.floor),
            faster(
                "get_user, SQLite: throughput against the Node peer",
                5.0,
                &self.sqlite,
                &self.sqlite_node,
            ),
            faster(
                "get_user, PostgreSQL: throughput against the Node peer",
                4.0,
                &self.postgres,
                &self.postgres_node,
            ),
            faster(
                "get_user, MariaDB: throughput against the Node peer",
                4.0,
                &self.mariadb,
                &self.mariadb_node,
            ),
        ]
    }
}

pub fn single_client(ours: &Record, node: &Record) -> Goal {
    let measured = format!("{:.0} of {:.0} µs", ours.latency(50.0), node.latency(50.0));
    let what = "single client, SQLite: median latency against the Node peer";
    goal(what, Due::AtMost(0.7), "", ours.ratio(node, half), measured)
}

pub fn durable_writes(ours: &Record, commits: &Record) -> Goal {
    let measured =
        format!("{:.0} of {:.0} writes a second", ours.throughput(), commits.throughput());
    let what = "create_user, SQLite, durable, 64 clients: throughput against one commit a write";
    goal(what, Due::AtLeast(8.0), "", ours.ratio(commits, throughput), measured)
}

pub fn table_size(what: &'static str, many: &Record, few: &Record) -> Goal {
    let measured = format!("{:.1} of {:.1} µs", many.server(), few.server());
    goal(what, Due::AtMost(1.3), "", many.ratio(few, server), measured)
}

pub fn resumed_handshakes(ours: &Record, bare: &Record) -> Goal {
    let measured = format!(
        "{:.0} of {:.0} a second; CPU {:.0} of {:.0} µs",
        ours.throughput(),
        bare.throughput(),
        ours.server(),
        bare.server()
    );
    let what = "resumed handshakes a second against a bare rustls server";
    goal(what, Due::AtLeast(0.9), "", ours.ratio(bare, throughput), measured)
}

#[expect(clippy::cast_precision_loss, reason = "memory and file sizes are far from 2^52")]
pub fn program(startup: &Startup, loaded: &Record) -> Vec<Goal> {
    const MIB: f64 = 1024.0;
    let memory = |what, limit, kibibytes: u64| {
        goal(what, Due::AtMost(limit), " MiB", kibibytes as f64 / MIB, String::new())
    };
    vec![
        memory("idle memory, SQLite", 16.0, startup.idle_kib),
        memory("memory under 32 connections at full load, SQLite", 28.0, loaded.resident()),
        goal(
            "ready after start, SQLite",
            Due::AtMost(30.0),
            " ms",
            startup.ready_ms,
            String::new(),
        ),
        goal(
            "binary, stripped",
            Due::AtMost(16.0),
            " MiB",
            startup.program_bytes as f64 / MIB / MIB,
            String::new(),
        ),
    ]
}

/// The goals as a table of Markdown.
pub fn table(goals: &[Goal]) -> String {
    let mut table = String::from("| goal | due | found | | measured |\n|---|---|---|---|---|\n");
    for goal in goals {
        let due = match goal.due {
            Due::AtMost(limit) => format!("≤ {limit}{}", goal.unit),
            Due::AtLeast(limit) => format!("≥ {limit}{}", goal.unit),
        };
        let verdict = if goal.is_reached() { "reached" } else { "**not reached**" };
        let Goal { what, found, unit, measured, .. } = goal;
        table += &format!("| {what} | {due} | {found:.2}{unit} | {verdict} | {measured} |\n");
    }
    table
}
