"""What the report card measures, on a model of the course and on models whose faults are known."""

import pytest
import torch

from vlmcourse.families import report_card as rc
from vlmcourse.families.nano import load_named
from vlmcourse.interop.llava import save_folder
from vlmcourse.world import questions, scenes
from vlmcourse.world.grammar import true_answer
from vlmcourse.world.render import render


class Says:
    """Answers whatever a function of image and text gives."""

    def __init__(self, says):
        self.says, self.model = says, torch.nn.Linear(2, 3)

    def answer(self, images, instructions, steps=64):
        if isinstance(instructions, str):
            return self.says(images, instructions)
        return [self.says(*pair) for pair in zip(images, instructions, strict=True)]


@pytest.fixture(scope="module")
def nano():
    return rc.report_on_scenes(load_named("nano-vlm")[0], "nano-vlm", 40)


def test_a_good_model(nano):
    assert nano["all kinds"] > 0.94 and nano["new combinations"] > 0.88
    assert nano["an empty image"] < nano["by habit alone"] + 0.05 and nano["another image"] < 0.45
    assert nano["twins, both right"] > 0.75
    assert min(nano[f"POPE, {name}"] for name in ("random", "popular", "adversarial")) > 0.95
    assert nano["CHAIR_i"] < 0.1 and nano["captions, true and complete"] > 0.8
    assert nano["occlusion in the box"] > 2.5
    assert 1.2 < nano["attention in the box"] < 10
    assert nano["calibration error"] < 0.05
    assert nano["parameters"] == pytest.approx(1.35, abs=0.01)
    assert nano["weights in memory"] == pytest.approx(4 * nano["parameters"], rel=0.01)


def test_intervals_hold_the_value(nano):
    shares = [line for line in nano.lines if line.low is not None]
    assert len(shares) >= 16
    assert all(line.low <= line.value <= line.high and line.low < line.high for line in shares)


def test_a_model_that_always_says_yes():
    card = rc.report_on_scenes(Says(lambda image, text: "yes"), "yes", 16)
    assert (
        card["twins, both right"] == 0
        and card["an empty image"] == card["another image"] == card["all kinds"]
    )
    assert card["POPE, random"] == card["POPE, adversarial"] == 0.5
    lines = {line.name: line for line in card.lines}
    assert "100% were yes" in lines["POPE, popular"].says
    assert (
        "CHAIR_i" not in lines and "occlusion in the box" not in lines
    )  # it names nothing, and has no insides
    assert lines["colour"].high == pytest.approx(3 / 16)  # none of sixteen: the rule of three


def test_a_model_that_knows_the_scene():
    known = {}
    for split, first in (("test", 0), ("test", 5000)):
        for image, one in _scenes(split, 16, first):
            known[image] = one

    def says(image, text):
        from vlmcourse.world.truth import list_things

        one = known.get(image.tobytes())
        return true_answer(text, list_things(one, 0)) or "?" if one is not None else "?"

    card = rc.report_on_scenes(Says(says), "oracle", 16)
    assert card["all kinds"] == 1 and card["an empty image"] == 0
    assert card["another image"] < 0.6 and card["new combinations"] == 0


def _scenes(split, count, start):
    batch = scenes.sample(split, count, start=start)
    return [(image.tobytes(), batch[n]) for n, image in enumerate(render(batch))]


def test_too_few_scenes():
    with pytest.raises(ValueError, match="4 scenes say nothing; take at least 8"):
        rc.report_on_scenes(Says(lambda *_: "yes"), "yes", 4)


def test_calibration_by_hand():
    sure = torch.tensor([0.95, 0.95, 0.55, 0.52, 1.0])
    right = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])
    # bin 9: three answers, sure of 0.9667, right 0.6667; bin 5: two, sure of 0.535, right 0.5
    assert rc.calibration_error(sure, right) == pytest.approx(0.6 * 0.3 + 0.4 * 0.035)
    assert rc.calibration_error(torch.ones(4), torch.ones(4)) == 0


def test_calibration_is_of_what_the_model_says():
    """A model that is sure of every answer, right or wrong, is off by the share that it gets wrong."""
    speaker = load_named("nano-vlm")[0]

    class Sure(type(speaker)):
        def answer(self, images, instructions):
            return ["red"] * len(images)

        def scores(self, features, rows):
            for scores, right, number in super().scores(features, rows):
                yield 100 * torch.nn.functional.one_hot(right, scores.shape[1]).float(), right, number

    examiner = rc.Examiner(Sure(speaker.model), 20)
    examiner.calibration()
    asked = [one for kind in questions.KINDS for one in rc.asked_of(scenes.sample("test", 20), kind)[1]]
    red = sum(rc.agrees("red", one) for one in asked) / len(asked)
    assert 0 < red < 0.2 and examiner.lines[0].value == pytest.approx(1 - red, abs=1e-3)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Ten scenes as a folder of pictures with questions, two of them about each."""
    import json

    from PIL import Image

    folder = tmp_path_factory.mktemp("own")
    batch, lines = scenes.sample("test", 10, objects=(2, 2)), []
    images = render(batch)
    for kind in ("colour", "shape"):
        for number, question in enumerate(questions.ask(batch, kind)):
            Image.fromarray(images[number]).save(folder / f"{number}.png")
            if question:
                row = dict(image=f"{number}.png", instruction=question.text, output=question.answer)
                lines.append(json.dumps(row))
    (folder / "train.jsonl").write_text("\n".join(lines))
    return folder


def test_own_pictures(own):
    card = rc.report_on_pictures(load_named("nano-vlm")[0], "nano-vlm", own)
    assert card["the same answer"] > 0.9 and card["ANLS"] >= card["the same answer"]
    assert card["the same answer, an empty image"] < 0.5 and card["the same answer, another image"] < 0.6
    assert "train.jsonl" in card.data and card["an answer"] > 0


def test_the_test_file_is_taken(own, tmp_path):
    import shutil

    shutil.copytree(own, tmp_path / "both")
    lines = (own / "train.jsonl").read_text().splitlines()
    (tmp_path / "both" / "test.jsonl").write_text("\n".join(lines[:4]))
    model = Says(lambda *_: "red")
    assert rc.report_on_pictures(model, "red", tmp_path / "both").data.startswith("4 rows of")
    one = lines[0]
    (tmp_path / "both" / "test.jsonl").write_text(f"{one}\n{one}")
    with pytest.raises(ValueError, match="fewer than two pictures"):
        rc.report_on_pictures(model, "red", tmp_path / "both")


def test_a_folder_of_transformers_answers_the_same(tmp_path):
    speaker = load_named("nano-vlm")[0]
    save_folder(speaker.model, tmp_path / "exported")
    model = rc.load_answering(str(tmp_path / "exported"))
    batch = scenes.sample("test", 12)
    asked = [question.text for question in questions.ask(batch)]
    assert model.answer(render(batch), asked, steps=12) == speaker.answer(render(batch), asked, steps=12)
    assert model.answer(render(batch)[0], asked[0]) == speaker.answer(render(batch)[0], asked[0])
    with pytest.raises(ValueError, match="12 images and 1 instructions"):
        model.answer(render(batch), asked[:1])


def test_a_folder_without_a_template(tmp_path):
    speaker = load_named("nano-vlm")[0]
    save_folder(speaker.model, tmp_path / "exported")
    (tmp_path / "exported" / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="has no chat template"):
        rc.load_answering(str(tmp_path / "exported"))


def test_another_picture_is_one_of_which_the_answer_is_not_true():
    asked, right = ["Who?"] * 6, ["cat", "cat", "dog", "cat", "dog", "cow"]
    partner = rc.other_pictures(asked, right, list("abcdef"))
    assert sorted(partner) == list(range(6)) and all(right[p] != right[n] for n, p in enumerate(partner))


def test_another_picture_answers_the_same_question_and_is_never_the_same_one():
    asked = ["Who?", "Where?", "Who?", "Where?", "Why?"]
    right, pictures = ["cat", "here", "dog", "there", "so"], ["a", "a", "b", "b", "b"]
    partner = rc.other_pictures(asked, right, pictures)
    assert partner[:4] == [2, 3, 0, 1] and pictures[partner[4]] == "a"
    alike = rc.other_pictures(["Who?"] * 3, ["cat"] * 3, ["a", "a", "b"])
    assert [("a", "a", "b")[number] for number in alike] == ["b", "b", "a"]
    with pytest.raises(ValueError, match="all rows have one picture"):
        rc.other_pictures(["Who?"] * 2, ["cat", "dog"], ["a", "a"])


def test_my_vlm_is_the_model_also_beside_the_folder_of_that_name(tmp_path, monkeypatch):
    """Whoever stands in the workspace has the folder my_vlm/ there, with their functions in it."""
    (tmp_path / "my_vlm").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rc, "load_speaker", lambda name: (f"the speaker of {name}", {}))
    assert rc.load_answering("my_vlm") == "the speaker of my_vlm"
