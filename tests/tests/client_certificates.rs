//! Certificates of clients: asked for or not, wrong in every way, revoked. RFC 8446 section 6.2, RFC 5280.

use std::time::Duration;

use rustls::AlertDescription;
use tidegate_tests::certificates::{Authority, Identity, Request, write};
use tidegate_tests::wire::Connect;
use tidegate_tests::{Place, Server, TlsClient, alert, eventually, has_program, unique};

/// A gateway that asks for certificates of its clients' authority.
struct Guarded {
    place: Place,
    clients: Authority,
    revoked: Identity,
}

#[track_caller]
fn guarded(client_auth: &str) -> Option<Guarded> {
    let clients = Authority::new("Clients");
    let revoked = clients.issue(&Request::client("revoked"));
    let more =
        format!("client_ca = \"DIR/clients.crt\"\nclient_crl = \"DIR/clients.crl\"\n{client_auth}");
    let place = Place::start(&more, |files| {
        write(&files.join("clients.crt"), &clients.pem());
        write(&files.join("clients.crl"), &clients.revoke(&[&revoked]));
    })?;
    Some(Guarded {
        place,
        clients,
        revoked,
    })
}

#[test]
fn a_client_certificate_is_required_when_an_authority_is_configured() {
    for client_auth in ["", "client_auth = \"required\""] {
        let Some(guarded) = guarded(client_auth) else {
            return;
        };
        let place = &guarded.place;
        let device = guarded.clients.issue(&Request::client("device"));
        for only in TlsClient::ONLY {
            let without = place.server(only);
            assert_eq!(alert(&without), AlertDescription::CertificateRequired);
            let with = place.server(|tls| only(tls).showing(&device));
            Connect::v5(&unique("device")).open(&with).expect_nothing();
        }
    }
}

#[test]
fn a_client_certificate_may_be_optional_but_a_wrong_one_is_refused() {
    let Some(guarded) = guarded("client_auth = \"optional\"") else {
        return;
    };
    let without = guarded.place.server(|tls| tls);
    Connect::v5(&unique("nobody"))
        .open(&without)
        .expect_nothing();
    let device = guarded.clients.issue(&Request::client("device"));
    Connect::v5(&unique("device"))
        .open(guarded.showing(&device))
        .expect_nothing();
    let stranger = Authority::new("Strangers").issue(&Request::client("device"));
    assert_eq!(
        alert(&guarded.showing(&stranger)),
        AlertDescription::UnknownCA
    );
}

#[test]
fn client_certificates_are_not_asked_for_unless_configured() {
    let Some(guarded) = guarded("client_auth = \"none\"") else {
        return;
    };
    let without = guarded.place.server(|tls| tls);
    Connect::v5(&unique("nobody"))
        .open(&without)
        .expect_nothing();
    // Nobody looks at it, so it cannot be wrong.
    let stranger = Authority::new("Strangers").issue(&Request::client("device"));
    Connect::v5(&unique("stranger"))
        .open(guarded.showing(&stranger))
        .expect_nothing();
}

impl Guarded {
    /// The listener, as a client speaks to it that shows a certificate.
    #[track_caller]
    fn showing(&self, identity: &Identity) -> Server {
        self.place.server(|tls| tls.showing(identity))
    }

    /// Certificates that must be refused, the alerts, and how OpenSSL calls these.
    #[track_caller]
    fn wrong(&self) -> [(&'static str, Identity, AlertDescription, &'static str); 7] {
        let strangers = Authority::new("Strangers");
        // The same name as the right authority, but another key.
        let impostors = Authority::new("Clients");
        let issue = |request: &Request| self.clients.issue(request);
        let device = Request::client("device");
        [
            (
                "revoked",
                self.revoked.clone(),
                AlertDescription::CertificateRevoked,
                "alert certificate revoked",
            ),
            (
                "expired",
                issue(&device.clone().expired()),
                AlertDescription::CertificateExpired,
                "alert certificate expired",
            ),
            (
                "not yet valid",
                issue(&device.clone().not_yet_valid()),
                AlertDescription::CertificateExpired,
                "alert certificate expired",
            ),
            (
                "of an unknown authority",
                strangers.issue(&device),
                AlertDescription::UnknownCA,
                "alert unknown ca",
            ),
            (
                "of an impostor",
                impostors.issue(&device),
                AlertDescription::UnknownCA,
                "alert unknown ca",
            ),
            (
                "self-signed",
                device.self_signed(),
                AlertDescription::UnknownCA,
                "alert unknown ca",
            ),
            (
                "a server's",
                issue(&Request::server(&["localhost"])),
                AlertDescription::UnsupportedCertificate,
                "alert unsupported certificate",
            ),
        ]
    }
}

#[test]
fn rfc8446_6_2_wrong_client_certificates_are_refused_with_the_right_alert() {
    let Some(guarded) = guarded("") else {
        return;
    };
    let device = guarded.clients.issue(&Request::client("device"));
    let mut witness = Connect::v5(&unique("witness")).open(guarded.showing(&device));
    for (what, identity, expected, _) in guarded.wrong() {
        for only in TlsClient::ONLY {
            let found = alert(&guarded.place.server(|tls| only(tls).showing(&identity)));
            // An impostor's signature may be told as what it is: one that is wrong.
            let fits = found == expected
                || (what == "of an impostor" && found == AlertDescription::DecryptError);
            assert!(fits, "{what}: {found:?}");
        }
    }
    witness.expect_nothing();
    let labels = ["listener=\"mqtts\"", "reason=\"tls_handshake\""];
    // The last is counted when it is over, which is after its alert was read.
    let gateway = &guarded.place.gateway;
    eventually("all are counted", || {
        gateway.metric("tidegate_listener_refused_total", &labels) == 14.0
    });
}

#[test]
fn rfc8446_6_2_openssl_is_told_the_right_alert() {
    let Some(guarded) = guarded("") else {
        return;
    };
    if !has_program("openssl") {
        return;
    }
    for (what, identity, _, expected) in guarded.wrong() {
        let (certificate, key) = identity.write(guarded.place.files.path(), "shown");
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let outcome = guarded
            .place
            .s_client(&["-cert", &certificate, "-key", &key]);
        let fits = outcome.said.contains(expected)
            || (what == "of an impostor" && outcome.said.contains("alert decrypt error"));
        assert!(fits, "{what}: {}", outcome.said);
    }
    let outcome = guarded.place.s_client(&["-tls1_3"]);
    // OpenSSL has no words for alert 116 in every version.
    let told =
        outcome.said.contains("certificate required") || outcome.said.contains("alert number 116");
    assert!(told, "{}", outcome.said);
}

#[test]
fn a_revocation_list_that_is_renewed_is_heeded() {
    let Some(guarded) = guarded("") else {
        return;
    };
    let device = guarded.clients.issue(&Request::client("device"));
    let server = guarded.showing(&device);
    Connect::v5(&unique("device"))
        .open(&server)
        .expect_nothing();
    let list = guarded.clients.revoke(&[&guarded.revoked, &device]);
    let files = guarded.place.files.path();
    write(&files.join("new.crl"), &list);
    std::fs::rename(files.join("new.crl"), files.join("clients.crl"))
        .unwrap_or_else(|error| panic!("not replaced: {error}"));
    guarded.place.gateway.signal("HUP");
    eventually("the device is refused", || {
        let mut chunk = [0; 64];
        let read = server
            .connect()
            .and_then(|mut stream| stream.read(&mut chunk, Duration::from_millis(300)));
        // Silence is acceptance: the server waits for CONNECT.
        read.is_err_and(|error| error.to_string().contains("CertificateRevoked"))
    });
}
