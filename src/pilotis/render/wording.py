"""Numbers and sentences as people read them, in English or French."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

Language = Literal["en", "fr"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

_NBSP = "\N{NO-BREAK SPACE}"
_SPANS = ((86_400, "d", "j"), (3_600, "h", "h"), (60, "min", "min"), (1, "s", "s"))


@dataclass(frozen=True, slots=True)
class Wording:
    """How one language writes."""

    language: Language

    def say(self, english: str, french: str) -> str:
        return french if self.language == "fr" else english

    def pick(self, text: str) -> str:
        """Of `English | French` the one; a text without a bar is the same in both."""
        english, bar, french = text.partition(" | ")
        return self.say(english, french) if bar else text

    def number(self, value: Decimal | float, places: int | None = None) -> str:
        """With groups of three, and so many places, or those that it has."""
        exact = value if isinstance(value, Decimal) else Decimal(str(value))
        text = f"{exact:,.{places}f}" if places is not None else f"{exact.normalize():,f}"
        return self.say(text, text.replace(",", _NBSP).replace(".", ","))

    def eur(self, amount: Decimal, places: int | None = None) -> str:
        """To the cent at least, and with every place that it has, or so many."""
        if places is None:
            exponent = amount.normalize().as_tuple().exponent
            places = max(2, -exponent if isinstance(exponent, int) else 2)
        return f"{self.number(amount, places)}{_NBSP}€"

    def percent(self, share: Decimal | float) -> str:
        return f"{self.number(Decimal(str(share)) * 100)}{_NBSP}%"

    def span(self, seconds: Decimal | float) -> str:
        """The largest unit that gives a whole number: 24 h, 90 s, 15 min."""
        exact = Decimal(str(seconds))
        for size, english, french in _SPANS:
            if exact >= size and exact % size == 0 and (size < 86_400 or exact >= 2 * size):
                return f"{self.number(exact / size)}{_NBSP}{self.say(english, french)}"
        return f"{self.number(exact)}{_NBSP}s"

    def several(self, words: list[str]) -> str:
        """a, b and c."""
        *most, last = words
        return f"{', '.join(most)} {self.say('and', 'et')} {last}" if most else last
