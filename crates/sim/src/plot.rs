//! A run as a picture: what happened in each second, in panels above one another, in SVG.
mod canvas;

use crate::measure::{Run, Second, THETA};
use crate::scenario::{Role, Scenario};
use canvas::{Canvas, Line};

/// Seconds shown before the event.
const BEFORE: usize = 20;

const OURS: &str = "#0f766e";
const CULPRIT: &str = "#b45309";
const TEST: &str = "#7c3aed";
const OTHER: &str = "#94a3b8";
const BOUND: &str = "#475569";

/// The picture of a run, with another one of the same scenario and seed in grey behind it.
pub fn svg(scenario: &Scenario, subtitle: &str, run: &Run, beside: Option<(&str, &Run)>) -> String {
    let first = (scenario.warm as usize).saturating_sub(BEFORE);
    let last = scenario.end() as usize;
    let shown = |run: &Run| run.seconds[first..last].to_vec();
    let (own, other) = (shown(run), beside.map(|(name, run)| (name, shown(run))));
    let panels = panels(scenario);
    let event = [scenario.warm, scenario.warm + scenario.event].map(|t| t - scenario.warm);
    let title = format!("{}: {}", scenario.name, scenario.about);
    let begin = first as f64 - scenario.warm;
    let mut canvas = Canvas::new(&title, subtitle, panels.len(), [begin, last as f64 - scenario.warm], event);
    for panel in &panels {
        let mut lines = Vec::new();
        if let Some((name, other)) = &other {
            let values = other.iter().map(|s| (panel.series[0].of)(s)).collect();
            lines.push(Line { name: (*name).to_owned(), colour: OTHER, dashed: false, values });
        }
        for bound in &panel.bounds {
            let values = (first..last).map(|t| (bound.1)(t as f64 + 0.5)).collect();
            lines.push(Line { name: bound.0.to_owned(), colour: BOUND, dashed: true, values });
        }
        for series in panel.series.iter().rev() {
            let values = own.iter().map(series.of).collect();
            lines.push(Line { name: series.name.to_owned(), colour: series.colour, dashed: false, values });
        }
        canvas.panel(panel.title, panel.most, &lines);
    }
    canvas.done()
}

struct Series {
    name: &'static str,
    colour: &'static str,
    of: fn(&Second) -> f64,
}

type Bound<'a> = (&'static str, Box<dyn Fn(f64) -> f64 + 'a>);

struct Panel<'a> {
    title: &'static str,
    /// The scale's end, if values themselves do not say it.
    most: Option<f64>,
    series: Vec<Series>,
    bounds: Vec<Bound<'a>>,
}

fn panels(scenario: &Scenario) -> Vec<Panel<'_>> {
    let line = |name, colour, of| Series { name, colour, of };
    let mut panels = vec![
        Panel {
            title: "load, share of the cores",
            most: Some(1.0),
            series: vec![line("load", OURS, |s| s.busy / s.cores)],
            bounds: vec![("0.8", Box::new(|_| THETA))],
        },
        Panel {
            title: "queue, seconds of work",
            most: None,
            series: vec![line("queue", OURS, |s| s.queue)],
            bounds: Vec::new(),
        },
        Panel {
            title: "innocents: share answered in time",
            most: Some(1.0),
            series: vec![line("innocents", OURS, |s| {
                if s.offered[0] == 0 { 1.0 } else { f64::from(s.good[0]) / f64::from(s.offered[0]) }
            })],
            bounds: Vec::new(),
        },
    ];
    if scenario.surges.iter().any(|s| scenario.interfaces[s.interface].role == Role::Culprit) {
        let cores = scenario.cores;
        let demand = move |t: f64| scenario.demand(Role::Culprit, t) * cores;
        let feasible = move |t: f64| {
            let room = THETA * scenario.cores_at(t) - scenario.demand(Role::Innocent, t) * cores;
            demand(t).min(room.max(0.0))
        };
        panels.insert(
            2,
            Panel {
                title: "culprits, cores",
                most: None,
                series: vec![line("answered in time", CULPRIT, |s| s.good_work[1])],
                bounds: vec![("asked for", Box::new(demand)), ("feasible", Box::new(feasible))],
            },
        );
    }
    panels.push(Panel {
        title: "rejections a second",
        most: None,
        series: vec![
            line("innocents", OURS, |s| f64::from(s.rejects[0])),
            line("culprits", CULPRIT, |s| f64::from(s.rejects[1])),
            line("load test", TEST, |s| f64::from(s.rejects[2])),
        ],
        bounds: Vec::new(),
    });
    panels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::none::Unlimited;

    #[test]
    fn a_picture_has_every_panel_and_no_number_that_is_none() {
        let mut scenario = crate::scenario::find("S1", 1).unwrap();
        (scenario.warm, scenario.event, scenario.after) = (30.0, 10.0, 10.0);
        let run = crate::run(&scenario, 1, &mut Unlimited);
        let svg = svg(&scenario, "limiter none, seed 1", &run, Some(("none", &run)));
        for text in
            ["S1: one interface", "load, share", "queue", "culprits", "innocents", "rejections", "</svg>"]
        {
            assert!(svg.contains(text), "{text}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
    }
}
