"""The yacs-style tree: types, names, files, freezing, copying, keys that stay out of sight."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron2.config import CfgNode, downgrade_config, get_cfg, global_cfg, set_global_cfg, upgrade_config

DEFAULTS = Path(__file__).resolve().parents[1] / "parity" / "zoo" / "defaults.yaml"


def test_defaults_equal_the_reference_and_hide_our_keys() -> None:
    assert yaml.safe_load(get_cfg().dump()) == yaml.safe_load(DEFAULTS.read_text())


def test_defaults_are_fresh_each_time() -> None:
    get_cfg().MODEL.PIXEL_MEAN.append(1.0)
    assert len(get_cfg().MODEL.PIXEL_MEAN) == 3


@pytest.mark.parametrize(
    "key, text, value",
    [
        ("SOLVER.STEPS", "(1, 2)", (1, 2)),
        ("SOLVER.STEPS", "[1, 2]", (1, 2)),
        ("MODEL.PIXEL_MEAN", "(1.0, 2.0)", [1.0, 2.0]),
        ("SOLVER.BASE_LR", "1", 1.0),
        ("SOLVER.BASE_LR", "1e-3", 1e-3),
        ("MODEL.MASK_ON", "True", True),
        ("MODEL.WEIGHTS", "a b.pkl", "a b.pkl"),
        ("SOLVER.WEIGHT_DECAY_BIAS", "0.5", 0.5),
        ("SOLVER.WEIGHT_DECAY", "None", None),
    ],
)
def test_values_from_text(key: str, text: str, value: object) -> None:
    cfg = get_cfg()
    cfg.merge_from_list([key, text])
    node = cfg
    for part in key.split("."):
        node = node[part]
    assert node == value
    assert type(node) is type(value)


@pytest.mark.parametrize(
    "pairs, error, words",
    [
        (["MODEL.MASK_ONN", True], KeyError, "MODEL.MASK_ON'"),
        (["MODLE.MASK_ON", True], KeyError, "MODEL.MASK_ON'"),
        (["MODEL.MASK_ON.X", 1], KeyError, "MODEL.MASK_ON.X"),
        (["SOLVER.MAX_ITER", "1.5"], ValueError, "SOLVER.MAX_ITER is a int"),
        (["MODEL.MASK_ON", 1], ValueError, "True or False"),
        (["DATASETS.TRAIN", "mine"], ValueError, "['mine']"),
        (["MODEL.MASK_ON"], ValueError, "is alone"),
    ],
)
def test_mistakes_are_explained(pairs: list[object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as e:
        get_cfg().merge_from_list(pairs)
    assert words in str(e.value)


def test_missing_attribute_names_the_nearest() -> None:
    with pytest.raises(AttributeError, match="BASE_LR"):
        _ = get_cfg().SOLVER.BASELR


def test_base_files_stack_and_lists_of_bases_work(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text("VERSION: 2\nSOLVER: {MAX_ITER: 1, BASE_LR: 0.5}\n")
    (tmp_path / "b.yaml").write_text("SOLVER: {MAX_ITER: 2}\n")
    (tmp_path / "sub" / "c.yaml").write_text("_BASE_: [../a.yaml, ../b.yaml]\nMODEL: {MASK_ON: true}\n")
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "sub" / "c.yaml"))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.MODEL.MASK_ON) == (2, 0.5, True)


def test_bad_files_are_explained(tmp_path: Path) -> None:
    def load(text: str) -> None:
        (tmp_path / "x.yaml").write_text(text)
        get_cfg().merge_from_file(str(tmp_path / "x.yaml"))

    with pytest.raises(FileNotFoundError, match=r"y\.yaml, the _BASE_ of .*x\.yaml"):
        load("_BASE_: y.yaml\n")
    with pytest.raises(ValueError, match="circle"):
        load("_BASE_: x.yaml\n")
    with pytest.raises(ValueError, match="mapping"):
        load("- 1\n")
    with pytest.raises(KeyError, match=r"x\.yaml: unknown config key MODEL\.MASKON"):
        load("MODEL: {MASKON: true}\n")
    with pytest.raises(ValueError, match="versions up to 2"):
        load("VERSION: 3\n")


def test_no_code_is_run_from_yaml(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "evil.yaml").write_text(f"OUTPUT_DIR: !!python/object/apply:os.system ['touch {mark}']\n")
    for unsafe in (True, False):
        with pytest.raises(ValueError, match="no code is run"):
            get_cfg().merge_from_file(str(tmp_path / "evil.yaml"), allow_unsafe=unsafe)
    assert not mark.exists()


def test_frozen_configs_refuse_changes() -> None:
    cfg = get_cfg()
    cfg.freeze()
    for change in (
        lambda: setattr(cfg.SOLVER, "MAX_ITER", 3),
        lambda: delattr(cfg, "SOLVER"),
    ):
        with pytest.raises(AttributeError, match="frozen"):
            change()
    cfg.merge_from_list(["SOLVER.MAX_ITER", 77])  # merging is no assignment, as in yacs
    cfg.merge_from_other_cfg(CfgNode({"SOLVER": {"GAMMA": 0.5}}))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.GAMMA, cfg.SOLVER.is_frozen()) == (77, 0.5, True)
    assert cfg.clone().is_frozen()
    cfg.defrost()
    cfg.SOLVER.MAX_ITER = 3
    assert cfg.SOLVER.MAX_ITER == 3


def test_computed_values_are_written_once_even_when_frozen() -> None:
    cfg = get_cfg()
    cfg.freeze()
    cfg.COMPUTED_SIZE = 3
    cfg.COMPUTED_SIZE = 3
    with pytest.raises(KeyError, match="computed"):
        cfg.COMPUTED_SIZE = 4


@pytest.mark.parametrize(
    "copier", [copy.deepcopy, copy.copy, lambda c: pickle.loads(pickle.dumps(c)), CfgNode.clone]
)
def test_copies_keep_everything(copier) -> None:  # type: ignore[no-untyped-def]
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER = 7
    cfg.freeze()
    twin = copier(cfg)
    assert type(twin) is CfgNode
    assert twin == cfg
    assert twin.dump() == cfg.dump()
    assert twin.is_frozen()
    assert twin.DATASETS.TRAIN_REPEAT_FACTOR == []


def test_pickle_of_a_node_without_our_state_can_be_read() -> None:
    """Nodes that Detectron2 pickled carry the state of yacs only."""
    node = CfgNode({"A": 1})
    rebuild, args, state, _, items = node.__reduce__()
    old = rebuild(*args)
    for key, value in items:
        old[key] = value
    old.__setstate__({k: v for k, v in state.items() if k != CfgNode.OPTIONAL})
    assert old == node
    assert list(old) == ["A"]


def test_optional_keys_show_only_when_set() -> None:
    cfg = CfgNode({"A": 1})
    cfg.add_optional("B", [])
    cfg.add_optional("C", CfgNode())
    cfg.C.add_optional("D", False)
    assert list(cfg) == ["A"]
    assert len(cfg) == 1
    assert "B" in cfg
    assert cfg.C.D is False
    cfg.merge_from_list(["C.D", "True", "B", "[1]"])
    assert list(cfg.items()) == [("A", 1), ("B", [1]), ("C", cfg.C)]
    assert yaml.safe_load(cfg.dump()) == {"A": 1, "B": [1], "C": {"D": True}}
    other = cfg.clone()
    other.merge_from_list(["C.D", "False"])
    cfg.merge_from_other_cfg(other)
    assert "C" not in list(cfg)
    with pytest.raises(ValueError, match=r"C\.D"):
        cfg.merge_from_list(["C.D", 3])


def test_renamed_and_deprecated_keys() -> None:
    cfg = CfgNode({"NEW": 1})
    cfg.register_renamed_key("OLD", "NEW", "It is doubled.")
    cfg.register_deprecated_key("GONE")
    with pytest.raises(KeyError, match=r"NEW now\. It is doubled"):
        cfg.merge_from_list(["OLD", 3])
    with pytest.raises(KeyError, match="NEW now"):
        cfg.merge_from_other_cfg(CfgNode({"OLD": 3}))
    cfg.merge_from_list(["GONE", 1, "NEW", 2])
    cfg.merge_from_other_cfg(CfgNode({"GONE": 3}))
    assert dict(cfg) == {"NEW": 2}


def test_new_keys_may_be_allowed() -> None:
    cfg = CfgNode({"A": {"B": 1}}, new_allowed=True)
    cfg.merge_from_list(["A.C", "2"])
    cfg.merge_from_other_cfg(CfgNode({"D": {"E": 3}}))
    assert cfg.as_dict() == {"A": {"B": 1, "C": 2}, "D": {"E": 3}}
    cfg.set_new_allowed(False)
    with pytest.raises(KeyError):
        cfg.merge_from_list(["A.X", "2"])


def test_values_of_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match=r"A\.B"):
        CfgNode({"A": {"B": {1, 2}}})
    with pytest.raises(TypeError, match="X"):
        get_cfg().X = object()


leaf = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.text(max_size=5))
tree = st.recursive(
    st.one_of(leaf, st.lists(leaf, max_size=3)),
    lambda inner: st.dictionaries(st.from_regex(r"[A-Z]{1,4}", fullmatch=True), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30)
@given(st.dictionaries(st.from_regex(r"[A-Z]{1,4}", fullmatch=True), tree, max_size=4))
def test_dump_and_load_round_trip(content: dict[str, object]) -> None:
    cfg = CfgNode(content)
    assert CfgNode.load_cfg(cfg.dump()).as_dict() == content
    assert pickle.loads(pickle.dumps(cfg)) == cfg == cfg.clone()


def test_versions_there_and_back() -> None:
    cfg = get_cfg()
    for version in (0, 1):
        old = downgrade_config(cfg, version)
        assert old.VERSION == version
        assert "WEIGHT" in old.MODEL
        assert upgrade_config(old).as_dict() == cfg.as_dict()
    assert cfg.VERSION == 2
    for bad in (-1, 3, None):
        with pytest.raises((ValueError, TypeError)):
            downgrade_config(cfg, bad)  # type: ignore[arg-type]


def test_file_of_version_1_without_its_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "old.yaml").write_text(
        "MODEL: {WEIGHT: a.pkl, RPN: {ANCHOR_SIZES: [[8]]}}\nTEST: {DETECTIONS_PER_IMG: 5}\n"
    )
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "old.yaml"))
    assert (cfg.MODEL.WEIGHTS, cfg.TEST.DETECTIONS_PER_IMAGE, cfg.VERSION) == ("a.pkl", 5, 2)
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[8]]
    assert "read as version 1" in caplog.text


def test_global_config_is_set_in_place() -> None:
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER = 11
    set_global_cfg(cfg)
    assert global_cfg.SOLVER.MAX_ITER == 11


def test_import_needs_nothing_heavy() -> None:
    code = "import sys, detectron2.config; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
