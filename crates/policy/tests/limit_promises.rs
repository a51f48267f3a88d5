//! What adaptive limiting promises whatever happens: board, gates and controller as the proxy uses them.
mod limit_common;
use limit_common::app::*;
use proptest::prelude::*;
use raddle_policy::limit::adaptive::{Sample, View};

/// Something that happens to the app.
#[derive(Clone, Debug)]
enum Turn {
    /// So many times as much is asked of an interface as usual.
    Surge(usize, f64),
    /// An interface's requests cost so many times as much as usual.
    Dear(usize, f64),
    /// They wait for others so much longer.
    Waits(usize, f64),
    /// The app has this part of its cores.
    Cores(f64),
    /// This part of all is load-test traffic, on top.
    Tests(f64),
    /// This part of the memory is in use.
    Memory(f64),
    /// No sample comes.
    Blind,
    /// Samples are told so many times what is true.
    Wrong(f64),
    /// As usual.
    Usual,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        3 => (0..12usize, 2.0..40.0).prop_map(|(i, f)| Turn::Surge(i, f)),
        2 => (0..12usize, 2.0..30.0).prop_map(|(i, f)| Turn::Dear(i, f)),
        1 => (0..12usize, 0.01..3.0).prop_map(|(i, s)| Turn::Waits(i, s)),
        1 => (0.2..1.0).prop_map(Turn::Cores),
        1 => (0.1..2.0).prop_map(Turn::Tests),
        1 => (0.3..1.0).prop_map(Turn::Memory),
        1 => Just(Turn::Blind),
        1 => (0.5..2.0).prop_map(Turn::Wrong),
        2 => Just(Turn::Usual),
    ]
}

/// A life: what happens, each for some seconds.
fn life() -> impl Strategy<Value = Vec<(Turn, u32)>> {
    prop::collection::vec((turn(), 2..25u32), 1..7)
}

/// Lives a life; calls with what was in force in each second and what was decided at its end.
struct World {
    app: App,
    usual: Vec<Asked>,
    cores: f64,
    memory: Option<f64>,
    blind: bool,
    wrong: f64,
    view: View,
    judge: Judge,
}

impl World {
    fn new(workers: usize, seed: u64, part: f64) -> World {
        let usual = usual(12, 4.0, part);
        let mut app = App::new(&usual, 4.0, workers, seed);
        app.chance = true;
        let view = app.controller.view();
        World {
            app,
            usual,
            cores: 4.0,
            memory: None,
            blind: false,
            wrong: 1.0,
            view,
            judge: Judge::default(),
        }
    }

    fn happens(&mut self, turn: &Turn) {
        let kinds = &mut self.app.kinds;
        match *turn {
            Turn::Surge(i, factor) => kinds[i].rate = self.usual[i].rate * factor,
            Turn::Dear(i, factor) => kinds[i].cost = self.usual[i].cost * factor,
            Turn::Waits(i, more) => kinds[i].io = self.usual[i].io + more,
            Turn::Cores(part) => self.app.cores = self.cores * part,
            Turn::Tests(part) => kinds.iter_mut().zip(&self.usual).for_each(|(k, u)| {
                k.rate = u.rate * (1.0 + part);
                k.mix[0] = part;
            }),
            Turn::Memory(part) => self.memory = Some(part),
            Turn::Blind => self.blind = true,
            Turn::Wrong(factor) => self.wrong = factor,
            Turn::Usual => {
                kinds.copy_from_slice(&self.usual);
                (self.memory, self.blind, self.wrong, self.app.cores) = (None, false, 1.0, self.cores);
            }
        }
    }

    fn second(&mut self) -> Result<(), TestCaseError> {
        let truth = self.app.serve();
        let sample = Sample { cpu: truth.cpu * self.wrong, memory: self.memory, ..truth };
        let after = self.app.tick(Some(&sample).filter(|_| !self.blind));
        let before = std::mem::replace(&mut self.view, after);
        self.judge.second(&self.app, &before, &self.view)
    }

    fn seconds(&mut self, n: u32) -> Result<(), TestCaseError> {
        (0..n).try_for_each(|_| self.second())
    }
}

proptest! {
    #![proptest_config(seeded(48))]

    /// Idle: only the guard refuses. Tier 1: nobody outside the set is held, what is usual fits, and all allocations
    /// fit in the room. Load tests go first. The trim's steps are small. A minute of calm ends it.
    #[test]
    fn whatever_happens_every_second_keeps_what_is_promised(
        seed in any::<u64>(), workers in 1usize..5, part in 0.3..0.7f64, before in 20u32..60, life in life(),
    ) {
        let mut world = World::new(workers, seed, part);
        world.seconds(before)?;
        for (turn, seconds) in &life {
            world.happens(turn);
            world.seconds(*seconds)?;
        }
    }

    /// From wherever it got to, little load for a minute ends it, and then nobody is refused any more.
    #[test]
    fn little_load_for_a_minute_ends_it_from_any_state(
        seed in any::<u64>(), workers in 1usize..4, life in life(), quiet in 0.0..0.5f64,
    ) {
        let mut world = World::new(workers, seed, 0.6);
        world.seconds(30)?;
        for (turn, seconds) in &life {
            world.happens(turn);
            world.seconds(*seconds)?;
        }
        world.happens(&Turn::Usual);
        world.app.kinds.iter_mut().for_each(|k| k.rate *= quiet);
        // What is queued must be worked off first.
        let mut waited = 0;
        loop {
            world.second()?;
            if calm(&world.view.level) {
                break;
            }
            waited += 1;
            if waited == 100 {
                world.app.restart();
            }
            prop_assert!(waited < 300, "the queue is never worked off: {:?}", world.view.level);
        }
        world.seconds(62)?;
        prop_assert!(!world.view.active, "{:?} {:?}", world.view.level, world.view.culprits);
        for _ in 0..5 {
            world.second()?;
            prop_assert_eq!(world.app.all().refused, [[0; 4]; 4]);
        }
    }
}
