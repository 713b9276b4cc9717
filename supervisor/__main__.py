"""`python -m supervisor --dir D [--group G]`: serve in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from supervisor.directory import Taken
from supervisor.server import Supervisor

DEFAULT = "/var/lib/nubibus"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="supervisor", description="Starts and watches the parts of one server.")
    parser.add_argument("--dir", type=Path, default=Path(os.environ.get("NUBIBUS_DIR", DEFAULT)))
    parser.add_argument("--group", default=None, help="group that may use the REST socket")
    options = parser.parse_args(arguments)
    return serve(options.dir, options.group)


def serve(directory: Path, group: str | None) -> int:
    """Runs until it is told to end; the exit code."""
    try:
        asyncio.run(Supervisor(directory.absolute(), group).run())
    except Taken as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
