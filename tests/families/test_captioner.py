"""The language model of captions learns from all styles of its recipe."""

from types import SimpleNamespace

from vlmcourse.families import captioner
from vlmcourse.recipes.captions import LM_CAPTIONS
from vlmcourse.world import captions, scenes


def test_texts_of_all_styles_are_read_with_the_rates_of_the_recipe(monkeypatch):
    read, noted, sample = [], [], scenes.sample
    tokenizer = captioner.load_tokenizer()
    note = SimpleNamespace(
        encode=lambda texts, bos: read.extend(texts) or tokenizer.encode(texts[:99], bos=bos)
    )
    monkeypatch.setattr(captioner, "load_tokenizer", lambda: note)
    monkeypatch.setattr(scenes, "sample", lambda split, count: sample(split, 50))
    monkeypatch.setattr(captioner, "learn", lambda *given, **options: noted.append((given, options)))
    (made,) = captioner.run(LM_CAPTIONS, lambda stage, model: {"precision": "no"})
    batch, styles = sample("train", 50), made.stage.data["captions"]
    assert len(styles) > 1
    assert read == [text for style in styles for text in captions.captions(batch, style)]
    (model, batches, loss), options = noted[0]
    assert loss is captioner.loss_of and batches.size == 48 and made.stored is model
    assert options.pop("optimizer").param_groups[0]["lr"] == 2e-3
    assert options == dict(steps=900, precision="no")
