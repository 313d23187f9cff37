//! CoAP over DTLS 1.3, which libcoap's clients do not have: dimpl's client at a real socket, and a gateway that asks for
//! certificates.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers are part of tests: what is not there fails the test"
)]

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, DtlsCertificate};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tempfile::TempDir;

/// Nothing here takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

const PUT: u8 = 0x03;
const GET: u8 = 0x01;
const CHANGED: u8 = 0x44;
const CONTENT: u8 = 0x45;

struct Gateway {
    child: Child,
    listeners: serde_json::Value,
    authority: CertifiedIssuer<'static, KeyPair>,
    _directory: TempDir,
}

impl Gateway {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "clients");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        fs::write(directory.path().join("clients.crt"), authority.pem()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let names = [
            "mqtt",
            "mqtts",
            "ws",
            "wss",
            "quic",
            "coap",
            "coaps",
            "coap_tcp",
            "coaps_tcp",
        ];
        for name in names {
            let bind = format!("listeners.{name}.bind=127.0.0.1:0");
            command.args(["--set", &bind]);
        }
        let mut child = command
            .args(["--set", "http.bind=127.0.0.1:0"])
            .args(["--set", "listeners.coaps.tls.client_ca=clients.crt"])
            .args(["--set", "telemetry.log=warn"])
            .args(["--data-dir", "data", "--ready-file", "ready.json"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The banner comes after everything else of the start.
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        while stdout.read_line(&mut banner).unwrap() > 0 && !banner.contains("Try: ") {}
        let ready = fs::read(directory.path().join("ready.json")).unwrap();
        let ready: serde_json::Value = serde_json::from_slice(&ready).unwrap();
        Self {
            child,
            listeners: ready["listeners"].clone(),
            authority,
            _directory: directory,
        }
    }

    fn address(&self, listener: &str) -> SocketAddr {
        let address = self.listeners[listener]["address"].as_str();
        address.unwrap().parse().unwrap()
    }

    /// A certificate of a client, and its key.
    fn issue(&self, name: &str) -> DtlsCertificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        DtlsCertificate {
            certificate: certificate.der().to_vec(),
            private_key: key.serialize_der(),
        }
    }

    /// The value of a sample of the metrics.
    fn metric(&self, sample: &str) -> f64 {
        let address = self.address("http");
        let mut stream = TcpStream::connect(address).unwrap();
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let lines = response.lines();
        let value = lines.filter_map(|line| line.strip_prefix(sample)).next();
        let value = value.unwrap_or_else(|| panic!("no {sample} in {response}"));
        value.trim().parse().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both fail when it has ended, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session of a client.
struct Client<'s> {
    socket: &'s UdpSocket,
    dtls: Dtls,
    connected: bool,
    heard: VecDeque<Vec<u8>>,
}

impl<'s> Client<'s> {
    fn connect(socket: &'s UdpSocket, pair: DtlsCertificate) -> Self {
        let mut dtls = Dtls::new_13(Arc::new(Config::default()), pair, Instant::now());
        dtls.set_active(true);
        let mut client = Self {
            socket,
            dtls,
            connected: false,
            heard: VecDeque::new(),
        };
        client.until(|client| client.connected);
        client
    }

    /// Lets both sides talk until it is so.
    fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.dtls.handle_timeout(Instant::now()).unwrap();
            let due = self.poll();
            if is_so(self) {
                return;
            }
            assert!(Instant::now() < end, "nothing comes");
            let wait = due.saturating_duration_since(Instant::now());
            let wait = wait.clamp(Duration::from_millis(1), Duration::from_secs(1));
            self.socket.set_read_timeout(Some(wait)).unwrap();
            let mut buffer = [0; 4_096];
            if let Ok(length) = self.socket.recv(&mut buffer) {
                self.dtls.handle_packet(&buffer[..length]).unwrap();
            }
        }
    }

    /// Sends and keeps what there is; when it has to be called again.
    fn poll(&mut self) -> Instant {
        let mut buffer = vec![0; 1 << 15];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                dimpl::Output::Packet(datagram) => {
                    self.socket.send(datagram).unwrap();
                }
                dimpl::Output::Connected => self.connected = true,
                dimpl::Output::ApplicationData(data) => self.heard.push_back(data.to_vec()),
                dimpl::Output::Timeout(at) => return at,
                _ => {}
            }
        }
    }

    fn next(&mut self) -> Message {
        self.until(|client| !client.heard.is_empty());
        Message::read(&self.heard.pop_front().unwrap())
    }

    fn ask(&mut self, request: &[u8]) -> Message {
        self.dtls.send_application_data(request).unwrap();
        self.next()
    }

    fn acknowledge(&mut self, message: &Message) {
        let [high, low] = message.id.to_be_bytes();
        self.dtls
            .send_application_data(&[0x60, 0, high, low])
            .unwrap();
        self.poll();
    }
}

/// What is read of a message (RFC 7252 section 3).
#[derive(Debug)]
struct Message {
    is_confirmable: bool,
    code: u8,
    id: u16,
    payload: String,
}

impl Message {
    fn read(bytes: &[u8]) -> Self {
        let mut rest = &bytes[4 + usize::from(bytes[0] & 0x0F)..];
        while let Some(&first) = rest.first().filter(|first| **first != 0xFF) {
            // None that comes here needs more than one byte more for its number, or for its length.
            let more = |nibble: u8| usize::from(nibble == 13);
            let (delta, length) = (first >> 4, first & 0x0F);
            let skipped = 1 + more(delta);
            let length = match length {
                13 => 1 + 13 + usize::from(rest[skipped]),
                length => usize::from(length),
            };
            rest = &rest[skipped + length..];
        }
        let payload = rest.get(1..).unwrap_or_default();
        Self {
            is_confirmable: bytes[0] >> 4 & 3 == 0,
            code: bytes[1],
            id: u16::from_be_bytes([bytes[2], bytes[3]]),
            payload: String::from_utf8(payload.to_vec()).unwrap(),
        }
    }
}

/// A confirmable request for a topic of up to 12 characters.
fn request(code: u8, id: u16, observe: bool, topic: &str, payload: &str) -> Vec<u8> {
    let mut bytes = vec![0x41, code];
    bytes.extend(id.to_be_bytes());
    bytes.push(b't');
    // Observe is option 6, Uri-Path 11.
    bytes.extend_from_slice(if observe { b"\x60\x52ps" } else { b"\xB2ps" });
    bytes.push(u8::try_from(topic.len()).unwrap());
    bytes.extend(topic.bytes());
    if !payload.is_empty() {
        bytes.push(0xFF);
        bytes.extend(payload.bytes());
    }
    bytes
}

fn socket(gateway: &Gateway) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(gateway.address("coaps")).unwrap();
    socket
}

#[test]
fn rfc9147_a_client_of_dtls_1_3_publishes_and_another_one_observes() {
    let gateway = Gateway::start();
    let (first, second) = (socket(&gateway), socket(&gateway));
    let mut observer = Client::connect(&first, gateway.issue("pump-1"));
    let answer = observer.ask(&request(GET, 1, true, "level", ""));
    assert_eq!(answer.code, CONTENT);
    let mut publisher = Client::connect(&second, gateway.issue("pump-2"));
    for number in 1..=5 {
        let payload = format!("{number} m");
        let answer = publisher.ask(&request(PUT, number, false, "level", &payload));
        assert_eq!((answer.code, answer.id), (CHANGED, number));
        let told = observer.next();
        assert_eq!((told.code, told.payload), (CONTENT, payload));
        if told.is_confirmable {
            observer.acknowledge(&Message {
                payload: String::new(),
                ..told
            });
        }
    }
    let handshakes =
        "tidegate_dtls_handshakes_total{listener=\"coaps\",method=\"certificate_1_3\"}";
    assert_eq!(gateway.metric(handshakes), 2.0);
}

#[test]
fn rfc7252_9_1_the_next_session_at_an_address_knows_nothing_of_the_one_before() {
    let gateway = Gateway::start();
    let socket = socket(&gateway);
    let mut client = Client::connect(&socket, gateway.issue("pump-1"));
    client.ask(&request(GET, 1, true, "level", ""));
    client.ask(&request(PUT, 2, false, "other", "x"));
    // It has lost its power, and comes back with its first identifiers.
    let mut rebooted = Client::connect(&socket, gateway.issue("pump-2"));
    assert_eq!(gateway.metric("tidegate_subscriptions "), 0.0);
    let ended = "tidegate_coap_observations_ended_total{listener=\"coaps\",reason=\"session\"}";
    assert_eq!(gateway.metric(ended), 1.0);
    let answer = rebooted.ask(&request(PUT, 2, false, "level", "y"));
    assert_eq!((answer.code, answer.id), (CHANGED, 2));
    let duplicates = "tidegate_coap_duplicates_total{listener=\"coaps\"}";
    assert_eq!(gateway.metric(duplicates), 0.0);
    assert_eq!(
        gateway.metric("tidegate_messages_received_total{qos=\"1\"}"),
        2.0
    );
    assert!(rebooted.heard.is_empty(), "nobody observes any more");
}
