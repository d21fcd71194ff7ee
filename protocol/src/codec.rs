//! How things are written: JSON at the edge, MessagePack inside, with a format byte on what is
//! stored, and limits on what is read.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::text::shortened;
use crate::{Code, Problem, number};

/// First byte of everything Skald stores in MessagePack with field names.
pub const FORMAT_MESSAGEPACK: u8 = 1;
/// First byte of what is stored in MessagePack and then compressed with LZ4: many things that are alike.
pub const FORMAT_PACKED: u8 = 2;
/// The largest value that is unpacked, in bytes: a server of NATS carries no more (`max_payload`), so that
/// nothing larger was ever packed. Damaged bytes may claim any length.
pub const UNPACKED_MAX_BYTES: usize = 64 * 1024 * 1024;
/// The deepest nesting accepted from outside. serde_json stops at 128 by itself; business data
/// nests a handful of levels, and every level costs stack in each later step.
pub const DEPTH_MAX: usize = 64;
/// The largest command or answer body accepted from outside, in bytes, below the bus's own limit
/// (NATS `max_payload`, 1 MiB by default) so that the refusal is ours and clear.
pub const BODY_MAX_BYTES: usize = 512 * 1024;

/// The deepest nesting read back from what was stored. A value keeps to a hundred levels; what stands
/// around it, branches in branches with their undos, has some ten for each of sixteen. Damaged bytes
/// that nest deeper are an error before they are an overflow of the stack.
pub const STORED_DEPTH_MAX: usize = 400;
/// The longest reason given for a body that cannot be read: readers put the body itself in it.
const WHY_MAX_BYTES: usize = 400;

/// How a body is written; told by the `Content-Type` header, JSON when there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// `application/json`
    #[default]
    Json,
    /// `application/msgpack`
    MessagePack,
}

/// The header that tells the format.
pub const CONTENT_TYPE: &str = "Content-Type";

impl Format {
    /// The format named by a `Content-Type`; parameters are ignored.
    pub fn of(content_type: Option<&str>) -> Result<Self, Problem> {
        match content_type.map(|text| text.split(';').next().unwrap_or_default().trim()) {
            None | Some("" | "application/json" | "text/json") => Ok(Self::Json),
            Some("application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack") => Ok(Self::MessagePack),
            Some(other) => Err(Problem::new(Code::BadRequest, format!("Content-Type {other:?} is not understood"))
                .mend("send application/json or application/msgpack")),
        }
    }

    /// The media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
        }
    }

    /// Writes a body.
    ///
    /// # Panics
    /// Never for our own types: they have string keys only.
    pub fn write<T: Serialize>(self, body: &T) -> Vec<u8> {
        match self {
            Self::Json => serde_json::to_vec(body).expect("our types are writable as JSON"),
            Self::MessagePack => rmp_serde::to_vec_named(body).expect("our types are writable as MessagePack"),
        }
    }

    /// Reads a body that came from outside: bounded in size and depth; an empty body reads as `{}`.
    pub fn read<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, Problem> {
        self.read_within(body, BODY_MAX_BYTES)
    }

    /// The same with another limit for the size, in bytes.
    pub fn read_within<T: DeserializeOwned>(self, body: &[u8], max_bytes: usize) -> Result<T, Problem> {
        if body.len() > max_bytes {
            return Err(Problem::new(
                Code::TooLarge,
                format!("the body has {} bytes, the limit is {max_bytes}", body.len()),
            )
            .mend("put large data into object storage and pass its address"));
        }
        let bad = |why: String| {
            Problem::new(Code::BadRequest, format!("the body cannot be read: {}", shortened(&why, WHY_MAX_BYTES)))
        };
        match self {
            Self::Json => {
                let body = if body.is_empty() { b"{}" } else { body };
                if json_depth(body) > DEPTH_MAX {
                    return Err(bad(format!("it nests deeper than {DEPTH_MAX} levels")));
                }
                let value = serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
                number::first_not_kept(body).map_or(Ok(value), |text| Err(bad(number::not_kept(text))))
            }
            Self::MessagePack => {
                let body = if body.is_empty() { &[0x80] } else { body };
                let mut rest: &[u8] = body;
                let mut reader = rmp_serde::Deserializer::new(&mut rest);
                // It counts what stands in the innermost level as a level.
                reader.set_max_depth(DEPTH_MAX + 1);
                let value = T::deserialize(&mut reader).map_err(|error| bad(error.to_string()))?;
                if !rest.is_empty() {
                    return Err(bad(format!("{} bytes follow its end", rest.len())));
                }
                match number::first_without_end(body) {
                    None => Ok(value),
                    Some(number) => Err(bad(format!("the number {number} is none that JSON knows: send it as a text"))),
                }
            }
        }
    }
}

/// Reads a MessagePack body that a node of the same cluster wrote: no larger than the bus carries, and
/// as deep as what is stored.
pub fn read_own<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    reader.set_max_depth(STORED_DEPTH_MAX);
    T::deserialize(&mut reader).map_err(|error| {
        let why = error.to_string();
        Problem::new(Code::Internal, format!("what a node sent cannot be read: {}", shortened(&why, WHY_MAX_BYTES)))
    })
}

/// How deep a JSON text nests, without building it.
fn json_depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Why stored bytes cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// Written by a later release, or not by Skald.
    #[error("stored format {0:?} is not known to this release")]
    Format(Option<u8>),
    /// Damaged.
    #[error("stored bytes are damaged: {0}")]
    Damaged(#[from] rmp_serde::decode::Error),
    /// Damaged, or larger than anything that was packed.
    #[error("stored bytes cannot be unpacked: {0}")]
    Packed(String),
}

/// Writes something that is kept: a format byte, then MessagePack with field names.
///
/// # Panics
/// Never for our own types.
pub fn store<T: Serialize>(what: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.push(FORMAT_MESSAGEPACK);
    let mut writer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    what.serialize(&mut writer).expect("our types are writable as MessagePack");
    bytes
}

/// The same, compressed.
///
/// # Panics
/// Never for our own types.
pub fn store_packed<T: Serialize>(what: &T) -> Vec<u8> {
    let plain = rmp_serde::to_vec_named(what).expect("our types are writable as MessagePack");
    let mut bytes = vec![FORMAT_PACKED];
    bytes.extend_from_slice(&lz4_flex::compress_prepend_size(&plain));
    bytes
}

fn unpacked(body: &[u8]) -> Result<Vec<u8>, StoredError> {
    let (length, rest) =
        lz4_flex::block::uncompressed_size(body).map_err(|error| StoredError::Packed(error.to_string()))?;
    if length > UNPACKED_MAX_BYTES {
        return Err(StoredError::Packed(format!("they claim to be {length} bytes, over {UNPACKED_MAX_BYTES}")));
    }
    lz4_flex::decompress(rest, length).map_err(|error| StoredError::Packed(error.to_string()))
}

fn read_stored<T: DeserializeOwned>(body: &[u8]) -> Result<T, StoredError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    reader.set_max_depth(STORED_DEPTH_MAX);
    Ok(T::deserialize(&mut reader)?)
}

/// Counts what is written, and keeps none of it.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How many bytes [`Format::write`] would write as JSON, escapes included, without keeping them.
///
/// # Panics
/// Never for our own types: they have string keys only.
pub fn json_len<T: Serialize>(what: &T) -> usize {
    let mut count = Count(0);
    serde_json::to_writer(&mut count, what).expect("our types are writable as JSON");
    count.0
}

/// How many bytes [`store`] would write, without keeping them.
///
/// # Panics
/// Never for our own types.
pub fn stored_len<T: Serialize>(what: &T) -> usize {
    let mut count = Count(1);
    let mut writer = rmp_serde::Serializer::new(&mut count).with_struct_map();
    what.serialize(&mut writer).expect("our types are writable as MessagePack");
    count.0
}

/// Reads back what [`store`] or [`store_packed`] wrote.
pub fn load<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoredError> {
    match bytes.split_first() {
        Some((&FORMAT_MESSAGEPACK, body)) => read_stored(body),
        Some((&FORMAT_PACKED, body)) => read_stored(&unpacked(body)?),
        other => Err(StoredError::Format(other.map(|(byte, _)| *byte))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    #[test]
    fn both_formats_carry_the_same_body() {
        let body = serde_json::json!({"a": [1, -2, 3.5, null, true, "é"], "b": {"c": {}}});
        for format in [Format::Json, Format::MessagePack] {
            assert_eq!(format.read::<Value>(&format.write(&body)).unwrap(), body);
        }
    }

    #[test]
    fn hostile_bodies_are_refused_with_a_reason() {
        let deep = "[".repeat(10_000);
        let error = Format::Json.read::<Value>(deep.as_bytes()).unwrap_err();
        assert!(error.message.contains("nests deeper"), "{error}");
        assert!(Format::MessagePack.read::<Value>(&vec![0x91; 10_000]).is_err());
        let large = vec![b' '; 10 * 1024 * 1024];
        assert_eq!(Format::Json.read::<Value>(&large).unwrap_err().code, Code::TooLarge);
        assert!(Format::MessagePack.read::<Value>(&[0x80, 0x80]).is_err(), "trailing bytes are refused");
        assert!(Format::of(Some("text/xml")).is_err());
    }

    #[test]
    fn a_number_that_would_become_another_is_refused_by_name() {
        for text in ["12345678901234567890.12", "18446744073709551617", "1e-400"] {
            let error = Format::Json.read::<Value>(format!("{{\"a\":[{text}]}}").as_bytes()).unwrap_err();
            assert!(error.message.contains(text) && error.message.contains("as a text"), "{error}");
        }
        let body = rmp_serde::to_vec(&[f64::NAN]).unwrap();
        let error = Format::MessagePack.read::<Value>(&body).unwrap_err();
        assert!(error.message.contains("NaN"), "{error}");
    }

    #[test]
    fn the_deepest_value_is_the_same_in_both_formats() {
        let nested = |levels: usize| (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        for format in [Format::Json, Format::MessagePack] {
            assert!(format.read::<Value>(&format.write(&nested(DEPTH_MAX))).is_ok(), "{format:?}");
            assert!(format.read::<Value>(&format.write(&nested(DEPTH_MAX + 1))).is_err(), "{format:?}");
        }
    }

    #[test]
    fn damaged_bytes_that_nest_without_end_are_an_error() {
        for byte in [0x91, 0x81] {
            let damaged = [vec![FORMAT_MESSAGEPACK], vec![byte; 100_000]].concat();
            assert!(matches!(load::<Value>(&damaged), Err(StoredError::Damaged(_))));
        }
    }

    #[test]
    fn a_reason_does_not_repeat_the_whole_body() {
        let body = format!("{{\"{}\": 1}}", "é".repeat(5_000));
        let error = Format::Json.read::<crate::command::Of>(body.as_bytes()).unwrap_err();
        assert!(error.message.len() < 500, "{}", error.message.len());
    }

    #[test]
    fn brackets_inside_text_are_not_depth() {
        assert_eq!(json_depth(br#"{"a":"[[[\"[[["}"#), 1);
    }

    #[test]
    fn lengths_are_those_of_what_is_written() {
        let value = serde_json::json!({ "text": "\u{1}\"\n…", "list": [1.5e300, -7, null], "empty": {} });
        assert_eq!(json_len(&value), Format::Json.write(&value).len());
        assert_eq!(stored_len(&value), store(&value).len());
    }

    #[test]
    fn stored_bytes_of_an_unknown_format_are_refused() {
        assert_eq!(load::<u32>(&store(&7u32)).unwrap(), 7);
        assert!(matches!(load::<u32>(&[9, 7]), Err(StoredError::Format(Some(9)))));
        assert!(matches!(load::<u32>(&[]), Err(StoredError::Format(None))));
    }

    #[test]
    fn what_is_packed_is_smaller_and_the_same() {
        let alike: Vec<String> = (0..1_000).map(|n| format!("the saga acme/order-{n} succeeded")).collect();
        let (plain, packed) = (store(&alike), store_packed(&alike));
        assert!(packed.len() * 2 < plain.len(), "{} against {}", packed.len(), plain.len());
        assert_eq!(load::<Vec<String>>(&packed).unwrap(), alike);
        for cut in [1, 4, 5, packed.len() / 2, packed.len() - 1] {
            let error = load::<Vec<String>>(&packed[..cut]).unwrap_err();
            assert!(matches!(error, StoredError::Packed(_)), "cut at {cut}: {error}");
        }
        let claims = [vec![FORMAT_PACKED], u32::MAX.to_le_bytes().to_vec(), packed[5..].to_vec()].concat();
        let error = load::<Vec<String>>(&claims).unwrap_err();
        assert!(error.to_string().contains("claim to be 4294967295 bytes"), "{error}");
        let nested = [vec![FORMAT_PACKED], lz4_flex::compress_prepend_size(&vec![0x91; 100_000])].concat();
        assert!(matches!(load::<Value>(&nested), Err(StoredError::Damaged(_))));
    }
}
