from __future__ import annotations

import csv
from dataclasses import fields
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from ftkit import baselines
from ftkit.baselines import load, save, train
from ftkit.errors import UserError

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
WORDS = [
    "good",
    "bad",
    "fine",
    "poor",
    "warm",
    "cold",
    "room",
    "staff",
    "food",
    "bed",
    "房间",
    "很好",
    "不错",
    "差",
    "a",
    "I",
    "été",
]


def _texts(rows: int, seed: int = 0) -> list[tuple[str]]:
    generator = np.random.default_rng(seed)
    return [(" ".join(generator.choice(WORDS, generator.integers(1, 12))),) for _ in range(rows)]


def _targets(texts: list[tuple[str]]) -> np.ndarray:
    """Three labels that depend on the words, with some noise."""
    noise = np.random.default_rng(1).random(len(texts)) < 0.1
    return np.array([("good" in text) + ("bad" in text and not odd) for (text,), odd in zip(texts, noise, strict=True)])


def _sklearn_probabilities(texts: list[tuple[str]], targets: np.ndarray, unseen: list[tuple[str]]) -> np.ndarray:
    vectorizer = TfidfVectorizer(
        tokenizer=baselines.WORD.findall, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True
    )
    model = LogisticRegression(C=baselines.C, solver="newton-cg", tol=1e-8)
    model.fit(vectorizer.fit_transform(text for (text,) in texts), targets)
    return model.predict_proba(vectorizer.transform(text for (text,) in unseen))


@pytest.mark.parametrize("labels", [2, 3])
def test_probabilities_equal_scikit_learns_pipeline(labels: int) -> None:
    texts, unseen = _texts(400), [*_texts(100, seed=2), ("",), ("never seen",)]
    targets = np.minimum(_targets(texts), labels - 1)
    found = train(texts, targets, labels, seed=0).probabilities(unseen)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _sklearn_probabilities(texts, targets, unseen), atol=1e-5)


def test_label_sets_equal_one_regression_a_label() -> None:
    texts, unseen = _texts(400), _texts(100, seed=2)
    sets = np.eye(3, dtype=bool)[_targets(texts)] | (np.arange(400)[:, None] % 5 == 0)
    found = train(texts, sets, 3, seed=0).probabilities(unseen)
    expected = [_sklearn_probabilities(texts, column, unseen)[:, 1] for column in sets.T]
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't PANIC: a 3D café", ["don", "t", "panic", "a", "3d", "café"]),
        ("房间iPhone很好!", ["房", "间", "iphone", "很", "好"]),
        ("ひらカナ 한국어", ["ひ", "ら", "カ", "ナ", "한", "국", "어"]),
        ("nice 😀😀☀", ["nice", "😀", "😀", "☀"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert baselines.WORD.findall(text.lower()) == words


def test_chinese_is_read_as_pairs_of_characters() -> None:
    texts = [("不好",), ("好不",)] * 20
    found = train(texts, np.array([0, 1] * 20), 2, seed=0)
    assert found.predict([("不好",), ("好不",)]).tolist() == [0, 1]


def test_the_texts_of_a_pair_are_told_apart() -> None:
    texts = [("yes", "no"), ("no", "yes")] * 20
    found = train(texts, np.array([0, 1] * 20), 2, seed=0)
    assert found.predict([("yes", "no"), ("no", "yes")]).tolist() == [0, 1]


def test_majority() -> None:
    texts = _texts(5)
    found = train(texts, np.array([2, 0, 2, 1, 2]), 4, seed=0)
    assert found.predict_majority(3).tolist() == [2, 2, 2]
    sets = np.array([[1, 0], [0, 1], [1, 1], [0, 1], [1, 0]], bool)
    assert train(texts, sets, 2, seed=0).predict_majority(2).tolist() == [[False, True], [False, True]]


def test_labels_without_rows_are_impossible() -> None:
    found = train(_texts(6), np.array([1, 3, 1, 3, 3, 1]), 5, seed=0).probabilities(_texts(4, seed=2))
    assert found[:, [0, 2, 4]].tolist() == [[0.0] * 3] * 4
    assert found.sum(axis=1) == pytest.approx(1)
    sets = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 0]], bool)
    always_and_never = train(_texts(4), sets, 3, seed=0).probabilities(_texts(2, seed=2))[:, :2]
    assert always_and_never.tolist() == [[1.0, 0.0]] * 2


def test_one_label_only() -> None:
    found = train(_texts(4), np.array([1, 1, 1, 1]), 2, seed=0)
    assert found.probabilities([("good",)]).tolist() == [[0.0, 1.0]]


def test_texts_without_words_leave_the_shares() -> None:
    found = train([("...",), ("",), ("?",), ("!",)], np.array([0, 0, 0, 1]), 2, seed=0)
    assert found.probabilities([("anything",)])[0] == pytest.approx([0.75, 0.25], abs=1e-4)


def test_no_rows_to_predict() -> None:
    found = train(_texts(6), np.array([0, 1, 0, 1, 1, 0]), 2, seed=0)
    assert found.probabilities([]).shape == (0, 2)
    assert found.predict_majority(0).shape == (0,)


def test_probabilities_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = _texts(50)
    whole = train(texts, _targets(texts), 3, seed=0)
    expected = whole.probabilities(texts)
    monkeypatch.setattr(baselines, "CHUNK", 7)
    cut = train(texts, _targets(texts), 3, seed=0)
    assert cut.hashes.tolist() == whole.hashes.tolist()
    np.testing.assert_array_equal(cut.probabilities(texts), expected)


def test_nothing_is_cut_without_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [("one two",)] * 60 + [("three",)] * 40  # 7 and 5 characters; "one", "two", "one two", "three"
    targets = np.arange(100) % 2
    model = "logistic regression on TF-IDF of words and word pairs"
    whole = train(texts, targets, 2, seed=0)
    assert (whole.rows, whole.description) == (100, model)
    monkeypatch.setattr(baselines, "CHARACTERS", 310)
    characters = train(texts, targets, 2, seed=0)
    assert characters.description == model + ", trained on 50 of 100 rows drawn at random"
    monkeypatch.setattr(baselines, "ROWS", 30)
    rows = train(texts, targets, 2, seed=0)
    assert (rows.rows, rows.description) == (30, model + ", trained on 30 of 100 rows drawn at random")
    monkeypatch.undo()
    monkeypatch.setattr(baselines, "COEFFICIENTS", 6)
    ngrams = train(texts, targets, 2, seed=0)
    assert ngrams.description == model + ", with the 3 most frequent of 4 n-grams"


def test_the_most_frequent_ngrams_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "COEFFICIENTS", 4)
    texts = [("rare good",), ("good",), ("bad",), ("bad",)]
    found = train(texts, np.array([1, 1, 0, 0]), 2, seed=0)
    assert found.predict([("good",), ("bad",)]).tolist() == [1, 0]
    assert found.coefficients.shape == (2, 2)


def test_threshold_is_chosen_on_validation_rows() -> None:
    texts = _texts(300)
    sets = np.eye(3, dtype=bool)[_targets(texts)]
    trained, unseen = train(texts[:200], sets[:200], 3, seed=0), texts[200:]
    tuned = trained.with_threshold(unseen, sets[200:])
    assert trained.threshold == 0.5
    assert tuned.threshold is not None
    f1 = [f1_score(sets[200:], one.predict(unseen), average="micro") for one in (trained, tuned)]
    assert f1[1] > f1[0]


@pytest.mark.parametrize("multi", [False, True], ids=["one label", "label sets"])
def test_saved_and_loaded(tmp_path: Path, multi: bool) -> None:
    texts = _texts(60)
    targets = np.eye(3, dtype=bool)[_targets(texts)] if multi else _targets(texts)
    saved = train(texts, targets, 4 - multi, seed=0)
    save(saved, tmp_path / "baselines")
    loaded = load(tmp_path / "baselines")
    for field in fields(saved):
        before, after = getattr(saved, field.name), getattr(loaded, field.name)
        assert type(before) is type(after)
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(loaded.probabilities(texts), saved.probabilities(texts))


def test_files_hold_no_text(tmp_path: Path) -> None:
    texts = [*_texts(60), ("password hunter2",)]
    save(train(texts, np.arange(61) % 3, 3, seed=0), tmp_path)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not [word for word in ("hunter2", "password", "staff", "房") if word.encode() in content]


def test_hashes_stay_those_of_saved_baselines() -> None:
    found = train([("Good food",), ("bad",)], np.array([0, 1]), 2, seed=0)
    good, food, bad = (
        int.from_bytes(blake2b(word, digest_size=8).digest(), "little") for word in (b"0 good", b"0 food", b"0 bad")
    )
    pair = (good * 0x9E3779B97F4A7C15 + food) % 2**64
    assert found.hashes.tolist() == sorted([good, food, bad, pair])


def test_damaged_files_are_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"baselines in .* cannot be read"):
        load(tmp_path)
    save(train(_texts(6), np.array([0, 1, 0, 1, 1, 0]), 2, seed=0), tmp_path)
    arrays = tmp_path / "baselines.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"baselines in .* cannot be read"):
        load(tmp_path)


@pytest.mark.skipif(not DATA.exists(), reason="needs the shared data sets")
@pytest.mark.parametrize(
    ("files", "columns", "accuracy"),
    [(("trec/train.csv", "trec/val.csv"), (0, 1), 0.86), (("sms_spam/train.tsv", "sms_spam/val.tsv"), (1, 0), 0.9928)],
    ids=["trec", "sms_spam"],
)
def test_accuracy_on_public_data(files: tuple[str, str], columns: tuple[int, int], accuracy: float) -> None:
    def read(name: str) -> tuple[list[tuple[str]], list[str]]:
        tab = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if name.endswith(".tsv") else {}
        with (DATA / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, **tab))[0 if tab else 1 :]  # only the CSV files have a header
        return [(row[columns[0]],) for row in rows], [row[columns[1]] for row in rows]

    texts, names = read(files[0])
    labels = sorted(set(names))
    found = train(texts, np.array([labels.index(name) for name in names]), len(labels), seed=0)
    texts, names = read(files[1])
    right = found.predict(texts) == np.array([labels.index(name) for name in names])
    assert right.mean() == pytest.approx(accuracy, abs=0.003)
