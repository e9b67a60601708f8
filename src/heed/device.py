"""What the machine offers: device, precision, allocator."""

import ctypes
import platform
import resource
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import torch

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
HAS_BF16 = HAS_ONEDNN and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # by emulation, too


def pick_device(name: str) -> torch.device:
    """`auto` takes a GPU where there is one; else the device of that name. `ValueError` where it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {name!r}, but torch finds no GPU here: take device=cpu or device=auto")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).tolist()  # which also the device "meta" cannot
        return device
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(f"device is {name!r}: {str(error).splitlines()[0]}") from None


def autocast(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """Makes the context of forward passes: float32, or bfloat16 products around float32 states, softmax and weights.

    `auto` is bf16 where `has_fast_bf16`, else fp32.
    """
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=_is_bf16(precision, device))


def arithmetic(precision: str, device: torch.device) -> dict[str, str]:
    """What `autocast` makes of it, for records: the device's name, and `bf16` or `fp32`."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return {"device": name, "precision": "bf16" if _is_bf16(precision, device) else "fp32"}


def _is_bf16(precision: str, device: torch.device) -> bool:
    return precision == "bf16" or (precision == "auto" and has_fast_bf16(device))


def has_fast_bf16(device: torch.device) -> bool:
    """Whether products in bfloat16 are faster there than in float32: by the instructions for them, nothing is timed.

    Of AVX-512 they have twice the rate of float32's on AMD (EPYC), half of it on Intel (Xeon), where the fast ones are
    AMX's.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    instructions = torch.cpu.get_capabilities()
    fast = ["amx_bf16", "bf16"]  # the latter is ARM's
    if "AMD" in cpu_name():
        fast.append("avx512_bf16")
    return HAS_BF16 and any(instructions.get(name, False) for name in fast)


def out_of_memory(error: BaseException) -> bool:
    """Whether it says so: the CPU's allocator has no exception of its own."""
    said = ("can't allocate memory", "Storage size calculation overflowed")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(one in str(error) for one in said)


def cpu_name() -> str:
    """The processor's name; Linux alone keeps it in a file."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n"):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def keep_freed_memory() -> None:
    """Asks glibc to keep freed blocks for the next step. By default it returns large ones to the system after each use.

    Fetching them again, page by page, took a quarter of a training step's time. Does nothing where there is no glibc.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD in malloc.h
            libc.mallopt(mmap_threshold, 1 << 30)
            libc.mallopt(trim_threshold, (1 << 31) - 1)


def peak_memory(device: torch.device) -> int:
    """The most that this process has had so far, in bytes: of tensors on a GPU, else of all its memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
