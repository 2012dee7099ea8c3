"""The workspace: folder layout, fingerprints, atomic writes, and the lock."""

from despur.workspace.files import (
    at_home,
    read_json,
    read_object,
    read_parquet,
    remove_partials,
    whole_folder,
    write_json,
    write_parquet,
    write_whole,
)
from despur.workspace.fingerprints import fingerprint, fingerprint_file, fingerprint_stream, versions
from despur.workspace.folder import SCHEMA_VERSION, About, StageRecord, Workspace
from despur.workspace.memory import memory_bytes, said_bytes
from despur.workspace.plain_yaml import PlainYamlError, parse_yaml, read_yaml

__all__ = [
    "SCHEMA_VERSION",
    "About",
    "PlainYamlError",
    "StageRecord",
    "Workspace",
    "at_home",
    "fingerprint",
    "fingerprint_file",
    "fingerprint_stream",
    "memory_bytes",
    "parse_yaml",
    "read_json",
    "read_object",
    "read_parquet",
    "read_yaml",
    "remove_partials",
    "said_bytes",
    "versions",
    "whole_folder",
    "write_json",
    "write_parquet",
    "write_whole",
]
