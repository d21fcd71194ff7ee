use std::collections::BTreeMap;

use protocol::Principal;

use super::*;
use crate::runtime::arbiter::{Action, Source, UnderWay};
use crate::runtime::model::{ConfigurationRef, EnvironmentId, RequestKey, Stage};
use crate::runtime::store::MemoryStore;

/// All rules; a new one fails to compile in [`asks_about_a_service`].
const RULES: [Rule; 11] = [
    Rule::Name,
    Rule::List,
    Rule::Decision,
    Rule::Environment,
    Rule::Use,
    Rule::Look,
    Rule::Service,
    Rule::Take,
    Rule::Remove,
    Rule::Evict,
    Rule::Finding,
];

const fn asks_about_a_service(rule: Rule) -> bool {
    match rule {
        Rule::Look | Rule::Service | Rule::Take | Rule::Remove | Rule::Evict | Rule::Finding => true,
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
        match admit(&store, rule, &place, &asks, at(0)).await {
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
Take: free free free; ours no no; no ours no;
Remove: free free free; ours no no; no ours no;
Evict: free free free; ours no no; no ours no;
Finding: free no no; ours no no; no ours no;
";
    assert_eq!(table, expected);
    for rule in RULES.into_iter().filter(|rule| !asks_about_a_service(*rule)) {
        assert!(admit(&MemoryStore::new(), rule, &place("web"), &tenant("acme"), at(0)).await.is_err(), "{rule:?}");
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
    assert_eq!(admit(&store, Rule::Evict, &place, &tenant("acme"), at(0)).await, Ok(Owned::Theirs));
    for rule in [Rule::Service, Rule::Take, Rule::Finding] {
        assert!(admit(&store, rule, &place, &tenant("acme"), at(0)).await.is_err(), "{rule:?}");
    }
    assert!(admit(&store, Rule::Evict, &place, &tenant("other"), at(0)).await.is_err());
}

/// What is written while a service goes would go with it, though it was said to be kept.
#[tokio::test]
async fn nothing_is_written_to_what_is_being_removed() {
    let (store, place, acme) = (MemoryStore::new(), place("web"), tenant("acme"));
    let mut state = crate::runtime::arbiter::ServiceState::new(place.service.clone(), Stage::Dev);
    state.under_way = Some(UnderWay {
        sequence: 1,
        key: RequestKey::new("remove:r").unwrap(),
        source: Source::Operator,
        by: Principal::new("ann").unwrap(),
        since: at(0),
        action: Action::Removing { saga: "acme/r".into() },
        stopping: None,
    });
    let docket = Docket { tenant: acme.clone(), state, acts: 0, due: Vec::new() };
    store::write(&store, &place.space(), &place.docket(), &docket, 0).await.unwrap();
    for rule in [Rule::Service, Rule::Take] {
        let refused = admit(&store, rule, &place, &acme, at(1)).await.unwrap_err();
        assert!(refused.error == GOES && refused.cause.contains("skald wait r"), "{rule:?}: {refused}");
    }
    for rule in [Rule::Look, Rule::Remove] {
        assert_eq!(admit(&store, rule, &place, &acme, at(1)).await, Ok(Owned::Ours), "{rule:?}");
    }
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
        let title = Title::of(&tenant("guest"));
        store::write(&store, &place.space(), &place.title(), &title, 0).await.unwrap();
    }
    let refused = take(&store, &place("web"), &tenant("guest")).await.unwrap_err();
    assert_eq!(refused.error, NAMES, "{refused}");
    assert!(take(&store, &place("s1"), &tenant("guest")).await.is_ok(), "what it has it keeps");
    give_back(&store, &place("s1"), &tenant("guest"), at(0)).await.unwrap();
    assert!(take(&store, &place("web"), &tenant("guest")).await.is_ok(), "what it gave back does not count");
    give_back(&store, &place("web"), &tenant("guest"), at(0)).await.unwrap();
    assert!(take(&store, &place("web"), &tenant("acme")).await.is_ok());
}

/// Whatever is asked about a name that nobody has, it must be one; what is there already goes on.
#[tokio::test]
async fn a_name_that_cannot_be_one_is_refused_by_every_rule() {
    let (store, shouted) = (MemoryStore::new(), place("MSVC"));
    for rule in RULES.into_iter().filter(|rule| asks_about_a_service(*rule)) {
        let refused = admit(&store, rule, &shouted, &tenant("acme"), at(0)).await.unwrap_err();
        assert_eq!(refused.error, "BadArguments", "{rule:?}: {refused}");
    }
    assert!(hold(&store, &shouted, &tenant("acme"), at(0)).await.is_err());
    assert_eq!(store.writes(), 0);
    // An earlier release let it come.
    let title = Title::of(&tenant("acme"));
    store::write(&store, &shouted.space(), &shouted.title(), &title, 0).await.unwrap();
    assert_eq!(admit(&store, Rule::Service, &shouted, &tenant("acme"), at(0)).await, Ok(Owned::Ours));
}

fn at(seconds: i64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

fn entries() -> BTreeMap<String, String> {
    BTreeMap::from([("COLOUR".to_owned(), "blue".to_owned())])
}

/// A secret of the environment, bound to `services`.
async fn secret(store: &MemoryStore, place: &Place, services: &[&str]) {
    let binding: SecretBinding = serde_json::from_value(serde_json::json!({
        "secretBindingId": "db", "environmentId": "prod", "reference": "prod/db", "version": 1, "rotatedAt": at(0),
        "bound": services,
    }))
    .unwrap();
    let name = place.secret(&binding.secret_binding_id);
    store::change(store, &place.space(), &name, |_: Option<&SecretBinding>| Some(binding.clone())).await.unwrap();
}

/// What was refused leaves nothing behind: the name is free, and does not count.
#[tokio::test]
async fn a_name_under_which_nothing_stands_is_given_back() {
    let (store, place, guest) = (MemoryStore::new(), place("web"), tenant("guest"));
    let held = hold(&store, &place, &guest, at(0)).await.unwrap();
    assert_eq!(whose(&store, &place, &guest).await, Ok(Owned::Ours));
    held.end(&store, at(1)).await;
    assert_eq!(whose(&store, &place, &guest).await, Ok(Owned::Free));

    // The last of several things that goes gives it back, and no earlier one.
    let acme = tenant("acme");
    let held = hold(&store, &place, &acme, at(2)).await.unwrap();
    secret(&store, &place, &["web"]).await;
    held.end(&store, at(2)).await;
    give_back(&store, &place, &acme, at(3)).await.unwrap();
    assert_eq!(whose(&store, &place, &acme).await, Ok(Owned::Ours), "a secret is bound to it");
    secret(&store, &place, &[]).await;
    give_back(&store, &place, &guest, at(4)).await.unwrap();
    assert_eq!(whose(&store, &place, &acme).await, Ok(Owned::Ours), "another tenant gives nothing back");
    give_back(&store, &place, &acme, at(4)).await.unwrap();
    assert_eq!(whose(&store, &place, &guest).await, Ok(Owned::Free));
}

/// Everything that refers to a name keeps it.
#[tokio::test]
async fn a_name_is_kept_by_whatever_stands_under_it() {
    let (web, guest) = (place("web"), tenant("guest"));
    let state = crate::runtime::arbiter::ServiceState::new(web.service.clone(), crate::runtime::model::Stage::Dev);
    let docket = Docket { tenant: guest.clone(), state, acts: 0, due: Vec::new() };
    let deployment = web.deployment(&crate::runtime::model::DeploymentId::new("d1").unwrap());
    let docket = serde_json::to_value(docket).unwrap();
    let any = serde_json::json!({});
    let all = [(web.docket(), &docket), (web.policy(), &any), (web.incident(), &any), (deployment, &any)];
    for (name, value) in all {
        let store = MemoryStore::new();
        take(&store, &web, &guest).await.unwrap();
        store::write(&store, &web.space(), &name, value, 0).await.unwrap();
        give_back(&store, &web, &guest, at(0)).await.unwrap();
        assert!(store.get(&web.space(), &web.title()).await.unwrap().is_some(), "{name} stands");
        store.remove(&web.space(), &name, 2).await.unwrap();
        give_back(&store, &web, &guest, at(0)).await.unwrap();
        assert!(store.get(&web.space(), &web.title()).await.unwrap().is_none(), "{name} is gone");
    }

    // A decision that waits refers to it too, until it is too old to be used.
    let store = MemoryStore::new();
    take(&store, &web, &guest).await.unwrap();
    let body = serde_json::json!({ "environment": "prod", "service": "web" });
    let (owner, by) = (tenant("acme"), protocol::Principal::new("eve").unwrap());
    let concerns = decisions::state::concerns(&store, (name::CONFIGURATION_PUBLISH, &body), (&guest, &owner)).await;
    let change = decisions::Change {
        owner: &owner,
        tenant: &guest,
        by: &by,
        what: name::CONFIGURATION_PUBLISH,
        environment: "prod",
        body: &body,
        request: "one",
        concerns: concerns.unwrap(),
    };
    assert_eq!(decisions::enter(&store, change, at(0)).await.unwrap_err().error, decisions::UNDECIDED);
    give_back(&store, &web, &guest, at(1)).await.unwrap();
    assert_eq!(whose(&store, &web, &guest).await, Ok(Owned::Ours));
    let later = Time::from_micros(at(1).as_micros() + i64::try_from(decisions::GOOD_FOR.as_micros()).unwrap());
    give_back(&store, &web, &guest, later).await.unwrap();
    assert_eq!(whose(&store, &web, &guest).await, Ok(Owned::Free));
}

/// Nobody is locked out for good by a name whose owner's node died before anything stood under it.
#[tokio::test]
async fn a_name_of_who_died_while_writing_is_free_for_the_next_who_asks() {
    let (store, place, acme) = (MemoryStore::new(), place("web"), tenant("acme"));
    drop(hold(&store, &place, &tenant("guest"), at(0)).await.unwrap());
    let ends = Time::from_micros(at(0).as_micros() + i64::try_from(HELD_FOR.as_micros()).unwrap());
    let before = Time::from_micros(ends.as_micros() - 1);
    assert_eq!(admit(&store, Rule::Take, &place, &acme, before).await.unwrap_err().error, NAME_TAKEN);
    assert_eq!(admit(&store, Rule::Take, &place, &acme, ends).await, Ok(Owned::Free));
    // With something under it, it stays whose it is.
    drop(hold(&store, &place, &tenant("guest"), at(0)).await.unwrap());
    configurations::publish(&store, &place, &entries()).await.unwrap();
    assert_eq!(admit(&store, Rule::Take, &place, &acme, ends).await.unwrap_err().error, NAME_TAKEN);
}

/// Whoever writes just now is not given back from under; who died while writing is, at last.
#[tokio::test]
async fn a_name_that_is_held_is_not_given_back() {
    let (store, place, guest) = (MemoryStore::new(), place("web"), tenant("guest"));
    let writes = hold(&store, &place, &guest, at(0)).await.unwrap();
    hold(&store, &place, &guest, at(0)).await.unwrap().end(&store, at(1)).await;
    give_back(&store, &place, &guest, at(1)).await.unwrap();
    assert_eq!(whose(&store, &place, &guest).await, Ok(Owned::Ours));
    configurations::publish(&store, &place, &entries()).await.unwrap();
    writes.end(&store, at(2)).await;
    assert_eq!(whose(&store, &place, &guest).await, Ok(Owned::Ours), "a configuration stands");

    let died = self::place("api");
    let mut held = Vec::new();
    for _ in 0..HOLDS_MAX {
        held.push(hold(&store, &died, &guest, at(0)).await.unwrap());
    }
    assert!(!hold(&store, &died, &guest, at(1)).await.unwrap_err().permanent, "it is asked again");
    let later = Time::from_micros(i64::try_from(HELD_FOR.as_micros()).unwrap());
    hold(&store, &died, &guest, later).await.unwrap().end(&store, later).await;
    assert_eq!(whose(&store, &died, &guest).await, Ok(Owned::Free));
}

/// A store on several nodes: what is asked at once comes in any order.
struct Slow(MemoryStore, std::sync::Mutex<u64>);

impl Slow {
    /// Somebody else may get on first.
    async fn pause(&self) {
        let often = {
            let mut random = self.1.lock().unwrap();
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (*random >> 33) % 4
        };
        for _ in 0..often {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait::async_trait]
impl RuntimeStore for Slow {
    async fn get(&self, space: &Space, name: &str) -> Result<Option<store::Stored>, Error> {
        self.pause().await;
        self.0.get(space, name).await
    }

    async fn put(&self, space: &Space, name: &str, bytes: bytes::Bytes, expected: u64) -> Result<u64, Error> {
        self.pause().await;
        self.0.put(space, name, bytes, expected).await
    }

    async fn remove(&self, space: &Space, name: &str, expected: u64) -> Result<(), Error> {
        self.pause().await;
        self.0.remove(space, name, expected).await
    }

    async fn list(&self, space: &Space, prefix: &str) -> Result<Vec<(String, store::Stored)>, Error> {
        self.pause().await;
        self.0.list(space, prefix).await
    }
}

/// While one node gives the name back and its owner binds it again on a second one, another tenant takes
/// it on a third. Whoever was let through has the name of what it wrote.
#[tokio::test]
async fn what_stands_under_a_name_is_always_its_owners() {
    let (guest, acme) = (tenant("guest"), tenant("acme"));
    let mut had = BTreeMap::new();
    for seed in 0..2_000 {
        let (store, place) = (&Slow(MemoryStore::new(), std::sync::Mutex::new(seed)), &place("web"));
        take(store, place, &guest).await.unwrap();
        let bind = async |tenant: &Tenant, after: u64| {
            for _ in 0..after {
                tokio::task::yield_now().await;
            }
            let held = hold(store, place, tenant, at(0)).await?;
            let published = configurations::publish(store, place, &entries()).await;
            held.end(store, at(0)).await;
            published
        };
        // Each comes at each moment of the others.
        let (again, other) = (bind(&guest, seed % 40), bind(&acme, seed / 40));
        let (gave, again, other) = tokio::join!(give_back(store, place, &guest, at(0)), again, other);
        assert_eq!(gave, Ok(()), "seed {seed}");
        let expected = match (&again, &other) {
            (Ok(_), Err(refused)) if refused.error == NAME_TAKEN => "guest",
            (Err(refused), Ok(_)) if refused.error == NAME_TAKEN => "acme",
            both => panic!("seed {seed}: {both:?}"),
        };
        let title = store::read::<Title>(store, &place.space(), &place.title()).await.unwrap();
        let title = title.unwrap_or_else(|| panic!("seed {seed}: a configuration stands under nobody's name")).value;
        assert_eq!((title.tenant.as_str(), title.held.len()), (expected, 0), "seed {seed}");
        *had.entry(expected).or_insert(0) += 1;
    }
    assert_eq!(had.len(), 2, "each of them was first now and then: {had:?}");
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
