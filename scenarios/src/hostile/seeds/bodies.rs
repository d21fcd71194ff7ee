//! Bodies: JSON and MessagePack.

use protocol::codec::{self, Format};
use protocol::{Value, subjects};
use serde_json::json;

use super::bytes;

/// JSON that is right, and JSON that is not.
pub fn json() -> Vec<Vec<u8>> {
    let mut all = bytes(&[
        r#"{"a": [1, -2, 3.5, null, true, "é"], "b": {"c": {}}}"#,
        r#"{"a": 1, "a": 2, "a": {"a": 3}}"#,
        "[1e308, -1e308, 1e-400, 5e-324, 18446744073709551615, -9223372036854775808, 123456789012345678901234567890]",
        "[123452368190745678901234567890]",
        "1e999",
        "-",
        "0123",
        "NaN",
        "Infinity",
        r#""\ud800""#,
        r#""\ud83d\ude00\u0000""#,
        r#"{"": {"": {"": null}}}"#,
        "\u{feff}{}",
        " \t\r\n",
        "{}{}",
        r#"{"$serde_json::private::Number": "1"}"#,
        r#"{"$serde_json::private::RawValue": "1"}"#,
    ]);
    all.extend([b"\xff\xfe\x00\x00".to_vec(), b"\"\xed\xa0\x80\"".to_vec(), b"[\"\\\"[[[[\"".to_vec()]);
    for depth in [63, 64, 65, 127, 129, 100_000] {
        all.push([vec![b'['; depth], vec![b']'; depth]].concat());
        all.push([br#"{"a":"#.repeat(depth), b"1".to_vec(), vec![b'}'; depth]].concat());
    }
    all.push(vec![b'1'; 100_000]);
    all.push([b"[".to_vec(), b"0,".repeat(codec::BODY_MAX_BYTES / 2 - 2), b"0]".to_vec()].concat());
    all.push(vec![b' '; codec::BODY_MAX_BYTES + 1]);
    all
}

/// MessagePack that is right, and lengths that promise what does not come.
pub fn message_pack() -> Vec<Vec<u8>> {
    let value = json!({ "a": [1, -2, 3.5, null, true, "é", u64::MAX, i64::MIN], "b": { "c": {} } });
    let mut all = vec![Format::MessagePack.write(&value)];
    all.extend(bytes::<&[u8]>(&[
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff\xa1a",
        b"\xdb\x7f\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xd4\x01\x02",
        b"\xc1",
        b"\xca\x7f\xc0\x00\x00",
        b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
        b"\x81\x01\x02",
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x81\xc4\x01a\x01",
        b"\xa2\xff\xfe",
        b"\x80\x80",
    ]));
    all.extend([vec![0x91; 100_000], vec![0x81; 100_000], [vec![0x91; 64], vec![0xc0]].concat()]);
    all.push([b"\xdc\xff\xff".to_vec(), vec![0xc0; 0xffff]].concat());
    all
}

/// Stored bytes of every kind, and of none.
pub fn stored() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = message_pack().into_iter().map(|body| [vec![1], body].concat()).collect();
    all.push(codec::store(&supervisor::tree::recovery::Mark { low_water: 7, relayed: 3, ..Default::default() }));
    let routed = json!({
        "tenant": "acme", "principal": "ann", "command": "saga.start", "received_at": 0, "trace": null, "id": "c",
        "hops": 0, "content_type": "application/json", "body": [1, 2, 3],
    });
    all.push(codec::store(&routed));
    all.push(codec::store_packed(&routed));
    all.extend([vec![0], vec![2, 0x80], vec![2, 0xff, 0xff, 0xff, 0xff, 0], vec![9; 9]]);
    all
}

/// The first byte picks the body, as `command` reads it.
pub fn commands() -> Vec<Vec<u8>> {
    let outcome = json!({ "status": "succeeded", "state": "End", "output": 1 });
    let bodies: [(u8, Value); 23] = [
        (0, json!({ "definition": "order", "key": "order-7", "input": { "a": 1 }, "version": 3, "waitMs": 1000 })),
        (0, json!({ "definition": "order", "key": "../../etc", "input": null })),
        (0, json!({ "definition": "order", "version": -1, "waitMs": 1e300 })),
        (1, json!({ "key": "order-7", "name": "go", "payload": [1], "id": "s1" })),
        (2, json!({ "key": "order-7", "reason": "because" })),
        (3, json!({ "key": "order-7", "unknown": 1 })),
        (4, json!({ "key": "order-7", "waitMs": u64::MAX })),
        (5, json!({ "status": "running", "definition": "order", "limit": u64::MAX })),
        (6, json!({ "key": "order-7", "decision": "skip", "reason": "must be" })),
        (7, json!({ "key": "order-7", "step": u64::MAX, "output": {} })),
        (8, json!({ "token": "7:2:acme/order-7", "output": 1, "error": "E", "cause": "c" })),
        (9, json!({ "source": super::MIXED, "file": "../../x" })),
        (10, json!({ "name": "order", "version": u32::MAX })),
        (11, json!({ "actor": { "path": "shard-0/saga acme/x" } })),
        (11, json!("tree")),
        (11, json!({ "sagas": { "tenant": "acme", "by": null, "list": {} } })),
        (12, json!({ "node": "n1", "body": "nothing" })),
        (13, json!([{ "tenant": "acme", "key": "x" }, { "ChildEnded": { "step": 3, "outcome": outcome } }])),
        (11, json!({ "ask": "workers", "tenant": "acme", "list": { "kind": "health" } })),
        (14, json!({ "kind": "health", "environment": "prod.eu", "waitMs": 5 })),
        (15, json!({ "kind": "health", "environment": "prod", "reason": "r" })),
        (13, json!([{ "tenant": "acme", "key": "x" }, { "Cancel": { "by": "acme/y" } }])),
        (
            13,
            json!([{ "tenant": "acme", "key": "x" }, { "Child": { "definition": "d", "input": 1, "parent": ["p", 2], "by": "ann", "trace": "t" } }]),
        ),
    ];
    let mut all = Vec::new();
    for (which, body) in bodies {
        all.push([vec![which], Format::Json.write(&body)].concat());
        all.push([vec![which | 0x10], Format::MessagePack.write(&body)].concat());
    }
    all
}

/// Envelopes, whole and not.
pub fn envelopes() -> Vec<Vec<u8>> {
    let whole = json!({
        "eventId": "evt-1", "eventType": "AssetInstalled", "tenantId": "acme",
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "correlationId": "acme/install-7", "causationId": "cmd-1",
        "occurredAt": "2026-01-01T00:00:00Z", "payload": { "a": 1 }, "projectId": "p", "moduleId": "m",
    });
    let mut all = vec![Format::Json.write(&whole), Format::MessagePack.write(&whole)];
    for (field, value) in [
        ("eventType", json!("a\r\nSkald-Status: ok\r\n.>*")),
        ("occurredAt", json!("-009999-01-01T00:00:00Z")),
        ("occurredAt", json!("9999-12-31T23:59:60.999999999Z")),
        ("occurredAt", json!(i64::MIN)),
        ("traceId", json!("0".repeat(32))),
        ("traceId", json!("4BF92F3577B34DA6A3CE929D0E0E4736")),
        ("tenantId", json!("acme.bob")),
        ("payload", json!(null)),
    ] {
        let mut other = whole.clone();
        other[field] = value;
        all.extend([Format::Json.write(&other), Format::MessagePack.write(&other)]);
    }
    all.extend(bytes(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "--", subjects::EVENTS, "00-é"]));
    all
}
