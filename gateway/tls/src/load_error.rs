//! Why certificate files could not be used.

use std::io;
use std::path::PathBuf;

/// Why certificate files could not be used. Names the file; says what to do where that is not plain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No certificate is configured.
    #[error("no certificate is configured")]
    NothingConfigured,
    /// The file could not be read.
    #[error("{path}: {}", read_problem(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why. Part of the text, and for that reason not the error's source as well.
        error: io::Error,
    },
    /// It is a directory, a pipe, a device.
    #[error("{path}: it is not a regular file")]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Larger than any file of this kind.
    #[error("{path}: it is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is accepted.
        limit: u64,
    },
    /// The PEM encoding is broken.
    #[error("{path}: the PEM encoding is broken: {reason}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Where.
        reason: String,
    },
    /// No such block in it.
    #[error("{path}: there is no {wanted} in it{}", in_brackets(hint))]
    Missing {
        /// The file.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
        /// What may have happened.
        hint: Option<&'static str>,
    },
    /// A certificate in it cannot be understood.
    #[error("{path}: a certificate in it is malformed: {reason}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The private key cannot be used.
    #[error("{path}: the private key cannot be used: {reason}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Key and certificate are not a pair.
    #[error("{key}: the private key does not belong to the first certificate in {chain}")]
    Mismatch {
        /// The certificate's file.
        chain: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A revocation list in it cannot be understood.
    #[error("{path}: a revocation list in it cannot be used: {reason}")]
    Crl {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key of tickets cannot be used.
    #[error("{path}: the ticket key cannot be used: {reason}")]
    TicketKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The parts are good and yet `rustls` takes exception.
    #[error("the TLS configuration cannot be built: {0}")]
    Config(rustls::Error),
}

impl From<rustls::Error> for LoadError {
    fn from(error: rustls::Error) -> Self {
        Self::Config(error)
    }
}

fn read_problem(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "it may not be read by this user".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}

fn in_brackets(hint: &Option<&'static str>) -> String {
    hint.map_or_else(String::new, |hint| format!(" ({hint})"))
}
