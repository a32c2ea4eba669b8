//! Datagrams over UDP: a socket that sends to one address, and JSON objects, one a frame, through it. The only sockets of
//! the program are opened here.

use super::{FrameRecord, RecordSink, SinkError};
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    time::Duration,
};

/// The largest datagram over IPv4.
const LARGEST: usize = 65_507;

/// How long a full send buffer is waited for; the datagram is lost then, as datagrams may be.
const SEND_LIMIT: Duration = Duration::from_millis(500);

/// Sends datagrams to one address. Nobody needs to listen there.
pub(super) struct Sender {
    socket: UdpSocket,
    address: String,
    resolved: SocketAddr,
    sent: u64,
    lost: u64,
}

impl Sender {
    /// Resolves `address` (`HOST:PORT`) once and opens a socket for it.
    pub(super) fn open(address: &str) -> Result<Self, SinkError> {
        let refused = |reason: String| SinkError::Address {
            address: address.to_owned(),
            reason,
        };
        let resolved = address
            .to_socket_addrs()
            .map_err(|error| refused(error.to_string()))?
            .next()
            .ok_or_else(|| refused("the name has no address".to_owned()))?;
        if resolved.port() == 0 {
            return Err(refused("port 0 is none".to_owned()));
        }
        let own = match resolved {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(own)
            .and_then(|socket| {
                socket.set_write_timeout(Some(SEND_LIMIT))?;
                Ok(socket)
            })
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            socket,
            address: address.to_owned(),
            resolved,
            sent: 0,
            lost: 0,
        })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let Err(source) = self.socket.send_to(bytes, self.resolved) else {
            self.sent += 1;
            return Ok(());
        };
        // A receiver or a network that is away may come back.
        let passes = matches!(
            source.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::Interrupted
                | ErrorKind::NetworkDown
                | ErrorKind::NetworkUnreachable
                | ErrorKind::TimedOut
                | ErrorKind::WouldBlock
        );
        if !passes {
            return Err(SinkError::Send {
                address: self.address.clone(),
                source,
            });
        }
        self.lost += 1;
        if self.lost == 1 {
            tracing::warn!("{}: a datagram was not sent: {source}", self.address);
        }
        Ok(())
    }

    /// What was sent, in words.
    pub(super) fn report(&self) -> Option<String> {
        let Self {
            address,
            sent,
            lost,
            ..
        } = self;
        let lost = if *lost > 0 {
            format!(", {lost} not sent")
        } else {
            String::new()
        };
        Some(format!("{address} ({sent} datagrams{lost})"))
    }
}

/// Sends each frame's JSON object, as [`super::JsonLines`] writes it, in a datagram.
pub struct JsonDatagrams {
    sender: Sender,
    bytes: Vec<u8>,
}

impl JsonDatagrams {
    /// Opens a socket for `address` (`HOST:PORT`).
    ///
    /// # Errors
    /// [`SinkError::Address`].
    pub fn open(address: &str) -> Result<Self, SinkError> {
        Ok(Self {
            sender: Sender::open(address)?,
            bytes: Vec::new(),
        })
    }
}

impl RecordSink for JsonDatagrams {
    /// Faces at the end that do not fit into a datagram are left out and counted in it.
    fn write(&mut self, record: &FrameRecord<'_>) -> Result<(), SinkError> {
        let mut record = *record;
        loop {
            self.bytes.clear();
            serde_json::to_writer(&mut self.bytes, &record).map_err(|error| SinkError::Send {
                address: self.sender.address.clone(),
                source: error.into(),
            })?;
            match record.faces.split_last() {
                Some((_, fewer)) if self.bytes.len() > LARGEST => {
                    record.faces = fewer;
                    record.left_out += 1;
                }
                _ => break,
            }
        }
        self.sender.send(&self.bytes)
    }

    fn finish(self: Box<Self>) -> Result<Option<String>, SinkError> {
        Ok(self.sender.report())
    }
}

/// A socket of this machine that a test reads, and its address.
#[cfg(test)]
pub(super) fn receiver() -> (UdpSocket, String) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a limit");
    let address = socket.local_addr().expect("an address").to_string();
    (socket, address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        geometry::{FaceBox, Point},
        tracker::TrackedFace,
    };

    fn face(id: u64, points: usize) -> TrackedFace {
        TrackedFace {
            id,
            face_box: FaceBox::new(1.0, 2.0, 3.0, 4.0),
            score: 0.5,
            landmarks: vec![Point::new(123.456, 78.9); points],
            confidence: 0.25,
            expected_errors_px: Vec::new(),
            pose: None,
            signals: None,
        }
    }

    fn received(socket: &UdpSocket) -> serde_json::Value {
        let mut bytes = vec![0; 1 << 16];
        let length = socket.recv(&mut bytes).expect("a datagram");
        serde_json::from_slice(&bytes[..length]).expect("one JSON object")
    }

    #[test]
    fn each_frame_is_one_json_datagram() {
        let (socket, address) = receiver();
        let mut sink = JsonDatagrams::open(&address).expect("sink");
        for frame in [4, 6] {
            sink.write(&FrameRecord {
                frame,
                time_secs: 0.25 * frame as f64,
                faces: &[face(7, 2)],
                dropped: 1,
                left_out: 0,
            })
            .expect("sent");
        }
        for frame in [4, 6] {
            let object = received(&socket);
            assert_eq!(object["frame"], frame);
            assert_eq!(object["time_secs"], 0.25 * f64::from(frame));
            assert_eq!(object["faces"][0]["id"], 7);
            assert_eq!(
                object["faces"][0]["landmarks"].as_array().map(Vec::len),
                Some(2)
            );
            assert!(object.get("left_out").is_none());
        }
        let said = Box::new(sink).finish().expect("finish").expect("words");
        assert_eq!(said, format!("{address} (2 datagrams)"));
    }

    #[test]
    fn faces_that_do_not_fit_are_counted() {
        let (socket, address) = receiver();
        let mut sink = JsonDatagrams::open(&address).expect("sink");
        let faces: Vec<TrackedFace> = (1..=64).map(|id| face(id, 100)).collect();
        sink.write(&FrameRecord {
            frame: 0,
            time_secs: 0.0,
            faces: &faces,
            dropped: 0,
            left_out: 0,
        })
        .expect("sent");
        let object = received(&socket);
        let count = object["faces"].as_array().expect("faces").len();
        assert!((10..64).contains(&count), "{count}");
        assert_eq!(object["left_out"], 64 - count);
    }

    #[test]
    fn nobody_needs_to_listen_but_the_address_must_be_one() {
        let (socket, address) = receiver();
        drop(socket);
        let mut sink = Sender::open(&address).expect("sink");
        for _ in 0..5 {
            sink.send(b"hello").expect("lost or sent, but no failure");
        }
        for wrong in [
            "",
            "localhost",
            "127.0.0.1:",
            "127.0.0.1:99999",
            "127.0.0.1:0",
        ] {
            let error = Sender::open(wrong).err().expect(wrong).to_string();
            assert!(error.contains("expected HOST:PORT"), "{error}");
        }
    }
}
