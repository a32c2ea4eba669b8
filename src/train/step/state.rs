//! The state of a training as plain vectors: what a checkpoint holds.

/// Everything that changes while training, on the host. Vectors that the optimiser does not use are empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingState {
    /// Steps done.
    pub step: u64,
    /// All parameters, one after another in the order of [`parameter_names`](super::TrainingStep::parameter_names).
    pub parameters: Vec<f32>,
    /// AdamW's first moment or SGD's velocity, as long as `parameters`.
    pub moment1: Vec<f32>,
    /// AdamW's second moment.
    pub moment2: Vec<f32>,
    /// Running mean and variance of each batch normalisation, one after another.
    pub running: Vec<f32>,
    /// Moving average of `parameters` followed by `running`.
    pub ema: Vec<f32>,
    /// Least and greatest value of each range of quantisation-aware training, one pair after another.
    pub ranges: Vec<f32>,
}

/// Names of a state's vectors, in the order of [`TrainingState::vectors`].
const VECTORS: [&str; 6] = [
    "parameters",
    "moment1",
    "moment2",
    "running",
    "ema",
    "ranges",
];

impl TrainingState {
    /// The vectors by name.
    pub fn vectors(&self) -> [(&'static str, &[f32]); 6] {
        let values = [
            &self.parameters,
            &self.moment1,
            &self.moment2,
            &self.running,
            &self.ema,
            &self.ranges,
        ];
        std::array::from_fn(|index| (VECTORS[index], values[index].as_slice()))
    }

    /// The vectors by name, to be written to.
    pub fn vectors_mut(&mut self) -> [(&'static str, &mut Vec<f32>); 6] {
        let [a, b, c, d, e, f] = VECTORS;
        [
            (a, &mut self.parameters),
            (b, &mut self.moment1),
            (c, &mut self.moment2),
            (d, &mut self.running),
            (e, &mut self.ema),
            (f, &mut self.ranges),
        ]
    }
}
