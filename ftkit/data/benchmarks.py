"""The well-known benchmarks: where their rows are, which split is reported on, and what others reached.

A published figure stands here only if it was read in the source that it names. Where a benchmark hides
the labels of its test split, its validation split is reported on and must not choose anything; the model
is then chosen on a share of the training rows.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftkit.data.load import SPLIT_NAMES, candidates
from ftkit.errors import UserError


@dataclass(frozen=True)
class Figure:
    """A result that others published.

    Attributes:
        value: in the metric's unit: from 0 to 1, and of BLEU from 0 to 100.
        metric: by its name here, e.g. accuracy or f1_macro.
        model: what reached it, and under which conditions if they are unusual.
        source: where it was read.
    """

    value: float
    metric: str
    model: str
    source: str


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        source: hub:NAME[/CONFIG], without a split.
        columns: role -> column.
        validation: what the model is chosen on: a split, or a share of the training rows.
        reported_split: what figures are reported on.
        metric: the main one.
        published: a figure to compare with.
    """

    name: str
    source: str
    columns: dict[str, str]
    validation: str | float
    reported_split: str
    task: str = "classification"
    multi_label: bool = False
    metric: str = "accuracy"
    published: Figure | None = None

    def published_figure(self) -> dict[str, Any] | None:
        """The published figure as JSON-able values."""
        return asdict(self.published) if self.published else None


FURTHER_PRETRAINED = "BERT-base, pretrained further on texts of the task"
SUN_2019 = "paperswithcode.com page of arXiv:1905.05583"

BENCHMARKS = (
    Benchmark(
        "sst2",
        "hub:stanfordnlp/sst2",
        {"text": "sentence", "label": "label"},
        validation=0.05,
        reported_split="validation",  # GLUE hides the labels of the test split
        task="sentiment",
        published=Figure(
            0.9232,
            "accuracy",
            "bert-base-cased (3 epochs, learning rate 2e-5, batches of 32)",
            "github.com/huggingface/transformers, examples/pytorch/text-classification/README.md",
        ),
    ),
    Benchmark(
        "imdb",
        "hub:stanfordnlp/imdb",
        {"text": "text", "label": "label"},
        validation=0.1,
        reported_split="test",
        task="sentiment",
        published=Figure(0.9563, "accuracy", FURTHER_PRETRAINED, SUN_2019),
    ),
    Benchmark(
        "ag_news",
        "hub:fancyzhx/ag_news",
        {"text": "text", "label": "label"},
        validation=0.1,
        reported_split="test",
        published=Figure(0.952, "accuracy", "BERT-base", SUN_2019),
    ),
    Benchmark(
        "emotion",
        "hub:dair-ai/emotion/split",
        {"text": "text", "label": "label"},
        validation="validation",
        reported_split="test",
    ),
    Benchmark(
        "goemotions",
        "hub:google-research-datasets/go_emotions/simplified",
        {"text": "text", "label": "labels"},
        validation="validation",
        reported_split="test",
        multi_label=True,
        metric="f1_macro",
        published=Figure(0.46, "f1_macro", "BERT-base", "arXiv:2005.00547, abstract"),
    ),
    Benchmark(
        "banking77",
        "hub:legacy-datasets/banking77",  # PolyAI/banking77 is a script, which nothing loads any more
        {"text": "text", "label": "label"},
        validation=0.1,
        reported_split="test",
        published=Figure(
            0.8004,
            "accuracy",
            "all-MiniLM-L6-v2 frozen, logistic regression on a few rows of each class (MTEB)",
            "github.com/embeddings-benchmark/results, revision 8b3219a of the model",
        ),
    ),
    Benchmark(
        "tnews",
        "hub:clue/clue/tnews",
        {"text": "sentence", "label": "label"},
        validation=0.05,
        reported_split="validation",  # CLUE hides the labels of the test split
    ),
    Benchmark(
        "trec",
        "hub:SetFit/TREC-QC",  # CogComp/trec is a script
        {"text": "text", "label": "label_coarse_original"},
        validation=0.1,
        reported_split="test",
        published=Figure(0.968, "accuracy", FURTHER_PRETRAINED, SUN_2019),
    ),
    Benchmark(
        "squad",
        "hub:rajpurkar/squad",
        {"question": "question", "context": "context", "answer": "answers", "id": "id"},
        validation=0.05,
        reported_split="validation",  # the labels of the test split are not published
        task="question-answering",
        metric="f1",
        published=Figure(
            0.8852,
            "f1",
            "bert-base-uncased (2 epochs, learning rate 3e-5, batches of 12)",
            "github.com/huggingface/transformers, examples/pytorch/question-answering/README.md",
        ),
    ),
    Benchmark(
        "squad2",
        "hub:rajpurkar/squad_v2",
        {"question": "question", "context": "context", "answer": "answers", "id": "id"},
        validation=0.05,
        reported_split="validation",  # the labels of the test split are not published
        task="question-answering",
        metric="f1",
        published=Figure(0.756, "f1", "MiniLM-L6-H384-uncased", "github.com/microsoft/unilm, minilm/README.md"),
    ),
    Benchmark(
        "cmrc2018",
        "hub:hfl/cmrc2018",
        {"question": "question", "context": "context", "answer": "answers", "id": "id"},
        validation=0.05,
        reported_split="validation",  # its test split on the hub is the small trial set
        task="question-answering",
        metric="f1",
    ),
    Benchmark(
        "multi30k",  # the test of 2016; the original has more languages and tests (github.com/multi30k/dataset)
        "hub:bentrevett/multi30k",
        {"source": "en", "de": "de"},
        validation="validation",
        reported_split="test",
        task="translation",
        metric="bleu",
    ),
    Benchmark(
        "wmt16_en_ro",
        "hub:wmt/wmt16/ro-en",
        {"source": "en", "ro": "ro"},
        validation="validation",
        reported_split="test",
        task="translation",
        metric="bleu",
        published=Figure(
            28.1,
            "bleu",
            "mBART (mbart-large-cc25 fine-tuned), without its post-processing of Romanian",
            "huggingface.co/facebook/mbart-large-en-ro, model card",
        ),
    ),
)


def find(name: str) -> Benchmark:
    """The benchmark of that name; SST-2 and ag-news are as good as sst2 and ag_news."""
    known = {_plain(benchmark.name): benchmark for benchmark in BENCHMARKS}
    if _plain(name) in known:
        return known[_plain(name)]
    close = difflib.get_close_matches(_plain(name), known, n=1)
    names = ", ".join(benchmark.name for benchmark in BENCHMARKS)
    raise UserError(
        f"there is no benchmark {name!r}; there are {names}",
        f"Did you mean --benchmark {known[close[0]].name}?" if close else "Any file can be scored: ftkit eval RUN FILE",
    )


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def local_file(benchmark: Benchmark, folder: Path) -> str:
    """The source in a local copy of a benchmark that holds the reported split: test.*, or validation.* or dev.*

    Raises:
        UserError: there is none, or more than one.
    """
    names = SPLIT_NAMES[benchmark.reported_split]
    found = candidates(folder, benchmark.reported_split) if folder.is_dir() else []
    if len(found) == 1:
        return found[0]
    listed = sorted(path.name for path in folder.glob("*.*")) if folder.is_dir() else []
    have = ", ".join(listed[:10]) or "no files"
    raise UserError(
        f"{benchmark.name} is reported on its {benchmark.reported_split} split, of which {folder} should hold "
        f"one file named {'.* or '.join(names)}.*; it has {have}",
        "Name the file itself: ftkit eval RUN FILE",
    )
