"""The command line of smad-models: one command a stage, each what the workflow's rule of that name runs."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence

from smad_models import annotation_commands, network_commands, score_commands
from smad_models.arguments import RESULTS, setting

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 = done. What the user can mend is said in one sentence, without a traceback."""
    options = _parser().parse_args(arguments)
    umask = os.umask(_umask())
    try:
        options.run(options)
    except (ValueError, FileNotFoundError, MemoryError) as error:
        why = str(error)
        if isinstance(error, OSError) and error.filename is not None:  # the system's own, with its number
            why = f"{error.filename}: {error.strerror}"
        print(f"smad-models {options.command}: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # what was under way has said how to go on
        return 130
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        where = error.filename or getattr(options, "output", None) or RESULTS
        why = f"{where}: {error.strerror or error}; what was there before is untouched: mend that and run again"
        print(f"smad-models {options.command}: {why}", file=sys.stderr)
        return 1
    finally:
        os.umask(umask)
    return 0


def _umask() -> int:
    """What is made of persons is for the user alone, unless the workflow's `cache.mode` says otherwise."""
    try:
        mode = int(setting("cache", {})["mode"], 8)
    except (ValueError, KeyError, TypeError):
        mode = 0o600
    return 0o777 & ~(mode | (mode & 0o444) >> 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="smad-models", description=sys.modules["smad_models"].__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    for module in (score_commands, network_commands, annotation_commands):
        module.add_commands(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
