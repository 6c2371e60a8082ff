"""A LLaVA from pretrained parts: vision encoder (eye), projector and language model (notebook 17)."""

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
    """Teach tokenizer and model the word <image>, unless they know it: the mean of all others. Its id."""
    tokenizer.add_tokens(IMAGE_WORD, special_tokens=True)
    word, table = tokenizer.convert_tokens_to_ids(IMAGE_WORD), language.embedding.weight.detach()
    if word == len(table):
        longer = torch.cat([table, table.mean(0, keepdim=True)])
        language.embedding = nn.Embedding.from_pretrained(longer, freeze=False)
        language.head = nn.Linear(longer.shape[1], len(longer), bias=False)
        language.head.weight = language.embedding.weight
        language.config = replace(language.config, vocabulary=len(longer))
    return word


def assemble_llava(eye: ViT, language: Llama, tokenizer: Any, layer: int = -1, **projector: Any) -> Llava:
    """One model; its projector is new, everything else is frozen.

    Args:
        language: with tied embeddings, as SmolLM2; learns the word <image>.
        layer, projector: as in LlavaConfig; of the projector hidden, shuffle and spread.
    """
    word = add_image_word(language, tokenizer)
    with torch.device("meta"):  # no memory and no time for numbers that are replaced at once
        model = Llava(LlavaConfig(eye.config, language.config, word, layer, **projector))
    model.vision, model.language, width = eye, language, language.config.width
    model.projector = Projector(eye.config.width, width, **{"hidden": width, **projector})
    model.requires_grad_(False)
    model.projector.requires_grad_(True)
    return model.eval()


class StoredParts(nn.Module):
    """What is stored beside the language model: the eye as far as it is read, the projector, LoRA."""

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
