"""Verbalisation tables: abbreviations, units, currencies and symbols, and the words they stand for."""


def _table(text: str) -> dict[str, str]:
    """Parse `short words, short words ...`."""
    pairs = (part.split(maxsplit=1) for part in text.split(","))
    return {short: words for short, words in pairs}  # noqa: C416 (dict() cannot infer the pairs' type)


MONTHS = list(
    _table(
        "January 1, February 2, March 3, April 4, May 5, June 6, July 7, August 8, September 9, "
        "October 10, November 11, December 12"
    )
)
CURRENCIES = {
    "$": ("dollar", "cent"),
    "€": ("euro", "cent"),
    "£": ("pound", "pence"),
    "¥": ("yen", ""),
    "₹": ("rupee", "paisa"),
}
UNITS = _table(
    "km kilometer, cm centimeter, mm millimeter, m meter, mi mile, ft foot, in inch, kg kilogram, mg milligram, "
    "g gram, lb pound, lbs pound, oz ounce, ms millisecond, s second, sec second, min minute, h hour, hr hour, "
    "hrs hour, mph mile per hour, kmh kilometer per hour, km/h kilometer per hour, m/s meter per second, Hz hertz, "
    "kHz kilohertz, MHz megahertz, GHz gigahertz, dB decibel, kB kilobyte, KB kilobyte, MB megabyte, GB gigabyte, "
    "TB terabyte, W watt, kW kilowatt, V volt, l liter, L liter, ml milliliter, mL milliliter, °C degree Celsius, "
    "°F degree Fahrenheit, ° degree, % percent"
)
INVARIABLE = {
    "percent",
    "hertz",
    "kilohertz",
    "megahertz",
    "gigahertz",
    "yen",
    "pence",
    "paisa",
}  # in the plural
ABBREVIATIONS = _table(
    "Mr mister, Mrs missus, Ms miz, Dr doctor, Prof professor, St saint, Rev reverend, Gen general, Col colonel, "
    "Capt captain, Lt lieutenant, Sgt sergeant, Sen senator, Gov governor, Pres president, Hon honorable, Jr junior, "
    "Sr senior, Mt mount, Ave avenue, Blvd boulevard, Rd road, Dept department, Inc incorporated, Ltd limited, "
    "Co company, Corp corporation, Bros brothers, Esq esquire, vs versus, etc et cetera, approx approximately, "
    "ca circa, est established, Fig figure, Vol volume, Ch chapter, pp pages"
)
DOTTED = _table("e.g. for example, i.e. that is, a.m. a m, p.m. p m, cf. compare")
SPELLED_OUT = {"US", "USA", "UK", "EU", "UN", "AI", "IT", "ID", "IQ", "OK", "AM", "PM", "AC", "IP", "UI", "API", "CEO"}
SYMBOL_WORDS = _table(
    "& and, + plus, = equals, % percent, @ at, # number, / slash, \\ backslash, ° degrees, × times, ÷ divided by, "
    "< less than, > greater than, © copyright, § section, € euro, $ dollar, £ pound, ¥ yen, ₹ rupee, _ underscore"
)
ADDRESS_WORDS = _table(". dot, @ at, - dash, : colon, ? question mark, ~ tilde")
FRACTIONS = {2: "half", 4: "quarter"}
IRREGULAR_PLURALS = {"foot": "feet", "inch": "inches", "half": "halves"}
