//! The runtime platform: where releases run and are kept as wanted.

pub mod compute;
