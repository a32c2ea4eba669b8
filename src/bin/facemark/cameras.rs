//! `facemark cameras`: what there is to look through.

use crate::{failure::Failure, output::print_line};
use facemark::source;

pub(crate) fn list() -> Result<(), Failure> {
    let cameras = source::cameras().map_err(Failure::running)?;
    if cameras.is_empty() {
        return print_line(&format!(
            "no camera found; looked for {}. Without one: facemark run --input demo",
            source::CAMERA_PLACES
        ));
    }
    for camera in cameras {
        print_line(&format!(
            "{}  {}  {}",
            camera.index, camera.name, camera.place
        ))?;
    }
    Ok(())
}
