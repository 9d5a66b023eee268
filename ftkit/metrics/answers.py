"""Scores of extracted answers, as the official scripts of SQuAD and CMRC 2018 compute them, with 95% intervals.

Answers are compared with each of a question's references. Exact match is 1 if the answer equals one of them
after normalisation; F1 is that of the reference that it fits best, and precision and recall are the ones
behind this F1 (of the first such reference). A question without a reference has no answer: right is the
empty one. All scores are from 0 to 1; the scripts print percent.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ftkit.errors import UserError
from ftkit.metrics.bootstrap import Floats, mean_interval

Bools = NDArray[np.bool_]
Rule = Literal["squad", "cmrc"]

SCORES = ("exact_match", "f1", "precision", "recall")


@dataclass(frozen=True)
class AnswerScores:
    """The scores of one answer, each from 0 to 1."""

    exact_match: float
    f1: float
    precision: float
    recall: float


def squad(answer: str, references: Sequence[str]) -> AnswerScores:
    """The scores of SQuAD (Rajpurkar et al. 2016, 2018): F1 over the tokens that answer and reference share.

    Normalised is lower case without ASCII punctuation, articles and superfluous white space. This is the rule
    of the script for 2.0: references of which nothing remains do not count, and where the answer or every
    reference is empty, F1 is whether both are. The script for 1.1 differs only if nothing remains of a
    reference: there such a reference counts, and its F1 is always 0. On all others both scripts agree.
    """
    given = _squad_tokens(answer)
    wanted = [tokens for tokens in map(_squad_tokens, references) if tokens] or [[]]
    shared = [(Counter(given) & Counter(tokens)).total() for tokens in wanted]
    return _best(given in wanted, given, zip(wanted, shared, strict=True))


def cmrc(answer: str, references: Sequence[str]) -> AnswerScores:
    """The scores of CMRC 2018 (Cui et al. 2019): F1 over the longest run of segments in answer and reference.

    Normalised is lower case without the punctuation that the script lists: the Chinese, and - : / _ and such of
    ASCII. A segment is a Chinese character, or a word or sign between two of them, as NLTK's word_tokenize
    finds them; only its English clitics ('s) and full stops inside a run of words are not told apart. (On the
    9,657 references of two files of CMRC 2018 the segments are NLTK 3.10's.) Where no segment remains on
    either side, F1 is 1 as in SQuAD 2.0; the script, which knows no questions without an answer, has 0.
    """
    given = _cmrc_text(answer)
    wanted = [_cmrc_text(reference) for reference in references] or [""]
    segments = _cmrc_segments(given)
    matcher = SequenceMatcher(b=segments, autojunk=False)  # it prepares b, which all references share
    compared = []
    for reference in map(_cmrc_segments, wanted):
        matcher.set_seq1(reference)
        compared.append((reference, matcher.find_longest_match().size))
    return _best(given in wanted, segments, compared)


def _best(exact: bool, given: list[str], compared: Iterable[tuple[list[str], int]]) -> AnswerScores:
    """The scores by the reference with the highest F1.

    Args:
        given: the answer's tokens.
        compared: each reference's tokens, and how many of them the answer shares.
    """
    best = AnswerScores(float(exact), 0.0, 0.0, 0.0)
    for wanted, shared in compared:
        if not wanted and not given:
            return AnswerScores(float(exact), 1.0, 1.0, 1.0)
        if shared:
            precision, recall = shared / len(given), shared / len(wanted)
            f1 = (2 * precision * recall) / (precision + recall)  # in the scripts' order, to the last digit
            if f1 > best.f1:
                best = AnswerScores(float(exact), f1, precision, recall)
    return best


_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def _squad_tokens(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split()


_CHINESE = "\u4e00-\u9fa5"
_CMRC_PUNCTUATION = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_SIGNS = r';@#$%&?!*()\[\]{}<>"«»“„–—'
_LAST_STOP = rf"\.(?=[\s)\]}}>\"']*(?:[{_CHINESE}]|\Z))"  # of a run between Chinese characters
_CMRC_SEGMENT = re.compile(
    rf"""[{_CHINESE}{_SIGNS}] | \.{{2,}} | {_LAST_STOP} | ,(?!\d)  # 25,000 is one word
    | (?: (?!\.\.|{_LAST_STOP}) [^\s,{_CHINESE}{_SIGNS}] | ,(?=\d) )+""",
    re.VERBOSE,
)


def _cmrc_text(text: str) -> str:
    return text.lower().strip().translate(_CMRC_PUNCTUATION)


def _cmrc_segments(text: str) -> list[str]:
    return _CMRC_SEGMENT.findall(text)


RULES = {"squad": squad, "cmrc": cmrc}


def each(answers: Sequence[str], references: Sequence[Sequence[str]], rule: Rule) -> Floats:
    """(rows, 4) the scores of each answer, in the order of SCORES; for paired differences of two systems."""
    found = [RULES[rule](answer, texts) for answer, texts in zip(answers, references, strict=True)]
    return np.array([(row.exact_match, row.f1, row.precision, row.recall) for row in found]).reshape(-1, 4)


def unanswerable(references: Sequence[Sequence[str]]) -> Bools:
    """(rows,) whether a question has no answer: it has no reference, or only empty ones."""
    return np.array([not any(texts) for texts in references], dtype=bool)


def score(answers: Sequence[str], references: Sequence[Sequence[str]], *, rule: Rule, seed: int = 0) -> dict[str, Any]:
    """Mean scores over the questions.

    Args:
        answers: (rows,) texts; "" says that the question has no answer.
        references: (rows,) the right texts of each question; none where it has no answer.
        rule: whose normalisation and F1: `squad` or `cmrc`.

    Returns:
        JSON-able: "n"; "rule"; "scores", each name of SCORES with {"value", "low", "high"}. If some questions
        have no answer, also "has_answer" and "no_answer" with the "n" and "scores" of these questions alone,
        each of them only if there are such questions.

    Raises:
        UserError: there are no rows.
    """
    rows = each(answers, references, rule)
    if not len(rows):
        raise UserError("There are no answers to score: found 0, expected at least 1.", "Give a file with questions.")
    without = unanswerable(references)
    parts = {"has_answer": rows[~without], "no_answer": rows[without]} if without.any() else {}
    return {
        "n": len(rows),
        "rule": rule,
        "scores": _intervals(rows, seed),
        **{name: {"n": len(part), "scores": _intervals(part, seed)} for name, part in parts.items() if len(part)},
    }


def _intervals(rows: Floats, seed: int) -> dict[str, dict[str, float]]:
    columns = zip(SCORES, rows.T, strict=True)
    return {name: mean_interval(column, seed=seed).as_dict() for name, column in columns}


def best_threshold(
    no_answer_scores: NDArray[np.floating], values_if_answered: Floats, unanswerable: Bools
) -> tuple[float, float]:
    """The threshold over which a question is left unanswered, where the mean score is highest; and that mean.

    The answer counts as empty where `no_answer_scores > threshold`, which is worth 1 for a question without
    an answer and 0 for any other. Of thresholds with equal means it is the lowest, and it is the score of a
    row, all as in find_best_thresh of SQuAD 2.0's script, but for two things. Rows of equal score are answered
    together or not at all (the script may stop between them, at a mean that no threshold gives). If it is best
    to answer none, the threshold is below every score (the script's 0 only where none is negative or 0).
    Choose it on validation rows, never on the rows whose scores are reported.

    Args:
        no_answer_scores: (rows,) finite; a higher one speaks more for "no answer", such as the score of no
            answer less that of the best answer.
        values_if_answered: (rows,) the score of each answer that is not empty: exact match or F1.
        unanswerable: (rows,) whether a question has no answer.

    Raises:
        UserError: there are no rows.
    """
    rows = len(no_answer_scores)
    if not rows:
        raise UserError("There are no questions to choose a threshold on.", "Give a file with questions.")
    order = np.argsort(no_answer_scores)
    ordered = no_answer_scores[order]
    gains = (values_if_answered - unanswerable)[order]
    sums = np.cumsum(np.append(float(unanswerable.sum()), gains))  # of the first 0, 1, ... rows answered
    cuts = np.append(0, np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1)
    answered = cuts[sums[cuts].argmax()]
    none = min(0.0, float(np.nextafter(ordered[0], -np.inf)))
    return float(ordered[answered - 1]) if answered else none, float(sums[answered]) / rows
