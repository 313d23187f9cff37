//! A connection of TLS over TCP, as the event loop needs it: it reads and writes without waiting.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net;

use mio::net::TcpStream;
use rustls::ClientConnection;

/// Bytes that a read of the socket asks for: as many as one without TLS asks for.
const READ: usize = 64 * 1024;

pub(super) struct Tls {
    stream: TcpStream,
    session: ClientConnection,
    /// What has come and is not yet decrypted, from `taken` to `filled`.
    received: Box<[u8]>,
    taken: usize,
    filled: usize,
}

impl Tls {
    /// What is left when the handshake is done.
    pub(super) fn new(stream: net::TcpStream, mut session: ClientConnection) -> Self {
        // What waits is counted by whoever writes.
        session.set_buffer_limit(None);
        Self {
            stream: TcpStream::from_std(stream),
            session,
            received: vec![0; READ].into_boxed_slice(),
            taken: 0,
            filled: 0,
        }
    }

    pub(super) fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Fills the buffer, unless the socket is empty before; 0 bytes when the broker has closed.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        let mut is_emptied = false;
        loop {
            match self.session.reader().read(&mut into[length..]) {
                Ok(0) => return Ok(length),
                Ok(more) => length += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Closed without a farewell.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(length),
                Err(error) => return Err(error),
            }
            if length == into.len() {
                return Ok(length);
            }
            if self.taken == self.filled {
                if is_emptied {
                    return if length > 0 {
                        Ok(length)
                    } else {
                        Err(ErrorKind::WouldBlock.into())
                    };
                }
                self.taken = 0;
                self.filled = 0;
                match self.stream.read(&mut self.received) {
                    Ok(filled) => {
                        is_emptied = filled < self.received.len() && filled > 0;
                        self.filled = filled;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        is_emptied = true;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            let mut rest = &self.received[self.taken..self.filled];
            // At the end of the connection the session reads it, too.
            self.taken += self.session.read_tls(&mut rest)?;
            self.session
                .process_new_packets()
                .map_err(io::Error::other)?;
        }
    }

    /// Takes all of it, unless something still waits for the socket.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.push()?;
        if self.session.wants_write() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut length = 0;
        for slice in slices {
            self.session.writer().write_all(slice)?;
            length += slice.len();
        }
        self.push()?;
        Ok(length)
    }

    /// Writes what waits for the socket, as far as it takes it.
    pub(super) fn push(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
