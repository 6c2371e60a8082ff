"""From a wheel, the course is copied to where the learner works; nothing that is there is replaced."""

import pytest

from vlmcourse.workbook import opening


@pytest.fixture
def carried(tmp_path, monkeypatch):
    """What a wheel carries, and the learner's folder."""
    wheel, home = tmp_path / "wheel", tmp_path / "home"
    for place in ("notebooks/00_start_here.ipynb", "notebooks/ja/00_start_here.ipynb", "assets/figures/a.svg",
                  "assets/examples/b.png", "assets/checkpoints/big.safetensors"):  # fmt: skip
        (wheel / place).parent.mkdir(parents=True, exist_ok=True)
        (wheel / place).write_text(f"of the wheel: {place}")
    home.mkdir()
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(home))
    monkeypatch.setattr(opening, "from_a_wheel", lambda: True)
    monkeypatch.setattr(opening, "course_folder", lambda: wheel)
    return wheel, home


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_what_is_handed_out_comes_once_and_what_is_there_stays(carried):
    wheel, home = carried
    folder = opening.opened_folder()
    assert folder == home / "vlm-workbook"
    wanted = [place for place in files(wheel) if "checkpoints" not in place]
    assert files(folder) == wanted
    (folder / "notebooks" / "00_start_here.ipynb").write_text("mine")
    (folder / "assets" / "figures" / "a.svg").unlink()
    assert opening.opened_folder() == folder and files(folder) == wanted
    assert (folder / "notebooks" / "00_start_here.ipynb").read_text() == "mine"


def test_a_workspace_with_notebooks_is_the_folder(carried):
    _, home = carried
    (home / "notebooks").mkdir()
    (home / "notebooks" / "00_start_here.ipynb").write_text("mine")
    assert opening.opened_folder() == home
    assert (home / "notebooks" / "00_start_here.ipynb").read_text() == "mine"
    assert (home / "assets" / "figures" / "a.svg").is_file() and not (home / "vlm-workbook").exists()


def test_in_the_repository_nothing_is_copied(carried, monkeypatch):
    wheel, home = carried
    monkeypatch.setattr(opening, "from_a_wheel", lambda: False)
    assert opening.opened_folder() == wheel and files(home) == []


def test_where_nothing_can_be_written_it_says_what_to_do(carried):
    _, home = carried
    (home / "vlm-workbook").write_text("mine")
    with pytest.raises(OSError, match=r"vlm-workbook.* cannot be written \(.+\); start `vlmcourse lab` in a"):
        opening.opened_folder()
    assert (home / "vlm-workbook").read_text() == "mine"
