"""The context: sums of values by weights."""

import torch
from jaxtyping import Num
from torch import Tensor


def weighted_sum(weights: Num[Tensor, "*B N S"], values: Num[Tensor, "*B S D"]) -> Num[Tensor, "*B N D"]:
    """Return weights · values, in the data type of `values`."""
    if torch.compiler.is_compiling() and weights.size(-2) == 1:  # the compiler fuses a sum with its surroundings
        return (weights.mT * values).sum(-2, keepdim=True).to(values.dtype)
    return weights.to(values.dtype) @ values
