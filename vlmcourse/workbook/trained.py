"""What one chapter trained and a later one takes up: weights in ``runs/`` of the learner's workspace."""

from pathlib import Path

from torch import nn

from vlmcourse.training.checkpoints import CheckpointError, load_weights, save_weights
from vlmcourse.workbook import engine, portfolio
from vlmcourse.workbook.card import Card


def keep_weights(part: nn.Module, name: str) -> None:
    """Save what you trained as runs/NAME.safetensors, and say so; a later chapter takes it from there."""
    path = _place(name)
    try:
        save_weights(part, path, {"made_by": "keep_weights"})
        Card("plain", engine.tell("weights_kept", path=path)).show()
    except (OSError, CheckpointError) as error:
        Card("note", engine.tell("weights_not_kept", error=error)).show()


def reuse_weights(part: nn.Module, name: str, chapter: str) -> bool:
    """Load your weights into `part`, if there are any that fit; else it stays as it is. Says which it uses.

    Args:
        name: as in keep_weights.
        chapter: where they are trained, for those who have none yet.

    Returns:
        whether they are yours.
    """
    path = _place(name)
    if not path.exists():
        Card("plain", engine.tell("weights_shipped", name=name, chapter=chapter)).show()
        return False
    try:
        load_weights(part, path)
    except CheckpointError as error:
        Card("note", engine.tell("weights_misfit", error=error)).show()
        return False
    Card("plain", engine.tell("weights_taken", name=name, path=path)).show()
    return True


def _place(name: str) -> Path:
    return portfolio.workspace() / "runs" / f"{name}.safetensors"
