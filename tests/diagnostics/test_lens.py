"""Nearest words, against a search by hand."""

import pytest
import torch
from torch.nn import functional as F

from vlmcourse.diagnostics.lens import nearest_words

NAMES = ["north", "east", "south", "west", "far north"]
TABLE = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 3.0]])


def test_the_angle_decides():
    vectors = torch.tensor([[0.1, 2.0], [0.0, -0.5], [5.0, 1.0]])
    by_angle = nearest_words(vectors, TABLE, NAMES, k=2)
    assert [row[0] for row in by_angle.words] == ["north", "south", "east"]
    assert by_angle.scores[1].tolist() == [1, 0]


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
])  # fmt: skip
def test_bad_input_is_named_with_its_numbers(change, message, unchecked):
    with pytest.raises(ValueError, match=message):
        nearest_words(**{"vectors": torch.ones(3, 2), "table": TABLE, "names": NAMES, **change})
