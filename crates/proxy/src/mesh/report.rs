//! Tells the control plane what runs here and how it goes.
use super::channel::Dialer;
use super::edges::{self, Tally};
use super::limits;
use super::thread::Parts;
use raddle_telemetry::{Direction, ServiceCount};
use raddle_xds::client::{Handle, RefusedResource};
use raddle_xds::digest::digest;
use raddle_xds::proto::reports_client::ReportsClient;
use raddle_xds::proto::{Bucket, Encryption, Refused, ReportRequest, Running, ServiceStats};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

/// How often is reported until the control plane says otherwise, and the bounds of what it may say.
const EVERY: Duration = Duration::from_secs(1);
const LEAST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_mins(5);
/// Services in a report: those with the most requests.
const SERVICES_MOST: usize = 1000;
/// Names of missing services in a report.
const MISSING_MOST: usize = 1000;
/// Buckets of a report's histogram.
const BUCKETS: u32 = 128;
/// Changes of what runs here are looked for no more often than this; they are reported at once.
const LOOK: Duration = Duration::from_millis(50);
const OPEN_PATIENCE: Duration = Duration::from_secs(10);

/// Reports until the process ends.
pub(crate) async fn run(parts: Parts, handle: Handle) {
    let mut dialer = Dialer::new(&parts.control, parts.tls(), parts.shared.wall_zero_ns ^ 2);
    let mut counted = Counted::new(&parts);
    let mut every = EVERY;
    loop {
        let ended = match dialer.dial().await {
            Ok(channel) => {
                let client = ReportsClient::new(channel);
                stream(&parts, &handle, client, &mut counted, &mut every, &mut dialer).await
            }
            Err(e) => e,
        };
        tracing::debug!(error = ended, "reporting");
        tokio::time::sleep(dialer.pause()).await;
    }
}

/// Reports on one stream; gives back why it ended.
async fn stream(
    parts: &Parts,
    handle: &Handle,
    mut client: ReportsClient<tonic::transport::Channel>,
    counted: &mut Counted,
    every: &mut Duration,
    dialer: &mut Dialer,
) -> String {
    let (out, requests) = mpsc::channel(2);
    let mut first = make(parts, handle, counted).await;
    first.node = Some(parts.node.clone());
    let mut said = Said::of(&first);
    if out.send(first).await.is_err() {
        return "the stream has ended".into();
    }
    let opened = tokio::time::timeout(OPEN_PATIENCE, client.report(ReceiverStream::new(requests))).await;
    let mut answers = match opened {
        Err(_) => return "no answer".into(),
        Ok(Err(status)) => return status.message().to_owned(),
        Ok(Ok(answers)) => answers.into_inner(),
    };
    let mut next = Instant::now() + *every;
    let mut look = Instant::now();
    loop {
        tokio::select! {
            () = changed(parts, look) => {
                look = Instant::now() + LOOK;
                if said != Said::now(parts, handle) {
                    next = Instant::now();
                }
            }
            answer = answers.message() => match answer {
                Err(status) => return status.message().to_owned(),
                Ok(None) => return "it was ended".into(),
                Ok(Some(answer)) => {
                    dialer.worked();
                    *every = Duration::from_millis(answer.interval_ms.into()).clamp(LEAST, MOST);
                    next = next.min(Instant::now() + *every);
                }
            },
            () = tokio::time::sleep_until(next) => {
                next = Instant::now() + *every;
                // With no room the last one is still on its way: this one's counts go with the next.
                if out.capacity() > 0 {
                    let report = make(parts, handle, counted).await;
                    said = Said::of(&report);
                    if out.send(report).await.is_err() {
                        return "the stream has ended".into();
                    }
                } else if out.is_closed() {
                    return "the stream has ended".into();
                }
            }
        }
    }
}

/// Waits until what runs here, or is refused, may have changed; not before `look`.
async fn changed(parts: &Parts, look: Instant) {
    tokio::time::sleep_until(look).await;
    parts.link.changed.notified().await;
}

/// What the last report said runs here and is refused.
#[derive(PartialEq)]
struct Said {
    digest: String,
    refused: Vec<Refused>,
    /// The mode that is asked for, the one carried out, and the certificate's end.
    link: (String, String, u64),
    limits: limits::Story,
}

impl Said {
    fn of(report: &ReportRequest) -> Said {
        let link = report.encryption.as_ref().map(link).unwrap_or_default();
        let limits = report.limiting.as_ref().map(limits::Story::of).unwrap_or_default();
        Said { digest: report.digest.clone(), refused: report.refused.clone(), link, limits }
    }

    fn now(parts: &Parts, handle: &Handle) -> Said {
        let running = parts.loader.running();
        Said {
            digest: digest(running.iter().map(|r| (&*r.rule, &*r.revision))),
            refused: handle.status().refused.iter().map(refused).collect(),
            link: link(&edges::encryption(parts)),
            limits: limits::Story::of(&limits::limiting(&parts.shared)),
        }
    }
}

/// What of the inbound side's encryption is reported at once when it changes.
pub(crate) fn link(e: &Encryption) -> (String, String, u64) {
    (e.mode.clone(), e.effective.clone(), e.certificate_ends)
}

async fn make(parts: &Parts, handle: &Handle, counted: &mut Counted) -> ReportRequest {
    let callers = parts.shared.callers().await;
    let (encrypted_connections, plaintext_connections) = edges::connections(&callers);
    let encryption = Encryption { encrypted_connections, plaintext_connections, ..edges::encryption(parts) };
    let running = parts.loader.running();
    let status = handle.status();
    let (stats, interval) = counted.since_last(parts);
    parts.link.cells.reports.inc();
    ReportRequest {
        node: None,
        digest: digest(running.iter().map(|r| (&*r.rule, &*r.revision))),
        running: running
            .iter()
            .map(|r| Running { rule: r.rule.to_string(), revision: r.revision.to_string() })
            .collect(),
        refused: status.refused.iter().map(refused).collect(),
        stats,
        interval_ms: u32::try_from(interval.as_millis()).unwrap_or(u32::MAX),
        missing: status.missing.iter().take(MISSING_MOST).map(ToString::to_string).collect(),
        edges: counted.edges.since_last(&callers),
        encryption: Some(encryption),
        limiting: Some(limits::limiting(&parts.shared)),
    }
}

fn refused(r: &RefusedResource) -> Refused {
    Refused {
        type_url: r.kind.type_url().to_owned(),
        name: r.name.to_string(),
        version: r.version.to_string(),
        reason: r.reason.clone(),
    }
}

/// The counts of the last report.
struct Counted {
    at: Instant,
    before: HashMap<(bool, Arc<str>), ServiceCount>,
    edges: Tally,
}

impl Counted {
    fn new(parts: &Parts) -> Counted {
        let mut c = Counted { at: Instant::now(), before: HashMap::new(), edges: Tally::default() };
        c.since_last(parts);
        c
    }

    /// What was counted since the last time, and how long that was ago.
    fn since_last(&mut self, parts: &Parts) -> (Vec<ServiceStats>, Duration) {
        let now = Instant::now();
        let interval = now.duration_since(std::mem::replace(&mut self.at, now));
        let mut stats = Vec::new();
        let mut all = HashMap::new();
        for count in parts.shared.registry.service_counts(true) {
            let key = (count.direction == Direction::Inbound, count.service.clone());
            stats.extend(difference(&count, self.before.get(&key)));
            all.insert(key, count);
        }
        self.before = all;
        stats.sort_unstable_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.service.cmp(&b.service)));
        stats.truncate(SERVICES_MOST);
        (stats, interval)
    }
}

fn difference(now: &ServiceCount, before: Option<&ServiceCount>) -> Option<ServiceStats> {
    let requests = now.ended.saturating_sub(before.map_or(0, |b| b.ended));
    let failures = now.failed.saturating_sub(before.map_or(0, |b| b.failed));
    if requests == 0 {
        return None;
    }
    let latency = now.latency.as_deref()?;
    let latency = match before.and_then(|b| b.latency.as_deref()) {
        Some(b) => latency.since(b),
        None => latency.clone(),
    };
    let mut buckets: BTreeMap<u32, u64> = BTreeMap::new();
    for (ns, n) in latency.buckets() {
        *buckets.entry(bucket_of(ns)).or_default() += n;
    }
    Some(ServiceStats {
        service: now.service.to_string(),
        inbound: now.direction == Direction::Inbound,
        requests,
        failures,
        latency: buckets.into_iter().map(|(index, count)| Bucket { index, count }).collect(),
    })
}

/// The bucket of a duration: 2^(i/4) microseconds and more, up to the next.
fn bucket_of(ns: u64) -> u32 {
    let us = ns as f64 / 1000.0;
    if us < 1.0 { 0 } else { ((us.log2() * 4.0) as u32).min(BUCKETS - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_begins_at_its_power_of_a_quarter() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(1_000), 0);
        assert_eq!(bucket_of(2_000), 4);
        assert_eq!(bucket_of(4_100), 8);
        assert_eq!(bucket_of(1_024_000), 40);
        assert_eq!(bucket_of(u64::MAX), 127);
    }
}
