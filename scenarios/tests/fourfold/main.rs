//! Every built-in definition, four tests each, by one harness.

mod installation;

use std::sync::Arc;

use scenarios::fourfold::{Subject, fourfold};
use supervisor::machine::Definition;

#[test]
fn every_built_in_definition_has_a_stage() {
    let names: Vec<&str> = actors::definitions().iter().map(|(file, _)| *file).collect();
    assert_eq!(names, ["installation.yaml"], "a new definition gets a stage and a test here");
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
