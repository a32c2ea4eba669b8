//! Reader for the XML of dlib's imglab, in which dlib ships the iBUG 300-W labels: boxes with named parts. Coordinates
//! count pixels from 0. Boxes without parts make a detection set.

use super::{DatasetError, Example, Records, original};
use crate::{
    annotation::DetectionRecord,
    geometry::{FaceBox, Point},
};
use roxmltree::Node;
use std::path::Path;

pub(super) fn read(file: &Path) -> Result<Records, DatasetError> {
    let bytes = std::fs::read(file).map_err(|source| DatasetError::Read {
        path: file.to_owned(),
        source,
    })?;
    // imglab declares ISO-8859-1; labels and all but exotic file names are ASCII.
    let text = String::from_utf8_lossy(&bytes);
    let malformed = |found: String| DatasetError::UnknownFormat {
        path: file.to_owned(),
        expected: "XML as imglab writes it: <dataset><images><image file=...><box ...>".to_owned(),
        found,
    };
    let document =
        roxmltree::Document::parse(&text).map_err(|error| malformed(error.to_string()))?;
    let root = document.root_element();
    if !root.has_tag_name("dataset") {
        return Err(malformed(format!("<{}>", root.tag_name().name())));
    }
    let mut records = Records {
        name: original::set_name(file),
        ..Records::default()
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    let is_part = |node: Node| node.has_tag_name("part");
    let has_landmarks = root.descendants().any(is_part);
    for image in root.descendants().filter(|node| node.has_tag_name("image")) {
        let line = document.text_pos_at(image.range().start).row;
        let label = format!("{}:{line}", file.display());
        let Some(name) = image.attribute("file") else {
            records.skip(label, "an <image> without `file`");
            continue;
        };
        if has_landmarks {
            add_faces(&mut records, file, folder, name, image, &label);
        } else {
            match picture(file, folder, name, image) {
                Ok(example) => records.examples.push(example),
                Err(reason) => records.skip(label, reason),
            }
        }
    }
    Ok(records)
}

fn boxes<'a>(image: Node<'a, 'a>) -> impl Iterator<Item = Node<'a, 'a>> {
    image.children().filter(|node| node.has_tag_name("box"))
}

/// imglab's mark for a box that a detector may or may not find.
fn is_ignored(face: &Node) -> bool {
    face.attribute("ignore") == Some("1")
}

/// One example a box with parts.
fn add_faces(
    records: &mut Records,
    file: &Path,
    folder: &Path,
    name: &str,
    image: Node,
    label: &str,
) {
    let path = folder.join(name);
    for face in boxes(image).filter(|face| !is_ignored(face)) {
        let found = path.is_file().then(|| path.clone());
        original::add_face(records, file, label, found, name, |_, _| parts(face));
    }
}

/// The parts in the order of their names, which are numbers.
fn parts(face: Node) -> Result<Vec<Point>, String> {
    let mut parts = face
        .children()
        .filter(|node| node.has_tag_name("part"))
        .map(|part| {
            let name = attribute(&part, "name")?;
            let order: usize = name
                .parse()
                .map_err(|_| format!("part name: expected a number, found {name:?}"))?;
            let (x, y) = (attribute(&part, "x")?, attribute(&part, "y")?);
            Ok((
                order,
                Point::new(original::number(x)?, original::number(y)?),
            ))
        })
        .collect::<Result<Vec<_>, String>>()?;
    parts.sort_by_key(|(order, _)| *order);
    Ok(parts.into_iter().map(|(_, point)| point).collect())
}

fn picture(file: &Path, folder: &Path, name: &str, image: Node) -> Result<Example, String> {
    let (width, height) = original::size_of(&folder.join(name))?;
    let mut record = DetectionRecord {
        image: name.to_owned(),
        dataset: original::set_name(file),
        split: original::split_of(file, name),
        width,
        height,
        boxes: Vec::new(),
        ignore: Vec::new(),
        box_kind: "imglab".to_owned(),
    };
    for face in boxes(image) {
        let edge = |name| original::number(attribute(&face, name)?);
        let found = FaceBox::new(edge("left")?, edge("top")?, edge("width")?, edge("height")?);
        if !(found.width > 0.0 && found.height > 0.0) {
            return Err(format!(
                "the box {}x{} has no area",
                found.width, found.height
            ));
        }
        if is_ignored(&face) {
            record.ignore.push(found);
        } else {
            record.boxes.push(found);
        }
    }
    Ok(Example::of_picture(folder, record))
}

fn attribute<'a>(node: &Node<'a, '_>, name: &str) -> Result<&'a str, String> {
    node.attribute(name)
        .ok_or_else(|| format!("a <{}> without `{name}`", node.tag_name().name()))
}
