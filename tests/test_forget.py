"""A participant who has left is erased from everything that was made; what stays is named; a slip erases nothing."""

import base64
import io
import json
import os
import shutil
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import run_features, run_workflow
from safetensors.numpy import save_file

from smad_features import cache, schema
from smad_features.cache import Unit
from smad_features.fingerprints import Fingerprints
from smad_features.manifest import read_clips
from smad_features.remains import Person, find_person
from smad_features.synthetic import write_demo_data
from smad_features.turns import hold_lock
from smad_models.checkpoints import hash_participants, make_participants_key, read_metadata

SPECS = {"faces": schema.face_arrays(frames=1, size=16), "eyes": schema.eye_arrays(steps=2)}
PEOPLE = {"P01": ["P01_C1", "P01_C2"], "P04": ["film_x", "P04_C2"], "P040": ["P040_C1"]}


def hits(folder: Path, *names: str) -> list[str]:
    """Every place under a folder, file names and packed contents among them, where one of the names is to be found."""
    found = []
    for path in sorted(folder.rglob("*")):
        texts = {"its path": str(path.relative_to(folder)).encode()}
        if ".snakemake" in path.parts:
            record = "".join(part.removeprefix("@") for part in path.relative_to(folder).parts[2:])
            if len(record) % 4 == 0:
                texts["its path"] += base64.urlsafe_b64decode(record) if record.isascii() else b""
        if path.is_file():
            texts["its content"] = path.read_bytes()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    texts |= {name: archive.read(name) + name.encode() for name in archive.namelist()}
            if path.suffix == ".parquet":
                texts["its rows"] = pd.read_parquet(io.BytesIO(texts["its content"])).to_csv().encode()
        found += [f"{path}: {where}" for where, text in texts.items() if any(name.encode() in text for name in names)]
    return found


def write_rows(path: Path, header: str, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]).replace(" ", "\t") + "\n", encoding="utf-8")


def trained_on(*participants: str) -> dict[str, object]:
    key = make_participants_key({"cache": "d0"})
    return {"participants": hash_participants(participants, key), "participants_key": key}


def pack(folder: Path, people: dict[str, list[str]]) -> str:
    rows = [(participant, clip) for participant, clips in people.items() for clip in sorted(clips)]
    units = [{p: folder / "results" / stage / f"{p}.zarr.zip" for p in people} for stage in SPECS]
    return cache.pack(folder / "results", rows, units, SPECS["faces"] | SPECS["eyes"], {"channels": []})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory as runs with three people left it; the rows of P04 have been taken out of the tables."""
    folder = tmp_path_factory.mktemp("made")
    rows = [f"{clip} {participant}" for participant, clips in PEOPLE.items() for clip in clips]
    for participant, clips in PEOPLE.items():
        for stage, specs in SPECS.items():
            arrays = {name: spec.empty(len(clips)) for name, spec in specs.items()}
            states = {clip: {"state": "ok", "reason": ""} for clip in clips}
            unit = Unit(participant, clips, arrays, states, {clip: {} for clip in clips}, {"clips": {}})
            cache.write_unit(folder / "results" / stage / f"{participant}.zarr.zip", unit, specs)
            for name in (f".smad/keys/{stage}/{participant}.key", f"logs/{stage}/{participant}.log"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(f"{clips[0]}: ok\n" if "logs" in name else "0123\n")
    digest = pack(folder, PEOPLE)
    results = folder / "results"
    write_rows(results / "clips.tsv", "clip participant status", [f"{row} ok" for row in rows])
    write_rows(results / "folds.tsv", "clip participant fold", [f"{row} 1" for row in rows])
    write_rows(folder / ".smad/folds.tsv", "clip participant fold", [f"{row} 1" for row in rows])
    write_rows(results / "quality_participants.tsv", "participant clips", [f"{p} {len(c)}" for p, c in PEOPLE.items()])
    write_rows(results / "scores.tsv", "task protocol", ["emotion fold"])
    why = "2_of_6_annotators_do_not_say_fear"
    write_rows(
        results / "relabel_queue.tsv", "rank clip why", [f"{n} {row.split()[0]} {why}" for n, row in enumerate(rows)]
    )
    (results / "agreement.json").write_text('{"clips": 5, "annotators": [{"name": "participant"}]}')
    (results / "report.html").write_text("<p>1 clip was lost: film_x</p>")
    table = pd.DataFrame({"clip": [row.split()[0] for row in rows]})
    table.attrs = {"record": {"cache": digest}}
    for name in ("predictions/emotion", "embeddings/emotion", "ablations/emotion/eye"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(results / f"{name}.parquet")
    for name, meta in {
        "checkpoints/emotion/fold1": {"task": "emotion", "fold": 1, **trained_on("P01", "P04")},
        "checkpoints/emotion/fold2": {"task": "emotion", "fold": 2, **trained_on("P01", "P040")},
        "face_features/fold1": {"clips": [row.split()[0] for row in rows], "cache": digest},
    }.items():
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        save_file({"x": np.zeros(1)}, results / f"{name}.safetensors", metadata={"smad": json.dumps(meta)})
    for name in (".P04.zarr.zip.99.tmp", "faces/.P04.zarr.zip.99.tmp", ".folds.tsv.new"):
        (results / name).write_text("film_x")
    (results / ".cache-01.zarr.5.tmp").mkdir()
    (folder / ".smad/failures").mkdir()
    (folder / ".smad/failures/faces-P04.json").write_text("[]")
    (folder / "inspect-film_x.png").write_bytes(b"\x89PNG")
    (folder / "inspect-P01_C1.png").write_bytes(b"\x89PNG")
    units = [base64.urlsafe_b64encode(f"results/eyes/{participant}.zarr.zip".encode()) for participant in PEOPLE]
    table_record = base64.urlsafe_b64encode(b"results/clips.tsv").decode()
    for name, text in {
        f"metadata/{units[0].decode()}": "{}",
        f"metadata/{units[1].decode()}": "{}",
        f"metadata/{table_record}": '{"input": ["results/eyes/P04.zarr.zip"]}',
        "log/today.snakemake.log": "rule extract_faces: wildcards: participant=P04",
        "backups/results/cache.json": "film_x",
    }.items():
        (folder / ".snakemake" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / ".snakemake" / name).write_text(text)
    raw = [f"{row} raw/{row.split()[1]}/{row.split()[0]}.mp4" for row in rows if row.split()[1] != "P04"]
    write_rows(folder / "in/clips.tsv", "clip participant video", raw)
    write_rows(folder / "in/labels.tsv", "clip emotion intensity valence arousal", ["film_x neutral 1 0 0"])
    for row in rows:
        clip, participant = row.split()
        video = folder / f"in/raw/{participant}/{clip}.mp4"
        video.parent.mkdir(parents=True, exist_ok=True)
        video.write_bytes(clip.encode())
        os.utime(video, (1e9, 1e9))
    (folder / "config.yaml").write_text("{clips: in/clips.tsv, labels: in/labels.tsv}")
    with sqlite3.connect(folder / ".smad/fingerprints.sqlite") as memory:
        memory.execute("CREATE TABLE content (path TEXT PRIMARY KEY, stat TEXT, digest TEXT)")
        videos = [(str(path), "0", "0") for path in (folder / "in/raw").rglob("*.mp4")]
        memory.executemany("INSERT INTO content VALUES (?, ?, ?)", videos)
    memory.close()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it, the remembered paths included."""
    copied = shutil.copytree(made, tmp_path / "w", symlinks=True)
    with sqlite3.connect(copied / ".smad/fingerprints.sqlite") as memory:
        memory.execute("UPDATE content SET path = replace(path, ?, ?)", (str(made), str(copied)))
    memory.close()
    return copied


def forget(folder: Path, participant: str, *options: str) -> str:
    done = run_features(folder, "forget", participant, *options, "--configfile", "config.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    """Of every file but the locks, which say who held them."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {str(path): path.read_bytes() for path in files if path.name != "lock"}


def test_nothing_that_was_made_tells_of_a_participant_who_was_forgotten(folder: Path) -> None:
    ids = ("P04_C2", "film_x", "P04/", "P04.", "P04-", '"P04"', 'P04\\"', "P04\t", "=P04")  # P040 is another person
    assert len(hits(folder, *ids)) > 20
    said = forget(folder, "P04")
    left = [hit for hit in hits(folder, *ids) if not hit.startswith(f"{folder}/in/")]
    assert left == []
    assert (
        "results/checkpoints/emotion/fold1.safetensors: was trained on P04 (task emotion, fold 1), and is left" in said
    )
    assert "fold2" not in said
    assert "in/labels.tsv: 1 rows are of these clips: they are yours" in said
    assert "participant P04, 2 clips: run the workflow again" in said


def test_what_is_of_others_stays(folder: Path) -> None:
    forget(folder, "P04")
    results = folder / "results"
    for stage in SPECS:
        assert sorted(path.name for path in (results / stage).iterdir()) == ["P01.zarr.zip", "P040.zarr.zip"]
        assert (folder / f".smad/keys/{stage}/P040.key").exists()
        assert (folder / f"logs/{stage}/P040.log").exists()
    for table in ("results/clips.tsv", "results/folds.tsv", "results/relabel_queue.tsv", ".smad/folds.tsv"):
        assert list(pd.read_csv(folder / table, sep="\t")["clip"]) == ["P01_C1", "P01_C2", "P040_C1"]
    assert list(pd.read_csv(results / "quality_participants.tsv", sep="\t")["participant"]) == ["P01", "P040"]
    assert (results / "scores.tsv").exists()
    assert (results / "agreement.json").exists()  # sums of all annotators: the next run makes it anew
    assert (folder / "inspect-P01_C1.png").exists()
    assert not list(results.glob("cache*"))
    clips = read_clips(folder / "in/clips.tsv")
    remembered = Fingerprints(folder / ".smad/fingerprints.sqlite")._known
    assert set(remembered) == {str(clip.video) for clip in clips}
    pack(folder, {p: clips for p, clips in PEOPLE.items() if p != "P04"})
    assert hits(results, "P04_", "film_x") == []


def test_predictions_from_a_cache_without_the_person_stay_and_the_store_before_goes(folder: Path) -> None:
    results = folder / "results"
    digest = pack(folder, {"P01": PEOPLE["P01"]})
    table = pd.DataFrame({"clip": PEOPLE["P01"]})
    table.attrs = {"record": {"cache": digest}}
    table.to_parquet(results / "predictions/valence.parquet")
    assert len(list(results.glob("cache-*.zarr"))) == 2
    forget(folder, "P04")
    assert [path.name for path in results.glob("cache-*.zarr")] == [f"cache-{digest}.zarr"]
    assert json.loads((results / "cache.json").read_text())["digest"] == digest
    assert [path.name for path in (results / "predictions").iterdir()] == ["valence.parquet"]


def test_a_dry_run_says_it_all_and_touches_nothing(folder: Path) -> None:
    before = contents(folder)
    said = forget(folder, "P04", "--dry-run")
    assert contents(folder) == before
    really = forget(folder, "P04")
    assert said.replace("would be removed", "removed").splitlines()[:-1] == really.splitlines()[:-1]


def test_a_second_time_there_is_nothing_but_the_checkpoints_and_an_interrupted_one_is_finished(folder: Path) -> None:
    backup = folder.parent / "unit"
    shutil.copy(folder / "results/faces/P04.zarr.zip", backup)
    forget(folder, "P04")
    (folder / "results/checkpoints/emotion/fold1.safetensors").unlink()
    before = contents(folder)
    assert "there is nothing of a participant P04 here" in forget(folder, "P04")
    assert contents(folder) == before
    shutil.copy(backup, folder / "results/faces/P04.zarr.zip")  # units are removed last: they know the clips
    (folder / "logs/pack.log").write_text("clip film_x: ok\n")
    forget(folder, "P04")
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["P99", "emotion", "faces", "cache", "results", "P0", "P4"])
def test_a_name_that_was_mistyped_erases_nothing(folder: Path, name: str) -> None:
    before = contents(folder)
    assert f"there is nothing of a participant {name} here" in forget(folder, name)
    assert contents(folder) == before


def test_a_store_that_cannot_be_read_goes_too_but_not_for_a_name_that_was_mistyped(folder: Path) -> None:
    root = (folder / "results/cache.zarr").resolve() / "zarr.json"
    root.write_text("{")
    before = contents(folder)
    assert "there is nothing of a participant emotion here" in forget(folder, "emotion")
    assert contents(folder) == before
    assert f"{root.parent.name}: removed: a packed cache that cannot be read" in forget(folder, "P04")
    assert not root.parent.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "P01",
            "in/clips.tsv: participant P01 stands there with 2 clips, the first of them P01_C1: take",
        ),
        ("../x", "'../x' is no participant"),
        (".P04", "'.P04' is no participant"),
    ],
)
def test_who_is_listed_and_what_is_no_participant_are_refused(folder: Path, name: str, message: str) -> None:
    before = contents(folder)
    done = run_features(folder, "forget", "--configfile", "config.yaml", "--", name)
    assert done.returncode == 1
    assert message in done.stderr
    assert contents(folder) == before


def test_nobody_is_forgotten_while_a_run_is_at_work(folder: Path) -> None:
    with hold_lock(folder / ".smad/lock"):
        done = run_features(folder, "forget", "P04", "--configfile", "config.yaml")
    assert done.returncode == 1
    assert f"process {os.getpid()}" in done.stderr
    assert (folder / "results/faces/P04.zarr.zip").exists()


def test_who_has_left_the_table_is_named_with_the_command_that_erases(folder: Path) -> None:
    said = run_features(folder, "verify", "--configfile", "config.yaml").stdout
    assert "participant P04 is not in in/clips.tsv any more, but results/eyes/P04.zarr.zip and" in said
    assert "smad-features forget P04" in said
    forget(folder, "P04")
    assert "forget" not in run_features(folder, "verify", "--configfile", "config.yaml").stdout


def test_a_clip_that_has_changed_hands_is_not_the_persons_any_more(folder: Path) -> None:
    assert find_person("P04", listed=[], folder=folder).clips == {"film_x", "P04_C2"}
    assert find_person("P04", listed=["film_x"], folder=folder).clips == {"P04_C2"}


def test_an_id_is_found_as_a_word_and_not_within_another() -> None:
    person = Person("P1", frozenset({"c.7"}))
    for text in ("P1", "results/faces/P1.zarr.zip", "sub-P1_film", "(c.7)", '"P1"'):
        assert person.is_in(text), text
    for text in ("P10", "XP1", "c17", "c.70", ""):
        assert not person.is_in(text), text


@pytest.mark.slow
def test_after_a_whole_benchmark_nothing_is_left_and_the_next_run_ends_right(tmp_path: Path) -> None:
    write_demo_data(tmp_path / "data", participants=4, clips_per_participant=2, seconds=1.0)
    config = {
        "clips": "data/clips.tsv", "labels": "data/labels.tsv", "annotations": "data/annotations.tsv",
        "face": {"model": "detector"}, "tasks": ["valence"], "folds": {"count": 2},
        "train": {"freeze_face": True, "epochs": 1}, "report": {"show_clips": True},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    run = run_workflow(tmp_path, "all")
    assert run.returncode == 0, run.output
    assert run_features(tmp_path, "inspect", "P04_C1", "--configfile", "config.yaml").returncode == 0
    for table in ("clips", "labels", "annotations"):
        path = tmp_path / "data" / f"{table}.tsv"
        path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("P04_")))
    shutil.rmtree(tmp_path / "data/P04")
    assert "smad-features forget P04" in run_features(tmp_path, "status", "--configfile", "config.yaml").stdout
    said = forget(tmp_path, "P04")
    trained = {line.split(": was trained")[0] for line in said.splitlines() if "was trained on P04" in line}
    assert len(trained) == 1  # of two folds, one is trained on the person
    # Three letters may stand anywhere in 50 MB of weights; in what these say of themselves they do not.
    assert [hit for hit in hits(tmp_path, "P04") if "/data/" not in hit and ".safetensors" not in hit] == []
    assert "P04" not in str([read_metadata(path) for path in (tmp_path / "results").rglob("*.safetensors")])
    run = run_workflow(tmp_path, "all")
    assert run.returncode == 0, run.output
    assert [hit for hit in hits(tmp_path / "results", "P04") if ".safetensors" not in hit] == []
    assert run_workflow(tmp_path, "all").jobs == {}
    assert run_features(tmp_path, "verify", "--configfile", "config.yaml").stdout.strip() == "every checksum is right"
    assert "nothing of a participant P04" in forget(tmp_path, "P04")
