"""The memory ledger's parts of any model of the course, read off its layers (notebook 15).

    parts_of_model   one Part for each part of the model: its blocks, and whatever else it holds

memory.parts_of counts a LLaVA exactly. This counts at most: what lies beside the blocks, such as a cross
attention's keys, is counted for every token of the part, and so is what is computed for a few of them only.
"""

from collections.abc import Mapping

from torch import nn

from vlmcourse.models.attention import Attention
from vlmcourse.models.vlm import VLM
from vlmcourse.training.memory import LANGUAGE, Part

WIDENING = ("expand", "up")  # how the layer into the MLP is called
STANDARD = ("project_in", "project_out", "expand", "contract", "gate", "up", "down")


def parts_of_model(
    model: nn.Module, tokens: int, predicted: int, seen: Mapping[str, int] | None = None
) -> list[Part]:
    """The parts of a model, which may stand on the device "meta", from the pixels to the words.

    Args:
        model: its language model is its child ``language``, if it has one, and its image encoder ``vision``.
        tokens: of a row of text, image tokens included, for all parts but the image encoder.
        predicted: how many of them the head scores.
        seen: names of parts that read another number of tokens; 0 for one that does not run. Those that are
            not named read a row, but for the image encoder, which reads its patches and a class token, and
            the projector of a VLM: its image tokens, or all patches if they are more. One image a row.
    """
    read = {}
    if hasattr(model, "vision"):
        rows, columns = model.vision.config.grid
        read["vision"] = rows * columns + 1
    if isinstance(model, VLM):
        read["projector"] = max(model.tokens_per_image, read["vision"])
    seen = read | dict(seen or {})
    children = {
        name: child for name, child in model.named_children() if any(True for _ in child.parameters())
    }
    if "blocks" in children:  # a language model by itself
        children = {LANGUAGE: model}
    last = [name for name in children if name == "language"]
    order = [name for name in children if name not in last] + last
    parts = [_part(name, children[name], seen.get(name, tokens)) for name in order]
    vocabulary = _vocabulary(model)
    parts[-1] = _with(parts[-1], vocabulary=vocabulary, predicted=predicted if vocabulary else 0)
    return parts


def _with(part: Part, **changes: int) -> Part:
    return Part(**vars(part) | changes)


def _part(name: str, module: nn.Module, tokens: int) -> Part:
    """Blocks are what has an ``attention``; they are alike but for a cross attention that some have."""
    numbers = sum(weight.numel() for weight in module.parameters())
    blocks = [block for block in module.modules() if isinstance(getattr(block, "attention", None), Attention)]
    inside = {id(layer) for block in blocks for layer in _standard(block)}
    head = getattr(module, "head", None)
    beside = [layer for layer in module.modules()
              if isinstance(layer, nn.Linear) and id(layer) not in inside and layer is not head]  # fmt: skip
    kept = tokens * sum(layer.in_features + layer.out_features for layer in beside)
    if not blocks:
        return Part(name, numbers, tokens=tokens, kept=kept)
    first = blocks[0]
    attention, layers = first.attention, dict(first.named_modules())
    widening = next(layer for path, layer in layers.items() if path.rpartition(".")[2] in WIDENING)
    gated = any(path.rpartition(".")[2] == "gate" and layer is not None for path, layer in layers.items())
    share = attention.groups * attention.part / widening.in_features
    sizes = widening.in_features, len(blocks), widening.out_features, attention.heads, share, gated
    return Part(name, numbers, *sizes, tokens, kept)


def _standard(block: nn.Module) -> list[nn.Module]:
    """The layers that memory.block_numbers counts: of the first attention, and of one MLP."""
    others = {id(layer) for path, cross in block.named_modules()
              if isinstance(cross, Attention) and cross is not block.attention
              for layer in cross.modules()}  # fmt: skip
    return [layer for path, layer in block.named_modules()
            if isinstance(layer, nn.Linear) and path.rpartition(".")[2] in STANDARD
            and id(layer) not in others]  # fmt: skip


def _vocabulary(model: nn.Module) -> int:
    """How many words the head scores; 0 for a model that does not write."""
    head = getattr(model, "head", None)
    for layer in [] if head is None else reversed([*head.modules()]):
        if isinstance(layer, nn.Linear):
            return layer.out_features
    return 0
