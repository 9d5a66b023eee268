"""Faster training and prediction, with the same mathematics.

On every device:

- A classifier of BERT's kind reads the first token only, so the last layer computes no other one after its keys and
  values (with attention that is not ftkit's: after its attention).

On CPUs:

- torch draws dropout masks one number at a time on CPUs; in the attention and the dropout modules here, four numbers
  come from a random word.
- torch's attention leaves the fused kernel as soon as there is dropout: it then multiplies in fp32 and keeps several
  matrices of tokens x tokens for every head of every layer. Here attention works through a few heads at a time, and
  keeps nothing of that size for the backward pass where there are many tokens; in bf16 that pays without dropout too.
- The gradient of the embeddings, zero but for the tokens of the update, is otherwise a new table each time. Here it
  stays in place, and rows are added to it (a layer that writes with the same table still makes one).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import transformers
from numpy.random import SFC64

from ftkit import sharding

# Transformers checks, for a name with "sdpa" in it, that a model can do with sdpa's way of calling.
ATTENTION = "ftkit_sdpa"
CHUNK = 2**19  # attention probabilities computed at once, for each thread: a MB or two, which stay in its cache
MOST_CHUNKS = 8  # of all threads together
FEW_KEYS = 128  # up to which the probabilities take less memory than the rest of a layer (heads 32 wide or more)
# Classifiers that read the first token: their layers, and in a layer what follows attention, and attention.
BERT = "encoder.layer", "attention.output", "attention.self"
FIRST_TOKEN = {
    "BertForSequenceClassification": BERT,
    "CamembertForSequenceClassification": BERT,
    "DistilBertForSequenceClassification": ("transformer.layer", "sa_layer_norm", "attention"),
    "ElectraForSequenceClassification": BERT,
    "RobertaForSequenceClassification": BERT,
    "XLMRobertaForSequenceClassification": BERT,
}
# Whose forward pass leaves nothing in the model, so that several threads may be in it at once. Others may: rotary
# embeddings of some kinds note the longest text so far, and generation its settings.
KEEPING_NOTHING = ("albert", "bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
STEPS = 2**16  # dropout rates are exact to one part in this many
MASKED = torch.finfo(torch.bfloat16).min  # added to a score that must not count; finite, and exact in fp32 too
INTEGERS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}

_sdpa = transformers.AttentionInterface()["sdpa"]
_sdpa_mask = transformers.AttentionMaskInterface()["sdpa"]


def prepare(model: Any, device: torch.device) -> None:
    """Makes a Transformers model train and answer faster, above all on a CPU.

    What it computes stays the same, and so does the model that it saves. Models whose attention cannot be
    exchanged (DeBERTa) keep theirs. Gradients are to be forgotten by `forget_gradients`.
    """
    for kind in type(model).__mro__:  # a model in shards has a class of its own
        if kind.__name__ in FIRST_TOKEN and not getattr(model.config, "is_decoder", False):
            layers, following, asking = FIRST_TOKEN[kind.__name__]
            last = model.base_model.get_submodule(layers)[-1]
            last.get_submodule(following).register_forward_pre_hook(_first_token)
            last.get_submodule(asking).asks_first_token_only = True  # what `attention` goes by
    if device.type != "cpu":
        return
    with contextlib.suppress(ValueError):  # the model can only do with its own way of attention
        model.set_attn_implementation(ATTENTION)
    for module in model.modules():
        if type(module) is torch.nn.Dropout:
            module.__class__ = Dropout
    for embedding in _tables(model):
        embedding.sparse = True


def keeps_nothing(model: Any) -> bool:
    """Whether several threads may compute with a model at once, because computing leaves nothing in it."""
    return model.config.model_type in KEEPING_NOTHING and not model.can_generate()


def _first_token(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Of what attention gives, (batch, tokens, width) each, the part of the first token."""
    return tuple(tensor[:, :1] for tensor in given)


def _tables(model: Any) -> list[torch.nn.Embedding]:
    """The modules that look tokens up, which may be several with the same weights; none if these are in shards."""
    table = model.get_input_embeddings().weight
    if sharding.in_shards(table):
        return []
    return [m for m in model.modules() if isinstance(m, torch.nn.Embedding) and m.weight is table]


def forget_gradients(model: Any) -> None:
    """Before an update: no gradient is left.

    That of embeddings which `prepare` has made sparse becomes zeros in the memory that it has: autograd adds the rows
    of a sparse gradient to a dense one that is there, and would leave a sparse one where none is.
    """
    kept = {id(m.weight) for m in _tables(model) if m.sparse and m.weight.requires_grad}
    for parameter in model.parameters():
        if id(parameter) not in kept:
            parameter.grad = None
        elif parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        else:
            parameter.grad.zero_()


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: torch.Tensor | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as Transformers' models call it (`AttentionInterface`).

    Args:
        query: (batch, heads, queries, width); key and value: (batch, heads or a divisor, keys, width).
        attention_mask: (batch or 1, 1, queries, keys), True where a query sees a key, or numbers added to the scores.
        dropout: the share of the probabilities that becomes zero, to 1/65536; the others grow to keep the mean.
        position_bias: (batch or 1, heads, queries, keys), added to the scores; it learns too.

    Returns:
        (batch, queries, heads, width), and no probabilities.
    """
    if getattr(module, "asks_first_token_only", False) and query.shape[2] > 1:
        seen = None if attention_mask is None else attention_mask[:, :, :1]
        first, _ = attention(module, query[:, :, :1], key, value, seen, dropout, scaling, False, position_bias, **more)
        return first.expand(-1, query.shape[2], -1, -1), None
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (tensor.to(torch.get_autocast_dtype("cpu")) for tensor in (query, key, value))
    if not _faster(query, key, dropout):
        return _sdpa(  # type: ignore[no-any-return]
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            is_causal=is_causal,
            position_bias=position_bias,
            **more,
        )
    if key.shape[1] != query.shape[1]:
        key, value = (t.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for t in (key, value))
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is None and causal and query.shape[2] > 1:
        attention_mask = torch.ones(1, 1, query.shape[2], key.shape[2], dtype=torch.bool).tril()
    elif attention_mask is not None and attention_mask.dtype != torch.bool:
        position_bias = attention_mask if position_bias is None else position_bias + attention_mask
        attention_mask = None
    scaling = query.shape[3] ** -0.5 if scaling is None else scaling
    seed = int(torch.randint(2**62, ())) if dropout else 0
    given = query, key, value, position_bias, attention_mask, scaling, dropout, seed
    return _Attention.apply(*given), None  # type: ignore[no-untyped-call]


def _faster(query: torch.Tensor, key: torch.Tensor, dropout: float) -> bool:
    """Whether attention is faster here than in sdpa: with dropout, or in half precision over whole texts."""
    if query.dtype not in INTEGERS or not rounded(dropout) < 1:
        return False
    if query.dtype == torch.float32:
        return torch.is_grad_enabled() and dropout > 0
    return torch.is_grad_enabled() or query.shape[2] == key.shape[2] > 1


class _Attention(torch.autograd.Function):
    """dropout(softmax(scaling * Q K' + bias)) V, a few heads at a time.

    The backward pass computes the probabilities anew, as FlashAttention does (Dao et al., 2022, algorithm 4), and
    draws the mask anew from its seed; where there are few keys, both are kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: torch.Tensor | None,
        seen: torch.Tensor | None,
        scaling: float,
        rate: float,
        seed: int,
    ) -> torch.Tensor:
        batch, heads, queries, _ = query.shape
        output = value.new_empty(batch, queries, heads, value.shape[3])
        random, kept, parts = SFC64(seed), [], list(_parts(query, key))
        with torch.autocast("cpu", enabled=False):
            for part in parts:
                q, k, v = (_flat(tensor[part]) for tensor in (query, key, value))
                p = _softmax(_scores(q, k, bias, seen, part, scaling))
                thinned = _thinned(p, random, rate) if rate else p
                if key.shape[2] <= FEW_KEYS and any(ctx.needs_input_grad):
                    kept += [p, thinned]
                heads_last = output[part[0], :, part[1]].transpose(1, 2)
                heads_last.copy_(_product(thinned, v, _growth(rate)).view(heads_last.shape))
        ctx.save_for_backward(query, key, value, bias, seen, output, *kept)
        ctx.scaling, ctx.rate, ctx.seed, ctx.parts = scaling, rate, seed, parts
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, bias, seen, output, *kept = ctx.saved_tensors
        d_query, d_key, d_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        d_bias = torch.zeros_like(bias) if ctx.needs_input_grad[3] else None
        # sum over keys of probability times its gradient, which the softmax's gradient needs
        delta = (d_output.float() * output.float()).sum(-1).transpose(1, 2).to(query.dtype)
        d_output = d_output.transpose(1, 2)
        random, growth = SFC64(ctx.seed), _growth(ctx.rate)
        with torch.autocast("cpu", enabled=False):
            for number, part in enumerate(ctx.parts):
                q, k, v, d_o = (_flat(tensor[part]) for tensor in (query, key, value, d_output))
                if kept:
                    p, thinned = kept[2 * number : 2 * number + 2]
                else:
                    p = _softmax(_scores(q, k, bias, seen, part, ctx.scaling))
                    thinned = _thinned(p, random, ctx.rate) if ctx.rate else p
                d_value[part] = _product(thinned.transpose(1, 2), d_o, growth).view_as(d_value[part])
                d_scores = _product(d_o, v.transpose(1, 2), growth)
                d_scores.mul_(thinned).addcmul_(p, delta[part].reshape(-1, p.shape[1], 1), value=-1)
                d_query[part] = _product(d_scores, k, ctx.scaling).view_as(d_query[part])
                d_key[part] = _product(d_scores.transpose(1, 2), q, ctx.scaling).view_as(d_key[part])
                if d_bias is not None:
                    d_bias[_of(bias, part)] += (
                        d_scores.view(*query[part].shape[:2], *p.shape[1:])
                        .float()
                        .sum_to_size(bias[_of(bias, part)].shape)
                    )
        return d_query, d_key, d_value, d_bias, None, None, None, None


def _parts(query: torch.Tensor, key: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of batch and heads with at most CHUNK scores for each of torch's threads (or one head)."""
    batch, heads, queries, _ = query.shape
    size, chunk = queries * key.shape[2], CHUNK * min(torch.get_num_threads(), MOST_CHUNKS)
    heads_at_once = min(heads, max(1, chunk // size))
    rows_at_once = max(1, chunk // (size * heads))
    for row in range(0, batch, rows_at_once):
        for head in range(0, heads, heads_at_once):
            yield slice(row, min(batch, row + rows_at_once)), slice(head, min(heads, head + heads_at_once))


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1, *tensor.shape[2:])


def _product(a: torch.Tensor, b: torch.Tensor, factor: float) -> torch.Tensor:
    """factor * (a @ b), in one go."""
    return torch.baddbmm(a.new_zeros(1, 1, 1), a, b, beta=0, alpha=factor)


def _of(tensor: torch.Tensor, part: tuple[slice, slice]) -> tuple[slice, slice]:
    """The part of a tensor whose batch or heads may be one for all."""
    rows, heads = part
    return rows if tensor.shape[0] > 1 else slice(None), heads if tensor.shape[1] > 1 else slice(None)


def _scores(
    q: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor | None,
    seen: torch.Tensor | None,
    part: tuple[slice, slice],
    scaling: float,
) -> torch.Tensor:
    """(rows x heads, queries, keys): scaling * q k' + bias, and MASKED where a key is not seen."""
    added = None
    if seen is not None:
        seen = seen[_of(seen, part)]
        if not seen.all():
            added = seen.to(q.dtype).sub_(1).mul_(-MASKED)
    if bias is not None:
        bias = bias[_of(bias, part)].to(q.dtype)
        added = bias if added is None else bias + added
    if added is None:
        return _product(q, k.transpose(1, 2), scaling)
    rows, heads = part
    shape = rows.stop - rows.start, heads.stop - heads.start, *added.shape[2:]
    if shape[0] > 1:
        added = added.expand(shape).reshape(-1, *shape[2:])
    return torch.baddbmm(added.reshape(-1, *shape[2:]), q, k.transpose(1, 2), alpha=scaling)


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    """Over the last dimension, in fp32: torch's bf16 kernel is no faster, and several times slower below 32 keys."""
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)


def rounded(rate: float) -> float:
    """The rate at which a dropout rate is carried out: the nearest multiple of 1/65536."""
    return round(rate * STEPS) / STEPS


def _growth(rate: float) -> float:
    """What the numbers that stay are multiplied by."""
    return 1 / (1 - rounded(rate))


def _thinned(numbers: torch.Tensor, random: SFC64, rate: float) -> torch.Tensor:
    """The numbers, with zeros at the given rate; those that stay do not grow."""
    ones = _mask(numbers, random, rate)
    return ones.mul_(numbers.view(ones.dtype)).view(numbers.dtype)


def _mask(numbers: torch.Tensor, random: SFC64, rate: float) -> torch.Tensor:
    """Ones, and zeros at the given rate, as integers as wide as the numbers.

    torch compares and multiplies integers several times as fast as bf16 and booleans.
    """
    words = random.random_raw(-(-numbers.numel() // 4))
    drawn = torch.from_numpy(words.view(np.int16))[: numbers.numel()].view(numbers.shape)
    ones = torch.empty(numbers.shape, dtype=INTEGERS[numbers.dtype])
    return torch.ge(drawn, round(rate * STEPS) - STEPS // 2, out=ones)


class Dropout(torch.nn.Dropout):
    """torch.nn.Dropout, to 1/65536 of the rate, with masks that are drawn faster."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or not 0 < rounded(self.p) < 1 or input.dtype not in INTEGERS:
            return super().forward(input)
        ones = _mask(input, SFC64(int(torch.randint(2**62, ()))), self.p)
        growth = torch.tensor(_growth(self.p), dtype=input.dtype).view(ones.dtype)
        return input * ones.mul_(growth).view(input.dtype)


def mask(*given: Any, **more: Any) -> torch.Tensor | None:
    """The attention mask as sdpa takes it; (batch, 1, 1, keys) if all queries see the same keys."""
    seen: torch.Tensor | None = _sdpa_mask(*given, **more)
    if seen is not None and bool((seen == seen[:, :, :1]).all()):
        seen = seen[:, :, :1]
    return seen


transformers.AttentionInterface.register(ATTENTION, attention)
transformers.AttentionMaskInterface.register(ATTENTION, mask)
