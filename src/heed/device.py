"""The machine: device, processor, memory."""

import ctypes
import platform
import resource
import sys
from pathlib import Path

import torch

from heed.errors import UserError


def pick_device(name: str) -> torch.device:
    """Return the device of that name, or raise `UserError`. `auto` is a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device is {name!r}, but torch finds no GPU here: take device=cpu or device=auto")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).tolist()  # fails for the device "meta" too
        return device
    except (RuntimeError, AssertionError, ImportError) as error:
        raise UserError(f"device is {name!r}: {str(error).splitlines()[0]}") from None


def device_name(device: torch.device) -> str:
    """Return the GPU's or the processor's name, for records."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def has_fast_bf16(device: torch.device) -> bool:
    """Return True if products in bfloat16 are faster than in float32, by the processor's instructions.

    With AVX-512, bfloat16 has twice the rate of float32 on AMD's EPYC, and half of it on Intel's Xeon. On Intel the
    fast instructions are AMX.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    instructions = torch.cpu.get_capabilities()
    fast = ["amx_bf16", "bf16"]  # "bf16" is ARM's
    if "AMD" in cpu_name():
        fast.append("avx512_bf16")
    return has_onednn_bf16() and any(instructions.get(name, False) for name in fast)


def has_onednn_bf16() -> bool:
    """Return True if oneDNN multiplies in bfloat16 here, perhaps by emulation. Only a private name of torch tells."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and supported is not None and bool(supported())


def out_of_memory(error: BaseException) -> bool:
    """Return True if the error means that memory ran out. The CPU's allocator raises a plain `RuntimeError`."""
    messages = ("can't allocate memory", "Storage size calculation overflowed")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(message in str(error) for message in messages)


def cpu_name() -> str:
    """Return the processor's name."""
    try:  # on Linux
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n"):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next step. By default it returns large blocks to the system at once.

    To fetch them again, page by page, took a quarter of a training step's time. Does nothing without glibc.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD in malloc.h
            libc.mallopt(mmap_threshold, 1 << 30)
            libc.mallopt(trim_threshold, (1 << 31) - 1)


def peak_memory(device: torch.device) -> int:
    """Return the largest memory use of this process so far, in bytes: of tensors on a GPU, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
