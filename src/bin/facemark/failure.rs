//! What fails in `facemark` besides models: see `shared/failure.rs`.

use facemark::model::InferError;

#[path = "../shared/failure.rs"]
mod shared;

pub(crate) use shared::Failure;

impl From<InferError> for Failure {
    fn from(error: InferError) -> Self {
        Self::running(error)
    }
}
