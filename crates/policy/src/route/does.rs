//! What a rule does to a request, in words for a person.
use crate::route::Attributes;
use crate::route::actions::{Actions, Answer};
use raddle_core::protocol::GRPC_STATUSES;
use raddle_model::{Abort, AbortStatus, HeaderOps};

/// One phrase for each thing that happens to the request and its reply, in the order of its way.
pub(super) fn all(actions: &Actions, req: &impl Attributes) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(fault) = &actions.fault {
        let faults = fault.settings();
        out.extend(faults.delay.map(|d| format!("{}waits {:?}", share(d.percent_ppm), d.time)));
        out.extend(faults.abort.map(|a| format!("{}fails with FI, {}", share(a.percent_ppm), abort(a))));
    }
    if let Some(mirror) = &actions.mirror {
        out.push(format!("{}is copied to service {}", share(mirror.percent_ppm), mirror.service));
    }
    if let Some(rewrite) = &actions.rewrite {
        let asked = req.path().unwrap_or_default();
        let mut path = Vec::new();
        if rewrite.path(asked, &mut path) {
            out.push(format!("path {} becomes {}", text(asked), text(&path)));
        }
        out.extend(rewrite.authority.as_ref().map(|host| format!("authority becomes {host}")));
    }
    headers("", &actions.headers.request, &mut out);
    headers("reply ", &actions.headers.response, &mut out);
    out
}

/// What a rule answers.
pub(super) fn answer(answer: &Answer, req: &impl Attributes) -> String {
    match answer {
        Answer::Redirect(redirect) => {
            let mut to = Vec::new();
            let (authority, path) = (req.authority().unwrap_or_default(), req.path().unwrap_or(b"/"));
            redirect.location(authority, path, &mut to);
            format!("redirected with {} to {}", redirect.status, text(&to))
        }
        Answer::Respond(respond) => {
            format!("answered with {} and {} bytes", respond.status, respond.body.len())
        }
    }
}

fn share(ppm: u32) -> String {
    if ppm == 1_000_000 { String::new() } else { format!("{} % ", f64::from(ppm) / 10_000.0) }
}

fn abort(abort: Abort) -> String {
    match abort.status {
        AbortStatus::Reason => "as its protocol says it".to_owned(),
        AbortStatus::Http(status) => format!("HTTP {status}"),
        AbortStatus::Grpc(status) => {
            let name = GRPC_STATUSES.get(usize::from(status)).copied().unwrap_or("UNKNOWN");
            format!("gRPC {name}")
        }
    }
}

fn headers(of: &str, ops: &HeaderOps, out: &mut Vec<String>) {
    out.extend(ops.remove.iter().map(|name| format!("{of}header {name} is removed")));
    out.extend(ops.set.iter().map(|(name, value)| format!("{of}header {name} becomes {value:?}")));
    out.extend(ops.add.iter().map(|(name, value)| format!("{of}header {name} also gets {value:?}")));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
