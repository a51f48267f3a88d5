//! What is installed, read from what the tools print.
use super::iptables::{MADE, jump};
use super::options::{Backend, Family, MARK_MASK, RULE_PREFERENCE};
use super::program::{Hook, Table};
use crate::original::Mode;

/// What was found on this machine (in this network namespace).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Tables of iptables that exist, for each of its flavours.
    pub tables: Vec<TableState>,
    /// Our tables of nft, as `nft list table` prints them.
    pub nft: Vec<(Family, String)>,
    /// Rules of `ip rule` that are ours.
    pub routing: Vec<Routing>,
    /// Whether `nft` can be called.
    pub has_nft: bool,
}

/// One table of iptables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableState {
    /// By which tool it was seen.
    pub backend: Backend,
    /// Whether it is one of nf_tables, which come and go; those of x_tables stay.
    pub volatile: bool,
    /// Its family.
    pub family: Family,
    /// Which.
    pub table: Table,
    /// The base chains that exist, if that can be known.
    pub bases: Option<Vec<String>>,
    /// Our chains.
    pub own: Vec<String>,
    /// For each hook, how many rules lead to our chain.
    pub jumps: Vec<(Hook, usize)>,
    /// Base chains with rules or a policy of others.
    pub used: Vec<String>,
    /// Whether there are chains of others.
    pub others: bool,
    /// The lines about us, with counters.
    pub lines: Vec<String>,
}

impl TableState {
    /// Whether anything of ours is in it.
    pub fn ours(&self) -> bool {
        !self.own.is_empty() || self.jumps.iter().any(|(_, n)| *n > 0)
    }
}

/// A rule and a route by which TPROXY's outbound connections come round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// The family.
    pub family: Family,
    /// The mark it asks for.
    pub mark: u32,
    /// The table it leads to, as `ip` names it.
    pub table: String,
    /// Whether that table has our route.
    pub route: bool,
}

/// The tables in what `iptables-save -c` prints; `bases` is what `nft list chains` prints, for nf_tables.
pub fn read_save(backend: Backend, family: Family, save: &str, bases: Option<&str>) -> Vec<TableState> {
    let mut tables: Vec<TableState> = Vec::new();
    let mut open = false;
    for line in save.lines() {
        if let Some(name) = line.strip_prefix('*') {
            let table = Table::ALL.into_iter().find(|t| t.name() == name);
            open = table.is_some();
            if let Some(table) = table {
                let bases = bases.map(|text| base_chains(text, family, table));
                tables.push(TableState {
                    backend,
                    volatile: false,
                    family,
                    table,
                    bases,
                    own: Vec::new(),
                    jumps: Vec::new(),
                    used: Vec::new(),
                    others: false,
                    lines: Vec::new(),
                });
            }
        } else if open && let Some(t) = tables.last_mut() {
            read_line(t, line);
        }
    }
    tables
}

fn read_line(t: &mut TableState, line: &str) {
    if let Some(chain) = line.strip_prefix(':') {
        let mut words = chain.split_whitespace();
        let (name, policy) = (words.next().unwrap_or(""), words.next().unwrap_or("-"));
        match policy {
            "-" if name.starts_with("RADDLE_") => t.own.push(name.to_owned()),
            "-" => t.others = true,
            "ACCEPT" => {}
            _ => t.used.push(name.to_owned()),
        }
        return;
    }
    // `[12:3456] -A CHAIN …` with counters, `-A CHAIN …` without.
    let bare = line.split_once("] ").filter(|_| line.starts_with('[')).map_or(line, |(_, rest)| rest);
    let Some(rest) = bare.strip_prefix("-A ") else { return };
    let Some((chain, what)) = rest.split_once(' ') else { return };
    let hook = Hook::ALL.into_iter().find(|h| h.base() == chain && jump(*h) == what);
    if let Some(hook) = hook {
        match t.jumps.iter_mut().find(|(h, _)| *h == hook) {
            Some((_, n)) => *n += 1,
            None => t.jumps.push((hook, 1)),
        }
        t.lines.push(line.to_owned());
    } else if chain.starts_with("RADDLE_") {
        t.lines.push(line.to_owned());
    } else if !t.used.iter().any(|u| u == chain) {
        t.used.push(chain.to_owned());
    }
}

/// The chains of one table in what `nft list chains` prints.
fn base_chains(text: &str, family: Family, table: Table) -> Vec<String> {
    let wanted = format!("table {} {} {{", family.nft(), table.name());
    let inside = text.lines().skip_while(|l| l.trim() != wanted).skip(1).take_while(|l| !l.starts_with('}'));
    inside
        .filter_map(|l| l.trim().strip_prefix("chain ")?.split_whitespace().next().map(str::to_owned))
        .filter(|c| !c.starts_with(MADE))
        .collect()
}

/// Our rules in what `ip rule show` prints. Routes are looked for by the caller.
pub fn read_ip_rules(family: Family, text: &str) -> Vec<Routing> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((preference, rest)) = line.split_once(':') else { continue };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let after = |name| words.iter().position(|w| *w == name).and_then(|i| words.get(i + 1)).copied();
        if preference.trim() != RULE_PREFERENCE.to_string() {
            continue;
        }
        let (Some(mark), Some(table)) = (after("fwmark"), after("lookup")) else { continue };
        let Some((mark, mask)) = mark.split_once('/') else { continue };
        let hex = |t: &str| u32::from_str_radix(t.trim_start_matches("0x"), 16).ok();
        if let (Some(mark), Some(MARK_MASK)) = (hex(mark), hex(mask)) {
            found.push(Routing { family, mark, table: table.to_owned(), route: false });
        }
    }
    found
}

/// One installed capture: a family by a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The tool.
    pub backend: Backend,
    /// The family.
    pub family: Family,
    /// How.
    pub mode: Mode,
    /// Where outbound connections go, if they are captured.
    pub outbound_port: Option<u16>,
    /// Where inbound connections go, if they are captured.
    pub inbound_port: Option<u16>,
    /// Outbound connections captured since the rules were installed.
    pub outbound: u64,
    /// Inbound connections captured since the rules were installed.
    pub inbound: u64,
    /// The rules, as the tool prints them.
    pub rules: Vec<String>,
}

/// What is installed, in words.
pub fn summary(state: &State) -> Vec<Found> {
    let mut found = Vec::new();
    for (family, text) in &state.nft {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mode = if text.contains("tproxy to :") || text.contains("type route hook") {
            Mode::Tproxy
        } else {
            Mode::Redirect
        };
        found.push(read_rules(Backend::Nft, *family, mode, lines));
    }
    for t in state.tables.iter().filter(|t| t.ours()) {
        let mode = match t.table {
            Table::Nat => Mode::Redirect,
            Table::Mangle => Mode::Tproxy,
        };
        found.push(read_rules(t.backend, t.family, mode, t.lines.clone()));
    }
    found
}

fn read_rules(backend: Backend, family: Family, mode: Mode, rules: Vec<String>) -> Found {
    let mut found = Found {
        backend,
        family,
        mode,
        outbound_port: None,
        inbound_port: None,
        outbound: 0,
        inbound: 0,
        rules,
    };
    let mut hook = Hook::Output;
    for line in &found.rules {
        if let Some(h) = Hook::ALL.into_iter().find(|h| line.contains(h.chain())) {
            hook = h;
        }
        let number = |after: &str| -> Option<u64> {
            let rest = &line[line.find(after)? + after.len()..];
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..digits].parse().ok()
        };
        let port = ["--to-ports ", "--on-port ", "redirect to :", "tproxy to :"]
            .into_iter()
            .find_map(number)
            .and_then(|p| u16::try_from(p).ok());
        // TPROXY takes outbound connections where they come round, by the loopback device.
        let round = line.contains("-i lo") || line.contains("iifname \"lo\"");
        if let Some(port) = port {
            let outbound = hook == Hook::Output || round;
            *(if outbound { &mut found.outbound_port } else { &mut found.inbound_port }) = Some(port);
        }
        let counts = match mode {
            Mode::Redirect => port.is_some(),
            Mode::Tproxy => line.contains("CONNMARK --set-xmark") || line.contains("ct mark set"),
        };
        if counts {
            let n = number("counter packets ").or_else(|| number("[")).unwrap_or(0);
            *(if hook == Hook::Output { &mut found.outbound } else { &mut found.inbound }) += n;
        }
    }
    found
}
