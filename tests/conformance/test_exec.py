"""Commands in a running instance: POST /1.0/instances/{name}/exec."""
