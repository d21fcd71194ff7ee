use proptest::prelude::*;
use protocol::{Tenant, TraceId, Value};

use super::*;

const NOW: Time = Time::from_micros(0);

fn agenda(limits: Limits) -> Agenda {
    Agenda::new(Arc::new(limits), Retry::max(3), 0, false, &[])
}

fn event(id: &str) -> Arc<Envelope> {
    Arc::new(Envelope {
        event_id: EventId::new(id).unwrap(),
        event_type: "Happened".into(),
        tenant_id: Tenant::new("acme").unwrap(),
        project_id: None,
        module_id: None,
        trace_id: TraceId::new("t").unwrap(),
        correlation_id: "c".into(),
        causation_id: "c".into(),
        causes: 0,
        sequence: 0,
        occurred_at: NOW,
        payload: Value::Null,
    })
}

fn asked(by: &str) -> Asked {
    Asked { by: Principal::new(by).unwrap(), trace: None, id: "cmd".into() }
}

/// Plays a story, a word each, and tells which runs began and what for.
fn play(story: &str) -> Vec<String> {
    let mut agenda = agenda(Limits { events_per_run: 2, asks_per_run: 2, ..Limits::default() });
    let mut told = Vec::new();
    for word in story.split(' ') {
        match word.split_once(':').unwrap_or((word, "")) {
            ("tick", _) => agenda.tick(),
            ("event", id) => {
                let heard = agenda.event(&event(id));
                if heard != Heard::Taken {
                    told.push(format!("{id} {heard:?}"));
                }
            }
            ("ask", by) => match agenda.ask(asked(by)) {
                Some(_) => {}
                None => told.push(format!("{by} busy")),
            },
            ("pause", _) => agenda.pause(),
            ("resume", _) => agenda.resume(),
            ("end", _) => drop(agenda.end(true)),
            ("fail", _) => drop(agenda.end(false)),
            (other, _) => panic!("{other}"),
        }
        if let Some(Running { number, wanted, .. }) = agenda.begin(NOW) {
            let mut why: Vec<String> = wanted.timer.then(|| "timer".to_owned()).into_iter().collect();
            why.extend(wanted.events.iter().map(|event| event.event_id.to_string()));
            why.extend(wanted.asks.iter().map(|asked| asked.by.to_string()));
            told.push(format!("{number}: {}", why.join("+")));
        }
    }
    told
}

#[test]
fn what_comes_and_what_runs() {
    for (story, runs) in [
        ("tick", &["1: timer"][..]),
        // Whatever comes during a run is exactly one run after it.
        ("tick tick tick event:e1 ask:ann tick end end", &["1: timer", "2: timer+e1+ann"]),
        ("event:e1 event:e1 end event:e1", &["1: e1", "e1 Known", "e1 Known"]),
        // What failed for good is a dead letter, and may come again from there.
        ("event:e1 fail event:e1", &["1: e1", "2: e1"]),
        ("pause tick event:e1 ask:ann end resume", &["1: ann", "2: timer+e1"]),
        ("tick pause tick end tick resume", &["1: timer", "2: timer"]),
        ("resume", &[]),
        ("tick event:a event:b event:c end event:c", &["1: timer", "c Full", "2: a+b"]),
        ("tick ask:a ask:b ask:c end", &["1: timer", "c busy", "2: a+b"]),
    ] {
        assert_eq!(play(story), runs, "{story}");
    }
}

/// H05, with rows of at most three events: what begins a row, what makes it longer, what ends it.
#[test]
fn a_row_of_events_is_counted_up_to_its_end() {
    const MAX: u32 = 3;
    let after = |causes: u32| Arc::new(Envelope { causes, ..(*event("e")).clone() });
    for (timer, asks, events, expected) in [
        (true, 0, &[][..], Some(0)),
        (false, 1, &[2], Some(0)),
        (false, 0, &[0], Some(1)),
        (false, 0, &[0, 1], Some(2)),
        (false, 0, &[2], None),
        (false, 0, &[2, u32::MAX], None),
        // Something else happened too: that is a reason to act.
        (false, 0, &[2, 0], Some(1)),
        (true, 0, &[2], Some(0)),
        (true, 0, &[1], Some(2)),
    ] {
        let events = events.iter().map(|causes| after(*causes)).collect();
        let wanted = Wanted { timer, events, more: false, asks: vec![asked("ann"); asks] };
        assert_eq!(wanted.causes(MAX), expected, "{wanted:?}");
    }
}

#[test]
fn attempts_are_bounded_and_a_permanent_failure_is_the_last() {
    let failed = Bad::Failed(Failure::transient("looking", "slow"));
    let mut agenda = agenda(Limits::default());
    agenda.tick();
    agenda.begin(NOW).unwrap();
    assert!(agenda.failed(&failed, NOW, 1).is_some());
    assert!(agenda.failed(&failed, NOW, 1).is_some());
    assert_eq!(agenda.failed(&failed, NOW, 1), None, "three attempts in all");
    assert_eq!(agenda.end(false).unwrap().attempt, 3);
    agenda.tick();
    agenda.begin(NOW).unwrap();
    assert_eq!(agenda.failed(&Bad::Failed(Failure::permanent("looking", "gone")), NOW, 1), None);
}

#[test]
fn deaths_are_answered_with_growing_pauses_and_then_the_run_has_failed() {
    let limits = Arc::new(Limits::default());
    let mut agenda = Agenda::new(limits, Retry::max(100), 0, false, &[]);
    agenda.tick();
    agenda.begin(NOW).unwrap();
    let died = Bad::Died("panicked".into());
    let pauses: Vec<_> = (0..6).map(|_| agenda.failed(&died, NOW, 1).map(|pause| pause.as_millis())).collect();
    assert_eq!(pauses, [Some(50), Some(100), Some(200), Some(400), Some(800), None]);
}

#[test]
fn the_window_of_known_events_is_bounded_and_moves_with_the_worker() {
    let mut first = agenda(Limits { events_seen: 3, ..Limits::default() });
    for id in ["a", "b", "c", "d"] {
        assert_eq!(first.event(&event(id)), Heard::Taken);
        first.begin(NOW);
        first.end(true);
    }
    assert_eq!(first.event(&event("a")), Heard::Taken, "forgotten");
    assert_eq!(first.event(&event("d")), Heard::Known);
    let kept = first.handled(2);
    assert_eq!(kept.iter().map(EventId::as_str).collect::<Vec<_>>(), ["c", "d"], "a waits and is not handled");
    let mut next = Agenda::new(Arc::new(Limits::default()), Retry::max(1), 4, false, &kept);
    assert_eq!((next.event(&event("d")), next.event(&event("a"))), (Heard::Known, Heard::Taken));
    assert_eq!(next.begin(NOW).unwrap().number, 5);
}

proptest! {
    #[test]
    fn every_event_is_taken_once_and_runs_never_overlap(words in prop::collection::vec(0u8..8, 1..200)) {
        let mut agenda = agenda(Limits { events_per_run: 4, ..Limits::default() });
        let (mut running, mut number, mut came, mut taken, mut ran) = (false, 0, 0, Vec::new(), Vec::new());
        for word in words {
            match word {
                0 | 1 => agenda.tick(),
                2 | 3 => {
                    // Each comes twice.
                    let id = format!("e{}", came / 2);
                    came += 1;
                    if agenda.event(&event(&id)) == Heard::Taken {
                        taken.push(id);
                    }
                }
                4 => drop(agenda.ask(asked("ann"))),
                5 => agenda.pause(),
                6 => agenda.resume(),
                _ => running &= agenda.end(true).is_none(),
            }
            if let Some(begun) = agenda.begin(NOW) {
                prop_assert!(!running, "one at a time");
                prop_assert_eq!(begun.number, number + 1);
                (running, number) = (true, begun.number);
                ran.extend(begun.wanted.events.iter().map(|event| event.event_id.to_string()));
            }
        }
        agenda.resume();
        agenda.end(true);
        if let Some(begun) = agenda.begin(NOW) {
            ran.extend(begun.wanted.events.iter().map(|event| event.event_id.to_string()));
        }
        prop_assert_eq!(ran, taken, "in order, none lost, none twice");
    }
}
