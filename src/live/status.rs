//! The words of the window's panels.

use super::{
    latency::{Stage, StageLatencies},
    stage::Inferred,
};
use crate::{source::Outage, tracker::TrackedFace};
use std::fmt::Write;

/// What a run is about, in words.
#[derive(Debug, Default)]
pub(super) struct Subject {
    pub(super) source: String,
    /// Name of the landmark network.
    pub(super) model: String,
    /// Kernels and threads.
    pub(super) engine: String,
}

/// Replaces `lines` by the status of a frame; `all` of it for whoever looks for a fault.
pub(super) fn write_status(
    lines: &mut Vec<String>,
    subject: &Subject,
    inferred: &Inferred,
    latencies: &mut StageLatencies,
    all: bool,
) {
    let count = 2 + if all { 5 + inferred.faces.len() } else { 0 };
    lines.resize_with(count, String::new);
    lines.iter_mut().for_each(String::clear);
    // Writing to a String cannot fail.
    let _ = write!(lines[0], "{:.0} fps", inferred.frame_rate);
    if let Some(way) = latencies.shown(Stage::All) {
        let _ = write!(
            lines[0],
            "  {:.1} ms (p95 {:.1}, p99 {:.1})",
            way.p50, way.p95, way.p99
        );
    }
    let _ = write!(lines[0], "  {} dropped", inferred.dropped);
    lines[1].push_str(&subject.model);
    if !subject.engine.is_empty() {
        let _ = write!(lines[1], "  {}", subject.engine);
    }
    if !all {
        return;
    }
    let doing = if inferred.searched {
        "detector ran"
    } else {
        "tracking"
    };
    let _ = write!(
        lines[2],
        "frame {} at {:.2} s, {}x{}, {doing}",
        inferred.stamp.index,
        inferred.stamp.time_secs,
        inferred.frame.width(),
        inferred.frame.height(),
    );
    for (line, stage) in lines[3..].iter_mut().zip(Stage::ALL) {
        let _ = write!(line, "{:<6}", stage.name());
        if let Some(times) = latencies.shown(stage) {
            let _ = write!(
                line,
                "p50 {:.1}  p95 {:.1}  p99 {:.1} ms",
                times.p50, times.p95, times.p99
            );
        }
    }
    for (line, face) in lines[7..].iter_mut().zip(&inferred.faces) {
        describe(line, face);
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

/// What to say while no frames come, in lines of at most `width` characters.
pub(super) fn outage_lines(outage: &Outage, width: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "no picture for {} s",
        outage.since.elapsed().as_secs()
    )];
    let mut line = String::new();
    for word in outage.reason.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn reasons_are_broken_between_words() {
        let outage = Outage {
            reason: "camera 0 is gone: unplugged; waiting for it".to_owned(),
            since: Instant::now(),
        };
        let lines = outage_lines(&outage, 18);
        assert_eq!(
            lines,
            [
                "no picture for 0 s",
                "camera 0 is gone:",
                "unplugged; waiting",
                "for it"
            ]
        );
    }
}
