"""A model spread over two processes learns as a whole one, and leaves checkpoints that either can read."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.nn import functional as F

from tests.processes import spawn
from vlmcourse.data.batches import Batches
from vlmcourse.models.attention import Block, run_blocks
from vlmcourse.training.checkpoints import list_checkpoints
from vlmcourse.training.loop import adamw, train
from vlmcourse.training.optimizers import MuonAdamW
from vlmcourse.training.sharding import (
    HOOKS,
    launched_sharded,
    own_part,
    put_together,
    sharded,
    split_like,
    units,
    whole,
)
from vlmcourse.training.sharing import gathered, mean_over_all, process_count


class Reader(nn.Module):
    """Three blocks, tied words, a scalar, and a part that does not learn."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.blocks = nn.ModuleList(Block(8, 2, 16) for _ in range(3))
        self.head = nn.Linear(8, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.frozen = nn.Linear(8, 8).requires_grad_(False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        tokens = run_blocks(self.blocks[:-1], self.frozen(self.embedding(ids)))
        return self.scale * self.head(self.blocks[-1].one_token(tokens[:, :1], tokens)[:, 0])


def hooks_of(model: nn.Module) -> list[dict]:
    """What every module calls before and after its own work."""
    return [
        {name: list(value) for name, value in vars(module).items() if "hooks" in name}
        for module in model.modules()
    ]


def learn_part(folder: Path, kind: str, optimizer: str, steps: int, rank: int) -> None:
    """In a process of its own: train up to a step, from where the folder stands."""
    torch.manual_seed(0)
    model = Reader()
    model.blocks[0].register_forward_hook(lambda *_: None)
    hooks = hooks_of(model)
    torch.manual_seed(rank)
    ids = torch.randint(7, (40, 5), generator=torch.Generator().manual_seed(1))
    held, before = [], list(model.parameters())

    def loss_fn(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        right = batch.sum(1) % 7
        asked = right < 4  # another number of them in each process
        mean = F.cross_entropy(model(batch)[asked], right[asked])
        return mean_over_all(mean, asked.sum()) + gathered(model(batch)).std()

    def watch(*_, **__) -> None:
        held.append(sum(own_part(weight).numel() for weight in model.parameters()))
        assert all(weight.numel() == 0 for weight in before if weight.ndim) == (kind == "fsdp")
        assert all(isinstance(block, FSDPModule) == (kind == "fsdp") for block in model.blocks)
        for group, usual in zip(made.param_groups, at_once, strict=True):
            kinds = {isinstance(weight, DTensor) for weight in group["params"]}
            one_by_one = "fused" in group and len(kinds) == 2  # the scalar is whole everywhere
            assert (group.get("foreach"), group.get("fused")) == ((False, False) if one_by_one else usual)

    made = MuonAdamW(model, 0.02, 0.01) if optimizer == "muon" else adamw(model, 0.01)
    at_once = [(group.get("foreach"), group.get("fused")) for group in made.param_groups]
    options = dict(optimizer=made, schedule=lambda step: 1.0, watch=watch, precision="no")
    history = train(model, Batches(ids, 8), loss_fn, steps=steps, checkpoint=folder, resume=True, **options)
    assert all(now is then for now, then in zip(model.parameters(), before, strict=True))
    assert type(model) is Reader and {type(block) for block in model.blocks} == {Block}
    assert all(weight in made.state for weight in before if weight.requires_grad)
    assert all(weight.grad is None for weight in before) and hooks_of(model) == hooks
    assert [(group.get("foreach"), group.get("fused")) for group in made.param_groups] == at_once
    whole_size = sum(weight.numel() for weight in model.parameters())
    if rank == 0:
        assert (held[-1] < 0.6 * whole_size) == (kind == "fsdp")
        plain = model(ids[:3]).tolist()  # whole again, it computes by itself
        numbers = dict(losses=history.losses, norms=history.gradient_norms, plain=plain)
        folder.with_suffix(".json").write_text(json.dumps(numbers))


def unbroken(tmp_path: Path, optimizer: str) -> dict:
    assert spawn(learn_part, tmp_path / "whole", "one", optimizer, 6) == [0]
    return json.loads((tmp_path / "whole.json").read_text())


def shapes(path: Path, file: str) -> dict:
    with safe_open(path / file, "pt") as stored:
        return {name: stored.get_slice(name).get_shape() for name in stored.keys()} | stored.metadata()  # noqa: SIM118


@pytest.mark.parametrize(
    ("optimizer", "order"),
    [("muon", ("one", "fsdp", "ddp")), ("adamw", ("fsdp", "one")), ("muon", ("ddp", "fsdp", "one"))],
)
def test_a_run_goes_on_whatever_holds_the_model(tmp_path, optimizer, order):
    expected = unbroken(tmp_path, optimizer)
    folder = tmp_path / "changing"
    for number, kind in enumerate(order, 1):
        steps = 6 * number // len(order)
        assert set(spawn(learn_part, folder, kind, optimizer, steps, kind=kind)) == {0}
    found = json.loads(folder.with_suffix(".json").read_text())
    assert found["losses"] == pytest.approx(expected["losses"], abs=1e-5)
    assert found["norms"] == pytest.approx(expected["norms"], rel=1e-4)
    for row, right in zip(found["plain"], expected["plain"], strict=True):
        assert row == pytest.approx(right, abs=1e-4)
    for file in ("model.safetensors", "optimizer.safetensors"):
        newest, of_one = list_checkpoints(folder)[-1], list_checkpoints(tmp_path / "whole")[-1]
        assert shapes(newest, file) == shapes(of_one, file)


def test_blocks_are_gathered_one_by_one_unless_they_share_weights():
    model = Reader()
    assert units(model) == list(model.blocks)
    model.blocks[2].expand = model.blocks[0].expand
    assert units(model) == [model.blocks[1]]
    model.again = model.blocks[1].contract
    assert units(model) == []


def test_scalars_alone_are_no_unit():
    model = nn.Module()
    model.gates = nn.ModuleList([nn.Module(), nn.Linear(2, 2)])
    model.gates[0].gate = nn.Parameter(torch.tensor(0.0))
    assert units(model) == [model.gates[1]]


@pytest.mark.parametrize("table", [None, ()], ids=["gone", "another"])
def test_a_torch_that_would_not_let_go_of_a_model_is_named_before_anything_is_spread(monkeypatch, table):
    if table is None:
        monkeypatch.delattr("torch.distributed._composable_state._module_state_mapping")
    else:
        monkeypatch.setattr("torch.distributed._composable_state._module_state_mapping", table)
    model = Reader()
    spread = sharded(model, adamw(model, 0.01), torch.device("cpu"), True)
    with pytest.raises(RuntimeError, match="launch with --multi_gpu in place of --use_fsdp"):
        spread.__enter__()
    assert all(type(weight) is nn.Parameter for weight in model.parameters())


def test_one_process_changes_nothing():
    rows = torch.randn(3, 2)
    assert gathered(rows) is rows and whole(rows) is rows and own_part(rows) is rows
    assert mean_over_all(rows[0, 0], torch.tensor(0)) is not None and process_count() == 1


def parts_together(rank: int) -> None:
    """In a process of its own, beside another one: three rows, one row, and a number that all have."""
    distributed.init_process_group("gloo")
    assert launched_sharded()
    mesh = init_device_mesh("cpu", (2,))
    for rows, own in ((3, (2, 1)), (1, (1, 0)), (4, (2, 2))):
        values = torch.arange(2.0 * rows).reshape(rows, 2)
        spread = distribute_tensor(values, mesh, [Shard(0)])
        part = values[: own[0]] if rank == 0 else values[own[0] :]
        assert len(part) == own[rank] and own_part(spread).tolist() == part.tolist()
        assert whole(spread).tolist() == values.tolist()
        assert split_like(values + 1, spread).tolist() == (part + 1).tolist()
        assert put_together(part + 1, spread).tolist() == (values + 1).tolist()
    own_part(spread).mul_(2)  # writes to the tensor
    assert whole(spread).tolist() == (2 * values).tolist()
    assert split_like(values, values) is values and put_together(values, values) is values
    os.environ["ACCELERATE_USE_FSDP"] = "false"
    assert not launched_sharded()
    distributed.destroy_process_group()


def test_each_process_holds_a_part_and_can_put_all_together():
    assert spawn(parts_together, kind="fsdp") == [0, 0]


def test_all_hooks_of_a_module_are_known():
    assert sorted(HOOKS) == sorted(name for name in vars(nn.Module()) if "hooks" in name)


def test_one_process_alone_shards_nothing(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert launched_sharded() is False


def nothing_to_count(counts: tuple[float, float], file: Path, rank: int) -> None:
    """In a process of its own: one of two, or both, have nothing to learn from but that biases are small."""
    torch.manual_seed(0)
    model, counts = nn.Linear(2, 1), torch.tensor(counts)[:, None]

    def loss_fn(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        asked = batch[:, 0] > 0
        squares = model(batch.expand(-1, 2))[asked].square()
        mean = squares.mean() if counts.any() else squares.sum()
        return mean_over_all(mean, asked.sum()) + model(0 * batch.expand(-1, 2)).square().mean()

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    history = train(model, [counts], loss_fn, steps=2, precision="no", optimizer=optimizer)
    if rank == 0:
        file.write_text(json.dumps([history.losses, history.gradient_norms]))


@pytest.mark.parametrize("counts", [(4.0, 0.0), (0.0, 0.0)], ids=["one", "all"])
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_process_with_nothing_to_learn_from_does_no_harm(tmp_path, kind, counts):
    for how in ("one", kind):
        assert set(spawn(nothing_to_count, counts, tmp_path / how, kind=how)) == {0}
    one, two = (json.loads((tmp_path / how).read_text()) for how in ("one", kind))
    assert two[0] == pytest.approx(one[0], rel=1e-5) and two[1] == pytest.approx(one[1], rel=1e-5)
