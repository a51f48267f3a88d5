//! What is printed, and how: human or JSON, with colour or without.
use crate::exit::Failure;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::fmt;
use std::io::{self, IsTerminal, Write};

/// The form of a command's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// `-o`, for the commands that have both forms.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Form of the output
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
}

impl OutputArgs {
    /// Whether programs read it.
    pub(crate) fn json(self) -> bool {
        self.format == Format::Json
    }
}

/// Colours of a text, if it is to have any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// For standard output as it is.
    pub(crate) fn stdout() -> Paint {
        Paint { on: io::stdout().is_terminal() && colours_wanted() }
    }

    /// For standard error as it is.
    pub(crate) fn stderr() -> Paint {
        Paint { on: io::stderr().is_terminal() && colours_wanted() }
    }

    /// No colours at all.
    #[cfg(test)]
    pub(crate) fn none() -> Paint {
        Paint { on: false }
    }

    fn with(self, code: &str, text: impl fmt::Display) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Something wrong.
    pub(crate) fn bad(self, text: impl fmt::Display) -> String {
        self.with("1;31", text)
    }

    /// Something to look at.
    pub(crate) fn warn(self, text: impl fmt::Display) -> String {
        self.with("33", text)
    }

    /// Something right.
    pub(crate) fn good(self, text: impl fmt::Display) -> String {
        self.with("32", text)
    }

    /// A heading.
    pub(crate) fn bold(self, text: impl fmt::Display) -> String {
        self.with("1", text)
    }

    /// Something by the way.
    pub(crate) fn dim(self, text: impl fmt::Display) -> String {
        self.with("2", text)
    }
}

/// Whether the user's environment lets us use colours (<https://no-color.org>).
pub(crate) fn colours_wanted() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Prints to standard output. A reader that went away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(format!("standard output: {e}"))),
        _ => Ok(()),
    }
}

/// Prints a value as JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(e.to_string()))?;
    print(&format!("{text}\n"))
}

/// Tells the user on standard error why there is no result.
pub(crate) fn complain(failure: &Failure) {
    let text = failure.to_string();
    if text.is_empty() {
        return;
    }
    // There is nowhere left to say that standard error is gone.
    let _ = writeln!(io::stderr(), "{} {text}", Paint::stderr().bad("raddle:"));
}

/// A line of progress on standard error, for people who wait.
pub(crate) fn progress(line: &str) {
    // Progress nobody can read is nothing lost.
    let _ = writeln!(io::stderr(), "{line}");
}
