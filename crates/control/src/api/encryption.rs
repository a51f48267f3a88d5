//! How links are encrypted: by app, by caller, by instance; and what happened while they were switched.
use super::http::shape::{Page, answers};
use super::http::{Call, ParamKind, Problem, Reply, Route};
use super::log::EventAnswer;
use super::page::{after, newest_first, page};
use crate::events::{now_ms, read};
use crate::keys::{EVENTS, HISTORY};
use crate::registry::Directory;
use crate::reports::{AppLinks, NodeStatus, subject};
use crate::rules::{RuleBook, RuleEntry, RuleRevision, Seen};
use raddle_xds::types::Kind;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A caller that was seen in plaintext within this time comes in plaintext, in milliseconds.
const LATELY: u64 = 60_000;
const RULE: &str = "LinkEncryption/";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/encryption", "listEncryption")
            .says("How each app's callers are encrypted: what is asked for, what is carried out, and the share.")
            .paged()
            .answers::<Page<EncryptionAnswer>>(200, "By app.")
            .on(list),
        Route::get("/v1/encryption/{app}", "getEncryption")
            .says("The same of one app, by caller and by instance: who comes in plaintext, who does not follow and why.")
            .answers::<EncryptionDetail>(200, "The app.")
            .on(one),
        Route::get("/v1/encryption/{app}/timeline", "listEncryptionEvents")
            .says(
                "What happened while the app's links were switched, the newest first: rules and their stages, instances \
                 that asked for TLS, callers that began and ceased to come in plaintext, strict taking effect. They are \
                 events: GET /v1/watch?kinds=events tells of them as they happen.",
            )
            .query(
                "since",
                ParamKind::Whole(0, u32::MAX as u64, None),
                "Only those of the last so many seconds.",
            )
            .paged()
            .answers::<Page<EventAnswer>>(200, "The newest first.")
            .on(timeline),
    ]
}

answers! {
    /// How an app's callers are encrypted.
    pub struct EncryptionAnswer {
        /// The app.
        pub app: String,
        /// The rules that reach its sidecars.
        pub rules: Vec<LinkRuleAnswer>,
        /// What its sidecars are asked to do, by their own word.
        pub asked: ModesAnswer,
        /// What they carry out.
        pub effective: ModesAnswer,
        /// Its instances in the registry.
        pub instances: u64,
        /// Those of them that ask their callers for TLS.
        pub tls: u64,
        /// Its sidecars that report.
        pub sidecars: u64,
        /// Those of them that hold a valid certificate.
        pub certificates: u64,
        /// Connections to it now.
        pub connections: EncryptedAnswer,
        /// Requests to it in the last minute.
        pub requests: EncryptedAnswer,
        /// Callers seen in plaintext in the last minute, or connected so still: apps, or addresses of those that nobody knows.
        pub plaintext_callers: Vec<String>,
    }

    /// A rule of link encryption that reaches an app.
    pub struct LinkRuleAnswer {
        /// `LinkEncryption/NAME`.
        pub rule: String,
        /// Hash of the revision in force; null = the rule is new.
        pub revision: Option<String>,
        /// Its mode.
        pub mode: Option<String>,
        /// Hash of the revision on its way; empty = the rule is being removed; null = none.
        pub candidate: Option<String>,
        /// Its mode.
        pub candidate_mode: Option<String>,
        /// Share of the sidecars that has it, in percent.
        pub percent: Option<f64>,
    }

    /// Sidecars by mode.
    pub struct ModesAnswer {
        /// `disable`, or no rule.
        pub disable: u64,
        /// `permissive`.
        pub permissive: u64,
        /// `strict`.
        pub strict: u64,
    }

    /// How many of something are encrypted.
    pub struct EncryptedAnswer {
        /// Those.
        pub encrypted: u64,
        /// All.
        pub all: u64,
        /// Their share in percent; null = there are none.
        pub percent: Option<f64>,
    }

    /// An app, by caller and by instance.
    pub struct EncryptionDetail {
        /// The app as in the list.
        pub summary: EncryptionAnswer,
        /// Its callers of the last day, those that come in plaintext first.
        pub edges: Vec<LinkEdgeAnswer>,
        /// Its instances.
        pub members: Vec<LinkMemberAnswer>,
    }

    /// A caller of an app.
    pub struct LinkEdgeAnswer {
        /// Its app; empty = nobody knows.
        pub caller: String,
        /// It did not say its app: an address that is that app's only did.
        pub by_address: bool,
        /// SPIFFE id of its certificate; empty = it showed none.
        pub id: String,
        /// It was seen in plaintext in the last minute, or has such a connection still.
        pub plaintext: bool,
        /// Connections now.
        pub connections: EncryptedAnswer,
        /// Requests in the last minute.
        pub requests: EncryptedAnswer,
        /// Where it comes in plaintext from; at most 64.
        pub addresses: Vec<SeenAtAnswer>,
        /// When it was seen in plaintext last, milliseconds since the Unix epoch; null = never.
        pub plaintext_last: Option<u64>,
        /// When it was seen over TLS last; null = never.
        pub encrypted_last: Option<u64>,
    }

    /// An address.
    pub struct SeenAtAnswer {
        /// It.
        pub address: String,
        /// When a request came from there last, milliseconds since the Unix epoch.
        pub last: u64,
    }

    /// An instance of an app, as its links are concerned.
    pub struct LinkMemberAnswer {
        /// Its id.
        pub instance: String,
        /// Its address, without port.
        pub address: String,
        /// The rule it runs; empty = none.
        pub rule: String,
        /// What it is asked to do; empty = its sidecar has not said.
        pub asked: String,
        /// What it carries out.
        pub effective: String,
        /// It asks its callers for TLS.
        pub tls: bool,
        /// And not to fall back to plaintext.
        pub tls_required: bool,
        /// Until when its certificate is valid, seconds since the Unix epoch; 0 = it holds none.
        pub certificate_ends: u64,
        /// Why it does not do what it is asked; empty = it does.
        pub behind: String,
    }
}

/// What is known of all apps at one moment.
struct Look {
    directory: Arc<Directory>,
    book: Arc<RuleBook>,
    nodes: BTreeMap<String, Vec<Arc<NodeStatus>>>,
    now: u64,
}

impl Look {
    fn of(call: &Call) -> Look {
        let parts = &call.state.parts;
        let mut nodes: BTreeMap<String, Vec<Arc<NodeStatus>>> = BTreeMap::new();
        for node in parts.plane.iter().flat_map(|p| p.reports.nodes()) {
            nodes.entry(node.node.app.clone()).or_default().push(node);
        }
        let (directory, book) = (parts.directory.borrow().clone(), parts.book.borrow().clone());
        Look { directory, book, nodes, now: now_ms() }
    }

    fn nodes(&self, app: &str) -> &[Arc<NodeStatus>] {
        self.nodes.get(app).map_or(&[], Vec::as_slice)
    }

    fn summary(&self, app: &str, links: &AppLinks) -> EncryptionAnswer {
        let nodes = self.nodes(app);
        let listed = self.directory.apps.get(app);
        let instances = || listed.iter().flat_map(|a| a.instances.values());
        let lately = links.plaintext(LATELY, self.now);
        let named = lately.map(|c| match c.caller.is_empty() {
            true => c.addresses.keys().next().cloned().unwrap_or_default(),
            false => c.caller.to_string(),
        });
        let plaintext: BTreeSet<String> = named.collect();
        EncryptionAnswer {
            app: app.to_owned(),
            rules: self.rules(nodes),
            asked: modes(nodes, |l| &l.mode),
            effective: modes(nodes, |l| &l.effective),
            instances: instances().count() as u64,
            tls: instances().filter(|i| i.tls).count() as u64,
            sidecars: nodes.len() as u64,
            certificates: nodes.iter().filter(|n| ends(n) > self.now / 1000).count() as u64,
            connections: share(links.connections()),
            requests: share(links.requests()),
            plaintext_callers: plaintext.into_iter().collect(),
        }
    }

    /// The rules whose scope has one of these sidecars.
    fn rules(&self, nodes: &[Arc<NodeStatus>]) -> Vec<LinkRuleAnswer> {
        let covers = |r: &Arc<RuleRevision>| nodes.iter().any(|n| r.scope.covers(&Seen(&n.node)));
        let all = self.book.rules.values().filter(|e| e.id.starts_with(RULE));
        all.filter(|e| revisions(e).any(covers)).map(|e| rule(e)).collect()
    }

    fn members(&self, app: &str) -> Vec<LinkMemberAnswer> {
        let mut all: BTreeMap<&str, LinkMemberAnswer> = BTreeMap::new();
        for i in self.directory.apps.get(app).iter().flat_map(|a| a.instances.values()) {
            let member = all.entry(&i.id).or_default();
            member.address = i.address.to_string();
            (member.tls, member.tls_required) = (i.tls, i.tls_required);
            member.behind = "no sidecar reports for it".into();
        }
        for node in self.nodes(app) {
            let published = all.contains_key(&*node.node.id);
            let member = all.entry(&node.node.id).or_default();
            if !published {
                member.address.clone_from(&node.node.address);
            }
            if let Some(link) = &node.link {
                (member.rule, member.asked) = (link.rule.clone(), link.mode.clone());
                (member.effective, member.certificate_ends) = (link.effective.clone(), link.certificate_ends);
            }
            member.behind = self.behind(node, member, published);
        }
        let named = all.into_iter().map(|(id, m)| LinkMemberAnswer { instance: id.to_owned(), ..m });
        named.collect()
    }

    /// Why an instance does not do what it is asked.
    fn behind(&self, node: &NodeStatus, member: &LinkMemberAnswer, published: bool) -> String {
        let refused =
            |r: &&crate::reports::Refusal| r.type_url == Kind::Rule.type_url() && r.name.starts_with(RULE);
        if let Some(r) = node.refused.iter().find(refused) {
            return format!("it refuses {}: {}", r.name, r.reason);
        }
        for entry in self.book.rules.values().filter(|e| e.id.starts_with(RULE)) {
            let wanted = self.book.select(entry, &node.node).map(|r| &r.hash);
            if wanted != node.running.get(&entry.id) {
                let what = wanted.map_or("its removal".to_owned(), |hash| format!("revision {hash}"));
                return format!(
                    "{what} of {} has not reached it yet, or one of its files hides it",
                    entry.id
                );
            }
        }
        let Some(link) = &node.link else { return "its sidecar does not say how it is encrypted".into() };
        let asks = matches!(&*link.mode, "permissive" | "strict");
        if asks && link.certificate_ends <= self.now / 1000 {
            let what = if link.certificate_ends == 0 {
                "it holds no certificate"
            } else {
                "its certificate has expired"
            };
            return if link.waits.is_empty() { what.to_owned() } else { format!("{what}: {}", link.waits) };
        }
        if link.effective != link.mode {
            return link.waits.clone();
        }
        match (asks, published, member.tls) {
            (true, true, false) => {
                "it does not ask for TLS: one of the ports it publishes has the mode disable or is no inbound \
                 listener of its sidecar"
                    .into()
            }
            _ => String::new(),
        }
    }
}

fn revisions(entry: &RuleEntry) -> impl Iterator<Item = &Arc<RuleRevision>> {
    entry.stable.iter().chain(entry.candidate.as_ref().and_then(|(revision, _)| revision.as_ref()))
}

fn rule(entry: &RuleEntry) -> LinkRuleAnswer {
    let mode = |r: &Arc<RuleRevision>| {
        let document: Value = serde_json::from_str(&r.document).unwrap_or_default();
        document["spec"]["mode"].as_str().map(str::to_owned)
    };
    let on_its_way = entry.candidate.as_ref();
    LinkRuleAnswer {
        rule: entry.id.to_string(),
        revision: entry.stable.as_ref().map(|r| r.hash.to_string()),
        mode: entry.stable.as_ref().and_then(mode),
        candidate: on_its_way.map(|(r, _)| r.as_ref().map_or(String::new(), |r| r.hash.to_string())),
        candidate_mode: on_its_way.and_then(|(r, _)| r.as_ref()).and_then(mode),
        percent: on_its_way.map(|(_, cohort)| f64::from(cohort.ppm) / 10_000.0),
    }
}

fn modes(nodes: &[Arc<NodeStatus>], of: impl Fn(&crate::reports::LinkStatus) -> &str) -> ModesAnswer {
    let mut modes = ModesAnswer::default();
    for node in nodes {
        match node.link.as_ref().map_or("", &of) {
            "strict" => modes.strict += 1,
            "permissive" => modes.permissive += 1,
            _ => modes.disable += 1,
        }
    }
    modes
}

fn ends(node: &NodeStatus) -> u64 {
    node.link.as_ref().map_or(0, |l| l.certificate_ends)
}

fn share((encrypted, all): (u64, u64)) -> EncryptedAnswer {
    // What is nearly all is not shown as all: a hundred percent means everything.
    let percent = |n: u64| (encrypted as f64 / n as f64 * 1000.0).floor() / 10.0;
    EncryptedAnswer { encrypted, all, percent: Some(all).filter(|n| *n > 0).map(percent) }
}

/// Callers, each with both ways it comes; those in plaintext first, then by requests.
fn edges(links: &AppLinks, now: u64) -> Vec<LinkEdgeAnswer> {
    let mut by: BTreeMap<(String, String), LinkEdgeAnswer> = BTreeMap::new();
    for c in &links.callers {
        let address = if c.caller.is_empty() { c.addresses.keys().next() } else { None };
        let edge = by.entry((c.caller.to_string(), address.cloned().unwrap_or_default())).or_default();
        edge.caller = c.caller.to_string();
        let add = |sum: &mut EncryptedAnswer, n: u64| {
            *sum = share((sum.encrypted + if c.encrypted { n } else { 0 }, sum.all + n));
        };
        add(&mut edge.requests, c.requests);
        add(&mut edge.connections, c.connections);
        if c.encrypted {
            edge.encrypted_last = Some(c.last);
            edge.id.clone_from(&c.id);
            continue;
        }
        edge.plaintext = c.connections > 0 || now.saturating_sub(c.last) < LATELY;
        edge.by_address = c.by_address;
        edge.plaintext_last = Some(c.last);
        let seen = |(address, last): (&String, &u64)| SeenAtAnswer { address: address.clone(), last: *last };
        edge.addresses = c.addresses.iter().map(seen).collect();
        edge.addresses.sort_by(|a, b| b.last.cmp(&a.last).then_with(|| a.address.cmp(&b.address)));
    }
    let mut all: Vec<LinkEdgeAnswer> = by.into_values().collect();
    all.sort_by(|a, b| b.plaintext.cmp(&a.plaintext).then_with(|| b.requests.all.cmp(&a.requests.all)));
    all
}

fn links(call: &Call, app: &str) -> AppLinks {
    call.state.parts.plane.as_ref().map_or_else(AppLinks::default, |p| p.reports.links(app))
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let look = Look::of(&call);
    let called = call.state.parts.plane.as_ref().map_or_else(Vec::new, |p| p.reports.called());
    let apps: BTreeSet<&str> = (look.directory.apps.keys().map(|a| &**a))
        .chain(look.nodes.keys().map(String::as_str))
        .chain(called.iter().map(|a| &**a))
        .collect();
    let after = after(&call);
    let found = apps.into_iter().filter(|app| **app > *after);
    Reply::json(&page(&call, found.map(|app| (app.to_owned(), look.summary(app, &links(&call, app))))))
}

async fn one(call: Call) -> Result<Reply, Problem> {
    let look = Look::of(&call);
    let app = call.param("app");
    let links = links(&call, app);
    if links.callers.is_empty() && look.nodes(app).is_empty() && !look.directory.apps.contains_key(app) {
        return Err(Problem::not_found(format!("no app {app} is known: no instance, no sidecar, no caller")));
    }
    Reply::json(&EncryptionDetail {
        summary: look.summary(app, &links),
        edges: edges(&links, look.now),
        members: look.members(app),
    })
}

async fn timeline(call: Call) -> Result<Reply, Problem> {
    let app = call.param("app").to_owned();
    let rules = concerning(&call, &app).await?;
    let own = subject(&app);
    let page = newest_first(
        &call,
        EVENTS,
        |entry| read(entry).map(|(id, event)| (id.clone(), EventAnswer::new(id, event))),
        |e| e.subject == own || rules.contains(&e.subject),
    );
    Reply::json(&page.await?)
}

/// Rules of which some revision, be it an old one, was for the app.
async fn concerning(call: &Call, app: &str) -> Result<BTreeSet<String>, Problem> {
    let listing = call.state.parts.store.list(&format!("{HISTORY}{RULE}")).await?;
    let mut found = BTreeSet::new();
    for entry in &listing.entries {
        let id = entry.key.strip_prefix(HISTORY).and_then(|rest| rest.rsplit_once('/'));
        let Some((id, _)) = id.filter(|(id, _)| !found.contains(*id)) else { continue };
        let revision: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        let Some(document) = revision["document"].as_str() else { continue };
        let document: Value = serde_json::from_str(document).unwrap_or_default();
        let apps = document["spec"]["scope"]["apps"].as_array();
        if apps.is_none_or(|apps| apps.is_empty() || apps.iter().any(|a| a == app)) {
            found.insert(id.to_owned());
        }
    }
    Ok(found)
}
