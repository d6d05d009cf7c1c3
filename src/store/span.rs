//! What a call of a store is called in a trace.
//!
//! A gRPC store by the conventions for RPC, the bundled one by those for databases.

use std::sync::Arc;

use tonic::Code;
use tracing::{Span, field::Empty, info_span};

use super::{Url, remote};
use crate::{
    proto::user_store_server::SERVICE_NAME,
    trace::{self, SPANS},
};

/// Makes the spans of the calls of one store. Clones are the same.
#[derive(Debug, Clone)]
pub struct Spans(Arc<Callee>);

#[derive(Debug)]
struct Callee {
    kind: Kind,
    address: Option<String>,
    port: Option<i64>,
}

#[derive(Debug)]
enum Kind {
    Grpc,
    Database { system: &'static str, namespace: Option<String> },
}

impl Spans {
    /// The spans of the store at a URL.
    pub fn of(url: &Url) -> Self {
        Self(Arc::new(match url {
            Url::Remote(remote::Url::Tcp { host, port, .. }) => Callee {
                kind: Kind::Grpc,
                address: Some(host.clone()),
                port: Some(i64::from(*port)),
            },
            Url::Remote(remote::Url::Unix(path)) => {
                Callee { kind: Kind::Grpc, address: Some(path.display().to_string()), port: None }
            }
            Url::Sql(url) => {
                let (address, port) = url.server().unzip();
                Callee {
                    kind: Kind::Database {
                        system: url.system(),
                        namespace: url.database().map(str::to_owned),
                    },
                    address,
                    port: port.flatten().map(i64::from),
                }
            }
        }))
    }

    /// The span of a call of a method.
    pub fn of_call(&self, method: &'static str) -> Span {
        let Callee { kind, address, port } = &*self.0;
        match kind {
            Kind::Grpc => info_span!(
                target: SPANS,
                "call",
                otel.kind = "client",
                otel.name = format!("{SERVICE_NAME}/{method}"),
                otel.status_code = Empty,
                "rpc.system" = "grpc",
                "rpc.service" = SERVICE_NAME,
                "rpc.method" = method,
                "rpc.grpc.status_code" = Empty,
                "server.address" = address.as_deref(),
                "server.port" = *port,
                "error.type" = Empty,
            ),
            Kind::Database { system, namespace } => info_span!(
                target: SPANS,
                "query",
                otel.kind = "client",
                otel.name = format!("{} users", operation(method)),
                otel.status_code = Empty,
                "db.system.name" = system,
                "db.namespace" = namespace.as_deref(),
                "db.operation.name" = operation(method),
                "db.collection.name" = "users",
                "server.address" = address.as_deref(),
                "server.port" = *port,
                "error.type" = Empty,
            ),
        }
    }

    /// Ends the span of a call, with the code that the call ended with, whose name is `name`.
    pub fn ended(&self, span: &Span, code: Code, name: &str) {
        let has_failed = match self.0.kind {
            Kind::Grpc => code != Code::Ok,
            // A statement that found no row has not failed.
            Kind::Database { .. } => !matches!(code, Code::Ok | Code::NotFound),
        };
        // The span of a statement has no such field, and stays without it.
        span.record("rpc.grpc.status_code", i64::from(i32::from(code)));
        if has_failed {
            trace::fail(span, name);
        }
        trace::end(span);
    }
}

/// The statement that a method is.
fn operation(method: &str) -> &'static str {
    match method {
        "CreateUser" => "INSERT",
        "GetUser" | "GetUserByEmailAddress" => "SELECT",
        "DeleteUser" => "DELETE",
        _ => "UPDATE",
    }
}
