//! Commands that cannot be understood, or can in another way.

use protocol::Code;
use protocol::codec::{BODY_MAX_BYTES, Format};
use scenarios::stage::start;
use serde_json::{Value, json};

use super::{STAGE, dead, fine, refused, says, send};

const START: &str = "skald.cmd.acme.ann.saga.start";
const SHOW: &str = "skald.cmd.acme.ann.saga.describe";

#[test]
fn an_unknown_command_is_refused_with_those_that_exist() {
    STAGE.play(async |stage| {
        let problem = refused(&stage, "skald.cmd.acme.ann.saga.strat", &[], "{}").await;
        says(&problem, Code::UnknownCommand, "there is no command \"saga.strat\"", Some("saga.start"));
        let problem = refused(&stage, "skald.cmd.acme.ann.internal.parcel", &[], "{}").await;
        says(&problem, Code::Forbidden, "inside the cluster only", None);
        let problem = refused(&stage, "skald.cmd.ac$me.ann.saga.start", &[], "{}").await;
        says(&problem, Code::BadRequest, "is not the subject of a command", Some("letters, digits"));
    });
}

#[test]
fn a_body_that_is_wrong_is_refused_with_the_place() {
    STAGE.play(async |stage| {
        let cases = [
            (r#"{"definition": "three", "key": "#, "EOF while parsing"),
            ("not json at all", "expected"),
            (r#"{"definition": 7}"#, "invalid type: integer `7`, expected a string"),
            (r#"{"definition": "three", "kye": "x"}"#, "unknown field `kye`, expected one of `definition`"),
            (r#"{"key": "x"}"#, "missing field `definition`"),
            (r#"{"definition": "three", "key": "a b"}"#, "' ' is not allowed"),
            (r#"{"definition": "three", "key": ""}"#, "it is empty"),
            ("", "missing field"),
            (r#"{"definition": "three"} {}"#, "trailing characters"),
        ];
        for (body, words) in cases {
            let problem = refused(&stage, START, &[], body).await;
            says(&problem, Code::BadRequest, words, None);
        }
        let problem = refused(&stage, START, &[], vec![0xff, 0xfe, 0x00]).await;
        says(&problem, Code::BadRequest, "the body cannot be read", None);
    });
}

#[test]
fn a_body_may_be_messagepack_and_is_answered_in_it() {
    STAGE.play(async |stage| {
        let command = start("telling", "packed", json!({ "title": "é" }));
        let headers = [("Content-Type", "application/msgpack")];
        let answer = send(&stage, START, &headers, Format::MessagePack.write(&command)).await;
        assert_eq!(answer.headers.as_ref().unwrap().get("Content-Type").unwrap().as_str(), "application/msgpack");
        let started: Value = Format::MessagePack.read(&answer.payload).unwrap();
        assert_eq!((&started["saga"], &started["created"]), (&json!("acme/packed"), &json!(true)));
        stage.end("packed").await;
        let wrong = send(&stage, SHOW, &headers, Format::MessagePack.write(&json!({ "key": 7 }))).await;
        let refused: Value = Format::MessagePack.read(&wrong.payload).unwrap();
        assert_eq!(refused["error"]["code"], "bad_request", "a refusal comes in the same format");
        // The other spelling of a media type, with a parameter.
        let json = [("Content-Type", "application/json; charset=utf-8")];
        fine(&send(&stage, SHOW, &json, r#"{"key": "packed"}"#).await);
    });
}

#[test]
fn another_content_type_is_refused_with_those_that_are_understood() {
    STAGE.play(async |stage| {
        let problem = refused(&stage, START, &[("Content-Type", "text/xml")], "<start/>").await;
        says(&problem, Code::BadRequest, "Content-Type \"text/xml\"", Some("application/json"));
    });
}

#[test]
fn too_large_is_said_at_every_size() {
    STAGE.play(async |stage| {
        let body = |bytes: usize| format!(r#"{{"definition": "three", "input": "{}"}}"#, "x".repeat(bytes));
        let problem = refused(&stage, START, &[], body(BODY_MAX_BYTES)).await;
        says(&problem, Code::TooLarge, &format!("the limit is {BODY_MAX_BYTES}"), Some("object storage"));
        // Larger than the server carries: the client says so before it is sent, and stays connected.
        let huge = stage.client.start(&start("three", "huge", json!("x".repeat(10 << 20)))).await.unwrap_err();
        assert_eq!(huge.code(), Some(Code::TooLarge), "{huge}");
        assert!(huge.mend().unwrap().contains("object storage"));
        // Within the body's limit and too large for a value of a saga.
        let value = start("three", "large", json!("x".repeat(BODY_MAX_BYTES - 1_000)));
        let large = stage.client.start(&value).await.unwrap_err();
        assert_eq!(large.code(), Some(Code::TooLarge), "{large}");
        let gone = refused(&stage, SHOW, &[], r#"{"key": "large"}"#).await;
        says(&gone, Code::NotFound, "there is no saga acme/large", Some("skald list"));
    });
}

#[test]
fn a_body_that_nests_too_deep_is_refused_before_it_costs_anything() {
    STAGE.play(async |stage| {
        for depth in [100, 100_000] {
            let body = format!(r#"{{"definition": "three", "input": {}{}}}"#, "[".repeat(depth), "]".repeat(depth));
            let problem = refused(&stage, START, &[], body).await;
            says(&problem, Code::BadRequest, "nests deeper than 64 levels", None);
        }
    });
}

#[test]
fn a_command_that_nobody_waits_for_is_kept_whole_when_it_cannot_be_understood() {
    STAGE.play(async |stage| {
        let body = r#"{"definition": "three", "mark": "the whole message"}"#;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("X-Sender", "shop-7");
        stage.client.nats().publish_with_headers(START, headers, body.into()).await.unwrap();
        let letter = dead(&stage, "skald.dead.acme.not-understood", "the whole message").await;
        let text = String::from_utf8(letter.payload.to_vec()).unwrap();
        assert_eq!(text, format!("{START}\r\nX-Sender: shop-7\r\n\r\n{body}"));
        let why = letter.headers.get("Skald-Why").unwrap().to_string();
        assert!(why.contains("unknown field `mark`"), "{why}");
        // What is merely impossible is kept as well, and so is what is too large.
        stage.client.nats().publish(SHOW, r#"{"key": "never-was"}"#.into()).await.unwrap();
        dead(&stage, "skald.dead.acme.not-possible", "never-was").await;
        let large = format!(r#"{{"large": "{}"}}"#, "y".repeat(BODY_MAX_BYTES));
        stage.client.nats().publish(START, large.into()).await.unwrap();
        let letter = dead(&stage, "skald.dead.acme.not-understood", "yyyyyyyy").await;
        assert!(letter.payload.len() > BODY_MAX_BYTES);
        // And one that can be understood is carried out.
        let good = serde_json::to_vec(&start("telling", "fired", json!({ "title": "forgotten" }))).unwrap();
        stage.client.nats().publish(START, good.into()).await.unwrap();
        let there = || async { stage.client.describe(&scenarios::stage::saga_key("fired")).await.is_ok() };
        scenarios::cluster::until(scenarios::stage::PATIENCE, "it was started", there).await;
        stage.end("fired").await;
    });
}
