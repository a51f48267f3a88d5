//! Looking at this machine and running the commands: the part that is not pure, kept thin.
use super::options::{Backend, Family, Options};
use super::plan::{Step, install, remove};
use super::state::{State, read_ip_rules, read_save, summary};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why capture could not be looked at or changed; reads as what happened and what to do.
#[derive(Debug)]
pub enum Error {
    /// The process may not change the network.
    NotPrivileged,
    /// A program is not installed.
    Missing {
        /// Its name.
        program: String,
    },
    /// No tool at all.
    NoTool,
    /// A program ended with an error.
    Failed {
        /// The command.
        command: String,
        /// What it said.
        said: String,
        /// Whether what had been done was undone.
        undone: bool,
    },
    /// A program could not be run.
    Os(String, std::io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotPrivileged => f.write_str(
                "changing or reading the rules needs root, or the capability NET_ADMIN.\n\
                 Run it with sudo; in a container add NET_ADMIN (docker run --cap-add NET_ADMIN, or \
                 securityContext.capabilities.add). --dry-run needs neither.",
            ),
            Error::Missing { program } => {
                let package = match program.as_str() {
                    "nft" => "nftables",
                    "ip" => "iproute2",
                    _ => "iptables",
                };
                write!(
                    f,
                    "{program} is not installed.\nInstall it (apt-get install {package}, dnf install {package}, \
                     apk add {package}), or choose another tool with --backend."
                )
            }
            Error::NoTool => f.write_str(
                "neither nft nor iptables is installed.\nInstall one of them (apt-get install nftables, or \
                 iptables), in the image that runs this command.",
            ),
            Error::Failed { command, said, undone } => {
                write!(f, "{command} failed: {}", said.trim())?;
                if let Some(advice) = advice(command, said) {
                    write!(f, "\n{advice}")?;
                }
                if *undone {
                    f.write_str("\nNothing was left installed.")?;
                }
                Ok(())
            }
            Error::Os(command, e) => write!(f, "{command}: {e}"),
        }
    }
}

impl std::error::Error for Error {}

/// What to do about what a tool said.
fn advice(command: &str, said: &str) -> Option<String> {
    let says = |parts: &[&str]| parts.iter().any(|p| said.contains(p));
    if says(&["Permission denied", "Operation not permitted"]) {
        return Some("The process lacks the capability NET_ADMIN in this network namespace.".to_owned());
    }
    let modules = if says(&["TPROXY", "tproxy"]) {
        "nf_tproxy_ipv4 nf_tproxy_ipv6 xt_TPROXY nft_tproxy"
    } else if command.starts_with("nft") {
        "nf_tables nft_chain_nat nft_redir nft_ct nft_fib_ipv4 nft_fib_ipv6"
    } else if command.starts_with("ip6tables") {
        "ip6table_nat ip6table_mangle xt_REDIRECT xt_owner xt_connmark xt_conntrack xt_addrtype"
    } else {
        "iptable_nat iptable_mangle xt_REDIRECT xt_owner xt_connmark xt_conntrack xt_addrtype"
    };
    let lacks = says(&[
        "No such file or directory",
        "Operation not supported",
        "Protocol not supported",
        "can't initialize",
        "Table does not exist",
        "No chain/target/match by that name",
        "Extension",
        "missing kernel module",
        "Module",
    ]);
    lacks.then(|| {
        format!(
            "The kernel seems to lack a module. On the host (a container cannot load any): modprobe -a {modules}\n\
             Or choose another tool with --backend."
        )
    })
}

/// This machine, as far as capture is concerned: its tools and its network namespace.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    _private: (),
}

impl Machine {
    /// This machine.
    pub fn new() -> Machine {
        Machine::default()
    }

    /// Whether the process may change the network.
    pub fn privileged(&self) -> bool {
        // CAP_NET_ADMIN is bit 12 of the effective set (capabilities(7)).
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
        effective
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .is_some_and(|caps| caps & (1 << 12) != 0)
    }

    /// Whether the kernel has IPv6.
    pub fn has_ipv6(&self) -> bool {
        Path::new("/proc/net/if_inet6").exists()
    }

    /// The tool to use if none is named: nft, whose tables are wholly ours; else an iptables.
    ///
    /// # Errors
    /// If there is none.
    pub fn choose(&self) -> Result<Backend, Error> {
        if find("nft").is_some() && (!self.privileged() || run("nft", &["list", "tables"], None).is_ok()) {
            return Ok(Backend::Nft);
        }
        let order = [Backend::IptablesNft, Backend::Iptables, Backend::IptablesLegacy];
        order.into_iter().find(|b| find(&b.program(Family::V4, "restore")).is_some()).ok_or(Error::NoTool)
    }

    /// Whether a tool's tables are those of nf_tables.
    pub fn volatile(&self, backend: Backend) -> bool {
        match backend {
            Backend::Nft | Backend::IptablesNft => true,
            Backend::IptablesLegacy => false,
            Backend::Iptables => {
                run("iptables", &["--version"], None).is_ok_and(|text| text.contains("nf_tables"))
            }
        }
    }

    /// What is installed, by whatever tool. `prefer` is the iptables that is to be used, if any is.
    ///
    /// # Errors
    /// If a tool that is there fails, or the process may not ask.
    pub fn look(&self, prefer: Option<Backend>) -> Result<State, Error> {
        if !self.privileged() {
            return Err(Error::NotPrivileged);
        }
        let mut state = State { has_nft: find("nft").is_some(), ..State::default() };
        for family in Family::ALL {
            if state.has_nft {
                let listed = run("nft", &["list", "table", family.nft(), super::nft::TABLE], None);
                state.nft.extend(listed.ok().map(|text| (family, text)));
            }
            for backend in self.distinct(prefer) {
                self.look_at_tables(backend, family, &mut state)?;
            }
            if find("ip").is_some() {
                look_at_routing(family, &mut state)?;
            }
        }
        Ok(state)
    }

    /// The kinds of iptables that are here, each once: `prefer` stands for its kind.
    fn distinct(&self, prefer: Option<Backend>) -> Vec<Backend> {
        let mut chosen: Vec<(bool, Backend)> = Vec::new();
        let named = [Backend::IptablesNft, Backend::IptablesLegacy, Backend::Iptables];
        for backend in prefer.into_iter().filter(|b| *b != Backend::Nft).chain(named) {
            let volatile = self.volatile(backend);
            let here = find(&backend.program(Family::V4, "save")).is_some();
            if here && !chosen.iter().any(|(v, _)| *v == volatile) {
                chosen.push((volatile, backend));
            }
        }
        chosen.into_iter().map(|(_, b)| b).collect()
    }

    fn look_at_tables(&self, backend: Backend, family: Family, state: &mut State) -> Result<(), Error> {
        let volatile = self.volatile(backend);
        let program = backend.program(family, "save");
        if find(&program).is_none() {
            return Ok(());
        }
        let names = match family {
            Family::V4 => "/proc/net/ip_tables_names",
            Family::V6 => "/proc/net/ip6_tables_names",
        };
        // The older tables are made by being asked for, and never go again: ask for none that is not there.
        if !volatile && std::fs::read_to_string(names).unwrap_or_default().trim().is_empty() {
            return Ok(());
        }
        let bases = if volatile && state.has_nft {
            run("nft", &["list", "chains", family.nft()], None).ok()
        } else {
            None
        };
        let save = run(&program, &["-c"], None)?;
        let tables = read_save(backend, family, &save, bases.as_deref());
        state.tables.extend(tables.into_iter().map(|t| super::state::TableState { volatile, ..t }));
        Ok(())
    }

    /// The commands of an install, given what is there.
    pub fn plan_install(&self, options: &Options, backend: Backend, state: &State) -> Vec<Step> {
        install(options, backend, self.volatile(backend), state)
    }

    /// Installs; replaces what is there. If it fails where nothing was installed, nothing is left.
    /// Returns what there is to tell.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn install(&self, options: &Options, backend: Backend) -> Result<Vec<String>, Error> {
        for program in needs(options, backend) {
            if find(&program).is_none() {
                return Err(Error::Missing { program });
            }
        }
        let state = self.look(Some(backend))?;
        let fresh = summary(&state).is_empty() && state.routing.is_empty();
        run_all(&self.plan_install(options, backend, &state)).map_err(|e| match e {
            Error::Failed { command, said, .. } if fresh => {
                let undone = self.remove().is_ok();
                Error::Failed { command, said, undone }
            }
            other => other,
        })
    }

    /// Removes all there is of ours. Returns what there is to tell.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub fn remove(&self) -> Result<Vec<String>, Error> {
        let state = self.look(None)?;
        run_all(&remove(&state))
    }
}

/// Does one thing after the other; what there is to tell.
fn run_all(steps: &[Step]) -> Result<Vec<String>, Error> {
    let mut notes = Vec::new();
    for step in steps {
        match step {
            Step::Note(text) => notes.push(text.clone()),
            Step::Run { program, args, input } => {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                run(program, &args, input.as_deref())?;
            }
        }
    }
    Ok(notes)
}

/// The programs an install calls.
fn needs(options: &Options, backend: Backend) -> Vec<String> {
    let mut programs: Vec<String> = Family::ALL
        .into_iter()
        .filter(|f| options.families.has(*f))
        .map(|f| if backend == Backend::Nft { "nft".to_owned() } else { backend.program(f, "restore") })
        .collect();
    if options.mode == crate::original::Mode::Tproxy && options.outbound.is_some() {
        programs.push("ip".to_owned());
    }
    programs
}

fn look_at_routing(family: Family, state: &mut State) -> Result<(), Error> {
    let digit = format!("-{}", family.digit());
    // Without IPv6 there is nothing to ask, and nothing of ours.
    let Ok(text) = run("ip", &[&digit, "rule", "show"], None) else { return Ok(()) };
    for mut found in read_ip_rules(family, &text) {
        // A table without routes is an error to some versions of ip.
        let routes = run("ip", &[&digit, "route", "show", "table", &found.table], None).unwrap_or_default();
        found.route = routes.lines().any(|l| {
            let mut words = l.split_whitespace();
            words.next() == Some("local") && matches!(words.next(), Some("default" | "::/0" | "0.0.0.0/0"))
        });
        state.routing.push(found);
    }
    Ok(())
}

/// Where a program is: in PATH, or where system programs are although a user's PATH may not say so.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|p| p.is_file())
}

/// Runs a program; what it printed.
fn run(program: &str, args: &[&str], input: Option<&str>) -> Result<String, Error> {
    let Some(path) = find(program) else { return Err(Error::Missing { program: program.to_owned() }) };
    let command = format!("{program} {}", args.join(" "));
    let os = |e| Error::Os(command.clone(), e);
    let mut child = Command::new(path)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(os)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read on says why on its standard error. All tools read before they print, so
        // neither waits for the other.
        let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
    }
    let done = child.wait_with_output().map_err(os)?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    Err(Error::Failed { command, said, undone: false })
}
