"""An eye that sums up its patches."""

import torch

from vlmcourse.data.pixels import normalise, standardise
from vlmcourse.interop import hub, summary
from vlmcourse.interop.summary import SummaryEye, summarise
from vlmcourse.models.vit import ViT, ViTConfig


def test_a_summary_is_mean_deviation_and_class_token_of_one_stream():
    torch.manual_seed(0)
    vit = ViT(ViTConfig(28, 7, width=24, depth=3, heads=3)).eval()
    eye, pixels = SummaryEye(vit), torch.randint(0, 256, (2, 28, 28, 3), dtype=torch.uint8)
    assert eye.config.grid == (1, 1) and eye.config.width == 72
    with torch.no_grad():
        streams = vit.layers(standardise(pixels))
        seen = eye.streams(normalise(pixels))
        assert seen.shape == (4, 2, 72)
        for layer, at in ((2, 2), (-1, 3), (0, 0)):
            tokens = streams[at]
            patches = tokens[:, 1:]
            expected = torch.cat([patches.mean(1), patches.std(1), tokens[:, 0]], 1)
            torch.testing.assert_close(
                eye.patches(normalise(pixels), layer), expected[:, None], atol=1e-4, rtol=0
            )
            torch.testing.assert_close(seen[at], expected, atol=1e-4, rtol=0)


def test_a_summary_by_hand():
    tokens = torch.tensor([[[7.0, 8.0], [1.0, 10.0], [3.0, 10.0]]])  # the class token stands first
    expected = torch.tensor([[2.0, 10.0, 2**0.5, 0.0, 7.0, 8.0]])
    torch.testing.assert_close(summarise(tokens), expected)
    assert summarise(tokens.half()).dtype == torch.float32


def test_blocks_behind_the_layer_do_not_run():
    vit = ViT(ViTConfig(28, 7, width=24, depth=3, heads=3)).eval()
    eye, ran = SummaryEye(vit), []
    for number, block in enumerate(vit.blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    images = torch.zeros(1, 3, 28, 28)
    for layer, expected in ((0, []), (2, [0, 1]), (-2, [0, 1]), (-1, [0, 1, 2])):
        ran.clear()
        assert eye.patches(images, layer).shape == (1, 1, 72) and ran == expected
    assert len(eye.streams(images)) == 4 and len(eye.streams(images, 2)) == 3
    assert set(eye.state_dict()) == {f"vit.{name}" for name in vit.state_dict()}


def test_the_eye_comes_frozen_and_in_the_size_that_was_asked_for(monkeypatch):
    sizes = []

    def small(side):
        sizes.append(side)
        return ViT(ViTConfig(28, 7, width=24, depth=1, heads=3)).train()

    monkeypatch.setattr(hub, "load_dinov2", small)
    monkeypatch.setattr(hub, "resolve", lambda name, fetch: (name, fetch))
    for load in (summary.load_summary, summary.find_summary):
        eye = load()
        assert not eye.training and not any(each.requires_grad for each in eye.parameters())
        load(112)
    assert sizes == [224, 112, 224, 112]


def test_where_it_is_missing_the_notebook_goes_on(monkeypatch, capsys):
    def nowhere(name, fetch):
        assert not fetch, "a notebook fetches nothing by itself"
        raise hub.MissingModel(f"{name}: run this")

    monkeypatch.setattr(hub, "resolve", nowhere)
    assert summary.find_summary() is None
    assert capsys.readouterr().out == "facebook/dinov2-small: run this\n"
