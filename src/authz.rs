//! Who may call: the list of `--allow-client`.
//!
//! `interface`, "`serve`". Every DNS and URI name of a certificate is looked at, and its key; never
//! the subject's common name. An entry that cannot be read is refused, never dropped.

use std::str::FromStr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use thiserror::Error;

use crate::tls::Peer;

/// An entry of the list that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{entry:?} {reason}")]
pub struct InvalidEntry {
    entry: String,
    reason: &'static str,
}

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList(Vec<AllowedClient>);

impl AllowList {
    /// A list of entries; one that matches is enough.
    pub fn new(entries: Vec<AllowedClient>) -> Self {
        Self(entries)
    }

    /// Whether a peer, whose certificate was verified, may call.
    pub fn allows(&self, peer: &Peer) -> bool {
        self.0.iter().any(|entry| entry.matches(peer))
    }
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedClient {
    /// `any`: every certificate of the authority.
    Any,
    /// `dns:NAME`, compared without ASCII case, label by label.
    Dns(Vec<Part>),
    /// `uri:URI`, compared exactly, path segment by path segment.
    Uri(Vec<Part>),
    /// `spki:sha256/BASE64`: the digest of the key.
    Spki([u8; 32]),
}

/// A label of a DNS name, or what stands between two slashes of a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Itself.
    Exactly(String),
    /// `*`: one, whatever it is.
    One,
    /// `**`: one or more.
    OneOrMore,
}

impl AllowedClient {
    fn matches(&self, peer: &Peer) -> bool {
        match self {
            Self::Any => true,
            Self::Dns(pattern) => peer
                .dns_names()
                .any(|name| name_matches(pattern, name, '.', str::eq_ignore_ascii_case)),
            Self::Uri(pattern) => {
                peer.uri_names().any(|name| name_matches(pattern, name, '/', |a, b| a == b))
            }
            Self::Spki(digest) => peer.spki_sha256() == digest,
        }
    }
}

/// What is left of a name, part by part: nothing after the last one.
#[derive(Clone, Copy)]
struct Parts<'a> {
    left: Option<&'a str>,
    separator: char,
}

impl<'a> Parts<'a> {
    fn split_first(self) -> Option<(&'a str, Self)> {
        let left = self.left?;
        let (part, left) = match left.split_once(self.separator) {
            Some((part, left)) => (part, Some(left)),
            None => (left, None),
        };
        Some((part, Self { left, ..self }))
    }
}

/// Whether a name, part by part, is of the pattern. A part that does not fit goes back to the last
/// `**` only, which then takes one part more: an earlier one could reach no other end. So the time
/// is at most that of comparing every part of the pattern with every part of the name, and depth
/// costs no stack.
fn name_matches(
    mut pattern: &[Part],
    name: &str,
    separator: char,
    is_same: impl Fn(&str, &str) -> bool,
) -> bool {
    // A wildcard inside a certificate is a name for many, and matches nothing.
    if name.contains('*') {
        return false;
    }
    let mut parts = Parts { left: Some(name), separator };
    // What follows the last `**`, in the pattern and in the name.
    let mut last_many = None;
    while let Some((part, rest)) = parts.split_first() {
        match pattern.split_first() {
            Some((Part::Exactly(text), pattern_rest)) if is_same(text, part) => {
                pattern = pattern_rest;
            }
            Some((Part::One, pattern_rest)) if !part.is_empty() => pattern = pattern_rest,
            Some((Part::OneOrMore, pattern_rest)) if !part.is_empty() => {
                last_many = Some((pattern_rest, rest));
                pattern = pattern_rest;
            }
            _ => {
                let Some((after, name_after)) = last_many else { return false };
                match name_after.split_first() {
                    Some((more, rest)) if !more.is_empty() => {
                        last_many = Some((after, rest));
                        (pattern, parts) = (after, rest);
                        continue;
                    }
                    _ => return false,
                }
            }
        }
        parts = rest;
    }
    pattern.is_empty()
}

impl FromStr for AllowedClient {
    type Err = InvalidEntry;

    fn from_str(entry: &str) -> Result<Self, InvalidEntry> {
        let invalid = |reason| InvalidEntry { entry: entry.to_owned(), reason };
        if entry == "any" {
            return Ok(Self::Any);
        }
        let (kind, name) = entry.split_once(':').ok_or_else(|| {
            invalid("is no entry: write dns:NAME, uri:URI, spki:sha256/BASE64, or any")
        })?;
        match kind {
            "dns" => {
                let part = |label: &str| {
                    let valid = !label.is_empty()
                        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
                    valid.then(|| Part::Exactly(label.to_ascii_lowercase()))
                };
                pattern(name, '.', part).map(Self::Dns).ok_or_else(|| {
                    invalid("is no DNS name; * stands for one whole label, ** for one or more")
                })
            }
            "uri" => {
                let part = |segment: &str| {
                    let valid =
                        !segment.contains('*') && segment.bytes().all(|b| b.is_ascii_graphic());
                    valid.then(|| Part::Exactly(segment.to_owned()))
                };
                pattern(name, '/', part)
                    .filter(|_| name.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme)))
                    .map(Self::Uri)
                    .ok_or_else(|| {
                        invalid(
                            "is no URI; * stands for one whole path segment, ** for one or more",
                        )
                    })
            }
            "spki" => name
                .strip_prefix("sha256/")
                .and_then(|digest| STANDARD.decode(digest).ok())
                .and_then(|digest| digest.try_into().ok())
                .map(Self::Spki)
                .ok_or_else(|| {
                    invalid("is no key pin: write spki:sha256/ and the Base64 of 32 bytes")
                }),
            _ => Err(invalid("has an unknown kind: write dns:, uri:, spki: or any")),
        }
    }
}

/// RFC 3986, section 3.1.
fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn pattern(
    name: &str,
    separator: char,
    exactly: impl Fn(&str) -> Option<Part>,
) -> Option<Vec<Part>> {
    if name.is_empty() {
        return None;
    }
    name.split(separator)
        .map(|part| match part {
            "*" => Some(Part::One),
            "**" => Some(Part::OneOrMore),
            part => exactly(part),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(names: &[&str]) -> Peer {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "common.example");
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.contains(':') {
                true => rcgen::SanType::URI((*name).try_into().unwrap()),
                false => rcgen::SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        Peer::from_certificate(params.self_signed(&key).unwrap().der()).unwrap()
    }

    fn allows(entry: &str, name: &str) -> bool {
        AllowList::new(vec![entry.parse().unwrap()]).allows(&peer(&[name]))
    }

    #[test]
    fn dns_names() {
        for (entry, name, allowed) in [
            ("dns:faroe", "faroe", true),
            ("dns:faroe", "FAROE", true),
            ("dns:FAROE.example", "faroe.Example", true),
            ("dns:faroe", "faroe.example", false),
            ("dns:faroe.example", "faroe", false),
            ("dns:*.example", "faroe.example", true),
            ("dns:*.example", "a.b.example", false),
            ("dns:*.example", "example", false),
            ("dns:**.example", "a.b.example", true),
            ("dns:**.example", "a.example", true),
            ("dns:**.example", "example", false),
            ("dns:a.**.example", "a.b.c.example", true),
            ("dns:a.*.example", "a.b.c.example", false),
            ("dns:**.b.**", "a.b.c.b.d", true),
            // A certificate's wildcard stands for many names, and so for none.
            ("dns:*.example", "*.example", false),
            ("dns:**", "*.example", false),
            // The common name, which every certificate here has.
            ("dns:common.example", "faroe", false),
        ] {
            assert_eq!(allows(entry, name), allowed, "{entry} {name}");
        }
    }

    #[test]
    fn uris() {
        for (entry, name, allowed) in [
            ("uri:spiffe://x/ns/a/sa/faroe", "spiffe://x/ns/a/sa/faroe", true),
            ("uri:spiffe://x/ns/a/sa/faroe", "spiffe://X/ns/a/sa/faroe", false),
            ("uri:spiffe://x/ns/a/sa/faroe", "spiffe://x/ns/a/sa/faroe/", false),
            ("uri:spiffe://x/ns/*/sa/faroe", "spiffe://x/ns/b/sa/faroe", true),
            ("uri:spiffe://x/ns/*/sa/faroe", "spiffe://x/ns/b/c/sa/faroe", false),
            ("uri:spiffe://x/ns/*/sa/faroe", "spiffe://x/ns//sa/faroe", false),
            ("uri:spiffe://x/**", "spiffe://x/ns/b", true),
            ("uri:spiffe://x/**", "spiffe://x/", false),
            ("uri:spiffe://x/**", "spiffe://y/ns", false),
            ("uri:spiffe://x/ns/*", "spiffe://x/ns/*", false),
            ("dns:faroe", "spiffe://x/faroe", false),
        ] {
            assert_eq!(allows(entry, name), allowed, "{entry} {name}");
        }
    }

    #[test]
    fn a_name_of_many_parts_is_answered_at_once() {
        let many = "dns:".to_owned() + &"**.".repeat(60);
        let name = "a.".repeat(120);
        assert!(allows(&(many.clone() + "a"), &(name.clone() + "a")));
        assert!(!allows(&(many + "b"), &(name + "a")));
        let deep = "spiffe://x".to_owned() + &"/a".repeat(100_000);
        assert!(allows("uri:spiffe://x/**", &deep));
        assert!(allows("uri:spiffe://x/**/a/**/a", &deep));
        assert!(!allows("uri:spiffe://x/**/a/**/b", &deep));
    }

    #[test]
    fn any_name_of_a_certificate_is_enough_and_any_entry_of_the_list() {
        let list = |entries: &[&str]| {
            AllowList::new(entries.iter().map(|entry| entry.parse().unwrap()).collect())
        };
        let peer = peer(&["other", "faroe", "spiffe://x/y"]);
        assert!(list(&["dns:faroe"]).allows(&peer));
        assert!(list(&["dns:nobody", "uri:spiffe://x/y"]).allows(&peer));
        assert!(!list(&["dns:nobody"]).allows(&peer));
        assert!(!list(&[]).allows(&peer));
        assert!(list(&["any"]).allows(&peer));
        let pin = STANDARD.encode(peer.spki_sha256());
        assert!(list(&[&format!("spki:sha256/{pin}")]).allows(&peer));
        let other = STANDARD.encode([0; 32]);
        assert!(!list(&[&format!("spki:sha256/{other}")]).allows(&peer));
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_refused() {
        for entry in [
            "",
            "faroe",
            "dns:",
            "dns:a..b",
            "dns:.a",
            "dns:a.",
            "dns:fa*",
            "dns:*a.example",
            "dns:***",
            "dns:a b",
            "dns:ä.example",
            "uri:",
            "uri:faroe",
            "uri:*//x:1/faroe",
            "uri:**/x:1",
            "uri:1:x",
            "uri:spiffe://x/fa*",
            "uri:spiffe://x/a b",
            "spki:",
            "spki:sha256/",
            "spki:sha256/AAAA",
            "spki:sha1/AAAA",
            "cn:faroe",
            "ANY",
        ] {
            assert!(entry.parse::<AllowedClient>().is_err(), "{entry}");
        }
    }
}
