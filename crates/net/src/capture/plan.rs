//! From what is wanted and what is there to the commands that lead from one to the other.
//!
//! What is new comes before what is old goes, so that at no moment nothing is captured; each tool's part is
//! one transaction.
use super::iptables::{self, MADE, MADE_TABLE, fwmark, jump, section};
use super::nft;
use super::options::{Backend, Family, Options, RULE_PREFERENCE};
use super::program::{Hook, program};
use super::state::{Routing, State, TableState};
use crate::original::Mode;
use std::fmt;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Run a program, with this as its standard input.
    Run {
        /// The program.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// Its standard input; None is none.
        input: Option<String>,
    },
    /// Tell the user.
    Note(String),
}

impl Step {
    fn run(program: impl Into<String>, args: &str, input: Option<String>) -> Step {
        Step::Run {
            program: program.into(),
            args: args.split_whitespace().map(str::to_owned).collect(),
            input,
        }
    }
}

/// As a shell would be told.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Run { program, args, input } => {
                write!(f, "{program} {}", args.join(" "))?;
                match input {
                    Some(text) => writeln!(f, " <<'EOF'\n{text}EOF"),
                    None => writeln!(f),
                }
            }
            Step::Note(text) => writeln!(f, "# {text}"),
        }
    }
}

/// The commands that leave exactly what `options` say, by `backend`. `volatile` is whether the tables of
/// `backend` are those of nf_tables (see [`TableState::volatile`]).
pub fn install(options: &Options, backend: Backend, volatile: bool, state: &State) -> Vec<Step> {
    let mut steps = routing_in(options, state);
    if backend == Backend::Nft {
        let mut script = String::new();
        for family in Family::ALL {
            if options.families.has(family) {
                script.push_str(&nft::replace(&program(options, family)));
            } else if state.nft.iter().any(|(f, _)| *f == family) {
                script.push_str(&nft::absent(family));
            }
        }
        steps.push(Step::run("nft", "-f -", Some(script)));
    } else {
        for family in Family::ALL.into_iter().filter(|f| options.families.has(*f)) {
            steps.push(restore(backend, family, fill(options, family, backend, volatile, state)));
        }
        steps.extend(without_nft(state));
    }
    for t in state.tables.iter().filter(|t| t.ours()) {
        let wanted = t.backend == backend
            && options.families.has(t.family)
            && program(options, t.family).table == t.table;
        if !wanted {
            steps.extend(clear(t, state.has_nft));
        }
    }
    steps.extend(routing_out(state, Some(options)));
    steps
}

/// The commands that leave what was there before the first install.
pub fn remove(state: &State) -> Vec<Step> {
    let mut steps = without_nft(state);
    for t in state.tables.iter().filter(|t| t.ours()) {
        steps.extend(clear(t, state.has_nft));
    }
    steps.extend(routing_out(state, None));
    steps
}

/// Takes our tables of nft away.
fn without_nft(state: &State) -> Vec<Step> {
    let script: String = state.nft.iter().map(|(f, _)| nft::absent(*f)).collect();
    if script.is_empty() { Vec::new() } else { vec![Step::run("nft", "-f -", Some(script))] }
}

fn restore(backend: Backend, family: Family, text: String) -> Step {
    // -w: x_tables has one lock for all; others may hold it for a moment.
    Step::run(backend.program(family, "restore"), "-w 5 --noflush", Some(text))
}

/// The transaction that puts our chains into a table of iptables.
fn fill(options: &Options, family: Family, backend: Backend, volatile: bool, state: &State) -> String {
    let program = program(options, family);
    let there =
        state.tables.iter().find(|t| t.backend == backend && t.family == family && t.table == program.table);
    let mut lines = Vec::new();
    let chains: Vec<_> = program.chains.iter().map(iptables::chain).collect();
    lines.extend(chains.iter().map(|(declared, _)| declared.clone()));
    lines.extend(made(&program.chains.iter().map(|c| c.hook).collect::<Vec<_>>(), volatile, there));
    if let Some(t) = there {
        lines.extend(jumps_off(t));
        let stale = Hook::ALL.into_iter().filter(|h| !program.chains.iter().any(|c| c.hook == *h));
        for name in stale.map(Hook::chain).filter(|c| t.own.iter().any(|o| o == c)) {
            lines.extend([format!("-F {name}"), format!("-X {name}")]);
        }
    }
    lines.extend(chains.into_iter().flat_map(|(_, rules)| rules));
    // First: what others do to a destination would hide where the connection was going.
    lines.extend(program.chains.iter().map(|c| format!("-I {} 1 {}", c.hook.base(), jump(c.hook))));
    section(program.table, &lines)
}

/// Notes, as empty chains, what of a table of nf_tables is made for us.
fn made(hooks: &[Hook], volatile: bool, there: Option<&TableState>) -> Vec<String> {
    let declare = |name: &str| format!(":{name} - [0:0]");
    match there {
        _ if !volatile => Vec::new(),
        None => vec![declare(MADE_TABLE)],
        Some(t) => {
            let missing = |h: &&Hook| t.bases.as_ref().is_some_and(|b| !b.iter().any(|c| c == h.base()));
            hooks.iter().filter(missing).map(|h| declare(&format!("{MADE}{}", h.base()))).collect()
        }
    }
}

fn jumps_off(t: &TableState) -> Vec<String> {
    let lines = |(hook, n): &(Hook, usize)| vec![format!("-D {} {}", hook.base(), jump(*hook)); *n];
    t.jumps.iter().flat_map(lines).collect()
}

/// Takes everything of ours out of a table of iptables, and what was made for us with it.
fn clear(t: &TableState, has_nft: bool) -> Vec<Step> {
    let mut lines = jumps_off(t);
    lines.extend(t.own.iter().map(|c| format!("-F {c}")));
    lines.extend(t.own.iter().map(|c| format!("-X {c}")));
    let mut steps = vec![restore(t.backend, t.family, section(t.table, &lines))];
    let (family, table) = (t.family.nft(), t.table.name());
    let mut script = String::new();
    if t.own.iter().any(|c| c == MADE_TABLE) {
        // Others may have come to use it since.
        if !t.others && t.used.is_empty() {
            script = format!("delete table {family} {table}\n");
        }
    } else {
        let bases =
            t.own.iter().filter_map(|c| c.strip_prefix(MADE)).filter(|b| !t.used.iter().any(|u| u == b));
        script.extend(bases.map(|b| format!("delete chain {family} {table} {b}\n")));
    }
    match (script.is_empty(), has_nft) {
        (true, _) => {}
        (false, true) => steps.push(Step::run("nft", "-f -", Some(script))),
        (false, false) => steps.push(Step::Note(format!(
            "the empty table {family} {table} that {} made stays: it does nothing; with nft installed it \
             would be taken away too",
            t.backend.name()
        ))),
    }
    steps
}

/// Whether TPROXY has to bring this family's outbound connections round.
fn comes_round(options: &Options, family: Family) -> bool {
    options.mode == Mode::Tproxy && options.outbound.is_some() && options.families.has(family)
}

fn is_wanted(options: &Options, r: &Routing) -> bool {
    comes_round(options, r.family) && r.mark == options.mark && r.table == options.table.to_string()
}

fn routing_in(options: &Options, state: &State) -> Vec<Step> {
    let mut steps = Vec::new();
    for family in Family::ALL.into_iter().filter(|f| comes_round(options, *f)) {
        let there = state.routing.iter().find(|r| r.family == family && is_wanted(options, r));
        let (digit, any, table) = (family.digit(), family.any(), options.table);
        let routed =
            state.routing.iter().any(|r| r.family == family && r.route && r.table == table.to_string());
        if !routed {
            steps.push(Step::run(
                "ip",
                &format!("-{digit} route add local {any} dev lo table {table}"),
                None,
            ));
        }
        if there.is_none() {
            let mark = fwmark(options.mark);
            let rule = format!("-{digit} rule add pref {RULE_PREFERENCE} fwmark {mark} lookup {table}");
            steps.push(Step::run("ip", &rule, None));
        }
    }
    steps
}

fn routing_out(state: &State, wanted: Option<&Options>) -> Vec<Step> {
    let mut steps = Vec::new();
    for r in state.routing.iter().filter(|r| !wanted.is_some_and(|o| is_wanted(o, r))) {
        let (digit, any, table, mark) = (r.family.digit(), r.family.any(), &r.table, fwmark(r.mark));
        let rule = format!("-{digit} rule del pref {RULE_PREFERENCE} fwmark {mark} lookup {table}");
        steps.push(Step::run("ip", &rule, None));
        // Another mark with the same table needs the route still.
        let shared = wanted.is_some_and(|o| comes_round(o, r.family) && r.table == o.table.to_string());
        if r.route && !shared {
            steps.push(Step::run(
                "ip",
                &format!("-{digit} route del local {any} dev lo table {table}"),
                None,
            ));
        }
    }
    steps
}
