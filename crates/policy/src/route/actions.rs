//! What a rule does to a request besides sending it somewhere: decided here, carried out by the data plane.
use crate::rng::Rng;
use raddle_model as model;
use raddle_model::{AbortStatus, HeaderMutation, PathRewrite, Respond, Scheme};
use std::sync::Arc;
use std::time::Duration;

/// What is done to the requests a rule sends to an endpoint.
#[derive(Debug)]
pub struct Actions {
    /// What the endpoint sees in place of what the caller asked for.
    pub rewrite: Option<Rewrite>,
    /// Changes of headers.
    pub headers: HeaderMutation,
    /// Another service gets copies.
    pub mirror: Option<Mirror>,
    /// Faults made on purpose.
    pub fault: Option<Fault>,
}

/// What the sidecar answers by itself, by rule.
#[derive(Debug)]
pub enum Answer {
    /// Ask elsewhere.
    Redirect(Redirect),
    /// This.
    Respond(Respond),
}

impl Answer {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Answer::Redirect(redirect) => redirect.status,
            Answer::Respond(respond) => respond.status,
        }
    }
}

/// Compiles what a rule does; nothing where it does nothing.
pub(crate) fn compile(actions: &model::Actions) -> (Option<Actions>, Option<Answer>) {
    let redirect = actions.redirect.clone().map(|r| Answer::Redirect(Redirect::new(r)));
    let answer = redirect.or_else(|| actions.respond.clone().map(Answer::Respond));
    let compiled = Actions {
        rewrite: actions.rewrite.clone().map(|r| Rewrite {
            path: r.path.map(PathChange::new),
            authority: r.authority.map(String::into_boxed_str),
        }),
        headers: actions.headers.clone().unwrap_or_default(),
        mirror: actions
            .mirror
            .as_ref()
            .map(|m| Mirror { service: Arc::from(m.service.as_str()), percent_ppm: m.percent_ppm }),
        fault: actions.fault.clone().map(|settings| Fault { settings }),
    };
    let does = compiled.rewrite.is_some()
        || compiled.mirror.is_some()
        || compiled.fault.is_some()
        || !(compiled.headers.request.is_empty() && compiled.headers.response.is_empty());
    (does.then_some(compiled), answer)
}

/// What the endpoint sees in place of what the caller asked for.
#[derive(Debug)]
pub struct Rewrite {
    path: Option<PathChange>,
    /// `Host` or `:authority`; absent = as it came.
    pub authority: Option<Box<str>>,
}

impl Rewrite {
    /// Appends the path and query the endpoint sees to `out` and says so; nothing is appended if it sees the
    /// caller's own. The query stays as it is.
    ///
    /// A target that is no path (`*`, or a CONNECT's) is never changed. If `path_and_query` is what RFC 3986
    /// allows, so is what is appended.
    pub fn path(&self, path_and_query: &[u8], out: &mut Vec<u8>) -> bool {
        self.path.as_ref().is_some_and(|change| change.apply(path_and_query, out))
    }
}

/// A compiled [`PathRewrite`].
#[derive(Debug)]
enum PathChange {
    Exact(Box<[u8]>),
    /// Both without a slash at the end, so that `/` is empty.
    Prefix {
        from: Box<[u8]>,
        to: Box<[u8]>,
    },
}

impl PathChange {
    fn new(source: PathRewrite) -> PathChange {
        let bare = |path: String| path.trim_end_matches('/').as_bytes().into();
        match source {
            PathRewrite::Exact(path) => PathChange::Exact(path.into_bytes().into_boxed_slice()),
            PathRewrite::Prefix { from, to } => PathChange::Prefix { from: bare(from), to: bare(to) },
        }
    }

    fn apply(&self, path_and_query: &[u8], out: &mut Vec<u8>) -> bool {
        if path_and_query.first() != Some(&b'/') {
            return false;
        }
        let (path, query) = split_query(path_and_query);
        match self {
            PathChange::Exact(whole) => out.extend_from_slice(whole),
            PathChange::Prefix { from, to } => {
                let Some(rest) = path.strip_prefix(&**from) else { return false };
                if !matches!(rest.first(), None | Some(b'/')) {
                    return false;
                }
                out.extend_from_slice(to);
                out.extend_from_slice(rest);
                if to.is_empty() && rest.is_empty() {
                    out.push(b'/');
                }
            }
        }
        out.extend_from_slice(query);
        true
    }
}

/// The path, and the query with its `?`.
fn split_query(path_and_query: &[u8]) -> (&[u8], &[u8]) {
    let end = path_and_query.iter().position(|&b| b == b'?').unwrap_or(path_and_query.len());
    path_and_query.split_at(end)
}

/// The caller is told to ask elsewhere.
#[derive(Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    scheme: Option<Scheme>,
    authority: Option<Box<str>>,
    path: Option<PathChange>,
}

impl Redirect {
    fn new(source: model::Redirect) -> Redirect {
        Redirect {
            status: source.status,
            scheme: source.scheme,
            authority: source.authority.map(String::into_boxed_str),
            path: source.path.map(PathChange::new),
        }
    }

    /// Appends the value of `Location` to `out`: no more of a URI than the rule changes, so that callers
    /// behind another proxy keep the scheme and host they know.
    ///
    /// Whatever the request holds, the value is visible ASCII, and without an `authority` in the rule it
    /// leads to the host the caller asked and to no other: a path that begins with `//` would name a host.
    pub fn location(&self, authority: &[u8], path_and_query: &[u8], out: &mut Vec<u8>) {
        let asked = (self.scheme.is_some() && !authority.is_empty()).then(|| without_port(authority));
        // Without a host the scheme cannot be said either.
        if let Some(host) = self.authority.as_deref().map(str::as_bytes).or(asked) {
            if let Some(scheme) = self.scheme {
                out.extend_from_slice(scheme.name().as_bytes());
                out.push(b':');
            }
            out.extend_from_slice(b"//");
            extend_encoded(host, out);
        }
        let mut changed = Vec::new();
        let path = match &self.path {
            Some(change) if change.apply(path_and_query, &mut changed) => &changed,
            _ => path_and_query,
        };
        let slashes = path.iter().take_while(|&&b| b == b'/' || b == b'\\').count();
        out.push(b'/');
        extend_encoded(path.get(slashes..).filter(|_| slashes > 0).unwrap_or_default(), out);
    }
}

/// A host without its port: another scheme has another.
fn without_port(authority: &[u8]) -> &[u8] {
    let digits = authority.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let before = authority.len() - digits;
    if before > 0 && authority[before - 1] == b':' { &authority[..before - 1] } else { authority }
}

/// Appends bytes, encoding what may not stand in a URI: no more and no less than it takes to be no header of
/// its own and no other URI.
fn extend_encoded(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &b in bytes {
        if b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b) {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

/// Another service gets copies of requests.
#[derive(Debug)]
pub struct Mirror {
    /// The service.
    pub service: Arc<str>,
    /// Share of the rule's requests that is copied, in millionths.
    pub percent_ppm: u32,
}

impl Mirror {
    /// Whether this request is copied.
    pub fn draw(&self, rng: &mut Rng) -> bool {
        chosen(self.percent_ppm, rng)
    }
}

/// Faults made on purpose.
#[derive(Debug)]
pub struct Fault {
    settings: model::Fault,
}

/// The faults a request meets; a delay comes before an abort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultDraw {
    /// It waits this long before it goes on.
    pub delay: Option<Duration>,
    /// It is then answered with this failure, flag `FI`.
    pub abort: Option<AbortStatus>,
}

impl Fault {
    pub(crate) fn settings(&self) -> &model::Fault {
        &self.settings
    }

    /// Which faults this request meets. Both are drawn independently.
    pub fn draw(&self, rng: &mut Rng) -> FaultDraw {
        let (delay, abort) = (self.settings.delay, self.settings.abort);
        FaultDraw {
            delay: delay.filter(|d| chosen(d.percent_ppm, rng)).map(|d| d.time),
            abort: abort.filter(|a| chosen(a.percent_ppm, rng)).map(|a| a.status),
        }
    }
}

fn chosen(percent_ppm: u32, rng: &mut Rng) -> bool {
    rng.below(1_000_000) < percent_ppm
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use proptest::prelude::*;

    fn prefix(from: &str, to: &str) -> PathChange {
        PathChange::new(PathRewrite::Prefix { from: from.into(), to: to.into() })
    }

    fn changed(change: &PathChange, path: &str) -> Option<String> {
        let mut out = b"kept".to_vec();
        let did = change.apply(path.as_bytes(), &mut out);
        let out = String::from_utf8(out).expect("ASCII");
        assert!(out.starts_with("kept") && did == (out.len() > 4), "{path}: {out}");
        did.then(|| out["kept".len()..].to_owned())
    }

    /// The table of Gateway API's `ReplacePrefixMatch`.
    #[test]
    fn leading_segments_change_and_slashes_at_ends_make_no_difference() {
        for (path, from, to, result) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo", "/", "/xyz", "/xyz/foo"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/foo?a=/foo", "/foo", "/xyz", "/xyz?a=/foo"),
            ("/foo?", "/foo", "/", "/?"),
        ] {
            assert_eq!(changed(&prefix(from, to), path).as_deref(), Some(result), "{path} {from} {to}");
        }
    }

    #[test]
    fn what_does_not_begin_with_the_segments_stays() {
        for path in ["/foobar", "/fo", "/", "/x/foo", "*", "host:80", "", "?/foo"] {
            assert_eq!(changed(&prefix("/foo", "/x"), path), None, "{path}");
        }
        assert_eq!(changed(&PathChange::Exact(b"/x"[..].into()), "*"), None);
        assert_eq!(changed(&PathChange::Exact(b"/x"[..].into()), "/a/b?c=d").as_deref(), Some("/x?c=d"));
    }

    fn redirect(scheme: Option<Scheme>, authority: Option<&str>, path: Option<PathRewrite>) -> Redirect {
        let authority = authority.map(str::to_owned);
        Redirect::new(model::Redirect { status: 302, scheme, authority, path })
    }

    fn location(redirect: &Redirect, authority: &str, path: &[u8]) -> String {
        let mut out = Vec::new();
        redirect.location(authority.as_bytes(), path, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_location_says_no_more_than_the_rule_changes() {
        let to = |path: &str| Some(PathRewrite::Exact(path.into()));
        let https = Some(Scheme::Https);
        for (rule, wanted) in [
            (redirect(https, None, None), "https://shop.example/a?b=c"),
            (redirect(None, Some("new.example:81"), None), "//new.example:81/a?b=c"),
            (redirect(https, Some("new.example"), to("/n")), "https://new.example/n?b=c"),
            (redirect(None, None, to("/n")), "/n?b=c"),
        ] {
            assert_eq!(location(&rule, "shop.example:8080", b"/a?b=c"), wanted);
        }
        assert_eq!(location(&redirect(https, None, None), "[::1]:80", b"/"), "https://[::1]/");
        assert_eq!(location(&redirect(https, None, None), "[::1]", b"/"), "https://[::1]/");
        assert_eq!(location(&redirect(https, None, None), "", b"/a"), "/a", "the host is not known");
    }

    #[test]
    fn a_path_cannot_become_another_host() {
        let rule = redirect(None, None, Some(PathRewrite::Prefix { from: "/api".into(), to: "/".into() }));
        assert_eq!(location(&rule, "shop.example", b"/api//evil.example"), "/evil.example");
        assert_eq!(location(&rule, "shop.example", b"/api/\\evil.example"), "/evil.example");
        assert_eq!(location(&rule, "shop.example", b"*"), "/");
        assert_eq!(location(&rule, "shop.example", b"/api/a\r\nx: y"), "/a%0D%0Ax:%20y");
    }

    #[test]
    fn shares_are_drawn_as_they_are_said() {
        let mut rng = Rng::new(5);
        let fault = |delay, abort| Fault {
            settings: model::Fault {
                delay: Some(model::Delay { time: Duration::from_millis(7), percent_ppm: delay }),
                abort: Some(model::Abort { status: AbortStatus::Http(503), percent_ppm: abort }),
            },
        };
        let all = FaultDraw { delay: Some(Duration::from_millis(7)), abort: Some(AbortStatus::Http(503)) };
        assert!((0..1000).all(|_| fault(1_000_000, 1_000_000).draw(&mut rng) == all));
        assert!((0..1000).all(|_| fault(0, 0).draw(&mut rng) == FaultDraw::default()));
        let tenth = fault(100_000, 0);
        let hit = (0..100_000).filter(|_| tenth.draw(&mut rng).delay.is_some()).count();
        assert!((9_500..10_500).contains(&hit), "{hit}");
        let mirror = Mirror { service: Arc::from("m"), percent_ppm: 500_000 };
        let hit = (0..100_000).filter(|_| mirror.draw(&mut rng)).count();
        assert!((49_000..51_000).contains(&hit), "{hit}");
    }

    /// Paths as the configuration takes them.
    fn rule_path() -> impl Strategy<Value = String> {
        "(/[a-zA-Z0-9._~:@!$&'()*+,;=-]{0,6}){1,4}"
    }

    proptest! {
        #[test]
        fn a_rewritten_path_is_a_path_and_keeps_its_query(
            from in rule_path(), to in rule_path(), rest in "(/[a-z/]{0,8})?", query in "(\\?[ -~]{0,12})?",
        ) {
            let path = format!("{}{rest}", from.trim_end_matches('/'));
            let asked = format!("{path}{query}");
            if !asked.starts_with('/') {
                return Ok(());
            }
            let out = changed(&prefix(&from, &to), &asked).expect("it begins with the prefix");
            prop_assert!(out.starts_with('/'), "{out}");
            let (path, kept) = split_query(out.as_bytes());
            prop_assert_eq!(kept, query.as_bytes());
            prop_assert!(path.starts_with(to.trim_end_matches('/').as_bytes()));
        }

        #[test]
        fn a_rewrite_puts_in_no_byte_that_neither_rule_nor_request_has(
            from in rule_path(), to in rule_path(), asked in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut out = Vec::new();
            if prefix(&from, &to).apply(&asked, &mut out) {
                prop_assert!(out.iter().all(|b| asked.contains(b) || to.as_bytes().contains(b) || *b == b'/'));
                prop_assert!(out.len() <= asked.len() + to.len() + 1);
            } else {
                prop_assert!(out.is_empty());
            }
        }

        #[test]
        fn there_and_back_leaves_a_path_as_it_was(to in rule_path(), rest in "(/[a-z]{1,8}){1,3}") {
            let there = changed(&prefix("/a", &to), &format!("/a{rest}")).expect("it has the prefix");
            prop_assert_eq!(changed(&prefix(&to, "/a"), &there), Some(format!("/a{rest}")));
        }

        #[test]
        fn a_location_is_visible_ascii_and_stays_at_the_host(
            asked in proptest::collection::vec(any::<u8>(), 0..40), from in rule_path(), to in rule_path(),
        ) {
            let rule = redirect(None, None, Some(PathRewrite::Prefix { from, to }));
            let out = location(&rule, "shop.example", &asked);
            prop_assert!(out.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert!(out.starts_with('/') && !out.starts_with("//") && !out.starts_with("/\\"), "{out}");
        }
    }
}
