//! `tidegate pub` and `tidegate sub` over every scheme, and `tidegate cert`.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers are part of tests: what is not there fails the test"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tempfile::TempDir;

const SCHEMES: [&str; 5] = ["mqtt", "mqtts", "ws", "wss", "quic"];

/// A gateway with every default listener, on free ports; ended when dropped.
struct Gateway {
    child: Child,
    /// As the banner has them, in the order of [`SCHEMES`].
    urls: Vec<String>,
    directory: TempDir,
}

fn tidegate(directory: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.current_dir(directory.path()).stdin(Stdio::null());
    command
}

impl Gateway {
    fn start(settings: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings)
    }

    fn start_in(directory: TempDir, settings: &[&str]) -> Self {
        let mut command = tidegate(&directory);
        for name in SCHEMES
            .into_iter()
            .chain(["coap", "coaps", "coap_tcp", "coaps_tcp"])
        {
            let bind = format!("listeners.{name}.bind=127.0.0.1:0");
            command.args(["--set", &bind]);
        }
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command
            .args(["--set", "http.bind=127.0.0.1:0"])
            .args(["--set", "telemetry.log=error"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut lines = stdout.lines().map(Result::unwrap);
        let mut next = |scheme: &str| {
            let url = lines.find_map(|line| {
                let url = line.split_whitespace().next()?;
                url.starts_with(&format!("{scheme}://"))
                    .then(|| url.to_owned())
            });
            url.unwrap()
        };
        let urls = SCHEMES.map(&mut next).to_vec();
        Self {
            child,
            urls,
            directory,
        }
    }

    /// Another one in the same place, after this one.
    fn again(self) -> Self {
        self.again_with(&[])
    }

    fn again_with(mut self, settings: &[&str]) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        Self::start_in(directory, settings)
    }

    fn url(&self, scheme: &str) -> &str {
        let at = SCHEMES.iter().position(|known| *known == scheme);
        &self.urls[at.unwrap()]
    }

    /// The local CA, as a client gets it.
    fn export(&self) -> PathBuf {
        let out = self.directory.path().join("exported.pem");
        let output = tidegate(&self.directory)
            .args(["cert", "export", "--out"])
            .arg(&out)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        out
    }

    fn client(&self, name: &str, scheme: &str, arguments: &[&str]) -> Command {
        let mut command = tidegate(&self.directory);
        command
            .args([name, "--url", self.url(scheme), "--timeout", "20"])
            .args(arguments);
        command
    }

    /// What `tidegate pub` says when it fails.
    #[track_caller]
    fn fails(&self, scheme: &str, code: i32, arguments: &[&str]) -> String {
        let mut command = self.client("pub", scheme, arguments);
        let output = command.args(["-t", "a", "-m", "b"]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        stderr
    }

    #[track_caller]
    fn works(&self, scheme: &str, arguments: &[&str]) {
        let mut command = self.client("pub", scheme, arguments);
        let output = command.args(["-t", "a", "-m", "b", "-q", "1"]).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn trust(scheme: &str, ca: &str) -> Vec<String> {
    match scheme {
        "mqtts" | "wss" | "quic" => vec!["--ca".to_owned(), ca.to_owned()],
        _ => Vec::new(),
    }
}

/// Every scheme, and MQTT over QUIC on two streams.
fn ways() -> impl Iterator<Item = (&'static str, &'static [&'static str])> + Clone {
    let schemes = SCHEMES.into_iter().map(|scheme| (scheme, &[][..]));
    schemes.chain([("quic", &["--data-stream"][..])])
}

/// A subscriber that has subscribed, and what it says.
fn subscriber(mut command: Command) -> (Child, BufReader<ChildStderr>) {
    let mut child = command
        .arg("--debug")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("subscribed to") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "{command:?}");
    }
    (child, stderr)
}

/// What a subscriber has printed when it ends by itself.
fn printed(mut child: Child) -> String {
    let mut text = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    text
}

#[test]
fn what_is_published_in_one_way_is_received_in_each() {
    let gateway = Gateway::start(&[]);
    let ca = gateway.export();
    let ca = ca.to_str().unwrap();
    let count = ways().count().to_string();
    let subscribers: Vec<_> = ways()
        .map(|(scheme, options)| {
            let wanted = ["-t", "from/+", "-q", "2", "-n", &count, "-v"];
            let mut command = gateway.client("sub", scheme, &wanted);
            command.args(trust(scheme, ca)).args(options);
            subscriber(command)
        })
        .collect();
    // Larger than a record of TLS and a frame of WebSocket.
    let large = "x".repeat(100_000);
    fs::write(gateway.directory.path().join("large"), &large).unwrap();
    for (at, (scheme, options)) in ways().enumerate() {
        let topic = format!("from/{at}");
        let output = gateway
            .client("pub", scheme, &["-t", &topic, "-f", "large", "-q", "2"])
            .args(trust(scheme, ca))
            .args(options)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{scheme}: {output:?}");
    }
    let lines = (0..ways().count()).map(|at| format!("from/{at} {large}\n"));
    let expected: String = lines.collect();
    for (child, _stderr) in subscribers {
        let text = printed(child);
        assert!(text == expected, "{} bytes", text.len());
    }
}

const EARLY: &str = "listeners.quic.tls.resumption=early_data";

#[test]
fn connect_is_sent_as_early_data_where_it_is_wanted() {
    let said = |gateway: &Gateway| {
        let ca = gateway.export();
        let mut command = gateway.client("pub", "quic", &["-t", "a", "-m", "b", "-q", "1"]);
        command.args(["--early-data", "--debug", "--ca"]).arg(ca);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        said
    };
    let gateway = Gateway::start(&[EARLY]);
    let accepted = said(&gateway);
    assert!(accepted.contains("early data and accepted"), "{accepted}");
    let none = "the gateway gives no session for early data";
    for resumption in ["tickets", "off"] {
        let setting = format!("listeners.quic.tls.resumption={resumption}");
        let gateway = Gateway::start(&[&setting]);
        let said = said(&gateway);
        assert!(said.contains(none), "{said}");
    }
    let said = gateway.fails("mqtts", 2, &["--early-data"]);
    assert!(said.contains("--early-data is for QUIC"), "{said}");
}

#[test]
fn a_subscriber_that_has_lost_its_gateway_comes_back() {
    let gateway = Gateway::start(&[EARLY]);
    let ca = gateway.export();
    let ca = ca.to_str().unwrap();
    let options = ["-t", "a", "-n", "1", "-k", "1", "-i", "back", "--debug"];
    let mut child = gateway
        .client("sub", "quic", &options)
        .args(["--reconnect", "--early-data", "--ca", ca])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut until = |wanted: &str| {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "{wanted}");
        }
    };
    until("accepted");
    until("subscribed to");
    let address = gateway.url("quic").replace("quic://", "");
    let bind = format!("listeners.quic.bind={address}");
    let gateway = gateway.again_with(&[EARLY, &bind]);
    until("connecting again");
    // The gateway that knew the session is gone.
    until("refused, and sent again");
    until("subscribed to");
    gateway.works("quic", &["--ca", ca]);
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "b\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_client_that_leaves_is_heard_on_its_data_stream_to_the_end() {
    let gateway = Gateway::start(&[]);
    let ca = gateway.export();
    let ca = ca.to_str().unwrap();
    let (subscriber, _stderr) =
        subscriber(gateway.client("sub", "mqtt", &["-t", "a", "-n", "2000"]));
    let lines: String = (0..2_000).map(|n| format!("{n}\n")).collect();
    fs::write(gateway.directory.path().join("lines"), &lines).unwrap();
    // At QoS 0 nothing says that it has come.
    let output = gateway
        .client(
            "pub",
            "quic",
            &["-t", "a", "-l", "--data-stream", "--ca", ca],
        )
        .stdin(fs::File::open(gateway.directory.path().join("lines")).unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(printed(subscriber) == lines);
    let said = gateway.fails("mqtt", 2, &["--data-stream"]);
    assert!(said.contains("is for QUIC; the URL says mqtt"), "{said}");
}

#[test]
fn a_gateway_that_is_not_trusted_is_not_spoken_to() {
    let gateway = Gateway::start(&[]);
    for scheme in ["mqtts", "wss", "quic"] {
        let said = gateway.fails(scheme, 1, &[]);
        assert!(said.contains("UnknownIssuer"), "{said}");
        assert!(said.contains("`tidegate cert export`"), "{said}");
        gateway.works(scheme, &["--insecure"]);
    }
    let said = gateway.fails("mqtts", 2, &["--ca", "nowhere.pem"]);
    assert!(said.contains("nowhere.pem"), "{said}");
    for option in [&["--insecure"][..], &["--ca", "ca.pem"]] {
        let said = gateway.fails("ws", 2, option);
        assert!(said.contains("are for TLS; the URL says ws"), "{said}");
    }
    gateway.fails("mqtts", 2, &["--cert", "without-key.pem"]);
}

#[test]
fn a_name_that_the_certificate_does_not_have_is_refused() {
    // All of 127.0.0.0/8 is this machine, and only 127.0.0.1 is in the certificate.
    let gateway = Gateway::start(&[
        "listeners.mqtts.bind=127.0.0.2:0",
        "listeners.quic.bind=127.0.0.2:0",
    ]);
    let ca = gateway.export();
    for scheme in ["mqtts", "quic"] {
        let said = gateway.fails(scheme, 1, &["--ca", ca.to_str().unwrap()]);
        assert!(said.contains("certificate not valid for name"), "{said}");
    }
}

#[test]
fn the_wrong_port_is_told_apart() {
    let gateway = Gateway::start(&[]);
    let at = |scheme: &str, port_of: &str| {
        let address = gateway.url(port_of).split("//").nth(1).unwrap();
        let url = format!("{scheme}://{}", address.trim_end_matches("/mqtt"));
        let mut command = tidegate(&gateway.directory);
        command.args(["pub", "--url", &url, "-t", "a", "-m", "b"]);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    };
    let said = at("mqtt", "mqtts");
    assert!(said.contains("this port speaks TLS"), "{said}");
    for (scheme, port_of) in [("mqtts", "mqtt"), ("wss", "ws")] {
        let said = at(scheme, port_of);
        assert!(
            said.contains("perhaps this port does not speak TLS"),
            "{said}"
        );
    }
}

#[test]
fn what_speaks_no_websocket_with_us_is_named() {
    let gateway = Gateway::start(&["listeners.ws.websocket.path=/other"]);
    let url = gateway.url("ws").replace("/other", "/mqtt");
    let mut command = tidegate(&gateway.directory);
    command.args(["pub", "--url", &url, "-t", "a", "-m", "b"]);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("404"), "{said}");
    assert!(said.contains("MQTT over WebSocket is at /other"), "{said}");
    gateway.works("ws", &[]);
}

#[test]
fn a_client_shows_its_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs::write(directory.path().join(name), text).unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let mut client = CertificateParams::new(vec!["meter-7".to_owned()]).unwrap();
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    write("clients.pem", ca.pem());
    write("client.crt", client.signed_by(&key, &ca).unwrap().pem());
    write("client.key", key.serialize_pem());
    let gateway = Gateway::start_in(
        directory,
        &[
            "listeners.mqtts.tls.client_ca=clients.pem",
            "listeners.wss.tls.client_ca=clients.pem",
            "listeners.quic.tls.client_ca=clients.pem",
            "listeners.wss.tls.client_auth=optional",
        ],
    );
    let shown = ["--insecure", "--cert", "client.crt", "--key", "client.key"];
    gateway.works("mqtts", &shown);
    gateway.works("wss", &shown);
    gateway.works("quic", &shown);
    gateway.works("wss", &["--insecure"]);
    let said = gateway.fails("mqtts", 1, &["--insecure"]);
    assert!(said.contains("CertificateRequired"), "{said}");
}

// ---- tidegate cert ------------------------------------------------------------------------------

fn cert(directory: &TempDir, arguments: &[&str]) -> Output {
    tidegate(directory)
        .arg("cert")
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn the_local_certificate_is_made_at_the_first_start_and_shown() {
    let gateway = Gateway::start(&[]);
    let first = cert(&gateway.directory, &["export"]);
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let pem = String::from_utf8(first.stdout).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
    assert_eq!(pem.matches("BEGIN").count(), 1, "nothing but the CA: {pem}");

    let shown = cert(&gateway.directory, &["show"]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in [
        "listener mqtts\n",
        "listener wss\n",
        "listener quic\n",
        "listener coaps_tcp\n",
        "DNS:localhost",
        "IP:127.0.0.1",
        "days left",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let none = [
        "listeners.mqtts.enabled=false",
        "listeners.wss.enabled=false",
        "listeners.quic.enabled=false",
        "listeners.coaps_tcp.enabled=false",
    ];
    let arguments: Vec<_> = none.iter().flat_map(|it| ["--set", it]).collect();
    let shown = cert(&gateway.directory, &[&["show"], &arguments[..]].concat());
    assert_eq!(shown.stdout, b"No listener speaks TLS.\n");
    // The next start finds it.
    let again = gateway.again();
    let exported = fs::read_to_string(again.export()).unwrap();
    assert_eq!(exported, pem);
}

#[test]
fn cert_only_reads() {
    let directory = tempfile::tempdir().unwrap();
    let authority = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["own.example".to_owned()]).unwrap();
    let own = own.self_signed(&authority).unwrap().pem();
    fs::write(directory.path().join("own.crt"), own).unwrap();
    fs::write(directory.path().join("own.key"), authority.serialize_pem()).unwrap();
    let absent = "there is no local certificate in here/tls; the gateway makes it at its first \
                  start (is --data-dir the one of the gateway?)\n";

    let output = cert(&directory, &["export", "--data-dir", "here"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, format!("error: {absent}"));

    let settings = [
        "listeners.mqtts.tls.cert=own.crt",
        "listeners.mqtts.tls.key=own.key",
    ];
    let settings: Vec<_> = settings.iter().flat_map(|it| ["--set", it]).collect();
    let show = [&["show", "--data-dir", "here"], &settings[..]].concat();
    let output = cert(&directory, &show);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let expected =
        ["wss", "quic", "coaps_tcp"].map(|name| format!("error: listener {name}: {absent}"));
    assert_eq!(said, expected.concat());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("DNS:own.example"), "the other one: {shown}");
    let mode = "warning       own.key: the private key can be read by other users";
    assert!(shown.contains(mode), "{shown}");
    assert!(!directory.path().join("here").exists(), "nothing is made");
}

#[test]
fn check_and_cert_name_files_that_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [
        "listeners.mqtts.tls.cert=a.crt",
        "listeners.mqtts.tls.key=a.key",
    ];
    let settings: Vec<_> = settings.iter().flat_map(|it| ["--set", it]).collect();
    for (command, code) in [(&["check"][..], 2), (&["cert", "show"], 1), (&["run"], 1)] {
        let mut command = tidegate(&directory)
            .args(command)
            .args(&settings)
            .output()
            .unwrap();
        let said = String::from_utf8(std::mem::take(&mut command.stderr)).unwrap();
        assert_eq!(command.status.code(), Some(code), "{said}");
        assert!(said.contains("listener mqtts"), "{said}");
        let once = "a.crt: there is no such file";
        assert!(said.contains(once) && !said.contains("os error"), "{said}");
    }
}
