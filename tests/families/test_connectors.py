"""Connectors take parts from shipped models, train the rest, and keep what they took bit for bit."""

import json
from dataclasses import replace

import pytest
import torch

from vlmcourse.data.assets import shipped
from vlmcourse.data.text import BOS, EOS, IMAGE, load_tokenizer
from vlmcourse.families import connectors, nano, preparing
from vlmcourse.families.making import load_speaker, store
from vlmcourse.models.attention import Cache
from vlmcourse.models.language import next_scores
from vlmcourse.models.vlm import EncoderDecoder, Reading
from vlmcourse.recipes.book import RECIPES
from vlmcourse.recipes.recipe import Recipe
from vlmcourse.speak import Speaker
from vlmcourse.training.checkpoints import load_weights
from vlmcourse.training.history import History
from vlmcourse.training.reading import CheckpointError
from vlmcourse.world import captions, scenes
from vlmcourse.world.instructions import talks
from vlmcourse.world.render import render, to_tensor

NAMES = [name for name, recipe in RECIPES.items() if recipe.family == "connectors"]


def small(recipe: Recipe) -> Recipe:
    """Two steps on a few scenes."""
    stages = tuple(
        replace(stage, steps=2, size=4, data=dict(stage.data) | dict(scenes=20)) for stage in recipe.stages
    )
    return replace(recipe, stages=stages)


def opened(model: torch.nn.Module) -> torch.nn.Module:
    """With open gates: behind closed ones no image makes a difference."""
    for name, gate in model.named_parameters():
        if name.endswith("_gate"):
            torch.nn.init.constant_(gate, 0.5)
    return model.eval()


def values(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in module.parameters()])


@pytest.fixture(scope="module")
def batch() -> scenes.Scenes:
    return scenes.sample("test", 6)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_taken_is_the_others_and_stays_as_it_was(name):
    recipe = small(RECIPES[name])
    *_, made = connectors.run(recipe, lambda stage, model: dict(precision="no"))
    model = connectors.new_model(recipe)
    taken = {part: values(getattr(model, part)) for part in recipe.start}
    for part, other in recipe.start.items():
        theirs = connectors.shipped_part(part, other).state_dict()
        mine = getattr(model, part).state_dict()
        assert mine and all(torch.equal(weight, theirs[key]) for key, weight in mine.items())
    trained = made.measure.args[0]
    assert all(torch.equal(taken[part], values(getattr(trained, part))) for part in taken)
    assert not set(made.stored) & set(recipe.start)
    for part, child in made.stored.named_children():
        assert not torch.equal(values(child), values(getattr(model, part))), part


@pytest.mark.parametrize("name", NAMES)
def test_packed_conversations_are_graded_like_single_ones(name, batch):
    speaker = Speaker(opened(connectors.new_model(RECIPES[name])))
    about = talks(batch, captioned=False)
    features = speaker.features(render(batch))
    hidden = speaker.hidden(features, rows := speaker.encode(about))
    for text in (1, 3):
        alone = speaker.encode([[row[text - 1]] for row in about])
        single = speaker.hidden(features, alone)
        for n in range(len(batch)):
            answered = rows.labels[n].where(rows.packs[n] == text, torch.tensor(-100)) != -100
            mine = hidden[n, answered.roll(-1)]
            theirs = single[n, (alone.labels[n] != -100).roll(-1)]
            torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["nano-vlm", *NAMES])
@torch.no_grad()
def test_texts_that_go_on_take_their_image_and_question_with_them(name, batch):
    """As in a beam, but of two pictures and questions, in another order; with what is kept and without."""
    model = nano.load_vlm()[0] if name == "nano-vlm" else opened(connectors.new_model(RECIPES[name]))
    images, (ids, _) = (
        to_tensor(render(batch[:2])),
        Speaker(model).words.prompts(["Is there a star?"] * 2, model.tokens_per_image),
    )
    ids[1, -3] += 1  # another word
    reader, prompt = model.begin(ids, images)
    caches = [Cache() for _ in reader.blocks]
    next_scores(reader, prompt, caches=caches)
    rows, token = [1, 0, 1], torch.tensor([[40], [50], [60]])
    for kept in (*caches, *[reader] * isinstance(reader, Reading)):
        kept.select(rows)
    expected = model(torch.cat([ids[rows], token], dim=1), images[rows])[:, -1]
    swapped = model(torch.cat([ids[rows], token], dim=1), images[[0, 1, 0]])[:, -1]
    assert (expected - swapped).abs().amax() > 1e-3  # the picture makes a difference
    said = next_scores(reader, reader.embed(token), caches=caches)
    torch.testing.assert_close(said, expected, atol=1e-4, rtol=1e-4)
    said = next_scores(reader, torch.cat([prompt[rows], reader.embed(token)], dim=1))
    torch.testing.assert_close(said, expected, atol=1e-4, rtol=1e-4)


def test_a_stored_model_is_only_what_it_learned_and_opens_again(tmp_path, batch):
    recipe = small(RECIPES["nano-flamingo"])
    *_, made = connectors.run(recipe, lambda stage, model: dict(precision="no"))
    path = store(made, tmp_path / "mine.safetensors", {"recipe": recipe.card()})
    speaker, card = load_speaker(str(path))
    assert card["recipe"]["name"] == "nano-flamingo" and speaker.familiar is not None
    trained = made.measure.args[0]
    for part in ("resampler", "gated"):
        stored = values(getattr(trained, part)).half().float()
        assert torch.equal(values(getattr(speaker.model, part)), stored)
    with pytest.raises(CheckpointError, match="mine"):
        load_weights(speaker.model, path)


def test_the_seed_of_a_recipe_decides_what_is_talked_about(monkeypatch):
    noted, sample = [], scenes.sample
    for name in ("talks", "hard_talks"):
        asked = getattr(preparing, name)
        monkeypatch.setattr(
            preparing, name, lambda batch, seed=0, asked=asked: noted.append(seed) or asked(batch, seed)
        )
    monkeypatch.setattr(preparing, "learn", lambda *_, **options: noted.append(options["steps"]) or History())
    [*preparing.run(replace(small(RECIPES["nano-chat"]), seed=3), lambda stage, model: {})]
    assert noted == [3, 3, 2]
    recipe, noted[:] = replace(small(RECIPES["nano-blip2"]), seed=5), []
    monkeypatch.setattr(
        scenes,
        "sample",
        lambda split, count, seed, objects: noted.append((seed, objects)) or sample(split, 9),
    )
    monkeypatch.setattr(
        connectors.nano,
        "lessons",
        lambda model, batch, *given, **paired: noted.append((*given, paired)) or (0, 0),
    )
    monkeypatch.setattr(Speaker, "tune", lambda *_, **options: noted.append(options))
    model = connectors.new_model(recipe)
    connectors.make_connected(recipe, recipe.stages[0], model, precision="no")
    seed, given, options = noted
    assert seed == (5, (1, 4)) and given == (5, 0.25, None, {})
    assert options["seed"] == 5 and options["precision"] == "no"
    noted.clear()
    connectors.make_connected(recipe, recipe.stages[1], model)
    # the last stage sees other scenes
    assert noted[:2] == [(6, (1, 4)), (6, 0.25, 0.0, {})] and noted[2]["seed"] == 5
    blip = replace(small(RECIPES["nano-blip"]), seed=5)
    pairs = blip.stage("pairs")
    noted.clear()
    connectors.make_connected(blip, pairs, connectors.new_model(blip))
    assert noted[:2] == [(7, (2, 4)), (7, 0.25, None, {"relations": 5})]
    t5 = replace(small(RECIPES["nano-blip2-t5"]), seed=5)
    noted.clear()
    connectors.make_connected(t5, t5.stage("pairs"), connectors.new_model(t5))
    assert noted[:2] == [(7, (2, 2)), (7, 0.25, None, {"relations": 6, "comparisons": 2, "orders": 3})]


def test_a_part_may_begin_as_that_of_another_and_learn_on():
    recipe = small(RECIPES["nano-blip2-t5"])
    theirs = connectors.load_connected("nano-blip2")[0].qformer
    assert not torch.equal(values(connectors.new_model(recipe).qformer), values(theirs))
    model = connectors.new_model(recipe)
    pairs = recipe.stage("pairs")
    connectors.make_connected(recipe, pairs, model, precision="no", schedule=lambda step: 0.0)
    assert torch.equal(values(model.qformer), values(theirs))  # at a rate of 0
    connectors.make_connected(recipe, pairs, model, precision="no")
    assert not torch.equal(values(model.qformer), values(theirs))


def test_a_t5_is_paced_while_it_learns_and_only_then(monkeypatch):
    recipe, noted = small(RECIPES["nano-blip2-t5"]), []
    model, tune = connectors.new_model(recipe), Speaker.tune

    def noting(speaker, *given, **options):
        words = speaker.model.language
        noted.append((words.decoder[0].cross.scaled, words.encoder_bias.unit))
        return tune(speaker, *given, **options)

    monkeypatch.setattr(Speaker, "tune", noting)
    connectors.make_connected(recipe, recipe.stages[-1], model, precision="no")
    assert noted == [(True, 20)]
    assert not model.language.decoder[0].cross.scaled and model.language.encoder_bias.unit == 1


def test_texts_to_match_are_full_captions_between_their_ends(batch):
    ids, mask = preparing.scene_texts(batch)
    for row, real, caption in zip(ids, mask, captions.captions(batch, "full"), strict=True):
        first, *words, last = row[real].tolist()
        assert (first, last) == (BOS, EOS) and load_tokenizer().decode([words]) == [caption]


def test_a_card_without_a_recipe_is_read_by_the_name_of_its_file(tmp_path):
    path = tmp_path / "nano-flamingo.safetensors"
    path.write_bytes(shipped(path.name).read_bytes())
    card = json.loads(shipped("nano-flamingo.json").read_text())
    path.with_suffix(".json").write_text(json.dumps({k: v for k, v in card.items() if k != "recipe"}))
    one, other = connectors.load_connected(str(path))[0], connectors.load_connected("nano-flamingo")[0]
    assert torch.equal(values(one), values(other)) and not one.training


def test_who_reads_and_who_writes():
    two = {name for name in NAMES if isinstance(connectors.new_model(RECIPES[name]), EncoderDecoder)}
    assert two == {"nano-blip", "nano-blip2-t5"}


@pytest.mark.parametrize("name", ["nano-chat", "nano-qformer"])
def test_what_is_prepared_learns_and_keeps_the_eye(name, monkeypatch):
    recipe, models = replace(small(RECIPES[name]), seed=3), []
    new, sample, seeds = preparing.new_prepared(recipe), scenes.sample, []
    before = {key: weight.clone() for key, weight in new.state_dict().items()}
    monkeypatch.setattr(preparing, "new_prepared", lambda recipe: models.append(new) or new)
    monkeypatch.setattr(
        scenes, "sample", lambda *a, seed=0, **b: seeds.append(seed) or sample(*a, seed=seed, **b)
    )
    (made,) = preparing.run(recipe, lambda stage, model: dict(precision="no"))
    assert models == [new] and made.history.steps == 2 and seeds == [3]
    moved = {key for key, weight in new.state_dict().items() if not torch.equal(weight, before[key])}
    assert moved and not {key for key in moved if key.startswith("vision.")}
    assert moved <= {*made.stored.state_dict()} and "vision" not in dict(made.stored.named_children())


@pytest.mark.parametrize("new", [connectors.new_model, preparing.new_prepared])
def test_a_seed_alone_decides_how_a_new_model_begins(new):
    recipe, models = RECIPES["nano-blip2" if new is connectors.new_model else "nano-qformer"], []
    for before, seed in ((1, 0), (2, 0), (1, 4)):
        torch.manual_seed(before)
        models.append(values(new(replace(recipe, seed=seed))))
    assert torch.equal(models[0], models[1]) and not torch.equal(models[0], models[2])


def test_a_variant_may_take_a_part_of_a_stage_that_is_shipped():
    recipe = replace(RECIPES["nano-flamingo"], start=dict(language="nano-words"))
    words = nano.load_vlm("nano-words")[0].language
    assert torch.equal(values(connectors.new_model(recipe).language), values(words))


def test_a_new_matcher_has_the_eye_of_nano_vlm():
    eye = nano.load_vlm("nano-vlm")[0].vision
    assert torch.equal(values(preparing.new_prepared(RECIPES["nano-qformer"]).vision), values(eye))


def test_what_is_prepared_is_measured_on_scenes_never_seen(monkeypatch):
    asked, sample = [], scenes.sample
    monkeypatch.setattr(
        scenes, "sample", lambda split, count, **more: asked.append(split) or sample(split, 20)
    )
    matcher = preparing.new_prepared(RECIPES["nano-qformer"]).eval()
    monkeypatch.setattr(matcher, "alike", lambda images, texts: torch.eye(20).roll(1, 1) + 2 * torch.eye(20))
    assert preparing.measure_matches(matcher, 20) == {"text found first": 1.0, "image found first": 1.0}
    monkeypatch.setattr(matcher, "alike", lambda images, texts: torch.eye(20).roll(1, 1))
    assert preparing.measure_matches(matcher, 20) == {"text found first": 0.0, "image found first": 0.0}
    chat, _ = preparing.load_prepared("nano-chat")
    read, hidden = [], chat.hidden
    monkeypatch.setattr(chat, "hidden", lambda ids, look: read.append(ids) or hidden(ids, look))
    (surprise,) = preparing.measure_words(chat).values()
    before, _ = nano.load_vlm("nano-words")
    assert surprise < preparing.measure_words(before.language)["surprise by answers, no image"] - 0.3
    assert "train" not in asked and not (read[0] == IMAGE).any()


@pytest.mark.parametrize("start", [["vision"], 5, {"vision": "../../nano-vlm"}, dict(language=1, vision=[])])
def test_a_card_cannot_say_whose_parts_a_model_has(tmp_path, start):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(shipped("nano-minigpt4.safetensors").read_bytes())
    card = json.loads(shipped("nano-minigpt4.json").read_text())
    card["recipe"]["start"] = start
    path.with_suffix(".json").write_text(json.dumps(card))
    speaker, _ = load_speaker(str(path))
    assert speaker.familiar is not None
    assert torch.equal(speaker.model.language.head.weight, nano.load_vlm()[0].language.head.weight)
    card["recipe"]["name"], card["recipe"]["start"] = "nano-vlm", {"vision": "x", "language": "x"}
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError):
        load_speaker(str(path))


def test_words_alone_answer_the_last_line_of_a_prompt():
    model, _ = preparing.load_prepared("nano-chat")
    asked = ["red star: [0, 0, 1, 1]\n\nIs there a red star? Answer in a sentence.", "Describe the image."]
    said = preparing.answer_unseen(model, asked, temperature=0)
    assert said[0].startswith(("yes, there is a ", "no, there is no ")) and said[1].startswith("a ")
    alone = ["Is there a red star? Answer in a sentence.", "Describe the image."]
    assert said == preparing.answer_unseen(model, alone, temperature=0)
    drawn = [preparing.answer_unseen(model, alone * 4, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
