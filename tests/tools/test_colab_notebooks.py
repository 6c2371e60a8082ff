"""Every chapter alone with the wheel: what runs to its end, what does not, and what is told of it."""

import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook, writes

import tools.colab_notebooks as colab

pytestmark = pytest.mark.slow


def notebook(folder: Path, name: str, *cells: str) -> Path:
    """A notebook whose first cell stands where the course's is brought."""
    made = new_notebook(cells=[new_code_cell(code, id=f"cell-{number}") for number, code in enumerate(cells)])
    made.cells[0]["id"] = "away"
    path = folder / f"{name}.ipynb"
    path.write_text(writes(made), encoding="utf-8")
    return path


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "vlmcourse-0-py3-none-any.whl"
    path.write_bytes(b"")
    return path


def test_a_notebook_that_fails_is_named_and_the_others_run(tmp_path, wheel, capsys):
    alone = "import os\nassert sorted(os.listdir()) == ['{}.ipynb', 'vlmcourse-0-py3-none-any.whl']"
    paths = [
        notebook(tmp_path, "01_good", alone.format("01_good"), "assert os.environ['CI'] == 'true'"),
        notebook(tmp_path, "02_bad", "1", "raise RuntimeError('no such weight')", "2"),
        notebook(tmp_path, "03_good", alone.format("03_good")),
    ]
    assert colab.run_all(paths, wheel, Path(sys.executable)) == ["02_bad"]
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()]
    assert [line.split()[0] for line in lines] == ["01_good", "02_bad", "03_good"]
    assert "bring 0 packages" in lines[0] and "FAILED" in lines[1]


def test_an_error_of_a_cell_is_shown(tmp_path, wheel):
    path = notebook(tmp_path, "02_bad", "1", "raise RuntimeError('no such weight')")
    fine, lines = colab.told(path, wheel, Path(sys.executable), tmp_path / "cache")
    assert not fine and "no such weight" in lines


def test_a_stack_that_is_not_there_fails_every_notebook(tmp_path, wheel, capsys):
    paths = [notebook(tmp_path, name, "1") for name in ("01_one", "02_two")]
    assert colab.run_all(paths, wheel, tmp_path / "no-python", processes=1) == ["01_one", "02_two"]
    assert capsys.readouterr().out.count("FAILED") == 2


def test_a_session_whose_own_packages_were_touched_fails(tmp_path, wheel):
    touch = """\
import sysconfig
from pathlib import Path
place = Path(sysconfig.get_paths()["purelib"]) / "torch-9.dist-info"
place.mkdir()
(place / "METADATA").write_text("Name: torch\\nVersion: 9\\n")"""
    path = notebook(tmp_path, "01_one", touch)
    fine, lines = colab.told(path, wheel, Path(sys.executable), tmp_path / "cache")
    assert not fine and "the session has its own torch" in lines
