//! The statements of MQTT 5.0, appendix B, by chapter.

mod connection;
mod messages;
mod operation;

use crate::statement::Statement;

/// In the order of the specification.
pub(super) const CHAPTERS: &[&[Statement]] = &[
    connection::BEFORE,
    messages::STATEMENTS,
    connection::AFTER,
    operation::STATEMENTS,
    connection::ERRORS,
];
