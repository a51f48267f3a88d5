//! An explanation for people.
use crate::output::Paint;
use crate::table::Table;
use serde::Deserialize;
use serde_json::Value;

/// What a sidecar (or `raddle_policy`) answers; fields this version does not know are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Explained {
    service: String,
    app: String,
    policy: Option<String>,
    settings: serde_json::Map<String, Value>,
    rules: Vec<Rule>,
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    route: String,
    rule: String,
    conditions: Vec<Condition>,
    verdict: Verdict,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    subject: String,
    matcher: Value,
    found: Option<String>,
    holds: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Verdict {
    kind: String,
    ppm: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Outcome {
    rule: Option<String>,
    reject: Option<String>,
    does: Vec<String>,
    answered: bool,
    share: f64,
    panic: bool,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Endpoint {
    address: String,
    weight: u32,
    group: String,
    unit: Option<String>,
    health: String,
    reachable: bool,
}

/// The whole story: rules in order, where it goes, how the service is called.
pub(super) fn human(e: &Explained, paint: Paint) -> String {
    let mut out = format!("{}, app {}\n", paint.bold(&e.service), e.app);
    out.push_str(&format!("\n{}\n", paint.bold("Rules, in order")));
    if e.rules.is_empty() {
        out.push_str("  none concerns this service\n");
    }
    for rule in &e.rules {
        rule_lines(rule, paint, &mut out);
    }
    out.push_str(&format!("\n{}\n", paint.bold("Where it goes")));
    for outcome in &e.outcomes {
        outcome_lines(outcome, paint, &mut out);
    }
    let policy =
        e.policy.as_ref().map_or("no TrafficPolicy: defaults".into(), |p| format!("TrafficPolicy {p}"));
    out.push_str(&format!("\n{} ({policy})\n", paint.bold("How it is called")));
    let wide = e.settings.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in &e.settings {
        out.push_str(&format!("  {name:wide$}  {}\n", setting(value)));
    }
    out
}

fn rule_lines(rule: &Rule, paint: Paint, out: &mut String) {
    let (mark, verdict) = match rule.verdict.kind.as_str() {
        "taken" => (paint.good("✓"), "takes it".to_owned()),
        "takenByShare" => {
            let percent = f64::from(rule.verdict.ppm.unwrap_or(0)) / 1e4;
            (paint.good("✓"), format!("takes {percent} % of such requests"))
        }
        "noMatch" => (paint.dim("✗"), "does not match".to_owned()),
        "notInShare" => (paint.dim("✗"), "matches, but the request is not in its share".to_owned()),
        "empty" => {
            (paint.warn("!"), "matches, but has too few usable endpoints: the next rule is tried".to_owned())
        }
        "notReached" => (paint.dim("·"), "not reached: a rule before it takes every such request".to_owned()),
        other => (" ".to_owned(), other.to_owned()),
    };
    out.push_str(&format!("  {mark} {}/{}  {verdict}\n", rule.route, rule.rule));
    for c in &rule.conditions {
        let mark = if c.holds { paint.good("✓") } else { paint.bad("✗") };
        let found =
            c.found.as_ref().map_or("the request has none".into(), |f| format!("the request has {f:?}"));
        out.push_str(&format!("      {mark} {} {}; {found}\n", c.subject, matcher(&c.matcher)));
    }
}

/// A matcher as a phrase: `equals "a"`, `in ["a","b"]`, `range 0 to 9`.
pub(super) fn matcher(value: &Value) -> String {
    let Some((name, operand)) = value.as_object().and_then(|o| o.iter().next()) else {
        return value.to_string();
    };
    match (name.as_str(), operand) {
        ("range", Value::Object(range)) => {
            let bound = |side| range.get(side).map_or("?".to_owned(), ToString::to_string);
            format!("range {} to {}", bound("min"), bound("max"))
        }
        ("exists", Value::Bool(true)) => "exists".to_owned(),
        ("exists", Value::Bool(false)) => "is absent".to_owned(),
        _ => format!("{name} {operand}"),
    }
}

fn outcome_lines(outcome: &Outcome, paint: Paint, out: &mut String) {
    let by = outcome.rule.as_ref().map_or("default destination".into(), |r| format!("rule {r}"));
    let share = format!("{:.4}", outcome.share * 100.0);
    let share = share.trim_end_matches('0').trim_end_matches('.');
    out.push_str(&format!("  {share} % by {by}"));
    if let Some(flag) = &outcome.reject {
        let why = format!("fails with {flag} (raddle explain flag {flag})");
        out.push_str(&format!(": {}\n", paint.bad(why)));
        return;
    }
    if outcome.answered {
        out.push_str(&format!(": {}\n", outcome.does.join(", ")));
        return;
    }
    out.push('\n');
    for does in &outcome.does {
        out.push_str(&format!("    {does}\n"));
    }
    if outcome.panic {
        let panic = "so few are healthy that health is ignored (panicThreshold)";
        out.push_str(&format!("    {}\n", paint.warn(panic)));
    }
    let mut table = Table::new(&["  endpoint", ">weight", "group", "unit", "state"]);
    for e in &outcome.endpoints {
        let state = match (e.health.as_str(), e.reachable) {
            ("unhealthy", _) => paint.bad("unhealthy"),
            (_, false) => paint.bad("unreachable"),
            ("unknown", _) => "not checked".to_owned(),
            (health, _) => paint.good(health),
        };
        let unit = e.unit.clone().unwrap_or_else(|| "-".into());
        table.row([format!("  {}", e.address), e.weight.to_string(), e.group.clone(), unit, state]);
    }
    out.push_str(&table.render(|head| paint.dim(head)));
}

/// A setting as people write it: durations with units, structures as `name value` lists.
fn setting(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(setting).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => match (fields.get("secs"), fields.get("nanos")) {
            (Some(secs), Some(nanos)) if fields.len() == 2 => {
                let (secs, nanos) = (secs.as_u64().unwrap_or(0), nanos.as_u64().unwrap_or(0));
                format!("{:?}", std::time::Duration::new(secs, (nanos % 1_000_000_000) as u32))
            }
            _ => {
                let list = fields.iter().map(|(name, v)| match name.as_str() {
                    "kind" => setting(v),
                    _ => format!("{name} {}", setting(v)),
                });
                list.collect::<Vec<_>>().join(", ")
            }
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_read_as_people_write_them() {
        assert_eq!(setting(&json!({"secs": 1, "nanos": 500_000_000})), "1.5s");
        assert_eq!(setting(&json!({"kind": "p2cEwma"})), "p2cEwma");
        assert_eq!(
            setting(&json!({"connections": 1, "idleTimeout": null})),
            "connections 1, idleTimeout none"
        );
    }

    #[test]
    fn a_condition_says_what_it_demands_and_what_the_request_has() {
        let rule = Rule {
            route: "r".into(),
            rule: "0".into(),
            conditions: vec![Condition {
                subject: "header tier".into(),
                matcher: json!({"in": ["gold", "silver"]}),
                found: Some("wood".into()),
                holds: false,
            }],
            verdict: Verdict { kind: "noMatch".into(), ppm: None },
        };
        let mut out = String::new();
        rule_lines(&rule, Paint::none(), &mut out);
        assert_eq!(
            out,
            "  ✗ r/0  does not match\n      ✗ header tier in [\"gold\",\"silver\"]; the request has \"wood\"\n"
        );
        assert_eq!(matcher(&json!({"range": {"min": 0, "max": 9}})), "range 0 to 9");
    }

    #[test]
    fn what_a_rule_does_stands_beneath_its_outcome() {
        let lines = |outcome: Outcome| {
            let mut out = String::new();
            outcome_lines(&outcome, Paint::none(), &mut out);
            out
        };
        let rule = || Some("r/0".to_owned());
        let does = vec!["path /a becomes /b".to_owned()];
        let sent = lines(Outcome { rule: rule(), does, share: 1.0, ..Outcome::default() });
        assert!(sent.starts_with("  100 % by rule r/0\n    path /a becomes /b\n"), "{sent}");
        let does = vec!["redirected with 302 to /b".to_owned()];
        let answered = Outcome { rule: rule(), does, answered: true, share: 0.5, ..Outcome::default() };
        assert_eq!(lines(answered), "  50 % by rule r/0: redirected with 302 to /b\n");
    }
}
