//! The shard's journal: gathers records into frames and makes them durable, one frame at a time.
//! Fenced, it ends itself, and the shard with it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use protocol::{ShardId, Time};
use tracing::{error, info, warn};

use super::engine::Engine;
use super::pulse::NEVER;
use super::relay;
use super::saga;
use super::shard;
use super::shell::{Behaviour, Fault, Handle, Me};
use crate::journal::frame::{Batch, Header};
use crate::journal::{Digest, Request, Settled, Writer};
use crate::ports::{AppendError, Position, Unavailable};

/// Who gets to know that a batch is durable.
pub enum Ticket {
    /// A saga's actor, and the cell that remembers its last position beyond the actor's life.
    Saga(Handle<saga::Message>, Arc<AtomicU64>),
    /// Whoever waits on this channel.
    Once(tokio::sync::oneshot::Sender<Position>),
}

/// What the journal is told.
pub enum Message {
    /// Make a batch durable.
    Append(Batch, Ticket),
    /// Form the next frame from what has gathered, unless more is still coming. Sent to itself
    /// behind what already waits, so that everything that arrived together travels together.
    Flush(Gathering),
    /// The append under way was answered.
    Appended(Result<Position, AppendError>),
    /// The last frame was read.
    Looked(Result<Option<(Position, Bytes)>, Unavailable>),
    /// Tell when everything appended so far is durable.
    Barrier(tokio::sync::oneshot::Sender<()>),
}

/// How the gathering of a frame goes.
#[derive(Clone, Copy, Default)]
pub struct Gathering {
    /// Rounds so far.
    rounds: u32,
    /// Rounds since something arrived.
    quiet: u32,
    /// Batches taken in the round before.
    seen: u64,
}

/// Rounds in which nothing arrives before a frame leaves. One commit sets many sagas going, and
/// each takes a few turns of the runtime (its actor, its step's, its own again) until its next
/// record is here; a frame that left at the first of them would leave the others to wait for a
/// whole append. A round is one turn of everything that can run: microseconds when idle.
const GATHER_QUIET_ROUNDS: u32 = 3;
/// Most rounds: a node that never comes to rest must not hold its frames back.
const GATHER_ROUNDS_MAX: u32 = 32;

/// Counters shown by the shard.
#[derive(Debug)]
pub struct Meters {
    /// Frames made durable since the takeover.
    pub frames: AtomicU64,
    /// Records in them.
    pub records: AtomicU64,
    /// The last frame's position.
    pub position: AtomicU64,
    /// The last frame's position with its digest.
    pub last: Mutex<(Position, Digest)>,
    /// Batches that wait or are on their way.
    pub backlog: AtomicU64,
    /// Events and parcels that are durable and not sent yet.
    pub unsent: AtomicU64,
    /// Events that were refused for good and buried.
    pub buried: AtomicU64,
    /// Sagas that cannot be rebuilt and are parked.
    pub broken: AtomicU64,
    /// Since when the oldest frame waits of which something is unsent, in microseconds; [`NEVER`].
    pub(super) waits_since: AtomicI64,
    /// When the earliest timer is due; [`NEVER`].
    pub(super) due: AtomicI64,
    /// When the shard last handled a message of its clock, or took over; [`NEVER`] before that.
    pub(super) heard: AtomicI64,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            frames: AtomicU64::new(0),
            records: AtomicU64::new(0),
            position: AtomicU64::new(0),
            last: Mutex::default(),
            backlog: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            buried: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            waits_since: AtomicI64::new(NEVER),
            due: AtomicI64::new(NEVER),
            heard: AtomicI64::new(NEVER),
        }
    }
}

impl Meters {
    fn stands_at(&self, position: Position, digest: Digest) {
        self.position.store(position, Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = (position, digest);
    }

    /// The last frame's position and its digest.
    pub fn last(&self) -> (Position, Digest) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the oldest unsent frame waits.
    pub(super) fn wait_since(&self, since: Option<Time>) {
        self.waits_since.store(since.map_or(NEVER, Time::as_micros), Relaxed);
    }

    /// When the earliest timer is due.
    pub(super) fn set_due(&self, due: Option<Time>) {
        self.due.store(due.map_or(NEVER, Time::as_micros), Relaxed);
    }

    /// The shard takes its messages.
    pub(super) fn hear(&self, now: Time) {
        self.heard.store(now.as_micros(), Relaxed);
    }
}

/// The journal actor of one shard.
pub struct JournalActor {
    /// What everyone shares.
    pub engine: Arc<Engine>,
    /// Which shard.
    pub shard: ShardId,
    /// The takeover frame's header.
    pub header: Header,
    /// The takeover frame's position.
    pub position: Position,
    /// The takeover frame's digest.
    pub digest: Digest,
    /// Where what is durable gets sent from.
    pub relay: Handle<relay::Message>,
    /// Who is told when the shard is fenced.
    pub owner: Handle<shard::Message>,
    /// Counters.
    pub meters: Arc<Meters>,
}

/// What changes.
pub struct State {
    writer: Writer<Ticket>,
    /// Who waits for how many batches to be durable, in order.
    barriers: VecDeque<(u64, tokio::sync::oneshot::Sender<()>)>,
    flush_sent: bool,
    asked: tokio::time::Instant,
    /// Batches taken since the start.
    taken: u64,
    /// Batches in the last frame: how many sagas its commit set going.
    together: usize,
    trouble: Option<String>,
}

impl Behaviour for JournalActor {
    type Message = Message;
    type State = State;

    async fn start(&self, _me: &Me<Message>) -> Result<State, Fault> {
        self.meters.stands_at(self.position, self.digest);
        let limits = self.engine.limits.writer.clone();
        let writer = Writer::new(limits, self.header.clone(), self.position, self.digest);
        Ok(State {
            writer,
            barriers: VecDeque::new(),
            flush_sent: false,
            asked: tokio::time::Instant::now(),
            taken: 0,
            together: 0,
            trouble: None,
        })
    }

    async fn handle(&self, me: &Me<Message>, message: Message, state: &mut State) -> Result<(), Fault> {
        match message {
            Message::Append(batch, ticket) => {
                self.meters.backlog.fetch_add(1, Relaxed);
                state.taken += 1;
                if let Err(ticket) = state.writer.push(batch, ticket) {
                    self.meters.backlog.fetch_sub(1, Relaxed);
                    warn!(shard = %self.shard, "a decision is larger than a frame may be");
                    if let Ticket::Saga(saga, _) = ticket {
                        saga.tell(saga::Message::TooLarge);
                    }
                }
                if !state.flush_sent && state.writer.is_resting() {
                    state.flush_sent = true;
                    me.tell(Message::Flush(Gathering::default()));
                }
            }
            Message::Flush(gathering) => self.gather(me, gathering, state).await,
            Message::Appended(answer) => {
                let settled = state.writer.appended(answer);
                self.settle(me, settled, state);
            }
            Message::Looked(answer) => {
                let settled = state.writer.looked(answer);
                self.settle(me, settled, state);
            }
            Message::Barrier(tell) => {
                state.barriers.push_back((state.writer.pushed(), tell));
                self.release_barriers(state);
            }
        }
        Ok(())
    }
}

impl JournalActor {
    fn settle(&self, me: &Me<Message>, settled: Settled<Ticket>, state: &mut State) {
        match settled {
            Settled::Committed { position, tickets, outbox, records } => {
                if state.trouble.take().is_some() {
                    info!(shard = %self.shard, position, "the journal can be written again");
                    me.card().doing("");
                    self.owner.tell(shard::Message::Trouble(None));
                }
                self.engine.observer.appended(records, state.asked.elapsed());
                self.meters.frames.fetch_add(1, Relaxed);
                self.meters.records.fetch_add(records as u64, Relaxed);
                self.meters.stands_at(position, state.writer.digest());
                self.meters.backlog.fetch_sub(tickets.len() as u64, Relaxed);
                state.together = tickets.len();
                self.relay.tell(relay::Message::Committed { position, outbox });
                for ticket in tickets {
                    match ticket {
                        Ticket::Saga(saga, last) => {
                            last.store(position, Relaxed);
                            saga.tell(saga::Message::Committed(position));
                        }
                        Ticket::Once(tell) => {
                            // Nobody waits any more: the shard is going down.
                            let _ = tell.send(position);
                        }
                    }
                }
                self.release_barriers(state);
            }
            Settled::Unsettled(why) => {
                if state.trouble.as_ref() != Some(&why) {
                    warn!(shard = %self.shard, why, "an append is not settled yet, looking and trying again");
                    me.card().doing(why.clone());
                    self.owner.tell(shard::Message::Trouble(Some(why.clone())));
                    state.trouble = Some(why);
                }
            }
            Settled::Fenced { by, epoch } => {
                warn!(shard = %self.shard, by = %by, epoch = epoch.0, "fenced: another node owns the shard, stepping down");
                self.owner.tell(shard::Message::Fenced { by });
            }
            Settled::Lost(why) => {
                error!(shard = %self.shard, why, "the journal is not what it acknowledged, the shard stops");
                self.owner.tell(shard::Message::Lost(why));
            }
        }
        if state.writer.is_resting() {
            // What has gathered leaves together with what this commit sets going.
            if state.writer.is_waited_for() && !state.flush_sent {
                state.flush_sent = true;
                me.tell(Message::Flush(Gathering::default()));
            }
        } else {
            self.go_on(me, state);
        }
    }

    /// Lets everything that can run have its turn until nothing more arrives, then forms the frame.
    async fn gather(&self, me: &Me<Message>, mut gathering: Gathering, state: &mut State) {
        if gathering.seen == state.taken {
            gathering.quiet += 1;
        } else {
            gathering.quiet = 0;
        }
        gathering.seen = state.taken;
        gathering.rounds += 1;
        // A lone saga waits for nobody.
        let alone = state.together <= 1;
        if alone || gathering.quiet >= GATHER_QUIET_ROUNDS || gathering.rounds >= GATHER_ROUNDS_MAX {
            state.flush_sent = false;
            self.go_on(me, state);
        } else {
            tokio::task::yield_now().await;
            me.tell(Message::Flush(gathering));
        }
    }

    fn go_on(&self, me: &Me<Message>, state: &mut State) {
        let Some(request) = state.writer.wanted() else { return };
        state.asked = tokio::time::Instant::now();
        let (engine, shard, me) = (self.engine.clone(), self.shard, me.clone());
        tokio::spawn(async move {
            match request {
                Request::Append { frame, expected, id, after } => {
                    pause(after).await;
                    me.tell(Message::Appended(engine.journal.append(shard, frame, expected, &id).await));
                }
                Request::Look { after } => {
                    pause(after).await;
                    me.tell(Message::Looked(engine.journal.last(shard).await));
                }
            }
        });
    }

    fn release_barriers(&self, state: &mut State) {
        let done = state.writer.committed();
        while let Some((_, tell)) = state.barriers.pop_front_if(|(batches, _)| *batches <= done) {
            // Whoever waited may be gone.
            let _ = tell.send(());
        }
    }
}

async fn pause(after: std::time::Duration) {
    if !after.is_zero() {
        tokio::time::sleep(after).await;
    }
}
