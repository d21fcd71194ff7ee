//! Work for activities outside the node, in any language: a NATS request to
//! `skald.act.<tenant>.<activity>` with these headers, answered with JSON.

/// Header: the idempotency key, the same for every attempt of one step of one saga, and no other
/// step's. One that would be longer than [`KEY_MAX_BYTES`] ends with a digest of the whole.
pub const KEY: &str = "Skald-Key";
/// Header: the attempt, counted from 1.
pub const ATTEMPT: &str = "Skald-Attempt";
/// Header: RFC 3339; the answer is not read any more after it.
pub const DEADLINE: &str = "Skald-Deadline";
/// Header: what a late answer names (`activity.complete`, `.fail`, `.heartbeat`).
pub const TOKEN: &str = "Skald-Token";
/// Header: who started the saga.
pub const PRINCIPAL: &str = "Skald-Principal";
/// Header: seconds within which a heartbeat is wanted, when the state asks for one.
pub const HEARTBEAT_SECONDS: &str = "Skald-Heartbeat-Seconds";
/// Header of the answer: `ok` (also when absent), `failed` or `accepted`. After `accepted` the
/// answer comes later, by token.
pub const STATUS: &str = "Skald-Status";
/// Header of a failed answer: the error name that Retry and Catch match.
pub const ERROR: &str = "Skald-Error";
/// Header of a failed answer: what went wrong, for a person.
pub const CAUSE: &str = "Skald-Cause";
/// Header of a failed answer: `permanent` or `transient`; transient when absent. A permanent
/// failure is not retried whatever the state's Retry says.
pub const KIND: &str = "Skald-Kind";

/// The error name of a failure that may pass by itself.
pub const TRANSIENT: &str = "Transient";
/// The error name of a failure that will not.
pub const PERMANENT: &str = "Permanent";

/// The longest idempotency key, in bytes: it travels in a header, and whoever serves an activity
/// keeps it.
pub const KEY_MAX_BYTES: usize = 1_024;
/// The longest name of an error, in bytes: the same figure as the language's best-known service. A
/// longer one ends with a digest of the whole, so that it still is what Retry and Catch name.
pub const ERROR_MAX_BYTES: usize = 256;
/// The longest cause or reason that is kept, in bytes: the head of a stack trace. It stands in
/// records, in the state, and in every list of what went wrong.
pub const CAUSE_MAX_BYTES: usize = 4 * 1024;
