"""The model card of a run."""

import dataclasses
import json
from pathlib import Path

from detectron2.cli.run.model_card import card_text, origin_of
from detectron2.engine.run_folder import DataCard, RunCard

MASK2FORMER = (
    "https://dl.fbaipublicfiles.com/maskformer/mask2former/coco/instance/maskformer2_R50_bs16_50ep/"
    "model_final_3c8ec9.pkl"
)


def _card(weights: str) -> RunCard:
    return RunCard(
        model="m",
        classes=["red", "blue"],
        category_ids=[1, 2],
        train=DataCard("train.json", "images", 7, 21),
        val=DataCard("val.json", "images", 3, 9),
        weights=weights,
    )


def test_training_writes_it(discs_run: Path) -> None:
    text = (discs_run / "model_card.md").read_text(encoding="utf-8")
    assert "red, blue" in text
    assert "| training | 6 | 9 |" in text
    figure = json.loads((discs_run / "summary.json").read_text())["mask_AP50"]
    assert f"| mask_AP50 | {figure:.3f} |" in text
    assert "Training began with random weights." in text


def test_it_says_whose_the_data_are() -> None:
    card = _card("")
    assert "| training data | train.json | yours to say | the owner of the data |" in card_text(card, {})
    card = dataclasses.replace(card, model="quickstart/mask_rcnn_fruit")
    assert "| training data | train.json | Apache-2.0 | LICENSE of this package |" in card_text(card, {})


def test_it_says_what_the_base_weights_allow(tmp_path: Path) -> None:
    text = card_text(_card(MASK2FORMER), {"box_AP": None})
    assert f"| base weights | {MASK2FORMER} | CC BY-NC 4.0 |" in text
    assert "| data of the base weights | COCO | CC BY 4.0" in text
    assert "**Not for commercial use**" in text
    assert "| box_AP | undefined |" in text
    text = card_text(_card("detectron2://ImageNetPretrained/MSRA/R-50.pkl"), {})
    assert "CC BY-SA 3.0" in text
    assert "ImageNet" in text
    assert "**Not for commercial use**" not in text
    assert "not stated" in card_text(_card(str(tmp_path / "mine.pth")), {})


def test_the_licence_follows_from_run_to_run(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, weights in ((first, MASK2FORMER), (second, str(first / "model_best.pth"))):
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"weights": weights}))
    assert origin_of(str(second / "model_final.pth")) == MASK2FORMER
    assert origin_of("") == ""
    (first / "run.json").write_text("{")
    assert origin_of(str(second / "model_final.pth")) == str(first / "model_best.pth")
    loop = json.dumps({"weights": str(first / "model_best.pth")})
    (first / "run.json").write_text(loop)
    assert origin_of(str(second / "x.pth")) == str(first / "model_best.pth")
