from __future__ import annotations

import pytest

from edge_agent.config.body_template import TemplateProblem, envelope_parts, template_parts


def test_placeholders_are_told_from_the_braces_of_json() -> None:
    assert template_parts('{"a": {"b": {stream}}, "c": {fields.t-1}}') == (
        '{"a": {"b": ', "stream", '}, "c": ', "fields.t-1", "}",
    )  # fmt: skip
    assert template_parts('{"by": "{v1.2 beta}", "a": {fields."a b".c}}') == (
        '{"by": "{v1.2 beta}", "a": ', 'fields."a b".c', "}",
    )  # fmt: skip
    assert envelope_parts('{"x": [{records}], "by": "{a.b c}"}') == (
        '{"x": [', '], "by": "{a.b c}"}',
    )  # fmt: skip


@pytest.mark.parametrize(
    "text, said",
    [
        ('{"a": {sream}}', r"expected one of \{id\}, .*, found \{sream\}"),
        ('{"a": {records}}', r"found \{records\}"),
        ('{"a": "{stream}"}', "without quotes around them"),
        ('{"a": {stream}', "expected JSON once values stand in it"),
        ('{"a": 1}', "found none"),
        ('{"a": {fields.a b}}', r"behind fields. a path such as .*, found \{fields.a b\}"),
        ('{"a": {fields.a..b}}', r"found \{fields.a..b\}"),
        ('{"a": {stream.x}}', r"found \{stream.x\}"),
    ],
)
def test_a_template_that_cannot_work_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(TemplateProblem, match=said):
        template_parts(text)


@pytest.mark.parametrize("text", ["[]", "[{records}, {records}]", "[{stream}]", "{records}", "[["])
def test_an_envelope_has_room_for_all_records_once(text: str) -> None:
    with pytest.raises(TemplateProblem):
        envelope_parts(text)
