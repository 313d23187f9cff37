//! Bytes over whatever carries MQTT, with a limit on every wait.
//!
//! Over WebSocket each write is one binary message, and what is read is the messages' content: where
//! one message ends does not matter (MQTT 5.0 section 6.0).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tungstenite::client::ClientRequestBuilder;
use tungstenite::http::Uri;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Bytes, Error, HandshakeError, Message, WebSocket};

use super::client::PATIENCE;
use crate::server::{Server, Transport};

/// A connection that MQTT's bytes go through.
pub struct Stream {
    carrier: Carrier,
}

enum Carrier {
    Bytes(Bare),
    WebSocket(Box<Messages>),
}

/// TCP, or TLS over it.
enum Bare {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

struct Messages {
    socket: WebSocket<Bare>,
    /// What is left of the last message.
    rest: Bytes,
    close_code: Option<u16>,
}

impl Stream {
    /// Connects and completes the handshakes.
    pub(crate) fn connect(server: &Server) -> io::Result<Self> {
        if server.transport == Transport::Quic {
            return Self::over(Bare::Tcp(crate::quic::connect(server)?), server);
        }
        let tcp = TcpStream::connect_timeout(&server.address, PATIENCE)?;
        Self::handshake(tcp, server)
    }

    /// The handshakes over a TCP connection that is open already.
    ///
    /// # Errors
    ///
    /// What TLS (as a [`rustls::Error`] inside) or WebSocket say.
    pub fn handshake(tcp: TcpStream, server: &Server) -> io::Result<Self> {
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let bare = if server.transport.is_encrypted() {
            let config = server.tls.clone().ok_or_else(|| {
                io::Error::other("a server with TLS needs Server::trusting in a test")
            })?;
            Bare::Tls(Box::new(tls(tcp, config, &server.name)?))
        } else {
            Bare::Tcp(tcp)
        };
        Self::over(bare, server)
    }

    /// What is left is WebSocket, if it is spoken there.
    fn over(bare: Bare, server: &Server) -> io::Result<Self> {
        let tcp = match &bare {
            Bare::Tcp(tcp) => tcp,
            Bare::Tls(tls) => &tls.sock,
        };
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let carrier = if server.transport.is_websocket() {
            Carrier::WebSocket(Box::new(Messages::open(bare, server)?))
        } else {
            Carrier::Bytes(bare)
        };
        Ok(Self { carrier })
    }

    fn bare(&self) -> &Bare {
        match &self.carrier {
            Carrier::Bytes(bare) => bare,
            Carrier::WebSocket(messages) => messages.socket.get_ref(),
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self.bare() {
            Bare::Tcp(tcp) => tcp,
            Bare::Tls(tls) => &tls.sock,
        }
    }

    /// What TLS has agreed on, if there is TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&ClientConnection> {
        match self.bare() {
            Bare::Tcp(_) => None,
            Bare::Tls(tls) => Some(&tls.conn),
        }
    }

    /// The TLS session alone, for whoever goes on without this: its socket must be at hand already.
    #[must_use]
    pub fn into_tls(self) -> Option<ClientConnection> {
        match self.carrier {
            Carrier::Bytes(Bare::Tls(tls)) => Some(tls.conn),
            Carrier::Bytes(Bare::Tcp(_)) | Carrier::WebSocket(_) => None,
        }
    }

    /// The code with which the server closed a WebSocket.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        match &self.carrier {
            Carrier::Bytes(_) => None,
            Carrier::WebSocket(messages) => messages.close_code,
        }
    }

    /// Reads what is there, or waits for it; 0 bytes when the server has closed.
    ///
    /// # Errors
    ///
    /// What TCP, TLS (as a [`rustls::Error`] inside) or WebSocket say; `WouldBlock` or `TimedOut` if
    /// nothing came.
    pub fn read(&mut self, chunk: &mut [u8], within: Duration) -> io::Result<usize> {
        self.tcp().set_read_timeout(Some(within))?;
        match &mut self.carrier {
            Carrier::Bytes(bare) => bare.read(chunk),
            Carrier::WebSocket(messages) => messages.read(chunk),
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// What TCP, TLS or WebSocket say.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.carrier {
            Carrier::Bytes(bare) => {
                bare.write_all(bytes)?;
                bare.flush()
            }
            Carrier::WebSocket(messages) => {
                let message = Message::binary(Bytes::copy_from_slice(bytes));
                messages.socket.send(message).map_err(failure)
            }
        }
    }

    /// Ends the TCP connection, with no farewell of whatever is above it.
    pub(super) fn cut(&self) -> io::Result<()> {
        self.tcp().shutdown(Shutdown::Both)
    }

    /// Says that no more bytes will come, where there is such a word.
    pub(super) fn half_close(&mut self) -> io::Result<()> {
        match &mut self.carrier {
            Carrier::Bytes(Bare::Tcp(tcp)) => tcp.shutdown(Shutdown::Write),
            Carrier::Bytes(Bare::Tls(tls)) => {
                tls.conn.send_close_notify();
                tls.flush()?;
                tls.sock.shutdown(Shutdown::Write)
            }
            Carrier::WebSocket(_) => Err(io::Error::other("WebSocket knows no half-close")),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        // Options: a socket that refuses them is gone, which the first read or write tells.
        let _ = tcp.set_nodelay(true);
        let _ = tcp.set_write_timeout(Some(PATIENCE));
        Self {
            carrier: Carrier::Bytes(Bare::Tcp(tcp)),
        }
    }
}

/// Completes a handshake, so that its failure is told here and not at the first write.
fn tls(
    tcp: TcpStream,
    config: Arc<ClientConfig>,
    name: &str,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

impl Read for Bare {
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.read(chunk),
            Self::Tls(tls) => tls.read(chunk),
        }
    }
}

impl Write for Bare {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

impl Messages {
    fn open(bare: Bare, server: &Server) -> io::Result<Self> {
        let scheme = server.transport.scheme();
        let (name, port) = (&server.name, server.address.port());
        let uri: Uri = format!("{scheme}://{name}:{port}{}", server.path)
            .parse()
            .map_err(io::Error::other)?;
        let request = ClientRequestBuilder::new(uri).with_sub_protocol("mqtt");
        // Small buffers: some tests hold thousands of connections.
        let config = WebSocketConfig::default().read_buffer_size(4096);
        match tungstenite::client::client_with_config(request, bare, Some(config)) {
            Ok((socket, _)) => Ok(Self {
                socket,
                rest: Bytes::new(),
                close_code: None,
            }),
            Err(HandshakeError::Failure(error)) => Err(failure(error)),
            Err(HandshakeError::Interrupted(_)) => Err(ErrorKind::TimedOut.into()),
        }
    }

    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.rest = bytes,
                // The end of the connection itself is still to come (RFC 6455 section 7.1.1).
                Ok(Message::Close(frame)) => {
                    self.close_code = Some(frame.map_or(1005, |frame| frame.code.into()));
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Text(_) | Message::Frame(_)) => {
                    let why = "the server sent a text message (MQTT-6.0.0-1)";
                    return Err(io::Error::new(ErrorKind::InvalidData, why));
                }
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Ok(0),
                Err(error) => return Err(failure(error)),
            }
        }
        let length = self.rest.len().min(chunk.len());
        chunk[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

fn failure(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        // TCP ended without a close frame.
        Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            ErrorKind::ConnectionAborted.into()
        }
        other => io::Error::other(other),
    }
}
