"""Projects, trust, the server's configuration, its warnings and its hardware."""
