from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wanasync.models import BatchItem, VideoRequest
from wanasync.rules.lists import COLUMNS, FORMATS, ListLine, judge, read
from wanasync.rules.listtext import MAX_LINE


def lines_of(text: str) -> Iterator[str]:
    """As a text file gives them, overlong ones in pieces."""
    stream = io.StringIO(text)
    return iter(lambda: stream.readline(MAX_LINE), "")


def parse(text: str, form: str, defaults: Mapping[str, Any] | None = None) -> list[ListLine]:
    return list(read(lines_of(text), form, defaults))


def items(text: str, form: str, defaults: Mapping[str, Any] | None = None) -> list[BatchItem]:
    lines = parse(text, form, defaults)
    assert [str(problem) for line in lines for problem in line.problems] == []
    return [line.item for line in lines if line.item]


def requests(text: str, form: str, defaults: Mapping[str, Any] | None = None) -> list[VideoRequest]:
    return [item.request for item in items(text, form, defaults)]


def problems(text: str, form: str, defaults: Mapping[str, Any] | None = None) -> list[str]:
    return [str(problem) for line in parse(text, form, defaults) for problem in line.problems]


class TestTxt:
    def test_is_a_prompt_a_line_without_blank_lines_and_comments(self) -> None:
        text = "# animals\nA cat\n\n   A dog, and #1 in show  \n \t \n#end\n猫"
        assert [(line.number, line.item and line.item.request.prompt) for line in parse(text, "txt")] == [
            (2, "A cat"),
            (4, "A dog, and #1 in show"),
            (7, "猫"),
        ]

    def test_takes_defaults(self) -> None:
        assert requests("A cat", "txt", {"quality": "1080p", "duration": 10}) == [
            VideoRequest("A cat", quality="1080p", duration=10)
        ]

    def test_names_each_bad_line(self) -> None:
        text = f"fine\n{'x' * 2001}\nfine too\n"
        (problem,) = problems(text, "txt")
        assert problem.startswith("line 2, prompt: ")
        assert "2001 characters, at most 2000" in problem

    def test_defaults_that_do_not_fit_are_a_problem_of_the_line(self) -> None:
        (problem,) = problems("A cat", "txt", {"quality": "480p", "aspect_ratio": "4:3"})
        assert problem == 'line 1, aspect_ratio: "4:3" needs quality 720p or 1080p, not 480p (16:9, 9:16, 1:1)'


class TestUnreadableText:
    @pytest.mark.parametrize("form", ["txt", "jsonl"])
    def test_names_the_byte_that_is_no_utf8(self, form: str) -> None:
        text = b'"ok"\n"\xc3\xa9t\xe9"\n"ok"\n'.decode("utf-8", "surrogateescape")
        assert problems(text, form) == [
            "line 2: byte 5 of the line, 0xE9, is not UTF-8; save the list as UTF-8",
        ]
        assert len(parse(text, form)) == 3

    def test_in_csv_spoils_only_its_row(self) -> None:
        text = b"prompt\nfine\ncaf\xe9\nfine\n".decode("utf-8", "surrogateescape")
        assert problems(text, "csv") == ["line 3: byte 4 of the line, 0xE9, is not UTF-8; save the list as UTF-8"]
        assert len(parse(text, "csv")) == 3

    def test_in_json_names_the_line_and_ends_the_reading(self) -> None:
        text = b'["a",\n "b",\n "caf\xe9", "d"]'.decode("utf-8", "surrogateescape")
        assert problems(text, "json") == ["line 3: byte 6 of the line, 0xE9, is not UTF-8; save the list as UTF-8"]

    @pytest.mark.parametrize("form", sorted(FORMATS))
    def test_nul_bytes_and_endless_lines_are_no_list(self, form: str) -> None:
        assert any("NUL" in problem for problem in problems("p\0r\0o\0", form))
        endless = problems('"' + "x" * (3 * MAX_LINE), form)
        assert len(endless) <= 2
        assert endless

    @pytest.mark.parametrize("form", sorted(FORMATS))
    def test_a_decoder_that_gives_up_is_told_as_a_line(self, form: str) -> None:
        def pieces() -> Iterator[str]:
            yield from ("prompt\n", "a\n") if form == "csv" else ()
            raise UnicodeDecodeError("utf-16-le", b"x", 0, 1, "truncated data")

        *_, last = read(pieces(), form)
        assert "not valid UTF-16-LE: truncated data" in str(last.problems[0])


class TestCsv:
    def test_gives_cells_their_types(self) -> None:
        text = (
            "prompt,quality,aspect_ratio,duration,prompt_extend,model,callback_url,extra,id,file\r\n"
            '"A cat, happy", 1080p ,4:3,10,no,wan2.5-text-to-video,https://example.com/x,'
            '"{""seed"": 7}",c-1,cats/one\r\n'
        )
        (item,) = items(text, "csv")
        assert item == BatchItem(
            VideoRequest(
                "A cat, happy",
                quality="1080p",
                aspect_ratio="4:3",
                duration=10,
                prompt_extend=False,
                callback_url="https://example.com/x",
                extra={"seed": 7},
            ),
            id="c-1",
            file="cats/one",
        )

    @pytest.mark.parametrize(
        ("cell", "value"),
        [("true", True), ("YES", True), ("1", True), ("on", True), ("False", False), ("no", False), ("0", False)],
    )
    def test_knows_true_and_false_in_many_spellings(self, cell: str, value: bool) -> None:
        (request,) = requests(f"prompt,prompt_extend\nx,{cell}\n", "csv")
        assert request.prompt_extend is value

    @pytest.mark.parametrize("cell", ["5", "5.0", " 5 ", "5.000"])
    def test_takes_whole_numbers_as_spreadsheets_spell_them(self, cell: str) -> None:
        (request,) = requests(f"prompt,duration\nx,{cell}\n", "csv")
        assert request.duration == 5
        assert type(request.duration) is int

    @pytest.mark.parametrize("cell", ["5s", "five", "5,0", "0x5", "１０.0", "1e1"])
    def test_refuses_other_numbers(self, cell: str) -> None:
        (problem,) = problems(f'prompt,duration\nx,"{cell}"\n', "csv")
        assert problem.startswith("line 2, duration: ")

    def test_empty_cells_leave_the_field_out(self) -> None:
        (request,) = requests("prompt,quality,duration\nx, ,\n", "csv", {"quality": "480p"})
        assert request == VideoRequest("x", quality="480p")

    def test_splits_image_links_at_spaces(self) -> None:
        text = "prompt,model,image_urls\nx,wan2.5-image-to-video,https://example.com/a.png\n"
        (request,) = requests(text, "csv")
        assert request.image_urls == ("https://example.com/a.png",)

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_finds_the_delimiter_in_the_header(self, delimiter: str) -> None:
        text = f"prompt{delimiter}quality\na{delimiter}480p\n"
        assert requests(text, "csv") == [VideoRequest("a", quality="480p")]

    def test_reads_headers_as_people_write_them(self) -> None:
        text = ' Prompt ,"Aspect Ratio",Prompt-Extend\nx,1:1,no\n'
        assert requests(text, "csv") == [VideoRequest("x", aspect_ratio="1:1", prompt_extend=False)]

    def test_keeps_line_ends_inside_quotes_and_counts_them(self) -> None:
        text = 'prompt,quality\n"two\nlines",480p\nx,4k\n'
        good, bad = parse(text, "csv")
        assert good.item is not None
        assert good.item.request.prompt == "two\nlines"
        assert (good.number, bad.number) == (2, 4)

    def test_tells_everything_that_is_wrong_with_the_header_and_nothing_else(self) -> None:
        text = "text,qualty,colour,id,id,seconds\na,b,c,d,e,f\n"
        assert problems(text, "csv") == [
            "line 1, text: no such column; did you mean prompt?",
            "line 1, qualty: no such column; did you mean quality?",
            f"line 1, colour: no such column (there are {', '.join(COLUMNS)})",
            "line 1, seconds: no such column; did you mean duration?",
            "line 1, id: the column is there twice",
            "line 1, prompt: the column is missing; the first line of a .csv list names its columns",
        ]

    def test_guesses_that_a_list_without_a_header_is_plain_text(self) -> None:
        assert problems("A cat\nA dog\n", "csv")[-1].endswith("give --format txt")

    def test_tells_rows_of_another_width(self) -> None:
        text = "prompt,quality\na,480p\nb, c,480p\nd\n"
        assert problems(text, "csv") == [
            "line 3: has 3 cells, the header 2; text with a comma in it needs quotes around it",
            "line 4: has 1 cell, the header 2",
        ]

    def test_columns_without_a_name_must_be_empty(self) -> None:
        assert problems("prompt,\na,\nb,c\n", "csv") == ["line 3: cell 2 stands in a column without a name"]

    def test_skips_rows_without_content(self) -> None:
        assert len(items("prompt,quality\na,\n,\n\nb,\n", "csv")) == 2

    def test_tells_where_a_quote_was_opened_that_is_never_closed(self) -> None:
        assert problems('prompt\na\n"b\nc\nd\n', "csv") == ["line 3: a quote is opened here and never closed"]

    def test_a_quote_never_closed_in_a_long_list_ends_the_reading(self) -> None:
        text = 'prompt\n"a\n' + "b\n" * 100_000
        assert problems(text, "csv") == ["line 2: a quote is opened here and never closed"]

    def test_tells_a_quote_inside_quotes(self) -> None:
        (problem,) = problems('prompt\n"a "quoted" word"\nb\n', "csv")
        assert problem == 'line 2: text goes on behind a closing quote; a quote inside quotes is written ""'

    def test_a_bad_cell_and_a_broken_rule_of_one_row_are_both_told(self) -> None:
        assert problems("prompt,prompt_extend,quality,extra\nx,maybe,4k,[\n", "csv") == [
            'line 2, prompt_extend: "maybe" is not true or false',
            'line 2, extra: "[" is not JSON',
            'line 2, quality: "4k" is not a quality of this model (480p, 720p, 1080p)',
        ]

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), max_size=8))
    def test_gives_back_every_prompt_a_csv_writer_wrote(self, prompts: list[str]) -> None:
        prompts = [prompt for prompt in prompts if prompt.strip()]
        stream = io.StringIO(newline="")
        writer = csv.writer(stream)
        writer.writerow(["prompt", "quality"])
        writer.writerows([prompt, "480p"] for prompt in prompts)
        pieces = io.StringIO(stream.getvalue(), newline="")
        lines = list(read(iter(pieces.readline, ""), "csv"))
        assert [line.item and line.item.request.prompt for line in lines] == prompts


class TestJsonl:
    def test_takes_objects_and_bare_prompts(self) -> None:
        text = '{"prompt": "a", "duration": 10, "id": 7}\n\n"b"\n{"prompt": "c", "quality": null, "file": "c.mp4"}\n'
        assert items(text, "jsonl") == [
            BatchItem(VideoRequest("a", duration=10), id="7"),
            BatchItem(VideoRequest("b")),
            BatchItem(VideoRequest("c"), file="c.mp4"),
        ]

    def test_takes_whole_floats_for_whole_numbers(self) -> None:
        (request,) = requests('{"prompt": "a", "duration": 5.0}', "jsonl")
        assert type(request.duration) is int

    def test_broken_lines_do_not_hide_others(self) -> None:
        text = '{"prompt": "a"\n{"prompt": "b"} x\n[1]\nnull\n{"prompt": "fine"}\n'
        assert problems(text, "jsonl") == [
            "line 1: broken JSON: expecting ',' delimiter (column 15)",
            "line 2: broken JSON: extra data (column 17)",
            "line 3: must be an object of fields or a prompt in quotes, not an array",
            "line 4: must be an object of fields or a prompt in quotes, not null",
        ]
        assert parse(text, "jsonl")[-1].item is not None

    def test_counts_columns_from_the_start_of_an_indented_line(self) -> None:
        (problem,) = problems('   {"prompt" "a"}\n', "jsonl")
        assert problem.endswith("(column 14)")

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ('{"prompt": 5}', "line 1, prompt: 5 must be text"),
            ('{"prompt": " "}', 'line 1, prompt: " " must not be blank'),
            ("{}", "line 1, prompt: is missing"),
            ('{"prompt": null}', "line 1, prompt: is missing"),
            ('{"prompt": "x", "duration": "5"}', 'line 1, duration: "5" must be a whole number'),
            ('{"prompt": "x", "duration": true}', "line 1, duration: true must be a whole number"),
            ('{"prompt": "x", "duration": 5.5}', "line 1, duration: 5.5 must be a whole number"),
            ('{"prompt": "x", "prompt_extend": "yes"}', 'line 1, prompt_extend: "yes" must be true or false'),
            ('{"prompt": "x", "image_urls": "u"}', "line 1, image_urls: must be a list of links, not text"),
            ('{"prompt": "x", "extra": [1]}', "line 1, extra: must be an object of further API fields, not an array"),
            ('{"prompt": "x", "extra": {"quality": "4k"}}', "line 1, extra: "),
            ('{"prompt": "x", "id": true}', "line 1, id: must be text, not true"),
            ('{"prompt": "x", "id": ""}', "line 1, id: must be 1 to 200 printable characters"),
            ('{"prompt": "x", "id": "a\\nb"}', "line 1, id: must be 1 to 200 printable characters"),
            ('{"prompt": "x", "file": {}}', "line 1, file: must be text, not an object"),
            ('{"prompt": "x", "file": "../x.mp4"}', 'line 1, file: "../x.mp4" must not leave the output directory'),
            ('{"prompt": "x", "model": "wan9"}', 'line 1, model: "wan9" is not a model known here'),
            ('{"prompt": "x", "promt": "y"}', "line 1, promt: no such field; did you mean prompt?"),
            ('{"prompt": "x", "prompt": "y"}', "line 1, prompt: the field is there twice"),
            ('{"prompt": "x", "extra": {"a": NaN}}', "line 1: broken JSON: NaN is not a JSON value"),
            ('{"prompt": "x", "extra": {"a": -Infinity}}', "line 1: broken JSON: -Infinity is not a JSON value"),
            ('{"prompt": "\\ud800"}', "line 1, prompt: "),
            ("[" * 100_000, "line 1: broken JSON: nested too deeply"),
            ('{"a": ' + "9" * 5000 + "}", "line 1: broken JSON: a number of 5000 digits"),
        ],
    )
    def test_names_the_field_and_the_reason(self, line: str, problem: str) -> None:
        (told,) = problems(line, "jsonl")
        assert told.startswith(problem)

    def test_tells_all_fields_that_are_wrong_at_once(self) -> None:
        line = '{"quality": "4k", "duration": 7, "colour": 1, "id": [], "prompt_extend": 1}'
        assert {problem.split(":")[0] for problem in problems(line, "jsonl")} == {
            "line 1, prompt",
            "line 1, quality",
            "line 1, duration",
            "line 1, colour",
            "line 1, id",
            "line 1, prompt_extend",
        }

    def test_shows_strangers_text_on_one_line_without_control_characters(self) -> None:
        (problem,) = problems('{"prompt": "x", "quality": "\\u001b[31m\\n\\u202e"}', "jsonl")
        assert problem.isprintable()

    @settings(max_examples=150, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(COLUMNS) | st.text(), inner, max_size=5)
            ),
            max_leaves=12,
        )
    )
    def test_any_json_is_an_item_or_has_a_problem(self, value: Any) -> None:
        for text, form in ((json.dumps(value), "jsonl"), (json.dumps([value]), "json")):
            (line,) = parse(text, form)
            assert (line.item is None) == bool(line.problems)
            assert all(str(problem).isprintable() for problem in line.problems)


class TestJson:
    def test_takes_an_array_of_objects_and_prompts_in_any_layout(self) -> None:
        text = ' [ "a" ,\n{"prompt":\n "b", "duration": 10}\n\n,"c"]\n '
        assert [(line.number, line.item and line.item.request.prompt) for line in parse(text, "json")] == [
            (1, "a"),
            (2, "b"),
            (5, "c"),
        ]

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ('{"prompt": "a"}', "line 1: a .json list must be one array, [ … ]; one object a line is .jsonl"),
            ('["a"\n "b"]', "line 2: broken JSON: expecting ',' or ']' (column 2)"),
            ('["a",', "line 1: broken JSON: expecting value (column 6)"),
            ('["a"', "line 1: broken JSON: expecting ',' or ']' (column 5)"),
            ('[\n"a"] x', "line 2: broken JSON: extra data after the array (column 6)"),
            ('["a",\n {"prompt": "b" "c"}]', "line 2: broken JSON: expecting ',' delimiter (column 17)"),
            ('["a",\n\n  {"prompt":\n "unclosed}]', "line 4: broken JSON: unterminated string starting at (column 2)"),
            ('[\n{"prompt": "a", "prompt": "b"}]', "line 2, prompt: the field is there twice"),
        ],
    )
    def test_names_line_and_column_of_what_is_broken(self, text: str, problem: str) -> None:
        assert problems(text, "json")[-1] == problem

    def test_an_empty_array_and_an_empty_text_hold_nothing(self) -> None:
        assert parse("[]", "json") == parse(" [ \n ] ", "json") == parse("", "json") == parse(" \n", "json") == []

    def test_goes_on_behind_a_bad_entry(self) -> None:
        lines = parse('["a", 5, {"prompt": "b", "quality": "4k"}, "c"]', "json")
        assert [line.item is not None for line in lines] == [True, False, False, True]

    def test_line_and_column_hold_across_the_window(self) -> None:
        many = ",\n".join(json.dumps({"prompt": f"{number} {'x' * 50}"}) for number in range(5000))
        *good, bad = parse(f'[{many},\n  {{"prompt" 5}}]', "json")
        assert len(good) == 5000
        assert all(line.item for line in good)
        assert str(bad.problems[0]).startswith("line 5001: broken JSON: ")
        assert str(bad.problems[0]).endswith("(column 13)")

    def test_an_array_may_stand_on_one_endless_line(self) -> None:
        text = json.dumps([{"prompt": "x" * 1000} for _ in range(3 * MAX_LINE // 1000)])
        assert len(items(text, "json")) == 3 * MAX_LINE // 1000

    def test_an_entry_longer_than_a_line_may_be_is_not_read_on_for_ever(self) -> None:
        def endless() -> Iterator[str]:
            yield '["'
            for _ in range(10 * MAX_LINE // 4096):
                yield "x" * 4096
            raise AssertionError("read to the end of an endless string")

        (line,) = read(endless(), "json")
        assert "unterminated string" in str(line.problems[0])

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.text(min_size=1, max_size=30), max_size=6),
        st.sampled_from([None, 1, 3]),
        st.integers(1, 40),
    )
    def test_is_read_alike_however_the_text_is_cut(self, prompts: list[str], indent: int | None, size: int) -> None:
        text = json.dumps([{"prompt": prompt} for prompt in prompts], indent=indent)
        cut = [text[start : start + size] for start in range(0, len(text), size)]
        assert list(read(cut, "json")) == parse(text, "json")
        assert len(parse(text, "json")) == len(prompts)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.sampled_from(sorted(FORMATS)))
def test_no_text_at_all_raises(text: str, form: str) -> None:
    for line in parse(text, form):
        assert (line.item is None) == bool(line.problems)


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_is_lazy(form: str) -> None:
    first = {"txt": "a\n", "csv": "prompt\na\n", "jsonl": '"a"\n', "json": '["a",\n' + " " * 70_000}[form]
    taken = 0

    def pieces() -> Iterator[str]:
        nonlocal taken
        yield from first.splitlines(keepends=True)
        for number in range(10_000):
            taken += 1
            yield f'"{number}",\n' if form == "json" else f'"{number}"\n'

    line = next(iter(read(pieces(), form)))
    assert line.item is not None
    assert taken < 10


PROMPTS = st.sampled_from(["a", "猫", " ", "x" * 2000, "x" * 2001, "\udcff", "half \ud83d", "tab\there"])
DEFAULTS = st.sampled_from(
    [{}, {"quality": "1080p"}, {"quality": "480p", "aspect_ratio": "4:3"}, {"model": "wan2.5-image-to-video"}]
)


class TestJudging:
    @given(prompts=st.lists(PROMPTS, max_size=5), form=st.sampled_from(["txt", "jsonl", "json"]), defaults=DEFAULTS)
    @settings(max_examples=100)
    def test_finds_what_reading_finds(self, prompts: list[str], form: str, defaults: dict[str, str]) -> None:
        text = {"txt": "\n".join(prompts), "json": json.dumps(prompts)}.get(form, "\n".join(map(json.dumps, prompts)))

        def found(lines: Iterator[ListLine]) -> list[tuple[object, ...]]:
            return [(line.number, line.item is None, line.problems) for line in lines]

        assert found(judge(lines_of(text), form, defaults)) == found(read(lines_of(text), form, defaults))
