//! Runs cases and tells all that failed at once.
use crate::deviations;
use crate::{Ctx, cases};
use std::net::SocketAddr;

/// Runs every case; `wrong` gives what malformed things reached the server behind. `strict`: the known
/// deviations, and only those, are expected.
pub(crate) fn all(addr: SocketAddr, strict: bool, wrong: &dyn Fn() -> Vec<String>) {
    let only = std::env::var("RADDLE_CONFORM_CASE").unwrap_or_default();
    let mut failed = Vec::new();
    let mut count = 0;
    for c in cases::all().filter(|c| c.name.starts_with(&only)) {
        count += 1;
        let mut x = Ctx::new(addr);
        let set_up = if c.greet { x.p.greet(&[]) } else { Ok(()) };
        let mut end = set_up.and_then(|()| (c.send)(&mut x)).and_then(|()| x.judge(c.want));
        drop(x);
        // Others are served whatever one connection did.
        let mut neighbour = Ctx::new(addr);
        if let Err(e) = neighbour.p.greet(&[]).and_then(|()| neighbour.exchange(1)) {
            end = Err(format!("a neighbour got {e}"));
        }
        let passed_on = wrong();
        if !passed_on.is_empty() {
            end = Err(format!("the server behind got {passed_on:?}"));
        }
        let known = deviations::of(c.name).filter(|_| strict);
        match (end, known) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => failed.push(format!("{} is as it should be: no deviation any more", c.name)),
            (Err(e), Some(d)) if e.contains(d.instead) => {}
            (Err(e), _) => failed.push(format!("{} ({}; wanted {}): {e}", c.name, c.what, c.want.text())),
        }
    }
    println!("{count} cases, {} failed", failed.len());
    assert!(failed.is_empty(), "{} of {count} cases failed:\n{}", failed.len(), failed.join("\n"));
}
