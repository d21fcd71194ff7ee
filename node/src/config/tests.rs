use std::net::IpAddr;

use actors::marketplace::targets::Targets;
use figment::Figment;
use figment::providers::{Format, Toml};

use super::*;

fn read(text: &str) -> Result<Config, Fault> {
    load::read(&Figment::from(Toml::string(text)))
}

#[test]
fn an_empty_file_is_the_defaults_and_they_are_usable() {
    let config = read("").unwrap();
    assert_eq!(config, Config::default());
    config.check().unwrap();
}

#[test]
fn a_misspelt_setting_is_refused_with_the_right_one() {
    let said = |text| read(text).unwrap_err().to_string();
    assert!(said("server = \"nats://a\"").contains("there is no setting \"server\"; did you mean \"servers\"?"));
    assert!(said("[journal]\nreplica = 3").contains("did you mean \"journal.replicas\"?"));
    assert!(said("replicas = 3").contains("did you mean \"journal.replicas\"?"));
    let strange = said("[limits]\nxyzzy = 1");
    assert!(strange.contains("\"limits.xyzzy\"") && !strange.contains("did you mean"), "{strange}");
}

#[test]
fn a_value_of_the_wrong_kind_names_its_setting() {
    let said = read("[journal]\nreplicas = \"three\"").unwrap_err().to_string();
    assert!(said.contains("journal.replicas"), "{said}");
    assert!(read("journal = 3").is_err());
}

#[test]
fn values_that_cannot_work_are_all_named_at_once() {
    let config = read("shards = 0\n[journal]\nreplicas = 2\n[debug]\nbind = \"0.0.0.0:7070\"").unwrap();
    let said = config.check().unwrap_err().to_string();
    for part in ["shards: 0", "journal.replicas: 2", "debug.token must be set"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn limits_that_would_stop_the_node_or_bound_nothing_are_refused() {
    let said = |text| read(text).unwrap().check().unwrap_err().to_string();
    assert!(said("[limits]\nbody_bytes = 10").contains("limits.body_bytes: 10 is not between"));
    assert!(said("[limits]\nexpression_bytes = 99999999999").contains("limits.expression_bytes"));
    assert!(said("[limits]\nexpression_ms = 0").contains("limits.expression_ms"));
    assert!(said("[limits]\noverruns = 0").contains("limits.overruns"));
    assert!(said("[limits]\nunbroken_states = 0").contains("limits.unbroken_states"));
    assert!(said("[catalog]\narchive_ratio = 0").contains("catalog.archive_ratio"));
    assert!(said("[debug]\nuri_max_bytes = 1").contains("debug.uri_max_bytes"));
    let wide = "[limits]\nbody_bytes = 1048576\ndefinition_bytes = 1048576\nvalue_bytes = 1048576";
    read(wide).unwrap().check().unwrap();
}

#[test]
fn progress_is_bounded_as_the_settings_say() {
    let run = read("[limits]\noverruns = 2\nunbroken_states = 70000").unwrap().definition_limits().run;
    assert_eq!((run.overruns, run.unbroken_states), (2, 70_000));
}

#[test]
fn where_services_run_names_what_it_needs() {
    let said = |text| read(text).unwrap().check().unwrap_err().to_string();
    assert!(said("[runtime]\ncompute = \"kubernetes\"").contains("runtime.kubernetes_image: needed"));
    assert!(said("[runtime]\nkubernetes_image = \"a/b@sha256:0\"").contains("the repository alone"));
    assert!(said("[runtime]\nprovisioner = \"pulumi\"").contains("runtime.pulumi_project: needed"));
    let cluster = "[runtime]\ndir = \"/d\"\ncompute = \"kubernetes\"\nkubernetes_image = \"a/{service}\"\nkubernetes_context = \"c\"";
    let config = read(cluster).unwrap();
    config.check().unwrap();
    let settings = config.kubernetes_settings().unwrap();
    assert_eq!((settings.image.as_str(), settings.context.as_deref()), ("a/{service}", Some("c")));
    assert_eq!(settings.namespace_of("dev").unwrap(), "skald-dev");
    assert!(read("").unwrap().kubernetes_settings().is_none());
}

#[test]
fn what_is_printed_reads_back_as_the_same_settings() {
    let config = read("node = \"n1\"\nservers = \"nats://a, nats://b\"\n[journal]\nstreams = \"per-shard\"").unwrap();
    assert_eq!(config.servers, ["nats://a", "nats://b"]);
    let text = config.to_commented_toml();
    assert_eq!(read(&text).unwrap(), config, "{text}");
    assert!(text.contains("# Copies of the journal: 1, 3 or 5."), "{text}");
}

#[test]
fn a_token_is_never_printed() {
    for secret in ["debug]\ntoken", "nats]\npassword", "nats]\ntoken", "nats]\nnkey_seed"] {
        let config = read(&format!("[{secret} = \"very-secret\"")).unwrap();
        assert!(!config.to_commented_toml().contains("very-secret"), "{secret}");
    }
}

#[test]
fn a_node_keeps_the_name_it_chose() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
    assert_eq!(config.node_id().unwrap(), config.node_id().unwrap());
}

#[test]
fn every_section_is_described() {
    let table = toml::Table::try_from(Config::default()).unwrap();
    for (name, value) in &table {
        let section = Config::SECTIONS.iter().any(|(section, _)| section == name);
        assert_eq!(value.is_table(), section, "{name}");
    }
}

#[test]
fn installations_go_anywhere_only_where_nobody_is_asked_who_he_is() {
    let targets = |text: &str| read(text).unwrap().targets();
    assert_eq!(targets(""), Targets::Anywhere);
    let roots = Targets::Below(vec!["/srv/{tenant}".into()]);
    assert_eq!(targets("[catalog]\ntarget_roots = [\"/srv/{tenant}\"]"), roots);
    for who in ["credentials = \"node.creds\"", "[nats]\nuser = \"n\"\npassword = \"p\"", "[nats]\ntoken = \"t\""] {
        assert_eq!(targets(who), Targets::Below(Vec::new()), "{who}");
    }
    let relative = read("[catalog]\ntarget_roots = \"/srv, projects\"").unwrap().check().unwrap_err().to_string();
    assert!(relative.contains("\"projects\" is not absolute"), "{relative}");
}

#[test]
fn one_address_does_not_take_every_connection_of_a_door() {
    let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
    let config = Config::default();
    for crowd in [config.debug_connections().0, config.http_connections().0] {
        let busy = |peer| crowd.enter(peer).map(|place| (place.answering(), place));
        let all: Vec<_> = std::iter::from_fn(|| busy(one)).collect();
        assert!(busy(one).is_none(), "all {} of it are being answered", all.len());
        let others: Vec<_> = std::iter::from_fn(|| busy(other)).take(64).collect();
        assert_eq!(others.len(), 64);
    }
}
