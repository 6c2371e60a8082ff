"""A projector that chooses words."""

import torch

from vlmcourse.models.choosing import ChoosingProjector


def new() -> tuple[ChoosingProjector, list[torch.Tensor]]:
    torch.manual_seed(0)
    lists = [torch.randn(3, 5), torch.randn(2, 5)]
    return ChoosingProjector(7, 4, lists), lists


def test_each_token_is_a_mixture_of_the_words_of_its_list():
    projector, lists = new()
    features = torch.randn(6, 1, 7)
    tokens = projector(features)
    hidden = torch.nn.functional.gelu(features[:, 0] @ projector.expand.weight.T + projector.expand.bias)
    scores = hidden @ projector.contract.weight.T + projector.contract.bias
    expected = [scores[:, :3].softmax(1) @ lists[0], scores[:, 3:].softmax(1) @ lists[1]]
    torch.testing.assert_close(tokens, torch.stack(expected, 1))
    assert projector.spread == 2 and projector.tokens(1) == 2 and projector.tokens(3) == 6
    assert projector.counts == [3, 2] and projector.shuffle == 1
    assert [scores.shape for scores in projector.scores(features)] == [(6, 3), (6, 2)]
    assert torch.equal(projector(features, grid=(1, 1)), tokens)


def test_words_are_not_stored():
    projector, _ = new()
    assert set(projector.state_dict()) == {
        f"{p}.{k}" for p in ("expand", "contract") for k in ("weight", "bias")
    }


def test_the_words_stay_as_they_were_when_the_table_changes():
    table = torch.nn.Parameter(torch.ones(2, 5))
    projector = ChoosingProjector(7, 4, [table])
    with torch.no_grad():
        table += 1
    assert torch.equal(projector.vectors, torch.ones(2, 5)) and not projector.vectors.requires_grad


def test_a_number_that_never_changes_does_not_spoil_calibration():
    projector, _ = new()
    features = torch.randn(50, 1, 7)
    features[..., 2] = 5.0
    projector.calibrate(features)
    assert all(parameter.isfinite().all() for parameter in projector.parameters())
    assert projector(features).isfinite().all()


def test_calibrated_it_reads_any_scale_as_if_it_were_standard():
    projector, _ = new()
    features = torch.randn(500, 1, 7)
    standard = (features - features.mean(0)) / features.std(0)
    wanted = projector(standard)
    strange = 100 + 30 * features
    projector.calibrate(strange)
    torch.testing.assert_close(projector(strange), wanted, atol=1e-3, rtol=0)
