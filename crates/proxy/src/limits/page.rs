//! `/limits`: what holds requests back now, and why.
use crate::shared::Shared;
use raddle_model::{Forced, InterfaceBy, RuleMode};
use raddle_policy::limit::{self, adaptive};
use serde::Serialize;
use std::fmt::{self, Write};
use std::sync::Arc;

/// What `/limits` shows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    /// Adaptive limiting, if there is a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    adaptive: Option<Adaptive>,
    /// The rest.
    #[serde(flatten)]
    plain: limit::View,
    /// Requests under way that a limit counts.
    in_flight: i64,
    /// Requests that wait because a limit lets them pass later.
    waiting: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Adaptive {
    rule: Arc<str>,
    mode: RuleMode,
    by: InterfaceBy,
    threshold: f64,
    /// What is read of the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    sensing: Option<Arc<super::thread::Sensing>>,
    /// What the controller knows and does; absent until it has looked for the first time.
    #[serde(flatten)]
    view: Option<Arc<adaptive::View>>,
}

impl Page {
    pub(crate) fn of(shared: &Shared) -> Page {
        let adaptive = shared.limits.load_full().map(|l| Adaptive {
            rule: l.rule.clone(),
            mode: l.settings.mode,
            by: l.settings.by,
            threshold: l.settings.threshold,
            sensing: l.sensing.load_full(),
            view: l.view.load_full(),
        });
        let workers = || (0..shared.registry.workers()).map(|w| shared.registry.shard(w));
        Page {
            adaptive,
            plain: shared.config.load().snapshot.limits().view(shared.clock.now()),
            in_flight: workers().map(|s| s.limit_in_flight.read()).sum(),
            waiting: workers().map(|s| s.limit_waiting.read()).sum(),
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        if self.adaptive.is_none() && self.plain.limits.is_empty() && self.plain.breakers.is_empty() {
            out.push_str("no limits\n");
        }
        if let Some(a) = &self.adaptive {
            a.write(out)?;
        }
        for l in &self.plain.limits {
            let mode = observed(l.mode);
            writeln!(out, "{}{mode}: {} {}", l.rule, l.link, l.says)?;
            let held = held(l.mode, l.held, l.would_have_held);
            let would = if l.mode == RuleMode::Observe { "would have " } else { "" };
            writeln!(out, "    passed {}, {held}, {would}waited {}", l.passed, l.waited)?;
            for v in &l.values {
                writeln!(out, "    {:?}: {would}held {}", v.value, v.held)?;
            }
        }
        for b in &self.plain.breakers {
            write!(out, "{}{}: ", b.rule, observed(b.mode))?;
            match b.forced {
                Some(Forced::Open) => writeln!(out, "held open by hand")?,
                Some(Forced::Closed) => writeln!(out, "held closed by hand")?,
                None => writeln!(out, "{} closed, {} not", b.closed, b.unwell)?,
            }
            writeln!(out, "    passed {}, {}", b.passed, held(b.mode, b.held, b.would_have_held))?;
            for t in b.targets.iter().filter(|t| t.why.is_some() && b.forced.is_none()) {
                let why = t.why.as_deref().unwrap_or_default();
                writeln!(out, "    {}: {:?}, {why}", t.target, t.state)?;
            }
        }
        writeln!(out, "in flight {}, waiting {}", self.in_flight, self.waiting)
    }
}

impl Adaptive {
    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "{}{}", self.rule, observed(self.mode))?;
        if let Some(s) = &self.sensing {
            writeln!(out, "    reads {}", s.from)?;
        }
        let Some(v) = &self.view else { return writeln!(out, "    has not looked yet") };
        let l = &v.level;
        let would = self.mode == RuleMode::Observe;
        let (holds, held) = if would { ("would hold", "would be held") } else { ("holds", "held") };
        match v.tier {
            0 if !v.active => writeln!(out, "    {holds} nothing")?,
            0 => writeln!(out, "    is short, and {holds} nothing but load tests")?,
            1 => writeln!(out, "    {holds} those that cause the shortage")?,
            _ => writeln!(out, "    {holds} everything")?,
        }
        writeln!(
            out,
            "    cpu {:.0} % of {:.2} cores (short above {:.0} %), queue {:.3} s, {} interfaces",
            l.cpu * 100.0,
            l.cores,
            self.threshold * 100.0,
            l.q,
            v.interfaces
        )?;
        for c in &v.culprits {
            writeln!(
                out,
                "    {held}: {}: {:.1}/s offered, {:.1}/s pass, {:.1}/s as usual, {:.2} ms each",
                c.name, c.offered, c.limit, c.baseline, c.cost_ms
            )?;
        }
        Ok(())
    }
}

/// What a rule held, and what it would have: both, if it was of the other mode before.
fn held(mode: RuleMode, all: u64, would: u64) -> String {
    match (mode, all - would) {
        (RuleMode::Observe, 0) => format!("would have held {would}"),
        (RuleMode::Enforce, held) if would == 0 => format!("held {held}"),
        (_, held) => format!("held {held}, would have held {would}"),
    }
}

const fn observed(mode: RuleMode) -> &'static str {
    match mode {
        RuleMode::Enforce => "",
        RuleMode::Observe => " (observed only)",
    }
}
