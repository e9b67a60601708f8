"""Matrix products by oneDNN. torch offers them under private names alone, which this file holds.

Each function has a public fall-back, for a torch in which a private name is gone.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from heed.device import has_onednn_bf16

_LINEAR, _PACK = "_linear_pointwise", "_reorder_linear_weight"

AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, _LINEAR)
CAN_PACK = AVAILABLE and hasattr(torch.ops.mkldnn, _PACK)
HAS_BF16 = AVAILABLE and has_onednn_bf16()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x Wᵀ + b without a gradient. `weight` may come from `pack`."""
    if not AVAILABLE:
        return F.linear(x, weight, bias)
    return getattr(torch.ops.mkldnn, _LINEAR)(x, weight, bias, "none", [], "")


def pack(weight: Tensor) -> Tensor:
    """Return the weight in the order in which oneDNN reads it, for `linear` alone."""
    return getattr(torch.ops.mkldnn, _PACK)(weight, None) if CAN_PACK else weight
