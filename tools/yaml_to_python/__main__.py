"""Write a YAML config of Detectron2 as a Python config, or list which key is which place in a Python config.

    python tools/yaml_to_python CONFIG [KEY VALUE ...] > config.py
    python tools/yaml_to_python --keys [WORD ...]

CONFIG is a file or a name in the model zoo. Keys that have no place in a Python config are named on the error stream.
"""

import argparse
import sys
from pathlib import Path

from convert import ConversionError, to_python
from key_table import key_table

from detectron2 import model_zoo
from detectron2.config import LazyConfig, get_cfg


def main() -> int:
    """Run the program; the exit status is 1 if a key was lost, 2 for bad input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "words", nargs="*", help="the config and changes of it; with --keys words to look for"
    )
    parser.add_argument("--keys", action="store_true", help="list yacs keys and their places")
    args = parser.parse_args()
    if args.keys:
        for row in key_table():
            if all(word.lower() in " ".join(row).lower() for word in args.words):
                print("  ".join(row).rstrip())
        return 0
    if not args.words:
        parser.error("name a config: a file, or a name in the model zoo")
    cfg = get_cfg()
    name = args.words[0]
    try:
        cfg.merge_from_file(name if Path(name).is_file() else model_zoo.get_config_file(name))
        cfg.merge_from_list(args.words[1:])
        converted, lost = to_python(cfg)
    except (ConversionError, ValueError, KeyError, OSError) as error:
        parser.error(str(error.args[0] if error.args else error))
    print(LazyConfig.to_py(converted))
    if lost:
        print(f"without a counterpart: {', '.join(lost)}", file=sys.stderr)
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
