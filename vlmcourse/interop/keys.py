"""Key maps: whose weight is whose, between a library's state dict and ours (notebook 17).

    fuse     their weights under our names; several of theirs are put on top of each other
    unfuse   the way back: our weights under their names, cut apart where they keep several

A key map names every parameter once:  our name -> the name, or names, of theirs it is made of.

    {"project_in.weight": ("q_proj.weight", "k_proj.weight", "v_proj.weight"), "down.weight":
    ("mlp.down.weight",)}
"""

from torch import Tensor, cat

from vlmcourse.slots import slot

Names = dict[str, tuple[str, ...]]


@slot
def fuse(state: dict[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Our state dict from theirs, in the order of ``names``.

    Several of their weights become one of ours along the first axis: rows of a linear layer's matrix are its
    outputs, so q, k and v in one product give q, k and v side by side.

    Raises:
        KeyError: if a name of theirs is missing, or a weight of theirs belongs to no name; nothing is passed
            over.
    """
    wanted = {key for keys in names.values() for key in keys}
    if wanted != state.keys():
        raise KeyError(
            f"missing: {sorted(wanted - state.keys())}, unexpected: {sorted(state.keys() - wanted)}"
        )
    parts = {ours: [state[key] for key in keys] for ours, keys in names.items()}
    return {ours: cat(several) if len(several) > 1 else several[0] for ours, several in parts.items()}


@slot
def unfuse(state: dict[str, Tensor], names: Names, rows: dict[str, int]) -> dict[str, Tensor]:
    """Their state dict from ours, in the order of ``names``: fuse backwards.

    Args:
        rows: how long each of their weights is along its first axis. Query and key need not be alike: with
            grouped queries, SmolLM2's have 576 and 192 rows.
    """
    theirs = {}
    for ours, keys in names.items():
        theirs |= zip(keys, state[ours].split([rows[key] for key in keys]), strict=True)
    return theirs
