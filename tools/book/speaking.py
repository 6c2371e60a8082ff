"""Runs in the kernel: write the small VLM of a playground down for speaker.js, which asks it in the page."""

import base64
from functools import partial
from typing import Any

from vlmcourse.data.text import SPECIAL, load_tokenizer
from vlmcourse.diagnostics.alternatives import look_and_answer
from vlmcourse.models.llava import Llava

MOST_PARAMETERS = 3_000_000  # a page takes 2.7 bytes for each


def speaker_of(playground: Any) -> Llava | None:
    """The model of a playground, if it is one alone, and one that speaker.js can read."""
    if len(playground._models) != 1:
        return None
    answer, _ = playground._models[0]
    if not (isinstance(answer, partial) and answer.func is look_and_answer):
        return None
    model = answer.args[0].model
    return model if type(model) is Llava and readable(model) else None


def readable(model: Llava) -> bool:
    """Whether speaker.js has all the parts of a model."""
    config, vision, language = model.config, model.config.vision, model.config.language
    known = vision.activation == "gelu" and not vision.patch_bias and config.layer in (-1, vision.depth)
    plain = (config.shuffle, config.spread) == (1, 1) and model.projector.contract is not None
    small = sum(parameter.numel() for parameter in model.parameters()) <= MOST_PARAMETERS
    return known and plain and small and language.tied


def written(model: Llava) -> dict[str, Any]:
    """Sizes, words and weights of a model; weights in half precision, as base64 by their names."""
    vision, language = model.config.vision, model.config.language
    encoder = load_tokenizer().encoder
    vocabulary = [encoder.id_to_token(number) for number in range(encoder.get_vocab_size())]
    state = model.state_dict()
    unread = {"language.head.weight", "vision.norm.weight", "vision.norm.bias"}
    return {
        "vision": {
            "side": vision.image_shape[0], "patch": vision.patch_size, "width": vision.width,
            "depth": vision.depth, "heads": vision.heads, "epsilon": vision.epsilon,
            "early": vision.norm_before_blocks,
        },
        "language": {
            "width": language.width, "depth": language.depth, "heads": language.heads,
            "groups": language.groups, "base": language.base, "epsilon": language.epsilon,
        },
        "special": list(SPECIAL),
        "vocabulary": vocabulary,
        "merges": merges(encoder),
        "tensors": {name: as_half(state[name]) for name in state if name not in unread},
    }  # fmt: skip


def merges(encoder: Any) -> list[str]:
    """The pairs that the tokenizer joins, the first ones first, as "a b"."""
    import json

    pairs = json.loads(encoder.to_str())["model"]["merges"]
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]


def as_half(tensor: Any) -> str:
    return base64.b64encode(tensor.detach().cpu().half().contiguous().numpy().tobytes()).decode()


def truths(playground: Any) -> list[dict[str, str]]:
    """By scene: the right answers to the questions that its page suggests, while the scene is as it came."""
    from vlmcourse.world.grammar import true_answer
    from vlmcourse.world.truth import Thing

    found = []
    for scene in playground.world["scenes"]:
        things = [Thing(*thing) for thing in scene["things"]]
        found.append({text: true_answer(text, things) for text in scene["questions"].values()})
    return found
