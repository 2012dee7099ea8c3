"""YAML as people write it: plain values only, and a key that is given twice is a mistake and not the last one's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from despur.errors import SettingsError

MERGE = "tag:yaml.org,2002:merge"
"""The tag of ``<<``, which may stand several times in one mapping."""


class PlainYamlError(ValueError):
    """A text is not plain YAML; the message is a clause that says why."""


class _GivenTwice(yaml.YAMLError):
    pass


class _PlainLoader(yaml.SafeLoader):
    """Builds plain values, as :func:`yaml.safe_load` does; that one keeps the last of two equal keys in silence."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not where values are built: by then, merged mappings have put their keys among the mapping's own.
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise _GivenTwice(f"{key.value!r} is given twice, in lines {lines[name]} and {line}")
            lines[name] = line
        return node


def parse_yaml(text: str) -> Any:
    """The plain values in a YAML text: mappings, lists, strings, numbers, dates, None.

    Raises:
        PlainYamlError: it is no YAML, asks for objects, nests too deeply, or gives a key of a mapping twice.
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        place = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise PlainYamlError(f"{error.problem or error.context}{place}") from error
    except RecursionError as error:
        raise PlainYamlError("it nests too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        raise PlainYamlError(str(error).splitlines()[0]) from error


def read_yaml(file: Path, *, missing: str) -> Any:
    """What :func:`parse_yaml` finds in a user's file.

    Args:
        missing: what the user is to do where the file cannot be read.

    Raises:
        SettingsError: the file cannot be read, is not UTF-8 or not plain YAML.
    """
    try:
        return parse_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"it cannot be read ({error.strerror})", where=file, now=missing) from error
    except UnicodeDecodeError as error:
        raise SettingsError("it is not UTF-8", where=file, now="save it as UTF-8") from error
    except PlainYamlError as error:
        raise SettingsError(f"it is not plain YAML ({error})", where=file, now="mend or rewrite it") from error
