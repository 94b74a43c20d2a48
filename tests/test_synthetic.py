"""The demo data set: files as a laboratory has them, the same for a seed, with a signal to be found."""

import csv
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import recall_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smad_features import synthetic_faces as faces
from smad_features import synthetic_recordings as recordings
from smad_features.schema import TOBII_PRO_LAB_39
from smad_features.synthetic import write_demo_data
from smad_features.synthetic_plan import EMOTIONS, plan_clips


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_demo_data(folder, participants=5, clips_per_participant=2, seconds=2.0)
    return folder


@pytest.fixture(scope="module")
def middling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("middling")
    write_demo_data(folder, participants=15, clips_per_participant=7, seconds=2.0, workers=2)
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def recording(path: Path) -> pd.DataFrame:
    decimal = "," if re.search(r"\t\d+,\d+\t", path.read_text(encoding="utf-8")) else "."
    rows = pd.read_csv(path, sep="\t", decimal=decimal, low_memory=False)
    return rows[rows["Sensor"] == "Eye Tracker"].reset_index(drop=True)


def video(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.array([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def ccc(truth: np.ndarray, guess: np.ndarray) -> float:
    shared = np.cov(truth, guess, bias=True)[0, 1]
    return 2 * shared / (truth.var() + guess.var() + (truth.mean() - guess.mean()) ** 2)


def test_the_same_seed_gives_the_same_files_whatever_the_workers_and_the_size(tiny: Path, tmp_path: Path) -> None:
    write_demo_data(tmp_path, participants=2, clips_per_participant=2, seconds=2.0, workers=2)
    files = [
        path.relative_to(tmp_path) for folder in ("P01", "P02", "stimulus") for path in tmp_path.rglob(f"{folder}/*")
    ]
    assert len(files) == 2 * 2 * 2 + 3
    for file in files:
        assert (tiny / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_another_seed_gives_another_person(tiny: Path, tmp_path: Path) -> None:
    write_demo_data(tmp_path, participants=1, clips_per_participant=1, seconds=2.0, seed=1)
    eye, face = "P01/P01_C1_eye.tsv", "P01/P01_C1.mp4"
    assert (tmp_path / eye).read_bytes() != (tiny / eye).read_bytes()
    assert np.abs(video(tmp_path / face).astype(float) - video(tiny / face)).mean() > 10


def test_every_clip_of_the_tables_has_its_files_and_labels(tiny: Path) -> None:
    clips, labels = table(tiny / "clips.tsv"), table(tiny / "labels.tsv")
    assert list(clips[0]) == ["clip", "participant", "video", "eye", "stimulus", "start", "end"]
    assert len({row["clip"] for row in clips}) == len(clips) == 10
    assert [row["clip"] for row in labels] == [row["clip"] for row in clips]
    for row in clips:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", row["clip"])
        for column in ("video", "eye", "stimulus"):
            assert (tiny / row[column]).is_file()
    assert {(row["start"], row["end"]) for row in clips} == {("", ""), ("0.1", "1.9")}
    for row in labels:
        assert row["emotion"] in EMOTIONS
        assert 0 <= float(row["intensity"]) <= 3
        assert abs(float(row["valence"])) <= 1 and abs(float(row["arousal"])) <= 1


def test_a_clip_has_six_annotations_near_its_truth(tiny: Path) -> None:
    annotations, labels = pd.read_csv(tiny / "annotations.tsv", sep="\t"), pd.read_csv(tiny / "labels.tsv", sep="\t")
    for clip, rows in annotations.groupby("clip"):
        assert rows["kind"].tolist() == ["participant"] + ["expert"] * 4 + ["model"]
        assert rows["annotator"].iloc[0] == str(clip).split("_")[0]
    both = annotations.merge(labels, on="clip", suffixes=("", " truth"))
    for name, limit in (("valence", 0.25), ("arousal", 0.25), ("intensity", 0.5)):
        error = (both[name] - both[f"{name} truth"]).abs().mean()
        assert 0 < error < limit, name
    assert 0.5 < (both["emotion"] == both["emotion truth"]).mean() < 1


def test_a_participant_shows_each_emotion_once_in_seven_clips_and_a_large_set_has_gaps() -> None:
    plan = plan_clips(20, 7, seed=0)
    for number in range(20):
        assert {clip.felt.emotion for clip in plan if clip.number == number} == set(EMOTIONS)
    assert sum(not clip.with_eye for clip in plan) == 2
    assert sum(not clip.with_video for clip in plan) == 1
    assert all(clip.with_eye or clip.with_video for clip in plan)
    assert all(clip.with_eye and clip.with_video for clip in plan_clips(14, 7, seed=0))
    intensities = {e: [c.felt.intensity for c in plan if c.felt.emotion == e] for e in EMOTIONS}
    assert max(intensities["neutral"]) <= 0.4 < min(intensities["fear"])


def test_everything_says_that_it_is_synthetic(tiny: Path) -> None:
    assert "SYNTHETIC" in (tiny / "README.txt").read_text(encoding="utf-8")
    for path in tiny.rglob("*.mp4"):
        with av.open(str(path)) as container:
            assert "synthetic" in container.metadata["title"]
            assert "Synthetic" in container.metadata["comment"]
    for path in tiny.rglob("*_eye.tsv"):
        for row in table(path):
            assert row["Project name"] == "synthetic" and row["Recording name"].startswith("synthetic")


def test_videos_are_h264_of_the_asked_length(tiny: Path) -> None:
    for path in [tiny / "P01/P01_C1.mp4", tiny / "stimulus/film1.mp4"]:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 320, 240)
            times = [float(frame.time or 0) for frame in container.decode(video=0)]
        assert_allclose(times, np.arange(40) / 20, atol=1e-3)


def test_columns_are_those_of_a_real_export(tiny: Path, shared: Path) -> None:
    with (shared / "media/tobii_pro_lab_24_120hz.tsv").open(encoding="utf-8") as file:
        real = file.readline().rstrip("\n").split("\t")
    ours = list(table(tiny / "P01/P01_C1_eye.tsv")[0])
    # Before late 2024 the event's duration was called the gaze event's: the name in the 39-channel list.
    assert [name for name in ours if name not in real] == ["Gaze event duration [ms]"]
    assert [name for name in ours if name in real] == [name for name in real if name in ours]


def test_a_recording_has_the_39_channels_in_order(tiny: Path) -> None:
    unit = {"DACSmm": "DACS mm", "MCSnorm": "MCS norm"}
    columns = list(table(tiny / "P01/P01_C1_eye.tsv")[0])
    places = []
    for channel in TOBII_PRO_LAB_39:
        stem, _, frame = channel.name.partition(" (")
        names = [f"{stem} [{unit[frame[:-1]]}]"] if frame else [stem, f"{stem} [DACS px]", f"{stem} [DACS norm]"]
        found = [columns.index(name) for name in [*names, f"{stem} [mm]", f"{stem} [ms]"] if name in columns]
        assert len(found) == 1, channel.name
        places += found
    assert places == sorted(places)


def test_recordings_have_event_and_mouse_rows_and_a_clock_that_jitters(tiny: Path) -> None:
    for name, scale in (("P01", 1), ("P02", 1000)):  # the second participant's computer writes microseconds
        rows = table(tiny / f"{name}/{name}_C1_eye.tsv")
        events = [row["Event"] for row in rows if row["Event"]]
        assert events == ["RecordingStart", "VideoStimulusStart", "VideoStimulusEnd"]
        assert {row["Sensor"] for row in rows} == {"", "Mouse", "Eye Tracker"}
        eye = recording(tiny / f"{name}/{name}_C1_eye.tsv")
        device = np.diff(eye["Eyetracker timestamp [μs]"])
        assert 225 < len(eye) <= 240 and np.median(device) == 8333 and set(device) >= {8332, 8333, 8334}
        stamps = np.diff(eye[f"Recording timestamp [{'ms' if scale == 1 else 'μs'}]"])
        assert stamps.min() >= 0 and len(set(stamps)) > 2
        assert np.median(stamps) / scale == pytest.approx(8.333, abs=0.4)


def test_missing_samples_are_empty_and_one_eye_alone_gives_the_gaze(tiny: Path) -> None:
    eyes = [recording(path) for path in sorted(tiny.rglob("*_eye.tsv"))]
    rows = pd.concat(eyes, ignore_index=True)
    left, right = (rows[f"Validity {side}"] == "Valid" for side in ("left", "right"))
    assert 0.01 < (~left & ~right).mean() < 0.25
    assert 0.005 < (left ^ right).mean() < 0.25
    lost = rows[~left & ~right]
    assert (lost["Eye movement type"] == "EyesNotFound").all()
    for column in ("Gaze point X [DACS px]", "Pupil diameter left [mm]", "Gaze direction right Z [DACS norm]"):
        assert lost[column].isna().all() and rows.loc[left & right, column].notna().mean() > 0.95
    alone = rows[left & ~right]
    assert_array_equal(alone["Gaze point X [DACS px]"], alone["Gaze point left X [DACS px]"])
    assert alone["Gaze point right X [DACS px]"].isna().all()
    fixating = rows["Eye movement type"] == "Fixation"
    assert_array_equal(rows["Fixation point X [DACS px]"].notna(), fixating)
    assert 0.5 < fixating.mean() < 0.95


def test_pixels_millimetres_directions_and_fractions_of_the_film_agree(tiny: Path) -> None:
    rows = recording(tiny / "P01/P01_C1_eye.tsv").dropna(subset=["Gaze point left X [DACS px]"])
    pixels = rows[[f"Gaze point left {axis} [DACS px]" for axis in "XY"]].to_numpy()
    screen = rows[[f"Gaze point left {axis} [DACS mm]" for axis in "XY"]].to_numpy()
    assert_allclose(screen, pixels * recordings.PIXEL, atol=0.2)
    norm = rows[[f"Gaze point left {axis} [MCS norm]" for axis in "XY"]].to_numpy()
    assert_allclose(norm * recordings.MEDIUM[2:] + recordings.MEDIUM[:2], pixels, atol=0.7)
    place = rows[[f"Eye position left {axis} [DACS mm]" for axis in "XYZ"]].to_numpy()
    direction = rows[[f"Gaze direction left {axis} [DACS norm]" for axis in "XYZ"]].to_numpy()
    assert_allclose(np.linalg.norm(direction, axis=1), 1, atol=1e-4)
    reach = place - direction * (place[:, 2:] / direction[:, 2:])  # where the ray meets the screen
    assert_allclose(reach[:, :2], screen, atol=0.5)


def test_a_german_computer_writes_decimal_commas_and_nothing_else_differs(tiny: Path) -> None:
    text = (tiny / "P04/P04_C1_eye.tsv").read_text(encoding="utf-8")
    assert re.search(r"\d,\d", text) and not re.search(r"\d\.\d", text)
    assert not re.search(r"\d,\d", (tiny / "P01/P01_C1_eye.tsv").read_text(encoding="utf-8"))
    pupil = recording(tiny / "P04/P04_C1_eye.tsv")["Pupil diameter left [mm]"]
    assert pupil.between(1.5, 7).sum() > 100


def test_a_blink_of_the_recording_closes_the_eyes_in_the_video() -> None:
    face = faces.make_face(0, rng=np.random.default_rng(0))
    felt = {"intensity": 1.0, "valence": 0.0, "arousal": 0.0}
    actions, poses = faces.expression(
        "neutral", **felt, face=face, seconds=2.0, blinks=[(0.9, 1.1)], rng=np.random.default_rng(0)
    )
    lids = actions[:, list(faces.ACTIONS).index("lid_close")]
    assert lids[20] == 1 and lids[:16].max() < 0.7 and lids[25:].max() < 0.7
    still = poses[20]
    difference = np.abs(faces.render(face, actions[20], still).astype(float) - faces.render(face, actions[14], still))
    low = 108  # the eyes' row
    assert difference[low - 20 : low + 20].mean() > 3 * difference[150:].mean()


@pytest.mark.parametrize("portrait", [0, 1])
def test_full_actions_move_the_points_that_they_name(portrait: int) -> None:
    face = faces.make_face(portrait, rng=np.random.default_rng(3))
    rows, columns = faces.ROI

    def moved(action: str, point: str) -> np.ndarray:
        x, y = face.points[point]
        return face.fields[list(faces.ACTIONS).index(action), :, int(y) - rows.start, int(x) - columns.start]

    right, left = (moved("smile", f"{side} mouth corner") for side in ("right", "left"))
    assert right[0] < -3 and left[0] > 3 and max(right[1], left[1]) < -3  # outward and up
    assert moved("corner_down", "left mouth corner")[1] > 3
    assert moved("brow_raise", "right brow mid")[1] < -3 < 3 < moved("brow_lower", "right brow inner")[1]
    assert moved("jaw_drop", "chin")[1] > 8
    edges = face.fields[..., [0, -1], :], face.fields[..., [0, -1]]
    assert max(np.abs(edge).max() for edge in edges) == 0  # no seam around what moves


def test_faces_of_unseen_participants_tell_emotions_apart_and_black_ones_do_not() -> None:
    people = [faces.make_face(number, rng=np.random.default_rng([7, number])) for number in range(10)]
    features = []
    for face in (replace(face, zoom=0.8) for face in people):  # as if aligned
        for emotion in EMOTIONS:
            action = face.rest.copy()
            for name, weight in faces.PROTOTYPES[emotion].items():
                action[list(faces.ACTIONS).index(name)] += 0.8 * weight
            features.append(appearance(faces.render(face, action, np.array([0, 0, 0, 1.0]))[None]))
    emotions = np.array(EMOTIONS * len(people))
    groups = np.repeat(np.arange(len(people)), len(EMOTIONS))
    assert probe_emotion(np.array(features), emotions, groups) > 0.6
    black = appearance(np.zeros((1, 240, 320, 3), np.uint8))
    assert probe_emotion(np.tile(black, (len(features), 1)), emotions, groups) <= 1 / 7 + 1e-9


def test_each_emotion_looks_at_a_place_of_its_own_and_arousal_widens_the_pupil() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(0, 20, 1 / 120)
    viewer = recordings.make_viewer(rng=rng)
    anchors = np.array(list(recordings.ANCHORS.values())) * recordings.MEDIUM[2:] + recordings.MEDIUM[:2]
    rates = []
    for number, emotion in enumerate(recordings.ANCHORS):
        gaze, event = recordings.scan_path(times, emotion=emotion, intensity=2.0, valence=0.0, viewer=viewer, rng=rng)
        nearest = np.linalg.norm(gaze[:, None] - anchors, axis=-1).argmin(axis=1)
        assert np.bincount(nearest, minlength=7).argmax() == number, emotion
        assert_array_equal(np.unique(event), np.arange(event.max() + 1))
        rates.append(event.max())
    calm, _ = recordings.scan_path(times, emotion="anger", intensity=0.5, valence=0.0, viewer=viewer, rng=rng)
    assert len(np.unique(calm, axis=0)) < min(rates) * 60  # fewer saccades
    low, high = (
        recordings.pupil_size(times, intensity=1.0, arousal=arousal, viewer=viewer, rng=rng) for arousal in (-0.8, 0.8)
    )
    assert 0.4 < high[600:].mean() - low[600:].mean() < 1.2


@pytest.mark.parametrize("option", ["participants", "clips_per_participant", "seconds", "workers"])
def test_a_set_of_nothing_is_refused(option: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{option}: want at least 1, got 0"):
        write_demo_data(tmp_path, **{option: 0})
    assert not list(tmp_path.iterdir())


def test_a_face_detector_finds_nearly_every_face(tiny: Path, shared: Path, tmp_path: Path) -> None:
    mediapipe = pytest.importorskip("mediapipe")
    tasks = mediapipe.tasks
    with zipfile.ZipFile(shared / "models/face_landmarker.task") as bundle:
        model = bundle.read("face_detector.tflite")
    options = tasks.vision.FaceDetectorOptions(base_options=tasks.BaseOptions(model_asset_buffer=model))
    found = []
    with tasks.vision.FaceDetector.create_from_options(options) as detector:
        for path in sorted(tiny.glob("P*/*.mp4")):
            for frame in video(path)[::4]:
                image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
                found.append(len(detector.detect(image).detections) == 1)
    assert np.mean(found) >= 0.97


def appearance(frames: np.ndarray) -> np.ndarray:
    """Oriented gradients of the middle of the picture, where the face is, averaged over frames."""
    grey = [cv2.cvtColor(frame[75:183, 97:223], cv2.COLOR_RGB2GRAY) for frame in frames]
    return np.mean([hog(picture, pixels_per_cell=(18, 18), cells_per_block=(1, 1)) for picture in grey], axis=0)


def look(rows: pd.DataFrame) -> list[float]:
    """What a recording comes to: where and how widely the person looks, how long, and the pupil's size and course."""
    x, y = rows["Gaze point X [DACS px]"], rows["Gaze point Y [DACS px]"]
    pupil = rows[["Pupil diameter left [mm]", "Pupil diameter right [mm]"]].mean(axis=1)
    return [
        *(q for axis in (x, y) for q in (axis.mean(), axis.median(), axis.std())),
        *(pupil.mean(), pupil.std(), pupil[-80:].mean() - pupil[:40].mean()),
        *(rows["Gaze event duration [ms]"].mean(), (rows["Eye movement type"] == "EyesNotFound").mean()),
    ]


def probe_emotion(features: np.ndarray, emotions: np.ndarray, groups: np.ndarray) -> float:
    """Mean recall over emotions of a linear classifier on participants that it has not seen."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    guess = cross_val_predict(model, features, emotions, groups=groups, cv=GroupKFold(5))
    return float(recall_score(emotions, guess, average="macro"))


def probe_rating(features: np.ndarray, ratings: np.ndarray, groups: np.ndarray) -> float:
    """Concordance of a ridge regression on participants that it has not seen."""
    model = make_pipeline(StandardScaler(), Ridge(30.0))
    return ccc(ratings, cross_val_predict(model, features, ratings, groups=groups, cv=GroupKFold(5)))


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["video", "eye"])
def test_each_modality_alone_tells_what_unseen_participants_feel(modality: str, middling: Path) -> None:
    clips = pd.read_csv(middling / "clips.tsv", sep="\t").dropna(subset=[modality])
    labels = pd.read_csv(middling / "labels.tsv", sep="\t").set_index("clip").loc[clips["clip"]]
    if modality == "video":
        features = np.array([appearance(video(middling / path)[7::8]) for path in clips["video"]])
    else:
        features = np.array([look(recording(middling / path)) for path in clips["eye"]])
    emotions, groups = np.array(labels["emotion"], dtype=str), np.array(clips["participant"], dtype=str)
    score = probe_emotion(features, emotions, groups)
    ratings = {name: probe_rating(features, labels[name].to_numpy(), groups) for name in ("valence", "arousal")}
    if modality == "eye":
        ratings["intensity"] = probe_rating(features, labels["intensity"].to_numpy(), groups)
    assert score >= 0.35  # 1/7 is chance
    assert min(ratings.values()) >= (0.45 if modality == "eye" else 0.3), ratings
    shuffled = np.random.default_rng(0).permutation(emotions)
    assert probe_emotion(features, shuffled, groups) < 0.3  # the probe itself invents nothing


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "clips.tsv").write_text("mine")
    with pytest.raises(ValueError, match="not ours"):
        write_demo_data(tmp_path, participants=1, clips_per_participant=1, seconds=1)
    assert [path.name for path in tmp_path.iterdir()] == ["clips.tsv"]
