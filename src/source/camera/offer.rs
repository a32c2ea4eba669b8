//! What a camera says that it can do, as a list for people and as modes to try.

use super::{
    Mode, PixelFormat, Rate,
    ladder::{RATES, SIZES},
};
use std::fmt;

/// A pixel format at a size, or at a range of sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The pixel format's four characters.
    pub code: String,
    /// The format; `None` when it cannot be read.
    pub format: Option<PixelFormat>,
    /// Width and height.
    pub size: Sizes,
    /// Frames a second.
    pub rates: Rates,
}

/// Sizes of an offer, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// Width and height.
    One(u32, u32),
    /// Any between two, in steps.
    Range {
        /// Smallest width and height.
        least: (u32, u32),
        /// Largest width and height.
        most: (u32, u32),
        /// Steps of width and height.
        step: (u32, u32),
    },
}

/// Rates of an offer.
#[derive(Clone, Debug, PartialEq)]
pub enum Rates {
    /// These.
    Listed(Vec<Rate>),
    /// Any between two.
    Range(Rate, Rate),
    /// The camera does not say.
    Unsaid,
}

impl Sizes {
    /// The size itself, or of a range those that are worth trying.
    fn worth_trying(self) -> Vec<(u32, u32)> {
        match self {
            Self::One(width, height) => vec![(width, height)],
            Self::Range { least, most, step } => {
                let fits = |size: u32, least: u32, most: u32, step: u32| {
                    (least..=most).contains(&size) && (size - least).is_multiple_of(step.max(1))
                };
                let mut sizes: Vec<(u32, u32)> = SIZES
                    .into_iter()
                    .filter(|(width, height)| {
                        fits(*width, least.0, most.0, step.0)
                            && fits(*height, least.1, most.1, step.1)
                    })
                    .collect();
                if sizes.is_empty() {
                    sizes.push(most);
                }
                sizes
            }
        }
    }
}

impl Rates {
    fn worth_trying(&self) -> Vec<Option<Rate>> {
        match self {
            Self::Listed(rates) => rates.iter().copied().map(Some).collect(),
            Self::Range(least, most) => {
                let between = |rate: &Rate| {
                    rate.hertz() >= least.hertz() - 1e-9 && rate.hertz() <= most.hertz() + 1e-9
                };
                let mut rates: Vec<Option<Rate>> = RATES
                    .into_iter()
                    .map(Rate::whole)
                    .filter(between)
                    .map(Some)
                    .collect();
                if rates.is_empty() {
                    rates.push(Some(*most));
                }
                rates
            }
            Self::Unsaid => vec![None],
        }
    }
}

/// The modes of the offers that can be read, in no order.
pub fn modes(offers: &[Offer]) -> Vec<Mode> {
    let mut modes = Vec::new();
    for offer in offers {
        let Some(format) = offer.format else { continue };
        for (width, height) in offer.size.worth_trying() {
            for rate in offer.rates.worth_trying() {
                modes.push(Mode {
                    format,
                    width,
                    height,
                    rate,
                });
            }
        }
    }
    modes
}

impl fmt::Display for Sizes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(width, height) => write!(formatter, "{width}x{height}"),
            Self::Range { least, most, .. } => write!(
                formatter,
                "{}x{} to {}x{}",
                least.0, least.1, most.0, most.1
            ),
        }
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed(rates) => {
                let rates: Vec<String> = rates.iter().map(Rate::to_string).collect();
                write!(formatter, "{} fps", rates.join(", "))
            }
            Self::Range(least, most) => write!(formatter, "{least} to {most} fps"),
            Self::Unsaid => formatter.write_str("no rate said"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_the_usual_sizes_and_rates() {
        let any = Offer {
            code: "YUYV".to_owned(),
            format: Some(PixelFormat::Yuyv),
            size: Sizes::Range {
                least: (2, 2),
                most: (1920, 1080),
                step: (2, 2),
            },
            rates: Rates::Range(Rate::whole(1), Rate::whole(30)),
        };
        let found = modes(std::slice::from_ref(&any));
        assert_eq!(found.len(), SIZES.len() * 5);
        assert_eq!(any.size.to_string(), "2x2 to 1920x1080");
        let odd = Offer {
            size: Sizes::Range {
                least: (16, 16),
                most: (100, 60),
                step: (0, 0),
            },
            rates: Rates::Range(Rate::whole(5), Rate::new(15, 2).expect("rate")),
            ..any.clone()
        };
        let found = modes(&[odd]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "100x60 YUYV at 7.50 fps");
        let unread = Offer {
            format: None,
            ..any
        };
        assert!(modes(&[unread]).is_empty());
    }
}
