//! The address of a gRPC `UserStore`.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
};

use http::uri::Authority;
use rustls::pki_types::ServerName;

use crate::store::InvalidUrl;

/// Where a gRPC `UserStore` listens, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Url {
    /// `grpc://HOST:PORT` or, with `tls`, `grpcs://HOST:PORT`.
    Tcp {
        /// A name or an address; an IPv6 address without its brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
    },
    /// `unix:///PATH`.
    Unix(PathBuf),
}

impl Url {
    /// Whether everything that is sent there can be read on the way: plain text that leaves this
    /// host.
    pub fn is_exposed(&self) -> bool {
        match self {
            Self::Tcp { host, tls: false, .. } => !is_loopback(host),
            Self::Tcp { .. } | Self::Unix(_) => false,
        }
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port, tls } => {
                let scheme = if *tls { "grpcs" } else { "grpc" };
                match host.contains(':') {
                    true => write!(f, "{scheme}://[{host}]:{port}"),
                    false => write!(f, "{scheme}://{host}:{port}"),
                }
            }
        }
    }
}

/// Whether a host could be a name or an IPv4 address: an [`Authority`] may have any mark in it.
fn is_name(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// Whether a host is this one by definition.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        if let Some(path) = url.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(InvalidUrl::new(
                    "the path of a unix:// store must be absolute: write unix:///PATH",
                ));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let (authority, tls) = match (url.strip_prefix("grpc://"), url.strip_prefix("grpcs://")) {
            (Some(authority), _) => (authority, false),
            (_, Some(authority)) => (authority, true),
            (None, None) => return Err(InvalidUrl::new("the store is no gRPC URL")),
        };
        let wrong = || {
            InvalidUrl::new(format!(
                "the address of the gRPC store cannot be read: write {}://HOST:PORT and nothing more",
                if tls { "grpcs" } else { "grpc" }
            ))
        };
        let authority: Authority = authority.parse().map_err(|_| wrong())?;
        if authority.as_str().contains('@') {
            return Err(wrong());
        }
        let port = authority.port_u16().filter(|port| *port != 0).ok_or_else(wrong)?;
        let host = match authority.host().strip_prefix('[') {
            Some(bracketed) => bracketed
                .strip_suffix(']')
                .filter(|address| address.parse::<Ipv6Addr>().is_ok())
                .ok_or_else(wrong)?,
            None => Some(authority.host()).filter(|name| is_name(name)).ok_or_else(wrong)?,
        };
        if tls && ServerName::try_from(host).is_err() {
            return Err(InvalidUrl::new("the store's host is no name that a certificate can have"));
        }
        Ok(Self::Tcp { host: host.to_owned(), port, tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, tls: bool) -> Url {
        Url::Tcp { host: host.into(), port, tls }
    }

    #[test]
    fn addresses() {
        assert_eq!("grpc://localhost:50051".parse(), Ok(tcp("localhost", 50051, false)));
        assert_eq!("grpcs://store.example:443".parse(), Ok(tcp("store.example", 443, true)));
        assert_eq!("grpc://[::1]:1".parse(), Ok(tcp("::1", 1, false)));
        assert_eq!("unix:///run/s.sock".parse(), Ok(Url::Unix("/run/s.sock".into())));
        for wrong in [
            "grpc://h",
            "grpc://:1",
            "grpc://h:0",
            "grpc://h:1/x",
            "grpc://u@h:1",
            "unix://s.sock",
            "grpc://",
            "grpcs://-bad-:1",
            "grpc://[localhost]:1",
            "grpc://[127.0.0.1]:1",
            "grpc://[]:1",
            "grpc://h[:1",
            "grpc://h%20:1",
            "grpc://a,b:1",
            "grpc://[::1%1]:1",
        ] {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_shown_as_it_is_written() {
        for url in ["grpc://localhost:50051", "grpcs://[::1]:443", "unix:///run/s.sock"] {
            assert_eq!(url.parse::<Url>().unwrap().to_string(), url);
        }
    }

    #[test]
    fn plain_text_is_for_this_host() {
        for (url, exposed) in [
            ("grpc://localhost:1", false),
            ("grpc://127.0.0.1:1", false),
            ("grpc://127.9.9.9:1", false),
            ("grpc://[::1]:1", false),
            ("unix:///s", false),
            ("grpcs://store.example:1", false),
            ("grpc://store.example:1", true),
            ("grpc://10.0.0.1:1", true),
            ("grpc://localhost.example:1", true),
            ("grpc://0.0.0.0:1", true),
        ] {
            assert_eq!(url.parse::<Url>().unwrap().is_exposed(), exposed, "{url}");
        }
    }
}
