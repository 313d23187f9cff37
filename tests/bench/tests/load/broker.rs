//! A broker in a few lines that speaks just enough MQTT 3.1.1 and 5.0 and has one fault. Filters mean
//! nothing to it: every message goes to every subscriber or, if they share a subscription, to one in turn,
//! and retained messages, which go to nobody else, to whoever subscribes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What it does wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The message of this number is lost.
    Loses(usize),
    /// Every message is lost.
    LosesAll,
    /// The message of this number comes twice.
    Doubles(usize),
    /// The message of this number comes after the next.
    Swaps(usize),
    /// The message of this number has another payload.
    Alters(usize),
    /// The message of this number comes with QoS 0.
    Downgrades(usize),
    /// The message of this number comes without its properties.
    Strips(usize),
    /// The message of this number is not acknowledged.
    Forgets(usize),
    /// The connection of whoever sent the message of this number is closed.
    Closes(usize),
    /// Before the message of this number it rests so long.
    Rests(usize, Duration),
    /// CONNECT is refused with this code.
    Refuses(u8),
    /// The connection is closed after CONNECT.
    ClosesAfterConnect,
    /// SUBSCRIBE is refused.
    RefusesSubscribe,
    /// A subscription has a lower QoS than was asked for.
    LowersQos,
    /// SUBACK is without a code.
    GrantsNothing,
    /// After SUBACK the connection is closed.
    ClosesAfterSubscribe,
}

pub(crate) struct FaultyBroker {
    address: SocketAddr,
}

#[derive(Default)]
struct State {
    subscribers: Vec<TcpStream>,
    is_shared: bool,
    /// As they are sent to a subscriber of QoS 0.
    retained: Vec<Vec<u8>>,
    /// Messages so far.
    count: usize,
    /// The one that is to come after the next.
    held: Option<Vec<u8>>,
    turn: usize,
}

impl FaultyBroker {
    /// It runs until the test's process ends.
    pub(crate) fn with(fault: Fault) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                // An error is the end of the connection, here and for the load.
                thread::spawn(move || serve(socket, fault, &state));
            }
        });
        Self { address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(mut socket: TcpStream, fault: Fault, state: &Mutex<State>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    // An empty block of properties, where there are any.
    let mut properties: &[u8] = &[];
    while let Some(Packet { first, body, whole }) = packet(&mut socket)? {
        if first >> 4 == 1 && body[6] == 5 {
            properties = &[0];
        }
        let answer = |first: u8, parts: [&[u8]; 3]| frame(first, &parts.concat());
        match (first >> 4, fault) {
            (1, Fault::ClosesAfterConnect) => return Ok(()),
            (1, Fault::Refuses(code)) => {
                socket.write_all(&answer(0x20, [&[0], &[code], properties]))?;
            }
            (1, _) => socket.write_all(&answer(0x20, [&[0], &[0], properties]))?,
            (8, _) => {
                let asked = body[body.len() - 1];
                let code = match fault {
                    Fault::RefusesSubscribe => 0x80,
                    Fault::LowersQos => asked - 1,
                    _ => asked,
                };
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.is_shared = body[4..].starts_with(b"$share/");
                state.subscribers.push(socket.try_clone()?);
                let codes: &[u8] = match fault {
                    Fault::GrantsNothing => &[],
                    _ => &[code],
                };
                socket.write_all(&answer(0x90, [&body[..2], properties, codes]))?;
                let State {
                    count, retained, ..
                } = &mut *state;
                for message in retained {
                    match fault {
                        Fault::Loses(at) if at == *count => {}
                        Fault::Doubles(at) if at == *count => {
                            socket.write_all(&message.repeat(2))?;
                        }
                        _ => socket.write_all(message)?,
                    }
                    *count += 1;
                }
                if let Fault::ClosesAfterSubscribe = fault {
                    socket.shutdown(std::net::Shutdown::Both)?;
                }
            }
            (3, _) => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                if first & 0x01 == 0x01 {
                    let (topic, id, payload) = parts(&body);
                    if payload.is_empty() {
                        state.retained.clear();
                    } else {
                        state.retained.push(frame(0x31, &[topic, payload].concat()));
                    }
                    socket.write_all(&answer(0x40, [id, &[], &[]]))?;
                    continue;
                }
                let number = state.count;
                state.count += 1;
                if let Fault::Rests(at, time) = fault
                    && at == number
                {
                    thread::sleep(time);
                }
                if let Fault::Closes(at) = fault
                    && at == number
                {
                    return socket.shutdown(std::net::Shutdown::Both);
                }
                let message = match fault {
                    Fault::Downgrades(at) if at == number => {
                        let (topic, _, rest) = parts(&body);
                        frame(first & !0x06, &[topic, rest].concat())
                    }
                    Fault::Strips(at) if at == number => {
                        let (topic, id, rest) = parts(&body);
                        let rest = &rest[1 + usize::from(rest[0])..];
                        frame(first, &[topic, id, &[0], rest].concat())
                    }
                    _ => whole,
                };
                deliver(&mut state, fault, number, message)?;
                let forgets = matches!(fault, Fault::Forgets(at) if at == number);
                if first & 0x06 == 0x02 && !forgets {
                    let (_, id, _) = parts(&body);
                    socket.write_all(&answer(0x40, [id, &[], &[]]))?;
                }
            }
            (10, _) => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                state.subscribers.clear();
                socket.write_all(&answer(0xB0, [&body[..2], &[], &[]]))?;
            }
            (14, _) => {
                let peer = socket.peer_addr()?;
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let subscribers = &mut state.subscribers;
                subscribers.retain(|other| other.peer_addr().is_ok_and(|other| other != peer));
                return Ok(());
            }
            // The acknowledgements of subscribers.
            _ => {}
        }
    }
    Ok(())
}

fn deliver(state: &mut State, fault: Fault, number: usize, mut message: Vec<u8>) -> io::Result<()> {
    let mut messages = Vec::new();
    match fault {
        Fault::LosesAll => {}
        Fault::Loses(at) if at == number => {}
        Fault::Doubles(at) if at == number => {
            messages.extend([message.clone(), message]);
        }
        Fault::Swaps(at) if at == number => state.held = Some(message),
        Fault::Alters(at) if at == number => {
            // One byte less.
            message.pop();
            message[1] -= 1;
            messages.push(message);
        }
        _ => {
            messages.push(message);
            messages.extend(state.held.take());
        }
    }
    // Both of a message go to one member, or to different ones: to the application it is the same.
    for message in messages {
        if state.is_shared {
            let member = state.turn % state.subscribers.len();
            state.subscribers[member].write_all(&message)?;
            state.turn += 1;
        } else {
            for subscriber in &mut state.subscribers {
                subscriber.write_all(&message)?;
            }
        }
    }
    Ok(())
}

/// Topic, packet identifier, and the rest of a PUBLISH that has a packet identifier.
fn parts(body: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let topic = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let (topic, rest) = body.split_at(topic);
    let (id, rest) = rest.split_at(2);
    (topic, id, rest)
}

fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let mut length = body.len();
    while length >= 0x80 {
        frame.push((length & 0x7F) as u8 | 0x80);
        length >>= 7;
    }
    frame.push(length as u8);
    frame.extend_from_slice(body);
    frame
}

struct Packet {
    first: u8,
    body: Vec<u8>,
    whole: Vec<u8>,
}

/// The next packet; `None` at the end.
fn packet(socket: &mut TcpStream) -> io::Result<Option<Packet>> {
    let mut first = [0];
    if socket.read(&mut first)? == 0 {
        return Ok(None);
    }
    let mut whole = first.to_vec();
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        whole.push(byte[0]);
        length |= usize::from(byte[0] & 0x7F) << shift;
        if byte[0] < 0x80 {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    whole.extend_from_slice(&body);
    let [first] = first;
    Ok(Some(Packet { first, body, whole }))
}
