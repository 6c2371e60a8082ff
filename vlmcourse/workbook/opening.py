"""The folder in which a learner opens the course: the repository, or what a wheel carries, copied out."""

import shutil
from pathlib import Path

from vlmcourse.data.assets import FIRST, LEARNERS, course_folder, from_a_wheel, workspace, written_beside

HANDED_OUT = ("notebooks", "assets/figures", "assets/examples")


def opened_folder() -> Path:
    """Where the notebooks to open are: in the repository; from a wheel in the learner's folder.

    That is the workspace, if it has notebooks already, or else the folder vlm-workbook in it. Copied there is
    what is missing; what is there is the learner's, and stays.

    Raises:
        OSError: if it cannot be written there.
    """
    if not from_a_wheel():
        return course_folder()
    home = workspace()
    folder = home if (home / FIRST).is_file() else home / LEARNERS
    for part in HANDED_OUT:
        for file in sorted((course_folder() / part).rglob("*")):
            copy = folder / file.relative_to(course_folder())
            if file.is_file() and not copy.exists():
                try:
                    with written_beside(copy) as draft:
                        shutil.copyfile(file, draft)
                except OSError as error:
                    start = "start `vlmcourse lab` in a folder of your own, with 50 MB free"
                    raise OSError(f"{copy} cannot be written ({error.strerror}); {start}") from error
    return folder
