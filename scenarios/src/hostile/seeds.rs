//! Handwritten inputs for every target: what is right, so that mutations get far, and what is known
//! to be nasty.

mod archives;
mod bodies;
mod expressions;
mod journals;
mod texts;

pub use texts::MIXED;

/// The seeds of the target called `name`; never none.
pub fn of(name: &str) -> Vec<Vec<u8>> {
    let mut seeds = match name {
        "answer" => texts::answers(),
        "archive" => archives::packed(),
        "command" => bodies::commands(),
        "definition" => texts::definitions(),
        "envelope" => bodies::envelopes(),
        "expression" => expressions::all(),
        "frame" => journals::frames(),
        "http" => texts::requests(),
        "json_body" => bodies::json(),
        "machine" => journals::facts(),
        "manifest" => texts::manifests(),
        "msgpack_body" => bodies::message_pack(),
        "names" => texts::names(),
        "record" => journals::records(),
        "snapshot" => journals::snapshots(),
        "stored" => bodies::stored(),
        "tar" => archives::plain(),
        _ => Vec::new(),
    };
    seeds.push(Vec::new());
    seeds
}

fn bytes<T: AsRef<[u8]>>(these: &[T]) -> Vec<Vec<u8>> {
    these.iter().map(|one| one.as_ref().to_vec()).collect()
}
