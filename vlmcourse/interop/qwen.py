"""transformers' Qwen2-VL and ours (notebooks 16 and 19).

from_transformers        its language model -> our Qwen
whole_from_transformers  all of it -> our QwenVL
whole_to_transformers    our QwenVL -> a Qwen2VLForConditionalGeneration with equal scores
qwen_inputs              pictures of different sizes as it takes them
"""

import torch
import transformers
from torch import Tensor, nn

from vlmcourse.interop.keys import give_weights, nested, represent, take_weights
from vlmcourse.interop.language import LLAMA_WORDS, llama_rows
from vlmcourse.interop.vit import MLP_ROWS
from vlmcourse.models.language import CONTEXT
from vlmcourse.models.native import Sides, SomePictures, cut_pictures
from vlmcourse.models.native_vit import NativeViTConfig
from vlmcourse.models.qwen import Qwen, QwenConfig
from vlmcourse.models.qwenvl import QwenVL, QwenVLConfig

EYE_ROWS = {
    "embed_patch.weight": "patch_embed.proj.weight, frames",
    "norm.*": "merger.ln_q.*",
    "blocks.#.norm_before_attention.*": "blocks.#.norm1.*",
    "blocks.#.norm_before_mlp.*": "blocks.#.norm2.*",
    "blocks.#.attention.project_in.*": "blocks.#.attn.qkv.*",
    "blocks.#.attention.project_out.*": "blocks.#.attn.proj.*",
    **nested(MLP_ROWS, "blocks.#.", "blocks.#."),
}
MERGER_ROWS = {"expand.*": "merger.mlp.0.*", "contract.*": "merger.mlp.2.*"}
EYE_WORDS = {
    "width": "embed_dim", "depth": "depth", "heads": "num_heads", "activation": "hidden_act",
    "patch_size": "patch_size", "channels": "in_channels", "frames": "temporal_patch_size",
}  # fmt: skip
EYE_BASE = 10_000.0  # of axial_angles
BIASES = {"blocks.#.attention.project_in.bias": "layers.#.self_attn.(q k v)_proj.bias"}


def from_transformers(theirs: nn.Module) -> Qwen:
    """Our Qwen with the words of a Qwen2VLForConditionalGeneration (5.0 or newer), in evaluation mode.

    Its image encoder, the keys under ``model.visual``, stays behind: our Qwen reads vectors that stand among
    the words already.

    Raises:
        ValueError: if it is another model, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    if not isinstance(theirs, transformers.Qwen2VLForConditionalGeneration):
        raise ValueError(f"this reads a Qwen2VLForConditionalGeneration, not a {type(theirs).__name__}")
    tied = theirs.config.tie_word_embeddings
    model = Qwen(qwen_config(theirs.config.text_config, tied))
    words = {key: value for key, value in theirs.state_dict().items() if not key.startswith("model.visual.")}
    return take_weights(model, words, word_rows(tied), "the language model of this Qwen2-VL")


def word_rows(tied: bool, ours: str = "") -> dict[str, str]:
    """The key map of the language model, below a prefix of ours."""
    below = "model.language_model."
    return llama_rows(tied, ours, below) | nested(BIASES, ours, below)


def whole_from_transformers(theirs: nn.Module) -> QwenVL:
    """Our QwenVL with the weights of a Qwen2VLForConditionalGeneration (5.0 or newer), in evaluation mode.

    Raises:
        ValueError: if it is another model, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    if not isinstance(theirs, transformers.Qwen2VLForConditionalGeneration):
        raise ValueError(f"this reads a Qwen2VLForConditionalGeneration, not a {type(theirs).__name__}")
    model = QwenVL(_whole_config(theirs.config))
    return take_weights(model, theirs.state_dict(), whole_rows(model), "this Qwen2-VL")


def whole_to_transformers(model: QwenVL) -> transformers.Qwen2VLForConditionalGeneration:
    """A transformers Qwen2-VL with our weights, in evaluation mode.

    Its words for videos, and for where pictures begin and end, get numbers behind our vocabulary.

    Raises:
        ValueError: if the model has a part that transformers' Qwen2-VL lacks.
    """
    theirs = transformers.Qwen2VLForConditionalGeneration(_their_whole(model.config))
    return give_weights(model, theirs, whole_rows(model))


def whole_rows(model: QwenVL) -> dict[str, str]:
    """The key map of the whole."""
    return {
        **word_rows(model.config.language.tied, "language."),
        **nested(EYE_ROWS, "vision.", "model.visual."),
        **nested(MERGER_ROWS, "projector.", "model.visual."),
    }


def _whole_config(config: transformers.Qwen2VLConfig) -> QwenVLConfig:
    represent(config, {}, "vision_config", "text_config", "image_token_id", "video_token_id",
              "vision_start_token_id", "vision_end_token_id", "tie_word_embeddings")  # fmt: skip
    eye, words = config.vision_config, qwen_config(config.text_config, config.tie_word_embeddings)
    fields = represent(eye, EYE_WORDS, "mlp_ratio", "spatial_merge_size", "rope_parameters",
                       hidden_size=words.width)  # fmt: skip
    turned = (getattr(eye, "rope_parameters", None) or {}).get("rope_theta", EYE_BASE)
    if turned != EYE_BASE:
        raise ValueError(f"our eye turns with a base of {EYE_BASE:,.0f}; this one has rope_theta {turned}")
    vision = NativeViTConfig(eye.spatial_merge_size * eye.patch_size, **fields, turned=True, patch_bias=False,
                             hidden=int(eye.embed_dim * eye.mlp_ratio))  # fmt: skip
    merged = eye.embed_dim * eye.spatial_merge_size**2
    return QwenVLConfig(vision, words, config.image_token_id, hidden=merged, shuffle=eye.spatial_merge_size)


def _their_whole(config: QwenVLConfig) -> transformers.Qwen2VLConfig:
    vision, language = config.vision, config.language
    inside, ratio = (vision.hidden or 4 * vision.width), (vision.hidden or 4 * vision.width) // vision.width
    lacking = {
        "learned positions": not vision.turned,
        "a ViT with a patch bias": vision.patch_bias,
        "a norm before the blocks": vision.norm_before_blocks,
        "another epsilon than 1e-6 in the eye": vision.epsilon != 1e-6,
        "an eye whose MLP is no whole number of times as wide": ratio * vision.width != inside,
        "a projector of another width inside": config.hidden != config.shuffle**2 * vision.width,
        "no norm before the projector": not config.normed,
        "interleaved sections": language.interleaved,
    }
    if named := " and ".join(name for name, has in lacking.items() if has):
        raise ValueError(f"transformers' Qwen2-VL has no place for {named}")
    eye = {theirs: getattr(vision, ours) for ours, theirs in EYE_WORDS.items()}
    eye |= dict(hidden_size=language.width, mlp_ratio=ratio, spatial_merge_size=config.shuffle)
    words = {theirs: getattr(language, ours) for ours, theirs in LLAMA_WORDS.items() if ours != "tied"}
    words |= {"intermediate_size": language.hidden or 8 * language.width // 3}
    turned = dict(rope_theta=language.base, rope_type="default", mrope_section=list(language.sections))
    words |= dict(
        rope_parameters=turned, max_position_embeddings=CONTEXT, bos_token_id=None, eos_token_id=None
    )
    names = ("video_token_id", "vision_start_token_id", "vision_end_token_id")
    unused = {name: language.vocabulary + number for number, name in enumerate(names)}
    return transformers.Qwen2VLConfig(
        vision_config=eye, text_config=words, image_token_id=config.image_token,
        tie_word_embeddings=language.tied, **unused,
    )  # fmt: skip


def merge_order(grid: Sides, shuffle: int) -> Tensor:
    """Numbers of a picture's patches, row by row, in the order in which Qwen2-VL takes them: the patches of
    each square that becomes one token stand together."""
    rows, columns = grid
    numbers = torch.arange(rows * columns).reshape(rows // shuffle, shuffle, columns // shuffle, shuffle)
    return numbers.transpose(1, 2).flatten()


def qwen_inputs(pictures: SomePictures, config: QwenVLConfig) -> dict[str, Tensor]:
    """Pictures as Qwen2-VL takes them: patches in merge_order, of two equal frames, channel by channel."""
    vision, row = config.vision, cut_pictures(pictures, config.vision.patch_size)
    size, ordered = vision.patch_size, []
    for patches, grid in zip(row.split(), row.grids, strict=True):
        squares = patches[merge_order(grid, config.shuffle)].reshape(-1, size, size, vision.channels)
        frames = squares.permute(0, 3, 1, 2)[:, :, None].expand(-1, -1, vision.frames, -1, -1)
        ordered.append(frames.flatten(1))
    grids = torch.tensor([(1, *grid) for grid in row.grids])
    return dict(pixel_values=torch.cat(ordered), image_grid_thw=grids)


def qwen_config(config: transformers.Qwen2VLTextConfig, tied: bool) -> QwenConfig:
    """Our configuration for transformers'; ValueError for options that ours does not have."""
    fields = {ours: name for ours, name in LLAMA_WORDS.items() if ours != "tied"}
    words = represent(config, fields, "rope_parameters", "max_position_embeddings", "max_window_layers",
                      "layer_types", "sliding_window",
                      hidden_act="silu", use_sliding_window=False)  # fmt: skip
    rope = dict(config.rope_parameters)
    base, sections = rope.pop("rope_theta"), tuple(rope.pop("mrope_section"))
    strange = {name: value for name, value in rope.items() if (name, value) != ("rope_type", "default")}
    if strange:
        named = ", ".join(f"{name} {value!r}" for name, value in strange.items())
        raise ValueError(f"our qwen turns by plain M-RoPE; this one has {named}")
    return QwenConfig(**words, tied=tied, base=base, sections=sections)
