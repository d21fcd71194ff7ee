//! What is kept of a shard's journal outside of it, and whether the journal that is found is the one
//! that was left. Pure: who asks the store is `tree/recovery.rs`.
//!
//! A stream can be deleted, purged, restored from an old copy or damaged while nobody looks. Going
//! on in what is left would undo acknowledged work in silence, so a journal that is not what was
//! left stops its shard until it is back or an operator takes the loss upon themselves.

use protocol::{Epoch, Time};
use serde::{Deserialize, Serialize};

use super::Digest;
use crate::ports::Position;

/// The stream that holds a shard's journal, as its server tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// When it was made: no two streams of one name have the same.
    pub born: Time,
    /// The first sequence that it may still hold.
    pub first: Position,
    /// The last sequence that it gave out, of whichever shard.
    pub last: Position,
    /// The last sequence that this node knows it gave out: more than that where its end is cut off.
    pub known: Position,
    /// How long it keeps a message; `None`: for ever.
    pub kept_for: Option<std::time::Duration>,
}

/// Where a journal stood when its owner last wrote it down: beside the lease, and in the mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Anchor {
    /// Of the stream: when it was made.
    pub born: Time,
    /// Of the stream: its first sequence.
    pub first: Position,
    /// The shard's last frame.
    pub position: Position,
    /// The digest of that frame.
    pub digest: Digest,
    /// When this was written.
    pub at: Time,
    /// Where a replay had to start then.
    pub low_water: Position,
    /// Up to where everything was sent.
    pub relayed: Position,
    /// Events of the shard up to there, so that their numbers go on where the mark is lost.
    #[serde(default)]
    pub events: u64,
    /// A sequence of the event stream behind which everything else of the shard stands; 0 where nobody
    /// knows one.
    #[serde(default)]
    pub stream: u64,
    /// The revision of the shard's mark in the snapshot store: what is found there may not be older.
    pub mark: u64,
    /// Who wrote it, by epoch: a former owner's word does not replace a later one's.
    pub epoch: Epoch,
}

/// Why a journal is not the one that was left.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Loss {
    /// There is no stream.
    #[error("the journal's stream is gone, with every frame up to {position}")]
    Deleted {
        /// The last frame that is known.
        position: Position,
    },
    /// There is another stream of the same name.
    #[error("the journal's stream was made anew at {born}; it is not the one that held frame {position}")]
    Recreated {
        /// When it was made.
        born: Time,
        /// The last frame that is known.
        position: Position,
    },
    /// The end is missing: somebody put an older copy in its place.
    #[error("the journal ends at {found}, and frame {position} was acknowledged: its end is cut off")]
    Truncated {
        /// Where the stream ends.
        found: Position,
        /// The last frame that is known.
        position: Position,
    },
    /// An older copy stands in its place, of everything that is kept of it elsewhere too.
    #[error("the journal ends at {found}, and this node saw it reach {known}: an older copy stands in its place")]
    Older {
        /// Where the stream ends.
        found: Position,
        /// Where it ended.
        known: Position,
    },
    /// Frames that are not old enough to be cut are gone.
    #[error("the journal begins at {first}, and frame {position} is younger than what it keeps: it was purged")]
    Purged {
        /// Where the stream begins.
        first: Position,
        /// The last frame that is known.
        position: Position,
    },
    /// One frame is gone or is another one.
    #[error("frame {position} of the journal is gone or altered")]
    Altered {
        /// Which.
        position: Position,
    },
    /// The frames from which a replay must start are cut off.
    #[error("frames after {low_water} are cut off from the journal, and no snapshot holds what they say")]
    Cut {
        /// Everything up to here is in snapshots.
        low_water: Position,
    },
    /// The snapshots are gone, and the journal does not reach back to its beginning.
    #[error("the snapshots are gone, and the journal does not reach back to its beginning")]
    Snapshots {
        /// Where a replay had to start when they were there.
        low_water: Position,
    },
    /// A snapshot knows more than the journal.
    #[error("the snapshot {name} stands at {position}, beyond the journal's end: its end is cut off")]
    Ahead {
        /// Of what.
        name: String,
        /// Where.
        position: Position,
    },
}

impl Loss {
    /// A short name for this very loss: what an operator accepts is this one and no later one. A
    /// journal that is gone and one that was made anew are the same loss of what was left.
    pub fn code(&self, shard: protocol::ShardId) -> String {
        let of = match self {
            Self::Deleted { position }
            | Self::Recreated { position, .. }
            | Self::Truncated { position, .. }
            | Self::Purged { position, .. }
            | Self::Altered { position } => format!("journal {position}"),
            // Each node saw another last one.
            Self::Older { found, .. } => format!("older {found}"),
            Self::Cut { low_water } => format!("cut {low_water}"),
            Self::Snapshots { low_water } => format!("snapshots {low_water}"),
            Self::Ahead { name, position } => format!("ahead {name} {position}"),
        };
        Digest::of(format!("{shard} {of}").as_bytes()).to_string()[..12].to_owned()
    }
}

/// An operator's word that a loss is accepted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// Which loss, by its code.
    pub loss: String,
    /// Who says so.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Time,
}

/// Whether the journal in `stream` is the one that `anchor` was written of. `there` is the digest of
/// the shard's frame at the anchor's position, if it is there.
pub fn judge(anchor: &Anchor, stream: Option<&Stream>, there: Option<Digest>, now: Time) -> Result<(), Loss> {
    let position = anchor.position;
    let Some(stream) = stream else { return Err(Loss::Deleted { position }) };
    if stream.born != anchor.born {
        return Err(Loss::Recreated { born: stream.born, position });
    }
    if stream.last < position || stream.first < anchor.first {
        return Err(Loss::Truncated { found: stream.last, position });
    }
    match there {
        Some(digest) if digest == anchor.digest => Ok(()),
        Some(_) => Err(Loss::Altered { position }),
        // An idle shard's last frame grows old and is cut like any other.
        None if stream.first > position && stream.kept_for.is_some_and(|kept| now.since(anchor.at) >= kept) => Ok(()),
        None if stream.first > position => Err(Loss::Purged { first: stream.first, position }),
        None => Err(Loss::Altered { position }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn what_is_found_against_what_was_left() {
        let digest = Digest::of(b"the last frame");
        let noon = Time::from_micros(1_767_268_800_000_000);
        let (monday, friday) = (Time::from_micros(noon.as_micros() - 4 * 86_400_000_000), noon);
        let anchor = Anchor {
            born: monday,
            first: 3,
            position: 10,
            digest,
            at: noon,
            low_water: 8,
            relayed: 8,
            events: 20,
            stream: 90,
            mark: 5,
            epoch: Epoch(4),
        };
        let stream = |born, first, last| {
            Some(Stream { name: "J".into(), born, first, last, known: last, kept_for: Some(30 * DAY) })
        };
        let (soon, late) = (noon.after(DAY), noon.after(31 * DAY));
        let table = [
            ("as it was left", stream(monday, 3, 10), Some(digest), soon, Ok(())),
            ("others went on", stream(monday, 9, 99), Some(digest), soon, Ok(())),
            ("grew old", stream(monday, 50, 99), None, late, Ok(())),
            ("deleted", None, None, soon, Err(Loss::Deleted { position: 10 })),
            ("made anew", stream(friday, 1, 0), None, soon, Err(Loss::Recreated { born: friday, position: 10 })),
            (
                "made anew and longer",
                stream(friday, 1, 99),
                Some(Digest::of(b"x")),
                soon,
                Err(Loss::Recreated { born: friday, position: 10 }),
            ),
            ("an older copy", stream(monday, 3, 9), None, soon, Err(Loss::Truncated { found: 9, position: 10 })),
            (
                "begins earlier",
                stream(monday, 1, 99),
                Some(digest),
                soon,
                Err(Loss::Truncated { found: 99, position: 10 }),
            ),
            ("purged", stream(monday, 11, 10), None, soon, Err(Loss::Purged { first: 11, position: 10 })),
            ("another frame", stream(monday, 3, 10), Some(Digest::of(b"x")), soon, Err(Loss::Altered { position: 10 })),
            ("one message deleted", stream(monday, 3, 12), None, late, Err(Loss::Altered { position: 10 })),
        ];
        for (story, stream, there, now, expected) in table {
            assert_eq!(judge(&anchor, stream.as_ref(), there, now), expected, "{story}");
        }
        // A copy that ends early also lacks what is too old.
        let older = Stream { kept_for: None, ..stream(monday, 11, 10).unwrap() };
        assert!(judge(&anchor, Some(&older), None, late).is_err(), "what is kept for ever does not grow old");
    }

    #[test]
    fn a_loss_is_accepted_once() {
        let (one, other) = (Loss::Deleted { position: 10 }, Loss::Deleted { position: 11 });
        let shard = protocol::ShardId;
        assert_ne!(one.code(shard(0)), other.code(shard(0)));
        assert_ne!(one.code(shard(0)), one.code(shard(1)));
        let anew = Loss::Recreated { born: Time::from_micros(0), position: 10 };
        assert_eq!(one.code(shard(0)), anew.code(shard(0)), "made anew, it is still the same that is lost");
        assert_eq!(one.code(shard(0)).len(), 12);
    }
}
