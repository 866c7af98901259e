"""Fixtures of `tests/tools`: the demo is a program too."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "tools_conftest", Path(__file__).parents[1] / "tools/conftest.py"
)
_tools = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tools)

datasets_root = _tools.datasets_root
run_tool = _tools.run_tool
tiny_py = _tools.tiny_py
tiny_yaml = _tools.tiny_yaml
