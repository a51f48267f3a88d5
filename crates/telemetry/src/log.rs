//! The process log: to standard error, its level changeable while the process runs.
use crate::Format;
use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::sync::Arc;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt as format, reload};

/// Changes what is logged.
#[derive(Clone)]
pub struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
    text: Arc<std::sync::Mutex<String>>,
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogHandle").field(&self.level()).finish()
    }
}

/// Why the log could not be set up or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// The text is no level; it holds the part that is wrong.
    Level(String),
    /// A log was set up in this process before.
    AlreadySet,
    /// The log is gone.
    Gone,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Level(part) => write!(
                f,
                "log level: {part:?} is neither a level (off, error, warn, info, debug, trace) nor module=level"
            ),
            LogError::AlreadySet => f.write_str("the log is already set up"),
            LogError::Gone => f.write_str("the log is no longer in use"),
        }
    }
}

impl std::error::Error for LogError {}

/// Sets up the process's log on standard error.
///
/// `level` is a level, or several parts with commas between: `info,raddle_proxy=debug`. Lines are
/// coloured only on a terminal, and not if `NO_COLOR` is set (<https://no-color.org>).
///
/// # Errors
/// If the level does not parse or the process has a log already.
pub fn init_log(level: &str, format: Format) -> Result<LogHandle, LogError> {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let lines = lines(format, colour, io::stderr);
    let log = tracing_subscriber::registry().with(filter).with(lines);
    log.try_init().map_err(|_| LogError::AlreadySet)?;
    Ok(LogHandle::new(handle, level))
}

/// The layer that writes lines.
fn lines<S, W>(format: Format, colour: bool, to: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> format::MakeWriter<'a> + Send + Sync + 'static,
{
    match format {
        Format::Text => format::layer().with_ansi(colour).with_writer(to).boxed(),
        Format::Json => format::layer().json().flatten_event(true).with_ansi(false).with_writer(to).boxed(),
    }
}

impl LogHandle {
    fn new(filter: reload::Handle<Targets, Registry>, level: &str) -> LogHandle {
        LogHandle { filter, text: Arc::new(std::sync::Mutex::new(level.to_owned())) }
    }

    /// Logs at another level from now on; on an error, at the same as before.
    ///
    /// # Errors
    /// If the level does not parse.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let targets = parse(level)?;
        self.filter.reload(targets).map_err(|_| LogError::Gone)?;
        level.clone_into(&mut self.text.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        Ok(())
    }

    /// The level, as it was last set.
    pub fn level(&self) -> String {
        self.text.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// Parses a level text. `Targets`' own parser takes a misspelt level for the name of a module and then
/// logs nothing else, so that is refused here.
fn parse(text: &str) -> Result<Targets, LogError> {
    let bad = |part: &str| LogError::Level(part.to_owned());
    text.split(',').map(str::trim).try_fold(Targets::new(), |targets, part| match part.split_once('=') {
        Some((module, level)) if !module.is_empty() => {
            Ok(targets.with_target(module, level_of(level).ok_or_else(|| bad(part))?))
        }
        Some(_) => Err(bad(part)),
        None => Ok(targets.with_default(level_of(part).ok_or_else(|| bad(part))?)),
    })
}

fn level_of(word: &str) -> Option<LevelFilter> {
    word.chars()
        .all(|c| c.is_ascii_alphabetic())
        .then(|| LevelFilter::from_str(word).ok())?
        .filter(|_| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A writer that keeps what it is given.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("utf-8")
        }
    }

    fn log(level: &str, format: Format) -> (Kept, LogHandle, impl tracing::Subscriber) {
        let kept = Kept::default();
        let (filter, handle) = reload::Layer::new(parse(level).expect("valid level"));
        let writer = kept.clone();
        let log =
            tracing_subscriber::registry().with(filter).with(lines(format, false, move || writer.clone()));
        (kept, LogHandle::new(handle, level), log)
    }

    #[test]
    fn a_misspelt_level_is_refused_and_named() {
        for text in ["inof", "", "info,", "raddle_proxy=loud", "=info", "info=", "7"] {
            assert!(matches!(parse(text), Err(LogError::Level(_))), "{text:?} was taken");
        }
        for text in ["info", "WARN", "off", "info,raddle_proxy=debug", "error, raddle_net=trace"] {
            assert!(parse(text).is_ok(), "{text:?} was refused");
        }
    }

    #[test]
    fn the_level_changes_while_the_process_runs() {
        let (kept, handle, log) = log("warn", Format::Text);
        tracing::subscriber::with_default(log, || {
            tracing::info!("first");
            handle.set_level("info").expect("valid");
            tracing::info!("second");
            assert!(handle.set_level("loud").is_err());
            tracing::info!("third");
        });
        let text = kept.text();
        assert!(!text.contains("first") && text.contains("second") && text.contains("third"), "{text}");
        assert_eq!(handle.level(), "info");
        assert!(!text.contains('\u{1b}'), "coloured without a terminal");
    }

    #[test]
    fn json_lines_are_json() {
        let (kept, _, log) = log("info", Format::Json);
        tracing::subscriber::with_default(log, || tracing::info!(port = 80, "listening"));
        let line: serde_json::Value = serde_json::from_str(kept.text().trim()).expect("json");
        assert_eq!((&line["message"], &line["port"]), (&"listening".into(), &80.into()));
    }
}
