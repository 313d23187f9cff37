//! Against libcoap's example server, whose resources are made by PUT and may be observed.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::relay::{Relay, Weather};
use super::run::{Process, Subscriber, answers_ping, fails, free_ports, large, program, works};

/// A server with room for resources, and its port.
pub(super) fn server(name: &str, arguments: &[&str]) -> Option<(Process, u16)> {
    let program = program(name)?;
    let port = free_ports();
    let mut command = Command::new(program);
    command
        .args(["-A", "127.0.0.1", "-p", &port.to_string(), "-d", "100"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let process = Process::start(&mut command);
    answers_ping(SocketAddr::from(([127, 0, 0, 1], port)));
    Some((process, port))
}

/// Publishes and observes, with small and large bodies.
pub(super) fn speaks_with(url: &str, more: &[&str]) {
    speaks_of(&large(), url, more);
}

/// The same, with this body.
pub(super) fn speaks_of(large: &str, url: &str, more: &[&str]) {
    let with = |arguments: &[&str]| -> Vec<String> {
        let all = arguments.iter().chain(more);
        all.map(|it| (*it).to_owned()).collect()
    };
    let works = |arguments: &[&str]| {
        let all = with(arguments);
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        works(url, &all)
    };
    let observe = |arguments: &[&str]| {
        let all = with(arguments);
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        Subscriber::start(url, &all)
    };
    works(&[
        "pub",
        "-t",
        "a/b",
        "-m",
        "1",
        "--content-type",
        "application/json",
    ]);
    let subscriber = observe(&["-t", "a/b", "-n", "3", "--json"]);
    works(&[
        "pub",
        "-t",
        "a/b",
        "-m",
        "2",
        "--content-type",
        "application/json",
    ]);
    works(&[
        "pub",
        "-t",
        "a/b",
        "-m",
        "3",
        "--content-type",
        "application/json",
    ]);
    let messages = subscriber.messages();
    let payloads: Vec<_> = messages.iter().map(|it| it["payload"].clone()).collect();
    assert_eq!(payloads, ["1", "2", "3"]);
    let retained: Vec<_> = messages.iter().map(|it| it["retain"].clone()).collect();
    assert_eq!(retained, [true, false, false]);
    assert_eq!(
        messages[0]["properties"]["content_type"],
        "application/json"
    );

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("large");
    std::fs::write(&file, large).unwrap();
    let file = file.to_str().unwrap();
    let subscriber = observe(&["-t", "a/b", "-n", "2"]);
    works(&["pub", "-t", "a/b", "-f", file]);
    assert!(subscriber.printed() == format!("3\n{large}\n"));
    // As the value that is there.
    assert!(works(&["sub", "-t", "a/b", "-n", "1"]) == format!("{large}\n"));
    works(&["pub", "-t", "a/b", "--null", "-r"]);
    let gone = with(&["sub", "-t", "a/b"]);
    let gone: Vec<_> = gone.iter().map(String::as_str).collect();
    fails(url, &gone, 3, "refused the filter a/b: 4.04 Not Found");
}

#[test]
fn rfc7252_libcoap_takes_what_is_published_and_tells_it() {
    let Some((_server, port)) = server("coap-server-notls", &[]) else {
        return;
    };
    speaks_with(&format!("coap://127.0.0.1:{port}/sensors"), &[]);
}

#[test]
fn rfc7252_4_2_libcoap_is_spoken_to_on_a_way_that_loses() {
    let Some((_server, port)) = server("coap-server-notls", &[]) else {
        return;
    };
    let weather = Weather {
        lost: 15,
        twice: 10,
        late: 10,
    };
    let relay = Relay::start(SocketAddr::from(([127, 0, 0, 1], port)), weather);
    let url = format!("{}/sensors", relay.url());
    let fast = ["--ack-timeout", "100ms"];
    works(
        &url,
        &[&["pub", "-t", "a", "-m", "1", "-n", "20"][..], &fast].concat(),
    );
    let subscriber = Subscriber::start(&url, &[&["-t", "a", "-n", "1"][..], &fast].concat());
    assert_eq!(subscriber.printed(), "1\n");
    assert!(relay.lost() > 0);
}

#[test]
fn rfc7641_3_6_libcoap_observes_several_resources_and_is_left_by_the_client() {
    let Some((_server, port)) = server("coap-server-notls", &[]) else {
        return;
    };
    let url = format!("coap://127.0.0.1:{port}/x");
    for topic in ["a", "b", "c"] {
        works(&url, &["pub", "-t", topic, "-m", topic]);
    }
    let filters = ["-t", "a", "-t", "b", "-t", "c", "-v", "-n", "6"];
    let subscriber = Subscriber::start(&url, &filters);
    for topic in ["c", "b", "a"] {
        works(&url, &["pub", "-t", topic, "-m", "new"]);
    }
    let mut lines: Vec<_> = subscriber.printed().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["a a", "a new", "b b", "b new", "c c", "c new"]);
    // One that is there and one that is not.
    let mut mixed = Subscriber::begin(&url, &["-t", "none", "-t", "a", "-n", "1"]);
    let warned = mixed.until("warning: ");
    assert!(
        warned.contains("refused the filter none: 4.04 Not Found"),
        "{warned}"
    );
    assert_eq!(mixed.printed(), "new\n");
}
