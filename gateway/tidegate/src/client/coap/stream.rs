//! A byte stream, as a link.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::client::connection::send;
use crate::client::transport::Transport;

const READ_BYTES: usize = 64 << 10;

/// Bytes in both directions at once.
pub(super) struct Stream {
    reader: ReadHalf<Box<dyn Transport>>,
    writer: WriteHalf<Box<dyn Transport>>,
    queue: Vec<u8>,
    /// Bytes of `queue` that were written.
    written: usize,
    /// What was written may lie in a buffer of the stream.
    needs_flush: bool,
    buffer: Vec<u8>,
}

impl Stream {
    pub(super) fn new(stream: Box<dyn Transport>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader,
            writer,
            queue: Vec::new(),
            written: 0,
            needs_flush: false,
            buffer: vec![0; READ_BYTES],
        }
    }

    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.queue.extend_from_slice(bytes);
    }

    /// Writes what is queued, and waits for what comes. The end of the stream is an error.
    pub(super) async fn receive(&mut self) -> io::Result<&[u8]> {
        loop {
            let waits = !self.queue.is_empty() || self.needs_flush;
            tokio::select! {
                read = self.reader.read(&mut self.buffer) => {
                    let len = read?;
                    if len == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    return Ok(&self.buffer[..len]);
                }
                wrote = send(&mut self.writer, &self.queue[self.written..]), if waits => {
                    let wrote = wrote?;
                    self.written += wrote;
                    self.needs_flush = wrote > 0;
                    if !self.needs_flush {
                        self.queue.clear();
                        self.written = 0;
                    }
                }
            }
        }
    }

    /// Writes what is queued, and waits until the other end has closed, so that nothing is lost with the socket.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.queue[self.written..]).await?;
        self.writer.flush().await?;
        self.writer.shutdown().await?;
        while self.reader.read(&mut self.buffer).await? > 0 {}
        Ok(())
    }
}
