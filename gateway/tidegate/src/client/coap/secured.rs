//! DTLS over a socket.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Instant;

use rustls::pki_types::ServerName;
use tidegate_dtls::client::{Client, ClientConfig, ClientError, ClientOutput};
use tokio::time::sleep_until;

use super::link::Datagrams;

/// A session with one address.
pub(super) struct Secured {
    datagrams: Datagrams,
    client: Client,
    /// What came and was not handed on.
    came: VecDeque<Vec<u8>>,
    /// What was handed on last.
    last: Vec<u8>,
    is_connected: bool,
    /// Why something could not be sent.
    failed: Option<ClientError>,
}

impl Secured {
    /// Shakes hands. A failure of DTLS is [`ErrorKind::InvalidData`] and has a [`ClientError`] in it.
    pub(super) async fn connect(
        config: &ClientConfig,
        name: ServerName<'static>,
        address: SocketAddr,
    ) -> io::Result<Self> {
        let mut secured = Self {
            datagrams: Datagrams::connect(address).await?,
            client: Client::new(config, name, Instant::now()),
            came: VecDeque::new(),
            last: Vec::new(),
            is_connected: false,
            failed: None,
        };
        while !secured.is_connected {
            secured.turn().await?;
        }
        Ok(secured)
    }

    pub(super) fn queue(&mut self, plaintext: &[u8]) {
        if let Err(error) = self.client.send(plaintext) {
            self.failed.get_or_insert(error);
        }
    }

    pub(super) async fn receive(&mut self) -> io::Result<&[u8]> {
        loop {
            if let Some(error) = self.failed.take() {
                return Err(failed(error));
            }
            self.poll().map_err(failed)?;
            self.datagrams.flush().await?;
            if let Some(came) = self.came.pop_front() {
                self.last = came;
                return Ok(&self.last);
            }
            self.turn().await?;
        }
    }

    /// Sends what is queued.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.poll().map_err(failed)?;
        self.datagrams.flush().await
    }

    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.poll().map_err(failed)?;
        self.client.close().map_err(failed)?;
        self.poll().map_err(failed)?;
        self.datagrams.flush().await
    }

    /// Sends what there is, and waits until something comes or is due.
    async fn turn(&mut self) -> io::Result<()> {
        self.poll().map_err(failed)?;
        self.datagrams.flush().await?;
        if self.is_connected && !self.came.is_empty() {
            return Ok(());
        }
        let due = self.client.due();
        let handled = tokio::select! {
            datagram = self.datagrams.receive() => {
                self.client.receive(datagram?, Instant::now())
            }
            () = wait_until(due) => self.client.handle_timeout(Instant::now()),
        };
        // What came before the end is still handed on.
        let polled = self.poll();
        handled.and(polled).map_err(failed)
    }

    /// Takes what the client has to say.
    fn poll(&mut self) -> Result<(), ClientError> {
        while let Some(output) = self.client.poll()? {
            match output {
                ClientOutput::Transmit(datagram) => self.datagrams.queue.push_back(datagram),
                ClientOutput::Connected => self.is_connected = true,
                ClientOutput::Data(data) => self.came.push_back(data),
            }
        }
        Ok(())
    }
}

fn failed(error: ClientError) -> io::Error {
    match error {
        ClientError::Closed => ErrorKind::UnexpectedEof.into(),
        error => io::Error::new(ErrorKind::InvalidData, error),
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
