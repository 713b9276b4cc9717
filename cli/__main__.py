"""`nubibus COMMAND`: the table of commands and their options."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from cli import process
from cli.failure import Failure

DEFAULT = "/var/lib/nubibus"
Handler = Callable[[argparse.Namespace], int]


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, or 1 with a line that begins with `Error:`."""
    options = _parser().parse_args(arguments)
    options.dir = options.dir.absolute()
    try:
        handler: Handler = options.handler
        return handler(options)
    except Failure as failure:
        sys.stderr.write(f"Error: {failure}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nubibus", description="System containers behind LXD's API.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, handler: Handler, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        default = Path(os.environ.get("NUBIBUS_DIR", DEFAULT))
        made.add_argument(
            "--dir", type=Path, default=default, metavar="D", help=f"the server's directory (now {default})"
        )
        made.set_defaults(handler=handler)
        return made

    for name, handler, text in (
        (
            "serve",
            process.serve,
            "run the server in the foreground; SIGTERM leaves instances running, SIGPWR stops them",
        ),
        ("up", process.up, "start the server in the background and wait until it is ready"),
    ):
        made = command(name, handler, text)
        made.add_argument(
            "--group", default="nubibus", metavar="G", help="group that may use the REST socket (now nubibus)"
        )
        made.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for a started server")
    command("down", process.down, "end the server; instances keep running")
    made = command("shutdown", process.shutdown, "stop all instances in their order, then the server")
    made.add_argument("--timeout", type=float, default=3600.0, help="seconds to wait")
    made = command("waitready", process.waitready, "wait until every part answers")
    made.add_argument("--timeout", type=float, default=60.0, help="seconds to wait")
    command("status", process.status, "show the processes of the server")
    made = command("restart", process.restart, "restart one part; the others and all instances go on")
    made.add_argument("part")
    made = command("logs", process.logs, "show the log of a part, or of all")
    made.add_argument("part", nargs="?", default="")
    made.add_argument("-f", "--follow", action="store_true", help="go on showing what comes")
    made.add_argument("-n", "--lines", type=int, default=50, help="how many of the last lines (now 50)")
    made = command("recover", _run_recover, "rebuild a lost log from what lies on this node; asks before it writes")
    made.add_argument("--yes", action="store_true", help="do not ask")
    made = command("log-backup", _run_log_backup, "write the rows of the log into a file, while everything runs")
    made.add_argument("file", type=Path)
    made = command("log-restore", _run_log_restore, "replace the log by a backup; asks before it writes")
    made.add_argument("file", type=Path)
    made.add_argument("--yes", action="store_true", help="do not ask")
    _init(command("init", _run_init, "configure a new server: storage, network, default profile"))
    return parser


def _init(parser: argparse.ArgumentParser) -> None:
    """`lxd init`'s options."""
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--auto", action="store_true", help="without questions")
    mode.add_argument("--minimal", action="store_true", help="without questions, only what is needed")
    mode.add_argument("--preseed", action="store_true", help="read YAML from standard input")
    mode.add_argument("--dump", action="store_true", help="print the configuration as YAML")
    parser.add_argument("--network-address", default="", help="address for HTTPS (none)")
    parser.add_argument("--network-port", type=int, default=-1, help="port for HTTPS (8443)")
    parser.add_argument("--storage-backend", default="", help="storage driver (dir)")
    parser.add_argument("--storage-create-device", default="", metavar="DEVICE", help="put the pool on this device")
    parser.add_argument(
        "--storage-create-loop", type=int, default=-1, metavar="SIZE", help="put the pool in a file of SIZE GB"
    )
    parser.add_argument("--storage-pool", default="", help="pool to use or create")
    parser.add_argument("--trust-password", default="", help="password with which clients are added")


def _run_recover(options: argparse.Namespace) -> int:
    from cli import recover  # brings the bus's client

    return recover.run(options)


def _run_log_backup(options: argparse.Namespace) -> int:
    from cli import log_backup

    return log_backup.backup(options)


def _run_log_restore(options: argparse.Namespace) -> int:
    from cli import log_backup

    return log_backup.restore(options)


def _run_init(options: argparse.Namespace) -> int:
    from cli import init  # brings YAML, which no other command needs

    return init.run(options)


if __name__ == "__main__":
    sys.exit(main())
