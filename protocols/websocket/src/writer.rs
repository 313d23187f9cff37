//! The gateway's own data frames: binary, final, not masked (RFC 6455 section 5.1).

/// Longest payload of a frame. More would be one system call less per 64 KiB, but a browser collects
/// a whole frame before it shows any of it, and a pong waits for the end of the frame before it.
pub(crate) const MAX_FRAME: usize = u16::MAX as usize;

/// `FIN` and the opcode of a binary frame.
const BINARY: u8 = 0x82;

/// The frame that is being written.
///
/// Its header promises a length, so a frame that has begun must be completed before anything else can
/// be said.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    header: [u8; 4],
    header_len: u8,
    header_sent: u8,
    /// Bytes of payload that are still owed; 0 between frames.
    left: u16,
}

impl Writer {
    /// Begins a frame for as much of `payload` bytes as it can hold. Not for none.
    pub(crate) const fn begin(&mut self, payload: usize) {
        let len = if payload < MAX_FRAME {
            payload as u16
        } else {
            MAX_FRAME as u16
        };
        let [high, low] = len.to_be_bytes();
        (self.header, self.header_len) = if len < 126 {
            ([BINARY, low, 0, 0], 2)
        } else {
            ([BINARY, 126, high, low], 4)
        };
        self.header_sent = 0;
        self.left = len;
    }

    /// Takes the frame back if not one byte of it has left.
    pub(crate) const fn take_back(&mut self) {
        if self.header_sent == 0 {
            self.left = 0;
        }
    }

    /// Whether a frame has begun and is not complete.
    pub(crate) const fn is_open(&self) -> bool {
        self.left > 0
    }

    /// The header's bytes that have not left.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header[usize::from(self.header_sent)..usize::from(self.header_len)]
    }

    /// How many of `payload` bytes belong to this frame.
    pub(crate) fn clip(&self, payload: usize) -> usize {
        payload.min(usize::from(self.left))
    }

    /// So many bytes of header and payload have left. Gives back how many of them were payload.
    pub(crate) fn sent(&mut self, bytes: usize) -> usize {
        let header = self.header().len().min(bytes);
        self.header_sent += header as u8;
        let payload = self.clip(bytes - header);
        self.left -= payload as u16;
        payload
    }
}
