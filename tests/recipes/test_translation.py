"""Translation as a task: columns, languages, examples, what a model is told, answers and comparisons."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ftkit import config, languages
from ftkit.config import Recipe
from ftkit.data.files import ReadOptions, Row
from ftkit.data.load import Table
from ftkit.errors import UserError
from ftkit.recipes.base import Examples
from ftkit.recipes.translation import Translation, TranslationRecord, Translations, _templates, _worst_errors

TASK = Translation()


def rows(*cells: dict[str, Any]) -> list[Row]:
    return [Row(number, number + 1, each) for number, each in enumerate(cells, start=1)]


def recipe(**languages: Any) -> Recipe:
    return Recipe(languages=config.LanguagesSection(**languages))


def columns(
    names: list[str],
    asked: Recipe | None = None,
    given: dict[str, str] | None = None,
    numbers: bool = False,
    **more: Any,
) -> Any:
    some = rows({name: "7" if numbers else f"a text in {name}" for name in names})
    return TASK.columns(given or {}, names, some, recipe=asked or Recipe(), **more)


def record(source: str = "en", targets: tuple[str, ...] = ("de",), **columns: str) -> TranslationRecord:
    named = columns or {"source": source, **{code: code for code in targets}}
    return TranslationRecord(task="translation", columns=named, source=source, targets=list(targets))


# Columns


def test_columns_named_by_languages_are_found_and_english_is_the_source() -> None:
    assert columns(["de", "en", "fr"]) == {"source": "en", "de": "de", "fr": "fr"}


def test_without_english_the_first_language_is_the_source() -> None:
    assert columns(["fr", "de"]) == {"source": "fr", "de": "de"}


def test_names_and_codes_of_other_models_are_languages_too() -> None:
    assert columns(["German", "zho_Hans", "en_XX"]) == {"source": "en_XX", "de": "German", "zh": "zho_Hans"}


def test_a_column_named_id_is_no_indonesian_unless_asked_for() -> None:
    assert columns(["id", "en", "de"], numbers=True) == {"source": "en", "de": "de"}
    assert columns(["id", "en"], recipe(source="en", targets=["id"]), numbers=True) == {"source": "en", "id": "id"}


def test_languages_that_are_asked_for_are_taken() -> None:
    found = columns(["en", "de", "fr"], recipe(source="de", targets=["en"]))
    assert found == {"source": "de", "en": "en"}


def test_two_columns_without_names_are_taken_in_order() -> None:
    assert columns(["1", "2"], recipe(source="en", targets=["zh"])) == {"source": "1", "zh": "2"}


def test_usual_names_need_the_languages() -> None:
    asked = recipe(source="en", targets=["fr"])
    assert columns(["note", "source", "target"], asked) == {"source": "source", "fr": "target"}


def test_columns_that_are_given_win() -> None:
    given = {"source": "b", "de": "a"}
    assert columns(["a", "b", "en"], recipe(source="en", targets=["de"]), given) == given


@pytest.mark.parametrize(
    ("names", "asked", "given", "said"),
    [
        (["text", "label"], recipe(source="en", targets=["de", "fr"]), {}, "no column was found for"),
        (["en", "de"], recipe(targets=["fr", "cs"]), {}, "no column was found for fr, cs"),
        (["en", "de"], Recipe(), {"fr": "french"}, "there is no column 'french' for fr"),
        (["en", "de"], Recipe(), {"xx": "de"}, "'xx' is the code of no language"),
        (["id", "en"], recipe(source="en", targets=["de"]), {}, "no column was found for de"),
        (["en", "de"], recipe(source="de", targets=["en"]), {"source": "en"}, "the column of the source is 'en', and"),
        (["en", "de"], recipe(source="en", targets=["pt-PT", "pt-BR"]), {}, "pt-PT and pt-BR are both Portuguese"),
    ],
)
def test_what_cannot_be_found_is_told(names: list[str], asked: Recipe, given: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        columns(names, asked, given)


def test_of_the_targets_in_a_recipe_those_that_are_asked_for_are_taken() -> None:
    saved = {"source": "en", "de": "de", "fr": "fr"}
    assert columns(["en", "de", "fr"], recipe(source="en", targets=["fr"]), saved) == {"source": "en", "fr": "fr"}


def test_a_column_named_no_with_texts_in_it_is_norwegian() -> None:
    assert columns(["en", "no"]) == {"source": "en", "nb": "no"}
    assert TASK.recognises(Recipe(), ["is", "en"], rows({"is": "Þetta er texti", "en": "this is a text"}))


def test_in_rows_to_be_scored_or_translated_nothing_is_guessed() -> None:
    with pytest.raises(UserError, match="no column was found for de"):
        columns(["en", "domain"], record=record())
    with pytest.raises(UserError, match="no column was found for the source language"):
        columns(["fr", "de"], labelled=False, record=record())
    assert columns(["column1", "column2"], record=record()) == {"source": "column1", "de": "column2"}


def test_a_file_to_predict_needs_the_source_alone() -> None:
    assert columns(["en"], labelled=False, record=record()) == {"source": "en"}
    assert columns(["text"], labelled=False, record=record()) == {"source": "text"}


def test_a_file_is_recognised_by_two_languages_or_by_what_is_asked() -> None:
    words = [Row(1, 1, {"en": "hello", "de": "hallo", "id": "a1", "text": "hello", "label": "x"})]
    assert TASK.recognises(Recipe(), ["en", "de"], words)
    assert TASK.recognises(recipe(source="en"), ["a", "b"], [])
    assert not TASK.recognises(Recipe(), ["id", "en"], words)
    assert not TASK.recognises(Recipe(), ["text", "label"], words)
    assert not TASK.recognises(Recipe(data={"columns": {"label": "de"}}), ["en", "de"], words)


def test_numbers_under_the_codes_of_languages_are_no_translations() -> None:
    rows = [Row(n, n, {"text": "a b", "label": "x", "ts": 1700000000 + n, "hr": str(n)}) for n in range(1, 9)]
    assert not TASK.recognises(Recipe(), ["text", "label", "ts", "hr"], rows)


def test_a_source_column_whose_language_is_unknown_is_asked_about() -> None:
    begun = TranslationRecord(task="translation", columns={"source": "source", "de": "de"})
    with pytest.raises(UserError, match="language of the column 'source' is not known") as error:
        TASK.begin(begun, Recipe(), [], [])
    assert "--from en" in error.value.remedy


def test_the_languages_that_were_found_are_told() -> None:
    begun, told = TranslationRecord(task="translation", columns={"source": "en", "de": "de", "fr": "fr"}), []
    settled = TASK.begin(begun, Recipe(), [], told)
    assert (settled.source, settled.targets) == ("en", ["de", "fr"])
    assert told == [("languages", "from en into de, fr")]


# Examples


def test_a_row_is_an_example_for_each_target_that_it_has() -> None:
    found = TASK.examples(
        "f.tsv",
        rows({"en": "a", "de": "b", "fr": "c"}, {"en": "d", "de": "", "fr": "e"}, {"en": "f", "de": "g", "fr": None}),
        record(targets=("de", "fr")),
    )
    assert [texts for (texts,) in found.texts] == ["a", "a", "d", "f"]
    assert found.languages == ["de", "fr", "fr", "de"]
    assert found.labels == [("b",), ("c",), ("e",), ("g",)]
    assert found.rows == [1, 1, 2, 3]
    assert found.counts == {"read": 3, "rows without a text in de": 1, "rows without a text in fr": 1}


def test_a_list_holds_several_references() -> None:
    found = TASK.examples("f.jsonl", rows({"en": "a", "de": ["b", "c"]}), record())
    assert found.labels == [("b", "c")]


def test_a_row_to_predict_is_an_example_for_every_target() -> None:
    source_alone = replace(record(targets=("de", "fr")), columns={"source": "en"})
    found = TASK.examples("f", rows({"en": "a"}, {"en": "b"}), source_alone)
    assert found.languages == ["de", "fr", "de", "fr"]
    assert found.labels == [None] * 4


def test_rows_without_a_source_are_refused_with_their_places() -> None:
    with pytest.raises(UserError, match=r"1 of 2 rows of f have no text in column en \(line 3\)"):
        TASK.examples("f", rows({"en": "a", "de": "b"}, {"en": None, "de": "b"}), record())


def test_a_reference_that_is_no_text_is_refused() -> None:
    with pytest.raises(UserError, match="f:2: column 'de' holds dict where a text is expected"):
        TASK.examples("f", rows({"en": "a", "de": {"x": 1}}), record())


def test_pairs_that_look_wrong_are_counted() -> None:
    found = TASK.examples(
        "f",
        rows({"en": "same here", "de": "same here"}, {"en": "", "de": "leer"}, {"en": "a b", "de": "x y"}),
        record(),
    )
    facts = TASK.split_facts(found, [], record())
    assert facts["pairs"] == {"de": 3}
    assert facts["counts"] == {"pairs with an empty source": 1, "pairs of two equal texts": 1}


# Answers


def answered(targets: tuple[str, ...], *texts: str) -> Translations:
    return Translations(list(texts), np.zeros(len(texts), np.float32), np.zeros(len(texts), bool), list(targets))


def test_cells_of_a_row_have_a_column_for_each_target() -> None:
    into = ("de", "fr")
    found = answered(into, "a", "b", "c", "d")
    assert TASK.cells(found, 1, record(targets=into), False, True) == {"de": "c", "fr": "d"}
    assert TASK.added(record(targets=into), True) == ["de", "fr", "score_de", "score_fr"]
    assert set(TASK.cells(found, 0, record(targets=into), True, True)) == {"de", "fr", "score_de", "score_fr"}


def test_only_languages_of_the_run_can_be_chosen() -> None:
    many = record(targets=("de", "fr", "cs"))
    assert TASK.restrict(many, ["fr", "de"]).targets == ["fr", "de"]
    with pytest.raises(UserError, match="not into zh"):
        TASK.restrict(many, ["zh"])


def test_answers_that_met_the_limit_are_counted() -> None:
    found = replace(answered(("de",), "a", "b"), cut=np.array([True, False]))
    assert TASK.notices(found) == {"translations that met the limit of tokens": 1}
    assert TASK.notices(answered(("de",), "a")) == {}


def test_scores_of_several_targets_are_their_means_and_each_alone() -> None:
    texts = "one two three four five", "six seven eight nine ten"
    examples = Examples(
        "f",
        [("x",), ("x",), ("y",), ("y",)],
        [(texts[0],), (texts[0],), (texts[1],), (texts[1],)],
        [1, 1, 2, 2],
        [2, 2, 3, 3],
        languages=["de", "fr", "de", "fr"],
    )
    into = ("de", "fr")
    found = TASK.score(answered(into, texts[0], "no", texts[1], "no"), examples, None, record(targets=into))
    assert found["by_target"]["de"]["scores"]["bleu"]["value"] == pytest.approx(100)
    assert found["by_target"]["fr"]["scores"]["bleu"]["value"] == 0
    assert found["scores"]["bleu"]["value"] == pytest.approx(50)
    assert found["n"] == 4
    files = TASK.official(answered(into, "a\nb", "c", "d", "e"), examples, record(targets=into))
    assert files["translations.de"] == "a b\nd\n"
    assert files["references.fr"] == f"{texts[0]}\n{texts[1]}\n"


# Other systems


def test_another_systems_lines_are_taken_in_order(tmp_path: Any) -> None:
    from ftkit.data.files import ReadOptions

    path = tmp_path / "theirs.de"
    path.write_text("eins\nzwei\n")
    examples = TASK.examples("f", rows({"en": "one", "de": "eins"}, {"en": "two", "de": "zwo"}), record())
    assert TASK.foreign_answers(str(path), ReadOptions(), examples, record()).texts == ["eins", "zwei"]
    path.write_text("eins\n")
    with pytest.raises(UserError, match="1 translations for the 2 rows"):
        TASK.foreign_answers(str(path), ReadOptions(), examples, record())
    path = tmp_path / "theirs.jsonl"
    path.write_text('{"de": ["eins"]}\n{"de": "zwei"}\n')
    assert TASK.foreign_answers(str(path), ReadOptions(), examples, record()).texts == ["eins", "zwei"]
    path.write_text('{"de": ["eins", "ein"]}\n{"de": "zwei"}\n')
    with pytest.raises(UserError, match=r"row 1, has .* where one text is expected"):
        TASK.foreign_answers(str(path), ReadOptions(), examples, record())


def test_blanks_around_a_reference_make_no_error() -> None:
    examples = TASK.examples("f", rows({"en": "one", "de": " eins "}, {"en": "two", "de": "zwo"}), record())
    assert [error["position"] for error in _worst_errors(answered(("de",), "eins", "zwei"), examples)] == [1]


def test_a_file_without_a_training_says_its_languages_by_its_columns() -> None:
    table = Table("f", ("en", "de"), rows({"en": "a", "de": "b"}), (), "")
    found = TASK.foreign_record(table, Recipe())
    assert (found.source, found.targets) == ("en", ["de"])


ANSWERS = {
    "all rows": ("eins", "zwei", "drei"),
    "rows with a reference": ("eins", "drei"),
}


@pytest.mark.parametrize("lines", ANSWERS.values(), ids=ANSWERS)
def test_another_system_may_leave_out_rows_without_a_reference(tmp_path: Any, lines: tuple[str, ...]) -> None:
    data = rows({"en": "one", "de": "1"}, {"en": "two", "de": ""}, {"en": "three", "de": "3"})
    examples = TASK.examples("test.tsv", data, record())
    path = tmp_path / "answers.txt"
    path.write_text("".join(f"{line}\n" for line in lines))

    assert TASK.foreign_answers(str(path), ReadOptions(), examples, record()).texts == ["eins", "drei"]


def test_another_system_with_too_few_lines_is_refused(tmp_path: Any) -> None:
    examples = TASK.examples("test.tsv", rows(*({"en": "one", "de": "1"},) * 3), record())
    (tmp_path / "answers.txt").write_text("eins\nzwei\n")

    with pytest.raises(UserError, match=r"has 2 translations for the 3 rows of test\.tsv"):
        TASK.foreign_answers(str(tmp_path / "answers.txt"), ReadOptions(), examples, record())


def test_ftkits_own_answers_are_not_taken_for_the_references_beside_them(tmp_path: Any) -> None:
    examples = TASK.examples("test.tsv", rows({"en": "one", "de": "eins"}), record())
    (tmp_path / "out.tsv").write_text("en\tde\tpredicted_de\tpredicted_error\none\teins\tUnsinn\t\n")

    assert TASK.foreign_answers(str(tmp_path / "out.tsv"), ReadOptions(), examples, record()).texts == ["Unsinn"]


class Vocabulary:
    """As much of a tokenizer as the codes of languages need."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = tokens

    def get_vocab(self) -> dict[str, int]:
        return dict.fromkeys(self.tokens, 0)


def told(vocabulary: Vocabulary, *targets: str) -> dict[str, str]:
    into = {code: languages.find(code) for code in targets}
    config = SimpleNamespace(model_type="m2m_100", is_encoder_decoder=True)
    found = _templates(config, vocabulary, languages.find("en"), into)
    return {code: template.answer or template.before for code, template in found.items()}


def test_a_language_in_its_other_script_is_another_one() -> None:
    assert told(Vocabulary(">>srp_Cyrl<<", ">>srp_Latn<<"), "sr-Latn") == {"sr-Latn": ">>srp_Latn<<"}
    assert told(Vocabulary("eng_Latn", "srp_Cyrl"), "sr") == {"sr": "srp_Cyrl"}
    with pytest.raises(UserError, match=r"NLLB-200 does not know Serbian \(Latn\)"):
        told(Vocabulary("eng_Latn", "srp_Cyrl"), "sr-Latn")


def test_m2m_names_languages_by_older_codes_and_cannot_tell_scripts_apart() -> None:
    model = Vocabulary("__en__", "__no__", "__ns__", "__zh__")
    assert told(model, "nb", "nso") == {"nb": "__no__", "nso": "__ns__"}
    with pytest.raises(UserError, match="one code for two of zh, zh-Hant"):
        told(model, "zh", "zh-Hant")


def test_a_new_marian_model_may_name_a_script_with_either_sign() -> None:
    assert told(Vocabulary(">>zh_Hant<<"), "zh-Hant") == {"zh-Hant": ">>zh_Hant<<"}
    assert told(Vocabulary(">>zh-Hant<<"), "zh-Hant") == {"zh-Hant": ">>zh-Hant<<"}


def test_what_was_counted_on_the_way_is_not_lost_where_rows_are_taken() -> None:
    examples = TASK.examples("a.tsv", rows({"en": "one", "de": "1"}, {"en": "two", "de": ""}), record())

    assert examples.take([0]).counts == {"read": 1, "rows without a text in de": 1}
