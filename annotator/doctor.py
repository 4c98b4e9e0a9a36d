"""The findings of `annotator doctor`: what this machine will use, how fast it is, and whether every kernel is right on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from annotator.errors import AnnotatorError, EnvironmentFault
from annotator.models.device import automatic_device, choose_device, native_precision
from annotator.models.directory import BUNDLED, bundled_models, read_model
from annotator.models.loading import load_scan_model
from annotator.models.options import PRECISIONS
from annotator_kernels.hardware import copy_bandwidth, describe_device, matrix_rate
from annotator_kernels.repeats import REPEATS
from annotator_kernels.self_check import check_kernels
from annotator_kernels.versions import installed_version

DEFAULT_MODEL = "compact"
PACKAGES = ("torch", "triton", "transformers", "ray", "polars", "pysam", "numpy", "safetensors")
NETWORK_POLICY = "offline: nothing is downloaded unless asked for"
_RATE_TYPES = (torch.float32, torch.bfloat16)
_BFLOAT16_SHAPES = [(1024, 1024, 1024)]  # on a CPU; one without the instructions takes its time
_LEAST_GAIN = 1.1
"""Ratio of the rates of two precisions from which the slower one is advised against."""
_TRIAL_BP, _TRIAL_ROUNDS = 16_384, 3


def examine(device: str, threads: int) -> dict[str, Any]:
    """Look at the machine, measure it and check the kernels on it.

    Args:
        device: auto, cpu, cuda or cuda:N; rates and kernels are those of the device this stands for.
        threads: CPU threads, >= 1; set for this process.

    Returns:
        Plain values, ready for JSON: `versions`; `device` (asked, chosen, reason); `devices`, the CPU first, as
        `describe_device` names them or with a `fault`; `rates` of the chosen device (bytes and FLOP per second); `precisions`,
        bases of a strand a second of the bundled model in each, or why it cannot, with what `auto` chooses; `models`
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
        "precisions": _precisions(target) if all(kernel["ok"] for kernel in kernels) else {},
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


def _precisions(device: torch.device) -> dict[str, Any]:
    """How fast the default model scans in each precision, in turns, and which one `auto` stands for; empty without the model."""
    if not (BUNDLED / DEFAULT_MODEL).is_dir() or not _check_model(DEFAULT_MODEL)["ok"]:
        return {}
    folder, manifest = read_model(DEFAULT_MODEL)
    chosen = manifest.precision("auto", native_precision(str(device)), str(device))
    found: dict[str, Any] = {"model": manifest.name, "auto": chosen, "bases_per_s": {}, "faults": {}}
    models = {}
    for precision in PRECISIONS[1:]:
        try:
            manifest.precision(precision, chosen, str(device))
            models[precision] = load_scan_model(folder, manifest, manifest.clade_for(""), device, precision)
        except AnnotatorError as fault:
            found["faults"][precision] = fault.reason
    bases = torch.tensor(list(b"ACGT"), dtype=torch.uint8)[torch.randint(4, (_TRIAL_BP,))].to(device)
    starts, reverse = torch.zeros(2, dtype=torch.int64, device=device), torch.tensor([False, True], device=device)
    seconds: dict[str, list[float]] = {precision: [] for precision in models}
    for _ in range(1 + _TRIAL_ROUNDS):
        for precision, model in models.items():
            began = time.perf_counter()
            with torch.inference_mode():
                float(model.logits(model.embed(bases, starts, reverse, _TRIAL_BP)).sum())
            seconds[precision].append(time.perf_counter() - began)
    found["bases_per_s"] = {precision: round(2 * _TRIAL_BP / min(turns[1:])) for precision, turns in seconds.items()}
    return found


def _precision_lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"Precisions, bases of one strand scanned by {found['model']}"
    rates = found["bases_per_s"]
    for precision, rate in rates.items():
        times = f", {rate / rates['float32']:.1f} times float32" if precision != "float32" and "float32" in rates else ""
        said = "; --precision auto" if precision == found["auto"] else ""
        yield f"  {precision:<14} {_amount(rate, 'bases/s')}{times}{said}"
    for precision, fault in found["faults"].items():
        yield f"  {precision:<14} not here: {fault}"
    fastest = max(rates, key=rates.__getitem__)
    if fastest != found["auto"] and rates[fastest] >= _LEAST_GAIN * rates.get(found["auto"], 0):
        yield f"  {'advice':<14} --precision {fastest} was the fastest in this trial"


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
    if findings["precisions"]:
        yield from _precision_lines(findings["precisions"])
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
