//! Pages of what lies in order.
use super::http::shape::Page;
use super::http::{Call, Problem, Shape};
use crate::events::now_ms;
use raddle_store::Entry;

/// One page of items that come in the order of their keys, all of them after `after`.
pub(crate) fn page<T>(call: &Call, items: impl Iterator<Item = (String, T)>) -> Page<T>
where
    T: Shape,
{
    let limit = call.query.limit();
    let mut keys = Vec::new();
    let mut taken = Vec::new();
    let mut more = false;
    for (key, item) in items {
        if taken.len() == limit {
            more = true;
            break;
        }
        keys.push(key);
        taken.push(item);
    }
    Page { items: taken, next: if more { keys.pop() } else { None } }
}

/// Where the page begins; an empty text = at the begin.
pub(crate) fn after(call: &Call) -> String {
    call.query.text("after").unwrap_or("").to_owned()
}

/// A page of a log whose keys sort by time, the newest first: `after` is the last id seen, `since` the oldest time.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn newest_first<T: Shape>(
    call: &Call,
    prefix: &str,
    read: impl Fn(&Entry) -> Option<(String, T)>,
    keep: impl Fn(&T) -> bool,
) -> Result<Page<T>, Problem> {
    let listing = call.state.parts.store.list(prefix).await?;
    let before = call.query.text("after").map(|id| format!("{prefix}{id}"));
    let since = match call.query.whole("since") {
        Some(seconds) => format!("{prefix}{:015}", now_ms().saturating_sub(seconds.saturating_mul(1000))),
        None => String::new(),
    };
    let wanted = listing
        .entries
        .iter()
        .rev()
        .skip_while(|e| before.as_ref().is_some_and(|before| &*e.key >= before.as_str()))
        .take_while(|e| &*e.key >= since.as_str())
        .filter_map(read)
        .filter(|(_, item)| keep(item));
    Ok(page(call, wanted))
}
