"""What a process has used."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def host_peak_bytes() -> int:
    """Most bytes this process held.

    Linux tells it of this program alone; elsewhere (and there with getrusage too) a process inherits its parent's peak.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]  # some sandboxes leave it out
    unit = 1 if sys.platform == "darwin" else 1024
    return peaks[0] if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_memory(device: torch.device) -> dict[str, int]:
    """Most bytes this process held, on the host and on its GPU."""
    if device.type != "cuda":
        return {"host": host_peak_bytes()}
    import torch

    return {"host": host_peak_bytes(), str(device): torch.cuda.max_memory_allocated(device)}
