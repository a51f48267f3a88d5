//! The kinds of resource that travel, and their type URLs.

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// CDS: a service.
    Cluster,
    /// EDS: its instances.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS.
    Routes,
    /// SDS: trust bundles; never private keys.
    Secret,
    /// Raddle's rules.
    Rule,
}

impl Kind {
    /// All kinds, in the order in which changes are sent (make before break; removals go in reverse).
    pub const ALL: [Kind; 6] =
        [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Routes, Kind::Secret, Kind::Rule];

    /// The type URL.
    pub const fn type_url(self) -> &'static str {
        match self {
            Kind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Kind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Kind::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Kind::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Kind::Rule => "type.googleapis.com/raddle.v1.Rule",
        }
    }

    /// The kind of a type URL.
    pub fn of(type_url: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.type_url() == type_url)
    }

    /// As people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Cluster => "cluster",
            Kind::Endpoints => "endpoints",
            Kind::Listener => "listener",
            Kind::Routes => "routes",
            Kind::Secret => "secret",
            Kind::Rule => "rule",
        }
    }

    /// Whether a state-of-the-world response holds everything, so that absence means deletion.
    pub const fn whole(self) -> bool {
        matches!(self, Kind::Cluster | Kind::Listener | Kind::Rule)
    }
}
