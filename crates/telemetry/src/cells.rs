//! The list of every metric kept in cells: to add one, add a line here.
//!
//! A line is `field: type = "family", "constant labels", "unit", "help";`. Lines of one family stand
//! together; the text and the reference document are made from them. Base units only (seconds, bytes),
//! counters end in `_total`.
use crate::cell::{Cell, Counter, Gauge, Histogram, Kind, Milli, MinGauge, Per, Sizes};
use crate::exposition::Exposition;
use crate::labels::{AcceptError, ConnectError, Direction, DropCause, LinkFailure, Malformed, WriteError};
use crate::table::Entry;
use raddle_core::{Protocol, Reason};
use std::sync::Arc;

/// One line of the metrics reference.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The metric's name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The label with constant value, as the text format writes it; may be empty.
    pub constant: &'static str,
    /// The label key with a value per series; may be empty.
    pub label: &'static str,
    /// The unit, for people.
    pub unit: &'static str,
    /// What it counts.
    pub help: &'static str,
}

macro_rules! cells {
    ($(#[$meta:meta])* $name:ident {
        $($field:ident: $ty:ty = $family:literal, $constant:literal, $unit:literal, $help:literal;)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub struct $name { $( #[doc = $help] pub $field: $ty, )* }

        impl $name {
            /// What the cells are called outside, in order; a family of several cells comes several times.
            pub const FAMILIES: &'static [Family] = &[$(Family {
                name: $family,
                kind: <$ty as Cell>::KIND,
                constant: $constant,
                label: <$ty as Cell>::LABEL,
                unit: $unit,
                help: $help,
            }),*];

            /// Writes every family, each with the series of all entries.
            pub(crate) fn expose(entries: &[Arc<Entry<$name>>], out: &mut Exposition) {
                let mut families = Self::FAMILIES.iter();
                $(
                    if let Some(family) = families.next() {
                        out.family(family);
                    }
                    for entry in entries {
                        let mut sum = <$ty as Cell>::Sum::default();
                        let mut any = false;
                        for cells in entry.resolved() {
                            cells.$field.gather(&mut sum);
                            any = true;
                        }
                        if any {
                            let labels = entry.labels_with($constant);
                            <$ty as Cell>::expose(&sum, $family, &labels, out);
                        }
                    }
                )*
            }

            /// Adds all of `from`'s counts to these; the caller is these cells' only writer.
            pub(crate) fn absorb(&self, from: &$name) {
                $( Cell::absorb(&self.$field, &from.$field); )*
            }
        }

        impl crate::table::Absorb for $name {
            fn absorb(&self, from: &$name) {
                $name::absorb(self, from);
            }
        }
    };
}

cells! {
    /// One worker's cells that belong to no service and no endpoint.
    #[repr(align(128))]
    WorkerCells {
        accepted: Per<Direction, { Direction::COUNT }> = "raddle_connections_accepted_total", "", "connections", "Caller connections accepted.";
        accept_errors: Per<AcceptError, { AcceptError::COUNT }> = "raddle_accept_errors_total", "", "errors", "Failed accepts, by kind.";
        captured: Counter = "raddle_captured_connections_total", "", "connections", "Caller connections that were made to another address and brought here by the kernel (`capture`).";
        capture_loops: Counter = "raddle_capture_loops_total", "", "connections", "Connections of the sidecar itself that were captured, and refused. Any says that the capture rules do not know the sidecar's user.";
        passed_through: Counter = "raddle_passed_through_destinations_total", "", "destinations", "Destinations that no service has and connections or requests pass through to, each time one is taken up.";
        detected: Per<Protocol, 6> = "raddle_connections_detected_total", "", "connections", "Caller connections whose protocol was recognised or declared, by protocol.";
        callers_active: Gauge = "raddle_connections_active", r#"side="caller""#, "connections", "Open connections.";
        upstream_active: Gauge = "raddle_connections_active", r#"side="upstream""#, "connections", "Open connections.";
        upstream_opened: Counter = "raddle_upstream_connections_opened_total", "", "connections", "Connections made to endpoints and to the local app.";
        upstream_failed: Per<ConnectError, { ConnectError::COUNT }> = "raddle_upstream_connect_failures_total", "", "connections", "Connections to endpoints that could not be made, by kind.";
        upstream_retired: Counter = "raddle_upstream_connections_retired_total", "", "connections", "Connections taken out of use without cutting a request.";
        upstream_lost: Counter = "raddle_upstream_connections_lost_total", "", "connections", "Connections to endpoints that ended with requests in flight.";
        caller_bytes_in: Counter = "raddle_received_bytes_total", r#"side="caller""#, "bytes", "Bytes read from connections.";
        upstream_bytes_in: Counter = "raddle_received_bytes_total", r#"side="upstream""#, "bytes", "Bytes read from connections.";
        caller_bytes_out: Counter = "raddle_sent_bytes_total", r#"side="caller""#, "bytes", "Bytes written to connections.";
        upstream_bytes_out: Counter = "raddle_sent_bytes_total", r#"side="upstream""#, "bytes", "Bytes written to connections.";
        heartbeats_sent: Counter = "raddle_heartbeats_total", r#"event="sent""#, "heartbeats", "Protocol heartbeats: sent to endpoints, answered for callers, or not answered by an endpoint in time.";
        heartbeats_answered: Counter = "raddle_heartbeats_total", r#"event="answered""#, "heartbeats", "Protocol heartbeats: sent to endpoints, answered for callers, or not answered by an endpoint in time.";
        heartbeats_missed: Counter = "raddle_heartbeats_total", r#"event="missed""#, "heartbeats", "Protocol heartbeats: sent to endpoints, answered for callers, or not answered by an endpoint in time.";
        caller_malformed: Per<Malformed, { Malformed::COUNT }> = "raddle_malformed_frames_total", r#"side="caller""#, "frames", "Frames that are not their protocol, by what was wrong.";
        upstream_malformed: Per<Malformed, { Malformed::COUNT }> = "raddle_malformed_frames_total", r#"side="upstream""#, "frames", "Frames that are not their protocol, by what was wrong.";
        retries: Counter = "raddle_retries_total", "", "requests", "Requests sent again after a failure, by policy.";
        requeued: Counter = "raddle_requeued_total", "", "requests", "Requests moved to another connection before a byte of them was sent.";
        late_replies: Counter = "raddle_late_replies_total", "", "replies", "Replies that came after their request was over, and were dropped.";
        retries_denied: Counter = "raddle_retries_denied_total", "", "requests", "Retries a policy asked for and its budget did not allow.";
        unexpected_frames: Counter = "raddle_unexpected_frames_total", "", "frames", "Well-formed frames that make no sense where they came, and were dropped.";
        goaways_sent: Counter = "raddle_goaways_total", r#"event="sent""#, "frames", "GOAWAY frames: sent to callers when draining, received from endpoints.";
        goaways_received: Counter = "raddle_goaways_total", r#"event="received""#, "frames", "GOAWAY frames: sent to callers when draining, received from endpoints.";
        idle_closed: Counter = "raddle_idle_connections_closed_total", "", "connections", "Connections closed because nothing was in flight for the idle timeout.";
        held_back: Counter = "raddle_held_back_total", "", "pauses", "Times a connection was not read for a while because what it feeds was full.";
        unexpected_replies: Counter = "raddle_unexpected_replies_total", "", "replies", "Replies to no request that was ever sent, or to a one-way request; dropped.";
        buffered_bytes: Gauge = "raddle_buffered_bytes", "", "bytes", "Bytes waiting in out-buffers.";
        paused_connections: Gauge = "raddle_paused_connections", "", "connections", "Connections not read from because a buffer behind them is full.";
        on_demand_waiting: Gauge = "raddle_on_demand_waiting", "", "requests", "Requests waiting for their service to come from the control plane.";
        on_demand_waited: Counter = "raddle_on_demand_requests_total", r#"event="waited""#, "requests", "Requests for services not known yet: those that waited for the control plane, and those refused at once because too many did.";
        on_demand_refused: Counter = "raddle_on_demand_requests_total", r#"event="refused""#, "requests", "Requests for services not known yet: those that waited for the control plane, and those refused at once because too many did.";
        pending_requests: Gauge = "raddle_pending_requests", "", "requests", "Requests waiting for a connection to their endpoint.";
        slow_callers_closed: Counter = "raddle_slow_callers_closed_total", "", "connections", "Caller connections closed because they did not read their replies.";
        mirrored: Counter = "raddle_mirrored_requests_total", "", "requests", "Copies of requests sent to services that mirror others.";
        mirrors_skipped: Counter = "raddle_mirrored_requests_skipped_total", "", "requests", "Requests a rule wanted copied that were not: their body was too long to be kept, or the service is not known.";
        tls_accepted: Counter = "raddle_tls_handshakes_total", r#"outcome="begun""#, "handshakes", "TLS handshakes of callers: begun, and failed.";
        tls_failed: Counter = "raddle_tls_handshakes_total", r#"outcome="failed""#, "handshakes", "TLS handshakes of callers: begun, and failed.";
        link_full: Counter = "raddle_link_handshakes_total", r#"side="caller",result="full""#, "handshakes", "TLS handshakes of links between sidecars, by side and result.";
        link_resumed: Counter = "raddle_link_handshakes_total", r#"side="caller",result="resumed""#, "handshakes", "TLS handshakes of links between sidecars, by side and result.";
        link_failed: Counter = "raddle_link_handshakes_total", r#"side="caller",result="failed""#, "handshakes", "TLS handshakes of links between sidecars, by side and result.";
        link_in_full: Counter = "raddle_link_handshakes_total", r#"side="callee",result="full""#, "handshakes", "TLS handshakes of links between sidecars, by side and result.";
        link_in_resumed: Counter = "raddle_link_handshakes_total", r#"side="callee",result="resumed""#, "handshakes", "TLS handshakes of links between sidecars, by side and result.";
        link_in_failed: Counter = "raddle_link_handshakes_total", r#"side="callee",result="failed""#, "handshakes", "TLS handshakes of links between sidecars, by side and result.";
        link_handshake_time: Histogram = "raddle_link_handshake_seconds", "", "seconds", "Time a TLS handshake of a link took, from its first bytes to its end, of those that ended well.";
        link_handshakes_waiting: Gauge = "raddle_link_handshakes_waiting", "", "connections", "Connections whose TLS handshake is with the handshake threads, or waits for them.";
        link_failures: Per<LinkFailure, { LinkFailure::COUNT }> = "raddle_link_failures_total", "", "connections", "Links to endpoints that should be encrypted and could not be, by cause.";
        link_fallbacks: Per<LinkFailure, { LinkFailure::COUNT }> = "raddle_link_fallbacks_total", "", "connections", "Of those, the ones after which requests went on in plaintext, as the callee allows.";
        link_switches: Counter = "raddle_link_switches_total", "", "switches", "Times connections to an endpoint were replaced by one that is what is wanted: encrypted, plaintext, or to another identity.";
        link_stale: Gauge = "raddle_link_stale_connections", "", "connections", "Connections to endpoints that are not what is wanted of them and still in use: to be replaced, fallen back, or bytes of no known protocol.";
        link_secured: Gauge = "raddle_link_connections", r#"direction="outbound",encrypted="true""#, "connections", "Open connections between apps, by direction and whether they are encrypted with the mesh's certificates.";
        link_plain: Gauge = "raddle_link_connections", r#"direction="outbound",encrypted="false""#, "connections", "Open connections between apps, by direction and whether they are encrypted with the mesh's certificates.";
        link_in_plain: Gauge = "raddle_link_connections", r#"direction="inbound",encrypted="false""#, "connections", "Open connections between apps, by direction and whether they are encrypted with the mesh's certificates.";
        link_in_tls: Gauge = "raddle_link_connections", r#"direction="inbound",encrypted="true""#, "connections", "Open connections between apps, by direction and whether they are encrypted with the mesh's certificates.";
        link_requests_secured: Counter = "raddle_link_requests_total", r#"direction="outbound",encrypted="true""#, "requests", "Requests by direction and whether the connection they travelled on is encrypted with the mesh's certificates.";
        link_requests_plain: Counter = "raddle_link_requests_total", r#"direction="outbound",encrypted="false""#, "requests", "Requests by direction and whether the connection they travelled on is encrypted with the mesh's certificates.";
        link_in_requests_plain: Counter = "raddle_link_requests_total", r#"direction="inbound",encrypted="false""#, "requests", "Requests by direction and whether the connection they travelled on is encrypted with the mesh's certificates.";
        link_in_requests_tls: Counter = "raddle_link_requests_total", r#"direction="inbound",encrypted="true""#, "requests", "Requests by direction and whether the connection they travelled on is encrypted with the mesh's certificates.";
        link_refused: Counter = "raddle_link_plaintext_refused_total", "", "requests", "Requests, and connections of no known protocol, that were refused because they came in plaintext where `LinkEncryption` is strict.";
        link_retired: Counter = "raddle_link_callers_retired_total", "", "connections", "Callers' connections that were told to go: plaintext when strict began, or a certificate that is not good any more.";
        link_cut: Counter = "raddle_link_callers_ended_total", "", "connections", "Callers' connections that were to go, did not in their time, and were ended; requests in flight on them were answered.";
        identity_skipped: Counter = "raddle_link_identity_skipped_total", "", "requests", "Requests of callers with a verified certificate that went to the app without saying who calls: too large to be held (Dubbo), in a serialisation that is not read, or with no room for it.";
        limit_in_flight: Gauge = "raddle_limit_requests_in_flight", "", "requests", "Requests under way that a limit counts.";
        limit_waiting: Gauge = "raddle_limit_requests_waiting", "", "requests", "Requests that wait because a limit lets them pass later.";
        limit_waited: Counter = "raddle_limit_waited_total", "", "requests", "Requests that a limit let pass later.";
        turns: Counter = "raddle_turns_total", "", "turns", "Reactor turns.";
        turn_events: Sizes = "raddle_turn_events", "", "events", "Socket events handled in one reactor turn.";
        turn_time: Histogram = "raddle_turn_seconds", "", "seconds", "Time from a reactor turn's wake-up to its end; long turns delay every connection of the worker.";
        panics: Counter = "raddle_panics_total", "", "panics", "Connections closed because handling them panicked. Any is a bug.";
        config_generation: MinGauge = "raddle_config_generation", "", "generation", "The newest configuration generation that every worker runs.";
    }
}

cells! {
    /// One worker's share of the access log's numbers; the writer thread has cells of its own.
    #[repr(align(128))]
    LogCells {
        lines: Counter = "raddle_access_log_lines_total", "", "lines", "Lines given to the access log.";
        sampled_out: Counter = "raddle_access_log_sampled_out_total", "", "requests", "Successful requests left out of the access log by sampling.";
        dropped: Per<DropCause, { DropCause::COUNT }> = "raddle_access_log_dropped_lines_total", "", "lines", "Lines lost, by cause. The request path never waits for the log.";
        written_bytes: Counter = "raddle_access_log_written_bytes_total", "", "bytes", "Bytes written to the access log's target.";
        write_errors: Per<WriteError, { WriteError::COUNT }> = "raddle_access_log_write_errors_total", "", "errors", "Failed writes to the access log's target, by kind.";
    }
}

cells! {
    /// What the sidecar has from its control plane; written by one thread.
    #[repr(align(128))]
    MeshCells {
        connected: Gauge = "raddle_control_plane_connected", "", "streams", "Whether there is a stream to a control plane: 1 or 0.";
        updates: Counter = "raddle_control_plane_updates_total", "", "updates", "Updates taken from the control plane.";
        refused: Counter = "raddle_control_plane_refused_total", "", "resources", "Resources of the control plane that were refused.";
        services: Gauge = "raddle_control_plane_services", "", "services", "Services the control plane keeps current here.";
        wanted: Gauge = "raddle_control_plane_wanted", "", "services", "Services subscribed to, known or not.";
        reports: Counter = "raddle_control_plane_reports_total", "", "reports", "Reports sent to the control plane.";
        publications: Counter = "raddle_control_plane_publications_total", "", "publications", "Publications sent to the control plane, withdrawals included.";
        apply_time: Histogram = "raddle_control_plane_apply_seconds", "", "seconds", "Time from taking changes up to their being in force.";
        certificate_ends: Gauge = "raddle_certificate_expiry_timestamp_seconds", "", "seconds since 1970", "When the instance's certificate of the control plane expires; 0 = there is none.";
        certificate_renewals: Counter = "raddle_certificate_renewals_total", "", "certificates", "Certificates got from the control plane.";
        certificate_failures: Counter = "raddle_certificate_failures_total", "", "attempts", "Failed attempts to get a certificate from the control plane.";
    }
}

cells! {
    /// What holds of link encryption; written by one thread.
    #[repr(align(128))]
    LinkCells {
        mode: Gauge = "raddle_link_mode", "", "mode", "What `LinkEncryption` asks for on the inbound side, the most of any listener: 0 disable, 1 permissive, 2 strict.";
        effective: Gauge = "raddle_link_strict", "", "state", "Whether plaintext is refused on the inbound side: 0 = it is taken, 1 = strict is asked for and waits, 2 = it is refused.";
    }
}

cells! {
    /// What holds of adaptive limiting; written by one thread.
    #[repr(align(128))]
    AdaptiveCells {
        active: Gauge = "raddle_adaptive_limit_active", "", "state", "Whether adaptive limiting holds anything back: 1 or 0; always 0 in `mode: observe`.";
        would_be_active: Gauge = "raddle_adaptive_limit_would_be_active", "", "state", "Whether adaptive limiting in `mode: observe` would hold anything back: 1 or 0.";
        culprits: Gauge = "raddle_adaptive_limit_culprits", "", "interfaces", "Interfaces that adaptive limiting takes for the cause and holds, or would hold in `mode: observe`.";
        interfaces: Gauge = "raddle_adaptive_limit_interfaces", "", "interfaces", "Interfaces that adaptive limiting tells apart.";
        activations: Counter = "raddle_adaptive_limit_activations_total", "", "times", "Times adaptive limiting began to hold, or would have in `mode: observe`.";
        queue: Milli = "raddle_adaptive_limit_queue_seconds", "", "seconds", "Work the app has in hand, as time its cores need for it.";
        cpu: Milli = "raddle_adaptive_limit_cpu_ratio", "", "share", "Share of the app's cores in use, as adaptive limiting sees it.";
        samples_missing: Counter = "raddle_adaptive_limit_samples_missing_total", "", "seconds", "Seconds in which the app's load could not be read.";
    }
}

cells! {
    /// One worker's cells of one service in one direction.
    #[repr(align(64))]
    ServiceCells {
        ok: Counter = "raddle_requests_total", r#"outcome="ok""#, "requests", "Requests that are over, by outcome: ok, app_error (the callee's own failure status) or rejected (by the sidecar, with the flag as reason).";
        app_error: Counter = "raddle_requests_total", r#"outcome="app_error""#, "requests", "Requests that are over, by outcome: ok, app_error (the callee's own failure status) or rejected (by the sidecar, with the flag as reason).";
        rejected: Per<Reason, 19> = "raddle_requests_total", r#"outcome="rejected""#, "requests", "Requests that are over, by outcome: ok, app_error (the callee's own failure status) or rejected (by the sidecar, with the flag as reason).";
        one_way: Counter = "raddle_one_way_requests_total", "", "requests", "Requests forwarded that expect no reply.";
        in_flight: Gauge = "raddle_requests_in_flight", "", "requests", "Requests whose reply is awaited.";
        latency: Histogram = "raddle_request_duration_seconds", "", "seconds", "Time from a request's last byte read to its reply written, of requests that reached the callee. Bounds are exact to 6 %.";
    }
}

cells! {
    /// One worker's cells of one endpoint address.
    #[repr(align(64))]
    HostCells {
        requests: Counter = "raddle_endpoint_requests_total", "", "requests", "Requests sent to the endpoint, retries included.";
        failures: Counter = "raddle_endpoint_failures_total", "", "requests", "Requests the endpoint did not serve: connection, timeout, protocol or its own failure status.";
        active: Gauge = "raddle_endpoint_requests_in_flight", "", "requests", "Requests the endpoint is working on.";
        connections: Gauge = "raddle_endpoint_connections", "", "connections", "Open connections to the endpoint.";
    }
}

cells! {
    /// One worker's cells of one `Authorization` rule.
    #[repr(align(64))]
    RuleCells {
        denied: Counter = "raddle_authorization_denied_total", "", "requests", "Requests (TCP: connections) that authorization refused, by the rule that did; `(no allow rule)` where there are rules that allow and none took it, `(unclear)` where it could not be judged.";
        observed: Counter = "raddle_authorization_observed_total", "", "requests", "Requests (TCP: connections) that passed and that a rule in `mode: observe` would have refused, by that rule.";
    }
}

cells! {
    /// One worker's counts of one `AdaptiveLimit`, `RateLimit` or `CircuitBreaker`.
    #[repr(align(64))]
    LimitCells {
        held: Counter = "raddle_limit_held_total", "", "requests", "Requests that a limit or a breaker refused, by rule (`KIND/NAME`).";
        observed: Counter = "raddle_limit_observed_total", "", "requests", "Requests that passed and that a rule in `mode: observe` would have refused, by rule.";
    }
}

cells! {
    /// One worker's cells of one `CircuitBreaker`.
    #[repr(align(64))]
    BreakerCells {
        open: Gauge = "raddle_breaker_open", "", "breakers", "Breakers of a rule that are open or half-open, in `mode: observe` as well; with `state: open` 1 for all of them, with `state: closed` 0.";
    }
}

/// How many sets of services' and endpoints' names keep their own series; the rest share `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Pairs of direction and service.
    pub services: usize,
    /// Endpoint addresses.
    pub hosts: usize,
    /// Rules of authorization; as many limits and breakers.
    pub rules: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { services: 2000, hosts: 5000, rules: 1000 }
    }
}
