use std::collections::{BTreeMap, BTreeSet};

use protocol::command::name;
use serde_json::json;

use super::asked::{Said, body};
use super::routes::{BASE, Method, ROUTES, Route, Shape};
use super::token::{Holders, scopes};

fn route(command: &str, shape: Shape) -> &'static Route {
    ROUTES.iter().find(|route| route.command == command && route.shape == shape).unwrap()
}

fn asked(route: &Route, path: &[(&str, &str)], sent: &str) -> Result<serde_json::Value, protocol::Problem> {
    let path: BTreeMap<_, _> = path.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    body(route, &Said { path: &path, query: &BTreeMap::new(), body: sent.as_bytes(), key: "k1" })
}

#[test]
fn every_route_is_a_command_that_there_is_and_no_two_are_one() {
    let mut known = BTreeSet::new();
    for route in &ROUTES {
        assert!(name::ALL.contains(&route.command), "{route:?}");
        assert!(known.insert((route.method.to_string(), route.path)), "{route:?} twice");
        assert_eq!(route.method == Method::Get, !route.writes() && route.shape != Shape::Plan, "{route:?}");
    }
    for area in ["environments", "deployments", "configurations", "secrets", "health", "scaling", "drift"] {
        for right in ["read", "write"] {
            assert!(scopes().contains(&format!("runtime.{area}.{right}")), "{area}.{right}");
        }
    }
}

/// The page that people read has every route, and no other.
#[test]
fn the_readme_has_the_routes() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    for route in &ROUTES {
        let line = format!("{} {}", route.method, route.path);
        assert!(readme.contains(&line), "the README lacks `{line}` (below {BASE})");
    }
}

#[test]
fn a_request_becomes_a_commands_body() {
    let bind = route(name::ENVIRONMENT_BIND, Shape::Fields);
    let told = asked(bind, &[("environment", "dev"), ("tenant", "acme")], r#"{"maxReplicas": 5}"#).unwrap();
    assert_eq!(told, json!({ "environment": "dev", "tenant": "acme", "maxReplicas": 5 }));
    let twice = asked(bind, &[("environment", "dev"), ("tenant", "acme")], r#"{"tenant": "evil"}"#).unwrap_err();
    assert!(twice.message.contains("tenant is said twice"), "{twice:?}");
    let deploy = route(name::SAGA_START, Shape::Deployment("deploy"));
    let place = [("environment", "dev"), ("service", "web")];
    let told = asked(deploy, &place, r#"{"artifact": "sha256:ab"}"#).unwrap();
    let input = json!({ "environment": "dev", "service": "web", "kind": "deploy", "artifact": "sha256:ab" });
    assert_eq!(told, json!({ "definition": "runtime_deployment", "key": "k1", "input": input }));
    for more in [r#"{"source": "health"}"#, r#"{"approvedBy": "bob"}"#, r#"{"kind": "remediate"}"#, "[]", "{"] {
        assert!(asked(deploy, &place, more).is_err(), "{more}");
    }
    let version = [("environment", "dev"), ("service", "web"), ("version", "3")];
    let show = route(name::CONFIGURATION_SHOW, Shape::Fields);
    assert_eq!(asked(show, &version, "").unwrap()["version"], 3);
    assert!(asked(route(name::ENVIRONMENT_PROVISION, Shape::Apply), &place[..1], "{}").is_err());
    let applies = asked(route(name::ENVIRONMENT_PROVISION, Shape::Plan), &place[..1], r#"{"preview": "x"}"#);
    assert!(applies.is_err(), "a plan applies nothing");
}

#[test]
fn no_value_is_shown() {
    let put = route(name::SECRET_PUT, Shape::Keyed);
    let told = asked(put, &[("environment", "dev"), ("secret", "db")], r#"{"value": "hunter2"}"#).unwrap();
    assert_eq!((told["value"].as_str(), told["id"].as_str()), (Some("hunter2"), Some("k1")));
    let broken = asked(put, &[], r#"{"value": hunter2"#).unwrap_err();
    assert!(!format!("{broken:?}").contains("hunter2"));
}

#[test]
fn a_file_of_tokens_is_checked() {
    let good = format!(
        "[[token]]\nsha256 = \"{}\"\ntenant = \"acme\"\nprincipal = \"ann\"\nscopes = [\"runtime.drift.read\"]\n",
        "ab".repeat(32)
    );
    assert_eq!(Holders::read(&good).unwrap().token.len(), 1);
    for bad in [good.replace("abab", "xyxy"), good.replace("drift.read", "drift.all"), good.replace("tenant", "who")] {
        assert!(Holders::read(&bad).is_err(), "{bad}");
    }
}
