//! The window under a virtual display (Xvfb): what is on the screen, keys, resizing, closing from outside. Skipped where
//! Xvfb is not installed.

use crate::fixtures::root;
use facemark::{frame::Frame, picture};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use x11rb::{
    connection::Connection,
    protocol::{
        xproto::{
            AtomEnum, ClientMessageEvent, ConfigureWindowAux, ConnectionExt as _, EventMask,
            ImageFormat, InputFocus, KEY_PRESS_EVENT, KEY_RELEASE_EVENT, Window,
        },
        xtest::ConnectionExt as _,
    },
    rust_connection::RustConnection,
};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rows of the panels at the top and the bottom of a window of 512 x 512 pixels.
const PANEL: usize = 40;

/// Ends a program whatever becomes of the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Display {
    _server: Program,
    name: String,
    connection: RustConnection,
    screen: Window,
}

impl Display {
    fn start() -> Option<Self> {
        let server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1280x900x24"])
            .args(["-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut server) = server else {
            println!("skipped: Xvfb is not installed");
            return None;
        };
        let mut number = String::new();
        let said = server.stdout.take().expect("piped");
        BufReader::new(said)
            .read_line(&mut number)
            .expect("a display");
        let name = format!(":{}", number.trim());
        let (connection, screen) = RustConnection::connect(Some(&name)).expect("connection");
        let screen = connection.setup().roots[screen].root;
        Some(Self {
            _server: Program(server),
            name,
            connection,
            screen,
        })
    }

    fn run(&self, folder: &Path, arguments: &[&str]) -> Program {
        let child = Command::new(env!("CARGO_BIN_EXE_facemark"))
            .arg("run")
            .args(arguments)
            .current_dir(folder)
            .env("DISPLAY", &self.name)
            .env("FACEMARK_MODELS", root().join("models"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Program(child.expect("facemark"))
    }

    /// The program's window, once it is there.
    fn window(&self) -> Window {
        wait_for("a window", || {
            let tree = self.connection.query_tree(self.screen).ok()?.reply().ok()?;
            tree.children.into_iter().find(|&window| {
                let name = self.connection.get_property(
                    false,
                    window,
                    AtomEnum::WM_NAME,
                    AtomEnum::ANY,
                    0,
                    64,
                );
                let name = name.ok().and_then(|name| name.reply().ok());
                name.is_some_and(|name| String::from_utf8_lossy(&name.value).contains("facemark"))
            })
        })
    }

    fn resize(&self, window: Window, width: u32, height: u32) {
        let size = ConfigureWindowAux::new().width(width).height(height);
        self.connection
            .configure_window(window, &size)
            .expect("request");
        self.connection.flush().expect("request");
    }

    /// Presses and releases a key, as a person would.
    fn press(&self, window: Window, symbol: u32) {
        let setup = self.connection.setup();
        let (first, last) = (setup.min_keycode, setup.max_keycode);
        let keys = self
            .connection
            .get_keyboard_mapping(first, last - first + 1)
            .expect("request")
            .reply()
            .expect("keys");
        let width = usize::from(keys.keysyms_per_keycode);
        let key = keys
            .keysyms
            .chunks(width)
            .position(|symbols| symbols[0] == symbol)
            .expect("the key");
        let code = first + key as u8;
        self.connection
            .set_input_focus(InputFocus::PARENT, window, x11rb::CURRENT_TIME)
            .expect("request");
        for kind in [KEY_PRESS_EVENT, KEY_RELEASE_EVENT] {
            self.connection
                .xtest_fake_input(kind, code, 0, self.screen, 0, 0, 0)
                .expect("request");
            self.connection.flush().expect("request");
            // The window asks for its keys' state once a frame.
            std::thread::sleep(Duration::from_millis(80));
        }
    }

    /// Asks the window to close, as a window manager does when its cross is clicked.
    fn close(&self, window: Window) {
        let atom = |name: &[u8]| {
            let cookie = self.connection.intern_atom(false, name).expect("request");
            cookie.reply().expect("atom").atom
        };
        let message = ClientMessageEvent::new(
            32,
            window,
            atom(b"WM_PROTOCOLS"),
            [atom(b"WM_DELETE_WINDOW"), 0, 0, 0, 0],
        );
        self.connection
            .send_event(false, window, EventMask::NO_EVENT, message)
            .expect("request");
        self.connection.flush().expect("request");
    }

    /// What is on the screen where the window is.
    fn screenshot(&self, window: Window) -> Option<Frame> {
        let place = self.connection.get_geometry(window).ok()?.reply().ok()?;
        let image = self
            .connection
            .get_image(
                ImageFormat::Z_PIXMAP,
                window,
                0,
                0,
                place.width,
                place.height,
                u32::MAX,
            )
            .ok()?
            .reply()
            .ok()?;
        let rgb: Vec<u8> = image
            .data
            .chunks_exact(4)
            .flat_map(|pixel| [pixel[2], pixel[1], pixel[0]])
            .collect();
        Frame::from_rgb(place.width.into(), place.height.into(), rgb)
    }

    /// A screenshot on which `right` holds.
    fn see(&self, what: &str, window: Window, right: impl Fn(&Frame) -> bool) -> Frame {
        wait_for(what, || self.screenshot(window).filter(&right))
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn end_of(program: &mut Program) -> ExitStatus {
    wait_for("the program's end", || {
        program.0.try_wait().expect("status")
    })
}

/// Whether the rows between the panels show `reference` from column `left` on. Points drawn at another place of the window
/// are rounded otherwise, hence a few pixels may differ: fewer than the points of one face have.
fn is_same(shown: &Frame, reference: &Frame, left: usize) -> bool {
    if shown.height() != reference.height() || shown.width() < left + reference.width() {
        return false;
    }
    let pixels = (PANEL..reference.height() - PANEL)
        .flat_map(|y| (0..reference.width()).map(move |x| (x, y)));
    let different = pixels
        .filter(|&(x, y)| {
            let (a, b) = (shown.pixel(left + x, y), reference.pixel(x, y));
            a.iter().zip(b).any(|(a, b)| a.abs_diff(b) > 16)
        })
        .count();
    1000 * different <= reference.width() * reference.height()
}

fn mirrored(frame: &Frame) -> Frame {
    let mut mirrored = frame.clone();
    for y in 0..frame.height() {
        for x in 0..frame.width() {
            mirrored.set_pixel(frame.width() - 1 - x, y, frame.pixel(x, y));
        }
    }
    mirrored
}

const Q: u32 = 'q' as u32;
const M: u32 = 'm' as u32;
const H: u32 = 'h' as u32;
const S: u32 = 's' as u32;

#[test]
fn the_window_shows_what_files_get_and_obeys_keys() {
    let Some(display) = Display::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("folder");
    let portrait = root().join("samples/astronaut.jpg");
    let portrait = portrait.to_str().expect("a path");
    // The same picture through the same drawing, without a window: whatever the models say, both must agree.
    let mut headless = display.run(
        folder.path(),
        &[
            "--input",
            portrait,
            "--no-window",
            "--output",
            "reference.png",
        ],
    );
    assert!(end_of(&mut headless).success());
    let reference = picture::load(&folder.path().join("reference.png")).expect("picture");
    assert_ne!(
        reference,
        picture::load(Path::new(portrait)).expect("picture")
    );

    let mut program = display.run(folder.path(), &["--input", portrait]);
    let window = display.window();
    display.resize(window, 512, 512);
    let plain = display.see("the reference in the window", window, |shown| {
        is_same(shown, &reference, 0)
    });
    display.press(window, M);
    let mirror = mirrored(&reference);
    display.see("the mirror image", window, |shown| {
        is_same(shown, &mirror, 0)
    });
    display.press(window, M);
    display.see("the reference again", window, |shown| *shown == plain);
    display.press(window, H);
    display.see("the help", window, |shown| !is_same(shown, &reference, 0));
    display.press(window, H);
    // A wider window: black at both sides.
    display.resize(window, 800, 512);
    let wide = display.see("the letterbox", window, |shown| {
        is_same(shown, &reference, (800 - 512) / 2)
    });
    for y in PANEL..512 - PANEL {
        assert_eq!((wide.pixel(100, y), wide.pixel(700, y)), ([0; 3], [0; 3]));
    }
    display.press(window, S);
    wait_for("the snapshot", || {
        std::fs::read_dir(folder.path())
            .expect("folder")
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().contains("snapshot"))
    });
    display.press(window, Q);
    assert!(end_of(&mut program).success());
}

#[test]
fn a_window_that_is_closed_from_outside_ends_the_run_and_completes_its_files() {
    let Some(display) = Display::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("folder");
    let mut program = display.run(folder.path(), &["--input", "demo", "--json", "faces.jsonl"]);
    let window = display.window();
    let first = display.see("a frame", window, |shown| {
        shown.rgb().iter().any(|&value| value > 128)
    });
    display.see("a later frame", window, |shown| *shown != first);
    display.close(window);
    assert!(end_of(&mut program).success());
    let lines = std::fs::read_to_string(folder.path().join("faces.jsonl")).expect("whole file");
    assert!(lines.lines().count() > 1 && lines.ends_with('\n'));
}
