"""What a reader pastes from the page on many machines: scripts, the command of torchrun, and the manifest."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

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
