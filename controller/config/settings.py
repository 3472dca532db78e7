"""The settings: one TOML file, overridden by the environment, and validated as a whole at start."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from netaddr import IPNetwork
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from controller.config.values import (
    KeyFile,
    Listen,
    ReadableFile,
    Remote,
    SecretFile,
    invalid_setting,
    is_loopback,
    names_or_all,
    read_networks,
    read_rate_setting,
    split_commas,
    split_listen,
)
from controller.process import TOKEN_BYTES_MAX, Access, UnusableFile, did_you_mean, read_file
from controller.runtime import CONFIG_FILE
from flows.errors import CloudtapError
from flows.model import LINK_MTU, PATH_MTUS, UNDERLAY_MTU, BridgeReference, Dpid, Rate

DEFAULT_FILE = CONFIG_FILE
"""Read when neither ``--config`` nor ``CLOUDTAP_CONFIG`` names another file; it may be missing."""

CONFIG_BYTES_MAX = 1024 * 1024
"""Largest configuration file that is read, in bytes."""

LOCAL_OVSDB = "unix:/run/openvswitch/db.sock"
"""The database socket of the local Open vSwitch, on Debian and its derivatives."""

_PREFIX = "CLOUDTAP_"


class ConfigError(CloudtapError):
    """The configuration is not valid; ``problems`` holds one sentence for each error."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def _state_directory() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/cloudtap")
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "cloudtap"


class Section(BaseModel):
    """One table of the file."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class _Tls(Section):
    certificate: ReadableFile | None = Field(
        None,
        description="Certificate of the controller. This file, private_key and ca are read again "
        "when they change.",
    )
    private_key: KeyFile | None = Field(
        None,
        description="Its private key; nobody but its owner may read it (mode 0600), and its group "
        "if root owns it (mode 0640).",
    )
    ca: ReadableFile | None = Field(
        None, description="CA certificates, one of which must have signed the peer's certificate."
    )

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        if len({value is None for value in (self.certificate, self.private_key, self.ca)}) > 1:
            raise invalid_setting(
                "certificate, private_key and ca belong together: give all three or none"
            )
        return self

    @property
    def is_tls(self) -> bool:
        """Whether certificates are configured."""
        return self.certificate is not None


class OpenflowConfig(_Tls):
    """Where switches connect to."""

    runtime: Literal["ryu", "os-ken"] | None = Field(
        None,
        description="The OpenFlow library to run on; without it ryu where that is installed, else "
        "os-ken. The controller is the same on both.",
    )
    listen: Listen = Field("127.0.0.1:6653", description="Address and port for switches.")
    insecure: bool = Field(
        False, description="Allow switches of other machines to connect without TLS."
    )
    echo_seconds: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="Seconds of silence after which a switch is sent an echo request.",
    )

    @model_validator(mode="after")
    def _no_plain_text_off_the_machine(self) -> Self:
        if not self.is_tls and not self.insecure and not is_loopback(self.listen):
            raise invalid_setting(
                f"listen = {self.listen!r} lets other machines program switches unencrypted: "
                "give certificate, private_key and ca, or say insecure = true"
            )
        return self


class OvsdbConfig(_Tls):
    """Open vSwitch databases, which say on which bridge each port is."""

    remotes: Annotated[tuple[Remote, ...], BeforeValidator(split_commas)] = Field(
        (LOCAL_OVSDB,),
        description="Servers: `unix:`, `tcp:` or `ssl:`. The default is used once it exists.",
    )
    connect_timeout: float = Field(
        5.0, gt=0, le=300, description="Seconds until a server counts as not answering."
    )

    @model_validator(mode="after")
    def _certificates_for_ssl(self) -> Self:
        if not self.is_tls and any(remote.startswith("ssl:") for remote in self.remotes):
            raise invalid_setting("an ssl: remote needs certificate, private_key and ca")
        return self

    def remotes_now(self) -> tuple[str, ...]:
        """The servers to connect to; the default one only while its socket exists."""
        if "remotes" in self.model_fields_set:
            return self.remotes
        return self.remotes if Path(LOCAL_OVSDB.removeprefix("unix:")).exists() else ()


class InventoryConfig(Section):
    """What exists: tenants, networks, ports."""

    file: Path = Field(
        Path("/etc/cloudtap/inventory.yaml"), description="The inventory; read again on change."
    )
    vanish_limit: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Largest share of the ports, of the running ports, or of the links, that one "
        "change of the file may take away without a word of the operator (`cloudtap inventory "
        "accept`). One may always go; 1 switches this brake off.",
    )
    settle_seconds: float = Field(
        10.0,
        ge=0,
        le=3600,
        description="Seconds for which a file that was written in place must stay the same before "
        "what is missing from it is taken away. One that was renamed into its place, or that ends "
        "with the line `...`, is used at once, and so is any when the controller gets a SIGHUP.",
    )


class NeutronConfig(Section):
    """OpenStack's Neutron, which knows tenants, networks and ports besides the inventory file."""

    cloud: str | None = Field(
        None,
        min_length=1,
        max_length=255,
        description="The cloud in clouds.yaml whose Neutron is asked; `envvars` takes the "
        "variables `OS_...`. Without it none is asked. Needs `pip install 'cloudtap[neutron]'`.",
    )
    region: str | None = Field(
        None, max_length=255, description="Its region, if clouds.yaml names none or several."
    )
    poll_seconds: float = Field(
        10.0, ge=0.1, le=3600, description="Seconds from an answer to the next question."
    )
    timeout_seconds: float = Field(
        30.0,
        ge=0.1,
        le=600,
        description="Seconds in which something must come after each request; ten times as many "
        "for all requests of one question.",
    )
    projects: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = Field(
        (),
        description="Ids of the projects whose ports are tenants' workloads here; without it those "
        "of all that the login may see.",
    )

    @model_validator(mode="after")
    def _sdk_is_there(self) -> Self:
        if self.cloud is not None and find_spec("openstack") is None:
            raise invalid_setting(
                f"cloud = {self.cloud!r} needs openstacksdk: type `pip install 'cloudtap[neutron]'`"
            )
        return self


class StateConfig(Section):
    """What must survive a restart."""

    directory: Path = Field(
        default_factory=_state_directory,
        description="Folder of the state database: `/var/lib/cloudtap` for root, "
        "`$XDG_STATE_HOME/cloudtap` for others.",
    )


class BridgesConfig(Section):
    """Which of the bridges that connect are programmed, and what copies may cost them."""

    own: Annotated[Literal["all"] | tuple[str, ...], BeforeValidator(names_or_all)] = Field(
        "all",
        description="`all`, or a list of bridges: by name, by name and host (`br-int@hv1`), or by "
        "datapath id (`0x51`).",
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

    tap_offloads: Literal["off", "keep"] = Field(
        "off",
        description="Offloads of the devices of tap ports on this host, on bridges with the kernel "
        "datapath: `off` switches them off, as `ethtool -K DEVICE tx off` does (this needs "
        "CAP_NET_ADMIN), and again when a device is made anew; `keep` leaves them, and sessions "
        "say where sensors would get frames of up to 64 kB with unfinished checksums. The same "
        "goes for segmenting pairs of this host, with their MTU and state. Other devices are never "
        "changed.",
    )
    sensor_networks: Annotated[tuple[IPNetwork, ...], PlainValidator(read_networks)] = Field(
        (),
        description="Networks, like `192.0.2.0/24`, in which remote sensors and probed addresses "
        "may be. Without it remote sensors may be anywhere that the hosts reach, and nothing is "
        "probed: a probe tells a tenant which ports of an address are open.",
    )

    def may_own(self, dpid: Dpid, name: str, hosts: Collection[str] = ()) -> bool:
        """Whether the controller programs a bridge; ``hosts`` are the names of its host."""
        listed = () if self.own == "all" else self.own
        return self.own == "all" or any(
            BridgeReference(text).means(dpid, name, hosts) for text in listed
        )


class ApiConfig(Section):
    """The HTTP API."""

    listen: Listen = Field("127.0.0.1:9470", description="Address and port of the API.")
    token_file: SecretFile | None = Field(
        None,
        description="File with the bearer token that every request must carry; nobody but its "
        "owner may read it (mode 0600). Read again when it changes.",
    )
    certificate: ReadableFile | None = Field(
        None,
        description="PEM file with the certificate of the API and those that signed it: the API "
        "then speaks HTTPS. Read again when it changes.",
    )
    private_key: KeyFile | None = Field(
        None,
        description="PEM file with its private key, without a password; nobody but its owner may "
        "read it (mode 0600), and its group if root owns it (mode 0640).",
    )
    insecure: bool = Field(
        False, description="Allow other machines to use the API without HTTPS: tokens can be read."
    )
    names: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = Field(
        (),
        description="Host names that requests may be addressed to, besides `localhost` and the "
        "addresses of the listener. Without it every name is accepted if other machines can reach "
        "the API, and no other name if they cannot.",
    )
    request_seconds: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="Seconds within which a whole request must arrive, and its answer be read; an "
        "idle connection is closed after as many.",
    )
    connections: int = Field(
        1000,
        ge=8,
        le=100_000,
        description="Most connections of all clients; beyond that idle ones are closed.",
    )
    connections_per_client: int = Field(
        64, ge=8, le=100_000, description="Most connections of one IP address, in the same way."
    )

    @model_validator(mode="after")
    def _no_open_api_off_the_machine(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise invalid_setting("certificate and private_key belong together: give both or none")
        if is_loopback(self.listen):
            return self
        if self.token_file is None:
            raise invalid_setting(
                f"listen = {self.listen!r} opens the API to other machines: give a token_file"
            )
        if self.certificate is None and not self.insecure:
            raise invalid_setting(
                f"listen = {self.listen!r} lets other machines send their token unencrypted: "
                "give certificate and private_key, or say insecure = true"
            )
        return self

    @property
    def is_exposed(self) -> bool:
        """Whether other machines can read the tokens of each other on their way."""
        return self.certificate is None and not is_loopback(self.listen)

    def host_names(self) -> tuple[str, ...] | None:
        """The host names of this API in lower case, or None: any."""
        host, _ = split_listen(self.listen)
        if not self.names and not is_loopback(self.listen):
            return None
        own = f"[{host}]" if ":" in host else host
        names = ("localhost", "127.0.0.1", "[::1]", own, *self.names)
        return tuple(dict.fromkeys(name.lower().rstrip(".") for name in names))

    def read_token(self) -> str | None:
        """The token of the file, or None when the API needs none.

        Raises:
            ConfigError: when the file cannot be read or holds no usable token.
        """
        if self.token_file is None:
            return None
        where = f"[api] token_file: {str(self.token_file)!r}"
        try:
            content = read_file(self.token_file, TOKEN_BYTES_MAX, Access.SECRET)
            token = content.decode("ascii").strip()
        except UnicodeError as error:
            raise ConfigError([f"{where} cannot be read: it is not ASCII text"]) from error
        except (OSError, UnusableFile) as error:
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
    neutron: NeutronConfig = Field(default_factory=NeutronConfig)
    state: StateConfig = Field(default_factory=StateConfig)
    bridges: BridgesConfig = Field(default_factory=BridgesConfig)
    api: ApiConfig = Field(default_factory=ApiConfig)
    log: LogConfig = Field(default_factory=LogConfig)


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration: the file (``path``, or ``CLOUDTAP_CONFIG``), then the environment.

    Raises:
        ConfigError: with one sentence for each error: file or variable, section and key.
    """
    environ = os.environ if environ is None else environ
    named = path or (Path(environ["CLOUDTAP_CONFIG"]) if environ.get("CLOUDTAP_CONFIG") else None)
    file = named or DEFAULT_FILE
    values = _read_file(file, must_exist=named is not None)
    problems = _override(values, environ)
    if problems:
        raise ConfigError(problems)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        sentences = (_sentence(one, file, environ) for one in error.errors())
        raise ConfigError(list(dict.fromkeys(sentences))) from error


def section_model(section: str) -> type[Section]:
    """The model of a section, by its name."""
    model = Config.model_fields[section].annotation
    assert isinstance(model, type) and issubclass(model, Section)
    return model


def _read_file(file: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(read_file(file, CONFIG_BYTES_MAX).decode())
    except FileNotFoundError as error:
        if not must_exist:
            return {}
        raise ConfigError([f"configuration file {str(file)!r} does not exist"]) from error
    except UnusableFile as error:
        raise ConfigError([str(error)]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: not UTF-8 text (byte {error.start})"]) from error
    except RecursionError as error:
        raise ConfigError([f"{file}: its lists or tables are nested too deep"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            [f"{file}: not valid TOML: {error}: texts stand in quotes, lists in []"]
        ) from error


def _override(values: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Override the values of the file by CLOUDTAP_<SECTION>__<KEY>; returns the errors."""
    problems = []
    for variable in sorted(environ):
        if not variable.startswith(_PREFIX):
            continue
        if "__" not in variable:  # CLOUDTAP_API, CLOUDTAP_TOKEN and others are no settings
            if (meant := _setting_by_one_underscore(variable)) is not None:
                problems.append(f"{variable}: there is no such variable: did you mean {meant}?")
            continue
        section, _, key = variable.removeprefix(_PREFIX).lower().partition("__")
        if section not in Config.model_fields:
            known = ", ".join(Config.model_fields)
            hint = did_you_mean(section, Config.model_fields) or f"; sections: {known}"
            problems.append(f"{variable}: there is no section [{section}]{hint}")
        elif isinstance(table := values.setdefault(section, {}), dict):
            table[key] = environ[variable]
    return problems


def _setting_by_one_underscore(variable: str) -> str | None:
    """The setting that a variable such as CLOUDTAP_API_LISTEN is meant to be; None if none is.

    Others with the prefix are not ours to judge: a cluster manager may set CLOUDTAP_PORT.
    """
    for section in Config.model_fields:
        for key in section_model(section).model_fields:
            meant = f"{_PREFIX}{section}__{key}".upper()
            if variable.upper() == meant.replace("__", "_"):
                return meant
    return None


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
            hint = did_you_mean(section, fields) or f"; sections: {', '.join(fields)}"
            return f"{file}: there is no section [{section}]{hint}"
        fields = section_model(section).model_fields
        hint = did_you_mean(key, fields) or f"; keys: {', '.join(fields)}"
        return f"{place}: there is no such key{hint}"
    if error["type"] == "refused":
        return f"{place}: {error['msg']}"
    return f"{place}: {error['input']!r} does not do: {error['msg'][:1].lower()}{error['msg'][1:]}"
