"""The tables that prediction writes, a row a clip in the cache's order, as parquet with their record beside the rows.

All begin with clip, participant and fold.

- Predictions: then prediction (an emotion's name, else a number), present (``face+eye+gaze`` or parts of it); for the
  emotion task ``p_{name}``, the probability of each class; where asked for ``logit_{name}`` of each class, for tasks
  whose network has such a head, and ``{invariant|specific}_{stream}_as_{modality}``, the discriminator's logits for
  each stream. No targets: scoring joins them.
- Embeddings: then present and ``f0`` ... ``f63``, float32: the fused feature that the heads see. Each fold has a
  network of its own, so only clips of the same fold are to be compared.

An ablation is a table of predictions for which some modalities were taken for missing in every clip: its record names
them under ``ablated``, its notes say so, and ``present`` lacks them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from smad_models.maqt import MODALITIES
from smad_models.one_pass import Found, Hidden

RECORD = b"smad_record"  # key of the record in the parquet file's metadata
NOTES = b"smad_notes"  # and of the warnings that go with the predictions


@dataclass(frozen=True)
class Product:
    """A table that is asked for: of which task, where it goes, and what is hidden from the networks."""

    task: str
    path: Path
    hidden: Hidden = ()
    kind: Literal["predictions", "embeddings"] = "predictions"
    domains: bool = False  # with the discriminator's logits
    logits: bool = False  # with the emotion logits

    def complete(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record of this table, given what all of its task depend on."""
        columns = {"domains": self.domains, "logits": self.logits} if self.kind == "predictions" else {}
        return {**record, "kind": self.kind, "ablated": list(self.hidden), **columns}


def is_made(product: Product, record: Mapping[str, Any]) -> bool:
    """Whether the table is there, made from what ``record`` says."""
    if not product.path.exists():
        return False
    try:
        metadata = pq.read_schema(product.path).metadata or {}
    except pa.ArrowInvalid:  # damaged: it is made anew
        return False
    return bool(json.loads(metadata.get(RECORD, b"null")) == product.complete(record))


def write_product(
    product: Product,
    clips: Mapping[str, Any],
    found: Found,
    *,
    emotions: Sequence[str],
    record: Mapping[str, Any],
    notes: Mapping[str, str],
) -> None:
    """Write a table, whole or not at all; ``clips`` are its first columns."""
    columns = dict(clips)
    if product.kind == "embeddings":
        fused = found.values["fused"].astype(np.float32)  # (clips, 64)
        columns |= {"present": found.present.tolist()} | {f"f{i}": fused[:, i] for i in range(fused.shape[1])}
    else:
        columns |= _predictions(product, found, emotions)
    if product.hidden:
        notes = {**notes, "ablation": f"{' and '.join(product.hidden)} taken for missing in every clip"}
    _write_table(product.path, columns, {RECORD: product.complete(record), NOTES: notes})


def _predictions(product: Product, found: Found, emotions: Sequence[str]) -> dict[str, Any]:
    value = found.values["value"]  # (clips, emotions) or (clips, 1)
    is_emotion = product.task == "emotion"
    columns: dict[str, Any] = {
        "prediction": [emotions[index] for index in value.argmax(axis=1)] if is_emotion else value[:, 0],
        "present": found.present.tolist(),
    }
    if is_emotion:
        columns |= {f"p_{name}": value[:, i] for i, name in enumerate(emotions)}
    if product.logits and "logits" in found.values:
        columns |= {f"logit_{name}": found.values["logits"][:, i] for i, name in enumerate(emotions)}
    if product.domains:
        for kind in ("invariant", "specific"):
            logits = found.values[kind].reshape(-1, len(MODALITIES), len(MODALITIES))  # (clips, streams, modalities)
            columns |= {
                f"{kind}_{stream}_as_{modality}": logits[:, i, j]
                for i, stream in enumerate(MODALITIES)
                for j, modality in enumerate(MODALITIES)
            }
    return columns


def _write_table(path: Path, columns: dict[str, Any], metadata: dict[bytes, Any]) -> None:
    """Write a parquet table whole or not at all."""
    table = pa.table(columns)
    table = table.replace_schema_metadata({name: json.dumps(x, sort_keys=True) for name, x in metadata.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, draft)
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
