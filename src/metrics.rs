//! What the program counts, for `/metrics`. `interface`, "Metrics".
//!
//! Labels have few values, all of them written in this program: no email address, no ID and no text
//! from outside ever becomes one.

use std::time::Duration;

use prometheus::{
    Encoder as _, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of durations, in seconds: from an SQLite look-up to the longest time-out that
/// anybody should set.
const DURATIONS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// All metrics of one sidecar.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    action_duration: HistogramVec,
    rejected_requests: IntCounterVec,
    rejected_connections: IntCounterVec,
    store_available: IntGauge,
    db_pool_connections: IntGaugeVec,
    store_call_duration: HistogramVec,
    store_contract_violations: IntCounterVec,
    in_flight_requests: IntGauge,
    connections: IntGauge,
    tls_handshakes: IntCounterVec,
    tls_reloads: IntCounterVec,
    tls_certificate_expiry: GaugeVec,
}

impl Metrics {
    /// Metrics that are registered with nobody else.
    ///
    /// # Errors
    ///
    /// If a name or a label is not one that Prometheus takes, or is there twice.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("faroe_sidecar".to_owned()), None)?;
        let counters = |name, help, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            prometheus::Result::Ok(counters)
        };
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let gauges = |name, help, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            prometheus::Result::Ok(gauges)
        };
        let histograms = |name, help, labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(DURATIONS.to_vec());
            let histograms = HistogramVec::new(options, labels)?;
            registry.register(Box::new(histograms.clone()))?;
            prometheus::Result::Ok(histograms)
        };

        let build =
            gauges("build_info", "Always 1: which build this is.", &["version", "revision"])?;
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION"), env!("FAROE_SIDECAR_REVISION")])
            .set(1);
        let expiry = GaugeVec::new(
            Opts::new(
                "tls_certificate_expiry_timestamp_seconds",
                "When the first certificate or revocation list of a file ends, in seconds since \
                 1970; the file is named by its option.",
            ),
            &["file"],
        )?;
        registry.register(Box::new(expiry.clone()))?;
        let metrics = Self {
            action_duration: histograms(
                "action_duration_seconds",
                "Time to resolve an action invocation, by action and by outcome: ok, or the error \
                 code of the answer.",
                &["action", "outcome"],
            )?,
            rejected_requests: counters(
                "rejected_requests_total",
                "Requests that were answered without an action being invoked, by reason.",
                &["reason"],
            )?,
            rejected_connections: counters(
                "rejected_connections_total",
                "Connections to the endpoint, and streams of HTTP/2, that were closed by a limit or a \
                 rule, by reason.",
                &["reason"],
            )?,
            store_available: gauge(
                "store_available",
                "1 if the store was there when it was last looked at, else 0.",
            )?,
            db_pool_connections: gauges(
                "db_pool_connections",
                "Connections of the bundled store to its database, by state: idle or used.",
                &["state"],
            )?,
            store_call_duration: histograms(
                "store_call_duration_seconds",
                "Time of a call of the store, all attempts together, by method and by gRPC status \
                 code.",
                &["method", "code"],
            )?,
            store_contract_violations: counters(
                "store_contract_violations_total",
                "Answers of the store that break the contract, by method and by the check that \
                 failed.",
                &["method", "check"],
            )?,
            in_flight_requests: gauge(
                "in_flight_requests",
                "Requests that are being received or resolved.",
            )?,
            connections: gauge("connections", "Open connections to the endpoint.")?,
            tls_handshakes: counters(
                "tls_handshakes_total",
                "TLS handshakes of the endpoint, by result: ok, failed, or timeout.",
                &["result"],
            )?,
            tls_reloads: counters(
                "tls_reloads_total",
                "Times that changed TLS files were read again, by result: ok, or failed and the \
                 old material kept.",
                &["result"],
            )?,
            tls_certificate_expiry: expiry,
            registry,
        };
        // What can be known beforehand is there from the start: a rate needs a zero before its one.
        for reason in RejectedConnection::ALL {
            metrics.rejected_connections.with_label_values(&[reason.as_str()]);
        }
        for reason in RejectedRequest::ALL {
            metrics.rejected_requests.with_label_values(&[reason.as_str()]);
        }
        for result in ["ok", "failed", "timeout"] {
            metrics.tls_handshakes.with_label_values(&[result]);
        }
        for result in ["ok", "failed"] {
            metrics.tls_reloads.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// Everything, and `process_*`, in Prometheus' text format.
    ///
    /// # Errors
    ///
    /// If something collected cannot be written in that format.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut families = self.registry.gather();
        families.extend(process());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }

    /// An action was invoked.
    pub fn action(&self, action: &'static str, outcome: &'static str, duration: Duration) {
        observe(&self.action_duration.with_label_values(&[action, outcome]), duration);
    }

    /// Where an action that succeeds is counted, and the call of its method: to look them up by
    /// their labels each time takes longer than to count. From now on both are there, with zero.
    pub fn success(&self, action: &'static str, method: &'static str) -> Success {
        Success {
            action: self.action_duration.with_label_values(&[action, "ok"]),
            store_call: self.store_call_duration.with_label_values(&[method, "OK"]),
        }
    }

    /// A request was answered without an action being invoked.
    pub fn rejected_request(&self, reason: RejectedRequest) {
        self.rejected_requests.with_label_values(&[reason.as_str()]).inc();
    }

    /// A connection, or a stream of one, was closed by a limit or a rule.
    pub fn rejected_connection(&self, reason: RejectedConnection) {
        self.rejected_connections.with_label_values(&[reason.as_str()]).inc();
    }

    /// The store was looked at.
    pub fn store_available(&self, available: bool) {
        self.store_available.set(i64::from(available));
    }

    /// How many connections to the database there are.
    pub fn db_pool_connections(&self, idle: usize, used: usize) {
        for (state, connections) in [("idle", idle), ("used", used)] {
            let connections = i64::try_from(connections).unwrap_or(i64::MAX);
            self.db_pool_connections.with_label_values(&[state]).set(connections);
        }
    }

    /// The store was called.
    pub fn store_call(&self, method: &'static str, code: &'static str, duration: Duration) {
        observe(&self.store_call_duration.with_label_values(&[method, code]), duration);
    }

    /// The store broke the contract.
    pub fn store_contract_violation(&self, method: &'static str, check: &'static str) {
        self.store_contract_violations.with_label_values(&[method, check]).inc();
    }

    /// One more request is in flight, until [`request_ended`](Self::request_ended).
    pub fn request_begun(&self) {
        self.in_flight_requests.inc();
    }

    /// A request is in flight no longer.
    pub fn request_ended(&self) {
        self.in_flight_requests.dec();
    }

    /// A connection is open until the guard is dropped.
    pub fn connection(&self) -> InUse {
        InUse::new(&self.connections)
    }

    /// A TLS handshake has ended.
    pub fn tls_handshake(&self, result: &'static str) {
        self.tls_handshakes.with_label_values(&[result]).inc();
    }

    /// Changed TLS files were read.
    pub fn tls_reload(&self, result: &'static str) {
        self.tls_reloads.with_label_values(&[result]).inc();
    }

    /// When what is in a file ends, in seconds since 1970.
    pub fn tls_certificate_expiry(&self, file: &'static str, seconds: f64) {
        self.tls_certificate_expiry.with_label_values(&[file]).set(seconds);
    }
}

/// `process_*`, whose names have no prefix of ours.
#[cfg(target_os = "linux")]
fn process() -> Vec<prometheus::proto::MetricFamily> {
    use prometheus::{core::Collector as _, process_collector::ProcessCollector};
    ProcessCollector::for_self().collect()
}

#[cfg(not(target_os = "linux"))]
fn process() -> Vec<prometheus::proto::MetricFamily> {
    Vec::new()
}

fn observe(histogram: &Histogram, duration: Duration) {
    histogram.observe(duration.as_secs_f64());
}

/// Where an action that succeeds is counted.
#[derive(Debug)]
pub struct Success {
    action: Histogram,
    store_call: Histogram,
}

impl Success {
    /// It has taken so long, and the call of the store within it.
    pub fn observe(&self, action: Duration, store_call: Duration) {
        observe(&self.action, action);
        observe(&self.store_call, store_call);
    }
}

/// Counts one in a gauge until it is dropped.
#[derive(Debug)]
pub struct InUse(IntGauge);

impl InUse {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A label with its values.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$value_doc])* $value,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$value),*];

            /// The value of the label.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)*
                }
            }
        }
    };
}

label! {
    /// Why a request was answered without an action being invoked.
    RejectedRequest {
        /// The certificate is valid, and no entry of `--allow-client` names it.
        NotAllowed => "not_allowed",
        /// The certificate is not accepted any more.
        CertificateEnded => "certificate_ended",
        /// Another path.
        Path => "path",
        /// Another method than POST.
        Method => "method",
        /// More than `--max-in-flight` at once.
        MaxInFlight => "max_in_flight",
        /// More than `--max-body`.
        MaxBody => "max_body",
        /// The body took longer than `--request-timeout`.
        RequestTimeout => "request_timeout",
        /// The body ended too early.
        Incomplete => "incomplete",
        /// No action invocation.
        BadRequest => "bad_request",
        /// The store could not be reached.
        StoreNotReached => "store_not_reached",
        /// No connection of the pool came free in time.
        StoreBusy => "store_busy",
        /// The operating system gave no random bytes.
        NoRandomness => "no_randomness",
    }
}

label! {
    /// Why a connection, or a stream of one, was closed.
    RejectedConnection {
        /// More than `--max-connections`.
        MaxConnections => "max_connections",
        /// Too many handshakes at once.
        MaxHandshakes => "max_handshakes",
        /// The handshake took longer than `--handshake-timeout`.
        HandshakeTimeout => "handshake_timeout",
        /// Headers took longer than `--header-timeout`.
        HeaderTimeout => "header_timeout",
        /// Headers were too large or too many; on HTTP/2 it is the stream that is closed.
        HeaderSize => "header_size",
        /// More than `--max-streams` at once; it is the stream that is closed.
        MaxStreams => "max_streams",
        /// No request for longer than `--idle-timeout`.
        IdleTimeout => "idle_timeout",
        /// It had as many requests as `--max-requests-per-connection` allows.
        MaxRequests => "max_requests",
        /// Too many resets, pings or continuations of HTTP/2.
        Flood => "http2_flood",
        /// The client certificate has ended, or is not accepted any more.
        Certificate => "certificate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_name_and_a_help_text() {
        let metrics = Metrics::new().unwrap();
        metrics.action("get_user", "ok", Duration::from_millis(1));
        metrics.store_call("GetUser", "OK", Duration::from_millis(1));
        metrics.store_contract_violation("GetUser", "user");
        metrics.tls_certificate_expiry("tls-cert", 1.0);
        metrics.db_pool_connections(1, 2);
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        for name in [
            "action_duration_seconds",
            "rejected_requests_total",
            "rejected_connections_total",
            "store_available",
            "db_pool_connections",
            "store_call_duration_seconds",
            "store_contract_violations_total",
            "in_flight_requests",
            "connections",
            "tls_handshakes_total",
            "tls_reloads_total",
            "tls_certificate_expiry_timestamp_seconds",
            "build_info",
        ] {
            assert!(text.contains(&format!("\n# TYPE faroe_sidecar_{name} ")), "{name}:\n{text}");
            let help = format!("# HELP faroe_sidecar_{name} ");
            let help = text.lines().find_map(|line| line.strip_prefix(&help));
            assert!(help.is_some_and(|help| help.ends_with('.')), "{name}: {help:?}");
        }
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
    }

    #[test]
    fn a_guard_counts_while_it_is_held() {
        let metrics = Metrics::new().unwrap();
        let guards = [metrics.connection(), metrics.connection()];
        assert_eq!(metrics.connections.get(), 2);
        drop(guards);
        assert_eq!(metrics.connections.get(), 0);
    }
}
