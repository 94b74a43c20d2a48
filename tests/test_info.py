"""What `smad-models info` says of networks and checkpoints: the published counts, and what a checkpoint holds."""

import json
from pathlib import Path

import pytest
import torch

from smad_features import schema
from smad_models import cli
from smad_models.checkpoints import (
    Meta,
    build_model,
    code_version,
    hash_participants,
    make_participants_key,
    save_checkpoint,
)
from smad_models.info import count_flops, count_parameters, describe_network
from smad_models.inputs import EyeStatistics, fit_statistics
from smad_models.maqt import Maqt, Variant

CHANNELS = tuple(channel.name for channel in schema.TOBII_PRO_LAB_39)
EMOTIONS = ("happiness", "sadness", "fear", "disgust", "surprise", "anger", "neutral")


@pytest.mark.parametrize(
    ("variant", "parameters", "head"),
    [
        ("va", 12_768_179, 2_753),
        ("discrete", 12_767_737, 2_311),
        ("intensity", 12_765_946, 520),
        ("emert", 12_625_209, 231),
    ],
)
def test_parameters_are_the_published_ones_by_part(variant: Variant, parameters: int, head: int) -> None:
    model = Maqt(variant)
    counted = count_parameters(model)
    assert sum(counted.values()) == sum(x.numel() for x in model.parameters())
    assert describe_network(variant)["published_parameters"] == parameters
    assert counted["head"] == head
    assert counted["face backbone"] == 11_689_512 - 513_000
    assert (counted["eye LSTM"], counted["gaze LSTM"], counted["face projection"]) == (350_720, 331_776, 65_664)
    if variant != "emert":
        assert counted["projections to tokens"] == 33_024
        assert counted["domain discriminator"] == 195
        assert counted["transformer"] == 289_152


@pytest.mark.parametrize(
    ("variant", "counted"), [("va", 7_822_319_120), ("discrete", 7_822_318_272), ("intensity", 7_822_314_752)]
)
def test_flops_are_the_published_ones_and_the_lstms_beside(variant: Variant, counted: int) -> None:
    flops = count_flops(Maqt(variant).eval())
    assert (flops["eye LSTM"], flops["gaze LSTM"]) == (22_249_472, 21_037_056)
    assert sum(flops.values()) == counted + 22_249_472 + 21_037_056
    assert flops["face backbone"] == 7_757_561_856
    assert flops["transformer"] == pytest.approx(61.3e6, rel=1e-3)


def make_checkpoint(path: Path) -> Path:
    key = make_participants_key({"cache": "d0"})
    meta = Meta(
        task="emotion",
        fold=2,
        variant="discrete",
        convention="standard",
        emotions=EMOTIONS,
        channels=CHANNELS,
        frames=8,
        steps=32,
        size=48,
        cache_version=1,
        participants=hash_participants(["P1", "P2"], key),
        participants_key=key,
        code=code_version(),
        record={"cache": "d0"},
        history={"total": [2.0, 1.5]},
        scores={"uar": 0.25},
    )
    model = build_model(meta)
    eye = torch.randn(4, 32, 39).numpy()
    eye[:, :, 3] = float("nan")
    statistics = fit_statistics(eye)
    model.inputs.set_statistics(EyeStatistics(statistics.mean + 10, statistics.std))
    save_checkpoint(path, model, meta)
    return path


def test_a_checkpoint_is_described_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_checkpoint(tmp_path / "fold2.safetensors")
    assert cli.main(["info", "--json", str(path)]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert (said["task"], said["fold"], said["variant"], said["code"]) == ("emotion", 2, "discrete", code_version())
    assert said["bytes"] == path.stat().st_size
    assert said["participants"] == 2
    assert said["scores"] == {"uar": 0.25}
    assert said["epochs"] == 2
    inputs = said["inputs"]
    assert inputs["convention"] == "standard"
    assert inputs["lengths"] == {"face": 8, "eye": 32, "gaze": 32}
    assert [channel["name"] for channel in inputs["eye"]] == list(CHANNELS)
    assert inputs["eye"][0]["mean"] == pytest.approx(10, abs=0.5)
    assert inputs["eye"][3]["std"] is None
    assert sum(said["flops"].values()) < 7_822_318_272 / 4  # of smaller crops

    assert cli.main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    assert "emotion, fold 2; trained on: 2 participants" in text
    assert "scores      uar 0.2500" in text
    assert "lengths     face 8, eye 32, gaze 32; face crops of 48 pixels" in text
    assert "inputs      standard: RGB and eye channels standardised" in text
    assert f"{CHANNELS[3]:<40} mean 10, deviation never observed" in text


def test_a_network_needs_no_checkpoint_and_what_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["info", "--variant", "va"]) == 0
    text = capsys.readouterr().out
    assert "12,249,796 (12,768,179 with what the published files hold and never use)" in text
    assert "FLOPs       7,865,605,648 a clip" in text
    assert cli.main(["info"]) == 1
    assert "want either checkpoints or --variant" in capsys.readouterr().err
    (tmp_path / "x").write_bytes(b"not one")
    assert cli.main(["info", str(tmp_path / "x")]) == 1
    assert "x: not a checkpoint of this project" in capsys.readouterr().err
