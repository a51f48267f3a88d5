//! `raddle completions`, `raddle reference`, `raddle version`.
use crate::Done;
use crate::exit::Exit;
use crate::output::{OutputArgs, print, print_json};
use clap::Args;
use clap_complete::Shell;
use serde_json::json;

/// Print completions for your shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle completions bash > ~/.local/share/bash-completion/completions/raddle
  raddle completions zsh > ~/.zfunc/_raddle            # a directory of your fpath
  raddle completions fish > ~/.config/fish/completions/raddle.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn completions(args: &CompletionsArgs, mut command: clap::Command) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "raddle", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

/// Print the reference of every kind and field, in Markdown
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct ReferenceArgs {}

pub(crate) fn reference(_args: &ReferenceArgs) -> Done {
    print(&raddle_model::reference())?;
    Ok(Exit::Ok)
}

/// Print the version
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn version(args: &VersionArgs) -> Done {
    let (version, profile) =
        (env!("CARGO_PKG_VERSION"), if cfg!(debug_assertions) { "debug" } else { "release" });
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    if args.output.json() {
        print_json(&json!({"version": version, "profile": profile, "os": os, "arch": arch}))?;
    } else {
        print(&format!("raddle {version} ({profile}, {os} {arch})\n"))?;
    }
    Ok(Exit::Ok)
}
