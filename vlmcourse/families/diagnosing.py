"""Diagnose a model by its name, or a run by its folder: what ``vlmcourse diagnose`` prints."""

from pathlib import Path

import numpy as np

from vlmcourse.data.records import MOST_SKIPPED
from vlmcourse.data.text import IMAGE_WORD
from vlmcourse.diagnostics.audit import Checked
from vlmcourse.diagnostics.checkup import Exam, diagnose, loss_checks
from vlmcourse.families.making import load_speaker
from vlmcourse.families.mine import MINE
from vlmcourse.families.report_card import picture_side, question_rows
from vlmcourse.speak import Speaker
from vlmcourse.training.checkpoints import list_checkpoints, load_checkpoint, newest_checkpoint


def diagnose_named(
    name: str, data: str | Path | None = None, most_skipped: float = MOST_SKIPPED
) -> list[Checked]:
    """Every check of a model or a run.

    Args:
        name: of a shipped model; "my_vlm", the model of the learner's plan; of a file that ``vlmcourse
            train`` wrote, ending in .safetensors; or of the folder of a run, runs/NAME: its losses, stage by
            stage, and the model beside it if it is done.
        data: a folder of own pictures to ask about; the course's scenes if not given.
        most_skipped: share of its rows that may be left out.

    Raises:
        FileNotFoundError, CheckpointError, ValueError: see making.load_speaker; or if a folder holds no run.
    """
    folder = Path(name)
    if name == MINE or not folder.is_dir():  # the learner's folder has that name, and holds no run
        return _asked(load_speaker(name)[0], data, most_skipped)
    found = []
    for place in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        if list_checkpoints(place):
            stage = "" if place == folder else f"{place.name}, "
            losses = load_checkpoint(newest_checkpoint(place))[1]["history"]["losses"]
            found += [one._replace(name=stage + one.name) for one in loss_checks(losses)]
    done = folder.with_name(f"{folder.name}.safetensors")
    if not found and not done.is_file():
        raise ValueError(f"{folder} holds no run; name the folder below which vlmcourse train put step-...")
    return found + (_asked(load_speaker(str(done))[0], data, most_skipped) if done.is_file() else [])


def _asked(speaker: Speaker, data: str | Path | None, most_skipped: float) -> list[Checked]:
    """The checks of a model, asked about scenes or about a folder of pictures."""
    return diagnose(speaker, own_exam(data, speaker, most_skipped) if data else None)


def own_exam(
    folder: str | Path, speaker: Speaker, most_skipped: float = MOST_SKIPPED, count: int = 64
) -> Exam:
    """What a folder asks in one turn, of its test file if there is one; evenly spread over its rows.

    Args:
        count: at most so many questions.

    Raises:
        ValueError: if the folder cannot be read, or asks about fewer than two pictures.
    """
    records = question_rows(folder, most_skipped=most_skipped)[0]
    places = np.linspace(0, len(records) - 1, min(count, len(records))).astype(int)
    chosen, side = [records[place] for place in places], picture_side(speaker)
    images = np.stack([record.load(side) for record in chosen])
    asked = [record.turns[0][1].replace(IMAGE_WORD, "") for record in chosen]
    return Exam(images, asked, [record.turns[1][1] for record in chosen])
