//! Softmax and batch normalisation in inference form.

use super::{Site, Types};

pub(super) fn softmax(site: &Site) -> Types {
    let x = site.float_input(0)?;
    site.axis(site.int("axis", -1), x.rank())?;
    Ok(vec![x.clone()])
}

/// BatchNormalization in inference form: x `[N, C, ..]`, then scale, bias, mean and variance `[C]`.
pub(super) fn batch_normalization(site: &Site) -> Types {
    let x = site.float_input(0)?;
    if site.int("training_mode", 0) != 0 {
        return Err(site.bad("training_mode", "0 (inference form)", 1));
    }
    if x.rank() < 2 {
        return Err(site.bad("input 0", "at least two axes", x));
    }
    for index in 1..5 {
        let of = site.like_first(index)?;
        if of.shape != [x.shape[1]] {
            return Err(site.bad(format!("input {index}"), format!("[{}]", x.shape[1]), of));
        }
    }
    Ok(vec![x.clone()])
}
