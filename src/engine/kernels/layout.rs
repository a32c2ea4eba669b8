//! How a map lies in memory: channels-last bytes with a border, in an aligned buffer with slack.

use std::{
    fmt,
    ops::{Deref, DerefMut, Range},
};

/// Bytes after [`Layout::len`] that a buffer has and kernels may read.
pub(crate) const SLACK: usize = 64;

/// Channels that a map's channel stride is a multiple of.
pub(crate) const LANES: usize = 16;

/// A map of `height x width` pixels of `channels` bytes, channels-last, with a border of whole pixels around it.
///
/// Pixel (0, 0) is the first inside the border. Pixels lie `channel_stride` bytes apart: `channels` rounded up to 16, except
/// in an image, where it is `channels` itself. What the lanes between `channels` and `channel_stride` hold is undefined:
/// every consumer has zero weights for them or ignores them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Layout {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    /// Bytes from a pixel to the next.
    pub(crate) channel_stride: usize,
    /// Border rows above the map, below it, and border pixels left and right of it.
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) bottom: usize,
    pub(crate) right: usize,
}

impl Layout {
    /// A map without border whose channel stride is a multiple of 16.
    pub(crate) const fn map(height: usize, width: usize, channels: usize) -> Self {
        Self {
            channel_stride: channels.next_multiple_of(LANES),
            ..Self::image(height, width, channels)
        }
    }

    /// A picture's bytes as they are: no border, channel stride = channels. Only the input of a network has this form.
    pub(crate) const fn image(height: usize, width: usize, channels: usize) -> Self {
        Self {
            height,
            width,
            channels,
            channel_stride: channels,
            top: 0,
            left: 0,
            bottom: 0,
            right: 0,
        }
    }

    /// The same map with another border, in pixels.
    pub(crate) const fn with_border(
        self,
        top: usize,
        left: usize,
        bottom: usize,
        right: usize,
    ) -> Self {
        Self {
            top,
            left,
            bottom,
            right,
            ..self
        }
    }

    /// Bytes of a row with its left and right border.
    pub(crate) const fn row_bytes(&self) -> usize {
        (self.left + self.width + self.right) * self.channel_stride
    }

    /// Where pixel (y, x) begins.
    pub(crate) const fn offset(&self, y: usize, x: usize) -> usize {
        (self.top + y) * self.row_bytes() + (self.left + x) * self.channel_stride
    }

    /// Bytes of the map with its border, without [`SLACK`].
    pub(crate) const fn len(&self) -> usize {
        (self.top + self.height + self.bottom) * self.row_bytes()
    }

    /// Where rows `rows` lie, from the left border of the first to the right border of the last: what `run` takes as
    /// `output_rows`.
    pub(crate) const fn row_range(&self, rows: Range<usize>) -> Range<usize> {
        let row = self.row_bytes();
        (self.top + rows.start) * row..(self.top + rows.end) * row
    }

    /// Whether both maps have the same pixels and channels, whatever their borders and strides.
    pub(crate) const fn is_same_size(&self, other: &Self) -> bool {
        self.height == other.height && self.width == other.width && self.channels == other.channels
    }

    /// Panics unless `buffer` holds the map and its slack.
    pub(super) fn check_input(&self, buffer: &[u8]) {
        assert!(
            buffer.len() >= self.len() + SLACK,
            "{} bytes for a map of {} and {SLACK} of slack",
            buffer.len(),
            self.len()
        );
    }

    /// Panics unless `rows` are rows of the map and `output_rows` holds them.
    pub(super) fn check_output(&self, rows: &Range<usize>, output_rows: &[u8]) {
        assert!(
            rows.start <= rows.end && rows.end <= self.height,
            "rows {rows:?} of {}",
            self.height
        );
        assert!(
            output_rows.len() >= rows.len() * self.row_bytes(),
            "{} bytes for {} rows of {}",
            output_rows.len(),
            rows.len(),
            self.row_bytes()
        );
    }

    /// Fills the left and right border of one row, which `row` begins with.
    pub(super) fn fill_sides(&self, zero: u8, row: &mut [u8]) {
        let inside = self.left * self.channel_stride;
        let after = (self.left + self.width) * self.channel_stride;
        row[..inside].fill(zero);
        row[after..self.row_bytes()].fill(zero);
    }
}

/// Fills the border of a map in its buffer with `zero`, the map's zero point. Kernels fill the left and right border of the
/// rows they write; the rows above and below are filled once with this, as nothing overwrites them.
pub(crate) fn fill_border(layout: &Layout, zero: u8, buffer: &mut [u8]) {
    let row = layout.row_bytes();
    let bottom = (layout.top + layout.height) * row;
    buffer[..layout.top * row].fill(zero);
    buffer[bottom..layout.len()].fill(zero);
    for y in 0..layout.height {
        layout.fill_sides(zero, &mut buffer[layout.row_range(y..y + 1)]);
    }
}

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Zeroed bytes aligned to 64, with [`SLACK`] more than was asked for.
#[derive(Clone)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// `len` bytes and the slack.
    pub(crate) fn new(len: usize) -> Self {
        let len = len + SLACK;
        Self {
            lines: vec![Line([0; 64]); len.div_ceil(64)],
            len,
        }
    }

    /// A buffer that holds `bytes`.
    pub(crate) fn copied(bytes: &[u8]) -> Self {
        let mut buffer = Self::new(bytes.len());
        buffer[..bytes.len()].copy_from_slice(bytes);
        buffer
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Buffer of {} bytes", self.len)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    /// All bytes with the slack.
    fn deref(&self) -> &[u8] {
        // SAFETY: `lines` are at least `len` initialised bytes without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
