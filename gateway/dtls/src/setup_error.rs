//! Why a server could not be made.

/// Why a server could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The engine does not take the settings.
    #[error("the DTLS engine does not take the settings: {0}")]
    Engine(dimpl::Error),
    /// There is no randomness for the key of the cookies.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}
