//! The work: activities, built-in definitions and the ports they need.

pub mod listener;
pub mod marketplace;
pub mod permits;
pub mod runtime;

/// The definitions that come with the product, as file names and sources.
pub fn definitions() -> &'static [(&'static str, &'static str)] {
    &[
        ("installation.yaml", include_str!("../definitions/installation.yaml")),
        ("runtime_deployment.yaml", include_str!("../definitions/runtime_deployment.yaml")),
        ("service_removal.yaml", include_str!("../definitions/service_removal.yaml")),
        ("environment_removal.yaml", include_str!("../definitions/environment_removal.yaml")),
    ]
}

/// Whether a definition that comes with the product can do anything with `input`; the others say for themselves what
/// they take.
pub fn check_input(definition: &str, input: &protocol::Value) -> Result<(), runtime::model::Fault> {
    match definition {
        runtime::deployment::DEFINITION => runtime::deployment::door::check(input),
        runtime::removal::DEFINITION => runtime::removal::check(input),
        runtime::decommission::DEFINITION => runtime::decommission::check(input),
        _ => Ok(()),
    }
}
