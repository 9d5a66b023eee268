"""Translation from one language into one or several others, by any model that writes.

A row has a text in the source language and a text in each target language; every pair of them is learned from and
answered on its own. What tells the model which language is wanted (T5's prompt, the codes of NLLB, mBART-50 and
Marian, the names of the languages for others) is the template of a target.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ftkit import languages
from ftkit.config import Recipe
from ftkit.data import corpus, load, splits
from ftkit.data.features import Features
from ftkit.data.files import ReadOptions, Row
from ftkit.errors import UserError
from ftkit.languages import Language
from ftkit.metrics import translation as metrics
from ftkit.recipes.base import Examples, TaskRecord, foreign_text, mean_length, show_columns, text_of

if TYPE_CHECKING:
    from ftkit.heads.base import Rows
    from ftkit.heads.text import Template, TextHead

WORST = 20  # errors that are listed
SOURCE_NAMES = ("source", "src", "原文", "源文")
TARGET_NAMES = ("target", "tgt", "translation", "译文")
AMBIGUOUS = {"id", "no", "is"}  # codes of languages that are more often something else as the name of a column
PEEK = 100  # rows that tell whether a column holds texts
LEAST_UPDATES, LEAST_EPOCHS, MOST_EPOCHS = 1000, 3, 10
NEW_UPDATES, NEW_MOST_EPOCHS = 10_000, 40  # of a model that has learned nothing yet


@dataclass(frozen=True, kw_only=True)
class TranslationRecord(TaskRecord):
    """What training fixed for translations.

    Attributes:
        columns: "source" and the code of each target -> column.
        source, targets: BCP-47 codes.
        templates: by target: what stands around the source text, as `heads.text.Template` has it.
        decoder: whether the model is a decoder.
        start: the first tokens of what it writes (encoder-decoders).
        decoding: how translations are looked for.
        label_smoothing: in training.
        untrained: whether the model had learned nothing before.
    """

    head: str = "text"
    source: str = ""
    targets: list[str] = field(default_factory=list)
    templates: dict[str, dict[str, str]] = field(default_factory=dict)
    decoder: bool = False
    start: list[int] | None = None
    decoding: dict[str, Any] | None = None
    label_smoothing: float = 0.0
    untrained: bool = False


@dataclass(frozen=True)
class Translations:
    """Translations, one for each example.

    Attributes:
        texts: the translations.
        scores: (examples,) mean log-probability of a translation's tokens; None from other systems.
        cut: (examples,) whether it met the limit of tokens before it had ended.
        targets: languages of each row, where every row is answered in the same ones.
    """

    texts: list[str]
    scores: NDArray[np.float32] | None
    cut: NDArray[np.bool_]
    targets: list[str]


class Translation:
    """The task of writing a text in another language."""

    name = "translation"
    record_type = TranslationRecord
    scores_texts = True
    windows_overlap = False
    default_models: tuple[str, ...] = ("google-t5/t5-small",)

    # Reading.

    def recognises(self, recipe: Recipe, columns: Sequence[str], rows: Sequence[Row]) -> bool:
        """Languages that are asked for, or two columns named by languages."""
        asked = recipe.languages.source is not None or recipe.languages.targets is not None
        if asked or "label" in recipe.data.columns:
            return asked
        named = _language_columns(columns, rows).values()
        return sum(_holds_words(column, rows) for column in named) >= 2

    def columns(
        self,
        given: Mapping[str, str],
        columns: Sequence[str],
        rows: Sequence[Row],
        *,
        labelled: bool = True,
        record: TranslationRecord | None = None,
        recipe: Recipe | None = None,
    ) -> dict[str, str]:
        """Which column is the source, and which one each target: as given, by the languages' codes, or in order.

        Raises:
            UserError: naming the columns that were found.
        """
        source, targets = _asked(recipe, record)
        wanted = [code for code in (source, *(targets or ())) if code]
        named = _language_columns(columns, rows, also=wanted)
        found = {("source" if role == "source" else _code(role)): column for role, column in given.items()}
        for role, column in found.items():
            if column not in columns:
                raise UserError(
                    f"there is no column {column!r} for {role}; the columns are {', '.join(columns)}",
                    f"--column {role}=NAME takes one of them",
                )
        if source in named and found.get("source", named[source]) not in (named[source], *_unnamed(columns)):
            raise UserError(
                f"the column of the source is {found['source']!r}, and its language {source} has the column "
                f"{named[source]!r}",
                f"Say both: --from CODE --column source={named[source]}",
            )
        if "source" not in found:
            found |= _source_column(source, targets, named, columns, rows, labelled)
        if not labelled:
            return {"source": found["source"]}
        if targets is not None:
            found = {role: column for role, column in found.items() if role == "source" or role in targets}
        language = source or next((code for code, column in named.items() if column == found["source"]), None)
        rest = [column for column in columns if column not in found.values()]
        if targets is None:
            targets = [code for code, column in named.items() if column in rest and code != language]
        for code in targets:
            if code not in found and code in named:
                found[code] = named[code]
        lacking = [code for code in targets if code not in found]
        others = [column for column in rest if column not in found.values()]
        alone = [column for column in others if column.strip().casefold() in TARGET_NAMES]
        if not alone and len(columns) == 2 and not (record and named):  # of rows to be scored nothing is guessed
            alone = [column for column in others if column.strip().casefold() not in AMBIGUOUS]
        if len(lacking) == 1 and len(alone) == 1:
            found[lacking.pop()] = alone[0]
        if record is not None and len(lacking) < len(targets):
            lacking = []  # rows to be scored need not have every target
        if lacking or len(found) < 2:
            raise UserError(
                f"no column was found for {', '.join(lacking) or 'the target language'} among: "
                f"{show_columns(columns, rows)}",
                "Name the columns by their languages (en, de, ...), or say: --from en --to de --column de=COLUMN",
            )
        return found

    def begin(
        self, record: TranslationRecord, recipe: Recipe, rows: Sequence[Row], inferred: list[tuple[str, str]]
    ) -> TranslationRecord:
        """The record, with the languages."""
        source = _asked(recipe, None)[0]
        if source is None:
            column = record.columns["source"]
            if not languages.is_code(column):
                raise UserError(
                    f"the language of the column {column!r} is not known", "Say it: --from en (a BCP-47 code)"
                )
            source = _code(column)
        targets = [role for role in record.columns if role != "source"]
        if source in targets:
            raise UserError(f"{source} is both the source and a target language", "--from and --to take different ones")
        if recipe.languages.source is None or recipe.languages.targets is None:
            inferred.append(("languages", f"from {source} into {', '.join(targets)}"))
        return replace(record, source=source, targets=targets)

    def examples(self, source: str, rows: Sequence[Row], record: TranslationRecord) -> Examples:
        """One example for each row and target; where there are references, for each target that has one.

        Raises:
            UserError: rows lack the source text, or a cell holds no text.
        """
        columns = record.columns
        targets = [code for code in record.targets if code in columns]
        result = Examples(source, counts={"read": len(rows)})
        counts: Counter[str] = Counter()
        lacking = [row for row in rows if text_of(row.cells.get(columns["source"])) is None]
        if lacking:
            places = ", ".join(f"line {row.line}" if row.line else f"row {row.number}" for row in lacking[:5])
            raise UserError(
                f"{len(lacking)} of {len(rows)} rows of {source} have no text in column {columns['source']} ({places})",
                "Fill in or remove these rows; `ftkit predict` answers the others and marks these",
            )
        for row in rows:
            text = text_of(row.cells[columns["source"]]) or ""
            for code in targets or record.targets:
                references = _references(row, columns[code], source) if targets else None
                if references == ():
                    counts[f"rows without a text in {code}"] += 1
                    continue
                result.texts.append((text,))
                result.labels.append(references)
                result.languages.append(code)
                result.rows.append(row.number)
                result.lines.append(row.line)
        result.counts |= counts
        return result

    def problem(self, row: Row, record: TranslationRecord) -> str | None:
        """Why a row cannot be translated: there is no text, or nothing in it."""
        text = text_of(row.cells.get(record.columns["source"]))
        if text is None:
            return f"no text in column {record.columns['source']}"
        return None if text.strip() else "the text is empty"

    # Training.

    def settle(
        self,
        record: TranslationRecord,
        recipe: Recipe,
        examples: Mapping[str, Examples],
        config: Any,
        tokenizer: Any,
        inferred: list[tuple[str, str]],
    ) -> TranslationRecord:
        """How the model is told what to do, and how it writes."""
        from ftkit import models

        metrics.check_installed()
        if recipe.window.overlap not in ("auto", 0):
            raise UserError(
                "window.overlap has no meaning for translation: long texts are translated piece by piece",
                "Leave it out",
            )
        if not examples["train"].labels:
            raise UserError(f"no row of {examples['train'].source} has a text in {', '.join(record.targets)}")
        from_language = languages.find(record.source)
        into = {code: languages.find(code) for code in record.targets}
        templates = _templates(config, tokenizer, from_language, into)
        shown = {" ".join(filter(None, (t.before, t.answer))).strip() for t in templates.values()} - {""}
        if shown:
            inferred.append(("the model is told", "; ".join(sorted(shown))))
        return replace(
            record,
            templates={code: asdict(template) for code, template in templates.items()},
            untrained=models.untrained(config),
            **models.writing(config, tokenizer, recipe.text, beams=4, seed=recipe.seed),
        )

    def align(self, examples: Examples, record: TranslationRecord) -> None:
        """Translations mean the same everywhere; rows without any are refused where they are to be scored."""
        if all(references is None for references in examples.labels):
            raise UserError(
                f"{examples.source} has no translations to compare with",
                f"Name their column by the language ({', '.join(record.targets)}), or: --column CODE=COLUMN",
            )

    def unusable(self, examples: Examples, record: TranslationRecord) -> dict[str, list[int]]:
        """None: examples without a target were not made, and empty sources are left out as empty texts."""
        return {}

    def too_long(self, features: Features, record: TranslationRecord) -> NDArray[np.bool_]:
        """Examples whose source takes more than one window, or whose target leaves no room for it."""
        return np.asarray(features.windows_of_rows != 1)

    def default_epochs(self, rows: int, batch_size: int, record: TranslationRecord) -> tuple[int, str]:
        """As many as give 1,000 updates, from 3 to 10; a new model 10,000, up to 40."""
        least, most = (NEW_UPDATES, NEW_MOST_EPOCHS) if record.untrained else (LEAST_UPDATES, MOST_EPOCHS)
        epochs = int(np.clip(-(-least // -(-rows // batch_size)), LEAST_EPOCHS, most))
        return epochs, f"for {rows:,} pairs" + (" and a new model" if record.untrained else "")

    def resolve(self, recipe: Recipe, record: TranslationRecord) -> Recipe:
        """With the languages."""
        section = {"source": record.source, "targets": list(record.targets)}
        return recipe.model_copy(update={"languages": recipe.languages.model_copy(update=section)})

    def facts(self, record: TranslationRecord) -> dict[str, Any]:
        """The languages."""
        return {"source": record.source, "targets": list(record.targets)}

    def split_facts(
        self, examples: Examples, keys: Sequence[tuple[str, ...]], record: TranslationRecord
    ) -> dict[str, Any]:
        """Pairs of each target, and what looks wrong in them."""
        counts: Counter[str] = Counter()
        for code in record.targets:
            pairs = [
                (texts[0], references[0])
                for texts, references, into in zip(examples.texts, examples.labels, examples.languages, strict=True)
                if into == code and references
            ]
            counts.update(corpus.doubts(pairs, languages.find(record.source), languages.find(code)))
        pairs_of = Counter(examples.languages)
        return {
            "pairs": {code: pairs_of[code] for code in record.targets},
            "counts": dict(counts) | {reason: n for reason, n in examples.counts.items() if reason != "read"},
        }

    def groups(self, examples: Examples) -> list[Any]:
        """Translations of the same text stay together."""
        return [splits.text_key(texts) for texts in examples.texts]

    def strata(self, examples: Examples, share: float) -> list[Any]:
        """All alike."""
        return [None] * len(examples)

    def head(self, record: TranslationRecord, tokenizer: Any) -> TextHead:
        """Written translations."""
        from ftkit.heads.text import Decoding, Template, TextHead

        return TextHead(
            tokenizer,
            record.max_length,
            record.overlap,
            {code: Template(**template) for code, template in record.templates.items()},
            record.decoder,
            tuple(record.start or ()),
            Decoding(**(record.decoding or {})),
            record.label_smoothing,
        )

    def inputs(self, examples: Examples, record: TranslationRecord, training: bool = False) -> list[tuple[str, ...]]:
        """The target's code, the source text, and for training the first reference."""
        space = " " if record.decoder else ""
        rows = [(code, "", space + text) for code, (text,) in zip(examples.languages, examples.texts, strict=True)]
        if not training:
            return [tuple(row) for row in rows]
        return [(*row, space + references[0]) for row, references in zip(rows, examples.labels, strict=True)]

    def targets(
        self, examples: Examples, features: Features, head: Any, record: TranslationRecord
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Targets lie in the features; a row weighs as many tokens as its translation has.

        Rows that are not learned from weigh nothing in a loss: none of their windows has the whole translation.
        """
        from ftkit.heads.text import token_weights

        weights = np.where(self.too_long(features, record), np.float32(0), token_weights(features))
        return np.zeros((features.rows, 0), dtype=np.float32), weights

    def sections(self, record: TranslationRecord) -> tuple[str, ...]:
        """Languages, and how texts are written."""
        return ("languages", "text")

    def metrics(self, record: TranslationRecord) -> list[str]:
        """The loss first, because writing takes long."""
        return ["loss", "bleu", "chrf2pp"]

    def quick_scores(
        self,
        outputs: NDArray[np.float32],
        rows: Rows,
        examples: Examples | None,
        head: Any,
        record: TranslationRecord,
    ) -> dict[str, float]:
        """BLEU and chrF2++, their means over the targets."""
        if examples is None:
            raise ValueError("translations are scored by their texts")
        found = self.answers(outputs, rows.features, examples, head, record)
        parts = [
            metrics.quick(_take(found.texts, at), _take(examples.labels, at), code)
            for code, at in _by_target(examples).items()
        ]
        return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}

    # Answering.

    def restrict(self, record: TranslationRecord, targets: Sequence[str]) -> TranslationRecord:
        """The record for translations into some of the languages only.

        Raises:
            UserError: the run does not translate into one of them.
        """
        codes = [_code(code) for code in targets]
        strange = [code for code in codes if code not in record.targets]
        if strange:
            raise UserError(
                f"this run translates from {record.source} into {', '.join(record.targets)}, not into {strange[0]}",
                f"--to {','.join(record.targets)}",
            )
        return replace(record, targets=list(dict.fromkeys(codes)))

    def answers(
        self,
        outputs: NDArray[np.float32],
        features: Features,
        examples: Examples,
        head: Any,
        record: TranslationRecord,
    ) -> Translations:
        """What was written for each example; the pieces of a long text one after the other."""
        pieces, scores, cut = head.texts(outputs)
        texts, lowest = [], np.zeros(features.rows, dtype=np.float32)
        met_limit = np.zeros(features.rows, dtype=bool)
        for row, code in enumerate(examples.languages):
            here = slice(features.first_window[row], features.first_window[row + 1])
            texts.append(("" if without_blanks(code) else " ").join(filter(None, pieces[here])))
            lowest[row] = scores[here].min(initial=0.0)
            met_limit[row] = cut[here].any()
        return Translations(texts, lowest, met_limit, list(record.targets))

    def decide(self, answers: Translations, record: TranslationRecord) -> Translations:
        """The same: there is no threshold."""
        return answers

    def choose(
        self, answers: Translations, examples: Examples, recipe: Recipe, record: TranslationRecord
    ) -> TranslationRecord:
        """The same: there is no threshold."""
        return record

    def notices(self, answers: Translations) -> dict[str, int]:
        """Translations that met the limit of tokens."""
        return {"translations that met the limit of tokens": int(answers.cut.sum())} if answers.cut.any() else {}

    def added(self, record: TranslationRecord, all_scores: bool) -> list[str]:
        """A column for each target, named by its code, and if wanted its mean log-probability."""
        return [*record.targets, *(f"score_{code}" for code in record.targets if all_scores)]

    def cells(
        self, answers: Translations, row: int, record: TranslationRecord, all_scores: bool, flat: bool
    ) -> dict[str, Any]:
        """The translations of one row, in a flat format on one line; rows have all targets, one after the other."""
        count = len(answers.targets)
        here = range(row * count, (row + 1) * count)
        texts = [" ".join(answers.texts[i].split()) if flat else answers.texts[i] for i in here]
        found: dict[str, Any] = dict(zip(answers.targets, texts, strict=True))
        if all_scores and answers.scores is not None:
            found |= {
                f"score_{code}": round(float(answers.scores[i]), 6)
                for code, i in zip(answers.targets, here, strict=True)
            }
        return found

    # Scoring.

    def train_rivals(self, examples: Mapping[str, Examples], record: TranslationRecord, seed: int) -> None:
        """None to train: the baseline copies the source."""

    def save_rivals(self, rivals: None, folder: Path) -> None:
        """Nothing to keep."""

    def load_rivals(self, folder: Path) -> None:
        """Nothing was kept."""

    def score(
        self,
        answers: Translations,
        examples: Examples,
        rivals: None,
        record: TranslationRecord,
        seed: int = 0,
    ) -> dict[str, Any]:
        """The scores of each target beside the copied source's; of several targets their means first."""
        parts = {}
        for code, at in _by_target(examples).items():
            hypotheses, references = _take(answers.texts, at), _take(examples.labels, at)
            copied = [texts[0] for texts in _take(examples.texts, at)]
            part = metrics.score(hypotheses, references, code, seed=seed)
            part["baselines"] = {
                "copy": {
                    "scores": metrics.score(copied, references, code, seed=seed)["scores"],
                    "difference": {"bleu": metrics.difference(hypotheses, copied, references, code, seed=seed)},
                }
            }
            parts[code] = part
        result = parts[next(iter(parts))] if len(parts) == 1 else {**_means(list(parts.values())), "by_target": parts}
        result["baselines_trained_on"] = "no rows: the source text, copied"
        result["cut"] = int(answers.cut.sum())
        result["worst_errors"] = _worst_errors(answers, examples)
        return result

    def compare(
        self, first: Translations, second: Translations, examples: Examples, record: TranslationRecord
    ) -> dict[str, Any]:
        """By BLEU, on the same resampled rows; one for each target where there are several."""
        places = _by_target(examples)
        return {
            "bleu" if len(places) == 1 else f"bleu ({code})": metrics.difference(
                _take(first.texts, at), _take(second.texts, at), _take(examples.labels, at), code
            )
            for code, at in places.items()
        }

    def lines(self, answers: Translations, examples: Examples, record: TranslationRecord) -> list[dict[str, Any]]:
        """Where a row stands, the language, the translation and the references."""
        return [
            {
                "row": examples.rows[i],
                "line": examples.lines[i],
                "target": examples.languages[i],
                "translation": answers.texts[i],
                "references": list(examples.labels[i]),
                "score": None if answers.scores is None else round(float(answers.scores[i]), 6),
                "cut": bool(answers.cut[i]),
            }
            for i in range(len(examples))
        ]

    def official(self, answers: Translations, examples: Examples, record: TranslationRecord) -> dict[str, Any]:
        """Line files for sacreBLEU's command line: translations and first references of each target."""
        files: dict[str, Any] = {}
        for code, at in _by_target(examples).items():
            files[f"translations.{code}"] = _lines(_take(answers.texts, at))
            files[f"references.{code}"] = _lines([references[0] for references in _take(examples.labels, at)])
        return files

    def library_values(
        self, answers: Translations, examples: Examples, record: TranslationRecord
    ) -> tuple[list[Any], list[Any]]:
        """The references of each example, and the translations."""
        return [list(references) for references in examples.labels], answers.texts

    # Without a file, or without a run.

    def from_texts(self, rows: Sequence[tuple[str, ...]], record: TranslationRecord) -> Examples:
        """Texts to be translated into every target.

        Raises:
            UserError: two texts in a row, or an empty one.
        """
        for row in rows:
            if len(row) != 1 or not row[0].strip():
                raise UserError("this run translates one text a row, and it may not be empty", '--text "..."')
        count = len(record.targets)
        return Examples(
            "texts",
            [row for row in rows for _ in range(count)],
            [None] * (len(rows) * count),
            languages=list(record.targets) * len(rows),
        )

    def answer(self, answers: Translations, row: int, examples: Examples, record: TranslationRecord) -> dict[str, Any]:
        """text, and its translation into each target; and cut, the targets whose translations are cut short."""
        cells, first = self.cells(answers, row, record, False, False), row * len(answers.targets)
        cut = [code for place, code in enumerate(answers.targets, start=first) if answers.cut[place]]
        return {"text": examples.texts[first][0], "translations": cells} | ({"cut": cut} if cut else {})

    def foreign_record(self, table: load.Table, recipe: Recipe) -> TranslationRecord:
        """The languages of a file, where no training has fixed them."""
        columns = self.columns(recipe.data.columns, table.columns, table.rows, recipe=recipe)
        return self.begin(TranslationRecord(task=self.name, columns=columns), recipe, table.rows, [])

    def foreign_answers(
        self, source: str, options: ReadOptions, examples: Examples, record: TranslationRecord
    ) -> Translations:
        """Translations of another system: a line a row, or columns named by the languages.

        Raises:
            UserError: another number of rows, or no column for a language.
        """
        table = load.load(source, options)
        codes = list(dict.fromkeys(examples.languages))
        named = _language_columns(table.columns, table.rows, also=codes)
        for column in table.columns:  # of ftkit's own answers beside the columns of their file
            code = re.sub(r"^(predicted_)+", "", column)
            if code != column and languages.is_code(code):
                named[_code(code)] = column
        if len(table.columns) == 1 and len(codes) == 1:
            named = {codes[0]: table.columns[0]}
        lacking = [code for code in codes if code not in named]
        if lacking:
            raise UserError(
                f"{source} has no column for {', '.join(lacking)}; it has {', '.join(table.columns)}",
                "Name the columns by their languages",
            )
        wanted = sorted(set(examples.rows))
        if len(table.rows) == examples.counts["read"]:
            by_row = {row.number: row for row in table.rows}
        elif len(table.rows) == len(wanted):
            by_row = dict(zip(wanted, table.rows, strict=True))
        else:
            raise UserError(
                f"{source} has {len(table.rows)} translations for the {examples.counts['read']} rows of "
                f"{examples.source}" + (f", {len(wanted)} of which have a reference" if len(wanted) else ""),
                "Give one translation a row, in the order of the data",
            )
        texts = [
            foreign_text(by_row[number].cells.get(named[code]), f"{source}, row {by_row[number].number},")
            for number, code in zip(examples.rows, examples.languages, strict=True)
        ]
        return Translations(texts, None, np.zeros(len(texts), dtype=bool), list(record.targets))


def without_blanks(code: str) -> bool:
    """Whether a language writes no blank between sentences."""
    return code.partition("-")[0] in ("zh", "ja", "yue", "th", "lo", "km", "my")


def _code(text: str) -> str:
    return languages.find(text).code


def _asked(recipe: Recipe | None, record: TranslationRecord | None) -> tuple[str | None, list[str] | None]:
    """The source and the targets that training has settled or the user asks for, as codes."""
    if record is not None:
        return record.source, list(record.targets)
    if recipe is None:
        return None, None
    section = recipe.languages
    source = None if section.source is None else _code(section.source)
    targets = None if section.targets is None else list(map(_code, section.targets))
    for code in targets or ():
        if (targets or []).count(code) > 1:
            given = [each for each in section.targets or () if _code(each) == code]
            raise UserError(f"{' and '.join(given)} are both {languages.find(code).name} here", "Give each target once")
    return source, targets


def _language_columns(columns: Sequence[str], rows: Sequence[Row], also: Sequence[str] = ()) -> dict[str, str]:
    """The columns that are named by a language: code -> column.

    Names such as "id" count if they are asked for, or if most of their first cells have several words.
    """
    found: dict[str, str] = {}
    for column in columns:
        name = column.strip()
        if not languages.is_code(name):
            continue
        cells = [text_of(row.cells.get(column)) or "" for row in rows[:PEEK]]
        words = sum(any(map(str.isalpha, cell)) and " " in cell.strip() for cell in cells)
        if name.casefold() not in AMBIGUOUS or _code(name) in also or 2 * words > len(cells):
            found.setdefault(_code(name), column)
    return found


def _holds_words(column: str, rows: Sequence[Row]) -> bool:
    """Whether most of a column's first cells have letters; a column `ts` may also hold times, `hr` hours."""
    cells = [text_of(row.cells.get(column)) or "" for row in rows[:PEEK]]
    return 2 * sum(any(map(str.isalpha, cell)) for cell in cells) > len(cells)


def _unnamed(columns: Sequence[str]) -> list[str]:
    """The columns that are not named by a language."""
    return [column for column in columns if not languages.is_code(column.strip())]


def _source_column(
    source: str | None,
    targets: Sequence[str] | None,
    named: Mapping[str, str],
    columns: Sequence[str],
    rows: Sequence[Row],
    labelled: bool,
) -> dict[str, str]:
    """{"source": column}: of the source language, of a usual name, or English or the first one."""
    usual = next((column for column in columns if column.strip().casefold() in SOURCE_NAMES), None)
    others = {code: column for code, column in named.items() if code not in (targets or ())}
    if source is not None and source in named:
        return {"source": named[source]}
    if usual is not None:
        return {"source": usual}
    if source is None and others:
        return {"source": others.get("en") or next(iter(others.values()))}
    if source is not None and (not labelled or len(columns) == 2):
        free = [column for column in columns if column not in named.values()]
        if free and (labelled or len(free) == 1):
            return {"source": free[0]}
        texts = {column: mean_length(rows, column) for column in free}
        if max(texts.values(), default=0) > 0:
            return {"source": max(free, key=lambda column: texts[column])}
    raise UserError(
        f"no column was found for the source language among: {show_columns(columns, rows)}",
        "Name the columns by their languages (en, de, ...), or say: --from en --to de --column source=COLUMN",
    )


def _references(row: Row, column: str, source: str) -> tuple[str, ...]:
    """The translations in a cell: one text, or a list of texts; () if there is none."""
    value = row.cells.get(column)
    texts = [text_of(item) for item in value] if isinstance(value, list) else [text_of(value)]
    if any(text is None for text in texts) and value is not None:
        place = f"{source}:{row.line}" if row.line else f"{source}, row {row.number}"
        raise UserError(f"{place}: column {column!r} holds {type(value).__name__} where a text is expected")
    return tuple(text for text in texts if text and text.strip())


def _templates(config: Any, tokenizer: Any, source: Language, into: Mapping[str, Language]) -> dict[str, Template]:
    """What tells a model of this kind what to do, by target.

    Raises:
        UserError: the model does not know one of the languages.
    """
    from ftkit.heads.text import Template
    from ftkit.models import family

    vocabulary = tokenizer.get_vocab()
    several = len(into) > 1

    def known(code: str, language: Language) -> str:
        if code not in vocabulary:
            raise UserError(
                f"this model has no code for {language.name} ({language.code}): its vocabulary lacks {code}",
                "Choose another model, or another language",
            )
        return code

    if "eng_Latn" in vocabulary:
        name = languages.nllb_code
    elif "en_XX" in vocabulary:
        if type(tokenizer).__name__.startswith("MBartTokenizer"):
            raise UserError(
                "the first mBART (cc25) puts its codes elsewhere and is not supported",
                "--model facebook/mbart-large-50 is its successor",
            )
        name = languages.mbart_code
    elif "__en__" in vocabulary:
        name = functools.partial(_m2m_code, vocabulary=vocabulary)
    elif config.model_type in ("t5", "mt5", "umt5"):
        return {code: Template(before=languages.t5_prefix(source, target)) for code, target in into.items()}
    elif any(token.startswith(">>") and token.endswith("<<") for token in vocabulary):
        return {code: Template(before=_marian_token(vocabulary, target)) for code, target in into.items()}
    elif family(config) == "decoder":
        return {code: Template(before=f"{source.name}:", after=f"\n{target.name}:") for code, target in into.items()}
    else:
        return {
            code: Template(before=languages.t5_prefix(source, target)) if several else Template()
            for code, target in into.items()
        }
    before = known(name(source), source)
    found = {code: Template(before=before, answer=known(name(target), target)) for code, target in into.items()}
    if len(set(found.values())) < len(found):
        raise UserError(f"this model has one code for two of {', '.join(into)}", "Choose one of them, or another model")
    return found


def _m2m_code(language: Language, vocabulary: Mapping[str, int]) -> str:
    codes = [f"__{code}__" for code in (language.code.partition("-")[0], *language.others)]
    return next((code for code in codes if code in vocabulary), codes[0])


def _marian_token(vocabulary: Mapping[str, int], language: Language) -> str:
    """The token by which a Marian model of several targets names a language."""
    tokens = (f">>{language.code}<<", f">>{language.code.replace('-', '_')}<<", *languages.marian_tokens(language))
    token = next((token for token in tokens if token in vocabulary), None)
    if token is None:
        have = sorted(t for t in vocabulary if t.startswith(">>") and t.endswith("<<"))
        raise UserError(
            f"this model cannot translate into {language.name} ({language.code}); its targets are "
            f"{', '.join(have[:20])}",
            "Choose another model, or another target: --to CODE",
        )
    return token


def _by_target(examples: Examples) -> dict[str, list[int]]:
    """The positions of each language's examples, languages in the order of their first one."""
    found: dict[str, list[int]] = {}
    for position, code in enumerate(examples.languages):
        found.setdefault(code, []).append(position)
    return found


def _take(values: Sequence[Any], positions: Sequence[int]) -> list[Any]:
    return [values[position] for position in positions]


def _lines(texts: Sequence[str]) -> str:
    return "".join(" ".join(text.split()) + "\n" for text in texts)


def _means(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean scores over targets. Their intervals are the means of the intervals' ends: rather too wide."""

    def mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {key: float(np.mean([value[key] for value in values])) for key in ("value", "low", "high")}

    def scores(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {name: mean([part["scores"][name] for part in found]) for name in found[0]["scores"]}

    copies = [part["baselines"]["copy"] for part in parts]
    return {
        "n": sum(part["n"] for part in parts),
        "signatures": {line: line for part in parts for line in part["signatures"].values()},
        "scores": scores(parts),
        "baselines": {
            "copy": {
                "scores": scores(copies),
                "difference": {"bleu": mean([copy["difference"]["bleu"] for copy in copies])},
            }
        },
    }


def _worst_errors(answers: Translations, examples: Examples) -> list[dict[str, Any]]:
    """Translations that differ from their references and were written with most confidence: where they stand."""
    wrong = [
        i
        for i, references in enumerate(examples.labels)
        if answers.texts[i].strip() not in {reference.strip() for reference in references}
    ]
    if answers.scores is not None:
        wrong.sort(key=lambda i: -float(answers.scores[i]))  # type: ignore[index]
    return [
        {
            "place": examples.place(i),
            "position": i,
            "reference": examples.languages[i],
            "answer": "another translation" if answers.texts[i] else "nothing",
            "score": None if answers.scores is None else round(float(np.exp(answers.scores[i])), 4),
        }
        for i in wrong[:WORST]
    ]
