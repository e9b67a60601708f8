"""The machine: device, processor, memory."""

import pytest
import torch

from heed.device import has_fast_bf16, has_onednn_bf16


@pytest.mark.skipif(not has_onednn_bf16(), reason="needs oneDNN's products in bfloat16")
@pytest.mark.parametrize(
    ("name", "instructions", "fast"),
    [
        ("AMD EPYC 9R14", {"avx512_bf16"}, True),
        ("Intel(R) Xeon(R) Processor", {"avx512_bf16"}, False),
        ("Intel(R) Xeon(R) Processor", {"avx512_bf16", "amx_bf16"}, True),
        ("11th Gen Intel(R) Core(TM) i7-1185G7", {"avx512_f"}, False),
        ("AMD Ryzen 7 5800X", {"avx2"}, False),
        ("Neoverse-V1", {"bf16"}, True),
    ],
)
def test_auto_is_bf16_if_it_is_faster(
    name: str, instructions: set[str], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heed.device.cpu_name", lambda: name)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))
    assert has_fast_bf16(torch.device("cpu")) == fast
