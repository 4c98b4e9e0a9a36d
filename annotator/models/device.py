"""The device that a run computes on."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path

import torch

from annotator.checks import check_device
from annotator.errors import EnvironmentFault
from annotator.machine import suits_integers

logger = logging.getLogger(__name__)

_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def choose_device(device: str) -> str:
    """The torch device of a run: "cpu" or "cuda[:N]"; an automatic choice is told in one log line with its reason.

    Args:
        device: auto, cpu, cuda or cuda:N.

    Raises:
        EnvironmentFault: It was asked for by name and is not there.
        UsageError: No such kind of device.
    """
    check_device(device)
    if device == "auto":
        chosen, reason = automatic_device()
        # A machine without a GPU is no fault. One that has a GPU which torch cannot reach computes slower than it should.
        level = logging.WARNING if chosen == "cpu" and _gpu_expected() else logging.INFO
        logger.log(level, "device: %s (chosen automatically: %s)", chosen, reason)
        return chosen
    if device == "cpu":
        return device
    if (fault := cuda_fault()) is not None:
        raise EnvironmentFault(f"no such device here ({fault})", "device", device)
    if int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise EnvironmentFault(f"no such device here (CUDA devices: {torch.cuda.device_count()})", "device", device)
    return device


def automatic_device() -> tuple[str, str]:
    """What `auto` stands for here, "cuda" or "cpu", and why."""
    fault = cuda_fault()
    return ("cuda", "torch finds a CUDA device") if fault is None else ("cpu", fault)


def cuda_fault() -> str | None:
    """Why torch cannot compute on a CUDA device, in a few words; None where it can."""
    with warnings.catch_warnings(record=True) as said:  # torch tells of a driver it cannot use by a warning of many lines
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if available:
        return None
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return f"torch finds no CUDA device with CUDA_VISIBLE_DEVICES={visible!r}"
    if said:
        return " ".join(str(said[0].message).split())
    return "torch finds no CUDA device"


def _gpu_expected() -> bool:
    """Whether there is a sign of a GPU: NVIDIA's driver, or devices chosen (or hidden) in the environment."""
    return _NVIDIA_DRIVER.exists() or "CUDA_VISIBLE_DEVICES" in os.environ


def native_precision(device: str) -> str:
    """What suits a device: bfloat16, float32, or int8, which is for models that have an integer copy and else means float32.

    Args:
        device: cpu, cuda or cuda:N.
    """
    return "int8" if device == "cpu" and suits_integers() else choose_precision("auto", device)


def card_name(device: str) -> str:
    """Name and compute capability of a GPU, which decide the last digits of a score; empty for "cpu".

    Args:
        device: cpu, cuda or cuda:N.
    """
    if device == "cpu":
        return ""
    facts = torch.cuda.get_device_properties(device)
    return f"{facts.name}, compute capability {facts.major}.{facts.minor}"


def choose_precision(precision: str, device: str) -> str:
    """What a network of floating-point numbers computes in.

    Args:
        precision: auto, float32 or bfloat16.
        device: cpu, cuda or cuda:N.

    Returns:
        "float32" or "bfloat16"; for auto, bfloat16 on a GPU whose tensor cores are made for it, and float32 on older ones and
        on a CPU, where only some can do better.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if device != "cpu" and torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
