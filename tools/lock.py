"""Write which versions are installed, so that a class installs the same ones.

    make lock                     lock.txt: what the course needs, as it is installed in .venv
    make lab LOCK=lock.txt        installs these versions

Each line is a constraint of pip: it holds on Linux, macOS and Windows, with a GPU or without, and what a
system does not need is not installed. torch itself pins the GPU libraries it brings: they are left out.
"""

import argparse
import platform
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

COURSE = "vlmcourse"
MARK = "# Written by `make lock`"
BROUGHT_BY_TORCH = ("nvidia-", "cuda-", "triton")


def needed(root: str = COURSE) -> dict[str, str]:
    """Everything that a package needs on this system, directly or not: name -> version, without itself.

    Versions stand without a local part: 2.13.0+cpu and 2.13.0 are the same release for another device.

    Raises:
        PackageNotFoundError: if the package, or something it needs, is not installed.
    """
    found: dict[str, str] = {}
    waiting = [Requirement(root)]
    seen = set()
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), tuple(sorted(wanted.extras))
        if (name, extras) in seen or name.startswith(BROUGHT_BY_TORCH):
            continue
        seen.add((name, extras))
        here = distribution(name)
        found[name] = Version(here.version).public
        for line in here.requires or []:
            further = Requirement(line)
            if any(applies(further, extra) for extra in ("", *extras)):
                waiting.append(further)
    found.pop(canonicalize_name(root))
    return dict(sorted(found.items()))


def applies(requirement: Requirement, extra: str) -> bool:
    """Whether a requirement holds on this system, where an extra of its package is asked for."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def lock_text() -> str:
    """The lock file: a head that says where it was made, and a line for each package."""
    system = f"Python {platform.python_version()} on {platform.system()}"
    head = f"{MARK} with {system}; `make lab LOCK=lock.txt` installs these versions.\n"
    return head + "".join(f"{name}=={version}\n" for name, version in needed().items())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", nargs="?", type=Path, default=Path("lock.txt"), help="where to; lock.txt")
    path = parser.parse_args().path
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(MARK.encode())):
        sys.exit(f"{path} is there and is no lock file; name another, or move it away")
    try:
        text = lock_text()
    except PackageNotFoundError as error:
        sys.exit(f"{error.name} is not installed; run `make lab` once, then `make lock`")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        sys.exit(f"{path} cannot be written: {error.strerror}")
    print(f"{path}: {text.count('==')} packages")


if __name__ == "__main__":
    main()
