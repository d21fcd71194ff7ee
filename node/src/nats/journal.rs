//! The journal: one subject per shard, one message per frame, each expecting the one before it.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::stream::Config;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use protocol::{ShardId, subjects};
use serde::de::DeserializeOwned;
use supervisor::journal::anchor::{Accepted, Anchor, Stream};
use supervisor::ports::{AppendError, Journal, Position, Unavailable};

use super::bucket::{Bucket, Write, WriteError};
use super::cluster;
use super::connect::Bus;
use super::layout::{JournalConfig, Shape};
use super::names::one_line;
use super::publish::{Fault, publish};
use super::scan::{self, Scan};
use super::streams::{SetupError, born, ensure, look, make};

/// Header: the frame's id, the same for every try of it.
const FRAME: &str = "Skald-Frame";
/// How long one look at the last frame may take. It is free to repeat, and one that meets a stream
/// without a leader is never answered: waiting long for it only adds to the election.
const LOOK_WITHIN: Duration = Duration::from_secs(1);
/// Positions that are left out when a stream is made anew: frames that were written after the last
/// look had some of them, and snapshots know them. More than a shard writes in an hour.
const POSITIONS_SKIPPED: u64 = 10_000_000;

/// [`Journal`] on JetStream.
///
/// The fence is `Nats-Expected-Last-Subject-Sequence`. Each frame carries its id in a header of
/// ours and not as `Nats-Msg-Id`: the fence alone already lets a frame in only once, one server
/// looks at the fence before the window of ids and three look at them the other way round, an id
/// whose first try is still under way is answered with yet another error (10158), and each would
/// cost the server 215 bytes. So when the fence refuses a frame, the journal looks whether the
/// last one is the same frame, written by a try whose acknowledgement was lost.
#[derive(Debug)]
pub struct JetStreamJournal {
    bus: Bus,
    shape: Shape,
    config: JournalConfig,
    /// Where anchors are kept: beside the leases.
    cluster: Bucket,
}

impl JetStreamJournal {
    /// Opens the journal, agreeing on its shape with the cluster and making its streams if they
    /// are missing.
    pub async fn open(bus: &Bus, config: &JournalConfig) -> Result<Self, SetupError> {
        let cluster = cluster::bucket(bus, config.replicas).await?;
        let shape = Shape::agree(&cluster, config).await?;
        for stream in shape.streams(config) {
            ensure(bus, stream).await?;
        }
        Ok(Self { bus: bus.clone(), shape, config: config.clone(), cluster })
    }

    /// How many shards there are, and over how many streams they are spread.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The largest frame the server takes, in bytes; headers count as well and are under 1 KiB.
    pub fn frame_max_bytes(&self) -> usize {
        self.bus.max_payload().saturating_sub(1024)
    }
}

#[async_trait]
impl Journal for JetStreamJournal {
    async fn append(
        &self,
        shard: ShardId,
        frame: Bytes,
        expected: Position,
        id: &str,
    ) -> Result<Position, AppendError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        headers.insert(FRAME, one_line(id));
        match publish(&self.bus, subjects::journal(shard), headers, frame, self.config.append_within).await {
            Ok(ack) => Ok(ack.sequence),
            Err(Fault::WrongLast) => {
                let last = scan::last_of(&self.bus, &self.shape.stream(shard), &subjects::journal(shard)).await;
                match last {
                    Ok(Some(last)) if is(&last.headers, id) => Ok(last.sequence),
                    Ok(_) => Err(AppendError::Conflict),
                    Err(error) => Err(AppendError::Undecided(format!("refused by the fence, and then: {error}"))),
                }
            }
            Err(Fault::Undecided(why)) => Err(AppendError::Undecided(why)),
            Err(Fault::Refused(why) | Fault::Never(why)) => Err(AppendError::Refused(why)),
        }
    }

    async fn last(&self, shard: ShardId) -> Result<Option<(Position, Bytes)>, Unavailable> {
        let (stream, subject) = (self.shape.stream(shard), subjects::journal(shard));
        let last = tokio::time::timeout(LOOK_WITHIN, scan::last_of(&self.bus, &stream, &subject)).await;
        let last = match last.map_err(|_| Unavailable(format!("{stream} does not answer; has it a leader?")))? {
            // No stream, no frame: the writer tells what that means.
            Err(_) if scan::is_missing(&self.bus, &stream).await? => None,
            other => other?,
        };
        Ok(last.map(|it| (it.sequence, it.payload)))
    }

    async fn get(&self, shard: ShardId, position: Position) -> Result<Option<Bytes>, Unavailable> {
        if position == 0 {
            return Ok(None);
        }
        let stream = self.shape.stream(shard);
        let found = match scan::at_any(&self.bus, &stream, position).await {
            Some(found) => Some(found),
            // A replica may lag; the leader knows whether it is kept.
            None => match scan::at(&self.bus, &stream, position).await {
                Err(_) if scan::is_missing(&self.bus, &stream).await? => None,
                other => other?,
            },
        };
        Ok(found.filter(|it| it.subject.as_str() == subjects::journal(shard)).map(|it| it.payload))
    }

    fn read(
        &self,
        shard: ShardId,
        from: Position,
        to: Position,
    ) -> BoxStream<'_, Result<(Position, Bytes), Unavailable>> {
        enum Reading {
            Start,
            Under(Box<Scan>),
            Over,
        }
        let step = move |reading: Reading| async move {
            let mut scan = match reading {
                Reading::Start if from > to => return None,
                Reading::Start => {
                    let policy = DeliverPolicy::ByStartSequence { start_sequence: from.max(1) };
                    let (stream, subject) = (self.shape.stream(shard), subjects::journal(shard));
                    match Scan::open(&self.bus, &stream, &subject, policy, false).await {
                        Ok(scan) => Box::new(scan),
                        Err(error) => return Some((Err(error), Reading::Over)),
                    }
                }
                Reading::Under(scan) => scan,
                Reading::Over => return None,
            };
            match scan.next(to).await {
                Ok(Some(item)) => Some((Ok((item.sequence, item.payload)), Reading::Under(scan))),
                Ok(None) => None,
                Err(error) => Some((Err(error), Reading::Over)),
            }
        };
        stream::unfold(Reading::Start, step).boxed()
    }

    async fn stream(&self, shard: ShardId) -> Result<Option<Stream>, Unavailable> {
        let name = self.shape.stream(shard);
        let found = look(&self.bus, &name).await?;
        Ok(found.map(|info| Stream {
            name: name.clone(),
            born: born(&info),
            first: info.state.first_sequence,
            last: info.state.last_sequence,
            known: self.bus.ground.reached(&name, born(&info)).unwrap_or(info.state.last_sequence),
            kept_for: Some(info.config.max_age).filter(|age| !age.is_zero()),
        }))
    }

    async fn was_there(&self, shard: ShardId) -> Result<bool, Unavailable> {
        Ok(self.bus.ground.is_off(&self.shape.stream(shard)))
    }

    async fn anchor(&self, shard: ShardId) -> Result<Option<Anchor>, Unavailable> {
        Ok(self.kept(&anchor_key(shard)).await?.0)
    }

    async fn keep(&self, shard: ShardId, anchor: &Anchor) -> Result<bool, Unavailable> {
        let (before, revision) = self.kept::<Anchor>(&anchor_key(shard)).await?;
        if before.is_some_and(|before| before.epoch > anchor.epoch) {
            return Ok(false);
        }
        let how = Write { expected: Some(revision), ..Write::default() };
        let bytes = serde_json::to_vec(anchor).map_err(|error| Unavailable(error.to_string()))?;
        match self.cluster.write(&anchor_key(shard), bytes.into(), how).await {
            // It was written in this moment: by this node too, or by a new owner, who is met the next time.
            Ok(_) | Err(WriteError::Stale(_)) => Ok(true),
            Err(WriteError::Refused(why)) => Err(Unavailable(why)),
            Err(WriteError::Unavailable(unavailable)) => Err(unavailable),
        }
    }

    async fn accepted(&self, shard: ShardId) -> Result<Option<Accepted>, Unavailable> {
        Ok(self.kept(&accepted_key(shard)).await?.0)
    }

    async fn renew(&self, shard: ShardId, beyond: Position) -> Result<(), Unavailable> {
        let name = self.shape.stream(shard);
        if let Some(there) = look(&self.bus, &name).await? {
            let last = there.state.last_sequence;
            return if last >= beyond {
                Ok(())
            } else {
                Err(Unavailable(format!(
                    "stream {name} ends at {last}, and positions up to {beyond} were given out: bring back a whole \
                     copy, or remove what is left with `nats stream rm {name}`; it is then made anew above {beyond}"
                )))
            };
        }
        let all = self.shape.streams(&self.config);
        let config = all.into_iter().find(|config| config.name == name);
        let config = config.ok_or_else(|| Unavailable(format!("no stream of this shape is called {name}")))?;
        make(&self.bus, Config { first_sequence: Some(beyond + POSITIONS_SKIPPED), ..config.clone() })
            .await
            .map_err(|error| Unavailable(error.to_string()))?;
        super::ground::adopt(&self.bus, &config).await
    }
}

impl JetStreamJournal {
    /// What is kept beside the leases under `key`, with its revision.
    async fn kept<T: DeserializeOwned>(&self, key: &str) -> Result<(Option<T>, u64), Unavailable> {
        let Some(entry) = self.cluster.get(key).await? else { return Ok((None, 0)) };
        if entry.gone {
            return Ok((None, entry.revision));
        }
        let kept = serde_json::from_slice(&entry.bytes)
            .map_err(|error| Unavailable(format!("{key} beside the leases cannot be read: {error}")))?;
        Ok((Some(kept), entry.revision))
    }
}

pub(super) fn anchor_key(shard: ShardId) -> String {
    format!("journal.{shard}")
}

pub(super) fn accepted_key(shard: ShardId) -> String {
    format!("accepted.{shard}")
}

fn is(headers: &HeaderMap, id: &str) -> bool {
    headers.get(FRAME).is_some_and(|it| it.as_str() == one_line(id))
}
