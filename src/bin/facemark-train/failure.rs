//! What fails in `facemark-train` besides models: see `shared/failure.rs`.

use facemark::train::{
    checkpoint::CheckpointError, dataset::DatasetError, evaluate::EvaluateError, fit::FitError,
    graph::GraphError, quantize::QuantizeError, report::ReportError, session::SessionError,
};

#[path = "../shared/failure.rs"]
mod shared;

pub(crate) use shared::Failure;

impl From<FitError> for Failure {
    fn from(error: FitError) -> Self {
        if error.is_bad_input() {
            Self::input(error)
        } else {
            Self::running(error)
        }
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        if matches!(error, CheckpointError::Write { .. }) {
            Self::running(error)
        } else {
            Self::input(error)
        }
    }
}

impl From<EvaluateError> for Failure {
    fn from(error: EvaluateError) -> Self {
        if error.is_bad_input() {
            Self::input(error)
        } else {
            Self::running(error)
        }
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        Self::running(error)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self::running(error)
    }
}

impl From<GraphError> for Failure {
    fn from(error: GraphError) -> Self {
        Self::input(error)
    }
}

impl From<DatasetError> for Failure {
    fn from(error: DatasetError) -> Self {
        Self::input(error)
    }
}

impl From<QuantizeError> for Failure {
    fn from(error: QuantizeError) -> Self {
        if error.is_bad_input() {
            Self::input(error)
        } else {
            Self::running(error)
        }
    }
}
