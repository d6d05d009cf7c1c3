//! The pieces of the hot path, each by itself: `cargo bench --bench pieces`.
//!
//! Decoding alone is that of a request which is wrong at its end.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "a measurement that cannot be made ends in a panic, and nobody else calls this"
)]

#[path = "shared/hot_path.rs"]
mod hot_path;
#[path = "shared/memory.rs"]
mod memory;
#[allow(dead_code, reason = "the other benchmarks use the rest of it")]
#[path = "shared/users.rs"]
mod users;

use std::{cell::Cell, hint::black_box};

use criterion::{Criterion, criterion_group, criterion_main};
use faroe_sidecar::action::answer;

use self::hot_path::{HotPath, get_user, update_user_password_hash, wrong_create_user};

fn pieces(criterion: &mut Criterion) {
    let path = HotPath::new();

    let wrong = r#"{"action":"get_user","arguments":{"user_id":1}}"#;
    criterion.bench_function("decode get_user", |b| b.iter(|| path.decode(black_box(wrong))));
    let wrong = wrong_create_user();
    criterion.bench_function("decode create_user", |b| b.iter(|| path.decode(black_box(&wrong))));

    let body = get_user(1);
    let resolution = path.runtime.block_on(path.actions.resolve(body.as_bytes())).unwrap();
    let (id, user) = (resolution.action_invocation_id, users::user(1));
    let encode = || answer::success(black_box(&id), black_box(Some(&user)));
    assert_eq!(encode(), resolution.body.0);
    criterion.bench_function("encode get_user", |b| b.iter(encode));

    criterion.bench_function("resolve get_user", |b| b.iter(|| path.resolve(black_box(&body))));
    let counter = Cell::new(0);
    criterion.bench_function("resolve update_user_password_hash", |b| {
        b.iter(|| path.resolve(&update_user_password_hash(counter.replace(counter.get() + 1))));
    });

    criterion.bench_function("read the names of a certificate", |b| b.iter(|| path.peer()));
    let peer = path.peer();
    criterion.bench_function("authorize", |b| {
        b.iter(|| assert!(path.allow.allows(black_box(&peer))));
    });
}

criterion_group!(benches, pieces);
criterion_main!(benches);
