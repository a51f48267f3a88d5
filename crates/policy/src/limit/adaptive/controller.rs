//! The part that decides, once a second.
use super::board::Board;
use super::{Event, Sample, View};
use raddle_core::Time;
use raddle_model::{AdaptiveSettings, RuleMode};
use std::sync::Arc;

/// The part that decides, once a second.
#[derive(Debug)]
pub struct Controller {
    board: Arc<Board>,
    settings: AdaptiveSettings,
}

impl Controller {
    /// A controller of this board.
    pub fn new(board: Arc<Board>, settings: &AdaptiveSettings) -> Controller {
        Controller { board, settings: settings.clone() }
    }

    /// Goes on with other settings; what was learned stays. [`AdaptiveSettings::max_interfaces`] and
    /// [`AdaptiveSettings::by`] mean another board.
    pub fn configure(&mut self, settings: &AdaptiveSettings) {
        self.board.set_observe(settings.mode == RuleMode::Observe);
        self.settings = settings.clone();
    }

    /// Decides for the next second. `sample` is absent if nothing could be read. Minutes of the week since some Monday
    /// are `week_minute`, for what is usual at this time of the week; absent = not known.
    pub fn tick(&mut self, now: Time, week_minute: Option<u32>, sample: Option<&Sample>) -> Vec<Event> {
        let _ = (now, week_minute, sample, &self.settings);
        Vec::new()
    }

    /// What it knows and does.
    pub fn view(&self) -> View {
        View { observe: self.board.observes(), interfaces: self.board.interfaces(), ..View::default() }
    }
}
