"""What a container would run, read from its files; `.ci/image` runs the steps."""

from __future__ import annotations

import re
import runpy
from ipaddress import ip_address, ip_network

from sim_core.view.session.room_store import SETTING
from tests.places import ROOT

COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
INNERMOST = r"\$\{(\w+):-([^${}]*)\}"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def tree(text: str) -> dict:
    """Return the mappings of a YAML file of two blanks a level; lists and texts as lines."""
    root: dict = {}
    stack = [(-2, root)]
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        depth, body = len(line) - len(line.lstrip()), line.strip()
        assert depth % 2 == 0 and "\t" not in line, line
        while stack[-1][0] >= depth:
            stack.pop()
        if body.startswith("- "):
            stack[-1][1].setdefault("-", []).append(body[2:].strip('"'))
            continue
        key, colon, value = body.partition(":")
        assert colon and key not in stack[-1][1], line
        stack[-1][1][key] = value.strip().strip('"') or {}
        if not value:
            stack.append((depth, stack[-1][1][key]))
    return root


def test_the_services() -> None:
    """Oracle: what a server for others needs: no root, nothing written, no open port, rooms in PostgreSQL."""
    services = tree(COMPOSE)["services"]
    app, rooms = services["app"], services["rooms"]
    assert app["read_only"] == "true" and app["tmpfs"]["-"][0].startswith("/tmp:")
    assert app["cap_drop"]["-"] == ["ALL"] and "no-new-privileges:true" in app["security_opt"]["-"]
    assert all(port.startswith("127.0.0.1:") for port in app["ports"]["-"])
    assert app["environment"][SETTING].startswith(
        "postgresql+psycopg://batchscope:${POSTGRES_PASSWORD:?}@rooms/"
    )
    assert app["depends_on"]["rooms"]["condition"] == "service_healthy"
    assert "ports" not in rooms and rooms["image"].startswith("postgres:")
    assert rooms["environment"]["POSTGRES_PASSWORD"] == "${POSTGRES_PASSWORD:?}"
    name, _, place = rooms["volumes"]["-"][0].partition(":")
    assert name in tree(COMPOSE)["volumes"] and place == "/var/lib/postgresql/data"
    assert rooms["healthcheck"]["test"].startswith('["CMD-SHELL", "pg_isready')


def with_variables(text: str, **given: str) -> str:
    """Return a text as compose reads it: variables, or what stands behind `:-`, the inner ones first."""

    def value(match: re.Match[str]) -> str:
        return given.get(match[1]) or match[2]

    while re.search(INNERMOST, text):
        text = re.sub(INNERMOST, value, text)
    return text


def test_the_app_believes_the_proxy_on_its_machine() -> None:
    """Oracle: a port of the host reaches a container from its network's gateway, an address of the subnet."""
    for given, gateway in (({}, "172.31.250.1"), ({"BATCHSCOPE_NET": "10.9.8"}, "10.9.8.1")):
        compose = tree(with_variables(COMPOSE, **given))
        network = compose["networks"]["default"]["ipam"]["config"]
        subnet = ip_network(network["-"][0].removeprefix("subnet: ").strip('"'))
        assert network["gateway"] == gateway and ip_address(gateway) in subnet and subnet.is_private
        assert compose["services"]["app"]["environment"]["FORWARDED_ALLOW_IPS"] == gateway
    chosen = tree(with_variables(COMPOSE, FORWARDED_ALLOW_IPS="10.0.0.7"))
    assert chosen["services"]["app"]["environment"]["FORWARDED_ALLOW_IPS"] == "10.0.0.7"


def test_the_image() -> None:
    """Oracle: the user comes before the command, the health check asks Streamlit's own address."""
    steps = runpy.run_path(str(ROOT / ".ci/image"))["steps"](DOCKERFILE)
    names = [what for what, _ in steps]
    last = dict(steps)
    assert names[0] == "FROM" and names.index("USER") < names.index("CMD") == len(names) - 1
    assert not last["USER"].startswith(("0", "root"))
    assert "/_stcore/health" in last["HEALTHCHECK"]
    assert names.index("RUN") < names.index("USER")


def test_what_the_image_holds() -> None:
    """Oracle: the folders; all that the app reads is let through, and nothing else."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    taken = {line[1:] for line in lines if line[0] == "!"}
    assert taken >= {"app.py", "pages", "presets", "sim_core", ".streamlit", "requirements.txt"}
    assert all((ROOT / name).exists() for name in taken)
    assert not taken & {"tests", ".git", ".venv", "rooms.sqlite", ".env"}


def test_the_password_is_not_in_git() -> None:
    """Oracle: `.env`, which compose reads, is ignored."""
    assert re.search(r"^\.env$", (ROOT / ".gitignore").read_text(), re.MULTILINE)
