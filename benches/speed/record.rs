//! Measurements that are made in turn, again and again: what disturbs the machine disturbs all of
//! them, and the ratio of two is that of slices which lie side by side.

use std::{pin::Pin, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{figures::thousands, slice::Slice};

/// What is measured.
#[derive(Debug, Clone, Serialize)]
pub struct Key {
    pub who: &'static str,
    pub store: &'static str,
    pub action: &'static str,
    pub protocol: &'static str,
    pub connections: usize,
    /// How connections are used.
    pub pacing: String,
    /// The users in the table.
    pub users: u64,
}

/// A measurement, of which any number of slices can be made.
pub struct Job {
    pub key: Key,
    pub measure: Measure,
}

pub type Measure = Box<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = Slice>>>>;

/// A measurement that was made.
#[derive(Debug, Clone)]
pub struct Record {
    pub key: Key,
    slices: Vec<Slice>,
}

/// How often, and for how long each time.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    pub count: usize,
    pub length: Duration,
    /// How long each is warmed up before.
    pub warm_up: Duration,
}

/// Makes the measurements, one slice of each in turn, after each has been warmed up.
pub async fn interleave(jobs: Vec<Job>, rounds: Rounds) -> Vec<Record> {
    let mut records: Vec<Record> =
        jobs.iter().map(|job| Record { key: job.key.clone(), slices: Vec::new() }).collect();
    for job in &jobs {
        (job.measure)(rounds.warm_up).await;
    }
    for _ in 0..rounds.count {
        for (job, record) in jobs.iter().zip(&mut records) {
            record.slices.push((job.measure)(rounds.length).await);
        }
    }
    records
}

impl Record {
    /// The middle of what the slices say.
    fn median(&self, of: impl Fn(&Slice) -> f64) -> f64 {
        median(self.slices.iter().map(of).collect())
    }

    /// The middle of the ratios of slices that lie side by side.
    pub fn ratio(&self, to: &Self, of: impl Fn(&Slice) -> f64) -> f64 {
        median(self.slices.iter().zip(&to.slices).map(|(a, b)| of(a) / of(b)).collect())
    }

    pub fn throughput(&self) -> f64 {
        self.median(throughput)
    }

    pub fn server(&self) -> f64 {
        self.median(server)
    }

    pub fn store(&self) -> f64 {
        self.median(store)
    }

    pub fn client(&self) -> f64 {
        self.median(|slice| micros(slice.client, slice))
    }

    /// The most that it was, in KiB.
    pub fn resident(&self) -> u64 {
        self.slices.iter().map(|slice| slice.resident).max().unwrap_or_default()
    }

    /// The latency that so many in a hundred do not exceed, over all slices, in microseconds.
    pub fn latency(&self, percent: f64) -> f64 {
        let mut whole: Histogram<u64> = self.slices[0].latency.clone();
        for slice in &self.slices[1..] {
            whole.add(&slice.latency).unwrap();
        }
        nanos(whole.value_at_percentile(percent))
    }

    pub fn requests(&self) -> u64 {
        self.slices.iter().map(|slice| slice.requests).sum()
    }

    /// How many requests were answered wrongly.
    pub fn failed(&self) -> u64 {
        self.slices.iter().map(|slice| slice.failed).sum()
    }

    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }
}

/// Requests a second.
#[expect(clippy::cast_precision_loss, reason = "counts of requests are far from 2^52")]
pub fn throughput(slice: &Slice) -> f64 {
    slice.requests as f64 / slice.time.as_secs_f64()
}

/// The processor time of the server for a request, in microseconds.
pub fn server(slice: &Slice) -> f64 {
    micros(slice.server, slice)
}

/// The processor time of the store for a request, in microseconds.
pub fn store(slice: &Slice) -> f64 {
    micros(slice.store, slice)
}

/// The median latency of a slice, in microseconds.
pub fn half(slice: &Slice) -> f64 {
    nanos(slice.latency.value_at_percentile(50.0))
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests are far from 2^52")]
fn micros(time: Duration, slice: &Slice) -> f64 {
    time.as_secs_f64() * 1e6 / slice.requests.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a latency are far from 2^52")]
fn nanos(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

/// A figure without what comes after the point.
pub fn whole(figure: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is positive")]
    thousands(figure.round() as u64)
}
