//! A gateway's side of CoAP over TCP on loopback, and clients that speak bytes. What comes is read by a codec that is not
//! ours: as a datagram, once its length was taken off.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use coap_lite::Packet;
use tidegate_bus::*;
use tidegate_coap::codec::{Code, Csm, Signal, Token, Writer, number};
use tidegate_coap::stream::{Endpoint, Peer, Served};
use tidegate_coap::{Metrics, Settings as Coap};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Net {
    pub bus: Arc<Bus>,
    pub endpoint: Arc<Endpoint>,
    pub metrics: Arc<Metrics>,
    pub certificate_name: Option<Arc<str>>,
    listener: TcpListener,
}

impl Net {
    pub async fn new() -> Self {
        Self::with(Arc::new(MemoryStore::new()), Arc::new(AllowAll), |_| {}).await
    }

    pub async fn of(change: impl FnOnce(&mut Coap)) -> Self {
        Self::with(Arc::new(MemoryStore::new()), Arc::new(AllowAll), change).await
    }

    pub async fn with(
        store: Arc<dyn Store>,
        access: Arc<dyn Access>,
        change: impl FnOnce(&mut Coap),
    ) -> Self {
        let clock = Arc::new(SystemClock::new());
        let bus = Bus::new(Settings::default(), store, access, clock);
        let mut settings = Coap::default();
        change(&mut settings);
        let metrics = Arc::new(Metrics::default());
        let endpoint = Endpoint::new(Arc::clone(&bus), settings, Arc::clone(&metrics));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self {
            bus,
            endpoint,
            metrics,
            certificate_name: None,
            listener,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// A connection on which nothing was said.
    pub async fn connect(&self) -> Client {
        self.connect_with(|_| {}).await
    }

    pub async fn connect_with(&self, change: impl FnOnce(&TcpSocket)) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        change(&socket);
        let (stream, accepted) =
            tokio::join!(socket.connect(self.address()), self.listener.accept());
        let serving = self.serve(accepted.unwrap());
        Client {
            stream: stream.unwrap(),
            bytes: Vec::new(),
            serving,
        }
    }

    /// Accepts a client that is somewhere else.
    pub async fn accept(&self) -> JoinHandle<Served> {
        self.serve(self.listener.accept().await.unwrap())
    }

    fn serve(&self, (stream, address): (TcpStream, SocketAddr)) -> JoinHandle<Served> {
        let peer = Peer {
            address,
            certificate_name: self.certificate_name.clone(),
        };
        tokio::spawn(self.endpoint.serve(stream, peer))
    }

    /// A client after both have said what they can do.
    pub async fn greet(&self, max_message_size: u32) -> Client {
        let mut client = self.connect().await;
        client.greet(max_message_size).await;
        client
    }

    /// Publishes as another client would.
    pub fn publish(&self, topic: &str, payload: &[u8], retain: bool) {
        self.bus.batch(|worker| {
            let mut message = Message::new(TopicName::new(topic).unwrap(), payload);
            message.retain = retain;
            let client = ClientId::new("publisher").unwrap();
            let published = self.bus.publish_for(worker, &client, message).unwrap();
            self.bus.serve_all(worker, published);
        });
    }

    pub fn retained(&self, topic: &str) -> Option<Vec<u8>> {
        let found = self.bus.retained(&TopicFilter::new(topic).unwrap());
        found
            .first()
            .map(|message| message.as_message().payload.to_vec())
    }
}

/// Waits until something is so that no event tells.
pub async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it does not come true");
}

/// A message that came.
#[derive(Debug)]
pub struct Got {
    pub code: Code,
    pub packet: Packet,
    /// Bytes of it.
    pub len: usize,
}

impl Got {
    pub fn token(&self) -> &[u8] {
        self.packet.get_token()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.packet.payload).into_owned()
    }

    pub fn option(&self, number: u16) -> Option<Vec<u8>> {
        let mut all = self.packet.options();
        let (_, values) = all.find(|(found, _)| **found == number)?;
        values.front().cloned()
    }

    pub fn number(&self, number: u16) -> Option<u32> {
        let value = self.option(number)?;
        Some(value.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }
}

pub struct Client {
    pub stream: TcpStream,
    bytes: Vec<u8>,
    pub serving: JoinHandle<Served>,
}

impl Client {
    pub async fn greet(&mut self, max_message_size: u32) {
        let csm = Csm {
            max_message_size: Some(max_message_size),
            block_wise: true,
        };
        self.signal(Signal::Csm(csm)).await;
        assert_eq!(self.next().await.code, Code::CSM);
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub async fn signal(&mut self, signal: Signal<'_>) {
        let mut out = Vec::new();
        signal.write(Token::new(b"sig").unwrap(), &mut out);
        self.send(&out).await;
    }

    /// Sends a request and takes the next message for its answer.
    pub async fn ask(&mut self, ask: &Ask) -> Got {
        self.send(&ask.bytes()).await;
        let got = self.next().await;
        assert_eq!(got.token(), ask.token, "{got:?}");
        got
    }

    /// The next message; panics at the end.
    pub async fn next(&mut self) -> Got {
        self.next_or_end().await.expect("the connection has ended")
    }

    pub async fn next_or_end(&mut self) -> Option<Got> {
        let reading = async {
            loop {
                if let Some(got) = take(&mut self.bytes) {
                    return Some(got);
                }
                let read = self.stream.read_buf(&mut self.bytes).await.unwrap_or(0);
                if read == 0 {
                    assert!(self.bytes.is_empty(), "a part of a message");
                    return None;
                }
            }
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        read.expect("nothing comes")
    }

    /// The gateway aborts, and closes; what it said.
    pub async fn aborted(mut self) -> Got {
        let abort = self.next().await;
        assert_eq!(abort.code, Code::ABORT, "{abort:?}");
        assert!(self.next_or_end().await.is_none());
        abort
    }
}

/// Cuts a message off, by the letter of RFC 8323 section 3.2.
fn take(bytes: &mut Vec<u8>) -> Option<Got> {
    let first = *bytes.first()?;
    let (extended, base) = match first >> 4 {
        13 => (1, 13),
        14 => (2, 269),
        15 => (4, 65_805),
        small => (0, usize::from(small)),
    };
    let extension = bytes.get(1..=extended)?;
    let extension = extension
        .iter()
        .fold(0, |n, byte| n << 8 | usize::from(*byte));
    let len = 2 + extended + usize::from(first & 15) + base + extension;
    if bytes.len() < len {
        return None;
    }
    let rest = bytes.split_off(len);
    let whole = std::mem::replace(bytes, rest);
    let code = whole[1 + extended];
    let mut datagram = vec![0x40 | first & 15, code, 0, 0];
    datagram.extend_from_slice(&whole[2 + extended..]);
    Some(Got {
        code: Code(code),
        packet: Packet::from_bytes(&datagram).unwrap(),
        len,
    })
}

/// A request to be sent.
#[derive(Clone)]
pub struct Ask {
    code: Code,
    pub token: Vec<u8>,
    options: Vec<(u16, Vec<u8>)>,
    payload: Vec<u8>,
}

pub fn get(path: &str) -> Ask {
    ask(Code::GET, path)
}

pub fn put(path: &str, payload: impl AsRef<[u8]>) -> Ask {
    let mut ask = ask(Code::PUT, path);
    ask.payload = payload.as_ref().to_vec();
    ask
}

pub fn ask(code: Code, path: &str) -> Ask {
    let mut ask = Ask {
        code,
        token: vec![7],
        options: Vec::new(),
        payload: Vec::new(),
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    for segment in path.trim_start_matches('/').split('/') {
        ask = ask.option(number::URI_PATH, segment);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        ask = ask.option(number::URI_QUERY, pair);
    }
    ask
}

impl Ask {
    pub fn option(mut self, number: u16, value: impl AsRef<[u8]>) -> Self {
        self.options.push((number, value.as_ref().to_vec()));
        self
    }

    pub fn uint(self, number: u16, value: u32) -> Self {
        let zeros = value.leading_zeros() as usize / 8;
        self.option(number, &value.to_be_bytes()[zeros..])
    }

    pub fn token(mut self, token: &[u8]) -> Self {
        self.token = token.to_vec();
        self
    }

    pub fn observe(self) -> Self {
        self.uint(number::OBSERVE, 0)
    }

    /// `num`, `more` and the size exponent of the blocks.
    pub fn block(self, option: u16, num: u32, more: bool, szx: u32) -> Self {
        self.uint(option, num << 4 | u32::from(more) << 3 | szx)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut options = self.options.clone();
        options.sort_by_key(|(number, _)| *number);
        let mut writer = Writer::frame(&mut out, self.code, Token::new(&self.token).unwrap());
        for (number, value) in &options {
            writer.option(*number, value);
        }
        writer.payload(&self.payload);
        out
    }
}

pub fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + (at / 7 % 26) as u8).collect()
}
