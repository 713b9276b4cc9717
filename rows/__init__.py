"""The rows on the log that more than one service reads: the contract on the bus beside `proto/`.

Each module declares one noun's struct and its `Kind` once. Only the owning service writes a kind; any may mirror it.
"""
