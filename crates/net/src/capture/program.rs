//! The rules, whatever tool they are for.
//!
//! Only a connection's first packet (SYN) is ever chosen: connections that were there before the rules are
//! left alone. REDIRECT needs no more, for address translation looks at first packets only. TPROXY decides
//! for every packet, so the choice is kept with the tracked connection (its connmark): an owner cannot be
//! asked for on packets that the kernel sends for a socket nobody holds any more.
use super::options::{Cidr, Family, MARK_MASK, Options, PortRange, Side};
use crate::original::{Mode, OWN_MARK};

/// The rules for one family: chains of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The table, in the words of iptables.
    pub table: Table,
    /// The family.
    pub family: Family,
    /// The chains.
    pub chains: Vec<Chain>,
}

/// A table of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Where destinations are rewritten.
    Nat,
    /// Where packets are marked.
    Mangle,
}

impl Table {
    /// Both.
    pub const ALL: [Table; 2] = [Table::Nat, Table::Mangle];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Nat => "nat",
            Table::Mangle => "mangle",
        }
    }
}

/// Where packets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Packets that processes of this machine send.
    Output,
    /// Packets that have just come in.
    Prerouting,
}

impl Hook {
    /// Both.
    pub const ALL: [Hook; 2] = [Hook::Output, Hook::Prerouting];

    /// The base chain of iptables.
    pub const fn base(self) -> &'static str {
        match self {
            Hook::Output => "OUTPUT",
            Hook::Prerouting => "PREROUTING",
        }
    }

    /// Our chain.
    pub const fn chain(self) -> &'static str {
        match self {
            Hook::Output => "RADDLE_OUTPUT",
            Hook::Prerouting => "RADDLE_PREROUTING",
        }
    }
}

/// The rules of one hook, tried in order. All see TCP only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where.
    pub hook: Hook,
    /// What.
    pub rules: Vec<Rule>,
}

/// If all matches hold, the verdict is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What must hold.
    pub when: Vec<Match>,
    /// What is done.
    pub then: Verdict,
}

/// A condition on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It leaves by the loopback device: it is for this machine.
    ToLoopback,
    /// It came by the loopback device.
    FromLoopback,
    /// Its mark, under a mask.
    Mark(u32, u32),
    /// Its connection's mark, under a mask.
    ConnMark(u32, u32),
    /// It is sent by the side that opened the connection.
    ByOpener,
    /// It belongs to a socket of this user.
    Uid(u32),
    /// It belongs to a socket of this group.
    Gid(u32),
    /// It goes to an address of this block.
    To(Cidr),
    /// It goes to an address that is not this machine's.
    NotToHere,
    /// It goes to one of these ports.
    Port(PortRange),
    /// It is the first of a connection.
    First,
    /// It is not the first of a connection.
    NotFirst,
}

/// What is done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes as if there were no rules.
    Leave,
    /// Its connection goes to this port of this machine.
    Redirect(u16),
    /// It is given to the socket at this port, as it is.
    Tproxy(u16),
    /// Its connection is marked, under a mask; the next rule is tried.
    MarkConnection(u32, u32),
    /// It is marked, under a mask; the next rule is tried.
    Mark(u32, u32),
}

/// The rules for one family. Chains without a side to capture are left out.
pub fn program(options: &Options, family: Family) -> Program {
    let table = match options.mode {
        Mode::Redirect => Table::Nat,
        Mode::Tproxy => Table::Mangle,
    };
    let mut chains = Vec::new();
    if let Some(side) = &options.outbound {
        chains.push(Chain { hook: Hook::Output, rules: outbound(options, side, family) });
    }
    let arriving = arriving(options);
    if !arriving.is_empty() {
        chains.push(Chain { hook: Hook::Prerouting, rules: arriving });
    }
    Program { table, family, chains }
}

fn rule(when: impl Into<Vec<Match>>, then: Verdict) -> Rule {
    Rule { when: when.into(), then }
}

fn outbound(options: &Options, side: &Side, family: Family) -> Vec<Rule> {
    let mut rules = Vec::new();
    let captured = Match::ConnMark(options.mark, MARK_MASK);
    let tproxy = options.mode == Mode::Tproxy;
    if tproxy {
        rules.push(rule([captured, Match::ByOpener], Verdict::Mark(options.mark, MARK_MASK)));
        rules.push(rule([Match::NotFirst], Verdict::Leave));
    }
    // What stays on this machine is not the mesh's business: 127.0.0.0/8, ::1 and its own addresses.
    rules.push(rule([Match::ToLoopback], Verdict::Leave));
    rules.push(rule([Match::Mark(OWN_MARK, MARK_MASK)], Verdict::Leave));
    rules.extend(options.exclude_uids.iter().map(|u| rule([Match::Uid(*u)], Verdict::Leave)));
    rules.extend(options.exclude_gids.iter().map(|g| rule([Match::Gid(*g)], Verdict::Leave)));
    let cidrs = options.exclude_cidrs.iter().filter(|c| c.family() == family);
    rules.extend(cidrs.map(|c| rule([Match::To(*c)], Verdict::Leave)));
    choose(options, side, &mut rules);
    if tproxy {
        rules.push(rule([captured], Verdict::Mark(options.mark, MARK_MASK)));
    }
    rules
}

/// What comes in: calls of the application; and with TPROXY what it calls itself, which was sent round by
/// the loopback device.
fn arriving(options: &Options) -> Vec<Rule> {
    let mut rules = Vec::new();
    let tproxy = options.mode == Mode::Tproxy;
    if let (true, Some(outbound)) = (tproxy, &options.outbound) {
        let captured = Match::Mark(options.mark, MARK_MASK);
        rules.push(rule([Match::FromLoopback, captured], Verdict::Tproxy(outbound.port)));
    }
    let Some(side) = &options.inbound else { return rules };
    rules.push(rule([Match::FromLoopback], Verdict::Leave));
    let captured = Match::ConnMark(options.mark, MARK_MASK);
    if tproxy {
        rules.push(rule([captured, Match::ByOpener], Verdict::Tproxy(side.port)));
        rules.push(rule([Match::NotFirst], Verdict::Leave));
    }
    // What this machine only forwards, for its containers say, is not the application's.
    rules.push(rule([Match::NotToHere], Verdict::Leave));
    // The listeners themselves may be called directly.
    for own in [Some(side.port), options.outbound.as_ref().map(|o| o.port)].into_iter().flatten() {
        rules.push(rule([Match::Port(PortRange::one(own))], Verdict::Leave));
    }
    choose(options, side, &mut rules);
    if tproxy {
        rules.push(rule([captured], Verdict::Tproxy(side.port)));
    }
    rules
}

/// Which ports are captured, and by what verdict.
fn choose(options: &Options, side: &Side, rules: &mut Vec<Rule>) {
    rules.extend(side.exclude.iter().map(|p| rule([Match::Port(*p)], Verdict::Leave)));
    let (first, capture): (&[Match], _) = match options.mode {
        Mode::Redirect => (&[Match::First], Verdict::Redirect(side.port)),
        // Only first packets come here.
        Mode::Tproxy => (&[], Verdict::MarkConnection(options.mark, MARK_MASK)),
    };
    if side.include.is_empty() {
        rules.push(rule(first, capture));
    }
    for port in &side.include {
        let mut when = vec![Match::Port(*port)];
        when.extend(first);
        rules.push(rule(when, capture));
    }
}
