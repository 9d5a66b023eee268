"""Answers that are labels: what the model's outputs mean, which of them are answered, and how they are scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftkit import baselines
from ftkit.data import load
from ftkit.errors import UserError
from ftkit.metrics import classification
from ftkit.recipes.base import Examples, TaskRecord

WORST = 20  # confident errors that are listed
SEPARATOR = ","  # between several labels in a cell, where the training rows had lists
# Where answers stand in a file of answers; `label` comes last, because beside a prediction it is the reference.
ANSWER_COLUMNS = ("predicted_label", "prediction", "answer", "label")


@dataclass(frozen=True)
class LabelMap:
    """What the model's outputs mean; fixed in training, saved in the model, used ever after.

    Attributes:
        names: label of each output.
        multi_label: several labels a row.
        separator: between the labels of one cell.
    """

    names: tuple[str, ...]
    multi_label: bool
    separator: str | None

    def targets(self, examples: Examples) -> NDArray[Any]:
        """(rows,) int64 label numbers, or (rows, labels) bool for multi-label.

        Raises:
            UserError: a label that training did not know, or none where one is needed.
        """
        index = {name: i for i, name in enumerate(self.names)}
        unknown: Counter[str] = Counter()
        missing: list[int] = []
        single = np.zeros(len(examples), dtype=np.int64)
        several = np.zeros((len(examples), len(self.names)), dtype=bool)
        for row, label in enumerate(examples.labels):
            if label is None or (isinstance(label, tuple) and not self.multi_label):
                missing.append(row)
                continue
            for name in label if isinstance(label, tuple) else (label,):
                if name not in index:
                    unknown[name] += 1
                elif self.multi_label:
                    several[row, index[name]] = True
                else:
                    single[row] = index[name]
        if missing:
            lists = any(isinstance(examples.labels[row], tuple) for row in missing)
            lack = "no label, or several" if lists else "no label"
            places = ", ".join(examples.place(row) for row in missing[:5])
            raise UserError(
                f"{len(missing)} of {len(examples)} rows of {examples.source} have {lack} ({places})",
                "Fill in or remove these rows; `ftkit predict` answers rows without labels",
            )
        if unknown:
            listed = ", ".join(f"{name!r} ({count} rows)" for name, count in unknown.most_common(5))
            raise UserError(
                f"{examples.source} has labels that training does not know: {listed}. "
                f"It knows: {', '.join(self.names[:20])}",
                "Correct the labels, or train on rows that have them",
            )
        return several if self.multi_label else single


@dataclass(frozen=True, kw_only=True)
class LabelsRecord(TaskRecord):
    """What training fixed for answers that are labels.

    Attributes:
        labels: label of each output of the model.
        multi_label, separator: how labels are read from a cell.
        threshold: multi-label: a label is answered from this probability on; one for all labels or one
            each; None for single-label.
        weights: "equal", or "balanced" where rows weigh inversely to their label's frequency.
        scale: sentiment: what the training file's numbers mean.
    """

    head: str = "labels"
    labels: list[str] = field(default_factory=list)
    multi_label: bool = False
    separator: str | None = None
    threshold: float | list[float] | None = None
    weights: str = "equal"
    scale: dict[str, str] = field(default_factory=dict)

    @property
    def chooses_threshold(self) -> bool:
        return self.multi_label

    def label_map(self) -> LabelMap:
        return LabelMap(tuple(self.labels), self.multi_label, self.separator)

    def name(self, answer: Any) -> Any:
        """A label number (or a row of bools) as the name (or names) it stands for; None for -1."""
        if self.multi_label:
            return [name for name, on in zip(self.labels, answer, strict=True) if on]
        return self.labels[int(answer)] if answer >= 0 else None


@dataclass(frozen=True)
class LabelAnswers:
    """Answers to some rows.

    Attributes:
        chosen: (rows,) label numbers, -1 for a row without an answer; for multi-label (rows, labels) bool.
        probabilities: (rows, labels), if the system gives them.
    """

    chosen: NDArray[Any]
    probabilities: NDArray[np.float32] | None

    @property
    def confidence(self) -> NDArray[Any]:
        """(rows,) probability of the answer given; multi-label: the mean over labels of each one's answer."""
        if self.probabilities is None:
            raise ValueError("these answers have no probabilities")
        if self.chosen.ndim == 2:
            return np.asarray(np.where(self.chosen, self.probabilities, 1 - self.probabilities).mean(axis=1))
        return np.asarray(self.probabilities[np.arange(len(self.chosen)), self.chosen])


def choose_labels(probabilities: NDArray[np.float32], record: LabelsRecord) -> LabelAnswers:
    """The most probable label, or for multi-label all labels from their threshold on."""
    if record.threshold is None:
        return LabelAnswers(probabilities.argmax(axis=1), probabilities)
    return LabelAnswers(probabilities >= np.asarray(record.threshold, dtype=np.float32), probabilities)


def row_weights(targets: NDArray[Any], label_count: int, balanced: bool) -> NDArray[np.float32]:
    """(rows,) ones, or n / (labels * rows of the label), which average to one over the rows."""
    if not balanced:
        return np.ones(len(targets), dtype=np.float32)
    counts = np.bincount(targets, minlength=label_count)
    result: NDArray[np.float32] = (len(targets) / (np.count_nonzero(counts) * counts[targets])).astype(np.float32)
    return result


def quick_scores(probabilities: NDArray[np.float32], targets: NDArray[Any], record: LabelsRecord) -> dict[str, float]:
    """Point scores; for multi-label at the threshold that suits these rows best."""
    if record.multi_label:
        threshold = classification.threshold(targets, probabilities)
        return classification.point_scores(targets, probabilities >= threshold, len(record.labels))
    return classification.point_scores(targets, probabilities.argmax(axis=1), len(record.labels))


def score(
    answers: LabelAnswers,
    examples: Examples,
    rivals: baselines.Baselines | None,
    record: LabelsRecord,
    seed: int,
    main: str,
) -> dict[str, Any]:
    """Everything that can be said about answers to rows whose labels are known (JSON-like).

    Args:
        rivals: baselines trained on the same rows as the system.
        main: the metric by which the baselines are compared with it.
    """
    targets = record.label_map().targets(examples)
    metrics: Any = classification.multi_label if record.multi_label else classification.single_label
    result: dict[str, Any] = metrics(targets, answers.chosen, record.labels, seed=seed)
    result["baselines"] = {}
    if rivals is not None:
        linear = rivals.predict(examples.texts)
        for name, answered in (("majority", rivals.predict_majority(len(examples))), ("tfidf", linear)):
            scores = metrics(targets, answered, record.labels, seed=seed)
            difference = classification.difference(
                targets, answers.chosen, answered, record.labels, metric=main, seed=seed
            )
            result["baselines"][name] = {
                "scores": scores["scores"],
                "difference": {main: difference.as_dict()},
            }
        result["baselines_trained_on"] = rivals.description
    result["worst_errors"] = worst_errors(answers, targets, examples, record)
    return result


def worst_errors(
    answers: LabelAnswers, targets: NDArray[Any], examples: Examples, record: LabelsRecord
) -> list[dict[str, Any]]:
    """The wrong answers given with most confidence: where they stand, not what they say."""
    wrong = (targets != answers.chosen).any(axis=1) if record.multi_label else targets != answers.chosen
    rows = np.flatnonzero(wrong)
    confidence = None if answers.probabilities is None else answers.confidence
    if confidence is not None:
        rows = rows[np.argsort(-confidence[rows], kind="stable")]
    return [
        {
            "place": examples.place(row),
            "position": int(row),
            "reference": record.name(targets[row]),
            "answer": record.name(answers.chosen[row]),
            "score": None if confidence is None else round(float(confidence[row]), 4),
        }
        for row in rows[:WORST].tolist()
    ]


def lines(answers: LabelAnswers, examples: Examples, record: LabelsRecord) -> list[dict[str, Any]]:
    """One object a row: where it stands, its reference, its answer, and the probability of every label."""
    targets = record.label_map().targets(examples)
    result = []
    for row in range(len(examples)):
        line = {
            "row": examples.rows[row],
            "line": examples.lines[row],
            "reference": record.name(targets[row]),
            "label": record.name(answers.chosen[row]),
        }
        if answers.probabilities is not None:
            line["scores"] = [round(float(p), 6) for p in answers.probabilities[row]]
        result.append(line)
    return result


def cells(answers: LabelAnswers, row: int, record: LabelsRecord, all_scores: bool, flat: bool) -> dict[str, Any]:
    """label, score, and if wanted the score of every label.

    Several labels, and their scores, are a list; in formats without lists they are joined by the separator of
    the training labels, so that the file can be read back as labels.
    """
    if answers.probabilities is None:
        raise ValueError("these answers have no probabilities")
    rounded = [round(float(p), 6) for p in answers.probabilities[row]]
    every = {f"score_{name}": p for name, p in zip(record.labels, rounded, strict=True)} if all_scores else {}
    chosen = answers.chosen[row]
    if not record.multi_label:
        return {"label": record.labels[int(chosen)], "score": rounded[int(chosen)], **every}
    label: Any = [name for name, answered in zip(record.labels, chosen, strict=True) if answered]
    score: Any = [p for p, answered in zip(rounded, chosen, strict=True) if answered]
    if flat:
        separator = record.separator or SEPARATOR
        label, score = separator.join(label), separator.join(map(str, score))
    return {"label": label, "score": score, **every}


def foreign_answers(source: str, given: Sequence[Any], record: LabelsRecord) -> LabelAnswers:
    """The labels that another system gave, one or one tuple a row of the data, in its order.

    A row without an answer counts as wrong (-1); for multi-label it is the empty set.

    Raises:
        UserError: answers that are no labels.
    """
    index = {name: i for i, name in enumerate(record.labels)}
    strange = Counter(
        name for label in given for name in (label if isinstance(label, tuple) else (label,)) if name not in index
    )
    if not record.multi_label:
        strange |= Counter(label for label in given if isinstance(label, tuple) and label)  # several in a list
    del strange[None]
    if strange:
        listed = ", ".join(f"{name!r} ({count} rows)" for name, count in strange.most_common(5))
        raise UserError(
            f"{source} has answers that are none of the labels: {listed}",
            f"The labels are {', '.join(record.labels[:20])}; leave a cell empty where there is no answer",
        )
    if not record.multi_label:
        return LabelAnswers(np.asarray([index[x] if x else -1 for x in given], dtype=np.int64), None)
    matrix = np.zeros((len(given), len(index)), dtype=bool)
    for row, names in enumerate(given):
        matrix[row, [index[name] for name in names]] = True
    return LabelAnswers(matrix, None)


def answer_column(table: load.Table) -> str:
    """The column of a file of answers that holds them."""
    column = next((name for name in ANSWER_COLUMNS if name in table.columns), None)
    if column is None and len(table.columns) == 1:
        column = table.columns[0]
    if column is None:
        raise UserError(
            f"{table.source} has no column named label; it has {', '.join(table.columns)}",
            "Rename the column that holds the answers to `label`",
        )
    return column
