use serde_json::json;

use super::*;
use crate::runtime::records::decisions::state::What;
use crate::runtime::store::MemoryStore;

const NOON: Time = Time::from_micros(1_700_000_000_000_000);

/// Production of acme, with a record that changes are about.
struct World {
    store: Arc<MemoryStore>,
    acme: Tenant,
    evil: Tenant,
}

fn who(name: &str) -> Principal {
    Principal::new(name).unwrap()
}

impl World {
    async fn new() -> Self {
        let (acme, evil) = (Tenant::new("acme").unwrap(), Tenant::new("evil").unwrap());
        let world = Self { store: Arc::new(MemoryStore::new()), acme, evil };
        world.write("there", 0).await;
        world
    }

    fn space(&self) -> Space {
        Space::Of(self.acme.clone())
    }

    /// Somebody writes the record.
    async fn write(&self, text: &str, expected: u64) {
        store::write(&*self.store, &self.space(), "policy/prod/web", &text, expected).await.unwrap();
    }

    async fn revision(&self) -> u64 {
        self.store.get(&self.space(), "policy/prod/web").await.unwrap().unwrap().revision
    }

    fn change<'a>(
        &'a self,
        (tenant, by): (&'a Tenant, &'a Principal),
        body: &'a Value,
        request: &'a str,
    ) -> Change<'a> {
        let concern = Concern { of: self.acme.clone(), name: "policy/prod/web".into(), what: What::Write };
        Change {
            owner: &self.acme,
            tenant,
            by,
            what: "scaling.apply",
            environment: "prod",
            body,
            request,
            concerns: vec![concern],
        }
    }

    async fn ask(&self, by: &str, body: &Value, request: &str, now: Time) -> Result<Entry, Failure> {
        enter(&*self.store, self.change((&self.acme, &who(by)), body, request), now).await
    }

    /// The name of the last decision that waits.
    async fn waits(&self) -> String {
        let all = list(&*self.store, &self.acme, NOON).await.unwrap();
        all.iter().rfind(|one| one.approved_by.is_none()).unwrap().decision.clone()
    }

    async fn approve(&self, by: &str) -> Result<Decision, Failure> {
        approve(&*self.store, &self.acme, &self.waits().await, &who(by), NOON).await
    }

    async fn settled(&self, entry: Entry, end: End<'_>) {
        let Entry::Go(pass) = entry else { panic!("it goes: {entry:?}") };
        settle(&*self.store, &pass, end).await.unwrap();
    }
}

fn error(answer: Result<Entry, Failure>) -> String {
    answer.unwrap_err().error
}

fn web() -> Value {
    json!({ "service": "web" })
}

#[tokio::test]
async fn a_change_needs_somebody_else_and_is_made_once() {
    let world = World::new().await;
    for _ in 0..2 {
        assert_eq!(error(world.ask("ann", &web(), "r1", NOON).await), UNDECIDED);
    }
    let waiting = list(&*world.store, &world.acme, NOON).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].what.as_str(), &waiting[0].by), (1, "scaling.apply", &who("ann")));
    assert_eq!(world.approve("ann").await.unwrap_err().error, OWN);
    let unknown = approve(&*world.store, &world.acme, "../x", &who("bob"), NOON).await;
    assert_eq!(unknown.unwrap_err().error, UNKNOWN);
    assert_eq!(world.approve("bob").await.unwrap().approved_by, Some(who("bob")));
    let answer = json!({ "changed": true });
    world.settled(world.ask("ann", &web(), "r1", NOON).await.unwrap(), End::Made(&answer)).await;
    // The same request again, under the same key: the first answer, and nothing is done.
    for _ in 0..2 {
        assert_eq!(world.ask("ann", &web(), "r1", NOON).await.unwrap(), Entry::Done(answer.clone()));
    }
    assert_eq!(error(world.ask("ann", &web(), "r2", NOON).await), UNDECIDED, "another request, another word");
    assert_eq!(error(world.ask("ann", &json!({ "service": "api" }), "r3", NOON).await), UNDECIDED, "another change");
    assert_eq!(error(world.ask("ann", &json!({ "service": "api" }), "r1", NOON).await), KEY_TAKEN);
    assert_eq!(error(world.ask("ann", &web(), "r1", NOON.after(GOOD_FOR)).await), UNDECIDED, "too late");
}

/// The same words, and one letter of a secret is another: another change.
#[tokio::test]
async fn a_word_is_for_exactly_what_was_asked_down_to_the_value_of_a_secret() {
    let world = World::new().await;
    let put = |value: &str| json!({ "secret": "db", "value": value });
    assert_eq!(error(world.ask("ann", &put("hunter2"), "r1", NOON).await), UNDECIDED);
    let kept = format!("{:?}", list(&*world.store, &world.acme, NOON).await.unwrap());
    assert!(!kept.contains("hunter2"), "{kept}");
    world.approve("bob").await.unwrap();
    assert_eq!(error(world.ask("ann", &put("hunter3"), "r1", NOON).await), UNDECIDED);
    assert_eq!(error(world.ask("eve", &put("hunter2"), "r1", NOON).await), UNDECIDED, "of another asker");
    assert!(matches!(world.ask("ann", &put("hunter2"), "r1", NOON).await, Ok(Entry::Go(_))));
}

#[tokio::test]
async fn a_word_is_for_the_state_that_it_was_given_for() {
    let world = World::new().await;
    assert_eq!(error(world.ask("ann", &web(), "r1", NOON).await), UNDECIDED);
    // Before anybody approved it.
    world.write("moved", 1).await;
    assert_eq!(world.approve("bob").await.unwrap_err().error, MOVED);
    // After somebody has.
    assert_eq!(error(world.ask("ann", &web(), "r1", NOON).await), UNDECIDED);
    world.approve("bob").await.unwrap();
    world.write("moved again", world.revision().await).await;
    let refused = world.ask("ann", &web(), "r1", NOON).await.unwrap_err();
    assert_eq!(refused.error, UNDECIDED);
    assert!(refused.cause.contains("has changed since"), "{refused}");
    // In the very moment in which the effect begins.
    world.approve("bob").await.unwrap();
    let Entry::Go(pass) = world.ask("ann", &web(), "r1", NOON).await.unwrap() else { panic!("it goes") };
    world.write("and again", world.revision().await).await;
    let fenced = pass.fence(world.store.clone());
    let name = "policy/prod/web";
    let late = store::change(&*fenced, &world.space(), name, |_: Option<&String>| Some("mine".to_owned())).await;
    assert_eq!(late, Err(store::Error::Moved { name: name.into() }));
}

/// What was made and then changed by somebody else is not made again, nor said to stand.
#[tokio::test]
async fn a_repetition_puts_nothing_back() {
    let world = World::new().await;
    assert_eq!(error(world.ask("ann", &web(), "r1", NOON).await), UNDECIDED);
    world.approve("bob").await.unwrap();
    let Entry::Go(pass) = world.ask("ann", &web(), "r1", NOON).await.unwrap() else { panic!("it goes") };
    let (fenced, name) = (pass.fence(world.store.clone()), "policy/prod/web");
    for text in ["mine", "mine too"] {
        // The change itself may write what it is about more than once.
        let own = store::change(&*fenced, &world.space(), name, |_: Option<&String>| Some(text.to_owned())).await;
        own.unwrap();
    }
    settle(&*world.store, &pass, End::Made(&json!(1))).await.unwrap();
    assert_eq!(world.ask("ann", &web(), "r1", NOON).await.unwrap(), Entry::Done(json!(1)));
    world.store.remove(&world.space(), name, world.revision().await).await.unwrap();
    assert_eq!(error(world.ask("ann", &web(), "r1", NOON).await), MOVED);
    // A deployment goes on after its answer.
    assert_eq!(error(world.ask("ann", &json!("d"), "d1", NOON).await), UNDECIDED);
    world.approve("bob").await.unwrap();
    let Entry::Go(pass) = world.ask("ann", &json!("d"), "d1", NOON).await.unwrap() else { panic!("it goes") };
    settle(&*world.store, &pass.goes_on(), End::Made(&json!(2))).await.unwrap();
    world.write("it goes on", 0).await;
    assert_eq!(world.ask("ann", &json!("d"), "d1", NOON).await.unwrap(), Entry::Done(json!(2)));
}

#[tokio::test]
async fn what_was_begun_is_not_begun_again_unless_it_is_known_that_nothing_came_of_it() {
    let world = World::new().await;
    assert_eq!(error(world.ask("ann", &web(), "r1", NOON).await), UNDECIDED);
    world.approve("bob").await.unwrap();
    let first = world.ask("ann", &web(), "r1", NOON).await.unwrap();
    let busy = world.ask("ann", &web(), "r1", NOON).await.unwrap_err();
    assert!(busy.error == UNDER_WAY && !busy.permanent, "{busy}");
    assert_eq!(error(world.ask("ann", &web(), "r2", NOON).await), UNDECIDED, "it is used");
    // Refused: nothing was done, and the word still counts.
    world.settled(first, End::Refused).await;
    let second = world.ask("ann", &web(), "r2", NOON).await.unwrap();
    // Not now: the same request may try again.
    world.settled(second, End::Open).await;
    // Somebody else asks anew meanwhile.
    assert_eq!(error(world.ask("ann", &web(), "r3", NOON).await), UNDECIDED);
    let third = world.ask("ann", &web(), "r2", NOON).await.unwrap();
    assert!(matches!(third, Entry::Go(_)));
    // Its node died: nobody knows, and nobody does it again.
    let lost = world.ask("ann", &web(), "r2", NOON.after(WITHIN)).await.unwrap_err();
    assert!(lost.error == MOVED && lost.cause.contains("nobody knows how it ended"), "{lost}");
}

/// Of many who use one approval at once, one does.
#[tokio::test]
async fn an_approval_is_used_once() {
    let world = World::new().await;
    assert_eq!(error(world.ask("ann", &web(), "r", NOON).await), UNDECIDED);
    world.approve("bob").await.unwrap();
    let requests: Vec<String> = (0..16).map(|number| format!("r{number}")).collect();
    let body = web();
    let asked = requests.iter().map(|request| world.ask("ann", &body, request, NOON));
    let went = futures::future::join_all(asked).await.into_iter().filter(|answer| matches!(answer, Ok(Entry::Go(_))));
    assert_eq!(went.count(), 1);
}

/// What a guest wants in production, its owner approves: nobody else, and nobody of that name elsewhere.
#[tokio::test]
async fn whoever_approves_is_of_the_tenant_that_owns_the_environment() {
    let world = World::new().await;
    let (guest, body) = (who("bob"), web());
    let ask = || enter(&*world.store, world.change((&world.evil, &guest), &body, "r1"), NOON);
    assert_eq!(error(ask().await), UNDECIDED);
    let waits = world.waits().await;
    let own = approve(&*world.store, &world.evil, &waits, &who("mallory"), NOON).await;
    assert_eq!(own.unwrap_err().error, UNKNOWN, "it is not the guest's to decide");
    assert_eq!(world.approve("bob").await.unwrap().tenant, Some(world.evil.clone()), "acme's bob is somebody else");
    assert!(matches!(ask().await, Ok(Entry::Go(_))));
}

/// A release before this one kept no digest and no state: nothing is let through for its decisions.
#[tokio::test]
async fn an_approval_of_an_earlier_release_is_for_nothing() {
    let world = World::new().await;
    let old = json!({
        "decision": "ab", "what": "scaling.apply", "environment": "prod", "by": "ann", "at": NOON, "approvedBy": "bob",
    });
    store::write(&*world.store, &world.space(), "decision/ab", &old, 0).await.unwrap();
    assert_eq!(list(&*world.store, &world.acme, NOON).await.unwrap().len(), 1);
    assert_eq!(error(world.ask("ann", &web(), "r1", NOON).await), UNDECIDED);
}
