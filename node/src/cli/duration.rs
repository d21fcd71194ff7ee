//! Lengths of time as a person writes them: `500ms`, `10s`, `2m`, `1h`, `7d`.

use std::time::Duration;

use supervisor::machine::amount::SECONDS_MAX;

/// Reads one; a bare number is refused, because nobody remembers which unit it would be.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        "" => return Err("it needs a unit: ms, s, m, h or d, as in 10s".into()),
        other => return Err(format!("{other:?} is not a unit; use ms, s, m, h or d, as in 10s")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(length) if length.as_secs() < SECONDS_MAX => Ok(length),
        Ok(_) | Err(_) => Err("it is longer than a hundred years".into()),
    }
}

/// Writes one shortly: `3.2 ms`, `4.1 s`, `2 m 10 s`.
pub(super) fn short(length: Duration) -> String {
    let seconds = length.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1_000.0)
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} m {} s", length.as_secs() / 60, length.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_with_their_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1.5m"), Ok(Duration::from_secs(90)));
        for bad in ["", "10", "s", "10 parsecs", "-1s", "1e12d", "36501d", "999999999999999999999d"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(short(Duration::from_secs(130)), "2 m 10 s");
    }
}
