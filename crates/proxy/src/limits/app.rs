//! Where the app beside the sidecar listens, as far as the configuration says.
use crate::shared::Config;
use raddle_model::Sidecar;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

/// The app's addresses; one whose address is not known has 0.0.0.0, which means any.
pub(crate) fn addresses(config: &Config) -> Vec<SocketAddr> {
    of(&config.sidecar)
}

fn of(sidecar: &Sidecar) -> Vec<SocketAddr> {
    let forwards: BTreeSet<SocketAddr> = sidecar.inbound.iter().filter_map(|l| l.forward).collect();
    if !forwards.is_empty() {
        return forwards.into_iter().collect();
    }
    // Connections are captured on their way to the app's own ports.
    let named =
        sidecar.inbound.iter().flat_map(|l| l.ports.iter().map(|p| p.port).chain(l.app_tls.iter().copied()));
    let publish = sidecar.publish.as_ref();
    let watched = publish.and_then(|p| p.watch_port);
    let published = publish.into_iter().flat_map(|p| p.services.iter().map(|s| s.port));
    let own: BTreeSet<u16> = sidecar
        .inbound
        .iter()
        .map(|l| l.listen)
        .chain(sidecar.outbound.iter().map(|l| l.listen))
        .map(|a| a.port())
        .collect();
    let ports: BTreeSet<u16> = named.chain(watched).chain(published).filter(|p| !own.contains(p)).collect();
    ports.into_iter().map(|p| SocketAddr::from((Ipv4Addr::UNSPECIFIED, p))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_model::{LoadOptions, Source};

    fn addresses_of(spec: &str) -> Vec<String> {
        let text = format!(
            "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {{name: s}}\nspec:\n  app: shop\n{spec}"
        );
        let source = Source { name: "s.yaml".into(), text };
        let (resources, _) = raddle_model::load(&[source], LoadOptions::default()).expect("no mistake");
        of(&resources.sidecar.expect("one")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_app_is_where_requests_are_forwarded_to() {
        let spec = "  inbound:\n    - listen: 0.0.0.0:15006\n      forward: 127.0.0.1:12200\n    - listen: \
                    0.0.0.0:15007\n      forward: 127.0.0.1:12201\n";
        assert_eq!(addresses_of(spec), ["127.0.0.1:12200", "127.0.0.1:12201"]);
    }

    #[test]
    fn a_captured_apps_ports_are_those_the_file_names() {
        let spec =
            "  inbound:\n    - listen: 0.0.0.0:15006\n      capture: redirect\n      ports: {8080: http}\n";
        assert_eq!(addresses_of(spec), ["0.0.0.0:8080"]);
    }
}
