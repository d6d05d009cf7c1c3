//! What a sidecar counts, as `/metrics` says it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use http::StatusCode;

use super::{
    client::admin,
    process::{PATIENCE, Sidecar},
};

/// One look at `/metrics`: values by name and labels, as they are written there.
#[derive(Debug, Clone)]
pub struct Metrics(BTreeMap<String, f64>);

/// Something that was refused, as `connections` or `requests` and the reason.
pub type Rejection = (&'static str, &'static str);

impl Metrics {
    pub async fn of(sidecar: &Sidecar) -> Self {
        let reply = admin(sidecar.admin, "/metrics").await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let samples = reply.text().lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Self(samples.collect())
    }

    /// The value of a sample, such as `tls_handshakes_total{result="ok"}`.
    pub fn value(&self, name: &str) -> f64 {
        let name = format!("faroe_sidecar_{name}");
        *self.0.get(&name).unwrap_or_else(|| panic!("no {name} in {:?}", self.0))
    }

    /// Every sample of a metric, with its labels as they are written there.
    pub fn samples(&self, metric: &str) -> Vec<(&str, f64)> {
        let labels = |name: &'_ str| {
            let labels = name.strip_prefix("faroe_sidecar_")?.strip_prefix(metric)?;
            labels.starts_with('{').then_some(name.len() - labels.len())
        };
        self.0
            .iter()
            .filter_map(|(name, value)| labels(name).map(|at| (&name[at..], *value)))
            .collect()
    }

    pub fn connections(&self) -> f64 {
        self.value("connections")
    }

    pub fn in_flight_requests(&self) -> f64 {
        self.value("in_flight_requests")
    }

    /// In bytes.
    pub fn resident_memory(&self) -> f64 {
        self.0["process_resident_memory_bytes"]
    }

    /// How often it was refused so far.
    pub fn rejected(&self, (what, reason): Rejection) -> f64 {
        self.value(&format!("rejected_{what}_total{{reason=\"{reason}\"}}"))
    }

    /// Every reason for which anything was refused so far.
    pub fn rejections(&self) -> Vec<&str> {
        let refused = |(name, value): (&'_ String, &f64)| {
            name.starts_with("faroe_sidecar_rejected_") && *value > 0.0
        };
        self.0.iter().filter(|sample| refused(*sample)).map(|(name, _)| name.as_str()).collect()
    }

    /// Asserts that these were refused, so often, and nothing else ever.
    pub fn assert_rejected(&self, expected: &[(Rejection, f64)]) {
        for (rejection, times) in expected {
            assert_eq!(self.rejected(*rejection), *times, "{rejection:?}: {:?}", self.rejections());
        }
        assert_eq!(self.rejections().len(), expected.len(), "{:?}", self.rejections());
    }
}

/// Looks until the metrics are as they are to be, and gives them.
pub async fn wait_for_metrics(
    sidecar: &Sidecar,
    what: &str,
    mut expected: impl FnMut(&Metrics) -> bool,
) -> Metrics {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metrics = Metrics::of(sidecar).await;
        if expected(&metrics) {
            return metrics;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: {} connections, {} requests, {:?}",
            metrics.connections(),
            metrics.in_flight_requests(),
            metrics.rejections()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
