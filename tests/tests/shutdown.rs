//! The end of the process: SIGTERM and SIGINT, MQTT 5.0 section 3.14.2.1 (0x8B).

use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use tidegate_tests::wire::{Client, Connect, Publish, Version, Will, code};
use tidegate_tests::{Gateway, unique};

#[test]
fn mqtt5_3_14_2_1_clients_are_told_that_the_server_shuts_down() {
    for signal in ["TERM", "INT"] {
        let Some(mut gateway) = Gateway::configured("") else {
            return;
        };
        let mut clients: Vec<Client> = (0..30)
            .map(|number| {
                let version = Version::ALL[number % 3];
                Connect::new(version, &unique("told")).open(gateway.mqtt())
            })
            .collect();
        gateway.signal(signal);
        for client in &mut clients {
            client.expect_end(code::SHUTTING_DOWN);
        }
        let status = gateway.wait(Duration::from_secs(10));
        assert_eq!(
            status.code(),
            Some(0),
            "SIG{signal}: {status}\n{}",
            gateway.output()
        );
        assert!(
            TcpStream::connect(gateway.mqtt()).is_err(),
            "nobody listens any more"
        );
    }
}

#[test]
fn without_clients_it_ends_at_once() {
    let Some(mut gateway) = Gateway::configured("") else {
        return;
    };
    let since = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.wait(Duration::from_secs(10)).code(), Some(0));
    assert!(
        since.elapsed() < Duration::from_secs(3),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn what_was_acknowledged_is_delivered_before_the_end() {
    let Some(mut gateway) = Gateway::configured("") else {
        return;
    };
    let topic = unique("flush");
    let mut receiver = Connect::v5(&unique("receiver")).open(gateway.mqtt());
    receiver.subscribe(&topic, 0);
    let mut sender = Connect::v5(&unique("sender")).open(gateway.mqtt());
    let filling = "x".repeat(2_000);
    for number in 0..500 {
        sender.publish(&Publish::new(&topic, format!("{number} {filling}")).qos(1));
    }
    gateway.signal("TERM");
    for number in 0..500 {
        assert!(receiver.receive().text().starts_with(&format!("{number} ")));
    }
    receiver.expect_end(code::SHUTTING_DOWN);
    assert_eq!(gateway.wait(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn clients_are_disconnected_at_the_configured_pace() {
    let pace = "[limits]\nshutdown_disconnects_per_second = 20";
    let Some(mut gateway) = Gateway::configured(pace) else {
        return;
    };
    let mut clients: Vec<Client> = (0..40)
        .map(|_| Connect::v5(&unique("paced")).open(gateway.mqtt()))
        .collect();
    let since = Instant::now();
    gateway.signal("TERM");
    clients
        .iter_mut()
        .for_each(|client| client.expect_end(code::SHUTTING_DOWN));
    let took = since.elapsed();
    // Forty at twenty a second, the first burst aside.
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(gateway.wait(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let pace = "[limits]\nshutdown_disconnects_per_second = 1";
    let Some(mut gateway) = Gateway::configured(pace) else {
        return;
    };
    let mut clients: Vec<Client> = (0..60)
        .map(|_| Connect::v5(&unique("many")).open(gateway.mqtt()))
        .collect();
    gateway.signal("TERM");
    // The first DISCONNECT says that the first signal was heard.
    let heard = clients
        .iter_mut()
        .any(|client| client.next(Duration::from_secs(2)) != tidegate_tests::wire::Event::Silence);
    assert!(heard);
    let since = Instant::now();
    gateway.signal("TERM");
    let status = gateway.wait(Duration::from_secs(5));
    assert!(
        since.elapsed() < Duration::from_secs(2),
        "{:?}",
        since.elapsed()
    );
    // Whatever it says, it does not say that all went well.
    assert!(
        status.code() != Some(0) || status.signal().is_some(),
        "{status}"
    );
}

#[test]
fn no_new_client_is_taken_while_it_shuts_down() {
    let pace = "[limits]\nshutdown_disconnects_per_second = 2";
    let Some(mut gateway) = Gateway::configured(pace) else {
        return;
    };
    let mut clients: Vec<Client> = (0..5)
        .map(|_| Connect::v5(&unique("leaving")).open(gateway.mqtt()))
        .collect();
    gateway.signal("TERM");
    let mut first = clients.remove(0);
    let _ = first.next(Duration::from_secs(5));
    if let Ok(stream) = TcpStream::connect(gateway.mqtt()) {
        let mut late = Client::over(stream, Version::V5);
        let _ = late.try_send(&Connect::v5(&unique("late")).encode());
        let told = late.expect_error();
        assert!(
            [
                None,
                Some(code::BUSY),
                Some(code::SHUTTING_DOWN),
                Some(0x88)
            ]
            .contains(&told)
        );
    }
    assert_eq!(gateway.wait(Duration::from_secs(15)).code(), Some(0));
}

#[test]
fn a_client_that_does_not_read_does_not_hold_up_the_end() {
    let Some(mut gateway) = Gateway::configured("") else {
        return;
    };
    let topic = unique("stuck");
    let mut stuck = Connect::v5(&unique("stuck")).open(gateway.mqtt());
    stuck.subscribe(&topic, 0);
    let mut sender = Connect::v5(&unique("sender")).open(gateway.mqtt());
    let filling = "x".repeat(50_000);
    for _ in 0..600 {
        sender.send_publish(&Publish::new(&topic, &filling));
    }
    sender.fence();
    gateway.signal("TERM");
    assert_eq!(gateway.wait(Duration::from_secs(40)).code(), Some(0));
    drop(stuck);
}

#[test]
fn the_wills_of_clients_that_are_sent_away_do_not_hold_up_the_end() {
    let Some(mut gateway) = Gateway::configured("") else {
        return;
    };
    let topic = unique("wills");
    let mut watcher = Connect::v5(&unique("watcher")).open(gateway.mqtt());
    watcher.subscribe(&topic, 1);
    let _clients: Vec<Client> = (0..20)
        .map(|_| {
            let will = Will::new(&topic, "gone").qos(1);
            Connect::v5(&unique("will")).will(will).open(gateway.mqtt())
        })
        .collect();
    gateway.signal("TERM");
    assert_eq!(gateway.wait(Duration::from_secs(10)).code(), Some(0));
}
