//! A reader of JSON by the grammar of RFC 8259, written for being plain. It recurses: the targets
//! bound the length of what they give it.

/// A value. Names and strings with a lone surrogate escape are no text: `None`.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    String(Option<String>),
    List(Vec<Json>),
    /// The members in their order, twins included.
    Object(Vec<(Option<String>, Json)>),
}

impl Json {
    /// Reads a whole text.
    pub fn read(text: &str) -> Option<Self> {
        let mut reader = Reader(text);
        let value = reader.element()?;
        reader.0.is_empty().then_some(value)
    }

    /// Whether every string is text, and no object has a name twice.
    pub fn is_unambiguous(&self) -> bool {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => true,
            Self::String(text) => text.is_some(),
            Self::List(values) => values.iter().all(Self::is_unambiguous),
            Self::Object(members) => {
                let mut names: Vec<_> = members.iter().map(|(name, _)| name).collect();
                names.sort();
                names.iter().all(|name| name.is_some())
                    && names.windows(2).all(|pair| pair[0] != pair[1])
                    && members.iter().all(|(_, value)| value.is_unambiguous())
            }
        }
    }

    /// The first member of that name, of an object.
    pub fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(member, _)| member.as_deref() == Some(name)).map(|(_, value)| value)
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => text.as_deref(),
            _ => None,
        }
    }
}

/// What is left of the text.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn take(&mut self, expected: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let (taken, left) = self.0.split_at(self.0.find(|c| !wanted(c)).unwrap_or(self.0.len()));
        self.0 = left;
        taken
    }

    fn space(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
    }

    fn element(&mut self) -> Option<Json> {
        self.space();
        let value = self.value()?;
        self.space();
        Some(value)
    }

    fn value(&mut self) -> Option<Json> {
        match self.0.chars().next()? {
            '{' => self.list('{', '}', Self::member).map(Json::Object),
            '[' => self.list('[', ']', Self::element).map(Json::List),
            '"' => self.string().map(Json::String),
            't' => self.take("true").map(|()| Json::Bool(true)),
            'f' => self.take("false").map(|()| Json::Bool(false)),
            'n' => self.take("null").map(|()| Json::Null),
            _ => self.number().map(Json::Number),
        }
    }

    fn list<T>(
        &mut self,
        open: char,
        close: char,
        item: impl Fn(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.0 = self.0.strip_prefix(open)?;
        self.space();
        let mut items = Vec::new();
        loop {
            if let Some(left) = self.0.strip_prefix(close).filter(|_| items.is_empty()) {
                self.0 = left;
                return Some(items);
            }
            items.push(item(self)?);
            let next = self.0.chars().next()?;
            self.0 = &self.0[next.len_utf8()..];
            match next {
                ',' => {}
                end if end == close => return Some(items),
                _ => return None,
            }
        }
    }

    fn member(&mut self) -> Option<(Option<String>, Json)> {
        self.space();
        let name = self.string()?;
        self.space();
        self.take(":")?;
        Some((name, self.element()?))
    }

    fn number(&mut self) -> Option<String> {
        let start = self.0;
        let _ = self.take("-");
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return None;
        }
        if self.take(".").is_some() {
            self.digits()?;
        }
        if self.take("e").or_else(|| self.take("E")).is_some() {
            let _ = self.take("+").or_else(|| self.take("-"));
            self.digits()?;
        }
        Some(start[..start.len() - self.0.len()].to_owned())
    }

    fn digits(&mut self) -> Option<&'a str> {
        Some(self.take_while(|c| c.is_ascii_digit())).filter(|digits| !digits.is_empty())
    }

    /// The string as UTF-16, in which an escape is one unit and a lone surrogate is what it is.
    fn string(&mut self) -> Option<Option<String>> {
        self.take("\"")?;
        let mut units = Vec::new();
        loop {
            let plain = self.take_while(|c| c >= ' ' && c != '"' && c != '\\');
            units.extend(plain.encode_utf16());
            if self.take("\"").is_some() {
                return Some(String::from_utf16(&units).ok());
            }
            self.take("\\")?;
            let escape = self.0.chars().next()?;
            self.0 = &self.0[escape.len_utf8()..];
            units.push(match escape {
                '"' | '\\' | '/' => escape as u16,
                'b' => 8,
                't' => 9,
                'n' => 10,
                'f' => 12,
                'r' => 13,
                'u' => {
                    let digits = self
                        .0
                        .get(..4)
                        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
                    self.0 = &self.0[4..];
                    u16::from_str_radix(digits, 16).ok()?
                }
                _ => return None,
            });
        }
    }
}
