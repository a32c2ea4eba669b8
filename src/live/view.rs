//! What is shown of a frame: faces, panels of text, and the state that the window's keys change.

use super::{
    drawing::{Drawing, Painting},
    stage::Inferred,
};
use crate::{
    frame::Frame,
    geometry::{Affine, Point},
    overlay, picture,
    scheme::Scheme,
    sink::KeyCommand,
    tracker::TrackedFace,
};
use std::{
    fmt::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

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
    source: String,
    model: String,
    scheme: Scheme,
    drawing: Drawing,
    snapshot_folder: PathBuf,
    picture: Frame,
    shown: Frame,
    /// The landmarks of all faces, in the frame, and where they are shown.
    landmarks: Vec<Point>,
    placed: Vec<Point>,
    status: Vec<String>,
    notice: Option<(String, Instant)>,
    paused: bool,
    mirrored: bool,
    debug: bool,
    help: bool,
    quit: bool,
    redraw: bool,
}

impl View {
    pub(super) fn new(
        source: String,
        model: String,
        scheme: Scheme,
        snapshot_folder: PathBuf,
        painting: Painting,
    ) -> Self {
        Self {
            source,
            model,
            scheme,
            drawing: Drawing::new(scheme, painting),
            snapshot_folder,
            picture: Frame::default(),
            shown: Frame::default(),
            landmarks: Vec::new(),
            placed: Vec::new(),
            status: vec![String::new(); 2],
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

    /// Whether a key or a notice changed what is to be shown since the last picture.
    pub(super) fn needs_redraw(&self) -> bool {
        let over = |(_, since): &(String, Instant)| since.elapsed() > NOTICE;
        self.redraw || self.notice.as_ref().is_some_and(over)
    }

    /// Draws a frame's faces and prepares the panels' text.
    pub(super) fn draw(&mut self, inferred: &Inferred) {
        self.picture.clone_from(&inferred.frame);
        self.landmarks.clear();
        for face in &inferred.faces {
            self.landmarks.extend_from_slice(&face.landmarks);
        }
        self.drawing.draw(&mut self.picture, inferred);
        self.write_status(inferred);
    }

    fn write_status(&mut self, inferred: &Inferred) {
        let lines = if self.debug {
            3 + inferred.faces.len()
        } else {
            2
        };
        self.status.resize_with(lines, String::new);
        self.status.iter_mut().for_each(String::clear);
        // Writing to a String cannot fail.
        let _ = write!(
            self.status[0],
            "{:.0} fps  {:.1} ms  {} dropped",
            inferred.frame_rate,
            1e3 * inferred.latency.as_secs_f64(),
            inferred.dropped
        );
        self.status[1].push_str(&self.model);
        if self.debug {
            let doing = if inferred.searched {
                "detector ran"
            } else {
                "tracking"
            };
            let _ = write!(
                self.status[2],
                "frame {} at {:.2} s, {}x{}, {doing}",
                inferred.stamp.index,
                inferred.stamp.time_secs,
                inferred.frame.width(),
                inferred.frame.height(),
            );
            for (line, face) in self.status[3..].iter_mut().zip(&inferred.faces) {
                describe(line, face);
            }
        }
    }

    /// The frame with its faces and panels, as the window shows it.
    pub(super) fn picture_with_panels(&mut self) -> &Frame {
        self.redraw = false;
        self.shown.clone_from(&self.picture);
        if self.mirrored {
            mirror(&mut self.shown);
        }
        if self.debug {
            self.draw_indices();
        }
        let scale = overlay::text_scale(&self.shown);
        let lines: Vec<&str> = self.status.iter().map(String::as_str).collect();
        overlay::draw_panel(&mut self.shown, 0, 0, scale, &lines);
        let panel = |lines: usize| (lines * overlay::LINE_HEIGHT + 6) * scale;
        let mut below = panel(lines.len());
        if self.help {
            below += 4 * scale;
            overlay::draw_panel(&mut self.shown, 0, below, scale, &HELP);
        }
        if self
            .notice
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() > NOTICE)
        {
            self.notice = None;
        }
        let bottom = self.shown.height().saturating_sub(panel(1));
        if self.paused {
            overlay::draw_panel(
                &mut self.shown,
                0,
                bottom,
                scale,
                &["paused (space goes on)"],
            );
        } else if let Some((notice, _)) = &self.notice {
            overlay::draw_panel(&mut self.shown, 0, bottom, scale, &[notice]);
        } else if self.help {
            overlay::draw_panel(&mut self.shown, 0, bottom, scale, &[&self.source]);
        }
        &self.shown
    }

    /// After mirroring, so that the digits can be read.
    fn draw_indices(&mut self) {
        let shown_from_frame = if self.mirrored {
            Affine::mirror_x(self.shown.width())
        } else {
            Affine::IDENTITY
        };
        self.placed.clear();
        self.placed
            .extend(self.landmarks.iter().map(|&point| shown_from_frame * point));
        for face in self.placed.chunks(self.scheme.landmark_count()) {
            overlay::draw_indices(&mut self.shown, face);
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

fn describe(line: &mut String, face: &TrackedFace) {
    let _ = write!(
        line,
        "face {}: score {:.2}, confidence {:.2}",
        face.id, face.score, face.confidence
    );
    let errors = &face.expected_errors_px;
    if !errors.is_empty() {
        let mean = errors.iter().sum::<f32>() / errors.len() as f32;
        let _ = write!(line, ", +-{mean:.1} px");
    }
    if let Some(pose) = face.pose {
        let _ = write!(
            line,
            ", yaw {:+.0}, pitch {:+.0}, roll {:+.0}",
            pose.yaw, pose.pitch, pose.roll
        );
    }
}

fn mirror(frame: &mut Frame) {
    let stride = 3 * frame.width();
    for row in frame.rgb_mut().chunks_exact_mut(stride.max(3)) {
        let (mut left, mut right) = (0, row.len());
        while left + 3 < right {
            right -= 3;
            for channel in 0..3 {
                row.swap(left + channel, right + channel);
            }
            left += 3;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_swaps_whole_pixels() {
        for width in [1, 2, 5] {
            let pixel = |x: usize| [10 * x as u8, 10 * x as u8 + 1, 10 * x as u8 + 2];
            let mut frame = Frame::new(width, 2);
            for y in 0..2 {
                (0..width).for_each(|x| frame.set_pixel(x, y, pixel(x)));
            }
            mirror(&mut frame);
            for x in 0..width {
                assert_eq!(frame.pixel(x, 1), pixel(width - 1 - x));
            }
        }
    }

    #[test]
    fn keys_change_what_is_shown() {
        let folder = tempfile::tempdir().expect("folder");
        let mut view = View::new(
            "test".to_owned(),
            "net".to_owned(),
            Scheme::Mtfl5,
            folder.path().to_owned(),
            Painting::default(),
        );
        let inferred = Inferred {
            frame: Frame::new(320, 240),
            ..Inferred::default()
        };
        view.draw(&inferred);
        let plain = view.picture_with_panels().clone();
        assert!(!view.needs_redraw());
        for command in [KeyCommand::Help, KeyCommand::Pause] {
            view.handle(command);
            assert!(view.needs_redraw());
            assert!(*view.picture_with_panels() != plain, "{command:?}");
            view.handle(command);
            assert_eq!(*view.picture_with_panels(), plain, "{command:?}");
        }
        for _ in 0..2 {
            view.handle(KeyCommand::Snapshot);
        }
        let saved = folder.path().join("facemark-snapshot-002.png");
        assert_eq!(picture::load(&saved).expect("snapshot"), plain);
        view.handle(KeyCommand::Quit);
        assert!(view.wants_to_quit());
    }
}
