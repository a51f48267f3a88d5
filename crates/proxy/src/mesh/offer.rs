//! Whether callers are asked for TLS. Pure.
//!
//! Only callees are told to encrypt, and only by what their sidecars publish do callers know of it: so this is the one
//! place from which a switch begins, and ends.
use raddle_model::{Fallback, InboundListener, LinkMode, LinkSettings};

/// What is said of TLS beside the instance's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Callers are to encrypt.
    pub tls: bool,
    /// And not to fall back to plaintext.
    pub required: bool,
}

/// The certificate that TLS is taken with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// There is none.
    #[default]
    None,
    /// Callers accept it.
    Valid,
    /// There is one whose time is over.
    Expired,
}

/// What to say. An instance says one thing of all its ports, so the lowest mode of them counts: nobody is asked for TLS
/// where one of the services does not take it.
///
/// Whoever said that plaintext is no way out says so still when its certificate has expired: callers would go on in
/// plaintext, which the rule forbids, and would be refused.
pub(crate) fn offer(
    settings: &LinkSettings,
    lowest: LinkMode,
    certificate: Certificate,
    before: Offer,
) -> Offer {
    let required = match settings.fallback {
        Some(fallback) => fallback == Fallback::Denied,
        None => lowest == LinkMode::Strict,
    };
    let tls = lowest != LinkMode::Disable
        && match certificate {
            Certificate::Valid => true,
            Certificate::Expired => required && before.tls,
            Certificate::None => false,
        };
    Offer { tls, required: tls && required }
}

/// The lowest mode of the ports that are published. A port at which no inbound listener takes connections is the app's
/// own: nobody takes TLS there.
pub(crate) fn lowest(
    settings: &LinkSettings,
    inbound: &[InboundListener],
    ports: impl Iterator<Item = u16>,
) -> LinkMode {
    let of = |port: u16| {
        let listener = inbound.iter().find(|l| l.listen.port() == port);
        // Where connections are captured, they were made to the app's own port.
        listener.or_else(|| inbound.iter().find(|l| l.capture.is_some())).map_or(LinkMode::Disable, |l| {
            let own = settings.mode_of(l.listen.port());
            // A listener with a certificate of its own shows that one, an app that ends TLS shows its own: neither is the
            // mesh's.
            if l.tls.is_some() || l.app_tls.contains(&port) {
                LinkMode::Disable
            } else if l.listen.port() == port {
                own
            } else {
                own.min(settings.mode_of(port))
            }
        })
    };
    ports.map(of).min().unwrap_or(LinkMode::Disable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_model::PortMode;

    fn settings(mode: LinkMode) -> LinkSettings {
        LinkSettings { mode, ..LinkSettings::default() }
    }

    fn listener(port: u16) -> InboundListener {
        InboundListener {
            listen: ([127, 0, 0, 1], port).into(),
            forward: None,
            protocol: None,
            app_protocol: None,
            app_tls: Vec::new(),
            tls: None,
            caller_identity: raddle_model::CallerIdentity::Headers,
            capture: None,
            ports: Vec::new(),
        }
    }

    fn says(mode: LinkMode, certificate: Certificate, before: Offer) -> (bool, bool) {
        let said = offer(&settings(mode), mode, certificate, before);
        (said.tls, said.required)
    }

    #[test]
    fn nobody_is_asked_for_tls_without_a_valid_certificate() {
        let none = Offer::default();
        for mode in [LinkMode::Disable, LinkMode::Permissive, LinkMode::Strict] {
            for certificate in [Certificate::None, Certificate::Expired] {
                assert_eq!(says(mode, certificate, none), (false, false), "{mode:?} {certificate:?}");
            }
        }
        assert_eq!(says(LinkMode::Disable, Certificate::Valid, none), (false, false));
        assert_eq!(says(LinkMode::Permissive, Certificate::Valid, none), (true, false));
        assert_eq!(says(LinkMode::Strict, Certificate::Valid, none), (true, true));
    }

    #[test]
    fn an_expired_certificate_takes_the_wish_back_unless_plaintext_is_no_way_out() {
        let before = Offer { tls: true, required: true };
        assert_eq!(says(LinkMode::Permissive, Certificate::Expired, before), (false, false));
        assert_eq!(says(LinkMode::Strict, Certificate::Expired, before), (true, true));
        assert_eq!(says(LinkMode::Disable, Certificate::Valid, before), (false, false), "off is at once");
    }

    #[test]
    fn a_fallback_that_is_given_wins_over_the_modes() {
        let mut s = settings(LinkMode::Permissive);
        s.fallback = Some(Fallback::Denied);
        assert!(offer(&s, LinkMode::Permissive, Certificate::Valid, Offer::default()).required);
        s.fallback = Some(Fallback::Allowed);
        assert!(!offer(&s, LinkMode::Strict, Certificate::Valid, Offer::default()).required);
    }

    #[test]
    fn the_lowest_mode_of_the_published_ports_counts() {
        let mut s = settings(LinkMode::Strict);
        s.ports = vec![PortMode { port: 2, mode: LinkMode::Disable }];
        let inbound = [listener(1), listener(2)];
        let of = |ports: &[u16]| lowest(&s, &inbound, ports.iter().copied());
        assert_eq!(of(&[1]), LinkMode::Strict);
        assert_eq!(of(&[1, 2]), LinkMode::Disable);
        assert_eq!(of(&[1, 3]), LinkMode::Disable, "3 is the app's own port");
        assert_eq!(of(&[]), LinkMode::Disable);
        let mut own = listener(1);
        own.tls = Some(raddle_model::ListenerTls { certificate: "own".into() });
        assert_eq!(lowest(&s, &[own], [1].into_iter()), LinkMode::Disable);
    }
}
