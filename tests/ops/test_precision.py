"""The precision that models compute in."""

import torch

from heed.device import has_fast_bf16
from heed.ops.precision import precision, resolve


def test_precision_is_what_is_asked_for() -> None:
    cpu, matrix = torch.device("cpu"), torch.ones(2, 2)
    for name, on in (("bf16", True), ("fp32", False), ("auto", has_fast_bf16(cpu))):
        assert resolve(name, cpu) == ("bf16" if on else "fp32")
        with precision(name, cpu)():
            assert (matrix @ matrix).dtype == (torch.bfloat16 if on else torch.float32)
