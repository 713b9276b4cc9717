"""The library that every service stands on. It knows no service."""

import os

# gRPC's fork handlers start threads in a child before it becomes the program it was forked for, and crash there now and then
# (signal 11). No child of ours uses gRPC. Must be set before gRPC is first used.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
