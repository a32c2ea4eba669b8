//! An int8 region as an operator of a tract plan.
//!
//! The operator holds the program, its state the buffers and the output tensors. An output tensor is written again when
//! nobody holds it any more, which is so as soon as the caller has let go of the last run's results.

use super::{
    lower::{compile, shapes},
    operators::{Element, Shape},
    partition::Region,
    program::{Memory, Program, Tensors},
};
use crate::engine::EngineOptions;
use std::{sync::Arc, time::Instant};
use tract_core::internal::*;
use tract_onnx::tract_hir::internal::{
    Expansion, InferenceResult, ShapeFactoid, Solver, TensorProxy,
};

/// The kernel that a plan's node of a region is called.
pub(crate) const NAME: &str = "Int8Region";

/// A compiled region as a tract operator.
#[derive(Clone, Debug)]
pub(crate) struct RegionOp {
    program: Arc<Program>,
    threads: usize,
    outputs: Vec<(Element, Shape)>,
}

impl PartialEq for RegionOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.program, &other.program)
    }
}

impl Eq for RegionOp {}

impl RegionOp {
    /// Compiles `region` for inputs of these shapes; for `image` see [`compile`].
    pub(crate) fn new(
        region: &Region,
        inputs: &[Shape],
        image: Option<usize>,
        options: &EngineOptions,
    ) -> Result<Self, super::error::NodeError> {
        let program = compile(region, inputs, image, options.kernel_set())?;
        let shapes = shapes(region, inputs)?;
        let output = |&value: &usize| (region.element(value), shapes[value].clone());
        Ok(Self {
            program: Arc::new(program),
            threads: options.threads,
            outputs: region.output_values.iter().map(output).collect(),
        })
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }
}

fn datum_type(element: Element) -> DatumType {
    match element {
        Element::U8 => u8::datum_type(),
        Element::F32 => f32::datum_type(),
    }
}

impl Op for RegionOp {
    fn name(&self) -> StaticName {
        NAME.into()
    }

    op_as_typed_op!();
}

impl EvalOp for RegionOp {
    not_out_of_plan!();

    fn state(&self, _: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        let outputs = self.outputs.iter().map(new_tensor);
        Ok(Some(Box::new(RegionState {
            memory: self.program.new_memory(self.threads),
            outputs: outputs.collect::<TractResult<_>>()?,
            timing: None,
        })))
    }
}

fn new_tensor((element, shape): &(Element, Shape)) -> TractResult<Arc<Tensor>> {
    Ok(Arc::new(Tensor::zero_dt(
        datum_type(*element),
        &shape.edges(),
    )?))
}

impl TypedOp for RegionOp {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let fact = |(element, shape): &(Element, Shape)| datum_type(*element).fact(shape.edges());
        Ok(self.outputs.iter().map(fact).collect())
    }

    fn cost(&self, _: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let steps = self.program.steps().iter();
        let work: u64 = steps.map(|step| step.multiply_adds).sum();
        Ok(tvec!((Cost::FMA(i8::datum_type()), work.to_dim())))
    }

    as_op!();
}

/// What runs of a [`RegionOp`] keep.
#[derive(Clone)]
pub(crate) struct RegionState {
    memory: Memory,
    outputs: Vec<Arc<Tensor>>,
    /// Seconds of each step in the last run, when they are asked for.
    timing: Option<Vec<f64>>,
}

impl std::fmt::Debug for RegionState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RegionState")
            .finish_non_exhaustive()
    }
}

impl RegionState {
    /// In the next run the time of each step is taken.
    pub(crate) fn start_timing(&mut self, steps: usize) {
        self.timing = Some(vec![0.0; steps]);
    }

    /// Seconds of each step in the last run. Further runs take no time until [`RegionState::start_timing`].
    pub(crate) fn take_timing(&mut self) -> Vec<f64> {
        self.timing.take().unwrap_or_default()
    }
}

impl OpState for RegionState {
    fn eval(
        &mut self,
        _: &EvalContext,
        op: &dyn Op,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        let op = op
            .downcast_ref::<RegionOp>()
            .context("the state of an int8 region is run with another operator")?;
        for (tensor, output) in self.outputs.iter_mut().zip(&op.outputs) {
            if Arc::get_mut(tensor).is_none() {
                *tensor = new_tensor(output)?;
            }
        }
        let mut tensors = PlanTensors {
            inputs: &inputs,
            outputs: &mut self.outputs,
        };
        match &mut self.timing {
            None => op.program.run(&mut self.memory, &mut tensors, |_| {}),
            Some(secs) => {
                let mut last = Instant::now();
                op.program.run(&mut self.memory, &mut tensors, |step| {
                    let now = Instant::now();
                    secs[step] = (now - last).as_secs_f64();
                    last = now;
                });
            }
        }
        let outputs = self.outputs.iter().map(Arc::clone);
        Ok(outputs.map(TValue::from_const).collect())
    }

    fn reset_lanes(&mut self, _: &[LaneId]) -> TractResult<()> {
        // Nothing is carried from run to run.
        Ok(())
    }
}

struct PlanTensors<'a> {
    inputs: &'a [TValue],
    outputs: &'a mut [Arc<Tensor>],
}

const FACTS: &str = "the tensor has the type that the operator's facts say";

impl PlanTensors<'_> {
    fn input<T: Datum>(&self, input: usize) -> &[T] {
        let tensor: &Tensor = &self.inputs[input];
        let plain = tensor.try_as_plain_ram().expect(FACTS);
        plain.as_slice().expect(FACTS)
    }

    fn write<T: Datum>(&mut self, output: usize, write: impl FnOnce(&mut [T])) {
        let tensor = Arc::get_mut(&mut self.outputs[output]).expect("nobody else holds it");
        let mut plain = tensor.try_as_plain_ram_mut().expect(FACTS);
        write(plain.as_slice_mut().expect(FACTS));
    }
}

impl Tensors for PlanTensors<'_> {
    fn floats(&self, input: usize) -> &[f32] {
        self.input(input)
    }

    fn bytes(&self, input: usize) -> &[u8] {
        self.input(input)
    }

    fn write_floats(&mut self, output: usize, write: impl FnOnce(&mut [f32])) {
        self.write(output, write);
    }

    fn write_bytes(&mut self, output: usize, write: impl FnOnce(&mut [u8])) {
        self.write(output, write);
    }
}

/// A region in a graph whose shapes tract still infers: it becomes a [`RegionOp`] when they are known.
#[derive(Clone, Debug)]
pub(crate) struct RegionExpansion {
    pub(crate) region: Arc<Region>,
    pub(crate) image: Option<usize>,
    pub(crate) options: EngineOptions,
}

impl RegionExpansion {
    fn input_shapes(&self, edges: &[&[TDim]]) -> TractResult<Vec<Shape>> {
        let shape = |(index, edges): (usize, &&[TDim])| {
            let mut sizes: Vec<usize> = edges
                .iter()
                .map(|edge| Ok(edge.to_usize()?))
                .collect::<TractResult<_>>()?;
            if self.image == Some(index) && sizes.len() == 4 {
                // The crop's order, from the file's.
                sizes = vec![sizes[0], sizes[3], sizes[1], sizes[2]];
            }
            Shape::from_edges(&sizes).map_err(|reason| self.region.error(0, reason).into())
        };
        edges.iter().enumerate().map(shape).collect()
    }
}

impl Expansion for RegionExpansion {
    fn name(&self) -> StaticName {
        NAME.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.region.outputs.len())
    }

    fn runs_out_of_plan(&self) -> bool {
        false
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        for (index, (input, &element)) in inputs.iter().zip(&self.region.input_elements).enumerate()
        {
            let element = if self.image == Some(index) {
                Element::U8
            } else {
                element
            };
            solver.equals(&input.datum_type, datum_type(element))?;
        }
        for (output, &value) in outputs.iter().zip(&self.region.output_values) {
            solver.equals(&output.datum_type, datum_type(self.region.element(value)))?;
        }
        let given: Vec<_> = inputs.iter().map(|input| &input.shape).collect();
        solver.given_all(given, move |solver, edges: Vec<TVec<TDim>>| {
            let edges: Vec<&[TDim]> = edges.iter().map(|edges| &edges[..]).collect();
            let shapes = shapes(&self.region, &self.input_shapes(&edges)?)?;
            for (output, &value) in outputs.iter().zip(&self.region.output_values) {
                let dims: TVec<TDim> = shapes[value].edges().iter().map(ToDim::to_dim).collect();
                solver.equals(&output.shape, ShapeFactoid::from(dims))?;
            }
            Ok(())
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let facts: Vec<TVec<TDim>> = inputs
            .iter()
            .map(|&input| Ok(model.outlet_fact(input)?.shape.to_tvec()))
            .collect::<TractResult<_>>()?;
        let edges: Vec<&[TDim]> = facts.iter().map(|edges| &edges[..]).collect();
        let shapes = self.input_shapes(&edges)?;
        let op = RegionOp::new(&self.region, &shapes, self.image, &self.options)?;
        model.wire_node(prefix, op, inputs)
    }
}
