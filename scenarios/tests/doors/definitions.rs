//! Definitions that cannot be run.

use node::client::Error;
use node::node::{Node, Parts};
use protocol::Code;
use protocol::command::{Deploy, ShowDefinition};
use scenarios::cluster::TestCluster;
use scenarios::stage::start;
use serde_json::json;

use super::{STAGE, says};

const WRONG: &str = r#"name: wrong
definition:
  StartAt: Frist
  States:
    First:
      Type: Task
      Resource: activty:ledger.write
      Nxt: Second
    Second:
      Type: Wait
      Seconds: "{% 1 + %}"
      Next: Nowhere
"#;

#[test]
fn an_unknown_definition_or_version_is_not_found() {
    STAGE.play(async |stage| {
        let error = stage.client.start(&start("thrice", "x", json!({}))).await.unwrap_err();
        let Error::Refused(problem) = &error else { panic!("{error}") };
        says(problem, Code::NotFound, "there is no definition thrice", Some("skald definition list"));
        let which = ShowDefinition { name: "three".into(), version: Some(99) };
        let error = stage.client.definition(&which).await.unwrap_err();
        assert_eq!(
            (error.code(), error.to_string()),
            (Some(Code::NotFound), "there is no definition three v99".into())
        );
    });
}

#[test]
fn every_fault_of_a_definition_is_told_with_its_line_and_what_would_be_right() {
    STAGE.play(async |stage| {
        let deploy = Deploy { source: WRONG.into(), file: Some("wrong.yaml".into()) };
        for error in [stage.client.deploy(&deploy).await.unwrap_err(), stage.client.check(&deploy).await.unwrap_err()] {
            assert_eq!(error.code(), Some(Code::BadDefinition), "{error}");
            let faults = error.to_string();
            for (line, words) in [
                (3, "did you mean \"First\"?"),
                (7, "did you mean activity:ledger.write?"),
                (8, "Nxt"),
                (11, "Seconds"),
                (12, "Nowhere"),
            ] {
                let told = faults
                    .lines()
                    .any(|fault| fault.starts_with(&format!("wrong.yaml:{line}:")) && fault.contains(words));
                assert!(told, "no fault of line {line} with {words:?} in:\n{faults}");
            }
        }
        assert_eq!(stage.client.start(&start("wrong", "w", json!({}))).await.unwrap_err().code(), Some(Code::NotFound));
    });
}

#[test]
fn the_same_source_is_the_same_version_and_a_change_is_the_next() {
    STAGE.play(async |stage| {
        let source = |seconds: u32| {
            format!("name: versions\ndefinition:\n  StartAt: A\n  States: {{ A: {{ Type: Wait, Seconds: {seconds}, End: true }} }}\n")
        };
        let deploy = |source: String| Deploy { source, file: None };
        let first = stage.client.deploy(&deploy(source(1))).await.unwrap();
        let again = stage.client.deploy(&deploy(source(1))).await.unwrap();
        let next = stage.client.deploy(&deploy(source(2))).await.unwrap();
        assert_eq!((first.version, first.created), (1, true));
        assert_eq!((again.version, again.created, &again.digest), (1, false, &first.digest));
        assert_eq!((next.version, next.created), (2, true));
        let old = ShowDefinition { name: "versions".into(), version: Some(1) };
        assert_eq!(stage.client.definition(&old).await.unwrap().source, source(1), "a version never changes");
        let worker = Deploy { source: source(3).replace("Type: Wait, Seconds: 3", "Type: Task, Resource: activity:nobody.does"), file: None };
        let warned = stage.client.check(&worker).await.unwrap();
        assert!(warned.warnings.iter().any(|warning| warning.to_string().contains("nobody.does")), "{warned:?}");
    });
}

#[test]
fn what_a_tenant_deploys_is_its_own_and_what_is_built_in_is_nobodys() {
    STAGE.play(async |stage| {
        let evil = stage.cluster.client_as("evil", "eve").await.unwrap();
        let deploy = |name: &str, seconds: u32| Deploy {
            source: format!(
                "name: {name}\ndefinition:\n  StartAt: A\n  States: {{ A: {{ Type: Wait, Seconds: {seconds}, End: true }} }}\n"
            ),
            file: None,
        };
        // `three` came with the node.
        let refused = evil.deploy(&deploy("three", 1)).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::Conflict), "{refused}");
        assert!(refused.to_string().contains("three is built in"), "{refused}");
        assert!(refused.mend().unwrap().contains("another name"));
        // The same name in two tenants: two definitions, each counted for itself.
        let ours = stage.client.deploy(&deploy("shared-name", 1)).await.unwrap();
        let theirs = evil.deploy(&deploy("shared-name", 2)).await.unwrap();
        assert_eq!((ours.version, theirs.version), (1, 1));
        let which = ShowDefinition { name: "shared-name".into(), version: None };
        let shown = stage.client.definition(&which).await.unwrap();
        assert!(shown.source.contains("Seconds: 1"), "{}", shown.source);
        evil.deploy(&deploy("hidden", 1)).await.unwrap();
        let listed = stage.client.definitions().await.unwrap().to_string();
        assert!(!listed.contains("\"hidden\"") && listed.contains("\"three\""), "{listed}");
        let gone = stage.client.start(&start("hidden", "hidden", json!({}))).await.unwrap_err();
        assert_eq!(gone.code(), Some(Code::NotFound), "{gone}");
        // A saga runs its own tenant's.
        stage.client.start(&start("shared-name", "own", json!({}))).await.unwrap();
        assert!(stage.end("own").await.status.is_final());
    });
}

fn waits(name: &str, seconds: u32) -> String {
    format!(
        "name: {name}\ndefinition:\n  StartAt: A\n  States: {{ A: {{ Type: Wait, Seconds: {seconds}, End: true }} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whom_the_node_names_may_deploy() {
    let named = |config: &mut node::config::Config| config.definitions.deployers = vec!["ops".into()];
    let cluster = TestCluster::start_with(1, |_| Vec::new(), &[], named, |_| {}).await.unwrap();
    let deploy = Deploy { source: waits("order", 1), file: None };
    let refused = cluster.client().await.unwrap().deploy(&deploy).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Forbidden), "{refused}");
    assert!(refused.mend().unwrap().contains("definitions.deployers"));
    cluster.client_as("acme", "ops").await.unwrap().deploy(&deploy).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_node_that_starts_again_does_not_make_its_copy_the_newest() {
    let cluster = TestCluster::start(1, |_| Vec::new(), &[&waits("order", 1)]).await.unwrap();
    for (number, seconds) in [(1, 2), (2, 1)] {
        let config = scenarios::cluster::config(cluster.dir.path(), &cluster.server, number).unwrap();
        let definitions = vec![("order.yaml".to_owned(), waits("order", seconds))];
        let node = Node::start(config, Parts { definitions, ..Parts::default() }).await.unwrap();
        node.drain().await.unwrap();
    }
    let which = ShowDefinition { name: "order".into(), version: None };
    let newest = cluster.client().await.unwrap().definition(&which).await.unwrap();
    assert_eq!((newest.version, newest.source), (2, waits("order", 2)));
}
