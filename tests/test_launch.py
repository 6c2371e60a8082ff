"""What `accelerate launch` starts trains together, says things once, and ends when a process dies."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlmcourse.training import checkpoints

ROOT = Path(__file__).parents[1]
SCRIPT = """
import os, pathlib, sys
import torch
from vlmcourse.cli import explained
from vlmcourse.data.batches import Batches
from vlmcourse.training.loop import train

folder, last = pathlib.Path(sys.argv[1]), int(sys.argv[2])
rank = int(os.environ["RANK"])

def watch(step, **_):
    if step == 5:
        (folder.parent / "going").touch()

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
(folder.parent / f"pid{rank}").write_text(str(os.getpid()))
loss = lambda model, batch: model(batch).square().mean()
with explained():
    train(model, Batches(torch.randn(64, 4), 8), loss, steps=last, watch=watch, checkpoint=folder, save_every=2, resume=True)
    print(f"process {rank} is through")
"""  # noqa: E501


def launch(*arguments: object, sharded: bool = False) -> subprocess.Popen:
    """As a person does on a machine without a GPU."""
    kind = ["--use_fsdp", "--fsdp_version", "2"] if sharded else ["--multi_gpu"]
    options = [*kind, "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    options += ["--dynamo_backend", "no", "--main_process_port", "0"]
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *options, *arguments]
    environment = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", CI="true")
    given = dict(cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return subprocess.Popen(list(map(str, command)), **given)


@pytest.mark.slow
def test_when_a_process_is_killed_the_launch_says_so_and_can_be_started_again(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = tmp_path / "script.py", tmp_path / "run"
    launched = launch(*command, 10**6)
    for _ in range(600):
        if (tmp_path / "going").exists() or launched.poll() is not None:
            break
        time.sleep(0.1)
    os.kill(int((tmp_path / "pid1").read_text()), signal.SIGKILL)
    said, _ = launched.communicate(timeout=60)
    assert launched.returncode != 0
    assert "Signal 9 (SIGKILL)" in said and re.search(r"rank *: 1 ", said)
    assert "another process of this training has ended" in said and "start the same command again" in said
    there = checkpoints.list_checkpoints(tmp_path / "run")
    assert there and all(checkpoints.find_damage(path) is None for path in there)
    reached = int(there[-1].name[5:])
    again = launch(*command, reached + 3, sharded=True)
    said, _ = again.communicate(timeout=120)
    assert again.returncode == 0 and said.count("is through") == 2, said
    newest = checkpoints.newest_checkpoint(tmp_path / "run")
    assert newest.name == f"step-{reached + 3:08d}" and not list((tmp_path / "run").glob(".*"))


ENDED = """
import time
from vlmcourse.cli import explained

with explained():
    print("begun", flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_launch_that_ends_its_processes_lets_them_say_what_to_do(processes):
    environment = os.environ | dict(PYTHONPATH=str(ROOT), WORLD_SIZE=processes)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running = subprocess.Popen([sys.executable, "-c", ENDED], env=environment, **pipes)
    assert running.stdout.readline() == "begun\n"
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=30)
    if processes == "1":  # nobody else can have ended: as every other program
        assert running.returncode == -signal.SIGTERM and said == ""
        return
    said = said.splitlines()[0]  # behind it stands where typer.Exit was raised; the command line catches that
    assert running.returncode == 1 and "start the same command again" in said
    assert "another process of this training has ended" in said


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True], ids=["ddp", "fsdp"])
def test_a_recipe_is_trained_by_two_processes_and_one_of_them_speaks(tmp_path, sharded):
    where = ["--runs", tmp_path, "--steps", "2"]
    launched = launch("-m", "vlmcourse", "train", "clip-openmoji", *where, sharded=sharded)
    said, _ = launched.communicate(timeout=120)
    assert launched.returncode == 0, said
    assert said.count("contrast: History(2 steps") == 1 and said.count("clip-openmoji.safetensors") == 1
    assert (tmp_path / "clip-openmoji.safetensors").is_file()
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path / "clip-openmoji")] == [
        "step-00000002"
    ]


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True], ids=["ddp", "fsdp"])
def test_two_gpus_train_together(tmp_path, sharded):
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU; this needs two")
    (tmp_path / "script.py").write_text(SCRIPT)
    launched = launch(tmp_path / "script.py", tmp_path / "run", 4, sharded=sharded)
    said, _ = launched.communicate(timeout=300)
    assert launched.returncode == 0, said
    assert "process 0 is through" in said and "process 1 is through" in said
