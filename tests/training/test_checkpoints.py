"""Checkpoints are whole or refused by name; weights fit or the misfit is listed."""

import errno
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

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

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
