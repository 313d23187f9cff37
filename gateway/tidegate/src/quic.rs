//! QUIC servers: what they are made of, and the secret that outlives the process.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::UdpSocket;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tidegate_quic::{Keys, Server};
use tidegate_tls::Identity;

use crate::config::{Config, Listener};

/// Octets of the secret.
const SECRET: usize = 128;

/// The server of a listener at its socket.
pub(crate) fn server(
    config: &Config,
    listener: &Listener,
    identity: Option<&Arc<Identity>>,
    socket: UdpSocket,
) -> anyhow::Result<Arc<Server>> {
    let settings = listener.quic.clone().unwrap_or_default();
    let identity = Arc::clone(identity.context("QUIC needs a certificate")?);
    let keys = Keys::new(&secret(&config.node.data_dir)?);
    let tls = Box::new(move || identity.config());
    let server = Server::new(socket, settings, keys, tls).context("QUIC cannot be served")?;
    Ok(Arc::new(server))
}

/// The secret of the data directory, made at the first start: by it a client of a process that is gone hears
/// from the next one that its connection is, too (stateless reset, RFC 9000 section 10.3).
fn secret(data_dir: &Path) -> anyhow::Result<[u8; SECRET]> {
    let file = data_dir.join("quic.key");
    let named = || format!("{}", file.display());
    match fs::read(&file) {
        Ok(bytes) => {
            let found = <[u8; SECRET]>::try_from(bytes.as_slice());
            return found.ok().with_context(|| {
                let (file, length) = (file.display(), bytes.len());
                format!(
                    "{file} has {length} bytes, not {SECRET}; without it the gateway makes another"
                )
            });
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(named),
    }
    let mut secret = [0; SECRET];
    let random = tidegate_tls::provider().secure_random;
    let filled = random.fill(&mut secret);
    ensure!(filled.is_ok(), "there are no random numbers");
    // Under its name it is whole: half of one, after a power failure, would keep the gateway from starting.
    let new = data_dir.join("quic.key.new");
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut new| {
            new.write_all(&secret)?;
            new.sync_all()
        })
        .and_then(|()| fs::rename(&new, &file));
    written.with_context(named)?;
    Ok(secret)
}
