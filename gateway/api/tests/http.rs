//! The server as a peer sees it: real sockets, requests as bytes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the helpers are part of tests: what is not there fails the test"
)]

use std::net::SocketAddr;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tidegate_api::{Api, Check, Health, Registry, Server, Settings, register_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Site {
    address: SocketAddr,
    health: Health,
    listeners: Check,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

async fn site(settings: Settings) -> Site {
    let health = Health::new(Duration::from_secs(10));
    let listeners = health.check("listeners");
    let mut registry = Registry::default();
    register_process(&mut registry, "1.2.3");
    let visits = Counter::<u64>::default();
    visits.inc_by(3);
    registry.register("test_visits", "Visits", visits);
    let server = Server::bind(Settings {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..settings
    });
    let server = server.unwrap();
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn({
        let health = health.clone();
        async move {
            server
                .serve(health, registry, Api::default(), async {
                    let _ = stopped.await;
                })
                .await;
        }
    });
    Site {
        address,
        health,
        listeners,
        stop,
        served,
    }
}

/// Sends `request` as it is and reads until the server closes.
async fn exchange(address: SocketAddr, request: &str) -> Reply {
    tokio::time::timeout(PATIENCE, async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a response head");
        Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    })
    .await
    .expect("an answer in time")
}

async fn get_with(address: SocketAddr, path: &str, headers: &str) -> Reply {
    let request = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    exchange(address, &request).await
}

async fn get(address: SocketAddr, path: &str) -> Reply {
    get_with(address, path, "Host: localhost\r\n").await
}

#[tokio::test]
async fn probes_follow_the_health() {
    let site = site(Settings::default()).await;

    let ready = get(site.address, "/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(
        ready.body,
        "[-]listeners failed: not yet\nreadyz check failed\n"
    );
    let startup = get(site.address, "/startupz").await;
    assert_eq!(startup.status, 503);
    assert_eq!(
        startup.body,
        "[-]startup failed: not finished\nstartupz check failed\n"
    );

    site.listeners.pass();
    site.health.finish_startup();
    for path in ["/livez", "/readyz", "/startupz"] {
        let reply = get(site.address, path).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "ok\n"), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
    }

    site.listeners.fail("mqtt is gone");
    let ready = get(site.address, "/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(
        ready.body,
        "[-]listeners failed: mqtt is gone\nreadyz check failed\n"
    );
    assert_eq!(get(site.address, "/livez").await.status, 200);
}

#[tokio::test]
async fn a_verbose_probe_lists_its_checks() {
    let site = site(Settings::default()).await;
    let store = site.health.check("store");
    site.listeners.pass();
    store.fail("recovering");
    let reply = get(site.address, "/readyz?verbose").await;
    assert_eq!(reply.status, 503);
    assert_eq!(
        reply.body,
        "[+]listeners ok\n[-]store failed: recovering\nreadyz check failed\n"
    );
    store.pass();
    for path in [
        "/readyz?verbose",
        "/readyz?verbose=true",
        "/readyz?a=b&verbose",
    ] {
        let reply = get(site.address, path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(
            reply.body, "[+]listeners ok\n[+]store ok\nreadyz check passed\n",
            "{path}"
        );
    }
    assert_eq!(get(site.address, "/readyz?quiet").await.body, "ok\n");
    store.warn("half full");
    let reply = get(site.address, "/readyz?verbose").await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.body,
        "[+]listeners ok\n[!]store warning: half full\nreadyz check passed\n"
    );
    let live = get(site.address, "/livez?verbose").await;
    assert_eq!(live.body, "[+]heartbeat ok\nlivez check passed\n");
}

#[tokio::test]
async fn metrics_are_openmetrics_text() {
    let site = site(Settings::default()).await;
    let reply = get(site.address, "/metrics").await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(reply.body.ends_with("# EOF\n"));

    // Every line is a comment of the format or a sample: name, labels, a number.
    let mut samples = std::collections::HashMap::new();
    for line in reply.body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let word = comment.split(' ').next().unwrap();
            assert!(["HELP", "TYPE", "UNIT", "EOF"].contains(&word), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a sample");
        let number: f64 = value.parse().expect("a number");
        assert_eq!(
            samples.insert(name.to_owned(), number),
            None,
            "twice: {line}"
        );
    }
    assert_eq!(samples["tidegate_build_info{version=\"1.2.3\"}"], 1.0);
    assert_eq!(samples["test_visits_total"], 3.0);
    assert!(samples["process_start_time_seconds"] > 1.6e9);
    if cfg!(target_os = "linux") {
        assert!(samples["process_resident_memory_bytes"] > 1e5);
        assert!(samples["process_open_fds"] >= 3.0);
        assert!(samples["process_max_fds"] >= samples["process_open_fds"]);
        assert!(samples["process_cpu_seconds_total"] >= 0.0);
        assert!(samples["process_threads"] >= 1.0);
    }
}

#[tokio::test]
async fn a_request_names_a_host_of_this_gateway() {
    let site = site(Settings {
        allowed_hosts: vec!["gate.example".parse().unwrap()],
        ..Settings::default()
    })
    .await;
    let own = site.address.to_string();
    for host in [
        "localhost",
        "localhost:1",
        "127.0.0.1",
        "[::1]:18083",
        "gate.example",
        &own,
    ] {
        let reply = get_with(site.address, "/livez", &format!("Host: {host}\r\n")).await;
        assert_eq!(reply.status, 200, "{host}: {}", reply.body);
    }
    for host in ["evil.example", "10.0.0.1", "gate.example.evil:18083"] {
        for path in ["/livez", "/metrics", "/nothing"] {
            let reply = get_with(site.address, path, &format!("Host: {host}\r\n")).await;
            assert_eq!(reply.status, 421, "{host}");
            assert!(reply.body.contains(host), "{}", reply.body);
            assert!(reply.body.contains("http.allowed_hosts"), "{}", reply.body);
        }
    }
}

#[tokio::test]
async fn a_request_has_one_host() {
    let site = site(Settings::default()).await;
    for headers in [
        "",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: a@b\r\n",
        "Host:\r\n",
    ] {
        let reply = get_with(site.address, "/livez", headers).await;
        assert_eq!(reply.status, 400, "{headers:?}: {}", reply.body);
    }
    let old = exchange(site.address, "GET /livez HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.status, 200);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let site = site(Settings {
        allowed_origins: vec!["https://app.example".parse().unwrap()],
        ..Settings::default()
    })
    .await;
    let own = site.address;
    let from = async |origin: &str| {
        let headers = format!("Host: {own}\r\nOrigin: {origin}\r\n");
        get_with(own, "/readyz?verbose", &headers).await
    };
    site.listeners.pass();
    assert_eq!(from(&format!("http://{own}")).await.status, 200);
    assert_eq!(from("https://app.example").await.status, 200);
    for (origin, advice) in [
        ("http://evil.example", "http.allowed_origins"),
        ("http://127.0.0.1:3000", "http.allowed_origins"),
        ("http://localhost", "http.allowed_origins"),
        ("null", "Serve it over HTTP"),
    ] {
        let reply = from(origin).await;
        assert_eq!(reply.status, 403, "{origin}");
        assert!(!reply.body.contains("listeners"), "{}", reply.body);
        assert!(reply.body.contains(advice), "{}", reply.body);
    }
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_say_so() {
    let site = site(Settings::default()).await;
    let reply = get(site.address, "/healthz").await;
    assert_eq!(reply.status, 404);
    assert!(
        reply.body.contains("/healthz") && reply.body.contains("/livez"),
        "{}",
        reply.body
    );
    assert_eq!(
        reply.header("content-type"),
        Some("text/plain; charset=utf-8")
    );

    let post = "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\
                Connection: close\r\n\r\n{}";
    let reply = exchange(site.address, post).await;
    assert_eq!(reply.status, 405);
    assert_eq!(reply.header("allow"), Some("GET,HEAD"));
    assert!(reply.body.contains("POST"), "{}", reply.body);

    let head = "HEAD /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let reply = exchange(site.address, head).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let site = site(Settings {
        header_read_timeout: Duration::from_millis(50),
        ..Settings::default()
    })
    .await;
    for start in ["", "GET /livez HTTP/1.1\r\nHost: localh"] {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
        closed.expect("the server closes").unwrap();
    }
    assert_eq!(get(site.address, "/livez").await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let site = site(Settings::default()).await;
    let headers = format!("Host: localhost\r\nX: {}\r\n", "x".repeat(40_000));
    let request = format!("GET /livez HTTP/1.1\r\n{headers}\r\n");
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    // The server may close before it has read everything: then the rest cannot be written.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut bytes = vec![0; 12];
    if stream.read_exact(&mut bytes).await.is_ok() {
        assert_eq!(bytes, b"HTTP/1.1 431");
    }
    assert_eq!(get(site.address, "/livez").await.status, 200);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let site = site(Settings {
        max_connections: 1,
        ..Settings::default()
    })
    .await;
    let mut first = TcpStream::connect(site.address).await.unwrap();
    first
        .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut start = [0; 12];
    first.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");

    let second = tokio::spawn(get(site.address, "/livez"));
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    drop(first);
    assert_eq!(second.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_connection_does_not_live_for_ever() {
    let site = site(Settings {
        max_connection_age: Duration::from_millis(50),
        ..Settings::default()
    })
    .await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut bytes = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    closed.expect("the server closes").unwrap();
    assert!(bytes.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_the_listener() {
    let site = site(Settings::default()).await;
    let mut idle = TcpStream::connect(site.address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut start = [0; 12];
    idle.read_exact(&mut start).await.unwrap();

    site.stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, site.served)
        .await
        .expect("the server ends")
        .unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"ok\n"));
    assert!(TcpStream::connect(site.address).await.is_err());
}
