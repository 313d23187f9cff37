//! Tickets of keys that several gateways share: whom they lead to, how keys are changed, and what a ticket does
//! not outlive.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use support::*;
use tidegate_tls::{ClientAuth, Identity, Outcome, Resumption, Settings, Status};

/// Base64 of 48 octets, another one for each letter.
fn key(folder: &Folder, name: &str, letter: char) -> PathBuf {
    let path = folder.write(
        name,
        &format!("{}ZGlmZmVy\n", letter.to_string().repeat(56)),
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn sharing(folder: &Folder, authority: &Authority, keys: &[&PathBuf]) -> Settings {
    let files = folder.write_pair("server", &authority.issue(Leaf::server(&["localhost"])));
    let mut settings = settings(vec![files]);
    settings.resumption = Resumption::Tickets {
        keys: keys.iter().map(|path| (*path).clone()).collect(),
    };
    settings
}

async fn kind(server: &Server, config: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    let stream = connect(server.address, config, "localhost").await.unwrap();
    stream.get_ref().1.handshake_kind()
}

#[tokio::test]
async fn another_gateway_with_the_same_key_resumes() {
    let authority = Authority::new("CA");
    let (one, other) = (Folder::new(), Folder::new());
    // Each has its own copy, and its own certificate.
    let keys = [&one, &other].map(|folder| key(folder, "ticket.key", 'a'));
    let first = Server::start(sharing(&one, &authority, &[&keys[0]])).await;
    let second = Server::start(sharing(&other, &authority, &[&keys[1]])).await;
    for version in [&TLS12, &TLS13] {
        let config = client(roots(&[&authority]), &[version], None);
        assert_eq!(kind(&first, &config).await, Some(HandshakeKind::Full));
        for server in [&second, &first, &second] {
            assert_eq!(kind(server, &config).await, Some(HandshakeKind::Resumed));
        }
    }
    let stranger = key(&other, "stranger.key", 'b');
    let third = Server::start(sharing(&other, &authority, &[&stranger])).await;
    let config = client(roots(&[&authority]), &[&TLS13], None);
    assert_eq!(kind(&first, &config).await, Some(HandshakeKind::Full));
    assert_eq!(kind(&third, &config).await, Some(HandshakeKind::Full));
}

#[tokio::test]
async fn keys_are_changed_by_their_files() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let (front, back) = (key(&folder, "1.key", 'a'), key(&folder, "2.key", 'a'));
    let server = Server::start(sharing(&folder, &authority, &[&front, &back])).await;
    let config = client(roots(&[&authority]), &[&TLS13], None);
    assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Full));
    // A new one in front; the ticket of the old one is good, and the next one is of the new one.
    key(&folder, "1.key", 'b');
    assert_eq!(server.identity.check(), Outcome::Replaced);
    assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Resumed));
    key(&folder, "2.key", 'c');
    assert_eq!(server.identity.check(), Outcome::Replaced);
    let fresh = client(roots(&[&authority]), &[&TLS13], None);
    assert_eq!(kind(&server, &fresh).await, Some(HandshakeKind::Full));
    assert_eq!(kind(&server, &fresh).await, Some(HandshakeKind::Resumed));
    // Both gone: so are the tickets.
    key(&folder, "1.key", 'd');
    assert_eq!(server.identity.check(), Outcome::Replaced);
    assert_eq!(kind(&server, &fresh).await, Some(HandshakeKind::Full));
    // One that cannot be used changes nothing.
    fs::write(&front, "no key!").unwrap();
    assert_eq!(server.identity.check(), Outcome::Failed);
    let error = server.identity.status().last_error.unwrap();
    assert!(
        error.starts_with(str(&front)) && error.contains("it is not base64"),
        "{error}"
    );
    assert_eq!(kind(&server, &fresh).await, Some(HandshakeKind::Resumed));
}

#[tokio::test]
async fn shared_tickets_are_void_under_another_client_authority() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let clients = Authority::new("clients");
    let device = clients.issue(Leaf::client("device-1"));
    let keys = key(&folder, "ticket.key", 'a');
    let ca = folder.write("ca.crt", &clients.pem());
    let mut settings = sharing(&folder, &authority, &[&keys]);
    settings.client = ClientAuth::Required(client_ca(ca, None));
    let server = Server::start(settings.clone()).await;
    let config = client(roots(&[&authority]), &[&TLS13], Some(&device));
    assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Full));
    assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Resumed));
    // The same device is good under both, and is asked again.
    let both = clients.pem() + &Authority::new("others").pem();
    folder.write("ca.crt", &both);
    assert_eq!(server.identity.check(), Outcome::Replaced);
    assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Full));
    assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Resumed));
    // Nor does a gateway that asks for nothing make tickets for one that asks.
    settings.client = ClientAuth::None;
    let open = Server::start(settings).await;
    let config = client(roots(&[&authority]), &[&TLS13], Some(&device));
    assert_eq!(kind(&open, &config).await, Some(HandshakeKind::Full));
    assert_eq!(kind(&server, &config).await, Some(HandshakeKind::Full));
}

#[test]
fn mistakes_with_ticket_keys_are_told() {
    let (authority, folder) = (Authority::new("CA"), Folder::new());
    let missing = folder.path("missing.key");
    let settings = sharing(&folder, &authority, &[&missing]);
    for error in [
        Identity::load("mqtts", settings.clone()).unwrap_err(),
        Status::read(&settings).unwrap_err(),
    ] {
        let said = error.to_string();
        assert!(said.starts_with(str(&missing)), "{said}");
        assert!(said.ends_with("there is no such file"), "{said}");
    }
    let short = folder.write("short.key", "c2hvcnQ=");
    let settings = sharing(&folder, &authority, &[&short]);
    let said = Status::read(&settings).unwrap_err().to_string();
    assert!(said.contains("it has 5 octets"), "{said}");
    let (one, same) = (key(&folder, "1.key", 'a'), key(&folder, "2.key", 'a'));
    fs::set_permissions(&one, fs::Permissions::from_mode(0o644)).unwrap();
    let mut settings = sharing(&folder, &authority, &[&one, &same]);
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&settings.certificates[0].key, mode).unwrap();
    let warnings = Status::read(&settings).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("the ticket key can be read by other users"));
    assert!(warnings[1].ends_with(&format!("it is the same ticket key as {}", str(&one))));
    settings.resumption = Resumption::Off;
    assert_eq!(Status::read(&settings).unwrap().warnings, [""; 0]);
}
