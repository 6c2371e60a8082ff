"""Questions about drawings make sense, and a projector can be fitted to words without a gradient step."""

import pytest
import torch

from tests.families.test_real import tiny
from vlmcourse.data import openmoji
from vlmcourse.families import drawings, real
from vlmcourse.models.projector import Projector


@pytest.mark.parametrize(("caption", "answers"), [
    ("woman astronaut: medium skin tone", dict(
        role="This is an astronaut.", gender="This is a woman.", tone="The skin tone is medium.",
        full="This is a woman astronaut with medium skin tone.")),
    ("man swimming",
     dict(role="This is a person swimming.", gender="This is a man.", full="This is a man swimming.")),
    ("women holding hands: dark skin tone", dict(
        role="These are people holding hands.", gender="This is a woman.", tone="The skin tone is dark.",
        full="These are women holding hands with dark skin tone.")),
    ("men wrestling: dark skin tone, light skin tone", dict(
        full="These are men wrestling with dark and light skin tone.")),
    ("woman red hair: light skin tone", dict(
        role="This is a person with red hair.", gender="This is a woman.", tone="The skin tone is light.",
        full="This is a woman with red hair and light skin tone.")),
    ("flag: norway", dict(full="This is the flag of norway.")),
    ("red apple", dict(full="This is a red apple.")),
])  # fmt: skip
def test_only_questions_that_make_sense_are_asked(caption, answers):
    train = openmoji.load("train")
    one = openmoji.Emoji(train.images[:1], [caption], [openmoji.take_apart(caption)])
    (row,) = drawings.drawing_questions(one)
    assert {each.kind: each.answer for each in row} == answers
    assert all(each.question == drawings.QUESTIONS[each.kind] for each in row)


def test_every_drawing_has_a_sentence_and_every_held_out_one_all_four_questions():
    for split in openmoji.EMOJI_SPLITS:
        rows = drawings.drawing_questions(openmoji.load(split))
        assert all(row and row[-1].kind == "full" and row[-1].answer.endswith(".") for row in rows)
        kinds = [tuple(asked.kind for asked in row) for row in rows]
        assert split == "train" or set(kinds) == {drawings.DRAWING_KINDS}


def test_each_part_of_a_caption_has_its_token():
    model, tokenizer = tiny()
    parts = [openmoji.Parts("playing water polo now", "woman", "dark"), openmoji.Parts("astronaut")]
    said = drawings.caption_words(model.language, tokenizer, parts)
    assert said.shape == (2, drawings.TOKENS, model.language.config.width)
    names = ["playing", "water", "polo", "now", "woman", "dark", "astronaut"]
    playing, water, polo, now, woman, dark, astronaut = real.word_vectors(model.language, tokenizer, names)
    mean = model.language.embedding.weight.detach().mean(0)
    torch.testing.assert_close(said[0], torch.stack([playing, water, polo + now - mean, woman, dark]))
    torch.testing.assert_close(said[1], torch.stack([astronaut, mean, mean, mean, mean]))


def test_a_fitted_projector_says_what_drawings_show():
    torch.manual_seed(0)
    seen = torch.randn(400, 4, 8)
    said = (seen.flatten(1)[:, :6] @ torch.randn(6, 72) + 3).unflatten(
        1, (3, 24)
    )  # only six directions count
    projector = Projector(8, 24, 6, shuffle=2, spread=3)
    drawings.fit(projector, seen, said, torch.ones(400))
    with torch.no_grad():
        error = (projector(seen) - said).square().mean() / said.var()
    assert error < 0.02
    with pytest.raises(ValueError, match="makes 4 vectors"):
        drawings.fit(Projector(8, 24, 6, spread=3), seen, said, torch.ones(400))
    with pytest.raises(ValueError, match="3 tokens to be said, but the projector spreads to 1"):
        drawings.fit(Projector(8, 24, 6, shuffle=2), seen, said, torch.ones(400))


def test_the_recipe_runs_on_drawings_and_is_measured_on_drawings(monkeypatch):
    monkeypatch.setattr(drawings, "assembled", lambda *given: given)
    recipe, options = object(), object()
    assert drawings.run(recipe, options) == (recipe, options, drawings.drawing_lessons, drawings.measure)
