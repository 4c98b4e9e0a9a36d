"""The operations of the kernels package by name: the module that holds each, and the one that holds its launch wrapper."""

from __future__ import annotations

from types import ModuleType

import annotator_kernels.kmer.op
import annotator_kernels.local_maxima.op
import annotator_kernels.pwm_scan.op
import annotator_kernels.residual_conv.op

OPERATIONS: dict[str, ModuleType] = {
    "kmer_tokenize": annotator_kernels.kmer.op,
    "kmer_embed": annotator_kernels.kmer.op,
    "residual_conv": annotator_kernels.residual_conv.op,
    "local_maxima": annotator_kernels.local_maxima.op,
    "pwm_scan": annotator_kernels.pwm_scan.op,
}
WRAPPERS = {
    "kmer_tokenize": "annotator_kernels.kmer.tokenize_kernel",
    "kmer_embed": "annotator_kernels.kmer.embed_kernel",
    "residual_conv": "annotator_kernels.residual_conv.kernel",
    "local_maxima": "annotator_kernels.local_maxima.kernel",
    "pwm_scan": "annotator_kernels.pwm_scan.kernel",
}
KERNELS = list(OPERATIONS)
