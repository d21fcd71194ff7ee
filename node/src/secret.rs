//! Text that nobody sees: shown, printed, logged or written anywhere it is `***`, and its memory is
//! wiped when it goes. Whoever needs the text itself says so with [`Secret::reveal`].

use std::fmt;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// What stands where a secret is.
pub const HIDDEN: &str = "***";

/// A password, a token or a seed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for whoever has to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

/// Reads text only. What it refuses, it does not repeat: a secret of digits is one all the same.
struct Reader;

const NOT_TEXT: Unexpected<'static> = Unexpected::Other("something that is not text");

impl<'de> Visitor<'de> for Reader {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotes (in a variable: '\"12345\"')")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Secret, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::invalid_type(NOT_TEXT, &self))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::invalid_type(NOT_TEXT, &self))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::invalid_type(NOT_TEXT, &self))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Secret, E> {
        Err(E::invalid_type(NOT_TEXT, &self))
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Secret, E> {
        Err(E::invalid_type(NOT_TEXT, &self))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::invalid_type(NOT_TEXT, &self))
    }
}

/// A server's address as it may be shown: what stands before `@` is nobody's business.
pub fn without_login(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    let Some((_, place)) = rest.rsplit_once('@') else { return address.to_owned() };
    if scheme.is_empty() { format!("{HIDDEN}@{place}") } else { format!("{scheme}://{HIDDEN}@{place}") }
}

/// Several addresses in one line, as they may be shown.
pub fn shown<S: AsRef<str>>(addresses: &[S]) -> String {
    addresses.iter().map(|address| without_login(address.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_shown() {
        let secret = Secret::new("hunter2");
        let shown =
            [format!("{secret}"), format!("{secret:?}"), format!("{secret:#?}"), format!("{:?}", Some(&secret))];
        let written = [serde_json::to_string(&secret).unwrap(), toml::Value::try_from(&secret).unwrap().to_string()];
        for text in shown.iter().chain(&written) {
            assert!(!text.contains("hunter2") && text.contains(HIDDEN), "{text}");
        }
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn what_cannot_be_read_is_not_repeated() {
        for wrong in ["271828182", "-271828182", "true", "2.71828182", "[\"271828182\"]"] {
            let error = serde_json::from_str::<Secret>(wrong).unwrap_err().to_string();
            assert!(!error.contains("2718") && !error.contains("2.718"), "{error}");
        }
        assert_eq!(serde_json::from_str::<Secret>("\"271828182\"").unwrap().reveal(), "271828182");
    }

    #[test]
    fn an_address_is_shown_without_its_login() {
        for (address, shown) in [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("nats://ann:hunter2@10.0.0.1:4222", "nats://***@10.0.0.1:4222"),
            ("tls://a:p@ss@host", "tls://***@host"),
            ("token@host:4222", "***@host:4222"),
            ("host", "host"),
        ] {
            assert_eq!(without_login(address), shown);
        }
    }
}
