"""The launch files say what their programs understand."""

import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tools" / "launch"
SCRIPTS = sorted([*FOLDER.glob("*.sh"), *FOLDER.glob("*.slurm")])


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
    assert scripts | {"ddp.yaml", "fsdp.yaml"} <= names
    assert "tools/launch" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(("name", "kind"), [("ddp.yaml", "MULTI_GPU"), ("fsdp.yaml", "FSDP")])
def test_accelerate_reads_the_configurations(name, kind):
    config = ClusterConfig.from_yaml_file(FOLDER / name)  # refuses what it does not know
    assert config.distributed_type == kind and config.num_processes == 8
    given = yaml.safe_load((FOLDER / name).read_text())
    assert given["mixed_precision"] == "no" and given.get("fsdp_config", {"fsdp_version": 2}) == {
        "fsdp_version": 2
    }
