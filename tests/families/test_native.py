"""nano-native: what it begins with, how it sees pages, what it learns from, and that it can be trained."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from vlmcourse.data.coordinates import read_boxes, spell_box
from vlmcourse.families import making, nano, native, resolving, sights
from vlmcourse.families.estimating import LARGEST_PAGE, estimate_recipe, rows_of_step
from vlmcourse.recipes.nano_native import NANO_NATIVE
from vlmcourse.speak import Speaker
from vlmcourse.training.checkpoints import save_weights
from vlmcourse.world import pages, scenes
from vlmcourse.world.instructions import talks
from vlmcourse.world.pages import place_of_answer
from vlmcourse.world.pointing import BOXED
from vlmcourse.world.render import render, to_tensor

SMALL = replace(
    NANO_NATIVE.stage("pages"),
    steps=2,
    size=2,
    factors={},
    data=dict(pages=4, scenes=2, asked=2, boxes=1, tiled=0.5),
)


@pytest.fixture(scope="module")
def speaker():
    return Speaker(native.new_native())


@pytest.fixture(scope="module")
def batch():
    return pages.sample_pages("test", 12)


def test_it_begins_with_what_nano_vlm_says_of_scenes(speaker):
    old, _ = nano.load_vlm()
    images = to_tensor(render(scenes.sample("test", 2)))
    with torch.no_grad():
        theirs, ours = old.image_features(images), speaker.model.image_features(images)
        torch.testing.assert_close(torch.stack(ours.split()), theirs)
        # a token is what nano-vlm's projector makes of the mean of four patches
        squares = theirs.reshape(2, 4, 2, 4, 2, 96).mean((2, 4)).flatten(1, 2)
        torch.testing.assert_close(torch.stack(speaker.model.connect(ours).split()), old.projector(squares))
    assert ours.grids == ((8, 8), (8, 8)) and speaker.model.tokens_per_image == 16
    for name, weight in old.language.state_dict().items():
        assert torch.equal(speaker.model.language.state_dict()[name], weight), name


def test_a_page_is_seen_in_each_way_for_its_budget(speaker):
    page = pages.sample_pages("test", 1, sizes=[(64, 256)]).pictures[0]
    whole = sights.show_page(page, "native", 64)
    assert torch.equal(whole, to_tensor(page[None]))  # 4 × 16 tokens are not too many, and it never grows
    assert torch.equal(sights.show_page(page, "native", 512), whole)
    assert sights.show_page(page, "native", 63).shape == (1, 3, 64, 240)
    assert sights.show_page(page, "native", 16).shape == (1, 3, 32, 128)
    assert sights.show_page(page, "squash", 16).shape == (1, 3, 64, 64)
    assert sights.show_page(page, "squash", 40).shape == (1, 3, 96, 96)
    tiles = sights.show_page(page, "tiles", 128)  # thumbnail, and four tiles in which the page is whole
    assert tiles.shape == (5, 3, 64, 64)
    assert torch.equal(tiles[1:].permute(1, 2, 0, 3).flatten(2), whole[0])
    seen = sights.collect_sights(speaker.model, [whole, tiles])
    assert seen.pieces.tolist() == [1, 5] and seen.tokens().tolist() == [64, 80]
    with pytest.raises(ValueError, match="holds no thumbnail"):
        sights.show_page(page, "tiles", 15)
    with pytest.raises(ValueError, match="unknown way 'peek'"):
        sights.show_page(page, "peek", 64)


@torch.no_grad()
def test_tiles_are_pictures_of_their_own_to_the_eye_and_one_row_to_the_language_model(speaker, batch):
    model = speaker.model
    shown = [sights.show_page(page, "tiles", 128) for page in batch.pictures[:3]]
    shown.append(sights.show_page(batch.pictures[0]))
    seen = sights.collect_sights(model, shown)
    found = sights.sight_features(model, seen.pixels, seen.pieces)
    assert found.grids == seen.pixels.grids and seen.pixels.vectors.dtype == torch.uint8
    for tokens, page in zip(model.connect(found).split(), shown, strict=True):
        alone = [model.image_tokens(piece[None]).vectors for piece in page]
        torch.testing.assert_close(tokens, torch.cat(alone), atol=0.05, rtol=0.01)  # bytes round pixels


def test_lessons_are_about_pages_and_scenes(speaker):
    seen, rows = native.page_lessons(speaker, 6, 3, asked=3, boxes=1, draw=2)
    assert len(seen.pixels) == len(seen.pieces) == len(rows.ids) == 9 and set(seen.pieces.tolist()) == {1}
    drawn, some = pages.sample_pages("train", 6, seed=2), scenes.sample("train", 3, seed=2)
    assert seen.tokens().tolist() == [high * wide / 256 for high, wide in drawn.sizes] + [16] * 3
    first = seen.pixels[:1].vectors.float() / 127.5 - 1
    torch.testing.assert_close(first, speaker.model.vision.cut(to_tensor(drawn.pictures[0][None])).vectors)
    about = native.page_talks(drawn, 3, 1, 2) + talks(some, 2)
    wanted = speaker.encode(about, images=seen.pixels)
    assert all(torch.equal(own, other) for own, other in zip(rows, wanted, strict=True))
    assert ((rows.ids == speaker.words.image).sum(1) == seen.tokens()).all()
    other, _ = native.page_lessons(speaker, 6, 3, asked=3, boxes=1, draw=3)
    assert other.pixels.grids != seen.pixels.grids


def test_shares_of_pages_are_tiled_or_smaller(speaker):
    sizes = [high * wide / 256 for high, wide in pages.sample_pages("train", 40).sizes]
    options = dict(pages=40, scenes=1, asked=1, boxes=0)
    tiled = native.page_lessons(speaker, **options, tiled=0.5)[0]
    assert 10 < (tiled.pieces > 1).sum() < 25
    small = native.page_lessons(speaker, **options, shrunk=1.0)[0]
    assert (small.pieces == 1).all() and small.tokens().max() <= 64
    assert sum(a < b for a, b in zip(small.tokens().tolist(), sizes, strict=False)) > 15


def test_what_is_asked_of_a_page_is_true_and_asked_once():
    drawn = pages.sample_pages("train", 40)
    kinds = set()
    for number, row in enumerate(native.page_talks(drawn, 4, 2, seed=1)):
        assert len(dict(row)) == len(row)
        assert row[0] == (pages.READ, pages.read_page(drawn, number))
        row = row[1:]
        plain, boxed = ([pair for pair in row if pair[0].endswith(BOXED) == told] for told in (False, True))
        asked = drawn.asked[number]
        assert len(plain) == min(4, sum(one.kind != "where" for one in asked)) and len(boxed) <= 2
        assert set(plain) <= {(one.text, one.answer) for one in asked}
        for _, answer in boxed:
            kinds.add(drawn.kinds[number])
            told = {spell_box(box, drawn.sizes[number]) for one in asked for box in one.boxes}
            assert answer in told and len(read_boxes(answer, drawn.sizes[number])) == 1
    assert kinds == set(pages.PAGE_KINDS)


def test_what_a_box_is_asked_for_by():
    size, box = (100, 200), (20, 10, 40, 20)
    for kind, text, wanted in (
        ("word", "What is written?", "Where is the word? Answer with a box."),
        ("cell", "What is in row b, column y?", "Where is the number in row b, column y? Answer with a box."),
        ("height", "How long is the red bar?", "Where is the red bar? Answer with a box."),
    ):
        question = pages.PageQuestion(kind, text, "7", (box,))
        assert native.place_of_answer(question, size) == (wanted, "[100, 100, 200, 200]")
    assert native.place_of_answer(pages.PageQuestion("count", "How many?", "2", (box,)), size) is None
    asked = pages.PageQuestion("where", "Where is it?", "[1, 2, 3, 4]", (box,))
    assert native.place_of_answer(asked, size) == ("Where is it?", "[1, 2, 3, 4]")


def test_all_parts_learn_and_a_run_goes_on_where_it_was_broken_off(tmp_path):
    origin = dict(recipe="nano-native", **asdict(SMALL))
    options = dict(origin=origin, precision="no")
    whole, part, again = native.new_native(), native.new_native(), native.new_native()
    before = {name: weight.clone() for name, weight in whole.state_dict().items()}
    history = native.make_native(SMALL, whole, checkpoint=tmp_path / "whole", **options)
    assert history.steps == 2
    moved = {name for name, weight in whole.state_dict().items() if not torch.equal(weight, before[name])}
    assert {"vision", "projector", "language"} == {name.partition(".")[0] for name in moved}
    native.make_native(SMALL, part, steps=1, checkpoint=tmp_path / "part", **options)
    native.make_native(SMALL, again, checkpoint=tmp_path / "part", resume=True, **options)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_the_first_loss_is_that_of_the_untrained_model(speaker):
    seen, rows = native.page_lessons(speaker, 2, 1, asked=2, boxes=1)
    history = native.tune_native(native.new_native(), seen, rows, steps=1, size=3, precision="no")
    with torch.no_grad():
        found = sights.sight_features(speaker.model, *seen)
        wanted = nano.by_length(speaker.hidden(found, rows), rows, speaker.model.head)
    assert history.losses[0] == pytest.approx(wanted.item(), rel=1e-4)


def test_an_eye_that_does_not_learn_reads_every_page_once(speaker, monkeypatch):
    seen, rows = native.page_lessons(speaker, 3, 1, asked=2, boxes=1, tiled=0.5)
    read, times = native.sight_features, []
    for module in (native, sights):
        monkeypatch.setattr(module, "sight_features", lambda *given: times.append(1) or read(*given))
    losses, models = [], []
    for factor in (0, 0.1):
        model, stage = native.new_native(), replace(native.PAGES_STAGE, factors=dict(vision=factor))
        times.clear()
        history = native.tune_native(model, seen, rows, steps=3, size=2, stage=stage, precision="no")
        losses.append(history.losses), models.append(model)
        assert len(times) == (3 if factor else 1)
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.01)  # kept in bf16
    for weight, new in zip(
        models[0].vision.parameters(), native.new_native().vision.parameters(), strict=True
    ):
        assert torch.equal(weight, new)
    weights = [model.projector.contract.weight for model in (*models, native.new_native())]
    assert not torch.equal(weights[0], weights[2])


def test_only_pages_of_so_many_tokens_are_drawn(speaker):
    seen, _ = native.page_lessons(speaker, 40, 1, asked=1, boxes=0, most=32)
    assert seen.tokens().max() == 32 and {*seen.tokens().tolist()} == {16, 32}
    assert native.page_lessons(speaker, 40, 1, asked=1, boxes=0)[0].tokens().max() == 128


def test_with_all_tokens_kept_a_pruned_reader_is_right_where_the_whole_one_is(speaker):
    batch = pages.sample_pages("test", 10, kind="marks", sizes=[(64, 64), (64, 128)])
    exam = resolving.about_pages(batch)
    said = speaker.answer(batch.pictures, exam.questions, resolving.ANSWER_TOKENS, 50)
    known = replace(exam, answers=tuple(said[:6]) + ("other",) * 4)  # as if it were right six times
    for way in resolving.PRUNING_WAYS:
        found = resolving.pruned_scores(speaker, known, 1.0, way)
        assert found == {"marks": pytest.approx(0.6), "all": pytest.approx(0.6)}
    few = resolving.pruned_scores(speaker, known, 0.1, "evenly")
    assert few["all"] < 0.6
    assert few != resolving.pruned_scores(speaker, known, 0.1, "evenly", layer=3)


def test_what_is_kept_hangs_on_way_share_and_seed(speaker, monkeypatch):
    kept = []

    class Reader(resolving.PrunedReader):
        def __init__(self, model, layer, span, k, scores):
            super().__init__(model, layer, span, k, scores)
            kept.append((layer, span[1] - span[0], k, None if scores is None else scores[0].tolist()))

    monkeypatch.setattr(resolving, "PrunedReader", Reader)
    exam = resolving.about_pages(pages.sample_pages("test", 1, sizes=[(64, 128)]))
    for way, seed in (("attention", 0), ("evenly", 0), ("random", 0), ("random", 1)):
        resolving.pruned_scores(speaker, exam, 0.3, way, layer=2, seed=seed)
    assert [row[:3] for row in kept] == [(2, 32, 10)] * 4  # 4 × 8 tokens, three tenths of them
    attention, evenly, first, second = (row[3] for row in kept)
    assert attention is None and evenly == resolving.spread_scores(4, 8).tolist() and first != second
    resolving.pruned_scores(speaker, exam, 0.001, "evenly")
    assert kept[-1][2] == 1
    for wrong in (dict(share=0.0), dict(share=1.1), dict(share=0.5, way="luck")):
        with pytest.raises(ValueError, match="keep more than 0 and at most 1, by attention, evenly, random"):
            resolving.pruned_scores(speaker, exam, **wrong)


def test_a_trial_of_few_steps_makes_no_more_lessons_than_it_needs(monkeypatch):
    asked = []
    monkeypatch.setattr(native, "page_lessons", lambda _, **data: asked.append(data) or ())
    monkeypatch.setattr(native, "tune_native", lambda *_, **__: None)
    monkeypatch.setattr(native, "Speaker", lambda model: None)
    stage = replace(native.PAGES_STAGE, size=8, data=dict(pages=800, scenes=300, draw=5))
    for steps in (11, 1000):
        native.make_native(replace(stage, steps=steps), None)
    assert asked == [dict(pages=128, scenes=48, draw=5, seed=0), dict(pages=800, scenes=300, draw=5, seed=0)]


def test_the_eye_learns_on_with_the_same_reader_and_other_pages(monkeypatch):
    seen = []

    def watch(reader, pictures, things, **options):
        seen.append((reader, [page.tobytes() for page in pictures]))
        return None

    monkeypatch.setattr(native, "teach_patches", watch)
    stages = [replace(stage, steps=1, size=4) for stage in NANO_NATIVE.stages[:2]]
    list(native.run(replace(NANO_NATIVE, stages=tuple(stages)), lambda *_: {}))
    (reader, pages_first), (again, pages_then) = seen
    assert reader is again and len(pages_first) == len(pages_then) == 9  # 7 pages, 2 scenes
    assert not {*pages_first} & {*pages_then}


def test_a_trained_file_is_asked_by_its_name_and_knows_its_pictures(speaker, tmp_path, monkeypatch):
    path, few = tmp_path / "mine.safetensors", native.pictures(60)
    monkeypatch.setattr(native, "pictures", lambda: few)
    save_weights(speaker.model, path, dict(recipe=NANO_NATIVE.card(), seconds=1))
    making.store_familiar(str(path))
    other, card = making.load_speaker(str(path))
    assert card["recipe"]["name"] == "nano-native" and other.familiar is not None
    page = pages.sample_pages("test", 3).pictures
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    assert other.foreign([*page, noise]).tolist()[3] and not other.foreign(few).float().mean() > 0.1
    question = ["How many things are there?"] * 3
    assert len(other.answer(page, question, 3)) == 3


class Stub:
    """Answers right about pages that it knows by their pixels, and nothing about any others."""

    def __init__(self, batch):
        self.known = {page.tobytes(): asked for page, asked in zip(batch.pictures, batch.asked, strict=True)}

    def answer(self, images, questions, steps=64, batch=200):
        said = []
        for image, text in zip(images, questions, strict=True):
            asked = self.known.get(image.tobytes(), [])
            placed = (place_of_answer(one, image.shape[:2]) for one in asked)
            known = {one.text: one.answer for one in asked} | dict(one for one in placed if one)
            said.append(known.get(text, ""))
        return said


def test_words_and_boxes_are_graded_beside_blank_and_mean_box():
    batch = pages.sample_pages("test", 40)
    stub = Stub(batch)
    errors = resolving.reading_errors(stub, batch)
    assert errors["native"] == 0 and errors["blank"] == 1 and set(errors) == {"native", "squash", "blank"}
    marks = pages.sample_pages("test", 12, kind="marks")
    boxes = resolving.page_boxes(stub, batch, marks)
    assert boxes["told: mean IoU"] > 0.8 and boxes["told: IoU at least 0.5"] == 1
    assert boxes["told: middle in the box"] == 1 and boxes["blank: middle in the box"] == 0
    assert boxes["blank: mean IoU"] == 0 and 0 <= boxes["mean box: mean IoU"] < 0.3
    with pytest.raises(ValueError, match="no word on any of these pages"):
        resolving.reading_errors(stub, marks)


def test_a_question_of_each_page_is_graded_and_none_asks_for_a_box(batch):
    exam = resolving.about_pages(batch)
    for text, answer, asked in zip(exam.questions, exam.answers, batch.asked, strict=True):
        assert any((one.text, one.answer) == (text, answer) and one.kind != "where" for one in asked)
    assert resolving.about_pages(batch, 1).questions != exam.questions
    blank = exam.blank()
    assert {int(page.min()) for page in blank.pictures} == {int(page.max()) for page in blank.pictures}
    assert blank.questions == exam.questions and [p.shape for p in blank.pictures] == [
        p.shape for p in batch.pictures
    ]


def test_the_blind_control_is_of_the_same_questions(speaker, batch, monkeypatch):
    """A grader that is right where a page is not empty."""

    def sees(_, seen, rows):
        return torch.tensor([len(torch.unique(page)) > 1 for page in seen.pixels.split()])

    monkeypatch.setattr(resolving, "grade_sights", sees)
    scores = resolving.page_controls(speaker, resolving.about_pages(batch))
    seen = {name for name in scores if not name.endswith("blank")}
    assert set(scores) == seen | {f"{kind}, blank" for kind in seen} and "all" in seen
    assert all(share == (0 if name.endswith("blank") else 1) for name, share in scores.items())


def test_answers_are_graded_word_for_word_at_every_size(speaker, batch):
    """As the model writes them, which is slower."""
    said = speaker.answer(batch.pictures[:4], ["Is there a star?"] * 4, 4)
    shown = sights.collect_sights(speaker.model, [sights.show_page(page, "native", 512) for page in
                                                  batch.pictures[:4]])  # fmt: skip
    rows = speaker.encode([[("Is there a star?", text)] for text in said], images=shown.pixels)
    assert sights.grade_sights(speaker, shown, rows).tolist() == [True] * 4
    rows = speaker.encode([[("Is there a star?", f"{text} x")] for text in said], images=shown.pixels)
    assert not sights.grade_sights(speaker, shown, rows).any()


def test_the_card_has_every_number(speaker):
    metrics = resolving.measure_native(speaker, 6)
    assert json.loads(json.dumps(metrics)) == metrics
    for name in ("pages: all", "pages: all, blank", "letters wrong: squash", "boxes, marks: told: mean IoU",
                 "boxes, all: mean box: IoU at least 0.5", "boxes, words: told: middle in the box",
                 "squash 16: all", "squash 16: tokens", "tiles 128: all",
                 "native 16: tokens", "native 256: all", "scenes, as nano-vlm"):  # fmt: skip
        assert name in metrics, name
    assert metrics["squash 16: tokens"] == 16 and metrics["native 16: tokens"] <= 16
    assert metrics["native 32: tokens"] <= 32 < metrics["native 256: tokens"]
    assert metrics["native 256: all"] == metrics["pages: all"]


def test_the_recipe_ships_its_last_stage_and_its_eye_is_counted_with_the_largest_page():
    assert [stage.ships for stage in NANO_NATIVE.stages] == [None] * 4 + ["nano-native"]
    pictures = [rows_of_step(NANO_NATIVE, stage) * stage.steps for stage in NANO_NATIVE.stages]
    assert pictures == [stage.size * stage.steps for stage in NANO_NATIVE.stages]
    assert LARGEST_PAGE == 512
    model = native.new_native()
    eye, bridge, words = (
        sum(weight.numel() for weight in part.parameters())
        for part in (model.vision, model.projector, model.language)
    )
    # 4 for the first part, whose pixels need no gradient; rows of 512 tokens
    wanted = sum(pictures) * (4 * 513 * eye + 6 * 65 * bridge + 6 * 512 * words)
    assert sum(cost.operations for cost in estimate_recipe(NANO_NATIVE)) == pytest.approx(wanted, rel=0.01)
