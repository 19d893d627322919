"""Print the table of measured figures, from results/ or, where a script has no result there, from earlier.csv.

A figure that a script has not measured since is the earlier one, with its date and command. The newest run that
contains a figure counts; on the same day, the one without options. A run on other data or with another model does not
count: only options that select a part, or a longer measurement, are accepted.

    python benchmarks/table.py
"""

import argparse
import csv
import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SAME_CLAIM = {"--only", "--rounds", "--images", "--steps", "--workers", "--precision", "--sample", "--classes"}
NUMBER = r"[^\S\n]+([\d.]+)"


def below(title: str, line: str) -> str:
    """A pattern for a line among the indented ones below a title, and not below the next one."""
    return rf"^{title}.*\n(?: .*\n)*? +{line}"


@dataclass(frozen=True, slots=True)
class Claim:
    """One row: what was compared with whom, and where the script's output says how it went.

    `pattern` has one group, the figure, which `unit` follows.
    """

    key: str
    what: str
    peer: str
    script: str
    pattern: str
    unit: str = " ×"


@dataclass(frozen=True, slots=True)
class Measured:
    figure: str
    date: str
    machine: str
    command: str


CLAIMS = (
    Claim("fp32", "images/s, ViT-B-32, fp32", "open_clip fp32", "precision", r"zeroshot fp32\s+[\d.]+" + NUMBER),
    Claim("bf16", "images/s, ViT-B-32, bf16", "open_clip fp32", "precision", r"zeroshot bf16\s+[\d.]+" + NUMBER),
    Claim(
        "bf16 openvino",
        "images/s, ViT-B-32, bf16, `--engine openvino`",
        "open_clip fp32",
        "precision",
        r"zeroshot bf16 openvino\s+[\d.]+" + NUMBER,
    ),
    Claim("int8", "images/s, ViT-B-32, int8", "open_clip fp32", "precision", r"zeroshot int8\s+[\d.]+" + NUMBER),
    Claim(
        "int8 by hand",
        "OpenVINO's own int8 of the same model, by hand",
        "open_clip fp32",
        "precision",
        r"OpenVINO int8\s+[\d.]+" + NUMBER,
    ),
    Claim(
        "folder large",
        "a folder of 12-megapixel photographs, bf16",
        "open_clip script, bf16, DataLoader workers",
        "folder",
        below(r"12 megapixels: .* in bf16", "script" + NUMBER),
    ),
    Claim(
        "folder small",
        "a folder of small photographs, bf16",
        "open_clip script, bf16, DataLoader workers",
        "folder",
        below(r"0\.2 megapixels: .* in bf16", "script" + NUMBER),
    ),
    Claim(
        "cached",
        "new labels for 10,000 cached images, beyond `import torch`",
        "",
        "folder",
        r"so (-?[\d.]+) s more",
        " s",
    ),
    Claim(
        "tiny",
        "images of 128 pixels labelled by `tiny` on one core, startup included",
        "",
        "folder",
        below(".*, tiny, on one core", "start and all" + NUMBER),
        " a second",
    ),
    *(
        Claim(
            f"small {precision}",
            f"images of 500 × 375 pixels labelled by `small` on one core, {precision}, once it runs",
            "",
            "folder",
            below(f".*, small in {precision}, on one core", "once it runs" + NUMBER),
            " a second",
        )
        for precision in ("bf16", "fp32")
    ),
    Claim(
        "classes bf16",
        "class embeddings, 80 prompts a class, bf16",
        "open_clip bf16",
        "class_embeddings",
        below("bf16: .*, 1000 names × 80 ", "ratio" + NUMBER),
    ),
    Claim(
        "classes fp32",
        "class embeddings, 80 prompts a class, fp32",
        "open_clip fp32",
        "class_embeddings",
        below("fp32: .*, 1000 names × 80 ", "ratio" + NUMBER),
    ),
    Claim(
        "train fp32", "training ViT-B-32, fp32", "open_clip_train", "train", below("fp32, the median", "ratio" + NUMBER)
    ),
    Claim(
        "train bf16", "training ViT-B-32, bf16", "open_clip_train", "train", below("bf16, the median", "ratio" + NUMBER)
    ),
    Claim(
        "quality",
        "loss on unseen pairs, ours minus theirs, mean of three seeds (lower is better)",
        "open_clip_train",
        "train",
        r"mean of the loss: .*; ours is ([+-][\d.]+)",
        "",
    ),
    Claim(
        "memory",
        "memory of a batch of 1024 with `--chunk-size 64`",
        "the whole batch at once",
        "train",
        below("memory of batches", "ratio" + NUMBER),
    ),
    Claim(
        "sigmoid",
        "memory of the sigmoid loss of 8,192 embeddings on two processes",
        "open_clip's `SigLipLoss`",
        "sigmoid",
        r"^ +ratio" + NUMBER + " of open_clip's memory",
    ),
    Claim("eval", "the whole `eval` command", "CLIP_benchmark", "eval", r"^ +whole command.*\n +ratio" + NUMBER),
    Claim(
        "agreement",
        "images that only one of the two gets right",
        "CLIP_benchmark",
        "eval",
        below("agreement:", r"right for one only: (\d+ of \d+)"),
        "",
    ),
)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = [(claim, measured) for claim in CLAIMS if (measured := find(claim))]
    print("\n".join(markdown(rows)))


def find(claim: Claim, folder: Path = HERE) -> Measured | None:
    """The newest figure that there is: the last run's, else the earlier one."""
    found = {}
    for result in (folder / "results").glob(f"{claim.script}.*txt"):
        header, _, output = result.read_text(encoding="utf-8").partition("\n\n")
        about = dict(line.split(": ", 1) for line in header.splitlines())
        same = set(re.findall(r" (--[a-z-]+)", about["command"])) <= SAME_CLAIM
        if same and (match := re.search(claim.pattern, output, re.MULTILINE)):
            measured = Measured(match[1] + claim.unit, about["date"], about["machine"], about["command"])
            found[measured.date, result.stem == claim.script, result.stem] = measured
    if found:
        return found[max(found)]
    with (folder / "earlier.csv").open(encoding="utf-8", newline="") as file:
        earlier = {row.pop("key"): Measured(**row) for row in csv.DictReader(file)}
    return earlier.get(claim.key)


def markdown(rows: list[tuple[Claim, Measured]]) -> list[str]:
    """The lines of the table."""
    lines = ["| what | against | measured | date | machine | command |", "|---|---|---|---|---|---|"]
    for claim, measured in rows:
        told = f"**{measured.figure}** | {measured.date} | {measured.machine} | `{measured.command}`"
        lines.append(f"| {claim.what} | {claim.peer} | {told} |")
    return lines


if __name__ == "__main__":
    main()
