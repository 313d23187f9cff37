//! The load process, from outside: against the gateway, and against brokers that do something wrong, of
//! which it must tell.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

mod broker;
mod faults;
mod gateway;
mod run;
