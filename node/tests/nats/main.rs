//! The promises of the adapters to NATS, held against real servers.

mod buckets;
mod journal;
mod outbox;
mod runtime;
mod server;
mod support;
