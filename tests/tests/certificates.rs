//! Certificates of the listeners: the one made on the first start, renewal without a restart, renewal
//! that fails, and what the operator is told.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_tests::certificates::{Authority, Identity, Request, write};
use tidegate_tests::wire::{Client, Connect, Stream};
use tidegate_tests::{
    Gateway, Server, TlsClient, Transport, eventually, get, has_program, run, tidegate, unique,
};

const MQTTS: &str = "listener=\"mqtts\"";

/// A directory of files as Kubernetes mounts a secret: each name leads through one link, `..data`, to
/// the files, and that link is what changes.
struct Mount {
    directory: TempDir,
    versions: AtomicU32,
}

impl Mount {
    fn new() -> Self {
        let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
        for name in ["tls.crt", "tls.key"] {
            link(
                &Path::new("..data").join(name),
                &directory.path().join(name),
            );
        }
        Self {
            directory,
            versions: AtomicU32::new(0),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Swaps all files at once.
    fn put(&self, certificate: &str, key: &str) {
        let number = self.versions.fetch_add(1, Ordering::Relaxed);
        let version = format!("..version_{number}");
        fs::create_dir(self.path(&version)).unwrap_or_else(|error| panic!("{version}: {error}"));
        write(&self.path(&version).join("tls.crt"), certificate);
        write(&self.path(&version).join("tls.key"), key);
        link(Path::new(&version), &self.path("..data_tmp"));
        fs::rename(self.path("..data_tmp"), self.path("..data"))
            .unwrap_or_else(|error| panic!("..data: {error}"));
        if let Some(before) = number.checked_sub(1) {
            let _ = fs::remove_dir_all(self.path(&format!("..version_{before}")));
        }
    }

    fn put_identity(&self, identity: &Identity) {
        self.put(&identity.certificate, &identity.key);
    }

    /// A gateway whose `mqtts` has the certificate of these files.
    #[track_caller]
    fn start(&self) -> Option<Gateway> {
        Gateway::configured(&format!(
            "[listeners.mqtts.tls]\ncert = \"{}\"\nkey = \"{}\"",
            self.path("tls.crt").display(),
            self.path("tls.key").display()
        ))
    }
}

fn link(original: &Path, name: &Path) {
    symlink(original, name).unwrap_or_else(|error| panic!("{}: {error}", name.display()));
}

#[track_caller]
fn server(gateway: &Gateway, authority: &Authority) -> Server {
    Server::new(Transport::Tls, gateway.address("mqtts"))
        .trusting(TlsClient::trusting(&authority.pem()).build())
}

/// Whether a stream's server has shown this certificate.
fn shows(stream: &Stream, identity: &Identity) -> bool {
    let shown = stream.tls().and_then(|tls| tls.peer_certificates());
    shown.is_some_and(|chain| chain.first() == Some(&identity.der()))
}

#[track_caller]
fn new_handshakes_show(server: &Server, identity: &Identity) {
    eventually("new handshakes see the new certificate", || {
        let stream = server.connect();
        let stream = stream.unwrap_or_else(|error| panic!("a handshake failed: {error}"));
        shows(&stream, identity)
    });
}

// ---- renewal ----

#[test]
fn connections_stay_while_certificates_change() {
    const CONNECTIONS: usize = 1_000;
    let authority = Authority::new("Test authority");
    let issue = || authority.issue(&Request::server(&["localhost"]));
    let mount = Mount::new();
    mount.put_identity(&issue());
    let Some(gateway) = mount.start() else {
        return;
    };
    let server = server(&gateway, &authority);
    let mut clients: Vec<Client> = (0..CONNECTIONS)
        .map(|_| Connect::v5(&unique("stays")).open(&server))
        .collect();
    let over = AtomicBool::new(false);
    let arrived = thread::scope(|scope| {
        // Clients come all the time; none may fail, whatever it finds.
        let arriving = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                Connect::v311(&unique("comes")).open(&server).disconnect();
                count += 1;
            }
            count
        });
        for round in 0..10 {
            let identity = issue();
            mount.put_identity(&identity);
            new_handshakes_show(&server, &identity);
            // A tenth of the connections each time, all of them in the end.
            let tenth = clients.iter_mut().skip(round).step_by(10);
            tenth.for_each(Client::expect_nothing);
        }
        over.store(true, Ordering::Relaxed);
        arriving.join()
    });
    assert!(arrived.is_ok_and(|count| count > 0));
    clients.iter_mut().for_each(Client::expect_nothing);
    let reloads = |result: &str| {
        let result = format!("result=\"{result}\"");
        gateway.metric("tidegate_tls_reloads_total", &[&result])
    };
    assert!(reloads("success") >= 10.0, "{}", reloads("success"));
    assert_eq!(reloads("failure"), 0.0, "{}", gateway.output());
}

#[test]
fn files_that_are_replaced_or_rewritten_are_reloaded() {
    let authority = Authority::new("Test authority");
    let issue = || authority.issue(&Request::server(&["localhost"]));
    let files = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
    issue().write(files.path(), "tls");
    let (cert, key) = (files.path().join("tls.crt"), files.path().join("tls.key"));
    let Some(gateway) = Gateway::configured(&format!(
        "[listeners.mqtts.tls]\ncert = \"{}\"\nkey = \"{}\"",
        cert.display(),
        key.display()
    )) else {
        return;
    };
    let server = server(&gateway, &authority);
    // Renamed over, as certbot and most tools do: first the key, so that for a moment they do not fit.
    let renewed = issue();
    let (new_cert, new_key) = renewed.write(files.path(), "new");
    for (new, old) in [(&new_key, &key), (&new_cert, &cert)] {
        fs::rename(new, old).unwrap_or_else(|error| panic!("not renamed: {error}"));
    }
    new_handshakes_show(&server, &renewed);
    // Written in place, as an editor or `cp` does.
    let renewed = issue();
    renewed.write(files.path(), "tls");
    new_handshakes_show(&server, &renewed);
    eventually("no trouble is left", || {
        gateway.metric("tidegate_tls_reload_failing", &[]) == 0.0
    });
}

#[test]
fn a_signal_makes_the_gateway_look_again() {
    let authority = Authority::new("Test authority");
    let issue = || authority.issue(&Request::server(&["localhost"]));
    let mount = Mount::new();
    mount.put_identity(&issue());
    let Some(gateway) = mount.start() else {
        return;
    };
    let renewed = issue();
    mount.put_identity(&renewed);
    gateway.signal("HUP");
    new_handshakes_show(&server(&gateway, &authority), &renewed);
    assert_eq!(get(gateway.http(), "/livez").status, 200);
}

#[test]
fn a_renewal_that_fails_keeps_the_old_certificate_and_says_so() {
    let authority = Authority::new("Test authority");
    let issue = || authority.issue(&Request::server(&["localhost"]));
    let mount = Mount::new();
    let good = issue();
    mount.put_identity(&good);
    let Some(gateway) = mount.start() else {
        return;
    };
    let server = server(&gateway, &authority);
    let mut client = Connect::v5(&unique("stays")).open(&server);
    let failing = || gateway.metric("tidegate_tls_reload_failing", &[MQTTS]);
    let failures = || gateway.metric("tidegate_tls_reloads_total", &["result=\"failure\""]);
    assert_eq!((failing(), failures()), (0.0, 0.0));
    let other = issue();
    let broken = [
        (
            "a key of another certificate",
            &good.certificate,
            &other.key,
        ),
        ("no certificate", &String::new(), &good.key),
        ("no key", &good.certificate, &"not PEM".to_owned()),
    ];
    for (what, certificate, key) in broken {
        eprintln!("{what}");
        let before = failures();
        mount.put(certificate, key);
        gateway.signal("HUP");
        eventually("the failure is counted", || failures() > before);
        assert_eq!(failing(), 1.0);
        let stream = server.connect();
        assert!(
            stream.is_ok_and(|stream| shows(&stream, &good)),
            "the old one stays"
        );
        // Ready it is: clients are served as before.
        let ready = get(gateway.http(), "/readyz?verbose");
        assert_eq!(ready.status, 200, "{ready:?}");
        let tls = ready.body.lines().find(|line| line.contains("tls"));
        let tls = tls.unwrap_or_else(|| panic!("no line of TLS: {ready:?}"));
        assert!(tls.contains("mqtts"), "it names the listener: {ready:?}");
        client.expect_nothing();
    }
    assert!(
        gateway.output().contains("tls.crt"),
        "the log names the file"
    );
    let warned = gateway.output();
    mount.put_identity(&other);
    new_handshakes_show(&server, &other);
    eventually("the trouble is over", || failing() == 0.0);
    let before = warned
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"));
    assert!(
        before.count() < 30,
        "a broken file is not told all the time: {warned}"
    );
}

// ---- what the operator is told ----

#[test]
fn the_days_until_a_certificate_ends_are_told() {
    let authority = Authority::new("Test authority");
    let mount = Mount::new();
    mount.put_identity(&authority.issue(&Request::server(&["localhost"]).days(10)));
    let Some(gateway) = mount.start() else {
        return;
    };
    let days = || {
        gateway.metric(
            "tidegate_tls_certificate_expiry_days",
            &[MQTTS, "localhost"],
        )
    };
    assert!((9.0..=10.0).contains(&days()), "{}", days());
    let seconds = gateway.metric(
        "tidegate_tls_certificate_not_after_timestamp_seconds",
        &[MQTTS],
    );
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs_f64();
    let left = Duration::from_secs_f64(seconds - now).as_secs_f64() / 86_400.0;
    assert!((9.9..=10.0).contains(&left), "{left}");
    mount.put_identity(&authority.issue(&Request::server(&["localhost"]).days(90)));
    eventually("the new end", || (89.0..=90.0).contains(&days()));
    // One that is over is negative, and served all the same: a clock may be wrong.
    mount.put_identity(&authority.issue(&Request::server(&["localhost"]).expired()));
    eventually("the end is past", || days() < 0.0);
    let ready = get(gateway.http(), "/readyz?verbose");
    assert_eq!(ready.status, 200, "it serves: {ready:?}");
    let line = "[!]certificates warning: listener mqtts: ";
    assert!(ready.body.contains(line), "{ready:?}");
    assert!(ready.body.contains("has expired"), "{ready:?}");
}

#[test]
fn a_certificate_that_cannot_be_read_at_the_start_ends_it_with_a_word() {
    let directory = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
    let at = |name: &str| directory.path().join(name);
    let sets = [
        format!("listeners.mqtts.tls.cert={}", at("none.crt").display()),
        format!("listeners.mqtts.tls.key={}", at("none.key").display()),
    ];
    let mut command = Command::new(tidegate());
    command.args(["run", "--data-dir"]).arg(at("data"));
    let binds = [
        "listeners.mqtt",
        "listeners.mqtts",
        "listeners.ws",
        "listeners.wss",
        "listeners.quic",
        "listeners.coap",
        "listeners.coaps",
        "listeners.coap_tcp",
        "listeners.coaps_tcp",
        "http",
    ];
    for bind in binds {
        command.args(["--set", &format!("{bind}.bind=127.0.0.1:0")]);
    }
    for set in &sets {
        command.args(["--set", set]);
    }
    let outcome = run(&mut command, Duration::from_secs(20));
    assert!(!outcome.status.success(), "{}", outcome.said);
    assert!(
        outcome.said.contains("none.crt") || outcome.said.contains("none.key"),
        "{}",
        outcome.said
    );
}

// ---- the certificate of the first start ----

#[test]
fn the_first_start_makes_a_certificate_that_only_its_owner_can_use() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let tls = gateway.directory().join("data/tls");
    for (name, mode) in [("ca.key", 0o600), ("localhost.key", 0o600)] {
        let found = fs::metadata(tls.join(name));
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
    }
    for name in ["localhost", "127.0.0.1"] {
        for transport in [Transport::Tls, Transport::Wss] {
            let listener = gateway.listener(transport.scheme(), transport).named(name);
            Connect::v5(&unique("local"))
                .open(&listener)
                .expect_nothing();
        }
    }
    if has_program("openssl") {
        let mut command = Command::new("openssl");
        command.arg("verify").arg("-x509_strict").arg("-CAfile");
        command
            .arg(tls.join("ca.crt"))
            .arg(tls.join("localhost.crt"));
        let outcome = run(&mut command, Duration::from_secs(20));
        assert!(outcome.status.success(), "{}", outcome.said);
    }
}

#[test]
fn the_certificate_of_the_first_start_is_there_at_the_second() {
    let Some(first) = Gateway::configured("") else {
        return;
    };
    let data = first.directory().join("data").display().to_string();
    let own = format!(
        "[listeners.mqtts.tls]\ncert = \"{data}/tls/localhost.crt\"\nkey = \"{data}/tls/localhost.key\""
    );
    let pem = export(&data);
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    let Some(gateway) = Gateway::configured(&own) else {
        return;
    };
    let server = Server::new(Transport::Tls, gateway.address("mqtts"));
    let server = server.trusting(TlsClient::trusting(&pem).build());
    Connect::v5(&unique("exported"))
        .open(&server)
        .expect_nothing();
}

/// What `tidegate cert export` writes of a data directory.
#[track_caller]
fn export(data: &str) -> String {
    let output = Command::new(tidegate())
        .args(["cert", "export", "--data-dir", data])
        .output()
        .unwrap_or_else(|error| panic!("tidegate: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn cert_show_tells_names_and_ends() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    let mut command = Command::new(tidegate());
    command.args(["cert", "show", "--data-dir"]);
    command.arg(gateway.directory().join("data"));
    let outcome = run(&mut command, Duration::from_secs(20));
    assert!(outcome.status.success(), "{}", outcome.said);
    for expected in ["mqtts", "wss", "localhost", "127.0.0.1"] {
        assert!(
            outcome.said.contains(expected),
            "{expected}: {}",
            outcome.said
        );
    }
}

#[test]
fn the_test_clients_use_the_local_certificate() {
    let Some(gateway) = Gateway::configured("") else {
        return;
    };
    for transport in Transport::ALL {
        let scheme = transport.scheme();
        let url = format!("{scheme}://localhost:{}", gateway.address(scheme).port());
        let mut command = Command::new(tidegate());
        command.args(["pub", "--url", &url, "-t", "t", "-m", "x", "-q", "1"]);
        if transport.is_encrypted() {
            command.arg("--ca").arg(gateway.authority());
        }
        let outcome = run(&mut command, Duration::from_secs(20));
        assert!(outcome.status.success(), "{scheme}: {}", outcome.said);
    }
    // Nobody trusts it unasked.
    let url = format!("mqtts://localhost:{}", gateway.address("mqtts").port());
    let mut command = Command::new(tidegate());
    command.args(["pub", "--url", &url, "-t", "t", "-m", "x"]);
    let outcome = run(&mut command, Duration::from_secs(20));
    assert!(!outcome.status.success(), "{}", outcome.said);
    assert!(
        outcome.said.contains("cert export"),
        "it says what to do: {}",
        outcome.said
    );
}
