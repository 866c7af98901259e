"""``catalog://`` paths of the public weights of Detectron (in Caffe2) and of ImageNet classifiers."""

from collections.abc import Mapping
from typing import IO, Any

from detectron2.utils.file_io import PathHandler, PathManager
from detectron2.utils.suggest import did_you_mean

__all__ = ["ModelCatalog", "ModelCatalogHandler"]

_BASELINES = "12_2017_baselines"


class ModelCatalog:
    """URLs of models by name: ``ImageNetPretrained/…`` or ``Caffe2Detectron/COCO/{model id}/{model name}``."""

    S3_C2_DETECTRON_PREFIX = "https://dl.fbaipublicfiles.com/detectron"

    C2_IMAGENET_MODELS: Mapping[str, str] = {
        "MSRA/R-50": "ImageNetPretrained/MSRA/R-50.pkl",
        "MSRA/R-101": "ImageNetPretrained/MSRA/R-101.pkl",
        "FAIR/R-50-GN": "ImageNetPretrained/47261647/R-50-GN.pkl",
        "FAIR/R-101-GN": "ImageNetPretrained/47592356/R-101-GN.pkl",
        "FAIR/X-101-32x8d": "ImageNetPretrained/20171220/X-101-32x8d.pkl",
        "FAIR/X-101-64x4d": "ImageNetPretrained/FBResNeXt/X-101-64x4d.pkl",
        "FAIR/X-152-32x8d-IN5k": "ImageNetPretrained/25093814/X-152-32x8d-IN5k.pkl",
    }

    C2_DETECTRON_PATH_FORMAT = "{prefix}/{url}/output/train/{dataset}/{type}/model_final.pkl"
    C2_DATASET_COCO = "coco_2014_train%3Acoco_2014_valminusminival"
    C2_DATASET_COCO_KEYPOINTS = "keypoints_coco_2014_train%3Akeypoints_coco_2014_valminusminival"

    # name without the task's prefix -> folder of the training job
    C2_DETECTRON_MODELS: Mapping[str, str] = {
        f"{job}/{name}": f"{folder.format(job=job, base=_BASELINES)}/{run}"
        for job, name, folder, run in (
            ("35857197", "e2e_faster_rcnn_R-50-C4_1x", "{job}/{base}", "e2e_faster_rcnn_R-50-C4_1x.yaml.01_33_49.iAX0mXvW"),
            ("35857345", "e2e_faster_rcnn_R-50-FPN_1x", "{job}/{base}", "e2e_faster_rcnn_R-50-FPN_1x.yaml.01_36_30.cUF7QR7I"),
            ("35857890", "e2e_faster_rcnn_R-101-FPN_1x", "{job}/{base}", "e2e_faster_rcnn_R-101-FPN_1x.yaml.01_38_50.sNxI7sX7"),
            ("36761737", "e2e_faster_rcnn_X-101-32x8d-FPN_1x", "{job}/{base}", "e2e_faster_rcnn_X-101-32x8d-FPN_1x.yaml.06_31_39.5MIHi1fZ"),
            ("35858791", "e2e_mask_rcnn_R-50-C4_1x", "{job}/{base}", "e2e_mask_rcnn_R-50-C4_1x.yaml.01_45_57.ZgkA7hPB"),
            ("35858933", "e2e_mask_rcnn_R-50-FPN_1x", "{job}/{base}", "e2e_mask_rcnn_R-50-FPN_1x.yaml.01_48_14.DzEQe4wC"),
            ("35861795", "e2e_mask_rcnn_R-101-FPN_1x", "{job}/{base}", "e2e_mask_rcnn_R-101-FPN_1x.yaml.02_31_37.KqyEK4tT"),
            ("36761843", "e2e_mask_rcnn_X-101-32x8d-FPN_1x", "{job}/{base}", "e2e_mask_rcnn_X-101-32x8d-FPN_1x.yaml.06_35_59.RZotkLKI"),
            ("48616381", "e2e_mask_rcnn_R-50-FPN_2x_gn", "GN/{job}/04_2018_gn_baselines", "e2e_mask_rcnn_R-50-FPN_2x_gn_0416.13_23_38.bTlTI97Q"),
            ("37697547", "e2e_keypoint_rcnn_R-50-FPN_1x", "{job}/{base}", "e2e_keypoint_rcnn_R-50-FPN_1x.yaml.08_42_54.kdzV35ao"),
            ("35998355", "rpn_R-50-C4_1x", "{job}/{base}", "rpn_R-50-C4_1x.yaml.08_00_43.njH5oD9L"),
            ("35998814", "rpn_R-50-FPN_1x", "{job}/{base}", "rpn_R-50-FPN_1x.yaml.08_06_03.Axg0r179"),
            ("36225147", "fast_R-50-FPN_1x", "{job}/{base}", "fast_rcnn_R-50-FPN_1x.yaml.08_39_09.L3obSdQ2"),
        )
    }  # fmt: skip

    @staticmethod
    def get(name: str) -> str:
        """Return the URL of the weights of a model, a ``.pkl`` file.

        Args:
            name: such as ``"ImageNetPretrained/MSRA/R-50"``.

        Raises:
            RuntimeError: if there is no such model.
        """
        imagenet, detectron = "ImageNetPretrained/", "Caffe2Detectron/COCO/"
        tail = name.removeprefix(imagenet)
        if tail != name and tail in ModelCatalog.C2_IMAGENET_MODELS:
            return f"{ModelCatalog.S3_C2_DETECTRON_PREFIX}/{ModelCatalog.C2_IMAGENET_MODELS[tail]}"
        tail = name.removeprefix(detectron)
        if tail != name and tail in ModelCatalog.C2_DETECTRON_MODELS:
            return _detectron_url(tail)
        known = [imagenet + n for n in ModelCatalog.C2_IMAGENET_MODELS]
        known += [detectron + n for n in ModelCatalog.C2_DETECTRON_MODELS]
        raise RuntimeError(f"the model catalog has no {name!r}. {did_you_mean(name, known)}")


def _detectron_url(name: str) -> str:
    c = ModelCatalog
    return c.C2_DETECTRON_PATH_FORMAT.format(
        prefix=c.S3_C2_DETECTRON_PREFIX,
        url=c.C2_DETECTRON_MODELS[name],
        type="rpn" if name.split("/")[1].startswith("rpn") else "generalized_rcnn",
        dataset=c.C2_DATASET_COCO_KEYPOINTS if "keypoint" in name else c.C2_DATASET_COCO,
    )


class ModelCatalogHandler(PathHandler):
    """Lets :data:`PathManager` open ``catalog://NAME``, with the names of :meth:`ModelCatalog.get`."""

    PREFIX = "catalog://"

    def __init__(self, async_executor: object = None) -> None:
        # The argument is part of iopath's interface; nothing here runs asynchronously.
        super().__init__()

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _url(self, path: str) -> str:
        return ModelCatalog.get(path[len(self.PREFIX) :])

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return PathManager.get_local_path(self._url(path), force=force, **kwargs)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        return PathManager.open(self._url(path), mode, buffering, **kwargs)

    def _exists(self, path: str, **kwargs: object) -> bool:
        return PathManager.exists(self._url(path))

    def _isfile(self, path: str, **kwargs: object) -> bool:
        return PathManager.isfile(self._url(path))


PathManager.register_handler(ModelCatalogHandler(), allow_override=True)
