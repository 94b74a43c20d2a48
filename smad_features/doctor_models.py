"""Whether the detectors' model files are there, and the known ones."""

from __future__ import annotations

import shlex
import sys
from typing import Any

from smad_features.findings import COMMAND, Finding, count, size
from smad_features.model_files import MODELS, how_to, model_path, models_used, sha256_of


def check_models(face: dict[str, Any]) -> Finding:
    """The model files that the configuration's `face` section asks for, where a run would look for them."""
    used = models_used(face)
    if not used:
        return Finding("model files", "skipped", "`face.align: none` needs no model")
    absent, wrong, folders = [], [], set()
    for model in used:
        given = face["model_file"] if model == face["model"] else None
        path = model_path(model, given=given)
        folders.add(str(path.parent))
        if not path.is_file():
            absent.append((model, path, given))
        elif sha256_of(path) != MODELS[model].sha256:
            wrong.append((model, path))
    if wrong:
        told = [
            f"{path} ({size(path.stat().st_size)}) is not the {model} model: want sha256 {MODELS[model].sha256}"
            for model, path in wrong
        ]
        mend = ["A broken download, or another version. Remove it, then let the next run fetch it:"]
        mend += [f"{COMMAND}rm {path}" for _, path in wrong]
        mend += ["Without internet access here:", *(f"{how_to(model, path)}." for model, path in wrong)]
        return Finding("model files", "fault", "; ".join(told), "\n".join(mend))
    if absent:
        found = "; ".join(f"{path} is not there" for _, path, _ in absent)
        how = [f"{how_to(model, path)}." for model, path, _ in absent]
        if any(given for _, _, given in absent):
            return Finding("model files", "fault", f"`face.model_file`: {found}", "\n".join(how))
        fetch = "; ".join(f'find_model("{model}")' for model, _, _ in absent)
        code = f"from smad_features.model_files import find_model; {fetch}"
        mend = ["The first run fetches what is missing. Try now whether it can:"]
        mend += [f"{COMMAND}{shlex.quote(sys.executable)} -c '{code}'", "Without internet access here:", *how]
        return Finding("model files", "warning", found, "\n".join(mend))
    return Finding("model files", "ok", f"{count(len(used), 'model')} in {', '.join(sorted(folders))}, sha256 right")
