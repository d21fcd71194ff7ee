//! Hostile input: every door through which bytes come that Skald did not write, as a plain function
//! that takes any bytes and asserts what must hold of them.
//!
//! A target fails by panicking. The same functions are driven three ways: by the smoke run of
//! `tests/hostile.rs` (handwritten seeds and blind mutations of them), by `cargo fuzzing` (the same
//! for longer, on any toolchain) and by cargo-fuzz (guided by coverage, `scenarios/fuzz`). There is
//! deliberately no socket, no server and no clock to wait for here.

mod answer;
mod archive;
mod command;
mod definition;
mod edges;
mod envelope;
mod expression;
mod frame;
mod http;
mod json_body;
mod machine;
mod manifest;
mod msgpack_body;
pub mod mutate;
mod names;
mod record;
pub mod run;
pub mod seeds;
mod snapshot;
mod stored;
mod tar;

pub use answer::answer;
pub use archive::archive;
pub use command::command;
pub use definition::definition;
pub use edges::edges;
pub use envelope::envelope;
pub use expression::expression;
pub use frame::frame;
pub use http::http;
pub use json_body::json_body;
pub use machine::machine;
pub use manifest::manifest;
pub use msgpack_body::msgpack_body;
pub use names::names;
pub use record::record;
pub use snapshot::snapshot;
pub use stored::stored;
pub use tar::tar;

/// One target: it returns, or what must hold does not.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("answer", answer),
    ("archive", archive),
    ("command", command),
    ("definition", definition),
    ("edges", edges),
    ("envelope", envelope),
    ("expression", expression),
    ("frame", frame),
    ("http", http),
    ("json_body", json_body),
    ("machine", machine),
    ("manifest", manifest),
    ("msgpack_body", msgpack_body),
    ("names", names),
    ("record", record),
    ("snapshot", snapshot),
    ("stored", stored),
    ("tar", tar),
];

/// The target called `name`.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// One input in a fuzzer that ends the process at every panic: those that are caught on the way, as
/// the query engine's are, do not count.
pub fn guided(target: Target, data: &[u8]) {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| ())));
    if std::panic::catch_unwind(|| target(data)).is_err() {
        let _ = std::panic::take_hook();
        // Again, now with the words.
        target(data);
    }
}

/// How deep a value nests.
fn depth(value: &protocol::Value) -> usize {
    use protocol::Value;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
    }
}
