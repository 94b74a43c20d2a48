"""Folds: participant-disjoint, balanced when made, kept afterwards."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smad_models.folds import Row, check_disjoint, make_folds, read_folds, read_stimuli, update_folds
from smad_models.stimuli import check_stimuli, join_by_stimulus

EMOTIONS = ("happiness", "sadness", "fear", "disgust", "surprise", "anger", "neutral")


def some_clips(participants: int = 24, clips: int = 6, seed: int = 1) -> tuple[list[tuple[str, str]], dict[str, str]]:
    rng = np.random.default_rng(seed)
    listed = [(f"P{p:03d}_C{c:02d}", f"P{p:03d}") for p in range(participants) for c in range(clips)]
    weights = np.array([6, 2, 1, 2, 3, 1, 6]) / 21
    return listed, {clip: EMOTIONS[rng.choice(7, p=weights)] for clip, _ in listed}


def write_manifest(path: Path, clips: list[tuple[str, str]], **columns: dict[str, str]) -> Path:
    """A manifest in which all is well, but for the clips that a column names."""
    status = columns.pop("status", {})
    lines = ["\t".join(["clip", "participant", "status", "reason", "face", "eye", *columns])]
    for clip, participant in clips:
        cells = [clip, participant, status.get(clip, "ok"), "", "ok", "ok"]
        lines.append("\t".join(cells + [column.get(clip, "") for column in columns.values()]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_labels(path: Path, emotions: dict[str, str]) -> Path:
    path.write_text("clip\temotion\n" + "".join(f"{c}\t{e}\n" for c, e in emotions.items()), encoding="utf-8")
    return path


def sizes_of(rows: list[Row]) -> list[int]:
    count = Counter(row.fold for row in rows)
    return [count[fold] for fold in sorted(count)]


def test_every_clip_is_in_one_fold_and_every_participant_in_one_fold() -> None:
    clips, emotions = some_clips()
    rows = make_folds(clips, count=5, seed=0, emotions_of=emotions)
    assert {(row.clip, row.participant) for row in rows} == set(clips)
    assert [(row.participant, row.clip) for row in rows] == sorted((p, c) for c, p in clips)
    assert set(check_disjoint(rows).values()) == {1, 2, 3, 4, 5}


def test_new_folds_are_balanced_by_emotion_better_than_nine_random_divisions_in_ten() -> None:
    clips, emotions = some_clips(60, 10)

    def unevenness(home: dict[str, int]) -> float:
        table = np.zeros((7, 5))
        for clip, participant in clips:
            table[EMOTIONS.index(emotions[clip]), home[participant] - 1] += 1
        return float((table / table.sum(axis=1, keepdims=True)).std(axis=1).mean())

    ours = unevenness(check_disjoint(make_folds(clips, count=5, seed=0, emotions_of=emotions)))
    rng = np.random.default_rng(0)
    people = sorted({p for _, p in clips})
    chance = [unevenness(dict(zip(people, rng.permutation(60) % 5 + 1, strict=True))) for _ in range(100)]
    assert ours < np.quantile(chance, 0.1)


def test_new_folds_are_of_even_size_without_any_labels() -> None:
    clips, _ = some_clips(23, 6)
    assert sizes_of(make_folds(clips, count=5, seed=0)) == [30, 30, 30, 24, 24]


def test_the_order_of_the_table_decides_nothing_but_the_seed_does() -> None:
    clips, emotions = some_clips()
    rows = make_folds(clips, count=5, seed=3, emotions_of=emotions)
    assert make_folds(clips[::-1], count=5, seed=3, emotions_of=emotions) == rows
    assert make_folds(clips, count=5, seed=4, emotions_of=emotions) != rows


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=12),
    count=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_as_many_participants_as_folds_suffice_and_fewer_are_refused(sizes: list[int], count: int, seed: int) -> None:
    clips = [(f"p{p}c{c}", f"p{p}") for p, size in enumerate(sizes) for c in range(size)]
    if len(sizes) < count:
        with pytest.raises(ValueError, match=f"{len(sizes)} participants cannot fill {count} folds"):
            make_folds(clips, count=count, seed=seed)
    else:
        home = check_disjoint(make_folds(clips, count=count, seed=seed))
        assert set(home.values()) == set(range(1, count + 1))


def test_a_label_edit_moves_nobody_and_leaves_the_file_alone(tmp_path: Path) -> None:
    clips, emotions = some_clips()
    manifest, output = write_manifest(tmp_path / "clips.tsv", clips), tmp_path / "results" / "folds.tsv"
    labels = write_labels(tmp_path / "labels.tsv", emotions)
    before = update_folds(manifest=manifest, labels=labels, output=output, count=5, seed=0)
    stamp = output.stat().st_mtime_ns, output.stat().st_ino
    write_labels(labels, dict.fromkeys(emotions, "fear"))
    assert update_folds(manifest=manifest, labels=labels, output=output, count=5, seed=7) == before
    assert (output.stat().st_mtime_ns, output.stat().st_ino) == stamp
    assert read_folds(output) == before
    assert [path.name for path in output.parent.iterdir()] == ["folds.tsv"]


def test_a_new_participant_joins_the_smallest_fold_and_one_who_is_gone_leaves(tmp_path: Path) -> None:
    clips, _ = some_clips(10, 4)
    manifest, output = tmp_path / "clips.tsv", tmp_path / "folds.tsv"
    before = check_disjoint(
        update_folds(manifest=write_manifest(manifest, clips), labels=None, output=output, count=3, seed=0)
    )
    gone = "P003"
    stay = [(clip, participant) for clip, participant in clips if participant != gone]
    load = Counter(before[participant] for _, participant in stay)
    smallest = min(load, key=lambda fold: (load[fold], fold))
    new = [("new_1", "A_new"), ("new_2", "A_new")]
    after = check_disjoint(
        update_folds(manifest=write_manifest(manifest, new + stay), labels=None, output=output, count=3, seed=0)
    )
    assert after == {**{p: fold for p, fold in before.items() if p != gone}, "A_new": smallest}


def test_equally_small_folds_are_filled_from_the_lowest_number() -> None:
    clips = [("a1", "a"), ("b1", "b"), ("c1", "c"), ("d1", "d"), ("e1", "e")]
    rows = make_folds(clips, count=3, seed=0, previous={"a": 2, "b": 1, "c": 3})
    assert {row.participant: row.fold for row in rows} == {"a": 2, "b": 1, "c": 3, "d": 1, "e": 2}


def test_renewing_forgets_the_kept_folds(tmp_path: Path) -> None:
    clips, _ = some_clips()
    manifest, output = write_manifest(tmp_path / "clips.tsv", clips), tmp_path / "folds.tsv"
    before = update_folds(manifest=manifest, labels=None, output=output, count=5, seed=0)
    assert update_folds(manifest=manifest, labels=None, output=output, count=5, seed=1) == before
    assert update_folds(manifest=manifest, labels=None, output=output, count=5, seed=1, renew=True) != before
    assert (
        len(set(sizes_of(update_folds(manifest=manifest, labels=None, output=output, count=4, seed=1, renew=True))))
        == 1
    )


def test_quarantined_clips_take_no_part(tmp_path: Path) -> None:
    clips, _ = some_clips(6, 3)
    manifest = write_manifest(tmp_path / "clips.tsv", clips, status={clips[0][0]: "quarantined"})
    rows = update_folds(manifest=manifest, labels=None, output=tmp_path / "folds.tsv", count=3, seed=0)
    assert {row.clip for row in rows} == {clip for clip, _ in clips[1:]}


def test_the_tables_own_folds_win_over_the_kept_ones(tmp_path: Path) -> None:
    clips, _ = some_clips(6, 2)
    manifest, output = tmp_path / "clips.tsv", tmp_path / "folds.tsv"
    update_folds(manifest=write_manifest(manifest, clips), labels=None, output=output, count=3, seed=0)
    own = {clip: str(int(participant[1:]) % 3 + 1) for clip, participant in clips}
    rows = update_folds(manifest=write_manifest(manifest, clips, fold=own), labels=None, output=output, count=3, seed=0)
    assert {row.clip: str(row.fold) for row in rows} == own
    assert read_folds(output) == rows


@pytest.mark.parametrize(
    ("clip", "value", "message"),
    [
        ("P002_C01", "1", r"participant P002: in two folds, 3 \(clip P002_C00\) and 1 \(clip P002_C01\)"),
        ("P002_C01", "4", r"clip P002_C01 \(participant P002\): fold: want a whole number from 1 to 3, got '4'"),
        ("P002_C01", "0", "want a whole number from 1 to 3, got '0'"),
        ("P002_C01", "2.0", "want a whole number from 1 to 3, got '2.0'"),
        ("P002_C01", "", r"clip P002_C01 \(participant P002\): fold: empty, while other clips have one"),
    ],
)
def test_folds_of_the_table_that_make_no_sense_are_refused_by_name(
    tmp_path: Path, clip: str, value: str, message: str
) -> None:
    clips, _ = some_clips(6, 2)
    own = {c: str(int(p[1:]) % 3 + 1) for c, p in clips} | {clip: value}
    for status in ("ok", "quarantined"):
        manifest = write_manifest(tmp_path / "clips.tsv", clips, fold=own, status={clip: status})
        with pytest.raises(ValueError, match=message):
            update_folds(manifest=manifest, labels=None, output=tmp_path / "folds.tsv", count=3, seed=0)
    assert not (tmp_path / "folds.tsv").exists()


def test_another_number_of_folds_than_was_kept_is_refused_with_the_way_out() -> None:
    clips, _ = some_clips(6, 2)
    kept = {f"P{p:03d}": p % 3 + 1 for p in range(6)}
    with pytest.raises(ValueError, match=r"kept in fold 3, but `folds.count` is 2.*--renew"):
        make_folds(clips, count=2, seed=0, previous=kept)
    with pytest.raises(ValueError, match=r"fold 4 of 4: has no participant.*--renew"):
        make_folds(clips, count=4, seed=0, previous=kept)


def test_the_guard_names_the_participant_who_leaks() -> None:
    with pytest.raises(ValueError, match=r"participant p: in two folds, 1 \(clip a\) and 2 \(clip b\)"):
        check_disjoint([("a", "p", 1), ("b", "p", 2)])
    with pytest.raises(ValueError, match="clip a: listed twice"):
        check_disjoint([("a", "p", 1), ("a", "p", 1)])


def test_a_table_without_a_needed_column_is_refused_by_file_and_column(tmp_path: Path) -> None:
    (tmp_path / "folds.tsv").write_text("clip\tfold\na\t1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"folds.tsv: has no column `participant`"):
        read_folds(tmp_path / "folds.tsv")


# ---- folds that share no stimulus


def watched(participants: int = 24, films: int = 3) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Clips of participants who watched one of twelve sets of films, two participants each set."""
    clips, _ = some_clips(participants)
    return clips, {clip: f"set{int(who[1:]) % 12}/film{int(clip[-2:]) % films}.mp4" for clip, who in clips}


def test_who_watched_the_same_stimulus_stays_in_one_fold() -> None:
    clips, films = watched()
    rows = make_folds(clips, count=5, seed=0, stimulus_of=films)
    check_stimuli(rows, films)
    home = check_disjoint(rows)
    assert all(home[f"P{n:03d}"] == home[f"P{n + 12:03d}"] for n in range(12))
    assert set(home.values()) == {1, 2, 3, 4, 5}
    assert max(sizes_of(rows)) <= 3 * 12  # twelve groups of 12 clips in five folds
    with pytest.raises(ValueError, match=r"stimulus set\d+/film\d.mp4: in two folds, "):
        check_stimuli(make_folds(clips, count=5, seed=0), films)


def test_participants_are_joined_also_by_way_of_others_and_nobody_by_naming_none() -> None:
    clips = [("a1", "a"), ("b1", "b"), ("b2", "b"), ("c1", "c"), ("d1", "d"), ("e1", "e")]
    films = {"a1": "x", "b1": "x", "b2": "y", "c1": "y", "e1": "z"}
    assert join_by_stimulus(clips, films) == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "e"}
    assert join_by_stimulus(clips, {}) == {name: name for name in "abcde"}


def test_stimuli_that_everybody_watched_leave_no_folds_and_that_is_said() -> None:
    clips, _ = some_clips(10)
    everyone = {clip: f"film{clip[-2:]}.mp4" for clip, _ in clips}
    with pytest.raises(ValueError, match="10 participants make 1 groups that share none, too few for 5 folds"):
        make_folds(clips, count=5, seed=0, stimulus_of=everyone)


def test_a_newcomer_joins_those_who_watched_the_same_and_kept_or_given_folds_that_split_it_are_refused() -> None:
    clips, films = watched()
    before = check_disjoint(make_folds(clips, count=5, seed=0, stimulus_of=films))
    more, films_more = [*clips, ("N_C00", "N")], films | {"N_C00": films["P003_C00"]}
    rows = make_folds(more, count=5, seed=0, previous=before, stimulus_of=films_more)
    assert check_disjoint(rows) == before | {"N": before["P003"]}
    split = before | {"P000": before["P000"] % 5 + 1}
    with pytest.raises(ValueError, match=r"in two folds, .*: make folds anew with `smad-models folds --renew`"):
        make_folds(clips, count=5, seed=0, previous=split, stimulus_of=films)
    given_folds = {clip: str(split[who]) for clip, who in clips}
    with pytest.raises(ValueError, match=r"in two folds, .*: mend the table's `fold` column"):
        make_folds(clips, count=5, seed=0, given=given_folds, stimulus_of=films)


def test_a_stimulus_is_named_by_its_path_however_it_is_spelt(tmp_path: Path) -> None:
    table = tmp_path / "clips.tsv"
    table.write_text("clip\tparticipant\tstimulus\na\tp\tfilms/x.mp4\nb\tq\t./films//x.mp4\nc\tr\t\n")
    assert read_stimuli(table) == {"a": "films/x.mp4", "b": "films/x.mp4"}
    table.write_text("clip\tparticipant\tstimulus\na\tp\t\n")
    with pytest.raises(ValueError, match="no clip names a stimulus"):
        read_stimuli(table)
    clips, films = watched()
    manifest = write_manifest(tmp_path / "results.tsv", clips)
    table.write_text("clip\tparticipant\tstimulus\n" + "".join(f"{c}\t{p}\t{films[c]}\n" for c, p in clips))
    check_stimuli(
        update_folds(manifest=manifest, labels=None, output=tmp_path / "f.tsv", count=5, seed=0, stimuli=table), films
    )
