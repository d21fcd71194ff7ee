//! Per shard: whoever took it over last is the only one whose frames follow.

use supervisor::journal::frame::Frame;

use super::{History, Verdict, invariant::FENCE};

pub(super) fn check(history: &History, verdict: &mut Verdict) {
    for (shard, frames) in &history.journal {
        let shard = format!("shard {shard}");
        let mut before: Option<supervisor::journal::frame::Header> = None;
        for (position, bytes) in frames {
            let header = match Frame::read(bytes) {
                Ok(frame) => frame.header,
                Err(error) => {
                    verdict.look(FENCE, &shard, Some(format!("frame {position} cannot be read: {error}")));
                    continue;
                }
            };
            let wrong = before.as_ref().and_then(|last| {
                let same = (&last.node, last.epoch, last.nonce) == (&header.node, header.epoch, header.nonce);
                if same {
                    (header.counter != last.counter + 1)
                        .then(|| format!("frame {position} has counter {} after {}", header.counter, last.counter))
                } else if header.counter != 0 {
                    Some(format!(
                        "frame {position} by {} (epoch {}) follows one by {} (epoch {}) without a takeover",
                        header.node, header.epoch.0, last.node, last.epoch.0
                    ))
                } else {
                    (header.epoch < last.epoch).then(|| {
                        format!(
                            "frame {position}: {} takes over under epoch {} after epoch {}",
                            header.node, header.epoch.0, last.epoch.0
                        )
                    })
                }
            });
            verdict.look(FENCE, &shard, wrong);
            before = Some(header);
        }
    }
}
