"""The recipe: what is read, in which order it counts, and what is told about a mistake."""

from __future__ import annotations

import csv
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftkit import commands, config
from ftkit.config import Recipe, Setting
from ftkit.errors import UserError

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


def recipe(path: Path, text: str) -> Recipe:
    path.write_text(text, encoding="utf-8")
    return config.resolve(config.read(path))


def refusal(path: Path, text: str | bytes) -> str:
    """The message for a recipe file with this text, without the folder of the file."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError) as caught:
        config.resolve(config.read(path))
    return str(caught.value).replace(f"{path.parent}/", "")


def problems(path: Path, text: str) -> list[str]:
    """The lines of the message that each tell one mistake."""
    first, *lines, last = refusal(path, text).splitlines()
    assert first == ("1 error in the recipe:" if len(lines) == 1 else f"{len(lines)} errors in the recipe:")
    assert last == "All keys: ftkit init --keys"
    return [line.removeprefix("  ") for line in lines]


def set_(*assignments: str) -> Recipe:
    return config.resolve([config.setting(assignment) for assignment in assignments])


# Unknown keys.


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("trainng: {epochs: 3}", "trainng: unknown key; did you mean training?"),
        ("training: {epoch: 3}", "training.epoch: unknown key; did you mean training.epochs?"),
        ("training: {learning-rate: 1}", "training.learning-rate: unknown key; did you mean training.learning_rate?"),
        ("batch_sizes: 3", "batch_sizes: unknown key; did you mean training.batch_size?"),
        ("data: {trian: a.csv}", "data.trian: unknown key; did you mean data.train?"),
        ("quux: 3", "quux: unknown key"),
        ("training: {1: 2}", "training.1: unknown key"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(path: Path, text: str, problem: str) -> None:
    assert problems(path, text) == [f"recipe.yaml:1: {problem}"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("lr: 2e-5", "training.learning_rate"),
        ("learning_rate: 2e-5", "training.learning_rate"),
        ("num_train_epochs: 3", "training.epochs"),
        ("per_device_train_batch_size: 8", "training.batch_size (rows per update over all processes)"),
        ("gradient_accumulation_steps: 4", "nothing: an update is cut into micro-batches by itself"),
        ("warmup_ratio: 0.1", "training.warmup (a share of the updates)"),
        ("warmup_steps: 500", "training.warmup (a share of the updates)"),
        ("lr_scheduler_type: linear", "training.schedule"),
        ("max_grad_norm: 1.0", "training.max_gradient_norm"),
        ("group_by_length: true", "training.window_of_updates (on by itself)"),
        ("evaluation_strategy: epoch", "nothing: every epoch is evaluated"),
        ("no_cuda: true", "hardware.device: cpu"),
        ("fp16: true", "hardware.precision: fp16"),
        ("model_name_or_path: bert-base-uncased", "model"),
        ("max_seq_length: 128", "window.max_length"),
        ("doc_stride: 64", "window.overlap"),
        ("train_file: a.csv", "data.train"),
        ("output_dir: out", "out"),
        ("overwrite_output_dir: true", "the flag --overwrite"),
    ],
)
def test_a_key_of_another_tool_is_told_what_it_is_called_here(path: Path, text: str, hint: str) -> None:
    key = text.partition(":")[0]
    assert problems(path, text) == [f"recipe.yaml:1: {key}: unknown key; here it is {hint}"]


@pytest.mark.parametrize("section", ["", "training.", "data.", "hardware."])
def test_every_key_of_another_tool_has_a_hint_of_one_line_wherever_it_stands(path: Path, section: str) -> None:
    known = {name for name, _, _ in config.entries()} | set(config.Recipe.model_fields)
    foreign = [f"{section}{key}" for key in config.RENAMED if f"{section}{key}" not in known]
    for key in foreign:
        parent, _, name = key.rpartition(".")
        [problem] = problems(path, f"{parent}: {{{name}: 1}}" if parent else f"{name}: 1")
        assert re.search(rf"^recipe.yaml:1: {key}: unknown key; (here it is|did you mean) \S", problem)


def test_every_hint_names_a_key_that_exists() -> None:
    known = {name for name, _, _ in config.entries()}
    hints = {hint.partition(" ")[0].rstrip(":") for hint in config.RENAMED.values()} - {"nothing", "the"}
    assert hints <= known


def test_a_column_is_named_under_columns(path: Path) -> None:
    [problem] = problems(path, "data: {text: review}")
    assert problem == "recipe.yaml:1: data.text: unknown key; here it is data.columns: {text: ...}"


def test_a_value_where_a_section_stands_is_told_its_keys_and_what_may_be_meant(path: Path) -> None:
    assert problems(path, "text: review\ndata: reviews.csv\n") == [
        "recipe.yaml:2: data: 'reviews.csv': a section stands here, with keys such as train, validation, test",
        "recipe.yaml:1: text: 'review': a section stands here, with keys such as max_new_tokens, beams, "
        "length_penalty; what is meant may be data.columns: {text: ...}",
    ]


# Values.


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("training: {batch_size: 0}", "training.batch_size: 0: input should be greater than or equal to 1"),
        ("training: {batch_size: 8.0}", "training.batch_size: 8.0: input should be a valid integer"),
        ("training: {batch_size: '8'}", "training.batch_size: '8': input should be a valid integer"),
        ("training: {warmup: 100}", "training.warmup: 100: input should be less than 1"),
        (
            "training: {schedule: linar}",
            "training.schedule: 'linar': input should be 'linear', 'cosine' or 'constant'",
        ),
        ("hardware: {device: gpu}", "hardware.device: 'gpu': input should be 'auto', 'cpu', 'cuda' or 'mps'"),
        ("seed: -1", "seed: -1: input should be greater than or equal to 0"),
    ],
)
def test_a_value_out_of_range_is_told_with_its_range(path: Path, text: str, problem: str) -> None:
    assert problems(path, text) == [f"recipe.yaml:1: {problem}"]


@pytest.mark.parametrize("share", ["0", "1", "1.5", "-0.1", "true"])
def test_a_share_of_the_rows_is_between_0_and_1(path: Path, share: str) -> None:
    [problem] = problems(path, f"data: {{train: a.csv, validation: {share}}}")
    assert problem.startswith("recipe.yaml:1: data.validation: ")
    assert problem.endswith("is the share of training rows: between 0 and 1")


def test_a_name_that_yaml_reads_as_a_number_is_refused(path: Path) -> None:
    [problem] = problems(path, "data: {columns: {text: 1}}")
    assert problem.startswith("recipe.yaml:1: data.columns.text: 1: input should be a valid string")


@pytest.mark.parametrize(
    "text",
    [
        "training: {epochs: 0}",
        "training: {epochs: 3.0}",
        "training: {epochs: true}",
        "training: {learning_rate: -1}",
        "training: {learning_rate: .nan}",
        "training: {learning_rate: .inf}",
        "training: {learning_rate: fast}",
        "window: {max_length: 4}",
        "hardware: {processes: 0}",
    ],
)
def test_a_value_that_is_neither_a_number_in_range_nor_auto_is_one_error(path: Path, text: str) -> None:
    [problem] = problems(path, text)
    assert "auto" in problem


def test_several_errors_are_told_at_once_with_their_lines(path: Path) -> None:
    text = "seed: -1\nmodle: m\ntraining:\n  batch_size: 0\n  lr: 1\nhardware:\n  device: gpu\n"
    assert sorted(problems(path, text)) == [
        "recipe.yaml:1: seed: -1: input should be greater than or equal to 0",
        "recipe.yaml:2: modle: unknown key; did you mean model?",
        "recipe.yaml:4: training.batch_size: 0: input should be greater than or equal to 1",
        "recipe.yaml:5: training.lr: unknown key; here it is training.learning_rate",
        "recipe.yaml:7: hardware.device: 'gpu': input should be 'auto', 'cpu', 'cuda' or 'mps'",
    ]


def test_an_error_names_the_flag_or_the_line_that_gave_the_value(path: Path) -> None:
    path.write_text("seed: 1\ntraining: {batch_size: 0}\n")
    with pytest.raises(UserError) as caught:
        commands.recipe_of(str(path), {"seed": -1}, [config.setting("training.warmup=2")])
    assert sorted(caught.value.problem.splitlines()[1:]) == [
        "  --seed: seed: -1: input should be greater than or equal to 0",
        "  --set training.warmup: training.warmup: 2: input should be less than 1",
        f"  {path}:2: training.batch_size: 0: input should be greater than or equal to 1",
    ]


def test_an_empty_section_is_all_defaults(path: Path) -> None:
    """What is left when the keys below it are commented out."""
    assert recipe(path, "seed: 1\ntraining:\n  # epochs: 3\n") == Recipe(seed=1)


# YAML.


@pytest.mark.parametrize("text", ["2e-5", "2E-5", "2.0e-5", "0.00002", "+2e-5", "20e-6", ".2e-4"])
def test_numbers_are_read_as_people_write_them(path: Path, text: str) -> None:
    assert recipe(path, f"training: {{learning_rate: {text}}}").training.learning_rate == 2e-5
    assert set_(f"training.learning_rate={text}").training.learning_rate == 2e-5


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\ufeff# a byte-order mark\n"])
def test_an_empty_recipe_is_all_defaults(path: Path, text: str) -> None:
    assert recipe(path, text) == Recipe()


def test_a_byte_order_mark_and_windows_line_ends_are_read(path: Path) -> None:
    assert recipe(path, "\ufeffseed: 3\r\nmodel: 模型\r\n") == Recipe(seed=3, model="模型")


def test_a_key_given_twice_is_refused_with_both_lines(path: Path) -> None:
    message = refusal(path, "training:\n  epochs: 3\nseed: 1\ntraining:\n  epochs: 4\n")
    assert message == "recipe.yaml:4: the key training was given on line 1"
    message = refusal(path, "training:\n  epochs: 3\n  epochs: 4\n")
    assert message == "recipe.yaml:3: the key training.epochs was given on line 2"


def test_aliases_are_refused(path: Path) -> None:
    assert refusal(path, "model: &m bert\nout: *m\n") == "recipe.yaml: line 2: aliases (*name) are not allowed here"


def test_a_yaml_bomb_is_refused_before_it_goes_off(path: Path) -> None:
    layers = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    layers += [f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    started = time.process_time()
    assert "aliases (*name) are not allowed here" in refusal(path, "\n".join(layers))
    assert time.process_time() - started < 1


@pytest.mark.parametrize("text", ["a: " + "[" * 20_000, "a: " + "{a: " * 20_000])
def test_deep_nesting_is_refused(path: Path, text: str) -> None:
    assert refusal(path, text).startswith("recipe.yaml: ")


def test_a_large_file_is_refused(path: Path) -> None:
    message = refusal(path, "# " + "x" * config.MAX_RECIPE_BYTES)
    assert message == "recipe.yaml has 1,000,002 bytes; a recipe has at most 1,000,000"


def test_python_objects_are_not_made(path: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    message = refusal(path, f"model: !!python/object/apply:pathlib.Path.touch [{canary}]")
    assert message.startswith("recipe.yaml: line 1: could not determine a constructor for the tag")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "recipe.yaml: a recipe is a list of `key: value` lines\nSee: ftkit init DATA"),
        ("text,label\n", "recipe.yaml: a recipe is a list of `key: value` lines\nSee: ftkit init DATA"),
        ("seed: [1,\n", "recipe.yaml: line 2: expected the node content, but found '<stream end>'"),
        (
            "seed: 1\n---\nseed: 2\n",
            "recipe.yaml: line 2: expected a single document in the stream, but found another document",
        ),
        ("model: 模型".encode("gb18030"), "recipe.yaml is not UTF-8 text (byte 9)"),
    ],
)
def test_what_is_no_recipe_is_refused(path: Path, text: str | bytes, message: str) -> None:
    assert refusal(path, text) == message


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        config.read(tmp_path / "none.yaml")
    assert str(caught.value) == f"cannot read the recipe {tmp_path / 'none.yaml'}: No such file or directory"


# Settings of the command line.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("2e-5", 2e-5),
        ("true", True),
        ("null", None),
        ("auto", "auto"),
        ("{text: review}", {"text": "review"}),
        (r"\t", r"\t"),
        ("hub:a/b@train", "hub:a/b@train"),
        (";", ";"),
    ],
)
def test_the_value_of_a_setting(text: str, value: Any) -> None:
    assert config.setting(f"data.delimiter={text}") == Setting(("data", "delimiter"), value, "--set data.delimiter")


@pytest.mark.parametrize("sign", [",", "|", ":", "#", "*", "="])
def test_a_single_sign_is_itself(sign: str) -> None:
    assert config.setting(f"data.delimiter={sign}").value == sign


@pytest.mark.parametrize("text", ["training.epochs", "=3", "epochs 3"])
def test_a_setting_without_a_key_or_a_value_is_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        config.setting(text)
    assert str(caught.value) == f"--set {text} has no '='\nWrite it as --set training.epochs=3"


def test_a_value_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(UserError, match=r"cannot read the value '\[1,'"):
        config.setting("training.epochs=[1,")


def test_an_unknown_key_of_a_setting_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        set_("trainig.epochs=3")
    assert "--set trainig.epochs: trainig: unknown key; did you mean training?" in str(caught.value)


def test_a_setting_below_a_value_replaces_it(path: Path) -> None:
    path.write_text("data: {columns: {text: a, label: b}}")
    resolved = config.resolve([*config.read(path), config.setting("data.columns.text=c")])
    assert resolved.data.columns == {"text": "c", "label": "b"}


# The order: defaults, the file, flags, --set.


def test_each_later_source_overrules_the_earlier_ones(path: Path) -> None:
    path.write_text("seed: 1\ntraining: {epochs: 1, batch_size: 1, warmup: 0.3}\n")
    flags = {"epochs": 2, "batch_size": 2, "data": "a.csv", "learning_rate": None}
    resolved = commands.recipe_of(str(path), flags, [config.setting("training.batch_size=3")])
    assert resolved.model_dump(exclude_defaults=True) == {
        "seed": 1,
        "out": "runs/recipe",
        "data": {"train": "a.csv"},
        "training": {"epochs": 2, "batch_size": 3, "warmup": 0.3},
    }


def test_every_flag_sets_a_key_that_exists() -> None:
    known = {name for name, _, _ in config.entries()} | {f"data.columns.{role}" for role in ("text", "pair", "label")}
    assert set(commands.FLAGS.values()) <= known


def test_an_unknown_flag_of_python_is_refused() -> None:
    with pytest.raises(UserError, match="there is no setting 'lr'"):
        commands.recipe_of(None, {"lr": 1e-5})


# Recipes that ftkit writes.


def test_every_key_has_a_meaning() -> None:
    entries = config.entries()
    assert len(entries) > 35
    assert [name for name, _, meaning in entries if not meaning.strip()] == []


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
RECIPES = st.builds(
    Recipe,
    model=TEXTS,
    revision=st.none() | TEXTS,
    out=st.none() | TEXTS,
    seed=st.integers(0, 2**32 - 1),
    data=st.builds(
        config.DataSection,
        train=TEXTS,
        validation=st.none() | st.floats(0.01, 0.99),
        columns=st.dictionaries(st.sampled_from(["text", "pair", "label"]), TEXTS),
        delimiter=st.none() | TEXTS,
        header=st.none() | st.booleans(),
    ),
    labels=st.builds(config.LabelsSection, separator=st.none() | TEXTS),
    window=st.builds(config.WindowSection, max_length=st.just("auto") | st.integers(8, 10**6)),
    training=st.builds(
        config.TrainingSection,
        epochs=st.just("auto") | st.integers(1, 10**9),
        learning_rate=st.just("auto") | st.floats(1e-300, 1e300),
        head_factor=st.just("auto") | st.floats(1e-300, 1e300),
        dropout=st.none() | st.floats(0, 0.999),
        patience=st.none() | st.integers(1, 10**6),
    ),
)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RECIPES)
def test_a_saved_recipe_is_read_as_the_same_recipe(path: Path, original: Recipe) -> None:
    assert recipe(path, config.to_yaml(original)) == original


NUMBER_LIKE = ["1e5", "12e4567", "2E-5"]  # such as a short commit hash
AWKWARD = [".5", "1.", "007", "0x1F", "1_0", "1:30", "2024-01-01", "yes", "off", "null", "~", "=", "# a", "a: b"]
AWKWARD += ["- a", "'", '"', "&a", "*a", "|", " a ", "差评", "a" * 200, "a b " * 50]


@pytest.mark.parametrize("name", [*NUMBER_LIKE, *AWKWARD])
def test_a_name_that_looks_like_something_else_stays_a_name(path: Path, name: str) -> None:
    original = Recipe(revision=name, data={"columns": {"text": name}})
    assert recipe(path, config.to_yaml(original)) == original


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    file = tmp_path / "reviews.csv"
    file.write_text("review,verdict\n" + "".join(f"day {n} was long,{'bad' if n % 2 else 'good'}\n" for n in range(8)))
    return file


def uncommented(text: str) -> str:
    return "\n".join(line.removeprefix("# ") for line in text.splitlines()[1:])


def test_a_new_recipe_names_the_columns_and_the_task(path: Path, reviews: Path) -> None:
    written = commands.new_recipe(commands.recipe_of(None, {"data": str(reviews)}))
    assert recipe(path, written).model_dump(exclude_defaults=True) == {
        "task": "sentiment",
        "data": {"train": str(reviews), "columns": {"text": "review", "label": "verdict"}},
    }


def test_another_model_than_the_recipes_leaves_its_revision_behind(path: Path) -> None:
    path.write_text("model: me/bert\nrevision: abc\n", encoding="utf-8")
    assert commands.recipe_of(str(path), {}).revision == "abc"
    assert commands.recipe_of(str(path), {"model": "me/other"}).revision is None
    assert commands.recipe_of(str(path), {"model": "me/other", "revision": "v2"}).revision == "v2"


def test_the_words_that_a_key_takes_are_listed() -> None:
    meanings = {name: meaning for name, _, meaning in config.entries()}
    assert meanings["training.schedule"].endswith("; one of linear, cosine, constant")
    assert meanings["labels.weights"].endswith("; one of equal, balanced")


def test_every_key_of_a_new_recipe_resolves_to_its_default_when_its_mark_is_removed(path: Path, reviews: Path) -> None:
    written = commands.new_recipe(commands.recipe_of(None, {"data": str(reviews)}))
    assert recipe(path, uncommented(written)) == recipe(path, written)
    given = {".".join(setting.path) for setting in config.read(path)}
    path.write_text(uncommented(written))
    everything = {".".join(setting.path) for setting in config.read(path)}
    assert given < everything
    assert {name for name, _, _ in config.entries()} <= everything | {"data.columns"}


@pytest.mark.parametrize("column", ["a, b: c", "#1", "评论", "- a", "a" * 28 + " " + "b" * 28])
def test_a_new_recipe_keeps_awkward_column_names(path: Path, tmp_path: Path, column: str) -> None:
    folder = tmp_path / ("a long folder name with blanks in it " * 3).strip()
    folder.mkdir()
    file = folder / "数据 1e5.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([[column, "label"], *([f"it was day {n}", "yn"[n % 2]] for n in range(8))])
    written = commands.new_recipe(commands.recipe_of(None, {"data": str(file)}))
    assert recipe(path, written).data == config.DataSection(train=str(file), columns={"text": column, "label": "label"})


READY_MADE = sorted((PROJECT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("file", READY_MADE, ids=lambda file: file.stem)
def test_ready_made_recipes_resolve(file: Path) -> None:
    resolved = commands.recipe_of(str(file), {})
    assert resolved.data.train is not None
    assert resolved.out == f"runs/{file.stem}"


def test_a_recipe_is_plain_yaml(path: Path) -> None:
    assert yaml.safe_load(config.to_yaml(Recipe()))["training"]["batch_size"] == 32
