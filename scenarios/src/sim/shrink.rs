//! Making a failing run small: faults, sagas, nodes and weather are left out one by one as long as the
//! same invariant still breaks.

use std::time::Duration;

use super::link::Weather;
use super::plan::Plan;
use super::run::{Outcome, run};

/// Most runs spent on making one failure small.
const TRIES_MAX: usize = 200;

/// The smallest plan found that breaks what `outcome` broke.
pub fn shrink(outcome: Outcome) -> Outcome {
    let Some(invariant) = outcome.verdict.violations.first().map(|violation| violation.invariant) else {
        return outcome;
    };
    let (mut best, mut tries) = (outcome, 0);
    loop {
        let mut better = None;
        for plan in smaller(&best.plan) {
            tries += 1;
            if tries > TRIES_MAX {
                return best;
            }
            let outcome = run(&plan);
            if outcome.verdict.violations.iter().any(|violation| violation.invariant == invariant) {
                better = Some(outcome);
                break;
            }
        }
        match better {
            Some(outcome) => best = outcome,
            None => return best,
        }
    }
}

/// Plans with one thing less.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut add = |change: &dyn Fn(&mut Plan)| {
        let mut less = plan.clone();
        change(&mut less);
        plans.push(less);
    };
    if plan.sagas > 1 {
        add(&|plan| plan.sagas /= 2);
        add(&|plan| plan.sagas -= 1);
    }
    for fault in 0..plan.faults.len() {
        add(&|plan| {
            plan.faults.remove(fault);
        });
    }
    if plan.weather != (Weather { delay: plan.weather.delay, ..Weather::FAIR }) {
        add(&|plan| plan.weather = Weather { delay: plan.weather.delay, ..Weather::FAIR });
    }
    if plan.weather.delay > Duration::from_millis(1) {
        add(&|plan| plan.weather.delay /= 2);
    }
    if plan.shaken {
        add(&|plan| plan.shaken = false);
    }
    if plan.noise > 0 {
        add(&|plan| plan.noise = 0);
    }
    if plan.shards > 1 {
        add(&|plan| plan.shards = 1);
    }
    if plan.definitions > 1 {
        add(&|plan| plan.definitions -= 1);
    }
    if plan.nodes > 1 && plan.faults.iter().all(|fault| fault.node + 1 < plan.nodes) {
        add(&|plan| plan.nodes -= 1);
    }
    plans
}
