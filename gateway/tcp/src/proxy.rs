//! The PROXY protocol, versions 1 and 2, as a load balancer speaks it in front of the client's bytes
//! (HAProxy, "The PROXY protocol", revision of 2020-03-05).
//!
//! Whoever may send a header may also say where a client comes from and which certificate it showed,
//! so only configured networks may connect to such a listener at all, and each of their connections
//! must begin with a header: a listener that guesses whether there is one can be lied to (section 5).
//!
//! Exactly the header is read, so that what follows it is whole for whoever comes next.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use ipnet::IpNet;
use proxy_header::{ParseConfig, Protocol, ProxyHeader, Tlv};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Begins a header of version 2 (section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Begins a line of version 1 (section 2.1).
const V1_BEGINNING: [u8; 6] = *b"PROXY ";

/// Signature, version and command, family, length (section 2.2).
const V2_FIXED: usize = 16;

/// The longest rest of a header of version 2 that is taken. Addresses take at most 216 bytes; the
/// largest TLV known, a certificate, a few thousand.
const MAX_V2_REST: usize = 16 << 10;

/// The longest line of version 1, CR LF included (section 2.1).
const MAX_V1: usize = 107;

const PP2_TYPE_CRC32C: u8 = 0x03;

/// What an operator decides about the PROXY protocol at one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Where the load balancers are. Nobody else may connect.
    pub networks: Vec<IpNet>,
    /// Time from accept to the whole header.
    pub timeout: Duration,
}

/// What a header said of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxied {
    /// Where the client comes from; `None` when the load balancer speaks for itself, as for a health
    /// check (`LOCAL`, `UNKNOWN`), or for a client without an IP address.
    pub source: Option<SocketAddr>,
    /// The common name of the client's certificate, when the load balancer has verified one
    /// (`PP2_SUBTYPE_SSL_CN`).
    pub certificate_name: Option<String>,
}

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Its first bytes are no header.
    #[error("it does not begin with a PROXY header")]
    NoHeader,
    /// They are one that breaks the rules.
    #[error("its PROXY header is not valid: {0}")]
    Invalid(&'static str),
    /// The header did not come in time.
    #[error("its PROXY header did not come in time")]
    Timeout,
    /// The connection ended before.
    #[error("it was lost: {0}")]
    Lost(#[from] io::Error),
}

impl ProxyProtocol {
    /// Whether whoever connects from `ip` may say who its clients are. Nobody else is to be read.
    #[must_use]
    pub fn trusts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// Reads the header of a connection that comes from one of the networks, and nothing beyond it.
    pub async fn read(&self, stream: &mut TcpStream) -> Result<Proxied, ProxyError> {
        match tokio::time::timeout(self.timeout, read(stream)).await {
            Ok(read) => parse(&mut read?),
            Err(_elapsed) => Err(ProxyError::Timeout),
        }
    }
}

/// Reads one header of either version.
async fn read(stream: &mut TcpStream) -> Result<Vec<u8>, ProxyError> {
    // As long as the signature, and shorter than any line of version 1.
    let mut header = vec![0; SIGNATURE.len()];
    let mut read = 0;
    while read < header.len() {
        match stream.read(&mut header[read..]).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            more => read += more,
        }
        // Told from the first byte that is wrong: the rest may never come.
        let v1 = read.min(V1_BEGINNING.len());
        if header[..read] != SIGNATURE[..read] && header[..v1] != V1_BEGINNING[..v1] {
            return Err(ProxyError::NoHeader);
        }
    }
    if header == SIGNATURE {
        header.resize(V2_FIXED, 0);
        stream.read_exact(&mut header[SIGNATURE.len()..]).await?;
        let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if rest > MAX_V2_REST {
            return Err(ProxyError::Invalid("it is too long"));
        }
        header.resize(V2_FIXED + rest, 0);
        stream.read_exact(&mut header[V2_FIXED..]).await?;
        return Ok(header);
    }
    // The line's end is looked for without taking what comes after it.
    let mut ahead = [0; MAX_V1];
    while header.len() < MAX_V1 {
        let peeked = stream.peek(&mut ahead[..MAX_V1 - header.len()]).await?;
        if peeked == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let end = ahead[..peeked].iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(peeked, |end| end + 1);
        stream.read_exact(&mut ahead[..taken]).await?;
        header.extend_from_slice(&ahead[..taken]);
        if end.is_some() {
            return Ok(header);
        }
    }
    Err(ProxyError::Invalid("its line is too long"))
}

/// What a whole header says. Its checksum is set to zero on the way.
fn parse(bytes: &mut [u8]) -> Result<Proxied, ProxyError> {
    if bytes.starts_with(&SIGNATURE) {
        // Section 2.2: of LOCAL everything else is discarded, a family that is not known too.
        if bytes.get(12) == Some(&0x20) {
            return Ok(Proxied::default());
        }
        check_crc32c(bytes)?;
    }
    let config = ParseConfig {
        include_tlvs: true,
        allow_v1: true,
        allow_v2: true,
    };
    let (header, length) = ProxyHeader::parse(bytes, config)
        .map_err(|_| ProxyError::Invalid("version, family or addresses"))?;
    if length != bytes.len() {
        return Err(ProxyError::Invalid("its length does not fit what it holds"));
    }
    let source = match header.proxied_address() {
        Some(address) if address.protocol == Protocol::Stream => Some(SocketAddr::new(
            address.source.ip().to_canonical(),
            address.source.port(),
        )),
        Some(_) => return Err(ProxyError::Invalid("it speaks of datagrams")),
        None => None,
    };
    Ok(Proxied {
        source,
        certificate_name: certificate_name(&header)?,
    })
}

/// Section 2.2.5: the name counts only if the client showed a certificate, in this connection or in
/// the one whose TLS session it resumes, and it was verified. One that is empty, holds a control
/// character or is there twice is none, as in a certificate that was shown to the gateway.
fn certificate_name(header: &ProxyHeader<'_>) -> Result<Option<String>, ProxyError> {
    let mut names = Vec::new();
    for tlv in header.tlvs() {
        let tlv = tlv.map_err(|_| ProxyError::Invalid("a TLV"))?;
        let Tlv::Ssl(ssl) = tlv else { continue };
        let shown = ssl.client_cert_conn() || ssl.client_cert_sess();
        if ssl.client_ssl() && shown && ssl.verify() == 0 {
            for inner in ssl.tlvs() {
                if let Tlv::SslCn(text) = inner.map_err(|_| ProxyError::Invalid("a TLV"))? {
                    names.push(text.into_owned());
                }
            }
        }
    }
    let name = match names.len() {
        1 => names.pop(),
        _ => None,
    };
    Ok(name.filter(|name| !name.is_empty() && !name.chars().any(char::is_control)))
}

/// Section 2.2.3: a checksum that is there must be right. It is taken over the whole header with
/// itself as zero.
fn check_crc32c(bytes: &mut [u8]) -> Result<(), ProxyError> {
    let addresses = match bytes.get(13) {
        Some(0x00) => 0,
        Some(0x11 | 0x12) => 12,
        Some(0x21 | 0x22) => 36,
        Some(0x31 | 0x32) => 216,
        _ => return Err(ProxyError::Invalid("its family is not known")),
    };
    let mut at = V2_FIXED + addresses;
    while let Some(&[kind, high, low]) = bytes.get(at..at + 3) {
        let value = at + 3..at + 3 + usize::from(u16::from_be_bytes([high, low]));
        at = value.end;
        if kind != PP2_TYPE_CRC32C {
            continue;
        }
        let Some(checksum) = bytes.get_mut(value) else {
            return Err(ProxyError::Invalid("a TLV"));
        };
        let Ok(said) = <[u8; 4]>::try_from(&*checksum) else {
            return Err(ProxyError::Invalid("its checksum is not four bytes long"));
        };
        checksum.fill(0);
        if crc32c::crc32c(bytes) != u32::from_be_bytes(said) {
            return Err(ProxyError::Invalid("its checksum is wrong"));
        }
        return Ok(());
    }
    Ok(())
}
