"""The tokenizer is as large as its recipe says."""

import dataclasses

from vlmcourse.families import tokenizing
from vlmcourse.recipes.tokenizer import TOKENIZER


def test_the_recipe_says_how_many_tokens_there_are(monkeypatch):
    monkeypatch.setattr(tokenizing, "corpus", lambda stage: ["a red circle", "a blue star"] * 3)
    small = dataclasses.replace(TOKENIZER, model=dict(TOKENIZER.model) | dict(size=268))
    (made,) = tokenizing.run(small, None)
    assert len(made[1]) == 268
    assert made[3]() == {"tokens": 268}
