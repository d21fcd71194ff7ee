//! The binary `skald`.
fn main() {}
