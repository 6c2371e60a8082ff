"""Which words a drawing deserves, and a projector that learns to choose them."""

import numpy as np
import pytest
import torch

from vlmcourse.data import openmoji
from vlmcourse.data.redrawing import Move, redraw, some_moves
from vlmcourse.families import redrawn
from vlmcourse.interop.summary import SummaryEye
from vlmcourse.models.choosing import ChoosingProjector
from vlmcourse.models.language import LlamaConfig
from vlmcourse.models.llava import LlavaConfig
from vlmcourse.models.vit import ViT, ViTConfig


def test_words_of_a_drawing():
    part = openmoji.Parts("playing water polo now", "woman", "medium-dark")
    assert redrawn.words_of(part) == ["playing", "water", "polo now", "woman", "medium-dark"]
    assert redrawn.words_of(openmoji.Parts("astronaut", "man")) == ["astronaut", "", "", "man", ""]


def test_training_shows_people_and_every_held_out_word():
    train, rows = openmoji.load("train"), redrawn.people()
    assert all(train.parts[row].gender or train.parts[row].tone for row in rows) and len(rows) == 1337
    lists = redrawn.word_lists()
    assert lists[3] == ["", "man", "person", "woman"] and set(lists[4]) == {"", *openmoji.TONES}
    for part in openmoji.load("heldout").parts:
        assert all(word in names for names, word in zip(lists, redrawn.words_of(part), strict=True))


def test_the_test_is_on_drawings_that_no_choice_looked_at():
    rows = redrawn.unseen()
    assert len(rows) == len(set(rows)) == 280 and rows.min() >= 0 and rows.max() == 399
    assert not set(rows) & {400 * n // 120 for n in range(120)}


class Words:
    """Numbers for a few words; the last one is <image>."""

    names = ("astronaut", "chef", "cross", "country", "skiing", "woman", "dark", "<image>")

    def __call__(self, text, add_special_tokens):
        assert text.startswith(" ") and not add_special_tokens
        return {"input_ids": [self.names.index(text.strip())]}

    def __len__(self):
        return len(self.names)


def test_a_list_of_words_lies_around_the_mean_of_all_words(monkeypatch):
    torch.manual_seed(0)
    lists = [["", "astronaut", "cross"], ["", "country skiing"], ["", "woman"]]
    monkeypatch.setattr(redrawn, "word_lists", lambda: lists)
    language = type("Language", (), dict(embedding=torch.nn.Embedding(8, 5)))()
    projector = redrawn.new_projector(language, Words(), 12)
    table = language.embedding.weight.detach()
    mean = table[:7].mean(0)  # <image> is no word
    country_skiing = table[3] + table[4] - mean
    expected = torch.stack([mean, table[0], table[2], mean, country_skiing, mean, table[5]])
    torch.testing.assert_close(projector.vectors, expected)
    assert projector.counts == [3, 2, 2] and projector.expand.weight.shape == (redrawn.HIDDEN, 12)


def test_the_eye_and_the_projector_are_exchanged_and_all_is_frozen(monkeypatch):
    vit = ViTConfig(126, 14, width=24, depth=9, heads=3)
    config = LlavaConfig(vit, LlamaConfig(8, 6, 1, 1), image_token=7, layer=-2, shuffle=4, spread=5)
    model = torch.nn.Module()
    model.config, model.language = config, torch.nn.Module()
    model.language.embedding = torch.nn.Embedding(8, 6)
    monkeypatch.setattr(redrawn, "word_lists", lambda: [["", "astronaut"], ["", "woman"]])
    eye = SummaryEye(ViT(vit))
    redrawn.exchange(model.train(), Words(), eye)
    assert model.vision is eye and model.projector.expand.in_features == 72 and not model.training
    expected = LlavaConfig(eye.config, config.language, 7, redrawn.LAYER, redrawn.HIDDEN, 1, 2)
    assert model.config == expected and not any(each.requires_grad for each in model.parameters())


def test_lessons_are_people_as_drawn_and_then_moved_by_chance(monkeypatch):
    seen = []

    def recorded(eye, split, rows, moves=redrawn.UNMOVED):
        seen.append((split, list(rows), moves))
        return torch.full((len(rows), 1, 2), float(len(seen)))

    monkeypatch.setattr(redrawn, "summaries", recorded)
    features, chosen = redrawn.moved_lessons(None, 3)
    rows, count = list(redrawn.people()), 1337
    assert features[:, 0, 0].tolist() == [1.0] * count + [2.0] * count + [3.0] * count
    assert [case[:2] for case in seen] == [("train", rows)] * 3 and seen[0][2] == redrawn.UNMOVED
    for seed in (1, 2):
        moves = some_moves(len(openmoji.load("train")), seed)
        assert seen[seed][2] == [moves[row] for row in rows]
    lists = redrawn.word_lists()
    for n in (0, 500, 1336):
        words = [names[place] for names, place in zip(lists, chosen[n].tolist(), strict=True)]
        assert words == redrawn.words_of(openmoji.load("train").parts[rows[n]])
        assert torch.equal(chosen[n], chosen[n + count]) and torch.equal(chosen[n], chosen[n + 2 * count])
    assert chosen.shape == (3 * count, 5)


def test_the_recipe_trains_with_what_it_says(monkeypatch):
    given, model = {}, type("Model", (), dict(vision="eye", projector="projector"))()
    monkeypatch.setattr(redrawn.real, "load_real", lambda name: (model, "tokenizer", {}))
    monkeypatch.setattr(redrawn, "load_summary", lambda: "dino")
    monkeypatch.setattr(redrawn, "exchange", lambda *parts: given.update(parts=parts))
    monkeypatch.setattr(redrawn, "moved_lessons", lambda eye, rounds: (eye, rounds))
    monkeypatch.setattr(redrawn.real, "speaker", lambda *parts: parts)
    monkeypatch.setattr(redrawn, "measure", lambda speaker: speaker)

    def learned(projector, *lessons, **options):
        given.update(lessons=(projector, *lessons), options=options)
        return "history"

    monkeypatch.setattr(redrawn, "choose_words", learned)
    recipe = redrawn.SMOLLM_DINOV2
    (made,) = redrawn.run(recipe, lambda stage, projector: dict(watch=(stage.name, projector), steps=7))
    assert given["parts"] == (model, "tokenizer", "dino")
    assert given["lessons"] == ("projector", "eye", 5)
    fixed = dict(size=256, lr=3e-3, seed=0, drop=0.2)
    assert given["options"] == fixed | dict(steps=7, watch=("words", "projector"))
    assert (made.stored, made.history, made.measure()) == ("projector", "history", (model, "tokenizer"))
    given.clear()
    list(redrawn.run(recipe, lambda *_: {}))
    assert given["options"] == fixed | dict(steps=1500)


def test_hidden_numbers_are_made_up_for(monkeypatch):
    projector, seen = ChoosingProjector(12, 8, [torch.randn(3, 5), torch.randn(2, 5)]), []
    monkeypatch.setattr(projector, "scores", lambda x: seen.append(x) or [torch.zeros(len(x), 3)] * 2)

    def one_batch(model, batches, loss, **options):
        features = torch.ones(4000, 1, 12)
        seen.append(loss(model, (features, torch.zeros(4000, 2, dtype=int))))
        assert options == dict(steps=3, lr=0.5, precision="no")

    monkeypatch.setattr(redrawn, "learn", one_batch)
    redrawn.choose_words(
        projector, torch.randn(9, 1, 12), torch.zeros(9, 2, dtype=int), steps=3, size=9, lr=0.5, drop=0.25
    )
    shown, loss = seen
    assert shown.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (shown == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert loss.item() == pytest.approx(2 * np.log(3), abs=1e-5)  # the sum over both lists


def test_what_learned_reads_summaries_as_they_are():
    torch.manual_seed(0)
    features, chosen = 30 + 5 * torch.randn(40, 1, 12), torch.randint(2, (40, 2))
    projector = ChoosingProjector(12, 8, [torch.randn(3, 5), torch.randn(2, 5)])
    before = projector.scores((features - features.mean(0)) / features.std(0))
    redrawn.choose_words(projector, features, chosen, steps=1, size=4, lr=0.0)
    for scores, same in zip(projector.scores(features), before, strict=True):
        torch.testing.assert_close(scores, same, atol=1e-4, rtol=0)
    assert not projector.training


def test_sentences_are_graded_under_every_move_and_for_both_eyes(monkeypatch):
    rows, graded = [3, 5, 8, 9], []

    def looked(eye, split, rows, move):
        return torch.tensor([[[float(row), move.right + move.turn + move.scale]] for row in rows])

    class Painter:
        model = type(
            "M",
            (),
            dict(vision="dino", config=type("C", (), dict(vision=type("V", (), dict(image_size=64))))),
        )

        def features(self, images):
            assert images.shape == (4, 64, 64, 3)
            return torch.from_numpy(images).float().mean((1, 2))

    def grade(speaker, features, about, batch):
        assert [len(row) for row in about] == [4] * 4
        graded.append((speaker, features))
        return type("Graded", (), dict(shares=lambda kinds: {kind: 0.123456 for kind in kinds}))

    monkeypatch.setattr(redrawn, "summaries", looked)
    monkeypatch.setattr(redrawn, "grade_sentences", grade)
    other, speaker = Painter(), Painter()
    monkeypatch.setattr(redrawn.real, "load_named", lambda name: (other, {name: "smollm-openmoji"}))
    metrics, of_clip = redrawn.measure(speaker, rows), redrawn.measure_clip(rows)
    cases = ("as drawn", "moved", "scaled", "turned", "another drawing")
    kinds = ("role", "gender", "tone", "full")
    assert set(metrics) == {f"{kind}, {case}" for kind in kinds for case in cases}
    assert set(of_clip) == {f"{kind}, {case}" for kind in kinds for case in cases[:4]}
    assert set(metrics.values()) == set(of_clip.values()) == {0.1235}
    assert [who for who, _ in graded] == [speaker] * 5 + [other] * 4
    moved = [1.0, 1.08, 0.8, 16.0, 1.0]
    places = [[3, 5, 8, 9]] * 4 + [[8, 9, 3, 5]]
    for (_, features), where, move in zip(graded[:5], places, moved, strict=True):
        assert features[:, 0, 0].tolist() == where and features[:, 0, 1].tolist() == pytest.approx([move] * 4)
    for (_, features), move in zip(graded[5:], redrawn.TEST_MOVES.values(), strict=True):
        shown = torch.from_numpy(redraw("heldout", rows, move, 64)).float().mean((1, 2))
        assert torch.equal(features, shown)


def test_the_test_moves():
    moves = [Move(), Move(0.08, 0.08), Move(scale=0.8), Move(turn=15.0)]
    assert list(redrawn.TEST_MOVES.values()) == moves


def test_a_projector_learns_to_choose():
    torch.manual_seed(0)
    chosen = torch.stack([torch.randint(3, (400,)), torch.randint(2, (400,))], 1)
    signs = torch.cat([torch.nn.functional.one_hot(chosen[:, 0], 3), chosen[:, 1:]], 1).float()
    features = (50 + 9 * (signs @ torch.randn(4, 12) + 0.1 * torch.randn(400, 12)))[:, None]
    projector = ChoosingProjector(12, 8, [torch.randn(3, 5), torch.randn(2, 5)])
    history = redrawn.choose_words(projector, features, chosen, steps=120, size=64, lr=0.02)
    assert history.losses[-1] < 0.3 * history.losses[0] and not projector.expand.weight.requires_grad
    right = torch.stack([scores.argmax(1) for scores in projector.scores(features)], 1) == chosen
    assert right.float().mean() > 0.98


class Counted(torch.nn.Module):
    """An eye that counts what it looks at."""

    config = type("Config", (), dict(patch_size=16, width=4))

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.ones(1)), 0

    def patches(self, images, layer):
        self.seen += len(images)
        assert layer == redrawn.LAYER
        return images.mean((2, 3), keepdim=False).repeat(1, 2)[:, None, :4] * self.weight


def test_what_the_eye_said_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    eye, rows = Counted(), np.arange(130)
    first = redrawn.summaries(eye, "heldout", rows)
    assert eye.seen == 130 and first.shape == (130, 1, 4)
    expected = eye.patches(redrawn.to_tensor(redraw("heldout", rows, side=16)), redrawn.LAYER)
    torch.testing.assert_close(first, expected, atol=1e-3, rtol=0)
    eye.seen = 0
    assert torch.equal(redrawn.summaries(eye, "heldout", rows), first) and eye.seen == 0
    broken = sorted((tmp_path / "vlmcourse" / "summaries").iterdir())[0]
    broken.write_bytes(b"half")
    assert torch.equal(redrawn.summaries(eye, "heldout", rows), first) and eye.seen in (30, 100)
    eye.seen = 0
    redrawn.summaries(eye, "heldout", rows, Move(turn=9.0))
    assert eye.seen == 130  # other pixels
    with torch.no_grad():
        eye.weight += 1
    assert (
        redrawn.summaries(eye, "heldout", rows)[0, 0, 0] != pytest.approx(first[0, 0, 0]) and eye.seen == 260
    )
