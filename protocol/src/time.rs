//! Moments, in microseconds since the Unix epoch.

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment, in whole microseconds since 1970-01-01T00:00:00Z.
///
/// In JSON it is RFC 3339 text, in MessagePack an integer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(i64);

impl Time {
    /// The moment `micros` microseconds after the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the epoch, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// This moment and `duration` more; saturates at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => write!(f, "{at}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What lies outside the calendar is written as a count, and read back as one.
        if let Some(micros) = text.strip_suffix("us").and_then(|count| count.parse().ok()) {
            return Ok(Self(micros));
        }
        Ok(Self(text.parse::<jiff::Timestamp>()?.as_microsecond()))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { to.serialize_i64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            String::deserialize(from)?.parse().map_err(D::Error::custom)
        } else {
            i64::deserialize(from).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_rfc_3339() {
        let at = Time::from_micros(1_700_000_000_123_456);
        assert_eq!(at.to_string(), "2023-11-14T22:13:20.123456Z");
        assert_eq!(at.to_string().parse::<Time>().unwrap(), at);
        assert_eq!(serde_json::to_string(&at).unwrap(), "\"2023-11-14T22:13:20.123456Z\"");
        let packed = rmp_serde::to_vec(&at).unwrap();
        assert_eq!(rmp_serde::from_slice::<Time>(&packed).unwrap(), at);
    }

    #[test]
    fn the_ends_of_time_are_read_back() {
        for micros in [i64::MIN, i64::MAX, 253_402_207_200_999_999, -377_705_023_201_000_000] {
            let at = Time::from_micros(micros);
            assert_eq!(at.to_string().parse::<Time>().unwrap(), at);
        }
        let last: Time = "9999-12-30T22:00:00.999999999Z".parse().unwrap();
        assert_eq!(last.to_string().parse::<Time>().unwrap(), last);
        assert!("us".parse::<Time>().is_err() && "1.5us".parse::<Time>().is_err());
    }

    #[test]
    fn saturates_instead_of_wrapping() {
        assert_eq!(Time::from_micros(i64::MAX).after(Duration::MAX), Time::from_micros(i64::MAX));
        assert_eq!(Time::from_micros(1).since(Time::from_micros(2)), Duration::ZERO);
    }
}
