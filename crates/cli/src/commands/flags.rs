//! `raddle explain flag`: what the reject flags of access logs, metrics and replies mean.
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{OutputArgs, Paint, print, print_json};
use crate::table::Table;
use clap::Args;
use raddle_core::protocol::GRPC_STATUSES;
use raddle_core::{Error, Reason, Source};
use serde_json::json;

/// Explain a reject flag, such as UH or UT; without one, list them all
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle explain flag UH
  raddle explain flag            # all of them")]
pub(crate) struct FlagArgs {
    /// The flag, as access logs, metrics and the header raddle-reason (HTTP, gRPC: x-raddle-reason) show it
    flag: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &FlagArgs) -> Done {
    let reasons = match args.flag.as_deref() {
        None => Reason::ALL.to_vec(),
        Some(flag) => vec![Reason::from_flag(&flag.to_ascii_uppercase()).ok_or_else(|| unknown(flag))?],
    };
    let paint = Paint::stdout();
    if args.output.json() {
        let all: Vec<_> = reasons.iter().map(|r| machine(*r)).collect();
        match all.as_slice() {
            [one] => print_json(one)?,
            all => print_json(&all)?,
        }
    } else if let [reason] = reasons.as_slice() {
        print(&page(*reason, paint))?;
    } else {
        print(&overview(&reasons, paint))?;
    }
    Ok(Exit::Ok)
}

fn unknown(flag: &str) -> Failure {
    let all: Vec<_> = Reason::ALL.iter().map(|r| r.flag()).collect();
    Failure::usage(format!("no flag is called {flag}; there are {}", all.join(", ")))
}

fn overview(reasons: &[Reason], paint: Paint) -> String {
    let mut table =
        Table::new(&["flag", "what happened", ">Bolt", ">Dubbo", ">HTTP", "gRPC", "safe to repeat"]);
    for &r in reasons {
        let safe = if r.not_processed() { "yes" } else { "no" };
        table.row([
            r.flag().to_owned(),
            r.describe().to_owned(),
            r.bolt_status().to_string(),
            r.dubbo_status().to_string(),
            r.http_status().to_string(),
            grpc_status(r).to_owned(),
            safe.to_owned(),
        ]);
    }
    format!("{}\nMore of one: raddle explain flag FLAG\n", table.render(|head| paint.bold(head)))
}

fn page(r: Reason, paint: Paint) -> String {
    let side = match source(r) {
        Source::Caller => "the caller",
        Source::Endpoint => "the endpoint",
        Source::Sidecar => "the sidecar or its rules",
    };
    let safe = if r.not_processed() {
        "yes: the endpoint certainly did not start on the request"
    } else {
        "only if the method may run twice: the endpoint may have run the request"
    };
    let mut out = format!("{}  {}\n\n", paint.bold(r.flag()), r.describe());
    let (cause, remedies) = advice(r);
    out.push_str(&format!("  {cause}\n\n"));
    out.push_str(&format!("  arises at        {side}\n  safe to repeat   {safe}\n"));
    out.push_str(&format!(
        "  carried as       Bolt status {} ({}), Dubbo status {}, HTTP {}, gRPC {}\n",
        r.bolt_status(),
        bolt_name(r.bolt_status()),
        r.dubbo_status(),
        r.http_status(),
        grpc_status(r),
    ));
    out.push_str(
        "                   and in the reply's header raddle-reason (HTTP, gRPC: x-raddle-reason)\n\n",
    );
    out.push_str(&format!("{}\n", paint.bold("What to look at")));
    for remedy in remedies {
        out.push_str(&format!("  - {remedy}\n"));
    }
    out
}

fn machine(r: Reason) -> serde_json::Value {
    let (cause, remedies) = advice(r);
    json!({
        "flag": r.flag(),
        "summary": r.describe(),
        "cause": cause,
        "source": format!("{:?}", source(r)).to_lowercase(),
        "safeToRepeat": r.not_processed(),
        "status": {"bolt": r.bolt_status(), "dubbo": r.dubbo_status(), "http": r.http_status(),
                   "grpc": grpc_status(r)},
        "lookAt": remedies,
    })
}

fn source(r: Reason) -> Source {
    Error::new(r, "").source
}

/// Names of Bolt's response statuses (SOFABolt `ResponseStatus`).
const fn bolt_name(status: u16) -> &'static str {
    match status {
        0 => "success",
        1 => "error",
        2 => "server exception",
        3 => "unknown",
        4 => "server thread pool busy",
        5 => "communication error",
        6 => "no processor",
        7 => "timeout",
        8 => "client send error",
        9 => "codec exception",
        0x10 => "connection closed",
        0x11 => "server serialisation",
        0x12 => "server deserialisation",
        _ => "not a status of Bolt",
    }
}

/// The gRPC status that carries a reason.
fn grpc_status(r: Reason) -> &'static str {
    GRPC_STATUSES[usize::from(r.grpc_status())]
}

/// Where a rule is named.
const NAMED: &str =
    "the rule's name is in the access log and in the reply's header raddle-rule (HTTP, gRPC: x-raddle-rule)";
/// Where limits tell of themselves.
const TOLD: &str = "raddle explain limit APP says what is held, and why; without a control plane raddle explain limit \
                    --admin IP:PORT; /limits of a sidecar's admin port has all";
const WOULD: &str =
    "raddle explain limit --service S --method M says what each limit would say to such a request now";
const COUNTED: &str = "the metric raddle_limit_held_total counts by rule; each sidecar has its own";

/// What is behind a flag, and what to look at.
const fn advice(r: Reason) -> (&'static str, &'static [&'static str]) {
    match r {
        Reason::NoRoute => (
            "A rule sends such requests to a destination that is empty by rule, or nowhere, or answers them as only \
             HTTP can.",
            &["raddle explain --service S --method M --header K=V shows each rule and why it matches", NAMED],
        ),
        Reason::NoCluster => (
            "The request names a service that no Service document of this sidecar has.",
            &[
                "is the name exactly what callers ask for: interface:version[:group]?",
                "raddle status lists the services this sidecar knows",
                "raddle check shows names that are mentioned but not declared",
            ],
        ),
        Reason::NoHealthy => (
            "All endpoints the request may go to are unhealthy, unreachable, of weight 0, or in other groups.",
            &[
                "raddle status shows the state and last error of every endpoint",
                "raddle explain --service S shows which endpoints a request may go to, and why",
                "endpoints of a group other than default need a Route that sends requests there",
                "unitAffinity: require leaves only the sidecar's own unit",
            ],
        ),
        Reason::ConnectFailure => (
            "Connecting was refused or took longer than timeouts.connect, at every endpoint that was tried.",
            &[
                "raddle status shows each endpoint's last error: refused, timed out, unreachable",
                "does the process listen on that address and port? (ss -ltnp)",
                "retry.on: [connectFailure] tries another endpoint; it is always safe",
            ],
        ),
        Reason::ConnectionLost => (
            "The endpoint closed or reset the connection, or died, while it had the request.",
            &[
                "did the endpoint restart or crash? Its log, and the kernel's for out-of-memory kills",
                "requests of methods that may run twice can be retried: retry.on: [connectionLost] with \
                 retry.idempotentMethods",
                "timeouts.deadPeer bounds how long a silent peer is waited for",
            ],
        ),
        Reason::Overflow => (
            "pool.maxOutstanding requests are in flight, or pool.maxPending wait for a connection.",
            &[
                "is the service slow? raddle status shows requests in flight and latency by endpoint",
                "raise pool.maxOutstanding, pool.maxPending or pool.maxConnections in its TrafficPolicy",
            ],
        ),
        Reason::Timeout => (
            "The reply did not come within the request's own timeout, the rule's, or timeouts.request.",
            &[
                "the shortest of the three holds; raddle explain --service S shows the rule's and the policy's",
                "raddle status shows which endpoint is slow",
                "retry.perTryTimeout leaves time for a second try; only for methods that may run twice",
            ],
        ),
        Reason::RateLimited => {
            ("A RateLimit of this instance holds the request.", &[NAMED, TOLD, WOULD, COUNTED])
        }
        Reason::ClusterLimited => (
            "The cluster's quota for such requests is used up: all sidecars that have the rule count together.",
            &[NAMED, TOLD, COUNTED],
        ),
        Reason::AdaptiveLimited => (
            "The machine is short of resources and this interface is one of the causes.",
            &[
                TOLD,
                COUNTED,
                "CPU and load of the machine",
                "the AdaptiveLimit rule of the app: thresholds and priorities",
            ],
        ),
        Reason::HotspotLimited => (
            "One value of a parameter is asked for too often.",
            &[NAMED, TOLD, WOULD, COUNTED, "key.values of the rule gives a value a bound of its own"],
        ),
        Reason::BreakerOpen => (
            "The callee failed or was slow too often, and is given time.",
            &[
                NAMED,
                "errors and latency of the callee",
                "at the caller's sidecar: raddle explain limit --admin IP:PORT --side outbound --service S, or its \
                 page /limits",
                "the metrics raddle_breaker_open and raddle_limit_held_total, by rule",
                "the CircuitBreaker rule: ratios, and how it probes",
            ],
        ),
        Reason::Denied => ("An Authorization rule denies this caller this request.", &[NAMED]),
        Reason::Injected => ("A Route injects faults on purpose.", &[NAMED]),
        Reason::CallerGone => (
            "The caller closed its connection before its reply came. The endpoint ran the request anyway.",
            &["the caller's own timeout, and whether it crashed or restarted"],
        ),
        Reason::CallerProtocol => (
            "The caller's bytes cannot be read as its protocol, or a frame is over limits.maxFrame.",
            &[
                "does something other than an RPC client talk to the port (a probe, a TLS client)?",
                "metrics count malformed frames by what was wrong with them",
                "limits.maxFrame and limits.maxHeader of the Sidecar document",
            ],
        ),
        Reason::EndpointProtocol => (
            "The endpoint's bytes cannot be read as the protocol of the service.",
            &[
                "is `protocol` of the Service document right, and is that the RPC port?",
                "metrics count malformed frames by what was wrong with them",
            ],
        ),
        Reason::SlowCaller => (
            "The caller did not read its replies until limits.bufferHard bytes waited for it.",
            &["is the caller stuck, or are replies very large?", "limits.bufferHard of the Sidecar document"],
        ),
        Reason::Draining => (
            "The sidecar got SIGTERM and takes no more requests, or drain.timeout ended with this one in flight.",
            &[
                "stop the callers' traffic before the sidecar",
                "drain.timeout of the Sidecar document: longer than the longest request",
            ],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_a_page_with_something_to_look_at() {
        for r in Reason::ALL {
            let text = page(r, Paint::none());
            assert!(text.starts_with(r.flag()) && text.contains(r.describe()), "{text}");
            assert!(!advice(r).1.is_empty());
            assert_ne!(bolt_name(r.bolt_status()), bolt_name(u16::MAX), "{r}");
        }
    }

    #[test]
    fn flags_of_limits_say_where_limits_tell_of_themselves_and_what_headers_are_called() {
        use Reason::{AdaptiveLimited, BreakerOpen, ClusterLimited, HotspotLimited, RateLimited};
        for r in [RateLimited, AdaptiveLimited, HotspotLimited, ClusterLimited, BreakerOpen] {
            let text = page(r, Paint::none());
            for part in ["raddle explain limit", "raddle_limit_held_total", "/limits", "x-raddle-reason"] {
                assert!(text.contains(part), "{part} is missing in\n{text}");
            }
        }
        assert!(page(BreakerOpen, Paint::none()).contains("raddle_breaker_open"));
        assert!(page(RateLimited, Paint::none()).contains("x-raddle-rule"));
    }

    #[test]
    fn the_overview_has_a_line_for_every_flag() {
        let text = overview(&Reason::ALL, Paint::none());
        let has = |r: &Reason| text.lines().any(|l| l.split_whitespace().next() == Some(r.flag()));
        assert!(Reason::ALL.iter().all(has), "{text}");
    }

    #[test]
    fn an_unknown_flag_is_answered_with_those_there_are() {
        let failure = unknown("XX");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("UH"));
    }
}
