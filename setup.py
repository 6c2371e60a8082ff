"""What pyproject.toml cannot say: a wheel carries the notebooks and the assets, inside the package.

    make wheel      dist/vlmcourse-VERSION-py3-none-any.whl

`vlmcourse.data.assets.course_folder` finds them there. An editable install takes those of the repository.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CARRIED = "vlmcourse/carried"  # vlmcourse.data.assets.IN_WHEEL
WHAT = ["notebooks/[0-9][0-9]_*.ipynb", "notebooks/ja/[0-9][0-9]_*.ipynb", "notebooks/INDEX.md"]
WHAT += ["assets/checkpoints/*", "assets/examples/*", "assets/figures/*"]


def is_carried(file: Path) -> bool:
    """Whether a file is the course's: not a folder, what a system or Jupyter leaves, or half written."""
    return file.is_file() and not file.name.startswith(".") and file.suffix != ".writing"


class BuildCourse(build_py):
    """The modules of the package, and beside them what the course ships."""

    def run(self) -> None:
        if self.editable_mode:
            return super().run()
        shutil.rmtree(Path(self.build_lib) / "vlmcourse", ignore_errors=True)  # of an earlier build
        super().run()
        for pattern in WHAT:
            files = [file for file in sorted(ROOT.glob(pattern)) if is_carried(file)]
            if not files and "/ja/" not in pattern:
                raise SystemExit(f"there is no {pattern}: a wheel is built in the course's repository only")
            for file in files:
                copy = Path(self.build_lib) / CARRIED / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)


setup(cmdclass={"build_py": BuildCourse})
