//! `raddle explain`: where a request would go and why; what a reject flag means.
mod authorization;
mod limit;
mod render;

use super::flags::{self, FlagArgs};
use super::mesh;
use super::{accepted, reach, understand};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{OutputArgs, Paint, print, print_json};
use crate::{parse, sources};
use clap::{Args, Subcommand};
use raddle_model::LoadOptions;
use raddle_policy::Snapshot;
use raddle_policy::route::{Asked, CALLER_APP, LOAD_TEST};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Explain where a request would go, what a reject flag means, who gets which rule
///
/// Asks the running sidecar, which knows the health of endpoints; or, with --config, works out the same
/// from files, where every endpoint counts as healthy. Nothing is sent and nothing is counted.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    group(clap::ArgGroup::new("target").args(["service", "authority"]).required(true).multiple(true)),
    after_help = "\
Examples:
  raddle explain --service com.shop.OrderService:1.0
  raddle explain --service com.shop.TransferService:1.0 --method query --header userId=1001
  raddle explain --service com.shop.TransferService:1.0 --config examples/
  raddle explain --authority orders.shop --method GET --path '/api/orders?debug=1' --config examples/
  raddle explain flag UH
  raddle explain authorization --caller-app cart --service com.shop.OrderService:1.0 --method refund
  raddle explain rule Route/checkout
  raddle explain sidecar order-1
  raddle explain service com.shop.OrderService:1.0
  raddle explain encryption pay
  raddle explain limit order"
)]
pub(crate) struct ExplainArgs {
    #[command(subcommand)]
    command: Option<ExplainCommand>,
    #[command(flatten)]
    request: RequestArgs,
    /// Admin address of the sidecar to ask
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    admin: SocketAddr,
    /// Explain from these files or directories; no sidecar is asked
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "admin")]
    config: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum ExplainCommand {
    Flag(FlagArgs),
    Authorization(authorization::AuthorizationArgs),
    Rule(mesh::explain::RuleArgs),
    Sidecar(mesh::explain::SidecarArgs),
    Service(mesh::explain::ServiceArgs),
    Encryption(mesh::switch::SwitchArgs),
    Limit(limit::LimitArgs),
}

/// A request that is only imagined.
#[derive(Clone, Debug, Default, Args)]
struct RequestArgs {
    /// Service the request asks for
    #[arg(long)]
    service: Option<String>,
    /// Method the request asks for; HTTP: GET, POST, ...
    #[arg(long)]
    method: Option<String>,
    /// HTTP: path of the request; a query may follow
    #[arg(long, value_name = "/PATH")]
    path: Option<String>,
    /// HTTP: host of the request, which names the service where --service does not
    #[arg(long, value_name = "HOST[:PORT]")]
    authority: Option<String>,
    /// HTTP: a parameter of the query; may be given more than once
    #[arg(long = "query", value_parser = parse::pair, value_name = "NAME=VALUE")]
    query: Vec<(String, String)>,
    /// A header of the request; may be given more than once
    #[arg(long = "header", value_parser = parse::pair, value_name = "NAME=VALUE")]
    headers: Vec<(String, String)>,
    /// App of the caller, as the request says it
    #[arg(long, value_name = "APP")]
    caller_app: Option<String>,
    /// The request carries the load-test mark
    #[arg(long)]
    load_test: bool,
}

impl RequestArgs {
    /// The request, to be explained here.
    fn asked(&self) -> Asked {
        Asked {
            service: self.service.clone().unwrap_or_default(),
            method: self.method.clone(),
            headers: self.all_headers(),
            path: self.path.clone(),
            authority: self.authority.clone(),
            query: self.query.clone(),
            caller_ip: None,
        }
    }

    /// The headers such a request has, those of the other flags included.
    fn all_headers(&self) -> Vec<(String, String)> {
        let mut headers = self.headers.clone();
        let app = self.caller_app.iter().map(|app| (CALLER_APP[1].to_owned(), app.clone()));
        headers.extend(app);
        if self.load_test {
            headers.push((LOAD_TEST.0.to_owned(), LOAD_TEST.1.to_owned()));
        }
        headers
    }

    /// The admin port's path that explains it.
    fn question(&self) -> String {
        format!("/explain?{}", self.query_string())
    }

    /// Whether there is a request to explain.
    fn given(&self) -> bool {
        self.service.is_some() || self.authority.is_some()
    }

    /// Whether something is said of a request at all.
    fn partly(&self) -> bool {
        let named = [&self.service, &self.method, &self.path, &self.authority, &self.caller_app];
        named.iter().any(|n| n.is_some())
            || self.load_test
            || !(self.query.is_empty() && self.headers.is_empty())
    }

    /// The request, as the query of an admin page.
    fn query_string(&self) -> String {
        let headers = self.all_headers();
        let single = [
            ("service", &self.service),
            ("method", &self.method),
            ("path", &self.path),
            ("authority", &self.authority),
        ];
        let mut parts: Vec<String> = single
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", escape(value.as_deref()?))))
            .collect();
        let pair = |kind, name, value| format!("{kind}.{}={}", escape(name), escape(value));
        parts.extend(headers.iter().map(|(name, value)| pair("header", name, value)));
        parts.extend(self.query.iter().map(|(name, value)| pair("query", name, value)));
        parts.join("&")
    }
}

pub(crate) fn run(args: &ExplainArgs) -> Done {
    match &args.command {
        Some(ExplainCommand::Flag(args)) => return flags::run(args),
        Some(ExplainCommand::Authorization(args)) => return authorization::run(args),
        Some(ExplainCommand::Rule(args)) => return mesh::explain::rule(args),
        Some(ExplainCommand::Sidecar(args)) => return mesh::explain::sidecar(args),
        Some(ExplainCommand::Service(args)) => return mesh::explain::service(args),
        Some(ExplainCommand::Encryption(args)) => return mesh::switch::run(args),
        Some(ExplainCommand::Limit(args)) => return limit::run(args),
        None => {}
    }
    let request = &args.request;
    let explained =
        if args.config.is_empty() { live(args.admin, request)? } else { offline(&args.config, request)? };
    if args.output.json() {
        print_json(&explained)?;
    } else {
        let known: render::Explained = serde_json::from_value(explained)
            .map_err(|e| Failure::new(format!("this raddle does not understand the answer: {e}")))?;
        let mut text = render::human(&known, Paint::stdout());
        if !args.config.is_empty() {
            text.push_str("\nFrom files: every endpoint counts as healthy here.\n");
        }
        print(&text)?;
    }
    Ok(Exit::Ok)
}

/// The answer of a running sidecar.
fn live(admin: SocketAddr, request: &RequestArgs) -> Result<serde_json::Value, Failure> {
    let question = request.question();
    let answer = reach(admin, &question)?;
    if answer.status == 404
        && let Ok(Unknown { service, known }) = serde_json::from_str(&answer.body)
    {
        return Err(unknown(&service, &known));
    }
    understand(admin, &accepted(admin, &question, answer)?)
}

/// A sidecar's answer for a service it does not know.
#[derive(serde::Deserialize)]
struct Unknown {
    service: String,
    known: Vec<String>,
}

fn unknown(service: &str, known: &[String]) -> Failure {
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Failure::new(format!(
        "no service is called {service}: such requests fail with NC. Services there are: {known}"
    ))
}

/// The same answer, worked out here.
fn offline(paths: &[PathBuf], request: &RequestArgs) -> Result<serde_json::Value, Failure> {
    let sources = sources::read(paths)?;
    let (resources, _warnings) =
        raddle_model::load(&sources, LoadOptions::rules_only()).map_err(|report| sources::refuse(&report))?;
    let snapshot = Snapshot::compile(resources, None);
    let mut imagined = request.asked();
    let Some(service) = imagined.resolve(&snapshot) else {
        let known: Vec<_> = snapshot.services().map(|s| s.name.to_string()).collect();
        return Err(unknown(&imagined.service, &known));
    };
    serde_json::to_value(service.explain(&imagined)).map_err(|e| Failure::new(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_to_a_sidecar_carries_the_whole_request() {
        let request = RequestArgs {
            service: Some("a.B:1.0".into()),
            method: Some("pay".into()),
            headers: vec![("userId".into(), "1 2".into())],
            load_test: true,
            ..RequestArgs::default()
        };
        assert_eq!(
            request.question(),
            "/explain?service=a.B%3A1.0&method=pay&header.userId=1%202&header.shadowTest=T"
        );
        let http = RequestArgs {
            path: Some("/a?b=c".into()),
            authority: Some("shop:80".into()),
            query: vec![("d".into(), "e&f".into())],
            ..RequestArgs::default()
        };
        assert_eq!(http.question(), "/explain?path=%2Fa%3Fb%3Dc&authority=shop%3A80&query.d=e%26f");
    }
}
