//! What a client refused, by resource.
use super::status::Nacked;
use crate::proto::Refused;
use envoy_types::pb::google::rpc;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest reason that is kept, bytes.
const REASON: usize = 1024;
/// How much of a message is searched for names, bytes.
const SEARCHED: usize = 4096;
/// Most refusals that are kept of a kind.
const MOST: usize = 256;

/// A resource as it was sent: its name and version.
pub(super) type Sent = (Arc<str>, Arc<str>);

/// What a client refused of one kind, until something newer of the same name is accepted.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<Arc<str>, Nacked>);

impl Refusals {
    /// Takes a refusal of a response: of what it held that was new. Gives what was refused.
    ///
    /// Which resources are meant is in `details`, as `raddle.v1.Refused`, if Raddle's own client speaks; else those
    /// that the message mentions by name (Envoy's and gRPC's do), else all of them.
    pub(super) fn refuse(&mut self, detail: &rpc::Status, sent: &[Sent], now_ms: u64) -> Vec<Nacked> {
        let named = by_details(detail, sent);
        let meant = if named.is_empty() { by_message(detail, sent) } else { named };
        let refused: Vec<Nacked> = meant
            .into_iter()
            .map(|((name, version), reason)| Nacked {
                name: name.to_string(),
                version: version.to_string(),
                reason: cut(&reason, REASON).to_owned(),
                since_ms: now_ms,
            })
            .collect();
        for nacked in &refused {
            if self.0.len() < MOST || self.0.contains_key(&*nacked.name) {
                self.0.insert(nacked.name.as_str().into(), nacked.clone());
            }
        }
        refused
    }

    /// Forgets about resources that were accepted.
    pub(super) fn accept(&mut self, sent: &[Sent]) {
        if !self.0.is_empty() {
            for (name, _) in sent {
                self.0.remove(name);
            }
        }
    }

    /// Forgets about one that is gone or no longer wanted.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn list(&self) -> Vec<Nacked> {
        self.0.values().cloned().collect()
    }
}

fn by_details<'a>(detail: &rpc::Status, sent: &'a [Sent]) -> Vec<(&'a Sent, String)> {
    let own: Vec<Refused> = detail
        .details
        .iter()
        .filter(|any| any.type_url.ends_with("/raddle.v1.Refused"))
        .filter_map(|any| Refused::decode(&*any.value).ok())
        .take(MOST)
        .collect();
    own.into_iter()
        .filter_map(|refused| {
            sent.iter().find(|(name, _)| **name == *refused.name).map(|s| (s, refused.reason))
        })
        .collect()
}

fn by_message<'a>(detail: &rpc::Status, sent: &'a [Sent]) -> Vec<(&'a Sent, String)> {
    // Bounded: a stranger must not make the server search megabytes for thousands of names.
    let message = cut(&detail.message, SEARCHED);
    let mentioned: Vec<&Sent> = sent.iter().filter(|(name, _)| mentions(message, name)).take(MOST).collect();
    let meant = if mentioned.is_empty() { sent.iter().take(MOST).collect() } else { mentioned };
    meant.into_iter().map(|s| (s, message.to_owned())).collect()
}

/// Whether a text has that name in it, not as a part of a longer one.
fn mentions(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    !name.is_empty()
        && text.match_indices(name).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + name.len()..].chars().next();
            !before.is_some_and(part) && !after.is_some_and(part)
        })
}

fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::google::protobuf::Any;

    fn sent() -> Vec<Sent> {
        [("a", "1"), ("ab", "2"), ("c", "3")].map(|(n, v)| (n.into(), v.into())).to_vec()
    }

    fn refuse(detail: &rpc::Status) -> Vec<String> {
        Refusals::default().refuse(detail, &sent(), 7).into_iter().map(|n| n.name).collect()
    }

    #[test]
    fn the_resources_a_message_mentions_are_those_refused() {
        let detail =
            rpc::Status { message: "Error adding/updating cluster(s) ab: bad".into(), ..Default::default() };
        assert_eq!(refuse(&detail), ["ab"]);
    }

    #[test]
    fn a_message_that_mentions_none_refuses_all() {
        let detail = rpc::Status { message: "no".into(), ..Default::default() };
        assert_eq!(refuse(&detail), ["a", "ab", "c"]);
    }

    #[test]
    fn details_say_which_and_why_of_each() {
        let one = Refused { name: "c".into(), reason: "too long".into(), ..Refused::default() };
        let any =
            Any { type_url: "type.googleapis.com/raddle.v1.Refused".into(), value: one.encode_to_vec() };
        let detail = rpc::Status { message: "a, c".into(), details: vec![any], ..Default::default() };
        let refused = Refusals::default().refuse(&detail, &sent(), 7);
        assert_eq!((refused.len(), &*refused[0].name, &*refused[0].reason), (1, "c", "too long"));
        assert_eq!((&*refused[0].version, refused[0].since_ms), ("3", 7));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut refusals = Refusals::default();
        let many: Vec<Sent> = (0..1000).map(|i| (format!("r{i}").into(), "1".into())).collect();
        let detail = rpc::Status { message: "é".repeat(5000), ..Default::default() };
        refusals.refuse(&detail, &many, 0);
        assert_eq!(refusals.list().len(), MOST);
        assert!(refusals.list().iter().all(|n| n.reason.len() <= REASON));
    }
}
