"""examples/tour.ipynb is kept without outputs, and runs from its top to its end."""

from __future__ import annotations

import copy
import os
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.docs.pages import DOCS

ROOT = DOCS.parent
TOUR = nbformat.read(ROOT / "examples" / "tour.ipynb", as_version=4)


def run(notebook, folder, monkeypatch):
    """The notebook after a run in this folder; it finds this checkout, and a kernel of this Python."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    client = NotebookClient(copy.deepcopy(notebook), timeout=600, resources={"metadata": {"path": str(folder)}})
    client.create_kernel_manager()
    client.km.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    return client.execute()


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_valid_and_kept_without_outputs():
    nbformat.validate(TOUR)
    assert len(code(TOUR)) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in code(TOUR))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """By the last line of a cell, what the cell put out."""
    with pytest.MonkeyPatch.context() as patch:
        ran = run(TOUR, tmp_path_factory.mktemp("tour"), patch)
    return {cell.source.splitlines()[-1]: cell.outputs for cell in code(ran)}, [cell.outputs for cell in code(ran)]


def printed(found):
    return "".join(output.get("text", "") for output in found)


def test_it_ends_in_the_verdicts_that_it_tells_of(outputs):
    lines = [printed(found) for found in outputs[1] if printed(found)]
    assert len(lines) == 3
    assert lines[0].startswith("differs in formula at step 0, update")
    assert "weight_decay 0.0001" in lines[0]
    assert lines[1].startswith("match: float64 to ")
    assert lines[2].startswith("match: same formula in float64")


def test_it_draws(outputs):
    assert any("image/png" in output.get("data", {}) for output in outputs[0]["plt.show()"])


def test_nothing_is_said_on_the_error_stream(outputs):
    assert not [output.text for found in outputs[1] for output in found if output.get("name") == "stderr"]


@pytest.mark.parametrize("last", ["report", "result.report"])
def test_reports_render(outputs, last):
    assert any("text/html" in output.get("data", {}) for output in outputs[0][last])


def test_a_cell_that_fails_fails_the_run(tmp_path, monkeypatch):
    broken = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import parity\nassert not parity")])
    with pytest.raises(CellExecutionError, match="AssertionError"):
        run(broken, tmp_path, monkeypatch)
