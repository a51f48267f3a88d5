//! The examples are what newcomers copy: they load, without a warning they would have to explain away.
use raddle_model::{Balancer, LoadOptions, Matcher, Resources, Source, Subject, load};

fn example(name: &str) -> Source {
    let path = format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    Source { name: name.into(), text }
}

fn read(names: &[&str], opts: LoadOptions) -> Resources {
    let sources: Vec<Source> = names.iter().map(|name| example(name)).collect();
    match load(&sources, opts) {
        Ok((resources, mut warnings)) => {
            // The one that a comment beside the rule explains.
            warnings
                .retain(|w| w.file != "limits.yaml" || !w.problem.starts_with("the control plane counts"));
            assert_eq!(warnings, [], "{names:?}");
            resources
        }
        Err(report) => panic!("{report}"),
    }
}

#[test]
fn every_example_loads_without_warnings() {
    let dir = format!("{}/../../examples", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("the examples are there")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .filter(|name| std::path::Path::new(name).extension().is_some_and(|e| e == "yaml"))
        .collect();
    names.sort();
    assert!(names.len() >= 3);
    // Rules are about the services of the other files, so all are read together.
    read(&names.iter().map(String::as_str).collect::<Vec<_>>(), LoadOptions::default());
}

#[test]
fn the_shop_example_runs_alone() {
    let resources = read(&["shop.yaml"], LoadOptions::default());
    let sidecar = resources.sidecar.expect("it has a Sidecar");
    assert_eq!(sidecar.app, "shop");
    assert_eq!(sidecar.inbound[0].forward.map(|f| f.to_string()).as_deref(), Some("127.0.0.1:12200"));
    assert_eq!(resources.services[0].endpoints.len(), 3);
    assert_eq!(resources.services[0].endpoints[2].weight, 50);
    assert_eq!(resources.services[0].endpoints[0].group, "default");
}

#[test]
fn the_routes_example_says_what_its_comments_say() {
    let resources = read(&["shop.yaml", "routes.yaml"], LoadOptions::default());
    let gray = &resources.routes[1].rules[1];
    assert_eq!(gray.percent_ppm, 1000);
    assert_eq!(gray.timeout.map(|t| t.as_millis()), Some(500));
    let operators = &resources.routes[3].rules[0].when;
    assert_eq!(operators.len(), 13);
    assert!(
        operators.iter().any(|c| c.subject == Subject::LoadTest
            && matches!(&c.matcher, Matcher::Equals(text) if text == "false"))
    );
    let Some(Matcher::Regex(phone)) =
        operators.iter().find(|c| c.subject == Subject::Header("phone".into())).map(|c| &c.matcher)
    else {
        panic!("phone is a regex")
    };
    assert_eq!(phone.as_str(), "1[3-9][0-9]{9}", "as it is written");
}

#[test]
fn the_policy_example_is_at_its_defaults_where_it_says_so() {
    let resources = read(&["shop.yaml", "policy.yaml"], LoadOptions::default());
    let [everything, orders] = resources.policies.as_slice() else { panic!("two policies") };
    assert_eq!(everything.settings, raddle_model::PolicySettings::default());
    let mut pool = orders.settings.pool.clone();
    assert_eq!(pool.idle_timeout.take().map(|t| t.as_secs()), Some(600));
    assert_eq!(pool, raddle_model::Pool::default());
    assert_eq!(orders.settings.balancer, Balancer::P2cEwma);
    assert!(orders.to.specificity() > everything.to.specificity());
}

#[test]
fn line_ends_and_byte_order_marks_of_other_systems_change_nothing() {
    for name in ["shop.yaml", "routes.yaml", "policy.yaml"] {
        let Source { name, text } = example(name);
        let foreign = Source { name: name.clone(), text: format!("\u{feff}{}", text.replace('\n', "\r\n")) };
        let opts = LoadOptions::rules_only;
        let (own, _) = load(&[Source { name, text }], opts()).expect("it loads");
        let (foreign, _) = load(&[foreign], opts()).expect("it loads");
        let prints = |resources: &Resources| -> Vec<_> {
            let services = resources.services.iter().map(|s| &s.metadata);
            let rules = resources.policies.iter().map(|p| &p.metadata);
            let routes = resources.routes.iter().map(|r| &r.metadata);
            services.chain(rules).chain(routes).cloned().collect()
        };
        assert_eq!(prints(&own), prints(&foreign), "content and position");
    }
}

#[test]
fn the_http_example_says_what_its_comments_say() {
    use raddle_model::{CheckKind, PathRewrite, RetryOn, Scheme};
    let resources = read(&["shop.yaml", "http.yaml"], LoadOptions::default());
    let orders = resources.services.iter().find(|s| s.metadata.name == "orders.shop").expect("it is there");
    assert_eq!(orders.hosts, ["orders.example.com", "*.orders.example.com"]);
    let [to_tls, maintenance, preview, shadow, chaos] = resources.routes[0].rules.as_slice() else {
        panic!("five rules")
    };
    let redirect = to_tls.actions.redirect.as_ref().expect("it redirects");
    assert_eq!((redirect.status, redirect.scheme), (308, Some(Scheme::Https)));
    let respond = maintenance.actions.respond.as_ref().expect("it answers");
    assert_eq!((respond.status, respond.headers.len()), (503, 2));
    let rewrite = preview.actions.rewrite.as_ref().expect("it rewrites");
    assert_eq!(rewrite.path, Some(PathRewrite::Prefix { from: "/api".into(), to: "/v2".into() }));
    let headers = preview.actions.headers.as_ref().expect("it changes headers");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(headers.request.add, [pair("x-from", "mesh"), pair("x-from", "preview")]);
    assert!(preview.when.iter().any(|c| c.subject == Subject::Query("preview".into())));
    assert_eq!(shadow.actions.mirror.as_ref().map(|m| m.percent_ppm), Some(50_000));
    assert!(shadow.retry.as_ref().is_some_and(|r| r.on.contains(&RetryOn::ServerError)));
    let fault = chaos.actions.fault.as_ref().expect("it makes faults");
    assert_eq!(fault.delay.map(|d| (d.time.as_secs(), d.percent_ppm)), Some((2, 100_000)));
    assert_eq!(fault.abort.map(|a| (a.status.http(), a.status.grpc())), Some((503, 14)));
    let checks: Vec<_> = resources
        .policies
        .iter()
        .filter_map(|p| Some(p.settings.health_check.as_ref()?.kind.clone()))
        .collect();
    let service = "shop.v1.Payments".to_owned();
    assert_eq!(checks, [CheckKind::Http { path: "/healthz".into() }, CheckKind::Grpc { service }]);
}

#[test]
fn the_limits_example_says_what_its_comments_say() {
    use raddle_model::{Bound, KeyBy, Priority, Reach, RuleMode};
    use std::time::Duration;
    let resources = read(&["shop.yaml", "limits.yaml"], LoadOptions::default());
    let classes: Vec<_> = resources.adaptive[0].settings.priorities.iter().map(|p| p.priority).collect();
    assert_eq!(classes, [Priority::Critical, Priority::Batch]);
    let [payments, exports, search, at_once, per_user, everywhere] = resources.rates.as_slice() else {
        panic!("six limits")
    };
    let rate = |limit: &raddle_model::RateLimit| match &limit.bound {
        Bound::Rate(rate) => rate.clone(),
        Bound::Concurrency(_) => panic!("it bounds the rate"),
    };
    assert_eq!((rate(payments).per_second, rate(payments).burst), (100.0, 50));
    assert_eq!(rate(exports).max_wait, Some(Duration::from_millis(500)));
    assert_eq!(rate(search).warm_up, Some(Duration::from_secs(30)));
    assert_eq!(at_once.bound, Bound::Concurrency(64));
    let key = per_user.key.as_ref().expect("it counts by value");
    assert_eq!((&key.by, key.overrides.get("partner-7")), (&KeyBy::Header("user".into()), Some(&200.0)));
    assert_eq!((rate(everywhere).reach, everywhere.mode), (Reach::Cluster, RuleMode::Observe));
    let [endpoints, slow] = resources.breakers.as_slice() else { panic!("two breakers") };
    assert_eq!(endpoints.settings.open_for, Duration::from_secs(5));
    assert_eq!(slow.settings.slow_ratio, Some(0.8));
}
