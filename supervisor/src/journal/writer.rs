//! The single writer of a shard's journal, without IO.
//!
//! At most one frame is on its way; what arrives meanwhile gathers for the next. The caller does
//! what [`Writer::wanted`] asks and reports back; the answer says what became durable. Whatever is
//! not clearly acknowledged is settled by looking at the last frame: ours means committed, the
//! expected one means try the same frame again, any other means that a new owner wrote: step down.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::{Epoch, NodeId};

use super::Digest;
use super::frame::{Batch, Frame, Header, Sending};
use crate::ports::{AppendError, Position, Unavailable};

/// Limits of the writer.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Records gather into a frame up to about this many bytes: beyond it a frame's latency grows
    /// faster than its use.
    pub frame_max_bytes: usize,
    /// The largest frame, in bytes: what the bus carries. A NATS server takes 1 MiB unless told
    /// otherwise. A single batch may fill it.
    pub batch_max_bytes: usize,
    /// Most batches that may wait; beyond it the shard answers "busy".
    pub queue_max: usize,
    /// First pause after a refusal or when the store cannot be reached; doubled up to `pause_max`.
    pub pause_min: Duration,
    /// Longest pause: a server that comes back after minutes is found within this.
    pub pause_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_max_bytes: 512 * 1024,
            batch_max_bytes: 960 * 1024,
            queue_max: 20_000,
            pause_min: Duration::from_millis(20),
            pause_max: Duration::from_secs(1),
        }
    }
}

/// Looks that must find less than what was acknowledged before it counts as lost: a leader that was
/// cut off without knowing it can answer with what it had.
const BEHIND_LOOKS: u32 = 3;

/// What the writer wants done. Exactly one is under way at a time.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Append `frame` if the last one is at `expected`, then call [`Writer::appended`].
    Append {
        /// The whole frame.
        frame: Bytes,
        /// Where the last frame must be.
        expected: Position,
        /// The same for every try of this frame.
        id: String,
        /// Wait this long first.
        after: Duration,
    },
    /// Read the last frame, then call [`Writer::looked`].
    Look {
        /// Wait this long first.
        after: Duration,
    },
}

/// What became of what was asked.
#[derive(Debug, PartialEq)]
pub enum Settled<T> {
    /// These batches are durable, in order, with what each has to be sent.
    Committed {
        /// Where their frame is.
        position: Position,
        /// The tickets they came with.
        tickets: Vec<T>,
        /// What the relay is to send.
        outbox: Vec<Arc<Sending>>,
        /// How many records.
        records: usize,
    },
    /// Not settled yet; [`Writer::wanted`] says how it goes on. The reason is worth showing.
    Unsettled(String),
    /// Another node owns the shard. Nothing that was not committed took effect.
    Fenced {
        /// Who wrote the last frame.
        by: NodeId,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// The journal does not hold any more what it acknowledged. Whoever takes the shard over next
    /// compares it with what was left, and decides.
    Lost(String),
}

enum Doing {
    Idle,
    Append { after: Duration, asked: bool },
    Look { after: Duration, asked: bool },
    Fenced,
}

struct Flight<T> {
    frame: Bytes,
    header: Header,
    tickets: Vec<T>,
    outbox: Vec<Arc<Sending>>,
    records: usize,
    troubles: u32,
}

/// The writer. `T` is what the caller gets back when a batch is durable.
pub struct Writer<T> {
    limits: Limits,
    header: Header,
    /// What a frame costs besides its records.
    overhead: usize,
    last: Position,
    /// The digest of the frame there.
    digest: Digest,
    /// Looks in a row that found less than what was acknowledged.
    behind: u32,
    queue: VecDeque<(Batch, T)>,
    flight: Option<Flight<T>>,
    doing: Doing,
    /// Batches taken so far, and how many of them are durable: they become so in order.
    pushed: u64,
    committed: u64,
}

impl<T> Writer<T> {
    /// A writer whose next frame follows the one at `last`, which has `digest`. `header` is that of
    /// the frame at `last` when this writer's takeover put it there.
    pub fn new(limits: Limits, header: Header, last: Position, digest: Digest) -> Self {
        let overhead = Frame::overhead(&header);
        Self {
            limits,
            header,
            overhead,
            last,
            digest,
            behind: 0,
            queue: VecDeque::new(),
            flight: None,
            doing: Doing::Idle,
            pushed: 0,
            committed: 0,
        }
    }

    /// Where the last durable frame is.
    pub fn position(&self) -> Position {
        self.last
    }

    /// The digest of that frame.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether nothing is on its way and nothing waits.
    pub fn is_empty(&self) -> bool {
        self.flight.is_none() && self.queue.is_empty()
    }

    /// Batches taken so far.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Batches that are durable: the first so many of those taken.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Whether nothing is on its way, so that what waits may form the next frame.
    pub fn is_resting(&self) -> bool {
        self.flight.is_none() && matches!(self.doing, Doing::Idle)
    }

    /// Whether something waits for a frame.
    pub fn is_waited_for(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Adds a batch. A batch that could never fit into a frame is given back.
    pub fn push(&mut self, batch: Batch, ticket: T) -> Result<(), T> {
        if self.overhead + batch.bytes() > self.limits.batch_max_bytes {
            return Err(ticket);
        }
        self.pushed += 1;
        self.queue.push_back((batch, ticket));
        Ok(())
    }

    /// What to do now; `None` while something is under way or there is nothing to do.
    pub fn wanted(&mut self) -> Option<Request> {
        if matches!(self.doing, Doing::Idle) && self.flight.is_none() && !self.queue.is_empty() {
            self.take_off();
        }
        match (&mut self.doing, &self.flight) {
            (Doing::Append { after, asked }, Some(flight)) if !*asked => {
                *asked = true;
                Some(Request::Append {
                    frame: flight.frame.clone(),
                    expected: self.last,
                    id: frame_id(&flight.header),
                    after: *after,
                })
            }
            (Doing::Look { after, asked }, _) if !*asked => {
                *asked = true;
                Some(Request::Look { after: *after })
            }
            (Doing::Idle | Doing::Append { .. } | Doing::Look { .. } | Doing::Fenced, _) => None,
        }
    }

    fn take_off(&mut self) {
        self.header.counter += 1;
        self.header.after = Some(self.digest);
        let (mut records, mut tickets, mut outbox, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), self.overhead);
        while let Some((batch, _)) = self.queue.front() {
            if !tickets.is_empty() && bytes + batch.bytes() > self.limits.frame_max_bytes {
                break;
            }
            let Some((batch, ticket)) = self.queue.pop_front() else { break };
            bytes += batch.bytes();
            records.extend(batch.records);
            outbox.extend(batch.outbox);
            tickets.push(ticket);
        }
        let count = records.len();
        self.flight = Some(Flight {
            frame: Frame::write(&self.header, records).into(),
            header: self.header.clone(),
            tickets,
            outbox,
            records: count,
            troubles: 0,
        });
        self.doing = Doing::Append { after: Duration::ZERO, asked: false };
    }

    /// The append under way was answered.
    pub fn appended(&mut self, answer: Result<Position, AppendError>) -> Settled<T> {
        match answer {
            Ok(position) => self.landed(position),
            Err(error @ (AppendError::Conflict | AppendError::Undecided(_))) => {
                let after = if matches!(error, AppendError::Conflict) { Duration::ZERO } else { self.pause() };
                self.doing = Doing::Look { after, asked: false };
                Settled::Unsettled(error.to_string())
            }
            // Nothing was written, so there is nothing to look at: only time or a person helps.
            Err(error @ AppendError::Refused(_)) => {
                let after = self.pause();
                self.doing = Doing::Append { after, asked: false };
                Settled::Unsettled(error.to_string())
            }
        }
    }

    /// The last frame was read.
    pub fn looked(&mut self, answer: Result<Option<(Position, Bytes)>, Unavailable>) -> Settled<T> {
        let found = match answer {
            Ok(found) => found,
            Err(error) => {
                let after = self.pause();
                self.doing = Doing::Look { after, asked: false };
                return Settled::Unsettled(error.to_string());
            }
        };
        let position = found.as_ref().map_or(0, |(position, _)| *position);
        if position == self.last {
            self.behind = 0;
            if found.is_some_and(|(_, bytes)| Digest::of(&bytes) != self.digest) {
                self.doing = Doing::Fenced;
                return Settled::Lost(format!("frame {position} is not the one that was acknowledged"));
            }
            self.doing = Doing::Append { after: Duration::ZERO, asked: false };
            return Settled::Unsettled("the frame did not arrive, sending it again".into());
        }
        if position < self.last {
            self.behind += 1;
            let why = format!("the journal ends at {position}, and {} was acknowledged", self.last);
            if self.behind >= BEHIND_LOOKS {
                self.doing = Doing::Fenced;
                return Settled::Lost(why);
            }
            let after = self.pause();
            self.doing = Doing::Look { after, asked: false };
            return Settled::Unsettled(why);
        }
        let header = found.as_ref().and_then(|(_, bytes)| Frame::read(bytes).ok()).map(|frame| frame.header);
        match (header, &self.flight) {
            (Some(header), Some(flight)) if header.is_of(&flight.header) => self.landed(position),
            #[cfg(feature = "simulation")]
            (Some(_), _) if crate::simulation::planted(crate::simulation::Bug::Fence) => {
                self.last = position;
                self.doing = Doing::Append { after: Duration::ZERO, asked: false };
                Settled::Unsettled("going on behind another's frame".into())
            }
            (Some(header), _) => {
                self.doing = Doing::Fenced;
                Settled::Fenced { by: header.node, epoch: header.epoch }
            }
            // Not readable by this release, or cut away: in both cases not ours to follow.
            (None, _) => {
                self.doing = Doing::Fenced;
                Settled::Fenced { by: self.header.node.clone(), epoch: self.header.epoch }
            }
        }
    }

    fn landed(&mut self, position: Position) -> Settled<T> {
        self.last = position;
        self.behind = 0;
        self.doing = Doing::Idle;
        match self.flight.take() {
            Some(Flight { frame, tickets, outbox, records, .. }) => {
                self.digest = Digest::of(&frame);
                self.committed += tickets.len() as u64;
                Settled::Committed { position, tickets, outbox, records }
            }
            None => Settled::Committed { position, tickets: Vec::new(), outbox: Vec::new(), records: 0 },
        }
    }

    fn pause(&mut self) -> Duration {
        let troubles = self.flight.as_mut().map_or(0, |flight| {
            flight.troubles += 1;
            flight.troubles
        });
        let doubled = self.limits.pause_min.saturating_mul(1 << troubles.saturating_sub(1).min(10));
        doubled.min(self.limits.pause_max)
    }
}

/// The id of a frame, the same for every try of it: node, epoch, nonce and counter.
pub fn frame_id(header: &Header) -> String {
    format!("{}.{}.{:x}.{}", header.node, header.epoch.0, header.nonce, header.counter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { node: NodeId::new("a").unwrap(), epoch: Epoch(4), counter: 0, nonce: 1, after: None }
    }

    /// The takeover frame, at 10.
    fn takeover() -> Bytes {
        Frame::write(&header(), Vec::new()).into()
    }

    fn writer() -> Writer<&'static str> {
        Writer::new(Limits::default(), header(), 10, Digest::of(&takeover()))
    }

    fn batch(byte: u8) -> Batch {
        Batch { records: vec![vec![byte]], outbox: Vec::new() }
    }

    fn append(request: Option<Request>) -> (Bytes, Position) {
        match request {
            Some(Request::Append { frame, expected, .. }) => (frame, expected),
            other => panic!("expected an append, got {other:?}"),
        }
    }

    fn committed(settled: Settled<&'static str>) -> (Position, Vec<&'static str>) {
        match settled {
            Settled::Committed { position, tickets, .. } => (position, tickets),
            other => panic!("expected a commit, got {other:?}"),
        }
    }

    #[test]
    fn the_first_goes_at_once_and_the_rest_gathers() {
        let mut writer = writer();
        writer.push(batch(1), "one").unwrap();
        let (first, expected) = append(writer.wanted());
        assert_eq!((Frame::read(&first).unwrap().records.len(), expected), (1, 10));
        writer.push(batch(2), "two").unwrap();
        writer.push(batch(3), "three").unwrap();
        assert_eq!(writer.wanted(), None, "one frame at a time");
        assert_eq!(committed(writer.appended(Ok(11))), (11, vec!["one"]));
        let (second, expected) = append(writer.wanted());
        assert_eq!((Frame::read(&second).unwrap().records.len(), expected), (2, 11));
        assert_eq!(committed(writer.appended(Ok(15))), (15, vec!["two", "three"]));
        assert!(writer.is_empty());
        assert_eq!((writer.pushed(), writer.committed()), (3, 3));
    }

    #[test]
    fn a_lost_acknowledgement_is_found_again() {
        let mut writer = writer();
        writer.push(batch(1), "one").unwrap();
        let (frame, _) = append(writer.wanted());
        assert!(matches!(writer.appended(Err(AppendError::Undecided("time-out".into()))), Settled::Unsettled(_)));
        assert!(matches!(writer.wanted(), Some(Request::Look { .. })));
        assert_eq!(committed(writer.looked(Ok(Some((11, frame))))), (11, vec!["one"]));
    }

    #[test]
    fn a_frame_that_did_not_arrive_is_sent_again_under_the_same_id() {
        let mut writer = writer();
        writer.push(batch(1), "one").unwrap();
        let first = writer.wanted();
        writer.appended(Err(AppendError::Undecided("10164".into())));
        writer.wanted();
        writer.looked(Ok(Some((10, takeover()))));
        let again = writer.wanted();
        match (first, again) {
            (Some(Request::Append { frame: a, id: x, .. }), Some(Request::Append { frame: b, id: y, .. })) => {
                assert_eq!((a, x), (b, y));
            }
            other => panic!("{other:?}"),
        }
        // The first copy lands after all: the second conflicts, and the look finds it.
        writer.appended(Err(AppendError::Conflict));
    }

    #[test]
    fn a_foreign_frame_fences() {
        let mut writer = writer();
        writer.push(batch(1), "one").unwrap();
        writer.wanted();
        writer.appended(Err(AppendError::Conflict));
        assert_eq!(writer.wanted(), Some(Request::Look { after: Duration::ZERO }));
        let other = Header { node: NodeId::new("b").unwrap(), epoch: Epoch(5), counter: 0, nonce: 2, after: None };
        let frame = Frame::write(&other, vec![]);
        let settled = writer.looked(Ok(Some((11, frame.into()))));
        assert_eq!(settled, Settled::Fenced { by: other.node, epoch: Epoch(5) });
        assert_eq!(writer.wanted(), None, "a fenced writer does nothing more");
    }

    #[test]
    fn each_frame_says_what_it_follows() {
        let mut writer = writer();
        let mut before = Digest::of(&takeover());
        for position in 11..14 {
            writer.push(batch(1), "x").unwrap();
            let (frame, _) = append(writer.wanted());
            assert_eq!(Frame::read(&frame).unwrap().header.after, Some(before));
            committed(writer.appended(Ok(position)));
            before = Digest::of(&frame);
            assert_eq!(writer.digest(), before);
        }
    }

    #[test]
    fn a_journal_that_forgot_what_it_acknowledged_is_not_gone_on_with() {
        let shorter = Some((9, Bytes::from(Frame::write(&header(), vec![]))));
        for found in [None, shorter] {
            let mut writer = writer();
            writer.push(batch(1), "one").unwrap();
            writer.wanted();
            writer.appended(Err(AppendError::Conflict));
            for _ in 1..BEHIND_LOOKS {
                assert!(matches!(writer.wanted(), Some(Request::Look { .. })));
                assert!(matches!(writer.looked(Ok(found.clone())), Settled::Unsettled(_)));
            }
            assert!(matches!(writer.wanted(), Some(Request::Look { .. })));
            assert!(matches!(writer.looked(Ok(found)), Settled::Lost(_)));
            assert_eq!(writer.wanted(), None);
        }
    }

    #[test]
    fn another_frame_in_the_place_of_ours_is_a_loss() {
        let mut writer = writer();
        writer.push(batch(1), "one").unwrap();
        writer.wanted();
        writer.appended(Err(AppendError::Undecided("time-out".into())));
        writer.wanted();
        assert!(matches!(writer.looked(Ok(Some((10, Bytes::from_static(b"flipped"))))), Settled::Lost(_)));
    }

    #[test]
    fn a_full_disk_is_waited_out_with_growing_pauses() {
        let mut writer = writer();
        writer.push(batch(1), "one").unwrap();
        writer.wanted();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            writer.appended(Err(AppendError::Refused("disk full".into())));
            match writer.wanted() {
                Some(Request::Append { after, expected: 10, .. }) => pauses.push(after.as_millis()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(committed(writer.appended(Ok(11))).0, 11);
    }

    #[test]
    fn what_never_fits_is_given_back() {
        let mut writer = writer();
        let large = Batch { records: vec![vec![0; 1024 * 1024]], outbox: Vec::new() };
        assert_eq!(writer.push(large, "large"), Err("large"));
    }

    #[test]
    fn a_frames_bytes_are_known_before_it_is_written() {
        let (header, last) = (Header { counter: u64::MAX - 1, ..header() }, 10);
        for sizes in [vec![1; 70_000], vec![0, 200, 300, 70_000], vec![957_000]] {
            let records: Vec<Vec<u8>> = sizes.into_iter().map(|size| vec![0; size]).collect();
            let batch = Batch { records, outbox: Vec::new() };
            let most = Frame::overhead(&header) + batch.bytes();
            let limits = Limits { batch_max_bytes: most, ..Limits::default() };
            let mut writer = Writer::new(limits.clone(), header.clone(), last, Digest::NONE);
            writer.push(batch.clone(), "fits").unwrap();
            let (frame, _) = append(writer.wanted());
            assert!(frame.len() <= most, "{} bytes, expected at most {most}", frame.len());
            let limits = Limits { batch_max_bytes: most - 1, ..limits };
            assert_eq!(
                Writer::new(limits, header.clone(), last, Digest::NONE).push(batch, "too large"),
                Err("too large")
            );
        }
    }

    #[test]
    fn frames_stay_under_their_limit() {
        let mut writer = writer();
        for _ in 0..5 {
            writer.push(Batch { records: vec![vec![0; 200 * 1024]], outbox: Vec::new() }, "x").unwrap();
        }
        writer.wanted();
        assert_eq!(committed(writer.appended(Ok(11))).1.len(), 2);
        writer.wanted();
        assert_eq!(committed(writer.appended(Ok(12))).1.len(), 2);
        writer.wanted();
        assert_eq!(committed(writer.appended(Ok(13))).1.len(), 1);
    }
}
