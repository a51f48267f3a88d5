//! `raddle sim`: the limiter against overload in simulated time, beside what others do.
mod compare;
mod play;
mod run;
mod trace;

use crate::Done;
use crate::exit::Failure;
use clap::{Args, Subcommand};
use raddle_sim::{Scheme, scenario};

/// Simulate overload: the limiter that ships against scenarios, beside its peers
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(crate) struct SimArgs {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Nothing is started and nothing is sent: an app, its callers and the limiter are simulated, some thousand seconds a
second. A seed decides everything that is chance; the same seed gives the same run, on every machine.

Examples:
  raddle sim run S1                       one interface surges: are the bars kept?
  raddle sim run S1 --per-second          what happens in each second, and what the limiter says to it
  raddle sim run S1 --limiter none        the same without a limiter
  raddle sim compare                      the whole table, beside ten peers
  raddle sim trace S5 --svg s5.svg        a picture
  raddle sim list                         the scenarios and the limiters";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Compare(compare::CompareArgs),
    Trace(trace::TraceArgs),
    List(run::ListArgs),
}

pub(crate) fn run(args: &SimArgs) -> Done {
    match &args.command {
        Command::Run(args) => run::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Trace(args) => trace::run(args),
        Command::List(args) => run::list(args),
    }
}

/// Reads a limiter's name.
fn limiter(text: &str) -> Result<Scheme, String> {
    let names: Vec<&str> = Scheme::ALL.iter().map(|s| s.name()).collect();
    Scheme::named(text)
        .ok_or_else(|| format!("there is no limiter of this name; there are {}", names.join(", ")))
}

/// The names of scenarios that a list like `S1,S5`, `all` or `bars` means.
///
/// # Errors
/// When there is none of a name.
fn scenarios(list: &[String]) -> Result<Vec<&'static str>, Failure> {
    let mut found: Vec<&'static str> = Vec::new();
    for name in list {
        let named = scenario::ALL.iter().map(|s| s.0).find(|s| s.eq_ignore_ascii_case(name));
        match (name.as_str(), named) {
            ("all", _) => found.extend(scenario::ALL.iter().map(|s| s.0)),
            ("bars", _) => found.extend(scenario::BARRED),
            (_, Some(name)) => found.push(name),
            (_, None) => {
                let names: Vec<&str> = scenario::ALL.iter().map(|s| s.0).collect();
                return Err(Failure::new(format!(
                    "there is no scenario {name}; there are {}, and `all` and `bars`",
                    names.join(", ")
                )));
            }
        }
    }
    let mut seen = Vec::new();
    found.retain(|name| {
        !seen.contains(name) && {
            seen.push(*name);
            true
        }
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_each_scenario_once() {
        let of = |names: &[&str]| scenarios(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["s5", "S1", "S5"]).unwrap(), ["S5", "S1"]);
        assert_eq!(of(&["all"]).unwrap().len(), scenario::ALL.len());
        assert_eq!(of(&["bars", "S1"]).unwrap().len(), scenario::BARRED.len());
        assert!(of(&["S99"]).unwrap_err().to_string().contains("pool-S5"));
    }

    #[test]
    fn limiters_are_known_by_name() {
        assert_eq!(limiter("raddle"), Ok(Scheme::Raddle));
        assert!(limiter("magic").unwrap_err().contains("envoy-ac"));
    }
}
