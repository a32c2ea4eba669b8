//! `facemark infer`: raw tensors in and out of any ONNX file, to compare with another runtime.

use crate::{engine_arguments::EngineArguments, failure::Failure};
use anyhow::{Context, anyhow};
use clap::Args;
use facemark::{
    engine::{RawModel, RawTensor},
    model::{InferError, Output},
};
use npyz::{NpyFile, Order, WriterBuilder};
use std::{
    fs::File,
    io::{BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

/// Run any ONNX file on tensors from .npy files
#[derive(Args)]
pub(crate) struct Arguments {
    /// ONNX file
    model: PathBuf,
    /// Tensor for each input, in the order of the file's inputs (floats or integers; cast to the input's type)
    #[arg(long, required = true, num_args = 1..)]
    input: Vec<PathBuf>,
    /// Where the output goes, as float32; of several outputs y.npy becomes y.NAME.npy each
    #[arg(long)]
    output: PathBuf,
    /// Write only the output of this name
    #[arg(long)]
    output_name: Option<String>,
    #[command(flatten)]
    engine: EngineArguments,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut model = RawModel::load_with(&arguments.model, &arguments.engine.options())?;
    let inputs: Vec<RawTensor> = arguments
        .input
        .iter()
        .map(|path| read(path))
        .collect::<Result<_, _>>()
        .map_err(Failure::Input)?;
    let mut outputs = model.run(&inputs).map_err(|error| match error {
        // The shapes come from the user's files.
        InferError::Input { .. } => Failure::input(error),
        error => Failure::running(error),
    })?;
    if let Some(name) = &arguments.output_name {
        let names: Vec<String> = outputs.iter().map(|output| output.name.clone()).collect();
        outputs.retain(|output| output.name == *name);
        if outputs.is_empty() {
            return Err(Failure::Input(anyhow!(
                "{}: expected an output {name:?}, found {names:?}",
                arguments.model.display()
            )));
        }
    }
    for output in &outputs {
        let path = output_path(&arguments.output, &output.name, outputs.len());
        write(&path, output)
            .with_context(|| format!("{}: cannot write the tensor", path.display()))
            .map_err(Failure::Running)?;
    }
    Ok(())
}

/// `y.npy` for the only output, else `y.NAME.npy`. What a path cannot hold becomes `_`.
fn output_path(path: &Path, name: &str, count: usize) -> PathBuf {
    if count == 1 {
        return path.to_owned();
    }
    let safe = |letter: char| {
        let keep = letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.');
        if keep { letter } else { '_' }
    };
    let name: String = name.chars().map(safe).collect();
    path.with_extension(format!("{name}.npy"))
}

fn read(path: &Path) -> anyhow::Result<RawTensor> {
    let context = || format!("{}: expected a .npy tensor", path.display());
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let length = file.metadata().with_context(context)?.len();
    let npy = NpyFile::new(BufReader::new(file)).with_context(context)?;
    if npy.order() != Order::C && npy.shape().len() > 1 {
        return Err(anyhow!("found Fortran order, expected C order").context(context()));
    }
    // The header of a hostile file promises more than the file holds.
    if npy.shape().iter().product::<u64>() > length {
        return Err(anyhow!("found fewer values than the header promises").context(context()));
    }
    let shape = npy.shape().iter().map(|&edge| edge as usize).collect();
    Ok(RawTensor {
        shape,
        values: values(npy).with_context(context)?,
    })
}

fn values(npy: NpyFile<impl std::io::Read>) -> anyhow::Result<Vec<f32>> {
    macro_rules! read_as {
        ($npy:expr, $($element:ty),*) => {{
            let npy = $npy;
            let found = npy.dtype().descr();
            $(let npy = match npy.try_data::<$element>() {
                Ok(values) => return values.map(|value| Ok(value? as f32)).collect(),
                Err(npy) => npy,
            };)*
            drop(npy);
            Err(anyhow!("found element type {found}, expected a float or an integer"))
        }};
    }
    read_as!(npy, f32, f64, u8, i8, i16, u16, i32, u32, i64, u64)
}

fn write(path: &Path, output: &Output) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new();
    // Readable as any other new file is, not only by its owner.
    #[cfg(unix)]
    temporary.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = temporary.tempfile_in(folder)?;
    let shape: Vec<u64> = output.shape.iter().map(|&edge| edge as u64).collect();
    let mut buffered = BufWriter::new(&mut file);
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&shape)
        .writer(&mut buffered)
        .begin_nd()?;
    writer.extend(output.values.iter())?;
    writer.finish()?;
    buffered.flush()?;
    drop(buffered);
    file.persist(path)?;
    Ok(())
}
