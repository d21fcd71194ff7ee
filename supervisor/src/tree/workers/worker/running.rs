//! A run of a worker, from its begin to what is remembered of it.

use std::sync::Arc;

use protocol::text::shortened;
use protocol::worker::{RunOutcome, RunView};
use protocol::{Envelope, Time, TraceId, codec};
use tracing::{debug, error, warn};

use super::super::agenda::{Agenda, Bad, Running, Wanted};
use super::super::circle::Circle;
use super::{Message, State, WorkerActor, run, tell_later};
use crate::activity::Failure;
use crate::tree::card::Card;
use crate::tree::reply::Reply;
use crate::tree::shell::{self, Fault, Handle, Me};
use crate::worker::{COUNTS_MAX, Report, Run, TEXT_MAX_BYTES, Why};

/// How often a dead letter is tried to be kept before it is given up, with an error that holds its
/// event's id: a worker must not pile up what the store does not take.
const BURY_TRIES: u32 = 5;

/// The run under way.
#[derive(Default)]
pub struct UnderWay {
    /// What its attempts share; made when it begins.
    ticket: Option<Ticket>,
    attempt: Option<Handle<run::Message>>,
    /// Why the last attempt ended badly, and when the next one begins.
    pub(super) again: Option<(String, Time)>,
    /// Who hears how it went.
    curious: Vec<Reply>,
}

/// What every attempt of one run has in common.
struct Ticket {
    number: u64,
    attempt: u32,
    key: String,
    trace: TraceId,
    correlation: String,
    cause: String,
    /// `None`: the row of events that led to it is too long.
    causes: Option<u32>,
}

impl UnderWay {
    /// The attempt under way.
    pub(super) const fn attempt(&self) -> Option<&Handle<run::Message>> {
        self.attempt.as_ref()
    }

    /// Whether `attempt` of run `number` is what comes next.
    pub(super) fn waits_for(&self, number: u64, attempt: u32) -> bool {
        self.attempt.is_none() && self.is(number, attempt)
    }

    fn is(&self, number: u64, attempt: u32) -> bool {
        self.ticket.as_ref().is_some_and(|ticket| (ticket.number, ticket.attempt) == (number, attempt))
    }

    /// A run begins; `curious` hear how it goes.
    pub(super) fn begin(&mut self, by: &WorkerActor, running: Option<&Running>, curious: &mut Vec<Reply>) {
        let Some(Running { number, wanted, began, attempt }) = running else { return };
        if !wanted.asks.is_empty() {
            self.curious = std::mem::take(curious);
        }
        let fresh = || {
            let seeds = &by.engine.seeds;
            TraceId::new(format!("{:016x}{:016x}", seeds.next(), seeds.next())).expect("digits are a trace id")
        };
        // Its time makes it another run than one of that number whose node died.
        let own = format!("{}#{number}@{}", by.id, began.as_micros());
        let key = match (&wanted.events[..], wanted.timer || wanted.more || !wanted.asks.is_empty()) {
            ([only], false) => format!("{}:{}", by.id, only.event_id),
            _ => own.clone(),
        };
        let (trace, correlation, cause) = match (wanted.asks.first(), wanted.events.first()) {
            (Some(asked), _) => (asked.trace.clone().unwrap_or_else(fresh), own, asked.id.clone()),
            (None, Some(event)) => {
                (event.trace_id.clone(), event.correlation_id.clone(), event.event_id.as_str().to_owned())
            }
            (None, None) => (fresh(), own.clone(), own),
        };
        let causes = wanted.causes(by.limits.causes_max);
        self.ticket = Some(Ticket { number: *number, attempt: *attempt, key, trace, correlation, cause, causes });
        self.again = None;
    }
}

impl WorkerActor {
    /// Begins the next attempt of the run under way.
    pub(super) async fn attempt(&self, me: &Me<Message>, state: &mut State) -> Result<(), Fault> {
        let running = state.agenda.as_ref().and_then(Agenda::running);
        let (Some(running), Some(ticket)) = (running, &state.under_way.ticket) else { return Ok(()) };
        let run = Run {
            worker: self.id.clone(),
            number: running.number,
            why: running.wanted.why(),
            events: running.wanted.events.clone(),
            attempt: running.attempt,
            key: ticket.key.clone(),
            trace: ticket.trace.clone(),
            correlation: ticket.correlation.clone(),
            cause: ticket.cause.clone(),
            causes: ticket.causes.unwrap_or(self.limits.causes_max),
            remembered: state.memory.remembered.clone(),
            clock: self.engine.clock.clone(),
            outbox: self.engine.outbox.clone(),
        };
        let card = Card::new(format!("run {} #{}", run.number, run.attempt), "run", self.engine.now());
        card.doing(trigger(&running.wanted));
        me.card().adopt(card.clone());
        let actor = run::RunActor {
            engine: self.engine.clone(),
            worker: match ticket.causes {
                Some(_) => self.worker.clone(),
                None => Arc::new(Circle { kind: self.id.kind.to_string(), max: self.limits.causes_max }),
            },
            run,
            within: state.rhythm.attempt_max,
            owner: me.clone(),
        };
        state.under_way.again = None;
        state.under_way.attempt = Some(shell::start(actor, card, Some(me.cell())).await?);
        Ok(())
    }

    pub(super) fn attempted(
        &self,
        me: &Me<Message>,
        (number, attempt): (u64, u32),
        answer: Result<Report, Failure>,
        state: &mut State,
    ) {
        if state.under_way.attempt.is_none() || !state.under_way.is(number, attempt) {
            return;
        }
        self.attempt_is_over(me, state);
        match answer.and_then(|report| self.fitting(report)) {
            Ok(report) => self.end(me, Ok(report), state),
            Err(failure) => self.went_badly(me, Bad::Failed(failure), state),
        }
    }

    /// The attempt's actor is gone, or about to be.
    pub(super) fn attempt_is_over(&self, me: &Me<Message>, state: &mut State) {
        if let Some(attempt) = state.under_way.attempt.take() {
            me.card().forget(attempt.card().name());
        }
    }

    /// A report as it may be kept.
    fn fitting(&self, mut report: Report) -> Result<Report, Failure> {
        let more = report.counts.len().saturating_sub(COUNTS_MAX);
        if more > 0 {
            report.why = format!("({more} more counts are not kept) {}", report.why);
        }
        while report.counts.len() > COUNTS_MAX {
            report.counts.pop_last();
        }
        for text in [&mut report.saw, &mut report.did, &mut report.why] {
            *text = shortened(text, TEXT_MAX_BYTES).into_owned();
        }
        let (bytes, max) = (report.remember.as_ref().map_or(0, codec::stored_len), self.limits.remembered_max_bytes);
        if bytes > max {
            return Err(Failure::permanent("keeping what is to be remembered", format!("{bytes} bytes, limit {max}")));
        }
        Ok(report)
    }

    pub(super) fn went_badly(&self, me: &Me<Message>, bad: Bad, state: &mut State) {
        let why = bad.why();
        me.card().note_failure(why.clone());
        if state.stopping {
            // The next owner begins anew.
            return;
        }
        let (now, seed) = (self.engine.now(), self.engine.seeds.next());
        let Some(agenda) = &mut state.agenda else { return };
        match agenda.failed(&bad, now, seed) {
            Some(pause) => {
                let Some(Running { number, attempt, .. }) = agenda.running() else { return };
                warn!(worker = %self.id, run = number, attempt, why, ?pause, "attempt failed, will be tried again");
                if let Some(ticket) = &mut state.under_way.ticket {
                    ticket.attempt = *attempt;
                }
                tell_later(me, pause, Message::Again(*number, *attempt));
                state.under_way.again = Some((why, now.after(pause)));
            }
            None => self.end(me, Err(why), state),
        }
    }

    fn end(&self, me: &Me<Message>, ended: Result<Report, String>, state: &mut State) {
        let Some(agenda) = &mut state.agenda else { return };
        let Some(running) = agenda.end(ended.is_ok()) else { return };
        let trace = state.under_way.ticket.take().map(|ticket| ticket.trace);
        let view = self.view_of(&running, trace, &ended);
        state.memory.runs = running.number;
        state.memory.handled = agenda.handled(self.limits.events_kept);
        match ended {
            Ok(report) => {
                debug!(worker = %self.id, run = running.number, saw = report.saw, did = report.did, "run ended");
                state.memory.failures = 0;
                if let Some(remember) = report.remember {
                    state.memory.remembered = remember;
                }
            }
            Err(why) => {
                state.memory.failures = state.memory.failures.saturating_add(1);
                self.alert(me, &running, &why, state.memory.failures);
                self.bury("worker-failed", format!("{}: {why}", self.id), running.wanted.events);
            }
        }
        for reply in state.under_way.curious.drain(..) {
            reply.ok(&view);
        }
        state.history.push_front(view.clone());
        state.history.truncate(self.limits.history);
        state.memory.last = Some(view);
        state.keeping.change();
    }

    /// A run by timer that failed is recorded, and the next tick goes on; several in a row are for
    /// a human (H17).
    fn alert(&self, me: &Me<Message>, running: &Running, why: &str, failures: u32) {
        if failures.is_multiple_of(self.limits.alert_after.max(1)) {
            error!(worker = %self.id, run = running.number, failures, why, "worker fails again and again");
            me.card().note_failure(format!("{failures} failed runs in a row, the last: {why}"));
        } else {
            warn!(worker = %self.id, run = running.number, failures, why, "run failed");
        }
    }

    fn view_of(&self, running: &Running, trace: Option<TraceId>, ended: &Result<Report, String>) -> RunView {
        let (report, error) = match ended {
            Ok(report) => (report.clone(), None),
            Err(why) => (Report::default(), Some(shortened(why, TEXT_MAX_BYTES).into_owned())),
        };
        let outcome = match (&error, report.changed) {
            (Some(_), _) => RunOutcome::Failed,
            (None, true) => RunOutcome::Changed,
            (None, false) => RunOutcome::Unchanged,
        };
        let took = self.engine.now().since(running.began);
        RunView {
            number: running.number,
            trigger: trigger(&running.wanted),
            began: running.began,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            attempts: running.attempt,
            outcome,
            saw: report.saw,
            did: report.did,
            why: report.why,
            counts: report.counts,
            error,
            trace_id: trace.unwrap_or_else(|| TraceId::new("none").expect("a word is a trace id")),
        }
    }

    /// Keeps events that no run will handle, whole, for somebody to replay (W072).
    pub(super) fn bury(&self, reason: &'static str, why: String, events: Vec<Arc<Envelope>>) {
        let (outbox, pause) = (self.engine.outbox.clone(), self.limits.port_pause);
        for event in events {
            let (outbox, why) = (outbox.clone(), why.clone());
            tokio::spawn(async move {
                let whole = serde_json::to_vec(&*event).expect("an envelope is writable as JSON");
                for _ in 0..BURY_TRIES {
                    match outbox.bury(event.tenant_id.as_str(), reason, &why, whole.clone().into()).await {
                        Ok(()) => return,
                        Err(error) => warn!(event = %event.event_id, %error, "dead letter not kept, will try again"),
                    }
                    tokio::time::sleep(pause).await;
                }
                error!(event = %event.event_id, reason, why, "a dead letter could not be kept");
            });
        }
    }
}

/// What made a run, in a few words.
pub(super) fn trigger(wanted: &Wanted) -> String {
    let first = match wanted.why() {
        Why::Timer => "timer".to_owned(),
        Why::Event(event) => format!("event {} {}", event.event_type, event.event_id),
        Why::ByHand(by) => format!("by hand ({by})"),
    };
    let all = usize::from(wanted.timer) + wanted.events.len() + wanted.asks.len();
    if all > 1 { format!("{first} and {} more", all - 1) } else { first }
}
