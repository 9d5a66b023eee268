"""New models: every family loads as a checkpoint does, and its tokenizer reads and writes any text."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from ftkit import models, new_model, preparation
from ftkit.data.files import ReadOptions
from ftkit.errors import UserError
from ftkit.new_model import FAMILIES
from tests import tiny

PHRASES = Path(__file__).resolve().parents[1] / "recipes/samples/phrases.tsv"
CLASSES: dict[str, Any] = {
    "marian": transformers.AutoModelForSeq2SeqLM,
    "bert": transformers.AutoModelForMaskedLM,
    "gpt2": transformers.AutoModelForCausalLM,
    "t5": transformers.AutoModelForSeq2SeqLM,
}
LOSSLESS = ("marian", "t5", "gpt2")
CODES = ("de", "zh-Hant")
SIZE = 800
SPECIAL = (
    "</s> <s> <unk> <pad> >>de<< >>zh-Hant<< [PAD] [UNK] [CLS] [SEP] [MASK] <|endoftext|> <|pad|> <extra_id_0> "
    "<extra_id_9> <0x41>"
)

every_family = pytest.mark.parametrize("family", FAMILIES)
lossless_family = pytest.mark.parametrize("family", LOSSLESS)
steady = settings(deadline=None, derandomize=True, max_examples=60)


def make(family: str, corpus: Sequence[Path], out: Path, size: int = SIZE, **options: Any) -> dict[str, Any]:
    return new_model.create(family, "tiny", [str(path) for path in corpus], size, str(out), **options)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sentences in four languages; and a file that spells special tokens often enough to be learned by heart."""
    tempting = tmp_path_factory.mktemp("corpus") / "tempting.txt"
    tempting.write_text(f"{SPECIAL}\n" * 40)
    return [PHRASES, tempting]


@pytest.fixture(scope="module")
def made(corpus: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """A new model of each family, with what `create` said of it."""
    folder = tmp_path_factory.mktemp("made")
    codes = {"marian": {"target_codes": CODES}}
    return {
        family: (folder / family, make(family, corpus, folder / family, **codes.get(family, {}))) for family in FAMILIES
    }


@pytest.fixture(scope="module")
def tokenizers(made: dict[str, tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    return {family: transformers.AutoTokenizer.from_pretrained(folder) for family, (folder, _) in made.items()}


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """A user's text, without the special tokens around it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


# What is written.


@every_family
def test_a_new_model_loads_as_a_checkpoint(made: dict[str, tuple[Path, dict[str, Any]]], family: str) -> None:
    folder, result = made[family]
    model, info = CLASSES[family].from_pretrained(folder, output_loading_info=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    assert not any(info.values())
    assert sum(p.numel() for p in model.parameters()) == result["parameters"]
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == len(tokenizer) == SIZE
    assert (model.config.model_type, result["vocabulary"], result["notes"]) == (family, SIZE, [])
    assert model.config.pad_token_id == tokenizer.pad_token_id is not None


@every_family
def test_all_of_a_new_model_learns_at_a_rate_that_depends_on_whether_it_is_to_write(
    made: dict[str, tuple[Path, dict[str, Any]]], family: str
) -> None:
    config = models.load_config(made[family][0])
    records = [SimpleNamespace(head=head, labels=["a", "b"]) for head in ("labels", "spans", "text")]
    found = [preparation.default_rates(config, record) for record in records]
    assert found == [(rate, 1, "for a new model") for rate in (3e-4, 3e-4, 1e-3)]
    del config.ftkit_untrained
    rate = float(f"{0.04 / config.hidden_size:.2g}")
    found = [preparation.default_rates(config, record) for record in records]
    assert found == [(rate, factor, "for this model's width") for factor in (10, 10, 1)]


@every_family
def test_a_new_model_computes(made: dict[str, tuple[Path, dict[str, Any]]], family: str) -> None:
    folder, _ = made[family]
    model = CLASSES[family].from_pretrained(folder).eval()
    batch = transformers.AutoTokenizer.from_pretrained(folder)("The kitchen is small.", return_tensors="pt")
    if family == "bert":
        assert model(**batch).logits.shape == (*batch["input_ids"].shape, SIZE)
    else:
        written = model.generate(**batch, max_new_tokens=4, do_sample=False)
        assert set(written.flatten().tolist()) <= set(range(SIZE))


def test_the_folder_holds_what_a_checkpoint_holds_and_anybody_may_read_it(
    made: dict[str, tuple[Path, dict[str, Any]]],
) -> None:
    needed = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    for family, (folder, _) in made.items():
        writes = set() if family == "bert" else {"generation_config.json"}
        assert {path.name for path in folder.iterdir()} == needed | writes
        assert len({path.stat().st_mode for path in folder.iterdir()}) == 1


def test_what_was_read_is_told(made: dict[str, tuple[Path, dict[str, Any]]], corpus: list[Path]) -> None:
    _, result = made["bert"]
    phrases, tempting = result["sources"]
    assert (phrases["path"], phrases["format"], phrases["columns"]) == (str(PHRASES), "tsv", ["en", "fr", "de", "zh"])
    assert phrases["lines"] == len(PHRASES.read_text(encoding="utf-8").splitlines()) - 1
    assert (tempting["columns"], tempting["lines"]) == (["text"], 40)
    assert tempting["characters"] == 40 * len(SPECIAL)
    assert result["lines"] == phrases["lines"] + 40
    assert result["characters"] == phrases["characters"] + tempting["characters"]


# Texts come back as they were.


@lossless_family
@pytest.mark.parametrize(
    "text",
    [
        "The kitchen is small, but very warm.",
        "Die Küche ist klein.",
        "厨房很小，但是很暖和。",
        "龘靐齉爩",  # rare characters that the corpus does not have
        "👩‍👩‍👧 and 🏳️‍🌈 😀",
        "ყველა ადამიანი იბადება თავისუფალი",
        "Όλοι οι άνθρωποι",
        "e\u0301 é ﬁ ﬀ Å ²",
        "a  b\t\tc\r\nd ",
        "\u3000\u00a0x\u200b\ufeff",
        SPECIAL,
    ],
)
def test_a_text_comes_back_as_it_was(tokenizers: dict[str, Any], family: str, text: str) -> None:
    assert tokenizers[family].decode(ids_of(tokenizers[family], text)) == text


@lossless_family
@steady
@given(text=st.text())
def test_any_text_comes_back_but_for_a_blank_at_its_beginning(
    tokenizers: dict[str, Any], family: str, text: str
) -> None:
    expected = text
    if family != "gpt2":
        expected = text.replace(new_model.MARK, " ").removeprefix(" ")
    assert tokenizers[family].decode(ids_of(tokenizers[family], text)) == expected


@lossless_family
def test_no_character_is_unknown(tokenizers: dict[str, Any], family: str) -> None:
    tokenizer = tokenizers[family]
    unknown = tokenizer.convert_tokens_to_ids("<unk>") if family != "gpt2" else None
    assert unknown not in ids_of(tokenizer, "ყველა 龘 😀 \x00\U0010fffd")


def test_bert_reads_chinese_character_by_character_and_keeps_upper_case(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["bert"]
    assert tokenizer.convert_ids_to_tokens(ids_of(tokenizer, "很小的")) == ["很", "小", "的"]
    assert tokenizer.decode(ids_of(tokenizer, "The kitchen is small")) == "The kitchen is small"


@every_family
def test_text_of_the_corpus_takes_fewer_tokens_than_characters(tokenizers: dict[str, Any], family: str) -> None:
    text = "The kitchen is small but very warm."
    assert len(ids_of(tokenizers[family], text)) < len(text) / 2


# Special tokens.


def special_ids(tokenizer: Any) -> set[int]:
    """Of the special tokens that a text must not hold; a word that BERT does not know is [UNK]."""
    return set(tokenizer.all_special_ids) - {tokenizer.convert_tokens_to_ids("[UNK]")}


@every_family
def test_no_text_becomes_a_special_token(tokenizers: dict[str, Any], family: str) -> None:
    tokenizer = tokenizers[family]
    for token in (*SPECIAL.split(), *tokenizer.all_special_tokens):
        for text in (token, f"the {token} cat", f"cat{token}cat", f" {token} ", f"{token}{token}"):
            assert special_ids(tokenizer).isdisjoint(ids_of(tokenizer, text)), text


@every_family
@steady
@given(parts=st.lists(st.sampled_from([*SPECIAL.split(), *"<>|[]/ ▁", "pad", "s", "de", "SEP", "endoftext"])))
def test_no_text_of_their_parts_becomes_a_special_token(
    tokenizers: dict[str, Any], family: str, parts: list[str]
) -> None:
    assert special_ids(tokenizers[family]).isdisjoint(ids_of(tokenizers[family], "".join(parts)))


@pytest.mark.parametrize(
    ("family", "single", "pair"),
    [
        ("marian", "a </s>", "a </s> b </s>"),
        ("t5", "a </s>", "a </s> b </s>"),
        ("bert", "[CLS] a [SEP]", "[CLS] a [SEP] b [SEP]"),
        ("gpt2", "a", "a b"),
    ],
)
def test_special_tokens_stand_where_the_family_has_them(
    tokenizers: dict[str, Any], family: str, single: str, pair: str
) -> None:
    tokenizer = tokenizers[family]

    def shown(*texts: str) -> str:
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(*texts)["input_ids"])
        return " ".join(token.strip("▁Ġ") for token in tokens)

    assert (shown("a"), shown("a", "b")) == (single, pair)


def test_marian_has_a_token_for_every_target_language(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["marian"]
    for code in CODES:
        token = f">>{code}<<"
        number = tokenizer.convert_tokens_to_ids(token)
        assert tokenizer.convert_ids_to_tokens(number) == token
        assert tokenizer(f"{token} The kitchen")["input_ids"][0] == number
        assert number in tokenizer.all_special_ids


def test_marian_without_target_languages_has_no_such_tokens(corpus: list[Path], tmp_path: Path) -> None:
    make("marian", corpus, tmp_path / "marian", 400)
    vocabulary = transformers.AutoTokenizer.from_pretrained(tmp_path / "marian").get_vocab()
    assert [token for token in vocabulary if ">>" in token and len(token) > 3] == []


# Vocabularies.


@every_family
def test_equal_arguments_give_equal_bytes(
    made: dict[str, tuple[Path, dict[str, Any]]], corpus: list[Path], tmp_path: Path, family: str
) -> None:
    random.seed(1)  # neither Python's randomness nor torch's counts
    make(family, corpus, tmp_path / "again", **({"target_codes": CODES} if family == "marian" else {}))
    folder, _ = made[family]
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in (tmp_path / "again").iterdir())
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_another_seed_gives_other_weights_and_the_same_vocabulary(
    made: dict[str, tuple[Path, dict[str, Any]]], corpus: list[Path], tmp_path: Path
) -> None:
    make("bert", corpus, tmp_path / "other", seed=1)
    first = made["bert"][0]

    def same(name: str) -> bool:
        return (first / name).read_bytes() == (tmp_path / "other" / name).read_bytes()

    assert (same("tokenizer.json"), same("config.json"), same("model.safetensors")) == (True, True, False)


@every_family
def test_a_text_that_gives_fewer_tokens_is_told(tmp_path: Path, family: str) -> None:
    (tmp_path / "short.txt").write_text("the cat\n" * 3)
    result = make(family, [tmp_path / "short.txt"], tmp_path / "new", 5000)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    assert result["vocabulary"] == len(tokenizer) < 400
    assert result["notes"] == [f"the text gave {result['vocabulary']} of 5,000 tokens; more text would give more"]
    assert tokenizer.decode(ids_of(tokenizer, "the cat")) == "the cat"


def test_only_the_named_column_is_learned_from(tmp_path: Path) -> None:
    tiny.write_csv(tmp_path / "rows.csv", [{"text": "abc abd", "other": "xyz"}] * 4)
    result = make("bert", [tmp_path / "rows.csv"], tmp_path / "new", 200, column="text")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    assert (result["sources"][0]["columns"], result["characters"]) == (["text"], 28)
    assert ids_of(tokenizer, "xyz") == [tokenizer.unk_token_id]
    assert tokenizer.unk_token_id not in ids_of(tokenizer, "abc")


def test_a_file_is_read_as_it_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "texts").write_bytes("厨房很小\n".encode("gb18030") * 4)
    options = ReadOptions(format="text", encoding="gb18030")
    make("bert", [tmp_path / "texts"], tmp_path / "new", 100, options=options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    assert tokenizer.convert_ids_to_tokens(ids_of(tokenizer, "很小")) == ["很", "小"]


# What is refused, and what is left.


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"family": "bart"}, "--family bart is not known\nUse one of marian, bert, gpt2, t5"),
        ({"size": "huge"}, "--size huge is not known\nUse one of tiny, mini, small"),
        ({"seed": -1}, "--seed -1 is not from 0 to 4294967295\nLeave it out, or choose another number"),
        ({"corpus": []}, "no text to learn a vocabulary from\nName at least one file: --corpus texts.txt"),
        (
            {"corpus": ["-"]},
            "the corpus is read twice, so it cannot be standard input\nSave it in a file first",
        ),
        (
            {"target_codes": ["de"]},
            "a new bert model has no tokens for target languages\nUse --family marian, or leave them out",
        ),
        (
            {"family": "marian", "target_codes": [">>de<<"]},
            "'>>de<<' is the code of no language that is known here\n"
            "Write a BCP-47 code, such as en, de, zh or zh-Hant",
        ),
        (
            {"family": "marian", "target_codes": ["de", "fr", "ger"]},
            "target code de is given twice\nGive each language once",
        ),
        (
            {"vocabulary_size": 68},
            "a vocabulary of 68 is too small for bert: 5 tokens are fixed (special tokens, bytes), and at least 64 "
            "must be left for the text\nUsual are 4,000 to 32,000: --vocab-size 8000",
        ),
        (
            {"family": "marian", "target_codes": ["de"], "vocabulary_size": 300},
            "a vocabulary of 300 is too small for marian: 260 tokens are fixed (special tokens, bytes), and at least "
            "64 must be left for the text\nUsual are 4,000 to 32,000: --vocab-size 8000",
        ),
        ({"column": "review"}, "rows.csv has no column 'review'; it has text, label\nName one of these"),
        ({"column": "label"}, "column label of rows.csv holds no text\nIt has the columns text, label"),
        ({"out": "taken"}, "taken exists already\nChoose another folder: --out taken-2"),
        ({"out": "rows.csv"}, "rows.csv exists already\nChoose another folder: --out rows.csv-2"),
        (
            {"out": "rows.csv/x"},
            "rows.csv is a file, so rows.csv/x cannot be made\nChoose another folder: --out FOLDER",
        ),
    ],
)
def test_a_mistake_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_csv(tmp_path / "rows.csv", [{"text": "the cat", "label": ""}] * 4)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/notes.txt").write_text("mine")
    right: dict[str, Any] = {
        "family": "bert",
        "size": "tiny",
        "corpus": ["rows.csv"],
        "vocabulary_size": 100,
        "out": "models/new",
    }
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        new_model.create(**right | changed)
    assert str(caught.value) == message
    assert sorted(tmp_path.rglob("*")) == before


def test_a_corpus_that_is_missing_or_broken_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text("text,label\na,b\nc\n")
    for name, said in (("missing.txt", "missing.txt"), ("broken.csv", "broken.csv")):
        with pytest.raises(UserError, match=said):
            make("bert", [tmp_path / name], tmp_path / "new", 100)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.csv"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """After the weights have been written: when the tokenizer is."""
    (tmp_path / "texts.txt").write_text("the cat\n" * 4)

    def fail(*arguments: Any, **more: Any) -> None:
        raise failure

    monkeypatch.setattr(transformers.BertTokenizer, "save_pretrained", fail)
    with pytest.raises(UserError if isinstance(failure, OSError) else KeyboardInterrupt) as caught:
        make("bert", [tmp_path / "texts.txt"], tmp_path / "models/new", 100)
    if isinstance(failure, OSError):
        assert str(caught.value) == (
            f"{tmp_path / 'models/new'} cannot be written: No space left on device\nChoose another folder: --out FOLDER"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]


def test_an_empty_folder_is_filled_and_an_old_attempt_removed(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("the cat\n" * 4)
    (tmp_path / "new").mkdir()
    (tmp_path / ".new.partial").mkdir()
    (tmp_path / ".new.partial/config.json").write_text("{")
    make("bert", [tmp_path / "texts.txt"], tmp_path / "new", 100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "texts.txt"]
    assert json.loads((tmp_path / "new/config.json").read_text())["model_type"] == "bert"


# The command.


NEW = ("new-model", "--family", "bert", "--size", "tiny", "--vocab-size", "200")


def test_the_command_says_what_it_made_and_what_to_type_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_csv(tmp_path / "rows.csv", [{"text": "the cat", "label": "animal"}] * 4)
    done = tiny.ftkit(*NEW, "--corpus", "rows.csv", "--column", "text", "--out", "my models/bert")
    size = sum(p.numel() for p in CLASSES["bert"].from_pretrained("my models/bert").parameters())
    count = len(transformers.AutoTokenizer.from_pretrained("my models/bert"))
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "rows.csv: column text, 4 lines, 28 characters\n"
        f"note: the text gave {count} of 200 tokens; more text would give more\n"
        f"A new bert model is in my models/bert: {size:,} parameters with random weights, and a vocabulary of {count} "
        "tokens from 4 lines. Next:\n"
        "  ftkit train DATA --model 'my models/bert'\n"
    )


def test_the_command_prints_json_for_programs(tmp_path: Path) -> None:
    tiny.write_csv(tmp_path / "rows.csv", [{"text": "the cat", "label": "animal"}] * 4)
    options = ("--target-code", "de", "--target-code", "fr", "--seed", "3", "--json")
    marian = ("new-model", "--family", "marian", "--size", "tiny", "--vocab-size", "400")
    done = tiny.ftkit(*marian, "--corpus", tmp_path / "rows.csv", "--out", tmp_path / "new", *options)
    assert (done.code, done.err) == (0, "")
    assert {key: done.json[key] for key in ("model", "family", "size", "lines")} == {
        "model": str(tmp_path / "new"),
        "family": "marian",
        "size": "tiny",
        "lines": 4,
    }
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    assert {">>de<<", ">>fr<<"} < set(tokenizer.get_vocab())


def test_a_mistake_of_the_command_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("en\nOne\n")
    done = tiny.ftkit(*NEW, "--corpus", tmp_path / "rows.csv", "--out", tmp_path / "new", "--format", "docx")
    assert (done.code, done.out) == (2, "")
    assert "docx" in done.err and "Traceback" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_a_new_model_learns_as_a_checkpoint_does(tmp_path: Path, family: str) -> None:
    data = tiny.write_csv(tmp_path / "rows.csv", tiny.rows(120, seed=1))
    made = ("--corpus", data, "--column", "text", "--size", "tiny", "--vocab-size", "400", "--out", tmp_path / "new")
    assert tiny.ftkit("new-model", "--family", family, *made).code == 0
    done = tiny.train(data, tmp_path / "new", tmp_path / "run", "--set", "training.epochs=1", "--json")
    assert done.code == 0, done.err
    assert done.json["validation"]["scores"].keys() >= {"accuracy", "f1_macro"}
    assert "head_factor: 1.0" in Path(done.json["run"], "recipe.yaml").read_text()
    assert Path(done.json["run"], "model/model.safetensors").is_file()
    assert Path(done.json["run"], "model/tokenizer.json").read_bytes() == (tmp_path / "new/tokenizer.json").read_bytes()
