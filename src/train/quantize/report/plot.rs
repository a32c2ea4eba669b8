//! The report's plots as SVG: errors with their intervals, and signal over noise along the layers.

use super::{LayerNoise, MeasuredModel};
use plotters::{
    chart::ChartBuilder,
    drawing::IntoDrawingArea,
    prelude::{Circle, LineSeries, PathElement, RGBColor, SVGBackend},
    style::{Color, WHITE},
};
use std::fmt::Display;

const WIDTH: u32 = 900;
const BLUE: RGBColor = RGBColor(0, 114, 178);
const RED: RGBColor = RGBColor(213, 94, 0);
const GREY: RGBColor = RGBColor(225, 225, 225);

fn words(error: impl Display) -> String {
    error.to_string()
}

/// Mean NME of each model with its 95 % interval, one below the other.
pub(super) fn errors(models: &[MeasuredModel]) -> Result<String, String> {
    let ends = || models.iter().flat_map(|model| model.nme_mean_interval95);
    let (low, high) = ends().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), end| {
        (low.min(end), high.max(end))
    });
    let room = 0.1 * (high - low).max(0.1);
    let count = models.len();
    // Rows are numbered from the top.
    let row = |index: usize| (count - index) as f64;
    let mut svg = String::new();
    {
        let size = (WIDTH, 90 + 34 * count as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(words)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(250)
            .build_cartesian_2d(low - room..high + room, 0.4..count as f64 + 0.6)
            .map_err(words)?;
        let name = |y: &f64| {
            let nearest = y.round();
            let index = count as f64 - nearest;
            let is_row = (y - nearest).abs() < 1e-6 && (0.0..count as f64).contains(&index);
            match is_row {
                true => models[index as usize].name.clone(),
                false => String::new(),
            }
        };
        chart
            .configure_mesh()
            .x_desc("mean NME in percent, with its 95 % bootstrap interval")
            .y_labels(2 * count + 1)
            .y_label_formatter(&name)
            .light_line_style(WHITE)
            .bold_line_style(GREY)
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 16))
            .draw()
            .map_err(words)?;
        for (index, model) in models.iter().enumerate() {
            let color = if model.loss.is_some() { RED } else { BLUE };
            let [from, to] = model.nme_mean_interval95;
            let y = row(index);
            let bar = PathElement::new([(from, y), (to, y)], color.stroke_width(3));
            let dot = Circle::new((model.nme_mean, y), 6, color.filled());
            chart.draw_series([bar]).map_err(words)?;
            chart.draw_series([dot]).map_err(words)?;
        }
        area.present().map_err(words)?;
    }
    Ok(svg)
}

/// Signal over noise of each layer, from the first to the last.
pub(super) fn noise(layers: &[LayerNoise]) -> Result<String, String> {
    let points: Vec<(f64, f64)> = layers
        .iter()
        .enumerate()
        .filter_map(|(index, layer)| Some(((index + 1) as f64, layer.signal_to_noise_db?)))
        .collect();
    let highest = points.iter().map(|&(_, db)| db).fold(10.0, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, 380)).into_drawing_area();
        area.fill(&WHITE).map_err(words)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d(0.5..layers.len() as f64 + 0.5, 0.0..highest * 1.08)
            .map_err(words)?;
        chart
            .configure_mesh()
            .x_desc("integer operator, from the first to the last")
            .y_desc("signal over noise in dB")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .light_line_style(WHITE)
            .bold_line_style(GREY)
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 16))
            .draw()
            .map_err(words)?;
        let line = LineSeries::new(points.iter().copied(), BLUE.stroke_width(1));
        chart.draw_series(line).map_err(words)?;
        let dots = points
            .iter()
            .map(|&point| Circle::new(point, 4, BLUE.filled()));
        chart.draw_series(dots).map_err(words)?;
        area.present().map_err(words)?;
    }
    Ok(svg)
}
