"""What languages are called by the families of encoder–decoders. Pure; IETF primary tags on the left.

Marian's models write ISO 639 codes in two or three letters, some with a script: every spelling is listed, the first that a
model's vocabulary has is used.
"""

from typing import Final, NamedTuple


class LanguageCodes(NamedTuple):
    """The codes of one language; "" = the family does not know it."""

    english: str  # T5 names languages in English
    nllb: str  # FLORES-200: three letters and a script
    mbart: str  # of mBART-50; mBART-25 has the first half of them
    m2m: str
    marian: tuple[str, ...]  # without the brackets around them


LANGUAGE_CODES: Final[dict[str, LanguageCodes]] = {
    "en": LanguageCodes("English", "eng_Latn", "en_XX", "en", ("eng", "en")),
    "zh": LanguageCodes("Chinese", "zho_Hans", "zh_CN", "zh", ("cmn_Hans", "zho_Hans", "zh_CN", "zh", "cmn", "zho")),
    "zh-hant": LanguageCodes("Traditional Chinese", "zho_Hant", "", "", ("cmn_Hant", "zho_Hant", "zh_TW")),
    "ja": LanguageCodes("Japanese", "jpn_Jpan", "ja_XX", "ja", ("jpn", "ja")),
    "ko": LanguageCodes("Korean", "kor_Hang", "ko_KR", "ko", ("kor", "ko", "kor_Hang")),
    "de": LanguageCodes("German", "deu_Latn", "de_DE", "de", ("deu", "de")),
    "fr": LanguageCodes("French", "fra_Latn", "fr_XX", "fr", ("fra", "fr")),
    "es": LanguageCodes("Spanish", "spa_Latn", "es_XX", "es", ("spa", "es")),
    "pt": LanguageCodes("Portuguese", "por_Latn", "pt_XX", "pt", ("por", "pt")),
    "it": LanguageCodes("Italian", "ita_Latn", "it_IT", "it", ("ita", "it")),
    "nl": LanguageCodes("Dutch", "nld_Latn", "nl_XX", "nl", ("nld", "nl")),
    "ru": LanguageCodes("Russian", "rus_Cyrl", "ru_RU", "ru", ("rus", "ru")),
    "uk": LanguageCodes("Ukrainian", "ukr_Cyrl", "uk_UA", "uk", ("ukr", "uk")),
    "pl": LanguageCodes("Polish", "pol_Latn", "pl_PL", "pl", ("pol", "pl")),
    "cs": LanguageCodes("Czech", "ces_Latn", "cs_CZ", "cs", ("ces", "cs")),
    "sv": LanguageCodes("Swedish", "swe_Latn", "sv_SE", "sv", ("swe", "sv")),
    "da": LanguageCodes("Danish", "dan_Latn", "", "da", ("dan", "da")),
    "no": LanguageCodes("Norwegian", "nob_Latn", "", "no", ("nob", "nor", "nb", "no")),
    "fi": LanguageCodes("Finnish", "fin_Latn", "fi_FI", "fi", ("fin", "fi")),
    "el": LanguageCodes("Greek", "ell_Grek", "", "el", ("ell", "el")),
    "hu": LanguageCodes("Hungarian", "hun_Latn", "", "hu", ("hun", "hu")),
    "ro": LanguageCodes("Romanian", "ron_Latn", "ro_RO", "ro", ("ron", "ro")),
    "bg": LanguageCodes("Bulgarian", "bul_Cyrl", "", "bg", ("bul", "bg")),
    "tr": LanguageCodes("Turkish", "tur_Latn", "tr_TR", "tr", ("tur", "tr")),
    "ar": LanguageCodes("Arabic", "arb_Arab", "ar_AR", "ar", ("ara", "ar", "arb")),
    "he": LanguageCodes("Hebrew", "heb_Hebr", "he_IL", "he", ("heb", "he")),
    "fa": LanguageCodes("Persian", "pes_Arab", "fa_IR", "fa", ("pes", "fas", "fa")),
    "hi": LanguageCodes("Hindi", "hin_Deva", "hi_IN", "hi", ("hin", "hi")),
    "bn": LanguageCodes("Bengali", "ben_Beng", "bn_IN", "bn", ("ben", "bn")),
    "ta": LanguageCodes("Tamil", "tam_Taml", "ta_IN", "ta", ("tam", "ta")),
    "ur": LanguageCodes("Urdu", "urd_Arab", "ur_PK", "ur", ("urd", "ur")),
    "th": LanguageCodes("Thai", "tha_Thai", "th_TH", "th", ("tha", "th")),
    "vi": LanguageCodes("Vietnamese", "vie_Latn", "vi_VN", "vi", ("vie", "vi")),
    "id": LanguageCodes("Indonesian", "ind_Latn", "id_ID", "id", ("ind", "id")),
    "ms": LanguageCodes("Malay", "zsm_Latn", "", "ms", ("zsm_Latn", "msa", "ms")),
    "tl": LanguageCodes("Tagalog", "tgl_Latn", "tl_XX", "tl", ("tgl_Latn", "tgl", "tl")),
    "sw": LanguageCodes("Swahili", "swh_Latn", "sw_KE", "sw", ("swh", "swa", "sw")),
    "la": LanguageCodes("Latin", "", "", "", ("lat_Latn", "lat", "la")),
    "eo": LanguageCodes("Esperanto", "epo_Latn", "", "", ("epo", "eo")),
}


def find_codes(tag: str) -> LanguageCodes | None:
    """Return the codes of an IETF tag such as "de" or "de-AT"; None for a language that is not in the table."""
    wanted = tag.casefold().replace("_", "-")
    if wanted.startswith(("zh-tw", "zh-hk", "zh-hant")):
        return LANGUAGE_CODES["zh-hant"]
    return LANGUAGE_CODES.get(wanted) or LANGUAGE_CODES.get(wanted.partition("-")[0])
