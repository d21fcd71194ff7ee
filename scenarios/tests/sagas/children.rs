//! A saga that runs another saga as one of its steps.

use protocol::command::{Cancel, Deploy, Signal, Start};
use protocol::view::Status;
use scenarios::stage::{Stage, saga_key, start};
use serde_json::{Value, json};

use super::{STAGE, trouble};

fn child(three: Value) -> Value {
    json!({ "child": { "one": { "step": "One" }, "two": { "step": "Two" }, "three": three } })
}

/// The key of the child that `parent` waits for.
async fn child_of(stage: &Stage, parent: &str) -> String {
    let view = stage.until(parent, "its child", |view| view.waiting.iter().any(|it| it.kind == "child")).await;
    let what = &view.waiting[0].what;
    what.split_whitespace().nth(3).unwrap_or_else(|| panic!("{what:?} names no child")).to_owned()
}

#[test]
fn a_child_that_ends_well_gives_its_output_to_the_parent() {
    STAGE.play(async |stage| {
        stage.begin("parent", "mother", child(json!({ "step": "Three", "ms": 300 }))).await;
        let child = child_of(&stage, "mother").await;
        let view = stage.end("mother").await;
        assert_eq!(view.status, Status::Succeeded, "{view:#?}");
        assert_eq!(view.outcome.unwrap().output.unwrap()["step"], "Three");
        let described = stage.end(&child).await;
        assert_eq!((described.status, described.trace_id), (Status::Succeeded, view.trace_id), "one trace");
        assert_eq!(described.started_by, "ann", "a child acts for whoever started its parent");
        assert_eq!(stage.told(&child), ["run One", "run Two", "run Three"]);
        assert_eq!(stage.told("mother"), ["run Before"]);
    });
}

#[test]
fn a_child_that_fails_undoes_itself_and_then_its_parent() {
    STAGE.play(async |stage| {
        stage.begin("parent", "sad", child(json!({ "step": "Three", "ms": 300, "fail": "Sold" }))).await;
        let child = child_of(&stage, "sad").await;
        let view = stage.end("sad").await;
        assert_eq!((view.status, trouble(&view).as_str()), (Status::Failed, "Sold: the story asked for it"));
        assert_eq!(stage.told(&child), ["run One", "run Two", "undo Three", "undo Two", "undo One"]);
        assert_eq!(stage.told("sad"), ["run Before", "undo Before"]);
    });
}

#[test]
fn cancelling_a_parent_cancels_its_child() {
    STAGE.play(async |stage| {
        stage.begin("parent", "gone", child(json!({ "step": "Three", "ms": 60_000 }))).await;
        let child = child_of(&stage, "gone").await;
        stage.until(&child, "its third step", |view| view.state == "Three").await;
        stage.client.cancel(&Cancel { key: saga_key("gone"), reason: String::new() }).await.unwrap();
        assert_eq!(stage.end("gone").await.status, Status::Cancelled);
        assert_eq!(stage.end(&child).await.status, Status::Cancelled);
        assert_eq!(stage.told(&child), ["run One", "run Two", "undo Three", "undo Two", "undo One"]);
    });
}

const PACK: &str = r#"
name: versioned-pack
definition: { StartAt: Pack, States: { Pack: { Type: Pass, Output: { packedBy: NUMBER }, End: true } } }
"#;
const SHOP: &str = r#"
name: NAME
definition:
  StartAt: Later
  States:
    Later: { Type: Task, Resource: "signal:go", Next: Pack }
    Pack: { Type: Task, Resource: "saga:versioned-packVERSION", End: true }
"#;

#[test]
fn a_parent_runs_the_child_that_was_there_when_it_was_deployed() {
    STAGE.play(async |stage| {
        let deploy =
            async |source: &str| stage.client.deploy(&Deploy { source: source.to_owned(), file: None }).await.unwrap();
        let shop = |name: &str, version: &str| SHOP.replace("NAME", name).replace("VERSION", version);
        let unborn = |warnings: &[Value]| {
            let says =
                |warning: &Value| warning.as_str().is_some_and(|it| it.contains("no definition \"versioned-pack\""));
            warnings.iter().any(says)
        };
        let early = deploy(&shop("early-shop", "")).await;
        assert!(unborn(&early.warnings), "{early:?}");
        deploy(&PACK.replace("NUMBER", "1")).await;
        let first = deploy(&shop("shop", "")).await;
        assert!(first.version == 1 && !unborn(&first.warnings), "{first:?}");
        deploy(&shop("latest-shop", "@latest")).await;
        for name in ["early-shop", "shop", "latest-shop"] {
            stage.begin(name, &format!("{name}-running"), json!({})).await;
        }
        deploy(&PACK.replace("NUMBER", "2")).await;
        stage.begin("shop", "shop-later", json!({})).await;
        // The same source again is another version, because its child is.
        let again = deploy(&shop("shop", "")).await;
        assert_eq!((again.created, again.version), (true, 2));
        assert!(!deploy(&shop("shop", "")).await.created, "and then it is the same");
        let second = Start { version: Some(2), ..start("shop", "shop-again", json!({})) };
        stage.client.start(&second).await.unwrap();
        // A node takes the newest version that it knows for granted for a second.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        for (key, packed_by) in [
            ("early-shop-running", 2),
            ("shop-running", 1),
            ("latest-shop-running", 2),
            ("shop-later", 1),
            ("shop-again", 2),
        ] {
            let signal = Signal { key: saga_key(key), name: "go".into(), payload: Value::Null, id: None };
            stage.client.signal(&signal).await.unwrap();
            let outcome = stage.end(key).await.outcome.unwrap();
            assert_eq!(outcome.output, Some(json!({ "packedBy": packed_by })), "{key}");
        }
    });
}

#[test]
fn a_start_without_a_key_that_comes_twice_starts_once() {
    STAGE.play(async |stage| {
        let tell = async |headers: &[(&str, &str)]| {
            let mut said = async_nats::HeaderMap::new();
            headers.iter().for_each(|(name, value)| said.insert(*name, *value));
            let settings = stage.client.settings();
            let subject = protocol::subjects::command(&settings.tenant, &settings.principal, "saga.start");
            let body = json!({ "definition": "telling", "input": { "title": 1 } }).to_string();
            let answer = stage.client.nats().request_with_headers(subject, said, body.into()).await.unwrap();
            serde_json::from_slice::<Value>(&answer.payload).unwrap()
        };
        let event = [("ce-id", "7"), ("ce-source", "/orders")];
        for headers in [&[("Nats-Msg-Id", "order-7")][..], &event[..]] {
            let (first, again) = (tell(headers).await, tell(headers).await);
            assert_eq!((&first["created"], &again["created"]), (&json!(true), &json!(false)), "{first} {again}");
            assert_eq!(first["saga"], again["saga"]);
        }
        let (one, other) = (tell(&[]).await, tell(&[("ce-id", "7"), ("ce-source", "/returns")]).await);
        assert_eq!((&one["created"], &other["created"]), (&json!(true), &json!(true)), "{one} {other}");
        assert_ne!(one["saga"], tell(&[]).await["saga"]);
    });
}
