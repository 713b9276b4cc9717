"""Starts and watches nats-server and the six parts on one machine. Knows processes, not the API: no part's code is imported here."""
