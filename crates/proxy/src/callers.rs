//! Who calls, in how many rows as fit: for reports of edges, and for those who want to know who still comes in
//! plaintext.
use crate::links::CallerRow;
use crate::worker::Worker;
use ahash::AHashMap;
use raddle_core::Time;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Rows a worker keeps; the rest shares the first.
const ROWS: usize = 256;
/// A caller without a connection is forgotten after this long, if room is wanted.
const FORGET: Duration = Duration::from_secs(600);
/// Name of the row that the rest shares.
const OTHER: &str = "other";
/// Longest name of an app that is kept.
const NAME: usize = 128;

/// Number of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row(u32);

impl Row {
    /// Of a connection that was not counted.
    pub const NONE: Row = Row(0);
}

struct Entry {
    app: Box<str>,
    id: Option<Arc<str>>,
    ip: Option<IpAddr>,
    encrypted: bool,
    requests: u64,
    connections: u32,
    at: Time,
}

/// A worker's rows.
#[derive(Default)]
pub(crate) struct Callers {
    rows: Vec<Entry>,
    index: AHashMap<(Box<str>, Option<IpAddr>, bool), u32>,
}

impl Callers {
    /// The row of a caller, made if there is room. Counts a connection in it.
    pub(crate) fn join(
        &mut self,
        app: &[u8],
        id: Option<&Arc<str>>,
        ip: Option<IpAddr>,
        encrypted: bool,
        now: Time,
    ) -> Row {
        let app = String::from_utf8_lossy(&app[..app.len().min(NAME)]).into_owned().into_boxed_str();
        let row = match self.index.get(&(app.clone(), ip, encrypted)) {
            Some(&row) => row,
            None => self.make(app, id, ip, encrypted, now),
        };
        let r = &mut self.rows[row as usize];
        r.connections += 1;
        r.at = now;
        Row(row + 1)
    }

    fn make(
        &mut self,
        app: Box<str>,
        id: Option<&Arc<str>>,
        ip: Option<IpAddr>,
        encrypted: bool,
        now: Time,
    ) -> u32 {
        // The rest is told apart by encryption still: rows 0 and 1.
        if self.rows.is_empty() {
            for encrypted in [false, true] {
                self.rows.push(Entry {
                    app: OTHER.into(),
                    id: None,
                    ip: None,
                    encrypted,
                    requests: 0,
                    connections: 0,
                    at: now,
                });
            }
        }
        let entry =
            Entry { app: app.clone(), id: id.cloned(), ip, encrypted, requests: 0, connections: 0, at: now };
        let row = if self.rows.len() < ROWS {
            self.rows.push(entry);
            self.rows.len() - 1
        } else {
            let old = |e: &Entry| e.connections == 0 && now.since(e.at) >= FORGET;
            let Some(free) = self.rows.iter().skip(2).position(old) else { return u32::from(encrypted) };
            let before = std::mem::replace(&mut self.rows[free + 2], entry);
            self.index.remove(&(before.app, before.ip, before.encrypted));
            free + 2
        };
        self.index.insert((app, ip, encrypted), row as u32);
        row as u32
    }

    /// Whether what is known of the caller is only where it comes from.
    pub(crate) fn unnamed(&self, row: Row) -> bool {
        self.entry(row).is_some_and(|e| e.app.is_empty())
    }

    fn entry(&self, row: Row) -> Option<&Entry> {
        self.rows.get((row.0 as usize).checked_sub(1)?)
    }

    /// Counts a request.
    #[inline]
    pub(crate) fn request(&mut self, row: Row, now: Time) {
        if let Some(e) = (row.0 as usize).checked_sub(1).and_then(|i| self.rows.get_mut(i)) {
            e.requests += 1;
            e.at = now;
        }
    }

    /// A connection has ended.
    pub(crate) fn leave(&mut self, row: Row) {
        if let Some(e) = (row.0 as usize).checked_sub(1).and_then(|i| self.rows.get_mut(i)) {
            e.connections = e.connections.saturating_sub(1);
        }
    }

    fn told(&self, now: Time) -> Vec<CallerRow> {
        let seen = |e: &&Entry| e.connections > 0 || e.requests > 0;
        self.rows
            .iter()
            .filter(seen)
            .map(|e| CallerRow {
                app: e.app.clone(),
                id: e.id.clone(),
                ip: e.ip,
                encrypted: e.encrypted,
                requests: e.requests,
                connections: e.connections,
                idle: now.since(e.at),
            })
            .collect()
    }
}

/// The rows of several workers as one list, busiest first.
pub(crate) fn sum(rows: impl Iterator<Item = CallerRow>) -> Vec<CallerRow> {
    let mut all: AHashMap<(Box<str>, Option<IpAddr>, bool), CallerRow> = AHashMap::new();
    for row in rows {
        match all.get_mut(&(row.app.clone(), row.ip, row.encrypted)) {
            None => {
                all.insert((row.app.clone(), row.ip, row.encrypted), row);
            }
            Some(sum) => {
                sum.requests += row.requests;
                sum.connections += row.connections;
                sum.idle = sum.idle.min(row.idle);
            }
        }
    }
    let mut all: Vec<CallerRow> = all.into_values().collect();
    all.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| (&a.app, a.ip).cmp(&(&b.app, b.ip))));
    all
}

impl Worker {
    /// Who called here.
    pub(crate) fn caller_rows(&self) -> Vec<CallerRow> {
        self.callers_seen.told(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time::from_millis(s * 1000)
    }

    #[test]
    fn rows_are_bounded_and_the_rest_is_counted_together() {
        let mut callers = Callers::default();
        for i in 0..1000u32 {
            let row = callers.join(format!("app{i}").as_bytes(), None, None, false, at(1));
            callers.request(row, at(1));
        }
        let told = callers.told(at(2));
        assert!(told.len() <= ROWS);
        assert_eq!(told.iter().map(|r| r.requests).sum::<u64>(), 1000);
        assert_eq!(told.iter().map(|r| r.connections).sum::<u32>(), 1000);
        assert!(told.iter().any(|r| &*r.app == OTHER && r.requests > 700));
    }

    #[test]
    fn a_caller_that_is_gone_makes_room_for_another() {
        let mut callers = Callers::default();
        for i in 0..300u32 {
            let row = callers.join(format!("app{i}").as_bytes(), None, None, true, at(1));
            callers.leave(row);
        }
        let row = callers.join(b"late", None, None, true, at(700));
        callers.request(row, at(700));
        let told = callers.told(at(701));
        assert!(told.iter().any(|r| &*r.app == "late" && r.encrypted && r.idle == Duration::from_secs(1)));
    }
}
