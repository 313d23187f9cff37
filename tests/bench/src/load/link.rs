//! What carries a connection of the event loop: TCP, TLS over it, or QUIC.

use std::io::{self, IoSlice, Read, Write};
use std::net;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::quic::Quic;
use super::tls::Tls;

pub(super) enum Link {
    Tcp(TcpStream),
    Tls(Box<Tls>),
    Quic(Box<Quic>),
}

impl From<net::TcpStream> for Link {
    fn from(socket: net::TcpStream) -> Self {
        Self::Tcp(TcpStream::from_std(socket))
    }
}

impl Link {
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        // Both for good: the edge of a socket that takes more comes only after it took no more.
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => registry.register(stream, token, interest),
            Self::Tls(tls) => registry.register(tls.source(), token, interest),
            Self::Quic(quic) => quic.register(registry, token),
        }
    }

    #[inline]
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Tls(tls) => tls.read(into),
            Self::Quic(quic) => quic.read(into),
        }
    }

    /// Takes as much as there is room for. Over QUIC it leaves with [`Self::push`].
    #[inline]
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, slices) {
            (Self::Tcp(stream), [one]) => stream.write(one),
            (Self::Tcp(stream), more) => stream.write_vectored(more),
            (Self::Tls(tls), slices) => tls.write(slices),
            (Self::Quic(quic), slices) => {
                let mut length = 0;
                for slice in slices {
                    match quic.write(slice) {
                        Ok(taken) => {
                            length += taken;
                            if taken < slice.len() {
                                break;
                            }
                        }
                        Err(_) if length > 0 => break,
                        Err(error) => return Err(error),
                    }
                }
                Ok(length)
            }
        }
    }

    /// Sends what was written and has not left yet, as far as the socket takes it.
    #[inline]
    pub(super) fn push(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Tls(tls) => tls.push(),
            Self::Quic(quic) => quic.transmit(),
        }
    }

    /// Whether there is something to say, and room to write, whenever something came.
    #[inline]
    pub(super) fn is_quic(&self) -> bool {
        matches!(self, Self::Quic(_))
    }

    /// When something is to be done even if nothing comes.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        match self {
            Self::Tcp(_) | Self::Tls(_) => None,
            Self::Quic(quic) => quic.deadline(),
        }
    }

    /// Does what is due by now; whether anything was.
    pub(super) fn on_time(&mut self, now: Instant) -> io::Result<bool> {
        match self {
            Self::Tcp(_) | Self::Tls(_) => Ok(false),
            Self::Quic(quic) => quic.on_time(now),
        }
    }
}
