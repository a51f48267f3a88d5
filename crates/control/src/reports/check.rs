//! What a report may hold; an error is a sentence for people.
use raddle_policy::rollout::BUCKETS;
use raddle_xds::proto::{ReportRequest, ServiceStats};

/// Most rules a sidecar runs.
const RULES: usize = 10_000;
/// Most refusals.
const REFUSED: usize = 1_000;
/// Most services in the statistics.
const STATS: usize = 2_000;
/// Most names of missing services.
const MISSING: usize = 10_000;
/// Most callers.
const EDGES: usize = 4_000;
/// Most bytes of a name.
pub(super) const NAME: usize = 512;
/// Most bytes of a revision, version, digest.
pub(super) const HASH: usize = 128;
/// Most bytes of a reason; longer ones are cut.
pub(super) const REASON: usize = 2_048;
/// Most requests of a service between two reports.
const REQUESTS: u64 = 1_000_000_000;

/// Checks a report.
pub(super) fn report(report: &ReportRequest) -> Result<(), String> {
    most("running", report.running.len(), RULES)?;
    most("refused", report.refused.len(), REFUSED)?;
    most("stats", report.stats.len(), STATS)?;
    most("missing", report.missing.len(), MISSING)?;
    most("edges", report.edges.len(), EDGES)?;
    text("digest", &report.digest, HASH)?;
    for running in &report.running {
        text("running.rule", &running.rule, NAME)?;
        text("running.revision", &running.revision, HASH)?;
    }
    for refused in &report.refused {
        text("refused.type_url", &refused.type_url, NAME)?;
        text("refused.name", &refused.name, NAME)?;
        text("refused.version", &refused.version, HASH)?;
    }
    for name in &report.missing {
        text("missing", name, NAME)?;
    }
    for edge in &report.edges {
        text("edges.caller", &edge.caller, NAME)?;
        text("edges.address", &edge.address, HASH)?;
        text("edges.id", &edge.id, REASON)?;
        requests("edges", edge.requests)?;
    }
    if let Some(e) = &report.encryption {
        text("encryption.rule", &e.rule, NAME)?;
        text("encryption.mode", &e.mode, HASH)?;
        text("encryption.effective", &e.effective, HASH)?;
        text("encryption.waits", &e.waits, REASON)?;
    }
    if let Some(l) = &report.limiting {
        super::limits::check(l)?;
    }
    report.stats.iter().try_for_each(stats)
}

fn stats(stats: &ServiceStats) -> Result<(), String> {
    text("stats.service", &stats.service, NAME)?;
    most("stats.latency", stats.latency.len(), BUCKETS)?;
    let counts = [stats.requests, stats.failures].into_iter().chain(stats.latency.iter().map(|b| b.count));
    counts.max().map_or(Ok(()), |n| requests("stats", n))
}

fn requests(what: &str, n: u64) -> Result<(), String> {
    if n > REQUESTS {
        return Err(format!("{what}: {n} requests of one entry in one report are more than {REQUESTS}"));
    }
    Ok(())
}

pub(super) fn most(what: &str, have: usize, most: usize) -> Result<(), String> {
    if have > most { Err(format!("{what}: {have} entries are more than {most}")) } else { Ok(()) }
}

pub(super) fn text(what: &str, text: &str, most: usize) -> Result<(), String> {
    if text.len() > most {
        return Err(format!("{what}: {} bytes are more than {most}", text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{what}: it has control characters"));
    }
    Ok(())
}

/// A text cut to some bytes.
pub(super) fn cut(mut text: String, most: usize) -> String {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
