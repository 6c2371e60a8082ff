"""Checkpoints are whole or refused by name; weights fit or the misfit is listed."""

import errno
import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vlmcourse.training import checkpoints
from vlmcourse.training.checkpoints import CheckpointError


def save(folder, *steps, keep=2):
    for step in steps:
        checkpoints.save_checkpoint(
            folder, step, {"model": {"weight": torch.full((50,), float(step))}}, {"at": step}, keep
        )


def test_what_was_saved_comes_back(tmp_path):
    shared = torch.randn(3, 4)
    tensors = {
        "model": {"a": shared, "tied": shared, "turned": shared.T},
        "optimizer": {"0/step": torch.tensor(7.0)},
    }
    path = checkpoints.save_checkpoint(tmp_path, 5, tensors, {"list": [1, 0.1]})
    loaded, state = checkpoints.load_checkpoint(checkpoints.newest_checkpoint(tmp_path))
    assert path.name == "step-00000005" and state == {"list": [1, 0.1]}
    for stem, named in tensors.items():
        assert loaded[stem].keys() == named.keys()
        assert all(torch.equal(loaded[stem][name], tensor) for name, tensor in named.items())


def test_only_the_newest_stay_and_nothing_half_written(tmp_path):
    save(tmp_path, 1, 2, 10, 100, keep=3)
    assert sorted(os.listdir(tmp_path)) == ["step-00000002", "step-00000010", "step-00000100"]


def damage_by(file, action):
    if action == "truncated":
        os.truncate(file, file.stat().st_size - 1)
    elif action == "edited":
        content = bytearray(file.read_bytes())
        content[-2] ^= 1
        file.write_bytes(content)
    else:
        file.unlink()


@pytest.mark.parametrize("action", ["truncated", "edited", "missing"])
@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
def test_a_damaged_file_is_refused_by_name_and_the_last_whole_checkpoint_is_used(tmp_path, name, action):
    save(tmp_path, 1, 2)
    damage_by(tmp_path / "step-00000002" / name, action)
    with pytest.warns(
        UserWarning, match=rf"refused: .*step-00000002/{name} .*Carrying on from step-00000001"
    ):
        assert checkpoints.newest_checkpoint(tmp_path).name == "step-00000001"
    damage_by(tmp_path / "step-00000001" / "model.safetensors", action)
    with pytest.raises(CheckpointError, match=r"(?s)step-00000002.*step-00000001/model.safetensors"):
        checkpoints.newest_checkpoint(tmp_path)


def test_a_file_the_manifest_does_not_list_is_refused(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "step-00000001" / "extra.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"step-00000001/extra\.safetensors is not in the manifest"):
        checkpoints.newest_checkpoint(tmp_path)


def test_a_damaged_newer_checkpoint_does_not_push_out_whole_ones(tmp_path):
    save(tmp_path, 10, 20, 30, keep=3)
    (tmp_path / "step-00000030" / "state.json").unlink()
    save(tmp_path, 25, keep=2)
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path)] == [
        "step-00000020",
        "step-00000025",
    ]
    save(tmp_path, 25, 30)
    assert checkpoints.newest_checkpoint(tmp_path).name == "step-00000030"


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=f"{tmp_path} holds no checkpoint"):
        checkpoints.newest_checkpoint(tmp_path)


@pytest.mark.parametrize("hook", ["save_file", "_sync", "_write_json"])
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch, hook):
    save(tmp_path, 1)

    monkeypatch.setattr(checkpoints, hook, full)
    with pytest.raises(CheckpointError, match=r"step-00000002 .*No space left.*MB are free.*untouched"):
        save(tmp_path, 2)
    assert os.listdir(tmp_path) == ["step-00000001"]
    assert checkpoints.newest_checkpoint(tmp_path).name == "step-00000001"


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"no checkpoint can be written to .*file"):
        checkpoints.open_folder(tmp_path / "file" / "runs")


def test_no_pickle_is_read(tmp_path):
    save(tmp_path, 1)
    kinds = {file.suffix for file in (tmp_path / "step-00000001").iterdir()}
    assert kinds == {".json", ".safetensors"}


def test_another_models_weights_are_refused_with_a_list():
    model, other = nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 3, bias=False))
    del other[0].bias
    before = model[0].weight.clone()
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load_strict(model, other.state_dict(), "weights.safetensors")
    for part in (
        "weights.safetensors",
        "missing: 0.bias",
        "unexpected: 1.weight",
        "0.weight is (4, 2)",
        "needs (3, 2)",
    ):
        assert part in str(caught.value)
    assert torch.equal(model[0].weight, before)


def test_shipped_weights_are_half_the_size_and_come_with_their_card(tmp_path):
    model, fresh = nn.BatchNorm1d(64), nn.BatchNorm1d(64)
    nn.init.normal_(model.weight)
    path = checkpoints.save_weights(
        model, tmp_path / "assets" / "norm.safetensors", {"recipe": "none", "seed": 0}
    )
    assert checkpoints.load_weights(fresh, path)["recipe"] == "none"
    assert load_file(path)["weight"].dtype == torch.float16
    assert torch.equal(fresh.weight, model.weight.half().float())
    assert sorted(os.listdir(path.parent)) == ["norm.json", "norm.safetensors"]


def test_shipped_weights_that_do_not_match_their_card_are_refused(tmp_path):
    model = nn.Linear(3, 3)
    path = checkpoints.save_weights(model, tmp_path / "linear.safetensors", {})
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | {"sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match=r"linear\.safetensors is not the file its card describes"):
        checkpoints.load_weights(model, path)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"linear\.safetensors does not exist"):
        checkpoints.load_weights(model, path)


def test_weights_too_large_for_fp16_are_not_shipped(tmp_path):
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 1e5)
    with pytest.raises(CheckpointError, match="weight reaches 100000"):
        checkpoints.save_weights(model, tmp_path / "linear.safetensors", {})
    assert not list(tmp_path.iterdir())


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("hook", ["save_file", "_sync", "_write_json"])
def test_a_full_disk_leaves_the_old_weights_with_their_card(tmp_path, monkeypatch, hook):
    model, again = nn.Linear(3, 3), nn.Linear(3, 3)
    path = checkpoints.save_weights(model, tmp_path / "linear.safetensors", {"seed": 1})
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, hook, full)
        with pytest.raises(CheckpointError, match=r"linear\.safetensors .*No space.*MB are free.*untouched"):
            checkpoints.save_weights(nn.Linear(3, 3), path, {"seed": 2})
    assert checkpoints.load_weights(again, path)["seed"] == 1
    assert sorted(os.listdir(tmp_path)) == ["linear.json", "linear.safetensors"]


@pytest.mark.parametrize("death", range(3), ids=["before the card", "before the weights", "between both"])
def test_wherever_a_process_dies_weights_and_card_belong_together(tmp_path, monkeypatch, death):
    """Dying is a rename that never comes, and nothing that clears up behind it."""
    path, rename, left = tmp_path / "linear.safetensors", os.replace, [death]
    models = {seed: nn.Linear(3, 3) for seed in (1, 2, 3)}
    checkpoints.save_weights(models[1], path, {"seed": 1})

    def die(*names):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        rename(*names)

    if not (child := os.fork()):
        monkeypatch.setattr(os, "replace", die)
        checkpoints.save_weights(models[2], path, {"seed": 2})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    for seed in (2 if death == 2 else 1, 3):
        again = nn.Linear(3, 3)
        assert checkpoints.load_weights(again, path)["seed"] == seed
        assert torch.equal(again.weight, models[seed].weight.half().float())
        checkpoints.save_weights(models[3], path, {"seed": 3})
    assert not list(tmp_path.glob("*.coming"))


# ---- the rules, one by one ---------------------------------------------------------------------------------


def test_two_checkpoints_stay_unless_told_otherwise(tmp_path):
    for step in (1, 2, 3, 4):
        checkpoints.save_checkpoint(tmp_path, step, {}, {})
    assert sorted(os.listdir(tmp_path)) == ["step-00000003", "step-00000004"]


def test_the_manifest_lists_every_other_file_with_its_size_and_hash(tmp_path):
    path = checkpoints.save_checkpoint(
        tmp_path, 7, {"model": {"a": torch.ones(3)}, "optimizer": {}}, {"at": 7}
    )
    files = json.loads((path / "manifest.json").read_text())["files"]
    assert list(files) == ["model.safetensors", "optimizer.safetensors", "state.json"]
    for name, written in files.items():
        content = (path / name).read_bytes()
        assert written == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_the_newest_is_the_one_of_the_highest_step_and_other_names_are_no_checkpoints(tmp_path):
    for name in ("step-9", "step-000000099", "step-0000009x", "other"):
        (tmp_path / name).mkdir()
    save(tmp_path, 100, 20, keep=5)  # a run that went back to step 20 leaves nothing behind it
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path)] == ["step-00000020"]
    save(tmp_path, 30, keep=5)
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path)] == [
        "step-00000020",
        "step-00000030",
    ]
    assert checkpoints.newest_checkpoint(tmp_path).name == "step-00000030"
    assert (tmp_path / "step-9").is_dir()


def test_a_step_that_is_written_again_is_the_new_one(tmp_path):
    save(tmp_path, 3)
    checkpoints.save_checkpoint(tmp_path, 3, {}, {"at": "again"})
    assert checkpoints.load_checkpoint(tmp_path / "step-00000003") == ({}, {"at": "again"})


def test_what_a_killed_run_left_is_cleared(tmp_path):
    for name in (".writing", ".old", "other"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert checkpoints.open_folder(str(tmp_path / "runs")) == tmp_path / "runs"
    assert os.listdir(tmp_path / "runs") == ["other"]


def test_tied_weights_are_stored_once_and_a_transposed_copy_apart(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": whole, "again": whole, "turned": whole.T, "empty": torch.zeros(0), "none": torch.zeros(0)}
    path = checkpoints.save_checkpoint(tmp_path, 1, {"model": tensors}, {})
    assert load_file(path / "model.safetensors").keys() == {"a", "turned", "empty", "none"}
    back = checkpoints.load_checkpoint(path)[0]["model"]
    assert back.keys() == tensors.keys() and all(
        torch.equal(back[name], value) for name, value in tensors.items()
    )
    assert back["again"].data_ptr() == back["a"].data_ptr()


def test_a_checkpoint_keeps_every_type_of_number_as_it_is(tmp_path):
    tensors = {"half": torch.tensor([1e-7]).half(), "double": torch.tensor([1 / 3], dtype=torch.float64),
               "whole": torch.tensor([2**40]), "flag": torch.tensor(True)}  # fmt: skip
    path = checkpoints.save_checkpoint(tmp_path, 1, {"x": tensors}, {})
    back = checkpoints.load_checkpoint(path)[0]["x"]
    assert all(
        torch.equal(back[name], value) and back[name].dtype == value.dtype for name, value in tensors.items()
    )


@pytest.mark.parametrize("value", [65504.0, -65504.0, 65519.0])
def test_the_largest_number_of_fp16_is_shipped(tmp_path, value):
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, value)
    path = checkpoints.save_weights(model, tmp_path / "linear.safetensors", {})
    assert load_file(path)["weight"].abs().item() == 65504


@pytest.mark.parametrize("value", [65520.0, -65520.0, float("inf"), float("nan")])
def test_a_number_beyond_fp16_is_refused_before_anything_is_written(tmp_path, value):
    model = nn.Linear(1, 1)
    checkpoints.save_weights(model, tmp_path / "linear.safetensors", {"good": True})
    with torch.no_grad():
        model.weight.fill_(value)
    with pytest.raises(CheckpointError, match=r"weight reaches .*at most 65,504"):
        checkpoints.save_weights(model, tmp_path / "linear.safetensors", {"good": False})
    assert checkpoints.load_weights(nn.Linear(1, 1), tmp_path / "linear.safetensors")["good"]


def test_whole_numbers_are_shipped_as_they_are(tmp_path):
    model = nn.BatchNorm1d(2)
    model.num_batches_tracked.fill_(100_000)
    path = checkpoints.save_weights(model, tmp_path / "norm.safetensors", {})
    assert load_file(path)["num_batches_tracked"] == 100_000


def test_the_card_holds_what_was_given_and_the_hash(tmp_path):
    path = checkpoints.save_weights(nn.Linear(1, 1), str(tmp_path / "linear.safetensors"), {"seed": 3})
    card = json.loads((tmp_path / "linear.json").read_text())
    assert card == {"seed": 3, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (tmp_path / "linear.json").unlink()
    with pytest.raises(CheckpointError, match=r"linear\.json does not exist"):
        checkpoints.load_weights(nn.Linear(1, 1), path)


def test_a_name_of_the_file_that_holds_another_models_weights_is_told(tmp_path):
    path = checkpoints.save_weights(nn.Linear(3, 3), tmp_path / "linear.safetensors", {})
    with pytest.raises(
        CheckpointError,
        match=r"linear\.safetensors was written by another model than Linear:\n.*\n  weight is",
    ):
        checkpoints.load_weights(nn.Linear(3, 4, bias=False), path)


def test_the_list_of_misfits_is_in_order_and_ends_after_twenty():
    checkpoints.refuse_misfits("a file is wrong", ["a", "b"], ["b", "a"])
    with pytest.raises(CheckpointError) as refused:
        checkpoints.refuse_misfits("a file is wrong", ["b", "a", "c"], ["c", "z", "y"], ["x is large"])
    lines = ["a file is wrong:", "missing: b", "missing: a", "unexpected: z", "unexpected: y", "x is large"]
    assert str(refused.value) == "\n  ".join(lines)
    for count, last in ((20, "missing: 19"), (21, "and 1 more"), (25, "and 5 more")):
        with pytest.raises(CheckpointError) as refused:
            checkpoints.refuse_misfits("a file is wrong", [str(number) for number in range(count)], [])
        assert str(refused.value).splitlines()[1:21] == [f"  missing: {number}" for number in range(20)]
        assert str(refused.value).endswith(last)


@pytest.mark.parametrize("name", ["state.json", "extra.bin"])
def test_only_tensors_that_are_not_listed_make_a_checkpoint_doubtful(tmp_path, name):
    save(tmp_path, 1)
    if name == "extra.bin":
        (tmp_path / "step-00000001" / name).touch()
    assert checkpoints.find_damage(tmp_path / "step-00000001") is None


@pytest.mark.parametrize("content", ["[]", "{}", '{"files": 3}', '{"files": {"state.json": 1}}', "no JSON"])
def test_a_manifest_that_makes_no_sense_is_damage(tmp_path, content):
    save(tmp_path, 1)
    (tmp_path / "step-00000001" / "manifest.json").write_text(content)
    assert "manifest.json cannot be read" in checkpoints.find_damage(tmp_path / "step-00000001")


def test_a_file_in_place_of_a_folder_is_no_checkpoint_and_an_empty_manifest_is_damage(tmp_path):
    path = checkpoints.save_checkpoint(tmp_path, 1, {}, {"at": 1})
    (tmp_path / "step-00000009").write_text("not a folder")
    assert checkpoints.newest_checkpoint(tmp_path) == path
    (path / "manifest.json").write_text('{"files": {}}')
    assert checkpoints.find_damage(path) == "state.json is not in the manifest"


def test_shipped_weights_that_are_tied_are_stored_once_too(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(50, 8), nn.Linear(8, 50, bias=False)
            self.head.weight = self.words.weight

    model = Tied()
    path = checkpoints.save_weights(model, tmp_path / "tied.safetensors", {})
    assert [*load_file(path)] == ["words.weight"]  # fp16 made of it twice would be two tensors
    other = Tied()
    checkpoints.load_weights(other, path)
    assert torch.equal(other.head.weight, model.words.weight.half().float())


def test_what_is_stored_beside_other_weights_holds_only_the_difference(tmp_path):
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(3, 40), nn.Linear(40, 3))
    words = checkpoints.save_weights(first, tmp_path / "words.safetensors", {})
    with torch.no_grad():
        first[1].bias += 1
    path = checkpoints.save_weights(first, tmp_path / "aligned.safetensors", {"seed": 3}, beside=words)
    assert set(checkpoints.read_tensors(path)) == {"1.bias"} and path.stat().st_size < words.stat().st_size
    assert checkpoints.files_of(path) == [words, path] and checkpoints.files_of(words) == [words]
    again = nn.Sequential(nn.Linear(3, 40), nn.Linear(40, 3))
    assert checkpoints.load_weights(again, path)["seed"] == 3
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float())


@pytest.mark.parametrize("beside, reason", [
    ("words", "names no file of weights beside"),
    ({}, "names no file of weights beside"),
    ({"file": "../words.safetensors"}, "names no file of weights beside"),
    ({"file": "words.bin"}, "names no file of weights beside"),
    ({"file": 3}, "names no file of weights beside"),
    ({"file": "gone.safetensors"}, "does not exist"),
    ({"file": "words.safetensors"}, "another file than its card describes"),
    ({"file": "words.safetensors", "sha256": "00"}, "another file than its card describes"),
])  # fmt: skip
def test_weights_whose_other_part_is_not_there_are_refused(tmp_path, beside, reason):
    words = checkpoints.save_weights(nn.Linear(3, 3), tmp_path / "words.safetensors", {})
    path = checkpoints.save_weights(nn.Linear(3, 3), tmp_path / "mine.safetensors", {}, beside=words)
    card = json.loads(path.with_suffix(".json").read_text()) | {"beside": beside}
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=reason):
        checkpoints.load_weights(nn.Linear(3, 3), path)


def test_weights_share_only_with_those_of_their_folder(tmp_path):
    words = checkpoints.save_weights(nn.Linear(3, 3), tmp_path / "words.safetensors", {})
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "mine.safetensors"
    with pytest.raises(CheckpointError, match="both must be in one folder"):
        checkpoints.save_weights(nn.Linear(3, 3), path, {}, beside=words)
    assert not path.exists()


def test_a_part_that_the_other_weights_lack_or_that_differs_a_little_is_stored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, card = nn.Sequential(nn.Linear(3, 40)), {"seed": 3}
    words = checkpoints.save_weights(first, tmp_path / "words.safetensors", {})
    with torch.no_grad():
        first[0].bias[0] = first[0].bias[0].half() + 0.001
    model = nn.Sequential(first[0], nn.Linear(40, 3))
    path = checkpoints.save_weights(model, "more.safetensors", card, beside=words)  # in the same folder
    assert set(checkpoints.read_tensors(path)) == {"0.bias", "1.weight", "1.bias"} and card == {"seed": 3}
    again = nn.Sequential(nn.Linear(3, 40), nn.Linear(40, 3))
    os.replace("more.json", "more.json.coming")  # the process died before the card got its name
    assert checkpoints.load_weights(again, path)["seed"] == 3
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float())


def test_parts_named_with_colons_share_what_a_whole_model_has(tmp_path):
    class Parts(nn.Module):
        def __init__(self, eye: nn.Module):
            super().__init__()
            for name, value in eye.state_dict().items():
                self.register_buffer(f"eye:{name.replace('.', ':')}", value.clone())
            self.register_buffer("bridge", torch.randn(4))

    whole = nn.ModuleDict(dict(eye=nn.Sequential(nn.Linear(3, 40)), words=nn.Linear(3, 3)))
    path = checkpoints.save_weights(whole, tmp_path / "whole.safetensors", {})
    parts = Parts(whole["eye"])
    stored = checkpoints.save_weights(parts, tmp_path / "parts.safetensors", {}, beside=path)
    assert set(checkpoints.read_tensors(stored)) == {"bridge"}
    again = Parts(nn.Sequential(nn.Linear(3, 40)))
    checkpoints.load_weights(again, stored)  # what only the other needs, its words, is passed over
    for name, value in parts.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float())
