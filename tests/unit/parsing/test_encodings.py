"""Old encodings: of plain text, by its letters; of Rich Text, by its fonts."""

from __future__ import annotations

import pytest

from pilotis.adapters.kreuzberg.charset import codec_of, guess
from pilotis.adapters.kreuzberg.rtf import with_unicode_escapes
from pilotis.adapters.kreuzberg.text import decode

RUSSIAN = "Здравствуйте, предлагаем Вам ознакомиться со списком компаний. МОСКВА и регионы."
JAPANESE = "これは日本語の短い文章です。漢字とひらがなとカタカナがあります。"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("windows-1251", RUSSIAN), ("koi8-r", RUSSIAN), ("cp866", RUSSIAN), ("iso-8859-5", RUSSIAN),
        ("windows-1256", "في قرية من القرى كان هناك رجل حكيم يعرف كل شيء عن الحياة"), ("iso-8859-6", "في قرية من القرى كان هناك رجل حكيم"),
        ("windows-1255", "שלום לכולם, זהו טקסט קצר בעברית על החיים בעיר הגדולה"), ("windows-1253", "Καλημέρα σας, αυτό είναι ένα κείμενο στα ελληνικά"),
        ("windows-874", "สวัสดีครับ นี่คือข้อความภาษาไทยสั้น"), ("shift_jis", JAPANESE), ("euc-jp", JAPANESE),
        ("gb18030", "这是一个中文的句子，我们在这里说明这个问题。"), ("big5", "這是一個中文的句子，我們在這裡說明這個問題。"),
        ("euc-kr", "안녕하세요. 이것은 한국어로 된 짧은 문장입니다."), ("windows-1252", "l'été à 3 €, ça dépend"), ("windows-1252", "Größe über Straßen"),
        ("windows-1252", "ÉTÉ À LA MER"), ("iso-8859-15", "Été, cœur et façade"), ("iso-8859-15", "prix : 12 € et cœur"), ("windows-1252", "1½ cup, 3¼ in"),
    ],
)  # fmt: skip
def test_the_letters_tell_the_encoding(encoding: str, text: str) -> None:
    content = text.encode(codec_of(encoding))
    assert guess(content) == encoding
    assert guess(b"<p class='long and quite Western'>" * 20 + content) == encoding
    found, warnings = decode(content)
    assert found == text
    assert warnings == [f"not UTF-8: read as {encoding.title()}"]


def test_what_is_declared_comes_first_and_is_not_believed_where_it_cannot_be() -> None:
    assert decode(RUSSIAN.encode("koi8-r"), "koi8-r") == (RUSSIAN, [])
    assert decode(RUSSIAN.encode("cp1251"), "utf-8")[0] == RUSSIAN
    assert decode("3 €".encode("cp1252"), "iso-8859-1")[0] == "3 €"
    assert decode("été".encode("cp1252"), "no-such-thing")[0] == "été"


@pytest.mark.parametrize("content", [b"\x80", b"\xff\xfe\xfd\xfc", b"a\x81\x8d\x8f\x90\x9d", b"\x83", bytes(range(128, 256))])
def test_any_bytes_get_a_name(content: bytes) -> None:
    assert content.decode(codec_of(guess(content)), "replace")


def test_rich_text_keeps_the_encoding_of_its_fonts() -> None:
    table = rb"{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset128 Gothic;}{\f2\fcharset204 Cyr;}}"
    document = rb"{\rtf1\ansi\ansicpg1252" + table + rb"\f0 caf\'e9 {\f1 \'83\'5d\'83]} \f2 \'cc\'ee \f0\'e9}"
    found = with_unicode_escapes(document).decode("ascii")
    assert r"\f0 caf\'e9 " in found
    assert "{" + r"\f1 " + "".join(rf"\u{ord(c)}?" for c in "ゾゾ") + "}" in found
    assert r"\f2 " + "".join(rf"\u{ord(c)}?" for c in "Мо") in found
    assert found.endswith(r"\f0\'e9}")


def test_rich_text_of_one_code_page() -> None:
    escaped = "".join(rf"\'{byte:02x}" for byte in "Привет".encode("cp1251")).encode()
    found = with_unicode_escapes(rb"{\rtf1\ansi\ansicpg1251\uc0\fs20 " + escaped + b"}").decode("ascii")
    assert found == r"{\rtf1\ansi\ansicpg1251\uc0\fs20 " + "".join(rf"\u{ord(c)} " for c in "Привет") + "}"


@pytest.mark.parametrize(
    "document",
    [
        rb"{\rtf1\ansi caf\'e9}",
        b"",
        b"}}}{{{",
        rb"\'",
        rb"{\bin99999 ab",
        rb"{\ansicpg99999\'e9}",
        rb"{\f-1\fcharset1\'e9",
        b"\\",
        b"plain \xff",
    ],
)
def test_western_and_broken_rich_text_stays_as_it_is(document: bytes) -> None:
    assert with_unicode_escapes(document) == document
