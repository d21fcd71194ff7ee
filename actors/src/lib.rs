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
    ]
}
