//! Shorthands for the nodes that losses, optimizers and gradients are made of.

use super::{Attribute, ElementType, Graph, GraphError, Tensor, TensorData};

type Named = Result<String, GraphError>;

impl Graph {
    /// `a + b`, broadcast.
    ///
    /// # Errors
    /// The operands do not fit.
    pub fn add(&mut self, a: &str, b: &str) -> Named {
        self.apply("Add", &[a, b], &[])
    }

    /// `a - b`, broadcast.
    ///
    /// # Errors
    /// The operands do not fit.
    pub fn sub(&mut self, a: &str, b: &str) -> Named {
        self.apply("Sub", &[a, b], &[])
    }

    /// `a * b`, broadcast.
    ///
    /// # Errors
    /// The operands do not fit.
    pub fn mul(&mut self, a: &str, b: &str) -> Named {
        self.apply("Mul", &[a, b], &[])
    }

    /// `a / b`, broadcast.
    ///
    /// # Errors
    /// The operands do not fit.
    pub fn div(&mut self, a: &str, b: &str) -> Named {
        self.apply("Div", &[a, b], &[])
    }

    /// An operator with one input and no attributes.
    ///
    /// # Errors
    /// The operator is not supported or does not fit.
    pub fn unary(&mut self, op: &str, x: &str) -> Named {
        self.apply(op, &[x], &[])
    }

    /// A scalar of the element type of `like`.
    pub fn scalar_like(&mut self, value: f64, like: &str) -> String {
        self.constant_like(like, &[], &[value])
    }

    /// A constant of the element type of `like`.
    ///
    /// # Panics
    /// The number of values is not that of the shape.
    pub fn constant_like(&mut self, like: &str, shape: &[usize], values: &[f64]) -> String {
        let data = match self.type_of(like).element {
            ElementType::F64 => TensorData::F64(values.to_vec()),
            _ => TensorData::F32(values.iter().map(|&value| value as f32).collect()),
        };
        self.constant(Tensor::new(shape, data))
    }

    /// `x * factor`.
    ///
    /// # Errors
    /// `x` is not of floats.
    pub fn scale(&mut self, x: &str, factor: f64) -> Named {
        let factor = self.scalar_like(factor, x);
        self.mul(x, &factor)
    }

    /// `x + offset`.
    ///
    /// # Errors
    /// `x` is not of floats.
    pub fn offset(&mut self, x: &str, offset: f64) -> Named {
        let offset = self.scalar_like(offset, x);
        self.add(x, &offset)
    }

    /// `x` with another shape of as many elements; no node when it has that shape already.
    ///
    /// # Errors
    /// The number of elements differs.
    pub fn reshape(&mut self, x: &str, shape: &[usize]) -> Named {
        if self.shape(x) == shape {
            return Ok(x.to_owned());
        }
        let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let shape = self.ints(&shape);
        self.apply("Reshape", &[x, &shape], &[])
    }

    /// `x` cast to another element type; no node when it has that type already.
    ///
    /// # Errors
    /// None that a defined `x` can cause.
    pub fn cast(&mut self, x: &str, element: ElementType) -> Named {
        if self.type_of(x).element == element {
            return Ok(x.to_owned());
        }
        let to = Attribute::Int(i64::from(super::data_type_of(element)));
        self.apply("Cast", &[x], &[("to", to)])
    }

    /// `x` with its axes in another order.
    ///
    /// # Errors
    /// `axes` is not a permutation of the axes of `x`.
    pub fn transpose(&mut self, x: &str, axes: &[usize]) -> Named {
        let permutation = axes.iter().map(|&axis| axis as i64).collect();
        self.apply("Transpose", &[x], &[("perm", Attribute::Ints(permutation))])
    }

    /// A reduction (`ReduceSum`, `ReduceMean`, `ReduceSumSquare`, ..) over `axes`; over all of them when there are none.
    ///
    /// # Errors
    /// An axis is out of range.
    pub fn reduce(&mut self, op: &str, x: &str, axes: &[usize], keep_axes: bool) -> Named {
        let keepdims = ("keepdims", Attribute::Int(i64::from(keep_axes)));
        if axes.is_empty() {
            return self.apply(op, &[x], &[keepdims]);
        }
        let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
        let axes = self.ints(&axes);
        self.apply(op, &[x, &axes], &[keepdims])
    }

    /// Values along `axes` joined.
    ///
    /// # Errors
    /// The other axes differ.
    pub fn concat(&mut self, parts: &[&str], axis: usize) -> Named {
        let axis = Attribute::Int(axis as i64);
        self.apply("Concat", parts, &[("axis", axis)])
    }

    /// The part of `x` from `starts` to before `ends` with `steps`, along `axes`.
    ///
    /// # Errors
    /// An axis is out of range.
    pub fn slice(
        &mut self,
        x: &str,
        axes: &[usize],
        starts: &[i64],
        ends: &[i64],
        steps: &[i64],
    ) -> Named {
        let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
        let axes = self.ints(&axes);
        let starts = self.ints(starts);
        let ends = self.ints(ends);
        let steps = self.ints(steps);
        self.apply("Slice", &[x, &starts, &ends, &axes, &steps], &[])
    }

    /// `x` with `before` and `after` zeros around each axis; a negative number cuts off.
    ///
    /// # Errors
    /// The lists are not as long as the rank.
    pub fn pad(&mut self, x: &str, before: &[i64], after: &[i64]) -> Named {
        if before.iter().chain(after).all(|&size| size == 0) {
            return Ok(x.to_owned());
        }
        let pads: Vec<i64> = before.iter().chain(after).copied().collect();
        let pads = self.ints(&pads);
        self.apply("Pad", &[x, &pads], &[])
    }
}
