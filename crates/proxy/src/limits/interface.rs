//! What adaptive limiting takes for one interface of the app, and the board's number for it.
use ahash::AHashMap;
use raddle_core::Time;
use raddle_policy::limit::adaptive::{Board, InterfaceId};
use std::borrow::Cow;
use std::time::Duration;

/// Names longer than this are cut.
const NAME_MOST: usize = 256;
/// Parts of a path that are told apart; what lies deeper is taken for one another.
const DEPTH: usize = 8;
/// Parts of a path longer than this are ids.
const PART_MOST: usize = 64;
/// Names a worker asks the board for in a second: strangers who make up names must not have it locked all the time.
const ASKS_MOST: u32 = 2000;
const METHODS: [&[u8]; 9] =
    [b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT"];

/// A worker's memory of interfaces.
#[derive(Debug, Default)]
pub(crate) struct Interfaces {
    known: AHashMap<Box<[u8]>, InterfaceId>,
    /// Room to put a name together in.
    name: Vec<u8>,
    asked: u32,
    since: Time,
}

impl Interfaces {
    /// The number of the interface whose name `write` appends. Allocates only for a name not met before.
    pub(crate) fn id(&mut self, board: &Board, now: Time, write: impl FnOnce(&mut Vec<u8>)) -> InterfaceId {
        self.name.clear();
        write(&mut self.name);
        self.name.truncate(NAME_MOST);
        match self.known.get(&self.name[..]) {
            Some(&id) => id,
            None => self.ask(board, now),
        }
    }

    #[cold]
    fn ask(&mut self, board: &Board, now: Time) -> InterfaceId {
        // Bytes that are no text are known by what they are shown as: many spell one name.
        if let Cow::Owned(text) = String::from_utf8_lossy(&self.name) {
            self.name = text.into_bytes();
            if let Some(&id) = self.known.get(&self.name[..]) {
                return id;
            }
        }
        if now.since(self.since) >= Duration::from_secs(1) {
            (self.since, self.asked) = (now, 0);
        }
        self.asked += 1;
        if self.asked > ASKS_MOST {
            return 0;
        }
        let id = board.id(&String::from_utf8_lossy(&self.name));
        // Names that share a place are not worth remembering: there is no end to them.
        if id != 0 {
            self.known.insert(self.name.as_slice().into(), id);
        }
        id
    }
}

/// Appends the name of a remote method.
pub(crate) fn rpc(out: &mut Vec<u8>, service: &[u8], method: Option<&[u8]>) {
    out.extend_from_slice(service);
    if let Some(method) = method {
        out.push(b'/');
        out.extend_from_slice(method);
    }
}

/// Appends the name of what an HTTP request asks for: method and path, without what differs from customer to customer.
pub(crate) fn http(out: &mut Vec<u8>, method: &[u8], path: &[u8]) {
    out.extend_from_slice(if METHODS.contains(&method) { method } else { b"*" });
    out.push(b' ');
    let mut parts = path.split(|b| *b == b'/').filter(|p| !p.is_empty());
    let mut any = false;
    for part in parts.by_ref().take(DEPTH) {
        any = true;
        out.push(b'/');
        out.extend_from_slice(if is_id(part) { b"*" } else { part });
    }
    if parts.next().is_some() {
        out.extend_from_slice(b"/**");
    } else if !any {
        out.push(b'/');
    }
}

/// Whether a part of a path looks like an id: a number, a UUID, a hash, a token.
fn is_id(part: &[u8]) -> bool {
    let digits = part.iter().filter(|b| b.is_ascii_digit()).count();
    if part.len() > PART_MOST || (digits > 0 && digits == part.len()) {
        return true;
    }
    if digits == 0 {
        return false;
    }
    let hex = part.iter().all(|b| b.is_ascii_hexdigit() || *b == b'-');
    let word = part.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=' | b'+'));
    let run = part.split(|b| !b.is_ascii_digit()).map(<[u8]>::len).max().unwrap_or(0);
    let class = |b: u8| (b.is_ascii_digit(), b.is_ascii_uppercase(), b.is_ascii_lowercase());
    let switches = part.windows(2).filter(|w| class(w[0]) != class(w[1])).count();
    let random = digits * 6 >= part.len() || (digits > 1 && switches * 2 >= part.len());
    (hex && part.len() >= 8) || run >= 5 || (word && part.len() >= 20 && random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_model::AdaptiveSettings;

    fn name(method: &str, path: &str) -> String {
        let mut out = Vec::new();
        http(&mut out, method.as_bytes(), path.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ids_in_paths_are_taken_for_one_another_and_words_are_not() {
        for (path, want) in [
            ("/", "/"),
            ("", "/"),
            ("/api/v2/users/42", "/api/v2/users/*"),
            ("/users/42/orders/", "/users/*/orders"),
            ("/o/550e8400-e29b-41d4-a716-446655440000", "/o/*"),
            ("/commit/5b2800a1ffed", "/commit/*"),
            ("/t/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "/t/*"),
            ("/order-20261123001.json", "/*"),
            ("/oauth2/s3/utf8/sha256", "/oauth2/s3/utf8/sha256"),
            ("/deadbeef/cafe", "/deadbeef/cafe"),
            ("/com.test.Pay/transferMoneyToAccountV2", "/com.test.Pay/transferMoneyToAccountV2"),
            ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/**"),
            ("/a/b/c/d/e/f/g/h", "/a/b/c/d/e/f/g/h"),
        ] {
            assert_eq!(name("GET", path), format!("GET {want}"));
        }
        assert_eq!(name("BREW", "/pot"), "* /pot");
        assert_eq!(name("GET", &format!("/{}", "x".repeat(65))), "GET /*");
    }

    #[test]
    fn strangers_who_make_up_names_cost_bounded_memory_and_few_locks() {
        let board = Board::new(1, &AdaptiveSettings { max_interfaces: 3, ..AdaptiveSettings::default() });
        let mut all = Interfaces::default();
        let mut id = |n: u32, at| all.id(&board, at, |out| rpc(out, b"s", Some(n.to_string().as_bytes())));
        let ids: Vec<_> = (0..5).map(|n| id(n, Time::ZERO)).collect();
        assert_eq!(ids, [1, 2, 3, 0, 0]);
        assert!((0..100_000).all(|n| id(n + 100, Time::ZERO) == 0));
        assert_eq!((id(1, Time::ZERO), all.known.len()), (2, 3));
    }

    #[test]
    fn bytes_that_are_no_text_and_look_the_same_are_one_interface_and_remembered_once() {
        let board = Board::new(1, &AdaptiveSettings::default());
        let mut all = Interfaces::default();
        // 0x80 to 0xbf begin no character: each is shown as the same sign.
        let spelled = |n: u32| [6, 12, 0].map(|shift| 0x80 | (n >> shift & 0x3f) as u8);
        let ids = (0..10_000).map(|n| all.id(&board, Time::ZERO, |out| rpc(out, b"s", Some(&spelled(n)))));
        assert!(ids.collect::<Vec<_>>().iter().all(|id| *id == 1));
        assert_eq!(all.known.len(), 1);
        // A long name that is cut within a character as well.
        let long = "é".repeat(NAME_MOST);
        let id =
            |all: &mut Interfaces| all.id(&board, Time::ZERO, |out| rpc(out, b"s", Some(long.as_bytes())));
        assert_eq!((id(&mut all), id(&mut all), all.known.len()), (2, 2, 2));
    }
}
