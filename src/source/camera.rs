//! Webcams through nokhwa. A thread of its own reads the driver without a pause, so that its buffers never fill with old
//! pictures, and so that a camera that has gone silent can be told from one that is slow.

use super::{CAMERA_PLACES, CameraDescription, FrameStamp, Source, SourceError, SourceKind, yuv};
use crate::{frame::Frame, picture};
use nokhwa::{
    Camera,
    utils::{
        ApiBackend, CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType,
        Resolution,
    },
};
use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long a camera may give no picture.
const SILENCE: Duration = Duration::from_secs(5);

/// How long opening may take; each refused format costs a driver call.
const OPENING: Duration = Duration::from_secs(20);

/// Sizes and rates, best first. Small pictures are all that the networks see; VGA is what every webcam gives fast.
const SIZES: [(u32, u32); 6] = [
    (640, 480),
    (800, 600),
    (640, 360),
    (1280, 720),
    (352, 288),
    (320, 240),
];
const RATES: [u32; 6] = [30, 60, 25, 20, 15, 10];
const FORMATS: [FrameFormat; 3] = [FrameFormat::YUYV, FrameFormat::MJPEG, FrameFormat::RAWRGB];

/// Damaged pictures in a row after which the camera is given up.
const DAMAGE_LIMIT: u32 = 100;

/// The newest picture of the driver, still encoded.
#[derive(Default)]
struct Newest {
    bytes: Vec<u8>,
    count: u64,
    at: Option<Instant>,
    failure: Option<String>,
}

#[derive(Default)]
struct Shared {
    newest: Mutex<Newest>,
    changed: Condvar,
    stop: AtomicBool,
}

/// A webcam.
pub(super) struct CameraSource {
    index: u32,
    name: String,
    format: CameraFormat,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    /// Bytes of the picture that is being decoded; changes places with the newest one.
    bytes: Vec<u8>,
    taken: u64,
    start: Option<Instant>,
    skipped: Vec<String>,
}

impl CameraSource {
    /// Opens camera `index` in the best format that it takes.
    pub(super) fn open(index: u32) -> Result<Self, SourceError> {
        if !list().iter().any(|camera| camera.index == index) {
            return Err(SourceError::NoCamera {
                index,
                found: what_there_is(),
            });
        }
        let shared = Arc::new(Shared::default());
        let (opened, opening) = mpsc::channel();
        let in_thread = Arc::clone(&shared);
        let failed = |reason: String| SourceError::Camera { index, reason };
        // The camera is opened in the thread that reads it: it cannot be moved to another.
        let reader = std::thread::Builder::new()
            .name("camera".to_owned())
            .spawn(move || read(index, &in_thread, &opened))
            .map_err(|error| failed(error.to_string()))?;
        let (name, format) = opening
            .recv_timeout(OPENING)
            .map_err(|_| failed(format!("did not open within {} s", OPENING.as_secs())))?
            .map_err(failed)?;
        Ok(Self {
            index,
            name,
            format,
            shared,
            reader: Some(reader),
            bytes: Vec::new(),
            taken: 0,
            start: None,
            skipped: Vec::new(),
        })
    }

    /// Waits for a picture newer than the last one and takes its bytes.
    fn take(&mut self) -> Result<Instant, SourceError> {
        let failed = |reason: String| SourceError::Camera {
            index: self.index,
            reason,
        };
        let newest = lock(&self.shared.newest);
        let (mut newest, _) = self
            .shared
            .changed
            .wait_timeout_while(newest, SILENCE, |newest| {
                newest.count == self.taken && newest.failure.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        if newest.count == self.taken {
            let silent = || format!("gave no picture for {} s", SILENCE.as_secs());
            return Err(failed(newest.failure.take().unwrap_or_else(silent)));
        }
        self.taken = newest.count;
        std::mem::swap(&mut self.bytes, &mut newest.bytes);
        newest
            .at
            .ok_or_else(|| failed("a picture without a time".to_owned()))
    }

    fn decode(&self, frame: &mut Frame) -> Result<(), String> {
        let (width, height) = (self.format.width() as usize, self.format.height() as usize);
        match self.format.format() {
            FrameFormat::MJPEG => {
                *frame = picture::decode(&self.bytes)?;
                return Ok(());
            }
            FrameFormat::YUYV if self.bytes.len() >= 2 * width * height => {
                frame.reshape(width, height);
                yuv::rgb_from_yuyv(&self.bytes, frame.rgb_mut());
            }
            FrameFormat::RAWRGB if self.bytes.len() >= 3 * width * height => {
                frame.reshape(width, height);
                frame
                    .rgb_mut()
                    .copy_from_slice(&self.bytes[..3 * width * height]);
            }
            other => {
                return Err(format!("{} bytes of {other}", self.bytes.len()));
            }
        }
        Ok(())
    }
}

impl Source for CameraSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Live
    }

    fn description(&self) -> String {
        format!(
            "camera {} ({}), {}x{} {}, {} fps",
            self.index,
            self.name,
            self.format.width(),
            self.format.height(),
            self.format.format(),
            self.format.frame_rate()
        )
    }

    fn frame_rate(&self) -> Option<f64> {
        Some(f64::from(self.format.frame_rate()))
    }

    fn frame_size(&self) -> Option<(usize, usize)> {
        Some((self.format.width() as usize, self.format.height() as usize))
    }

    fn next(&mut self, frame: &mut Frame) -> Result<Option<FrameStamp>, SourceError> {
        let mut damaged = 0;
        loop {
            let at = self.take()?;
            match self.decode(frame) {
                Ok(()) => {
                    let start = *self.start.get_or_insert(at);
                    return Ok(Some(FrameStamp {
                        index: self.taken - 1,
                        time_secs: at.duration_since(start).as_secs_f64(),
                    }));
                }
                Err(reason) => {
                    tracing::warn!("camera {}: damaged picture: {reason}", self.index);
                    if self.skipped.is_empty() {
                        self.skipped
                            .push(format!("camera {}: {reason}", self.index));
                    }
                    damaged += 1;
                    if damaged == DAMAGE_LIMIT {
                        return Err(SourceError::Camera {
                            index: self.index,
                            reason: format!("{damaged} damaged pictures in a row: {reason}"),
                        });
                    }
                }
            }
        }
    }

    fn skipped(&self) -> &[String] {
        &self.skipped
    }
}

impl Drop for CameraSource {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A silent camera keeps its thread inside the driver for ever; only a thread that is at its end is waited for.
        let deadline = Instant::now() + Duration::from_millis(500);
        if let Some(reader) = self.reader.take() {
            while !reader.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            if reader.is_finished() {
                // A panic of the driver's wrapper at the end of the stream is not ours to pass on.
                let _ = reader.join();
            }
        }
    }
}

type Opened = Result<(String, CameraFormat), String>;

fn read(index: u32, shared: &Shared, opened: &mpsc::Sender<Opened>) {
    let mut camera = match open_first(index) {
        Ok(camera) => camera,
        Err(reason) => {
            let _ = opened.send(Err(reason));
            return;
        }
    };
    let _ = opened.send(Ok((camera.info().human_name(), camera.camera_format())));
    while !shared.stop.load(Ordering::Relaxed) {
        match camera.frame() {
            Ok(buffer) => {
                let mut newest = lock(&shared.newest);
                newest.bytes.clear();
                newest.bytes.extend_from_slice(buffer.buffer());
                newest.count += 1;
                newest.at = Some(Instant::now());
            }
            Err(error) => {
                lock(&shared.newest).failure = Some(error.to_string());
                shared.changed.notify_all();
                return;
            }
        }
        shared.changed.notify_all();
    }
    // Failing to stop leaves nothing to do: the device closes with the camera.
    let _ = camera.stop_stream();
}

/// Tries the formats one after the other. Only exact requests are reliable: the closest one fails when the very size is
/// not listed, and the highest resolution may come at two pictures a second.
fn open_first(index: u32) -> Result<Camera, String> {
    let mut first_error = None;
    for rate in RATES {
        for (width, height) in SIZES {
            for format in FORMATS {
                let wanted = CameraFormat::new(Resolution::new(width, height), format, rate);
                let request =
                    RequestedFormat::with_formats(RequestedFormatType::Exact(wanted), &FORMATS);
                let camera = Camera::new(CameraIndex::Index(index), request)
                    .and_then(|mut camera| camera.open_stream().map(|()| camera));
                match camera {
                    Ok(camera) => return Ok(camera),
                    Err(error) => {
                        first_error.get_or_insert(error);
                    }
                }
            }
        }
    }
    let reason = first_error.map_or_else(String::new, |error| error.to_string());
    Err(format!("takes none of the usual sizes and rates: {reason}"))
}

/// The cameras that the system knows.
pub(super) fn list() -> Vec<CameraDescription> {
    let found = nokhwa::query(ApiBackend::Auto).unwrap_or_else(|error| {
        tracing::warn!("cannot list cameras: {error}");
        Vec::new()
    });
    let mut cameras: Vec<CameraDescription> = found
        .iter()
        .filter_map(|camera| {
            Some(CameraDescription {
                index: camera.index().as_index().ok()?,
                name: camera.human_name(),
                place: camera.description().to_owned(),
            })
        })
        .collect();
    cameras.sort_by_key(|camera| camera.index);
    cameras
}

fn what_there_is() -> String {
    let there: Vec<String> = list()
        .iter()
        .map(|camera| format!("{} ({})", camera.index, camera.name))
        .collect();
    if there.is_empty() {
        format!("looked for {CAMERA_PLACES} and found none")
    } else {
        format!("looked for {CAMERA_PLACES} and found {}", there.join(", "))
    }
}

fn lock(newest: &Mutex<Newest>) -> std::sync::MutexGuard<'_, Newest> {
    // A panicking driver thread leaves whole pictures behind.
    newest.lock().unwrap_or_else(PoisonError::into_inner)
}
