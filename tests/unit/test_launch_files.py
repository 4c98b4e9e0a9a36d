"""The files of docs/launch, as far as they can be checked without a cluster, a cloud or a workflow manager."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "docs/launch"
SHELL = ("slurm.sh", "slurm-one-node.sh")


# --- options: the single place that knows which ones `annotator annotate` has

CHOICES = {"--device": {"auto", "cpu", "cuda"}, "--stage": {"shared", "object-store"}, "--clade": {"vertebrate", "plant"}}


def known_options(command: str = "annotate") -> set[str]:
    import typer.main

    from annotator.cli.app import app

    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("-")}


def check_command(text: str) -> list[str]:
    """Split a shell line that calls `annotator annotate`, hold its options against the command's; returns argv."""
    argv = shlex.split(text)
    start = next(i for i, word in enumerate(argv) if word == "annotator" or word.endswith("/annotator"))
    argv = argv[start:]
    assert argv[1] == "annotate", text
    options = [word for word in argv if re.match(r"--?[a-z]", word)]
    assert set(options) <= known_options(), sorted(set(options) - known_options())
    assert len(options) == len(set(options)), options
    assert "-o" in options
    for option, values in CHOICES.items():
        if option in argv:
            assert argv[argv.index(option) + 1] in values, option
    return argv


def value(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


def header_command(path: Path) -> str:
    """The `annotator annotate` line in a YAML file's leading comment: it stands in the double quotes of `ray exec`."""
    comment = " ".join(line.lstrip("# ").rstrip() for line in path.read_text().splitlines() if line.startswith("#"))
    found = re.search(r'ray exec \S+ "(.*?)"', comment)
    assert found is not None
    return found[1]


def test_the_check_of_options_sees_an_unknown_one() -> None:
    with pytest.raises(AssertionError, match="no-such-option"):
        check_command("annotator annotate a.fa -o out --no-such-option 1")


# --- ray up


@pytest.mark.parametrize("name", ["ray-up.yaml", "ray-up-local.yaml"])
def test_ray_accepts_the_cluster_files(name: str) -> None:
    pytest.importorskip("jsonschema")
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((LAUNCH / name).read_text()))
    validate_config(config)
    with pytest.raises(Exception, match="misspelt"):
        validate_config(config | {"misspelt": 1})

    for start in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]):
        options = set(re.findall(r"--[a-z-]+", start))
        assert options <= ray_start_options(), options - ray_start_options()
    head = config["head_start_ray_commands"][-1]
    assert "--include-dashboard=false" in head and "--num-cpus=0" in head and "--autoscaling-config=" in head
    assert "$RAY_HEAD_IP:6379" in config["worker_start_ray_commands"][-1]
    argv = check_command(header_command(LAUNCH / name))
    assert int(value(argv, "--workers")) > 0, "0 counts the GPUs that are there, and at the start there may be none"


def ray_start_options() -> set[str]:
    from ray.scripts.scripts import start

    return {name for parameter in start.params for name in (*parameter.opts, *parameter.secondary_opts)}


def test_aws_cluster() -> None:
    config = yaml.safe_load((LAUNCH / "ray-up.yaml").read_text())
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    gpu = types["gpu"]
    assert 0 <= gpu["min_workers"] < gpu["max_workers"] <= config["max_workers"]
    argv = check_command(header_command(LAUNCH / "ray-up.yaml"))
    assert int(value(argv, "--workers")) <= gpu["max_workers"] * gpu["resources"]["GPU"]
    assert value(argv, "--stage") == "object-store", "nodes on AWS share no file system"
    assert float(value(argv, "--node-timeout")) >= 600, "a node needs minutes to boot"
    settings = dict(
        option.removeprefix("--env=").split("=", 1) for option in config["docker"]["run_options"] if "--env=" in option
    )
    assert settings["RAY_AUTH_MODE"] == "token"
    assert settings["RAY_AUTH_TOKEN_PATH"] in config["file_mounts"]
    assert "--entrypoint=/usr/bin/env" in config["docker"]["run_options"], "the image's entry point is annotator"


def test_local_cluster_uses_the_token_in_every_start() -> None:
    config = yaml.safe_load((LAUNCH / "ray-up-local.yaml").read_text())
    assert config["max_workers"] == len(config["provider"]["worker_ips"])
    assert "~/.ray/auth_token" in config["file_mounts"]
    for command in (config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]):
        assert "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token" in command
        assert "chmod 600 ~/.ray/auth_token" in command


def test_cluster_image_is_an_ordinary_user() -> None:
    text = (LAUNCH / "Dockerfile.cluster").read_text()
    assert re.findall(r"^USER (\S+)", text, re.M)[-1] == "10001"
    assert re.search(r"^ARG BASE=\S+:\d", text, re.M) and "ray[default]==${version}" in text


# --- KubeRay


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    documents = {document["kind"]: document for document in yaml.safe_load_all((LAUNCH / "kuberay-rayjob.yaml").read_text())}
    assert set(documents) == {"PersistentVolumeClaim", "RayJob"}
    assert documents["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    found: dict[str, Any] = documents["RayJob"]
    assert found["apiVersion"] == "ray.io/v1"
    return found["spec"] | {"claim": documents["PersistentVolumeClaim"]["metadata"]["name"]}


def pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = job["rayClusterSpec"]
    return {
        "submitter": job["submitterPodTemplate"]["spec"],
        "head": cluster["headGroupSpec"]["template"]["spec"],
        **{group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]},
    }


def test_rayjob_fields(job: dict[str, Any]) -> None:
    assert job["submissionMode"] in {"K8sJobMode", "HTTPMode", "SidecarMode"}
    assert job["shutdownAfterJobFinishes"] is True
    assert job["ttlSecondsAfterFinished"] > 0
    assert job["backoffLimit"] > 0
    cluster = job["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 54, 0)
    assert cluster["enableInTreeAutoscaling"] is True
    assert set(job) <= {
        *("entrypoint", "submissionMode", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit"),
        *("submitterPodTemplate", "rayClusterSpec", "claim"),
    }


def test_rayjob_head_does_no_work(job: dict[str, Any]) -> None:
    parameters = job["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]
    assert parameters["num-cpus"] == "0" and parameters["num-gpus"] == "0"
    for group in (job["rayClusterSpec"]["headGroupSpec"], *job["rayClusterSpec"]["workerGroupSpecs"]):
        assert all(isinstance(text, str) for text in group["rayStartParams"].values()), "KubeRay takes strings only"
        assert {f"--{name}" for name in group["rayStartParams"]} <= ray_start_options()


def test_rayjob_workers(job: dict[str, Any]) -> None:
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    argv = check_command(job["entrypoint"])
    assert int(value(argv, "--workers")) == group["maxReplicas"], "one GPU a pod"
    assert value(argv, "--ray") == "auto"
    assert float(value(argv, "--node-timeout")) >= 600, "a GPU node needs minutes to start"


def test_rayjob_pods_are_bounded_and_unprivileged(job: dict[str, Any]) -> None:
    images = set()
    for name, pod in pods(job).items():
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0, name
        assert pod["restartPolicy"] == "Never", name
        (container,) = pod["containers"]
        images.add(container["image"])
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}, name
        assert set(container["resources"]["limits"]) >= {"cpu", "memory"}, name
        for word in ("command", "args"):
            if word in container:  # KubeRay writes it; one of ours must be a command of annotator
                check_command(shlex.join(container[word]))
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        assert {mount["name"] for mount in container.get("volumeMounts", [])} == set(volumes), name
        if name != "submitter":
            assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
            assert volumes["data"]["persistentVolumeClaim"]["claimName"] == job["claim"]
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            assert set(mounts) == {"/data", "/dev/shm"}
            assert mounts["/data"].get("readOnly", False) is (name != "head"), "the driver alone writes"
    assert len(images) == 1 and re.search(r":\d", images.pop())
    limits = pods(job)["gpu"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"


# --- Slurm


@pytest.mark.parametrize("name", SHELL)
def test_shell_syntax(name: str) -> None:
    path = LAUNCH / name
    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True)
    checker = shutil.which("shellcheck", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if checker is not None:
        found = subprocess.run([checker, str(path)], check=False, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("name", SHELL)
def test_slurm_directives(name: str) -> None:
    directives = set(re.findall(r"^#SBATCH (\S+)$", (LAUNCH / name).read_text(), re.M))
    assert {"--signal=B:USR1@300", "--requeue", "--open-mode=append"} <= directives
    if name == "slurm.sh":
        assert {"--ntasks-per-node=1", "--no-kill"} <= directives


FAKES = {
    # Runs the command after its options once, as Slurm would on each node.
    "srun": 'echo "srun $*" >>"$RECORD"; while [[ $1 == --* ]]; do w=$1; shift; [[ $w != -- ]] || break; done; exec "$@"',
    "scontrol": 'if [[ $1 == show ]]; then printf "n1\\nn2\\nn3\\n"; else echo "scontrol $*" >>"$RECORD"; fi',
    "sbatch": 'echo "sbatch $*" >>"$RECORD"',
    "hostname": "echo 10.0.0.7 172.16.0.7",
    "sleep": "exec /bin/sleep 0.05",
    "ray": """
        if [[ $1 == status ]]; then [[ -e $STATE/head ]]; exit; fi
        echo "token $(stat -c %a "$RAY_AUTH_TOKEN_PATH") $(wc -c <"$RAY_AUTH_TOKEN_PATH") $RAY_AUTH_MODE" >>"$RECORD"
        if [[ $2 != --head ]]; then touch "$STATE/worker"; elif [[ -z ${NO_HEAD-} ]]; then touch "$STATE/head"; else exit 1; fi
        exec /bin/sleep 60""",
    "annotator": """
        echo "annotator $*" >>"$RECORD"
        trap 'echo "driver USR1" >>"$RECORD"; exit 143' USR1
        trap 'echo "driver TERM" >>"$RECORD"; exit 143' TERM
        if [[ "$*" == *"--ray 10."* ]]; then until [[ -e $STATE/worker ]]; do /bin/sleep 0.02; done; fi
        [[ $END == wait ]] || exit "$END"
        touch "$STATE/driver"
        while :; do /bin/sleep 0.05; done""",
}


class Slurm:
    """One run of a batch script among stand-ins for the programs it calls."""

    def __init__(self, folder: Path, script: str, end: str, **more: str) -> None:
        self.folder, self.record = folder, folder / "record"
        (folder / "bin").mkdir()
        (folder / "state").mkdir()
        self.record.touch()
        for name, body in FAKES.items():
            path = folder / "bin" / name
            path.write_text(f"#!/usr/bin/env bash\n{body}\n")
            path.chmod(0o755)
        self.job = str(os.getpid() * 10 + int(time.time() * 1000) % 10)  # a folder of its own in /tmp for each test run
        environment = {
            "PATH": f"{folder}/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "RECORD": str(self.record),
            "STATE": f"{folder}/state",
            "END": end,
            "SLURM_JOB_ID": self.job,
            "SLURM_JOB_NODELIST": "n[1-3]",
            "SLURM_JOB_NUM_NODES": "3",
            "SLURM_GPUS_ON_NODE": "8",
            "SLURM_CPUS_PER_TASK": "64",
        }
        self.process = subprocess.Popen(
            ["bash", str(LAUNCH / script), "samples.csv", "out", "--clade", "plant"],
            env=environment | more,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def signal_when_running(self, number: int) -> None:
        deadline = time.monotonic() + 20
        while not (self.folder / "state/driver").exists():
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        self.process.send_signal(number)

    def finish(self) -> tuple[int, list[str]]:
        output, _ = self.process.communicate(timeout=20)
        assert not Path(f"/tmp/ray-{self.job}-0").exists(), output
        assert not list(self.folder.glob(".annotator-ray/token*")), "the token outlives the job"
        return self.process.returncode, self.record.read_text().splitlines()


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Any]:
    runs: list[Slurm] = []

    def start(script: str, end: str, **more: str) -> Slurm:
        runs.append(Slurm(tmp_path, script, end, **more))
        return runs[-1]

    yield start
    for run in runs:
        with suppress(ProcessLookupError):  # whatever the script left behind, too
            os.killpg(run.process.pid, signal.SIGKILL)
        run.process.communicate()


def index(lines: list[str], text: str) -> int:
    return next(i for i, line in enumerate(lines) if text in line)


def test_slurm_starts_the_head_before_the_workers_and_the_driver(slurm: Any) -> None:
    code, lines = slurm("slurm.sh", "0").finish()
    assert code == 0
    head, workers, driver = (index(lines, text) for text in ("ray start --head", "ray start --address", "annotator annotate"))
    assert index(lines, "mkdir") < head < min(workers, driver)
    assert "--nodes=1 --ntasks=1 --nodelist=n1 " in lines[head]
    assert "--nodes=2 --ntasks=2 --exclude=n1 " in lines[workers]
    port = re.search(r"--port=(\d+) ", lines[head])
    assert port is not None and 20000 <= int(port[1]) < 32766
    assert f"--address=10.0.0.7:{port[1]} " in lines[workers]
    assert "--include-dashboard=false" in lines[head]
    for line in (lines[head], lines[workers]):
        assert set(re.findall(r"--[a-z-]+", line.partition(" ray start ")[2])) <= ray_start_options()
        temp_dir = re.search(r"--temp-dir=(\S+)", line)
        assert temp_dir is not None
        socket = f"{temp_dir[1]}/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
        assert len(socket) < 107
    assert [line for line in lines if line.startswith("token")] == [
        "token 600 64 token"
    ] * 2  # one line of the head, one of the workers' step
    argv = check_command(lines[driver])
    assert value(argv, "--ray") == f"10.0.0.7:{port[1]}"
    assert value(argv, "--workers") == "24"
    assert argv[-2:] == ["--clade", "plant"]
    assert "rm -rf" in lines[-1]


@pytest.mark.parametrize("script", SHELL)
@pytest.mark.parametrize(("end", "requeued"), [("143", True), ("3", False), ("130", False)])
def test_slurm_requeues_what_can_go_on(slurm: Any, script: str, end: str, requeued: bool) -> None:
    run = slurm(script, end)
    code, lines = run.finish()
    assert code == int(end)
    assert (f"scontrol requeue {run.job}" in lines) is requeued
    if requeued:
        assert lines[-1].startswith("scontrol"), "requeue ends the script: nothing may come after it"


@pytest.mark.parametrize("script", SHELL)
def test_slurm_forwards_the_early_signal(slurm: Any, script: str) -> None:
    run = slurm(script, "wait")
    run.signal_when_running(signal.SIGUSR1)
    code, lines = run.finish()
    assert code == 143
    assert lines.count("driver USR1") == 1
    assert f"scontrol requeue {run.job}" in lines


@pytest.mark.parametrize("script", SHELL)
def test_slurm_does_not_requeue_a_cancelled_job(slurm: Any, script: str) -> None:
    run = slurm(script, "wait")
    run.signal_when_running(signal.SIGTERM)
    code, lines = run.finish()
    assert code == 143
    assert "driver TERM" in lines and not [line for line in lines if "requeue" in line]


def test_slurm_gives_up_after_many_requeues(slurm: Any) -> None:
    code, lines = slurm("slurm-one-node.sh", "143", SLURM_RESTART_COUNT="20").finish()
    assert code == 143
    assert not [line for line in lines if "requeue" in line]


def test_slurm_says_when_the_head_does_not_start(slurm: Any) -> None:
    code, lines = slurm("slurm.sh", "0", NO_HEAD="1").finish()
    assert code == 5
    assert not [line for line in lines if "annotator" in line.split() or "requeue" in line]


def test_slurm_one_node_uses_no_ray(slurm: Any) -> None:
    code, lines = slurm("slurm-one-node.sh", "0").finish()
    assert code == 0
    (line,) = lines
    argv = check_command(line)
    assert value(argv, "--ray") == "off" and value(argv, "--workers") == "8"


# --- Nextflow and Snakemake


def test_nextflow_process() -> None:
    text = (LAUNCH / "nextflow/main.nf").read_text()
    assert text.count("{") == text.count("}") and text.count('"""') == 4
    (process,) = re.findall(r"^process ANNOTATE \{$(.*?)^\}$", text, re.M | re.S)
    sections = re.findall(r"^    (input|output|when|script|stub):$", process, re.M)
    assert sections == ["input", "output", "when", "script", "stub"]
    script, stub = process.split("    script:")[1].split("    stub:")
    for part in (script, stub):
        assert "versions.yml" in part and "annotator --version" in part and "task.process" in part
    for emitted in re.findall(r'path\("\$\{prefix\}/([^"]+)"\)', process):
        made = {".bed.gz", ".csi", ".tbi", "predictions.parquet", "run.json"}
        assert any(emitted.endswith(name) or name.lstrip(".") in emitted for name in made), emitted
    assert "task.ext.args ?: ''" in script and "val(meta), path(fasta)" in process
    command = re.search(r"annotator annotate .*?\$\{args\}", script, re.S)
    assert command is not None
    check_command(command[0].replace("\\\\\n", " ").replace("${args}", ""))


def test_nextflow_config() -> None:
    text = (LAUNCH / "nextflow/nextflow.config").read_text()
    assert text.count("{") == text.count("}")
    codes = re.search(r"task\.exitStatus in \[([\d, ]+)\] \? 'retry'", text)
    assert codes is not None and {int(code) for code in codes[1].split(",")} == {130, 143, 6}
    found = re.findall(r"ext\.args = '([^']+)'", text)
    assert len(found) == 2
    for args in found:
        check_command(f"annotator annotate a.fa -o out {args}")


def test_snakefile(tmp_path: Path) -> None:
    path = LAUNCH / "snakemake/Snakefile"
    text = path.read_text()
    for section in ("input:", "output:", "log:", "params:", "threads: THREADS", "resources:", "retries: 3", "shell:"):
        assert f"\n    {section}" in text, section
    command = "".join(ast.literal_eval(line.strip()) for line in text.partition("    shell:\n")[2].splitlines())
    check_command(command.partition(">>")[0])
    if importlib.util.find_spec("snakemake") is None:
        return
    (tmp_path / "a.fa").write_text(">c\nACGT\n")
    (tmp_path / "samples.csv").write_text("sample,fasta\na,a.fa\n")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "-s", str(path), "--cores", "2", "--config", "sheet=samples.csv"],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# --- the page


def test_readme_names_every_file() -> None:
    text = (LAUNCH / "README.md").read_text()
    for path in LAUNCH.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert f"`{path.relative_to(LAUNCH)}`" in text, path
