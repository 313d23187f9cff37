//! A crash that forgets nothing: what clients see of one, before a gateway that goes on.

use std::io::{self, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::Result;

/// Passes connections on until they are cut, all at once.
pub(crate) struct Proxy {
    address: SocketAddr,
    open: Arc<Mutex<Open>>,
    accepting: Option<JoinHandle<()>>,
}

/// Both ends of every connection; none any more when the proxy does not listen.
#[derive(Default)]
struct Open(Option<Vec<TcpStream>>);

impl Proxy {
    /// Listens at `address` and passes on to `gateway`.
    pub(crate) fn listen(address: SocketAddr, gateway: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address)?;
        let open = Arc::new(Mutex::new(Open(Some(Vec::new()))));
        let accepted = Arc::clone(&open);
        let accepting = thread::spawn(move || {
            for client in listener.incoming() {
                // What cannot be passed on is closed, as by a gateway that ends.
                let passed = client.and_then(|client| pass(client, gateway, &accepted));
                if !matches!(passed, Ok(true) | Err(_)) {
                    return;
                }
            }
        });
        Ok(Self {
            address,
            open,
            accepting: Some(accepting),
        })
    }

    /// Cuts every connection and listens no more.
    pub(crate) fn cut(&mut self) {
        for stream in lock(&self.open).0.take().unwrap_or_default() {
            // Closed already is fine.
            let _ = stream.shutdown(Shutdown::Both);
        }
        // The thread that accepts looks up and sees that it is over.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Whether there is more to accept.
fn pass(client: TcpStream, gateway: SocketAddr, open: &Mutex<Open>) -> io::Result<bool> {
    let mut open = lock(open);
    let Some(streams) = &mut open.0 else {
        return Ok(false);
    };
    let server = TcpStream::connect(gateway)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    streams.push(client.try_clone()?);
    streams.push(server.try_clone()?);
    let back = (server.try_clone()?, client.try_clone()?);
    for (mut from, mut to) in [(client, server), back] {
        thread::spawn(move || {
            // Either end may close; the other one learns of it.
            let _ = copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
    Ok(true)
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
