"""Translation through the command line: train, eval and predict, with models of every family."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.tiny import FP32, ftkit, pairs, read_jsonl, write_csv

CheckpointOf = Callable[[str], Path]
FAMILIES = ("t5", "marian", "bart", "gpt2", "bert", "albert")
AUTO = {
    "t5": "AutoModelForSeq2SeqLM",
    "marian": "AutoModelForSeq2SeqLM",
    "bart": "AutoModelForSeq2SeqLM",
    "gpt2": "AutoModelForCausalLM",
    "bert": "AutoModelForSeq2SeqLM",
    "albert": "AutoModelForSeq2SeqLM",
}
LEARN = (*FP32, "--batch-size", "16", "--learning-rate", "5e-3", "--set", "training.dropout=0", "--set", "text.beams=1")


def only(rows: list[dict[str, Any]], *columns: str) -> list[dict[str, Any]]:
    return [{column: row[column] for column in columns} for row in rows]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_csv(folder / "train.csv", only(pairs(320, seed=1), "en", "de"))
    write_csv(folder / "test.csv", only(pairs(40, seed=2), "en", "de"))
    write_csv(folder / "many.csv", pairs(320, seed=1))
    (folder / "new.en").write_text("".join(row["en"] + "\n" for row in pairs(12, seed=3)) + "\n")
    return folder


@pytest.fixture(scope="module")
def learned(
    tmp_path_factory: pytest.TempPathFactory, checkpoint_of: CheckpointOf, data: Path
) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    found: dict[str, tuple[Path, dict[str, Any]]] = {}

    def run(family: str) -> tuple[Path, dict[str, Any]]:
        if family not in found:
            out = tmp_path_factory.mktemp(family) / "run"
            arguments = ("--model", checkpoint_of(family), "--out", out, "--epochs", "6", *LEARN, "--json")
            done = ftkit("train", data / "train.csv", *arguments)
            assert done.code == 0, done.err
            found[family] = out, done.json
        return found[family]

    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_to_translate(
    learned: Callable[[str], tuple[Path, dict[str, Any]]], data: Path, family: str
) -> None:
    run, _ = learned(family)
    done = ftkit("eval", run, data / "test.csv", *FP32, "--json")
    assert done.code == 0, done.err
    scores = done.json["scores"]
    assert {"bleu", "chrf2pp", "ter", "accuracy", "precision", "recall", "f1"} == set(scores)
    assert scores["f1"]["value"] > 0.5
    copied = done.json["baselines"]["copy"]
    assert scores["chrf2pp"]["value"] > copied["scores"]["chrf2pp"]["value"]
    assert len(read_jsonl(Path(done.json["folder"]) / "predictions.jsonl")) == 40


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_plain_transformers(learned: Callable[[str], tuple[Path, dict[str, Any]]], family: str) -> None:
    import transformers

    run, _ = learned(family)
    model = getattr(transformers, AUTO[family]).from_pretrained(run / "model")
    assert model.config.to_dict().get("ftkit_untrained") is None
    card = (run / "README.md").read_text()
    assert AUTO[family] in card


@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_a_row_alone_is_translated_as_in_a_batch(
    learned: Callable[[str], tuple[Path, dict[str, Any]]], data: Path, tmp_path: Path, family: str
) -> None:
    run, _ = learned(family)
    rows = only(pairs(16, seed=5), "en")
    together = write_csv(tmp_path / "all.csv", rows)
    assert ftkit("predict", run, together, "-o", tmp_path / "all.jsonl", *FP32).code == 0
    answers = [row["de"] for row in read_jsonl(tmp_path / "all.jsonl")]
    alone = [ftkit("predict", run, "--text", row["en"], *FP32).out.rstrip("\n") for row in rows]
    assert alone == answers


def test_a_line_file_comes_out_line_by_line(
    learned: Callable[[str], tuple[Path, dict[str, Any]]], data: Path, tmp_path: Path
) -> None:
    run, _ = learned("t5")
    done = ftkit("predict", run, data / "new.en", "-o", tmp_path / "new.de", *FP32)
    assert done.code == 0, done.err
    lines = (tmp_path / "new.de").read_text().split("\n")
    assert len(lines) == 14 and lines[12:] == ["", ""]  # 12 lines, an empty one, and the end of the file
    assert "1 could not be answered" in done.err
    words = {*tiny.GERMAN.values()}
    assert all(set(line.split()) <= words for line in lines)


def test_one_model_of_two_languages_writes_a_column_each(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ("--model", checkpoint_of("t5"), "--out", run, "--epochs", "5", *LEARN, "--json")
    done = ftkit("train", data / "many.csv", *arguments)
    assert done.code == 0, done.err
    assert list(done.json["validation"]["by_target"]) == ["de", "fr"]
    rows = [{"en": "cat horse"}, {"en": ""}, {"en": "otter"}]
    write_csv(tmp_path / "new.csv", rows)
    assert ftkit("predict", run, tmp_path / "new.csv", "-o", tmp_path / "out.jsonl", *FP32).code == 0
    found = read_jsonl(tmp_path / "out.jsonl")
    assert [list(row) for row in found] == [["en", "de", "fr"], ["en", "de", "fr", "error"], ["en", "de", "fr"]]
    assert set(found[0]["de"].split()) <= {*tiny.GERMAN.values()}
    assert set(found[0]["fr"].split()) <= {*tiny.FRENCH.values()}
    one = ftkit("predict", run, "--text", "cat horse", "--to", "fr", *FP32)
    assert one.out == found[0]["fr"] + "\n"
    refused = ftkit("predict", run, "--text", "cat", "--to", "zh")
    assert refused.code == 2 and "into de, fr, not into zh" in refused.err
    refused = ftkit("predict", run, data / "new.en", "-o", tmp_path / "new.txt")
    assert refused.code == 2 and "one translation a line" in refused.err


def test_scores_are_those_of_sacrebleu_on_the_files_that_are_written(
    learned: Callable[[str], tuple[Path, dict[str, Any]]], data: Path
) -> None:
    run, _ = learned("gpt2")
    done = ftkit("eval", run, data / "test.csv", "--name", "again", *FP32, "--json")
    folder = Path(done.json["folder"])
    command = [sys.executable, "-m", "sacrebleu", folder / "references.de", "-i", folder / "translations.de"]
    asked = [*command, "-m", "bleu", "chrf", "ter", "--chrf-word-order", "2", "-w", "6"]
    said = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    scores = done.json["scores"]
    assert [round(scores[name]["value"], 6) for name in ("bleu", "chrf2pp", "ter")] == [x["score"] for x in said]


def test_two_systems_are_compared_on_the_same_rows(tmp_path: Path) -> None:
    rows = pairs(40, seed=2, most=9)
    test = write_csv(tmp_path / "test.csv", only(rows, "en", "de"))
    (tmp_path / "right.de").write_text("".join(row["de"] + "\n" for row in rows))
    (tmp_path / "copy.de").write_text("".join(row["en"] + "\n" for row in rows))
    asked = ("--predictions", tmp_path / "right.de", "--predictions", tmp_path / "copy.de", "--json")
    done = ftkit("eval", test, *asked)
    assert done.code == 0, done.err
    assert done.json["scores"]["accuracy"]["value"] == 1.0
    other = done.json["others"][str(tmp_path / "copy.de")]
    assert other["scores"]["accuracy"]["value"] == 0.0
    assert other["difference"]["bleu"]["low"] > 0


def test_a_training_that_decodes_every_epoch_chooses_by_bleu(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path
) -> None:
    arguments = ("--model", checkpoint_of("marian"), "--out", tmp_path / "run", "--epochs", "2", *LEARN)
    done = ftkit("train", data / "train.csv", *arguments, "--set", "training.metric=bleu", "--json")
    assert done.code == 0, done.err
    log = [line for line in read_jsonl(tmp_path / "run" / "log.jsonl") if "evaluation" in line]
    assert len(log) == 2 and all("bleu" in line for line in log)


@pytest.mark.parametrize(("family", "told"), [("nllb", "eng_Latn deu_Latn"), ("mbart50", "en_XX de_DE")])
def test_models_with_codes_of_languages_are_told_them(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path, family: str, told: str
) -> None:
    run = tmp_path / "run"
    done = ftkit("train", data / "train.csv", "--model", checkpoint_of(family), "--out", run, "--epochs", "4", *LEARN)
    assert done.code == 0, done.err
    assert f"the model is told: {told}" in done.err.replace("\n", " ")
    translated = ftkit("predict", run, "--text", "cat", *FP32)
    assert translated.code == 0 and "deu" not in translated.out and "de_DE" not in translated.out
    refused = ftkit("train", data / "train.csv", "--model", checkpoint_of(family), "--to", "la", "--column", "x=y")
    assert refused.code == 2


def test_a_head_that_is_not_there_cannot_learn_faster(checkpoint_of: CheckpointOf, data: Path, tmp_path: Path) -> None:
    given = ("--model", checkpoint_of("t5"), "--out", tmp_path / "run", "--set", "training.head_factor=3")
    refused = ftkit("train", data / "train.csv", *given)
    assert refused.code == 2 and "training.head_factor is 3" in refused.err
    assert not (tmp_path / "run").exists()


def test_a_model_that_writes_has_no_head_to_train_alone(
    checkpoint_of: CheckpointOf, data: Path, tmp_path: Path
) -> None:
    given = ("--model", checkpoint_of("t5"), "--out", tmp_path / "run", "--set", "training.freeze=backbone")
    refused = ftkit("train", data / "train.csv", *given)
    assert refused.code == 2 and "training.freeze=backbone leaves nothing" in refused.err
    assert not (tmp_path / "run").exists()


def test_a_new_model_learns_and_is_no_longer_new(data: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    made = ftkit(
        "new-model", "--family", "marian", "--size", "tiny", "--corpus", data / "train.csv", "--vocab-size", "400",
        "--out", new, "--json",
    )  # fmt: skip
    assert made.code == 0, made.err
    done = ftkit("train", data / "train.csv", "--model", new, "--out", tmp_path / "run", "--epochs", "2", *FP32)
    assert done.code == 0, done.err
    assert "learning rate 0.001" in done.err and "all of it begins at random" in done.err
    assert "ftkit_untrained" not in (tmp_path / "run/model/config.json").read_text()
    assert '"untrained": true' in (tmp_path / "run/task.json").read_text()
