"""The one place that reads the environment. Everything else is handed a `Settings`.

Values come from the environment and from an env file (`IRT_ENV_FILE`, else `.irt/irt.env`).
"""

import os
import re
import stat
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, unquote, urlsplit
from zoneinfo import available_timezones

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from resources.addresses import Names, parse_address, parse_origin, split_url
from resources.failures import PermanentFailure

OWNER_ALONE = 0o700
RUN_SIZES = {
    "daily": ("1", "4Gi"),
    "weekly": ("2", "4Gi"),
    "nightly": ("2", "8Gi"),
    "monthly": ("2", "8Gi"),
    "drift": ("1", "4Gi"),
    "report": ("1", "4Gi"),
    "upkeep": ("500m", "2Gi"),
    "other": ("2", "8Gi"),
}
"""CPU and memory of a run's pod by its kind (the tag irt/kind), enough for 10⁵ answers a window. `other` are untagged:
assets that somebody chose, or automation."""
RUN_SIZE = re.compile(r"(?P<kind>[a-z]+)=(?P<cpu>\d+m|\d+(\.\d+)?)/(?P<memory>\d+[MG]i)")
SILENT_AFTER = re.compile(r"(?P<source>.+)=(?:never|(?P<n>[1-9]\d{0,4})(?P<unit>[mhd]))")
TIME_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
LIBPQ = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE")
METRICS_OF = {"daemon": 1, "code-server": 2, "webserver": 3}
"""Servers without a port of their own, and how far behind IRT_EXPORTER_METRICS_PORT each shows its metrics."""
MAX_ATTEMPTS_OF_A_RUN = 20_000_000
"""Limit per month of a scale on Spark, where this many took 3.7 GB at most. If a month is larger, a run reads a random
sample of its learners."""
KUBERNETES = "KUBERNETES_SERVICE_HOST"
"""Set in every container of every pod."""


time_zones = cache(available_timezones)
"""Read from the machine's disk, which takes 20 ms."""


def _entries(value: str) -> list[str]:
    return [entry for part in value.split(",") if (entry := part.strip())]


def _such(fits: Callable[[str], object], otherwise: str) -> AfterValidator:
    """Refuse a set value for which `fits` is false, with this sentence: "must be FORM, such as EXAMPLE". `_fault` puts
    the setting's name before it."""

    def check(value: str | None) -> str | None:
        if value is not None and not fits(value):
            raise ValueError(otherwise)
        return value

    return AfterValidator(check)


def _each(fits: Callable[[str], object], otherwise: str) -> AfterValidator:
    """Refuse a list with commas if `fits` is false for an entry."""
    return _such(lambda value: all(map(fits, _entries(value))), otherwise)


def _is_encrypted(url: str) -> bool:
    parts = urlsplit(url)
    origin = parse_origin(f"{parts.scheme}://{parts.netloc}")
    return bool(origin and not parts.fragment and (origin.scheme == "https" or origin.address.is_loopback))


def _is_run_size(entry: str) -> bool:
    found = RUN_SIZE.fullmatch(entry)
    return bool(found and found["kind"] in RUN_SIZES)


MONTH = _such(re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])").fullmatch, "must be a month, such as 2026-07")
SCHEMA_NAME = _such(
    re.compile("[a-z_][a-z0-9_]{0,62}").fullmatch, "must be a name of small letters, digits and _, such as irt"
)
TIME_ZONE = _such(lambda zone: zone in time_zones(), "must be the name of a time zone, such as Europe/Berlin")
ADDRESS = _such(split_url, "")
"""`split_url` raises its own message."""
ENCRYPTED_ADDRESS = _such(
    _is_encrypted, "must be https://HOST/PATH (http only for this machine), without a user name or a #"
)
COOKIE_NAME = _such(
    re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII).fullmatch,
    "must be a name of letters, digits, - and _, such as __Host-irt",
)
HOST_AND_PORT = _such(
    lambda value: (address := parse_address(value)) and address.port is not None,
    "must be HOST:PORT, such as irt-code-server:4266",
)
SPARK_MASTER = _such(
    re.compile(
        r"local\[(\*|[1-9]\d*)\]"
        r"|spark://[^\s/:,]+:\d+(,[^\s/:,]+:\d+)*"
        r"|sc://[^\s/:;]+(:\d+)?(/(;[^\s;=]+=[^\s;]*)*)?"
        r"|k8s://\S+"
    ).fullmatch,
    "must be local[N] or local[*], spark://HOST:PORT, sc://HOST or sc://HOST:PORT (Spark Connect), or "
    "k8s://https://HOST:PORT",
)
SOME_RUN_SIZES = _each(
    _is_run_size,
    "must be KIND=CPU/MEMORY with commas, such as monthly=4/16Gi,daily=500m/2Gi; kinds: " + ", ".join(RUN_SIZES),
)
SILENCES = _each(
    SILENT_AFTER.fullmatch,
    "must be SOURCE=TIME with commas between them, such as service=2h,other=never; a comma in a name is %2C",
)
ROLE_NAMES = _each(
    re.compile(r".+=[a-z]+").fullmatch,
    "must be THEIRS=OURS with commas between them, such as admin=operator,teacher=viewer",
)
INBOX = _such(
    re.compile(r"/.+|s3://[^/\s]+(/.*)?").fullmatch,
    "must be the whole path of a folder, such as /srv/irt-inbox, or s3://BUCKET/PREFIX",
)


class Settings(BaseSettings):
    """Typed settings. Field names are the environment variables' names in lower case."""

    model_config = SettingsConfigDict(extra="ignore", env_file_encoding="utf-8", frozen=True, hide_input_in_errors=True)

    irt_home: Annotated[Path, AfterValidator(lambda home: home.expanduser().absolute())] = Field(
        Path(".irt"), description="folder of the embedded database, snapshots and logs"
    )
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL; unset: the server that PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE name, else "
        "an embedded one under IRT_HOME",
    )
    irt_db_schema: Annotated[str | None, SCHEMA_NAME] = Field(
        None, description="schema of our tables; unset: the one that has them; for new ones public if empty, else irt"
    )
    irt_dagster_schema: Annotated[str, SCHEMA_NAME] = Field(
        "dagster", description="schema of Dagster's tables, in the same database"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="lowest level that is logged")
    log_format: Literal["text", "json"] | None = Field(
        None, description="format of the log; unset: text on a terminal, else json"
    )
    s3_bucket: str | None = Field(None, description="bucket of snapshots and reports; unset: a folder under IRT_HOME")
    irt_first_month: Annotated[str, MONTH] = Field("2025-01", description="first month of the partitions, e.g. 2026-07")
    irt_time_zone: Annotated[str, TIME_ZONE] = Field(
        "UTC", description="time zone of displays; partitions are always UTC"
    )
    irt_run_launcher: Literal["process", "kubernetes"] = Field(
        "process", description="how runs are started: as children of the code server, or each as a Job of the cluster"
    )
    irt_run_launcher_config: str = Field(
        "{}",
        description="in a cluster: the configuration of dagster_k8s.K8sRunLauncher, in YAML, as in deploy/k8s/base",
    )
    irt_run_resources: Annotated[str, SOME_RUN_SIZES] = Field(
        "", description="what kinds of runs get in a cluster, KIND=CPU/MEMORY with commas, e.g. monthly=4/16Gi"
    )
    irt_run_key: str | None = Field(
        None, description="name under which `irt job` asks for runs: asked again under it, it waits for the same ones"
    )
    irt_inbox: Annotated[str | None, INBOX] = Field(
        None, description="folder, or s3://BUCKET/PREFIX, whose files of answers, items and learners are taken"
    )
    irt_code_server: Annotated[str | None, HOST_AND_PORT] = Field(
        None, description="HOST:PORT of the code server on another host; unset: a socket under IRT_HOME"
    )
    irt_threads: int = Field(2, ge=1, description="threads of the compiled kernels; sums depend on it")
    irt_schedules: Literal["running", "stopped", "external"] = Field(
        "running",
        description="state of schedules until someone sets it; external: stopped, as CronJobs ask at their times",
    )
    irt_spark: Annotated[str | None, SPARK_MASTER] = Field(
        None, description="Apache Spark that reads the log: local[2], spark://, k8s:// or sc://HOST; unset: PostgreSQL"
    )
    irt_attempts: str | None = Field(
        None, description="where Spark finds the attempts: the folder or s3:// URL of a lake"
    )
    r_irt_base_url: str | None = Field(None, description="R IRT service of the engine remote, e.g. http://r-irt:8000")
    r_irt_internal_token: SecretStr | None = Field(None, description="its bearer token")
    irt_engines: str = Field(
        "", description="engines that fit each month besides em: ENGINE, or SCALE:ENGINE for one scale, with commas"
    )
    irt_engine_timeout_minutes: float = Field(
        120, gt=0, description="minutes after which a fit in a child process (every engine but em) is given up"
    )
    report_output_dir: Path | None = Field(
        None, description="folder into which `irt report` writes; unset: reports under IRT_HOME"
    )
    irt_invariants_strict: bool = Field(
        False, description="irt job invariants, and its unit, end with exit status 3 while an invariant is violated"
    )
    irt_ui_port: int = Field(3000, ge=1, le=65535, description="port of the Dagster UI")
    irt_ui_url: Annotated[str | None, ADDRESS] = Field(
        None,
        description="where people reach the UI, e.g. https://example.org/dagster; unset: http://localhost:IRT_UI_PORT",
    )
    irt_ui_learner_reports: bool | None = Field(
        None, description="whether the UI hands out learners' reports; unset: while it answers to this machine alone"
    )
    irt_org_id: str | None = Field(None, description="the organisation whose tokens are accepted")
    jwt_issuer: str | None = Field(None, description="issuer that a token must come from (iss)")
    jwt_audience: str | None = Field(None, description="audience that a token must be issued for (aud)")
    jwt_public_key_path: Path | None = Field(None, description="PEM file of the issuer's public key")
    jwt_jwks_url: Annotated[str | None, ENCRYPTED_ADDRESS] = Field(
        None, description="instead: https URL where the issuer publishes its keys"
    )
    jwt_algorithm: Literal["RS256", "ES256", "EdDSA"] | None = Field(
        None, description="the only algorithm that is accepted; unset: the one of each key's type"
    )
    jwt_roles: Annotated[str, ROLE_NAMES] = Field(
        "",
        description="roles of the company's login = roles here, with commas, such as admin=operator,teacher=viewer; "
        "a role that is not listed grants nothing; unset: tokens have the names of the roles here",
    )
    jwt_roles_claim: str = Field(
        "roles", min_length=1, description="claim with the list of roles; dots lead into it, as in realm_access.roles"
    )
    jwt_org_claim: str = Field(
        "org_id",
        min_length=1,
        description="claim with the organisation; none: tokens name no organisation, and all belong to IRT_ORG_ID",
    )
    jwt_cookie_name: Annotated[str, COOKIE_NAME] = Field(
        "__Host-irt", description="cookie in which browsers send the token"
    )
    irt_exporter_metrics_port: int = Field(
        9464,
        ge=1,
        le=65532,
        description="port of the exporter's metrics; those of the daemon, the code server and the Dagster UI have the "
        "next three",
    )
    prometheus_metrics_port: int | None = Field(
        None, ge=1, le=65535, description="port where the θ API serves its metrics, besides its own /metrics"
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        None, description="collector of traces, e.g. http://tempo:4318 (OTLP/HTTP) or :4317 (gRPC); unset: no traces"
    )
    port: int = Field(9000, ge=1, le=65535, description="port of the JWT verifier")
    irt_theta_host: str = Field("127.0.0.1", description="address on which the θ API listens")
    irt_theta_port: int = Field(8001, ge=1, le=65535, description="port of the θ API")
    irt_dashboard_port: int = Field(8080, ge=1, le=65535, description="port of the dashboard")
    irt_dashboard_url: Annotated[str | None, ADDRESS] = Field(
        None,
        description="where people reach the dashboard; assets, alerts and reports of months to decide on link to it",
    )
    irt_theta_token: SecretStr | None = Field(None, description="token with which services call the θ API")
    enable_irt_online_update: bool = Field(
        False,
        description="update θ after each session; theta_sweep then updates what the session hook lost. "
        "Enough on the exam service or the θ API",
    )
    irt_xapi_home_page: str | None = Field(
        None, description="homePage of the accounts whose names are learners' ids, in statements of xAPI"
    )
    irt_xapi_item_prefix: str = Field("", description="what stands before the item's id in the id of xAPI's activity")
    irt_silent_after: Annotated[str, SILENCES] = Field(
        "",
        description="after how long without answers a source is silent (an alert), instead of twice its longest usual "
        "pause, e.g. service=2h,other=never; m, h or d; names as irt status has them, a comma as %2C",
    )
    irt_pull_sources: Path | None = Field(
        None, description="file of the sources that irt pull reads, mode 600, such as /etc/irt/sources.yaml"
    )
    env_name: str = Field("", description="name of this installation, in every alert, e.g. production")
    slack_webhook_url: SecretStr | None = Field(None, description="alerts to Slack: an incoming webhook")
    discord_webhook_url: SecretStr | None = Field(None, description="alerts to Discord: a channel's webhook")
    alert_email: str | None = Field(None, description="alerts by e-mail: addresses, separated by commas")
    smtp_url: SecretStr = Field(
        SecretStr("smtp://localhost:25"),
        description="smtp://user:password@host:port (587: STARTTLS), or smtps://; ends with ?from=SENDER if that is "
        "neither the user nor irt-assets@this host",
    )
    pd_routing_key: SecretStr | None = Field(None, description="alerts to PagerDuty: an Events API v2 integration key")
    alert_webhook_url: SecretStr | None = Field(None, description="alerts as JSON, posted to this http(s) URL")
    irt_watchdog_url: SecretStr | None = Field(
        None,
        description="http(s) URL that is requested after each night's calibration that succeeded, for a monitor that "
        "alerts when the requests stop; the URL is a secret",
    )

    @model_validator(mode="before")
    @classmethod
    def _libpqs_variables(cls, values: dict[str, Any]) -> dict[str, Any]:
        """DATABASE_URL from PGHOST and PGDATABASE or PGUSER if it is not set at all; an empty one means the embedded
        server. As for libpq, the database has the user's name if it has no other.

        A developer's PGHOST or PGUSER alone is meant for another program.
        """
        host, port, user, password, name = (os.environ.get(one, values.get(one.lower())) for one in LIBPQ)
        name = name or user
        if "database_url" in values or not (host and name):
            return values
        account = ":".join(quote(part, safe="") for part in (user, password if user else None) if part)
        server = f"{quote(host, safe='')}:{port or 5432}"
        url = f"postgresql://{account}{'@' if account else ''}{server}/{quote(name, safe='')}"
        return {**values, "database_url": url}

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object, info: ValidationInfo) -> object:
        may_be_unset = cls.model_fields[str(info.field_name)].default is None
        return None if value == "" and may_be_unset else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _no_port_of_metrics_is_taken(self) -> Self:
        ports = {name: port for name, port in self if name.endswith("_port") and port is not None}
        ports |= {f"irt_exporter_metrics_port + {n}": self.metrics_port(name) for name, n in METRICS_OF.items()}
        for name, port in ports.items():
            other = next((other for other in ports if other != name and ports[other] == port), None)
            if other and "metrics_port" in name:
                raise ValueError(f"{name.upper()} and {other.upper()} are both {port}: give each server its own port")
        return self

    @model_validator(mode="after")
    def _two_schemas(self) -> Self:
        if self.irt_db_schema == self.irt_dagster_schema:
            raise ValueError("IRT_DB_SCHEMA and IRT_DAGSTER_SCHEMA name one schema: both have tables of one name")
        return self

    def metrics_port(self, server: str) -> int:
        """The port on which one of `METRICS_OF` shows its metrics."""
        return self.irt_exporter_metrics_port + METRICS_OF[server]

    @property
    def engine_timeout_s(self) -> float:
        """Seconds after which a fit in a child process is given up."""
        return 60 * self.irt_engine_timeout_minutes

    @property
    def most_for_run(self) -> int | None:
        """Attempts that a run reads into its process. None without IRT_SPARK: there is no limit."""
        return MAX_ATTEMPTS_OF_A_RUN if self.irt_spark else None

    @property
    def login_roles(self) -> dict[str, str]:
        """What each role of the company's login is here."""
        return dict(entry.rsplit("=", 1) for entry in _entries(self.jwt_roles))

    def run_resources(self, kind: str) -> dict[str, dict[str, str]]:
        """Resources of the container of a run of this kind, as Kubernetes writes them."""
        chosen = filter(None, map(RUN_SIZE.fullmatch, _entries(self.irt_run_resources)))
        cpu, memory = (RUN_SIZES | {one["kind"]: (one["cpu"], one["memory"]) for one in chosen})[kind]
        return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}

    @property
    def silent_after(self) -> dict[str, timedelta | None]:
        """How long sources may be silent; None: for ever."""
        found = filter(None, map(SILENT_AFTER.fullmatch, _entries(self.irt_silent_after)))
        return {
            unquote(one["source"]): timedelta(**{TIME_UNITS[one["unit"]]: int(one["n"])}) if one["n"] else None
            for one in found
        }

    @property
    def ui_url(self) -> str:
        """Where people reach the UI, without a slash at the end."""
        return (self.irt_ui_url or f"http://localhost:{self.irt_ui_port}").rstrip("/")

    @property
    def dashboard_url(self) -> str | None:
        """Where people reach the dashboard, without a slash at the end; None where nobody said."""
        return self.irt_dashboard_url and self.irt_dashboard_url.rstrip("/")

    @property
    def ui_prefix(self) -> str:
        """The path before all paths of the UI, e.g. `/dagster`; empty where it has a host name to itself."""
        return split_url(self.ui_url)[1]

    @property
    def ui_names(self) -> Names:
        """The names under which the UI answers."""
        return Names(split_url(self.irt_ui_url)[0] if self.irt_ui_url else None)

    @property
    def has_login(self) -> bool:
        """Whether a login is configured, so that the UI needs a token."""
        named = (self.jwt_issuer, self.jwt_audience, self.jwt_public_key_path, self.jwt_jwks_url)
        return any(value is not None for value in named)

    @property
    def ui_address(self) -> str:
        """Address on which the UI listens: in a pod every one if there is a login, else this machine's alone, because
        anyone who reaches a UI without a login can start runs."""
        return "0.0.0.0" if self.has_login and in_a_pod() else "127.0.0.1"  # noqa: S104 - behind a login

    @property
    def ui_hands_out_learner_reports(self) -> bool:
        """The setting; by default, whether the UI listens on this machine only."""
        if self.irt_ui_learner_reports is not None:
            return self.irt_ui_learner_reports
        return self.ui_names.only_this_machine


def in_a_pod() -> bool:
    """Whether Kubernetes started this process: what it keeps on its disk is gone with it."""
    return bool(os.environ.get(KUBERNETES))


def refuse_in_a_pod(setting: str, what: str, way_out: str) -> None:
    """Raise PermanentFailure in a pod, where nothing may be kept that an unset `setting` would put on its disk."""
    if in_a_pod():
        raise PermanentFailure(f"{setting} is not set, and {what} in a pod would be lost with it: {way_out}")


@cache
def get_settings() -> Settings:
    """The process's settings, read once. Raises PermanentFailure that names what is wrong, and repeats no value."""
    home = Path(os.environ.get("IRT_HOME", ".irt"))
    env_file = os.environ.get("IRT_ENV_FILE", home / "irt.env")
    try:
        return Settings(_env_file=env_file)  # type: ignore[call-arg]
    except ValidationError as error:
        raise PermanentFailure("\n".join(map(_fault, error.errors(include_input=False)))) from None
    except UnicodeDecodeError:
        raise PermanentFailure(f"the env file {env_file} is not UTF-8 text: save it as UTF-8") from None


def _fault(problem: ErrorDetails) -> str:
    name = ".".join(str(part) for part in problem["loc"]).upper()
    said = problem["msg"].removeprefix("Value error, ")
    return f"setting {name}: {said}" if name else said


def private_home(settings: Settings) -> Path:
    """IRT_HOME, made for its owner alone, or closed to others: answers, names and passwords lie in it.

    Left as it is where it belongs to someone else (a mounted volume) or to everyone (/tmp). Raises PermanentFailure
    where it cannot be made.
    """
    home = settings.irt_home
    try:
        home.mkdir(mode=OWNER_ALONE, parents=True, exist_ok=True)
        there = home.stat()
        everybodys = there.st_mode & stat.S_ISVTX
        if there.st_uid == os.geteuid() and stat.S_IMODE(there.st_mode) & ~OWNER_ALONE and not everybodys:
            home.chmod(OWNER_ALONE)
    except OSError as error:
        raise PermanentFailure(
            f"IRT_HOME {home} cannot be used ({error.strerror}): set IRT_HOME to a folder that you may write to"
        ) from error
    return home


def names_read() -> set[str]:
    """Every environment variable that means something here, and those the tests and the servers hand on."""
    return {name.upper() for name in Settings.model_fields} | {
        *LIBPQ,
        "IRT_ENV_FILE",
        "IRT_SHARED",
        "IRT_UNIT",
        "IRT_REQUIRE_ALL",
        "IRT_PICTURES",
        "IRT_CODE_SERVER_HOST",
        "IRT_CODE_SERVER_PORT",
        "IRT_CODE_SERVER_SOCKET",
        "IRT_DAGSTER_COMPUTE_LOGS",
        "IRT_DAGSTER_DATABASE_URL",
        "IRT_DAGSTER_STORAGE",
        "DAGSTER_CURRENT_IMAGE",
        "POD_NAMESPACE",
    }


def names_set(settings: Settings) -> dict[str, str]:
    """The variables that seem meant for this program, IRT_… and the env file's, each with its source."""
    env_file = Path(os.environ.get("IRT_ENV_FILE", settings.irt_home / "irt.env"))
    in_file = dotenv_values(env_file) if env_file.is_file() else {}
    in_environment = {name for name in os.environ if name.startswith("IRT_")}
    return {name.upper(): str(env_file) for name in in_file} | dict.fromkeys(in_environment, "the environment")


def write_env_file(settings: Settings, **values: str) -> Path:
    """Set `values` (setting names) in the env file under IRT_HOME, keeping every other line. `get_settings` reads them
    from now on."""
    path = private_home(settings) / "irt.env"
    named = {name.upper(): value for name, value in values.items()}
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if line.split("=")[0].strip() not in named]
    fresh = path.with_name("irt.env.new")
    fresh.touch(mode=0o600)
    fresh.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in named.items())]) + "\n", "utf-8")
    fresh.replace(path)
    get_settings.cache_clear()
    return path
