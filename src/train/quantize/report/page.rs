//! The report for people: a table in plain text, and one HTML file with the plots in it.

use super::{MeasuredModel, QuantizationReport, plot};
use crate::train::report::escape;

/// The cells of a model's row.
fn cells(model: &MeasuredModel) -> Vec<String> {
    let interval =
        |[low, high]: [f64; 2], digits: usize| format!("{low:.digits$} to {high:.digits$}");
    let mut cells = vec![
        model.name.clone(),
        format!("{:.3}", model.nme_mean),
        interval(model.nme_mean_interval95, 2),
        format!("{:.3}", model.nme_median),
        format!("{:.2}", model.nme_worst_decile),
        model
            .fr8
            .map_or(String::new(), |share| format!("{:.1}", 100.0 * share)),
    ];
    match &model.loss {
        Some(loss) => cells.extend([
            format!("{:+.2} %", loss.relative_percent),
            format!("{:+.4}", loss.difference_mean),
            format!(
                "{:+.3} to {:+.3}",
                loss.difference_interval95[0], loss.difference_interval95[1]
            ),
            loss.reference.clone(),
        ]),
        None => cells.extend(std::iter::repeat_n(String::new(), 4)),
    }
    cells.push(format!("{}", model.bytes / 1000));
    cells
}

const HEADINGS: [&str; 11] = [
    "model",
    "NME %",
    "95 % interval",
    "median",
    "worst 10 %",
    "FR@8 %",
    "loss",
    "paired",
    "95 % interval",
    "against",
    "kB",
];

fn region_rows(report: &QuantizationReport) -> (Vec<String>, Vec<Vec<String>>) {
    let names: Vec<String> = report
        .models
        .first()
        .map(|model| model.regions.keys().cloned().collect())
        .unwrap_or_default();
    let rows = report.models.iter().map(|model| {
        let values = names.iter().map(|name| {
            let value = model.regions.get(name);
            value.map_or(String::new(), |nme| format!("{nme:.3}"))
        });
        std::iter::once(model.name.clone()).chain(values).collect()
    });
    let headings = std::iter::once("model".to_owned()).chain(names.clone());
    (headings.collect(), rows.collect())
}

fn layer_rows(report: &QuantizationReport) -> Vec<Vec<String>> {
    let rows = report.layers.iter().enumerate().map(|(index, layer)| {
        vec![
            (index + 1).to_string(),
            layer.value.clone(),
            layer.operator.clone(),
            layer
                .signal_to_noise_db
                .map_or("-".to_owned(), |db| format!("{db:.1}")),
        ]
    });
    rows.collect()
}

/// Columns of equal width, the first to the left and the others to the right.
fn aligned(headings: &[String], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([headings[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (index, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
            line += &match index {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        line.trim_end().to_owned()
    };
    let lines: Vec<String> = std::iter::once(headings.to_vec())
        .chain(rows.iter().cloned())
        .map(|row| line(&row))
        .collect();
    lines.join("\n")
}

fn headings() -> Vec<String> {
    HEADINGS.map(str::to_owned).to_vec()
}

pub(super) fn text(report: &QuantizationReport) -> String {
    let rows: Vec<Vec<String>> = report.models.iter().map(cells).collect();
    let (regions, region_rows) = region_rows(report);
    format!(
        "{}: {} faces of {} ({}), error over the {}\n\n{}\n\n{}",
        report.model,
        report.faces,
        report.data.join(", "),
        report.split,
        report.normalizer,
        aligned(&headings(), &rows),
        aligned(&regions, &region_rows)
    )
}

fn table(headings: &[String], rows: &[Vec<String>]) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells: String = cells
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)))
            .collect();
        format!("<tr>{cells}</tr>\n")
    };
    let body: String = rows.iter().map(|cells| row(cells, "td")).collect();
    format!("<table>\n{}{body}</table>\n", row(headings, "th"))
}

/// The page.
///
/// # Errors
/// A plot cannot be drawn, in the drawing library's words.
pub(super) fn html(report: &QuantizationReport) -> Result<String, String> {
    let title = escape(&format!("Quantisation of {}", report.model));
    let rows: Vec<Vec<String>> = report.models.iter().map(cells).collect();
    let (regions, region_rows) = region_rows(report);
    let mut body = format!(
        "<p>{} faces of {} (split {}) in their true boxes. Errors are in percent of the {}. \"Loss\" compares the same \
         faces with a float model; its interval is of the paired differences. Intervals are 95 % percentile bootstrap.</p>\n",
        report.faces,
        escape(&report.data.join(", ")),
        escape(&report.split),
        escape(&report.normalizer)
    );
    body += &table(&headings(), &rows);
    body += &figure(&plot::errors(&report.models)?);
    body += "<h2>Regions of the face</h2>\n";
    body += &table(&regions, &region_rows);
    if let (Some(of), false) = (&report.layers_of, report.layers.is_empty()) {
        body += &format!(
            "<h2>Signal over rounding noise in {}</h2>\n<p>What each integer operator gives against what the float model \
             gives there; noise that came in before is included.</p>\n",
            escape(of)
        );
        body += &figure(&plot::noise(&report.layers)?);
        let headings = ["", "value", "operator", "dB"].map(str::to_owned);
        body += &table(&headings, &layer_rows(report));
    }
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>\n\
         body {{ font: 16px/1.5 sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; }}\n\
         table {{ border-collapse: collapse; font-size: 14px; }}\n\
         td, th {{ border-bottom: 1px solid #ddd; padding: 0 0.8em 0 0; text-align: right; }}\n\
         td:first-child, th:first-child {{ text-align: left; }}\n\
         figure {{ margin: 1.5em 0; }}\n\
         </style></head><body>\n<h1>{title}</h1>\n{body}</body></html>\n"
    ))
}

fn figure(svg: &str) -> String {
    format!("<figure>\n{svg}</figure>\n")
}

#[cfg(test)]
mod tests {
    use super::super::{LayerNoise, Loss};
    use super::*;

    fn report() -> QuantizationReport {
        let model = |name: &str, nme_mean: f64, loss: Option<Loss>| MeasuredModel {
            name: name.to_owned(),
            bytes: 1_648_000,
            nme_mean,
            nme_mean_interval95: [nme_mean - 0.3, nme_mean + 0.3],
            nme_median: 4.7,
            nme_worst_decile: 12.5,
            fr8: Some(0.065),
            regions: [("jaw".to_owned(), 7.25)].into(),
            loss,
            faces: Vec::new(),
        };
        let loss = Loss {
            reference: "f32".to_owned(),
            difference_mean: 0.0123,
            difference_interval95: [-0.01, 0.034],
            relative_percent: 0.22,
        };
        QuantizationReport {
            model: "a <model>".to_owned(),
            data: vec!["helen".to_owned()],
            split: "test".to_owned(),
            faces: 460,
            normalizer: "outer eye corners".to_owned(),
            models: vec![model("f32", 5.45, None), model("int8", 5.4623, Some(loss))],
            layers_of: Some("int8".to_owned()),
            layers: vec![
                LayerNoise {
                    value: "Relu_2".to_owned(),
                    operator: "QLinearConv".to_owned(),
                    signal_to_noise_db: Some(41.25),
                },
                LayerNoise {
                    value: "dead".to_owned(),
                    operator: "QLinearConv".to_owned(),
                    signal_to_noise_db: None,
                },
            ],
        }
    }

    #[test]
    fn the_table_names_every_figure_once_a_model() {
        let text = text(&report());
        let lines: Vec<&str> = text.lines().collect();
        for part in [
            "int8",
            "5.462",
            "+0.22 %",
            "-0.010 to +0.034",
            "f32",
            "1648",
        ] {
            assert!(lines[4].contains(part), "{part} in {}", lines[4]);
        }
        assert!(lines[3].starts_with("f32") && lines[3].contains("5.450"));
        assert!(lines.iter().any(|line| line.ends_with("7.250")));
    }

    #[test]
    fn the_page_holds_tables_and_plots() {
        let page = html(&report()).expect("it draws");
        assert_eq!(page.matches("<svg").count(), 2);
        for part in [
            "a &lt;model&gt;",
            "41.2",
            "jaw",
            "QLinearConv",
            "<td>-</td>",
        ] {
            assert!(page.contains(part), "{part}");
        }
    }
}
