//! Commands that ask the control plane: its rules, its sidecars, its tokens.
pub(crate) mod apply;
pub(crate) mod ca;
pub(crate) mod edit;
pub(crate) mod encryption;
pub(crate) mod explain;
mod force;
pub(crate) mod get;
mod issue;
pub(crate) mod log;
pub(crate) mod revisions;
pub(crate) mod rollout;
pub(crate) mod status;
pub(crate) mod switch;
pub(crate) mod token;
mod yaml;

use crate::exit::Failure;
use crate::http::client::{Client, Request};
use crate::http::{Answer, escape};
use crate::output::{print, print_json};
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// How long the control plane may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_SERVER: &str = "http://127.0.0.1:7070";

/// Which control plane, and how it is asked.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Control plane")]
pub(crate) struct ServerArgs {
    /// Its URL [env: RADDLE_SERVER] [default: http://127.0.0.1:7070]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// File with the token [env: RADDLE_TOKEN_FILE; or RADDLE_TOKEN with the token itself]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificates of the authorities its own may come from, PEM [env: RADDLE_CA_FILE]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people.
    #[default]
    Human,
    /// For people with wide screens.
    Wide,
    /// For programs.
    Json,
    /// For programs, and for files.
    Yaml,
}

/// `-o`.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct FormArgs {
    /// Form of the output
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) form: Form,
}

impl FormArgs {
    /// Whether people read it.
    pub(crate) fn human(self) -> bool {
        matches!(self.form, Form::Human | Form::Wide)
    }

    /// Prints a value: as people read it, or as it is.
    pub(crate) fn show(self, value: &Value, human: impl FnOnce(bool) -> String) -> Result<(), Failure> {
        match self.form {
            Form::Human => print(&human(false)),
            Form::Wide => print(&human(true)),
            Form::Json => print_json(value),
            Form::Yaml => print(&yaml::render(value)),
        }
    }
}

impl ServerArgs {
    /// Whether the user said which control plane is meant.
    pub(crate) fn is_named(&self) -> bool {
        self.server.is_some() || std::env::var_os("RADDLE_SERVER").is_some_and(|v| !v.is_empty())
    }

    /// The control plane these name.
    ///
    /// # Errors
    /// What they say cannot be used.
    pub(crate) fn connect(&self) -> Result<Server, Failure> {
        let env = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let url =
            self.server.clone().or_else(|| env("RADDLE_SERVER")).unwrap_or_else(|| DEFAULT_SERVER.into());
        let file = self.token_file.clone().or_else(|| env("RADDLE_TOKEN_FILE").map(PathBuf::from));
        let token = match file {
            Some(file) => {
                let text = std::fs::read_to_string(&file)
                    .map_err(|e| Failure::new(format!("the token's file {}: {e}", file.display())))?;
                Some(text.trim().to_owned())
            }
            None => env("RADDLE_TOKEN").map(|t| t.trim().to_owned()),
        };
        let ca = self.ca_file.clone().or_else(|| env("RADDLE_CA_FILE").map(PathBuf::from));
        let client = Client::new(&url, token, ca.as_deref()).map_err(Failure::usage)?;
        Ok(Server { client })
    }
}

/// A control plane.
#[derive(Debug)]
pub(crate) struct Server {
    client: Client,
}

impl Server {
    /// GETs what is at a path.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.json(&Request::new("GET", path))
    }

    /// POSTs a JSON body.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let mut request = Request::new("POST", path);
        request.body = Some(("application/json", body.to_string().into_bytes()));
        self.json(&request)
    }

    /// Sends a request whose answer is JSON.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub(crate) fn json(&self, request: &Request) -> Result<Value, Failure> {
        let answer = self.raw(request)?;
        if answer.status >= 300 {
            return Err(self.refused(&answer));
        }
        serde_json::from_str(&answer.body).map_err(|e| {
            Failure::new(format!("{}: this raddle does not understand the answer: {e}", self.client))
        })
    }

    /// Sends a request; whatever is answered.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(crate) fn raw(&self, request: &Request) -> Result<Answer, Failure> {
        self.client.send(request, TIMEOUT).map_err(|e| self.unreached(&e))
    }

    /// All items of a list, page by page.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub(crate) fn all(&self, path: &str) -> Result<Value, Failure> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut items = Vec::new();
        let mut after = String::new();
        loop {
            let mut page = self.get(&format!("{path}{joint}limit=1000{after}"))?;
            if let Some(more) = page["items"].as_array_mut() {
                items.append(more);
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={}", escape(next)),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    /// Follows a stream of server-sent events: name and data of each, until `told` says `false`. Reconnects where it
    /// was when it breaks.
    ///
    /// # Errors
    /// It cannot be reached, or refuses.
    pub(crate) fn follow(
        &self,
        path: &str,
        mut told: impl FnMut(&str, &Value) -> bool,
    ) -> Result<(), Failure> {
        let (mut last, mut name, mut data) = (String::new(), String::new(), String::new());
        let mut done = false;
        let mut failures = 0;
        loop {
            let mut request = Request::new("GET", path);
            if !last.is_empty() {
                request.headers.push(("Last-Event-ID", last.clone()));
            }
            let ended = self.client.follow(&request, |line| {
                failures = 0;
                if let Some(id) = line.strip_prefix("id: ") {
                    id.clone_into(&mut last);
                } else if let Some(text) = line.strip_prefix("event: ") {
                    text.clone_into(&mut name);
                } else if let Some(text) = line.strip_prefix("data: ") {
                    text.clone_into(&mut data);
                } else if line.is_empty() && !name.is_empty() {
                    let value = serde_json::from_str(&data).unwrap_or(Value::Null);
                    done = !told(&name, &value);
                    name.clear();
                }
                !done
            });
            match ended {
                _ if done => return Ok(()),
                Ok(Some(answer)) if answer.status < 500 => return Err(self.refused(&answer)),
                Err(e) if failures >= 30 => return Err(self.unreached(&e)),
                // A control plane that restarts is back in a moment.
                Err(e) if failures == 0 && last.is_empty() => return Err(self.unreached(&e)),
                Ok(_) | Err(_) => failures += 1,
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn unreached(&self, e: &crate::http::Error) -> Failure {
        Failure::unreachable(format!(
            "cannot reach the control plane at {}: {e}\n\
             Is one running (raddle control)? Name another with --server or RADDLE_SERVER.",
            self.client
        ))
    }

    /// A refusal as a sentence, its mistakes beneath.
    fn refused(&self, answer: &Answer) -> Failure {
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let error = &body["error"];
        let mut text = match error["message"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("{} answered {}: {}", self.client, answer.status, answer.body.trim()),
        };
        if answer.status == 401 {
            text.push_str("\nGive a token with --token-file, RADDLE_TOKEN_FILE or RADDLE_TOKEN.");
        }
        for line in mistakes(error) {
            // What the message already says is not repeated.
            if !text.contains(&line) {
                text.push('\n');
                text.push_str(&line);
            }
        }
        match answer.status {
            422 => Failure::mistakes(text),
            502..=504 => Failure::unreachable(text),
            _ => Failure::new(text),
        }
    }
}

/// The mistakes of an error (or warnings), one a line.
pub(crate) fn mistakes(error: &Value) -> Vec<String> {
    let all = error["mistakes"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    all.iter().map(mistake).collect()
}

/// `FILE:LINE:COLUMN: PATH: PROBLEM; REMEDY`.
pub(crate) fn mistake(m: &Value) -> String {
    let number = |name: &str| m[name].as_u64().unwrap_or(0) as u32;
    raddle_model::Mistake {
        file: text(&m["file"]),
        line: number("line"),
        column: number("column"),
        path: text(&m["path"]),
        problem: text(&m["problem"]),
        remedy: text(&m["remedy"]),
    }
    .to_string()
}

/// A value in a table's cell: nothing is `-`.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(s) if s.is_empty() => "-".into(),
        Value::String(s) => s.clone(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// A string; anything else is empty.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

/// The items of a list.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// How long ago a time in milliseconds since 1970 was: `5s`, `3m`, `2h`, `4d`.
pub(crate) fn ago(at: &Value) -> String {
    let Some(at) = at.as_u64().filter(|at| *at > 0) else { return "-".into() };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let s = (now.as_millis() as u64).saturating_sub(at) / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m", s / 60),
        3600..86400 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86400),
    }
}

/// `KIND/NAME` of the command line, the kind in any case, as the API's path.
pub(crate) fn rule_path(id: &str) -> Result<String, Failure> {
    let wrong = || Failure::usage(format!("{id:?} is no rule; give KIND/NAME, such as Route/checkout"));
    let (kind, name) = id.split_once('/').ok_or_else(wrong)?;
    if name.is_empty() {
        return Err(wrong());
    }
    let kind = kind_named(kind).ok_or_else(wrong)?;
    Ok(format!("/v1/rules/{kind}/{}", escape(name)))
}

/// Short names of kinds.
const SHORT: [(&str, &str); 6] = [
    ("policy", "TrafficPolicy"),
    ("encryption", "LinkEncryption"),
    ("auth", "Authorization"),
    ("adaptive", "AdaptiveLimit"),
    ("limit", "RateLimit"),
    ("breaker", "CircuitBreaker"),
];

/// A rule's kind, whatever its case and whether it is in plural; or by its short name.
pub(crate) fn kind_named(word: &str) -> Option<&'static str> {
    let all = raddle_control::api::kinds();
    let is = |name: &str| word.eq_ignore_ascii_case(name) || word.eq_ignore_ascii_case(&plural(name));
    let meant = SHORT.iter().find(|(short, _)| is(short)).map(|(_, kind)| *kind);
    all.iter().copied().find(|k| is(k) || meant == Some(*k))
}

fn plural(kind: &str) -> String {
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_named_by_kind_and_name_in_any_case() {
        assert_eq!(rule_path("route/a b").unwrap(), "/v1/rules/Route/a%20b");
        assert_eq!(kind_named("trafficpolicies"), Some("TrafficPolicy"));
        assert_eq!(kind_named("linkencryptions"), Some("LinkEncryption"));
        assert_eq!(rule_path("encryption/pay").unwrap(), "/v1/rules/LinkEncryption/pay");
        assert_eq!(rule_path("AUTHORIZATION/pay").unwrap(), "/v1/rules/Authorization/pay");
        for bad in ["route", "route/", "nothing/a"] {
            assert!(rule_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cells_say_nothing_as_a_dash() {
        assert_eq!(cell(&serde_json::json!(["a", "b"])), "a,b");
        assert_eq!((cell(&Value::Null), cell(&Value::Bool(true))), ("-".into(), "yes".into()));
    }
}
