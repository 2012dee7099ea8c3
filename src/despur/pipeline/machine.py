"""What a stage was computed on: numbers may differ in their last digits between two of these, and nothing else does."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")


def machine_of(device: torch.device | None) -> dict[str, str]:
    """``device, processor, cores, threads`` as words.

    Args:
        device: where the tensors were; None: on the processor.
    """
    on_cuda = device is not None and device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_cuda else "cpu" if device is None else device.type,
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }


def _processor() -> str:
    """The processor's name as the system tells it, else its kind."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()
