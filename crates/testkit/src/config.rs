//! Configuration files for tests.
use std::fmt::Write;
use std::net::SocketAddr;

/// A sidecar's configuration, made step by step.
#[derive(Clone, Debug)]
pub struct Config {
    name: String,
    /// Worker threads.
    pub workers: u16,
    /// Admin address.
    pub admin: SocketAddr,
    inbound: Vec<String>,
    outbound: Vec<String>,
    extra: Vec<String>,
    docs: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config::new()
    }
}

impl Config {
    /// Two workers and an admin port.
    pub fn new() -> Config {
        Config {
            name: "test".into(),
            workers: 2,
            admin: crate::free_addr(),
            inbound: Vec::new(),
            outbound: Vec::new(),
            extra: Vec::new(),
            docs: Vec::new(),
        }
    }

    /// With this many workers.
    pub fn workers(mut self, n: u16) -> Config {
        self.workers = n;
        self
    }

    /// With an outbound listener.
    pub fn outbound(mut self, listen: SocketAddr) -> Config {
        self.outbound.push(format!("{{listen: \"{listen}\"}}"));
        self
    }

    /// With an outbound listener for TCP to a service; declared as such, or detected.
    pub fn outbound_tcp(mut self, listen: SocketAddr, service: &str, declared: bool) -> Config {
        let protocol = if declared { ", protocol: tcp" } else { "" };
        self.outbound.push(format!("{{listen: \"{listen}\", service: \"{service}\"{protocol}}}"));
        self
    }

    /// With an inbound listener.
    pub fn inbound(mut self, listen: SocketAddr, forward: SocketAddr) -> Config {
        self.inbound.push(format!("{{listen: \"{listen}\", forward: \"{forward}\"}}"));
        self
    }

    /// With one more line in the sidecar's `spec`, e.g. `limits: {frameTimeout: 1s}`.
    pub fn sidecar(mut self, line: &str) -> Config {
        self.extra.push(line.into());
        self
    }

    /// With a service at these addresses.
    pub fn service(self, name: &str, endpoints: &[SocketAddr]) -> Config {
        let list: Vec<String> = endpoints.iter().map(|a| format!("{{address: \"{a}\"}}")).collect();
        self.service_of(name, &list)
    }

    /// With a service at these addresses, with these weights.
    pub fn weighted(self, name: &str, endpoints: &[(SocketAddr, u32)]) -> Config {
        let list: Vec<String> =
            endpoints.iter().map(|(a, w)| format!("{{address: \"{a}\", weight: {w}}}")).collect();
        self.service_of(name, &list)
    }

    fn service_of(self, name: &str, endpoints: &[String]) -> Config {
        let spec = format!("{{app: callee, endpoints: [{}]}}", endpoints.join(", "));
        self.document("Service", name, &spec)
    }

    /// With a policy for every service, or those it names; `spec` is a YAML flow mapping's inside.
    pub fn policy(self, name: &str, spec: &str) -> Config {
        self.document("TrafficPolicy", name, &format!("{{{spec}}}"))
    }

    /// With a document; `spec` is YAML that fits behind `spec: `.
    pub fn document(mut self, kind: &str, name: &str, spec: &str) -> Config {
        self.docs.push(format!(
            "apiVersion: raddle.io/v1\nkind: {kind}\nmetadata: {{name: \"{name}\"}}\nspec: {spec}\n"
        ));
        self
    }

    /// The file's text.
    pub fn yaml(&self) -> String {
        let mut y = format!(
            "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {{name: {}}}\nspec:\n  app: caller\n  workers: {}\n  admin: {}\n",
            self.name, self.workers, self.admin
        );
        for (key, list) in [("inbound", &self.inbound), ("outbound", &self.outbound)] {
            if !list.is_empty() {
                // Writing to a string cannot fail.
                let _ = writeln!(y, "  {key}: [{}]", list.join(", "));
            }
        }
        for e in &self.extra {
            let _ = writeln!(y, "  {e}");
        }
        for d in &self.docs {
            y.push_str("---\n");
            y.push_str(d);
        }
        y
    }
}
