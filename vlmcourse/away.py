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

from vlmcourse.data.assets import from_a_wheel

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import Version
except ImportError:  # pip brings its own
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name
    from pip._vendor.packaging.version import Version

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
TESTED = ((3, 11),)  # versions of Python with which the course's tests were run
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps")


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
        if version is None or not one.specifier.contains(version, prereleases=True)
    ]


def to_install(installed: Mapping[str, str], wanted: Iterable[str]) -> list[str]:
    """A dry run: what pip would be asked to install, without its dependencies.

    peft 0.19 and later cannot be imported beside a torchao before 0.16, so an old one is renewed.
    """
    missing = [one for one in unmet(installed, wanted) if not is_the_sessions(one.name)]
    chosen = [f"{one.name}{one.specifier}" for one in missing]
    versions = {canonicalize_name(name): version for name, version in installed.items()}
    peft = "0.19" if any(one.name == "peft" for one in missing) else versions.get("peft", "0")
    if Version(peft) >= Version("0.19") and Version(versions.get("torchao", "0.16")) < Version("0.16"):
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
    return found


def name_of(requirement: str) -> str:
    """The package that a requirement is about."""
    return Requirement(requirement).name


def set_up(install: Callable[[list[str]], None] | None = None) -> None:
    """Install what the course needs and this session lacks, and what that needs; say what was installed.

    Nothing happens in the course's repository, nor a second time.

    Args:
        install: takes requirements; pip without it.

    Raises:
        RuntimeError: if something cannot be installed; nothing else is changed then.
    """
    if not from_a_wheel():
        return
    wanted, brought = metadata.requires("vlmcourse") or [], {}
    before, python = versions_of(wanted), sys.version_info[:2]
    complaints = warnings_for(before, wanted, python)
    while needed := [one for one in to_install(versions_of(wanted), wanted) if name_of(one) not in brought]:
        (install or by_pip)(needed)
        importlib.invalidate_caches()
        names = [name_of(one) for one in needed]
        brought |= {name: metadata.version(name) for name in names}
        wanted = [text for name in names for text in metadata.requires(name) or []]
    if brought:
        print("Installed:", ", ".join(f"{name} {version}" for name, version in brought.items()))
        print(*complaints, sep="\n", end="\n" if complaints else "")
    if loaded := [name for name in brought if name in before and name.replace("-", "_") in sys.modules]:
        print(f"Restart the session now: older versions of {', '.join(loaded)} are in use.")


def by_pip(requirements: list[str]) -> None:
    """Install them without their dependencies.

    Raises:
        RuntimeError: with pip's words, if it cannot.
    """
    done = subprocess.run([*PIP, *requirements], capture_output=True, text=True)
    if done.returncode:
        hint = "Does this session have a network (on Kaggle: Settings > Internet)?"
        raise RuntimeError(f"pip could not install {', '.join(requirements)}. {hint}\n{done.stderr.strip()}")


if __name__ == "__main__":
    needs = metadata.requires("vlmcourse") or []
    print(*to_install(versions_of(needs), needs), sep="\n")
