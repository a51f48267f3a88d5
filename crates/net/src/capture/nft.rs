//! Rules as `nft -f` reads them: a table of our own for each family, replaced in one transaction.
use super::options::{Family, PortRange};
use super::program::{Hook, Match, Program, Rule, Table, Verdict};

/// Our table, in each family.
pub const TABLE: &str = "raddle";

/// Takes the table away, whether it is there or not, and without an error.
pub fn absent(family: Family) -> String {
    let family = family.nft();
    format!("add table {family} {TABLE}\ndelete table {family} {TABLE}\n")
}

/// Replaces the table by one that says this.
pub fn replace(program: &Program) -> String {
    let family = program.family.nft();
    let mut out = absent(program.family);
    out.push_str(&format!("table {family} {TABLE} {{\n"));
    for chain in &program.chains {
        // Address translation at its own priority; marks where iptables' mangle table is.
        let (kind, priority) = match (program.table, chain.hook) {
            (Table::Nat, _) => ("nat", -100),
            (Table::Mangle, Hook::Output) => ("route", -150),
            (Table::Mangle, Hook::Prerouting) => ("filter", -150),
        };
        let hook = chain.hook.base().to_ascii_lowercase();
        out.push_str(&format!("  chain {} {{\n", chain.hook.chain()));
        out.push_str(&format!("    type {kind} hook {hook} priority {priority}; policy accept;\n"));
        out.push_str("    meta l4proto != tcp return\n");
        for r in &chain.rules {
            out.push_str(&format!("    {}\n", rule(r, family)));
        }
        out.push_str("  }\n");
    }
    out.push_str("}\n");
    out
}

fn rule(rule: &Rule, family: &str) -> String {
    let mut parts: Vec<String> = rule.when.iter().map(|m| condition(m, family)).collect();
    parts.push(match rule.then {
        Verdict::Leave => "return".to_owned(),
        Verdict::Redirect(port) => format!("counter redirect to :{port}"),
        // nft asks for the protocol in the same rule.
        Verdict::Tproxy(port) => format!("meta l4proto tcp counter tproxy to :{port} accept"),
        Verdict::MarkConnection(mark, mask) => {
            format!("counter ct mark set ct mark & {:#x} | {mark:#x}", !mask)
        }
        Verdict::Mark(mark, mask) => format!("meta mark set meta mark & {:#x} | {mark:#x}", !mask),
    });
    parts.join(" ")
}

fn condition(m: &Match, family: &str) -> String {
    match m {
        Match::ToLoopback => "oifname \"lo\"".to_owned(),
        Match::FromLoopback => "iifname \"lo\"".to_owned(),
        Match::Mark(mark, mask) => format!("meta mark & {mask:#x} == {mark:#x}"),
        Match::ConnMark(mark, mask) => format!("ct mark & {mask:#x} == {mark:#x}"),
        Match::ByOpener => "ct direction original".to_owned(),
        Match::Uid(uid) => format!("meta skuid {uid}"),
        Match::Gid(gid) => format!("meta skgid {gid}"),
        Match::To(block) => format!("{family} daddr {block}"),
        Match::NotToHere => "fib daddr type != local".to_owned(),
        Match::Port(PortRange { first, last }) if first == last => format!("tcp dport {first}"),
        Match::Port(PortRange { first, last }) => format!("tcp dport {first}-{last}"),
        Match::First => "tcp flags & (fin|syn|rst|ack) == syn".to_owned(),
        Match::NotFirst => "tcp flags & (fin|syn|rst|ack) != syn".to_owned(),
    }
}
