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

    /// The moment that a text names as RFC 3339 and the States Language say: `T` and `Z` in capitals,
    /// the zone never left out. A leap second is the first of the next minute, and a fraction of a
    /// microsecond the next one, so that nobody who waits for it goes on too early.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn rfc_3339(text: &str) -> Result<Self, String> {
        const SHAPE: &str = "it must look like 2026-01-31T12:00:00Z or 2026-01-31T12:00:00.5+01:00";
        let field = |from: usize, length: usize| -> Result<i64, String> {
            let digits = text.get(from..from + length).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| SHAPE.to_owned())
        };
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if !text.is_ascii() || marks.iter().any(|(at, mark)| text.as_bytes().get(*at) != Some(mark)) {
            return Err(SHAPE.to_owned());
        }
        let (year, month, day) = (field(0, 4)?, field(5, 2)?, field(8, 2)?);
        let (hour, minute, second) = (field(11, 2)?, field(14, 2)?, field(17, 2)?);
        let small = |number: i64| i8::try_from(number).expect("two digits");
        let date = jiff::civil::Date::new(i16::try_from(year).expect("four digits"), small(month), small(day))
            .map_err(|_| format!("there is no day {}", &text[..10]))?;
        if hour > 23 || minute > 59 || second > 60 {
            return Err(format!("there is no time {}", &text[11..19]));
        }
        let rest = &text[19..];
        let (fraction, zone) = match rest.strip_prefix('.') {
            Some(rest) => {
                let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                if end == 0 {
                    return Err(SHAPE.to_owned());
                }
                rest.split_at(end)
            }
            None => ("", rest),
        };
        let offset = match zone.as_bytes() {
            b"Z" => 0,
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let at = text.len() - 5;
                let (hours, minutes) = (field(at, 2)?, field(at + 3, 2)?);
                if hours > 23 || minutes > 59 {
                    return Err(format!("there is no zone {zone}"));
                }
                (hours * 60 + minutes) * if *sign == b'-' { -60 } else { 60 }
            }
            _ => return Err(SHAPE.to_owned()),
        };
        let micros = format!("{fraction:0<6}");
        let beyond = micros[6..].bytes().any(|digit| digit != b'0');
        let micros: i64 = micros[..6].parse().expect("six digits");
        let days = date.duration_since(jiff::civil::date(1970, 1, 1)).as_hours() / 24;
        let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset;
        if second == 60 && seconds.rem_euclid(86_400) != 0 {
            return Err("a leap second stands at the end of a day in UTC, 23:59:60Z".to_owned());
        }
        Ok(Self(seconds * 1_000_000 + micros + i64::from(beyond)))
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
            Err(_) => match last_day(self.0) {
                Some(at) => write!(f, "{at}Z"),
                None => write!(f, "{}us", self.0),
            },
        }
    }
}

/// The last day of the year 9999, which a timestamp leaves out so that it has a date in every zone.
fn last_day(micros: i64) -> Option<jiff::civil::DateTime> {
    jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0).checked_add(jiff::SignedDuration::from_micros(micros)).ok()
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
        match text.parse::<jiff::Timestamp>() {
            Ok(at) => Ok(Self(at.as_microsecond())),
            Err(error) => Self::rfc_3339(text).map_err(|_| error),
        }
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
    fn moments_are_those_of_rfc_3339() {
        let at = |text: &str| Time::rfc_3339(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        for (text, same) in [
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
            ("2026-01-31T13:30:00+01:30", "2026-01-31T12:00:00Z"),
            ("2026-01-31T00:00:00-23:59", "2026-01-31T23:59:00Z"),
            ("2026-01-31T12:00:00-00:00", "2026-01-31T12:00:00Z"),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
            ("2017-01-01T00:59:60+01:00", "2017-01-01T00:00:00Z"),
            ("2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.5Z"),
            ("2026-01-31T12:00:00.1234560000Z", "2026-01-31T12:00:00.123456Z"),
            ("2026-01-31T12:00:00.9999991Z", "2026-01-31T12:00:01Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.25Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(at(text).to_string(), same, "{text}");
            assert_eq!(same.parse::<Time>().unwrap(), at(text), "{text}");
        }
        for (text, why) in [
            ("2016-12-05 21:29:29Z", "look like"),
            ("2016-12-05t21:29:29Z", "look like"),
            ("2016-12-05T21:29:29z", "look like"),
            ("2016-12-05T21:29:29", "look like"),
            ("2016-12-05T21:29Z", "look like"),
            ("2016-12-05T21:29:29.Z", "look like"),
            ("2016-12-05T21:29:29+0100", "look like"),
            ("2016-12-05T21:29:29+01:00[Europe/Berlin]", "look like"),
            ("20161205T212929Z", "look like"),
            ("5us", "look like"),
            ("", "look like"),
            ("２016-12-05T21:29:29Z", "look like"),
            ("2016-12-05T21:29:29+é:00", "look like"),
            ("2026-02-29T00:00:00Z", "no day"),
            ("2026-13-01T00:00:00Z", "no day"),
            ("2026-01-01T24:00:00Z", "no time"),
            ("2026-01-01T12:00:60Z", "leap second"),
            ("2026-01-01T12:00:00+24:00", "no zone"),
        ] {
            let said = Time::rfc_3339(text).expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn saturates_instead_of_wrapping() {
        assert_eq!(Time::from_micros(i64::MAX).after(Duration::MAX), Time::from_micros(i64::MAX));
        assert_eq!(Time::from_micros(1).since(Time::from_micros(2)), Duration::ZERO);
    }
}
