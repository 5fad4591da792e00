"""Messages for an operator if settings, schema, disk, ports, clocks or the database are wrong, and no loss of data.

Also the optional R service. The tests run in this order on one booted systemd machine.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.deploy.booted import IRT, Machine, booted, fill_srv, first_month, import_log, log_of_unit, now
from tests.testbed.patience import patient

PACKAGES = "systemd,systemd-sysv,dbus,python3,tzdata,postgresql,faketime"
R_PACKAGES = ("r-cran-plumber", "r-cran-processx", "r-cran-brms")
INSTALLER = "/srv/wheelhouse/install.sh"
ENV_FILE = "/etc/irt/irt.env"
PASSWORD = "p@s:s/w%rd"
IN_URL = "p%40s%3As%2Fw%25rd"
URL = f"postgresql://irt:{IN_URL}@127.0.0.1:5432/irt"
TOKENS = """IRT_ORG_ID=exam
JWT_ISSUER=https://issuer.example
JWT_AUDIENCE=irt
JWT_PUBLIC_KEY_PATH=/etc/irt/jwt_public.pem
"""
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
TRUE_PAUSES = "FAKETIME_DONT_FAKE_MONOTONIC=1"
AHEAD = f"""systemd-run --wait --pipe --quiet --collect -p User=irt -p EnvironmentFile={ENV_FILE}
-E IRT_HOME=/var/lib/irt -E LD_PRELOAD={FAKETIME} -E FAKETIME=+40d -E {TRUE_PAUSES}"""
CONNECTS = 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])))'
ASKS_VERIFIER = """import sys, urllib.error, urllib.request
asked = urllib.request.Request("http://127.0.0.1:9000/verify", headers={"Authorization": "Bearer " + sys.argv[1]})
try:
    print(urllib.request.urlopen(asked).status)
except urllib.error.HTTPError as refused:
    print(refused.code, refused.headers, refused.read().decode())
"""
R_SERVICE = "irt-r.service"
R_TOKEN = "0123456789abcdef"
ASKS_R = """import json, sys, urllib.request
body = {
    "item_ids": ["i1", "i2"], "a": [1.2, 0.8], "d": [0.5, 0.0], "c": [0, 0.2], "n_persons": 2, "person": [0, 0, 1, 1],
    "item": [0, 1, 0, 1], "score": [1, 1, 0, 0], "method": "eap", "mean": 0, "sd": 1,
}
token = {"Authorization": "Bearer " + sys.argv[1]}
asked = urllib.request.Request("http://127.0.0.1:8000/irt/score", json.dumps(body).encode(), token)
print(urllib.request.urlopen(asked).read().decode())
"""
MOST_EXPOSED = 2.0
SERVERS = ("irt-code-server", "irt-daemon", "irt-webserver", "irt-exporter", "irt-theta-api")
CALIBRATION = "irt-calibration.service"
AT_WORK = "tail -F"
"""The process that copies the output of a run's steps."""
BALLAST = "/var/lib/irt/ballast"
SMALL_DISK = """set -e
mkdir /srv/disk
mount -t tmpfs -o size=96m tmpfs /srv/disk
cp -a /var/lib/irt/. /srv/disk/
chown --reference=/var/lib/irt /srv/disk
chmod --reference=/var/lib/irt /srv/disk
mount --bind /srv/disk /var/lib/irt
"""
START_S, MONTH_S = 600.0, 2400.0
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("booted"), pytest.mark.timeout(patient(5400))]


@pytest.fixture(scope="module")
def bare_machine(tmp_path_factory: pytest.TempPathFactory, require: Callable[[bool, str], None]) -> Iterator[Machine]:
    """A booted machine without the platform."""

    def fill(root: Path) -> None:
        download = ["apt-get", "install", "--yes", "--download-only", *R_PACKAGES]
        subprocess.run(["chroot", root, *download], check=True)  # the test installs these later, without a network
        fill_srv(root, learners=300)

    with booted(tmp_path_factory, require, "irt-faults", PACKAGES, fill) as machine:
        machine.must("su", "postgres", "-c", f"psql -c \"CREATE ROLE irt LOGIN PASSWORD '{PASSWORD}'\"")
        machine.must("su", "postgres", "-c", "createdb --owner=irt irt")
        yield machine


@pytest.fixture(scope="module")
def machine(bare_machine: Machine) -> Machine:
    """The machine with the platform installed. If the installation fails, all tests that use it fail at once."""
    write(bare_machine, settings())
    bare_machine.must(INSTALLER)
    return bare_machine


def settings() -> str:
    return f"""DATABASE_URL="{URL}"
IRT_FIRST_MONTH={first_month()}
IRT_THETA_TOKEN='0123456789abcdef0123456789abcdef'
"""


def write(machine: Machine, text: str, mode: int = 0o600, file: str = ENV_FILE) -> None:
    path = machine.root / file.lstrip("/")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())
    path.chmod(mode)


def refusal(machine: Machine, *command: str) -> str:
    """Run a command that must fail. Returns its output."""
    ran = machine.run(*command)
    assert ran.returncode != 0
    return ran.stdout


def test_faulty_env_files_are_refused_before_the_installation(bare_machine: Machine) -> None:
    machine = bare_machine
    assert "refused: /etc/irt/irt.env names no database" in refusal(
        machine, INSTALLER
    )  # the installer has written the template
    for text, mode, words in (
        (settings(), 0o644, "can be read by users other than root, and contains passwords: chmod 600 /etc/irt/irt.env"),
        (settings().replace("\n", "\r\n"), 0o600, "Windows line ends (CRLF)"),
        (settings().replace(f'{IN_URL}@127.0.0.1:5432/irt"', "x"), 0o600, "line 1: an unpaired quotation mark"),
        (f"export {settings()}", 0o600, "line 1: write NAME=value, without export"),
    ):
        write(machine, text, mode)
        assert words in refusal(machine, INSTALLER)
    assert not (machine.root / "opt/irt").exists()


def test_a_wrong_database_address_is_refused_and_leaves_no_partial_installation(bare_machine: Machine) -> None:
    machine = bare_machine
    for address, words in (
        (f"postgresql://irt:{PASSWORD}@127.0.0.1:5432/irt", "DATABASE_URL"),
        (URL.replace("postgresql:", "mysql:"), "DATABASE_URL must start with postgresql://"),
        (URL.replace(IN_URL, "another"), "password authentication failed"),
        (URL.replace("5432/irt", "5432/another"), 'database "another" does not exist'),
    ):
        write(machine, settings().replace(URL, address))
        output = refusal(machine, INSTALLER)
        assert words in output
        assert PASSWORD not in output
        assert "Traceback" not in output
    assert not (machine.root / "opt/irt/current").exists()
    assert not (machine.root / "etc/systemd/system/irt-daemon.service").exists()


def test_servers_run_with_quoted_settings_and_a_password_with_special_characters(machine: Machine) -> None:
    assert all_are_active(machine)
    machine.must(IRT, "health")


def all_are_active(machine: Machine) -> bool:
    return machine.says("systemctl", "is-active", *SERVERS).splitlines() == ["active"] * len(SERVERS)


def active_again(machine: Machine) -> None:
    """Reset failed units, start all servers and check that they are active."""
    machine.run("systemctl", "reset-failed")
    machine.must("systemctl", "start", *SERVERS)
    assert all_are_active(machine)
    assert machine.says("systemctl", "--failed", "--no-legend") == ""


def test_units_without_settings_fail_with_the_reason_and_start_no_embedded_database(machine: Machine) -> None:
    server, began = "irt-exporter", now(machine)
    write(machine, settings().replace("DATABASE_URL", "#DATABASE_URL"))
    try:
        assert machine.run("systemctl", "restart", server).returncode != 0
        assert "DATABASE_URL is not set, and a unit of systemd has no embedded database" in log_of_unit(
            machine, server, began
        )
        assert "DATABASE_URL is not set" in refusal(machine, IRT, "status")
        (machine.root / ENV_FILE.lstrip("/")).unlink()
        began = now(machine)
        assert machine.run("systemctl", "restart", server).returncode != 0
        assert "Failed to load environment files" in log_of_unit(machine, server, began)
    finally:
        write(machine, settings())
    assert not (machine.root / "var/lib/irt/postgres").exists()
    active_again(machine)


def sql(machine: Machine, statement: str) -> str:
    return machine.must("su", "postgres", "-c", f'psql -tAqd irt -c "{statement}"').strip()


def test_units_refuse_a_schema_of_a_different_version_and_name_the_remedy(machine: Machine) -> None:
    table = "irt_alembic_version"
    known, oldest_code = sql(machine, f"SELECT version_num, oldest_code FROM {table}").split("|")
    machine.must("systemctl", "stop", *SERVERS)
    sql(machine, f"UPDATE {table} SET version_num = '0020'")
    refused_by_servers(machine, "git checkout")
    sql(machine, f"UPDATE {table} SET version_num = '9999', oldest_code = '9999'")
    refused_by_servers(machine, "install the newer irt-assets")
    sql(machine, f"UPDATE {table} SET version_num = '{known}', oldest_code = '{oldest_code}'")
    active_again(machine)


def refused_by_servers(machine: Machine, words: str) -> None:
    began = now(machine)
    machine.must("systemctl", "reset-failed")
    for server in ("irt-daemon", "irt-code-server"):
        assert machine.run("systemctl", "start", server).returncode != 0
        assert words in log_of_unit(machine, server, began)
        machine.must("systemctl", "stop", server)  # systemd would try to start it five times
    assert words in refusal(machine, IRT, "status")


def lives(machine: Machine) -> dict[str, tuple[str, str]]:
    """Number of restarts and main process of each server."""
    return {name: (machine.shows(name, "NRestarts"), machine.shows(name, "MainPID")) for name in SERVERS}


@contextmanager
def no_server_dies(machine: Machine) -> Iterator[None]:
    before = lives(machine)
    yield
    assert lives(machine) == before
    assert all_are_active(machine)


def test_a_full_disk_fails_the_month_with_a_reason_and_stops_no_server(machine: Machine) -> None:
    import_log(machine)
    machine.must("systemctl", "stop", *SERVERS)
    machine.must("sh", "-c", SMALL_DISK)
    machine.must("systemctl", "start", *SERVERS)
    assert all_are_active(machine)
    machine.run("sh", "-c", f"cat /dev/zero > {BALLAST}")
    with no_server_dies(machine):
        began = now(machine)
        assert machine.run("systemctl", "start", CALIBRATION).returncode != 0
        assert "The disk is full" in log_of_unit(machine, CALIBRATION, began)
        assert sql(machine, "SELECT count(*) FROM mirt_ability") == "0"
        machine.must("rm", BALLAST)


def test_a_month_is_completed_if_postgresql_restarts_during_the_run(machine: Machine) -> None:
    with no_server_dies(machine):
        began = now(machine)
        machine.must("systemctl", "start", "--no-block", CALIBRATION)
        machine.wait(
            lambda: AT_WORK in machine.says("systemctl", "status", "-n0", "-l", "irt-code-server"), START_S, "a worker"
        )
        machine.must("systemctl", "restart", "postgresql@15-main")
        machine.wait(lambda: machine.shows(CALIBRATION, "ActiveState") != "activating", MONTH_S, "its end")
        assert f"monthly_calibration {first_month()}: done" in log_of_unit(machine, CALIBRATION, began)
    assert machine.shows(CALIBRATION, "Result") == "success"
    assert '"state": "green"' in machine.says(IRT, "status", "--json")
    assert machine.says("systemctl", "--failed", "--no-legend") == ""


def test_a_second_daemon_waits_then_fails_and_names_the_first_daemon(machine: Machine) -> None:
    first = machine.shows("irt-daemon", "MainPID")
    with no_server_dies(machine):
        ran = machine.run(IRT, "run", "daemon")
    assert ran.returncode == 3
    assert f"Another daemon works on this database: process {first} on host" in ran.stdout


def test_servers_name_an_occupied_port_and_start_when_the_port_is_free(machine: Machine) -> None:
    all_active = partial(all_are_active, machine)
    for server, port in (("irt-webserver", "3000"), ("irt-exporter", "9464"), ("irt-theta-api", "8001")):
        machine.must("systemctl", "stop", server)
        machine.must("systemd-run", "--unit=other", "python3", "-m", "http.server", "--bind", "127.0.0.1", port)
        machine.must("sh", "-c", f"until python3 -c '{CONNECTS}' {port}; do sleep 1; done")
        began = now(machine)
        assert machine.run("systemctl", "start", server).returncode != 0
        words = log_of_unit(machine, server, began)
        assert f"it cannot listen on 127.0.0.1, port {port} (Address already in use)" in words
        machine.must("systemctl", "stop", "other")
        machine.wait(all_active, START_S, "its next start")


def test_verifier_refusals_mention_a_wrong_clock(machine: Machine) -> None:
    server = "jwt-verifier"
    key = rsa.generate_private_key(65537, 2048)
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write(machine, pem.decode(), 0o644, "/etc/irt/jwt_public.pem")
    write(machine, TOKENS, file=f"/etc/irt/{server}.env")
    dropin = machine.root / f"etc/systemd/system/{server}.service.d/clock.conf"
    try:
        for wrong, answer in (("+0", "200"), ("+1h", "has expired"), ("-1h", "not valid yet: a clock is wrong")):
            environment = f"LD_PRELOAD={FAKETIME} FAKETIME={wrong} {TRUE_PAUSES}"
            dropin.write_text(f"[Service]\nEnvironment={environment}\nTimeoutStartSec=60\n")
            machine.must("systemctl", "daemon-reload")
            machine.run("systemctl", "reset-failed", server)
            machine.run("systemctl", "restart", server)
            # libfaketime sometimes refuses a sleep (EINVAL); systemd then restarts the server.
            machine.wait(lambda: machine.shows(server, "ActiveState") == "active", START_S, server)
            assert answer in verified(machine, token(key))
    finally:
        dropin.unlink()
        machine.must("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed", server)
    machine.must("systemctl", "restart", server)
    assert verified(machine, token(key)) == "200"
    assert "not valid yet: a clock is wrong" in verified(machine, token(key, from_now_s=3600))


def token(key: rsa.RSAPrivateKey, from_now_s: float = 0.0) -> str:
    issued = int(time.time() + from_now_s)
    claims: dict[str, object] = {"iss": "https://issuer.example", "aud": "irt", "org_id": "exam", "sub": "somebody"}
    claims |= {"roles": ["viewer"], "iat": issued, "nbf": issued, "exp": issued + 600}
    return jwt.encode(claims, key, algorithm="RS256")


def verified(machine: Machine, shown: str) -> str:
    """Returns the verifier's status and the reason of a refusal."""
    return machine.must("python3", "-c", ASKS_VERIFIER, shown).strip()


def test_doctor_reports_a_clock_that_differs_from_the_databases(machine: Machine) -> None:
    output = refusal(machine, *AHEAD.split(), "/opt/irt/current/bin/irt", "doctor")
    assert "ahead of the database's" in output


def test_r_service_without_r_names_the_packages_to_install_and_is_not_restarted(machine: Machine) -> None:
    began = now(machine)
    assert machine.run("systemctl", "enable", "--now", R_SERVICE).returncode != 0
    assert f"R is not installed: apt-get install {' '.join(R_PACKAGES)}" in log_of_unit(machine, R_SERVICE, began)
    machine.must("apt-get", "install", "--yes", "--no-download", *R_PACKAGES)
    assert machine.run("systemctl", "restart", R_SERVICE).returncode != 0
    assert "R_IRT_INTERNAL_TOKEN is not set" in log_of_unit(machine, R_SERVICE, began)
    assert (machine.shows(R_SERVICE, "ActiveState"), machine.shows(R_SERVICE, "NRestarts")) == ("failed", "0")


def test_r_service_measures_abilities_and_restarts_after_a_kill_or_a_hang(machine: Machine) -> None:
    write(machine, f"R_IRT_INTERNAL_TOKEN={R_TOKEN}\nR_IRT_MEMORY_MIB=4096\n", file="/etc/irt/irt-r.env")
    machine.must("systemctl", "restart", R_SERVICE)
    two_abilities(machine)
    for signal, reason in (("KILL", "signal"), ("STOP", "watchdog")):
        began = now(machine)
        restarts = int(machine.shows(R_SERVICE, "NRestarts"))
        machine.must("systemctl", "kill", "-s", signal, "--kill-whom=main", R_SERVICE)
        took = machine.wait(
            lambda restarts=restarts: (  # type: ignore[misc]
                machine.shows(R_SERVICE, "NRestarts") == str(restarts + 1)
                and machine.shows(R_SERVICE, "ActiveState") == "active"
            ),
            START_S,
            "its next start",
        )
        print(f"{signal}: back after {took:.0f} s")
        assert f"Failed with result '{reason}'" in log_of_unit(machine, R_SERVICE, began)
        two_abilities(machine)
    level = re.search(
        r"exposure level for irt-r.service: (\d+\.\d)", machine.must("systemd-analyze", "security", R_SERVICE)
    )
    assert float(level[1]) <= MOST_EXPOSED


def test_brms_compiles_and_fits_in_the_r_service_unit(machine: Machine) -> None:
    """Estimates must agree within half a posterior SD.

    The priors shift them by up to .27 SD with 600 learners, and by .52 SD with 300.
    """
    write(machine, f"{settings()}R_IRT_BASE_URL=http://127.0.0.1:8000\nR_IRT_INTERNAL_TOKEN={R_TOKEN}\n")
    machine.must(IRT, "simulate-responses", "--persons=600", "--items=8", "/var/lib/irt/made")
    began = time.monotonic()
    for engine in ("brms", "em"):
        machine.must(
            IRT, "fit", "/var/lib/irt/made/responses.csv", f"--engine={engine}", f"--out=/var/lib/irt/{engine}"
        )
    print(f"a first fit by brms, and one by em: {time.monotonic() - began:.0f} s")
    by_brms, by_em = (json.loads(machine.must("cat", f"/var/lib/irt/{engine}/fit.json")) for engine in ("brms", "em"))
    assert (by_brms["engine"], by_brms["converged"]) == ("brms", True)
    for brms, em in zip(by_brms["items"], by_em["items"], strict=True):
        assert brms["item"] == em["item"]
        for parameter in ("a", "b"):
            assert abs(brms[parameter] - em[parameter]) < 0.5 * brms[f"{parameter}_se"]


def two_abilities(machine: Machine) -> None:
    assert len(json.loads(machine.must("python3", "-c", ASKS_R, R_TOKEN))["theta"]) == 2
