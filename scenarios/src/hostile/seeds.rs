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
        "edges" => edges(),
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

/// Names from one letter to eighty of four bytes in scopes up to three deep, errors around their limit,
/// values around theirs.
fn edges() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for depth in 0..4 {
        for letter in 0..8 {
            for (name, error, value) in [(0, 1, 1), (77, 255, 58_254), (76, 86, 65_535), (40, 64, 9_709)] {
                let [high, low] = u16::to_be_bytes(error);
                let [most, least] = u16::to_be_bytes(value);
                seeds.push(vec![depth, name, name, name, letter, high, low, letter, most, least, 7 - letter]);
            }
        }
    }
    seeds
}

fn bytes<T: AsRef<[u8]>>(these: &[T]) -> Vec<Vec<u8>> {
    these.iter().map(|one| one.as_ref().to_vec()).collect()
}
