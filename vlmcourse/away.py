"""A notebook that was opened away from the course's repository: on Colab, on Kaggle, or beside a wheel.

The first code cell of every notebook brings this package, alone; ``set_up`` then brings what the course
needs and the session lacks. A session's own torch, numpy, ipywidgets and the like stay as they are: another
version of them would need a restart that nobody notices. In the repository nothing happens.

    python -m vlmcourse.away       what set_up() would install, a line each

Only the standard library is needed here, and pip, without which nothing comes.
"""

import fnmatch
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path

from vlmcourse.data.assets import from_a_wheel

try:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version
except ImportError:  # pip brings its own
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.specifiers import SpecifierSet
    from pip._vendor.packaging.utils import canonicalize_name
    from pip._vendor.packaging.version import InvalidVersion, Version

UNTOUCHED = (
    "torch",
    "torchvision",
    "torchaudio",
    "triton",
    "numpy",
    "pandas",
    "pillow",
    "nvidia-*",
    "cuda-*",
)
UNTOUCHED += ("ipython", "ipywidgets", "ipykernel", "traitlets", "google-colab", "jupyterlab", "notebook")
TESTED = ((3, 11), (3, 12), (3, 13))  # 3.12 and 3.13 with chapters from the wheel
BESIDE = (".", "/content")  # where a wheel of the course is put by hand
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps")


_awaited: set[str] = set()  # packages that came, and what they need in turn has not
_told: set[str] = set()


def is_the_sessions(name: str) -> bool:
    """Whether a package is the session's own and never installed here, missing or not."""
    return any(fnmatch.fnmatch(canonicalize_name(name), pattern) for pattern in UNTOUCHED)


def unmet(installed: Mapping[str, str], wanted: Iterable[str]) -> list[Requirement]:
    """Those of the wanted requirements that the installed versions do not meet.

    Args:
        installed: name of a package -> its version.
        wanted: requirements as a package's metadata give them; those of extras do not count.
    """
    installed = {canonicalize_name(name): version for name, version in installed.items()}
    asked = [Requirement(text) for text in wanted]
    asked = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    versions = [installed.get(canonicalize_name(one.name)) for one in asked]
    return [
        one
        for one, version in zip(asked, versions, strict=True)
        if version is None or not version_meets(version, one.specifier)
    ]


def version_meets(version: str, wanted: SpecifierSet) -> bool:
    """Whether a version is a wanted one; one that nobody can read, of a build by hand, is not."""
    try:
        return wanted.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def to_install(installed: Mapping[str, str], wanted: Iterable[str]) -> list[str]:
    """A dry run: what pip would be asked to install, without its dependencies.

    peft 0.19 and later cannot be imported beside a torchao before 0.16, so an old one is renewed.
    """
    missing = [one for one in unmet(installed, wanted) if not is_the_sessions(one.name)]
    chosen = [f"{one.name}{one.specifier}" for one in missing]
    versions = {canonicalize_name(name): version for name, version in installed.items()}
    peft = "0.19" if any(one.name == "peft" for one in missing) else versions.get("peft", "0")
    torchao = versions.get("torchao", "0.16")
    if version_meets(peft, SpecifierSet(">=0.19")) and not version_meets(torchao, SpecifierSet(">=0.16")):
        chosen.append("torchao>=0.16")
    return chosen


def warnings_for(installed: Mapping[str, str], wanted: Iterable[str], python: tuple[int, int]) -> list[str]:
    """Sentences on what set_up() does not mend: an untested Python, and what the session should have."""
    found = []
    if python not in TESTED:
        tested = ", ".join(f"{major}.{minor}" for major, minor in TESTED)
        found.append(f"This is Python {python[0]}.{python[1]}; the course was tested with {tested} only.")
    versions = {canonicalize_name(name): version for name, version in installed.items()}
    for one in unmet(installed, wanted):
        if is_the_sessions(one.name) and one.name != "jupyterlab":  # a notebook is open already
            has = versions.get(canonicalize_name(one.name), "none")
            found.append(f"This session has {one.name} {has}, the course needs {one.name}{one.specifier}.")
    return found


def versions_of(wanted: Iterable[str]) -> dict[str, str]:
    """The installed versions of the packages that requirements name, and of peft and torchao."""
    found = {}
    for name in {"peft", "torchao", *map(name_of, wanted)}:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {name: version for name, version in found.items() if version}  # none: half of it was removed


def name_of(requirement: str) -> str:
    """The package that a requirement is about."""
    return Requirement(requirement).name


def set_up(install: Callable[[list[str]], None] | None = None) -> None:
    """Install what the course needs and this session lacks, and what that needs; say what was installed.

    Nothing happens in the course's repository, nor a second time. What the session should have, and a wheel
    of a newer course beside the notebook, are told once.

    Args:
        install: takes requirements; pip without it.

    Raises:
        RuntimeError: if something cannot be installed. What came before it stays; the next call goes on.
    """
    if not from_a_wheel():
        return
    own = metadata.requires("vlmcourse") or []
    told = warnings_for(versions_of(own), own, sys.version_info[:2])
    told += newer_wheel(metadata.version("vlmcourse"), BESIDE)
    brought, before = bring(own, install or by_pip)
    if brought:
        print("Installed:", ", ".join(f"{name} {version}" for name, version in brought.items()))
    for sentence in dict.fromkeys(told):
        if sentence not in _told:
            print(sentence)
    _told.update(told)
    if loaded := [name for name in brought if name in before and name.replace("-", "_") in sys.modules]:
        print(f"Restart the session now: older versions of {', '.join(loaded)} are in use.")


def bring(
    wanted: Iterable[str], install: Callable[[list[str]], None]
) -> tuple[dict[str, str], dict[str, str]]:
    """Install what is wanted and missing, then what that needs, and so on: versions of it now, and before."""
    wanted, brought, before = [*wanted, *needs_of(sorted(_awaited))], {}, {}
    while needed := [one for one in to_install(versions_of(wanted), wanted) if name_of(one) not in brought]:
        names = [name_of(one) for one in needed]
        before |= versions_of(needed)
        install(needed)
        importlib.invalidate_caches()
        _awaited.update(names)
        brought |= {name: metadata.version(name) for name in names}
        wanted = needs_of(names)
    _awaited.clear()
    return brought, before


def needs_of(names: Iterable[str]) -> list[str]:
    """The requirements of some installed packages."""
    return [text for name in names for text in metadata.requires(name) or []]


def newer_wheel(installed: str, folders: Iterable[str]) -> list[str]:
    """What to say of a wheel that lies there and is newer than the course in use; nothing without one."""
    newest, path = Version(installed), None
    for folder in folders:
        for wheel in Path(folder).glob("vlmcourse-*any.whl"):
            try:
                version = Version(wheel.name.split("-")[1])
            except InvalidVersion:
                continue
            if version > newest:
                newest, path = version, wheel.absolute()
    take = f'To take it: %pip install --no-deps "{path}", then restart the session.'
    return [f"{path.name} is newer than the course in use, {installed}. {take}"] if path else []


def by_pip(requirements: list[str]) -> None:
    """Install them without their dependencies.

    Raises:
        RuntimeError: with pip's words, if it cannot.
    """
    done = subprocess.run([*PIP, *requirements], capture_output=True, text=True)
    if done.returncode:
        hint = "Does this session have a network (on Kaggle: Settings > Internet)?"
        if "No module named pip" in done.stderr:
            hint = f"This Python has no pip; `{sys.executable} -m ensurepip` brings it."
        raise RuntimeError(f"pip could not install {', '.join(requirements)}. {hint}\n{done.stderr.strip()}")


if __name__ == "__main__":
    needs = metadata.requires("vlmcourse") or []
    print(*to_install(versions_of(needs), needs), sep="\n")
