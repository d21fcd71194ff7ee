//! Whether a shard stands on what its last owner left: asked before anything is written at a takeover.

use protocol::{Epoch, ShardId, Time};
use tracing::error;

use super::engine::Engine;
use super::recovery::{Mark, NotTaken};
use super::shell::Fault;
use crate::journal::anchor::{Anchor, Loss, judge};
use crate::journal::{Digest, Stream};
use crate::ports::Position;

/// A shard that may not go on in what is there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{loss}; {mend}")]
pub struct Stopped {
    /// What is lost.
    pub loss: Loss,
    /// What an operator can do, with the command.
    pub mend: String,
}

/// What a takeover found to stand on.
#[derive(Debug, Default)]
pub struct Ground {
    /// The stream.
    pub stream: Option<Stream>,
    /// What was left beside the lease.
    anchor: Option<Anchor>,
    /// That, and its copy in the mark.
    anchors: Vec<Anchor>,
    /// The code of the loss that an operator accepted, if any.
    accepted: Option<String>,
    /// That very loss, where it was met.
    taken: Option<Loss>,
}

impl Ground {
    /// Compares the journal of `shard` with what is kept of it beside the lease and in the mark.
    pub async fn look(engine: &Engine, shard: ShardId, mark: Option<&Mark>) -> Result<Self, Fault> {
        let journal = &engine.journal;
        // What was left is read before what is there: another owner may write both meanwhile.
        let anchor = journal.anchor(shard).await.map_err(NotTaken::of)?;
        let accepted = journal.accepted(shard).await.map_err(NotTaken::of)?;
        let stream = journal.stream(shard).await.map_err(NotTaken::of)?;
        // The copy in the mark may be of before a loss that was accepted.
        let copy = mark.and_then(|mark| mark.anchor);
        let copy = copy.filter(|copy| anchor.is_none_or(|anchor| anchor.epoch <= copy.epoch));
        let anchors: Vec<Anchor> = anchor.into_iter().chain(copy).collect();
        let mut beyond = mark.map_or(0, |mark| mark.low_water.max(mark.relayed));
        beyond = anchors.iter().map(|anchor| anchor.position).fold(beyond, Position::max);
        beyond = stream.as_ref().map_or(beyond, |stream| beyond.max(stream.known));
        let accepts = accepted.as_ref().map(|it| it.loss.clone());
        let mut ground = Self { stream, anchor, anchors, accepted: accepts, taken: None };
        ground.compare(engine, shard).await?;
        if ground.stream.is_none()
            && ground.anchors.is_empty()
            && journal.was_there(shard).await.map_err(NotTaken::of)?
        {
            ground.refuse(shard, Loss::Deleted { position: beyond })?;
        }
        if let Some(loss) = ground.taken.clone() {
            // Positions are given out once: the next frame must come after all that ever were.
            if let Some(left) = ground.stream.as_ref().filter(|stream| stream.last < beyond) {
                let mend = format!(
                    "the loss was accepted, but the stream ends before frame {beyond}: remove it with \
                     `nats stream rm {}`, and it is made anew",
                    left.name
                );
                return Err(Stopped { loss, mend }.into());
            }
            let by = accepted.map(|it| format!("{}: {}", it.by, it.reason)).unwrap_or_default();
            error!(%shard, by, "a loss of the journal was accepted; the shard goes on in what is left");
            journal.renew(shard, beyond).await.map_err(NotTaken::of)?;
            ground.stream = journal.stream(shard).await.map_err(NotTaken::of)?;
        }
        Ok(ground)
    }

    /// Looks once more when the takeover's frame is written and everything is read: a stream that was lost
    /// meanwhile has that frame in another one, in which nothing may follow.
    pub async fn confirm(&mut self, engine: &Engine, shard: ShardId) -> Result<(), Fault> {
        if self.taken.is_some() {
            return Ok(());
        }
        let before = self.stream.take();
        // The former owner may have written down more before our frame fenced it.
        let latest = engine.journal.anchor(shard).await.map_err(NotTaken::of)?;
        self.anchors.extend(latest.filter(|latest| !self.anchors.contains(latest)));
        self.stream = engine.journal.stream(shard).await.map_err(NotTaken::of)?;
        self.compare(engine, shard).await?;
        let (before, now) = (before.map(|stream| stream.born), self.stream.as_ref().map(|stream| stream.born));
        match now {
            _ if before == now => Ok(()),
            Some(born) => Ok(self.refuse(shard, Loss::Recreated { born, position: 0 })?),
            None => Ok(self.refuse(shard, Loss::Deleted { position: 0 })?),
        }
    }

    /// Compares the stream with what was left of it.
    async fn compare(&mut self, engine: &Engine, shard: ShardId) -> Result<(), Fault> {
        for anchor in self.anchors.clone() {
            let there = engine.journal.get(shard, anchor.position).await.map_err(NotTaken::of)?;
            let there = there.map(|bytes| Digest::of(&bytes));
            if let Err(loss) = judge(&anchor, self.stream.as_ref(), there, engine.now()) {
                self.refuse(shard, loss)?;
            }
        }
        // All that is kept elsewhere may be as old as the copy that is found.
        let older = self.stream.as_ref().filter(|stream| stream.last < stream.known);
        if let Some((found, known)) = older.map(|stream| (stream.last, stream.known)) {
            self.refuse(shard, Loss::Older { found, known })?;
        }
        Ok(())
    }

    /// Stops the takeover because of `loss`, unless it is the one that was accepted.
    pub fn refuse(&mut self, shard: ShardId, loss: Loss) -> Result<(), Stopped> {
        #[cfg(feature = "simulation")]
        if crate::simulation::planted(crate::simulation::Bug::Identity) {
            return Ok(());
        }
        let code = loss.code(shard);
        if self.accepted.as_ref() == Some(&code) {
            self.taken = Some(loss.clone());
        }
        if self.taken.is_some() {
            return Ok(());
        }
        let mend = format!(
            "bring back what was there, or accept the loss: skald accept-loss --shard {shard} --loss {code} --reason '…'"
        );
        Err(Stopped { loss, mend })
    }

    /// Whether the snapshots that are found are older than what was left, or gone.
    pub fn outlives(&self, revision: u64) -> bool {
        self.anchor.is_some_and(|anchor| revision < anchor.mark)
    }

    /// The mark as it was when the snapshots were last seen whole: where a replay had to start, and what
    /// was sent.
    pub fn marked(&self) -> Mark {
        self.anchor.map_or_else(Mark::default, |anchor| Mark {
            low_water: anchor.low_water,
            relayed: anchor.relayed,
            events: anchor.events,
            stream: anchor.stream,
            digest: None,
            anchor: None,
            epoch: anchor.epoch,
        })
    }

    /// The digest of the last frame that was left.
    pub fn left(&self) -> Option<Digest> {
        self.anchor.map(|anchor| anchor.digest)
    }

    /// What is to be kept from here on.
    pub fn anchor(
        &self,
        epoch: Epoch,
        at: Time,
        (position, digest): (Position, Digest),
        (mark, revision): (&Mark, u64),
    ) -> Option<Anchor> {
        let stream = self.stream.as_ref()?;
        Some(Anchor {
            born: stream.born,
            first: stream.first,
            position,
            digest,
            at,
            low_water: mark.low_water,
            relayed: mark.relayed,
            events: mark.events,
            stream: mark.stream,
            mark: revision,
            epoch,
        })
    }
}
