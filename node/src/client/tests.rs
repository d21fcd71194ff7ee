use protocol::view::Status;
use protocol::{Code, Value};

use super::*;

#[test]
fn a_refusal_is_read_as_what_the_node_said() {
    let body = br#"{"error":{"code":"not_found","message":"there is no saga acme/x","mend":"skald list"}}"#;
    let error = read::<Value>("saga.describe", None, body, false).unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound));
    assert_eq!((error.to_string().as_str(), error.mend().as_deref()), ("there is no saga acme/x", Some("skald list")));
}

#[test]
fn an_output_that_has_an_error_field_is_no_refusal() {
    let body = br#"{"status":"failed","state":"Failed","error":"LicenseDenied"}"#;
    let answer: StartAnswer = read("saga.start", None, body, false).unwrap();
    assert!(matches!(answer, StartAnswer::Outcome(outcome) if outcome.status == Status::Failed));
}

#[test]
fn a_refusal_in_headers_alone_is_not_taken_for_an_answer() {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Service-Error", "busy");
    headers.insert("Nats-Service-Error-Code", "429");
    let said = read::<Value>("saga.list", Some(&headers), b"null", false).unwrap_err().to_string();
    assert!(said.contains("429: busy"), "{said}");
}

#[test]
fn a_list_that_is_not_whole_says_so() {
    let body = br#"{"sagas":[],"nodes":3,"answered":2,"missing":["n3: it did not answer within 2s"]}"#;
    let listed = read::<Rows>("saga.list", None, body, false).unwrap().listed();
    assert_eq!(listed.missing, ["2 of 3 nodes answered", "n3: it did not answer within 2s"]);
    let former = read::<Rows>("saga.list", None, br#"{"sagas":[]}"#, false).unwrap().listed();
    assert_eq!(former, Listed::default());
}

#[test]
fn only_refusals_that_pass_are_repeated() {
    let refused = |code| Error::Refused(Problem::new(code, "x").retry_after_ms(40)).passing();
    assert_eq!(refused(Code::Busy), Some(40));
    assert_eq!(refused(Code::Unavailable), Some(40));
    for code in [Code::NotNow, Code::Conflict, Code::Internal, Code::Timeout] {
        assert_eq!(refused(code), None, "{code:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_with_what_to_do() {
    let (tenant, principal) = (Tenant::new("acme").unwrap(), Principal::new("ann").unwrap());
    // Port 9 (discard) is not served on any machine that runs tests.
    let error = Client::connect(Settings::new("nats://127.0.0.1:9", tenant, principal)).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.mend().unwrap().contains("skald up"));
}
