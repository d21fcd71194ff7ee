//! The bodies of commands, of questions between nodes, and of parcels between sagas.

use protocol::codec::Format;
use protocol::command::{
    ActivityAnswer, Cancel, Decide, Deploy, List, Of, PauseWorker, Release, RunWorker, ShowDefinition, Signal, Start,
    Wait,
};
use protocol::query::{Answer, Query};
use protocol::{Code, SagaId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use supervisor::ports::Parcel;

/// The first byte says which body and which format; the rest is the body.
pub fn command(data: &[u8]) {
    let Some((which, body)) = data.split_first() else { return };
    let format = if which & 0x10 == 0 { Format::Json } else { Format::MessagePack };
    match which & 0x0f {
        0 => same::<Start>(format, body),
        1 => same::<Signal>(format, body),
        2 => same::<Cancel>(format, body),
        3 => same::<Of>(format, body),
        4 => same::<Wait>(format, body),
        5 => same::<List>(format, body),
        6 => same::<Release>(format, body),
        7 => same::<Decide>(format, body),
        8 => same::<ActivityAnswer>(format, body),
        9 => same::<Deploy>(format, body),
        10 => same::<ShowDefinition>(format, body),
        11 => same::<Query>(format, body),
        12 => same::<Answer>(format, body),
        14 => same::<RunWorker>(format, body),
        15 => same::<PauseWorker>(format, body),
        _ => same::<(SagaId, Parcel)>(format, body),
    }
}

/// A body is refused with a reason, or is the same when it was written and read again.
fn same<T: Serialize + DeserializeOwned>(format: Format, body: &[u8]) {
    match format.read::<T>(body) {
        Ok(read) => {
            let written = format.write(&read);
            let again = format.read::<T>(&written).expect("what was written is readable");
            assert_eq!(format.write(&again), written);
        }
        Err(problem) => {
            assert!(matches!(problem.code, Code::BadRequest | Code::TooLarge), "{problem:?}");
            assert!(problem.message.len() < 4_096, "a refusal of {} bytes", problem.message.len());
        }
    }
}
