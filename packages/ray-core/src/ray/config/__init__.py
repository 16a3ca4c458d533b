"""What the user asked for, and what the machine allows."""

from ray.config.encoding import lone_surrogate
from ray.config.options import check_options, make_options
from ray.config.sources import ConfigFile, Setting, Settings, gather, read_file
from ray.config.spelling import did_you_mean

__all__ = [
    "ConfigFile",
    "Setting",
    "Settings",
    "check_options",
    "did_you_mean",
    "gather",
    "lone_surrogate",
    "make_options",
    "read_file",
]
