"""Every option by its name in either kind of config, on the command line, and in the documented table."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from detectron2.config import get_cfg
from detectron2.config.lazy import LazyConfig
from detectron2.config.training_options import OPTIONS
from detectron2.engine import default_argument_parser
from detectron2.engine.run_config import run_config

PAGE = Path(__file__).resolve().parents[2] / "docs/training.md"


def shown(value):
    """A default as the page writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in ("", []):
        return "none"
    return ", ".join(value) if isinstance(value, list) else str(value)


def test_documented_table_is_the_table_of_the_code():
    text = PAGE.read_text().split("## Options")[1].split("\nOnly for yaml")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    assert rows[1:] == [[o.meaning, f"`{o.key}`", f"`{o.lazy}`", shown(o.default)] for o in OPTIONS.values()]


def test_documented_keys_for_yaml_only_exist():
    text = PAGE.read_text().split("\nOnly for yaml")[1].split("\nOne iteration")[0]
    names = set(re.findall(r"`(SOLVER\.[A-Z_.]+?)(?:\.\*)?`", text))
    assert len(names) >= 8
    for name in names:
        node = get_cfg()
        for part in name.split("."):
            node = node[part]


def other(value):
    """A value that differs from a default, of its type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1 if isinstance(value, int) else value / 2 + 0.125
    return ["else", "where"] if isinstance(value, list) else f"other{value}"


@pytest.mark.parametrize("field", list(OPTIONS))
def test_reached_from_both_kinds_and_the_command_line(field):
    option = OPTIONS[field]
    wanted = other(option.default)
    cfg = get_cfg()
    cfg.merge_from_list([option.key, str(wanted)])  # words, as a command line has them
    assert getattr(run_config(cfg).options, field) == wanted
    node = LazyConfig.apply_overrides(
        OmegaConf.create({"train": {}}), [f"{option.lazy}={wanted}".replace(" ", "")]
    )
    assert getattr(run_config(node).options, field) == wanted
    assert getattr(run_config(get_cfg()).options, field) == option.default


def blocks(kind):
    """Code blocks of the page."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def torchrun_arguments(words):
    """What torch's own parser makes of a command line behind `torchrun`."""
    from torch.distributed.run import parse_args

    return parse_args(words)


def test_slurm_example_is_bash_that_torchrun_understands():
    scripts = [text for text in blocks("bash") if "SBATCH" in text]
    assert len(scripts) == 1
    done = subprocess.run(["bash", "-n"], input=scripts[0], text=True, capture_output=True, check=False)
    assert done.returncode == 0 and not done.stderr
    line = scripts[0].replace("\\\n", " ").split("srun torchrun ")[1]
    args = torchrun_arguments(shlex.split(line.replace("$SLURM_NNODES", "2")))
    assert (args.nnodes, args.nproc_per_node, args.max_restarts, args.rdzv_backend) == ("2", "8", 3, "c10d")
    assert args.training_script == "tools/train_net.py" and "--resume" in args.training_script_args


def test_kubernetes_example_is_yaml_that_torchrun_understands():
    (text,) = blocks("yaml")
    service, job = yaml.safe_load_all(text)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    args = torchrun_arguments(container["args"])
    assert args.rdzv_endpoint.startswith(f"{job['metadata']['name']}-0.{service['metadata']['name']}:")
    assert pod["subdomain"] == service["metadata"]["name"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == int(args.nnodes)
    assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in container["volumeMounts"]}
    ours = default_argument_parser().parse_args(args.training_script_args)
    assert ours.resume and ours.config_file == "cfg.yaml" and ours.opts == ["OUTPUT_DIR", "/shared/run"]
