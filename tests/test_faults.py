"""Bad input, from the file to the words on the screen: read as it stands, or refused with what to type next.

Every refusal is tried with `ftkit check` and with `ftkit train`, which have to say the same and leave no file.
The cases bear the numbers of the list of faults that the project promises to withstand.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import tiny
from tests.tiny import Finished

MESSY = Path(__file__).resolve().parents[2] / "shared" / "data" / "messy"
needs_messy = pytest.mark.skipif(not MESSY.is_dir(), reason="the shared data sets are not here")

ROWS = "".join(f"it was day {n},{'ab'[n % 2]}\n" for n in range(20))


@pytest.fixture(scope="module")
def model(checkpoint_of: Callable[[str], Path]) -> Path:
    return checkpoint_of("bert")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path


class Tried:
    """ftkit on one file, with the tiny model."""

    def __init__(self, model: Path) -> None:
        self.model = model

    def check(self, path: str | Path, *options: str) -> Finished:
        return tiny.ftkit("check", path, "--model", self.model, "--no-forecast", *options)

    def train(self, path: str | Path, *options: str) -> Finished:
        arguments = ("--model", self.model, "--out", "run", "--epochs", "1", "--precision", "fp32", "--json")
        return tiny.ftkit("train", path, *arguments, *options)

    def facts(self, path: str | Path, *options: str) -> dict[str, Any]:
        """What `ftkit check` says of a file that it can read."""
        done = self.check(path, "--json", *options)
        assert (done.code, done.err) == (0, "")
        found: dict[str, Any] = done.json
        return found

    def refusal(self, path: str | Path, *options: str) -> str:
        """What `ftkit check` and `ftkit train` say of a file that they cannot use."""
        checked, trained = self.check(path, *options), self.train(path, *options)
        assert (
            (checked.code, checked.out, checked.err) == (trained.code, trained.out, trained.err) == (2, "", checked.err)
        )
        assert "Traceback" not in checked.err
        assert [file for file in Path("run").rglob("*") if file.is_file()] == []
        return checked.err.removeprefix("error: ").strip()


@pytest.fixture
def tried(model: Path) -> Tried:
    return Tried(model)


def write(name: str, content: str | bytes) -> str:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def csv(rows: str, header: str = "text,label") -> str:
    return write("data.csv", f"{header}\n{rows}")


def labelled(labels: list[Any]) -> str:
    return csv("".join(f"it was day {n},{label}\n" for n, label in enumerate(labels)))


def jsonl(*rows: dict[str, Any]) -> str:
    whole = [{"text": f"day {n}", "label": "ab"[n % 2]} for n in range(10)]
    return write("data.jsonl", "".join(json.dumps(row) + "\n" for row in [*whole, *rows]))


def option(message: str, name: str) -> list[str]:
    """An option with its value, as a message says it should be added."""
    found = re.search(rf"{name} (\S+)", message)
    assert found, message
    return [name, found[1]]


def answers(path: str | Path) -> list[dict[str, Any]]:
    return tiny.read_jsonl(Path(path))


# 21: "NA", "null" and empty cells.


def test_21_na_and_null_are_texts_and_empty_cells_are_counted(tried: Tried) -> None:
    facts = tried.facts(csv('NA,a\nnull,b\n,a\nNone,b\n"  ",a\nnan,b\nN/A,a\n' + ROWS))
    assert facts["read"] == {"train": 27}
    assert facts["left_out"] == {"empty text": 2}
    assert sum(split["rows"] for split in facts["splits"].values()) == 25


def test_21_na_and_null_are_labels(tried: Tried) -> None:
    assert tried.facts(labelled(["NA", "null", "None"] * 4))["labels"] == ["NA", "None", "null"]


def test_21_na_is_answered_and_empty_cells_are_marked(tried: Tried) -> None:
    assert tried.train(csv(ROWS)).code == 0
    write("new.csv", "id,text\n1,NA\n2,\n3,null\n")
    done = tiny.ftkit("predict", "run", "new.csv", "-o", "answers.jsonl")
    assert (done.code, "answered 2 of 3 rows" in done.err) == (0, True)
    rows = answers("answers.jsonl")
    assert [(row["id"], row["text"]) for row in rows] == [("1", "NA"), ("2", ""), ("3", "null")]
    assert [row.get("error") for row in rows] == [None, "the text is empty", None]
    assert [row["label"] in ("a", "b") for row in rows] == [True, False, True]


# 22: encodings.


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_22_byte_order_marks_are_understood(tried: Tried, encoding: str) -> None:
    facts = tried.facts(write("data.csv", ("text,label\nça va 好,a\n" + ROWS).encode(encoding)))
    assert facts["columns"] == {"text": "text", "label": "label"}
    assert facts["read"] == {"train": 21}


@pytest.mark.parametrize(
    ("encoding", "text", "shown", "byte"),
    [
        ("latin-1", "ça va", "ça va,a", "0xE7"),
        ("gb18030", "房间很好，服务很差", "房间很好，服务很差,a", "0xB7"),
        ("cp1251", "хорошая книга", "хорошая книга,a", "0xF5"),
    ],
)
def test_22_another_encoding_is_named_and_its_option_works(
    tried: Tried, encoding: str, text: str, shown: str, byte: str
) -> None:
    write("data.csv", f"text,label\n{text},a\n{ROWS}".encode(encoding))
    message = tried.refusal("data.csv")
    assert re.fullmatch(
        rf"data\.csv:2: byte {byte} at offset 11 is not utf-8 \(.*\)\n"
        rf"It is most likely {encoding}, in which the place reads '{shown}': add --encoding {encoding}",
        message,
    )
    assert tried.facts("data.csv", *option(message, "--encoding"))["read"] == {"train": 21}


def test_22_utf_16_without_a_mark_is_named_and_its_option_works(tried: Tried) -> None:
    write("data.csv", ("text,label\n" + ROWS).encode("utf-16-le"))
    message = tried.refusal("data.csv")
    assert message == (
        "data.csv:1: a NUL character: this is a binary file, or UTF-16 without a byte-order mark\n"
        "If it is UTF-16, add --encoding utf-16-le or utf-16-be; a spreadsheet: save it as CSV"
    )
    assert tried.facts("data.csv", *option(message, "--encoding"))["read"] == {"train": 20}


# 23, 24, 25: separators, quotes and headers.

QUOTE_CELLS = (
    "Put cells that hold the separator or a line break between double quotes, and double the quotes inside; "
    'if another character separates the cells, name it: --set data.delimiter=";"'
)


def test_23_an_unquoted_comma_in_every_row_is_an_error_with_its_line(tried: Tried) -> None:
    rows = "".join(f"a, b and {n},{'ab'[n % 2]}\n" for n in range(20))
    assert tried.refusal(csv(rows)) == (
        f"data.csv:2: 3 fields, but the header has 2: an unquoted comma?\n{QUOTE_CELLS}"
    )
    quoted = "".join(f'"a, b and {n}",{"ab"[n % 2]}\n' for n in range(20))
    assert tried.facts(csv(quoted))["read"] == {"train": 20}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("one, two,a", "3 fields, but the header has 2: an unquoted comma?"),
        ("one", "1 field, but the header has 2: a missing comma, or a line break?"),
    ],
)
def test_24_a_ragged_row_is_an_error_with_its_line(tried: Tried, row: str, problem: str) -> None:
    assert tried.refusal(csv(f"{ROWS}{row}\n{ROWS}")) == f"data.csv:22: {problem}\n{QUOTE_CELLS}"


def test_24_an_open_quote_is_an_error_with_the_line_that_opens_it(tried: Tried) -> None:
    message = tried.refusal(csv(f'{ROWS}"it rained,a\n{ROWS}'))
    assert message == (
        "data.csv:22: a double quote opens a cell here and is never closed\n"
        "Close it; if quotes are plain text in this file, add --set data.quoting=false"
    )
    assert tried.facts("data.csv", *option(message, "--set"))["read"] == {"train": 41}


def test_25_a_semicolon_and_a_missing_header_are_found_and_told(tried: Tried) -> None:
    facts = tried.facts(write("data.csv", ROWS.replace(",", ";")))
    assert (facts["columns"], facts["read"]) == ({"text": "column1", "label": "column2"}, {"train": 20})
    notes = [value for what, value in facts["inferred"] if what == "train: data.csv"]
    assert notes == [
        "no header ('a' occurs again in its column), so the columns are numbered; if the first row is one, "
        "add --set data.header=true",
        "separator semicolon",
    ]


def test_25_columns_without_a_label_are_listed_and_naming_one_works(tried: Tried) -> None:
    write("data.csv", "".join(f"It was day {n} of a long winter;page {n};{'ab'[n % 2]}\n" for n in range(20)))
    message = tried.refusal("data.csv", "--label", "label")
    assert message == (
        "there is no column 'label'; the columns are column1, column2, column3\n--label NAME takes one of them"
    )
    facts = tried.facts("data.csv", "--label", "column3")
    assert facts["columns"] == {"text": "column1", "label": "column3"}


def test_25_a_file_without_a_label_is_refused_with_its_columns(tried: Tried) -> None:
    write("data.csv", "".join(f"It was day {n} of a long winter;page {n}\n" for n in range(20)))
    assert tried.refusal("data.csv") == (
        "no label column was found among: It was day 0 of a long winter (It was day 1 of a long winter), "
        "page 0 (page 1)\n"
        "--label NAME names it; --set data.header=false if the first row is data"
    )


def test_25_a_wrong_column_is_refused_with_those_that_are_there(tried: Tried) -> None:
    assert tried.refusal(csv(ROWS), "--text", "texts") == (
        "there is no column 'texts'; the columns are text, label\ndid you mean text?"
    )


# 26, 27: labels and numbers as they stand.


@pytest.mark.parametrize("count", [8, 10_050])
@pytest.mark.parametrize("early", [True, False])
def test_26_labels_of_mixed_kinds_are_read_alike_wherever_they_stand(tried: Tried, count: int, early: bool) -> None:
    usual, odd = ["0", "1"] * (count // 2), ["unclear", "unclear"]
    facts = tried.facts(labelled(odd + usual if early else usual + odd))
    assert facts["labels"] == ["0", "1", "unclear"]
    assert facts["read"] == {"train": count + 2}


def test_26_numbers_and_words_of_a_jsonl_file_are_read_alike(tried: Tried) -> None:
    write("data.jsonl", "".join(json.dumps({"text": f"day {n}", "label": n % 2}) + "\n" for n in range(2000)))
    with open("data.jsonl", "a") as file:
        file.write('{"text": "x", "label": "unclear"}\n{"text": "y", "label": "unclear"}\n')
    assert tried.facts("data.jsonl")["labels"] == ["0", "1", "unclear"]


def test_27_labels_keep_their_zeros_and_exponents(tried: Tried) -> None:
    facts = tried.facts(labelled(["007", "7", "1e3", "1000"] * 4))
    assert facts["labels"] == ["007", "1000", "1e3", "7"]


def test_27_identifiers_keep_every_digit(tried: Tried) -> None:
    assert tried.train(csv(ROWS)).code == 0
    write("new.csv", "id,text\n12345678901234567,good\n,bad\n007,fine\n1e3,cold\n")
    assert tiny.ftkit("predict", "run", "new.csv", "-o", "answers.csv").code == 0
    assert [line.split(",")[0] for line in Path("answers.csv").read_text().splitlines()] == [
        "id",
        "12345678901234567",
        "",
        "007",
        "1e3",
    ]


# 28, 29: JSON Lines.

MEND_THE_LINE = "Mend or delete the line; if the whole file is one JSON document, add --format json"


def test_28_a_truncated_file_is_an_error_with_its_line(tried: Tried) -> None:
    path = jsonl()
    Path(path).write_text(Path(path).read_text() + '{"text": "day", "la')
    assert tried.refusal(path) == f"data.jsonl:11: column 17: Unterminated string starting at\n{MEND_THE_LINE}"


def test_28_a_bad_line_in_the_middle_is_an_error_with_its_line(tried: Tried) -> None:
    path = jsonl()
    lines = Path(path).read_text().splitlines()
    Path(path).write_text("\n".join([*lines[:5], "{'text': 'x'}", *lines[5:]]))
    message = tried.refusal(path)
    assert message.startswith("data.jsonl:6: column 2: ")
    assert message.endswith(MEND_THE_LINE)


def test_29_rows_without_a_label_are_refused_with_their_count_and_lines(tried: Tried) -> None:
    assert tried.refusal(jsonl({"text": "x"}, {"text": "y", "label": None}, {"text": "z", "label": ""})) == (
        "3 of 13 rows of data.jsonl have no label (data.jsonl:11, data.jsonl:12, data.jsonl:13)\n"
        "Fill in or remove these rows; `ftkit predict` answers rows without labels"
    )


def test_29_rows_without_a_text_are_refused_with_their_count_and_lines(tried: Tried) -> None:
    assert tried.refusal(jsonl({"label": "a"}, {"text": None, "label": "b"})) == (
        "2 of 12 rows of data.jsonl have no value for the text (line 11, line 12)\n"
        "Fill in or remove these rows; `ftkit predict` answers the others and marks these"
    )


def test_29_nan_in_json_is_an_error_with_its_line(tried: Tried) -> None:
    path = jsonl()
    Path(path).write_text(Path(path).read_text() + '{"text": "x", "label": NaN}\n')
    assert tried.refusal(path) == (
        f"data.jsonl:11: NaN is no JSON value; write null or leave the key out\n{MEND_THE_LINE}"
    )


def test_29_nan_labels_of_a_parquet_file_are_refused_with_their_count(tried: Tried) -> None:
    labels = pa.array([0.0, 1.0, float("nan"), None] * 5)
    pq.write_table(pa.table({"text": [f"day {n}" for n in range(20)], "label": labels}), "data.parquet")
    assert tried.refusal("data.parquet").splitlines()[0] == (
        "10 of 20 rows of data.parquet have no label (data.parquet, row 3, data.parquet, row 4, "
        "data.parquet, row 7, data.parquet, row 8, data.parquet, row 11)"
    )


# 30: the cache.


def test_30_a_file_with_new_content_and_its_old_time_and_size_is_read_anew(tried: Tried) -> None:
    path = csv(ROWS)
    before, times = tried.facts(path), os.stat(path)
    csv(ROWS.replace("day", "the"))  # which the model knows as one word
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    after = tried.facts(path)
    assert before["sources"] != after["sources"]
    assert before["splits"]["train"]["tokens"] != after["splits"]["train"]["tokens"]


def test_30_an_edited_cache_is_not_used(tried: Tried, place: Path) -> None:
    path = csv(ROWS)
    before = tried.facts(path)
    caches = sorted((place / "cache").rglob("starts.npy"))
    assert len(caches) == 2
    for file in caches:
        content = bytearray(file.read_bytes())
        content[-8] += 1  # the last window would seem to be a token longer
        file.write_bytes(content)
    assert tried.facts(path) == before


# 31: labels of training and test files that differ.


@pytest.fixture
def three_labels(tried: Tried) -> None:
    """A run that knows a, b and c."""
    rows = "".join(f"{word} day {n},{label}\n" for n in range(8) for word, label in zip("xyz", "abc", strict=True))
    assert tried.train(csv(rows)).code == 0


@pytest.mark.usefixtures("three_labels")
def test_31_labels_keep_their_places_in_a_file_that_lacks_one() -> None:
    """A test file of a and c: an answer of b is wrong there, and c is not numbered as the second label."""
    write("test.csv", "text,label\nx day 1,a\nz day 2,c\nx day 3,a\n")
    done = tiny.ftkit("eval", "run", "test.csv", "--json")
    assert done.code == 0
    rows = answers("run/eval/test/predictions.jsonl")
    right = sum(row["label"] == row["reference"] for row in rows)
    assert [row["reference"] for row in rows] == ["a", "c", "a"]
    assert done.json["scores"]["accuracy"]["value"] == pytest.approx(right / 3)
    assert [row["label"] for row in done.json["classes"]] == ["a", "b", "c"]


@pytest.mark.usefixtures("three_labels")
def test_31_unseen_labels_are_refused_with_their_counts() -> None:
    write("test.csv", "text,label\nx,a\ny,d\nz,d\n")
    done = tiny.ftkit("eval", "run", "test.csv")
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "error: test.csv has labels that training does not know: 'd' (2 rows). It knows: a, b, c\n"
        "Correct the labels, or train on rows that have them\n",
    )
    assert not Path("run/eval/test").exists()


def test_31_unseen_labels_of_a_validation_file_are_refused_before_training(tried: Tried) -> None:
    write("dev.csv", "text,label\nx,a\ny,d\n")
    assert tried.refusal(csv(ROWS), "--validation", "dev.csv").startswith(
        "dev.csv has labels that training does not know: 'd' (1 rows). It knows: a, b\n"
    )


def test_31_texts_of_validation_and_test_files_are_not_learned_from(tried: Tried) -> None:
    write("dev.csv", "text,label\nIt was  day 3,b\nit rained,a\n")
    write("test.csv", "text,label\nit was day 4,a\nIT RAINED,a\n")
    facts = tried.facts(csv(ROWS), "--validation", "dev.csv", "--test", "test.csv")
    assert facts["left_out"] == {
        "text is in the validation rows too": 1,
        "text is in the test rows too": 1,
    }
    assert {name: split["rows"] for name, split in facts["splits"].items()} == {"train": 18, "validation": 2, "test": 2}
    assert facts["shared_texts"] == {"train/validation": 0, "train/test": 0, "validation/test": 1}
    done = tried.check("data.csv", "--validation", "dev.csv", "--test", "test.csv")
    assert "note: 1 rows of test have a text that validation has too" in done.out


# 32: too little to learn from.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "data.csv is empty\nName a file that holds at least one row"),
        ("\n\n", "data.csv holds blank lines only\nName a file that holds at least one row"),
        (
            "text,label\n",
            "data.csv has a header (text, label) but no rows\n"
            "If that row is data and no header, add --set data.header=false",
        ),
        (
            "text,label\n" + ROWS.replace(",b", ",a"),
            "data.csv has only one label, 'a' in its 20 rows: there is nothing to tell apart\n"
            "Is it the right column? --label NAME chooses it",
        ),
    ],
)
def test_32_too_little_to_learn_from_is_refused(tried: Tried, content: str, message: str) -> None:
    assert tried.refusal(write("data.csv", content)) == message


def test_32_a_label_with_a_single_row_is_refused_unless_a_validation_file_is_named(tried: Tried) -> None:
    message = tried.refusal(csv(f"it rained,c\n{ROWS}"))
    assert "label" in message.splitlines()[0] and "single row: c;" in message.splitlines()[0]
    assert message.splitlines()[1] == (
        "Merge or remove these labels, add rows, or name a validation file: --validation FILE"
    )
    write("dev.csv", "text,label\nx,a\ny,b\n")
    assert tried.facts("data.csv", "--validation", "dev.csv")["splits"]["train"]["labels"] == {"a": 10, "b": 10, "c": 1}


def test_32_rows_that_all_share_a_text_are_refused(tried: Tried) -> None:
    assert tried.refusal(csv("same,a\nsame,b\n" * 5)) == (
        "10 rows with 1 different texts are too few to hold some out for validation\n"
        "Add rows, or name a validation file: --validation FILE"
    )


# 33: numbers that other tools trip over.


def test_33_labels_from_one_to_five_are_learned(tried: Tried) -> None:
    done = tried.train(labelled([n % 5 + 1 for n in range(20)]))
    assert done.code == 0
    assert json.loads(Path("run/task.json").read_text())["labels"] == ["1", "2", "3", "4", "5"]
    assert {row["label"] for row in answers("run/eval/validation/predictions.jsonl")} <= set("12345")


@pytest.mark.parametrize(("mark", "others"), [("-1", [0, 1, 2]), ("-100", [0, 1])])
def test_33_numbers_that_mark_a_missing_label_are_refused(tried: Tried, mark: str, others: list[int]) -> None:
    message = tried.refusal(labelled([*others, mark] * 5))
    assert re.fullmatch(rf"5 rows .*have the label {mark}, which usually marks a missing one", message.splitlines()[0])
    assert message.splitlines()[1] == "Remove these rows, or give the label another name"


def test_33_minus_one_zero_and_one_are_labels(tried: Tried) -> None:
    assert tried.facts(labelled([n % 3 - 1 for n in range(18)]))["labels"] == ["-1", "0", "1"]


def test_33_a_file_of_nothing_but_missing_labels_is_refused(tried: Tried) -> None:
    assert tried.refusal(labelled([-100] * 20)).startswith("data.csv has only one label, '-100' in its 20 rows")


# 34: one label in a hundred.


@pytest.fixture
def unbalanced() -> str:
    return labelled(["rare" if n % 100 == 0 else "usual" for n in range(400)])


def test_34_a_rare_label_is_warned_of(tried: Tried, unbalanced: str) -> None:
    done = tried.check(unbalanced)
    assert "note: one label has more than nine tenths of the rows: look at macro F1 rather than at accuracy" in done.out


def test_34_a_rare_label_is_on_both_sides(tried: Tried, unbalanced: str) -> None:
    splits = tried.facts(unbalanced)["splits"]
    assert {name: split["labels"]["rare"] for name, split in splits.items()} == {"train": 3, "validation": 1}


def test_34_macro_f1_and_the_majority_baseline_show_what_accuracy_hides(tried: Tried, unbalanced: str) -> None:
    done = tried.train(unbalanced)
    assert done.code == 0
    scores = done.json["validation"]
    majority = scores["baselines"]["majority"]["scores"]
    assert majority["accuracy"]["value"] == pytest.approx(40 / 41)
    assert majority["f1_macro"]["value"] == pytest.approx((2 * 40 / 81) / 2)
    assert "f1_macro" in scores["scores"]


# Five real files with real trouble.


@needs_messy
def test_reviews_from_excel_in_gb18030_are_refused_and_the_option_reads_them(tried: Tried) -> None:
    path = MESSY / "chnsenticorp_excel_gb18030_crlf.csv"
    message = tried.refusal(path)
    assert message.startswith(f"{path}:1: byte 0xB1 at offset 0 is not utf-8")
    read = tried.facts(path, *option(message, "--encoding"))
    assert (read["columns"], read["labels"], read["read"]) == (
        {"text": "评论", "label": "标签"},
        ["0", "1"],
        {"train": 600},
    )


@needs_messy
def test_reviews_from_excel_in_utf_8_are_the_same_rows(tried: Tried) -> None:
    read = [
        tried.facts(MESSY / "chnsenticorp_excel_utf8_bom_crlf.csv"),
        tried.facts(MESSY / "chnsenticorp_excel_gb18030_crlf.csv", "--encoding", "gb18030"),
    ]
    assert read[0]["splits"] == read[1]["splits"]


@needs_messy
def test_questions_in_latin_1_are_refused_and_the_option_reads_them(tried: Tried) -> None:
    path = MESSY / "trec_train_latin1.label"
    message = tried.refusal(path)
    assert message.startswith(f"{path}:66: byte 0xF0 at offset 3,665 is not utf-8")
    read = tried.facts(path, *option(message, "--encoding"))
    assert (read["columns"], len(read["labels"]), read["read"]) == (
        {"text": "text", "label": "label"},
        50,
        {"train": 5440},
    )


@needs_messy
def test_messages_with_unnamed_columns_are_read(tried: Tried) -> None:
    path = MESSY / "spam_kaggle_unnamed_columns.csv"
    read = tried.facts(path)
    assert (read["columns"], read["labels"], read["read"]) == (
        {"text": "v2", "label": "v1"},
        ["ham", "spam"],
        {"train": 4377},
    )
    assert [
        f"train: {path}",
        "columns without a name in the header: unnamed3, unnamed4, unnamed5",
    ] in read["inferred"]


@needs_messy
def test_hotel_reviews_of_one_label_cannot_be_learned_from(tried: Tried) -> None:
    path = MESSY / "hotel_reviews_with_empty_row.csv"
    assert tried.refusal(path) == (
        f"{path} has only one label, '0' in its 119 rows: there is nothing to tell apart\n"
        "(left out of the training: 1 rows: empty text)\n"
        "Is it the right column? --label NAME chooses it"
    )


@needs_messy
def test_hotel_reviews_of_one_label_are_answered_and_the_empty_one_is_marked(tried: Tried) -> None:
    assert tried.train(labelled([0, 1] * 10)).code == 0
    path = MESSY / "hotel_reviews_with_empty_row.csv"
    done = tiny.ftkit("predict", "run", path, "--column", "text=review", "-o", "answers.jsonl")
    assert (done.code, "answered 119 of 120 rows" in done.err) == (0, True)
    rows = answers("answers.jsonl")
    assert [n for n, row in enumerate(rows, start=2) if row.get("predicted_error")] == [62]


def test_a_refused_training_leaves_no_empty_folder_behind(tried: Tried) -> None:
    tried.train(csv("same,a\n" * 5))
    assert not Path("run").exists()
