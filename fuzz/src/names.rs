//! Whom an entry of `--allow-client` lets in: character by character, by the set of places that
//! can be reached. `interface`, "`serve`".

use crate::scalar;

/// What a certificate says.
#[derive(Debug, Default)]
pub struct Certificate {
    pub dns_names: Vec<String>,
    pub uri_names: Vec<String>,
    pub spki_sha256: Vec<u8>,
}

/// Whether an entry lets a certificate in, or `None` if it is no entry.
pub fn allows(entry: &str, certificate: &Certificate) -> Option<bool> {
    if entry == "any" {
        return Some(true);
    }
    if let Some(pattern) = entry.strip_prefix("dns:") {
        let pattern = pattern.to_ascii_lowercase();
        let is_label = |label: &str| {
            !label.is_empty()
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        };
        return is_pattern(&pattern, '.', is_label).then(|| {
            let mut names = certificate.dns_names.iter().map(|name| name.to_ascii_lowercase());
            names.any(|name| matches(&pattern, &name, '.'))
        });
    }
    if let Some(pattern) = entry.strip_prefix("uri:") {
        let is_segment = |segment: &str| segment.chars().all(|c| c.is_ascii_graphic() && c != '*');
        let is_scheme = |scheme: &str| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        };
        let has_scheme = pattern.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme));
        return (has_scheme && is_pattern(pattern, '/', is_segment))
            .then(|| certificate.uri_names.iter().any(|name| matches(pattern, name, '/')));
    }
    let digest = scalar::bytes(entry.strip_prefix("spki:sha256/")?)?;
    (digest.len() == 32).then(|| digest == certificate.spki_sha256)
}

fn is_pattern(pattern: &str, separator: char, is_part: impl Fn(&str) -> bool) -> bool {
    !pattern.is_empty()
        && pattern.split(separator).all(|part| part == "*" || part == "**" || is_part(part))
}

/// Walks through a pattern with every place of `name` up to which it can match so far.
fn matches(pattern: &str, name: &str, separator: char) -> bool {
    if name.contains('*') {
        return false;
    }
    let name = name.as_bytes();
    let is_separator = |at: usize| name.get(at) == Some(&(separator as u8));
    let mut places = vec![false; name.len() + 1];
    places[0] = true;
    for (number, part) in pattern.split(separator).enumerate() {
        let mut next = vec![false; name.len() + 1];
        for start in (0..=name.len()).filter(|place| places[*place]) {
            let start = match number {
                0 => start,
                _ if is_separator(start) => start + 1,
                _ => continue,
            };
            match part {
                "*" | "**" => {
                    let goes_on = |end: &usize| {
                        let starts_empty = *end - 1 == start || is_separator(*end - 2);
                        !is_separator(*end - 1) || (part == "**" && !starts_empty)
                    };
                    let ends = (start + 1..=name.len()).take_while(goes_on);
                    ends.filter(|end| !is_separator(end - 1)).for_each(|end| next[end] = true);
                }
                exactly if name[start..].starts_with(exactly.as_bytes()) => {
                    next[start + exactly.len()] = true;
                }
                _ => {}
            }
        }
        places = next;
    }
    places[name.len()]
}
