//! The product: the binary skald, NATS, configuration, the command service and the debug endpoint.
