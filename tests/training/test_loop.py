"""The loop trains, reports, stops and refuses as its docstring says."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vlmcourse.data.batches import Batches
from vlmcourse.training.checkpoints import CheckpointError
from vlmcourse.training.history import History
from vlmcourse.training.loop import adamw, learn, train, warmup_cosine


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(240, 6, generator=generator)
    return x, (x[:, 0] > x[:, 1]).long()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))


def loss_fn(model, batch):
    logits = model(batch[0])
    return F.cross_entropy(logits, batch[1]), {
        "accuracy": (logits.argmax(-1) == batch[1]).float().mean(),
        "ten": 10,
    }


def test_a_model_learns_and_every_step_is_reported(data, model):
    seen = []
    history = train(
        model, Batches(data, 24), loss_fn, steps=120, lr=1e-2, watch=lambda *a, **kw: seen.append((a, kw))
    )
    assert history.losses[-1] < 0.3 < history.losses[0] and history.metrics["accuracy"][-1] > 0.9
    assert (
        len(history.losses)
        == len(history.gradient_norms)
        == len(history.metrics["ten"])
        == history.steps
        == 120
    )
    assert seen == [
        ((k + 1,), {"loss": history.losses[k], "accuracy": history.metrics["accuracy"][k], "ten": 10.0})
        for k in range(120)
    ]
    assert history.stopped == "steps" and "120 steps" in repr(history)


def test_a_progress_bar_bears_its_name(data, model, monkeypatch, capsys):
    monkeypatch.delenv("CI")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    train(model, Batches(data, 24), loss_fn, steps=2, name="CNN, 250 pictures")
    assert "CNN, 250 pictures: 100%" in capsys.readouterr().err
    train(model, Batches(data, 24), loss_fn, steps=2)
    line = capsys.readouterr().err
    assert f"{type(model).__name__}: 100%" in line and "2/2" in line and "loss " in line
    monkeypatch.setenv("CI", "1")
    train(model, Batches(data, 24), loss_fn, steps=2)
    assert capsys.readouterr().err == ""


def test_a_plot_and_a_function_can_watch_together(data, model):
    class Plot:
        def add(self, step, **values):
            steps.append((step, sorted(values)))

    steps = []
    train(
        model, Batches(data, 24), loss_fn, steps=2, watch=[Plot(), lambda step, loss, **_: steps.append(step)]
    )
    assert steps == [(1, ["accuracy", "loss", "ten"]), 1, (2, ["accuracy", "loss", "ten"]), 2]


def test_accumulated_gradients_equal_the_big_batch(data, model):
    twin = copy.deepcopy(model)
    big = train(model, Batches(data, 48), loss_fn, steps=10)
    small = train(twin, Batches(data, 12), loss_fn, steps=10, accumulate=4)
    assert big.losses == pytest.approx(small.losses, abs=1e-6)
    assert all(
        torch.allclose(a, b, atol=1e-6) for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )


def test_many_trainings_in_one_process_each_with_its_own_precision(data, model):
    types = []

    def spy(model, batch):
        types.append(model(batch[0]).dtype)
        return loss_fn(model, batch)

    for precision in ("no", "bf16", "no", None):
        assert train(model, Batches(data, 24), spy, steps=2, precision=precision).precision == (
            precision or "no"
        )
    assert types == [torch.float32] * 2 + [torch.bfloat16] * 2 + [torch.float32] * 4
    assert "forward" not in vars(model) and model[0].weight.dtype == torch.float32


def test_the_same_batches_and_weights_give_the_same_bits(data, model):
    batches, twin = Batches(data, 24), copy.deepcopy(model)
    assert train(model, batches, loss_fn, steps=15).losses == train(twin, batches, loss_fn, steps=15).losses


def test_unless_told_otherwise_adamw_takes_the_steps_by_the_schedule(data, model):
    """The loop's arithmetic once more, by hand: batch, loss, backward, clip at 1, step."""
    twin, batches = copy.deepcopy(model), Batches(data, 24, seed=2)
    train(model, batches, loss_fn, steps=25, lr=0.03)
    optimizer, factor, stream = adamw(twin, 0.03), warmup_cosine(25), batches.stream()
    for step in range(25):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.03 * factor(step)
        optimizer.zero_grad()
        loss_fn(twin, next(stream))[0].backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.step()
    for mine, by_hand in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, by_hand)


def test_the_model_trains_in_training_mode(data, model):
    modes = []
    train(model.eval(), [data], lambda m, b: (modes.append(m.training), loss_fn(m, b))[1], steps=2)
    assert modes == [True, True] and not model.training


def test_checkpoints_come_every_so_many_steps_and_at_the_end_and_the_newest_stay(data, model, tmp_path):
    def steps_kept(**options) -> list[str]:
        folder = tmp_path / str(options)
        train(copy.deepcopy(model), Batches(data, 24), loss_fn, steps=7, checkpoint=folder, **options)
        return sorted(path.name for path in folder.glob("step-*"))

    assert steps_kept(save_every=3, keep=9) == ["step-00000003", "step-00000006", "step-00000007"]
    assert steps_kept(save_every=3) == ["step-00000006", "step-00000007"]
    assert steps_kept() == ["step-00000007"]


def test_numbers_of_accumulated_batches_are_averaged(model):
    values, made = iter([1.0, 3.0, 5.0, 9.0]), []

    def numbered(model, batch):
        made.append(next(values))
        return model(batch).square().mean(), {"number": made[-1]}

    assert train(model, [torch.ones(2, 6)], numbered, steps=2, accumulate=2).metrics == {"number": [2.0, 7.0]}


def test_a_history_says_where_its_loss_began_and_the_mean_of_its_last_twenty():
    history = History(losses=[9.0, *[5.0] * 9, *[1.0, 3.0] * 10], seconds=1.25, stopped="steps")
    assert history.steps == 30
    assert repr(history) == ("History(30 steps in 1.2 s, loss 9 → 2 (mean of the last 20), stopped by steps)")
    assert repr(History(losses=[4.0, 2.0])).startswith(
        "History(2 steps in 0.0 s, loss 4 → 3 (mean of the last 2)"
    )
    assert repr(History()) == "History(no steps)"


def test_a_list_of_one_batch_is_begun_again(data, model):
    assert train(model, [data], loss_fn, steps=30, lr=1e-2).steps == 30
    with pytest.raises(ValueError, match="batches is empty"):
        train(model, [], loss_fn, steps=1)


def test_an_optimizer_comes_back_with_its_own_learning_rate_and_the_model_in_its_own_mode(data, model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):
        train(model.eval(), Batches(data, 24), loss_fn, steps=4, optimizer=optimizer)
        assert optimizer.param_groups[0]["lr"] == 0.5 and not model.training


def test_gradients_are_clipped_and_their_norm_before_is_kept(data, model):
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = [parameter.clone() for parameter in model.parameters()]
    history = train(
        model, Batches(data, 24), loss_fn, steps=1, optimizer=optimizer, clip=1e-3, schedule=lambda step: 1.0
    )
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before, strict=True)]).norm()
    assert history.gradient_norms[0] > 0.1 and moved.item() == pytest.approx(1e-3, rel=1e-3)


def test_time_runs_out_and_a_resumed_run_gets_new_time(data, model, tmp_path):
    kwargs = dict(steps=10**6, checkpoint=tmp_path, resume=True, schedule=lambda step: 1.0)
    first = train(model, Batches(data, 24), loss_fn, seconds=0.05, **kwargs)
    second = train(model, Batches(data, 24), loss_fn, seconds=0.05, **kwargs)
    assert first.stopped == second.stopped == "seconds"
    assert second.steps > first.steps > 0 and second.losses[: first.steps] == first.losses
    assert 0.05 <= first.seconds < 5 and second.seconds >= first.seconds + 0.05


def test_a_finished_run_resumed_returns_its_history_and_weights(data, model, tmp_path):
    fresh = copy.deepcopy(model)
    first = train(model, Batches(data, 24), loss_fn, steps=5, checkpoint=tmp_path)
    again = train(fresh, Batches(data, 24), loss_fn, steps=5, checkpoint=tmp_path, resume=True)
    assert again == first and torch.equal(fresh[0].weight, model[0].weight)


def test_a_folder_with_another_run_is_not_overwritten(data, model, tmp_path):
    train(model, Batches(data, 24), loss_fn, steps=2, checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="already holds a run up to step-00000002; pass resume=True"):
        train(model, Batches(data, 24), loss_fn, steps=2, checkpoint=tmp_path)
    with pytest.raises(
        CheckpointError, match=r"step-00000002 was written by another model than Linear:\n  missing"
    ):
        train(nn.Linear(6, 2), Batches(data, 24), loss_fn, steps=2, checkpoint=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r"does not fit this run: .*size 24, but size is now 12"):
        train(model, Batches(data, 12), loss_fn, steps=2, checkpoint=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="a list keeps no position"):
        train(model, [data], loss_fn, steps=2, checkpoint=tmp_path / "list")


@pytest.mark.parametrize("wrong", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_before_it_harms_the_weights(data, model, wrong):
    kept = []

    def bad_at_step_3(model, batch):
        loss, metrics = loss_fn(model, batch)
        if len(kept) == 2:
            loss = loss * math.nan if wrong == "loss" else loss + (loss * 0).sqrt()
        return loss, metrics

    with pytest.raises(FloatingPointError, match=r"step 3: .*nan.*smaller learning rate"):
        train(
            model,
            Batches(data, 24),
            bad_at_step_3,
            steps=9,
            watch=lambda *_, **__: kept.append(model[0].weight.clone()),
        )
    assert len(kept) == 2 and torch.equal(model[0].weight, kept[-1])


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda loss: None, TypeError, "returned NoneType"),
        (lambda loss: loss.expand(24), TypeError, r"tensor of shape \(24,\)"),
        (lambda loss: loss.item(), TypeError, "returned float"),
        (lambda loss: loss.detach(), ValueError, "depends on no trainable parameter"),
        (lambda loss: (loss, {"loss": loss}), ValueError, "metric 'loss' must be one number"),
        (lambda loss: (loss, {"each": loss.expand(3)}), ValueError, "metric 'each' must be one number"),
    ],
)
def test_a_wrong_answer_of_loss_fn_is_named(data, model, answer, error, message):
    with pytest.raises(error, match=message):
        train(model, Batches(data, 24), lambda model, batch: answer(loss_fn(model, batch)[0]), steps=1)


def test_weight_decay_spares_biases_and_frozen_parameters_are_left_out(model):
    model[0].requires_grad_(False)
    decayed, spared = adamw(model, 1e-3).param_groups
    assert decayed["params"] == [model[2].weight] and decayed["weight_decay"] > 0
    assert spared["params"] == [model[2].bias] and spared["weight_decay"] == 0
    assert decayed["weight_decay"] == 0.05 and decayed["lr"] == spared["lr"] == 1e-3
    with pytest.raises(ValueError, match="is everything frozen"):
        adamw(model.requires_grad_(False), 1e-3)


def test_the_schedule_rises_to_one_and_falls_to_zero():
    factor = warmup_cosine(100)
    values = [factor(step) for step in range(101)]
    assert values[:10] == pytest.approx([k / 10 for k in range(1, 11)]) and values[10] == 1.0
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[55] == pytest.approx(0.5) and values[100] == 0 and factor(500) == 0
    assert values[25] == pytest.approx((1 + math.cos(math.pi / 6)) / 2)


def test_a_tenth_of_the_steps_warms_up_but_never_more_than_a_hundred():
    for steps, warmup in ((40, 4), (1000, 100), (5000, 100)):
        factor = warmup_cosine(steps)
        assert factor(0) == pytest.approx(1 / warmup) and factor(warmup - 1) == factor(warmup) == 1 > factor(
            warmup + 1
        )
    assert warmup_cosine(5)(0) == 1


def test_a_model_that_has_learned_is_in_evaluation_mode_and_nothing_is_frozen(data, model):
    first = next(model.parameters())
    first.requires_grad_(False)
    learn(model, Batches(data, 8), loss_fn, steps=2, lr=0.01)
    assert not model.training
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in model.parameters())
