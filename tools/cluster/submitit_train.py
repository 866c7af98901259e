#!/usr/bin/env python
"""Run a training program on Slurm through submitit (``pip install submitit``), without a batch script.

    python tools/cluster/submitit_train.py --nodes 2 --tasks-per-node 8 --partition gpu -- \\
        tools/train_net.py --config-file cfg.yaml --resume OUTPUT_DIR /shared/run

One task per GPU runs the program, which finds rank and address in the environment as under torchrun. A job that is
preempted or reaches its time limit is queued again and goes on from the last checkpoint: give ``--resume``.
``--cluster local`` runs the tasks on this machine, to try the command.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Training:
    """Runs a program in each task.

    Args:
        words: file of the program and its arguments.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)

    def __call__(self) -> None:
        """Run the program as if torchrun had started it."""
        import submitit

        # The program chooses its GPU by LOCAL_RANK among all of the machine.
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        sys.argv = self.words
        runpy.run_path(self.words[0], run_name="__main__")

    def checkpoint(self) -> Any:
        """Return what submitit queues again after a preemption."""
        import submitit

        return submitit.helpers.DelayedSubmission(Training(self.words))


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cluster", default="slurm", help="slurm, or local for this machine (default: slurm)"
    )
    parser.add_argument("--nodes", type=int, default=1, help="machines (default: 1)")
    parser.add_argument(
        "--tasks-per-node", type=int, default=1, help="processes per machine, one per GPU (default: 1)"
    )
    parser.add_argument("--cpus-per-task", type=int, default=8, help="processors per process (default: 8)")
    parser.add_argument("--partition", help="of Slurm")
    parser.add_argument(
        "--timeout-min", type=int, default=24 * 60, help="minutes for the job (default: one day)"
    )
    parser.add_argument(
        "--logs", default="submitit", help="folder for logs, on a shared disk (default: submitit)"
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, help="-- PROGRAM ARGUMENTS")
    args = parser.parse_args(words)
    args.program = args.program[1:] if args.program[:1] == ["--"] else args.program
    if not args.program:
        parser.error("name the program after --, such as -- tools/train_net.py --config-file cfg.yaml")
    args.program[0] = str(Path(args.program[0]).resolve())
    return args


def submit(args: argparse.Namespace) -> Any:
    """Queue the job and return it."""
    import submitit

    executor = submitit.AutoExecutor(folder=args.logs, cluster=args.cluster)
    options: dict[str, Any] = {
        "nodes": args.nodes, "tasks_per_node": args.tasks_per_node, "timeout_min": args.timeout_min,
    }  # fmt: skip
    if args.cluster == "slurm":
        options |= {
            "gpus_per_node": args.tasks_per_node, "cpus_per_task": args.cpus_per_task,
            "slurm_partition": args.partition,
        }  # fmt: skip
    executor.update_parameters(**options)
    return executor.submit(Training(args.program))


def main() -> None:
    """Queue the job, and wait for it if it runs on this machine."""
    args = parse()
    job = submit(args)
    print(f"job {job.job_id}; its logs are in {args.logs}")
    if args.cluster == "local":
        job.results()


if __name__ == "__main__":
    main()
