//! A frame of the journal, possibly damaged.

use supervisor::journal::frame::Frame;
use supervisor::machine::describe;

/// A damaged frame is an error; a readable one is the same when it was written again, and its
/// records can be told as history.
pub fn frame(data: &[u8]) {
    let Ok(frame) = Frame::read(data) else { return };
    let carried: usize = frame.records.iter().map(|record| record.len()).sum();
    assert!(carried <= data.len(), "{} bytes hold {carried}", data.len());
    let records = frame.records.iter().map(|record| record.to_vec()).collect();
    let written = Frame::write(&frame.header, records);
    assert_eq!(Frame::read(&written).expect("what was written is readable"), frame);
    if let Ok(records) = frame.decode() {
        for record in &records {
            let entry = describe(record, 7);
            assert!(!entry.fact.is_empty() && entry.settled.len() <= record.changes.len());
        }
    }
}
