"""All benchmarks, each in a process of its own: ``python -m benchmarks [NAME ...] [--quick]``, or ``make bench``."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
# What each takes to finish in about a minute. Ratios of small runs are rougher.
QUICK = {
    "backbone": ("--rounds", "2", "--size", "320", "480"),
    "convolution": ("--rounds", "2", "--sizes", "1x50x76", "--channels", "128", "256"),
    "drawing": ("--rounds", "10"),
    "evaluation": ("--images", "150"),
    "export": ("--models", "mask", "--forms", "torchscript", "onnx", "--rounds", "2"),
    "fastest": ("--models", "retinanet", "--ways", "channels-last", "--rounds", "1", "--size", "224", "320"),
    "loading": ("--images", "6000", "--annotations", "44000"),
    "mapper": ("--images", "4", "--rounds", "3"),
    "models": ("--models", "mask", "--rounds", "1", "--size", "224", "320"),
    "ops": ("--rounds", "2"),
    "prediction": ("--rounds", "1", "--size", "224", "320", "--images", "8"),
    "training": ("--rounds", "1", "--size", "160", "224"),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(QUICK)}; default: all")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(QUICK))
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are {', '.join(QUICK)}")
    failed = []
    for name in args.names or QUICK:
        print(f"\n== {name}", flush=True)
        start = time.monotonic()
        options = QUICK[name] if args.quick else ()
        done = subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), *options], check=False)
        if done.returncode:
            failed.append(name)
        print(f"   {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
