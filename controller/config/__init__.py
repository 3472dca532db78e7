"""The configuration, validated as a whole at the start."""

from controller.config.settings import LOCAL_OVSDB, Config, ConfigError, load
from controller.config.values import split_listen

__all__ = [
    "LOCAL_OVSDB",
    "Config",
    "ConfigError",
    "load",
    "split_listen",
]
