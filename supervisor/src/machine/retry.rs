//! Which errors Retry and Catch match, and how long a retry waits.

use std::time::Duration;

use super::amount::SECONDS_MAX;
use super::definition::Retrier;
use super::functions::{fraction, mix};
use super::text::error_name;

/// Error name: matches every error but those that end an execution whatever it says.
pub const ALL: &str = "States.ALL";
/// Error name: time ran out.
pub const TIMEOUT: &str = "States.Timeout";
/// Error name: an attempt was silent for too long.
pub const HEARTBEAT_TIMEOUT: &str = "States.HeartbeatTimeout";
/// Error name: matches every failure of a task but a time-out.
pub const TASK_FAILED: &str = "States.TaskFailed";
/// Error name: a branch failed.
pub const BRANCH_FAILED: &str = "States.BranchFailed";
/// Error name: no rule of a Choice was true, and there is no Default.
pub const NO_CHOICE_MATCHED: &str = "States.NoChoiceMatched";
/// Error name: too many items of a Map failed.
pub const EXCEED_TOLERATED: &str = "States.ExceedToleratedFailureThreshold";
/// Error name: something that no definition can mend while it runs.
pub const RUNTIME: &str = "States.Runtime";

/// The reserved names that may stand in `ErrorEquals`.
pub const NAMES: &[&str] = &[
    ALL,
    TIMEOUT,
    HEARTBEAT_TIMEOUT,
    TASK_FAILED,
    "States.Permissions",
    "States.ResultPathMatchFailure",
    "States.ParameterPathFailure",
    BRANCH_FAILED,
    NO_CHOICE_MATCHED,
    "States.IntrinsicFailure",
    EXCEED_TOLERATED,
    "States.ItemReaderFailed",
    "States.ResultWriterFailed",
    super::expression::QUERY_EVALUATION_ERROR,
    super::expression::DATA_LIMIT_EXCEEDED,
    RUNTIME,
];

/// How a failed undo is retried when its `Compensate` does not say: five attempts in all, after
/// 2 s, doubling, at most 2 min apart, with full jitter (H16).
pub fn undo_policy() -> Retrier {
    Retrier {
        errors: vec![ALL.to_owned()],
        interval: UNDO_INTERVAL_S,
        retries: UNDO_ATTEMPTS - 1,
        rate: UNDO_RATE,
        cap: Some(UNDO_CAP_S),
        jitter: true,
    }
}

/// Attempts of an undo in all.
pub const UNDO_ATTEMPTS: u32 = 5;
/// Pause before the second attempt of an undo, in seconds.
pub const UNDO_INTERVAL_S: f64 = 2.0;
/// Growth of the pause.
pub const UNDO_RATE: f64 = 2.0;
/// The longest pause, in seconds.
pub const UNDO_CAP_S: f64 = 120.0;

/// Whether `names` (an `ErrorEquals`) match `error`, as it is kept. `also` is a second name the error
/// goes by.
pub fn matches(names: &[String], error: &str, also: Option<&str>) -> bool {
    let uncatchable = error == super::expression::DATA_LIMIT_EXCEEDED || error == RUNTIME;
    names.iter().any(|name| match name.as_str() {
        ALL => !uncatchable,
        TASK_FAILED => error != TIMEOUT && !uncatchable,
        TIMEOUT => error == TIMEOUT || error == HEARTBEAT_TIMEOUT,
        name => error_name(name) == error || Some(name) == also,
    })
}

/// The pause before retry number `retry` (counted from 1) of one retrier. One without a
/// `MaxDelaySeconds` grows until it is as long as a pause can be.
#[allow(clippy::cast_precision_loss)] // A hundred years fit.
pub fn pause(retrier: &Retrier, retry: u32, seed: u64) -> Duration {
    let exponent = i32::try_from(retry.saturating_sub(1)).unwrap_or(i32::MAX);
    let mut seconds = retrier.interval * retrier.rate.powi(exponent);
    if let Some(cap) = retrier.cap {
        seconds = seconds.min(cap);
    }
    if retrier.jitter {
        seconds *= fraction(mix(seed ^ u64::from(retry)));
    }
    // An interval of nothing grows to nothing, however often it is multiplied.
    if seconds.is_nan() { Duration::ZERO } else { Duration::from_secs_f64(seconds.min(SECONDS_MAX as f64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn reserved_names_match_as_the_language_says() {
        for (pattern, error, expected) in [
            (ALL, "Any", true),
            (ALL, "States.Runtime", false),
            (ALL, "States.DataLimitExceeded", false),
            ("States.DataLimitExceeded", "States.DataLimitExceeded", true),
            (TASK_FAILED, "Any", true),
            (TASK_FAILED, TIMEOUT, false),
            (TIMEOUT, TIMEOUT, true),
            (TIMEOUT, HEARTBEAT_TIMEOUT, true),
            (HEARTBEAT_TIMEOUT, TIMEOUT, false),
            ("Mine", "Mine", true),
            ("Mine", "Other", false),
        ] {
            assert_eq!(matches(&names(&[pattern]), error, None), expected, "{pattern} against {error}");
        }
        assert!(matches(&names(&[BRANCH_FAILED]), "Mine", Some(BRANCH_FAILED)));
    }

    #[test]
    fn pauses_grow_to_their_cap_and_jitter_stays_below() {
        let mut policy = undo_policy();
        policy.jitter = false;
        let pauses: Vec<u64> = (1..=8).map(|retry| pause(&policy, retry, 0).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 120, 120]);
        policy.jitter = true;
        assert!((0..1_000).all(|seed| pause(&policy, 3, seed) < Duration::from_secs(8)));
        assert_eq!(pause(&policy, u32::MAX, 7).as_secs() / 121, 0);
    }
}
