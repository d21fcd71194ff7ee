//! The product: the binary skald, NATS, configuration, the command service and the debug endpoint.

pub mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod debug;
pub mod http;
pub mod kubernetes;
pub mod nats;
pub mod node;
pub mod permissions;
pub mod runtime;
pub mod secret;
pub mod server;
pub mod service;
pub mod telemetry;
pub mod terminal;
