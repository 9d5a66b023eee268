"""What a model folder may ask for: looked at before Transformers sees it.

A configuration can make Transformers run code, read files elsewhere, or load other weights than those that
lie in the folder. The rules below come from the source of Transformers 5.23, which reads these keys in
`from_pretrained`. What they say no to is refused by name; nothing is mended in silence.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ftkit.errors import UserError

CONFIGS = (
    "config.json",
    "tokenizer_config.json",
    "generation_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
)
SAFE, SAFE_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".gguf", ".onnx")
# By such a name Transformers knows a distributed checkpoint, and then reads every safetensors file of the folder.
RANK_SHARD = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
MAX_CONFIG_BYTES = 10_000_000
BACKENDS = {"TokenizersBackend", "PythonBackend", "SentencePieceBackend", "PreTrainedTokenizerFast"}
REMOVED = {"BloomTokenizer", "BloomTokenizerFast"}  # read as TokenizersBackend by Transformers
NO_CODE = "ftkit runs no code from models; choose a model that Transformers itself knows"
OWN_FILES = "A model has to be complete in its folder: copy the file there and take the line out, if you trust it"


def inspect(folder: Path, allow_pickle: bool = False) -> None:
    """Refuses a model folder that is not safe to load.

    Args:
        allow_pickle: whether weights may be read from pytorch_model.bin where there are no safetensors.

    Raises:
        UserError: naming the file, what was found in it, and the way on.
    """
    _check_entries(folder)
    if (folder / "adapter_config.json").is_file():
        base = read_object(folder / "adapter_config.json").get("base_model_name_or_path")
        raise UserError(
            f"{folder} holds an adapter for another model ({base}), not a model of its own",
            "Merge it first (PEFT: model.merge_and_unload().save_pretrained(FOLDER)) and name that folder",
        )
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json: it is no model for Transformers")
    configs = {name: read_object(folder / name) for name in CONFIGS if (folder / name).is_file()}
    for name, content in configs.items():
        for key, value in _entries(content):
            _check_entry(folder / name, key, value)
    _check_model_config(folder / "config.json", configs["config.json"])
    _check_tokenizer_config(folder / "tokenizer_config.json", configs.get("tokenizer_config.json", {}))
    strange = [key for key in configs.get("special_tokens_map.json", {}) if not key.endswith(("_token", "_tokens"))]
    if strange:  # Transformers would pass them on to the tokenizer, paths of vocabularies among them
        raise UserError(f"{folder / 'special_tokens_map.json'} sets more than special tokens: {strange[0]}", OWN_FILES)
    _check_weights(folder, allow_pickle)
    _check_tokenizer_class(folder, configs)


def pickled(folder: Path) -> bool:
    """Whether a model folder has no safetensors, so that only pickles can hold its weights."""
    return not (folder / SAFE).is_file() and not (folder / SAFE_INDEX).is_file()


def read_object(path: Path) -> dict[str, Any]:
    """The content of a small JSON file that has to be an object.

    Raises:
        UserError: it is too large, cannot be read, or is something else.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise UserError(f"{path} is too large for a configuration ({path.stat().st_size:,} bytes)")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is no JSON object")
    return content


def refuse_links(folder: Path, *others: Path) -> None:
    """Refuses a folder in which, at any depth, a symbolic link leads out of it, unless into `others`.

    Raises:
        UserError: naming the link and where it leads.
    """
    places = [folder.resolve(), *others]
    for path in folder.rglob("*"):
        target = path.resolve()
        if path.is_symlink() and not any(target.is_relative_to(place) for place in places):
            raise UserError(
                f"{path} is a symbolic link that leaves its folder, to {target}",
                "Put a copy of the file in its place, if you trust it",
            )


def _check_entries(folder: Path) -> None:
    """Links stay inside, in the hub's cache among the blobs of their own repository; pipes and devices are none."""
    root = folder.resolve()
    cached = root.parent.name == "snapshots" and root.parent.parent.name.startswith("models--")
    refuse_links(folder, *([root.parent.parent / "blobs"] if cached else []))
    for path in folder.iterdir():
        if not path.is_file() and not path.is_dir():
            raise UserError(f"{path} is neither a file nor a folder", "Copy the whole model again")


def _check_entry(path: Path, key: str, value: Any) -> None:
    """One key of a configuration, at any depth."""
    if key == "auto_map" and value:
        raise UserError(f"{path} has an auto_map: the model wants to run Python code of its own", NO_CODE)
    if key == "custom_pipelines" and value:
        raise UserError(f"{path} has custom_pipelines: the model wants to run Python code of its own", NO_CODE)
    choices = value.values() if isinstance(value, dict) else [value]
    if "_implementation" in key and any("/" in str(choice) for choice in choices):
        raise UserError(
            f"{path} wants code from elsewhere: {key} is {value}",
            "Remove that line, if you trust the rest: ftkit chooses the implementation itself",
        )
    if key in ("quantization_config", "compression_config") and value:
        kind = value.get("quant_method") if isinstance(value, dict) else value
        raise UserError(
            f"{path} says that the weights are quantized ({kind or key})",
            "Choose the same model in full precision: fine-tuning changes the weights",
        )


def _check_model_config(path: Path, config: dict[str, Any]) -> None:
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        found = "has no model_type" if kind is None else f"has a model_type that is no name: {kind!r}"
        raise UserError(f"{path} {found}", 'It says which architecture the model has: "model_type": "bert"')
    if "configuration_files" in config:
        raise UserError(f"{path} names other files to be read in its place: configuration_files", OWN_FILES)
    weights = config.get("transformers_weights")
    if weights not in (None, SAFE):
        raise UserError(
            f"{path} names other weights: transformers_weights is {weights!r}",
            f"Take the line out, and rename the file to {SAFE}, if that is the model that you mean",
        )


def _check_tokenizer_config(path: Path, config: dict[str, Any]) -> None:
    """The arguments of a tokenizer that name files."""
    options = config.get("sp_model_kwargs")
    named = {key: config[key] for key in ("vocab", "merges") if isinstance(config.get(key), str)}
    named |= {key: config[key] for key in ("gguf_file", "init_inputs") if config.get(key)}
    named |= {
        key: options[key] for key in ("model_file", "model_proto") if isinstance(options, dict) and key in options
    }
    files = config.get("fast_tokenizer_files") or []
    if not isinstance(files, list) or any(not isinstance(file, str) or Path(file).name != file for file in files):
        named["fast_tokenizer_files"] = files
    for key, value in named.items():
        raise UserError(
            f"{path} wants the vocabulary to be read from elsewhere: {key} is {str(value)[:200]}", OWN_FILES
        )


def _check_tokenizer_class(folder: Path, configs: dict[str, dict[str, Any]]) -> None:
    """Transformers would take any of its public names for a tokenizer, and another class for an unknown one."""
    for file in ("config.json", "tokenizer_config.json"):
        name = configs.get(file, {}).get("tokenizer_class")
        if name is not None and not (isinstance(name, str) and _is_tokenizer(name)):
            raise UserError(f"{folder / file} names a tokenizer that Transformers does not have: {name!r}", NO_CODE)


def _is_tokenizer(name: str) -> bool:
    if name in BACKENDS | REMOVED:
        return True
    if not re.fullmatch(r"\w+Tokenizer(Fast)?", name) or name in ("AutoTokenizer", "RagTokenizer"):
        return False
    import transformers

    return hasattr(transformers, name) or hasattr(transformers, name.removesuffix("Fast"))


def _check_weights(folder: Path, allow_pickle: bool) -> None:
    shard = next((path for path in sorted(folder.iterdir()) if RANK_SHARD.match(path.name)), None)
    if shard is not None:
        raise UserError(
            f"{shard} is a part of a distributed checkpoint, which Transformers would mix with the model's weights",
            "Save the model as a whole: model.save_pretrained(FOLDER)",
        )
    if (folder / SAFE).is_file():
        return
    if (folder / SAFE_INDEX).is_file():
        _check_index(folder, SAFE_INDEX, ".safetensors")
    elif not allow_pickle or not ((folder / PICKLE).is_file() or (folder / PICKLE_INDEX).is_file()):
        raise _no_safetensors(folder)
    elif not (folder / PICKLE).is_file():
        _check_index(folder, PICKLE_INDEX, ".bin")


def _check_index(folder: Path, name: str, suffix: str) -> None:
    """Every file that an index of weights names is there, in the folder, and of the index's kind."""
    index = folder / name
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise UserError(f"{index} has no weight_map from tensors to files")
    for shard in sorted(set(shards.values())):
        if shard.startswith("/") or "\\" in shard or ".." in PurePosixPath(shard).parts:
            raise UserError(f"{index} names a file outside its folder: {shard}")
        if not shard.endswith(suffix):
            raise UserError(f"{index} names a file that is not of its kind ({suffix}): {shard}")
        if not (folder / shard).is_file():
            raise UserError(f"{index} names {shard}, which is missing", "Copy the whole model again")


def _no_safetensors(folder: Path) -> UserError:
    others = [name for name in _names(folder) if name.endswith(OTHER_WEIGHTS)]
    if not others:
        return UserError(f"{folder} has no weights: there is no {SAFE}")
    if not any(name.endswith(".bin") for name in others):
        return UserError(
            f"{folder} has its weights only as {', '.join(others[:3])}; ftkit reads {SAFE}",
            f"Convert a copy where you trust it, so that there is a {SAFE}",
        )
    return UserError(
        f"{folder} has its weights only as {', '.join(others[:3])}: a pickle, which can run code when it is loaded; "
        f"ftkit reads {SAFE}",
        "huggingface.co/spaces/safetensors/convert opens a pull request with safe weights, then: --revision "
        "refs/pr/NUMBER. If you trust the file, --allow-pickle reads it, with PyTorch's weights_only, which lets "
        "no code through as far as is known",
    )


def _names(folder: Path) -> list[str]:
    """The names of a model's files, with those of its repository on the hub that were not downloaded."""
    here = sorted(path.name for path in folder.iterdir())
    owner, *name = folder.parent.parent.name.removeprefix("models--").split("--")
    if folder.parent.name != "snapshots" or not owner:
        return here
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, HFValidationError

    with contextlib.suppress(CachedRepoTreeNotFoundError, HFValidationError):
        return sorted(file.path for file in get_cached_repo_tree("/".join([owner, *name]), revision=folder.name))
    return here


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a JSON value with what stands under it, at any depth."""
    pending = [value]
    while pending:
        inner = pending.pop()
        if isinstance(inner, dict):
            yield from inner.items()
            pending.extend(inner.values())
        elif isinstance(inner, list):
            pending.extend(inner)
