//! Who sends next: tenants take turns, and of one tenant's sagas those that stop or answer another one
//! come before those that begin one. A family that is cancelled would otherwise grow as fast as it is
//! stopped, and one that grows would hold up everybody else's.

use std::collections::{HashMap, VecDeque};

use protocol::{SagaId, Tenant};

use crate::machine::Effect;

/// Sagas that wait until they may send.
#[derive(Default, Debug)]
pub(super) struct Ready {
    /// Tenants with a saga that waits, the one that waits longest first.
    order: VecDeque<Tenant>,
    waiting: HashMap<Tenant, Waiting>,
}

/// Those of one tenant, each in the order in which they came.
#[derive(Default, Debug)]
struct Waiting {
    first: VecDeque<SagaId>,
    births: VecDeque<SagaId>,
}

impl Ready {
    /// `saga` waits until it may send `effect`.
    pub(super) fn push(&mut self, saga: SagaId, effect: &Effect) {
        let waiting = self.waiting.entry(saga.tenant.clone()).or_insert_with(|| {
            self.order.push_back(saga.tenant.clone());
            Waiting::default()
        });
        match effect {
            Effect::StartChild { .. } => waiting.births.push_back(saga),
            Effect::CancelChild { .. }
            | Effect::Ended { .. }
            | Effect::Publish(_)
            | Effect::StartActivity(_)
            | Effect::StopActivity(_)
            | Effect::SetTimer { .. }
            | Effect::ClearTimer { .. }
            | Effect::Continue => waiting.first.push_back(saga),
        }
    }

    /// The next one, which waits no longer.
    pub(super) fn pop(&mut self) -> Option<SagaId> {
        let tenant = self.order.pop_front()?;
        let waiting = self.waiting.get_mut(&tenant)?;
        let next = waiting.first.pop_front().or_else(|| waiting.births.pop_front());
        if waiting.first.is_empty() && waiting.births.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.order.push_back(tenant);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ready: &mut Ready, saga: &str, births: bool) {
        let (step, key) = (1, saga.parse::<SagaId>().unwrap().key);
        let effect = match births {
            true => {
                Effect::StartChild { step, key, definition: "child".into(), pinned: None, input: protocol::Value::Null }
            }
            false => Effect::CancelChild { step: Some(step), key },
        };
        ready.push(saga.parse().unwrap(), &effect);
    }

    #[test]
    fn tenants_take_turns_and_nobody_is_born_before_somebody_is_stopped() {
        let mut ready = Ready::default();
        for number in 0..3 {
            push(&mut ready, &format!("evil/{number}"), true);
        }
        push(&mut ready, "evil/stop", false);
        push(&mut ready, "acme/a", true);
        push(&mut ready, "acme/b", true);
        let order: Vec<String> = std::iter::from_fn(|| ready.pop()).map(|saga| saga.to_string()).collect();
        assert_eq!(order, ["evil/stop", "acme/a", "evil/0", "acme/b", "evil/1", "evil/2"]);
        push(&mut ready, "evil/again", true);
        assert_eq!(ready.pop().unwrap().to_string(), "evil/again");
        assert!(ready.pop().is_none() && ready.waiting.is_empty() && ready.order.is_empty());
    }
}
