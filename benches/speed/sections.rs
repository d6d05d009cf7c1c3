//! What is measured beside what.

use std::{sync::Arc, time::Duration};

use crate::{
    floors,
    goals::{self, Goal, Reads},
    harness::database::Kind,
    peers::Peer,
    record::{Job, Key, Measure, Record, Rounds, interleave},
    slice::{self, Load, Pacing},
    stage::{Behind, Stage, USERS, Who},
    startup::{self, Startup},
    wire::Protocol,
    work::{self, ACTIONS},
};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// What continuous integration has time for.
    Quick,
    Full,
}

impl Scale {
    fn rounds(self, count: usize, seconds: f64) -> Rounds {
        match self {
            // A server that compiles while it runs is at its best after a second or two.
            Self::Quick => Rounds {
                count: 3,
                length: Duration::from_millis(700),
                warm_up: Duration::from_millis(1_500),
            },
            Self::Full => {
                let length = Duration::from_secs_f64(seconds);
                Rounds { count, length, warm_up: length / 3 }
            }
        }
    }

    /// The users of the largest table.
    fn many(self) -> u64 {
        match self {
            Self::Quick => 1_000_000,
            Self::Full => 10_000_000,
        }
    }
}

const KEPT: Load = Load { protocol: Protocol::Http1, connections: 32, pacing: Pacing::Closed };
const OURS: Who = Who::Ours(Behind::Database(Kind::Sqlite));
const MEMORY: Who = Who::Ours(Behind::Memory);

async fn job(stage: &mut Stage, who: Who, action: &'static str, load: Load, users: u64) -> Job {
    let running = stage.with_users(who, users).await;
    let key = Key {
        who: who.name(),
        store: who.store(),
        action,
        protocol: load.protocol.name(),
        connections: load.connections,
        pacing: load.pacing.name(),
        users,
    };
    let work = match who {
        Who::Floor | Who::FloorWithGrpc => work::answered_alike(running.population.work(action)),
        Who::Ours(_) | Who::Peer(..) => running.population.work(action),
    };
    let measure: Measure = Box::new(move |length| {
        let (running, work) = (Arc::clone(&running), Arc::clone(&work));
        Box::pin(async move { slice::run(&running.target, load, &work, length).await })
    });
    Job { key, measure }
}

pub const CONNECTIONS: &str = "get_user by protocol and connections";
pub const LATENCY: &str = "Latency at 1,000 requests a second over 32 connections";
pub const SIZES: &str = "get_user by the number of users";

/// A table of measurements.
pub struct Section {
    pub title: &'static str,
    pub records: Vec<Record>,
}

/// What the goals need, and the goals.
pub async fn goals(stage: &mut Stage, scale: Scale) -> (Vec<Section>, Startup, Vec<Goal>) {
    let mut sections = Vec::new();
    let mut section = |title, records: &[Record]| {
        sections.push(Section { title, records: records.to_vec() });
    };

    eprintln!("get_user over 32 connections");
    let of = |kind| Who::Ours(Behind::Database(kind));
    let node = |kind| Who::Peer(Peer::Node, kind);
    let subjects = [
        Who::Floor,
        Who::FloorWithGrpc,
        MEMORY,
        Who::Ours(Behind::Grpc),
        of(Kind::Sqlite),
        node(Kind::Sqlite),
        of(Kind::Postgres),
        node(Kind::Postgres),
        of(Kind::MariaDb),
        node(Kind::MariaDb),
    ];
    let mut jobs = Vec::new();
    for who in subjects {
        jobs.push(job(stage, who, "get_user", KEPT, USERS).await);
    }
    let store = stage.store();
    jobs.push(floors::tonic(&stage.socket(), store, 32).await);
    let records = interleave(jobs, scale.rounds(7, 1.5)).await;
    section("get_user over 32 connections", &records);
    let [
        floor,
        floor_with_grpc,
        memory,
        grpc,
        sqlite,
        sqlite_node,
        postgres,
        postgres_node,
        mariadb,
        mariadb_node,
        _bare_tonic,
    ] = <[Record; 11]>::try_from(records).unwrap_or_else(|_| unreachable!("one for each job"));
    let reads = Reads {
        floor,
        floor_with_grpc,
        memory,
        grpc,
        sqlite,
        sqlite_node,
        postgres,
        postgres_node,
        mariadb,
        mariadb_node,
    };
    let mut goals = reads.goals();

    eprintln!("a single client");
    let single = Load { connections: 1, pacing: Pacing::Waiting, ..KEPT };
    let jobs = vec![
        job(stage, OURS, "get_user", single, USERS).await,
        job(stage, node(Kind::Sqlite), "get_user", single, USERS).await,
    ];
    let records = interleave(jobs, scale.rounds(7, 1.0)).await;
    section("get_user by a single client", &records);
    goals.push(goals::single_client(&records[0], &records[1]));

    eprintln!("durable writes");
    let writers = Load { connections: 64, ..KEPT };
    let populated = stage.databases.with_users(Kind::Sqlite, USERS).await;
    let jobs = vec![
        job(stage, OURS, "create_user", writers, USERS).await,
        floors::commits(&populated),
        job(stage, node(Kind::Sqlite), "create_user", writers, USERS).await,
    ];
    let records = interleave(jobs, scale.rounds(5, 1.5)).await;
    section("create_user on SQLite by 64 clients", &records);
    goals.push(goals::durable_writes(&records[0], &records[1]));

    eprintln!("resumed handshakes");
    let resumed = Load { pacing: Pacing::NewConnections { resumed: true }, ..KEPT };
    let jobs = vec![
        job(stage, MEMORY, "get_user", resumed, USERS).await,
        job(stage, Who::Floor, "get_user", resumed, USERS).await,
    ];
    let records = interleave(jobs, scale.rounds(5, 2.0)).await;
    section("Resumed handshakes, one request each", &records);
    goals.push(goals::resumed_handshakes(&records[0], &records[1]));

    eprintln!("start and idle memory");
    let starts = if scale == Scale::Quick { 5 } else { 9 };
    let startup = startup::measure(&stage.pki, &mut stage.databases, starts).await;
    goals.extend(goals::program(&startup, &reads.sqlite));

    eprintln!("many users");
    let many = scale.many();
    let jobs = vec![
        job(stage, OURS, "get_user", KEPT, many).await,
        job(stage, OURS, "get_user", KEPT, USERS).await,
    ];
    let records = interleave(jobs, scale.rounds(7, 1.5)).await;
    section("get_user on SQLite with many users", &records);
    let what = match scale {
        Scale::Quick => "get_user with 1 million users (10 in the full run) against 1,000: CPU",
        Scale::Full => "get_user with 10 million users against 1,000: CPU",
    };
    goals.push(goals::table_size(what, &records[0], &records[1]));

    (sections, startup, goals)
}

/// Everything else.
pub async fn rest(stage: &mut Stage, scale: Scale) -> Vec<Section> {
    vec![
        connections(stage, scale).await,
        handshakes(stage, scale).await,
        sizes(stage, scale).await,
        parts(stage, scale).await,
        // The last three, because the tables grow by it.
        latency(stage, scale).await,
        actions(stage, scale).await,
        every_way(stage, scale).await,
    ]
}

fn ours() -> Vec<Who> {
    let databases = Kind::ALL.map(|kind| Who::Ours(Behind::Database(kind)));
    [MEMORY, Who::Ours(Behind::Grpc)].into_iter().chain(databases).collect()
}

fn peers() -> Vec<Who> {
    let on = |kind| Peer::ALL.map(|peer| Who::Peer(peer, kind));
    Kind::ALL.into_iter().flat_map(on).collect()
}

async fn connections(stage: &mut Stage, scale: Scale) -> Section {
    eprintln!("protocols and connections");
    let mut records = Vec::new();
    // Fewer first: a process that has served many keeps some of their memory.
    for connections in [1, 32, 256] {
        let mut jobs = Vec::new();
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let load = Load { protocol, connections, pacing: Pacing::Closed };
            for who in [vec![Who::Floor], ours()].concat() {
                jobs.push(job(stage, who, "get_user", load, USERS).await);
            }
            for who in peers() {
                if protocol == Protocol::Http1 {
                    jobs.push(job(stage, who, "get_user", load, USERS).await);
                }
            }
        }
        records.extend(interleave(jobs, scale.rounds(3, 1.0)).await);
    }
    Section { title: CONNECTIONS, records }
}

/// Ours, where users can be deleted.
fn ours_to_delete() -> Vec<Who> {
    let to_delete = |who| if who == MEMORY { Who::Ours(Behind::MemoryToDelete) } else { who };
    ours().into_iter().map(to_delete).collect()
}

async fn actions(stage: &mut Stage, scale: Scale) -> Section {
    eprintln!("actions");
    stage.add_deletable().await;
    let mut jobs = Vec::new();
    for action in ACTIONS {
        for who in [ours_to_delete(), peers()].concat() {
            jobs.push(job(stage, who, action, KEPT, USERS).await);
        }
    }
    let records = interleave(jobs, scale.rounds(2, 1.0)).await;
    Section { title: "Every action over 32 connections", records }
}

/// What the other sections leave out of every action on every store, by protocol, connections, and
/// whether those are kept.
async fn every_way(stage: &mut Stage, scale: Scale) -> Section {
    eprintln!("every action in every way");
    stage.add_deletable().await;
    let mut loads = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for connections in [1, 32, 256] {
            let new = |resumed| Pacing::NewConnections { resumed };
            for pacing in [Pacing::Closed, new(false), new(true)] {
                loads.push(Load { protocol, connections, pacing });
            }
        }
    }
    let mut jobs = Vec::new();
    for action in ACTIONS {
        for who in ours_to_delete() {
            for load in &loads {
                let is_elsewhere = match load.pacing {
                    Pacing::Closed => action == "get_user" || *load == KEPT,
                    _ => false,
                };
                if !is_elsewhere {
                    jobs.push(job(stage, who, action, *load, USERS).await);
                }
            }
        }
    }
    let records = interleave(jobs, scale.rounds(2, 0.5)).await;
    Section { title: "Every action by protocol, connections and handshakes", records }
}

async fn handshakes(stage: &mut Stage, scale: Scale) -> Section {
    eprintln!("handshakes");
    let mut jobs = Vec::new();
    for resumed in [false, true] {
        let load = Load { pacing: Pacing::NewConnections { resumed }, ..KEPT };
        let peers: &[Peer] = match resumed {
            // Node does not resume each of them.
            true => &[Peer::Go],
            false => &Peer::ALL,
        };
        let others = peers.iter().map(|peer| Who::Peer(*peer, Kind::Sqlite));
        for who in [Who::Floor, MEMORY, OURS].into_iter().chain(others) {
            jobs.push(job(stage, who, "get_user", load, USERS).await);
        }
    }
    let records = interleave(jobs, scale.rounds(3, 2.0)).await;
    Section { title: "A connection for each request", records }
}

async fn latency(stage: &mut Stage, scale: Scale) -> Section {
    eprintln!("latency");
    stage.add_deletable().await;
    let load = Load { pacing: Pacing::Open { rate: 1_000 }, ..KEPT };
    let mut jobs = Vec::new();
    for who in [vec![Who::Floor], ours(), peers()].concat() {
        jobs.push(job(stage, who, "get_user", load, USERS).await);
    }
    for action in ACTIONS {
        for who in ours_to_delete() {
            if action != "get_user" {
                jobs.push(job(stage, who, action, load, USERS).await);
            }
        }
    }
    let records = interleave(jobs, scale.rounds(3, 2.5)).await;
    Section { title: LATENCY, records }
}

async fn sizes(stage: &mut Stage, scale: Scale) -> Section {
    eprintln!("table sizes");
    let mut jobs = Vec::new();
    for kind in Kind::ALL {
        for users in [USERS, 1_000_000, 10_000_000] {
            if users > scale.many() {
                continue;
            }
            let who = Who::Ours(Behind::Database(kind));
            jobs.push(job(stage, who, "get_user", KEPT, users).await);
        }
    }
    let records = interleave(jobs, scale.rounds(5, 1.0)).await;
    Section { title: SIZES, records }
}

async fn parts(stage: &mut Stage, scale: Scale) -> Section {
    eprintln!("parts by themselves");
    let mut jobs = Vec::new();
    for kind in Kind::ALL {
        let populated = stage.databases.with_users(kind, USERS).await;
        jobs.push(floors::driver(&populated).await);
    }
    let store = stage.store();
    for at_once in [1, 32] {
        jobs.push(floors::tonic(&stage.socket(), store, at_once).await);
    }
    let records = interleave(jobs, scale.rounds(3, 1.0)).await;
    Section { title: "The parts by themselves", records }
}
