from __future__ import annotations

import pytest

from pilotis.rag.language import detect


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("FastAPI", "en"), ("git rebase", "en"), ("hello", "en"), ("12345", "en"), ("x = 1", "en"), ("what is it", "en"),
        ("where is the café", "en"), ("budget 2003", "en"), ("resume", "en"), ("How do I create a virtual environment?", "en"),
        ("Quel montant en 2003", "fr"), ("Comment ça marche ?", "fr"), ("la liste", "fr"), ("liste des ports", "fr"),
        ("qui est Marie Curie", "fr"), ("l'IA", "fr"), ("données ouvertes", "fr"), ("accessibilité", "fr"),
        ("QUEL EST LE MONTANT DU BUDGET", "fr"), ("C’est quoi un index ?", "fr"),
    ],
)  # fmt: skip
def test_short_questions(text: str, language: str) -> None:
    assert detect(text, ("en", "fr")) == language


def test_the_first_language_where_nothing_tells() -> None:
    assert detect("FastAPI", ("fr", "en")) == "fr"
    assert detect("", ("fr", "en")) == "fr"
    assert detect("le chat", ("en",)) == "en"


def test_code_says_nothing() -> None:
    code = "```python\nfor the in this: print('the of and to is are')\n```\n"
    assert detect(code + "Voici un exemple avec la boucle.", ("en", "fr")) == "fr"


def test_other_languages_by_the_model() -> None:
    languages = ("en", "fr", "de", "es")
    assert detect("Der Hund läuft schnell über die Straße und bellt die Katze an.", languages) == "de"
    assert detect("El perro corre por la calle y ladra al gato de mi vecina.", languages) == "es"
    assert detect("The dog runs across the street and barks at the cat.", languages) == "en"


def test_a_language_unknown_to_the_model_is_no_error() -> None:
    assert detect("anything at all", ("xx", "yy")) == "xx"
