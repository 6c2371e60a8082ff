"""What BERT promises beside being equal to transformers' (that is in tests/parity)."""

import pytest
import torch

from vlmcourse.models.bert import Bert, BertConfig, BertForMaskedLM, mask_tokens

SMALL = BertConfig(vocabulary=29, width=24, depth=2, heads=3, positions=12)


def test_fifteen_percent_are_asked_for_and_most_of_them_hidden():
    torch.manual_seed(0)
    ids = torch.randint(5, 1000, (200, 500))
    special = torch.rand(ids.shape) < 0.1
    inputs, labels = mask_tokens(ids, torch.rand(ids.shape), torch.rand(ids.shape), ids + 1000, 4, special)
    asked = labels != -100
    assert not asked[special].any() and torch.equal(labels[asked], ids[asked])
    assert asked[~special].float().mean().item() == pytest.approx(0.15, abs=0.003)
    shares = [
        (kind[asked]).float().mean().item() for kind in (inputs == 4, inputs == ids + 1000, inputs == ids)
    ]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    assert torch.equal(inputs[~asked], ids[~asked])


def test_the_borders_are_as_the_paper_has_them():
    ids, dice = torch.full((1, 4), 7), torch.tensor([[0.0, 0.8, 0.9, 0.5]])
    chosen = torch.tensor([[0.149, 0.1, 0.1, 0.15]])
    inputs, labels = mask_tokens(
        ids, chosen, dice, torch.full_like(ids, 9), 4, torch.zeros_like(ids, dtype=torch.bool)
    )
    assert inputs.tolist() == [[4, 9, 7, 7]] and labels.tolist() == [[7, 7, 7, -100]]


def test_tokens_look_both_ways():
    model, text = Bert(SMALL).eval(), torch.randint(29, (2, 8))
    other = text.clone()
    other[:, -1] = (other[:, -1] + 1) % 29
    assert (model(text)[:, 0] - model(other)[:, 0]).abs().max() > 1e-6


def test_padding_changes_nothing():
    model, text = BertForMaskedLM(SMALL).eval(), torch.randint(29, (2, 8))
    real = torch.ones(2, 11, dtype=torch.bool)
    real[:, 8:] = False
    padded = torch.nn.functional.pad(text, (0, 3), value=5)
    assert torch.allclose(model(padded, mask=real)[:, :8], model(text), atol=1e-6)
    assert not torch.allclose(model(padded)[:, :8], model(text), atol=1e-6)


def test_texts_beyond_the_positions_are_refused():
    with pytest.raises(ValueError, match="13 tokens is too long for this BERT: 12 at most"):
        Bert(SMALL)(torch.zeros(1, 13, dtype=torch.long))


def test_it_learns_to_fill_the_gap():
    """Every text repeats one id; the hidden one can be read off its neighbours."""
    torch.manual_seed(0)
    model = BertForMaskedLM(SMALL)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(300):
        ids = torch.randint(2, 29, (32, 1)).expand(32, 6)
        inputs = ids.clone()
        inputs[:, 2] = 1
        loss = torch.nn.functional.cross_entropy(model(inputs)[:, 2], ids[:, 2])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
