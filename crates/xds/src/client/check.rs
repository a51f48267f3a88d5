//! What must hold for any bytes a server may send: asked by a property test and by `fuzz/fuzz_targets/xds_resources.rs`.
use super::machine::{Machine, Message, Settings, Variant};
use super::sink::{Refused, Update};
use crate::translate::inward;
use crate::types::Kind;
use bytes::Buf;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::protobuf::Any;
use raddle_core::Time;
use std::collections::HashSet;
use std::time::Duration;

/// Longest answer to a server, with room for what names it repeats.
const LONGEST_ANSWER: usize = 1 << 20;

/// Plays bytes as events: resources of every type in both variants, wishes, time, lost streams.
///
/// # Panics
///
/// If something does not hold.
pub fn resources(mut data: &[u8]) {
    let Some(flags) = byte(&mut data) else { return };
    let variant = if flags & 1 == 0 { Variant::Delta } else { Variant::Sotw };
    let mut machine = Machine::new(Settings {
        rules: flags & 2 == 0,
        roots: (flags & 4 == 0).then(|| "roots".into()),
        listen: flags & 8 != 0,
        warm: Duration::from_secs(5),
        unsubscribe_after: Duration::from_secs(60),
        ..Settings::default()
    });
    machine.connected(variant);
    let mut now = Time::ZERO;
    let mut apply = |update: Update| -> Vec<Refused> {
        sound(&update);
        Vec::new()
    };
    while let Some(event) = byte(&mut data) {
        match event % 11 {
            0 => machine.wish(&name(&mut data).into(), event & 0x80 == 0, now),
            1 => {
                now = now + Duration::from_secs(u64::from(event));
                machine.tick(now, &mut apply);
            }
            2 => {
                machine.disconnected();
                machine.connected(variant);
            }
            n => {
                let kind = Kind::ALL[usize::from(n) % Kind::ALL.len()];
                respond(&mut machine, variant, kind, event, &mut data, now, &mut apply);
            }
        }
        while let Some(message) = machine.next_message(now) {
            answerable(&message);
        }
    }
    machine.report(&mut super::Status::default());
    let (names, stored) = machine.stored();
    assert!(stored.iter().all(|stored| stored.kind != Kind::Secret));
    // What was taken is taken again.
    Machine::new(Settings { warm: Duration::from_secs(5), ..Settings::default() })
        .restore(&names, stored, now, &mut apply);
}

fn respond(
    machine: &mut Machine,
    variant: Variant,
    kind: Kind,
    event: u8,
    data: &mut &[u8],
    now: Time,
    apply: &mut dyn FnMut(Update) -> Vec<Refused>,
) {
    let mut resources = Vec::new();
    for _ in 0..=(event >> 6) {
        let name = name(data);
        let length = u16::from_le_bytes([byte(data).unwrap_or_default(), byte(data).unwrap_or_default()]);
        let length = usize::from(length % 2048);
        let value = data[..length.min(data.len())].to_vec();
        data.advance(value.len());
        if let Err(reason) = inward::parse(kind, &value) {
            assert!(!reason.is_empty() && reason.len() < 8192, "{reason}");
        }
        resources.push((name, Any { type_url: kind.type_url().into(), value }));
    }
    let (type_url, nonce) = (kind.type_url().to_owned(), "n".to_owned());
    match variant {
        Variant::Delta => {
            let wrap = |(name, any): (String, Any)| {
                let name = inward::name_of(kind, &any.value).unwrap_or(name);
                discovery::Resource { name, version: "1".into(), resource: Some(any), ..Default::default() }
            };
            let removed_resources = if event & 0x10 == 0 {
                resources.drain(..1).map(|(name, _)| name).collect()
            } else {
                Vec::new()
            };
            let resources = resources.into_iter().map(wrap).collect();
            let response = discovery::DeltaDiscoveryResponse {
                type_url,
                nonce,
                resources,
                removed_resources,
                ..Default::default()
            };
            machine.response(response, now, apply);
        }
        Variant::Sotw => {
            let resources = resources.into_iter().map(|(_, any)| any).collect();
            let version_info = "1".to_owned();
            let response = discovery::DiscoveryResponse {
                type_url,
                nonce,
                version_info,
                resources,
                ..Default::default()
            };
            machine.response(response, now, apply);
        }
    }
}

/// What a sink gets can be used.
fn sound(update: &Update) {
    assert!(!update.is_empty());
    let mut names = HashSet::new();
    for (name, service) in &update.services {
        assert!(names.insert(name), "{name} is there twice");
        let Some(service) = service else { continue };
        assert_eq!(service.metadata.name, **name);
        let mut addresses = HashSet::new();
        for endpoint in &service.endpoints {
            assert!(addresses.insert(endpoint.address), "{} is there twice", endpoint.address);
            assert!(endpoint.weight <= 10_000 && endpoint.address.port() != 0);
        }
    }
}

fn answerable(message: &Message) {
    let detail = match message {
        Message::Delta(request) => request.error_detail.as_ref(),
        Message::Sotw(request) => request.error_detail.as_ref(),
    };
    assert!(detail.is_none_or(|detail| !detail.message.is_empty() && detail.message.len() < LONGEST_ANSWER));
}

fn byte(data: &mut &[u8]) -> Option<u8> {
    let (first, rest) = data.split_first()?;
    *data = rest;
    Some(*first)
}

/// One of few names, so that things meet.
fn name(data: &mut &[u8]) -> String {
    match byte(data).unwrap_or_default() % 8 {
        0 => "roots".into(),
        1 => "Route/a".into(),
        n => format!("{}", char::from(b'a' + n)),
    }
}

#[cfg(test)]
mod tests {
    use super::resources;
    use crate::client::machine::tests as given;
    use proptest::prelude::*;
    use std::path::Path;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn whatever_a_server_sends_what_must_hold_holds(data in prop::collection::vec(any::<u8>(), 0..600)) {
            resources(&data);
        }
    }

    proptest! {
        /// More of them with `PROPTEST_CASES`.
        #[test]
        fn resources_damaged_on_the_way_do_no_harm(
            seed in any::<prop::sample::Index>(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut seeds = seeds();
            let mut data = seeds.swap_remove(seed.index(seeds.len())).1;
            for (at, byte) in damage {
                let at = at.index(data.len());
                data[at] = byte;
            }
            resources(&data);
        }
    }

    /// A start, and wishes and resources of one service in order.
    fn story(flags: u8, resources: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut out = vec![flags, 0, 2];
        for (event, value) in resources {
            out.extend([*event, 2]);
            out.extend((value.len() as u16).to_le_bytes());
            out.extend(value);
        }
        out.extend([1, 2, 1]);
        out
    }

    /// What real servers send, by name.
    fn seeds() -> Vec<(String, Vec<u8>)> {
        // One resource each that is not a removal: 17 = cluster, 18 = endpoints, 19 = listener, 25 = routes, 16 = rule.
        let services = [(17, given::cluster("c")), (18, given::endpoints("c", &[1, 2]))];
        let foreign = [
            (17, given::foreign::plain_cluster("c", 2)),
            (18, given::endpoints("c", &[3])),
            (19, given::foreign::http_listener("c", "c")),
            (25, given::foreign::routes("c", &[("c", 1)])),
        ];
        let rules = [(16, given::rule("a", "1")), (17, given::bad_cluster("c"))];
        let of = |flags: u8| {
            [
                (format!("services-{flags}"), story(flags, &services)),
                (format!("foreign-{flags}"), story(flags, &foreign)),
                (format!("rules-{flags}"), story(flags, &rules)),
            ]
        };
        [0, 1, 8, 9].into_iter().flat_map(of).collect()
    }

    #[test]
    fn what_the_fuzzer_learnt_still_holds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/xds_resources");
        if std::env::var_os("RADDLE_BLESS").is_some() {
            std::fs::create_dir_all(&folder).expect("a folder");
            for (name, story) in seeds() {
                std::fs::write(folder.join(name), story).expect("written");
            }
        }
        let mut seen = 0;
        for file in std::fs::read_dir(folder).expect("a corpus") {
            resources(&std::fs::read(file.expect("a file").path()).expect("readable"));
            seen += 1;
        }
        assert!(seen > 5);
    }
}
