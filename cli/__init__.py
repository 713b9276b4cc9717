"""The command `nubibus`: the server's life on one machine, and its first configuration. Everything else is `lxc`'s work."""
