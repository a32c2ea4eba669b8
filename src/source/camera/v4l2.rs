//! Cameras of Linux. nokhwa negotiates; the layer below it, v4l, does what nokhwa cannot:
//!
//! - `frame()` has no time limit, so that a feeder that dies keeps its reader for ever; v4l's stream waits for as long as it
//!   is told to;
//! - rates are whole numbers to it: a camera whose current rate is 25/2 cannot be opened, and 30000/1001 not asked for; nor
//!   can one that is set to a pixel format that it does not know, and it takes GREY for `GRAY`, which no driver knows;
//! - of a range of sizes it lists the diagonal alone;
//! - it hides the driver's count and time of pictures, the bytes in use and the mark of incomplete ones, and it gives
//!   errors as text.

use super::{
    CameraError, Device, Mode, Offer, Opened, Picture, PixelFormat, Rate,
    find::{self, Node},
    ladder,
    offer::{self, Rates, Sizes},
};
use nokhwa::{
    Camera,
    utils::{
        CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType, Resolution,
    },
};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};
use v4l::{
    Device as Driver, Format, FourCC, Fraction,
    buffer::{Flags, Type},
    capability::Flags as Capability,
    frameinterval::FrameIntervalEnum,
    framesize::FrameSizeEnum,
    io::traits::{CaptureStream, Stream},
    prelude::MmapStream,
    video::{Capture, capture::Parameters},
};

/// Modes that are tried before a camera is given up.
const TRIES: usize = 24;

/// Pictures that the driver may hold.
const BUFFERS: u32 = 4;

/// What `poll` is asked for: there is something to read (POLLIN).
const READABLE: i16 = 1;

/// The longest wait inside the driver, should its own notice of a picture be wrong.
const DRIVER_LIMIT: Duration = Duration::from_secs(2);

/// The device nodes that there are.
pub(super) fn nodes() -> Vec<Node> {
    find::nodes(Path::new("/sys"), Path::new("/dev"))
}

/// A camera of Linux.
pub(super) struct LinuxCamera {
    /// The camera that was asked for, as it was when it was last opened.
    wanted: Node,
    /// All nodes that were there then.
    before: Vec<Node>,
    stream: Option<MmapStream<'static>>,
}

impl LinuxCamera {
    /// The camera at a node.
    pub(super) fn new(wanted: Node, before: Vec<Node>) -> Self {
        Self {
            wanted,
            before,
            stream: None,
        }
    }
}

impl Device for LinuxCamera {
    fn open(&mut self) -> Result<Opened, CameraError> {
        self.close();
        let now = nodes();
        let node = find::same_camera(&self.wanted, &self.before, &now)
            .ok_or(CameraError::Absent)?
            .clone();
        if node.number != self.wanted.number || node.name != self.wanted.name {
            tracing::info!(
                "camera {} ({}) is now /dev/video{} ({})",
                self.wanted.number,
                self.wanted.name,
                node.number,
                node.name
            );
        }
        let (opened, stream) = start_best(&node)?;
        self.stream = Some(stream);
        // The number that the user asked for stays, so that the words for the camera do too.
        self.wanted = Node {
            number: self.wanted.number,
            ..node
        };
        self.before = now;
        Ok(opened)
    }

    fn read(&mut self, picture: &mut Picture, limit: Duration) -> Result<bool, CameraError> {
        let number = self.wanted.number;
        let Some(stream) = &mut self.stream else {
            return Err(CameraError::Vanished);
        };
        let failed = |error| system(number, "reading a picture", error);
        // Waiting here, not in the stream, leaves the stream's own state untouched when no picture comes.
        let millis = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        match stream.handle().poll(READABLE, millis) {
            Ok(0) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(failed(error)),
        }
        let (bytes, meta) = stream.next().map_err(failed)?;
        let used = match meta.bytesused as usize {
            0 => bytes.len(),
            used => used.min(bytes.len()),
        };
        picture.bytes.clear();
        picture.bytes.extend_from_slice(&bytes[..used]);
        picture.sequence = meta.sequence;
        picture.damaged = meta.flags.contains(Flags::ERROR);
        let monotonic = meta.flags & Flags::TIMESTAMP_MASK == Flags::TIMESTAMP_MONOTONIC;
        picture.captured_at = monotonic
            .then(|| captured_at(meta.timestamp.into()))
            .flatten();
        Ok(true)
    }

    fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            // v4l panics when a driver refuses to stop; there is nothing left to do with one that does.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(stream)));
            if dropped.is_err() {
                tracing::warn!("camera {}: the driver refused to stop", self.wanted.number);
            }
        }
    }
}

impl Drop for LinuxCamera {
    fn drop(&mut self) {
        self.close();
    }
}

/// The moment of a time of the driver's clock, which counts as ours does from the machine's start; `None` when it is not
/// of the last second.
fn captured_at(stamp: Duration) -> Option<Instant> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.try_into().ok()?, now.tv_nsec.try_into().ok()?);
    let age = now.checked_sub(stamp)?;
    (age < Duration::from_secs(1)).then(|| Instant::now().checked_sub(age))?
}

/// The system's error in the pipeline's words.
fn system(number: u32, doing: &'static str, error: io::Error) -> CameraError {
    // EBUSY, EACCES and EPERM, and ENOENT, ENXIO, EIO at a dead node and ENODEV.
    match error.raw_os_error() {
        Some(16) => CameraError::Busy { number },
        Some(1 | 13) => CameraError::Denied { number },
        Some(2 | 6) => CameraError::Absent,
        Some(19) => CameraError::Vanished,
        _ if error.kind() == io::ErrorKind::TimedOut => CameraError::Silent {
            seconds: DRIVER_LIMIT.as_secs_f64(),
        },
        _ => CameraError::System {
            doing,
            source: error,
        },
    }
}

fn open_node(number: u32) -> Result<Driver, CameraError> {
    Driver::new(number as usize).map_err(|error| system(number, "opening", error))
}

/// Opens and starts the camera in the best mode that it takes.
fn start_best(node: &Node) -> Result<(Opened, MmapStream<'static>), CameraError> {
    let driver = open_node(node.number)?;
    let offers = offers(&driver, node.number)?;
    let modes = ladder::ranked(&offer::modes(&offers));
    if modes.is_empty() {
        return Err(CameraError::NoFormat {
            expected: PixelFormat::ALL.map(|format| format.to_string()).join(", "),
            found: codes(&offers),
        });
    }
    let current = current(&driver);
    if let Some(words) = current.oddity() {
        tracing::info!(
            "camera {}: {words}; it is set anew through Video4Linux",
            node.number
        );
    }
    // nokhwa opens the node itself; some drivers keep their format only while somebody has it open, so ours stays open.
    let (mut first, mut tried) = (None, 0);
    for mode in modes.iter().take(TRIES) {
        if current.oddity().is_none()
            && is_discrete(&offers, mode)
            && let Err(reason) = negotiate(node.number, mode)
        {
            tracing::debug!("camera {}: nokhwa refuses {mode}: {reason}", node.number);
        }
        match start(&driver, node.number, mode) {
            Ok((stride, stream)) => {
                let opened = Opened {
                    number: node.number,
                    name: node.name.clone(),
                    mode: *mode,
                    stride,
                };
                return Ok((opened, stream));
            }
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                tracing::debug!("camera {}: {mode} is refused: {error}", node.number);
                first.get_or_insert_with(|| error.to_string());
                tried += 1;
            }
        }
    }
    let reason = first.unwrap_or_default();
    Err(match current {
        Current {
            rate: Some(rate), ..
        } if rate.is_fraction() => CameraError::FractionalRate { rate, reason },
        Current {
            code: Some(code), ..
        } if PixelFormat::from_code(code).is_none() => CameraError::UnknownFormat {
            code: code_words(code),
            reason,
        },
        _ => CameraError::Refused { tried, reason },
    })
}

/// Sets the mode through nokhwa, which asks for exactly this one. nokhwa knows no more than six formats and whole rates;
/// nothing is asked of it beyond these.
fn negotiate(number: u32, mode: &Mode) -> Result<(), String> {
    let format = match mode.format {
        PixelFormat::Yuyv => FrameFormat::YUYV,
        PixelFormat::Mjpeg => FrameFormat::MJPEG,
        PixelFormat::Nv12 => FrameFormat::NV12,
        PixelFormat::Rgb => FrameFormat::RAWRGB,
        PixelFormat::Bgr => FrameFormat::RAWBGR,
        _ => return Err("a pixel format that nokhwa does not know".to_owned()),
    };
    let rate = match mode.rate {
        Some(rate) if !rate.is_fraction() => rate.frames / rate.seconds,
        _ => return Err("no whole rate".to_owned()),
    };
    let wanted = CameraFormat::new(Resolution::new(mode.width, mode.height), format, rate);
    let formats = [format];
    let request = RequestedFormat::with_formats(RequestedFormatType::Exact(wanted), &formats);
    catch_unwind(AssertUnwindSafe(|| {
        Camera::new(CameraIndex::Index(number), request).map(drop)
    }))
    .map_err(|_| "it panicked".to_owned())?
    .map_err(|error| error.to_string())
}

/// Starts the camera in `mode`, which is set where it is not set already. Gives the bytes from row to row.
fn start(
    driver: &Driver,
    number: u32,
    mode: &Mode,
) -> Result<(usize, MmapStream<'static>), CameraError> {
    let asking = |error| system(number, "setting the format", error);
    let is_it = |format: &Format| {
        PixelFormat::from_code(format.fourcc.repr) == Some(mode.format)
            && (format.width, format.height) == (mode.width, mode.height)
    };
    let mut format = driver.format().map_err(asking)?;
    if !is_it(&format) {
        let code = FourCC::new(&mode.format.code());
        let wanted = Format::new(mode.width, mode.height, code);
        format = Capture::set_format(driver, &wanted).map_err(asking)?;
    }
    if !is_it(&format) {
        return Err(CameraError::System {
            doing: "setting the format",
            source: io::Error::other(format!(
                "it gives {}x{} {} instead",
                format.width, format.height, format.fourcc
            )),
        });
    }
    if let Some(rate) = mode.rate
        && Capture::params(driver).is_ok_and(|now| interval_rate(now.interval) != Some(rate))
    {
        let interval = Fraction::new(rate.seconds, rate.frames);
        Capture::set_params(driver, &Parameters::new(interval))
            .map_err(|error| system(number, "setting the rate", error))?;
    }
    let starting = |error| system(number, "starting", error);
    let mut stream =
        MmapStream::with_buffers(driver, Type::VideoCapture, BUFFERS).map_err(starting)?;
    stream.set_timeout(DRIVER_LIMIT);
    // The stream's own first step hands over all buffers and waits for a picture in one; waiting is ours. Buffer 0 is
    // handed over by the first reading, the driver says how many others there are by refusing one too many.
    for index in 1..32 {
        if stream.queue(index).is_err() {
            break;
        }
    }
    match stream.start() {
        Ok(()) => Ok((format.stride as usize, stream)),
        Err(error) => {
            // v4l panics where a stream that never ran is not stopped cleanly.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(stream)));
            Err(starting(error))
        }
    }
}

/// What the camera is set to now.
struct Current {
    code: Option<[u8; 4]>,
    rate: Option<Rate>,
}

impl Current {
    /// What nokhwa would stumble over.
    fn oddity(&self) -> Option<String> {
        match (self.code, self.rate) {
            (Some(code), _) if PixelFormat::from_code(code).is_none() => Some(format!(
                "it is set to the pixel format {}, which cannot be read",
                code_words(code)
            )),
            (_, Some(rate)) if rate.is_fraction() => Some(format!(
                "its current rate is a fraction, {}/{} frames a second",
                rate.frames, rate.seconds
            )),
            _ => None,
        }
    }
}

fn current(driver: &Driver) -> Current {
    Current {
        code: driver.format().ok().map(|format| format.fourcc.repr),
        rate: Capture::params(driver)
            .ok()
            .and_then(|now| interval_rate(now.interval)),
    }
}

fn interval_rate(interval: Fraction) -> Option<Rate> {
    Rate::new(interval.denominator, interval.numerator)
}

fn is_discrete(offers: &[Offer], mode: &Mode) -> bool {
    let size = Sizes::One(mode.width, mode.height);
    offers
        .iter()
        .any(|offer| offer.format == Some(mode.format) && offer.size == size)
}

/// What the camera offers.
fn offers(driver: &Driver, number: u32) -> Result<Vec<Offer>, CameraError> {
    let asking = |error| system(number, "asking what it is", error);
    let found = driver.query_caps().map_err(asking)?.capabilities;
    if !found.contains(Capability::VIDEO_CAPTURE) {
        let found = if found.contains(Capability::META_CAPTURE) {
            "a camera's node for metadata, without pictures"
        } else if found.intersects(Capability::VIDEO_CAPTURE_MPLANE | Capability::VIDEO_M2M_MPLANE)
        {
            "a device whose pictures are in several planes, which cannot be read"
        } else {
            "a device that gives no pictures at present"
        };
        return Err(CameraError::NoPictures {
            found: found.to_owned(),
        });
    }
    let mut offers = Vec::new();
    for format in Capture::enum_formats(driver).map_err(asking)? {
        let offer = |size, rates| Offer {
            code: code_words(format.fourcc.repr),
            format: PixelFormat::from_code(format.fourcc.repr),
            size,
            rates,
        };
        let sizes = Capture::enum_framesizes(driver, format.fourcc).unwrap_or_default();
        for size in &sizes {
            let size = match &size.size {
                FrameSizeEnum::Discrete(size) => Sizes::One(size.width, size.height),
                FrameSizeEnum::Stepwise(range) => Sizes::Range {
                    least: (range.min_width, range.min_height),
                    most: (range.max_width, range.max_height),
                    step: (range.step_width, range.step_height),
                },
            };
            let (width, height) = match size {
                Sizes::One(width, height) => (width, height),
                Sizes::Range { most, .. } => most,
            };
            offers.push(offer(size, rates(driver, format.fourcc, width, height)));
        }
        // A driver need not list sizes; the size that is set can always be had.
        if let (true, Ok(now)) = (sizes.is_empty(), driver.format()) {
            offers.push(offer(Sizes::One(now.width, now.height), Rates::Unsaid));
        }
    }
    Ok(offers)
}

fn rates(driver: &Driver, code: FourCC, width: u32, height: u32) -> Rates {
    let intervals = Capture::enum_frameintervals(driver, code, width, height).unwrap_or_default();
    let mut listed = Vec::new();
    for interval in intervals {
        match interval.interval {
            FrameIntervalEnum::Discrete(interval) => listed.extend(interval_rate(interval)),
            FrameIntervalEnum::Stepwise(range) => {
                // The longest interval is the lowest rate.
                if let (Some(least), Some(most)) =
                    (interval_rate(range.max), interval_rate(range.min))
                {
                    return Rates::Range(least, most);
                }
            }
        }
    }
    if listed.is_empty() {
        Rates::Unsaid
    } else {
        Rates::Listed(listed)
    }
}

fn code_words(code: [u8; 4]) -> String {
    String::from_utf8_lossy(&code).trim_end().to_owned()
}

fn codes(offers: &[Offer]) -> String {
    let mut codes: Vec<&str> = offers.iter().map(|offer| offer.code.as_str()).collect();
    codes.dedup();
    if codes.is_empty() {
        "none".to_owned()
    } else {
        codes.join(", ")
    }
}

/// What can be said of a camera without starting it.
pub(super) struct Inspection {
    pub(super) offers: Vec<Offer>,
    pub(super) note: Option<String>,
}

/// Asks the camera at a node what it can do.
pub(super) fn inspect(node: &Node) -> Result<Inspection, CameraError> {
    let driver = open_node(node.number)?;
    Ok(Inspection {
        offers: offers(&driver, node.number)?,
        note: current(&driver).oddity(),
    })
}
