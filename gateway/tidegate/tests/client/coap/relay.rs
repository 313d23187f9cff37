//! A way between a client and a server on which datagrams are lost, come twice, or come late.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What of a hundred datagrams is lost, comes twice, or comes after the next.
#[derive(Clone, Copy)]
pub(super) struct Weather {
    pub(super) lost: u32,
    pub(super) twice: u32,
    pub(super) late: u32,
}

pub(super) struct Relay {
    pub(super) address: SocketAddr,
    stop: Arc<AtomicBool>,
    lost: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

/// One way.
struct Way {
    weather: Weather,
    /// A fixed sequence that looks random (Numerical Recipes): the same losses every time, as far as the order of the
    /// datagrams is.
    state: u32,
    held: Option<Vec<u8>>,
}

impl Way {
    fn pass(&mut self, datagram: &[u8], lost: &AtomicU32, mut send: impl FnMut(&[u8])) {
        self.state = self
            .state
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let luck = (self.state >> 16) % 100;
        let Weather {
            lost: l,
            twice,
            late,
        } = self.weather;
        let held = self.held.take();
        if luck < l {
            lost.fetch_add(1, Ordering::Relaxed);
        } else if luck < l + twice {
            send(datagram);
            send(datagram);
        } else if luck < l + twice + late {
            self.held = Some(datagram.to_vec());
        } else {
            send(datagram);
        }
        if let Some(held) = held {
            send(&held);
        }
    }
}

impl Relay {
    pub(super) fn start(server: SocketAddr, weather: Weather) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let tick = Some(Duration::from_millis(1));
        socket.set_read_timeout(tick).unwrap();
        let (stop, lost) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (stopped, losses) = (Arc::clone(&stop), Arc::clone(&lost));
        let thread = std::thread::spawn(move || {
            let way = |state| Way {
                weather,
                state,
                held: None,
            };
            let mut clients: HashMap<SocketAddr, (UdpSocket, Way, Way)> = HashMap::new();
            let mut buffer = vec![0; 1 << 16];
            while !stopped.load(Ordering::Acquire) {
                if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let (there, up, _) = clients.entry(from).or_insert_with(|| {
                        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
                        there.connect(server).unwrap();
                        there.set_nonblocking(true).unwrap();
                        (there, way(1), way(2))
                    });
                    // Who is not there any more gets nothing.
                    up.pass(&buffer[..len], &losses, |it| drop(there.send(it)));
                }
                for (client, (there, _, down)) in &mut clients {
                    while let Ok(len) = there.recv(&mut buffer) {
                        down.pass(&buffer[..len], &losses, |it| {
                            drop(socket.send_to(it, *client));
                        });
                    }
                }
            }
        });
        Self {
            address,
            stop,
            lost,
            thread: Some(thread),
        }
    }

    pub(super) fn url(&self) -> String {
        self.url_of("coap")
    }

    pub(super) fn url_of(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    pub(super) fn lost(&self) -> u32 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
