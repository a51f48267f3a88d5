//! Tells metrics and events how it goes with the instance's certificate.
use super::agent::AgentStatus;
use raddle_telemetry::{Event, Events, MeshCells, Severity};

/// What was told last.
#[derive(Debug, Default)]
pub(crate) struct Told(AgentStatus);

impl Told {
    /// Takes the present state in.
    pub(crate) fn follow(&mut self, now: &AgentStatus, cells: &MeshCells, events: &Events) {
        let before = std::mem::replace(&mut self.0, now.clone());
        cells.certificate_ends.set(now.not_after.unwrap_or(0));
        cells.certificate_renewals.add(now.renewals.saturating_sub(before.renewals));
        cells.certificate_failures.add(now.failed.saturating_sub(before.failed));
        let why = now.error.as_deref().unwrap_or("no cause is known");
        let tell = |kind, severity, what: &str| {
            events.record(Event::new(kind, severity, "certificate", format!("{what}: {why}")));
        };
        // Once for each cause: attempts go on for as long as it takes.
        if now.failed > before.failed && now.error.is_some() && now.error != before.error {
            tell("certificate_failed", Severity::Warning, "none was got, it is tried again");
        }
        if now.expiring && !now.expired && !before.expiring {
            tell("certificate_expiring", Severity::Error, "it expires soon and cannot be renewed");
        }
        if now.expired && !before.expired {
            tell("certificate_expired", Severity::Error, "it has expired, and peers refuse it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(failed: u64, expiring: bool, expired: bool) -> AgentStatus {
        let error = Some("no answer".to_owned());
        AgentStatus {
            not_after: Some(1000),
            renewals: 1,
            failed,
            error,
            expiring,
            expired,
            ..Default::default()
        }
    }

    #[test]
    fn failures_are_counted_each_and_told_once() {
        let (cells, events, mut told) = (MeshCells::default(), Events::new(64), Told::default());
        let kinds = || -> Vec<&'static str> { events.list(0).iter().map(|e| e.kind).collect() };
        told.follow(
            &AgentStatus { not_after: Some(1000), renewals: 1, ..Default::default() },
            &cells,
            &events,
        );
        assert!(kinds().is_empty());
        for n in 1..4 {
            told.follow(&failing(n, false, false), &cells, &events);
        }
        assert_eq!(kinds(), ["certificate_failed"]);
        told.follow(&failing(4, true, false), &cells, &events);
        told.follow(&failing(5, true, true), &cells, &events);
        assert_eq!(kinds(), ["certificate_failed", "certificate_expiring", "certificate_expired"]);
        assert_eq!(cells.certificate_ends.read(), 1000);
        assert_eq!((cells.certificate_renewals.read(), cells.certificate_failures.read()), (1, 5));
    }
}
