//! What the control plane counts, in Prometheus's text form. Described in `docs/reference/control-metrics.md`.
use crate::plane::Parts;
use crate::registry::metrics::LATENCY_BOUNDS_US;
use raddle_xds::types::Kind;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A metric: its name, its type, and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What it says, in one sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident $kind:literal $name:literal $help:literal)*) => {
        $(const $id: Metric = Metric { name: concat!("raddle_control_", $name), kind: $kind, help: $help };)*
        /// All of them, in the order in which they are shown.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    XDS_STREAMS "gauge" "xds_streams" "Open xDS streams."
    XDS_REFUSED "counter" "xds_streams_refused_total" "xDS streams refused by load protection."
    XDS_SHED "counter" "xds_streams_shed_total" "xDS streams asked to go elsewhere."
    XDS_VIOLATIONS "counter" "xds_violations_total" "xDS streams ended for what the client sent."
    XDS_PUSHES "counter" "xds_pushes_total" "xDS responses sent, by kind of resource."
    XDS_RESOURCES "counter" "xds_resources_total" "Resources in xDS responses."
    XDS_BYTES "counter" "xds_bytes_total" "Bytes of xDS responses."
    XDS_NACKS "counter" "xds_nacks_total" "Refusals received, by kind of resource."
    PUBLICATION_STREAMS "gauge" "publication_streams" "Open publication streams."
    PUBLICATIONS "counter" "publications_total" "Publications, by what became of them: taken, refused, withdrawn, expired (their stream ended and did not come back)."
    SERVICES "gauge" "services" "Services in the directory."
    APPS "gauge" "apps" "Apps in the directory."
    INSTANCES "gauge" "instances" "Instances in the directory, by whether they are there or kept by self-protection."
    PROTECTED_APPS "gauge" "protected_apps" "Apps whose vanished instances are kept by self-protection."
    PROTECTED_SERVICES "gauge" "protected_services" "Services with endpoints that are kept by self-protection."
    PROTECTED "gauge" "mesh_protected" "1 while the whole mesh is protected, else 0."
    GENERATION "gauge" "generation" "Generation of what is served; it grows with every change."
    RULES "gauge" "rules" "Rules."
    ROLLOUTS "gauge" "rollouts" "Rules of which a candidate is being rolled out."
    COMMITS "counter" "store_commits_total" "Commits of publications, by outcome."
    OPERATIONS "counter" "store_operations_total" "Changes in commits of publications."
    QUOTA_STREAMS "gauge" "quota_streams" "Sidecars with a quota stream to this replica."
    QUOTA_SHARDS "gauge" "quota_shards" "Shards of cluster quota that this replica counts."
    QUOTA_REPORTS "counter" "quota_reports_total" "Quota reports of sidecars."
    QUOTA_TOKENS "counter" "quota_tokens_total" "Tokens given to sidecars."
    QUOTA_ELSEWHERE "counter" "quota_elsewhere_total" "Items of quota reports that another replica counts."
    QUOTA_RLS "counter" "quota_rls_requests_total" "Requests of Envoy's rate limit service, by outcome."
    API_REQUESTS "counter" "api_requests_total" "Requests to the REST API, by HTTP status."
    EVENTS_LOST "counter" "events_lost_total" "Events that found no room and were not kept."
    COMMIT_SECONDS "histogram" "store_commit_seconds" "Time of commits of publications."
}

/// All metrics as text.
pub fn render(parts: &Parts) -> String {
    let mut page = Page::default();
    let xds = parts.xds.counters();
    page.one(XDS_STREAMS, xds.streams);
    page.one(XDS_REFUSED, xds.refused);
    page.one(XDS_SHED, xds.shed);
    page.one(XDS_VIOLATIONS, xds.violations);
    let kinds = || Kind::ALL.into_iter().map(Kind::name);
    page.many(XDS_PUSHES, "kind", kinds().zip(xds.pushes));
    page.one(XDS_RESOURCES, xds.resources);
    page.one(XDS_BYTES, xds.bytes);
    page.many(XDS_NACKS, "kind", kinds().zip(xds.nacks));
    registry(&mut page, parts);
    directory(&mut page, parts);
    store(&mut page, parts);
    quota(&mut page, parts);
    page.text
}

/// The REST API's own.
pub(crate) fn api(text: &mut String, requests: BTreeMap<u16, u64>, events_lost: u64) {
    let mut page = Page { text: std::mem::take(text) };
    let requests: Vec<(String, u64)> =
        requests.into_iter().map(|(status, n)| (status.to_string(), n)).collect();
    page.many(API_REQUESTS, "status", requests.iter().map(|(status, n)| (status.as_str(), *n)));
    page.one(EVENTS_LOST, events_lost);
    *text = page.text;
}

fn registry(page: &mut Page, parts: &Parts) {
    let c = parts.registry.counters();
    let of = |n: &AtomicU64| n.load(Relaxed);
    page.one(PUBLICATION_STREAMS, of(&c.streams));
    let outcomes = [
        ("taken", of(&c.taken)),
        ("refused", of(&c.refused)),
        ("withdrawn", of(&c.withdrawn)),
        ("expired", of(&c.expired)),
    ];
    page.many(PUBLICATIONS, "outcome", outcomes.into_iter());
}

fn directory(page: &mut Page, parts: &Parts) {
    let directory = parts.registry.directory().borrow().clone();
    let all: usize = directory.apps.values().map(|a| a.instances.len()).sum();
    let kept: usize = directory.apps.values().map(|a| a.kept.len()).sum();
    page.one(SERVICES, directory.services.len());
    page.one(APPS, directory.apps.len());
    page.many(INSTANCES, "state", [("live", all - kept), ("kept", kept)].into_iter());
    page.one(PROTECTED_APPS, directory.apps.values().filter(|a| a.protected).count());
    page.one(PROTECTED_SERVICES, directory.services.values().filter(|s| s.protected).count());
    page.one(PROTECTED, u8::from(directory.protected));
    page.one(GENERATION, *raddle_xds::server::Catalog::generation(&parts.discovery).borrow());
    let rules = parts.rules.borrow().clone();
    page.one(RULES, rules.rules.len());
    page.one(ROLLOUTS, rules.rules.values().filter(|r| r.candidate.is_some()).count());
}

fn quota(page: &mut Page, parts: &Parts) {
    let c = parts.quota.counters();
    let of = |n: &AtomicU64| n.load(Relaxed);
    page.one(QUOTA_STREAMS, of(&c.streams));
    page.one(QUOTA_SHARDS, parts.quota.owned());
    page.one(QUOTA_REPORTS, of(&c.reports));
    page.one(QUOTA_TOKENS, of(&c.tokens));
    page.one(QUOTA_ELSEWHERE, of(&c.elsewhere));
    page.many(QUOTA_RLS, "outcome", [("ok", of(&c.rls[0])), ("over_limit", of(&c.rls[1]))].into_iter());
}

fn store(page: &mut Page, parts: &Parts) {
    let c = parts.registry.counters();
    let of = |n: &AtomicU64| n.load(Relaxed);
    let failed = of(&c.failed);
    page.many(
        COMMITS,
        "outcome",
        [("done", of(&c.commits).saturating_sub(failed)), ("failed", failed)].into_iter(),
    );
    page.one(OPERATIONS, of(&c.operations));
    page.head(COMMIT_SECONDS);
    let mut count = 0;
    let bounds = LATENCY_BOUNDS_US.iter().map(|us| (*us as f64 / 1e6).to_string()).chain(["+Inf".to_owned()]);
    for (bucket, bound) in c.commit_buckets.iter().zip(bounds) {
        count += of(bucket);
        page.line(format_args!("{}_bucket{{le=\"{bound}\"}}", COMMIT_SECONDS.name), count);
    }
    page.line(format_args!("{}_sum", COMMIT_SECONDS.name), of(&c.commit_us) as f64 / 1e6);
    page.line(format_args!("{}_count", COMMIT_SECONDS.name), count);
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, m: Metric) {
        // Writing to a String does not fail.
        let _ = write!(self.text, "# HELP {} {}\n# TYPE {} {}\n", m.name, m.help, m.name, m.kind);
    }

    fn line(&mut self, name: impl Display, value: impl Display) {
        let _ = writeln!(self.text, "{name} {value}");
    }

    fn one(&mut self, m: Metric, value: impl Display) {
        self.head(m);
        self.line(m.name, value);
    }

    fn many<'a>(&mut self, m: Metric, label: &str, values: impl Iterator<Item = (&'a str, impl Display)>) {
        self.head(m);
        for (of, value) in values {
            self.line(format_args!("{}{{{label}=\"{of}\"}}", m.name), value);
        }
    }
}
