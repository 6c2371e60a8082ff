"""Assembling a LLaVA from pretrained parts: vision encoder (eye), projector and language model (notebook 17).

add_image_word    tokenizer and language model learn the placeholder
assemble_llava    an eye, a new projector and a language model become one Llava
StoredParts       what has to be stored beside the language model
"""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from vlmcourse.data.text import IMAGE_WORD
from vlmcourse.models.language import Llama
from vlmcourse.models.llava import Llava, LlavaConfig
from vlmcourse.models.lora import lora_state
from vlmcourse.models.projector import Projector
from vlmcourse.models.vit import ViT


def add_image_word(language: Llama, tokenizer: Any) -> int:
    """Teach tokenizer and model the word <image>, unless they know it; its id. Its vector is the mean of
    all others."""
    tokenizer.add_tokens(IMAGE_WORD, special_tokens=True)
    word, table = tokenizer.convert_tokens_to_ids(IMAGE_WORD), language.embedding.weight.detach()
    if word == len(table):
        language.embedding = nn.Embedding.from_pretrained(
            torch.cat([table, table.mean(0, keepdim=True)]), freeze=False
        )
        language.head = nn.Linear(table.shape[1], len(table) + 1, bias=False)
        language.head.weight = language.embedding.weight
        language.config = replace(language.config, vocabulary=len(table) + 1)
    return word


def assemble_llava(
    eye: ViT,
    language: Llama,
    tokenizer: Any,
    layer: int = -1,
    hidden: int | None = None,
    shuffle: int = 1,
    spread: int = 1,
) -> Llava:
    """One model; its projector is new, everything else is frozen.

    Args:
        eye: changed by nothing here.
        language: with tied embeddings, as SmolLM2; learns the word <image>.
        layer: of the eye's residual streams, as in LlavaConfig.
        hidden, shuffle, spread: of the projector, as in LlavaConfig.
    """
    word = add_image_word(language, tokenizer)
    with torch.device("meta"):  # no memory and no time for numbers that are replaced at once
        model = Llava(LlavaConfig(eye.config, language.config, word, layer, hidden, shuffle, spread))
    model.vision, model.language = eye, language
    width = language.config.width
    model.projector = Projector(eye.config.width, width, hidden or width, shuffle, spread)
    model.requires_grad_(False)
    model.projector.requires_grad_(True)
    return model.eval()


class StoredParts(nn.Module):
    """What has to be stored beside the language model: the eye as far as it is read, the projector, LoRA's
    matrices."""

    def __init__(self, model: Llava):
        super().__init__()
        read = model.config.vision.depth + 1 + model.config.layer
        unread = tuple(f"blocks.{number}." for number in range(read, model.config.vision.depth))
        self.names = [f"vision.{name}" for name in model.vision.state_dict() if not name.startswith(unread)]
        self.names += [f"projector.{name}" for name in model.projector.state_dict()]
        self.names += [f"language.{name}" for name in lora_state(model.language)]
        for name in self.names:
            self.register_buffer(name.replace(".", ":"), model.get_parameter(name).detach().clone())

    @torch.no_grad()
    def put_into(self, model: Llava) -> None:
        for name in self.names:
            model.get_parameter(name).copy_(getattr(self, name.replace(".", ":")))
