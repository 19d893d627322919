"""What a reader pastes from the page on many machines: scripts, the command of torchrun, and the manifest."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from zeroshot_cli.cli.app import app

PAGE = (Path(__file__).parents[1] / "docs/scale.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
TORCHRUN = [script for script in SCRIPTS if "torchrun" in script]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.split("\n")[0][:30])
def test_bash_reads_every_script(script: str) -> None:
    read = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.parametrize("script", TORCHRUN, ids=["by hand", "with Slurm"])
def test_torchrun_and_train_know_their_options(script: str) -> None:
    from torch.distributed.run import get_args_parser

    line = script.replace("\\\n", " ")[script.replace("\\\n", " ").index("torchrun ") :]
    words = shlex.split(line.replace("$SLURM_NNODES", "2"), comments=True)[1:]
    given = get_args_parser().parse_args(words)
    assert (given.nnodes, given.nproc_per_node, given.rdzv_backend, given.max_restarts) == ("2", "8", "c10d", 3)
    assert given.module
    assert given.training_script == "zeroshot_cli"
    command = typer.main.get_command(app)
    parsed = command.commands["train"].make_context("train", given.training_script_args[1:])  # type: ignore[attr-defined]
    assert parsed.params["resume"]
    assert given.training_script_args[0] == "train"


def test_the_manifest_of_kuberay_has_the_fields_that_it_documents() -> None:
    """The names are those of ray.io/v1 in KubeRay's API reference, and of Kubernetes' pods."""
    (manifest,) = (yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    assert manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}
    spec = manifest["spec"]
    assert spec.keys() == {
        *("entrypoint", "submissionMode", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"),
        "rayClusterSpec",
    }
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
    cluster = spec["rayClusterSpec"]
    assert cluster.keys() == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head.keys() == {"rayStartParams", "template"}
    assert workers.keys() == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert all(isinstance(value, str) for value in head["rayStartParams"].values())  # Kubernetes takes no numbers here
    for group in (head, workers):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container.keys() == {"name", "image", "resources", "env", "volumeMounts"}
        assert container["image"].endswith(cluster["rayVersion"])
        (volume,), (mount,) = pod["volumes"], container["volumeMounts"]
        assert volume["name"] == mount["name"]
        assert volume["persistentVolumeClaim"].keys() == {"claimName"}


def test_the_job_of_kuberay_can_be_typed_and_its_actors_have_room() -> None:
    spec = yaml.safe_load(re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0])["spec"]
    program, command, *words = shlex.split(spec["entrypoint"])
    assert program == "zeroshot"
    parser = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    given = parser.make_context(command, words).params
    assert given["engine"] == "ray"
    (workers,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert given["actor_cpus"] <= float(container["resources"]["limits"]["cpu"])
