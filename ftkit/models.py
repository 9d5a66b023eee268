"""From a name to a tokenizer and a model with the right head.

A folder is inspected before Transformers sees it (`model_files.inspect`). Weights are loaded as fp32 from
safetensors, or from a pickle if that was allowed; the attention implementation is ours to choose, never the
checkpoint's; no code from a model folder runs.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from ftkit import hub, model_files
from ftkit.config import TextSection
from ftkit.devices import Devices
from ftkit.errors import UserError

WINDOW_LIMIT = 512  # the default window of models that could read more; --set window.max_length goes further
# Families whose position numbers start after the pad id: RoBERTa's 514 positions hold 512 tokens.
OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "data2vec-text", "mpnet"}
PAD = "<|pad|>"

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def locate(name: str, revision: str | None, candidates: Sequence[str], allow_pickle: bool = False) -> tuple[str, Path]:
    """The name and folder of a model; "auto" takes the first of the task's default models at hand.

    `package:` models come first among the defaults, because they need no network.
    """
    if name == "auto":
        packaged = [c for c in candidates if c.startswith("package:")]
        present = [c for c in packaged if importlib.util.find_spec(c[8:].partition("/")[0])]
        name = (present or [c for c in candidates if c not in packaged])[0]
    return name, hub.model_folder(name, revision, allow_pickle)


def load_config(folder: Path, allow_pickle: bool = False) -> Any:
    """The configuration of a model folder: the door through which every folder has to come.

    Raises:
        UserError: the folder is not safe to load, or no model that Transformers knows.
    """
    model_files.inspect(folder, allow_pickle)
    try:
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # what a folder says of its model can fail in any way
        raise UserError(f"{folder} is not a model that Transformers knows: {_first_line(error)}") from None


def family(config: Any) -> Literal["encoder", "decoder", "encoder-decoder"]:
    """How a model reads: both ways, forwards, or an encoder with a decoder behind it."""
    if config.is_encoder_decoder:
        return "encoder-decoder"
    kind = config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "decoder" if causal else "encoder"


def load_tokenizer(folder: Path, config: Any) -> Any:
    """The tokenizer, with a pad token that no text can end with.

    Decoder heads read the last position whose id is not the pad id, so a pad token that equals the end
    token would make a row's answer depend on its neighbours in the batch.
    """
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library `tokenizers` raises nothing more special
        raise UserError(f"no tokenizer can be loaded from {folder}: {_first_line(error)}") from None
    ambiguous = family(config) == "decoder" and tokenizer.pad_token_id == tokenizer.eos_token_id
    if tokenizer.pad_token_id is None or ambiguous:
        tokenizer.add_special_tokens({"pad_token": PAD})
    tokenizer.chat_template = None  # a program, which ftkit never runs and does not pass on
    # Not every tokenizer says rightly whether its model knows token types; the model's table of them does.
    names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    known = (getattr(config, "type_vocab_size", None) or 0) > 1
    tokenizer.model_input_names = [*names, "token_type_ids"] if known else names
    return tokenizer


def window_limit(config: Any, tokenizer: Any) -> int | None:
    """Tokens that the model can read at once; None if there is no limit (relative positions)."""
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < 1_000_000 else []
    positions = getattr(config, "max_position_embeddings", None)
    if positions and positions > 0:
        offset = (config.pad_token_id or 0) + 1 if config.model_type in OFFSET_POSITIONS else 0
        limits.append(positions - offset)
    return min(limits, default=None)


class Loaded(NamedTuple):
    """A model, notes about it, and the names of the parameters of a new head, which begin at random."""

    model: Any
    notes: list[str]
    new: frozenset[str] = frozenset()


def load_model(
    folder: Path,
    config: Any,
    tokenizer: Any,
    record: Any,
    *,
    training: bool,
    seed: int = 0,
    dropout: float | None = None,
    allow_pickle: bool = False,
    first_logits: NDArray[np.float32] | None = None,
) -> Loaded:
    """A model in fp32 with the head that a record names, and what was new in it.

    In training a missing or mismatched head is made anew (seeded) and said so. Otherwise every
    parameter has to be in the checkpoint.

    Args:
        first_logits: (labels,) about what a new labels head says of any row before it has learned.

    Raises:
        UserError: the family has no such head, or (not in training) parameters are missing.
    """
    other_labels = record.head == "labels" and _other_labels(config, record.labels)
    if record.head == "labels":
        config.num_labels = len(record.labels)
        config.id2label = dict(enumerate(record.labels))
        config.label2id = {label: i for i, label in enumerate(record.labels)}
        config.problem_type = "multi_label_classification" if record.multi_label else "single_label_classification"
    elif record.head == "spans":
        config.num_labels = 2
    auto_class = _auto_class(record.head, config)
    # A new pad token has no embedding yet, and some models look it up while they are built.
    vocabulary = getattr(config, "vocab_size", None) or 0
    config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id < vocabulary else None
    if dropout is not None:
        _set_dropout(config, dropout)
    torch.manual_seed(seed)
    pickled = allow_pickle and model_files.pickled(folder)
    if record.head == "text" and family(config) == "encoder":
        if not training:
            raise UserError(f"{folder} is an encoder without a decoder: it was not trained to write")
        return Loaded(*_coupled(folder, config, tokenizer, not pickled, dropout))
    model, info = _from_pretrained(auto_class, folder, config, training, not pickled)
    missing = sorted(info["missing_keys"]) + sorted(str(key[0]) for key in info["mismatched_keys"])
    notes = [f"weights read from a pickle in {folder}, as allowed: tensors only, no code"] if pickled else []
    if other_labels and training and not missing:
        missing = _forget_labels(model)
    if missing and not training:
        raise UserError(
            f"{folder} lacks the weights of its head ({', '.join(missing[:4])}): it was not trained for this",
            f"Train it first: ftkit train DATA --model {folder}",
        )
    pooler = _unlearned_pooler(model) if missing and record.head == "labels" else None
    if pooler is not None:
        torch.nn.init.eye_(pooler.weight)
        missing = [key for key in missing if "pooler" not in key]
    if missing:
        backbone = [key for key in missing if key.startswith(f"{model.base_model_prefix}.") and "pooler" not in key]
        if backbone:
            raise UserError(f"{folder} lacks {len(backbone)} weights of the model itself: {', '.join(backbone[:4])}")
        notes.append(f"new head: {', '.join(missing)} begin at random")
        if first_logits is not None:
            _say_first(model, missing, first_logits)
    if pooler is not None:
        notes.append("the pooler, which had learned nothing, begins by handing on the first token")
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        notes.append(f"new token {tokenizer.pad_token} for padding")
    if untrained(model.config):
        del model.config.ftkit_untrained
        notes.append("a new model: all of it begins at random")
    model.config.pad_token_id = tokenizer.pad_token_id
    return Loaded(model, notes, frozenset(missing))


# Whose classifiers read the tanh of what this layer makes of the first token; others have one and do not read it.
POOLERS = {
    "albert": "pooler",
    "bert": "pooler.dense",
    "ernie": "pooler.dense",
    "megatron-bert": "pooler.dense",
    "rembert": "pooler.dense",
    "roc_bert": "pooler.dense",
    "squeezebert": "pooler.dense",
}


def _unlearned_pooler(model: Any) -> torch.nn.Linear | None:
    """The layer between the first token and the head, if it still is as it began, with biases at zero.

    So it is where it was left out of the pretraining, as in many checkpoints for the similarity of sentences. What it
    hands on then is a small random projection of the first token.
    """
    if model.config.model_type not in POOLERS:
        return None
    layer: torch.nn.Linear = model.base_model.get_submodule(POOLERS[model.config.model_type])
    return None if layer.bias.any() else layer


def _say_first(model: Any, new: Sequence[str], logits: NDArray[np.float32]) -> None:
    """Has the new bias of the last layer, if it has one, say the logits."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in new and name.endswith("bias") and parameter.shape == logits.shape:
                parameter.copy_(torch.from_numpy(logits))


def writing(config: Any, tokenizer: Any, text: TextSection, beams: int, seed: int) -> dict[str, Any]:
    """What a task's record has to say of a model that writes: decoder, start, decoding, label_smoothing.

    Args:
        beams: where the recipe leaves their number open and nothing is drawn.
        seed: of what is drawn.

    Raises:
        UserError: settings that would have no effect.
    """
    number = (1 if text.sample else beams) if text.beams == "auto" else text.beams
    idle = {
        "text.temperature": text.temperature != 1 and not text.sample,
        "text.top_p": text.top_p != 1 and not text.sample,
        "text.length_penalty": text.length_penalty != 1 and number == 1,
    }
    if any(idle.values()):
        raise UserError(
            f"{', '.join(name for name, found in idle.items() if found)} would have no effect",
            "Temperature and top_p belong to --set text.sample=true, a length penalty to several beams",
        )
    if text.sample and number > 1:
        raise UserError("tokens are drawn, or looked for with beams", "Leave out text.beams, or text.sample")
    decoding = {
        "max_new_tokens": None if text.max_new_tokens == "auto" else text.max_new_tokens,
        "beams": number,
        "seed": seed if text.sample else 0,
        **{name: getattr(text, name) for name in ("length_penalty", "sample", "temperature", "top_p")},
    }
    start, kind = [], family(config)
    if kind != "decoder":  # an encoder gets a decoder that begins as BERT's texts do
        first = getattr(config, "decoder_start_token_id", None) if config.is_encoder_decoder else None
        start = [tokenizer.cls_token_id if first is None else first]
        if None in start:
            raise UserError(f"this {config.model_type} model does not say with which token its answers begin")
        if config.model_type == "bart":  # was pretrained to write its beginning-of-text token too
            start.append(config.bos_token_id)
    return {
        "decoder": kind == "decoder",
        "start": start,
        "decoding": decoding,
        "label_smoothing": text.label_smoothing,
    }


def untrained(config: Any) -> bool:
    """Whether a checkpoint comes from `ftkit new-model` and has learned nothing yet."""
    return bool(getattr(config, "ftkit_untrained", False))


# Encoders whose family also has a decoder that looks at what was encoded, with the same weights otherwise.
DECODERS = {"bert", "roberta", "xlm-roberta", "camembert", "electra"}
MOST_LAYERS = 6  # of a decoder that begins at random


def _coupled(folder: Path, config: Any, tokenizer: Any, safe: bool, dropout: float | None) -> tuple[Any, list[str]]:
    """An encoder with a decoder behind it (Rothe et al. 2020, "BERT2BERT"), and notes.

    Where the family has a decoder it begins as a copy of the encoder, and only the layers that look at what was
    encoded are new. Others (ALBERT, DistilBERT, DeBERTa) get a new BERT decoder of their width and vocabulary.
    """
    encoder, _ = _from_pretrained(transformers.AutoModel, folder, config, True, safe)
    if config.model_type in DECODERS:
        begun = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        begun.is_decoder = begun.add_cross_attention = True
        begun.pad_token_id = tokenizer.pad_token_id
        if dropout is not None:
            _set_dropout(begun, dropout)
        decoder, _ = _from_pretrained(transformers.AutoModelForCausalLM, folder, begun, True, safe)
        notes = ["coupled with a copy of itself as decoder; the layers between them begin at random"]
    else:
        width = config.hidden_size
        begun = transformers.BertConfig(
            vocab_size=encoder.get_input_embeddings().weight.shape[0],
            hidden_size=width,
            num_hidden_layers=min(config.num_hidden_layers, MOST_LAYERS),
            num_attention_heads=config.num_attention_heads,
            intermediate_size=4 * width,
            max_position_embeddings=window_limit(config, tokenizer) or WINDOW_LIMIT,
            initializer_range=config.initializer_range,
            is_decoder=True,
            add_cross_attention=True,
            pad_token_id=tokenizer.pad_token_id,
        )
        if dropout is not None:
            _set_dropout(begun, dropout)
        decoder = transformers.BertLMHeadModel._from_config(begun, dtype=torch.float32)
        notes = ["coupled with a new BERT decoder, which begins at random"]
    model = transformers.EncoderDecoderModel(encoder=encoder, decoder=decoder)
    model.config.decoder_start_token_id = tokenizer.cls_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, notes


HEADS = {"labels": "ForSequenceClassification", "spans": "ForQuestionAnswering"}  # how Transformers calls such models
# Whose answer to a row depends on how far the rows beside it are padded: what stands there is read as text.
READING_PADDING = ("fnet", "xlnet")
OVERFLOWING = ("t5", "mt5", "umt5", "longt5")  # in fp16; they were trained in bf16


def suited(devices: Devices, config: Any) -> Devices:
    """The same place, with a precision that models of this configuration can be computed in.

    Raises:
        UserError: another one was asked for.
    """
    if devices.precision != "fp16" or config.model_type not in OVERFLOWING:
        return devices
    if devices.asked:
        raise UserError(f"{config.model_type} overflows in fp16", "Use fp32, or leave out --precision")
    return dataclasses.replace(devices, precision="fp32")


def has_head(config: Any, record: Any) -> bool:
    """Whether a checkpoint says that it has learned such answers before: the same head, for as many labels."""
    if record.head == "labels" and (config.num_labels != len(record.labels) or _other_labels(config, record.labels)):
        return False
    return any(name.endswith(HEADS[record.head]) for name in config.architectures or ())


def _other_labels(config: Any, labels: Sequence[str]) -> bool:
    """Whether the outputs of a checkpoint have names, and others than these or in another order."""
    known = [str(name) for _, name in sorted((config.id2label or {}).items())]
    named = not all(name.startswith("LABEL_") for name in known)
    return named and [name.casefold() for name in known] != [label.casefold() for label in labels]


def _forget_labels(model: Any) -> list[str]:
    """Has the layers that stand for labels begin at random, as those of a new head do; their names."""
    prefix, count = f"{model.base_model_prefix}.", model.config.num_labels
    found = {n: p for n, p in model.named_parameters() if not n.startswith(prefix) and p.shape[0] == count}
    with torch.no_grad():
        for parameter in found.values():
            if parameter.ndim > 1:
                parameter.normal_(0.0, getattr(model.config, "initializer_range", 0.02))
            else:
                parameter.zero_()
    return sorted(found)


def _auto_class(head: str, config: Any) -> Any:
    if config.model_type in READING_PADDING:
        raise UserError(
            f"the answers of {config.model_type} models to a row depend on the rows beside it",
            "Use a BERT, RoBERTa, GPT-2, Llama, T5 or BART checkpoint",
        )
    if head == "labels":
        return transformers.AutoModelForSequenceClassification
    if head == "spans":
        return transformers.AutoModelForQuestionAnswering
    return transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM


def _set_dropout(config: Any, dropout: float) -> None:
    for part in (getattr(config, name, None) for name in ("encoder", "decoder")):
        if isinstance(part, transformers.PreTrainedConfig):
            _set_dropout(part, dropout)
    for key, value in config.to_dict().items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if "drop" in key and number and ("layerdrop" not in key or dropout == 0):
            setattr(config, key, dropout)


def _from_pretrained(
    auto_class: Any, folder: Path, config: Any, training: bool, safetensors: bool
) -> tuple[Any, dict[str, Any]]:
    arguments: dict[str, Any] = {
        "config": config,
        "dtype": torch.float32,
        "use_safetensors": safetensors,
        "weights_only": True,  # of pickles: what is no tensor is refused
        "local_files_only": True,
        "ignore_mismatched_sizes": training,
        "output_loading_info": True,
    }
    try:
        try:
            return auto_class.from_pretrained(folder, attn_implementation="sdpa", **arguments)  # type: ignore[no-any-return]
        except ValueError as error:
            if "scaled_dot_product_attention" not in str(error) and "sdpa" not in str(error):
                raise
            return auto_class.from_pretrained(folder, attn_implementation="eager", **arguments)  # type: ignore[no-any-return]
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):
            task = auto_class.__name__.removeprefix("AutoModelFor")
            raise UserError(
                f"models of type {config.model_type} have no head for {task}",
                "Use a BERT, RoBERTa, GPT-2, Llama, T5 or BART checkpoint",
            ) from None
        raise UserError(f"the model in {folder} cannot be loaded: {_first_line(error)}") from None
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        found = f"its pickle asks for {wanted[1]}" if wanted else "its pickle is damaged, or holds more"
        raise UserError(
            f"the model in {folder} cannot be loaded: {found}, and only tensors are read from a pickle",
            "Do not trust it; look for a copy with safetensors",
        ) from None
    except Exception as error:  # what a folder says of its model can fail in any way
        raise UserError(f"the model in {folder} cannot be loaded: {_first_line(error)}") from None


def freeze(model: Any, part: str) -> None:
    """Makes the embeddings, or all but the head, keep their values."""
    if part == "embeddings":
        coupled = isinstance(model, transformers.EncoderDecoderModel)
        for each in (model.encoder, model.decoder) if coupled else (model,):
            each.get_input_embeddings().requires_grad_(False)
    elif part == "backbone":
        model.base_model.requires_grad_(False)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:300] or type(error).__name__
