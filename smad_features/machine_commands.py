"""The command by which a person looks at the machine instead of the study; it returns its exit status."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict


def run_doctor(options: argparse.Namespace) -> int:
    """Say what is not as it should be on this machine, and how to mend it; 1 = a run would fail."""
    from smad_features.doctor import examine_machine, tell, tell_all, terminal_width

    findings = []
    width, signs = terminal_width(), "utf" in (sys.stdout.encoding or "").lower()
    colours = width is not None and "NO_COLOR" not in os.environ
    for finding in examine_machine(options.configfile, ask_nodes=options.ask_nodes):
        findings.append(finding)
        if not options.json:
            print(tell(finding, width=width, colours=colours, signs=signs), flush=True)
    print(json.dumps([asdict(one) for one in findings], indent=1) if options.json else tell_all(findings))
    return 1 if any(one.state == "fault" for one in findings) else 0
