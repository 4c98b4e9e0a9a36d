"""The GPU's name and capability decide the last digits of a score: the plan holds them, and a worker on another card refuses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from annotator.errors import EnvironmentFault
from annotator.models import device
from annotator.pipeline.executors.machine import Machine
from annotator.pipeline.options import AnnotateOptions
from annotator.pipeline.request import resolve
from annotator.pipeline.worker.shard_task import ShardTask
from annotator.results.plan import RunPlan

CARD = "NVIDIA H200, compute capability 9.0"


def test_name_and_capability_of_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def properties(which: str) -> SimpleNamespace:
        asked.append(which)
        return SimpleNamespace(name="NVIDIA H200", major=9, minor=0)

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    assert device.card_name("cpu") == "" and asked == []
    assert device.card_name("cuda:1") == CARD and asked == ["cuda:1"]


def test_a_run_on_a_gpu_has_it_among_what_decides_the_result() -> None:
    options = AnnotateOptions(model="compact", tasks=("splice",))
    assert resolve(options, Machine("cuda", "bfloat16", card=CARD)).order.libraries["gpu"] == CARD
    assert "gpu" not in resolve(options, Machine("cpu")).order.libraries


def test_a_worker_on_another_card_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    order = resolve(AnnotateOptions(model="compact", tasks=("splice",)), Machine("cuda", "bfloat16", card=CARD)).order
    monkeypatch.setattr(device, "card_name", lambda which: "NVIDIA L4, compute capability 8.9")
    with pytest.raises(EnvironmentFault, match=r"a worker has gpu NVIDIA L4, .*8\.9, the plan says NVIDIA H200, .* be the same"):
        ShardTask(order).setup()


def test_runs_on_two_cards_differ_and_one_on_a_cpu_is_passed_over() -> None:
    plan = RunPlan({"libraries": {"torch": "2.11", "gpu": CARD}})
    other = {"torch": "2.11", "gpu": "NVIDIA L4, compute capability 8.9"}
    ((name, before, now),) = plan.differences({"libraries": other})
    assert (name, before["gpu"], now["gpu"]) == ("libraries", other["gpu"], CARD)
    assert list(plan.differences({"libraries": {"torch": "2.11"}})) == []
