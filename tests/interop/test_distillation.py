"""What a language model wrote is read again a few texts at a time, in turn."""

import torch

from tests.parity.library import llama
from vlmcourse.interop.distillation import STARTS, Memory
from vlmcourse.interop.language import from_transformers


def tokenizer(text, add_special_tokens):
    """Two tokens for every word, of which a start keeps the first."""
    assert not add_special_tokens
    return {"input_ids": [STARTS.index(text) + 3, 2]}


def test_a_step_asks_the_next_six_texts_and_begins_again_behind_the_last():
    language, asked = from_transformers(llama()), []
    memory = Memory(language, tokenizer, texts=10, length=5)
    assert memory.ids.shape == (10, 5) and memory.ids[:, 0].tolist() == list(range(3, 13))
    language.register_forward_pre_hook(lambda module, inputs: asked.append(inputs[0]))
    for turn in range(3):
        assert abs(memory.drift(language)) < 1e-5
        assert torch.equal(asked.pop(), memory.ids[torch.arange(6 * turn, 6 * turn + 6) % 10])


def test_there_are_as_many_texts_as_the_chapter_says():
    memory = Memory(from_transformers(llama()), tokenizer)
    assert memory.ids.shape == (72, 24)
    assert memory.ids[:, 0].tolist() == 3 * list(range(3, 3 + len(STARTS)))  # every start is used as often
