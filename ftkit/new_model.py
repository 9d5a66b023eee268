"""A new model: a vocabulary learned from the user's own text, and random weights that have learned nothing yet.

For languages and alphabets without a checkpoint, for tests, and for teaching. The folder is in plain Transformers
format and stands wherever a checkpoint does: `ftkit train DATA --model FOLDER`.

Every vocabulary is learned by byte-pair encoding (Sennrich et al. 2016), because its result depends on nothing but
the text: in the library `tokenizers` the trainers of WordPiece and Unigram give other vocabularies in every run.

    bert        WordPiece pieces (Chinese character by character, cased), read off merges that mark where words begin
    gpt2        byte-level merges (Radford et al. 2019)
    marian, t5  merges of characters that may cross no border between letters and other signs; blanks are kept as
                "▁" as in SentencePiece (so a "▁" of a text comes back as a blank), and a character that is not in
                the vocabulary is written as its bytes, so that every text, in any writing, comes back as it was.
                Marian: one vocabulary for both languages.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ftkit import languages
from ftkit.data.files import ReadOptions, Source
from ftkit.data.load import open_rows
from ftkit.errors import UserError
from ftkit.progress import Progress

FAMILIES = ("marian", "bert", "gpt2", "t5")
SIZES = ("tiny", "mini", "small")

POSITIONS = {"marian": 512, "bert": 512, "gpt2": 1024, "t5": 512}  # tokens that a model reads at most
PIECE = 16  # characters (gpt2: bytes) of a piece at most, as in SentencePiece; no sentence becomes one token
SEEN = 2  # times that a pair is seen before it is merged
SMALLEST = 64  # tokens that must be left for the text's own characters and pieces
SENTINELS = 10  # of t5; each stands for a span that was taken out
MARK = "▁"  # a blank, or the beginning of a word
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPLIT = rf"{MARK}?[\p{{L}}\p{{M}}]+|{MARK}?[^\p{{L}}\p{{M}}{MARK}]|{MARK}"  # letters in a row, or one other sign

BY_NAME = ReadOptions()  # the names of the files tell how to read them


def create(
    family: str,
    size: str,
    corpus: Sequence[str],
    vocabulary_size: int,
    out: str,
    *,
    seed: int = 0,
    column: str | None = None,
    target_codes: Sequence[str] = (),
    options: ReadOptions = BY_NAME,
    quiet: bool = True,
) -> dict[str, Any]:
    """Learns a vocabulary from files and writes a random checkpoint: `ftkit new-model`.

    The same arguments and files give the same `model.safetensors` and `tokenizer.json`, byte for byte.

    Args:
        family: one of FAMILIES.
        size: one of SIZES: tiny for tests; mini and small learn from nothing on a few CPU cores.
        corpus: files that `open_rows` reads; each is read twice, as a stream.
        vocabulary_size: tokens at most, special ones included.
        out: the folder to write; it may exist if it is empty.
        seed: of the weights.
        column: of tables; None takes every cell that holds text.
        target_codes: marian: languages to translate into (BCP-47); each gets a token such as ">>de<<".
        options: what the names of the files do not tell about them.
        quiet: no progress is shown.

    Returns:
        model (the folder), family, size, parameters, vocabulary (tokens really reached), lines, characters,
        seconds, sources (of each file: path, format, columns, lines, characters, notes), notes.

    Raises:
        UserError: an argument is wrong, the folder is in use, a file cannot be read or holds no text.
    """
    begin = time.monotonic()
    target_codes = [languages.find(code).code for code in target_codes]
    _check(family, size, corpus, vocabulary_size, target_codes, seed)
    folder = Path(out)
    _refuse_existing(folder)
    with Progress("reading", None, "lines", show=not quiet) as progress:
        counts, sources = _survey(corpus, column, options, progress)
    lines, characters = (sum(source[key] for source in sources) for key in ("lines", "characters"))
    with Progress("learning the vocabulary", lines, "lines", show=not quiet) as progress:
        texts = _texts(corpus, column, options, progress)
        tokenizer = TOKENIZERS[family](texts, counts, vocabulary_size, target_codes)
    model = _model(family, size, tokenizer, seed)
    _write(folder, model, tokenizer)
    notes = []
    if len(tokenizer) < vocabulary_size:
        notes.append(f"the text gave {len(tokenizer):,} of {vocabulary_size:,} tokens; more text would give more")
    return {
        "model": out,
        "family": family,
        "size": size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": len(tokenizer),
        "lines": lines,
        "characters": characters,
        "seconds": round(time.monotonic() - begin, 3),
        "sources": sources,
        "notes": notes,
    }


def _check(family: str, size: str, corpus: Sequence[str], vocabulary_size: int, codes: list[str], seed: int) -> None:
    for option, value, known in (("--family", family, FAMILIES), ("--size", size, SIZES)):
        if value not in known:
            raise UserError(f"{option} {value} is not known", f"Use one of {', '.join(known)}")
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed} is not from 0 to {2**32 - 1}", "Leave it out, or choose another number")
    if not corpus:
        raise UserError("no text to learn a vocabulary from", "Name at least one file: --corpus texts.txt")
    if "-" in corpus:
        raise UserError("the corpus is read twice, so it cannot be standard input", "Save it in a file first")
    if codes and family != "marian":
        raise UserError(
            f"a new {family} model has no tokens for target languages", "Use --family marian, or leave them out"
        )
    if twice := [code for code in codes if codes.count(code) > 1]:
        raise UserError(f"target code {twice[0]} is given twice", "Give each language once")
    fixed = {
        "marian": len(SPECIAL["marian"]) + len(codes) + len(BYTES),
        "bert": len(SPECIAL["bert"]),
        "gpt2": len(SPECIAL["gpt2"]) + len(BYTES),
        "t5": len(SPECIAL["t5"]) + SENTINELS + len(BYTES),
    }[family]
    if vocabulary_size < fixed + SMALLEST:
        raise UserError(
            f"a vocabulary of {vocabulary_size:,} is too small for {family}: {fixed:,} tokens are fixed (special "
            f"tokens, bytes), and at least {SMALLEST} must be left for the text",
            "Usual are 4,000 to 32,000: --vocab-size 8000",
        )


def _refuse_existing(folder: Path) -> None:
    if not folder.name:
        raise UserError(f"--out {folder} is where you are, and names no folder to be made", "--out models/NAME")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already", f"Choose another folder: --out {folder}-2")
    above = next(parent for parent in folder.parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"{above} is a file, so {folder} cannot be made", "Choose another folder: --out FOLDER")


# ---------------------------------------------------------------------------------------------------------
# The corpus: read once to count its characters, and once to learn from.


def _survey(
    corpus: Sequence[str], column: str | None, options: ReadOptions, progress: Progress
) -> tuple[collections.Counter[str], list[dict[str, Any]]]:
    """How often each character occurs, and what was read from each file.

    Raises:
        UserError: a file lacks the column, or holds no text.
    """
    counts: collections.Counter[str] = collections.Counter()
    sources = []
    for path in corpus:
        source, rows = _rows(path, column, options)
        columns: dict[str, None] = {}
        lines = characters = 0
        for cells in rows:
            lines += 1
            columns |= dict.fromkeys(cells)
            for text in cells.values():
                characters += len(text)
                counts.update(text)
            progress.advance(1)
        if not columns:
            place = f"column {column} of {path}" if column else path
            raise UserError(f"{place} holds no text", f"It has the columns {', '.join(source.columns)}")
        sources.append(
            {
                "path": path,
                "format": source.format,
                "columns": list(columns),
                "lines": lines,
                "characters": characters,
                "notes": list(source.notes),
            }
        )
    return counts, sources


def _rows(path: str, column: str | None, options: ReadOptions) -> tuple[Source, Iterator[dict[str, str]]]:
    """Of each row the cells that hold text, or the one of `column`."""
    source, rows = open_rows(path, options)
    if column is not None and column not in source.columns:
        raise UserError(f"{path} has no column {column!r}; it has {', '.join(source.columns)}", "Name one of these")

    def texts() -> Iterator[dict[str, str]]:
        for row in rows:
            chosen = row.cells if column is None else {column: row.cells.get(column)}
            yield {name: cell for name, cell in chosen.items() if isinstance(cell, str) and cell.strip()}

    return source, texts()


def _texts(corpus: Sequence[str], column: str | None, options: ReadOptions, progress: Progress) -> Iterator[str]:
    for path in corpus:
        for cells in _rows(path, column, options)[1]:
            yield from cells.values()
            progress.advance(1)


# ---------------------------------------------------------------------------------------------------------
# Tokenizers. Each function takes the texts, how often each character occurs in them, the size of the vocabulary
# and the codes of target languages, and returns a tokenizer of Transformers.
#
# No text can become a special token where `split_special_tokens=True`: all of them mix letters with other signs,
# and no piece of a text does.

SPECIAL = {
    "marian": ("</s>", "<unk>", "<pad>"),
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "gpt2": ("<|endoftext|>", "<|pad|>"),
    "t5": ("<pad>", "</s>", "<unk>"),
}

Merges = list[tuple[str, str]]


def _learn(
    texts: Iterable[str], normalizer: Any, pre_tokenizer: Any, alphabet: Sequence[str], size: int
) -> tuple[list[str], Merges]:
    """The alphabet and the merges that byte-pair encoding learns, `size` pieces together at most, in that order."""
    from tokenizers import Tokenizer, models, trainers

    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizer
    learner.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=SEEN,
        initial_alphabet=list(alphabet),
        limit_alphabet=len(alphabet),
        max_token_length=PIECE,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces: dict[str, int] = learned["vocab"]
    return sorted(pieces, key=pieces.__getitem__), [(first, second) for first, second in learned["merges"]]


def _by_frequency(counts: collections.Counter[str]) -> list[str]:
    """The most frequent character first; among equals the one with the lower code."""
    return sorted(counts, key=lambda character: (-counts[character], character))


def _numbered(*groups: Iterable[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(token for group in groups for token in group)}


def _marian_tokenizer(texts: Iterable[str], counts: collections.Counter[str], size: int, codes: Sequence[str]) -> Any:
    eos, unknown, pad = SPECIAL["marian"]
    tokens = [f">>{code}<<" for code in codes]
    return _lossless_tokenizer(texts, counts, size, (eos, unknown, pad, *tokens), ())


def _t5_tokenizer(texts: Iterable[str], counts: collections.Counter[str], size: int, codes: Sequence[str]) -> Any:
    sentinels = [f"<extra_id_{i}>" for i in reversed(range(SENTINELS))]  # the last token is <extra_id_0>
    return _lossless_tokenizer(texts, counts, size, SPECIAL["t5"], sentinels)


def _lossless_tokenizer(
    texts: Iterable[str],
    counts: collections.Counter[str],
    size: int,
    first: Sequence[str],
    last: Sequence[str],
) -> Any:
    """A tokenizer whose ids turn back into the text, but for a blank at its beginning and for "▁".

    Args:
        first, last: special tokens with the lowest and the highest ids; "</s>", "<unk>" and "<pad>" among them.
    """
    import transformers
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(MARK, "always", split=False), pre_tokenizers.Split(Regex(SPLIT), "isolated")]
    )
    room = size - len(first) - len(last) - len(BYTES)
    seen = [character for character in _by_frequency(counts) if character not in (" ", MARK)]
    alphabet = [MARK, *seen[: room // 2]]  # rarer characters are written as bytes
    pieces, merges = _learn(texts, None, pre_tokenizer, alphabet, room)
    vocabulary = _numbered(first, BYTES, pieces, last)
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizer
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(MARK, "always")])
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    named = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **named,
        extra_special_tokens=[token for token in (*first, *last) if token not in named.values()],
        model_max_length=POSITIONS["marian"],
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def _gpt2_tokenizer(texts: Iterable[str], counts: collections.Counter[str], size: int, codes: Sequence[str]) -> Any:
    import transformers
    from tokenizers import pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    room = size - len(SPECIAL["gpt2"])
    pieces, merges = _learn(texts, None, byte_level, sorted(byte_level.alphabet()), room)
    pairs: Any = merges  # the class takes pairs, and says that it takes lines
    return transformers.GPT2Tokenizer(
        vocab=_numbered(SPECIAL["gpt2"], pieces),
        merges=pairs,
        pad_token="<|pad|>",
        model_max_length=POSITIONS["gpt2"],
    )


def _bert_tokenizer(texts: Iterable[str], counts: collections.Counter[str], size: int, codes: Sequence[str]) -> Any:
    """Merges are learned from words with a mark before them: "▁rain" becomes rain, and "bow" becomes ##bow."""
    import transformers
    from tokenizers import normalizers, pre_tokenizers

    normalizer = normalizers.BertNormalizer(lowercase=False)
    words = pre_tokenizers.BertPreTokenizer()
    marked = pre_tokenizers.Sequence([words, pre_tokenizers.Metaspace(MARK, "always", split=False)])

    def spelled(text: str) -> list[str]:
        return [word for word, _ in words.pre_tokenize_str(normalizer.normalize_str(text))]

    room = size - len(SPECIAL["bert"])
    seen = [character for character in _by_frequency(counts) if spelled(character) == [character]]
    common, rare = seen[: room // 2], seen[room // 2 :]
    pieces, _ = _learn(texts, normalizer, marked, list(dict.fromkeys([MARK, *common])), 1 + len(common) + room)
    continuing = [f"##{character}" for character in seen if spelled(f"a{character}") == [f"a{character}"]]
    longer = [piece[1:] if piece.startswith(MARK) else f"##{piece}" for piece in pieces if len(piece) > 1]
    chosen = dict.fromkeys([*common, *continuing, *longer, *rare])
    return transformers.BertTokenizer(
        vocab=_numbered(SPECIAL["bert"], list(chosen)[:room]),
        do_lower_case=False,
        model_max_length=POSITIONS["bert"],
    )


TOKENIZERS: dict[str, Callable[[Iterable[str], collections.Counter[str], int, Sequence[str]], Any]] = {
    "marian": _marian_tokenizer,
    "bert": _bert_tokenizer,
    "gpt2": _gpt2_tokenizer,
    "t5": _t5_tokenizer,
}


# ---------------------------------------------------------------------------------------------------------
# Models.


def _model(family: str, size: str, tokenizer: Any, seed: int) -> Any:
    """The model with random weights, in fp32."""
    import torch
    import transformers

    transformers.logging.disable_progress_bar()  # of writing the weights
    head = {
        "marian": transformers.AutoModelForSeq2SeqLM,
        "bert": transformers.AutoModelForMaskedLM,
        "gpt2": transformers.AutoModelForCausalLM,
        "t5": transformers.AutoModelForSeq2SeqLM,
    }[family]
    config = transformers.AutoConfig.for_model(family, **_shape(family, size), **_tokens(tokenizer))
    config.ftkit_untrained = True  # until a training takes it out
    torch.manual_seed(seed)
    model = head.from_config(config, dtype=torch.float32)
    if family != "bert":
        limit = {} if family == "gpt2" else {"max_length": POSITIONS[family]}
        ends = {name: value for name, value in _tokens(tokenizer).items() if name != "vocab_size"}
        start = {"decoder_start_token_id": config.decoder_start_token_id} if config.is_encoder_decoder else {}
        model.generation_config = transformers.GenerationConfig(**ends, **start, **limit)
    return model


def _tokens(tokenizer: Any) -> dict[str, int]:
    numbers = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    return {"vocab_size": len(tokenizer)} | {name: value for name, value in numbers.items() if value is not None}


def _shape(family: str, size: str) -> dict[str, Any]:
    """What the configuration says about the network; the tokens are told by `_tokens`."""
    width, heads = {"tiny": (64, 2), "mini": (128, 4), "small": (256, 4)}[size]
    layers = 2 if size == "tiny" else 3 if (size, family) == ("small", "marian") else 4
    if family == "bert":
        return {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
            "max_position_embeddings": POSITIONS[family],
        }
    if family == "gpt2":
        return {"n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": POSITIONS[family]}
    if family == "t5":
        return {
            "d_model": width,
            "d_kv": width // heads,
            "d_ff": 4 * width,
            "num_layers": layers,
            "num_heads": heads,
            "decoder_start_token_id": 0,
        }
    return {
        "d_model": width,
        "encoder_layers": layers,
        "decoder_layers": layers,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * width,
        "decoder_ffn_dim": 4 * width,
        "max_position_embeddings": POSITIONS[family],
        "dropout": 0.1,
        "scale_embedding": True,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": None,
    }


# ---------------------------------------------------------------------------------------------------------
# The folder.


def _write(folder: Path, model: Any, tokenizer: Any) -> None:
    """Writes model and tokenizer; the folder is there complete or not at all.

    Raises:
        UserError: the disk is full, or cannot be written to; nothing is left behind.
    """
    import transformers
    from safetensors import SafetensorError

    stage = folder.with_name(f".{folder.name}.partial")
    absent = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
        transformers.logging.disable_progress_bar()
        model.save_pretrained(stage)
        tokenizer.save_pretrained(stage)
        readable = (stage / "config.json").stat().st_mode  # safetensors' files are for their owner alone
        for path in stage.iterdir():
            path.chmod(readable)
        os.replace(stage, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{folder} cannot be written: {reason}", "Choose another folder: --out FOLDER") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        for parent in absent if not folder.exists() else ():
            with contextlib.suppress(OSError):
                parent.rmdir()
