//! From crops to ranges: what a quantisation has to learn from pictures.

use super::{
    CalibrationCrops, Method, QuantizeError, QuantizeOptions, Range, Ranges, Watch,
    bias_correction::bias_corrections,
    equalize::{equalizable_values, equalization_factors},
    histogram::Histogram,
    observe::{Stage, typical},
    plan::{points_of, prepare},
    points::Point,
};
use crate::train::graph::Graph;
use std::collections::BTreeMap;

/// Finds the ranges of a float graph: equalisation factors, then the range of each rounded value by the options' method,
/// then bias corrections, the last against the quantised graph itself.
///
/// Crops, options and ONNX Runtime's arithmetic decide the result; it does not depend on the number of cores.
///
/// # Errors
/// As [`quantize`](super::quantize); there are no crops; a value is not finite; ONNX Runtime is missing or fails; or
/// `watch` ended it.
pub fn calibrate(
    graph: &Graph,
    crops: &CalibrationCrops,
    options: &QuantizeOptions,
    watch: &mut Watch,
) -> Result<Ranges, QuantizeError> {
    if crops.crops.is_empty() {
        return Err(QuantizeError::NoPictures);
    }
    if options.method == Method::Training {
        return Err(QuantizeError::NotMeasured);
    }
    let mut ranges = Ranges::default();
    if options.equalize {
        let folded = prepare(graph, &ranges)?;
        let spans = channel_spans(&folded, crops, watch)?;
        ranges.equalization = equalization_factors(&folded, &spans);
    }
    let prepared = prepare(graph, &ranges)?;
    let points = points_of(&prepared, options)?.points;
    let values: Vec<String> = points
        .iter()
        .flat_map(|point| point.members.iter().cloned())
        .collect();
    let extremes = extremes(&prepared, &values, options.method, crops, watch)?;
    let mut histograms = extremes
        .iter()
        .map(|&(min, max)| Histogram::new(min, max))
        .collect::<Result<Vec<_>, _>>()?;
    // Inputs are given, not made by a node; they are looked at like any other value.
    let (observed, given): (Vec<usize>, Vec<usize>) =
        (0..values.len()).partition(|&index| !is_input(&prepared, &values[index]));
    let names: Vec<String> = observed
        .iter()
        .map(|&index| values[index].clone())
        .collect();
    let mut stage = Stage::new(watch, "counting values", crops.crops.len());
    crops.observe(&prepared, &names, &mut stage, |index, numbers| {
        histograms[observed[index]].add(numbers);
        Ok(())
    })?;
    for (index, value) in values.iter().enumerate() {
        let range = match given.contains(&index) {
            true => input_range(crops),
            false => histograms[index].range(options.method)?,
        };
        let range = bounded(&points, value, range);
        ranges.values.insert(value.clone(), range);
    }
    if options.bias_correction {
        bias_corrections(graph, &mut ranges, crops, options, watch)?;
    }
    Ok(ranges)
}

fn is_input(graph: &Graph, value: &str) -> bool {
    graph.inputs.iter().any(|(name, _)| name == value)
}

/// The range of the image: that of its bytes.
fn input_range(crops: &CalibrationCrops) -> Range {
    let normalization = crops.card.normalization;
    let end = |byte: f32| (byte - f32::from(normalization.zero_point)) * normalization.scale;
    Range::new(end(0.0), end(255.0)).expect("a card's normalisation is finite")
}

/// A range within the bounds of what its point absorbs, as the quantised graph will use it.
fn bounded(points: &[Point], value: &str, range: Range) -> Range {
    let point = points
        .iter()
        .find(|point| point.members.iter().any(|member| member == value));
    point.map_or(range, |point| range.clamped(point.lowest, point.highest))
}

/// The ends of each value's histogram; of an input (0, 0). With [`Method::MinMax`] the least and the greatest value, else
/// no more than [`USUAL_EXCESS`] times those of all but the oddest pictures.
fn extremes(
    graph: &Graph,
    values: &[String],
    method: Method,
    crops: &CalibrationCrops,
    watch: &mut Watch,
) -> Result<Vec<(f32, f32)>, QuantizeError> {
    let (places, names): (Vec<usize>, Vec<String>) = values
        .iter()
        .enumerate()
        .filter(|(_, value)| !is_input(graph, value))
        .map(|(place, value)| (place, value.clone()))
        .unzip();
    // The least and the greatest of each value in each picture.
    let mut found = vec![(Vec::new(), Vec::new()); values.len()];
    let mut stage = Stage::new(watch, "finding extremes", crops.crops.len());
    crops.observe(graph, &names, &mut stage, |index, numbers| {
        let (mut min, mut max) = (0.0f32, 0.0f32);
        for &number in numbers {
            if !number.is_finite() {
                return Err(QuantizeError::NotFinite {
                    value: names[index].clone(),
                    found: number,
                });
            }
            min = min.min(number);
            max = max.max(number);
        }
        let (least, greatest) = &mut found[places[index]];
        least.push(-min);
        greatest.push(max);
        Ok(())
    })?;
    let end = |sizes: &mut Vec<f32>| {
        sizes.sort_unstable_by(f32::total_cmp);
        let largest = sizes.last().copied().unwrap_or(0.0);
        let usual = sizes
            .get(sizes.len() * USUAL_SHARE / 100)
            .copied()
            .unwrap_or(0.0);
        match method {
            Method::MinMax => largest,
            _ => largest.min(USUAL_EXCESS * usual),
        }
    };
    Ok(found
        .iter_mut()
        .map(|(least, greatest)| (-end(least), end(greatest)))
        .collect())
}

/// Percentage of the pictures that are usual: the others may hold values far beyond all others, which would leave a
/// histogram only a few bins for what matters.
const USUAL_SHARE: usize = 90;
/// How far beyond the values of usual pictures a histogram reaches; what lies farther is counted at its end.
const USUAL_EXCESS: f32 = 1.5;

/// The typical largest magnitude of each channel of the values that can be equalised: of the largest in each picture, the
/// interquartile mean, so that a few odd pictures do not decide.
fn channel_spans(
    folded: &Graph,
    crops: &CalibrationCrops,
    watch: &mut Watch,
) -> Result<BTreeMap<String, Vec<f32>>, QuantizeError> {
    let values = equalizable_values(folded);
    if values.is_empty() {
        return Ok(BTreeMap::new());
    }
    // Of each value, of each channel, the largest magnitude in each picture.
    let mut largest: Vec<Vec<Vec<f32>>> = values
        .iter()
        .map(|value| vec![Vec::with_capacity(crops.crops.len()); folded.shape(value)[1]])
        .collect();
    let mut stage = Stage::new(watch, "comparing channels", crops.crops.len());
    crops.observe(folded, &values, &mut stage, |index, numbers| {
        let channels = &mut largest[index];
        let positions = numbers.len() / channels.len();
        for (found, channel) in channels.iter_mut().zip(numbers.chunks_exact(positions)) {
            found.push(
                channel
                    .iter()
                    .fold(0.0, |most: f32, number| most.max(number.abs())),
            );
        }
        Ok(())
    })?;
    let spans = largest
        .into_iter()
        .map(|channels| channels.into_iter().map(typical).collect());
    Ok(values.into_iter().zip(spans).collect())
}
