"""What opens the course elsewhere - containers, Codespaces, Binder - and what cites it, fits the course."""

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import yaml
from typer.testing import CliRunner

from tests.test_project import PROJECT, ROOT
from vlmcourse import cli
from vlmcourse.data import assets

MAKEFILE = (ROOT / "Makefile").read_text()
CPU_WHEELS = re.search(r"^CPU_WHEELS = (\S+)$", MAKEFILE, flags=re.MULTILINE)[1]
DOCKER = (ROOT / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of each instruction of the last stage of the Dockerfile."""
    text = re.sub(r"^\s*#.*\n", "", DOCKER, flags=re.MULTILINE).replace("\\\n", "")
    last = text[text.rindex("FROM ") :]
    return [tuple(line.split(maxsplit=1)) for line in last.splitlines() if line.strip()]


def test_the_container_runs_a_command_that_exists_as_a_person_without_rights():
    found = dict(instructions())
    program, command, *options = json.loads(found["CMD"])
    assert program == "vlmcourse"
    help_text = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert all(option in help_text for option in options if option.startswith("--"))
    assert "0.0.0.0" in options, "a container is reached from outside of it"
    words = [word for word, _ in instructions()]
    assert found["USER"] == "learner" and words.index("USER") > max(
        k for k, word in enumerate(words) if word == "RUN"
    )


def test_the_container_keeps_the_folder_in_which_the_course_opens():
    found = dict(instructions())
    kept = Path(found["WORKDIR"]) / assets.LEARNERS
    assert Path(found["VOLUME"]) == kept and f"-g learner {kept}" in DOCKER
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    (course,) = compose["services"].values()
    (volume,) = course["volumes"]
    name, place = volume.split(":")
    assert Path(place) == kept and name in compose["volumes"]
    (port,) = course["ports"]
    assert port == f"127.0.0.1:{found['EXPOSE']}:{found['EXPOSE']}", "from this computer only"


def test_what_an_import_needs_is_compiled_while_the_image_is_built():
    """The learner may not write beside the packages: each start would compile all of torch again."""
    found = instructions()
    word, commands = found[found.index(("USER", "learner")) - 1]
    checked, imported = commands.split(" && ")
    assert (word, checked) == ("RUN", "vlmcourse doctor")
    python, option, code = shlex.split(imported)
    assert (python, option) == ("python", "-c")
    modules = code.removeprefix("import ").split(", ")
    assert {"ipykernel.kernelapp", "jupyterlab.labapp"} < set(modules), "what each start begins with"
    assert all(find_spec(module) for module in modules)
    assert not [rest for _, rest in found if "PYTHONDONTWRITEBYTECODE" in rest]


def test_the_health_check_asks_what_jupyter_answers_without_a_token():
    check = json.loads(dict(instructions())["HEALTHCHECK"].split("CMD ")[1])
    assert check[:2] == ["python", "-c"] and "http://127.0.0.1:8888/api'" in check[2]
    compile(check[2], "health check", "exec")


def test_the_image_is_built_from_what_a_wheel_needs_and_nothing_private():
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")]
    assert (ROOT / ".dockerignore").read_text().startswith("*\n")
    needed = {"pyproject.toml", "setup.py", PROJECT["readme"], "LICENSE", "vlmcourse", "notebooks", "assets"}
    assert set(allowed) == needed | {"lock.txt"}


def test_containers_codespaces_and_binder_take_torch_from_the_same_place():
    assert f"--extra-index-url {CPU_WHEELS}" in DOCKER
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    _, target, option = shlex.split(container["postCreateCommand"])
    assert f"\n{target}:" in MAKEFILE and option == "CPU=1" and "$(if $(CPU)," in MAKEFILE
    assert (ROOT / container["customizations"]["codespaces"]["openFiles"][0]).is_file()
    lines = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    assert lines == [f"--extra-index-url {CPU_WHEELS}", "-e ."]


def test_all_of_them_bring_one_python_that_the_course_runs_on():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    binder = (ROOT / ".binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    versions = {container["image"].split(":")[-1], binder, *re.findall(r"FROM python:([\d.]+)-slim", DOCKER)}
    assert len(versions) == 1
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert tuple(map(int, versions.pop().split("."))) >= tuple(map(int, lowest.split(".")))


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["authors"]
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert citation["title"] in (ROOT / "README.md").read_text()
    assert citation["authors"][0]["name"] in (ROOT / "LICENSE").read_text()
