//! Cameras that misbehave, planted behind [`Device`]: what the source does and says.

use super::*;
use crate::picture::{Encoding, encode};
use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

/// Short waits, so that the tests are over soon.
const QUICK: Patience = Patience {
    silence: Duration::from_millis(120),
    stuck: Duration::from_millis(500),
    opening: Duration::from_millis(300),
    slice: Duration::from_millis(5),
    first_pause: Duration::from_millis(5),
    longest_pause: Duration::from_millis(20),
};

/// How long a driver keeps its thread.
const HANG: Duration = Duration::from_secs(30);

/// What the planted camera does next.
enum Act {
    /// Refuses to open.
    Refuse(fn() -> CameraError),
    /// Opens.
    Open(PixelFormat),
    /// Gives a picture of this grey, a moment later.
    Grey(u8),
    /// Gives these bytes.
    Bytes(Vec<u8>),
    /// Gives them again and again until this is set.
    BytesUntil(Vec<u8>, Arc<AtomicBool>),
    /// Sets this: everything before it was given.
    Tell(Arc<AtomicBool>),
    /// Gives a picture that the driver marks as incomplete.
    Incomplete,
    /// Loses so many pictures.
    Lose(u32),
    /// Gives nothing until it is closed.
    Silence,
    /// Stays in the driver until all is over.
    Hang,
    /// Is gone while it is read.
    Unplug,
}

use Act::{Bytes, BytesUntil, Grey, Hang, Incomplete, Lose, Open, Refuse, Silence, Tell, Unplug};

/// A camera of 16x8 pixels that does what its script says; at the end of it, it is silent.
struct Planted {
    script: Arc<Mutex<VecDeque<Act>>>,
    open: bool,
    sequence: u32,
    closed: Arc<AtomicU32>,
}

impl Planted {
    fn next(&self) -> Act {
        let mut script = self.script.lock().expect("script");
        script.pop_front().unwrap_or(Silence)
    }

    fn put_back(&self, act: Act) {
        self.script.lock().expect("script").push_front(act);
    }
}

impl Device for Planted {
    fn open(&mut self) -> Result<Opened, CameraError> {
        assert!(!self.open, "opened twice");
        match self.next() {
            Open(format) => {
                self.open = true;
                self.sequence = 0;
                Ok(Opened {
                    number: 0,
                    name: "Planted".to_owned(),
                    mode: Mode {
                        format,
                        width: 16,
                        height: 8,
                        rate: Some(Rate::whole(30)),
                    },
                    stride: 0,
                })
            }
            Refuse(why) => Err(why()),
            Hang => {
                std::thread::sleep(HANG);
                Err(CameraError::Vanished)
            }
            other => {
                self.put_back(other);
                Err(CameraError::Absent)
            }
        }
    }

    fn read(&mut self, picture: &mut Picture, limit: Duration) -> Result<bool, CameraError> {
        assert!(self.open, "read though it is closed");
        let act = self.next();
        picture.damaged = false;
        picture.bytes.clear();
        match act {
            Grey(grey) => picture.bytes.resize(16 * 8, grey),
            Bytes(bytes) => picture.bytes.extend(bytes),
            BytesUntil(bytes, over) => {
                picture.bytes.extend(&bytes);
                if !over.load(Ordering::Relaxed) {
                    self.put_back(BytesUntil(bytes, over));
                }
            }
            Incomplete => picture.damaged = true,
            Lose(count) => {
                self.sequence += count;
                return Ok(false);
            }
            Tell(given) => {
                given.store(true, Ordering::Relaxed);
                return Ok(false);
            }
            Unplug => return Err(CameraError::Vanished),
            Hang => {
                std::thread::sleep(HANG);
                return Err(CameraError::Vanished);
            }
            // The next opening is not for this one.
            other => {
                if !matches!(other, Silence) {
                    self.put_back(other);
                }
                std::thread::sleep(limit);
                return Ok(false);
            }
        }
        std::thread::sleep(Duration::from_millis(4));
        picture.sequence = self.sequence;
        self.sequence += 1;
        Ok(true)
    }

    fn close(&mut self) {
        self.open = false;
        self.closed.fetch_add(1, Ordering::Relaxed);
    }
}

fn plant_for(
    script: Vec<Act>,
    give_up_after: Option<Duration>,
) -> Result<(CameraSource, Arc<AtomicU32>), SourceError> {
    let script = Arc::new(Mutex::new(VecDeque::from(script)));
    let closed = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&closed);
    let make = move || {
        Box::new(Planted {
            script: Arc::clone(&script),
            open: false,
            sequence: 0,
            closed: Arc::clone(&closed),
        }) as Box<dyn Device>
    };
    CameraSource::with_patience(0, Box::new(make), give_up_after, QUICK)
        .map(|source| (source, seen))
}

fn plant(script: Vec<Act>) -> CameraSource {
    plant_for(script, None).expect("it opens").0
}

/// Reads until a frame of this grey comes; gives all greys up to it with their stamps.
fn read_until(source: &mut CameraSource, grey: u8) -> Vec<(u8, FrameStamp)> {
    let mut frame = Frame::default();
    let mut read = Vec::new();
    while read.last().is_none_or(|(last, _)| *last != grey) {
        let stamp = source.next(&mut frame).expect("no error").expect("no end");
        read.push((frame.rgb()[0], stamp));
    }
    read
}

fn jpeg() -> Vec<u8> {
    let mut frame = Frame::new(16, 8);
    frame.rgb_mut().fill(200);
    encode(&frame, Encoding::Jpeg).expect("JPEG")
}

#[test]
fn the_newest_picture_wins_and_what_is_lost_is_counted() {
    let given = Arc::new(AtomicBool::new(false));
    let mut script = vec![Open(PixelFormat::Grey)];
    script.extend((1..=6).map(Grey));
    script.push(Tell(Arc::clone(&given)));
    script.extend((7..=20).map(Grey));
    script.extend([Lose(5), Grey(21)]);
    let mut source = plant(script);
    assert_eq!(
        source.description(),
        "camera 0 (Planted), 16x8 GREY at 30 fps"
    );
    assert_eq!(
        (source.frame_size(), source.frame_rate()),
        (Some((16, 8)), Some(30.0))
    );
    while !given.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let read = read_until(&mut source, 21);
    // The first ones were overwritten; the index says how many.
    let lost = if read[0].0 == 21 { 5 } else { 0 };
    assert!(
        read[0].0 >= 6 && u64::from(read[0].0) + lost == read[0].1.index + 1,
        "{read:?}"
    );
    assert_eq!(read.last().map(|(_, stamp)| stamp.index), Some(25));
    assert!(read.is_sorted_by(|a, b| a.1.index < b.1.index && a.1.time_secs < b.1.time_secs));
    assert_eq!(source.state().outages(), 0);
    assert!(
        source
            .captured_at()
            .is_some_and(|at| at.elapsed() < Duration::from_secs(2))
    );
}

#[test]
fn a_camera_that_is_unplugged_is_opened_again_when_it_is_back() {
    let (mut source, closed) = plant_for(
        vec![
            Open(PixelFormat::Grey),
            Grey(1),
            Unplug,
            Refuse(|| CameraError::Absent),
            Refuse(|| CameraError::Absent),
            Refuse(|| CameraError::Busy { number: 4 }),
            Open(PixelFormat::Grey),
            Grey(2),
            Grey(3),
        ],
        None,
    )
    .expect("it opens");
    let state = source.state();
    let reader = std::thread::spawn(move || {
        let read = read_until(&mut source, 3);
        (read, source)
    });
    let mut reasons = Vec::new();
    while !reader.is_finished() {
        if let Some(outage) = state.outage()
            && reasons.last() != Some(&outage.reason)
        {
            reasons.push(outage.reason);
        }
        std::thread::yield_now();
    }
    let (read, source) = reader.join().expect("reader");
    assert!(read.is_sorted_by(|a, b| a.1.index < b.1.index && a.1.time_secs < b.1.time_secs));
    assert!(
        reasons
            .iter()
            .any(|reason| reason.contains("another program uses it")),
        "{reasons:?}"
    );
    assert!(reasons[0].starts_with("camera 0 is gone: "), "{reasons:?}");
    assert_eq!(
        (state.outages(), state.returns(), state.outage()),
        (1, 1, None)
    );
    drop(source);
    assert!(closed.load(Ordering::Relaxed) >= 2);
}

#[test]
fn ten_times_unplugged_is_ten_times_back() {
    let mut script = vec![Open(PixelFormat::Grey)];
    for plug in 1..=10 {
        script.extend([Grey(plug), Unplug, Open(PixelFormat::Grey)]);
    }
    script.extend([Grey(11), Grey(12)]);
    let mut source = plant(script);
    let read = read_until(&mut source, 12);
    let state = source.state();
    // A plug whose only picture was overtaken by the unplugging is an outage that goes on.
    assert!((1..=10).contains(&state.outages()), "{}", state.outages());
    assert_eq!((state.returns(), state.outage()), (state.outages(), None));
    assert!(read.is_sorted_by(|a, b| a.1.time_secs < b.1.time_secs));
}

#[test]
fn silence_counts_as_gone() {
    let mut source = plant(vec![
        Open(PixelFormat::Grey),
        Grey(1),
        Silence,
        Open(PixelFormat::Grey),
        Grey(2),
    ]);
    let begun = Instant::now();
    read_until(&mut source, 2);
    assert!(begun.elapsed() >= QUICK.silence);
    assert_eq!(
        (source.state().outages(), source.state().outage()),
        (1, None)
    );
}

#[test]
fn damaged_pictures_are_skipped_and_counted() {
    let cut = jpeg()[..300].to_vec();
    let mut source = plant(vec![
        Open(PixelFormat::Mjpeg),
        Bytes(cut.clone()),
        Silence,
        Incomplete,
        Silence,
        Bytes(Vec::new()),
        Silence,
        Bytes(jpeg()),
    ]);
    let mut frame = Frame::default();
    let stamp = source.next(&mut frame).expect("a frame").expect("a frame");
    assert!(
        frame.pixel(3, 3)[1].abs_diff(200) < 4,
        "{:?}",
        frame.pixel(3, 3)
    );
    // One that was overtaken by the next before anybody looked at it is not known to be damaged.
    let damaged = source.state().damaged();
    assert!(
        stamp.index == 3 && (1..=3).contains(&damaged),
        "{stamp:?} {damaged}"
    );
    assert_eq!(source.skipped().len(), 1);
    assert!(
        source.skipped()[0].contains("damaged picture"),
        "{:?}",
        source.skipped()
    );
    assert_eq!(source.state().outages(), 0);
}

#[test]
fn a_camera_that_gives_damaged_pictures_only_is_opened_anew() {
    let mut script = vec![Open(PixelFormat::Mjpeg)];
    script.extend((0..80).map(|_| Incomplete));
    let mut source = plant(script);
    let state = source.state();
    let later = std::thread::spawn(move || source.next(&mut Frame::default()).map(|_| ()));
    while state.outage().is_none() {
        assert!(!later.is_finished());
        std::thread::sleep(Duration::from_millis(2));
    }
    let reason = state
        .outage()
        .map(|outage| outage.reason)
        .unwrap_or_default();
    assert!(reason.contains("damaged pictures only"), "{reason}");
    state.stop();
    assert!(later.join().expect("thread").is_ok());
}

#[test]
fn one_damaged_picture_after_a_long_pause_of_the_consumer_is_not_an_outage() {
    let [away, over] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let script = vec![
        Open(PixelFormat::Mjpeg),
        BytesUntil(jpeg(), Arc::clone(&away)),
        BytesUntil(Vec::new(), Arc::clone(&over)),
        Bytes(jpeg()),
    ];
    // Were it opened anew, it would not come back.
    let (mut source, _) = plant_for(script, Some(Duration::from_secs(1))).expect("it opens");
    let mut frame = Frame::default();
    source.next(&mut frame).expect("a frame").expect("a frame");
    away.store(true, Ordering::Relaxed);
    std::thread::sleep(QUICK.silence + Duration::from_millis(50));
    let state = source.state();
    let watch = std::thread::spawn(move || {
        while state.damaged() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        over.store(true, Ordering::Relaxed);
    });
    source.next(&mut frame).expect("a frame").expect("a frame");
    watch.join().expect("thread");
}

#[test]
fn a_camera_is_given_up_when_asked_to() {
    let limit = Duration::from_millis(150);
    let script = vec![Open(PixelFormat::Grey), Grey(1), Unplug];
    let (mut source, _) = plant_for(script, Some(limit)).expect("it opens");
    let begun = Instant::now();
    let mut frame = Frame::default();
    let error = loop {
        match source.next(&mut frame) {
            Ok(stamp) => assert!(stamp.is_some(), "it ended"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        begun.elapsed() >= limit && error.contains("not plugged in"),
        "{error}"
    );
}

#[test]
fn a_driver_that_keeps_its_thread_is_left_behind() {
    let mut source = plant(vec![
        Open(PixelFormat::Grey),
        Grey(1),
        Hang,
        Open(PixelFormat::Grey),
        Grey(2),
    ]);
    let begun = Instant::now();
    let read = read_until(&mut source, 2);
    assert!(begun.elapsed() < HANG / 2, "{:?}", begun.elapsed());
    assert!(read.is_sorted_by(|a, b| a.1.index < b.1.index));
    assert_eq!(
        (source.state().outages(), source.state().outage()),
        (1, None)
    );
}

#[test]
fn what_is_wrong_at_the_beginning_is_said_at_once() {
    let begun = Instant::now();
    for (act, words) in [
        (
            Refuse(|| CameraError::Busy { number: 3 }),
            "another program uses it",
        ),
        (
            Refuse(|| CameraError::Denied { number: 3 }),
            "group `video`",
        ),
        (Refuse(|| CameraError::Vanished), "unplugged"),
        (
            Refuse(|| CameraError::FractionalRate {
                rate: Rate {
                    frames: 25,
                    seconds: 2,
                },
                reason: "no".to_owned(),
            }),
            "25/2",
        ),
        (
            Refuse(|| CameraError::UnknownFormat {
                code: "H264".to_owned(),
                reason: "no".to_owned(),
            }),
            "H264",
        ),
        (Hang, "has not answered"),
    ] {
        let error = plant_for(vec![act], None)
            .err()
            .expect("an error")
            .to_string();
        assert!(
            error.starts_with("camera 0: ") && error.contains(words),
            "{error}"
        );
    }
    assert!(begun.elapsed() < HANG / 2);
}

#[test]
fn a_source_that_waits_ends_when_it_is_told_to() {
    let mut source = plant(vec![Open(PixelFormat::Grey), Grey(1), Unplug]);
    read_until(&mut source, 1);
    let state = source.state();
    let waits = std::thread::spawn(move || source.next(&mut Frame::default()));
    while state.outage().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    state.stop();
    assert!(matches!(waits.join().expect("thread"), Ok(None)));
}
