"""Any vision-language model that transformers opens, asked like one of ours (notebook 13).

Opened strictly and without code of its authors, see hub.Found.open; images are prepared, and conversations
written, by its own processor.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from jaxtyping import UInt8
from PIL import Image
from torch import nn

from vlmcourse.interop.hub import resolve

OneOrSeveral = UInt8[np.ndarray, "*image rows columns 3"]  # images


class FolderModel:
    """A model of transformers with ``answer``, as a Speaker has it.

    Args:
        folder: in the hub's format: a configuration, safetensors, and a processor with a chat template.

    Raises:
        MissingModel: if the folder is not whole.
        CheckpointError: if it does not hold a vision-language model, or a file of it is damaged.
        ValueError: if its processor has no chat template.
    """

    def __init__(self, folder: str | Path):
        found = resolve(folder, fetch=False)
        self.model: nn.Module = found.open(transformers.AutoModelForImageTextToText)
        self.processor = found.processor()
        if getattr(self.processor, "chat_template", None) is None:
            needs = "without it nobody knows how it was asked in training"
            raise ValueError(f"the processor of {folder} has no chat template; {needs}")

    @torch.inference_mode()
    def answer(
        self, images: OneOrSeveral, instructions: str | Sequence[str], steps: int = 64, batch: int = 50
    ) -> str | list[str]:
        """What the model says, always with the likeliest word; see Speaker.answer.

        Raises:
            ValueError: if there are not as many images as instructions.
        """
        if isinstance(instructions, str):
            return self.answer(images[None], [instructions], steps)[0]
        if len(images) != len(instructions):
            counts = f"{len(images)} images and {len(instructions)} instructions"
            raise ValueError(f"{counts}; give one of each per answer")
        answers = []
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            answers += self._answer(images[part], instructions[part], steps)
        return answers

    def _answer(self, images: np.ndarray, instructions: Sequence[str], steps: int) -> list[str]:
        asked = [
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
            for text in instructions
        ]
        texts = self.processor.apply_chat_template(asked, add_generation_prompt=True)
        pictures = [[Image.fromarray(image)] for image in images]
        given = self.processor(images=pictures, text=texts, padding=True, return_tensors="pt")
        written = self.model.generate(**given, max_new_tokens=steps, do_sample=False)
        new = written[:, given["input_ids"].shape[1] :]
        return [text.strip() for text in self.processor.batch_decode(new, skip_special_tokens=True)]
