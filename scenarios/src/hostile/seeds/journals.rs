//! What the journal and the snapshot store hold, and orders of facts.

use protocol::codec;
use serde_json::json;
use supervisor::journal::Digest;
use supervisor::journal::frame::{Frame, Header};
use supervisor::machine::Record;

use super::super::machine::{begin, definitions};
use super::bytes;

/// The first byte picks a definition, each pair after it a fact.
pub fn facts() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for pick in 0..u8::try_from(definitions().len()).unwrap_or(u8::MAX) {
        all.push([vec![pick], vec![0; 40]].concat());
        all.push([vec![pick], [0, 1, 4, 2, 7, 3, 9, 0, 10, 2, 11, 1].repeat(6)].concat());
        all.push([vec![pick], [0, 0, 12, 0, 6, 0, 6, 1, 13, 0, 6, 1, 13, 1, 13, 2].repeat(4)].concat());
        all.push([vec![pick], (0..=255).collect::<Vec<u8>>()].concat());
    }
    all
}

/// Records as each definition makes them, all of one saga.
fn all_records() -> Vec<(u8, Record)> {
    let mut all = Vec::new();
    for (pick, definition) in (0..).zip(definitions()) {
        let (_, records, _) = begin(definition, json!({ "items": [1, 2, 3], "go": 255, "seconds": 3 }));
        all.extend(records.into_iter().map(|record| (pick, record)));
    }
    all
}

/// Records: the first byte picks the definition.
pub fn records() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> =
        all_records().iter().map(|(pick, record)| [vec![*pick], codec::store(record)].concat()).collect();
    for change in CHANGES {
        let change: serde_json::Value = serde_json::from_str(change).expect("a seed is right");
        let record = json!({
            "saga": { "tenant": "acme", "key": "install-7" }, "number": 1, "previous": 0,
            "fact": { "at": 1, "seed": 1, "kind": { "Parked": { "cause": "x" } } }, "changes": [change],
        });
        all.push([vec![11], codec::store(&record)].concat());
    }
    all
}

/// Changes that speak of what is not there.
const CHANGES: &[&str] = &[
    r#"{ "Began": { "alarm": { "timer": 18446744073709551615, "at": -9223372036854775808 } } }"#,
    r#"{ "Opened": { "scope": 5, "holder": 9, "index": 4294967295 } }"#,
    r#"{ "Opened": { "scope": 5, "holder": 5, "index": 0 } }"#,
    r#"{ "Entered": { "scope": 99, "state": "Nowhere", "step": 18446744073709551615, "input": "Item" } }"#,
    r#"{ "Attempted": { "scope": 0, "state": "X", "attempt": 4294967295, "activity": "a", "arguments": "Given" } }"#,
    r#"{ "Slept": { "scope": 0, "state": "X", "alarm": { "timer": 0, "at": 0 } } }"#,
    r#"{ "Awaits": { "scope": 0, "state": "X", "what": { "Human": "Input" } } }"#,
];

/// Snapshots of sagas under way: the first byte picks the definition.
pub fn snapshots() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (pick, definition) in (0..).zip(definitions()) {
        let (driver, ..) = begin(definition, json!({ "items": [1, 2, 3], "go": 255, "seconds": 3 }));
        all.push([vec![pick], codec::store(driver.execution())].concat());
    }
    // Scopes that hold each other, and steps that are nowhere.
    let saga = json!({ "tenant": "acme", "key": "x" });
    let reference = json!({ "name": "mixed", "version": 1, "digest": "0" });
    let frame = json!({ "state": "Nowhere", "step": 1, "entered": 0, "input": null, "doing": "Nothing" });
    let fork = json!({ "Fork": { "results": [], "next": 7, "width": 3, "done": 9, "failed": 9 } });
    let forked = json!({ "state": "Work", "step": 1, "entered": 0, "input": null, "doing": fork });
    for scopes in [
        json!({}),
        json!({ "0": { "prefix": "", "frame": frame } }),
        json!({ "1": { "holder": [1, 0], "prefix": "x", "frame": frame } }),
        json!({ "1": { "holder": [2, 0], "prefix": "" }, "2": { "holder": [1, 0], "prefix": "" } }),
        json!({ "0": { "prefix": "", "frame": forked }, "1": { "holder": [0, 9], "prefix": "", "frame": frame } }),
    ] {
        for key in [false, true] {
            let mut snapshot = json!({ "saga": saga, "definition": reference });
            if key {
                snapshot["start"] = json!({ "at": 0, "by": "ann", "trace": "t", "cause": "c", "input": 1 });
            }
            let mut stored = codec::store(&snapshot);
            // Numbers are keys here, which JSON does not have: the map is written by hand.
            let mut map = vec![0xa6];
            map.extend(b"scopes");
            map.push(0x80 | u8::try_from(scopes.as_object().map_or(0, serde_json::Map::len)).unwrap_or(0));
            for (number, scope) in scopes.as_object().into_iter().flatten() {
                map.push(number.parse().unwrap_or(0));
                map.extend(&codec::store(scope)[1..]);
            }
            stored[1] += 1;
            stored.extend(map);
            all.push([vec![11], stored].concat());
        }
    }
    all
}

/// Frames, whole and damaged.
pub fn frames() -> Vec<Vec<u8>> {
    let header: Header =
        serde_json::from_value(json!({ "node": "n1", "epoch": 7, "counter": 3, "nonce": 9 })).expect("a seed is right");
    let records: Vec<Vec<u8>> = all_records().iter().map(|(_, record)| codec::store(record)).collect();
    let whole = Frame::write(&header, records);
    let chained = Header { after: Some(Digest::of(&whole)), ..header.clone() };
    let mut all = vec![
        Frame::write(&chained, Vec::new()),
        Frame::write(&header, Vec::new()),
        whole[..whole.len() / 2].to_vec(),
        whole[..20].to_vec(),
    ];
    let mut promising = Frame::write(&header, Vec::new());
    promising.pop();
    for length in [b"\xdd\xff\xff\xff\xff", b"\xdd\x7f\xff\xff\xff"] {
        all.push([promising.clone(), length.to_vec()].concat());
        all.push([promising.clone(), b"\x91\xc6\xff\xff\xff\xff".to_vec()].concat());
    }
    all.push(whole);
    all.extend(bytes::<&[u8]>(&[b"\x01", b"\x02\x80", b"\x01\x82"]));
    all
}
