//! Rules as `iptables-restore` reads and `iptables-save` writes them.
use super::options::{MARK_MASK, PortRange};
use super::program::{Chain, Hook, Match, Rule, Table, Verdict};

/// Marks, as an empty chain, that a table or a base chain was not there before.
pub const MADE: &str = "RADDLE_MADE_";
/// [`MADE`] of a table.
pub const MADE_TABLE: &str = "RADDLE_MADE_TABLE";

/// The rule of a base chain that leads to ours.
pub fn jump(hook: Hook) -> String {
    format!("-p tcp -j {}", hook.chain())
}

/// Lines that declare a chain, which empties it, and fill it.
pub fn chain(chain: &Chain) -> (String, Vec<String>) {
    let name = chain.hook.chain();
    (format!(":{name} - [0:0]"), chain.rules.iter().map(|r| format!("-A {name}{}", rule(r))).collect())
}

/// A table's lines, as one transaction.
pub fn section(table: Table, lines: &[String]) -> String {
    format!("*{}\n{}\nCOMMIT\n", table.name(), lines.join("\n"))
}

fn rule(rule: &Rule) -> String {
    let mut out = String::new();
    let tcp = rule.when.iter().any(|m| matches!(m, Match::Port(_) | Match::First | Match::NotFirst))
        || matches!(rule.then, Verdict::Redirect(_) | Verdict::Tproxy(_));
    if tcp {
        out.push_str(" -p tcp");
    }
    for m in &rule.when {
        out.push_str(&condition(m));
    }
    out.push_str(&match rule.then {
        Verdict::Leave => " -j RETURN".to_owned(),
        Verdict::Redirect(port) => format!(" -j REDIRECT --to-ports {port}"),
        Verdict::Tproxy(port) => format!(" -j TPROXY --on-port {port}"),
        Verdict::MarkConnection(mark, mask) => format!(" -j CONNMARK --set-xmark {mark:#x}/{mask:#x}"),
        Verdict::Mark(mark, mask) => format!(" -j MARK --set-xmark {mark:#x}/{mask:#x}"),
    });
    out
}

fn condition(m: &Match) -> String {
    const FLAGS: &str = "--tcp-flags FIN,SYN,RST,ACK SYN";
    match m {
        Match::ToLoopback => " -o lo".to_owned(),
        Match::FromLoopback => " -i lo".to_owned(),
        Match::Mark(mark, mask) => format!(" -m mark --mark {mark:#x}/{mask:#x}"),
        Match::ConnMark(mark, mask) => format!(" -m connmark --mark {mark:#x}/{mask:#x}"),
        Match::ByOpener => " -m conntrack --ctdir ORIGINAL".to_owned(),
        Match::Uid(uid) => format!(" -m owner --uid-owner {uid}"),
        Match::Gid(gid) => format!(" -m owner --gid-owner {gid}"),
        Match::To(block) => format!(" -d {block}"),
        Match::NotToHere => " -m addrtype ! --dst-type LOCAL".to_owned(),
        Match::Port(PortRange { first, last }) if first == last => format!(" --dport {first}"),
        Match::Port(PortRange { first, last }) => format!(" --dport {first}:{last}"),
        Match::First => format!(" {FLAGS}"),
        Match::NotFirst => format!(" ! {FLAGS}"),
    }
}

/// The mark as `ip rule` writes it.
pub fn fwmark(mark: u32) -> String {
    format!("{mark:#x}/{MARK_MASK:#x}")
}
