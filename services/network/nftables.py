"""libnftables through its JSON API: one call is one transaction of the kernel, applied as a whole or not at all.

The only module that loads the library. Calls block (a millisecond or so); they are made from the host thread.
"""

from __future__ import annotations

import ctypes
import functools
import json
from typing import Any

LIBRARY = "libnftables.so.1"
PACKAGE = "libnftables1"
OUTPUT_JSON = 1 << 4
Commands = list[dict[str, Any]]


class NftablesError(RuntimeError):
    """The kernel or the library refused a transaction; the text is the library's."""


@functools.cache
def library() -> ctypes.CDLL:
    """The library with its signatures. Raises OSError if it is not installed."""
    found = ctypes.CDLL(LIBRARY)
    found.nft_ctx_new.restype = ctypes.c_void_p
    found.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(found, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(found, name).argtypes = [ctypes.c_void_p]
        getattr(found, name).restype = ctypes.c_char_p
    found.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    found.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return found


def lacks() -> str:
    """Why no firewall can be made here, and what to do; "" if one can."""
    try:
        run([{"list": {"tables": None}}])
    except OSError:
        return f"{LIBRARY} is not installed: install {PACKAGE}"
    except NftablesError as error:
        return (
            f"nftables cannot be used ({str(error).splitlines()[0]}): load nf_tables in the node's kernel, and give the container "
            "NET_ADMIN and the node's network"
        )
    return ""


def run(commands: Commands) -> list[dict[str, Any]]:
    """Apply the commands in one transaction; what `list` commands among them found. Raises NftablesError."""
    lib = library()
    context = lib.nft_ctx_new(0)
    try:
        lib.nft_ctx_output_set_flags(context, OUTPUT_JSON)
        lib.nft_ctx_buffer_output(context)
        lib.nft_ctx_buffer_error(context)
        failed = lib.nft_run_cmd_from_buffer(context, json.dumps({"nftables": commands}).encode())
        output = lib.nft_ctx_get_output_buffer(context)
        if failed:
            raise NftablesError((lib.nft_ctx_get_error_buffer(context) or b"").decode(errors="replace").strip())
    finally:
        lib.nft_ctx_free(context)
    return list(json.loads(output)["nftables"]) if output else []


def tables(prefix: str) -> list[tuple[str, str]]:
    """(family, name) of the tables whose names begin so."""
    found = [entry["table"] for entry in run([{"list": {"tables": None}}]) if "table" in entry]
    return [(table["family"], table["name"]) for table in found if table["name"].startswith(prefix)]


def replacing(family: str, table: str, objects: Commands) -> Commands:
    """Commands that make the table hold exactly these objects, whether it existed or not."""
    this = {"table": {"family": family, "name": table}}
    added = [{"add": entry} for entry in objects]
    return [{"add": this}, {"delete": this}, {"add": this}, *added]


def removing(family: str, table: str) -> Commands:
    this = {"table": {"family": family, "name": table}}
    return [{"add": this}, {"delete": this}]
