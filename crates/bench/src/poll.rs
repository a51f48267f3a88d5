//! A thin, safe epoll wrapper: level-triggered, one token per socket.
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, OwnedFd};
use std::io;
use std::time::Duration;

/// What a socket is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Bytes to read.
    Read,
    /// Room to write.
    Write,
    /// Both.
    Both,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Interest::Read => EventFlags::IN | EventFlags::RDHUP,
            Interest::Write => EventFlags::OUT,
            Interest::Both => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP,
        }
    }
}

/// One ready socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// The token it was added with.
    pub(crate) token: u64,
    /// Reading would not block (bytes, end of stream, or an error to pick up).
    pub(crate) readable: bool,
    /// Writing would not block.
    pub(crate) writable: bool,
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}

/// An epoll instance and its event buffer.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    /// A new instance returning up to `capacity` sockets a turn.
    pub(crate) fn new(capacity: usize) -> io::Result<Poll> {
        Ok(Poll { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(capacity) })
    }

    /// Watches `fd`; its events carry `token`.
    pub(crate) fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(token), interest.flags())?)
    }

    /// Changes what `fd` is watched for.
    pub(crate) fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, EventData::new_u64(token), interest.flags())?)
    }

    /// Waits for events, at most `timeout`; returns how many there are.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        self.events.clear();
        let timeout =
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(n) => Ok(n),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(e) => Err(e.into()),
        }
    }

    /// As [`Poll::wait`], but the timeout is kept to the nanosecond instead of rounded up to a millisecond.
    ///
    /// `epoll_wait` counts in milliseconds, so it is `ppoll` on the epoll descriptor that waits: one more
    /// system call.
    pub(crate) fn wait_precisely(&mut self, timeout: Duration) -> io::Result<usize> {
        if !timeout.is_zero() {
            let time = timespec(timeout);
            let mut fds = [PollFd::new(&self.epoll, PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&time)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {
                    self.events.clear();
                    return Ok(0);
                }
                Ok(_) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.wait(Duration::ZERO)
    }

    /// The `index`-th event of the last [`Poll::wait`].
    pub(crate) fn ready(&self, index: usize) -> Ready {
        let event = self.events[index];
        let flags = event.flags;
        let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP | EventFlags::RDHUP);
        Ready {
            token: event.data.u64(),
            readable: failed || flags.contains(EventFlags::IN),
            writable: failed || flags.contains(EventFlags::OUT),
        }
    }
}
