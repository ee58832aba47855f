"""Numerals: numbers verbalised in English."""

ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
GROUPS = ["-", "thousand", "million", "billion", "trillion", "quadrillion", "quintillion"]
LARGEST = 1000 ** len(GROUPS) - 1
ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


def cardinal(number: int) -> str:
    """Verbalise a cardinal: 1204 is one thousand two hundred four; digit by digit above `LARGEST`."""
    if number < 0:
        return f"minus {cardinal(-number)}"
    if number > LARGEST:
        return digits(str(number))
    if number < 1000:
        return _below_thousand(number)
    words = []
    for group, name in reversed(list(enumerate(GROUPS))):
        count, number = divmod(number, 1000**group)
        if count:
            words += [_below_thousand(count), *([name] if group else [])]
    return " ".join(words)


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    words = [ONES[hundreds], "hundred"] if hundreds else []
    if rest >= 20:
        words.append(TENS[rest // 10])
        rest %= 10
        if rest:
            words.append(ONES[rest])
    elif rest or not words:
        words.append(ONES[rest])
    return " ".join(words)


def ordinal(number: int) -> str:
    """Verbalise an ordinal: 21 is twenty first."""
    *before, last = cardinal(number).split()
    regular = f"{last[:-1]}ieth" if last.endswith("y") else f"{last.removesuffix('t')}th"
    return " ".join([*before, ORDINALS.get(last, regular)])


def year(number: int) -> str:
    """Verbalise a year: 1984 is nineteen eighty four, 1905 nineteen oh five, 2005 two thousand five."""
    century, rest = divmod(number, 100)
    if not 1000 <= number <= 9999 or number % 1000 < 10:
        return cardinal(number)
    if not rest:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {cardinal(rest) if rest > 9 else f'oh {ONES[rest]}'}"


def digits(text: str) -> str:
    """Verbalise the digits of a text one by one."""
    return " ".join(ONES[int(digit)] for digit in text if digit.isdecimal())


def decimal(text: str) -> str:
    """Verbalise a written number, such as 1,204, 3.14 or 007."""
    whole, point, fraction = text.replace(",", "").partition(".")
    words = cardinal(int(whole)) if whole and (whole == "0" or whole[0] != "0") else digits(whole) or "zero"
    return f"{words} point {digits(fraction)}" if point and fraction else words


def plural(word: str) -> str:
    """Returns the plural of a numeral's last word: nineties, sixes."""
    if word.endswith("y"):
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("x", "s", "ch")) else f"{word}s"


def roman(text: str) -> int | None:
    """Parse a Roman numeral up to 399; None if it is not one."""
    total, before = 0, 0
    for numeral in reversed(text):
        value = ROMAN.get(numeral, 0)
        total += value if value >= before else -value
        before = max(before, value)
    return total if total > 0 and to_roman(total) == text else None


def to_roman(number: int) -> str:
    """Returns a number up to 399 as a Roman numeral."""
    parts = ((100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
    written = ""
    for value, numeral in parts:
        count, number = divmod(number, value)
        written += numeral * count
    return written
