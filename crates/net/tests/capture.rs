//! The text of the rules, and the commands from one state to another. That the kernel does what they say is
//! shown in network namespaces by `interop/run.sh capture`.
use raddle_net::capture::state::{Routing, TableState, read_ip_rules, read_save};
use raddle_net::capture::{
    Backend, Families, Family, Options, PortRange, Side, State, Step, install, remove, summary,
};
use raddle_net::original::Mode;

const V4: Families = Families { v4: true, v6: false };

fn options(mode: Mode, families: Families) -> Options {
    Options {
        mode,
        families,
        outbound: Some(Side {
            port: 15001,
            include: Vec::new(),
            exclude: vec![PortRange { first: 5, last: 9 }],
        }),
        inbound: Some(Side { port: 15006, include: vec![PortRange::one(80)], exclude: Vec::new() }),
        exclude_uids: vec![1337],
        exclude_gids: vec![42],
        exclude_cidrs: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        mark: 0x5d1,
        table: 15001,
    }
}

fn text(steps: &[Step]) -> String {
    steps.iter().map(ToString::to_string).collect()
}

#[test]
fn redirect_by_iptables_reads_like_this() {
    let steps = install(&options(Mode::Redirect, V4), Backend::IptablesLegacy, false, &State::default());
    assert_eq!(
        text(&steps),
        "iptables-legacy-restore -w 5 --noflush <<'EOF'
*nat
:RADDLE_OUTPUT - [0:0]
:RADDLE_PREROUTING - [0:0]
-A RADDLE_OUTPUT -o lo -j RETURN
-A RADDLE_OUTPUT -m mark --mark 0x5d3/0xfff -j RETURN
-A RADDLE_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A RADDLE_OUTPUT -m owner --gid-owner 42 -j RETURN
-A RADDLE_OUTPUT -d 10.0.0.0/8 -j RETURN
-A RADDLE_OUTPUT -p tcp --dport 5:9 -j RETURN
-A RADDLE_OUTPUT -p tcp --tcp-flags FIN,SYN,RST,ACK SYN -j REDIRECT --to-ports 15001
-A RADDLE_PREROUTING -i lo -j RETURN
-A RADDLE_PREROUTING -m addrtype ! --dst-type LOCAL -j RETURN
-A RADDLE_PREROUTING -p tcp --dport 15006 -j RETURN
-A RADDLE_PREROUTING -p tcp --dport 15001 -j RETURN
-A RADDLE_PREROUTING -p tcp --dport 80 --tcp-flags FIN,SYN,RST,ACK SYN -j REDIRECT --to-ports 15006
-I OUTPUT 1 -p tcp -j RADDLE_OUTPUT
-I PREROUTING 1 -p tcp -j RADDLE_PREROUTING
COMMIT
EOF
"
    );
}

#[test]
fn tproxy_by_nft_reads_like_this() {
    let steps = install(&options(Mode::Tproxy, V4), Backend::Nft, true, &State::default());
    assert_eq!(
        text(&steps),
        "ip -4 route add local 0.0.0.0/0 dev lo table 15001
ip -4 rule add pref 15001 fwmark 0x5d1/0xfff lookup 15001
nft -f - <<'EOF'
add table ip raddle
delete table ip raddle
table ip raddle {
  chain RADDLE_OUTPUT {
    type route hook output priority -150; policy accept;
    meta l4proto != tcp return
    ct mark & 0xfff == 0x5d1 ct direction original meta mark set meta mark & 0xfffff000 | 0x5d1
    tcp flags & (fin|syn|rst|ack) != syn return
    oifname \"lo\" return
    meta mark & 0xfff == 0x5d3 return
    meta skuid 1337 return
    meta skgid 42 return
    ip daddr 10.0.0.0/8 return
    tcp dport 5-9 return
    counter ct mark set ct mark & 0xfffff000 | 0x5d1
    ct mark & 0xfff == 0x5d1 meta mark set meta mark & 0xfffff000 | 0x5d1
  }
  chain RADDLE_PREROUTING {
    type filter hook prerouting priority -150; policy accept;
    meta l4proto != tcp return
    iifname \"lo\" meta mark & 0xfff == 0x5d1 meta l4proto tcp counter tproxy to :15001 accept
    iifname \"lo\" return
    ct mark & 0xfff == 0x5d1 ct direction original meta l4proto tcp counter tproxy to :15006 accept
    tcp flags & (fin|syn|rst|ack) != syn return
    fib daddr type != local return
    tcp dport 15006 return
    tcp dport 15001 return
    tcp dport 80 counter ct mark set ct mark & 0xfffff000 | 0x5d1
    ct mark & 0xfff == 0x5d1 meta l4proto tcp counter tproxy to :15006 accept
  }
}
EOF
"
    );
}

#[test]
fn both_families_by_both_variants_have_the_same_rules() {
    for mode in [Mode::Redirect, Mode::Tproxy] {
        let of = |backend, volatile| {
            let steps = install(&options(mode, Families::BOTH), backend, volatile, &State::default());
            text(&steps)
        };
        let legacy = of(Backend::IptablesLegacy, false);
        let nft = of(Backend::IptablesNft, true);
        assert_eq!(nft.replace("-nft-", "-legacy-").replace(":RADDLE_MADE_TABLE - [0:0]\n", ""), legacy);
        assert!(legacy.contains("ip6tables-legacy-restore") && legacy.contains("-d fd00::/8"));
        let v6 = &legacy[legacy.find("ip6tables").unwrap()..];
        assert!(!v6.contains("10.0.0.0"), "{v6}");
    }
}

#[test]
fn one_direction_leaves_the_other_alone() {
    let mut o = options(Mode::Tproxy, V4);
    o.outbound = None;
    let steps = text(&install(&o, Backend::IptablesLegacy, false, &State::default()));
    assert!(!steps.contains("OUTPUT") && !steps.contains("ip -4"), "{steps}");
    o = options(Mode::Redirect, V4);
    o.inbound = None;
    let steps = text(&install(&o, Backend::Nft, true, &State::default()));
    assert!(!steps.contains("PREROUTING") && steps.contains("redirect to :15001"), "{steps}");
}

/// What `iptables-nft-save -c` printed after an install with others' rules beside it.
const SAVED: &str = "\
# Generated by iptables-nft-save v1.8.9 (nf_tables) on Sun Nov 22 19:03:56 2026
*filter
:INPUT DROP [0:0]
[5:300] -A INPUT -p tcp -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:RADDLE_MADE_OUTPUT - [0:0]
:RADDLE_OUTPUT - [0:0]
[0:0] -A PREROUTING -p tcp -j ACCEPT
[7:420] -A OUTPUT -p tcp -j RADDLE_OUTPUT
[3:180] -A RADDLE_OUTPUT -o lo -j RETURN
[4:240] -A RADDLE_OUTPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j REDIRECT --to-ports 15001
COMMIT
";

const CHAINS: &str = "\
table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
}
table ip nat {
	chain RADDLE_OUTPUT {
	}
	chain RADDLE_MADE_OUTPUT {
	}
	chain PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
	}
	chain OUTPUT {
		type nat hook output priority -100; policy accept;
	}
}
";

fn saved() -> TableState {
    let tables = read_save(Backend::IptablesNft, Family::V4, SAVED, Some(CHAINS));
    assert_eq!(tables.len(), 1, "only tables that rules may be in");
    TableState { volatile: true, ..tables.into_iter().next().unwrap() }
}

#[test]
fn what_is_installed_is_read_back() {
    let found = summary(&State { tables: vec![saved()], has_nft: true, ..State::default() });
    assert_eq!((found.len(), found[0].mode, found[0].outbound), (1, Mode::Redirect, 4));
    assert_eq!((found[0].outbound_port, found[0].inbound_port), (Some(15001), None));
}

#[test]
fn an_install_over_another_replaces_it_in_one_transaction() {
    let state = State { tables: vec![saved()], has_nft: true, ..State::default() };
    let mut o = options(Mode::Redirect, V4);
    o.outbound = None;
    let steps = install(&o, Backend::IptablesNft, true, &state);
    assert_eq!(steps.len(), 1);
    let steps = text(&steps);
    let at = |part: &str| steps.find(part).unwrap_or_else(|| panic!("{part} is not in:\n{steps}"));
    assert!(at("-D OUTPUT -p tcp -j RADDLE_OUTPUT") < at("-F RADDLE_OUTPUT"));
    assert!(at("-F RADDLE_OUTPUT") < at("-X RADDLE_OUTPUT"));
    assert!(at("-X RADDLE_OUTPUT") < at("-I PREROUTING 1 -p tcp -j RADDLE_PREROUTING"));
    assert_eq!(steps.matches("COMMIT").count(), 1);
}

#[test]
fn base_chains_that_were_not_there_are_noted_and_go_again() {
    let mut before = saved();
    (before.own, before.jumps, before.bases) = (Vec::new(), Vec::new(), Some(vec!["PREROUTING".to_owned()]));
    let state = State { tables: vec![before], has_nft: true, ..State::default() };
    let steps = text(&install(&options(Mode::Redirect, V4), Backend::IptablesNft, true, &state));
    assert!(steps.contains(":RADDLE_MADE_OUTPUT - [0:0]") && !steps.contains("MADE_PREROUTING"), "{steps}");

    let state = State { tables: vec![saved()], has_nft: true, ..State::default() };
    assert_eq!(
        text(&remove(&state)),
        "iptables-nft-restore -w 5 --noflush <<'EOF'
*nat
-D OUTPUT -p tcp -j RADDLE_OUTPUT
-F RADDLE_MADE_OUTPUT
-F RADDLE_OUTPUT
-X RADDLE_MADE_OUTPUT
-X RADDLE_OUTPUT
COMMIT
EOF
nft -f - <<'EOF'
delete chain ip nat OUTPUT
EOF
"
    );
}

#[test]
fn what_others_came_to_use_stays() {
    let mut table = saved();
    table.own.push("RADDLE_MADE_TABLE".to_owned());
    let whole = |t: &TableState| {
        text(&remove(&State { tables: vec![t.clone()], has_nft: true, ..State::default() }))
            .contains("delete table ip nat")
    };
    assert!(!whole(&table), "PREROUTING has a rule of somebody's");
    table.used.clear();
    assert!(whole(&table));
    table.others = true;
    assert!(!whole(&table));
    let told = text(&remove(&State { tables: vec![saved()], has_nft: false, ..State::default() }));
    assert!(told.contains("# the empty table ip nat"), "{told}");
}

#[test]
fn routing_is_made_once_and_only_ours_is_undone() {
    const RULES: &str = "0:\tfrom all lookup local\n15001:\tfrom all fwmark 0x5d1/0xfff lookup 15001\n\
                         15001:\tfrom 10.0.0.1 lookup 7\n15002:\tfrom all fwmark 0x5d1/0xfff lookup 9\n";
    let mut routing = read_ip_rules(Family::V4, RULES);
    assert_eq!(routing.len(), 1, "others' rules are not ours");
    routing[0].route = true;
    let state = State { routing, ..State::default() };
    let again = text(&install(&options(Mode::Tproxy, V4), Backend::IptablesLegacy, false, &state));
    assert!(!again.contains("ip -4"), "{again}");
    let undone = "ip -4 rule del pref 15001 fwmark 0x5d1/0xfff lookup 15001\n\
                  ip -4 route del local 0.0.0.0/0 dev lo table 15001\n";
    assert_eq!(text(&remove(&state)), undone);
    let to_redirect = text(&install(&options(Mode::Redirect, V4), Backend::IptablesLegacy, false, &state));
    assert!(to_redirect.ends_with(undone), "the new rules first: {to_redirect}");
    // Another mark by the same table: the rule changes, the route is used on.
    let mut other = options(Mode::Tproxy, V4);
    other.mark = 0x7;
    let changed = text(&install(&other, Backend::IptablesLegacy, false, &state));
    assert!(changed.contains("rule add pref 15001 fwmark 0x7/0xfff"), "{changed}");
    assert!(changed.contains("rule del") && !changed.contains("route del"), "{changed}");
    assert!(!changed.contains("route add"), "{changed}");
}

#[test]
fn a_change_of_tool_leaves_one_capture() {
    let state = State { tables: vec![saved()], has_nft: true, ..State::default() };
    let steps = install(&options(Mode::Redirect, V4), Backend::Nft, true, &state);
    let Step::Run { program, .. } = &steps[0] else { panic!("{steps:?}") };
    assert_eq!(program, "nft", "the new rules come first");
    assert!(text(&steps[1..]).contains("-X RADDLE_OUTPUT"));

    let nft = vec![(Family::V4, String::new()), (Family::V6, String::new())];
    let state = State { nft, has_nft: true, ..State::default() };
    let steps = text(&install(&options(Mode::Redirect, V4), Backend::IptablesLegacy, false, &state));
    assert!(steps.contains("delete table ip raddle") && steps.contains("delete table ip6 raddle"));
    let fewer = text(&install(&options(Mode::Redirect, V4), Backend::Nft, true, &state));
    assert!(fewer.contains("delete table ip6 raddle") && !fewer.contains("table ip6 raddle {"), "{fewer}");
}

#[test]
fn a_route_of_another_table_is_made_again() {
    let one = Routing { family: Family::V4, mark: 0x5d1, table: "7".to_owned(), route: true };
    let state = State { routing: vec![one], ..State::default() };
    let steps = text(&install(&options(Mode::Tproxy, V4), Backend::Nft, true, &state));
    assert!(steps.starts_with("ip -4 route add local 0.0.0.0/0 dev lo table 15001"), "{steps}");
    assert!(steps.ends_with("ip -4 route del local 0.0.0.0/0 dev lo table 7\n"), "{steps}");
}
