"""Frames become the subject's face, aligned to one template, with a record of how sure we are.

MediaPipe runs in IMAGE mode on the CPU: in VIDEO mode the answer would depend on the order of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from smad_features import schema
from smad_features.model_files import detector_data
from smad_features.video import Frames

# Deng et al. 2019, ArcFace (arXiv:1801.07698): eyes, nose tip, mouth corners in a 112 x 112 crop; the subject's own
# right first.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_TEMPLATE_SIZE = 112

# Points of MediaPipe's 478-point mesh. An eye is the mean of its corners: an iris would move with the gaze. Of the two
# points at the nose tip, 4 lies nearer to the template's than 1 (1 and 4 crop pixels off on frontal faces).
_RIGHT_EYE, _LEFT_EYE, _NOSE_TIP, _MOUTH_CORNERS = (33, 133), (362, 263), 4, (61, 291)

_TILES = 2  # tiles across and down, where nothing was found in the whole picture; they overlap by half
# A face larger than this fraction of the picture would have been seen in the whole: a tile shows something else there.
_LARGEST_IN_TILE = 0.2
# Two faces may lie in the square that the mesh looks at, and its first is not always the one that was meant.
_MESHES = 2


@dataclass(frozen=True)
class Face:
    """A face in a picture: its box (x, y, width, height in pixels), detector score and points.

    ``points``: (5, 2) float64 in the order of `schema.POINTS`; the detector knows only the mouth's centre, so there
    both corners are NaN and ``mouth`` holds it.
    """

    box: tuple[float, float, float, float]
    score: float
    points: np.ndarray
    mouth: tuple[float, float]

    @property
    def centre(self) -> np.ndarray:
        """(2,) pixels."""
        x, y, width, height = self.box
        return np.array([x + width / 2, y + height / 2])

    @property
    def side(self) -> float:
        """The longer side of the box in pixels."""
        return max(self.box[2:])


class FaceFinder:
    """MediaPipe's detector, and its face mesh where the model file has one. Loaded once a job."""

    def __init__(self, model_file: Path, *, min_score: float = 0.5, tiles: bool = True) -> None:
        # Imported here: it costs a second, and only the job that finds faces should pay it.
        from mediapipe.tasks import python as tasks
        from mediapipe.tasks.python import vision

        cpu = tasks.BaseOptions.Delegate.CPU
        base = tasks.BaseOptions(model_asset_buffer=detector_data(model_file), delegate=cpu)
        self._detector = vision.FaceDetector.create_from_options(
            vision.FaceDetectorOptions(base_options=base, min_detection_confidence=min_score)
        )
        self._mesh = None
        if model_file.suffix == ".task":
            base = tasks.BaseOptions(model_asset_path=str(model_file), delegate=cpu)
            options = vision.FaceLandmarkerOptions(
                base_options=base, num_faces=_MESHES, min_face_detection_confidence=0.3
            )
            self._mesh = vision.FaceLandmarker.create_from_options(options)
        self._tiles = tiles

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(self, *_: object) -> None:
        self._detector.close()
        if self._mesh is not None:
            self._mesh.close()

    def find_faces(self, picture: np.ndarray) -> list[Face]:
        """All faces of an (H, W, 3) uint8 RGB picture, the largest first.

        Where the whole picture shows none, overlapping tiles are looked at: the detector works on 128 x 128 pixels, in
        which a small face of a large picture is lost.
        """
        faces = self._detect(picture, (0, 0))
        if not faces and self._tiles:
            small = _LARGEST_IN_TILE * max(picture.shape[:2])
            found = [face for tile, corner in _tiles(picture) for face in self._detect(tile, corner)]
            faces = _without_doubles([face for face in found if face.side <= small])
        return sorted(faces, key=lambda face: -face.side)

    def refine(self, picture: np.ndarray, face: Face) -> Face | None:
        """The face with the points of the mesh, None where the mesh finds none there; without a mesh the face itself.

        The mesh sees a square around the detected face, so that it finds this one, and a small one at full resolution.
        """
        if self._mesh is None:
            return face
        height, width = picture.shape[:2]
        half = face.side  # twice the box: the mesh's own detector wants a head with room around it
        x, y = face.centre
        left, top = max(0, int(x - half)), max(0, int(y - half))
        right, bottom = min(width, int(x + half) + 1), min(height, int(y + half) + 1)
        found = self._mesh.detect(_image(picture[top:bottom, left:right])).face_landmarks
        options = [_five_points([(p.x * (right - left) + left, p.y * (bottom - top) + top) for p in f]) for f in found]
        distances = [np.hypot(*(points[:2].mean(axis=0) - face.points[:2].mean(axis=0))) for points in options]
        if not options or min(distances) > face.side / 4:  # eyes that lie elsewhere are somebody else's
            return None
        points = options[int(np.argmin(distances))]
        return Face(face.box, face.score, points, tuple(points[3:].mean(axis=0)))

    def _detect(self, picture: np.ndarray, corner: tuple[int, int]) -> list[Face]:
        height, width = picture.shape[:2]
        faces = []
        for found in self._detector.detect(_image(picture)).detections:
            box = found.bounding_box
            # Keypoints are fractions of the picture; -0.5 puts whole numbers at pixel centres.
            points = np.array([(p.x * width, p.y * height) for p in found.keypoints]) - 0.5 + corner
            five = np.full((5, 2), np.nan)
            five[:3] = points[:3]
            place = (box.origin_x + corner[0], box.origin_y + corner[1], box.width, box.height)
            faces.append(Face(place, found.categories[0].score, five, tuple(points[3])))
        return faces


def choose_subject(faces: Sequence[Sequence[Face]], *, picture_sizes: Sequence[tuple[int, int]]) -> list[Face | None]:
    """One person's face in each frame: the largest and most central one, followed by position and size.

    Parameters
    ----------
    faces
        All faces of each frame.
    picture_sizes
        (height, width) of each frame in pixels.

    From each face the nearest is followed both ways; one that lies more than its own size away, or is less than half
    or more than twice as large, is somebody else. The person with most prominence times score over all frames is the
    subject: a single frame does not decide, since boxes jitter.
    """
    people = [_follow(faces, i, face) for i, options in enumerate(faces) for face in options]
    if not people:
        return [None] * len(faces)

    def presence(person: Sequence[Face | None]) -> float:
        return sum(
            _prominence(f, size) * f.score for f, size in zip(person, picture_sizes, strict=True) if f is not None
        )

    return max(people, key=presence)


def _follow(faces: Sequence[Sequence[Face]], anchor: int, face: Face) -> list[Face | None]:
    """The same person in each frame, from a face of frame ``anchor`` on; None where the person is not found."""
    person: list[Face | None] = [None] * len(faces)
    person[anchor] = face
    for order in (range(anchor + 1, len(faces)), range(anchor - 1, -1, -1)):
        last: Face | None = face
        for i in order:
            person[i] = _same_person(last, faces[i])
            last = person[i] or last
    return person


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares similarity without reflection from ``source`` to ``target``, both (n, 2): a (2, 3) matrix.

    With points as complex numbers about their means it is z -> a z, a = sum(conj(z) w) / sum(|z|^2): a turn and a
    scale, so a reflection cannot come out (Umeyama 1991, IEEE TPAMI 13(4), in the plane).
    """
    z, w = source @ (1, 1j), target @ (1, 1j)
    z_mean, w_mean = z.mean(), w.mean()
    a = np.vdot(z - z_mean, w - w_mean) / np.vdot(z - z_mean, z - z_mean).real
    b = w_mean - a * z_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def template_points(*, size: int = schema.SIZE, margin: float = 0.0) -> np.ndarray:
    """(5, 2) float64: the template in a crop of ``size`` pixels with ``margin`` (fraction of the side) around it.

    Whole numbers are pixel centres, so the crop's edges lie at -0.5 and size - 0.5.
    """
    return ((TEMPLATE + 0.5) / _TEMPLATE_SIZE + margin) / (1 + 2 * margin) * size - 0.5


def align_face(
    picture: np.ndarray, face: Face, *, size: int = schema.SIZE, margin: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The (size, size, 3) uint8 crop of a face on the template, and its (2, 3) transform, source -> crop pixel."""
    target = template_points(size=size, margin=margin)
    if np.isfinite(face.points).all():
        transform = fit_similarity(face.points, target)
    else:  # no mouth corners: their centre stands for both
        transform = fit_similarity(
            np.vstack([face.points[:3], face.mouth]), np.vstack([target[:3], target[3:].mean(axis=0)])
        )
    return warp(picture, transform, size=size), transform


def warp(picture: np.ndarray, transform: np.ndarray, *, size: int) -> np.ndarray:
    """The (size, size, 3) picture under a (2, 3) transform, source -> crop pixel; the border is replicated.

    Bilinear sampling skips pixels where it shrinks by more than 2, so there the picture is averaged down first.
    """
    factor = int(1 / np.hypot(*transform[:, 0]))
    if factor > 1:
        height, width = (max(1, side // factor) for side in picture.shape[:2])
        # Crop to whole blocks first, so that one small pixel is exactly factor x factor large ones.
        picture = cv2.resize(
            picture[: height * factor, : width * factor], (width, height), interpolation=cv2.INTER_AREA
        )
        shift = (factor - 1) / 2  # small pixel i covers i * factor .. i * factor + factor - 1
        transform = transform @ np.array([[factor, 0, shift], [0, factor, shift], [0, 0, 1]])
    return cv2.warpAffine(picture, transform, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def extract_faces(
    frames: Frames, finder: FaceFinder | None, settings: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The face arrays of one clip (`schema.face_arrays`, without the clip axis) and how much of them to believe.

    Parameters
    ----------
    finder
        None where ``settings["align"]`` is none: the pictures are faces already and are only resized.
    settings
        The configuration's `face` section.
    """
    count, size = settings["frames"], settings["size"]
    arrays = {name: array.empty(1)[0] for name, array in schema.face_arrays(frames=count, size=size).items()}
    arrays["face_time"][:] = frames.times
    if finder is None:
        for i, picture in enumerate(frames.pictures):
            height, width = picture.shape[:2]
            scale = np.array([size / width, size / height])
            arrays["face"][i] = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
            arrays["face_transform"][i] = np.column_stack([np.diag(scale), (scale - 1) / 2])
        arrays["face_found"][:] = True
        return arrays, {"face_found": 1.0, "faces": 1}

    everyone = [finder.find_faces(picture) for picture in frames.pictures]
    subject = choose_subject(everyone, picture_sizes=[p.shape[:2] for p in frames.pictures])
    subject = [face and finder.refine(picture, face) for picture, face in zip(frames.pictures, subject, strict=True)]
    found = [i for i, face in enumerate(subject) if face is not None]
    for i, (picture, face) in enumerate(zip(frames.pictures, subject, strict=True)):
        if face is not None:
            crop, transform = align_face(picture, face, size=size, margin=settings["margin"])
            arrays["face"][i], arrays["face_transform"][i] = crop, transform
            arrays["face_found"][i], arrays["face_score"][i], arrays["face_points"][i] = True, face.score, face.points
    if settings["missing"] == "nearest" and found:
        for i in sorted(set(range(count)) - set(found)):
            nearest = min(found, key=lambda j: abs(frames.times[j] - frames.times[i]))
            arrays["face_transform"][i] = arrays["face_transform"][nearest]
            arrays["face"][i] = warp(frames.pictures[i], arrays["face_transform"][i].astype(float), size=size)
    eyes = arrays["face_points"][found][:, :2].astype(float)
    quality = {
        "face_found": len(found) / count,
        "face_score": float(np.mean(arrays["face_score"][found])) if found else None,
        "face_size": float(np.median(np.hypot(*(eyes[:, 1] - eyes[:, 0]).T))) if found else None,
        "faces": max(len(faces) for faces in everyone),
    }
    return arrays, quality


def _image(picture: np.ndarray) -> Any:
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))


def _five_points(mesh: list[tuple[float, float]]) -> np.ndarray:
    """(5, 2), pixel centres: the template's points, from a mesh in pixels off the picture's corner."""
    points = np.array(mesh) - 0.5
    return np.stack(
        [
            points[list(_RIGHT_EYE)].mean(axis=0),
            points[list(_LEFT_EYE)].mean(axis=0),
            points[_NOSE_TIP],
            *points[list(_MOUTH_CORNERS)],
        ]
    )


def _tiles(picture: np.ndarray) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Overlapping tiles of a picture with their top left corners (x, y)."""
    height, width = picture.shape[:2]
    high, wide = (round(side / (_TILES - (_TILES - 1) / 2)) for side in (height, width))
    corners = [
        (round(i * (width - wide) / (_TILES - 1)), round(j * (height - high) / (_TILES - 1)))
        for j in range(_TILES)
        for i in range(_TILES)
    ]
    return [(picture[y : y + high, x : x + wide], (x, y)) for x, y in corners]


def _without_doubles(faces: list[Face]) -> list[Face]:
    """Each face once: of two whose centres lie within half a face, the surer one."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(np.hypot(*(face.centre - other.centre)) > other.side / 2 for other in kept):
            kept.append(face)
    return kept


def _prominence(face: Face, picture_size: tuple[int, int]) -> float:
    """Size times nearness to the picture's centre (1 there, 0.5 at a corner)."""
    middle = np.array(picture_size[::-1]) / 2
    return face.side * float(1 - 0.5 * np.hypot(*((face.centre - middle) / middle)) / np.sqrt(2))


def _same_person(last: Face | None, options: Sequence[Face]) -> Face | None:
    """The option nearest to where the person was last, or None where all are too far away or of another size."""
    if last is None:
        return None

    def distance(face: Face) -> float:
        return float(np.hypot(*(face.centre - last.centre)))

    near = [f for f in options if 0.5 <= f.side / last.side <= 2 and distance(f) <= max(f.side, last.side)]
    return min(near, key=distance, default=None)
