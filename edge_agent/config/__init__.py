"""The configuration: what it holds (`shape`), how it is read, checked and shown.

Defaults, then the TOML file, then ``EDGE_AGENT__SECTION__KEY``, then the command line: later ones
win. A configuration that loaded is whole and consistent; nothing behind it checks again. Errors
name file, key, what was expected, what was found.
"""

from edge_agent.config.addresses import authority_file, people_url, sensor_url
from edge_agent.config.body_template import envelope_parts, template_parts
from edge_agent.config.check_rules import ACTIONS as RULE_ACTIONS
from edge_agent.config.databases import PRECISIONS, InfluxTable, PostgresTable
from edge_agent.config.load import ENVIRONMENT_PREFIX, ConfigMistakes, examine, load_config, parse
from edge_agent.config.mqtt_table import MqttProfile, MqttTable
from edge_agent.config.packages import distribution_of, sink_package
from edge_agent.config.quantities import Duration, Share, Size
from edge_agent.config.queue_tables import KafkaTable, NatsTable
from edge_agent.config.render import render_toml
from edge_agent.config.sending import with_sending
from edge_agent.config.shape import (
    Alarm,
    Calibration,
    Config,
    Conversion,
    HistoryConfig,
    Http,
    Limits,
    Listen,
    LogConfig,
    Profile,
    Rule,
    Schema,
    StoreConfig,
    WearConfig,
)
from edge_agent.config.units import (
    format_address,
    format_duration,
    format_share,
    format_size,
    parse_address,
    parse_duration,
    parse_limit,
    parse_size,
)
from edge_agent.config.upstreams import (
    KINDS,
    TLS_SCHEMES,
    TWO_LANES,
    UPSTREAM,
    FileTable,
    Format,
    HttpTable,
    SecretFile,
    Upstream,
)
from edge_agent.config.urls import header_value_problem, servers_of, shown_url
from edge_agent.config.windows import DAY, DAYS, WEEK, parse_window

__all__ = [
    "DAY",
    "DAYS",
    "ENVIRONMENT_PREFIX",
    "KINDS",
    "PRECISIONS",
    "RULE_ACTIONS",
    "TLS_SCHEMES",
    "TWO_LANES",
    "UPSTREAM",
    "WEEK",
    "Alarm",
    "Calibration",
    "Config",
    "ConfigMistakes",
    "Conversion",
    "Duration",
    "FileTable",
    "Format",
    "HistoryConfig",
    "Http",
    "HttpTable",
    "InfluxTable",
    "KafkaTable",
    "Limits",
    "Listen",
    "LogConfig",
    "MqttProfile",
    "MqttTable",
    "NatsTable",
    "PostgresTable",
    "Profile",
    "Rule",
    "Schema",
    "SecretFile",
    "Share",
    "Size",
    "StoreConfig",
    "Upstream",
    "WearConfig",
    "authority_file",
    "distribution_of",
    "envelope_parts",
    "examine",
    "format_address",
    "format_duration",
    "format_share",
    "format_size",
    "header_value_problem",
    "load_config",
    "parse",
    "parse_address",
    "parse_duration",
    "parse_limit",
    "parse_size",
    "parse_window",
    "people_url",
    "render_toml",
    "sensor_url",
    "servers_of",
    "shown_url",
    "sink_package",
    "template_parts",
    "with_sending",
]
