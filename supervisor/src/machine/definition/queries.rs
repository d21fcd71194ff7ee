//! Which states ask the query engine.

use super::{Amount, Catcher, Kind, Rule, State, Until};
use crate::machine::expression::{Expression, Template};

/// Whether an expression of this state needs the query engine.
pub(super) fn state(state: &State) -> bool {
    let own = [&state.arguments, &state.output].into_iter().flatten().any(template)
        || assign(&state.assign)
        || [&state.timeout, &state.heartbeat].into_iter().flatten().any(amount)
        || state.compensate.iter().filter_map(|undo| undo.arguments.as_ref()).any(template)
        || state.catch.iter().any(catcher);
    own || match &state.kind {
        Kind::Choice { rules, default: _ } => rules.iter().any(rule),
        Kind::Wait(Until::Seconds(seconds)) => amount(seconds),
        Kind::Wait(Until::Timestamp(timestamp)) => template(timestamp),
        Kind::Fail { error, cause } => [error, cause].into_iter().flatten().any(template),
        Kind::Map(each) => {
            [&each.items, &each.selector].into_iter().flatten().any(template)
                || [&each.concurrency, &each.tolerated, &each.tolerated_percentage].into_iter().flatten().any(amount)
        }
        Kind::Task(_) | Kind::Pass | Kind::Succeed | Kind::Parallel(_) | Kind::Compensate => false,
    }
}

fn rule(rule: &Rule) -> bool {
    template(&rule.condition) || assign(&rule.assign) || rule.output.iter().any(template)
}

fn catcher(catcher: &Catcher) -> bool {
    assign(&catcher.assign) || catcher.output.iter().any(template)
}

fn assign(assign: &[(String, Template)]) -> bool {
    assign.iter().any(|(_, value)| template(value))
}

fn amount(amount: &Amount) -> bool {
    match amount {
        Amount::Is(_) => false,
        Amount::Asked(expression) => expression.is_query(),
    }
}

fn template(template: &Template) -> bool {
    template.expressions().into_iter().any(Expression::is_query)
}
