//! The demo on a screen: the user's keys act.
use super::board::{Board, Mood};
use super::mesh::Mesh;
use super::screen;
use crate::exit::Failure;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Kill,
    Restart,
    Weights,
    Canary,
    Reload,
    Harm,
    Control,
    Quit,
}

/// Keys, what they do, and how the screen names it.
pub(super) const KEYS: [(char, Action, &str); 8] = [
    ('k', Action::Kill, "kill -9"),
    ('r', Action::Restart, "restart"),
    ('w', Action::Weights, "weights"),
    ('g', Action::Canary, "canary 10 %"),
    ('l', Action::Reload, "20 revisions"),
    ('h', Action::Harm, "harmful rule"),
    ('c', Action::Control, "control plane off/on"),
    ('q', Action::Quit, "quit"),
];

/// Shows the board and does what keys say until `q`, Ctrl-C, a signal, or the end of `duration`.
pub(super) fn run(
    mesh: &mut Mesh,
    board: &Board,
    duration: Option<Duration>,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let end = duration.map(|d| Instant::now() + d);
    // Actions wait for processes; the screen must not. The sender goes with the screen, even if that
    // panics, and the scope waits until the actor has ended for it.
    let shown = std::thread::scope(|scope| {
        let (actions, todo) = mpsc::channel();
        scope.spawn(move || act(mesh, board, &todo));
        show(board, end, stop, actions)
    });
    shown.map_err(|e| Failure::new(format!("the screen: {e}")))
}

fn act(mesh: &mut Mesh, board: &Board, todo: &mpsc::Receiver<Action>) {
    loop {
        let done = match todo.recv_timeout(Duration::from_secs(1)) {
            Ok(Action::Kill) => {
                mesh.kill();
                Ok(())
            }
            Ok(Action::Restart) => mesh.restart(),
            Ok(Action::Weights) => mesh.shift_weights(None),
            Ok(Action::Canary) => mesh.set_canary(!mesh.canary()),
            Ok(Action::Reload) => mesh.reload_storm(20),
            Ok(Action::Harm) => mesh.harm(),
            Ok(Action::Control) => mesh.toggle_control(),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(Action::Quit) | Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Err(failure) = done {
            board.note(Mood::Bad, failure.to_string());
        }
        mesh.look_after();
    }
}

/// The terminal as it was, whatever happens: ratatui's panic hook restores it too.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn show(
    board: &Board,
    end: Option<Instant>,
    stop: &AtomicBool,
    actions: mpsc::Sender<Action>,
) -> std::io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let _restore = Restore;
    let look = screen::Look::of_terminal();
    while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        let view = board.view();
        terminal.draw(|frame| screen::draw(frame, &view, look))?;
        if !event::poll(Duration::from_millis(200))? {
            continue;
        }
        let Event::Key(key) = event::read()? else { continue };
        match action(key) {
            Some(Action::Quit) => break,
            // The actor ends only with this sender.
            Some(action) => drop(actions.send(action)),
            None => {}
        }
    }
    Ok(())
}

fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Action::Quit),
        KeyCode::Esc => Some(Action::Quit),
        KeyCode::Char(c) => KEYS.iter().find(|(k, ..)| *k == c.to_ascii_lowercase()).map(|(_, a, _)| *a),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_what_the_screen_says_and_ctrl_c_quits() {
        for (key, expected, _) in KEYS {
            assert_eq!(action(KeyEvent::from(KeyCode::Char(key))), Some(expected));
        }
        assert_eq!(action(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Action::Quit));
        assert_eq!(action(KeyEvent::from(KeyCode::Char('x'))), None);
    }
}
