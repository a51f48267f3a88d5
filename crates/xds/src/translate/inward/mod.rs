//! Envoy's resources, as Raddle's model can say them.
//!
//! Two kinds of server are understood. From Raddle's own control plane, clusters carry filter metadata `raddle`:
//! they are services, and everything Envoy needs beside it is left alone; rules come as rules. From any other
//! server the policy is in Envoy's own fields, and what the model cannot say is a mistake, told with its field and
//! what would be right; fields without effect on where requests go are passed over by name where they are read, so
//! that a new one is a compile error and not a silence.
mod action;
mod bundle;
mod cluster;
mod endpoints;
mod listener;
mod matching;
mod policy;
mod routes;
mod values;

pub use cluster::{Cluster, Discovery};
pub use endpoints::Endpoints;
pub use listener::Listener;
pub use routes::{Routes, VirtualHost, label};

use crate::client::RuleDoc;
use crate::proto;
use crate::types::Kind;
use prost::Message;
use raddle_model::{LoadOptions, Resources, Source};
use std::fmt::Display;
use std::sync::Arc;

/// A resource, read.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// CDS.
    Cluster(Arc<Cluster>),
    /// EDS.
    Endpoints(Arc<Endpoints>),
    /// LDS.
    Listener(Arc<Listener>),
    /// RDS.
    Routes(Arc<Routes>),
    /// SDS: roots of trust, DER.
    Bundle(Vec<Vec<u8>>),
    /// A rule of Raddle's.
    Rule(RuleDoc),
}

/// Reads a resource's bytes, or says everything that is wrong with it.
pub fn parse(kind: Kind, value: &[u8]) -> Result<Parsed, String> {
    let mut faults = Faults::default();
    let parsed = match kind {
        Kind::Cluster => cluster::read(decode(value)?, &mut faults).map(|c| Parsed::Cluster(Arc::new(c))),
        Kind::Endpoints => {
            endpoints::read(decode(value)?, &mut faults).map(|e| Parsed::Endpoints(Arc::new(e)))
        }
        Kind::Secret => bundle::read(decode(value)?, &mut faults).map(Parsed::Bundle),
        Kind::Rule => rule(decode(value)?, &mut faults).map(Parsed::Rule),
        Kind::Listener => listener::read(decode(value)?, &mut faults).map(|l| Parsed::Listener(Arc::new(l))),
        Kind::Routes => routes::read(decode(value)?, &mut faults).map(|r| Parsed::Routes(Arc::new(r))),
    };
    match parsed {
        Some(parsed) if faults.0.is_empty() => Ok(parsed),
        _ => Err(faults.told()),
    }
}

/// The name inside a resource, as far as its bytes can be read.
pub fn name_of(kind: Kind, value: &[u8]) -> Option<String> {
    /// Every one of Envoy's kinds has its name in the first field.
    #[derive(Clone, PartialEq, Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }
    let name = match kind {
        Kind::Rule => {
            let rule = proto::Rule::decode(value).ok()?;
            format!("{}/{}", rule.kind, rule.name)
        }
        _ => Named::decode(value).ok()?.name,
    };
    (!name.is_empty()).then_some(name)
}

fn decode<M: Message + Default>(value: &[u8]) -> Result<M, String> {
    M::decode(value).map_err(|e| format!("does not decode: {e}"))
}

fn rule(rule: proto::Rule, faults: &mut Faults) -> Option<RuleDoc> {
    if !values::is_name(&rule.kind) || !values::is_name(&rule.name) {
        faults.add("name", "a rule needs a kind and a name");
    }
    if rule.revision.is_empty() || rule.revision.len() > 64 {
        faults.add("revision", "is no hash");
    }
    match std::str::from_utf8(&rule.document) {
        Ok(json) if json.trim_start().starts_with('{') => {
            Some(RuleDoc { revision: rule.revision.into(), json: json.into() })
        }
        _ => {
            faults.add("document", "is no JSON object");
            None
        }
    }
}

/// Reads a document of the model, so that everything built here has passed the same checks as a file.
fn model(document: &serde_json::Value, faults: &mut Faults) -> Option<Resources> {
    let source = Source { name: String::new(), text: document.to_string() };
    match raddle_model::load(&[source], LoadOptions::rules_only()) {
        Ok((resources, _)) => Some(resources),
        Err(report) => {
            for mistake in report.mistakes.iter().take(MOST_FAULTS) {
                faults.add("", format_args!("{}: {}; {}", mistake.path, mistake.problem, mistake.remedy));
            }
            None
        }
    }
}

/// Most faults that are told of one resource.
const MOST_FAULTS: usize = 8;

/// What is wrong with a resource, by field.
#[derive(Debug, Default)]
struct Faults(Vec<String>);

impl Faults {
    /// Notes one; an empty field is the resource as a whole.
    fn add(&mut self, field: &str, problem: impl Display) {
        match self.0.len() {
            n if n > MOST_FAULTS => {}
            MOST_FAULTS => self.0.push("and more".into()),
            _ if field.is_empty() => self.0.push(shortened(problem.to_string())),
            _ => self.0.push(shortened(format!("{field}: {problem}"))),
        }
    }

    fn told(&self) -> String {
        if self.0.is_empty() { "cannot be read".into() } else { self.0.join("; ") }
    }
}

/// A server's text may be of any length; what is sent back to it is not.
fn shortened(mut text: String) -> String {
    const LONGEST: usize = 400;
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
