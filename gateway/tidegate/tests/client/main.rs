//! `tidegate pub` and `tidegate sub` against a gateway that is a script: every packet they send is
//! looked at, every answer is chosen.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the helpers are part of tests: what is not there fails the test"
)]

mod coap;
mod failures;
mod publish;
mod script;
mod subscribe;
