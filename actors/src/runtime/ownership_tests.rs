use std::collections::BTreeMap;

use super::*;
use crate::runtime::model::{ConfigurationRef, EnvironmentId};
use crate::runtime::store::MemoryStore;

/// All rules; a new one fails to compile in [`asks_about_a_service`].
const RULES: [Rule; 10] = [
    Rule::Name,
    Rule::List,
    Rule::Decision,
    Rule::Environment,
    Rule::Use,
    Rule::Look,
    Rule::Service,
    Rule::Take,
    Rule::Evict,
    Rule::Finding,
];

const fn asks_about_a_service(rule: Rule) -> bool {
    match rule {
        Rule::Look | Rule::Service | Rule::Take | Rule::Evict | Rule::Finding => true,
        Rule::Name | Rule::List | Rule::Decision | Rule::Environment | Rule::Use => false,
    }
}

/// Nouns of commands that touch no environment.
const ELSEWHERE: [&str; 6] = ["saga", "task", "activity", "definition", "event", "worker"];

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

fn place(service: &str) -> Place {
    let (environment, service) = (EnvironmentId::new("prod").unwrap(), ServiceId::new(service).unwrap());
    Place { owner: tenant("acme"), environment, service }
}

/// A command without a rule is a command that asks nobody.
#[test]
fn every_command_has_a_rule_or_touches_no_environment() {
    for command in name::ALL {
        let noun = command.split('.').next().unwrap();
        assert_eq!(rule(command).is_none(), ELSEWHERE.contains(&noun), "{command}: say in `rule` what it touches");
    }
}

/// The whole table: what each rule says to whoever has the name, to whoever owns the environment and to
/// another guest, where the name is nobody's, the host's or a guest's.
#[tokio::test]
async fn the_table_of_rules() {
    let said = async |rule: Rule, named: Option<&str>, asks: &str| {
        let store = MemoryStore::new();
        let (place, asks) = (place("web"), tenant(asks));
        if let Some(named) = named {
            take(&store, &place, &tenant(named)).await.unwrap();
        }
        // The guest may use the environment, where it is not said otherwise.
        let bound = bound("guest");
        store::write(&store, &Space::Of(tenant("guest")), &place::binding(&place.environment), &bound, 0)
            .await
            .unwrap();
        match admit(&store, rule, &place, &asks).await {
            Ok(owned) => format!("{owned:?}").to_lowercase(),
            Err(refused) => {
                assert_eq!(refused.error, NAME_TAKEN, "{refused}");
                "no".to_owned()
            }
        }
    };
    let mut table = String::new();
    for rule in RULES.into_iter().filter(|rule| asks_about_a_service(*rule)) {
        table.push_str(&format!("{rule:?}:"));
        for named in [None, Some("acme"), Some("guest")] {
            for asks in ["acme", "guest", "other"] {
                table.push_str(&format!(" {}", said(rule, named, asks).await));
            }
            table.push(';');
        }
        table.push('\n');
    }
    // Nobody's; acme's, whose environment it is; a guest's. Each as acme, the guest and another hear it.
    let expected = "\
Look: free free free; ours no no; theirs ours no;
Service: free free free; ours no no; no ours no;
Take: ours ours ours; ours no no; no ours no;
Evict: free free free; ours no no; no ours no;
Finding: free no no; ours no no; no ours no;
";
    assert_eq!(table, expected);
    for rule in RULES.into_iter().filter(|rule| !asks_about_a_service(*rule)) {
        assert!(admit(&MemoryStore::new(), rule, &place("web"), &tenant("acme")).await.is_err(), "{rule:?}");
    }
}

fn bound(guest: &str) -> Bound {
    let binding = crate::runtime::model::TenantBinding {
        environment_id: EnvironmentId::new("prod").unwrap(),
        tenant_id: tenant(guest),
        isolation_model: crate::runtime::model::Isolation::Silo,
        max_replicas: 3,
    };
    Bound { owner: tenant("acme"), binding }
}

/// Who is not bound any more keeps the name, and the environment's owner may end what runs.
#[tokio::test]
async fn the_owner_of_an_environment_ends_what_a_guest_left_there() {
    let (store, place) = (MemoryStore::new(), place("web"));
    take(&store, &place, &tenant("guest")).await.unwrap();
    assert_eq!(admit(&store, Rule::Evict, &place, &tenant("acme")).await, Ok(Owned::Theirs));
    for rule in [Rule::Service, Rule::Take, Rule::Finding] {
        assert!(admit(&store, rule, &place, &tenant("acme")).await.is_err(), "{rule:?}");
    }
    assert!(admit(&store, Rule::Evict, &place, &tenant("other")).await.is_err());
}

/// Of many who take a name at once, one has it.
#[tokio::test]
async fn a_name_is_taken_once() {
    let store = MemoryStore::new();
    let tenants: Vec<Tenant> = (0..16).map(|number| tenant(&format!("t{number}"))).collect();
    let (store, place) = (&store, &place("web"));
    let taken = tenants.iter().map(|tenant| take(store, place, tenant));
    let taken: Vec<bool> = futures::future::join_all(taken).await.iter().map(Result::is_ok).collect();
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
    let first = &tenants[taken.iter().position(|taken| *taken).unwrap()];
    assert_eq!(owner(store, place).await.unwrap().as_ref(), Some(first));
    assert!(take(store, place, first).await.is_ok(), "again is nothing");
}

/// What an earlier release kept names its tenant; where it does not, it is the environment's owner's.
#[tokio::test]
async fn what_is_kept_already_has_an_owner() {
    let store = MemoryStore::new();
    let web = place("web");
    let entries = BTreeMap::from([("COLOUR".to_owned(), "blue".to_owned())]);
    let at: ConfigurationRef = configurations::publish(&store, &web, &entries).await.unwrap().at;
    assert_eq!((owner(&store, &web).await.unwrap(), at.version), (Some(tenant("acme")), 1));
    assert!(take(&store, &web, &tenant("guest")).await.is_err());

    let api = place("api");
    let state = crate::runtime::arbiter::ServiceState::new(api.service.clone(), crate::runtime::model::Stage::Dev);
    let docket = Docket { tenant: tenant("guest"), state, acts: 0, due: Vec::new() };
    store::write(&store, &api.space(), &api.docket(), &docket, 0).await.unwrap();
    assert_eq!(whose(&store, &api, &tenant("guest")).await, Ok(Owned::Ours));
    assert_eq!(whose(&store, &api, &tenant("acme")).await, Ok(Owned::Theirs));
}

#[tokio::test]
async fn a_guest_does_not_take_all_names() {
    let store = MemoryStore::new();
    for number in 0..NAMES_MAX {
        let place = place(&format!("s{number}"));
        let title = Title { tenant: tenant("guest") };
        store::write(&store, &place.space(), &place.title(), &title, 0).await.unwrap();
    }
    let refused = take(&store, &place("web"), &tenant("guest")).await.unwrap_err();
    assert_eq!(refused.error, NAMES, "{refused}");
    assert!(take(&store, &place("s1"), &tenant("guest")).await.is_ok(), "what it has it keeps");
    assert!(take(&store, &place("web"), &tenant("acme")).await.is_ok());
}

/// A refusal names no tenant but the one who may help.
#[tokio::test]
async fn a_refusal_says_what_to_do_and_not_who_has_it() {
    let store = MemoryStore::new();
    take(&store, &place("web"), &tenant("secretive")).await.unwrap();
    for (asks, mend) in [("guest", "ask acme"), ("acme", "skald services drain")] {
        let refused = take(&store, &place("web"), &tenant(asks)).await.unwrap_err();
        assert!(refused.cause.contains(mend) && !refused.cause.contains("secretive"), "{refused}");
    }
}
