"""Languages by their BCP-47 codes, how translation models name them, and the letters that they are written in.

The table holds every language of NLLB-200 and of mBART-50, and some more that translation corpora have. A
language that is written in two scripts is two entries where NLLB trains them apart (Chinese, Kashmiri), and one
entry with both scripts elsewhere (Serbian).

Sources: the language lists of NLLB-200 (NLLB Team 2022, arXiv:2207.04672, appendix) and of mBART-50 (Tang et al.
2020, arXiv:2008.00401); ISO 639; the scripts' ranges are blocks of the Unicode Standard.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ftkit.errors import UserError

LATIN = "A-Za-zªºÀ-ÖØ-öø-\u02ff\u1d00-\u1dbf\u1e00-\u1eff\u2183\u2184\u2c60-\u2c7f\ua720-\ua7ff\uab30-\uab6fﬀ-ﬆ"
LATIN += "Ａ-Ｚａ-ｚ\U00010780-\U000107bf\U0001df00-\U0001dfff"
ARABIC = "\u0600-\u06ff\u0750-\u077f\u0870-\u08ff\ufb50-\ufdff\ufe70-\ufeff\U00010ec0-\U00010eff\U0001ee00-\U0001eeff"
HAN = "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"

SCRIPTS = {  # ISO 15924 code -> the ranges of its letters, as in a regular expression's [...]
    "Arab": ARABIC,
    "Armn": "\u0530-\u058f\ufb13-\ufb17",
    "Beng": "\u0980-\u09ff",
    "Cans": "\u1400-\u167f\u18b0-\u18ff\U00011ab0-\U00011abf",
    "Cher": "\u13a0-\u13ff\uab70-\uabbf",
    "Cyrl": "\u0400-\u052f\u1c80-\u1c8f\u1d2b\u1d78\u2de0-\u2dff\ua640-\ua69f\U0001e030-\U0001e08f",
    "Deva": "\u0900-\u097f\u1cd0-\u1cff\ua8e0-\ua8ff",
    "Ethi": "\u1200-\u139f\u2d80-\u2ddf\uab00-\uab2f\U0001e7e0-\U0001e7ff",
    "Geor": "\u10a0-\u10ff\u1c90-\u1cbf\u2d00-\u2d2f",
    "Grek": "\u0370-\u03ff\u1f00-\u1fff",
    "Gujr": "\u0a80-\u0aff",
    "Guru": "\u0a00-\u0a7f",
    "Hang": "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff\uffa0-\uffdc",
    "Hans": HAN,
    "Hant": HAN + "\u3100-\u312f\u31a0-\u31bf",
    "Hebr": "\u0590-\u05ff\ufb1d-\ufb4f",
    "Jpan": HAN + "\u3031-\u3035\u303b\u303c\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001aff0-\U0001b16f",
    "Khmr": "\u1780-\u17ff",
    "Knda": "\u0c80-\u0cff",
    "Laoo": "\u0e80-\u0eff",
    "Latn": LATIN,
    "Mlym": "\u0d00-\u0d7f",
    "Mong": "\u1800-\u18af",
    "Mtei": "\uaae0-\uaaff\uabc0-\uabff",
    "Mymr": "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f",
    "Olck": "\u1c50-\u1c7f",
    "Orya": "\u0b00-\u0b7f",
    "Sinh": "\u0d80-\u0dff",
    "Taml": "\u0b80-\u0bff",
    "Telu": "\u0c00-\u0c7f",
    "Tfng": "\u2d30-\u2d7f",
    "Thaa": "\u0780-\u07bf",
    "Thai": "\u0e00-\u0e7f",
    "Tibt": "\u0f00-\u0fff",
}


@dataclass(frozen=True, slots=True)
class Language:
    """A language, or one of its scripts where they are kept apart.

    Attributes:
        code: BCP-47, such as "de" or "zh-Hant".
        name: in English.
        tag: ISO 639-3 code and script, such as "deu_Latn": NLLB's code where `in_nllb` is true.
        mbart: mBART-50's code, such as "de_DE".
        others: further codes in use, of ISO 639 (also for the macrolanguage) or of older Marian models.
        also: scripts that it is written in beside the tag's.
        in_nllb: whether NLLB-200 has it.
    """

    code: str
    name: str
    tag: str
    mbart: str | None = None
    others: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    in_nllb: bool = True

    @property
    def scripts(self) -> tuple[str, ...]:
        """Keys of SCRIPTS, the usual one first."""
        return (self.tag.partition("_")[2], *self.also)


_TABLE = (
    Language("ace", "Acehnese", "ace_Latn"),
    Language("ace-Arab", "Acehnese (Arabic script)", "ace_Arab"),
    Language("acm", "Mesopotamian Arabic", "acm_Arab"),
    Language("acq", "Ta'izzi-Adeni Arabic", "acq_Arab"),
    Language("aeb", "Tunisian Arabic", "aeb_Arab"),
    Language("af", "Afrikaans", "afr_Latn", "af_ZA"),
    Language("ajp", "South Levantine Arabic", "ajp_Arab"),
    Language("ak", "Akan", "aka_Latn"),
    Language("am", "Amharic", "amh_Ethi"),
    Language("apc", "North Levantine Arabic", "apc_Arab"),
    Language("ar", "Arabic", "arb_Arab", "ar_AR", ("ara",)),
    Language("ars", "Najdi Arabic", "ars_Arab"),
    Language("ary", "Moroccan Arabic", "ary_Arab"),
    Language("arz", "Egyptian Arabic", "arz_Arab"),
    Language("as", "Assamese", "asm_Beng"),
    Language("ast", "Asturian", "ast_Latn"),
    Language("awa", "Awadhi", "awa_Deva"),
    Language("ay", "Aymara", "ayr_Latn", None, ("aym",)),
    Language("az", "Azerbaijani", "azj_Latn", "az_AZ", ("aze",), ("Cyrl",)),
    Language("azb", "South Azerbaijani", "azb_Arab"),
    Language("ba", "Bashkir", "bak_Cyrl"),
    Language("ban", "Balinese", "ban_Latn"),
    Language("be", "Belarusian", "bel_Cyrl", None, (), ("Latn",)),
    Language("bem", "Bemba", "bem_Latn"),
    Language("bg", "Bulgarian", "bul_Cyrl"),
    Language("bho", "Bhojpuri", "bho_Deva"),
    Language("bjn", "Banjar", "bjn_Latn"),
    Language("bjn-Arab", "Banjar (Arabic script)", "bjn_Arab"),
    Language("bm", "Bambara", "bam_Latn"),
    Language("bn", "Bengali", "ben_Beng", "bn_IN"),
    Language("bo", "Tibetan", "bod_Tibt", None, ("tib",)),
    Language("br", "Breton", "bre_Latn", in_nllb=False),
    Language("bs", "Bosnian", "bos_Latn", None, (), ("Cyrl",)),
    Language("bug", "Buginese", "bug_Latn"),
    Language("ca", "Catalan", "cat_Latn"),
    Language("ceb", "Cebuano", "ceb_Latn"),
    Language("chr", "Cherokee", "chr_Cher", in_nllb=False),
    Language("cjk", "Chokwe", "cjk_Latn"),
    Language("ckb", "Central Kurdish", "ckb_Arab"),
    Language("co", "Corsican", "cos_Latn", in_nllb=False),
    Language("crh", "Crimean Tatar", "crh_Latn", None, (), ("Cyrl",)),
    Language("cs", "Czech", "ces_Latn", "cs_CZ", ("cze",)),
    Language("cv", "Chuvash", "chv_Cyrl", in_nllb=False),
    Language("cy", "Welsh", "cym_Latn", None, ("wel",)),
    Language("da", "Danish", "dan_Latn"),
    Language("de", "German", "deu_Latn", "de_DE", ("ger",)),
    Language("dik", "Southwestern Dinka", "dik_Latn", None, ("din",)),
    Language("dsb", "Lower Sorbian", "dsb_Latn", in_nllb=False),
    Language("dv", "Dhivehi", "div_Thaa", in_nllb=False),
    Language("dyu", "Dyula", "dyu_Latn"),
    Language("dz", "Dzongkha", "dzo_Tibt"),
    Language("ee", "Ewe", "ewe_Latn"),
    Language("el", "Greek", "ell_Grek", None, ("gre",)),
    Language("en", "English", "eng_Latn", "en_XX"),
    Language("eo", "Esperanto", "epo_Latn"),
    Language("es", "Spanish", "spa_Latn", "es_XX"),
    Language("et", "Estonian", "est_Latn", "et_EE", ("ekk",)),
    Language("eu", "Basque", "eus_Latn", None, ("baq",)),
    Language("fa", "Persian", "pes_Arab", "fa_IR", ("fas", "per")),
    Language("fi", "Finnish", "fin_Latn", "fi_FI"),
    Language("fj", "Fijian", "fij_Latn"),
    Language("fo", "Faroese", "fao_Latn"),
    Language("fon", "Fon", "fon_Latn"),
    Language("fr", "French", "fra_Latn", "fr_XX", ("fre",)),
    Language("fur", "Friulian", "fur_Latn"),
    Language("fuv", "Nigerian Fulfulde", "fuv_Latn", None, ("ff", "ful")),
    Language("fy", "Western Frisian", "fry_Latn", in_nllb=False),
    Language("ga", "Irish", "gle_Latn"),
    Language("gd", "Scottish Gaelic", "gla_Latn"),
    Language("gl", "Galician", "glg_Latn", "gl_ES"),
    Language("gn", "Guarani", "grn_Latn"),
    Language("gu", "Gujarati", "guj_Gujr", "gu_IN"),
    Language("gv", "Manx", "glv_Latn", in_nllb=False),
    Language("ha", "Hausa", "hau_Latn"),
    Language("he", "Hebrew", "heb_Hebr", "he_IL", ("iw",)),
    Language("hi", "Hindi", "hin_Deva", "hi_IN"),
    Language("hne", "Chhattisgarhi", "hne_Deva"),
    Language("hr", "Croatian", "hrv_Latn", "hr_HR"),
    Language("hsb", "Upper Sorbian", "hsb_Latn", in_nllb=False),
    Language("ht", "Haitian Creole", "hat_Latn"),
    Language("hu", "Hungarian", "hun_Latn"),
    Language("hy", "Armenian", "hye_Armn", None, ("arm",)),
    Language("id", "Indonesian", "ind_Latn", "id_ID"),
    Language("ig", "Igbo", "ibo_Latn"),
    Language("ilo", "Ilocano", "ilo_Latn"),
    Language("is", "Icelandic", "isl_Latn", None, ("ice",)),
    Language("it", "Italian", "ita_Latn", "it_IT"),
    Language("iu", "Inuktitut", "iku_Cans", None, (), ("Latn",), in_nllb=False),
    Language("ja", "Japanese", "jpn_Jpan", "ja_XX"),
    Language("jv", "Javanese", "jav_Latn"),
    Language("ka", "Georgian", "kat_Geor", "ka_GE", ("geo",)),
    Language("kab", "Kabyle", "kab_Latn"),
    Language("kac", "Jingpho", "kac_Latn"),
    Language("kam", "Kamba", "kam_Latn"),
    Language("kbp", "Kabiye", "kbp_Latn"),
    Language("kea", "Kabuverdianu", "kea_Latn"),
    Language("kg", "Kikongo", "kon_Latn"),
    Language("ki", "Kikuyu", "kik_Latn"),
    Language("kk", "Kazakh", "kaz_Cyrl", "kk_KZ", (), ("Latn",)),
    Language("km", "Khmer", "khm_Khmr", "km_KH"),
    Language("kmb", "Kimbundu", "kmb_Latn"),
    Language("kn", "Kannada", "kan_Knda"),
    Language("knc", "Central Kanuri", "knc_Latn", None, ("kau",)),
    Language("knc-Arab", "Central Kanuri (Arabic script)", "knc_Arab"),
    Language("ko", "Korean", "kor_Hang", "ko_KR"),
    Language("ks", "Kashmiri", "kas_Arab"),
    Language("ks-Deva", "Kashmiri (Devanagari script)", "kas_Deva"),
    Language("ku", "Northern Kurdish", "kmr_Latn", None, ("kur",)),
    Language("kw", "Cornish", "cor_Latn", in_nllb=False),
    Language("ky", "Kyrgyz", "kir_Cyrl"),
    Language("la", "Latin", "lat_Latn", in_nllb=False),
    Language("lb", "Luxembourgish", "ltz_Latn"),
    Language("lg", "Ganda", "lug_Latn"),
    Language("li", "Limburgish", "lim_Latn"),
    Language("lij", "Ligurian", "lij_Latn"),
    Language("lmo", "Lombard", "lmo_Latn"),
    Language("ln", "Lingala", "lin_Latn"),
    Language("lo", "Lao", "lao_Laoo"),
    Language("lt", "Lithuanian", "lit_Latn", "lt_LT"),
    Language("ltg", "Latgalian", "ltg_Latn"),
    Language("lua", "Luba-Kasai", "lua_Latn"),
    Language("luo", "Luo", "luo_Latn"),
    Language("lus", "Mizo", "lus_Latn"),
    Language("lv", "Latvian", "lvs_Latn", "lv_LV", ("lav",)),
    Language("mag", "Magahi", "mag_Deva"),
    Language("mai", "Maithili", "mai_Deva"),
    Language("mg", "Malagasy", "plt_Latn", None, ("mlg",)),
    Language("mi", "Maori", "mri_Latn", None, ("mao",)),
    Language("min", "Minangkabau", "min_Latn"),
    Language("mk", "Macedonian", "mkd_Cyrl", "mk_MK", ("mac",)),
    Language("ml", "Malayalam", "mal_Mlym", "ml_IN"),
    Language("mn", "Mongolian", "khk_Cyrl", "mn_MN", ("mon",), ("Mong",)),
    Language("mni", "Meitei", "mni_Beng", None, (), ("Mtei",)),
    Language("mos", "Mossi", "mos_Latn"),
    Language("mr", "Marathi", "mar_Deva", "mr_IN"),
    Language("ms", "Malay", "zsm_Latn", None, ("msa", "may", "zlm"), ("Arab",)),
    Language("mt", "Maltese", "mlt_Latn"),
    Language("my", "Burmese", "mya_Mymr", "my_MM", ("bur",)),
    Language("nb", "Norwegian Bokmål", "nob_Latn", None, ("no", "nor")),
    Language("ne", "Nepali", "npi_Deva", "ne_NP", ("nep",)),
    Language("nl", "Dutch", "nld_Latn", "nl_XX", ("dut",)),
    Language("nn", "Norwegian Nynorsk", "nno_Latn"),
    Language("nso", "Northern Sotho", "nso_Latn", None, ("ns",)),
    Language("nus", "Nuer", "nus_Latn"),
    Language("ny", "Chichewa", "nya_Latn"),
    Language("oc", "Occitan", "oci_Latn"),
    Language("om", "Oromo", "gaz_Latn", None, ("orm",)),
    Language("or", "Odia", "ory_Orya", None, ("ori",)),
    Language("pa", "Punjabi", "pan_Guru", None, (), ("Arab",)),
    Language("pag", "Pangasinan", "pag_Latn"),
    Language("pap", "Papiamento", "pap_Latn"),
    Language("pl", "Polish", "pol_Latn", "pl_PL"),
    Language("prs", "Dari", "prs_Arab"),
    Language("ps", "Pashto", "pbt_Arab", "ps_AF", ("pus",)),
    Language("pt", "Portuguese", "por_Latn", "pt_XX"),
    Language("qu", "Quechua", "quy_Latn", None, ("que",)),
    Language("rm", "Romansh", "roh_Latn", in_nllb=False),
    Language("rn", "Rundi", "run_Latn"),
    Language("ro", "Romanian", "ron_Latn", "ro_RO", ("rum",)),
    Language("ru", "Russian", "rus_Cyrl", "ru_RU"),
    Language("rw", "Kinyarwanda", "kin_Latn"),
    Language("sa", "Sanskrit", "san_Deva"),
    Language("sat", "Santali", "sat_Beng", None, (), ("Olck",)),  # NLLB's code says Beng, its texts are in Olck
    Language("sc", "Sardinian", "srd_Latn"),
    Language("scn", "Sicilian", "scn_Latn"),
    Language("sd", "Sindhi", "snd_Arab", None, (), ("Deva",)),
    Language("se", "Northern Sami", "sme_Latn", in_nllb=False),
    Language("sg", "Sango", "sag_Latn"),
    Language("shn", "Shan", "shn_Mymr"),
    Language("si", "Sinhala", "sin_Sinh", "si_LK"),
    Language("sk", "Slovak", "slk_Latn", None, ("slo",)),
    Language("sl", "Slovenian", "slv_Latn", "sl_SI"),
    Language("sm", "Samoan", "smo_Latn"),
    Language("sn", "Shona", "sna_Latn"),
    Language("so", "Somali", "som_Latn"),
    Language("sq", "Albanian", "als_Latn", None, ("sqi", "alb")),
    Language("sr", "Serbian", "srp_Cyrl", None, (), ("Latn",)),
    Language("ss", "Swati", "ssw_Latn"),
    Language("st", "Southern Sotho", "sot_Latn"),
    Language("su", "Sundanese", "sun_Latn"),
    Language("sv", "Swedish", "swe_Latn", "sv_SE"),
    Language("sw", "Swahili", "swh_Latn", "sw_KE", ("swa",)),
    Language("szl", "Silesian", "szl_Latn"),
    Language("ta", "Tamil", "tam_Taml", "ta_IN"),
    Language("taq", "Tamasheq", "taq_Latn"),
    Language("taq-Tfng", "Tamasheq (Tifinagh script)", "taq_Tfng"),
    Language("te", "Telugu", "tel_Telu", "te_IN"),
    Language("tg", "Tajik", "tgk_Cyrl"),
    Language("th", "Thai", "tha_Thai", "th_TH"),
    Language("ti", "Tigrinya", "tir_Ethi"),
    Language("tk", "Turkmen", "tuk_Latn", None, (), ("Cyrl",)),
    Language("tl", "Tagalog", "tgl_Latn", "tl_XX", ("fil",)),
    Language("tn", "Tswana", "tsn_Latn"),
    Language("tpi", "Tok Pisin", "tpi_Latn"),
    Language("tr", "Turkish", "tur_Latn", "tr_TR"),
    Language("ts", "Tsonga", "tso_Latn"),
    Language("tt", "Tatar", "tat_Cyrl", None, (), ("Latn",)),
    Language("tum", "Tumbuka", "tum_Latn"),
    Language("tw", "Twi", "twi_Latn"),
    Language("tzm", "Central Atlas Tamazight", "tzm_Tfng", None, (), ("Latn",)),
    Language("ug", "Uyghur", "uig_Arab"),
    Language("uk", "Ukrainian", "ukr_Cyrl", "uk_UA"),
    Language("umb", "Umbundu", "umb_Latn"),
    Language("ur", "Urdu", "urd_Arab", "ur_PK"),
    Language("uz", "Uzbek", "uzn_Latn", None, ("uzb",), ("Cyrl",)),
    Language("vec", "Venetian", "vec_Latn"),
    Language("vi", "Vietnamese", "vie_Latn", "vi_VN"),
    Language("war", "Waray", "war_Latn"),
    Language("wo", "Wolof", "wol_Latn"),
    Language("xh", "Xhosa", "xho_Latn", "xh_ZA"),
    Language("yi", "Yiddish", "ydd_Hebr", None, ("yid",)),
    Language("yo", "Yoruba", "yor_Latn"),
    Language("yue", "Cantonese", "yue_Hant", None, (), ("Hans",)),
    Language("zh", "Chinese", "zho_Hans", "zh_CN", ("cmn", "chi", "zh_CN", "zh_SG")),
    Language("zh-Hant", "Traditional Chinese", "zho_Hant", None, ("cmn_Hant", "zh_TW", "zh_HK", "zh_MO")),
    Language("zu", "Zulu", "zul_Latn"),
)

LANGUAGES = {language.code: language for language in _TABLE}

# What is written for a language by mistake, often the code of a country, and what was meant.
MISTAKEN = {
    "cn": "zh",
    "cz": "cs",
    "dk": "da",
    "gb": "en",
    "gr": "el",
    "jp": "ja",
    "kr": "ko",
    "ua": "uk",
    "us": "en",
    "vn": "vi",
}


def _lower(code: str) -> str:
    return code.strip().lower().replace("_", "-")


def _by_any_code() -> dict[str, Language]:
    """Language by each of its codes and its name, in lower case with hyphens; of two scripts the first entry's."""
    found: dict[str, Language] = {}
    for language in _TABLE:
        codes = (language.code, language.name, language.tag, language.mbart or language.code, *language.others)
        found |= dict.fromkeys(map(_lower, codes), language)
    for language in _TABLE:  # the bare ISO 639-3 code, where it is no other language's own
        found.setdefault(language.tag.partition("_")[0], language)
    return found


_BY_ANY_CODE = _by_any_code()


def find(code: str) -> Language:
    """The language of a code: BCP-47 ("en", "en-US", "zh-Hant"), ISO 639-3, NLLB's, mBART-50's; or an English name.

    Regions are accepted and make no difference but for Chinese (TW, HK, MO: traditional letters). Upper and
    lower case, and "-" and "_", are alike.

    Raises:
        UserError: no such language is known, or it is not written in that script.
    """
    wanted = _lower(code)
    if language := _BY_ANY_CODE.get(wanted):
        return language
    if parts := re.fullmatch(r"([a-z]{2,3})(?:-([a-z]{4}))?(?:-(?:[a-z]{2}|\d{3}))?", wanted):
        start, script = parts[1], parts[2]
        language = _BY_ANY_CODE.get(f"{start}-{script}") or _BY_ANY_CODE.get(start)
        if language and (script is None or script.title() == language.scripts[0]):
            return language
        if language and script.title() in language.scripts:  # models that know the language may not know it so written
            return _in_script(language, script.title())
        if language:
            raise UserError(
                f"{code!r}: no {language.name} in the script {script.title()} is known",
                f"{language.name} is {language.code}, in {' or '.join(language.scripts)}",
            )
    meant = [MISTAKEN[wanted]] if wanted in MISTAKEN else difflib.get_close_matches(wanted, _BY_ANY_CODE, 3, 0.8)
    near = dict.fromkeys(f"{found.code} ({found.name})" for found in (_BY_ANY_CODE[each] for each in meant))
    raise UserError(
        f"{code!r} is the code of no language that is known here",
        f"Did you mean {' or '.join(near)}?" if near else "Write a BCP-47 code, such as en, de, zh or zh-Hant",
    )


def _in_script(language: Language, script: str) -> Language:
    start, iso = language.code.partition("-")[0], language.tag.partition("_")[0]
    return replace(
        language,
        code=f"{start}-{script}",
        name=f"{language.name} ({script})",
        tag=f"{iso}_{script}",
        mbart=None,
        others=(),
        also=(),
        in_nllb=False,
    )


def is_code(text: str) -> bool:
    """Whether `find` knows it, as for a column named by its language. Beware: "id", "no" and "is" are codes too."""
    try:
        find(text)
    except UserError:
        return False
    return True


def letters_share(texts: str | Iterable[str], language: Language) -> float:
    """The share of the letters in one or more texts that belong to a script of the language, in [0, 1].

    Digits, punctuation, symbols and combining marks do not count. Without a letter nothing speaks against the
    language: 1. Simplified and traditional Chinese share most of their letters and are not told apart.
    """
    letters = "".join(filter(str.isalpha, texts if isinstance(texts, str) else "".join(texts)))
    foreign = re.sub(f"[{''.join(SCRIPTS[script] for script in language.scripts)}]+", "", letters)
    return 1 - len(foreign) / len(letters) if letters else 1.0


def mbart_code(language: Language) -> str:
    """mBART-50's code, such as "de_DE".

    Raises:
        UserError: mBART-50 does not know the language.
    """
    if language.mbart is None:
        known = ", ".join(each.code for each in _TABLE if each.mbart)
        raise UserError(
            f"mBART-50 does not know {language.name} ({language.code}); it knows {known}",
            f"Choose an NLLB model, which knows it as {language.tag}" if language.in_nllb else "Choose another model",
        )
    return language.mbart


def nllb_code(language: Language) -> str:
    """NLLB-200's code, such as "deu_Latn".

    Raises:
        UserError: NLLB-200 does not know the language.
    """
    if not language.in_nllb:
        raise UserError(f"NLLB-200 does not know {language.name} ({language.code})", "Choose another model")
    return language.tag


def t5_prefix(source: Language, target: Language) -> str:
    """What T5's inputs begin with: "translate English to German: " (Raffel et al. 2020, appendix D)."""
    return f"translate {source.name} to {target.name}: "


def marian_tokens(language: Language) -> tuple[str, ...]:
    """Tokens by which Marian models of several target languages (opus-mt) may name this one, the surest first.

    Newer models use ISO 639-3 with or without the script (">>cmn_Hans<<", ">>fra<<"), older ones mostly ISO 639-1
    (">>fr<<"). A model has at most one or two of them: take the first that is in its vocabulary.
    """
    start, _, script = language.tag.partition("_")
    base = language.code.partition("-")[0]
    names = [start, *(other for other in language.others if "_" not in other)]
    regional = [other for other in language.others if "_" in other]
    plain = [*names, base] if language.code == base else []  # not of the rarer one of two scripts
    codes = [*(f"{name}_{script}" for name in names), *regional, *map(str.lower, regional), *plain]
    return tuple(f">>{code}<<" for code in dict.fromkeys(codes))
