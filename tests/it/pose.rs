//! Labelled faces have the pose they should.

use crate::fixtures::shared;
use facemark::{
    annotation::{LandmarkRecord, Split},
    pose::Pose,
    scheme::Scheme,
};
use std::path::Path;

#[test]
fn labelled_faces_that_look_into_a_far_camera_have_no_pitch() {
    let mut frontal = Vec::new();
    for set in ["helen", "lfpw", "afw"] {
        let Some(folder) = shared("data").map(|data| data.join(set)) else {
            return;
        };
        for line in lines(&folder) {
            let record = LandmarkRecord::from_json(&line).unwrap();
            // The mean face was measured on the training faces.
            if record.split == Split::Train || record.scheme != Scheme::Ibug68 {
                continue;
            }
            // The pictures are cut out of others, so nothing is known of their cameras: far ones, as for the mean face.
            let pose = Pose::estimate(record.scheme, &record.points, f32::INFINITY);
            let pose = pose.expect("a face has a pose");
            if pose.yaw.abs() < 10.0 {
                frontal.push(pose.pitch);
            }
        }
    }
    assert!(frontal.len() > 100, "{} faces", frontal.len());
    frontal.sort_by(f32::total_cmp);
    let median = frontal[frontal.len() / 2];
    let spread = frontal[frontal.len() * 9 / 10] - frontal[frontal.len() / 10];
    println!(
        "{} faces, median pitch {median:.2}, 80 % within {spread:.1}",
        frontal.len()
    );
    assert!(median.abs() < 2.0, "median pitch {median}");
    assert!(spread < 40.0, "80 % within {spread} degrees");
}

fn lines(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("annotations.jsonl")).expect("annotations");
    text.lines().map(str::to_owned).collect()
}
