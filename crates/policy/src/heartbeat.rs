//! When to send a heartbeat on a connection to an endpoint, and when its peer is dead.
use raddle_core::Time;
use std::time::Duration;

/// Silence before a heartbeat on a fresh connection, or one that was in trouble.
pub const SHORTEST: Duration = Duration::from_secs(15);
/// Silence before a heartbeat on a connection long idle and healthy. Servers close after 90 s without a
/// byte, and ticks may be late: SOFABolt's own 15 s is needlessly often for ten thousand idle connections.
pub const LONGEST: Duration = Duration::from_secs(85);
/// Unanswered probes that make the peer dead.
pub const MISSES: u8 = 3;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Send a heartbeat.
    Send,
    /// The peer is dead: give the connection up.
    Dead,
}

/// Heartbeats of one connection.
///
/// Bytes from the peer are as good as heartbeats: while requests flow none is sent. On an idle connection
/// the interval grows by half with every answer, from [`SHORTEST`] to [`LONGEST`]. A probe unanswered for a
/// third of the dead-peer time is a miss and is repeated; [`MISSES`] in a row are death. With requests in
/// flight and the peer silent for half the dead-peer time, probes are sent and repeated so that it is dead
/// after the whole of it. A late tick counts as one miss at most: a sidecar that was itself stopped does
/// not take its peers for dead.
#[derive(Clone, Debug)]
pub struct HeartbeatPlan {
    dead_peer: Duration,
    interval: Duration,
    heard: Time,
    /// Since when a reply has been awaited without a byte from the peer.
    waiting: Option<Time>,
    /// When the last probe was sent, while none since is answered.
    probe: Option<Time>,
    misses: u8,
}

impl HeartbeatPlan {
    /// Of a connection made at `now`; `dead_peer` is
    /// [`Timeouts::dead_peer`](raddle_model::Timeouts::dead_peer).
    pub fn new(dead_peer: Duration, now: Time) -> HeartbeatPlan {
        HeartbeatPlan { dead_peer, interval: SHORTEST, heard: now, waiting: None, probe: None, misses: 0 }
    }

    /// Notes that a request that has a reply was written.
    pub fn sent(&mut self, now: Time) {
        self.waiting.get_or_insert(now);
    }

    /// Notes bytes from the peer; `in_flight` = replies are still awaited after them.
    pub fn heard(&mut self, now: Time, in_flight: bool) {
        if self.probe.take().is_some() && self.misses == 0 && self.waiting.is_none() {
            self.interval = (self.interval + self.interval / 2).min(LONGEST);
        }
        self.misses = 0;
        self.heard = now;
        self.waiting = in_flight.then_some(now);
    }

    /// Notes that no reply is awaited any more (for example, all timed out) without a byte from the peer.
    pub fn nothing_in_flight(&mut self) {
        self.waiting = None;
    }

    /// What to do at `now`. [`Action::Send`] expects that the heartbeat is sent.
    pub fn on_tick(&mut self, now: Time) -> Action {
        if now < self.next_wake() {
            return Action::None;
        }
        if self.probe.is_some() {
            self.misses += 1;
            self.interval = SHORTEST;
            if self.misses >= MISSES {
                return Action::Dead;
            }
        }
        self.probe = Some(now);
        Action::Send
    }

    /// When [`HeartbeatPlan::on_tick`] may next have something to do, if nothing happens before.
    pub fn next_wake(&self) -> Time {
        match (self.probe, self.waiting) {
            (Some(sent), None) => sent + self.dead_peer / 3,
            (Some(sent), Some(_)) => sent + self.dead_peer / 6,
            (None, None) => self.heard + self.interval,
            (None, Some(since)) => (self.heard + self.interval).min(since + self.dead_peer / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD_PEER: Duration = Duration::from_secs(6);

    fn at(s: u64) -> Time {
        Time::from_millis(s * 1000)
    }

    fn plan() -> HeartbeatPlan {
        HeartbeatPlan::new(DEAD_PEER, Time::ZERO)
    }

    #[test]
    fn an_idle_healthy_connection_is_asked_ever_more_seldom() {
        let (mut plan, mut now, mut gaps) = (plan(), Time::ZERO, Vec::new());
        for _ in 0..8 {
            let next = plan.next_wake();
            assert_eq!(plan.on_tick(next - Duration::from_nanos(1)), Action::None);
            assert_eq!(plan.on_tick(next), Action::Send);
            gaps.push(next.since(now).as_millis());
            plan.heard(next, false);
            now = next;
        }
        assert_eq!(gaps[..5], [15_000, 22_500, 33_750, 50_625, 75_937]);
        assert_eq!(gaps[5..], [85_000; 3]);
    }

    #[test]
    fn no_heartbeat_is_sent_while_requests_flow() {
        let mut plan = plan();
        for s in 0..1000 {
            plan.sent(at(s));
            assert_eq!(plan.on_tick(at(s)), Action::None);
            plan.heard(at(s), false);
        }
    }

    #[test]
    fn three_misses_in_a_row_are_death() {
        let mut plan = plan();
        assert_eq!(
            [15, 17, 19, 21].map(|s| plan.on_tick(at(s))),
            [Action::Send, Action::Send, Action::Send, Action::Dead]
        );
    }

    #[test]
    fn an_answer_forgives_the_misses_but_not_the_interval() {
        let mut plan = plan();
        plan.on_tick(at(15));
        plan.heard(at(15), false);
        assert_eq!(plan.on_tick(at(38)), Action::Send);
        assert_eq!(plan.on_tick(at(40)), Action::Send);
        plan.heard(at(41), false);
        assert_eq!(plan.next_wake(), at(41) + SHORTEST);
    }

    #[test]
    fn a_silent_peer_with_requests_in_flight_is_dead_after_the_dead_peer_time() {
        let mut plan = plan();
        plan.sent(at(10));
        let mut log = Vec::new();
        loop {
            let now = plan.next_wake();
            log.push((now.as_millis(), plan.on_tick(now)));
            if log.last().is_some_and(|l| l.1 == Action::Dead) {
                break;
            }
        }
        let send = Action::Send;
        assert_eq!(log, [(13_000, send), (14_000, send), (15_000, send), (16_000, Action::Dead)]);
    }

    #[test]
    fn a_slow_reply_kills_nobody_who_answers_probes() {
        let mut plan = plan();
        plan.sent(at(0));
        for _ in 0..100 {
            let now = plan.next_wake();
            assert_eq!(plan.on_tick(now), Action::Send);
            plan.heard(now + Duration::from_millis(300), true);
        }
    }

    #[test]
    fn a_sidecar_that_was_stopped_does_not_take_its_peer_for_dead() {
        let mut plan = plan();
        plan.sent(at(0));
        assert_eq!(plan.on_tick(at(500)), Action::Send);
        assert_eq!(plan.on_tick(at(1000)), Action::Send);
        plan.heard(at(1000), false);
        assert_eq!(plan.on_tick(at(1001)), Action::None);
    }
}
