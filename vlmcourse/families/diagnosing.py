"""Diagnose a model by its name, or a run by its folder: what ``vlmcourse diagnose`` prints."""

from pathlib import Path

from vlmcourse.diagnostics.audit import Checked
from vlmcourse.diagnostics.checkup import diagnose, loss_checks
from vlmcourse.families.making import load_speaker
from vlmcourse.training.checkpoints import list_checkpoints, load_checkpoint, newest_checkpoint


def diagnose_named(name: str) -> list[Checked]:
    """Every check of a model or a run.

    Args:
        name: of a shipped model; of a file that ``vlmcourse train`` wrote, ending in .safetensors; or of the
            folder of a run, runs/NAME: its losses, stage by stage, and the model beside it if it is done.

    Raises:
        FileNotFoundError, CheckpointError, ValueError: see making.load_speaker; or if a folder holds no run.
    """
    folder = Path(name)
    if not folder.is_dir():
        return diagnose(load_speaker(name)[0])
    found = []
    for place in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        if list_checkpoints(place):
            stage = "" if place == folder else f"{place.name}, "
            losses = load_checkpoint(newest_checkpoint(place))[1]["history"]["losses"]
            found += [one._replace(name=stage + one.name) for one in loss_checks(losses)]
    done = folder.with_name(f"{folder.name}.safetensors")
    if not found and not done.is_file():
        raise ValueError(f"{folder} holds no run; name the folder below which vlmcourse train put step-...")
    return found + (diagnose(load_speaker(str(done))[0]) if done.is_file() else [])
