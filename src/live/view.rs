//! What is shown of a frame: faces, panels of text, and the state that the window's keys change.

use super::{
    drawing::{Drawing, Painting},
    latency::{Stage, StageLatencies},
    stage::Inferred,
    status::{outage_lines, write_status},
};
use crate::{
    frame::Frame,
    geometry::{Affine, Point},
    overlay, picture,
    scheme::Scheme,
    sink::KeyCommand,
    source::Outage,
};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

pub(super) use super::status::Subject;

/// How long a notice stays.
const NOTICE: Duration = Duration::from_secs(3);

const HELP: [&str; 6] = [
    "q, Esc  quit",
    "space   pause",
    "s       snapshot",
    "m       mirror",
    "d       debug",
    "h       this help",
];

/// Draws frames and keeps what the user chose.
pub(super) struct View {
    subject: Subject,
    drawing: Drawing,
    /// Whether pose and signals are shown even when `debug` is off.
    signals: bool,
    snapshot_folder: PathBuf,
    /// The newest frame, in its own pixels.
    current: Inferred,
    /// The same in the window's, drawn on, and what the user sees of it in the end.
    placed: Inferred,
    shown: Frame,
    latencies: StageLatencies,
    status: Vec<String>,
    outage: Option<Outage>,
    outage_secs: u64,
    notice: Option<(String, Instant)>,
    paused: bool,
    mirrored: bool,
    debug: bool,
    help: bool,
    quit: bool,
    redraw: bool,
}

/// What is shown before the first frame.
const NOTHING: (usize, usize) = (640, 480);

impl View {
    pub(super) fn new(
        subject: Subject,
        scheme: Scheme,
        snapshot_folder: PathBuf,
        painting: Painting,
    ) -> Self {
        Self {
            subject,
            drawing: Drawing::new(scheme, painting),
            signals: painting.signals,
            snapshot_folder,
            current: Inferred {
                frame: Frame::new(NOTHING.0, NOTHING.1),
                ..Inferred::default()
            },
            placed: Inferred::default(),
            shown: Frame::default(),
            latencies: StageLatencies::default(),
            status: Vec::new(),
            outage: None,
            outage_secs: 0,
            notice: None,
            paused: false,
            mirrored: false,
            debug: false,
            help: false,
            quit: false,
            redraw: false,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn wants_to_quit(&self) -> bool {
        self.quit
    }

    /// The latencies of the frames that were shown.
    pub(super) fn latencies(&self) -> &StageLatencies {
        &self.latencies
    }

    /// Whether a key, a notice or an outage changed what is to be shown since the last picture.
    pub(super) fn needs_redraw(&self) -> bool {
        let over = |(_, since): &(String, Instant)| since.elapsed() > NOTICE;
        self.redraw || self.notice.as_ref().is_some_and(over)
    }

    /// Takes a frame with its faces and prepares the panels' text.
    pub(super) fn draw(&mut self, inferred: &Inferred) {
        self.current.copy_for_painting(inferred);
        write_status(
            &mut self.status,
            &self.subject,
            inferred,
            &mut self.latencies,
            self.debug,
        );
    }

    /// Takes the moment at which a frame came to be seen: now.
    pub(super) fn note_shown(&mut self, inferred: &Inferred) {
        if let Some(times) = inferred.times {
            let ways = [
                (Stage::Wait, times.begun - times.arrived),
                (Stage::Faces, times.done - times.begun),
                (Stage::Show, times.done.elapsed()),
                (Stage::All, times.arrived.elapsed()),
            ];
            for (stage, latency) in ways {
                self.latencies.add(stage, latency);
            }
        }
    }

    /// Takes whether frames come just now.
    pub(super) fn note_outage(&mut self, outage: Option<Outage>) {
        let secs = outage
            .as_ref()
            .map_or(0, |outage| outage.since.elapsed().as_secs());
        if outage != self.outage || secs != self.outage_secs {
            self.redraw = true;
            self.outage = outage;
            self.outage_secs = secs;
        }
    }

    /// The frame with its faces and panels, as the window shows it. `fit` puts a frame into the picture of the window's
    /// size and gives the map from the frame there; faces and text are drawn at that size.
    pub(super) fn picture_with_panels(
        &mut self,
        fit: impl FnOnce(&Frame, &mut Frame) -> Affine,
    ) -> &Frame {
        self.redraw = false;
        let placed_from_frame = fit(&self.current.frame, &mut self.placed.frame);
        self.placed.place_faces(&self.current, &placed_from_frame);
        let (placed, shown) = (&mut self.placed, &mut self.shown);
        shown.clone_from(&placed.frame);
        self.drawing.signals = self.signals || self.debug;
        self.drawing.draw(shown, placed);
        if self.mirrored {
            shown.mirror();
        }
        self.drawing.write(shown, placed, self.mirrored);
        if self.debug {
            self.draw_indices();
        }
        self.draw_panels();
        &self.shown
    }

    fn draw_panels(&mut self) {
        let shown = &mut self.shown;
        let scale = overlay::text_scale(shown);
        let lines: Vec<&str> = self.status.iter().map(String::as_str).collect();
        overlay::draw_panel(shown, 0, 0, scale, &lines);
        let panel = |lines: usize| (lines * overlay::LINE_HEIGHT + 6) * scale;
        let mut below = panel(lines.len());
        if self.help {
            below += 4 * scale;
            overlay::draw_panel(shown, 0, below, scale, &HELP);
        }
        if let Some(outage) = &self.outage {
            let scale = scale + 1;
            let width = shown.width() / (scale * overlay::CHARACTER_WIDTH);
            let lines = outage_lines(outage, width.saturating_sub(4).max(8));
            let longest = lines.iter().map(|line| line.chars().count()).max();
            let of_panel = (
                (longest.unwrap_or(0) * overlay::CHARACTER_WIDTH + 6) * scale,
                (lines.len() * overlay::LINE_HEIGHT + 6) * scale,
            );
            let left = shown.width().saturating_sub(of_panel.0) / 2;
            let top = shown.height().saturating_sub(of_panel.1) / 2;
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            overlay::draw_panel(shown, left, top, scale, &lines);
        }
        if self
            .notice
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() > NOTICE)
        {
            self.notice = None;
        }
        let bottom = shown.height().saturating_sub(panel(1));
        if self.paused {
            overlay::draw_panel(shown, 0, bottom, scale, &["paused (space goes on)"]);
        } else if let Some((notice, _)) = &self.notice {
            overlay::draw_panel(shown, 0, bottom, scale, &[notice]);
        } else if self.help {
            overlay::draw_panel(shown, 0, bottom, scale, &[&self.subject.source]);
        }
    }

    /// After mirroring, so that the digits can be read.
    fn draw_indices(&mut self) {
        let shown_from_placed = if self.mirrored {
            Affine::mirror_x(self.shown.width())
        } else {
            Affine::IDENTITY
        };
        for face in &self.placed.faces {
            let points: Vec<Point> = face
                .landmarks
                .iter()
                .map(|&point| shown_from_placed * point)
                .collect();
            overlay::draw_indices(&mut self.shown, &points);
        }
    }

    /// Does what a key asks for.
    pub(super) fn handle(&mut self, command: KeyCommand) {
        self.redraw = true;
        match command {
            KeyCommand::Quit => self.quit = true,
            KeyCommand::Pause => self.paused = !self.paused,
            KeyCommand::Mirror => self.mirrored = !self.mirrored,
            KeyCommand::Debug => self.debug = !self.debug,
            KeyCommand::Help => self.help = !self.help,
            KeyCommand::Snapshot => {
                let said = self.save_snapshot();
                self.notice = Some((said, Instant::now()));
            }
        }
    }

    fn save_snapshot(&self) -> String {
        let mut number = 1;
        let path = loop {
            let name = format!("facemark-snapshot-{number:03}.png");
            let path = self.snapshot_folder.join(name);
            if !path.exists() {
                break path;
            }
            number += 1;
        };
        match picture::save(&self.shown, &path) {
            Ok(()) => format!("saved {}", path.display()),
            Err(error) => error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{geometry::FaceBox, tracker::TrackedFace};

    /// A window of the frame's size.
    fn as_it_is(frame: &Frame, canvas: &mut Frame) -> Affine {
        canvas.clone_from(frame);
        Affine::IDENTITY
    }

    #[test]
    fn keys_change_what_is_shown() {
        let folder = tempfile::tempdir().expect("folder");
        let mut view = View::new(
            Subject {
                source: "test".to_owned(),
                model: "net".to_owned(),
                engine: "portable".to_owned(),
            },
            Scheme::Mtfl5,
            folder.path().to_owned(),
            Painting::default(),
        );
        let inferred = Inferred {
            frame: Frame::new(320, 240),
            ..Inferred::default()
        };
        view.draw(&inferred);
        let plain = view.picture_with_panels(as_it_is).clone();
        assert!(!view.needs_redraw());
        for command in [KeyCommand::Help, KeyCommand::Pause] {
            view.handle(command);
            assert!(view.needs_redraw());
            assert!(*view.picture_with_panels(as_it_is) != plain, "{command:?}");
            view.handle(command);
            assert_eq!(*view.picture_with_panels(as_it_is), plain, "{command:?}");
        }
        for _ in 0..2 {
            view.handle(KeyCommand::Snapshot);
        }
        let saved = folder.path().join("facemark-snapshot-002.png");
        assert_eq!(picture::load(&saved).expect("snapshot"), plain);
        view.handle(KeyCommand::Quit);
        assert!(view.wants_to_quit());
    }

    fn view() -> View {
        View::new(
            Subject::default(),
            Scheme::Mtfl5,
            PathBuf::new(),
            Painting::default(),
        )
    }

    #[test]
    fn a_camera_that_is_gone_is_said_in_the_window_before_the_first_frame_too() {
        let mut view = view();
        let blank = view.picture_with_panels(as_it_is).clone();
        let outage = Outage {
            reason: "camera 0 was unplugged; waiting for it".to_owned(),
            since: Instant::now(),
        };
        view.note_outage(Some(outage));
        assert!(view.needs_redraw());
        let said = view.picture_with_panels(as_it_is).clone();
        assert!(said != blank);
        view.note_outage(None);
        assert!(view.needs_redraw());
        assert_eq!(*view.picture_with_panels(as_it_is), blank);
    }

    #[test]
    fn faces_are_drawn_in_the_pixels_of_the_window() {
        let landmarks = [
            (30.0, 30.0),
            (60.0, 30.0),
            (45.0, 45.0),
            (35.0, 60.0),
            (55.0, 60.0),
        ];
        let landmarks: Vec<Point> = landmarks.map(|(x, y)| Point::new(x, y)).to_vec();
        let inferred = Inferred {
            frame: Frame::new(100, 100),
            faces: vec![TrackedFace {
                id: 1,
                face_box: FaceBox::around(&landmarks).expect("five points"),
                score: 1.0,
                landmarks,
                confidence: 1.0,
                expected_errors_px: Vec::new(),
                pose: None,
                signals: None,
            }],
            ..Inferred::default()
        };
        let mut view = view();
        view.draw(&inferred);
        let doubled = Affine::similarity(2.0, 0.0, Point::default(), Point::default());
        let picture = view.picture_with_panels(|_, canvas| {
            canvas.reshape(200, 200);
            canvas.rgb_mut().fill(0);
            doubled
        });
        // The nose, in the window's pixels and not in the frame's.
        assert_ne!(picture.pixel(90, 90), [0; 3]);
        assert_eq!(picture.pixel(45, 45), [0; 3]);
    }
}
