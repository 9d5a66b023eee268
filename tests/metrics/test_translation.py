from __future__ import annotations

import builtins
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sacrebleu import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest

from ftkit.errors import UserError
from ftkit.metrics import translation
from ftkit.metrics.bootstrap import mean_interval
from ftkit.metrics.translation import SCORES, bleu_tokenizer, difference, quick, score, signatures

SAMPLES = Path(__file__).resolve().parents[2] / "recipes" / "samples"
steady = settings(deadline=None, derandomize=True)

ENGLISH = [
    "The cat sat on the mat (again).",
    "A man in an orange hat stares at something.",
    "People are fixing the roof of a house.",
    "Hello, world!",
    '"I don\'t know," said 3.5% of them.',
]
HYPOTHESES = [
    "The cat sat on a mat again .",
    "A man with an orange hat is staring at something.",
    "People fix the roof of the house.",
    "Hello, world!",
    "",
]
GERMAN = [
    "Die Katze saß wieder auf der Matte.",
    "Ein Mann mit einem orangefarbenen Hut starrt auf etwas, das „neu“ ist.",
]
GERMAN_HYPOTHESES = ["Die Katze sitzt auf der Matte.", "Ein Mann mit orangefarbenem Hut starrt etwas an."]
CHINESE = ["猫又坐在垫子上了。", "一个戴橙色帽子的男人盯着 GPU 看，他说：“好！”", "你好，世界！"]
CHINESE_HYPOTHESES = ["猫坐在垫子上。", "一名戴着橙色帽子的男子盯着GPU看。", "你好，世界！"]


def singly(texts: Sequence[str]) -> list[list[str]]:
    return [[text] for text in texts]


def phrases(name: str, language: str) -> list[str]:
    header, *lines = [line.split("\t") for line in (SAMPLES / name).read_text(encoding="utf-8").splitlines()]
    return [cells[header.index(language)] for cells in lines]


def command_line(folder: Path, hypotheses: list[str], streams: list[list[str]], *options: str) -> dict[str, Any]:
    """What `sacrebleu -m bleu chrf ter` prints: name -> (score to ten decimals, signature)."""
    paths = []
    for name, lines in {"hypotheses": hypotheses, **{f"references{n}": s for n, s in enumerate(streams)}}.items():
        paths.append(folder / name)
        paths[-1].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    metrics = ["-m", "bleu", "chrf", "ter", "--chrf-word-order", "2", "-w", "10", *options]
    command = [sys.executable, "-m", "sacrebleu", *map(str, paths[1:]), "-i", str(paths[0]), *metrics]
    printed = subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8").stdout
    return {found["name"]: (found["score"], found["signature"]) for found in json.loads(printed)}


def as_printed(report: dict[str, Any]) -> dict[str, Any]:
    names = {"BLEU": "bleu", "chrF2++": "chrf2pp", "TER": "ter"}
    return {
        theirs: (float(f"{report['scores'][ours]['value']:.10f}"), report["signatures"][ours])
        for theirs, ours in names.items()
    }


# Against sacreBLEU.


@pytest.mark.parametrize(
    ("hypotheses", "references", "language", "options"),
    [
        (HYPOTHESES, ENGLISH, "en", ()),
        (GERMAN_HYPOTHESES, GERMAN, "deu_Latn", ()),
        (CHINESE_HYPOTHESES, CHINESE, "zh", ("-tok", "zh", "--ter-normalized", "--ter-asian-support")),
    ],
)
def test_every_printed_digit_is_that_of_the_command_line(
    tmp_path: Path, hypotheses: list[str], references: list[str], language: str, options: tuple[str, ...]
) -> None:
    report = score(hypotheses, singly(references), language)
    assert as_printed(report) == command_line(tmp_path, hypotheses, [references], *options)


def test_several_references_are_scored_as_by_the_command_line(tmp_path: Path) -> None:
    others = ["The cat was sitting on a mat.", "A man wearing an orange hat.", "Roofers.", "Hi!", "“I don't know”"]
    report = score(HYPOTHESES, [list(pair) for pair in zip(ENGLISH, others, strict=True)], "en")
    assert "nrefs:2|" in report["signatures"]["ter"]
    assert as_printed(report) == command_line(tmp_path, HYPOTHESES, [ENGLISH, others])


def test_the_sample_phrases_are_scored_as_by_the_command_line(tmp_path: Path) -> None:
    french = phrases("phrases_test.tsv", "fr")
    hypotheses = [" ".join(reversed(text.split())) for text in french]
    assert as_printed(score(hypotheses, singly(french), "fr")) == command_line(tmp_path, hypotheses, [french])


words = st.lists(st.sampled_from(["a", "the", "cat.", "(on)", "on", "“Mat”", "!", "über", "猫坐", "3,5"]), max_size=9)
texts = words.map(" ".join) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
rows = st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=6)


@steady
@given(rows=rows)
@example(rows=[("", [""])])
@example(rows=[("a b c d e", ["", "a b c d e"]), ("x", ["y"])])
def test_values_are_those_of_the_library(rows: list[tuple[str, list[str]]]) -> None:
    hypotheses, references = [row[0] for row in rows], [row[1] for row in rows]
    most = max(map(len, references))
    streams: Any = [[row[n] if n < len(row) else None for row in references] for n in range(most)]
    metrics: dict[str, Any] = {"bleu": BLEU(), "chrf2pp": CHRF(word_order=2), "ter": TER(), "f1": CHRF(beta=1)}
    if not any(stream[0] is None for stream in streams):  # which sacreBLEU refuses
        expected = {name: metric.corpus_score(hypotheses, streams).score for name, metric in metrics.items()}
        expected["f1"] /= 100
        found = quick(hypotheses, references, "en")
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert signatures(references, "en") == {
            name: str(metrics[name].get_signature()) for name in ("bleu", "chrf2pp", "ter")
        }


def test_precision_and_recall_are_what_chrf_becomes_at_the_ends_of_beta() -> None:
    found = quick(HYPOTHESES, singly(ENGLISH), "en")
    precision, recall = (CHRF(beta=beta).corpus_score(HYPOTHESES, [ENGLISH]).score / 100 for beta in (0, 10**6))
    assert (found["precision"], found["recall"]) == pytest.approx((precision, recall), rel=1e-9)
    assert found["f1"] == pytest.approx(2 * precision * recall / (precision + recall), rel=1e-9)


def test_rows_with_different_numbers_of_references_say_so() -> None:
    report = score(["a b c d", "x"], [["a b c d", "e"], ["x"]], "en")
    assert {name: text.split("|")[0] for name, text in report["signatures"].items()} == {
        "bleu": "nrefs:var",
        "chrf2pp": "nrefs:var",
        "ter": "nrefs:var",
    }
    assert report["scores"]["bleu"]["value"] == 100


# By hand.


def test_character_n_grams_by_hand() -> None:
    # "ab c" against "abd": orders 1 (3, 3, 2), 2 (2, 2, 1), 3 (1, 1, 0)
    found = quick(["ab c"], [["abd"]], "en")
    mean = (2 / 3 + 1 / 2 + 0) / 3
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((mean, mean, mean))


def test_accuracy_is_the_share_of_equal_texts_but_for_outer_white_space() -> None:
    assert quick([" a b\n", "A b", "c", ""], [["x", "a b"], ["a b"], ["c ."], [" "]], "en")["accuracy"] == 0.5


def test_ter_of_words_where_none_are_wanted_is_100() -> None:
    assert quick(["x y"], [[""]], "en")["ter"] == 100
    assert quick(["a b c"], [["x"]], "en")["ter"] == 300


# Tokenizers.


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "13a"),
        ("zh", "zh"),
        ("zho_Hant", "zh"),
        ("zh_CN", "zh"),
        ("yue", "zh"),
        ("th", "13a"),
        ("Klingon", "13a"),
    ],
)
def test_the_target_language_chooses_the_tokenizer(language: str, expected: str) -> None:
    assert bleu_tokenizer(language) == expected


@pytest.mark.parametrize(("language", "mecab"), [("ja_XX", "ja-mecab"), ("kor_Hang", "ko-mecab")])
def test_mecab_is_used_where_it_is_installed(monkeypatch: Any, language: str, mecab: str) -> None:
    monkeypatch.setattr(translation, "find_spec", lambda name: None)
    assert bleu_tokenizer(language) == "char"
    assert "tok:char|" in signatures([["x"]], language)["bleu"]
    monkeypatch.setattr(translation, "find_spec", lambda name: object())
    assert bleu_tokenizer(language) == mecab


def test_chinese_words_are_characters_for_ter() -> None:
    assert quick(["猫坐在这"], [["猫坐在那"]], "zh")["ter"] == 25
    assert "asian:yes" in signatures([["猫"]], "zh")["ter"]


# Intervals.


def test_report_is_json_with_every_score_inside_its_interval() -> None:
    report = score(HYPOTHESES * 2, singly(ENGLISH * 2), "en", seed=3)
    assert json.loads(json.dumps(report)) == report
    assert (report["n"], tuple(report["scores"])) == (10, SCORES)
    assert all(found["low"] < found["value"] < found["high"] for found in report["scores"].values())
    assert report == score(HYPOTHESES * 2, singly(ENGLISH * 2), "en", seed=3)
    assert report["scores"] != score(HYPOTHESES * 2, singly(ENGLISH * 2), "en", seed=4)["scores"]


def test_the_interval_of_accuracy_is_that_of_a_mean() -> None:
    hypotheses, references = ["a"] * 60 + ["b"] * 40, singly(["a"] * 100)
    found = score(hypotheses, references, "en")["scores"]["accuracy"]
    expected = mean_interval(np.array([1.0] * 60 + [0.0] * 40)).as_dict()
    assert found == pytest.approx(expected, abs=0.015)


def test_the_interval_of_bleu_spans_what_resampled_rows_score() -> None:
    many = 40
    hypotheses, references = HYPOTHESES * many, ENGLISH * many
    found = score(hypotheses, singly(references), "en")["scores"]["bleu"]
    generator = np.random.default_rng(0)
    drawn = [generator.integers(len(hypotheses), size=len(hypotheses)) for _ in range(60)]
    bleu = BLEU()
    resampled = [
        bleu.corpus_score([hypotheses[n] for n in draw], [[references[n] for n in draw]]).score for draw in drawn
    ]
    assert (found["high"] - found["low"]) / 3.92 == pytest.approx(np.std(resampled), rel=0.3)


def test_perfect_translations_of_few_rows_prove_no_perfection() -> None:
    scores = score(ENGLISH, singly(ENGLISH), "en")["scores"]
    assert {name: found["value"] for name, found in scores.items()} == {
        "bleu": 100.0,
        "chrf2pp": 100.0,
        "ter": 0.0,
        "accuracy": 1.0,
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
    }
    assert scores["bleu"]["low"] < 60
    assert 40 < scores["ter"]["high"] < 100


@settings(steady, max_examples=30)
@given(rows=rows)
def test_scores_keep_their_bounds(rows: list[tuple[str, list[str]]]) -> None:
    report = score([row[0] for row in rows], [row[1] for row in rows], "en")
    for name, found in report["scores"].items():
        most = {"bleu": 100, "chrf2pp": 100, "ter": math.inf}.get(name, 1)
        assert 0 <= found["low"] <= found["value"] <= found["high"] <= most, name


@steady
@given(rows=rows, data=st.data())
def test_the_order_of_the_rows_does_not_matter(rows: list[tuple[str, list[str]]], data: Any) -> None:
    def found(rows: list[tuple[str, list[str]]]) -> dict[str, float]:
        return quick([row[0] for row in rows], [row[1] for row in rows], "en")

    assert found(data.draw(st.permutations(rows))) == pytest.approx(found(rows), rel=1e-12, abs=1e-12)


@steady
@given(same=st.lists(texts.map(lambda text: f"four words are here {text}"), min_size=1, max_size=5))
def test_identical_texts_are_perfect(same: list[str]) -> None:
    expected = {**dict.fromkeys(SCORES, 1.0), "bleu": 100.0, "chrf2pp": 100.0, "ter": 0.0}
    assert quick(same, singly(same), "en") == expected


def test_quick_values_are_those_of_the_report() -> None:
    report = score(CHINESE_HYPOTHESES, singly(CHINESE), "zh")
    assert quick(CHINESE_HYPOTHESES, singly(CHINESE), "zh") == pytest.approx(
        {name: found["value"] for name, found in report["scores"].items()}
    )


# Differences.


@pytest.mark.parametrize("metric", ["bleu", "chrf2pp"])
def test_p_value_is_that_of_sacrebleu(metric: str) -> None:
    references = phrases("phrases.tsv", "de")[:150]
    first = [text.replace("e ", "x ") if n % 3 else text for n, text in enumerate(references)]
    second = [text.replace("e ", "y ") if n % 7 else text.upper() for n, text in enumerate(references)]
    library = {"bleu": BLEU(), "chrf2pp": CHRF(word_order=2)}[metric]
    systems = [("second", second), ("first", first)]
    _, results = PairedTest(systems, {metric: library}, [references], test_type="bs", n_samples=1000)()
    theirs: Any = results["BLEU" if metric == "bleu" else "chrF2++"]
    found = difference(first, second, singly(references), "de", metric)
    assert found["value"] == pytest.approx(theirs[1].score - theirs[0].score, rel=1e-9)
    assert found["p_value"] == pytest.approx(theirs[1].p_value, abs=0.03)


def test_a_difference_is_paired_and_has_a_sign() -> None:
    better = [text if n % 2 else "x" for n, text in enumerate(ENGLISH * 20)]
    worse = [text if n % 4 == 1 else "x" for n, text in enumerate(ENGLISH * 20)]
    found = difference(better, worse, singly(ENGLISH * 20), "en", "accuracy")
    assert found["value"] == pytest.approx(0.25)
    assert 0.1 < found["low"] < found["value"] < found["high"] < 0.4
    assert found["p_value"] < 0.01
    reverse = difference(worse, better, singly(ENGLISH * 20), "en", "ter")
    assert reverse["value"] == -difference(better, worse, singly(ENGLISH * 20), "en", "ter")["value"] > 0


def test_a_system_does_not_differ_from_itself() -> None:
    found = difference(HYPOTHESES * 2, HYPOTHESES * 2, singly(ENGLISH * 2), "en", "ter")
    assert found == {"value": 0.0, "low": 0.0, "high": 0.0, "p_value": 1.0}


# Refusals.


def test_no_rows_are_refused() -> None:
    with pytest.raises(UserError, match="no translations to score"):
        score([], [], "en")
    with pytest.raises(UserError, match="no translations to score"):
        quick([], [], "en")


def test_a_row_without_reference_is_refused() -> None:
    with pytest.raises(UserError, match="Row 2 has no reference"):
        score(["a", "b"], [["a"], []], "en")


def test_sacrebleu_that_is_not_installed_is_told(monkeypatch: Any) -> None:
    found = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "sacrebleu":
            raise ModuleNotFoundError(name)
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError) as caught:
        score(["a"], [["a"]], "en")
    assert (caught.value.problem, caught.value.remedy) == (
        "sacreBLEU is not installed",
        "pip install 'ftkit[translation]'",
    )
