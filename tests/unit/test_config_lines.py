"""Where keys stand in a TOML text."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.rules.config.lines import key_lines


def lines(text: str) -> dict[tuple[str | int, ...], int]:
    tomllib.loads(text)  # what is not TOML has no lines
    return key_lines(text)


def test_keys_of_tables() -> None:
    """A key's path is its table's and its own, and its line is counted from one."""
    found = lines('a = 1\n\n# a comment = 3\n[b.c]  # [x]\nd = "#"\ne = 2')
    assert found == {("a",): 1, ("b",): 4, ("b", "c"): 4, ("b", "c", "d"): 5, ("b", "c", "e"): 6}


def test_dotted_and_quoted_keys() -> None:
    """Dotted, quoted and escaped keys are taken apart as TOML does, spaces around the dots included."""
    found = lines('a . "b.c" . \'d\' = 1\n"\\u00e9 = [" = 2\n["x]y".z]\nk = 3')
    assert found[("a", "b.c", "d")] == 1
    assert found[("é = [",)] == 2
    assert found[("x]y", "z", "k")] == 4


def test_a_header_after_its_parts() -> None:
    """A table is where its own header is, even when a deeper one came first."""
    assert lines("[a.b]\nc = 1\n[a]\nd = 2")[("a",)] == 3


@pytest.mark.parametrize(
    "value",
    [
        '"""\nnot = a key\n"""',
        "'''\n[not.a.table]\n'''",
        '"""a quote: "" and the end: """""',
        "'''two more: '''''",
        '"an escaped \\" = "',
        "[\n  1, # x = 1\n  [2, 3],\n]",
        '{ x = 1, y = { z = "}" } }',
        "1979-05-27 07:32:00",
        "-1_000.5e+3",
        '"a\\\\"',
    ],
)
def test_a_key_after_any_value(value: str) -> None:
    """Whatever a value looks like, the keys after it are found on their lines."""
    text = f"first = {value} # end\nlast = 1\n"
    assert lines(text)[("last",)] == text.count("\n")


def test_inside_values() -> None:
    """Keys of inline tables and elements of arrays have lines of their own."""
    found = lines('a = { b = 1, c.d = 2 }\ne = [\n  "x",\n  { f = 1 },\n]')
    assert found[("a", "c", "d")] == 1
    assert found[("e", 0)] == 3
    assert found[("e", 1, "f")] == 4


def test_arrays_of_tables() -> None:
    """Each element of an array of tables has its own keys, tables inside it included."""
    found = lines("[[a]]\nb = 1\n[a.c]\nd = 2\n[[a]]\nb = 3\n[[a.e]]\nf = 4")
    assert found[("a", 0, "b")] == 2
    assert found[("a", 0, "c", "d")] == 4
    assert found[("a", 1, "b")] == 6
    assert found[("a", 1, "e", 0, "f")] == 8


def test_windows_line_ends() -> None:
    """Lines are counted alike with CRLF."""
    assert lines("a = 1\r\n\r\nb = '''x\r\ny'''\r\nc = 2") == {("a",): 1, ("b",): 3, ("c",): 5}


_KEY = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=6)
_VALUE = st.recursive(
    st.integers(-9, 9) | st.text(max_size=6) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEY, inner, max_size=3),
    max_leaves=6,
)


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return (
            '"'
            + "".join(f"\\U{ord(char):08x}" if char in '"\\' or ord(char) < 32 or ord(char) == 127 else char for char in value)
            + '"'
        )
    if isinstance(value, list):
        return "[\n" + ",\n".join(map(_written, value)) + "\n]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written(key)} = {_written(item)}" for key, item in value.items()) + "}"
    return str(value)


@given(st.dictionaries(_KEY, _VALUE, max_size=5))
def test_every_key_is_found(document: dict[str, object]) -> None:
    """Whatever a document holds, each of its keys has the line on which it was written."""
    text, expected = "", {}
    for key, value in document.items():
        expected[(key,)] = text.count("\n") + 1
        text += f"{_written(key)} = {_written(value)}\n"
    assert tomllib.loads(text) == document
    found = key_lines(text)
    assert {path: line for path, line in found.items() if len(path) == 1} == expected
