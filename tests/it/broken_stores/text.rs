//! What careless code and databases do to text.

/// The first bytes, as a column of that width keeps them.
pub fn cut(text: &str, width: usize) -> String {
    text[..text.floor_char_boundary(width)].to_owned()
}

/// What a string in a statement of MySQL becomes if nobody escapes it.
pub fn unescaped(text: &str) -> String {
    let mut chars = text.chars();
    let mut result = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => result.push('\n'),
                Some(other) => result.push(other),
                None => {}
            },
            _ => result.push(c),
        }
    }
    result
}

/// Whether it looks like an email address, to those who have not seen many.
pub fn is_usual_address(text: &str) -> bool {
    text.split_once('@').is_some_and(|(_, domain)| !domain.contains('@') && domain.contains('.'))
}

/// Composed, as Unicode's NFC has it; of the accents that the cases use.
pub fn composed(text: &str) -> String {
    text.replace("e\u{301}", "\u{e9}")
}

/// Without characters that cannot be seen.
pub fn visible(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{200b}' | '\u{ad}')).collect()
}

/// As a collation for people compares it: neither case, nor accents, nor width, nor what cannot be
/// seen.
pub fn for_people(text: &str) -> String {
    let ignored = |c: &char| !matches!(c, '\u{200b}' | '\u{ad}' | '\u{301}' | '\u{1}');
    let text: String = text.to_lowercase().chars().filter(ignored).collect();
    text.replace('\u{e9}', "e").replace('\u{df}', "ss").replace('\u{ff41}', "a")
}

/// As collations compare it that know no characters of four bytes.
pub fn one_emoji(text: &str) -> String {
    text.chars().map(|c| if c.len_utf8() == 4 { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// SQL's LIKE.
pub fn is_like(text: &str, pattern: &str) -> bool {
    let (mut text, mut pattern) = (text.chars(), pattern.chars());
    loop {
        let wanted = match pattern.next() {
            None => return text.next().is_none(),
            Some('%') => {
                let rest = pattern.as_str();
                let mut from = text.as_str();
                while !is_like(from, rest) {
                    let mut chars = from.chars();
                    if chars.next().is_none() {
                        return false;
                    }
                    from = chars.as_str();
                }
                return true;
            }
            Some('_') => None,
            Some('\\') => pattern.next(),
            other => other,
        };
        match (text.next(), wanted) {
            (None, _) => return false,
            (Some(c), Some(wanted)) if c != wanted => return false,
            _ => {}
        }
    }
}
