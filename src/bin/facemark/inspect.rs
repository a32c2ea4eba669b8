//! `facemark inspect`: what a model file says of itself, and which kernel runs which node.

use crate::{
    engine_arguments::EngineArguments,
    failure::Failure,
    output::{print_json, print_line},
};
use clap::Args;
use facemark::engine::{Inspection, Port};
use std::path::PathBuf;

/// Show a model's card, inputs, outputs and the kernel that runs each node
#[derive(Args)]
pub(crate) struct Arguments {
    /// ONNX file
    model: PathBuf,
    #[command(flatten)]
    engine: EngineArguments,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let inspection = Inspection::of(&arguments.model, &arguments.engine.options())?;
    if arguments.json {
        return print_json(&inspection);
    }
    print_line(&inspection.path.display().to_string())?;
    for (key, value) in &inspection.metadata {
        print_line(&format!("  {key} = {value}"))?;
    }
    if let Some(error) = &inspection.card_error {
        print_line(&format!("  {error}"))?;
    }
    print_ports("input", &inspection.inputs)?;
    print_ports("output", &inspection.outputs)?;
    let operators: Vec<String> = inspection
        .operators
        .iter()
        .map(|(operator, count)| format!("{operator} x{count}"))
        .collect();
    print_line(&format!("operators: {}", operators.join(", ")))?;
    print_line(&format!(
        "{:<52}{:<36}{:<8}{:<20}{:>9}",
        "node", "kernel", "element", "output", "MMAC"
    ))?;
    for node in &inspection.nodes {
        print_line(&format!(
            "{:<52}{:<36}{:<8}{:<20}{:>9.3}",
            node.name,
            node.kernel,
            node.element,
            node.shape.join("x"),
            node.multiply_adds as f64 / 1e6
        ))?;
    }
    print_line(&format!(
        "{:.2} MMAC in convolutions and matrix products, {} parameters",
        inspection.mmac, inspection.parameters
    ))
}

fn print_ports(kind: &str, ports: &[Port]) -> Result<(), Failure> {
    for port in ports {
        let shape: Vec<String> = port.shape.iter().map(usize::to_string).collect();
        print_line(&format!(
            "{kind} {}: {} [{}]",
            port.name,
            port.element,
            shape.join(", ")
        ))?;
    }
    Ok(())
}
