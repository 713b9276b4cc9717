"""Storage: pools, volumes, their snapshots and backups."""
