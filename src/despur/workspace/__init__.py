"""The workspace: folder layout, fingerprints, atomic writes, and the lock."""

from despur.workspace.files import read_json, read_object, read_parquet, write_json, write_parquet, write_whole
from despur.workspace.fingerprints import fingerprint, fingerprint_file, versions
from despur.workspace.folder import SCHEMA_VERSION, About, StageRecord, Workspace

__all__ = [
    "SCHEMA_VERSION",
    "About",
    "StageRecord",
    "Workspace",
    "fingerprint",
    "fingerprint_file",
    "read_json",
    "read_object",
    "read_parquet",
    "versions",
    "write_json",
    "write_parquet",
    "write_whole",
]
