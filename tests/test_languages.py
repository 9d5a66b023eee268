"""Languages: every code that models and people use for them finds them, and their letters are told apart."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftkit import languages
from ftkit.errors import UserError
from ftkit.languages import LANGUAGES, SCRIPTS, find

# The first sentence of the Universal Declaration of Human Rights, or of a small talk.
SENTENCES = {
    "en": "All human beings are born free and equal in dignity and rights.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "ru": "Все люди рождаются свободными и равными в своём достоинстве и правах.",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах.",
    "sr": "Сва људска бића рађају се слободна и једнака у достојанству и правима.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.",
    "fa": "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "bn": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "ta": "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "ka": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "hy": "Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։",
    "am": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "zh": "人人生而自由，在尊严和权利上一律平等。",
    "zh-Hant": "人人生而自由，在尊嚴和權利上一律平等。",
}


def refusal(code: str) -> str:
    with pytest.raises(UserError) as caught:
        find(code)
    return str(caught.value)


# The table.


def test_nllb_codes_are_those_of_the_model() -> None:
    from transformers import NllbTokenizer

    known = {token for token in NllbTokenizer().get_vocab() if len(token) == 8 and token[3] == "_"}
    assert {languages.nllb_code(each) for each in LANGUAGES.values() if each.in_nllb} == known
    assert len(known) == sum(each.in_nllb for each in LANGUAGES.values()) == 202


def test_mbart_codes_are_those_of_the_model() -> None:
    from transformers import MBart50Tokenizer

    known = {token for token in MBart50Tokenizer().get_vocab() if len(token) == 5 and token[2] == "_"}
    assert {languages.mbart_code(each) for each in LANGUAGES.values() if each.mbart} == known
    assert len(known) == sum(each.mbart is not None for each in LANGUAGES.values()) == 52


def test_no_code_is_of_two_languages() -> None:
    """Upper and lower case, and hyphens and underscores, are alike; names are codes too."""
    codes = [
        code
        for each in LANGUAGES.values()
        for code in {
            code.lower().replace("_", "-")
            for code in (each.code, each.name, each.tag, each.mbart or each.code, *each.others)
        }
    ]
    assert {code for code in codes if codes.count(code) > 1} == set()


def test_every_script_of_a_language_is_known() -> None:
    assert {script for each in LANGUAGES.values() for script in each.scripts} == SCRIPTS.keys()


# Finding.


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("en", "en"),
        ("EN", "en"),
        ("en-US", "en"),
        ("es-419", "es"),
        ("pt_BR", "pt"),
        ("eng", "en"),
        ("eng_Latn", "en"),
        ("en_XX", "en"),
        ("English", "en"),
        (" de ", "de"),
        ("ger", "de"),
        ("zh", "zh"),
        ("zh-CN", "zh"),
        ("zh-Hans", "zh"),
        ("zh-Hans-SG", "zh"),
        ("zho_Hans", "zh"),
        ("cmn", "zh"),
        ("zh-Hant", "zh-Hant"),
        ("zh_TW", "zh-Hant"),
        ("zh-Hant-HK", "zh-Hant"),
        ("cmn_Hant", "zh-Hant"),
        ("yue", "yue"),
        ("ara", "ar"),
        ("no", "nb"),
        ("iw", "he"),
        ("sr-Cyrl", "sr"),
        ("kas", "ks"),
        ("ks-Deva", "ks-Deva"),
    ],
)
def test_a_language_is_found_by_its_codes(code: str, expected: str) -> None:
    assert find(code) is LANGUAGES[expected]


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=lambda language: language.code)
def test_every_language_is_found_by_all_that_it_is_called(language: languages.Language) -> None:
    for code in (language.code, language.name, language.tag, language.mbart or language.code, *language.others):
        assert find(code) is language


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("cn", "'cn' is the code of no language that is known here\nDid you mean zh (Chinese)?"),
        ("kr", "'kr' is the code of no language that is known here\nDid you mean ko (Korean)?"),
        ("Germn", "'Germn' is the code of no language that is known here\nDid you mean de (German)?"),
        (
            "x",
            "'x' is the code of no language that is known here\nWrite a BCP-47 code, such as en, de, zh or zh-Hant",
        ),
        ("zh-Latn", "'zh-Latn': no Chinese in the script Latn is known\nChinese is zh, in Hans"),
        ("sr-Arab", "'sr-Arab': no Serbian in the script Arab is known\nSerbian is sr, in Cyrl or Latn"),
    ],
)
def test_an_unknown_code_is_refused_with_what_is_near(code: str, message: str) -> None:
    assert refusal(code) == message


@pytest.mark.parametrize("code", ["", " ", "-", "_", "en-", "-en", "en--US", "text", "label", "column1", "en-US-x-1"])
def test_what_is_no_code_is_told_so(code: str) -> None:
    assert not languages.is_code(code)


@pytest.mark.parametrize("code", ["en", "de_DE", "zh-Hant", "fra_Latn", "German"])
def test_a_code_is_told_to_be_one(code: str) -> None:
    assert languages.is_code(code)


@given(st.text())
def test_any_text_is_found_or_refused(text: str) -> None:
    if languages.is_code(text):
        assert find(text) in LANGUAGES.values()
    else:
        assert "no" in refusal(text)


# Letters.


@pytest.mark.parametrize("code", SENTENCES)
def test_a_sentence_is_in_the_letters_of_its_language(code: str) -> None:
    for form in ("NFC", "NFD"):
        assert languages.letters_share(unicodedata.normalize(form, SENTENCES[code]), find(code)) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [("en", "ru"), ("ru", "en"), ("zh", "en"), ("en", "zh"), ("ko", "ja"), ("ar", "he"), ("th", "km"), ("hi", "bn")],
)
def test_a_sentence_is_not_in_the_letters_of_another_script(text: str, code: str) -> None:
    assert languages.letters_share(SENTENCES[text], find(code)) == 0


def test_a_share_of_letters_is_counted() -> None:
    assert languages.letters_share("我用 Python 3.", find("zh")) == 2 / 8
    assert languages.letters_share(["我用", " Python 3."], find("en")) == 6 / 8


def test_japanese_is_in_kana_and_kanji_and_chinese_only_in_the_latter() -> None:
    assert languages.letters_share("これは本です", find("ja")) == 1
    assert languages.letters_share("これは本です", find("zh")) == pytest.approx(1 / 6)


@pytest.mark.parametrize("texts", ["", [], ["", "12:30 – 50%"]])
def test_without_letters_nothing_is_wrong(texts: str | list[str]) -> None:
    assert languages.letters_share(texts, find("ru")) == 1


@given(st.text(), st.sampled_from(sorted(LANGUAGES)))
def test_a_share_lies_between_none_and_all(text: str, code: str) -> None:
    assert 0 <= languages.letters_share(text, LANGUAGES[code]) <= 1


NAMED = {  # how Unicode names the letters of a script, as in CYRILLIC SMALL LETTER A
    "Arab": "ARABIC",
    "Armn": "ARMENIAN",
    "Beng": "BENGALI",
    "Cans": "CANADIAN",
    "Cher": "CHEROKEE",
    "Cyrl": "CYRILLIC",
    "Deva": "DEVANAGARI",
    "Ethi": "ETHIOPIC",
    "Geor": "GEORGIAN",
    "Grek": "GREEK (SMALL|CAPITAL)",
    "Gujr": "GUJARATI",
    "Guru": "GURMUKHI",
    "Hang": "(HALFWIDTH )?HANGUL",
    "Hans": "CJK",
    "Hant": "(CJK|BOPOMOFO)",
    "Hebr": "HEBREW",
    "Jpan": "(CJK|HIRAGANA|(HALFWIDTH )?KATAKANA)",
    "Khmr": "KHMER",
    "Knda": "KANNADA",
    "Laoo": "LAO",
    "Latn": "(FULLWIDTH )?LATIN (SMALL|CAPITAL)",
    "Mlym": "MALAYALAM",
    "Mong": "MONGOLIAN",
    "Mtei": "MEETEI",
    "Mymr": "MYANMAR",
    "Olck": "OL CHIKI",
    "Orya": "ORIYA",
    "Sinh": "SINHALA",
    "Taml": "TAMIL",
    "Telu": "TELUGU",
    "Tfng": "TIFINAGH",
    "Thaa": "THAANA",
    "Thai": "THAI",
    "Tibt": "TIBETAN",
}


@pytest.fixture(scope="module")
def letters() -> dict[str, str]:
    """Every letter with its name in Unicode."""
    return {chr(code): unicodedata.name(chr(code), "") for code in range(0x30000) if chr(code).isalpha()}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_has_the_letters_that_unicode_names_after_it(letters: dict[str, str], script: str) -> None:
    named = "".join(letter for letter, name in letters.items() if re.match(f"{NAMED[script]} ", name))
    assert named and re.sub(f"[{SCRIPTS[script]}]", "", named) == ""


# Models.


def test_codes_of_models() -> None:
    german = find("de")
    assert (languages.mbart_code(german), languages.nllb_code(german)) == ("de_DE", "deu_Latn")
    assert languages.t5_prefix(find("en"), german) == "translate English to German: "


@pytest.mark.parametrize(
    ("code", "in_vocabulary"),
    [
        ("fr", ">>fra<<"),
        ("fr", ">>fr<<"),
        ("zh", ">>cmn_Hans<<"),
        ("zh", ">>zh_cn<<"),
        ("zh-Hant", ">>cmn_Hant<<"),
        ("zh-Hant", ">>zh_TW<<"),
        ("ar", ">>ara<<"),
        ("sr", ">>srp_Cyrl<<"),
        ("nb", ">>nob<<"),
        ("nb", ">>no<<"),
        ("lv", ">>lav<<"),
    ],
)
def test_marian_tokens_hold_those_of_real_models(code: str, in_vocabulary: str) -> None:
    assert in_vocabulary in languages.marian_tokens(find(code))


def test_marian_tokens_come_in_order_of_preference() -> None:
    assert languages.marian_tokens(find("de")) == (
        ">>deu_Latn<<", ">>ger_Latn<<", ">>deu<<", ">>ger<<", ">>de<<",
    )  # fmt: skip
    assert ">>zho<<" not in languages.marian_tokens(find("zh-Hant"))  # it means simplified letters


def test_mbart_refuses_what_it_does_not_know() -> None:
    with pytest.raises(UserError, match=r"mBART-50 does not know Danish \(da\); it knows af, ar, .*\nChoose an NLLB"):
        languages.mbart_code(find("da"))


def test_nllb_refuses_what_it_does_not_know() -> None:
    with pytest.raises(UserError, match=r"NLLB-200 does not know Breton \(br\)"):
        languages.nllb_code(find("br"))
