//! epoll, level-triggered, one per worker.
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Bytes to read, or the peer's end of stream.
    pub read: bool,
    /// Room to write.
    pub write: bool,
}

impl Interest {
    /// Reading only.
    pub const READ: Interest = Interest { read: true, write: false };
    /// Writing only.
    pub const WRITE: Interest = Interest { read: false, write: true };
    /// Neither: only errors and hang-ups are reported.
    pub const NONE: Interest = Interest { read: false, write: false };

    fn flags(self) -> epoll::EventFlags {
        let mut f = epoll::EventFlags::empty();
        if self.read {
            f |= epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        }
        if self.write {
            f |= epoll::EventFlags::OUT;
        }
        f
    }
}

/// One readiness report.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The token given at registration.
    pub token: u64,
    /// A read will not block (bytes, end of stream or an error).
    pub readable: bool,
    /// A write will not block (room or an error).
    pub writable: bool,
    /// Both directions are closed, or the socket is in error: no byte will ever move again.
    pub dead: bool,
}

/// A level-triggered epoll set.
pub struct Poller {
    fd: OwnedFd,
}

/// Room for the events of one wait; belongs to the waiting thread.
pub struct EventBuf {
    raw: Vec<epoll::Event>,
}

impl EventBuf {
    /// Room for `most` events a wait.
    pub fn new(most: usize) -> EventBuf {
        EventBuf { raw: Vec::with_capacity(most) }
    }
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// What `epoll_create1` says, e.g. out of descriptors.
    pub fn new() -> io::Result<Poller> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Poller { fd })
    }

    /// Watches `fd`; its events carry `token`. A descriptor leaves the set when it is closed.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.fd, fd, epoll::EventData::new_u64(token), interest.flags())?)
    }

    /// Watches `fd` so that one of several workers is woken, not all.
    pub fn add_exclusive(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        Ok(epoll::add(&self.fd, fd, epoll::EventData::new_u64(token), flags)?)
    }

    /// Changes what `fd` is watched for.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.fd, fd, epoll::EventData::new_u64(token), interest.flags())?)
    }

    /// Stops watching `fd`.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    /// Waits until something is ready or `timeout` is over (`None` = for ever) and fills `events`.
    pub fn wait(
        &self,
        buf: &mut EventBuf,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        events.clear();
        buf.raw.clear();
        let ts = timeout
            .map(|d| Timespec { tv_sec: d.as_secs() as i64, tv_nsec: i64::from(d.subsec_nanos()) as _ });
        match epoll::wait(&self.fd, rustix::buffer::spare_capacity(&mut buf.raw), ts.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        events.extend(buf.raw.iter().map(|e| {
            let f = e.flags;
            let dead = f.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
            Event {
                token: e.data.u64(),
                readable: dead || f.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP),
                writable: dead || f.contains(epoll::EventFlags::OUT),
                dead,
            }
        }));
        Ok(())
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Wakes a worker from another thread.
#[derive(Clone, Debug)]
pub struct Waker {
    fd: Arc<OwnedFd>,
}

impl Waker {
    /// A waker whose events carry `token` in `poller`.
    pub fn new(poller: &Poller, token: u64) -> io::Result<Waker> {
        let fd = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        poller.add(&*fd, token, Interest::READ)?;
        Ok(Waker { fd })
    }

    /// Makes the worker's wait return. Cheap to repeat; wakes add up to one event.
    pub fn wake(&self) {
        // It fails only when the counter is full: then a wake-up is pending anyway.
        let _ = rustix::io::write(&*self.fd, &1u64.to_ne_bytes());
    }

    /// Takes the pending wake-ups; to be called by the worker when its event comes.
    pub fn drain(&self) {
        let mut b = [0u8; 8];
        let _ = rustix::io::read(&*self.fd, &mut b);
    }
}
