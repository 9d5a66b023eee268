"""What a score is compared with: the most frequent label, and a linear model of words and word pairs.

Both learn from the model's own training rows and are kept as arrays. N-grams are kept as 64-bit hashes,
so that a baseline holds no text of the training rows (though who guesses a word can find its hash).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftkit.errors import UserError
from ftkit.metrics.bootstrap import Ints
from ftkit.metrics.classification import Bools, Labels
from ftkit.metrics.classification import threshold as best_threshold

Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]
Texts = Sequence[tuple[str, ...]]  # a row has one text, or two for a pair of sentences

ROWS = 200_000  # above either limit the linear model learns from a sample of the rows
CHARACTERS = 30_000_000  # of Chinese, some 2 GB of n-grams
COEFFICIENTS = 10_000_000  # labels x n-grams; training takes some 150 bytes for each
C = 30.0  # inverse regularisation: best, or within 0.01 of it, among 1, 10 and 30 on six public data sets
CHUNK = 10_000  # rows whose n-grams are in memory at a time

# Han, kana, hangul syllables and emoji: each character counts as a word, as there may be no blanks.
_ALONE = (
    "\u2600-\u27bf\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")


@dataclass(frozen=True, eq=False)
class Baselines:
    """Two trained baselines, for one label a row or for label sets.

    Attributes:
        majority: () the label number, or (labels,) the label set, of most training rows.
        hashes: (n-grams,) ascending.
        idf: (n-grams,) inverse document frequencies.
        coefficients, intercept: (labels, n-grams) and (labels,) of the logits; -inf is the intercept of a
            label that no training row has.
        rows: how many rows the linear model learned from.
        description: the linear model in words, for a report.
        threshold: the probability from which a label is in the set; None for one label a row.
    """

    majority: NDArray[Any]
    hashes: Hashes
    idf: Floats
    coefficients: Floats
    intercept: Floats
    rows: int
    description: str
    threshold: float | None

    def predict_majority(self, n: int) -> Labels:
        """The majority n times: (n,) label numbers, or (n, labels) membership."""
        return np.repeat(self.majority[None], n, axis=0)

    def probabilities(self, texts: Texts) -> Floats:
        """The linear model's, (rows, labels): of a row they sum to 1, except for label sets."""
        weights = np.ascontiguousarray(self.coefficients.T)
        logits = np.tile(self.intercept, (len(texts), 1))
        for start, chunk in _chunks(texts):
            features = _tfidf(_count(chunk, self.hashes), self.idf)
            logits[start : start + len(chunk)] += features.astype(np.float32) @ weights
        if self.threshold is not None:
            return np.asarray((1 + np.tanh(logits / 2)) / 2, np.float32)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)

    def predict(self, texts: Texts) -> Labels:
        """The linear model's answers: (rows,) label numbers, or (rows, labels) membership."""
        probabilities = self.probabilities(texts)
        return probabilities.argmax(axis=1) if self.threshold is None else probabilities >= self.threshold

    def with_threshold(self, texts: Texts, reference: Bools) -> Baselines:
        """For label sets: with the threshold of the highest micro-F1 on these (validation) rows."""
        return replace(self, threshold=best_threshold(reference, self.probabilities(texts)))


def train(texts: Texts, targets: Labels, label_count: int, *, seed: int) -> Baselines:
    """Both baselines of the training rows.

    The majority is the label, or the whole label set, of most rows; the first in order where several are.
    The linear model is a logistic regression on TF-IDF (words and pairs of neighbouring words, sublinear
    term frequency, the texts of a pair apart), for label sets one regression a label and the threshold
    0.5 until `with_threshold` chooses it. More than 200,000 rows or 30 million characters are sampled
    with `seed`, and too many n-grams for the number of labels cut to the most frequent; the description
    tells both.

    Args:
        texts: at least one row.
        targets: (rows,) label numbers, or (rows, labels) membership.
    """
    from scipy import sparse

    candidates, frequencies = np.unique(targets, axis=0, return_counts=True)
    description = "logistic regression on TF-IDF of words and word pairs"

    total = len(texts)
    characters = sum(map(len, chain.from_iterable(texts)))
    rows = max(1, min(total, ROWS, total * CHARACTERS // max(1, characters)))
    if rows < total:
        sample = np.sort(np.random.default_rng(seed).choice(total, rows, replace=False))
        texts, targets = [texts[row] for row in sample], targets[sample]
        description += f", trained on {rows:,} of {total:,} rows drawn at random"

    hashes = np.unique(np.concatenate([np.unique(_ngrams(chunk)[1]) for _, chunk in _chunks(texts)]))
    if not len(hashes):  # no text has a word: an n-gram that never occurs leaves the labels' shares to learn
        hashes = np.zeros(1, np.uint64)
    counts = sparse.vstack([_count(chunk, hashes) for _, chunk in _chunks(texts)], format="csr")
    frequency = np.bincount(counts.indices, minlength=len(hashes))
    limit = COEFFICIENTS // label_count
    if len(hashes) > limit:
        description += f", with the {limit:,} most frequent of {len(hashes):,} n-grams"
        kept = np.sort(np.argsort(-frequency, kind="stable")[:limit])
        hashes, counts, frequency = hashes[kept], counts[:, kept], frequency[kept]

    idf = np.log((1 + rows) / (1 + frequency)) + 1
    coefficients, intercept = _fit(_tfidf(counts, idf), targets, label_count)
    return Baselines(
        majority=np.asarray(candidates[frequencies.argmax()]),
        hashes=hashes,
        idf=idf.astype(np.float32),
        coefficients=coefficients,
        intercept=intercept,
        rows=rows,
        description=description,
        threshold=None if targets.ndim == 1 else 0.5,
    )


def save(baselines: Baselines, folder: Path) -> None:
    """Writes `baselines.safetensors` (arrays) and `baselines.json` (the rest) into the folder."""
    from safetensors import numpy as safetensors

    folder.mkdir(parents=True, exist_ok=True)
    arrays = safetensors.save({name: getattr(baselines, name) for name in _ARRAYS})
    (folder / "baselines.safetensors").write_bytes(arrays)
    rest = {name: getattr(baselines, name) for name in _VALUES}
    (folder / "baselines.json").write_text(json.dumps(rest, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> Baselines:
    """What `save` wrote.

    Raises:
        UserError: the files are missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays: dict[str, Any] = load_file(folder / "baselines.safetensors")
        rest = json.loads((folder / "baselines.json").read_text(encoding="utf-8"))
        return Baselines(**arrays, **rest)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise UserError(
            f"The baselines in {folder} cannot be read: {error}",
            "Restore baselines.safetensors and baselines.json from a copy of the run, or train again.",
        ) from error


_ARRAYS = ("majority", "hashes", "idf", "coefficients", "intercept")
_VALUES = ("rows", "description", "threshold")


def _chunks(texts: Texts) -> Iterator[tuple[int, Texts]]:
    for start in range(0, len(texts), CHUNK):
        yield start, texts[start : start + CHUNK]


def _ngrams(texts: Texts) -> tuple[Ints, Hashes]:
    """The words and pairs of neighbouring words, as often as they occur: row and hash of each, (n,)."""
    rows: list[Ints] = []
    hashes: list[Hashes] = []
    for position, column in enumerate(zip(*texts, strict=True)):
        words = [WORD.findall(text.lower()) for text in column]
        hash_of = {word: _hash(position, word) for word in set(chain.from_iterable(words))}
        row = np.repeat(np.arange(len(words)), [len(found) for found in words])
        word = np.fromiter(map(hash_of.__getitem__, chain.from_iterable(words)), np.uint64, len(row))
        follows = row[1:] == row[:-1]
        # An odd factor loses nothing and tells "a b" from "b a"; the hash of a pair is as even as a word's.
        pair = word[:-1] * np.uint64(0x9E3779B97F4A7C15) + word[1:]
        rows += [row, row[1:][follows]]
        hashes += [word, pair[follows]]
    return np.concatenate(rows), np.concatenate(hashes)


def _hash(position: int, word: str) -> int:
    """64 bits, the same on every machine; a word of the second text differs from one of the first."""
    text = f"{position} {word}".encode(errors="surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def _count(texts: Texts, hashes: Hashes) -> Any:
    """How often each known n-gram occurs in each row, sparse (rows, n-grams)."""
    from scipy import sparse

    rows, grams = _ngrams(texts)
    columns = np.minimum(np.searchsorted(hashes, grams), len(hashes) - 1)
    known = hashes[columns] == grams
    cells = rows[known].astype(np.int32), columns[known].astype(np.int32)  # halves the memory
    ones = np.ones(len(cells[0]), np.int32)
    return sparse.csr_array((ones, cells), shape=(len(texts), len(hashes)))  # adds up equal cells


def _tfidf(counts: Any, idf: NDArray[np.floating]) -> Any:
    """Rows of length 1 (or 0) in proportion to (1 + log count) * idf, sparse (rows, n-grams)."""
    values = (1 + np.log(counts.data)) * idf[counts.indices]
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    lengths = np.sqrt(np.bincount(row, weights=values**2, minlength=counts.shape[0]))
    return type(counts)((values / lengths[row], counts.indices, counts.indptr), shape=counts.shape)


def _fit(features: Any, targets: Labels, label_count: int) -> tuple[Floats, Floats]:
    """Coefficients (labels, n-grams) and intercept (labels,) of the logits."""
    if targets.ndim == 2:  # the logit of "yes" against "no", label by label
        pairs = [_fit(features, column.astype(np.int64), 2) for column in targets.T]
        coefficients = np.stack([yes - no for (no, yes), _ in pairs])
        return coefficients, np.array([yes - no for _, (no, yes) in pairs])

    from sklearn.linear_model import LogisticRegression

    coefficients = np.zeros((label_count, features.shape[1]), np.float32)
    intercept = np.full(label_count, -np.inf, np.float32)
    seen = np.unique(targets)
    intercept[seen] = 0
    if len(seen) > 1:
        # Solved to the end, which Newton's method does in no more time than L-BFGS takes to stop early:
        # probabilities then do not depend on the order of the columns (L-BFGS: by up to 0.2 on SST-2).
        model = LogisticRegression(C=C, solver="newton-cg", tol=1e-8).fit(features, targets)
        fitted = seen[1:] if len(seen) == 2 else seen  # of two labels scikit-learn fits the second
        coefficients[fitted], intercept[fitted] = model.coef_, model.intercept_
    return coefficients, intercept
