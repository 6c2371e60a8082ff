"""A lock file names the release of everything that the course needs."""

import subprocess
from importlib.metadata import version

import lock
import pytest
from packaging.requirements import Requirement

from tests.test_project import PROJECT, ROOT


def locked() -> dict[str, Requirement]:
    lines = [line for line in lock.lock_text().splitlines() if not line.startswith("#")]
    found = [Requirement(line) for line in lines]
    return {requirement.name: requirement for requirement in found}


def test_each_requirement_is_locked_to_the_release_that_is_installed():
    lines = locked()
    for text in PROJECT["dependencies"]:
        wanted = Requirement(text)
        name = lock.canonicalize_name(wanted.name)
        (pin,) = lines[name].specifier
        assert pin.operator == "==" and wanted.specifier.contains(pin.version)
        assert version(wanted.name).split("+")[0] == pin.version


def test_what_they_need_in_turn_is_locked_and_nothing_else():
    lines = locked()
    assert {"jinja2", "sympy", "huggingface-hub", "tornado"} <= set(lines)
    assert not {"vlmcourse", "pytest", "nbval", "ruff"} & set(lines)  # not what only its tests need
    assert not [name for name in lines if name.startswith(("nvidia", "triton"))]
    assert list(lines) == sorted(lines)


@pytest.mark.parametrize("release", ["2.13.0", "2.13.0rc1", "2.13.0.post2"])
def test_a_release_for_one_device_is_locked_without_the_device(monkeypatch, release):
    class Installed:
        version, requires = f"{release}+cpu", None

    monkeypatch.setattr(lock, "distribution", lambda name: Installed)
    monkeypatch.setattr(Installed, "requires", ["torch>=2"], raising=False)
    assert lock.needed("something") == {"torch": release}


def test_extras_and_systems_decide_what_is_needed(monkeypatch):
    needs = {
        "course": ["tool[fast]>=1", "other; sys_platform == 'nowhere'"],
        "tool": ["speedup; extra == 'fast'", "toy; extra == 'play'"],
        "speedup": None,
    }
    monkeypatch.setattr(
        lock, "distribution", lambda name: type("D", (), {"version": "1.0", "requires": needs[name]})
    )
    assert lock.needed("course") == {"tool": "1.0", "speedup": "1.0"}


def test_packages_that_need_each_other_are_read_once(monkeypatch):
    needs = {"course": ["tool[fast]", "tool[fast]; extra == 'all'"], "tool": ["course[all]", "tool[fast]"]}
    read = []

    def distribution(name):
        read.append(name)
        assert len(read) <= 3, "it goes round and round"
        return type("D", (), {"version": "1.0", "requires": needs[name]})

    monkeypatch.setattr(lock, "distribution", distribution)
    assert lock.needed("course") == {"tool": "1.0"}
    assert sorted(read) == ["course", "course", "tool"]  # course once more with its extra


def test_pip_takes_the_file_as_constraints(tmp_path):
    path = tmp_path / "lock.txt"
    path.write_text(lock.lock_text())
    line = f"make -n .venv/installed LOCK={path} CPU=1"
    told = subprocess.run(line.split(), cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"--constraint {path}" in told and "--extra-index-url" in told
    plain = subprocess.run(["make", "-n", ".venv/installed", "-B"], cwd=ROOT, capture_output=True, text=True)
    assert "--constraint" not in plain.stdout and "--extra-index-url" not in plain.stdout


def test_a_lock_that_is_not_there_is_named(tmp_path):
    told = subprocess.run(
        ["make", "-n", "lab", f"LOCK={tmp_path / 'none.txt'}"], cwd=ROOT, capture_output=True, text=True
    )
    assert told.returncode and "none.txt" in told.stderr


def test_without_the_course_installed_it_says_what_to_run(monkeypatch, tmp_path):
    def absent(name):
        raise lock.PackageNotFoundError(name)

    monkeypatch.setattr(lock, "distribution", absent)
    monkeypatch.setattr("sys.argv", ["lock.py", str(tmp_path / "lock.txt")])
    with pytest.raises(SystemExit, match="run `make lab` once"):
        lock.main()
    assert not (tmp_path / "lock.txt").exists()


def test_only_a_lock_file_is_written_over(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock, "needed", lambda: {"a": "1.0"})

    def main(*arguments):
        monkeypatch.setattr("sys.argv", ["lock.py", *arguments])
        lock.main()

    main()
    main("lock.txt")
    assert (tmp_path / "lock.txt").read_text().endswith("\na==1.0\n")
    (tmp_path / "requirements.txt").write_text("mine")
    for name, says in (("requirements.txt", "no lock file"), (".", "no lock file"),
                       ("gone/lock.txt", "cannot be written")):  # fmt: skip
        with pytest.raises(SystemExit, match=says):
            main(name)
    for wrong in (["--help"], ["a", "b"]):
        with pytest.raises(SystemExit):
            main(*wrong)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock.txt", "requirements.txt"]
    assert (tmp_path / "requirements.txt").read_text() == "mine"
    told = capsys.readouterr().out
    assert "where to" in told and "lock.txt: 1 packages\n" in told
