//! One list out of every node's answer, which says what is not in it: a list that is silently short
//! looks like one that is complete.

use protocol::query::{Answer, Body};
use protocol::{Value, codec};
use serde::Serialize;
use serde_json::json;

use crate::debug::{merge_rows, merge_workers};

/// Bytes of a message that are not rows: names, headers, and what is said to be missing.
const FRAME_BYTES: usize = 8 << 10;

/// Takes off `answer` the oldest sagas that a message of `max` bytes cannot carry, and says so.
pub fn fit(mut answer: Answer, max: usize) -> Answer {
    if let Body::Sagas(rows) = &mut answer.body {
        rows.sort_by(|a, b| b.changed_at.cmp(&a.changed_at).then_with(|| a.saga.cmp(&b.saga)));
        let left_out = cut(rows, max).map(older);
        answer.missing.extend(left_out);
    }
    if let Body::Workers(rows) = &mut answer.body {
        let left_out = cut(rows, max).map(others);
        answer.missing.extend(left_out);
    }
    answer
}

/// The newest `limit` of all rows, as many as a message of `max` bytes carries.
pub fn list(answers: Vec<Answer>, unowned: Vec<u16>, limit: usize, max: usize) -> Value {
    let nodes = answers.len();
    let answered = answers.iter().filter(|answer| matches!(answer.body, Body::Sagas(_))).count();
    let mut missing = said(&answers);
    missing.extend(unowned.into_iter().map(|shard| format!("shard {shard} has no owner: `skald doctor` says why")));
    let mut rows = merge_rows(answers, limit);
    missing.extend(cut(&mut rows, max).map(older));
    json!({ "sagas": rows, "nodes": nodes, "answered": answered, "missing": missing })
}

/// All workers by name, as many as a message of `max` bytes carries.
pub fn workers(answers: Vec<Answer>, max: usize) -> Value {
    let nodes = answers.len();
    let answered = answers.iter().filter(|answer| matches!(answer.body, Body::Workers(_))).count();
    let mut missing = said(&answers);
    let mut rows = merge_workers(answers);
    missing.extend(cut(&mut rows, max).map(others));
    json!({ "workers": rows, "nodes": nodes, "answered": answered, "missing": missing })
}

/// What the nodes say is missing.
fn said(answers: &[Answer]) -> Vec<String> {
    let say = |answer: &Answer| {
        let node = answer.node.clone();
        answer.missing.iter().map(move |what| format!("{node}: {what}")).collect::<Vec<_>>()
    };
    answers.iter().flat_map(say).collect()
}

fn older(count: usize) -> String {
    format!("{count} older sagas do not fit into one message; ask for one status, one definition, or fewer")
}

fn others(count: usize) -> String {
    format!("{count} workers do not fit into one message; ask for one kind or one environment")
}

/// Leaves as many rows as fit, and says how many did not.
fn cut<T: Serialize>(rows: &mut Vec<T>, max: usize) -> Option<usize> {
    let mut room = max.saturating_sub(FRAME_BYTES);
    let fitting = rows.iter().take_while(|row| {
        let bytes = codec::Format::Json.write(row).len() + 1;
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    });
    let (fitting, all) = (fitting.count(), rows.len());
    rows.truncate(fitting);
    (fitting < all).then(|| all - fitting)
}

#[cfg(test)]
mod tests {
    use protocol::NodeId;
    use protocol::view::{SagaRow, Status};

    use super::*;

    fn rows(node: &str, count: i64) -> Answer {
        let row = |n| SagaRow {
            saga: format!("acme/{node}-{n}"),
            definition: "order v1".into(),
            status: Status::Running,
            state: "Charge".into(),
            changed_at: protocol::Time::from_micros(n),
            node: node.into(),
        };
        Answer::new(NodeId::new(node).unwrap(), Body::Sagas((0..count).map(row).collect()))
    }

    #[test]
    fn an_answer_is_cut_to_what_a_message_carries_and_says_so() {
        let max = FRAME_BYTES + 10_000;
        let cut = fit(rows("n1", 1_000), max);
        let bytes = codec::Format::Json.write(&cut);
        assert!(bytes.len() < max, "{}", bytes.len());
        let Body::Sagas(left) = &cut.body else { panic!("{cut:?}") };
        assert_eq!(left[0].saga, "acme/n1-999", "the newest stay");
        assert_eq!(cut.missing[0].split(' ').next().unwrap(), (1_000 - left.len()).to_string());
        assert!(fit(rows("n1", 10), max).missing.is_empty());
    }

    #[test]
    fn a_list_says_who_did_not_answer_and_what_did_not_fit() {
        let silent = Answer {
            missing: vec!["it did not answer within 2s".into()],
            ..Answer::new(NodeId::new("n3").unwrap(), Body::Nothing)
        };
        let told = list(vec![rows("n1", 3), rows("n2", 2), silent], vec![7], 4, 1 << 20);
        assert_eq!((&told["nodes"], &told["answered"]), (&json!(3), &json!(2)));
        let unowned = "shard 7 has no owner: `skald doctor` says why";
        assert_eq!(told["missing"], json!(["n3: it did not answer within 2s", unowned]));
        assert_eq!(told["sagas"].as_array().unwrap().len(), 4);
        let told = list(vec![rows("n1", 500), rows("n2", 500)], Vec::new(), 10_000, FRAME_BYTES + 10_000);
        assert!(told["missing"][0].as_str().unwrap().contains("do not fit"), "{}", told["missing"]);
    }
}
