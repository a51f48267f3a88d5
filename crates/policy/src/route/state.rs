//! What a worker remembers to split requests exactly: counters of shares and of weighted destinations.
use crate::balance::fair::Turns;
use crate::rng::Rng;
use crate::route::plan::Slot;
use crate::snapshot::service::Service;
use std::collections::HashMap;

const WHOLE: u32 = 1_000_000;

/// One worker's counters for all services. A service without counted rules costs nothing.
#[derive(Debug, Default)]
pub struct RouteState {
    services: HashMap<u64, Counters, ahash::RandomState>,
}

#[derive(Debug)]
struct Counters {
    revision: u64,
    slots: Vec<Option<Counter>>,
}

/// Counter of one rule.
#[derive(Debug)]
pub(crate) struct Counter {
    /// Error diffusion: grows by the share per request; a whole one is a request taken.
    owed: u32,
    turns: Turns,
}

impl RouteState {
    /// Forgets services for which `known` is false; call it after a new snapshot if services come and go.
    pub fn retain(&mut self, known: impl Fn(u64) -> bool) {
        self.services.retain(|&id, _| known(id));
    }

    /// The counter of a rule. A new one starts at a random phase, so that the workers and sidecars of a
    /// fleet do not all take, or all leave, their first request.
    pub(crate) fn counter(
        &mut self,
        service: &Service,
        slot: &Slot,
        index: u32,
        rng: &mut Rng,
    ) -> &mut Counter {
        let fresh = || Counters { revision: service.revision, slots: Vec::new() };
        let counters = self.services.entry(service.id).or_insert_with(fresh);
        if counters.revision != service.revision {
            *counters = fresh();
        }
        if counters.slots.is_empty() {
            counters.slots.resize_with(service.plan.counters as usize, || None);
        }
        counters.slots[index as usize].get_or_insert_with(|| Counter {
            owed: rng.below(WHOLE),
            turns: Turns::new(slot.targets.iter().map(|t| t.weight), rng),
        })
    }
}

impl Counter {
    /// Whether this request is of the share: of any n requests in a row, n·share are, within 1.
    pub(crate) fn takes(&mut self, share_ppm: u32) -> bool {
        self.owed += share_ppm;
        let takes = self.owed >= WHOLE;
        if takes {
            self.owed -= WHOLE;
        }
        takes
    }

    /// Index of the destination whose turn it is; none if all weigh nothing.
    pub(crate) fn next_target(&mut self) -> Option<u32> {
        self.turns.next_turn()
    }
}
