//! Open Sound Control (1.0) over UDP as programs for virtual characters read it: the messages of the Virtual Motion Capture
//! protocol (<https://protocol.vmc.info>), one bundle a frame.
//!
//! | address | arguments |
//! |---|---|
//! | `/VMC/Ext/OK` | int: 1 while a face is followed, else 0 |
//! | `/VMC/Ext/T` | float: time of the frame in seconds |
//! | `/VMC/Ext/Bone/Pos` | string `Head`; position, three floats, always 0; rotation, a unit quaternion x, y, z, w |
//! | `/VMC/Ext/Blend/Val` | string: name of an expression; float: 0 to 1 |
//! | `/VMC/Ext/Blend/Apply` | none: the expressions before it belong together |
//!
//! The space is Unity's, as the protocol asks: the character looks along z, its right is x, up is y, left-handed. Left and
//! right are the person's own. A protocol for one character gets one face: the one that has been followed longest.

use super::{FrameRecord, RecordSink, SinkError, datagrams::Sender};
use crate::{pose::Pose, signals::Signals, tracker::TrackedFace};
use rosc::{OscBundle, OscMessage, OscPacket, OscTime, OscType, encoder};

/// What expressions are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlendNames {
    /// The presets of VRM 0: `Blink_L`, `Blink_R`, `A`.
    #[default]
    Vrm,
    /// ARKit's blend shapes, as characters with "perfect sync" have them: `eyeBlinkLeft`, `eyeBlinkRight`, `jawOpen`.
    Arkit,
}

impl BlendNames {
    /// Of the left eye's lid, the right eye's lid and the mouth.
    const fn names(self) -> [&'static str; 3] {
        match self {
            Self::Vrm => ["Blink_L", "Blink_R", "A"],
            Self::Arkit => ["eyeBlinkLeft", "eyeBlinkRight", "jawOpen"],
        }
    }
}

/// Eye aspect ratios of an open and of a closed eye.
const EYE_OPEN: f32 = 0.28;
const EYE_CLOSED: f32 = 0.12;
/// Mouth ratios of a closed and of a wide open mouth.
const MOUTH_CLOSED: f32 = 0.05;
const MOUTH_OPEN: f32 = 0.7;

/// "Immediately", in OSC.
const NOW: OscTime = OscTime {
    seconds: 0,
    fractional: 1,
};

/// Sends head rotation and expressions of one face.
pub struct VmcSender {
    sender: Sender,
    names: BlendNames,
}

impl VmcSender {
    /// Opens a socket for `address` (`HOST:PORT`); receivers listen on port 39539 or 39540 by custom.
    ///
    /// # Errors
    /// [`SinkError::Address`].
    pub fn open(address: &str, names: BlendNames) -> Result<Self, SinkError> {
        Ok(Self {
            sender: Sender::open(address)?,
            names,
        })
    }
}

impl RecordSink for VmcSender {
    fn write(&mut self, record: &FrameRecord<'_>) -> Result<(), SinkError> {
        let packet = OscPacket::Bundle(bundle(record, self.names));
        let bytes = encoder::encode(&packet).map_err(|error| SinkError::Send {
            address: "OSC".to_owned(),
            source: std::io::Error::other(format!("{error:?}")),
        })?;
        self.sender.send(&bytes)
    }

    fn finish(self: Box<Self>) -> Result<Option<String>, SinkError> {
        Ok(self.sender.report())
    }
}

fn bundle(record: &FrameRecord<'_>, names: BlendNames) -> OscBundle {
    let face = record.faces.iter().min_by_key(|face| face.id);
    let mut content = vec![
        message("/VMC/Ext/OK", vec![OscType::Int(face.is_some().into())]),
        message("/VMC/Ext/T", vec![OscType::Float(record.time_secs as f32)]),
    ];
    if let Some(TrackedFace { pose, signals, .. }) = face {
        content.extend(pose.as_ref().map(head));
        if let Some(signals) = signals {
            let values = expressions(signals);
            for (name, value) in names.names().into_iter().zip(values) {
                let arguments = vec![OscType::String(name.to_owned()), OscType::Float(value)];
                content.push(message("/VMC/Ext/Blend/Val", arguments));
            }
            content.push(message("/VMC/Ext/Blend/Apply", Vec::new()));
        }
    }
    OscBundle {
        timetag: NOW,
        content,
    }
}

fn message(address: &str, args: Vec<OscType>) -> OscPacket {
    OscPacket::Message(OscMessage {
        addr: address.to_owned(),
        args,
    })
}

fn head(pose: &Pose) -> OscPacket {
    let numbers = [0.0; 3].into_iter().chain(quaternion(pose));
    let name = OscType::String("Head".to_owned());
    let arguments = std::iter::once(name).chain(numbers.map(OscType::Float));
    message("/VMC/Ext/Bone/Pos", arguments.collect())
}

/// The rotation of the head, x, y, z, w. A [`Pose`] is Rz(roll) Ry(-yaw) Rx(-pitch) in a space with x to the picture's
/// right, y down, z away; all three axes of the character, who looks at the camera, are the opposite ones, which leaves a
/// rotation's matrix, and so its quaternion, as it is.
fn quaternion(pose: &Pose) -> [f32; 4] {
    let half = |degrees: f32| (0.5 * degrees.to_radians()).sin_cos();
    let (roll_sin, roll_cos) = half(pose.roll);
    let (yaw_sin, yaw_cos) = half(-pose.yaw);
    let (pitch_sin, pitch_cos) = half(-pose.pitch);
    let roll = [0.0, 0.0, roll_sin, roll_cos];
    let yaw = [0.0, yaw_sin, 0.0, yaw_cos];
    let pitch = [pitch_sin, 0.0, 0.0, pitch_cos];
    product(product(roll, yaw), pitch)
}

/// Hamilton's product of quaternions x, y, z, w.
fn product([ax, ay, az, aw]: [f32; 4], [bx, by, bz, bw]: [f32; 4]) -> [f32; 4] {
    [
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    ]
}

/// Of the person's left and right lid and the mouth, 0 to 1. The person's left is the picture's right.
fn expressions(signals: &Signals) -> [f32; 3] {
    let between = |value: f32, from: f32, to: f32| ((value - from) / (to - from)).clamp(0.0, 1.0);
    [
        between(signals.right_eye, EYE_OPEN, EYE_CLOSED),
        between(signals.left_eye, EYE_OPEN, EYE_CLOSED),
        between(signals.mouth, MOUTH_CLOSED, MOUTH_OPEN),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{geometry::FaceBox, sink::datagrams::receiver};
    use rosc::decoder;

    fn face(id: u64, pose: Option<Pose>, signals: Option<Signals>) -> TrackedFace {
        TrackedFace {
            id,
            face_box: FaceBox::new(1.0, 2.0, 3.0, 4.0),
            score: 0.5,
            landmarks: Vec::new(),
            confidence: 0.25,
            expected_errors_px: Vec::new(),
            pose,
            signals,
        }
    }

    /// Sends `faces` and gives the messages that arrive, as address and arguments.
    fn arrived(faces: &[TrackedFace], names: BlendNames) -> Vec<(String, Vec<OscType>)> {
        let (socket, address) = receiver();
        let mut sink = VmcSender::open(&address, names).expect("sink");
        sink.write(&FrameRecord {
            frame: 3,
            time_secs: 1.5,
            faces,
            dropped: 0,
            left_out: 0,
        })
        .expect("sent");
        let mut bytes = vec![0; 1 << 16];
        let length = socket.recv(&mut bytes).expect("a datagram");
        let (rest, packet) = decoder::decode_udp(&bytes[..length]).expect("OSC");
        assert!(rest.is_empty());
        let OscPacket::Bundle(bundle) = packet else {
            panic!("a bundle: {packet:?}");
        };
        assert_eq!(bundle.timetag, NOW);
        bundle
            .content
            .into_iter()
            .map(|packet| match packet {
                OscPacket::Message(OscMessage { addr, args }) => (addr, args),
                OscPacket::Bundle(_) => panic!("messages"),
            })
            .collect()
    }

    #[test]
    fn a_frame_is_a_bundle_of_the_oldest_face() {
        let pose = Pose {
            yaw: 90.0,
            pitch: 0.0,
            roll: 0.0,
        };
        let signals = Signals {
            left_eye: EYE_CLOSED,
            right_eye: EYE_OPEN,
            mouth: 0.5 * (MOUTH_CLOSED + MOUTH_OPEN),
            ..Signals::default()
        };
        let faces = [face(9, None, None), face(2, Some(pose), Some(signals))];
        let text = |text: &str| OscType::String(text.to_owned());
        for (kind, [left, right, mouth]) in [
            (BlendNames::Vrm, ["Blink_L", "Blink_R", "A"]),
            (
                BlendNames::Arkit,
                ["eyeBlinkLeft", "eyeBlinkRight", "jawOpen"],
            ),
        ] {
            let messages = arrived(&faces, kind);
            let addresses: Vec<&str> = messages.iter().map(|(address, _)| &**address).collect();
            assert_eq!(
                addresses,
                [
                    "/VMC/Ext/OK",
                    "/VMC/Ext/T",
                    "/VMC/Ext/Bone/Pos",
                    "/VMC/Ext/Blend/Val",
                    "/VMC/Ext/Blend/Val",
                    "/VMC/Ext/Blend/Val",
                    "/VMC/Ext/Blend/Apply",
                ]
            );
            assert_eq!(messages[0].1, [OscType::Int(1)]);
            assert_eq!(messages[1].1, [OscType::Float(1.5)]);
            assert_eq!(messages[2].1.len(), 8);
            assert_eq!(messages[2].1[0], text("Head"));
            // The picture's left eye is the person's right one.
            assert_eq!(messages[3].1, [text(left), OscType::Float(0.0)]);
            assert_eq!(messages[4].1, [text(right), OscType::Float(1.0)]);
            let [name, OscType::Float(value)] = messages[5].1.as_slice() else {
                panic!("name and value: {:?}", messages[5]);
            };
            assert_eq!(*name, text(mouth));
            assert!((value - 0.5).abs() < 1e-5, "{value}");
            assert!(messages[6].1.is_empty());
        }
    }

    #[test]
    fn without_a_face_it_says_so() {
        let messages = arrived(&[], BlendNames::Vrm);
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0].1, [OscType::Int(0)]);
        let messages = arrived(&[face(1, None, None)], BlendNames::Vrm);
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0].1, [OscType::Int(1)]);
    }

    /// Where a direction of the character points after the rotation.
    fn turned(pose: Pose, [x, y, z]: [f32; 3]) -> [f32; 3] {
        let q = quaternion(&pose);
        let [qx, qy, qz, qw] = q;
        let inverse = [-qx, -qy, -qz, qw];
        let [x, y, z, _] = product(product(q, [x, y, z, 0.0]), inverse);
        [x, y, z]
    }

    #[test]
    fn the_head_turns_as_the_person_does() {
        const FORWARD: [f32; 3] = [0.0, 0.0, 1.0];
        const UP: [f32; 3] = [0.0, 1.0, 0.0];
        let pose = |yaw, pitch, roll| Pose { yaw, pitch, roll };
        let half = std::f32::consts::FRAC_1_SQRT_2;
        for (pose, from, to) in [
            (pose(0.0, 0.0, 0.0), FORWARD, FORWARD),
            // To the picture's right: the person's left, -x.
            (pose(45.0, 0.0, 0.0), FORWARD, [-half, 0.0, half]),
            (pose(0.0, 45.0, 0.0), FORWARD, [0.0, half, half]),
            // Clockwise in the picture: the top of the head goes to the person's left.
            (pose(0.0, 0.0, 45.0), UP, [-half, half, 0.0]),
        ] {
            let found = turned(pose, from);
            for (found, to) in found.into_iter().zip(to) {
                assert!((found - to).abs() < 1e-6, "{pose:?}: {found} {to}");
            }
        }
        let length: f32 = quaternion(&pose(30.0, -20.0, 10.0))
            .iter()
            .map(|part| part * part)
            .sum();
        assert!((length - 1.0).abs() < 1e-6);
    }
}
