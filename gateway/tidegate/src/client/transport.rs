//! How bytes reach the gateway. Every scheme ends in a byte stream; what runs over it does not know
//! which one it is.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::error::ClientError;
use super::url::{Scheme, ServerUrl};

/// A byte stream in both directions.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// Opens the stream that the URL's scheme asks for.
pub(crate) async fn open(url: &ServerUrl) -> Result<Box<dyn Transport>, ClientError> {
    let unreachable = |error| ClientError::Unreachable {
        url: url.to_string(),
        error,
    };
    match url.scheme {
        Scheme::Mqtt => {
            let address = (url.host.as_str(), url.port);
            let stream = TcpStream::connect(address).await.map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            Ok(Box::new(stream))
        }
    }
}
