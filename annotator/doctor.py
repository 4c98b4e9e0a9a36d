"""The findings of `annotator doctor`: what this machine will use, how fast it is, and whether every kernel is right on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from annotator.errors import AnnotatorError, EnvironmentFault
from annotator.models.device import automatic_device, choose_device
from annotator.models.directory import bundled_models, read_model
from annotator_kernels.hardware import copy_bandwidth, describe_device, matrix_rate
from annotator_kernels.repeats import REPEATS
from annotator_kernels.self_check import check_kernels
from annotator_kernels.versions import installed_version

PACKAGES = ("torch", "triton", "transformers", "ray", "polars", "pysam", "numpy", "safetensors")
NETWORK_POLICY = "offline: nothing is downloaded unless asked for"
_RATE_TYPES = (torch.float32, torch.bfloat16)
_BFLOAT16_SHAPES = [(1024, 1024, 1024)]  # on a CPU; one without the instructions takes its time
_LEAST_BFLOAT16_GAIN = 1.3
"""Ratio of the bfloat16 rate to the float32 rate of a CPU from which `--precision bfloat16` is recommended."""


def examine(device: str, threads: int) -> dict[str, Any]:
    """Look at the machine, measure it and check the kernels on it.

    Args:
        device: auto, cpu, cuda or cuda:N; rates and kernels are those of the device this stands for.
        threads: CPU threads, >= 1; set for this process.

    Returns:
        Plain values, ready for JSON: `versions`; `device` (asked, chosen, reason); `devices`, the CPU first, as
        `describe_device` names them or with a `fault`; `rates` of the chosen device (bytes and FLOP per second); `models`
        and `kernels`, each with `ok` and `detail`; `network`; `faults`, one line for each failed check.

    Raises:
        EnvironmentFault: A device asked for by name is not there, or the chosen one cannot be used.
        UsageError: There is no such kind of device.

    Notes:
        It takes about ten seconds on two CPU cores, half of them for importing torch and measuring the rates.
    """
    torch.set_num_threads(threads)
    if device == "auto":
        chosen, reason = automatic_device()
    else:
        chosen, reason = choose_device(device), "asked for"
    target = torch.device(chosen)
    devices = [describe_device(torch.device("cpu"))]
    devices += [_describe_cuda(index) for index in range(torch.cuda.device_count())]
    used = devices[0 if target.type == "cpu" else 1 + (target.index or 0)]
    if "fault" in used:
        raise EnvironmentFault(f"{used['device']} cannot be used: {used['fault']}")
    models = [_check_model(name) for name in bundled_models()]
    kernels = [asdict(check) for check in check_kernels(target, repeats=REPEATS)]
    faults = [f"model {model['name']}: {model['detail']}" for model in models if not model["ok"]]
    faults += [f"kernel {kernel['name']}: {kernel['detail']}" for kernel in kernels if not kernel["ok"]]
    if not models:
        faults.append("no bundled model: install genome-annotator again")
    return {
        "versions": {"annotator": installed_version("genome-annotator"), "python": sys.version.split()[0]}
        | {name: installed_version(name) for name in PACKAGES},
        "device": {"asked": device, "chosen": chosen, "reason": reason},
        "devices": devices,
        "threads": threads,
        "rates": _rates(target),
        "models": models,
        "kernels": kernels,
        "network": NETWORK_POLICY,
        "faults": faults,
    }


def _describe_cuda(index: int) -> dict[str, str | int]:
    device = torch.device("cuda", index)
    try:
        return describe_device(device)
    except RuntimeError as fault:  # e.g. held by another process: this is the place to say so
        return {"device": str(device), "fault": " ".join(str(fault).split())}


def _check_model(name: str) -> dict[str, Any]:
    try:
        folder, manifest = read_model(name)
    except AnnotatorError as fault:
        return {"name": name, "ok": False, "detail": str(fault)}
    return {
        "name": name, "ok": True, "detail": "sha256 verified", "version": manifest.version, "sha256": manifest.weights_sha256,
        "bytes": (folder / manifest.weights).stat().st_size,
    }  # fmt: skip


def _rates(device: torch.device) -> dict[str, Any]:
    rates: dict[str, Any] = {"device": str(device), "copy_bytes_per_s": round(copy_bandwidth(device))}
    for dtype in _RATE_TYPES:
        name = str(dtype).removeprefix("torch.")
        shapes = _BFLOAT16_SHAPES if device.type == "cpu" and dtype == torch.bfloat16 else None
        rates[f"{name}_flop_per_s"] = round(matrix_rate(device, dtype, shapes=shapes))
    return rates


def to_text(findings: dict[str, Any]) -> str:
    """The findings of `examine` as aligned plain text, its last line the verdict; no newline at the end."""
    return "\n".join(_lines(findings))


def _lines(findings: dict[str, Any]) -> Iterator[str]:
    yield "Versions"
    for name, version in findings["versions"].items():
        yield f"  {name:<14} {version}"
    yield "Device"
    chosen = findings["device"]
    yield f"  {chosen['asked']:<14} {chosen['chosen']} ({chosen['reason']})"
    for facts in findings["devices"]:
        yield f"  {facts['device']:<14} {_device_text(facts)}"
    rates = findings["rates"]
    yield f"Speed, measured now on {rates['device']}"
    yield f"  {'memory copy':<14} {_amount(rates['copy_bytes_per_s'], 'B/s')} read and written"
    for name, rate in rates.items():
        if name.endswith("_flop_per_s"):
            yield f"  {name.removesuffix('_flop_per_s'):<14} {_amount(rate, 'FLOP/s')} in matrix products"
    gain = rates["bfloat16_flop_per_s"] / rates["float32_flop_per_s"]
    if rates["device"] == "cpu" and gain >= _LEAST_BFLOAT16_GAIN:
        yield f"  {'precision':<14} float32 by default; --precision bfloat16 multiplies {gain:.1f} times as fast here"
    yield "Bundled models"
    for model in findings["models"] or [{"name": "none", "ok": False, "detail": "install genome-annotator again"}]:
        about = f"version {model['version']}, {_amount(model['bytes'], 'B')}, " if model["ok"] else ""
        yield f"  {model['name']:<14} {_verdict(model)}  {about}{model['detail']}"
    yield f"Kernels on {rates['device']}, each compared with its reference, and {REPEATS} runs with one another"
    for kernel in findings["kernels"]:
        yield f"  {kernel['name']:<14} {_verdict(kernel)}  {kernel['path']}: {kernel['detail']}"
    yield "Network"
    yield f"  {findings['network']}"
    faults = findings["faults"]
    yield f"{len(faults)} CHECK{'S' * (len(faults) > 1)} FAILED" if faults else "All checks passed."


def _device_text(facts: dict[str, str | int]) -> str:
    if "fault" in facts:
        return f"cannot be used: {facts['fault']}"
    parts = [str(facts["name"])]
    for name in ("threads", "multiprocessors"):
        if name in facts:
            parts.append(f"{facts[name]} {name if facts[name] != 1 else name[:-1]}")
    if "capability" in facts:
        parts.append(f"compute capability {facts['capability']}")
    if "total_bytes" in facts:
        parts.append(f"{_amount(int(facts['total_bytes']), 'B')} memory")
    if "free_bytes" in facts:
        parts.append(f"{_amount(int(facts['free_bytes']), 'B')} free")
    if str(facts["device"]).startswith("cuda"):
        parts += [f"CUDA {facts['cuda']}"] + ([f"driver {facts['driver']}"] if "driver" in facts else [])
    return ", ".join(parts)


def _verdict(check: dict[str, Any]) -> str:
    return "ok  " if check["ok"] else "FAIL"


def _amount(count: float, unit: str) -> str:
    """A number with three digits and an SI prefix."""
    for prefix in ("", "k", "M", "G", "T"):
        if count < 999.5:
            return f"{count:.3g} {prefix}{unit}"
        count /= 1000
    return f"{count:.3g} P{unit}"
