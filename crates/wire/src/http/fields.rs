//! Header fields in the order and case in which they came.

/// Where one field stands: its value follows its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    at: u32,
    name: u16,
    value: u32,
}

/// Header fields. One buffer holds all of them, so that a head costs two allocations however many fields it
/// has, and none when the value is used again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    text: Vec<u8>,
    spans: Vec<Span>,
}

impl Fields {
    /// How many there are; a name that occurs twice counts twice.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Forgets all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.spans.iter().map(|s| s.name as usize + s.value as usize).sum()
    }

    /// Adds a field at the end. Names of more than 65,535 bytes are cut, which no parser here lets through.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let name = &name[..name.len().min(usize::from(u16::MAX))];
        let at = self.text.len() as u32;
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.spans.push(Span { at, name: name.len() as u16, value: value.len() as u32 });
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|s| (self.name(*s), self.value(*s)))
    }

    /// The first value of a name, whatever its case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.spans.iter().find(|s| self.is(**s, name)).map(|s| self.value(*s))
    }

    /// Every value of a name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.spans.iter().filter(move |s| self.is(**s, name)).map(|s| self.value(*s))
    }

    /// Whether there is a field of that name.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether a comma-separated field names `token`, whatever its case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.get_all(name).any(|v| tokens(v).any(|t| t.eq_ignore_ascii_case(token.as_bytes())))
    }

    /// Removes every field of a name. True if there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.remove_bytes(name.as_bytes())
    }

    /// Removes every field of a name given as bytes.
    pub fn remove_bytes(&mut self, name: &[u8]) -> bool {
        let before = self.spans.len();
        let text = &self.text;
        self.spans.retain(|s| !named(text, *s).eq_ignore_ascii_case(name));
        self.spans.len() < before
    }

    /// Removes every field whose name is one of some.
    pub fn remove_if(&mut self, is_one: impl Fn(&[u8]) -> bool) {
        let text = &self.text;
        self.spans.retain(|s| !is_one(named(text, *s)));
    }

    /// Gives a field one value: the first of that name gets it in its place, others go.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let Some(first) = self.spans.iter().position(|s| self.is(*s, name)) else {
            return self.push(name.as_bytes(), value);
        };
        let kept = self.name(self.spans[first]).to_vec();
        let at = self.text.len() as u32;
        self.text.extend_from_slice(&kept);
        self.text.extend_from_slice(value);
        self.spans[first] = Span { at, name: kept.len() as u16, value: value.len() as u32 };
        let text = &self.text;
        let mut index = 0;
        self.spans.retain(|s| {
            index += 1;
            index - 1 <= first || !named(text, *s).eq_ignore_ascii_case(name.as_bytes())
        });
    }

    fn is(&self, s: Span, name: &str) -> bool {
        usize::from(s.name) == name.len() && self.name(s).eq_ignore_ascii_case(name.as_bytes())
    }

    fn name(&self, s: Span) -> &[u8] {
        named(&self.text, s)
    }

    fn value(&self, s: Span) -> &[u8] {
        let at = s.at as usize + usize::from(s.name);
        &self.text[at..at + s.value as usize]
    }
}

fn named(text: &[u8], s: Span) -> &[u8] {
    &text[s.at as usize..s.at as usize + usize::from(s.name)]
}

/// The elements of a comma-separated value, without the space around them; empty ones are left out.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|t| !t.is_empty())
}

/// Whether bytes are a token (RFC 9110, section 5.6.2), as names and methods must be.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

/// Whether bytes may stand in a field's value: no control characters but tabs.
pub fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == b'\t' || (*b >= 0x20 && *b != 0x7F))
}

/// Fields that are about one connection and never pass it (RFC 9110, section 7.6.1, and old practice).
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    match name.len() {
        2 => name.eq_ignore_ascii_case(b"te"),
        7 => name.eq_ignore_ascii_case(b"upgrade"),
        10 => name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"keep-alive"),
        14 => name.eq_ignore_ascii_case(b"http2-settings"),
        16 => name.eq_ignore_ascii_case(b"proxy-connection"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_case_and_are_found_in_any() {
        let mut f = Fields::default();
        f.push(b"X-A", b"1");
        f.push(b"Set-Cookie", b"a");
        f.push(b"set-cookie", b"b");
        assert_eq!(f.get("x-a"), Some(&b"1"[..]));
        assert_eq!(f.get_all("SET-COOKIE").collect::<Vec<_>>(), [b"a", b"b"]);
        f.set("x-a", b"22");
        assert_eq!(f.iter().next(), Some((&b"X-A"[..], &b"22"[..])));
        f.set("set-cookie", b"c");
        assert_eq!(f.get_all("set-cookie").count(), 1);
        assert!(f.remove("Set-Cookie") && !f.has("set-cookie"));
        assert_eq!(f.len(), 1);
    }

    #[test]
    fn tokens_of_a_list_are_found_without_the_space_around_them() {
        let mut f = Fields::default();
        f.push(b"Connection", b"keep-alive, Upgrade");
        f.push(b"Connection", b" ,x ");
        assert!(f.has_token("connection", "upgrade") && f.has_token("connection", "X"));
        assert!(!f.has_token("connection", "keep"));
    }
}
