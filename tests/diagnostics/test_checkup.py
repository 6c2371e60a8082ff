"""A shipped model passes every check; each broken one is found by the check that names what is wrong."""

import dataclasses
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from vlmcourse import cli
from vlmcourse.data.assets import shipped
from vlmcourse.diagnostics import checkup
from vlmcourse.diagnostics.checkup import (
    Exam,
    connector_checks,
    diagnose,
    kurtosis,
    loss_checks,
    map_checks,
    reach_checks,
    scene_exam,
    swap_checks,
    weight_report,
)
from vlmcourse.diagnostics.share import Shares
from vlmcourse.diagnostics.swaps import Swapped
from vlmcourse.families.diagnosing import diagnose_named
from vlmcourse.families.making import load_speaker
from vlmcourse.families.nano import new_vlm
from vlmcourse.models.llava import Llava
from vlmcourse.models.projector import Projector
from vlmcourse.speak import Speaker
from vlmcourse.training.checkpoints import CheckpointError, save_checkpoint

EXAM = scene_exam(40)
UNSEEN = {"answers: right, more than on blank paper", "answers: right, more than with another image"}


def healthy():
    return load_speaker("nano-vlm")[0]


def wrong(checked):
    return {one.name for one in checked if not one.ok}


def shown(exam):
    """Without evidence boxes: no maps are made, which take longest."""
    return exam._replace(asked=())


def test_a_shipped_model_passes():
    checked = diagnose(healthy(), EXAM)
    assert wrong(checked) == set() and len(checked) == 21
    assert len({one.name for one in checked}) == 21 and all(one.remedy for one in checked)


def test_a_projector_that_was_not_loaded_is_found():
    torch.manual_seed(0)
    speaker = healthy()
    speaker.model.projector.expand.reset_parameters()
    speaker.model.projector.contract.reset_parameters()
    found = wrong(diagnose(speaker, shown(EXAM)))
    assert found >= UNSEEN | {"projector: kurtosis of its weights", "answers: right"}
    assert not any(name.startswith(("labels", "tokens")) for name in found)


def test_half_a_projector_is_enough_to_be_found():
    speaker = healthy()
    speaker.model.projector.contract.reset_parameters()
    assert wrong(connector_checks(speaker, EXAM)) == {"projector: kurtosis of its weights"}


def test_image_tokens_of_zeros_are_found():
    speaker = healthy()
    with torch.no_grad():
        speaker.model.projector.contract.weight.zero_()
        speaker.model.projector.contract.bias.zero_()
    found = wrong(diagnose(speaker, shown(EXAM))) | wrong(
        map_checks(speaker, Exam(*(part[:12] for part in EXAM)))
    )
    assert found >= UNSEEN | {
        "image: length of its vectors, over words",
        "image: how much vectors differ by image",
        "answers: changed by another image",
        "evidence in its box, by occlusion",
        "evidence in its box, by relevance",
        "evidence in its box, by Grad-CAM",
    }


@pytest.mark.parametrize("places", [-1, 1])
def test_shifted_labels_are_found(places):
    speaker = healthy()
    rows = speaker.encode([[pair] for pair in zip(EXAM.instructions, EXAM.answers, strict=True)])
    shifted = rows._replace(labels=rows.labels.roll(places, dims=1))
    found = wrong(diagnose(speaker, shown(EXAM), rows=shifted))
    assert "labels: places off" in found and all(name.startswith("labels") for name in found)
    assert "labels: places off" in wrong(diagnose(rows=shifted, words=speaker.words))
    assert diagnose(rows=rows, words=speaker.words)[0].ok


@pytest.mark.parametrize("factor", [1e-3, 20.0])
def test_vectors_that_are_too_long_or_too_short_are_found(factor):
    speaker = healthy()
    with torch.no_grad():
        speaker.model.projector.contract.weight.mul_(factor)
        speaker.model.projector.contract.bias.mul_(factor)
    assert wrong(connector_checks(speaker, EXAM)) == {"image: length of its vectors, over words"}


def test_image_vectors_that_are_all_alike_are_found():
    speaker = healthy()
    mean = speaker.model.connect(speaker.features(EXAM.images)).mean(dim=0, keepdim=True).detach()
    speaker.model.connect = lambda features: mean.expand(len(features), -1, -1)
    assert wrong(connector_checks(speaker, EXAM)) == {"image: how much vectors differ by image"}


def test_a_model_that_does_not_attend_to_the_image_is_found():
    """Its placeholders are masked for all words: a mask over the wrong tokens."""
    speaker = healthy()
    reads = speaker.model.language.hidden

    def masked(tokens, look=None, caches=None, *, mask=None):
        if mask is not None:
            first = mask.int().argmax(dim=1)
            mask = mask.clone()
            for row, start in enumerate(first.tolist()):
                mask[row, start + 1 : start + 65] = False
        elif look is not None:
            allowed = look.mask.clone()
            allowed[..., 65:, 1:65] = False
            look = dataclasses.replace(look, mask=allowed)
        return reads(tokens, look, caches, mask=mask)

    speaker.model.language.hidden = masked
    assert wrong(reach_checks(speaker, EXAM, [[pair] for pair in zip(*EXAM[1:3], strict=True)])) == {
        "image: highest share of attention",
        "image: gradient, over that of words",
    }


def test_a_detached_image_is_found():
    speaker = healthy()
    connect = speaker.model.connect
    speaker.model.connect = lambda features: connect(features).detach()
    assert wrong(map_checks(speaker, Exam(*(part[:12] for part in EXAM)))) == {
        "evidence in its box, by Grad-CAM"
    }


def test_own_images_are_an_exam_without_boxes():
    checked = diagnose(healthy(), shown(EXAM))
    assert wrong(checked) == set() and not any(one.name.startswith("evidence") for one in checked)


def test_answers_that_one_word_gets_right_prove_nothing():
    habit = Exam(EXAM.images, ["Is it there?"] * 40, ["yes"] * 40)
    speaker = SimpleNamespace(answer=lambda images, asked: ["yes"] * len(asked))
    found = swap_checks(speaker, habit)
    assert [(one.number, one.ok) for one in found] == [(1, False), (0, False), (0, False), (0, False)]


def limits(monkeypatch, made, **measured):
    """Verdicts that ``made`` gives for these measurements."""
    for name, value in measured.items():
        monkeypatch.setattr(checkup, name, lambda *_, value=value: value)
    return [one.ok for one in made()]


@pytest.mark.parametrize(
    "right, blind, shuffled, changed, verdicts",
    [
        (0.75, 0.5, 0.5, 0.11, [True, False, False, True]),  # 16 questions: two standard errors are 1/4
        (0.75, 0.375, 0.5, 0.1, [True, True, False, False]),
        (0.625, 0.25, 0.5, 0.11, [False, True, False, True]),  # "yes" to all is right in 3/8
        (0.6875, 0.5, 0.375, 0.11, [True, False, True, True]),
    ],
)
def test_differences_must_be_more_than_chance(monkeypatch, right, blind, shuffled, changed, verdicts):
    exam = Exam(EXAM.images[:16], EXAM.instructions[:16], ["yes"] * 6 + ["no"] * 5 + ["2"] * 5)
    swapped = Swapped(right, blind, shuffled, 0.5, changed)
    assert limits(monkeypatch, lambda: swap_checks(None, exam), swap_test=swapped) == verdicts


@pytest.mark.parametrize("share, ratio", [(0.1, 0.01), (0.12, 0.012)])
def test_reach_has_its_limits(monkeypatch, share, ratio):
    wide = torch.float64
    shares = torch.tensor([[[0.9, share]], [[0.9, 0.02]]], dtype=wide)
    measured = dict(attention_share=Shares(shares, torch.ones(1, 2).bool(), "update"))
    measured["gradient_share"] = torch.tensor([0.001, ratio], dtype=wide)
    checked = limits(monkeypatch, lambda: reach_checks(None, EXAM, []), **measured)
    assert checked == [share > 0.1, ratio > 0.01]


def test_maps_are_made_of_eight_questions_that_point_at_one_thing(monkeypatch):
    given = []

    def explain(method, speaker, images, asked):
        given.append((method.__name__, images, [one.kind for one in asked]))
        return 3.0 if method is checkup.occlusion_map else 2.99, 2.0

    monkeypatch.setattr(checkup, "explain_all", explain)
    kinds = ["count", "colour", "shape", "relation", "size", "position", "existence"] * 4
    exam = Exam(np.arange(28), [], [], [SimpleNamespace(kind=kind) for kind in kinds])
    checked = map_checks("it", exam)
    assert [one.number for one in checked] == [1.5, 1.495, 1.495]
    assert [one.ok for one in checked] == [False, False, True]
    assert [name for name, *_ in given] == ["occlusion_map", "relevance_map", "cam_map"]
    for _, images, some in given:
        assert images.tolist() == [1, 2, 4, 5, 8, 9, 11, 12]
        assert some == ["colour", "shape", "size", "position"] * 2


def test_a_family_without_a_projector_is_checked_too():
    checked = connector_checks(load_speaker("nano-blip")[0], EXAM)
    assert len(checked) == 2 and wrong(checked) == set()


def test_uniform_weights_are_told_from_others():
    torch.manual_seed(0)
    layer = Projector(96, 128, hidden=64)
    for matrix in weight_report(layer):
        assert matrix.kurtosis == pytest.approx(1.8, abs=0.06)
    assert kurtosis(torch.randn(400, 300) * 7 + 3) == pytest.approx(3, abs=0.05)
    assert kurtosis(torch.tensor([[0.0, 0, 0, 4]])) == pytest.approx((3 * 1 + 81) / 4 / 9)


def test_the_weights_are_reported_matrix_by_matrix():
    layer = Projector(3, 3, hidden=3)
    layer.expand.weight.data = torch.diag(torch.tensor([3.0, 4.0, 0.0]))
    first, second = weight_report(layer)
    assert (first.name, second.name) == ("expand", "contract")
    assert first.norm == pytest.approx(5) and first.largest == pytest.approx(4)
    shares = 3 / 7, 4 / 7
    entropy = -sum(share * math.log(share) for share in shares)
    assert first.rank == pytest.approx(math.exp(entropy) / 3)
    (alone,) = weight_report(torch.nn.Linear(2, 2))
    assert alone.name == ""


@pytest.mark.parametrize(
    "losses, found",
    [
        ([5, 4, 3, 2, 1.5], set()),
        ([2.0] * 20, {"loss: last tenth over first tenth"}),
        ([5, 4, math.nan, 2, 1], {"loss: steps without a number"}),
        ([5, 4, 0.0, 2, 1], {"loss: steps at exactly 0"}),
        ([0.0] * 9, {"loss: steps at exactly 0", "loss: last tenth over first tenth"}),
        ([5, 4, 3, 2, math.inf], {"loss: steps without a number", "loss: last tenth over first tenth"}),
    ],
)
def test_losses_are_numbers_above_zero_that_fall(losses, found):
    assert wrong(loss_checks(losses)) == found == wrong(diagnose(losses=losses))


def test_of_losses_the_first_and_last_tenth_are_compared():
    losses = [4.0] * 3 + [9.0] * 24 + [2.0] * 3
    assert [one.number for one in loss_checks(losses)] == [0, 0, 0.5]


def test_nothing_to_check_is_an_error():
    with pytest.raises(ValueError, match="nothing to diagnose: give a speaker, rows"):
        diagnose()
    with pytest.raises(ValueError, match="give words as well"):
        diagnose(rows=SimpleNamespace())


def test_an_exam_is_of_scenes_with_their_questions():
    exam, other = scene_exam(5), scene_exam(5, seed=1)
    assert len(exam.images) == len(exam.instructions) == len(exam.answers) == len(exam.asked) == 5
    assert [one.text for one in exam.asked] == exam.instructions
    assert [one.answer for one in exam.asked] == exam.answers and exam.instructions != other.instructions
    assert (exam.images != other.images).any()


def checkpoint(folder, losses):
    folder.mkdir(parents=True)
    save_checkpoint(folder, len(losses), {"model": {"w": torch.zeros(1)}}, {"history": {"losses": losses}}, 1)


def test_a_run_is_diagnosed_stage_by_stage(tmp_path):
    run = tmp_path / "nano-vlm"
    checkpoint(run / "eye", [3.0, 2.0])
    checkpoint(run / "words", [3.0, math.nan])
    checked = diagnose_named(str(run))
    assert [one.name.split(":")[0] for one in checked] == ["eye, loss"] * 3 + ["words, loss"] * 3
    assert wrong(checked) == {
        "words, loss: steps without a number",
        "words, loss: last tenth over first tenth",
    }
    checkpoint(tmp_path / "one-stage", [3.0, 2.0])
    only = diagnose_named(str(tmp_path / "one-stage"))
    assert only[0].name == "loss: steps without a number"


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no run; name the folder"):
        diagnose_named(str(tmp_path))


def test_a_finished_run_is_diagnosed_with_its_model(tmp_path):
    checkpoint(tmp_path / "nano-vlm", [3.0, 2.0])
    (tmp_path / "nano-vlm.safetensors").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"it is the card of nano-vlm\.safetensors"):
        diagnose_named(str(tmp_path / "nano-vlm"))
    shutil.copy(shipped("nano-vlm.json"), tmp_path)
    with pytest.raises(CheckpointError):  # the weights are none
        diagnose_named(str(tmp_path / "nano-vlm"))


def test_the_command_prints_the_table_and_tells_scripts(tmp_path):
    bad = tmp_path / "run"
    checkpoint(bad, [2.0, 0.0, 1.0])
    done = CliRunner().invoke(cli.app, ["diagnose", str(bad)])
    assert done.exit_code == 1 and "suspicious" in done.output and "no answer had a label" in done.output
    good = tmp_path / "good"
    checkpoint(good, [2.0, 1.0])
    done = CliRunner().invoke(cli.app, ["diagnose", str(good)])
    assert done.exit_code == 0 and "suspicious" not in done.output and "ok" in done.output
    assert "Nothing stands out." in done.output and "Asked about" not in done.output
    done = CliRunner().invoke(cli.app, ["diagnose", "nano-nothing"])
    assert done.exit_code == 1 and "suspicious" not in done.output and "Traceback" not in done.output


def test_a_model_whose_image_tokens_are_no_patches_is_checked_without_that_map():
    config = dataclasses.replace(new_vlm().config, shuffle=2)
    names = {line.name for line in map_checks(Speaker(Llava(config).eval()), EXAM)}
    assert names == {"evidence in its box, by occlusion", "evidence in its box, by Grad-CAM"}
