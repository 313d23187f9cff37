//! The codec held against the vectors that tell strict decoders of MQTT 5.0 from lenient ones.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use tidegate_mqtt::codec::{Connect, DecodeError, Split, Version, decode, split};

const VECTORS: &str = include_str!("../../../tests/vectors/mqtt5-strict.json");

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex} has whole bytes");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// Decodes the one packet that `bytes` are; a CONNECT in the way that a new connection does.
fn decode_whole(bytes: &[u8]) -> Result<(), DecodeError> {
    let Split::Frame(frame) = split(bytes, u32::MAX)? else {
        panic!("the vector is a whole packet");
    };
    assert_eq!(frame.len, bytes.len(), "the vector is one packet");
    if frame.first >> 4 == 1 {
        Connect::decode(frame).map(|connect| assert_eq!(connect.version, Version::V5))
    } else {
        decode(Version::V5, frame).map(|_| ())
    }
}

#[test]
fn strict_vectors() {
    let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = vectors.as_array().unwrap();
    assert_eq!(vectors.len(), 50);
    let mut wrong = Vec::new();
    for vector in vectors {
        let name = vector["name"].as_str().unwrap();
        let outcome = decode_whole(&bytes(vector["hex"].as_str().unwrap()));
        let right = match vector["expect"].as_str().unwrap() {
            "accept" => outcome.is_ok(),
            "reject" => outcome.is_err(),
            other => panic!("{name}: {other} is no expectation"),
        };
        if !right {
            wrong.push(format!("{name}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
