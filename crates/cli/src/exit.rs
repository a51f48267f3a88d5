//! How a command ends.
use std::fmt;
use std::process::ExitCode;

/// Exit codes, as `raddle --help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It worked.
    Ok,
    /// It failed.
    Failed,
    /// The command line is wrong (clap gives the same code).
    Usage,
    /// The configuration has mistakes.
    Mistakes,
    /// Something could not be reached.
    Unreachable,
    /// A code that another part chose.
    Code(u8),
}

impl Exit {
    /// For the operating system.
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Mistakes => 3,
            Exit::Unreachable => 4,
            Exit::Code(code) => code,
        })
    }
}

/// Why a command could not do its work: a sentence for the user, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    /// The work failed.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Failed, message: message.into() }
    }

    /// The configuration has mistakes.
    pub(crate) fn mistakes(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Mistakes, message: message.into() }
    }

    /// What was asked makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Usage, message: message.into() }
    }

    /// Something does not answer.
    pub(crate) fn unreachable(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Unreachable, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
