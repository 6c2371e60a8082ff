"""Our LLaVA and transformers': weights in both directions, and folders that either opens (notebooks 08 and 17).

    from_transformers   a LlavaForConditionalGeneration with a CLIP encoder and a LLaMA -> our Llava
    to_transformers     our Llava -> a LlavaForConditionalGeneration with equal scores
    from_folder         a folder that save_pretrained wrote, or a download of one -> our Llava
    save_folder         our Llava -> a folder for from_pretrained and AutoProcessor, weights as safetensors

Every key is named here once and loaded strictly.  transformers' LLaVA reads images with CLIP's encoder, so
only a ViT of CLIP's form (no patch bias, one more norm in front) can be handed over.
"""

from pathlib import Path

import transformers
from torch import Tensor, nn

from vlmcourse.data.text import BOS, END, IMAGE, PAD, SPECIAL, Tokenizer, load_tokenizer
from vlmcourse.interop.clip import vision_names
from vlmcourse.interop.keys import fuse, unfuse
from vlmcourse.interop.language import llama_config, llama_names
from vlmcourse.interop.vit import patch_matrix
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training.checkpoints import CheckpointError, load_strict

PATCHES = "vision.embed_patch.weight"
CONTEXT = 2048  # tokens; transformers wants a number, RoPE itself has no limit
# the form of vlmcourse.data.chat.render_chat, in the language of transformers' chat templates
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def from_transformers(theirs: nn.Module) -> Llava:
    """Our Llava with the weights of a transformers LLaVA (5.0 or newer), in evaluation mode.

    Raises:
        ValueError: if it is another model, or uses an option that ours does not have.
        CheckpointError: if a weight is missing, or has no place in ours.
    """
    model = Llava(_our_config(theirs.config))
    state, names = dict(theirs.state_dict()), _names(model)
    if model.config.language.tied:
        state.pop("lm_head.weight", None)
    expected = {key for keys in names.values() for key in keys}
    problems = [f"missing: {key}" for key in sorted(expected - state.keys())]
    problems += [f"unexpected: {key}" for key in sorted(state.keys() - expected)]
    if problems:
        raise CheckpointError(
            "these are not the weights of a LLaVA as ours:\n  " + "\n  ".join(problems[:20])
        )
    ours = fuse(state, names)
    ours[PATCHES] = patch_matrix(ours[PATCHES])
    load_strict(model, ours, "this LLaVA")
    return model.eval()


def from_folder(folder: str | Path) -> Llava:
    """As from_transformers, from a folder in the hub's format; nothing is fetched, and no code of it runs."""
    if not (Path(folder) / "config.json").is_file():
        raise FileNotFoundError(
            f"no config.json in {folder}; save with save_pretrained, or download the whole folder"
        )
    return from_transformers(transformers.LlavaForConditionalGeneration.from_pretrained(
        folder, local_files_only=True, use_safetensors=True))  # fmt: skip


def to_transformers(model: Llava) -> transformers.LlavaForConditionalGeneration:
    """A transformers LLaVA with our weights, in evaluation mode.

    Raises:
        ValueError: if the model has a part that transformers' LLaVA lacks.
    """
    theirs = transformers.LlavaForConditionalGeneration(_their_config(model.config))
    ours, rows = model.state_dict(), {key: len(value) for key, value in theirs.state_dict().items()}
    ours[PATCHES] = _patch_convolution(ours[PATCHES], model.config.vision)
    state = unfuse(ours, _names(model), rows)
    if model.config.language.tied:
        state["lm_head.weight"] = ours["language.embedding.weight"]
    theirs.load_state_dict(state, strict=True)
    return theirs.eval()


def save_folder(
    model: Llava, folder: str | Path, tokenizer: Tokenizer | transformers.PreTrainedTokenizerBase | None = None,
    template: str = TEMPLATE,
) -> None:  # fmt: skip
    """Write what ``LlavaForConditionalGeneration.from_pretrained`` and ``AutoProcessor`` open.

    Args:
        tokenizer: ours, or a pretrained language model's own, which must know the word <image>.
        template: of conversations, as transformers writes them.
    """
    words = _words(tokenizer)
    theirs = to_transformers(model)
    special = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    for name, number in special.items():
        setattr(theirs.config.text_config, name, number)
    theirs.generation_config = transformers.GenerationConfig(**special)
    theirs.save_pretrained(folder)
    processor(model, words, template).save_pretrained(folder)


def _words(
    tokenizer: Tokenizer | transformers.PreTrainedTokenizerBase | None,
) -> transformers.PreTrainedTokenizerBase:
    """A tokenizer of transformers, made from ours if it is not one."""
    if isinstance(tokenizer, transformers.PreTrainedTokenizerBase):
        return tokenizer
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=(tokenizer or load_tokenizer()).encoder, pad_token=SPECIAL[PAD], eos_token=SPECIAL[END],
        bos_token=SPECIAL[BOS], padding_side="left", extra_special_tokens={"image_token": SPECIAL[IMAGE]},
    )  # fmt: skip


def processor(
    model: Llava,
    tokenizer: Tokenizer | transformers.PreTrainedTokenizerBase | None = None,
    template: str = TEMPLATE,
) -> transformers.LlavaProcessor:
    """What prepares images and texts for the model in transformers: pixels −1…1, the tokenizer, the chat template."""
    height, width = model.config.vision.image_shape
    images = transformers.CLIPImageProcessor(
        size={"height": height, "width": width},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return transformers.LlavaProcessor(
        images, _words(tokenizer), patch_size=model.config.vision.patch_size, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template, image_token=SPECIAL[IMAGE],
    )  # fmt: skip


def _names(model: Llava) -> dict[str, tuple[str, ...]]:
    """Every parameter of ours -> the one or three of theirs that it is made of."""
    config = model.config
    parts = {
        ("vision.", "model.vision_tower."): vision_names(config.vision.depth),
        ("projector.", "model.multi_modal_projector."): {
            f"{mine}.{kind}": (f"{his}.{kind}",)
            for mine, his in (("expand", "linear_1"), ("contract", "linear_2")) for kind in ("weight", "bias")
        },
        ("language.", "model.language_model."): llama_names(config.language.depth),
    }  # fmt: skip
    names = {mine + ours: tuple(his + key for key in keys)
             for (mine, his), table in parts.items() for ours, keys in table.items()}  # fmt: skip
    words = names["language.embedding.weight"]
    return names | {"language.head.weight": words if config.language.tied else ("lm_head.weight",)}


def _our_config(config: transformers.PretrainedConfig) -> LlavaConfig:
    vision = getattr(config, "vision_config", None)
    if config.model_type != "llava" or vision.model_type != "clip_vision_model" or (
            config.text_config.model_type != "llama"):  # fmt: skip
        raise ValueError(f"ours is a LLaVA with CLIP's encoder and a LLaMA; this is a {config.model_type}")
    usual = dict(
        projector_hidden_act="gelu", multimodal_projector_bias=True, vision_feature_select_strategy="default"
    )
    strange = [
        f"{name} = {getattr(config, name)!r}"
        for name, value in usual.items()
        if getattr(config, name) != value
    ]
    if strange or not isinstance(config.vision_feature_layer, int) or config.vision_feature_layer >= 0:
        raise ValueError(f"ours reads one layer, counted from the end, without the class token; this LLaVA has "
                         f"vision_feature_layer = {config.vision_feature_layer} {' '.join(strange)}")  # fmt: skip
    return LlavaConfig(
        ViTConfig(
            vision.image_size, vision.patch_size, vision.num_channels, vision.hidden_size, vision.num_hidden_layers,
            vision.num_attention_heads, vision.intermediate_size, vision.hidden_act, vision.layer_norm_eps,
            patch_bias=False, norm_before_blocks=True,
        ),
        llama_config(config.text_config), config.image_token_id, config.vision_feature_layer,
    )  # fmt: skip


def _their_config(config: LlavaConfig) -> transformers.LlavaConfig:
    vision, language = config.vision, config.language
    lacking = {
        "pixel shuffle": config.shuffle != 1,
        "several tokens for each patch": config.spread != 1,
        "a projector with another width inside than the language model's": config.hidden
        not in (None, language.width),
        "a ViT with a patch bias and without a norm before its blocks": vision.patch_bias
        or not vision.norm_before_blocks,
        "images that are not square": len(set(vision.image_shape)) > 1,
    }
    if any(lacking.values()):
        named = " and ".join(name for name, found in lacking.items() if found)
        raise ValueError(f"transformers' LLaVA has no place for {named}")
    eyes = transformers.CLIPVisionConfig(
        hidden_size=vision.width, intermediate_size=vision.hidden or 4 * vision.width, image_size=vision.image_shape[0],
        num_hidden_layers=vision.depth, num_attention_heads=vision.heads, num_channels=vision.channels,
        patch_size=vision.patch_size, hidden_act=vision.activation, layer_norm_eps=vision.epsilon,
    )  # fmt: skip
    words = transformers.LlamaConfig(
        vocab_size=language.vocabulary, hidden_size=language.width, num_hidden_layers=language.depth,
        intermediate_size=language.hidden or 8 * language.width // 3, num_attention_heads=language.heads,
        num_key_value_heads=language.groups, rms_norm_eps=language.epsilon, tie_word_embeddings=language.tied,
        rope_parameters={"rope_theta": language.base, "rope_type": "default"}, max_position_embeddings=CONTEXT,
        bos_token_id=BOS, eos_token_id=END, pad_token_id=PAD,
    )  # fmt: skip
    rows, columns = vision.grid
    return transformers.LlavaConfig(
        vision_config=eyes, text_config=words, image_token_index=config.image_token, image_seq_length=rows * columns,
        vision_feature_layer=config.layer, tie_word_embeddings=language.tied,
    )  # fmt: skip


def _patch_convolution(matrix: Tensor, vision: ViTConfig) -> Tensor:
    """Undo patch_matrix."""
    size = vision.patch_size
    return matrix.reshape(len(matrix), size, size, vision.channels).permute(0, 3, 1, 2)
