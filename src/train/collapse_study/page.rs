//! The study's page: one HTML file with its curves as SVG, without scripts and without pictures of people.

use super::{Group, RunResult, Study};
use crate::train::report::escape;
use std::fmt::Write;

/// Size of a curve.
const WIDTH: f64 = 190.0;
const HEIGHT: f64 = 64.0;

pub(super) fn page(study: &Study) -> String {
    let mut body = String::new();
    body += "<h1>Why a training defaults to the average face</h1>\n";
    paragraph(
        &mut body,
        &format!(
            "One network (five convolutions of 8 to 128 channels, each with ReLU and max pooling, and two fully connected layers, \
         on grey crops of 64 pixels), one seed, {} training and {} validation faces ({}), on {}. Each run has one thing wrong, \
         or several. Command: {}",
            study.training_faces,
            study.validation_faces,
            study.data.join(", "),
            study.device,
            study.command
        ),
    );
    body += "<h2>Answer</h2>\n";
    for text in answer(study) {
        paragraph(&mut body, &text);
    }
    body += "<h2>Runs</h2>\n";
    paragraph(
        &mut body,
        "Symptoms: L, the training loss falls to less than half; J, the validation jumps about (between two validations of the \
         second half its NME changes by more than 5 % on average); V, the predictions vary far less than the labels (variance \
         ratio below 0.25); M, the MAE is about the mean shape's (above 0.85 of it). V and M together: the average face. Curves \
         over the steps: training loss (logarithmic, of each run by itself), validation NME (0 to twice the mean shape's, which \
         is the grey line), prediction variance ratio (0 to 1, grey line at 0.25). Figures are those of the end.",
    );
    for (group, heading) in [
        (Group::Sound, "Nothing wrong"),
        (Group::Alone, "One thing wrong"),
        (Group::Together, "Several things wrong"),
        (
            Group::Repaired,
            "The usual first solution with one thing repaired",
        ),
    ] {
        let runs: Vec<&RunResult> = study.runs.iter().filter(|run| run.group == group).collect();
        if runs.is_empty() {
            continue;
        }
        let _ = writeln!(
            body,
            "<h3>{heading}</h3>\n<table><tr><th>run</th><th>training loss</th><th>validation NME</th>\
            <th>variance ratio</th><th>NME %</th><th>MAE px (mean shape)</th><th>ratio</th><th>symptoms</th><th>inside</th>\
            <th>what fit says</th></tr>"
        );
        for run in runs {
            row(&mut body, run);
        }
        body += "</table>\n";
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Why a training defaults to the average face</title>\n\
         <style>\nbody {{ font: 15px/1.45 sans-serif; max-width: 1500px; margin: 2em auto; padding: 0 1em; }}\n\
         table {{ border-collapse: collapse; }} td, th {{ border-bottom: 1px solid #ddd; padding: 4px 8px 4px 0; text-align: left; \
         vertical-align: top; }}\nth {{ font-weight: normal; color: #555; }}\n.small {{ color: #555; font-size: 13px; max-width: 26em; }}\n\
         .average {{ background: #fbe9e4; }}\n</style></head><body>\n{body}</body></html>\n"
    )
}

fn paragraph(body: &mut String, text: &str) {
    let _ = writeln!(body, "<p>{}</p>", escape(text));
}

fn names<'a>(runs: impl Iterator<Item = &'a RunResult>) -> String {
    let names: Vec<&str> = runs.map(|run| run.name.as_str()).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// What the figures say, in words.
fn answer(study: &Study) -> Vec<String> {
    let wrong = |run: &&RunResult| run.group != Group::Sound;
    let of = |group: Group| study.runs.iter().filter(move |run| run.group == group);
    let all_four = |run: &&RunResult| {
        run.symptoms.average_face() && run.symptoms.loss_falls && run.symptoms.validation_jumps
    };
    let average = |run: &&RunResult| run.symptoms.average_face();
    let mut text = vec![
        format!(
            "Average face (V and M) with one thing wrong: {}.",
            names(of(Group::Alone).filter(average))
        ),
        format!(
            "Average face with several things wrong: {}.",
            names(of(Group::Together).filter(average))
        ),
        format!(
            "All four symptoms of the original: {}.",
            names(study.runs.iter().filter(all_four))
        ),
        format!(
            "One thing wrong that does not lead to the average face here: {}.",
            names(of(Group::Alone).filter(|run| !run.symptoms.average_face()))
        ),
    ];
    let repaired = of(Group::Repaired).filter(|run| !run.symptoms.average_face());
    if of(Group::Repaired).next().is_some() {
        text.push(format!(
            "Repairs after which it is no longer the average face: {}.",
            names(repaired)
        ));
    }
    let unnamed = study
        .runs
        .iter()
        .filter(wrong)
        .filter(|run| average(run) && run.findings.is_empty());
    text.push(format!(
        "Runs with the average face for which fit names no cause: {}.",
        names(unnamed)
    ));
    let accused = of(Group::Sound).filter(|run| !run.findings.is_empty());
    text.push(format!("Sound runs that fit accuses: {}.", names(accused)));
    text
}

fn row(body: &mut String, run: &RunResult) {
    let class = if run.symptoms.average_face() {
        " class=\"average\""
    } else {
        ""
    };
    let figures = run.last();
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"))
    };
    let epochs = |value: &dyn Fn(&super::EpochFigures) -> f64| -> Vec<f64> {
        run.epochs.iter().map(value).collect()
    };
    let logarithms: Vec<f64> = run
        .loss_curve
        .iter()
        .map(|loss| loss.max(1e-12).log10())
        .collect();
    let (low, high) = logarithms
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| {
            (low.min(v), high.max(v))
        });
    let nme_top = 2.0 * run.mean_shape_nme;
    let symptoms: String = [
        (run.symptoms.loss_falls, 'L'),
        (run.symptoms.validation_jumps, 'J'),
        (run.symptoms.little_variance, 'V'),
        (run.symptoms.mean_shape_error, 'M'),
    ]
    .map(|(there, letter)| if there { letter } else { '\u{b7}' })
    .iter()
    .collect();
    let diverged = run
        .diverged_at
        .map_or_else(String::new, |step| format!("<br>not finite at step {step}"));
    let findings: String = run
        .findings
        .iter()
        .map(|finding| {
            format!(
                "<b>{}</b>: {}<br>",
                finding.cause.name(),
                escape(&finding.words)
            )
        })
        .collect();
    let _ = writeln!(
        body,
        "<tr{class}><td><b>{}</b><div class=\"small\">{}; {} steps of {}</div></td><td>{}<div class=\"small\">{:.2e} to {:.2e}</div></td>\
         <td>{}</td><td>{}</td><td>{}</td><td>{} ({})</td><td>{}</td><td>{symptoms}{diverged}</td>\
         <td class=\"small\">{:.0} % of channels dead; {:.1e} of the last hidden layer differs by picture; longest step {}</td>\
         <td class=\"small\">{findings}</td></tr>",
        escape(&run.name),
        escape(&run.words),
        run.steps,
        run.batch,
        curve(&logarithms, low - 0.05, high + 0.05, None),
        run.loss_curve.first().copied().unwrap_or(f64::NAN),
        run.loss_curve.last().copied().unwrap_or(f64::NAN),
        curve(
            &epochs(&|figures| figures.nme),
            0.0,
            nme_top,
            Some(run.mean_shape_nme)
        ),
        curve(
            &epochs(&|figures| figures.variance_ratio),
            0.0,
            1.0,
            Some(0.25)
        ),
        number(figures.map(|figures| figures.nme), 1),
        number(figures.map(|figures| figures.mae_px), 1),
        number(Some(run.mean_shape_mae_px), 1),
        number(figures.map(|figures| figures.variance_ratio), 3),
        100.0 * run.dead_channels,
        run.picture_share,
        run.relative_step.map_or_else(
            || "-".to_owned(),
            |step| format!("{:.1e} of the weights", step)
        ),
    );
}

/// Values from left to right, clipped to `low`..`high`, with a grey line at `mark`.
fn curve(values: &[f64], low: f64, high: f64, mark: Option<f64>) -> String {
    let y = |value: f64| {
        let share = ((value - low) / (high - low).max(1e-12)).clamp(0.0, 1.0);
        (HEIGHT - 2.0) * (1.0 - share) + 1.0
    };
    let x = |index: usize| 1.0 + (WIDTH - 2.0) * index as f64 / (values.len().max(2) - 1) as f64;
    let points: Vec<String> = values
        .iter()
        .enumerate()
        .filter(|(_, value)| value.is_finite())
        .map(|(index, &value)| format!("{:.1},{:.1}", x(index), y(value)))
        .collect();
    let line = mark.map_or_else(String::new, |mark| {
        format!(
            "<line x1=\"0\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#999\"/>",
            y(mark)
        )
    });
    format!(
        "<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\"><rect width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         fill=\"#f6f6f6\"/>{line}<polyline points=\"{}\" fill=\"none\" stroke=\"#0072b2\" stroke-width=\"1.6\"/></svg>",
        points.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_stays_in_its_frame_and_skips_what_is_no_number() {
        let svg = curve(&[0.0, f64::NAN, 5.0, 1.0], 0.0, 2.0, Some(1.0));
        assert!(
            svg.contains("points=\"1.0,63.0 126.3,1.0 189.0,32.0\""),
            "{svg}"
        );
        assert!(svg.contains("y1=\"32.0\""), "{svg}");
    }
}
