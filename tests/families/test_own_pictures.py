"""A model learns from a folder of pictures, is stored, and answers as it learned."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vlmcourse import cli
from vlmcourse.data.own import open_pictures
from vlmcourse.data.photos import PHOTOS, photo
from vlmcourse.evaluation.answers import accuracy
from vlmcourse.evaluation.report import read_report
from vlmcourse.families import own_pictures
from vlmcourse.families.diagnosing import own_exam
from vlmcourse.families.making import load_speaker
from vlmcourse.families.report_card import report_on_pictures
from vlmcourse.world import scenes
from vlmcourse.world.instructions import last_talks
from vlmcourse.world.render import render

run = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve scenes in new words: "What is it?" wants a name that no model knows."""
    place, lines = tmp_path_factory.mktemp("mine"), []
    batch = scenes.sample("train", 12, objects=(1, 1))
    for number, image in enumerate(render(batch)):
        Image.fromarray(image).save(place / f"{number}.png")
        name = "a green star" if batch.shape[number, 0] < 2 else "a blue square"
        for asked, said in (("Who lives here?", name), ("Is it mine?", "yes")):
            lines.append(json.dumps(dict(image=f"{number}.png", instruction=asked, output=said)))
    (place / "train.jsonl").write_text("\n".join(lines))
    return place


def test_each_picture_once_with_all_that_is_asked(folder):
    images, about = own_pictures.lessons_from(open_pictures(folder), 64)
    assert images.shape == (12, 64, 64, 3) and [len(talk) for talk in about] == [2] * 12
    assert about[3][1] == ("Is it mine?", "yes")
    batch = scenes.sample("train", 12, objects=(1, 1))
    assert np.array_equal(images, render(batch))


def test_learned_stored_asked_and_measured(folder, tmp_path):
    runs = tmp_path / "runs"
    command = [
        "train",
        "own",
        "--data",
        str(folder),
        "--start",
        "nano-vlm",
        "--steps",
        "60",
        "--runs",
        str(runs),
    ]
    done = run.invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    assert "24 rows about 12 pictures" in done.output and "vlmcourse evaluate" in done.output
    speaker, card = load_speaker(str(runs / "own.safetensors"))
    assert card["own"]["start"] == "nano-vlm" and card["own"]["steps"] == 60
    images, about = own_pictures.lessons_from(open_pictures(folder), 64)
    said = speaker.answer(images, ["Who lives here?"] * 12)
    assert np.mean([one == talk[0][1] for one, talk in zip(said, about, strict=True)]) > 0.9
    asked = [
        "evaluate",
        str(runs / "own.safetensors"),
        "--data",
        str(folder),
        "--json",
        str(tmp_path / "card.json"),
    ]
    measured = run.invoke(cli.app, asked)
    assert measured.exit_code == 0, measured.output
    assert read_report(tmp_path / "card.json")["the same answer"] > 0.9
    assert np.mean(list(accuracy(speaker, scenes.sample("test", 60)).values())) > 0.85  # see the next test
    looked = run.invoke(cli.app, ["diagnose", str(runs / "own.safetensors"), "--data", str(folder)])
    assert f"Asked about {folder}" in looked.output and "answers: right" in looked.output, looked.output


@pytest.mark.slow
def test_without_scenes_again_the_scenes_are_forgotten(folder, monkeypatch):
    images, about = own_pictures.lessons_from(open_pictures(folder), 64)

    def no_scenes(speaker, seed):
        return speaker.features(images), about

    right = []
    for again in (own_pictures.scenes_again, no_scenes):
        monkeypatch.setattr(own_pictures, "scenes_again", again)
        speaker, _, _ = own_pictures.train_own(folder, "nano-vlm", steps=100)
        right.append(np.mean(list(accuracy(speaker, scenes.sample("test", 40)).values())))
    assert right[0] > 0.85 and right[0] > right[1] + 0.3, right


def test_another_folder_is_not_mixed_into_a_run(folder, tmp_path):
    command = ["train", "own", "--start", "nano-vlm", "--steps", "1", "--runs", str(tmp_path)]
    first = run.invoke(cli.app, [*command, "--data", str(folder)])
    assert first.exit_code == 0, first.output
    other = tmp_path / "other"
    other.mkdir()
    for name in ("0.png", "1.png"):
        (other / name).write_bytes((folder / name).read_bytes())
    lines = (folder / "train.jsonl").read_text().splitlines()[:4]
    (other / "train.jsonl").write_text("\n".join(lines))
    refused = run.invoke(cli.app, [*command, "--data", str(other)])
    assert refused.exit_code == 1 and "--fresh" in refused.output, refused.output
    again = run.invoke(cli.app, [*command, "--data", str(other), "--fresh"])
    assert again.exit_code == 0, again.output


def test_what_is_missing_is_named(folder):
    assert "--data FOLDER" in run.invoke(cli.app, ["train", "own"]).output
    done = run.invoke(cli.app, ["train", "own", "--data", str(folder), "--start", "nano-flamingo"])
    assert done.exit_code == 1 and "nano-flamingo does not learn from own pictures" in done.output
    assert "nano-vlm, smollm-scenes or smollm-openmoji" in done.output
    done = run.invoke(cli.app, ["train", "own", "--data", "no-folder", "--start", "clip-scenes"])
    assert done.exit_code == 1 and "cannot be asked about images" in done.output
    assert "start from nano-vlm, smollm-scenes or smollm-openmoji" in done.output


@pytest.mark.parametrize("given", [["--data", "some"], ["--start", "nano-vlm"], ["--most-skipped", "0.5"]])
def test_what_only_own_pictures_need_is_not_passed_over(given):
    done = run.invoke(cli.app, ["train", "nano-vlm", *given])
    assert done.exit_code == 1 and f"{given[0]}: only with `vlmcourse train own`" in done.output
    done = run.invoke(cli.app, ["train", "own", "--data", "some", "--until", "eye"])
    assert done.exit_code == 1 and "leave --until away" in done.output


def test_what_comes_again_are_a_few_turns_of_each_scene():
    speaker, _ = load_speaker("nano-vlm")
    features, told = own_pictures.scenes_again(speaker, 3, count=40)
    whole = last_talks(scenes.sample("train", 40, seed=3), 3)
    assert len(features) == len(told) == 40 and {len(talk) for talk in told} == {own_pictures.AGAIN}
    pairs = [*zip(told, whole, strict=True)]
    assert all(len({*some}) == 3 and {*some} <= {*all_of_it} for some, all_of_it in pairs)
    assert len({all_of_it.index(some[0]) for some, all_of_it in pairs}) > 3  # not always the first ones
    assert own_pictures.scenes_again(speaker, 3, count=40)[1] == told


def test_new_photos_are_told_apart_after_little_training(tmp_path):
    """Crops of four photographs, of which other crops are asked about: what a person would try first."""
    chance = np.random.default_rng(0)
    for file, count in (("train", 8), ("test", 4)):
        lines = []
        for name, says in PHOTOS.items():
            whole = photo(name, 224)
            for number in range(count):
                side = int(chance.integers(150, 215))
                top, left = chance.integers(0, 224 - side, 2)
                Image.fromarray(whole[top : top + side, left : left + side]).save(
                    tmp_path / f"{file}-{name}-{number}.png"
                )
                row = dict(image=f"{file}-{name}-{number}.png", instruction="What is shown?", output=says)
                lines.append(json.dumps(row))
        (tmp_path / f"{file}.jsonl").write_text("\n".join(lines))
    speaker, _, _ = own_pictures.train_own(tmp_path, "nano-vlm", steps=120)
    exam = own_exam(tmp_path, speaker)
    assert set(exam.answers) == set(PHOTOS.values()) and exam.images.shape == (16, 64, 64, 3)
    assert exam.instructions == ["What is shown?"] * 16  # of the test file
    assert np.mean([a == b for a, b in zip(speaker.answer(*exam[:2]), exam.answers, strict=True)]) > 0.85
    assert len(own_exam(tmp_path, speaker, count=5).answers) == 5
    report = report_on_pictures(speaker, "own", tmp_path)
    assert report["the same answer"] > 0.85
    assert report["the same answer, an empty image"] <= 0.25 >= report["the same answer, another image"]
