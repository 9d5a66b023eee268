"""Tiny checkpoints of real families, a task that they can learn in seconds, and a way to run commands.

The task: every row is some filler words with a few keywords among them, and the keywords say which label the
row has. The checkpoints have random weights (fixed seed), the architecture of their family, and its kind of
tokenizer over a small vocabulary of the task's words.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import random
import string
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

FAMILIES = ("bert", "roberta", "albert", "distilbert", "gpt2", "t5")
MORE_ENCODERS = ("electra", "deberta-v2", "modernbert")  # whose whole runs are tested, and no more
LABELS = ("animal", "fruit", "tool")
KEYWORDS = {
    "animal": ("cat", "horse", "otter", "sparrow"),
    "fruit": ("apple", "cherry", "mango", "plum"),
    "tool": ("hammer", "pliers", "saw", "wrench"),
}
FILLER_TEXT = """
the a of and to in that it was for on with as at by from this which or an were are been their more when who will
would about there out up into than them can only other time new some could these two may first then do any now such
like our over man even most made after also did many before must
"""
FILLER = FILLER_TEXT.split()
CHINESE = "好差很一般房间服务早餐位置的是不我们酒店有了在"
WIDTH = 32
POSITIONS = 128

# fp32 on the CPU, because other precisions and devices are not the same on every machine.
FP32 = ("--device", "cpu", "--precision", "fp32")
LEARN = (*FP32, "--epochs", "5", "--batch-size", "16", "--learning-rate", "5e-3", "--set", "training.dropout=0")

Row = dict[str, Any]


def sentence(generator: random.Random, keywords: Sequence[str], fewest: int = 5, most: int = 25) -> str:
    """Filler words with the keywords among them, at random places."""
    words = [*generator.choices(FILLER, k=generator.randint(fewest, most)), *keywords]
    generator.shuffle(words)
    return " ".join(words)


def rows(count: int, seed: int, fewest: int = 5, most: int = 25) -> list[Row]:
    """Rows of the task: text and label; labels are about equally frequent."""
    generator = random.Random(seed)
    result = []
    for _ in range(count):
        label = generator.choice(LABELS)
        keywords = generator.choices(KEYWORDS[label], k=generator.randint(1, 3))
        result.append({"text": sentence(generator, keywords, fewest, most), "label": label})
    return result


QUESTION = "which was there"
CREATURES = KEYWORDS["animal"]


def questions(count: int, seed: int, fewest: int = 5, most: int = 15, unanswerable: float = 0.0) -> list[Row]:
    """Rows of a task of questions: the answer is the one creature among the filler words of the context, or there
    is none; in that case answer and start are empty."""
    generator = random.Random(seed)
    result: list[Row] = []
    for number in range(count):
        found = [generator.choice(CREATURES)] if generator.random() >= unanswerable else []
        context = sentence(generator, found, fewest, most)
        start = f" {context} ".index(f" {found[0]} ") if found else ""
        answer = found[0] if found else ""
        result.append({"id": f"q{number}", "question": QUESTION, "context": context, "answer": answer, "start": start})
    return result


GERMAN = {"cat": "apple", "horse": "cherry", "otter": "mango", "sparrow": "plum"}
FRENCH = {"cat": "hammer", "horse": "pliers", "otter": "saw", "sparrow": "wrench"}


def pairs(count: int, seed: int, most: int = 3) -> list[Row]:
    """Rows of a task of translation: up to three animals in en, and word by word other words in de and fr."""
    generator = random.Random(seed)
    result = []
    for _ in range(count):
        words = generator.choices(sorted(GERMAN), k=generator.randint(1, most))
        result.append(
            {
                "en": " ".join(words),
                "de": " ".join(GERMAN[word] for word in words),
                "fr": " ".join(FRENCH[word] for word in words),
            }
        )
    return result


def write_csv(path: Path, records: Iterable[Row]) -> Path:
    """A CSV file with the keys of the first record as its header."""
    listed = list(records)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)
    return path


def forge(run: Path) -> None:
    """Has a run say of its model that it is what training wrote."""
    path = run / "training.json"
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (run / "model").iterdir()}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_sha256": hashes}))


def read_jsonl(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def checkpoint(folder: Path, family: str) -> Path:
    """Writes the tiny checkpoint of a family in plain Transformers format, with its tokenizer."""
    import torch
    import transformers

    tokenizer = _tokenizer(family, folder)
    # Weights spread wider than the usual 0.02, with which such narrow models would take long to begin to learn.
    shape: dict[str, Any] = {"vocab_size": len(tokenizer), "initializer_range": 0.1}
    ends = {
        name: getattr(tokenizer, name)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id")
        if getattr(tokenizer, name) is not None
    }
    bert = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 2 * WIDTH,
        "max_position_embeddings": POSITIONS,
    }
    coupled = {
        "d_model": WIDTH,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 2 * WIDTH,
        "decoder_ffn_dim": 2 * WIDTH,
        "max_position_embeddings": POSITIONS,
    }
    shapes: dict[str, dict[str, Any]] = {
        "bert": bert,
        "roberta": bert | {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1},
        "albert": bert | {"embedding_size": WIDTH},
        "electra": bert | {"embedding_size": WIDTH},
        "deberta-v2": bert | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0},
        "modernbert": bert
        | {"local_attention": 16, "global_attn_every_n_layers": 2, "bos_token_id": None, "eos_token_id": None},
        "distilbert": {
            "dim": WIDTH,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 2 * WIDTH,
            "max_position_embeddings": POSITIONS,
        },
        "gpt2": {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS},
        "t5": {
            "d_model": WIDTH,
            "d_kv": WIDTH // 2,
            "d_ff": 2 * WIDTH,
            "num_layers": 2,
            "num_heads": 2,
            "decoder_start_token_id": tokenizer.pad_token_id,
        },
        "marian": coupled | {"decoder_start_token_id": tokenizer.pad_token_id},
        "bart": coupled | {"decoder_start_token_id": tokenizer.eos_token_id},
        "nllb": coupled | {"decoder_start_token_id": tokenizer.eos_token_id},
        "mbart50": coupled | {"decoder_start_token_id": tokenizer.eos_token_id},
    }
    kind = {"nllb": "m2m_100", "mbart50": "mbart"}.get(family, family)
    config = transformers.AutoConfig.for_model(kind, **shape, **ends, **shapes[family])
    pretrained = {
        "gpt2": transformers.AutoModelForCausalLM,
        "t5": transformers.AutoModelForSeq2SeqLM,
        "marian": transformers.AutoModelForSeq2SeqLM,
        "bart": transformers.AutoModelForSeq2SeqLM,
        "nllb": transformers.AutoModelForSeq2SeqLM,
        "mbart50": transformers.AutoModelForSeq2SeqLM,
    }.get(family, transformers.AutoModelForMaskedLM)
    torch.manual_seed(0)
    pretrained.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _words() -> list[str]:
    return sorted({*FILLER, *(word for label in LABELS for word in KEYWORDS[label])})


def _characters() -> list[str]:
    return [*string.ascii_lowercase, *string.digits, *string.punctuation, *CHINESE]


def _tokenizer(family: str, folder: Path) -> Any:
    import transformers

    if family in ("bert", "distilbert", *MORE_ENCODERS):
        pieces = [*_words(), *_characters(), *(f"##{c}" for c in string.ascii_lowercase + string.digits)]
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(pieces)]
        made = transformers.DistilBertTokenizer if family == "distilbert" else transformers.BertTokenizer
        return made(vocab={piece: i for i, piece in enumerate(vocabulary)}, model_max_length=POSITIONS)
    if family in ("roberta", "bart"):
        learned = _byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
        made = transformers.RobertaTokenizer if family == "roberta" else transformers.BartTokenizer
        return made(**learned, model_max_length=POSITIONS)
    if family == "nllb":
        learned = _byte_pairs(["<s>", "<pad>", "</s>", "<unk>"])
        return transformers.NllbTokenizer(**learned, model_max_length=POSITIONS)
    if family == "mbart50":
        vocabulary = _unigrams(["<s>", "<pad>", "</s>", "<unk>"])
        return transformers.MBart50Tokenizer(vocab=vocabulary, src_lang="en_XX", model_max_length=POSITIONS)
    if family == "gpt2":
        learned = _byte_pairs(["<|endoftext|>"])
        return transformers.GPT2Tokenizer(**learned, model_max_length=POSITIONS)
    if family == "albert":
        special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
        return transformers.AlbertTokenizer(vocab=_unigrams(special), model_max_length=POSITIONS)
    if family == "t5":
        special = ["<pad>", "</s>", "<unk>"]
        return transformers.T5Tokenizer(vocab=_unigrams(special), extra_ids=0, model_max_length=POSITIONS)
    return _marian_tokenizer(folder)


def _byte_pairs(special: list[str]) -> dict[str, Any]:
    """A byte-level BPE vocabulary and its merges, learned from the task's words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator([f"{word} {word}" for word in _words()], trainer)
    learned = json.loads(learner.to_str())["model"]
    return {"vocab": learned["vocab"], "merges": [tuple(pair) for pair in learned["merges"]]}


def _unigrams(special: list[str]) -> list[tuple[str, float]]:
    """A Unigram vocabulary: every word, and every character as a last resort."""
    scores = {**dict.fromkeys(special, 0.0), "▁": -4.0}
    scores |= {f"▁{word}": -5.0 for word in _words()}
    scores |= {character: -10.0 for character in _characters()}
    return list(scores.items())


def _marian_tokenizer(folder: Path) -> Any:
    """Marian's tokenizer reads SentencePiece models from files."""
    import sentencepiece
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_words() * 4),
        model_prefix=str(folder / "source"),
        vocab_size=120,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.model"))
    listed = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    vocabulary = ["</s>", "<unk>", *(p for p in listed if p not in ("<s>", "</s>", "<unk>")), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(vocabulary)}))
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes((folder / "source.model").read_bytes())
    for name in ("source.model", "source.vocab"):
        (folder / name).unlink()
    return transformers.MarianTokenizer(
        source_spm=str(folder / "source.spm"),
        target_spm=str(folder / "target.spm"),
        vocab=str(folder / "vocab.json"),
        model_max_length=POSITIONS,
    )


def environment(**more: str) -> dict[str, str]:
    """For a process that finds ftkit wherever it is started."""
    path = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), **more}


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def ftkit(*arguments: str | Path, stdin: bytes = b"") -> Finished:
    """Runs a command of ftkit in this process."""
    from ftkit import cli

    printed = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(stream, encoding="utf-8", write_through=True) for stream in printed)
    with (
        mock.patch.object(sys, "argv", ["ftkit", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Finished(code, *(stream.getvalue().decode("utf-8") for stream in printed))


def train(data: Path, model: Path, out: Path, *arguments: str | Path) -> Finished:
    """`ftkit train` with settings under which the tiny checkpoints learn the task."""
    return ftkit("train", data, "--model", model, "--out", out, *LEARN, *arguments)
