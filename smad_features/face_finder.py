"""Find faces in a picture, and five points of each. MediaPipe's models, and nothing else, are at home here.

They run in IMAGE mode on the CPU: in VIDEO mode the answer would depend on the order of frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from smad_features.model_files import detector_data

# Points of MediaPipe's 478-point mesh. An eye is the mean of its corners: an iris would move with the gaze. Of the two
# points at the nose tip, 4 lies nearer to the template's than 1 (1 and 4 crop pixels off on frontal faces).
_RIGHT_EYE, _LEFT_EYE, _NOSE_TIP, _MOUTH_CORNERS = (33, 133), (362, 263), 4, (61, 291)

# The full-range model finds 15 of 16 faces whose width is 0.055 of the picture's side, and all at 0.07 (measured on
# real faces in a real scene): a tile of 576 pixels shows it one of 32, and tiles overlap by what wholes show it.
_TILE, _TILE_OVERLAP = 576, 144
# A face larger than this fraction of the picture would have been seen in the whole: a tile shows something else there.
_LARGEST_IN_TILE = 0.12
_NEIGHBOURS = 2  # faces in the square that the mesh looks at, where its first is not the one that was meant

Range = Literal["auto", "short", "full"]


@dataclass(frozen=True)
class Face:
    """A face in a picture: its box (x, y, width, height in pixels), detector score and points.

    ``points``: (5, 2) float64 in the order of `schema.POINTS`; the detector knows only the mouth's centre, so there
    both corners are NaN and ``mouth`` holds it. ``pose``: roll, yaw and pitch of the head in degrees, where the mesh
    gives them: positive when the head turns clockwise in the picture, to the picture's right, and up.
    """

    box: tuple[float, float, float, float]
    score: float
    points: np.ndarray
    mouth: tuple[float, float]
    pose: tuple[float, float, float] | None = None

    @property
    def centre(self) -> np.ndarray:
        """(2,) pixels."""
        x, y, width, height = self.box
        return np.array([x + width / 2, y + height / 2])

    @property
    def roll(self) -> float:
        """How far the line of the eyes is turned clockwise in the picture, in degrees."""
        x, y = self.points[1] - self.points[0]
        return math.degrees(math.atan2(y, x))

    @property
    def side(self) -> float:
        """The longer side of the box in pixels."""
        return max(self.box[2:])

    def scaled(self, factor: float) -> Face:
        """The same face in a picture ``factor`` times as large; whole numbers are pixel centres."""
        if factor == 1:
            return self
        x, y, width, height = (value * factor for value in self.box)
        mouth = tuple((np.array(self.mouth) + 0.5) * factor - 0.5)
        return Face((x, y, width, height), self.score, (self.points + 0.5) * factor - 0.5, mouth, self.pose)


class FaceFinder:
    """MediaPipe's detectors, and its face mesh where the model file has one. Loaded once a job.

    Parameters
    ----------
    model_file
        The landmarker's bundle, or the short-range detector alone.
    full_range
        The full-range detector; needed unless ``look`` is short.
    look
        short, full = that detector alone, on the whole picture; auto = the short range, and when asked the full range
        and tiles.
    min_score
        Faces below are none.
    """

    def __init__(
        self, model_file: Path, *, full_range: Path | None = None, look: Range = "auto", min_score: float = 0.5
    ) -> None:
        # Imported here: it costs a second, and only the job that finds faces should pay it.
        from mediapipe.tasks import python as tasks
        from mediapipe.tasks.python import vision

        if full_range is None and look != "short":
            raise ValueError(f"face.range: {look} needs the full-range detector, and none was given")
        cpu = tasks.BaseOptions.Delegate.CPU

        def detector(data: bytes) -> Any:
            base = tasks.BaseOptions(model_asset_buffer=data, delegate=cpu)
            options = vision.FaceDetectorOptions(base_options=base, min_detection_confidence=min_score)
            return vision.FaceDetector.create_from_options(options)

        self._look = look
        self._short = None if look == "full" else detector(detector_data(model_file))
        # Loaded when it is first wanted: most clips do without, and it takes its memory.
        self._load_full = lru_cache(maxsize=1)(lambda: detector(full_range.read_bytes()) if full_range else None)

        def mesh(faces: int) -> Any:
            options = vision.FaceLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_path=str(model_file), delegate=cpu),
                num_faces=faces,
                min_face_detection_confidence=0.3,
                output_facial_transformation_matrixes=True,
            )
            return vision.FaceLandmarker.create_from_options(options)

        self._mesh = mesh(1) if model_file.suffix == ".task" else None
        self._load_meshes = lru_cache(maxsize=1)(lambda: mesh(_NEIGHBOURS))

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(self, *_: object) -> None:
        loaded = [load() for load in (self._load_full, self._load_meshes) if load.cache_info().currsize]
        for model in (self._short, self._mesh, *loaded):
            if model is not None:
                model.close()

    def find_faces(self, picture: np.ndarray) -> list[Face]:
        """All faces that an (H, W, 3) uint8 RGB picture shows as a whole, the largest first."""
        return self._find(self._load_full() if self._short is None else self._short, picture)

    def find_far_faces(self, picture: np.ndarray) -> list[Face]:
        """The same by the full-range detector, for faces of half the size and less; under ``auto`` alone."""
        return self._find(self._load_full(), picture) if self._look == "auto" else []

    def find_small_faces(self, picture: np.ndarray) -> list[Face]:
        """The faces that only overlapping tiles of the picture show, the largest first; under ``auto`` alone.

        The detectors work on 128 and 192 pixels, in which a small face of a large picture is lost.
        """
        if self._look != "auto":
            return []
        small = _LARGEST_IN_TILE * max(picture.shape[:2])
        found = [face for tile, corner in _tiles(picture) for face in self._find(self._load_full(), tile, corner)]
        return sorted(_without_doubles([f for f in found if f.side <= small]), key=lambda face: -face.side)

    def find_near(self, picture: np.ndarray, face: Face) -> list[Face]:
        """The faces in a square around where a face was in another frame of the clip; under ``auto`` alone."""
        square, corner = _square(picture, face, half=1.5 * face.side)
        if self._look != "auto" or min(square.shape[:2]) < face.side / 2:  # that picture was larger, or it is gone
            return []
        return self._find(self._short, square, corner)

    def refine(self, picture: np.ndarray, face: Face) -> Face | None:
        """The face with points and pose of the mesh, None where the mesh finds none there; without a mesh as it is.

        The mesh sees a square around the detected face, so that it finds this one, and a small one at full resolution.
        """
        if self._mesh is None:
            return face
        square, corner = _square(picture, face, half=face.side)  # its own detector wants a head with room around it
        found = self._nearest_mesh(self._mesh, square, corner, face)
        return found or self._nearest_mesh(self._load_meshes(), square, corner, face)

    def _nearest_mesh(self, model: Any, square: np.ndarray, corner: tuple[int, int], face: Face) -> Face | None:
        """The mesh in a part of the picture whose eyes lie where the face has them; None: they are somebody else's."""
        height, width = square.shape[:2]
        found = model.detect(_image(square))
        for mesh, matrix in zip(found.face_landmarks, found.facial_transformation_matrixes, strict=True):
            points = _five_points(np.array([(p.x * width, p.y * height) for p in mesh]) + corner)
            if np.hypot(*(points[:2].mean(axis=0) - face.points[:2].mean(axis=0))) <= face.side / 4:
                return Face(face.box, face.score, points, tuple(points[3:].mean(axis=0)), head_pose(matrix[:3, :3]))
        return None

    def _find(self, model: Any, picture: np.ndarray, corner: tuple[int, int] = (0, 0)) -> list[Face]:
        """The faces that a detector sees in a part of a picture with this top left corner (x, y), the largest first."""
        height, width = picture.shape[:2]
        faces = []
        for found in model.detect(_image(picture)).detections:
            box = found.bounding_box
            # Keypoints are fractions of the picture; -0.5 puts whole numbers at pixel centres.
            points = np.array([(p.x * width, p.y * height) for p in found.keypoints]) - 0.5 + corner
            five = np.full((5, 2), np.nan)
            five[:3] = points[:3]
            place = (box.origin_x + corner[0], box.origin_y + corner[1], box.width, box.height)
            faces.append(Face(place, found.categories[0].score, five, tuple(points[3])))
        return sorted(faces, key=lambda face: -face.side)


def head_pose(rotation: np.ndarray) -> tuple[float, float, float]:
    """Roll, yaw and pitch in degrees of a (3, 3) rotation from MediaPipe's canonical face to the camera.

    Its axes: x to the picture's right, y up, z towards the camera. The rotation is taken apart as Rz Ry Rx, and signs
    are chosen so that all three are positive for a head that turns clockwise in the picture, to the picture's right,
    and up.
    """
    yaw = math.atan2(-rotation[2, 0], math.hypot(rotation[0, 0], rotation[1, 0]))
    pitch = math.atan2(rotation[2, 1], rotation[2, 2])
    roll = math.atan2(rotation[1, 0], rotation[0, 0])
    return -math.degrees(roll), math.degrees(yaw), -math.degrees(pitch)


def _image(picture: np.ndarray) -> Any:
    import mediapipe

    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))


def _five_points(mesh: np.ndarray) -> np.ndarray:
    """(5, 2), pixel centres: the template's points, from a (478, 2) mesh in pixels off the picture's corner."""
    points = mesh - 0.5
    return np.stack(
        [
            points[list(_RIGHT_EYE)].mean(axis=0),
            points[list(_LEFT_EYE)].mean(axis=0),
            points[_NOSE_TIP],
            *points[list(_MOUTH_CORNERS)],
        ]
    )


def _square(picture: np.ndarray, face: Face, *, half: float) -> tuple[np.ndarray, tuple[int, int]]:
    """The part of the picture within ``half`` pixels of a face's centre, and its top left corner (x, y)."""
    height, width = picture.shape[:2]
    x, y = face.centre
    left, top = max(0, int(x - half)), max(0, int(y - half))
    right, bottom = min(width, int(x + half) + 1), min(height, int(y + half) + 1)
    return picture[top : max(top, bottom), left : max(left, right)], (left, top)


def _tiles(picture: np.ndarray) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Overlapping tiles of a picture with their top left corners (x, y); none where one tile would be the whole."""
    height, width = picture.shape[:2]
    if max(height, width) <= _TILE:
        return []
    rows, columns = (_tile_starts(side) for side in (height, width))
    return [(picture[y : y + _TILE, x : x + _TILE], (x, y)) for y in rows for x in columns]


def _tile_starts(side: int) -> list[int]:
    """Where tiles begin along one side, evenly spread."""
    count = max(1, math.ceil((side - _TILE_OVERLAP) / (_TILE - _TILE_OVERLAP)))
    return [round(i * max(0, side - _TILE) / max(1, count - 1)) for i in range(count)]


def _without_doubles(faces: list[Face]) -> list[Face]:
    """Each face once: of two whose centres lie within half a face, the surer one."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(np.hypot(*(face.centre - other.centre)) > other.side / 2 for other in kept):
            kept.append(face)
    return kept
