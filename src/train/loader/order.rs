//! Which example is drawn when: an endless sequence of epochs in which each set has its share and, within a set, every
//! example is drawn once before any is drawn again.

use crate::train::{augment::generator, dataset::Dataset};
use rand::RngExt;

const ORDER: u64 = 1;
const MIX: u64 = 2;

/// The examples of one set that suit the task, and how many of them an epoch holds.
#[derive(Clone, Debug)]
struct Part {
    set: usize,
    examples: Vec<usize>,
    drawn_per_epoch: usize,
}

/// The order of a whole training.
#[derive(Clone, Debug)]
pub(super) struct Order {
    seed: u64,
    parts: Vec<Part>,
}

impl Order {
    /// An order of `epoch_length` draws an epoch (`None`: as many as there are examples) over the examples that
    /// `suits` accepts; `None` if it accepts none or every share is 0.
    pub(super) fn new(
        dataset: &Dataset,
        seed: u64,
        epoch_length: Option<usize>,
        suits: impl Fn(usize) -> bool,
    ) -> Option<Self> {
        let mut parts: Vec<Part> = (0..dataset.sets.len())
            .map(|set| Part {
                set,
                examples: (0..dataset.examples.len())
                    .filter(|&index| dataset.examples[index].set == set && suits(index))
                    .collect(),
                drawn_per_epoch: 0,
            })
            .filter(|part| !part.examples.is_empty())
            .collect();
        let total: usize = parts.iter().map(|part| part.examples.len()).sum();
        let shares: Vec<f64> = parts
            .iter()
            .map(|part| {
                let natural = part.examples.len() as f64 / total as f64;
                dataset.sets[part.set].share.map_or(natural, f64::from)
            })
            .collect();
        let sum: f64 = shares.iter().sum();
        if sum <= 0.0 {
            return None;
        }
        let length = epoch_length.unwrap_or(total);
        let mut reached = 0.0;
        let mut drawn = 0;
        for (part, share) in parts.iter_mut().zip(shares) {
            // Rounding the running sum makes the parts add up to the length.
            reached += share / sum * length as f64;
            part.drawn_per_epoch = (reached.round() as usize).min(length) - drawn;
            drawn += part.drawn_per_epoch;
        }
        Some(Self { seed, parts })
    }

    /// Draws an epoch.
    pub(super) fn epoch_length(&self) -> usize {
        self.parts.iter().map(|part| part.drawn_per_epoch).sum()
    }

    /// Indices into [`Dataset::examples`], in the order of epoch `epoch`.
    pub(super) fn epoch(&self, epoch: usize) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.epoch_length());
        for part in &self.parts {
            let first = epoch * part.drawn_per_epoch;
            let mut shuffled = (usize::MAX, Vec::new());
            for draw in first..first + part.drawn_per_epoch {
                let (round, place) = (draw / part.examples.len(), draw % part.examples.len());
                if shuffled.0 != round {
                    shuffled = (round, part.examples.clone());
                    let purpose = ORDER + ((part.set as u64) << 8);
                    shuffle(&mut shuffled.1, self.seed, round, purpose);
                }
                order.push(shuffled.1[place]);
            }
        }
        shuffle(&mut order, self.seed, epoch, MIX);
        order
    }
}

/// Fisher and Yates.
fn shuffle(items: &mut [usize], seed: u64, round: usize, purpose: u64) {
    let mut generator = generator(seed, round, 0, purpose);
    for last in (1..items.len()).rev() {
        items.swap(last, generator.random_range(0..=last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        annotation::Split,
        train::dataset::{Example, Label, Picture, SetInfo},
    };

    fn dataset(counts: &[usize], shares: &[Option<f32>]) -> Dataset {
        let mut dataset = Dataset::default();
        for (set, (&count, &share)) in counts.iter().zip(shares).enumerate() {
            dataset.sets.push(SetInfo {
                name: format!("set {set}"),
                share,
                weight: 1.0,
            });
            dataset.examples.extend((0..count).map(|_| Example {
                picture: Picture::File {
                    path: "none".into(),
                    size: (1, 1),
                },
                set,
                split: Split::Train,
                orig_split: String::new(),
                id: String::new(),
                original_scale: 1.0,
                label: Label::Detection {
                    boxes: Vec::new(),
                    ignore: Vec::new(),
                },
            }));
        }
        dataset
    }

    #[test]
    fn sets_get_their_shares_and_every_example_its_turn() {
        let dataset = dataset(&[10, 100], &[Some(0.7), Some(0.3)]);
        let order = Order::new(&dataset, 4, Some(50), |_| true).expect("order");
        let mut seen = vec![0; 110];
        for epoch in 0..20 {
            let drawn = order.epoch(epoch);
            assert_eq!(drawn.len(), 50);
            assert_eq!(drawn.iter().filter(|&&index| index < 10).count(), 35);
            drawn.into_iter().for_each(|index| seen[index] += 1);
        }
        assert!(seen[..10].iter().all(|&count| count == 70), "{seen:?}");
        assert!(seen[10..].iter().all(|&count| count == 3), "{seen:?}");
    }

    #[test]
    fn without_shares_an_epoch_is_every_example_once_in_an_order_of_its_own() {
        let dataset = dataset(&[3, 17], &[None, None]);
        let order = Order::new(&dataset, 4, None, |_| true).expect("order");
        let (mut first, second) = (order.epoch(0), order.epoch(1));
        assert_ne!(first, second);
        first.sort_unstable();
        assert_eq!(first, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_to_draw_is_no_order() {
        assert!(Order::new(&dataset(&[5], &[None]), 0, None, |_| false).is_none());
        assert!(Order::new(&dataset(&[5], &[Some(0.0)]), 0, None, |_| true).is_none());
    }
}
