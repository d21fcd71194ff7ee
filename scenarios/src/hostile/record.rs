//! A record of the journal, readable but wrong: replay must not bring the shard down.

use std::sync::Arc;

use protocol::codec;
use supervisor::machine::{Driver, Record, describe};

use super::machine::{definitions, saga, shown};

/// The first byte picks a definition; the rest is a record, folded after the saga's beginning.
/// Whatever it says, replay answers, and what it made can be shown and stored.
pub fn record(data: &[u8]) {
    let Some((pick, bytes)) = data.split_first() else { return };
    let Ok(mut record) = codec::load::<Record>(bytes) else { return };
    assert_eq!(codec::load::<Record>(&codec::store(&record)).expect("what was stored is loadable"), record);
    let _ = describe(&record, 3);
    let definitions = definitions();
    let definition = &definitions[usize::from(*pick) % definitions.len()];
    let mut driver = Driver::new(saga(), Arc::clone(definition));
    // The first checks its saga and its number, the second is folded whatever they were.
    let _ = driver.replay(&record, 3);
    record.saga = saga();
    record.number = driver.execution().records() + 1;
    driver.replay(&record, 4).expect("it follows");
    shown(&driver);
}
