"""Label the example images with `small`, and count how often it is right: `python examples/demo.py`."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from zeroshot_cli import Classifier, Prediction, load, read_labels

HERE = Path(__file__).parent


def main() -> None:
    images = sorted((HERE / "images").iterdir())
    classifier = Classifier(load("small"), labels=read_labels(HERE / "labels.txt"))
    answers = [item for item in classifier.predict(map(str, images)) if isinstance(item, Prediction)]
    right = sum(answer.label == truth(answer.path) for answer in answers)
    console = Console()
    console.print(as_table(answers))
    console.print(f"{right} of {len(images)} right, {len(classifier.labels)} labels to choose from")


def truth(path: str) -> str:
    """Return the label that the file name gives: `red_heart.png` shows a red heart."""
    return Path(path).stem.replace("_", " ")


def as_table(answers: list[Prediction]) -> Table:
    table = Table("image", "label", "probability", "")
    table.columns[2].justify = "right"
    for answer in answers:
        mark = "[green]✓[/]" if answer.label == truth(answer.path) else f"[red]✗[/] {truth(answer.path)}"
        table.add_row(Path(answer.path).name, answer.label, f"{answer.probability:.1%}", mark)
    return table


if __name__ == "__main__":
    main()
