//! Which device node is which camera. Numbers of device nodes are given in the order of plugging in: a camera that
//! comes back may have another one. What a camera is known by is its place on the bus and its name.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A device node, as the system lists it without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// The N of /dev/videoN.
    pub(super) number: u32,
    /// What the camera calls itself.
    pub(super) name: String,
    /// The device behind the node, such as the USB port; for a virtual one the node itself.
    pub(super) place: PathBuf,
    /// Which of the device's nodes this is; 0 is the camera of most, others carry metadata or infrared.
    pub(super) function: u32,
}

/// The device nodes, by number. `sys` is the system's folder of devices, /sys, and `dev` that of nodes, /dev.
pub(super) fn nodes(sys: &Path, dev: &Path) -> Vec<Node> {
    let mut nodes: Vec<Node> = fs::read_dir(dev)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let number = name.to_str()?.strip_prefix("video")?.parse().ok()?;
            Some(node(number, sys))
        })
        .collect();
    nodes.sort_by_key(|node| node.number);
    nodes
}

fn node(number: u32, sys: &Path) -> Node {
    let entry = sys.join(format!("class/video4linux/video{number}"));
    let text = |file: &str| {
        fs::read_to_string(entry.join(file))
            .ok()
            .map(|text| text.trim().to_owned())
    };
    Node {
        number,
        name: text("name").unwrap_or_else(|| format!("video{number}")),
        place: fs::canonicalize(entry.join("device"))
            .or_else(|_| fs::canonicalize(&entry))
            .unwrap_or(entry.clone()),
        function: text("index")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
    }
}

/// The camera `wanted` among the nodes that are there `now`; `before` are those that were there while it was. In this
/// order:
///
/// 1. the same name in the same place, whatever its number;
/// 2. the only newcomer of the same name: it was plugged in elsewhere. Another camera of that name that was there all
///    the time is not it;
/// 3. whatever has the number that the user asked for, when no other camera is there: it was exchanged.
///
/// Otherwise none: rather wait than show through somebody else's camera.
pub(super) fn same_camera<'a>(wanted: &Node, before: &[Node], now: &'a [Node]) -> Option<&'a Node> {
    let alike = |node: &&Node| node.name == wanted.name && node.function == wanted.function;
    if let Some(node) = now
        .iter()
        .find(|node| alike(node) && node.place == wanted.place)
    {
        return Some(node);
    }
    let was_there = |node: &Node| {
        before
            .iter()
            .any(|other| other.place == node.place && other.name == node.name)
    };
    let mut newcomers = now.iter().filter(|node| alike(node) && !was_there(node));
    if let (Some(node), None) = (newcomers.next(), newcomers.next()) {
        return Some(node);
    }
    let node = now.iter().find(|node| node.number == wanted.number)?;
    let alone = now.iter().all(|other| other.place == node.place);
    (alone && node.function == wanted.function && !was_there(node)).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(number: u32, name: &str, place: &str) -> Node {
        Node {
            number,
            name: name.to_owned(),
            place: place.into(),
            function: 0,
        }
    }

    #[test]
    fn a_camera_is_found_again() {
        let wanted = camera(0, "Eye", "usb1-2");
        let other = camera(2, "Eye", "usb1-3");
        let before = [wanted.clone(), other.clone()];
        let infrared = Node {
            function: 2,
            ..camera(5, "Eye", "usb1-2")
        };
        for (now, expected) in [
            (vec![], None),
            // The same place, also under another number and beside its own second node.
            (vec![other.clone(), wanted.clone()], Some(0)),
            (vec![infrared.clone(), camera(4, "Eye", "usb1-2")], Some(4)),
            (vec![camera(4, "Eye", "usb1-2")], Some(4)),
            // Another port; the other camera of that name is not it, even alone.
            (vec![other.clone(), camera(3, "Eye", "usb1-9")], Some(3)),
            (vec![other.clone()], None),
            // Two newcomers: which?
            (
                vec![camera(3, "Eye", "usb1-8"), camera(4, "Eye", "usb1-9")],
                None,
            ),
            // Exchanged for another one, which is the only one there is.
            (vec![camera(0, "Lens", "usb1-2")], Some(0)),
            (vec![camera(0, "Lens", "usb1-2"), other.clone()], None),
            (vec![camera(1, "Lens", "usb1-2")], None),
            (vec![infrared], None),
        ] {
            let found = same_camera(&wanted, &before, &now).map(|node| node.number);
            assert_eq!(found, expected, "{now:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn nodes_are_read_without_opening_them() {
        let folder = tempfile::tempdir().expect("folder");
        let (sys, dev) = (folder.path().join("sys"), folder.path().join("dev"));
        let port = sys.join("devices/usb1/1-2");
        fs::create_dir_all(&port).expect("folder");
        fs::create_dir_all(&dev).expect("folder");
        for (number, function) in [(10, "1"), (2, "0")] {
            let entry = sys.join(format!("class/video4linux/video{number}"));
            fs::create_dir_all(&entry).expect("folder");
            fs::write(entry.join("name"), "Eye\n").expect("name");
            fs::write(entry.join("index"), function).expect("index");
            std::os::unix::fs::symlink(&port, entry.join("device")).expect("link");
            fs::write(dev.join(format!("video{number}")), "").expect("node");
        }
        for name in ["video", "videocard", "null", "video7"] {
            fs::write(dev.join(name), "").expect("node");
        }
        let nodes = nodes(&sys, &dev);
        let numbers: Vec<u32> = nodes.iter().map(|node| node.number).collect();
        assert_eq!(numbers, [2, 7, 10]);
        let place = fs::canonicalize(&port).expect("port");
        assert_eq!((nodes[0].name.as_str(), &nodes[0].place), ("Eye", &place));
        assert_eq!((nodes[1].name.as_str(), nodes[2].function), ("video7", 1));
    }
}
