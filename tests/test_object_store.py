"""A cache in an object store: the same bytes as on a disk, read as from a disk, and clear words where it fails."""

import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr
from conftest import run_workflow
from object_store import client, keys_looked_at, make_user, objects, remove_bucket, serving, use
from small_study import write_study
from test_packing import STAGES, clips_of, content, write_units

from smad_features import cache, schema
from smad_features.cli import main as features
from smad_features.later_stages import Later
from smad_features.places import ObjectStoreError
from smad_features.statistics import write_statistics
from smad_features.summary import is_settled, read_summary
from smad_features.verify import verify_packed
from smad_models.cli import main as models
from smad_models.dataset import open_cache

CHANNELS = [{"name": channel.name, "unit": channel.unit} for channel in schema.TOBII_PRO_LAB_39]
PEOPLE = "ABC"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of its own for each test, in an environment that leads to it."""
    use(server, monkeypatch, tmp_path)
    name = f"study-{abs(hash(tmp_path))}"
    client(server).create_bucket(Bucket=name)
    yield name
    if name in [found["Name"] for found in client(server).list_buckets()["Buckets"]]:
        remove_bucket(server, name)


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three participants with 30 clips each: two shards, the last one not full."""
    folder = tmp_path_factory.mktemp("units")
    for participant in PEOPLE:
        write_units(folder, participant, range(30))
    return folder


def pack(results: Path, units: Path, store: str | None = None, *, people: str = PEOPLE) -> str:
    files = [{who: units / stage / f"{who}.zarr.zip" for who in people} for stage in STAGES]
    rows = [(who, clip) for who in people for clip in clips_of(files[1][who])]
    specs = schema.face_arrays(size=16) | schema.eye_arrays()
    return cache.pack(results, rows, files, specs, {"channels": CHANNELS}, store=store)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# ---- the round trip


def test_a_cache_in_an_object_store_holds_the_bytes_of_one_on_a_disk_and_is_read_as_one(
    server: str, bucket: str, units: Path, tmp_path: Path
) -> None:
    here, there, url = tmp_path / "here", tmp_path / "there", f"s3://{bucket}/lab/one"
    digest = pack(here, units)
    assert pack(there, units, url) == digest
    store = (here / "cache.zarr").resolve()
    found = objects(server, bucket, "lab/one/")
    pointer = found.pop("cache.json")
    assert found == {f"{store.name}/{name}": held for name, held in content(store).items()}
    assert pointer == (there / "cache.json").read_bytes()
    assert sorted(path.name for path in there.iterdir()) == ["cache.json"]
    assert read_summary(there) == {**read_summary(here), "store": url}

    local, group = open_cache(here / "cache.zarr"), zarr.open_group(store, mode="r")
    for place in (f"{url}/cache.zarr", f"{url}/{store.name}"):
        opened = open_cache(place)
        assert (opened.clips, opened.digest, [*opened.specs]) == (local.clips, digest, [*local.specs])
        rows = [89, 3, 64, 3]
        for name, values in opened.read(rows, opened.specs).items():
            np.testing.assert_array_equal(values, np.asarray(group[name][...])[rows])
        whole = opened.preload(opened.specs).read(range(90), opened.specs)
        for name, values in whole.items():
            np.testing.assert_array_equal(values, np.asarray(group[name][...]))
    assert verify_packed(there) == []
    assert [write_statistics(results, results / "statistics.tsv") for results in (here, there)] == [90, 90]
    assert (here / "statistics.tsv").read_bytes() == (there / "statistics.tsv").read_bytes()


def test_the_same_content_is_packed_once_and_to_know_it_no_network_is_asked(
    bucket: str, units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{bucket}/one"
    digest = pack(tmp_path, units, url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
    assert is_settled(tmp_path, store=url)
    assert pack(tmp_path, units, url) == digest


def test_another_place_makes_the_cache_stale_and_it_is_packed_there(
    server: str, bucket: str, units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results, url = Path("results"), f"s3://{bucket}/one"
    for store in (None, url, f"{url}/two", None):
        later = Later([], {"cache": {"store": store}, "predict": {}, "train": {}}, None)  # type: ignore[arg-type]
        assert later.made("pack", "") == ("lost" if results.exists() else None)
        pack(results, units, store)
        assert later.made("pack", "") is None
        assert (results / "cache.zarr").exists() == (store is None)
        assert bool(list(results.glob("cache-*"))) == (store is None)
        assert verify_packed(results) == []
    assert {name.split("/")[0] for name in objects(server, bucket, "one/")} >= {"cache.json", "two"}


def test_the_store_before_stays_for_whoever_reads_it_and_older_ones_go(
    server: str, bucket: str, units: Path, tmp_path: Path
) -> None:
    url = f"s3://{bucket}/one"
    digests = [pack(tmp_path, units, url, people=people) for people in ("ABC", "AB", "A")]
    opened = open_cache(f"{url}/cache-{digests[1]}.zarr")
    assert opened.read([0], ["face"])["face"].shape == (1, 8, 16, 16, 3)
    folders = {name.split("/")[0] for name in objects(server, bucket, "one/")}
    assert folders == {"cache.json", *(f"cache-{digest}.zarr" for digest in digests[1:])}
    assert open_cache(f"{url}/cache.zarr").participants == ("A",) * 30


def test_what_a_run_that_died_left_there_is_written_anew(server: str, bucket: str, units: Path, tmp_path: Path) -> None:
    url = f"s3://{bucket}/one"
    digest = pack(tmp_path, units, url)
    before = objects(server, bucket)
    (tmp_path / "cache.json").unlink()
    s3 = client(server)
    s3.put_object(Bucket=bucket, Key=f"one/cache-{digest}.zarr/face/c/0/0/0/0/0", Body=b"half")
    s3.put_object(Bucket=bucket, Key=f"one/cache-{digest}.zarr/face/c/9/0/0/0/0", Body=b"foreign")
    assert pack(tmp_path, units, url) == digest
    assert objects(server, bucket) == before


def test_keys_of_a_profile_are_used_where_the_environment_has_none(
    server: str, bucket: str, units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = make_user(server)
    for name in keys:
        monkeypatch.delenv(name)
    (tmp_path / ".aws").mkdir()
    text = "".join(f"{name.lower()} = {value}\n" for name, value in keys.items())
    (tmp_path / ".aws/credentials").write_text(f"[lab]\n{text}")
    monkeypatch.setenv("AWS_PROFILE", "lab")
    with keys_looked_at(server):
        pack(tmp_path / "results", units, f"s3://{bucket}/one", people="A")
        assert open_cache(f"s3://{bucket}/one/cache.zarr").read([1], ["gaze"])["gaze"].shape == (1, 32, 2)
        monkeypatch.setenv("AWS_PROFILE", "other")
        with pytest.raises(ObjectStoreError, match=r"credentials: has no profile 'other', which AWS_PROFILE names"):
            pack(tmp_path / "results", units, f"s3://{bucket}/one", people="AB")
    monkeypatch.delenv("AWS_PROFILE")  # boto3 would look for it, too


# ---- damage


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        (
            "flip",
            r"face/c/1/0/0/0/0: damaged: clips C_007; to mend it, delete .*cache\.json and run the workflow again",
        ),
        ("lose", r"face/c/1/0/0/0/0: is not there: clips C_004, .*C_029; to mend it"),
        ("cut", r"face/c/1/0/0/0/0: damaged: clips C_004, .*C_029; to mend it"),
        ("add", r"eye/c/7: does not belong there; to mend it"),
        ("lose the root", r"zarr\.json: is not there: all clips; to mend it"),
        ("lose the pointer", r"/one/cache\.json: is not there; to mend it"),
        (
            "another study",
            r"/one/cache\.json: is not the same as .*: damaged, or of another study that is packed there",
        ),
    ],
)
def test_verify_names_what_is_damaged_in_an_object_store(
    server: str, bucket: str, units: Path, tmp_path: Path, what: str, wanted: str
) -> None:
    s3 = client(server)
    place = f"one/cache-{pack(tmp_path, units, f's3://{bucket}/one')}.zarr"
    shard = f"{place}/face/c/1/0/0/0/0"
    good = objects(server, bucket)
    match what:
        case "flip":
            damaged = bytearray(good[shard])
            index = np.frombuffer(good[shard][-16 * 64 - 4 : -4], "<u8").reshape(-1, 2)
            damaged[int(index[3, 0]) + 5] ^= 1  # row 67
            s3.put_object(Bucket=bucket, Key=shard, Body=bytes(damaged))
        case "lose":
            s3.delete_object(Bucket=bucket, Key=shard)
        case "cut":
            s3.put_object(Bucket=bucket, Key=shard, Body=good[shard][:-9])
        case "add":
            s3.put_object(Bucket=bucket, Key=f"{place}/eye/c/7", Body=b"")
        case "lose the root":
            s3.delete_object(Bucket=bucket, Key=f"{place}/zarr.json")
        case "lose the pointer":
            s3.delete_object(Bucket=bucket, Key="one/cache.json")
        case "another study":
            s3.put_object(Bucket=bucket, Key="one/cache.json", Body=b'{"digest": "0"}')
    (sentence,) = verify_packed(tmp_path)
    assert sentence.startswith(f"s3://{bucket}/one/")
    assert re.search(wanted, sentence), sentence
    Path(sentence.rpartition(": rm ")[2]).unlink()
    pack(tmp_path, units, f"s3://{bucket}/one")
    assert objects(server, bucket) == good
    assert verify_packed(tmp_path) == []


def test_a_shard_that_was_lost_is_told_by_its_clips_and_never_read_as_zeros(
    server: str, bucket: str, units: Path, tmp_path: Path
) -> None:
    digest = pack(tmp_path, units, f"s3://{bucket}/one")
    opened = open_cache(f"s3://{bucket}/one/cache.zarr")
    client(server).delete_object(Bucket=bucket, Key=f"one/cache-{digest}.zarr/face/c/1/0/0/0/0")
    assert opened.read([63], ["face"])["face"].any()
    with pytest.raises(ValueError, match=r"array face cannot be read for clip C_004, C_029: NOT_FOUND: .*is missing"):
        opened.read([64, 3, 89], ["face"])


# ---- what keeps it from being used


def no_keys(url: str, bucket: str, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("AWS_ACCESS_KEY_ID")
    patch.delenv("AWS_SECRET_ACCESS_KEY")


def unknown_key(url: str, bucket: str, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")


def wrong_secret(url: str, bucket: str, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ACCESS_KEY_ID", make_user(url)["AWS_ACCESS_KEY_ID"])


def no_bucket(url: str, bucket: str, patch: pytest.MonkeyPatch) -> None:
    remove_bucket(url, bucket)


def no_answer(url: str, bucket: str, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")


TROUBLES = [
    (no_keys, "no credentials .*found: set AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"),
    (unknown_key, r"the object store refuses these credentials \(InvalidAccessKeyId\): mend AWS_ACCESS_KEY_ID"),
    (wrong_secret, r"the object store refuses these credentials \(SignatureDoesNotMatch\): mend AWS_ACCESS_KEY_ID"),
    (no_bucket, r"there is no bucket study-\d+ \(any more\)"),
    pytest.param(
        no_answer,
        r"http://127\.0\.0\.1:\d+ does not answer: is the network there, and AWS_ENDPOINT_URL right",
        marks=pytest.mark.slow,  # each command waits
    ),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with everything but a cache."""
    folder = write_study(tmp_path_factory.mktemp("study"), size=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in ("faces", "eyes"):
            for who in ("P1", "P2"):
                assert features([stage, who, "--configfile", "config.yaml"]) == 0
        assert features(["list-clips", "--configfile", "config.yaml"]) == 0
    return folder


def configure(folder: Path, store: str | None) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"cache": {"store": store}}))


@pytest.mark.parametrize(("trouble", "words"), TROUBLES, ids=lambda x: getattr(x, "__name__", ""))
def test_trouble_is_told_in_a_sentence_by_whichever_command_meets_it(
    server: str,
    bucket: str,
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trouble: Callable[[str, str, pytest.MonkeyPatch], None],
    words: str,
) -> None:
    folder, url = shutil.copytree(study, tmp_path / "w"), f"s3://{bucket}/one"
    configure(folder, url)
    monkeypatch.chdir(folder)
    here = ["--configfile", "config.yaml"]
    assert features(["pack", *here]) == 0
    (folder / "folds.tsv").write_text("clip\tparticipant\tfold\nP1_C1\tP1\t1\nP2_C1\tP2\t2\n")
    opened = open_cache(f"{url}/cache.zarr")
    trouble(server, bucket, monkeypatch)
    reading = ["--cache", f"{url}/cache.zarr", "--folds", "folds.tsv", "--output", "out"]
    capsys.readouterr()
    is_about_keys = trouble in (no_keys, unknown_key, wrong_secret)
    with keys_looked_at(server) if is_about_keys else nullcontext():
        for command in (
            ["embed-faces", "--fold", "1", *reading],
            ["predict", "--task", "valence", "--emotions", "a,b", *reading],
            ["train", "--task", "valence", "--emotions", "a,b", "--fold", "1", *reading],
        )[: 1 if trouble is no_answer else 3]:  # it is waited for, each time
            assert models(command) == 1
            said = capsys.readouterr().err
            assert len(said.splitlines()) == 1, said
            assert re.search(rf"^smad-models {command[0]}: {url}.*: {words}", said), said
        if trouble is no_bucket:  # a cache that is open has its keys, and its server
            with pytest.raises(ValueError, match=words):
                opened.read([0, 1], ["face"])
        for command in (["verify"], ["statistics"], ["forget", "P9"]):
            assert features([*command, *here]) == 1 or (command[0], trouble) == ("forget", no_bucket)
            assert re.search(words, "".join(capsys.readouterr())), command
        (folder / "results/cache.json").unlink()
        assert features(["pack", *here]) == 1
        assert re.search(rf"^smad-features pack: .*{words}", capsys.readouterr().err)
    assert not (folder / "results/cache.json").exists()


def test_a_server_that_goes_away_while_a_cache_is_read_is_told(
    units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as url:
        use(url, monkeypatch, tmp_path)
        client(url).create_bucket(Bucket="study-of-a-day")
        pack(tmp_path, units, "s3://study-of-a-day/one", people="A")
        opened = open_cache("s3://study-of-a-day/one/cache.zarr")
        remove_bucket(url, "study-of-a-day")
    with pytest.raises(ValueError, match=rf"{url} does not answer"):
        opened.read([0, 1], ["face"])


def test_a_cache_that_was_packed_elsewhere_is_told_with_the_option_that_reads_it(
    bucket: str, units: Path, tmp_path: Path
) -> None:
    pack(tmp_path, units, f"s3://{bucket}/one")
    with pytest.raises(FileNotFoundError, match=rf"it was packed elsewhere: --cache s3://{bucket}/one/cache\.zarr"):
        open_cache(tmp_path / "cache.zarr")
    with pytest.raises(
        FileNotFoundError, match=rf"s3://{bucket}/two/cache\.zarr: no cache is there \(s3://{bucket}/two/c"
    ):
        open_cache(f"s3://{bucket}/two/cache.zarr")


# ---- a person who leaves


@pytest.fixture
def left(study: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study packed to an object store, then once more without P2, whose rows have been taken out."""
    folder = shutil.copytree(study, tmp_path / "w")
    configure(folder, f"s3://{bucket}/one")
    monkeypatch.chdir(folder)
    assert features(["pack", "--configfile", "config.yaml"]) == 0
    (folder / "clips.tsv").write_text("clip\tparticipant\tvideo\nP1_C1\tP1\traw/P1_C1\n")
    return folder


def people_in(server: str, bucket: str) -> set[str]:
    """Who is named by anything in a bucket."""
    return {who for who in ("P1", "P2") for held in objects(server, bucket).values() if f"{who}_C1".encode() in held}


@pytest.mark.parametrize("configured", ["the same", "elsewhere by now"])
def test_whoever_is_forgotten_is_erased_from_object_stores_too(
    server: str, bucket: str, left: Path, capsys: pytest.CaptureFixture[str], configured: str
) -> None:
    if configured != "the same":
        configure(left, None)
    before = objects(server, bucket)
    command = ["forget", "P2", "--configfile", "config.yaml"]
    assert features([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    digest = read_summary(Path("results"))["digest"]
    assert f"s3://{bucket}/one/cache-{digest}.zarr: would be removed: a packed cache that holds them" in said
    assert f"s3://{bucket}/one/cache.json: would be removed" in said
    assert "results/cache.json: would be removed" in said
    assert objects(server, bucket) == before
    assert features(command) == 0
    assert objects(server, bucket) == {}
    assert not Path("results/cache.json").exists()
    assert "keeps older versions" not in capsys.readouterr().out
    assert features(command) == 0
    assert "there is nothing of a participant P2 here" in capsys.readouterr().out


def test_only_stores_that_hold_the_person_are_erased(server: str, bucket: str, left: Path) -> None:
    assert features(["list-clips", "--configfile", "config.yaml"]) == 0
    assert features(["pack", "--configfile", "config.yaml"]) == 0
    assert people_in(server, bucket) == {"P1", "P2"}  # the store before holds P2
    now = read_summary(Path("results"))["digest"]
    assert features(["forget", "P2", "--configfile", "config.yaml"]) == 0
    assert people_in(server, bucket) == {"P1"}
    assert open_cache(f"s3://{bucket}/one/cache.zarr").digest == now
    assert is_settled(Path("results"), store=f"s3://{bucket}/one")


def test_a_bucket_that_keeps_versions_is_named_as_they_hold_the_person_still(
    server: str, bucket: str, left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client(server).put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    Path("results/cache.json").unlink()
    (left / "clips.tsv").write_text("clip\tparticipant\tvideo\nP1_C1\tP1\traw/P1_C1\nP2_C1\tP2\traw/P2_C1\n")
    assert features(["pack", "--configfile", "config.yaml"]) == 0
    (left / "clips.tsv").write_text("clip\tparticipant\tvideo\nP1_C1\tP1\traw/P1_C1\n")
    capsys.readouterr()
    assert features(["forget", "P2", "--configfile", "config.yaml"]) == 0
    said = capsys.readouterr().out
    assert "its bucket keeps older versions of what is removed: erase those too; to list them, aws s3api" in said
    assert objects(server, bucket) == {}
    s3 = client(server)
    found = s3.list_object_versions(Bucket=bucket)
    for entry in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]:
        s3.delete_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])


def test_nothing_is_erased_where_an_object_store_cannot_be_looked_into(
    left: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(left)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
    assert features(["forget", "P2", "--configfile", "config.yaml"]) == 1
    assert "does not answer" in capsys.readouterr().err
    after = content(left)
    assert {name: held for name, held in after.items() if "lock" not in name} == {
        name: held for name, held in before.items() if "lock" not in name
    }


# ---- the workflow


@pytest.mark.slow
def test_the_workflow_plans_without_a_network_and_hands_the_address_on(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(f"http://127.0.0.1:{closed_port()}", monkeypatch, tmp_path)
    folder = shutil.copytree(study, tmp_path / "w")
    configure(folder, "s3://study-lab/one")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    settings = {"labels": "labels.tsv", "tasks": ["valence"], "folds": {"count": 2}, "train": {"freeze_face": True}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | settings))
    rows = "".join(f"{clip}\tneutral\t1\t0\t0\n" for clip in ("P1_C1", "P2_C1"))
    (folder / "labels.tsv").write_text(f"clip\temotion\tintensity\tvalence\tarousal\n{rows}")
    run = run_workflow(folder, "all", "-n", "--printshellcmds")
    assert run.returncode == 0, run.output
    for command in ("embed-faces", "train", "predict", "score"):
        (line, *_) = [line for line in run.output.splitlines() if f"smad-models {command} --" in line]
        assert " --cache s3://study-lab/one/cache.zarr " in line
