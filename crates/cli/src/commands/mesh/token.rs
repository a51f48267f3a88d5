//! `raddle token`: who may ask the API, and which sidecars may get a certificate.
use super::{FormArgs, ServerArgs, ago, cell, items, text};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::http::client::Request;
use crate::http::escape;
use crate::output::{Paint, print, progress};
use crate::parse;
use crate::table::Table;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// Tokens: create, list, revoke
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle token create --role operate --name ci --out ci.token
  raddle token create --app order --lifetime 1h          # for a sidecar's first certificate
  raddle token list
  raddle token revoke 0123456789abcdef")]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token; its text is shown this once
    Create(CreateArgs),
    /// Show all tokens, without their secrets
    List(ListArgs),
    /// Revoke a token
    Revoke(RevokeArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleWord {
    /// Look.
    Read,
    /// Change rules.
    Operate,
    /// Everything.
    Admin,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// For people who ask the API: what they may
    #[arg(long, value_enum, required_unless_present = "app", conflicts_with = "app")]
    role: Option<RoleWord>,
    /// For a sidecar's first certificate: the app it is of
    #[arg(long)]
    app: Option<String>,
    /// The unit the sidecar is in
    #[arg(long, requires = "app")]
    unit: Option<String>,
    /// The instance the sidecar is
    #[arg(long, requires = "app")]
    instance: Option<String>,
    /// Good for one certificate
    #[arg(long, requires = "app")]
    once: bool,
    /// What it is for, for people
    #[arg(long, default_value = "")]
    name: String,
    /// How long it is good; absent = until it is revoked
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    lifetime: Option<Duration>,
    /// Write its text to this new file, readable by you only, instead of showing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// Its id, as the list shows it
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &TokenArgs) -> Done {
    match &args.command {
        TokenCommand::Create(args) => create(args),
        TokenCommand::List(args) => list(args),
        TokenCommand::Revoke(args) => {
            let path = format!("/v1/tokens/{}", escape(&args.id));
            args.server.connect()?.json(&Request::new("DELETE", path))?;
            print(&format!("{} is revoked\n", args.id))?;
            Ok(Exit::Ok)
        }
    }
}

fn create(args: &CreateArgs) -> Done {
    let server = args.server.connect()?;
    let mut body = json!({"name": args.name});
    match (&args.role, &args.app) {
        (Some(role), _) => {
            body["role"] = json!(match role {
                RoleWord::Read => "read",
                RoleWord::Operate => "operate",
                RoleWord::Admin => "admin",
            });
        }
        (None, app) => {
            body["app"] = json!(app);
            body["unit"] = json!(args.unit);
            body["instance"] = json!(args.instance);
            body["once"] = json!(args.once);
        }
    }
    if let Some(lifetime) = args.lifetime {
        body["lifetimeSeconds"] = json!(lifetime.as_secs().max(1));
    }
    // Opened first: a token that cannot be kept must not be made.
    let file = args.out.as_ref().map(|path| {
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        opened.map(|file| (path, file)).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
    });
    let file = file.transpose()?;
    let made = server.post("/v1/tokens", &body).inspect_err(|_| {
        if let Some((path, _)) = &file {
            // An empty file is left at worst.
            let _ = std::fs::remove_file(path);
        }
    })?;
    let id = text(&made["token"]["id"]);
    if let Some((path, mut file)) = file {
        writeln!(file, "{}", text(&made["text"]))
            .map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
        print(&format!("{id} is in {}\n", path.display()))?;
        return Ok(Exit::Ok);
    }
    args.form.show(&made, |_| format!("{}\n", text(&made["text"])))?;
    if args.form.human() {
        progress(&format!("id {id}; the text is not shown again"));
    }
    Ok(Exit::Ok)
}

fn list(args: &ListArgs) -> Done {
    let all = args.server.connect()?.all("/v1/tokens")?;
    args.form.show(&all, |_| {
        let paint = Paint::stdout();
        let mut table = Table::new(&["id", "name", "for", "age", "ends", "by", "state"]);
        for t in items(&all) {
            let purpose = match (t["role"].as_str(), t["app"].as_str()) {
                (Some(role), _) => role.to_owned(),
                (_, Some(app)) => format!("app {app}"),
                _ => "-".to_owned(),
            };
            let state = if t["revoked"] == true { paint.bad("revoked") } else { String::new() };
            let ends = t["notAfter"].as_u64().map_or("never".into(), until);
            table.row([
                cell(&t["id"]),
                cell(&t["name"]),
                purpose,
                ago(&t["created"]),
                ends,
                cell(&t["by"]),
                state,
            ]);
        }
        table.render(|head| paint.bold(head))
    })?;
    Ok(Exit::Ok)
}

/// How long until a time in milliseconds since 1970.
fn until(at: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    match at.checked_sub(now.as_millis() as u64) {
        None => "over".into(),
        Some(ms) if ms < 3_600_000 => format!("in {}m", ms / 60_000),
        Some(ms) if ms < 86_400_000 => format!("in {}h", ms / 3_600_000),
        Some(ms) => format!("in {}d", ms / 86_400_000),
    }
}
