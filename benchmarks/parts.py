"""Parts: where the time of an update goes, and how many tokens should go through a CPU at once.

    python -m benchmarks.parts [--only undone parts attention budgets] [--quick]

For those who look for further speed: what an update of MiniLM takes with each of ftkit's ways to be fast undone; what
dropout masks, gradient clipping and the optimizer cost in it; what leaving out unused embeddings would save; at which
lengths ftkit's attention beats torch's; and tokens/s by the token budgets TOKENS_PER_MICROBATCH (ftkit/training.py)
and TOKENS_PER_BATCH (ftkit/prediction.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch

from benchmarks import side_by_side
from benchmarks.growth import seconds_of
from benchmarks.hardware import fitting_of, update_of
from benchmarks.side_by_side import median

BUDGETS = (512, 1024, 1536, 2048, 4096, 8192)
USED_EMBEDDINGS = 10_000  # of MiniLM's 30,522: about what ten thousand sentences use


def main() -> None:
    parser = side_by_side.arguments(__doc__, repeats=5)
    kinds = ("undone", "parts", "attention", "budgets")
    parser.add_argument("--only", nargs="*", default=kinds, choices=kinds)
    options = parser.parse_args()
    repeats, table = options.repeats, []
    for rows, tokens in ((32, 24),) if options.quick else ((32, 29), (8, 512)):
        if "undone" in options.only:
            table += undone(rows, tokens, repeats)
    for rows, tokens in ((32, 24),) if options.quick else ((32, 24), (32, 128)):
        if "parts" in options.only:
            table += parts(rows, tokens, repeats)
    if "attention" in options.only:
        table += attention(repeats, (16, 32) if options.quick else (12, 24, 48, 96, 128, 192, 256, 384, 512))
    if "budgets" in options.only:
        table += budgets(options, repeats)
    side_by_side.report("parts", table, options.quick)


def undone(rows: int, tokens: int, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of an update as it is, with each of ftkit's ways to be fast undone, and with all; in turns."""
    from ftkit import fast

    fitting = fitting_of(rows, tokens)
    update = update_of(fitting)

    @contextlib.contextmanager
    def torch_s_dropout() -> Iterator[None]:
        swapped = [m for m in fitting.model.modules() if isinstance(m, fast.Dropout)]
        for module in swapped:
            module.__class__ = torch.nn.Dropout
        yield
        for module in swapped:
            module.__class__ = fast.Dropout

    @contextlib.contextmanager
    def torch_s_attention() -> Iterator[None]:
        fitting.model.set_attn_implementation("sdpa")
        yield
        fitting.model.set_attn_implementation(fast.ATTENTION)

    @contextlib.contextmanager
    def gradient_anew() -> Iterator[None]:
        table = fitting.model.get_input_embeddings()
        table.sparse = False
        table.weight.grad = None
        yield
        table.sparse = True
        fast.forget_gradients(fitting.model)

    @contextlib.contextmanager
    def all_tokens() -> Iterator[None]:
        last = fitting.model.base_model.encoder.layer[-1].attention
        hooks = dict(last.output._forward_pre_hooks)
        last.output._forward_pre_hooks.clear()
        last.self.asks_first_token_only = False
        yield
        last.output._forward_pre_hooks.update(hooks)
        last.self.asks_first_token_only = True

    ways = {
        "all tokens in the last layer": all_tokens,
        "torch's dropout": torch_s_dropout,
        "torch's attention": torch_s_attention,
        "a new gradient of the embeddings": gradient_anew,
        "probabilities always computed anew": lambda: mock.patch.object(fast, "FEW_KEYS", 0),
    }
    taken: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name in ("as it is", *ways, "all of these"):
            with contextlib.ExitStack() as stack:
                for way in ways if name == "all of these" else [name] if name in ways else []:
                    stack.enter_context(ways[way]())
                taken.setdefault(name, []).append(seconds_of(update, 3))
    usual = side_by_side.median(taken["as it is"])
    return [
        {"what": f"update, {name}", "size": f"{rows} x {tokens}", "ms": 1000 * median, "times as it is": median / usual}
        for name, median in ((name, side_by_side.median(each)) for name, each in taken.items())
    ]


def parts(rows: int, tokens: int, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of parts of an update, and their share of it."""
    fitting = fitting_of(rows, tokens)
    update = update_of(fitting)
    whole = seconds_of(update, repeats)
    # Attention only reads the rate of its own, self.dropout, and draws its masks itself.
    named = fitting.model.named_modules()
    dropouts = [m for name, m in named if isinstance(m, torch.nn.Dropout) and not name.endswith("self.dropout")]
    rates = [m.p for m in dropouts]
    for module in dropouts:
        module.p = 0.0
    without = seconds_of(update, repeats)
    for module, rate in zip(dropouts, rates, strict=True):
        module.p = rate
    for parameter in fitting.learning:
        parameter.grad = torch.randn_like(parameter)
    embedding = fitting.model.get_input_embeddings().weight
    used = torch.sort(torch.randperm(len(embedding))[:USED_EMBEDDINGS]).values
    compact = torch.nn.Parameter(embedding.detach()[used].clone())
    rest = [p for p in fitting.learning if p is not embedding]
    optimizer = torch.optim.AdamW([*rest, compact], lr=1e-5, fused=True)

    def gathered() -> None:
        compact.grad = embedding.grad[used]
        torch.nn.utils.clip_grad_norm_([*rest, compact], 1.0)
        optimizer.step()
        embedding.data.index_copy_(0, used, compact.data)

    found = {
        "update": whole,
        "masks of the dropout modules": whole - without,
        "norm of the gradient": seconds_of(lambda: norm(fitting.learning), repeats),
        "norm and clipping": seconds_of(lambda: torch.nn.utils.clip_grad_norm_(fitting.learning, 1.0), repeats),
        "AdamW": seconds_of(fitting.optimizer.step, repeats),
        f"clipping and AdamW of {USED_EMBEDDINGS:,} embeddings, copied out and back": seconds_of(gathered, repeats),
    }
    size = f"{rows} x {tokens}"
    return [{"what": name, "size": size, "ms": 1000 * s, "share of the update": s / whole} for name, s in found.items()]


def attention(repeats: int, lengths: tuple[int, ...]) -> list[dict[str, Any]]:
    """Milliseconds of attention with dropout, forwards and backwards, of one layer of MiniLM: ftkit's and torch's."""
    from ftkit import fast
    from ftkit.devices import choose_precision

    dtype = torch.bfloat16 if choose_precision(torch.device("cpu")) == "bf16" else torch.float32
    layer, found = torch.nn.Module(), []
    layer.is_causal = False
    for length in lengths:
        rows = max(1, 4096 // length)
        query, key, value = (torch.randn(rows, 12, length, 32, dtype=dtype, requires_grad=True) for _ in range(3))
        seen = torch.ones(rows, 1, 1, length, dtype=torch.bool)
        seen[0, ..., -2:] = False
        given = query, key, value, seen
        sides = {
            "ftkit": lambda given=given: fast.attention(layer, *given, dropout=0.1)[0],
            "torch": lambda given=given: torch.nn.functional.scaled_dot_product_attention(*given, dropout_p=0.1),
        }
        each = {f"{side} ms": 1000 * seconds_of(lambda f=f: f().sum().backward(), repeats) for side, f in sides.items()}
        found.append({"what": f"attention, {dtype}", "size": f"{rows} x {length}", **each})
    return found


def norm(parameters: list[torch.nn.Parameter]) -> float:
    return float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))


def budgets(options: Any, repeats: int) -> list[dict[str, Any]]:
    """Tokens a second of training and prediction by the tokens that go through the model at once; in turns."""
    from ftkit import prediction

    table = []
    many = 2048 if options.quick else 32_768  # tokens that are predicted
    for rows, tokens in ((64, 24),) if options.quick else ((128, 29), (32, 128), (8, 512)):
        fitting, asked = fitting_of(rows, tokens), fitting_of(many // tokens, tokens)
        update = update_of(fitting)
        given = fitting.model, fitting.head, asked.rows.features, fitting.devices
        tried = [budget for budget in BUDGETS if tokens <= budget]
        trained: dict[int, list[float]] = {budget: [] for budget in tried}
        predicted: dict[int, list[float]] = {budget: [] for budget in tried}
        for _ in range(repeats):
            for budget in tried:
                fitting.token_budget = budget
                trained[budget].append(seconds_of(update, 1))
                with mock.patch.object(prediction, "TOKENS_PER_BATCH", {"cpu": budget}):
                    predicted[budget].append(seconds_of(lambda given=given: prediction.row_outputs(*given), 1))
        for budget in tried:
            row = {"what": f"budget of {budget:,} tokens", "size": f"{rows} x {tokens}"}
            row["trained tokens/s"] = rows * tokens / median(trained[budget])
            table.append(row | {"predicted tokens/s": many // tokens * tokens / median(predicted[budget])})
    return table


if __name__ == "__main__":
    main()
