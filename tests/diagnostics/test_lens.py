"""Nearest words, against a search by hand and against the model's own predictions."""

import pytest
import torch
from torch.nn import functional as F

from vlmcourse.diagnostics.lens import logit_lens, nearest_words
from vlmcourse.models.language import Llama, LlamaConfig

NAMES = ["north", "east", "south", "west", "far north"]
TABLE = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 3.0]])


def test_the_angle_decides_or_the_product_does():
    vectors = torch.tensor([[0.1, 2.0], [0.0, -0.5], [5.0, 1.0]])
    by_angle = nearest_words(vectors, TABLE, NAMES, k=2)
    assert [row[0] for row in by_angle.words] == ["north", "south", "east"]
    assert by_angle.scores[1].tolist() == [1, 0]
    by_product = nearest_words(vectors, TABLE, NAMES, k=5, measure="probability")
    assert [row[0] for row in by_product.words] == ["far north", "south", "east"]
    assert torch.allclose(by_product.scores.sum(dim=1), torch.ones(3))
    assert by_product.scores[0, 0].item() == pytest.approx(torch.softmax(TABLE @ vectors[0], 0)[4].item())


def test_it_finds_what_a_loop_finds():
    torch.manual_seed(0)
    vectors, table = torch.randn(7, 6), torch.randn(11, 6)
    found = nearest_words(vectors, table, [f"word {n}" for n in range(11)], k=3)
    assert found.scores.shape == (7, 3)
    for vector, words, scores in zip(vectors, found.words, found.scores, strict=True):
        cosines = [F.cosine_similarity(vector, word, dim=0).item() for word in table]
        best = sorted(range(11), key=lambda n: -cosines[n])[:3]
        assert words == [f"word {n}" for n in best]
        assert scores.tolist() == pytest.approx([cosines[n] for n in best], abs=1e-6)


def test_the_size_of_a_vector_does_not_turn_it():
    vectors = torch.randn(4, 2)
    one, other = (nearest_words(scale * vectors.bfloat16(), TABLE, NAMES) for scale in (1, 100))
    assert torch.allclose(one.scores, other.scores, atol=1e-2)


@pytest.mark.parametrize(("change", "message"), [
    ({"vectors": torch.ones(3, 4)}, r"got \(3, 4\) and \(5, 2\); were the vectors projected"),
    ({"vectors": torch.ones(2)}, r"got \(2,\)"),
    ({"names": NAMES[:3]}, "3 names for a table of 5 words"),
    ({"k": 6}, "k from 1 to 5"),
    ({"k": 0}, "k from 1 to 5"),
    ({"measure": "euclid"}, "'cosine' or 'probability', not 'euclid'"),
])  # fmt: skip
def test_bad_input_is_named_with_its_numbers(change, message, unchecked):
    with pytest.raises(ValueError, match=message):
        nearest_words(**{"vectors": torch.ones(3, 2), "table": TABLE, "names": NAMES, **change})


# ---- logit lens

CONFIG = LlamaConfig(23, width=16, depth=3, heads=4, groups=2)
WORDS = [f"word {n}" for n in range(23)]


@pytest.fixture
def model():
    torch.manual_seed(1)
    model = Llama(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def test_the_last_layer_is_the_models_own_prediction(model):
    ids = torch.randint(23, (2, 5))
    found = logit_lens(model, model.embed(ids), WORDS, k=4)
    assert found.scores.shape == (4, 10, 4) and len(found.words) == 4
    own = model(ids).softmax(dim=-1).flatten(0, 1)
    assert torch.allclose(found.scores[-1], own.topk(4).values, atol=1e-5)
    assert found.words[-1] == [[WORDS[n] for n in row] for row in own.topk(4).indices.tolist()]


def test_layers_are_those_of_a_shorter_model(model):
    ids = torch.randint(23, (2, 5))
    found = logit_lens(model, model.embed(ids), WORDS)
    shorter = Llama(LlamaConfig(23, width=16, depth=2, heads=4, groups=2))
    shorter.load_state_dict(
        {name: weight for name, weight in model.state_dict().items() if "blocks.2" not in name}
    )
    assert torch.allclose(found.scores[2], shorter(ids).softmax(-1).flatten(0, 1).topk(5).values, atol=1e-5)
    entering = model.head(model.norm(model.embed(ids))).softmax(-1).flatten(0, 1)
    assert torch.allclose(found.scores[0], entering.topk(5).values, atol=1e-6)


def test_places_choose_tokens_and_padding_changes_nothing(model):
    ids = torch.randint(23, (2, 5))
    places = torch.tensor([[False, True, True, False, False], [False, True, True, False, False]])
    found = logit_lens(model, model.embed(ids), WORDS, places=places)
    assert torch.allclose(
        found.scores, logit_lens(model, model.embed(ids), WORDS).scores[:, [1, 2, 6, 7]], atol=1e-6
    )
    longer, mask = F.pad(ids, (3, 0)), F.pad(torch.ones(2, 5, dtype=torch.bool), (3, 0))
    padded = logit_lens(model, model.embed(longer), WORDS, places=F.pad(places, (3, 0)), mask=mask)
    assert torch.allclose(found.scores, padded.scores, atol=1e-5) and padded.words == found.words


def test_nothing_is_left_to_differentiate(model):
    embeddings = model.embed(torch.randint(23, (1, 4))).requires_grad_()
    assert not logit_lens(model, embeddings, WORDS).scores.requires_grad
