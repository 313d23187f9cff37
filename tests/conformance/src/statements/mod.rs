//! The statements of both specifications, in their order.

mod mqtt3;
mod mqtt5;

use crate::statement::Statement;

/// The statements of MQTT 3.1.1.
#[must_use]
pub fn mqtt3() -> Vec<&'static Statement> {
    mqtt3::CHAPTERS.iter().copied().flatten().collect()
}

/// The statements of MQTT 5.0.
#[must_use]
pub fn mqtt5() -> Vec<&'static Statement> {
    mqtt5::CHAPTERS.iter().copied().flatten().collect()
}
