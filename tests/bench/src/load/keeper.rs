//! Connections of QUIC on which nothing is to happen.
//!
//! Over TCP the kernel answers for a client that does nothing. Over QUIC the client itself acknowledges what the
//! broker still sends after a handshake (tickets, identifiers, probes of the path), and without that the broker
//! would send it again and again. So a thread does what a client's own task would.

use std::io::{self, ErrorKind};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use mio::{Events, Poll, Token};

use super::quic::Quic;

/// How often new connections are taken.
const STEP: Duration = Duration::from_millis(5);

/// Keeps connections until it ends.
pub(super) struct Keeper {
    sender: Sender<Box<Quic>>,
    thread: JoinHandle<Result<usize>>,
}

impl Keeper {
    pub(super) fn new() -> Result<Self> {
        let poll = Poll::new().context("epoll")?;
        let (sender, new) = mpsc::channel();
        let thread = thread::Builder::new().spawn(move || run(poll, &new));
        Ok(Self {
            sender,
            thread: thread.context("a thread")?,
        })
    }

    /// Keeps one more.
    pub(super) fn keep(&self, quic: Box<Quic>) {
        // The thread that is gone has failed, which the end tells.
        let _ = self.sender.send(quic);
    }

    /// Closes all; how many the broker had closed before.
    pub(super) fn end(self) -> Result<usize> {
        drop(self.sender);
        let ended = self.thread.join();
        ended.map_err(|_panic| anyhow!("the thread of QUIC's connections has panicked"))?
    }
}

struct Kept {
    quic: Box<Quic>,
    deadline: Option<Instant>,
    /// Whether the broker has closed it.
    is_closed: bool,
}

fn run(mut poll: Poll, new: &Receiver<Box<Quic>>) -> Result<usize> {
    let mut events = Events::with_capacity(1_024);
    let mut all: Vec<Kept> = Vec::new();
    loop {
        match poll.poll(&mut events, Some(STEP)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
            other => other.context("epoll")?,
        }
        for event in &events {
            let Token(index) = event.token();
            all[index].act(Quic::rest);
        }
        let now = Instant::now();
        for kept in &mut all {
            if kept.deadline.is_some_and(|deadline| deadline <= now) {
                kept.act(|quic| quic.on_time(now).and_then(|_| quic.transmit()));
            }
        }
        loop {
            match new.try_recv() {
                Ok(quic) => {
                    let token = Token(all.len());
                    quic.register(poll.registry(), token)?;
                    let mut kept = Kept {
                        quic,
                        deadline: None,
                        is_closed: false,
                    };
                    kept.act(Quic::rest);
                    all.push(kept);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Ok(all.iter().filter(|kept| kept.is_closed).count());
                }
            }
        }
    }
}

impl Kept {
    fn act(&mut self, act: impl FnOnce(&mut Quic) -> io::Result<()>) {
        if !self.is_closed {
            self.is_closed = act(&mut self.quic).is_err();
            self.deadline = self.quic.deadline();
        }
    }
}
