//! Which sockets a worker listens on, as the configuration says.
use crate::worker::{READ_MOST, STREAM_FROM, TOKEN_SPECIAL, Worker};

impl Worker {
    /// Watches the listeners of the configuration and no others.
    pub(crate) fn listen_anew(&mut self) {
        let config = self.config.clone();
        self.listening.retain(|(id, _)| config.binding(*id).is_some());
        if self.draining.is_some() || self.accept_again.is_some() {
            return;
        }
        for b in &config.bindings {
            let id = b.listener.id;
            if self.listening.iter().any(|(l, on)| *l == id && *on) {
                continue;
            }
            match self.poller.add_exclusive(&b.listener.fd, TOKEN_SPECIAL | u64::from(id)) {
                Ok(()) => {
                    self.listening.retain(|(l, _)| *l != id);
                    self.listening.push((id, true));
                }
                Err(e) => {
                    tracing::error!(listener = %b.listener.addr, error = %e, "cannot watch the listener");
                }
            }
        }
    }

    /// Stops watching every listener; what has arrived already is accepted first where `take` says so.
    pub(crate) fn listen_no_more(&mut self) {
        let config = self.config.clone();
        for (id, on) in &mut self.listening {
            if let Some(b) = config.binding(*id)
                && *on
            {
                let _ = self.poller.remove(&b.listener.fd);
            }
            *on = false;
        }
    }

    pub(crate) fn reload(&mut self) {
        let new = self.shared.config.load_full();
        // Sockets of removed listeners leave the epoll set before the last owner closes them.
        for (id, on) in &self.listening {
            if *on
                && new.binding(*id).is_none()
                && let Some(b) = self.config.binding(*id)
            {
                let _ = self.poller.remove(&b.listener.fd);
            }
        }
        self.config = new;
        self.fit_scratch();
        self.listen_anew();
        self.services.forget_removed(&self.config);
        self.review_destinations();
        self.review_demand();
        self.review_authorization();
        self.review_limits();
        self.prune_hosts();
        self.review_transports();
        self.shard.config_generation.set(self.config.generation as i64);
    }

    /// Sizes the scratch buffer for the largest head plus a full read.
    pub(crate) fn fit_scratch(&mut self) {
        let head = self.config.limits().max_header as usize + (64 << 10) + 4096;
        let want = READ_MOST + head.max(STREAM_FROM) + READ_MOST;
        if self.scratch.len() < want {
            self.scratch = vec![0; want];
        }
    }
}
