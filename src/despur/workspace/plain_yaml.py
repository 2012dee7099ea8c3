"""YAML as people write it: plain values only, and a key that is given twice is a mistake and not the last one's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from despur.errors import SettingsError

MERGE = "tag:yaml.org,2002:merge"
"""The tag of ``<<``, which may stand several times in one mapping."""

MOST_VALUES = 1_000_000
"""Values that a text may stand for: a few lines of aliases of aliases stand for billions."""

MOST_BITS = 1024
"""Bits of a whole number, as many as the largest float has; Python writes no number out that is much longer."""

NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""Characters that YAML's escapes can write, and that no file, table or terminal takes."""


class PlainYamlError(ValueError):
    """A text is not plain YAML; the message is a clause that says why."""


class _Refused(yaml.YAMLError):
    """YAML that is well formed and no plain value; the message says why."""


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
                raise _Refused(f"{key.value!r} is given twice, in lines {lines[name]} and {line}")
            lines[name] = line
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if NO_TEXT.search(node.value):
            raise _Refused(f"a text holds a character that none can in line {node.start_mark.line + 1}")
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count_values(node, {})
        return node

    def construct_plain_int(self, node: yaml.ScalarNode) -> int:
        value = self.construct_yaml_int(node)
        if value.bit_length() > MOST_BITS:
            raise _Refused(f"a number is too long in line {node.start_mark.line + 1}")
        return value


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_plain_int)


def _count_values(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Values that a node stands for, with each alias written out; what it stands for is told before it is built.

    Args:
        known: the count of every node that was met, by its identity; None while it is being counted.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in known:
        count = known[id(node)]
        if count is None:
            raise _Refused(f"a value holds itself in line {node.start_mark.line + 1}")
        return count
    known[id(node)] = None
    pairs = isinstance(node, yaml.MappingNode)
    inner = [value for entry in node.value for value in (entry if pairs else (entry,))]
    count = 1 + sum(_count_values(value, known) for value in inner)
    if count > MOST_VALUES:
        raise _Refused(f"it stands for over {MOST_VALUES:,} values")
    known[id(node)] = count
    return count


def parse_yaml(text: str) -> Any:
    """The plain values in a YAML text: mappings, lists, strings, numbers, dates, None.

    Raises:
        PlainYamlError: it is no YAML, asks for objects, nests too deeply, gives a key of a mapping twice, stands for
            over a million values, or holds a number or a character that nothing takes.
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
