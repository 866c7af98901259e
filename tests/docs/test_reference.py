"""The generated reference: every key, option and format is in it, each with its line."""

import sys
from types import ModuleType

import pytest

pytest.importorskip("sphinx")

from detectron2.cli.arguments import COMMANDS
from detectron2.config.training_options import OPTIONS
from detectron2.data.formats import FORMATS

from .test_pages import DOCS, extension


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "_ext"))
        patch.setattr(sys, "dont_write_bytecode", True)
        return extension("reference")


def test_each_config_key_has_a_line(reference: ModuleType) -> None:
    keys = reference.config_keys()
    assert len(keys) > 250
    assert not [key for key, (_, _, meaning) in keys.items() if not meaning]
    assert {row.key for row in OPTIONS.values()} <= set(keys)
    assert {row.lazy for row in OPTIONS.values()} <= {lazy for _, lazy, _ in keys.values()}
    page = "\n".join(reference.config_pages())
    assert all(f"`{key}`" in page for key in keys)


def test_each_key_of_each_project_has_a_line(reference: ModuleType) -> None:
    assert set(reference.PROJECTS) >= {"PointRend", "DensePose", "Mask2Former", "MaskDINO"}
    for project in reference.PROJECTS:
        keys = reference.project_keys(project)
        assert keys and not [key for key, (_, meaning) in keys.items() if not meaning], project
    keys = reference.project_keys("PointRend")
    assert keys["MODEL.POINT_HEAD.OVERSAMPLE_RATIO"] == (3, "candidates per point in training")
    assert "MODEL.ROI_HEADS.NUM_CLASSES" not in keys  # as in other configs


def test_comments_behind_above_and_of_groups_are_found(reference: ModuleType) -> None:
    text = (
        "_C.A = 1  # behind\n# above\n_C.B = 2\n_C.C = 3\n\n_C.D = 4\n# long\n_C.E = (\n    5\n)  # own\n_C.F = 6\n"
        '# of a group\n_group(cfg.G, "H", I=1, J=2)\ncfg.G.add_optional("K", 1)\n\n'
        'head = cfg.M.HEAD = CfgNode()\nhead.N = 1  # of a node\nhead.O = CfgNode(\n    {\n        "P": 1,  # in a dict\n    }\n)\n'
    )
    found = sys.modules["config_comments"]._meanings(text)
    assert found == {"A": "behind", "B": "above", "C": "above", "E": "own"} | dict.fromkeys(
        ["G.H.I", "G.H.J", "G.K"], "of a group"
    ) | {"M.HEAD.N": "of a node", "M.HEAD.O.P": "in a dict"}


def test_each_option_of_each_command_is_on_the_page(reference: ModuleType) -> None:
    page = "\n".join(reference.command_pages())
    for name in COMMANDS:
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        for action in reference.commands()[name]._actions:
            for option in action.option_strings:
                assert f"`{option}" in section, (name, option)
        assert section.count("\ndetectron2 ") == 2, name  # the examples


def test_each_format_of_labels_has_an_example(reference: ModuleType) -> None:
    page = "\n".join(reference.format_pages())
    for name, _ in FORMATS:
        section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        assert "One picture with two toys" in section or name in ("semantic", "huggingface"), name
