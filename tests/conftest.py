"""What all tests share: where the outside reference material lies."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden numbers, real media and model files: beside the checkout, or where SMAD_SHARED says."""
    folder = Path(os.environ.get("SMAD_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"needs the reference material (golden numbers, media, models): {folder} is not there")
    return folder
