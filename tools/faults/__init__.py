"""Breaks things on purpose: each kind of operation, at each step of its journal, while each process it needs is killed.

tools/faults --all             every case; prints the matrix and writes it to docs/reliability.md
tools/faults --bounded         the share that ./test runs
tools/faults --only 'start*'   cases whose name matches
"""
