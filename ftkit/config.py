"""The recipe: what to learn, from what, and how it is written down.

One set of Pydantic models is at once the keys of the YAML file, the flags of the command line
(`--set training.epochs=3`) and the recipe saved in a run. Values come from, in this order, the
defaults, the recipe file and the flags; each value remembers where it came from, so that an error
names the file and line, or the flag, that the user has to change. All errors are told at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ftkit.errors import UserError

MAX_RECIPE_BYTES = 1_000_000

Auto = Literal["auto"]
# JSON types for an exact "2e-5" and for whole numbers: YAML's 3.0 is not silently the integer 3.
Count = Annotated[int, Field(ge=1, strict=True)]


def _share(value: str | float | None) -> str | float | None:
    if isinstance(value, float) and not 0 < value < 1:
        raise ValueError("as a number it is the share of training rows: between 0 and 1")
    return value


class Section(BaseModel):
    """A part of the recipe; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(Section):
    """Where the rows come from and which columns mean what."""

    train: str | None = Field(None, description="file, folder, or hub:NAME[/CONFIG][@SPLIT][#REVISION]")
    validation: Annotated[str | float | None, AfterValidator(_share)] = Field(
        None, description="file or hub source; or a share of the training rows (default 0.1)"
    )
    test: str | None = Field(None, description="file or hub source, scored once after training")
    columns: dict[str, str] = Field(default_factory=dict, description="role: column, e.g. {text: review}")
    format: str | None = Field(None, description="csv, tsv, json, jsonl, parquet, arrow, text, label-first")
    encoding: str | None = Field(None, description="e.g. gb18030; UTF-8 and UTF-16 are recognised")
    delimiter: str | None = Field(None, description="column separator of a CSV file")
    header: bool | None = Field(None, description="whether the first row names the columns")
    quoting: bool | None = Field(None, description="whether double quotes enclose cells")


class LabelsSection(Section):
    """How labels are read, for tasks that answer with labels."""

    multi_label: bool | None = Field(None, description="several labels a row, or none (default: found out)")
    separator: str | None = Field(None, description="between the labels of one cell (default: found out)")
    threshold: Literal["global", "per_label"] = Field(
        "global", description="multi-label: one threshold for all labels, or one each"
    )
    weights: Literal["equal", "balanced"] = Field(
        "equal", description="balanced: rows weigh inversely to their label's frequency"
    )


class QuestionsSection(Section):
    """How questions are answered."""

    head: Literal["spans", "text"] | Auto = Field(
        "auto", description="spans: cut answers out of the context; text: write them (default: by the model's family)"
    )
    unanswerable: bool | None = Field(None, description="whether a context may hold no answer (default: found out)")
    rule: Literal["squad", "cmrc"] | Auto = Field(
        "auto", description="whose scores: of SQuAD, or of CMRC 2018 (default: cmrc for Chinese)"
    )
    longest_answer: Count | Auto = Field(
        "auto", description="tokens that a cut-out answer may have (default: as the longest training answer)"
    )


class LanguagesSection(Section):
    """From which language into which, for translation."""

    source: str | None = Field(None, description="BCP-47 code, e.g. en (default: found out)")
    targets: list[str] | None = Field(None, description="BCP-47 codes, e.g. [de, fr] (default: found out)")


class TextSection(Section):
    """How answers are written, for tasks that answer by writing."""

    max_new_tokens: Count | Auto = Field(
        "auto", description="of an answer (default: twice the tokens of its input, and 32)"
    )
    beams: Count | Auto = Field("auto", description="1 is greedy (default: 4 for translation, else 1)")
    length_penalty: Annotated[float, Field(allow_inf_nan=False)] = Field(
        1.0, description="of beams: above 1 favours long answers"
    )
    sample: bool = Field(False, description="draw tokens at random instead of looking for the best")
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="of sampling: below 1 is more careful")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="of sampling: most probable share drawn from")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of a training target that goes to all other tokens"
    )


class WindowSection(Section):
    """How long texts are read: in overlapping windows, never cut off."""

    max_length: Annotated[int, Field(ge=8)] | Auto = Field(
        "auto", description="tokens of one window (default: what the model allows, at most 512)"
    )
    overlap: Annotated[int, Field(ge=0)] | Auto = Field(
        "auto", description="tokens that neighbouring windows share (default: an eighth of the window)"
    )


class TrainingSection(Section):
    """The mathematics of the updates."""

    epochs: Count | Auto = Field("auto", description="passes over the training rows")
    batch_size: Count = Field(32, description="rows of one optimizer update, over all processes")
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Auto = Field("auto", description="at its peak")
    head_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Auto = Field(
        "auto", description="the new head learns so many times as fast as the body (default: 10; in a new model 1)"
    )
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="decay after the warm-up")
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="share of the updates, 0 to 1")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="on matrices; not on embeddings")
    max_gradient_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="longer gradients are clipped")
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(None, description="default: the model's own")
    metric: str | None = Field(None, description="chooses the best epoch (default: the task's main metric)")
    patience: Count | None = Field(None, description="stop after so many epochs without improvement")
    freeze: Literal["nothing", "embeddings", "backbone"] = Field(
        "nothing", description="parameters that do not learn; backbone: all but the head"
    )
    window_of_updates: Count = Field(100, description="updates whose rows are sorted by length together")


class HardwareSection(Section):
    """How fast; never what is learned."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where the model runs")
    processes: Count | Auto = Field("auto", description="one per GPU; on a CPU one")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="of the matrix products")
    tokens_per_microbatch: Count | Auto = Field("auto", description="padded tokens that go through at once")
    checkpoint_minutes: Annotated[float, Field(gt=0)] = Field(10.0, description="between checkpoints of a training")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, slower")
    shard: bool = Field(False, description="spread one model over all processes, for models too big for one GPU")


class Recipe(Section):
    """One training, completely described."""

    task: str | None = Field(
        None, description="classification, sentiment, question-answering or translation (default: found out)"
    )
    model: str = Field("auto", description="folder, run, hub name, or package:MODULE/FOLDER")
    revision: str | None = Field(None, description="commit, tag or branch of a hub model")
    allow_pickle: bool = Field(False, description="read weights from pytorch_model.bin where there are no safetensors")
    out: str | None = Field(None, description="run directory (default: runs/NAME OF THE DATA)")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(0, description="of everything random")
    data: DataSection = Field(default_factory=DataSection)
    labels: LabelsSection = Field(default_factory=LabelsSection)
    questions: QuestionsSection = Field(default_factory=QuestionsSection)
    languages: LanguagesSection = Field(default_factory=LanguagesSection)
    text: TextSection = Field(default_factory=TextSection)
    window: WindowSection = Field(default_factory=WindowSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    hardware: HardwareSection = Field(default_factory=HardwareSection)


# What people type who come from other tools, and what it is called here.
RENAMED = {
    "lr": "training.learning_rate",
    "learning_rate": "training.learning_rate",
    "num_train_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "epochs": "training.epochs",
    "per_device_train_batch_size": "training.batch_size (rows per update over all processes)",
    "train_batch_size": "training.batch_size (rows per update over all processes)",
    "batch_size": "training.batch_size",
    "gradient_accumulation_steps": "nothing: an update is cut into micro-batches by itself",
    "warmup_ratio": "training.warmup (a share of the updates)",
    "warmup_steps": "training.warmup (a share of the updates)",
    "lr_scheduler_type": "training.schedule",
    "max_grad_norm": "training.max_gradient_norm",
    "group_by_length": "training.window_of_updates (on by itself)",
    "evaluation_strategy": "nothing: every epoch is evaluated",
    "eval_strategy": "nothing: every epoch is evaluated",
    "early_stopping_patience": "training.patience",
    "metric_for_best_model": "training.metric",
    "no_cuda": "hardware.device: cpu",
    "use_cpu": "hardware.device: cpu",
    "fp16": "hardware.precision: fp16",
    "bf16": "hardware.precision: bf16",
    "model_name_or_path": "model",
    "tokenizer": "nothing: the tokenizer is the model's",
    "tokenizer_name": "nothing: the tokenizer is the model's",
    "logging_dir": "nothing: log.jsonl of the run has every update",
    "train_file": "data.train",
    "validation_file": "data.validation",
    "test_file": "data.test",
    "text": "data.columns: {text: ...}",
    "pair": "data.columns: {pair: ...}",
    "label": "data.columns: {label: ...}",
    "text_column": "data.columns: {text: ...}",
    "label_column": "data.columns: {label: ...}",
    "max_seq_length": "window.max_length",
    "max_length": "window.max_length",
    "doc_stride": "window.overlap",
    "output_dir": "out",
    "overwrite_output_dir": "the flag --overwrite",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that the user gave: the path of its key, the value, and where it was written."""

    path: tuple[str, ...]
    value: Any
    origin: str


class _Loader(yaml.SafeLoader):
    """Safe YAML with numbers as people write them, without aliases and duplicate keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not allowed here", problem_mark=mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever the loader would take for a number."""


# What a plain word means in YAML 1.2. YAML 1.1 reads 2e-5 as text, the language code `no` as false, 1:30 as 90,
# 010 as 8, and a date as no text.
_PLAIN = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)|[-+]?([0-9]*\.[0-9]+|[0-9]+\.)"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
}
_Loader.yaml_implicit_resolvers = {}
for _class in (_Loader, _Dumper):  # the dumper also quotes what YAML 1.1 would take for something else
    for _kind, (_pattern, _first) in _PLAIN.items():
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def scalar(text: str) -> Any:
    """The value of `--set key=value` as YAML reads it: 2e-5 is a number, true is a truth value."""
    if len(text) == 1 and not text.isdigit():
        return text  # a separator such as , or | is itself
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"cannot read the value {text!r}: {_problem(error)}") from None


def setting(text: str) -> Setting:
    """Parses one `--set key=value`."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text} has no '='", "Write it as --set training.epochs=3")
    return Setting(tuple(key.strip().split(".")), scalar(value), f"--set {key.strip()}")


def read(path: str | Path) -> list[Setting]:
    """Reads a recipe file into settings that know their lines.

    Raises:
        UserError: the file is missing, too large, not YAML, or uses aliases or a key twice.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the recipe {path}: {error.strerror}") from None
    if len(content) > MAX_RECIPE_BYTES:
        raise UserError(f"{path} has {len(content):,} bytes; a recipe has at most {MAX_RECIPE_BYTES:,}")
    try:
        text = content.decode("utf-8-sig")
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return []
            if not isinstance(root, yaml.MappingNode):
                raise UserError(f"{path}: a recipe is a list of `key: value` lines", "See: ftkit init DATA")
            return list(_settings(loader, root, (), str(path)))
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        hint = "Check how far this line and the one before are indented" if "block" in _problem(error) else ""
        raise UserError(f"{path}: {_problem(error)}", hint) from None


def _settings(loader: _Loader, node: Any, path: tuple[str, ...], file: str) -> Iterable[Setting]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in seen:
            raise UserError(f"{file}:{line}: the key {'.'.join((*path, key))} was given on line {seen[key]}")
        seen[key] = line
        if isinstance(value_node, yaml.MappingNode) and value_node.value:
            yield from _settings(loader, value_node, (*path, key), file)
        else:
            value = loader.construct_object(value_node, deep=True)
            yield Setting((*path, key), value, f"{file}:{line}")


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    expected = str(getattr(error, "context", None) or "")
    expected = f"{expected}, " if expected.startswith("expected") else ""
    return where + expected + str(getattr(error, "problem", None) or error)


def resolve(settings: Iterable[Setting]) -> Recipe:
    """Merges settings, later ones winning, and checks them.

    Raises:
        UserError: listing every unknown key ("did you mean") and every value out of range.
    """
    tree: dict[str, Any] = {}
    origins: dict[tuple[str, ...], str] = {}
    for item in settings:
        if item.value is None and _section(item.path):
            continue  # a section whose keys are all commented out
        branch = tree
        for key in item.path[:-1]:
            inner = branch.get(key)
            if not isinstance(inner, dict):
                inner = branch[key] = {}
            branch = inner
        branch[item.path[-1]] = item.value
        origins[item.path] = item.origin
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        problems = _explain(error.errors(), origins)
    count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
    raise UserError(f"{count} in the recipe:\n" + "\n".join(problems), "All keys: ftkit init --keys")


def _explain(errors: Iterable[Mapping[str, Any]], origins: Mapping[tuple[str, ...], str]) -> list[str]:
    """One line a mistake: where it was written, the key, and what is wrong or meant."""
    messages: dict[tuple[str, ...], list[str]] = {}
    for error in errors:
        path: tuple[str, ...] = tuple(str(part) for part in error["loc"])
        given = max((p for p in origins if path[: len(p)] == p or p[: len(path)] == path), key=len, default=path)
        if error["type"] == "extra_forbidden":
            messages.setdefault(path, []).append(f"unknown key{_suggest(path)}")
            origins = {**origins, path: origins.get(given, "")}
            continue
        message = str(error["msg"]).removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        if section := error["type"] == "model_type" and _section(path):
            message = f"a section stands here, with keys such as {', '.join(list(section.model_fields)[:3])}"
            message += f"; what is meant may be {RENAMED[path[-1]]}" if path[-1] in RENAMED else ""
        if given not in messages:
            value = error["input"]
            message = message if isinstance(value, (dict, BaseModel)) else f"{value!r}: {message}"
        # A value that may be a number or a word breaks two rules at once: both are named in one line.
        messages.setdefault(given, []).append(message)
    return [
        f"  {origins[path]}: {'.'.join(path)}: {', or '.join(dict.fromkeys(found))}"
        if origins.get(path)
        else f"  {'.'.join(path)}: {', or '.join(dict.fromkeys(found))}"
        for path, found in messages.items()
    ]


def _suggest(path: tuple[str, ...]) -> str:
    *parents, key = path
    section = _section(parents)
    close = difflib.get_close_matches(key, section.model_fields, n=1, cutoff=0.7) if section else []
    if key in RENAMED:
        return f"; here it is {RENAMED[key]}"
    if close:
        return f"; did you mean {'.'.join([*parents, close[0]])}?"
    everywhere = {name.rpartition(".")[2]: name for name, _, _ in entries()}
    close = difflib.get_close_matches(key, everywhere, n=1, cutoff=0.7)
    return f"; did you mean {everywhere[close[0]]}?" if close else ""


def _section(path: Iterable[str]) -> type[BaseModel] | None:
    section: Any = Recipe
    for key in path:
        field = section.model_fields.get(key)
        section = field.annotation if field else None
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return None
    return section  # type: ignore[no-any-return]


def entries() -> list[tuple[str, Any, str]]:
    """Every key of a recipe with its default and its meaning, in the order of the file."""
    result: list[tuple[str, Any, str]] = []
    for name, field in Recipe.model_fields.items():
        section = _section([name])
        if section is None:
            result.append((name, field.get_default(), field.description or ""))
            continue
        for inner, detail in section.model_fields.items():
            default = detail.get_default(call_default_factory=True)
            meaning = detail.description or ""
            choices = [choice for choice in _choices(detail.annotation) if choice != "auto"]
            if any(choice not in meaning for choice in choices):
                meaning += f"; one of {', '.join(choices)}"
            result.append((f"{name}.{inner}", default, meaning))
    return result


def _choices(annotation: Any) -> list[str]:
    """The words that a key may have."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def to_yaml(recipe: Recipe) -> str:
    """The recipe as a file that `read` and `resolve` turn into the same recipe."""
    return yaml.dump(recipe.model_dump(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def inline(value: Any) -> str:
    """A value as YAML on one line, which a comment may follow."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("...\n").strip()
