//! Every built-in definition, four tests each, by one harness.

mod compute;
mod deployment;
mod environment;
mod installation;

use std::sync::Arc;

use deployment::How;
use scenarios::fourfold::{Subject, fourfold};
use supervisor::machine::Definition;

#[test]
fn every_built_in_definition_has_a_stage() {
    let names: Vec<&str> = actors::definitions().iter().map(|(file, _)| *file).collect();
    assert_eq!(
        names,
        ["installation.yaml", "runtime_deployment.yaml", "service_removal.yaml", "environment_removal.yaml"],
        "a new definition gets a stage and a test here"
    );
}

#[test]
fn installation() {
    let (file, source) = actors::definitions()[0];
    let (definition, _) = Definition::parse(source, file).unwrap();
    let subject = Subject { definition: Arc::new(definition), stage: &installation::stage };
    let (count, wrong) = fourfold(&subject);
    println!("{count:?}");
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count.failed >= 6 && count.crashed > 20, "{count:?}");
}

fn deploys(stage: &dyn Fn() -> Box<dyn scenarios::fourfold::Stage>) {
    let (file, source) = actors::definitions()[1];
    let (definition, _) = Definition::parse(source, file).unwrap_or_else(|faults| panic!("{faults}"));
    let subject = Subject { definition: Arc::new(definition), stage };
    let (count, wrong) = fourfold(&subject);
    println!("{count:?}");
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count.failed >= 14 && count.crashed > 60, "{count:?}");
}

#[test]
fn removal_of_a_service() {
    let (file, source) = actors::definitions()[2];
    let (definition, _) = Definition::parse(source, file).unwrap_or_else(|faults| panic!("{faults}"));
    let subject = Subject { definition: Arc::new(definition), stage: &|| deployment::stage(How::Removed) };
    let (count, wrong) = fourfold(&subject);
    println!("{count:?}");
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count.failed >= 8 && count.crashed > 10, "{count:?}");
}

#[test]
fn removal_of_an_environment() {
    let (file, source) = actors::definitions()[3];
    let (definition, _) = Definition::parse(source, file).unwrap_or_else(|faults| panic!("{faults}"));
    let subject = Subject { definition: Arc::new(definition), stage: &environment::stage };
    let (count, wrong) = fourfold(&subject);
    println!("{count:?}");
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count.failed >= 6 && count.crashed > 8, "{count:?}");
}

#[test]
fn deployment_replica_by_replica() {
    deploys(&|| deployment::stage(How::Rolling));
}

#[test]
fn deployment_of_a_canary() {
    deploys(&|| deployment::stage(How::Canary));
}

#[test]
fn deployment_at_once() {
    deploys(&|| deployment::stage(How::BlueGreen));
}

#[test]
fn deployment_of_the_last_good_revision() {
    deploys(&|| deployment::stage(How::Restore));
}
