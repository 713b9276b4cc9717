"""Plays deploy/k8s on one machine with podman: the same manifests, translated where podman 4.3 knows less."""
