"""What workers compute on, told without loading torch in the process that asks."""

from __future__ import annotations

from dataclasses import dataclass

from annotator.machine import suits_integers


@dataclass(frozen=True)
class Machine:
    """A worker's device.

    Attributes:
        device: torch device: "cpu", "cuda" or "cuda:N".
        native_precision: What suits it: "float32", "bfloat16", or "int8" for a model that has an integer copy.
        devices: How many such devices there are to use.
        threads: CPU threads a worker's model takes where the user does not say.
        card: Name and compute capability of a GPU; empty for a CPU.
    """

    device: str
    native_precision: str = "float32"
    devices: int = 1
    threads: int = 1
    card: str = ""

    @property
    def kind(self) -> str:
        """The device without its number: "cpu" or "cuda"."""
        return self.device.partition(":")[0]


def this_cpu() -> Machine:
    """The CPU that workers compute on; torch is not loaded."""
    return Machine("cpu", "int8" if suits_integers() else "float32")


def this_process(device: str) -> Machine:
    """The device this process would compute on; loads torch.

    Args:
        device: auto, cpu, cuda or cuda:N.

    Raises:
        AnnotatorError: There is no such device.
    """
    import torch

    from annotator.models.device import card_name, choose_device, native_precision

    chosen = choose_device(device)
    devices = torch.cuda.device_count() if chosen == "cuda" else 1
    return Machine(chosen, native_precision(chosen), devices, card=card_name(chosen))
