"""What people see: tables in a terminal, plain lines in a pipe. Nothing here computes."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from ftkit.errors import UserError

PIPE_COLUMNS = 240
MOST_LABELS = 12  # rows of the per-label table shown; metrics.json has all
MOST_ERRORS = 5
MUCH_UNKNOWN = 0.05  # share of unknown tokens from which on scores and answers say little
METRICS = {
    "f1": "F1",
    "exact_match": "exact match (accuracy)",
    "bleu": "BLEU",
    "chrf2pp": "chrF2++",
    "ter": "TER (lower is better)",
    "accuracy": "accuracy",
    "subset_accuracy": "accuracy (sets)",
    "precision": "precision",
    "recall": "recall",
    "precision_macro": "precision macro",
    "recall_macro": "recall macro",
    "f1_macro": "F1 macro",
    "f1_micro": "F1 micro",
    "f1_weighted": "F1 weighted",
}
BASELINES = {"tfidf": "TF-IDF", "sentence": "alike sentence", "copy": "copied source"}


def console(stderr: bool = False) -> Console:
    """Where people see things; in a pipe, which has no width of its own, lines are not folded."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    wide = None if terminal or "COLUMNS" in os.environ else PIPE_COLUMNS
    return Console(stderr=stderr, highlight=False, soft_wrap=not terminal, width=wide)


def show_error(error: UserError) -> None:
    """One panel on standard error: the problem, then what to type next."""
    out = console(stderr=True)
    text = escape(error.problem) + (f"\n\n[bold]{escape(error.remedy)}[/bold]" if error.remedy else "")
    if out.is_terminal:
        out.print(Panel(text, title="ftkit cannot go on", border_style="red", expand=False))
    else:
        print(f"error: {error}", file=sys.stderr)


def interval(value: Mapping[str, float]) -> str:
    """0.912 [.897, .926]; scores up to 100 with two digits: 31.20 [30.11, 32.40]"""
    if max(value.values()) > 1:
        return f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
    low, high = (f"{value[end]:.3f}".removeprefix("0").replace("1.000", "1.0") for end in ("low", "high"))
    return f"{value['value']:.3f} [{low}, {high}]"


def show_prepared(facts: Mapping[str, Any]) -> None:
    """What was read, what was inferred, what was left out, and the recipe in its main numbers."""
    out, recipe, data = console(stderr=True), facts["recipe"], facts["facts"]
    training = recipe.training
    numbers = (
        f"{training.epochs} epoch{'s' if training.epochs > 1 else ''}, {training.batch_size} rows an update, learning "
        f"rate {training.learning_rate:g}, {training.schedule} decay, seed {recipe.seed}, {facts['precision']}"
    )
    model = recipe.model + (f" @ {recipe.revision}" if recipe.revision else "")
    told = [line for line in facts["inferred"] if line[0] != "model"]
    _show_settled(out, [*told, ("model", model), ("training", numbers), ("run", facts["run"])])
    show_facts(data, stderr=True)


def _show_settled(out: Console, lines: Iterable[tuple[str, str]]) -> None:
    for what, value in lines:
        out.print(f"[bold]{escape(what)}[/bold]: {escape(value)}")


def show_facts(data: Mapping[str, Any], stderr: bool = False) -> None:
    """The data report."""
    out = console(stderr=stderr)
    table = Table(box=box.SIMPLE_HEAD, title=None, pad_edge=False)
    table.add_column("")
    for split in data["splits"]:
        table.add_column(split, justify="right")
    splits = data["splits"].values()
    table.add_row(unit(data), *(f"{s['rows']:,}" for s in splits))
    codes = data["splits"]["train"].get("pairs", {})
    for code in codes if len(codes) > 1 else ():
        table.add_row(f"  into {escape(code)}", *(f"{s['pairs'][code]:,}" for s in splits))
    names = data.get("labels", [])
    for name in names[:MOST_LABELS]:
        table.add_row(f"  {escape(name)}", *(f"{s['labels'][name]:,}" for s in splits))
    if len(names) > MOST_LABELS:
        table.add_row(f"  and {len(names) - MOST_LABELS} more labels", *("" for _ in splits))
    for title, values in counted(data):
        table.add_row(escape(title), *(f"{value:,}" for value in values))
    table.add_row("tokens a row: median", *(f"{s['tokens']['median']:,.0f}" for s in splits))
    table.add_row("tokens a row: longest", *(f"{s['tokens']['longest']:,}" for s in splits))
    table.add_row("unknown tokens", *(f"{s['unknown_token_share']:.2%}" for s in splits))
    out.print(table)
    for split, count in data["read"].items():
        left = data["left_out"] if split == "train" else {}
        if left:
            parts = ", ".join(f"{n:,} ({reason})" for reason, n in left.items())
            out.print(f"{split}: read {count:,} rows, left out {parts}", markup=False)
    for warning in warnings(data):
        out.print(f"[yellow]note:[/yellow] {escape(warning)}")


def unit(data: Mapping[str, Any]) -> str:
    """What is counted: a row of a parallel corpus with several target languages is a pair for each."""
    return "pairs" if "pairs" in data["splits"]["train"] else "rows"


def counted(data: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    """What was counted in the splits: a title and a number for each split; without what is zero in all."""
    titles = {
        "passages": "passages",
        "unanswerable": "questions without an answer",
        "rows_without_labels": "rows without any label",
        "empty_texts": "empty texts",
        "duplicate_rows": "rows that repeat a text",
        "conflicting_rows": "rows whose text has several labels",
        "rows_of_several_windows": f"rows longer than a window of {data['window']['max_length']} tokens",
    }
    splits = data["splits"].values()
    found = {title: [split.get(key, 0) for split in splits] for key, title in titles.items()}
    for reason in dict.fromkeys(reason for split in splits for reason in split.get("counts", {})):
        found[reason] = [split.get("counts", {}).get(reason, 0) for split in splits]
    return [(title, values) for title, values in found.items() if any(values)]


def warnings(data: Mapping[str, Any]) -> list[str]:
    """What a person should know about this data before trusting a number."""
    found = []
    train = data["splits"]["train"]
    share = train["unknown_token_share"]
    if share > 0.05:
        found.append(
            f"{share:.0%} of the tokens are unknown to this model's vocabulary: it cannot read much of this text. "
            "A model made for the language (for Chinese e.g. --model google-bert/bert-base-chinese) will do better"
        )
    counts = [count for count in train.get("labels", {}).values() if count]
    if counts and max(counts) > 0.9 * train["rows"] and len(counts) > 1:
        found.append("one label has more than nine tenths of the rows: look at macro F1 rather than at accuracy")
    for pair, count in data["shared_texts"].items():
        if count:
            found.append(
                f"{count:,} rows of {pair.partition('/')[2]} have a text that {pair.partition('/')[0]} has too"
            )
    return found


def show_resuming(facts: Mapping[str, Any]) -> None:
    """From where a training goes on, and what is different now."""
    out = console(stderr=True)
    for problem in facts["problems"]:
        out.print(f"[yellow]damaged, not used:[/yellow] {escape(problem)}")
    out.print(f"going on from {facts['from']}" if facts["from"] else "no checkpoint yet: beginning again", markup=False)
    for change in facts["changed"]:
        out.print(f"[yellow]changed since it began:[/yellow] {escape(change)}")
    before, now = facts["processes"]
    if before != now:
        out.print(f"{now} processes instead of {before}: the same updates, but not the same last bits", markup=False)


def show_training(facts: Mapping[str, Any]) -> None:
    out = console(stderr=True)
    out.print(
        f"trained {facts['updates']:,} updates in {facts['seconds']:.0f} s "
        f"({facts['rows_per_second']:,.0f} rows/s, {facts['precision']} on {facts['processes']} x {facts['device']}); "
        f"best epoch {facts['best_epoch']} of {facts['epochs']}",
        markup=False,
    )


def show_scores(title: str, scores: Mapping[str, Any], texts: Mapping[int, str] | None = None) -> None:
    """Scores with intervals beside the baselines', the labels, and the worst errors.

    Args:
        texts: position of a row -> its text, shown beside the worst errors.
    """
    out = console()
    names = dict(METRICS)
    if "accuracy" in scores["scores"]:
        del names["f1_micro"]  # equals the accuracy where a row has one label
    if "bleu" in scores["scores"]:  # its own metrics first
        names = {key: names[key] for key in ("bleu", "chrf2pp", "ter", "accuracy", "precision", "recall", "f1")}
        names |= {key: f"character n-gram {names[key]}" for key in ("precision", "recall", "f1")}
    for line in scores.get("other_columns", ()):
        out.print(line, markup=False)
    out.print(f"\n[bold]{escape(title)}[/bold]: {_counted_rows(scores['n'])}, scores with 95% intervals")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("", no_wrap=True)
    table.add_column("model", justify="right", style="bold", no_wrap=True)
    for name in scores["baselines"]:
        table.add_column(BASELINES.get(name, name), justify="right", no_wrap=True)
    for key, shown in names.items():
        if key in scores["scores"]:
            rivals = (b["scores"].get(key) for b in scores["baselines"].values())
            table.add_row(shown, interval(scores["scores"][key]), *(interval(r) if r else "" for r in rivals))
    out.print(table)
    for name, rival in scores["baselines"].items():
        for metric, difference in rival["difference"].items():
            out.print(verdict(name, metric, difference), markup=False)
    for line in _reading(scores):
        out.print(line, markup=False)
    for code, part in scores.get("by_target", {}).items():
        own = ", ".join(f"{METRICS[key]} {interval(part['scores'][key])}" for key in ("bleu", "chrf2pp"))
        out.print(f"into {code}: {part['n']:,} rows, {own}", markup=False)
    if scores.get("cut"):
        out.print(f"{scores['cut']:,} answers met the limit of tokens (text.max_new_tokens)", markup=False)
    for name, other in scores.get("others", {}).items():
        for metric, difference in other["difference"].items():
            key, _, part = metric.partition(" ")
            own = interval((other["scores_by_target"][part] if part else other["scores"])[key])
            out.print(
                f"{name}: {METRICS.get(metric, metric)} {own}; the first less this one: {signed(difference)}",
                markup=False,
            )
    if "classes" in scores:
        show_labels(scores)
    for name, part in (("has_answer", "with an answer"), ("no_answer", "without an answer")):
        if name in scores:
            exact, f1 = (interval(scores[name]["scores"][key]) for key in ("exact_match", "f1"))
            out.print(f"{scores[name]['n']:,} questions {part}: exact match {exact}, F1 {f1}", markup=False)
    for name, found in scores.get("thresholds", {}).items():
        shown = {"stored": "chosen in training", "zero": "0", "oracle": "best on these very rows"}[name]
        against = "" if name == "stored" else f" (ours {signed(found['stored_less_this'])})"
        out.print(
            f"threshold of no answer {found['threshold']:.3f} ({shown}): F1 {found['f1']:.3f}{against}", markup=False
        )
    for line in scores.get("signatures", {}).values():
        out.print(line, markup=False)
    if scores.get("chosen_on_these_rows"):
        out.print(
            f"These rows also chose {' and '.join(scores['chosen_on_these_rows'])}, so the scores flatter: "
            "trust those of rows that were never used.",
            markup=False,
        )
    if scores["worst_errors"]:
        out.print("\nMost confident errors:", markup=False)
        for item in scores["worst_errors"][:MOST_ERRORS]:
            text = (texts or {}).get(item["position"], "")
            score = f" ({item['score']:.2f})" if item["score"] is not None else ""
            text = f"  {text[:100]}{'…' if len(text) > 100 else ''}" if text else ""
            place = item["place"].rpartition("/")[2]
            out.print(f"  {place}: {_join(item['answer'])}{score}, not {_join(item['reference'])}{text}", markup=False)


def _reading(scores: Mapping[str, Any]) -> Iterator[str]:
    """What happened to rows on the way to these scores."""
    reading = dict(scores.get("reading", {}))
    tokens, unknown = reading.pop("tokens", 0), reading.pop("unknown tokens", 0)
    told = {what: count for what, count in scores.get("counts", {}).items() if what != "read"}
    for what, count in {**told, **reading}.items():
        yield f"{count:,} {what}"
    if unknown > MUCH_UNKNOWN * tokens:
        yield f"{unknown / tokens:.0%} of the tokens are unknown to the model"


def _counted_rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def show_labels(scores: Mapping[str, Any]) -> None:
    """Precision, recall and F1 of each label; the labels with the lowest F1 if there are many."""
    out = console()
    rows = scores["classes"]
    if len(rows) > MOST_LABELS:
        rows = sorted(rows, key=lambda row: row["f1"])[:MOST_LABELS]
        out.print(f"The {MOST_LABELS} labels with the lowest F1 of {len(scores['classes'])}:", markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("label", "precision", "recall", "F1", "rows", "answered"):
        table.add_column(name, justify="left" if name == "label" else "right")
    for row in rows:
        figures = (f"{row[key]:.3f}" for key in ("precision", "recall", "f1"))
        table.add_row(escape(row["label"]), *figures, f"{row['support']:,}", f"{row['predicted']:,}")
    out.print(table)


def signed(difference: Mapping[str, float]) -> str:
    """+0.020 [-0.010, +0.050]"""
    return f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"


def answer_line(answer: Mapping[str, Any]) -> str:
    """One answer to a text or a question, for people."""
    if "translations" in answer:
        found = answer["translations"]
        return "\n".join(found.values() if len(found) == 1 else (f"{code}\t{text}" for code, text in found.items()))
    if "question" in answer:
        place = "" if answer["start"] is None else f", characters {answer['start']} to {answer['end']}"
        return f"{answer['answer'] or 'no answer'}\t({answer['score']:.3f}{place})"
    label = ", ".join(answer["label"]) if isinstance(answer["label"], list) else answer["label"]
    scores = ", ".join(f"{name} {value:.3f}" for name, value in answer["scores"].items())
    return f"{label or 'no label'}\t({scores})"


def verdict(name: str, metric: str, difference: Mapping[str, float]) -> str:
    """Whether the model beats a baseline, in a sentence."""
    shown = {
        "tfidf": "TF-IDF",
        "majority": "always answering the majority label",
        "sentence": "the sentence most like the question",
        "copy": "copying the source",
    }.get(name, name)
    amount = f"{signed(difference)} {METRICS.get(metric, metric)}"
    if difference["low"] > 0:
        return f"The model beats {shown}: {amount}."
    if difference["high"] < 0:
        return f"The model LOSES to {shown}: {amount}."
    return f"The model and {shown} cannot be told apart on these rows: {amount}."


def _join(answer: Any) -> str:
    if isinstance(answer, list):
        return " + ".join(answer) or "no label"
    return answer if answer is not None else "no answer"


def show_check(result: Mapping[str, Any]) -> None:
    """The data report of `ftkit check`."""
    out = console()
    _show_settled(out, result["inferred"])
    show_facts(result)
    if "forecast" in result:
        forecast = result["forecast"]
        out.print(
            f"Training on this machine would take about {duration(forecast['seconds'])} "
            f"({forecast['rows_per_second']:,.0f} rows/s) and {forecast['memory_bytes'] / 2**30:.1f} GiB of memory.",
            markup=False,
        )


def duration(seconds: float) -> str:
    """90 s, 12 min, 3.5 h"""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def show_new_model(result: Mapping[str, Any]) -> None:
    """What `ftkit new-model` made, what it read, and what to do next."""
    out = console()
    for source in result["sources"]:
        columns = f"column{'s' if len(source['columns']) > 1 else ''} {', '.join(source['columns'])}"
        amount = f"{source['lines']:,} lines, {source['characters']:,} characters"
        out.print(f"[bold]{escape(source['path'])}[/bold]: {escape(columns)}, {amount}")
        for note in source["notes"]:
            out.print(f"  {escape(note)}")
    for note in result["notes"]:
        out.print(f"[yellow]note:[/yellow] {escape(note)}")
    out.print(
        f"A new {result['family']} model is in {result['model']}: {result['parameters']:,} parameters with random "
        f"weights, and a vocabulary of {result['vocabulary']:,} tokens from {result['lines']:,} lines. Next:",
        markup=False,
    )
    out.print(f"  ftkit train DATA --model {shlex.quote(result['model'])}", markup=False)


def show_keys() -> None:
    """Every key of a recipe."""
    from ftkit import config

    out = console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("key", "default", "meaning"):
        table.add_column(name, overflow="fold")
    for name, default, meaning in config.entries():
        table.add_row(name, "" if default is None else str(default), escape(meaning))
    out.print(table)


def show_doctor(facts: Mapping[str, Any]) -> None:
    """What `ftkit doctor` found."""
    out = console()
    for title, section in facts.items():
        table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in section.items():
            table.add_row(name.replace("_", " "), escape(str(value)))
        out.print(table)


TELL = {"prepared": show_prepared, "trained": show_training, "resuming": show_resuming}
