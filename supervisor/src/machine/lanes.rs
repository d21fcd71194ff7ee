//! How the undos of many items are stored: what they have in common once, and a row for each. Written out,
//! one item's undo has some 150 bytes, most of them names, and ten thousand would not fit into one
//! message.
//!
//! Lanes that differ in more than a row has, or that are being undone, are stored as they are, and so are
//! few of a kind: older releases read them.

use std::fmt;
use std::sync::Arc;

use protocol::Value;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize as Read, Serialize, Serializer};

use super::change::Datum;
use super::execution::{Entry, Undo, Undoing};

/// Fewer lanes of a kind are stored as they are.
const ALIKE_MIN: usize = 16;

type Lane = Vec<Entry>;

/// Lanes of one undo each, which differ in their items alone.
#[derive(Serialize, Read)]
struct Alike {
    state: Arc<str>,
    activity: Arc<str>,
    /// The path before the item's number and after it.
    path: (String, String),
    /// The key before the path.
    key: String,
    items: Vec<Item>,
}

/// The item's number, the undo's, the number at the end of its key, and what it is given.
#[derive(Serialize, Read)]
struct Item(u32, u64, u64, Arc<Value>, Option<Arc<Value>>, Option<Datum>);

#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Lane(&'a Lane),
    Alike(Alike),
}

/// What lanes of a kind have in common.
#[derive(PartialEq)]
struct Kind<'a> {
    state: &'a str,
    activity: &'a str,
    path: (&'a str, &'a str),
    key: &'a str,
}

pub(super) fn serialize<S: Serializer>(lanes: &[Lane], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(parts(lanes))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Lane>, D::Error> {
    let parts: Vec<Stored> = Vec::deserialize(deserializer)?;
    Ok(parts.into_iter().flat_map(|part| part.0).collect())
}

fn parts(lanes: &[Lane]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = lanes;
    while let Some(first) = rest.first() {
        let kind = row(first).map(|(kind, _)| kind);
        let same = |lane: &&Lane| kind.is_some() && row(lane).map(|(kind, _)| kind) == kind;
        let (alike, others) = rest.split_at(rest.iter().take_while(same).count().max(1));
        match kind {
            Some(kind) if alike.len() >= ALIKE_MIN => parts.push(Part::Alike(Alike {
                state: kind.state.into(),
                activity: kind.activity.into(),
                path: (kind.path.0.into(), kind.path.1.into()),
                key: kind.key.into(),
                items: alike.iter().filter_map(row).map(|(_, item)| item).collect(),
            })),
            Some(_) | None => parts.extend(alike.iter().map(Part::Lane)),
        }
        rest = others;
    }
    parts
}

/// A lane as a row, if it can be one.
fn row(lane: &Lane) -> Option<(Kind<'_>, Item)> {
    let [Entry::Step(undo)] = lane.as_slice() else { return None };
    if undo.doing != Undoing::Not || undo.attempts > 0 || !undo.retries.is_empty() {
        return None;
    }
    let (before, index) = undo.path.rsplit_once('[')?;
    let (index, after) = index.split_once(']')?;
    let (key, step) = undo.key.rsplit_once('.')?;
    let key = key.strip_suffix(&*undo.path)?;
    let kind = Kind { state: &undo.state, activity: &undo.activity, path: (before, after), key };
    let (index, step) = (number(index)?, number(step)?);
    let input = Arc::clone(&undo.input);
    Some((kind, Item(u32::try_from(index).ok()?, undo.step, step, input, undo.output.clone(), undo.arguments.clone())))
}

/// A number that is written as this one would be.
fn number(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|_| text == "0" || !text.starts_with(['0', '+']))
}

impl Alike {
    fn lanes(self) -> Vec<Lane> {
        let Self { state, activity, path: (before, after), key, items } = self;
        let lane = |Item(index, step, last, input, output, arguments): Item| {
            let path = format!("{before}[{index}]{after}");
            vec![Entry::Step(Box::new(Undo {
                step,
                state: Arc::clone(&state),
                key: format!("{key}{path}.{last}"),
                path: path.into(),
                activity: Arc::clone(&activity),
                input,
                output,
                arguments,
                attempts: 0,
                retries: Vec::new(),
                doing: Undoing::Not,
            }))]
        };
        items.into_iter().map(lane).collect()
    }
}

/// A part read back.
struct Stored(Vec<Lane>);

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StoredVisitor)
    }
}

struct StoredVisitor;

impl<'de> Visitor<'de> for StoredVisitor {
    type Value = Stored;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a lane of undos, or many alike")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, lane: A) -> Result<Stored, A::Error> {
        Ok(Stored(vec![Lane::deserialize(SeqAccessDeserializer::new(lane))?]))
    }

    fn visit_map<A: MapAccess<'de>>(self, alike: A) -> Result<Stored, A::Error> {
        Ok(Stored(Alike::deserialize(MapAccessDeserializer::new(alike))?.lanes()))
    }
}
