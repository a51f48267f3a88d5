//! `raddle explain limit`: what holds an app's requests back, who caused it, and what to do next.
use super::super::mesh::{FormArgs, ServerArgs, ago, cell, items, text};
use super::super::{ask, understand};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::Paint;
use clap::Args;
use serde_json::Value;
use std::net::SocketAddr;

/// Interfaces and past times named of a sidecar; of more it is said how many.
const NAMED: usize = 10;
/// Sidecars told of one by one.
const SIDECARS: usize = 20;
/// The sidecar asked where neither an app nor an address is given.
const ADMIN: &str = "127.0.0.1:15000";

/// Explain what holds an app's requests back: who rose, what passes, since when, and what the last times were
///
/// Asks the control plane about all sidecars of an app; or one sidecar, which knows its last seconds, too. With
/// --service or --authority a sidecar is asked what each of its limits would say to such a request now; nothing is sent
/// and nothing is counted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle explain limit order
  raddle explain limit --admin 127.0.0.1:15000
  raddle explain limit --service com.shop.OrderService:1.0 --method pay --header user=ann
  raddle explain limit --authority orders.shop --method GET --path '/orders/42' --caller-ip 10.1.2.3
  raddle explain limit --side outbound --service com.shop.PayService:1.0
  raddle explain limit order -o json")]
pub(super) struct LimitArgs {
    /// The app that is called
    app: Option<String>,
    #[command(flatten)]
    request: super::RequestArgs,
    /// Of a request: which way it goes, seen from the app beside the sidecar
    #[arg(long, value_parser = ["inbound", "outbound"], default_value = "inbound")]
    side: String,
    /// Of a request: the caller's address
    #[arg(long, value_name = "IP")]
    caller_ip: Option<std::net::IpAddr>,
    /// Ask this sidecar instead of the control plane [default without APP: 127.0.0.1:15000]
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

pub(super) fn run(args: &LimitArgs) -> Done {
    agree(args).map_err(Failure::usage)?;
    if args.request.given() {
        return of_request(args);
    }
    let look = match (&args.app, args.admin) {
        (Some(app), _) => {
            let path = format!("/v1/apps/{}/limits", escape(app));
            args.server.connect()?.get(&path).map_err(or_one_sidecar)?
        }
        (None, admin) => {
            let default = || ADMIN.parse().map_err(|_| Failure::usage("give --admin IP:PORT"));
            let admin = admin.map_or_else(default, Ok)?;
            understand(admin, &ask(admin, "/limits/explain")?)?
        }
    };
    args.form.show(&look, |_| human(&look, Paint::stdout()))?;
    Ok(Exit::Ok)
}

/// Whether the arguments go together.
fn agree(args: &LimitArgs) -> Result<(), String> {
    let partly = args.request.partly() || args.caller_ip.is_some() || args.side != "inbound";
    match (&args.app, args.admin) {
        (Some(app), _) if partly => Err(format!(
            "{app} asks about all sidecars of an app, and a request is asked about at one: leave {app} out, and name the \
             sidecar with --admin IP:PORT"
        )),
        (Some(app), Some(admin)) => Err(format!(
            "{app} asks the control plane about all sidecars of the app, --admin asks one sidecar: leave --admin {admin} \
             out, or leave {app} out"
        )),
        (None, _) if partly && !args.request.given() => {
            Err("a request is known by --service NAME or --authority HOST: give one of them, too".into())
        }
        _ => Ok(()),
    }
}

/// Nobody answers for the app: one of its sidecars can be asked.
fn or_one_sidecar(failure: Failure) -> Failure {
    match failure.exit {
        Exit::Unreachable => Failure::unreachable(format!(
            "{failure}\nOr ask one sidecar of the app: raddle explain limit --admin IP:PORT"
        )),
        _ => failure,
    }
}

/// What each limit would say to a request.
fn of_request(args: &LimitArgs) -> Done {
    let default = || ADMIN.parse().map_err(|_| Failure::usage("give --admin IP:PORT"));
    let admin = args.admin.map_or_else(default, Ok)?;
    let mut question = format!("/limits/explain?{}&side={}", args.request.query_string(), args.side);
    if let Some(ip) = args.caller_ip {
        question += &format!("&callerIp={}", escape(&ip.to_string()));
    }
    let told = understand(admin, &ask(admin, &question)?)?;
    args.form.show(&told, |_| steps(&told, Paint::stdout()))?;
    Ok(Exit::Ok)
}

fn steps(told: &Value, paint: Paint) -> String {
    let method = told["method"].as_str().map(|m| format!(" {m}")).unwrap_or_default();
    let verdict = match told["verdict"].as_str().unwrap_or_default() {
        "refuse" => paint.bad(format!("is refused by {}", text(&told["rule"]))),
        "wait" => paint.warn("waits for its turn, and passes".to_owned()),
        "ask" => "passes if the quota server lets it".to_owned(),
        "depends" => paint.warn("depends on what was not said of it".to_owned()),
        _ => "passes".to_owned(),
    };
    let path = told["path"].as_str().map(|p| format!(" {p}")).unwrap_or_default();
    let mut out = paint.bold(format!("{}{method}{path}, {}: ", text(&told["service"]), text(&told["side"])));
    out.push_str(&format!("{verdict}\n"));
    let mut n = 0;
    for s in items(&told["steps"]) {
        n += 1;
        let would = match (s["would"].as_str().unwrap_or_default(), text(&s["mode"]) == "observe") {
            ("refuse", true) => paint.warn("would refuse, only observes".to_owned()),
            ("refuse", false) => paint.bad("refuses".to_owned()),
            ("wait", true) => "would have it wait, only observes".to_owned(),
            ("wait", false) => paint.warn("has it wait".to_owned()),
            ("ask", _) => "asks".to_owned(),
            ("depends", _) => paint.warn("cannot say".to_owned()),
            ("uncounted", _) => "does not count it".to_owned(),
            _ => "lets it pass".to_owned(),
        };
        out.push_str(&format!(
            "  {n}. {} ({}) {would}: {}\n",
            text(&s["rule"]),
            text(&s["link"]),
            text(&s["says"])
        ));
    }
    if n == 0 {
        out.push_str("  No limit takes it.\n");
    }
    out
}

fn human(look: &Value, paint: Paint) -> String {
    let mut out = paint.bold(format!("{}\n", text(&look["app"])));
    for (head, lines) in story(look, paint) {
        out.push_str(&format!("{}\n", paint.bold(head)));
        for line in &lines {
            out.push_str(&format!("  {line}\n"));
        }
    }
    out
}

/// Sentences, under their headings.
fn story(look: &Value, paint: Paint) -> Vec<(&'static str, Vec<String>)> {
    let all = [
        ("Rules", rules(look)),
        ("Now", now(look, paint)),
        ("Before", before(look)),
        ("Held so far", held(look)),
        ("Next", next(look)),
    ];
    all.into_iter().filter(|(_, lines)| !lines.is_empty()).collect()
}

fn rules(look: &Value) -> Vec<String> {
    let line = |r: &Value| {
        let mut line = text(&r["rule"]);
        if text(&r["mode"]) == "observe" {
            line += " only observes";
        }
        if let Some(candidate) = r["candidate"].as_str() {
            let what =
                if candidate.is_empty() { "its removal".into() } else { format!("revision {candidate}") };
            line +=
                &format!("; {what} is being rolled out, to {} % of the sidecars so far", cell(&r["percent"]));
        }
        line
    };
    let all: Vec<String> = items(&look["rules"]).map(line).collect();
    if all.is_empty() {
        vec!["No AdaptiveLimit, RateLimit or CircuitBreaker reaches it.".into()]
    } else {
        all
    }
}

fn adaptive(look: &Value) -> Vec<&Value> {
    items(&look["sidecars"]).filter(|s| !text(&s["rule"]).is_empty()).collect()
}

fn holds(sidecar: &Value) -> bool {
    sidecar["since"].as_u64().unwrap_or(0) > 0 || sidecar["tier"].as_u64().unwrap_or(0) > 0
}

/// Sidecars that hold something first, each with its evidence.
fn now(look: &Value, paint: Paint) -> Vec<String> {
    let mut all = adaptive(look);
    all.sort_by_key(|s| !holds(s));
    let mut out: Vec<String> = all.iter().take(SIDECARS).flat_map(|s| sidecar(s, paint)).collect();
    if all.len() > SIDECARS {
        let rest = &all[SIDECARS..];
        let held = rest.iter().filter(|s| holds(s)).count();
        out.push(format!("And {} more sidecars, {held} of which hold something.", rest.len()));
    }
    out
}

fn sidecar(s: &Value, paint: Paint) -> Vec<String> {
    let id = text(&s["id"]);
    let would = if text(&s["mode"]) == "observe" { "would hold" } else { "holds" };
    let since = || format!("since {}", ago(&s["since"]));
    let state = match (s["tier"].as_u64().unwrap_or(0), holds(s)) {
        (0, false) => format!("{id} {would} nothing"),
        (0, true) => paint.warn(format!("{id} {would} load-test traffic only, {}", since())),
        (1, _) => paint.warn(format!("{id} {would} those that cause the shortage, {}", since())),
        _ => {
            paint.bad(format!("{id} {would} everything, by priority, {}: no single cause was found", since()))
        }
    };
    let mut out = vec![format!("{state}: {}.", level(s))];
    if !text(&s["sensing"]).is_empty() {
        out.push(format!("  It reads {}.", text(&s["sensing"]).trim_end_matches('.')));
    }
    if let Some(bars) = bars(s) {
        out.push(format!("  Cores in use, the last seconds: {bars}"));
    }
    let held = if text(&s["mode"]) == "observe" { "would be held" } else { "held" };
    out.extend(culprits(s, held).into_iter().map(|line| format!("  {line}")));
    out
}

fn level(s: &Value) -> String {
    let n = |name: &str| s[name].as_f64().unwrap_or(0.0);
    let cpu = match text(&s["signal"]).as_str() {
        "" => return "it has not looked yet".into(),
        "latency" => "what the app has left is not known; its latency alone counts".to_owned(),
        signal => {
            let stale = if signal == "stale" { " when it was read last, which is a while ago" } else { "" };
            format!(
                "{:.0} % of {} cores in use (short above {:.0} %){stale}",
                n("cpu") * 100.0,
                number(n("cores")),
                n("threshold") * 100.0
            )
        }
    };
    let memory = if n("memory") > 0.0 {
        format!(", {:.0} % of its memory", n("memory") * 100.0)
    } else {
        String::new()
    };
    format!("{cpu}{memory}, {} of work in hand", seconds(n("queue")))
}

/// Shares of the cores as bars, the latest last.
fn bars(s: &Value) -> Option<String> {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let all: Vec<f64> = items(&s["history"]).map(|l| l["cpu"].as_f64().unwrap_or(0.0)).collect();
    let last = &all[all.len().saturating_sub(60)..];
    let bar = |share: &f64| BARS[((share.clamp(0.0, 1.0) * 8.0) as usize).min(7)];
    (!last.is_empty()).then(|| last.iter().map(bar).collect())
}

fn culprits(of: &Value, done: &str) -> Vec<String> {
    let all: Vec<&Value> = items(&of["culprits"]).collect();
    let line = |c: &&Value| {
        let n = |name: &str| c[name].as_f64().unwrap_or(0.0);
        let name = text(&c["name"]);
        let evidence = if c["dearer"] == true {
            format!(
                "a request costs {} times the usual, {} ms of CPU",
                number(n("rise")),
                number(n("costMs"))
            )
        } else {
            format!(
                "{}/s are offered, {} times the usual {}/s, at {} ms of CPU each",
                number(n("offered")),
                number(n("rise")),
                number(n("baseline")),
                number(n("costMs"))
            )
        };
        format!("{name}: {evidence}; {done} at {}/s", number(n("limit")))
    };
    let mut out: Vec<String> = all.iter().take(NAMED).map(line).collect();
    if all.len() > NAMED {
        out.push(format!("and {} more", all.len() - NAMED));
    }
    out
}

/// The last times, the newest first.
fn before(look: &Value) -> Vec<String> {
    let mut all: Vec<(String, &Value)> = Vec::new();
    for s in adaptive(look) {
        all.extend(
            items(&s["times"]).filter(|t| t["ended"].as_u64().unwrap_or(0) > 0).map(|t| (text(&s["id"]), t)),
        );
    }
    all.sort_by_key(|(_, t)| std::cmp::Reverse(t["ended"].as_u64().unwrap_or(0)));
    all.iter().take(NAMED).map(|(id, t)| past(id, t)).collect()
}

fn past(id: &str, t: &Value) -> String {
    let at = |name: &str| t[name].as_u64().unwrap_or(0);
    let n = |name: &str| t[name].as_f64().unwrap_or(0.0);
    let lasted = at("ended").saturating_sub(at("began")) as f64 / 1000.0;
    let names: Vec<String> = items(&t["culprits"]).take(3).map(|c| text(&c["name"])).collect();
    let more = items(&t["culprits"]).count().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (held, were) = match t["observed"].as_bool() {
        Some(true) => ("would have held", "would have been refused"),
        _ => ("held", "refused"),
    };
    let whom = if names.is_empty() { String::new() } else { format!("; {held} {}{more}", names.join(", ")) };
    let refused: u64 = items(&t["refused"]).filter_map(Value::as_u64).sum();
    let why = |name: &str, before: &str| {
        let text = text(&t[name]);
        if text.is_empty() { String::new() } else { format!("{before}{}", text.trim_end_matches('.')) }
    };
    format!(
        "{id}, {} ago, for {}{}{whom}; {refused} requests {were}, at most {:.0} % of the cores and {} of work in hand{}.",
        ago(&t["began"]),
        seconds(lasted),
        why("cause", ": "),
        n("peakCpu") * 100.0,
        seconds(n("peakQueue")),
        why("end", "; it ended because ")
    )
}

fn held(look: &Value) -> Vec<String> {
    let count = |c: &Value| {
        let n = |name: &str| c[name].as_u64().unwrap_or(0);
        let parts = [(n("held"), "refused"), (n("observed"), "passed, as the rule only observes")];
        let parts: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        (!parts.is_empty()).then(|| format!("{}: {}", text(&c["rule"]), parts.join(", ")))
    };
    items(&look["counts"]).filter_map(count).take(NAMED * 2).collect()
}

/// The one thing to do.
fn next(look: &Value) -> Vec<String> {
    let app = text(&look["app"]);
    let all = adaptive(look);
    let has = |rule: &str| items(&look["rules"]).find(|r| text(&r["rule"]).starts_with(rule));
    let culprit = all.iter().flat_map(|s| items(&s["culprits"])).next().map(|c| text(&c["name"]));
    let blind = all.iter().find(|s| text(&s["signal"]) == "latency");
    let step = match (has("AdaptiveLimit/"), culprit) {
        (None, _) => {
            format!("To protect it: apply an AdaptiveLimit with scope {{apps: [{app}]}} and mode: observe, and look again.")
        }
        (Some(_), Some(culprit)) => {
            format!("Find out who calls {culprit} so often, or what made it dear; the others are served as usual.")
        }
        (Some(_), None) if all.iter().any(|s| s["tier"].as_u64().unwrap_or(0) > 1) => {
            "No interface rose: look for another cause (fewer cores, a neighbour, memory), or give the app more room.".into()
        }
        (Some(_), None) if blind.is_some() => {
            let id = blind.map(|s| text(&s["id"])).unwrap_or_default();
            format!("{id} cannot read its app's load: mend what is said above, and limits are found sooner and better.")
        }
        (Some(rule), None) if text(&rule["mode"]) == "observe" => {
            format!("If what it would have held is right, set mode: enforce: raddle edit {}", text(&rule["rule"]))
        }
        (Some(_), None) => return Vec::new(),
    };
    vec![step]
}

/// A number with as many digits as matter.
fn number(n: f64) -> String {
    match n.abs() {
        100.0.. => format!("{n:.0}"),
        10.0.. => format!("{n:.1}").trim_end_matches(".0").to_owned(),
        _ => format!("{n:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

fn seconds(s: f64) -> String {
    if s < 1.0 { format!("{:.0} ms", s * 1000.0) } else { format!("{} s", number(s)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn look(tier: u32, signal: &str, mode: &str) -> Value {
        let culprit = json!({"name": "shop.Order:1.0/list", "offered": 512.4, "limit": 118.0, "baseline": 102.0, "rise": 5.02,
                             "costMs": 8.25, "dearer": false});
        json!({
            "app": "order", "holding": u32::from(tier > 0),
            "rules": [{"rule": "AdaptiveLimit/order", "mode": mode, "candidate": null}],
            "counts": [{"rule": "AdaptiveLimit/order", "held": 4711, "observed": 0},
                       {"rule": "RateLimit/refunds", "held": 0, "observed": 12}],
            "sidecars": [{
                "id": "order-1", "rule": "AdaptiveLimit/order", "mode": mode, "tier": tier, "signal": signal,
                "since": i32::from(tier > 0), "sensing": "CPU time of cgroup /x", "cpu": 0.97, "threshold": 0.8,
                "cores": 2.0, "memory": 0.0, "queue": 0.31,
                "culprits": if tier == 1 { json!([culprit]) } else { json!([]) },
                "history": [{"cpu": 0.1}, {"cpu": 1.0}],
                "times": [{"number": 1, "began": 1000, "ended": 43_000, "cause": "the cores are short", "end": "all is well",
                           "peakCpu": 0.99, "peakQueue": 1.5, "culprits": [culprit], "refused": [0, 1, 20, 0]}]
            }]
        })
    }

    fn told(look: &Value) -> String {
        human(look, Paint::none())
    }

    #[test]
    fn it_says_who_rose_by_how_much_and_what_passes() {
        let text = told(&look(1, "load", "enforce"));
        for part in [
            "order-1 holds those that cause the shortage, since ",
            "97 % of 2 cores in use (short above 80 %), 310 ms of work in hand.",
            "It reads CPU time of cgroup /x.",
            "▁█",
            "shop.Order:1.0/list: 512/s are offered, 5.02 times the usual 102/s, at 8.25 ms of CPU each; held at 118/s",
            "for 42 s: the cores are short; held shop.Order:1.0/list; 21 requests refused, at most 99 %",
            "1.5 s of work in hand; it ended because all is well.",
            "AdaptiveLimit/order: 4711 refused",
            "RateLimit/refunds: 12 passed, as the rule only observes",
            "Find out who calls shop.Order:1.0/list",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn what_each_limit_would_say_to_a_request_is_told_in_order() {
        let told = json!({
            "service": "shop.Order:1.0", "method": "pay", "side": "inbound", "verdict": "refuse", "rule": "RateLimit/pay",
            "steps": [
                {"rule": "AdaptiveLimit/order", "link": "adaptive", "mode": "enforce", "would": "pass", "says": "x is well"},
                {"rule": "RateLimit/all", "link": "rate", "mode": "observe", "would": "refuse", "says": "0 % is left"},
                {"rule": "RateLimit/pay", "link": "concurrency", "mode": "enforce", "would": "refuse", "says": "4 of 4"},
                {"rule": "RateLimit/us", "link": "cluster", "mode": "enforce", "would": "ask", "says": "counts for all"},
            ]
        });
        let text = steps(&told, Paint::none());
        for line in [
            "shop.Order:1.0 pay, inbound: is refused by RateLimit/pay",
            "  1. AdaptiveLimit/order (adaptive) lets it pass: x is well",
            "  2. RateLimit/all (rate) would refuse, only observes: 0 % is left",
            "  3. RateLimit/pay (concurrency) refuses: 4 of 4",
            "  4. RateLimit/us (cluster) asks: counts for all",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        let none = steps(
            &json!({"service": "a", "side": "outbound", "verdict": "pass", "steps": []}),
            Paint::none(),
        );
        assert!(none.contains("No limit takes it."), "{none}");
    }

    #[test]
    fn a_request_is_told_with_its_path_and_what_it_depends_on() {
        let told = json!({
            "service": "orders.shop", "method": "GET", "path": "/orders/42", "side": "inbound", "verdict": "depends",
            "steps": [
                {"rule": "RateLimit/ip", "link": "hotspot", "mode": "enforce", "would": "depends", "says": "give --caller-ip IP"},
                {"rule": "RateLimit/id", "link": "hotspot", "mode": "enforce", "would": "uncounted", "says": "no header id"},
            ]
        });
        let text = steps(&told, Paint::none());
        for line in [
            "orders.shop GET /orders/42, inbound: depends on what was not said of it",
            "  1. RateLimit/ip (hotspot) cannot say: give --caller-ip IP",
            "  2. RateLimit/id (hotspot) does not count it: no header id",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn arguments_that_would_be_ignored_are_refused_with_which_to_drop() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: LimitArgs,
        }
        let said = |line: &str| {
            let words = std::iter::once("x").chain(line.split(' ').filter(|w| !w.is_empty()));
            let cli = <Cli as clap::Parser>::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
            agree(&cli.args).err().unwrap_or_default()
        };
        for fine in [
            "",
            "order",
            "--admin 127.0.0.1:1",
            "--service a --method b",
            "--authority a --admin 127.0.0.1:1",
        ] {
            assert_eq!(said(fine), "", "{fine}");
        }
        for part in [
            "--method GET",
            "--header a=b",
            "--path /a",
            "--caller-ip 10.1.2.3",
            "--side outbound",
            "--load-test",
        ] {
            assert!(said(part).contains("give one of them, too"), "{part}");
            assert!(said(&format!("order {part}")).contains("leave order out"), "{part}");
        }
        assert!(
            said("order --admin 127.0.0.1:1").ends_with("leave --admin 127.0.0.1:1 out, or leave order out")
        );
        assert!(said("order --service a").contains("leave order out, and name the sidecar with --admin"));
        let failed = or_one_sidecar(Failure::unreachable("nobody answers"));
        assert_eq!(failed.exit, Exit::Unreachable);
        assert!(failed.to_string().ends_with("raddle explain limit --admin IP:PORT"), "{failed}");
    }

    #[test]
    fn what_was_only_observed_is_told_as_such() {
        let mut observed = look(1, "load", "observe");
        observed["sidecars"][0]["times"][0]["observed"] = true.into();
        let text = told(&observed);
        for part in [
            "order-1 would hold those",
            "; would be held at 118/s",
            "; would have held shop.Order:1.0/list; 21 requests would have been refused",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn the_next_step_fits_where_one_is() {
        let step = |look: &Value| next(look).concat();
        assert!(step(&look(2, "load", "enforce")).starts_with("No interface rose"));
        assert!(step(&look(0, "latency", "enforce")).contains("order-1 cannot read"));
        assert!(step(&look(0, "load", "observe")).contains("raddle edit AdaptiveLimit/order"));
        assert_eq!(step(&look(0, "load", "enforce")), "");
        let mut none = look(0, "load", "enforce");
        none["rules"] = json!([]);
        assert!(step(&none).contains("apply an AdaptiveLimit"));
    }

    #[test]
    fn an_app_without_limits_is_said_to_be_so() {
        let text = told(&json!({"app": "cart", "rules": [], "sidecars": [], "counts": []}));
        assert!(text.contains("No AdaptiveLimit, RateLimit or CircuitBreaker reaches it."), "{text}");
    }
}
