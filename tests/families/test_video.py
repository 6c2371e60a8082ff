"""nano-video: what it begins with, what it learns from, and that it can be trained, broken off and stored."""

from dataclasses import asdict, replace

import pytest
import torch
import transformers

from vlmcourse.data.packing import Packs
from vlmcourse.diagnostics.share import prompt_looks
from vlmcourse.families import making, nano, video
from vlmcourse.families.connectors import own_parts
from vlmcourse.interop import llava
from vlmcourse.recipes.nano_video import NANO_VIDEO
from vlmcourse.training.checkpoints import CheckpointError, save_weights
from vlmcourse.world import changes, grammar, motion, pointing, scenes
from vlmcourse.world.instructions import talks
from vlmcourse.world.render import render, to_tensor

SMALL = replace(
    video.STAGE, steps=2, size=2, data=dict(groups=4, pictures=1, pairs=2, clips=2, compared=1, weight=2.0)
)


@pytest.fixture(scope="module")
def speaker():
    return video.video_speaker(video.new_video())


@pytest.fixture(scope="module")
def found(speaker):
    return video.frame_lessons(speaker, 6, 1, 3, 2)


def test_it_begins_as_nano_vlm_with_more_words(speaker):
    old, _ = nano.load_vlm()
    mine, theirs = speaker.model.state_dict(), old.state_dict()
    for name, weight in theirs.items():
        assert torch.equal(mine[name][: len(weight)], weight), name
    assert speaker.model.language.embedding.weight is speaker.model.language.head.weight
    assert len(mine["language.embedding.weight"]) == 1024 + 256
    images = render(scenes.sample("test", 3))
    questions = ["How many things are there?"] * 3
    assert speaker.answer(images, questions) == nano.Speaker(old).answer(images, questions)


def test_vectors_of_near_places_are_near():
    vectors = video.place_vectors(16, 128)
    assert vectors.shape == (256, 128) and vectors.square().mean().sqrt() == pytest.approx(1.0)
    grid = vectors.unflatten(0, (16, 16))
    near = (grid[:, 1:] - grid[:, :-1]).norm(dim=-1).mean(), (grid[1:] - grid[:-1]).norm(dim=-1).mean()
    far = (grid[:, 8:] - grid[:, :8]).norm(dim=-1).mean(), (grid[8:] - grid[:8]).norm(dim=-1).mean()
    assert max(near) < 0.5 * min(far)
    assert torch.equal(vectors, video.place_vectors(16, 128)) and len(torch.unique(vectors, dim=0)) == 256
    assert not torch.equal(vectors, video.place_vectors(16, 128, seed=1))


def test_lessons_are_about_pictures_pairs_and_clips(speaker, found):
    assert {kind: len(features) for kind, (features, _) in found.items()} == dict(
        pictures=6, pairs=18, clips=12
    )
    assert [features.shape[1:-2] for features, _ in found.values()] == [(), (2,), (4,)]
    assert all(len(rows.ids) == len(features) for features, rows in found.values())
    clips = [motion.sample_clips("train", 6, seed=3, path=path) for path in motion.PATHS]
    for number, path in enumerate(clips):  # straight and round take turns
        one = speaker.features(path.pictures(), 500, torch.bfloat16)
        assert torch.equal(found["clips"][0][number::2], one)
        alone = speaker.encode(video.clip_talks(path, 3), path.stamps())
        for column, own in zip(found["clips"][1], alone, strict=True):
            assert torch.equal(column[number::2, : own.shape[1]], own)
    other = video.frame_lessons(speaker, 6, 1, 3, 2, seed=1)
    assert not torch.equal(other["pairs"][0], found["pairs"][0])


def test_every_part_of_a_second_picture_says_whether_it_changed(speaker):
    pairs = changes.sample_changes("train", 4)
    images, rows = pairs.pictures(), speaker.encode(video.pair_talks(pairs, 0), video.PAIR)
    marked = video.mark_changes(speaker, images, rows)
    assert torch.equal(marked.ids, rows.ids) and torch.equal(marked.packs, rows.packs)
    (no,), (yes,) = speaker.words.number(["no", "yes"])
    second = (rows.ids[0] == 4).nonzero()[16:, 0].tolist()
    for number, (before, after) in enumerate(images):
        for part, place in enumerate(second):
            row, column = 16 * (part // 4), 16 * (part % 4)
            square = slice(row, row + 16), slice(column, column + 16)
            wanted = yes if (before[square] != after[square]).any() else no
            assert marked.labels[number, place + 1] == wanted
    others = torch.ones(rows.ids.shape[1], dtype=torch.bool)
    others[[place + 1 for place in second]] = False
    assert torch.equal(marked.labels[:, others], rows.labels[:, others])
    assert {yes, no} == set(marked.labels[:, [place + 1 for place in second]].flatten().tolist())
    plain, taught = (
        video.frame_lessons(speaker, 2, 1, 2, 2, marked=with_marks) for with_marks in (False, True)
    )
    assert (plain["pairs"][1].labels != taught["pairs"][1].labels).sum(1).tolist() == [16] * 4
    assert torch.equal(plain["clips"][1].labels, taught["clips"][1].labels)


def test_every_part_of_a_second_picture_says_what_was_there_before(speaker):
    wanted = {  # what is written at the parts where something differs, by what became of the thing
        "vanished": lambda was: {was},
        "colour": lambda was: {was},
        "appeared": lambda was: {"yes"},
        "position": lambda was: {was, "mo"},
    }
    for kind, words in wanted.items():
        pairs = changes.sample_changes("train", 6, kind=kind)
        images = pairs.pictures()
        rows = speaker.encode([[(changes.WHAT_CHANGED, text)] for text in pairs.sentences()], video.PAIR)
        marked = video.mark_looks(speaker, pairs, rows)
        assert torch.equal(marked.ids, rows.ids) and torch.equal(marked.packs, rows.packs)
        second = (rows.ids[0] == 4).nonzero()[16:, 0]
        assert len(second) == 16
        for number, truth in enumerate(pairs.truths()):
            said = [speaker.words.spell([[n]])[0] for n in marked.labels[number, second + 1].tolist()]
            before, after = images[number]
            differ = (before != after).any(-1).reshape(4, 16, 4, 16).any((1, 3)).flatten()
            assert [word != "no" for word in said] == differ.tolist()
            colour = scenes.COLOURS[truth.who.colour]
            assert {said[part] for part in range(16) if differ[part]} == words(colour)
            paper = before[0, 0]  # where the thing stood there was more than paper
            was = (before != paper).any(-1).reshape(4, 16, 4, 16).any((1, 3)).flatten()
            assert all(was[part] for part in range(16) if said[part] == colour)
        others = torch.ones(rows.ids.shape[1], dtype=torch.bool)
        others[second + 1] = False
        assert torch.equal(marked.labels[:, others], rows.labels[:, others])


def test_a_thing_that_grows_is_new_where_it_was_not(speaker):
    pairs = changes.sample_changes("train", 60, kind="size")
    rows = speaker.encode([[(changes.WHAT_CHANGED, text)] for text in pairs.sentences()], video.PAIR)
    labels = video.mark_looks(speaker, pairs, rows).labels
    second = (rows.ids[0] == 4).nonzero()[16:, 0]
    yes, grown = speaker.words.number(["yes"])[0][0], 0
    for number in range(60):
        before, after = pairs.things(number)
        (old,), (new,) = set(before) - set(after), set(after) - set(before)
        news = labels[number, second + 1] == yes
        grown += bool(news.any())
        assert not (new.size < old.size and news.any())
    assert grown > 5


def test_compared_pairs_are_shown_in_both_orders_with_what_is_true_then(speaker):
    features, rows = video.compared_pairs(speaker, 3, seed=5)
    pairs = changes.sample_changes("train", 3, seed=5)
    assert len(features) == len(rows.ids) == 6
    assert torch.equal(features[0::2], features[1::2].flip(1)) and not torch.equal(features[0], features[1])
    for offset, order in enumerate((pairs, pairs.swapped())):
        asked = [[(changes.WHAT_CHANGED, text)] for text in order.sentences()]
        alone = video.mark_looks(speaker, order, speaker.encode(asked, video.PAIR))
        for column, own in zip(rows, alone, strict=True):
            assert torch.equal(column[offset::2, : own.shape[1]], own)
    found = video.frame_lessons(speaker, 2, 1, 1, 2, compared=3)
    assert list(found) == ["pictures", "pairs", "clips", "compared"] and len(found["compared"][0]) == 12
    assert "compared" not in video.frame_lessons(speaker, 2, 1, 1, 2)


def test_every_answer_it_learns_is_true():
    pairs = changes.sample_changes("train", 20)
    for number, row in enumerate(video.pair_talks(pairs, 0)):
        assert len(set(row)) == len(row) >= 5 and row[0][0] == changes.WHAT_CHANGED
        assert changes.read_change(row[0][1]) == pairs.truths()[number]
        for text, answer in row[1:]:
            ordinal, _, question = text.removeprefix("In the ").partition(" picture, ")
            things = pairs.things(number)[changes.ORDINALS.index(ordinal)]
            if question.endswith(pointing.BOXED):
                who = grammar.understand(question.removesuffix(pointing.BOXED)).who
                assert answer == pointing.write_box(who.only(things))
            else:
                assert grammar.true_answer(question, things) == answer
    clips = motion.sample_clips("train", 20)
    for number, row in enumerate(video.clip_talks(clips, 0)):
        assert row[0] == (clips.questions()[number], clips.answers()[number]) and len(row) >= 2
        for text, answer in row[1:]:
            question, _, time = text.removesuffix(pointing.BOXED).removesuffix("?").partition(" at ")
            things = clips.things(number)[int(float(time.split()[0]))]
            thing = clips.moving()[number].only(things)
            boxed = text.endswith(pointing.BOXED)
            assert answer == (pointing.write_box(thing) if boxed else scenes.PLACES[thing.position])
    batch = scenes.sample("train", 5)
    boxes = [pointing.point_talks(batch, seed) for seed in (0, 1)]
    for about, old, *told in zip(video.picture_talks(batch, 0), talks(batch, 0), *boxes, strict=True):
        assert about == old + told[0] + told[1] and len(about) >= 10


def test_the_loss_is_that_of_all_kinds_and_the_eye_stays(speaker, found, monkeypatch):
    model = video.new_video()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    seen = []
    history = video.tune_video(
        model, found, steps=2, size=2, stage=replace(SMALL, data=dict(groups=6)),
        watch=lambda step, **numbers: seen.append(numbers),
    )  # fmt: skip
    assert history.steps == 2 and {"pictures", "pairs", "clips"} <= set(seen[0])
    parts = sum(float(seen[0][kind]) for kind in found)
    assert float(seen[0]["loss"]) == pytest.approx(parts, rel=1e-2)
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert not any(name.startswith("vision.") for name in moved)
    assert {"language.embedding.weight", "projector.contract.weight"} <= moved


def test_compared_pairs_count_as_often_as_the_stage_says(speaker):
    lessons = video.frame_lessons(speaker, 2, 1, 1, 2, compared=1)
    losses, first = {}, {}
    for weight in (1.0, 4.0):
        stage = replace(SMALL, data=dict(groups=2, weight=weight))
        options = dict(steps=1, size=2, stage=stage, precision="no")
        watch = lambda step, **numbers: first.update(numbers)  # noqa: E731
        losses[weight] = video.tune_video(video.new_video(), lessons, watch=watch, **options).losses[0]
    kinds = sum(float(first[kind]) for kind in ("pictures", "pairs", "clips"))
    assert losses[1.0] == pytest.approx(kinds + float(first["compared"]), rel=1e-4)
    assert losses[4.0] == pytest.approx(kinds + 4 * float(first["compared"]), rel=1e-4)


def test_a_kind_weighs_as_its_rows_alone(speaker, found):
    """The loss of the first step is that of the untrained model on the same rows."""
    features, rows = found["pairs"]
    only = {"pairs": (features, rows)}
    history = video.tune_video(
        video.new_video(), only, steps=1, size=6, stage=replace(SMALL, data=dict(groups=6)), precision="no"
    )
    hidden = speaker.hidden(features.float(), Packs(*rows).cut())
    wanted = nano.by_length(hidden, rows.cut(), speaker.model.head)
    assert history.losses[0] == pytest.approx(wanted.item(), rel=1e-4)


def test_a_run_that_was_broken_off_goes_on_as_if_it_had_not_been(tmp_path):
    origin = dict(recipe="nano-video", **asdict(SMALL))
    whole = video.new_video()
    video.make_video(SMALL, whole, checkpoint=tmp_path / "whole", origin=origin)
    part = video.new_video()
    video.make_video(SMALL, part, steps=1, checkpoint=tmp_path / "part", origin=origin)
    again = video.new_video()
    history = video.make_video(SMALL, again, checkpoint=tmp_path / "part", origin=origin, resume=True)
    assert history.steps == 2
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_a_trial_of_few_steps_makes_no_more_lessons_than_it_needs(monkeypatch):
    asked = []

    def few(speaker, **options):
        asked.append(options["groups"])
        return {}

    monkeypatch.setattr(video, "frame_lessons", few)
    monkeypatch.setattr(video, "video_speaker", lambda model: None)
    monkeypatch.setattr(video, "tune_video", lambda *_, stage, **__: asked.append(stage.data["groups"]))
    recipe = NANO_VIDEO.short(1)
    for stage in (*recipe.stages, *NANO_VIDEO.stages):
        video.make_video(stage, None)
    wanted = [2 * stage.size for stage in recipe.stages] + [s.data["groups"] for s in NANO_VIDEO.stages]
    assert asked[::2] == asked[1::2] == wanted


def test_a_stored_model_holds_its_own_parts_and_is_asked_by_name_of_its_file(speaker, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_weights(own_parts(speaker.model, NANO_VIDEO), path, dict(recipe=NANO_VIDEO.card(), seconds=1))
    assert path.stat().st_size < 2 * 2_050_000  # fp32 would be twice that
    other, card = making.load_speaker(str(path))
    assert card["recipe"]["name"] == "nano-video" and other.familiar is not None
    images = render(scenes.sample("test", 2))
    assert not other.foreign(images).any()
    pairs = changes.sample_changes("test", 2)
    asked = [changes.WHAT_CHANGED] * 2
    before = ("first picture", "second picture")
    assert other.answer(pairs.pictures(), asked, 4, before=before) == speaker.answer(
        pairs.pictures(), asked, 4, before=before
    )
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(CheckpointError):
        video.load_video(str(path))


def test_a_folder_for_transformers_knows_the_words_for_places(speaker, tmp_path):
    llava.save_folder(speaker.model, tmp_path / "new", speaker.words.tokenizer)
    theirs = transformers.LlavaForConditionalGeneration.from_pretrained(tmp_path / "new").eval()
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "new")
    assert len(processor.tokenizer) == theirs.config.text_config.vocab_size == 1024 + 256
    word = pointing.location_words()[7]
    assert processor.tokenizer(word, add_special_tokens=False)["input_ids"] == [1024 + 7]
    assert processor.tokenizer.decode([1024 + 7]) == word
    assert speaker.words.tokenizer.tokens([1024 + 7]) == [word]
    prompt, _ = speaker.words.prompts(["Where is it?"], 64)
    pixels = to_tensor(render(scenes.sample("test", 1)))
    with torch.no_grad():
        ours = speaker.model.head(speaker.model.hidden(prompt, pixels))
        other = theirs(input_ids=prompt, pixel_values=pixels).logits
    assert torch.allclose(ours, other, atol=1e-3)
    image = render(scenes.sample("test", 1))[0]
    assert word in prompt_looks(speaker, image, f"What is at {word}?").tokens
