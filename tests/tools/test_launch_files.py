"""The launch files say what their programs understand, and the estimate is what one counts by hand."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tools" / "launch"
SCRIPTS = sorted([*FOLDER.glob("*.sh"), *FOLDER.glob("*.slurm")])


def tool():
    spec = importlib.util.spec_from_file_location("launch_estimate", FOLDER / "estimate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash_and_name_files_that_are_there(path):
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True).returncode == 0
    text = path.read_text()
    assert "-m vlmcourse train" in text and "set -euo pipefail" in text
    named = [
        word.strip(' "}') for word in text.replace(":-", " ").split() if word.startswith("tools/launch/")
    ]
    assert named and all((ROOT / word).is_file() for word in named)


def test_every_size_of_machine_has_its_file():
    names = {path.name for path in FOLDER.iterdir() if path.is_file()}
    scripts = {"torchrun.sh", "one_gpu.slurm", "eight_gpus.slurm", "many_nodes.slurm"}
    assert scripts | {"ddp.yaml", "fsdp.yaml", "estimate.py"} <= names
    assert "tools/launch" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(("name", "kind"), [("ddp.yaml", "MULTI_GPU"), ("fsdp.yaml", "FSDP")])
def test_accelerate_reads_the_configurations(name, kind):
    config = ClusterConfig.from_yaml_file(FOLDER / name)  # refuses what it does not know
    assert config.distributed_type == kind and config.num_processes == 8
    given = yaml.safe_load((FOLDER / name).read_text())
    assert given["mixed_precision"] == "no" and given.get("fsdp_config", {"fsdp_version": 2}) == {
        "fsdp_version": 2
    }


def test_operations_are_counted_as_by_hand():
    estimate = tool()
    parts = estimate.sized(estimate.PUBLISHED["LLaVA-1.5-7B"], 1000)
    encoder, projector, language = (part.parameters for part in parts)
    only, frozen = (estimate.METHODS[name] for name in ("projector only", "frozen encoder"))
    fixed = 2 * encoder * 577 + 4 * projector * 576
    assert estimate.step_flops(parts, only) == fixed + 4 * language * 1000
    assert estimate.step_flops(parts, frozen) == fixed + 6 * language * 1000


def test_the_published_stages_fit_their_cards_and_reach_a_share_that_is_usual():
    estimate = tool()
    pretrain, finetune = map(estimate.estimate, estimate.STAGES)
    assert pretrain["GiB on each GPU"] < 80e9 / 2**30 and finetune["GiB on each GPU"] < 40e9 / 2**30
    for numbers in (pretrain, finetune):
        assert 0.2 < numbers["mfu of these"] < 0.5
        assert numbers["hours"] == pytest.approx(numbers["published hours"] * numbers["mfu of these"] / 0.45)
    twice = estimate.estimate(estimate.STAGES[1], gpus=16)
    assert twice["hours"] == pytest.approx(finetune["hours"] / 2)
    assert twice["GiB on each GPU"] < finetune["GiB on each GPU"]
