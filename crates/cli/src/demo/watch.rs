//! Looks at the mesh once a second and puts what it sees on the board.
use super::board::{Board, Mood, Second};
use super::probe::{clusters, stats};
use super::traffic::Tally;
use crate::commands::status::answer::Endpoint;
use raddle_bench::cpu;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The thread that looks.
pub(super) struct Watch {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(admins: Vec<SocketAddr>, board: Arc<Board>, tally: Arc<Mutex<Tally>>) -> Watch {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut eye = Eye { admins, board, tally, last: Instant::now(), before: HashMap::new() };
            let mut due = Instant::now() + Duration::from_secs(1);
            while let Err(RecvTimeoutError::Timeout) =
                stopped.recv_timeout(due.saturating_duration_since(Instant::now()))
            {
                eye.look();
                // The next whole second, even if the look took longer.
                while due <= Instant::now() {
                    due += Duration::from_secs(1);
                }
            }
        });
        Watch { stop, thread }
    }

    pub(super) fn finish(self) {
        drop(self.stop);
        // A thread that panicked has nothing left to stop.
        let _ = self.thread.join();
    }
}

struct Eye {
    admins: Vec<SocketAddr>,
    board: Arc<Board>,
    tally: Arc<Mutex<Tally>>,
    last: Instant,
    /// Requests by endpoint at the last look.
    before: HashMap<String, u64>,
}

impl Eye {
    fn look(&mut self) {
        let endpoints = self.endpoints();
        let generations: Vec<_> =
            self.admins.iter().map(|a| stats(*a).map(|s| s.config.generation)).collect();
        let seconds = self.last.elapsed().as_secs_f64().max(1e-3);
        self.last = Instant::now();
        let mut tally = Tally::lock(&self.tally);
        let window = tally.take_window();
        let second = Second {
            ok: window.ok as f64 / seconds,
            failed: window.failed,
            p50: window.at(0.5),
            p99: window.at(0.99),
            max: window.at(1.0),
        };
        let mut view = self.board.edit();
        view.push_second(second);
        (view.sent, view.ok, view.expected) = (tally.sent, tally.ok, tally.expected);
        view.failed.clone_from(&tally.failed);
        drop(tally);
        for (shop, generation) in view.shops.iter_mut().zip(generations) {
            shop.generation = generation.unwrap_or(shop.generation);
        }
        let mut sum = 0.0;
        let mut turned = Vec::new();
        for instance in &mut view.instances {
            instance.memory = instance.pid.and_then(cpu::resident);
            let Some(now) = endpoints.get(&instance.address) else { continue };
            let before = self.before.get(&instance.address).copied().unwrap_or(0);
            let new = now.requests.saturating_sub(before);
            // The first second is no change, and a stray request is none either.
            match (instance.per_second > 5.0, new > 10) {
                _ if self.before.is_empty() => {}
                (true, _) if new == 0 => {
                    turned.push((Mood::Act, format!("{} gets no requests", instance.name)));
                }
                (false, true) => turned.push((Mood::Good, format!("{} gets requests", instance.name))),
                _ => {}
            }
            instance.per_second = new as f64 / seconds;
            instance.requests = now.requests;
            instance.weight = now.weight;
            instance.state.clone_from(&now.state);
            sum += instance.per_second;
        }
        for instance in &mut view.instances {
            instance.share = if sum > 0.0 { instance.per_second / sum } else { 0.0 };
        }
        drop(view);
        for (mood, text) in turned {
            self.board.note(mood, text);
        }
        self.before = endpoints.into_iter().map(|(address, e)| (address, e.requests)).collect();
    }

    /// Endpoints by address: requests added up, the rest in the words of the last sidecar.
    fn endpoints(&self) -> HashMap<String, Endpoint> {
        let mut found: HashMap<String, Endpoint> = HashMap::new();
        for mut endpoint in clusters(&self.admins).into_iter().flat_map(|c| c.endpoints) {
            endpoint.requests += found.get(&endpoint.address).map_or(0, |e| e.requests);
            if endpoint.health == "unhealthy" || endpoint.state.is_empty() {
                endpoint.state.clone_from(&endpoint.health);
            }
            found.insert(endpoint.address.clone(), endpoint);
        }
        found
    }
}
