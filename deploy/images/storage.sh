# Settings of buildah and podman for this project's images: a store and a run directory of their own, runc, no machine-wide file changed.
export NUBIBUS_OCI=${NUBIBUS_OCI:-/var/tmp/nubibus-oci}
mkdir -p "$NUBIBUS_OCI"
cat >"$NUBIBUS_OCI/storage.conf" <<EOF
[storage]
driver = "overlay"
graphroot = "$NUBIBUS_OCI/store"
runroot = "$NUBIBUS_OCI/run"
EOF
cat >"$NUBIBUS_OCI/containers.conf" <<EOF
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
network_cmd_path = ""
tmp_dir = "$NUBIBUS_OCI/tmp"
volume_path = "$NUBIBUS_OCI/volumes"
static_dir = "$NUBIBUS_OCI/static"
[network]
network_backend = "netavark"
network_config_dir = "$NUBIBUS_OCI/networks"
default_subnet = "198.18.200.0/24"
EOF
export CONTAINERS_STORAGE_CONF=$NUBIBUS_OCI/storage.conf CONTAINERS_CONF=$NUBIBUS_OCI/containers.conf BUILDAH_ISOLATION=chroot
