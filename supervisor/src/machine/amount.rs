//! Numbers that a definition says or asks for: lengths of time, counts and shares. What one may be is
//! said once, for the check when a definition is deployed and for the answer of an expression, and
//! nothing is cut to fit. Shares are reckoned in whole numbers: 29 % of 100 is 29, which it is not in
//! binary fractions.

use std::time::Duration;

use protocol::{Time, Value};
use serde_json::Number;

/// The longest wait, pause or time-out, in seconds: a hundred years. Whoever asks for more has most
/// likely mistaken the unit, and far beyond it time itself ends.
pub const SECONDS_MAX: u64 = 100 * 365 * 86_400;
/// Most retries of one retrier; the language's own limit.
pub const RETRIES_MAX: u64 = 99_999_999;
/// The shortest time-out, in seconds.
const TIMEOUT_MIN_S: f64 = 0.001;

/// What a number is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// Seconds of a wait or a pause.
    Pause,
    /// Seconds after which something is given up.
    Timeout,
    /// How many.
    Count,
    /// Retries.
    Retries,
    /// By what a pause grows.
    Growth,
    /// A part of a hundred.
    Percentage,
}

impl Measure {
    /// Whether `number` can be one.
    #[allow(clippy::cast_precision_loss)] // Both limits are far below 53 bits.
    pub fn holds(self, number: &Number) -> bool {
        let within = |least: f64, most: f64| number.as_f64().is_some_and(|number| least <= number && number <= most);
        match self {
            Self::Pause => within(0.0, SECONDS_MAX as f64),
            Self::Timeout => within(TIMEOUT_MIN_S, SECONDS_MAX as f64),
            Self::Count => whole(number).is_some(),
            Self::Retries => whole(number).is_some_and(|retries| retries <= RETRIES_MAX),
            Self::Growth => within(1.0, f64::MAX),
            Self::Percentage => within(0.0, 100.0),
        }
    }

    /// What it must be, after "must be".
    pub fn demand(self) -> String {
        match self {
            Self::Pause => format!("a number of seconds from 0 to {SECONDS_MAX} (100 years)"),
            Self::Timeout => format!("a number of seconds from {TIMEOUT_MIN_S} to {SECONDS_MAX} (100 years)"),
            Self::Count => "a whole number of at least 0".to_owned(),
            Self::Retries => format!("a whole number from 0 to {RETRIES_MAX}"),
            Self::Growth => "a number of at least 1".to_owned(),
            Self::Percentage => "a number from 0 to 100".to_owned(),
        }
    }
}

/// A whole number that is not negative, also where it is written as `3.0` or `3e2`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Whole, and within 64 bits.
pub fn whole(number: &Number) -> Option<u64> {
    const END: f64 = 18_446_744_073_709_551_616.0;
    number.as_u64().or_else(|| {
        number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..END).contains(float)).map(|float| float as u64)
    })
}

/// Seconds that [`Measure::Pause`] or [`Measure::Timeout`] holds. More stand only in definitions that an
/// earlier release took, which waited as long as this.
#[allow(clippy::cast_precision_loss)] // Far below 53 bits.
pub fn seconds(number: &Number) -> Duration {
    let seconds = number.as_f64().unwrap_or_default().min(SECONDS_MAX as f64);
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// How many of `count` are at most `percent` of them, for a number that [`Measure::Percentage`] holds.
pub fn share(percent: &Number, count: usize) -> usize {
    let (digits, exponent) = decimal(percent);
    // Two more places, for a number of a hundred.
    let places = 2_i32.saturating_sub(exponent);
    let product = digits.saturating_mul(count as u128);
    let share = match u32::try_from(places) {
        // What 38 digits cannot hold is less than one of them.
        Ok(places) => 10_u128.checked_pow(places).map_or(0, |unit| product / unit),
        Err(_) => product.saturating_mul(10_u128.saturating_pow(places.unsigned_abs())),
    };
    usize::try_from(share).map_or(count, |share| share.min(count))
}

/// The number as it is written: its digits, and the power of ten that they are multiplied by.
fn decimal(number: &Number) -> (u128, i32) {
    let text = number.to_string();
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // At most 20 digits for a whole number, and 17 for any other.
    let digits = format!("{whole}{fraction}").parse().unwrap_or_default();
    let places = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    (digits, power.parse::<i32>().unwrap_or_default().saturating_sub(places))
}

/// The moment that a `Timestamp` names.
pub fn moment(value: &Value) -> Result<Time, String> {
    let text = value.as_str().ok_or_else(|| format!("a moment must be a text, and is {value}"))?;
    Time::rfc_3339(text).map_err(|why| format!("{text:?} is not a moment: {why}"))
}
