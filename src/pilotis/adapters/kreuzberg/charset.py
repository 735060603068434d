"""Which old encoding bytes are in that nothing declares, by the letters that its languages use most.

In Western languages the bytes above 127 stand alone among ASCII letters; in other scripts they stand together. Only there the
scripts compete, and the one in which the text looks most like itself wins.
"""

from __future__ import annotations

import re

WESTERN = "windows-1252"

_RUN = re.compile(rb"[\x80-\xff]{3,}")
_HIGH = re.compile(rb"[\x80-\xff]")
_SAMPLE_BYTES = 65_536
_ALIEN = 0.6
"""From this share of bytes above 127 that have such neighbours on, the text is not Western."""
_LIKELY = 0.4

_CYRILLIC = ("абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґўђјљњћџ", "оеаинтсрвлкмдпуяыьгзбчйх")
_ARABIC = ("ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىيپچژگ،؛؟", "ايلمنرتوبهدسعكفقحأجشةىإ،")
_HEBREW = ("אבגדהוזחטיךכלםמןנסעףפץצקרשת", "יוהלאתרבמשנדחםקפעט")
_GREEK = ("αβγδεζηθικλμνξοπρςστυφχψωάέήίόύώϊϋ", "αοιετσνηυρπκμλίόάέήςθω")
_THAI = ("กขฃคฅฆงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮะัาำิีึืุูเแโใไ็่้๊๋์", "านรอกเงมยลวดทสตะปบคหแจพช่้ีิ")
_KANA = "".join(map(chr, range(0x3041, 0x3097))) + "".join(map(chr, range(0x30A1, 0x30FB))) + "ー、。「」"
_SIMPLIFIED = "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年，。"
_TRADITIONAL = "的一是不了在人有我他這中大來上國個到說們為子和你地出道也時年，。"
_HANGUL = "이다는의에을가은고를하지도로한사기서리인어"

_CANDIDATES = {
    "windows-1251": _CYRILLIC, "koi8-r": _CYRILLIC, "cp866": _CYRILLIC, "iso-8859-5": _CYRILLIC,
    "windows-1256": _ARABIC, "iso-8859-6": _ARABIC, "windows-1255": _HEBREW, "windows-1253": _GREEK, "windows-874": _THAI,
    "shift_jis": ("", _KANA), "euc-jp": ("", _KANA), "gb18030": ("", _SIMPLIFIED), "big5": ("", _TRADITIONAL), "euc-kr": ("", _HANGUL),
}  # fmt: skip
_CODECS = {"windows-874": "cp874", "shift_jis": "cp932", "big5": "cp950", "euc-kr": "cp949"}
_IDEOGRAPH = re.compile("[\u4e00-\u9fff\uac00-\ud7a3]")
_LATIN_9 = re.compile(rb"(?<=[A-Za-z])[\xbd\xa8\xb8](?=[a-z])|[A-Za-z ]\xa4|\xa4[ \d]|(?<=[ cC])[\xbc\xbd](?=[a-z])")


def guess(content: bytes) -> str:
    """The encoding's name; "windows-1252" where nothing else is more likely."""
    sample = content[:_SAMPLE_BYTES]
    high = len(_HIGH.findall(sample))
    if not high or sum(map(len, _RUN.findall(sample))) < _ALIEN * high:
        return "iso-8859-15" if _LATIN_9.search(sample) and not re.search(rb"[\x80-\x9f]", sample) else WESTERN
    scores = {name: _likeness(sample, name, *letters) for name, letters in _CANDIDATES.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= _LIKELY else WESTERN


def codec_of(name: str) -> str:
    """What Python calls it, with the additions of its usual makers."""
    return _CODECS.get(name, name)


def _likeness(sample: bytes, name: str, letters: str, frequent: str) -> float:
    """From 1 (only frequent letters of the script) down to -1 (none of it), over all characters above 127."""
    # The sample may end in the middle of a character.
    text = sample.decode(codec_of(name), "replace").removesuffix("\ufffd")
    characters = [character for character in text if character > "\x7f" and not character.isspace()]
    if not characters:
        return -1.0
    total = 0.0
    for character in characters:
        if character in frequent:
            total += 1.0
        elif character in letters:
            total += 0.5
        elif not letters and _IDEOGRAPH.match(character):
            total += 0.3
        elif character.lower() not in letters:
            total -= 1.0
    return total / len(characters)
