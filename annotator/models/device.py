"""Which device a run computes on."""

from __future__ import annotations

import logging

import torch

from annotator.errors import EnvironmentFault, UsageError

logger = logging.getLogger(__name__)


def choose_device(device: str) -> str:
    """The torch device of a run: "cpu" or "cuda[:N]".

    Args:
        device: auto, cpu, cuda or cuda:N.

    Raises:
        EnvironmentFault: It was asked for by name and is not there.
        UsageError: No such kind of device.
    """
    if device == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        logger.info("device: %s (chosen automatically)", chosen)
        return chosen
    if device == "cpu":
        return device
    kind, _, index = device.partition(":")
    if kind != "cuda" or (index and not index.isdigit()):
        raise UsageError(f"--device {device}: choose auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
        raise EnvironmentFault(f"--device {device}: no such device here ({torch.cuda.device_count()} CUDA devices)")
    return device
