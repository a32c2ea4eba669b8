//! Outputs that block, fail, panic or are slow: the others get everything, and the run ends in time.

use super::super::Patience;
use super::*;
use crate::live::lane::Ending;
use std::{
    sync::{
        Mutex,
        atomic::AtomicBool,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// What a sink got, and whether it was completed.
#[derive(Clone, Default)]
struct Seen {
    frames: Arc<Mutex<Vec<u64>>>,
    finished: Arc<AtomicBool>,
}

impl Seen {
    fn frames(&self) -> Vec<u64> {
        self.frames.lock().expect("no panic").clone()
    }

    fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }
}

/// What a planted sink does with the frame of a given index.
enum Act {
    Take,
    /// Until the sender is gone.
    BlockAt(u64, Receiver<()>),
    FailAt(u64),
    PanicAt(u64),
    Slow(Duration),
    BlockAtEnd(Receiver<()>),
}

struct Planted {
    seen: Seen,
    act: Act,
}

impl Planted {
    fn new(act: Act) -> (Self, Seen) {
        let seen = Seen::default();
        let planted = Self {
            seen: seen.clone(),
            act,
        };
        (planted, seen)
    }

    fn take(&mut self, index: u64) -> Result<(), SinkError> {
        match &self.act {
            Act::BlockAt(at, gate) if *at == index => drop(gate.recv()),
            Act::FailAt(at) if *at == index => {
                return Err(SinkError::Write {
                    path: "planted".into(),
                    source: std::io::Error::other("no space left"),
                });
            }
            Act::PanicAt(at) if *at == index => panic!("planted"),
            Act::Slow(delay) => thread::sleep(*delay),
            _ => {}
        }
        self.seen.frames.lock().expect("no panic").push(index);
        Ok(())
    }

    fn end(&self) -> Option<String> {
        if let Act::BlockAtEnd(gate) = &self.act {
            let _ = gate.recv();
        }
        self.seen.finished.store(true, Ordering::Relaxed);
        Some("planted".to_owned())
    }
}

impl RecordSink for Planted {
    fn write(&mut self, record: &FrameRecord<'_>) -> Result<(), SinkError> {
        self.take(record.frame)
    }

    fn finish(self: Box<Self>) -> Result<Option<String>, SinkError> {
        Ok(self.end())
    }
}

impl FrameSink for Planted {
    fn write(&mut self, drawn: DrawnFrame<'_>) -> Result<(), SinkError> {
        assert_eq!(drawn.frame.width(), 32);
        self.take(drawn.index)
    }

    fn finish(self: Box<Self>) -> Result<Option<String>, SinkError> {
        Ok(self.end())
    }
}

fn gate() -> (Sender<()>, Receiver<()>) {
    channel()
}

fn settings(newest_wins: bool) -> OutputSettings {
    OutputSettings {
        painting: Painting::default(),
        scheme: Scheme::Mtfl5,
        newest_wins,
        patience: Patience {
            // Longer than a panic takes to print where it was.
            item: Some(Duration::from_secs(1)),
            item_when_ending: Duration::from_millis(100),
            finish: Some(Duration::from_secs(1)),
        },
        ending: Ending::default(),
        watched: false,
    }
}

/// Offers frames 0 to `count` and lets the outputs finish.
fn give(outputs: Vec<Output>, settings: OutputSettings, count: u64) -> OutputsEnd {
    let mut outputs = Outputs::start(outputs, settings).expect("threads");
    let mut inferred = Inferred {
        frame: Frame::new(32, 24),
        ..Inferred::default()
    };
    for index in 0..count {
        inferred.stamp.index = index;
        outputs.offer(&inferred);
    }
    outputs.finish()
}

fn failure_of<'a>(end: &'a OutputsEnd, name: &str) -> &'a str {
    let report = end.reports.iter().find(|report| report.name == name);
    let failure = report.expect("a report an output").failure.as_deref();
    failure.unwrap_or_default()
}

fn all(count: u64) -> Vec<u64> {
    (0..count).collect()
}

#[test]
fn of_a_recorded_source_nothing_is_lost_beside_a_blocked_and_a_failing_output() {
    // More than any queue holds, so that the blocked ones are waited for.
    let count = 2 * RECORDS_QUEUED as u64;
    let (good_record, records) = Planted::new(Act::Take);
    let (good_frame, frames) = Planted::new(Act::Slow(Duration::from_micros(100)));
    let (_held, receiver) = gate();
    let (blocked, blocked_frames) = Planted::new(Act::BlockAt(3, receiver));
    let (_held_too, receiver) = gate();
    let (blocked_record, blocked_records) = Planted::new(Act::BlockAt(5, receiver));
    let (failing, failing_frames) = Planted::new(Act::FailAt(2));
    let (panicking, _) = Planted::new(Act::PanicAt(7));
    let begun = Instant::now();
    let end = give(
        vec![
            Output::records("blocked record", blocked_record),
            Output::records("good record", good_record),
            Output::records("panicking", panicking),
            Output::frames("blocked", Box::new(blocked), 1),
            Output::frames("failing", Box::new(failing), 1),
            Output::frames("good", Box::new(good_frame), 1),
        ],
        settings(false),
        count,
    );
    // A run that hangs takes for ever; this is no measurement.
    assert!(begun.elapsed() < Duration::from_secs(60));
    for good in [&records, &frames] {
        assert_eq!(good.frames(), all(count));
        assert!(good.is_finished());
    }
    assert_eq!(failing_frames.frames(), [0, 1]);
    assert_eq!(blocked_frames.frames(), [0, 1, 2]);
    assert_eq!(blocked_records.frames(), all(5));
    assert!(!failing_frames.is_finished() && !blocked_frames.is_finished());
    for (name, words) in [
        ("blocked", "took nothing for 1 s"),
        ("blocked record", "took nothing for 1 s"),
        ("failing", "planted: cannot write: no space left"),
        ("panicking", "panicked"),
        ("good", ""),
        ("good record", ""),
    ] {
        let failure = failure_of(&end, name);
        assert!(
            failure.contains(words) && failure.is_empty() == words.is_empty(),
            "{name}: {failure}"
        );
    }
    assert!(matches!(end.error, Some(SinkError::Stuck { .. })));
}

#[test]
fn of_a_live_source_nobody_waits_and_what_is_lost_is_counted() {
    let count = 2000;
    let (good_record, records) = Planted::new(Act::Slow(Duration::from_micros(50)));
    let (held, receiver) = gate();
    let (blocked, blocked_records) = Planted::new(Act::BlockAt(3, receiver));
    let mut outputs = Outputs::start(
        vec![
            Output::records("blocked", blocked),
            Output::records("good", good_record),
        ],
        settings(true),
    )
    .expect("threads");
    let mut inferred = Inferred::default();
    for index in 0..count {
        inferred.stamp.index = index;
        outputs.offer(&inferred);
        // A camera's pace: the good one keeps up with it.
        thread::sleep(Duration::from_micros(200));
    }
    // It goes on after all.
    drop(held);
    let end = outputs.finish();
    assert!(end.error.is_none(), "{:?}", end.error);
    let [blocked, good] = end.reports.as_slice() else {
        panic!("two reports: {:?}", end.reports);
    };
    assert_eq!(
        (good.taken, good.dropped, records.frames().len() as u64),
        (count, 0, count)
    );
    assert_eq!(blocked.taken + blocked.dropped, count);
    assert!(blocked.dropped > count / 2, "{blocked:?}");
    let seen = blocked_records.frames();
    assert!(seen.is_sorted_by(|a, b| a < b) && seen.len() as u64 == blocked.taken);
}

#[test]
fn an_output_that_does_not_finish_is_given_up_and_the_others_are_complete() {
    let (good, seen) = Planted::new(Act::Take);
    let (_held, receiver) = gate();
    let (endless, _) = Planted::new(Act::BlockAtEnd(receiver));
    let end = give(
        vec![
            Output::frames("endless", Box::new(endless), 1),
            Output::frames("good", Box::new(good), 3),
        ],
        settings(false),
        10,
    );
    assert!(failure_of(&end, "endless").contains("took nothing"));
    assert_eq!(failure_of(&end, "good"), "");
    assert_eq!(seen.frames(), [0, 3, 6, 9]);
    assert!(seen.is_finished());
}

#[test]
fn a_lone_output_is_waited_for_until_the_run_is_asked_to_end() {
    let (held, receiver) = gate();
    let (slow, seen) = Planted::new(Act::BlockAt(0, receiver));
    let opener = thread::spawn(move || {
        // Longer than others are waited for.
        thread::sleep(Duration::from_millis(1300));
        drop(held);
    });
    let count = RECORDS_QUEUED as u64 + 5;
    let end = give(vec![Output::records("pager", slow)], settings(false), count);
    opener.join().expect("no panic");
    assert!(end.error.is_none() && seen.is_finished());
    assert_eq!(seen.frames(), all(count));

    let (_held, receiver) = gate();
    let (blocked, _) = Planted::new(Act::BlockAt(0, receiver));
    let settings = settings(false);
    settings.ending.stop.store(true, Ordering::Relaxed);
    let end = give(vec![Output::records("pager", blocked)], settings, 5);
    assert!(failure_of(&end, "pager").contains("took nothing for 0.1 s"));
}

#[test]
fn when_every_output_has_ended_nobody_is_left() {
    for watched in [false, true] {
        let settings = OutputSettings {
            watched,
            ..settings(false)
        };
        let (failing, _) = Planted::new(Act::FailAt(0));
        let outputs = vec![Output::records("failing", failing)];
        let mut outputs = Outputs::start(outputs, settings).expect("threads");
        assert!(!outputs.nobody_is_left());
        outputs.offer(&Inferred::default());
        let deadline = Instant::now() + Duration::from_secs(20);
        while outputs.open.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(outputs.nobody_is_left(), !watched);
    }
    let none = Outputs::start(Vec::new(), settings(false)).expect("threads");
    assert!(!none.nobody_is_left());
}
