//! A gateway whose certificate a test has made.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::certificates::{Authority, Request, write};
use crate::gateway::Gateway;
use crate::run::{Outcome, run};
use crate::server::{Server, Transport};
use crate::tls::TlsClient;

/// A gateway whose `mqtts` has a certificate of `authority` for localhost, and what `more` says of
/// `[listeners.mqtts.tls]`.
pub struct Place {
    /// It.
    pub gateway: Gateway,
    /// Who issued its certificate.
    pub authority: Authority,
    /// Where the certificate is, and whatever else a test puts there.
    pub files: TempDir,
}

impl Place {
    /// Starts it. `more` is given the directory of the files, which `prepare` may fill.
    #[must_use]
    #[track_caller]
    pub fn start(more: &str, prepare: impl FnOnce(&Path)) -> Option<Self> {
        let files = TempDir::new().unwrap_or_else(|error| panic!("no directory: {error}"));
        let authority = Authority::new("Test authority");
        let names = ["localhost", "127.0.0.1"];
        authority
            .issue(&Request::server(&names))
            .write(files.path(), "server");
        prepare(files.path());
        let directory = files.path().display().to_string();
        let gateway = Gateway::configured(&format!(
            "[listeners.mqtts.tls]\ncert = \"{directory}/server.crt\"\n\
             key = \"{directory}/server.key\"\n{}",
            more.replace("DIR", &directory)
        ))?;
        Some(Self {
            gateway,
            authority,
            files,
        })
    }

    /// Where `mqtts` is.
    #[must_use]
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.gateway.address("mqtts")
    }

    /// The listener, as a client speaks to it that trusts the authority.
    #[must_use]
    #[track_caller]
    pub fn server(&self, set: impl FnOnce(TlsClient) -> TlsClient) -> Server {
        let client = set(TlsClient::trusting(&self.authority.pem()));
        Server::new(Transport::Tls, self.address()).trusting(client.build())
    }

    /// `openssl s_client` there, which is to be refused: it waits for what the server says after the
    /// handshake.
    #[must_use]
    #[track_caller]
    pub fn s_client(&self, options: &[&str]) -> Outcome {
        run(&mut self.openssl(options), Duration::from_secs(20))
    }

    /// `openssl s_client` there, to be run.
    #[must_use]
    #[track_caller]
    pub fn openssl(&self, options: &[&str]) -> Command {
        let ca = self.files.path().join("authority.crt");
        write(&ca, &self.authority.pem());
        let mut command = Command::new("openssl");
        command
            .arg("s_client")
            .args(["-connect", &self.address().to_string()])
            .args(["-servername", "localhost", "-verify_return_error"])
            .arg("-CAfile")
            .arg(&ca)
            .args(options);
        command
    }
}
