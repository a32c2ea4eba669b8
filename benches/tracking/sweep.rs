//! The smoothing filter's parameters against jitter and lag, as a table.

use crate::{clip::Clip, figures::Figures};
use facemark::smoothing::OneEuroConfig;

/// Each source is tracked once; then the filter runs over what the network said, once for each choice.
pub(crate) fn run(sources: &[String]) -> anyhow::Result<()> {
    let clips = sources
        .iter()
        .map(|source| Clip::track(source))
        .collect::<anyhow::Result<Vec<_>>>()?;
    println!(
        "min_cutoff_hz,speed_coefficient,speed_cutoff_hz,source,jitter_percent,lag_frames,error_percent"
    );
    let row = |config: Option<OneEuroConfig>| {
        let choice = config.map_or("raw,,".to_owned(), |config| {
            format!(
                "{},{},{}",
                config.min_cutoff_hz, config.speed_coefficient, config.speed_cutoff_hz
            )
        });
        for (source, clip) in sources.iter().zip(&clips) {
            let figures = Figures::of(clip, config);
            let cell =
                |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.4}"));
            let name = source.rsplit('/').next().unwrap_or(source);
            println!(
                "{choice},{name},{},{},{}",
                cell(figures.jitter_percent),
                cell(figures.lag_frames),
                cell(figures.error_percent)
            );
        }
    };
    row(None);
    for speed_cutoff_hz in [1.0, 3.0, 6.0] {
        for min_cutoff_hz in [0.3, 0.7, 1.0, 1.5, 2.5, 4.0] {
            for speed_coefficient in [4.0, 8.0, 16.0, 32.0, 64.0] {
                row(Some(OneEuroConfig {
                    min_cutoff_hz,
                    speed_coefficient,
                    speed_cutoff_hz,
                    ..OneEuroConfig::default()
                }));
            }
        }
    }
    Ok(())
}
