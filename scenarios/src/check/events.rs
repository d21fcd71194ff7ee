//! Per event: it is in the stream once, under one id, as the journal says, in its saga's order and with
//! the place that its shard gave it; or it was refused for good and is buried.

use std::collections::{BTreeMap, HashMap, HashSet};

use protocol::{Envelope, SagaId, ShardId};
use supervisor::ports::{Place, Position};

use super::invariant::{EVENTS, ONCE, ORDER, PLACE, SEQUENCE};
use super::{History, Said, Told, Verdict};

/// The tenant of what the cluster says of itself.
const CLUSTER: &str = "skald";

pub(super) fn check(history: &History, told: &BTreeMap<SagaId, Told>, verdict: &mut Verdict) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let recorded: HashMap<&str, &Envelope> =
        told.values().flat_map(|told| &told.events).map(|event| (event.event_id.as_str(), event)).collect();
    for (place, Said { event, .. }) in history.events.iter().enumerate() {
        let id = event.event_id.as_str();
        let before = *first.entry(id).or_insert(place);
        let twice = (before < place).then(|| format!("{} {id} came as message {before} and {place}", event.event_type));
        verdict.look(ONCE, &event.correlation_id, twice);
        // What the cluster says of itself is no saga's.
        if event.tenant_id.as_str() == CLUSTER {
            continue;
        }
        let wrong = match recorded.get(id) {
            None => Some(format!("{} {id} is in the stream and not in the journal", event.event_type)),
            Some(known) => (**known != *event).then(|| format!("{id} says something else than its record")),
        };
        verdict.look(EVENTS, &event.correlation_id, wrong);
    }
    let buried: HashSet<&str> = history.buried.iter().map(|said| said.event.event_id.as_str()).collect();
    for (saga, told) in told {
        let mut before = None;
        for (number, event) in (1..).zip(&told.events) {
            let id = event.event_id.as_str();
            let wrong = (event.sequence != number).then(|| format!("{id} says {} and is {number}", event.sequence));
            verdict.look(SEQUENCE, saga, wrong);
            let place = first.get(id).copied();
            let wrong = match (place, buried.contains(id)) {
                (Some(_), false) | (None, true) => None,
                (None, false) => Some(format!("{} {id} was not published", event.event_type)),
                (Some(_), true) => Some(format!("{} {id} was published and buried", event.event_type)),
            };
            verdict.look(EVENTS, saga, wrong);
            if let (Some(before), Some(place)) = (before, place) {
                let wrong = (place < before).then(|| format!("{} came before an earlier event", event.event_id));
                verdict.look(ORDER, saga, wrong);
            }
            before = place.or(before);
        }
    }
    places(history, told, verdict);
}

/// What a reader can see by the places alone, and that they are the journal's.
fn places(history: &History, told: &BTreeMap<SagaId, Told>, verdict: &mut Verdict) {
    let recorded: HashMap<&str, Position> = told
        .values()
        .flat_map(|told| told.events.iter().zip(&told.positions))
        .map(|(event, position)| (event.event_id.as_str(), *position))
        .collect();
    let mut shards: BTreeMap<ShardId, BTreeMap<u64, (&str, Position)>> = BTreeMap::new();
    for Said { event, place } in history.events.iter().chain(&history.buried) {
        let id = event.event_id.as_str();
        // Whatever is not in the journal is told of above.
        let (Some(Place { shard, position, number }), Some(at)) = (place, recorded.get(id)) else { continue };
        let wrong = (at != position).then(|| format!("{id} says that it is of frame {position} and is of {at}"));
        verdict.look(PLACE, &event.correlation_id, wrong);
        let there = shards.entry(*shard).or_default().insert(*number, (id, *position));
        let wrong =
            there.filter(|(other, _)| *other != id).map(|(other, _)| format!("{other} and {id} are both {number}"));
        verdict.look(PLACE, &event.correlation_id, wrong);
    }
    for (shard, numbers) in shards {
        let mut next = (1, 0);
        for (number, (id, position)) in numbers {
            let wrong = if number != next.0 {
                Some(format!("after {} comes {number} ({id})", next.0 - 1))
            } else {
                (position < next.1).then(|| format!("{number} ({id}) is of an earlier frame than the one before"))
            };
            verdict.look(PLACE, &format_args!("shard {shard}"), wrong);
            next = (number + 1, position);
        }
    }
}
