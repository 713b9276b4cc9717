"""The Secrets fit the manifests, and a renewal keeps what must stay."""

from __future__ import annotations

from pathlib import Path

import yaml
from cryptography import x509

from tools.cluster_secrets import COMMON, manifests, read
from tools.render import render

SINGLE = Path(__file__).parents[3] / "deploy/k8s/overlays/single"


def written(tmp_path: Path, kept: dict[str, dict[str, bytes]]) -> dict[str, dict[str, bytes]]:
    path = tmp_path / "secrets.yaml"
    path.write_text(yaml.safe_dump_all(manifests(kept)))
    return read(path)


def test_there_is_a_secret_for_each_that_a_pod_mounts_or_reads(tmp_path: Path) -> None:
    made = written(tmp_path, {})
    text = yaml.safe_dump_all(render(SINGLE))
    wanted = {line.split(": ")[1] for line in text.splitlines() if "secretName: " in line} - {"nubibus-trust"}
    assert wanted <= set(made)
    assert {"password", "subscriber-password"} == set(made["nubibus-nats"])


def test_a_parts_certificate_is_signed_by_the_authority_and_bears_the_common_name(tmp_path: Path) -> None:
    made = written(tmp_path, {})
    certificate = x509.load_pem_x509_certificate(made["nubibus-tls-node"]["tls.crt"])
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(made["nubibus-authority"]["ca.crt"]))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName)[0] == COMMON


def test_a_renewal_keeps_authority_passwords_and_server_certificate(tmp_path: Path) -> None:
    first = written(tmp_path, {})
    second = written(tmp_path, first)
    for name in ("nubibus-authority", "nubibus-nats", "nubibus-server"):
        assert second[name] == first[name]
    assert second["nubibus-tls-gateway"]["tls.crt"] != first["nubibus-tls-gateway"]["tls.crt"]
