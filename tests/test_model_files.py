"""Model folders that ask for more than to be loaded are refused by name, and plain ones are not.

Where a rule rests on what Transformers does with a file, a test shows Transformers doing it: if that one fails
after an update, the rule may go.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftkit import model_files
from ftkit.errors import UserError

BERT = {"model_type": "bert"}


def write(folder: Path, **files: Any) -> Path:
    """Files by their names without suffix: bytes as NAME.safetensors, everything else as NAME.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / f"{name}.safetensors").write_bytes(content)
        else:
            (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "model", config=BERT, model=b"weights")


def refusal(folder: Path, **arguments: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        model_files.inspect(folder, **arguments)
    return caught.value


# Plain models.


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "distilbert", "gpt2", "t5", "llama"])
def test_the_models_of_every_family_pass(checkpoint_of: Callable[[str], Path], family: str) -> None:
    model_files.inspect(checkpoint_of(family))


def test_a_marian_model_passes(tmp_path: Path) -> None:
    from tests import tiny

    model_files.inspect(tiny.checkpoint(tmp_path / "marian", "marian"))


PLAIN: dict[str, dict[str, Any]] = {
    "empty values": {"config": BERT | {"auto_map": {}, "quantization_config": None, "transformers_weights": None}},
    "attention by name": {"config": BERT | {"_attn_implementation": "flash_attention_2"}},
    "its own weights by name": {"config": BERT | {"transformers_weights": "model.safetensors"}},
    "old paths of the tokenizer": {
        "tokenizer_config": {"tokenizer_file": "/old/tokenizer.json", "special_tokens_map_file": "/old/x.json"}
    },
    "special tokens": {"special_tokens_map": {"pad_token": "[PAD]", "additional_special_tokens": ["<a>"]}},
    "a fast tokenizer": {"tokenizer_config": {"tokenizer_class": "XLMRobertaTokenizerFast"}},
    "a class of the past": {"tokenizer_config": {"tokenizer_class": "BloomTokenizerFast"}},
    "versions of the tokenizer": {"tokenizer_config": {"fast_tokenizer_files": ["tokenizer.4.0.json"]}},
    "an index that is not read": {"model.safetensors.index": {"weight_map": {"w": "gone.safetensors"}}},
}


@pytest.mark.parametrize("case", PLAIN)
def test_a_plain_folder_passes(model: Path, case: str) -> None:
    model_files.inspect(write(model, **PLAIN[case]))


# Hostile configurations.

ELSEWHERE = "wants the vocabulary to be read from elsewhere: "
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "code in the model": ({"config": BERT | {"auto_map": {"AutoModel": "evil.Model"}}}, "config.json has an auto_map"),
    "code in the tokenizer": (
        {"tokenizer_config": {"auto_map": {"AutoTokenizer": ["evil.T", None]}}},
        "tokenizer_config.json has an auto_map",
    ),
    "code in the old form": ({"tokenizer_config": {"auto_map": ["evil.T", None]}}, "tokenizer_config.json has an auto"),
    "code for generation": ({"generation_config": {"auto_map": {"x": "evil.G"}}}, "generation_config.json has an auto"),
    "code in a processor": ({"processor_config": {"auto_map": {"x": "evil.P"}}}, "processor_config.json has an auto"),
    "code in a part": ({"config": BERT | {"text_config": {"auto_map": {"AutoModel": "e.M"}}}}, "has an auto_map"),
    "code in a list": ({"config": BERT | {"parts": [[{"auto_map": {"AutoModel": "e.M"}}]]}}, "has an auto_map"),
    "a pipeline": ({"config": BERT | {"custom_pipelines": {"x": {"impl": "evil.P"}}}}, "has custom_pipelines"),
    "a kernel": ({"config": BERT | {"_attn_implementation": "evil/kernel"}}, "_attn_implementation is evil/kernel"),
    "a kernel for a part": ({"config": BERT | {"attn_implementation": {"x": "evil/k:f"}}}, "code from elsewhere"),
    "a kernel deep down": ({"config": BERT | {"attn_implementation": {"": {"x": "evil/k"}}}}, "code from elsewhere"),
    "a kernel for experts": ({"config": BERT | {"_experts_implementation": "evil/k"}}, "code from elsewhere"),
    "quantized weights": (
        {"config": BERT | {"quantization_config": {"quant_method": "awq"}}},
        "says that the weights are quantized (awq)",
    ),
    "a quantized part": (
        {"config": BERT | {"text_config": {"quantization_config": "evil"}}},
        "says that the weights are quantized (evil)",
    ),
    "another configuration": (
        {"config": BERT | {"configuration_files": ["config.1.0.0.json"]}},
        "names other files to be read in its place: configuration_files",
    ),
    "other weights": (
        {"config": BERT | {"transformers_weights": "adapter_model.bin"}},
        "names other weights: transformers_weights is 'adapter_model.bin'",
    ),
    "no architecture": ({"config": {"hidden_size": 1}}, "config.json has no model_type"),
    "a number for an architecture": ({"config": {"model_type": 5}}, "has a model_type that is no name: 5"),
    "a list for an architecture": ({"config": {"model_type": ["bert"]}}, "has a model_type that is no name: ['bert']"),
    "a list for a configuration": ({"config": [{"auto_map": {}}]}, "config.json is no JSON object"),
    "text for a tokenizer": ({"tokenizer_config": "evil"}, "tokenizer_config.json is no JSON object"),
    "an adapter": (
        {"adapter_config": {"base_model_name_or_path": "evil/base"}},
        "holds an adapter for another model (evil/base)",
    ),
    "a vocabulary elsewhere": ({"tokenizer_config": {"vocab": "/etc/passwd"}}, f"{ELSEWHERE}vocab is /etc/passwd"),
    "merges elsewhere": ({"tokenizer_config": {"merges": "../merges.txt"}}, f"{ELSEWHERE}merges is ../merges.txt"),
    "a GGUF elsewhere": ({"tokenizer_config": {"gguf_file": "../x.gguf"}}, f"{ELSEWHERE}gguf_file is ../x.gguf"),
    "arguments": ({"tokenizer_config": {"init_inputs": ["/etc/passwd"]}}, f"{ELSEWHERE}init_inputs is ['/etc/passwd']"),
    "a tokenizer elsewhere": (
        {"tokenizer_config": {"fast_tokenizer_files": ["../x/tokenizer.1.0.0.json"]}},
        f"{ELSEWHERE}fast_tokenizer_files is ['../x/tokenizer.1.0.0.json']",
    ),
    "pieces elsewhere": (
        {"tokenizer_config": {"sp_model_kwargs": {"model_file": "/evil.model"}}},
        f"{ELSEWHERE}model_file is /evil.model",
    ),
    "special tokens elsewhere": (
        {"special_tokens_map": {"pad_token": "[PAD]", "vocab_file": "/etc/passwd"}},
        "special_tokens_map.json sets more than special tokens: vocab_file",
    ),
    "a model for a tokenizer": (
        {"tokenizer_config": {"tokenizer_class": "AutoModel"}},
        "names a tokenizer that Transformers does not have: 'AutoModel'",
    ),
    "a tokenizer of tokenizers": (
        {"tokenizer_config": {"tokenizer_class": "AutoTokenizer"}},
        "names a tokenizer that Transformers does not have: 'AutoTokenizer'",
    ),
    "a path for a tokenizer": (
        {"config": BERT | {"tokenizer_class": "evil.module.Tokenizer"}},
        "config.json names a tokenizer that Transformers does not have: 'evil.module.Tokenizer'",
    ),
    "a number for a tokenizer": (
        {"tokenizer_config": {"tokenizer_class": 5}},
        "names a tokenizer that Transformers does not have: 5",
    ),
    "an unknown tokenizer": (
        {"tokenizer_config": {"tokenizer_class": "EvilTokenizer"}},
        "names a tokenizer that Transformers does not have: 'EvilTokenizer'",
    ),
    "parts of another checkpoint": (
        {"shard-00000-model-00001-of-00001": b"other"},
        "shard-00000-model-00001-of-00001.safetensors is a part of a distributed checkpoint",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_configuration_is_refused_by_name(model: Path, case: str) -> None:
    files, message = HOSTILE[case]
    error = refusal(write(model, **files))
    assert message in error.problem
    assert str(model) in error.problem


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b'{"a": ' * 100_000, b" " * 10_000_001])
def test_a_configuration_that_cannot_be_read_is_refused(model: Path, content: bytes) -> None:
    (model / "config.json").write_bytes(content)
    assert "config.json cannot be read as JSON" in refusal(model).problem or "is too large" in refusal(model).problem


def test_a_folder_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, model=b"x")).problem.endswith("has no config.json: it is no model for Transformers")


# Weights.

INDEXES: dict[str, tuple[Any, str]] = {
    "that leaves": ({"w": "../other.safetensors"}, "names a file outside its folder: ../other.safetensors"),
    "that leaves and returns": ({"w": "sub/../../x.safetensors"}, "names a file outside its folder"),
    "into the root": ({"w": "/other.safetensors"}, "names a file outside its folder: /other.safetensors"),
    "of Windows": ({"w": "..\\other.safetensors"}, "names a file outside its folder"),
    "of a pickle": ({"w": "evil.bin"}, "names a file that is not of its kind (.safetensors): evil.bin"),
    "of nothing": ({"w": "model-2.safetensors"}, "names model-2.safetensors, which is missing"),
    "without a map": (["w"], "has no weight_map from tensors to files"),
    "of numbers": ({"w": 5}, "has no weight_map from tensors to files"),
}


@pytest.mark.parametrize("case", INDEXES)
def test_a_hostile_index_is_refused(tmp_path: Path, case: str) -> None:
    shards, message = INDEXES[case]
    write(tmp_path, other=b"other")
    model = write(tmp_path / "model", config=BERT, **{"model.safetensors.index": {"weight_map": shards}})
    (model / "evil.bin").write_bytes(b"\x80")
    assert message in refusal(model).problem


def test_an_index_of_files_in_the_folder_passes(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "one.safetensors", "b": "part/two.safetensors"}}
    model = write(tmp_path, config=BERT, one=b"1", **{"model.safetensors.index": index})
    write(model / "part", two=b"2")
    model_files.inspect(model)


def pickles(folder: Path, *names: str) -> Path:
    write(folder, config=BERT)
    for name in names:
        (folder / name).write_bytes(b"\x80")
    return folder


def test_pickles_alone_are_refused_with_their_risk_and_the_flag(tmp_path: Path) -> None:
    error = refusal(pickles(tmp_path, "pytorch_model.bin"))
    assert error.problem == (
        f"{tmp_path} has its weights only as pytorch_model.bin: a pickle, which can run code when it is loaded; "
        "ftkit reads model.safetensors"
    )
    assert "--allow-pickle reads it, with PyTorch's weights_only" in error.remedy
    assert "--revision refs/pr/NUMBER" in error.remedy


def test_pickles_alone_pass_once_they_are_allowed(tmp_path: Path) -> None:
    model_files.inspect(pickles(tmp_path, "pytorch_model.bin"), allow_pickle=True)
    assert model_files.pickled(tmp_path)


def test_pickles_beside_safetensors_are_not_what_is_read(model: Path) -> None:
    pickles(model, "pytorch_model.bin", "training_args.bin", "optimizer.pt")
    model_files.inspect(model)
    assert not model_files.pickled(model)


def test_an_index_of_pickles_is_checked_too(tmp_path: Path) -> None:
    pickles(tmp_path, "one.bin")
    write(tmp_path, **{"pytorch_model.bin.index": {"weight_map": {"a": "one.bin"}}})
    model_files.inspect(tmp_path, allow_pickle=True)
    write(tmp_path, **{"pytorch_model.bin.index": {"weight_map": {"a": "../one.bin"}}})
    assert "names a file outside its folder: ../one.bin" in refusal(tmp_path, allow_pickle=True).problem


@pytest.mark.parametrize("allow_pickle", [False, True])
@pytest.mark.parametrize("name", ["tf_model.h5", "flax_model.msgpack", "model.gguf", "model.onnx"])
def test_other_weights_are_named(tmp_path: Path, name: str, allow_pickle: bool) -> None:
    error = refusal(pickles(tmp_path, name), allow_pickle=allow_pickle)
    assert error.problem == f"{tmp_path} has its weights only as {name}; ftkit reads model.safetensors"
    assert "--allow-pickle" not in error.remedy


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, config=BERT)).problem.endswith("has no weights: there is no model.safetensors")


# Links.


@pytest.mark.parametrize("place", [".", "additional_chat_templates", "part"])
def test_a_link_out_of_the_folder_is_refused(model: Path, place: str) -> None:
    (model.parent / "secret").write_text("{}")
    (model / place).mkdir(exist_ok=True)
    (model / place / "tokenizer.json").symlink_to(model.parent / "secret")
    problem = refusal(model).problem
    assert "tokenizer.json is a symbolic link that leaves its folder, to " in problem
    assert problem.endswith("/secret")


def test_links_inside_the_folder_and_to_the_folder_pass(model: Path) -> None:
    (model / "tokenizer.json").symlink_to("config.json")
    (model.parent / "alias").symlink_to(model)
    model_files.inspect(model.parent / "alias")


def cached(folder: Path, repository: str) -> Path:
    """A snapshot as the hub's cache lays it out."""
    snapshot, blobs = folder / repository / "snapshots" / "0123", folder / repository / "blobs"
    snapshot.mkdir(parents=True)
    write(blobs, config=BERT, model=b"weights")
    (snapshot / "config.json").symlink_to("../../blobs/config.json")
    (snapshot / "model.safetensors").symlink_to("../../blobs/model.safetensors")
    return snapshot


def test_a_snapshot_of_the_hub_links_to_its_own_blobs(tmp_path: Path) -> None:
    model_files.inspect(cached(tmp_path, "models--me--bert"))


@pytest.mark.parametrize("target", ["../../../models--me--other/blobs/x", "../../refs/main", "../../../../secret"])
def test_a_snapshot_that_links_elsewhere_is_refused(tmp_path: Path, target: str) -> None:
    snapshot = cached(tmp_path / "hub", "models--me--bert")
    (snapshot / "tokenizer.json").symlink_to(target)
    assert "is a symbolic link that leaves its folder" in refusal(snapshot).problem


def test_a_folder_that_only_looks_like_a_snapshot_is_held_to_its_files(tmp_path: Path) -> None:
    assert "is a symbolic link that leaves its folder" in refusal(cached(tmp_path, "home")).problem


def test_a_pipe_is_refused_before_anything_waits_for_it(model: Path) -> None:
    os.mkfifo(model / "tokenizer.json")
    assert refusal(model).problem.endswith("tokenizer.json is neither a file nor a folder")


def test_links_of_any_folder_can_be_refused(tmp_path: Path) -> None:
    (tmp_path / "run" / "eval").mkdir(parents=True)
    model_files.refuse_links(tmp_path / "run")
    (tmp_path / "run" / "eval" / "log").symlink_to(tmp_path / "precious")  # which need not be there
    with pytest.raises(UserError, match="log is a symbolic link that leaves its folder"):
        model_files.refuse_links(tmp_path / "run")


# What Transformers does with such folders: why the rules are there.


@pytest.fixture
def bert(tmp_path: Path, checkpoint_of: Callable[[str], Path]) -> Path:
    """A copy of the tiny model, beside a vocabulary that is not its own."""
    (tmp_path / "stolen.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nstolen\n")
    return Path(shutil.copytree(checkpoint_of("bert"), tmp_path / "bert"))


@pytest.mark.parametrize(("file", "key"), [("tokenizer_config", "vocab"), ("special_tokens_map", "vocab_file")])
def test_why_transformers_reads_vocabularies_outside_the_folder(bert: Path, file: str, key: str) -> None:
    from transformers import AutoTokenizer

    (bert / "tokenizer.json").unlink()
    path = bert / f"{file}.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    write(bert, **{file: content | {key: str(bert.parent / "stolen.txt")}})
    assert "stolen" in AutoTokenizer.from_pretrained(bert).get_vocab()
    assert "stolen.txt" in refusal(bert).problem or "vocab_file" in refusal(bert).problem


def test_why_transformers_takes_any_of_its_classes_for_a_tokenizer(bert: Path) -> None:
    from transformers import AutoTokenizer, BertModel

    content = json.loads((bert / "tokenizer_config.json").read_text())
    write(bert, tokenizer_config=content | {"tokenizer_class": "AutoModel"})
    assert isinstance(AutoTokenizer.from_pretrained(bert), BertModel)


def test_why_transformers_reads_parts_of_a_distributed_checkpoint_too(bert: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForMaskedLM

    weights = AutoModelForMaskedLM.from_pretrained(bert).state_dict()
    others = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    save_file(others, bert / "shard-00000-model-00001-of-00001.safetensors")
    (bert / "model.safetensors").unlink()
    loaded = AutoModelForMaskedLM.from_pretrained(bert).state_dict()
    assert {weight.abs().sum().item() for weight in loaded.values()} == {0}


def test_why_transformers_follows_an_index_out_of_the_folder(bert: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForMaskedLM

    tensors = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").rename(bert.parent / "outside.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, "../outside.safetensors")}
    write(bert, **{"model.safetensors.index": index})
    _, info = AutoModelForMaskedLM.from_pretrained(bert, output_loading_info=True)
    assert not info["missing_keys"]
