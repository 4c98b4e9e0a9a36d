"""The model of a run on the driver's own device, for samples of a genome that are looked at before its scan."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from annotator.kinds import Kind
from annotator.pipeline.request import Request

if TYPE_CHECKING:
    from annotator.calls.sample_scan import SampleScan

logger = logging.getLogger(__name__)


def load_sample_scan(request: Request, clade: str, kinds: Sequence[Kind]) -> SampleScan:
    """Load the model of a run for one clade.

    Args:
        request: What is done.
        clade: One of the model's.
        kinds: Kinds to call.

    Raises:
        AnnotatorError: The model cannot be loaded.
    """
    import torch

    from annotator.calls.sample_scan import SampleScan
    from annotator.models.device import cuda_fault

    order = request.order
    device, precision = order.device, order.precision
    if device != "cpu" and (fault := cuda_fault()) is not None:
        logger.warning("samples of the genome are scanned on the CPU of the driver: %s", fault)
        device, precision = "cpu", "float32"
    torch.set_num_threads(order.threads)
    batch_bp = order.batch_bp if device == order.device else 0
    return SampleScan(request.folder, request.manifest, clade, kinds, device, precision=precision, batch_bp=batch_bp)
