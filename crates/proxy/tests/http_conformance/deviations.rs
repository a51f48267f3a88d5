//! Where the sidecar does otherwise than h2spec wants, knowingly: never so that something malformed passes.

/// One deviation.
#[derive(Clone, Copy)]
pub(crate) struct Deviation {
    /// The case.
    pub(crate) case: &'static str,
    /// What the failure's text says.
    pub(crate) instead: &'static str,
    /// The same, for the page.
    pub(crate) says: &'static str,
    /// Why it is left so.
    pub(crate) why: &'static str,
}

/// A case's, if it has one.
pub(crate) fn of(case: &str) -> Option<Deviation> {
    OTHERS.iter().find(|d| d.case == case).copied().or_else(|| {
        COARSE.contains(&case).then_some(Deviation {
            case: "",
            instead: "GOAWAY(code 1)",
            says: "GOAWAY PROTOCOL_ERROR",
            why: "the h2 crate says no finer",
        })
    })
}

/// The connection ends as it should, with PROTOCOL_ERROR for a finer code.
const COARSE: &[&str] = &[
    "http2/4.3/1",
    "http2/5.1/5",
    "http2/5.4.1/1",
    "http2/5.4.1/2",
    "http2/6.1/2",
    "http2/6.3/2",
    "http2/6.4/3",
    "http2/6.7/4",
    "http2/6.5/1",
    "http2/6.5/3",
    "http2/6.5.2/2",
    "http2/6.9/3",
    "http2/6.9.2/3",
    "hpack/2.3.3/1",
    "hpack/2.3.3/2",
    "hpack/4.2/1",
    "hpack/5.2/1",
    "hpack/5.2/3",
    "hpack/6.1/1",
    "hpack/6.3/1",
    "more/hpack/1",
    "more/hpack/2",
    "more/hpack/3",
];

const OTHERS: &[Deviation] = &[
    Deviation {
        case: "http2/8.1.2.1/3",
        instead: ":status: 200",
        says: "left out",
        why: "the h2 crate drops them; the server behind sees none",
    },
    Deviation {
        case: "hpack/5.2/2",
        instead: "DATA(flags 0x1, 0 bytes) on 1",
        says: "accepted",
        why: "the h2 crate does not look at the padding; what is passed on is the decoded value",
    },
    Deviation {
        case: "more/preface/3",
        instead: "nothing",
        says: "accepted",
        why: "the h2 crate takes other frames first; their meaning does not depend on it",
    },
    Deviation {
        case: "more/path/3",
        instead: ":status: 200",
        says: "the fragment is left out",
        why: "the http crate does so before anyone sees it; what is passed on is the path without it",
    },
];
