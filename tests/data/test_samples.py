"""The sample reviews of the demo keep what the demo says of them: balanced, varied, without near-copies."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[2] / "recipes" / "samples"


def read_rows(name: str) -> list[dict[str, str]]:
    with (SAMPLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


REVIEWS = read_rows("reviews.csv") + read_rows("reviews_test.csv")
NEW_REVIEWS = read_rows("new_reviews.csv")
TEXTS = [row["text"] for row in REVIEWS + NEW_REVIEWS]


def words(text: str) -> list[str]:
    return re.sub(r"[^\w\s]", "", text.lower()).split()


def shares(column: str) -> dict[str, float]:
    counts = Counter(row[column] for row in REVIEWS)
    return {value: count / len(REVIEWS) for value, count in counts.items()}


def test_labelled_files_have_their_columns_and_at_least_1000_rows() -> None:
    assert {tuple(row) for row in REVIEWS} == {("text", "sentiment", "domain", "difficulty")}
    assert len(REVIEWS) >= 1000


def test_unlabelled_file_has_forty_rows_with_running_ids() -> None:
    assert {tuple(row) for row in NEW_REVIEWS} == {("id", "text", "source")}
    assert [row["id"] for row in NEW_REVIEWS] == [f"R-{number:04}" for number in range(1, 41)]
    assert {row["source"] for row in NEW_REVIEWS} == {"web", "email", "phone"}


def test_unlabelled_file_has_cells_with_quotes_and_a_newline() -> None:
    texts = [row["text"] for row in NEW_REVIEWS]
    assert sum("," in text and '"' in text for text in texts) == 1
    assert sum("\n" in text for text in texts) == 1


def test_files_are_utf8_without_mark_or_carriage_return() -> None:
    for name in ("reviews.csv", "reviews_test.csv", "new_reviews.csv"):
        content = (SAMPLES / name).read_bytes()
        assert not content.startswith(b"\xef\xbb\xbf")
        assert b"\r" not in content
        assert content.endswith(b"\n")


def test_sentiments_are_balanced() -> None:
    sentiments = shares("sentiment")
    assert sentiments.keys() == {"positive", "negative", "neutral"}
    assert all(0.30 <= share <= 0.36 for share in sentiments.values())


def test_domains_are_balanced_over_all_and_within_each_sentiment() -> None:
    domains = shares("domain")
    assert domains.keys() == {"restaurant", "hotel", "electronics", "book", "app"}
    assert all(0.18 <= share <= 0.22 for share in domains.values())
    cells = Counter((row["domain"], row["sentiment"]) for row in REVIEWS)
    assert len(cells) == 15
    assert min(cells.values()) >= 60


def test_hard_rows_are_a_quarter_or_more_and_in_every_domain_and_sentiment() -> None:
    difficulties = shares("difficulty")
    assert difficulties.keys() == {"plain", "negation", "mixed", "irony"}
    assert 0.25 <= 1 - difficulties["plain"] <= 0.30
    hard = Counter((row["domain"], row["sentiment"]) for row in REVIEWS if row["difficulty"] != "plain")
    assert len(hard) == 15


def test_reviews_have_6_to_35_words() -> None:
    assert [text for text in TEXTS if not 6 <= len(words(text)) <= 35] == []


def test_no_text_appears_twice() -> None:
    counts = Counter(" ".join(words(text)) for text in TEXTS)
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_two_reviews_share_five_consecutive_words() -> None:
    places: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for number, text in enumerate(TEXTS):
        tokens = words(text)
        for start in range(len(tokens) - 4):
            places[tuple(tokens[start : start + 5])].add(number)
    assert {" ".join(phrase): found for phrase, found in places.items() if len(found) > 1} == {}


def test_rows_are_not_sorted_by_class_or_domain() -> None:
    for column in ("sentiment", "domain", "difficulty"):
        changes = sum(a[column] != b[column] for a, b in pairwise(REVIEWS))
        assert changes > len(REVIEWS) // 3, column
