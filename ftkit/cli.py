"""The command line: parse, call, print. Heavy libraries are imported by the commands that need them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ftkit import __version__, streams
from ftkit.errors import UserError

app = typer.Typer(
    name="ftkit",
    help="Fine-tune a pretrained text model on your own file, and know how good it is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing Rich and its Markdown takes longer than all else that the help needs
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Data = Annotated[
    str | None, typer.Argument(metavar="DATA", help="A file, a folder, or hub:NAME[/CONFIG][@SPLIT][#REVISION].")
]
RunPath = Annotated[str, typer.Argument(metavar="RUN", help="The run directory of a finished training.")]
Pickle = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Read weights from a .bin file: tensors only, but no format made to be safe."),
]
Task = Annotated[
    str | None, typer.Option("--task", help="classification, sentiment, question-answering or translation.")
]
Text = Annotated[str | None, typer.Option("--text", metavar="COLUMN", help="Column of the text.")]
Pair = Annotated[str | None, typer.Option("--pair", metavar="COLUMN", help="Column of the second text of a pair.")]
Label = Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="Column of the label.")]
Column = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="ROLE=COLUMN", help="Any role by its name, e.g. text=review; may be repeated."),
]
From = Annotated[
    str | None, typer.Option("--from", metavar="CODE", help="Translation: language of the source, e.g. en.")
]
To = Annotated[str | None, typer.Option("--to", metavar="CODES", help="Translation: into which languages, e.g. de,fr.")]
Format = Annotated[str | None, typer.Option("--format", help="Of the input, if its name does not tell.")]
Encoding = Annotated[str | None, typer.Option("--encoding", help="Of the input, e.g. gb18030.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the recipe.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
Processes = Annotated[int | None, typer.Option("--processes", min=1, help="Default: one per GPU; on a CPU one.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON, for programs.")]


def examples(*lines: str) -> str:
    """The end of a command's help: commands that run as they stand, each on a line of its own (after a \\b)."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    if version:
        print(f"ftkit {__version__}")
        raise typer.Exit
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    context.obj = {"debug": debug}
    if debug:
        os.environ["FTKIT_DEBUG"] = "1"


@app.command(
    epilog=examples(
        "ftkit train reviews.csv",
        "ftkit train reviews.csv --model google-bert/bert-base-uncased --epochs 4 --out runs/bert",
        "ftkit train train.tsv --validation dev.tsv --set training.schedule=cosine",
        "ftkit train questions.json --model distilbert/distilbert-base-uncased",
        "ftkit train pairs.tsv --from en --to de --model google-t5/t5-small",
        "ftkit train --recipe runs/reviews/recipe.yaml --overwrite",
        "ftkit train more.csv --model runs/reviews --out runs/more",
        "ftkit train --resume runs/reviews",
    )
)
def train(
    data: Data = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="FILE", help="A recipe, e.g. of an earlier run.")
    ] = None,
    task: Task = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Hub name, folder, run, or package:MODULE/FOLDER; default: a small English one for the task.",
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch of a hub model.")] = None,
    allow_pickle: Pickle = False,
    out: Annotated[str | None, typer.Option("--out", "-o", help="The run directory; default runs/NAME.")] = None,
    text: Text = None,
    pair: Pair = None,
    label: Label = None,
    column: Column = None,
    source_language: From = None,
    to: To = None,
    validation: Annotated[str | None, typer.Option(help="A file, or a share such as 0.1 of the training rows.")] = None,
    test: Annotated[str | None, typer.Option(help="A file that is scored once, after training.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows of one update, over all processes.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", "--lr", help="At its peak.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of one window.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    format: Format = None,
    encoding: Encoding = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    processes: Processes = None,
    shard: Annotated[
        bool, typer.Option("--shard", help="Spread a model too big for one GPU over all processes.")
    ] = False,
    set: Set = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run of this name.")] = False,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Go on with a training that was stopped or killed.")
    ] = None,
    resume_anyway: Annotated[
        bool, typer.Option("--resume-anyway", help="Go on although recipe, data or libraries have changed.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a model on a file and say how good it is."""
    from ftkit import commands, config, terminal

    flags = {
        "data": data,
        "task": task,
        "model": model,
        "revision": revision,
        "allow_pickle": allow_pickle or None,
        "out": out,
        "text": text,
        "pair": pair,
        "label": label,
        "from_": source_language,
        "to": _codes(to),
        "validation": _number(validation),
        "test": test,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "max_length": max_length,
        "seed": seed,
        "format": format,
        "encoding": encoding,
        "device": device,
        "precision": precision,
        "processes": processes,
        "shard": shard or None,
    }

    def tell(what: str, facts: Any) -> None:
        if not quiet and not as_json:
            terminal.TELL[what](facts)

    silent = quiet or as_json
    if resume is not None:
        if recipe or overwrite or out or data:
            raise UserError("--resume takes everything from the run", "Leave out DATA, --recipe, --out and --overwrite")
        _join(device or "auto")
        assignments = commands.assignments(flags, [*_columns(column), *(config.setting(item) for item in set or [])])
        result = commands.resume(resume, assignments, anyway=resume_anyway, quiet=silent, tell=tell)
    else:
        resolved = _recipe(recipe, flags, set, column)
        _join(resolved.hardware.device)
        result = commands.train(resolved, overwrite=overwrite, quiet=silent, tell=tell)
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    for split in ("validation", "test"):
        if split in result:
            terminal.show_scores(split, result[split])
    print(f"\nThe run is in {result['run']}; its report is {Path(result['run']) / 'report.html'}. Next:")
    print(f"  ftkit eval {result['run']} DATA\n  ftkit predict {result['run']} DATA -o OUT.csv")


@app.command(
    name="eval",
    epilog=examples(
        "ftkit eval runs/reviews test.csv",
        "ftkit eval runs/reviews --benchmark sst2",
        "ftkit eval test.csv --predictions answers.csv",
        "ftkit eval test.tsv --from en --to de --predictions ours.de --predictions theirs.de",
    ),
)
def evaluate(
    first: Annotated[str, typer.Argument(metavar="RUN", help="The run; left out, with --predictions.")],
    second: Annotated[str | None, typer.Argument(metavar="DATA", help="Rows with labels.")] = None,
    benchmark: Annotated[str | None, typer.Option(help="A well-known benchmark instead of DATA.")] = None,
    benchmark_dir: Annotated[str | None, typer.Option(help="Folder with a local copy of the benchmark.")] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Score these answers, one a row of DATA; further files are compared."),
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="A further metric of the library `evaluate`.")] = None,
    allow_metric_code: Annotated[
        bool, typer.Option("--allow-metric-code", help="Let that library run a metric's code.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Of the folder under RUN/eval; default: the data's name.")] = None,
    text: Text = None,
    pair: Pair = None,
    label: Label = None,
    column: Column = None,
    source_language: From = None,
    to: To = None,
    format: Format = None,
    encoding: Encoding = None,
    set: Set = None,
    device: Device = "auto",
    precision: Precision = "auto",
    processes: Processes = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score a run, or answers made elsewhere, on rows with answers."""
    from ftkit import commands, terminal

    section = _data_section(text, pair, label, format, encoding, set, column)
    wanted = _hardware(device, precision, processes)
    _join(device)
    run_path: str | None = first
    data = second
    if benchmark is None and second is None and not Path(first, "recipe.yaml").is_file():
        run_path, data = None, first
    elif second is not None and Path(second, "recipe.yaml").is_file() and not Path(first, "recipe.yaml").is_file():
        raise UserError(f"{second} is a run, and stands where the data are expected", f"ftkit eval {second} {first}")
    result = commands.evaluate(
        data,
        run_path,
        benchmark=benchmark,
        benchmark_dir=benchmark_dir,
        predictions=predictions or (),
        data=section,
        languages=_languages(source_language, to),
        name=name,
        hardware=wanted,
        extra_metrics=metric or (),
        allow_metric_code=allow_metric_code,
        quiet=quiet or as_json,
    )
    texts = result.pop("texts", {})
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    terminal.show_scores(result["source"], result, texts)
    if "folder" in result:
        print(f"\nResults: {result['folder']} (metrics.json, predictions.jsonl, report.html)")


@app.command(
    epilog=examples(
        "ftkit predict runs/reviews new.csv -o answers.csv",
        "ftkit predict runs/reviews new.jsonl -o answers.parquet --all-scores",
        'ftkit predict runs/reviews --text "Came cold, and nobody apologised."',
        'ftkit predict runs/squad --question "Who built the bridge?" --context-file page.txt',
        "ftkit predict runs/multi30k new.en --to de -o new.de",
        "cat new.csv | ftkit predict runs/reviews - --format csv -o - | head",
    )
)
def predict(
    run: RunPath,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A file of any format, or - for standard input.")
    ] = None,
    output: Annotated[
        str,
        typer.Option("--output", "--out", "-o", metavar="OUT", help="A file of any format, or - for standard output."),
    ] = "-",
    text: Annotated[
        list[str] | None, typer.Option("--text", metavar="TEXT", help="Answer this text; may be repeated.")
    ] = None,
    pair: Annotated[list[str] | None, typer.Option("--pair", metavar="TEXT", help="The second text of a pair.")] = None,
    question: Annotated[
        list[str] | None, typer.Option("--question", metavar="TEXT", help="Answer this question; may be repeated.")
    ] = None,
    context_file: Annotated[
        str | None, typer.Option("--context-file", metavar="FILE", help="The text that holds the answers, or -.")
    ] = None,
    to: To = None,
    column: Column = None,
    format: Format = None,
    output_format: Annotated[str | None, typer.Option(help="Of the output, if its name does not tell.")] = None,
    encoding: Encoding = None,
    all_scores: Annotated[
        bool, typer.Option("--all-scores", help="Add the score of every label, or every answer considered.")
    ] = False,
    spreadsheet_safe: Annotated[
        bool,
        typer.Option("--spreadsheet-safe", help="Put ' before cells that a spreadsheet would run as formulas."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a prediction that was stopped or killed, if one is there.")
    ] = False,
    set: Set = None,
    device: Device = "auto",
    precision: Precision = "auto",
    processes: Processes = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Answer every row of a file, which keeps its columns and order."""
    from ftkit import commands, terminal

    wanted = _hardware(device, precision, processes)
    rows = _texts(text, pair, question, context_file)
    if rows:
        if data is not None or output != "-" or all_scores or spreadsheet_safe or resume:
            raise UserError(
                "--text and --question stand for DATA, and their answers are printed",
                "Leave out DATA, -o and other output flags; if a column was meant: --column text=NAME",
            )
        _join(device)
        for answer in commands.predict_texts(run, rows, wanted, to=_codes(to) or ()):
            print(json.dumps(answer, ensure_ascii=False) if as_json else terminal.answer_line(answer))
            if answer.get("cut"):
                print("the last answer met the limit of tokens (text.max_new_tokens)", file=sys.stderr)
        return
    if data is None:
        raise UserError("nothing to answer", 'ftkit predict RUN DATA -o OUT, or ftkit predict RUN --text "..."')
    _join(device)
    section = _data_section(None, None, None, format, encoding, set, column)
    if as_json and output == "-" and output_format is None:
        output_format = "jsonl"
    facts = commands.predict(
        run,
        data,
        output,
        output_format=output_format,
        data=section,
        to=_codes(to) or (),
        all_scores=all_scores,
        spreadsheet_safe=spreadsheet_safe,
        resume=resume,
        hardware=wanted,
        quiet=quiet or as_json,
    )
    if as_json and output != "-":
        print(json.dumps(facts))
    elif not quiet and not as_json:
        rate = facts["rows"] / max(1e-9, facts["seconds"])
        line = f"answered {facts['rows'] - facts['errors']:,} of {facts['rows']:,} rows ({rate:,.0f} rows/s)"
        if facts["errors"]:
            line += f"; {facts['errors']:,} could not be answered: see their {facts['columns'][-1]} column"
        if facts["windowed"]:
            line += f"; {facts['windowed']:,} were longer than one window and read in several"
        for what, count in facts["notices"].items():
            line += f"; {count:,} {what}"
        if facts["unknown_token_share"] > terminal.MUCH_UNKNOWN:
            line += f"; {facts['unknown_token_share']:.0%} of the tokens are unknown to the model"
        if facts["escaped"]:
            line += f"; {facts['escaped']:,} cells made safe for spreadsheets"
        print(line, file=sys.stderr)


@app.command(
    epilog=examples("ftkit check reviews.csv", "ftkit check train.tsv --validation dev.tsv --model runs/reviews")
)
def check(
    data: Data = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="FILE", help="Check what this recipe would read.")
    ] = None,
    task: Task = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Whose vocabulary and window to check against.")
    ] = None,
    allow_pickle: Pickle = False,
    text: Text = None,
    pair: Pair = None,
    label: Label = None,
    column: Column = None,
    source_language: From = None,
    to: To = None,
    validation: Annotated[str | None, typer.Option(help="A file, or a share of the training rows.")] = None,
    test: Annotated[str | None, typer.Option(help="A test file, to look for shared texts.")] = None,
    format: Format = None,
    encoding: Encoding = None,
    set: Set = None,
    forecast: Annotated[bool, typer.Option(help="Time a few updates to forecast time and memory.")] = True,
    as_json: Json = False,
) -> None:
    """Look at a data set before training on it: nothing is written."""
    from ftkit import commands, terminal

    flags = {
        "data": data,
        "task": task,
        "model": model,
        "allow_pickle": allow_pickle or None,
        "text": text,
        "pair": pair,
        "label": label,
        "from_": source_language,
        "to": _codes(to),
        "validation": _number(validation),
        "test": test,
        "format": format,
        "encoding": encoding,
    }
    resolved = _recipe(recipe, flags, set, column)
    _join(resolved.hardware.device)
    result = commands.check(resolved, forecast=forecast, quiet=as_json)
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    terminal.show_check(result)


@app.command(epilog=examples("ftkit init reviews.csv > recipe.yaml", "ftkit init --keys"))
def init(
    data: Data = None,
    keys: Annotated[bool, typer.Option("--keys", help="List every key of a recipe with its default.")] = False,
    format: Format = None,
    encoding: Encoding = None,
) -> None:
    """Print a recipe for a file, to be edited."""
    from ftkit import commands, terminal

    if keys:
        terminal.show_keys()
    elif data is None:
        raise UserError("no data to write a recipe for", "ftkit init reviews.csv > recipe.yaml, or ftkit init --keys")
    else:
        flags = {"data": data, "format": format, "encoding": encoding}
        print(commands.new_recipe(_recipe(None, flags, None)), end="")


@app.command(
    name="new-model",
    epilog=examples(
        "ftkit new-model --family bert --size tiny --corpus reviews.csv --vocab-size 400 --out models/bert",
        "ftkit new-model --family marian --corpus train.tsv --corpus dev.tsv --target-code de --out models/marian",
        "ftkit new-model --family t5 --corpus reviews.csv --column text --vocab-size 2000 --out models/t5",
    ),
)
def new_model(
    family: Annotated[str, typer.Option("--family", help="marian, bert, gpt2 or t5.")],
    corpus: Annotated[
        list[str], typer.Option("--corpus", metavar="FILE", help="A file of texts in any format; may be repeated.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")],
    size: Annotated[str, typer.Option("--size", help="tiny (for tests), mini or small.")] = "small",
    vocab_size: Annotated[int, typer.Option("--vocab-size", help="Tokens at most, special ones included.")] = 8000,
    column: Annotated[
        str | None, typer.Option("--column", metavar="NAME", help="Of the texts; default: every column with text.")
    ] = None,
    target_code: Annotated[
        list[str] | None,
        typer.Option(
            "--target-code", metavar="CODE", help="marian: a language to translate into, e.g. de; may be repeated."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the weights.")] = 0,
    format: Format = None,
    encoding: Encoding = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a new, random model with a vocabulary of your own texts."""
    from ftkit import commands, terminal

    result = commands.new_model(
        family,
        corpus,
        out,
        size=size,
        vocabulary_size=vocab_size,
        column=column,
        target_codes=target_code or (),
        seed=seed,
        data=_data_section(None, None, None, format, encoding, None),
        quiet=quiet or as_json,
    )
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    terminal.show_new_model(result)


@app.command(epilog=examples("ftkit doctor", "ftkit doctor --json"))
def doctor(as_json: Json = False) -> None:
    """Say what this machine offers: devices, versions, caches, hub."""
    from ftkit import doctor, terminal

    facts = doctor.examine()
    if as_json:
        print(json.dumps(facts, ensure_ascii=False))
    else:
        terminal.show_doctor(facts)


def _recipe(
    path: str | None, flags: dict[str, Any], assignments: list[str] | None, columns: list[str] | None = None
) -> Any:
    from ftkit import commands, config

    return commands.recipe_of(path, flags, [*_columns(columns), *(config.setting(item) for item in assignments or [])])


def _data_section(
    text: str | None,
    pair: str | None,
    label: str | None,
    format: str | None,
    encoding: str | None,
    set: list[str] | None,
    column: list[str] | None = None,
) -> Any:
    """The data part of a recipe from the flags of commands that only read."""
    flags = {"text": text, "pair": pair, "label": label, "format": format, "encoding": encoding}
    other = [item for item in set or [] if not item.strip().startswith("data.")]
    if other:
        raise UserError(
            f"--set {other[0]} has no effect here",
            "Only keys of the section data can be set: --set data.header=false",
        )
    return _recipe(None, flags, set, column).data


def _languages(source: str | None, to: str | None) -> Any:
    """The languages part of a recipe from the flags."""
    return _recipe(None, {"from_": source, "to": _codes(to)}, None).languages


def _codes(text: str | None) -> list[str] | None:
    """The codes of a list such as de,fr."""
    return None if text is None else [code.strip() for code in text.split(",") if code.strip()]


def _texts(
    text: list[str] | None, pair: list[str] | None, question: list[str] | None, context_file: str | None
) -> list[tuple[str, ...]]:
    """The rows that were given as flags: texts, pairs of texts, or questions about one file."""
    if bool(question) != bool(context_file):
        raise UserError(
            "a question needs a text to be answered from, and the text a question",
            'ftkit predict RUN --question "..." --context-file FILE',
        )
    if question and (text or pair):
        raise UserError("--question and --text are for different runs", "Give one of them")
    if pair and len(pair) != len(text or ()):
        raise UserError(
            f"{len(text or ())} --text and {len(pair)} --pair were given", "Give one --pair for each --text"
        )
    if question:
        context = _whole_text(str(context_file))
        return [(each, context) for each in question]
    return list(zip(text or (), pair, strict=True)) if pair else [(each,) for each in text or ()]


def _whole_text(path: str) -> str:
    content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start})", "Save it as UTF-8") from None


def _hardware(device: str, precision: str, processes: int | None) -> Any:
    """The hardware part of a recipe from the flags of commands that only answer."""
    return _recipe(None, {"device": device, "precision": precision, "processes": processes}, None).hardware


def _number(text: str | None) -> str | float | None:
    """A share of the rows as a number, a file's name as it is."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _columns(given: list[str] | None) -> list[Any]:
    """The settings of `--column ROLE=COLUMN`."""
    from ftkit.config import Setting

    found = []
    for text in given or []:
        role, equals, column = text.partition("=")
        if not equals:
            raise UserError(f"--column {text} has no '='", "Write it as --column text=review")
        found.append(Setting(("data", "columns", role), column, f"--column {text}"))
    return found


def _join(device: str) -> None:
    """Processes 1 and up of another launcher wait here for what process 0 finds out, and do their share."""
    from ftkit import launch

    code = launch.join(device)
    if code is not None:
        sys.exit(code)


def _flush(code: int) -> int:
    """The exit code, after what was printed has gone out; 1 if its reader has left (`| head -1`)."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would flush again, and complain
        return code or 1
    return code


def main() -> None:
    """The entry point: errors become one panel and exit code 2."""
    streams.prepare()
    code = 0
    try:
        app(standalone_mode=True)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except UserError as error:
        if os.environ.get("FTKIT_DEBUG"):
            raise
        from ftkit import terminal

        terminal.show_error(error)
        code = 2
    except OSError as error:
        if os.environ.get("FTKIT_DEBUG"):
            raise
        from ftkit import terminal

        what = f"{error.filename or 'a file'}: {error.strerror or error}"
        terminal.show_error(UserError(what, "Check space and rights there; --debug shows where it happened"))
        code = 2
    if "RANK" in os.environ or "SLURM_STEP_NUM_TASKS" in os.environ:
        from ftkit import launch

        if place := launch.external():
            if place[0] == 0:
                launch.release(code)
            launch.end(_flush(code))
    sys.exit(_flush(code))


if __name__ == "__main__":
    main()
