//! What a person may choose about a quantisation.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How the range of an activation is chosen from the values that it takes on calibration pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Method {
    /// From the least to the greatest value.
    MinMax,
    /// Without the share of values beyond this percentile; half of that share on each side when there are two.
    Percentile(f32),
    /// The clipping that loses least information: the smallest Kullback-Leibler divergence (Migacz 2017).
    Entropy,
    /// The clipping with the least mean squared error of rounding and clipping together.
    Mse,
    /// Not by calibration: quantisation-aware training has learnt it (see [`qat`](super::qat)).
    Training,
}

/// The percentile of [`Method::Percentile`] when none is named.
pub const DEFAULT_PERCENTILE: f32 = 99.99;

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MinMax => formatter.write_str("minmax"),
            Self::Percentile(percent) => write!(formatter, "percentile:{percent}"),
            Self::Entropy => formatter.write_str("entropy"),
            Self::Mse => formatter.write_str("mse"),
            Self::Training => formatter.write_str("training"),
        }
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "expected minmax, percentile, percentile:P with 50 < P <= 100, entropy or mse, found {text:?}"
            )
        };
        match text.split_once(':') {
            None => match text {
                "minmax" => Ok(Self::MinMax),
                "percentile" => Ok(Self::Percentile(DEFAULT_PERCENTILE)),
                "entropy" => Ok(Self::Entropy),
                "mse" => Ok(Self::Mse),
                "training" => Ok(Self::Training),
                _ => Err(expected()),
            },
            Some(("percentile", number)) => number
                .parse()
                .ok()
                .filter(|&percent: &f32| percent > 50.0 && percent <= 100.0)
                .map(Self::Percentile)
                .ok_or_else(expected),
            Some(_) => Err(expected()),
        }
    }
}

impl TryFrom<String> for Method {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Method> for String {
    fn from(method: Method) -> Self {
        method.to_string()
    }
}

/// How a quantised graph is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Operators on bytes: QLinearConv, QLinearAdd, QGemm, ..: what the runtime reads.
    #[default]
    QOperator,
    /// Float operators between QuantizeLinear and DequantizeLinear: what other engines read.
    Qdq,
}

impl FromStr for Form {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "qoperator" => Ok(Self::QOperator),
            "qdq" => Ok(Self::Qdq),
            _ => Err(format!("expected qoperator or qdq, found {text:?}")),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::QOperator => "qoperator",
            Self::Qdq => "qdq",
        })
    }
}

/// What to do to a float graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizeOptions {
    /// How ranges are chosen by calibration; the quantised model's metadata names it.
    pub method: Method,
    /// Weights of 7 bits (-63 to 63), so that sums of two products fit 16 bits: for CPUs without a dot product
    /// instruction of 32-bit sums.
    pub reduce_range: bool,
    /// Whether calibration finds factors that make the channels between two layers alike (Nagel et al. 2019, section
    /// 4.1). What [`Ranges`](super::Ranges) hold is applied whatever this says.
    pub equalize: bool,
    /// Whether calibration measures bias corrections (Nagel et al. 2019, section 4.2). What [`Ranges`](super::Ranges)
    /// hold is applied whatever this says.
    pub bias_correction: bool,
    /// Names of nodes, or of their outputs, that stay float.
    pub keep_float: Vec<String>,
    /// How the graph is written.
    pub form: Form,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            method: Method::Entropy,
            reduce_range: false,
            equalize: true,
            bias_correction: true,
            keep_float: Vec::new(),
            form: Form::QOperator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_its_own_text() {
        for method in [
            Method::MinMax,
            Method::Percentile(99.5),
            Method::Entropy,
            Method::Mse,
            Method::Training,
        ] {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        assert_eq!("percentile".parse(), Ok(Method::Percentile(99.99)));
        for text in [
            "percentile:",
            "percentile:101",
            "percentile:nan",
            "kl",
            "mse:2",
        ] {
            assert!(text.parse::<Method>().is_err(), "{text}");
        }
    }
}
