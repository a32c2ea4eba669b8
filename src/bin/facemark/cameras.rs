//! `facemark cameras`: what there is to look through, what it offers, and what would be chosen.

use crate::{failure::Failure, output::print_line};
use clap::Args;
use facemark::source;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

pub(crate) fn list(arguments: &Arguments) -> Result<(), Failure> {
    let cameras = source::cameras().map_err(Failure::running)?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&cameras).map_err(Failure::running)?;
        return print_line(&text);
    }
    if cameras.is_empty() {
        return print_line(&format!(
            "no camera found; looked for {}. Without one: facemark run --input demo",
            source::CAMERA_PLACES
        ));
    }
    for camera in cameras {
        print_line(camera.to_string().trim_end())?;
    }
    Ok(())
}
