//! Per event: it is in the stream, under one id, as the journal says, in its saga's order.

use std::collections::{BTreeMap, HashMap};

use protocol::{Envelope, SagaId};

use super::invariant::{EVENTS, ORDER};
use super::{History, Told, Verdict};

pub(super) fn check(history: &History, told: &BTreeMap<SagaId, Told>, verdict: &mut Verdict) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    let recorded: HashMap<&str, &Envelope> =
        told.values().flat_map(|told| &told.events).map(|event| (event.event_id.as_str(), event)).collect();
    for (place, event) in history.events.iter().enumerate() {
        let id = event.event_id.as_str();
        first.entry(id).or_insert(place);
        let wrong = match recorded.get(id) {
            None => Some(format!("{} {id} is in the stream and not in the journal", event.event_type)),
            Some(known) => (**known != *event).then(|| format!("{id} says something else than its record")),
        };
        verdict.look(EVENTS, &event.correlation_id, wrong);
    }
    for (saga, told) in told {
        let mut before = None;
        for event in &told.events {
            let place = first.get(event.event_id.as_str()).copied();
            let wrong = place.is_none().then(|| format!("{} {} was not published", event.event_type, event.event_id));
            verdict.look(EVENTS, saga, wrong);
            if let (Some(before), Some(place)) = (before, place) {
                let wrong = (place < before).then(|| format!("{} came before an earlier event", event.event_id));
                verdict.look(ORDER, saga, wrong);
            }
            before = place.or(before);
        }
    }
}
