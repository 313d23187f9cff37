//! One endpoint: a socket that is connected to the gateway's.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::message::{Kind, Message, acknowledgement, code, request};

/// How long the gateway may take to answer a registration, and how often it is asked.
const ANSWER: Duration = Duration::from_secs(2);
const ATTEMPTS: u16 = 5;

/// A socket that blocks.
pub(super) fn socket(gateway: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("a socket of UDP")?;
    socket.connect(gateway).context("the gateway's address")?;
    Ok(socket)
}

/// An endpoint that observes a topic: its registration was answered, and the answer acknowledged.
pub(super) fn observer(gateway: SocketAddr, topic: &str, queries: &[&str]) -> Result<UdpSocket> {
    let socket = socket(gateway)?;
    socket.set_read_timeout(Some(ANSWER))?;
    let mut registration = request(code::GET, topic, queries, true);
    let mut buffer = [0; 2_048];
    for attempt in 0..ATTEMPTS {
        registration[2..4].copy_from_slice(&attempt.to_be_bytes());
        socket.send(&registration).context("a registration")?;
        // The acknowledgement may come first, and the answer in a message of its own.
        while let Ok(length) = socket.recv(&mut buffer) {
            let message = Message::read(&buffer[..length])?;
            if message.kind == Kind::Confirmable {
                socket.send(&acknowledgement(message.id))?;
            }
            match (message.code, message.observe) {
                (code::EMPTY, _) => {}
                (code::CONTENT, true) => return Ok(socket),
                (other, _) => bail!("the gateway answered a registration with {}", shown(other)),
            }
        }
    }
    bail!("the gateway did not answer a registration")
}

/// A code as the specification writes it.
pub(super) fn shown(code: u8) -> String {
    format!("{}.{:02}", code >> 5, code & 0x1F)
}
