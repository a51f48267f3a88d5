//! Circuit breakers, asked as the proxy asks them.
mod limit_common;
use limit_common::*;
use raddle_core::{Reason, Time};
use raddle_policy::limit::breaker::{Call, Event, Outcome, State};
use raddle_policy::limit::{Breakers, Held, Rules};
use raddle_policy::{Asked, Rng};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const FAST: Duration = Duration::from_millis(5);

fn breakers(specs: &[(&str, &str)], prev: Option<&Rules>) -> Arc<Rules> {
    let documents: Vec<_> = specs.iter().map(|(name, spec)| ("CircuitBreaker", *name, *spec)).collect();
    rules(&documents, prev)
}

fn endpoint(i: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, i], 80))
}

/// Workers that call.
struct Crew {
    workers: Vec<Breakers>,
    rng: Rng,
    events: Vec<Event>,
}

impl Crew {
    fn new(rules: &Arc<Rules>, n: usize) -> Crew {
        let worker = |i| {
            let mut breakers = Breakers::new(i, n);
            breakers.sync(rules);
            breakers
        };
        Crew { workers: (0..n).map(worker).collect(), rng: Rng::new(7), events: Vec::new() }
    }

    /// Begins a call and its first try.
    fn begin(&mut self, w: usize, req: &Asked, to: SocketAddr, now: Time) -> Result<Call, Held> {
        let worker = &mut self.workers[w];
        let (call, _) = worker.begin(req, now, &mut self.rng)?;
        let entered = worker.enter(&call, to, now, &mut self.rng);
        if let Err(held) = entered {
            worker.end(call, Outcome::Unknown, now, &mut self.rng);
            return Err(held);
        }
        Ok(call)
    }

    fn end(&mut self, w: usize, call: Call, outcome: Outcome, now: Time) {
        self.workers[w].end(call, outcome, now, &mut self.rng);
        self.events.extend(self.workers[w].events());
    }

    fn call(&mut self, w: usize, to: u8, outcome: Outcome, now: Time) -> Result<(), Held> {
        let call = self.begin(w, &request("s", "m", &[]), endpoint(to), now)?;
        self.end(w, call, outcome, now);
        Ok(())
    }

    fn states(&mut self) -> Vec<State> {
        self.events.drain(..).map(|e| e.state).collect()
    }
}

const OK: Outcome = Outcome::Answered(FAST);
const FAILED: Outcome = Outcome::Failed(FAST);

#[test]
fn an_endpoint_that_one_worker_finds_bad_is_open_for_all_and_others_are_not() {
    let rules = breakers(&[("b", "{consecutiveErrors: 5, openFor: 5s}")], None);
    let mut crew = Crew::new(&rules, 3);
    for _ in 0..5 {
        assert!(crew.call(0, 1, FAILED, at(1.0)).is_ok());
    }
    let held = crew.call(2, 1, OK, at(1.1)).expect_err("it is open");
    assert_eq!(
        (held.reason, &*held.rule, &*held.detail),
        (Reason::BreakerOpen, "CircuitBreaker/b", "5 calls in a row failed")
    );
    assert!(crew.call(2, 2, OK, at(1.1)).is_ok());
    let req = request("s", "m", &[]);
    let (call, _) =
        crew.workers[1].begin(&req, at(1.1), &mut Rng::new(1)).expect("no breaker of the service");
    assert!(
        crew.workers[1].open(&call, endpoint(1), at(1.1))
            && !crew.workers[1].open(&call, endpoint(2), at(1.1))
    );
    assert_eq!(crew.events.len(), 1, "told once: {:?}", crew.events);
    let event = &crew.events[0];
    assert_eq!((&*event.target, event.state), ("10.0.0.1:80", State::Open));
    assert!(
        event.text.starts_with("open for 5.") && event.text.ends_with("5 calls in a row failed"),
        "{event:?}"
    );
}

#[test]
fn shares_count_the_calls_of_all_workers_and_say_nothing_before_there_are_enough() {
    let rules = breakers(&[("b", "{errorRatio: 0.5, minCalls: 20, window: 10s}")], None);
    let mut crew = Crew::new(&rules, 4);
    for i in 0..19 {
        let outcome = if i % 2 == 0 { FAILED } else { OK };
        assert!(crew.call(i % 4, 1, outcome, at(1.0)).is_ok(), "{i}");
    }
    assert!(crew.call(0, 1, FAILED, at(1.5)).is_ok());
    let held = crew.call(3, 1, OK, at(1.6)).expect_err("11 of 20 failed");
    assert_eq!(&*held.detail, "50 % of its calls failed");
    assert!(crew.events[0].text.contains("11 of 20 calls in 10s failed"), "{:?}", crew.events);
}

#[test]
fn what_is_older_than_the_window_is_forgotten() {
    let rules = breakers(&[("b", "{errorRatio: 0.5, minCalls: 10, window: 10s}")], None);
    let mut crew = Crew::new(&rules, 2);
    for _ in 0..9 {
        assert!(crew.call(0, 1, FAILED, at(1.0)).is_ok());
    }
    for _ in 0..9 {
        assert!(crew.call(1, 1, FAILED, at(12.0)).is_ok(), "only nine lie in the window");
    }
    assert!(crew.call(1, 1, FAILED, at(12.0)).is_ok());
    assert!(crew.call(1, 1, FAILED, at(12.0)).is_err());
}

#[test]
fn slow_calls_open_it_where_that_is_asked_for() {
    let slow = Outcome::Answered(Duration::from_millis(300));
    let rules = breakers(
        &[
            ("slow", "{slowRatio: 0.6, slowAfter: 200ms, minCalls: 5}"),
            ("errors", "{errorRatio: 0.1, minCalls: 5}"),
        ],
        None,
    );
    let mut crew = Crew::new(&rules, 1);
    for outcome in [OK, OK, slow, slow, slow] {
        assert!(crew.call(0, 1, outcome, at(1.0)).is_ok());
    }
    let held = crew.call(0, 1, OK, at(1.0)).expect_err("3 of 5 were slow");
    assert_eq!((&*held.rule, &*held.detail), ("CircuitBreaker/slow", "60 % of its calls took over 200ms"));
}

#[test]
fn half_open_lets_so_many_through_and_closes_or_opens_for_longer_by_their_outcome() {
    let spec = "{consecutiveErrors: 1, openFor: 10s, maxOpenFor: 60s, probes: 3, passes: 2}";
    let rules = breakers(&[("b", spec)], None);
    let mut crew = Crew::new(&rules, 2);
    let req = request("s", "m", &[]);
    assert!(crew.call(0, 1, FAILED, at(1.0)).is_ok());
    assert!(crew.call(0, 1, OK, at(10.9)).is_err());
    // Three probes, no more; one passes and two fail.
    let probes: Vec<_> = (0..5)
        .filter_map(|i| crew.begin(i % 2, &req, endpoint(1), at(13.1)).ok().map(|c| (i % 2, c)))
        .collect();
    assert_eq!(probes.len(), 3);
    for ((w, call), outcome) in probes.into_iter().zip([OK, FAILED, FAILED]) {
        crew.end(w, call, outcome, at(13.2));
    }
    assert_eq!(crew.states(), [State::Open, State::HalfOpen, State::Open]);
    assert!(crew.call(0, 1, OK, at(33.0)).is_err(), "now it is open for 20 s");
    for _ in 0..2 {
        assert!(crew.call(1, 1, OK, at(37.3)).is_ok());
    }
    assert_eq!(crew.states(), [State::HalfOpen, State::Closed]);
    assert!((0..100).all(|_| crew.call(0, 1, OK, at(37.4)).is_ok()));
    // It was opened twice lately, so the third time is longer; much later it begins again.
    assert!(crew.call(0, 1, FAILED, at(40.0)).is_ok());
    assert!(crew.call(0, 1, OK, at(79.0)).is_err());
    for _ in 0..2 {
        assert!(crew.call(0, 1, OK, at(90.0)).is_ok());
    }
    assert!(crew.call(0, 1, FAILED, at(200.0)).is_ok());
    assert!(crew.call(0, 1, OK, at(209.0)).is_err() && crew.call(0, 1, OK, at(212.1)).is_ok());
}

#[test]
fn probes_that_never_end_give_way_and_those_that_say_nothing_do_at_once() {
    let rules = breakers(&[("b", "{consecutiveErrors: 1, openFor: 1s, probes: 2, passes: 1}")], None);
    let mut crew = Crew::new(&rules, 1);
    let req = request("s", "m", &[]);
    assert!(crew.call(0, 1, FAILED, at(1.0)).is_ok());
    let lost = crew.begin(0, &req, endpoint(1), at(3.0)).expect("a probe");
    let mute = crew.begin(0, &req, endpoint(1), at(3.0)).expect("a probe");
    assert!(crew.begin(0, &req, endpoint(1), at(3.0)).is_err());
    crew.end(0, mute, Outcome::Unknown, at(3.1));
    let other = crew.begin(0, &req, endpoint(1), at(3.1)).expect("its place is free");
    assert!(crew.begin(0, &req, endpoint(1), at(12.9)).is_err());
    let late = crew.begin(0, &req, endpoint(1), at(13.1)).expect("nobody waits for ever");
    crew.end(0, lost, FAILED, at(13.2));
    crew.end(0, other, FAILED, at(13.2));
    assert_eq!(crew.states(), [State::Open, State::HalfOpen], "probes of another round do not count");
    crew.end(0, late, OK, at(13.2));
    assert_eq!(crew.states(), [State::Closed]);
}

#[test]
fn services_and_methods_have_breakers_of_their_own() {
    let rules = breakers(
        &[("svc", "{per: service, consecutiveErrors: 3}"), ("method", "{per: method, consecutiveErrors: 2}")],
        None,
    );
    let mut crew = Crew::new(&rules, 1);
    let mut call = |service: &str, method: &str, outcome| {
        let begun = crew.begin(0, &request(service, method, &[]), endpoint(1), at(1.0))?;
        crew.end(0, begun, outcome, at(1.0));
        Ok::<_, Held>(())
    };
    assert!(call("s", "a", FAILED).is_ok() && call("s", "a", FAILED).is_ok());
    assert_eq!(call("s", "a", OK).map_err(|h| h.rule.to_string()), Err("CircuitBreaker/method".into()));
    assert!(call("s", "b", FAILED).is_ok());
    assert_eq!(call("s", "c", OK).map_err(|h| h.rule.to_string()), Err("CircuitBreaker/svc".into()));
    assert!(call("t", "a", OK).is_ok());
    let targets: Vec<_> = crew.events.iter().map(|e| e.target.to_string()).collect();
    assert_eq!(targets, ["s.a", "s"]);
}

#[test]
fn retries_count_each_endpoint_by_itself_and_the_service_once() {
    let rules =
        breakers(&[("ep", "{consecutiveErrors: 1}"), ("svc", "{per: service, consecutiveErrors: 2}")], None);
    let mut crew = Crew::new(&rules, 1);
    let (req, mut rng) = (request("s", "m", &[]), Rng::new(1));
    let worker = &mut crew.workers[0];
    let (call, _) = worker.begin(&req, at(1.0), &mut rng).expect("closed");
    assert_eq!(worker.enter(&call, endpoint(1), at(1.0), &mut rng), Ok(None));
    worker.leave(&call, FAILED, at(1.0), &mut rng);
    assert!(worker.open(&call, endpoint(1), at(1.0)));
    assert!(worker.enter(&call, endpoint(1), at(1.0), &mut rng).is_err());
    assert_eq!(worker.enter(&call, endpoint(2), at(1.0), &mut rng), Ok(None));
    worker.end(call, OK, at(1.0), &mut rng);
    assert!(crew.call(0, 2, OK, at(1.0)).is_ok());
    assert_eq!(crew.events.len(), 1, "{:?}", crew.events);
}

#[test]
fn a_person_can_hold_it_open_or_closed() {
    let open = breakers(&[("b", "{state: open}")], None);
    let mut crew = Crew::new(&open, 1);
    let held = crew.call(0, 1, OK, at(1.0)).expect_err("open");
    assert_eq!(&*held.detail, "it is held open by hand");
    let closed = breakers(&[("b", "{state: closed, consecutiveErrors: 1}")], Some(&open));
    crew.workers[0].sync(&closed);
    assert!((0..100).all(|_| crew.call(0, 1, FAILED, at(1.0)).is_ok()));
    let decided = breakers(&[("b", "{consecutiveErrors: 1}")], Some(&closed));
    crew.workers[0].sync(&decided);
    assert!(crew.call(0, 1, FAILED, at(1.0)).is_ok() && crew.call(0, 1, OK, at(1.0)).is_err());
    let later = breakers(&[("b", "{consecutiveErrors: 2}")], Some(&decided));
    crew.workers[0].sync(&later);
    assert!(crew.call(0, 1, OK, at(1.0)).is_err(), "a new version finds it open");
}

#[test]
fn observed_breakers_hold_nothing_and_say_what_they_would() {
    let rules = breakers(
        &[
            ("ep", "{mode: observe, consecutiveErrors: 1}"),
            ("svc", "{mode: observe, per: service, state: open}"),
        ],
        None,
    );
    let mut crew = Crew::new(&rules, 1);
    assert!(crew.call(0, 1, FAILED, at(1.0)).is_ok());
    let (req, mut rng) = (request("s", "m", &[]), Rng::new(1));
    let worker = &mut crew.workers[0];
    let (call, observed) = worker.begin(&req, at(1.1), &mut rng).expect("it passes");
    assert_eq!(observed.map(|h| h.rule.to_string()).as_deref(), Some("CircuitBreaker/svc"));
    assert!(!worker.open(&call, endpoint(1), at(1.1)));
    let observed = worker.enter(&call, endpoint(1), at(1.1), &mut rng).expect("it passes");
    assert_eq!(observed.map(|h| h.rule.to_string()).as_deref(), Some("CircuitBreaker/ep"));
    worker.end(call, OK, at(1.1), &mut rng);
}

#[test]
fn targets_are_bounded_and_those_that_are_open_stay() {
    let rules = breakers(
        &[("b", "{per: method, consecutiveErrors: 1, openFor: 1h, maxOpenFor: 1h, window: 1s}")],
        None,
    );
    let mut crew = Crew::new(&rules, 1);
    let call = |crew: &mut Crew, method: &str, outcome, now| {
        let begun = crew.begin(0, &request("s", method, &[]), endpoint(1), now)?;
        crew.end(0, begun, outcome, now);
        Ok::<_, Held>(())
    };
    assert!(call(&mut crew, "bad", FAILED, at(1.0)).is_ok());
    for i in 0..50_000 {
        assert!(call(&mut crew, &format!("m{i}"), OK, at(1.0 + f64::from(i) / 1000.0)).is_ok());
    }
    assert!(call(&mut crew, "bad", OK, at(60.0)).is_err());
    assert!(call(&mut crew, "m1", FAILED, at(60.0)).is_ok());
    assert!(call(&mut crew, "m1", OK, at(60.0)).is_err(), "new ones still find a place");
}

#[test]
fn breakers_of_endpoints_that_are_gone_are_forgotten() {
    let rules = breakers(&[("b", "{consecutiveErrors: 1, openFor: 1s}")], None);
    let mut crew = Crew::new(&rules, 2);
    assert!(crew.call(0, 1, FAILED, at(1.0)).is_ok() && crew.call(1, 2, FAILED, at(1.0)).is_ok());
    assert_eq!(rules.view(at(1.5)).breakers[0].unwell, 2);
    for _ in 0..3 {
        assert!(crew.call(0, 2, OK, at(3.0)).is_ok());
    }
    // A new endpoint comes much later; the first one was not asked for since it opened.
    assert!(crew.call(0, 3, OK, at(700.0)).is_ok());
    let view = rules.view(at(700.0));
    assert_eq!((view.breakers[0].unwell, view.breakers[0].closed), (0, 2), "{view:?}");
    assert!(crew.call(0, 1, FAILED, at(701.0)).is_ok(), "it begins anew");
    assert!(crew.call(1, 1, OK, at(701.1)).is_err());
    let (call, _) =
        crew.workers[1].begin(&request("s", "m", &[]), at(701.1), &mut Rng::new(1)).expect("closed");
    assert!(crew.workers[1].open(&call, endpoint(1), at(701.1)));
}

#[test]
fn a_window_of_another_length_counts_from_now_on() {
    let short = breakers(&[("b", "{errorRatio: 0.5, minCalls: 5, window: 1s}")], None);
    let mut crew = Crew::new(&short, 1);
    for _ in 0..4 {
        assert!(crew.call(0, 1, FAILED, at(1000.0)).is_ok());
    }
    let long = breakers(&[("b", "{errorRatio: 0.5, minCalls: 5, window: 100s}")], Some(&short));
    crew.workers[0].sync(&long);
    for _ in 0..5 {
        assert!(crew.call(0, 1, FAILED, at(1001.0)).is_ok());
    }
    assert!(crew.call(0, 1, FAILED, at(1001.0)).is_err());
    let again = breakers(&[("b", "{errorRatio: 0.5, minCalls: 5, window: 1s}")], Some(&long));
    crew.workers[0].sync(&again);
    for _ in 0..3 {
        assert!(crew.call(0, 1, OK, at(1020.0)).is_ok(), "the probes close it");
    }
    for _ in 0..5 {
        assert!(crew.call(0, 1, FAILED, at(1021.0)).is_ok());
    }
    assert!(crew.call(0, 1, FAILED, at(1021.0)).is_err());
}
