"""ACL rules: what is refused, and the chains that they become."""

from __future__ import annotations

import pytest

from rows.network import AclRule, NetworkAcl
from services.network import acl_firewall, acl_rules

DEFAULTS = {"ingress": acl_firewall.Default(), "egress": acl_firewall.Default("allow", logged=True)}


def rule(action: str = "drop", state: str = "enabled", **keys: str) -> AclRule:
    return AclRule(action=action, state=state, **keys)


WRONG = [
    (rule("maybe"), "Action must be one of: allow, drop, reject"),
    (rule(state=""), "State must be one of: enabled, disabled, logged"),
    (rule(protocol="zz"), "Protocol must be one of: icmp4, icmp6, tcp, udp"),
    (rule(protocol="icmp4", destination_port="80"), 'Destination port cannot be used with "icmp4" protocol'),
    (rule(destination_port="80"), "Destination port cannot be used without specifying protocol"),
    (rule(protocol="tcp", icmp_type="8"), "ICMP type cannot be used with non-ICMP protocol"),
    (rule(protocol="tcp", destination_port="zz"), 'Invalid Destination port: Invalid port number "zz"'),
    (rule(protocol="tcp", source_port="90-80"), "Invalid Source port: Invalid port range"),
    (rule(destination="1.2.3"), 'Invalid Destination: Invalid subject "1.2.3"'),
    (rule(source="10.0.0.9-10.0.0.1"), "Invalid Source: Invalid subject"),
    (rule(source="@internal"), 'Named subjects not allowed in "Source" for "egress" rules'),
    (rule(source="other"), 'Invalid Source: Invalid subject "other"'),
    (rule(protocol="icmp4", icmp_type="x"), 'Invalid ICMP type: Invalid value for an integer "x"'),
    (rule(protocol="icmp4", destination="fd42::1"), 'Cannot use IPv6 destination addresses with "icmp4" protocol'),
]


@pytest.mark.parametrize(("wrong", "told"), WRONG)
def test_a_wrong_rule_is_named_with_its_number(wrong: AclRule, told: str) -> None:
    with pytest.raises(ValueError, match=r"^Invalid egress rule 1: ") as caught:
        acl_rules.check_rules("egress", [rule(), wrong])
    assert told in str(caught.value)


def test_the_same_rule_twice_is_refused_whatever_it_is_called() -> None:
    with pytest.raises(ValueError, match="Duplicate of egress rule 0"):
        acl_rules.check_rules("egress", [rule(), rule(description="again")])


@pytest.mark.parametrize(
    ("name", "told"), [("", "required"), ("-a", "start with"), ("1a", "number"), ("a b", "alphanumeric")]
)
def test_a_wrong_name_is_refused(name: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        acl_rules.check_name(name)


def texts(*acls: NetworkAcl) -> list[str]:
    objects = acl_firewall.render("t", "nb0", acls, DEFAULTS)
    return [str(o["rule"]["expr"]) for o in objects if o.get("rule", {}).get("chain") == "acl.nb0"]


def test_dropping_comes_before_refusing_before_allowing_before_the_default() -> None:
    rules = (rule("allow", source="10.0.0.1"), rule("reject", source="10.0.0.2"), rule("drop", source="10.0.0.3"))
    found = texts(NetworkAcl(project="default", name="a", egress=rules))
    assert "established" in found[0]
    assert [next(word for word in ("10.0.0.3", "10.0.0.2", "10.0.0.1") if word in text) for text in found[1:4]] == [
        "10.0.0.3",
        "10.0.0.2",
        "10.0.0.1",
    ]
    assert "nb0-egress " in found[4]
    assert "reject" in found[5]


def test_subjects_of_both_families_become_two_rules() -> None:
    found = texts(NetworkAcl(project="default", name="a", ingress=(rule(source="10.0.0.0/8,fd42::/16"),)))
    assert "'ip'" in found[1]
    assert "'ip6'" in found[2]


def test_a_disabled_rule_does_nothing_and_a_logged_one_says_so() -> None:
    rules = (rule(state="disabled"), rule("allow", state="logged", protocol="tcp", destination_port="80,90-99"))
    found = texts(NetworkAcl(project="default", name="a", ingress=rules))
    assert len(found) == 4
    assert "nb0-ingress-1 " in found[1]


def test_a_bridge_knows_no_names() -> None:
    acl = NetworkAcl(project="default", name="a", egress=(rule(destination="@external"),))
    with pytest.raises(ValueError, match='Unsupported nftables subject "@external"'):
        acl_firewall.render("t", "nb0", [acl], DEFAULTS)


def test_without_acls_there_are_no_chains() -> None:
    assert acl_firewall.render("t", "nb0", [], DEFAULTS) == ()
