//! A loop that does the same again and again without effect backs off, and says so.
//!
//! The memory holds one row per subject: what was done, how often in a row, and whether the world
//! changed after it. Doing something else, or an effect, ends the row.

use protocol::text::identity;
use std::time::Duration;

use protocol::Time;
use serde::{Deserialize, Serialize};

/// After so many times without effect people are told: one may be bad luck, two a slow world.
pub const ALARM_AFTER: u32 = 3;
/// The pause after the first time without effect (D203: 5 s).
pub const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause (D203: 3 min at 5 attempts; here it goes on, so a quarter of an hour).
pub const PAUSE_MAX: Duration = Duration::from_secs(900);
/// The longest name of an action that is kept, in bytes.
pub const ACTION_MAX_BYTES: usize = 256;

/// What is remembered of one subject.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// What was done last.
    pub action: String,
    /// How often in a row.
    pub times: u32,
    /// When last.
    pub at: Time,
    /// Whether people were told.
    pub told: bool,
}

/// What a wish to act comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum May {
    /// Do it.
    Now,
    /// Do it, and tell people this: it was done so often without effect.
    AndTell(String),
    /// Not before then.
    NotBefore(Time),
}

/// Somebody wants to do `action` to `subject`. The row is to be stored before it is done.
pub fn want(row: &Row, subject: &str, action: &str, now: Time) -> (Row, May) {
    let action = &*identity(action, ACTION_MAX_BYTES);
    if row.times == 0 || row.action != action {
        return (Row { action: action.to_owned(), times: 1, at: now, told: false }, May::Now);
    }
    let until = row.at.after(pause(row.times));
    if until > now {
        return (row.clone(), May::NotBefore(until));
    }
    let times = row.times.saturating_add(1);
    let tell = times > ALARM_AFTER && !row.told;
    let next = Row { times, at: now, told: row.told || tell, ..row.clone() };
    if tell {
        let why = format!(
            "{subject}: \"{action}\" was done {} times and the world is as before; it is tried on every {} s at most",
            row.times,
            PAUSE_MAX.as_secs()
        );
        return (next, May::AndTell(why));
    }
    (next, May::Now)
}

/// It had an effect, or is not wanted any more: the row ends. `None`: there was none, so nothing is
/// to be stored (W074).
pub fn settled(row: &Row) -> Option<Row> {
    (row.times > 0).then(Row::default)
}

fn pause(times: u32) -> Duration {
    PAUSE.saturating_mul(2u32.saturating_pow(times.saturating_sub(1))).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_without_effect_backs_off_and_is_told_once() {
        let mut row = Row::default();
        let mut now = Time::from_micros(0);
        let mut told = Vec::new();
        let mut done = Vec::new();
        // A loop that comes by every second for an hour.
        for second in 0..3_600 {
            let (next, may) = want(&row, "web", "set the image to 2.0", now);
            row = next;
            match may {
                May::Now => done.push(second),
                May::AndTell(why) => {
                    done.push(second);
                    told.push(why);
                }
                May::NotBefore(at) => assert!(at > now),
            }
            now = now.after(Duration::from_secs(1));
        }
        assert_eq!(done, [0, 5, 15, 35, 75, 155, 315, 635, 1275, 2175, 3075]);
        assert_eq!(
            told,
            [
                "web: \"set the image to 2.0\" was done 3 times and the world is as before; it is tried on every 900 s at most"
            ]
        );
    }

    #[test]
    fn an_effect_or_another_action_ends_the_row() {
        let (row, _) = want(&Row::default(), "web", "a", Time::from_micros(0));
        assert!(matches!(want(&row, "web", "a", Time::from_micros(1)).1, May::NotBefore(_)));
        assert_eq!(want(&row, "web", "b", Time::from_micros(1)).1, May::Now);
        let over = settled(&row).unwrap();
        assert_eq!(want(&over, "web", "a", Time::from_micros(1)).1, May::Now);
        assert_eq!(settled(&over), None, "nothing is stored twice");
    }
}
