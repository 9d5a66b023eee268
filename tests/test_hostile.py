"""Nothing from a model, a checkpoint, a run, a metric's folder or a recipe is ever run.

Every command runs in one process that Python's audit hook watches: it notes whatever comes from the hostile
folders (code that is run, imported or compiled), every shell command, what a pickle asks for, every network
address, and every touch of the canary, a file that only hostile code writes. The last tests run such code on
purpose, to show that the hook and the canary see it.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import tiny

# Python runs a module of this name in every process that finds it, so children are watched too.
SITECUSTOMIZE = """
import json, os, sys

LOG = os.open(os.environ["WATCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
ROOT = os.environ["WATCH_ROOT"]
COMMANDS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn")

def watch(event, args):
    if event == "open":
        said = str(args[0]) if str(args[0]).endswith("canary") else None
    elif event == "exec":
        said = getattr(args[0], "co_filename", "")
        said = said if said.startswith(ROOT) else None
    elif event in ("compile", "import", "ctypes.dlopen"):
        said = next((str(a) for a in args[:2] if isinstance(a, str) and a.startswith(ROOT)), None)
    elif event in COMMANDS:
        said = repr(args[:2])
        said = said if event == "os.system" or "canary" in said or "evil" in said else None
    elif event == "pickle.find_class":
        said = ".".join(args) if args[0] in ("builtins", "os", "posix", "subprocess") else None
    elif event in ("socket.getaddrinfo", "socket.connect"):
        said = repr(args)
    else:
        return
    if said is not None:
        os.write(LOG, (json.dumps([os.environ.get("WATCH_CASE"), event, said[:300]]) + "\\n").encode())

sys.addaudithook(watch)
"""
DRIVER = """
import json, os, sys, traceback
from pathlib import Path
from tests import tiny

for case, place, stdin, commands in json.loads(Path(sys.argv[1]).read_text()):
    os.environ["WATCH_CASE"] = case
    os.chdir(place)
    for number, arguments in enumerate(commands):
        try:
            done = tiny.ftkit(*arguments, stdin=stdin.encode())
            result = [done.code, done.out, done.err]
        except BaseException:
            result = [None, "", traceback.format_exc()]
        with open(sys.argv[2], "a") as file:
            file.write(json.dumps([case, *result]) + "\\n")
"""
QUICK = ("--epochs", "1", "--device", "cpu", "--precision", "fp32", "--quiet")


@dataclass(frozen=True)
class Place:
    """Where one case is prepared.

    Attributes:
        work: the working directory of the command, with a small data.csv.
        canary: what hostile code would write.
        base: a harmless model; trained: a harmless run.
    """

    work: Path
    canary: Path
    base: Path
    trained: Path

    def code(self) -> str:
        """Python that writes the canary."""
        return f"open({str(self.canary)!r}, 'a').write('x')\n"

    def model(self, **configs: Any) -> Path:
        """A copy of the model as evil/, with keys added to its configurations and a module beside them."""
        folder = Path(shutil.copytree(self.base, self.work / "evil"))
        (folder / "evil.py").write_text(self.code() + "class Model: pass\nclass Config: pass\nclass Tokenizer: pass\n")
        for name, more in configs.items():
            path = folder / f"{name}.json"
            content = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps(content | more))
        return folder

    def run(self) -> Path:
        return Path(shutil.copytree(self.trained, self.work / "run"))

    def pickle(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(Evil(self.code())))

    def bin(self, path: Path) -> None:
        """The pickle as torch.save writes it: in an archive."""
        import torch

        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"bert.embeddings.word_embeddings.weight": Evil(self.code())}, path)

    def script(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.code())


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return exec, (self.code,)


@dataclass(frozen=True)
class Outcome:
    """What the commands of one case did: results of each, whatever the hook noted, whether the canary is there."""

    results: list[tiny.Finished]
    events: list[list[str]]
    canary: bool

    @property
    def last(self) -> tiny.Finished:
        return self.results[-1]


Commands = list[list[str]]
Prepare = Callable[[Place], Commands]


def train(*more: str) -> Commands:
    return [["train", "data.csv", "--model", "evil", "--out", "new", *QUICK, *more]]


# Each case prepares a place and gives the commands to run there, the exit code of the last, and words of its message.
CASES: dict[str, tuple[Prepare, int, str]] = {}
INPUT: dict[str, str] = {}  # standard input, where a case has one


def case(code: int, message: str = "", *, stdin: str = "") -> Callable[[Prepare], Prepare]:
    def add(prepare: Prepare) -> Prepare:
        CASES[prepare.__name__] = prepare, code, message
        INPUT[prepare.__name__] = stdin
        return prepare

    return add


# Models.


@case(2, "pytorch_model.bin")
def pickle_alone(place: Place) -> Commands:
    model = place.model()
    (model / "model.safetensors").unlink()
    place.bin(model / "pytorch_model.bin")
    return train()


@case(2, "cannot be loaded")
def pickle_alone_and_allowed(place: Place) -> Commands:
    pickle_alone(place)
    return train("--allow-pickle")


@case(2, "cannot be loaded")
def plain_pickle_allowed_by_a_recipe(place: Place) -> Commands:
    model = place.model()
    (model / "model.safetensors").unlink()
    place.pickle(model / "pytorch_model.bin")
    (place.work / "recipe.yaml").write_text("model: evil\nallow_pickle: true\ndata: {train: data.csv}\nout: new\n")
    return [["train", "--recipe", "recipe.yaml", *QUICK]]


@case(0)
def honest_pickle_that_is_allowed(place: Place) -> Commands:
    import torch
    from safetensors.torch import load_file

    model = place.model()
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    return [["check", "data.csv", "--model", "evil", "--allow-pickle"], *train("--allow-pickle")]


@case(0)
def pickles_beside_safetensors(place: Place) -> Commands:
    model = place.model()
    for name in ("pytorch_model.bin", "training_args.bin", "adapter_model.bin", "optimizer.pt", "rng_state.pth"):
        place.bin(model / name)
    for name in ("scheduler.pt", "custom_checkpoint_0.pkl", "random_states_0.pkl", "tokenizer.pkl"):
        place.pickle(model / name)
    return train()


@case(2, "config.json has an auto_map")
def code_in_the_configuration(place: Place) -> Commands:
    place.model(config={"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}})
    return train()


@case(2, "config.json has an auto_map", stdin="y\n" * 9)
def code_in_the_model_and_a_yes(place: Place) -> Commands:
    place.model(config={"auto_map": {"AutoModelForSequenceClassification": "evil.Model"}})
    return train()


@case(2, "tokenizer_config.json has an auto_map", stdin="y\n" * 9)
def code_in_the_tokenizer(place: Place) -> Commands:
    place.model(tokenizer_config={"auto_map": {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}})
    return train()


@case(2, "generation_config.json has an auto_map")
def code_for_generation(place: Place) -> Commands:
    place.model(generation_config={"auto_map": {"GenerationConfig": "evil.Config"}})
    return train()


@case(0)
def code_that_no_configuration_names(place: Place) -> Commands:
    model = place.model()
    for name in ("custom_generate/generate.py", "modeling_bert.py", "__init__.py", "setup.py", "handler.py"):
        place.script(model / name)
    place.script(model / "custom_generate" / "requirements.txt")
    return train()


@case(2, "custom_pipelines")
def code_for_a_pipeline(place: Place) -> Commands:
    place.model(config={"custom_pipelines": {"x": {"impl": "evil.Model", "pt": ["AutoModel"]}}})
    return train()


@case(2, "names a file outside its folder: ../outside.safetensors")
def index_that_leaves(place: Place) -> Commands:
    model = place.model()
    (model / "model.safetensors").rename(place.work / "outside.safetensors")
    index = {"metadata": {}, "weight_map": {"bert.pooler.dense.bias": "../outside.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    return train()


@case(2, "names a file that is not of its kind")
def index_of_pickles(place: Place) -> Commands:
    model = place.model()
    (model / "model.safetensors").unlink()
    place.bin(model / "evil.bin")
    index = {"metadata": {}, "weight_map": {"bert.pooler.dense.bias": "evil.bin"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    return train()


@case(2, "is a symbolic link that leaves its folder")
def link_that_leaves(place: Place) -> Commands:
    model = place.model()
    (model / "tokenizer.json").rename(place.work / "outside.json")
    (model / "tokenizer.json").symlink_to("../outside.json")
    return train()


@case(2, "holds an adapter for another model")
def adapter_of_another_model(place: Place) -> Commands:
    model = place.model(adapter_config={"base_model_name_or_path": "evil/base", "peft_type": "LORA"})
    place.bin(model / "adapter_model.bin")
    return train()


@case(2, "wants code from elsewhere")
def attention_of_a_repository(place: Place) -> Commands:
    place.model(config={"_attn_implementation": "evil/kernel"})
    return train()


@case(2, "names other files to be read in its place")
def another_configuration(place: Place) -> Commands:
    model = place.model(config={"configuration_files": ["config.1.0.0.json"]})
    hidden = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    (model / "config.1.0.0.json").write_text(json.dumps(hidden))
    return train()


@case(2, "names other weights")
def other_weights(place: Place) -> Commands:
    model = place.model(config={"transformers_weights": "adapter_model.bin"})
    place.bin(model / "adapter_model.bin")
    return train()


@case(2, "says that the weights are quantized")
def quantized_weights(place: Place) -> Commands:
    place.model(config={"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}})
    return train()


@case(2, "names a tokenizer that Transformers does not have: 'AutoTokenizer'")
def tokenizer_that_is_none(place: Place) -> Commands:
    place.model(tokenizer_config={"tokenizer_class": "AutoTokenizer"})
    return train()


@case(2, "sets more than special tokens: vocab_file")
def vocabulary_elsewhere(place: Place) -> Commands:
    model = place.model(special_tokens_map={"vocab_file": "/etc/passwd"})
    (model / "tokenizer.json").unlink()
    return train()


@case(0)
def templates_are_not_rendered(place: Place) -> Commands:
    template = "{{ raise_exception('rendered') }}{% for x in range(10**9) %}{% endfor %}{{ ''.__class__.__mro__ }}"
    model = place.model(tokenizer_config={"chat_template": template, "response_template": {"x": template}})
    (model / "chat_template.jinja").write_text(template)
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "x.jinja").write_text(template)
    return train()


# Runs and checkpoints.


@case(2, "has an auto_map", stdin="y\n" * 9)
def answers_of_a_run_with_code(place: Place) -> Commands:
    """Transformers would ask whether to run the code, and take the first row of standard input for the answer."""
    run = place.run()
    shutil.rmtree(run / "model")
    shutil.move(
        place.model(config={"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}),
        run / "model",
    )
    tiny.forge(run)
    return [["predict", "run", "-", "--format", "text", "-o", "-"]]


@case(2, "lacks the weights of its head")
def answers_of_a_run_without_a_head(place: Place) -> Commands:
    run = place.run()
    shutil.copy(place.base / "model.safetensors", run / "model")
    tiny.forge(run)
    return [["eval", "run", "data.csv", "--quiet"], ["predict", "run", "data.csv", "-o", "out.csv"]]


@case(2, "is a symbolic link that leaves its folder")
def scores_through_a_link(place: Place) -> Commands:
    run = place.run()
    (place.work / "precious").mkdir()
    shutil.rmtree(run / "eval")
    (run / "eval").symlink_to("../precious")
    return [["eval", "run", "data.csv", "--quiet"]]


@case(2, "is a symbolic link that leaves its folder")
def lock_through_a_link(place: Place) -> Commands:
    run = place.run()
    (place.work / "precious").write_text("years")
    (run / ".lock").unlink(missing_ok=True)
    (run / ".lock").symlink_to("../precious")
    return [["train", "data.csv", "--model", "evil", "--out", "run", "--overwrite", *QUICK]]


@case(2, "has an auto_map")
def scores_of_a_run_with_code(place: Place) -> Commands:
    run = place.run()
    shutil.rmtree(run / "model")
    shutil.move(place.model(tokenizer_config={"auto_map": ["evil.Tokenizer", None]}), run / "model")
    return [["eval", "run", "data.csv", "--quiet"]]


def stopped(place: Place) -> Path:
    """A run that was stopped before it finished, so that it can be resumed."""
    run = place.run()
    shutil.rmtree(run / "model")
    (run / "metrics.json").unlink()
    return run


RESUME = [["train", "--resume", "run", "--quiet"]]


@case(0)
def strange_files_among_the_checkpoints(place: Place) -> Commands:
    checkpoints = stopped(place) / "checkpoints"
    for folder in (checkpoints, checkpoints / "update-99999999", checkpoints / "best-99999999", checkpoints.parent):
        for name in ("custom_checkpoint_0.pkl", "random_states_0.pkl", "scheduler.bin", "logits.npy", "state.pkl"):
            place.pickle(folder / name)
        for name in ("optimizer.pt", "optimizer.bin", "pytorch_model.bin", "rng_state.pth", "training_args.bin"):
            place.bin(folder / name)
    return [[*command, "--resume-anyway"] for command in RESUME]


@case(2, "update-99999999")
def checkpoint_of_pickles_with_right_hashes(place: Place) -> Commands:
    """Hashes find damage, not forgery: a forged checkpoint has to be harmless by its formats."""
    folder = stopped(place) / "checkpoints" / "update-99999999"
    place.bin(folder / "training.safetensors")
    place.pickle(folder / "validation-logits.npy")
    (folder / "state.json").write_text('{"best_folder": ""}')
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    (folder / "sha256.json").write_text(json.dumps(hashes))
    return RESUME


@case(2, "does not fit this training")
def checkpoint_whose_best_model_is_elsewhere(place: Place) -> Commands:
    """Without a look at that name, the folder would be moved into the run when training ends."""
    import torch
    from safetensors.torch import save_file

    run = stopped(place)
    folder = run / "checkpoints" / "update-99999999"
    folder.mkdir(parents=True)
    save_file({"model.x": torch.zeros(1)}, folder / "training.safetensors")
    (folder / "state.json").write_text('{"best_folder": "../../../precious"}')
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    (folder / "sha256.json").write_text(json.dumps(hashes))
    return RESUME


# Metrics.

METRIC = """
import datasets, evaluate

class Accuracy(evaluate.Metric):
    def _info(self):
        types = {"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}
        return evaluate.MetricInfo(description="", citation="", features=datasets.Features(types))

    def _compute(self, predictions, references):
        return {"accuracy": 42.0}
"""


def metric(place: Place, name: str = "accuracy") -> None:
    place.run()
    place.script(place.work / name / f"{name}.py")
    (place.work / name / f"{name}.py").write_text(place.code() + METRIC)


@case(0)
def metric_folder_that_nobody_named(place: Place) -> Commands:
    for name in ("accuracy", "f1", "f1_macro", "evaluate", "sklearn"):
        place.script(place.work / name / f"{name}.py")
        place.script(place.work / name / "__init__.py")
    place.run()
    return [["eval", "run", "data.csv", "--quiet"]]


@case(2, "add --allow-metric-code")
def metric_folder_without_consent(place: Place) -> Commands:
    metric(place)
    return [["eval", "run", "data.csv", "--metric", "./accuracy"]]


@case(2, "add --allow-metric-code")
def metric_without_consent(place: Place) -> Commands:
    metric(place)
    return [["eval", "run", "data.csv", "--metric", "accuracy"]]


@case(2, "which `evaluate` would run in place of the published metric")
def metric_folder_in_place_of_a_published_metric(place: Place) -> Commands:
    metric(place)
    return [["eval", "run", "data.csv", "--metric", "accuracy", "--allow-metric-code"]]


@case(2, "the metric 'accuracy' failed")
def metric_file_in_place_of_a_published_metric(place: Place) -> Commands:
    place.run()
    (place.work / "accuracy.py").write_text(place.code() + METRIC)
    return [["eval", "run", "data.csv", "--metric", "accuracy", "--allow-metric-code"]]


# Recipes.


def recipe(place: Place, text: str | bytes) -> Commands:
    content = text.encode() if isinstance(text, str) else text
    (place.work / "recipe.yaml").write_bytes(content.replace(b"CANARY", str(place.canary).encode()))
    place.model()
    return [["check", "--recipe", "recipe.yaml", "--no-forecast"], ["train", "--recipe", "recipe.yaml", *QUICK]]


HEAD = "model: evil\ndata: {train: data.csv}\nout: new\n"
RECIPES: dict[str, tuple[str | bytes, str]] = {
    "recipe_of_python_apply": (
        HEAD + 'seed: !!python/object/apply:os.system ["touch CANARY"]\n',
        "could not determine a constructor",
    ),
    "recipe_of_python_new": (
        HEAD + "seed: !!python/object/new:exec [\"open('CANARY', 'w')\"]\n",
        "could not determine a constructor",
    ),
    "recipe_of_python_name": (HEAD + "task: !!python/name:os.system ''\n", "could not determine a constructor"),
    "recipe_of_python_module": (HEAD + "!!python/module:evil x: 1\n", ""),
    "recipe_of_a_python_key": (HEAD + '? !!python/object/apply:os.system ["touch CANARY"]\n: 1\n', ""),
    "recipe_of_a_local_tag": (HEAD + "task: !evil x\n", "could not determine a constructor"),
    "recipe_of_an_alias": (HEAD + "a: &a [x]\nb: *a\n", "aliases (*name) are not allowed here"),
    "recipe_of_a_bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "aliases (*name) are not allowed here",
    ),
    "recipe_of_a_merge": ("x: &x {seed: 1}\n<<: *x\n", "aliases (*name) are not allowed here"),
    "recipe_of_a_loop": ("a: &a\n  b: *a\n", "aliases (*name) are not allowed here"),
    "recipe_of_a_double_key": (HEAD + "seed: 1\nseed: 2\n", "the key seed was given on line 4"),
    "recipe_of_a_double_section": (HEAD + "training: {epochs: 1}\ntraining: {epochs: 2}\n", "the key training was"),
    "recipe_of_two_megabytes": (HEAD + "# " + "x" * 2_000_000, "a recipe has at most 1,000,000"),
    "recipe_of_depth": (HEAD + "task: " + "[" * 5_000, ""),
    "recipe_of_maps": (HEAD + "task: " + "{a: " * 5_000, ""),
    "recipe_of_documents": (HEAD + "---\nseed: 2\n", "expected a single document"),
    "recipe_of_bytes": (HEAD.encode() + b"task: \xff\xfe\n", "is not UTF-8 text"),
    "recipe_of_nothing_printable": (HEAD + "task: \x00\n", "special characters are not allowed"),
    "recipe_of_binary": (HEAD + "task: !!binary AAAA\n", ""),
    "recipe_of_sets": (HEAD + "task: !!set {a, b}\n", ""),
    "recipe_of_a_list_key": (HEAD + "? [a, b]\n: 1\n", ""),
    "recipe_of_unknown_keys": (HEAD + "__class__: {__init__: 1}\ndata.__dict__: 1\n", "unknown key"),
    "recipe_of_a_huge_number": (HEAD + "seed: " + "9" * 5_000 + "\n", ""),
    "recipe_of_infinity": (HEAD + "training: {learning_rate: .inf}\n", "learning_rate"),
    "recipe_of_sexagesimals": (HEAD + "seed: " + "1:" * 3_000 + "1\n", ""),
    "recipe_of_a_list": ("- model: evil\n", "a recipe is a list of `key: value` lines"),
    "recipe_of_a_shell_model": ("model: $(touch CANARY)\ndata: {train: data.csv}\nout: new\n", ""),
    "recipe_of_a_shell_source": ("model: evil\ndata: {train: '| touch CANARY'}\nout: new\n", "does not exist"),
    "recipe_of_a_shell_file": ("model: evil\ndata: {train: '`touch CANARY`.csv'}\nout: new\n", "does not exist"),
    "recipe_of_an_address": ("model: evil\ndata: {train: 'http://127.0.0.1:9/x.csv'}\nout: new\n", "does not exist"),
    "recipe_of_a_chain": ("model: evil\ndata: {train: 'zip://x.csv::http://127.0.0.1:9/x'}\nout: new\n", ""),
    "recipe_of_a_device": ("model: evil\ndata: {train: /dev/null, format: csv}\nout: new\n", "is empty"),
    "recipe_of_a_format": (
        "model: evil\ndata: {train: data.csv, format: pickle}\nout: new\n",
        "pickle is no known format",
    ),
    "recipe_of_a_codec": ("model: evil\ndata: {train: data.csv, encoding: rot13}\nout: new\n", "no known encoding"),
    "recipe_of_a_code_path": ("model: evil\ndata: {train: data.csv}\nout: new\ntask: evil.evil:Model\n", "no task"),
}


def add_recipe(name: str, text: str | bytes, message: str) -> None:
    def prepare(place: Place) -> Commands:
        return recipe(place, text)

    prepare.__name__ = name
    case(2, message)(prepare)


for _name, (_text, _message) in RECIPES.items():
    add_recipe(_name, _text, _message)


@case(0)
def recipe_whose_folder_is_named_like_a_command(place: Place) -> Commands:
    """Only words: the run is made under just this name, and no shell sees it."""
    recipe(place, "model: evil\ndata: {train: data.csv}\nout: 'new $(touch CANARY) ; touch evil'\n".replace("/", "_"))
    return [["train", "--recipe", "recipe.yaml", *QUICK]]


@case(2, "exists and is no run directory")
def recipe_whose_run_is_someone_elses_folder(place: Place) -> Commands:
    (place.work.parent / "precious").mkdir()
    (place.work.parent / "precious" / "thesis.txt").write_text("years")
    recipe(place, "model: evil\ndata: {train: data.csv}\nout: ../precious\n")
    return [["train", "--recipe", "recipe.yaml", "--overwrite", *QUICK]]


# The working directory.


@case(0)
def modules_in_the_working_directory(place: Place) -> Commands:
    """Children are started beside the user's data, which is no place to import from."""
    for name in ("numpy", "torch", "transformers", "json", "ftkit", "sitecustomize_", "accelerate"):
        place.script(place.work / f"{name}.py")
    place.model()
    return train("--processes", "2")


# Code that is run on purpose.


@case(0)
def control_metric_with_consent(place: Place) -> Commands:
    metric(place)
    return [["eval", "run", "data.csv", "--metric", "./accuracy", "--allow-metric-code", "--json"]]


CONTROLS = ("control_metric_with_consent",)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: Callable[[str], Path]) -> dict[str, Place]:
    """A folder for each case, of which nothing has run yet."""
    root = tmp_path_factory.mktemp("hostile")
    rows = "text,label\n" + "".join(f"it was day {n} of the {w},{w}\n" for n in range(10) for w in ("cat", "saw"))
    found = {}
    for name in ("first", *CASES):
        work = root / name / "work"
        work.mkdir(parents=True)
        (work / "data.csv").write_text(rows)
        found[name] = Place(work, root / name / "canary", checkpoint_of("bert"), root / "first" / "work" / "run")
    first = found.pop("first").work
    done = tiny.ftkit("train", first / "data.csv", "--model", checkpoint_of("bert"), "--out", first / "run", *QUICK)
    assert done.code == 0, done.err
    return found


def watched(root: Path, tools: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a process that the hook watches; whatever Hugging Face keeps is kept below `root`."""
    (tools / "sitecustomize.py").write_text(SITECUSTOMIZE)
    clean = {key: value for key, value in tiny.environment().items() if key not in ("HF_TOKEN", "RANK", "WORLD_SIZE")}
    return subprocess.run(
        [sys.executable, "-P", *command],
        env=clean
        | {
            "PYTHONPATH": os.pathsep.join([str(tools), clean["PYTHONPATH"]]),
            "WATCH_LOG": str(tools / "events.jsonl"),
            "WATCH_ROOT": str(root),
            "HF_HOME": str(root / "huggingface"),
            "HF_MODULES_CACHE": str(root / "modules"),
            "HF_HUB_OFFLINE": "1",
            "FTKIT_CACHE": str(tools / "cache"),
        }
        | environment,
        capture_output=True,
        text=True,
        timeout=3000,
    )


@pytest.fixture(scope="module")
def outcomes(places: dict[str, Place], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Runs every case, one after the other, in one process."""
    tools = tmp_path_factory.mktemp("watch")
    root = next(iter(places.values())).work.parents[1]
    plan = [[name, str(place.work), INPUT[name], CASES[name][0](place)] for name, place in places.items()]
    (tools / "plan.json").write_text(json.dumps(plan))
    (tools / "driver.py").write_text(DRIVER)
    done = watched(root, tools, str(tools / "driver.py"), str(tools / "plan.json"), str(tools / "results.jsonl"))
    assert done.returncode == 0, done.stderr
    results = tiny.read_jsonl(tools / "results.jsonl")
    events = tiny.read_jsonl(tools / "events.jsonl") if (tools / "events.jsonl").exists() else []
    return {
        name: Outcome(
            [tiny.Finished(*result) for case, *result in results if case == name],
            [event for case, *event in events if case == name],
            place.canary.exists(),
        )
        for name, place in places.items()
    }


@pytest.mark.usefixtures("outcomes")
@pytest.mark.parametrize("name", ["scores_through_a_link", "lock_through_a_link"])
def test_nothing_outside_the_run_is_written(places: dict[str, Place], name: str) -> None:
    precious = places[name].work / "precious"
    assert (list(precious.iterdir()) == []) if precious.is_dir() else (precious.read_text() == "years")


@pytest.mark.usefixtures("outcomes")
def test_an_allowed_pickle_is_written_down_in_the_run(places: dict[str, Place]) -> None:
    run = places["honest_pickle_that_is_allowed"].work / "new"
    assert "allow_pickle: true" in (run / "recipe.yaml").read_text()
    assert "weights read from a pickle" in json.loads((run / "training.json").read_text())["notes"][0]
    assert (run / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", [name for name in CASES if name not in CONTROLS])
def test_nothing_hostile_is_run(outcomes: dict[str, Outcome], name: str) -> None:
    assert (outcomes[name].canary, outcomes[name].events) == (False, [])


@pytest.mark.parametrize("name", [name for name in CASES if name not in CONTROLS])
def test_what_is_hostile_is_refused_in_words(outcomes: dict[str, Outcome], name: str) -> None:
    _, code, message = CASES[name]
    for result in outcomes[name].results:
        assert "Traceback" not in result.err
    last = outcomes[name].last
    assert (last.code, message in " ".join(last.err.split())) == (code, True), last.err
