"""The published meshes; their files are downloaded on first use."""

from .catalog import MeshInfo, register_meshes

__all__ = ["DENSEPOSE_MESHES_DIR", "MESHES"]

DENSEPOSE_MESHES_DIR = "https://dl.fbaipublicfiles.com/densepose/meshes/"

# In the order of their numbers.
_NAMES = (
    "smpl_27554",
    "chimp_5029",
    "cat_5001",
    "cat_7466",
    "sheep_5004",
    "zebra_5002",
    "horse_5004",
    "giraffe_5002",
    "elephant_5002",
    "dog_5002",
    "dog_7466",
    "cow_5002",
    "bear_4936",
)
# The horse was published with the texture coordinates of the zebra.
_TEXCOORDS_OF = {"horse_5004": "zebra_5002"}

MESHES = [
    MeshInfo(
        name=name,
        data=f"{name}.pkl",
        geodists=f"geodists/geodists_{name}.pkl",
        symmetry=f"symmetry/symmetry_{name}.pkl",
        texcoords=f"texcoords/texcoords_{_TEXCOORDS_OF.get(name, name)}.pkl",
    )
    for name in _NAMES
]

register_meshes(MESHES, DENSEPOSE_MESHES_DIR)
