//! What `raddle capture` prints.
use crate::output::Paint;
use crate::table::Table;
use raddle_net::capture::state::Routing;
use raddle_net::capture::{Backend, Family, Found, Options, PortRange, Side};
use serde_json::{Value, json};

/// After an install.
pub(super) fn installed(options: &Options, backend: Backend, notes: &[String], paint: Paint) -> String {
    let families = match (options.families.v4, options.families.v6) {
        (true, true) => "IPv4 and IPv6",
        (false, true) => "IPv6",
        _ => "IPv4",
    };
    let mode = options.mode.name();
    let mut out = format!("{} by {mode}, with {}, {families}\n", paint.good("capturing"), backend.name());
    let mut table = Table::new(&["", "to the sidecar's port", "destination ports"]);
    let sides =
        [("what this machine calls", &options.outbound), ("what calls this machine", &options.inbound)];
    for (name, side) in sides {
        table.row(match side {
            Some(side) => [name.to_owned(), side.port.to_string(), ports(side)],
            None => [name.to_owned(), "not captured".to_owned(), String::new()],
        });
    }
    out.push_str(&table.render(|head| paint.dim(head)));
    let users: Vec<String> = options.exclude_uids.iter().map(|u| format!("user {u}")).collect();
    let groups = options.exclude_gids.iter().map(|g| format!("group {g}"));
    let blocks = options.exclude_cidrs.iter().map(|c| format!("to {c}"));
    let left: Vec<String> = users.into_iter().chain(groups).chain(blocks).collect();
    out.push_str(&format!("  left alone: {}, and what stays on this machine\n", left.join(", ")));
    for note in notes {
        out.push_str(&format!("  {} {note}\n", paint.warn("note:")));
    }
    out.push_str("See it: raddle capture show. Undo it: raddle capture remove.\n");
    out
}

fn ports(side: &Side) -> String {
    let list = |ports: &[PortRange]| -> String {
        let one = |p: &PortRange| match p.first == p.last {
            true => p.first.to_string(),
            false => format!("{}-{}", p.first, p.last),
        };
        ports.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let included = if side.include.is_empty() { "all".to_owned() } else { list(&side.include) };
    if side.exclude.is_empty() { included } else { format!("{included} but {}", list(&side.exclude)) }
}

/// What is installed, for people.
pub(super) fn human(found: &[Found], routing: &[Routing], rules: bool, paint: Paint) -> String {
    if found.is_empty() && routing.is_empty() {
        return "nothing is captured here: raddle capture install --help\n".to_owned();
    }
    let mut table =
        Table::new(&["family", "mode", "tool", ">outbound to", ">captured", ">inbound to", ">captured"]);
    let port = |p: Option<u16>| p.map_or_else(|| "-".to_owned(), |p| p.to_string());
    for f in found {
        table.row([
            family(f.family).to_owned(),
            f.mode.name().to_owned(),
            f.backend.name().to_owned(),
            port(f.outbound_port),
            f.outbound.to_string(),
            port(f.inbound_port),
            f.inbound.to_string(),
        ]);
    }
    let mut out = table.render(|head| paint.dim(head));
    for r in routing {
        let broken = if r.route { "" } else { ", whose route is missing: run install again" };
        let text =
            format!("{}: packets marked {:#x} go by table {}{broken}", family(r.family), r.mark, r.table);
        out.push_str(&format!("  {text}\n"));
    }
    if rules {
        for f in found {
            out.push_str(&format!(
                "\n{}\n",
                paint.bold(format!("{}, {}", f.backend.name(), family(f.family)))
            ));
            out.extend(f.rules.iter().map(|l| format!("  {l}\n")));
        }
    }
    out
}

/// What is installed, for programs.
pub(super) fn machine(found: &[Found], routing: &[Routing]) -> Value {
    let captures: Vec<Value> = found
        .iter()
        .map(|f| {
            json!({
                "family": family(f.family), "mode": f.mode.name(), "backend": f.backend.name(),
                "outbound": {"port": f.outbound_port, "connections": f.outbound},
                "inbound": {"port": f.inbound_port, "connections": f.inbound},
                "rules": f.rules,
            })
        })
        .collect();
    let routing: Vec<Value> = routing
        .iter()
        .map(|r| json!({"family": family(r.family), "mark": r.mark, "table": r.table, "route": r.route}))
        .collect();
    json!({"installed": !captures.is_empty(), "captures": captures, "routing": routing})
}

/// After a removal.
pub(super) fn removed(anything: bool, notes: &[String]) -> String {
    let mut out = String::from(if anything { "removed\n" } else { "nothing was installed\n" });
    out.extend(notes.iter().map(|note| format!("note: {note}\n")));
    out
}

const fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_net::capture::Families;
    use raddle_net::original::Mode;

    fn found() -> Found {
        Found {
            backend: Backend::Nft,
            family: Family::V4,
            mode: Mode::Redirect,
            outbound_port: Some(15001),
            inbound_port: None,
            outbound: 12,
            inbound: 0,
            rules: vec!["tcp dport 80 redirect to :15001".to_owned()],
        }
    }

    #[test]
    fn an_install_says_what_is_captured_and_how_to_undo_it() {
        let side = Side { port: 15001, include: Vec::new(), exclude: vec![PortRange::one(22)] };
        let options = Options {
            mode: Mode::Redirect,
            families: Families::BOTH,
            outbound: Some(side),
            inbound: None,
            exclude_uids: vec![1337],
            exclude_gids: Vec::new(),
            exclude_cidrs: Vec::new(),
            mark: 1,
            table: 1,
        };
        let text = installed(&options, Backend::Nft, &[], Paint::none());
        assert!(text.contains("redirect, with nft, IPv4 and IPv6") && text.contains("all but 22"), "{text}");
        assert!(text.contains("user 1337") && text.contains("raddle capture remove"), "{text}");
    }

    #[test]
    fn programs_get_counts_and_ports() {
        let value = machine(&[found()], &[]);
        assert_eq!(value["captures"][0]["outbound"]["connections"], 12);
        assert_eq!(value["captures"][0]["inbound"]["port"], Value::Null);
        assert_eq!(machine(&[], &[])["installed"], false);
    }

    #[test]
    fn people_see_rules_only_if_they_ask() {
        assert!(!human(&[found()], &[], false, Paint::none()).contains("dport 80"));
        assert!(human(&[found()], &[], true, Paint::none()).contains("dport 80"));
        assert!(human(&[], &[], false, Paint::none()).contains("install --help"));
    }
}
