"""What T5 promises beside being equal to transformers' (that is in tests/parity)."""

import dataclasses

import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from vlmcourse.models.t5 import T5, T5Config, relative_buckets
from vlmcourse.training.optimizers import MuonAdamW

SMALL = T5Config(
    vocabulary=29,
    width=24,
    encoder_depth=2,
    decoder_depth=3,
    heads=3,
    part=5,
    hidden=40,
    buckets=8,
    farthest=10,
)


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize("bins", [(32, 128), (8, 10), (16, 100)])
def test_bins_equal_transformers_for_every_distance(both_ways, bins):
    distance = torch.arange(-300, 301)[None]
    theirs = T5Attention._relative_position_bucket(distance, both_ways, *bins)
    assert torch.equal(relative_buckets(distance, *bins, both_ways), theirs)


def test_near_distances_have_a_bin_each_and_far_ones_share():
    bins = relative_buckets(-torch.arange(200)[None], 32, 128, both_ways=False)[0]
    assert bins[:16].tolist() == list(range(16)) and (bins[128:] == 31).all() and (bins.diff() >= 0).all()
    both = relative_buckets(torch.tensor([[-3, 3, 0]]), 32, 128, both_ways=True)
    assert both.tolist() == [[3, 19, 0]]


@pytest.fixture(params=[False, True], ids=["relu", "gated"])
def model(request):
    torch.manual_seed(0)
    return T5(T5Config(**{**SMALL.__dict__, "gated": request.param, "tied": not request.param})).eval()


def test_the_answer_does_not_see_its_future_but_all_of_the_question(model):
    ids, labels = torch.randint(1, 29, (2, 7)), torch.randint(1, 29, (2, 6))
    changed, asked = labels.clone(), ids.clone()
    changed[:, 3:] = (changed[:, 3:] + 1) % 29
    asked[:, -1] = (asked[:, -1] + 1) % 29
    expected = model(ids, labels)
    assert torch.allclose(model(ids, changed)[:, :4], expected[:, :4], atol=1e-5)  # the shift gives one more
    assert not torch.allclose(model(ids, changed)[:, 4:], expected[:, 4:], atol=1e-3)
    assert (model(asked, labels)[:, 0] - expected[:, 0]).abs().max() > 1e-4


def test_padding_of_the_question_changes_nothing(model):
    ids, labels = torch.randint(1, 29, (2, 7)), torch.randint(1, 29, (2, 6))
    real = torch.arange(10)[None].expand(2, 10) < 7
    padded = torch.nn.functional.pad(ids, (0, 3), value=5)
    assert torch.allclose(model(padded, labels, real), model(ids, labels), atol=1e-5)


def test_a_label_of_minus_100_reads_as_padding(model):
    ids, labels = torch.randint(1, 29, (2, 7)), torch.randint(1, 29, (2, 6))
    ended = labels.clone()
    ended[:, 4:] = -100
    assert torch.allclose(model(ids, ended)[:, :5], model(ids, labels)[:, :5], atol=1e-5)


def test_the_cache_changes_nothing(model):
    ids = torch.randint(1, 29, (3, 7))
    mask = torch.arange(7) < torch.tensor([[7], [4], [5]])
    written = model.generate(ids, mask=mask, steps=14, eos=None)
    with torch.inference_mode():  # all at once, without a cache
        scores = model.decode(written[:, :-1], model.encode(ids, mask), mask)
    assert torch.equal(written[:, 1:], scores.argmax(dim=-1))
    assert written.shape == (3, 15) and (written[:, 0] == 0).all()


def test_writing_stops_when_all_have_ended(model):
    ids = torch.randint(1, 29, (1, 7))
    endless = model.generate(ids, steps=14, eos=None)[0]
    eos = int(endless[3])
    end = endless.tolist().index(eos, 1)
    assert torch.equal(model.generate(ids, steps=14, eos=eos)[0], endless[: end + 1])


def test_a_new_models_attention_is_not_saturated():
    """Without the division by √part, queries must start small; else one key would get all the weight."""
    from vlmcourse.models.attention import record_attention

    torch.manual_seed(0)
    model = T5(T5Config(vocabulary=29, width=64, heads=2, part=32))
    with record_attention(model) as record, torch.no_grad():
        model(torch.randint(29, (2, 20)), torch.randint(29, (2, 20)))
    assert record[0].max(dim=-1).values.mean() < 0.5


def test_a_new_models_weights_are_as_large_as_its_layers_want():
    torch.manual_seed(0)
    model = T5(T5Config(vocabulary=29, width=64, heads=8, part=16))
    attention, table = model.decoder[0].attention, model.decoder_bias.table.weight
    assert attention.queries.std().item() == pytest.approx((64 * 16) ** -0.5, rel=0.05)
    assert attention.project_in.weight[128:].std().item() == pytest.approx(64**-0.5, rel=0.05)
    assert table.std().item() == pytest.approx(64**-0.5, rel=0.2)


def test_pacing_changes_nothing_but_how_far_a_step_of_an_optimizer_goes(model):
    ids, labels, before = torch.randint(29, (2, 9)), torch.randint(29, (2, 4)), model.state_dict()
    before = {name: weight.clone() for name, weight in before.items()}
    first = model.encoder[0].attention
    with torch.no_grad():
        said = model(ids, labels)
        with pytest.raises(ZeroDivisionError), model.paced():
            torch.testing.assert_close(model(ids, labels), said)
            keys = before["encoder.0.attention.project_in.weight"][15:]  # 3 heads of 5
            assert torch.equal(first.project_in.weight[15:], keys)
            torch.testing.assert_close(
                first.queries, 5**0.5 * before["encoder.0.attention.project_in.weight"][:15]
            )
            with model.paced():  # nothing is divided twice
                torch.testing.assert_close(model(ids, labels), said)
            assert first.scaled and model.encoder_bias.unit == 20  # the inner end is not the outer one
            raise ZeroDivisionError
        torch.testing.assert_close(model(ids, labels), said)
    assert not any(module.scaled for module in model.modules() if hasattr(module, "scaled"))
    torch.testing.assert_close(model.state_dict(), before)


def test_tables_of_distances_count_in_larger_units_while_paced(model):
    table, step = model.encoder_bias.table.weight, 0.125
    before = table.detach().clone()
    with model.paced(), torch.no_grad():
        assert model.encoder_bias.unit == model.decoder_bias.unit == 20
        torch.testing.assert_close(table, before / 20)
        table += step  # of an optimizer
        torch.testing.assert_close(
            model.encoder_bias(*torch.zeros(2, 1, 1, dtype=torch.long)).flatten(), before[0] + 20 * step
        )
    assert model.encoder_bias.unit == model.decoder_bias.unit == 1
    torch.testing.assert_close(table.detach(), before + 20 * step)


def test_whatever_ends_the_pacing_the_weights_are_as_before(model):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), model.paced():
        raise KeyboardInterrupt
    torch.testing.assert_close(model.state_dict(), before)
    assert model.encoder_bias.unit == 1 and not model.decoder[0].cross.scaled


def test_what_an_optimizer_calls_a_table_is_that_of_the_distances():
    model = T5(SMALL)
    matrices = [id(weight) for weight in MuonAdamW(model).parts[0].param_groups[0]["params"]]
    named = [(name, weight) for name, weight in model.named_parameters() if weight.ndim == 2]
    apart = {name for name, weight in named if id(weight) not in matrices}
    assert apart == {"embedding.weight", "encoder_bias.table.weight", "decoder_bias.table.weight"}


def test_the_head_is_the_embedding_matrix_unless_the_configuration_says_otherwise():
    tied, untied = T5(SMALL), T5(dataclasses.replace(SMALL, tied=False))
    assert tied.head.weight is tied.embedding.weight
    assert untied.head.weight is not untied.embedding.weight
