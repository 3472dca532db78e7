"""Configuration: one TOML file plus the environment, which wins; checked whole at the start."""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from netaddr import IPNetwork
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from controller.config.values import read_networks, read_rate_setting, refuse
from flows.errors import CloudtapError
from flows.model.session import PATH_MTUS, Rate
from flows.model.world import LINK_MTU, UNDERLAY_MTU

DEFAULT_FILE = Path("/etc/cloudtap/cloudtap.toml")
"""Read when neither ``--config`` nor ``CLOUDTAP_CONFIG`` names another file; it may be missing."""

LOCAL_OVSDB = "unix:/run/openvswitch/db.sock"
"""Where Open vSwitch of this machine listens on Debian and its like."""

_PREFIX = "CLOUDTAP_"


class ConfigError(CloudtapError):
    """The configuration cannot be used; ``problems`` holds one sentence for each mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def _check_listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise refuse(f"{value!r} is not an address to listen on: write it like 127.0.0.1:9470")
    if ":" in bare and host != f"[{bare}]":
        raise refuse(f"{value!r} has an IPv6 address without brackets: write it like [::1]:9470")
    return value


def _check_remote(value: str) -> str:
    scheme, colon, rest = value.partition(":")
    if not colon or scheme not in ("unix", "tcp", "ssl") or not rest:
        raise refuse(
            f"{value!r} is not an OVSDB server: write unix:/path, tcp:192.0.2.1:6640 "
            "or ssl:192.0.2.1:6640"
        )
    if scheme != "unix":
        _check_listen(rest)
    return value


def _check_file(value: Path) -> Path:
    try:
        with value.open("rb"):
            return value
    except OSError as error:
        raise refuse(f"file {str(value)!r} cannot be read: {error.strerror}") from error


def _split_commas(value: object) -> object:
    """Let the environment give a list as `a, b`."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _names_or_all(value: object) -> object:
    return value if value == "all" else _split_commas(value)


def _state_directory() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/cloudtap")
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "cloudtap"


Listen = Annotated[str, AfterValidator(_check_listen)]
Remote = Annotated[str, AfterValidator(_check_remote)]
ReadableFile = Annotated[Path, AfterValidator(_check_file)]


class Section(BaseModel):
    """One table of the file."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class _Tls(Section):
    certificate: ReadableFile | None = Field(None, description="Certificate of the controller.")
    private_key: ReadableFile | None = Field(None, description="Its private key.")
    ca: ReadableFile | None = Field(
        None, description="Certificates of those who may sign the other side's certificate."
    )

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        if len({value is None for value in (self.certificate, self.private_key, self.ca)}) > 1:
            raise refuse("certificate, private_key and ca belong together: give all three or none")
        return self

    @property
    def is_tls(self) -> bool:
        """Whether certificates are configured."""
        return self.certificate is not None


class OpenflowConfig(_Tls):
    """Where switches connect to."""

    listen: Listen = Field("127.0.0.1:6653", description="Address and port for switches.")
    insecure: bool = Field(
        False, description="Allow switches of other machines to connect without TLS."
    )
    echo_seconds: float = Field(
        5.0, gt=0, le=3600, description="A switch that is silent this long is asked if it lives."
    )

    @model_validator(mode="after")
    def _no_plain_text_off_the_machine(self) -> Self:
        if not self.is_tls and not self.insecure and not is_loopback(self.listen):
            raise refuse(
                f"listen = {self.listen!r} lets other machines program switches unencrypted: "
                "give certificate, private_key and ca, or say insecure = true"
            )
        return self


class OvsdbConfig(_Tls):
    """Open vSwitch databases that tell where ports are."""

    remotes: Annotated[tuple[Remote, ...], BeforeValidator(_split_commas)] = Field(
        (LOCAL_OVSDB,),
        description="Servers: `unix:`, `tcp:` or `ssl:`. The default is used once it exists.",
    )
    connect_timeout: float = Field(
        5.0, gt=0, le=300, description="Seconds until a server counts as not answering."
    )

    @model_validator(mode="after")
    def _certificates_for_ssl(self) -> Self:
        if not self.is_tls and any(remote.startswith("ssl:") for remote in self.remotes):
            raise refuse("an ssl: remote needs certificate, private_key and ca")
        return self

    def remotes_now(self) -> tuple[str, ...]:
        """The servers to use: the default one only while its socket exists."""
        if "remotes" in self.model_fields_set:
            return self.remotes
        return self.remotes if Path(LOCAL_OVSDB.removeprefix("unix:")).exists() else ()


class InventoryConfig(Section):
    """What exists: tenants, networks, ports."""

    file: Path = Field(
        Path("/etc/cloudtap/inventory.yaml"), description="The inventory; read again on change."
    )


class StateConfig(Section):
    """What must survive a restart."""

    directory: Path = Field(
        default_factory=_state_directory,
        description="Folder of the state database: `/var/lib/cloudtap` for root, "
        "`$XDG_STATE_HOME/cloudtap` for others.",
    )


class BridgesConfig(Section):
    """Which of the bridges that connect are programmed, and what copies may cost them."""

    own: Annotated[Literal["all"] | tuple[str, ...], BeforeValidator(_names_or_all)] = Field(
        "all", description="`all`, or a list of bridge names."
    )
    recheck_seconds: float = Field(
        60.0,
        ge=0.1,
        le=86400,
        description="How often the flows of every bridge are read again, and repaired if somebody "
        "else has removed or added some; each tenth time their actions are compared, too.",
    )
    underlay_mtu: int = Field(
        UNDERLAY_MTU,
        ge=PATH_MTUS.start,
        lt=PATH_MTUS.stop,
        description="Bytes of the longest IP packet that the network of the hosts carries "
        "everywhere. Copies in tunnels are cut to fit; the `path_mtu` of a collector can only "
        "lower it.",
    )
    link_mtu: int = Field(
        LINK_MTU,
        ge=PATH_MTUS.start,
        lt=PATH_MTUS.stop,
        description="Bytes that every link between bridges carries behind the Ethernet header: "
        "those of the workloads' longest packets, and 4 for each 802.1Q tag, ours included. Copies "
        "that cross a link are cut to fit.",
    )
    bridge_rate: Annotated[Rate | None, PlainValidator(read_rate_setting)] = Field(
        None,
        description="Most that all copies of one bridge may take together, like `200 mbps` or "
        "`50000 pps`; what exceeds it is shed, never production. Without it nothing is shed.",
    )

    sensor_networks: Annotated[tuple[IPNetwork, ...], PlainValidator(read_networks)] = Field(
        (),
        description="Networks, like `192.0.2.0/24`, in which remote sensors and probed addresses "
        "may be; without it they may be anywhere that the hosts reach.",
    )

    def may_own(self, bridge: str) -> bool:
        """Whether the bridge of this name is ours to program."""
        return self.own == "all" or bridge in self.own


class ApiConfig(Section):
    """The HTTP API."""

    listen: Listen = Field("127.0.0.1:9470", description="Address and port of the API.")
    token_file: ReadableFile | None = Field(
        None, description="File with the bearer token that every request must carry."
    )

    @model_validator(mode="after")
    def _no_open_api_off_the_machine(self) -> Self:
        if self.token_file is None and not is_loopback(self.listen):
            raise refuse(
                f"listen = {self.listen!r} opens the API to other machines: give a token_file"
            )
        return self

    def read_token(self) -> str | None:
        """The token of the file, or None when the API asks for none.

        Raises:
            ConfigError: when the file cannot be read or holds no usable token.
        """
        if self.token_file is None:
            return None
        where = f"[api] token_file: {str(self.token_file)!r}"
        try:
            token = self.token_file.read_text("ascii").strip()
        except (OSError, UnicodeError) as error:
            raise ConfigError([f"{where} cannot be read: {error}"]) from error
        if len(token) < 16 or any(c.isspace() or not c.isprintable() for c in token):
            raise ConfigError([f"{where} needs one word of at least 16 letters, digits or signs"])
        return token


class LogConfig(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important events that are logged."
    )
    format: Literal["console", "json"] = Field("console", description="For people or programs.")


class Config(Section):
    """Everything that can be configured, with defaults that suit one machine."""

    openflow: OpenflowConfig = Field(default_factory=OpenflowConfig)
    ovsdb: OvsdbConfig = Field(default_factory=OvsdbConfig)
    inventory: InventoryConfig = Field(default_factory=InventoryConfig)
    state: StateConfig = Field(default_factory=StateConfig)
    bridges: BridgesConfig = Field(default_factory=BridgesConfig)
    api: ApiConfig = Field(default_factory=ApiConfig)
    log: LogConfig = Field(default_factory=LogConfig)


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration: the file (``path``, or ``CLOUDTAP_CONFIG``), then the environment.

    Raises:
        ConfigError: with one sentence for each mistake, naming file or variable, section and key.
    """
    environ = os.environ if environ is None else environ
    named = path or (Path(environ["CLOUDTAP_CONFIG"]) if environ.get("CLOUDTAP_CONFIG") else None)
    file = named or DEFAULT_FILE
    values = _read_file(file, must_exist=named is not None)
    problems = _overlay(values, environ)
    if problems:
        raise ConfigError(problems)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        sentences = (_sentence(one, file, environ) for one in error.errors())
        raise ConfigError(list(dict.fromkeys(sentences))) from error


def split_listen(value: str) -> tuple[str, int]:
    """Host (without brackets) and port of an address to listen on."""
    host, _, port = value.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(value: str) -> bool:
    """Whether only this machine can reach the address (``host:port``)."""
    host, _ = split_listen(value)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def section_model(section: str) -> type[Section]:
    """The model of a section, by its name."""
    model = Config.model_fields[section].annotation
    assert isinstance(model, type) and issubclass(model, Section)
    return model


def _read_file(file: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError as error:
        if not must_exist:
            return {}
        raise ConfigError([f"configuration file {str(file)!r} does not exist"]) from error
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError([f"{file}: not valid TOML: {error}"]) from error


def _overlay(values: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Put CLOUDTAP_<SECTION>__<KEY> of the environment over the values of the file."""
    problems = []
    for variable in sorted(environ):
        if not variable.startswith(_PREFIX) or "__" not in variable:
            continue  # CLOUDTAP_API, CLOUDTAP_TOKEN and the like belong to the command line
        section, _, key = variable.removeprefix(_PREFIX).lower().partition("__")
        if section not in Config.model_fields:
            known = ", ".join(Config.model_fields)
            problems.append(f"{variable}: there is no section [{section}]; sections: {known}")
        elif isinstance(table := values.setdefault(section, {}), dict):
            table[key] = environ[variable]
    return problems


def _sentence(error: ErrorDetails, file: Path, environ: Mapping[str, str]) -> str:
    section, key, *_ = (*(str(part) for part in error["loc"]), "", "")
    variable = f"{_PREFIX}{section.upper()}__{key.upper()}"
    where = variable if key and variable in environ else str(file)
    if not key:
        prefix = f"{_PREFIX}{section.upper()}__"
        where = ", ".join(v for v in sorted(environ) if v.startswith(prefix)) or str(file)
    place = f"{where}: [{section}] {key}".rstrip()
    if error["type"] == "extra_forbidden":
        fields: Mapping[str, object] = Config.model_fields
        if not key:
            return f"{file}: there is no section [{section}]; sections: {', '.join(fields)}"
        fields = section_model(section).model_fields
        return f"{place}: there is no such key; keys: {', '.join(fields)}"
    if error["type"] == "refused":
        return f"{place}: {error['msg']}"
    return f"{place}: {error['input']!r} does not do: {error['msg'][:1].lower()}{error['msg'][1:]}"
