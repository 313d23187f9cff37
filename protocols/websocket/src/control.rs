//! What a connection needs only now and then: a control frame on its way in or out, and bytes that
//! came together with the upgrade request. It takes memory only while there is any of it.

/// Longest payload of a control frame (RFC 6455 section 5.5).
pub(crate) const MAX_CONTROL: usize = 125;

/// `FIN`, and the opcode.
const CLOSE: u8 = 0x88;
const PONG: u8 = 0x8a;

/// The payload of a control frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    len: u8,
    bytes: [u8; MAX_CONTROL],
}

impl Default for Body {
    fn default() -> Self {
        Self {
            len: 0,
            bytes: [0; MAX_CONTROL],
        }
    }
}

impl Body {
    /// Adds what has come; a control frame's length is checked before.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        let len = bytes.len().min(MAX_CONTROL - start);
        self.bytes[start..start + len].copy_from_slice(&bytes[..len]);
        self.len += len as u8;
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A control frame that is being written.
#[derive(Debug)]
struct Sending {
    bytes: [u8; 2 + MAX_CONTROL],
    len: u8,
    sent: u8,
}

impl Sending {
    fn new(first: u8, body: &Body) -> Self {
        let mut bytes = [0; 2 + MAX_CONTROL];
        let len = usize::from(body.len);
        bytes[0] = first;
        bytes[1] = body.len;
        bytes[2..2 + len].copy_from_slice(body.as_slice());
        Self {
            bytes,
            len: 2 + body.len,
            sent: 0,
        }
    }
}

/// The rare state of a connection.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// Bytes that came behind the upgrade request, of which `taken` are gone.
    early: Vec<u8>,
    taken: usize,
    /// The payload, as far as it has come, of the control frame that is being read.
    incoming: Option<Body>,
    /// What the latest unanswered ping said. Only that one is answered (section 5.5.3), so that a
    /// flood of pings takes no memory.
    pong: Option<Body>,
    /// The close frame, which waits for the end of `sending`.
    close: Option<Body>,
    sending: Option<Sending>,
}

impl Rare {
    pub(crate) fn early(bytes: Vec<u8>) -> Option<Box<Self>> {
        (!bytes.is_empty()).then(|| {
            Box::new(Self {
                early: bytes,
                ..Self::default()
            })
        })
    }

    /// The next bytes, at most `max`, that came before there were frames.
    pub(crate) fn take_early(&mut self, max: usize) -> &[u8] {
        let start = self.taken;
        self.taken = self.early.len().min(start + max);
        &self.early[start..self.taken]
    }

    pub(crate) fn incoming(&mut self) -> &mut Body {
        self.incoming.get_or_insert_default()
    }

    pub(crate) fn take_incoming(&mut self) -> Body {
        self.incoming.take().unwrap_or_default()
    }

    pub(crate) const fn answer_ping(&mut self, body: Body) {
        self.pong = Some(body);
    }

    /// Sends the close frame next.
    pub(crate) fn close(&mut self, code: Option<u16>) {
        let mut body = Body::default();
        if let Some(code) = code {
            body.push(&code.to_be_bytes());
        }
        self.close = Some(body);
    }

    /// What is to be written of control frames, the next one begun if there is none. `pongs` says
    /// whether one may still begin.
    pub(crate) fn unsent(&mut self, pongs: bool) -> Option<&[u8]> {
        if self.sending.is_none() {
            self.sending = if let Some(close) = self.close.take() {
                Some(Sending::new(CLOSE, &close))
            } else if pongs {
                self.pong.take().map(|pong| Sending::new(PONG, &pong))
            } else {
                None
            };
        }
        let sending = self.sending.as_ref()?;
        Some(&sending.bytes[usize::from(sending.sent)..usize::from(sending.len)])
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        if let Some(sending) = &mut self.sending {
            sending.sent = sending.len.min(sending.sent.saturating_add(bytes as u8));
            if sending.sent == sending.len {
                self.sending = None;
            }
        }
    }

    /// Whether nothing of it is needed any more.
    pub(crate) const fn is_idle(&self) -> bool {
        self.taken == self.early.len()
            && self.incoming.is_none()
            && self.pong.is_none()
            && self.close.is_none()
            && self.sending.is_none()
    }
}
