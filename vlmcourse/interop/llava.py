"""Our LLaVA and transformers': weights both ways, and a folder that transformers opens (notebooks 08 and 17).

    from_transformers   a LlavaForConditionalGeneration with a CLIP encoder and a LLaMA -> our Llava
    to_transformers     our Llava -> a LlavaForConditionalGeneration with equal scores
    save_folder         our Llava -> a folder for from_pretrained and AutoProcessor, weights as safetensors

transformers' LLaVA reads images with CLIP's encoder, so only a ViT of CLIP's form (no patch bias, one more
norm in front) can be handed over.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from PIL import Image
from torch import nn

from vlmcourse.data.text import BOS, END, IMAGE, PAD, SPECIAL, Tokenizer, load_tokenizer
from vlmcourse.interop.clip import VISION, vision_config
from vlmcourse.interop.hub import no_progress_bars
from vlmcourse.interop.keys import give_weights, nested, represent, take_weights
from vlmcourse.interop.language import LLAMA_WORDS, llama_config, llama_rows
from vlmcourse.interop.vit import VISION_WORDS
from vlmcourse.models.language import CONTEXT
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.lora import lora_state
from vlmcourse.models.vit import ViTConfig
from vlmcourse.training.checkpoints import sync_folder, written_whole

PART_TYPES = "llava", "clip_vision_model", "llama"  # of the whole, its eye and its language model
PROJECTOR = {"expand.*": "linear_1.*", "contract.*": "linear_2.*"}
NOT_THEIRS = {  # why models of these families cannot be handed over
    "Flamingo": "transformers' Idefics has no grouped queries, which its language model uses",
    "Blip2": "transformers' BLIP-2 has no norm before the blocks of its vision encoder, which this one has",
}
# the form of vlmcourse.data.chat.render_chat, in the language of transformers' chat templates
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
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
    return take_weights(model, theirs.state_dict(), llava_rows(model), "this LLaVA")


def to_transformers(model: Llava) -> transformers.LlavaForConditionalGeneration:
    """A transformers LLaVA with our weights, in evaluation mode.

    Raises:
        ValueError: if the model has a part that transformers' LLaVA lacks.
    """
    if lora_state(model):
        raise ValueError("transformers' LLaVA has no place for LoRA; call merge_lora(model) first")
    theirs = transformers.LlavaForConditionalGeneration(_their_config(model.config))
    return give_weights(model, theirs, llava_rows(model))


def save_folder(
    model: Llava, folder: str | Path, words: Any = None, template: str = CHAT_TEMPLATE, readme: str = ""
) -> None:
    """Write what ``LlavaForConditionalGeneration.from_pretrained`` and ``AutoProcessor`` open.

    The folder is new, or empty, and gets its name when all of it is written.

    Args:
        words: a tokenizer; one that is not ours must know the word <image>.
        template: of conversations, as transformers writes them.
        readme: the model card, see interop/modelcard.py.

    Raises:
        ValueError: if the model is no LLaVA, or one that transformers cannot represent.
        CheckpointError: if it cannot be written, the disk being full, say; then there is no half folder.
    """
    words = words or load_tokenizer()
    if isinstance(words, Tokenizer):
        words = transformers.PreTrainedTokenizerFast(
            tokenizer_object=words.encoder, bos_token=SPECIAL[BOS], eos_token=SPECIAL[END],
            pad_token=SPECIAL[PAD], padding_side="left", extra_special_tokens={"image_token": SPECIAL[IMAGE]},
        )  # fmt: skip
    theirs = to_transformers(model)
    special = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    theirs.config.text_config.update(special)
    theirs.generation_config = transformers.GenerationConfig(**special)
    with written_whole(Path(folder)) as draft, no_progress_bars():
        theirs.save_pretrained(draft)
        _processor(model.config.vision, words, template).save_pretrained(draft)
        if readme:
            (draft / "README.md").write_text(readme, encoding="utf-8")
        sync_folder(draft)


def _processor(vision: ViTConfig, tokenizer: Any, template: str) -> transformers.LlavaProcessor:
    """What prepares images and texts in transformers: pixels −1…1 as data.photos.load_picture scales them,
    the tokenizer, the chat template."""
    side, half = vision.image_shape[0], [0.5] * 3
    square, shortest = {"height": side, "width": side}, {"shortest_edge": side}
    return transformers.LlavaProcessor(
        transformers.CLIPImageProcessor(size=shortest, crop_size=square, image_mean=half, image_std=half,
                                        resample=Image.Resampling.BILINEAR),
        tokenizer, patch_size=vision.patch_size, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template, image_token=SPECIAL[IMAGE],
    )  # fmt: skip


def llava_rows(model: Llava) -> dict[str, str]:
    """The key map of the whole."""
    return {
        **llama_rows(model.config.language.tied, "language.", "model.language_model."),
        **nested(VISION, "vision.", "model.vision_tower."),
        **nested(PROJECTOR, "projector.", "model.multi_modal_projector."),
    }


def _our_config(config: transformers.PretrainedConfig) -> LlavaConfig:
    vision, language = (getattr(config, part, None) for part in ("vision_config", "text_config"))
    families = [getattr(part, "model_type", None) for part in (config, vision, language)]
    for part, given, needed in zip(("whole", "eye", "language model"), families, PART_TYPES, strict=True):
        if given != needed:
            ours = "ours is a LLaVA with CLIP's encoder and a LLaMA"
            raise ValueError(f"{ours}; the {part} of this one is of type {given!r}, not {needed!r}")
    represent(config, {}, "vision_config", "text_config", "image_token_index", "image_token_id",
              "image_seq_length", "vision_feature_layer", "tie_word_embeddings", projector_hidden_act="gelu",
              multimodal_projector_bias=True, vision_feature_select_strategy="default")  # fmt: skip
    layer = config.vision_feature_layer
    if not isinstance(layer, int) or layer >= 0:
        counted = "ours reads one layer, counted from the end"
        raise ValueError(f"{counted}; this LLaVA has vision_feature_layer = {layer}")
    words = replace(llama_config(language), tied=config.tie_word_embeddings)  # the whole decides
    return LlavaConfig(vision_config(vision), words, config.image_token_id, layer)


def _their_config(config: Any) -> transformers.LlavaConfig:
    """Theirs for ours; ValueError if ours is another family, or has what transformers' LLaVA lacks."""
    if not isinstance(config, LlavaConfig):
        family = type(config).__name__.removesuffix("Config")
        why = f", and {NOT_THEIRS[family]}" if family in NOT_THEIRS else ""
        raise ValueError(f"only a LLaVA can be exported, such as nano-vlm; this model is a {family}{why}")
    vision, language = config.vision, config.language
    lacking = {
        "pixel shuffle": config.shuffle != 1,
        "several tokens for each patch": config.spread != 1,
        "a projector with another width inside than the language model's":
            config.hidden not in (None, language.width),
        "a ViT with a patch bias": vision.patch_bias,
        "a ViT without a norm before its blocks": not vision.norm_before_blocks,
        "images that are not square": len(set(vision.image_shape)) > 1,
    }  # fmt: skip
    if any(lacking.values()):
        named = " and ".join(name for name, has in lacking.items() if has)
        raise ValueError(f"transformers' LLaVA has no place for {named}")
    eye = {theirs: getattr(vision, ours) for ours, theirs in VISION_WORDS.items()}
    eye |= {"image_size": vision.image_shape[0], "intermediate_size": vision.hidden or 4 * vision.width}
    words = {theirs: getattr(language, ours) for ours, theirs in LLAMA_WORDS.items()}
    words |= {"intermediate_size": language.hidden or 8 * language.width // 3}
    words |= {"rope_parameters": {"rope_theta": language.base, "rope_type": "default"}}
    words |= {"bos_token_id": BOS, "eos_token_id": END, "pad_token_id": PAD}
    rows, columns = vision.grid
    return transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**eye),
        text_config=transformers.LlamaConfig(**words, max_position_embeddings=CONTEXT),
        image_token_index=config.image_token, image_seq_length=rows * columns,
        vision_feature_layer=config.layer, tie_word_embeddings=language.tied,
    )  # fmt: skip
