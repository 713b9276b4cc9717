"""Measures Nubibus and a real LXD 5.0.2 side by side, in one run on one machine."""
