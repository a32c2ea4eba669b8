//! Tests of the readers of original formats: small files of our own, and the public samples where they are there.

use super::*;
use crate::{
    annotation::Split,
    picture,
    train::synthetic::{Kind, Scene},
};
use std::fmt::Write;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");

fn open(path: &Path) -> Result<Dataset, DatasetError> {
    Dataset::open(&path.display().to_string(), &OpenOptions::default())
}

/// A public set without a look at its pictures.
fn open_unchecked(set: &str) -> Dataset {
    let options = OpenOptions {
        check_pictures: false,
        ..OpenOptions::default()
    };
    Dataset::open(&format!("{SHARED}/{set}"), &options).expect(set)
}

fn landmarks(example: &Example) -> &[Point] {
    match &example.label {
        Label::Landmarks { points, .. } => points,
        Label::Detection { .. } => panic!("{} has no landmarks", example.id),
    }
}

fn scene(index: usize) -> Scene {
    Scene::new(1, Kind::Landmarks, Split::Train, index)
}

fn assert_near(found: &[Point], expected: &[Point], limit: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            found.distance(*expected) < limit,
            "{what} point {index}: {found:?}, expected {expected:?}"
        );
    }
}

#[test]
fn pts_files_count_from_one() {
    let folder = tempfile::tempdir().expect("folder");
    for index in 0..2 {
        let path = folder.path().join(format!("photo_{index}.png"));
        picture::save(&scene(index).paint(), &path).expect("png");
        let mut text = "version: 1\nn_points: 68\n{\n".to_owned();
        for point in scene(index).faces()[0].landmarks() {
            writeln!(text, "{} {}", point.x + 1.0, point.y + 1.0).expect("text");
        }
        std::fs::write(path.with_extension("pts"), text + "}\n").expect("pts");
    }
    std::fs::write(folder.path().join("alone.pts"), "1 1\n").expect("pts");
    std::fs::write(folder.path().join("photo_1.PTS"), "1 1\n2 2\n").expect("pts");
    let data = open(folder.path()).expect("data");
    assert_eq!(data.examples.len(), 2);
    for (index, example) in data.examples.iter().enumerate() {
        assert_eq!(example.id, "photo");
        assert_near(
            landmarks(example),
            &scene(index).faces()[0].landmarks(),
            1e-3,
            "pts",
        );
    }
    let reasons: Vec<&str> = data
        .skipped
        .iter()
        .map(|skip| skip.reason.as_str())
        .collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(
        reasons[0].contains("no picture of that name"),
        "{reasons:?}"
    );
    assert!(reasons[1].contains("landmarks, found 2"), "{reasons:?}");
}

#[test]
fn imglab_files_are_read_with_parts_in_the_order_of_their_names() {
    let data = open(Path::new(&format!("{SAMPLES}/imglab/labels.xml"))).expect("data");
    assert_eq!(data.examples.len(), 1, "{:?}", data.skipped);
    assert_near(
        landmarks(&data.examples[0]),
        &scene(0).faces()[0].landmarks(),
        0.71, // rounded to whole pixels
        "imglab",
    );
    let reasons: Vec<&str> = data
        .skipped
        .iter()
        .map(|skip| skip.reason.as_str())
        .collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].contains("landmarks, found 2"), "{reasons:?}");
    assert!(
        reasons[1].contains("no picture of that name"),
        "{reasons:?}"
    );
    assert!(reasons[2].contains("without `file`"), "{reasons:?}");
}

#[test]
fn imglab_boxes_without_parts_are_a_detection_set() {
    let folder = tempfile::tempdir().expect("folder");
    picture::save(&scene(0).paint(), &folder.path().join("a.png")).expect("png");
    let box_of = |left: &str, rest: &str| {
        format!("<box top='10' left='{left}' width='30' height='40'{rest}/>")
    };
    let text = format!(
        "<dataset><images><image file='a.png'>{}{}</image><image file='a.png'>{}</image></images></dataset>",
        box_of("20", ""),
        box_of("60", " ignore='1'"),
        box_of("NaN", ""),
    );
    std::fs::write(folder.path().join("boxes.xml"), text).expect("xml");
    let data = open(folder.path()).expect("data");
    let expected = Label::Detection {
        boxes: vec![FaceBox::new(20.0, 10.0, 30.0, 40.0)],
        ignore: vec![FaceBox::new(60.0, 10.0, 30.0, 40.0)],
    };
    assert_eq!(
        (data.examples.len(), &data.examples[0].label),
        (1, &expected)
    );
    assert!(data.skipped[0].reason.contains("NaN"), "{:?}", data.skipped);
}

#[test]
fn kaggle_tables_become_five_points_as_the_picture_shows_them() {
    let folder = tempfile::tempdir().expect("folder");
    let names = [
        ("nose_tip", 47.0, 60.0),
        ("left_eye_center", 66.0, 38.0),
        ("right_eye_center", 30.0, 37.0),
        ("mouth_left_corner", 60.0, 76.0),
        ("mouth_right_corner", 34.0, 77.0),
    ];
    let mut header = Vec::new();
    let mut good = Vec::new();
    for (name, x, y) in names {
        header.push(format!("{name}_x,{name}_y"));
        good.push(format!("{x},{y}"));
    }
    let grey: Vec<String> = (0..96 * 96).map(|i| (i % 96).to_string()).collect();
    let (good, grey) = (good.join(","), grey.join(" "));
    let rows = [
        format!("{},Image", header.join(",")),
        format!("{good},{grey}"),
        format!("{},{grey}", good.replace("66,38", ",")),
        format!("{good},1 2 3"),
        format!("{good},{grey}").replace(" 95 ", " 950 "),
    ];
    let file = folder.path().join("training.csv");
    std::fs::write(&file, rows.join("\n")).expect("csv");
    let data = open(&file).expect("data");
    let expected = [
        (30.0, 37.0),
        (66.0, 38.0),
        (47.0, 60.0),
        (34.0, 77.0),
        (60.0, 76.0),
    ]
    .map(|(x, y)| Point::new(x, y));
    assert_eq!(data.examples.len(), 1);
    assert_eq!(landmarks(&data.examples[0]), expected);
    let frame = data.examples[0].picture.load().expect("picture");
    assert_eq!(frame.pixel(17, 3), [17; 3]);
    for (skipped, (line, reason)) in data.skipped.iter().zip([
        (":3", "left_eye_center: expected a coordinate"),
        (":4", "expected 9216 grey values, found 3"),
        (":5", "found \"950\""),
    ]) {
        assert!(skipped.item.ends_with(line), "{skipped:?}");
        assert!(skipped.reason.contains(reason), "{skipped:?}");
    }
}

#[test]
fn a_file_or_folder_of_no_known_format_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let error = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("file");
        open(&file).expect_err(name).to_string()
    };
    let message = error("a.csv", "Id,Predicted\n1,2\n");
    assert!(message.contains("a file of another kind"), "{message}");
    let message = error("b.xml", "<annotation/>");
    assert!(message.contains("found <annotation>"), "{message}");
    let message = error("c.xml", "<dataset>");
    assert!(message.contains("expected XML"), "{message}");
    let message = error("d.csv", "nose_tip_x,Image\n");
    assert!(message.contains("no column"), "{message}");
    let message = open(folder.path()).expect_err("several").to_string();
    assert!(message.contains("4 tables"), "{message}");
}

/// The public originals and the JSON-lines records of the same pictures agree.
#[test]
fn the_public_originals_agree_with_their_records() {
    if !Path::new(SHARED).exists() {
        println!("skipped: {SHARED} is not there");
        return;
    }
    for (native, set, scheme) in [
        ("imm_asf", "imm58", Scheme::Imm58),
        ("imm_frontal_asf", "imm_frontal73", Scheme::ImmFrontal73),
    ] {
        let originals = open(Path::new(&format!("{SHARED}/native/{native}"))).expect(native);
        let records = open_unchecked(set);
        assert_eq!(
            (originals.examples.len(), &originals.skipped),
            (3, &Vec::new())
        );
        for original in &originals.examples {
            let stem = |example: &Example| original::set_name(Path::new(&example.picture.name()));
            let record = records
                .examples
                .iter()
                .find(|record| stem(record) == stem(original))
                .expect("the same picture");
            // The records' pictures were shrunk: x' = (x + 0.5) s - 0.5.
            let shrink = 1.0 / record.original_scale;
            let expected: Vec<Point> = landmarks(original)
                .iter()
                .map(|point| {
                    let moved = |value: f32| (value + 0.5) * shrink - 0.5;
                    Point::new(moved(point.x), moved(point.y))
                })
                .collect();
            assert_near(landmarks(record), &expected, 0.01, &stem(original));
            assert!(
                matches!(&original.label, Label::Landmarks { scheme: found, .. } if *found == scheme)
            );
        }
    }
    // The 300-W records are crops of their pictures: what must agree is the shape, and where it lies on the picture.
    let originals = open(Path::new(&format!("{SHARED}/native/ibug_pts"))).expect("pts");
    let records = open_unchecked("helen");
    assert_eq!(originals.examples.len(), 3, "{:?}", originals.skipped);
    for original in &originals.examples {
        let stem = original::set_name(Path::new(&original.picture.name()));
        let record = records
            .examples
            .iter()
            .find(|record| {
                record
                    .picture
                    .name()
                    .ends_with(&format!("train_{stem}.jpg"))
            })
            .expect("the same picture");
        let (from, to) = (landmarks(original), landmarks(record));
        // The crops' sides were rounded to whole pixels, so that x and y have scales of their own.
        let fit = |axis: fn(&Point) -> f32| {
            let pairs = || from.iter().map(axis).zip(to.iter().map(axis));
            let count = from.len() as f32;
            let (x_mean, y_mean) = pairs().fold((0.0, 0.0), |(x, y), (from, to)| {
                (x + from / count, y + to / count)
            });
            let covariance: f32 = pairs().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
            let variance: f32 = pairs().map(|(x, _)| (x - x_mean).powi(2)).sum();
            let scale = covariance / variance;
            (scale, y_mean - scale * x_mean)
        };
        let (across, down) = (fit(|point| point.x), fit(|point| point.y));
        assert!(
            (across.0 / down.0 - 1.0).abs() < 0.005,
            "{across:?} {down:?}"
        );
        let mapped: Vec<Point> = from
            .iter()
            .map(|point| Point::new(across.0 * point.x + across.1, down.0 * point.y + down.1))
            .collect();
        assert_near(to, &mapped, 0.02, &stem);
    }
}

/// Writes `tests/data/imglab` anew.
#[test]
#[ignore = "writes the committed sample"]
fn write_the_imglab_sample() {
    let folder = Path::new(SAMPLES).join("imglab");
    picture::save(&scene(0).paint(), &folder.join("drawn.png")).expect("png");
    let mut text = "<?xml version='1.0' encoding='ISO-8859-1'?>\n<?xml-stylesheet type='text/xsl' \
        href='image_metadata_stylesheet.xsl'?>\n<dataset>\n<name>A drawn face, in the form of dlib's iBUG labels</name>\n\
        <images>\n  <image file='drawn.png' width='128' height='128'>\n"
        .to_owned();
    text += "    <box top='30' left='30' width='70' height='70'>\n";
    let points = scene(0).faces()[0].landmarks();
    // Out of order, as nothing promises an order.
    for (index, point) in points.iter().enumerate().rev() {
        let (x, y) = (point.x.round(), point.y.round());
        writeln!(text, "      <part name='{index:02}' x='{x}' y='{y}'/>").expect("text");
    }
    text += "    </box>\n    <box top='1' left='1' width='9' height='9' ignore='1'/>\n\
        \x20   <box top='1' left='1' width='9' height='9'>\n      <part name='0' x='1' y='1'/>\n\
        \x20     <part name='1' x='5' y='5'/>\n    </box>\n  </image>\n  <image file='missing.png'>\n\
        \x20   <box top='1' left='1' width='9' height='9'>\n      <part name='0' x='1' y='1'/>\n    </box>\n  </image>\n\
        \x20 <image>\n  </image>\n</images>\n</dataset>\n";
    std::fs::write(folder.join("labels.xml"), text).expect("xml");
}
