"""Transforms: each against a slow obvious version, inverses, and the pieces that they are made of."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron2.data import transforms as T
from detectron2.data.transforms.operations.polygons import clip_polygon

H, W = 40, 60


def picture(height: int = H, width: int = W, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def points(count: int = 20, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-5, 65, (count, 2))


GEOMETRIC = {
    "hflip": T.HFlipTransform(W),
    "vflip": T.VFlipTransform(H),
    "noop": T.NoOpTransform(),
    "crop": T.CropTransform(7, 5, 30, 20, W, H),
    "pad": T.PadTransform(3, 4, 5, 6, W, H, 9, 255),
    "scale": T.ScaleTransform(H, W, 77, 31),
    "resize": T.ResizeTransform(H, W, 77, 31),
    "rotate": T.RotationTransform(H, W, 33.3),
    "rotate_odd": T.RotationTransform(H, W, 45),
    "list": T.TransformList([T.ResizeTransform(H, W, 80, 60), T.HFlipTransform(60), T.VFlipTransform(80)]),
}
ALL = {
    **GEOMETRIC,
    "rotate_in_place": T.RotationTransform(H, W, 20, expand=False, center=(10, 20)),
    "extent": T.ExtentTransform((2.5, -3, 50, 41), (30, 44)),
    "grid": T.GridSampleTransform(np.zeros((1, 5, 6, 2), np.float32), "bilinear"),
    "blend": T.BlendTransform(100.0, 0.3, 0.7),
    "color": T.ColorTransform(np.sqrt),
}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_inverse_undoes_points_boxes_and_polygons(name: str) -> None:
    transform = GEOMETRIC[name]
    inverse = transform.inverse()
    np.testing.assert_allclose(inverse.apply_coords(transform.apply_coords(points())), points(), atol=1e-9)
    assert inverse.apply_image(transform.apply_image(picture())).shape == (H, W, 3)
    if "rotate" not in name:
        boxes = np.sort(points(8).reshape(4, 2, 2), axis=1).reshape(4, 4)
        np.testing.assert_allclose(inverse.apply_box(transform.apply_box(boxes)), boxes, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_input_is_left_alone(name: str) -> None:
    transform, image, coords = ALL[name], picture(), points()
    transform.apply_image(image)
    transform.apply_segmentation(image[:, :, 0])
    if name != "grid":
        transform.apply_coords(coords)
        transform.apply_box(np.asarray([[1, 2, 10, 20]]))
    np.testing.assert_array_equal(image, picture())
    np.testing.assert_array_equal(coords, points())


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("grid", "color")])
def test_empty_and_integer_input(name: str) -> None:
    transform = ALL[name]
    assert transform.apply_coords(np.zeros((0, 2))).shape == (0, 2)
    assert transform.apply_box(np.zeros((0, 4))).shape == (0, 4)
    assert transform.apply_polygons([]) == []
    whole, exact = np.asarray([[7, 9], [1, 3]]), np.asarray([[7.0, 9.0], [1.0, 3.0]])
    np.testing.assert_array_equal(transform.apply_coords(whole), transform.apply_coords(exact))


@pytest.mark.parametrize("name", [n for n in ALL if n != "color"])
def test_pickle(name: str) -> None:
    copy = pickle.loads(pickle.dumps(ALL[name]))
    assert type(copy).__module__ == "detectron2.data.transforms.transform"
    np.testing.assert_array_equal(copy.apply_image(picture()), ALL[name].apply_image(picture()))
    assert repr(copy) == repr(ALL[name])


sides = st.integers(1, 40)


@st.composite
def chains(draw: st.DrawFn) -> T.TransformList:
    """A list of invertible transforms that fit each other."""
    height, width, steps = draw(sides), draw(sides), []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["h", "v", "resize", "pad", "crop", "rotate"]))
        if kind == "h":
            steps.append(T.HFlipTransform(width))
        elif kind == "v":
            steps.append(T.VFlipTransform(height))
        elif kind == "resize":
            new = draw(sides), draw(sides)
            steps.append(T.ResizeTransform(height, width, *new))
            height, width = new
        elif kind == "pad":
            x0, y0, x1, y1 = (draw(st.integers(0, 5)) for _ in range(4))
            steps.append(T.PadTransform(x0, y0, x1, y1, width, height))
            height, width = height + y0 + y1, width + x0 + x1
        elif kind == "crop":
            new = draw(st.integers(1, height)), draw(st.integers(1, width))
            at = draw(st.integers(0, height - new[0])), draw(st.integers(0, width - new[1]))
            steps.append(T.CropTransform(at[1], at[0], new[1], new[0], width, height))
            height, width = new
        else:
            steps.append(T.RotationTransform(height, width, draw(st.floats(-180, 180))))
            height, width = steps[-1].bound_h, steps[-1].bound_w
            if min(height, width) < 1:
                height, width = max(height, 1), max(width, 1)
    return T.TransformList(steps)


@settings(max_examples=60, deadline=None)
@given(chains())
def test_inverse_of_any_chain_is_the_identity_on_points(chain: T.TransformList) -> None:
    back = chain.inverse().apply_coords(chain.apply_coords(points()))
    np.testing.assert_allclose(back, points(), atol=1e-6)
    assert len(chain.inverse()) == len(chain)


def slow_warp(image: np.ndarray, matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    out = np.zeros((height, width, image.shape[2]))
    for row in range(height):
        for col in range(width):
            x, y, _ = inverse @ [col, row, 1]
            left, top = math.floor(x), math.floor(y)
            for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
                weight = (1 - abs(x - left - dx)) * (1 - abs(y - top - dy))
                if 0 <= left + dx < image.shape[1] and 0 <= top + dy < image.shape[0]:
                    out[row, col] += weight * image[top + dy, left + dx]
    return out


@pytest.mark.parametrize("angle", [30, -75.5, 123])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.uint16])
def test_rotation_against_a_loop(angle: float, dtype: type) -> None:
    image = picture(17, 23).astype(dtype)
    transform = T.RotationTransform(17, 23, angle)
    want = slow_warp(image, transform.rm_image, transform.bound_h, transform.bound_w)
    got = transform.apply_image(image)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, atol=1e-2 if dtype == np.float32 else 0.51)


def test_rotation_by_right_angles_moves_whole_pixels() -> None:
    turned = T.RotationTransform(H, W, 90).apply_image(picture())
    np.testing.assert_array_equal(turned, np.rot90(picture()))
    np.testing.assert_array_equal(T.RotationTransform(H, W, 360).apply_image(picture()), picture())
    with pytest.raises(NotImplementedError, match="expand"):
        T.RotationTransform(H, W, 10, expand=False).inverse()


def corners(box: np.ndarray) -> np.ndarray:
    """Corners of (cx, cy, w, h, angle), counter-clockwise seen with y down."""
    cx, cy, w, h, angle = box
    turn = math.radians(angle)
    along = np.asarray([math.cos(turn), -math.sin(turn)]) * w / 2
    across = np.asarray([math.sin(turn), math.cos(turn)]) * h / 2
    center = np.asarray([cx, cy])
    return np.stack(
        [center + along + across, center - along + across, center - along - across, center + along - across]
    )


@pytest.mark.parametrize(
    "transform",
    [
        T.HFlipTransform(W),
        T.VFlipTransform(H),
        T.ResizeTransform(H, W, 2 * H, 2 * W),
        T.RotationTransform(H, W, 35),
        T.PadTransform(3, 4, 5, 6),
        T.CropTransform(3, 4, 5, 6),
        T.ExtentTransform((5, 5, 25, 25), (40, 40)),
        T.NoOpTransform(),
        T.BlendTransform(0, 0.5, 0.5),
        T.TransformList([T.HFlipTransform(W), T.RotationTransform(H, W, -20), T.NoOpTransform()]),
    ],
    ids=lambda t: type(t).__name__,
)
def test_rotated_boxes_keep_their_corners(transform: T.Transform) -> None:
    boxes = np.asarray([[20, 15, 10, 4, 30], [30, 20, 3, 12, -110], [5, 5, 4, 4, 0.0]])
    moved = transform.apply_rotated_box(boxes)
    for before, after in zip(boxes, moved):
        want = transform.apply_coords(corners(before))
        got = corners(after)
        distance = np.linalg.norm(want[:, None] - got[None], axis=2).min(axis=1)
        assert distance.max() < (1e-5 if isinstance(transform, T.ExtentTransform) else 1e-9)  # float32
    with pytest.raises(ValueError, match="cx, cy, w, h"):
        T.HFlipTransform(3).apply_rotated_box(np.zeros((2, 4)))


@st.composite
def stars(draw: st.DrawFn) -> np.ndarray:
    """Polygons that see their centre: simple, and often concave."""
    count = draw(st.integers(3, 14))
    radius = np.asarray(draw(st.lists(st.floats(2, 30), min_size=count, max_size=count)))
    turn = (np.arange(count) + 0.5) * 2 * np.pi / count
    return np.asarray([30.0, 20.0]) + np.stack([np.cos(turn), np.sin(turn)], 1) * radius[:, None]


@settings(max_examples=150, deadline=None)
@given(stars(), st.floats(0, 40), st.floats(0, 30), st.floats(1, 40), st.floats(1, 40))
def test_clipped_polygons_agree_with_shapely(
    star: np.ndarray, x: float, y: float, w: float, h: float
) -> None:
    geometry = pytest.importorskip("shapely.geometry")
    want = geometry.Polygon(star).intersection(geometry.box(x, y, x + w, y + h))
    got = clip_polygon(star, x, y, x + w, y + h)
    assert sum(geometry.Polygon(p).area for p in got) == pytest.approx(want.area, abs=1e-6)
    for piece in got:
        assert (piece.min(axis=0) >= [x, y]).all() and (
            piece.max(axis=0) <= np.add([x, y], [w, h]) + 1e-9
        ).all()
        again = clip_polygon(piece, x, y, x + w, y + h)
        assert len(again) == 1 and np.array_equal(again[0], piece)  # clipping is idempotent


def test_a_concave_polygon_falls_into_pieces() -> None:
    comb = np.asarray(
        [[0, 0], [10, 0], [10, 10], [8, 10], [8, 2], [6, 2], [6, 10], [4, 10], [4, 2], [0, 2.0]]
    )
    pieces = T.CropTransform(0, 5, 20, 20).apply_polygons([comb])
    assert sorted(p.min(axis=0).tolist() for p in pieces) == [[4, 0], [8, 0]]
    assert T.CropTransform(50, 50, 5, 5).apply_polygons([comb]) == []


def test_crop_and_pad() -> None:
    crop = T.CropTransform(7, 5, 30, 20, W, H)
    np.testing.assert_array_equal(crop.apply_image(picture()), picture()[5:25, 7:37])
    pad = crop.inverse()
    whole = pad.apply_image(crop.apply_image(picture()))
    np.testing.assert_array_equal(whole[5:25, 7:37], picture()[5:25, 7:37])
    assert whole.shape == (H, W, 3) and whole[0, 0, 0] == 0
    np.testing.assert_array_equal(pad.inverse().apply_image(whole), crop.apply_image(picture()))
    border = T.PadTransform(1, 2, 3, 4, pad_value=7, seg_pad_value=9)
    assert border.apply_image(picture())[0, 0, 0] == 7
    assert border.apply_segmentation(picture()[:, :, 0])[0, 0] == 9
    for transform in (border, T.CropTransform(0, 0, 1, 1)):
        with pytest.raises(ValueError, match="orig_w"):
            transform.inverse()
    with pytest.raises(ValueError, match="negative"):
        T.PadTransform(-1, 0, 0, 0)


def test_scale_and_grid() -> None:
    image = picture().astype(np.float32)
    half = T.ScaleTransform(H, W, H // 2, W // 2).apply_image(image)
    np.testing.assert_allclose(half, image.reshape(H // 2, 2, W // 2, 2, 3).mean((1, 3)), rtol=1e-5)
    assert T.ScaleTransform(H, W, 9, 9).apply_image(picture()).dtype == np.uint8
    ys, xs = (2 * np.arange(H) + 1) / H - 1, (2 * np.arange(W) + 1) / W - 1
    grid = np.stack(np.meshgrid(xs, ys), axis=2)[None]
    same = T.GridSampleTransform(grid, "bilinear")
    np.testing.assert_allclose(same.apply_image(image.astype(np.float64)), image, atol=1e-3)
    np.testing.assert_array_equal(same.apply_segmentation(picture()[:, :, 0]), picture()[:, :, 0])


@pytest.mark.parametrize("weights", [(0.3, 0.7), (-0.4, 1.4), (0.0, 2.0)])
def test_blend_table_equals_the_sum(weights: tuple[float, float]) -> None:
    fast = T.BlendTransform(91.5, *weights).apply_image(picture())
    mixed = weights[0] * 91.5 + weights[1] * picture().astype(np.float32)
    slow = mixed.clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(fast, slow)
    assert T.BlendTransform(91.5, *weights).apply_image(picture() / 2.0).dtype == np.float64


def test_lists() -> None:
    flip, up = T.HFlipTransform(W), T.VFlipTransform(H)
    chain = T.TransformList([T.TransformList([flip]), up])
    assert chain.transforms == [flip, up] and len(chain) == 2 and list(chain) == [flip, up] and chain[1] is up
    assert (chain + flip).transforms == [flip, up, flip]
    assert ([up] + chain).transforms == [up, flip, up]
    chain += [flip]
    chain.insert(0, up)
    assert chain.transforms == [up, flip, up, flip]
    np.testing.assert_array_equal(chain.apply_image(picture()), picture())
    assert T.TransformList([]).apply_image(picture()).shape == (H, W, 3)
    with pytest.raises(TypeError, match="Transform objects"):
        T.TransformList([3])
    with pytest.raises(AttributeError, match="frobnicate"):
        chain.frobnicate


def test_new_types_of_data() -> None:
    class Shift(T.Transform):
        def apply_coords(self, coords: np.ndarray) -> np.ndarray:
            return coords + 1

    @Shift.register_type("line")
    def shift_line(transform: T.Transform, line: np.ndarray) -> np.ndarray:
        return transform.apply_coords(line)

    assert T.TransformList([Shift(), T.NoOpTransform(), Shift()]).apply_line(np.zeros((1, 2))).tolist() == [
        [2, 2]
    ]
    np.testing.assert_array_equal(Shift().apply_box(np.asarray([[1, 2, 3, 4]])), [[2, 3, 4, 5]])
    with pytest.raises(AttributeError):
        T.TransformList([T.HFlipTransform(3)]).apply_line(np.zeros((1, 2)))
    with pytest.raises(TypeError, match="callable"):
        Shift.register_type("x", 3)
    with pytest.raises(TypeError, match="the transform and the data"):
        Shift.register_type("x", lambda data: data)
    with pytest.raises(NotImplementedError, match="Shift"):
        Shift().apply_image(picture())
    with pytest.raises(NotImplementedError, match="Shift"):
        Shift().inverse()


def test_coordinates_of_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        T.HFlipTransform(5).apply_coords(np.zeros((4, 3)))
