from __future__ import annotations

import json
import math
import re
import string
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ftkit import config, report
from ftkit.metrics import classification
from ftkit.recipes.labelled import LabelsRecord
from ftkit.run import Run

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a | b `c` *d* [e](http://x.y) _f_",
    "'\"&amp;\\",
    "{{ 7 * 7 }}",
]
VOID = {"meta", "br", "wbr"}


class Page(HTMLParser):
    """The elements of a page: that they balance, their attributes, the tables' cells and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    def table(self, *heads: str) -> list[list[str]]:
        """The body of the table whose first row begins with these cells."""
        rows = [[" ".join(cell.split()) for cell in row] for table in self.tables for row in [[], *table]]
        start = next(i for i, row in enumerate(rows) if tuple(row[: len(heads)]) == heads) + 1
        return rows[start : rows.index([], start) if [] in rows[start:] else len(rows)]

    def classed(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.elements if name in (attrs.get("class") or "").split()]


def scores_of(
    labels: list[str], multi_label: bool, source: str, seed: int = 0, chosen: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Scores as an evaluation makes them, of answers drawn at random: the model's better than a baseline's."""
    generator = np.random.default_rng(seed)
    rows, count = 4 * len(labels) + 40, len(labels)

    def answers(wrong: float) -> Any:
        if multi_label:
            return truth ^ (generator.random(truth.shape) < wrong / 4)
        return np.where(generator.random(rows) < wrong, generator.integers(count, size=rows), truth)

    truth: Any = generator.random((rows, count)) < 0.3 if multi_label else np.arange(rows) % count
    given, rival = answers(0.3), answers(0.6)
    metrics = classification.multi_label if multi_label else classification.single_label
    metric = "f1_micro" if multi_label else "accuracy"
    difference = classification.difference(truth, given, rival, labels, metric=metric)
    error = {"position": 3, "reference": labels[0], "answer": labels[1], "score": 0.875}
    if multi_label:
        error |= {"reference": labels[:2], "answer": []}
    return metrics(truth, given, labels) | {
        "source": source,
        "counts": {"read": rows},
        "reading": {"unknown tokens": 7},
        "baselines": {
            "tfidf": {"scores": metrics(truth, rival, labels)["scores"], "difference": {metric: difference.as_dict()}}
        },
        "baselines_trained_on": "logistic regression on TF-IDF",
        "worst_errors": [error | {"place": f"{source}:5"}],
        "chosen_on_these_rows": list(chosen),
    }


def make_run(
    tmp_path: Path,
    labels: list[str],
    *,
    multi_label: bool = False,
    threshold: Any = None,
    test: bool = True,
    folder: str = "/home/someone/secret",
    name: str = "rows.csv",
    base_model: str = "package:some/model",
    updates: int = 60,
    epochs: int = 3,
) -> tuple[Run, dict[str, Any], LabelsRecord]:
    """A run directory as far as the reports read it, with its result and record."""
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    record = LabelsRecord(
        task="classification",
        columns={"text": "text", "label": "label"},
        labels=labels,
        multi_label=multi_label,
        threshold=threshold if threshold is not None or not multi_label else 0.5,
        max_length=128,
        overlap=16,
        base_model=base_model,
    )
    splits = ["train", "validation", *(["test"] if test else [])]
    facts = {
        "labels": labels,
        "sources": {split: {"source": f"{folder}/{split}-{name}", "sha256": "ab" * 32} for split in splits},
        "read": {split: 1200 for split in splits},
        "left_out": {"empty text": 3},
        "window": {"max_length": 128, "overlap": 16},
        "shared_texts": {"train/validation": 0},
        "splits": {
            split: {
                "rows": 1197,
                "labels": {label: 10 + i for i, label in enumerate(labels)},
                "rows_without_labels": 0,
                "empty_texts": 0,
                "duplicate_rows": 21,
                "conflicting_rows": 0,
                "rows_of_several_windows": 4,
                "unknown_token_share": 0.0125,
                "tokens": {"median": 12.0, "p95": 30.0, "longest": 1444, "all": 9000},
            }
            for split in splits
        },
    }
    run.write_json("data.json", facts)
    metric = "f1_micro" if multi_label else "accuracy"
    settings = [
        config.Setting(("data", "train"), f"{folder}/train-{name}", "test"),
        config.Setting(("training", "metric"), metric, "test"),
    ]
    run.write_text("recipe.yaml", config.to_yaml(config.resolve(settings)))
    log = [{"update": i + 1, "loss": 2 / (i + 1), "learning_rate": 1e-4} for i in range(updates)]
    log += [{"evaluation": i + 1, metric: 0.6 + 0.1 * i} for i in range(epochs)]
    run.write_text("log.jsonl", "".join(json.dumps(line) + "\n" for line in log))
    result = {
        "run": str(run.folder),
        "training": {
            "updates": updates,
            "epochs": epochs,
            "best_epoch": epochs,
            "seconds": 95.0,
            "rows_per_second": 1234.5,
            "precision": "bf16",
            "device": "cpu",
            "processes": 1,
            "parameters": 22_713_216,
            "notes": ["new head: classifier.weight begins at random"],
        },
    }
    for number, split in enumerate(splits[1:]):
        chosen = ("the best epoch",) if split == "validation" else ()
        result[split] = scores_of(labels, multi_label, f"{folder}/{split}-{name}", number, chosen)
    return run, result, record


def written(run: Run, result: dict[str, Any], record: LabelsRecord) -> Page:
    report.write_run_report(run, result, record)
    return Page((run.folder / "report.html").read_text(encoding="utf-8"))


def evaluated(run: Run, result: dict[str, Any], record: LabelsRecord) -> Page:
    report.write_evaluation_report(run, "held-out", result, record)
    return Page((run.folder / "eval/held-out/report.html").read_text(encoding="utf-8"))


def card(run: Run, result: dict[str, Any], record: LabelsRecord) -> str:
    report.write_run_report(run, result, record)
    return (run.folder / "README.md").read_text(encoding="utf-8")


def rendered(markdown: str) -> Page:
    """The card after its front matter, as CommonMark with tables and raw HTML shows it."""
    body = markdown.split("---\n", 2)[2] if markdown.startswith("---\n") else markdown
    return Page(MarkdownIt("commonmark").enable("table").render(body))


KINDS = pytest.mark.parametrize(
    ("labels", "multi_label"),
    [(["bad", "good"], False), (["a", "b", "c"], True), ([f"label_{i}" for i in range(77)], False), (HOSTILE, False)],
    ids=["single", "multi", "77", "hostile"],
)


@KINDS
def test_elements_balance(tmp_path: Path, labels: list[str], multi_label: bool) -> None:
    run, result, record = make_run(tmp_path, labels, multi_label=multi_label)
    assert written(run, result, record).open == []
    assert evaluated(run, result["test"], record).open == []


@KINDS
def test_pages_refer_to_nothing_outside_and_run_nothing(tmp_path: Path, labels: list[str], multi_label: bool) -> None:
    run, result, record = make_run(tmp_path, labels, multi_label=multi_label, name=HOSTILE[1])
    for page in (written(run, result, record), evaluated(run, result["test"], record)):
        tags = {tag for tag, _ in page.elements}
        assert not tags & {"script", "img", "link", "a", "iframe", "object", "base", "form", "image", "use"}
        names = {name for _, attrs in page.elements for name in attrs}
        assert not {name for name in names if name.startswith("on") or name in ("href", "src", "srcset")}
        styles = [attrs["style"] or "" for _, attrs in page.elements if "style" in attrs]
        assert all(re.fullmatch(r"[\w:;%. -]*", style) for style in styles)
        assert "url(" not in page.text and "@import" not in page.text


def test_the_policy_comes_before_anything_that_it_governs(tmp_path: Path) -> None:
    page = written(*make_run(tmp_path, ["a", "b"]))
    policy = {
        "http-equiv": "Content-Security-Policy",
        "content": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    }
    assert page.elements[:4] == [
        ("html", {"lang": "en"}),
        ("head", {}),
        ("meta", {"charset": "utf-8"}),
        ("meta", policy),
    ]


def test_hostile_labels_and_file_names_are_shown_as_they_are(tmp_path: Path) -> None:
    page = written(*make_run(tmp_path, HOSTILE, name=HOSTILE[1]))
    assert [row[0] for row in page.table("label")] == HOSTILE
    assert [row[1:3] for row in page.table("place")] == [HOSTILE[:2]]
    assert page.table("", "train")[0] == ["file", *(f"{s}-{HOSTILE[1]}" for s in ("train", "validation", "test"))]


def test_the_headline_is_that_of_the_test_rows(tmp_path: Path) -> None:
    run, result, record = make_run(tmp_path, ["a", "b"])
    page, test = written(run, result, record), result["test"]
    accuracy = test["scores"]["accuracy"]
    text = " ".join(page.text.split())
    assert f"{accuracy['value']:.3f} accuracy on {test['n']} test rows 95% interval" in text
    assert f"95% interval {accuracy['low']:.3f} to {accuracy['high']:.3f}" in text


@pytest.mark.parametrize(
    ("ends", "tone", "words"),
    [
        ((0.02, 0.08), "wins", "beats TF-IDF: +0.050 [+0.020, +0.080] accuracy"),
        ((-0.09, -0.01), "loses", "LOSES to TF-IDF: -0.050 [-0.090, -0.010] accuracy"),
        ((-0.02, 0.12), "even", "cannot be told apart on these rows: +0.050 [-0.020, +0.120] accuracy"),
    ],
)
def test_the_verdict_says_plainly_whether_the_model_is_better(
    tmp_path: Path, ends: tuple[float, float], tone: str, words: str
) -> None:
    run, result, record = make_run(tmp_path, ["a", "b"])
    low, high = ends
    difference = {"accuracy": {"value": round((low + high) / 2, 3), "low": low, "high": high}}
    result["test"]["baselines"]["tfidf"]["difference"] = difference
    page = written(run, result, record)
    assert [attrs["class"] for attrs in page.classed("verdict")] == [f"verdict {tone}"]
    assert words in page.text
    assert words in (run.folder / "README.md").read_text(encoding="utf-8")


def test_scores_without_a_baseline_have_no_verdict(tmp_path: Path) -> None:
    run, result, record = make_run(tmp_path, ["a", "b"])
    result["test"]["baselines"] = {}
    del result["test"]["baselines_trained_on"]
    assert "no baseline to compare" in evaluated(run, result["test"], record).text


@pytest.mark.parametrize("multi_label", [False, True])
def test_every_score_stands_beside_the_baselines(tmp_path: Path, multi_label: bool) -> None:
    run, result, record = make_run(tmp_path, ["a", "b", "c"], multi_label=multi_label)
    systems = [result["test"]["scores"], result["test"]["baselines"]["tfidf"]["scores"]]
    rows = written(run, result, record).table("95% intervals")
    assert rows == [
        [title, *(f"{s[key]['value']:.3f} [{s[key]['low']:.3f}, {s[key]['high']:.3f}]" for s in systems)]
        for key, title in report.METRICS.items()
        if key in systems[0]
    ]
    assert len(rows) == len(systems[0])


def test_bars_lie_where_the_axis_says() -> None:
    model = {"value": 0.9, "low": 0.8, "high": 0.95}
    rival = {"value": 0.6, "low": 0.5, "high": 0.7}
    metrics = ("accuracy", "f1_macro", "f1_weighted")
    scores = {
        "scores": dict.fromkeys(metrics, model),
        "baselines": {"tfidf": {"scores": dict.fromkeys(metrics, rival)}},
    }
    row = {
        "model": model | {"left": 60.0, "at": 80.0, "right": 90.0},
        "tfidf": rival | {"left": 0.0, "at": 20.0, "right": 40.0},
    }
    assert report.chart(scores) == {
        "ticks": [(0.0, "0.5"), (20.0, "0.6"), (40.0, "0.7"), (60.0, "0.8"), (80.0, "0.9"), (100.0, "1.0")],
        "metrics": dict.fromkeys(metrics, row),
    }


@given(st.floats(-10, 10), st.floats(0, 10))
def test_an_axis_encloses_its_values_with_few_distinct_ticks(low: float, span: float) -> None:
    least, most, ticks = report.axis(low, low + span)
    assert least <= low + 1e-6 and low + span <= most + 1e-6
    assert (ticks[0][0], ticks[-1][0]) == (0.0, 100.0)
    assert 2 <= len(ticks) <= 8
    assert len({text for _, text in ticks}) == len(ticks)
    assert [float(text) for _, text in (ticks[0], ticks[-1])] == pytest.approx([least, most])


def test_scores_on_rows_that_chose_something_are_marked(tmp_path: Path) -> None:
    run, result, record = make_run(tmp_path, ["a", "b"], test=False)
    page = written(run, result, record)
    assert "These rows also chose the best epoch" in page.text
    assert "These rows also chose the best epoch" in (run.folder / "README.md").read_text(encoding="utf-8")


def test_scores_on_clean_rows_are_not_marked(tmp_path: Path) -> None:
    run, result, record = make_run(tmp_path, ["a", "b"])
    assert "These rows also chose" not in evaluated(run, result["test"], record).text


def test_labels_have_their_scores_and_training_rows(tmp_path: Path) -> None:
    run, result, record = make_run(tmp_path, ["a", "b", "c"])
    assert written(run, result, record).table("label") == [
        [
            row["label"],
            *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")),
            str(row["support"]),
            str(row["predicted"]),
            str(10 + i),
        ]
        for i, row in enumerate(result["test"]["classes"])
    ]


def test_many_labels_begin_with_the_lowest_f1(tmp_path: Path) -> None:
    labels = [f"label_{i}" for i in range(77)]
    run, result, record = make_run(tmp_path, labels)
    rows = written(run, result, record).table("label")
    assert sorted(row[0] for row in rows) == sorted(labels)
    assert [row[3] for row in rows] == sorted(row[3] for row in rows)


def test_thresholds_of_labels_stay_with_their_labels(tmp_path: Path) -> None:
    labels = [f"label_{i}" for i in range(30)]
    thresholds = [0.1 + i / 100 for i in range(30)]
    run, result, record = make_run(tmp_path, labels, multi_label=True, threshold=thresholds)
    rows = written(run, result, record).table("label")
    assert {row[0]: row[-1] for row in rows} == {
        label: f"{threshold:.3f}" for label, threshold in zip(labels, thresholds, strict=True)
    }


def test_the_confusion_matrix_is_that_of_the_result(tmp_path: Path) -> None:
    run, result, record = make_run(tmp_path, ["a", "b", "c"])
    page, confusion = written(run, result, record), result["test"]["confusion"]
    assert page.table("true label", "a", "b", "c") == [
        [label, *(str(count) for count in row[:-1])] for label, row in zip("abc", confusion, strict=True)
    ]


def test_rows_without_an_answer_have_a_column(tmp_path: Path) -> None:
    run, result, record = make_run(tmp_path, ["a", "b"])
    result["test"]["confusion"] = [[5, 1, 2], [0, 7, 0]]
    page = evaluated(run, result["test"], record)
    assert page.table("true label", "a", "b", "no answer") == [["a", "5", "1", "2"], ["b", "0", "7", "0"]]


def test_many_labels_have_confused_pairs_in_place_of_a_matrix(tmp_path: Path) -> None:
    labels = [f"label_{i:02}" for i in range(30)]
    run, result, record = make_run(tmp_path, labels)
    confusion = np.diag(np.full(31, 8))[:30]
    confusion[4, 9], confusion[20, 30], confusion[2, 1] = 5, 3, 4
    result["test"]["confusion"] = confusion.tolist()
    for row in result["test"]["classes"]:
        row["support"] = 20
    page = evaluated(run, result["test"], record)
    assert page.table("true label", "answered as") == [
        ["label_04", "label_09", "5", "25%"],
        ["label_02", "label_01", "4", "20%"],
        ["label_20", "no answer", "3", "15%"],
    ]
    assert page.classed("matrix") == []


def test_several_labels_have_no_confusion(tmp_path: Path) -> None:
    page = written(*make_run(tmp_path, ["a", "b", "c"], multi_label=True))
    assert "onfus" not in page.text


def test_errors_are_placed_without_the_folders_of_the_machine(tmp_path: Path) -> None:
    page = written(*make_run(tmp_path, ["a", "b"]))
    assert page.table("place") == [["test-rows.csv:5", "a", "b", "0.875"]]


def test_errors_of_several_labels_name_all_of_them(tmp_path: Path) -> None:
    page = written(*make_run(tmp_path, ["a", "b", "c"], multi_label=True))
    assert page.table("place") == [["test-rows.csv:5", "a + b", "no label", "0.875"]]


def test_what_was_read_is_told_for_each_split(tmp_path: Path) -> None:
    page = written(*make_run(tmp_path, ["a", "b"]))
    assert page.table("", "train", "validation", "test") == [
        ["file", "train-rows.csv", "validation-rows.csv", "test-rows.csv"],
        ["SHA-256", *["abababababab"] * 3],
        ["rows read", *["1,200"] * 3],
        ["left out: empty text", "3", "", ""],
        ["rows used", *["1,197"] * 3],
        ["rows that repeat a text", *["21"] * 3],
        ["rows longer than a window of 128 tokens", *["4"] * 3],
        ["tokens a row, median", *["12"] * 3],
        ["tokens a row, longest", *["1,444"] * 3],
        ["tokens unknown to the model", *["1.25%"] * 3],
    ]


def test_validation_rows_that_were_held_out_have_no_file() -> None:
    split = {
        "rows": 9,
        "rows_without_labels": 0,
        "empty_texts": 0,
        "duplicate_rows": 0,
        "conflicting_rows": 0,
        "rows_of_several_windows": 0,
        "unknown_token_share": 0.0,
        "tokens": {"median": 2.0, "longest": 3},
    }
    facts = {
        "sources": {"train": {"source": "data/x.csv", "sha256": "0" * 64}},
        "read": {"train": 10},
        "left_out": {},
        "window": {"max_length": 128},
        "splits": {"train": split, "validation": split},
    }
    assert report.data_table(facts)[:3] == [
        ("file", ["x.csv", "held out of train"]),
        ("SHA-256", ["0" * 12, ""]),
        ("rows read", ["10", ""]),
    ]


def test_learning_curves_are_those_of_the_log(tmp_path: Path) -> None:
    run, _, _ = make_run(tmp_path, ["a", "b"], updates=3)
    loss, score = report.curves(run, "accuracy")
    assert [text for _, text in loss["ticks"]] == ["0.0", "0.5", "1.0", "1.5", "2.0"]
    assert loss["line"] == [(0.0, 0.0), (50.0, 50.0), (100.0, 66.67)]
    assert [text for _, text in score["ticks"]] == ["0.60", "0.65", "0.70", "0.75", "0.80"]
    assert score["line"] == [(0.0, 100.0), (50.0, 50.0), (100.0, 0.0)]


def test_the_loss_of_validation_rows_is_no_point_of_the_curve_of_the_updates(tmp_path: Path) -> None:
    run, _, _ = make_run(tmp_path, ["a", "b"], updates=3)
    evaluations = [{"evaluation": i + 1, "loss": 9.0 - i} for i in range(2)]
    log = (run.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[:3]
    run.write_text("log.jsonl", "\n".join([*log, *map(json.dumps, evaluations)]) + "\n")
    loss, score = report.curves(run, "loss")
    assert (loss["count"], score["count"]) == (3, 2)
    assert loss["line"] == [(0.0, 0.0), (50.0, 50.0), (100.0, 66.67)]
    assert score["line"] == [(0.0, 0.0), (100.0, 100.0)]


def test_an_epoch_whose_score_is_not_a_number_is_no_point_of_the_curve(tmp_path: Path) -> None:
    run, _, _ = make_run(tmp_path, ["a", "b"], updates=3)
    log = (run.folder / "log.jsonl").read_text(encoding="utf-8")
    run.write_text("log.jsonl", json.dumps({"evaluation": 1, "accuracy": math.nan}) + "\n" + log)
    assert report.curves(run, "accuracy")[1]["count"] == 3


def test_a_log_that_has_lost_all_leaves_empty_curves(tmp_path: Path) -> None:
    run, result, record = make_run(tmp_path, ["a", "b"], updates=3)
    run.write_text("log.jsonl", "")
    assert [(curve["count"], curve["line"]) for curve in report.curves(run, "accuracy")] == [(0, []), (0, [])]
    assert "loss of the training rows" in written(run, result, record).text


@pytest.mark.parametrize(
    ("multi_label", "words"),
    [(False, "classification with 3 labels"), (True, "classification with 3 labels, several a row")],
)
def test_page_and_card_say_what_the_model_does(tmp_path: Path, multi_label: bool, words: str) -> None:
    run, result, record = make_run(tmp_path, ["a", "b", "c"], multi_label=multi_label)
    assert f"{words}; fine-tuned from package:some/model" in written(run, result, record).text
    assert f"A model for {words}, fine-tuned from package:some/model" in (run.folder / "README.md").read_text()


def test_a_long_curve_has_few_points_and_keeps_its_mean(tmp_path: Path) -> None:
    run, _, _ = make_run(tmp_path, ["a", "b"], updates=24_000)
    losses = [2 / (i + 1) for i in range(24_000)]
    loss, _ = report.curves(run, "accuracy")
    most = float(loss["ticks"][-1][1])
    heights = [most * (100 - y) / 100 for _, y in loss["faint"]]
    assert len(heights) == report.CURVE_POINTS
    assert sum(heights) / len(heights) == pytest.approx(sum(losses) / len(losses), abs=1e-4)


def test_one_update_and_one_epoch_make_a_page(tmp_path: Path) -> None:
    page = written(*make_run(tmp_path, ["a", "b"], updates=1, epochs=1))
    assert [attrs["d"] for attrs in page.classed("best")] == ["M50.0 100.0h0"]


def test_the_recipe_and_the_command_that_repeats_it_are_on_the_page(tmp_path: Path) -> None:
    run, result, record = make_run(tmp_path, ["a", "b"])
    page = written(run, result, record)
    assert (run.folder / "recipe.yaml").read_text(encoding="utf-8") in page.text
    assert f"ftkit train --recipe {run.folder}/recipe.yaml --out {run.folder}-again" in page.text


def test_an_evaluation_shows_counts_and_what_others_published(tmp_path: Path) -> None:
    run, result, record = make_run(tmp_path, ["a", "b"], folder="/data with space")
    figure = {"value": 0.934, "metric": "accuracy", "model": "BERT-base", "source": HOSTILE[0]}
    scores = result["test"] | {"published": figure, "extra_metrics": {"./mine": {"kappa": 0.5}}}
    page = evaluated(run, scores, record)
    text = " ".join(page.text.split())
    assert f"Published: 0.934 accuracy, BERT-base ({HOSTILE[0]})." in text
    assert "./mine (of the library evaluate) kappa0.5" in text
    assert "read48 unknown tokens7" in text
    assert f"ftkit eval {run.folder} '/data with space/test-rows.csv' --name held-out" in text


def test_the_card_tells_the_hub_what_it_is(tmp_path: Path) -> None:
    text = card(*make_run(tmp_path, ["a", "b"], base_model="distilbert/distilbert-base-uncased"))
    assert yaml.safe_load(text.split("---\n")[1]) == {
        "base_model": "distilbert/distilbert-base-uncased",
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["ftkit", "classification"],
    }


def test_a_model_of_this_machine_is_no_base_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/first").mkdir(parents=True)
    names = ["runs/first", str(tmp_path / "runs/first"), "package:some/model", "google-bert/bert-base-cased"]
    assert [report.is_hub_name(name) for name in names] == [False, False, False, True]
    assert [report.model_name(name) for name in names] == ["first", "first", *names[2:]]


def test_the_card_holds_no_folder_of_this_machine(tmp_path: Path) -> None:
    text = card(*make_run(tmp_path, ["a", "b"], base_model="/home/someone/secret/bert"))
    assert "secret" not in text and str(tmp_path) not in text
    assert "fine-tuned from bert with" in text


def test_the_card_has_scores_labels_and_data_as_tables(tmp_path: Path) -> None:
    run, result, record = make_run(tmp_path, ["a", "b"])
    page, test = rendered(card(run, result, record)), result["test"]
    systems = [test["scores"], test["baselines"]["tfidf"]["scores"]]
    assert page.table("", "This model", "TF-IDF") == [
        [
            report.METRICS[key],
            *(f"{s[key]['value']:.3f} [{s[key]['low']:.3f}, {s[key]['high']:.3f}]" for s in systems),
        ]
        for key in ("accuracy", "f1_macro", "f1_weighted")
    ]
    assert [(row[0], row[3], row[5]) for row in page.table("Label")] == [
        (row["label"], f"{row['f1']:.3f}", str(10 + i)) for i, row in enumerate(test["classes"])
    ]
    assert page.table("", "train", "validation", "test")[2] == ["rows read", "1,200", "1,200", "1,200"]


def test_hostile_values_are_text_in_the_card(tmp_path: Path) -> None:
    labels = [*HOSTILE, "two\nlines"]
    text = card(*make_run(tmp_path, labels, name=HOSTILE[1]))
    page = rendered(text)
    assert [row[0] for row in page.table("Label")] == [*HOSTILE, "two lines"]
    assert f"Labels: {', '.join([*HOSTILE, 'two lines'])}." in page.text
    assert page.table("", "train")[0][1] == f"train-{HOSTILE[1]}"
    assert not {tag for tag, _ in page.elements} & {"script", "img", "a"}


def test_the_card_tells_what_only_ftkit_does(tmp_path: Path) -> None:
    text = card(*make_run(tmp_path, ["a", "b", "c"], multi_label=True, threshold=0.375))
    assert "the probability 0.375 on" in text and "only ftkit applies it" in text
    assert "texts longer than 128 tokens" in text


@given(st.text(alphabet=string.punctuation + "aw1é中😀", min_size=1, max_size=20))
def test_markdown_is_read_back_as_the_same_text(value: str) -> None:
    from markupsafe import escape

    page = rendered(f"| head | cell |\n|---|---|\n| x | {escape(report.markdown(value))} |\n")
    assert page.tables == [[["head", "cell"], ["x", value]]]
    assert {tag for tag, _ in page.elements} == {"table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("value", ["www.x.com", "http://x.com", "a@b.com"])
def test_addresses_do_not_become_links(value: str) -> None:
    assert not re.search(r"www\.|://|(?<!\\)@", report.markdown(value))
