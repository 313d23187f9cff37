//! `tidegate pub` and `tidegate sub` over CoAP: against a script, against the gateway, and against servers that are not
//! ours.

mod frames;
mod gateway;
mod house;
mod libcoap;
mod loss;
mod relay;
mod renewals;
mod restarts;
mod run;
mod schemes;
mod script;
mod scripted;
mod secure;
mod sessions;
