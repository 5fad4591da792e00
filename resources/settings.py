"""The settings. Only this module reads them from the environment; other code gets a `Settings`.

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

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

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
"""CPU and memory of a run's pod by its kind (the tag irt/kind), enough for 10⁵ answers in a window. `other` are runs
without the tag: assets that a person chose, or automation."""
RUN_SIZE = re.compile(r"(?P<kind>[a-z]+)=(?P<cpu>\d+m|\d+(\.\d+)?)/(?P<memory>\d+[MG]i)")
SILENT_AFTER = re.compile(r"(?P<source>.+)=(?:never|(?P<n>[1-9]\d{0,4})(?P<unit>[mhd]))")
TIME_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
LIBPQ = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE")
METRICS_OF = {"daemon": 1, "code-server": 2, "webserver": 3}
"""Servers without a setting for their metrics' port, with the offset of the port from IRT_EXPORTER_METRICS_PORT."""
MAX_ATTEMPTS_OF_A_RUN = 20_000_000
"""Largest number of attempts per month of a scale that a run on Spark reads; they took at most 3.7 GB. If a month is
larger, the run reads a random sample of its learners."""
KUBERNETES = "KUBERNETES_SERVICE_HOST"
"""Variable that Kubernetes sets in every container of every pod."""


time_zones = cache(available_timezones)
"""Names of time zones. They are cached, because reading them from disk takes 20 ms."""


def _entries(value: str) -> list[str]:
    return [entry for part in value.split(",") if (entry := part.strip())]


def _such(fits: Callable[[str], object], message: str) -> AfterValidator:
    """Reject a value for which `fits` is false, with `message`: "must be FORM, such as EXAMPLE".

    `_fault` puts the setting's name before the message.
    """

    def check(value: str | None) -> str | None:
        if value is not None and not fits(value):
            raise ValueError(message)
        return value

    return AfterValidator(check)


def _each(fits: Callable[[str], object], message: str) -> AfterValidator:
    """Reject a list with commas if `fits` is false for an entry."""
    return _such(lambda value: all(map(fits, _entries(value))), message)


def _is_encrypted(url: str) -> bool:
    parts = urlsplit(url)
    origin = parse_origin(f"{parts.scheme}://{parts.netloc}")
    return bool(origin and not parts.fragment and (origin.scheme == "https" or origin.address.is_loopback))


def _is_run_size(entry: str) -> bool:
    match = RUN_SIZE.fullmatch(entry)
    return bool(match and match["kind"] in RUN_SIZES)


MONTH = _such(re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])").fullmatch, "must be a month, such as 2026-07")
SCHEMA_NAME = _such(
    re.compile("[a-z_][a-z0-9_]{0,62}").fullmatch, "must be a name of lower-case letters, digits and _, such as irt"
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
    "must be the absolute path of a folder, such as /srv/irt-inbox, or s3://BUCKET/PREFIX",
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
        "an embedded server under IRT_HOME",
    )
    irt_db_schema: Annotated[str | None, SCHEMA_NAME] = Field(
        None,
        description="schema of our tables; unset: the schema that has them; in a new installation public if it is "
        "empty, else irt",
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
        "process", description="start of runs: as children of the code server, or each as a Job of the cluster"
    )
    irt_run_launcher_config: str = Field(
        "{}",
        description="in a cluster: the configuration of dagster_k8s.K8sRunLauncher, in YAML, as in deploy/k8s/base",
    )
    irt_run_resources: Annotated[str, SOME_RUN_SIZES] = Field(
        "", description="CPU and memory of runs in a cluster: KIND=CPU/MEMORY with commas, e.g. monthly=4/16Gi"
    )
    irt_run_key: str | None = Field(
        None, description="name under which `irt job` requests runs: with the same name, it waits for the same runs"
    )
    irt_inbox: Annotated[str | None, INBOX] = Field(
        None, description="folder, or s3://BUCKET/PREFIX, whose files of answers, items and learners are imported"
    )
    irt_code_server: Annotated[str | None, HOST_AND_PORT] = Field(
        None, description="HOST:PORT of the code server on another host; unset: a socket under IRT_HOME"
    )
    irt_threads: int = Field(2, ge=1, description="threads of the compiled kernels; sums depend on it")
    irt_schedules: Literal["running", "stopped", "external"] = Field(
        "running",
        description="state of schedules until someone switches them; external: stopped, because CronJobs replace them",
    )
    irt_spark: Annotated[str | None, SPARK_MASTER] = Field(
        None, description="Apache Spark that reads the log: local[2], spark://, k8s:// or sc://HOST; unset: PostgreSQL"
    )
    irt_attempts: str | None = Field(
        None, description="location of the attempts for Spark: the folder or s3:// URL of a lake"
    )
    r_irt_base_url: str | None = Field(None, description="R IRT service of the engine remote, e.g. http://r-irt:8000")
    r_irt_internal_token: SecretStr | None = Field(None, description="bearer token of the R IRT service")
    irt_engines: str = Field(
        "",
        description="engines that fit each month in addition to em: ENGINE, or SCALE:ENGINE for one scale, with commas",
    )
    irt_engine_timeout_minutes: float = Field(
        120, gt=0, description="minutes after which a fit in a child process (every engine but em) is given up"
    )
    report_output_dir: Path | None = Field(
        None, description="folder to which `irt report` writes; unset: reports under IRT_HOME"
    )
    irt_letterhead: Path | None = Field(
        None,
        description="folder with the sender's part of letters to learners: logo.png or logo.jpg, address.txt and "
        "closing.txt, or closing.de.txt for one language",
    )
    irt_invariants_strict: bool = Field(
        False, description="irt job invariants, and its unit, end with exit status 3 if an invariant is violated"
    )
    irt_ui_port: int = Field(3000, ge=1, le=65535, description="port of the Dagster UI")
    irt_ui_url: Annotated[str | None, ADDRESS] = Field(
        None,
        description="address of the UI, e.g. https://example.org/dagster; unset: http://localhost:IRT_UI_PORT",
    )
    irt_ui_learner_reports: bool | None = Field(
        None, description="whether the UI serves learners' reports; unset: only under names of this machine"
    )
    irt_org_id: str | None = Field(None, description="the organisation whose tokens are accepted")
    jwt_issuer: str | None = Field(None, description="issuer that a token must come from (iss)")
    jwt_audience: str | None = Field(None, description="audience that a token must be issued for (aud)")
    jwt_public_key_path: Path | None = Field(None, description="PEM file of the issuer's public key")
    jwt_jwks_url: Annotated[str | None, ENCRYPTED_ADDRESS] = Field(
        None, description="https URL at which the issuer publishes its keys, instead of JWT_PUBLIC_KEY_PATH"
    )
    jwt_algorithm: Literal["RS256", "ES256", "EdDSA"] | None = Field(
        None, description="the only algorithm that is accepted; unset: the algorithm of each key's type"
    )
    jwt_roles: Annotated[str, ROLE_NAMES] = Field(
        "",
        description="roles of the company's login = roles here, with commas, such as admin=operator,teacher=viewer; "
        "a role that is not listed grants nothing; unset: tokens have the names of the roles here",
    )
    jwt_roles_claim: str = Field(
        "roles", min_length=1, description="claim with the list of roles; nested claims as in realm_access.roles"
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
        description="port of the exporter's metrics; the next three are for those of the daemon, the code server and "
        "the Dagster UI",
    )
    prometheus_metrics_port: int | None = Field(
        None, ge=1, le=65535, description="additional port for the metrics of the θ API (also at its /metrics)"
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
        description="address of the dashboard; assets, alerts and reports of months that need a decision link to it",
    )
    irt_theta_token: SecretStr | None = Field(None, description="token with which services call the θ API")
    enable_irt_online_update: bool = Field(
        False,
        description="update θ after each session; theta_sweep then updates θ if a request of the session hook was "
        "lost. It is enough to set it on the exam service or on the θ API",
    )
    irt_xapi_home_page: str | None = Field(
        None, description="homePage of the accounts whose names are learners' ids, in statements of xAPI"
    )
    irt_xapi_item_prefix: str = Field("", description="text before the item's id in the id of xAPI's activity")
    irt_silent_after: Annotated[str, SILENCES] = Field(
        "",
        description="time without answers after which a source is silent (an alert), instead of twice its longest "
        "usual pause, e.g. service=2h,other=never; units m, h, d; names as in irt status, with %2C for a comma",
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
        description="smtp://user:password@host:port (587: STARTTLS), or smtps://; ends with ?from=SENDER if the sender "
        "is neither the user nor irt-assets@this host",
    )
    pd_routing_key: SecretStr | None = Field(None, description="alerts to PagerDuty: an Events API v2 integration key")
    alert_webhook_url: SecretStr | None = Field(None, description="alerts as JSON, posted to this http(s) URL")
    alert_learners: Literal["count", "key", "id"] = Field(
        "count",
        description="how alerts name learners: by their number, by learner keys or by ids; pages and reports do not "
        "change",
    )
    irt_watchdog_url: SecretStr | None = Field(
        None,
        description="http(s) URL that is requested after each night whose calibration succeeded, for a monitor that "
        "alerts when the requests stop; the URL is a secret",
    )

    @model_validator(mode="before")
    @classmethod
    def _libpqs_variables(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Set DATABASE_URL from libpq's variables if it is not set at all; an empty one means the embedded server.

        PGHOST and PGDATABASE or PGUSER are needed: PGHOST or PGUSER alone is probably meant for another program. As in
        libpq, the database's name is by default the user's.
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
            raise ValueError(
                "IRT_DB_SCHEMA and IRT_DAGSTER_SCHEMA name the same schema: both have tables with the same name"
            )
        return self

    def metrics_port(self, server: str) -> int:
        """The port for the metrics of a server of `METRICS_OF`."""
        return self.irt_exporter_metrics_port + METRICS_OF[server]

    @property
    def engine_timeout_s(self) -> float:
        """Seconds after which a fit in a child process is given up."""
        return 60 * self.irt_engine_timeout_minutes

    @property
    def most_for_run(self) -> int | None:
        """Largest number of attempts that a run reads into its process. None without IRT_SPARK: there is no limit."""
        return MAX_ATTEMPTS_OF_A_RUN if self.irt_spark else None

    @property
    def login_roles(self) -> dict[str, str]:
        """Our role for each role of the company's login."""
        return dict(entry.rsplit("=", 1) for entry in _entries(self.jwt_roles))

    def run_resources(self, kind: str) -> dict[str, dict[str, str]]:
        """Resources of the container of a run of this kind, in Kubernetes' format."""
        sizes = filter(None, map(RUN_SIZE.fullmatch, _entries(self.irt_run_resources)))
        cpu, memory = (RUN_SIZES | {size["kind"]: (size["cpu"], size["memory"]) for size in sizes})[kind]
        return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}

    @property
    def silent_after(self) -> dict[str, timedelta | None]:
        """Time for which each source may be silent, or None if it may be silent forever."""
        entries = filter(None, map(SILENT_AFTER.fullmatch, _entries(self.irt_silent_after)))
        return {
            unquote(entry["source"]): timedelta(**{TIME_UNITS[entry["unit"]]: int(entry["n"])}) if entry["n"] else None
            for entry in entries
        }

    @property
    def ui_url(self) -> str:
        """Address of the UI, without a slash at the end."""
        return (self.irt_ui_url or f"http://localhost:{self.irt_ui_port}").rstrip("/")

    @property
    def dashboard_url(self) -> str | None:
        """Address of the dashboard, without a slash at the end, or None if it is not set."""
        return self.irt_dashboard_url and self.irt_dashboard_url.rstrip("/")

    @property
    def ui_prefix(self) -> str:
        """The path before all paths of the UI, e.g. `/dagster`; empty if the UI has its own host name."""
        return split_url(self.ui_url)[1]

    @property
    def ui_names(self) -> Names:
        """The host names that the UI accepts."""
        return Names(split_url(self.irt_ui_url)[0] if self.irt_ui_url else None)

    @property
    def has_login(self) -> bool:
        """Whether a login is configured, so that the UI needs a token."""
        values = (self.jwt_issuer, self.jwt_audience, self.jwt_public_key_path, self.jwt_jwks_url)
        return any(value is not None for value in values)

    @property
    def ui_address(self) -> str:
        """Address on which the UI listens: all addresses in a pod with a login, else only this machine.

        Anyone who reaches a UI without a login can start runs.
        """
        return "0.0.0.0" if self.has_login and in_a_pod() else "127.0.0.1"  # noqa: S104 - behind a login

    @property
    def ui_hands_out_learner_reports(self) -> bool:
        """The setting IRT_UI_LEARNER_REPORTS; by default, whether the UI accepts only names of this machine."""
        if self.irt_ui_learner_reports is not None:
            return self.irt_ui_learner_reports
        return self.ui_names.only_this_machine


def in_a_pod() -> bool:
    """Whether Kubernetes started this process, whose files on disk are then lost when it ends."""
    return bool(os.environ.get(KUBERNETES))


def refuse_in_a_pod(setting: str, subject: str, remedy: str) -> None:
    """Raise PermanentFailure in a pod, where `subject`, used if `setting` is unset, would be lost with the pod."""
    if in_a_pod():
        raise PermanentFailure(f"{setting} is not set, and {subject} in a pod would be lost with it: {remedy}")


@cache
def get_settings() -> Settings:
    """The process's settings, read once. Raises PermanentFailure, which names all faults and repeats no value."""
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
    message = problem["msg"].removeprefix("Value error, ")
    return f"setting {name}: {message}" if name else message


def private_home(settings: Settings) -> Path:
    """IRT_HOME, created or restricted so that only its owner has access: it contains answers, names and passwords.

    Its mode stays as it is if it belongs to another user (a mounted volume) or to everyone (/tmp). Raises
    PermanentFailure if it cannot be created.
    """
    home = settings.irt_home
    try:
        home.mkdir(mode=OWNER_ALONE, parents=True, exist_ok=True)
        status = home.stat()
        is_shared = status.st_mode & stat.S_ISVTX
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & ~OWNER_ALONE and not is_shared:
            home.chmod(OWNER_ALONE)
    except OSError as error:
        raise PermanentFailure(
            f"IRT_HOME {home} cannot be used ({error.strerror}): set IRT_HOME to a folder that you may write to"
        ) from error
    return home


def known_names() -> set[str]:
    """All environment variables that this program reads, or that its tests and servers pass on."""
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


def configured_names(settings: Settings) -> dict[str, str]:
    """The variables that are probably meant for this program (IRT_… and the env file's), each with its source."""
    env_file = Path(os.environ.get("IRT_ENV_FILE", settings.irt_home / "irt.env"))
    in_file = DotEnvSettingsSource(Settings, env_file=env_file).env_vars
    in_environment = {name for name in os.environ if name.startswith("IRT_")}
    return {name.upper(): str(env_file) for name in in_file} | dict.fromkeys(in_environment, "the environment")


def write_env_file(settings: Settings, **values: str) -> Path:
    """Set `values`, by names of settings, in the env file under IRT_HOME, and keep its other lines.

    `get_settings` reads them from now on. Returns the file.
    """
    path = private_home(settings) / "irt.env"
    values_by_name = {name.upper(): value for name, value in values.items()}
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    other_lines = [line for line in lines if line.split("=")[0].strip() not in values_by_name]
    fresh = path.with_name("irt.env.new")
    fresh.touch(mode=0o600)
    fresh.write_text(
        "\n".join([*other_lines, *(f"{name}={value}" for name, value in values_by_name.items())]) + "\n", "utf-8"
    )
    fresh.replace(path)
    get_settings.cache_clear()
    return path
