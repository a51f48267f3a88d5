//! The subcommands, one a file: arguments, help, and what they print.
pub(crate) mod bench;
pub(crate) mod capture;
pub(crate) mod check;
pub(crate) mod control;
pub(crate) mod explain;
pub(crate) mod flags;
pub(crate) mod mesh;
pub(crate) mod proxy;
pub(crate) mod sim;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod tools;

use crate::exit::Failure;
use crate::http;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a sidecar's admin port may take to answer.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Keeps the kernel from writing this process's memory into a core dump, and other processes of its user from reading
/// it: private keys are in it, and nowhere else.
pub(crate) fn hide_memory() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // Where the kernel does not know it, nothing is worse than before.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Asks a sidecar's admin port; the text of its answer.
///
/// # Errors
/// When it cannot be reached, or answers with an error.
pub(crate) fn ask(admin: SocketAddr, path: &str) -> Result<String, Failure> {
    accepted(admin, path, reach(admin, path)?)
}

/// Asks a sidecar's admin port; whatever it answers.
///
/// # Errors
/// When it cannot be reached.
pub(crate) fn reach(admin: SocketAddr, path: &str) -> Result<http::Answer, Failure> {
    http::get(admin, path, ADMIN_TIMEOUT).map_err(|e| {
        Failure::unreachable(format!(
            "cannot reach the sidecar's admin port {admin}: {e}\n\
             Is one running, with `admin: {admin}` in its Sidecar document? Name another with --admin."
        ))
    })
}

/// The text of an answer that is no error.
///
/// # Errors
/// When it is one.
pub(crate) fn accepted(admin: SocketAddr, path: &str, answer: http::Answer) -> Result<String, Failure> {
    match answer.status {
        200 => Ok(answer.body),
        status => {
            let says = answer.body.trim();
            Err(Failure::new(format!("{admin} answered {status} for {path}: {says}")))
        }
    }
}

/// Reads a sidecar's JSON.
///
/// # Errors
/// When it is not what this version understands.
pub(crate) fn understand<T: DeserializeOwned>(admin: SocketAddr, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|e| Failure::new(format!("{admin}: this raddle does not understand the answer: {e}")))
}

/// Ends the process when standard input ends: a child that was given a pipe does not outlive its parent,
/// however that died.
pub(crate) fn exit_with_stdin() {
    std::thread::spawn(|| {
        // What is read means nothing, and an error is an end too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(1);
    });
}
