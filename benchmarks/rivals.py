"""What ftkit is compared with: Transformers' Trainer and pipeline, used as Transformers' own examples use them.

    python -m benchmarks.rivals FUNCTION '{"argument": value, ...}'

runs one function and prints its result as JSON. `score` scores the models of both sides in the same way.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.side_by_side import read_jsonl

HEADS = {
    "classification": transformers.AutoModelForSequenceClassification,
    "question-answering": transformers.AutoModelForQuestionAnswering,
    "translation": transformers.AutoModelForSeq2SeqLM,
}
STRIDE = 128  # run_qa.py's doc_stride
LONGEST_ANSWER = 30  # tokens; run_qa.py's max_answer_length


def train(
    task: str,
    model: str,
    data: str,
    out: str,
    seed: int,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    max_length: int,
    padded: bool,
    grouped: bool,
    bf16: bool,
    fp16: bool = False,
) -> dict[str, float]:
    """Trainer, and the model that it leaves in `out`.

    Args:
        padded: pad every row to max_length (the examples' default), else every batch to its longest row.
        grouped: put rows of similar length into a batch.
        bf16, fp16: mixed precision.

    Returns:
        seconds (of Trainer.train), rows_per_second, tokens (not counting padding), and peak_gpu_bytes.
    """
    from datasets import Dataset

    transformers.set_seed(seed)
    rows = read_jsonl(Path(data))
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    labels = sorted({row["label"] for row in rows}) if task == "classification" else []
    naming = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    net = HEADS[task].from_pretrained(model, **(naming if labels else {}))
    if net.config.pad_token_id is None:
        net.config.pad_token_id = tokenizer.pad_token_id
    pad = "max_length" if padded else False

    def encode(batch: dict[str, list[Any]]) -> Any:
        if task == "classification":
            encoded = tokenizer(batch["text"], truncation=True, max_length=max_length, padding=pad)
            return encoded | {"labels": [naming["label2id"][label] for label in batch["label"]]}
        if task == "translation":
            return tokenizer(batch["source"], text_target=batch["target"], truncation=True, max_length=max_length)
        return _spans(tokenizer, batch, max_length, pad)

    dataset = Dataset.from_list(rows)
    dataset = dataset.map(encode, batched=True, remove_columns=dataset.column_names, keep_in_memory=True)
    if task == "translation":
        collate = transformers.DataCollatorForSeq2Seq(tokenizer, net, padding="max_length" if padded else True)
        if padded:
            collate.max_length = max_length
    else:
        collate = transformers.default_data_collator if padded else transformers.DataCollatorWithPadding(tokenizer)
    settings = transformers.TrainingArguments(
        output_dir=out,
        seed=seed,
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        per_device_train_batch_size=batch_size,
        bf16=bf16,
        fp16=fp16,
        use_cpu=not torch.cuda.is_available(),  # Trainer refuses bf16 on a CPU that was not asked for
        train_sampling_strategy="group_by_length" if grouped else "random",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(net, settings, train_dataset=dataset, data_collator=collate)
    seconds = trainer.train().metrics["train_runtime"]
    net.save_pretrained(out)
    tokenizer.save_pretrained(out)
    pad_id = tokenizer.pad_token_id
    return {
        "seconds": seconds,
        "rows_per_second": len(rows) * epochs / seconds,
        "tokens": epochs * sum(sum(i != pad_id for i in ids) for ids in dataset["input_ids"]),
        "peak_gpu_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    }


def _spans(tokenizer: Any, batch: dict[str, list[Any]], max_length: int, pad: str | bool) -> Any:
    """Windows with the first and last token of the answer, as in run_qa.py; (0, 0) where it is not in the window."""
    encoded = tokenizer(
        batch["question"],
        batch["context"],
        truncation="only_second",
        max_length=max_length,
        stride=STRIDE,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding=pad,
    )
    first, last = [], []
    for window, places in enumerate(encoded.pop("offset_mapping")):
        row = encoded["overflow_to_sample_mapping"][window]
        start, end = batch["start"][row], batch["start"][row] + len(batch["answer"][row])
        inside = [i for i, part in enumerate(encoded.sequence_ids(window)) if part == 1]
        found = [i for i in inside if places[i][0] < end and places[i][1] > start]
        whole = bool(found) and places[inside[0]][0] <= start and places[inside[-1]][1] >= end
        first.append(found[0] if whole else 0)
        last.append(found[-1] if whole else 0)
    del encoded["overflow_to_sample_mapping"]
    return {**encoded, "start_positions": first, "end_positions": last}


def score(task: str, model: str, data: str, max_length: int) -> dict[str, float]:
    """The quality of a saved model, of whichever side, on held-out rows.

    Returns:
        accuracy; or exact_match and f1; or loss (of a target token, in nats).
    """
    rows = read_jsonl(Path(data))
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    net = HEADS[task].from_pretrained(model).eval()
    with torch.inference_mode():
        return {"classification": _accuracy, "question-answering": _exact_match, "translation": _loss}[task](
            rows, tokenizer, net, max_length
        )


def _accuracy(rows: list[dict[str, Any]], tokenizer: Any, net: Any, max_length: int) -> dict[str, float]:
    right = 0
    for some in _by_length(rows, "text"):
        given = tokenizer([r["text"] for r in some], truncation=True, max_length=max_length, padding=True)
        best = net(**given.convert_to_tensors("pt")).logits.argmax(-1)
        right += sum(net.config.id2label[int(i)] == str(r["label"]) for i, r in zip(best, some, strict=True))
    return {"accuracy": right / len(rows)}


def _exact_match(rows: list[dict[str, Any]], tokenizer: Any, net: Any, max_length: int) -> dict[str, float]:
    from ftkit.metrics import answers

    found = []
    for row in rows:
        given = tokenizer(
            row["question"],
            row["context"],
            truncation="only_second",
            max_length=max_length,
            stride=STRIDE,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=True,
            return_tensors="pt",
        )
        places = given.pop("offset_mapping")
        del given["overflow_to_sample_mapping"]
        said = net(**given)
        best = (-np.inf, "")
        for window in range(len(places)):
            inside = torch.tensor([part == 1 for part in given.sequence_ids(window)])
            pairs = said.start_logits[window][:, None] + said.end_logits[window][None, :]
            allowed = torch.ones_like(pairs, dtype=torch.bool).triu().tril(LONGEST_ANSWER - 1)
            pairs = pairs.masked_fill(~(allowed & inside[:, None] & inside[None, :]), -torch.inf)
            start, end = divmod(int(pairs.argmax()), pairs.shape[1])
            text = row["context"][places[window][start][0] : places[window][end][1]]
            best = max(best, (float(pairs[start, end]), text))
        found.append(best[1])
    each = [answers.squad(answer, row["answers"]) for answer, row in zip(found, rows, strict=True)]
    return {"exact_match": float(np.mean([a.exact_match for a in each])), "f1": float(np.mean([a.f1 for a in each]))}


def _loss(rows: list[dict[str, Any]], tokenizer: Any, net: Any, max_length: int) -> dict[str, float]:
    total, count = 0.0, 0
    for some in _by_length(rows, "source"):
        given = tokenizer(
            [r["source"] for r in some],
            text_target=[r["target"] for r in some],
            truncation=True,
            max_length=max_length,
            padding=True,
            return_tensors="pt",
        )
        given["labels"][given["labels"] == tokenizer.pad_token_id] = -100
        tokens = int((given["labels"] != -100).sum())
        total += float(net(**given).loss) * tokens
        count += tokens
    return {"loss": total / count}


def _by_length(rows: list[dict[str, Any]], column: str, size: int = 32) -> list[list[dict[str, Any]]]:
    ordered = sorted(rows, key=lambda row: len(row[column]))
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def predict(model: str, data: str, out: str, batch_size: int, dtype: str) -> dict[str, float]:
    """`pipeline("text-classification")` over the rows of a file; the labels go to `out`, one a line."""
    rows = read_jsonl(Path(data))
    answer = transformers.pipeline("text-classification", model=model, dtype=getattr(torch, dtype))
    started = time.perf_counter()
    labels = [found["label"] for found in answer((row["text"] for row in rows), batch_size=batch_size, truncation=True)]
    seconds = time.perf_counter() - started
    Path(out).write_text("\n".join(labels) + "\n", encoding="utf-8")
    return {"seconds": seconds, "rows_per_second": len(rows) / seconds}


def answer_one(model: str, text: str) -> dict[str, str]:
    """The least that answering one text needs: the imports, the model, one pass."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    net = transformers.AutoModelForSequenceClassification.from_pretrained(model).eval()
    with torch.inference_mode():
        best = int(net(**tokenizer([text], return_tensors="pt")).logits[0].argmax())
    return {"label": net.config.id2label[best]}


def first_update(model: str, texts: Sequence[str]) -> dict[str, float]:
    """The least that one update needs: the imports, the model, forwards, backwards, one step."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    net = transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=2).train()
    step = torch.optim.AdamW(net.parameters(), lr=1e-5, fused=True)
    given = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    loss = net(**given, labels=torch.arange(len(texts)) % 2).loss
    loss.backward()
    step.step()
    return {"loss": float(loss)}


def main() -> None:
    functions = {f.__name__: f for f in (train, score, predict, answer_one, first_update)}
    print(json.dumps(functions[sys.argv[1]](**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
