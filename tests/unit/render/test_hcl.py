"""The writer of HCL: what is escaped, what is not, and where lines break. That Terraform reads it so is tested with Terraform."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pilotis.render.terraform.hcl import Block, Call, For, Nested, Ref, Text, Why, document, expression


def body(values: Any, **more: Any) -> str:
    return document([Block("locals", (), values, **more)], banner="")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", '"plain"'),
        ("", '""'),
        ("${var.secret}", '"$${var.secret}"'),
        ("%{ if true }", '"%%{ if true }"'),
        ("$${twice}", '"$$${twice}"'),
        ('say "no" \\ never', '"say \\"no\\" \\\\ never"'),
        ("one\ntwo\tthree\r", '"one\\ntwo\\tthree\\r"'),
        ("\x00\x1b\u2028", '"\\u0000\\u001b\\u2028"'),
        ("\U000e0001", '"\\U000e0001"'),
        ("été, 日本", '"été, 日本"'),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (0, "0"),
        (-3, "-3"),
        (Decimal("0.50"), "0.5"),
        (Decimal("1E+3"), "1000"),
        ([], "[]"),
        ({}, "{}"),
        (["a", 1, True, None], '["a", 1, true, null]'),
        (("a", "b"), '["a", "b"]'),
        (Ref("module.vpc.vpc_id"), "module.vpc.vpc_id"),
        (Text("s3://", Ref("local.bucket"), "/${x}/*"), '"s3://${local.bucket}/$${x}/*"'),
        (Text(Ref("local.a"), '"'), '"${local.a}\\""'),
        (Call("toset", ["a"]), 'toset(["a"])'),
    ],
)
def test_a_value_of_one_line(value: Any, text: str) -> None:
    assert expression(value) == text


@pytest.mark.parametrize(
    "value", [1.5, b"bytes", {1, 2}, object(), Decimal("NaN"), Decimal("Infinity"), [0.1], {"a": {2}}, {3: "a"}]
)
def test_what_hcl_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        expression(value)


@pytest.mark.parametrize("wrong", ["", " ", "a\nb"])
def test_an_expression_is_one_line(wrong: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        Ref(wrong)


@pytest.mark.parametrize("name", ["two words", "1st", "", "a.b", '"quoted"'])
def test_an_argument_has_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        body({name: 1})


def test_runs_of_lines_have_their_signs_of_equality_under_each_other() -> None:
    found = body({"a": 1, "long_name": "x", "map": {"b": 1, "with space": 2, "in": {"c": 1}, "next": 3}, "after": True})
    assert found == (
        "locals {\n"
        "  a         = 1\n"
        '  long_name = "x"\n'
        "\n"
        "  map = {\n"
        "    b            = 1\n"
        '    "with space" = 2\n'
        "    in = {\n"
        "      c = 1\n"
        "    }\n"
        "    next = 3\n"
        "  }\n"
        "\n"
        "  after = true\n"
        "}\n"
    )


def test_whole_lines_are_a_heredoc_that_interpolates_nothing() -> None:
    found = body({"text": 'one ${a}\n  two %{b} \\ "c"\n'})
    assert found == 'locals {\n  text = <<-EOT\n    one $${a}\n      two %%{b} \\ "c"\n  EOT\n}\n'


@pytest.mark.parametrize(
    "text", ["  all indented\n  so\n", "a\n\nb\n", "a\nEOT\nb\n", "a\n  EOT\nb\n", "a\tb\nc\n", "a\r\nb\r\n", "one\n", "a\nb"]
)
def test_what_a_heredoc_would_change_is_quoted(text: str) -> None:
    assert "<<" not in expression(text)
    assert expression(text).count("\n") == 0


def test_a_heredoc_does_not_end_a_run_of_entries() -> None:
    assert (
        expression({"a": 1, "b": "x\ny\n", "long": 2}) == "{\n  a    = 1\n  b    = <<-EOT\n    x\n    y\n  EOT\n  long = 2\n}"
    )


def test_a_heredoc_ends_no_element_and_no_call() -> None:
    """Its end takes a line of its own, where no comma and no bracket may follow."""
    assert expression(["a\nb\n"]) == '["a\\nb\\n"]'
    assert expression(Call("trimspace", "a\nb\n")) == 'trimspace("a\\nb\\n")'


def test_a_list_that_is_long_or_has_more_than_words_takes_a_line_for_each() -> None:
    assert expression(["x" * 60, "y" * 60]) == f'[\n  "{"x" * 60}",\n  "{"y" * 60}",\n]'
    assert expression([{"a": 1}, Ref("local.b")]) == "[\n  {\n    a = 1\n  },\n  local.b,\n]"


def test_keys_are_bare_quoted_or_computed() -> None:
    found = expression({"bare-one": 1, "k8s.io/role": 2, "${x}": 3, Ref("local.key"): 4})
    assert [line.split(" = ")[0].strip() for line in found.splitlines()[1:-1]] == [
        "bare-one",
        '"k8s.io/role"',
        '"$${x}"',
        "(local.key)",
    ]


def test_functions_and_comprehensions_may_take_several_lines() -> None:
    assert expression(Call("jsonencode", {"a": [{"b": 1}]})) == "jsonencode({\n  a = [\n    {\n      b = 1\n    },\n  ]\n})"
    assert expression(For("x in var.xs", Ref("x"), {"is": Ref("x")})) == "{\n  for x in var.xs : x => {\n    is = x\n  }\n}"


def test_blocks_within_a_block() -> None:
    rules = [Nested({"days": 1}), Nested({"days": 2, "filter": Nested({"prefix": ""})})]
    found = document(
        [Block("resource", ("aws_x", 'a"b'), {"name": "n", "rule": rules, "backend": Nested({}, label="s3")})],
        banner="# head\n\n",
    )
    assert found == (
        "# head\n\n"
        'resource "aws_x" "a\\"b" {\n'
        '  name = "n"\n'
        "\n"
        "  rule {\n    days = 1\n  }\n"
        "\n"
        '  rule {\n    days = 2\n\n    filter {\n      prefix = ""\n    }\n  }\n'
        "\n"
        '  backend "s3" {\n  }\n'
        "}\n"
    )


def test_comments_stand_above_what_they_explain() -> None:
    found = body(
        ({"a": 1}, {"b": Why(2, "because\nof this"), "m": {"c": Why(3, "inner")}}), comment="outer", notes=("checkov:skip=X:y",)
    )
    assert found == (
        "# outer\n"
        "locals {\n"
        "  #checkov:skip=X:y\n"
        "\n"
        "  a = 1\n"
        "\n"
        "  # because\n"
        "  # of this\n"
        "  b = 2\n"
        "\n"
        "  m = {\n"
        "    # inner\n"
        "    c = 3\n"
        "  }\n"
        "}\n"
    )


def test_a_block_without_a_body_is_one_line() -> None:
    assert document([Block("data", ("a", "b"), {})], banner="") == 'data "a" "b" {}\n'
