//! Reason codes in words.

use std::fmt;

use tidegate_mqtt::codec::ReasonCode;

/// A reason code as a person reads it: "Not authorized (0x87)", and what the gateway added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) code: ReasonCode,
    /// The Reason String.
    pub(crate) explanation: Option<String>,
}

impl Reason {
    pub(crate) fn new(code: ReasonCode, explanation: Option<&str>) -> Self {
        Self {
            code,
            explanation: explanation.map(str::to_owned),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:02x})", name(self.code), self.code.as_u8())?;
        match &self.explanation {
            Some(explanation) => write!(f, ": {explanation}"),
            None => Ok(()),
        }
    }
}

/// The specification's name, which is the variant's name in words.
fn name(code: ReasonCode) -> String {
    let mut words = String::new();
    for (index, letter) in format!("{code:?}").chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            words.push(' ');
            words.push(letter.to_ascii_lowercase());
        } else {
            words.push(letter);
        }
    }
    words
        .replace("qos", "QoS ")
        .replace("Qos", "QoS")
        .replace("  ", " ")
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_words_a_number_and_an_explanation() {
        let shown = |code, explanation| Reason::new(code, explanation).to_string();
        assert_eq!(
            shown(ReasonCode::NotAuthorized, None),
            "Not authorized (0x87)"
        );
        assert_eq!(shown(ReasonCode::GrantedQos1, None), "Granted QoS 1 (0x01)");
        assert_eq!(
            shown(ReasonCode::QosNotSupported, None),
            "QoS not supported (0x9b)"
        );
        assert_eq!(
            shown(ReasonCode::ServerShuttingDown, Some("come back")),
            "Server shutting down (0x8b): come back"
        );
    }
}
