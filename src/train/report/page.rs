//! The report's page: plain HTML without scripts.

use crate::train::progress::Validation;

pub(super) struct Page {
    title: String,
    body: String,
}

impl Page {
    pub(super) fn new(title: &str) -> Self {
        Self {
            title: escape(title),
            body: String::new(),
        }
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.body += &format!("<p>{}</p>\n", escape(text));
    }

    pub(super) fn warning(&mut self, text: &str) {
        self.body += &format!("<p class=\"warning\">{}</p>\n", escape(text));
    }

    /// Every number of a result, nested ones with their path.
    pub(super) fn figures(&mut self, validation: &Validation) {
        let value = serde_json::to_value(validation).expect("a result has text keys");
        let mut rows = String::new();
        append_rows("", &value, &mut rows);
        self.body += &format!("<table>\n{rows}</table>\n");
    }

    pub(super) fn picture(&mut self, file: &str, caption: &str) {
        let caption = escape(caption);
        self.body += &format!(
            "<figure><img src=\"{file}\" alt=\"{caption}\"><figcaption>{caption}</figcaption></figure>\n"
        );
    }

    pub(super) fn html(&self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>\n\
             body {{ font: 16px/1.5 sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }}\n\
             .warning {{ color: #a40000; font-weight: bold; }}\n\
             table {{ border-collapse: collapse; }} td {{ border-bottom: 1px solid #ddd; padding: 0 1em 0 0; }}\n\
             figure {{ margin: 1.5em 0; }} img {{ max-width: 100%; }}\n\
             </style></head><body>\n<h1>{title}</h1>\n{body}</body></html>\n",
            title = self.title,
            body = self.body
        )
    }
}

fn append_rows(name: &str, value: &serde_json::Value, rows: &mut String) {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() {
                    field.clone()
                } else {
                    format!("{name}: {field}")
                };
                append_rows(&name, value, rows);
            }
        }
        Value::Null => {}
        other => {
            let text = match other.as_f64() {
                Some(number) if !other.is_u64() => format!("{number:.4}"),
                _ => other.to_string(),
            };
            *rows += &format!(
                "<tr><td>{}</td><td>{}</td></tr>\n",
                escape(name),
                escape(&text)
            );
        }
    }
}

/// Text as HTML shows it.
pub(in crate::train) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
