//! Between the store's words and etcd's.
use super::proto::{
    Compare, CompareResult, CompareTarget, CompareWith, DeleteRangeRequest, KeyValue, PutRequest,
    RangeRequest, Request, RequestOp, TxnRequest, TxnResponse,
};
use crate::types::{Entry, Expect, Key, LeaseId, Op, Outcome, Revision, StoreError, Txn};
use bytes::Bytes;

/// Where in etcd a prefix of the store's lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    whole: String,
    /// Bytes of it that the store's users do not see.
    hidden: usize,
}

impl Place {
    pub(super) fn new(hidden: &str, prefix: &str) -> Place {
        Place { whole: format!("{hidden}{prefix}"), hidden: hidden.len() }
    }

    /// The first key of the range; etcd's name for "from the first" is a zero byte.
    pub(super) fn begin(&self) -> Bytes {
        if self.whole.is_empty() { Bytes::from_static(b"\0") } else { Bytes::from(self.whole.clone()) }
    }

    /// The key after the range's last one; "to the last" is a zero byte.
    pub(super) fn end(&self) -> Bytes {
        let mut end = self.whole.clone().into_bytes();
        match end.last_mut() {
            // UTF-8 has no byte 0xff.
            Some(last) => *last += 1,
            None => end.push(0),
        }
        Bytes::from(end)
    }
}

/// A revision as the store's users see it.
pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or(0))
}

/// An entry as the store's users see it.
pub(super) fn entry(kv: KeyValue, place: &Place) -> Result<Entry, StoreError> {
    let key = std::str::from_utf8(&kv.key).ok().and_then(|key| key.get(place.hidden..));
    let Some(key) = key else {
        return Err(StoreError::Corrupt(format!("etcd has a key that is no text: {:?}", kv.key)));
    };
    let lease = (kv.lease != 0).then_some(LeaseId(kv.lease));
    Ok(Entry { key: Key::from(key), value: kv.value, changed: revision(kv.mod_revision), lease })
}

/// The request for one key.
pub(super) fn one(hidden: &str, key: &str) -> RangeRequest {
    RangeRequest { key: Bytes::from(format!("{hidden}{key}")), ..RangeRequest::default() }
}

/// A transaction as etcd's; if it fails, what is at the expected keys is read.
pub(super) fn request(hidden: &str, txn: Txn) -> TxnRequest {
    let op = |request| RequestOp { request: Some(request) };
    let place = |key: &str| Bytes::from(format!("{hidden}{key}"));
    let compare = |(key, expect): &(Key, Expect)| {
        let (result, target, with) = match expect {
            Expect::Absent => (CompareResult::Equal, CompareTarget::Create, CompareWith::CreateRevision(0)),
            Expect::Present => {
                (CompareResult::Greater, CompareTarget::Create, CompareWith::CreateRevision(0))
            }
            Expect::At(at) => {
                (CompareResult::Equal, CompareTarget::Mod, CompareWith::ModRevision(at.0 as i64))
            }
        };
        Compare { result: result.into(), target: target.into(), key: place(key), with: Some(with) }
    };
    TxnRequest {
        compare: txn.expect.iter().map(compare).collect(),
        failure: txn.expect.iter().map(|(key, _)| op(Request::Range(one(hidden, key)))).collect(),
        success: txn
            .ops
            .into_iter()
            .map(|change| match change {
                Op::Put { key, value, lease } => {
                    let lease = lease.map_or(0, |l| l.0);
                    op(Request::Put(PutRequest { key: place(&key), value, lease }))
                }
                Op::Delete { key } => op(Request::DeleteRange(DeleteRangeRequest { key: place(&key) })),
            })
            .collect(),
    }
}

/// What etcd's answer says about a transaction that expected this.
pub(super) fn outcome(
    expected: Vec<(Key, Expect)>,
    answer: TxnResponse,
    place: &Place,
) -> Result<Outcome, StoreError> {
    if answer.succeeded {
        return Ok(Outcome::Done(revision(answer.header.map_or(0, |h| h.revision))));
    }
    for ((key, expect), response) in expected.into_iter().zip(answer.responses) {
        let found = response.range.and_then(|range| range.kvs.into_iter().next());
        let found = found.map(|kv| entry(kv, place)).transpose()?;
        let holds = match expect {
            Expect::Absent => found.is_none(),
            Expect::Present => found.is_some(),
            Expect::At(at) => found.as_ref().is_some_and(|e| e.changed == at),
        };
        if !holds {
            return Ok(Outcome::Conflict(key, found));
        }
    }
    Err(StoreError::Corrupt("etcd refused a transaction whose expectations all hold".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_range_of_just_its_keys() {
        let place = Place::new("raddle/", "rules/");
        assert_eq!((place.begin(), place.end()), ("raddle/rules/".into(), "raddle/rules0".into()));
        let all = Place::new("", "");
        assert_eq!((&all.begin()[..], &all.end()[..]), (&b"\0"[..], &b"\0"[..]));
    }

    #[test]
    fn a_foreign_key_that_is_no_text_is_told_and_not_guessed() {
        let kv = KeyValue { key: Bytes::from_static(b"raddle/\xff"), ..KeyValue::default() };
        assert!(matches!(entry(kv, &Place::new("raddle/", "")), Err(StoreError::Corrupt(_))));
    }
}
