"""What 100,000 clips must not cost: work that is done again for each of them although once would do."""

import itertools
import os
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import Environment, FileSystemLoader
from jsonschema import Draft202012Validator

from smad_features import cache, fingerprints, later_stages, manifest, quality, schema, sealed, stage_commands
from smad_features import study as study_module
from smad_features.config import complete_config, load_schema
from smad_features.fingerprints import Fingerprints
from smad_features.freshness import STAGES, PlannedUnit, common_record, plan_units, unit_path, unit_record, write_key
from smad_features.later_stages import Later
from smad_features.manifest import Clip, TableError, read_clips
from smad_models import report, report_scores, score_charts

CELLS = [
    "",
    "a",
    "a.b",
    ".a",
    "a b",
    "x" * 80,
    "x" * 81,
    "a\n",
    "expert",
    "Expert",
    "0",
    "1",
    "3",
    "3.5",
    "-1.01",
    "1e3",
]


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("this was not to be called")


def test_rows_that_are_right_are_not_put_to_the_validator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"c{number}\tp{number % 7}\tv.mp4\t0.5\t\t{number % 5 + 1}\n" for number in range(50))
    (tmp_path / "clips.tsv").write_text(f"clip\tparticipant\tvideo\tstart\tend\tfold\n{rows}", encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(Draft202012Validator, "iter_errors", refuse)
        assert len(read_clips(tmp_path / "clips.tsv")) == 50
    (tmp_path / "clips.tsv").write_text("clip\tparticipant\tfold\nc\tp\t0\n", encoding="utf-8")
    with pytest.raises(TableError, match="want a whole number of at least 1 or an empty cell"):
        read_clips(tmp_path / "clips.tsv")


@pytest.mark.parametrize("name", ["clips", "labels", "annotations"])
def test_a_plain_look_passes_just_what_the_validator_passes(name: str) -> None:
    rules = load_schema(name)["properties"]
    passed = set()
    for (column, rule), cell in itertools.product(rules.items(), CELLS):
        try:
            value = manifest._typed(Path("t"), 1, column, cell, rule)
        except TableError:
            continue
        is_allowed = Draft202012Validator(rule).is_valid(value)
        assert manifest._plain_check(rule)(value) == is_allowed, (column, value)
        passed.add(is_allowed)
    assert passed == {True, False}


def test_a_rule_that_the_plain_look_does_not_know_is_the_validators() -> None:
    assert not manifest._plain_check({"type": "number", "multipleOf": 2})(4.0)


def test_links_to_one_file_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(fingerprints, "_SETTLED", -60)  # files of this very moment count as settled
    monkeypatch.setattr(fingerprints, "hash_file", lambda path: read.append(path) or f"digest {path.read_text()}")
    (tmp_path / "one").write_text("one")
    (tmp_path / "soft").symlink_to("one")
    (tmp_path / "hard").hardlink_to(tmp_path / "one")
    (tmp_path / "other").write_text("two")
    memory = Fingerprints(None)
    found = {name: memory.of(tmp_path / name) for name in ("one", "soft", "hard", "other")}
    assert found == {"one": "digest one", "soft": "digest one", "hard": "digest one", "other": "digest two"}
    assert len(read) == 2
    (tmp_path / "one").write_text("six")
    os.utime(tmp_path / "one", ns=(1, 1))
    assert memory.of(tmp_path / "soft") == "digest six"


@pytest.mark.parametrize("size", [10, 100_000], ids=["within the tail", "longer than the tail"])
def test_an_entry_of_a_sealed_file_is_read_without_a_list_of_all(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(size)
    (tmp_path / "a.zip").write_bytes(sealed.seal({f"a/{n}": b"x" for n in range(50)} | {"zarr.json": content}))
    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    assert sealed.read_entry(tmp_path / "a.zip", "zarr.json") == content
    assert sealed.read_entry(tmp_path / "a.zip", "a/7") == b"x"


def test_an_entry_of_any_other_zip_is_read_too_and_damage_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zarr.json", "{}" * 500)
    assert sealed.read_entry(tmp_path / "a.zip", "zarr.json") == b"{}" * 500
    with pytest.raises(sealed.DamagedError):
        sealed.read_entry(tmp_path / "a.zip", "absent")
    content = sealed.seal({"zarr.json": b"{}"})
    for place in range(len(content) - sealed.SEAL_LENGTH):
        damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        (tmp_path / "b.zip").write_bytes(damaged)
        try:
            assert sealed.read_entry(tmp_path / "b.zip", "zarr.json") == b"{}", place
        except sealed.DamagedError:
            continue


def test_a_key_is_not_synced_as_every_run_looks_at_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refuse)
    write_key(tmp_path / "keys/a.key", "abc\n")
    assert (tmp_path / "keys/a.key").read_text() == "abc\n"


def study(folder: Path) -> list[Clip]:
    (folder / "v.mp4").write_bytes(b"video")
    return [Clip(f"{person}_{number}", person, video=folder / "v.mp4") for person in ("A", "B") for number in range(2)]


def make_units(clips: list[Clip], config: dict[str, Any], results: Path) -> None:
    stage, specs = STAGES["faces"], schema.face_arrays(frames=1, size=2)
    for person in ("A", "B"):
        own = [clip for clip in clips if clip.participant == person]
        record = unit_record(stage, person, own, common_record(stage, config), Fingerprints(None))
        names = [clip.clip for clip in own]
        arrays: dict[str, np.ndarray] = {name: spec.empty(len(own)) for name, spec in specs.items()}
        states = {name: {"state": "ok", "reason": ""} for name in names}
        unit = cache.Unit(person, names, arrays, states, {name: {"a": 1.0} for name in names}, record)
        cache.write_unit(unit_path("faces", person, results=results), unit, specs)


def faces_of(plan: list[PlannedUnit]) -> list[dict[str, Any]]:
    return [unit.made for unit in plan if unit.stage == "faces" and unit.made is not None]


def test_a_plan_holds_what_units_have_in_common_once(tmp_path: Path) -> None:
    clips, config = study(tmp_path), complete_config({})
    make_units(clips, config, tmp_path)
    fresh = plan_units(clips, config, Fingerprints(None), results=tmp_path)
    assert [unit.is_fresh for unit in fresh if unit.stage == "faces"] == [True, True]
    assert all(unit.made is None or unit.made["record"] is unit.wanted for unit in fresh)
    stale = plan_units(clips, complete_config({"face": {"margin": 0.5}}), Fingerprints(None), results=tmp_path)
    one, other = faces_of(stale)
    assert one["record"]["settings"]["face"]["margin"] == 0.0
    assert all(one["record"][part] is other["record"][part] for part in ("settings", "code", "libraries", "models"))
    assert all("quality" not in made and "contents" not in made for made in (one, other))


def test_labels_are_read_once_for_all_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "labels.tsv").write_text(
        "clip\temotion\tintensity\tvalence\tarousal\nA_0\tfear\t1\t0\t0\n", encoding="utf-8"
    )
    calls = []
    read = later_stages.read_targets
    monkeypatch.setattr(later_stages, "read_targets", lambda *given: calls.append(1) or read(*given))
    later = Later(study(tmp_path), complete_config({"labels": str(tmp_path / "labels.tsv")}), Fingerprints(None))
    records = [later.record(name) for name in ("make_folds", "train_model/emotion", "score/valence", "report")]
    assert records[1]["labels"].keys() == {"emotion"}
    assert records[3]["labels"].keys() == {"emotion", "valence", "arousal", "intensity"}
    assert len(calls) == 1


def test_a_row_of_dots_grows_no_more_with_the_people() -> None:
    def chart(people: int) -> str:
        return str(score_charts.strips({"1": list(np.linspace(0, 1, people))}, {"1": 0.5}, label="a", unit="b"))

    assert len(chart(200)) > len(chart(100)) + 1000
    assert abs(len(chart(5000)) - len(chart(200))) < 1000
    scored = {"fold": 1, "clips": 5, "mae": 0.5}
    task = {"task": "valence", "clips": {"scored": 1}, "protocols": {"fold": {"mae": {"folds": [0.5]}}}}
    said = [
        report_scores.spread_over_people([task | {"per_participant": dict.fromkeys(map(str, range(people)), scored)}])
        for people in (200, 201)
    ]
    assert [parts[0]["most"] for parts in said] == [None, 200]  # the page says so


def test_the_page_names_some_clips_and_the_table_of_the_others() -> None:
    pages = Environment(loader=FileSystemLoader(report.PAGE), autoescape=True)
    names = [f"c{number}" for number in range(5)]
    said = {"quality": [], "spread": None, "counts": {"quarantined": 5, "clips": 9}, "most_names": 3}
    page = pages.get_template("quality.html.jinja").render(
        **said, quarantined=[("<b>", names)], doubtful=[("dark", names[:3])]
    )
    assert "<code>c0, c1, c2</code> and 2 more, in <code>results/clips.tsv</code>" in page
    assert "<code>c0, c1, c2</code></td>" in page
    assert "c3" not in page


def test_quality_is_written_by_participant_and_holds_no_more_than_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips, config = study(tmp_path), complete_config({})
    make_units(clips, config, tmp_path / "results")
    rows = "".join(f"{clip.clip}\t{clip.participant}\tok\t\tok\tmissing\n" for clip in clips)
    (tmp_path / "results/clips.tsv").write_text(
        f"clip\tparticipant\tstatus\treason\tface\teye\n{rows}", encoding="utf-8"
    )
    units = {"faces": {person: unit_path("faces", person, results=tmp_path / "results") for person in ("A", "B")}}
    asked = []
    whole = quality.quality_rows
    monkeypatch.setattr(quality, "quality_rows", lambda rows, units: asked.append(units) or whole(rows, units=units))
    monkeypatch.setattr(stage_commands, "read_study", lambda file: (config, clips))
    monkeypatch.setattr(stage_commands, "unit_files", lambda clips: units)
    monkeypatch.setattr(study_module, "RESULTS", tmp_path / "results")
    stage_commands.run_quality(Namespace(configfile=None, output=tmp_path / "results/quality.tsv"))
    assert [[*files["faces"]] for files in asked] == [["A"], ["B"]]
    lines = (tmp_path / "results/quality.tsv").read_text().splitlines()
    assert [line.partition("\t")[0] for line in lines] == ["clip", "A_0", "A_1", "B_0", "B_1"]
    assert len((tmp_path / "results/quality_participants.tsv").read_text().splitlines()) == 3
