"""Statistics of a cloud of features, against plain definitions."""

import pytest
import torch
from torch.nn import functional as F

from vlmcourse.diagnostics.gap import COLUMNS, feature_statistics, report


def test_the_cone_is_the_mean_cosine_of_different_features():
    torch.manual_seed(0)
    features = torch.randn(9, 5) + 0.5
    norm, mean, std, cone = feature_statistics(features)
    pairs = [
        F.cosine_similarity(features[a], features[b], dim=0) for a in range(9) for b in range(9) if a != b
    ]
    assert cone == pytest.approx(torch.stack(pairs).mean().item(), abs=1e-6)
    assert norm == pytest.approx(sum(f.norm().item() for f in features) / 9, rel=1e-6)
    assert torch.allclose(mean, features.sum(0) / 9, atol=1e-6)
    assert torch.allclose(std, ((features - mean).square().sum(0) / 8).sqrt(), atol=1e-6)


@pytest.mark.parametrize(
    ("features", "cone"),
    [
        ([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], -1 / 3),
        ([[1.0, 2.0], [2.0, 4.0], [0.5, 1.0]], 1.0),
        ([[1.0, 0.0], [0.0, 3.0]], 0.0),
    ],
)
def test_cones_by_hand(features, cone):
    assert feature_statistics(torch.tensor(features))[3] == pytest.approx(cone, abs=1e-6)


def test_the_report_has_a_line_for_every_cloud():
    around, aside = (
        torch.tensor([[1.0, 0.0], [-1.0, 0.0]]),
        torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]]),
    )
    rows = report({"words": around, "patches": aside})
    assert list(COLUMNS) == ["length", "length_of_mean", "spread", "cone"]
    assert rows["words"] == pytest.approx((1, 0, 0.5**0.5, -1))
    assert rows["patches"] == pytest.approx((5, 5, 0, 1))
