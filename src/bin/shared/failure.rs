//! How a command of either program fails, and the exit code that says so: 1 while running, 2 for bad arguments or bad
//! input. Each program adds the errors that only it can meet.

use facemark::model::ModelError;
use std::process::ExitCode;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An argument or a file that the user gave cannot be used: exit code 2, like clap's own errors.
    Input(anyhow::Error),
    /// It failed while running: exit code 1.
    Running(anyhow::Error),
}

impl Failure {
    /// A bad argument or file.
    pub(crate) fn input(error: impl Into<anyhow::Error>) -> Self {
        Self::Input(error.into())
    }

    /// A failure while running.
    pub(crate) fn running(error: impl Into<anyhow::Error>) -> Self {
        Self::Running(error.into())
    }

    /// Says on standard error what went wrong, in one line, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let (error, code) = match self {
            Self::Input(error) => (error, 2),
            Self::Running(error) => (error, 1),
        };
        // `{:#}` joins the chain of causes; a library error that already quotes its cause must not say it twice.
        let mut message = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            if !message.contains(&cause) {
                message = format!("{message}: {cause}");
            }
        }
        eprintln!("error: {message}");
        ExitCode::from(code)
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::input(error)
    }
}
