"""Training on CPUs is faster with ftkit's attention and dropout, and computes the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ftkit import fast
from tests.tiny import FAMILIES

CPU = torch.device("cpu")
NOTHING = 1e-6  # a rate that ftkit rounds to no dropout at all, on the way that has dropout
Gradients = dict[str, torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def undropping() -> str:
    """The name of ftkit's attention without dropout, which otherwise leaves fp32 without dropout to torch."""

    def attention(*given: Any, **more: Any) -> Any:
        return fast.attention(*given, **{**more, "dropout": NOTHING})

    transformers.AttentionInterface.register("undropping_sdpa", attention)
    transformers.AttentionMaskInterface.register("undropping_sdpa", fast.mask)
    return "undropping_sdpa"


def model_of(folder: Path, attention: str = "sdpa", dropout: float = 0.0) -> Any:
    config = transformers.AutoConfig.from_pretrained(folder)
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, dropout)
    return transformers.AutoModel.from_pretrained(folder, config=config, attn_implementation=attention)


def loss_and_gradients(folder: Path, attention: str, padded: str) -> tuple[float, Gradients]:
    """Of a model without dropout on three rows, two of them padded; only real tokens enter the loss."""
    model = model_of(folder, attention).train()
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(10, 60, (3, 20), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 13:] = mask[1, 19:] = 0
    mask = {"right": mask, "left": mask.flip(1), "none": torch.ones_like(ids)}[padded]
    inputs = {"input_ids": ids, "attention_mask": mask}
    if model.config.is_encoder_decoder:
        inputs |= {"decoder_input_ids": ids[:, :15], "decoder_attention_mask": mask[:, :15]}
        mask = mask[:, :15]
    hidden = model(**inputs).last_hidden_state
    loss = (hidden * torch.randn(hidden.shape, generator=generator) * mask[..., None]).sum() / 100
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def check_same(first: tuple[float, Gradients], second: tuple[float, Gradients], within: float = 1e-5) -> None:
    assert first[0] == pytest.approx(second[0], rel=within, abs=1e-6)
    assert first[1].keys() == second[1].keys()
    largest = max(float(gradient.norm()) for gradient in first[1].values())
    for name, gradient in first[1].items():
        distance = float((gradient - second[1][name]).norm())
        assert distance <= within * max(float(gradient.norm()), 0.05 * largest), name


@pytest.mark.parametrize("padded", ["right", "left", "none"])
@pytest.mark.parametrize("family", [*FAMILIES, "marian", "llama"])
def test_attention_computes_what_the_plain_model_computes(
    checkpoint_of: Callable[[str], Path], family: str, padded: str
) -> None:
    folder = checkpoint_of(family)
    within = 3e-5 if family == "llama" else 1e-5  # sdpa itself is 1.7e-5 away from fp64 there: the weights are trained

    found, expected = (loss_and_gradients(folder, attention, padded) for attention in ("undropping_sdpa", "sdpa"))
    check_same(found, expected, within)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("chunk", [1, 900, 1300])
@pytest.mark.parametrize("few_keys", [0, 128])
def test_the_size_of_chunks_changes_nothing(
    checkpoint_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, family: str, chunk: int, few_keys: int
) -> None:
    """Chunks of one head; of both heads of a row, and of one row after the other; of unequal numbers of rows."""
    monkeypatch.setattr(fast, "CHUNK", chunk)
    monkeypatch.setattr(fast, "FEW_KEYS", few_keys)
    folder = checkpoint_of(family)

    check_same(loss_and_gradients(folder, "undropping_sdpa", "right"), loss_and_gradients(folder, "sdpa", "right"))


def test_a_scale_that_is_wrong_is_noticed(
    checkpoint_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = fast._product
    monkeypatch.setattr(fast, "_product", lambda a, b, factor: right(a, b, factor * 1.001))
    folder = checkpoint_of("bert")

    with pytest.raises(AssertionError):
        check_same(loss_and_gradients(folder, "undropping_sdpa", "right"), loss_and_gradients(folder, "sdpa", "right"))


def test_bf16_is_as_exact_as_plain_bf16(checkpoint_of: Callable[[str], Path]) -> None:
    folder = checkpoint_of("bert")
    exact = loss_and_gradients(folder, "sdpa", "right")[1]

    def error(attention: str) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            gradients = loss_and_gradients(folder, attention, "right")[1]
        return float(sum((gradients[name] - exact[name]).square().sum() for name in exact)) ** 0.5

    assert error(fast.ATTENTION) < 1.3 * error("eager")


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "llama"])
@pytest.mark.parametrize("padded", ["right", "none"])
def test_answers_in_bf16_are_as_exact_as_plain_ones(
    checkpoint_of: Callable[[str], Path], family: str, padded: str
) -> None:
    ids = torch.randint(10, 60, (3, 20), generator=torch.Generator().manual_seed(19))
    mask = torch.ones_like(ids)
    if padded == "right":
        mask[0, 13:] = 0
    more = {"decoder_input_ids": ids} if family == "t5" else {}

    def answers(attention: str) -> torch.Tensor:
        model = model_of(checkpoint_of(family), attention).eval()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=attention != "sdpa"):
            found: torch.Tensor = model(input_ids=ids, attention_mask=mask, **more).last_hidden_state[mask > 0]
        return found.float()

    exact = answers("sdpa")
    ours, plain = (float((answers(attention) - exact).norm()) for attention in (fast.ATTENTION, "eager"))
    assert ours < 1.3 * plain


# Dropout of attention probabilities


def probabilities(rate: float, dtype: torch.dtype = torch.float32, length: int = 64) -> torch.Tensor:
    """(batch, heads, queries, keys) probabilities after dropout: what attention returns for unit vectors as values."""
    generator = torch.Generator().manual_seed(3)
    query, key = (torch.randn(2, 4, length, 8, generator=generator).to(dtype).requires_grad_() for _ in range(2))
    values = torch.eye(length, dtype=dtype).expand(2, 4, length, length)
    return fast.attention(bidirectional(), query, key, values, None, dropout=rate)[0].transpose(1, 2).detach()


def bidirectional() -> torch.nn.Module:
    module = torch.nn.Module()
    module.is_causal = False
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_attention_drops_at_the_rate_and_scales_what_stays(rate: float, dtype: torch.dtype) -> None:
    whole = probabilities(NOTHING, dtype)
    torch.manual_seed(5)
    thinned = probabilities(rate, dtype)

    stays = thinned != 0
    torch.testing.assert_close(thinned[stays], (whole[stays].float() / (1 - rate)).to(dtype), rtol=0.01, atol=0)
    assert stays.float().mean().item() == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / stays.numel()) ** 0.5)


def test_dropped_probabilities_have_the_mean_of_whole_ones() -> None:
    torch.manual_seed(6)
    whole, draws = probabilities(NOTHING, length=16), 2000
    mean = torch.stack([probabilities(0.3, length=16) for _ in range(draws)]).mean(0)

    spread = whole * (0.3 / 0.7 / draws) ** 0.5
    deviations = ((mean - whole) / spread).flatten()
    assert deviations.abs().max() < 5
    assert deviations.square().mean().item() == pytest.approx(1, abs=0.15)


def test_masks_of_calls_heads_rows_and_neighbours_are_independent() -> None:
    torch.manual_seed(7)
    first, second = ((probabilities(0.5) != 0).double() * 2 - 1 for _ in range(2))
    pairs = {
        "calls": (first, second),
        "batch": (first[0], first[1]),
        "heads": (first[:, 0], first[:, 1]),
        "queries": (first[:, :, 1:], first[:, :, :-1]),
        "keys": (first[..., 1:], first[..., :-1]),
        "every fourth key": (first[..., 4:], first[..., :-4]),
    }

    correlations = {name: float((a * b).mean()) * a.numel() ** 0.5 for name, (a, b) in pairs.items()}
    assert {name: z for name, z in correlations.items() if abs(z) > 4} == {}


def test_masks_depend_on_torch_s_seed_alone() -> None:
    torch.manual_seed(8)
    first = probabilities(0.3)
    other = probabilities(0.3)
    torch.manual_seed(8)
    np.random.seed(99)
    again = probabilities(0.3)

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_attention_takes_one_number_from_torch_s_generator() -> None:
    torch.manual_seed(9)
    probabilities(0.3)
    after = torch.rand(1)
    torch.manual_seed(9)
    torch.randint(2**62, ())

    assert torch.equal(after, torch.rand(1))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("few_keys", [0, 128])
def test_gradients_belong_to_the_mask_that_was_drawn(
    causal: bool, few_keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against autograd through a softmax and the mask, which unit vectors as values show."""
    monkeypatch.setattr(fast, "CHUNK", 300)
    monkeypatch.setattr(fast, "FEW_KEYS", few_keys)
    generator = torch.Generator().manual_seed(4)
    query, key, value = (torch.randn(2, 3, 12, 5, generator=generator).requires_grad_() for _ in range(3))
    bias = torch.randn(1, 3, 12, 12, generator=generator).requires_grad_()
    weights = torch.randn(2, 12, 3, 5, generator=generator)
    seen = torch.ones(12, 12, dtype=torch.bool).tril() if causal else torch.ones(12, 12, dtype=torch.bool)
    module = bidirectional()
    module.is_causal = causal

    def ours(values: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(10)
        return fast.attention(module, query, key, values, None, dropout=0.4, scaling=0.7, position_bias=bias)[0]

    def reference() -> torch.Tensor:
        stays = ours(torch.eye(12).expand(2, 3, 12, 12)).transpose(1, 2).detach() != 0
        scores = 0.7 * query @ key.transpose(2, 3) + bias
        p = torch.softmax(scores.masked_fill(~seen, -torch.inf), -1)
        return (p * stays / (1 - fast.rounded(0.4)) @ value).transpose(1, 2)

    learned = [query, key, value, bias]
    found = torch.autograd.grad((ours(value) * weights).sum(), learned)
    expected = torch.autograd.grad((reference() * weights).sum(), learned)

    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_queries_and_keys_may_differ_in_number_and_heads_share_keys() -> None:
    generator = torch.Generator().manual_seed(11)
    query = torch.randn(2, 4, 5, 8, generator=generator).requires_grad_()
    key, value = (torch.randn(2, 2, 9, 8, generator=generator).requires_grad_() for _ in range(2))
    seen = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    seen[0, ..., 6:] = False
    weights = torch.randn(2, 5, 4, 8, generator=generator)
    learned = [query, key, value]

    found, _ = fast.attention(bidirectional(), query, key, value, seen, dropout=NOTHING)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, seen, enable_gqa=True).transpose(
        1, 2
    )

    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), learned),
        torch.autograd.grad((expected * weights).sum(), learned),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_of_long_texts_nothing_of_the_size_of_tokens_times_tokens_is_kept() -> None:
    query, key, value = (torch.randn(1, 2, 160, 4).requires_grad_() for _ in range(3))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        fast.attention(bidirectional(), query, key, value, None, dropout=0.1)

    assert max(kept) == 2 * 160 * 4


# torch.nn.Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_at_the_rate_and_scales_what_stays(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(13)
    numbers = torch.randn(300, 301).to(dtype).requires_grad_()
    found = fast.Dropout(rate)(numbers)
    found.sum().backward()

    stays = found != 0
    assert numbers.grad is not None
    assert torch.equal(numbers.grad != 0, stays)
    torch.testing.assert_close(found[stays], (numbers[stays].float() / (1 - rate)).to(dtype), rtol=0.01, atol=0)
    torch.testing.assert_close(numbers.grad[stays].float().mean().item(), 1 / (1 - rate), rtol=0.005, atol=0)
    assert stays.float().mean().item() == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / stays.numel()) ** 0.5)


def test_dropout_s_masks_depend_on_torch_s_seed_and_on_the_call() -> None:
    masks = []
    for seed in (14, 14, 15):
        torch.manual_seed(seed)
        masks += [fast.Dropout(0.5)(torch.ones(64, 64)) != 0 for _ in range(2)]
    signs = [mask.double() * 2 - 1 for mask in masks]

    assert torch.equal(masks[0], masks[2])
    assert torch.equal(masks[1], masks[3])
    for first, second in itertools.combinations((0, 1, 4, 5), 2):
        assert abs(float((signs[first] * signs[second]).mean())) * 64 < 4
    for far in (1, 2, 3, 4):  # the four numbers of a random word, and the next word
        assert abs(float((signs[0].flatten()[far:] * signs[0].flatten()[:-far]).mean())) * 64 < 4


@pytest.mark.parametrize(("rate", "training"), [(0.0, True), (1.0, True), (0.999999, True), (0.3, False)])
def test_dropout_leaves_to_torch_what_needs_no_mask(rate: float, training: bool) -> None:
    found = []
    for dropout in (fast.Dropout, torch.nn.Dropout):
        torch.manual_seed(18)
        found.append(dropout(rate).train(training)(torch.ones(5, 6)))

    assert torch.equal(*found)


# Embeddings


@pytest.mark.parametrize("family", [*FAMILIES, "marian", "llama"])
def test_gradients_added_to_a_table_in_place_are_those_of_the_plain_model(
    checkpoint_of: Callable[[str], Path], family: str
) -> None:
    """Over two updates of two micro-batches, tied tables and padding among them."""
    ids = torch.randint(0, 60, (4, 3, 20), generator=torch.Generator().manual_seed(16))
    ids[:, 0, 15:] = 0
    learned: list[Gradients] = []
    places = []
    for prepared in (False, True):
        model = model_of(checkpoint_of(family)).train()
        if prepared:
            fast.prepare(model, CPU)
            assert any(module.sparse for module in model.modules() if isinstance(module, torch.nn.Embedding))
        for update in range(2):
            fast.forget_gradients(model)
            places.append(model.get_input_embeddings().weight.grad)
            for batch in ids[2 * update : 2 * update + 2]:
                more = {"decoder_input_ids": batch} if model.config.is_encoder_decoder else {}
                model(input_ids=batch, **more).last_hidden_state.square().sum().backward()
        learned.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})

    assert places[0] is None
    assert places[2] is places[3]
    check_same((0.0, learned[1]), (0.0, learned[0]), within=3e-5)
    assert not any(gradient.is_sparse for gradient in learned[1].values())


@pytest.mark.parametrize("family", ["gpt2", "t5", "marian"])
def test_a_table_that_also_writes_learns_from_both(checkpoint_of: Callable[[str], Path], family: str) -> None:
    """Tied to the layer that gives the next token its score: a dense gradient and a sparse one."""
    ids = torch.randint(2, 60, (3, 20), generator=torch.Generator().manual_seed(17))
    learned: list[Gradients] = []
    for prepared in (False, True):
        name = "AutoModelForCausalLM" if family == "gpt2" else "AutoModelForSeq2SeqLM"
        model = getattr(transformers, name).from_pretrained(checkpoint_of(family), attn_implementation="sdpa").eval()
        table, writing = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        assert table is writing
        if prepared:
            fast.prepare(model, CPU)
        fast.forget_gradients(model)
        model(input_ids=ids, labels=ids).loss.backward()
        learned.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})

    check_same((0.0, learned[1]), (0.0, learned[0]))


def test_frozen_embeddings_get_no_gradient(checkpoint_of: Callable[[str], Path]) -> None:
    model = model_of(checkpoint_of("bert")).train()
    table = model.get_input_embeddings().weight.requires_grad_(False)
    fast.prepare(model, CPU)
    fast.forget_gradients(model)
    model(input_ids=torch.full((2, 8), 20)).last_hidden_state.sum().backward()

    assert table.grad is None


# Models


def classifier_of(name: str, attention_dropout: float) -> Any:
    kind = getattr(transformers, name)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}  # DistilBERT translates these
    widths = {"hidden_dim": 32} if name.startswith("Distil") else {"intermediate_size": 32}
    dropout = ("dropout", "attention_dropout", "seq_classif_dropout")
    if not name.startswith("Distil"):
        dropout = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    rates = dict(zip(dropout, (0.0, attention_dropout, 0.0), strict=True))
    config = kind.config_class(vocab_size=64, **sizes, **widths, **rates)
    torch.manual_seed(14)
    return kind._from_config(config, attn_implementation="sdpa")


def tokens_fed_forward(model: Any) -> list[int]:
    """To each layer's feed-forward part, by one call of the model; filled in as it is called."""
    found: list[int] = []
    for name, module in model.named_modules():
        if name.endswith((".intermediate", ".ffn")):
            module.register_forward_hook(lambda module, given, result: found.append(given[0].shape[1]))
    return found


@pytest.mark.parametrize("name", fast.FIRST_TOKEN)
@pytest.mark.parametrize("attention_dropout", [0.0, NOTHING])
@pytest.mark.parametrize("padded", [False, True])
def test_a_classifier_whose_last_layer_computes_the_first_token_only_learns_the_same(
    name: str, attention_dropout: float, padded: bool
) -> None:
    ids = torch.randint(10, 60, (4, 12), generator=torch.Generator().manual_seed(15))
    mask = torch.ones_like(ids)
    if padded:
        mask[0, 5:] = mask[1, 11:] = 0
    found = []
    for fastened in (True, False):
        model = classifier_of(name, attention_dropout).train()
        if fastened:
            fast.prepare(model, CPU)
            fast.forget_gradients(model)
        fed = tokens_fed_forward(model)
        loss = model(input_ids=ids, attention_mask=mask, labels=torch.tensor([0, 1, 1, 0])).loss
        loss.backward()
        found.append((loss.item(), {key: p.grad for key, p in model.named_parameters() if p.grad is not None}))
        assert fed == ([12, 1] if fastened else [12, 12])
    check_same(*found)


def test_on_other_devices_the_attention_stays_and_the_rest_of_the_last_layer_computes_the_first_token() -> None:
    plain, prepared = (classifier_of("BertForSequenceClassification", 0.0).eval() for _ in range(2))
    fast.prepare(prepared, torch.device("cuda"))  # which is not asked for anything
    ids = torch.randint(10, 60, (4, 12), generator=torch.Generator().manual_seed(17))
    fed = tokens_fed_forward(prepared)

    torch.testing.assert_close(prepared(input_ids=ids).logits, plain(input_ids=ids).logits)

    assert fed == [12, 1]
    assert prepared.config._attn_implementation == "sdpa"


def test_a_classifier_whose_tokens_see_earlier_ones_only_keeps_its_last_layer() -> None:
    model = classifier_of("BertForSequenceClassification", 0.0)
    model.config.is_decoder = True
    fast.prepare(model, CPU)
    fed = tokens_fed_forward(model)
    model(input_ids=torch.full((2, 8), 20))
    assert fed == [8, 8]


def test_a_classifier_answers_in_bf16_as_before() -> None:
    plain, prepared = (classifier_of("BertForSequenceClassification", 0.1).eval() for _ in range(2))
    fast.prepare(prepared, CPU)
    ids = torch.randint(10, 60, (4, 12), generator=torch.Generator().manual_seed(16))
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0

    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        answers = [model(input_ids=ids, attention_mask=mask).logits.float() for model in (plain, prepared)]

    torch.testing.assert_close(*answers, rtol=0.02, atol=2e-3)


def test_models_that_write_or_read_all_tokens_keep_their_last_layer(checkpoint_of: Callable[[str], Path]) -> None:
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(checkpoint_of("bert"))
    fast.prepare(model, CPU)
    fed = tokens_fed_forward(model)
    assert model(input_ids=torch.full((2, 8), 20)).start_logits.shape == (2, 8)
    assert set(fed) == {8}


def test_prepared_models_use_ftkit_s_attention_when_they_learn(
    checkpoint_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = transformers.AutoModel.from_pretrained(checkpoint_of("bert"), attn_implementation="sdpa")
    fast.prepare(model, CPU)
    calls = itertools.count()
    monkeypatch.setattr(fast._Attention, "apply", lambda q, *rest: (next(calls), q.transpose(1, 2))[1])

    model.train()(input_ids=torch.full((2, 8), 20))
    learned = next(calls)
    with torch.inference_mode():
        model.eval()(input_ids=torch.full((2, 8), 20))

    assert learned == model.config.num_hidden_layers
    assert next(calls) == learned + 1


def test_prepared_models_answer_exactly_as_before(checkpoint_of: Callable[[str], Path]) -> None:
    plain, prepared = (transformers.AutoModel.from_pretrained(checkpoint_of("bert")).eval() for _ in range(2))
    fast.prepare(prepared, CPU)
    ids = torch.randint(10, 60, (3, 20), generator=torch.Generator().manual_seed(12))
    mask = torch.ones_like(ids)
    mask[0, 13:] = 0

    with torch.inference_mode():
        answers = [model(input_ids=ids, attention_mask=mask).last_hidden_state for model in (plain, prepared)]

    assert torch.equal(*answers)


def test_other_devices_get_nothing_that_cpus_need() -> None:
    fast.prepare(None, torch.device("cuda"))


def test_models_with_an_attention_of_their_own_keep_it() -> None:
    config = transformers.DebertaV2Config(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    model = transformers.AutoModel.from_config(config)
    fast.prepare(model, CPU)

    assert model.train()(input_ids=torch.full((2, 8), 20)).last_hidden_state.shape == (2, 8, 16)


def test_what_a_prepared_model_saves_says_nothing_of_it(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> None:
    model = transformers.AutoModel.from_pretrained(checkpoint_of("bert"))
    model.save_pretrained(tmp_path / "plain")
    fast.prepare(model, CPU)
    model.save_pretrained(tmp_path / "prepared")

    saved = [(tmp_path / name / "config.json").read_text() for name in ("plain", "prepared")]
    assert saved[0] == saved[1]
