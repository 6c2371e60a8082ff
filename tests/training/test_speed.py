"""The peak is that of a product, utilisation a share of it, the fastest way the one that took least."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vlmcourse.data.batches import Batches
from vlmcourse.diagnostics.cost import flops
from vlmcourse.models.language import Llama, LlamaConfig, next_token_loss
from vlmcourse.training import loop, speed
from vlmcourse.training.loop import WithLoss, train
from vlmcourse.training.speed import WAYS, fastest_way, matmul_peak, stepwise, utilisation


@pytest.fixture
def clock(monkeypatch):
    """Time passes only when a test says so."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: now.seconds))

    def passes(seconds: float) -> None:
        now.seconds += seconds

    return passes


def test_utilisation_is_the_share_of_what_could_have_been_done():
    assert utilisation(flops=90e12, seconds=0.5, peak=400e12) == pytest.approx(0.45)
    for numbers in ((0, 1, 1), (1, 0, 1), (1, 1, -2), (1, float("nan"), 1)):
        with pytest.raises(ValueError, match="above 0"):
            utilisation(*numbers)


def test_the_peak_is_that_of_the_size_that_suits_the_device_best(clock, monkeypatch):
    """Two sizes, five rounds each after one that does not count; the median round counts."""
    taken = iter([99, 4, 1, 2, 3, 9, 99, 2, 2, 2, 2, 2])
    multiply, sizes = speed._often, []

    def product(left, right, times):
        multiply(left, right, times)
        assert left.dtype == torch.bfloat16 and left.std() > 0.9 and times == 1
        sizes.append(left.shape)
        clock(next(taken))

    monkeypatch.setattr(speed, "_often", product)
    assert matmul_peak("cpu", torch.bfloat16, (16, 8)) == max(2 * 16**3 / 3, 2 * 8**3 / 2)
    assert sizes == [(16, 16)] * 6 + [(8, 8)] * 6


def test_the_peak_counts_what_is_computed():
    assert flops(lambda: matmul_peak(sides=(8, 16), rounds=3)) == 4 * 2 * (8**3 + 16**3)
    assert matmul_peak(sides=(64,)) > 1e6
    with FlopCounterMode(display=False) as counter:
        speed._often(torch.ones(4, 4), torch.ones(4, 4), 10)
    assert counter.get_total_flops() == 10 * 2 * 4**3
    assert set(speed.SIDES) == {"cuda", "cpu"}


def small() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = Llama(LlamaConfig(50, 16, 2, 2, 1, 24))
    return WithLoss(model, lambda model, ids: next_token_loss(model(ids), ids)), torch.randint(50, (3, 9))


def test_attention_in_steps_says_the_same_and_takes_no_kernel():
    net, ids = small()
    steps = stepwise(net)
    assert torch.allclose(steps(ids), net(ids), atol=1e-6)
    with FlopCounterMode(display=False) as kernel:
        net(ids)
    with FlopCounterMode(display=False) as single:
        steps(ids)
    attention = 2 * 2 * 2 * 3 * 9 * 9 * 16  # which torch's counter sees only where there is no kernel
    assert single.get_total_flops() - kernel.get_total_flops() == attention
    assert list(WAYS) == ["as it is", "attention in steps", "compiled"]
    assert WAYS["as it is"](net) is net and WAYS["compiled"] is torch.compile


def taking(clock, called, **seconds: float) -> dict:
    """Ways that take so many seconds a call, the first call of each a hundred more."""

    def way(name: str):
        def make(net):
            def run(batch):
                clock(seconds[name] + 100 * (name not in called))
                called.append(name)
                return net(batch)

            return run

        return make

    return {name: way(name) for name in seconds}


def test_the_fastest_way_is_found_in_turns(clock):
    net, ids = small()
    called: list[str] = []
    tried = fastest_way(net, ids, ways=taking(clock, called, slow=3.0, quick=2.0, slower=4.0), rounds=2)
    assert tried.name == "quick" and tried.seconds == dict(slow=3.0, quick=2.0, slower=4.0)
    assert called == ["slow", "quick", "slower"] * 3 and tried.failed == {}
    tried.run(ids)
    assert called[-1] == "quick"


def test_what_is_tried_leaves_the_model_as_it_was():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(3)
    drawn = torch.rand(5)
    torch.manual_seed(3)

    @contextmanager
    def context():
        contexts.append(1)
        yield

    contexts: list[int] = []
    summed = {"as it is": lambda net: lambda batch: (net(batch).sum(), {"other": 1})}
    fastest_way(net, torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), context, summed, rounds=4)
    assert torch.equal(torch.rand(5), drawn) and len(contexts) == 5
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(weight.grad is None for weight in net.parameters())


def broken(net):
    raise RuntimeError("no compiler\nat all")


def later(net):
    def run(batch):
        raise RuntimeError("not with these shapes")

    return run


def test_a_way_that_fails_is_left_out_and_the_yardstick_must_not():
    net, ids = small()
    ways = {"as it is": lambda net: net, "broken": broken, "later": later}
    tried = fastest_way(net, ids, ways=ways, rounds=1)
    assert tried.name == "as it is" and list(tried.seconds) == ["as it is"]
    assert tried.failed == {
        "broken": "RuntimeError: no compiler",
        "later": "RuntimeError: not with these shapes",
    }
    for ways in ({"later": later, "as it is": lambda net: net}, {"broken": broken}):
        with pytest.raises(RuntimeError):
            fastest_way(net, ids, ways=ways, rounds=1)
    assert all(weight.grad is None for weight in net.parameters())


def trained(**options):
    net, ids = small()
    return train(net.model, Batches(ids, 3), net.loss_fn, steps=4, lr=0.01, precision="no", **options)


def test_a_training_goes_the_fastest_way_and_learns_the_same(monkeypatch, tmp_path):
    tried: list[torch.Tensor] = []

    def choose(net, batch, context):
        tried.append(batch)
        ways = {"as it is": lambda net: net, "steps": stepwise}
        return fastest_way(net, batch, context, ways, rounds=1)._replace(name="steps", run=stepwise(net))

    monkeypatch.setattr(loop, "fastest_way", choose)
    plain, quick = trained(), trained(fastest=True, checkpoint=tmp_path)
    assert plain.losses == pytest.approx(quick.losses, abs=1e-5) and len(tried) == 1
    assert plain.way == "" and quick.way == "steps" and repr(quick).endswith("stopped by steps, steps)")
    again = trained(checkpoint=tmp_path, resume=True)
    assert again.way == "" and again.losses == quick.losses


def test_several_processes_are_refused(monkeypatch):
    started = loop._start_accelerator

    def many(*arguments):
        accelerator = started(*arguments)
        monkeypatch.setattr(type(accelerator), "num_processes", 2)
        return accelerator

    monkeypatch.setattr(loop, "_start_accelerator", many)
    with pytest.raises(ValueError, match="one process alone"):
        trained(fastest=True)


@pytest.mark.slow
def test_a_compiled_step_is_the_same_step():
    net, rows = WithLoss(nn.Linear(4, 2), lambda model, rows: model(rows).square().mean()), torch.randn(8, 4)
    tried = fastest_way(net, rows, rounds=1)
    assert set(tried.seconds) == set(WAYS)
    assert torch.allclose(WAYS["compiled"](net)(rows), net(rows), atol=1e-5)


@pytest.mark.gpu
def test_a_gpu_tries_all_ways():
    net, ids = small()
    tried = fastest_way(net.cuda(), ids.cuda(), lambda: torch.autocast("cuda", torch.float16))
    assert set(tried.seconds) | set(tried.failed) == set(WAYS) and not tried.failed
    assert matmul_peak("cuda", torch.float16) > 1e12
