"""Keep what a learner passes and trains on Google Drive, or in another folder that outlasts the session."""

import os
from pathlib import Path

from vlmcourse.data.keeping import KEEP, Back, keep_answers, keep_folder, restore
from vlmcourse.workbook import engine
from vlmcourse.workbook.card import Card

MOUNTED = Path("/content/drive")
DRIVE_FOLDER = MOUNTED / "MyDrive" / "vlm-workbook"


def keep_on_drive(folder: str | Path | None = None) -> None:
    """From here on, copy each passed exercise and each training's checkpoints; bring back what was copied.

    Args:
        folder: where to; without it vlm-workbook on the Google Drive of whoever is signed in to Colab, which
            asks for leave. See data/keeping.py for what is copied, when, and how it is checked.

    Raises:
        ValueError: without a folder, where there is no Colab.
        OSError: if the folder cannot be made.
    """
    place = Path(folder).expanduser() if folder else _google_drive()
    place.mkdir(parents=True, exist_ok=True)
    os.environ[KEEP] = str(place.absolute())
    lines = brought_back()
    engine.reinstall()
    keep_answers()
    Card("plain", engine.tell("kept", place=place), lines).show()


def brought_back() -> list[str]:
    """Bring back what is missing, also from a drive that is mounted already; say what."""
    if keep_folder() is None and DRIVE_FOLDER.is_dir():
        os.environ[KEEP] = str(DRIVE_FOLDER)
    if keep_folder() is None:
        return [engine.tell("not_kept")] if "COLAB_RELEASE_TAG" in os.environ else []
    try:
        back: Back = restore()
    except OSError as error:
        return [engine.tell("not_brought_back", place=keep_folder(), error=error)]
    lines = [engine.tell("brought_back", count=len(back.files), place=keep_folder())] if back.files else []
    return lines + [engine.tell("damaged_copy", name=name) for name in back.damaged]


def _google_drive() -> Path:
    try:
        from google.colab import drive
    except ImportError:
        raise ValueError("this is not Colab; name a folder: keep_on_drive('FOLDER')") from None
    drive.mount(str(MOUNTED))
    return DRIVE_FOLDER
