//! What the platforms decide: packages, targets and their definitions, and who may own what.

mod arbitration;
mod cargo;
mod catalog;
mod definition;
mod elsewhere;
mod installation;
mod resolution;
mod runtime_definition;
mod support;
mod targets;
