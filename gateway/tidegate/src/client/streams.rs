//! MQTT over QUIC on two streams, as one byte stream: packets from PUBLISH to UNSUBACK leave on a data stream, the
//! others on the control stream. What comes is brought together packet by packet.
//!
//! Between two streams there is no order. So DISCONNECT leaves only after the gateway has heard everything on the
//! data stream and finished its side of it.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tidegate_mqtt::codec::{PacketType, Split, split};
use tidegate_quic::{ClientDataStream, ClientStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const READ_BYTES: usize = 64 << 10;

/// A control stream and a data stream.
pub(super) struct TwoStreams {
    control: Half<ClientStream>,
    data: Half<ClientDataStream>,
    /// Bytes of the packet that is being written which are not written yet, and where they go.
    left: usize,
    on_data: bool,
    /// Which stream was read last: what was begun is given in whole before the other has its turn.
    from_data: bool,
}

/// One of the streams, with what has come on it.
struct Half<S> {
    stream: S,
    came: Vec<u8>,
    /// Bytes of whole packets at the beginning of `came`.
    whole: usize,
    is_over: bool,
}

impl<S: AsyncRead + Unpin> Half<S> {
    const fn new(stream: S) -> Self {
        Self {
            stream,
            came: Vec::new(),
            whole: 0,
            is_over: false,
        }
    }

    /// Reads until there is a whole packet, or nothing more comes.
    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.whole == 0 && !self.is_over {
            let mut chunk = vec![0; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            self.is_over = buffer.filled().is_empty();
            self.came.extend_from_slice(buffer.filled());
            self.whole = whole_packets(&self.came)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Moves as much of the whole packets as there is room for.
    fn take(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let count = self.whole.min(buffer.remaining());
        buffer.put_slice(&self.came[..count]);
        self.came.drain(..count);
        self.whole -= count;
        count > 0
    }
}

/// Bytes of the whole packets that `bytes` begins with.
fn whole_packets(bytes: &[u8]) -> io::Result<usize> {
    let mut at = 0;
    loop {
        match split(&bytes[at..], u32::MAX) {
            Ok(Split::Frame(frame)) => at += frame.len,
            Ok(_) => return Ok(at),
            Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
        }
    }
}

impl TwoStreams {
    pub(super) const fn new(control: ClientStream, data: ClientDataStream) -> Self {
        Self {
            control: Half::new(control),
            data: Half::new(data),
            left: 0,
            on_data: false,
            from_data: false,
        }
    }

    /// Looks at the packet that comes next. `Ready`: it may be written.
    fn poll_begin(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        // The state hands over whole packets.
        let Ok(Split::Frame(frame)) = split(bytes, u32::MAX) else {
            return Poll::Ready(Err(ErrorKind::InvalidInput.into()));
        };
        let packet = frame.packet_type();
        if packet == Some(PacketType::Disconnect) {
            ready!(Pin::new(&mut self.data.stream).poll_shutdown(cx))?;
            while !self.data.is_over {
                self.data.whole = 0;
                ready!(self.data.poll_packet(cx))?;
            }
            self.data.whole = whole_packets(&self.data.came)?;
        }
        let range = PacketType::Publish as u8..=PacketType::UnsubAck as u8;
        self.on_data = packet.is_some_and(|packet| range.contains(&(packet as u8)));
        self.left = frame.len;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TwoStreams {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let streams = self.get_mut();
        let control = streams.control.poll_packet(cx)?;
        // Pending or not: either wakes.
        let _ = streams.data.poll_packet(cx)?;
        let last_has_more = match streams.from_data {
            true => streams.data.whole > 0,
            false => streams.control.whole > 0,
        };
        streams.from_data ^= !last_has_more;
        let taken = match streams.from_data {
            true => streams.data.take(buffer),
            false => streams.control.take(buffer),
        };
        if taken {
            return Poll::Ready(Ok(()));
        }
        // The end of the control stream is the end.
        control.map(Ok)
    }
}

impl AsyncWrite for TwoStreams {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let streams = self.get_mut();
        if streams.left == 0 {
            ready!(streams.poll_begin(cx, bytes))?;
        }
        let part = &bytes[..bytes.len().min(streams.left)];
        let written = if streams.on_data {
            Pin::new(&mut streams.data.stream).poll_write(cx, part)
        } else {
            Pin::new(&mut streams.control.stream).poll_write(cx, part)
        };
        let written = ready!(written)?;
        streams.left -= written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().control.stream).poll_shutdown(cx)
    }
}
