//! `tidegate pub` and `tidegate sub` over CoAP: against a script, against the gateway, and against servers that are not
//! ours.

mod frames;
mod gateway;
mod libcoap;
mod loss;
mod relay;
mod run;
mod script;
mod scripted;
mod secure;
