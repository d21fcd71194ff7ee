//! What becomes of a store that is found otherwise than it was left: made again, gone on with, or
//! refused until somebody decides. A store is a stream of the server's, a bucket among them.

use protocol::Time;
use serde::{Deserialize, Serialize};

/// What a store is to those who read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worth {
    /// What was decided stands here and nowhere else: an empty one in its place would be a lie.
    Truth,
    /// It can be told anew, or what is lost with it is told and bearable.
    Remade,
}

/// How a store was left, or how it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// When it was made: no two of one name have the same.
    pub born: Time,
    /// The last sequence that it gave out.
    pub last: u64,
}

/// What to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing: it is as it was left.
    Fine,
    /// Make it: it never was.
    Make,
    /// Write down how it is: nobody did before.
    Adopt,
    /// Make it again, above this sequence, and say what is lost.
    MakeAgain {
        /// The last sequence that was given out.
        above: u64,
    },
    /// Somebody made another one in its place: go on with it, and say what is lost.
    Replaced,
    /// It is gone: nothing is read or written until it is back, or the loss is accepted.
    Gone,
    /// Another one stands in its place: the same.
    Another,
    /// It ends before what was acknowledged, an older copy or a damaged one: the same.
    Shorter,
    /// It ends before what was acknowledged: go on with it, and say what is lost.
    Shortened,
}

/// What to do about a store of this worth that was left as `left` and is found as `found`.
pub fn settle(worth: Worth, left: Option<Seen>, found: Option<Seen>) -> Step {
    match (left, found, worth) {
        (None, None, Worth::Truth | Worth::Remade) => Step::Make,
        (None, Some(_), Worth::Truth | Worth::Remade) => Step::Adopt,
        (Some(_), None, Worth::Truth) => Step::Gone,
        (Some(left), None, Worth::Remade) => Step::MakeAgain { above: left.last },
        (Some(left), Some(found), Worth::Truth) if left.born != found.born => Step::Another,
        (Some(left), Some(found), Worth::Remade) if left.born != found.born => Step::Replaced,
        (Some(left), Some(found), Worth::Truth) if found.last < left.last => Step::Shorter,
        (Some(left), Some(found), Worth::Remade) if found.last < left.last => Step::Shortened,
        (Some(_), Some(_), Worth::Truth | Worth::Remade) => Step::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_against_what_was_left() {
        let seen = |born, last| Some(Seen { born: Time::from_micros(born), last });
        let table = [
            ("a new cluster", None, None, Step::Make, Step::Make),
            ("after an upgrade", None, seen(1, 9), Step::Adopt, Step::Adopt),
            ("as it was left", seen(1, 9), seen(1, 9), Step::Fine, Step::Fine),
            ("others went on", seen(1, 9), seen(1, 12), Step::Fine, Step::Fine),
            ("deleted", seen(1, 9), None, Step::Gone, Step::MakeAgain { above: 9 }),
            ("made anew by somebody", seen(1, 9), seen(2, 0), Step::Another, Step::Replaced),
            ("an older copy", seen(1, 9), seen(1, 8), Step::Shorter, Step::Shortened),
        ];
        for (story, left, found, truth, remade) in table {
            assert_eq!(settle(Worth::Truth, left, found), truth, "{story}");
            assert_eq!(settle(Worth::Remade, left, found), remade, "{story}");
        }
    }
}
