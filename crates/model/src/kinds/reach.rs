//! `spec.scope` and `spec.rollout`, which every rule kind has.
use super::names;
use crate::decode::{
    At, Choice, CidrText, Codec, Cx, DurationIn, Fields, Int, List, Percent, Record, Share, Spotted, TextMap,
    quote, scalar,
};
use crate::resources::{Guard, Labels, OnBreach, Rollout, Scope, Stage};
use crate::yaml::{Node, Spot};
use std::time::Duration;

/// `spec.scope` and `spec.rollout`.
pub(super) fn reach(fields: &mut Fields<'_>) -> (Scope, Option<Rollout>) {
    let meaning = "Which sidecars the rule reaches; every given part must hold. Absent = all.";
    let scope = fields.or("scope", Record(scope), Scope::default(), meaning);
    let meaning = "How a change of this rule spreads. The control plane does that: in a static file it is read and has no \
                   effect, the rule holds at once.";
    (scope, fields.optional("rollout", Record(rollout), "all sidecars at once", meaning))
}

fn scope(fields: &mut Fields<'_>) -> Option<Scope> {
    Some(Scope {
        apps: fields.or("apps", names("an app's name"), Vec::new(), "Apps of the sidecars; empty = all."),
        units: fields.or("units", names("a unit's name"), Vec::new(), "Units of the sidecars; empty = all."),
        groups: fields.or(
            "groups",
            names("a group's name"),
            Vec::new(),
            "Groups of the sidecars; empty = all.",
        ),
        versions: fields.or(
            "versions",
            names("a version"),
            Vec::new(),
            "Versions of the sidecars' apps; empty = all.",
        ),
        labels: fields.or("labels", TextMap, Labels::new(), "Labels the sidecar must have, all of them."),
        addresses: fields.or(
            "addresses",
            List(CidrText),
            Vec::new(),
            "Blocks of addresses the sidecar must be in one of; empty = anywhere.",
        ),
        percent_ppm: fields.optional(
            "percent",
            Percent,
            "all",
            "Share of the sidecars, chosen by a stable hash of the instance id: always the same ones, and those of a \
             smaller share are also in every greater one.",
        ),
    })
}

fn rollout(fields: &mut Fields<'_>) -> Option<Rollout> {
    const BREACH: Choice<OnBreach> = Choice(&[("rollback", OnBreach::Rollback), ("pause", OnBreach::Pause)]);
    let before = fields.mistakes();
    let stages = fields.required(
        "stages",
        List(Spotted(Record(stage))),
        "Shares of the sidecars in rising order; the last is 100. Who is first is chosen by a stable hash of the \
         instance id and the rollout.",
    );
    if let Some(stages) = &stages
        && fields.mistakes() == before
    {
        check_stages(fields, stages);
    }
    let guard = fields.optional(
        "guard",
        Record(guard),
        "not watched",
        "What must not happen among the sidecars that have the change.",
    );
    let on_breach = fields.or(
        "onBreach",
        BREACH,
        OnBreach::Rollback,
        "What a breach of the guard does: `rollback` = everyone goes back to the former revision; `pause` = it stays as \
         it is until someone decides.",
    );
    let stages: Vec<Stage> = stages?.into_iter().map(|(stage, _)| stage).collect();
    (!stages.is_empty()).then_some(Rollout { stages, guard, on_breach })
}

fn stage(fields: &mut Fields<'_>) -> Option<Stage> {
    let percent_ppm = fields.required("percent", Percent, "Share of the sidecars that have the change.");
    let hold = fields.or(
        "hold",
        DurationIn::millis(0, 30 * 86_400_000),
        Duration::from_secs(60),
        "How long the stage lasts at least. With a guard it also lasts until the guard has seen `minRequests`. In the \
         last stage: how long the guard goes on watching; without a guard the rollout is over when everyone has it.",
    );
    Some(Stage { percent_ppm: percent_ppm?, hold })
}

fn check_stages(fields: &mut Fields<'_>, stages: &[(Stage, Spot)]) {
    let Some((last, _)) = stages.last() else {
        return fields.mistake(
            "stages",
            "names no stage",
            "give at least {percent: 100}, or leave rollout out",
        );
    };
    let whole = last.percent_ppm == 1_000_000;
    let Some((cx, at)) = fields.context() else { return };
    let list = at.field("stages");
    let mut before = 0;
    for (i, (stage, spot)) in stages.iter().enumerate() {
        if stage.percent_ppm <= before {
            let problem =
                if i == 0 { "is 0".to_owned() } else { "is not over that of the stage before".to_owned() };
            cx.mistake(*spot, &list.item(i).field("percent"), problem, "give rising percentages".into());
        }
        before = before.max(stage.percent_ppm);
    }
    if let (false, Some((i, (_, spot)))) = (whole, stages.iter().enumerate().next_back()) {
        let problem = "the last stage is not everyone".to_owned();
        cx.mistake(*spot, &list.item(i).field("percent"), problem, "end with {percent: 100}".into());
    }
}

fn guard(fields: &mut Fields<'_>) -> Option<Guard> {
    let error_rate = fields.optional(
        "errorRate",
        Share,
        "not watched",
        "Highest share of failed requests; over it, and clearly worse than among the sidecars without the change, is a \
         breach.",
    );
    let p99_ratio = fields.optional(
        "p99Ratio",
        Ratio,
        "not watched",
        "Highest 99th percentile of latency, as a multiple of that of the sidecars without the change.",
    );
    let min_requests = fields.or(
        "minRequests",
        Int::<u32>::new(1, 1_000_000, "requests"),
        Guard::MIN_REQUESTS as u32,
        "Fewer requests than this among the sidecars with the change give no verdict.",
    );
    if error_rate.is_none() && p99_ratio.is_none() && !fields.has("errorRate") && !fields.has("p99Ratio") {
        fields.whole("the guard watches nothing", "give errorRate, p99Ratio or both");
    }
    Some(Guard { error_rate, p99_ratio, min_requests: u64::from(min_requests) })
}

/// A factor 1..=1000.
struct Ratio;

impl Codec for Ratio {
    type Out = f64;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<f64> {
        let (text, plain) = scalar(self, node, at, cx)?;
        match text.parse::<f64>() {
            Ok(ratio) if plain && (1.0..=1000.0).contains(&ratio) => return Some(ratio),
            Ok(ratio) if plain && ratio.is_finite() => {
                cx.mistake(node.spot, at, "is outside 1..=1000".into(), format!("give {}", self.wanted()));
            }
            _ => cx.mistake(
                node.spot,
                at,
                format!("{} is not a number", quote(text)),
                format!("give {}", self.wanted()),
            ),
        }
        None
    }

    fn wanted(&self) -> String {
        "a factor 1..=1000 such as 1.5".into()
    }

    fn kind(&self) -> String {
        "number 1..=1000".into()
    }

    fn show(&self, out: &f64) -> String {
        format!("`{out}`")
    }
}
