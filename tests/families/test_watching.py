"""What nano-video is measured by: scores, controls and costs say what they claim of readers we know."""

import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vlmcourse.families import video, watching
from vlmcourse.world import changes, motion, pointing, scenes


@pytest.fixture(scope="module")
def speaker():
    """nano-vlm's weights: it knows pictures, but no row of them yet."""
    return video.video_speaker(video.new_video())


class Reader:
    """Answers by a rule about the pictures of a row: ``rule(images, question)``."""

    def __init__(self, rule):
        self.rule, self.model = rule, SimpleNamespace(tokens_per_frame=1)

    def features(self, images):
        return torch.from_numpy(np.array(images))

    def encode(self, talks, before=None):
        return SimpleNamespace(ids=torch.zeros(1, 1), talks=[row[0] for row in talks])

    def grade(self, images, rows, batch=1):
        said = [self.rule(image.numpy(), asked) for image, (asked, _) in zip(images, rows.talks, strict=True)]
        return torch.tensor([one == right for one, (_, right) in zip(said, rows.talks, strict=True)])

    def answer(self, images, questions, steps=0, batch=0, before=None):
        return [self.rule(image, question) for image, question in zip(images, questions, strict=True)]


def knows(exam):
    """A reader that knows the pictures of an exam and their answers, and is silent about others."""
    table = {
        (row.tobytes(), question): answer
        for row, question, answer in zip(exam.images, exam.questions, exam.answers, strict=True)
    }
    return lambda image, question: table.get((image.tobytes(), question), "")


def test_an_exam_is_right_where_the_answer_is():
    pairs = changes.sample_changes("test", 6)
    exam = watching.about_pairs(pairs)
    assert exam.before == ("first picture", "second picture") and exam.answers == tuple(pairs.sentences())
    rule = knows(exam)
    reader = Reader(lambda image, question: rule(image, question) if image[0, 0, 0, 0] >= 0 else "")
    assert exam.score(reader) == 1.0 and exam.blank().score(reader) == 0.0
    assert exam.says(reader) == list(exam.answers)
    assert (exam.blank().images == 235).all() and exam.blank().answers == exam.answers
    half = exam.shown(np.concatenate([exam.images[:3], exam.blank().images[3:]]))
    assert half.right(reader).tolist() == [True] * 3 + [False] * 3 and half.score(reader) == 0.5


def test_controls_of_changes():
    pairs = changes.sample_changes("test", 8)
    forth, back = watching.about_pairs(pairs), watching.about_pairs(pairs.swapped())
    ordered = [knows(forth), knows(back)]
    reader = Reader(lambda image, asked: ordered[0](image, asked) or ordered[1](image, asked))
    shares = watching.change_controls(reader, pairs)
    assert (shares["right"], shares["swapped"]) == (1.0, 1.0)
    assert shares["still right when swapped"] == shares["same picture twice"] == shares["blank"] == 0.0
    careless = Reader(lambda image, asked: ordered[0](image, asked) or ordered[0](image[::-1], asked))
    shares = watching.change_controls(careless, pairs)
    assert shares["right"] == shares["still right when swapped"] == 1.0 and shares["swapped"] == 0.0


def test_changes_are_scored_by_kind():
    pairs = changes.sample_changes("test", 40)
    exam, kinds = watching.about_pairs(pairs), [truth.kind for truth in pairs.truths()]
    known = {
        row.tobytes(): answer
        for row, answer, kind in zip(exam.images, exam.answers, kinds, strict=True)
        if kind in ("colour", "vanished")
    }
    reader = Reader(lambda image, question: known.get(image.tobytes(), ""))
    shares = watching.changes_by_kind(reader, pairs)
    assert shares == {kind: float(kind in ("colour", "vanished")) for kind in changes.CHANGES}
    some = pairs[[number for number, kind in enumerate(kinds) if kind == "size"]]
    assert watching.changes_by_kind(reader, some) == {"size": 0.0}


def test_controls_of_motion():
    clips = motion.sample_clips("test", 40, path="round")
    exam = watching.about_clips(clips)
    assert exam.before == tuple(clips.stamps()) and exam.questions == tuple(clips.questions())
    shares = watching.motion_controls(Reader(knows(exam)), clips)
    assert shares["right"] == 1.0 and shares["blank"] == shares["single frame"] == 0.0
    assert shares["shuffled"] < 0.2  # the share of orders that are the true one
    assert shares["chance, shuffled"] == shares["chance, single frame"] == 0.25
    straight = motion.sample_clips("test", 20)
    assert watching.motion_controls(Reader(lambda *_: "left"), straight)["chance, shuffled"] == 0.5
    always = watching.motion_controls(Reader(lambda *_: "left"), straight)
    assert always["right"] == always["shuffled"] == always["blank"] == pytest.approx(0.1)  # 2 of these 20


def test_controls_of_which_picture():
    pairs = changes.sample_changes("test", 12)
    asked = changes.ask_which(pairs)
    table = {}
    for shown, other, questions in zip(pairs.pictures(), pairs.swapped().pictures(), asked, strict=True):
        for side, (text, answer) in enumerate(questions):
            table[shown.tobytes(), text] = answer
            table[other.tobytes(), text] = questions[1 - side][1]
    whole = Reader(lambda image, question: table.get((image.tobytes(), question), ""))
    shares = watching.which_controls(whole, pairs)
    assert (shares["first picture"], shares["second picture"], shares["swapped"]) == (1.0, 1.0, 1.0)
    assert shares["first picture, blank"] == shares["second picture, blank"] == 0.0
    stuck = {(image[::1].tobytes(), q[side][0]): q[side][1]
             for image, q in zip(pairs.pictures(), asked, strict=True) for side in (0, 1)}  # fmt: skip
    careless = Reader(
        lambda image, question: (
            stuck.get((image.tobytes(), question)) or stuck.get((image[::-1].tobytes(), question), "")
        )
    )
    shares = watching.which_controls(careless, pairs)
    assert (shares["first picture"], shares["swapped"]) == (1.0, 0.0)
    assert watching.which_controls(Reader(lambda *_: ""), pairs)["swapped"] == 0.0


def test_scores_of_pointing():
    batch = scenes.sample("test", 60)
    asked = pointing.point_talks(batch)
    shown = watching.render(batch)
    both = [(image, row[0]) for image, row in zip(shown, asked, strict=True) if row]
    table = {(image.tobytes(), question): answer for image, (question, answer) in both}
    scores = watching.pointing_scores(
        Reader(lambda image, question: table.get((image.tobytes(), question), "nothing")), batch
    )
    assert scores["told: mean IoU"] == scores["best possible: mean IoU"] > 0.7
    assert scores["told: IoU over 0.5"] == 1.0 and scores["blank: mean IoU"] == 0.0
    assert 0 < scores["mean box: mean IoU"] < 0.2 > scores["mean box: IoU over 0.5"]


def test_costs_are_those_of_frames_and_their_tokens(speaker):
    rows = watching.frame_costs(speaker, 3, frames=(2, 4), sides=(2, 8))
    assert [(row["frames"], row["tokens a frame"]) for row in rows] == [(2, 16), (4, 16), (2, 1), (4, 1)]
    assert [row["tokens"] for row in rows] == [1 + 2 * 27, 1 + 4 * 27, 1 + 2 * 12, 1 + 4 * 12]
    assert all(row["CPU seconds"] > 0 and 0 <= row["right"] <= 1 for row in rows)
    assert speaker.model.side == 2
    with pytest.raises(ValueError, match="2 to 64 frames, not 1"):
        watching.frame_costs(speaker, 3, frames=(1,), sides=(4,))
    assert speaker.model.side == 2


def test_a_row_shows_its_pictures_and_who_attends_to_them(speaker):
    exam = watching.about_clips(motion.sample_clips("test", 1))
    look = watching.look_at_row(speaker, exam.images[0], exam.before, exam.questions[0])
    assert len(look.spans) == 4 and all(end - begin == 16 for begin, end in look.spans)
    for begin, end in look.spans:
        assert (
            look.tokens[begin:end] == ["<image>"] * 16 and look.tokens[begin - 1] == ">" != look.tokens[end]
        )
    assert look.weights.shape == (4, 4, len(look.tokens), len(look.tokens))
    torch.testing.assert_close(look.weights.sum(-1), torch.ones(4, 4, len(look.tokens)))
    shares = look.shares()
    begin, end = look.spans[2]
    torch.testing.assert_close(shares[3, 2], look.weights[3, :, -1, begin:end].sum(-1).mean())
    assert shares.shape == (4, 4) and (shares.sum(1) < 1).all()
    earlier = look.shares(-3)[1, 0]
    torch.testing.assert_close(earlier, look.weights[1, :, -3, slice(*look.spans[0])].sum(-1).mean())


def test_measuring_names_what_the_card_needs(speaker):
    metrics = watching.measure_video(speaker, 12)
    wanted = {
        "what changed: right", "what changed: swapped", "what changed: colour",
        "which picture: second picture",
        "which picture: swapped", "direction, straight: right", "direction, round: shuffled",
        "direction, round: single frame", "pointing: told: mean IoU",
        "pointing: mean box: mean IoU",
        "new combinations: what changed", "new combinations: direction, round", "one picture, as nano-vlm",
    }  # fmt: skip
    assert wanted <= set(metrics) and all(0 <= value <= 1 for value in metrics.values())
    assert metrics["one picture, as nano-vlm"] > 0.9 and metrics["what changed: right"] < 0.1


def test_another_seed_measures_other_scenes(speaker, monkeypatch):
    seeds = {"sample": [], "sample_changes": [], "sample_clips": []}
    for module, name in ((scenes, "sample"), (changes, "sample_changes"), (motion, "sample_clips")):
        whole = getattr(module, name)

        def noted(split, count, *place, of=whole, notes=seeds[name], **options):
            notes.append(options["seed"])
            return of(split, count, *place, **options)

        monkeypatch.setattr(module, name, noted)
    watching.measure_video(speaker, 4, seed=5)
    assert seeds["sample_changes"] == [5] * 2 and seeds["sample_clips"] == [5] * 4
    assert all(seed % 1_000_003 == 5 for seed in seeds["sample"])  # some pairs are drawn anew


class Noting(Reader):
    """Notes what it is shown and asked, and how."""

    def __init__(self, rule=lambda *_: ""):
        super().__init__(rule)
        self.shown, self.before, self.asked = [], [], []

    def features(self, images):
        self.shown.append(images.shape[1:])
        return super().features(images)

    def encode(self, talks, before=None):
        self.before.append(before)
        return super().encode(talks, before)

    def answer(self, images, questions, steps=0, batch=0, before=None):
        self.asked.append((tuple(questions), steps, before))
        return super().answer(images, questions, steps)


def test_a_reader_is_given_all_pictures_what_stands_before_them_and_enough_steps():
    pairs, batch, reader = changes.sample_changes("test", 4), scenes.sample("test", 9), Noting()
    watching.change_controls(reader, pairs)
    assert set(reader.shown) == {(2, 64, 64, 3)} and set(reader.before) == {watching.PAIR}
    exam = watching.about_pairs(pairs)
    exam.says(reader)
    assert reader.asked == [(exam.questions, 24, watching.PAIR)]
    del reader.asked[:]
    watching.pointing_scores(reader, batch, 1)
    questions = tuple(row[0][0] for row in pointing.point_talks(batch, 1) if row)
    assert reader.asked == [(questions, 4, None)] * 2
    watching.pointing_scores(reader, batch)
    assert reader.asked[2][0] == tuple(row[0][0] for row in pointing.point_talks(batch, 0) if row)


def test_controls_of_motion_are_drawn_with_a_seed():
    clips = motion.sample_clips("test", 60)
    reader = Reader(lambda image, question: motion.MOVES[zlib.crc32(image.tobytes()) % 4])
    first, again, other = (watching.motion_controls(reader, clips, *seed) for seed in ((), (0,), (1,)))
    assert first == again != other
