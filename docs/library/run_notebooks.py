"""Run the notebooks of this folder and store their output: `python docs/library/run_notebooks.py [--check]`.

With --check nothing is written: the script lists the cells whose output differs from the stored output, and exits with
1. Notebooks on real data read $IRT_SHARED/data. If the folder does not exist, they are skipped with a message.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).with_name("notebooks")
TEXT = ("text/plain", "text/html", "image/svg+xml")
PLACE = re.compile(r"^\S+\.py:\d+: (?=\w+Warning: )|\n  \S.*\Z", re.MULTILINE)
"""Location of a warning: file and line, and the code of that line."""
COMPILING = re.compile(r"^irt_psychometrics: compiling .*\n", re.MULTILINE)
"""Message of the first run on a computer."""
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def main(arguments: list[str]) -> int:
    check, changed = "--check" in arguments, []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if any("IRT_SHARED" in cell.source for cell in notebook.cells) and "IRT_SHARED" not in os.environ:
            print(f"{path.name}: skipped, because IRT_SHARED names no folder with its data")
            continue
        fresh = nbformat.from_dict(notebook)
        NotebookClient(fresh, timeout=600, kernel_name="python3", resources={"metadata": {"path": NOTEBOOKS}}).execute()
        fresh = without_traces(fresh)
        if check:
            cells = zip(notebook.cells, fresh.cells, strict=True)
            changed += [f"{path.name}, cell {k}" for k, (old, new) in enumerate(cells) if outputs(old) != outputs(new)]
        else:
            nbformat.write(fresh, path)
    print("\n".join(f"{cell}: run this file without --check and review the changes" for cell in changed))
    return 1 if changed else 0


def outputs(cell: Any) -> list[str]:
    """The text that a cell prints and displays."""
    texts = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        texts += [output.get("text", ""), *(data[kind] for kind in TEXT if kind in data)]
    return [re.sub(r"\s+\n", "\n", text) for text in texts]


def without_traces(notebook: Any) -> Any:
    """The notebook without the times, versions and paths of this run, so that a second run changes nothing."""
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                text = COMPILING.sub("", output.text).rstrip()
                output.text = PLACE.sub("", text) + "\n" if text else ""
            elif "text" in output:
                output.text = TIME.sub("…", output.text)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("text") != ""]
    return notebook


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
