//! A queue in which tenants take turns: one thing of each, the one that waits longest first, and inside a
//! tenant what came first.

use std::collections::{HashMap, VecDeque};

use protocol::Tenant;

/// What waits, and what was taken and not given back.
#[derive(Debug)]
pub(super) struct Fair<T> {
    /// Tenants with something that waits, the one that waits longest first.
    order: VecDeque<Tenant>,
    waiting: HashMap<Tenant, Waiting<T>>,
    held: HashMap<Tenant, usize>,
}

/// What one tenant has that waits.
#[derive(Debug)]
struct Waiting<T> {
    first: VecDeque<T>,
    behind: VecDeque<T>,
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), waiting: HashMap::new(), held: HashMap::new() }
    }
}

impl<T> Fair<T> {
    /// `one` of `tenant` waits.
    pub(super) fn push(&mut self, tenant: &Tenant, one: T) {
        self.of(tenant).first.push_back(one);
    }

    /// `one` of `tenant` waits behind everything of the tenant that does not.
    pub(super) fn push_behind(&mut self, tenant: &Tenant, one: T) {
        self.of(tenant).behind.push_back(one);
    }

    fn of(&mut self, tenant: &Tenant) -> &mut Waiting<T> {
        self.waiting.entry(tenant.clone()).or_insert_with(|| {
            self.order.push_back(tenant.clone());
            Waiting { first: VecDeque::new(), behind: VecDeque::new() }
        })
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.next(|_| true).map(|(_, one)| one)
    }

    /// The next one of a tenant that holds fewer than `most`; it holds one more until that is given back.
    pub(super) fn take(&mut self, most: usize) -> Option<(Tenant, T)> {
        let held = std::mem::take(&mut self.held);
        let next = self.next(|tenant| held.get(tenant).is_none_or(|held| *held < most));
        self.held = held;
        if let Some((tenant, _)) = &next {
            *self.held.entry(tenant.clone()).or_default() += 1;
        }
        next
    }

    /// `tenant` holds one less of what was taken.
    pub(super) fn give_back(&mut self, tenant: &Tenant) {
        if let Some(held) = self.held.get_mut(tenant) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(tenant);
            }
        }
    }

    fn next(&mut self, may: impl Fn(&Tenant) -> bool) -> Option<(Tenant, T)> {
        let tenant = self.order.iter().position(may).and_then(|next| self.order.remove(next))?;
        let waiting = self.waiting.get_mut(&tenant)?;
        let one = waiting.first.pop_front().or_else(|| waiting.behind.pop_front())?;
        if waiting.first.is_empty() && waiting.behind.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.order.push_back(tenant.clone());
        }
        Some((tenant, one))
    }

    /// What waits, of one tenant after the other.
    pub(super) fn queues(&self) -> impl Iterator<Item = impl Iterator<Item = &T>> {
        self.waiting.values().map(|waiting| waiting.first.iter().chain(&waiting.behind))
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(|waiting| waiting.first.len() + waiting.behind.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).unwrap()
    }

    #[test]
    fn tenants_take_turns_and_what_stands_behind_comes_last() {
        let mut fair = Fair::default();
        for birth in ["birth 0", "birth 1", "birth 2"] {
            fair.push_behind(&tenant("evil"), birth);
        }
        fair.push(&tenant("evil"), "stop");
        fair.push_behind(&tenant("acme"), "a");
        fair.push_behind(&tenant("acme"), "b");
        assert_eq!(fair.len(), 6);
        let order: Vec<_> = std::iter::from_fn(|| fair.pop()).collect();
        assert_eq!(order, ["stop", "a", "birth 0", "b", "birth 1", "birth 2"]);
        assert!(fair.waiting.is_empty() && fair.order.is_empty() && fair.held.is_empty());
    }

    #[test]
    fn who_holds_as_much_as_it_may_waits_and_others_do_not() {
        let mut fair = Fair::default();
        for (who, one) in [("evil", 1), ("evil", 2), ("evil", 3), ("acme", 4)] {
            fair.push(&tenant(who), one);
        }
        let taken: Vec<_> = std::iter::from_fn(|| fair.take(2)).map(|(_, one)| one).collect();
        assert_eq!((taken, fair.len()), (vec![1, 4, 2], 1), "two of one tenant are under way");
        fair.give_back(&tenant("acme"));
        assert!(fair.take(2).is_none(), "that was another one's");
        fair.give_back(&tenant("evil"));
        assert_eq!(fair.take(2), Some((tenant("evil"), 3)));
        fair.give_back(&tenant("evil"));
        fair.give_back(&tenant("evil"));
        fair.give_back(&tenant("evil"));
        assert!(fair.held.is_empty());
    }
}
