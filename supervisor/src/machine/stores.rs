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
pub enum Action {
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
    /// Another one stands in its place: nothing is read or written until the right one is back, or the loss
    /// is accepted.
    Another,
    /// It ends before what was acknowledged, an older copy or a damaged one: nothing is read or written
    /// until it is whole again, or the loss is accepted.
    Shorter,
    /// It ends before what was acknowledged: go on with it, and say what is lost.
    Shortened,
}

/// Looks in a row that must find a store shorter before it counts as such: a leader that was cut off without
/// knowing it can answer with what it had.
const SHORTER_LOOKS: u32 = 3;

/// What is known of one store between two looks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Watched {
    /// How it was left.
    pub left: Option<Seen>,
    /// How it was left, as written down for those who come later.
    pub written: Option<Seen>,
    /// Looks in a row that found it shorter.
    shorter: u32,
}

impl Watched {
    /// A store that was left, and written down, like this.
    pub fn as_written(written: Option<Seen>) -> Self {
        Self { left: written, written, shorter: 0 }
    }

    /// What to do about the store, which is of this worth and found like this. Where it is gone on with, it
    /// counts as left like that; one that is made is told with [`Watched::left`].
    pub fn look(&mut self, worth: Worth, found: Option<Seen>) -> Action {
        let action = settle(worth, self.left, found);
        let is_shorter = matches!(action, Action::Shorter | Action::Shortened);
        self.shorter = if is_shorter { self.shorter + 1 } else { 0 };
        if is_shorter && self.shorter < SHORTER_LOOKS {
            return Action::Fine;
        }
        match action {
            Action::Gone | Action::Another | Action::Shorter => {}
            Action::Fine | Action::Adopt | Action::Replaced | Action::Shortened => self.left = found,
            Action::Make | Action::MakeAgain { .. } => self.left = None,
        }
        action
    }

    /// Somebody wrote down that it is like this: its loss was accepted, or another one was made. What this one
    /// saw itself counts as long as it is the same store, and is more than what was written.
    pub fn reread(&mut self, written: Option<Seen>) {
        let same = self.left.zip(written).is_some_and(|(left, written)| left.born == written.born);
        self.written = written;
        if !same {
            self.left = written;
        }
    }

    /// Whether how it was left is to be written down again, which is so after `every` more sequences.
    pub fn is_news(&self, every: u64) -> bool {
        match (self.written, self.left) {
            (Some(written), Some(left)) => {
                written.born != left.born || left.last < written.last || left.last >= written.last + every
            }
            (None, left) => left.is_some(),
            (Some(_), None) => false,
        }
    }
}

/// What to do about a store of this worth that was left as `left` and is found as `found`.
fn settle(worth: Worth, left: Option<Seen>, found: Option<Seen>) -> Action {
    match (left, found, worth) {
        (None, None, Worth::Truth | Worth::Remade) => Action::Make,
        (None, Some(_), Worth::Truth | Worth::Remade) => Action::Adopt,
        (Some(_), None, Worth::Truth) => Action::Gone,
        (Some(left), None, Worth::Remade) => Action::MakeAgain { above: left.last },
        (Some(left), Some(found), Worth::Truth) if left.born != found.born => Action::Another,
        (Some(left), Some(found), Worth::Remade) if left.born != found.born => Action::Replaced,
        (Some(left), Some(found), Worth::Truth) if found.last < left.last => Action::Shorter,
        (Some(left), Some(found), Worth::Remade) if found.last < left.last => Action::Shortened,
        (Some(_), Some(_), Worth::Truth | Worth::Remade) => Action::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_against_what_was_left() {
        let seen = |born, last| Some(Seen { born: Time::from_micros(born), last });
        let table = [
            ("a new cluster", None, None, Action::Make, Action::Make),
            ("after an upgrade", None, seen(1, 9), Action::Adopt, Action::Adopt),
            ("as it was left", seen(1, 9), seen(1, 9), Action::Fine, Action::Fine),
            ("others went on", seen(1, 9), seen(1, 12), Action::Fine, Action::Fine),
            ("deleted", seen(1, 9), None, Action::Gone, Action::MakeAgain { above: 9 }),
            ("made anew by somebody", seen(1, 9), seen(2, 0), Action::Another, Action::Replaced),
            ("an older copy", seen(1, 9), seen(1, 8), Action::Shorter, Action::Shortened),
        ];
        for (story, left, found, truth, remade) in table {
            assert_eq!(settle(Worth::Truth, left, found), truth, "{story}");
            assert_eq!(settle(Worth::Remade, left, found), remade, "{story}");
        }
    }
    #[test]
    fn one_look_that_finds_less_is_no_loss_and_three_are() {
        let seen = |born, last| Some(Seen { born: Time::from_micros(born), last });
        let (whole, short) = (seen(1, 9), seen(1, 8));
        let mut watched = Watched::as_written(whole);
        let looks = [short, short, whole, short, short, short, short];
        let actions = looks.map(|found| watched.look(Worth::Truth, found));
        use Action::{Fine, Shorter};
        assert_eq!(actions, [Fine, Fine, Fine, Fine, Fine, Shorter, Shorter]);
        // What is written down is older, and nobody accepted the loss.
        watched.reread(seen(1, 3));
        assert_eq!(watched.look(Worth::Truth, short), Shorter);
        assert_eq!(watched.left, whole, "what was acknowledged is remembered until it is back");
        assert_eq!(watched.look(Worth::Truth, whole), Fine);
        // What can be told anew is gone on with.
        let actions = [short, short, short, short].map(|found| watched.look(Worth::Remade, found));
        assert_eq!(actions, [Fine, Fine, Action::Shortened, Fine]);
        assert_eq!(watched.left, short);
    }

    #[test]
    fn how_a_store_is_is_written_down_when_that_matters() {
        let seen = |born, last| Some(Seen { born: Time::from_micros(born), last });
        for (left, written, news) in [
            (seen(1, 9), None, true),
            (None, None, false),
            (None, seen(1, 9), false),
            (seen(1, 9), seen(1, 9), false),
            (seen(1, 100_008), seen(1, 9), false),
            (seen(1, 100_009), seen(1, 9), true),
            (seen(2, 9), seen(1, 9), true),
            (seen(1, 8), seen(1, 9), true),
        ] {
            assert_eq!(Watched { left, written, ..Watched::default() }.is_news(100_000), news, "{left:?} {written:?}");
        }
    }
}
