//! A report in one HTML file: text, tables, curves as SVG and pictures as data URIs, so that it can be sent and kept without
//! a folder beside it. No scripts, nothing loaded from elsewhere.

use super::{charts::Chart, escape};
use crate::{
    frame::Frame,
    picture::{self, Encoding},
};

/// A page that grows from top to bottom.
#[derive(Clone, Debug)]
pub struct Document {
    title: String,
    contents: String,
    body: String,
    sections: usize,
}

impl Document {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        Self {
            title: escape(title),
            contents: String::new(),
            body: String::new(),
            sections: 0,
        }
    }

    /// Begins a section, which the table of contents names.
    pub fn section(&mut self, heading: &str) {
        self.sections += 1;
        let (number, heading) = (self.sections, escape(heading));
        self.contents += &format!("<li><a href=\"#s{number}\">{heading}</a></li>\n");
        self.body += &format!("<h2 id=\"s{number}\">{heading}</h2>\n");
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.body += &format!("<p>{}</p>\n", escape(text));
    }

    /// A paragraph that says that something is wrong.
    pub fn warning(&mut self, text: &str) {
        self.body += &format!("<p class=\"warning\">{}</p>\n", escape(text));
    }

    /// Text as it stands, such as a command or a file; `summary` is what is shown while it is folded up.
    pub fn code(&mut self, summary: Option<&str>, text: &str) {
        let code = format!("<pre>{}</pre>\n", escape(text));
        self.body += &match summary {
            Some(summary) => format!(
                "<details><summary>{}</summary>{code}</details>\n",
                escape(summary)
            ),
            None => code,
        };
    }

    /// A table; the first column is for names, the others are aligned for numbers.
    pub fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) {
        let row = |cells: &mut dyn Iterator<Item = &str>, tag: &str| {
            let cells: String = cells
                .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)))
                .collect();
            format!("<tr>{cells}</tr>\n")
        };
        let body: String = rows
            .iter()
            .map(|cells| row(&mut cells.iter().map(String::as_str), "td"))
            .collect();
        let head = row(&mut headings.iter().copied(), "th");
        self.body += &format!("<table>\n{head}{body}</table>\n");
    }

    /// Curves.
    ///
    /// # Errors
    /// In the drawing library's words.
    pub fn chart(&mut self, chart: &Chart) -> Result<(), String> {
        let svg = chart.draw()?;
        let caption = escape(&chart.caption);
        self.body += &format!("<figure>\n{svg}<figcaption>{caption}</figcaption></figure>\n");
        Ok(())
    }

    /// A picture: photographs as JPEG, drawings as PNG.
    ///
    /// # Errors
    /// In words: the picture cannot be encoded.
    pub fn picture(
        &mut self,
        frame: &Frame,
        encoding: Encoding,
        caption: &str,
    ) -> Result<(), String> {
        let bytes = picture::encode(frame, encoding)?;
        let (kind, caption) = (encoding.media_type(), escape(caption));
        self.body += &format!(
            "<figure><img src=\"data:{kind};base64,{}\" width=\"{}\" alt=\"{caption}\"><figcaption>{caption}</figcaption></figure>\n",
            base64(&bytes),
            frame.width()
        );
        Ok(())
    }

    /// The whole file.
    pub fn html(&self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>\n\
             body {{ font: 16px/1.5 sans-serif; max-width: 1240px; margin: 2em auto; padding: 0 1em; }}\n\
             .warning {{ color: #a40000; font-weight: bold; }}\n\
             table {{ border-collapse: collapse; margin: 1em 0; font-size: 14px; }}\n\
             td, th {{ border-bottom: 1px solid #ddd; padding: 0.1em 1.2em 0.1em 0; text-align: right; }}\n\
             td:first-child, th:first-child {{ text-align: left; }}\n\
             pre {{ background: #f4f4f4; padding: 0.8em; overflow-x: auto; font-size: 13px; line-height: 1.35; }}\n\
             figure {{ margin: 1.5em 0; }} img, svg {{ max-width: 100%; height: auto; }}\n\
             figcaption {{ color: #444; font-size: 14px; }}\n\
             </style></head><body>\n<h1>{title}</h1>\n<ol>\n{contents}</ol>\n{body}</body></html>\n",
            title = self.title,
            contents = self.contents,
            body = self.body
        )
    }
}

/// Bytes in base 64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = bits >> (18 - 6 * place) & 63;
            text.push(if place <= group.len() {
                char::from(DIGITS[digit as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_base_64_are_those_of_rfc_4648() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }

    #[test]
    fn a_page_is_one_file_and_text_stays_text() {
        let mut page = Document::new("a < b");
        page.section("one & two");
        page.table(
            &["name", "value"],
            &[vec!["<x>".to_owned(), "1".to_owned()]],
        );
        page.picture(&Frame::new(3, 2), Encoding::Png, "black")
            .expect("a picture");
        let html = page.html();
        for part in [
            "<h1>a &lt; b</h1>",
            "<a href=\"#s1\">one &amp; two</a>",
            "<td>&lt;x&gt;</td>",
            "src=\"data:image/png;base64,iVBOR",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("src=\"http") && !html.contains("<script"));
    }
}
