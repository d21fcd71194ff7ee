//! What can only be checked when all states are known: where they lead, whether all are reached,
//! whether each can end, whose variables they assign.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::fault::meant;
use super::fields::Builder;
use super::{Kind, Nest};

/// Checks the whole.
pub(super) fn run(builder: &mut Builder<'_>) {
    let whole = targets(builder);
    for (nest, whole) in whole.into_iter().enumerate() {
        if whole {
            reached_and_ending(builder, nest);
        }
    }
    variables(builder);
}

/// Every mentioned state exists, in the same scope. Answers which scopes are without a fault.
fn targets(builder: &mut Builder<'_>) -> Vec<bool> {
    let mut whole = vec![true; builder.nests.len()];
    let names = |nest: &Nest| nest.states.iter().map(|s| builder.states[*s].name.clone()).collect::<HashSet<_>>();
    let there: Vec<_> = builder.nests.iter().map(names).collect();
    for mention in std::mem::take(&mut builder.mentions) {
        if there[mention.nest].contains(&mention.to) {
            continue;
        }
        whole[mention.nest] = false;
        if builder.faults.is_full() {
            continue;
        }
        let known: Vec<String> =
            builder.nests[mention.nest].states.iter().map(|s| builder.states[*s].name.to_string()).collect();
        let (what, mend) = if builder.names.contains_key(&mention.to) {
            let what = format!("{:?} stands in another scope", mention.to);
            (what, "a state leads only to states beside it: end this scope, and go on after its holder".to_owned())
        } else {
            let mend = meant(&mention.to, known.iter().map(String::as_str)).map_or_else(
                || format!("the states here are {}", known.join(", ")),
                |near| format!("did you mean {near:?}?"),
            );
            (format!("there is no state {:?}", mention.to), mend)
        };
        builder.fault(mention.at, mention.path, what, mend);
    }
    whole
}

fn reached_and_ending(builder: &mut Builder<'_>, nest: usize) {
    let members = builder.nests[nest].states.clone();
    let number: HashMap<String, usize> =
        members.iter().map(|index| (builder.states[*index].name.to_string(), *index)).collect();
    let edges: HashMap<usize, Vec<usize>> = members
        .iter()
        .map(|index| {
            let to = builder.states[*index].edges();
            (*index, to.iter().filter_map(|(name, _)| number.get(&***name).copied()).collect())
        })
        .collect();
    let Some(start) = number.get(&*builder.nests[nest].start) else { return };
    let mut reached = HashSet::from([*start]);
    let mut open = vec![*start];
    while let Some(index) = open.pop() {
        for to in &edges[&index] {
            if reached.insert(*to) {
                open.push(*to);
            }
        }
    }
    let mut before: HashMap<usize, Vec<usize>> = HashMap::new();
    for (from, to) in edges.iter().flat_map(|(from, to)| to.iter().map(move |to| (*from, *to))) {
        before.entry(to).or_default().push(from);
    }
    let mut open: Vec<usize> = members.iter().copied().filter(|index| builder.states[*index].ends()).collect();
    let mut ending: HashSet<usize> = open.iter().copied().collect();
    while let Some(index) = open.pop() {
        open.extend(before.get(&index).into_iter().flatten().copied().filter(|from| ending.insert(*from)));
    }
    for index in members {
        let (at, name) = (builder.states[index].at, builder.states[index].name.to_string());
        if !reached.contains(&index) {
            let mend = "lead to it with a Next, a Choice, a Catch or StartAt, or remove it";
            builder.fault(at, name, "no state leads here", mend);
        } else if !ending.contains(&index) {
            let mend = "add a way out: End: true, or a Choice that leaves the loop";
            builder.fault(at, name, "once here, it can never end", mend);
        }
    }
}

/// An inner scope reads the variables around it, and assigns none of them.
fn variables(builder: &mut Builder<'_>) {
    let mut assigned: Vec<BTreeSet<String>> = vec![BTreeSet::new(); builder.nests.len()];
    for state in &builder.states {
        let rules = match &state.kind {
            Kind::Choice { rules, .. } => rules.as_slice(),
            Kind::Task(_)
            | Kind::Pass
            | Kind::Wait(_)
            | Kind::Succeed
            | Kind::Fail { .. }
            | Kind::Parallel(_)
            | Kind::Map(_)
            | Kind::Compensate => &[],
        };
        let all = state
            .assign
            .iter()
            .chain(state.catch.iter().flat_map(|catcher| &catcher.assign))
            .chain(rules.iter().flat_map(|rule| &rule.assign));
        assigned[state.nest].extend(all.map(|(name, _)| name.clone()));
    }
    for nest in 0..builder.nests.len() {
        let mut holder = builder.nests[nest].holder;
        while let Some(state) = holder {
            let outer = builder.states[state].nest;
            for name in assigned[nest].intersection(&assigned[outer]).cloned().collect::<Vec<_>>() {
                let at = builder.nests[nest].states.first().map_or(builder.states[state].at, |s| builder.states[*s].at);
                let holder = builder.states[state].name.to_string();
                builder.fault(
                    at,
                    holder,
                    format!("the variable {name:?} is assigned inside, and in the scope around it"),
                    "use another name inside; give the value out with Output",
                );
            }
            holder = builder.nests[outer].holder;
        }
    }
}
