//! The files of the story's sidecars, and its rules.
use super::wire::MARKER;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// The service that pay publishes and shop calls.
pub(super) const SERVICE: &str = "com.shop.PayService:1.0";
/// The rule, as the command line names it.
pub(super) const RULE: &str = "LinkEncryption/pay";
/// Shares of the instances that the rollout goes through, percent.
pub(super) const STAGES: [u32; 3] = [34, 67, 100];

/// The header nobody should read.
pub(super) fn secret() -> Vec<(String, String)> {
    let (name, value) = MARKER.split_once('=').unwrap_or(("card", MARKER));
    // Both in one header, so that they stand together on the wire.
    vec![("memo".to_owned(), format!("{name}={value}"))]
}

/// Where sidecars join, and what they prove themselves with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining<'a> {
    pub(super) control: SocketAddr,
    pub(super) roots: &'a Path,
    pub(super) token: &'a Path,
}

impl Joining<'_> {
    fn field(&self) -> String {
        let (roots, token) = (self.roots.display(), self.token.display());
        format!(
            "  controlPlane: {{addresses: [\"https://{}\"], rootsFile: \"{roots}\", tokenFile: \"{token}\"}}\n",
            self.control
        )
    }
}

/// The file of a sidecar beside an instance of pay. Callers are told the relay's address, at the same port: for another
/// one, at which the sidecar takes nothing, it would not say that it takes TLS.
pub(super) fn pay(
    name: &str,
    [listen, forward, admin]: [SocketAddr; 3],
    relay: SocketAddr,
    joining: Joining<'_>,
) -> String {
    let (joins, port, address) = (joining.field(), listen.port(), relay.ip());
    format!(
        "apiVersion: raddle.io/v1
kind: Sidecar
metadata: {{name: {name}}}
spec:
  app: pay
  unit: u1
  workers: 1
  admin: {admin}
{joins}  inbound:
  - {{listen: \"{listen}\", forward: \"{forward}\"}}
  publish:
    address: {address}
    services:
    - {{name: \"{SERVICE}\", protocol: bolt, port: {port}}}
  drain: {{timeout: 2s}}
"
    )
}

/// The file of a sidecar beside an instance of shop.
pub(super) fn shop(name: &str, listen: SocketAddr, admin: SocketAddr, joining: Joining<'_>) -> String {
    let joins = joining.field();
    format!(
        "apiVersion: raddle.io/v1
kind: Sidecar
metadata: {{name: {name}}}
spec:
  app: shop
  unit: u1
  workers: 1
  admin: {admin}
{joins}  outbound:
  - {{listen: \"{listen}\"}}
  drain: {{timeout: 2s}}
"
    )
}

/// How pay is to be called: every instance gets its turn.
pub(super) const POLICY: &str = "apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {name: pay}
spec:
  to: {app: pay}
  balancer: roundRobin
  timeouts: {connect: 2s, request: 5s}
";

/// Links to pay are encrypted by all who can, instance by instance.
pub(super) fn permissive(hold: Duration) -> String {
    let hold = hold.as_millis();
    let stages: Vec<String> = STAGES.iter().map(|p| format!("{{percent: {p}, hold: {hold}ms}}")).collect();
    format!(
        "apiVersion: raddle.io/v1
kind: LinkEncryption
metadata: {{name: pay}}
spec:
  scope: {{apps: [pay]}}
  mode: permissive
  rollout:
    stages: [{}]
    guard: {{errorRate: 0.01, minRequests: 1}}
",
        stages.join(", ")
    )
}

/// Plaintext is refused, once nobody has come in plaintext for `quiet`.
pub(super) fn strict(quiet: Duration) -> String {
    format!(
        "apiVersion: raddle.io/v1
kind: LinkEncryption
metadata: {{name: pay}}
spec:
  scope: {{apps: [pay]}}
  mode: strict
  quiet: {}ms
  deadline: 5s
",
        quiet.as_millis()
    )
}

/// Nobody is asked to encrypt.
pub(super) fn off() -> String {
    "apiVersion: raddle.io/v1
kind: LinkEncryption
metadata: {name: pay}
spec:
  scope: {apps: [pay]}
  mode: disable
"
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_model::{LoadOptions, Source, load};

    #[test]
    fn every_file_the_story_writes_has_no_mistakes() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let joining = Joining { control: at(9), roots: Path::new("roots.pem"), token: Path::new("a.token") };
        let files =
            [pay("pay-1", [at(1), at(2), at(3)], at(1), joining), shop("shop-1", at(1), at(2), joining)];
        let second = Duration::from_secs(1);
        let rules = [POLICY.to_owned(), permissive(second), strict(second), off()];
        let all = files.map(|text| (text, LoadOptions::default())).into_iter();
        for (text, options) in all.chain(rules.map(|text| (text, LoadOptions::rules_only()))) {
            let sources = [Source { name: "demo.yaml".into(), text }];
            load(&sources, options).unwrap_or_else(|r| panic!("{r}"));
        }
    }
}
