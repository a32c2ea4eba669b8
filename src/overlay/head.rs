//! What is known of a head besides its landmarks, drawn: pose as three axes, openness of eyes and mouth as bars.

use super::{
    CHARACTER_WIDTH, GREEN, INK, LINE_HEIGHT, ORANGE, PAPER, PURPLE, Rgb, SKY_BLUE, VERMILION,
    darken, draw_disc, draw_line, draw_text, line_width, text_scale,
};
use crate::{
    frame::Frame,
    geometry::{FaceBox, Point},
    pose::Pose,
    signals::Signals,
};

/// Openness at which an eye's bar is full, and the mouth's.
const EYE_FULL: f32 = 0.45;
const MOUTH_FULL: f32 = 1.0;

/// Draws the head's axes from `origin`, such as the nose tip: vermilion to the picture's right, green up, and sky blue, with a
/// disc at its end, where the nose points; `length` is that of an axis seen from its side, in pixels.
pub fn draw_pose_axes(frame: &mut Frame, origin: Point, length: f32, pose: &Pose) {
    let width = 1.6 * line_width(frame);
    let axes: [([f32; 3], Rgb); 3] = [
        ([1.0, 0.0, 0.0], VERMILION),
        ([0.0, -1.0, 0.0], GREEN),
        ([0.0, 0.0, -1.0], SKY_BLUE),
    ];
    let end_of = |axis| {
        let [x, y, _] = pose.rotate(axis);
        Point::new(origin.x + length * x, origin.y + length * y)
    };
    for (axis, color) in axes {
        let end = end_of(axis);
        for (widening, color, opacity) in [(1.4, INK, 0.45), (0.0, color, 0.95)] {
            draw_line(frame, origin, end, width + widening, color, opacity);
        }
    }
    // The nose's end is told from the others without its colour.
    let end = end_of([0.0, 0.0, -1.0]);
    draw_disc(frame, end, 1.6 * width + 0.7, INK, 0.6);
    draw_disc(frame, end, 1.6 * width, SKY_BLUE, 0.95);
}

/// Draws three bars beside a face, on the side with more room: the picture's left eye, its right eye, the mouth; the longer the
/// further open, vermilion while the eyes are closed. Below them stands the number of blinks.
pub fn draw_signal_bars(frame: &mut Frame, face: &FaceBox, signals: &Signals) {
    if !(face.x.abs() < 1e6 && face.y.abs() < 1e6 && face.width < 1e6) {
        return;
    }
    let scale = text_scale(frame);
    let unit = scale as f32;
    let (text_width, bar) = (6 * CHARACTER_WIDTH * scale, 40.0 * unit);
    let (line, gap) = (((LINE_HEIGHT + 2) * scale) as f32, 4.0 * unit);
    let width = text_width as f32 + bar + 3.0 * gap;
    let right = face.x + face.width + gap;
    let left = if right + width <= frame.width() as f32 {
        right
    } else {
        (face.x - gap - width).max(0.0)
    };
    let top = face
        .y
        .clamp(0.0, (frame.height() as f32 - 4.5 * line).max(0.0));
    darken(
        frame,
        left as usize,
        top as usize,
        width as usize,
        (4.0 * line + gap) as usize,
    );
    let eye = if signals.eyes_closed {
        VERMILION
    } else {
        ORANGE
    };
    let rows = [
        ("eye L", signals.left_eye / EYE_FULL, eye),
        ("eye R", signals.right_eye / EYE_FULL, eye),
        ("mouth", signals.mouth / MOUTH_FULL, PURPLE),
    ];
    let text_at = |row: usize| Point::new(left + gap, top + 0.5 * gap + row as f32 * line);
    for (row, (name, part, color)) in rows.into_iter().enumerate() {
        let at = text_at(row);
        draw_text(frame, at, scale, PAPER, name);
        let start = Point::new(at.x + text_width as f32 + gap, at.y + 0.5 * line);
        let to = |part: f32| Point::new(start.x + bar * part, start.y);
        draw_line(frame, start, to(1.0), 4.0 * unit, INK, 0.8);
        if part.is_finite() {
            draw_line(
                frame,
                start,
                to(part.clamp(0.0, 1.0)),
                4.0 * unit,
                color,
                1.0,
            );
        }
    }
    let mut digits = [0u8; 16];
    draw_text(
        frame,
        text_at(3),
        scale,
        PAPER,
        blinks_text(signals.blinks, &mut digits),
    );
}

/// `blinks N`, without an allocation.
fn blinks_text(blinks: u32, digits: &mut [u8; 16]) -> &str {
    use std::io::Write;
    let mut rest = &mut digits[..];
    // "blinks " and the four digits that are shown fit.
    let _ = write!(rest, "blinks {}", blinks % 10_000);
    let free = rest.len();
    let used = digits.len() - free;
    std::str::from_utf8(&digits[..used]).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(frame: &Frame, color: Rgb) -> Vec<(usize, usize)> {
        let near = |pixel: [u8; 3]| pixel.iter().zip(color).all(|(&a, b)| a.abs_diff(b) < 24);
        (0..frame.height())
            .flat_map(|y| (0..frame.width()).map(move |x| (x, y)))
            .filter(|&(x, y)| near(frame.pixel(x, y)))
            .collect()
    }

    #[test]
    fn the_nose_axis_points_where_the_nose_points() {
        for (yaw, pitch, x_sign, y_sign) in
            [(40.0, 0.0, 1, 0), (-40.0, 0.0, -1, 0), (0.0, 40.0, 0, -1)]
        {
            let mut frame = Frame::new(200, 200);
            let pose = Pose {
                yaw,
                pitch,
                roll: 0.0,
            };
            draw_pose_axes(&mut frame, Point::new(100.0, 100.0), 60.0, &pose);
            let blue = changed(&frame, SKY_BLUE);
            let mean = |of: fn(&(usize, usize)) -> usize| {
                blue.iter().map(of).sum::<usize>() as f32 / blue.len() as f32 - 100.0
            };
            let (x, y) = (mean(|p| p.0), mean(|p| p.1));
            let sign = |value: f32| {
                if value.abs() < 3.0 {
                    0
                } else {
                    value.signum() as i32
                }
            };
            assert_eq!((sign(x), sign(y)), (x_sign, y_sign), "{x} {y}");
        }
    }

    #[test]
    fn bars_grow_with_openness_and_say_when_eyes_are_closed() {
        let length = |mouth: f32| {
            let mut frame = Frame::new(320, 240);
            let signals = Signals {
                mouth,
                ..Signals::default()
            };
            draw_signal_bars(&mut frame, &FaceBox::new(40.0, 60.0, 90.0, 100.0), &signals);
            changed(&frame, PURPLE).len()
        };
        assert!(length(0.8) > length(0.4) && length(0.4) > length(0.1));
        let mut frame = Frame::new(320, 240);
        let signals = Signals {
            left_eye: 0.1,
            eyes_closed: true,
            ..Signals::default()
        };
        // No room on the right: the bars go to the left.
        draw_signal_bars(
            &mut frame,
            &FaceBox::new(220.0, 60.0, 90.0, 100.0),
            &signals,
        );
        let red = changed(&frame, VERMILION);
        assert!(!red.is_empty() && red.iter().all(|&(x, _)| x < 220));
    }

    #[test]
    fn hostile_figures_do_no_harm() {
        let mut frame = Frame::new(30, 20);
        let odd = [f32::NAN, f32::INFINITY, -1e30, 1e30];
        for value in odd {
            let pose = Pose {
                yaw: value,
                pitch: value,
                roll: value,
            };
            draw_pose_axes(&mut frame, Point::new(value, 5.0), value, &pose);
            let signals = Signals {
                left_eye: value,
                mouth: value,
                blinks: u32::MAX,
                ..Signals::default()
            };
            draw_signal_bars(
                &mut frame,
                &FaceBox::new(value, value, value, value),
                &signals,
            );
            draw_signal_bars(&mut frame, &FaceBox::new(3.0, 3.0, 9.0, 9.0), &signals);
        }
        assert_eq!(blinks_text(u32::MAX, &mut [0; 16]), "blinks 7295");
    }
}
