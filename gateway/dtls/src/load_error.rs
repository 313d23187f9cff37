//! Why a listener's credentials could not be used.

use std::path::PathBuf;

use crate::PskProblem;

/// Why credentials could not be used. Names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Neither keys nor a certificate.
    #[error("neither pre-shared keys nor a certificate is configured")]
    NothingConfigured,
    /// A line of the file with pre-shared keys.
    #[error("{path}: line {line}: {problem}")]
    Psk {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: PskProblem,
    },
    /// There are no keys in the file.
    #[error("{path}: there is no key in it")]
    NoPsk {
        /// The file.
        path: PathBuf,
    },
    /// The certificate's key is of a kind that DTLS here does not have.
    #[error(
        "{path}: its key is {found}; for DTLS it must be of the elliptic curve P-256 or P-384 (ECDSA)"
    )]
    KeyKind {
        /// The certificate's file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// The private key cannot be used.
    #[error("{path}: the private key cannot be used for DTLS: {reason}")]
    Key {
        /// The key's file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Asking for certificates without insisting.
    #[error(
        "DTLS clients can be required to show a certificate or not be asked; \"optional\" is not possible"
    )]
    OptionalClientAuth,
    /// The hint is too long.
    #[error("the identity hint has more than 128 bytes")]
    Hint,
    /// What is wrong is the same as it would be for TLS.
    #[error(transparent)]
    Tls(#[from] tidegate_tls::LoadError),
}
