"""Run classify.ipynb from top to bottom and keep what its cells show: `make notebook`."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent / "classify.ipynb"


def executed() -> nbformat.NotebookNode:
    """Return the notebook with new outputs; raises CellExecutionError where a cell fails."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    about = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, kernel_name="python3", timeout=600, record_timing=False, resources=about).execute()
    notebook.metadata["language_info"] = {"name": "python"}  # the version of whoever ran it would change every time
    return notebook


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)
