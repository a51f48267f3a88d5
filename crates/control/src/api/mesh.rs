//! Who serves what: services, apps, instances.
use super::http::shape::{Page, answers};
use super::http::{Call, ParamKind, Problem, Reply, Route};
use super::page::{after, page};
use crate::registry::{App, Directory, Instance, Listed};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/services", "listServices")
            .says("The services of the mesh.")
            .query("app", ParamKind::Text, "Only those this app publishes.")
            .query("search", ParamKind::Text, "Only those whose name contains this.")
            .query(
                "protected",
                ParamKind::Flag,
                "Only those held by self-protection, or only those that are not.",
            )
            .paged()
            .answers::<Page<ServiceSummary>>(200, "By name.")
            .on(services),
        Route::get("/v1/services/{name}", "getService")
            .says("A service with its endpoints.")
            .answers::<Service>(200, "The service.")
            .on(service),
        Route::get("/v1/apps", "listApps")
            .says("The apps of the mesh.")
            .paged()
            .answers::<Page<AppSummary>>(200, "By name.")
            .on(apps),
        Route::get("/v1/apps/{app}", "getApp")
            .says("An app: how many instances where, and what it publishes.")
            .answers::<AppDetail>(200, "The app.")
            .on(app),
        Route::get("/v1/instances", "listInstances")
            .says("The instances of the mesh that publish something.")
            .query("app", ParamKind::Text, "Only this app's.")
            .paged()
            .answers::<Page<InstanceAnswer>>(200, "By app and id.")
            .on(instances),
    ]
}

answers! {
    /// A service in short.
    pub struct ServiceSummary {
        /// interface:version[:group], a gRPC service, or an HTTP host.
        pub name: String,
        /// The app that publishes it.
        pub app: String,
        /// `bolt`, `dubbo`, `http`, `http2`, `grpc`, `tcp`; empty = the request's.
        pub protocol: String,
        /// Further HTTP hosts that mean it.
        pub hosts: Vec<String>,
        /// How many endpoints it has.
        pub endpoints: u64,
        /// How many of them take TLS.
        pub tls: u64,
        /// Too many instances vanished at once: the list is the last good one.
        pub protected: bool,
    }

    /// A service.
    pub struct Service {
        /// interface:version[:group], a gRPC service, or an HTTP host.
        pub name: String,
        /// The app that publishes it.
        pub app: String,
        /// `bolt`, `dubbo`, `http`, `http2`, `grpc`, `tcp`; empty = the request's.
        pub protocol: String,
        /// Further HTTP hosts that mean it.
        pub hosts: Vec<String>,
        /// What its framework says of it.
        pub metadata: BTreeMap<String, String>,
        /// Too many instances vanished at once: the list is the last good one.
        pub protected: bool,
        /// Its endpoints, by instance id.
        pub endpoints: Vec<EndpointAnswer>,
    }

    /// An instance of a service.
    pub struct EndpointAnswer {
        /// Instance id.
        pub instance: String,
        /// Its app.
        pub app: String,
        /// Its unit; empty = none.
        pub unit: String,
        /// Its group.
        pub group: String,
        /// Its version; empty = none.
        pub version: String,
        /// Where it is.
        pub address: String,
        /// The service's port there.
        pub port: u16,
        /// Share among its peers, 0 to 10000.
        pub weight: u32,
        /// It takes TLS.
        pub tls: bool,
        /// It has vanished and is kept by self-protection.
        pub kept: bool,
    }

    /// An app in short.
    pub struct AppSummary {
        /// Its name.
        pub name: String,
        /// How many instances it has.
        pub instances: u64,
        /// How many of them take TLS.
        pub tls: u64,
    }

    /// An app.
    pub struct AppDetail {
        /// Its name.
        pub name: String,
        /// How many instances it has.
        pub instances: u64,
        /// How many of them take TLS.
        pub tls: u64,
        /// Instances by unit; "" = none.
        pub units: BTreeMap<String, u64>,
        /// Instances by group.
        pub groups: BTreeMap<String, u64>,
        /// Instances by version; "" = none.
        pub versions: BTreeMap<String, u64>,
        /// What it publishes: the first 1000 services by name.
        pub services: Vec<String>,
    }

    /// A running copy of an app.
    pub struct InstanceAnswer {
        /// Unique in the mesh.
        pub id: String,
        /// Its app.
        pub app: String,
        /// Its unit; empty = none.
        pub unit: String,
        /// Its group.
        pub group: String,
        /// Its version; empty = none.
        pub version: String,
        /// Its labels.
        pub labels: BTreeMap<String, String>,
        /// Where it is.
        pub address: String,
        /// Share among its peers, 0 to 10000.
        pub weight: u32,
        /// It takes TLS.
        pub tls: bool,
    }
}

/// Services named of an app.
const SERVICES_OF_APP: usize = 1000;

async fn services(call: Call) -> Result<Reply, Problem> {
    let directory = directory(&call);
    let (app, search) = (call.query.text("app"), call.query.text("search"));
    let protected = call.query.text("protected").map(|p| p == "true");
    let found = directory
        .services
        .range::<str, _>((Excluded(after(&call).as_str()), Unbounded))
        .map(|(_, s)| s)
        .filter(|s| app.is_none_or(|app| &*s.app == app))
        .filter(|s| search.is_none_or(|part| s.name.contains(part)))
        .filter(|s| protected.is_none_or(|p| s.protected == p))
        .map(|s| (s.name.to_string(), summary(s)));
    Reply::json(&page(&call, found))
}

async fn service(call: Call) -> Result<Reply, Problem> {
    let directory = directory(&call);
    let name = call.param("name");
    let listed = directory.services.get(name).ok_or_else(|| no_service(name))?;
    let endpoints = listed.endpoints.iter().map(|e| {
        let i = &e.instance;
        EndpointAnswer {
            instance: i.id.to_string(),
            app: i.app.to_string(),
            unit: i.unit.to_string(),
            group: i.group.to_string(),
            version: i.version.to_string(),
            address: i.address.to_string(),
            port: e.port,
            weight: i.weight,
            tls: i.tls,
            kept: e.kept,
        }
    });
    Reply::json(&Service {
        name: listed.name.to_string(),
        app: listed.app.to_string(),
        protocol: listed.protocol.to_string(),
        hosts: listed.hosts.iter().map(ToString::to_string).collect(),
        metadata: listed.metadata.clone(),
        protected: listed.protected,
        endpoints: endpoints.collect(),
    })
}

async fn apps(call: Call) -> Result<Reply, Problem> {
    let directory = directory(&call);
    let found =
        directory.apps.range::<str, _>((Excluded(after(&call).as_str()), Unbounded)).map(|(name, app)| {
            let (instances, tls) = counts(app);
            (name.to_string(), AppSummary { name: name.to_string(), instances, tls })
        });
    Reply::json(&page(&call, found))
}

async fn app(call: Call) -> Result<Reply, Problem> {
    let directory = directory(&call);
    let name = call.param("app");
    let app = directory.apps.get(name).ok_or_else(|| no_app(name))?;
    let by = |of: fn(&Instance) -> &Arc<str>| {
        let mut counts = BTreeMap::new();
        for instance in app.instances.values() {
            *counts.entry(of(instance).to_string()).or_insert(0) += 1;
        }
        counts
    };
    let (instances, tls) = counts(app);
    let services = directory.services.values().filter(|s| &*s.app == name).take(SERVICES_OF_APP);
    Reply::json(&AppDetail {
        name: name.to_owned(),
        instances,
        tls,
        units: by(|i| &i.unit),
        groups: by(|i| &i.group),
        versions: by(|i| &i.version),
        services: services.map(|s| s.name.to_string()).collect(),
    })
}

async fn instances(call: Call) -> Result<Reply, Problem> {
    let directory = directory(&call);
    let wanted = call.query.text("app");
    let after = after(&call);
    let (from_app, from_id) = after.split_once('/').unwrap_or((after.as_str(), ""));
    let found = directory
        .apps
        .range::<str, _>((Included(from_app), Unbounded))
        .filter(|(name, _)| wanted.is_none_or(|app| &***name == app))
        .flat_map(|(name, app)| {
            let from = if &**name == from_app { from_id } else { "" };
            app.instances.range::<str, _>((Excluded(from), Unbounded)).map(|(_, i)| i)
        })
        .map(|i| (format!("{}/{}", i.app, i.id), instance(i)));
    Reply::json(&page(&call, found))
}

fn directory(call: &Call) -> Arc<Directory> {
    call.state.parts.directory.borrow().clone()
}

fn summary(s: &Listed) -> ServiceSummary {
    ServiceSummary {
        name: s.name.to_string(),
        app: s.app.to_string(),
        protocol: s.protocol.to_string(),
        hosts: s.hosts.iter().map(ToString::to_string).collect(),
        endpoints: s.endpoints.len() as u64,
        tls: s.endpoints.iter().filter(|e| e.instance.tls).count() as u64,
        protected: s.protected,
    }
}

fn counts(app: &App) -> (u64, u64) {
    let tls = app.instances.values().filter(|i| i.tls).count();
    (app.instances.len() as u64, tls as u64)
}

fn instance(i: &Instance) -> InstanceAnswer {
    InstanceAnswer {
        id: i.id.to_string(),
        app: i.app.to_string(),
        unit: i.unit.to_string(),
        group: i.group.to_string(),
        version: i.version.to_string(),
        labels: i.labels.clone(),
        address: i.address.to_string(),
        weight: i.weight,
        tls: i.tls,
    }
}

/// 404 for a service.
pub(super) fn no_service(name: &str) -> Problem {
    Problem::not_found(format!("nobody publishes a service called {name}"))
}

fn no_app(name: &str) -> Problem {
    Problem::not_found(format!("no instance of an app called {name} publishes anything"))
}
