//! The digest of a frame: what chains the frames of a journal to each other.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// How many bytes of the SHA-256 are kept: enough that no two frames of a journal share them by
/// accident, and short beside the smallest frame.
const BYTES: usize = 16;

/// The first 16 bytes of the SHA-256 of a frame's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest([u8; BYTES]);

impl Digest {
    /// Stands before the first frame of a shard.
    pub const NONE: Self = Self([0; BYTES]);

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let whole = Sha256::digest(bytes);
        let mut first = [0; BYTES];
        first.copy_from_slice(&whole[..BYTES]);
        Self(first)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { to.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = if from.is_human_readable() {
            hex::decode(String::deserialize(from)?).map_err(de::Error::custom)?
        } else {
            serde_bytes::ByteBuf::deserialize(from)?.into_vec()
        };
        let length = bytes.len();
        let bytes = bytes.try_into().map_err(|_| de::Error::invalid_length(length, &"16 bytes"))?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_comes_back_from_text_and_from_bytes() {
        let digest = Digest::of(b"frame");
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(text.len(), 34, "{text}");
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        let stored = protocol::codec::store(&digest);
        assert_eq!(protocol::codec::load::<Digest>(&stored).unwrap(), digest);
        assert!(serde_json::from_str::<Digest>("\"00\"").is_err());
    }
}
